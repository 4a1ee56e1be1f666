//! One question to the name servers: which server is asked when and how, and which of their messages counts.

use std::net::SocketAddr;
use std::rc::Rc;

use super::message::{self, ALIASES_MAX, Question, Record, Reply};
use super::{DnsError, name};
use crate::clock::{Entropy, Now};

/// Whom to ask, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Servers {
    /// Addresses of name servers, in order.
    pub addresses: Vec<SocketAddr>,
    /// How long one has to answer, in milliseconds.
    pub timeout_ms: u32,
    /// How often all are asked.
    pub attempts: u32,
    /// Whether the first to be asked is another one each time.
    pub rotate: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send a message from a fresh socket, whose port nobody can guess, to a server; wait for what it answers.
    Ask {
        /// The server. Nothing that comes from elsewhere counts.
        server: SocketAddr,
        /// Over TCP, with the length in front (RFC 1035 section 4.2.2); else UDP.
        tcp: bool,
        /// The message.
        message: Vec<u8>,
        /// On the monotonic clock: then [`Query::failed`].
        until_ms: u64,
    },
    /// It is over.
    Done(Answer),
}

/// The end of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Of the kind that was asked for, never empty.
    pub result: Result<Vec<Record>, DnsError>,
    /// How long it is valid, in seconds; 0 is not to be kept.
    pub ttl_s: u32,
}

impl Answer {
    /// An answer that nobody keeps.
    pub fn error(error: DnsError) -> Self {
        Self { result: Err(error), ttl_s: 0 }
    }
}

/// A question under way.
#[derive(Debug)]
pub struct Query {
    servers: Rc<Servers>,
    question: Question,
    /// Questions that were sent for the present name.
    tries: u32,
    /// Where in the list the first try was.
    first: u32,
    /// Number of the last message.
    id: u16,
    edns: bool,
    tcp: bool,
    aliases: usize,
    /// What the aliases so far allow.
    ttl_s: u32,
    /// A server has answered, that it cannot.
    refused: bool,
}

impl Query {
    /// A question that was not asked yet.
    pub fn new(servers: Rc<Servers>, question: Question) -> Self {
        let ttl_s = u32::MAX;
        let (edns, tcp, refused) = (true, false, false);
        Self { servers, question, tries: 0, first: 0, id: 0, edns, tcp, aliases: 0, ttl_s, refused }
    }

    /// The first step.
    pub fn start(&mut self, now: Now, entropy: &mut dyn Entropy) -> Step {
        if self.servers.rotate {
            let mut random = [0; 4];
            entropy.fill(&mut random);
            self.first = u32::from_be_bytes(random) >> 1;
        }
        self.ask(now, entropy)
    }

    /// A message has come from the server that was asked. None goes on waiting.
    pub fn received(&mut self, now: Now, message: &[u8], entropy: &mut dyn Entropy) -> Option<Step> {
        match message::decode(message, &self.question, self.id) {
            Reply::Foreign => None,
            Reply::Final { result, ttl_s } => Some(Step::Done(Answer { result, ttl_s: ttl_s.min(self.ttl_s) })),
            Reply::Alias { name, ttl_s } => Some(self.follow(&name, ttl_s, now, entropy)),
            Reply::Truncated if !self.tcp => {
                self.tcp = true;
                Some(self.ask(now, entropy))
            }
            Reply::NoEdns if self.edns => {
                self.edns = false;
                Some(self.ask(now, entropy))
            }
            Reply::Truncated | Reply::NoEdns | Reply::Failure => {
                self.refused = true;
                Some(self.failed(now, entropy))
            }
        }
    }

    /// The server has not answered in time, or cannot be reached.
    pub fn failed(&mut self, now: Now, entropy: &mut dyn Entropy) -> Step {
        self.tries += 1;
        self.tcp = false;
        self.edns = true;
        self.ask(now, entropy)
    }

    fn follow(&mut self, alias: &str, ttl_s: u32, now: Now, entropy: &mut dyn Entropy) -> Step {
        self.aliases += 1;
        self.ttl_s = self.ttl_s.min(ttl_s);
        let Some(name) = name::normal(alias) else { return Step::Done(Answer::error(DnsError::BadName)) };
        if self.aliases > ALIASES_MAX {
            return Step::Done(Answer::error(DnsError::AliasLoop));
        }
        self.question.name = name;
        self.tcp = false;
        self.ask(now, entropy)
    }

    fn ask(&mut self, now: Now, entropy: &mut dyn Entropy) -> Step {
        let servers = &self.servers.addresses;
        let count = servers.len() as u64;
        let at = (u64::from(self.first) + u64::from(self.tries)).checked_rem(count).unwrap_or_default();
        let server =
            servers.get(at as usize).filter(|_| u64::from(self.tries) < count * u64::from(self.servers.attempts));
        let Some(&server) = server else {
            let error = if self.refused { DnsError::ServerFailure } else { DnsError::Timeout };
            return Step::Done(Answer::error(error));
        };
        // A number for each message: what comes late to an earlier one does not count.
        let mut random = [0; 2];
        entropy.fill(&mut random);
        self.id = u16::from_be_bytes(random);
        let message = message::encode(&self.question, self.id, self.edns);
        let until_ms = now.mono_ms + u64::from(self.servers.timeout_ms);
        Step::Ask { server, tcp: self.tcp, message, until_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::super::message::tests::{a, alias, reply, soa};
    use super::*;
    use std::net::IpAddr;

    struct Count(u8);

    impl Entropy for Count {
        fn fill(&mut self, out: &mut [u8]) {
            self.0 += 1;
            out.fill(self.0);
        }
    }

    const NOW: Now = Now { mono_ms: 1000, wall_ms: 0 };

    struct World {
        query: Query,
        entropy: Count,
    }

    impl World {
        fn new(count: u8, rotate: bool) -> Self {
            let addresses = (1..=count).map(|n| SocketAddr::from(([192, 0, 2, n], 53))).collect();
            let servers = Servers { addresses, timeout_ms: 5000, attempts: 2, rotate };
            let question = Question { name: "example.org".to_string(), kind: Kind::A };
            Self { query: Query::new(Rc::new(servers), question), entropy: Count(0) }
        }

        fn start(&mut self) -> Step {
            self.query.start(NOW, &mut self.entropy)
        }

        fn receive(&mut self, message: &[u8]) -> Option<Step> {
            self.query.received(NOW, message, &mut self.entropy)
        }

        fn fail(&mut self) -> Step {
            self.query.failed(NOW, &mut self.entropy)
        }
    }

    fn asked(step: Step) -> (u8, bool, Vec<u8>) {
        let Step::Ask { server, tcp, message, until_ms } = step else { panic!("{step:?}") };
        assert_eq!(until_ms, 6000);
        let IpAddr::V4(ip) = server.ip() else { panic!() };
        (ip.octets()[3], tcp, message)
    }

    #[test]
    fn servers_are_asked_in_turn_until_one_answers() {
        let mut world = World::new(2, false);
        let first = asked(world.start());
        assert_eq!((first.0, first.1), (1, false));
        assert_eq!(asked(world.fail()).0, 2);
        let last = asked(world.fail());
        assert_eq!(last.0, 1);
        assert_ne!(last.2[..2], first.2[..2], "each message has a number of its own");
        let rows = [a("example.org", 60, [192, 0, 2, 9])];
        assert_eq!(world.receive(&reply(&first.2, 0, &rows, &[])), None, "too late");
        let records = vec![Record::Address(IpAddr::from([192, 0, 2, 9]))];
        let expected = Step::Done(Answer { result: Ok(records), ttl_s: 60 });
        assert_eq!(world.receive(&reply(&last.2, 0, &rows, &[])), Some(expected));
    }

    #[test]
    fn all_tries_used_up_are_a_timeout_or_a_failure() {
        let mut world = World::new(2, false);
        world.start();
        for _ in 0..3 {
            asked(world.fail());
        }
        assert_eq!(world.fail(), Step::Done(Answer::error(DnsError::Timeout)));
        let mut world = World::new(1, false);
        let (_, _, message) = asked(world.start());
        let (_, _, message) = asked(world.receive(&reply(&message, 2, &[], &[])).unwrap());
        let end = world.receive(&reply(&message, 5, &[], &[]));
        assert_eq!(end, Some(Step::Done(Answer::error(DnsError::ServerFailure))));
        assert_eq!(World::new(0, true).start(), Step::Done(Answer::error(DnsError::Timeout)));
    }

    #[test]
    fn a_truncated_answer_is_asked_for_by_tcp() {
        let mut world = World::new(1, false);
        let (_, tcp, message) = asked(world.start());
        assert!(!tcp);
        let (_, tcp, message) = asked(world.receive(&reply(&message, 0x200, &[], &[])).unwrap());
        assert!(tcp);
        let end = world.receive(&reply(&message, 3, &[], &[soa(60, 60)]));
        assert_eq!(end, Some(Step::Done(Answer { result: Err(DnsError::NoName), ttl_s: 60 })));
    }

    #[test]
    fn a_server_without_edns_is_asked_without() {
        let mut world = World::new(1, false);
        let (_, _, with) = asked(world.start());
        let (_, _, without) = asked(world.receive(&reply(&with, 1, &[], &[])).unwrap());
        assert_eq!((with[11], without[11]), (1, 0));
        let next = world.receive(&reply(&without, 1, &[], &[])).unwrap();
        assert_eq!(asked(next).2[11], 1, "the next try");
    }

    #[test]
    fn aliases_are_followed_but_not_for_ever() {
        let mut world = World::new(1, false);
        let mut step = world.start();
        for n in 0..ALIASES_MAX {
            let (_, _, message) = asked(step);
            let name = if n == 0 { "example.org".to_string() } else { format!("a{n}.example") };
            let rows = [alias(&name, 60 - n as u32, &format!("a{}.example", n + 1))];
            step = world.receive(&reply(&message, 0, &rows, &[])).unwrap();
        }
        let (_, _, message) = asked(step);
        let rows = [a("a8.example", 500, [192, 0, 2, 9])];
        let Some(Step::Done(answer)) = world.receive(&reply(&message, 0, &rows, &[])) else { panic!() };
        assert_eq!(answer.ttl_s, 53, "the shortest of the chain");
        let rows = [alias("a8.example", 1, "a9.example")];
        let end = world.receive(&reply(&message, 0, &rows, &[]));
        assert_eq!(end, Some(Step::Done(Answer::error(DnsError::AliasLoop))));
    }

    #[test]
    fn rotation_starts_anywhere() {
        let mut world = World::new(3, true);
        world.entropy.0 = 1;
        // 0x02020202 >> 1 is 1 modulo 3.
        assert_eq!(asked(world.start()).0, 2);
        assert_eq!(asked(world.fail()).0, 3);
        assert_eq!(asked(world.fail()).0, 1);
    }
}

//! The memory ceiling: who is given up in which order, and who never is.
#![cfg(feature = "muc")]

mod seeded;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use couplet::budget::{Kind, State};
use couplet::clock::Now;
use couplet::core::admin::{Command, NewInvite};
use couplet::core::io::{ConnId, DialFailure, Input, Output, Role, Transport};
use couplet::core::rates::Rate;
use couplet::engine::{Engine, Settings};
use couplet::limits::Limits;
use couplet::storage::{Batch, COMMIT_BYTES_MAX, Writer, memory};
use couplet::stream::sasl::keys::HashJob;
use couplet::stream::{TlsFacts, sasl};
use seeded::Seeded;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use zeroize::Zeroizing;

/// The ceiling of these tests. The process weighs nothing here beside what is charged.
const MAX: usize = 1_000_000;

/// Above that the server sheds, down to where it is calm.
const SHEDS_AT: usize = MAX - MAX / 16;

struct World {
    engine: Engine,
    writer: Box<dyn Writer>,
    now_ms: u64,
    /// What each connection was told since it was looked at last.
    said: BTreeMap<ConnId, String>,
    closed: Vec<ConnId>,
    /// Who is not read.
    paused: BTreeSet<ConnId>,
    /// Sockets that take nothing, and what waits for them.
    stuck: BTreeMap<ConnId, usize>,
    told: String,
    shrunk: usize,
    /// Attempts to connect to other servers.
    dialed: Vec<ConnId>,
    /// The disk and the hashing thread do nothing; what they have to do.
    stands_still: bool,
    commits: Vec<Batch>,
    jobs: Vec<HashJob>,
}

impl World {
    fn new(users: &[&str]) -> Self {
        // What bounds a tick here is memory.
        Self::with_turns_of(u32::MAX, users)
    }

    fn with_turns_of(stanzas: u32, users: &[&str]) -> Self {
        Self::with(users, |limits| limits.turn_stanzas_max = stanzas)
    }

    fn with(users: &[&str], bound: impl FnOnce(&mut Limits)) -> Self {
        Self::under(MAX, users, bound)
    }

    /// With another ceiling.
    fn under(max_bytes: usize, users: &[&str], bound: impl FnOnce(&mut Limits)) -> Self {
        let mut settings = Settings::default();
        settings.core.iterations = 1;
        settings.core.memory.max_bytes = max_bytes;
        settings.core.rates.c2s = Rate::UNLIMITED;
        bound(&mut settings.core.limits);
        settings.core.memory.modules = vec![("muc".to_string(), 20_000)];
        let (reader, writer) = memory::Memory::new().open();
        let engine = Engine::new(settings, reader, Box::new(Seeded(1)), at(1000)).unwrap();
        let (said, stuck) = (BTreeMap::new(), BTreeMap::new());
        let mut world = Self {
            engine,
            writer,
            now_ms: 1000,
            said,
            closed: Vec::new(),
            paused: BTreeSet::new(),
            stuck,
            told: String::new(),
            shrunk: 0,
            dialed: Vec::new(),
            stands_still: false,
            commits: Vec::new(),
            jobs: Vec::new(),
        };
        for user in users {
            let (jid, password) = (format!("{user}@localhost"), Zeroizing::new("p".to_string()));
            world.input(Input::Admin { id: 1, command: Command::UserAdd { jid, password } });
        }
        world
    }

    /// One input, and those that answer its outputs.
    fn input(&mut self, input: Input<'_>) {
        let (mut inputs, now) = (vec![input], at(self.now_ms));
        while let Some(input) = inputs.pop() {
            self.engine.handle(now, input);
            self.engine.end_tick(now);
            while let Some(output) = self.engine.poll_output() {
                match output {
                    Output::Write { conn, bytes } => {
                        let text = std::str::from_utf8(&bytes).unwrap();
                        let waiting_bytes = match self.stuck.get_mut(&conn) {
                            Some(waiting) => {
                                *waiting += bytes.len();
                                *waiting
                            }
                            None => 0,
                        };
                        self.said.entry(conn).or_default().push_str(text);
                        inputs.push(Input::Wrote { conn, waiting_bytes });
                    }
                    Output::Close { conn } => self.closed.push(conn),
                    Output::PauseRead { conn } => _ = self.paused.insert(conn),
                    Output::ResumeRead { conn } => _ = self.paused.remove(&conn),
                    Output::Commit(batch) if self.stands_still => self.commits.push(batch),
                    Output::Hash(job) if self.stands_still => self.jobs.push(job),
                    Output::Commit(batch) => {
                        self.writer.commit(std::slice::from_ref(&batch)).unwrap();
                        inputs.push(Input::Committed(batch.ticket));
                    }
                    Output::Hash(job) => inputs.push(Input::Hashed(sasl::keys::run(job))),
                    Output::AdminReply { reply, .. } => self.told = reply.text,
                    Output::Shrink => self.shrunk += 1,
                    Output::Dial { conn, .. } => self.dialed.push(conn),
                    _ => {}
                }
            }
            assert!(self.engine.budget_is_sound());
        }
    }

    /// Lets time pass, and what is due happen.
    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        while self.engine.next_deadline().is_some_and(|at| at <= self.now_ms) {
            self.input(Input::Wake);
        }
    }

    /// The disk and the hashing thread do what they have left.
    fn go_on(&mut self) {
        self.stands_still = false;
        for batch in std::mem::take(&mut self.commits) {
            self.writer.commit(std::slice::from_ref(&batch)).unwrap();
            self.input(Input::Committed(batch.ticket));
        }
        for job in std::mem::take(&mut self.jobs) {
            self.input(Input::Hashed(sasl::keys::run(job)));
        }
    }

    fn send(&mut self, conn: ConnId, text: &str) -> String {
        self.said.remove(&conn);
        self.input(Input::Bytes { conn, data: text.as_bytes() });
        self.said.remove(&conn).unwrap_or_default()
    }

    fn is_served(&mut self, conn: ConnId) -> bool {
        self.send(conn, "<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>").contains("type='result'")
    }

    fn connect(&mut self) -> Option<ConnId> {
        let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let conn = self.engine.accept(at(self.now_ms), Role::Client, Transport::DirectTls, peer)?;
        let facts = TlsFacts { tls13: true, ..TlsFacts::default() };
        self.input(Input::TlsReady { conn, facts });
        Some(conn)
    }

    fn log_in(&mut self, user: &str) -> ConnId {
        let conn = self.connect().unwrap();
        let secret = STANDARD.encode(format!("\0{user}\0p"));
        self.send(conn, HEADER);
        self.send(conn, &format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>"));
        self.send(conn, HEADER);
        let bound = self.send(conn, "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
        assert!(bound.contains("</jid>"), "{bound}");
        self.send(conn, "<presence/>");
        conn
    }

    /// A socket that takes nothing more, with so much that waits for it already.
    fn stick(&mut self, conn: ConnId, waiting_bytes: usize) {
        self.stuck.insert(conn, waiting_bytes);
        self.input(Input::Wrote { conn, waiting_bytes });
    }

    fn state(&self) -> State {
        self.engine.budget().state()
    }

    fn used(&self) -> usize {
        self.engine.budget().used_bytes()
    }
}

const HEADER: &str = "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' \
                      xmlns:stream='http://etherx.jabber.org/streams'>";

fn at(mono_ms: u64) -> Now {
    Now { mono_ms, wall_ms: 1_795_305_540_000 + mono_ms as i64 }
}

fn message(to: &str, body: &str) -> String {
    format!("<message type='chat' id='m' to='{to}@localhost'><body>{body}</body></message>")
}

#[test]
fn strangers_go_first_and_the_one_that_holds_most_before_the_others() {
    let mut world = World::new(&["romeo"]);
    let romeo = world.log_in("romeo");
    let (small, large) = (world.connect().unwrap(), world.connect().unwrap());
    world.send(small, HEADER);
    world.input(Input::Held { conn: large, bytes: 100_000 });
    world.input(Input::Weighed { rss_bytes: 200_000 });
    world.input(Input::Weighed { rss_bytes: SHEDS_AT });
    assert_eq!(world.closed, [large]);
    assert!(world.is_served(romeo));
    assert_eq!(world.state(), State::Warning, "what the large one has left is room enough");
    world.input(Input::Weighed { rss_bytes: MAX });
    assert_eq!(world.state(), State::Shedding);
    assert_eq!(world.closed, [large, small]);
    assert!(world.said[&small].contains("<resource-constraint "), "it is told why: {}", world.said[&small]);
    assert!(world.connect().is_none(), "nobody new is let in");
    assert!(world.shrunk > 0, "caches are given up");
    assert!(world.is_served(romeo), "who has logged in and holds little is served");
    world.input(Input::Admin { id: 1, command: Command::Status });
    assert!(
        world.told.contains("memory: shedding, ") && world.told.contains("\n  sockets and TLS: "),
        "{}",
        world.told
    );
    world.input(Input::Weighed { rss_bytes: 200_000 });
    assert_eq!(world.state(), State::Normal);
    assert!(world.connect().is_some());
}

#[test]
fn the_larger_of_account_and_weight_drives_it_and_it_is_weighed_again() {
    let mut world = World::new(&["romeo"]);
    let romeo = world.log_in("romeo");
    world.input(Input::Weighed { rss_bytes: 100_000 });
    assert_eq!(world.state(), State::Normal);
    assert_eq!(world.engine.budget().base_bytes(), 100_000 - world.used());
    let deadline = world.engine.next_deadline();
    world.input(Input::Weighed { rss_bytes: MAX });
    assert_eq!(world.state(), State::Shedding);
    assert_eq!(world.engine.next_deadline(), Some(world.now_ms + 1000), "somebody must look whether it is over");
    assert!(world.is_served(romeo));
    world.input(Input::Weighed { rss_bytes: 100_000 });
    assert_eq!(world.state(), State::Normal);
    world.pass(1000);
    assert_eq!(world.engine.next_deadline(), deadline, "an idle server is not woken");
}

#[test]
fn who_holds_more_than_a_fair_share_goes_and_nothing_acknowledged_is_lost() {
    let mut world = World::new(&["romeo", "juliet"]);
    let (romeo, juliet) = (world.log_in("romeo"), world.log_in("juliet"));
    world.send(romeo, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    let enabled = world.send(juliet, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    let id = enabled.split(" id='").nth(1).unwrap().split('\'').next().unwrap().to_string();
    // Her socket takes nothing; he sends, and what waits for her is written to the disk before he is told that it is
    // safe.
    world.stick(juliet, 0);
    for n in 0..20 {
        world.send(romeo, &message("juliet", &format!("{n} {}", "x".repeat(8000))));
    }
    world.pass(200);
    assert!(world.send(romeo, "<r xmlns='urn:xmpp:sm:3'/>").contains(" h='20'"));
    assert!(world.engine.budget().used_by(Kind::Connections) > 160_000);
    world.input(Input::Weighed { rss_bytes: 500_000 });
    world.input(Input::Weighed { rss_bytes: MAX + 50_000 });
    assert_eq!(world.closed, [juliet]);
    assert!(world.is_served(romeo));
    world.input(Input::Weighed { rss_bytes: MAX + 50_000 });
    assert_eq!(world.engine.budget().used_by(Kind::Connections), world.engine.held_most_bytes());
    assert!(world.engine.budget().used_by(Kind::Parked) < 10_000, "her queue is on the disk alone");
    // She comes back.
    world.input(Input::Weighed { rss_bytes: 500_000 });
    let again = world.connect().unwrap();
    let secret = STANDARD.encode("\0juliet\0p");
    world.send(again, HEADER);
    world.send(again, &format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>"));
    world.send(again, HEADER);
    let resumed = world.send(again, &format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>"));
    assert!(resumed.contains("<resumed "), "{resumed}");
    let bodies: Vec<usize> = (0..20).filter_map(|n| resumed.find(&format!("<body>{n} x"))).collect();
    assert_eq!(bodies.len(), 20, "all of them");
    assert!(bodies.is_sorted(), "in their order");
}

#[test]
fn an_account_holds_no_more_than_its_share_by_several_connections() {
    let mut world = World::new(&["romeo", "juliet"]);
    world.engine.reconfigure({
        let mut settings = Settings::default();
        settings.core.limits.account_bytes_max = 100_000;
        settings
    });
    let (romeo, first, second) = (world.log_in("romeo"), world.log_in("juliet"), world.log_in("juliet"));
    world.stick(first, 60_000);
    assert!(world.closed.is_empty());
    world.stick(second, 50_000);
    assert_eq!(world.closed, [first]);
    assert!(world.is_served(romeo));
}

#[test]
fn a_module_holds_no_more_than_its_quota() {
    let mut world = World::new(&["romeo"]);
    let romeo = world.log_in("romeo");
    let enter = |n: usize| {
        let x = "<x xmlns='http://jabber.org/protocol/muc'/>";
        let status = "x".repeat(1000);
        format!("<presence to='r{n}@conference.localhost/n'><status>{status}</status>{x}</presence>")
    };
    let mut refused = None;
    for n in 0..30 {
        let told = world.send(romeo, &enter(n));
        if told.contains("<resource-constraint ") {
            refused = Some(n);
            break;
        }
    }
    assert!(refused.is_some_and(|n| n > 3), "{refused:?} rooms had room");
    let held = world.engine.budget().used_by(Kind::Modules);
    assert!((20_000..25_000).contains(&held), "{held}");
    world.send(romeo, "<presence to='r0@conference.localhost/n' type='unavailable'/>");
    world.send(romeo, "<presence to='r1@conference.localhost/n' type='unavailable'/>");
    assert!(!world.send(romeo, &enter(40)).contains("<resource-constraint "), "there is room again");
    world.input(Input::Closed { conn: romeo });
    assert_eq!(world.engine.budget().used_by(Kind::Modules), 0);
}

#[test]
fn rooms_that_nobody_is_in_and_accounts_that_are_away_are_not_remembered() {
    let mut world = World::new(&["romeo"]);
    let romeo = world.log_in("romeo");
    world.input(Input::Weighed { rss_bytes: 100_000 });
    let visit = |world: &mut World, rooms: std::ops::Range<usize>| {
        for n in rooms {
            let to = format!("to='r{n}@conference.localhost/n'");
            let x = "<x xmlns='http://jabber.org/protocol/muc'/>";
            assert!(world.send(romeo, &format!("<presence {to}>{x}</presence>")).contains("code='201'"));
            let form =
                "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query>";
            world.send(romeo, &format!("<iq type='set' id='f' to='r{n}@conference.localhost'>{form}</iq>"));
            world.send(romeo, &format!("<presence {to} type='unavailable'/>"));
        }
        world.pass(1000);
        world.engine.budget().used_by(Kind::Caches)
    };
    let first = visit(&mut world, 0..20);
    let then = visit(&mut world, 20..60);
    // His own list of rooms grows: each address, and what stands before it.
    assert!(then - first < 40 * 60, "{first}, then {then} bytes");
    world.input(Input::Closed { conn: romeo });
    world.pass(1000);
    let left = world.engine.budget().used_by(Kind::Caches);
    assert!(left < first, "{left} of {first} bytes");
}

#[test]
fn whoever_sends_many_stanzas_at_once_takes_turns_with_others() {
    const TURN: usize = 20;
    let mut world = World::with_turns_of(TURN as u32, &["romeo"]);
    let romeo = world.log_in("romeo");
    let ping = "<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>";
    let answers = |said: &str| said.matches("type='result'").count();
    assert_eq!(answers(&world.send(romeo, &ping.repeat(2 * TURN + 7))), TURN);
    for (told, more) in [(TURN, true), (7, false)] {
        assert_eq!(world.engine.next_deadline(), Some(world.now_ms), "the next tick is due at once");
        world.said.clear();
        world.input(Input::Wake);
        assert_eq!((answers(&world.said[&romeo]), world.engine.has_more()), (told, more));
    }
}

#[test]
fn a_tick_takes_no_more_than_there_is_room_for() {
    let mut world = World::new(&["romeo"]);
    let romeo = world.log_in("romeo");
    let ask = "<iq type='get' id='d' to='localhost'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>";
    let before = world.send(romeo, ask).len();
    // Some megabytes of answers to one read.
    const QUESTIONS: usize = 4000;
    world.said.remove(&romeo);
    let now = at(world.now_ms);
    world.engine.handle(now, Input::Bytes { conn: romeo, data: ask.repeat(QUESTIONS).as_bytes() });
    assert!(world.engine.is_sated());
    let (mut most, mut ticks) = (0, 0);
    loop {
        world.engine.end_tick(now);
        let mut written = 0;
        while let Some(output) = world.engine.poll_output() {
            if let Output::Write { conn, bytes } = output {
                written += bytes.len();
                world.said.entry(conn).or_default().push_str(std::str::from_utf8(&bytes).unwrap());
                world.engine.handle(now, Input::Wrote { conn, waiting_bytes: 0 });
            }
        }
        (most, ticks) = (written.max(most), ticks + 1);
        match world.engine.next_deadline() {
            Some(at) if at <= world.now_ms => world.engine.handle(now, Input::Wake),
            _ => break,
        }
    }
    assert_eq!(world.said[&romeo].matches(" id='d' type='result'").count(), QUESTIONS, "each is answered");
    assert!(most < MAX / 2 && ticks > 4, "{most} bytes at most in {ticks} ticks of {before} each");
}

#[test]
fn what_is_known_of_the_store_goes_when_the_server_comes_to_rest() {
    let mut world = World::new(&["romeo"]);
    let romeo = world.log_in("romeo");
    let caches = |world: &World| world.engine.budget().used_by(Kind::Caches);
    world.pass(10_000);
    let at_rest = caches(&world);
    world.send(romeo, &message("juliet", "x"));
    let known = caches(&world);
    assert!(known > at_rest + 50_000, "{known}, {at_rest} at rest");
    for _ in 0..5 {
        // Somebody talks: what is known is of use.
        (0..100).for_each(|_| _ = world.send(romeo, &message("juliet", "x")));
        world.pass(3999);
        assert!(caches(&world) >= known);
    }
    (0..3).for_each(|_| world.pass(4000));
    assert!(caches(&world) < at_rest + 1000, "{}, {at_rest} before", caches(&world));
    let next_ms = world.engine.next_deadline();
    assert!(next_ms.is_none_or(|at| at > world.now_ms + 10_000), "nobody wakes it: {next_ms:?}");
}

#[test]
fn what_waits_for_servers_out_of_reach_goes_back_unless_it_was_acknowledged() {
    const SERVERS: usize = 10;
    let mut world = World::new(&["romeo", "juliet"]);
    let (romeo, juliet) = (world.log_in("romeo"), world.log_in("juliet"));
    world.send(romeo, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    let mut most = 0;
    for n in 0..SERVERS {
        for conn in [romeo, juliet] {
            let to = format!("a@s{n}.{}", if conn == romeo { "example" } else { "test" });
            world.send(conn, &format!("<message type='chat' id='m{n}' to='{to}'><body>x</body></message>"));
            most = world.engine.held_most_remote_bytes().max(most);
        }
    }
    assert!(most < 2000, "{most}: each has little");
    world.pass(200);
    assert!(world.send(romeo, "<r xmlns='urn:xmpp:sm:3'/>").contains(&format!(" h='{SERVERS}'")));
    let before = world.engine.budget().used_by(Kind::Servers);
    world.said.clear();
    world.input(Input::Weighed { rss_bytes: 500_000 });
    world.input(Input::Weighed { rss_bytes: 2 * MAX });
    let told =
        |world: &World, conn| world.said.get(&conn).map_or(0, |said| said.matches("<resource-constraint ").count());
    assert_eq!((told(&world, romeo), told(&world, juliet)), (0, SERVERS));
    assert!(world.is_served(romeo) && world.is_served(juliet), "{:?}", world.closed);
    let after = world.engine.budget().used_by(Kind::Servers);
    assert!(after < before / 2, "{after} of {before} bytes: what is on the disk is there alone");
    assert!(world.send(juliet, ABROAD).contains("<resource-constraint "), "nothing more waits until there is room");
    world.input(Input::Weighed { rss_bytes: 500_000 });
    assert!(!world.send(juliet, ABROAD).contains("<resource-constraint "));
    world.input(Input::Admin { id: 1, command: Command::Status });
    assert!(world.told.contains(&format!(", {} stanzas wait", SERVERS + 1)), "{}", world.told);
    // Each goes back when it has waited as long as it may.
    world.said.clear();
    world.pass(300_000);
    let late = |conn| world.said.get(&conn).map_or(0, |said: &String| said.matches("<remote-server-timeout ").count());
    assert_eq!((late(romeo), late(juliet)), (SERVERS, 1));
    world.pass(120_000);
    assert_eq!(world.engine.budget().used_by(Kind::Servers), 0);
}

#[test]
fn whoever_waits_to_be_dialed_waits_on_while_memory_is_short() {
    let mut world = World::with(&["romeo"], |limits| limits.s2s_dials_max = 2);
    let romeo = world.log_in("romeo");
    world.send(romeo, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    for n in 0..10 {
        world.send(romeo, &format!("<message type='chat' to='a@s{n}.example'><body>x</body></message>"));
    }
    world.pass(200);
    assert!(world.send(romeo, "<r xmlns='urn:xmpp:sm:3'/>").contains(" h='10'"));
    assert_eq!(world.dialed.len(), 2);
    world.input(Input::Weighed { rss_bytes: 500_000 });
    world.input(Input::Weighed { rss_bytes: 2 * MAX });
    let conn = world.dialed[0];
    world.input(Input::DialFailed { conn, why: DialFailure::Timeout });
    assert_eq!(world.dialed.len(), 2, "nobody new is connected with");
    world.input(Input::Weighed { rss_bytes: 500_000 });
    assert_eq!(world.dialed.len(), 3, "the next one's turn has come at once");
}

#[test]
fn of_thousands_that_go_back_at_once_a_tick_takes_some() {
    const SERVERS: usize = 700;
    const AT_ONCE: usize = 256;
    let mut world = World::under(10 * MAX, &["romeo"], |limits| limits.fair_bytes = u32::MAX);
    let romeo = world.log_in("romeo");
    for n in 0..SERVERS {
        let to = format!("a@s{n}.example");
        assert_eq!(world.send(romeo, &format!("<message type='chat' to='{to}'><body>x</body></message>")), "");
    }
    world.input(Input::Weighed { rss_bytes: 500_000 });
    world.engine.handle(at(world.now_ms), Input::Weighed { rss_bytes: 20 * MAX });
    let (mut told, mut ticks) = (0, 0);
    loop {
        world.engine.end_tick(at(world.now_ms));
        while let Some(output) = world.engine.poll_output() {
            if let Output::Write { conn, bytes } = output {
                told += std::str::from_utf8(&bytes).unwrap().matches("<resource-constraint ").count();
                world.engine.handle(at(world.now_ms), Input::Wrote { conn, waiting_bytes: 0 });
            }
        }
        ticks += 1;
        if !world.engine.has_more() {
            break;
        }
    }
    assert_eq!(ticks, SERVERS.div_ceil(AT_ONCE));
    while told < SERVERS {
        world.said.clear();
        world.input(Input::Wake);
        told += world.said[&romeo].matches("<resource-constraint ").count();
    }
    assert!(world.is_served(romeo), "{:?}", world.closed);
}

#[test]
fn of_thousands_that_have_waited_too_long_a_tick_takes_some() {
    const SERVERS: usize = 300;
    let mut world = World::under(10 * MAX, &["romeo"], |limits| limits.s2s_queue_timeout_s = 5);
    let romeo = world.log_in("romeo");
    for n in 0..SERVERS {
        let to = format!("a@s{n}.example");
        assert_eq!(world.send(romeo, &format!("<message type='chat' to='{to}'><body>x</body></message>")), "");
    }
    world.now_ms += 5000;
    let (mut most, mut all) = (0, 0);
    while all < SERVERS {
        assert!(world.engine.next_deadline().is_some_and(|at| at <= world.now_ms), "{all} of {SERVERS}");
        world.said.insert(romeo, String::new());
        world.input(Input::Wake);
        let told = world.said[&romeo].matches("<remote-server-timeout ").count();
        (most, all) = (most.max(told), all + told);
    }
    assert!(most <= 128, "{most} in one tick");
}

const ABROAD: &str = "<message type='chat' id='abroad' to='a@abroad.test'><body>x</body></message>";

#[test]
fn whoever_holds_no_more_than_the_fair_share_stays() {
    let mut world = World::with(&["romeo", "juliet"], |limits| limits.fair_bytes = 50_000);
    let (romeo, juliet) = (world.log_in("romeo"), world.log_in("juliet"));
    world.stick(romeo, 40_000);
    world.stick(juliet, 50_000);
    world.input(Input::Weighed { rss_bytes: 500_000 });
    world.input(Input::Weighed { rss_bytes: MAX });
    assert_eq!((world.closed.as_slice(), world.state()), (&[juliet][..], State::Shedding));
}

#[test]
fn a_tick_ends_when_it_has_taken_what_it_may() {
    let mut world = World::with(&["romeo"], |limits| limits.tick_bytes_max = 10_000);
    let romeo = world.log_in("romeo");
    let now = at(world.now_ms);
    world.engine.handle(now, Input::Bytes { conn: romeo, data: &[b' '; 9_000] });
    assert!(!world.engine.is_sated());
    world.engine.handle(now, Input::Bytes { conn: romeo, data: &[b' '; 2_000] });
    assert!(world.engine.is_sated());
}

#[test]
fn so_many_logins_wait_for_the_hashing_thread() {
    let mut world = World::with(&["romeo"], |limits| limits.hash_queue_max = 2);
    let auth = format!(
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{}</auth>",
        STANDARD.encode("\0romeo\0p")
    );
    let conns = [(); 3].map(|()| world.connect().unwrap());
    world.stands_still = true;
    let told = conns.map(|conn| {
        world.send(conn, HEADER);
        world.send(conn, &auth)
    });
    assert_eq!(told.each_ref().map(|told| told.contains("<temporary-auth-failure")), [false, false, true], "{told:?}");
    world.said.clear();
    world.go_on();
    assert_eq!(conns.map(|conn| world.said.get(&conn).is_some_and(|s| s.contains("<success"))), [true, true, false]);
    assert!(world.send(conns[2], &auth).contains("<success"));
}

#[test]
fn so_much_waits_for_the_disk() {
    const PENDING: u32 = 20_000;
    let mut world = World::with(&["romeo"], |limits| limits.store_pending_bytes_max = PENDING);
    let romeo = world.log_in("romeo");
    let text = "x".repeat(4000);
    let set = |n: u32| {
        format!("<iq type='set' id='i{n}'><query xmlns='jabber:iq:private'><a xmlns='n{n}'>{text}</a></query></iq>")
    };
    world.stands_still = true;
    // It is not read while half of that waits; what it has sent before is still handled.
    world.said.clear();
    (0..8).for_each(|n| world.input(Input::Bytes { conn: romeo, data: set(n).as_bytes() }));
    world.go_on();
    let told = |what: &str| world.said[&romeo].matches(what).count();
    let (stored, refused) = (told("type='result'"), told("<resource-constraint "));
    assert!((4..=6).contains(&stored) && stored + refused == 8, "{stored} stored, {refused} refused");
    assert!(world.send(romeo, &set(9)).contains("type='result'"));
}

#[test]
fn the_disk_is_never_far_behind_who_writes() {
    let mut world = World::under(64 * MAX, &["romeo"], |_| {});
    let romeo = world.log_in("romeo");
    let text = "x".repeat(50_000);
    world.stands_still = true;
    let mut sent = 0;
    while !world.paused.contains(&romeo) {
        sent += 1;
        assert!(sent < 100, "it may write as much as it likes");
        let set = format!("<iq type='set' id='i{sent}'><query xmlns='jabber:iq:private'><a xmlns='n'>{text}");
        world.send(romeo, &(set + "</a></query></iq>"));
    }
    let waits: usize = world.commits.iter().map(Batch::bytes).sum();
    assert!((2 * COMMIT_BYTES_MAX..4 * COMMIT_BYTES_MAX).contains(&waits), "{waits} bytes wait for the disk");
    world.go_on();
    assert!(world.paused.is_empty() && world.is_served(romeo));
}

#[test]
fn so_many_invitations_are_open() {
    let mut world = World::with(&["romeo"], |limits| limits.invites_max = 2);
    let mut invite = || {
        let new = NewInvite { uses: 1, expires_s: 86_400, ..NewInvite::default() };
        world.input(Input::Admin { id: 1, command: Command::InviteCreate(new) });
        world.told.starts_with("xmpp:")
    };
    assert_eq!([invite(), invite(), invite()], [true, true, false]);
    assert!(world.told.contains("limits.invites_max is reached"), "{}", world.told);
}

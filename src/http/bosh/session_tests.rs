use super::super::{Body, Condition};
use super::*;
use crate::core::slab::Slab;
use crate::limits;
use crate::stream::HEADER;
use crate::xml::ScanLimits;

struct World {
    session: Session,
    conns: Vec<ConnId>,
}

const LIMITS: Limits = Limits { wait_s: 60, inactivity_s: 30, pause_s: 120 };
const BODY: &str = "<body xmlns='http://jabber.org/protocol/httpbind'";

fn body(attributes: &str, payload: &str) -> Body {
    let text = format!("{BODY} xmlns:xmpp='urn:xmpp:xbosh' {attributes}>{payload}</body>");
    Body::read(text.as_bytes(), ScanLimits::authenticated(&limits::Limits::default())).unwrap()
}

impl World {
    /// A session whose first request had the number 100, on the connection 0.
    fn new(attributes: &str) -> Self {
        let mut names = Slab::default();
        let conns: Vec<ConnId> = (0..10).map(|_| ConnId(names.insert(()))).collect();
        let first = body(&format!("rid='100' to='a.example' {attributes}"), "");
        let (mut session, opening) = Session::new("s".to_owned(), &first, false, LIMITS, 0);
        let opening = String::from_utf8(opening).unwrap();
        assert!(opening.starts_with("<stream:stream xmlns='jabber:client'") && opening.contains(" to='a.example'"));
        session.hold_first(conns[0], 0);
        Self { session, conns }
    }

    fn opened(attributes: &str) -> Self {
        let mut world = Self::new(attributes);
        assert_eq!(world.answers(0), []);
        let header = format!("{HEADER} id='x' from='a.example' version='1.0' xml:lang='en'>");
        world.session.say(format!("{header}<stream:features/>").as_bytes());
        let answers = world.answers(0);
        assert_eq!(answers.len(), 1);
        for part in [" sid='s'", " authid='x'", " ver='1.11'", "<stream:features xmlns:stream='"] {
            assert!(answers[0].1.contains(part), "{part}: {}", answers[0].1);
        }
        world
    }

    fn ask(&mut self, conn: usize, attributes: &str, payload: &str, now_ms: u64) -> Result<Vec<String>, Condition> {
        self.session.request(body(attributes, payload), self.conns[conn], now_ms)?;
        let mut passed = Vec::new();
        while let Some(bytes) = self.session.take(now_ms)? {
            passed.push(String::from_utf8(bytes).unwrap());
        }
        Ok(passed)
    }

    fn answers(&mut self, now_ms: u64) -> Vec<(usize, String)> {
        let place = |conn: ConnId| self.conns.iter().position(|c| *c == conn).unwrap();
        let answers = self.session.answers(now_ms);
        answers.into_iter().map(|(conn, body)| (place(conn), String::from_utf8(body).unwrap())).collect()
    }
}

fn empty() -> String {
    format!("{BODY}/>")
}

fn with(payload: &str) -> String {
    format!("{BODY}>{payload}</body>")
}

#[test]
fn requests_wait_until_there_is_something_to_say() {
    let mut world = World::opened("wait='60' hold='1'");
    assert_eq!(world.ask(1, "rid='101' sid='s'", "<a xmlns='x'/>", 0), Ok(vec!["<a xmlns='x'/>".to_owned()]));
    assert_eq!((world.answers(0), world.session.next_ms()), (vec![], 60_000));
    // Another: the older one is let go.
    assert_eq!(world.ask(2, "rid='102' sid='s'", "", 10_000), Ok(vec![String::new()]));
    let answers = world.answers(10_000);
    assert_eq!(answers, [(1, format!("{BODY} ack='102'/>"))]);
    world.session.say(b"<message/>");
    assert_eq!(world.answers(10_000), [(2, with("<message xmlns='jabber:client'/>"))]);
    world.session.say(b"<presence/>");
    assert_eq!((world.answers(10_000), world.session.waiting_bytes() > 0), (vec![], true));
    world.ask(3, "rid='103' sid='s'", "", 20_000).unwrap();
    assert_eq!(world.answers(20_000), [(3, with("<presence xmlns='jabber:client'/>"))]);
    world.ask(4, "rid='104' sid='s'", "", 20_000).unwrap();
    assert_eq!(world.answers(79_999), []);
    assert_eq!(world.answers(80_000), [(4, empty())]);
    assert!(!world.session.is_lost(109_999) && world.session.is_lost(110_000));
}

#[test]
fn what_comes_out_of_order_is_passed_on_in_order() {
    let mut world = World::opened("hold='1'");
    assert_eq!(world.ask(1, "rid='102' sid='s'", "<b xmlns='x'/>", 0), Ok(vec![]));
    assert_eq!(world.answers(0), []);
    let passed = world.ask(2, "rid='101' sid='s'", "<a xmlns='x'/>", 0).unwrap();
    assert_eq!(passed, ["<a xmlns='x'/>", "<b xmlns='x'/>"]);
    assert_eq!(world.answers(0), [(2, format!("{BODY} ack='102'/>"))]);
}

#[test]
fn games_with_numbers_end_the_session() {
    for (rid, condition) in
        [(103, Condition::ItemNotFound), (99, Condition::ItemNotFound), (1, Condition::ItemNotFound)]
    {
        let mut world = World::opened("hold='1'");
        assert_eq!(world.ask(1, &format!("rid='{rid}' sid='s'"), "", 0), Err(condition), "{rid}");
    }
    let mut world = World::opened("hold='1'");
    world.session.pause(true);
    world.ask(1, "rid='101' sid='s'", "", 0).unwrap();
    world.ask(2, "rid='102' sid='s'", "", 0).unwrap();
    // One more than there may be, unless it is to end.
    assert_eq!(world.ask(3, "rid='103' sid='s'", "", 0), Err(Condition::ItemNotFound));
    assert_eq!(world.ask(3, "rid='103' sid='s' type='terminate'", "", 0), Ok(vec![]));
    world.session.pause(false);
    assert!(world.session.take(0).unwrap().is_some());
}

#[test]
fn an_answer_that_was_lost_is_given_again() {
    let mut world = World::opened("hold='1'");
    world.ask(1, "rid='101' sid='s'", "<a xmlns='x'/>", 0).unwrap();
    world.session.say(b"<message/>");
    let first = world.answers(0);
    assert_eq!(world.ask(2, "rid='101' sid='s'", "<a xmlns='x'/>", 0), Ok(vec![]), "not twice");
    assert_eq!(world.answers(0), [(2, first[0].1.clone())]);
    // Sent again while it waits: the newer connection gets the answer.
    world.ask(3, "rid='102' sid='s'", "", 0).unwrap();
    assert_eq!(world.ask(4, "rid='102' sid='s'", "", 0), Ok(vec![]));
    assert_eq!(world.answers(0), [(3, format!("{BODY} type='error'/>"))]);
    world.session.lost(world.conns[4], 0);
    world.session.say(b"<iq/>");
    assert_eq!(world.answers(0), []);
    world.ask(5, "rid='102' sid='s'", "", 1000).unwrap();
    assert_eq!(world.answers(1000), [(5, with("<iq xmlns='jabber:client'/>"))]);
}

#[test]
fn keys_follow_from_each_other() {
    let sha = |text: &str| {
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        hex(hash.as_ref()).to_ascii_uppercase()
    };
    let k1 = sha("seed").to_lowercase();
    let k2 = sha(&k1).to_lowercase();
    let k3 = sha(&k2);
    let mut world = World::opened(&format!("hold='1' newkey='{k3}'"));
    assert!(world.ask(1, &format!("rid='101' sid='s' key='{k2}'"), "", 0).is_ok());
    assert!(world.ask(2, &format!("rid='102' sid='s' key='{k1}' newkey='{k3}'"), "", 0).is_ok());
    world.answers(0);
    assert_eq!(world.ask(3, "rid='103' sid='s'", "", 0), Err(Condition::ItemNotFound));
    let mut world = World::opened(&format!("hold='1' newkey='{k3}'"));
    assert_eq!(world.ask(1, &format!("rid='101' sid='s' key='{k1}'"), "", 0), Err(Condition::ItemNotFound));
}

#[test]
fn the_stream_begins_anew_pauses_and_ends() {
    let mut world = World::opened("hold='1'");
    let passed = world.ask(1, "rid='101' sid='s' xmpp:restart='true'", "", 0).unwrap();
    assert!(passed[0].starts_with("<stream:stream ") && passed[0].contains("to='a.example'"), "{passed:?}");
    world.session.say(format!("{HEADER} id='y' version='1.0' xml:lang='en'><stream:features/>").as_bytes());
    assert!(world.answers(0)[0].1.starts_with(&format!("{BODY}><stream:features xmlns:stream=")));
    world.ask(2, "rid='102' sid='s'", "", 0).unwrap();
    world.ask(3, "rid='103' sid='s' pause='100'", "", 0).unwrap();
    assert_eq!(world.answers(0).into_iter().map(|(conn, _)| conn).collect::<Vec<_>>(), [2, 3]);
    assert!(!world.session.is_lost(99_999) && world.session.is_lost(100_000));
    world.ask(4, "rid='104' sid='s'", "", 50_000).unwrap();
    let passed = world.ask(5, "rid='105' sid='s' type='terminate'", "<presence type='unavailable'/>", 50_000).unwrap();
    assert_eq!(passed, ["<presence type='unavailable'/></stream:stream>"]);
    let answers = world.answers(50_000);
    assert_eq!((answers[0].0, answers[1].0), (4, 5));
    assert!(answers.iter().all(|(_, answer)| answer.contains(" type='terminate'")), "{answers:?}");
    assert!(world.session.is_over());
}

#[test]
fn what_there_was_to_say_leaves_before_the_end() {
    let mut world = World::opened("hold='1'");
    world.ask(1, "rid='101' sid='s'", "", 0).unwrap();
    world.ask(2, "rid='102' sid='s' type='terminate'", "", 0).unwrap();
    world.session.say(b"<message/></stream:stream>");
    let end = format!("{BODY} type='terminate'/>");
    let message = format!("{BODY} ack='102'><message xmlns='jabber:client'/></body>");
    assert_eq!(world.answers(0), [(1, message), (2, end)]);
}

#[test]
fn an_error_of_the_stream_is_told_when_there_is_somebody_to_tell() {
    let mut world = World::opened("hold='1'");
    world.session.say(b"<stream:error><conflict xmlns='x'/></stream:error></stream:stream>");
    assert!(world.answers(0).is_empty() && !world.session.is_over());
    world.ask(1, "rid='101' sid='s'", "", 0).unwrap();
    let answers = world.answers(0);
    assert!(answers[0].1.contains(" type='terminate' condition='remote-stream-error'><stream:error "), "{answers:?}");
    assert!(world.session.is_over());
}

#[test]
fn a_client_that_polls_gets_what_there_is() {
    let mut world = World::opened("wait='0' hold='0'");
    world.ask(1, "rid='101' sid='s'", "", 0).unwrap();
    assert_eq!(world.answers(0), [(1, empty())]);
    assert!(World::new("").session.may_come(false));
}

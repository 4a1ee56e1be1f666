//! Archives that have moved in: clients find what they know by the ids by which they know it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use couplet::clock::Now;
use couplet::core::archive::{Way, whole};
use couplet::core::io::{ConnId, Input, Output, Role, Transport};
use couplet::core::moving::{ArchivedPiece, Outcome, Piece, RoomPiece, StandingPiece, Taken, Terms};
use couplet::engine::{Engine, Settings};
use couplet::jid::Jid;
use couplet::setting::Secret;
use couplet::stanza::Stanza;
use couplet::storage::{Writer, memory};
use couplet::stream::{TlsFacts, sasl};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr};
use zeroize::Zeroizing;

const NOW_MS: u64 = 1_795_305_540_000;
const HOUR_MS: u64 = 3_600_000;

struct World {
    engine: Engine,
    memory: memory::Memory,
    writer: Box<dyn Writer>,
    said: String,
}

fn now() -> Now {
    Now { mono_ms: 1000, wall_ms: NOW_MS as i64 }
}

fn jid(text: &str) -> Jid {
    Jid::parse(text).unwrap()
}

/// A message with that id, archived so long ago.
fn message(id: &str, ago_ms: u64, body: &str) -> ArchivedPiece {
    let xml = format!(
        "<message xmlns='jabber:client' from='juliet@example.org/b' to='romeo@localhost' type='chat'>\
         <body>{body}</body></message>"
    );
    let message = Stanza::read(couplet::xml::parse(&xml).unwrap()).unwrap();
    let (wall_ms, with) = (NOW_MS - ago_ms, Some(jid("juliet@example.org")));
    ArchivedPiece { id: id.to_string(), wall_ms, with, standing: String::new(), message }
}

fn archived(id: &str, ago_ms: u64, body: &str) -> Piece {
    Piece::Archived(Box::new(message(id, ago_ms, body)))
}

impl World {
    fn new() -> Self {
        let mut settings = Settings::default();
        settings.core.iterations = 1;
        let memory = memory::Memory::new();
        let (reader, writer) = memory.open();
        let engine = Engine::new(settings, reader, Box::new(super::seeded::Seeded(1)), now()).unwrap();
        let mut world = Self { engine, memory, writer, said: String::new() };
        let password = Some(Secret(Zeroizing::new("p".to_string())));
        let account = Piece::Account { sha1: None, sha256: None, password, created_ms: None, disabled: false };
        assert_eq!(world.take("romeo@localhost", &[account]), [Ok(Taken::New)]);
        world
    }

    fn take(&mut self, owner: &str, pieces: &[Piece]) -> Vec<Outcome> {
        self.take_by(owner, pieces, false)
    }

    /// As an import does: makes the archive ready, takes in, puts it in order.
    fn take_by(&mut self, owner: &str, pieces: &[Piece], replace: bool) -> Vec<Outcome> {
        let (owner, mut way) = (jid(owner), Some(Way::default()));
        while let Some(from) = way {
            way = self.engine.archive_opens(&owner, from).unwrap();
            self.settle();
        }
        let terms = &mut Terms { replace, ..Terms::default() };
        let taken = self.engine.take_in(now(), &owner, pieces, terms);
        self.settle();
        let mut way = Some(Way::default());
        while let Some(from) = way {
            way = self.engine.archive_closes(&owner, from).unwrap();
            self.settle();
        }
        taken
    }

    fn settle(&mut self) {
        self.engine.end_tick(now());
        while let Some(output) = self.engine.poll_output() {
            let input = match output {
                Output::Write { conn, bytes } => {
                    self.said.push_str(std::str::from_utf8(&bytes).unwrap());
                    Input::Wrote { conn, waiting_bytes: 0 }
                }
                Output::Commit(batch) => {
                    self.writer.commit(std::slice::from_ref(&batch)).unwrap();
                    Input::Committed(batch.ticket)
                }
                Output::Hash(job) => Input::Hashed(sasl::keys::run(job)),
                Output::Archive(job) => {
                    let (id, reader) = (job.id, self.memory.open().0);
                    Input::Archive { id, done: Box::new(whole(&*reader, *job)) }
                }
                _ => continue,
            };
            self.engine.handle(now(), input);
            self.engine.end_tick(now());
        }
    }

    fn send(&mut self, conn: ConnId, text: &str) -> String {
        self.said.clear();
        self.engine.handle(now(), Input::Bytes { conn, data: text.as_bytes() });
        self.settle();
        self.said.clone()
    }

    fn log_in(&mut self) -> ConnId {
        let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let conn = self.engine.accept(now(), Role::Client, Transport::DirectTls, peer).unwrap();
        let facts = TlsFacts { tls13: true, ..TlsFacts::default() };
        self.engine.handle(now(), Input::TlsReady { conn, facts });
        let header = "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' \
                      xmlns:stream='http://etherx.jabber.org/streams'>";
        let secret = STANDARD.encode("\0romeo\0p");
        self.send(conn, header);
        self.send(conn, &format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>"));
        self.send(conn, header);
        let bind = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>r</resource></bind>";
        let bound = self.send(conn, &format!("<iq type='set' id='b'>{bind}</iq>"));
        assert!(bound.contains("</jid>"), "{bound}");
        conn
    }

    /// What a query gives: its bodies, and what was said beside them.
    fn page(&mut self, conn: ConnId, to: &str, inner: &str) -> (String, String) {
        let query = format!("<query xmlns='urn:xmpp:mam:2'>{inner}</query>");
        let said = self.send(conn, &format!("<iq type='set' id='q' to='{to}'>{query}</iq>"));
        let bodies = said.split("<body>").skip(1).map(|rest| rest.split('<').next().unwrap());
        (bodies.collect::<Vec<_>>().join(" "), said)
    }

    fn mine(&mut self, conn: ConnId, inner: &str) -> String {
        self.page(conn, "romeo@localhost", inner).0
    }
}

fn set(inner: &str) -> String {
    format!("<set xmlns='http://jabber.org/protocol/rsm'>{inner}</set>")
}

fn form(var: &str, value: &str) -> String {
    let field = |var: &str, value: &str| format!("<field var='{var}'><value>{value}</value></field>");
    let fields = format!("{}{}", field("FORM_TYPE", "urn:xmpp:mam:2"), field(var, value));
    format!("<x xmlns='jabber:x:data' type='submit'>{fields}</x>")
}

#[test]
fn messages_keep_their_ids_and_their_order() {
    let mut world = World::new();
    let first = [
        archived("0192-a", 3 * HOUR_MS, "one"),
        archived("z", 2 * HOUR_MS, "two"),
        // Of the same moment, in the other order of their ids; the form is that of ids of ours.
        archived("1700000000000000", 2 * HOUR_MS, "three"),
        archived("old", 24 * 8 * HOUR_MS, "gone"),
    ];
    let taken = world.take("romeo@localhost", &first);
    assert_eq!(taken[..3], [Ok(Taken::New), Ok(Taken::New), Ok(Taken::New)]);
    assert!(matches!(taken[3], Ok(Taken::Left(_))), "{taken:?}");
    assert_eq!(world.take("romeo@localhost", &first[..3]), [Ok(Taken::Same), Ok(Taken::Same), Ok(Taken::Same)]);
    let other = archived("z", 2 * HOUR_MS, "2");
    assert_eq!(world.take("romeo@localhost", std::slice::from_ref(&other)), [Ok(Taken::Stays)]);
    assert_eq!(world.take_by("romeo@localhost", &[other], true), [Ok(Taken::Replaced)]);
    // Before all, and between two of them.
    let more = [archived("between", 150 * 60_000, "1.5"), archived("before", 4 * HOUR_MS, "zero")];
    assert_eq!(world.take("romeo@localhost", &more), [Ok(Taken::New), Ok(Taken::New)]);

    let conn = world.log_in();
    world.send(conn, "<presence/><message to='romeo@localhost' type='chat'><body>new</body></message>");
    let (all, said) = world.page(conn, "romeo@localhost", &set("<max>9</max>"));
    assert_eq!(all, "zero one 1.5 2 three new", "{said}");
    for part in [
        "id='0192-a'",
        "id='1700000000000000'",
        "stamp='2026-11-21T20:",
        "<first index='0'>before</first>",
        "<count>6</count>",
    ] {
        assert!(said.contains(part), "{part} is missing in {said}");
    }
    assert_eq!(world.mine(conn, &set("<after>0192-a</after>")), "1.5 2 three new");
    assert_eq!(world.mine(conn, &set("<after>1700000000000000</after>")), "new");
    assert_eq!(world.mine(conn, &set("<before>z</before><max>2</max>")), "one 1.5");
    assert_eq!(world.mine(conn, &form("after-id", "between")), "2 three new");
    assert_eq!(world.mine(conn, &form("before-id", "between")), "zero one");
    assert_eq!(world.mine(conn, &form("ids", "z</value><value>before")), "zero 2");
    assert_eq!(world.mine(conn, &form("with", "juliet@example.org")), "zero one 1.5 2 three");
    let (_, said) = world.page(conn, "romeo@localhost", &set("<after>0192-a</after><max>2</max>"));
    assert!(said.contains("<first index='2'>between</first><last>z</last><count>6</count>"), "{said}");
    for unknown in ["gone", "old", "0192-b", "1700000000000001"] {
        let (_, said) = world.page(conn, "romeo@localhost", &set(&format!("<after>{unknown}</after>")));
        assert!(said.contains("<item-not-found"), "{said}");
    }
    let metadata = world.send(conn, "<iq type='get' id='m'><metadata xmlns='urn:xmpp:mam:2'/></iq>");
    assert!(metadata.contains("<start id='before' timestamp='"), "{metadata}");
}

/// What was archived before an archive was void does not come back, and what moves in is not void with it.
#[test]
fn an_archive_that_was_void_takes_in_what_is_older() {
    let mut world = World::new();
    let conn = world.log_in();
    world.send(conn, "<presence/><message to='romeo@localhost' type='chat'><body>his</body></message>");
    world.send(conn, "<iq type='set' id='x'><query xmlns='jabber:iq:register'><remove/></query></iq>");
    let account = Piece::Account {
        sha1: None,
        sha256: None,
        password: Some(Secret(Zeroizing::new("p".to_string()))),
        created_ms: None,
        disabled: false,
    };
    let taken = world.take("romeo@localhost", &[account, archived("a", HOUR_MS, "one")]);
    assert_eq!(taken, [Ok(Taken::New), Ok(Taken::New)]);
    let conn = world.log_in();
    assert_eq!(world.mine(conn, &set("<max>9</max>")), "one");
}

#[test]
fn rooms_keep_the_ids_of_what_was_said() {
    let mut world = World::new();
    const ROOM: &str = "orchard@conference.localhost";
    let owner = |jid| StandingPiece { jid, affiliation: "owner".into(), nick: String::new(), reason: String::new() };
    let room = RoomPiece { standings: vec![owner(jid("romeo@localhost"))], ..RoomPiece::default() };
    let said = |id: &str, ago_ms, body: &str| {
        let mut piece = message(id, ago_ms, body);
        piece.message = Stanza::read(
            couplet::xml::parse(&format!(
                "<message xmlns='jabber:client' from='{ROOM}/J' type='groupchat'><body>{body}</body></message>"
            ))
            .unwrap(),
        )
        .unwrap();
        piece.with = Some(jid("juliet@localhost/b"));
        piece.standing = "member participant".to_string();
        Piece::RoomArchived(Box::new(piece))
    };
    let pieces = [Piece::Room(Box::new(room)), said("s-1", HOUR_MS, "one"), said("s-2", HOUR_MS, "two")];
    assert_eq!(world.take(ROOM, &pieces), [Ok(Taken::New), Ok(Taken::New), Ok(Taken::New)]);
    assert_eq!(world.take(ROOM, &pieces)[1..], [Ok(Taken::Same), Ok(Taken::Same)]);
    let elsewhere = archived("s-3", 0, "x");
    let Piece::Archived(elsewhere) = elsewhere else { unreachable!() };
    assert!(world.take(ROOM, &[Piece::RoomArchived(elsewhere)])[0].is_err());

    let conn = world.log_in();
    let enter = format!("<presence to='{ROOM}/R'><x xmlns='http://jabber.org/protocol/muc'/></presence>");
    let history = world.send(conn, &enter);
    assert!(history.contains(&format!("<stanza-id xmlns='urn:xmpp:sid:0' by='{ROOM}' id='s-2'/>")), "{history}");
    let (bodies, page) = world.page(conn, ROOM, &set("<after>s-1</after>"));
    assert_eq!(bodies, "two", "{page}");
    assert!(page.contains("id='s-2'") && page.contains("jid='juliet@localhost/b'"), "{page}");
    let moderate = "<moderate xmlns='urn:xmpp:message-moderate:1' id='s-1'>\
                    <retract xmlns='urn:xmpp:message-retract:1'/></moderate>";
    let told = world.send(conn, &format!("<iq type='set' id='m' to='{ROOM}'>{moderate}</iq>"));
    assert!(told.contains("type='result'"), "{told}");
    let (bodies, page) = world.page(conn, ROOM, &set("<max>9</max>"));
    assert_eq!(bodies, "two", "{page}");
    assert!(page.contains("id='s-1'") && page.contains("<retracted"), "{page}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// In whatever order they come, and however often: by time, those of one moment as they came, counted rightly.
    #[test]
    fn archives_are_in_order(ago in prop::collection::vec(0_u64..6, 1..40), portion in 1_usize..9) {
        let mut world = World::new();
        let pieces: Vec<Piece> = ago
            .iter()
            .enumerate()
            .map(|(n, ago)| archived(&format!("id-{n}"), ago * 1000 + 500, &n.to_string()))
            .collect();
        for pieces in pieces.chunks(portion) {
            prop_assert!(world.take("romeo@localhost", pieces).iter().all(|taken| *taken == Ok(Taken::New)));
        }
        prop_assert!(world.take("romeo@localhost", &pieces).iter().all(|taken| *taken == Ok(Taken::Same)));
        let mut wanted: Vec<usize> = (0..ago.len()).collect();
        wanted.sort_by_key(|n| std::cmp::Reverse(ago[*n]));
        let conn = world.log_in();
        for (at, n) in wanted.iter().enumerate() {
            let query = format!("{}{}", form("after-id", &format!("id-{n}")), set("<max>1</max>"));
            let (next, said) = world.page(conn, "romeo@localhost", &query);
            prop_assert_eq!(next, wanted.get(at + 1).map(ToString::to_string).unwrap_or_default());
            prop_assert!(said.contains(&format!("<count>{}</count>", wanted.len() - at - 1)), "{}", said);
        }
    }
}

//! A store that is full: it is said once, and so is that there is room again; what was promised to nobody makes room.
#![cfg(feature = "muc")]

mod seeded;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use couplet::clock::Now;
use couplet::core::admin::Command;
use couplet::core::io::{ConnId, Input, Output, Role, Transport};
use couplet::core::parked::EndedSessions;
use couplet::engine::{Engine, Settings};
use couplet::storage::{StoreError, View, Writer, memory};
use couplet::stream::{TlsFacts, sasl};
use seeded::Seeded;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;
use zeroize::Zeroizing;

/// What was logged at level warn and above, and that there is room again.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Log;

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = record.args().to_string();
        if line.contains("a write failed") || line.contains("room again") {
            LINES.lock().unwrap().push(line);
        }
    }

    fn flush(&self) {}
}

struct World {
    engine: Engine,
    memory: memory::Memory,
    writer: Box<dyn Writer>,
    now_ms: u64,
    said: String,
}

impl World {
    fn new() -> Self {
        let mut settings = Settings::default();
        settings.core.iterations = 1;
        // What is said in rooms is promised to nobody where there are no archives.
        settings.modules.general.disabled = vec!["mam".to_string()];
        let memory = memory::Memory::new();
        let (reader, writer) = memory.open();
        let engine = Engine::new(settings, reader, Box::new(Seeded(1)), at(1000)).unwrap();
        Self { engine, memory, writer, now_ms: 1000, said: String::new() }
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
                        self.said.push_str(std::str::from_utf8(&bytes).unwrap());
                        inputs.push(Input::Wrote { conn, waiting_bytes: 0 });
                    }
                    Output::Commit(batch) => inputs.push(match self.writer.commit(std::slice::from_ref(&batch)) {
                        Ok(()) => Input::Committed(batch.ticket),
                        Err(error) => Input::CommitFailed(error),
                    }),
                    Output::Hash(job) => inputs.push(Input::Hashed(sasl::keys::run(job))),
                    Output::AdminReply { reply, .. } => self.said.push_str(&reply.text),
                    _ => {}
                }
            }
        }
    }

    fn add(&mut self, user: &str) -> String {
        self.said.clear();
        let (jid, password) = (format!("{user}@localhost"), Zeroizing::new("p".to_string()));
        self.input(Input::Admin { id: 1, command: Command::UserAdd { jid, password } });
        self.said.clone()
    }

    fn send(&mut self, conn: ConnId, text: &str) -> String {
        self.said.clear();
        self.input(Input::Bytes { conn, data: text.as_bytes() });
        self.said.clone()
    }

    fn log_in(&mut self, user: &str) -> ConnId {
        let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let conn = self.engine.accept(at(self.now_ms), Role::Client, Transport::DirectTls, peer).unwrap();
        let facts = TlsFacts { tls13: true, ..TlsFacts::default() };
        self.input(Input::TlsReady { conn, facts });
        let header = "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' \
                      xmlns:stream='http://etherx.jabber.org/streams'>";
        let secret = STANDARD.encode(format!("\0{user}\0p"));
        self.send(conn, header);
        self.send(conn, &format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>"));
        self.send(conn, header);
        let bound = self.send(conn, "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
        assert!(bound.contains("</jid>"), "{bound}");
        conn
    }

    /// Sessions of which it is known how they ended, and rows of the store.
    fn rows(&self) -> (usize, usize) {
        let mut view = View::new(self.memory.open().0).unwrap();
        view.begin();
        (view.count::<EndedSessions>("").unwrap(), self.memory.rows())
    }

    fn fill(&self) {
        self.memory.fail_commit(1, StoreError::Full);
    }
}

fn at(mono_ms: u64) -> Now {
    Now { mono_ms, wall_ms: 1_795_305_540_000 + mono_ms as i64 }
}

fn logged() -> Vec<String> {
    std::mem::take(&mut LINES.lock().unwrap())
}

#[test]
fn a_full_store_is_reported_at_each_change_and_gives_up_what_nobody_was_promised() {
    log::set_logger(&Log).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let mut world = World::new();
    assert_eq!(world.add("u0"), "added u0@localhost");

    // Said once, however often it is refused.
    for user in ["a", "b", "c"] {
        world.fill();
        assert!(world.add(user).contains("not stored"), "{}", world.said);
        world.now_ms += 1000;
    }
    assert_eq!(logged().len(), 1);
    // What goes well soon may be what was deleted.
    assert_eq!(world.add("a"), "added a@localhost");
    assert_eq!(logged(), Vec::<String>::new());
    world.now_ms += 60_000;
    assert_eq!(world.add("b"), "added b@localhost");
    assert_eq!(logged(), ["the store has room again"]);
    assert_eq!(world.add("c"), "added c@localhost");
    assert_eq!(logged(), Vec::<String>::new());
    world.fill();
    world.add("d");
    assert_eq!(logged().len(), 1, "it is news again");

    // Of a session that is over, and of a room.
    let conn = world.log_in("u0");
    world.send(conn, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    world.send(conn, "</stream:stream>");
    let conn = world.log_in("u0");
    world.send(conn, "<presence to='r@conference.localhost/n'><x xmlns='http://jabber.org/protocol/muc'/></presence>");
    let query = "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query>";
    world.send(conn, &format!("<iq type='set' id='c' to='r@conference.localhost'>{query}</iq>"));
    for n in 0..9 {
        let body = format!("<body>line {n}</body>");
        world.send(conn, &format!("<message type='groupchat' to='r@conference.localhost'>{body}</message>"));
    }
    let (ended, rows) = world.rows();
    assert_eq!(ended, 1);
    world.fill();
    world.add("d");
    assert_eq!(world.rows(), (0, rows - 1));
    world.fill();
    world.add("d");
    assert_eq!(world.rows(), (0, rows - 5), "four of nine messages");
    let again = "<presence to='r@conference.localhost/n'><x xmlns='http://jabber.org/protocol/muc'/></presence>";
    let history = world.send(conn, again);
    let has = |n: usize| history.contains(&format!("line {n}<"));
    assert_eq!([3, 4, 8].map(has), [false, true, true], "{history}");
}

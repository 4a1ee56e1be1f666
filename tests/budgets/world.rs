//! The engine with everything around it, in this process, and what it is asked to do. What each call of the engine
//! costs besides commits and writes is for `measured` of the program that includes this file.

#[path = "../seeded/mod.rs"]
mod seeded;

use std::net::{IpAddr, Ipv4Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use couplet::clock::Now;
use couplet::core::admin::Command;
use couplet::core::io::{ConnId, Input, Output, Role, Transport};
use couplet::engine::{Engine, Settings};
use couplet::storage::{Writer, memory};
use couplet::stream::{TlsFacts, sasl};
pub use seeded::Seeded;
use zeroize::Zeroizing;

/// What the engine has done since the last look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub allocations: u64,
    pub bytes: u64,
    pub commits: u64,
    pub writes: u64,
    pub written_bytes: u64,
}

pub const NOW: Now = Now { mono_ms: 1_000_000, wall_ms: 1_795_305_540_000 };

/// An engine with everything around it.
pub struct World {
    pub engine: Engine,
    pub memory: memory::Memory,
    writer: Box<dyn Writer>,
    cost: Cost,
    /// What was written last.
    pub said: String,
}

impl World {
    /// Without archives, in which each message is a write.
    pub fn new(users: usize) -> Self {
        let mut settings = Settings::default();
        settings.modules.general.disabled = vec!["mam".to_owned()];
        Self::of(users, settings)
    }

    /// With whatever the build has.
    pub fn of(users: usize, mut settings: Settings) -> Self {
        settings.core.iterations = 1;
        let memory = memory::Memory::new();
        let (reader, writer) = memory.open();
        let engine = Engine::new(settings, reader, Box::new(Seeded(1)), NOW).unwrap();
        let mut world = Self { engine, memory, writer, cost: Cost::default(), said: String::new() };
        for n in 0..users {
            let command =
                Command::UserAdd { jid: format!("u{n}@localhost"), password: Zeroizing::new("p".to_string()) };
            world.input(Input::Admin { id: 1, command });
        }
        world
    }

    /// One tick with one input, and those that answer its outputs. Every tick writes to a connection once at most.
    pub fn input(&mut self, input: Input<'_>) {
        let mut inputs = vec![input];
        let mut outputs = Vec::with_capacity(1024);
        while let Some(input) = inputs.pop() {
            self.counted(|engine| engine.handle(NOW, input));
            // A tick ends when all that was ready has been handled.
            if !inputs.is_empty() {
                continue;
            }
            self.counted(|engine| {
                engine.end_tick(NOW);
                while let Some(output) = engine.poll_output() {
                    outputs.push(output);
                }
            });
            let mut written = Vec::new();
            for output in outputs.drain(..) {
                match output {
                    Output::Write { conn, bytes } => {
                        assert!(!written.contains(&conn), "two writes to one connection in one tick");
                        written.push(conn);
                        self.cost.writes += 1;
                        self.cost.written_bytes += bytes.len() as u64;
                        self.said = String::from_utf8(bytes).unwrap();
                        inputs.push(Input::Wrote { conn, waiting_bytes: 0 });
                    }
                    Output::Commit(batch) => {
                        self.cost.commits += 1;
                        let ticket = batch.ticket;
                        self.writer.commit(&[batch]).unwrap();
                        inputs.push(Input::Committed(ticket));
                    }
                    Output::Hash(job) => inputs.push(Input::Hashed(sasl::keys::run(job))),
                    Output::AdminReply { .. } | Output::PauseRead { .. } | Output::ResumeRead { .. } => {}
                    other => panic!("{other:?}; said last: {}", self.said),
                }
            }
        }
    }

    fn counted<T>(&mut self, work: impl FnOnce(&mut Engine) -> T) -> T {
        let (done, allocations, bytes) = crate::measured(|| work(&mut self.engine));
        self.cost.allocations += allocations;
        self.cost.bytes += bytes;
        done
    }

    pub fn send(&mut self, conn: ConnId, text: &str) {
        self.input(Input::Bytes { conn, data: text.as_bytes() });
    }

    /// What `act` costs.
    pub fn cost_of(&mut self, act: impl FnOnce(&mut Self)) -> Cost {
        self.cost = Cost::default();
        act(self);
        self.cost
    }

    pub fn log_in(&mut self, user: usize) -> ConnId {
        let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let conn = self.counted(|engine| engine.accept(NOW, Role::Client, Transport::DirectTls, peer)).unwrap();
        let facts = TlsFacts { tls13: true, exporter: Some([1; 32]), ..TlsFacts::default() };
        self.input(Input::TlsReady { conn, facts });
        let header = "<?xml version='1.0'?><stream:stream to='localhost' version='1.0' xmlns='jabber:client' \
                      xmlns:stream='http://etherx.jabber.org/streams'>";
        self.send(conn, header);
        let secret = STANDARD.encode(format!("\0u{user}\0p"));
        self.send(conn, &format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>"));
        self.send(conn, header);
        let bind = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>r</resource></bind>";
        self.send(conn, &format!("<iq type='set' id='b'>{bind}</iq>"));
        assert!(self.said.contains("/r</jid>"), "not logged in: {}", self.said);
        conn
    }

    /// So many sessions that are available.
    pub fn online(users: usize) -> (Self, Vec<ConnId>) {
        let mut world = Self::new(users);
        let conns: Vec<_> = (0..users).map(|n| world.log_in(n)).collect();
        for conn in &conns {
            world.send(*conn, "<presence/>");
        }
        (world, conns)
    }
}

pub fn message(to: usize) -> String {
    format!("<message type='chat' id='m1' to='u{to}@localhost/r'><body>{}</body></message>", "x".repeat(100))
}

/// A room of so many, with everything said that entering says.
pub fn in_a_room(occupants: usize) -> (World, Vec<ConnId>) {
    let (mut world, conns) = World::online(occupants);
    for (n, conn) in conns.iter().enumerate() {
        let x = "<x xmlns='http://jabber.org/protocol/muc'/>";
        world.send(*conn, &format!("<presence to='r@conference.localhost/u{n}'>{x}</presence>"));
        if n == 0 {
            let form = "<x xmlns='jabber:x:data' type='submit'/>";
            let query = format!("<query xmlns='http://jabber.org/protocol/muc#owner'>{form}</query>");
            world.send(*conn, &format!("<iq type='set' id='c' to='r@conference.localhost'>{query}</iq>"));
        }
    }
    (world, conns)
}

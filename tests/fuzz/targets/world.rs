//! A server between hostile lanes: the engine, a disk that may be slow, and whoever is connected. After every step the
//! rules hold that hold always.

#[path = "../../seeded/mod.rs"]
mod seeded;
#[path = "../../sim/tap.rs"]
mod tap;

use couplet::clock::Now;
use couplet::core::admin::Command;
use couplet::core::io::{ConnId, DialFailure, Input, Output, Role, Transport};
use couplet::engine::{Engine, Settings};
use couplet::limits::Limits;
use couplet::storage::memory::Memory;
use couplet::storage::{Batch, StoreError, Ticket, Writer};
use couplet::stream::{TlsFacts, sasl};
use couplet::xml::{Reader, ns};
use seeded::Seeded;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use tap::{Frame, Tap};

pub const HOST: &str = "localhost";
/// Name, and what it logs in with by PLAIN, encoded. Nobody guesses the password.
pub const ACCOUNTS: [(&str, &str); 2] = [
    ("juliet@localhost", "AGp1bGlldAB6VjctcVFhLTRtTHgtMDlXZQ=="),
    ("romeo@localhost", "AHJvbWVvAHpWNy1xUWEtNG1MeC0wOVdl"),
];
const PASSWORD: &str = "zV7-qQa-4mLx-09We";
const HEADER: &str = "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' \
                      xmlns:stream='http://etherx.jabber.org/streams'>";

/// Rounds without rest after which the engine is said to be in a loop.
const ROUNDS_MAX: usize = 2000;
/// Deadlines that may pass at once.
const DEADLINES_MAX: usize = 20_000;

/// A connection, from its beginning to its end.
pub struct Lane {
    /// None once it is closed.
    pub id: Option<ConnId>,
    /// Who has logged in on it.
    pub account: Option<&'static str>,
    /// Messages and presence that it has been sent.
    pub heard: usize,
    /// Who is said to have sent the last of them.
    pub heard_from: String,
    /// We have opened it.
    dialed: bool,
    tap: Tap,
    paused: bool,
    unread: Vec<u8>,
    /// It reads nothing, and so much waits.
    stalled: bool,
    waiting: usize,
}

pub struct World {
    pub engine: Engine,
    pub now: Now,
    pub lanes: Vec<Lane>,
    /// Connections to other servers that are wished for, and with whom.
    pub dials: Vec<(ConnId, String)>,
    /// Batches of writes that the engine has handed over.
    pub batches: usize,
    /// What is written waits for [`World::write`].
    pub slow: bool,
    settings: Settings,
    memory: Memory,
    writer: Box<dyn Writer>,
    waiting: VecDeque<Batch>,
    /// Older batches stand on writes that have failed.
    epoch: u32,
    done: Vec<Batch>,
    reader: Reader,
    exited: bool,
    seed: u64,
}

thread_local! {
    /// All that is written until both accounts are there and friends.
    static BASE: Vec<Batch> = base();
}

fn base() -> Vec<Batch> {
    let mut world = World::on(Memory::new(), settings(|_| ())).expect("an empty store");
    for (jid, _) in ACCOUNTS {
        let command = Command::UserAdd { jid: jid.to_owned(), password: PASSWORD.to_owned().into() };
        world.input(Input::Admin { id: 1, command });
    }
    let lanes = [0, 1].map(|n| world.log_in(n, "base"));
    for kind in ["subscribe", "subscribed"] {
        for (lane, other) in [(0, 1), (1, 0)] {
            let presence = format!("<presence to='{}' type='{kind}'/>", ACCOUNTS[other].0);
            world.send(lanes[lane], presence.as_bytes());
        }
    }
    lanes.iter().for_each(|lane| world.drop_lane(*lane));
    std::mem::take(&mut world.done)
}

/// What servers here have in common: little work for a password, and bounds that are soon reached.
pub fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = Settings::default();
    settings.core.iterations = 1;
    settings.core.memory.max_bytes = 600_000;
    let limits = &mut settings.core.limits;
    limits.stanza_bytes_max = 20_000;
    limits.offline_messages_max = 4;
    limits.resources_max = 3;
    limits.sm_unacked_max = 6;
    limits.sm_parked_max = 2;
    limits.csi_held_max = 4;
    limits.out_bytes_max = 100_000;
    limits.out_window_bytes = 30_000;
    limits.pubsub_items_max = 5;
    change(&mut settings);
    settings
}

fn start(settings: &Settings, memory: &Memory, seed: u64, now: Now) -> Result<(Engine, Box<dyn Writer>), StoreError> {
    let (reader, writer) = memory.open();
    let engine = Engine::new(settings.clone(), reader, Box::new(Seeded(seed)), now)?;
    Ok((engine, writer))
}

impl World {
    /// A server with two accounts that are friends.
    pub fn new(settings: Settings) -> Self {
        let none = Batch { ticket: Ticket(0), epoch: 0, writes: Vec::new() };
        Self::on_rows(none, settings).expect("a store that can be read")
    }

    /// The same with other rows beside theirs, or in their place.
    ///
    /// # Errors
    /// When the server does not start on them.
    pub fn on_rows(rows: Batch, settings: Settings) -> Result<Self, StoreError> {
        let memory = Memory::new();
        let mut writer = memory.open().1;
        BASE.with(|batches| writer.commit(batches))?;
        writer.commit(&[rows])?;
        Self::on(memory, settings)
    }

    fn on(memory: Memory, settings: Settings) -> Result<Self, StoreError> {
        let now = Now { mono_ms: 1_000_000, wall_ms: 1_795_305_540_000 };
        let (engine, writer) = start(&settings, &memory, 1, now)?;
        let mut world = Self {
            engine,
            now,
            lanes: Vec::new(),
            dials: Vec::new(),
            batches: 0,
            slow: false,
            settings,
            memory,
            writer,
            waiting: VecDeque::new(),
            epoch: 0,
            done: Vec::new(),
            reader: Reader::new(&Limits::default()),
            exited: false,
            seed: 1,
        };
        world.settle();
        Ok(world)
    }

    /// The engine takes an input and does all that follows from it.
    pub fn input(&mut self, input: Input<'_>) {
        self.engine.handle(self.now, input);
        self.settle();
    }

    fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            self.engine.end_tick(self.now);
            let outputs: Vec<Output> = std::iter::from_fn(|| self.engine.poll_output()).collect();
            if outputs.is_empty() {
                return self.check();
            }
            outputs.into_iter().for_each(|output| self.obey(output));
            if self.exited {
                return;
            }
        }
        panic!("the engine does not come to rest");
    }

    fn check(&self) {
        assert!(self.engine.budget_is_sound(), "the sum of all charges is not what the budget says");
        let limits = &self.settings.core.limits;
        let most = limits.out_bytes_max + limits.out_window_bytes + 3 * limits.s2s_stanza_bytes_max;
        let held = self.engine.held_most_bytes();
        assert!(held <= most as usize, "{held} bytes are held for one client");
    }

    fn find(&mut self, conn: ConnId) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.id == Some(conn))
    }

    fn obey(&mut self, output: Output) {
        match output {
            Output::Write { conn, bytes } => {
                let lane = self.find(conn).expect("written to a connection that is closed");
                self.hear(lane, &bytes);
                if let Lane { stalled: false, .. } = self.lanes[lane] {
                    self.engine.handle(self.now, Input::Wrote { conn, waiting_bytes: 0 });
                }
            }
            Output::Close { conn } => {
                self.dials.retain(|(dial, _)| *dial != conn);
                if let Some(lane) = self.find(conn) {
                    self.lanes[lane].id = None;
                }
            }
            Output::PauseRead { conn } => {
                if let Some(lane) = self.find(conn) {
                    self.lanes[lane].paused = true;
                }
            }
            Output::ResumeRead { conn } => {
                if let Some(lane) = self.find(conn) {
                    self.lanes[lane].paused = false;
                    let data = std::mem::take(&mut self.lanes[lane].unread);
                    if !data.is_empty() {
                        self.engine.handle(self.now, Input::Bytes { conn, data: &data });
                    }
                }
            }
            Output::Commit(batch) => {
                self.batches += 1;
                self.waiting.push_back(batch);
                if !self.slow {
                    self.commit(false);
                }
            }
            Output::Hash(job) => self.engine.handle(self.now, Input::Hashed(sasl::keys::run(job))),
            Output::StartTls { conn } => {
                if let Some(lane) = self.find(conn) {
                    if self.lanes[lane].dialed {
                        self.lanes[lane].tap.reset();
                    }
                    self.engine.handle(self.now, Input::TlsReady { conn, facts: facts() });
                }
            }
            Output::Dial { conn, domain, .. } => self.dials.push((conn, domain)),
            Output::AdminReply { reply, .. } => assert_eq!(reply.code, 0, "{}", reply.text),
            #[cfg(feature = "mam")]
            Output::Archive(job) => {
                let (id, reader) = (job.id, self.memory.open().0);
                let done = Box::new(couplet::core::archive::whole(&*reader, *job));
                self.engine.handle(self.now, Input::Archive { id, done });
            }
            #[cfg(feature = "http")]
            Output::Web(_) => {}
            Output::Reload { .. } | Output::Shrink => {}
            Output::Exit => self.exited = true,
            Output::Stop { .. } => self.engine.handle(self.now, Input::Shutdown),
        }
    }

    /// What the server writes is whole, well-formed and for whom it is written.
    fn hear(&mut self, lane: usize, bytes: &[u8]) {
        let most = self.settings.core.limits.out_window_bytes as usize;
        let lane = &mut self.lanes[lane];
        if lane.stalled {
            assert!(lane.waiting <= most, "{} bytes were handed over at once", lane.waiting);
            lane.waiting += bytes.len();
        }
        if lane.dialed && bytes.starts_with(b"<?xml") {
            lane.tap.reset();
        }
        for (_, frame) in lane.tap.read(bytes, &mut self.reader).expect("a stream") {
            let Frame::Element(element) = frame else { continue };
            let root = element.root();
            if root.ns() != ns::CLIENT || !matches!(root.name(), "message" | "presence" | "iq") {
                continue;
            }
            if let (Some(account), Some(to)) = (lane.account, root.attr("to")) {
                assert_eq!(to.split('/').next(), Some(account), "on the wrong connection: {}", root.to_xml());
            }
            if root.name() != "iq" {
                lane.heard += 1;
                root.attr("from").unwrap_or_default().clone_into(&mut lane.heard_from);
            }
        }
    }

    fn add(&mut self, id: ConnId, dialed: bool) -> usize {
        self.lanes.push(Lane {
            id: Some(id),
            account: None,
            heard: 0,
            heard_from: String::new(),
            dialed,
            tap: Tap::new(),
            paused: false,
            unread: Vec::new(),
            stalled: false,
            waiting: 0,
        });
        self.lanes.len() - 1
    }

    /// Somebody connects; none when he is turned away.
    pub fn connect(&mut self, role: Role, transport: Transport) -> Option<usize> {
        let peer = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let id = self.engine.accept(self.now, role, transport, peer)?;
        let lane = self.add(id, false);
        if transport == Transport::DirectTls {
            self.input(Input::TlsReady { conn: id, facts: facts() });
        }
        Some(lane)
    }

    /// One of [`ACCOUNTS`] connects, logs in and binds that resource.
    pub fn log_in(&mut self, account: usize, resource: &str) -> usize {
        let lane = self.connect(Role::Client, Transport::DirectTls).expect("room for a client");
        let (jid, secret) = ACCOUNTS[account];
        self.lanes[lane].account = Some(jid);
        let auth = format!("<auth xmlns='{}' mechanism='PLAIN'>{secret}</auth>", ns::SASL);
        let bind = format!(
            "<iq type='set' id='b'><bind xmlns='{}'><resource>{resource}</resource></bind></iq><presence/>",
            ns::BIND
        );
        for text in [HEADER, &auth, HEADER, &bind] {
            self.send(lane, text.as_bytes());
        }
        lane
    }

    /// The other end of a lane says something.
    pub fn send(&mut self, lane: usize, data: &[u8]) {
        let Lane { id: Some(conn), paused, .. } = self.lanes[lane] else { return };
        if data.is_empty() {
        } else if paused {
            self.lanes[lane].unread.extend(data);
        } else {
            self.input(Input::Bytes { conn, data });
        }
    }

    /// The other end of a lane is gone.
    pub fn drop_lane(&mut self, lane: usize) {
        if let Some(conn) = self.lanes[lane].id.take() {
            self.input(Input::Closed { conn });
        }
    }

    /// The other end of a lane reads nothing more, or reads again.
    pub fn stall(&mut self, lane: usize, stalled: bool) {
        let lane = &mut self.lanes[lane];
        lane.stalled = stalled;
        if let (false, Some(conn)) = (stalled, lane.id) {
            lane.waiting = 0;
            self.input(Input::Wrote { conn, waiting_bytes: 0 });
        }
    }

    /// The first attempt to reach another server ends.
    pub fn answer_dial(&mut self, succeeds: bool) -> Option<usize> {
        if self.dials.is_empty() {
            return None;
        }
        let (conn, _) = self.dials.remove(0);
        if succeeds {
            let lane = self.add(conn, true);
            self.input(Input::Dialed { conn, tls: None });
            return Some(lane);
        }
        self.input(Input::DialFailed { conn, why: DialFailure::NotFound });
        None
    }

    /// All that waits is written, or nothing of it can be.
    pub fn write(&mut self, fails: bool) {
        self.commit(fails);
        self.settle();
    }

    fn commit(&mut self, fails: bool) {
        let epoch = self.epoch;
        let batches: Vec<Batch> = self.waiting.drain(..).filter(|b| b.epoch >= epoch).collect();
        let Some(last) = batches.last().map(|b| (b.ticket, b.epoch)) else { return };
        let input = if fails {
            self.epoch = last.1 + 1;
            Input::CommitFailed(StoreError::Io("the disk fails".to_owned()))
        } else {
            self.writer.commit(&batches).expect("a memory that can be written");
            self.done.extend(batches);
            Input::Committed(last.0)
        };
        self.engine.handle(self.now, input);
    }

    /// Time passes, with every deadline on the way.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now.mono_ms + ms;
        for _ in 0..DEADLINES_MAX {
            let Some(at) = self.engine.next_deadline().filter(|at| *at <= end) else { return self.advance_to(end) };
            self.advance_to(at.max(self.now.mono_ms));
            self.input(Input::Wake);
            let stays = self.engine.next_deadline() == Some(at) && !self.engine.has_more();
            assert!(!stays, "a deadline stays after it has passed");
        }
        panic!("one deadline follows the other");
    }

    fn advance_to(&mut self, mono_ms: u64) {
        self.now.wall_ms += (mono_ms - self.now.mono_ms) as i64;
        self.now.mono_ms = mono_ms;
    }

    /// The server ends, in peace or not, and starts on what is stored.
    pub fn restart(&mut self, kill: bool) {
        if !kill {
            self.shut_down();
        }
        self.lanes.iter_mut().for_each(|lane| lane.id = None);
        self.dials.clear();
        self.waiting.clear();
        (self.epoch, self.exited, self.seed) = (0, false, self.seed + 1);
        let started = start(&self.settings, &self.memory, self.seed, self.now);
        (self.engine, self.writer) = started.expect("a server starts on what it has stored");
        self.settle();
    }

    /// The server can be ended at any time.
    pub fn shut_down(&mut self) {
        self.slow = false;
        self.write(false);
        self.input(Input::Shutdown);
        for lane in 0..self.lanes.len() {
            self.stall(lane, false);
        }
        self.pass(u64::from(self.settings.core.limits.close_timeout_s) * 1000 + 60_000);
        assert!(self.exited, "the server does not stop");
    }
}

fn facts() -> TlsFacts {
    TlsFacts {
        tls13: true,
        exporter: Some([7; 32]),
        end_point: Some(vec![2; 32]),
        sni: Some(HOST.to_owned()),
        ..TlsFacts::default()
    }
}

//! The server, its clients, the network and the disk between them: one thing happens at a time, chosen by the seed.

use super::client::{Client, State};
use super::disk::Disk;
use super::loops::Doom;
use super::model::{Check, Invariant, Model, broken};
use super::network::{Frame, Link};
use super::plan::Plan;
use super::rng::Rng;
use couplet::clock::Now;
use couplet::core::admin::{Command, Reply};
use couplet::core::io::{ConnId, DialFailure, Input, Output, Role, Transport};
use couplet::engine::Engine;
use couplet::limits::Limits;
use couplet::stream::TlsFacts;
use couplet::stream::sasl::{HashJob, keys};
use couplet::xml::Reader;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use zeroize::Zeroizing;

pub const HOST: &str = "sim.example";

pub struct World {
    pub plan: Plan,
    pub rng: Rng,
    /// Counts what happens.
    pub step: u64,
    pub now: Now,
    pub engine: Engine,
    pub disk: Disk,
    pub links: BTreeMap<ConnId, Link>,
    pub clients: Vec<Client>,
    pub model: Model,
    pub stats: BTreeMap<&'static str, u64>,
    pub reader: Reader,
    hashing: VecDeque<HashJob>,
    #[cfg(feature = "mam")]
    reading: VecDeque<Box<couplet::core::archive::Job>>,
    /// Inputs were handled since the last tick.
    open: bool,
    exited: bool,
    /// The server has been told to end.
    ending: bool,
    replies: Vec<Reply>,
    trace: Option<VecDeque<String>>,
    /// What is to happen at which commit, until it has.
    pub doom: Option<(u64, Doom)>,
    commits: u64,
    /// At the next report of the disk nothing can be read.
    unreadable: bool,
    /// No session waits to be resumed any more.
    pub rested_long: bool,
    /// How often the server has started.
    pub life: u32,
}

/// Something that may happen next.
#[derive(Clone, Copy, Debug)]
enum Move {
    Act(usize),
    ToServer(ConnId),
    ToClient(ConnId),
    Handshake(ConnId),
    /// The client learns that the connection has been closed.
    End(ConnId),
    /// The engine learns that the client has gone.
    Gone(ConnId),
    Commit,
    Report,
    Hash,
    #[cfg(feature = "mam")]
    Read,
    Wake,
    Tick,
    Stall,
    Drop,
    Crash,
}

/// Steps in which the world must come to rest. It fails instead of hanging.
const QUIET_STEPS_MAX: u32 = 60_000;

/// Longer than the server waits for anything but a session that is to be resumed.
const SHORT_REST_MS: u64 = 60_000;

impl World {
    pub fn new(seed: u64, traced: bool) -> Check<Self> {
        let mut rng = Rng::new(seed);
        let plan = Plan::new(&mut rng);
        Self::build(rng, plan, traced, None)
    }

    /// The same run each time, up to the one misfortune.
    pub fn scripted(script: u64, doom: Option<(u64, Doom)>, traced: bool) -> Check<Self> {
        let mut rng = Rng::new(script);
        let plan = Plan::script(&mut rng, doom.is_some_and(|(_, doom)| doom.refuses()));
        Self::build(rng, plan, traced, doom)
    }

    fn build(mut rng: Rng, plan: Plan, traced: bool, doom: Option<(u64, Doom)>) -> Check<Self> {
        let now = Now { mono_ms: 1_000, wall_ms: 1_700_000_000_000 };
        let disk = Disk::new();
        let engine = new_engine(&plan, &disk, &mut rng, now)?;
        let clients = plan.clients();
        let mut world = Self {
            plan,
            rng,
            step: 0,
            now,
            engine,
            disk,
            links: BTreeMap::new(),
            clients,
            model: Model::default(),
            stats: BTreeMap::new(),
            reader: Reader::new(&Limits::default()),
            hashing: VecDeque::new(),
            #[cfg(feature = "mam")]
            reading: VecDeque::new(),
            open: false,
            exited: false,
            ending: false,
            replies: Vec::new(),
            trace: traced.then(VecDeque::new),
            rested_long: false,
            doom: None,
            commits: 0,
            unreadable: false,
            life: 0,
        };
        for account in world.plan.accounts.clone() {
            let password = Zeroizing::new(password(&account));
            world.input(Input::Admin { id: 0, command: Command::UserAdd { jid: account, password } })?;
        }
        world.rest(true)?;
        let replies = std::mem::take(&mut world.replies);
        match replies.into_iter().find(|r| r.code != 0) {
            Some(reply) => broken(Invariant::NoBug, format!("account not added: {}", reply.text)),
            None => {
                world.doom = doom;
                Ok(world)
            }
        }
    }

    /// Everything of one seed.
    pub fn run(&mut self) -> Check {
        for part in 0..self.plan.parts {
            for _ in 0..self.plan.steps {
                self.happen(false)?;
            }
            let long = self.rng.percent(40);
            self.rest(long)?;
            self.check_at_rest()?;
            if part + 1 < self.plan.parts && self.rng.percent(30) {
                self.shut_down()?;
                self.start()?;
            }
        }
        if self.rng.percent(50) {
            self.all_leave()?;
        }
        self.shut_down()
    }

    /// Last words of a run that broke a rule.
    pub fn trace(&self) -> impl Iterator<Item = &String> {
        self.trace.iter().flatten()
    }

    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            if trace.len() >= 4000 {
                trace.pop_front();
            }
            trace.push_back(format!("{:>6} {:>7} ms  {}", self.step, self.now.mono_ms, text()));
        }
    }

    pub fn count(&mut self, what: &'static str) {
        *self.stats.entry(what).or_default() += 1;
    }

    /// One thing happens. False when nothing can.
    fn happen(&mut self, resting: bool) -> Check<bool> {
        self.step += 1;
        let misfortune = if resting { None } else { self.misfortune() };
        let moves = self.moves(resting);
        let Some(next) = misfortune.or_else(|| self.rng.weighted(&moves)) else { return Ok(false) };
        if !resting {
            let ms = self.rng.below(self.plan.step_ms) as u64;
            self.pass(ms);
        }
        match next {
            Move::Act(client) => self.act(client)?,
            Move::ToServer(conn) => self.carry_in(conn)?,
            Move::ToClient(conn) => self.carry_out(conn, None)?,
            Move::Handshake(conn) => self.handshake(conn)?,
            Move::End(conn) => self.end_link(conn),
            Move::Gone(conn) => {
                self.note(|| format!("{conn:?} is gone"));
                self.end_link(conn);
                self.input(Input::Closed { conn })?;
            }
            Move::Commit => {
                let n =
                    if self.rng.percent(60) { self.disk.waiting() } else { 1 + self.rng.below(self.disk.waiting()) };
                let fails = !resting && self.rng.percent(self.plan.commit_fails_percent);
                self.commits += 1;
                let doom = self.doom.take_if(|(at, _)| self.commits >= *at).map(|(_, doom)| doom);
                if let Some(doom @ (Doom::CrashBefore | Doom::CrashAfter)) = doom {
                    self.crash(if doom == Doom::CrashAfter { n } else { 0 })?;
                    match self.ending {
                        true => self.exited = true,
                        false => self.start()?,
                    }
                    return Ok(true);
                }
                self.unreadable |= doom == Some(Doom::Unreadable);
                let fails = fails || doom == Some(Doom::Fails);
                self.note(|| format!("the disk {} {n} batches", if fails { "refuses" } else { "takes" }));
                self.count(if fails { "commits that failed" } else { "commits" });
                self.disk.commit(n, fails, self.step);
            }
            Move::Report => {
                if let Some(report) = self.disk.report() {
                    if let Input::CommitFailed(_) = report {
                        self.model.trouble = self.step;
                    }
                    self.note(|| format!("{report:?}"));
                    self.disk.make_unreadable(self.unreadable);
                    self.engine.handle(self.now, report);
                    self.disk.make_unreadable(false);
                    self.unreadable = false;
                    self.input(Input::Wake)?;
                }
            }
            Move::Hash => {
                if let Some(job) = self.hashing.pop_front() {
                    self.input(Input::Hashed(keys::run(job)))?;
                }
            }
            #[cfg(feature = "mam")]
            Move::Read => {
                if let Some(job) = self.reading.pop_front() {
                    let (id, reader) = (job.id, self.disk.open());
                    let done = Box::new(couplet::core::archive::whole(&*reader, *job));
                    self.input(Input::Archive { id, done })?;
                }
            }
            Move::Wake => self.input(Input::Wake)?,
            Move::Tick => self.tick()?,
            Move::Stall => {
                let conns: Vec<ConnId> = self.links.keys().copied().collect();
                if let Some(link) = self.links.get_mut(&self.rng.pick(&conns)) {
                    link.stalled = !link.stalled;
                }
            }
            Move::Drop => {
                let conns: Vec<ConnId> = self.links.keys().copied().collect();
                let conn = self.rng.pick(&conns);
                self.drop_link(conn);
            }
            Move::Crash => {
                let reached = self.rng.below(self.disk.waiting() + 1);
                self.crash(reached)?;
                self.start()?;
            }
        }
        Ok(true)
    }

    fn moves(&self, resting: bool) -> Vec<(u32, Move)> {
        let mut moves = Vec::new();
        let mut add = |weight: u32, next: Move| {
            if weight > 0 {
                moves.push((weight, next));
            }
        };
        for (conn, link) in &self.links {
            let conn = *conn;
            if link.client.is_none() {
                add(3, Move::Gone(conn));
            } else if link.closed && link.waiting == 0 {
                add(4, Move::End(conn));
            }
            if link.handshake && link.waiting == 0 && !link.closed {
                add(8, Move::Handshake(conn));
            }
            if !link.to_server.is_empty() && !link.paused && !link.closed && !link.handshake {
                add(8, Move::ToServer(conn));
            }
            if link.waiting > 0 && link.client.is_some() && (resting || !link.stalled) {
                add(8, Move::ToClient(conn));
            }
        }
        if self.disk.waits() {
            add(self.plan.disk_weight, Move::Commit);
        }
        if self.disk.reports() {
            add(8, Move::Report);
        }
        if !self.hashing.is_empty() {
            add(8, Move::Hash);
        }
        #[cfg(feature = "mam")]
        if !self.reading.is_empty() {
            add(4, Move::Read);
        }
        if self.engine.next_deadline().is_some_and(|at| at <= self.now.mono_ms) {
            add(8, Move::Wake);
        }
        if self.open {
            add(12, Move::Tick);
        }
        if !resting {
            for client in 0..self.clients.len() {
                add(self.act_weight(client), Move::Act(client));
            }
        }
        moves
    }

    /// What goes wrong now and then.
    fn misfortune(&mut self) -> Option<Move> {
        let (stall, drop, crash) = (self.plan.stall_permille, self.plan.drop_permille, self.plan.crash_permille);
        let (chance, connected) = (self.rng.below(1000), !self.links.is_empty());
        match chance {
            n if n < crash => Some(Move::Crash),
            n if n < crash + drop && connected => Some(Move::Drop),
            n if n < crash + drop + stall && connected => Some(Move::Stall),
            _ => None,
        }
    }

    /// Lets everything that is on its way arrive, until nothing moves any more.
    /// A long rest outlasts every session that waits to be resumed.
    pub fn rest(&mut self, long: bool) -> Check {
        let end = if long { u64::MAX } else { self.now.mono_ms + SHORT_REST_MS };
        self.stir();
        self.rested_long = long;
        for _ in 0..QUIET_STEPS_MAX {
            if self.happen(true)? || self.settle_counts() {
                continue;
            }
            // Only time can change something: a stream that nobody will ever use or close.
            match self.engine.next_deadline().filter(|at| *at < end) {
                Some(at) => self.pass(at.saturating_sub(self.now.mono_ms)),
                None => return Ok(()),
            }
        }
        broken(Invariant::EndsWell, "the world does not come to rest")
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.wall_ms += ms as i64;
    }

    /// The engine takes an input; now and then the tick ends with it.
    pub fn input(&mut self, input: Input<'_>) -> Check {
        self.engine.handle(self.now, input);
        self.open = true;
        if self.rng.percent(self.plan.tick_percent) { self.tick() } else { Ok(()) }
    }

    fn tick(&mut self) -> Check {
        self.open = false;
        self.engine.end_tick(self.now);
        while let Some(output) = self.engine.poll_output() {
            self.output(output)?;
        }
        if !self.engine.budget_is_sound() {
            return broken(Invariant::Bounded, "the sum of all charges is not what the budget says");
        }
        let (held, most) = (self.engine.held_most_bytes(), self.plan.held_max_bytes());
        if held > most {
            return broken(Invariant::Bounded, format!("{held} bytes are held for one client"));
        }
        Ok(())
    }

    fn output(&mut self, output: Output) -> Check {
        match output {
            Output::Write { conn, bytes } => {
                let step = self.step;
                self.note(|| format!("to {conn:?}: {}", String::from_utf8_lossy(&bytes)));
                let Some(link) = self.links.get_mut(&conn) else { return Ok(()) };
                if link.closed {
                    return broken(Invariant::NoBug, format!("written to {conn:?}, which is closed"));
                }
                if link.handshake {
                    return broken(Invariant::NoBug, format!("written to {conn:?}, which waits for TLS"));
                }
                let frames = match link.write(&bytes, step, &mut self.reader) {
                    Ok(frames) => frames,
                    Err(text) => return broken(Invariant::NoBug, text),
                };
                let (waiting, window) = (link.waiting, self.plan.limits.out_window_bytes as usize);
                let last = bytes.len().min(self.plan.stanza_bytes_max());
                if waiting > window + last {
                    return broken(Invariant::Bounded, format!("{waiting} bytes were handed to {conn:?} at once"));
                }
                for frame in frames {
                    if let Frame::Element(element) = frame {
                        self.left_server(conn, &element)?;
                    }
                }
            }
            Output::Close { conn } => {
                self.note(|| format!("{conn:?} is closed by the server"));
                let Some(link) = self.links.get_mut(&conn) else { return Ok(()) };
                link.closed = true;
                link.to_server.clear();
                let session = link.client.and_then(|client| self.clients[client].session);
                let plain = !link.managed && session.is_none_or(|s| !self.model.sessions[s].managed);
                for number in link.messages().filter(|_| plain).collect::<Vec<_>>() {
                    self.model.excuse(number);
                }
            }
            Output::Dial { conn, .. } => {
                self.note(|| format!("there is no other server for {conn:?}"));
                self.engine.handle(self.now, Input::DialFailed { conn, why: DialFailure::NotFound });
            }
            Output::StartTls { conn } => {
                if let Some(link) = self.links.get_mut(&conn) {
                    link.handshake = true;
                }
            }
            Output::PauseRead { conn } | Output::ResumeRead { conn } => {
                if let Some(link) = self.links.get_mut(&conn) {
                    link.paused = matches!(output, Output::PauseRead { .. });
                }
            }
            Output::Commit(batch) => self.disk.accept(batch),
            Output::Hash(job) => self.hashing.push_back(job),
            #[cfg(feature = "mam")]
            Output::Archive(job) => self.reading.push_back(job),
            Output::AdminReply { reply, .. } => self.replies.push(reply),
            #[cfg(feature = "http")]
            Output::Web(_) => {}
            Output::Shrink => {}
            Output::Reload { .. } => {}
            Output::Exit => self.exited = true,
            Output::Stop { .. } => self.engine.handle(self.now, Input::Shutdown),
        }
        Ok(())
    }

    /// A client connects.
    pub fn connect(&mut self, client: usize) -> Check {
        let direct_tls = self.rng.percent(70);
        let transport = if direct_tls { Transport::DirectTls } else { Transport::StartTls };
        let peer = IpAddr::V4(Ipv4Addr::new(10, 0, 0, client as u8));
        let Some(conn) = self.engine.accept(self.now, Role::Client, transport, peer) else {
            return broken(Invariant::NoBug, "a client was turned away");
        };
        self.open = true;
        let name = self.clients[client].name();
        self.note(|| format!("{name} connects as {conn:?}"));
        self.links.insert(conn, Link::new(client, direct_tls));
        self.clients[client].connected(conn, direct_tls);
        if !direct_tls {
            self.send_header(client);
        }
        Ok(())
    }

    fn handshake(&mut self, conn: ConnId) -> Check {
        let Some(link) = self.links.get_mut(&conn) else { return Ok(()) };
        link.handshake = false;
        let client = link.client;
        let facts = TlsFacts { tls13: true, exporter: Some([7; 32]), ..TlsFacts::default() };
        if let Some(client) = client {
            self.clients[client].tls();
            self.send_header(client);
        }
        self.input(Input::TlsReady { conn, facts })
    }

    fn carry_in(&mut self, conn: ConnId) -> Check {
        let Some(link) = self.links.get_mut(&conn) else { return Ok(()) };
        let len = link.to_server.len();
        let n = match self.rng.below(10) {
            0 => 1 + self.rng.below(8.min(len)),
            1 | 2 => 1 + self.rng.below(len),
            _ => len,
        };
        let rest = link.to_server.split_off(n);
        let data = std::mem::replace(&mut link.to_server, rest);
        self.input(Input::Bytes { conn, data: &data })
    }

    /// The client reads some of what waits for it, or that much.
    fn carry_out(&mut self, conn: ConnId, bytes: Option<usize>) -> Check {
        let Some(link) = self.links.get_mut(&conn) else { return Ok(()) };
        let some = if self.rng.percent(70) { link.waiting } else { 1 + self.rng.below(link.waiting) };
        let frames = link.take(bytes.unwrap_or(some));
        let (waiting, client, closed) = (link.waiting, link.client, link.closed);
        if let Some(client) = client {
            for flying in frames {
                self.arrived(client, flying)?;
            }
        }
        if closed { Ok(()) } else { self.input(Input::Wrote { conn, waiting_bytes: waiting }) }
    }

    /// The client vanishes; the engine learns of it later, and may still get some of its last bytes.
    pub fn drop_link(&mut self, conn: ConnId) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        let Some(client) = link.client.take() else { return };
        if self.rng.percent(50) {
            link.to_server.clear();
        }
        self.note(|| format!("the client of {conn:?} vanishes"));
        self.count("connections dropped");
        let Some(session) = self.clients[client].disconnected() else { return };
        self.model.sessions[session].alive = false;
        if let Some(link) = self.links.get_mut(&conn) {
            link.managed = self.model.sessions[session].managed;
        }
        if self.clients[client].managed.is_some() {
            self.lose(session);
        } else if let Some(link) = self.links.get_mut(&conn) {
            link.session = Some(session);
        }
    }

    /// Both sides are done with a connection.
    fn end_link(&mut self, conn: ConnId) {
        let Some(link) = self.links.remove(&conn) else { return };
        let session = match link.client {
            Some(client) => self.clients[client].disconnected(),
            None => link.session,
        };
        if let Some(session) = session {
            self.lose(session);
        }
    }

    /// The power goes when so much of what waits has reached the disk.
    fn crash(&mut self, reached: usize) -> Check {
        self.note(|| "the server crashes".to_string());
        self.count("crashes");
        self.disk.crash(reached, self.step);
        self.unreadable = false;
        // What was on the wire may still arrive.
        let conns: Vec<ConnId> = self.links.keys().copied().collect();
        for conn in conns {
            if let Some(link) = self.links.get_mut(&conn) {
                let bytes = self.rng.below(link.waiting + 1);
                link.closed = true;
                link.to_server.clear();
                if link.client.is_some() {
                    self.carry_out(conn, Some(bytes))?;
                }
            }
            self.end_link(conn);
        }
        self.hashing.clear();
        #[cfg(feature = "mam")]
        self.reading.clear();
        self.open = false;
        self.model.trouble = self.step;
        self.check_store()
    }

    /// The server starts on what is stored.
    fn start(&mut self) -> Check {
        self.now.mono_ms += 1_000;
        self.life += 1;
        (self.exited, self.ending) = (false, false);
        self.disk.restart();
        self.engine = new_engine(&self.plan, &self.disk, &mut self.rng, self.now)?;
        self.open = true;
        Ok(())
    }

    /// The operator ends the server.
    fn shut_down(&mut self) -> Check {
        self.note(|| "shutdown".to_string());
        self.count("shutdowns");
        self.ending = true;
        self.input(Input::Shutdown)?;
        for _ in 0..QUIET_STEPS_MAX {
            if self.exited {
                break;
            }
            let moved = self.happen(true)?;
            if !moved {
                match self.engine.next_deadline() {
                    Some(at) => self.pass(at.saturating_sub(self.now.mono_ms)),
                    None => break,
                }
            }
        }
        if !self.exited {
            return broken(Invariant::EndsWell, "the server was told to end and does not");
        }
        if self.links.values().any(|link| !link.closed && link.client.is_some()) {
            return broken(Invariant::EndsWell, "the server ended without closing all streams");
        }
        // What was written before the end still arrives.
        while let Some(conn) = self.links.keys().next().copied() {
            let waiting = self.links.get(&conn).map_or(0, |l| l.waiting);
            self.carry_out(conn, Some(waiting))?;
            self.end_link(conn);
        }
        self.hashing.clear();
        #[cfg(feature = "mam")]
        self.reading.clear();
        self.check_store()
    }

    /// Every client leaves, and nothing is held for anybody.
    fn all_leave(&mut self) -> Check {
        for client in 0..self.clients.len() {
            match self.clients[client].conn {
                Some(conn) if self.rng.percent(30) => self.drop_link(conn),
                Some(_) => self.close_stream(client),
                None => {}
            }
        }
        self.rest(true)?;
        if !self.links.is_empty() || self.clients.iter().any(|c| c.state != State::Away) {
            return broken(Invariant::EndsWell, "a stream was closed by its client and is still there");
        }
        self.check_nothing_held()
    }

    /// What the server says of itself.
    pub fn status(&mut self) -> Check<String> {
        self.tick()?;
        self.engine.handle(self.now, Input::Admin { id: 1, command: Command::Status });
        while let Some(output) = self.engine.poll_output() {
            self.output(output)?;
        }
        match self.replies.pop() {
            Some(reply) => Ok(reply.text),
            None => broken(Invariant::NoBug, "no answer to an operator"),
        }
    }
}

fn new_engine(plan: &Plan, disk: &Disk, rng: &mut Rng, now: Now) -> Check<Engine> {
    match Engine::new(plan.settings(), disk.open(), Box::new(rng.fork()), now) {
        Ok(engine) => Ok(engine),
        Err(error) => broken(Invariant::NothingLost, error.to_string()),
    }
}

pub fn password(account: &str) -> String {
    format!("secret of {account}")
}

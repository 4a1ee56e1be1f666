//! Two or three servers, their clients and disks, and the network between them: one thing happens at a time, chosen
//! by the seed.

use super::client::{Client, State};
use super::liar::Liar;
use super::model::{Model, domain};
use super::plan::Plan;
use super::wire::Wire;
use crate::disk::Disk;
use crate::model::{Check, Invariant, broken};
use crate::network::Link;
use crate::rng::Rng;
use couplet::clock::Now;
use couplet::core::admin::{Command, Reply};
use couplet::core::io::{ConnId, Input, Output, Role, Transport};
use couplet::engine::Engine;
use couplet::limits::Limits;
use couplet::stream::TlsFacts;
use couplet::stream::sasl::{HashJob, keys};
use couplet::xml::Reader;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use zeroize::Zeroizing;

/// One server, with all that is only its own.
pub struct Server {
    pub engine: Engine,
    pub disk: Disk,
    /// Of its clients, each with its number.
    pub links: BTreeMap<ConnId, Link>,
    /// Wires, and at which side it is.
    pub wires: BTreeMap<ConnId, (u64, usize)>,
    hashing: VecDeque<HashJob>,
    /// Inputs were handled since the last tick.
    pub open: bool,
    /// It has crashed and has not started again.
    pub down: bool,
    exited: bool,
    replies: Vec<Reply>,
}

/// An attempt to connect.
pub struct Dial {
    pub server: usize,
    pub conn: ConnId,
    pub domain: String,
}

pub struct World {
    pub plan: Plan,
    pub rng: Rng,
    pub step: u64,
    pub now: Now,
    pub servers: Vec<Server>,
    pub clients: Vec<Client>,
    pub wires: BTreeMap<u64, Wire>,
    pub liars: BTreeMap<u64, Liar>,
    pub dials: Vec<Dial>,
    pub model: Model,
    pub stats: BTreeMap<&'static str, u64>,
    pub reader: Reader,
    /// Of streams that liars have opened: to whom, in whose name, and the id.
    pub stream_ids: Vec<(usize, String, String)>,
    pub wire_ids: u64,
    /// Who has left stays away.
    leaving: bool,
    trace: Option<VecDeque<String>>,
}

/// Something that may happen next.
#[derive(Clone, Copy, Debug)]
enum Move {
    Act(usize),
    ToServer(usize, ConnId),
    ToClient(usize, ConnId),
    Handshake(usize, ConnId),
    End(usize, ConnId),
    Commit(usize),
    Report(usize),
    Hash(usize),
    Wake(usize),
    Tick(usize),
    Start(usize),
    /// An attempt to connect has an end.
    Dialed(usize),
    /// The socket at that side of a wire takes bytes.
    Take(u64, usize),
    /// Bytes reach that side.
    Deliver(u64, usize),
    /// TLS begins on a wire.
    Secure(u64),
    /// That side hears that the other is gone.
    Learn(u64, usize),
    /// A liar connects.
    Lie,
    /// A liar says something.
    Talk(u64),
    Drop,
    Cut,
    Crash,
}

/// Steps in which the world must come to rest.
const QUIET_STEPS_MAX: u32 = 100_000;

/// Longer than anything waits between servers, with the time that another attempt takes.
const REST_MS: u64 = 1_500_000;

impl World {
    pub fn new(seed: u64, traced: bool) -> Check<Self> {
        let mut rng = Rng::new(seed);
        let plan = Plan::new(&mut rng);
        let now = Now { mono_ms: 1_000, wall_ms: 1_700_000_000_000 };
        let mut servers = Vec::new();
        for server in 0..plan.domains.len() {
            let disk = Disk::new();
            servers.push(Server {
                engine: new_engine(&plan, server, &disk, &mut rng, now)?,
                disk,
                links: BTreeMap::new(),
                wires: BTreeMap::new(),
                hashing: VecDeque::new(),
                open: false,
                down: false,
                exited: false,
                replies: Vec::new(),
            });
        }
        let clients = plan.accounts.iter().map(|(account, server)| Client::new(account, *server)).collect();
        let mut world = Self {
            plan,
            rng,
            step: 0,
            now,
            servers,
            clients,
            wires: BTreeMap::new(),
            liars: BTreeMap::new(),
            dials: Vec::new(),
            model: Model::default(),
            stats: BTreeMap::new(),
            reader: Reader::new(&Limits::default()),
            stream_ids: Vec::new(),
            wire_ids: 0,
            leaving: false,
            trace: traced.then(VecDeque::new),
        };
        for (account, server) in world.plan.accounts.clone() {
            let password = Zeroizing::new(password(&account));
            world.input(server, Input::Admin { id: 0, command: Command::UserAdd { jid: account, password } })?;
        }
        while world.servers.iter().map(|s| s.replies.len()).sum::<usize>() < world.plan.accounts.len() {
            if !world.happen(true)? {
                return broken(Invariant::NoBug, "accounts are not added");
            }
        }
        world.servers.iter_mut().for_each(|s| s.replies.clear());
        Ok(world)
    }

    /// Everything of one seed.
    pub fn run(&mut self) -> Check {
        for _ in 0..self.plan.parts {
            for _ in 0..self.plan.steps {
                self.happen(false)?;
            }
            self.rest()?;
            for server in 0..self.servers.len() {
                let status = self.status(server, Command::S2sList)?;
                self.note(|| format!("server {server} says: {status}"));
            }
            self.check_at_rest()?;
        }
        self.leaving = true;
        for client in 0..self.clients.len() {
            self.close_stream(client);
        }
        self.rest()?;
        for server in 0..self.servers.len() {
            self.check_nothing_held(server)?;
        }
        for server in 0..self.servers.len() {
            self.shut_down(server)?;
        }
        Ok(())
    }

    pub fn trace(&self) -> impl Iterator<Item = &String> {
        self.trace.iter().flatten()
    }

    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            if trace.len() >= 6000 {
                trace.pop_front();
            }
            trace.push_back(format!("{:>6} {:>8} ms  {}", self.step, self.now.mono_ms, text()));
        }
    }

    pub fn count(&mut self, what: &'static str) {
        *self.stats.entry(what).or_default() += 1;
    }

    /// Which of the servers serves an address.
    pub fn server_of(&self, jid: &str) -> Option<usize> {
        self.plan.domains.iter().position(|d| d == domain(jid))
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
            Move::ToServer(server, conn) => self.carry_in(server, conn)?,
            Move::ToClient(server, conn) => self.carry_out(server, conn)?,
            Move::Handshake(server, conn) => self.handshake(server, conn)?,
            Move::End(server, conn) => self.end_link(server, conn)?,
            Move::Commit(server) => {
                let fails = !resting && self.rng.percent(self.plan.commit_fails_percent);
                let n = 1 + self.rng.below(self.servers[server].disk.waiting());
                self.count(if fails { "commits that failed" } else { "commits" });
                self.servers[server].disk.commit(n, fails, self.step);
            }
            Move::Report(server) => {
                if let Some(report) = self.servers[server].disk.report() {
                    if let Input::CommitFailed(_) = report {
                        self.model.trouble.insert(server, self.step);
                    }
                    self.input(server, report)?;
                }
            }
            Move::Hash(server) => {
                if let Some(job) = self.servers[server].hashing.pop_front() {
                    self.input(server, Input::Hashed(keys::run(job)))?;
                }
            }
            Move::Wake(server) => self.input(server, Input::Wake)?,
            Move::Tick(server) => self.tick(server)?,
            Move::Start(server) => self.start(server)?,
            Move::Dialed(dial) => self.answer_dial(dial, resting)?,
            Move::Take(wire, side) => self.take(wire, side)?,
            Move::Deliver(wire, side) => self.deliver(wire, side)?,
            Move::Secure(wire) => self.secure(wire, resting)?,
            Move::Learn(wire, side) => self.learn(wire, side)?,
            Move::Lie => self.liar_connects()?,
            Move::Talk(wire) => self.liar_talks(wire),
            Move::Drop => {
                let client = self.rng.below(self.clients.len());
                let server = self.clients[client].server;
                if let Some(conn) = self.clients[client].conn {
                    self.count("clients that vanished");
                    self.end_link(server, conn)?;
                }
            }
            Move::Cut => self.cut(),
            Move::Crash => {
                let server = self.rng.below(self.servers.len());
                if !self.servers[server].down {
                    self.crash(server)?;
                }
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
        for (n, server) in self.servers.iter().enumerate() {
            if server.down {
                add(if resting { 8 } else { 1 }, Move::Start(n));
                continue;
            }
            for (conn, link) in &server.links {
                let conn = *conn;
                if link.closed && link.waiting == 0 {
                    add(4, Move::End(n, conn));
                }
                if link.handshake && !link.closed {
                    add(8, Move::Handshake(n, conn));
                }
                if !link.to_server.is_empty() && !link.paused && !link.closed && !link.handshake {
                    add(8, Move::ToServer(n, conn));
                }
                if link.waiting > 0 {
                    add(8, Move::ToClient(n, conn));
                }
            }
            if server.disk.waits() {
                add(self.plan.disk_weight, Move::Commit(n));
            }
            if server.disk.reports() {
                add(8, Move::Report(n));
            }
            if !server.hashing.is_empty() {
                add(8, Move::Hash(n));
            }
            if server.engine.next_deadline().is_some_and(|at| at <= self.now.mono_ms) {
                add(8, Move::Wake(n));
            }
            if server.open {
                add(12, Move::Tick(n));
            }
        }
        for dial in 0..self.dials.len() {
            add(if resting { 8 } else { self.plan.dial_weight }, Move::Dialed(dial));
        }
        for (id, wire) in &self.wires {
            for side in [0, 1] {
                if !wire.ends[side].out.is_empty() {
                    add(8, Move::Take(*id, side));
                }
                if wire.delivers_to(side) {
                    add(8, Move::Deliver(*id, side));
                }
                if wire.ends_for(side) {
                    add(3, Move::Learn(*id, side));
                }
            }
            if wire.may_secure() {
                add(8, Move::Secure(*id));
            }
        }
        if !resting {
            for (id, liar) in &self.liars {
                add(if liar.may_talk() { self.plan.liar_weight } else { 0 }, Move::Talk(*id));
            }
            add(self.plan.liar_weight, Move::Lie);
        }
        for (n, client) in self.clients.iter().enumerate().filter(|(_, c)| !self.servers[c.server].down) {
            match client.state {
                State::Away if !self.leaving => add(2, Move::Act(n)),
                State::Online if !resting => add(4, Move::Act(n)),
                _ => {}
            }
        }
        moves
    }

    fn misfortune(&mut self) -> Option<Move> {
        let (drop, cut, crash) = (self.plan.drop_permille, self.plan.cut_permille, self.plan.crash_permille);
        match self.rng.below(1000) {
            n if n < crash => Some(Move::Crash),
            n if n < crash + drop => Some(Move::Drop),
            n if n < crash + drop + cut => Some(Move::Cut),
            _ => None,
        }
    }

    /// Lets everything that is on its way arrive, until nothing moves any more.
    fn rest(&mut self) -> Check {
        let end = self.now.mono_ms + REST_MS;
        self.stir();
        for _ in 0..QUIET_STEPS_MAX {
            if self.happen(true)? || self.settle_counts() {
                continue;
            }
            match self.next_deadline().filter(|at| *at < end) {
                Some(at) => self.pass(at.saturating_sub(self.now.mono_ms)),
                None => return Ok(()),
            }
        }
        broken(Invariant::EndsWell, "the world does not come to rest")
    }

    fn next_deadline(&self) -> Option<u64> {
        self.servers.iter().filter_map(|s| s.engine.next_deadline()).min()
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.wall_ms += ms as i64;
    }

    /// A server takes an input; now and then the tick ends with it.
    pub fn input(&mut self, server: usize, input: Input<'_>) -> Check {
        self.servers[server].engine.handle(self.now, input);
        self.servers[server].open = true;
        if self.rng.percent(self.plan.tick_percent) { self.tick(server) } else { Ok(()) }
    }

    fn tick(&mut self, server: usize) -> Check {
        self.servers[server].open = false;
        self.servers[server].engine.end_tick(self.now);
        while let Some(output) = self.servers[server].engine.poll_output() {
            self.output(server, output)?;
        }
        self.check_bounds(server)
    }

    fn output(&mut self, server: usize, output: Output) -> Check {
        let domain = self.plan.domains[server].clone();
        match output {
            Output::Write { conn, bytes } => {
                let step = self.step;
                self.note(|| format!("{domain} to {conn:?}: {}", String::from_utf8_lossy(&bytes)));
                if let Some((id, side)) = self.servers[server].wires.get(&conn).copied() {
                    let Some(wire) = self.wires.get_mut(&id) else { return Ok(()) };
                    if !wire.ends[side].open {
                        return broken(Invariant::NoBug, format!("{domain} writes to {conn:?}, which is closed"));
                    }
                    wire.ends[side].out.extend_from_slice(&bytes);
                    self.overhear(id, &bytes);
                    return Ok(());
                }
                let Some(link) = self.servers[server].links.get_mut(&conn) else { return Ok(()) };
                match link.write(&bytes, step, &mut self.reader) {
                    Ok(_) => {}
                    Err(text) => return broken(Invariant::NoBug, text),
                }
            }
            Output::Close { conn } => {
                self.note(|| format!("{domain} closes {conn:?}"));
                self.dials.retain(|dial| (dial.server, dial.conn) != (server, conn));
                if let Some((wire, side)) = self.servers[server].wires.remove(&conn) {
                    self.closed(wire, side);
                } else if let Some(link) = self.servers[server].links.get_mut(&conn) {
                    link.closed = true;
                    link.to_server.clear();
                }
            }
            Output::Dial { conn, domain: to, .. } => {
                self.note(|| format!("{domain} looks for {to} as {conn:?}"));
                self.dials.push(Dial { server, conn, domain: to });
            }
            Output::StartTls { conn } => {
                if let Some((wire, side)) = self.servers[server].wires.get(&conn)
                    && let Some(wire) = self.wires.get_mut(wire)
                {
                    wire.ends[*side].wants_tls = true;
                }
            }
            Output::PauseRead { conn } | Output::ResumeRead { conn } => {
                let paused = matches!(output, Output::PauseRead { .. });
                if let Some((wire, side)) = self.servers[server].wires.get(&conn)
                    && let Some(wire) = self.wires.get_mut(wire)
                {
                    wire.ends[*side].paused = paused;
                } else if let Some(link) = self.servers[server].links.get_mut(&conn) {
                    link.paused = paused;
                }
            }
            Output::Commit(batch) => self.servers[server].disk.accept(batch),
            Output::Hash(job) => self.servers[server].hashing.push_back(job),
            #[cfg(feature = "mam")]
            Output::Archive(job) => {
                let (id, reader) = (job.id, self.servers[server].disk.open());
                let done = Box::new(couplet::core::archive::whole(&*reader, *job));
                self.servers[server].engine.handle(self.now, Input::Archive { id, done });
            }
            #[cfg(feature = "http")]
            Output::Web(_) => {}
            Output::Shrink => {}
            Output::AdminReply { reply, .. } => self.servers[server].replies.push(reply),
            Output::Reload { .. } | Output::Stop { .. } => {}
            Output::Exit => self.servers[server].exited = true,
        }
        Ok(())
    }

    // Clients.

    pub fn connect(&mut self, client: usize) -> Check {
        let server = self.clients[client].server;
        let peer = IpAddr::V4(Ipv4Addr::new(10, 0, 0, client as u8));
        let Some(conn) = self.servers[server].engine.accept(self.now, Role::Client, Transport::DirectTls, peer) else {
            return broken(Invariant::NoBug, "a client was turned away");
        };
        self.servers[server].open = true;
        self.servers[server].links.insert(conn, Link::new(client, true));
        let c = &mut self.clients[client];
        (c.conn, c.state) = (Some(conn), State::Greeting);
        Ok(())
    }

    fn handshake(&mut self, server: usize, conn: ConnId) -> Check {
        let Some(link) = self.servers[server].links.get_mut(&conn) else { return Ok(()) };
        link.handshake = false;
        if let Some(client) = link.client {
            self.send_header(client);
        }
        let facts = TlsFacts { tls13: true, exporter: Some([7; 32]), ..TlsFacts::default() };
        self.input(server, Input::TlsReady { conn, facts })
    }

    fn carry_in(&mut self, server: usize, conn: ConnId) -> Check {
        let Some(link) = self.servers[server].links.get_mut(&conn) else { return Ok(()) };
        let len = link.to_server.len();
        let n = if self.rng.percent(20) { 1 + self.rng.below(len) } else { len };
        let rest = link.to_server.split_off(n);
        let data = std::mem::replace(&mut link.to_server, rest);
        self.input(server, Input::Bytes { conn, data: &data })
    }

    fn carry_out(&mut self, server: usize, conn: ConnId) -> Check {
        let Some(link) = self.servers[server].links.get_mut(&conn) else { return Ok(()) };
        let some = if self.rng.percent(70) { link.waiting } else { 1 + self.rng.below(link.waiting) };
        let frames = link.take(some);
        let (waiting, client, closed) = (link.waiting, link.client, link.closed);
        if let Some(client) = client {
            for flying in frames {
                self.arrived(client, flying)?;
            }
        }
        if closed { Ok(()) } else { self.input(server, Input::Wrote { conn, waiting_bytes: waiting }) }
    }

    /// The connection of a client is no more.
    fn end_link(&mut self, server: usize, conn: ConnId) -> Check {
        let Some(link) = self.servers[server].links.remove(&conn) else { return Ok(()) };
        if let Some(client) = link.client {
            self.lose(client);
        }
        if link.closed { Ok(()) } else { self.input(server, Input::Closed { conn }) }
    }

    // Servers that end and begin.

    /// The power goes.
    fn crash(&mut self, server: usize) -> Check {
        let reached = self.rng.below(self.servers[server].disk.waiting() + 1);
        self.note(|| format!("server {server} crashes"));
        self.count("crashes");
        self.model.trouble.insert(server, self.step);
        let step = self.step;
        self.servers[server].disk.crash(reached, step);
        self.servers[server].down = true;
        self.servers[server].open = false;
        self.servers[server].hashing.clear();
        self.dials.retain(|dial| dial.server != server);
        let conns: Vec<ConnId> = self.servers[server].links.keys().copied().collect();
        for conn in conns {
            let Some(mut link) = self.servers[server].links.remove(&conn) else { continue };
            let bytes = self.rng.below(link.waiting + 1);
            if let Some(client) = link.client {
                for flying in link.take(bytes) {
                    self.arrived(client, flying)?;
                }
                self.lose(client);
            }
        }
        let ends: Vec<(u64, usize)> = std::mem::take(&mut self.servers[server].wires).into_values().collect();
        for (id, side) in ends {
            let deaf = self.rng.percent(self.plan.silent_percent);
            let Some(wire) = self.wires.get_mut(&id) else { continue };
            let keep = self.rng.below(wire.ends[side].pipe.len() + 1);
            wire.ends[side].pipe.truncate(keep);
            wire.ends[side].out.clear();
            wire.ends[Wire::other(side)].is_deaf |= deaf;
            self.closed(id, side);
        }
        Ok(())
    }

    fn start(&mut self, server: usize) -> Check {
        self.note(|| format!("server {server} starts"));
        self.servers[server].disk.restart();
        let engine = new_engine(&self.plan, server, &self.servers[server].disk, &mut self.rng, self.now)?;
        let s = &mut self.servers[server];
        (s.engine, s.down, s.open, s.exited) = (engine, false, true, false);
        Ok(())
    }

    fn shut_down(&mut self, server: usize) -> Check {
        self.input(server, Input::Shutdown)?;
        for _ in 0..QUIET_STEPS_MAX {
            if self.servers[server].exited {
                return Ok(());
            }
            if !self.happen(true)? {
                match self.next_deadline() {
                    Some(at) => self.pass(at.saturating_sub(self.now.mono_ms)),
                    None => break,
                }
            }
        }
        broken(Invariant::EndsWell, "a server was told to end and does not")
    }

    pub fn is_down(&self, server: usize) -> bool {
        self.servers[server].down
    }

    /// What a server says of itself.
    pub fn status(&mut self, server: usize, command: Command) -> Check<String> {
        self.tick(server)?;
        self.servers[server].engine.handle(self.now, Input::Admin { id: 1, command });
        while let Some(output) = self.servers[server].engine.poll_output() {
            self.output(server, output)?;
        }
        match self.servers[server].replies.pop() {
            Some(reply) => Ok(reply.text),
            None => broken(Invariant::NoBug, "no answer to an operator"),
        }
    }
}

fn new_engine(plan: &Plan, server: usize, disk: &Disk, rng: &mut Rng, now: Now) -> Check<Engine> {
    match Engine::new(plan.settings(server), disk.open(), Box::new(rng.fork()), now) {
        Ok(engine) => Ok(engine),
        Err(error) => broken(Invariant::NothingLost, error.to_string()),
    }
}

pub fn password(account: &str) -> String {
    format!("secret of {account}")
}

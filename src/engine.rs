//! The whole server as one struct: inputs in, outputs out, no socket, no thread, no clock.
//!
//! Each thing that happens (a stanza, a login, a timer) is one *step*: it writes to a scratch batch of its own and
//! collects what it wants delivered. When it returns, the batch joins the tick's and the deliveries go to their queues
//! with the ticket that they must wait for. When it fails by a bug of ours, both are dropped and the connection closed.

mod accounts;
mod admin;
#[cfg(feature = "mam")]
mod archive;
#[macro_use]
mod client;
#[cfg(feature = "commands")]
mod commands;
#[cfg(feature = "compression")]
mod compression;
mod ending;
mod failed;
#[cfg(feature = "http")]
mod figures;
mod gate;
mod guard;
mod haste;
mod invites;
mod login;
mod managed;
mod memory;
#[cfg(feature = "import")]
mod moving;
mod pace;
mod parking;
mod remote;
mod timers;
#[cfg(feature = "http")]
mod web;

use crate::budget::{Budget, Charge, Kind as Held, allocated};
use crate::clock::{Entropy, Now};
use crate::core::Core;
use crate::core::caps::Capabilities;
use crate::core::disco::{Disco, Discos};
use crate::core::flat::{Flat, relax};
use crate::core::flight::{Receipt, Sender};
use crate::core::out_queue::OutQueue;
use crate::core::register::Visit;
use crate::core::session::{SessionId, Sessions};
use crate::core::settings;
use crate::core::slab::Slab;
use crate::core::spool::Spool;
use crate::fault::{Fault, armed, trip};
use crate::metrics::{AllLeft, Counters};
use crate::modules::{self, Modules};
use crate::pipeline::{self, Delivery, Target};
use crate::stanza::{IqType, Kind, MessageType, Stanza};
use crate::storage::{COMMIT_BYTES_MAX, Reader, StoreError, Ticket, View};
use crate::stream::management;
use crate::stream::{C2s, StreamError};
use crate::xml;
use gate::Doors;
use guard::Met;
use managed::{Managed, Owed};
use pace::{Pace, Pause};
use remote::{PeerId, Remotes};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

pub use crate::core::io::{ConnId, Input, Output, Role, Transport};

const LOG: &str = "couplet::engine";

/// The configuration of the engine.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Of the core.
    pub core: settings::Settings,
    /// Of the modules.
    pub modules: modules::Config,
}

/// How long nothing must have been refused for want of room before it is news again, in milliseconds.
const ROOM_AGAIN_MS: u64 = 60_000;

/// What the engine knows of one client connection.
struct Conn {
    stream: C2s,
    peer: IpAddr,
    out: OutQueue,
    session: Option<SessionId>,
    charge: Charge,
    /// Of what the shell holds for it.
    socket: Charge,
    /// Bytes that the shell has not got rid of yet.
    waiting_bytes: usize,
    /// When it must be done with what it is doing: logging in, or closing.
    deadline_ms: Option<u64>,
    /// Nothing more is read; it goes when its queue is empty.
    ends: bool,
    /// How fast it may send, and why nothing is read.
    pace: Pace,
    /// The session that it is to go on with.
    resuming: Option<SessionId>,
}

/// What a point in time is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A connection must be done with what it is doing.
    Conn(ConnId),
    /// It may be read again.
    Pace(ConnId),
    /// Its login is looked at.
    Login(ConnId),
    /// What waits for these is to be on disk.
    Spool(Holder),
    /// This session was not resumed.
    Parked(SessionId),
    /// Another server is to be tried again, or what waits for it goes back.
    Peer(PeerId),
    /// This session's client may owe an acknowledgement for too long.
    Late(SessionId),
    /// What could not be written is written once more.
    Retry,
    /// Memory is short: the process is weighed again.
    Weigh,
    /// Little may have happened for a while.
    Rest,
    /// Archives are swept.
    #[cfg(feature = "mam")]
    Archive,
    /// The process is to end, as an administrator has said; true for a restart.
    #[cfg(feature = "commands")]
    Stop(bool),
    /// A module has waited for it.
    Modules,
}

/// Who has a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Holder {
    /// A session, with or without connection.
    Session(SessionId),
    /// Another server, with or without connection.
    Peer(PeerId),
}

/// How long what could not be written waits for another attempt.
const RETRY_MS: u64 = 1000;

/// What a tick takes in any case.
const TICK_BYTES_MIN: usize = 65_536;

/// Who waits for the hashing thread.
enum HashOwner {
    Login(ConnId),
    Account(Box<accounts::Pending>),
}

/// The server.
pub struct Engine {
    core: Core,
    modules: Modules,
    reader: xml::Reader,
    conns: Slab<Conn>,
    budget: Budget,
    outputs: VecDeque<Output>,
    /// Of connections that are compressed.
    #[cfg(feature = "compression")]
    codecs: BTreeMap<ConnId, Box<crate::stream::compression::Codec>>,
    /// Connections that have something to say.
    dirty: BTreeSet<ConnId>,
    timers: Flat<(u64, Timer), ()>,
    /// Sessions with stream management.
    managed: Flat<SessionId, Box<Managed>>,
    /// Acknowledgements of sessions that modules watch.
    owed: BTreeMap<SessionId, Owed>,
    /// Receipts that wait for a batch.
    spooling: Vec<(Ticket, Receipt)>,
    /// Parked sessions that hold too much.
    overfull: Vec<SessionId>,
    /// What is charged for the parts that have no charge for each of their holders.
    parts: memory::Parts,
    /// Clients that wait for the disk to catch up.
    hasty: Vec<ConnId>,
    /// Connections whose question is answered: they have more to say.
    again: Vec<ConnId>,
    /// Those that have more to say than the tick could take, each with when that was read; those of them whose turn it
    /// is in this one; and those who have it now.
    later: Vec<(ConnId, u32)>,
    due: Vec<(ConnId, u32)>,
    turns: Vec<(ConnId, u32)>,
    /// What the tick has taken so far.
    tick_bytes: usize,
    /// The tick has ended, and connections are being flushed.
    flushes: bool,
    /// Stanzas that have left and that the shell has not asked for.
    left: AllLeft,
    /// When what is being handled was read, if not in this tick.
    read_ms: Option<u32>,
    /// By the number of the job; at most `limits.hash_queue_max`.
    hashing: Vec<(u64, HashOwner)>,
    hash_ids: u64,
    /// Outlines of stanzas whose effect is not durable yet. When that fails, their senders are told.
    unproven: VecDeque<(Ticket, Sender, Stanza)>,
    /// Who got an answer of ours in the last step.
    answered: Vec<Holder>,
    /// Other servers.
    remotes: Remotes,
    /// Connections of HTTP.
    #[cfg(feature = "http")]
    guests: web::Guests,
    /// Answers to operators that wait for the disk.
    replies: Vec<(Ticket, admin::Door, crate::core::admin::Reply)>,
    /// What strangers have shown, for as long as they are that.
    visits: BTreeMap<ConnId, Visit>,
    /// Answers to strangers that wait for the disk: the request of each.
    registering: Vec<(Ticket, ConnId, Stanza)>,
    /// Logins that wait for the disk.
    logins: Vec<login::Waiting>,
    /// Connections that have logged in, in that order: those that have no session yet, and some that are gone.
    unbound: Vec<ConnId>,
    /// For the salts of accounts that do not exist, and resources that stay the same.
    secret: [u8; 32],
    /// Who comes from where, and logs in.
    doors: Doors,
    /// Queries of archives.
    #[cfg(feature = "mam")]
    line: archive::Line,
    /// When there is a [`Timer::Modules`].
    modules_due_ms: Option<u64>,
    /// More timers were due than one tick takes.
    overdue: bool,
    shutting_down: bool,
    exited: bool,
    panics: VecDeque<u64>,
    /// When a write was last refused for want of room, until one goes well that comes [`ROOM_AGAIN_MS`] behind it:
    /// what frees room goes well all the time.
    full_ms: Option<u64>,
}

impl Engine {
    /// A server without connections.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn new(
        mut settings: Settings,
        store: Box<dyn Reader>,
        mut entropy: Box<dyn Entropy>,
        now: Now,
    ) -> Result<Self, StoreError> {
        let mut view = View::new(store)?;
        view.set_known_max(settings.core.memory.known_max_bytes());
        let secret = admin::server_secret(&mut view, &mut *entropy)?;
        let modules = Modules::new(&settings.modules);
        modules.settle(&mut settings.core);
        let limits = &settings.core.limits;
        let reader = xml::Reader::new(limits);
        let budget = Budget::new(settings.core.memory.max_bytes, settings.core.memory.warning_percent);
        let core = Core {
            now,
            started: now,
            disco: collect_disco(&modules, &settings.core),
            settings: Rc::new(settings.core),
            view,
            sessions: Sessions::default(),
            caps: Capabilities::default(),
            entropy,
            counters: Counters::default(),
            spool: Spool::default(),
            #[cfg(feature = "mam")]
            archives: crate::core::archive::Archives::default(),
            changed: BTreeSet::new(),
            waits: Vec::new(),
            missed: modules.hears_missed().then(Vec::new),
            ended_unchecked: 0,
            queue: VecDeque::new(),
            ask: None,
            sheds: false,
            #[cfg(feature = "http")]
            web: crate::core::web::Web::new(&secret),
        };
        let mut engine = Self {
            core,
            modules,
            reader,
            conns: Slab::default(),
            budget,
            outputs: VecDeque::new(),
            #[cfg(feature = "compression")]
            codecs: BTreeMap::new(),
            dirty: BTreeSet::new(),
            timers: Flat::default(),
            managed: Flat::default(),
            owed: BTreeMap::new(),
            spooling: Vec::new(),
            overfull: Vec::new(),
            parts: memory::Parts::default(),
            hasty: Vec::new(),
            again: Vec::new(),
            later: Vec::new(),
            due: Vec::new(),
            turns: Vec::new(),
            tick_bytes: 0,
            flushes: false,
            left: AllLeft::default(),
            read_ms: None,
            hashing: Vec::new(),
            hash_ids: 0,
            unproven: VecDeque::new(),
            answered: Vec::new(),
            remotes: Remotes::default(),
            #[cfg(feature = "http")]
            guests: web::Guests::default(),
            replies: Vec::new(),
            visits: BTreeMap::new(),
            registering: Vec::new(),
            logins: Vec::new(),
            unbound: Vec::new(),
            secret,
            doors: Doors::default(),
            #[cfg(feature = "mam")]
            line: archive::Line::default(),
            modules_due_ms: None,
            overdue: false,
            shutting_down: false,
            exited: false,
            panics: VecDeque::new(),
            full_ms: None,
        };
        engine.restore()?;
        engine.restore_remote()?;
        #[cfg(feature = "mam")]
        engine.archive_start();
        engine.arm_modules();
        Ok(engine)
    }

    /// Takes over new settings at a reload. Connections that are open keep theirs until they are opened again; those
    /// with servers that are not to be spoken with end.
    pub fn reconfigure(&mut self, mut settings: Settings) {
        self.modules.reconfigure(&settings.modules);
        self.modules.settle(&mut settings.core);
        self.core.disco = collect_disco(&self.modules, &settings.core);
        self.core.missed = self.modules.hears_missed().then(Vec::new);
        self.reader.set_limits(&settings.core.limits);
        self.budget.set_max_bytes(settings.core.memory.max_bytes, settings.core.memory.warning_percent);
        self.core.view.set_known_max(settings.core.memory.known_max_bytes());
        self.core.settings = Rc::new(settings.core);
        self.enforce_s2s_policy();
    }

    fn take(&mut self, input: Input<'_>) {
        match input {
            Input::Bytes { conn, data } if self.is_link(conn) => self.link_bytes(conn, data),
            Input::Bytes { conn, data } => self.bytes(conn, data),
            Input::TlsReady { conn, facts } if self.is_link(conn) => self.link_secured(conn, &facts),
            Input::TlsReady { conn, facts } => {
                if let Some(c) = self.conns.get_mut(conn.0) {
                    c.stream.facts(&facts);
                }
                self.drive(conn);
            }
            Input::Dialed { conn, tls } => self.dialed(conn, tls.as_ref()),
            Input::DialFailed { conn, why } => self.dial_failed(conn, &why),
            Input::Closed { conn } if self.is_link(conn) => self.end_link(conn, None),
            #[cfg(feature = "http")]
            Input::Closed { conn } if self.is_guest(conn) => self.end_guest(conn),
            Input::Closed { conn } => {
                self.park(conn);
                self.end_conn(conn);
            }
            Input::Wrote { conn, waiting_bytes } if self.is_link(conn) => self.link_wrote(conn, waiting_bytes),
            Input::Wrote { conn, waiting_bytes } => {
                #[cfg(feature = "compression")]
                let unknown_bytes = self.waiting_of(conn, waiting_bytes);
                #[cfg(not(feature = "compression"))]
                let unknown_bytes = waiting_bytes;
                if let Some(c) = self.conns.get_mut(conn.0) {
                    c.waiting_bytes = waiting_bytes;
                    self.dirty.insert(conn);
                    let arrived = c.out.taken(unknown_bytes);
                    if !arrived.is_empty() {
                        self.arrived(arrived);
                    }
                }
            }
            Input::Held { conn, bytes } => self.held(conn, bytes),
            Input::Weighed { rss_bytes } => self.budget.measured(rss_bytes),
            Input::Committed(upto) => self.committed(upto),
            Input::CommitFailed(error) => self.commit_failed(&error),
            Input::Hashed(result) => self.hashed(result),
            #[cfg(feature = "mam")]
            Input::Archive { id, done } => self.archive_done(id, *done),
            Input::Wake => self.wake(),
            Input::Admin { id, command } => self.admin(&admin::Door::Socket(id), command),
            Input::Shutdown => self.shutdown(),
        }
        self.drive_again();
    }

    fn close_tick(&mut self) {
        while let Some(session) = self.overfull.pop() {
            // One that was resumed in this tick is its connection's to bound.
            if self.managed.get(&session).is_none_or(|managed| managed.lot.is_none()) {
                continue;
            }
            log::info!(target: LOG, "a session without connection ends: too much waits for it");
            self.end_session(session);
        }
        self.drive_again();
        #[cfg(feature = "mam")]
        self.archive_pump();
        #[cfg(feature = "http")]
        self.tell_web();
        self.weigh();
        self.arm_modules();
        if let Some(batch) = self.core.view.close_batch() {
            self.outputs.push_back(Output::Commit(batch));
        }
        self.tick_bytes = 0;
        self.due.append(&mut self.later);
        self.flushes = true;
    }

    /// All connections have said what they had to say.
    fn flushed(&mut self) {
        self.flushes = false;
        relax(&mut self.outputs);
        // What connections leave that are closed by that.
        if let Some(batch) = self.core.view.close_batch() {
            self.outputs.push_back(Output::Commit(batch));
        }
        if self.shutting_down && self.conns.is_empty() && self.remotes.is_quiet() && self.core.view.pending_bytes() == 0
        {
            self.exit();
        }
    }

    /// True when so much was read, said and written in this tick that it should end; what was read and not handled
    /// waits.
    pub fn is_sated(&self) -> bool {
        let limits = &self.core.settings.limits;
        self.core.view.open_bytes() > COMMIT_BYTES_MAX / 2
            || self.tick_bytes
                > (limits.tick_bytes_max as usize).min((self.budget.spare_bytes() / 4).max(TICK_BYTES_MIN))
    }

    /// True when a connection has more to say than this tick could take, more timers were due, more servers wait to be
    /// dialed, or more goes back for want of memory: the next is due at once.
    pub fn has_more(&self) -> bool {
        !self.later.is_empty() || !self.due.is_empty() || self.overdue || self.parts.has_more
    }

    /// A connection has more to say than this tick can take: it goes on with the next, and nothing is read meanwhile.
    fn put_off(&mut self, conn: ConnId) {
        self.later.push((conn, self.read_ms.unwrap_or_else(|| self.core.now.stamp())));
        self.pause(conn, Pause::Tick, true);
        self.dirty.insert(conn);
    }

    fn drive_again(&mut self) {
        self.bring_all_back();
        while let Some((conn, read_ms)) =
            self.again.pop().map(|conn| (conn, None)).or_else(|| self.turns.pop().map(|(conn, ms)| (conn, Some(ms))))
        {
            self.read_ms = read_ms;
            self.guard("an answer", Met::Conn(conn), &mut |engine| match engine.is_link(conn) {
                true => engine.drive_link(conn),
                false => engine.drive(conn),
            });
            self.read_ms = None;
            self.bring_all_back();
        }
    }

    /// The next thing to do; none when the tick has nothing more. Connections are flushed one by one, so that what they
    /// say need not be in memory at once.
    pub fn poll_output(&mut self) -> Option<Output> {
        loop {
            let output = self.outputs.pop_front();
            if output.is_some() || !self.flushes {
                return output;
            }
            match self.dirty.pop_first() {
                Some(conn) => self.guard("what leaves", Met::Conn(conn), &mut |engine| engine.flush(conn)),
                None => self.guard("the end of a tick", Met::Store, &mut Self::flushed),
            }
        }
    }

    /// When [`Input::Wake`] is due, on the clock of [`Now::mono_ms`].
    pub fn next_deadline(&self) -> Option<u64> {
        if self.has_more() {
            return Some(self.core.now.mono_ms);
        }
        self.timers.first_key().map(|(at, _)| *at)
    }

    /// Runs one step; see the module's description. Returns what its promises wait for; none when it failed by a bug of
    /// ours.
    fn step(&mut self, what: &str, step: impl FnOnce(&mut Core, &mut Modules)) -> Option<Ticket> {
        let mut deliveries = Vec::new();
        self.answered.clear();
        let read_ms = self.read_ms.unwrap_or_else(|| self.core.now.stamp());
        self.core.view.begin();
        let (core, modules) = (&mut self.core, &mut self.modules);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            step(core, modules);
            pipeline::run(core, modules, &mut deliveries);
            parking::renew(core, modules)
        }));
        let Ok(renewed) = outcome else {
            self.core.view.drop_scratch();
            self.core.queue.clear();
            self.core.ask = None;
            self.core.changed.clear();
            self.core.waits.clear();
            self.core.missed.iter_mut().for_each(Vec::clear);
            #[cfg(feature = "mam")]
            self.core.archives.forget_step();
            self.caught(what);
            return None;
        };
        relax(&mut self.core.queue);
        let ticket = self.core.view.ticket();
        self.core.view.join();
        #[cfg(feature = "mam")]
        self.archive_asked();
        self.renewed(&renewed, ticket);
        for Delivery { to, mut parcel, promise, urgency } in deliveries {
            let holder = match to {
                Target::Session(session) => Some(Holder::Session(session)),
                Target::Server => self.peer_for(&parcel).map(Holder::Peer),
            };
            if promise && !armed(Fault::PromiseEarly) {
                parcel.after = ticket;
                if matches!(parcel.kind, Kind::Iq(IqType::Result | IqType::Error) | Kind::Message(MessageType::Error)) {
                    self.answered.extend(holder);
                }
            }
            parcel.read_ms = if parcel.row().is_some() { 0 } else { read_ms };
            // What was written for it in this step is there then, too.
            if let Some(keep) = parcel.keep.as_mut().filter(|keep| keep.row.is_some() && promise) {
                keep.row_after = ticket;
            }
            match holder {
                Some(Holder::Session(session)) => self.hand_over(session, parcel, urgency),
                Some(Holder::Peer(peer)) => self.hand_to_peer(peer, parcel),
                None => self.bring_back(parcel, remote::FULL),
            }
        }
        for (session, wait_s) in std::mem::take(&mut self.core.waits) {
            self.wait_anew(session, wait_s);
        }
        Some(ticket)
    }

    /// Hands to the shell what may leave.
    fn flush(&mut self, id: ConnId) {
        if self.is_link(id) {
            return self.flush_link(id);
        }
        trip(Fault::PanicFlush);
        let durable = self.core.view.durable();
        let limits = self.core.settings.limits.clone();
        let Some(c) = self.conns.get_mut(id.0) else { return };
        let window = (limits.out_window_bytes as usize).saturating_sub(c.waiting_bytes);
        let (mut bytes, mut managed_bytes, mut asks) = (Vec::new(), 0, None);
        if window > 0 {
            let unacked_max = limits.sm_unacked_max as usize;
            c.out.flush(durable, window, unacked_max, &mut bytes, &mut self.left.clients);
            while bytes.len() < window
                && let Some((to, row)) = c.out.wants(durable, unacked_max)
            {
                c.out.bring(self.core.spool_tail(&to, row));
                c.out.flush(durable, window, unacked_max, &mut bytes, &mut self.left.clients);
            }
            let managed = c.session.and_then(|session| self.managed.get_mut(&session));
            if let Some(managed) = managed.filter(|_| c.out.counts().is_some()) {
                managed_bytes = size_of::<Managed>() + managed.inbound.heap_bytes();
                // Whose message came back is told that first: the count alone would say that it is safe.
                if managed.inbound.progress(durable) && !c.out.refuses() {
                    management::write_ack(managed.inbound.answer(), &mut bytes);
                }
                if c.out.ask() {
                    management::write_ask(&mut bytes);
                    asks = c.session;
                }
            }
        }
        #[cfg(feature = "compression")]
        let (bytes, codec_bytes) = self.deflate(id, bytes);
        #[cfg(feature = "compression")]
        let Some(c) = self.conns.get_mut(id.0) else { return };
        #[cfg(feature = "compression")]
        let managed_bytes = managed_bytes + codec_bytes;
        let waiting_bytes = c.waiting_bytes + bytes.len();
        c.waiting_bytes = waiting_bytes;
        let held = managed_bytes + c.stream.heap_bytes() + c.out.held_bytes() + allocated(waiting_bytes);
        self.budget.settle(Held::Connections, &mut c.charge, size_of::<Conn>() + held);
        if let Some(session) = c.session.and_then(|id| self.core.sessions.get_mut(id)) {
            let bytes = session.held_bytes();
            self.budget.settle(Held::Sessions, &mut session.charge, bytes);
        }
        let done = c.ends && c.out.is_empty();
        let pauses = match c.ends {
            true => c.pace.clear(),
            false => c.pace.set(Pause::Question, c.stream.is_asking()),
        };
        self.outputs.extend(pauses.map(|pauses| pace::reading(id, pauses)));
        let sheds = c.out.held_bytes() > limits.out_bytes_max as usize && !armed(Fault::QueueUnbounded);
        // What the shell has got, it writes before it closes.
        let arrived = if done || sheds { c.out.taken(0) } else { Vec::new() };
        if !bytes.is_empty() {
            self.outputs.push_back(Output::Write { conn: id, bytes });
        }
        if done {
            self.arrived(arrived);
            self.end_conn(id);
            self.outputs.push_back(Output::Close { conn: id });
        } else if sheds {
            log::info!(target: LOG, "closing {}: {held} bytes wait for a peer that does not read", c.peer);
            self.arrived(arrived);
            self.end_conn(id);
            self.outputs.push_back(Output::Close { conn: id });
        } else if held > limits.fair_bytes as usize
            && let Some(session) = self.conns.get(id.0).and_then(|c| self.core.sessions.get(c.session?))
        {
            let account = session.jid.bare();
            self.bound_account(&account);
        }
        if let Some(session) = asks {
            self.asked(session);
        }
    }

    fn committed(&mut self, upto: Ticket) {
        trip(Fault::PanicCommit);
        self.core.counters.commits = self.core.counters.commits.wrapping_add(1);
        if let Err(error) = self.core.view.committed(upto) {
            // What is stored is stored: the view shows it from memory, and reads try again.
            log::error!(target: LOG, "{error}");
        }
        if self.full_ms.is_some_and(|at| self.core.now.mono_ms >= at.saturating_add(ROOM_AGAIN_MS)) {
            self.full_ms = None;
            log::info!(target: LOG, "the store has room again");
        }
        let durable = self.core.view.durable();
        // Not in the order of tickets: what only reads waits for an older batch than what wrote before it.
        self.unproven.retain(|u| u.0 > durable);
        relax(&mut self.unproven);
        let (ready, waiting) = std::mem::take(&mut self.replies).into_iter().partition(|r| r.0 <= durable);
        self.replies = waiting;
        for (_, door, reply) in ready {
            self.reply_now(&door, reply.code, reply.text);
        }
        self.registered(durable);
        self.managed_committed();
        self.logins_committed();
        self.disk_in();
        for (key, conn) in self.conns.iter() {
            if !conn.out.is_empty() {
                self.dirty.insert(ConnId(key));
            }
        }
    }
}

fn collect_disco(modules: &Modules, settings: &settings::Settings) -> Discos {
    let of_host = |host: &String| {
        let mut disco = Disco::new("Couplet");
        modules.disco(settings, host, &mut disco);
        // A component takes the place of a service of ours.
        let is_component = |domain: &str| settings.components.iter().any(|component| component.domain == domain);
        disco.services.retain(|service| !is_component(&service.domain));
        disco.host.sort();
        disco.account.sort();
        disco.ver = disco.host.verification();
        (host.clone(), disco)
    };
    Discos::new(settings.hosts.iter().map(of_host).collect())
}

//! The shell: the one loop that turns what the operating system does into the engine's inputs, and the engine's
//! outputs into what the operating system shall do.
//!
//! **The tick.** Take what is ready: reports of the threads first, then one read from each established connection,
//! then a few TLS handshakes, then a few new connections, then deadlines. Close the tick. Then hand what the engine
//! says to the sockets, one write for each. What was written may let the engine say more; that is a tick again.
//!
//! **Waiting.** A connection has no task. async-io calls its waker when the socket is ready, the waker puts the
//! connection into the [`Bell`]'s list, and the worker, if it waits, starts a tick. So an idle connection costs its
//! socket's registration (some 220 bytes), its row here, and its TLS keys; a busy tick takes the whole list under one
//! lock. A socket is watched only after a read that did not fill the buffer, so a busy one costs no system call beside
//! its reads and writes and one re-arming.
//!
//! **Fairness.** Ready connections queue; each gets one read, and goes to the end when it may have more. Handshakes
//! have a queue of their own, of which a tick serves a few: strangers wait behind clients, never the other way round.

mod certificates;
mod ending;
mod federation;
pub(super) mod guard;
mod operators;
mod sockets;
#[cfg(feature = "statistics")]
mod statistics;
#[cfg_attr(not(feature = "http"), path = "shell/no_web.rs")]
mod web;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::future::{self, Future};
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_io::Timer;
use smol::LocalExecutor;
use smol::channel::Sender;

use crate::clock::Now;
use crate::core::admin::{Command, Reply};
use crate::core::io::{ConnId, DialFailure, Input, Output};
use crate::core::rates::Rates;
use crate::engine::{Engine, Settings};
use crate::limits::Limits;
#[cfg(feature = "acme")]
use crate::net::acme;
use crate::net::bell::{Bell, Clapper, Token};
use crate::net::clock::Clock;
use crate::net::conn::{Conn, Scratch};
use crate::net::dial::Dialed;
use crate::net::listen::{Keepalive, Listener};
use crate::net::log::{self as log_back_end, LogOptions};
use crate::net::memory::Scales;
use crate::net::supervisor::Supervisor;
use crate::net::threads::Threads;
use crate::storage::{Job, Stats, StoreError, Ticket};
use crate::stream::sasl::keys::HashResult;

pub use certificates::tell;
use federation::Dials;
pub use federation::{Federation, Tls};
use web::Web;

/// How often the certificate folder is looked at.
const CERTIFICATES_CHECK_MS: u64 = 60_000;

/// How long accepting pauses when the system is out of file descriptors or memory.
const EXHAUSTED_PAUSE_MS: u64 = 500;

/// What is queued for all sockets together before the first of them is written to.
const UNWRITTEN_BYTES_MAX: usize = 262_144;

/// What threads and tasks tell the worker.
pub enum Report {
    /// The storage writer got that far, or failed.
    Stored(Result<Ticket, StoreError>),
    /// The store was made smaller.
    Stats(Result<Stats, StoreError>),
    /// What was stored before somebody asked for it is on the disk, or it is not.
    Flushed(bool),
    /// A password was hashed.
    Hashed(HashResult),
    /// The thread that keeps files has done something.
    #[cfg(feature = "http")]
    File(crate::net::files::FileReport),
    /// An archive was read.
    #[cfg(feature = "mam")]
    Archive(u64, Box<Result<crate::core::archive::Done, StoreError>>),
    /// An attempt to connect to a server has come to its end.
    Dialed(ConnId, Box<Result<Dialed, DialFailure>>),
    /// A thread ended by a panic.
    ThreadLost(&'static str),
    /// An administrator's command; its reply goes to the channel.
    Admin(Command, Sender<Reply>),
    /// Configuration, certificates and log file shall be read again.
    Reload,
    /// The state shall be written to the log.
    Dump,
    /// The server shall end. A second one does not wait.
    Shutdown,
}

/// The part of the configuration that is the shell's and may change while it runs.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// The limits in force.
    pub limits: Limits,
    /// How fast peers may send.
    pub rates: Rates,
    /// Whether small writes of new connections leave at once.
    pub nodelay: bool,
    /// For new connections.
    pub keepalive: Keepalive,
    /// Hosts that need a certificate; the first one's is shown to clients that ask for none.
    pub hosts: Vec<String>,
    /// How other servers are found and believed.
    pub federation: Federation,
    /// What is served by HTTP.
    #[cfg(feature = "http")]
    pub site: crate::http::SiteOptions,
    /// Where the log goes; None leaves it to whoever runs the server in a thread.
    pub log: Option<LogOptions>,
    /// Certificates that are got by themselves.
    #[cfg(feature = "acme")]
    pub acme: Option<acme::Settings>,
    /// Figures now and then.
    #[cfg(feature = "statistics")]
    pub statistics: crate::net::statistics::Settings,
}

/// Reads the configuration again: the engine's part and the shell's, or one line that says what is wrong with it.
pub type Reload = Box<dyn FnMut() -> Result<(Box<Settings>, Tuning), String>>;

/// Why the worker ended without being told to, or not as it was told to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing that the store says can be believed any more, or its last words did not reach the disk.
    Storage(StoreError),
    /// A thread ended by a bug; without it nothing can be promised any more.
    Thread(&'static str),
    /// The engine caught more bugs than `panics_per_minute_max`.
    Bugs,
    /// An administrator wants the process to be started anew.
    Restart,
}

/// The worker.
pub struct Shell {
    engine: Box<Engine>,
    clock: Clock,
    bell: Arc<Bell<Report>>,
    threads: Threads,
    listeners: Vec<Door>,
    tls: Tls,
    dials: Dials,
    web: Web,
    tuning: Tuning,
    reload: Reload,
    supervisor: Option<Supervisor>,
    /// By the engine's names, which are never used twice; those that it has forgotten stay until they are written out.
    conns: HashMap<ConnId, Box<Conn>>,
    scratch: Scratch,
    /// Emptied lists that the bell gets in exchange for full ones.
    rung: Vec<Token>,
    reports: VecDeque<Report>,
    /// Connections that may be ready, in the order in which they became so.
    established: VecDeque<ConnId>,
    handshakes: VecDeque<ConnId>,
    /// Connections that have something to write, or nothing any more.
    dirty: Vec<ConnId>,
    /// When to give up on which TLS handshake.
    handshakes_end: BTreeSet<(u64, ConnId)>,
    /// When to give up on which connection that is being closed.
    closing_end: BTreeSet<(u64, ConnId)>,
    /// Administrators that wait for a reply.
    asked: Vec<(u32, Option<Sender<Reply>>)>,
    last_asked: u32,
    /// Administrators that wait for the store to be made smaller.
    compacting: Vec<Sender<Reply>>,
    /// Who waits for the disk.
    flushing: VecDeque<Sender<Reply>>,
    certificates_check_ms: u64,
    #[cfg(feature = "acme")]
    acme: Option<acme::Acme>,
    /// None where the process is not ours alone.
    scales: Option<Scales>,
    /// Bytes that were queued in this tick and that no socket was asked to take yet.
    unwritten_bytes: usize,
    /// What was last said about certificates that cannot be used.
    certificates_error: String,
    /// Accepting failed for want of resources; said once until it works again.
    exhausted: bool,
    shutdown_ms: Option<u64>,
    done: bool,
    /// The process is to be started anew.
    again: bool,
    lost: Option<Failure>,
}

struct Door {
    listener: Listener,
    clapper: Arc<Clapper<Report>>,
    /// There may be somebody at the door.
    ready: bool,
    /// It stays shut until then.
    shut_until_ms: u64,
}

impl Shell {
    /// A worker for an engine, listening.
    #[allow(clippy::too_many_arguments, reason = "called once, by the one who has made all of them")]
    pub fn new(
        engine: Box<Engine>,
        clock: Clock,
        bell: Arc<Bell<Report>>,
        threads: Threads,
        listeners: Vec<Listener>,
        tls: Tls,
        tuning: Tuning,
        reload: Reload,
        supervisor: Option<Supervisor>,
        executor: Rc<LocalExecutor<'static>>,
    ) -> Self {
        let door = |(index, listener)| {
            let clapper = Clapper::new(bell.clone(), Token::Listener(index));
            Door { listener, clapper, ready: true, shut_until_ms: 0 }
        };
        let listeners = (0..).zip(listeners).map(door).collect();
        let mut dials = Dials::new(executor);
        dials.configure(&tuning.federation, &tuning.limits, tls.connector.clone(), clock);
        let certificates_check_ms = clock.now().mono_ms + CERTIFICATES_CHECK_MS;
        Self {
            engine,
            clock,
            bell,
            threads,
            listeners,
            tls,
            dials,
            web: Web::new(&tuning, clock.now()),
            tuning,
            reload,
            supervisor,
            conns: HashMap::new(),
            scratch: Scratch::default(),
            rung: Vec::new(),
            reports: VecDeque::new(),
            established: VecDeque::new(),
            handshakes: VecDeque::new(),
            dirty: Vec::new(),
            handshakes_end: BTreeSet::new(),
            closing_end: BTreeSet::new(),
            asked: Vec::new(),
            last_asked: 0,
            compacting: Vec::new(),
            flushing: VecDeque::new(),
            certificates_check_ms,
            #[cfg(feature = "acme")]
            acme: None,
            scales: None,
            unwritten_bytes: 0,
            certificates_error: String::new(),
            exhausted: false,
            shutdown_ms: None,
            done: false,
            again: false,
            lost: None,
        }
    }

    /// Lets the engine know what the process weighs.
    #[must_use]
    pub fn weighed(self, scales: Option<Scales>) -> Self {
        Self { scales, ..self }
    }

    /// Serves until a shutdown is complete.
    ///
    /// # Errors
    /// When bugs or the disk leave no other way.
    pub async fn run(mut self: Box<Self>) -> Result<(), Failure> {
        self.web_start(self.clock.now());
        #[cfg(feature = "acme")]
        self.start_acme();
        let mut alarm = Alarm { timer: Timer::never(), at_ms: u64::MAX };
        loop {
            self.tick();
            if let Some(failure) = self.lost.take() {
                return Err(self.reason(failure));
            }
            if self.done && self.shutdown_ms.is_none() {
                self.threads.finish().map_err(Failure::Storage)?;
                return Err(Failure::Bugs);
            }
            if self.is_over() {
                return self.end();
            }
            if self.has_work() {
                // Others may have become ready meanwhile, and a tick serves the established first.
                smol::future::yield_now().await;
            } else {
                future::poll_fn(|cx| self.poll_wait(&mut alarm, cx)).await;
            }
        }
    }

    fn tick(&mut self) {
        self.web.tick_begins();
        let now = self.clock.now();
        if self.rung.is_empty() && self.reports.is_empty() {
            self.bell.take(&mut self.rung, &mut self.reports, None);
        }
        let is_stale = self.engine.is_weight_stale();
        if let Some(rss_bytes) = self.scales.as_mut().and_then(|scales| scales.weigh_now_and_then(is_stale, now)) {
            self.engine.handle(now, Input::Weighed { rss_bytes });
        }
        self.sort_rung();
        let mut reports = mem::take(&mut self.reports);
        for report in reports.drain(..) {
            let mut report = Some(report);
            self.guard(None, now, &mut |shell| report.take().into_iter().for_each(|r| shell.take_report(r, now)));
        }
        self.reports = reports;
        for _ in 0..self.established.len().min(self.tuning.limits.tick_inputs_max.max(1) as usize) {
            let Some(id) = self.established.pop_front() else { break };
            match self.conns.get(&id) {
                Some(conn) if conn.is_handshaking() => self.handshakes.push_back(id),
                Some(_) => self.turn(id, now),
                None => {}
            }
            if self.engine.is_sated() {
                break;
            }
        }
        for _ in 0..self.handshakes.len().min(self.steps_max()) {
            let Some(id) = self.handshakes.pop_front() else { break };
            self.turn(id, now);
        }
        self.guard(None, now, &mut |shell| shell.accept(now));
        self.guard(None, now, &mut |shell| shell.pass_deadlines(now));
        self.settle(now);
        self.web.tick_ends();
        if let Some(supervisor) = &mut self.supervisor {
            supervisor.alive(now.mono_ms);
        }
    }

    /// Handshakes and new connections in one tick.
    fn steps_max(&self) -> usize {
        self.tuning.limits.tick_handshakes_max.max(1) as usize
    }

    fn has_work(&self) -> bool {
        let waiting_door = |door: &Door| door.ready && door.shut_until_ms == 0;
        // A deadline that is due would be met without a look at who has become ready.
        self.engine.has_more()
            || !self.established.is_empty()
            || !self.handshakes.is_empty()
            || self.listeners.iter().any(waiting_door)
    }

    fn poll_wait(&mut self, alarm: &mut Alarm, cx: &mut Context<'_>) -> Poll<()> {
        if !self.bell.take(&mut self.rung, &mut self.reports, Some(cx.waker())) {
            return Poll::Ready(());
        }
        alarm.poll(&self.clock, self.next_deadline_ms(), cx)
    }

    fn next_deadline_ms(&self) -> u64 {
        let mut next = self.certificates_check_ms;
        if let Some(at) = self.engine.next_deadline() {
            next = next.min(at);
        }
        for set in [&self.handshakes_end, &self.closing_end] {
            next = set.first().map_or(next, |&(at, _)| next.min(at));
        }
        for at in [self.web.next_ms(), self.shutdown_ms, self.supervisor.as_ref().and_then(Supervisor::due_ms)]
            .into_iter()
            .flatten()
        {
            next = next.min(at);
        }
        self.listeners
            .iter()
            .filter(|door| door.shut_until_ms > 0)
            .fold(next, |next, door| next.min(door.shut_until_ms))
    }

    fn sort_rung(&mut self) {
        let mut rung = mem::take(&mut self.rung);
        for token in rung.drain(..) {
            match token {
                Token::Conn(id) => {
                    if let Some(conn) = self.conns.get(&id) {
                        conn.woken();
                        self.enqueue(id);
                    }
                }
                Token::Listener(index) => {
                    if let Some(door) = self.listeners.get_mut(index as usize) {
                        door.clapper.reset();
                        door.ready = true;
                    }
                }
            }
        }
        self.rung = rung;
    }

    fn take_report(&mut self, report: Report, now: Now) {
        match report {
            Report::Stored(Ok(ticket)) => self.engine.handle(now, Input::Committed(ticket)),
            // Nothing more is said to anybody: whoever waits for an answer sees the connection end, as in a crash.
            Report::Stored(Err(error)) | Report::Stats(Err(error)) if error.is_fatal() => {
                self.lost = Some(Failure::Storage(error));
            }
            Report::Stored(Err(error)) => self.engine.handle(now, Input::CommitFailed(error)),
            Report::Stats(result) => self.compacted(&result),
            Report::Flushed(done) => self.flushed(done),
            #[cfg(feature = "http")]
            Report::File(report) => self.take_file_report(report, now),
            Report::Hashed(result) => self.engine.handle(now, Input::Hashed(result)),
            #[cfg(feature = "mam")]
            Report::Archive(id, done) => self.engine.handle(now, Input::Archive { id, done }),
            Report::Dialed(conn, result) => self.dialed(conn, *result, now),
            Report::ThreadLost(name) => self.lose(name),
            Report::Admin(Command::Compact, reply) => {
                self.compacting.push(reply);
                if !self.threads.storage.send(Job::Compact) {
                    self.lose("storage");
                }
            }
            Report::Admin(Command::Flush, reply) => {
                self.flushing.push_back(reply);
                if !self.threads.storage.send(Job::Flush) {
                    self.lose("storage");
                }
            }
            #[cfg(feature = "acme")]
            Report::Admin(Command::CertRenew { host }, reply) => self.renew(host, reply),
            #[cfg(feature = "statistics")]
            Report::Admin(Command::History { seconds }, reply) => _ = reply.try_send(self.history(seconds, now)),
            Report::Admin(command, reply) => self.ask(command, Some(reply), now),
            Report::Reload => match self.reload() {
                Ok(()) => {}
                Err(error) => {
                    error.lines().for_each(|line| log::error!("reload: {line}"));
                    log::error!("reload: what was in force stays");
                }
            },
            Report::Dump => self.dump(now),
            Report::Shutdown if self.shutdown_ms.is_some() => self.shutdown_ms = Some(0),
            Report::Shutdown => self.stop(false, now),
        }
    }

    /// A thread ended. What it has said of that counts more: see [`Shell::reason`].
    fn lose(&mut self, name: &'static str) {
        self.lost.get_or_insert(Failure::Thread(name));
    }

    /// Why a thread is gone: it may have said so at the moment when it was found to be.
    fn reason(&mut self, failure: Failure) -> Failure {
        self.bell.take(&mut self.rung, &mut self.reports, None);
        let said = self.reports.drain(..).find_map(|report| match report {
            Report::Stored(Err(error)) | Report::Stats(Err(error)) if error.is_fatal() => Some(Failure::Storage(error)),
            _ => None,
        });
        said.unwrap_or(failure)
    }

    fn reload(&mut self) -> Result<(), String> {
        let read = (self.reload)();
        // A log that was rotated away is opened anew even when the configuration is broken.
        let log = read.as_ref().map_or(&self.tuning.log, |(_, tuning)| &tuning.log);
        let log_opened = log.as_ref().map_or(Ok(()), log_back_end::apply);
        let (settings, tuning) = read?;
        log_opened.map_err(|error| error.to_string())?;
        let notices = self.tls.certificates.reload_for(&tuning.hosts).map_err(|error| error.to_string())?;
        tell(&notices);
        if tuning.federation.authorities != self.tuning.federation.authorities {
            self.tls =
                Tls::new(self.tls.certificates.clone(), &tuning.federation).map_err(|error| error.to_string())?;
        }
        self.web.configure(&tuning, self.clock.now());
        self.tuning = tuning;
        let Tuning { federation, limits, .. } = &self.tuning;
        self.dials.configure(federation, limits, self.tls.connector.clone(), self.clock);
        self.engine.reconfigure(*settings);
        #[cfg(feature = "acme")]
        self.start_acme();
        log::info!("configuration and certificates are read again");
        Ok(())
    }

    /// Closes the tick and lets its outputs take effect, until the engine has nothing more to say.
    fn settle(&mut self, now: Now) {
        loop {
            self.engine.end_tick(now);
            while let Some(output) = self.engine.poll_output() {
                let conn = conn_of(&output);
                let mut output = Some(output);
                self.guard(conn, now, &mut |shell| output.take().into_iter().for_each(|o| shell.obey(o, now)));
                if self.unwritten_bytes > UNWRITTEN_BYTES_MAX {
                    self.write_dirty(now);
                }
            }
            if self.dirty.is_empty() {
                return self.trim();
            }
            self.write_dirty(now);
        }
    }

    fn write_dirty(&mut self, now: Now) {
        self.unwritten_bytes = 0;
        let mut dirty = mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            self.guard(Some(id), now, &mut |shell| shell.write(id, now));
        }
        self.web_handed(now);
        // What writing made dirty again is in a list of its own by now.
        if self.dirty.is_empty() {
            self.dirty = dirty;
        }
    }

    /// Gives memory back that a crowd has left.
    fn trim(&mut self) {
        let len = self.conns.len();
        if self.conns.capacity() > 8 * len + 64 {
            self.conns.shrink_to(2 * len);
            self.established.shrink_to(2 * len);
            self.handshakes.shrink_to(2 * len);
            self.dirty.shrink_to(2 * len);
            self.rung.shrink_to(2 * len);
            self.reports.shrink_to(64);
        }
    }

    /// Memory is short: gives up whatever can be had again, and whoever is only being closed.
    fn shrink(&mut self, now: Now) {
        while let Some(&(_, id)) = self.closing_end.first() {
            self.forget(id, now);
        }
        self.dials.forget_names();
        self.trim();
    }

    fn obey(&mut self, output: Output, now: Now) {
        match output {
            Output::Write { conn: id, bytes } => {
                let Some(conn) = self.live(id) else { return self.web_deliver(id, bytes, now) };
                let len = bytes.len();
                if let Err(error) = conn.queue(bytes) {
                    log::debug!("a connection is lost: {error}");
                    self.engine.handle(now, Input::Closed { conn: id });
                    self.begin_close(id, now);
                }
                self.unwritten_bytes += len;
                self.mark_dirty(id);
            }
            Output::StartTls { conn: id } => self.start_tls(id, now),
            Output::Dial { conn, domain, from } => self.dial(conn, domain, from),
            Output::Close { conn: id } => {
                if self.live(id).is_some() {
                    self.begin_close(id, now);
                } else if !self.cancel_dial(id) {
                    self.web_close(id, now);
                }
            }
            Output::Shrink => self.shrink(now),
            Output::PauseRead { conn: id } => self.pause(id, true, now),
            Output::ResumeRead { conn: id } => self.pause(id, false, now),
            Output::Commit(batch) => {
                if !self.threads.storage.send(Job::Commit(batch)) {
                    self.lose("storage");
                }
            }
            Output::Hash(job) => {
                if !self.threads.jobs.send(job) {
                    self.lose("hashing");
                }
            }
            #[cfg(feature = "mam")]
            Output::Archive(job) => {
                if let Some(report) = self.threads.read(*job) {
                    self.take_report(report, now);
                }
            }
            #[cfg(feature = "http")]
            Output::Web(order) => self.obey_web(order, now),
            Output::AdminReply { id, reply } => self.answer(id, reply),
            Output::Reload { id } => {
                let reply = match self.reload() {
                    Ok(()) => Reply::ok("configuration and certificates are read again"),
                    Err(error) => Reply::failed(format!("{error}\nwhat was in force stays")),
                };
                self.answer(id, reply);
            }
            Output::Stop { again } => self.stop(again, now),
            Output::Exit => {
                self.done = true;
                self.web_end(now);
            }
        }
    }
}

/// Whose output it is.
fn conn_of(output: &Output) -> Option<ConnId> {
    match output {
        Output::Write { conn, .. } | Output::StartTls { conn } | Output::Dial { conn, .. } => Some(*conn),
        _ => None,
    }
}

/// A timer that is set anew only when it has to ring earlier: setting it costs system calls, ringing once too early
/// costs one empty tick.
struct Alarm {
    timer: Timer,
    at_ms: u64,
}

impl Alarm {
    fn poll(&mut self, clock: &Clock, at_ms: u64, cx: &mut Context<'_>) -> Poll<()> {
        if at_ms < self.at_ms {
            self.at_ms = at_ms;
            match clock.instant(at_ms) {
                Some(at) => self.timer.set_at(at),
                None => self.timer = Timer::never(),
            }
        }
        let rings = Pin::new(&mut self.timer).poll(cx).map(|_| ());
        if rings.is_ready() {
            self.at_ms = u64::MAX;
        }
        rings
    }
}

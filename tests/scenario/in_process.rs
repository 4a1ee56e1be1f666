//! A play in this process and in virtual time: the engine itself, without sockets, threads or a disk.
//!
//! Hashing jobs are done and batches are committed at once. All time is the play's: nothing passes unless it says so.

#[path = "../seeded/mod.rs"]
mod seeded;

use std::cell::Cell;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Once;

use couplet::clock::Now;
use couplet::config::ComponentSecret;
use couplet::core::accounts::{Account, Accounts};
use couplet::core::admin::Command;
use couplet::core::io::{ConnId, DialFailure, Input, Output, Role, Transport};
use couplet::core::rates::Adaptive;
use couplet::engine::{Engine, Settings};
use couplet::jid::Jid;
use couplet::setting::{self, Setting, Value, rows};
use couplet::storage::memory::Memory;
use couplet::storage::{Reader, Snapshot, Store, StoreError, View, Writer};
use couplet::stream::{TlsFacts, sasl};
use seeded::Seeded;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use zeroize::Zeroizing;

use super::grammar::Play;
use super::{Fate, Heard, Stage, TURNED_AWAY, operator};

/// Plays are not about the cost of a stolen password file.
const ITERATIONS: u32 = 1;
/// 2026-11-21T23:59:00Z: a day that ends soon.
const START_MS: i64 = 1_795_305_540_000;
/// What one read of a socket brings.
const READ_BYTES: usize = 4096;
/// Rounds without rest after which the engine is said to be in a loop.
const ROUNDS_MAX: usize = 100_000;

/// See the module.
pub struct InProcess {
    engine: Engine,
    settings: Settings,
    disk: Disk,
    reader: Box<dyn Reader>,
    writer: Box<dyn Writer>,
    disk_fails: bool,
    now: Now,
    connections: Vec<Connection>,
    /// Answers to operators, with their exit codes.
    replies: VecDeque<(u8, String)>,
    /// Connections to other servers that are under way.
    dials: Vec<(ConnId, String)>,
    /// Domains of the servers of the play.
    servers: Vec<String>,
    /// From where the next connection comes.
    peer: IpAddr,
    exited: bool,
    seed: u64,
    panics_before: u32,
}

struct Connection {
    /// None once either side has closed it.
    id: Option<ConnId>,
    received: Vec<u8>,
    paused: bool,
    /// What the client has sent while the server did not read.
    unread: Vec<u8>,
}

impl InProcess {
    /// A server with the accounts and settings of a play.
    ///
    /// # Errors
    /// When the engine does not start or refuses an account.
    pub fn new(play: &Play) -> Result<Self, String> {
        Self::on(Disk::default(), play)
    }

    /// The same, on another disk.
    ///
    /// # Errors
    /// As [`InProcess::new`].
    pub fn on(disk: Disk, play: &Play) -> Result<Self, String> {
        let mut settings = Settings::default();
        settings.core.iterations = ITERATIONS;
        for line in &play.settings {
            set(&mut settings, line).map_err(|e| format!("{}: `# setting: {line}`: {e}", play.file))?;
        }
        let now = Now { mono_ms: 1_000_000, wall_ms: START_MS };
        let (engine, writer, reader) = start(&settings, &disk, 1, now)?;
        let mut stage = Self {
            engine,
            settings,
            disk,
            reader,
            writer,
            disk_fails: false,
            now,
            connections: Vec::new(),
            replies: VecDeque::new(),
            dials: Vec::new(),
            servers: play.clients.iter().filter(|c| c.server.is_some()).map(|c| c.jid.clone()).collect(),
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            exited: false,
            seed: 1,
            panics_before: panics(),
        };
        for (jid, password) in play.accounts() {
            let command = Command::UserAdd { jid: jid.clone(), password: Zeroizing::new(password) };
            stage.engine.handle(now, Input::Admin { id: 1, command });
            stage.settle()?;
            match stage.replies.pop_front() {
                Some((0, _)) => {}
                other => return Err(format!("{}: no account {jid}: {other:?}", play.file)),
            }
        }
        let weak: Vec<&str> = play.clients.iter().filter(|c| c.weak).map(|c| c.jid.as_str()).collect();
        if !weak.is_empty() {
            stage.weaken(&weak)?;
        }
        Ok(stage)
    }

    /// Takes the better keys of some accounts away, as if they came from an older server.
    fn weaken(&mut self, jids: &[&str]) -> Result<(), String> {
        let mut view = View::new(self.reader.another()).map_err(|e| e.to_string())?;
        view.begin();
        for jid in jids {
            let account = view.get::<Accounts>(jid, b"").map_err(|e| e.to_string())?.ok_or("no account")?;
            view.put::<Accounts>(jid, b"", &Account { sha256: None, ..account });
        }
        view.join();
        let batch = view.close_batch().ok_or("nothing to write")?;
        self.writer.commit(&[batch]).map_err(|e| e.to_string())?;
        drop(view);
        self.begin()
    }

    /// Starts the engine anew, on what is stored.
    fn begin(&mut self) -> Result<(), String> {
        // Whoever has a file open gives it up first.
        let nowhere = start(&self.settings, &Disk::default(), self.seed, self.now)?;
        (self.engine, self.writer, self.reader) = nowhere;
        (self.engine, self.writer, self.reader) = start(&self.settings, &self.disk, self.seed, self.now)?;
        Ok(())
    }

    /// Does all that the engine asks for, until it asks for nothing more.
    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..ROUNDS_MAX {
            self.engine.end_tick(self.now);
            let outputs: Vec<Output> = std::iter::from_fn(|| self.engine.poll_output()).collect();
            if outputs.is_empty() && self.engine.has_more() {
                self.engine.handle(self.now, Input::Wake);
                continue;
            }
            if outputs.is_empty() && self.bring() {
                continue;
            }
            if outputs.is_empty() {
                return if self.engine.budget_is_sound() { Ok(()) } else { Err("the budget is wrong".to_owned()) };
            }
            for output in outputs {
                self.obey(output);
            }
            if self.exited {
                return Ok(());
            }
        }
        Err("the engine does not come to rest".to_owned())
    }

    /// Brings the engine a piece of what a client has sent. False when there is nothing that it reads.
    fn bring(&mut self) -> bool {
        let readable = |c: &&mut Connection| !c.paused && !c.unread.is_empty();
        let Some(c) = self.connections.iter_mut().find(readable) else { return false };
        let data: Vec<u8> = c.unread.drain(..c.unread.len().min(READ_BYTES)).collect();
        if let Some(conn) = c.id {
            self.engine.handle(self.now, Input::Bytes { conn, data: &data });
        }
        true
    }

    fn obey(&mut self, output: Output) {
        match output {
            Output::Write { conn, bytes } => {
                if let Some(c) = self.find(conn) {
                    c.received.extend(bytes);
                    self.engine.handle(self.now, Input::Wrote { conn, waiting_bytes: 0 });
                }
            }
            Output::Close { conn } => {
                self.dials.retain(|(dial, _)| *dial != conn);
                if let Some(c) = self.find(conn) {
                    c.id = None;
                }
            }
            Output::PauseRead { conn } => {
                if let Some(c) = self.find(conn) {
                    c.paused = true;
                }
            }
            Output::ResumeRead { conn } => {
                if let Some(c) = self.find(conn) {
                    c.paused = false;
                }
            }
            Output::Commit(batch) => {
                let ticket = batch.ticket;
                let outcome = match self.disk_fails {
                    true => Err(StoreError::Io("the disk fails".to_owned())),
                    false => self.writer.commit(&[batch]),
                };
                let input = match outcome {
                    Ok(()) => Input::Committed(ticket),
                    Err(error) => Input::CommitFailed(error),
                };
                self.engine.handle(self.now, input);
            }
            Output::Hash(job) => self.engine.handle(self.now, Input::Hashed(sasl::keys::run(job))),
            #[cfg(feature = "mam")]
            Output::Archive(job) => {
                let (id, reader) = (job.id, self.reader.another());
                let done = Box::new(couplet::core::archive::whole(&*reader, *job));
                self.engine.handle(self.now, Input::Archive { id, done });
            }
            #[cfg(feature = "http")]
            Output::Web(_) => {}
            Output::Shrink => {}
            Output::AdminReply { reply, .. } => self.replies.push_back((reply.code, reply.text)),
            Output::Exit => self.exited = true,
            Output::Stop { .. } => self.engine.handle(self.now, Input::Shutdown),
            Output::Dial { conn, domain, .. } if self.servers.contains(&domain) => self.dials.push((conn, domain)),
            Output::Dial { conn, .. } => {
                self.engine.handle(self.now, Input::DialFailed { conn, why: DialFailure::NotFound });
            }
            // Direct TLS of clients, plays say when servers have done theirs, and nothing is to be read again.
            Output::StartTls { .. } | Output::Reload { .. } => {}
        }
    }

    fn add(&mut self, id: ConnId) -> usize {
        self.connections.push(Connection { id: Some(id), received: Vec::new(), paused: false, unread: Vec::new() });
        self.connections.len() - 1
    }

    fn find(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|c| c.id == Some(id))
    }

    /// Lets time pass, with every deadline on the way.
    fn pass(&mut self, ms: u64) -> Result<(), String> {
        let end = self.now.mono_ms + ms;
        while let Some(at) = self.engine.next_deadline().filter(|at| *at <= end) {
            self.advance_to(at.max(self.now.mono_ms));
            self.engine.handle(self.now, Input::Wake);
            self.settle()?;
            if self.engine.next_deadline() == Some(at) && !self.engine.has_more() {
                return Err("a deadline stays after it has passed".to_owned());
            }
        }
        self.advance_to(end);
        Ok(())
    }

    fn advance_to(&mut self, mono_ms: u64) {
        self.now.wall_ms += (mono_ms - self.now.mono_ms) as i64;
        self.now.mono_ms = mono_ms;
    }

    fn restart(&mut self, kill: bool) -> Result<(), String> {
        if !kill {
            self.engine.handle(self.now, Input::Shutdown);
            self.settle()?;
            self.pass(u64::from(self.settings.core.limits.close_timeout_s) * 1000)?;
            if !self.exited {
                return Err("the server does not stop".to_owned());
            }
        }
        for connection in &mut self.connections {
            connection.id = None;
        }
        self.dials.clear();
        self.seed += 1;
        self.exited = false;
        self.begin()
    }
}

impl Stage for InProcess {
    fn open(&mut self) -> Result<usize, String> {
        let peer = std::mem::replace(&mut self.peer, IpAddr::V4(Ipv4Addr::LOCALHOST));
        let id = self.engine.accept(self.now, Role::Client, Transport::DirectTls, peer).ok_or(TURNED_AWAY)?;
        let number = self.add(id);
        let facts = TlsFacts {
            tls13: true,
            exporter: self.exporter(number),
            end_point: Some(vec![2; 32]),
            sni: Some("localhost".to_owned()),
            alpn: Some(b"xmpp-client".to_vec()),
            peer: None,
        };
        self.engine.handle(self.now, Input::TlsReady { conn: id, facts });
        self.settle()?;
        Ok(number)
    }

    fn come_from(&mut self, address: IpAddr) -> Result<(), String> {
        self.peer = address;
        Ok(())
    }

    fn open_server(&mut self, role: Role) -> Result<usize, String> {
        let peer = std::mem::replace(&mut self.peer, IpAddr::V4(Ipv4Addr::LOCALHOST));
        let id = self.engine.accept(self.now, role, Transport::StartTls, peer);
        Ok(self.add(id.ok_or(TURNED_AWAY)?))
    }

    fn take_dial(&mut self, domain: &str, tls: Option<TlsFacts>) -> Result<usize, String> {
        let at = self.dials.iter().position(|(_, of)| of == domain).ok_or("no connection is under way to it")?;
        let (conn, _) = self.dials.remove(at);
        let number = self.add(conn);
        self.engine.handle(self.now, Input::Dialed { conn, tls });
        self.settle()?;
        Ok(number)
    }

    fn fail_dial(&mut self, domain: &str, why: DialFailure) -> Result<(), String> {
        let at = self.dials.iter().position(|(_, of)| of == domain).ok_or("no connection is under way to it")?;
        let (conn, _) = self.dials.remove(at);
        self.engine.handle(self.now, Input::DialFailed { conn, why });
        self.settle()
    }

    fn is_dialed(&self, domain: &str) -> bool {
        self.dials.iter().any(|(_, of)| of == domain)
    }

    fn secure(&mut self, connection: usize, facts: TlsFacts) -> Result<(), String> {
        let conn = self.connections.get(connection).and_then(|c| c.id).ok_or("the connection is closed")?;
        self.engine.handle(self.now, Input::TlsReady { conn, facts });
        self.settle()
    }

    fn send(&mut self, connection: usize, bytes: &[u8]) -> Result<(), String> {
        // A socket brings bytes in pieces; the first one may end anywhere.
        let (first, second) = bytes.split_at(bytes.len() / 3);
        for data in [first, second].into_iter().filter(|d| !d.is_empty()) {
            // Otherwise as a socket that the other side has closed.
            if let Some(Connection { id: Some(_), unread, .. }) = self.connections.get_mut(connection) {
                unread.extend(data);
                self.settle()?;
            }
        }
        Ok(())
    }

    fn read(&mut self, connection: usize) -> Result<Heard, String> {
        let connection = self.connections.get_mut(connection).ok_or("no such connection")?;
        if !connection.received.is_empty() {
            return Ok(Heard::Bytes(std::mem::take(&mut connection.received)));
        }
        Ok(if connection.id.is_none() { Heard::Closed } else { Heard::Silence })
    }

    fn hang_up(&mut self, connection: usize) -> Result<(), String> {
        if let Some(conn) = self.connections.get_mut(connection).and_then(|c| c.id.take()) {
            self.engine.handle(self.now, Input::Closed { conn });
        }
        self.settle()
    }

    fn exporter(&mut self, connection: usize) -> Option<[u8; 32]> {
        Some([connection as u8; 32])
    }

    fn operate(&mut self, words: &[&str]) -> Result<String, String> {
        self.engine.handle(self.now, Input::Admin { id: 2, command: operator::command(words)? });
        self.settle()?;
        match self.replies.pop_back() {
            Some((0, text)) => Ok(text),
            other => Err(format!("the operator is refused: {other:?}")),
        }
    }

    fn reconfigure(&mut self, setting: &str) -> Result<(), String> {
        set(&mut self.settings, setting)?;
        self.engine.reconfigure(self.settings.clone());
        self.settle()
    }

    fn fate(&mut self, fate: Fate) -> Result<(), String> {
        match fate {
            Fate::TimePasses(ms) => self.pass(ms),
            Fate::DiskFails => {
                self.disk_fails = true;
                Ok(())
            }
            Fate::DiskIsGone => {
                self.disk_fails = true;
                self.disk.gone.store(true, Ordering::Relaxed);
                Ok(())
            }
            Fate::DiskWorks => {
                self.disk_fails = false;
                self.disk.gone.store(false, Ordering::Relaxed);
                Ok(())
            }
            Fate::ServerRestarts => self.restart(false),
            Fate::ServerIsKilled => self.restart(true),
        }
    }

    fn knows_silence(&self) -> bool {
        true
    }

    fn end(&mut self) -> Result<(), String> {
        if panics() != self.panics_before {
            return Err("the engine has caught a bug of its own; its place is printed above".to_owned());
        }
        if let Some(at) = self.engine.next_deadline() {
            // Nobody is connected any more: what is left would wake the server for nothing, once.
            self.pass(at.saturating_sub(self.now.mono_ms))?;
        }
        self.engine.handle(self.now, Input::Shutdown);
        self.settle()?;
        if self.exited { Ok(()) } else { Err("the server does not stop although nobody is connected".to_owned()) }
    }
}

type Started = (Engine, Box<dyn Writer>, Box<dyn Reader>);

fn start(settings: &Settings, disk: &Disk, seed: u64, now: Now) -> Result<Started, String> {
    let (reader, writer) = disk.open().map_err(|e| e.to_string())?;
    let other = reader.another();
    let engine = Engine::new(settings.clone(), reader, Box::new(Seeded(seed)), now).map_err(|e| e.to_string())?;
    Ok((engine, writer, other))
}

/// Where a play is kept: in memory, or in a file of SQLite in a folder that is gone with it.
#[derive(Default)]
pub struct Disk {
    memory: Memory,
    folder: Option<PathBuf>,
    /// No new snapshot can be had.
    gone: Arc<AtomicBool>,
}

impl Disk {
    /// With SQLite.
    #[cfg(feature = "sqlite")]
    pub fn sqlite() -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // In memory where that can be had: what a disk does to it is shown elsewhere.
        let shared = PathBuf::from("/dev/shm");
        let above = if shared.is_dir() { shared } else { std::env::temp_dir() };
        let folder = above.join(format!("couplet-play-{}-{count}", std::process::id()));
        let _ = std::fs::create_dir_all(&folder);
        Self { memory: Memory::new(), folder: Some(folder), gone: Arc::default() }
    }

    fn open(&self) -> Result<Store, StoreError> {
        let (below, writer) = match &self.folder {
            None => self.memory.open(),
            #[cfg(feature = "sqlite")]
            Some(folder) => {
                use couplet::storage::sqlite::{self, SqliteOptions, Tuning};
                let file = couplet::storage::redb::RedbOptions::default();
                sqlite::open(&folder.join("couplet.sqlite"), &SqliteOptions { file, tuning: Tuning::default() })?
            }
            #[cfg(not(feature = "sqlite"))]
            Some(_) => self.memory.open(),
        };
        Ok((Box::new(Gone { below, gone: self.gone.clone() }), writer))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// A reader of a disk that can be gone.
struct Gone {
    below: Box<dyn Reader>,
    gone: Arc<AtomicBool>,
}

impl Reader for Gone {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        match self.gone.load(Ordering::Relaxed) {
            true => Err(StoreError::Io("the disk is gone".to_owned())),
            false => self.below.snapshot(),
        }
    }

    fn another(&self) -> Box<dyn Reader> {
        Box::new(Gone { below: self.below.another(), gone: self.gone.clone() })
    }
}

/// Sets `limits.x = 1` or a key of a module's section.
fn set(settings: &mut Settings, line: &str) -> Result<(), String> {
    let (key, value) = line.split_once('=').ok_or("expected key = value")?;
    if key.trim() == "admins" {
        let jids = value.trim().trim_matches('"').split(',').map(Jid::parse).collect::<Result<_, _>>();
        settings.core.admins = jids.map_err(|e| format!("{e:?}"))?;
        return Ok(());
    }
    if key.trim() == "hosts" {
        settings.core.hosts = value.trim().trim_matches('"').split(',').map(str::to_owned).collect();
        return Ok(());
    }
    let (section, key) = key.trim().rsplit_once('.').ok_or("expected section.key = value")?;
    let value = value.trim().trim_matches('"');
    if section == "components" {
        let rows = value.split(',').map(|row| ComponentSecret::parse(&Value::Text(row.to_owned())));
        settings.core.components = rows.map(|row| row.map(|row| row.0)).collect::<Result<_, _>>()?;
        return Ok(());
    }
    if section == "s2s" {
        let domains = || value.split_whitespace().map(str::to_owned).collect();
        let s2s = &mut settings.core.s2s;
        match key {
            "enabled" => s2s.enabled = value == "true",
            "secure_auth" => s2s.secure_auth = value == "true",
            "dialback" => s2s.dialback = value == "true",
            "bidi" => s2s.bidi = value == "true",
            "insecure_domains" => s2s.insecure = domains(),
            "blocked_domains" => s2s.blocked = domains(),
            "allowed_domains" => s2s.allowed = domains(),
            _ => return Err("no such key".to_owned()),
        }
        return Ok(());
    }
    if let ("limits.c2s" | "limits.s2s" | "limits.components", "rate" | "burst") = (section, key) {
        let rates = &mut settings.core.rates;
        let rate = match section {
            "limits.c2s" => &mut rates.c2s,
            "limits.s2s" => &mut rates.s2s,
            _ => &mut rates.component,
        };
        let value = Value::Text(value.to_owned());
        match key {
            "rate" => rate.per_s = setting::Rate::parse(&value)?.0,
            _ => rate.burst = setting::Bytes::parse(&value)?.0,
        }
        return Ok(());
    }
    if (section, key) == ("limits.rates", "adaptive") {
        settings.core.rates.adaptive = Some(Adaptive { bonus_percent: 200, penalty_percent: 50 });
        return Ok(());
    }
    if (section, key) == ("limits.rates", "exempt") {
        let jids = value.split_whitespace().map(Jid::parse).collect::<Result<_, _>>();
        settings.core.rates.exempt = jids.map_err(|e| format!("{e:?}"))?;
        return Ok(());
    }
    if section == "limits" {
        let limit = settings.core.limits.by_name(key).ok_or("no such limit")?;
        *limit = value.parse().map_err(|_| "not a number")?;
        return Ok(());
    }
    let switch = match (section, key) {
        ("sasl", "sasl2") => Some(&mut settings.core.sasl2),
        ("sasl", "fast") => Some(&mut settings.core.fast),
        _ => None,
    };
    if let Some(switch) = switch {
        *switch = value == "true";
        return Ok(());
    }
    rows::make(settings.modules.sections(), section);
    let found = rows::find(settings.modules.sections(), section).ok_or("no such section")?;
    found.set(key, &Value::Text(value.to_owned()))
}

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// Panics of this thread so far, those that the engine has caught too.
fn panics() -> u32 {
    static COUNT: Once = Once::new();
    COUNT.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            print(info);
        }));
    });
    PANICS.get()
}

//! From options to a running server: what `couplet run` does.

use std::fmt;
use std::io;
use std::panic;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smol::LocalExecutor;

use crate::core::admin::{Command, Reply};
use crate::core::io::{Role, Transport};
use crate::engine::{Engine, Settings};
use crate::net::activation::Passed;
use crate::net::admin::{self, AdminError, AdminSocket};
use crate::net::bell::Bell;
use crate::net::certs::{CertError, CertStore};
use crate::net::clock::{Clock, SystemEntropy};
use crate::net::listen::{self, ListenError, Wish};
use crate::net::log::{self as log_back_end, LogError};
use crate::net::memory::Scales;
use crate::net::process::Process;
use crate::net::shell::{self, Failure, Reload, Report, Shell, Tls, Tuning};
use crate::net::signals;
use crate::net::supervisor::Supervisor;
use crate::net::threads::{Backups, Threads};
use crate::net::tls::TlsError;
use crate::storage::{Plan, Store, StoreError};

/// Operators that are served at the same time, so that a command about all of the store does not stop the others.
const ADMIN_TASKS: u32 = 4;

/// How long a start waits for a store that somebody else has open, and how long from one look to the next.
const STORE_PATIENCE: Duration = Duration::from_secs(5);
const STORE_PAUSE: Duration = Duration::from_millis(10);

/// Everything that a server is made of.
pub struct ServeOptions {
    /// Where to listen, and for what.
    pub listen: Vec<Wish>,
    /// Sockets of a supervisor, each in place of what `listen` says for its kind.
    pub passed: Vec<Passed>,
    /// Folder of certificates and keys.
    pub certificates: PathBuf,
    /// Opens the store.
    pub store: OpenStore,
    /// When it is written to the disk.
    pub plan: Plan,
    /// What `couplet status` says of the store.
    pub store_status: Box<dyn Fn() -> String>,
    /// Where commands of the operator arrive; none takes none.
    pub admin_socket: Option<PathBuf>,
    /// The shell's part of the configuration.
    pub tuning: Tuning,
    /// The engine's part.
    pub settings: Settings,
    /// Reads both again.
    pub reload: Reload,
    /// The process is the server's: what it gives up; it takes over signals and panics, too. None in tests, which run
    /// servers in threads.
    pub process: Option<Process>,
    /// Called when everything listens, before the first connection is served.
    pub on_ready: Option<OnReady>,
}

/// What must be left of `memory.max` beside the program itself.
const WORK_BYTES_MIN: usize = 3_000_000;

/// How a server comes by its store.
pub type OpenStore = Box<dyn Fn() -> Result<Store, StoreError>>;

/// What to do once a server listens.
pub type OnReady = Box<dyn FnOnce(&Serving)>;

/// What is known once a server listens.
pub struct Serving {
    /// Where it really listens, in the order of [`ServeOptions::listen`], then what was passed.
    pub addresses: Vec<Wish>,
    /// To reach the server from any thread.
    pub handle: Handle,
}

/// Reaches a running server from any thread.
#[derive(Clone)]
pub struct Handle {
    bell: Arc<Bell<Report>>,
}

impl Handle {
    /// Hands a report to the worker. Who sends many bounds them.
    pub fn report(&self, report: Report) {
        self.bell.report(report);
    }

    /// Ends the server in good order; a second time, at once.
    pub fn shutdown(&self) {
        self.bell.report(Report::Shutdown);
    }
}

/// Why a server does not start, or does not go on: one line that says what to do.
#[derive(Debug)]
pub enum ServeError {
    /// The log cannot be opened.
    Log(LogError),
    /// The process cannot become who it is to be.
    Process(String),
    /// `memory.max` is less than what the program needs.
    Memory {
        /// That ceiling.
        max_bytes: usize,
        /// What the program weighs before anybody is there.
        rss_bytes: usize,
    },
    /// An address cannot be listened on.
    Listen(ListenError),
    /// The admin socket cannot be made.
    Admin(AdminError),
    /// A certificate cannot be used.
    Certificates(CertError),
    /// TLS does not work here.
    Tls(TlsError),
    /// The store cannot be opened or read.
    Store(StoreError),
    /// The system refuses what every program gets: a thread, signals.
    System(&'static str, io::Error),
    /// The system has no random source.
    Entropy,
    /// It served, and a bug or the disk ended it.
    Ended(Failure),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(error) => error.fmt(f),
            Self::Process(error) => f.write_str(error),
            Self::Memory { max_bytes, rss_bytes } => {
                let megabytes = (rss_bytes + WORK_BYTES_MIN).div_ceil(1_000_000);
                write!(
                    f,
                    "memory.max is {max_bytes} bytes, of which the program itself takes {rss_bytes}: nobody could be \
                     served; write \"{megabytes} MB\" or more"
                )
            }
            Self::Listen(error) => error.fmt(f),
            Self::Admin(error) => error.fmt(f),
            Self::Certificates(error) => error.fmt(f),
            Self::Tls(error) => {
                write!(f, "TLS does not start: {error}; this build of couplet does not fit the machine")
            }
            Self::Store(error) => error.fmt(f),
            Self::System(what, error) => {
                write!(
                    f,
                    "the system gives no {what}: {error}; give the user that runs couplet more memory, or higher limits"
                )
            }
            Self::Entropy => {
                f.write_str("the system gives no random bytes: couplet needs getrandom(2) or a readable /dev/urandom")
            }
            Self::Ended(Failure::Storage(error)) => error.fmt(f),
            Self::Ended(Failure::Thread(name)) => write!(
                f,
                "the {name} thread is lost to a bug, whose place is in the log: start couplet again, and report it; \
                 nothing that was acknowledged is lost"
            ),
            Self::Ended(Failure::Restart) => f.write_str("an administrator wants the server to be started anew"),
            Self::Ended(Failure::Bugs) => f.write_str(
                "too many bugs in a minute, or one too bad to go on, whose places are in the log: start couplet again, \
                 and report them; nothing that was acknowledged is lost",
            ),
        }
    }
}

impl std::error::Error for ServeError {}

/// Serves on the calling thread until a signal or [`Handle::shutdown`] ends it.
///
/// # Errors
/// What is wrong and what to do, before anything was served; or that a bug or the disk ended it.
pub fn serve(options: Box<ServeOptions>) -> Result<(), ServeError> {
    let (executor, shell) = start(options)?;
    async_io::block_on(executor.run(shell.run())).map_err(ServeError::Ended)
}

/// Everything up to the moment when it listens. Not inlined: what a thread has once used of its stack stays in memory,
/// and this would lie below all that is called while it serves.
#[inline(never)]
fn start(mut options: Box<ServeOptions>) -> Result<(Rc<LocalExecutor<'static>>, Box<Shell>), ServeError> {
    let clock = Clock::start();
    // What can be refused for the operator's mistakes comes first, and first of that the commonest: a server that runs
    // already, whose store must be left alone.
    options.admin_socket.as_deref().map_or(Ok(()), admin::refuse_second).map_err(ServeError::Admin)?;
    let passed = std::mem::take(&mut options.passed);
    let passed_count = passed.len();
    let bound = listen::bind(&options.listen, passed).map_err(ServeError::Listen)?;
    // Of a server in somebody's process nobody knows what else weighs there.
    let scales = options.process.as_ref().and_then(|_| Scales::open());
    // No thread has been started, and nothing but the configuration has been read.
    let in_force = options.process.as_mut().map(Process::confine).transpose().map_err(ServeError::Process)?;
    try_thread().map_err(|error| ServeError::System("threads", error))?;
    // Told to stop or to reload while it starts, it does so as soon as it has started: by default the system would end
    // it at once, or, in a container, where it is process 1, not at all.
    let signals = options.process.as_ref().map(|_| signals::open()).transpose();
    let signals = signals.map_err(|error| ServeError::System("signals", error))?;
    if let Some(log) = &options.tuning.log {
        log_back_end::apply(log).map_err(ServeError::Log)?;
    }
    if let Some(process) = &options.process {
        log_panics();
        process.notices.iter().for_each(|notice| log::warn!("{notice}"));
    }
    if let Some(in_force) = &in_force {
        log::info!("{in_force}");
    }
    // From now on commands find this server, and wait for it; before the first port is open, as whoever sees that may
    // send one.
    let admin = options.admin_socket.as_deref().map(AdminSocket::bind).transpose().map_err(ServeError::Admin)?;
    let listeners = listen::open(bound).map_err(ServeError::Listen)?;
    let (certificates, notices) =
        CertStore::load(&options.certificates, &options.tuning.hosts).map_err(ServeError::Certificates)?;
    shell::tell(&notices);
    let tls = Tls::new(certificates, &options.tuning.federation).map_err(ServeError::Tls)?;
    let (reader, writer) = open_patiently(&options.store).map_err(ServeError::Store)?;
    let backups = Rc::new(Backups::new(reader.another(), clock));
    #[cfg(feature = "mam")]
    let archive_reader = reader.another();
    let entropy = SystemEntropy::open().ok_or(ServeError::Entropy)?;
    let memory_max_bytes = options.settings.core.memory.max_bytes;
    let engine = Engine::new(options.settings, reader, Box::new(entropy), clock.now()).map_err(ServeError::Store)?;
    let engine = Box::new(engine);

    check_ceiling(memory_max_bytes, scales.as_ref())?;

    let bell = Arc::new(Bell::new());
    let threads = Threads::start(writer, options.plan, &bell).map_err(|error| ServeError::System("threads", error))?;
    #[cfg(feature = "mam")]
    let threads = threads.reading(archive_reader, bell.clone());
    let executor = Rc::new(LocalExecutor::new());
    if let Some(signals) = signals {
        executor.spawn(signals::pass_on(signals, bell.clone())).detach();
    }
    if let Some(admin) = admin {
        let (admin, store_status) = (Rc::new(admin), options.store_status);
        let status = move || [store_status()].into_iter().chain(in_force.clone()).collect::<Vec<_>>().join("\n");
        let status: Rc<Box<dyn Fn() -> String>> = Rc::new(Box::new(status));
        for _ in 0..ADMIN_TASKS {
            let serving = operators(admin.clone(), bell.clone(), backups.clone(), status.clone());
            executor.spawn(serving).detach();
        }
    }
    for listener in &listeners {
        log::info!("listening on {} ({})", listener.address, kind_of(listener.role, listener.transport));
    }
    if passed_count > 0 {
        log::info!("{passed_count} of these sockets come from the supervisor");
    }
    let addresses = listeners.iter().map(|l| (l.address, l.role, l.transport)).collect();
    let serving = Serving { addresses, handle: Handle { bell: bell.clone() } };
    let spawner = executor.clone();
    let supervisor = match Supervisor::find(|name| std::env::var_os(name).filter(|_| options.process.is_some())) {
        Ok(supervisor) => supervisor,
        Err(error) => {
            log::warn!("the supervisor that NOTIFY_SOCKET names cannot be told anything: {error}");
            None
        }
    };
    if let Some(supervisor) = &supervisor {
        supervisor.ready();
    }
    let (tuning, reload) = (options.tuning, options.reload);
    let shell =
        Shell::new(engine, clock, bell, threads, listeners, tls, tuning, reload, supervisor, spawner).weighed(scales);
    log::info!("ready in {} ms", clock.now().mono_ms);
    if let Some(on_ready) = options.on_ready {
        on_ready(&serving);
    }
    Ok((executor, Box::new(shell)))
}

/// Refuses a ceiling of the memory under which nobody could be served.
fn check_ceiling(max_bytes: usize, scales: Option<&Scales>) -> Result<(), ServeError> {
    match scales.and_then(Scales::weigh) {
        Some(rss_bytes) if rss_bytes + WORK_BYTES_MIN > max_bytes => Err(ServeError::Memory { max_bytes, rss_bytes }),
        _ => Ok(()),
    }
}

/// A thread that cannot be had is an error here; the runtime takes one that it needs for granted.
fn try_thread() -> io::Result<()> {
    // It has nothing to do that could fail.
    std::thread::Builder::new().spawn(|| ()).map(|thread| thread.join().unwrap_or_default())
}

/// A command that found no server may be at work in the store. Most take a moment only.
fn open_patiently(open: &OpenStore) -> Result<Store, StoreError> {
    let begun = Instant::now();
    loop {
        match open() {
            Err(StoreError::Locked(_)) if begun.elapsed() < STORE_PATIENCE => std::thread::sleep(STORE_PAUSE),
            opened => return opened,
        }
    }
}

/// Serves operators, one after another.
async fn operators(
    admin: Rc<AdminSocket>,
    bell: Arc<Bell<Report>>,
    backups: Rc<Backups>,
    status: Rc<Box<dyn Fn() -> String>>,
) {
    let ask = |command: Command| {
        let (reply, answer) = smol::channel::bounded(1);
        let status = (command == Command::Status).then(|| status());
        bell.report(Report::Admin(command, reply));
        async move {
            let Reply { code, text } = answer.recv().await.ok()?;
            Some(Reply { code, text: [text].into_iter().chain(status).collect::<Vec<_>>().join("\n") })
        }
    };
    admin.serve(ask, || backups.one()).await;
}

/// Who connects to a listener, and how.
pub fn kind_of(role: Role, transport: Transport) -> &'static str {
    match (role, transport) {
        (Role::Client, Transport::StartTls) => "STARTTLS",
        (Role::Client, Transport::DirectTls) => "direct TLS",
        (Role::Component, _) => "components",
        (Role::Server, Transport::StartTls) => "servers, STARTTLS",
        (Role::Server, Transport::DirectTls) => "servers, direct TLS",
        (Role::Web, Transport::StartTls) => "HTTP",
        (Role::Web, Transport::DirectTls) => "HTTPS",
        (Role::Authority, _) => "HTTP, for an authority",
    }
}

/// A panic is a bug, and its place is what finds it. The message stays out unless somebody debugs: it may quote what a
/// user wrote.
fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        log::error!("bug at {place}; please report it");
        log::debug!("{info}");
    }));
}

//! The two threads beside the worker: one commits batches to the disk, one hashes passwords. Both end when the worker
//! drops its end of their queue, and both tell it when they end for any other reason. A third lives while a backup is
//! sent, and a fourth from the first query of an archive on ([`archive`](super::archive)).

use std::cell::Cell;
use std::io;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::clock::Now;
use crate::net::admin::TakeOver;
use crate::net::bell::Bell;
use crate::net::clock::Clock;
use crate::net::queue::{Received, Receiver, Sender, queue};
use crate::net::shell::Report;
use crate::storage::{self, Job, Jobs, Next, Plan, Reader, StoreError, Writer, backup};
use crate::stream::sasl::keys::{self, HashJob};

/// redb's commit needs 40 kB in a debug build; pages that are never touched cost nothing.
const STORE_STACK_BYTES: usize = 256 * 1024;
const HASH_STACK_BYTES: usize = 128 * 1024;

/// Both threads and their queues. The engine bounds both: by `store_pending_bytes_max` and `hash_queue_max`.
pub struct Threads {
    /// To the storage writer.
    pub storage: Sender<Job>,
    /// To the password hasher.
    pub jobs: Sender<HashJob>,
    #[cfg(feature = "mam")]
    archives: Option<super::archive::Archives>,
    store: JoinHandle<Option<StoreError>>,
    hash: JoinHandle<()>,
}

impl Threads {
    /// Starts both.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(writer: Box<dyn Writer>, plan: Plan, bell: &Arc<Bell<Report>>) -> io::Result<Self> {
        let (storage, waiting) = queue();
        let watch = Watch { bell: bell.clone(), name: "storage" };
        let store = Builder::new().name("couplet-store".into()).stack_size(STORE_STACK_BYTES).spawn(move || {
            let ended = Rc::new(Cell::new(false));
            let mut jobs = StoreJobs { waiting, clock: Clock::start(), ended: ended.clone() };
            let mut unsaved = None;
            storage::run(writer, plan, &mut jobs, |report| match report {
                storage::Report::Stored(Err(error)) | storage::Report::Flushed(Err(error)) if ended.get() => {
                    unsaved = Some(error);
                }
                storage::Report::Flushed(Err(error)) => {
                    log::error!("what is in memory cannot be written, which is tried again: {error}");
                }
                storage::Report::Flushed(Ok(())) => {}
                storage::Report::Asked(done) => watch.bell.report(Report::Flushed(done)),
                storage::Report::Stored(result) => watch.bell.report(Report::Stored(result)),
                storage::Report::Stats(result) => watch.bell.report(Report::Stats(result)),
            });
            unsaved
        })?;
        let (jobs, waiting_jobs) = queue();
        let watch = Watch { bell: bell.clone(), name: "hashing" };
        let hash = Builder::new().name("couplet-hash".into()).stack_size(HASH_STACK_BYTES).spawn(move || {
            while let Received::Job(job) = waiting_jobs.receive(None) {
                watch.bell.report(Report::Hashed(keys::run(job)));
            }
        })?;
        Ok(Self {
            storage,
            jobs,
            #[cfg(feature = "mam")]
            archives: None,
            store,
            hash,
        })
    }

    /// With archives, in the store that `reader` reads.
    #[cfg(feature = "mam")]
    #[must_use]
    pub fn reading(mut self, reader: Box<dyn Reader>, bell: Arc<Bell<Report>>) -> Self {
        self.archives = Some(super::archive::Archives::new(reader, bell));
        self
    }

    /// Has an archive read. What is to be said at once, where nobody can.
    #[cfg(feature = "mam")]
    pub fn read(&mut self, job: crate::core::archive::Job) -> Option<Report> {
        let id = job.id;
        match self.archives.as_mut()?.ask(job) {
            Ok(true) => None,
            Ok(false) => Some(Report::ThreadLost("archive")),
            Err(error) => {
                let error = StoreError::Io(format!("the system gives no thread ({error})"));
                Some(Report::Archive(id, Box::new(Err(error))))
            }
        }
    }

    /// Lets the storage writer make durable what it has and waits for it. A password being hashed is not waited for.
    ///
    /// # Errors
    /// When that did not go well.
    pub fn finish(self) -> Result<(), StoreError> {
        drop(self.jobs);
        drop(self.hash);
        #[cfg(feature = "mam")]
        if let Some(archives) = self.archives {
            archives.finish();
        }
        drop(self.storage);
        // A panic there was logged when it happened.
        self.store.join().ok().flatten().map_or(Ok(()), Err)
    }
}

/// The storage thread's queue and clock.
struct StoreJobs {
    waiting: Receiver<Job>,
    clock: Clock,
    /// No job will ever come.
    ended: Rc<Cell<bool>>,
}

impl Jobs for StoreJobs {
    fn now(&self) -> Now {
        self.clock.now()
    }

    fn next(&mut self, until_ms: Option<u64>) -> Next {
        let wait = until_ms.map(|until_ms| until_ms.saturating_sub(self.clock.now().mono_ms));
        let next = match self.waiting.receive(wait.map(Duration::from_millis)) {
            Received::Job(job) => Next::Job(job),
            Received::Due => Next::Due,
            Received::Ended => Next::Ended,
        };
        self.ended.set(matches!(next, Next::Ended));
        next
    }
}

/// Sends backups, one at a time.
pub struct Backups {
    reader: Box<dyn Reader>,
    clock: Clock,
    busy: Arc<AtomicBool>,
}

impl Backups {
    /// Of the store that `reader` reads.
    pub fn new(reader: Box<dyn Reader>, clock: Clock) -> Self {
        Self { reader, clock, busy: Arc::default() }
    }

    /// What sends one.
    ///
    /// # Errors
    /// When one is being sent.
    pub fn one(&self) -> Result<TakeOver, String> {
        if self.busy.swap(true, Ordering::Relaxed) {
            return Err("a backup is being made already; try again when it is done".to_string());
        }
        let (busy, reader, wall_ms) = (Busy(self.busy.clone()), self.reader.another(), self.clock.now().wall_ms);
        Ok(Box::new(move |mut stream: UnixStream| {
            let thread = Builder::new().name("couplet-backup".into()).stack_size(STORE_STACK_BYTES);
            let started = thread.spawn(move || {
                let _busy = busy;
                match backup::create(&*reader, wall_ms, &mut stream) {
                    Ok(summary) => log::info!("a backup of {} rows was made", summary.rows),
                    Err(error) => log::error!("a backup was broken off: {error}"),
                }
            });
            if let Err(error) = started {
                log::error!("no backup is made: the system gives no thread: {error}");
            }
        }))
    }
}

/// Dropped when the backup is sent, or was not begun.
struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Tells the worker when a thread ends by a panic.
pub(super) struct Watch {
    pub bell: Arc<Bell<Report>>,
    pub name: &'static str,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.bell.report(Report::ThreadLost(self.name));
        }
    }
}

//! The two threads beside the worker: one commits batches to the disk, one hashes passwords. Both end when the worker
//! drops its end of their queue, and both tell it when they end for any other reason.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::clock::Now;
use crate::net::bell::Bell;
use crate::net::clock::Clock;
use crate::net::shell::Report;
use crate::storage::{self, Batch, Job, Jobs, Next, Plan, Writer};
use crate::stream::sasl::keys::{self, HashJob};

/// redb's commit needs 40 kB in a debug build; pages that are never touched cost nothing.
const STORE_STACK_BYTES: usize = 256 * 1024;
const HASH_STACK_BYTES: usize = 128 * 1024;

/// Both threads and their queues. The engine bounds both: by `store_pending_bytes_max` and `hash_queue_max`.
pub struct Threads {
    /// To the storage writer.
    pub batches: Sender<Batch>,
    /// To the password hasher.
    pub jobs: Sender<HashJob>,
    store: JoinHandle<()>,
    hash: JoinHandle<()>,
}

impl Threads {
    /// Starts both.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(writer: Box<dyn Writer>, bell: &Arc<Bell<Report>>) -> io::Result<Self> {
        let (batches, waiting_batches) = mpsc::channel();
        let watch = Watch { bell: bell.clone(), name: "storage" };
        let store = Builder::new().name("couplet-store".into()).stack_size(STORE_STACK_BYTES).spawn(move || {
            let mut jobs = StoreJobs { waiting: waiting_batches, clock: Clock::start() };
            storage::run(writer, Plan::default(), &mut jobs, |report| {
                if let storage::Report::Stored(result) = report {
                    watch.bell.report(Report::Stored(result));
                }
            });
        })?;
        let (jobs, waiting_jobs) = mpsc::channel();
        let watch = Watch { bell: bell.clone(), name: "hashing" };
        let hash = Builder::new().name("couplet-hash".into()).stack_size(HASH_STACK_BYTES).spawn(move || {
            for job in waiting_jobs {
                watch.bell.report(Report::Hashed(keys::run(job)));
            }
        })?;
        Ok(Self { batches, jobs, store, hash })
    }

    /// Lets the storage writer commit what it has and waits for it. A password being hashed is not waited for.
    pub fn finish(self) {
        drop(self.jobs);
        drop(self.hash);
        drop(self.batches);
        // A panic there was logged when it happened.
        let _ = self.store.join();
    }
}

/// The storage thread's queue and clock.
struct StoreJobs {
    waiting: Receiver<Batch>,
    clock: Clock,
}

impl Jobs for StoreJobs {
    fn now(&self) -> Now {
        self.clock.now()
    }

    fn next(&mut self, until_ms: Option<u64>) -> Next {
        let Some(until_ms) = until_ms else {
            return self.waiting.recv().map_or(Next::Ended, |batch| Next::Job(Job::Commit(batch)));
        };
        let wait = Duration::from_millis(until_ms.saturating_sub(self.clock.now().mono_ms));
        match self.waiting.recv_timeout(wait) {
            Ok(batch) => Next::Job(Job::Commit(batch)),
            Err(RecvTimeoutError::Timeout) => Next::Due,
            Err(RecvTimeoutError::Disconnected) => Next::Ended,
        }
    }
}

/// Tells the worker when a thread ends by a panic.
struct Watch {
    bell: Arc<Bell<Report>>,
    name: &'static str,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.bell.report(Report::ThreadLost(self.name));
        }
    }
}

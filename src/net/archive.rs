//! The thread that reads archives: started at the first query, it ends with the worker. Jobs have turns, a portion
//! each, so that a long walk holds up nobody.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::{Builder, JoinHandle};

use crate::core::archive::{Done, Job, Work, work};
use crate::net::bell::Bell;
use crate::net::shell::Report;
use crate::net::threads::Watch;
use crate::storage::{Reader, StoreError};

/// A page that is parsed for a filter, and redb's own needs; what is never touched costs nothing.
const STACK_BYTES: usize = 256 * 1024;

/// A snapshot ends when the writer has to open its file again, which it may do some times in a row.
const TRIES: u32 = 4;

/// Reads archives beside the engine, which bounds how much it asks for at a time.
pub struct Archives {
    reader: Box<dyn Reader>,
    bell: Arc<Bell<Report>>,
    thread: Option<(Sender<Job>, JoinHandle<()>)>,
}

impl Archives {
    /// Of the store that `reader` reads. No thread is started yet.
    pub fn new(reader: Box<dyn Reader>, bell: Arc<Bell<Report>>) -> Self {
        Self { reader, bell, thread: None }
    }

    /// Has a job done; its answer is a [`Report::Archive`]. False when the thread is lost.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn ask(&mut self, job: Job) -> io::Result<bool> {
        let (jobs, _) = match &self.thread {
            Some(thread) => thread,
            None => self.thread.insert(start(self.reader.another(), self.bell.clone())?),
        };
        Ok(jobs.send(job).is_ok())
    }

    /// Waits for the portion at hand: whoever opens the store next finds nobody there.
    pub fn finish(self) {
        if let Some((jobs, thread)) = self.thread {
            drop(jobs);
            // A panic there was logged when it happened.
            let _ = thread.join();
        }
    }
}

fn start(reader: Box<dyn Reader>, bell: Arc<Bell<Report>>) -> io::Result<(Sender<Job>, JoinHandle<()>)> {
    let (jobs, waiting) = mpsc::channel();
    let thread = Builder::new().name("couplet-archive".into()).stack_size(STACK_BYTES);
    let thread = thread.spawn(move || {
        let watch = Watch { bell, name: "archive" };
        run(&*reader, &waiting, |id, done| watch.bell.report(Report::Archive(id, Box::new(done))));
    })?;
    Ok((jobs, thread))
}

/// Works until nobody can ask any more.
fn run(reader: &dyn Reader, jobs: &Receiver<Job>, mut report: impl FnMut(u64, Result<Done, StoreError>)) {
    let mut turns: VecDeque<Job> = VecDeque::new();
    loop {
        if turns.is_empty() {
            match jobs.recv() {
                Ok(job) => turns.push_back(job),
                Err(_) => return,
            }
        }
        loop {
            match jobs.try_recv() {
                Ok(job) => turns.push_back(job),
                Err(TryRecvError::Empty) => break,
                // Nobody waits for the answers.
                Err(TryRecvError::Disconnected) => return,
            }
        }
        let Some(mut job) = turns.pop_front() else { continue };
        match portion(reader, &mut job.work).transpose() {
            Some(done) => report(job.id, done),
            None => turns.push_back(job),
        }
    }
}

fn portion(reader: &dyn Reader, job: &mut Work) -> Result<Option<Done>, StoreError> {
    let mut left = TRIES;
    loop {
        left -= 1;
        let done = reader.snapshot().and_then(|snapshot| work(&*snapshot, job));
        if done.is_ok() || left == 0 {
            return done;
        }
    }
}

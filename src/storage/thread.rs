//! The body of the storage thread: what it commits when, and when it says so.
//!
//! It is handed its jobs and the time, so that it can be run in a test, in virtual time.

use super::{Batch, Stats, StoreError, Ticket, Writer};
use crate::clock::Now;

/// Bytes of batches that go in one commit, unless a single one has more: a transaction takes some five times as much
/// memory as what it writes.
pub const COMMIT_BYTES_MAX: usize = 256 * 1024;

/// Bytes of batches behind which a commit does not wait any longer for its time to come.
const WAITING_BYTES_MAX: usize = 512 * 1024;

/// Length of a file that is worth making smaller, in bytes.
const COMPACT_BYTES_MIN: u64 = 4 * 1024 * 1024;

/// What the storage thread is asked to do.
#[derive(Debug)]
pub enum Job {
    /// Store a batch. Answered by [`Report::Stored`] of its ticket or a later one, or of an error.
    Commit(Batch),
    /// Make durable now what waits for its time. Answered by [`Report::Asked`].
    Flush,
    /// Say what the store takes. Answered by [`Report::Stats`].
    Stats,
    /// Make the file small. Answered by [`Report::Stats`].
    Compact,
}

/// What the storage thread says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// All batches up to this ticket are stored, as far as the [`Mode`] promises. On an error they and all that were
    /// made before the engine heard of it never happened; when it [is fatal](StoreError::is_fatal) the thread has ended
    /// and the process must.
    Stored(Result<Ticket, StoreError>),
    /// All that was stored is durable. An error takes nothing back: it is tried again.
    Flushed(Result<(), StoreError>),
    /// Answer to [`Job::Flush`]: all that was stored before it is durable. When that went wrong, the error was told
    /// before.
    Asked(bool),
    /// Answer to [`Job::Stats`] and [`Job::Compact`].
    Stats(Result<Stats, StoreError>),
}

/// How long what is written may stay in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Not at all: a batch is stored when it is on the disk. Those that wait go in one commit, up to
    /// [`COMMIT_BYTES_MAX`].
    #[default]
    Durable,
    /// One durable commit for so many milliseconds, or for half a megabyte.
    Batched {
        /// Milliseconds from the first write to its commit.
        every_ms: u64,
        /// What is promised before it.
        promises: Promises,
    },
    /// The store is in memory, see [`volatile`](super::volatile), and written to the disk whole.
    Volatile {
        /// Milliseconds from the first write to the next snapshot.
        snapshot_every_ms: u64,
    },
}

/// When a batch counts as stored, where commits wait for their time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Promises {
    /// When it is on the disk.
    #[default]
    Wait,
    /// At once. A crash, a power cut or a failing disk may then lose what was promised in the last `every_ms`.
    Early,
}

/// What the thread does, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// How long what is written may stay in memory.
    pub mode: Mode,
    /// When the file is made small without being asked.
    pub compact: Option<WhenIdle>,
}

/// When the file is made small: once it has rested for a while behind a write, and much of it is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WhenIdle {
    /// Milliseconds without a job.
    pub idle_ms: u64,
    /// Percent of the file that hold no rows. One that was just made small has about 10, one that random writes have
    /// made 25 to 60.
    pub free_percent: u8,
}

/// What there is to do.
#[derive(Debug)]
pub enum Next {
    /// A job.
    Job(Job),
    /// The time has come.
    Due,
    /// Nothing will ever be.
    Ended,
}

/// Where jobs come from, and the time.
pub trait Jobs {
    /// The time.
    fn now(&self) -> Now;

    /// Waits for a job, or until the clock shows `until_ms` (of [`Now::mono_ms`]); with a time that has passed, takes
    /// what is there. Without, it waits as long as it takes.
    fn next(&mut self, until_ms: Option<u64>) -> Next;
}

/// What the storage thread does until nobody can send it a job any more, or an error is fatal. What waits then is made
/// durable first.
///
/// When a commit fails, that is reported once, and every batch of the same epoch or an older one is dropped: it was
/// made by an engine that did not know of the failure and so built on writes that never happened. When there is no room
/// for several batches in one commit, they are tried one after the other, so that what frees room is done.
pub fn run(writer: Box<dyn Writer>, plan: Plan, jobs: &mut dyn Jobs, mut report: impl FnMut(Report)) {
    let (waiting, report) = (Vec::new(), &mut report);
    let mut thread = Thread {
        writer,
        plan,
        epoch: 0,
        waiting,
        waiting_bytes: 0,
        due_ms: None,
        idle_ms: None,
        unflushed: false,
        report,
    };
    loop {
        let until_ms = if thread.gathers() { Some(0) } else { thread.due_ms.into_iter().chain(thread.idle_ms).min() };
        let next = jobs.next(until_ms);
        let now = jobs.now();
        let went_on = match next {
            Next::Job(Job::Commit(batch)) => thread.take(batch, now),
            Next::Job(job) => thread.store(now).and_then(|()| thread.answer(&job, now)),
            Next::Due => thread.due(now),
            Next::Ended => {
                let _ = thread.store(now).and_then(|()| thread.flush(now));
                return;
            }
        };
        if went_on.is_none() {
            return;
        }
    }
}

struct Thread<'a> {
    writer: Box<dyn Writer>,
    plan: Plan,
    /// How many failures were reported; the engine of a batch must have heard of all.
    epoch: u32,
    waiting: Vec<Batch>,
    waiting_bytes: usize,
    /// When what waits, or what was applied, has to become durable.
    due_ms: Option<u64>,
    /// When it has rested long enough.
    idle_ms: Option<u64>,
    /// The last flush went wrong.
    unflushed: bool,
    report: &'a mut dyn FnMut(Report),
}

/// `None` when the thread must end.
type WentOn = Option<()>;

impl Thread<'_> {
    /// True when what waits goes as soon as nothing more is there to go with it.
    fn gathers(&self) -> bool {
        !self.waiting.is_empty() && !matches!(self.plan.mode, Mode::Batched { promises: Promises::Wait, .. })
    }

    fn take(&mut self, batch: Batch, now: Now) -> WentOn {
        if batch.epoch < self.epoch {
            return Some(());
        }
        let bytes = batch.bytes();
        if self.gathers() && self.waiting_bytes.saturating_add(bytes) > COMMIT_BYTES_MAX {
            self.store(now)?;
            // It may have been made before that failure was known.
            if batch.epoch < self.epoch {
                return Some(());
            }
        }
        self.waiting_bytes = self.waiting_bytes.saturating_add(bytes);
        self.waiting.push(batch);
        let every_ms = match self.plan.mode {
            Mode::Durable => return Some(()),
            Mode::Batched { every_ms, .. } => every_ms,
            Mode::Volatile { snapshot_every_ms } => snapshot_every_ms,
        };
        self.due_ms.get_or_insert(now.mono_ms.saturating_add(every_ms));
        if self.waiting_bytes > WAITING_BYTES_MAX { self.store(now) } else { Some(()) }
    }

    fn due(&mut self, now: Now) -> WentOn {
        let is_due = |at: Option<u64>| at.is_some_and(|at| at <= now.mono_ms);
        if self.gathers() {
            self.store(now)?;
        }
        if is_due(self.due_ms) {
            self.store(now).and_then(|()| self.flush(now))?;
        }
        if is_due(self.idle_ms) {
            self.idle_ms = None;
            self.tidy()?;
        }
        Some(())
    }

    /// Makes the file small if that is worth it.
    fn tidy(&mut self) -> WentOn {
        let Some(WhenIdle { free_percent, .. }) = self.plan.compact else { return Some(()) };
        let used_percent = 100u64.saturating_sub(free_percent.into());
        match self.writer.stats() {
            Ok(stats)
                if stats.file_bytes >= COMPACT_BYTES_MIN
                    && stats.used_bytes.saturating_mul(100) < stats.file_bytes.saturating_mul(used_percent) =>
            {
                self.compact()
            }
            Ok(_) => Some(()),
            Err(error) => {
                (self.report)(Report::Stats(Err(error)));
                Some(())
            }
        }
    }

    fn compact(&mut self) -> WentOn {
        let compacted = self.writer.compact();
        let fatal = compacted.as_ref().is_err_and(StoreError::is_fatal);
        (self.report)(Report::Stats(compacted));
        (!fatal).then_some(())
    }

    /// Commits or applies what waits.
    fn store(&mut self, now: Now) -> WentOn {
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let Some(ticket) = waiting.last().map(|last| last.ticket) else { return Some(()) };
        let stored = match self.put(&waiting) {
            Err(StoreError::Full) if waiting.len() > 1 => self.put_singly(&waiting),
            stored => stored,
        };
        if let Err(error) = stored {
            return self.failed(error);
        }
        (self.report)(Report::Stored(Ok(ticket)));
        self.idle_ms = self.plan.compact.map(|when| now.mono_ms.saturating_add(when.idle_ms));
        Some(())
    }

    fn put(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        match self.plan.mode {
            Mode::Durable | Mode::Batched { promises: Promises::Wait, .. } => {
                self.due_ms = None;
                self.writer.commit(batches)
            }
            Mode::Batched { promises: Promises::Early, .. } | Mode::Volatile { .. } => self.writer.apply(batches),
        }
    }

    fn put_singly(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        let mut stored = None;
        for batch in batches {
            let put = self.put(std::slice::from_ref(batch));
            if let (Err(_), Some(ticket)) = (&put, stored) {
                (self.report)(Report::Stored(Ok(ticket)));
            }
            put?;
            stored = Some(batch.ticket);
        }
        Ok(())
    }

    fn failed(&mut self, error: StoreError) -> WentOn {
        self.epoch = self.epoch.saturating_add(1);
        let fatal = error.is_fatal();
        (self.report)(Report::Stored(Err(error)));
        (!fatal).then_some(())
    }

    /// Makes durable what was applied.
    fn flush(&mut self, now: Now) -> WentOn {
        if self.due_ms.take().is_none() {
            return Some(());
        }
        let flushed = self.writer.flush(now.wall_ms);
        self.unflushed = flushed.is_err();
        match (flushed, self.plan.mode) {
            (Ok(()), _) => (self.report)(Report::Flushed(Ok(()))),
            (Err(error), Mode::Volatile { snapshot_every_ms }) => {
                // It is all still there, and not on the disk.
                self.due_ms = Some(now.mono_ms.saturating_add(snapshot_every_ms));
                (self.report)(Report::Flushed(Err(error)));
            }
            // What was promised is lost, and what was built on it; the engine has made all that it sent before now.
            (Err(error), _) => return self.failed(error),
        }
        Some(())
    }

    fn answer(&mut self, job: &Job, now: Now) -> WentOn {
        match job {
            Job::Commit(_) => {}
            Job::Flush => {
                self.unflushed = false;
                let went_on = self.flush(now);
                (self.report)(Report::Asked(!self.unflushed));
                return went_on;
            }
            Job::Stats => (self.report)(Report::Stats(self.writer.stats())),
            Job::Compact => return self.compact(),
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::Memory;
    use super::*;
    use std::collections::VecDeque;
    use std::sync::Arc;

    /// Plays the shell: jobs that come at their time, and jobs that reports make the engine send.
    #[derive(Default)]
    struct Script {
        jobs: VecDeque<(u64, Job)>,
        now_ms: u64,
        /// How often nothing was there to do until a time came.
        waits: Vec<u64>,
    }

    impl Jobs for Script {
        fn now(&self) -> Now {
            Now { mono_ms: self.now_ms, wall_ms: self.now_ms as i64 }
        }

        fn next(&mut self, until_ms: Option<u64>) -> Next {
            let next_ms = self.jobs.front().map(|(at_ms, _)| (*at_ms).max(self.now_ms));
            match (next_ms, until_ms) {
                (Some(at_ms), until_ms) if until_ms.is_none_or(|until| at_ms <= until.max(self.now_ms)) => {
                    self.now_ms = at_ms;
                    self.jobs.pop_front().map_or(Next::Ended, |(_, job)| Next::Job(job))
                }
                (None, None) => Next::Ended,
                (None, Some(until)) if until > self.now_ms && self.waits.len() > 50 => Next::Ended,
                (_, Some(until)) => {
                    self.now_ms = until.max(self.now_ms);
                    self.waits.push(self.now_ms);
                    Next::Due
                }
                (Some(_), None) => Next::Ended,
            }
        }
    }

    fn batch(ticket: u64, epoch: u32) -> Job {
        let key: Arc<[u8]> = ticket.to_be_bytes().to_vec().into();
        Job::Commit(Batch { ticket: Ticket(ticket), epoch, writes: vec![(key.clone(), Some(key))] })
    }

    /// What is reported, and when.
    fn reports(memory: &Memory, mode: Mode, jobs: Vec<(u64, Job)>) -> Vec<Report> {
        let mut script = Script { jobs: jobs.into(), ..Script::default() };
        let mut seen = Vec::new();
        run(memory.open().1, Plan { mode, compact: None }, &mut script, |report| seen.push(report));
        seen
    }

    fn stored(ticket: u64) -> Report {
        Report::Stored(Ok(Ticket(ticket)))
    }

    fn refused(error: StoreError) -> Report {
        Report::Stored(Err(error))
    }

    const WAIT: Mode = Mode::Batched { every_ms: 1000, promises: Promises::Wait };
    const EARLY: Mode = Mode::Batched { every_ms: 1000, promises: Promises::Early };
    const VOLATILE: Mode = Mode::Volatile { snapshot_every_ms: 1000 };

    #[test]
    fn all_batches_that_wait_are_one_commit() {
        let memory = Memory::new();
        let seen = reports(&memory, Mode::Durable, vec![(5, batch(1, 0)), (5, batch(2, 0)), (5, batch(3, 0))]);
        assert_eq!(seen, [stored(3)]);
        assert_eq!((memory.commits(), memory.rows()), (1, 3));
        let seen = reports(&memory, Mode::Durable, vec![(5, batch(4, 0)), (6, batch(5, 0))]);
        assert_eq!(seen, [stored(4), stored(5)]);
    }

    #[test]
    fn no_commit_has_more_than_a_transaction_may_take() {
        let memory = Memory::new();
        let large = |ticket: u64, bytes: usize| {
            let key: Arc<[u8]> = ticket.to_be_bytes().to_vec().into();
            let writes = vec![(key.clone(), Some(vec![0; bytes - key.len()].into()))];
            (5, Job::Commit(Batch { ticket: Ticket(ticket), epoch: 0, writes }))
        };
        let half = COMMIT_BYTES_MAX / 2;
        let jobs = vec![large(1, half), large(2, half), large(3, 100), large(4, 2 * COMMIT_BYTES_MAX), large(5, 100)];
        assert_eq!(reports(&memory, Mode::Durable, jobs), [stored(2), stored(3), stored(4), stored(5)]);
        assert_eq!(memory.commits(), 4);
    }

    #[test]
    fn a_failure_takes_with_it_what_was_made_before_it_was_known() {
        for mode in [Mode::Durable, EARLY] {
            let memory = Memory::new();
            memory.fail_commit(1, StoreError::Io("x".into()));
            let jobs = vec![(1, batch(1, 0)), (1, batch(2, 0)), (2, batch(3, 0)), (3, batch(6, 1))];
            let seen = reports(&memory, mode, jobs);
            assert_eq!(seen[..2], [refused(StoreError::Io("x".into())), stored(6)]);
            assert_eq!(memory.rows(), 1);
        }
    }

    #[test]
    fn where_there_is_no_room_for_all_there_may_be_for_the_first() {
        let memory = Memory::new();
        memory.fail_commit(1, StoreError::Full);
        memory.fail_commit(4, StoreError::Full);
        let jobs = vec![(1, batch(1, 0)), (1, batch(2, 0)), (1, batch(3, 0)), (1, batch(4, 0)), (2, batch(5, 0))];
        let seen = reports(&memory, Mode::Durable, jobs);
        assert_eq!(seen, [stored(2), refused(StoreError::Full)]);
        assert_eq!(memory.rows(), 2);
    }

    #[test]
    fn nothing_is_acknowledged_behind_a_sync_that_failed() {
        for mode in [Mode::Durable, WAIT, EARLY] {
            let memory = Memory::new();
            let lost = StoreError::FsyncFailed("x".into());
            memory.fail_commit(1, lost.clone());
            let seen = reports(&memory, mode, vec![(1, batch(1, 0)), (2000, batch(2, 1))]);
            assert_eq!(seen, [refused(lost)]);
            assert_eq!(memory.rows(), 0);
        }
    }

    #[test]
    fn commits_that_wait_have_one_in_their_time_and_promise_then() {
        let memory = Memory::new();
        let jobs = [0, 300, 999, 1001, 5000].iter().zip(1..).map(|(at, n)| (*at, batch(n, 0))).collect();
        assert_eq!(reports(&memory, WAIT, jobs), [stored(3), stored(4), stored(5)]);
        assert_eq!(memory.commits(), 3);
        let jobs = vec![(0, batch(6, 0)), (1, Job::Flush), (2, batch(7, 0)), (3, Job::Flush)];
        let done = || Report::Asked(true);
        assert_eq!(reports(&memory, WAIT, jobs), [stored(6), done(), stored(7), done()]);
    }

    #[test]
    fn a_commit_does_not_wait_when_much_waits() {
        let memory = Memory::new();
        let large = |n: u64| {
            let writes = vec![(n.to_be_bytes()[..].into(), Some(vec![0; WAITING_BYTES_MAX / 3].into()))];
            (n, Job::Commit(Batch { ticket: Ticket(n), epoch: 0, writes }))
        };
        let seen = reports(&memory, WAIT, vec![large(1), large(2), large(3), large(4)]);
        assert_eq!(seen, [stored(3), stored(4)]);
    }

    #[test]
    fn early_promises_come_at_once_and_the_flush_in_its_time() {
        let done = || Report::Flushed(Ok(()));
        let jobs = |times: &[u64]| times.iter().zip(1..).map(|(at, n)| (*at, batch(n, 0))).collect();
        for mode in [EARLY, VOLATILE] {
            let memory = Memory::new();
            let seen = reports(&memory, mode, jobs(&[0, 300, 999, 1001]));
            assert_eq!(seen, [stored(1), stored(2), stored(3), done(), stored(4), done()]);
            assert_eq!(memory.flushes(), 2);
        }
    }

    #[test]
    fn what_was_promised_early_and_is_lost_is_said_and_a_snapshot_is_tried_again() {
        let io = || StoreError::Io("x".into());
        let memory = Memory::new();
        memory.fail_flush(io());
        let jobs = || vec![(0, batch(1, 0)), (1500, batch(2, 0)), (1600, batch(3, 1))];
        let seen = reports(&memory, EARLY, jobs());
        assert_eq!(seen, [stored(1), refused(io()), stored(3), Report::Flushed(Ok(()))]);
        memory.fail_flush(io());
        let seen = reports(&memory, VOLATILE, jobs());
        let flushed = [Report::Flushed(Err(io())), stored(2), stored(3), Report::Flushed(Ok(()))];
        assert_eq!((&seen[0], &seen[1..]), (&stored(1), &flushed[..]));
    }

    #[test]
    fn questions_are_answered_behind_what_waits() {
        let memory = Memory::new();
        let seen = reports(&memory, WAIT, vec![(0, batch(1, 0)), (0, Job::Stats), (0, Job::Compact)]);
        let none = || Report::Stats(Ok(Stats::default()));
        assert_eq!(seen, [stored(1), none(), none()]);
    }

    #[test]
    fn what_waits_for_its_time_is_durable_at_once_when_somebody_asks() {
        for mode in [Mode::Durable, WAIT, EARLY, VOLATILE] {
            let memory = Memory::new();
            let seen = reports(&memory, mode, vec![(0, batch(1, 0)), (0, Job::Flush), (1, Job::Flush)]);
            let at_once = matches!(mode, Mode::Durable) || mode == WAIT;
            let flushed = (!at_once).then_some(Report::Flushed(Ok(())));
            let expected: Vec<_> = [stored(1)].into_iter().chain(flushed).collect();
            assert_eq!(seen, [expected, vec![Report::Asked(true), Report::Asked(true)]].concat(), "{mode:?}");
            memory.fail_flush(StoreError::Io("x".into()));
            let seen = reports(&memory, mode, vec![(0, batch(2, 0)), (0, Job::Flush)]);
            assert!(seen.contains(&Report::Asked(at_once)), "{mode:?}: {seen:?}");
        }
    }

    #[test]
    fn a_file_that_rests_is_made_small_when_much_of_it_is_free() {
        /// A file of so many percent.
        struct Used(u64, u32);
        impl Writer for Used {
            fn commit(&mut self, _: &[Batch]) -> Result<(), StoreError> {
                self.0 -= 10;
                Ok(())
            }
            fn stats(&mut self) -> Result<Stats, StoreError> {
                self.1 += 1;
                assert!(self.1 < 6, "looked at too often");
                let (file_bytes, used_bytes) = (100 * COMPACT_BYTES_MIN, self.0 * COMPACT_BYTES_MIN);
                Ok(Stats { file_bytes, used_bytes, ..Stats::default() })
            }
        }
        let compact = Some(WhenIdle { idle_ms: 1000, free_percent: 70 });
        // Committed at 0 and 500, so rested at 1500 with 40 % used; at 4000 with 30 %; at 6000 with 20 %.
        let jobs = [0, 500, 3000, 5000].iter().zip(1..).map(|(at, n)| (*at, batch(n, 0))).collect();
        let mut script = Script { jobs, ..Script::default() };
        let mut seen = Vec::new();
        run(Box::new(Used(60, 0)), Plan { mode: Mode::Durable, compact }, &mut script, |report| seen.push(report));
        let small = matches!(seen[4], Report::Stats(Ok(stats)) if stats.used_bytes == 20 * COMPACT_BYTES_MIN);
        assert!(small && seen.len() == 5, "{seen:?}");
        assert!(script.waits.contains(&1500) && script.waits.contains(&6000), "{:?}", script.waits);
    }
}

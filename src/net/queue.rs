//! A queue from the worker to one thread. It does what those of the standard library do, which bring 15 kB of program
//! for speed that one batch a tick does not need. Who fills it bounds it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The worker's end.
pub struct Sender<T>(End<T>);

/// The thread's end.
pub struct Receiver<T>(End<T>);

/// What a wait has brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<T> {
    /// The next job.
    Job(T),
    /// None came in time.
    Due,
    /// None will ever come.
    Ended,
}

/// Either end; when one is dropped, the other sees that.
struct End<T>(Arc<Shared<T>>);

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    jobs: VecDeque<T>,
    ended: bool,
}

/// A queue with nothing in it.
pub fn queue<T>() -> (Sender<T>, Receiver<T>) {
    let state = Mutex::new(State { jobs: VecDeque::new(), ended: false });
    let shared = Arc::new(Shared { state, changed: Condvar::new() });
    (Sender(End(shared.clone())), Receiver(End(shared)))
}

impl<T> Sender<T> {
    /// Hands over a job. False if the thread is gone.
    #[must_use]
    pub fn send(&self, job: T) -> bool {
        let mut state = self.0.lock();
        if !state.ended {
            state.jobs.push_back(job);
            self.0.0.changed.notify_one();
        }
        !state.ended
    }
}

impl<T> Receiver<T> {
    /// The next job, for which it waits, at most for so long if there is a bound. What was sent before the other end
    /// was dropped still comes.
    pub fn receive(&self, wait: Option<Duration>) -> Received<T> {
        let until = wait.map(|wait| Instant::now() + wait);
        let mut state = self.0.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Received::Job(job);
            }
            if state.ended {
                return Received::Ended;
            }
            let changed = &self.0.0.changed;
            state = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return Received::Due,
                Some(left) => changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}

impl<T> End<T> {
    /// Nothing panics while it is locked.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        self.lock().ended = true;
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_come_in_their_order_and_all_of_them() {
        let (sender, receiver) = queue();
        let thread = std::thread::spawn(move || {
            let mut got = Vec::new();
            while let Received::Job(job) = receiver.receive(None) {
                got.push(job);
            }
            got
        });
        assert!((0..1000).all(|n| sender.send(n)));
        drop(sender);
        assert_eq!(thread.join().unwrap(), (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn a_wait_ends_when_it_is_due_and_when_nobody_is_left() {
        let (sender, receiver) = queue();
        assert_eq!(receiver.receive(Some(Duration::from_millis(1))), Received::Due);
        assert!(sender.send(1));
        assert_eq!(receiver.receive(Some(Duration::ZERO)), Received::Job(1), "what is there is not late");
        assert!(sender.send(2));
        drop(sender);
        assert_eq!(receiver.receive(None), Received::Job(2));
        assert_eq!(receiver.receive(None), Received::Ended);
    }

    #[test]
    fn a_thread_that_is_gone_is_noticed() {
        let (sender, receiver) = queue();
        assert!(sender.send(1));
        drop(receiver);
        assert!(!sender.send(2));
    }
}

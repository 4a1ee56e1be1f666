//! How everything outside the tick calls the worker: sockets that became ready, and reports of threads and tasks.
//!
//! There is no task for a connection. Each has a waker of its own (40 bytes) that async-io calls when its socket is
//! ready; all it does is to put the connection's token into one list and to wake the worker if it waits.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use crate::core::io::ConnId;

/// What became ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// The connection that the engine knows, or knew, by this name.
    Conn(ConnId),
    /// The listener at an index of the list of listeners.
    Listener(u32),
}

/// The list of what is ready and of reports `R`, and who waits for it. Called from every thread, waited for by one.
#[derive(Debug)]
pub struct Bell<R> {
    inner: Mutex<Inner<R>>,
}

#[derive(Debug)]
struct Inner<R> {
    ready: Vec<Token>,
    reports: VecDeque<R>,
    worker: Option<Waker>,
}

impl<R> Bell<R> {
    /// A bell that nobody has rung.
    pub fn new() -> Self {
        Self { inner: Mutex::new(Inner { ready: Vec::new(), reports: VecDeque::new(), worker: None }) }
    }

    /// Hands a report to the worker. Callers bound how many they have under way.
    pub fn report(&self, report: R) {
        let mut inner = self.lock();
        inner.reports.push_back(report);
        let worker = inner.worker.take();
        drop(inner);
        if let Some(worker) = worker {
            worker.wake();
        }
    }

    /// Moves what was reported since the last time into two empty lists, whose memory it takes in exchange. True if
    /// there was nothing; then the worker `waker` is woken by the next ring.
    pub fn take(&self, ready: &mut Vec<Token>, reports: &mut VecDeque<R>, waker: Option<&Waker>) -> bool {
        let mut inner = self.lock();
        mem::swap(&mut inner.ready, ready);
        mem::swap(&mut inner.reports, reports);
        let nothing = ready.is_empty() && reports.is_empty();
        if nothing && let Some(waker) = waker {
            match &inner.worker {
                Some(known) if known.will_wake(waker) => {}
                _ => inner.worker = Some(waker.clone()),
            }
        }
        nothing
    }

    fn ready(&self, token: Token) {
        let mut inner = self.lock();
        inner.ready.push(token);
        let worker = inner.worker.take();
        drop(inner);
        if let Some(worker) = worker {
            worker.wake();
        }
    }

    /// Nothing that runs under the lock can be half done after a panic.
    fn lock(&self) -> MutexGuard<'_, Inner<R>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R> Default for Bell<R> {
    fn default() -> Self {
        Self::new()
    }
}

/// The clapper of one socket: wakes by putting its token into the list, once until [`Clapper::reset`].
#[derive(Debug)]
pub struct Clapper<R> {
    bell: Arc<Bell<R>>,
    token: Token,
    rung: AtomicBool,
}

impl<R> Clapper<R> {
    /// For the socket that `token` names.
    pub fn new(bell: Arc<Bell<R>>, token: Token) -> Arc<Self> {
        Arc::new(Self { bell, token, rung: AtomicBool::new(false) })
    }

    /// To be called when the token has been taken from the list, before the socket is looked at.
    pub fn reset(&self) {
        self.rung.store(false, Ordering::Release);
    }
}

impl<R: Send + 'static> Wake for Clapper<R> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.bell.ready(self.token);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_socket_is_listed_once_and_the_worker_woken_once() {
        let bell: Arc<Bell<u8>> = Arc::default();
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let worker = Waker::from(count.clone());
        let (mut ready, mut reports) = (Vec::new(), VecDeque::new());
        let token = Token::Listener(3);
        let clapper = Clapper::new(bell.clone(), token);
        let waker = Waker::from(clapper.clone());

        assert!(bell.take(&mut ready, &mut reports, Some(&worker)));
        waker.wake_by_ref();
        waker.wake_by_ref();
        bell.report(7);
        assert_eq!(count.0.load(Ordering::SeqCst), 1, "only who waits is woken");

        assert!(!bell.take(&mut ready, &mut reports, Some(&worker)));
        assert_eq!((ready.as_slice(), reports.make_contiguous() as &[u8]), (&[token][..], &[7][..]));
        ready.clear();
        reports.clear();

        clapper.reset();
        waker.wake();
        assert_eq!(count.0.load(Ordering::SeqCst), 1, "nobody waited");
        assert!(!bell.take(&mut ready, &mut reports, Some(&worker)));
        assert_eq!(ready, [token]);
    }
}

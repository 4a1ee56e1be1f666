//! The back end of tests: a map that outlives the engine as a disk would, and fails when told to.

use super::{Batch, Each, Reader, Snapshot, Store, StoreError, Writer};
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An empty store that is gone with its two sides.
pub fn open() -> Store {
    Memory::new().open()
}

/// The "disk": what was committed. Clones are the same disk; what was not committed before a [`Memory::open`] is lost,
/// as in a crash.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    state: Arc<Mutex<State>>,
}

type Rows = BTreeMap<Arc<[u8]>, Arc<[u8]>>;

#[derive(Debug, Default)]
struct State {
    /// Shared with the snapshots; copied by the first commit after one was taken.
    rows: Arc<Rows>,
    commits: u32,
    flushes: u32,
    fail: Vec<(u32, StoreError)>,
    fail_flush: Option<StoreError>,
    unreadable: Option<StoreError>,
}

impl Memory {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Both sides, as after a start of the server.
    pub fn open(&self) -> Store {
        (Box::new(self.clone()), Box::new(self.clone()))
    }

    /// Makes the `n`th commit from now fail, 1 being the next one. Commits behind it succeed again.
    pub fn fail_commit(&self, n: u32, error: StoreError) {
        let mut state = self.state();
        let nth = state.commits.saturating_add(n);
        state.fail.push((nth, error));
    }

    /// Makes the next flush fail.
    pub fn fail_flush(&self, error: StoreError) {
        self.state().fail_flush = Some(error);
    }

    /// Makes every new snapshot fail, until told `None`.
    pub fn fail_snapshots(&self, error: Option<StoreError>) {
        self.state().unreadable = error;
    }

    /// Commits so far, the failed ones too.
    pub fn commits(&self) -> u32 {
        self.state().commits
    }

    /// Flushes so far, the failed ones too.
    pub fn flushes(&self) -> u32 {
        self.state().flushes
    }

    /// Rows that are stored.
    pub fn rows(&self) -> usize {
        self.state().rows.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader for Memory {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        let state = self.state();
        match &state.unreadable {
            Some(error) => Err(error.clone()),
            None => Ok(Box::new(Frozen(state.rows.clone()))),
        }
    }

    fn another(&self) -> Box<dyn Reader> {
        Box::new(self.clone())
    }
}

impl Writer for Memory {
    fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        let mut state = self.state();
        let now = state.commits.saturating_add(1);
        state.commits = now;
        if let Some(i) = state.fail.iter().position(|(n, _)| *n == now) {
            return Err(state.fail.swap_remove(i).1);
        }
        let rows = Arc::make_mut(&mut state.rows);
        for (key, value) in batches.iter().flat_map(|batch| &batch.writes) {
            match value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
        Ok(())
    }

    fn flush(&mut self, _wall_ms: i64) -> Result<(), StoreError> {
        let mut state = self.state();
        state.flushes = state.flushes.saturating_add(1);
        state.fail_flush.take().map_or(Ok(()), Err)
    }
}

/// The rows of one moment.
struct Frozen(Arc<Rows>);

impl Snapshot for Frozen {
    fn read(&self, key: &[u8], each: &mut dyn FnMut(&[u8])) -> Result<(), StoreError> {
        if let Some(value) = self.0.get(key) {
            each(value);
        }
        Ok(())
    }

    fn scan(&self, from: &[u8], to: &[u8], each: Each<'_>) -> Result<(), StoreError> {
        let mut rows = self.0.range::<[u8], _>((Included(from), Excluded(to)));
        let _ = rows.try_for_each(|(key, value)| each(key, value));
        Ok(())
    }

    fn scan_back(&self, from: &[u8], to: &[u8], each: Each<'_>) -> Result<(), StoreError> {
        let mut rows = self.0.range::<[u8], _>((Included(from), Excluded(to))).rev();
        let _ = rows.try_for_each(|(key, value)| each(key, value));
        Ok(())
    }
}

//! Reading: what was committed at one moment.

use super::super::{Each, Snapshot, StoreError};
use super::Shared;
use rusqlite::{CachedStatement, Connection, params};
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Begins a read transaction now; SQLite itself would begin it with the first read.
pub(super) fn begin(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("BEGIN")?.execute([])?;
    connection.prepare_cached("SELECT 1 FROM data LIMIT 1")?.query([])?.next().map(drop)
}

/// Ends it.
pub(super) fn end(connection: &Connection) -> rusqlite::Result<()> {
    if connection.is_autocommit() {
        return Ok(());
    }
    connection.prepare_cached("COMMIT")?.execute([]).map(drop)
}

/// Where the connection of a snapshot is while nobody reads from it, so that the writer can end the snapshot.
pub(super) struct Slot {
    connection: Mutex<Option<Connection>>,
    ended: AtomicBool,
}

impl Slot {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection: Mutex::new(Some(connection)), ended: AtomicBool::new(false) }
    }

    fn connection(&self) -> MutexGuard<'_, Option<Connection>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the snapshot, unless somebody reads from it: then there is no connection.
    pub(super) fn take(&self) -> Option<Connection> {
        let taken = self.connection().take();
        if taken.is_some() {
            self.ended.store(true, Ordering::Relaxed);
        }
        taken
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

pub(super) struct SqliteSnapshot {
    slot: Arc<Slot>,
    /// The connection while somebody reads, perhaps a row for each row of a scan.
    reading: RefCell<Option<Connection>>,
    depth: Cell<u32>,
    shared: Arc<Shared>,
}

impl SqliteSnapshot {
    pub(super) fn new(slot: Arc<Slot>, shared: Arc<Shared>) -> Self {
        Self { slot, reading: RefCell::new(None), depth: Cell::new(0), shared }
    }

    fn with(&self, call: impl FnOnce(&Connection) -> rusqlite::Result<()>) -> Result<(), StoreError> {
        let ended = || StoreError::Io(format!("a snapshot of {} has ended", self.shared.home.name));
        if self.depth.get() == 0 {
            let connection = self.slot.connection().take().ok_or_else(ended)?;
            self.reading.replace(Some(connection));
        }
        self.depth.set(self.depth.get() + 1);
        let _back = Back(self);
        let reading = self.reading.borrow();
        let connection = reading.as_ref().ok_or_else(ended)?;
        call(connection).map_err(|error| self.shared.error(&error))
    }

    fn walk(&self, sql: &str, from: &[u8], to: &[u8], each: Each<'_>) -> Result<(), StoreError> {
        self.with(|connection| {
            let mut statement: CachedStatement<'_> = connection.prepare_cached(sql)?;
            let mut rows = statement.query(params![from, to])?;
            while let Some(row) = rows.next()? {
                if each(row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }
}

/// Puts the connection back when the last of those who read is done, also when one has panicked.
struct Back<'a>(&'a SqliteSnapshot);

impl Drop for Back<'_> {
    fn drop(&mut self) {
        let depth = self.0.depth.get() - 1;
        self.0.depth.set(depth);
        if depth == 0 {
            let connection = self.0.reading.take();
            *self.0.slot.connection() = connection;
        }
    }
}

impl Drop for SqliteSnapshot {
    fn drop(&mut self) {
        if let Some(connection) = self.slot.take() {
            self.shared.state().keep(connection);
        }
    }
}

impl Snapshot for SqliteSnapshot {
    fn read(&self, key: &[u8], each: &mut dyn FnMut(&[u8])) -> Result<(), StoreError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached("SELECT value FROM data WHERE key = ?1")?;
            let mut rows = statement.query([key])?;
            if let Some(row) = rows.next()? {
                each(row.get_ref(0)?.as_blob()?);
            }
            Ok(())
        })
    }

    fn scan(&self, from: &[u8], to: &[u8], each: Each<'_>) -> Result<(), StoreError> {
        self.walk("SELECT key, value FROM data WHERE key >= ?1 AND key < ?2 ORDER BY key", from, to, each)
    }

    fn scan_back(&self, from: &[u8], to: &[u8], each: Each<'_>) -> Result<(), StoreError> {
        self.walk("SELECT key, value FROM data WHERE key >= ?1 AND key < ?2 ORDER BY key DESC", from, to, each)
    }
}

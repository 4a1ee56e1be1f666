//! The writer: a commit, the log and the file, and what is done when there is no room.

use super::super::file::{beside, hold_file, remove};
use super::super::ground::HEADROOM;
use super::super::{Batch, Stats, StoreError, Writer};
use super::home::synchronous;
use super::{SCHEMA, Shared};
use rusqlite::{Connection, OptionalExtension};
use std::fs;
use std::sync::Arc;

/// By how much the rows of a commit may grow, in bytes, without being taken for one that needs room.
const UPDATE_BYTES_MAX: i64 = 1024;

/// Pages that are moved at once when the file is made small.
const COMPACT_PAGES: u32 = 256;

pub(super) struct SqliteWriter {
    shared: Arc<Shared>,
    /// There until it is dropped.
    connection: Option<Connection>,
    /// The pragma `synchronous` is that of a durable commit.
    is_durable: bool,
    /// Something was committed that is not durable.
    applied: bool,
    /// There is room in reserve on the disk.
    held: bool,
    /// There is none, nor are there as many free pages in the file.
    tight: bool,
    /// Frames of the log from which it is to be taken into the file.
    due: i64,
}

/// What the log has.
struct Log {
    /// Somebody reads what would have to go.
    is_read: bool,
    frames: i64,
    /// Of those, how many are in the file.
    taken_in: i64,
}

impl Writer for SqliteWriter {
    fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        self.put(batches, true)
    }

    fn apply(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        self.put(batches, false)
    }

    fn flush(&mut self, _wall_ms: i64) -> Result<(), StoreError> {
        if self.applied { self.put(&[], true) } else { Ok(()) }
    }

    fn stats(&mut self) -> Result<Stats, StoreError> {
        let sql = "SELECT count(*), coalesce(sum(length(key) + length(value)), 0) FROM data";
        let counted = self
            .on(|connection| connection.query_row(sql, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))));
        let (rows, used_bytes) = counted.map_err(|error| self.shared.error(&error))?;
        let len = |path| fs::metadata(path).map_or(0, |file: fs::Metadata| file.len());
        let home = &self.shared.home;
        Ok(Stats {
            file_bytes: len(home.path.clone()) + len(home.log()),
            headroom_bytes: if self.held { self.reserve() } else { 0 },
            used_bytes: used_bytes.unsigned_abs(),
            rows: rows.unsigned_abs(),
        })
    }

    fn compact(&mut self) -> Result<Stats, StoreError> {
        self.flush(0)?;
        let mut free = u32::MAX;
        loop {
            let left = self.on(|connection| connection.query_row("PRAGMA freelist_count", [], |row| row.get(0)));
            let left = left.map_err(|error| self.shared.error(&error))?;
            if left == 0 || left >= free {
                break;
            }
            free = left;
            let vacuumed = self.on(|connection| {
                let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({COMPACT_PAGES})"))?;
                let mut rows = statement.query([])?;
                while rows.next()?.is_some() {}
                Ok(())
            });
            vacuumed.map_err(|error| self.shared.error(&error))?;
            self.take_in("RESTART")?;
        }
        self.take_in("TRUNCATE")?;
        self.hold();
        self.stats()
    }
}

impl Drop for SqliteWriter {
    fn drop(&mut self) {
        self.shared.state().writer = self.connection.take();
    }
}

impl SqliteWriter {
    pub(super) fn new(shared: Arc<Shared>, connection: Connection) -> Result<Self, StoreError> {
        let connection = Some(connection);
        let mut writer =
            Self { shared, connection, is_durable: true, applied: false, held: false, tight: false, due: 0 };
        // What the last server has left there.
        writer.take_in("RESTART")?;
        writer.hold();
        Ok(writer)
    }

    fn on<T>(&self, call: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        self.connection.as_ref().map_or(Err(rusqlite::Error::InvalidQuery), call)
    }

    fn put(&mut self, batches: &[Batch], durable: bool) -> Result<(), StoreError> {
        if self.shared.state().sync_failed {
            return Err(StoreError::FsyncFailed(self.shared.home.name.clone()));
        }
        if !self.held {
            self.hold();
            if self.tight && self.spends(batches)? {
                return Err(StoreError::Full);
            }
        }
        let mut put = self.try_to_put(batches, durable);
        if put == Err(StoreError::Full) {
            // The log may begin anew, which takes no room.
            self.take_in("RESTART")?;
            put = self.try_to_put(batches, durable);
        }
        if put == Err(StoreError::Full) && !self.spends(batches)? {
            put = self.put_into_reserve(batches, durable);
        }
        put?;
        let log = self.checkpoint("NOOP").map_err(|error| self.shared.error(&error))?;
        if log.frames >= self.due { self.take_in("RESTART") } else { Ok(()) }
    }

    fn try_to_put(&mut self, batches: &[Batch], durable: bool) -> Result<(), StoreError> {
        let (changes, flushes) = (self.is_durable != durable, self.applied && durable);
        let written = self.on(|connection| {
            if changes {
                connection.execute_batch(&format!("PRAGMA synchronous = {}", synchronous(durable)))?;
            }
            let written = write(connection, batches, flushes);
            if written.is_err() && !connection.is_autocommit() {
                connection.execute_batch("ROLLBACK")?;
            }
            written
        });
        self.is_durable = durable;
        written.map_err(|error| self.shared.error(&error))?;
        self.applied = !durable;
        Ok(())
    }

    /// With the room that is held for what frees some.
    fn put_into_reserve(&mut self, batches: &[Batch], durable: bool) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        // What cannot be removed gives no room; the next try says so.
        let _ = remove(&beside(&shared.home.path, ".room"));
        let bound = |writer: &Self, reserve: u64| {
            let sql = format!("PRAGMA max_page_count = {}", shared.home.pages_max(reserve));
            writer.on(|connection| connection.execute_batch(&sql)).map_err(|error| shared.error(&error))
        };
        bound(self, 0)?;
        let put = self.try_to_put(batches, durable);
        bound(self, HEADROOM)?;
        self.take_in("RESTART")?;
        self.hold();
        put
    }

    /// Whether writes take room that stays taken.
    fn spends(&self, batches: &[Batch]) -> Result<bool, StoreError> {
        let counted = self.on(|connection| {
            let mut old = connection.prepare_cached("SELECT length(value) FROM data WHERE key = ?1")?;
            let (mut added, mut grown) = (false, 0i64);
            for (key, value) in batches.iter().flat_map(|batch| &batch.writes) {
                let before: Option<i64> = old.query_row([&**key], |row| row.get(0)).optional()?;
                added |= value.is_some() && before.is_none();
                let after = value.as_ref().map_or(0, |value| value.len() as i64);
                grown = grown.saturating_add(after - before.unwrap_or(0));
            }
            Ok(added || grown > UPDATE_BYTES_MAX)
        });
        counted.map_err(|error| self.shared.error(&error))
    }

    fn checkpoint(&self, how: &str) -> rusqlite::Result<Log> {
        self.on(|connection| {
            let mut statement = connection.prepare_cached(&format!("PRAGMA wal_checkpoint({how})"))?;
            statement.query_row([], |row| Ok(Log { is_read: row.get(0)?, frames: row.get(1)?, taken_in: row.get(2)? }))
        })
    }

    /// Takes the log into the file, as far as nobody reads what that would hide; when it is in there whole, the log
    /// begins anew. The log keeps what the file cannot take, so no error loses anything but that of a sync.
    fn take_in(&mut self, how: &str) -> Result<(), StoreError> {
        self.shared.state().end_snapshots();
        let mut taken_in = self.checkpoint("PASSIVE");
        if taken_in.as_ref().is_err_and(|error| self.shared.home.error(error) == StoreError::Full) {
            let _ = remove(&beside(&self.shared.home.path, ".room"));
            taken_in = self.checkpoint("PASSIVE");
            self.hold();
        }
        let pages = i64::from(self.shared.home.options.tuning.wal_pages);
        let log = match taken_in.map_err(|error| self.shared.error(&error)) {
            Ok(log) => log,
            Err(error) if error.is_fatal() => return Err(error),
            // The log keeps what the file cannot take.
            Err(_) => Log { is_read: true, frames: self.due, taken_in: 0 },
        };
        // Where somebody reads on, it is not tried again at once.
        self.due = log.frames.max(0) + pages / 4;
        if log.frames == log.taken_in {
            // New snapshots wait for that long; it writes nothing. The next commit is the first of the log.
            let mut state = self.shared.state();
            state.end_snapshots();
            if self.checkpoint(how).is_ok_and(|log| !log.is_read) {
                self.due = pages;
            }
        }
        Ok(())
    }

    /// Bytes that are held for a log that is taken in, and for what frees room.
    fn reserve(&self) -> u64 {
        self.shared.home.log_bytes_max().saturating_add(HEADROOM)
    }

    fn hold(&mut self) {
        self.held = hold_file(&beside(&self.shared.home.path, ".room"), self.reserve()).is_ok();
        self.tight = !self.held && !self.has_free_pages();
    }

    /// Whether pages of the file are free that do as well: what was deleted leaves no room on the disk, but there.
    fn has_free_pages(&self) -> bool {
        let free = self.on(|connection| connection.query_row("PRAGMA freelist_count", [], |row| row.get::<_, i64>(0)));
        free.is_ok_and(|pages| pages.unsigned_abs().saturating_mul(self.shared.home.page_bytes) >= self.reserve())
    }
}

/// One transaction. To bring all before it to the disk it must write something: SQLite leaves out rows that are there
/// already, and syncs nothing for a transaction that has changed nothing.
fn write(connection: &Connection, batches: &[Batch], flushes: bool) -> rusqlite::Result<()> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    if flushes {
        connection.execute_batch(&format!("PRAGMA user_version = {SCHEMA}"))?;
    }
    let mut put = connection.prepare_cached("INSERT OR REPLACE INTO data (key, value) VALUES (?1, ?2)")?;
    let mut delete = connection.prepare_cached("DELETE FROM data WHERE key = ?1")?;
    for (key, value) in batches.iter().flat_map(|batch| &batch.writes) {
        match value {
            Some(value) => put.execute((&**key, &**value))?,
            None => delete.execute([&**key])?,
        };
    }
    connection.prepare_cached("COMMIT")?.execute([]).map(drop)
}

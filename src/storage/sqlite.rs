//! The back end for who wants SQLite: one file, its write-ahead log beside it while it is open.
//!
//! A commit is one transaction with `synchronous=FULL`: the log is synced before `COMMIT` returns, once, so what is
//! acknowledged survives a power cut. Frames of the log carry checksums and salts that strangers cannot foresee, so a
//! torn one is told from a whole one. What has not been synced (`storage.durability = "batched"`, `promises = "early"`)
//! is committed with `synchronous=NORMAL`, and made durable by the next commit with `FULL`.
//!
//! The file is opened by the VFS `unix-excl`: no other process can open it meanwhile, and the index of the log is in
//! memory of the process. So there is no `-shm` file, whose pages a failing disk could turn into a signal.
//!
//! # Snapshots
//!
//! Each is a read transaction on a connection of its own. The log can begin anew only when all of it is in the file and
//! nobody reads from it, and the engine's snapshot always does. So the writer ends snapshots that nobody is reading
//! from at that moment, as redb's back end does when it opens its file again; their owners take new ones. One that is
//! being read from, by a backup, is left alone: the log grows until that is done.
//!
//! # When room runs out
//!
//! Room for what a full log adds to the file, and [`HEADROOM`](super::HEADROOM), is held in a second file with `.room`
//! at the end of its name. While that cannot be had, and the file has not as many free pages, commits that add rows or
//! make them longer are refused. Others go on, and get that room when they find none.
//!
//! # What SQLite does not see
//!
//! Pages have no checksums. A file up to 16 MB is looked through when it is opened; damage that leaves its
//! structure whole is not noticed.

mod home;
mod snapshot;
mod writer;

use super::file::{self, beside};
use super::redb::{RedbOptions, SCHEMA, io_error};
use super::{Reader, Snapshot, Store, StoreError, backup};
use home::Home;
use rusqlite::{Connection, ErrorCode, ffi};
use snapshot::{Slot, SqliteSnapshot};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use writer::SqliteWriter;

/// Connections that wait for the next snapshot.
const IDLE_MAX: usize = 2;

/// How the file is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqliteOptions {
    /// Memory for pages of the file, in bytes, for all connections together, and bytes that the file may have; 0 is as
    /// many as the disk has. The log comes on top of that.
    pub file: RedbOptions,
    /// What else SQLite is told.
    pub tuning: Tuning,
}

/// What SQLite is told beside what the promises of the store ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Pages of the log from which it is taken into the file. As much room is held for that.
    pub wal_pages: u32,
    /// Pragmas, each with its value, for every connection. They must not weaken what is promised.
    pub pragmas: Vec<(String, String)>,
}

impl Tuning {
    /// For small machines: a log of 1 MB.
    pub const WAL_PAGES: u32 = 256;
    /// For others: one of 16 MB, which is taken in more seldom.
    pub const WAL_PAGES_FAST: u32 = 4096;
}

impl Default for Tuning {
    fn default() -> Self {
        Self { wal_pages: Self::WAL_PAGES, pragmas: Vec::new() }
    }
}

/// Opens the store in the file `path`, which is made when there is none. A lock on `path` with `.lock` at its end keeps
/// out other servers for as long as either side lives, and SQLite's own lock other programs.
///
/// # Errors
/// Any of [`StoreError`]. Only a file that this version can read is written to.
pub fn open(path: &Path, options: &SqliteOptions) -> Result<Store, StoreError> {
    let lock = file::lock(path)?;
    let mut home = Home::new(path, options.clone());
    let is_new = match fs::metadata(path) {
        Ok(file) => file.len() == 0,
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(io_error(&home.name, "cannot be opened", error)),
    };
    file::forget_cached(path);
    file::forget_cached(&beside(path, "-wal"));
    if is_new {
        home.build(SCHEMA, |_| Ok(()))?;
        home.replace(true)?;
    }
    home.look()?;
    let connection = home.open()?;
    let state = State { idle: Vec::new(), slots: Vec::new(), writer: None, sync_failed: false };
    let shared = Arc::new(Shared { home, state: Mutex::new(state), _lock: lock });
    let writer = SqliteWriter::new(shared.clone(), connection)?;
    Ok((Box::new(SqliteReader(shared)), Box::new(writer)))
}

/// Makes the store in the file `path` from a backup, as [`backup::restore`] does.
///
/// # Errors
/// As [`backup::restore`].
pub fn restore(
    input: &mut dyn Read,
    path: &Path,
    options: &SqliteOptions,
    replace: bool,
) -> Result<backup::Summary, StoreError> {
    let _lock = file::lock(path)?;
    let home = Home::new(path, options.clone());
    if !replace && fs::symlink_metadata(path).is_ok() {
        return Err(StoreError::Exists(home.name));
    }
    let mut source = backup::Source::open(input)?;
    let summary = home.build(source.schema(), |put| source.rows(put))?;
    home.replace(false)?;
    Ok(summary)
}

/// What both sides have. The lock is held for no longer than it takes to begin a snapshot or to end some.
struct Shared {
    home: Home,
    state: Mutex<State>,
    /// Dropped behind the connections.
    _lock: File,
}

struct State {
    idle: Vec<Connection>,
    slots: Vec<Weak<Slot>>,
    /// The writer's connection when the writer is gone: it is closed behind all others.
    writer: Option<Connection>,
    /// Nothing is believed any more.
    sync_failed: bool,
}

impl State {
    /// Ends all snapshots that nobody is reading from.
    fn end_snapshots(&mut self) {
        for slot in std::mem::take(&mut self.slots) {
            let Some(there) = slot.upgrade() else { continue };
            match there.take() {
                Some(connection) => self.keep(connection),
                None if there.is_ended() => {}
                None => self.slots.push(slot),
            }
        }
    }

    /// Ends the transaction of a connection, which is kept for the next snapshot, or closed.
    fn keep(&mut self, connection: Connection) {
        if self.idle.len() < IDLE_MAX && snapshot::end(&connection).is_ok() {
            self.idle.push(connection);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a failed call of SQLite means. A sync that failed is the end.
    fn error(&self, error: &rusqlite::Error) -> StoreError {
        let error = self.home.error(error);
        if error.is_fatal() {
            self.state().sync_failed = true;
        }
        error
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.idle.clear();
        let Some(connection) = state.writer.take() else { return };
        if !state.sync_failed {
            // The log goes into the file, and then from the disk. Where that fails it stays, and is whole.
            let _ = home::take_in_when_closed(&connection);
        }
        drop(connection);
    }
}

struct SqliteReader(Arc<Shared>);

impl Reader for SqliteReader {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        let mut state = self.0.state();
        if state.sync_failed {
            return Err(StoreError::FsyncFailed(self.0.home.name.clone()));
        }
        let connection = match state.idle.pop() {
            Some(connection) => connection,
            None => self.0.home.connect().map_err(|error| self.0.home.error(&error))?,
        };
        snapshot::begin(&connection).map_err(|error| self.0.home.error(&error))?;
        let slot = Arc::new(Slot::new(connection));
        state.slots.retain(|slot| slot.strong_count() > 0);
        state.slots.push(Arc::downgrade(&slot));
        drop(state);
        Ok(Box::new(SqliteSnapshot::new(slot, self.0.clone())))
    }

    fn another(&self) -> Box<dyn Reader> {
        Box::new(SqliteReader(self.0.clone()))
    }
}

/// What a failed call of SQLite means, when the system has not said more by itself.
fn store_error(name: &str, error: &rusqlite::Error, said: impl FnOnce() -> io::Result<()>) -> StoreError {
    let rusqlite::Error::SqliteFailure(ffi::Error { code, extended_code }, _) = error else {
        return StoreError::Io(format!("{name} cannot be used ({error})"));
    };
    match (code, *extended_code) {
        (_, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC) => StoreError::FsyncFailed(name.to_string()),
        (ErrorCode::DiskFull, _) => StoreError::Full,
        (ErrorCode::DatabaseCorrupt, _) => StoreError::Corrupt(format!("{name} is damaged ({error})")),
        (ErrorCode::NotADatabase, _) => StoreError::Corrupt(format!("{name} is no file of couplet's, or damaged")),
        (ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _) => StoreError::Locked(name.to_string()),
        // SQLite keeps what the system has said to itself.
        _ => match said() {
            Err(said) => io_error(name, "cannot be used", said),
            Ok(()) => StoreError::Io(format!("{name} cannot be used ({error})")),
        },
    }
}

/// Writes a byte beside the file, to hear from the system why that fails.
fn try_to_write(lock: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).open(lock)?.write_all_at(&[0], 0)
}

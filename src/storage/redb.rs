//! The back end of a server: one file, kept by redb.
//!
//! A commit is one redb transaction, synced before it returns, with the allocator's state in it (`quick_repair`), so
//! that a start after a crash repairs nothing. After a failed call redb refuses all others until the file is opened
//! again; the side that notices does that: the writer behind a failed commit, the reader when it takes a snapshot.
//! After a failed sync nothing is opened again: the system may show what the disk does not have, so all that is left to
//! do is to end.
//!
//! # When room runs out
//!
//! [`ground`](super::ground) says what is there. A commit that would need more than the file has is aborted; then the
//! file is made longer by what is needed and some, or, when nothing but the headroom is left, by that, and the commit
//! is tried again. redb itself only doubles a file, which a small disk cannot give; an eighth at a time wastes less.
//! Nothing else takes the headroom, and where there is none redb cannot give pages that are free back to the disk.
//!
//! From then on, until there is headroom again, a commit that adds rows or makes them longer must leave enough free
//! pages for those that do not: that is tried out by writing that much into a table and deleting it again before the
//! commit (`leaves_room`), because redb gives no cheap count of its free pages and a count would say nothing of their
//! fragments. Deletes and updates in place need no such test and live on what is left.
//!
//! What they need, for rows of up to 256 kB, the largest that are stored: redb copies each page that changes, and frees
//! the old ones behind the commit, or behind the next one where a snapshot keeps them; one that finds no room for that
//! reason is tried once more when all snapshots are ended. A page holds whole rows, so the copy of a page that holds
//! the largest has 512 kB in one piece; beside it come a page of 4 kB for each level of the tree, those of the list of
//! what was freed, and those of the allocator's state. Measured in a store of 26 MB: deleting one row takes 5 to 11
//! pages, 100 neighbours 13, 64 rows spread over all of it 139, 100 of them 209. The test asks for one piece of 512 kB,
//! which is as good as 128 pages where no row is large, and 64 pages. A batch that deletes more than 80 rows that are
//! far from each other, or many large ones, may still be refused.
//!
//! # Two syncs for a commit
//!
//! Redb's `quick_repair` brings its two-phase commit: the pages are synced before the header that names them. One phase
//! takes one sync and tells a torn commit by its checksums, which are not cryptographic; most of what is stored here is
//! chosen by strangers, and redb's own design advises two phases there. It also makes a start after a crash read the
//! whole file. Measured on a disk that syncs in 4 ms: a commit of 100 rows takes 4.0 ms (p50) with one phase and 8.0 ms
//! with two, where the file's place has to be allocated; in a file whose place is allocated before, as here, 5.2 ms.
//! That is 15 900 rows a second, in commits of 1000 rows 32 900. Group commit makes up for the rest.

mod home;
mod writer;

pub(super) use home::Home;

use super::file::{self, InFolder};
use super::ground::{Place, is_full};
use super::{Each, Reader, Snapshot, Store, StoreError};
use home::Open;
use redb::{ReadOnlyTable, ReadableDatabase, TableDefinition};
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use writer::RedbWriter;

/// The schema that this version writes, and the newest that it reads.
pub const SCHEMA: u32 = 1;

const DATA: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("data");

/// How the file is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedbOptions {
    /// Memory for pages of the file, in bytes.
    pub cache_bytes: usize,
    /// Bytes that the file may have; 0 is as many as the disk has. A new file has 1.1 MB, and 1 MB is kept in reserve,
    /// so less than 2.2 MB leaves little to write to.
    pub size_max: u64,
}

impl Default for RedbOptions {
    fn default() -> Self {
        Self { cache_bytes: 256 * 1024, size_max: 0 }
    }
}

/// Opens the store in the file `path`, which is made when there is none. A lock on `path` with `.lock` at its end keeps
/// out other processes for as long as either side lives.
///
/// # Errors
/// Any of [`StoreError`]. Only a file that this version can read is written to.
pub fn open(path: &Path, options: RedbOptions) -> Result<Store, StoreError> {
    let name = path.display().to_string();
    let lock = file::lock(path)?;
    let is_new = match fs::metadata(path) {
        Ok(file) => file.len() == 0,
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(io_error(&name, "cannot be opened", error)),
    };
    file::forget_cached(path);
    open_locked(Box::new(InFolder(path.to_path_buf())), name, options, Some(lock), is_new)
}

/// Opens the store in whatever `place` gives: once for a look, once to open, and again whenever redb has to be opened
/// again. An empty file becomes an empty store. Nothing is locked but by the place.
///
/// # Errors
/// As [`open()`].
pub fn open_in(place: impl Place + 'static, options: RedbOptions) -> Result<Store, StoreError> {
    let name = "the store".to_string();
    let first = place.open().map_err(|error| io_error(&name, "cannot be opened", error))?;
    let is_new = first.len().map_err(|error| io_error(&name, "cannot be read", error))? == 0;
    // Given back before it is opened again.
    first.close().map_err(|error| io_error(&name, "cannot be closed", error))?;
    drop(first);
    open_locked(Box::new(place), name, options, None, is_new)
}

fn open_locked(
    place: Box<dyn Place>,
    name: String,
    options: RedbOptions,
    lock: Option<File>,
    is_new: bool,
) -> Result<Store, StoreError> {
    let home = Home { place, name, options };
    if is_new {
        home.initialise()?;
    }
    home.look()?;
    open_home(home, lock)
}

/// Opens what is known to be a store of ours.
pub(super) fn open_home(home: Home, lock: Option<File>) -> Result<Store, StoreError> {
    let open = home.open(0)?;
    let shared = Arc::new(Shared { state: Mutex::new(State::new(home, open)), _lock: lock });
    Ok((Box::new(RedbReader(shared.clone())), Box::new(RedbWriter(shared))))
}

/// What both sides have. The mutex is the one lock of the store, and right here: it guards which database is the
/// current one, for two threads one of which may have to open it again, and nothing else; neither side holds it during
/// a commit.
struct Shared {
    state: Mutex<State>,
    /// Dropped behind the database.
    _lock: Option<File>,
}

struct State {
    home: Arc<Home>,
    /// `None` when it could not be opened again.
    open: Option<Open>,
    /// Counts how often it was opened.
    generation: u32,
    /// A transaction of the writer is under way, so that its database must not be opened a second time.
    writing: bool,
    /// redb has refused or will refuse all calls.
    broken: bool,
    /// Nothing is believed any more.
    sync_failed: bool,
    /// Something was committed that is not durable.
    applied: bool,
    /// That is lost, and nobody has heard of it.
    lost: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a call on the database of that generation failed.
    fn note(&self, generation: u32, error: redb::Error) -> StoreError {
        let mut state = self.state();
        let error = store_error(&state.home.name, error);
        // Damage is not cured by opening the file again.
        if !matches!(error, StoreError::Corrupt(_)) {
            state.broken |= state.generation == generation;
        }
        error
    }
}

impl State {
    fn new(home: Home, open: Open) -> Self {
        let (writing, broken, sync_failed, applied, lost) = (false, false, false, false, false);
        Self { home: Arc::new(home), open: Some(open), generation: 0, writing, broken, sync_failed, applied, lost }
    }

    /// The database, opened again when that is due.
    fn current(&mut self) -> Result<&Open, StoreError> {
        if self.broken && self.writing {
            // The writer's transaction is about to fail, and opens it again behind it.
            return Err(StoreError::Io(format!("{} is about to be opened again", self.home.name)));
        }
        if self.sync_failed {
            return Err(StoreError::FsyncFailed(self.home.name.clone()));
        }
        if self.broken {
            self.close()?;
        }
        self.opened(0)
    }

    /// Closes it as a crash would, which leaves the file as the last commit did. It must be closed before it is opened,
    /// as the file is locked by it.
    fn close(&mut self) -> Result<(), StoreError> {
        self.broken = false;
        self.lost |= std::mem::take(&mut self.applied);
        let Some(open) = self.open.take() else { return Ok(()) };
        open.ground.kill();
        guarded(&self.home.name, || {
            drop(open);
            Ok(())
        })
    }

    /// The database, opened when it is not, in a file of at least `len` bytes.
    fn opened(&mut self, len: u64) -> Result<&Open, StoreError> {
        match &mut self.open {
            Some(open) => Ok(open),
            empty => {
                let open = self.home.open(len);
                self.sync_failed |= open.as_ref().is_err_and(StoreError::is_fatal);
                self.generation = self.generation.wrapping_add(1);
                Ok(empty.insert(open?))
            }
        }
    }

    /// Makes the file longer for a commit that found no room in it: by `need` bytes at least, if that can be had, or by
    /// the headroom. False when there is nothing left to do.
    fn enlarge(&mut self, need: u64) -> Result<bool, StoreError> {
        let Open { ground, .. } = self.current()?;
        let solid = ground.solid();
        let mut step = need.max(solid / 8);
        let take = loop {
            step = step.next_multiple_of(4096);
            if ground.secure(step) {
                break step;
            }
            if step <= need.next_multiple_of(4096) {
                break ground.held();
            }
            step = need.max(step / 2);
        };
        if take == 0 {
            return Ok(false);
        }
        self.close()?;
        self.opened(solid.saturating_add(take))?;
        Ok(true)
    }

    /// Opens it again, which ends all snapshots, so that pages which they have kept are free behind the next commit.
    fn free_what_snapshots_keep(&mut self) -> Result<(), StoreError> {
        self.close()?;
        self.opened(0).map(drop)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // Closing gives back what is free in the file, which on a full disk would be somebody else's at once.
        if let Some(open) = &self.open
            && open.ground.tight()
        {
            open.ground.kill();
        }
    }
}

struct RedbReader(Arc<Shared>);

impl Reader for RedbReader {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        let mut state = self.0.state();
        let Open { database, .. } = state.current()?;
        let begun = database.begin_read().map_err(redb::Error::from).and_then(|read| Ok(read.open_table(DATA)?));
        let generation = state.generation;
        drop(state);
        let table = begun.map_err(|error| self.0.note(generation, error))?;
        Ok(Box::new(RedbSnapshot { table, generation, shared: self.0.clone() }))
    }

    fn another(&self) -> Box<dyn Reader> {
        Box::new(RedbReader(self.0.clone()))
    }
}

struct RedbSnapshot {
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
    generation: u32,
    shared: Arc<Shared>,
}

impl RedbSnapshot {
    fn note<T>(&self, result: Result<T, redb::Error>) -> Result<T, StoreError> {
        result.map_err(|error| self.shared.note(self.generation, error))
    }
}

impl Snapshot for RedbSnapshot {
    fn read(&self, key: &[u8], each: &mut dyn FnMut(&[u8])) -> Result<(), StoreError> {
        if let Some(value) = self.note(self.table.get(key).map_err(Into::into))? {
            each(value.value());
        }
        Ok(())
    }

    fn scan(&self, from: &[u8], to: &[u8], each: Each<'_>) -> Result<(), StoreError> {
        for row in self.note(self.table.range(from..to).map_err(Into::into))? {
            let (key, value) = self.note(row.map_err(Into::into))?;
            if each(key.value(), value.value()).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn scan_back(&self, from: &[u8], to: &[u8], each: Each<'_>) -> Result<(), StoreError> {
        for row in self.note(self.table.range(from..to).map_err(Into::into))?.rev() {
            let (key, value) = self.note(row.map_err(Into::into))?;
            if each(key.value(), value.value()).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Calls into redb, which may panic on a file that was damaged from outside.
fn guarded<T>(name: &str, call: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| Err(StoreError::Corrupt(format!("{name} is damaged"))))
}

fn store_error(name: &str, error: redb::Error) -> StoreError {
    match error {
        redb::Error::Io(error) => io_error(name, "cannot be used", error),
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => StoreError::Locked(name.to_string()),
        redb::Error::PreviousIo | redb::Error::DatabaseClosed => {
            StoreError::Io(format!("{name} had failed before and was not opened again yet"))
        }
        redb::Error::Corrupted(_)
        | redb::Error::UpgradeRequired(_)
        | redb::Error::RepairAborted
        | redb::Error::TableDoesNotExist(_)
        | redb::Error::TableTypeMismatch { .. } => StoreError::Corrupt(format!("{name} is damaged ({error})")),
        error => StoreError::Io(format!("{name} cannot be used ({error})")),
    }
}

pub(super) fn io_error(name: &str, what: &str, error: io::Error) -> StoreError {
    use io::ErrorKind::{InvalidData, PermissionDenied, ReadOnlyFilesystem, UnexpectedEof};
    match error.kind() {
        _ if is_full(&error) => StoreError::Full,
        InvalidData => StoreError::Corrupt(format!("{name} is no file of couplet's, or damaged")),
        UnexpectedEof => StoreError::Corrupt(format!("{name} ends too early")),
        PermissionDenied => StoreError::Denied(format!("{name} {what} ({error})")),
        ReadOnlyFilesystem => StoreError::ReadOnly(format!("{name} {what} ({error})")),
        _ => StoreError::Io(format!("{name} {what} ({error})")),
    }
}

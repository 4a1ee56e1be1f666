//! The back end of a server: one file, kept by redb.
//!
//! A commit is one redb transaction, synced before it returns, with the allocator's state in it (`quick_repair`), so that
//! a start after a crash repairs nothing. After a failed call redb refuses all others until the file is opened again; the
//! side that notices does that: the writer behind a failed commit, the reader when it takes a snapshot. After a failed
//! sync nothing is opened again: the system may show what the disk does not have, so all that is left to do is to end.
//!
//! # When room runs out
//!
//! [`ground`](super::ground) says what is there. A commit that would need more than the file has is aborted; then the
//! file is made longer by what is needed and some, or, when nothing but the headroom is left, by that, and the commit is
//! tried again. redb itself only doubles a file, which a small disk cannot give; an eighth at a time wastes less.
//!
//! From then on, until there is headroom again, a commit that adds rows or makes them longer must leave enough free pages
//! for those that do not: that is tried out by writing that much into a table and deleting it again before the commit
//! ([`leaves_room`]), because redb gives no cheap count of its free pages and a count would say nothing of their
//! fragments. Deletes and updates in place need no such test and live on what is left.
//!
//! What they need, for rows of up to 256 kB, the largest that are stored: redb copies each page that changes, and frees
//! the old ones behind the commit. A page holds whole rows, so the copy of a page that holds the largest has 512 kB in
//! one piece; beside it come a page of 4 kB for each level of the tree, those of the list of what was freed, and two for
//! the allocator's state. Measured: deleting one row in a store of 30 MB takes 9 pages, 100 rows spread over all of it
//! take 130. The test asks for one piece of 512 kB and 64 pages. A batch that deletes more rows at a time, spread wider,
//! may still be refused.

use super::file::{self, InFolder};
use super::ground::{Bounds, Ground, HEADROOM, Place, is_full};
use super::probe::Probe;
use super::{Batch, Each, Reader, Snapshot, Store, StoreError, Writer};
use redb::{
    Builder, Database, Durability, ReadOnlyTable, ReadableDatabase, StorageBackend, TableDefinition, WriteTransaction,
};
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The schema that this version writes, and the newest that it reads.
pub const SCHEMA: u32 = 1;

const DATA: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("data");
const META: TableDefinition<'static, &'static str, u32> = TableDefinition::new("meta");
const SCHEMA_KEY: &str = "schema";

/// What is tried out in the room that must be left: the largest row, and rows that have a page each.
const SPARE: TableDefinition<'static, u32, &'static [u8]> = TableDefinition::new("spare");
const SPARE_LARGE_BYTES: usize = 256 * 1024;
const SPARE_ROWS: u32 = 64;
const SPARE_ROW_BYTES: usize = 2500;

/// By how much the rows of a commit may grow, in bytes, without being taken for one that needs room.
const UPDATE_BYTES_MAX: i64 = 1024;
/// The least by which the file is made longer.
const STEP_BYTES_MIN: u64 = 128 * 1024;
/// How often a commit is tried, with twice the growth each time.
const TRIES: u32 = 5;

/// How the file is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedbOptions {
    /// Memory for pages of the file, in bytes.
    pub cache_bytes: usize,
    /// Bytes that the file may have; 0 is as many as the disk has. A new file has 1.1 MB, and 1 MB is kept in reserve, so
    /// less than 2.2 MB leaves little to write to.
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
    let open = home.open(0)?;
    let state = State { home, open: Some(open), generation: 0, writing: false, broken: false, sync_failed: false };
    let shared = Arc::new(Shared { state: Mutex::new(state), _lock: lock });
    Ok((Box::new(RedbReader(shared.clone())), Box::new(RedbWriter(shared))))
}

/// Where the file is and how it is used.
struct Home {
    place: Box<dyn Place>,
    name: String,
    options: RedbOptions,
}

/// A database in use.
struct Open {
    database: Database,
    ground: Ground,
}

impl Home {
    fn bounds(&self) -> Bounds {
        let size_max = if self.options.size_max == 0 { u64::MAX } else { self.options.size_max };
        Bounds { size_max, headroom: HEADROOM }
    }

    fn ground(&self) -> Result<Ground, StoreError> {
        let ground = self.place.open().and_then(|medium| Ground::new(medium, self.bounds()));
        ground.map_err(|error| io_error(&self.name, "cannot be opened", error))
    }

    /// A file of another program or of a newer version must not be repaired by us, so it is looked at first.
    fn look(&self) -> Result<(), StoreError> {
        let probe = Probe::new(self.ground()?).map_err(|error| io_error(&self.name, "cannot be read", error))?;
        guarded(&self.name, || self.open_known(probe).map(drop))
    }

    /// Opens the file, made longer by `take` bytes before.
    fn open(&self, take: u64) -> Result<Open, StoreError> {
        let ground = self.ground()?;
        ground.settle(take).map_err(|error| io_error(&self.name, "cannot be made longer", error))?;
        let database = guarded(&self.name, || self.open_known(ground.clone()));
        Ok(Open { database: self.believe(&ground, database)?, ground })
    }

    /// Opens a database that holds something, and refuses it unless its schema is known.
    fn open_known<B: StorageBackend>(&self, backend: B) -> Result<Database, StoreError> {
        let name = &self.name;
        let failed = |error: redb::Error| store_error(name, error);
        // redb takes an empty file for a new one; a file that lost its content is none.
        if backend.len().map_err(|error| io_error(name, "cannot be read", error))? == 0 {
            return Err(StoreError::Corrupt(format!("{name} is empty")));
        }
        let database = self.builder().create_with_backend(backend).map_err(|error| failed(error.into()))?;
        let found = schema(&database).map_err(|error| match error {
            redb::Error::TableDoesNotExist(_) | redb::Error::TableTypeMismatch { .. } => {
                StoreError::Corrupt(format!("{name} is a database of another program"))
            }
            error => failed(error),
        })?;
        match found {
            SCHEMA => Ok(database),
            found if found > SCHEMA => Err(StoreError::Newer { found, known: SCHEMA }),
            _ => Err(StoreError::Corrupt(format!("{name} has no schema"))),
        }
    }

    /// Makes an empty store beside and moves it to its place, so that a crash leaves no half of one.
    fn initialise(&self) -> Result<(), StoreError> {
        let failed = |error| io_error(&self.name, "cannot be made", error);
        let medium = self.place.create_beside().map_err(failed)?;
        let ground = Ground::new(medium, Bounds { headroom: 0, ..self.bounds() }).map_err(failed)?;
        let made = guarded(&self.name, || {
            let make = || {
                let database = self.builder().create_with_backend(ground.clone())?;
                let mut transaction = database.begin_write()?;
                transaction.set_quick_repair(true);
                transaction.open_table(DATA)?;
                transaction.open_table(META)?.insert(SCHEMA_KEY, SCHEMA)?;
                transaction.commit()?;
                Ok(database.close()?)
            };
            make().map_err(|error: redb::Error| store_error(&self.name, error))
        });
        self.believe(&ground, made)?;
        self.place.replace().map_err(failed)
    }

    /// What a call has given, unless a sync has failed: then that is all there is to say.
    fn believe<T>(&self, ground: &Ground, given: Result<T, StoreError>) -> Result<T, StoreError> {
        if ground.sync_failed() { Err(StoreError::FsyncFailed(self.name.clone())) } else { given }
    }

    fn builder(&self) -> Builder {
        let mut builder = Builder::new();
        builder.set_cache_size(self.options.cache_bytes);
        builder
    }
}

fn schema(database: &Database) -> Result<u32, redb::Error> {
    let read = database.begin_read()?;
    let schema = read.open_table(META)?.get(SCHEMA_KEY)?.map_or(0, |schema| schema.value());
    read.open_table(DATA)?;
    Ok(schema)
}

/// What both sides have. The mutex is the one lock of the store, and right here: it guards which database is the current
/// one, for two threads one of which may have to open it again, and nothing else; neither side holds it during a commit.
struct Shared {
    state: Mutex<State>,
    /// Dropped behind the database.
    _lock: Option<File>,
}

struct State {
    home: Home,
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
        let Some(open) = self.open.take() else { return Ok(()) };
        open.ground.kill();
        guarded(&self.home.name, || {
            drop(open);
            Ok(())
        })
    }

    fn opened(&mut self, take: u64) -> Result<&Open, StoreError> {
        match &mut self.open {
            Some(open) => Ok(open),
            empty => {
                let open = self.home.open(take);
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
        let mut step = need.max(ground.solid() / 8);
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
        self.opened(take)?;
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

struct RedbWriter(Arc<Shared>);

/// How a try to commit ended.
enum Tried {
    Done,
    /// Nothing of it is stored, because there is no room in the file.
    NoRoom,
}

impl Writer for RedbWriter {
    fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        let mut tally = Tally::default();
        let mut need = STEP_BYTES_MIN;
        for n in 0..TRIES {
            if let Tried::Done = self.try_to_commit(batches, &mut tally)? {
                return Ok(());
            }
            need = need.saturating_mul(2).max(tally.bytes.saturating_mul(2));
            if self.0.state().enlarge(need)? {
                continue;
            }
            if n > 0 || tally.spends() {
                break;
            }
            self.0.state().free_what_snapshots_keep()?;
            self.try_to_commit(&[], &mut Tally::default())?;
        }
        Err(StoreError::Full)
    }
}

impl RedbWriter {
    fn try_to_commit(&self, batches: &[Batch], tally: &mut Tally) -> Result<Tried, StoreError> {
        *tally = Tally::default();
        let mut state = self.0.state();
        let name = state.home.name.clone();
        let Open { database, ground } = state.current()?;
        let ground = ground.clone();
        ground.start();
        let transaction = guarded(&name, || Ok(database.begin_write().map_err(redb::Error::from)));
        state.writing = matches!(transaction, Ok(Ok(_)));
        drop(state);
        let done = transaction.and_then(|transaction| {
            guarded(&name, || {
                let tried = transaction.and_then(|transaction| write(transaction, batches, tally, &ground));
                tried.map_err(|error| store_error(&name, error))
            })
        });
        let mut state = self.0.state();
        state.writing = false;
        let done = state.home.believe(&ground, done);
        if let Err(error) = &done {
            state.broken = true;
            state.sync_failed |= error.is_fatal();
            // When this fails too, whoever needs the database next tries again.
            let _ = state.current();
            if ground.refused() && !error.is_fatal() {
                return Ok(Tried::NoRoom);
            }
        }
        done
    }
}

/// What the writes of a commit come to.
#[derive(Default)]
struct Tally {
    /// Of keys and values that are put.
    bytes: u64,
    rows_added: u64,
    bytes_grown: i64,
}

impl Tally {
    /// True when it takes room that stays taken.
    fn spends(&self) -> bool {
        self.rows_added > 0 || self.bytes_grown > UPDATE_BYTES_MAX
    }
}

fn write(
    mut transaction: WriteTransaction,
    batches: &[Batch],
    tally: &mut Tally,
    ground: &Ground,
) -> Result<Tried, redb::Error> {
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_quick_repair(true);
    let mut table = transaction.open_table(DATA)?;
    for (key, value) in batches.iter().flat_map(|batch| &batch.writes) {
        let value_len = value.as_ref().map_or(0, |value| value.len());
        let old = match value {
            Some(value) => table.insert(&**key, &**value)?,
            None => table.remove(&**key)?,
        };
        let old_len = old.map(|old| old.value().len());
        if value.is_some() {
            tally.bytes = tally.bytes.saturating_add((key.len() + value_len) as u64);
            tally.rows_added += u64::from(old_len.is_none());
        }
        tally.bytes_grown = tally.bytes_grown.saturating_add(value_len as i64 - old_len.unwrap_or(0) as i64);
        if ground.refused() {
            break;
        }
    }
    drop(table);
    if ground.refused() || tally.spends() && ground.tight() && !leaves_room(&transaction, ground)? {
        transaction.abort()?;
        return Ok(Tried::NoRoom);
    }
    transaction.commit()?;
    Ok(Tried::Done)
}

/// Tries out whether there is room in the file for commits that free some.
fn leaves_room(transaction: &WriteTransaction, ground: &Ground) -> Result<bool, redb::Error> {
    let mut table = transaction.open_table(SPARE)?;
    drop(table.insert_reserve(0, SPARE_LARGE_BYTES)?);
    for n in 1..=SPARE_ROWS {
        if ground.refused() {
            return Ok(false);
        }
        drop(table.insert_reserve(n, SPARE_ROW_BYTES)?);
    }
    drop(table);
    transaction.delete_table(SPARE)?;
    Ok(!ground.refused())
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
    use io::ErrorKind::{InvalidData, UnexpectedEof};
    match error.kind() {
        _ if is_full(&error) => StoreError::Full,
        InvalidData => StoreError::Corrupt(format!("{name} is no file of couplet's, or damaged")),
        UnexpectedEof => StoreError::Corrupt(format!("{name} ends too early")),
        _ => StoreError::Io(format!("{name} {what} ({error})")),
    }
}

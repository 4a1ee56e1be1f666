//! The back end of a server: one file, kept by redb.
//!
//! A commit is one redb transaction, synced before it returns, with the allocator's state in it (`quick_repair`), so
//! that a start after a crash repairs nothing. After a failed call redb refuses all others until the file is opened
//! again; the side that notices does that: the writer behind a failed commit, the reader when it takes a snapshot.

use super::probe::Probe;
use super::{Batch, Each, Reader, Snapshot, Store, StoreError, Writer};
use redb::backends::FileBackend;
use redb::{Builder, Database, Durability, ReadOnlyTable, ReadableDatabase, StorageBackend, TableDefinition};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The schema that this version writes, and the newest that it reads.
pub const SCHEMA: u32 = 1;

const DATA: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("data");
const META: TableDefinition<'static, &'static str, u32> = TableDefinition::new("meta");
const SCHEMA_KEY: &str = "schema";

/// How the file is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedbOptions {
    /// Memory for pages of the file, in bytes.
    pub cache_bytes: usize,
}

impl Default for RedbOptions {
    fn default() -> Self {
        Self { cache_bytes: 256 * 1024 }
    }
}

/// Opens the store in the file `path`, which is made when there is none. A lock on `path` with `.lock` at its end keeps
/// out other processes for as long as either side lives.
///
/// # Errors
/// Any of [`StoreError`]. Only a file that this version can read is written to.
pub fn open(path: &Path, options: RedbOptions) -> Result<Store, StoreError> {
    let name = path.display().to_string();
    let lock = lock(path)?;
    let wanted = |error| io_error(&name, "cannot be opened", error);
    match fs::metadata(path) {
        Ok(file) if file.len() > 0 => {}
        Ok(_) => create(path, &name, options)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path, &name, options)?,
        Err(error) => return Err(wanted(error)),
    }
    let path = path.to_path_buf();
    let backend = move || backend_of(OpenOptions::new().read(true).write(true).open(&path)?);
    open_locked(backend, name, options, Some(lock))
}

/// Opens the store in whatever `backend` gives; it is called once for a look, once to open, and again whenever redb has
/// to be opened again. An empty backend becomes an empty store. Nothing is locked but by the backend.
///
/// # Errors
/// As [`open`].
pub fn open_with_backend<B: StorageBackend>(
    backend: impl Fn() -> io::Result<B> + Send + 'static,
    options: RedbOptions,
) -> Result<Store, StoreError> {
    let name = "the store".to_string();
    let first = backend().map_err(|error| io_error(&name, "cannot be opened", error))?;
    if first.len().map_err(|error| io_error(&name, "cannot be read", error))? == 0 {
        initialise(first, &name, options)?;
    } else {
        // Given back before it is opened again.
        first.close().map_err(|error| io_error(&name, "cannot be closed", error))?;
    }
    open_locked(backend, name, options, None)
}

fn open_locked<B: StorageBackend>(
    backend: impl Fn() -> io::Result<B> + Send + 'static,
    name: String,
    options: RedbOptions,
    lock: Option<File>,
) -> Result<Store, StoreError> {
    let wanted = |error| io_error(&name, "cannot be opened", error);
    // A file of another program or of a newer version must not be repaired by us, so it is looked at first.
    let probe = Probe::new(backend().map_err(wanted)?).map_err(wanted)?;
    guarded(&name, || open_known(probe, &name, options).map(drop))?;
    let file_name = name.clone();
    let open = move || {
        let backend = backend().map_err(|error| io_error(&file_name, "cannot be opened", error))?;
        guarded(&file_name, || open_known(backend, &file_name, options))
    };
    let state = State { database: Some(open()?), generation: 0, writing: false, broken: false, open: Box::new(open) };
    let shared = Arc::new(Shared { state: Mutex::new(state), name, _lock: lock });
    Ok((Box::new(RedbReader(shared.clone())), Box::new(RedbWriter(shared))))
}

/// What both sides have. The mutex is the one lock of the store, and right here: it guards which database is the
/// current one, for two threads one of which may have to open it again, and nothing else; neither side holds it during
/// a commit.
struct Shared {
    state: Mutex<State>,
    name: String,
    /// Dropped behind the database.
    _lock: Option<File>,
}

struct State {
    /// `None` when it could not be opened again.
    database: Option<Database>,
    /// Counts how often it was opened.
    generation: u32,
    /// A transaction of the writer is under way, so that its database must not be opened a second time.
    writing: bool,
    /// redb has refused or will refuse all calls.
    broken: bool,
    open: Box<dyn Fn() -> Result<Database, StoreError> + Send>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a call on the database of that generation failed.
    fn note(&self, generation: u32, error: redb::Error) -> StoreError {
        let error = store_error(&self.name, error);
        // Damage is not cured by opening the file again.
        if !matches!(error, StoreError::Corrupt(_)) {
            let mut state = self.state();
            state.broken |= state.generation == generation;
        }
        error
    }
}

impl State {
    /// The database, opened again when that is due.
    fn current(&mut self, name: &str) -> Result<&Database, StoreError> {
        if self.broken && self.writing {
            // The writer's transaction is about to fail, and opens it again behind it.
            return Err(StoreError::Io(format!("{name} is about to be opened again")));
        }
        if self.broken {
            // Closed before it is opened, as the file is locked by it.
            let database = self.database.take();
            self.broken = false;
            guarded(name, || {
                drop(database);
                Ok(())
            })?;
        }
        match &mut self.database {
            Some(database) => Ok(database),
            empty => {
                let database = (self.open)()?;
                self.generation = self.generation.wrapping_add(1);
                Ok(empty.insert(database))
            }
        }
    }
}

struct RedbReader(Arc<Shared>);

impl Reader for RedbReader {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        let mut state = self.0.state();
        let database = state.current(&self.0.name)?;
        let table = guarded(&self.0.name, || {
            Ok(database.begin_read().map_err(redb::Error::from).and_then(|read| Ok(read.open_table(DATA)?)))
        })?;
        let generation = state.generation;
        drop(state);
        let table = table.map_err(|error| self.0.note(generation, error))?;
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

impl Writer for RedbWriter {
    fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        let name = &self.0.name;
        let transaction = {
            let mut state = self.0.state();
            let transaction = guarded(name, || Ok(state.current(name)?.begin_write().map_err(redb::Error::from)));
            state.writing = matches!(transaction, Ok(Ok(_)));
            transaction
        };
        let done = transaction.and_then(|transaction| {
            guarded(name, || transaction.and_then(|it| write(it, batches)).map_err(|error| store_error(name, error)))
        });
        let mut state = self.0.state();
        state.writing = false;
        if done.is_err() {
            state.broken = true;
            // When this fails too, whoever needs the database next tries again.
            let _ = state.current(name);
        }
        done
    }
}

fn write(mut transaction: redb::WriteTransaction, batches: &[Batch]) -> Result<(), redb::Error> {
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_quick_repair(true);
    {
        let mut table = transaction.open_table(DATA)?;
        for (key, value) in batches.iter().flat_map(|batch| &batch.writes) {
            match value {
                Some(value) => drop(table.insert(&**key, &**value)?),
                None => drop(table.remove(&**key)?),
            }
        }
    }
    Ok(transaction.commit()?)
}

/// Opens a database that holds something, and refuses it unless its schema is known.
fn open_known<B: StorageBackend>(backend: B, name: &str, options: RedbOptions) -> Result<Database, StoreError> {
    let failed = |error: redb::Error| store_error(name, error);
    // redb takes an empty file for a new one; a file that lost its content is none.
    if backend.len().map_err(|error| io_error(name, "cannot be read", error))? == 0 {
        return Err(StoreError::Corrupt(format!("{name} is empty")));
    }
    let database = builder(options).create_with_backend(backend).map_err(|error| failed(error.into()))?;
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

fn schema(database: &Database) -> Result<u32, redb::Error> {
    let read = database.begin_read()?;
    let schema = read.open_table(META)?.get(SCHEMA_KEY)?.map_or(0, |schema| schema.value());
    read.open_table(DATA)?;
    Ok(schema)
}

/// Makes an empty store in an empty backend.
fn initialise<B: StorageBackend>(backend: B, name: &str, options: RedbOptions) -> Result<(), StoreError> {
    guarded(name, || {
        let make = || {
            let database = builder(options).create_with_backend(backend)?;
            let mut transaction = database.begin_write()?;
            transaction.set_quick_repair(true);
            transaction.open_table(DATA)?;
            transaction.open_table(META)?.insert(SCHEMA_KEY, SCHEMA)?;
            transaction.commit()?;
            Ok(database.close()?)
        };
        make().map_err(|error: redb::Error| store_error(name, error))
    })
}

/// Makes the file beside its place and moves it there, so that a crash leaves no half of one.
fn create(path: &Path, name: &str, options: RedbOptions) -> Result<(), StoreError> {
    let new = beside(path, ".new");
    let failed = |error| io_error(name, "cannot be made", error);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&new).map_err(failed)?;
    initialise(backend_of(file).map_err(failed)?, name, options)?;
    fs::rename(&new, path).map_err(failed)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let path = beside(path, ".lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(|error| io_error(&path.display().to_string(), "cannot be made", error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked(path.with_extension("").display().to_string())),
        // A file system without locks; redb's own then guards as well as it can.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(error)) => Err(io_error(&path.display().to_string(), "cannot be locked", error)),
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(ending);
    name.into()
}

fn builder(options: RedbOptions) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(options.cache_bytes);
    builder
}

fn backend_of(file: File) -> io::Result<FileBackend> {
    FileBackend::new(file).map_err(io::Error::other)
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

fn io_error(name: &str, what: &str, error: io::Error) -> StoreError {
    use io::ErrorKind::{InvalidData, QuotaExceeded, StorageFull, UnexpectedEof};
    match error.kind() {
        StorageFull | QuotaExceeded => StoreError::Full,
        InvalidData => StoreError::Corrupt(format!("{name} is no file of couplet's, or damaged")),
        UnexpectedEof => StoreError::Corrupt(format!("{name} ends too early")),
        _ => StoreError::Io(format!("{name} {what} ({error})")),
    }
}

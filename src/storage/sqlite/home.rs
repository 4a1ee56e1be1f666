//! The file at rest: how it is made, looked at, and opened.

use super::super::backup::Put;
use super::super::file::{beside, remove, sync_folder_of};
use super::super::ground::HEADROOM;
use super::{SCHEMA, SqliteOptions, StoreError, io_error, store_error, try_to_write};
use crate::fault::{Fault, armed};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Tells our files from those of other programs: "cplt".
const APPLICATION_ID: u32 = 0x6370_6c74;

/// A file up to that many bytes is looked through when it is opened.
const LOOKED_THROUGH_BYTES: u64 = 16 * 1024 * 1024;

/// Each of the writer, the engine's snapshot, the one that takes its place, and the reader of archives has that part of
/// the cache.
const CACHES: usize = 4;
/// Less than ten pages SQLite does not take.
const CACHE_KIB_MIN: usize = 40;

/// The head of a file (<https://www.sqlite.org/fileformat2.html> section 1.3).
const HEAD_BYTES: usize = 100;
const MAGIC: &[u8] = b"SQLite format 3\0";

/// Where the file is and how it is used.
pub(super) struct Home {
    pub(super) path: PathBuf,
    pub(super) name: String,
    pub(super) options: SqliteOptions,
    pub(super) page_bytes: u64,
}

impl Home {
    pub(super) fn new(path: &Path, options: SqliteOptions) -> Self {
        let told = options.tuning.pragmas.iter().find(|(name, _)| name == "page_size");
        let page_bytes = told.and_then(|(_, value)| value.parse().ok()).unwrap_or(4096);
        Self { path: path.to_path_buf(), name: path.display().to_string(), options, page_bytes }
    }

    pub(super) fn error(&self, error: &rusqlite::Error) -> StoreError {
        store_error(&self.name, error, || try_to_write(&beside(&self.path, ".lock")))
    }

    /// The log beside the file.
    pub(super) fn log(&self) -> PathBuf {
        beside(&self.path, "-wal")
    }

    /// A file of another program or of a newer version must not be touched by us, so its head is read first.
    pub(super) fn look(&mut self) -> Result<(), StoreError> {
        let name = &self.name;
        let mut head = [0; HEAD_BYTES];
        let opened = OpenOptions::new().read(true).write(true).open(&self.path);
        let mut file = opened.map_err(|error| io_error(name, "cannot be opened", error))?;
        file.read_exact(&mut head).map_err(|error| io_error(name, "cannot be used", error))?;
        let number =
            |at: usize| head.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes);
        // 1 stands for what two bytes cannot say.
        self.page_bytes = match number(16) >> 16 {
            1 => 65_536,
            bytes => bytes.into(),
        };
        match (head.starts_with(MAGIC), number(68), number(60)) {
            (false, ..) => Err(StoreError::Corrupt(format!("{name} is no file of couplet's, or damaged"))),
            (true, APPLICATION_ID, 1..=SCHEMA) => Ok(()),
            (true, APPLICATION_ID, 0) => Err(StoreError::Corrupt(format!("{name} has no schema"))),
            (true, APPLICATION_ID, found) => Err(StoreError::Newer { found, known: SCHEMA }),
            (true, ..) => Err(StoreError::Corrupt(format!("{name} is a database of another program"))),
        }
    }

    /// The writer's connection to a file that has been looked at.
    pub(super) fn open(&self) -> Result<Connection, StoreError> {
        let opened = (|| {
            let connection = self.connect()?;
            connection.busy_timeout(Duration::ZERO)?;
            let small = fs::metadata(&self.path).is_ok_and(|file| file.len() <= LOOKED_THROUGH_BYTES);
            let found = match small {
                true => connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))?,
                false => "ok".to_string(),
            };
            let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
            Ok((connection, found, mode))
        })();
        let (connection, found, mode) = opened.map_err(|error| self.error(&error))?;
        match (found.as_str(), mode.as_str()) {
            ("ok", "wal") => Ok(connection),
            ("ok", _) => Err(StoreError::Io(format!("{} cannot have a write-ahead log", self.name))),
            _ => Err(StoreError::Corrupt(format!("{} is damaged ({})", self.name, found.replace('\n', " ")))),
        }
    }

    /// A connection, with all that it is told.
    pub(super) fn connect(&self) -> rusqlite::Result<Connection> {
        let connection = self.connect_to(&self.path)?;
        // Taking in the log when it is closed is done only where all is well.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        let pages_max = self.pages_max(HEADROOM);
        connection.execute_batch(&format!(
            "PRAGMA wal_autocheckpoint = 0; PRAGMA max_page_count = {pages_max}; PRAGMA synchronous = {}",
            synchronous(true)
        ))?;
        Ok(connection)
    }

    fn connect_to(&self, path: &Path) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags_and_vfs(path, flags, c"unix-excl")?;
        let cache_kib = (self.options.file.cache_bytes / CACHES / 1024).max(CACHE_KIB_MIN);
        let log_bytes = self.log_bytes_max().saturating_mul(2);
        connection.execute_batch(&format!(
            "PRAGMA cache_size = -{cache_kib}; PRAGMA journal_size_limit = {log_bytes}; PRAGMA mmap_size = 0; \
             PRAGMA temp_store = MEMORY; PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF"
        ))?;
        for (name, value) in &self.options.tuning.pragmas {
            connection.execute_batch(&format!("PRAGMA {name} = {value}"))?;
        }
        Ok(connection)
    }

    /// Bytes that a full log adds to the file at most.
    pub(super) fn log_bytes_max(&self) -> u64 {
        u64::from(self.options.tuning.wal_pages).saturating_mul(self.page_bytes)
    }

    /// Pages that the file may have, but for those in reserve.
    pub(super) fn pages_max(&self, reserve: u64) -> u64 {
        match self.options.file.size_max {
            // As many as SQLite can have.
            0 => 0xffff_fffe,
            bytes => (bytes.saturating_sub(reserve) / self.page_bytes.max(1)).max(1),
        }
    }

    /// Makes a store of what `feed` puts, in a second file. All of it is durable, or an error is given.
    pub(super) fn build<T>(
        &self,
        schema: u32,
        feed: impl FnOnce(Put<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let new = beside(&self.path, ".new");
        let failed = |error| io_error(&self.name, "cannot be made", error);
        let discard = || ["", "-wal", "-journal"].iter().try_for_each(|ending| remove(&beside(&new, ending)));
        discard().map_err(failed)?;
        let built = (|| {
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(failed)?;
            let made = self.fill(&new, schema, feed)?;
            if !armed(Fault::SyncLeftOut) {
                File::open(&new).and_then(|file| file.sync_all()).map_err(failed)?;
            }
            Ok(made)
        })();
        if built.is_err() {
            // An error here tells nothing new: the next one is made in its place.
            let _ = discard();
        }
        built
    }

    fn fill<T>(
        &self,
        new: &Path,
        schema: u32,
        feed: impl FnOnce(Put<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let failed = |error: rusqlite::Error| self.error(&error);
        let connection = self.connect_to(new).map_err(failed)?;
        // Nobody sees it before it is whole, so it needs no journal.
        let head = format!(
            "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; \
             PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {schema}; \
             PRAGMA max_page_count = {}; \
             BEGIN; CREATE TABLE data (key BLOB NOT NULL PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
            self.pages_max(HEADROOM)
        );
        connection.execute_batch(&head).map_err(failed)?;
        let made = {
            let mut insert =
                connection.prepare("INSERT OR REPLACE INTO data (key, value) VALUES (?1, ?2)").map_err(failed)?;
            feed(&mut |key, value| insert.execute((key, value)).map(drop).map_err(failed))?
        };
        connection.execute_batch("COMMIT; PRAGMA journal_mode = WAL").map_err(failed)?;
        connection.close().map_err(|(_, error)| failed(error))?;
        Ok(made)
    }

    /// Moves the second file to its place. A log that belongs to another file must not be left beside it: `is_new` says
    /// that one that is there belongs to nothing.
    pub(super) fn replace(&self, is_new: bool) -> Result<(), StoreError> {
        let failed = |error| io_error(&self.name, "cannot be put in place", error);
        let log = self.log();
        if !is_new && fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
            return Err(StoreError::Io(format!("{} was not taken into {}", log.display(), self.name)));
        }
        remove(&log).and_then(|()| sync_folder_of(&self.path)).map_err(failed)?;
        fs::rename(beside(&self.path, ".new"), &self.path).map_err(failed)?;
        sync_folder_of(&self.path).map_err(failed)
    }
}

/// The word for a commit that is on the disk when it returns, or need not be.
pub(super) fn synchronous(durable: bool) -> &'static str {
    match durable {
        _ if armed(Fault::SyncLeftOut) => "OFF",
        true => "FULL",
        false => "NORMAL",
    }
}

/// Has the last connection take the log into the file when it is closed.
pub(super) fn take_in_when_closed(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map(drop)
}

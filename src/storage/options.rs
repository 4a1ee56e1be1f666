//! Which store a server has, and how it is used.

use super::redb::{self, RedbOptions};
#[cfg(feature = "sqlite")]
use super::sqlite::{self, SqliteOptions, Tuning};
use super::{Mode, Plan, Promises, Store, StoreError, backup, memory, set_aside, volatile};
use std::fmt;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Where a store is, and how it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Where it is.
    pub kept: Kept,
    /// How large it may be, and how much of it is in memory.
    pub options: RedbOptions,
    /// When it is written to the disk.
    pub plan: Plan,
}

/// Where a store is. A folder has one, of one form: changing the form in the configuration must not make what is there
/// look lost, nor bring back what was there before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In memory, until the process ends.
    Nowhere,
    /// In a file of redb.
    File {
        /// That file.
        path: PathBuf,
        /// The files of the other forms.
        others: [PathBuf; 2],
    },
    /// In memory, with a snapshot on the disk.
    Snapshot {
        /// The file of the snapshot.
        path: PathBuf,
        /// The files of the other forms.
        others: [PathBuf; 2],
    },
    /// In a file of SQLite.
    #[cfg(feature = "sqlite")]
    Sqlite {
        /// That file.
        path: PathBuf,
        /// The files of the other forms.
        others: [PathBuf; 2],
        /// What SQLite is told.
        tuning: Tuning,
    },
}

impl StoreOptions {
    /// Its file; none when it is not kept.
    pub fn file(&self) -> Option<&Path> {
        self.files().map(|(path, _)| path)
    }

    /// Its file, and those of the other forms.
    fn files(&self) -> Option<(&Path, &[PathBuf; 2])> {
        match &self.kept {
            Kept::Nowhere => None,
            Kept::File { path, others } | Kept::Snapshot { path, others } => Some((path, others)),
            #[cfg(feature = "sqlite")]
            Kept::Sqlite { path, others, .. } => Some((path, others)),
        }
    }

    /// True when the folder has a store of another form, so that [`StoreOptions::open`] refuses.
    pub fn has_other_form(&self) -> bool {
        self.files().is_some_and(|(_, others)| others.iter().any(|other| exists(other)))
    }

    /// What SQLite is told.
    #[cfg(feature = "sqlite")]
    fn sqlite(&self, tuning: &Tuning) -> SqliteOptions {
        SqliteOptions { file: self.options, tuning: tuning.clone() }
    }

    /// One line for the operator: how it is kept, and what it takes on the disk.
    pub fn status(&self) -> String {
        match self.file() {
            Some(path) => {
                let bytes = fs::metadata(path).map_or(0, |file| file.len());
                format!("storage: {self}; {} has {bytes} bytes", path.display())
            }
            None => format!("storage: {self}"),
        }
    }

    /// Opens it; makes it when there is none.
    ///
    /// # Errors
    /// As [`redb::open()`], `sqlite::open` and [`volatile::open`]; [`StoreError::OtherForm`] when the folder has a
    /// store of another form.
    pub fn open(&self) -> Result<Store, StoreError> {
        let (_, others) = self.files().unzip();
        if let Some(other) = others.into_iter().flatten().find(|other| exists(other)) {
            return Err(StoreError::OtherForm(other.display().to_string()));
        }
        self.open_file()
    }

    fn open_file(&self) -> Result<Store, StoreError> {
        match &self.kept {
            Kept::Nowhere => Ok(memory::open()),
            Kept::File { path, .. } => redb::open(path, self.options),
            Kept::Snapshot { path, .. } => volatile::open(path, self.options),
            #[cfg(feature = "sqlite")]
            Kept::Sqlite { path, tuning, .. } => sqlite::open(path, &self.sqlite(tuning)),
        }
    }

    /// Makes it from a backup. What is in its place, or a store of another form, is replaced only if `replace` says
    /// so; what is damaged is set aside instead, and so are other forms. Gives what was set aside.
    ///
    /// # Errors
    /// As [`backup::restore`]; what is not set aside is as it was then.
    pub fn restore(&self, input: &mut dyn Read, replace: bool) -> Result<(backup::Summary, Vec<PathBuf>), StoreError> {
        let Some((path, others)) = self.files() else {
            return Err(StoreError::Io("a store in memory cannot be restored".into()));
        };
        let files = || std::iter::once(path).chain(others.iter().map(PathBuf::as_path));
        if !replace && let Some(there) = files().find(|path| exists(path)) {
            return Err(StoreError::Exists(there.display().to_string()));
        }
        let mut aside = Vec::new();
        if exists(path) {
            match self.open_file().map(drop) {
                Ok(()) => {}
                Err(StoreError::Corrupt(_) | StoreError::BadBackup(_) | StoreError::Newer { .. }) => {
                    aside.push(set_aside(path)?);
                }
                Err(error) => return Err(error),
            }
        }
        let summary = match &self.kept {
            Kept::Snapshot { .. } => backup::restore_snapshot(input, path, replace)?,
            #[cfg(feature = "sqlite")]
            Kept::Sqlite { tuning, .. } => sqlite::restore(input, path, &self.sqlite(tuning), replace)?,
            _ => backup::restore(input, path, self.options, replace)?,
        };
        for other in others.iter().filter(|other| exists(other)) {
            aside.push(set_aside(other)?);
        }
        Ok((summary, aside))
    }
}

/// What it promises.
impl fmt::Display for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |ms: u64| ms / 1000;
        if self.kept == Kept::Nowhere {
            return f.write_str("memory, nothing is kept");
        }
        #[cfg(feature = "sqlite")]
        if let Kept::Sqlite { .. } = self.kept {
            f.write_str("SQLite, ")?;
        }
        match self.plan.mode {
            Mode::Durable => f.write_str("durable"),
            Mode::Batched { every_ms, promises: Promises::Wait } => {
                write!(f, "batched, written every {} s, acknowledged when written", seconds(every_ms))
            }
            Mode::Batched { every_ms, promises: Promises::Early } => {
                write!(f, "batched, a crash loses up to {} s", seconds(every_ms))
            }
            Mode::Volatile { snapshot_every_ms } => {
                write!(f, "volatile, a crash loses up to {} s", seconds(snapshot_every_ms))
            }
        }
    }
}

/// Something is there, or may be.
fn exists(path: &Path) -> bool {
    !fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

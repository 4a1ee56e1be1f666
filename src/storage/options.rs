//! Which store a server has, and how it is used.

use super::redb::{self, RedbOptions};
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
        /// The file of the other form.
        other: PathBuf,
    },
    /// In memory, with a snapshot on the disk.
    Snapshot {
        /// The file of the snapshot.
        path: PathBuf,
        /// The file of the other form.
        other: PathBuf,
    },
}

impl StoreOptions {
    /// Its file; none when it is not kept.
    pub fn file(&self) -> Option<&Path> {
        match &self.kept {
            Kept::Nowhere => None,
            Kept::File { path, .. } | Kept::Snapshot { path, .. } => Some(path),
        }
    }

    /// True when the folder has a store of the other form, so that [`StoreOptions::open`] refuses.
    pub fn has_other_form(&self) -> bool {
        match &self.kept {
            Kept::Nowhere => false,
            Kept::File { other, .. } | Kept::Snapshot { other, .. } => exists(other),
        }
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
    /// As [`redb::open()`] and [`volatile::open`]; [`StoreError::OtherForm`] when the folder has a store of the other
    /// form.
    pub fn open(&self) -> Result<Store, StoreError> {
        match &self.kept {
            Kept::Nowhere => Ok(memory::open()),
            Kept::File { path, other } => {
                refuse_other(other)?;
                redb::open(path, self.options)
            }
            Kept::Snapshot { path, other } => {
                refuse_other(other)?;
                volatile::open(path, self.options)
            }
        }
    }

    /// Makes it from a backup. What is in its place, or a store of the other form, is replaced only if `replace` says
    /// so; what is damaged is set aside instead, and so is the other form. Gives what was set aside.
    ///
    /// # Errors
    /// As [`backup::restore`]; what is not set aside is as it was then.
    pub fn restore(&self, input: &mut dyn Read, replace: bool) -> Result<(backup::Summary, Vec<PathBuf>), StoreError> {
        let (path, other) = match &self.kept {
            Kept::Nowhere => return Err(StoreError::Io("a store in memory cannot be restored".into())),
            Kept::File { path, other } | Kept::Snapshot { path, other } => (path, other),
        };
        if !replace && let Some(there) = [path, other].into_iter().find(|path| exists(path)) {
            return Err(StoreError::Exists(there.display().to_string()));
        }
        let mut aside = Vec::new();
        if exists(path) {
            let damaged = match &self.kept {
                Kept::Snapshot { .. } => volatile::open(path, self.options).map(drop),
                _ => redb::open(path, self.options).map(drop),
            };
            match damaged {
                Ok(()) => {}
                Err(StoreError::Corrupt(_) | StoreError::BadBackup(_) | StoreError::Newer { .. }) => {
                    aside.push(set_aside(path)?);
                }
                Err(error) => return Err(error),
            }
        }
        let summary = match &self.kept {
            Kept::Snapshot { .. } => backup::restore_snapshot(input, path, replace)?,
            _ => backup::restore(input, path, self.options, replace)?,
        };
        if exists(other) {
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

fn refuse_other(other: &Path) -> Result<(), StoreError> {
    if exists(other) { Err(StoreError::OtherForm(other.display().to_string())) } else { Ok(()) }
}

/// Something is there, or may be.
fn exists(path: &Path) -> bool {
    !fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

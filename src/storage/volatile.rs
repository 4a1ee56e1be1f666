//! The store in memory, with a snapshot of it on the disk, for flash that must not wear.
//!
//! The snapshot is a [backup](super::backup), written whole, read again and checked before it takes the place of the
//! one before. It is written when [`Writer::flush`] is called, and loaded at the start. What was written since is lost
//! with the process; [`Mode::Volatile`](super::Mode::Volatile) says when it is written.
//!
//! In memory the store is the same as on a disk, in pages, so that a snapshot costs nothing to take and nothing is
//! copied while it is written. It takes about twice the bytes of its rows.

use super::file;
use super::ground::{Medium, Place};
use super::redb::{self, Home, RedbOptions, io_error};
use super::{Batch, Reader, Stats, Store, StoreError, Writer, backup};
use ::redb::StorageBackend;
use ::redb::backends::InMemoryBackend;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Opens the store of the snapshot in the file `path`; an empty one when there is no such file. A lock on `path` with
/// `.lock` at its end keeps out other processes for as long as the writer lives. `options.size_max` bounds the memory.
///
/// # Errors
/// [`StoreError::BadBackup`] when the snapshot is damaged, and any other of [`StoreError`].
pub fn open(path: &Path, options: RedbOptions) -> Result<Store, StoreError> {
    let name = path.display().to_string();
    let lock = file::lock(path)?;
    let home = Home { place: Box::new(InMemory::default()), name: name.clone(), options };
    match File::open(path) {
        Ok(mut snapshot) => home.load(&mut snapshot).map(drop).map_err(|error| match error {
            StoreError::BadBackup(what) => StoreError::BadBackup(format!("{name}: {what}")),
            error => error,
        })?,
        Err(error) if error.kind() == ErrorKind::NotFound => home.initialise()?,
        Err(error) => return Err(io_error(&name, "cannot be opened", error)),
    }
    let (reader, writer) = redb::open_home(home, None)?;
    let writer = VolatileWriter { writer, reader: reader.another(), path: path.to_path_buf(), _lock: lock };
    Ok((reader, Box::new(writer)))
}

struct VolatileWriter {
    writer: Box<dyn Writer>,
    reader: Box<dyn Reader>,
    path: PathBuf,
    _lock: File,
}

impl Writer for VolatileWriter {
    fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        self.writer.commit(batches)
    }

    fn flush(&mut self, wall_ms: i64) -> Result<(), StoreError> {
        backup::write_file(&*self.reader, &self.path, wall_ms).map(drop)
    }

    fn stats(&mut self) -> Result<Stats, StoreError> {
        self.writer.stats()
    }

    fn compact(&mut self) -> Result<Stats, StoreError> {
        self.writer.compact()
    }
}

/// Two files in memory, as a folder has them.
#[derive(Debug, Default)]
struct InMemory(Mutex<[Arc<InMemoryBackend>; 2]>);

impl Place for InMemory {
    fn open(&self) -> io::Result<Box<dyn Medium>> {
        let [file, _] = &*self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Box::new(Pages(file.clone())))
    }

    fn create_beside(&self) -> io::Result<Box<dyn Medium>> {
        let [_, beside] = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *beside = Arc::default();
        Ok(Box::new(Pages(beside.clone())))
    }

    fn discard_beside(&self) {
        let [_, beside] = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *beside = Arc::default();
    }

    fn replace(&self) -> io::Result<()> {
        let [file, beside] = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *file = std::mem::take(beside);
        Ok(())
    }
}

/// A file in memory.
#[derive(Debug)]
struct Pages(Arc<InMemoryBackend>);

impl Medium for Pages {
    fn grow(&self, len: u64, _behind: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn hold(&self, _bytes: u64) -> io::Result<()> {
        Ok(())
    }
}

impl StorageBackend for Pages {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

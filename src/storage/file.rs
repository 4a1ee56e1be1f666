//! The store's file in a folder: its lock, its place on the disk, and how another file takes its place.

use super::StoreError;
use super::ground::{Medium, Place};
use super::redb::io_error;
use crate::fault::{Fault, armed};
use redb::StorageBackend;
use redb::backends::FileBackend;
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate, fstatvfs};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes of zeros that are written at once where the file system cannot allocate.
const ZEROS_MAX: u64 = 64 * 1024;

/// A file in a folder. The second file has `.new` at the end of its name.
#[derive(Clone, Debug)]
pub(super) struct InFolder(pub(super) PathBuf);

impl Place for InFolder {
    fn open(&self) -> io::Result<Box<dyn Medium>> {
        let file = OpenOptions::new().read(true).write(true).open(&self.0)?;
        Ok(Box::new(OnDisk::new(file, beside(&self.0, ".room"))?))
    }

    fn create_beside(&self) -> io::Result<Box<dyn Medium>> {
        let new = beside(&self.0, ".new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&new)?;
        Ok(Box::new(OnDisk::new(file, beside(&new, ".room"))?))
    }

    fn discard_beside(&self) {
        // An error here tells nothing new: the next one is made in its place.
        let _ = fs::remove_file(beside(&self.0, ".new"));
        let _ = fs::remove_file(beside(&self.0, ".new.room"));
    }

    fn replace(&self) -> io::Result<()> {
        fs::rename(beside(&self.0, ".new"), &self.0)?;
        sync_folder_of(&self.0)
    }
}

/// Forgets what the system has of the file in memory and what the disk has too. Behind a sync that failed these may
/// differ: what was not written counts as if it had been, until it is read again.
pub(super) fn forget_cached(path: &Path) {
    // Where that is not possible nothing is lost but this.
    if let Ok(file) = File::open(path) {
        let _ = fadvise(&file, 0, None, Advice::DontNeed);
    }
}

/// Makes what was created, renamed or removed in the folder of `path` durable.
pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    if armed(Fault::SyncLeftOut) {
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Keeps other processes from the file for as long as what it gives lives.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
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

/// Moves a file that is not to be used to the first free name with `.damaged-1` and so on at its end, and gives that.
///
/// Only ever done because somebody asked for it: a start refuses a damaged file and leaves it where it is.
///
/// # Errors
/// When there is no such file, or a server uses it, or it cannot be moved.
pub fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let failed = |error| io_error(&path.display().to_string(), "cannot be set aside", error);
    let _lock = lock(path)?;
    for n in 1..1000 {
        let aside = beside(path, &format!(".damaged-{n}"));
        // Linking fails where there is a file, which renaming would replace; file systems without links have to do with
        // a look.
        let (log, log_aside) = (beside(path, "-wal"), beside(&aside, "-wal"));
        match fs::hard_link(path, &aside) {
            Ok(()) => {
                // What SQLite has not taken into the file yet goes with it: first it has a second name, as the file is
                // nothing without it, and the first name goes when nothing is there that it could be taken for part of.
                let linked = fs::hard_link(&log, &log_aside);
                linked.or_else(|error| if fs::exists(&log)? { Err(error) } else { Ok(()) }).map_err(failed)?;
                fs::remove_file(path).and_then(|()| remove(&log)).map_err(failed)?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(failed(error)),
            Err(_) if fs::symlink_metadata(&aside).is_ok() => continue,
            Err(_) => {
                fs::rename(path, &aside).map_err(failed)?;
                if fs::exists(&log).map_err(failed)? {
                    fs::rename(&log, &log_aside).map_err(failed)?;
                }
            }
        }
        sync_folder_of(path).map_err(failed)?;
        return Ok(aside);
    }
    Err(StoreError::Exists(beside(path, ".damaged-999").display().to_string()))
}

pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(ending);
    name.into()
}

/// A file on a disk. Where the file system cannot allocate, growth is written as zeros and headroom is kept in a second
/// file that is removed when it is needed.
#[derive(Debug)]
struct OnDisk {
    /// redb's own way to read and write, with its locks.
    backend: FileBackend,
    /// The same file.
    file: File,
    room: PathBuf,
}

impl OnDisk {
    fn new(file: File, room: PathBuf) -> io::Result<Self> {
        let backend = FileBackend::new(file.try_clone()?).map_err(io::Error::other)?;
        Ok(Self { backend, file, room })
    }

    /// Allocates what is behind the end of the file, up to `to`, and lets it have its length.
    fn allocate_behind(&self, to: u64) -> io::Result<bool> {
        let beside = fs::metadata(&self.room).map_or(0, |room| room.len());
        allocate(&self.file, FallocateFlags::KEEP_SIZE, to, beside)
    }

    /// Keeps place for at least so many bytes in the second file.
    fn hold_beside(&self, bytes: u64) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let room = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&self.room)?;
        let old = room.metadata()?.len();
        if old > bytes {
            return room.set_len(bytes);
        }
        write_zeros(&room, old, bytes).inspect_err(|_| drop(room.set_len(old)))
    }
}

/// Allocates what is behind the end of a file, up to `to`, of which `beside` bytes are held in another file. False when
/// the file system cannot do that. Where there is no place all is as it was, unless others were quicker: then nothing
/// is allocated behind the end any more.
fn allocate(of: &File, flags: FallocateFlags, to: u64, beside: u64) -> io::Result<bool> {
    let file = of.metadata()?;
    let from = file.len();
    // What whoever had the file open before has allocated there is the file's still.
    let held = file.blocks().saturating_mul(512).saturating_sub(from).saturating_add(beside);
    // Looked at first, because a disk may be filled to its end before the call fails.
    if let Ok(disk) = fstatvfs(of)
        && disk.f_blocks > 0
        && disk.f_bavail.saturating_mul(disk.f_frsize) < (to - from).saturating_sub(held)
    {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let allocated = allocate_unseen(of, flags, from, to);
    // Gives back what there was of it, with what was there before. An error here tells nothing new.
    allocated.inspect_err(|_| drop(of.set_len(from)))
}

/// As [`allocate`], without a look.
fn allocate_unseen(of: &File, flags: FallocateFlags, from: u64, to: u64) -> io::Result<bool> {
    loop {
        return match fallocate(of, flags, from, to - from) {
            Ok(()) => Ok(true),
            Err(Errno::INTR) => continue,
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
            Err(error) => Err(error.into()),
        };
    }
}

/// Keeps room of so many bytes in a file of its own. Where it cannot be had there is none.
#[cfg(feature = "sqlite")]
pub(super) fn hold_file(path: &Path, bytes: u64) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|file| file.len() == bytes) {
        return Ok(());
    }
    let held = (|| {
        let room = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let old = room.metadata()?.len();
        match old < bytes {
            true if allocate(&room, FallocateFlags::empty(), bytes, 0)? => Ok(()),
            true => write_zeros(&room, old, bytes),
            false => room.set_len(bytes),
        }
    })();
    held.inspect_err(|_| drop(remove(path)))
}

impl Medium for OnDisk {
    fn grow(&self, len: u64, behind: u64) -> io::Result<()> {
        let old = self.file.metadata()?.len();
        // Both at once, so that nothing has changed when there is no place for both.
        let grown = match self.allocate_behind(len.saturating_add(behind))? {
            true => allocate_unseen(&self.file, FallocateFlags::empty(), old, len).map(drop),
            false => write_zeros(&self.file, old, len).and_then(|()| self.hold_beside(behind)),
        };
        grown.inspect_err(|_| drop(self.file.set_len(old)))
    }

    fn hold(&self, bytes: u64) -> io::Result<()> {
        if bytes == 0 {
            // What lies behind the end of the file itself stays.
            return remove(&self.room);
        }
        let len = self.file.metadata()?.len();
        match self.allocate_behind(len.saturating_add(bytes))? {
            true => remove(&self.room),
            false => self.hold_beside(bytes),
        }
    }
}

fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; to.saturating_sub(from).min(ZEROS_MAX) as usize];
    let mut at = from;
    while at < to {
        let n = (to - at).min(ZEROS_MAX);
        file.write_all_at(zeros.get(..n as usize).unwrap_or_default(), at)?;
        at += n;
    }
    Ok(())
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl StorageBackend for OnDisk {
    fn len(&self) -> io::Result<u64> {
        self.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.backend.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.backend.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if armed(Fault::SyncLeftOut) { Ok(()) } else { self.backend.sync_data() }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.backend.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, redb::BackendError> {
        self.backend.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), redb::BackendError> {
        self.backend.unlock_range(start, end)
    }
}

//! The thread that keeps the files of users (XEP-0363): it writes what is brought and reads what is asked for, piece by
//! piece, so that neither a slow disk nor a large file holds up the worker. Each connection has one job at most.
//!
//! A file is what its name says as soon as it has that name: it is written under another, synced, renamed, and the
//! folder is synced. Old ones go in small steps between jobs.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions, ReadDir};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::Builder;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;

use crate::core::io::ConnId;
use crate::core::slots::{Owned, is_id};
use crate::http::upload::{LABEL_BYTES_MAX, Stored, read_label};
use crate::net::bell::Bell;
use crate::net::shell::Report;

/// Bytes that are read at once.
const PIECE_BYTES: usize = 16_384;
/// Files that are looked at between two jobs.
const STEP_FILES: usize = 64;
/// What is written before it has its name.
const PART: &str = ".part";
const STACK_BYTES: usize = 128 * 1024;

/// Something to be done for a connection.
pub enum Job {
    /// Begin a file of that id and size, label among it, with its label; all files together have so many bytes at most.
    Create(ConnId, String, u64, Vec<u8>, u64),
    /// Write what comes next.
    Write(ConnId, Vec<u8>),
    /// The file is complete.
    Finish(ConnId),
    /// Open the file of that id.
    Open(ConnId, String),
    /// Read at that place so many bytes, or as many as a piece has.
    Read(ConnId, u64, u64),
    /// Nobody asks for more, or brings more.
    Leave(ConnId),
    /// Delete what is that old, and tell of all else.
    Purge(Duration),
    /// Delete these files.
    Remove(Vec<String>),
}

/// What came of it.
pub enum Outcome {
    /// More can come, in this buffer.
    Ready(Vec<u8>),
    /// The file is on the disk.
    Done,
    /// The file is open.
    Found(Stored),
    /// There is no such file.
    Missing,
    /// There is one already.
    Exists,
    /// A piece of it.
    Piece(Vec<u8>),
    /// There is no room.
    Full,
    /// The disk fails.
    Failed,
}

/// What the thread tells.
pub enum FileReport {
    /// The job of a connection is done.
    Of(ConnId, Outcome),
    /// All files together have so many bytes.
    Total(u64),
    /// These are there.
    Seen(Vec<Owned>),
}

/// Starts the thread; dropping the sender ends it.
///
/// # Errors
/// When the system gives no thread.
pub fn start(folder: PathBuf, bell: Arc<Bell<Report>>) -> io::Result<Sender<Job>> {
    let (jobs, waiting) = mpsc::channel();
    let thread = Builder::new().name("couplet-files".into()).stack_size(STACK_BYTES);
    thread.spawn(move || {
        let mut keeper = Keeper::new(folder);
        bell.report(Report::File(FileReport::Total(keeper.total_bytes)));
        keeper.run(&waiting, |report| bell.report(Report::File(report)));
    })?;
    Ok(jobs)
}

struct Keeper {
    folder: PathBuf,
    /// What is being written or read, by connection.
    open: HashMap<ConnId, Open>,
    /// Of all files that are complete.
    total_bytes: u64,
    purge: Option<(ReadDir, SystemTime)>,
}

enum Open {
    Writing { file: File, id: String, size: u64 },
    Reading(File),
}

impl Keeper {
    /// Counts what is there, and deletes what was never completed.
    fn new(folder: PathBuf) -> Self {
        let mut total_bytes = 0;
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if is_id(&name) {
                total_bytes += entry.metadata().map_or(0, |meta| meta.len());
            } else if name.ends_with(PART) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Self { folder, open: HashMap::new(), total_bytes, purge: None }
    }

    fn run(&mut self, jobs: &Receiver<Job>, tell: impl Fn(FileReport)) {
        loop {
            let job = match self.purge {
                None => match jobs.recv() {
                    Ok(job) => Some(job),
                    Err(_) => break,
                },
                Some(_) => match jobs.try_recv() {
                    Ok(job) => Some(job),
                    Err(TryRecvError::Empty) => None,
                    Err(TryRecvError::Disconnected) => break,
                },
            };
            let before = self.total_bytes;
            match job {
                Some(job) => {
                    if let Some((conn, outcome)) = self.take(job) {
                        tell(FileReport::Of(conn, outcome));
                    }
                }
                None => {
                    let seen = self.purge_step();
                    if !seen.is_empty() {
                        tell(FileReport::Seen(seen));
                    }
                }
            }
            if self.total_bytes != before {
                tell(FileReport::Total(self.total_bytes));
            }
        }
        let unfinished: Vec<ConnId> = self.open.keys().copied().collect();
        unfinished.into_iter().for_each(|conn| self.leave(conn));
    }

    fn take(&mut self, job: Job) -> Option<(ConnId, Outcome)> {
        let (conn, done) = match job {
            Job::Create(conn, id, size, label, total_max) => (conn, self.create(conn, id, size, &label, total_max)),
            Job::Write(conn, bytes) => (conn, self.write(conn, bytes)),
            Job::Finish(conn) => (conn, self.finish(conn)),
            Job::Open(conn, id) => (conn, self.open(conn, &id)),
            Job::Read(conn, at, len) => (conn, self.read(conn, at, len)),
            Job::Leave(conn) => {
                self.leave(conn);
                return None;
            }
            Job::Remove(ids) => {
                for id in ids.iter().filter(|id| is_id(id)) {
                    let path = self.folder.join(id);
                    self.remove(&path, fs::symlink_metadata(&path).map_or(0, |meta| meta.len()));
                }
                return None;
            }
            Job::Purge(age) => {
                let until = SystemTime::now().checked_sub(age);
                self.purge = fs::read_dir(&self.folder).ok().zip(until);
                return None;
            }
        };
        let outcome = done.unwrap_or_else(|error| {
            self.leave(conn);
            match Errno::from_io_error(&error) {
                Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Outcome::Full,
                Some(Errno::NOENT) => Outcome::Missing,
                Some(Errno::EXIST) => Outcome::Exists,
                _ => {
                    log::error!("{}: {error}", self.folder.display());
                    Outcome::Failed
                }
            }
        });
        Some((conn, outcome))
    }

    fn create(&mut self, conn: ConnId, id: String, size: u64, label: &[u8], total_max: u64) -> io::Result<Outcome> {
        let writing = |open: &Open| if let Open::Writing { size, .. } = open { *size } else { 0 };
        let promised: u64 = self.open.values().map(writing).sum();
        if total_max > 0 && self.total_bytes + promised + size > total_max {
            return Ok(Outcome::Full);
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        if self.folder.join(&id).exists() {
            return Ok(Outcome::Exists);
        }
        let path = self.folder.join(format!("{id}{PART}"));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(label)?;
        self.open.insert(conn, Open::Writing { file, id, size });
        Ok(Outcome::Ready(Vec::new()))
    }

    fn write(&mut self, conn: ConnId, mut bytes: Vec<u8>) -> io::Result<Outcome> {
        let Some(Open::Writing { file, .. }) = self.open.get_mut(&conn) else { return Ok(Outcome::Failed) };
        file.write_all(&bytes)?;
        bytes.clear();
        Ok(Outcome::Ready(bytes))
    }

    /// What is told to be there survives a power cut from then on.
    fn finish(&mut self, conn: ConnId) -> io::Result<Outcome> {
        let Some(Open::Writing { file, id, .. }) = self.open.get(&conn) else { return Ok(Outcome::Failed) };
        file.sync_all()?;
        let bytes = file.metadata()?.len();
        let (part, whole) = (self.folder.join(format!("{id}{PART}")), self.folder.join(id));
        fs::rename(&part, &whole)?;
        File::open(&self.folder)?.sync_all()?;
        self.open.remove(&conn);
        self.total_bytes += bytes;
        Ok(Outcome::Done)
    }

    fn open(&mut self, conn: ConnId, id: &str) -> io::Result<Outcome> {
        let file = File::open(self.folder.join(id))?;
        let meta = file.metadata()?;
        let stored = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let stored_s = stored.map_or(0, |since| since.as_secs());
        match label_of(&file, meta.len(), stored_s)? {
            Some(found) => {
                self.open.insert(conn, Open::Reading(file));
                Ok(Outcome::Found(found))
            }
            None => Ok(Outcome::Missing),
        }
    }

    fn read(&mut self, conn: ConnId, at: u64, len: u64) -> io::Result<Outcome> {
        let Some(Open::Reading(file)) = self.open.get(&conn) else { return Ok(Outcome::Failed) };
        let mut piece = vec![0; PIECE_BYTES.min(usize::try_from(len).unwrap_or(PIECE_BYTES))];
        file.read_exact_at(&mut piece, at)?;
        Ok(Outcome::Piece(piece))
    }

    fn leave(&mut self, conn: ConnId) {
        if let Some(Open::Writing { id, .. }) = self.open.remove(&conn) {
            let _ = fs::remove_file(self.folder.join(format!("{id}{PART}")));
        }
    }

    /// Looks at some files: those that are too old go, of the others it is said whose they are.
    fn purge_step(&mut self) -> Vec<Owned> {
        let mut seen = Vec::new();
        for _ in 0..STEP_FILES {
            let Some((entries, until)) = &mut self.purge else { break };
            let until = *until;
            let Some(entry) = entries.next() else {
                self.purge = None;
                break;
            };
            let Ok(path) = entry.map(|entry| entry.path()) else { continue };
            match look(&path, until) {
                Some(Look::Old(bytes)) => self.remove(&path, bytes),
                Some(Look::Of(owned)) => seen.push(owned),
                None => {}
            }
        }
        seen
    }

    fn remove(&mut self, path: &Path, bytes: u64) {
        if fs::remove_file(path).is_ok() {
            self.total_bytes = self.total_bytes.saturating_sub(bytes);
        }
    }
}

enum Look {
    /// Too old, of so many bytes.
    Old(u64),
    Of(Owned),
}

/// What is known of a file of ours.
fn look(path: &Path, until: SystemTime) -> Option<Look> {
    let meta = fs::symlink_metadata(path).ok()?;
    let id = path.file_name()?.to_str().filter(|name| is_id(name))?;
    if meta.modified().ok()? <= until {
        return Some(Look::Old(meta.len()));
    }
    let stored = label_of(&File::open(path).ok()?, meta.len(), 0).ok()??;
    Some(Look::Of(Owned { id: id.to_owned(), owner: stored.owner, granted_s: stored.granted_s }))
}

/// Reads what stands before a file.
fn label_of(file: &File, size: u64, stored_s: u64) -> io::Result<Option<Stored>> {
    let mut label = [0; LABEL_BYTES_MAX];
    let len = file.read_at(&mut label, 0)?;
    Ok(read_label(label.get(..len).unwrap_or_default(), size, stored_s))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::slab::Slab;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("couplet-files-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    const ID: &str = "abcdefghijklmnopqrstuv-_";
    const LABEL: &[u8] = b"CUP2\0\0\0\0\0\0\0\x09\0\0\0\x01x\0\x03o@h";

    fn create(keeper: &mut Keeper, conn: ConnId, id: &str, total_max: u64) -> Outcome {
        keeper.take(Job::Create(conn, id.to_owned(), 27, LABEL.to_vec(), total_max)).unwrap().1
    }

    #[test]
    fn a_file_is_there_when_it_is_complete() {
        let folder = folder("complete");
        let mut names = Slab::default();
        let mut conn = || ConnId(names.insert(()));
        let (one, two, three) = (conn(), conn(), conn());
        let mut keeper = Keeper::new(folder.clone());
        assert!(matches!(keeper.take(Job::Open(one, ID.to_owned())), Some((_, Outcome::Missing))));
        assert!(matches!(create(&mut keeper, one, ID, 40), Outcome::Ready(_)));
        assert!(matches!(create(&mut keeper, two, ID, 100), Outcome::Exists), "under way");
        assert!(matches!(create(&mut keeper, two, "bbcdefghijklmnopqrstuv-_", 40), Outcome::Full), "both together");
        assert!(matches!(keeper.take(Job::Write(one, b"abcde".to_vec())), Some((_, Outcome::Ready(_)))));
        assert!(matches!(keeper.take(Job::Open(three, ID.to_owned())), Some((_, Outcome::Missing))));
        assert!(matches!(keeper.take(Job::Finish(one)), Some((_, Outcome::Done))));
        assert_eq!(keeper.total_bytes, 27);
        assert!(matches!(create(&mut keeper, two, ID, 100), Outcome::Exists), "complete");
        let Some((_, Outcome::Found(found))) = keeper.take(Job::Open(three, ID.to_owned())) else { panic!() };
        assert_eq!((found.name.as_str(), found.start, found.size), ("x", 22, 5));
        let read = keeper.take(Job::Read(three, found.start + 1, 3));
        assert!(matches!(read, Some((_, Outcome::Piece(piece))) if piece == b"bcd"));
        // Cut off: nothing is left of it, and of what a crash has left behind neither.
        assert!(matches!(create(&mut keeper, two, "bbcdefghijklmnopqrstuv-_", 100), Outcome::Ready(_)));
        keeper.take(Job::Leave(two));
        fs::write(folder.join("cbcdefghijklmnopqrstuv-_.part"), "x").unwrap();
        fs::write(folder.join("notes.txt"), "x").unwrap();
        let mut keeper = Keeper::new(folder.clone());
        assert_eq!(keeper.total_bytes, 27);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        keeper.take(Job::Purge(Duration::from_secs(3600)));
        let of_it = Owned { id: ID.to_owned(), owner: "o@h".to_owned(), granted_s: 9 };
        assert_eq!((keeper.purge_step(), keeper.total_bytes), (vec![of_it], 27), "it is young");
        keeper.take(Job::Purge(Duration::ZERO));
        while keeper.purge.is_some() {
            keeper.purge_step();
        }
        assert_eq!(keeper.total_bytes, 0);
        assert!(folder.join("notes.txt").exists() && !folder.join(ID).exists());
        fs::remove_dir_all(&folder).unwrap();
    }
}

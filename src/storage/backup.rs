//! Backups: all rows of one moment in one file of a form of our own, which any version can read.
//!
//! ```text
//! "couplet backup\n"  version: 1 byte, 1  schema: 4 bytes  milliseconds since 1970: 8 bytes
//! for each row, in the order of keys:  1  length of the key  key  length of the value  value
//! 0  number of rows: 8 bytes  SHA-256 of all bytes before: 32 bytes
//! ```
//!
//! Numbers of a fixed size are big-endian, lengths 4 bytes. Nothing may follow. A backup is written and read in one go
//! with the memory that its largest row takes, so both ends may be pipes. It is taken from a snapshot, in any thread,
//! while the server writes; the pages that the snapshot shows are kept until it ends, so the store's file may grow.

use super::file::{self, InFolder, beside, sync_folder_of};
use super::redb::{Home, RedbOptions, SCHEMA, io_error};
use super::{BEHIND_ALL, Reader, StoreError};
use crate::clock;
use ring::digest;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 15] = b"couplet backup\n";
const VERSION: u8 = 1;
const ROW: u8 = 1;
const END: u8 = 0;

/// Longest key or value that is believed, in bytes; the store takes none that is longer than a stanza may be.
const PART_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// How often a backup is begun anew when the store had to be opened again meanwhile.
const TRIES: u32 = 3;

/// What a backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Schema of its rows.
    pub schema: u32,
    /// When it was made, in milliseconds since 1970-01-01T00:00:00Z.
    pub made_ms: i64,
    /// Number of rows.
    pub rows: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Which backups of a folder are kept. The newest always is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// How many; 0 keeps any number.
    pub count: u32,
    /// For how long, in seconds; 0 keeps them for ever.
    pub age_s: u64,
}

/// A backup in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its file.
    pub path: PathBuf,
    /// When it was made, in milliseconds since 1970-01-01T00:00:00Z.
    pub made_ms: i64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Writes what the store holds now.
///
/// # Errors
/// When the store cannot be read or `out` cannot be written; what was written is no backup then, and [`verify`] says
/// so.
pub fn create(reader: &dyn Reader, wall_ms: i64, out: &mut dyn Write) -> Result<Summary, StoreError> {
    let failed = |error| io_error("the backup", "cannot be written", error);
    let snapshot = reader.snapshot()?;
    let mut out = Summed::new(BufWriter::new(out));
    let mut rows: u64 = 0;
    let head = [&MAGIC[..], &[VERSION], &SCHEMA.to_be_bytes(), &wall_ms.to_be_bytes()].concat();
    let mut written = out.put(&head);
    snapshot.scan(b"", BEHIND_ALL, &mut |key, value| {
        if written.is_ok() {
            rows += 1;
            written = out.put(&[ROW]).and_then(|()| out.put_part(key)).and_then(|()| out.put_part(value));
        }
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let end = written.and_then(|()| out.put(&[END])).and_then(|()| out.put(&rows.to_be_bytes()));
    let bytes = end.and_then(|()| out.finish()).map_err(failed)?;
    Ok(Summary { schema: SCHEMA, made_ms: wall_ms, rows, bytes })
}

/// Makes a backup in `folder`, which is made when there is none, under a name with the time. It is there whole or not
/// at all, also behind a crash. Then deletes those that need not be kept.
///
/// # Errors
/// As [`create`], and when one is being made there already.
pub fn create_file(
    reader: &dyn Reader,
    folder: &Path,
    wall_ms: i64,
    keep: Keep,
) -> Result<(PathBuf, Summary), StoreError> {
    let stamp: String = clock::datetime(wall_ms).chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let path = folder.join(format!("couplet-{stamp}.backup"));
    let name = path.display().to_string();
    let failed = |error| io_error(&name, "cannot be written", error);
    fs::create_dir_all(folder).map_err(failed)?;
    let _lock = file::lock(&folder.join("couplet.backup"))?;
    if fs::symlink_metadata(&path).is_ok() {
        return Err(StoreError::Exists(name));
    }
    let mut tries = 1;
    let summary = loop {
        match write_file(reader, &path, wall_ms) {
            Err(StoreError::Io(_)) if tries < TRIES => tries += 1,
            made => break made?,
        }
    };
    for (i, old) in list(folder)?.into_iter().enumerate().skip(1) {
        let age_ms = wall_ms.saturating_sub(old.made_ms);
        let surplus = keep.count > 0 && i >= keep.count as usize;
        let too_old = keep.age_s > 0 && u64::try_from(age_ms).is_ok_and(|age| age / 1000 > keep.age_s);
        if (surplus || too_old) && old.path != path {
            fs::remove_file(&old.path)
                .map_err(|error| io_error(&old.path.display().to_string(), "cannot be deleted", error))?;
        }
    }
    Ok((path, summary))
}

/// Writes a backup beside its place, reads it again, and moves it there.
pub(super) fn write_file(reader: &dyn Reader, path: &Path, wall_ms: i64) -> Result<Summary, StoreError> {
    let part = beside(path, ".part");
    let failed = |error| io_error(&path.display().to_string(), "cannot be written", error);
    let written = (|| {
        let mut options = OpenOptions::new();
        let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&part).map_err(failed)?;
        let summary = create(reader, wall_ms, &mut out)?;
        out.sync_all().map_err(failed)?;
        if verify(&mut File::open(&part).map_err(failed)?)? != summary {
            return Err(StoreError::BadBackup(format!("{} is not what was written to it", part.display())));
        }
        fs::rename(&part, path).map_err(failed)?;
        sync_folder_of(path).map_err(failed)?;
        Ok(summary)
    })();
    if written.is_err() {
        // An error here tells nothing new.
        let _ = fs::remove_file(&part);
    }
    written
}

/// The backups in `folder`, the newest first. They are known by name and head; [`verify`] reads the rest.
///
/// # Errors
/// When the folder cannot be read; one that is not there has none.
pub fn list(folder: &Path) -> Result<Vec<Entry>, StoreError> {
    let failed = |error| io_error(&folder.display().to_string(), "cannot be read", error);
    let files = match fs::read_dir(folder) {
        Ok(files) => files,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut entries = Vec::new();
    for file in files {
        let path = file.map_err(failed)?.path();
        let named = path.file_name().and_then(|name| name.to_str());
        if !named.is_some_and(|name| name.starts_with("couplet-") && name.ends_with(".backup")) {
            continue;
        }
        let Ok((bytes, file)) = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file))) else { continue };
        if let Ok(Source { made_ms, .. }) = Source::open(file) {
            entries.push(Entry { path, made_ms, bytes });
        }
    }
    entries.sort_by(|a, b| (b.made_ms, &b.path).cmp(&(a.made_ms, &a.path)));
    Ok(entries)
}

/// Reads a backup to its end and checks all of it.
///
/// # Errors
/// [`StoreError::BadBackup`] when a bit of it is wrong or missing, [`StoreError::Newer`], or that it cannot be read.
pub fn verify(input: &mut dyn Read) -> Result<Summary, StoreError> {
    Source::open(input)?.rows(&mut |_, _| Ok(()))
}

/// Makes the store in the file `path` from a backup. The backup is read once and checked meanwhile; the store takes its
/// place at the end, in one step. Where there is a store already, it is replaced only if `replace` says so.
///
/// # Errors
/// As [`verify`]; [`StoreError::Exists`], [`StoreError::Locked`] when a server runs, [`StoreError::Full`]. What was
/// there is still there then.
pub fn restore(input: &mut dyn Read, path: &Path, options: RedbOptions, replace: bool) -> Result<Summary, StoreError> {
    let name = path.display().to_string();
    let _lock = file::lock(path)?;
    if !replace && fs::symlink_metadata(path).is_ok() {
        return Err(StoreError::Exists(name));
    }
    Home { place: Box::new(InFolder(path.to_path_buf())), name, options }.load(input)
}

/// Writes and sums up what was written.
struct Summed<W> {
    out: W,
    sum: digest::Context,
    bytes: u64,
}

impl<W: Write> Summed<W> {
    fn new(out: W) -> Self {
        Self { out, sum: digest::Context::new(&digest::SHA256), bytes: 0 }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn put_part(&mut self, part: &[u8]) -> io::Result<()> {
        let len = u32::try_from(part.len()).ok().filter(|len| *len <= PART_BYTES_MAX);
        let len = len.ok_or_else(|| io::Error::other("a row is too long"))?;
        self.put(&len.to_be_bytes())?;
        self.put(part)
    }

    /// Writes the sum. Gives the number of all bytes.
    fn finish(mut self) -> io::Result<u64> {
        let sum = self.sum.finish();
        self.out.write_all(sum.as_ref())?;
        self.out.flush()?;
        Ok(self.bytes + sum.as_ref().len() as u64)
    }
}

/// Where rows go. They may only be kept once all of them have gone there.
pub(super) type Put<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError>;

/// Reads and sums up what was read.
pub(super) struct Source<R> {
    input: BufReader<R>,
    sum: digest::Context,
    bytes: u64,
    schema: u32,
    made_ms: i64,
}

impl<R: Read> Source<R> {
    /// Reads the head.
    pub(super) fn open(input: R) -> Result<Self, StoreError> {
        let sum = digest::Context::new(&digest::SHA256);
        let mut source = Self { input: BufReader::new(input), sum, bytes: 0, schema: 0, made_ms: 0 };
        if source.take().map_err(bad)? != *MAGIC {
            return Err(StoreError::BadBackup("this is no backup that couplet has made".into()));
        }
        let [version] = source.take().map_err(bad)?;
        source.schema = u32::from_be_bytes(source.take().map_err(bad)?);
        source.made_ms = i64::from_be_bytes(source.take().map_err(bad)?);
        match (version, source.schema) {
            (VERSION, 1..=SCHEMA) => Ok(source),
            (VERSION, 0) => Err(bad(ErrorKind::InvalidData.into())),
            (VERSION, found) => Err(StoreError::Newer { found, known: SCHEMA }),
            _ => Err(StoreError::BadBackup("the backup was made by a newer couplet, or is damaged".into())),
        }
    }

    pub(super) fn schema(&self) -> u32 {
        self.schema
    }

    pub(super) fn rows(&mut self, put: Put<'_>) -> Result<Summary, StoreError> {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let mut rows: u64 = 0;
        loop {
            match self.take().map_err(bad)? {
                [ROW] => {
                    self.part(&mut key).map_err(bad)?;
                    self.part(&mut value).map_err(bad)?;
                    rows += 1;
                    put(&key, &value)?;
                }
                [END] => break,
                _ => return Err(bad(ErrorKind::InvalidData.into())),
            }
        }
        let counted = u64::from_be_bytes(self.take().map_err(bad)?);
        let sum = self.sum.clone().finish();
        let expected: [u8; 32] = self.take().map_err(bad)?;
        let more = self.input.read(&mut [0]).map_err(bad)?;
        if counted != rows || sum.as_ref() != expected || more != 0 {
            return Err(bad(ErrorKind::InvalidData.into()));
        }
        Ok(Summary { schema: self.schema, made_ms: self.made_ms, rows, bytes: self.bytes })
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        self.sum.update(&bytes);
        self.bytes += N as u64;
        Ok(bytes)
    }

    /// Reads a key or a value. Memory is taken for what comes, not for what is announced.
    fn part(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let len = u32::from_be_bytes(self.take()?);
        out.clear();
        if len > PART_BYTES_MAX {
            return Err(ErrorKind::InvalidData.into());
        }
        let read = (&mut self.input).take(u64::from(len)).read_to_end(out)?;
        if read < len as usize {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.sum.update(out);
        self.bytes += u64::from(len);
        Ok(())
    }
}

fn bad(error: io::Error) -> StoreError {
    match error.kind() {
        ErrorKind::InvalidData => StoreError::BadBackup("the backup is damaged".into()),
        ErrorKind::UnexpectedEof => StoreError::BadBackup("the backup ends too early".into()),
        _ => io_error("the backup", "cannot be read", error),
    }
}

//! A disk for tests: it knows what a power cut would leave, has as much place as it is told, and fails one call when
//! told to. A sync that fails loses what was to be synced, for good, and goes on showing it, as the page cache of a
//! system does.

use couplet::storage::{Medium, Place};
use redb::StorageBackend;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};

const PAGE: usize = 4096;
const SECTOR: usize = 512;

/// Content of a file; copies share what they have in common.
#[derive(Clone, Debug, Default)]
pub struct Image {
    len: u64,
    pages: Vec<Arc<[u8]>>,
}

impl Image {
    fn set_len(&mut self, len: u64) {
        if len < self.len {
            let end = (self.len as usize).min(self.pages.len() * PAGE);
            self.write(len, &vec![0; end - len as usize]);
        }
        self.len = len;
        self.pages.resize_with((len as usize).div_ceil(PAGE), || vec![0; PAGE].into());
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let mut done = 0;
        while done < data.len() {
            let at = offset as usize + done;
            let n = (PAGE - at % PAGE).min(data.len() - done);
            Arc::make_mut(&mut self.pages[at / PAGE])[at % PAGE..at % PAGE + n].copy_from_slice(&data[done..done + n]);
            done += n;
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) {
        let mut done = 0;
        while done < out.len() {
            let at = offset as usize + done;
            let n = (PAGE - at % PAGE).min(out.len() - done);
            out[done..done + n].copy_from_slice(&self.pages[at / PAGE][at % PAGE..at % PAGE + n]);
            done += n;
        }
    }
}

#[derive(Clone, Debug)]
enum Change {
    Len(u64),
    Write(u64, Vec<u8>),
    /// Another file took the place of this one.
    Replace(Image),
}

impl Change {
    fn make(&self, image: &mut Image) {
        match self {
            Change::Len(len) => image.set_len(*len),
            Change::Write(offset, data) => image.write(*offset, data),
            Change::Replace(other) => *image = other.clone(),
        }
    }
}

/// What a power cut at one sync finds: what was synced before, and what was not yet.
#[derive(Clone, Debug)]
pub struct Cut {
    synced: Image,
    changes: Vec<Change>,
    /// What [`Disk::mark`] had been told by then.
    pub mark: u64,
}

impl Cut {
    /// The disk after it, with nothing of what was not synced.
    pub fn lost(&self) -> Disk {
        Disk::of(self.synced.clone())
    }

    /// The disk after it, with those sectors of what was not synced for which `keep` says so, in any order, and the
    /// length that one of the changes in between gave.
    pub fn torn(&self, mut keep: impl FnMut() -> bool) -> Disk {
        let mut image = self.synced.clone();
        for change in &self.changes {
            match change {
                Change::Len(_) | Change::Replace(_) => {
                    if keep() {
                        change.make(&mut image);
                    }
                }
                Change::Write(offset, data) => {
                    for (i, sector) in data.chunks(SECTOR).enumerate() {
                        let at = offset + (i * SECTOR) as u64;
                        if keep() && at + sector.len() as u64 <= image.len {
                            image.write(at, sector);
                        }
                    }
                }
            }
        }
        Disk::of(image)
    }
}

/// A disk with the store's file and perhaps a second one. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    /// By number; a file without a name lives as long as the disk does and takes no place.
    files: BTreeMap<u32, FileOnDisk>,
    main: u32,
    beside: Option<u32>,
    cuts: Option<Vec<Cut>>,
    mark: u64,
    calls: u32,
    fail: Option<(u32, ErrorKind)>,
    place: u64,
    closes: u32,
}

impl Default for Inner {
    fn default() -> Self {
        let files = BTreeMap::from([(0, FileOnDisk::default())]);
        let (cuts, mark, calls, fail, place, closes) = (None, 0, 0, None, u64::MAX, 0);
        Self { files, main: 0, beside: None, cuts, mark, calls, fail, place, closes }
    }
}

#[derive(Debug, Default)]
struct FileOnDisk {
    now: Image,
    synced: Image,
    changes: Vec<Change>,
    held: u64,
}

impl FileOnDisk {
    fn of(image: Image) -> Self {
        Self { now: image.clone(), synced: image, ..Self::default() }
    }

    fn change(&mut self, change: Change) {
        change.make(&mut self.now);
        self.changes.push(change);
    }

    fn sync(&mut self) {
        for change in self.changes.drain(..) {
            change.make(&mut self.synced);
        }
    }
}

impl Inner {
    fn main(&mut self) -> &mut FileOnDisk {
        self.files.get_mut(&self.main).unwrap()
    }

    fn cut(&mut self) {
        let mark = self.mark;
        let FileOnDisk { synced, changes, .. } = self.main();
        let cut = Cut { synced: synced.clone(), changes: changes.clone(), mark };
        if let Some(cuts) = &mut self.cuts {
            cuts.push(cut);
        }
    }

    /// Whether the disk has place for that file to take so many bytes.
    fn has_place(&self, file: u32, bytes: u64) -> io::Result<()> {
        let named = self.files.iter().filter(|(n, _)| **n == self.main || Some(**n) == self.beside);
        let others: u64 = named.filter(|(n, _)| **n != file).map(|(_, other)| other.now.len + other.held).sum();
        if others + bytes > self.place { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Disk {
    fn of(image: Image) -> Self {
        let disk = Disk::default();
        *disk.inner().main() = FileOnDisk::of(image);
        disk
    }

    /// Another disk with the same content, all of it synced.
    pub fn copy(&self) -> Disk {
        Disk::of(self.inner().main().now.clone())
    }

    /// Another disk with what a power cut now would leave of this one.
    pub fn after_power_cut(&self) -> Disk {
        Disk::of(self.inner().main().synced.clone())
    }

    /// Shows what is on the disk from now on, where a sync has lost what was to be there.
    pub fn drop_page_cache(&self) {
        let mut inner = self.inner();
        let main = inner.main();
        main.now = main.synced.clone();
        for change in &main.changes {
            change.make(&mut main.now);
        }
    }

    /// Keeps what a power cut would find at each sync from now on.
    pub fn record_cuts(&self) {
        self.inner().cuts = Some(Vec::new());
    }

    pub fn cuts(&self) -> Vec<Cut> {
        self.inner().cuts.clone().unwrap_or_default()
    }

    pub fn mark(&self, mark: u64) {
        self.inner().mark = mark;
    }

    /// Makes the `n`th call from now fail, and only that one.
    pub fn fail(&self, n: u32, kind: ErrorKind) {
        let mut inner = self.inner();
        inner.calls = 0;
        inner.fail = Some((n, kind));
    }

    /// Takes back an order to fail.
    pub fn heal(&self) {
        self.inner().fail = None;
    }

    /// True when the failure that was ordered has not come.
    pub fn fail_is_due(&self) -> bool {
        self.inner().fail.is_some()
    }

    /// Has place for so many bytes from now on, or for as many as are taken when those are more.
    pub fn set_place(&self, bytes: u64) {
        self.inner().place = bytes;
    }

    /// Bytes that are taken, those held without being part of a file among them.
    pub fn taken(&self) -> u64 {
        let inner = self.inner();
        let named = inner.files.iter().filter(|(n, _)| **n == inner.main || Some(**n) == inner.beside);
        named.map(|(_, file)| file.now.len + file.held).sum()
    }

    /// Length of the store's file.
    pub fn len(&self) -> u64 {
        self.inner().main().now.len
    }

    /// How often a file was closed.
    pub fn closes(&self) -> u32 {
        self.inner().closes
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    fn call(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let mut inner = self.inner();
        inner.calls += 1;
        let calls = inner.calls;
        match inner.fail.take_if(|(n, _)| *n == calls) {
            Some((_, kind)) => Err(kind.into()),
            None => Ok(inner),
        }
    }
}

impl Place for Disk {
    fn open(&self) -> io::Result<Box<dyn Medium>> {
        let main = self.call()?.main;
        Ok(Box::new(Backend(self.clone(), main)))
    }

    fn create_beside(&self) -> io::Result<Box<dyn Medium>> {
        let mut inner = self.call()?;
        let n = inner.files.keys().max().unwrap() + 1;
        inner.files.insert(n, FileOnDisk::default());
        inner.beside = Some(n);
        Ok(Box::new(Backend(self.clone(), n)))
    }

    fn discard_beside(&self) {
        let mut inner = self.inner();
        if let Some(n) = inner.beside.take() {
            inner.files.remove(&n);
        }
    }

    fn replace(&self) -> io::Result<()> {
        let mut inner = self.call()?;
        let beside = inner.beside.take().ok_or(ErrorKind::NotFound)?;
        // What of the file was not synced does not come along.
        let image = inner.files[&beside].synced.clone();
        inner.main().changes.push(Change::Replace(image));
        inner.cut();
        inner.main = beside;
        Ok(())
    }
}

/// A file that is open.
#[derive(Debug)]
struct Backend(Disk, u32);

impl Backend {
    fn on<T>(&self, call: impl FnOnce(&mut FileOnDisk) -> io::Result<T>) -> io::Result<T> {
        call(self.0.call()?.files.get_mut(&self.1).unwrap())
    }
}

impl Medium for Backend {
    fn grow(&self, len: u64, behind: u64) -> io::Result<()> {
        let mut inner = self.0.call()?;
        inner.has_place(self.1, len + behind)?;
        let file = inner.files.get_mut(&self.1).unwrap();
        assert!(len > file.now.len);
        file.held = behind.max(file.held.saturating_sub(len - file.now.len));
        file.change(Change::Len(len));
        Ok(())
    }

    fn hold(&self, bytes: u64) -> io::Result<()> {
        let mut inner = self.0.call()?;
        let len = inner.files[&self.1].now.len;
        inner.has_place(self.1, len + bytes)?;
        let file = inner.files.get_mut(&self.1).unwrap();
        file.held = file.held.max(bytes);
        Ok(())
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.on(|file| Ok(file.now.len))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.on(|file| {
            if offset + out.len() as u64 > file.now.len {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            file.now.read(offset, out);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.on(|file| {
            assert!(len <= file.now.len, "growth is allocated");
            file.held = 0;
            file.change(Change::Len(len));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        let call = self.0.call().map(drop);
        let mut inner = self.0.inner();
        if inner.main == self.1 {
            inner.cut();
        }
        let file = inner.files.get_mut(&self.1).unwrap();
        match call {
            Ok(()) => file.sync(),
            Err(_) => file.changes.clear(),
        }
        call
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.on(|file| {
            assert!(offset + data.len() as u64 <= file.now.len, "nothing is written where no place is");
            file.change(Change::Write(offset, data.to_vec()));
            Ok(())
        })
    }

    fn close(&self) -> io::Result<()> {
        self.0.inner().closes += 1;
        Ok(())
    }
}

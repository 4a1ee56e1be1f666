//! A disk for tests: it knows what a power cut would leave, and fails one call when told to.

use redb::StorageBackend;
use std::io;
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
                Change::Len(len) => {
                    if keep() {
                        image.set_len(*len);
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

/// A file on a disk. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    now: Image,
    synced: Image,
    changes: Vec<Change>,
    cuts: Option<Vec<Cut>>,
    mark: u64,
    calls: u32,
    fail: Option<(u32, io::ErrorKind)>,
    full: bool,
}

impl Disk {
    fn of(image: Image) -> Self {
        Self(Arc::new(Mutex::new(Inner { now: image.clone(), synced: image, ..Inner::default() })))
    }

    /// A new handle, as if the file were opened.
    pub fn backend(&self) -> Backend {
        Backend(self.clone())
    }

    /// Another disk with the same content, all of it synced.
    pub fn copy(&self) -> Disk {
        Disk::of(self.inner().now.clone())
    }

    /// Another disk with what a power cut now would leave of this one.
    pub fn after_power_cut(&self) -> Disk {
        Disk::of(self.inner().synced.clone())
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
    pub fn fail(&self, n: u32, kind: io::ErrorKind) {
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

    /// Refuses to grow, or no longer.
    pub fn set_full(&self, full: bool) {
        self.inner().full = full;
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

#[derive(Debug)]
pub struct Backend(Disk);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.call()?.now.len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.0.call()?;
        if offset + out.len() as u64 > inner.now.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        inner.now.read(offset, out);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = self.0.call()?;
        if inner.full && len > inner.now.len {
            return Err(io::ErrorKind::StorageFull.into());
        }
        inner.now.set_len(len);
        inner.changes.push(Change::Len(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.0.call()?;
        let cut = Cut { synced: inner.synced.clone(), changes: std::mem::take(&mut inner.changes), mark: inner.mark };
        if let Some(cuts) = &mut inner.cuts {
            cuts.push(cut);
        }
        inner.synced = inner.now.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut inner = self.0.call()?;
        inner.now.write(offset, data);
        inner.changes.push(Change::Write(offset, data.to_vec()));
        Ok(())
    }
}

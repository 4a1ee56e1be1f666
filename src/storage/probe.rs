//! A look at a file that leaves it as it is, even where opening it would repair it.

use redb::StorageBackend;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

const PAGE_BYTES: usize = 4096;

/// Reads from a backend and keeps every change to itself. Opening a database writes a few pages, so it holds few.
#[derive(Debug)]
pub(super) struct Probe<B> {
    below: B,
    changes: Mutex<Changes>,
}

#[derive(Debug)]
struct Changes {
    len: u64,
    /// The least length so far: what the file below has behind it was cut off.
    kept: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl<B: StorageBackend> Probe<B> {
    /// A look at what `below` holds.
    pub(super) fn new(below: B) -> io::Result<Self> {
        let len = below.len()?;
        Ok(Self { below, changes: Mutex::new(Changes { len, kept: len, pages: BTreeMap::new() }) })
    }

    // The backend must be Sync, although one thread uses it.
    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A page of the file below; zeros where it has ended or was cut off.
    fn page_below(&self, page: u64, kept: u64) -> io::Result<Box<[u8]>> {
        let mut bytes = vec![0; PAGE_BYTES];
        let start = page.saturating_mul(PAGE_BYTES as u64);
        let there = kept.saturating_sub(start).min(PAGE_BYTES as u64) as usize;
        if let Some(bytes) = bytes.get_mut(..there).filter(|bytes| !bytes.is_empty()) {
            self.below.read(start, bytes)?;
        }
        Ok(bytes.into())
    }
}

/// Calls `each` with every page that `offset..offset + len` touches, the place in it, and the place in the range.
fn pages(
    offset: u64,
    len: usize,
    mut each: impl FnMut(u64, std::ops::Range<usize>, std::ops::Range<usize>) -> io::Result<()>,
) -> io::Result<()> {
    let mut done = 0;
    while done < len {
        let at = offset + done as u64;
        let start = (at % PAGE_BYTES as u64) as usize;
        let n = (PAGE_BYTES - start).min(len - done);
        each(at / PAGE_BYTES as u64, start..start + n, done..done + n)?;
        done += n;
    }
    Ok(())
}

fn beyond() -> io::Error {
    io::Error::from(io::ErrorKind::UnexpectedEof)
}

impl<B: StorageBackend> StorageBackend for Probe<B> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.changes().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let changes = self.changes();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > changes.len) {
            return Err(beyond());
        }
        pages(offset, out.len(), |page, place, part| {
            let below;
            let bytes = match changes.pages.get(&page) {
                Some(bytes) => bytes,
                None => {
                    below = self.page_below(page, changes.kept)?;
                    &below
                }
            };
            if let (Some(out), Some(bytes)) = (out.get_mut(part), bytes.get(place)) {
                out.copy_from_slice(bytes);
            }
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut changes = self.changes();
        if len < changes.len {
            let last = len / PAGE_BYTES as u64;
            changes.kept = changes.kept.min(len);
            changes.pages.retain(|page, _| *page <= last);
            if let Some(cut) =
                changes.pages.get_mut(&last).and_then(|page| page.get_mut((len % PAGE_BYTES as u64) as usize..))
            {
                cut.fill(0);
            }
        }
        changes.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut changes = self.changes();
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > changes.len) {
            return Err(beyond());
        }
        let kept = changes.kept;
        pages(offset, data.len(), |page, place, part| {
            let bytes = match changes.pages.entry(page) {
                std::collections::btree_map::Entry::Occupied(bytes) => bytes.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => entry.insert(self.page_below(page, kept)?),
            };
            if let (Some(bytes), Some(data)) = (bytes.get_mut(place), data.get(part)) {
                bytes.copy_from_slice(data);
            }
            Ok(())
        })
    }

    fn close(&self) -> io::Result<()> {
        self.below.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use redb::backends::InMemoryBackend;

    const LEN_MAX: usize = 3 * PAGE_BYTES;

    proptest! {
        #[test]
        fn a_probe_is_the_file_as_it_would_be_and_the_file_stays(
            below in prop::collection::vec(any::<u8>(), 0..LEN_MAX),
            changes in prop::collection::vec((0..LEN_MAX, prop::collection::vec(any::<u8>(), 0..5000)), 0..12),
        ) {
            let file = InMemoryBackend::new();
            file.set_len(below.len() as u64).unwrap();
            file.write(0, &below).unwrap();
            let probe = Probe::new(file).unwrap();
            let mut model = below.clone();
            for (at, data) in changes {
                if data.len() % 3 == 0 {
                    probe.set_len(at as u64).unwrap();
                    model.resize(at, 0);
                } else {
                    let place = model.get_mut(at..at + data.len());
                    prop_assert_eq!(probe.write(at as u64, &data).is_ok(), place.is_some());
                    if let Some(place) = place {
                        place.copy_from_slice(&data);
                    }
                }
                prop_assert_eq!(probe.len().unwrap(), model.len() as u64);
                let mut read = vec![0; model.len()];
                probe.read(0, &mut read).unwrap();
                prop_assert_eq!(&read, &model);
                let mut part = vec![0; model.len() / 2];
                probe.read((model.len() / 3) as u64, &mut part).unwrap();
                prop_assert_eq!(&part[..], &model[model.len() / 3..][..part.len()]);
                prop_assert!(probe.read(1, &mut read).is_err() || model.is_empty());
            }
            let mut now = vec![0; below.len()];
            probe.below.read(0, &mut now).unwrap();
            prop_assert_eq!((now, probe.below.len().unwrap()), (below.clone(), below.len() as u64));
        }
    }
}

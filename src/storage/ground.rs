//! The ground that the store's file stands on: room that is really there, growth that is refused in time, and syncs
//! that are believed once.
//!
//! redb asks for growth in the middle of a transaction, makes the file sparse, and answers nothing any more once a call
//! has failed. So three things are done here.
//!
//! * Growth is allocated on the disk before redb hears that it has it. A page inside the file then never meets a full
//!   disk, except on file systems that copy on every write (btrfs, ZFS, UBIFS), which promise nothing to anybody.
//! * Growth that cannot be had is *granted on paper*: redb gets the length and the transaction goes on, but what it
//!   writes there or into its header is refused. The writer looks after each row whether that happened
//!   ([`Ground::refused`]) and aborts, which gives the length back. redb sees no error and need not be opened again.
//! * [`HEADROOM`] is allocated behind the end of the file, invisible to redb, as long as the disk has it. When nothing
//!   else is left, it becomes part of the file, and is kept from then on for what frees room: see the writer.

use redb::StorageBackend;
use std::fmt::Debug;
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Room behind the end of the file, in bytes: enough, at any alignment, for the largest contiguous page that a delete
/// may need and for some hundred pages of 4 kB. See [`super::redb`] for the reckoning.
pub const HEADROOM: u64 = 1024 * 1024;

/// Where a file is kept: what redb asks of it, and room that is really there.
pub trait Medium: StorageBackend {
    /// Makes the file `len` bytes long, more than it is, with its place on the disk. New bytes are zeros.
    ///
    /// # Errors
    /// `StorageFull` or the like when there is no place; the file has its old length then.
    fn grow(&self, len: u64) -> io::Result<()>;

    /// Keeps place on the disk for at least that many bytes more than the file has. Its length stays.
    ///
    /// # Errors
    /// `StorageFull` or the like when there is no place; what was kept before is kept on, as far as possible.
    fn hold(&self, bytes: u64) -> io::Result<()>;
}

/// A place for the store's file, and for a second one that may take its place.
pub trait Place: Send + Sync {
    /// The file, as if it were opened anew.
    ///
    /// # Errors
    /// When it is not there or cannot be opened.
    fn open(&self) -> io::Result<Box<dyn Medium>>;

    /// A new, empty file beside it. What an earlier one has left is gone.
    ///
    /// # Errors
    /// When it cannot be made.
    fn create_beside(&self) -> io::Result<Box<dyn Medium>>;

    /// Deletes the file that was made beside.
    fn discard_beside(&self);

    /// Puts the file that was made beside in the place of the file, durably and in one step.
    ///
    /// # Errors
    /// When that fails. Either file may be in place then.
    fn replace(&self) -> io::Result<()>;
}

/// How far the file may grow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Bytes that the file may have, headroom included.
    pub(super) size_max: u64,
    /// Bytes to keep behind its end.
    pub(super) headroom: u64,
}

/// A medium in use. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Ground(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    medium: Box<dyn Medium>,
    bounds: Bounds,
    state: Mutex<State>,
    dead: AtomicBool,
}

#[derive(Debug)]
struct State {
    /// Length that redb believes in; more than `solid` while it has growth on paper.
    len: u64,
    /// Length of the file.
    solid: u64,
    /// Bytes allocated behind its end.
    held: u64,
    refused: bool,
    sync_failed: bool,
}

impl Ground {
    /// Stands on `medium`. Nothing is allocated yet.
    pub(super) fn new(medium: Box<dyn Medium>, bounds: Bounds) -> io::Result<Self> {
        let len = medium.len()?;
        let state = State { len, solid: len, held: 0, refused: false, sync_failed: false };
        Ok(Self(Arc::new(Inner { medium, bounds, state: Mutex::new(state), dead: AtomicBool::new(false) })))
    }

    /// Makes the file longer by `take`, before redb sees it, and keeps headroom behind that if it can be had.
    pub(super) fn settle(&self, take: u64) -> io::Result<()> {
        let mut state = self.state();
        if take > 0 {
            let len = state.solid.saturating_add(take);
            // Where room is held in another file, it has to be given up before this one can have it.
            let _ = self.0.medium.hold(0);
            self.0.medium.grow(len)?;
            (state.len, state.solid) = (len, len);
        }
        self.hold_again(&mut state);
        Ok(())
    }

    /// Allocates room for `more` bytes in addition to the headroom; [`Ground::settle`] makes them part of the file.
    pub(super) fn secure(&self, more: u64) -> bool {
        let mut state = self.state();
        let held = self.0.bounds.headroom.saturating_add(more);
        if state.solid.saturating_add(held) <= self.0.bounds.size_max && self.0.medium.hold(held).is_ok() {
            state.held = held;
            return true;
        }
        self.hold_again(&mut state);
        false
    }

    /// Bytes that are held behind the end of the file.
    pub(super) fn held(&self) -> u64 {
        self.state().held
    }

    /// Length of the file in bytes.
    pub(super) fn solid(&self) -> u64 {
        self.state().solid
    }

    /// Forgets about growth that was refused before.
    pub(super) fn start(&self) {
        self.state().refused = false;
    }

    /// True when growth was refused since [`Ground::start`].
    pub(super) fn refused(&self) -> bool {
        self.state().refused
    }

    /// True when there is no headroom.
    pub(super) fn tight(&self) -> bool {
        self.state().held < self.0.bounds.headroom
    }

    /// True when a sync has failed.
    pub(super) fn sync_failed(&self) -> bool {
        self.state().sync_failed
    }

    /// Refuses every call from now on, so that whoever uses it leaves the file as it is.
    pub(super) fn kill(&self) {
        self.0.dead.store(true, Ordering::Release);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold_again(&self, state: &mut State) {
        let Bounds { size_max, headroom } = self.0.bounds;
        let held = state.solid.saturating_add(headroom) <= size_max && self.0.medium.hold(headroom).is_ok();
        state.held = if held { headroom } else { 0 };
    }

    fn alive(&self) -> io::Result<&dyn Medium> {
        if self.0.dead.load(Ordering::Acquire) {
            return Err(io::Error::other("closed, to be opened again"));
        }
        Ok(&*self.0.medium)
    }
}

/// True for the errors that say that a disk or a quota is full.
pub(super) fn is_full(error: &io::Error) -> bool {
    // A file system or a limit of the process may also say that the file is too large.
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

impl StorageBackend for Ground {
    fn len(&self) -> io::Result<u64> {
        self.alive()?;
        Ok(self.state().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.alive()?.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let medium = self.alive()?;
        let Bounds { size_max, headroom } = self.0.bounds;
        let mut state = self.state();
        if len > state.solid {
            let grown = if len.saturating_add(headroom) <= size_max {
                medium.grow(len)
            } else {
                Err(ErrorKind::StorageFull.into())
            };
            match grown {
                Ok(()) => {
                    state.solid = len;
                    self.hold_again(&mut state);
                }
                Err(error) if is_full(&error) => state.refused = true,
                Err(error) => return Err(error),
            }
        } else if len < state.solid {
            medium.set_len(len)?;
            state.solid = len;
            self.hold_again(&mut state);
        }
        state.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let synced = self.alive()?.sync_data();
        self.state().sync_failed |= synced.is_err();
        synced
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let medium = self.alive()?;
        let State { len, solid, .. } = *self.state();
        // The header must not speak of a length that the file does not have.
        if len > solid && (offset == 0 || offset.saturating_add(data.len() as u64) > solid) {
            return Err(ErrorKind::StorageFull.into());
        }
        medium.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.medium.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, redb::BackendError> {
        self.0.medium.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), redb::BackendError> {
        self.0.medium.unlock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::backends::InMemoryBackend;

    /// A disk with place for so many bytes.
    #[derive(Debug)]
    struct Small(InMemoryBackend, u64);

    impl Medium for Small {
        fn grow(&self, len: u64) -> io::Result<()> {
            if len > self.1 { Err(ErrorKind::StorageFull.into()) } else { self.0.set_len(len) }
        }

        fn hold(&self, bytes: u64) -> io::Result<()> {
            if self.0.len()? + bytes > self.1 { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }

    impl StorageBackend for Small {
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
            self.0.sync_data()
        }
        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.0.write(offset, data)
        }
    }

    fn ground(disk: u64, size_max: u64) -> Ground {
        let ground = Ground::new(Box::new(Small(InMemoryBackend::new(), disk)), Bounds { size_max, headroom: 10 });
        ground.unwrap()
    }

    #[test]
    fn growth_beyond_the_disk_is_granted_on_paper_only() {
        for ground in [ground(100, u64::MAX), ground(1000, 100)] {
            ground.settle(0).unwrap();
            ground.set_len(80).unwrap();
            assert!(!ground.refused() && !ground.tight());
            ground.write(0, &[1; 80]).unwrap();
            ground.set_len(120).unwrap();
            assert!(ground.refused());
            assert_eq!((ground.len().unwrap(), ground.solid()), (120, 80));
            ground.sync_data().unwrap();
            ground.write(10, &[2; 70]).unwrap();
            for (offset, len) in [(0, 10), (79, 2), (80, 1), (100, 20)] {
                let error = ground.write(offset, &vec![3; len]).unwrap_err();
                assert!(is_full(&error));
            }
            ground.set_len(80).unwrap();
            ground.start();
            assert!(!ground.refused());
            ground.write(0, &[4; 80]).unwrap();
        }
    }

    #[test]
    fn headroom_becomes_part_of_the_file_when_nothing_else_is_left() {
        let ground = ground(100, u64::MAX);
        ground.set_len(60).unwrap();
        assert_eq!(ground.held(), 10);
        assert!(ground.secure(30) && !ground.secure(31));
        assert_eq!(ground.held(), 10, "what could not be had leaves what was");
        ground.settle(30).unwrap();
        assert_eq!((ground.len().unwrap(), ground.held()), (90, 10));
        ground.settle(10).unwrap();
        assert_eq!((ground.len().unwrap(), ground.held()), (100, 0));
        assert!(ground.tight());
        ground.set_len(50).unwrap();
        assert!(!ground.tight(), "it is held again once there is place");
    }

    #[test]
    fn one_that_was_killed_changes_nothing_any_more() {
        let ground = ground(100, u64::MAX);
        ground.set_len(50).unwrap();
        ground.kill();
        assert!(ground.write(0, &[1]).is_err() && ground.set_len(10).is_err() && ground.sync_data().is_err());
        assert!(ground.read(0, &mut [0]).is_err() && ground.len().is_err());
        assert_eq!(ground.0.medium.len().unwrap(), 50);
        assert!(!ground.sync_failed(), "nothing was to be synced");
    }
}

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
//! * [`HEADROOM`] is allocated behind what redb has, invisible to it, as long as the disk has it. Growth that redb asks
//!   for never comes out of it, because redb doubles the file, and the next time it asks for more than is left. Where
//!   there is less of it, a part is better than nothing. When nothing else is left, it becomes part of the file, and is
//!   kept from then on for what frees room: see the writer.
//! * redb makes the file shorter when half of it is free. Where there is no headroom on the disk, what it gives up so
//!   is that, and stays in the file: a disk that is full would give it to others at once, and the next delete could not
//!   have it.

use redb::StorageBackend;
use std::fmt::Debug;
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Room behind the end of the file, in bytes: enough, at any alignment, for the largest contiguous page that a delete
/// may need and for some hundred pages of 4 kB. See [`super::redb`] for the reckoning.
pub const HEADROOM: u64 = 1024 * 1024;

/// The least part of the headroom that is worth having where the disk has not all of it, as a divisor.
const HEADROOM_PARTS: u64 = 8;

/// Where a file is kept: what redb asks of it, and room that is really there.
pub trait Medium: StorageBackend {
    /// Makes the file `len` bytes long, more than it is, with its place on the disk, and keeps place for at least
    /// `behind` bytes more, as [`Medium::hold`] does. New bytes are zeros.
    ///
    /// # Errors
    /// `StorageFull` or the like when there is no place for both; the file has its old length then, and what was kept
    /// before is kept on, as far as possible.
    fn grow(&self, len: u64, behind: u64) -> io::Result<()>;

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
    /// Length that redb believes in; more than `solid` while it has growth on paper, less when it gave up what has to
    /// be kept.
    len: u64,
    /// Length of the file.
    solid: u64,
    /// Bytes allocated behind its end.
    held: u64,
    refused: bool,
    sync_failed: bool,
}

impl State {
    /// Where what redb has ends and really is.
    fn used(&self) -> u64 {
        self.len.min(self.solid)
    }

    /// Where the place ends that is taken on the disk.
    fn end(&self) -> u64 {
        self.solid.saturating_add(self.held)
    }
}

impl Ground {
    /// Stands on `medium`. Nothing is allocated yet.
    pub(super) fn new(medium: Box<dyn Medium>, bounds: Bounds) -> io::Result<Self> {
        let len = medium.len()?;
        let state = State { len, solid: len, held: 0, refused: false, sync_failed: false };
        Ok(Self(Arc::new(Inner { medium, bounds, state: Mutex::new(state), dead: AtomicBool::new(false) })))
    }

    /// Makes the file at least `len` bytes long, before redb sees it, and keeps headroom behind that if it can be had.
    pub(super) fn settle(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        if len > state.solid {
            // Where room is held in another file, it has to be given up before this one can have it.
            let _ = self.0.medium.hold(0);
            self.0.medium.grow(len, 0)?;
            (state.len, state.solid, state.held) = (len, len, 0);
        }
        self.hold_again(&mut state);
        Ok(())
    }

    /// Allocates room for `more` bytes in addition to the headroom; [`Ground::settle`] makes them part of the file.
    pub(super) fn secure(&self, more: u64) -> bool {
        let mut state = self.state();
        let secured = self.hold_behind(&mut state, self.0.bounds.headroom.saturating_add(more));
        self.hold_again(&mut state);
        secured
    }

    /// Bytes that are kept behind what redb has of the file.
    pub(super) fn held(&self) -> u64 {
        let state = self.state();
        state.end() - state.used()
    }

    /// Length in bytes of what redb has of the file.
    pub(super) fn solid(&self) -> u64 {
        self.state().used()
    }

    /// Forgets about growth that was refused before.
    pub(super) fn start(&self) {
        self.state().refused = false;
    }

    /// True when growth was refused since [`Ground::start`].
    pub(super) fn refused(&self) -> bool {
        self.state().refused
    }

    /// True when there is not all of the headroom.
    pub(super) fn tight(&self) -> bool {
        self.held() < self.0.bounds.headroom
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

    /// Keeps the headroom, or as much of it as can be had.
    fn hold_again(&self, state: &mut State) {
        let headroom = self.0.bounds.headroom;
        let mut bytes = headroom;
        while bytes > 0 && bytes >= headroom / HEADROOM_PARTS && !self.hold_behind(state, bytes) {
            bytes /= 2;
        }
    }

    /// Keeps place for at least so many bytes behind what redb has. When it cannot be had, less may be left than there
    /// was, and is counted as nothing until it is asked for.
    fn hold_behind(&self, state: &mut State, bytes: u64) -> bool {
        let end = state.used().saturating_add(bytes);
        if end <= state.end() {
            return true;
        }
        let held = end - state.solid;
        let kept = end <= self.0.bounds.size_max && self.0.medium.hold(held).is_ok();
        state.held = if kept { held } else { 0 };
        kept
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
        let with_headroom = len.saturating_add(headroom);
        if len > state.solid {
            let grown =
                if with_headroom <= size_max { medium.grow(len, headroom) } else { Err(ErrorKind::StorageFull.into()) };
            match grown {
                Ok(()) => (state.solid, state.held) = (len, headroom),
                Err(error) if is_full(&error) => {
                    (state.refused, state.held) = (true, 0);
                    self.hold_again(&mut state);
                }
                Err(error) => return Err(error),
            }
            state.len = len;
        } else {
            // What is held behind the end of the file goes with its end, and comes again.
            let kept = if state.held < headroom { with_headroom.min(state.solid) } else { len };
            if len < state.len && kept < state.solid {
                medium.set_len(kept)?;
                (state.solid, state.held) = (kept, 0);
            }
            state.len = len;
            self.hold_again(&mut state);
        }
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
        fn grow(&self, len: u64, behind: u64) -> io::Result<()> {
            if len + behind > self.1 { Err(ErrorKind::StorageFull.into()) } else { self.0.set_len(len) }
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
        ground.settle(90).unwrap();
        assert_eq!((ground.len().unwrap(), ground.held()), (90, 10));
        ground.settle(100).unwrap();
        assert_eq!((ground.len().unwrap(), ground.held()), (100, 0));
        assert!(ground.tight());
        ground.set_len(50).unwrap();
        assert!(!ground.tight(), "it is held again once there is place");
    }

    #[test]
    fn growth_never_comes_out_of_the_headroom() {
        for ground in [ground(100, u64::MAX), ground(1000, 100)] {
            ground.settle(0).unwrap();
            ground.set_len(80).unwrap();
            ground.set_len(91).unwrap();
            assert!(ground.refused() && !ground.tight());
            ground.set_len(80).unwrap();
            ground.start();
            ground.set_len(90).unwrap();
            assert!(!ground.refused() && !ground.tight());
            assert_eq!((ground.solid(), ground.held()), (90, 10));
        }
    }

    #[test]
    fn a_part_of_the_headroom_is_kept_where_there_is_not_all_of_it() {
        let ground = ground(1000, 97);
        ground.settle(90).unwrap();
        assert_eq!(ground.held(), 5);
        assert!(ground.tight() && !ground.secure(1));
        assert_eq!(ground.held(), 5);
    }

    #[test]
    fn without_headroom_what_redb_gives_up_is_kept_for_it() {
        let ground = ground(100, u64::MAX);
        ground.settle(100).unwrap();
        let end = || ground.0.medium.len().unwrap();
        ground.set_len(96).unwrap();
        assert_eq!((ground.len().unwrap(), ground.held(), end()), (96, 4, 100));
        assert!(ground.tight());
        ground.set_len(60).unwrap();
        assert_eq!((ground.len().unwrap(), ground.held(), end()), (60, 10, 70));
        assert!(!ground.tight(), "and no more than that");
        ground.set_len(65).unwrap();
        ground.write(60, &[1; 5]).unwrap();
        assert_eq!((ground.held(), end()), (10, 70), "the rest of it is on the disk");
        assert!(!ground.tight());
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

//! The store: small typed tables under ordered keys, all of one owner a range.
//!
//! Reads go through a [`View`]: the last committed snapshot, the batches still on their way, and what the input at hand
//! has written. Writes leave as a [`Batch`] for each tick; the storage thread ([`run`]) commits all that wait in one
//! durable transaction and reports how far it got. Nothing here waits for a disk but that thread.
//!
//! A key is `owner ++ 0x00 ++ table ++ sub key`. The owner is a text (a bare JID, a host), the table a byte, the sub key
//! whatever the table says; numbers in it are big-endian so that they sort.

pub mod backup;
pub mod codec;
mod error;
mod file;
mod ground;
pub mod memory;
mod probe;
pub mod redb;
mod view;

pub use codec::{Decoder, Encoder, Record};
pub use error::StoreError;
pub use file::set_aside;
pub use ground::{HEADROOM, Medium, Place};
pub use view::View;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

/// Number of a batch; what waits for it may leave once a commit reached it. 0 waits for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A key in the store and the value to put there, or `None` to delete what is there.
pub type Write = (Arc<[u8]>, Option<Arc<[u8]>>);

/// All writes of one tick. They are absolute, so that doing them twice is harmless.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its number; grows by every batch.
    pub ticket: Ticket,
    /// How many commits had failed, as the engine knew, when the batch was made. See [`run`].
    pub epoch: u32,
    /// Each key at most once.
    pub writes: Vec<Write>,
}

/// What is done with the rows of a range: key and value, until it breaks.
pub type Each<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// A row of a table: its sub key and what it holds.
pub type Row<T> = (Vec<u8>, <T as Table>::Value);

/// A table: what is stored under one table byte of any owner.
pub trait Table {
    /// The byte in the key; no two tables share one, and none is ever given to another table.
    const ID: u8;
    /// Name for messages.
    const NAME: &'static str;
    /// What a row holds.
    type Value: Record;
}

/// What the store held at one moment.
pub trait Snapshot {
    /// Shows the value of `key` to `each`, in place; nothing when there is none.
    ///
    /// # Errors
    /// When the back end fails. A snapshot ends when its back end had to be opened again; take a new one then.
    fn read(&self, key: &[u8], each: &mut dyn FnMut(&[u8])) -> Result<(), StoreError>;

    /// Shows the rows in `from..to` in the order of their keys, until `each` breaks.
    ///
    /// # Errors
    /// As [`Snapshot::read`]; rows may have been shown before.
    fn scan(&self, from: &[u8], to: &[u8], each: Each<'_>) -> Result<(), StoreError>;

    /// As [`Snapshot::scan`], from the last row to the first.
    ///
    /// # Errors
    /// As [`Snapshot::scan`].
    fn scan_back(&self, from: &[u8], to: &[u8], each: Each<'_>) -> Result<(), StoreError>;

    /// A copy of the value of `key`.
    ///
    /// # Errors
    /// As [`Snapshot::read`].
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let mut value = None;
        self.read(key, &mut |bytes| value = Some(bytes.to_vec()))?;
        Ok(value)
    }
}

/// The side of a back end that the engine reads from. Threads have one each, see [`Reader::another`].
pub trait Reader: Send {
    /// What is committed now.
    ///
    /// # Errors
    /// When the back end fails.
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError>;

    /// A reader of the same store, for another thread.
    fn another(&self) -> Box<dyn Reader>;
}

/// The side of a back end that the storage thread writes to.
pub trait Writer: Send {
    /// Makes all writes of all batches durable, in their order, in one transaction.
    ///
    /// # Errors
    /// When that cannot be promised. Then all of it is stored or nothing is, and the next commit starts afresh.
    fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError>;
}

/// Both sides of a back end.
pub type Store = (Box<dyn Reader>, Box<dyn Writer>);

/// What the storage thread does until the last sender of `batches` is gone: it takes all batches that wait, commits
/// them in one transaction and reports the newest ticket that is durable now.
///
/// It ends, too, when it has reported an error that [is fatal](StoreError::is_fatal): then the process must end.
///
/// When a commit fails for another reason, that is reported once, and every batch of the same epoch or an older one is dropped: it was made
/// by an engine that did not know of the failure and so built on writes that never happened.
pub fn run(mut writer: Box<dyn Writer>, batches: Receiver<Batch>, mut report: impl FnMut(Result<Ticket, StoreError>)) {
    let mut epoch = 0;
    let mut waiting = Vec::new();
    while let Ok(first) = batches.recv() {
        waiting.push(first);
        waiting.extend(batches.try_iter());
        waiting.retain(|batch| batch.epoch >= epoch);
        let Some(last) = waiting.last() else { continue };
        let (ticket, next_epoch) = (last.ticket, last.epoch.saturating_add(1));
        match writer.commit(&waiting) {
            Ok(()) => report(Ok(ticket)),
            Err(error) => {
                epoch = next_epoch;
                let fatal = error.is_fatal();
                report(Err(error));
                if fatal {
                    return;
                }
            }
        }
        waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn batch(ticket: u64, epoch: u32) -> Batch {
        let key: Arc<[u8]> = ticket.to_be_bytes().to_vec().into();
        Batch { ticket: Ticket(ticket), epoch, writes: vec![(key.clone(), Some(key))] }
    }

    /// Runs the thread's body over what is sent at once, then over what each report makes the engine send.
    fn reports(
        memory: &memory::Memory,
        first: &[Batch],
        answer: impl Fn(&Result<Ticket, StoreError>) -> Vec<Batch>,
    ) -> Vec<Result<Ticket, StoreError>> {
        let (sender, receiver) = mpsc::channel();
        first.iter().for_each(|batch| sender.send(batch.clone()).unwrap());
        let mut sender = Some(sender);
        let mut seen = Vec::new();
        run(memory.open().1, receiver, |report| {
            let more = answer(&report);
            // The engine ends when it has nothing more to send, and the thread with it.
            if more.is_empty() {
                sender = None;
            }
            for batch in more {
                sender.as_ref().unwrap().send(batch).unwrap();
            }
            seen.push(report);
        });
        seen
    }

    #[test]
    fn all_batches_that_wait_are_one_commit() {
        let memory = memory::Memory::new();
        let seen = reports(&memory, &[batch(1, 0), batch(2, 0), batch(3, 0)], |_| vec![]);
        assert_eq!(seen, [Ok(Ticket(3))]);
        assert_eq!((memory.commits(), memory.rows()), (1, 3));
    }

    #[test]
    fn a_failure_takes_with_it_what_was_made_before_it_was_known() {
        let memory = memory::Memory::new();
        memory.fail_commit(1, StoreError::Full);
        let seen = reports(&memory, &[batch(1, 0), batch(2, 0)], |report| match report {
            Err(_) => vec![batch(3, 0), batch(4, 0), batch(6, 1)],
            Ok(_) => vec![],
        });
        assert_eq!(seen, [Err(StoreError::Full), Ok(Ticket(6))]);
        assert_eq!(memory.rows(), 1);
    }

    #[test]
    fn nothing_is_acknowledged_behind_a_sync_that_failed() {
        let memory = memory::Memory::new();
        let lost = StoreError::FsyncFailed("x".into());
        memory.fail_commit(1, lost.clone());
        let seen = reports(&memory, &[batch(1, 0)], |_| vec![batch(2, 1)]);
        assert_eq!(seen, [Err(lost)]);
        assert_eq!(memory.rows(), 0);
    }
}

//! The store: small typed tables under ordered keys, all of one owner a range.
//!
//! Reads go through a [`View`]: the last committed snapshot, the batches still on their way, and what the input at hand
//! has written. Writes leave as a [`Batch`] for each tick; the storage thread ([`run`]) commits all that wait in one
//! durable transaction and reports how far it got. Nothing here waits for a disk but that thread.
//!
//! A key is `owner ++ 0x00 ++ table ++ sub key`. The owner is a text (a bare JID, a host), the table a byte, the sub
//! key whatever the table says; numbers in it are big-endian so that they sort.

pub mod backup;
pub mod codec;
mod error;
mod file;
mod ground;
mod known;
mod layers;
pub mod memory;
mod options;
mod probe;
pub mod redb;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod thread;
mod view;
pub mod volatile;

pub use codec::{Decoder, Encoder, Record};
pub use error::StoreError;
pub use file::set_aside;
pub use ground::{HEADROOM, Medium, Place};
pub use known::{Extent, Marked};
pub use layers::end_of;
pub use options::{Kept, StoreOptions};
pub use thread::{COMMIT_BYTES_MAX, Job, Jobs, Mode, Next, Plan, Promises, Report, WhenIdle, run};
pub use view::View;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

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

impl Batch {
    /// Bytes of its keys and values.
    pub fn bytes(&self) -> usize {
        self.writes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, |value| value.len())).sum()
    }
}

/// Behind every key: none starts with two bytes that no text has.
const BEHIND_ALL: &[u8] = &[0xff, 0xff];

/// What is done with the rows of a range: key and value, until it breaks.
pub type Each<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// A row of a table: its sub key and what it holds.
pub type Row<T> = (Vec<u8>, <T as Table>::Value);

/// Puts the key of a row into `key`: for those who read a [`Snapshot`] themselves.
pub fn row_key(owner: &str, table: Option<u8>, sub: &[u8], key: &mut Vec<u8>) {
    key.clear();
    key.extend_from_slice(owner.as_bytes());
    // No address has a byte 0, as stringprep forbids it. Were there one, 0xff, which no text has, keeps owners apart.
    for byte in &mut *key {
        if *byte == 0 {
            *byte = 0xff;
        }
    }
    key.push(0);
    key.extend(table);
    key.extend_from_slice(sub);
}

/// A table: what is stored under one table byte of any owner.
pub trait Table {
    /// The byte in the key; no two tables share one, and none is ever given to another table.
    const ID: u8;
    /// Name for messages.
    const NAME: &'static str;
    /// Most owners have no such row, and each stanza asks for it: the view remembers which rows are not there.
    const SPARSE: bool = false;
    /// Some rows are looked for by what they hold: what the view is to remember of them ([`View::marked`]). A row for
    /// which it gives 0 is not among them.
    const MARKS: Option<fn(&Self::Value) -> u8> = None;
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

    /// Makes all writes of all batches visible to readers, in one transaction. They are durable behind the next
    /// [`Writer::flush`] or [`Writer::commit`] that goes well, and when that fails they may never be.
    ///
    /// # Errors
    /// As [`Writer::commit`]; also when something that was applied before is known to be lost.
    fn apply(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        self.commit(batches)
    }

    /// Makes durable what was applied. `wall_ms` is the time, in milliseconds since 1970.
    ///
    /// # Errors
    /// When that cannot be promised.
    fn flush(&mut self, _wall_ms: i64) -> Result<(), StoreError> {
        Ok(())
    }

    /// How large the file is and how much of it is used. Reads all of it.
    ///
    /// # Errors
    /// When the back end fails.
    fn stats(&mut self) -> Result<Stats, StoreError> {
        Ok(Stats::default())
    }

    /// Makes the file as small as it can be, and gives what it is then. Readers go on meanwhile.
    ///
    /// # Errors
    /// When the back end fails. The file is as it was then.
    fn compact(&mut self) -> Result<Stats, StoreError> {
        self.stats()
    }
}

/// What a back end takes, in bytes. All is 0 where there is no file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Length of the file.
    pub file_bytes: u64,
    /// What is behind its end for when the disk is full.
    pub headroom_bytes: u64,
    /// Keys and values.
    pub used_bytes: u64,
    /// Rows.
    pub rows: u64,
}

/// One line for people.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stats { file_bytes, used_bytes, rows, .. } = self;
        write!(f, "the data file has {file_bytes} bytes, of which {rows} rows take {used_bytes}")
    }
}

/// Both sides of a back end.
pub type Store = (Box<dyn Reader>, Box<dyn Writer>);

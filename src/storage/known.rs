//! What the [view](super::view) remembers beside rows: which are not there, and how far those of an owner go.
//!
//! Most accounts block nobody, and each stanza asks. Whoever is away gets one message behind the other, and each asks
//! how many wait. Nothing here is but what a look at the layers would show: a write changes or forgets what it touches,
//! and whatever takes writes back forgets what they may have changed.

use super::Ticket;
use crate::budget::allocated;
use std::collections::BTreeMap;

/// Rows that are known not to be there: one for each of a thousand people who talk.
const ABSENT_MAX: usize = 1024;

/// Longer keys are not remembered, in bytes; most have less than fifty.
const KEY_BYTES_MAX: usize = 128;

/// Ranges whose extent is known, some 200 bytes each.
const EXTENTS_MAX: usize = 1024;

/// How many rows of a table an owner has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Their number.
    pub rows: usize,
    /// Bytes of their values.
    pub bytes: usize,
}

/// An extent with what belongs to it.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub extent: Extent,
    /// The highest sub key; empty when there are no rows.
    pub last: Vec<u8>,
    /// The newest batch that it shows.
    pub ticket: Ticket,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Each key has one place, and the newest takes it, memory and all; no key is empty. Without places until there is
    /// one.
    absent: Vec<Vec<u8>>,
    /// What those keys take.
    absent_bytes: usize,
    /// By what all keys of a range start with.
    extents: BTreeMap<Box<[u8]>, Shown>,
}

impl Known {
    pub fn is_absent(&self, key: &[u8]) -> bool {
        self.absent.get(place(key)).is_some_and(|absent| absent == key)
    }

    pub fn note_absent(&mut self, key: &[u8]) {
        if key.len() > KEY_BYTES_MAX {
            return;
        }
        if self.absent.is_empty() {
            self.absent.resize(ABSENT_MAX, Vec::new());
        }
        if let Some(place) = self.absent.get_mut(place(key)) {
            let before = allocated(place.capacity());
            place.clear();
            place.extend_from_slice(key);
            self.absent_bytes = self.absent_bytes - before + allocated(place.capacity());
        }
    }

    pub fn extent(&self, range: &[u8]) -> Option<&Shown> {
        self.extents.get(range)
    }

    pub fn note_extent(&mut self, range: &[u8], shown: Shown) {
        if range.len() > KEY_BYTES_MAX || shown.last.len() > KEY_BYTES_MAX {
            return;
        }
        // They are quick to learn again.
        if self.extents.len() >= EXTENTS_MAX {
            self.extents.clear();
        }
        self.extents.insert(Box::from(range), shown);
    }

    /// A row is about to be written in the batch of that ticket: a value of so many bytes, or none. `range_len` says
    /// how much of the key is that of its range.
    pub fn written(&mut self, key: &[u8], range_len: usize, value_len: Option<usize>, ticket: Ticket) {
        if self.is_absent(key)
            && let Some(place) = self.absent.get_mut(place(key))
        {
            place.clear();
        }
        let Some((range, sub)) = key.split_at_checked(range_len) else { return };
        let Some(Shown { extent: Extent { rows, bytes }, last, ticket: newest }) = self.extents.get_mut(range) else {
            return;
        };
        // Of a row that is behind all others it is known that it is new.
        match value_len {
            Some(len) if (*rows == 0 || *sub > **last) && sub.len() <= KEY_BYTES_MAX => {
                *rows += 1;
                *bytes = bytes.saturating_add(len);
                last.clear();
                last.extend_from_slice(sub);
                *newest = ticket;
            }
            _ => _ = self.extents.remove(range),
        }
    }

    /// Writes are taken back that were of one input. What they wrote is not remembered as absent, which is no mistake.
    pub fn forget_extents(&mut self) {
        self.extents.clear();
    }

    /// Bytes that it holds; ranges are taken to be of common length.
    pub fn held_bytes(&self) -> usize {
        const EXTENT_BYTES: usize = 256;
        self.absent.len() * size_of::<Vec<u8>>() + self.absent_bytes + self.extents.len() * EXTENT_BYTES
    }

    /// Writes are taken back, which may bring rows back, too.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

/// Which place a key has.
fn place(key: &[u8]) -> usize {
    let mut hash = 0u64;
    for chunk in key.chunks(8) {
        let word = chunk.iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
        hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The product carries differences upwards alone.
        hash ^= hash >> 32;
    }
    hash as usize % ABSENT_MAX
}

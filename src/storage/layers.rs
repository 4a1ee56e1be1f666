//! The upper layers of the [view](super::view), which hide the snapshot, as one walk over their keys.

use super::Ticket;
use std::collections::{BTreeMap, btree_map};
use std::iter::{Peekable, Rev};
use std::sync::Arc;

/// None is a row that was deleted.
pub(super) type Value = Option<Arc<[u8]>>;
pub(super) type Map<V> = BTreeMap<Arc<[u8]>, V>;

/// A row that is on its way to the disk.
pub(super) struct Pending {
    pub ticket: Ticket,
    pub value: Value,
}

/// The two upper layers as one.
pub(super) struct Upper<'a> {
    pub scratch: Peekable<Walk<'a, Value>>,
    pub pending: Peekable<Walk<'a, Pending>>,
    pub back: bool,
    /// The newest batch of the rows that it came by.
    pub read: Ticket,
}

type UpperRow<'a> = (&'a [u8], Option<&'a [u8]>);

impl<'a> Upper<'a> {
    /// The next row if it comes before `key`, or whatever comes next.
    pub fn next_before(&mut self, key: Option<&[u8]>) -> Option<UpperRow<'a>> {
        let next = self.next_key()?;
        if key.is_some_and(|key| !self.before(next, key)) {
            return None;
        }
        self.next_at(next)
    }

    /// The row of `key` if it is the next one.
    pub fn next_at(&mut self, key: &[u8]) -> Option<UpperRow<'a>> {
        let pending = self.pending.next_if(|(next, _)| ***next == *key);
        if let Some((_, row)) = pending {
            self.read = self.read.max(row.ticket);
        }
        match self.scratch.next_if(|(next, _)| ***next == *key) {
            Some((key, value)) => Some((key, value.as_deref())),
            None => pending.map(|(key, row)| (&**key, row.value.as_deref())),
        }
    }

    fn next_key(&mut self) -> Option<&'a [u8]> {
        let scratch = self.scratch.peek().map(|(key, _)| &***key);
        let pending = self.pending.peek().map(|(key, _)| &***key);
        match (scratch, pending) {
            (Some(a), Some(b)) => Some(if self.before(a, b) { a } else { b }),
            (a, b) => a.or(b),
        }
    }

    fn before(&self, a: &[u8], b: &[u8]) -> bool {
        if self.back { a > b } else { a < b }
    }
}

/// A range of a map in either direction.
pub(super) enum Walk<'a, V> {
    Forward(btree_map::Range<'a, Arc<[u8]>, V>),
    Back(Rev<btree_map::Range<'a, Arc<[u8]>, V>>),
}

impl<'a, V> Walk<'a, V> {
    pub fn new(map: &'a Map<V>, from: &[u8], to: &[u8], back: bool) -> Self {
        use std::ops::Bound::{Excluded, Included};
        let range = map.range::<[u8], _>((Included(from), Excluded(to)));
        if back { Walk::Back(range.rev()) } else { Walk::Forward(range) }
    }
}

impl<'a, V> Iterator for Walk<'a, V> {
    type Item = (&'a Arc<[u8]>, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Walk::Forward(range) => range.next(),
            Walk::Back(range) => range.next(),
        }
    }
}

/// The first key behind all that start with `prefix`, which has a byte other than 0xff: the 0 behind the owner.
pub fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            break;
        }
    }
    end
}

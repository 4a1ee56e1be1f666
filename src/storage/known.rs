//! What the [view](super::view) remembers beside rows: which are not there, how far those of an owner go, and which of
//! them their table marks.
//!
//! Most accounts block nobody, and each stanza asks. Whoever is away gets one message behind the other, and each asks
//! how many wait. Each presence asks which contacts may see it. Nothing here is but what a look at the layers would
//! show: a write changes or forgets what it touches, and whatever takes writes back forgets what they may have changed.

use super::Ticket;
use crate::budget::allocated;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

/// Rows that are known not to be there: one for each of a thousand people who talk.
const ABSENT_MAX: usize = 1024;

/// Longer keys are not remembered as absent, in bytes; most have less than fifty.
const KEY_BYTES_MAX: usize = 95;

/// A key that is not there, behind its length; no key is empty. All places are one block: a thousand keys that are
/// allocated each for itself while much else comes and goes keep whole pages of that in use.
type Place = [u8; 1 + KEY_BYTES_MAX];

/// The key in a place.
fn key_in(place: &Place) -> &[u8] {
    place.get(1..=usize::from(place[0])).unwrap_or_default()
}

/// How many rows of a table an owner has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Their number.
    pub rows: usize,
    /// Bytes of their values.
    pub bytes: usize,
}

/// Those rows of an owner that their table marks ([`super::Table::MARKS`]), in the order of their sub keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marked {
    /// Of each its marks, the length of its sub key in four bytes, and that.
    bytes: Vec<u8>,
}

/// What stands before a sub key.
const HEAD: usize = 5;

impl Marked {
    /// The row that begins at `at`: its marks and its sub key. `at` is behind it then. Begin with 0.
    pub fn next(&self, at: &mut usize) -> Option<(u8, &[u8])> {
        let (head, rest) = self.bytes.get(*at..)?.split_first_chunk::<HEAD>()?;
        let [marks, len @ ..] = *head;
        let sub = rest.get(..u32::from_le_bytes(len) as usize)?;
        *at += HEAD + sub.len();
        Some((marks, sub))
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        let mut at = 0;
        std::iter::from_fn(|| self.next(&mut at).map(drop)).count()
    }

    /// True when none is marked.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Adds a row behind the last.
    pub(super) fn push(&mut self, sub: &[u8], marks: u8) {
        if marks != 0 {
            self.bytes.extend(head(sub, marks));
            self.bytes.extend_from_slice(sub);
        }
    }

    /// Gives back memory that was reserved for more.
    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Where a row stands, or would, and how long it is.
    fn find(&self, sub: &[u8]) -> (usize, usize) {
        let mut next = 0;
        loop {
            let at = next;
            match self.next(&mut next) {
                Some((_, other)) if other < sub => {}
                Some((_, other)) if other == sub => return (at, next - at),
                _ => return (at, 0),
            }
        }
    }

    /// Has a row marked like that from now on; 0 takes it out.
    fn set(&mut self, sub: &[u8], marks: u8) {
        let (at, len) = self.find(sub);
        let row = (marks != 0).then(|| head(sub, marks).into_iter().chain(sub.iter().copied()));
        self.bytes.splice(at..at + len, row.into_iter().flatten());
        if self.bytes.len() < self.bytes.capacity() / 4 {
            self.bytes.shrink_to_fit();
        }
    }

    fn marks(&self, sub: &[u8]) -> u8 {
        let (mut at, len) = self.find(sub);
        if len == 0 { 0 } else { self.next(&mut at).map_or(0, |(marks, _)| marks) }
    }
}

fn head(sub: &[u8], marks: u8) -> [u8; HEAD] {
    let [a, b, c, d] = (sub.len() as u32).to_le_bytes();
    [marks, a, b, c, d]
}

/// An extent with what belongs to it.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub extent: Extent,
    /// The highest sub key; empty when there are no rows.
    pub last: Vec<u8>,
    pub marked: Rc<Marked>,
    /// The newest batch that it shows.
    pub ticket: Ticket,
}

impl Shown {
    /// Bytes that it takes, with the key that it has.
    fn held_bytes(&self, range: &[u8]) -> usize {
        // Its share of a node of the tree, which may be half empty.
        const NODE_BYTES: usize = 2 * size_of::<(Box<[u8]>, Shown)>();
        const SHARED_BYTES: usize = 16 + size_of::<Marked>();
        let marked = match self.marked.bytes.capacity() {
            0 => 0,
            bytes => allocated(SHARED_BYTES) + allocated(bytes),
        };
        NODE_BYTES + allocated(range.len()) + allocated(self.last.capacity()) + marked
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Known {
    /// Each key has one place, and the newest takes it. Without places until there is one.
    absent: Vec<Place>,
    /// By what all keys of a range start with.
    ranges: BTreeMap<Box<[u8]>, Shown>,
    /// What those take, and what they may.
    ranges_bytes: usize,
    ranges_bytes_max: usize,
    /// Shared by all that have no marked rows.
    none: Rc<Marked>,
}

/// A row that is about to be written.
pub(super) struct Change<'a> {
    pub key: &'a [u8],
    /// How much of the key is that of its range.
    pub range_len: usize,
    /// How long its value is at present, if there is one and [`Known::asks_before`].
    pub before: Option<usize>,
    /// How long its value will be, and its marks; none if it is deleted.
    pub after: Option<(usize, u8)>,
    /// The batch that it will be in.
    pub ticket: Ticket,
}

impl Known {
    pub fn new(ranges_bytes_max: usize) -> Self {
        Self { absent: Vec::new(), ranges: BTreeMap::new(), ranges_bytes: 0, ranges_bytes_max, none: Rc::default() }
    }

    pub fn is_absent(&self, key: &[u8]) -> bool {
        self.absent.get(place(key)).is_some_and(|absent| key_in(absent) == key)
    }

    pub fn note_absent(&mut self, key: &[u8]) {
        let Ok(len) = u8::try_from(key.len()) else { return };
        if key.len() > KEY_BYTES_MAX {
            return;
        }
        if self.absent.is_empty() {
            // As the system gives it: pages without a key take nothing.
            self.absent = vec![[0; 1 + KEY_BYTES_MAX]; ABSENT_MAX];
        }
        if let Some(place) = self.absent.get_mut(place(key)) {
            place[0] = len;
            place.iter_mut().skip(1).zip(key).for_each(|(to, from)| *to = *from);
        }
    }

    pub fn shown(&self, range: &[u8]) -> Option<&Shown> {
        self.ranges.get(range)
    }

    pub fn note(&mut self, range: &[u8], mut shown: Shown) {
        if shown.marked.is_empty() {
            shown.marked = self.none.clone();
        }
        let bytes = shown.held_bytes(range);
        // One alone is not to have the room of all.
        if bytes > self.ranges_bytes_max / 4 {
            return;
        }
        if self.ranges_bytes + bytes > self.ranges_bytes_max {
            self.forget_ranges();
        }
        self.forget_range(range);
        self.ranges_bytes += bytes;
        self.ranges.insert(Box::from(range), shown);
    }

    /// True when [`Known::written`] has to be told of the row that is there: it is not behind all that are known.
    pub fn asks_before(&self, key: &[u8], range_len: usize) -> bool {
        let (range, sub) = key.split_at(range_len);
        self.ranges.get(range).is_some_and(|shown| shown.extent.rows > 0 && *sub <= *shown.last)
    }

    /// A row is about to be written.
    pub fn written(&mut self, change: &Change<'_>) {
        let Change { key, range_len, before, after, ticket } = *change;
        if self.is_absent(key)
            && let Some(place) = self.absent.get_mut(place(key))
        {
            place[0] = 0;
        }
        let (range, sub) = key.split_at(range_len);
        let Some(shown) = self.ranges.get_mut(range) else { return };
        if after.is_none() && before.is_some() && *sub == *shown.last {
            // Which one is the last now is not known.
            return self.forget_range(range);
        }
        let held_before = shown.held_bytes(range);
        let Extent { rows, bytes } = &mut shown.extent;
        *rows = *rows + usize::from(after.is_some()) - usize::from(before.is_some());
        *bytes = (*bytes + after.map_or(0, |(len, _)| len)).saturating_sub(before.unwrap_or(0));
        if after.is_some() && *sub > *shown.last {
            shown.last.clear();
            shown.last.extend_from_slice(sub);
        }
        let marks = after.map_or(0, |(_, marks)| marks);
        if shown.marked.marks(sub) != marks {
            Rc::make_mut(&mut shown.marked).set(sub, marks);
        }
        shown.ticket = ticket;
        self.ranges_bytes = self.ranges_bytes - held_before + shown.held_bytes(range);
        if self.ranges_bytes > self.ranges_bytes_max {
            self.forget_ranges();
        }
    }

    pub fn forget_range(&mut self, range: &[u8]) {
        if let Some(shown) = self.ranges.remove(range) {
            self.ranges_bytes -= shown.held_bytes(range);
        }
    }

    /// Forgets all ranges whose keys start with that.
    pub fn forget_owner(&mut self, start: &[u8]) {
        let begin = (Bound::Included(start), Bound::Unbounded);
        while let Some((range, _)) = self.ranges.range::<[u8], _>(begin).next().filter(|(r, _)| r.starts_with(start)) {
            let range = range.clone();
            self.forget_range(&range);
        }
    }

    /// Writes are taken back that were of one input. What they wrote is not remembered as absent, which is no mistake.
    pub fn forget_ranges(&mut self) {
        self.ranges.clear();
        self.ranges_bytes = 0;
    }

    /// What ranges may take from now on.
    pub fn set_max(&mut self, ranges_bytes_max: usize) {
        self.ranges_bytes_max = ranges_bytes_max;
        if self.ranges_bytes > ranges_bytes_max {
            self.forget_ranges();
        }
    }

    /// Bytes that it holds.
    pub fn held_bytes(&self) -> usize {
        allocated(self.absent.len() * size_of::<Place>()) + self.ranges_bytes
    }

    /// Writes are taken back, which may bring rows back, too.
    pub fn forget(&mut self) {
        *self = Self::new(self.ranges_bytes_max);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn note(known: &mut Known, range: &[u8], last: usize) {
        known.note(range, Shown { extent: Extent { rows: 1, bytes: 1 }, last: vec![1; last], ..Shown::default() });
    }

    #[test]
    fn what_is_remembered_of_ranges_stays_below_its_bound() {
        const MAX: usize = 8000;
        let mut known = Known::new(MAX);
        for n in 0..1000u16 {
            note(&mut known, &n.to_be_bytes(), 10);
            assert!(known.shown(&n.to_be_bytes()).is_some() && known.held_bytes() <= MAX);
        }
        note(&mut known, b"large", MAX);
        assert!(known.shown(b"large").is_none(), "one alone has not the room of all");
        note(&mut known, b"grows", 10);
        for n in 0..1000u16 {
            let key = [&b"grows"[..], &[2], &n.to_be_bytes()].concat();
            known.written(&Change { key: &key, range_len: 5, before: None, after: Some((1, 1)), ticket: Ticket(1) });
            assert!(known.held_bytes() <= MAX);
        }
        assert_eq!(known.held_bytes(), 0, "it has forgotten all");
    }

    #[test]
    fn an_owner_is_forgotten_and_no_other() {
        let mut known = Known::new(8000);
        for range in [&b"a\0\x01"[..], b"a\0\x02", b"a.b\0\x01", b"b\0\x01"] {
            note(&mut known, range, 10);
        }
        known.forget_owner(b"a\0");
        let left: Vec<_> = known.ranges.keys().map(|range| &range[..]).collect();
        assert_eq!(left, [&b"a.b\0\x01"[..], b"b\0\x01"]);
        known.forget_owner(b"b\0");
        known.forget_owner(b"a.b\0");
        assert_eq!(known.held_bytes(), 0);
    }

    #[test]
    fn marks_stand_in_order() {
        let mut marked = Marked::default();
        for (sub, marks) in [(&b"b"[..], 1), (b"a", 2), (b"c", 3), (b"b", 0), (b"", 1), (b"c", 1), (b"d", 0)] {
            marked.set(sub, marks);
        }
        let mut at = 0;
        let told: Vec<_> =
            std::iter::from_fn(|| marked.next(&mut at).map(|(marks, sub)| (marks, sub.to_vec()))).collect();
        assert_eq!(told, [(1, b"".to_vec()), (2, b"a".to_vec()), (1, b"c".to_vec())]);
    }
}

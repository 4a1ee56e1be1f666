//! What the engine sees of the store: three layers, the upper ones hiding the lower.
//!
//! * *scratch*: what the input at hand has written;
//! * *pending*: what inputs before it have written and the last snapshot does not show: the batch of the tick that is
//!   open, and the batches on their way to the disk;
//! * the last committed *snapshot*.
//!
//! Pending is one map, each row with the newest batch that wrote it. Rows leave it when that batch is durable, and all
//! leave it when a commit failed, because every batch behind a failed one fails too.

use super::known::{Change, Extent, Known, Marked, Shown};
use super::layers::{Map, Pending, Upper, Value, Walk, end_of};
use super::{Batch, Each, Encoder, Reader, Record, Row, Snapshot, StoreError, Table, Ticket, codec};
use std::collections::{VecDeque, btree_map};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

/// What a pending row costs beside its key and value, roughly: two map entries and the counts of its two allocations.
const ROW_BYTES: usize = 192;

/// What is known of ranges may take this many bytes until [`View::set_known_max`] says something else.
const KNOWN_BYTES: usize = 262_144;

/// Snapshots that are tried for one read.
const SNAPSHOT_TRIES: u32 = 4;

/// The engine's store. See the [module](self) for its layers.
pub struct View {
    reader: Box<dyn Reader>,
    /// `None` after a failure, until the back end gives a new one.
    snapshot: Option<Box<dyn Snapshot>>,
    scratch: Map<Value>,
    /// The input at hand has writes, in scratch or already joined.
    wrote: bool,
    /// Newest batch of a row that the input at hand has read.
    read: Ticket,
    pending: Map<Pending>,
    /// Number of the tick's batch, and the keys that are in it.
    open: Ticket,
    open_keys: Vec<Arc<[u8]>>,
    open_bytes: usize,
    /// Batches on their way, with their bytes.
    waiting: VecDeque<(Ticket, usize)>,
    durable: Ticket,
    epoch: u32,
    withdrawals: u32,
    known: Known,
    /// Kept for their memory.
    key: Vec<u8>,
    encoder: Encoder,
}

/// What to remember of a row; `None` for one that cannot be read.
type Marks = fn(&[u8]) -> Option<u8>;

/// A table without its type: what works on one works on all, and is in the program once.
#[derive(Clone, Copy)]
struct Shape {
    id: u8,
    name: &'static str,
    is_sparse: bool,
    marks: Option<Marks>,
}

impl Shape {
    fn of<T: Table>() -> Self {
        fn marks<T: Table>(bytes: &[u8]) -> Option<u8> {
            codec::from_bytes(bytes).map(|value| T::MARKS.map_or(0, |marks| marks(&value)))
        }
        Self { id: T::ID, name: T::NAME, is_sparse: T::SPARSE, marks: T::MARKS.map(|_| marks::<T> as _) }
    }

    fn unreadable(self, owner: &str) -> StoreError {
        StoreError::Corrupt(format!("a row of table {} of {owner} cannot be read", self.name))
    }
}

/// What is done with the rows of a walk: key and value, until it breaks. `None` begins, perhaps not for the first time:
/// what was made of rows before is to be forgotten.
type EachRow<'a> = &'a mut dyn FnMut(Option<(&[u8], &[u8])>) -> ControlFlow<()>;

impl View {
    /// A view of what `reader` has committed.
    ///
    /// # Errors
    /// When the back end fails.
    pub fn new(reader: Box<dyn Reader>) -> Result<View, StoreError> {
        let snapshot = reader.snapshot()?;
        Ok(View {
            reader,
            snapshot: Some(snapshot),
            scratch: Map::new(),
            wrote: false,
            read: Ticket(0),
            pending: Map::new(),
            open: Ticket(1),
            open_keys: Vec::new(),
            open_bytes: 0,
            waiting: VecDeque::new(),
            durable: Ticket(0),
            epoch: 0,
            withdrawals: 0,
            known: Known::new(KNOWN_BYTES),
            key: Vec::new(),
            encoder: Encoder::new(),
        })
    }

    /// One row.
    ///
    /// # Errors
    /// When the back end fails or the row cannot be decoded.
    pub fn get<T: Table>(&mut self, owner: &str, sub: &[u8]) -> Result<Option<T::Value>, StoreError> {
        let mut value = None;
        if !self.look(Shape::of::<T>(), owner, sub, &mut |bytes| value = codec::from_bytes(bytes))? {
            return Ok(None);
        }
        value.map(Some).ok_or_else(|| Shape::of::<T>().unreadable(owner))
    }

    /// True when there is such a row.
    ///
    /// # Errors
    /// When the back end fails.
    pub fn contains<T: Table>(&mut self, owner: &str, sub: &[u8]) -> Result<bool, StoreError> {
        self.look(Shape::of::<T>(), owner, sub, &mut |_| ())
    }

    /// Writes a row in the place of the one that is there.
    pub fn put<T: Table>(&mut self, owner: &str, sub: &[u8], value: &T::Value) {
        let marks = T::MARKS.map_or(0, |marks| marks(value));
        self.put_encoded::<T>(owner, sub, marks, |encoder| value.encode(encoder));
    }

    /// The same with a value that `encode` writes as [`Record::encode`] would, without being one, and that has these
    /// marks.
    pub fn put_encoded<T: Table>(&mut self, owner: &str, sub: &[u8], marks: u8, encode: impl FnOnce(&mut Encoder)) {
        self.encoder.clear();
        encode(&mut self.encoder);
        let bytes = Arc::from(self.encoder.as_bytes());
        self.write(T::ID, owner, sub, Some((bytes, marks)));
    }

    /// Deletes a row, if there is one.
    pub fn delete<T: Table>(&mut self, owner: &str, sub: &[u8]) {
        self.write(T::ID, owner, sub, None);
    }

    /// The first `max` rows of an owner in the order of their sub keys.
    ///
    /// # Errors
    /// When the back end fails or a row cannot be decoded.
    pub fn list<T: Table>(&mut self, owner: &str, max: usize) -> Result<Vec<Row<T>>, StoreError> {
        self.rows::<T>(owner, b"", false, max)
    }

    /// As [`View::list`], of those rows whose sub key starts with `prefix`. The sub keys come whole.
    ///
    /// # Errors
    /// As [`View::list`].
    pub fn list_from<T: Table>(&mut self, owner: &str, prefix: &[u8], max: usize) -> Result<Vec<Row<T>>, StoreError> {
        self.rows::<T>(owner, prefix, false, max)
    }

    /// The last `max` rows of those whose sub key starts with `prefix`, the last of all first.
    ///
    /// # Errors
    /// As [`View::list`].
    pub fn last_from<T: Table>(&mut self, owner: &str, prefix: &[u8], max: usize) -> Result<Vec<Row<T>>, StoreError> {
        self.rows::<T>(owner, prefix, true, max)
    }

    /// The row with the lowest sub key.
    ///
    /// # Errors
    /// As [`View::list`].
    pub fn first<T: Table>(&mut self, owner: &str) -> Result<Option<Row<T>>, StoreError> {
        Ok(self.rows::<T>(owner, b"", false, 1)?.pop())
    }

    /// The row with the highest sub key.
    ///
    /// # Errors
    /// As [`View::list`].
    pub fn last<T: Table>(&mut self, owner: &str) -> Result<Option<Row<T>>, StoreError> {
        Ok(self.rows::<T>(owner, b"", true, 1)?.pop())
    }

    /// How many rows an owner has.
    ///
    /// # Errors
    /// As [`View::extent`].
    pub fn count<T: Table>(&mut self, owner: &str) -> Result<usize, StoreError> {
        Ok(self.extent::<T>(owner)?.rows)
    }

    /// How many rows an owner has, and how large they are. It is remembered, and each write changes what is.
    ///
    /// # Errors
    /// When the back end fails, or a row cannot be decoded of a table that marks some.
    pub fn extent<T: Table>(&mut self, owner: &str) -> Result<Extent, StoreError> {
        let mut extent = Extent::default();
        self.range(Shape::of::<T>(), owner, &mut |shown| extent = shown.extent)?;
        Ok(extent)
    }

    /// Those rows of an owner that their table marks. They are remembered as [`View::extent`] is.
    ///
    /// # Errors
    /// As [`View::extent`].
    pub fn marked<T: Table>(&mut self, owner: &str) -> Result<Rc<Marked>, StoreError> {
        let mut marked = None;
        self.range(Shape::of::<T>(), owner, &mut |shown| marked = Some(shown.marked.clone()))?;
        Ok(marked.unwrap_or_default())
    }

    /// Shows what is known of an owner's rows, after a look at all of them if nothing is.
    fn range(&mut self, table: Shape, owner: &str, show: &mut dyn FnMut(&Shown)) -> Result<(), StoreError> {
        self.set_key(owner, Some(table.id), b"");
        if let Some(shown) = self.known.shown(&self.key) {
            let ticket = shown.ticket;
            show(shown);
            self.note_read(ticket);
            return Ok(());
        }
        let range_len = self.key.len();
        let (mut extent, mut last, mut marked, mut is_readable) =
            (Extent::default(), Vec::new(), Marked::default(), true);
        let read = self.walk(false, &mut |row| {
            let Some((key, value)) = row else {
                (extent, marked, is_readable) = (Extent::default(), Marked::default(), true);
                last.clear();
                return ControlFlow::Continue(());
            };
            let sub = key.get(range_len..).unwrap_or_default();
            extent.rows += 1;
            extent.bytes = extent.bytes.saturating_add(value.len());
            last.clear();
            last.extend_from_slice(sub);
            if let Some(marks) = table.marks {
                match marks(value) {
                    Some(marks) => marked.push(sub, marks),
                    None => is_readable = false,
                }
            }
            if is_readable { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        if !is_readable {
            return Err(table.unreadable(owner));
        }
        marked.shrink();
        let ticket = if self.wrote { self.open } else { read };
        let shown = Shown { extent, last, marked: Rc::new(marked), ticket };
        show(&shown);
        self.known.note(&self.key, shown);
        Ok(())
    }

    /// The highest sub key of an owner's rows.
    ///
    /// # Errors
    /// When the back end fails.
    pub fn last_sub<T: Table>(&mut self, owner: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.set_key(owner, Some(T::ID), b"");
        if let Some(Shown { extent, last, ticket, .. }) = self.known.shown(&self.key) {
            let (last, ticket) = ((extent.rows > 0).then(|| last.clone()), *ticket);
            self.note_read(ticket);
            return Ok(last);
        }
        let range_len = self.key.len();
        let mut last = None;
        self.walk(true, &mut |row| {
            last = row.and_then(|(key, _)| key.get(range_len..)).map(<[u8]>::to_vec);
            if row.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(last)
    }

    /// The lowest sub key of an owner's rows that is not below `sub`.
    ///
    /// # Errors
    /// When the back end fails.
    pub fn next_sub<T: Table>(&mut self, owner: &str, sub: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.set_key(owner, Some(T::ID), b"");
        let (range_len, to) = (self.key.len(), end_of(&self.key));
        self.key.extend_from_slice(sub);
        let mut next = None;
        self.walk_range(&to, false, &mut |row| {
            next = row.and_then(|(key, _)| key.get(range_len..)).map(<[u8]>::to_vec);
            if row.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(next)
    }

    /// Shows `each` sub key and value of an owner's rows whose sub keys are in `from..to`, without `to` up to the last,
    /// until it breaks; `back` begins with the last.
    ///
    /// # Errors
    /// When the back end fails; rows may have been shown before, and are shown again then.
    pub fn scan<T: Table>(
        &mut self,
        owner: &str,
        (from, to): (&[u8], Option<&[u8]>),
        back: bool,
        mut each: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.set_key(owner, Some(T::ID), b"");
        let head = self.key.len();
        let ends = ([&self.key, from].concat(), to.map_or_else(|| end_of(&self.key), |to| [&self.key, to].concat()));
        let mut read = Ticket(0);
        self.on_snapshot(&mut |view, snapshot| {
            read = view.merge(snapshot, (&ends.0, &ends.1), back, &mut |key, value| {
                key.get(head..).map_or(ControlFlow::Continue(()), |sub| each(sub, value))
            })?;
            Ok(())
        })?;
        self.note_read(read);
        Ok(())
    }

    /// Deletes all rows of an owner, of every table; with `below` of those whose number is lower.
    ///
    /// # Errors
    /// When the back end fails; then nothing is deleted.
    pub fn delete_owner(&mut self, owner: &str, below: Option<u8>) -> Result<(), StoreError> {
        self.set_key(owner, None, b"");
        let at = self.key.len();
        let mut keys: Vec<Arc<[u8]>> = Vec::new();
        self.walk(false, &mut |row| {
            match row {
                Some((key, _)) if below.is_some_and(|below| key.get(at).is_none_or(|table| *table >= below)) => {
                    return ControlFlow::Break(());
                }
                Some((key, _)) => keys.push(Arc::from(key)),
                None => keys.clear(),
            }
            ControlFlow::Continue(())
        })?;
        self.wrote |= !keys.is_empty();
        self.known.forget();
        self.scratch.extend(keys.into_iter().map(|key| (key, None)));
        Ok(())
    }

    /// Starts an input: nothing is written or read by it yet.
    pub fn begin(&mut self) {
        if !self.scratch.is_empty() {
            self.drop_scratch();
        }
        self.wrote = false;
        self.read = Ticket(0);
    }

    /// True when the input at hand has written something.
    pub fn wrote(&self) -> bool {
        self.wrote
    }

    /// What an output of this input must wait for if it shows stored state: the tick's batch when the input has
    /// written, else the newest batch on its way whose rows it has read, else nothing (0).
    pub fn ticket(&self) -> Ticket {
        if self.wrote { self.open } else { self.read }
    }

    /// The input returned well: its writes are part of the tick's batch now.
    pub fn join(&mut self) {
        for (key, value) in std::mem::take(&mut self.scratch) {
            self.open_bytes += row_bytes(&key, &value);
            match self.pending.entry(key) {
                btree_map::Entry::Occupied(mut row) if row.get().ticket == self.open => {
                    self.open_bytes -= row_bytes(row.key(), &row.get().value);
                    row.get_mut().value = value;
                }
                btree_map::Entry::Occupied(mut row) => {
                    self.open_keys.push(row.key().clone());
                    row.insert(Pending { ticket: self.open, value });
                }
                btree_map::Entry::Vacant(row) => {
                    self.open_keys.push(row.key().clone());
                    row.insert(Pending { ticket: self.open, value });
                }
            }
        }
    }

    /// Changes whenever writes are taken back, those of an input or all that wait for the disk.
    pub fn withdrawals(&self) -> u32 {
        self.withdrawals
    }

    /// The newest batch that has anything, on its way or open: what is durable with it is all that was written so far.
    pub fn newest(&self) -> Ticket {
        match self.open_keys.is_empty() {
            false => self.open,
            true => self.waiting.back().map_or(Ticket(0), |(ticket, _)| *ticket),
        }
    }

    /// The input failed: its writes never happened.
    pub fn drop_scratch(&mut self) {
        self.withdrawals = self.withdrawals.wrapping_add(1);
        self.scratch.clear();
        self.wrote = false;
        self.known.forget_ranges();
        // What is known may show what the input itself has written, and there may never be a batch of that number.
        if self.read == self.open && self.open_keys.is_empty() {
            self.read = self.waiting.back().map_or(Ticket(0), |(ticket, _)| *ticket);
        }
    }

    /// Ends the tick. What it has written, for the storage thread, under the ticket that [`View::ticket`] promised.
    pub fn close_batch(&mut self) -> Option<Batch> {
        if self.open_keys.is_empty() {
            return None;
        }
        let writes = std::mem::take(&mut self.open_keys)
            .into_iter()
            .filter_map(|key| self.pending.get(&key).map(|row| row.value.clone()).map(|value| (key, value)))
            .collect();
        let batch = Batch { ticket: self.open, epoch: self.epoch, writes };
        self.waiting.push_back((self.open, std::mem::take(&mut self.open_bytes)));
        self.open.0 += 1;
        Some(batch)
    }

    /// All batches up to `upto` are durable: the view stands on a new snapshot from now on.
    ///
    /// # Errors
    /// When the back end gives no snapshot. The view shows the same rows all the same.
    pub fn committed(&mut self, upto: Ticket) -> Result<(), StoreError> {
        if upto <= self.durable {
            return Ok(());
        }
        self.durable = upto;
        while self.waiting.front().is_some_and(|(ticket, _)| *ticket <= upto) {
            self.waiting.pop_front();
        }
        // Only a snapshot that has these rows allows to forget them.
        self.snapshot = Some(self.reader.snapshot()?);
        self.pending.retain(|_, row| row.ticket > upto);
        Ok(())
    }

    /// A commit failed: all batches on their way, the tick's batch, and the scratch of an input at hand never happened.
    /// What was promised under their tickets will not come true; those numbers are not used again.
    ///
    /// # Errors
    /// When the back end gives no snapshot. Each read tries again.
    pub fn failed(&mut self) -> Result<(), StoreError> {
        self.begin();
        self.withdrawals = self.withdrawals.wrapping_add(1);
        self.pending.clear();
        self.open_keys.clear();
        self.open_bytes = 0;
        self.waiting.clear();
        self.open.0 += 1;
        self.epoch = self.epoch.saturating_add(1);
        self.known.forget();
        self.snapshot = None;
        self.snapshot = Some(self.reader.snapshot()?);
        Ok(())
    }

    /// Owner and sub key of the rows of a table that were written and are not known to be durable.
    pub fn unproven<T: Table>(&self) -> Vec<(&[u8], &[u8])> {
        let parts = |key: &'_ Arc<[u8]>| key.iter().position(|byte| *byte == 0);
        let keys = self.pending.keys().filter_map(|key| key.split_at_checked(parts(key)?));
        keys.filter_map(|(owner, rest)| Some((owner, rest.strip_prefix(&[0, T::ID])?))).collect()
    }

    /// The newest ticket that is durable.
    pub fn durable(&self) -> Ticket {
        self.durable
    }

    /// Bytes of memory that the tick's batch holds.
    pub fn open_bytes(&self) -> usize {
        self.open_bytes
    }

    /// Bytes of memory that batches hold, those on their way and the tick's.
    pub fn pending_bytes(&self) -> usize {
        self.waiting.iter().map(|(_, bytes)| bytes).sum::<usize>() + self.open_bytes
    }

    /// What is known of ranges may take this many bytes from now on.
    pub fn set_known_max(&mut self, bytes_max: usize) {
        self.known.set_max(bytes_max);
    }

    /// Forgets how far the rows of an owner go, who is not here any more: what would be remembered of all who ever were
    /// is much.
    pub fn forget_owner(&mut self, owner: &str) {
        self.set_key(owner, None, b"");
        self.known.forget_owner(&self.key);
    }

    /// Bytes of memory that what is known beside rows takes.
    pub fn known_bytes(&self) -> usize {
        self.known.held_bytes()
    }

    /// Forgets what is known beside rows, and gives up memory that is kept to be used again.
    pub fn forget_known(&mut self) {
        self.known.forget();
        (self.key, self.encoder, self.open_keys) = (Vec::new(), Encoder::new(), std::mem::take(&mut self.open_keys));
        self.open_keys.shrink_to_fit();
    }

    /// Shows `each` the bytes of a row, and tells whether there is one.
    fn look(&mut self, table: Shape, owner: &str, sub: &[u8], each: &mut dyn FnMut(&[u8])) -> Result<bool, StoreError> {
        self.set_key(owner, Some(table.id), sub);
        if table.is_sparse && self.known.is_absent(&self.key) {
            return Ok(false);
        }
        self.row(table.is_sparse, each)
    }

    /// Shows `each` the bytes of the row that has `self.key`; if there is none, that is remembered of a sparse table.
    fn row(&mut self, is_sparse: bool, each: &mut dyn FnMut(&[u8])) -> Result<bool, StoreError> {
        if let Some(value) = self.scratch.get(&self.key[..]) {
            return Ok(value.as_deref().map(each).is_some());
        }
        if let Some(row) = self.pending.get(&self.key[..]) {
            let (ticket, found) = (row.ticket, row.value.as_deref().map(each).is_some());
            self.note_read(ticket);
            return Ok(found);
        }
        let key = std::mem::take(&mut self.key);
        let mut found = false;
        let read = self.on_snapshot(&mut |_, snapshot| {
            found = false;
            snapshot.read(&key, &mut |bytes| {
                found = true;
                each(bytes);
            })
        });
        if is_sparse && !found && read.is_ok() {
            self.known.note_absent(&key);
        }
        self.key = key;
        read.map(|()| found)
    }

    fn write(&mut self, table: u8, owner: &str, sub: &[u8], value: Option<(Arc<[u8]>, u8)>) {
        self.set_key(owner, Some(table), sub);
        let range_len = self.key.len() - sub.len();
        let mut before = None;
        if self.known.asks_before(&self.key, range_len) {
            match self.row(false, &mut |bytes| before = Some(bytes.len())) {
                Ok(true) => {}
                Ok(false) => before = None,
                Err(_) => {
                    before = None;
                    self.known.forget_range(self.key.get(..range_len).unwrap_or_default());
                }
            }
        }
        let after = value.as_ref().map(|(bytes, marks)| (bytes.len(), *marks));
        self.known.written(&Change { key: &self.key, range_len, before, after, ticket: self.open });
        self.scratch.insert(Arc::from(&self.key[..]), value.map(|(bytes, _)| bytes));
        self.wrote = true;
    }

    fn rows<T: Table>(
        &mut self,
        owner: &str,
        prefix: &[u8],
        back: bool,
        max: usize,
    ) -> Result<Vec<Row<T>>, StoreError> {
        if max == 0 {
            return Ok(Vec::new());
        }
        self.set_key(owner, Some(T::ID), prefix);
        let head = self.key.len() - prefix.len();
        let (mut rows, mut is_readable) = (Vec::new(), true);
        self.walk(back, &mut |row| {
            let Some((key, bytes)) = row else {
                rows.clear();
                is_readable = true;
                return ControlFlow::Continue(());
            };
            match (key.get(head..), codec::from_bytes(bytes)) {
                (Some(sub), Some(value)) => rows.push((sub.to_vec(), value)),
                _ => is_readable = false,
            }
            if is_readable && rows.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        if is_readable { Ok(rows) } else { Err(Shape::of::<T>().unreadable(owner)) }
    }

    /// Shows `each` the rows whose key starts with `self.key`, merged from all layers. Gives the newest ticket of the
    /// rows that it came by.
    fn walk(&mut self, back: bool, each: EachRow<'_>) -> Result<Ticket, StoreError> {
        self.walk_range(&end_of(&self.key), back, each)
    }

    /// As [`View::walk`], from `self.key` on and not up to `to`.
    fn walk_range(&mut self, to: &[u8], back: bool, each: EachRow<'_>) -> Result<Ticket, StoreError> {
        let from = std::mem::take(&mut self.key);
        let mut read = Ticket(0);
        let walked = self.on_snapshot(&mut |view, snapshot| {
            // It begins, and has nothing to break off.
            let _ = each(None);
            read = view.merge(snapshot, (&from, to), back, &mut |key, value| each(Some((key, value))))?;
            Ok(())
        });
        self.key = from;
        walked?;
        self.note_read(read);
        Ok(read)
    }

    /// Merges the layers between two keys. Gives the newest ticket of the rows that it came by.
    fn merge(
        &self,
        snapshot: &dyn Snapshot,
        (from, to): (&[u8], &[u8]),
        back: bool,
        each: Each<'_>,
    ) -> Result<Ticket, StoreError> {
        let mut upper = Upper {
            scratch: Walk::new(&self.scratch, from, to, back).peekable(),
            pending: Walk::new(&self.pending, from, to, back).peekable(),
            back,
            read: Ticket(0),
        };
        let mut flow = ControlFlow::Continue(());
        let mut below = |key: &[u8], value: &[u8]| {
            while let Some(row) = upper.next_before(Some(key)) {
                if let (key, Some(value)) = row {
                    flow = each(key, value);
                    if flow.is_break() {
                        return flow;
                    }
                }
            }
            flow = match upper.next_at(key) {
                Some((key, Some(value))) => each(key, value),
                Some((_, None)) => ControlFlow::Continue(()),
                None => each(key, value),
            };
            flow
        };
        if back {
            snapshot.scan_back(from, to, &mut below)?;
        } else {
            snapshot.scan(from, to, &mut below)?;
        }
        while flow.is_continue()
            && let Some((key, value)) = upper.next_before(None)
        {
            if let Some(value) = value {
                flow = each(key, value);
            }
        }
        Ok(upper.read)
    }

    /// Reads from the snapshot; from a new one when that fails, because a snapshot ends when its back end had to be
    /// opened again, which a writer that looks for room may do some times in a row. What a newer one has more is in the
    /// pending layer too, or was given up.
    fn on_snapshot(
        &mut self,
        read: &mut dyn FnMut(&Self, &dyn Snapshot) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if let Some(snapshot) = &self.snapshot
            && read(self, &**snapshot).is_ok()
        {
            return Ok(());
        }
        let mut left = SNAPSHOT_TRIES;
        loop {
            let snapshot = self.reader.snapshot()?;
            let found = read(self, &*snapshot);
            self.snapshot = Some(snapshot);
            left -= 1;
            if found.is_ok() || left == 0 {
                return found;
            }
        }
    }

    fn note_read(&mut self, ticket: Ticket) {
        if ticket > self.durable {
            self.read = self.read.max(ticket);
        }
    }

    fn set_key(&mut self, owner: &str, table: Option<u8>, sub: &[u8]) {
        super::row_key(owner, table, sub, &mut self.key);
    }
}

fn row_bytes(key: &[u8], value: &Value) -> usize {
    key.len() + value.as_ref().map_or(0, |value| value.len()) + ROW_BYTES
}

//! Reading of archives, beside the engine: from a snapshot, in portions.

use super::query::{Query, With};
use super::{Find, Floors, Id, Marks, Named, Names, RowRef, Rows, with_key};
use crate::clock::datetime_fine;
use crate::jid::Jid;
use crate::stanza::Stanza;
use crate::storage::{Each, Snapshot, StoreError, Table, codec, end_of, row_key};
use crate::xml::{ns, write_attribute};
use std::ops::ControlFlow;

/// Rows that are looked at in one portion, where not each of them is part of the answer.
const LOOK_MAX: u32 = 1000;

/// Messages of a conversation that are counted; of more nothing is said.
const COUNT_MAX: u64 = 1000;

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its messages as they are sent, each without its head, in the order in which they are sent.
    pub tails: Vec<Vec<u8>>,
    /// The first, and how many of the set come before it, where that is known.
    pub first: Option<(Named, Option<u64>)>,
    /// The last.
    pub last: Option<Named>,
    /// How many the set has, where that is known.
    pub count: Option<u64>,
    /// There are no more in this direction.
    pub complete: bool,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageError {
    /// A message that was named is not there.
    NotFound,
}

/// Rows of one archive at one moment.
struct Archive<'a> {
    snapshot: &'a dyn Snapshot,
    owner: &'a str,
    /// The first id that counts.
    start: Id,
}

impl<'a> Archive<'a> {
    fn new(snapshot: &'a dyn Snapshot, owner: &'a str) -> Result<Self, StoreError> {
        let mut key = Vec::new();
        row_key(owner, Some(Floors::ID), b"", &mut key);
        let mut floor = Id::default();
        snapshot.read(&key, &mut |bytes| {
            let record = codec::from_bytes::<super::Floor>(bytes);
            floor = record.and_then(|floor| Id::from_key(&floor.key)).unwrap_or_default();
        })?;
        Ok(Self { snapshot, owner, start: floor.following() })
    }

    fn key(&self, table: u8, prefix: &[u8], id: Id) -> Vec<u8> {
        let mut key = Vec::new();
        row_key(self.owner, Some(table), prefix, &mut key);
        if id >= Id::END {
            return end_of(&key);
        }
        key.extend_from_slice(&id.key());
        key
    }

    fn row<R>(&self, id: Id, each: impl FnOnce(RowRef<'_>) -> R) -> Result<Option<R>, StoreError> {
        let (mut each, mut made) = (Some(each), None);
        if id >= self.start && id < Id::END {
            self.snapshot.read(&self.key(Rows::ID, b"", id), &mut |bytes| {
                if let (Some(row), Some(each)) = (RowRef::read(bytes), each.take()) {
                    made = Some(each(row));
                }
            })?;
        }
        Ok(made)
    }

    fn scan(&self, (from, to): (Vec<u8>, Vec<u8>), back: bool, each: Each<'_>) -> Result<(), StoreError> {
        match back {
            _ if from >= to => Ok(()),
            true => self.snapshot.scan_back(&from, &to, each),
            false => self.snapshot.scan(&from, &to, each),
        }
    }

    /// Shows rows between two ids.
    fn rows(
        &self,
        (from, to): (Id, Id),
        back: bool,
        mut each: impl FnMut(Id, RowRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let ends = (self.key(Rows::ID, b"", from.max(self.start)), self.key(Rows::ID, b"", to));
        self.scan(ends, back, &mut |key, value| match (id_of(key), RowRef::read(value)) {
            (Some(id), Some(row)) => each(id, row),
            _ => ControlFlow::Continue(()),
        })
    }

    /// Shows the ids of one conversation between two ids.
    fn marks(
        &self,
        with: &str,
        (from, to): (Id, Id),
        back: bool,
        mut each: impl FnMut(Id) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let with = with_key(with);
        let ends = (self.key(Marks::ID, &with, from.max(self.start)), self.key(Marks::ID, &with, to));
        self.scan(ends, back, &mut |key, _| id_of(key).map_or(ControlFlow::Continue(()), &mut each))
    }

    /// The message that clients know by this id.
    fn find(&self, text: &str) -> Result<Option<Id>, StoreError> {
        if let Some(id) = Id::parse(text)
            && self.row(id, |_| ())?.is_some()
        {
            return Ok(Some(id));
        }
        let name = with_key(text);
        let (mut places, ends) = (Vec::new(), (Id::default(), Id::END));
        let ends = (self.key(Names::ID, &name, ends.0), self.key(Names::ID, &name, ends.1));
        self.scan(ends, false, &mut |key, _| {
            places.extend(id_of(key));
            ControlFlow::Continue(())
        })?;
        for id in places {
            if self.row(id, |row| row.name == text)? == Some(true) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Shows the rows of one conversation between two ids.
    fn conversation(
        &self,
        with: &str,
        bounds: (Id, Id),
        back: bool,
        mut each: impl FnMut(Id, RowRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut failed = None;
        self.marks(with, bounds, back, |id| match self.row(id, |row| each(id, row)) {
            Ok(flow) => flow.unwrap_or(ControlFlow::Continue(())),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// The number of the first or the last row between two ids.
    fn number(&self, bounds: (Id, Id), back: bool) -> Result<Option<u64>, StoreError> {
        let mut number = None;
        self.rows(bounds, back, |_, row| {
            number = Some(row.number);
            ControlFlow::Break(())
        })?;
        Ok(number)
    }
}

/// The id at the end of a key.
fn id_of(key: &[u8]) -> Option<Id> {
    Id::from_key(key.get(key.len().checked_sub(super::id::KEY_BYTES)?..)?)
}

/// Reads a page; none when all that this portion has looked at was no part of it.
pub fn read(snapshot: &dyn Snapshot, query: &mut Query) -> Result<Option<Result<Page, PageError>>, StoreError> {
    let owner = query.owner.clone();
    let archive = Archive::new(snapshot, &owner)?;
    // All that is named must be there.
    for (at, text) in std::mem::take(&mut query.named) {
        let Some(id) = archive.find(&text)? else { return Ok(Some(Err(PageError::NotFound))) };
        query.place(at, id);
    }
    let mut gathered = Gathered::new(query);
    gathered.gather(&archive)?;
    let Gathered { mut found, complete, looked, last_looked, .. } = gathered;
    if !complete && found.is_empty() && looked >= LOOK_MAX {
        query.cursor = last_looked;
        return Ok(None);
    }
    if query.back {
        found.reverse();
    }
    let (first, last) = (found.first().map(|f| (f.named.clone(), f.number)), found.last().map(|f| f.named.clone()));
    let (count, before) = count(&archive, query)?;
    let first = first.map(|(named, number)| (named, before.and_then(|before| number.checked_sub(before))));
    if query.flip {
        found.reverse();
    }
    let tails = found.into_iter().map(|f| f.tail).collect();
    Ok(Some(Ok(Page { tails, first, last, count, complete })))
}

/// How many messages the set has, and the number of the first of them.
fn count(archive: &Archive<'_>, query: &Query) -> Result<(Option<u64>, Option<u64>), StoreError> {
    let is_all = |with: &With| query.is_room && with.full == query.owner;
    match (&query.with, &query.ids) {
        (None, Some(ids)) => Ok((Some(ids.len() as u64), None)),
        (with, None) if with.as_ref().is_none_or(is_all) => {
            let Some(first) = archive.number(query.set, false)? else { return Ok((Some(0), None)) };
            let last = archive.number(query.set, true)?.unwrap_or(first);
            Ok((Some((last + 1).saturating_sub(first)), Some(first)))
        }
        (Some(with), None) if with.is_bare() && !query.is_room => {
            let mut count = 0;
            archive.marks(&with.bare, query.set, false, |_| {
                count += 1;
                if count > COUNT_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            Ok(((count <= COUNT_MAX).then_some(count), None))
        }
        _ => Ok((None, None)),
    }
}

struct Found {
    named: Named,
    number: u64,
    tail: Vec<u8>,
}

/// What has been found so far.
struct Gathered<'a> {
    query: &'a Query,
    found: Vec<Found>,
    bytes: usize,
    looked: u32,
    last_looked: Option<Id>,
    complete: bool,
}

impl<'a> Gathered<'a> {
    fn new(query: &'a Query) -> Self {
        Self { query, found: Vec::new(), bytes: 0, looked: 0, last_looked: None, complete: true }
    }

    fn gather(&mut self, archive: &Archive<'_>) -> Result<(), StoreError> {
        let query = self.query;
        let (mut from, mut to) = (query.set.0.max(query.bounds.0), query.set.1.min(query.bounds.1));
        match query.cursor {
            Some(cursor) if query.back => to = to.min(cursor),
            Some(cursor) => from = from.max(cursor.following()),
            None => {}
        }
        let back = query.back;
        match (&query.ids, &query.with) {
            (Some(ids), _) => {
                let mut ids: Vec<Id> = ids.iter().copied().filter(|id| (from..to).contains(id)).collect();
                if back {
                    ids.reverse();
                }
                for id in ids {
                    if archive.row(id, |row| self.take(id, row))?.is_some_and(|flow| flow.is_break()) {
                        break;
                    }
                }
                Ok(())
            }
            (None, Some(with)) if !query.is_room => {
                archive.conversation(&with.bare, (from, to), back, |id, row| self.take(id, row))
            }
            (None, _) => archive.rows((from, to), back, |id, row| self.take(id, row)),
        }
    }

    fn take(&mut self, id: Id, row: RowRef<'_>) -> ControlFlow<()> {
        self.looked += 1;
        self.last_looked = Some(id);
        if is_wanted(self.query, row) {
            if self.found.len() >= self.query.max {
                self.complete = false;
                return ControlFlow::Break(());
            }
            let tail = tail_of(self.query, id, row);
            if !self.found.is_empty() && self.bytes + tail.len() > self.query.bytes_max {
                self.complete = false;
                return ControlFlow::Break(());
            }
            self.bytes += tail.len();
            self.found.push(Found { named: row.named(id), number: row.number, tail });
        } else if self.looked >= LOOK_MAX {
            self.complete = false;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

/// Section 4.1.2.
fn is_wanted(query: &Query, row: RowRef<'_>) -> bool {
    let Some(with) = &query.with else { return true };
    if !query.is_room {
        // The index knows a part of the address alone.
        return row.with == with.bare && (with.is_bare() || is_party(row.xml, with));
    }
    if query.owner == with.bare {
        return with.is_bare() || is_party(row.xml, with);
    }
    query.sees_addresses
        && match with.is_bare() {
            true => Jid::parse(row.who).is_ok_and(|who| who.bare_str() == with.bare),
            false => row.who == with.full,
        }
}

fn is_party(xml: &str, with: &With) -> bool {
    let stanza = Stanza::parse(xml);
    stanza.is_some_and(|s| [s.from, s.to].iter().flatten().any(|jid| jid.as_str() == with.full))
}

/// A message of the answer, without its head (section 4.2).
fn tail_of(query: &Query, id: Id, row: RowRef<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(row.xml.len() + 320);
    write_attribute("from", &query.owner, &mut out);
    out.extend_from_slice(b"><result");
    write_attribute("xmlns", ns::MAM, &mut out);
    if let Some(queryid) = &query.queryid {
        write_attribute("queryid", queryid, &mut out);
    }
    write_attribute("id", &row.named(id).to_string(), &mut out);
    out.extend_from_slice(b"><forwarded");
    write_attribute("xmlns", ns::FORWARD, &mut out);
    out.extend_from_slice(b"><delay");
    write_attribute("xmlns", ns::DELAY, &mut out);
    let wall_ms = i64::try_from(id.wall_ms()).unwrap_or_default();
    write_attribute("stamp", &datetime_fine(wall_ms), &mut out);
    out.extend_from_slice(b"/>");
    const END: &str = "</message>";
    match row.xml.strip_suffix(END).filter(|_| query.is_room && query.sees_addresses && !row.who.is_empty()) {
        Some(inner) => {
            out.extend_from_slice(inner.as_bytes());
            write_item(row, &mut out);
            out.extend_from_slice(END.as_bytes());
        }
        None => out.extend_from_slice(row.xml.as_bytes()),
    }
    out.extend_from_slice(b"</forwarded></result></message>");
    out
}

/// Who has said it, for those who may know.
fn write_item(row: RowRef<'_>, out: &mut Vec<u8>) {
    let (affiliation, role) = row.standing.split_once(' ').unwrap_or(("none", "none"));
    out.extend_from_slice(b"<x");
    write_attribute("xmlns", ns::MUC_USER, out);
    out.extend_from_slice(b"><item");
    write_attribute("affiliation", affiliation, out);
    write_attribute("jid", row.who, out);
    write_attribute("role", role, out);
    out.extend_from_slice(b"/></x>");
}

/// Looks for the message that is taken back, from the newest of its conversation; none when there is more to look at.
pub fn find(snapshot: &dyn Snapshot, find: &mut Find) -> Result<Option<Option<Id>>, StoreError> {
    let owner = find.owner.clone();
    let archive = Archive::new(snapshot, &owner)?;
    let (mut found, mut looked, mut before) = (None, 0, find.before);
    archive.conversation(&find.with, (Id::default(), find.before), true, |id, row| {
        looked += 1;
        before = id;
        // Most rows are passed over without being read; in those to be read the id may be escaped.
        let is_plain = find.target.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
        let is_it = || {
            if is_plain && !row.xml.contains(&find.target) {
                return false;
            }
            let stanza = Stanza::parse(row.xml);
            stanza.is_some_and(|s| {
                let is_authors = s.from.as_ref().is_some_and(|from| from.bare_str() == find.author);
                is_authors && s.id.as_deref() == Some(&*find.target)
            })
        };
        if is_it() {
            found = Some(id);
        }
        match found {
            None if looked < LOOK_MAX.min(find.left) => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    })?;
    find.left = find.left.saturating_sub(looked);
    let ends = found.is_some() || looked < LOOK_MAX || find.left == 0;
    find.before = before;
    Ok(ends.then_some(found))
}

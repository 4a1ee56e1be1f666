//! Message archives (XEP-0313): what is stored of them, and how a message comes into one.
//!
//! An archive is of an owner, an account or a room. Its rows are ordinary rows of the store, written in the batch of
//! the input that delivers the message. They are read in two ways: what is small and at an end (the first and the last
//! id, the history of a room) through the view, as everything else; pages, and whatever walks further, as
//! [`Work`] that is done beside the engine and answers later.
//!
//! # Two rows for a message
//!
//! Those of an account have a second row, by the other side's bare address and the id, without which a page of one
//! conversation would read all others of that time. Rooms have none: few ask for what one occupant has said, and that
//! is walked for in portions.
//!
//! # Ids of other servers
//!
//! A message that has moved in keeps the id by which clients know it: its row says it behind everything else, and a row
//! of [`Names`] leads from it to the place, which is an id like any other, of its time. Rows of our own have neither.
//!
//! # What a row knows beside the message
//!
//! The number of the message and the sum of the sizes up to it. As only the oldest rows ever go, their differences say
//! how many messages lie between two rows, and how large an archive is, without a look at those in between.

mod id;
#[cfg(feature = "import")]
mod moving;
mod page;
mod query;
mod sweep;

pub use id::Id;
#[cfg(feature = "import")]
pub use moving::{Mover, Way};
pub use page::{Page, PageError};
pub use query::{Query, Reading, form};
pub use sweep::{Keep, Sweep, Swept};

use super::Core;
use super::session::SessionId;
use crate::stanza::{Stanza, StanzaError};
use crate::storage::{Reader, Record, Snapshot, StoreError, Table, codec, end_of};
use crate::xml::ns;
use id::{Chance, KEY_BYTES};
use ring::digest::{SHA256, digest};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;

/// Tables from this number up belong to archives. They may be so large that they are deleted in portions.
pub const TABLES_FROM: u8 = 224;

/// What a row is taken to cost beside its text, in bytes.
const ROW_BYTES: u64 = 96;

/// The same of its name.
const NAME_BYTES: u64 = 96;

/// Archives whose last id is remembered.
const TAILS_MAX: usize = 1024;

/// A message in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// How many came before it, since the archive was last empty.
    pub number: u64,
    /// What all of them take up to this one, in bytes.
    pub sum_bytes: u64,
    /// Bare address of the other side; empty in a room.
    pub with: String,
    /// In a room: who has said it, as a full address; empty elsewhere.
    pub who: String,
    /// In a room: affiliation and role that he had, with a space between.
    pub standing: String,
    /// The stanza, with the namespace of clients.
    pub xml: String,
    /// Its id on the server from which it has moved in; empty for one of ours.
    pub name: String,
}

impl Record for Row {
    fn encode(&self, out: &mut codec::Encoder) {
        let Self { number, sum_bytes, with, who, standing, xml, name } = self;
        RowRef { number: *number, sum_bytes: *sum_bytes, with, who, standing, xml, name }.encode(out);
    }

    fn decode(d: &mut codec::Decoder<'_>) -> Option<Self> {
        RowRef::decode(d).map(RowRef::to_row)
    }
}

crate::record! {
    /// A message of a conversation, or one with an id of another server.
    pub struct Mark {}
    /// Where an archive begins.
    pub struct Floor {
        /// Rows up to this id are void.
        pub key: Vec<u8>,
    }
}

/// Owner: an account or a room. Sub key: [`Id::key`].
pub struct Rows;
impl Table for Rows {
    const ID: u8 = 224;
    const NAME: &'static str = "archive";
    type Value = Row;
}

/// Owner: an account. Sub key: [`with_key`] of the other side, then the id.
pub struct Marks;
impl Table for Marks {
    const ID: u8 = 225;
    const NAME: &'static str = "archive-by-contact";
    type Value = Mark;
}

/// Owner: an account or a room. Sub key: [`mark_key`] of the id that a message has had elsewhere, then its place.
pub struct Names;
impl Table for Names {
    const ID: u8 = 227;
    const NAME: &'static str = "archive-by-name";
    type Value = Mark;
}

/// Owner: an account or a room. One row, no sub key.
pub struct Floors;
impl Table for Floors {
    const ID: u8 = 226;
    const NAME: &'static str = "archive-floors";
    const SPARSE: bool = true;
    type Value = Floor;
}

/// A row without copies of its texts.
#[derive(Clone, Copy, Debug)]
pub struct RowRef<'a> {
    /// [`Row::number`].
    pub number: u64,
    /// [`Row::sum_bytes`].
    pub sum_bytes: u64,
    /// [`Row::with`].
    pub with: &'a str,
    /// [`Row::who`].
    pub who: &'a str,
    /// [`Row::standing`].
    pub standing: &'a str,
    /// [`Row::xml`].
    pub xml: &'a str,
    /// [`Row::name`].
    pub name: &'a str,
}

impl<'a> RowRef<'a> {
    /// Writes what [`Row`] would.
    fn encode(&self, out: &mut codec::Encoder) {
        out.byte(if self.name.is_empty() { 1 } else { 2 });
        out.number(self.number);
        out.number(self.sum_bytes);
        for text in [self.with, self.who, self.standing, self.xml] {
            out.text(text);
        }
        if !self.name.is_empty() {
            out.text(self.name);
        }
    }

    /// Reads what [`Row`] wrote.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        Self::decode(&mut codec::Decoder::new(bytes))
    }

    fn decode(d: &mut codec::Decoder<'a>) -> Option<Self> {
        let version = d.byte().filter(|version| matches!(version, 1 | 2))?;
        let (number, sum_bytes) = (d.number()?, d.number()?);
        let (with, who, standing, xml) = (d.text()?, d.text()?, d.text()?, d.text()?);
        let name = if version == 2 { d.text()? } else { "" };
        Some(Self { number, sum_bytes, with, who, standing, xml, name })
    }

    /// What it is taken to cost, in bytes.
    fn cost_bytes(&self) -> u64 {
        ROW_BYTES + self.xml.len() as u64 + if self.name.is_empty() { 0 } else { NAME_BYTES }
    }

    /// The message as its archive names it.
    pub fn named(&self, id: Id) -> Named {
        Named { id, name: self.name.into() }
    }

    fn to_row(self) -> Row {
        let Self { number, sum_bytes, with, who, standing, xml, name } = self;
        let [with, who, standing, xml, name] = [with, who, standing, xml, name].map(str::to_owned);
        Row { number, sum_bytes, with, who, standing, xml, name }
    }
}

/// A message as its archive names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its place.
    pub id: Id,
    /// [`Row::name`].
    name: Box<str>,
}

/// What clients know it by.
impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() { self.id.fmt(f) } else { f.write_str(&self.name) }
    }
}

/// First part of the sub keys of one conversation, or of one name.
pub fn with_key(text: &str) -> [u8; 8] {
    let mut key = [0; 8];
    key.copy_from_slice(&digest(&SHA256, text.as_bytes()).as_ref()[..8]);
    key
}

/// Sub key of a [`Mark`].
pub fn mark_key(text: &str, id: Id) -> [u8; 8 + KEY_BYTES] {
    let mut key = [0; 8 + KEY_BYTES];
    key[..8].copy_from_slice(&with_key(text));
    key[8..].copy_from_slice(&id.key());
    key
}

/// What is to be archived.
#[derive(Clone, Copy, Debug, Default)]
pub struct New<'a> {
    /// [`Row::with`].
    pub with: &'a str,
    /// [`Row::who`].
    pub who: &'a str,
    /// [`Row::standing`].
    pub standing: &'a str,
    /// [`Row::xml`].
    pub xml: &'a str,
}

/// The last row of an archive.
#[derive(Clone, Copy, Debug, Default)]
struct Tail {
    id: Id,
    number: u64,
    sum_bytes: u64,
}

/// What somebody asks of an archive.
#[derive(Debug)]
pub struct Asked {
    /// The request to be answered.
    pub request: Stanza,
    /// Which page.
    pub query: Query,
}

/// What the engine knows of archives beyond what is stored.
#[derive(Debug, Default)]
pub struct Archives {
    tails: BTreeMap<Box<str>, Tail>,
    /// [`crate::storage::View::withdrawals`] when they were true.
    withdrawals: u32,
    chance: Chance,
    /// Requests of the step at hand.
    pub asked: Vec<Asked>,
    /// Retractions of the step at hand.
    pub retracted: Vec<Find>,
    /// Queries of sessions of ours that have no answer yet.
    pub open: Vec<(SessionId, Stanza)>,
    /// There is something to be swept out.
    pub unswept: bool,
    /// There are rows that the last sweep has not seen.
    pub appended: bool,
}

impl Archives {
    /// The step at hand is given up.
    pub fn forget_step(&mut self) {
        self.asked.clear();
        self.retracted.clear();
    }

    /// Bytes that it holds, roughly.
    pub fn held_bytes(&self) -> usize {
        const TAIL_BYTES: usize = 128;
        self.tails.len() * TAIL_BYTES + self.chance.held_bytes()
    }
}

/// Work beside the engine.
#[derive(Debug)]
pub enum Work {
    /// Read a page.
    Page(Query),
    /// Find what is too old, or void.
    Sweep(Sweep),
    /// Find the message that is retracted.
    Find(Find),
}

/// Work with the name of its answer.
#[derive(Debug)]
pub struct Job {
    /// Comes back with the answer.
    pub id: u64,
    /// What to do.
    pub work: Work,
}

/// What has come of it.
#[derive(Debug)]
pub enum Done {
    /// A page.
    Page(Result<Page, PageError>),
    /// Rows to delete.
    Sweep(Swept),
    /// Which message it is, if it is there.
    Find(Find, Option<Id>),
}

/// Does a portion of work; none when there is more to do. Between two portions others have their turn.
///
/// # Errors
/// When storage cannot be read.
pub fn work(snapshot: &dyn Snapshot, work: &mut Work) -> Result<Option<Done>, StoreError> {
    Ok(match work {
        Work::Page(query) => page::read(snapshot, query)?.map(Done::Page),
        Work::Sweep(sweep) => Some(Done::Sweep(sweep::look(snapshot, sweep)?)),
        Work::Find(find) => page::find(snapshot, find)?.map(|id| Done::Find(find.clone(), id)),
    })
}

/// Does all of a job at once, for those who have no other work meanwhile.
///
/// # Errors
/// When storage cannot be read.
pub fn whole(reader: &dyn Reader, mut job: Job) -> Result<Done, StoreError> {
    loop {
        if let Some(done) = work(&*reader.snapshot()?, &mut job.work)? {
            return Ok(done);
        }
    }
}

/// A message of a conversation that its author takes back (XEP-0424).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Find {
    /// Whose archive.
    pub owner: String,
    /// Bare address of the other side.
    pub with: String,
    /// Bare address of the author.
    pub author: String,
    /// Id that he has given to the message.
    pub target: String,
    /// Id of the retraction.
    pub retraction: String,
    /// The row before which the walk goes on.
    pub before: Id,
    /// Rows that are looked at yet.
    pub left: u32,
}

impl Core {
    /// Puts a message behind all others of an archive, and gives its id.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn archive_append(&mut self, owner: &str, new: New<'_>) -> Result<Id, StoreError> {
        let tail = self.archive_tail(owner)?;
        let chance = self.archives.chance.draw(&mut *self.entropy);
        let id = Id::next(tail.id, self.wall_ms(), chance);
        let tail = self.archive_put(owner, (id, tail), new, "");
        self.archive_tail_is(owner, tail);
        Ok(id)
    }

    /// Writes a message behind the row `before`.
    fn archive_put(&mut self, owner: &str, (id, before): (Id, Tail), new: New<'_>, name: &str) -> Tail {
        let New { with, who, standing, xml } = new;
        let mut row = RowRef { number: before.number + 1, sum_bytes: 0, with, who, standing, xml, name };
        row.sum_bytes = before.sum_bytes + row.cost_bytes();
        self.view.put_encoded::<Rows>(owner, &id.key(), 0, |out| row.encode(out));
        if !with.is_empty() {
            self.view.put::<Marks>(owner, &mark_key(with, id), &Mark {});
        }
        if !name.is_empty() {
            self.view.put::<Names>(owner, &mark_key(name, id), &Mark {});
        }
        self.archives.appended = true;
        Tail { id, number: row.number, sum_bytes: row.sum_bytes }
    }

    /// Remembers the last row of an archive.
    fn archive_tail_is(&mut self, owner: &str, tail: Tail) {
        let tails = &mut self.archives.tails;
        match tails.get_mut(owner) {
            Some(known) => *known = tail,
            None => {
                // They are quick to learn again.
                if tails.len() >= TAILS_MAX {
                    tails.clear();
                }
                tails.insert(owner.into(), tail);
            }
        }
    }

    /// The last row of an archive, also of one that is empty by now.
    fn archive_tail(&mut self, owner: &str) -> Result<Tail, StoreError> {
        if self.archives.withdrawals != self.view.withdrawals() {
            self.archives.withdrawals = self.view.withdrawals();
            self.archives.tails.clear();
        }
        if let Some(tail) = self.archives.tails.get(owner) {
            return Ok(*tail);
        }
        let mut tail = Tail::default();
        self.view.scan::<Rows>(owner, (b"", None), true, |sub, value| {
            if let (Some(id), Some(row)) = (Id::from_key(sub), RowRef::read(value)) {
                tail = Tail { id, number: row.number, sum_bytes: row.sum_bytes };
            }
            ControlFlow::Break(())
        })?;
        tail.id = tail.id.max(self.archive_floor(owner)?);
        Ok(tail)
    }

    /// Rows of an archive up to this one are void.
    fn archive_floor(&mut self, owner: &str) -> Result<Id, StoreError> {
        let floor = self.view.get::<Floors>(owner, b"")?;
        Ok(floor.and_then(|floor| Id::from_key(&floor.key)).unwrap_or_default())
    }

    /// The first and the last message of an archive; none when it is empty.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn archive_ends(&mut self, owner: &str) -> Result<Option<(Named, Named)>, StoreError> {
        let from = self.archive_floor(owner)?.following().key();
        let mut end = |back: bool| {
            let mut end = None;
            self.view.scan::<Rows>(owner, (&from, None), back, |sub, value| {
                end = Id::from_key(sub).and_then(|id| Some(RowRef::read(value)?.named(id)));
                ControlFlow::Break(())
            })?;
            Ok::<_, StoreError>(end)
        };
        Ok(end(false)?.zip(end(true)?))
    }

    /// The last rows of an archive, the last of all first, until `each` breaks.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn archive_last(
        &mut self,
        owner: &str,
        mut each: impl FnMut(Id, RowRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let from = self.archive_floor(owner)?.following().key();
        self.view.scan::<Rows>(owner, (&from, None), true, |sub, value| {
            match (Id::from_key(sub), RowRef::read(value)) {
                (Some(id), Some(row)) => each(id, row),
                _ => ControlFlow::Continue(()),
            }
        })
    }

    /// One message of an archive.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn archive_row(&mut self, owner: &str, id: Id) -> Result<Option<Row>, StoreError> {
        if id <= self.archive_floor(owner)? || id >= Id::END {
            return Ok(None);
        }
        self.view.get::<Rows>(owner, &id.key())
    }

    /// The message that clients know by this id.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn archive_find(&mut self, owner: &str, text: &str) -> Result<Option<(Id, Row)>, StoreError> {
        if let Some(id) = Id::parse(text)
            && let Some(row) = self.archive_row(owner, id)?
        {
            return Ok(Some((id, row)));
        }
        let (key, mut places) = (with_key(text), Vec::new());
        self.view.scan::<Names>(owner, (&key, Some(&end_of(&key))), false, |sub, _| {
            places.extend(sub.get(key.len()..).and_then(Id::from_key));
            ControlFlow::Continue(())
        })?;
        for id in places {
            if let Some(row) = self.archive_row(owner, id)?.filter(|row| row.name == text) {
                return Ok(Some((id, row)));
            }
        }
        Ok(None)
    }

    /// Puts something in the place of a message: its place, its time and its sides stay.
    pub fn archive_replace(&mut self, owner: &str, id: Id, row: &Row) {
        self.view.put::<Rows>(owner, &id.key(), row);
    }

    /// Asks for a page. The request is answered behind it.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub fn archive_ask(&mut self, request: &Stanza, reading: Reading<'_>) -> Result<(), StanzaError> {
        let query = Query::read(request, reading)?;
        self.archives.asked.push(Asked { request: request.clone(), query });
        Ok(())
    }

    /// A query has its answer, or nobody waits for it.
    pub fn archive_answered(&mut self, session: Option<SessionId>, request: &Stanza) {
        let Some(session) = session else { return };
        let is_it = |open: &(SessionId, Stanza)| open.0 == session && open.1.id == request.id;
        if let Some(at) = self.archives.open.iter().position(is_it) {
            self.archives.open.swap_remove(at);
            // What is stored of one that waits says what is open.
            if self.sessions.get(session).is_some_and(|s| s.conn.is_none()) {
                self.changed.insert(session);
            }
        }
    }

    /// An archive is void from now on, and its rows are swept out one by one: whoever gets the address next sees
    /// nothing of them.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn archive_void(&mut self, owner: &str) -> Result<(), StoreError> {
        let Tail { id, .. } = self.archive_tail(owner)?;
        if id > self.archive_floor(owner)? {
            self.view.put::<Floors>(owner, b"", &Floor { key: id.key().to_vec() });
            self.archives.unswept = true;
        }
        Ok(())
    }

    /// Deletes what has been found.
    pub fn archive_sweep(&mut self, swept: &Swept) {
        for gone in &swept.gone {
            self.view.delete::<Rows>(&gone.owner, &gone.id.key());
            if !gone.with.is_empty() {
                self.view.delete::<Marks>(&gone.owner, &mark_key(&gone.with, gone.id));
            }
            if !gone.name.is_empty() {
                self.view.delete::<Names>(&gone.owner, &mark_key(&gone.name, gone.id));
            }
        }
        for (owner, floor) in &swept.floors {
            match floor {
                Some(id) => self.view.put::<Floors>(owner, b"", &Floor { key: id.key().to_vec() }),
                None => self.view.delete::<Floors>(owner, b""),
            }
        }
    }
}

/// A message without its content (XEP-0424 section 5): what it was, from whom and to whom.
pub fn tombstone(xml: &str, build: impl FnOnce(&mut crate::xml::Builder)) -> Option<String> {
    let mut stanza = Stanza::read(crate::xml::parse(xml).ok()?).ok()?;
    stanza.retain_children(|c| c.is(ns::OCCUPANT_ID, "occupant-id"));
    stanza.append(build);
    Some(stanza.to_xml())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_the_same_with_and_without_copies() {
        let (with, standing) = ("w", "member visitor");
        for (name, len) in [("", 28), ("elsewhere", 38)] {
            let row = RowRef { number: 300, sum_bytes: 7, with, who: "o", standing, xml: "<a/>", name };
            let mut out = codec::Encoder::new();
            row.encode(&mut out);
            assert_eq!(out.as_bytes().len(), len);
            let read = RowRef::read(out.as_bytes()).unwrap();
            assert_eq!((read.number, read.sum_bytes, read.with, read.who, read.name), (300, 7, "w", "o", name));
            let owned: Row = codec::from_bytes(out.as_bytes()).unwrap();
            assert_eq!((owned.xml.as_str(), owned.standing.as_str()), (read.xml, read.standing));
            assert_eq!(codec::to_bytes(&owned), out.as_bytes());
            assert!((0..out.as_bytes().len()).all(|n| RowRef::read(&out.as_bytes()[..n]).is_none()));
        }
    }
}

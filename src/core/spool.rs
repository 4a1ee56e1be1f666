//! The spool: messages on disk that their addressee has not got yet, be it offline (XEP-0160) or slow to acknowledge
//! (XEP-0198).
//!
//! A row is *held* while a session has it in its queue or while a parked session has it on disk alone; a row that is
//! not held is for the next session of the account that can take messages. Rows of a session that was lost in a crash
//! are held by nobody, and so they find their way.
//!
//! What is for other servers lies there, too, as if it were of one nameless account.

use super::Core;
use super::flight::{Filters, InFlight, Keep, Parcel};
use super::session::SessionId;
use crate::fault::{Fault, armed};
use crate::jid::Jid;
use crate::stanza::{Kind, MessageType, Stanza, delay};
use crate::storage::{Decoder, Encoder, Record, StoreError, Table, Ticket};
use crate::xml::ns;
use std::collections::BTreeSet;
use std::rc::Rc;

/// A stanza as XML.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// With its stamp.
    pub xml: String,
    /// The name by which the session is resumed that has it in its queue; empty for any session.
    pub holder: String,
    /// Where in that queue: as which stanza the client counts it, if it was sent. Rows of one place are in the order of
    /// their numbers.
    pub place: u64,
    /// It means nothing to other sessions.
    pub is_copy: bool,
    /// Of what is for another server: when it goes back to its sender, in milliseconds since 1970. Otherwise 0.
    pub until_ms: u64,
}

/// The third version; the second had no `until_ms`, the first had the text alone.
impl Record for Stored {
    fn encode(&self, out: &mut Encoder) {
        out.byte(3);
        out.text(&self.xml);
        out.text(&self.holder);
        out.number(self.place);
        out.put(&self.is_copy);
        out.number(self.until_ms);
    }

    fn decode(d: &mut Decoder<'_>) -> Option<Self> {
        match d.byte()? {
            1 => Some(Self { xml: d.get()?, ..Self::default() }),
            2 => Some(Self { xml: d.get()?, holder: d.get()?, place: d.get()?, is_copy: d.get()?, until_ms: 0 }),
            3 => Some(Self { xml: d.get()?, holder: d.get()?, place: d.get()?, is_copy: d.get()?, until_ms: d.get()? }),
            _ => None,
        }
    }
}

impl Stored {
    /// The stanza.
    pub fn stanza(&self) -> Option<Stanza> {
        Stanza::parse(&self.xml)
    }
}

/// Owner: the account; nobody, of what is for other servers. Sub key: a number that grows, eight bytes, big endian.
pub struct Rows;
impl Table for Rows {
    const ID: u8 = 16;
    const NAME: &'static str = "spool";
    const MARKS: Option<fn(&Stored) -> u8> = Some(|stored| (!stored.holder.is_empty()).into());
    type Value = Stored;
}

/// The place of what has come to a parked session and was never sent.
pub const LAST: u64 = u64::MAX;

/// The owner of what is for other servers.
const ELSEWHERE: &str = "";

/// What the engine knows of rows beyond what is stored.
#[derive(Debug, Default)]
pub struct Spool {
    /// Rows that are in the queue of a session.
    held: BTreeSet<(Box<str>, u64)>,
    /// Rows that were deleted, and when that is durable.
    deleted: Vec<(Ticket, Box<str>, u64)>,
    /// The same for rows that are for anybody should that fail. Until then nothing else gets their number: it would
    /// stand for two messages.
    given: Vec<(Ticket, Box<str>, u64)>,
}

impl Spool {
    /// Bytes that it holds, roughly: an entry is an address of some length and a number.
    pub fn held_bytes(&self) -> usize {
        const ENTRY_BYTES: usize = 96;
        (self.held.len() + self.deleted.len() + self.given.len()) * ENTRY_BYTES
    }
}

/// What becomes of a message that nobody can take now (XEP-0160 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// It is kept.
    Kept,
    /// It goes back: somebody has written it, and is told that it did not arrive.
    Returned,
    /// It means nothing later; the reason is logged.
    Nothing(&'static str),
}

/// Judges a message by its type and content.
pub fn worth(message: &Stanza) -> Worth {
    let root = message.payload.root();
    let Kind::Message(kind @ (MessageType::Chat | MessageType::Normal)) = message.kind else {
        return Worth::Nothing("its type");
    };
    // XEP-0334 section 4. `no-permanent-store` is about archives: what waits for its recipient is not meant.
    if root.has_child(ns::HINTS, "no-store") {
        return if root.has_child(ns::CLIENT, "body") { Worth::Returned } else { Worth::Nothing("its hint") };
    }
    if root.has_child(ns::HINTS, "store") {
        return Worth::Kept;
    }
    match kind == MessageType::Chat && is_only_a_state(message) {
        true => Worth::Nothing("nothing but a chat state"),
        false => Worth::Kept,
    }
}

/// A chat state alone, with or without what clients put into every message, means nothing later.
pub fn is_only_a_state(message: &Stanza) -> bool {
    let accompanies = |ns: &str| [ns::CHAT_STATES, ns::HINTS, ns::STANZA_ID].contains(&ns);
    message.payload.root().children().all(|c| accompanies(c.ns()) || c.is(ns::CLIENT, "thread"))
}

/// Whether a stanza in the queue of a session survives a restart. Presence is sent anew.
fn survives(stanza: &Stanza) -> bool {
    match stanza.kind {
        Kind::Presence(_) => false,
        Kind::Message(_) => !is_only_a_state(stanza),
        Kind::Iq(_) => true,
    }
}

/// Whether what was on its way to one session is for another of its account: not what is said in a room that the other
/// is not in, nor a headline, which is news of that moment, such as that a node has another item. An error is: RFC 6121
/// section 8.5.3.2.1 drops those that come for a session that is not there, but this one had come, and the count that
/// its session was told says that the message it answers is safe.
pub fn is_for_others(kind: Kind) -> bool {
    matches!(kind, Kind::Message(kind) if !matches!(kind, MessageType::Groupchat | MessageType::Headline))
}

/// Says since when the server has it, unless that is said already.
pub fn stamp(stanza: &mut Stanza, domain: &str, wall_ms: i64) {
    let is_ours = |c: crate::xml::ElementRef<'_>| c.is(ns::DELAY, "delay") && c.attr("from") == Some(domain);
    if matches!(stanza.kind, Kind::Message(_)) && !stanza.payload.root().children().any(is_ours) {
        delay::stamp(stanza, domain, wall_ms);
    }
}

impl Core {
    /// Writes a row behind all others of an account and gives its number.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn spool_put(&mut self, account: &Jid, stored: &Stored) -> Result<u64, StoreError> {
        let owner = self.spool_owner(account);
        let last = self.view.last_sub::<Rows>(owner)?;
        // A number that is still held may belong to a row that is to be deleted once more.
        let is_held = !self.spool.held.is_empty();
        let held = is_held.then(|| self.spool.held.range(..=(owner.into(), u64::MAX)).next_back()).flatten();
        let held = held.filter(|(of, _)| **of == *owner).map_or(0, |(_, row)| *row);
        let next = last.map_or(0, |sub| number(&sub)).max(held) + 1;
        self.view.put::<Rows>(owner, &next.to_be_bytes(), stored);
        Ok(next)
    }

    /// Writes a message for whichever session of the account comes first. False when it has more bytes than may be
    /// added.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn spool_message(&mut self, account: &Jid, mut stanza: Stanza, bytes_max: usize) -> Result<bool, StoreError> {
        stamp(&mut stanza, account.domain(), self.now.wall_ms);
        let stored = Stored { xml: stanza.to_xml(), ..Stored::default() };
        let fits = stored.xml.len() <= bytes_max;
        if fits {
            self.spool_put(account, &stored)?;
        }
        Ok(fits)
    }

    /// Writes a stanza that comes to a parked session, and stamps it. None when it is nothing that survives.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn spool_for(
        &mut self,
        session: &Jid,
        resume_id: &str,
        is_copy: bool,
        stanza: &mut Stanza,
    ) -> Result<Option<u64>, StoreError> {
        if !survives(stanza) {
            return Ok(None);
        }
        stamp(stanza, session.domain(), self.now.wall_ms);
        let xml = stanza.to_xml();
        let row =
            self.spool_put(session, &Stored { xml, holder: resume_id.to_owned(), place: LAST, is_copy, until_ms: 0 })?;
        self.spool_hold(session, row);
        Ok(Some(row))
    }

    /// Writes what is in the queue of a session. With a name and a place the row is of that session alone, in the place
    /// of another that it may have, and the parcel is stamped, too.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn spool_parcel(&mut self, parcel: &mut Parcel, holder: Option<(&str, u64)>) -> Result<(), StoreError> {
        let Some(to) = parcel.to.clone() else { return Ok(()) };
        let Some(mut stanza) = self.spool_stanza(parcel)?.filter(survives) else { return Ok(()) };
        let (now, is_local) = (self.now, self.is_local(&to));
        let keep = parcel.keep.get_or_insert_with(|| Box::new(Keep { since_ms: now.mono_ms, ..Keep::default() }));
        let age_ms = i64::try_from(now.mono_ms.saturating_sub(keep.since_ms)).unwrap_or_default();
        let since_ms = now.wall_ms.saturating_sub(age_ms);
        let mut until_ms = 0;
        if is_local {
            stamp(&mut stanza, to.domain(), since_ms);
        } else {
            let wait_ms = u64::from(self.settings.limits.s2s_queue_timeout_s) * 1000;
            until_ms = u64::try_from(since_ms).unwrap_or_default() + wait_ms;
            let from = stanza.from.as_ref().map(|from| from.domain().to_owned()).unwrap_or_default();
            stamp(&mut stanza, &from, since_ms);
        }
        let (id, place) = holder.unwrap_or_default();
        let xml = stanza.to_xml();
        let stored = Stored { xml, holder: id.to_owned(), place, is_copy: parcel.is_copy, until_ms };
        let row = match keep.row {
            Some(row) => {
                let owner = if is_local { to.bare_str() } else { ELSEWHERE };
                self.view.put::<Rows>(owner, &row.to_be_bytes(), &stored);
                row
            }
            None => self.spool_put(&to, &stored)?,
        };
        // Written again before it is durable, it is there with the first of the two: the second may fail alone.
        if keep.row.is_none() {
            keep.row_after = self.view.ticket();
        }
        keep.row = Some(row);
        if holder.is_some() && parcel.tail.is_some() {
            parcel.tail = Some(stanza.tail());
        }
        self.spool_hold(&to, row);
        Ok(())
    }

    /// Rows of an account that no session has in its queue, and their number.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn spool_free(&mut self, account: &Jid) -> Result<Vec<(u64, Stored)>, StoreError> {
        let account = account.bare();
        let mut rows = self.spool_rows(&account)?;
        rows.retain(|(_, stored)| {
            stored.holder.is_empty() || self.sessions.resumable(&account, &stored.holder).is_none()
        });
        Ok(rows)
    }

    /// How many rows of an account are in queues, or were when their session was lost, or are about to go: no more than
    /// its sessions may have. It is known without reading them, so that who writes to a full box does not have it read
    /// each time.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn spool_queued(&mut self, account: &Jid) -> Result<usize, StoreError> {
        let (marked, mut at) = (self.view.marked::<Rows>(account.bare_str())?, 0);
        let mut queued: BTreeSet<u64> =
            std::iter::from_fn(|| marked.next(&mut at).map(|(_, sub)| number(sub))).collect();
        if !self.spool.held.is_empty() {
            let of_account = (account.bare_str().into(), 0)..=(account.bare_str().into(), u64::MAX);
            queued.extend(self.spool.held.range(of_account).map(|(_, row)| *row));
        }
        Ok(queued.len())
    }

    /// Rows that a parked session has on disk alone, in the order of its queue.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn spool_of(&mut self, session: &Jid, resume_id: &str) -> Result<Vec<(u64, Stored)>, StoreError> {
        let mut rows = self.spool_rows(&session.bare())?;
        rows.retain(|(_, stored)| stored.holder == resume_id);
        rows.sort_by_key(|(row, stored)| (stored.place, *row));
        Ok(rows)
    }

    /// Rows that are in no queue.
    fn spool_rows(&mut self, account: &Jid) -> Result<Vec<(u64, Stored)>, StoreError> {
        let rows = self.view.list::<Rows>(account.bare_str(), usize::MAX)?;
        let rows = rows.into_iter().map(|(sub, stored)| (number(&sub), stored));
        Ok(rows.filter(|(row, _)| !self.spool.held.contains(&(account.bare_str().into(), *row))).collect())
    }

    /// Rows of what is for other servers and is in no queue, in the order in which they were written.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn spool_remote(&mut self) -> Result<Vec<(u64, Stored)>, StoreError> {
        let rows = self.view.list::<Rows>(ELSEWHERE, usize::MAX)?.into_iter();
        let rows = rows.map(|(sub, stored)| (number(&sub), stored));
        Ok(rows.filter(|(row, _)| !self.spool.held.contains(&(ELSEWHERE.into(), *row))).collect())
    }

    /// Whose rows those for an address are.
    fn spool_owner<'a>(&self, to: &'a Jid) -> &'a str {
        if self.is_local(to) { to.bare_str() } else { ELSEWHERE }
    }

    /// One row.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn spool_row(&mut self, account: &Jid, row: u64) -> Result<Option<Stored>, StoreError> {
        self.view.get::<Rows>(self.spool_owner(account), &row.to_be_bytes())
    }

    /// What is behind the head of a stanza that a row holds. None when it cannot be read: it stays there for the next
    /// session.
    pub fn spool_tail(&mut self, account: &Jid, row: u64) -> Option<Rc<[u8]>> {
        self.view.begin();
        let stanza = match self.spool_row(account, row) {
            Ok(stored) => stored.and_then(|stored| stored.stanza()),
            Err(error) => {
                log::error!(target: "couplet::storage", "{error}");
                None
            }
        };
        if stanza.is_none() {
            self.spool_release(account, row);
        }
        stanza.map(|stanza| stanza.tail())
    }

    /// The stanza of a parcel, read again, from the disk if it is there alone.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn spool_stanza(&mut self, parcel: &Parcel) -> Result<Option<Stanza>, StoreError> {
        match (&parcel.tail, &parcel.to, parcel.row()) {
            (None, Some(to), Some(row)) => Ok(self.spool_row(to, row)?.and_then(|stored| stored.stanza())),
            _ => Ok(parcel.stanza()),
        }
    }

    /// A row is in the queue of a session from now on.
    pub fn spool_hold(&mut self, account: &Jid, row: u64) {
        let owner = self.spool_owner(account).into();
        self.spool.held.insert((owner, row));
    }

    /// A row is in no queue any more, and stays.
    pub fn spool_release(&mut self, account: &Jid, row: u64) {
        let owner = self.spool_owner(account).into();
        self.spool.held.remove(&(owner, row));
    }

    /// What the row holds has arrived. Until its deletion is durable nobody else gets it.
    pub fn spool_delete(&mut self, account: &Jid, row: u64) {
        self.spool_delete_row(self.spool_owner(account).into(), row);
    }

    fn spool_delete_row(&mut self, owner: Box<str>, row: u64) {
        if !armed(Fault::SpoolKept) {
            self.view.delete::<Rows>(&owner, &row.to_be_bytes());
        }
        self.spool.deleted.push((self.view.ticket(), owner, row));
    }

    /// What the row holds was promised to be kept and goes to another session: the row stays until it has arrived.
    pub fn spool_pass_on(&mut self, account: &Jid, row: u64, heir: SessionId) {
        match self.spool_row(account, row).map(|stored| stored.and_then(|stored| stored.stanza())) {
            Ok(Some(_)) if armed(Fault::LeftBehind) => self.spool_give(account, row),
            Ok(Some(stanza)) => {
                self.spool_hold(account, row);
                let flight =
                    InFlight { is_copy: true, filters: Filters::In, row: Some(row), ..InFlight::passing(stanza) };
                self.send(flight.to_session(heir));
            }
            Ok(None) => self.spool_release(account, row),
            Err(error) => {
                log::error!(target: "couplet::storage", "{error}");
                self.spool_release(account, row);
            }
        }
    }

    /// What the row holds is on its way elsewhere: should this fail, the row is for anybody.
    pub fn spool_give(&mut self, account: &Jid, row: u64) {
        self.view.delete::<Rows>(self.spool_owner(account), &row.to_be_bytes());
        self.spool_hold(account, row);
        self.spool.given.push((self.view.ticket(), self.spool_owner(account).into(), row));
    }

    /// Forgets rows whose deletion is durable.
    pub fn spool_settle(&mut self) {
        let durable = self.view.durable();
        for (_, account, row) in self.spool.deleted.extract_if(.., |(after, ..)| *after <= durable) {
            self.spool.held.remove(&(account, row));
        }
        for (_, account, row) in self.spool.given.extract_if(.., |(after, ..)| *after <= durable) {
            self.spool.held.remove(&(account, row));
        }
    }

    /// A commit failed: what was deleted behind `durable` is not, and no later commit makes it so.
    pub fn spool_failed(&mut self, durable: Ticket) {
        for deleted in self.spool.deleted.iter_mut().filter(|(after, ..)| *after > durable) {
            deleted.0 = Ticket(u64::MAX);
        }
        for (_, account, row) in self.spool.given.extract_if(.., |(after, ..)| *after > durable) {
            self.spool.held.remove(&(account, row));
        }
    }

    /// Deletes once more what a failed commit has brought back. To be called when the failed batches are forgotten.
    pub fn spool_delete_again(&mut self) {
        for (_, owner, row) in std::mem::take(&mut self.spool.deleted) {
            self.spool_delete_row(owner, row);
        }
    }

    /// True when rows are to be deleted once more.
    pub fn spool_owes(&self) -> bool {
        !self.spool.deleted.is_empty()
    }
}

fn number(sub: &[u8]) -> u64 {
    sub.try_into().map_or(0, u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::codec::{from_bytes, to_bytes};
    use crate::xml::Builder;

    fn fate(kind: MessageType, build: impl FnOnce(&mut Builder)) -> Worth {
        worth(&Stanza::build(Kind::Message(kind), build))
    }

    #[test]
    fn hints_and_content_decide_what_is_kept() {
        let hint = |b: &mut Builder, name: &'static str| _ = b.open(ns::HINTS, name).close();
        let body = |b: &mut Builder| _ = b.leaf(ns::CLIENT, "body", "x");
        let state = |b: &mut Builder| _ = b.open(ns::CHAT_STATES, "active").close();
        let chat = MessageType::Chat;
        assert_eq!(fate(chat, body), Worth::Kept);
        assert_eq!(fate(MessageType::Normal, state), Worth::Kept);
        assert_eq!(fate(chat, |b| (body(b), hint(b, "no-permanent-store")).1), Worth::Kept);
        assert_eq!(fate(chat, |b| (state(b), hint(b, "store")).1), Worth::Kept);
        assert!(matches!(fate(chat, state), Worth::Nothing(_)));
        assert!(matches!(fate(chat, |b| (state(b), hint(b, "no-store")).1), Worth::Nothing(_)));
        assert_eq!(fate(chat, |b| (body(b), hint(b, "no-store")).1), Worth::Returned);
        assert!(matches!(fate(MessageType::Headline, |b| hint(b, "store")), Worth::Nothing(_)));
    }

    #[test]
    fn rows_of_the_first_version_are_read() {
        let stored =
            Stored { xml: "<a/>".to_string(), holder: "h".to_string(), place: LAST, is_copy: true, until_ms: 9 };
        assert_eq!(from_bytes(&to_bytes(&stored)), Some(stored));
        let first = b"\x01\x04<a/>";
        assert_eq!(from_bytes(first), Some(Stored { xml: "<a/>".to_string(), ..Stored::default() }));
    }
}

//! A stanza on its way through the phases, and what waits for one connection.

use super::session::SessionId;
use crate::fault::{Fault, armed};
use crate::jid::Jid;
use crate::stanza::{Kind, PresenceType, Stanza, StanzaError};
use crate::storage::Ticket;
use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

/// Where a stanza is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dest {
    /// To whatever its `to` names.
    Address,
    /// To this session, past routing: a push, a copy, an answer.
    Session(SessionId),
}

/// A stanza between two phases.
#[derive(Clone, Debug)]
pub struct InFlight {
    /// The stanza; `from` is set and true.
    pub stanza: Stanza,
    /// What follows the head, once it has been written for another recipient of the same stanza.
    pub tail: Option<Rc<[u8]>>,
    /// Where it goes.
    pub dest: Dest,
    /// The local session that sent it.
    pub origin: Option<SessionId>,
    /// It shows what this input has stored or read unstored, so it leaves when that is durable.
    pub promise: bool,
    /// It is itself a copy, or comes from storage: never copied again.
    pub is_copy: bool,
    /// Which filters it passes.
    pub filters: Filters,
    /// Whose acknowledgement waits for it to be safe.
    pub receipt: Option<Receipt>,
    /// The row of the spool that holds it.
    pub row: Option<u64>,
}

/// A stanza of a session with stream management: what is owed to its sender once it is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Who sent it.
    pub sender: SessionId,
    /// As which of its stanzas.
    pub number: u64,
}

/// Which filters look at a stanza.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filters {
    /// Those of the sender's account and those of the addressee's.
    Both,
    /// Those of the addressee's alone: the sender's have been asked already, or its server itself has decided to send
    /// it. For a session: it was stored, and is dropped if it would not be let in today.
    In,
    /// None: the server answers in somebody's name, and filters are for what people send.
    None,
}

impl InFlight {
    /// A stanza that passes.
    pub fn passing(stanza: Stanza) -> Self {
        Self {
            stanza,
            tail: None,
            dest: Dest::Address,
            origin: None,
            promise: false,
            is_copy: false,
            filters: Filters::Both,
            receipt: None,
            row: None,
        }
    }

    /// A stanza that shows stored state.
    pub fn promising(stanza: Stanza) -> Self {
        Self { promise: true, ..Self::passing(stanza) }
    }

    /// An answer of the server to a stanza.
    pub fn answer(stanza: Stanza) -> Self {
        Self { filters: Filters::None, ..Self::promising(stanza) }
    }

    /// The same, for one session.
    #[must_use]
    pub fn to_session(mut self, id: SessionId) -> Self {
        self.dest = Dest::Session(id);
        self
    }
}

/// What a filter makes of a stanza.
#[derive(Debug)]
pub enum Flow {
    /// Go on.
    Pass,
    /// Drop it; the reason is logged.
    Drop(&'static str),
    /// Return it to the sender.
    Bounce(StanzaError),
}

/// Something in the queue of a connection.
#[derive(Debug)]
pub enum Item {
    /// Bytes of the stream itself.
    Raw(Vec<u8>),
    /// Nothing to be written: the client counts stanzas from here on (XEP-0198 section 3).
    Enabled,
    /// A stanza: a head of its own, a tail that may be shared.
    Stanza(Box<Parcel>),
}

/// A stanza as it waits: its header for the head and for order, its tail.
#[derive(Debug)]
pub struct Parcel {
    /// Header without payload.
    pub kind: Kind,
    /// Addressee.
    pub to: Option<Jid>,
    /// Sender; parcels of one sender keep their order.
    pub from: Option<Jid>,
    /// All behind the head.
    pub tail: Rc<[u8]>,
    /// It leaves when this is durable.
    pub after: Ticket,
    /// A copy for another client: it means nothing to anybody else.
    pub is_copy: bool,
    /// What hangs on its arrival.
    pub keep: Option<Box<Keep>>,
}

/// What hangs on the arrival of a parcel.
#[derive(Clone, Debug)]
pub struct Keep {
    /// Whose acknowledgement waits for it.
    pub receipt: Option<Receipt>,
    /// The row of its addressee's spool that holds it, to be deleted when it has arrived.
    pub row: Option<u64>,
    /// When the row is durable.
    pub row_after: Ticket,
    /// Bytes that have been written to the connection when it is, for one that does not count stanzas.
    pub end: u64,
    /// When it was sent, on the clock of [`Now::mono_ms`](crate::clock::Now::mono_ms).
    pub since_ms: u64,
    /// Set when it has arrived at one of several sessions that got it.
    pub arrived: Option<Rc<Cell<bool>>>,
}

impl Keep {
    /// The receipt, when it waits for the arrival alone: there is no row of it yet, or that is on its way to the disk.
    pub fn owed(&self, durable: Ticket) -> Option<Receipt> {
        self.receipt.filter(|_| self.row.is_none() || self.row_after > durable)
    }
}

impl Parcel {
    /// The receipt that waits for its arrival.
    pub fn owed(&self, durable: Ticket) -> Option<Receipt> {
        self.keep.as_ref()?.owed(durable)
    }

    /// The row of the spool that holds it.
    pub fn row(&self) -> Option<u64> {
        self.keep.as_ref()?.row
    }

    /// The stanza as XML on its own.
    pub fn to_xml(&self) -> String {
        let mut out = Vec::new();
        crate::stanza::write_head(self.kind, self.to.as_ref(), &mut out);
        crate::xml::write_attribute("xmlns", crate::xml::ns::CLIENT, &mut out);
        out.extend_from_slice(&self.tail);
        String::from_utf8(out).unwrap_or_default()
    }
}

impl Item {
    /// A stanza that waits for nothing.
    pub fn of(stanza: &Stanza) -> Self {
        Self::Stanza(Box::new(Parcel {
            kind: stanza.kind,
            to: stanza.to.clone(),
            from: stanza.from.clone(),
            tail: stanza.tail(),
            after: Ticket(0),
            is_copy: false,
            keep: None,
        }))
    }

    /// Bytes that the item holds; a shared tail counts for each holder, so that the sum is never too low.
    pub fn held_bytes(&self) -> usize {
        match self {
            Item::Raw(bytes) => bytes.capacity() + size_of::<Self>(),
            Item::Enabled => size_of::<Self>(),
            Item::Stanza(p) => parcel_bytes(p),
        }
    }
}

/// What waits for one session, and what has left and is not known to have arrived.
#[derive(Debug, Default)]
pub struct OutQueue {
    items: VecDeque<Item>,
    /// With stream management: all that was written since it was enabled and is not acknowledged. Without: what
    /// somebody's receipt or a row of the spool hangs on, until the socket has taken it.
    sent: VecDeque<Box<Parcel>>,
    held_bytes: usize,
    /// Bytes that were ever written.
    written: u64,
    /// Stanzas among the items.
    unsent: usize,
    /// Stanzas that the client has acknowledged so far (XEP-0198); none without stream management.
    acked: Option<u64>,
    /// An acknowledgement has been asked for and has not come.
    asked: bool,
    /// Stanzas were written since.
    unasked: bool,
    /// When its oldest message that a receipt waits for is to be spooled; there is a timer for it.
    pub spool_at_ms: Option<u64>,
}

impl OutQueue {
    /// A queue of a session that is restored.
    pub fn restored(acked: u64) -> Self {
        Self { acked: Some(acked), ..Self::default() }
    }

    /// Adds at the end.
    pub fn push(&mut self, item: Item) {
        self.held_bytes += item.held_bytes();
        self.unsent += usize::from(matches!(item, Item::Stanza(_)));
        if armed(Fault::QueueJumped) && matches!(&item, Item::Stanza(p) if matches!(p.kind, Kind::Message(_))) {
            return self.items.push_front(item);
        }
        self.items.push_back(item);
    }

    /// Drops presence that waits and that the presence of this parcel replaces.
    pub fn make_obsolete(&mut self, by: &Parcel) {
        let is_news =
            |p: &Parcel| matches!(p.kind, Kind::Presence(PresenceType::Available | PresenceType::Unavailable));
        if is_news(by) {
            self.items.retain(|item| !matches!(item, Item::Stanza(p) if is_news(p) && p.from == by.from));
            self.unsent = self.items.iter().filter(|item| matches!(item, Item::Stanza(_))).count();
            self.recount();
        }
    }

    /// Bytes that wait, or may have to be sent again.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// True when nothing waits to be written.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Stanzas that wait or may have to be sent again.
    pub fn stanzas(&self) -> usize {
        self.sent.len() + self.unsent
    }

    /// Stanzas that were written since stream management was enabled, and how many of them are acknowledged; none
    /// before that.
    pub fn counts(&self) -> Option<(u64, u64)> {
        self.acked.map(|acked| (acked + self.sent.len() as u64, acked))
    }

    /// Writes what may leave: everything whose ticket is durable, except what follows an item that must wait from the
    /// same sender. Stops when `out` has `window_bytes` or more, or when `unacked_max` stanzas are unacknowledged.
    pub fn flush(&mut self, durable: Ticket, window_bytes: usize, unacked_max: usize, out: &mut Vec<u8>) {
        while out.len() < window_bytes
            && let Some(item) = self.items.front()
            && item_leaves(item, durable)
            && !self.is_full(item, unacked_max)
            && let Some(item) = self.items.pop_front()
        {
            self.write(item, out);
        }
        if self.items.is_empty() {
            // An idle connection holds no buffer.
            self.items = VecDeque::new();
        } else if out.len() < window_bytes {
            self.overtake(durable, window_bytes, unacked_max, out);
        }
        self.written += out.len() as u64;
    }

    /// Whether the client is to be asked for an acknowledgement now: there is one answer under way at a time.
    pub fn ask(&mut self) -> bool {
        let asks = self.acked.is_some() && self.unasked && !self.asked;
        if asks {
            (self.asked, self.unasked) = (true, false);
        }
        asks
    }

    /// The first item waits for the disk: lets those of other senders pass it.
    fn overtake(&mut self, durable: Ticket, window_bytes: usize, unacked_max: usize, out: &mut Vec<u8>) {
        let mut blocked: Vec<Option<Jid>> = Vec::new();
        let mut at = 0;
        while at < self.items.len() && out.len() < window_bytes {
            let Some(item @ Item::Stanza(parcel)) = self.items.get(at) else {
                // Bytes of the stream, such as its end, pass nothing.
                return;
            };
            if self.is_full(item, unacked_max) {
                return;
            }
            let sender = parcel.from.as_ref().map(Jid::bare);
            if parcel.after > durable || blocked.contains(&sender) {
                if !blocked.contains(&sender) {
                    blocked.push(sender);
                }
                at += 1;
            } else if let Some(item) = self.items.remove(at) {
                self.write(item, out);
            }
        }
    }

    /// Whether too much is unacknowledged for an item to leave. Before the client counts, that is anything at all.
    fn is_full(&self, item: &Item, unacked_max: usize) -> bool {
        match item {
            Item::Raw(_) => false,
            Item::Enabled => !self.sent.is_empty(),
            Item::Stanza(_) => self.acked.is_some() && self.sent.len() >= unacked_max,
        }
    }

    fn write(&mut self, item: Item, out: &mut Vec<u8>) {
        let bytes = item.held_bytes();
        match item {
            Item::Raw(raw) => out.extend_from_slice(&raw),
            Item::Enabled => {
                self.acked = Some(0);
                self.unasked = false;
            }
            Item::Stanza(mut p) => {
                crate::stanza::write_head(p.kind, p.to.as_ref(), out);
                out.extend_from_slice(&p.tail);
                self.unsent -= 1;
                if let Some(keep) = &mut p.keep {
                    keep.end = self.written + out.len() as u64;
                }
                if self.acked.is_some() || p.keep.is_some() {
                    self.unasked = true;
                    self.sent.push_back(p);
                    return;
                }
            }
        }
        self.held_bytes -= bytes;
    }

    /// The client has acknowledged all up to `h`. Returns what has arrived by that.
    ///
    /// # Errors
    /// The number of stanzas that were sent, when it is lower than `h`.
    pub fn ack(&mut self, h: u32) -> Result<Vec<Parcel>, u32> {
        let Some((sent, acked)) = self.counts() else { return Ok(Vec::new()) };
        self.asked = false;
        let fresh = h.wrapping_sub(acked as u32);
        if fresh as usize > self.sent.len() {
            // What was acknowledged before stays so.
            return if (fresh as i32) < 0 { Ok(Vec::new()) } else { Err(sent as u32) };
        }
        self.acked = Some(acked + u64::from(fresh));
        let arrived: Vec<Parcel> = self.sent.drain(..fresh as usize).map(|parcel| *parcel).collect();
        if self.sent.is_empty() {
            self.sent = VecDeque::new();
        }
        self.held_bytes -= arrived.iter().map(parcel_bytes).sum::<usize>();
        Ok(arrived)
    }

    /// The socket has taken all but so many bytes of what was written. Without stream management that counts as
    /// arrival; returns what has arrived.
    pub fn taken(&mut self, waiting_bytes: usize) -> Vec<Parcel> {
        if self.acked.is_some() || self.sent.is_empty() {
            return Vec::new();
        }
        let taken = self.written.saturating_sub(waiting_bytes as u64);
        let is_taken = |p: &Parcel| p.keep.as_ref().is_none_or(|keep| keep.end <= taken);
        let n = self.sent.iter().take_while(|p| is_taken(p)).count();
        let arrived: Vec<Parcel> = self.sent.drain(..n).map(|parcel| *parcel).collect();
        if self.sent.is_empty() {
            self.sent = VecDeque::new();
        }
        self.held_bytes -= arrived.iter().map(parcel_bytes).sum::<usize>();
        arrived
    }

    /// Puts what was sent and is not acknowledged back in front of what waits.
    pub fn send_again(&mut self) {
        (self.asked, self.unasked) = (false, false);
        self.unsent += self.sent.len();
        while let Some(parcel) = self.sent.pop_back() {
            self.items.push_front(Item::Stanza(parcel));
        }
    }

    /// Takes the stanzas out, with their counts, and leaves the bytes of the stream.
    #[must_use]
    pub fn take_stanzas(&mut self) -> Self {
        let (raw, stanzas): (VecDeque<_>, _) =
            std::mem::take(&mut self.items).into_iter().partition(|item| !matches!(item, Item::Stanza(_)));
        let rest = Self { held_bytes: raw.iter().map(Item::held_bytes).sum(), items: raw, ..Self::default() };
        let mut taken = std::mem::replace(self, rest);
        taken.items = stanzas;
        taken.held_bytes -= self.held_bytes;
        taken.asked = false;
        taken
    }

    /// Puts the stanzas of another queue behind what waits here.
    pub fn append(&mut self, mut other: Self) {
        self.items.append(&mut other.items);
        self.held_bytes += other.held_bytes;
        self.unsent += other.unsent;
        self.sent = other.sent;
        self.acked = other.acked;
        self.spool_at_ms = other.spool_at_ms;
    }

    /// Puts what waits in another queue of the same session behind what waits here, but for presence, which is sent
    /// anew.
    pub fn append_waiting(&mut self, other: Self) {
        self.spool_at_ms = other.spool_at_ms;
        let is_news = |kind| matches!(kind, Kind::Presence(PresenceType::Available | PresenceType::Unavailable));
        for item in other.items {
            if !matches!(&item, Item::Stanza(parcel) if is_news(parcel.kind)) {
                self.push(item);
            }
        }
    }

    /// Finds out anew how much is held, after parcels were changed.
    pub fn recount(&mut self) {
        let sent: usize = self.sent.iter().map(|p| parcel_bytes(p)).sum();
        self.held_bytes = sent + self.items.iter().map(Item::held_bytes).sum::<usize>();
    }

    /// Everything that has not arrived, in order. Nothing stays.
    pub fn into_parcels(self) -> Vec<Parcel> {
        let unsent = self.items.into_iter().filter_map(|item| match item {
            Item::Stanza(parcel) => Some(parcel),
            Item::Raw(_) | Item::Enabled => None,
        });
        self.sent.into_iter().chain(unsent).map(|parcel| *parcel).collect()
    }

    /// Everything that has not arrived, in order, to change what is kept of it.
    pub fn parcels_mut(&mut self) -> impl Iterator<Item = &mut Parcel> {
        let unsent = self.items.iter_mut().filter_map(|item| match item {
            Item::Stanza(parcel) => Some(&mut **parcel),
            Item::Raw(_) | Item::Enabled => None,
        });
        self.sent.iter_mut().map(|parcel| &mut **parcel).chain(unsent)
    }

    /// Everything that has not arrived, in order.
    pub fn parcels(&self) -> impl Iterator<Item = &Parcel> {
        let unsent = self.items.iter().filter_map(|item| match item {
            Item::Stanza(parcel) => Some(&**parcel),
            Item::Raw(_) | Item::Enabled => None,
        });
        self.sent.iter().map(|parcel| &**parcel).chain(unsent)
    }

    /// The batches behind `durable` never happened: what showed them is withdrawn, and what they stored is not stored.
    pub fn withdraw(&mut self, durable: Ticket) -> Withdrawn {
        let mut withdrawn = Withdrawn::default();
        let items = std::mem::take(&mut self.items);
        self.held_bytes = self.sent.iter().map(|p| parcel_bytes(p)).sum();
        self.unsent = 0;
        for item in items {
            match item {
                Item::Stanza(parcel) if parcel.after > durable => {
                    if let (Kind::Presence(PresenceType::Available | PresenceType::Unavailable), Some(from)) =
                        (parcel.kind, &parcel.from)
                    {
                        withdrawn.presence_of.insert(from.bare());
                    }
                    withdrawn.parcels.push(*parcel);
                }
                item => self.push(item),
            }
        }
        for parcel in self.parcels_mut().chain(&mut withdrawn.parcels) {
            if let (Some(keep), Some(to)) = (&mut parcel.keep, &parcel.to)
                && keep.row_after > durable
            {
                withdrawn.rows.extend(keep.row.take().map(|row| (to.bare(), row)));
                keep.row_after = Ticket(0);
            }
        }
        withdrawn
    }
}

/// What a failed commit takes back.
#[derive(Debug, Default)]
pub struct Withdrawn {
    /// Accounts whose presence was among it.
    pub presence_of: BTreeSet<Jid>,
    /// What will not leave.
    pub parcels: Vec<Parcel>,
    /// Rows that were not written.
    pub rows: Vec<(Jid, u64)>,
}

fn parcel_bytes(parcel: &Parcel) -> usize {
    let keep = if parcel.keep.is_some() { size_of::<Keep>() } else { 0 };
    parcel.tail.len() + keep + size_of::<Parcel>() + size_of::<Item>()
}

fn item_leaves(item: &Item, durable: Ticket) -> bool {
    match item {
        Item::Raw(_) | Item::Enabled => true,
        Item::Stanza(p) => p.after <= durable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stanza::MessageType;

    fn parcel(from: &str, body: &str, after: u64) -> Item {
        Item::Stanza(Box::new(Parcel {
            kind: Kind::Message(MessageType::Chat),
            to: None,
            from: Some(Jid::parse(from).unwrap()),
            tail: body.as_bytes().into(),
            after: Ticket(after),
            is_copy: false,
            keep: None,
        }))
    }

    fn flushed(queue: &mut OutQueue, durable: u64) -> String {
        let mut out = Vec::new();
        queue.flush(Ticket(durable), 1000, 3, &mut out);
        String::from_utf8(out).unwrap().replace("<message", " ").trim().to_string()
    }

    #[test]
    fn what_waits_for_the_disk_holds_back_its_own_sender_only() {
        let mut q = OutQueue::default();
        for item in
            [parcel("a@h/1", "a1", 0), parcel("a@h/1", "a2", 7), parcel("b@h/1", "b1", 0), parcel("a@h/2", "a3", 0)]
        {
            q.push(item);
        }
        assert_eq!(flushed(&mut q, 6), "a1 b1");
        assert_eq!(flushed(&mut q, 6), "");
        q.push(parcel("b@h/1", "b2", 0));
        assert_eq!(flushed(&mut q, 6), "b2");
        assert_eq!(flushed(&mut q, 7), "a2 a3");
        assert_eq!((q.held_bytes(), q.is_empty()), (0, true));
    }

    #[test]
    fn the_end_of_the_stream_passes_nothing() {
        let mut q = OutQueue::default();
        q.push(parcel("a@h/1", "a1", 2));
        q.push(Item::Raw(b"</stream:stream>".to_vec()));
        assert_eq!(flushed(&mut q, 1), "");
        assert_eq!(flushed(&mut q, 2), "a1</stream:stream>");
    }

    #[test]
    fn withdrawn_parcels_are_gone_and_the_rest_stays() {
        let mut q = OutQueue::default();
        for item in [parcel("a@h/1", "a1", 2), parcel("a@h/1", "a2", 0)] {
            q.push(item);
        }
        assert!(q.withdraw(Ticket(1)).presence_of.is_empty(), "a message is no presence");
        assert_eq!(flushed(&mut q, 1), "a2");
    }

    #[test]
    fn acknowledgements_count_what_was_sent_since_they_were_enabled_and_wrap() {
        let mut q = OutQueue::default();
        q.push(parcel("a@h/1", "a0", 0));
        q.push(Item::Raw(b"<enabled/>".to_vec()));
        q.push(Item::Enabled);
        q.push(parcel("a@h/1", "a1", 0));
        q.push(parcel("a@h/1", "a2", 0));
        assert_eq!((flushed(&mut q, 1), q.counts()), ("a0<enabled/> a1 a2".to_string(), Some((2, 0))));
        assert_eq!(q.ack(3).unwrap_err(), 2);
        assert_eq!((q.ack(1).unwrap().len(), q.counts()), (1, Some((2, 1))));
        assert_eq!((q.ack(0).unwrap().len(), q.counts()), (0, Some((2, 1))));
        let mut q = OutQueue::restored(u64::from(u32::MAX));
        q.push(parcel("a@h/1", "a1", 0));
        q.push(parcel("a@h/1", "a2", 0));
        flushed(&mut q, 1);
        assert_eq!((q.ack(0).unwrap().len(), q.counts()), (1, Some(((1 << 32) + 1, 1 << 32))));
        assert_eq!((q.ack(1).unwrap().len(), q.held_bytes()), (1, 0));
    }

    #[test]
    fn so_many_stanzas_leave_unacknowledged_and_are_sent_again_in_order() {
        let mut q = OutQueue::restored(7);
        for body in ["a1", "a2", "a3", "a4"] {
            q.push(parcel("a@h/1", body, 0));
        }
        assert_eq!((flushed(&mut q, 1), flushed(&mut q, 1)), ("a1 a2 a3".to_string(), String::new()));
        q.ack(8).unwrap();
        let mut rest = q.take_stanzas();
        rest.send_again();
        assert_eq!((q.stanzas(), q.held_bytes(), rest.stanzas()), (0, 0, 3));
        q.append(rest);
        assert_eq!((flushed(&mut q, 1), q.counts()), ("a2 a3 a4".to_string(), Some((11, 8))));
    }
}

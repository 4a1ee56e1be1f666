//! What waits for one session: what has not left, what is held back, what is not known to have arrived.

use super::flight::{Item, Parcel};
use crate::budget::allocated;
use crate::fault::{Fault, armed};
use crate::jid::Jid;
use crate::metrics::Left;
use crate::stanza::{IqType, Kind, MessageType};
use crate::storage::Ticket;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

/// No less than the head of a stanza has beside its addressee.
const HEAD_BYTES: usize = 16;

/// What waits for one session, and what has left and is not known to have arrived.
#[derive(Debug, Default)]
pub struct OutQueue {
    items: VecDeque<Item>,
    held_bytes: usize,
    /// Bytes that were ever written.
    written: u64,
    /// Stanzas among the items.
    unsent: u32,
    /// What an idle client without stream management has none of.
    rest: Option<Box<Rest>>,
}

#[derive(Debug, Default)]
struct Rest {
    /// With stream management: all that was written since it was enabled and is not acknowledged. Without: what
    /// somebody's receipt or a row of the spool hangs on, until the socket has taken it.
    sent: VecDeque<Box<Parcel>>,
    /// Stanzas that the client has acknowledged so far (XEP-0198); none without stream management.
    acked: Option<u64>,
    /// An acknowledgement has been asked for and has not come.
    asked: bool,
    /// Stanzas were written since.
    unasked: bool,
    /// Of the items the last so many are held back.
    held: Option<Box<Held>>,
    /// [`OutQueue::spools`].
    spools: bool,
}

/// Stanzas that are held back: of each what replaces it.
#[derive(Debug, Default)]
struct Held(VecDeque<Option<Box<str>>>);

impl OutQueue {
    /// A queue of a session that is restored.
    pub fn restored(acked: u64) -> Self {
        let rest = Rest { acked: Some(acked), ..Rest::default() };
        Self { rest: Some(Box::new(rest)), ..Self::default() }
    }

    /// Adds at the end. What was held back leaves before it.
    pub fn push(&mut self, item: Item) {
        self.let_go();
        self.add(item);
    }

    /// Adds at the end, and holds back; with more than `max` of them all leave. Of those with one subject the last that
    /// is durable replaces those before it.
    pub fn hold(&mut self, mut parcel: Box<Parcel>, subject: Option<Box<str>>, durable: Ticket, max: usize) {
        let Held(held) = &mut **self.rest.get_or_insert_default().held.get_or_insert_default();
        let is_news = subject.is_none() || !held.contains(&subject);
        held.push_back(subject);
        parcel.read_ms = 0;
        self.add(Item::Stanza(parcel));
        if !is_news {
            self.drop_replaced(durable);
        }
        if self.held() > max {
            self.release(durable);
        }
    }

    /// Nothing is held back any more.
    pub fn release(&mut self, durable: Ticket) {
        self.drop_replaced(durable);
        self.let_go();
    }

    fn let_go(&mut self) {
        if self.rest.as_mut().is_some_and(|rest| rest.held.take().is_some()) {
            self.shrink();
        }
    }

    fn held(&self) -> usize {
        self.rest.as_ref().and_then(|rest| rest.held.as_ref()).map_or(0, |held| held.0.len())
    }

    fn sent(&self) -> impl DoubleEndedIterator<Item = &Parcel> {
        self.rest.iter().flat_map(|rest| &rest.sent).map(|parcel| &**parcel)
    }

    fn sent_len(&self) -> usize {
        self.rest.as_ref().map_or(0, |rest| rest.sent.len())
    }

    fn acked(&self) -> Option<u64> {
        self.rest.as_ref()?.acked
    }

    /// Gives up what is not needed any more.
    fn shrink(&mut self) {
        let Some(rest) = &mut self.rest else { return };
        if rest.sent.is_empty() {
            rest.sent = VecDeque::new();
        }
        if rest.sent.is_empty() && rest.acked.is_none() && rest.held.is_none() && !rest.spools {
            self.rest = None;
        }
    }

    /// There is a timer for when its oldest message that a receipt waits for is to be spooled.
    pub fn spools(&self) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.spools)
    }

    /// Sets [`OutQueue::spools`].
    pub fn set_spools(&mut self, spools: bool) {
        if spools != self.spools() {
            self.rest.get_or_insert_default().spools = spools;
            self.shrink();
        }
    }

    fn drop_replaced(&mut self, durable: Ticket) {
        let Some(Held(held)) = self.rest.as_mut().and_then(|rest| rest.held.as_deref_mut()) else { return };
        let mut replaced: BTreeSet<Box<str>> = BTreeSet::new();
        let (mut items, mut subjects) = (VecDeque::new(), VecDeque::new());
        let behind = self.items.split_off(self.items.len() - held.len());
        for (item, subject) in behind.into_iter().zip(held.drain(..)).rev() {
            if let Some(subject) = &subject {
                if replaced.contains(subject) {
                    self.held_bytes -= item.held_bytes();
                    self.unsent -= 1;
                    continue;
                }
                // What may yet be taken back replaces nothing.
                if item_leaves(&item, durable) {
                    replaced.insert(subject.clone());
                }
            }
            items.push_front(item);
            subjects.push_front(subject);
        }
        self.items.append(&mut items);
        *held = subjects;
    }

    fn add(&mut self, item: Item) {
        self.held_bytes += item.held_bytes();
        self.unsent += u32::from(matches!(item, Item::Stanza(_)));
        if armed(Fault::QueueJumped) && matches!(&item, Item::Stanza(p) if matches!(p.kind, Kind::Message(_))) {
            return self.items.push_front(item);
        }
        if armed(Fault::RoomUnordered)
            && matches!(&item, Item::Stanza(p) if p.kind == Kind::Message(MessageType::Groupchat))
        {
            return self.items.push_front(item);
        }
        self.items.push_back(item);
    }

    /// Drops presence that waits and that the presence of this parcel replaces.
    pub fn make_obsolete(&mut self, by: &Parcel) {
        let before = self.items.len();
        if by.kind.is_availability() {
            self.items.retain(|item| !matches!(item, Item::Stanza(p) if p.kind.is_availability() && p.from == by.from));
        }
        // Most often there was none, and the queue may be long.
        if self.items.len() < before {
            self.unsent -= (before - self.items.len()) as u32;
            self.recount();
        }
    }

    /// Bytes that wait, or may have to be sent again.
    pub fn held_bytes(&self) -> usize {
        let subject = |s: &Option<Box<str>>| size_of::<Box<str>>() + s.as_ref().map_or(0, |s| allocated(s.len()));
        let held = |held: &Held| const { allocated(size_of::<Held>()) } + held.0.iter().map(subject).sum::<usize>();
        let rest = |rest: &Rest| const { allocated(size_of::<Rest>()) } + rest.held.as_deref().map_or(0, held);
        self.held_bytes + self.rest.as_deref().map_or(0, rest)
    }

    /// True when nothing waits to be written.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Stanzas that wait or may have to be sent again.
    pub fn stanzas(&self) -> usize {
        self.sent_len() + self.unsent as usize
    }

    /// Stanzas that were written since stream management was enabled, and how many of them are acknowledged; none
    /// before that.
    pub fn counts(&self) -> Option<(u64, u64)> {
        self.acked().map(|acked| (acked + self.sent_len() as u64, acked))
    }

    /// Writes what may leave: everything whose ticket is durable, except what follows an item that must wait from the
    /// same sender. Stops when `out` has `window_bytes` or more, or when `unacked_max` stanzas are unacknowledged.
    /// `left` counts the stanzas.
    pub fn flush(
        &mut self,
        durable: Ticket,
        window_bytes: usize,
        unacked_max: usize,
        out: &mut Vec<u8>,
        left: &mut Left,
    ) {
        while out.len() < window_bytes
            && self.items.len() > self.held()
            && let Some(item) = self.items.front()
            && item_leaves(item, durable)
            && !self.is_full(item, unacked_max)
            && !is_away(item)
            && let Some(item) = self.items.pop_front()
        {
            self.write(item, out, left);
        }
        if self.items.is_empty() {
            // An idle connection holds no buffer.
            self.items = VecDeque::new();
        } else if out.len() < window_bytes {
            self.overtake(durable, window_bytes, unacked_max, out, left);
        }
    }

    /// What would leave next and is on the disk alone: whose row, and which. [`OutQueue::bring`] takes its text.
    pub fn wants(&self, durable: Ticket, unacked_max: usize) -> Option<(Jid, u64)> {
        let item = self.items.front().filter(|item| self.items.len() > self.held() && is_away(item))?;
        let Item::Stanza(parcel) = item else { return None };
        let leaves = item_leaves(item, durable) && !self.is_full(item, unacked_max);
        parcel.to.clone().zip(parcel.row()).filter(|_| leaves)
    }

    /// The text of that stanza; it is dropped when there is none.
    pub fn bring(&mut self, tail: Option<Rc<[u8]>>) {
        let Some(Item::Stanza(mut parcel)) = self.items.pop_front() else { return };
        self.held_bytes -= parcel.held_bytes();
        self.unsent -= 1;
        if tail.is_some() {
            parcel.tail = tail;
            self.held_bytes += parcel.held_bytes();
            self.unsent += 1;
            self.items.push_front(Item::Stanza(parcel));
        }
    }

    /// True while somebody's message is to go back to this client.
    pub fn refuses(&self) -> bool {
        let is_refusal = |item: &Item| matches!(item, Item::Stanza(p) if p.kind == Kind::Message(MessageType::Error));
        self.items.iter().any(is_refusal)
    }

    /// Whether the client is to be asked for an acknowledgement now: there is one answer under way at a time.
    pub fn ask(&mut self) -> bool {
        let Some(rest) = &mut self.rest else { return false };
        let asks = rest.acked.is_some() && rest.unasked && !rest.asked;
        if asks {
            (rest.asked, rest.unasked) = (true, false);
        }
        asks
    }

    /// The client owes an acknowledgement that it has been asked for.
    pub fn is_asking(&self) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.asked)
    }

    /// The first item waits for the disk: lets those of other senders pass it.
    fn overtake(
        &mut self,
        durable: Ticket,
        window_bytes: usize,
        unacked_max: usize,
        out: &mut Vec<u8>,
        left: &mut Left,
    ) {
        let mut blocked: Vec<Option<Jid>> = Vec::new();
        let mut at = 0;
        while at + self.held() < self.items.len() && out.len() < window_bytes {
            let Some(item @ Item::Stanza(parcel)) = self.items.get(at) else {
                // Bytes of the stream, such as its end, pass nothing.
                return;
            };
            if self.is_full(item, unacked_max) || is_away(item) {
                return;
            }
            let sender = parcel.from.as_ref().map(Jid::bare);
            if parcel.after > durable || blocked.contains(&sender) {
                if !blocked.contains(&sender) {
                    blocked.push(sender);
                }
                at += 1;
            } else if let Some(item) = self.items.remove(at) {
                self.write(item, out, left);
            }
        }
    }

    /// Whether too much is unacknowledged for an item to leave. Before the client counts, that is anything at all.
    fn is_full(&self, item: &Item, unacked_max: usize) -> bool {
        match item {
            Item::Raw(_) => false,
            Item::Enabled => self.sent_len() > 0,
            Item::Stanza(_) => self.acked().is_some() && self.sent_len() >= unacked_max,
        }
    }

    fn write(&mut self, item: Item, out: &mut Vec<u8>, left: &mut Left) {
        let (bytes, before) = (item.held_bytes(), out.len());
        match item {
            Item::Raw(raw) => {
                out.extend_from_slice(&raw);
                self.written += raw.len() as u64;
            }
            Item::Enabled => {
                let rest = self.rest.get_or_insert_default();
                rest.acked = Some(0);
                rest.unasked = false;
            }
            Item::Stanza(mut p) => {
                left.add(p.read_ms);
                // Once, not while it grows: a room says each message to a hundred connections.
                let to_bytes = p.to.as_ref().map_or(0, |to| to.as_str().len());
                let tail = p.tail.as_deref().unwrap_or_default();
                out.reserve(tail.len() + to_bytes + HEAD_BYTES);
                crate::stanza::write_head(p.kind, p.to.as_ref(), out);
                out.extend_from_slice(tail);
                self.unsent -= 1;
                self.written += (out.len() - before) as u64;
                if let Some(keep) = &mut p.keep {
                    keep.end = self.written;
                    if keep.shelved {
                        self.held_bytes -= bytes;
                        p.tail = None;
                        self.held_bytes += p.held_bytes();
                    }
                }
                if self.acked().is_some() || p.keep.is_some() {
                    let rest = self.rest.get_or_insert_default();
                    rest.unasked = true;
                    rest.sent.push_back(p);
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
        let rest = self.rest.get_or_insert_default();
        rest.asked = false;
        let fresh = h.wrapping_sub(acked as u32);
        if fresh as usize > rest.sent.len() {
            // What was acknowledged before stays so.
            return if (fresh as i32) < 0 { Ok(Vec::new()) } else { Err(sent as u32) };
        }
        rest.acked = Some(acked + u64::from(fresh));
        Ok(self.arrive(fresh as usize))
    }

    fn arrive(&mut self, n: usize) -> Vec<Parcel> {
        let Some(rest) = &mut self.rest else { return Vec::new() };
        let arrived: Vec<Parcel> = rest.sent.drain(..n).map(|parcel| *parcel).collect();
        self.held_bytes -= arrived.iter().map(Parcel::held_bytes).sum::<usize>();
        self.shrink();
        arrived
    }

    /// The socket has taken all but so many bytes of what was written. Without stream management that counts as
    /// arrival; returns what has arrived.
    pub fn taken(&mut self, waiting_bytes: usize) -> Vec<Parcel> {
        if self.acked().is_some() {
            return Vec::new();
        }
        let taken = self.written.saturating_sub(waiting_bytes as u64);
        let is_taken = |p: &&Parcel| p.keep.as_ref().is_none_or(|keep| keep.end <= taken);
        let n = self.sent().take_while(is_taken).count();
        self.arrive(n)
    }

    /// The client has answered a request: it is over, whether or not the client acknowledges it.
    pub fn answered(&mut self, asker: Option<&Jid>, id: &str) {
        let is_request = |p: &Parcel| matches!(p.kind, Kind::Iq(IqType::Get | IqType::Set)) && p.from.as_ref() == asker;
        for parcel in self.rest.iter_mut().flat_map(|rest| &mut rest.sent).filter(|p| is_request(p)) {
            let same_id = parcel.stanza().is_some_and(|stanza| stanza.id.as_deref() == Some(id));
            parcel.is_copy |= same_id;
        }
    }

    /// Puts what was sent and is not acknowledged back in front of what waits.
    pub fn send_again(&mut self) {
        let Some(rest) = &mut self.rest else { return };
        (rest.asked, rest.unasked) = (false, false);
        self.unsent += rest.sent.len() as u32;
        while let Some(parcel) = rest.sent.pop_back() {
            self.items.push_front(Item::Stanza(parcel));
        }
        self.shrink();
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
        if let Some(rest) = &mut taken.rest {
            (rest.asked, rest.held) = (false, None);
        }
        taken
    }

    /// Puts the stanzas of another queue behind what waits here. Their client was away.
    pub fn append(&mut self, mut other: Self) {
        other.parcels_mut().for_each(|parcel| parcel.read_ms = 0);
        self.items.append(&mut other.items);
        self.held_bytes += other.held_bytes;
        self.unsent += other.unsent;
        self.rest = other.rest;
    }

    /// Puts what waits in another queue of the same session behind what waits here, but for presence, which is sent
    /// anew.
    pub fn append_waiting(&mut self, mut other: Self) {
        other.parcels_mut().for_each(|parcel| parcel.read_ms = 0);
        self.set_spools(other.spools());
        for item in other.items {
            if !matches!(&item, Item::Stanza(parcel) if parcel.kind.is_availability()) {
                self.push(item);
            }
        }
    }

    /// Finds out anew how much is held, after parcels were changed.
    pub fn recount(&mut self) {
        let sent: usize = self.sent().map(Parcel::held_bytes).sum();
        self.held_bytes = sent + self.items.iter().map(Item::held_bytes).sum::<usize>();
    }

    /// Everything that has not arrived, in order. Nothing stays.
    pub fn into_parcels(self) -> Vec<Parcel> {
        let unsent = self.items.into_iter().filter_map(|item| match item {
            Item::Stanza(parcel) => Some(parcel),
            Item::Raw(_) | Item::Enabled => None,
        });
        self.rest.into_iter().flat_map(|rest| rest.sent).chain(unsent).map(|parcel| *parcel).collect()
    }

    /// Everything that has not arrived, in order, to change what is kept of it.
    pub fn parcels_mut(&mut self) -> impl Iterator<Item = &mut Parcel> {
        let unsent = self.items.iter_mut().filter_map(|item| match item {
            Item::Stanza(parcel) => Some(&mut **parcel),
            Item::Raw(_) | Item::Enabled => None,
        });
        self.rest.iter_mut().flat_map(|rest| &mut rest.sent).map(|parcel| &mut **parcel).chain(unsent)
    }

    /// Everything that has not arrived, in order.
    pub fn parcels(&self) -> impl Iterator<Item = &Parcel> {
        let unsent = self.items.iter().filter_map(|item| match item {
            Item::Stanza(parcel) => Some(&**parcel),
            Item::Raw(_) | Item::Enabled => None,
        });
        self.sent().chain(unsent)
    }

    /// The batches behind `durable` never happened: what showed them is withdrawn, and what they stored is not stored.
    pub fn withdraw(&mut self, durable: Ticket) -> Withdrawn {
        let mut withdrawn = Withdrawn::default();
        let items = std::mem::take(&mut self.items);
        let free = items.len() - self.held();
        let (mut held, before) = (Held::default(), self.rest.as_mut().and_then(|rest| rest.held.take()));
        let subjects = before.into_iter().flat_map(|held| held.0);
        let subjects = std::iter::repeat_n(None, free).chain(subjects).enumerate();
        self.held_bytes = self.sent().map(Parcel::held_bytes).sum();
        self.unsent = 0;
        for (item, (place, subject)) in items.into_iter().zip(subjects) {
            match item {
                Item::Stanza(parcel) if parcel.after > durable => {
                    if let Some(from) = parcel.from.as_ref().filter(|_| parcel.kind.is_availability()) {
                        withdrawn.presence_of.insert(from.bare());
                    }
                    withdrawn.parcels.push(*parcel);
                }
                item => {
                    self.add(item);
                    if place >= free {
                        held.0.push_back(subject);
                    }
                }
            }
        }
        if let Some(rest) = &mut self.rest {
            rest.held = Some(Box::new(held)).filter(|held| !held.0.is_empty());
            self.shrink();
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

fn item_leaves(item: &Item, durable: Ticket) -> bool {
    match item {
        Item::Raw(_) | Item::Enabled => true,
        Item::Stanza(p) => p.after <= durable,
    }
}

/// Its text is on the disk alone.
fn is_away(item: &Item) -> bool {
    matches!(item, Item::Stanza(p) if p.tail.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::flight::Keep;

    fn parcel(from: &str, body: &str, after: u64) -> Item {
        Item::Stanza(Box::new(Parcel {
            kind: Kind::Message(MessageType::Chat),
            to: None,
            from: Some(Jid::parse(from).unwrap()),
            tail: Some(body.as_bytes().into()),
            after: Ticket(after),
            is_copy: false,
            read_ms: 0,
            keep: None,
        }))
    }

    fn flushed(queue: &mut OutQueue, durable: u64) -> String {
        let mut out = Vec::new();
        queue.flush(Ticket(durable), 1000, 3, &mut out, &mut Left::default());
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
        assert_eq!((q.ack(1).unwrap().len(), q.held_bytes()), (1, OutQueue::restored(0).held_bytes()));
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

    #[test]
    fn what_the_disk_has_is_there_alone_before_and_behind_its_time() {
        let mut q = OutQueue::restored(0);
        for body in ["a1", "a2"] {
            let Item::Stanza(mut p) = parcel("a@h/1", body, 0) else { unreachable!() };
            p.to = Some(Jid::parse("b@h").unwrap());
            p.keep = Some(Box::new(Keep { row: Some(7), ..Keep::default() }));
            p.shelve(Ticket(1));
            q.push(Item::Stanza(p));
        }
        let (a1, held_bytes) = (Some(Rc::from(&b" a1"[..])), q.held_bytes());
        assert_eq!((flushed(&mut q, 1), q.wants(Ticket(1), 3).map(|(_, row)| row)), (String::new(), Some(7)));
        q.bring(a1.clone());
        assert_eq!((flushed(&mut q, 1), q.held_bytes()), ("to='b@h' a1".to_string(), held_bytes));
        q.bring(None);
        assert_eq!((q.wants(Ticket(1), 3), q.stanzas(), q.is_empty()), (None, 1, true));
        q.send_again();
        q.bring(a1);
        assert_eq!((flushed(&mut q, 1), q.ack(1).unwrap().len()), ("to='b@h' a1".to_string(), 1));
    }

    fn hold(q: &mut OutQueue, body: &str, after: u64, subject: &str, durable: u64) {
        let Item::Stanza(parcel) = parcel("a@h/1", body, after) else { unreachable!() };
        q.hold(parcel, (!subject.is_empty()).then(|| subject.into()), Ticket(durable), 3);
    }

    #[test]
    fn what_is_held_back_leaves_before_what_is_urgent_and_the_last_of_a_subject_alone() {
        let mut q = OutQueue::default();
        q.push(parcel("a@h/1", "a1", 0));
        hold(&mut q, "x1", 0, "x", 0);
        hold(&mut q, "y1", 0, "y", 0);
        hold(&mut q, "x2", 0, "x", 0);
        hold(&mut q, "a2", 0, "", 0);
        assert_eq!((flushed(&mut q, 1), q.stanzas(), q.is_empty()), ("a1".to_string(), 3, false));
        q.push(parcel("a@h/1", "a3", 0));
        assert_eq!((flushed(&mut q, 1), q.held_bytes()), ("y1 x2 a2 a3".to_string(), 0));
        for body in ["a1", "a2", "a3", "a4"] {
            hold(&mut q, body, 0, "", 0);
        }
        assert_eq!(flushed(&mut q, 1).len(), 11, "more than three");
    }

    #[test]
    fn what_may_be_taken_back_replaces_nothing() {
        let mut q = OutQueue::default();
        hold(&mut q, "x1", 0, "x", 1);
        hold(&mut q, "x2", 2, "x", 1);
        hold(&mut q, "y1", 0, "y", 1);
        assert_eq!(q.withdraw(Ticket(1)).parcels.len(), 1);
        hold(&mut q, "y2", 0, "y", 1);
        assert_eq!((flushed(&mut q, 1), q.stanzas()), (String::new(), 2), "they are still held back");
        hold(&mut q, "x3", 3, "x", 1);
        q.release(Ticket(3));
        assert_eq!((flushed(&mut q, 3), q.held_bytes()), ("y2 x3".to_string(), 0));
    }
}

//! A stanza on its way through the phases, and what waits for one connection.

use super::session::SessionId;
use crate::fault::{Fault, armed};
use crate::jid::Jid;
use crate::stanza::{Kind, PresenceType, Stanza, StanzaError};
use crate::storage::Ticket;
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
        }))
    }

    /// Bytes that the item holds; a shared tail counts for each holder, so that the sum is never too low.
    pub fn held_bytes(&self) -> usize {
        match self {
            Item::Raw(bytes) => bytes.capacity() + size_of::<Self>(),
            Item::Stanza(p) => p.tail.len() + size_of::<Parcel>() + size_of::<Self>(),
        }
    }
}

/// What waits for one connection.
#[derive(Debug, Default)]
pub struct OutQueue {
    items: VecDeque<Item>,
    held_bytes: usize,
}

impl OutQueue {
    /// Adds at the end.
    pub fn push(&mut self, item: Item) {
        self.held_bytes += item.held_bytes();
        if armed(Fault::QueueJumped) && matches!(&item, Item::Stanza(p) if matches!(p.kind, Kind::Message(_))) {
            return self.items.push_front(item);
        }
        self.items.push_back(item);
    }

    /// Bytes that wait.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Writes what may leave: everything whose ticket is durable, except what follows an item that must wait from the
    /// same sender. Stops when `out` has `window_bytes` or more.
    pub fn flush(&mut self, durable: Ticket, window_bytes: usize, out: &mut Vec<u8>) {
        while out.len() < window_bytes
            && let Some(item) = self.items.front()
            && item_leaves(item, durable)
            && let Some(item) = self.items.pop_front()
        {
            self.held_bytes -= item.held_bytes();
            write(&item, out);
        }
        if self.items.is_empty() {
            // An idle connection holds no buffer.
            self.items = VecDeque::new();
            return;
        }
        if out.len() < window_bytes {
            self.overtake(durable, window_bytes, out);
        }
    }

    /// The first item waits for the disk: lets those of other senders pass it.
    fn overtake(&mut self, durable: Ticket, window_bytes: usize, out: &mut Vec<u8>) {
        let mut blocked: Vec<Option<Jid>> = Vec::new();
        let mut at = 0;
        while at < self.items.len() && out.len() < window_bytes {
            let Some(Item::Stanza(parcel)) = self.items.get(at) else {
                // Bytes of the stream, such as its end, pass nothing.
                return;
            };
            let sender = parcel.from.as_ref().map(Jid::bare);
            if parcel.after > durable || blocked.contains(&sender) {
                if !blocked.contains(&sender) {
                    blocked.push(sender);
                }
                at += 1;
            } else if let Some(item) = self.items.remove(at) {
                self.held_bytes -= item.held_bytes();
                write(&item, out);
            }
        }
    }

    /// The batches behind `durable` never happened: what showed them is withdrawn. Returns whose presence was among it.
    pub fn withdraw(&mut self, durable: Ticket) -> BTreeSet<Jid> {
        let mut senders = BTreeSet::new();
        let items = std::mem::take(&mut self.items);
        self.held_bytes = 0;
        for item in items {
            match item {
                Item::Stanza(parcel) if parcel.after > durable => {
                    if let (Kind::Presence(PresenceType::Available | PresenceType::Unavailable), Some(from)) =
                        (parcel.kind, &parcel.from)
                    {
                        senders.insert(from.bare());
                    }
                }
                item => self.push(item),
            }
        }
        senders
    }
}

fn item_leaves(item: &Item, durable: Ticket) -> bool {
    match item {
        Item::Raw(_) => true,
        Item::Stanza(p) => p.after <= durable,
    }
}

fn write(item: &Item, out: &mut Vec<u8>) {
    match item {
        Item::Raw(bytes) => out.extend_from_slice(bytes),
        Item::Stanza(p) => {
            crate::stanza::write_head(p.kind, p.to.as_ref(), out);
            out.extend_from_slice(&p.tail);
        }
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
        }))
    }

    fn flushed(queue: &mut OutQueue, durable: u64) -> String {
        let mut out = Vec::new();
        queue.flush(Ticket(durable), 1000, &mut out);
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
        assert!(q.withdraw(Ticket(1)).is_empty(), "a message is no presence");
        assert_eq!(flushed(&mut q, 1), "a2");
    }
}

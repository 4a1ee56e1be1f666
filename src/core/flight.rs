//! A stanza on its way through the phases, and as it waits for one connection.

use super::io::ConnId;
use super::session::SessionId;
use crate::budget::allocated;
use crate::jid::Jid;
use crate::stanza::{Kind, Stanza, StanzaError};
use crate::storage::Ticket;
use crate::xml::Element;
use std::cell::Cell;
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
    /// What an archive has written of this payload: the next need not do it again.
    pub written: Option<Box<(Rc<Element>, Rc<str>)>>,
}

/// Who uses stream management and has sent something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sender {
    /// A session of ours.
    Session(SessionId),
    /// Another server, on this connection.
    Server(ConnId),
}

/// A stanza of whoever uses stream management: what is owed to its sender once it is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Who sent it.
    pub sender: Sender,
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
            written: None,
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

/// Whether a client that nobody looks at (XEP-0352) gets a stanza now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Now, and before it all that was held back.
    Now,
    /// With the next that is urgent.
    Later,
    /// The same, and those that were held back before it with the same text mean nothing any more.
    Last(Box<str>),
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
    /// All behind the head. None while it is on the disk alone, in [`Keep::row`]: it is read when it is about to be
    /// written.
    pub tail: Option<Rc<[u8]>>,
    /// It leaves when this is durable.
    pub after: Ticket,
    /// A copy for another client, or a request that has its answer: it means nothing to anybody else.
    pub is_copy: bool,
    /// See [`crate::metrics::Left`].
    pub read_ms: u32,
    /// What hangs on its arrival.
    pub keep: Option<Box<Keep>>,
}

/// What hangs on the arrival of a parcel.
#[derive(Clone, Debug, Default)]
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
    /// Its row is durable, says the same, and has it whenever it is not about to be written: [`Parcel::shelve`].
    pub shelved: bool,
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

    /// Bytes that it holds in a queue; a shared tail counts for each holder, so that the sum is never too low.
    pub fn held_bytes(&self) -> usize {
        let keep = if self.keep.is_some() { const { allocated(size_of::<Keep>()) } } else { 0 };
        let tail = self.tail.as_ref().map_or(0, |tail| allocated(2 * size_of::<usize>() + tail.len()));
        tail + keep + const { allocated(size_of::<Self>()) } + size_of::<Item>()
    }

    /// Bytes that it has on the wire.
    pub fn written_bytes(&self) -> usize {
        let mut head = Vec::new();
        crate::stanza::write_head(self.kind, self.to.as_ref(), &mut head);
        head.len() + self.tail.as_ref().map_or(0, |tail| tail.len())
    }

    /// The stanza, read again. None where it is damaged, or on the disk alone; there
    /// [`Core::spool_stanza`](super::Core::spool_stanza) finds it.
    pub fn stanza(&self) -> Option<Stanza> {
        Stanza::of_tail(self.kind, self.to.as_ref(), self.tail.as_ref()?)
    }

    /// Leaves the text to the disk, if a row has it that is durable; no receipt waits then.
    pub fn shelve(&mut self, durable: Ticket) {
        if let Some(keep) = self.keep.as_mut().filter(|keep| keep.row.is_some() && keep.row_after <= durable) {
            keep.shelved = true;
            self.tail = None;
        }
    }
}

impl Item {
    /// A stanza that waits for nothing.
    pub fn of(stanza: &Stanza) -> Self {
        Self::Stanza(Box::new(Parcel {
            kind: stanza.kind,
            to: stanza.to.clone(),
            from: stanza.from.clone(),
            tail: Some(stanza.tail()),
            after: Ticket(0),
            is_copy: false,
            read_ms: 0,
            keep: None,
        }))
    }

    /// Bytes that the item holds.
    pub fn held_bytes(&self) -> usize {
        match self {
            Item::Raw(bytes) => allocated(bytes.capacity()) + size_of::<Self>(),
            Item::Enabled => size_of::<Self>(),
            Item::Stanza(p) => p.held_bytes(),
        }
    }
}

//! What should hold: every stanza that was sent, and every register that clients write and read.
//!
//! A register is one stored thing (the name of a contact, a private element, a vCard, whether an address is blocked).
//! Clients write to it at the same time, answers come late and writes may be lost, so a read has a set of right
//! answers: every value that is not surely overwritten, that is, by a write that was acknowledged before the read began
//! and came surely later than the one that wrote the value.

use super::nodes::Access;
use super::rooms::{Rooms, Stay};
use std::collections::BTreeMap;

/// A rule that must hold whatever happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// What was acknowledged is there, after a crash too.
    NothingLost,
    /// Messages from one full address to one session keep their order.
    OrderKept,
    /// `from` is the address of whoever really sent it.
    TrueSender,
    /// Nothing from a blocked address is seen.
    BlockedUnseen,
    /// Each request has exactly one answer.
    AnsweredOnce,
    /// No message comes twice, unless there was a crash.
    NotTwice,
    /// Queues keep their bounds; charges add up, and to nothing when all have left.
    Bounded,
    /// Nothing is shown before it is durable.
    NothingEarly,
    /// Both sides of a subscription agree, and clients know their rosters as they are stored.
    RosterAgrees,
    /// Who may see whom does, and nobody else.
    PresenceAgrees,
    /// A room shows what is in it to its occupants alone.
    RoomKept,
    /// A node shows what is in it to those alone who have access.
    AccessKept,
    /// Clients know of nodes what is stored.
    NodesAgree,
    /// An archive has each message once, in order, and shows what is stored.
    ArchiveKept,
    /// A shutdown closes all streams and then ends.
    EndsWell,
    /// No connection is refused or closed without a cause, and no bytes are out of form.
    NoBug,
}

/// A rule was broken.
#[derive(Debug)]
pub struct Violation {
    pub invariant: Invariant,
    pub text: String,
}

pub type Check<T = ()> = Result<T, Violation>;

/// Breaks a rule.
pub fn broken<T>(invariant: Invariant, text: impl Into<String>) -> Check<T> {
    Err(Violation { invariant, text: text.into() })
}

/// A stored thing of an account. An empty value means that there is nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The name of a contact in the roster.
    Name(String),
    /// A private element.
    Private(u8),
    VCard,
    /// "yes" for a blocked address.
    Block(String),
    /// What an account is to a room, whose register it is.
    Affiliation(String),
    /// An item, by the name of its node and its id.
    Item(String, String),
}

impl Key {
    /// Whether the store is looked into; what it holds of the others is read by clients alone.
    pub fn is_plain(&self) -> bool {
        !matches!(self, Self::Affiliation(_))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Open,
    Acknowledged,
    Refused,
    /// The connection ended before the answer.
    Unknown,
}

#[derive(Debug)]
pub struct Write {
    pub value: String,
    session: usize,
    pub sent: u64,
    /// When its answer arrived or its connection ended.
    pub done: Option<u64>,
    pub fate: Fate,
}

impl Write {
    /// True when this one was surely over before the other had an effect.
    pub fn before(&self, other: &Write) -> bool {
        self.done.is_some_and(|done| done < other.sent) || (self.session == other.session && self.sent < other.sent)
    }
}

/// Which write: register and number.
pub type WriteId = ((String, Key), usize);

#[derive(Default)]
pub struct Registers {
    map: BTreeMap<(String, Key), Vec<Write>>,
}

impl Registers {
    pub fn begin(&mut self, account: &str, key: Key, value: &str, session: usize, step: u64) -> WriteId {
        let at = (account.to_string(), key);
        let writes = self.map.entry(at.clone()).or_default();
        writes.push(Write { value: value.to_string(), session, sent: step, done: None, fate: Fate::Open });
        (at, writes.len() - 1)
    }

    pub fn end(&mut self, id: &WriteId, fate: Fate, step: u64) {
        if let Some(write) = self.map.get_mut(&id.0).and_then(|w| w.get_mut(id.1))
            && write.fate == Fate::Open
        {
            (write.fate, write.done) = (fate, Some(step));
        }
    }

    pub fn write(&self, id: &WriteId) -> &Write {
        &self.map[&id.0][id.1]
    }

    pub fn of(&self, account: &str, key: &Key) -> &[Write] {
        self.map.get(&(account.to_string(), key.clone())).map_or(&[], Vec::as_slice)
    }

    pub fn keys(&self) -> impl Iterator<Item = &(String, Key)> {
        self.map.keys()
    }

    /// True when a read that began at `since` may find `value`.
    pub fn may_hold(&self, account: &str, key: &Key, value: &str, since: u64) -> bool {
        let writes = self.of(account, key);
        let durable: Vec<&Write> =
            writes.iter().filter(|w| w.fate == Fate::Acknowledged && w.done.is_some_and(|done| done < since)).collect();
        let possible = |w: &&Write| w.fate != Fate::Refused && !durable.iter().any(|later| w.before(later));
        (value.is_empty() && durable.is_empty()) || writes.iter().filter(possible).any(|w| w.value == value)
    }

    /// True when a read that began at `since` must find `value`: it was sent after `from`, acknowledged before, and
    /// nothing else that may have happened came surely not before it.
    pub fn must_hold(&self, account: &str, key: &Key, value: &str, from: u64, since: u64) -> bool {
        let writes = self.of(account, key);
        let others = |w: &&Write| w.value != value && w.fate != Fate::Refused;
        writes.iter().any(|w| {
            let is_durable = w.fate == Fate::Acknowledged && w.done.is_some_and(|done| done < since);
            w.value == value && w.sent > from && is_durable && writes.iter().filter(others).all(|other| other.before(w))
        })
    }

    /// True when a read that began at `since` must find something.
    pub fn must_be(&self, account: &str, key: &Key, since: u64) -> bool {
        let mut values = self.of(account, key).iter().map(|w| &w.value).filter(|value| !value.is_empty());
        values.any(|value| self.must_hold(account, key, value, 0, since))
    }

    /// True when `stored` may be what `shown` is, or what came after it.
    pub fn may_follow(&self, account: &str, key: &Key, shown: &str, stored: &str) -> bool {
        let writes = self.of(account, key);
        let with = |value: &str| writes.iter().filter(move |w| w.value == value).collect::<Vec<_>>();
        let newer = with(stored);
        shown == stored || shown.is_empty() || with(shown).iter().any(|s| newer.iter().any(|n| !n.before(s)))
    }
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub enum What {
    Message,
    /// Of the types available and unavailable, without addressee.
    Presence,
    Directed,
    Subscription,
    RosterGet,
    BlockGet,
    PrivateGet(u8),
    VCardGet(String),
    /// A request that writes, or only wants an answer.
    Request,
    /// A request to another client, which may not answer.
    Peer,
    Block {
        jids: Vec<String>,
        on: bool,
    },
    RoomPresence,
    Groupchat,
    Unlock,
    /// Who has that affiliation?
    RoomList(&'static str),
    /// What is in that node of that account?
    Items(String, &'static str),
    /// That account may read a node from now on.
    Admit(String),
    /// The last page of one's own archive.
    Archive,
}

/// A stanza that a client has sent. Its number is its id.
#[derive(Debug)]
pub struct Sent {
    pub session: usize,
    pub step: u64,
    pub what: What,
    pub to: Option<String>,
    pub answers: u32,
    pub writes: Vec<WriteId>,
    /// A message that XEP-0160 would keep.
    pub is_kept: bool,
    /// That comes back when it is for a session that is not there.
    pub is_normal: bool,
    /// Stream management has told its sender that it is safe.
    pub counted: bool,
    /// Its sender has sent it again in another session, so that it may come twice.
    pub again: bool,
    /// A client of the addressee has read it.
    pub arrived: bool,
    /// The server has let an error go that answers it.
    pub refused: bool,
    /// It was written to a client without stream management that has gone.
    pub excused: bool,
}

impl Sent {
    pub fn new(session: usize, step: u64, what: What, to: Option<String>, writes: Vec<WriteId>) -> Self {
        let (is_kept, is_normal) = (false, false);
        let (counted, again, arrived, refused, excused) = (false, false, false, false, false);
        Self {
            session,
            step,
            what,
            to,
            answers: 0,
            writes,
            is_kept,
            is_normal,
            counted,
            again,
            arrived,
            refused,
            excused,
        }
    }

    /// True when the server owes an answer.
    pub fn is_owed(&self) -> bool {
        match self.what {
            What::Message | What::Presence | What::Directed | What::Subscription | What::Peer => false,
            What::RoomPresence | What::Groupchat => false,
            What::RoomList(_) | What::Unlock | What::Items(..) | What::Admit(_) => true,
            What::RosterGet | What::BlockGet | What::PrivateGet(_) | What::VCardGet(_) => true,
            What::Request | What::Block { .. } | What::Archive => true,
        }
    }
}

/// Name, subscription, ask, approved.
pub type ItemView = (String, String, bool, bool);

/// A bound resource from its beginning to its end, as its client sees it.
#[derive(Debug)]
pub struct Session {
    pub client: usize,
    /// When it was bound.
    pub began: u64,
    pub account: String,
    pub jid: String,
    /// Its client is there and its stream open.
    pub alive: bool,
    /// With stream management.
    pub managed: bool,
    /// It was resumed after a restart, which forgets what others of its account have read.
    pub restarted: bool,
    /// The last presence that it sent; none at first and after the unavailable one.
    pub priority: Option<i8>,
    /// It has heard itself being available.
    pub heard: bool,
    /// What it has seen may be old: it has been available before and gone, or got presence before it was available.
    pub unsure: bool,
    /// Result and pushes.
    pub roster: Option<BTreeMap<String, ItemView>>,
    /// Full addresses it sees as available.
    pub seen: BTreeMap<String, usize>,
    /// Blocked addresses, each with the step at which the server said so.
    pub blocked: BTreeMap<String, u64>,
    /// Rooms by their addresses.
    pub rooms: BTreeMap<String, Stay>,
    /// It has said that it wants to hear of nodes.
    pub wants: bool,
    /// Since when it surely hears of them.
    pub steady: Option<u64>,
    /// What it knows of items, by their owner.
    pub nodes: BTreeMap<(String, Key), String>,
    /// What has come of pages: of which query, the id in the archive, and which message.
    pub page: Vec<(usize, String, Option<usize>)>,
    /// Addresses that got directed presence.
    pub directed: Vec<String>,
    /// Messages that arrived by whichever way.
    pub messages: BTreeMap<usize, &'static str>,
    /// The newest message of each sender that came in each way to each address.
    pub newest: BTreeMap<(usize, Way, String), usize>,
}

/// How a message came to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    Straight,
    /// It was sent before the session began.
    Kept,
    /// It has waited for the session to be resumed.
    Waited,
}

#[derive(Default)]
pub struct Model {
    pub registers: Registers,
    pub sent: Vec<Sent>,
    pub sessions: Vec<Session>,
    /// The last crash or failed write: what came out of the spool before may come again, as the deletion was lost.
    pub trouble: u64,
    /// Account and message that came out of the spool, and to which session.
    pub spooled: BTreeMap<(String, usize), usize>,
    pub rooms: Rooms,
    pub access: Access,
    /// Who has sent `subscribed` to whom, and when first.
    pub granted: BTreeMap<(String, String), u64>,
}

impl Model {
    /// The stanza of that id.
    pub fn by_id(&self, id: &str) -> Option<(usize, &Sent)> {
        let number = id.strip_prefix('x')?.parse().ok()?;
        Some((number, self.sent.get(number)?))
    }

    /// A message of that id was handed to a client that will not read it.
    pub fn excuse(&mut self, id: String) {
        if let Some((number, _)) = self.by_id(&id) {
            self.sent[number].excused = true;
        }
    }

    /// True when the two accounts have ever tried to block each other, in whichever direction.
    pub fn ever_blocked(&self, a: &str, b: &str) -> bool {
        let tried = |account: &str, other: &str| {
            self.registers
                .keys()
                .any(|(owner, key)| owner == account && matches!(key, Key::Block(jid) if bare(jid) == other))
        };
        tried(a, b) || tried(b, a)
    }

    /// When `account` was last surely blocking `jid`: the acknowledged write that no unblocking one may have followed.
    pub fn surely_blocked(&self, account: &str, jid: &str) -> Option<&Write> {
        [jid, bare(jid)].into_iter().find_map(|jid| {
            let writes = self.registers.of(account, &Key::Block(jid.to_string()));
            let blocks = |w: &&Write| w.fate == Fate::Acknowledged && w.value == "yes";
            // One that the disk refused in the end had its effect until then.
            let lifted = |b: &Write| writes.iter().any(|w| w.value.is_empty() && !w.before(b));
            writes.iter().filter(blocks).find(|b| !lifted(b))
        })
    }

    /// The session is over: what it waited for will never be known.
    pub fn end_session(&mut self, session: usize, step: u64) {
        if let Some(s) = self.sessions.get_mut(session) {
            s.alive = false;
        }
        let open: Vec<WriteId> =
            self.sent.iter().filter(|s| s.session == session).flat_map(|s| s.writes.iter().cloned()).collect();
        for write in open {
            self.registers.end(&write, Fate::Unknown, step);
        }
    }
}

/// A full address without its resource.
pub fn bare(jid: &str) -> &str {
    jid.split_once('/').map_or(jid, |(bare, _)| bare)
}

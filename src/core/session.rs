//! Sessions: bound resources, and which account has which (RFC 6120 section 7, RFC 6121 section 4).

use super::io::ConnId;
use super::slab::{Key, Slab};
use crate::budget::{Charge, allocated};
use crate::jid::Jid;
use crate::stanza::Stanza;
use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;

/// One bound resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(Key);

/// A session that is available.
#[derive(Clone, Debug)]
pub struct Available {
    /// -128 to 127; below zero it gets no messages that are for the bare address.
    pub priority: i8,
    /// The last presence as it was broadcast, without addressee.
    pub stanza: Stanza,
}

/// A client that is logged in under a full address.
#[derive(Debug)]
pub struct Session {
    /// Full address.
    pub jid: Jid,
    /// Where its stanzas leave; none while it waits to be resumed (XEP-0198).
    pub conn: Option<ConnId>,
    /// By what name it waits, or would.
    pub resume_id: Option<Rc<str>>,
    /// None until the first presence and after the last (RFC 6121 sections 4.2 and 4.5).
    pub available: Option<Available>,
    /// It has asked for the roster and so gets pushes (RFC 6121 section 2.2).
    pub interested: bool,
    /// Nobody looks at its client (XEP-0352): what can wait is held back. Never while it waits to be resumed.
    pub inactive: bool,
    /// Its client has read the archive, or will: it needs no offline messages that are there.
    pub reads_archive: bool,
    /// Who got directed presence and must get the unavailable one (RFC 6121 section 4.6).
    pub directed: Directed,
    /// Of what it holds.
    pub charge: Charge,
}

impl Session {
    /// Bytes that it holds.
    pub fn held_bytes(&self) -> usize {
        let available = self.available.as_ref().map_or(0, |available| available.stanza.heap_bytes());
        let id = self.resume_id.as_ref().map_or(0, |id| allocated(id.len() + RC_BYTES));
        size_of::<Self>() + self.jid.heap_bytes() + id + available + self.directed.bytes as usize
    }
}

/// Addresses that got directed presence.
#[derive(Debug, Default)]
pub struct Directed {
    jids: BTreeSet<Jid>,
    bytes: u32,
}

/// What an address takes beside its text: its share of a node of the tree, which may be half empty.
const NODE_BYTES: usize = 2 * size_of::<Jid>();

/// The two counts in front of what is shared.
const RC_BYTES: usize = 16;

impl Directed {
    fn cost(jid: &Jid) -> u32 {
        (NODE_BYTES + jid.heap_bytes()) as u32
    }

    /// Adds an address.
    pub fn insert(&mut self, jid: Jid) {
        let bytes = Self::cost(&jid);
        if self.jids.insert(jid) {
            self.bytes += bytes;
        }
    }

    /// Takes an address out.
    pub fn remove(&mut self, jid: &Jid) {
        if let Some(jid) = self.jids.take(jid) {
            self.bytes -= Self::cost(&jid);
        }
    }

    /// Takes those out for which `covers` holds.
    pub fn extract(&mut self, covers: impl Fn(&Jid) -> bool) -> Vec<Jid> {
        let taken: Vec<Jid> = self.jids.extract_if(.., |jid| covers(jid)).collect();
        self.bytes -= taken.iter().map(Self::cost).sum::<u32>();
        taken
    }

    /// True when it has been told.
    pub fn contains(&self, jid: &Jid) -> bool {
        self.jids.contains(jid)
    }

    /// Number of addresses.
    pub fn len(&self) -> usize {
        self.jids.len()
    }

    /// True without addresses.
    pub fn is_empty(&self) -> bool {
        self.jids.is_empty()
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &Jid> {
        self.jids.iter()
    }
}

impl FromIterator<Jid> for Directed {
    fn from_iter<I: IntoIterator<Item = Jid>>(jids: I) -> Self {
        let mut directed = Self::default();
        jids.into_iter().for_each(|jid| directed.insert(jid));
        directed
    }
}

/// All sessions, by key and by account.
#[derive(Debug, Default)]
pub struct Sessions {
    slab: Slab<Session>,
    /// In the order of their bare addresses, and of being bound. One block of memory, as [`super::flat::Flat`] is.
    by_account: Vec<SessionId>,
}

impl Sessions {
    /// Adds a session. The caller has made sure that no other has the address.
    pub fn add(&mut self, jid: Jid, conn: ConnId) -> SessionId {
        self.insert(Session {
            jid,
            conn: Some(conn),
            resume_id: None,
            available: None,
            interested: false,
            inactive: false,
            reads_archive: false,
            directed: Directed::default(),
            charge: Charge::default(),
        })
    }

    /// As [`Sessions::add`], with all that a stored session brings along.
    pub fn insert(&mut self, session: Session) -> SessionId {
        let at = self.range(&session.jid).end;
        let id = SessionId(self.slab.insert(session));
        self.by_account.insert(at, id);
        id
    }

    /// Takes a session out.
    pub fn remove(&mut self, id: SessionId) -> Option<Session> {
        let range = self.range(&self.get(id)?.jid);
        let at = range.start + self.by_account[range].iter().position(|other| *other == id)?;
        self.by_account.remove(at);
        if self.by_account.len() < self.by_account.capacity() / 4 {
            self.by_account.shrink_to(self.by_account.len() * 2);
        }
        self.slab.remove(id.0)
    }

    /// The session.
    pub fn get(&self, id: SessionId) -> Option<&Session> {
        self.slab.get(id.0)
    }

    /// The session, to change.
    pub fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.slab.get_mut(id.0)
    }

    /// Sessions of the account of `jid` in the order in which they were bound; a resource in `jid` is ignored.
    pub fn of(&self, jid: &Jid) -> &[SessionId] {
        &self.by_account[self.range(jid)]
    }

    /// Where the sessions of the account of `jid` stand, or would.
    fn range(&self, jid: &Jid) -> Range<usize> {
        let bare = |id: &SessionId| self.get(*id).map_or("", |session| session.jid.bare_str());
        let sought = jid.bare_str();
        let start = self.by_account.partition_point(|id| bare(id) < sought);
        let len = self.by_account[start..].iter().take_while(|id| bare(id) == sought).count();
        start..start + len
    }

    /// Those sessions of the account for which `pick` holds.
    pub fn of_where(&self, jid: &Jid, pick: impl Fn(&Session) -> bool) -> Vec<SessionId> {
        self.of(jid).iter().copied().filter(|id| self.get(*id).is_some_and(&pick)).collect()
    }

    /// The session of a full address.
    pub fn find(&self, full: &Jid) -> Option<SessionId> {
        self.of(full).iter().copied().find(|id| self.get(*id).is_some_and(|s| s.jid == *full))
    }

    /// Available sessions of the account with the highest priority among those of zero or more.
    pub fn highest(&self, account: &Jid) -> Vec<SessionId> {
        let top = self.of(account).iter().filter_map(|id| self.get(*id)?.available.as_ref()).map(|a| a.priority).max();
        self.of_where(account, |s| s.available.as_ref().is_some_and(|a| a.priority >= 0 && Some(a.priority) == top))
    }

    /// The session that waits to be resumed under this name, or has it for later, among those of an account.
    pub fn resumable(&self, account: &Jid, resume_id: &str) -> Option<SessionId> {
        self.of_where(account, |s| s.resume_id.as_deref() == Some(resume_id)).pop()
    }

    /// All sessions, collected.
    pub fn ids(&self) -> Vec<SessionId> {
        self.slab.keys().into_iter().map(SessionId).collect()
    }

    /// Bytes of the tables beside those of sessions.
    pub fn spare_bytes(&self) -> usize {
        self.slab.spare_bytes() + self.by_account.capacity() * size_of::<SessionId>()
    }

    /// Number of sessions.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// True without sessions.
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Number of accounts with a session.
    pub fn accounts_len(&self) -> usize {
        let bare = |id: &SessionId| self.get(*id).map(|session| session.jid.bare_str());
        self.by_account.chunk_by(|a, b| bare(a) == bare(b)).count()
    }
}

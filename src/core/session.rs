//! Sessions: bound resources, and which account has which (RFC 6120 section 7, RFC 6121 section 4).

use super::io::ConnId;
use super::slab::{Key, Slab};
use crate::jid::Jid;
use crate::stanza::Stanza;
use std::collections::{BTreeMap, BTreeSet};
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
    /// Who got directed presence and must get the unavailable one (RFC 6121 section 4.6).
    pub directed: BTreeSet<Jid>,
}

/// All sessions, by key and by account.
#[derive(Debug, Default)]
pub struct Sessions {
    slab: Slab<Session>,
    by_account: BTreeMap<Jid, Vec<SessionId>>,
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
            directed: BTreeSet::new(),
        })
    }

    /// As [`Sessions::add`], with all that a stored session brings along.
    pub fn insert(&mut self, session: Session) -> SessionId {
        let account = session.jid.bare();
        let id = SessionId(self.slab.insert(session));
        self.by_account.entry(account).or_insert_with(|| Vec::with_capacity(1)).push(id);
        id
    }

    /// Takes a session out.
    pub fn remove(&mut self, id: SessionId) -> Option<Session> {
        let session = self.slab.remove(id.0)?;
        let account = session.jid.bare();
        if let Some(ids) = self.by_account.get_mut(&account) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_account.remove(&account);
            }
        }
        Some(session)
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
        let found = if jid.is_bare() { self.by_account.get(jid) } else { self.by_account.get(&jid.bare()) };
        found.map_or(&[], Vec::as_slice)
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
        self.by_account.len()
    }
}

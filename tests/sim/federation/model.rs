//! What should hold between servers: every message and every question that a client has sent, and what may have come
//! between.

use std::collections::BTreeMap;

/// A message. Its number is its id, behind an `m`.
#[derive(Debug)]
pub struct Message {
    /// Who sent it.
    pub session: usize,
    /// To whom.
    pub to: String,
    pub step: u64,
    /// Stream management has told its sender that it is safe.
    pub counted: bool,
    /// How often clients of the addressee have read it.
    pub read: u32,
    /// Errors that its sender has read.
    pub errors: u32,
}

/// A request. Its number is its id, behind a `q`.
#[derive(Debug)]
pub struct Question {
    pub session: usize,
    pub to: String,
    pub step: u64,
    pub answers: u32,
    /// Somebody owes an answer, if nothing of his is lost.
    pub owed: bool,
}

/// A bound resource from its beginning to its end.
#[derive(Debug)]
pub struct Session {
    pub client: usize,
    pub account: String,
    pub jid: String,
    pub alive: bool,
    /// The newest message of each sender: those that have waited for an account are ordered by themselves.
    pub newest: BTreeMap<(usize, bool), usize>,
    /// Addresses that its account has blocked, each with the step at which it was told so.
    pub blocked: BTreeMap<String, u64>,
}

#[derive(Default)]
pub struct Model {
    pub messages: Vec<Message>,
    pub questions: Vec<Question>,
    pub sessions: Vec<Session>,
    /// When a server last crashed, or its disk refused something.
    pub trouble: BTreeMap<usize, u64>,
    /// When a connection between two servers last ended, the lower number first.
    pub cut: BTreeMap<(usize, usize), u64>,
    /// When an account last lost a session.
    pub left: BTreeMap<String, u64>,
    /// Who has ever tried to block whom.
    pub blocks: Vec<(String, String)>,
}

impl Model {
    pub fn pair(a: usize, b: usize) -> (usize, usize) {
        (a.min(b), a.max(b))
    }

    /// True when a server was in trouble since.
    pub fn troubled(&self, server: usize, since: u64) -> bool {
        self.trouble.get(&server).is_some_and(|at| *at >= since)
    }

    /// True when a connection of two servers has ended since.
    pub fn was_cut(&self, a: usize, b: usize, since: u64) -> bool {
        self.cut.get(&Self::pair(a, b)).is_some_and(|at| *at >= since)
    }

    /// True when an account has lost a session since.
    pub fn has_left(&self, account: &str, since: u64) -> bool {
        self.left.get(account).is_some_and(|at| *at >= since)
    }
}

/// The domain of an address.
pub fn domain(jid: &str) -> &str {
    let bare = crate::model::bare(jid);
    bare.split_once('@').map_or(bare, |(_, domain)| domain)
}

//! Who speaks with whom, and why nobody does.

use crate::stanza::Condition;
use std::fmt;

/// A domain of another server, and one of ours. Both are prepared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// Ours.
    pub local: Box<str>,
    /// The other one.
    pub remote: Box<str>,
}

impl Pair {
    /// A pair of prepared domains.
    pub fn new(local: &str, remote: &str) -> Self {
        Self { local: local.into(), remote: remote.into() }
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {}", self.local, self.remote)
    }
}

/// Why a stream cannot be had, in a way that another attempt would not mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What senders of waiting stanzas are told.
    pub condition: Condition,
    /// For people.
    pub text: &'static str,
}

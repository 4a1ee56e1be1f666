//! What modules and the pipeline say to each other.

use crate::stanza::StanzaError;

/// A specification that a module follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xep {
    /// Number.
    pub number: u16,
    /// Version of the text that was followed.
    pub version: &'static str,
}

/// A table of the store that a module owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// [`Table::ID`](crate::storage::Table::ID), unique in the program.
    pub id: u8,
    /// [`Table::NAME`](crate::storage::Table::NAME).
    pub name: &'static str,
}

/// What `couplet about` says of a module.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// File, feature and configuration section.
    pub name: &'static str,
    /// What it follows.
    pub xeps: &'static [Xep],
    /// Its tables.
    pub tables: &'static [TableInfo],
}

/// Whom a request may be addressed to for a module to answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A host of ours.
    Host,
    /// An account, one's own or another's: the handler looks at [`Request::is_own`].
    Account,
}

/// One request that a module answers: scope, namespace and name of the child.
pub type IqRoute = (Scope, &'static str, &'static str);

/// Which way a stanza goes, seen from the account that is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dir {
    /// From one of its sessions.
    Sent,
    /// To it.
    Received,
}

/// What happens to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// It can take messages for the bare address, and could not before.
    Reachable,
    /// It has broadcast available presence, the first or a later one.
    Available,
    /// It was available, and has said that it is not any more.
    Unavailable,
    /// It has been resumed, perhaps after a restart.
    Resumed,
    /// Its client has acknowledged something after [`Module::unseen`].
    OnTime,
    /// It has ended; the key is still valid.
    Closed,
}

/// What a module does with a message that nobody can take now.
#[derive(Debug)]
pub enum Undelivered {
    /// Nothing.
    NotMine,
    /// It is kept; the reason is logged.
    Kept(&'static str),
    /// It goes nowhere, and the sender is not told; the reason is logged.
    Dropped(&'static str),
    /// It goes back.
    Refused(StanzaError),
}

/// A value of the configuration that does not fit to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// Name of the section, or of the row: `rules.2`.
    pub section: String,
    /// The key.
    pub key: &'static str,
    /// What is wrong, and what to write.
    pub text: String,
}

/// What is to be said of a configuration whose values are all right by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    /// What keeps the server from starting.
    pub wrong: Vec<Misfit>,
    /// What does not.
    pub warnings: Vec<String>,
}

//! Registration: who asks for an account before there is one, and what a request leads to that no step can do alone.

#[cfg(feature = "commands")]
use super::commands::{Act, Run};
use crate::jid::Jid;
use crate::stanza::Stanza;
use crate::xml::ElementRef;
use std::fmt;
use std::net::IpAddr;
use zeroize::Zeroizing;

/// A request of somebody who has not logged in (XEP-0077 section 3.1.1).
#[derive(Debug)]
pub struct Stranger<'a> {
    /// The request, to the host.
    pub stanza: &'a Stanza,
    /// Its only child.
    pub child: ElementRef<'a>,
    /// The host of the stream.
    pub host: &'a Jid,
    /// Where he comes from.
    pub peer: IpAddr,
    /// True for a set.
    pub is_set: bool,
}

/// What is remembered of a stranger for as long as his stream lasts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visit {
    /// The invitation that he has shown (XEP-0445).
    pub token: Option<String>,
    /// An account has been made for him on this stream.
    pub has_registered: bool,
    /// He got the form, and with it time to fill it in.
    pub has_form: bool,
}

/// What a handler asks of the engine. It has answered with [`Answer::Later`](super::Answer::Later).
#[derive(Debug)]
pub enum Ask {
    /// Hash a password and store its keys. The request is answered when they are stored.
    Password(NewPassword),
    /// Delete the account that asks, close its sessions, and answer.
    Delete,
    /// Do what an administrator wants, and answer his command with a note of what came of it.
    #[cfg(feature = "commands")]
    Administer(Act, Run),
}

/// A password that becomes an account's.
pub struct NewPassword {
    /// Bare address.
    pub account: Jid,
    /// As [`prepare_password`](crate::stream::sasl::keys::prepare_password) returned it.
    pub password: Zeroizing<String>,
    /// What for.
    pub purpose: Purpose,
    /// The invitation that allows it and is used up by it.
    pub token: Option<String>,
}

/// What a password is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An account that does not exist yet.
    Register,
    /// One that does. Its other sessions are closed.
    Change,
}

/// Shows no password.
impl fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewPassword").field("account", &self.account).field("purpose", &self.purpose).finish()
    }
}

/// An account that somebody has made for himself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newcomer {
    /// Bare address.
    pub account: Jid,
    /// From where it was made.
    pub peer: IpAddr,
}

//! What the engine and the part of the shell that speaks HTTP have to tell each other beside streams.

use super::Core;
use super::accounts::Accounts;
use super::endpoints::Delivery;
use super::io::ConnId;
use super::slots::Owned;
use crate::jid::Jid;
use crate::storage::{StoreError, Ticket};
use ring::hmac;

/// What the shell's side of HTTP is to do.
#[derive(Debug)]
pub enum Order {
    /// Say to that connection what came of what it has brought to an endpoint.
    Deliver(ConnId, Delivery),
    /// Look at all files of users, and say by [`Engine::files_seen`](crate::engine::Engine::files_seen) what there is.
    Sweep,
    /// Delete the files of users with these ids.
    Remove(Vec<String>),
}

/// State of that.
pub struct Web {
    /// What slots for files are signed with.
    pub slot_key: [u8; 32],
    /// What endpoints of applications are sealed with.
    pub endpoint_key: [u8; 32],
    /// What all files together take on the disk.
    pub files_bytes: u64,
    /// An account is being deleted: some files may be nobody's.
    pub sweeps: bool,
    /// Files whose owners are no more, by their ids, and what must be durable before they go.
    pub unowned: Vec<(Ticket, Vec<String>)>,
    /// What came of what was brought to endpoints, for the connections that have brought it.
    pub delivered: Vec<(ConnId, Delivery)>,
}

impl Web {
    /// With keys that are made of the server's secret, each for one thing alone.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self {
            slot_key: key(secret, b"couplet: slots for files"),
            endpoint_key: key(secret, b"couplet: endpoints"),
            files_bytes: 0,
            sweeps: false,
            unowned: Vec::new(),
            delivered: Vec::new(),
        }
    }
}

fn key(secret: &[u8; 32], purpose: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), purpose);
    let mut key = [0; 32];
    key.iter_mut().zip(tag.as_ref()).for_each(|(byte, of_tag)| *byte = *of_tag);
    key
}

impl Core {
    /// Whether the account is there that a file was granted to: it, and not one that got its name later.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn is_owned(&mut self, file: &Owned) -> Result<bool, StoreError> {
        let Ok(owner) = Jid::parse(&file.owner) else { return Ok(false) };
        let account = self.view.get::<Accounts>(owner.bare_str(), b"")?;
        Ok(account.is_some_and(|account| account.created_ms / 1000 <= file.granted_s))
    }
}

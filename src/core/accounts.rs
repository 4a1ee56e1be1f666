//! Accounts and their keys.

use super::Core;
use crate::jid::Jid;
use crate::storage::{Decoder, Encoder, Record, StoreError, Table};
use crate::stream::sasl::{ScramKeys, StoredKeys};

/// Bytes that no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub Vec<u8>);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "({} bytes)", self.0.len())
    }
}

impl Record for Hidden {
    fn encode(&self, out: &mut Encoder) {
        self.0.encode(out);
    }

    fn decode(d: &mut Decoder<'_>) -> Option<Self> {
        d.get().map(Self)
    }
}

crate::record! {
    /// Keys of one hash function, as RFC 5802 section 3 wants them stored: no password.
    pub struct Keys {
        /// Random bytes.
        pub salt: Vec<u8>,
        /// Rounds of PBKDF2.
        pub iterations: u32,
        /// `StoredKey`.
        pub stored_key: Hidden,
        /// `ServerKey`.
        pub server_key: Hidden,
    }
    /// What is stored of an account.
    pub struct Account {
        /// For SCRAM-SHA-1.
        pub sha1: Option<Keys>,
        /// For SCRAM-SHA-256.
        pub sha256: Option<Keys>,
        /// When it was made, in milliseconds since 1970.
        pub created_ms: u64,
    }
    /// A row that only exists.
    pub struct Present {}
}

/// Owner: the account. One row, no sub key.
pub struct Accounts;
impl Table for Accounts {
    const ID: u8 = 1;
    const NAME: &'static str = "accounts";
    type Value = Account;
}

/// Owner: the host. Sub key: the localpart. So that accounts can be listed.
pub struct AccountIndex;
impl Table for AccountIndex {
    const ID: u8 = 2;
    const NAME: &'static str = "account-index";
    type Value = Present;
}

/// Owner: the host. Sub key: the localpart of an account that an invitation has made an administrator's.
pub struct Admins;
impl Table for Admins {
    const ID: u8 = 9;
    const NAME: &'static str = "admins";
    type Value = Present;
}

impl From<ScramKeys> for Keys {
    fn from(k: ScramKeys) -> Self {
        Self {
            salt: k.salt,
            iterations: k.iterations,
            stored_key: Hidden(k.stored_key),
            server_key: Hidden(k.server_key),
        }
    }
}

impl From<Keys> for ScramKeys {
    fn from(k: Keys) -> Self {
        Self { salt: k.salt, iterations: k.iterations, stored_key: k.stored_key.0, server_key: k.server_key.0 }
    }
}

impl Core {
    /// True when there is an account of that bare address.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn account_exists(&mut self, jid: &Jid) -> Result<bool, StoreError> {
        if jid.node().is_none() || !self.is_local(jid) {
            return Ok(false);
        }
        // An account with a session exists: deleting one closes them.
        if !self.sessions.of(jid).is_empty() {
            return Ok(true);
        }
        Ok(self.view.get::<Accounts>(jid.bare_str(), b"")?.is_some())
    }

    /// When an account was made, in milliseconds since 1970; none when it does not exist, or nobody knows.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn account_created_ms(&mut self, jid: &Jid) -> Result<Option<u64>, StoreError> {
        let account = self.view.get::<Accounts>(jid.bare_str(), b"")?;
        Ok(account.map(|account| account.created_ms).filter(|at| *at > 0))
    }

    /// Keys of an account, none when it does not exist.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn account_keys(&mut self, bare: &str) -> Result<Option<StoredKeys>, StoreError> {
        let account = self.view.get::<Accounts>(bare, b"")?;
        Ok(account.map(|a| StoredKeys { sha1: a.sha1.map(Into::into), sha256: a.sha256.map(Into::into) }))
    }

    /// Keys of the account of a host that comes at or behind a localpart in their order, or of the first one; none
    /// without accounts.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn account_behind(&mut self, host: &str, place: &str) -> Result<StoredKeys, StoreError> {
        let next = match self.view.next_sub::<AccountIndex>(host, place.as_bytes())? {
            Some(node) => Some(node),
            None => self.view.next_sub::<AccountIndex>(host, b"")?,
        };
        let bare = next.and_then(|node| Some(format!("{}@{host}", String::from_utf8(node).ok()?)));
        Ok(match bare {
            Some(bare) => self.account_keys(&bare)?.unwrap_or_default(),
            None => StoredKeys::default(),
        })
    }

    /// Writes an account with new keys; one that exists keeps its date, and loses the tokens of its old password.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn account_put(&mut self, jid: &Jid, sha1: ScramKeys, sha256: ScramKeys) -> Result<(), StoreError> {
        let owner = jid.bare_str();
        let created_ms = match self.view.get::<Accounts>(owner, b"")? {
            Some(old) => old.created_ms,
            None => u64::try_from(self.now.wall_ms).unwrap_or(0),
        };
        let account = Account { sha1: Some(sha1.into()), sha256: Some(sha256.into()), created_ms };
        self.view.put::<Accounts>(owner, b"", &account);
        self.fast_end(owner)?;
        let node = jid.node().unwrap_or_default();
        self.view.put::<AccountIndex>(jid.domain(), node.as_bytes(), &Present {});
        Ok(())
    }

    /// Adds keys for SCRAM-SHA-256 to an account that has none.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn account_upgrade(&mut self, bare: &str, sha256: ScramKeys) -> Result<(), StoreError> {
        if let Some(account) = self.view.get::<Accounts>(bare, b"")?
            && account.sha256.is_none()
        {
            self.view.put::<Accounts>(bare, b"", &Account { sha256: Some(sha256.into()), ..account });
        }
        Ok(())
    }

    /// Removes an account and all that any table has of it. The caller has closed its sessions and told its contacts.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn account_delete(&mut self, jid: &Jid) -> Result<(), StoreError> {
        self.delete_owner(jid.bare_str())?;
        self.invites_forget(&jid.bare())?;
        let node = jid.node().unwrap_or_default().as_bytes();
        self.view.delete::<AccountIndex>(jid.domain(), node);
        self.view.delete::<Admins>(jid.domain(), node);
        Ok(())
    }

    /// True for an administrator: `admins` of the configuration names him, or an invitation has made him one.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn is_admin(&mut self, jid: &Jid) -> Result<bool, StoreError> {
        if self.settings.admins.iter().any(|admin| admin.same_bare(jid)) {
            return Ok(true);
        }
        match jid.node() {
            Some(node) if self.is_local(jid) => self.view.contains::<Admins>(jid.domain(), node.as_bytes()),
            _ => Ok(false),
        }
    }

    /// Administrators: those that the configuration names, then those that invitations have made at a host.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn admins(&mut self, host: &str) -> Result<Vec<Jid>, StoreError> {
        let mut admins = self.settings.admins.clone();
        for (node, _) in self.view.list::<Admins>(host, usize::MAX)? {
            let jid = std::str::from_utf8(&node).ok().and_then(|node| Jid::parse(&format!("{node}@{host}")).ok());
            admins.extend(jid.filter(|jid| !self.settings.admins.contains(jid)));
        }
        Ok(admins)
    }

    /// Takes away the right of an administrator that an invitation has given; false when he has none of that kind.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn demote(&mut self, jid: &Jid) -> Result<bool, StoreError> {
        let node = jid.node().unwrap_or_default().as_bytes();
        let had = self.view.contains::<Admins>(jid.domain(), node)?;
        self.view.delete::<Admins>(jid.domain(), node);
        Ok(had)
    }

    /// Makes an account one of an administrator of its host.
    pub fn promote(&mut self, jid: &Jid) {
        self.view.put::<Admins>(jid.domain(), jid.node().unwrap_or_default().as_bytes(), &Present {});
    }

    /// Localparts of the accounts of a host, in order.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn account_list(&mut self, host: &str) -> Result<Vec<String>, StoreError> {
        let rows = self.view.list::<AccountIndex>(host, usize::MAX)?;
        Ok(rows.into_iter().filter_map(|(sub, _)| String::from_utf8(sub).ok()).collect())
    }
}

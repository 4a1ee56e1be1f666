//! Moving house: what an account or a room has, in a form that no server owns, and how it comes in and goes out.
//!
//! Each table is written and read by its own code: what the core owns here and in
//! [`pubsub`](super::pubsub), what a module owns by [`Module::take_in`](crate::modules::Module::take_in). Taking in
//! the same again changes nothing; what is here and differs stays, unless it is to be replaced.

use super::Core;
use super::accounts::{Account, AccountIndex, Accounts, Admins, Keys, Present};
use super::roster::{Item, Items, Version, Versions};
use super::spool::{self, Rows};
use super::vcard::{Stored, VCards};
use crate::jid::Jid;
use crate::setting::Secret;
use crate::stanza::form::Values;
use crate::stanza::{Kind, PresenceType, Stanza, StanzaError};
use crate::storage::{StoreError, Table};
use crate::stream::sasl::ScramKeys;
use crate::stream::sasl::keys::{HashJob, HashOutcome, HashWork, SALT_BYTES, ScramHash, prepare_password, run};
use crate::xml::Element;
use std::collections::BTreeSet;
use std::fmt;

/// Something that an account or a room has.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// The account itself. Without keys nobody can log in until a password is set.
    Account {
        /// For SCRAM-SHA-1.
        sha1: Option<ScramKeys>,
        /// For SCRAM-SHA-256.
        sha256: Option<ScramKeys>,
        /// The password itself, where it was kept: keys are made of it.
        password: Option<Secret>,
        /// When it was made, in milliseconds since 1970, if that is known.
        created_ms: Option<u64>,
        /// Nobody may log in there. Here it has no password then, until it is given one.
        disabled: bool,
    },
    /// It is an administrator's.
    Administrator,
    /// Another role, which is not that of all.
    OtherRole,
    /// A contact.
    Contact {
        /// Bare.
        jid: Jid,
        /// What is stored of him.
        item: Item,
        /// His request for a subscription that waits for an answer, as it came; it can be made anew.
        request: Option<Box<Stanza>>,
    },
    /// How often the roster has changed. Comes behind the contacts.
    RosterVersion(u64),
    /// The vCard (XEP-0054).
    VCard(Element),
    /// An element of private storage (XEP-0049).
    Private(Element),
    /// Blocked addresses (XEP-0191).
    Blocked(Vec<Jid>),
    /// When it was connected last, in milliseconds since 1970 (XEP-0012).
    LastSeen(u64),
    /// A message that waits for it (XEP-0160).
    Offline {
        /// The message.
        message: Box<Stanza>,
        /// Since when, in milliseconds since 1970.
        wall_ms: i64,
    },
    /// A node (XEP-0060).
    Node(Box<NodePiece>),
    /// An item of a node. Comes behind its node, older ones before newer ones.
    NodeItem(Box<ItemPiece>),
    /// A registration for push notifications (XEP-0357).
    Push {
        /// The service.
        jid: Jid,
        /// Its node; empty for none.
        node: String,
        /// The form of options to publish with.
        options: Option<Element>,
    },
    /// What it wants archived, as `<prefs/>` (XEP-0441); without a default, that of the server holds.
    ArchivePrefs(Element),
    /// A message of its archive (XEP-0313). Older ones come before newer ones.
    Archived(Box<ArchivedPiece>),
    /// A room (XEP-0045).
    Room(Box<RoomPiece>),
    /// The vCard of a room (XEP-0486).
    RoomCard(Element),
    /// The same of the archive of a room.
    RoomArchived(Box<ArchivedPiece>),
    /// Something that was said in a room, for its history. Older ones come before newer ones.
    RoomLine {
        /// From whom in the room.
        message: Box<Stanza>,
        /// When, in milliseconds since 1970.
        wall_ms: i64,
    },
}

/// A message of an archive.
#[derive(Clone, Debug, PartialEq)]
pub struct ArchivedPiece {
    /// The id by which clients know it.
    pub id: String,
    /// When it was archived, in milliseconds since 1970.
    pub wall_ms: u64,
    /// The other side; in a room who has said it, where that is known.
    pub with: Option<Jid>,
    /// In a room: affiliation and role that he had, with a space between; empty for nothing known.
    pub standing: String,
    /// The message.
    pub message: Stanza,
}

/// A node with those who have to do with it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodePiece {
    /// Its name.
    pub name: String,
    /// Its configuration, as fields of the form of XEP-0060 section 17.4.4.
    pub fields: Vec<Values>,
    /// Bare addresses with the value of the attribute `affiliation`.
    pub affiliations: Vec<(Jid, String)>,
    /// Who has subscribed.
    pub subscribers: Vec<Jid>,
    /// Who has asked to be subscribed, and waits for an owner's answer.
    pub asked: Vec<Jid>,
}

/// An item of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemPiece {
    /// Name of the node.
    pub node: String,
    /// Its id.
    pub id: String,
    /// Who has published it; nobody is the account itself.
    pub publisher: Option<Jid>,
    /// What it holds.
    pub payload: Option<Element>,
    /// When it was published, in milliseconds since 1970; 0 where nobody knows.
    pub at_ms: u64,
}

/// A room with those who have to do with it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoomPiece {
    /// Its configuration, as fields of the form of XEP-0045 section 10.2.
    pub fields: Vec<Values>,
    /// Those with an affiliation.
    pub standings: Vec<StandingPiece>,
    /// Empty for none.
    pub subject: String,
    /// Nickname of who set it.
    pub subject_nick: String,
    /// When, in milliseconds since 1970.
    pub subject_ms: u64,
}

/// What somebody is in a room.
#[derive(Clone, Debug, PartialEq)]
pub struct StandingPiece {
    /// Bare, or a domain.
    pub jid: Jid,
    /// The value of the attribute `affiliation`.
    pub affiliation: String,
    /// Registered nickname; empty for none.
    pub nick: String,
    /// Empty for none.
    pub reason: String,
}

/// What became of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is for somebody else.
    NotMine,
    /// It was not here.
    New,
    /// It was here as it is.
    Same,
    /// Another one is here, and stays.
    Stays,
    /// Another one was here.
    Replaced,
    /// It is no loss that it stays away, and why.
    Left(&'static str),
}

/// Why a piece was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The reason, for people.
    Because(String),
    /// Storage has failed: nothing of the account or room at hand is taken.
    Store(StoreError),
}

impl Refusal {
    /// For people.
    pub fn because(why: impl Into<String>) -> Self {
        Self::Because(why.into())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Because(why) => f.write_str(why),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<StanzaError> for Refusal {
    fn from(error: StanzaError) -> Self {
        Self::Because(match &error.text {
            Some(text) => text.to_string(),
            None => error.condition.as_str().to_string(),
        })
    }
}

/// How pieces of one account or room are taken in.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// What is here and differs goes.
    pub replace: bool,
    /// The account was not here before.
    pub is_new: bool,
    /// Nodes that were not here before: all that they have came with them.
    pub fresh: BTreeSet<String>,
}

/// What came of a piece.
pub type Outcome = Result<Taken, Refusal>;

/// Which of two that differ stays.
pub fn verdict(replace: bool) -> Taken {
    if replace { Taken::Replaced } else { Taken::Stays }
}

impl Core {
    /// Writes a row that is not here, or that is to be replaced.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn take_row<T: Table>(&mut self, owner: &str, sub: &[u8], value: &T::Value, replace: bool) -> Outcome
    where
        T::Value: PartialEq,
    {
        let taken = match self.view.get::<T>(owner, sub)? {
            Some(old) if old == *value => return Ok(Taken::Same),
            Some(_) => verdict(replace),
            None => Taken::New,
        };
        if taken != Taken::Stays {
            self.view.put::<T>(owner, sub, value);
        }
        Ok(taken)
    }

    /// Takes in what the core keeps of an account.
    ///
    /// # Errors
    /// Why not.
    pub fn take_in(&mut self, account: &Jid, piece: &Piece, terms: &mut Terms) -> Outcome {
        let replace = terms.replace;
        let owner = account.bare_str();
        match piece {
            Piece::Account { disabled: true, created_ms, .. } => self.take_disabled(account, *created_ms, terms),
            Piece::Account { password: Some(password), created_ms, .. } => {
                self.take_password(account, &password.0, *created_ms, terms)
            }
            Piece::Account { sha1, sha256, created_ms, .. } => {
                self.take_account(account, (sha1, sha256), *created_ms, terms)
            }
            Piece::Administrator => {
                let node = account.node().unwrap_or_default().as_bytes();
                match self.is_admin(account)? {
                    true => Ok(Taken::Same),
                    false => self.take_row::<Admins>(account.domain(), node, &Present {}, replace),
                }
            }
            Piece::OtherRole => Ok(Taken::Left("whoever is no administrator may do here what all others may")),
            Piece::Contact { jid, item, request } => self.take_contact(account, jid, item, request.as_deref(), replace),
            Piece::RosterVersion(number) => match self.view.get::<Versions>(owner, b"")? {
                Some(_) => Ok(Taken::Same),
                None => self.take_row::<Versions>(owner, b"", &Version { number: *number }, replace),
            },
            Piece::VCard(vcard) => {
                let xml = vcard.root().to_xml();
                if xml.len() > self.settings.limits.vcard_bytes_max as usize {
                    return Err(Refusal::because("the vCard is longer than limits.vcard_bytes_max"));
                }
                self.take_row::<VCards>(owner, b"", &Stored { xml }, replace)
            }
            Piece::Offline { message, wall_ms } => self.take_offline(account, message, *wall_ms),
            Piece::Node(node) => self.pubsub(account).take_node(node, terms),
            Piece::NodeItem(item) => self.pubsub(account).take_item(item, terms),
            _ => Ok(Taken::NotMine),
        }
    }

    /// An account that nobody logs in to: without keys, and with its name taken.
    fn take_disabled(&mut self, account: &Jid, created_ms: Option<u64>, terms: &mut Terms) -> Outcome {
        let old = self.view.get::<Accounts>(account.bare_str(), b"")?;
        let Some(Account { created_ms, .. }) = old.filter(|old| old.sha1.is_some() || old.sha256.is_some()) else {
            return self.take_account(account, (&None, &None), created_ms, terms);
        };
        // That it is disabled can be said behind its keys.
        let taken = if terms.is_new { Taken::Same } else { verdict(terms.replace) };
        if taken != Taken::Stays {
            self.view.put::<Accounts>(account.bare_str(), b"", &Account { sha1: None, sha256: None, created_ms });
            self.fast_end(account.bare_str())?;
        }
        Ok(taken)
    }

    fn take_account(
        &mut self,
        account: &Jid,
        (sha1, sha256): (&Option<ScramKeys>, &Option<ScramKeys>),
        created_ms: Option<u64>,
        terms: &mut Terms,
    ) -> Outcome {
        let (owner, node) = (account.bare_str(), account.node().unwrap_or_default());
        let keys = |keys: &Option<ScramKeys>| keys.clone().map(Keys::from);
        let (sha1, sha256) = (keys(sha1), keys(sha256));
        let old = self.view.get::<Accounts>(owner, b"")?;
        // What was brought before an account was made is not its owner's: its date cannot be to come.
        let now_ms = self.wall_ms();
        let created_ms = created_ms.unwrap_or(now_ms).min(now_ms);
        let created_ms = old.as_ref().map_or(created_ms, |old| old.created_ms);
        // Keys that were added since, when the password was known, are of the same password.
        let is_same = |old: &Account| {
            let same = |a: &Option<Keys>, b: &Option<Keys>| b.is_none() || a == b;
            same(&old.sha1, &sha1) && same(&old.sha256, &sha256)
        };
        if old.as_ref().is_some_and(is_same) {
            return Ok(Taken::Same);
        }
        let taken = if old.is_some() { verdict(terms.replace) } else { Taken::New };
        terms.is_new |= taken == Taken::New;
        if taken != Taken::Stays {
            self.view.put::<Accounts>(owner, b"", &Account { sha1, sha256, created_ms });
            self.view.put::<AccountIndex>(account.domain(), node.as_bytes(), &Present {});
            self.fast_end(owner)?;
        }
        Ok(taken)
    }

    fn take_password(&mut self, account: &Jid, password: &str, created_ms: Option<u64>, terms: &mut Terms) -> Outcome {
        let password = prepare_password(password).map_err(|_| Refusal::because("its password cannot be one"))?;
        let hashed = |work| run(HashJob { id: 0, password: password.clone(), work }).outcome;
        if let Some(old) = self.account_keys(account.bare_str())? {
            let sha256 = old.sha256.map(|keys| HashWork::Verify { hash: ScramHash::Sha256, keys });
            let sha1 = old.sha1.map(|keys| HashWork::Verify { hash: ScramHash::Sha1, keys });
            if sha256.or(sha1).is_some_and(|work| hashed(work) == HashOutcome::Verified(true)) {
                return Ok(Taken::Same);
            }
        }
        let mut salt = vec![0; SALT_BYTES];
        self.entropy.fill(&mut salt);
        match hashed(HashWork::Derive { salt, iterations: self.settings.iterations }) {
            HashOutcome::Derived { sha1, sha256 } => {
                self.take_account(account, (&Some(sha1), &Some(sha256)), created_ms, terms)
            }
            HashOutcome::Verified(_) | HashOutcome::Upgraded(_) => Err(Refusal::because("its password was not hashed")),
        }
    }

    fn take_contact(
        &mut self,
        account: &Jid,
        contact: &Jid,
        item: &Item,
        request: Option<&Stanza>,
        replace: bool,
    ) -> Outcome {
        let (owner, sub) = (account.bare_str(), contact.bare_str().as_bytes());
        let limits = self.settings.clone();
        if contact.same_bare(account) {
            return Err(Refusal::because("nobody is in his own roster"));
        }
        if item.groups.len() > limits.limits.roster_groups_max as usize {
            return Err(Refusal::because("he is in more groups than limits.roster_groups_max"));
        }
        let is_new = !self.view.contains::<Items>(owner, sub)?;
        if is_new && self.view.count::<Items>(owner)? >= limits.limits.roster_items_max as usize {
            return Err(Refusal::because("there are more contacts than limits.roster_items_max"));
        }
        if item.pending_in && (is_new || replace) {
            let plain = || Stanza::new(Kind::Presence(PresenceType::Subscribe));
            let request = request.cloned().unwrap_or_else(plain);
            if !self.request_keep(account, contact, &request)? {
                return Err(Refusal::because("more requests wait than limits.subscription_requests_max"));
            }
        }
        let taken = self.take_row::<Items>(owner, sub, item, replace)?;
        if matches!(taken, Taken::New | Taken::Replaced)
            && let Some(version) = self.view.get::<Versions>(owner, b"")?
        {
            // What clients remember of it is not it any more.
            self.view.put::<Versions>(owner, b"", &Version { number: version.number + 1 });
        }
        Ok(taken)
    }

    fn take_offline(&mut self, account: &Jid, message: &Stanza, wall_ms: i64) -> Outcome {
        let mut message = message.clone();
        message.to.get_or_insert_with(|| account.bare());
        spool::stamp(&mut message, account.domain(), wall_ms);
        let stored = spool::Stored { xml: message.to_xml(), ..spool::Stored::default() };
        let rows = self.view.list::<Rows>(account.bare_str(), usize::MAX)?;
        if rows.iter().any(|(_, row)| row.xml == stored.xml) {
            return Ok(Taken::Same);
        }
        let bytes: usize = rows.iter().map(|(_, row)| row.xml.len()).sum();
        let limits = &self.settings.limits;
        if rows.len() >= limits.offline_messages_max as usize
            || bytes + stored.xml.len() > limits.offline_bytes_max as usize
        {
            return Err(Refusal::because("more messages wait than limits.offline_messages_max or offline_bytes_max"));
        }
        self.spool_put(account, &stored)?;
        Ok(Taken::New)
    }

    /// Gives out what the core keeps of an account.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn give_out(&mut self, account: &Jid, to: &mut dyn FnMut(Piece)) -> Result<(), StoreError> {
        let owner = account.bare_str();
        let Some(Account { sha1, sha256, created_ms }) = self.view.get::<Accounts>(owner, b"")? else { return Ok(()) };
        let (sha1, sha256) = (sha1.map(ScramKeys::from), sha256.map(ScramKeys::from));
        to(Piece::Account { sha1, sha256, password: None, created_ms: Some(created_ms), disabled: false });
        if self.view.contains::<Admins>(account.domain(), account.node().unwrap_or_default().as_bytes())? {
            to(Piece::Administrator);
        }
        for (jid, item) in self.roster(owner)? {
            let request = self.request_kept(account, &jid)?.map(Box::new);
            to(Piece::Contact { jid, item, request });
        }
        if let Some(version) = self.view.get::<Versions>(owner, b"")? {
            to(Piece::RosterVersion(version.number));
        }
        if let Some(vcard) = self.vcard(owner)? {
            to(Piece::VCard(vcard));
        }
        for (_, row) in self.view.list::<Rows>(owner, usize::MAX)? {
            let Some(message) = row.stanza().filter(|_| !row.is_copy) else { continue };
            to(Piece::Offline { message: Box::new(message), wall_ms: self.now.wall_ms });
        }
        self.pubsub(account).give_nodes(to)
    }
}

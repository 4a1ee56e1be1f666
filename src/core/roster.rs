//! The roster (RFC 6121 section 2): storage, requests, pushes, versions.

use super::flight::{Filters, InFlight};
use super::session::SessionId;
use super::subscription::Subscription;
use super::{Answer, Core, Request};
use crate::fault::{Fault, armed};
use crate::jid::Jid;
use crate::stanza::{Condition, IqType, Kind, PresenceType, Stanza, StanzaError};
use crate::storage::{Marked, StoreError, Table};
use crate::xml::{Builder, Element, ElementRef, ns};
use std::rc::Rc;

crate::record! {
    /// A contact.
    pub struct Item {
        /// What the user calls it; may be empty.
        pub name: String,
        /// Group names, in the user's order.
        pub groups: Vec<String>,
        /// See [`Subscription`].
        pub to: bool,
        /// See [`Subscription`].
        pub from: bool,
        /// See [`Subscription`].
        pub ask: bool,
        /// See [`Subscription`].
        pub pending_in: bool,
        /// See [`Subscription`].
        pub approved: bool,
        /// The user, or a subscription, has put it into the roster; false for one that has only asked.
        pub listed: bool,
    }
    /// Counts changes of one roster.
    pub struct Version {
        /// Grows by one each time.
        pub number: u64,
    }
}

/// Owner: the account. Sub key: the contact's bare address.
pub struct Items;
impl Table for Items {
    const ID: u8 = 3;
    const NAME: &'static str = "roster";
    const MARKS: Option<fn(&Item) -> u8> = Some(Item::marks);
    type Value = Item;
}

/// Owner: the account. One row, no sub key.
pub struct Versions;
impl Table for Versions {
    const ID: u8 = 4;
    const NAME: &'static str = "roster-version";
    type Value = Version;
}

/// Those contacts that see the account's presence.
pub const SEEING: u8 = 1;
/// Those contacts whose presence the account sees.
pub const SEEN: u8 = 2;

/// Some contacts of an account, in the order of their addresses.
#[derive(Debug)]
pub struct Contacts {
    all: Rc<Marked>,
    at: usize,
    which: u8,
}

impl Iterator for Contacts {
    type Item = Jid;

    fn next(&mut self) -> Option<Jid> {
        while let Some((marks, sub)) = self.all.next(&mut self.at) {
            if marks & self.which != 0
                && let Some(contact) = address(sub)
            {
                return Some(contact);
            }
        }
        None
    }
}

fn address(sub: &[u8]) -> Option<Jid> {
    Jid::parse(std::str::from_utf8(sub).ok()?).ok()
}

impl Item {
    /// What is looked for among all contacts.
    fn marks(&self) -> u8 {
        (u8::from(self.from) * SEEING) | (u8::from(self.to) * SEEN)
    }

    /// The subscription as a value.
    pub fn subscription(&self) -> Subscription {
        Subscription {
            to: self.to,
            from: self.from,
            ask: self.ask,
            pending_in: self.pending_in,
            approved: self.approved,
        }
    }

    /// Takes over a changed subscription. One that is more than a trace lists the contact.
    pub fn set_subscription(&mut self, s: Subscription) {
        (self.to, self.from, self.ask) = (s.to, s.from, s.ask);
        (self.pending_in, self.approved) = (s.pending_in, s.approved);
        self.listed |= !s.is_trace();
        if armed(Fault::NameForgotten) {
            self.name.clear();
        }
    }

    /// Somebody of whom nothing is known.
    pub fn empty() -> Self {
        Self {
            name: String::new(),
            groups: Vec::new(),
            to: false,
            from: false,
            ask: false,
            pending_in: false,
            approved: false,
            listed: false,
        }
    }
}

impl Core {
    /// The contact as stored, or as an empty item.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn roster_item(&mut self, account: &str, contact: &str) -> Result<Item, StoreError> {
        Ok(self.view.get::<Items>(account, contact.as_bytes())?.unwrap_or_else(Item::empty))
    }

    /// True for somebody in the roster of an account, and for all of a server that is in it: a gateway.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn is_contact(&mut self, account: &Jid, other: &Jid) -> Result<bool, StoreError> {
        let owner = account.bare_str();
        Ok(self.roster_item(owner, other.bare_str())?.listed || self.roster_item(owner, other.domain())?.listed)
    }

    /// All contacts with their bare addresses.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn roster(&mut self, account: &str) -> Result<Vec<(Jid, Item)>, StoreError> {
        let rows = self.view.list::<Items>(account, usize::MAX)?;
        Ok(rows.into_iter().filter_map(|(sub, item)| Some((address(&sub)?, item))).collect())
    }

    /// Those contacts of an account that are [`SEEING`] or [`SEEN`], as they are now: what is done with them may change
    /// the roster. It takes no look at the others, unless nobody has asked for a long time.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn contacts(&mut self, account: &str, which: u8) -> Result<Contacts, StoreError> {
        Ok(Contacts { all: self.view.marked::<Items>(account)?, at: 0, which })
    }

    /// Stores a contact, or forgets it when nothing is left to know. Pushes when what the user sees has changed.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn roster_put(&mut self, account: &Jid, contact: &Jid, item: &Item) -> Result<(), StoreError> {
        let (owner, sub) = (account.bare_str(), contact.bare_str().as_bytes());
        let old = self.view.get::<Items>(owner, sub)?;
        if old.as_ref() == Some(item) {
            return Ok(());
        }
        if item.listed || item.pending_in {
            self.view.put::<Items>(owner, sub, item);
        } else {
            self.view.delete::<Items>(owner, sub);
        }
        let seen = |i: &Item| (i.listed, i.name.clone(), i.groups.clone(), i.to, i.from, i.ask, i.approved);
        let was_listed = old.as_ref().is_some_and(|i| i.listed);
        if (item.listed || was_listed) && old.as_ref().map(seen) != Some(seen(item)) {
            self.roster_push(account, contact, item.listed.then_some(item))?;
        }
        Ok(())
    }

    /// Counts a change and sends it to all interested sessions (section 2.1.6).
    fn roster_push(&mut self, account: &Jid, contact: &Jid, item: Option<&Item>) -> Result<(), StoreError> {
        let owner = account.bare_str();
        // The first of an account is no version that an account of the same name before it can have had.
        let first = || u64::try_from(self.now.wall_ms).unwrap_or(0);
        let number = self.view.get::<Versions>(owner, b"")?.map_or_else(first, |v| v.number) + 1;
        self.view.put::<Versions>(owner, b"", &Version { number });
        let interested = self.sessions.of_where(account, |s| s.interested);
        if interested.is_empty() || armed(Fault::PushForgotten) {
            return Ok(());
        }
        let push = Stanza::build(Kind::Iq(IqType::Set), |b| {
            b.open(ns::ROSTER, "query").attr("ver", &number.to_string());
            match item {
                Some(item) => build_item(contact, item, b),
                None => {
                    b.open(ns::ROSTER, "item").attr("jid", contact.bare_str()).attr("subscription", "remove").close();
                }
            }
            b.close();
        });
        let id = format!("push-{number}");
        // From the bare address of the account, as Prosody does; clients accept that or none (section 2.1.6).
        let push = push.addressed(Some(account.bare()), None).with_id(&id);
        self.push(&interested, &push);
        Ok(())
    }

    /// Answers a roster request of an account's own session.
    ///
    /// # Errors
    /// The stanza error to send.
    pub fn roster_request(&mut self, request: &Request<'_>) -> Result<Answer, StanzaError> {
        if !request.is_own() {
            // Section 2.1.5: only the account itself.
            return Err(Condition::Forbidden.into());
        }
        match request.session {
            Some(session) if !request.is_set => self.roster_get(request, session),
            Some(_) => self.roster_set(request),
            None => Err(Condition::Forbidden.into()),
        }
    }

    fn roster_get(&mut self, request: &Request<'_>, session: SessionId) -> Result<Answer, StanzaError> {
        if request.child.children().next().is_some() {
            return Err(Condition::BadRequest.into());
        }
        let owner = request.owner.bare_str();
        let version = self.view.get::<Versions>(owner, b"")?.map_or(0, |v| v.number).to_string();
        let answer = match request.child.attr("ver") {
            // Section 2.6.3: nothing has changed.
            Some(known) if known == version => Answer::Empty,
            _ => Answer::Result(self.roster_element(request.owner, Some(&version))?),
        };
        if let Some(session) = self.sessions.get_mut(session) {
            session.interested = true;
        }
        Ok(answer)
    }

    /// The roster as its owner gets it (section 2.1.4), with its version where one is given.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn roster_element(&mut self, account: &Jid, version: Option<&str>) -> Result<Element, StoreError> {
        let items = self.roster(account.bare_str())?;
        let mut b = Builder::new(ns::ROSTER, "query");
        if let Some(version) = version {
            b.attr("ver", version);
        }
        for (contact, item) in items.iter().filter(|(_, i)| i.listed) {
            build_item(contact, item, &mut b);
        }
        Ok(b.finish())
    }

    fn roster_set(&mut self, request: &Request<'_>) -> Result<Answer, StanzaError> {
        let mut items = request.child.children();
        let (Some(child), None) = (items.next(), items.next()) else {
            return Err(Condition::BadRequest.because("A roster set has exactly one item."));
        };
        if !child.is(ns::ROSTER, "item") {
            return Err(Condition::BadRequest.into());
        }
        let contact = match child.attr("jid").map(Jid::parse) {
            Some(Ok(jid)) => jid.bare(),
            Some(Err(_)) => return Err(Condition::JidMalformed.into()),
            None => return Err(Condition::BadRequest.because("The item has no jid.")),
        };
        if contact.same_bare(request.owner) {
            return Err(Condition::NotAllowed.because("An account is not its own contact."));
        }
        if child.attr("subscription") == Some("remove") {
            self.roster_remove(request.owner, &contact)?;
            return Ok(Answer::Empty);
        }
        let groups = self.read_groups(child)?;
        let mut item = self.roster_item(request.owner.bare_str(), contact.bare_str())?;
        if !item.listed {
            let max = self.settings.limits.roster_items_max as usize;
            if self.view.count::<Items>(request.owner.bare_str())? >= max {
                return Err(Condition::ResourceConstraint.because("The roster is full."));
            }
        }
        item.name = child.attr("name").unwrap_or_default().to_string();
        if item.name.len() > NAME_BYTES_MAX {
            return Err(Condition::NotAcceptable.because("The name is too long."));
        }
        item.groups = groups;
        item.listed = true;
        self.roster_put(request.owner, &contact, &item)?;
        Ok(Answer::Empty)
    }

    /// Group names: not empty, not twice, bounded (section 2.3.3).
    fn read_groups(&self, item: ElementRef<'_>) -> Result<Vec<String>, StanzaError> {
        let mut groups = Vec::new();
        for child in item.children().filter(|c| c.is(ns::ROSTER, "group")) {
            let name = child.text();
            if name.is_empty() || name.len() > NAME_BYTES_MAX {
                return Err(Condition::NotAcceptable.because("A group name is empty or too long."));
            }
            if groups.contains(&name) {
                return Err(Condition::BadRequest.because("A group is named twice."));
            }
            groups.push(name);
        }
        if groups.len() > self.settings.limits.roster_groups_max as usize {
            return Err(Condition::NotAcceptable.because("Too many groups."));
        }
        Ok(groups)
    }

    /// Takes a contact out and ends both subscriptions (section 2.5).
    fn roster_remove(&mut self, account: &Jid, contact: &Jid) -> Result<(), StanzaError> {
        let item = self.roster_item(account.bare_str(), contact.bare_str())?;
        if !item.listed {
            return Err(Condition::ItemNotFound.into());
        }
        let mut gone = Item::empty();
        // A request that waits is not taken back by that.
        gone.pending_in = item.pending_in;
        self.roster_put(account, contact, &gone)?;
        self.roster_end(account, contact, &item);
        Ok(())
    }

    /// Tells a contact that the account neither sees it nor is seen by it any more.
    pub fn roster_end(&mut self, account: &Jid, contact: &Jid, item: &Item) {
        let tell = |kind| {
            let stanza = Stanza::new(Kind::Presence(kind)).addressed(Some(account.bare()), Some(contact.bare()));
            InFlight::promising(stanza)
        };
        if (item.to || item.ask) && !armed(Fault::SubscriptionHalf) {
            self.send(tell(PresenceType::Unsubscribe));
        }
        if item.from {
            // While the contact is still subscribed (section 3.2.2).
            self.presence_withdraw(account, contact, Filters::Both);
            self.send(tell(PresenceType::Unsubscribed));
        }
    }
}

/// Bytes of a contact's or a group's name.
const NAME_BYTES_MAX: usize = 1023;

/// A contact as the roster shows it (section 2.1).
pub fn build_item(contact: &Jid, item: &Item, b: &mut Builder) {
    b.open(ns::ROSTER, "item").attr("jid", contact.bare_str());
    if !item.name.is_empty() {
        b.attr("name", &item.name);
    }
    b.attr("subscription", item.subscription().as_str());
    if item.ask {
        b.attr("ask", "subscribe");
    }
    if item.approved {
        b.attr("approved", "true");
    }
    for group in &item.groups {
        b.leaf(ns::ROSTER, "group", group);
    }
    b.close();
}

/// Stream features of the roster (sections 2.6.1 and 3.4.1).
pub fn features() -> [Element; 2] {
    [Element::empty(ns::ROSTER_VERSIONING, "ver"), Element::empty(ns::PRE_APPROVAL, "sub")]
}

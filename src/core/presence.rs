//! Presence and subscriptions of local accounts (RFC 6121 sections 3 and 4).

use super::Core;
use super::flight::{Filters, InFlight};
use super::roster::{SEEING, SEEN};
use super::session::{Available, SessionId};
use crate::fault::{Fault, armed};
use crate::jid::Jid;
use crate::stanza::{Condition, Kind, PresenceType, Stanza, StanzaError};
use crate::storage::{StoreError, Table};
use crate::xml::ns;
use std::collections::BTreeSet;
use std::rc::Rc;

crate::record! {
    /// A subscription request that waits for the account's answer, as XML.
    pub struct Waiting {
        /// The stanza.
        pub xml: String,
    }
}

/// Owner: the account. Sub key: the bare address of who asks.
pub struct Requests;
impl Table for Requests {
    const ID: u8 = 5;
    const NAME: &'static str = "subscription-requests";
    type Value = Waiting;
}

/// What a presence stanza changed in its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The session can take messages for the bare address from now on, and could not before.
    Reachable,
    /// Nothing of that kind.
    Other,
}

impl Core {
    /// Takes a presence stanza from a session. `stanza.from` is its full address; one with an addressee has passed the
    /// filters of its account.
    ///
    /// # Errors
    /// The stanza error to send.
    pub fn presence_from_session(&mut self, id: SessionId, stanza: Stanza) -> Result<Change, StanzaError> {
        let Kind::Presence(kind) = stanza.kind else { return Ok(Change::Other) };
        match (kind, stanza.to.clone()) {
            (PresenceType::Available, None) => return self.presence_available(id, stanza),
            (PresenceType::Unavailable, None) => {
                // The session that says so hears it too (section 4.5.2).
                self.presence_fan(&stanza, std::iter::once(id));
                self.presence_unavailable(id, stanza)?;
            }
            (PresenceType::Error, None) => {}
            (_, None) => return Err(Condition::BadRequest.into()),
            // A client rarely has reason to probe; it gets what a subscriber gets (section 4.3.2).
            (PresenceType::Error | PresenceType::Probe, Some(_)) => {
                self.send(InFlight { origin: Some(id), filters: Filters::In, ..InFlight::passing(stanza) });
            }
            (PresenceType::Available | PresenceType::Unavailable, Some(to)) => {
                self.presence_directed(id, kind, stanza, to)?;
            }
            (
                PresenceType::Subscribe
                | PresenceType::Subscribed
                | PresenceType::Unsubscribe
                | PresenceType::Unsubscribed,
                Some(to),
            ) => self.subscription_out(kind, stanza, &to)?,
        }
        Ok(Change::Other)
    }

    /// Sections 4.2 and 4.4.
    fn presence_available(&mut self, id: SessionId, stanza: Stanza) -> Result<Change, StanzaError> {
        let priority = priority(&stanza)?;
        let Some(session) = self.sessions.get_mut(id) else { return Ok(Change::Other) };
        let jid = session.jid.clone();
        let stanza = stanza.shrunk();
        let before = session.available.replace(Available { priority, stanza: stanza.clone() });
        self.presence_broadcast(&jid, &stanza)?;
        let own = self.sessions.of_where(&jid, |s| s.available.is_some());
        self.presence_fan(&stanza, own.iter().copied());
        if before.is_none() {
            self.presence_initial(id, &jid)?;
        }
        let reachable_before = before.is_some_and(|a| a.priority >= 0);
        Ok(if priority >= 0 && !reachable_before { Change::Reachable } else { Change::Other })
    }

    /// What a session learns when it becomes available, or when it is resumed and its queue was not kept: sections
    /// 4.2.2 and 3.1.3.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn presence_initial(&mut self, id: SessionId, jid: &Jid) -> Result<(), StanzaError> {
        for other in self.sessions.of_where(jid, |s| s.available.is_some()) {
            if other == id {
                continue;
            }
            let Some(available) = self.sessions.get(other).and_then(|s| s.available.clone()) else { continue };
            let stanza = Stanza { to: Some(jid.clone()), ..available.stanza };
            self.send(InFlight::passing(stanza).to_session(id));
        }
        for contact in self.contacts(jid.bare_str(), SEEN)? {
            let probe = Stanza::new(Kind::Presence(PresenceType::Probe));
            self.send(InFlight::passing(probe.addressed(Some(jid.clone()), Some(contact))));
        }
        let max = self.settings.limits.subscription_requests_max as usize;
        for (_, waiting) in self.view.list::<Requests>(jid.bare_str(), max)? {
            let stanza = Stanza::parse(&waiting.xml);
            if let Some(stanza) = stanza {
                let flight = InFlight { filters: Filters::In, ..InFlight::promising(stanza) };
                self.send(flight.to_session(id));
            }
        }
        Ok(())
    }

    /// Section 4.5: everyone who knows the session as available hears that it is not.
    fn presence_unavailable(&mut self, id: SessionId, stanza: Stanza) -> Result<(), StanzaError> {
        let Some(session) = self.sessions.get_mut(id) else { return Ok(()) };
        let jid = session.jid.clone();
        let was_available = session.available.take().is_some();
        let directed = std::mem::take(&mut session.directed);
        for to in directed.iter().cloned() {
            self.send(InFlight::passing(Stanza { to: Some(to), ..stanza.clone() }));
        }
        if was_available {
            self.presence_broadcast(&jid, &stanza)?;
            let own = self.sessions.of_where(&jid, |s| s.available.is_some());
            self.presence_fan(&stanza, own.into_iter());
        }
        Ok(())
    }

    /// A session ends without having said so (section 4.5.4).
    ///
    /// # Errors
    /// When storage cannot be read; the contacts then learn nothing.
    pub fn presence_end(&mut self, id: SessionId) -> Result<(), StanzaError> {
        let Some(session) = self.sessions.get(id).filter(|_| !armed(Fault::EndUntold)) else { return Ok(()) };
        let stanza = Stanza::new(Kind::Presence(PresenceType::Unavailable)).addressed(Some(session.jid.clone()), None);
        self.presence_unavailable(id, stanza)
    }

    /// Sends to all contacts that see the account. The tail is written once.
    fn presence_broadcast(&mut self, jid: &Jid, stanza: &Stanza) -> Result<(), StoreError> {
        let mut tail = None;
        for contact in self.contacts(jid.bare_str(), SEEING)? {
            let tail: &Rc<[u8]> = tail.get_or_insert_with(|| stanza.tail());
            // That the contact may see it may not be durable yet.
            let flight = InFlight::promising(Stanza { to: Some(contact), ..stanza.clone() });
            let promise = !armed(Fault::PresenceEarly);
            self.send(InFlight { tail: Some(tail.clone()), promise, ..flight });
        }
        Ok(())
    }

    /// Sends to sessions of the same account.
    fn presence_fan(&mut self, stanza: &Stanza, sessions: impl Iterator<Item = SessionId>) {
        let tail = stanza.tail();
        for id in sessions {
            let to = self.sessions.get(id).map(|s| s.jid.clone());
            let flight = InFlight::passing(Stanza { to, ..stanza.clone() }).to_session(id);
            self.send(InFlight { tail: Some(tail.clone()), ..flight });
        }
    }

    /// Section 4.6: remembers who must hear of the end, unless a subscription tells them anyway.
    fn presence_directed(
        &mut self,
        id: SessionId,
        kind: PresenceType,
        stanza: Stanza,
        to: Jid,
    ) -> Result<(), StanzaError> {
        let max = self.settings.limits.directed_presence_max as usize;
        let account = stanza.from.as_ref().map(Jid::bare);
        // A subscription counts when it is sure to last, that is, durable.
        let subscribed = match &account {
            Some(account) => self.roster_item(account.bare_str(), to.bare_str())?.from,
            None => false,
        } && self.view.ticket() <= self.view.durable();
        let Some(session) = self.sessions.get_mut(id) else { return Ok(()) };
        if kind == PresenceType::Unavailable {
            session.directed.remove(&to);
        } else if !session.directed.contains(&to) && (!subscribed || session.available.is_none()) {
            if session.directed.len() >= max {
                return Err(Condition::ResourceConstraint.because("Too many addresses have your directed presence."));
            }
            session.directed.insert(to);
        }
        self.send(InFlight { origin: Some(id), filters: Filters::In, ..InFlight::passing(stanza) });
        Ok(())
    }

    /// A local account changes a subscription (sections 3.1.2, 3.1.5, 3.2.2, 3.3.2, 3.4.2).
    fn subscription_out(&mut self, kind: PresenceType, stanza: Stanza, to: &Jid) -> Result<(), StanzaError> {
        self.may_write()?;
        let Some(account) = stanza.from.as_ref().map(Jid::bare) else { return Ok(()) };
        let contact = to.bare();
        if contact == account {
            return Ok(());
        }
        let mut item = self.roster_item(account.bare_str(), contact.bare_str())?;
        let before = item.subscription();
        let outcome = before.outbound(kind);
        let lists = !item.listed && !outcome.next.is_trace();
        let max = self.settings.limits.roster_items_max as usize;
        if lists && self.view.count::<super::roster::Items>(account.bare_str())? >= max {
            return Err(Condition::ResourceConstraint.because("The roster is full."));
        }
        if before.pending_in && !outcome.next.pending_in {
            self.view.delete::<Requests>(account.bare_str(), contact.bare_str().as_bytes());
        }
        // The push comes first: a contact's server may answer at once, and pushes keep the order of their versions.
        item.set_subscription(outcome.next);
        self.roster_put(&account, &contact, &item)?;
        if before.from && !outcome.next.from {
            // While the contact is still subscribed (section 3.2.2).
            self.presence_withdraw(&account, &contact, Filters::In);
        }
        if outcome.route {
            let stanza = Stanza { from: Some(account.clone()), to: Some(contact.clone()), ..stanza };
            self.send(InFlight { filters: Filters::In, ..InFlight::promising(stanza) });
        }
        if !before.from && outcome.next.from {
            self.presence_show(&account, &contact);
        }
        Ok(())
    }

    /// A subscription stanza or a probe arrives for an account (sections 3.1.3, 3.1.6, 3.2.3, 3.3.3, 4.3.2).
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn subscription_in(&mut self, kind: PresenceType, stanza: &Stanza) -> Result<(), StoreError> {
        let (Some(from), Some(to)) = (&stanza.from, &stanza.to) else { return Ok(()) };
        let (account, contact) = (to.bare(), from.bare());
        let exists = self.account_exists(&account)?;
        if kind == PresenceType::Probe {
            return self.probe_in(&account, from, exists);
        }
        if !exists {
            // As for an account that does not answer: nobody learns which accounts there are.
            return Ok(());
        }
        let mut item = self.roster_item(account.bare_str(), contact.bare_str())?;
        let before = item.subscription();
        let outcome = before.inbound(kind);
        if kind == PresenceType::Subscribe
            && outcome.next.pending_in
            && !self.request_keep(&account, &contact, stanza)?
        {
            return Ok(());
        }
        if before.pending_in && !outcome.next.pending_in {
            self.view.delete::<Requests>(account.bare_str(), contact.bare_str().as_bytes());
        }
        if outcome.deliver {
            // Requests go to whoever may be looking; changes to those who have the roster, before the push.
            let sessions = match kind {
                PresenceType::Subscribe => self.sessions.of_where(&account, |s| s.available.is_some()),
                _ => self.sessions.of_where(&account, |s| s.interested),
            };
            let stanza = Stanza { to: Some(account.clone()), from: Some(contact.clone()), ..stanza.clone() };
            for id in sessions {
                self.send(InFlight::promising(stanza.clone()).to_session(id));
            }
        }
        item.set_subscription(outcome.next);
        self.roster_put(&account, &contact, &item)?;
        if let Some(reply) = outcome.reply {
            let reply = Stanza::new(Kind::Presence(reply));
            self.send(InFlight::promising(reply.addressed(Some(account.clone()), Some(contact.clone()))));
            self.presence_show(&account, &contact);
        }
        if before.from && !outcome.next.from {
            self.presence_withdraw(&account, &contact, Filters::Both);
        }
        Ok(())
    }

    /// Keeps a request until it is answered. False when too many wait: it is dropped, and the asker may ask again.
    pub(super) fn request_keep(&mut self, account: &Jid, contact: &Jid, stanza: &Stanza) -> Result<bool, StoreError> {
        let sub = contact.bare_str().as_bytes();
        let max = self.settings.limits.subscription_requests_max as usize;
        let known = self.view.get::<Requests>(account.bare_str(), sub)?.is_some();
        if !known && self.view.count::<Requests>(account.bare_str())? >= max {
            return Ok(false);
        }
        let kept = Stanza { from: Some(contact.clone()), to: Some(account.clone()), ..stanza.clone() };
        let xml = kept.to_xml();
        self.view.put::<Requests>(account.bare_str(), sub, &Waiting { xml });
        Ok(true)
    }

    /// A request that waits for an answer.
    #[cfg(feature = "import")]
    pub(super) fn request_kept(&mut self, account: &Jid, contact: &Jid) -> Result<Option<Stanza>, StoreError> {
        let waiting = self.view.get::<Requests>(account.bare_str(), contact.bare_str().as_bytes())?;
        Ok(waiting.and_then(|w| Stanza::parse(&w.xml)))
    }

    fn probe_in(&mut self, account: &Jid, from: &Jid, exists: bool) -> Result<(), StoreError> {
        let seen = exists && self.is_seen_by(account, from)?;
        let available = if seen { self.presences(account) } else { Vec::new() };
        if available.is_empty() {
            let kind = if seen { PresenceType::Unavailable } else { PresenceType::Unsubscribed };
            let answer = Stanza::new(Kind::Presence(kind)).addressed(Some(account.clone()), Some(from.clone()));
            self.send(InFlight::promising(answer));
        }
        for stanza in available {
            self.send(InFlight::promising(Stanza { to: Some(from.clone()), ..stanza }));
        }
        Ok(())
    }

    /// Whether `other` may see an account's presence: the account itself, and contacts with a subscription.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn is_seen_by(&mut self, account: &Jid, other: &Jid) -> Result<bool, StoreError> {
        Ok(other.same_bare(account) || self.roster_item(account.bare_str(), other.bare_str())?.from)
    }

    /// Presence of every available session of an account.
    fn presences(&self, account: &Jid) -> Vec<Stanza> {
        let stanza = |id: &SessionId| self.sessions.get(*id)?.available.as_ref().map(|a| a.stanza.clone());
        self.sessions.of(account).iter().filter_map(stanza).collect()
    }

    /// Lets a contact see an account from now on.
    pub fn presence_show(&mut self, account: &Jid, contact: &Jid) {
        for stanza in self.presences(account) {
            self.send(InFlight::promising(Stanza { to: Some(contact.clone()), ..stanza }));
        }
        if let Err(error) = self.pubsub_show(account, contact) {
            log::warn!(target: "couplet::pubsub", "{contact} misses items of {account}: {}", error.condition.as_str());
        }
    }

    /// Accounts with a contact whose row is not durable yet, and that contact. Should that fail, the contact may have
    /// missed presence, and must have it again.
    pub fn presence_unproven(&self) -> BTreeSet<(Jid, Jid)> {
        let rows = self.view.unproven::<super::roster::Items>();
        let jid = |text: &[u8]| std::str::from_utf8(text).ok().and_then(|t| Jid::parse(t).ok());
        rows.into_iter().filter_map(|(owner, sub)| Some((jid(owner)?, jid(sub)?))).collect()
    }

    /// Tells a contact anew who is there of an account that it may see.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn presence_again(&mut self, account: &Jid, contact: &Jid) -> Result<(), StoreError> {
        if account.same_bare(contact) || self.roster_item(account.bare_str(), contact.bare_str())?.from {
            let gone = Stanza::new(Kind::Presence(PresenceType::Unavailable));
            self.send(InFlight::promising(gone.addressed(Some(account.clone()), Some(contact.clone()))));
            self.presence_show(account, contact);
        }
        Ok(())
    }

    /// Asks for the presence of a contact on behalf of every available session of an account (section 4.3).
    pub fn presence_probe(&mut self, account: &Jid, contact: &Jid) {
        for id in self.sessions.of_where(account, |s| s.available.is_some()) {
            let from = self.sessions.get(id).map(|s| s.jid.clone());
            let probe = Stanza::new(Kind::Presence(PresenceType::Probe)).addressed(from, Some(contact.clone()));
            self.send(InFlight::passing(probe));
        }
    }

    /// Takes back the directed presence that sessions of an account have sent to addresses for which `covers` holds.
    pub fn presence_withdraw_directed(&mut self, account: &Jid, covers: impl Fn(&Jid) -> bool) {
        for id in self.sessions.of(account).to_vec() {
            let Some(session) = self.sessions.get_mut(id) else { continue };
            let from = session.jid.clone();
            for to in session.directed.extract(&covers) {
                let stanza = Stanza::new(Kind::Presence(PresenceType::Unavailable));
                // It leaves even if what it is taken back for fails in the end: it will not be said again.
                let flight = InFlight::passing(stanza.addressed(Some(from.clone()), Some(to)));
                self.send(InFlight { filters: Filters::In, ..flight });
            }
        }
    }

    /// Lets a contact see an account no more.
    pub fn presence_withdraw(&mut self, account: &Jid, contact: &Jid, filters: Filters) {
        for stanza in self.presences(account) {
            let gone = Stanza::new(Kind::Presence(PresenceType::Unavailable));
            let flight = InFlight::promising(gone.addressed(stanza.from, Some(contact.clone())));
            self.send(InFlight { filters, ..flight });
        }
    }
}

/// Section 4.7.2.3: an integer between -128 and 127; absent means 0.
pub(super) fn priority(stanza: &Stanza) -> Result<i8, StanzaError> {
    match stanza.child(ns::CLIENT, "priority") {
        None => Ok(0),
        Some(p) => p.text().trim().parse().map_err(|_| Condition::BadRequest.because("The priority is no number.")),
    }
}

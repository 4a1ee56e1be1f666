//! Who hears of what happens to a node, and what they hear (XEP-0060 section 7.1.2, XEP-0163 sections 3 and 4).

use super::subscribers::State;
use super::{
    AccessModel, Affiliation, Affiliations, Config, Item, Node, Nodes, Requests, SendLast, Service, Subscriptions,
};
use crate::core::Core;
use crate::core::caps::Capabilities;
use crate::core::flight::InFlight;
use crate::core::roster::{SEEING, SEEN};
use crate::core::session::SessionId;
use crate::fault::{Fault, armed};
use crate::jid::Jid;
use crate::stanza::{Kind, MessageType, Stanza, StanzaError, delay};
use crate::storage::StoreError;
use crate::xml::{Element, ns};
use std::collections::BTreeSet;

/// One account may take this part of what a client that comes online gets.
const ACCOUNTS_IN_CATCH_UP: usize = 16;
/// Bytes of a notification beside its item, roughly.
const MESSAGE_BYTES: usize = 300;

/// What has happened to a node.
pub(super) enum Event<'e> {
    /// With its payload, already read.
    Published(&'e Item, Option<&'e Element>),
    /// The same item later, to somebody who has come to want it.
    Last(&'e Item, Option<&'e Element>),
    /// Something has happened of which there is no item (section 7.1.1).
    Signalled,
    /// The item of that id is gone.
    Retracted(&'e str),
    /// All items are gone.
    Purged,
    /// The node itself is gone; the URI of what comes in its place.
    Deleted(Option<&'e str>),
    /// It is configured differently.
    Configured,
}

impl Service<'_> {
    /// Tells all subscribers. Everything that is told is stored in the same step, so it is a promise.
    pub(super) fn notify(&mut self, name: &str, config: &Config, event: &Event<'_>) -> Result<(), StoreError> {
        if !config.deliver_notifications || armed(Fault::EventForgotten) {
            return Ok(());
        }
        let mut recipients = match self.policy.is_domain() {
            true => self.subscribers(name, config)?,
            false => self.recipients(name, config)?,
        };
        // Section 8.4.2: who waits for an owner need not wait any more.
        if matches!(event, Event::Deleted(_)) && self.policy.is_domain() {
            recipients.extend(self.rows_of::<Requests>(name)?.into_iter().map(|(jid, _)| jid));
        }
        self.tell(name, config, event, recipients);
        Ok(())
    }

    fn tell(&mut self, name: &str, config: &Config, event: &Event<'_>, recipients: impl IntoIterator<Item = Jid>) {
        let mut recipients = recipients.into_iter().peekable();
        if recipients.peek().is_none() {
            return;
        }
        let kind = if config.headline { MessageType::Headline } else { MessageType::Normal };
        let id = self.core.token();
        let stanza = message(kind, name, config, event, self.policy.is_domain());
        let mut stanza = stanza.addressed(Some(self.owner.clone()), None).with_id(&id);
        if let Event::Last(Item { at_ms: at_ms @ 1.., .. }, _) = event {
            delay::stamp(&mut stanza, self.owner.as_str(), i64::try_from(*at_ms).unwrap_or(i64::MAX));
        }
        let tail = stanza.tail();
        for to in recipients {
            let flight = InFlight::promising(Stanza { to: Some(to), ..stanza.clone() });
            self.core.send(InFlight { tail: Some(tail.clone()), ..flight });
        }
    }

    /// Addresses that a notification of a domain goes to: those that have subscribed (section 13.3). A subscription of
    /// somebody who may not read any more ends here, and he hears of it.
    fn subscribers(&mut self, name: &str, config: &Config) -> Result<BTreeSet<Jid>, StoreError> {
        let node = Node { config: config.clone(), next: 0, items: 0 };
        let bars = |affiliation| matches!(affiliation, Affiliation::Outcast | Affiliation::PublishOnly);
        // Most nodes are open to all, and then nobody has to be looked up.
        let bars_some = config.access != AccessModel::Open
            || self.rows_of::<Affiliations>(name)?.iter().any(|(_, row)| bars(row.affiliation));
        let mut to = BTreeSet::new();
        for (jid, _) in self.rows_of::<Subscriptions>(name)? {
            // What cannot be read now is not told now, and nothing ends by that.
            match if bars_some { self.reads(name, &node, &jid) } else { Ok(true) } {
                Ok(true) => _ = to.insert(jid),
                Ok(false) => {
                    self.unsubscribe(name, &jid)?;
                    self.tell_state(name, &node, &jid, State::None);
                }
                Err(_) => {}
            }
        }
        Ok(to)
    }

    /// Addresses that a notification of an account goes to, each once (XEP-0163 section 4.3.2). A subscription of
    /// somebody who may not read any more ends here (XEP-0163 section 7.1).
    fn recipients(&mut self, name: &str, config: &Config) -> Result<BTreeSet<Jid>, StoreError> {
        let node = Node { config: config.clone(), next: 0, items: 0 };
        let mut to = BTreeSet::new();
        let owner = self.owner.clone();
        self.add_interested(name, &owner, &mut to);
        for contact in self.automatic(name, config)? {
            // What cannot be read now is not told now.
            if self.reads(name, &node, &contact).unwrap_or(false) {
                self.add_interested(name, &contact, &mut to);
            }
        }
        for (jid, _) in self.rows_of::<Subscriptions>(name)? {
            let is_known = |known: &Jid| *known == jid || (jid.is_bare() && known.same_bare(&jid));
            match self.reads(name, &node, &jid) {
                Ok(true) if to.iter().any(is_known) => {}
                Ok(true) => _ = to.insert(jid),
                Ok(false) => self.unsubscribe(name, &jid)?,
                Err(_) => {}
            }
        }
        Ok(to)
    }

    /// Who is subscribed without having asked: contacts that see the owner, and whoever is on the list of a closed
    /// node.
    fn automatic(&mut self, name: &str, config: &Config) -> Result<Vec<Jid>, StoreError> {
        let owner = self.owner.bare_str().to_string();
        if config.access == AccessModel::Whitelist {
            let mut members = Vec::new();
            for (jid, _) in self.rows_of::<Affiliations>(name)? {
                if self.core.is_seen_by(&self.owner.clone(), &jid)? {
                    members.push(jid);
                }
            }
            return Ok(members);
        }
        Ok(self.core.contacts(&owner, SEEING)?.collect())
    }

    /// Adds those sessions of an account that have asked for the node by their capabilities.
    fn add_interested(&mut self, name: &str, account: &Jid, to: &mut BTreeSet<Jid>) {
        for id in self.core.sessions.of(account) {
            if self.core.caps.wants(*id, name)
                && let Some(session) = self.core.sessions.get(*id)
            {
                to.insert(session.jid.clone());
            }
        }
        if !self.core.is_local(account) {
            to.extend(self.core.caps.remote_wanting(account, &self.owner, name).cloned());
        }
    }

    /// Sends the last item of a node to one address, with its time (section 6.1.7).
    pub(super) fn tell_last(&mut self, name: &str, config: &Config, to: &Jid) -> Result<(), StoreError> {
        if let Some(item) = self.items(name, 1)?.pop() {
            self.tell(name, config, &Event::Last(&item, item.read().as_ref()), [to.clone()]);
        }
        Ok(())
    }

    /// The same as long as there is room for it.
    pub(super) fn tell_last_within(
        &mut self,
        name: &str,
        node: &Node,
        to: &Jid,
        room_bytes: &mut usize,
    ) -> Result<(), StoreError> {
        let Some(item) = self.items(name, 1)?.pop() else { return Ok(()) };
        let bytes = super::bytes(&item) as usize + MESSAGE_BYTES;
        if bytes <= *room_bytes {
            *room_bytes -= bytes;
            self.tell(name, &node.config, &Event::Last(&item, item.read().as_ref()), [to.clone()]);
        }
        Ok(())
    }
}

impl Core {
    /// Sends a session the last items of those nodes that it has come to want: of its own account and of contacts that
    /// it sees (XEP-0163 section 4.3.4).
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn pubsub_catch_up(&mut self, id: SessionId) -> Result<(), StanzaError> {
        let Some(jid) = self.sessions.get(id).map(|s| s.jid.clone()) else { return Ok(()) };
        if !self.caps.wants_any(id) {
            return Ok(());
        }
        let mut room_bytes = self.settings.limits.pubsub_catch_up_bytes_max as usize;
        let wants = |caps: &Capabilities, node: &str| caps.wants(id, node);
        self.pubsub_last_items(&jid.bare(), &jid, &wants, &mut room_bytes)?;
        for contact in self.contacts(jid.bare_str(), SEEN)? {
            if self.is_local(&contact) && self.is_seen_by(&contact, &jid)? {
                self.pubsub_last_items(&contact, &jid, &wants, &mut room_bytes)?;
            }
        }
        Ok(())
    }

    /// Lets a contact have the last items of an account that it sees from now on.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn pubsub_show(&mut self, account: &Jid, contact: &Jid) -> Result<(), StanzaError> {
        let mut room_bytes = self.settings.limits.pubsub_catch_up_bytes_max as usize;
        for id in self.sessions.of(contact).to_vec() {
            let Some(jid) = self.sessions.get(id).map(|s| s.jid.clone()) else { continue };
            if (contact.is_bare() || jid == *contact) && self.caps.wants_any(id) {
                let wants = |caps: &Capabilities, node: &str| caps.wants(id, node);
                self.pubsub_last_items(account, &jid, &wants, &mut room_bytes)?;
            }
        }
        Ok(())
    }

    /// Lets a client of another server have the last items of an account that it sees from now on.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn pubsub_show_remote(&mut self, account: &Jid, client: &Jid) -> Result<(), StanzaError> {
        let mut room_bytes = self.settings.limits.pubsub_catch_up_bytes_max as usize;
        let wanted = self.caps.remote_wants(client);
        let wants = |_: &Capabilities, node: &str| wanted.iter().any(|want| **want == *node);
        self.pubsub_last_items(account, client, &wants, &mut room_bytes)
    }

    /// Sends as much as there is room for, and as one account may take of it: nobody's items fill the queue of another.
    fn pubsub_last_items(
        &mut self,
        account: &Jid,
        to: &Jid,
        wants: &dyn Fn(&Capabilities, &str) -> bool,
        room_bytes: &mut usize,
    ) -> Result<(), StanzaError> {
        let mut share_bytes = self.settings.limits.pubsub_catch_up_bytes_max as usize / ACCOUNTS_IN_CATCH_UP;
        for (key, node) in self.view.list::<Nodes>(account.bare_str(), usize::MAX)? {
            let Ok(name) = String::from_utf8(key) else { continue };
            let sends = node.config.send_last == SendLast::OnSubAndPresence && node.config.deliver_notifications;
            if sends && node.items > 0 && wants(&self.caps, &name) {
                let mut service = self.pubsub(account);
                if service.reads(&name, &node, to)? {
                    let mut left_bytes = share_bytes.min(*room_bytes);
                    let before = left_bytes;
                    service.tell_last_within(&name, &node, to, &mut left_bytes)?;
                    (*room_bytes, share_bytes) =
                        (*room_bytes - (before - left_bytes), share_bytes - (before - left_bytes));
                }
            }
        }
        Ok(())
    }
}

fn message(kind: MessageType, name: &str, config: &Config, event: &Event<'_>, of_domain: bool) -> Stanza {
    const NS: &str = ns::PUBSUB_EVENT;
    Stanza::build(Kind::Message(kind), |b| {
        b.open(NS, "event");
        match event {
            Event::Published(item, payload) | Event::Last(item, payload) => {
                b.open(NS, "items").attr("node", name);
                item.build(b, NS, config, payload.filter(|_| config.deliver_payloads));
                b.close();
            }
            Event::Signalled => _ = b.open(NS, "items").attr("node", name).close(),
            Event::Retracted(id) => {
                b.open(NS, "items").attr("node", name);
                b.open(NS, "retract").attr("id", id).close().close();
            }
            Event::Purged => _ = b.open(NS, "purge").attr("node", name).close(),
            Event::Deleted(instead) => {
                b.open(NS, "delete").attr("node", name);
                if let Some(uri) = instead {
                    b.open(NS, "redirect").attr("uri", uri).close();
                }
                b.close();
            }
            Event::Configured => {
                b.open(NS, "configuration").attr("node", name);
                if config.deliver_payloads {
                    config.build(b, "result", of_domain);
                }
                b.close();
            }
        }
        b.close();
    })
}

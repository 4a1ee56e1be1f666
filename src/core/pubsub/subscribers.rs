//! Who has to do with a node: subscriptions, requests for one, and what leads from an address to its nodes.

use super::tables::Subscribed;
use super::{Affiliations, Asked, Requests, SendLast, Service, StanzaError, Subscriptions, Tie, Ties, refusal, sub};
use crate::jid::Jid;
use crate::stanza::Condition;
use crate::storage::{StoreError, Table};

/// What somebody's subscription is (section 4.2). Nothing has to be configured here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is none.
    None,
    /// An owner is asked.
    Pending,
    /// He is told what happens.
    Subscribed,
}

impl State {
    /// The attribute's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pending => "pending",
            Self::Subscribed => "subscribed",
        }
    }
}

impl Service<'_> {
    /// Rows that belong to a node, with the address in their sub keys, by address.
    pub(super) fn rows_of<T: Table>(&mut self, name: &str) -> Result<Vec<(Jid, T::Value)>, StoreError> {
        let rows = self.core.view.list_from::<T>(self.owner.bare_str(), &sub(name, b""), usize::MAX)?;
        Ok(rows.into_iter().filter_map(|(key, row)| Some((address(name, &key)?, row))).collect())
    }

    /// The same, of one entity: its bare address and its resources.
    fn rows_of_entity<T: Table>(&mut self, name: &str, who: &Jid) -> Result<Vec<Jid>, StoreError> {
        let rows =
            self.core.view.list_from::<T>(self.owner.bare_str(), &sub(name, who.bare_str().as_bytes()), usize::MAX)?;
        let addresses = rows.iter().filter_map(|(key, _)| address(name, key));
        Ok(addresses.filter(|jid| jid.same_bare(who)).collect())
    }

    /// Subscriptions of an entity to a node, those that wait for an owner behind the others.
    pub(super) fn of_entity(&mut self, name: &str, who: &Jid) -> Result<Vec<(Jid, State)>, StoreError> {
        let mut all: Vec<(Jid, State)> =
            self.rows_of_entity::<Subscriptions>(name, who)?.into_iter().map(|jid| (jid, State::Subscribed)).collect();
        if self.policy.is_domain() {
            let asked = self.rows_of_entity::<Requests>(name, who)?;
            all.extend(asked.into_iter().map(|jid| (jid, State::Pending)));
        }
        Ok(all)
    }

    /// What the subscription of one address is.
    pub(super) fn state(&mut self, name: &str, jid: &Jid) -> Result<State, StoreError> {
        let (owner, key) = (self.owner.bare_str(), sub(name, jid.as_str().as_bytes()));
        Ok(match self.core.view.contains::<Subscriptions>(owner, &key)? {
            true => State::Subscribed,
            false if self.policy.is_domain() && self.core.view.contains::<Requests>(owner, &key)? => State::Pending,
            false => State::None,
        })
    }

    /// Refuses one subscription more than a node takes, or than one entity may have there.
    fn check_room(&mut self, name: &str, jid: &Jid) -> Result<(), StanzaError> {
        let (owner, max) = (self.owner.bare_str().to_string(), self.entities_max());
        let mut all = self.core.view.list_from::<Subscriptions>(&owner, &sub(name, b""), max)?.len();
        if self.policy.is_domain() {
            all += self.core.view.list_from::<Requests>(&owner, &sub(name, b""), max)?.len();
        }
        let own_max = self.core.settings.limits.pubsub_subscriptions_per_entity_max as usize;
        if all < max && self.of_entity(name, jid)?.len() < own_max {
            return Ok(());
        }
        Err(StanzaError { error_type: Some("wait"), ..refusal(Condition::PolicyViolation, "too-many-subscriptions") })
    }

    /// Stores a subscription, in the place of a request for one.
    pub(super) fn subscribe(&mut self, name: &str, jid: &Jid) -> Result<(), StanzaError> {
        let state = self.state(name, jid)?;
        let (owner, key) = (self.owner.bare_str().to_string(), sub(name, jid.as_str().as_bytes()));
        match state {
            State::Subscribed => return Ok(()),
            State::Pending => self.core.view.delete::<Requests>(&owner, &key),
            State::None => self.check_room(name, jid)?,
        }
        self.core.view.put::<Subscriptions>(&owner, &key, &Subscribed {});
        self.tie(name, jid);
        Ok(())
    }

    /// Stores that somebody asks to be subscribed.
    ///
    /// # Errors
    /// `not-authorized` with `pending-subscription` when he has asked before (section 6.1.3.7).
    pub(super) fn ask(&mut self, name: &str, jid: &Jid) -> Result<(), StanzaError> {
        if self.state(name, jid)? == State::Pending {
            return Err(refusal(Condition::NotAuthorized, "pending-subscription"));
        }
        self.check_room(name, jid)?;
        let key = sub(name, jid.as_str().as_bytes());
        self.core.view.put::<Requests>(self.owner.bare_str(), &key, &Asked {});
        self.tie(name, jid);
        Ok(())
    }

    /// Ends a subscription, or the request for one.
    pub(super) fn unsubscribe(&mut self, name: &str, jid: &Jid) -> Result<(), StoreError> {
        let (owner, key) = (self.owner.bare_str().to_string(), sub(name, jid.as_str().as_bytes()));
        self.core.view.delete::<Subscriptions>(&owner, &key);
        if self.policy.is_domain() {
            self.core.view.delete::<Requests>(&owner, &key);
        }
        self.untie(name, jid)
    }

    /// Remembers that somebody has to do with a node. The nodes of an account are few, and can all be looked at.
    pub(super) fn tie(&mut self, name: &str, who: &Jid) {
        if self.policy.is_domain() {
            let key = sub(who.bare_str(), name.as_bytes());
            self.core.view.put::<Ties>(self.owner.bare_str(), &key, &Tie {});
        }
    }

    /// Forgets that again, if it is not so any more.
    pub(super) fn untie(&mut self, name: &str, who: &Jid) -> Result<(), StoreError> {
        if !self.policy.is_domain() {
            return Ok(());
        }
        let owner = self.owner.bare_str().to_string();
        let is_affiliated = self.core.view.contains::<Affiliations>(&owner, &sub(name, who.bare_str().as_bytes()))?;
        if !is_affiliated && self.of_entity(name, who)?.is_empty() {
            self.core.view.delete::<Ties>(&owner, &sub(who.bare_str(), name.as_bytes()));
        }
        Ok(())
    }

    /// Names of the nodes of a domain with which somebody has to do.
    fn tied(&mut self, who: &Jid) -> Result<Vec<String>, StoreError> {
        let prefix = sub(who.bare_str(), b"");
        let rows = self.core.view.list_from::<Ties>(self.owner.bare_str(), &prefix, usize::MAX)?;
        let names =
            rows.into_iter().map(|(key, _)| String::from_utf8(key.get(prefix.len()..).unwrap_or_default().to_vec()));
        Ok(names.filter_map(Result::ok).collect())
    }

    /// Names of nodes with which somebody may have to do.
    pub(super) fn nodes_of(&mut self, who: &Jid) -> Result<Vec<String>, StoreError> {
        match self.policy.is_domain() {
            true => self.tied(who),
            false => Ok(self.nodes()?.into_iter().map(|(name, _)| name).collect()),
        }
    }

    /// Forgets everybody who has to do with a node.
    pub(super) fn forget_entities(&mut self, name: &str) -> Result<(), StoreError> {
        let owner = self.owner.bare_str().to_string();
        let mut gone: Vec<Jid> = Vec::new();
        for (jid, _) in self.rows_of::<Subscriptions>(name)? {
            self.core.view.delete::<Subscriptions>(&owner, &sub(name, jid.as_str().as_bytes()));
            gone.push(jid);
        }
        for (jid, _) in self.rows_of::<Affiliations>(name)? {
            self.core.view.delete::<Affiliations>(&owner, &sub(name, jid.as_str().as_bytes()));
            gone.push(jid);
        }
        if self.policy.is_domain() {
            for (jid, _) in self.rows_of::<Requests>(name)? {
                self.core.view.delete::<Requests>(&owner, &sub(name, jid.as_str().as_bytes()));
                gone.push(jid);
            }
            for jid in gone {
                self.core.view.delete::<Ties>(&owner, &sub(jid.bare_str(), name.as_bytes()));
            }
        }
        Ok(())
    }

    /// An address takes no messages (section 13.4): it is subscribed to no node of the domain any more. Unless it is
    /// known to be gone, that is so for headlines alone: other messages are refused, too, where nobody is there.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn bounced(&mut self, jid: &Jid, is_gone: bool) -> Result<(), StoreError> {
        for name in self.tied(jid)? {
            let ends = is_gone || self.node(&name)?.is_some_and(|node| node.config.headline);
            if ends && self.state(&name, jid)? != State::None {
                self.unsubscribe(&name, jid)?;
            }
        }
        Ok(())
    }

    /// An account is no more: it has to do with no node of the domain, and nodes that nobody else owns go, too.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn account_gone(&mut self, account: &Jid) -> Result<(), StoreError> {
        for name in self.tied(account)? {
            for (jid, _) in self.of_entity(&name, account)? {
                self.unsubscribe(&name, &jid)?;
            }
            let owners = self.owners(&name)?;
            if owners.iter().all(|owner| owner.same_bare(account)) && !owners.is_empty() {
                if let Some(node) = self.node(&name)? {
                    self.delete(&name, &node, None)?;
                }
            } else {
                self.put_affiliation(&name, account, None)?;
            }
        }
        Ok(())
    }

    /// A subscriber is online, as he says to the domain itself: the last items of those nodes that want that.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn came_online(&mut self, who: &Jid) -> Result<(), StanzaError> {
        let mut room_bytes = self.core.settings.limits.pubsub_catch_up_bytes_max as usize;
        for name in self.tied(who)? {
            let Some(node) = self.node(&name)? else { continue };
            if node.config.send_last != SendLast::OnSubAndPresence || !node.config.deliver_notifications {
                continue;
            }
            let addresses = [who.bare(), who.clone()];
            for jid in &addresses[usize::from(who.is_bare())..] {
                if self.state(&name, jid)? == State::Subscribed && self.reads(&name, &node, jid)? {
                    self.tell_last_within(&name, &node, jid, &mut room_bytes)?;
                }
            }
        }
        Ok(())
    }
}

/// The address in the sub key of what belongs to a node.
pub(super) fn address(name: &str, key: &[u8]) -> Option<Jid> {
    Jid::parse(std::str::from_utf8(key.get(name.len() + 1..)?).ok()?).ok()
}

//! Who may do what with a node (XEP-0060 sections 4.1 and 4.5).

use super::{AccessModel, Affiliated, Affiliations, Node, PublishModel, Service, Subscriptions, refusal, sub};
use crate::core::Core;
use crate::fault::{Fault, armed};
use crate::jid::Jid;
use crate::stanza::{Condition, StanzaError};
use crate::storage::StoreError;

crate::record! {
    /// Section 4.1; none at all is an affiliation, too.
    pub enum Affiliation {
        /// May do everything.
        Owner = 0,
        /// May publish and read.
        Publisher = 1,
        /// May publish and not read.
        PublishOnly = 2,
        /// May read.
        Member = 3,
        /// May do nothing.
        Outcast = 4,
    }
}

impl Affiliation {
    /// The attribute's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Publisher => "publisher",
            Self::PublishOnly => "publish-only",
            Self::Member => "member",
            Self::Outcast => "outcast",
        }
    }

    /// Reads the attribute; the inner none is `none`.
    pub(super) fn parse(text: &str) -> Option<Option<Self>> {
        let all = [Self::Owner, Self::Publisher, Self::PublishOnly, Self::Member, Self::Outcast];
        match text {
            "none" => Some(None),
            text => all.into_iter().find(|a| a.as_str() == text).map(Some),
        }
    }
}

impl Service<'_> {
    /// What somebody is to a node.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn affiliation(&mut self, name: &str, who: &Jid) -> Result<Option<Affiliation>, StoreError> {
        if self.is_master(who)? {
            return Ok(Some(Affiliation::Owner));
        }
        let row = self.core.view.get::<Affiliations>(self.owner.bare_str(), &sub(name, who.bare_str().as_bytes()))?;
        Ok(row.map(|Affiliated { affiliation }| affiliation))
    }

    /// Gives somebody an affiliation with a node, or takes it away. Whatever follows from that is for the caller.
    pub(super) fn put_affiliation(
        &mut self,
        name: &str,
        who: &Jid,
        affiliation: Option<Affiliation>,
    ) -> Result<(), StoreError> {
        let (owner, key) = (self.owner.bare_str(), sub(name, who.bare_str().as_bytes()));
        match affiliation {
            Some(affiliation) => {
                self.core.view.put::<Affiliations>(owner, &key, &Affiliated { affiliation });
                self.tie(name, who);
            }
            None => {
                self.core.view.delete::<Affiliations>(owner, &key);
                self.untie(name, who)?;
            }
        }
        Ok(())
    }

    /// Whether somebody may read.
    ///
    /// # Errors
    /// The answer to who may not (sections 6.1.3 and 6.5.9).
    pub fn may_read(&mut self, name: &str, node: &Node, who: &Jid) -> Result<(), StanzaError> {
        match self.affiliation(name, who)? {
            Some(Affiliation::Owner | Affiliation::Publisher | Affiliation::Member) => return Ok(()),
            Some(Affiliation::Outcast | Affiliation::PublishOnly) => return Err(Condition::Forbidden.into()),
            None => {}
        }
        let allowed = match node.config.access {
            AccessModel::Open => true,
            AccessModel::Presence => self.any_owner(name, |core, owner| core.is_seen_by(owner, who))?,
            AccessModel::Roster => self.any_owner(name, |core, owner| {
                let item = core.roster_item(owner.bare_str(), who.bare_str())?;
                Ok(item.listed && item.groups.iter().any(|group| node.config.groups.contains(group)))
            })?,
            AccessModel::Whitelist => false,
            AccessModel::Authorize => self.is_subscribed(name, who)?,
        } || armed(Fault::AccessIgnored);
        match node.config.access {
            _ if allowed => Ok(()),
            AccessModel::Roster => Err(refusal(Condition::NotAuthorized, "not-in-roster-group")),
            AccessModel::Whitelist => Err(refusal(Condition::NotAllowed, "closed-node")),
            AccessModel::Authorize => Err(refusal(Condition::NotAuthorized, "not-subscribed")),
            AccessModel::Presence | AccessModel::Open => {
                Err(refusal(Condition::NotAuthorized, "presence-subscription-required"))
            }
        }
    }

    /// Whether that holds for one of those owners that have a roster here.
    fn any_owner(
        &mut self,
        name: &str,
        mut holds: impl FnMut(&mut Core, &Jid) -> Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        for owner in self.owners(name)? {
            if self.core.is_local(&owner) && holds(self.core, &owner)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// As [`Service::may_read`], where only the verdict counts.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn reads(&mut self, name: &str, node: &Node, who: &Jid) -> Result<bool, StanzaError> {
        verdict(self.may_read(name, node, who))
    }

    /// Whether somebody may subscribe, at once or as soon as an owner has allowed it: false. Who has an affiliation
    /// has been allowed (section 6.1.4).
    ///
    /// # Errors
    /// The answer to who may not (section 6.1.3).
    pub(super) fn may_subscribe(&mut self, name: &str, node: &Node, who: &Jid) -> Result<bool, StanzaError> {
        let asks = node.config.access == AccessModel::Authorize
            && self.affiliation(name, who)?.is_none()
            && !self.is_subscribed(name, who)?;
        if asks { Ok(false) } else { self.may_read(name, node, who).map(|()| true) }
    }

    /// Whether somebody may know of a node, and what its metadata says: whoever may read, or ask to (section 5.2).
    ///
    /// # Errors
    /// The answer to who may not.
    pub fn may_know(&mut self, name: &str, node: &Node, who: &Jid) -> Result<(), StanzaError> {
        self.may_subscribe(name, node, who).map(|_| ())
    }

    /// As [`Service::may_know`], where only the verdict counts.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn knows(&mut self, name: &str, node: &Node, who: &Jid) -> Result<bool, StanzaError> {
        verdict(self.may_know(name, node, who))
    }

    /// Whether somebody may publish.
    pub(super) fn may_publish(&mut self, name: &str, node: &Node, who: &Jid) -> Result<(), StanzaError> {
        let allowed = match self.affiliation(name, who)? {
            Some(Affiliation::Owner | Affiliation::Publisher | Affiliation::PublishOnly) => true,
            Some(Affiliation::Outcast) => false,
            Some(Affiliation::Member) | None => match node.config.publish {
                PublishModel::Publishers => false,
                PublishModel::Subscribers => self.is_subscribed(name, who)?,
                PublishModel::Open => true,
            },
        };
        if allowed { Ok(()) } else { Err(Condition::Forbidden.into()) }
    }

    /// Whether somebody may delete an item: owners all, publishers their own (section 7.2.1).
    pub(super) fn may_retract(
        &mut self,
        name: &str,
        node: &Node,
        publisher: &str,
        who: &Jid,
    ) -> Result<(), StanzaError> {
        match self.affiliation(name, who)? {
            Some(Affiliation::Owner) => Ok(()),
            _ if publisher == who.bare_str() => self.may_publish(name, node, who),
            _ => Err(Condition::Forbidden.into()),
        }
    }

    /// Whether somebody is subscribed, with his bare address or any resource.
    pub(super) fn is_subscribed(&mut self, name: &str, who: &Jid) -> Result<bool, StoreError> {
        let owner = self.owner.bare_str();
        let bare = sub(name, who.bare_str().as_bytes());
        Ok(self.core.view.contains::<Subscriptions>(owner, &bare)?
            || !self.core.view.list_from::<Subscriptions>(owner, &[&bare[..], b"/"].concat(), 1)?.is_empty())
    }
}

fn verdict(may: Result<(), StanzaError>) -> Result<bool, StanzaError> {
    match may {
        Ok(()) => Ok(true),
        Err(error) if error.condition == Condition::InternalServerError => Err(error),
        Err(_) => Ok(false),
    }
}

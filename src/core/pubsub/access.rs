//! Who may do what with a node (XEP-0060 sections 4.1 and 4.5).

use super::{AccessModel, Affiliated, Affiliations, Node, PublishModel, Service, Subscriptions, refusal, sub};
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
    /// What somebody is to a node. The account is owner of all of its nodes.
    pub(super) fn affiliation(&mut self, name: &str, who: &Jid) -> Result<Option<Affiliation>, StoreError> {
        if who.same_bare(&self.owner) {
            return Ok(Some(Affiliation::Owner));
        }
        let row = self.core.view.get::<Affiliations>(self.owner.bare_str(), &sub(name, who.bare_str().as_bytes()))?;
        Ok(row.map(|Affiliated { affiliation }| affiliation))
    }

    /// Whether somebody may subscribe and read.
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
            AccessModel::Presence => self.core.is_seen_by(&self.owner.clone(), who)?,
            AccessModel::Roster => {
                let item = self.core.roster_item(self.owner.bare_str(), who.bare_str())?;
                item.listed && item.groups.iter().any(|group| node.config.groups.contains(group))
            }
            AccessModel::Whitelist => false,
        } || armed(Fault::AccessIgnored);
        match node.config.access {
            _ if allowed => Ok(()),
            AccessModel::Roster => Err(refusal(Condition::NotAuthorized, "not-in-roster-group")),
            AccessModel::Whitelist => Err(refusal(Condition::NotAllowed, "closed-node")),
            AccessModel::Presence | AccessModel::Open => {
                Err(refusal(Condition::NotAuthorized, "presence-subscription-required"))
            }
        }
    }

    /// As [`Service::may_read`], where only the verdict counts.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn reads(&mut self, name: &str, node: &Node, who: &Jid) -> Result<bool, StanzaError> {
        match self.may_read(name, node, who) {
            Ok(()) => Ok(true),
            Err(error) if error.condition == Condition::InternalServerError => Err(error),
            Err(_) => Ok(false),
        }
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

    fn is_subscribed(&mut self, name: &str, who: &Jid) -> Result<bool, StoreError> {
        let owner = self.owner.bare_str();
        Ok(self.core.view.contains::<Subscriptions>(owner, &sub(name, who.as_str().as_bytes()))?
            || self.core.view.contains::<Subscriptions>(owner, &sub(name, who.bare_str().as_bytes()))?)
    }
}

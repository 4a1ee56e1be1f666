//! What differs between the services that share the engine: accounts (XEP-0163) and domains of their own (XEP-0060).

use super::pending::GET_PENDING;
use super::{Affiliation, Affiliations, Config, Origins, Service, unsupported};
use crate::jid::{Jid, prepare_resource};
use crate::setting::words;
use crate::stanza::{Condition, StanzaError};
use crate::storage::StoreError;
use crate::xml::ns;

words! {
    /// Who may make nodes at a service.
    pub enum Creators {
        /// Accounts of this server.
        Local = "local",
        /// Administrators.
        Admins = "admins",
        /// Nobody.
        Nobody = "nobody",
    }
}

/// Who owns the nodes of a service, and what follows from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// An account: it owns all of its nodes, publishing makes them, and who sees its presence is subscribed without
    /// having asked.
    Account,
    /// A domain of its own: nodes belong to those who have made them, or were made owners, and to administrators.
    /// Subscribers have asked, and are told when that ends.
    Domain {
        /// Who may make nodes.
        creators: Creators,
        /// Whoever may make nodes makes them by publishing, too (section 7.1.4).
        auto_create: bool,
    },
}

impl Policy {
    /// True for [`Policy::Domain`]; a build without such services need not hold what is done for them.
    pub fn is_domain(self) -> bool {
        cfg!(feature = "pubsub") && matches!(self, Self::Domain { .. })
    }

    /// Configuration of a new node.
    pub fn defaults(self) -> Config {
        match self {
            Self::Account => Config::default(),
            Self::Domain { .. } => Config::generic(),
        }
    }

    /// True when a node is made by publishing to it.
    pub fn auto_creates(self) -> bool {
        match self {
            Self::Account => true,
            Self::Domain { auto_create, .. } => auto_create,
        }
    }
}

impl Service<'_> {
    /// Who owns a node by its affiliation, as bare addresses. Administrators own the nodes of a domain beside them.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn owners(&mut self, name: &str) -> Result<Vec<Jid>, StoreError> {
        if !self.policy.is_domain() {
            return Ok(vec![self.owner.clone()]);
        }
        let rows = self.rows_of::<Affiliations>(name)?.into_iter();
        Ok(rows.filter(|(_, row)| row.affiliation == Affiliation::Owner).map(|(jid, _)| jid).collect())
    }

    /// Whether somebody owns all nodes, whatever their affiliations say.
    pub(super) fn is_master(&mut self, who: &Jid) -> Result<bool, StoreError> {
        if self.policy.is_domain() { self.core.is_admin(who) } else { Ok(who.same_bare(&self.owner)) }
    }

    /// Whether somebody may make nodes (section 8.1.1).
    pub(super) fn may_create(&mut self, who: &Jid) -> Result<(), StanzaError> {
        let allowed = match self.policy {
            Policy::Account => who.same_bare(&self.owner),
            Policy::Domain { creators: Creators::Nobody, .. } => return Err(unsupported("create-nodes")),
            Policy::Domain { creators: Creators::Admins, .. } => self.core.is_admin(who)?,
            Policy::Domain { creators: Creators::Local, .. } => {
                (who.node().is_some() && self.core.is_local(who)) || self.core.is_admin(who)?
            }
        };
        if allowed { Ok(()) } else { Err(Condition::Forbidden.into()) }
    }

    /// Refuses a name that cannot stand in a URI or an address of a node (section 4.6.2). Those of accounts are
    /// namespaces, and may be anything.
    pub(super) fn check_name(&self, name: &str) -> Result<(), StanzaError> {
        let max = self.core.settings.limits.pubsub_name_bytes_max as usize;
        if name.len() > max {
            return Err(Condition::NotAcceptable.because("The name of the node is too long."));
        }
        // Names that disco knows as something else.
        if self.policy.is_domain() && [ns::COMMANDS, GET_PENDING].contains(&name) {
            return Err(Condition::NotAcceptable.because("The name is that of a command."));
        }
        if self.policy.is_domain() && prepare_resource(name).as_deref() != Ok(name) {
            return Err(Condition::NotAcceptable.because("The name of the node is not in its normal form."));
        }
        Ok(())
    }

    /// Subscriptions that a node takes, those that wait for an owner among them, and affiliations.
    pub(super) fn entities_max(&self) -> usize {
        let limits = &self.core.settings.limits;
        let max = if self.policy.is_domain() {
            limits.pubsub_service_subscriptions_max
        } else {
            limits.pubsub_subscriptions_max
        };
        max as usize
    }

    /// Who has made a node of a domain, and when, in milliseconds since 1970.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn origin(&mut self, name: &str) -> Result<Option<super::Origin>, StoreError> {
        self.core.view.get::<Origins>(self.owner.bare_str(), name.as_bytes())
    }
}

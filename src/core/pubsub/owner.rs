//! Requests of a node's owner (XEP-0060 section 8): `<pubsub/>` in the namespace with `#owner`.

use super::notify::address;
use super::request::{build_subscription, node_name};
use super::{Affiliated, Affiliation, Affiliations, Config, Node, Service, Subscriptions, refusal, sub, unsupported};
use crate::core::Answer;
use crate::jid::Jid;
use crate::stanza::{Condition, StanzaError, form};
use crate::xml::{Builder, ElementRef, ns};

const NS: &str = ns::PUBSUB_OWNER;

impl Service<'_> {
    pub(super) fn owner_request(
        &mut self,
        what: ElementRef<'_>,
        who: &Jid,
        is_set: bool,
    ) -> Result<Answer, StanzaError> {
        if what.ns() != NS {
            return Err(Condition::BadRequest.into());
        }
        if what.name() == "default" && !is_set {
            // Section 8.3.
            let mut b = Builder::new(NS, "pubsub");
            b.open(NS, "default");
            Config::default().build(&mut b, "form");
            return Ok(Answer::Result(b.finish()));
        }
        let name = node_name(what)?;
        let node = self.node(name)?.ok_or(Condition::ItemNotFound)?;
        if self.affiliation(name, who)? != Some(Affiliation::Owner) {
            return Err(Condition::Forbidden.into());
        }
        match (what.name(), is_set) {
            ("configure", false) => {
                let mut b = Builder::new(NS, "pubsub");
                b.open(NS, "configure").attr("node", name);
                node.config.build(&mut b, "form");
                Ok(Answer::Result(b.finish()))
            }
            ("configure", true) => self.set_configuration(name, &node, what),
            // Section 8.4.
            ("delete", true) => {
                self.delete(name, &node)?;
                Ok(Answer::Empty)
            }
            // Section 8.5.
            ("purge", true) if !node.config.persist => Err(unsupported("persistent-items")),
            ("purge", true) => {
                self.purge(name, &node)?;
                Ok(Answer::Empty)
            }
            ("subscriptions", false) => self.list_subscriptions(name),
            ("subscriptions", true) => self.set_subscriptions(name, &node, what),
            ("affiliations", false) => self.list_affiliations(name),
            ("affiliations", true) => self.set_affiliations(name, what),
            _ => Err(Condition::BadRequest.into()),
        }
    }

    /// Section 8.2.4 and 8.2.5.
    fn set_configuration(&mut self, name: &str, node: &Node, what: ElementRef<'_>) -> Result<Answer, StanzaError> {
        let Some(x) = what.child(ns::DATA, "x") else { return Err(Condition::BadRequest.into()) };
        if form::is_cancelled(x) {
            return Ok(Answer::Empty);
        }
        let fields = form::read(x, ns::PUBSUB_NODE_CONFIG)?;
        let config = node.config.with(&fields, self.core.settings.limits.pubsub_items_max)?;
        self.configure(name, node, config)?;
        Ok(Answer::Empty)
    }

    /// Section 8.8.1.
    fn list_subscriptions(&mut self, name: &str) -> Result<Answer, StanzaError> {
        let rows = self.core.view.list_from::<Subscriptions>(self.owner.bare_str(), &sub(name, b""), usize::MAX)?;
        let mut b = Builder::new(NS, "pubsub");
        b.open(NS, "subscriptions").attr("node", name);
        for jid in rows.iter().filter_map(|(key, _)| address(name, key)) {
            build_subscription(&mut b, NS, None, jid.as_str());
        }
        Ok(Answer::Result(b.finish()))
    }

    /// Section 8.8.2.
    fn set_subscriptions(&mut self, name: &str, node: &Node, what: ElementRef<'_>) -> Result<Answer, StanzaError> {
        let mut changes = Vec::new();
        for child in what.children().filter(|c| c.is(NS, "subscription")) {
            let jid = entity(child)?;
            match child.attr("subscription") {
                Some("none") => changes.push((jid, false)),
                Some("subscribed") => {
                    if !self.reads(name, node, &jid)? {
                        return Err(Condition::NotAcceptable.because("This address may not read the node."));
                    }
                    changes.push((jid, true));
                }
                _ => return Err(Condition::NotAcceptable.into()),
            }
        }
        let owner = self.owner.bare_str().to_string();
        let max = self.core.settings.limits.pubsub_subscriptions_max as usize;
        let before = self.core.view.list_from::<Subscriptions>(&owner, &sub(name, b""), max)?.len();
        if before + changes.iter().filter(|(_, subscribe)| *subscribe).count() > max {
            return Err(Condition::NotAcceptable.because("The node has too many subscriptions."));
        }
        for (jid, subscribe) in changes {
            if subscribe {
                self.subscribe(name, &jid)?;
            } else {
                self.core.view.delete::<Subscriptions>(&owner, &sub(name, jid.as_str().as_bytes()));
            }
        }
        Ok(Answer::Empty)
    }

    /// Section 8.9.1. The account itself is always owner.
    fn list_affiliations(&mut self, name: &str) -> Result<Answer, StanzaError> {
        let owner = self.owner.bare_str().to_string();
        let mut b = Builder::new(NS, "pubsub");
        b.open(NS, "affiliations").attr("node", name);
        let mut put = |jid: &str, affiliation: Affiliation| {
            b.open(NS, "affiliation").attr("jid", jid).attr("affiliation", affiliation.as_str()).close();
        };
        put(&owner, Affiliation::Owner);
        for (key, row) in self.core.view.list_from::<Affiliations>(&owner, &sub(name, b""), usize::MAX)? {
            if let Some(jid) = address(name, &key) {
                put(jid.as_str(), row.affiliation);
            }
        }
        Ok(Answer::Result(b.finish()))
    }

    /// Section 8.9.2.
    fn set_affiliations(&mut self, name: &str, what: ElementRef<'_>) -> Result<Answer, StanzaError> {
        let mut changes = Vec::new();
        for child in what.children().filter(|c| c.is(NS, "affiliation")) {
            let jid = entity(child)?.bare();
            if jid == self.owner {
                // Somebody must own it (section 8.9.2).
                return Err(Condition::NotAcceptable.because("The account owns its nodes."));
            }
            match child.attr("affiliation").and_then(Affiliation::parse) {
                Some(affiliation) => changes.push((jid, affiliation)),
                None => return Err(Condition::NotAcceptable.into()),
            }
        }
        let max = self.core.settings.limits.pubsub_subscriptions_max as usize;
        if self.affiliations_len(name)? + changes.len() > max {
            return Err(Condition::ResourceConstraint.because("The node has too many affiliations."));
        }
        let owner = self.owner.bare_str().to_string();
        for (jid, affiliation) in changes {
            let key = sub(name, jid.as_str().as_bytes());
            match affiliation {
                Some(affiliation) => self.core.view.put::<Affiliations>(&owner, &key, &Affiliated { affiliation }),
                None => self.core.view.delete::<Affiliations>(&owner, &key),
            }
        }
        Ok(Answer::Empty)
    }
}

/// The address that an entry of a list names.
fn entity(child: ElementRef<'_>) -> Result<Jid, StanzaError> {
    match child.attr("jid").map(Jid::parse) {
        Some(Ok(jid)) => Ok(jid),
        Some(Err(_)) => Err(Condition::JidMalformed.into()),
        None => Err(refusal(Condition::BadRequest, "jid-required")),
    }
}

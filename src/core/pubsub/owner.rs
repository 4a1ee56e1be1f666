//! Requests of a node's owner (XEP-0060 section 8): `<pubsub/>` in the namespace with `#owner`.

use super::request::{build_subscription, node_name};
use super::subscribers::State;
use super::{AccessModel, Affiliation, Affiliations, Node, Service, Subscriptions, refusal, unsupported};
use crate::core::Answer;
use crate::jid::Jid;
use crate::stanza::{Condition, StanzaError, form};
use crate::xml::{Builder, Element, ElementRef, ns};
use std::collections::BTreeSet;

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
            // Section 8.3. There are no other types of nodes here.
            if what.attr("type").is_some_and(|kind| kind != "leaf") {
                return Err(unsupported("collections"));
            }
            let mut b = Builder::new(NS, "pubsub");
            b.open(NS, "default");
            self.policy.defaults().build(&mut b, "form", self.policy.is_domain());
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
                node.config.build(&mut b, "form", self.policy.is_domain());
                Ok(Answer::Result(b.finish()))
            }
            ("configure", true) => self.set_configuration(name, &node, what),
            // Section 8.4.
            ("delete", true) => {
                let instead = what.child(NS, "redirect").and_then(|redirect| redirect.attr("uri"));
                let max = self.core.settings.limits.pubsub_name_bytes_max as usize;
                self.delete(name, &node, instead.filter(|uri| uri.len() <= max))?;
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
            ("affiliations", true) => self.set_affiliations(name, &node, what),
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
        let config = self.configured(&node.config, &fields)?;
        self.configure(name, node, config)?;
        Ok(Answer::Empty)
    }

    /// Section 8.8.1.
    fn list_subscriptions(&mut self, name: &str) -> Result<Answer, StanzaError> {
        let mut b = Builder::new(NS, "pubsub");
        b.open(NS, "subscriptions").attr("node", name);
        for (jid, _) in self.rows_of::<Subscriptions>(name)? {
            build_subscription(&mut b, NS, None, jid.as_str(), State::Subscribed);
        }
        Ok(Answer::Result(b.finish()))
    }

    /// Section 8.8.2: all changes, or none.
    fn set_subscriptions(&mut self, name: &str, node: &Node, what: ElementRef<'_>) -> Result<Answer, StanzaError> {
        let (mut changes, mut error) = (Vec::new(), None);
        for child in what.children().filter(|c| c.is(NS, "subscription")) {
            let jid = entity(child)?;
            let state = match child.attr("subscription") {
                // What is not said stays.
                None => continue,
                Some("none") => State::None,
                Some("subscribed") => State::Subscribed,
                Some(_) => {
                    error = Some(Condition::NotAcceptable.because("A subscription is given or taken away."));
                    State::None
                }
            };
            if state == State::Subscribed && !self.may_be_subscribed(name, node, &jid)? {
                error = Some(Condition::NotAcceptable.because("This address may not read the node."));
            }
            changes.push((jid, state));
        }
        let max = self.entities_max();
        let subscribes = changes.iter().filter(|(_, state)| *state == State::Subscribed).count();
        if self.rows_of::<Subscriptions>(name)?.len() + subscribes > max {
            error = Some(Condition::NotAcceptable.because("The node has too many subscriptions."));
        }
        if let Some(error) = error {
            let mut b = Builder::new(NS, "pubsub");
            b.open(NS, "subscriptions").attr("node", name);
            for (jid, _) in changes {
                let state = self.state(name, &jid)?;
                build_subscription(&mut b, NS, None, jid.as_str(), state);
            }
            return Ok(refused(b.finish(), error));
        }
        for (jid, state) in changes {
            let before = self.state(name, &jid)?;
            match state {
                _ if before == state => continue,
                // The request that an owner has answered so (section 8.6).
                _ if before == State::Pending => self.decide(name, node, &jid, state == State::Subscribed)?,
                State::Subscribed => {
                    self.subscribe(name, &jid)?;
                    self.tell_state(name, node, &jid, state);
                }
                State::None | State::Pending => {
                    self.unsubscribe(name, &jid)?;
                    self.tell_state(name, node, &jid, State::None);
                }
            }
        }
        Ok(Answer::Empty)
    }

    /// Whether an owner may subscribe an address: where he allows subscriptions, by that.
    fn may_be_subscribed(&mut self, name: &str, node: &Node, jid: &Jid) -> Result<bool, StanzaError> {
        match node.config.access {
            AccessModel::Authorize => self.knows(name, node, jid),
            _ => self.reads(name, node, jid),
        }
    }

    /// Section 8.9.1. An account itself is always owner.
    fn list_affiliations(&mut self, name: &str) -> Result<Answer, StanzaError> {
        let mut b = Builder::new(NS, "pubsub");
        b.open(NS, "affiliations").attr("node", name);
        let mut put = |jid: &str, affiliation: Affiliation| {
            b.open(NS, "affiliation").attr("jid", jid).attr("affiliation", affiliation.as_str()).close();
        };
        if !self.policy.is_domain() {
            put(self.owner.bare_str(), Affiliation::Owner);
        }
        for (jid, row) in self.rows_of::<Affiliations>(name)? {
            put(jid.as_str(), row.affiliation);
        }
        Ok(Answer::Result(b.finish()))
    }

    /// Section 8.9.2: all changes, or none.
    fn set_affiliations(&mut self, name: &str, node: &Node, what: ElementRef<'_>) -> Result<Answer, StanzaError> {
        let (mut changes, mut error) = (Vec::new(), None);
        let mut seen = BTreeSet::new();
        for child in what.children().filter(|c| c.is(NS, "affiliation")) {
            let jid = entity(child)?.bare();
            if !seen.insert(jid.clone()) {
                return Err(Condition::BadRequest.because("An address is named twice."));
            }
            let affiliation = match child.attr("affiliation").map(Affiliation::parse) {
                None => continue,
                Some(Some(affiliation)) => affiliation,
                Some(None) => {
                    error = Some(Condition::NotAcceptable.because("There is no such affiliation."));
                    None
                }
            };
            changes.push((jid, affiliation));
        }
        // Somebody must own a node (section 8.9.2.4).
        let changed = |jid: &Jid| changes.iter().find(|(known, _)| known == jid).map(|(_, affiliation)| *affiliation);
        let stays = self.owners(name)?.iter().any(|jid| changed(jid).is_none_or(|new| new == Some(Affiliation::Owner)));
        let comes = self.policy.is_domain() && changes.iter().any(|(_, new)| *new == Some(Affiliation::Owner));
        if (!stays && !comes) || (!self.policy.is_domain() && changed(&self.owner).is_some()) {
            error = Some(Condition::NotAcceptable.because("The node must have an owner."));
        }
        if let Some(error) = error {
            let mut b = Builder::new(NS, "pubsub");
            b.open(NS, "affiliations").attr("node", name);
            for (jid, _) in changes {
                let old = self.affiliation(name, &jid)?.map_or("none", Affiliation::as_str);
                b.open(NS, "affiliation").attr("jid", jid.as_str()).attr("affiliation", old).close();
            }
            return Ok(refused(b.finish(), error));
        }
        let given = changes.iter().filter(|(_, affiliation)| affiliation.is_some()).count();
        if self.rows_of::<Affiliations>(name)?.len() + given > self.entities_max() {
            return Err(Condition::ResourceConstraint.because("The node has too many affiliations."));
        }
        for (jid, affiliation) in changes {
            self.put_affiliation(name, &jid, affiliation)?;
            self.settle(name, node, &jid)?;
        }
        Ok(Answer::Empty)
    }
}

/// Sections 8.8.2.4 and 8.9.2.4: what was not changed is in the answer as it is.
fn refused(unchanged: Element, error: StanzaError) -> Answer {
    Answer::Refused(unchanged, Box::new(error))
}

/// The address that an entry of a list names.
fn entity(child: ElementRef<'_>) -> Result<Jid, StanzaError> {
    match child.attr("jid").map(Jid::parse) {
        Some(Ok(jid)) => Ok(jid),
        Some(Err(_)) => Err(Condition::JidMalformed.into()),
        None => Err(refusal(Condition::BadRequest, "jid-required")),
    }
}

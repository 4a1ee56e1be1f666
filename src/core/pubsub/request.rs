//! Requests of everybody (XEP-0060 sections 5 to 7): `<pubsub/>` in the namespace without `#owner`.

use super::subscribers::State;
use super::{AccessModel, Config, SendLast, Service, refusal, unsupported};
use crate::core::{Answer, Core, Request};
use crate::jid::Jid;
use crate::stanza::{Condition, StanzaError, form, rsm};
use crate::xml::{Builder, ElementRef, ns};

const NS: &str = ns::PUBSUB;

impl Core {
    /// Answers a request to the nodes of an account.
    ///
    /// # Errors
    /// The stanza error to send.
    pub fn pubsub_request(&mut self, request: &Request<'_>) -> Result<Answer, StanzaError> {
        self.pubsub(request.owner).request(request)
    }
}

impl Service<'_> {
    /// Answers a request.
    ///
    /// # Errors
    /// The stanza error to send.
    pub fn request(&mut self, request: &Request<'_>) -> Result<Answer, StanzaError> {
        let Some(who) = request.stanza.from.clone() else { return Err(Condition::BadRequest.into()) };
        let Some(what) = request.child.children().next() else { return Err(Condition::BadRequest.into()) };
        if request.child.ns() == ns::PUBSUB_OWNER {
            return self.owner_request(what, &who, request.is_set);
        }
        if what.ns() != NS {
            return Err(Condition::BadRequest.into());
        }
        let beside = |name| request.child.child(NS, name);
        match (what.name(), request.is_set) {
            ("publish", true) => self.on_publish(what, beside("publish-options"), &who),
            ("retract", true) => self.on_retract(what, &who),
            ("create", true) => self.on_create(what, beside("configure"), &who),
            ("subscribe", true) if beside("options").is_some() => Err(unsupported("subscription-options")),
            ("subscribe", true) => self.on_subscribe(what, &who),
            ("unsubscribe", true) => self.on_unsubscribe(what, &who),
            ("items", false) => self.on_items(what, rsm::Wish::read(request.child)?, &who),
            ("subscriptions", false) => self.on_subscriptions(what, &who),
            ("affiliations", false) => self.on_affiliations(what, &who),
            ("options", _) => Err(unsupported("subscription-options")),
            ("default", false) => Err(unsupported("retrieve-default-sub")),
            _ => Err(Condition::BadRequest.into()),
        }
    }
}

/// The node that a request names.
///
/// # Errors
/// `bad-request` with `nodeid-required`.
pub(super) fn node_name<'a>(what: ElementRef<'a>) -> Result<&'a str, StanzaError> {
    match what.attr("node") {
        Some(name) if !name.is_empty() => Ok(name),
        _ => Err(refusal(Condition::BadRequest, "nodeid-required")),
    }
}

/// The address that a request names in `jid`; it must be the asker's own (section 6.1.3.1).
fn own_address(what: ElementRef<'_>, who: &Jid) -> Result<Jid, StanzaError> {
    match what.attr("jid").map(Jid::parse) {
        Some(Ok(jid)) if jid.same_bare(who) => Ok(jid),
        _ => Err(refusal(Condition::BadRequest, "invalid-jid")),
    }
}

impl Service<'_> {
    /// Section 7.1, and XEP-0163 section 3: a node that is not there is made.
    fn on_publish(
        &mut self,
        publish: ElementRef<'_>,
        options: Option<ElementRef<'_>>,
        who: &Jid,
    ) -> Result<Answer, StanzaError> {
        let name = node_name(publish)?;
        let mut items = publish.children().filter(|c| c.is(NS, "item"));
        let item = items.next();
        if items.next().is_some() {
            return Err(unsupported("multi-items"));
        }
        let id = item.and_then(|item| item.attr("id")).filter(|id| !id.is_empty());
        let mut payloads = item.into_iter().flat_map(|item| item.children());
        let payload = payloads.next();
        if payloads.next().is_some() {
            return Err(refusal(Condition::BadRequest, "invalid-payload"));
        }
        let fields = match options {
            Some(options) => {
                let x = options.child(ns::DATA, "x").ok_or(Condition::BadRequest)?;
                form::read(x, ns::PUBSUB_PUBLISH_OPTIONS)?
            }
            None => Vec::new(),
        };
        let node = match self.node(name)? {
            Some(node) => {
                self.may_publish(name, &node, who)?;
                // Section 7.1.5: each option is a condition on the configuration.
                if self.configured(&node.config, &fields)? != node.config {
                    return Err(refusal(Condition::Conflict, "precondition-not-met"));
                }
                check_payload(&node.config, item, payload)?;
                node
            }
            None if self.policy.auto_creates() && self.may_create(who).is_ok() => {
                let config = self.configured(&self.policy.defaults(), &fields)?;
                check_payload(&config, item, payload)?;
                self.create_for(name, config, who)?
            }
            None => return Err(Condition::ItemNotFound.into()),
        };
        let mut b = Builder::new(NS, "pubsub");
        b.open(NS, "publish").attr("node", name);
        if item.is_some() {
            let id = self.publish(name, &node, id, payload, who)?;
            b.open(NS, "item").attr("id", &id);
        } else {
            self.signal(name, &node)?;
        }
        Ok(Answer::Result(b.finish()))
    }

    /// The configuration with the fields of a form set.
    pub(super) fn configured(&self, config: &Config, fields: &[form::Values]) -> Result<Config, StanzaError> {
        let new = config.with(fields, self.core.settings.limits.pubsub_items_max)?;
        // Who may read the nodes of an account is in its roster, and nobody has to be asked.
        if !self.policy.is_domain() && new.access == AccessModel::Authorize {
            return Err(refusal(Condition::NotAcceptable, "unsupported-access-model"));
        }
        Ok(new)
    }

    /// Section 7.2.
    fn on_retract(&mut self, retract: ElementRef<'_>, who: &Jid) -> Result<Answer, StanzaError> {
        let name = node_name(retract)?;
        let mut items = retract.children().filter(|c| c.is(NS, "item"));
        let id = items.next().and_then(|item| item.attr("id")).filter(|id| !id.is_empty());
        let Some(id) = id else { return Err(refusal(Condition::BadRequest, "item-required")) };
        if items.next().is_some() {
            return Err(unsupported("multi-items"));
        }
        let node = self.node(name)?.ok_or(Condition::ItemNotFound)?;
        match self.item(name, id)? {
            Some(item) => self.may_retract(name, &node, &item.publisher, who)?,
            // Who may not publish does not learn which items there are.
            None => self.may_publish(name, &node, who)?,
        }
        if !node.config.persist {
            return Err(unsupported("persistent-items"));
        }
        let notify = matches!(retract.attr("notify"), Some("1" | "true"));
        self.retract(name, &node, id, notify)?;
        Ok(Answer::Empty)
    }

    /// Section 8.1.
    fn on_create(
        &mut self,
        create: ElementRef<'_>,
        configure: Option<ElementRef<'_>>,
        who: &Jid,
    ) -> Result<Answer, StanzaError> {
        self.may_create(who)?;
        let instant;
        let name = match create.attr("node").filter(|name| !name.is_empty()) {
            Some(name) => name,
            None if self.policy.is_domain() => {
                instant = self.core.token();
                &instant
            }
            // Section 8.1.2 has nodes without a name; at an account they would be of no use.
            None => return Err(refusal(Condition::NotAcceptable, "nodeid-required")),
        };
        // Section 8.1.3: the node is named once.
        if configure.is_some_and(|configure| configure.attr("node").is_some()) {
            return Err(Condition::BadRequest.because("The node is named where it is created."));
        }
        let fields = match configure.and_then(|c| c.child(ns::DATA, "x")) {
            Some(x) => form::read(x, ns::PUBSUB_NODE_CONFIG)?,
            None => Vec::new(),
        };
        let config = self.configured(&self.policy.defaults(), &fields)?;
        self.create_for(name, config, who)?;
        let mut b = Builder::new(NS, "pubsub");
        b.open(NS, "create").attr("node", name);
        Ok(Answer::Result(b.finish()))
    }

    /// Section 6.1.
    fn on_subscribe(&mut self, subscribe: ElementRef<'_>, who: &Jid) -> Result<Answer, StanzaError> {
        let name = node_name(subscribe)?;
        let jid = own_address(subscribe, who)?;
        let node = self.node(name)?.ok_or(Condition::ItemNotFound)?;
        let state = if self.may_subscribe(name, &node, who)? {
            self.subscribe(name, &jid)?;
            if node.config.send_last != SendLast::Never && node.config.deliver_notifications {
                self.tell_last(name, &node.config, &jid)?;
            }
            State::Subscribed
        } else {
            self.ask(name, &jid)?;
            self.ask_owners(name, &jid)?;
            State::Pending
        };
        let mut b = Builder::new(NS, "pubsub");
        build_subscription(&mut b, NS, Some(name), jid.as_str(), state);
        Ok(Answer::Result(b.finish()))
    }

    /// Section 6.2.
    fn on_unsubscribe(&mut self, unsubscribe: ElementRef<'_>, who: &Jid) -> Result<Answer, StanzaError> {
        let name = node_name(unsubscribe)?;
        let Some(Ok(jid)) = unsubscribe.attr("jid").map(Jid::parse) else {
            return Err(refusal(Condition::BadRequest, "jid-required"));
        };
        if self.node(name)?.is_none() {
            return Err(Condition::ItemNotFound.into());
        }
        // Section 6.2.3.3.
        if !jid.same_bare(who) {
            return Err(Condition::Forbidden.into());
        }
        // There are no subscription ids here, and one that is named is ignored (section 6.2.3.5).
        if self.state(name, &jid)? == State::None {
            let error = refusal(Condition::UnexpectedRequest, "not-subscribed");
            return Err(StanzaError { error_type: Some("cancel"), ..error });
        }
        self.unsubscribe(name, &jid)?;
        Ok(Answer::Empty)
    }

    /// Section 6.5. When not all fit into an answer, it says how many there are (section 6.5.4); where no page is
    /// wished for, the newest are in it.
    fn on_items(&mut self, items: ElementRef<'_>, wish: Option<rsm::Wish>, who: &Jid) -> Result<Answer, StanzaError> {
        let name = node_name(items)?;
        let node = self.node(name)?.ok_or(Condition::ItemNotFound)?;
        self.may_read(name, &node, who)?;
        if !node.config.persist {
            return Err(unsupported("persistent-items"));
        }
        let ids: Vec<&str> = items.children().filter(|c| c.is(NS, "item")).filter_map(|i| i.attr("id")).collect();
        let found = if ids.is_empty() {
            let max = match items.attr("max_items").map(str::parse) {
                None => usize::MAX,
                Some(Ok(max)) if max > 0 => max,
                Some(_) => return Err(Condition::BadRequest.because("max_items is a number above 0.")),
            };
            self.items(name, max)?
        } else {
            let mut found = Vec::new();
            for id in ids {
                found.extend(self.item(name, id)?);
            }
            // Section 6.5.9.12: that there is none is an answer.
            found
        };
        let wanted = match &wish {
            Some(wish) => wish.page(found.len(), found.len(), |id| found.iter().position(|item| item.id == id))?,
            None => 0..found.len(),
        };
        let max_bytes = self.core.settings.limits.pubsub_answer_bytes_max as usize;
        let mut total = 0;
        let mut fits = |item: &super::Item| {
            total += super::bytes(item) as usize;
            total <= max_bytes
        };
        let page = if wish.as_ref().is_none_or(rsm::Wish::is_backwards) {
            let fit = found[wanted.clone()].iter().rev().take_while(|item| fits(item)).count();
            wanted.end - fit..wanted.end
        } else {
            let fit = found[wanted.clone()].iter().take_while(|item| fits(item)).count();
            wanted.start..wanted.start + fit
        };
        let mut b = Builder::new(NS, "pubsub");
        b.open(NS, "items").attr("node", name);
        let (start, page) = (page.start, &found[page]);
        for item in page {
            item.build(&mut b, NS, &node.config, item.read().as_ref());
        }
        b.close();
        if !found.is_empty() && (wish.is_some() || page.len() < found.len()) {
            let ends = page.first().zip(page.last()).map(|(first, last)| (start, first.id.as_str(), last.id.as_str()));
            rsm::build(&mut b, ends, found.len());
        }
        Ok(Answer::Result(b.finish()))
    }

    /// Section 5.6: of the asker, at one node or at all.
    fn on_subscriptions(&mut self, subscriptions: ElementRef<'_>, who: &Jid) -> Result<Answer, StanzaError> {
        let mut b = Builder::new(NS, "pubsub");
        b.open(NS, "subscriptions");
        for name in self.named_or_all(subscriptions, who, &mut b)? {
            for (jid, state) in self.of_entity(&name, who)? {
                build_subscription(&mut b, NS, Some(&name), jid.as_str(), state);
            }
        }
        Ok(Answer::Result(b.finish()))
    }

    /// Section 5.7: of the asker, at one node or at all.
    fn on_affiliations(&mut self, affiliations: ElementRef<'_>, who: &Jid) -> Result<Answer, StanzaError> {
        let mut b = Builder::new(NS, "pubsub");
        b.open(NS, "affiliations");
        for name in self.named_or_all(affiliations, who, &mut b)? {
            if let Some(affiliation) = self.affiliation(&name, who)? {
                b.open(NS, "affiliation").attr("node", &name).attr("affiliation", affiliation.as_str()).close();
            }
        }
        Ok(Answer::Result(b.finish()))
    }

    fn named_or_all(&mut self, what: ElementRef<'_>, who: &Jid, b: &mut Builder) -> Result<Vec<String>, StanzaError> {
        match what.attr("node") {
            Some(name) if self.node(name)?.is_none() => Err(Condition::ItemNotFound.into()),
            Some(name) => {
                b.attr("node", name);
                Ok(vec![name.to_string()])
            }
            None => Ok(self.nodes_of(who)?),
        }
    }
}

/// Sections 4.3 and 7.1.3: a node that keeps or hands on something wants an item, one that hands on payloads one with a
/// payload, and one that does neither no item at all.
fn check_payload(
    config: &Config,
    item: Option<ElementRef<'_>>,
    payload: Option<ElementRef<'_>>,
) -> Result<(), StanzaError> {
    let wants_item = config.persist || config.deliver_payloads;
    match (item, payload) {
        (None, _) if wants_item => Err(refusal(Condition::BadRequest, "item-required")),
        (Some(_), _) if !wants_item => Err(refusal(Condition::BadRequest, "item-forbidden")),
        (Some(_), None) if config.deliver_payloads => Err(refusal(Condition::BadRequest, "payload-required")),
        _ => Ok(()),
    }
}

pub(super) fn build_subscription(b: &mut Builder, ns: &str, node: Option<&str>, jid: &str, state: State) {
    b.open(ns, "subscription");
    if let Some(node) = node {
        b.attr("node", node);
    }
    b.attr("jid", jid).attr("subscription", state.as_str()).close();
}

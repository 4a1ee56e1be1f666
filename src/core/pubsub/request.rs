//! Requests of everybody (XEP-0060 sections 5 to 7): `<pubsub/>` in the namespace without `#owner`.

use super::{Affiliations, Config, Service, Subscribed, Subscriptions, config::SendLast, refusal, sub, unsupported};
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
        let Some(who) = request.stanza.from.clone() else { return Err(Condition::BadRequest.into()) };
        let mut service = self.pubsub(request.owner);
        let Some(what) = request.child.children().next() else { return Err(Condition::BadRequest.into()) };
        if request.child.ns() == ns::PUBSUB_OWNER {
            return service.owner_request(what, &who, request.is_set);
        }
        if what.ns() != NS {
            return Err(Condition::BadRequest.into());
        }
        let beside = |name| request.child.child(NS, name);
        match (what.name(), request.is_set) {
            ("publish", true) => service.on_publish(what, beside("publish-options"), &who),
            ("retract", true) => service.on_retract(what, &who),
            ("create", true) => service.on_create(what, beside("configure"), &who),
            ("subscribe", true) if beside("options").is_some() => Err(unsupported("subscription-options")),
            ("subscribe", true) => service.on_subscribe(what, &who),
            ("unsubscribe", true) => service.on_unsubscribe(what, &who),
            ("items", false) => service.on_items(what, rsm::Wish::read(request.child)?, &who),
            ("subscriptions", false) => service.on_subscriptions(what, &who),
            ("affiliations", false) => service.on_affiliations(what, &who),
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
        let Some(item) = items.next() else { return Err(refusal(Condition::BadRequest, "item-required")) };
        if items.next().is_some() {
            return Err(unsupported("multi-items"));
        }
        let id = item.attr("id").filter(|id| !id.is_empty());
        let mut payloads = item.children();
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
        let items_max = self.core.settings.limits.pubsub_items_max;
        let node = match self.node(name)? {
            Some(node) => {
                self.may_publish(name, &node, who)?;
                // Section 7.1.5: each option is a condition on the configuration.
                if node.config.with(&fields, items_max)? != node.config {
                    return Err(refusal(Condition::Conflict, "precondition-not-met"));
                }
                check_payload(&node.config, payload)?;
                node
            }
            None if who.same_bare(&self.owner) => {
                let config = Config::default().with(&fields, items_max)?;
                check_payload(&config, payload)?;
                self.create(name, config)?
            }
            None => return Err(Condition::ItemNotFound.into()),
        };
        let id = self.publish(name, &node, id, payload, who)?;
        let mut b = Builder::new(NS, "pubsub");
        b.open(NS, "publish").attr("node", name).open(NS, "item").attr("id", &id);
        Ok(Answer::Result(b.finish()))
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
        if !who.same_bare(&self.owner) {
            return Err(Condition::Forbidden.into());
        }
        // Section 8.1.2 has nodes without a name; here they would be of no use.
        let Some(name) = create.attr("node").filter(|name| !name.is_empty()) else {
            return Err(refusal(Condition::NotAcceptable, "nodeid-required"));
        };
        let fields = match configure.and_then(|c| c.child(ns::DATA, "x")) {
            Some(x) => form::read(x, ns::PUBSUB_NODE_CONFIG)?,
            None => Vec::new(),
        };
        let config = Config::default().with(&fields, self.core.settings.limits.pubsub_items_max)?;
        self.create(name, config)?;
        let mut b = Builder::new(NS, "pubsub");
        b.open(NS, "create").attr("node", name);
        Ok(Answer::Result(b.finish()))
    }

    /// Section 6.1.
    fn on_subscribe(&mut self, subscribe: ElementRef<'_>, who: &Jid) -> Result<Answer, StanzaError> {
        let name = node_name(subscribe)?;
        let jid = own_address(subscribe, who)?;
        let node = self.node(name)?.ok_or(Condition::ItemNotFound)?;
        self.may_read(name, &node, who)?;
        self.subscribe(name, &jid)?;
        let mut b = Builder::new(NS, "pubsub");
        build_subscription(&mut b, NS, Some(name), jid.as_str());
        if node.config.send_last != SendLast::Never && node.config.deliver_notifications {
            self.tell_last(name, &node.config, &jid)?;
        }
        Ok(Answer::Result(b.finish()))
    }

    /// Stores a subscription.
    pub(super) fn subscribe(&mut self, name: &str, jid: &Jid) -> Result<(), StanzaError> {
        let owner = self.owner.bare_str().to_string();
        let key = sub(name, jid.as_str().as_bytes());
        let max = self.core.settings.limits.pubsub_subscriptions_max as usize;
        if self.core.view.contains::<Subscriptions>(&owner, &key)? {
            return Ok(());
        }
        if self.core.view.list_from::<Subscriptions>(&owner, &sub(name, b""), max)?.len() >= max {
            return Err(StanzaError {
                error_type: Some("wait"),
                ..refusal(Condition::PolicyViolation, "too-many-subscriptions")
            });
        }
        self.core.view.put::<Subscriptions>(&owner, &key, &Subscribed {});
        Ok(())
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
        let owner = self.owner.bare_str().to_string();
        let key = sub(name, jid.as_str().as_bytes());
        if !self.core.view.contains::<Subscriptions>(&owner, &key)? {
            let error = refusal(Condition::UnexpectedRequest, "not-subscribed");
            return Err(StanzaError { error_type: Some("cancel"), ..error });
        }
        if unsubscribe.attr("subid").is_some() {
            return Err(refusal(Condition::NotAcceptable, "invalid-subid"));
        }
        self.core.view.delete::<Subscriptions>(&owner, &key);
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
        for name in self.named_or_all(subscriptions, &mut b)? {
            let rows = self.core.view.list_from::<Subscriptions>(
                self.owner.bare_str(),
                &sub(&name, who.bare_str().as_bytes()),
                usize::MAX,
            )?;
            for jid in rows.iter().filter_map(|(key, _)| super::notify::address(&name, key)) {
                if jid.same_bare(who) {
                    build_subscription(&mut b, NS, Some(&name), jid.as_str());
                }
            }
        }
        Ok(Answer::Result(b.finish()))
    }

    /// Section 5.7: of the asker, at one node or at all.
    fn on_affiliations(&mut self, affiliations: ElementRef<'_>, who: &Jid) -> Result<Answer, StanzaError> {
        let mut b = Builder::new(NS, "pubsub");
        b.open(NS, "affiliations");
        for name in self.named_or_all(affiliations, &mut b)? {
            if let Some(affiliation) = self.affiliation(&name, who)? {
                b.open(NS, "affiliation").attr("node", &name).attr("affiliation", affiliation.as_str()).close();
            }
        }
        Ok(Answer::Result(b.finish()))
    }

    fn named_or_all(&mut self, what: ElementRef<'_>, b: &mut Builder) -> Result<Vec<String>, StanzaError> {
        match what.attr("node") {
            Some(name) if self.node(name)?.is_none() => Err(Condition::ItemNotFound.into()),
            Some(name) => {
                b.attr("node", name);
                Ok(vec![name.to_string()])
            }
            None => Ok(self.nodes()?.into_iter().map(|(name, _)| name).collect()),
        }
    }

    /// How many affiliations a node has.
    pub(super) fn affiliations_len(&mut self, name: &str) -> Result<usize, StanzaError> {
        let owner = self.owner.bare_str();
        Ok(self.core.view.list_from::<Affiliations>(owner, &sub(name, b""), usize::MAX)?.len())
    }
}

/// Section 7.1.3: a node with payloads wants one, one that keeps and tells nothing takes none.
fn check_payload(config: &Config, payload: Option<ElementRef<'_>>) -> Result<(), StanzaError> {
    match payload {
        None if config.deliver_payloads => Err(refusal(Condition::BadRequest, "payload-required")),
        Some(_) if !config.deliver_payloads && !config.persist => Err(refusal(Condition::BadRequest, "item-forbidden")),
        _ => Ok(()),
    }
}

pub(super) fn build_subscription(b: &mut Builder, ns: &str, node: Option<&str>, jid: &str) {
    b.open(ns, "subscription");
    if let Some(node) = node {
        b.attr("node", node);
    }
    b.attr("jid", jid).attr("subscription", "subscribed").close();
}

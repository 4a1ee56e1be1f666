//! What a service says of itself, its nodes and their items (XEP-0060 section 5).

use super::pending::GET_PENDING;
use super::{Affiliation, Affiliations, Creators, MAX, Node, Nodes, Policy, Service, Subscriptions};
use crate::clock::datetime;
use crate::core::Answer;
use crate::jid::Jid;
use crate::stanza::{Condition, StanzaError, form, rsm};
use crate::xml::{Builder, ElementRef, ns};
use std::ops::ControlFlow;

/// What every service does (section 11).
pub const FEATURES: &[&str] = &[
    "http://jabber.org/protocol/pubsub",
    "http://jabber.org/protocol/pubsub#access-open",
    "http://jabber.org/protocol/pubsub#access-presence",
    "http://jabber.org/protocol/pubsub#access-roster",
    "http://jabber.org/protocol/pubsub#access-whitelist",
    "http://jabber.org/protocol/pubsub#config-node",
    "http://jabber.org/protocol/pubsub#config-node-max",
    "http://jabber.org/protocol/pubsub#create-and-configure",
    "http://jabber.org/protocol/pubsub#create-nodes",
    "http://jabber.org/protocol/pubsub#delete-items",
    "http://jabber.org/protocol/pubsub#delete-nodes",
    "http://jabber.org/protocol/pubsub#item-ids",
    "http://jabber.org/protocol/pubsub#last-published",
    "http://jabber.org/protocol/pubsub#manage-subscriptions",
    "http://jabber.org/protocol/pubsub#member-affiliation",
    "http://jabber.org/protocol/pubsub#meta-data",
    "http://jabber.org/protocol/pubsub#modify-affiliations",
    "http://jabber.org/protocol/pubsub#multi-items",
    "http://jabber.org/protocol/pubsub#outcast-affiliation",
    "http://jabber.org/protocol/pubsub#persistent-items",
    "http://jabber.org/protocol/pubsub#publish",
    "http://jabber.org/protocol/pubsub#publish-only-affiliation",
    "http://jabber.org/protocol/pubsub#publish-options",
    "http://jabber.org/protocol/pubsub#publisher-affiliation",
    "http://jabber.org/protocol/pubsub#purge-nodes",
    "http://jabber.org/protocol/pubsub#retract-items",
    "http://jabber.org/protocol/pubsub#retrieve-affiliations",
    "http://jabber.org/protocol/pubsub#retrieve-default",
    "http://jabber.org/protocol/pubsub#retrieve-items",
    "http://jabber.org/protocol/pubsub#retrieve-subscriptions",
    "http://jabber.org/protocol/pubsub#rsm",
    "http://jabber.org/protocol/pubsub#subscribe",
];

/// Those of them that there are not where nobody may make nodes.
const OF_CREATORS: [&str; 2] =
    ["http://jabber.org/protocol/pubsub#create-and-configure", "http://jabber.org/protocol/pubsub#create-nodes"];

/// What a domain does beside them, beyond what its settings say.
const OF_DOMAINS: [&str; 8] = [
    "http://jabber.org/protocol/pubsub#access-authorize",
    GET_PENDING,
    "http://jabber.org/protocol/pubsub#subscription-notifications",
    ns::COMMANDS,
    ns::DISCO_INFO,
    ns::DISCO_ITEMS,
    ns::PING,
    ns::RSM,
];

/// Nodes in one answer, where nothing else is asked for.
const PAGE: usize = 200;

impl Service<'_> {
    /// A node that the asker may know of.
    fn known(&mut self, name: &str, who: Option<&Jid>) -> Result<Node, StanzaError> {
        let Some(who) = who else { return Err(Condition::BadRequest.into()) };
        let node = self.node(name)?.ok_or(Condition::ItemNotFound)?;
        self.may_know(name, &node, who).map(|()| node)
    }

    /// Answers disco#info for a node (sections 5.3 and 5.4).
    ///
    /// # Errors
    /// `item-not-found`, and what tells who may not know of the node.
    pub fn node_info(&mut self, name: &str, who: Option<&Jid>) -> Result<Answer, StanzaError> {
        if self.policy.is_domain() && name == GET_PENDING {
            return Ok(self.command_info());
        }
        let node = self.known(name, who)?;
        let mut b = Builder::new(ns::DISCO_INFO, "query");
        b.attr("node", name);
        b.open(ns::DISCO_INFO, "identity").attr("category", "pubsub").attr("type", "leaf").close();
        for feature in [ns::PUBSUB, ns::DISCO_INFO, ns::DISCO_ITEMS] {
            b.open(ns::DISCO_INFO, "feature").attr("var", feature).close();
        }
        form::open(&mut b, "result", ns::PUBSUB_META_DATA);
        let owners = self.owners(name)?;
        let owners: Vec<&str> = owners.iter().map(Jid::as_str).collect();
        let items = node.items.to_string();
        let mut put = |var: &str, kind: &str, values: &[&str]| {
            if values.iter().any(|value| !value.is_empty()) {
                form::field(&mut b, &format!("pubsub#{var}"), kind, "", &[], values);
            }
        };
        put("title", "text-single", &[&node.config.title]);
        put("description", "text-single", &[&node.config.description]);
        put("type", "text-single", &[&node.config.payload_type]);
        put("owner", "jid-multi", &owners);
        put("num_items", "text-single", &[&items]);
        if let Some(origin) = self.origin(name)? {
            let made = datetime(i64::try_from(origin.made_ms).unwrap_or_default());
            let subscribers = self.rows_of::<Subscriptions>(name)?.len().to_string();
            let affiliations = self.rows_of::<Affiliations>(name)?.into_iter();
            let publishers = affiliations.filter(|(_, row)| row.affiliation == Affiliation::Publisher);
            let publishers: Vec<String> = publishers.map(|(jid, _)| jid.to_string()).collect();
            let publishers: Vec<&str> = publishers.iter().map(String::as_str).collect();
            let max = node.config.max_items;
            let max = if max == MAX { "max".to_string() } else { max.to_string() };
            put("creator", "jid-single", &[&origin.maker]);
            put("creation_date", "text-single", &[&made]);
            put("publisher", "jid-multi", &publishers);
            put("num_subscribers", "text-single", &[&subscribers]);
            put("access_model", "list-single", &[node.config.access.as_str()]);
            put("publish_model", "list-single", &[node.config.publish.as_str()]);
            put("max_items", "text-single", &[&max]);
        }
        Ok(Answer::Result(b.finish()))
    }

    /// Answers disco#items for a node (section 5.5): its items are for those who may read them.
    ///
    /// # Errors
    /// `item-not-found`, and what tells who may not read the node.
    pub fn node_items(&mut self, name: &str, who: Option<&Jid>) -> Result<Answer, StanzaError> {
        if self.policy.is_domain() && name == ns::COMMANDS {
            return Ok(self.commands());
        }
        let node = self.known(name, who)?;
        if let Some(who) = who {
            self.may_read(name, &node, who)?;
        }
        let mut b = Builder::new(ns::DISCO_ITEMS, "query");
        b.attr("node", name);
        for item in self.items(name, usize::MAX)? {
            b.open(ns::DISCO_ITEMS, "item").attr("jid", self.owner.as_str()).attr("name", &item.id).close();
        }
        Ok(Answer::Result(b.finish()))
    }

    /// Answers disco#info for a domain (section 5.1).
    pub fn domain_info(&self, title: &str) -> Answer {
        let mut b = Builder::new(ns::DISCO_INFO, "query");
        b.open(ns::DISCO_INFO, "identity").attr("category", "pubsub").attr("type", "service");
        b.attr("name", title).close();
        let (creates, auto_creates) = match self.policy {
            Policy::Account => (false, false),
            Policy::Domain { creators, auto_create } => (creators != Creators::Nobody, auto_create),
        };
        let instant = creates.then_some("http://jabber.org/protocol/pubsub#instant-nodes");
        let auto = (creates && auto_creates).then_some("http://jabber.org/protocol/pubsub#auto-create");
        let common = FEATURES.iter().filter(|feature| creates || !OF_CREATORS.contains(feature));
        for feature in common.chain(&OF_DOMAINS).copied().chain(instant).chain(auto) {
            b.open(ns::DISCO_INFO, "feature").attr("var", feature).close();
        }
        Answer::Result(b.finish())
    }

    /// Answers disco#items for a domain: nodes of which the asker may know, by name, a page at a time (section 5.2,
    /// XEP-0059). How many there are in all is not counted.
    ///
    /// # Errors
    /// When storage cannot be read; `bad-request`; `feature-not-implemented` for a page that is asked for by its index
    /// (XEP-0059 section 2.6).
    pub fn domain_items(&mut self, query: ElementRef<'_>, who: &Jid) -> Result<Answer, StanzaError> {
        let wish = rsm::Wish::read(query)?;
        if wish.as_ref().is_some_and(rsm::Wish::is_by_index) {
            return Err(Condition::FeatureNotImplemented.into());
        }
        let max = wish.as_ref().and_then(rsm::Wish::max).unwrap_or(PAGE).min(PAGE);
        let back = wish.as_ref().is_some_and(rsm::Wish::is_backwards);
        let before = wish.as_ref().and_then(rsm::Wish::before).filter(|name| !name.is_empty());
        let after = wish.as_ref().and_then(rsm::Wish::after);
        for name in before.into_iter().chain(after) {
            // XEP-0059 section 2.4.
            if self.node(name)?.is_none() {
                return Err(Condition::ItemNotFound.into());
            }
        }
        let mut from = after.map(behind).unwrap_or_default();
        let mut to = before.map(|name| name.as_bytes().to_vec());
        let mut page: Vec<(String, String)> = Vec::new();
        // One more than fits says whether that is all.
        while page.len() <= max {
            let mut names: Vec<String> = Vec::new();
            self.core.view.scan::<Nodes>(self.owner.bare_str(), (&from, to.as_deref()), back, |sub, _| {
                names.extend(String::from_utf8(sub.to_vec()));
                if names.len() < PAGE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            for name in &names {
                let Some(node) = self.node(name)? else { continue };
                if page.len() <= max && self.knows(name, &node, who)? {
                    page.push((name.clone(), node.config.title));
                }
            }
            match names.last() {
                Some(last) if names.len() >= PAGE && back => to = Some(last.as_bytes().to_vec()),
                Some(last) if names.len() >= PAGE => from = behind(last),
                _ => break,
            }
        }
        let is_cut = page.len() > max;
        page.truncate(max);
        if back {
            page.reverse();
        }
        let mut b = Builder::new(ns::DISCO_ITEMS, "query");
        for (name, title) in &page {
            b.open(ns::DISCO_ITEMS, "item").attr("jid", self.owner.as_str()).attr("node", name);
            if !title.is_empty() {
                b.attr("name", title);
            }
            b.close();
        }
        if wish.is_some() || is_cut {
            let ends = page.first().zip(page.last());
            rsm::build_uncounted(&mut b, ends.map(|(first, last)| (first.0.as_str(), last.0.as_str())));
        }
        Ok(Answer::Result(b.finish()))
    }
}

/// The least sub key behind a name.
fn behind(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

//! Service discovery (XEP-0030) of hosts and accounts.

use super::{IqRoute, Module, Scope, Xep};
use crate::core::disco::{Disco, NODE};
use crate::core::settings::Settings;
use crate::core::{Answer, Core, Request};
use crate::setting::section;
use crate::stanza::{Condition, StanzaError};
use crate::xml::{Builder, ns};

section! {
    /// Service discovery (XEP-0030).
    pub struct Config in "modules.disco" {
        /// Addresses of further services that clients are to find, such as "proxy.example.org".
        pub items: Vec<String> = Vec::new(),
    }
}

/// The module.
pub struct ServiceDiscovery {
    items: Vec<String>,
}

impl Module for ServiceDiscovery {
    const XEPS: &'static [Xep] = &[Xep { number: 30, version: "2.5.0" }];
    const HOST_FEATURES: &'static [&'static str] = &[ns::DISCO_INFO, ns::DISCO_ITEMS];
    const ACCOUNT_FEATURES: &'static [&'static str] = &[ns::DISCO_INFO, ns::DISCO_ITEMS];
    const IQ: &'static [IqRoute] = &[
        (Scope::Host, ns::DISCO_INFO, "query"),
        (Scope::Host, ns::DISCO_ITEMS, "query"),
        (Scope::Account, ns::DISCO_INFO, "query"),
        (Scope::Account, ns::DISCO_ITEMS, "query"),
    ];
    type Config = Config;

    fn new(config: Config) -> Self {
        Self { items: config.items }
    }

    fn disco(&self, _: &Settings, _: &str, disco: &mut Disco) {
        // Not of this module alone, and said once: what the core itself does (RFC 6121 sections 2 and 3.4).
        disco.host.features.extend([ns::ROSTER, ns::PRE_APPROVAL]);
    }

    fn iq(&mut self, core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        if request.is_set {
            return Err(Condition::BadRequest.into());
        }
        let is_host = request.owner.node().is_none();
        if !is_host && !request.asker_sees_owner(core)? {
            // XEP-0030 section 8: only those who may see the account's presence. It wants an empty list of items where
            // RFC 6121 section 8.5.1 wants this error for an account that does not exist; what matters to both is that
            // the two cases look alike.
            return Err(Condition::ServiceUnavailable.into());
        }
        let node = request.child.attr("node");
        if request.child.ns() == ns::DISCO_ITEMS {
            return if node.is_some() { Err(Condition::ItemNotFound.into()) } else { self.items(core, request) };
        }
        let Some(disco) = core.disco.at(request.owner.domain()) else { return Ok(Answer::NotMine) };
        let info = if is_host { &disco.host } else { &disco.account };
        let mut b = Builder::new(ns::DISCO_INFO, "query");
        if let Some(node) = node {
            // XEP-0115 section 6.2: the node that the stream feature names.
            let known = node.strip_prefix(NODE).and_then(|n| n.strip_prefix('#')) == Some(disco.ver.as_str());
            if !is_host || !known {
                return Err(Condition::ItemNotFound.into());
            }
            b.attr("node", node);
        }
        info.build(&mut b);
        Ok(Answer::Result(b.finish()))
    }
}

impl ServiceDiscovery {
    /// A host's services; an account's available resources (section 4.1) and those of its nodes that the asker may read
    /// (XEP-0163 section 6).
    fn items(&self, core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        let mut b = Builder::new(ns::DISCO_ITEMS, "query");
        if request.owner.node().is_none() {
            let is_of = |service: &str, host: &str| service.strip_suffix(host).is_some_and(|rest| rest.ends_with('.'));
            for service in core.disco.at(request.owner.domain()).iter().flat_map(|disco| &disco.services) {
                // A service below one of the hosts is that host's alone.
                let below_another = core.settings.hosts.iter().any(|host| is_of(&service.domain, host));
                if is_of(&service.domain, request.owner.domain()) || !below_another {
                    b.open(ns::DISCO_ITEMS, "item").attr("jid", &service.domain).attr("name", service.name).close();
                }
            }
            let components = core.settings.components.iter().map(|component| &component.domain);
            for domain in components.filter(|domain| is_of(domain, request.owner.domain())) {
                b.open(ns::DISCO_ITEMS, "item").attr("jid", domain).close();
            }
            for item in &self.items {
                b.open(ns::DISCO_ITEMS, "item").attr("jid", item).close();
            }
        } else {
            for id in core.sessions.of_where(request.owner, |s| s.available.is_some()) {
                if let Some(session) = core.sessions.get(id) {
                    b.open(ns::DISCO_ITEMS, "item").attr("jid", session.jid.as_str()).close();
                }
            }
            let disco = core.disco.at(request.owner.domain());
            let has_nodes = disco.is_some_and(|disco| disco.account.features.contains(&ns::PUBSUB));
            if let Some(who) = request.stanza.from.as_ref().filter(|_| has_nodes) {
                let mut service = core.pubsub(request.owner);
                for (name, node) in service.nodes()? {
                    if service.reads(&name, &node, who)? {
                        let jid = request.owner.bare_str();
                        b.open(ns::DISCO_ITEMS, "item").attr("jid", jid).attr("node", &name);
                        // XEP-0060 section 5.2.
                        if !node.config.title.is_empty() {
                            b.attr("name", &node.config.title);
                        }
                        b.close();
                    }
                }
            }
        }
        Ok(Answer::Result(b.finish()))
    }
}

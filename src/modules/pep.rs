//! Personal eventing (XEP-0163): each account is a publish-subscribe service of its own.
//!
//! The nodes themselves are [`core::pubsub`](crate::core::pubsub); here is who asks and when. What clients want to be
//! told of is in their capabilities ([`core::caps`](crate::core::caps)).

use super::{IqRoute, Module, Scope, SessionEvent, Xep};
use crate::core::disco::{Disco, Identity};
use crate::core::pubsub::Node;
use crate::core::session::SessionId;
use crate::core::settings::Settings;
use crate::core::{Answer, Core, Request};
use crate::jid::Jid;
use crate::setting::section;
use crate::stanza::{Condition, Kind, PresenceType, Stanza, StanzaError, form};
use crate::storage::StoreError;
use crate::xml::{Builder, ns};

section! {
    /// Personal eventing (XEP-0163).
    pub struct Config in "modules.pep" {}
}

/// What of XEP-0060 there is (its section 11), behind the namespace and `#`.
const FEATURES: &[&str] = &[
    "http://jabber.org/protocol/pubsub",
    "http://jabber.org/protocol/pubsub#access-open",
    "http://jabber.org/protocol/pubsub#access-presence",
    "http://jabber.org/protocol/pubsub#access-roster",
    "http://jabber.org/protocol/pubsub#access-whitelist",
    "http://jabber.org/protocol/pubsub#auto-create",
    "http://jabber.org/protocol/pubsub#auto-subscribe",
    "http://jabber.org/protocol/pubsub#config-node",
    "http://jabber.org/protocol/pubsub#config-node-max",
    "http://jabber.org/protocol/pubsub#create-and-configure",
    "http://jabber.org/protocol/pubsub#create-nodes",
    "http://jabber.org/protocol/pubsub#delete-items",
    "http://jabber.org/protocol/pubsub#delete-nodes",
    "http://jabber.org/protocol/pubsub#filtered-notifications",
    "http://jabber.org/protocol/pubsub#item-ids",
    "http://jabber.org/protocol/pubsub#last-published",
    "http://jabber.org/protocol/pubsub#manage-subscriptions",
    "http://jabber.org/protocol/pubsub#member-affiliation",
    "http://jabber.org/protocol/pubsub#meta-data",
    "http://jabber.org/protocol/pubsub#modify-affiliations",
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

/// The module.
pub struct Pep;

impl Module for Pep {
    const XEPS: &'static [Xep] = &[
        Xep { number: 60, version: "1.30.0" },
        Xep { number: 163, version: "1.2.2" },
        Xep { number: 84, version: "1.1.4" },
        Xep { number: 222, version: "1.0" },
        Xep { number: 223, version: "1.1.1" },
        Xep { number: 292, version: "0.12.0" },
        Xep { number: 490, version: "1.0.1" },
    ];
    const ACCOUNT_FEATURES: &'static [&'static str] = FEATURES;
    const IQ: &'static [IqRoute] = &[
        (Scope::Account, ns::PUBSUB, "pubsub"),
        (Scope::Account, ns::PUBSUB_OWNER, "pubsub"),
        (Scope::Account, ns::DISCO_INFO, "query"),
        (Scope::Account, ns::DISCO_ITEMS, "query"),
    ];
    type Config = Config;

    fn new(_: Config) -> Self {
        Self
    }

    fn disco(&self, _: &Settings, _: &str, disco: &mut Disco) {
        disco.account.identities.push(Identity { category: "pubsub", kind: "pep", name: String::new() });
    }

    fn iq(&mut self, core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        match (request.child.ns(), request.child.attr("node")) {
            (ns::PUBSUB | ns::PUBSUB_OWNER, _) => core.pubsub_request(request),
            (ns::DISCO_INFO, Some(name)) => node_info(core, request, name),
            (ns::DISCO_ITEMS, Some(name)) => node_items(core, request, name),
            _ => Ok(Answer::NotMine),
        }
    }

    fn answered(&mut self, core: &mut Core, stanza: &Stanza) -> Result<(), StanzaError> {
        for session in core.caps_answer(stanza) {
            core.pubsub_catch_up(session)?;
        }
        for (client, accounts) in core.caps_remote_answer(stanza) {
            for account in accounts {
                core.pubsub_show_remote(&account, &client)?;
            }
        }
        Ok(())
    }

    fn contact(&mut self, core: &mut Core, account: &Jid, stanza: &Stanza) -> Result<(), StanzaError> {
        match (stanza.kind, &stanza.from) {
            (Kind::Presence(PresenceType::Available), Some(from)) => {
                if core.is_seen_by(account, from)? && core.caps_remote(account, stanza) {
                    core.pubsub_show_remote(account, from)?;
                }
            }
            (_, Some(from)) => core.caps.forget_remote(from),
            (_, None) => {}
        }
        Ok(())
    }

    fn session(&mut self, core: &mut Core, id: SessionId, event: SessionEvent) -> Result<(), StanzaError> {
        match event {
            SessionEvent::Available | SessionEvent::Resumed => {
                if core.caps_presence(id) {
                    core.pubsub_catch_up(id)?;
                }
            }
            SessionEvent::Unavailable | SessionEvent::Closed => core.caps.forget(id),
            SessionEvent::Reachable | SessionEvent::OnTime => {}
        }
        Ok(())
    }

    fn session_state(&mut self, core: &mut Core, id: SessionId, _: &[u8], _: &[Jid]) -> Vec<u8> {
        core.caps.stored(id)
    }

    fn restore_session(&mut self, core: &mut Core, id: SessionId, state: &[u8]) -> Result<(), StoreError> {
        core.caps.restore(id, state, core.settings.limits.caps_cache_max as usize);
        Ok(())
    }

    fn revived(&mut self, core: &mut Core, id: SessionId, _: &[u8]) -> Result<(), StanzaError> {
        // Notifications that had not been written may be gone.
        core.pubsub_catch_up(id)
    }
}

/// A node that the asker may read; what he may not read is none for him.
fn readable(core: &mut Core, request: &Request<'_>, name: &str) -> Result<Node, StanzaError> {
    let Some(who) = &request.stanza.from else { return Err(Condition::BadRequest.into()) };
    let mut service = core.pubsub(request.owner);
    match service.node(name)? {
        Some(node) => service.may_read(name, &node, who).map(|()| node),
        None => Err(Condition::ItemNotFound.into()),
    }
}

/// XEP-0060 sections 5.3 and 5.4.
fn node_info(core: &mut Core, request: &Request<'_>, name: &str) -> Result<Answer, StanzaError> {
    let node = readable(core, request, name)?;
    let mut b = Builder::new(ns::DISCO_INFO, "query");
    b.attr("node", name);
    b.open(ns::DISCO_INFO, "identity").attr("category", "pubsub").attr("type", "leaf").close();
    for feature in [ns::PUBSUB, ns::DISCO_INFO, ns::DISCO_ITEMS] {
        b.open(ns::DISCO_INFO, "feature").attr("var", feature).close();
    }
    form::open(&mut b, "result", ns::PUBSUB_META_DATA);
    let items = node.items.to_string();
    let (title, description) = (&node.config.title, &node.config.description);
    let facts = [
        ("pubsub#title", title.as_str()),
        ("pubsub#description", description),
        ("pubsub#type", &node.config.payload_type),
        ("pubsub#owner", request.owner.bare_str()),
        ("pubsub#num_items", &items),
    ];
    for (var, value) in facts.into_iter().filter(|(_, value)| !value.is_empty()) {
        let kind = if var == "pubsub#owner" { "jid-multi" } else { "text-single" };
        form::field(&mut b, var, kind, "", &[], &[value]);
    }
    Ok(Answer::Result(b.finish()))
}

/// XEP-0060 section 5.5.
fn node_items(core: &mut Core, request: &Request<'_>, name: &str) -> Result<Answer, StanzaError> {
    readable(core, request, name)?;
    let mut b = Builder::new(ns::DISCO_ITEMS, "query");
    b.attr("node", name);
    for item in core.pubsub(request.owner).items(name, usize::MAX)? {
        b.open(ns::DISCO_ITEMS, "item").attr("jid", request.owner.bare_str()).attr("name", &item.id).close();
    }
    Ok(Answer::Result(b.finish()))
}

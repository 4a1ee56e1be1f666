//! Personal eventing (XEP-0163): each account is a publish-subscribe service of its own.
//!
//! The nodes themselves are [`core::pubsub`](crate::core::pubsub); here is who asks and when. What clients want to be
//! told of is in their capabilities ([`core::caps`](crate::core::caps)).

use super::{IqRoute, Module, Scope, SessionEvent, Xep};
use crate::core::disco::{Disco, Identity};
use crate::core::pubsub::FEATURES;
use crate::core::session::SessionId;
use crate::core::settings::Settings;
use crate::core::{Answer, Core, Request};
use crate::jid::Jid;
use crate::setting::section;
use crate::stanza::{Kind, PresenceType, Stanza, StanzaError};
use crate::storage::StoreError;
use crate::xml::ns;

section! {
    /// Personal eventing (XEP-0163).
    pub struct Config in "modules.pep" {}
}

/// What of XEP-0060 accounts alone do (its section 11).
const OF_ACCOUNTS: [&str; 4] = [
    "http://jabber.org/protocol/pubsub#auto-create",
    "http://jabber.org/protocol/pubsub#auto-subscribe",
    "http://jabber.org/protocol/pubsub#filtered-notifications",
    "http://jabber.org/protocol/pubsub#pubsub-on-a-jid",
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
        disco.account.features.extend(OF_ACCOUNTS);
    }

    fn iq(&mut self, core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        match (request.child.ns(), request.child.attr("node")) {
            (ns::PUBSUB | ns::PUBSUB_OWNER, _) => core.pubsub_request(request),
            (ns::DISCO_INFO, Some(name)) => core.pubsub(request.owner).node_info(name, request.stanza.from.as_ref()),
            (ns::DISCO_ITEMS, Some(name)) => core.pubsub(request.owner).node_items(name, request.stanza.from.as_ref()),
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

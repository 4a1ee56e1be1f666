//! Message carbons (XEP-0280): every client of an account sees the whole conversation.

use super::{Dir, IqRoute, Module, Scope, SessionEvent, Xep};
use crate::core::flight::InFlight;
use crate::core::session::SessionId;
use crate::core::{Answer, Core, Request};
use crate::jid::Jid;
use crate::setting::section;
use crate::stanza::{Condition, Kind, MessageType, Stanza, StanzaError};
use crate::xml::ns;
use log::debug;
use std::collections::BTreeSet;

section! {
    /// Message carbons (XEP-0280).
    pub struct Config in "modules.carbons" {}
}

/// The module.
pub struct Carbons {
    enabled: BTreeSet<SessionId>,
}

impl Module for Carbons {
    const XEPS: &'static [Xep] = &[Xep { number: 280, version: "1.0.1" }, Xep { number: 334, version: "0.4.0" }];
    const HOST_FEATURES: &'static [&'static str] = &[ns::CARBONS, ns::CARBONS_RULES];
    const IQ: &'static [IqRoute] = &[(Scope::Account, ns::CARBONS, "enable"), (Scope::Account, ns::CARBONS, "disable")];
    type Config = Config;

    fn new(_: Config) -> Self {
        Self { enabled: BTreeSet::new() }
    }

    fn reconfigure(&mut self, _: Config) {}

    fn iq(&mut self, _: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        let (true, Some(session)) = (request.is_own(), request.session) else {
            return Err(Condition::NotAllowed.into());
        };
        if !request.is_set {
            return Err(Condition::BadRequest.into());
        }
        if request.child.name() == "enable" {
            self.enabled.insert(session);
        } else {
            self.enabled.remove(&session);
        }
        Ok(Answer::Empty)
    }

    fn copy(&mut self, core: &mut Core, dir: Dir, flight: &InFlight, reached: &[SessionId]) {
        if let Err(reason) = eligible(dir, flight) {
            debug!(target: "couplet::carbons", "no copy: {reason}");
            return;
        }
        let stanza = &flight.stanza;
        let (Some(from), Some(to)) = (&stanza.from, &stanza.to) else { return };
        let account = if dir == Dir::Sent { from } else { to };
        let others: Vec<(SessionId, Jid)> = core
            .sessions
            .of(account)
            .iter()
            .filter(|id| self.enabled.contains(id) && !reached.contains(id) && flight.origin != Some(**id))
            .filter_map(|id| Some((*id, core.sessions.get(*id)?.jid.clone())))
            .collect();
        if others.is_empty() {
            return;
        }
        let copy = Stanza::build(stanza.kind, |b| {
            b.open(ns::CARBONS, if dir == Dir::Sent { "sent" } else { "received" }).open(ns::FORWARD, "forwarded");
            stanza.copy_as_child(b);
            b.close().close();
        });
        let copy = copy.addressed(Some(account.bare()), None);
        let tail = copy.tail();
        for (id, jid) in others {
            let flight = InFlight::passing(Stanza { to: Some(jid), ..copy.clone() }).to_session(id);
            core.send(InFlight { tail: Some(tail.clone()), is_copy: true, ..flight });
        }
    }

    fn session(&mut self, _: &mut Core, id: SessionId, event: SessionEvent) -> Result<(), StanzaError> {
        if event == SessionEvent::Closed {
            self.enabled.remove(&id);
        }
        Ok(())
    }
}

/// Section 6.1 with its exceptions. The error is the reason.
fn eligible(dir: Dir, flight: &InFlight) -> Result<(), &'static str> {
    let stanza = &flight.stanza;
    let Kind::Message(kind) = stanza.kind else { return Err("not a message") };
    let root = stanza.payload.root();
    if flight.is_copy {
        return Err("itself a copy or from storage");
    }
    let own = matches!((&stanza.from, &stanza.to), (Some(from), Some(to)) if from.same_bare(to));
    if own && dir == Dir::Sent {
        return Err("to oneself: copied when it arrives");
    }
    if root.has_child(ns::CARBONS, "private") {
        return Err("private");
    }
    if root.has_child(ns::HINTS, "no-copy") {
        return Err("hint no-copy");
    }
    // A private message in a room belongs to the client that is in it; invitations belong to all.
    let room = root.child(ns::MUC_USER, "x");
    if room.is_some_and(|x| !x.has_child(ns::MUC_USER, "invite")) && kind != MessageType::Normal {
        return Err("private message in a room");
    }
    match kind {
        MessageType::Chat => Ok(()),
        MessageType::Normal if root.has_child(ns::CLIENT, "body") || room.is_some() => Ok(()),
        MessageType::Error if dir == Dir::Received => Ok(()),
        MessageType::Normal => Err("normal without a body"),
        MessageType::Groupchat | MessageType::Headline | MessageType::Error => Err("its type"),
    }
}

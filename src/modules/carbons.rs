//! Message carbons (XEP-0280): every client of an account sees the whole conversation.

use super::{Dir, IqRoute, Module, Scope, SessionEvent, Xep};
use crate::core::flat::Flat;
use crate::core::flight::InFlight;
use crate::core::session::SessionId;
use crate::core::{Answer, Core, Request};
use crate::jid::Jid;
use crate::setting::section;
use crate::stanza::{Condition, Kind, MessageType, Stanza, StanzaError};
use crate::storage::StoreError;
use crate::xml::{Builder, ElementRef, ns};
use log::debug;

section! {
    /// Message carbons (XEP-0280).
    pub struct Config in "modules.carbons" {}
}

/// The module.
pub struct Carbons {
    enabled: Flat<SessionId, ()>,
}

impl Module for Carbons {
    const XEPS: &'static [Xep] = &[Xep { number: 280, version: "1.0.1" }, Xep { number: 334, version: "1.0.0" }];
    const HOST_FEATURES: &'static [&'static str] = &[ns::CARBONS, ns::CARBONS_RULES];
    const BIND_FEATURES: &'static [&'static str] = &[ns::CARBONS];
    const IQ: &'static [IqRoute] = &[(Scope::Account, ns::CARBONS, "enable"), (Scope::Account, ns::CARBONS, "disable")];
    type Config = Config;

    fn new(_: Config) -> Self {
        Self { enabled: Flat::default() }
    }

    fn reconfigure(&mut self, _: Config) {}

    fn bind(&mut self, _: &mut Core, id: SessionId, request: ElementRef<'_>, _: &mut Builder) {
        if request.has_child(ns::CARBONS, "enable") {
            self.enabled.insert(id, ());
        }
    }

    fn iq(&mut self, _: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        let (true, Some(session)) = (request.is_own(), request.session) else {
            return Err(Condition::NotAllowed.into());
        };
        if !request.is_set {
            return Err(Condition::BadRequest.into());
        }
        if request.child.name() == "enable" {
            self.enabled.insert(session, ());
        } else {
            self.enabled.remove(&session);
        }
        Ok(Answer::Empty)
    }

    fn copy(&mut self, core: &mut Core, dir: Dir, flight: &InFlight, reached: &[SessionId]) {
        let stanza = &flight.stanza;
        let (Some(from), Some(to)) = (&stanza.from, &stanza.to) else { return };
        let account = if dir == Dir::Sent { from } else { to };
        let others: Vec<(SessionId, Jid)> = core
            .sessions
            .of(account)
            .iter()
            .filter(|id| self.enabled.contains_key(id) && !reached.contains(id) && flight.origin != Some(**id))
            .filter_map(|id| Some((*id, core.sessions.get(*id)?.jid.clone())))
            .collect();
        if others.is_empty() {
            return;
        }
        if let Err(reason) = eligible(dir, flight) {
            debug!(target: "couplet::carbons", "no copy: {reason}");
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

    fn session_state(&mut self, _: &mut Core, id: SessionId, _: &[u8], _: &[Jid]) -> Vec<u8> {
        if self.enabled.contains_key(&id) { vec![1] } else { Vec::new() }
    }

    fn restore_session(&mut self, _: &mut Core, id: SessionId, state: &[u8]) -> Result<(), StoreError> {
        if !state.is_empty() {
            self.enabled.insert(id, ());
        }
        Ok(())
    }
}

/// Section 6.1. The error is the reason.
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
    // Hints in an error are those of what it answers (XEP-0334 section 5).
    if kind != MessageType::Error && root.has_child(ns::HINTS, "no-copy") {
        return Err("hint no-copy");
    }
    let room = root.child(ns::MUC_USER, "x");
    let invites = room.is_some_and(|x| x.has_child(ns::MUC_USER, "invite")) || root.has_child(ns::CONFERENCE, "x");
    let from_full = stanza.from.as_ref().is_some_and(|from| !from.is_bare());
    match kind {
        MessageType::Groupchat => Err("groupchat"),
        // It answers something that was copied, or that this server cannot know of. A client ignores an error too many,
        // but one too few hides from it that a message has failed.
        MessageType::Error => Ok(()),
        // The room itself sends these to each client that is in it.
        _ if dir == Dir::Received && room.is_some() && !invites && from_full => Err("private message in a room"),
        MessageType::Chat => Ok(()),
        MessageType::Normal if root.has_child(ns::CLIENT, "body") => Ok(()),
        _ if invites || root.children().any(|c| MESSAGING.contains(&c.ns())) => Ok(()),
        MessageType::Normal | MessageType::Headline => Err("no payload of instant messaging"),
    }
}

/// What section 6.1 calls payload typically used in instant messaging.
const MESSAGING: [&str; 3] = [ns::CHAT_STATES, ns::RECEIPTS, ns::CHAT_MARKERS];

#[cfg(test)]
mod tests {
    use super::*;

    fn copied(dir: Dir, kind: MessageType, from: &str, build: impl FnOnce(&mut Builder)) -> bool {
        let jid = |text: &str| Some(Jid::parse(text).unwrap());
        let stanza = Stanza::build(Kind::Message(kind), build).addressed(jid(from), jid("b@h/1"));
        eligible(dir, &InFlight::passing(stanza)).is_ok()
    }

    #[test]
    fn instant_messaging_is_copied_whatever_its_type() {
        use MessageType::{Chat, Groupchat, Headline, Normal};
        let leaf = |ns: &'static str, name: &'static str| move |b: &mut Builder| _ = b.open(ns, name).close();
        let rows = [
            (Normal, ns::CLIENT, "body", true),
            (Normal, ns::RECEIPTS, "received", true),
            (Normal, ns::CHAT_MARKERS, "displayed", true),
            (Normal, ns::CONFERENCE, "x", true),
            (Normal, "urn:x", "x", false),
            (Chat, "urn:x", "x", true),
            (Chat, ns::HINTS, "no-copy", false),
            (Chat, ns::CARBONS, "private", false),
            (Headline, ns::CLIENT, "body", false),
            (Groupchat, ns::CLIENT, "body", false),
            (MessageType::Error, ns::HINTS, "no-copy", true),
        ];
        for (kind, space, name, expected) in rows {
            assert_eq!(copied(Dir::Received, kind, "a@h/1", leaf(space, name)), expected, "{kind:?} {name}");
        }
    }

    #[test]
    fn of_rooms_only_invitations_and_what_one_sends_are_copied() {
        let plain = |b: &mut Builder| _ = b.open(ns::MUC_USER, "x").close();
        let invite = |b: &mut Builder| _ = b.open(ns::MUC_USER, "x").open(ns::MUC_USER, "invite").close().close();
        assert!(!copied(Dir::Received, MessageType::Chat, "room@h/nick", plain));
        assert!(!copied(Dir::Received, MessageType::Normal, "room@h/nick", plain));
        assert!(!copied(Dir::Received, MessageType::Normal, "room@h", plain));
        assert!(copied(Dir::Received, MessageType::Normal, "room@h", invite));
        assert!(copied(Dir::Sent, MessageType::Chat, "a@h/1", plain));
    }
}

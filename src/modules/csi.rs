//! Client state indication (XEP-0352): a client says that nobody looks at it, and gets less until something matters.
//!
//! What can wait is held back in its place in the session's queue, and leaves in order before the next stanza that
//! cannot: so a client never gets a message before the presence that came before it. Of each contact only the last
//! presence is kept, of each item of a node the last notification, of each chat the last state. What is held back is
//! on its way in every other respect: it counts as not sent (XEP-0198), and a lost connection treats it so.

use super::{Module, SessionEvent, Xep};
use crate::core::Core;
use crate::core::flight::Urgency;
use crate::core::session::SessionId;
use crate::core::spool::is_only_a_state;
use crate::jid::Jid;
use crate::setting::section;
use crate::stanza::{Kind, MessageType, PresenceType, Stanza, StanzaError};
use crate::xml::{Builder, Element, ElementRef, ns};

section! {
    /// Client state indication (XEP-0352): what an inactive client gets later.
    pub struct Config in "modules.csi" {
        /// Presence of contacts and occupants waits; of each the last is kept.
        pub presence: bool = true,
        /// Chat states such as "is typing" wait; of each chat the last is kept.
        pub chat_states: bool = true,
        /// Notifications of nodes wait (XEP-0163); of each item the last is kept.
        pub notifications: bool = true,
        /// Other messages wait that have nothing to read in them, such as receipts.
        pub others: bool = true,
    }
}

/// The module.
pub struct Csi(Config);

impl Module for Csi {
    const XEPS: &'static [Xep] = &[Xep { number: 352, version: "1.0.0" }];
    const BIND_FEATURES: &'static [&'static str] = &[ns::CSI];
    type Config = Config;

    fn new(config: Config) -> Self {
        Self(config)
    }

    fn features(&self, _: &Core, _: &str, out: &mut Vec<Element>) {
        out.push(Element::empty(ns::CSI, "csi"));
    }

    fn bind(&mut self, core: &mut Core, id: SessionId, request: ElementRef<'_>, _: &mut Builder) {
        for element in request.children() {
            set_state(core, id, element);
        }
    }

    fn nonza(&mut self, core: &mut Core, id: SessionId, element: ElementRef<'_>) -> bool {
        set_state(core, id, element)
    }

    /// A resumed stream begins active, as any (section 5.2).
    fn session(&mut self, core: &mut Core, id: SessionId, event: SessionEvent) -> Result<(), StanzaError> {
        if event == SessionEvent::Resumed
            && let Some(session) = core.sessions.get_mut(id)
        {
            session.inactive = false;
        }
        Ok(())
    }

    fn urgency(&mut self, core: &mut Core, stanza: &Stanza) -> Urgency {
        match weigh(stanza) {
            Weight::Matters => Urgency::Now,
            Weight::Presence if self.0.presence => last("p", stanza, ""),
            Weight::State if self.0.chat_states => last("s", stanza, ""),
            Weight::Event if self.0.notifications => {
                item(core, stanza).map_or(Urgency::Later, |item| last("e", stanza, &item))
            }
            Weight::Other if self.0.others => Urgency::Later,
            Weight::Presence | Weight::State | Weight::Event | Weight::Other => Urgency::Now,
        }
    }
}

/// Takes over what a client says of its state; false when the element is something else.
fn set_state(core: &mut Core, id: SessionId, element: ElementRef<'_>) -> bool {
    let inactive = match (element.ns(), element.name()) {
        (ns::CSI, "active") => false,
        (ns::CSI, "inactive") => true,
        _ => return false,
    };
    if let Some(session) = core.sessions.get_mut(id) {
        session.inactive = inactive;
    }
    true
}

/// What a stanza means to somebody who does not look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// It is to be seen, or somebody waits for the answer.
    Matters,
    /// Somebody comes, goes or is away.
    Presence,
    /// A chat state alone.
    State,
    /// A notification of a node.
    Event,
    /// Another message without anything to read.
    Other,
}

fn weigh(stanza: &Stanza) -> Weight {
    let root = stanza.payload.root();
    match stanza.kind {
        Kind::Iq(_) => Weight::Matters,
        Kind::Presence(PresenceType::Available | PresenceType::Unavailable) => {
            // One's own presence in a room: entered, removed, renamed (XEP-0045).
            let is_own = |c: ElementRef<'_>| c.is(ns::MUC_USER, "status") && c.attr("code") == Some("110");
            let own = root.child(ns::MUC_USER, "x").is_some_and(|x| x.children().any(is_own));
            if own { Weight::Matters } else { Weight::Presence }
        }
        Kind::Presence(_) => Weight::Matters,
        Kind::Message(MessageType::Error) => Weight::Matters,
        Kind::Message(_) if root.has_child(ns::PUBSUB_EVENT, "event") => Weight::Event,
        Kind::Message(kind) => {
            let received = root.child(ns::CARBONS, "received").and_then(|c| c.child(ns::FORWARD, "forwarded"));
            let received = received.and_then(|forwarded| forwarded.child(ns::CLIENT, "message"));
            if root.has_child(ns::CARBONS, "sent") || is_to_be_seen(received.unwrap_or(root), kind) {
                Weight::Matters
            } else if is_only_a_state(stanza) {
                Weight::State
            } else {
                Weight::Other
            }
        }
    }
}

/// Something to read, an invitation, a call, or what cannot be judged because it is encrypted.
fn is_to_be_seen(message: ElementRef<'_>, kind: MessageType) -> bool {
    if kind == MessageType::Headline {
        return false;
    }
    let room = message.child(ns::MUC_USER, "x");
    let asks = room.is_some_and(|x| x.has_child(ns::MUC_USER, "invite") || x.has_child(ns::MUC_USER, "decline"));
    // The subject is also what ends the history of a room.
    let names = ["body", "subject"];
    asks || message.children().any(|c| {
        (c.ns() == ns::CLIENT && names.contains(&c.name()))
            || c.is(ns::EME, "encryption")
            || c.is(ns::CONFERENCE, "x")
            || c.ns() == ns::JINGLE_MESSAGE
    })
}

fn last(what: &str, stanza: &Stanza, of: &str) -> Urgency {
    match &stanza.from {
        Some(from) => Urgency::Last([what, from.as_str(), "\0", of].concat().into()),
        None => Urgency::Later,
    }
}

/// Node and item of a notification that a later one of the same replaces; none when it is of several items, or of the
/// node itself. Where a node keeps one item, any replaces any.
fn item(core: &mut Core, stanza: &Stanza) -> Option<String> {
    let items = stanza.payload.root().child(ns::PUBSUB_EVENT, "event")?.child(ns::PUBSUB_EVENT, "items")?;
    let (node, mut children) = (items.attr("node")?, items.children());
    let (item, None) = (children.next()?, children.next()) else { return None };
    let keeps_one = stanza.from.as_ref().is_some_and(|from| keeps_one(core, from, node));
    let id = if keeps_one { "" } else { item.attr("id")? };
    Some([node, "\0", id].concat())
}

fn keeps_one(core: &mut Core, owner: &Jid, node: &str) -> bool {
    core.is_local(owner)
        && matches!(core.pubsub(&owner.bare()).node(node), Ok(Some(node)) if node.config.max_items == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(xml: &str) -> Weight {
        let xml = xml.replacen(' ', " xmlns='jabber:client' ", 1);
        weigh(&Stanza::parse(&xml).unwrap())
    }

    #[test]
    fn what_is_to_be_seen_matters() {
        let carbon = |which: &str, content: &str| {
            let message = format!("<message xmlns='jabber:client' type='chat'>{content}</message>");
            let forwarded = format!("<forwarded xmlns='urn:xmpp:forward:0'>{message}</forwarded>");
            format!("<message type='chat'><{which} xmlns='urn:xmpp:carbons:2'>{forwarded}</{which}></message>")
        };
        let state = "<composing xmlns='http://jabber.org/protocol/chatstates'/>";
        for (xml, expected) in [
            ("<iq type='result' id='1'/>", Weight::Matters),
            ("<message type='chat'><body>x</body></message>", Weight::Matters),
            ("<message type='groupchat'><subject/></message>", Weight::Matters),
            ("<message type='error'/>", Weight::Matters),
            ("<message type='headline'><body>x</body></message>", Weight::Other),
            ("<message type='chat'><encryption xmlns='urn:xmpp:eme:0' namespace='x'/></message>", Weight::Matters),
            ("<message type='chat'><propose xmlns='urn:xmpp:jingle-message:0' id='1'/></message>", Weight::Matters),
            ("<message ><x xmlns='jabber:x:conference' jid='r@c'/></message>", Weight::Matters),
            ("<message ><x xmlns='http://jabber.org/protocol/muc#user'><invite/></x></message>", Weight::Matters),
            ("<message ><x xmlns='http://jabber.org/protocol/muc#user'><status/></x></message>", Weight::Other),
            ("<message type='chat'><received xmlns='urn:xmpp:receipts' id='1'/></message>", Weight::Other),
            (&format!("<message type='chat'>{state}</message>"), Weight::State),
            (&carbon("sent", state), Weight::Matters),
            (&carbon("received", state), Weight::Other),
            (&carbon("received", "<body>x</body>"), Weight::Matters),
            ("<presence type='subscribe'/>", Weight::Matters),
            ("<presence type='error'/>", Weight::Matters),
            ("<presence type='unavailable'/>", Weight::Presence),
            ("<presence ><show>away</show></presence>", Weight::Presence),
            (
                "<presence ><x xmlns='http://jabber.org/protocol/muc#user'><status code='110'/></x></presence>",
                Weight::Matters,
            ),
        ] {
            assert_eq!(weight(xml), expected, "{xml}");
        }
    }
}

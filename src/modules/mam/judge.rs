//! Which messages are worth archiving (XEP-0313 section 5.1.1). The list is that of Prosody's `mod_mam`, with
//! retractions, which must be archived (XEP-0424 section 5).

use crate::stanza::{Kind, MessageType, Stanza};
use crate::xml::ns;

/// Why a message is archived, or the reason why not.
pub fn worth(message: &Stanza) -> Result<&'static str, &'static str> {
    let root = message.payload.root();
    let has = |ns: &str, name: &str| root.has_child(ns, name);
    let speaks = |ns: &str| root.children().any(|c| c.ns() == ns);
    match message.kind {
        Kind::Message(MessageType::Chat | MessageType::Normal) => {}
        Kind::Message(MessageType::Headline) => return Err("headline"),
        // It says that a message has failed, to the client that has sent it; others answer what the account itself has
        // sent, such as a notification.
        Kind::Message(MessageType::Error) => {
            let to_client = message.to.as_ref().is_some_and(|to| !to.is_bare());
            return if to_client { Ok("a failure") } else { Err("a failure of the account's own") };
        }
        Kind::Message(MessageType::Groupchat) => return Err("groupchat"),
        Kind::Presence(_) | Kind::Iq(_) => return Err("no message"),
    }
    if has(ns::HINTS, "no-store") || has(ns::HINTS, "no-permanent-store") {
        return Err("its hint");
    }
    let invites = || root.child(ns::MUC_USER, "x").is_some_and(|x| x.has_child(ns::MUC_USER, "invite"));
    if has(ns::HINTS, "store") {
        Ok("its hint")
    } else if has(ns::CLIENT, "body") {
        Ok("a body")
    } else if has(ns::CLIENT, "subject") {
        Ok("a subject")
    } else if has(ns::ENCRYPTION, "encryption") {
        Ok("encrypted")
    } else if speaks(ns::RECEIPTS) {
        Ok("a receipt")
    } else if speaks(ns::CHAT_MARKERS) {
        Ok("a marker")
    } else if has(ns::CONFERENCE, "x") || invites() {
        Ok("an invitation")
    } else if speaks(ns::JINGLE_MESSAGE) || speaks(ns::JINGLE_MESSAGE_1) {
        Ok("a call")
    } else if has(ns::RETRACT, "retract") {
        Ok("a retraction")
    } else {
        Err("nothing to keep")
    }
}

/// A message as it is archived: without chat states, which mean nothing later. None when nothing is left.
pub fn stripped(message: &Stanza) -> Option<Stanza> {
    let is_state = |c: crate::xml::ElementRef<'_>| c.ns() == ns::CHAT_STATES;
    let root = message.payload.root();
    if !root.children().any(is_state) {
        return Some(message.clone());
    }
    let mut stored = message.clone();
    stored.retain_children(|c| !is_state(c));
    let is_empty = stored.payload.root().children().next().is_none();
    (!is_empty).then_some(stored)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jid::Jid;
    use crate::xml::Builder;

    type Child = (&'static str, &'static str);

    fn of(kind: MessageType, to: &str, children: &[Child]) -> Result<&'static str, &'static str> {
        let build = |b: &mut Builder| children.iter().for_each(|(ns, name)| _ = b.open(ns, name).close());
        worth(&Stanza::build(Kind::Message(kind), build).addressed(None, Jid::parse(to).ok()))
    }

    #[test]
    fn what_means_something_later_is_kept() {
        use MessageType::{Chat, Error, Groupchat, Headline, Normal};
        let body = (ns::CLIENT, "body");
        for kept in [
            body,
            (ns::CLIENT, "subject"),
            (ns::ENCRYPTION, "encryption"),
            (ns::RECEIPTS, "received"),
            (ns::CHAT_MARKERS, "displayed"),
            (ns::CONFERENCE, "x"),
            (ns::JINGLE_MESSAGE, "propose"),
            (ns::RETRACT, "retract"),
            (ns::HINTS, "store"),
        ] {
            assert!(of(Chat, "a@h", &[kept]).is_ok() && of(Normal, "a@h", &[kept]).is_ok(), "{kept:?}");
            for hint in ["no-store", "no-permanent-store"] {
                assert!(of(Chat, "a@h", &[kept, (ns::HINTS, hint)]).is_err(), "{kept:?}");
            }
            assert!(of(Headline, "a@h", &[kept]).is_err() && of(Groupchat, "a@h", &[kept]).is_err());
        }
        assert!(of(Chat, "a@h", &[(ns::CHAT_STATES, "active")]).is_err());
        assert!(of(Chat, "a@h", &[]).is_err());
        assert!(of(Error, "a@h/r", &[]).is_ok() && of(Error, "a@h", &[body]).is_err());
    }

    #[test]
    fn chat_states_are_left_out() {
        let build = |with_body: bool| {
            Stanza::build(Kind::Message(MessageType::Chat), |b| {
                b.open(ns::CHAT_STATES, "active").close();
                if with_body {
                    b.leaf(ns::CLIENT, "body", "x");
                }
            })
        };
        assert_eq!(stripped(&build(true)).unwrap().payload.root().children().count(), 1);
        assert_eq!(stripped(&build(false)), None);
    }
}

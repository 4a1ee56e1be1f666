//! What an entity may not say in a stanza, because only a server or a service may: it is taken out on the way in, from
//! clients and from other servers alike, so that nobody behind has to doubt it.

use super::{Kind, Stanza};
use crate::jid::Jid;
use crate::xml::{ElementRef, ns};

/// Removes from a message or presence
///
/// * stamps that claim to come from an address for which `stamps` holds, and ids from one for which `ids` holds
///   (XEP-0203 section 5, XEP-0359 section 3.2);
/// * copies (XEP-0280 section 11): a server makes them, for its own account;
/// * pubsub events of a resource (XEP-0060 section 7.1): nodes are those of accounts and services;
/// * what only rooms say (XEP-0045 section 7.8.2, XEP-0421 section 4), if `to_people`: it comes from a client of ours,
///   and is not for a service that reads it.
pub fn strip(stanza: &mut Stanza, to_people: bool, stamps: impl Fn(&Jid) -> bool, ids: impl Fn(&Jid) -> bool) {
    if matches!(stanza.kind, Kind::Iq(_)) {
        return;
    }
    let from_resource = stanza.from.as_ref().is_some_and(|from| !from.is_bare());
    let address = |c: ElementRef<'_>, name| c.attr(name).and_then(|jid| Jid::parse(jid).ok());
    let is_forged = |c: ElementRef<'_>| match (c.ns(), c.name()) {
        (ns::DELAY, "delay") | (ns::OLD_DELAY, "x") => address(c, "from").is_some_and(|jid| stamps(&jid)),
        (ns::STANZA_ID, "stanza-id") => address(c, "by").is_some_and(|jid| ids(&jid)),
        (ns::CARBONS, "sent" | "received") => true,
        (ns::PUBSUB_EVENT, "event") => from_resource,
        (ns::MUC_USER | ns::OCCUPANT_ID, _) => to_people,
        _ => false,
    };
    if stanza.payload.root().children().any(is_forged) {
        stanza.retain_children(|c| !is_forged(c));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stanza::{MessageType, delay};

    fn left(from: &str, to_people: bool, build: impl FnOnce(&mut crate::xml::Builder)) -> usize {
        let message = Stanza::build(Kind::Message(MessageType::Chat), build);
        let mut message = message.addressed(Jid::parse(from).ok(), None);
        strip(&mut message, to_people, |_| false, |jid| jid.domain() == "example.org");
        message.payload.root().children().count()
    }

    #[test]
    fn what_claims_to_be_our_stamp_goes_and_others_stay() {
        let mut stanza = Stanza::new(Kind::Message(MessageType::Chat));
        for from in ["Example.org", "example.org/x", "room@example.org", "example.net"] {
            delay::stamp(&mut stanza, from, 0);
        }
        strip(&mut stanza, true, |from| from.node().is_none() && from.domain() == "example.org", |_| false);
        let left: Vec<_> = stanza.payload.root().children().filter_map(|c| c.attr("from")).collect();
        assert_eq!(left, ["room@example.org", "example.net"]);
    }

    #[test]
    fn what_only_servers_and_rooms_say_goes() {
        let id = |by: &'static str| {
            move |b: &mut crate::xml::Builder| _ = b.open(ns::STANZA_ID, "stanza-id").attr("by", by).close()
        };
        let leaf = |space, name| move |b: &mut crate::xml::Builder| _ = b.open(space, name).close();
        assert_eq!(left("a@example.net/1", true, id("romeo@example.org")), 0);
        assert_eq!(left("a@example.net/1", true, id("room@example.net")), 1);
        assert_eq!(left("a@example.net", false, leaf(ns::CARBONS, "received")), 0);
        assert_eq!(left("a@example.net", false, leaf(ns::CARBONS, "private")), 1);
        assert_eq!(left("a@example.net/1", true, leaf(ns::PUBSUB_EVENT, "event")), 0);
        assert_eq!(left("a@example.net", true, leaf(ns::PUBSUB_EVENT, "event")), 1);
        assert_eq!(left("a@example.org/1", true, leaf(ns::MUC_USER, "x")), 0);
        assert_eq!(left("room@example.net/nick", false, leaf(ns::MUC_USER, "x")), 1);
    }
}

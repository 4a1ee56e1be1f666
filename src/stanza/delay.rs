//! Delayed delivery (XEP-0203).

use super::Stanza;
use crate::clock::datetime;
use crate::jid::Jid;
use crate::xml::{ElementRef, ns};

/// Adds a stamp that says who held the stanza, and since when.
pub fn stamp(stanza: &mut Stanza, from: &str, wall_ms: i64) {
    stanza.append(|b| {
        b.open(ns::DELAY, "delay").attr("from", from).attr("stamp", &datetime(wall_ms)).close();
    });
}

/// Removes stamps that claim to come from an address for which `is_ours` holds: no client may set those (XEP-0203
/// section 5).
pub fn strip_forged(stanza: &mut Stanza, is_ours: impl Fn(&Jid) -> bool) {
    let is_forged = |c: ElementRef<'_>| {
        c.is(ns::DELAY, "delay")
            && c.attr("from").and_then(|from| Jid::parse(from).ok()).is_some_and(|from| is_ours(&from))
    };
    if stanza.payload.root().children().any(is_forged) {
        stanza.retain_children(|c| !is_forged(c));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stanza::{Kind, MessageType};

    #[test]
    fn what_claims_to_be_our_stamp_goes_and_others_stay() {
        let mut stanza = Stanza::new(Kind::Message(MessageType::Chat));
        for from in ["Example.org", "example.org/x", "room@example.org", "example.net"] {
            stamp(&mut stanza, from, 0);
        }
        strip_forged(&mut stanza, |from| from.node().is_none() && from.domain() == "example.org");
        let left: Vec<_> = stanza.payload.root().children().filter_map(|c| c.attr("from")).collect();
        assert_eq!(left, ["room@example.org", "example.net"]);
    }
}

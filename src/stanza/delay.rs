//! Delayed delivery (XEP-0203).

use super::Stanza;
use crate::clock::datetime;
use crate::xml::ns;

/// Adds a stamp that says who held the stanza, and since when.
pub fn stamp(stanza: &mut Stanza, from: &str, wall_ms: i64) {
    stanza.append(|b| {
        b.open(ns::DELAY, "delay").attr("from", from).attr("stamp", &datetime(wall_ms)).close();
    });
}

/// Removes stamps that claim to come from `from`: only that entity may set them (XEP-0203 section 4).
pub fn strip_forged(stanza: &mut Stanza, from: &str) {
    let forged =
        |s: &Stanza| s.payload.root().children().any(|c| c.is(ns::DELAY, "delay") && c.attr("from") == Some(from));
    if forged(stanza) {
        stanza.retain_children(|c| !(c.is(ns::DELAY, "delay") && c.attr("from") == Some(from)));
    }
}

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

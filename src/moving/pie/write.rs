//! Accounts as a document.

#[cfg(feature = "mam")]
use super::ARCHIVE;
use super::{PIE, PRIVACY, SCRAM};
use crate::clock::datetime;
#[cfg(feature = "mam")]
use crate::clock::datetime_fine;
use crate::core::moving::{ItemPiece, NodePiece, Piece};
use crate::core::roster;
use crate::jid::Jid;
use crate::stanza::form;
use crate::stream::sasl::ScramKeys;
use crate::xml::{Builder, Element, escape_attribute, ns};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io::{self, Write};

/// What stands at the beginning.
///
/// # Errors
/// When it cannot be written.
pub fn head(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<?xml version='1.0' encoding='UTF-8'?>\n<server-data xmlns='{PIE}'>")
}

/// What stands before the accounts of a host.
///
/// # Errors
/// When it cannot be written.
pub fn host(host: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<host jid='{}'>", attribute(host))
}

/// What stands behind them.
///
/// # Errors
/// When it cannot be written.
pub fn host_end(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "</host>")
}

/// What stands at the end.
///
/// # Errors
/// When it cannot be written.
pub fn tail(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "</server-data>")
}

fn attribute(value: &str) -> String {
    let mut text = Vec::new();
    escape_attribute(value, &mut text);
    String::from_utf8(text).unwrap_or_default()
}

/// An account with all that it has, as far as the format goes, without its end; gives what it has no place for.
///
/// # Errors
/// When it cannot be written.
pub fn account(jid: &Jid, pieces: &[Piece], out: &mut dyn Write) -> io::Result<Vec<&'static str>> {
    let mut left_out = Vec::new();
    writeln!(out, "<user name='{}'>", attribute(jid.node().unwrap_or_default()))?;
    let mut put = |element: &Element| {
        let mut bytes = Vec::new();
        element.root().write(PIE, &mut bytes);
        bytes.push(b'\n');
        out.write_all(&bytes)
    };
    let mut roster: Vec<(&Jid, &roster::Item)> = Vec::new();
    let (mut version, mut private, mut offline) = (None, Vec::new(), Vec::new());
    let (mut nodes, mut items): (Vec<&NodePiece>, Vec<&ItemPiece>) = (Vec::new(), Vec::new());
    for piece in pieces {
        match piece {
            Piece::Account { sha1, sha256, .. } => {
                for (mechanism, keys) in [("SCRAM-SHA-1", sha1), ("SCRAM-SHA-256", sha256)] {
                    if let Some(keys) = keys {
                        put(&credentials(mechanism, keys))?;
                    }
                }
            }
            Piece::Contact { jid, item, request } => {
                roster.extend(item.listed.then_some((jid, item)));
                if let Some(request) = request.as_ref().filter(|_| item.pending_in) {
                    put(&request.to_element())?;
                }
            }
            Piece::RosterVersion(number) => version = Some(*number),
            Piece::VCard(vcard) => put(vcard)?,
            Piece::ArchivePrefs(prefs) => put(prefs)?,
            Piece::Private(element) => private.push(element),
            Piece::Blocked(jids) => put(&blocked(jids))?,
            Piece::LastSeen(ms) => put(&last_seen(*ms))?,
            Piece::Offline { message, .. } => offline.push(message),
            Piece::Node(node) => nodes.push(node),
            Piece::NodeItem(item) => items.push(item),
            Piece::Push { .. } => left_out.push("push registrations"),
            Piece::OtherRole => {}
            Piece::Administrator => left_out.push("that it is an administrator's"),
            // They are too many for that, and have a place of their own.
            Piece::Archived(_) => {}
            Piece::Room(_) | Piece::RoomCard(_) | Piece::RoomArchived(_) | Piece::RoomLine { .. } => {
                left_out.push("rooms");
            }
        }
    }
    put(&contacts(&roster, version))?;
    if !private.is_empty() {
        let mut b = Builder::new(ns::PRIVATE, "query");
        private.iter().for_each(|element| b.copy(element.root()));
        put(&b.finish())?;
    }
    if !offline.is_empty() {
        let mut b = Builder::new(PIE, "offline-messages");
        offline.iter().for_each(|message| b.copy(message.to_element().root()));
        put(&b.finish())?;
    }
    if !nodes.is_empty() {
        put(&configurations(&nodes))?;
        // One after the other: items can be large.
        writeln!(out, "<pubsub xmlns='{}'>", ns::PUBSUB)?;
        for node in &nodes {
            writeln!(out, "<items node='{}'>", attribute(&node.name))?;
            for item in items.iter().filter(|item| item.node == node.name) {
                let mut b = Builder::new(ns::PUBSUB, "item");
                b.attr("id", &item.id);
                if let Some(publisher) = &item.publisher {
                    b.attr("publisher", publisher.as_str());
                }
                item.payload.iter().for_each(|payload| b.copy(payload.root()));
                let mut bytes = Vec::new();
                b.finish().root().write(ns::PUBSUB, &mut bytes);
                bytes.push(b'\n');
                out.write_all(&bytes)?;
            }
            writeln!(out, "</items>")?;
        }
        writeln!(out, "</pubsub>")?;
    }
    Ok(left_out)
}

/// What stands behind an account.
///
/// # Errors
/// When it cannot be written.
pub fn account_end(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "</user>")
}

/// What stands before the messages of an archive (section 4.10).
///
/// # Errors
/// When it cannot be written.
#[cfg(feature = "mam")]
pub fn archive(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<archive xmlns='{ARCHIVE}'>")
}

/// What stands behind them.
///
/// # Errors
/// When it cannot be written.
#[cfg(feature = "mam")]
pub fn archive_end(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "</archive>")
}

/// A message of an archive, which is XML by itself.
///
/// # Errors
/// When it cannot be written.
#[cfg(feature = "mam")]
pub fn archived(id: &str, wall_ms: u64, xml: &str, out: &mut dyn Write) -> io::Result<()> {
    let stamp = datetime_fine(i64::try_from(wall_ms).unwrap_or_default());
    write!(out, "<result xmlns='{}' id='{}'><forwarded xmlns='{}'>", ns::MAM, attribute(id), ns::FORWARD)?;
    write!(out, "<delay xmlns='{}' stamp='{stamp}'/>", ns::DELAY)?;
    writeln!(out, "{xml}</forwarded></result>")
}

/// Section 4.3.
fn credentials(mechanism: &str, keys: &ScramKeys) -> Element {
    let mut b = Builder::new(SCRAM, "scram-credentials");
    b.attr("mechanism", mechanism);
    b.leaf(SCRAM, "iter-count", &keys.iterations.to_string());
    b.leaf(SCRAM, "salt", &STANDARD.encode(&keys.salt));
    b.leaf(SCRAM, "server-key", &STANDARD.encode(&keys.server_key));
    b.leaf(SCRAM, "stored-key", &STANDARD.encode(&keys.stored_key));
    b.finish()
}

/// Section 4.4.
fn contacts(roster: &[(&Jid, &roster::Item)], version: Option<u64>) -> Element {
    let mut b = Builder::new(ns::ROSTER, "query");
    if let Some(version) = version {
        b.attr("ver", &version.to_string());
    }
    for (jid, item) in roster {
        roster::build_item(jid, item, &mut b);
    }
    b.finish()
}

/// Section 4.7: the one form in which the format knows them.
fn blocked(jids: &[Jid]) -> Element {
    let mut b = Builder::new(PRIVACY, "query");
    b.open(PRIVACY, "default").attr("name", "blocklist").close();
    b.open(PRIVACY, "list").attr("name", "blocklist");
    for (order, jid) in jids.iter().enumerate() {
        b.open(PRIVACY, "item").attr("type", "jid").attr("value", jid.as_str()).attr("action", "deny");
        b.attr("order", &(order + 1).to_string()).close();
    }
    b.open(PRIVACY, "item").attr("action", "allow").attr("order", &(jids.len() + 1).to_string()).close();
    b.finish()
}

/// Presence as the account would have said it, with its time.
fn last_seen(ms: u64) -> Element {
    let mut b = Builder::new(ns::CLIENT, "presence");
    b.attr("type", "unavailable");
    b.open(ns::DELAY, "delay").attr("stamp", &datetime(i64::try_from(ms).unwrap_or(0)));
    b.finish()
}

/// Section 4.9.1.
fn configurations(nodes: &[&NodePiece]) -> Element {
    let mut b = Builder::new(ns::PUBSUB_OWNER, "pubsub");
    for node in nodes {
        b.open(ns::PUBSUB_OWNER, "configure").attr("node", &node.name);
        form::open(&mut b, "form", ns::PUBSUB_NODE_CONFIG);
        for (var, values) in &node.fields {
            b.open(ns::DATA, "field").attr("var", var);
            values.iter().for_each(|value| _ = b.leaf(ns::DATA, "value", value));
            b.close();
        }
        b.close().close();
        if !node.affiliations.is_empty() {
            b.open(ns::PUBSUB_OWNER, "affiliations").attr("node", &node.name);
            for (jid, affiliation) in &node.affiliations {
                b.open(ns::PUBSUB_OWNER, "affiliation")
                    .attr("jid", jid.as_str())
                    .attr("affiliation", affiliation)
                    .close();
            }
            b.close();
        }
        if !node.subscribers.is_empty() {
            b.open(ns::PUBSUB_OWNER, "subscriptions").attr("node", &node.name);
            for jid in &node.subscribers {
                b.open(ns::PUBSUB_OWNER, "subscription").attr("jid", jid.as_str());
                b.attr("subscription", "subscribed").close();
            }
            b.close();
        }
    }
    b.finish()
}

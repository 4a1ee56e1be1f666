//! What was said in a room: kept in the store, sent to those who enter (XEP-0045 sections 7.2.13 to 7.2.15).

use super::room::{Room, Seat, hand};
use super::store::{History, Line};
use crate::clock::datetime_ms;
use crate::core::Core;
use crate::jid::Jid;
use crate::stanza::{Kind, MessageType, Stanza, StanzaError, delay};
use crate::storage::StoreError;
use crate::xml::{ElementRef, ns};

/// Whether a message is worth keeping: something that was said, or that asks for it (XEP-0334).
fn is_kept(stanza: &Stanza) -> bool {
    let root = stanza.payload.root();
    let hint = |name| root.has_child(ns::HINTS, name);
    (root.has_child(ns::CLIENT, "body") || hint("store")) && !hint("no-store") && !hint("no-permanent-store")
}

/// Keeps a message and forgets the oldest that are too many.
///
/// # Errors
/// When storage cannot be read, or too much waits for the disk.
pub fn keep(core: &mut Core, room: &mut Room, stanza: &Stanza) -> Result<(), StanzaError> {
    let max = (room.record.history_max).min(core.settings.limits.muc_history_max) as usize;
    if !is_kept(stanza) || max == 0 {
        return Ok(());
    }
    core.may_write()?;
    let mut kept = stanza.clone();
    delay::stamp(&mut kept, room.jid.as_str(), core.now.wall_ms);
    let xml = kept.to_element().root().to_xml();
    let max_bytes = core.settings.limits.muc_history_bytes_max as usize;
    if xml.len() > max_bytes {
        return Ok(());
    }
    let owner = room.jid.as_str();
    room.history_bytes += xml.len();
    let count = room.lines;
    let mut left = count + 1;
    if left > max || room.history_bytes > max_bytes {
        for (sub, line) in core.view.list::<History>(owner, count)? {
            if left <= max && room.history_bytes <= max_bytes {
                break;
            }
            core.view.delete::<History>(owner, &sub);
            room.history_bytes = room.history_bytes.saturating_sub(line.xml.len());
            left -= 1;
        }
    }
    let wall_ms = u64::try_from(core.now.wall_ms).unwrap_or(0);
    core.view.put::<History>(owner, &room.next_line.to_be_bytes(), &Line { xml, wall_ms });
    room.next_line += 1;
    room.lines = left;
    Ok(())
}

/// Forgets the older half of the history of a room, and says how many messages that is.
///
/// # Errors
/// When storage cannot be read.
pub fn halve(core: &mut Core, room: &Jid) -> Result<usize, StoreError> {
    let half = core.view.count::<History>(room.as_str())? / 2;
    for (sub, _) in core.view.list::<History>(room.as_str(), half)? {
        core.view.delete::<History>(room.as_str(), &sub);
    }
    Ok(half)
}

/// How much of the history somebody wants; all conditions hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    chars: usize,
    stanzas: usize,
    since_ms: i64,
}

impl Wanted {
    /// Reads `<history/>` in the `<x/>` of a join. What cannot be read asks for nothing less.
    pub fn read(x: Option<ElementRef<'_>>, wall_ms: i64) -> Self {
        let mut wanted = Self { chars: usize::MAX, stanzas: usize::MAX, since_ms: i64::MIN };
        let Some(history) = x.and_then(|x| x.child(ns::MUC, "history")) else { return wanted };
        let number = |name| history.attr(name).and_then(|n| n.trim().parse::<u32>().ok());
        if let Some(n) = number("maxchars") {
            wanted.chars = n as usize;
        }
        if let Some(n) = number("maxstanzas") {
            wanted.stanzas = n as usize;
        }
        if let Some(n) = number("seconds") {
            wanted.since_ms = wall_ms.saturating_sub(i64::from(n) * 1000);
        }
        if let Some(since) = history.attr("since").and_then(datetime_ms) {
            wanted.since_ms = wanted.since_ms.max(since);
        }
        wanted
    }
}

/// Sends what a newcomer wants of the history.
///
/// # Errors
/// When storage cannot be read.
pub fn send(core: &mut Core, room: &Room, to: &Seat, wanted: Wanted) -> Result<(), StoreError> {
    if wanted.stanzas == 0 || wanted.chars == 0 {
        return Ok(());
    }
    let lines = core.view.list::<History>(room.jid.as_str(), usize::MAX)?;
    let mut chars = 0;
    let mut is_wanted = |line: &Line| {
        // Section 7.2.14: the characters of the whole stanzas, with their addressee.
        chars += line.xml.chars().count() + to.jid.as_str().len() + " to=''".len();
        chars <= wanted.chars && i64::try_from(line.wall_ms).unwrap_or(i64::MAX) >= wanted.since_ms
    };
    let newest = lines.into_iter().map(|row| row.1).rev().take(wanted.stanzas);
    let newest: Vec<Line> = newest.take_while(|line| is_wanted(line)).collect();
    for line in newest.into_iter().rev() {
        let stanza = crate::xml::parse(&line.xml).ok().and_then(|e| Stanza::read(e).ok());
        if let Some(stanza) = stanza {
            hand(core, &stanza, to, None, true);
        }
    }
    Ok(())
}

/// Sends the subject, which ends what a newcomer hears (section 7.2.15). Without one it is empty.
pub fn send_subject(core: &mut Core, room: &Room, to: &Seat) {
    let record = &room.record;
    let from = if record.subject_nick.is_empty() { room.jid.clone() } else { room.at(&record.subject_nick) };
    let mut stanza = Stanza::build(Kind::Message(MessageType::Groupchat), |b| {
        b.leaf(ns::CLIENT, "subject", &record.subject);
        if !record.subject_id.is_empty() {
            b.open(ns::OCCUPANT_ID, "occupant-id").attr("id", &record.subject_id).close();
        }
    });
    if !record.subject_nick.is_empty() {
        delay::stamp(&mut stanza, room.jid.as_str(), i64::try_from(record.subject_ms).unwrap_or(0));
    }
    hand(core, &stanza.addressed(Some(from), None), to, None, true);
}

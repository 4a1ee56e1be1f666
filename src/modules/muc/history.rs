//! What was said in a room: kept in the store, sent to those who enter (XEP-0045 sections 7.2.13 to 7.2.15).

use super::archive;
use super::room::{Room, Seat, hand};
use super::store::{History, Line};
use crate::clock::datetime_ms;
use crate::core::Core;
use crate::jid::Jid;
use crate::stanza::{Kind, MessageType, Stanza, StanzaError, delay};
use crate::storage::StoreError;
use crate::xml::{ElementRef, ns};
use std::ops::ControlFlow;

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
    let xml = kept.to_xml();
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

/// Something that was said in a room.
#[derive(Clone, Debug)]
pub struct Heard {
    /// With its stamp, without addressee.
    pub said: Stanza,
    /// When, in milliseconds since 1970.
    pub wall_ms: i64,
    /// As text.
    pub bytes: usize,
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
    let max = room.record.history_max.min(core.settings.limits.muc_history_max) as usize;
    let max_bytes = core.settings.limits.muc_history_bytes_max as usize;
    let (mut heard, mut bytes): (Vec<Heard>, _) = (Vec::new(), 0);
    archive::last(core, &room.jid, |line| {
        bytes += line.bytes;
        let is_old = line.wall_ms < wanted.since_ms;
        if heard.len() >= max.min(wanted.stanzas) || bytes > max_bytes || is_old {
            return ControlFlow::Break(());
        }
        heard.push(line);
        ControlFlow::Continue(())
    })?;
    heard.reverse();
    // What was said while it was not archived.
    for (_, line) in core.view.list::<History>(room.jid.as_str(), usize::MAX)? {
        let said = Stanza::parse(&line.xml);
        let wall_ms = i64::try_from(line.wall_ms).unwrap_or(i64::MAX);
        heard.extend(said.map(|said| Heard { said, wall_ms, bytes: line.xml.len() }));
    }
    heard.sort_by_key(|line| line.wall_ms);
    let mut chars = 0;
    let mut is_wanted = |line: &Heard| {
        // Section 7.2.14: the characters of the whole stanzas, with their addressee.
        if wanted.chars < usize::MAX {
            let xml = line.said.to_xml();
            chars += xml.chars().count() + to.jid.as_str().len() + " to=''".len();
        }
        chars <= wanted.chars && line.wall_ms >= wanted.since_ms
    };
    let newest = heard.into_iter().rev().take(wanted.stanzas.min(max));
    let newest: Vec<Heard> = newest.take_while(|line| is_wanted(line)).collect();
    for line in newest.into_iter().rev() {
        hand(core, &line.said, to, None, true);
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

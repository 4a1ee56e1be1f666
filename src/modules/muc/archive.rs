//! The archive of a room (XEP-0313 section 5.1.2), and what moderators and authors take out of it (XEP-0425, XEP-0424).
//!
//! Where a room is archived, that is its history, too: newcomers get the last of it.

use super::admin::Actor;
use super::form::Form;
use super::history::Heard;
use super::message::is_subject;
use super::room::{Affiliation, Role, Room, Whois};
use super::store::{Archived, Archiving};
use crate::clock::{datetime, datetime_fine};
use crate::core::archive::{New, Reading, form, tombstone};
#[cfg(feature = "import")]
use crate::core::archive::Mover;
#[cfg(feature = "import")]
use crate::core::moving::{ArchivedPiece, Outcome, Refusal, Taken};
use crate::core::{Answer, Core};
use crate::jid::Jid;
use crate::stanza::{Condition, Kind, MessageType, Stanza, StanzaError, delay};
use crate::storage::StoreError;
use crate::xml::{Builder, ElementRef, ns};
use std::ops::ControlFlow;
use std::rc::Rc;

/// Features of a room that is archived.
pub const FEATURES: &[&str] =
    &[ns::MAM, ns::MAM_EXTENDED, ns::MAM_GROUPCHAT_FIELD, ns::RETRACT, ns::TOMBSTONE, ns::MODERATE];

/// Whether this server archives at all.
pub fn is_supported(core: &Core) -> bool {
    core.settings.archive.page_max > 0
}

/// Whether a room is archived: as its owner has said, or as the configuration does.
///
/// # Errors
/// When storage cannot be read.
pub fn is_on(core: &mut Core, room: &Jid) -> Result<bool, StoreError> {
    if !is_supported(core) {
        return Ok(false);
    }
    let said = core.view.get::<Archiving>(room.as_str(), b"")?;
    Ok(said.map_or(core.settings.archive.rooms, |said| said.on))
}

/// What an owner says of it in the form, if anything.
///
/// # Errors
/// `bad-request` where there are no archives.
pub fn wish(core: &Core, form: &Form) -> Result<Option<bool>, StanzaError> {
    match form.flag("muc#roomconfig_enablearchiving")? {
        Some(_) if !is_supported(core) => {
            Err(Condition::BadRequest.because("The form has a field that was not asked for."))
        }
        wish => Ok(wish),
    }
}

/// Takes that over; the status code to tell when it changes something (XEP-0045 section 10.2.1).
///
/// # Errors
/// When storage cannot be read.
pub fn configure(core: &mut Core, room: &Jid, wish: Option<bool>) -> Result<Option<&'static str>, StoreError> {
    let is_on = is_on(core, room)?;
    let Some(on) = wish.filter(|on| *on != is_on) else { return Ok(None) };
    core.view.put::<Archiving>(room.as_str(), b"", &Archived { on });
    Ok(Some(if on { "170" } else { "171" }))
}

/// Whether a message is worth archiving, as in Prosody, and subjects and retractions, as the specifications ask.
fn is_worth(said: &Stanza) -> bool {
    let root = said.payload.root();
    let has = |ns, name| root.has_child(ns, name);
    if has(ns::HINTS, "no-store") || has(ns::HINTS, "no-permanent-store") {
        return false;
    }
    has(ns::HINTS, "store")
        || has(ns::CLIENT, "body")
        || has(ns::CLIENT, "subject")
        || has(ns::ENCRYPTION, "encryption")
        || root.children().any(|c| c.ns() == ns::CHAT_MARKERS)
        || has(ns::RETRACT, "retract")
}

/// Archives what was said, if the room is archived, and adds its id. False when the room is not.
///
/// # Errors
/// When storage cannot be read, or too much waits for the disk.
pub fn keep(core: &mut Core, room: &Room, said: &mut Stanza, from: &Jid) -> Result<bool, StanzaError> {
    if !is_on(core, &room.jid)? {
        return Ok(false);
    }
    if is_worth(said) {
        core.may_write()?;
        let standing = match room.who(from) {
            Some((_, occupant)) => format!("{} {}", occupant.affiliation.as_str(), occupant.role.as_str()),
            None => String::new(),
        };
        append(core, room, said, New { who: from.as_str(), standing: &standing, ..New::default() })?;
    }
    Ok(true)
}

fn append(core: &mut Core, room: &Room, said: &mut Stanza, new: New<'_>) -> Result<(), StoreError> {
    let xml = said.to_xml();
    let id = core.archive_append(room.jid.as_str(), New { xml: &xml, ..new })?;
    add_id(said, &room.jid, id);
    Ok(())
}

fn add_id(said: &mut Stanza, room: &Jid, id: impl ToString) {
    said.append(|b| {
        b.open(ns::STANZA_ID, "stanza-id").attr("by", room.as_str()).attr("id", &id.to_string()).close();
    });
}

/// The last of what was said, the last of all first, until `each` breaks: subjects and what was taken back are no part
/// of a history.
///
/// # Errors
/// When storage cannot be read.
pub fn last(
    core: &mut Core,
    room: &Jid,
    mut each: impl FnMut(Heard) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    if !is_supported(core) {
        return Ok(());
    }
    let is_told = |said: &Stanza| !is_subject(said) && !said.has_child(ns::RETRACT, "retracted");
    core.archive_last(room.as_str(), |id, row| {
        let said = Stanza::parse(row.xml);
        let Some(mut said) = said.filter(is_told) else { return ControlFlow::Continue(()) };
        let wall_ms = i64::try_from(id.wall_ms()).unwrap_or_default();
        delay::stamp(&mut said, room.as_str(), wall_ms);
        add_id(&mut said, room, row.named(id));
        each(Heard { said, wall_ms, bytes: row.xml.len() })
    })
}

/// A question about the archive. None when it is asked for a page, which answers later.
///
/// # Errors
/// `forbidden` for those who may not enter; what is wrong with the query.
pub fn answer(
    core: &mut Core,
    room: &Room,
    actor: &Actor,
    stanza: &Stanza,
    child: ElementRef<'_>,
    is_set: bool,
) -> Result<Option<Answer>, StanzaError> {
    if !is_supported(core) {
        return Err(Condition::ServiceUnavailable.into());
    }
    let record = &room.record;
    let is_stranger = actor.role == Role::None && actor.affiliation < Affiliation::Admin;
    if actor.affiliation == Affiliation::Outcast
        || (record.members_only && actor.affiliation == Affiliation::None)
        || (!record.password.is_empty() && is_stranger)
    {
        return Err(Condition::Forbidden.because("Only who may enter the room may read its archive."));
    }
    match (child.name(), is_set) {
        ("query", false) => Ok(Some(Answer::Result(form()))),
        ("query", true) => {
            let is_admin = actor.affiliation >= Affiliation::Admin;
            let sees_addresses = record.whois == Whois::Anyone || actor.role == Role::Moderator || is_admin;
            let reading = Reading {
                owner: &room.jid,
                is_room: true,
                sees_addresses,
                page_max: core.settings.archive.page_max,
                page_bytes_max: core.settings.limits.mam_page_bytes_max,
            };
            core.archive_ask(stanza, reading)?;
            Ok(None)
        }
        ("metadata", false) => {
            let mut b = Builder::new(ns::MAM, "metadata");
            if let Some((first, last)) = core.archive_ends(room.jid.as_str())? {
                for (name, end) in [("start", first), ("end", last)] {
                    let stamp = datetime_fine(i64::try_from(end.id.wall_ms()).unwrap_or_default());
                    b.open(ns::MAM, name).attr("id", &end.to_string()).attr("timestamp", &stamp).close();
                }
            }
            Ok(Some(Answer::Result(b.finish())))
        }
        _ => Err(Condition::BadRequest.into()),
    }
}

/// Takes in a message of another server's archive.
///
/// # Errors
/// Why not.
#[cfg(feature = "import")]
pub fn take(core: &mut Core, room: &Jid, piece: &ArchivedPiece, replace: bool) -> Outcome {
    let ArchivedPiece { id, wall_ms, with, standing, message } = piece;
    if !is_on(core, room)? {
        return Ok(Taken::Left("the room is not archived here"));
    }
    if message.from.as_ref().is_none_or(|from| !from.same_bare(room)) {
        return Err(Refusal::because("it is from somewhere else"));
    }
    let xml = message.clone().addressed(message.from.clone(), None).to_xml();
    let who = with.as_ref().map_or("", Jid::as_str);
    let new = New { who, standing, xml: &xml, ..New::default() };
    let keep_s = core.settings.archive.rooms_keep_s;
    core.archive_take(room.as_str(), Mover { name: id, wall_ms: *wall_ms, keep_s, new }, replace)
}

/// What was taken back, by whom and why.
#[derive(Clone, Copy)]
struct Moderation<'a> {
    by: &'a Jid,
    occupant: &'a str,
    reason: Option<&'a str>,
}

impl Moderation<'_> {
    fn build(self, b: &mut Builder) {
        b.open(ns::MODERATE, "moderated").attr("by", self.by.as_str());
        b.open(ns::OCCUPANT_ID, "occupant-id").attr("id", self.occupant).close().close();
        if let Some(reason) = self.reason {
            b.leaf(ns::RETRACT, "reason", reason);
        }
    }
}

/// A moderator takes a message out of the room (XEP-0425 section 3): a tombstone takes its place in the archive, and
/// everybody is told.
///
/// # Errors
/// `forbidden` for all but moderators, `item-not-found` for a message that is not there.
pub fn moderate(
    core: &mut Core,
    room: &Room,
    actor: &Actor,
    moderate: ElementRef<'_>,
    done: impl FnOnce(&mut Core),
) -> Result<(), StanzaError> {
    if !is_on(core, &room.jid)? {
        return Err(Condition::ServiceUnavailable.into());
    }
    let (Role::Moderator, Some(nick)) = (actor.role, &actor.nick) else {
        let error = Condition::Forbidden.because("Only moderators may take out what others have said.");
        return Err(StanzaError { error_type: Some("modify"), ..error });
    };
    let (Some(target), true) = (moderate.attr("id"), moderate.has_child(ns::RETRACT, "retract")) else {
        return Err(Condition::BadRequest.because("The message or what to do with it is missing."));
    };
    let not_found = || Condition::ItemNotFound.because("The archive has no such message.");
    let (id, mut row) = core.archive_find(room.jid.as_str(), target)?.ok_or_else(not_found)?;
    let reason = moderate.child(ns::MODERATE, "reason").map(|reason| reason.text());
    if reason.as_ref().is_some_and(|reason| reason.len() > core.settings.limits.muc_subject_bytes_max as usize) {
        return Err(Condition::NotAcceptable.because("The reason is too long."));
    }
    let (by, occupant) = (room.at(nick), room.occupant_id(actor.account.as_str()));
    let moderation = Moderation { by: &by, occupant: &occupant, reason: reason.as_deref() };
    let stamp = datetime(core.now.wall_ms);
    let stone = tombstone(&row.xml, |b| {
        b.open(ns::RETRACT, "retracted").attr("stamp", &stamp);
        moderation.build(b);
        b.close();
    });
    row.xml = stone.ok_or_else(not_found)?;
    core.archive_replace(room.jid.as_str(), id, &row);
    let mut told = Stanza::build(Kind::Message(MessageType::Groupchat), |b| {
        b.open(ns::RETRACT, "retract").attr("id", target);
        moderation.build(b);
        b.close();
    });
    told = told.addressed(Some(room.jid.clone()), None).with_id(&core.token());
    append(core, room, &mut told, New::default())?;
    done(core);
    room.fan(core, &told, true, |_, _| true);
    Ok(())
}

/// An author takes back what he has said (XEP-0424 section 4). What is not his stays: clients look for themselves.
///
/// # Errors
/// `forbidden` for who says that a moderator does it; when storage cannot be read.
pub fn retract(core: &mut Core, room: &Room, said: &Stanza, from: &Jid) -> Result<(), StanzaError> {
    let Some(retract) = said.child(ns::RETRACT, "retract") else { return Ok(()) };
    if retract.children().any(|c| c.ns() == ns::MODERATE) {
        return Err(Condition::Forbidden.because("Only the room itself says what moderators do."));
    }
    let Some(target) = retract.attr("id").filter(|_| is_supported(core)) else { return Ok(()) };
    let Some((id, mut row)) = core.archive_find(room.jid.as_str(), target)? else { return Ok(()) };
    if Jid::parse(&row.who).is_ok_and(|who| who.same_bare(from)) {
        let (retraction, stamp) = (said.id.clone().unwrap_or_else(|| Rc::from("")), datetime(core.now.wall_ms));
        let stone = tombstone(&row.xml, |b| {
            b.open(ns::RETRACT, "retracted").attr("id", &retraction).attr("stamp", &stamp).close();
        });
        if let Some(xml) = stone {
            row.xml = xml;
            core.archive_replace(room.jid.as_str(), id, &row);
        }
    }
    Ok(())
}

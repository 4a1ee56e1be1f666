//! Requests to a service, to a room, and through a room to an occupant.

use super::admin::{self, Actor};
use super::archive;
use super::disco;
use super::form::Form;
use super::hats;
use super::owner;
use super::register;
use super::room::{Affiliation, Room, status};
use super::store::{Cards, Text};
use crate::core::flight::{Filters, InFlight};
use crate::core::{Answer, Core};
use crate::encoding::hex;
use crate::jid::Jid;
use crate::stanza::{Condition, IqType, Kind, Stanza, StanzaError};
use crate::xml::{Element, ElementRef, ns};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// XEP-0060: what people publish is asked of their accounts.
const PUBSUB: &str = "http://jabber.org/protocol/pubsub";

/// Answers a request to the service itself.
///
/// # Errors
/// `service-unavailable` for what it does not know.
pub fn to_service(core: &mut Core, stanza: &Stanza, service: &Jid) -> Result<(), StanzaError> {
    let (Some(child), is_set) = (stanza.request(), stanza.kind == Kind::Iq(IqType::Set)) else { return Ok(()) };
    if is_set {
        return Err(Condition::ServiceUnavailable.into());
    }
    let answer = match (child.ns(), child.name()) {
        (ns::DISCO_INFO | ns::DISCO_ITEMS, "query") if child.attr("node").is_some_and(|n| !n.is_empty()) => {
            return Err(Condition::ItemNotFound.into());
        }
        (ns::DISCO_INFO, "query") => Answer::Result(disco::service_info()),
        (ns::DISCO_ITEMS, "query") => disco::service_items(core, service, child)?,
        (ns::PING, "ping") => Answer::Empty,
        // XEP-0307.
        (ns::MUC_UNIQUE, "unique") => {
            let name = core.token().to_lowercase();
            Answer::Result(Element::with_text(ns::MUC_UNIQUE, "unique", &name))
        }
        _ => return Err(Condition::ServiceUnavailable.into()),
    };
    reply(core, stanza, answer);
    Ok(())
}

fn reply(core: &mut Core, stanza: &Stanza, answer: Answer) {
    if let Some(reply) = answer.reply(stanza) {
        core.send(InFlight::answer(reply));
    }
}

/// Answers a request to a room.
///
/// # Errors
/// `service-unavailable` for what it does not know, and what the sections say.
pub fn to_room(core: &mut Core, room: &mut Room, stanza: &Stanza) -> Result<(), StanzaError> {
    let (Some(child), Some(from)) = (stanza.request(), &stanza.from) else { return Ok(()) };
    let is_set = stanza.kind == Kind::Iq(IqType::Set);
    // A query of the archive is a set that changes nothing.
    if is_set && child.ns() != ns::MAM {
        core.may_write()?;
    }
    let actor = Actor::of(core, room, from)?;
    if room.record.locked && actor.affiliation != Affiliation::Owner {
        return Err(Condition::ItemNotFound.because("The room is not open yet."));
    }
    let done = |core: &mut Core| reply(core, stanza, Answer::Empty);
    let answer = match (child.ns(), child.name(), is_set) {
        (ns::DISCO_INFO, "query", false) => disco::room_info(core, room, &actor, child)?,
        // Who is in the room is for those who are in it, and they know.
        (ns::DISCO_ITEMS, "query", false) => match child.attr("node") {
            Some(ns::COMMANDS) => Answer::Result(hats::items(room, &actor)),
            None | Some("") => Answer::Result(Element::empty(ns::DISCO_ITEMS, "query")),
            Some(_) => return Err(Condition::ItemNotFound.into()),
        },
        (ns::PING, "ping", false) => Answer::Empty,
        (ns::MUC_ADMIN, "query", false) => admin::get(core, room, &actor, child)?,
        (ns::MUC_ADMIN, "query", true) => return admin::set(core, room, &actor, child, done),
        (ns::MUC_OWNER, "query", _) if actor.affiliation != Affiliation::Owner => {
            return Err(Condition::Forbidden.because("Only owners may do that."));
        }
        (ns::MUC_OWNER, "query", false) => Answer::Result(owner::config_form(core, room)?),
        (ns::MUC_OWNER, "query", true) => return owned(core, room, child, done),
        (ns::REGISTER, "query", false) => register::get(core, room, &actor)?,
        (ns::REGISTER, "query", true) => return register::set(core, room, &actor, child, done),
        (ns::VCARD, "vCard", false) => {
            let card = core.view.get::<Cards>(room.jid.as_str(), b"")?;
            let card = card.and_then(|c| crate::xml::parse(&c.text).ok());
            Answer::Result(card.unwrap_or_else(|| Element::empty(ns::VCARD, "vCard")))
        }
        (ns::COMMANDS, "command", true) => {
            let answer = |core: &mut Core, element| reply(core, stanza, Answer::Result(element));
            return hats::run(core, room, &actor, child, answer);
        }
        (ns::MAM, _, is_set) => match archive::answer(core, room, &actor, stanza, child, is_set)? {
            Some(answer) => answer,
            None => return Ok(()),
        },
        (ns::MODERATE, "moderate", true) => return archive::moderate(core, room, &actor, child, done),
        (ns::VCARD, "vCard", true) => return card(core, room, &actor, child, done),
        _ => return Err(Condition::ServiceUnavailable.into()),
    };
    reply(core, stanza, answer);
    Ok(())
}

/// Sections 10.1, 10.2 and 10.9.
fn owned(
    core: &mut Core,
    room: &mut Room,
    query: ElementRef<'_>,
    done: impl FnOnce(&mut Core),
) -> Result<(), StanzaError> {
    if let Some(destroy) = query.child(ns::MUC_OWNER, "destroy") {
        return owner::destroy(core, room, Some(destroy), done);
    }
    let Some(x) = query.child(ns::DATA, "x") else {
        return Err(Condition::BadRequest.because("The form is missing."));
    };
    let form = Form::read(x)?;
    if form.cancelled {
        if room.record.locked {
            // Section 10.1.3: a room that is not configured never was.
            return owner::destroy(core, room, None, done);
        }
        done(core);
        return Ok(());
    }
    if form.is_empty() {
        // Section 10.1.2: an instant room.
        if std::mem::replace(&mut room.record.locked, false) {
            room.save(core);
        }
        done(core);
        return Ok(());
    }
    owner::submit(core, room, &form, done)
}

/// XEP-0486: a room's vCard, with its avatar.
fn card(
    core: &mut Core,
    room: &mut Room,
    actor: &Actor,
    card: ElementRef<'_>,
    done: impl FnOnce(&mut Core),
) -> Result<(), StanzaError> {
    if actor.affiliation != Affiliation::Owner {
        return Err(Condition::Forbidden.because("Only owners may do that."));
    }
    let xml = card.to_xml();
    if xml.len() > core.settings.limits.vcard_bytes_max as usize {
        return Err(Condition::NotAcceptable.because("The vCard is too long."));
    }
    let mut avatars = Vec::new();
    for photo in card.children().filter(|c| c.is(ns::VCARD, "PHOTO")) {
        let Some(image) = photo.child(ns::VCARD, "BINVAL") else { continue };
        let text: String = image.text().chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let Ok(bytes) = STANDARD.decode(text) else {
            return Err(Condition::BadRequest.because("The image of the vCard is not base64."));
        };
        avatars.push(hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, &bytes).as_ref()));
    }
    if card.children().next().is_none() {
        core.view.delete::<Cards>(room.jid.as_str(), b"");
    } else {
        core.view.put::<Cards>(room.jid.as_str(), b"", &Text { text: xml });
    }
    room.record.avatars = avatars;
    room.save(core);
    done(core);
    room.notify(core, |_, _| true, |b| status(b, "104"));
    Ok(())
}

/// Passes a request on to an occupant, without telling either who the other is (section 17.4), and answers
/// somebody who asks whether he is still there (XEP-0410).
///
/// # Errors
/// `not-acceptable` for those who are not in the room.
pub fn to_occupant(core: &mut Core, room: &Room, stanza: &Stanza, nick: &str) -> Result<(), StanzaError> {
    let (Some(child), Some(from), Some(id)) = (stanza.request(), &stanza.from, &stanza.id) else { return Ok(()) };
    if matches!(child.ns(), ns::DISCO_INFO | ns::DISCO_ITEMS) && room.who(from).is_none() {
        // Section 6.6.
        return Err(Condition::BadRequest.because("Only occupants may ask that."));
    }
    let (own, _) = room.insider(from)?;
    if child.is(ns::PING, "ping") && &*own == nick {
        reply(core, stanza, Answer::Empty);
        return Ok(());
    }
    let Some(other) = room.occupants.get(nick) else {
        return Err(Condition::ItemNotFound.because("Nobody in the room has this nickname."));
    };
    let of_account = child.is(ns::VCARD, "vCard") || child.ns() == PUBSUB;
    let to = match other.seats.first() {
        Some(seat) if !of_account => seat.jid.clone(),
        _ => other.account.clone(),
    };
    let id = format!("{}/{id}", mark(room, from, nick));
    let passed = Stanza { from: Some(room.at(&own)), to: Some(to), id: Some(id.as_str().into()), ..stanza.clone() };
    core.send(InFlight { filters: Filters::In, ..InFlight::passing(passed) });
    Ok(())
}

/// Passes an answer back to who has asked: its id says which session that was.
pub fn answered(core: &mut Core, room: &Room, stanza: &Stanza, asker: &str) {
    let (Some(from), Some(id)) = (&stanza.from, &stanza.id) else { return };
    let (Some((mark_of, id)), Some(asker)) = (id.split_once('/'), room.occupants.get(asker)) else { return };
    let nicks = room.nicks_of(from.bare_str());
    let pairs = nicks.iter().flat_map(|nick| asker.seats.iter().map(move |seat| (nick, seat)));
    if let Some((nick, seat)) = pairs.into_iter().find(|(nick, seat)| mark(room, &seat.jid, nick) == mark_of) {
        let to = Some(seat.jid.clone());
        let passed = Stanza { from: Some(room.at(nick)), to, id: Some(id.into()), ..stanza.clone() };
        core.send(InFlight { filters: Filters::In, ..InFlight::passing(passed) });
    }
}

/// Ties an answer to the session that asked and the nickname that it asked.
fn mark(room: &Room, asker: &Jid, nick: &str) -> String {
    let tag = room.sign(&[b"iq", asker.as_str().as_bytes(), nick.as_bytes()]);
    hex(tag.as_ref().get(..8).unwrap_or_default())
}

//! What is said in a room: to all, to one, and to the room itself (XEP-0045 sections 7.4, 7.5, 7.8, 7.13, 8.1, 8.6).

use super::archive;
use super::form::{self, Form};
use super::history;
use super::presence::{self, Show};
use super::room::{Affiliation, Pm, Role, Room, clean};
use super::store::{self, Standing};
use crate::core::Core;
use crate::core::flight::{Filters, InFlight};
use crate::jid::Jid;
use crate::stanza::{Condition, Kind, MessageType, Stanza, StanzaError};
use crate::xml::{ElementRef, ns};

/// `FORM_TYPE` of section 7.13.
const VOICE: &str = "http://jabber.org/protocol/muc#request";

/// A message to the room itself.
///
/// # Errors
/// The error of the section that forbids it.
pub fn to_room(core: &mut Core, room: &mut Room, stanza: &Stanza) -> Result<(), StanzaError> {
    let Some(from) = &stanza.from else { return Ok(()) };
    match stanza.kind {
        Kind::Message(MessageType::Groupchat) => to_all(core, room, stanza, from),
        Kind::Message(MessageType::Error) => {
            error(core, room, stanza, from);
            Ok(())
        }
        _ => {
            if let Some(x) = stanza.child(ns::MUC_USER, "x") {
                if let Some(decline) = x.child(ns::MUC_USER, "decline") {
                    return declined(core, room, decline, from);
                }
                let invites: Vec<_> = x.children().filter(|c| c.is(ns::MUC_USER, "invite")).collect();
                if !invites.is_empty() {
                    return invites.into_iter().try_for_each(|invite| invited(core, room, invite, from));
                }
            }
            if let Some(x) = stanza.child(ns::DATA, "x") {
                let form = Form::read(x)?;
                return match form.form_type() {
                    VOICE => voice(core, room, &form, from),
                    super::register::REGISTER_FORM => super::register::approved(core, room, &form, from),
                    _ => Err(Condition::BadRequest.because("The form is not one of this room.")),
                };
            }
            Err(Condition::BadRequest.because("To the room itself only messages of type groupchat can be sent."))
        }
    }
}

/// True for what only changes the subject.
pub fn is_subject(said: &Stanza) -> bool {
    let has = |name| said.has_child(ns::CLIENT, name);
    has("subject") && !has("body") && !has("thread")
}

/// Section 7.4, and 8.1 for the subject.
fn to_all(core: &mut Core, room: &mut Room, stanza: &Stanza, from: &Jid) -> Result<(), StanzaError> {
    let (nick, occupant) = room.insider(from)?;
    let (role, id) = (occupant.role, occupant.id.clone());
    if role < Role::Participant {
        return Err(Condition::Forbidden.because("You have no voice in this room."));
    }
    let root = stanza.payload.root();
    let subject = root.child(ns::CLIENT, "subject").filter(|_| is_subject(stanza));
    let mut said = Stanza { to: None, ..stanza.clone() };
    clean(&mut said, &room.jid);
    said.append(|b| {
        b.open(ns::OCCUPANT_ID, "occupant-id").attr("id", &id).close();
    });
    let mut said = Stanza { from: Some(room.at(&nick)), ..said };
    if let Some(subject) = subject {
        if role < Role::Moderator && !room.record.subject_by_participants {
            return Err(Condition::Forbidden.because("You may not change the subject."));
        }
        let subject = subject.text();
        if subject.len() > core.settings.limits.muc_subject_bytes_max as usize {
            return Err(Condition::NotAcceptable.because("The subject is too long."));
        }
        core.may_write()?;
        archive::keep(core, room, &mut said, from)?;
        let record = &mut room.record;
        (record.subject, record.subject_nick) = (subject, nick.to_string());
        record.subject_id = id.to_string();
        record.subject_ms = u64::try_from(core.now.wall_ms).unwrap_or(0);
        room.save(core);
        room.fan(core, &said, true, |_, _| true);
        return Ok(());
    }
    archive::retract(core, room, &said, from)?;
    if !archive::keep(core, room, &mut said, from)? {
        history::keep(core, room, &said)?;
    }
    // A message passes; that it is kept is no promise.
    room.fan(core, &said, false, |_, _| true);
    if core.missed.is_some() && root.has_child(ns::CLIENT, "body") {
        let all = store::standings(core, &room.jid)?.into_iter();
        let members = all.filter(|(_, standing)| standing.affiliation >= Affiliation::Member);
        let members = members.filter_map(|(jid, _)| Jid::parse(&jid).ok());
        let absent = members.filter(|jid| core.is_local(jid) && room.nicks_of(jid.as_str()).is_empty());
        let absent: Vec<_> = absent.map(|jid| (jid, said.clone())).collect();
        core.missed.get_or_insert_default().extend(absent);
    }
    Ok(())
}

/// What comes back shows who cannot be reached any more.
fn error(core: &mut Core, room: &mut Room, stanza: &Stanza, from: &Jid) {
    const LOST: [&str; 9] = [
        "gone",
        "internal-server-error",
        "item-not-found",
        "jid-malformed",
        "recipient-unavailable",
        "redirect",
        "remote-server-not-found",
        "remote-server-timeout",
        "service-unavailable",
    ];
    let error = stanza.child(ns::CLIENT, "error");
    let condition = error.and_then(|e| e.children().find(|c| c.ns() == ns::STANZA_ERROR));
    if condition.is_none_or(|c| LOST.contains(&c.name())) {
        super::join::kick(core, room, from);
    }
}

/// An error that says so of the server of its sender.
fn is_out_of_reach(stanza: &Stanza) -> bool {
    let error = stanza.child(ns::CLIENT, "error");
    let says = |name| error.is_some_and(|error| error.has_child(ns::STANZA_ERROR, name));
    says("remote-server-not-found") || says("remote-server-timeout")
}

/// Section 7.5.
///
/// # Errors
/// The error of the section that forbids it.
pub fn to_occupant(core: &mut Core, room: &mut Room, stanza: &Stanza, nick: &str) -> Result<(), StanzaError> {
    let Some(from) = &stanza.from else { return Ok(()) };
    // An error goes to whom it answers. It does not show that its sender is lost: he may have blocked the other.
    let is_error = stanza.kind == Kind::Message(MessageType::Error);
    if stanza.kind == Kind::Message(MessageType::Groupchat) {
        return Err(Condition::BadRequest.because("A message of type groupchat goes to the room itself."));
    }
    if is_error && is_out_of_reach(stanza) {
        // Its server is: that is true for everything that it is sent (section 7.14).
        super::join::kick(core, room, from);
        return Ok(());
    }
    let (own, occupant) = room.insider(from)?;
    let Some(other) = room.occupants.get(nick) else {
        return Err(Condition::ItemNotFound.because("Nobody in the room has this nickname."));
    };
    let allowed = match room.record.pm {
        Pm::Anyone => true,
        Pm::Participants => occupant.role >= Role::Participant,
        Pm::Moderators => occupant.role == Role::Moderator,
        Pm::Nobody => false,
    };
    // One may always write to those who keep order, and they to everybody.
    let with_moderator = occupant.role == Role::Moderator || other.role == Role::Moderator;
    if !allowed && !is_error && (room.record.pm == Pm::Nobody || !with_moderator) {
        return Err(Condition::Forbidden.because("This room does not allow it."));
    }
    let mut said = stanza.clone();
    clean(&mut said, &room.jid);
    said.append(|b| {
        b.open(ns::OCCUPANT_ID, "occupant-id").attr("id", &occupant.id).close();
        b.open(ns::MUC_USER, "x").close();
    });
    let said = Stanza { from: Some(room.at(&own)), ..said };
    for seat in other.seats.clone() {
        let stanza = Stanza { to: Some(seat.jid), ..said.clone() };
        core.send(InFlight { is_copy: true, filters: Filters::In, ..InFlight::passing(stanza) });
    }
    Ok(())
}

/// A mediated invitation (section 7.8.2).
fn invited(core: &mut Core, room: &mut Room, invite: ElementRef<'_>, from: &Jid) -> Result<(), StanzaError> {
    let (_, occupant) = room.insider(from)?;
    let affiliation = occupant.affiliation;
    let to = match invite.attr("to").map(Jid::parse) {
        Some(Ok(to)) if to.node().is_some() => to,
        Some(_) => return Err(Condition::JidMalformed.into()),
        None => return Err(Condition::BadRequest.because("The invitation names nobody.")),
    };
    if occupant.role < Role::Participant {
        return Err(Condition::Forbidden.because("You have no voice in this room."));
    }
    let is_closed = room.record.members_only;
    if is_closed && affiliation < Affiliation::Admin && !room.record.invites_by_members {
        return Err(Condition::Forbidden.because("Only admins may invite to this room."));
    }
    let theirs = store::affiliation(core, &room.jid, to.bare_str())?;
    if theirs == Affiliation::Outcast {
        return Err(Condition::NotAllowed.because("They are banned from this room."));
    }
    if is_closed && theirs == Affiliation::None {
        // Or the invitation would be worth nothing.
        core.may_write()?;
        let member = Standing { affiliation: Affiliation::Member, nick: String::new(), reason: String::new() };
        store::put_standing(core, &room.jid, to.bare_str(), Some(member))?;
        room.save(core);
    }
    let reason = invite.child(ns::MUC_USER, "reason").map(|r| r.text());
    let thread = invite.child(ns::MUC_USER, "continue").map(|c| c.attr("thread").unwrap_or_default().to_string());
    invite_to(core, room, &to, Some(&from.bare()), reason.as_deref(), thread.as_deref());
    Ok(())
}

/// Sends an invitation in the name of the room.
pub fn invite_to(
    core: &mut Core,
    room: &Room,
    to: &Jid,
    by: Option<&Jid>,
    reason: Option<&str>,
    thread: Option<&str>,
) {
    let password = Some(room.record.password.as_str()).filter(|p| !p.is_empty());
    let invitation = Stanza::build(Kind::Message(MessageType::Normal), |b| {
        b.open(ns::MUC_USER, "x").open(ns::MUC_USER, "invite");
        b.attr("from", by.unwrap_or(&room.jid).as_str());
        if let Some(reason) = reason {
            b.leaf(ns::MUC_USER, "reason", reason);
        }
        if let Some(thread) = thread {
            b.open(ns::MUC_USER, "continue");
            if !thread.is_empty() {
                b.attr("thread", thread);
            }
            b.close();
        }
        b.close();
        if let Some(password) = password {
            b.leaf(ns::MUC_USER, "password", password);
        }
        // XEP-0249, for those who know nothing else.
        b.close().open(ns::CONFERENCE, "x").attr("jid", room.jid.as_str());
        if let Some(reason) = reason {
            b.attr("reason", reason);
        }
        if let Some(password) = password {
            b.attr("password", password);
        }
        if let Some(thread) = thread {
            b.attr("continue", "true");
            if !thread.is_empty() {
                b.attr("thread", thread);
            }
        }
        b.close();
    });
    let invitation = invitation.addressed(Some(room.jid.clone()), Some(to.clone()));
    core.send(InFlight { filters: Filters::In, ..InFlight::promising(invitation) });
}

/// Tells who invited that the invitation was not taken (section 7.8.2).
fn declined(core: &mut Core, room: &Room, decline: ElementRef<'_>, from: &Jid) -> Result<(), StanzaError> {
    let Some(Ok(to)) = decline.attr("to").map(Jid::parse) else {
        return Err(Condition::BadRequest.because("Whose invitation it was is missing."));
    };
    // The room passes nothing on to people that it does not know.
    let in_room = to.domain() == room.jid.domain() && to.same_bare(&room.jid);
    let nicks = match to.resource().filter(|_| in_room) {
        Some(nick) => room.occupants.get_key_value(nick).map(|(nick, _)| nick.clone()).into_iter().collect(),
        None => room.nicks_of(to.bare_str()),
    };
    if nicks.is_empty() {
        return Err(Condition::ItemNotFound.because("Whoever invited you is not in the room."));
    }
    let reason = decline.child(ns::MUC_USER, "reason").map(|r| r.text());
    let answer = Stanza::build(Kind::Message(MessageType::Normal), |b| {
        b.open(ns::MUC_USER, "x").open(ns::MUC_USER, "decline").attr("from", from.bare_str());
        if let Some(reason) = &reason {
            b.leaf(ns::MUC_USER, "reason", reason);
        }
        b.close().close();
    });
    let answer = answer.addressed(Some(room.jid.clone()), None);
    room.fan(core, &answer, false, |nick, _| nicks.iter().any(|n| &**n == nick));
    Ok(())
}

/// A visitor asks for voice (section 7.13), or a moderator gives it (section 8.6).
fn voice(core: &mut Core, room: &mut Room, form: &Form, from: &Jid) -> Result<(), StanzaError> {
    let (nick, occupant) = room.insider(from)?;
    form.only(&["FORM_TYPE", "muc#role", "muc#jid", "muc#roomnick", "muc#request_allow"])?;
    if form.text("muc#role") != Some("participant") {
        return Err(Condition::BadRequest.because("Only the role of a participant can be asked for."));
    }
    if occupant.role != Role::Moderator {
        if occupant.role != Role::Visitor {
            return Err(Condition::NotAllowed.because("You have voice."));
        }
        let jid = from.clone();
        let request = Stanza::build(Kind::Message(MessageType::Normal), |b| {
            form::open(b, "form", VOICE);
            form::field(b, "muc#role", "list-single", "Requested role", &["participant"]);
            form::field(b, "muc#jid", "jid-single", "User", &[jid.as_str()]);
            form::field(b, "muc#roomnick", "text-single", "Nickname", &[&nick]);
            form::field(b, "muc#request_allow", "boolean", "Grant voice to this person?", &["0"]);
            b.close();
        });
        let request = request.addressed(Some(room.jid.clone()), None);
        room.fan(core, &request, false, |_, o| o.role == Role::Moderator);
        return Ok(());
    }
    if !form.flag("muc#request_allow")?.unwrap_or(false) {
        return Ok(());
    }
    let whom = form.text("muc#roomnick").filter(|n| room.occupants.contains_key(*n)).map(str::to_string);
    let by_jid = form.text("muc#jid").and_then(|j| Jid::parse(j).ok()).and_then(|j| room.nicks.get(&j).cloned());
    let Some(whom) = by_jid.map(|n| n.to_string()).or(whom) else {
        return Err(Condition::ItemNotFound.because("They have left."));
    };
    if room.occupants.get(whom.as_str()).is_some_and(|o| o.role == Role::Visitor) {
        let show = Show { actor: Some(&nick), ..Show::default() };
        presence::set_role(core, room, &whom, Role::Participant, show);
    }
    Ok(())
}

//! Registering a nickname with a room, and with that becoming its member (XEP-0045 sections 7.10 and 9.9).

use super::admin::{self, Actor};
use super::form::{self, Form};
use super::presence::{self, Show};
use super::room::{Affiliation, Room};
use super::store::{self, Standing};
use crate::core::{Answer, Core};
use crate::jid::Jid;
use crate::stanza::{Condition, Kind, MessageType, Stanza, StanzaError};
use crate::xml::{Builder, ElementRef, ns};

/// `FORM_TYPE` of section 7.10.
pub const REGISTER_FORM: &str = "http://jabber.org/protocol/muc#register";

const NICK: &str = "muc#register_roomnick";
const ALLOW: &str = "muc#register_allow";
const JID: &str = "muc#register_jid";

/// What is to be filled in, or what has been.
///
/// # Errors
/// `not-allowed` for outcasts.
pub fn get(core: &mut Core, room: &Room, actor: &Actor) -> Result<Answer, StanzaError> {
    if actor.affiliation == Affiliation::Outcast {
        return Err(Condition::NotAllowed.into());
    }
    let nick = store::standing(core, &room.jid, actor.account.as_str())?.map(|s| s.nick).unwrap_or_default();
    let mut b = Builder::new(ns::REGISTER, "query");
    if !nick.is_empty() {
        b.open(ns::REGISTER, "registered").close().leaf(ns::REGISTER, "username", &nick);
    }
    b.leaf(ns::REGISTER, "instructions", "Choose the nickname that is to be yours in this room.");
    form::open(&mut b, "form", REGISTER_FORM);
    b.open(ns::DATA, "field").attr("var", NICK).attr("type", "text-single").attr("label", "Nickname");
    b.open(ns::DATA, "required").close();
    if !nick.is_empty() {
        b.leaf(ns::DATA, "value", &nick);
    }
    Ok(Answer::Result(b.finish()))
}

/// Registers, asks those who run the room, or takes a registration back.
///
/// # Errors
/// `conflict` when somebody else has the nickname, `bad-request` for a form that is none of ours.
pub fn set(
    core: &mut Core,
    room: &mut Room,
    actor: &Actor,
    query: ElementRef<'_>,
    done: impl FnOnce(&mut Core),
) -> Result<(), StanzaError> {
    if actor.affiliation == Affiliation::Outcast {
        return Err(Condition::NotAllowed.into());
    }
    let account = actor.account.as_str();
    if query.has_child(ns::REGISTER, "remove") {
        return remove(core, room, account, done);
    }
    let Some(x) = query.child(ns::DATA, "x") else { return Err(Condition::BadRequest.because("The form is missing.")) };
    let form = Form::read(x)?;
    if form.cancelled {
        done(core);
        return Ok(());
    }
    let nick = nick(core, room, &form, account)?;
    if actor.affiliation >= Affiliation::Member {
        return register(core, room, account, &nick, done);
    }
    // Section 7.10: who does not belong to the room yet is let in by those who run it.
    let request = Stanza::build(Kind::Message(MessageType::Normal), |b| {
        form::open(b, "form", REGISTER_FORM);
        b.leaf(ns::DATA, "title", "Registration request");
        form::field(b, JID, "jid-single", "User", &[account]);
        form::field(b, NICK, "text-single", "Nickname", &[&nick]);
        form::field(b, ALLOW, "boolean", "Make this person a member?", &["0"]);
        b.close();
    });
    if !room.occupants.values().any(|o| o.affiliation >= Affiliation::Admin) {
        return Err(Condition::RecipientUnavailable.because("Nobody who could decide is in the room."));
    }
    done(core);
    let request = request.addressed(Some(room.jid.clone()), None);
    room.fan(core, &request, false, |_, o| o.affiliation >= Affiliation::Admin);
    Ok(())
}

/// The nickname of a form, if the account may have it.
fn nick(core: &mut Core, room: &Room, form: &Form, account: &str) -> Result<String, StanzaError> {
    if form.form_type() != REGISTER_FORM {
        return Err(Condition::BadRequest.because("The form is not that of a registration."));
    }
    const FIELDS: [&str; 6] =
        ["first", "last", "roomnick", "url", "email", "faqentry"];
    let known: Vec<String> = FIELDS.iter().map(|f| format!("muc#register_{f}")).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).chain(["FORM_TYPE", ALLOW, JID]).collect();
    form.only(&known)?;
    let Some(nick) = form.text(NICK).filter(|n| !n.trim().is_empty()) else {
        return Err(Condition::BadRequest.because("The nickname is missing."));
    };
    let Ok(at) = room.jid.with_resource(nick) else { return Err(Condition::NotAcceptable.into()) };
    let nick = at.resource().unwrap_or_default().to_string();
    if nick.len() > core.settings.limits.muc_nick_bytes_max as usize {
        return Err(Condition::NotAcceptable.because("The nickname is too long."));
    }
    let registered = store::nick_owner(core, &room.jid, &nick)?.is_some_and(|owner| owner != account);
    let taken = room.occupants.get(nick.as_str()).is_some_and(|o| o.account.as_str() != account);
    if registered || taken {
        return Err(Condition::Conflict.because("Somebody else has this nickname."));
    }
    Ok(nick)
}

fn register(
    core: &mut Core,
    room: &mut Room,
    account: &str,
    nick: &str,
    done: impl FnOnce(&mut Core),
) -> Result<(), StanzaError> {
    let affiliation = store::affiliation(core, &room.jid, account)?.max(Affiliation::Member);
    admin::store_affiliation(core, room, account, affiliation, Some(nick), None)?;
    room.save(core);
    done(core);
    Ok(presence::affiliation_changed(core, room, account, affiliation, Show::default())?)
}

fn remove(
    core: &mut Core,
    room: &mut Room,
    account: &str,
    done: impl FnOnce(&mut Core),
) -> Result<(), StanzaError> {
    let Some(standing) = store::standing(core, &room.jid, account)? else {
        return Err(Condition::RegistrationRequired.because("You are not registered."));
    };
    // Membership goes with it; a higher standing was given otherwise.
    let left = (standing.affiliation > Affiliation::Member).then(|| Standing { nick: String::new(), ..standing });
    store::put_standing(core, &room.jid, account, left)?;
    room.save(core);
    let now = store::affiliation(core, &room.jid, account)?;
    done(core);
    Ok(presence::affiliation_changed(core, room, account, now, Show::default())?)
}

/// Somebody who runs the room has decided about a request (section 9.9).
///
/// # Errors
/// `forbidden` for others.
pub fn approved(core: &mut Core, room: &mut Room, form: &Form, from: &Jid) -> Result<(), StanzaError> {
    let actor = Actor::of(core, room, from)?;
    if actor.affiliation < Affiliation::Admin {
        return Err(Condition::Forbidden.into());
    }
    if form.cancelled || !form.flag(ALLOW)?.unwrap_or(false) {
        return Ok(());
    }
    core.may_write()?;
    let Some(Ok(account)) = form.text(JID).map(Jid::parse) else { return Err(Condition::JidMalformed.into()) };
    if store::affiliation(core, &room.jid, account.bare_str())? == Affiliation::Outcast {
        return Err(Condition::NotAllowed.because("They are banned from this room."));
    }
    let nick = nick(core, room, form, account.bare_str())?;
    register(core, room, account.bare_str(), &nick, |_| {})
}

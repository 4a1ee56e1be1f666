//! Entering, moving to another nickname, and what is said on the way (XEP-0045 sections 7.2 and 7.6).

use super::Config;
use super::hats;
use super::history::{self, Wanted};
use super::presence::{self, Show};
use super::room::{Affiliation, Occupant, Role, Room, Seat, Whois, clean};
use super::store;
use crate::core::Core;
use crate::core::flight::InFlight;
use crate::jid::Jid;
use crate::stanza::{Condition, Kind, PresenceType, Stanza, StanzaError};
use crate::stream::sasl::keys::equal;
use crate::xml::ns;
use std::rc::Rc;

/// Presence of whatever kind from a session, for a nickname.
///
/// # Errors
/// The error of the section that forbids it.
pub fn presence(core: &mut Core, config: &Config, room: &mut Room, flight: &InFlight) -> Result<(), StanzaError> {
    let stanza = &flight.stanza;
    let (Some(from), Some(to), Kind::Presence(kind)) = (&stanza.from, &stanza.to, stanza.kind) else { return Ok(()) };
    let Some(nick) = to.resource() else { return Err(Condition::JidMalformed.because("A nickname is missing.")) };
    match kind {
        PresenceType::Available => {}
        PresenceType::Unavailable => {
            let said = cleaned(room, stanza);
            presence::leave(core, room, from, said, &[]);
            return Ok(());
        }
        PresenceType::Error => {
            kick(core, room, from);
            return Ok(());
        }
        PresenceType::Probe => {
            let (_, occupant) = room.insider(from)?;
            let role = occupant.role;
            if let Some(seat) = occupant.seats.iter().find(|s| s.jid == *from).cloned() {
                presence::show_to(core, room, nick, &seat, role);
            }
            return Ok(());
        }
        _ => return Err(Condition::ServiceUnavailable.into()),
    }
    let x = stanza.child(ns::MUC, "x");
    let seat = seat(core, room, flight, from)?;
    match room.nicks.get(from).cloned() {
        Some(old) if *old == *nick && x.is_some() => {
            // It has lost what it knew (section 7.2.1); for the others only a change is worth a word.
            let changed = put_seat(room, &old, &seat);
            welcome(core, room, &old, &seat, Wanted::read(x, core.now.wall_ms), &[])?;
            if let Some(occupant) = room.occupants.get(&old).filter(|_| changed).cloned() {
                presence::show_others(core, room, &old, &occupant, occupant.role, Show::default());
            }
            Ok(())
        }
        Some(old) if *old == *nick => {
            put_seat(room, &old, &seat);
            // Changed availability (section 7.7).
            if let Some(occupant) = room.occupants.get(&old).cloned() {
                presence::show_all(core, room, &old, &occupant, occupant.role, Show::default());
            }
            Ok(())
        }
        Some(old) => rename(core, config, room, &old, nick, seat),
        None if x.is_none() => {
            // Section 7.2.18: it believes that it is in the room.
            presence::show_stranger(core, room, nick, &seat);
            Ok(())
        }
        None => join(core, config, room, nick, seat, stanza, false),
    }
}

/// The session of somebody who makes a room, if nickname and presence allow it.
///
/// # Errors
/// As for one who enters.
pub fn newcomer(core: &mut Core, room: &Room, flight: &InFlight, nick: &str) -> Result<Seat, StanzaError> {
    let Some(from) = &flight.stanza.from else { return Err(Condition::BadRequest.into()) };
    may_have(core, room, nick, &from.bare())?;
    seat(core, room, flight, from)
}

/// The session with its presence, without what only the room may say.
fn seat(core: &Core, room: &Room, flight: &InFlight, from: &Jid) -> Result<Seat, StanzaError> {
    let presence = cleaned(room, &flight.stanza);
    let bytes = presence.payload.heap_bytes();
    if bytes > core.settings.limits.muc_presence_bytes_max as usize {
        return Err(Condition::PolicyViolation.because("The presence is too long for a room."));
    }
    Ok(Seat { jid: from.clone(), session: core.sessions.find(from), presence })
}

fn cleaned(room: &Room, stanza: &Stanza) -> Stanza {
    let mut presence = Stanza { to: None, from: None, id: None, ..stanza.clone() };
    clean(&mut presence, &room.jid);
    presence
}

/// A session that cannot be reached is taken for lost.
pub fn kick(core: &mut Core, room: &mut Room, from: &Jid) {
    let said = Stanza::build(Kind::Presence(PresenceType::Unavailable), |b| {
        b.leaf(ns::CLIENT, "status", "Kicked: it could not be reached.");
    });
    presence::leave(core, room, from, said, &["333"]);
}

/// Takes a session's new presence; true when it is another one. Others see the occupant as the session that spoke last
/// says.
fn put_seat(room: &mut Room, nick: &str, seat: &Seat) -> bool {
    let Some(occupant) = room.occupants.get_mut(nick) else { return false };
    let Some(at) = occupant.seats.iter().position(|s| s.jid == seat.jid) else { return false };
    let before = occupant.seats.remove(at);
    occupant.seats.insert(0, seat.clone());
    before.presence != seat.presence
}

/// Whether an account may have a nickname (sections 7.2.8 and 7.10).
fn may_have(core: &mut Core, room: &Room, nick: &str, account: &Jid) -> Result<(), StanzaError> {
    if nick.trim().is_empty() {
        return Err(Condition::NotAllowed.because("A nickname needs something to see."));
    }
    if nick.len() > core.settings.limits.muc_nick_bytes_max as usize {
        return Err(Condition::NotAcceptable.because("The nickname is too long."));
    }
    let taken = room.occupants.get(nick).is_some_and(|o| o.account != *account);
    let registered = store::nick_owner(core, &room.jid, nick)?.is_some_and(|owner| owner != account.as_str());
    if taken || registered {
        return Err(Condition::Conflict.because("Somebody else has this nickname."));
    }
    Ok(())
}

/// Whether an account may enter (sections 7.2.5 to 7.2.10).
fn may_enter(
    core: &Core,
    room: &Room,
    nick: &str,
    affiliation: Affiliation,
    stanza: &Stanza,
) -> Result<(), StanzaError> {
    let record = &room.record;
    if record.locked && affiliation != Affiliation::Owner {
        return Err(Condition::ItemNotFound.because("The room is not open yet."));
    }
    if affiliation == Affiliation::Outcast {
        return Err(Condition::Forbidden.because("You are banned from this room."));
    }
    if record.members_only && affiliation == Affiliation::None {
        return Err(Condition::RegistrationRequired.because("Only members may enter."));
    }
    let password = stanza.child(ns::MUC, "x").and_then(|x| x.child(ns::MUC, "password")).map(|p| p.text());
    let said = password.unwrap_or_default();
    if !record.password.is_empty() && !equal(said.as_bytes(), record.password.as_bytes()) {
        return Err(Condition::NotAuthorized.because("The password is missing or wrong."));
    }
    let hard_max = core.settings.limits.muc_occupants_max as usize;
    let max = match record.users_max {
        0 => hard_max,
        n => hard_max.min(n as usize),
    };
    let count = room.occupants.len();
    // Section 7.2.9: those who run the room get in.
    let is_full = count >= hard_max || (count >= max && affiliation < Affiliation::Admin);
    if is_full && !room.occupants.contains_key(nick) {
        return Err(StanzaError {
            error_type: Some("wait"),
            ..Condition::ServiceUnavailable.because("The room is full.")
        });
    }
    Ok(())
}

/// A session enters. `created`: the room is new, and made by this.
pub fn join(
    core: &mut Core,
    config: &Config,
    room: &mut Room,
    nick: &str,
    seat: Seat,
    stanza: &Stanza,
    created: bool,
) -> Result<(), StanzaError> {
    let account = seat.jid.bare();
    // Shows what is stored of the room, so it waits for that.
    core.view.contains::<store::Rooms>(room.jid.as_str(), b"")?;
    let affiliation = store::affiliation(core, &room.jid, account.as_str())?;
    may_enter(core, room, nick, affiliation, stanza)?;
    let mut own_codes = Vec::new();
    let mut nick = nick;
    let standing = store::standing(core, &room.jid, account.as_str())?;
    let registered = standing.map(|s| s.nick).filter(|n| config.registered_nick && !n.is_empty());
    if let Some(registered) = registered.as_deref().filter(|n| *n != nick) {
        nick = registered;
        own_codes.push("210");
    }
    may_have(core, room, nick, &account)?;
    if created {
        own_codes.push("201");
    }
    let role = room.default_role(affiliation);
    let hats = hats::of(core, &room.jid, account.as_str())?;
    // An account under several nicknames is one occupant to XEP-0421.
    let id = room.occupant_id(account.as_str()).into();
    take_seat(room, nick, Occupant { account, affiliation, role, id, hats, seats: vec![seat.clone()] });
    let wanted = Wanted::read(stanza.child(ns::MUC, "x"), core.now.wall_ms);
    welcome(core, room, nick, &seat, wanted, &own_codes)?;
    // The others come behind: who enters hears of itself last of all presence (section 7.2.3).
    if let Some(occupant) = room.occupants.get(nick).cloned() {
        presence::show_others(core, room, nick, &occupant, Role::None, Show::default());
        for other in occupant.seats.iter().filter(|s| s.jid != seat.jid) {
            presence::show_own(core, room, nick, &occupant, other, Show::default());
        }
    }
    Ok(())
}

/// Puts the sessions of an occupant under a nickname, beside those that it has there already.
pub fn take_seat(room: &mut Room, nick: &str, newcomer: Occupant) {
    let nick: Rc<str> = nick.into();
    for seat in &newcomer.seats {
        room.nicks.insert(seat.jid.clone(), nick.clone());
    }
    match room.occupants.get_mut(&nick) {
        Some(occupant) => occupant.seats.extend(newcomer.seats),
        None => _ = room.occupants.insert(nick, newcomer),
    }
}

/// What a newcomer hears: the others, itself, the history, the subject (sections 7.2.2 to 7.2.15).
fn welcome(
    core: &mut Core,
    room: &mut Room,
    nick: &str,
    seat: &Seat,
    wanted: Wanted,
    own_codes: &[&'static str],
) -> Result<(), StanzaError> {
    let Some(occupant) = room.occupants.get(nick).cloned() else { return Ok(()) };
    for other in room.occupants.keys().filter(|n| &***n != nick) {
        presence::show_to(core, room, other, seat, occupant.role);
    }
    let mut codes = own_codes.to_vec();
    if room.record.whois == Whois::Anyone {
        codes.insert(0, "100");
    }
    presence::show_own(core, room, nick, &occupant, seat, Show { own_codes: &codes, ..Show::default() });
    history::send(core, room, seat, wanted)?;
    history::send_subject(core, room, seat);
    Ok(())
}

/// Section 7.6. A session that shares its nickname with others leaves them there.
fn rename(
    core: &mut Core,
    config: &Config,
    room: &mut Room,
    old: &Rc<str>,
    new: &str,
    seat: Seat,
) -> Result<(), StanzaError> {
    let account = seat.jid.bare();
    may_have(core, room, new, &account)?;
    if config.registered_nick {
        let standing = store::standing(core, &room.jid, account.as_str())?;
        if standing.is_some_and(|s| !s.nick.is_empty() && s.nick != new) {
            return Err(Condition::NotAcceptable.because("You have registered another nickname."));
        }
    }
    let Some(occupant) = room.occupants.get_mut(old) else { return Ok(()) };
    occupant.seats.retain(|s| s.jid != seat.jid);
    let stays = !occupant.seats.is_empty();
    let role = occupant.role;
    let moved = Occupant { seats: vec![seat.clone()], ..occupant.clone() };
    if !stays {
        room.occupants.remove(old);
    }
    presence::forget_directed(core, room, old, &seat);
    let joins_another = room.occupants.contains_key(new);
    // Its own view: it always moves.
    let moves = Show { codes: &["303"], nick: Some(new), leaves: true, ..Show::default() };
    let gone = Seat { presence: Stanza::new(Kind::Presence(PresenceType::Unavailable)), ..seat.clone() };
    let left = Occupant { seats: vec![gone.clone()], ..moved.clone() };
    if !stays {
        let show = if joins_another { Show { leaves: true, ..Show::default() } } else { moves };
        presence::show_others(core, room, old, &left, role, show);
    } else if let Some(rest) = room.occupants.get(old).cloned() {
        presence::show_all(core, room, old, &rest, rest.role, Show::default());
    }
    presence::show_own(core, room, old, &left, &gone, moves);
    take_seat(room, new, moved);
    if let Some(occupant) = room.occupants.get(new).cloned() {
        presence::show_all(core, room, new, &occupant, occupant.role, Show::default());
    }
    if stays {
        presence::show_to(core, room, old, &seat, role);
    }
    Ok(())
}

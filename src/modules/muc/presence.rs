//! Who is in a room: what each sees of the others, and what happens when somebody goes or is made to go
//! (XEP-0045 sections 7.2.3, 7.14, 8.2, 9.1).
//!
//! A presence has one tail for those who see real addresses, one for those who do not, and one for each session that
//! it is about.

use super::hats;
use super::room::{Affiliation, Occupant, Role, Room, Seat, hand, status};
use crate::core::Core;
use crate::fault::{Fault, armed};
use crate::jid::Jid;
use crate::stanza::{Kind, PresenceType, Stanza};
use crate::storage::StoreError;
use crate::xml::{Builder, ns};
use std::rc::Rc;

/// What a presence says beside who it is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Show<'a> {
    /// Status codes for everybody.
    pub codes: &'a [&'static str],
    /// Status codes for the occupant itself, beside 110.
    pub own_codes: &'a [&'static str],
    /// The new nickname (section 7.6).
    pub nick: Option<&'a str>,
    /// Nickname of who did it.
    pub actor: Option<&'a str>,
    /// Why.
    pub reason: Option<&'a str>,
    /// It goes.
    pub leaves: bool,
}

/// Who looks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Eyes {
    /// Sees addresses.
    Full,
    /// Does not.
    Anonymous,
    /// The occupant.
    Own,
}

/// The presence of an occupant, from one of its seats, as somebody sees it.
fn presence(room: &Room, nick: &str, occupant: &Occupant, seat: &Seat, eyes: Eyes, show: Show<'_>) -> Stanza {
    let mut stanza = seat.presence.clone();
    let said_so = stanza.kind == Kind::Presence(PresenceType::Unavailable);
    if show.leaves && !said_so {
        stanza = Stanza::new(Kind::Presence(PresenceType::Unavailable));
    } else if !show.leaves && said_so {
        stanza = Stanza::new(Kind::Presence(PresenceType::Available));
    }
    stanza.append(|b| {
        b.open(ns::OCCUPANT_ID, "occupant-id").attr("id", &occupant.id).close();
        if !show.leaves {
            hats::write(b, &occupant.hats);
        }
        b.open(ns::MUC_USER, "x");
        let jids: Vec<Option<&Jid>> = match eyes {
            Eyes::Anonymous => vec![None],
            Eyes::Full | Eyes::Own if occupant.seats.is_empty() => vec![Some(&seat.jid)],
            Eyes::Full | Eyes::Own => occupant.seats.iter().map(|s| Some(&s.jid)).collect(),
        };
        for jid in jids {
            item(b, occupant.affiliation, occupant.role, jid, show);
        }
        for code in show.codes {
            status(b, code);
        }
        if eyes == Eyes::Own {
            status(b, "110");
            for code in show.own_codes {
                status(b, code);
            }
        }
        b.close();
    });
    stanza.addressed(Some(room.at(nick)), None)
}

/// Adds `<item/>`.
fn item(b: &mut Builder, affiliation: Affiliation, role: Role, jid: Option<&Jid>, show: Show<'_>) {
    b.open(ns::MUC_USER, "item").attr("affiliation", affiliation.as_str()).attr("role", role.as_str());
    if let Some(jid) = jid {
        b.attr("jid", jid.as_str());
    }
    if let Some(nick) = show.nick {
        b.attr("nick", nick);
    }
    if let Some(actor) = show.actor {
        b.open(ns::MUC_USER, "actor").attr("nick", actor).close();
    }
    if let Some(reason) = show.reason {
        b.leaf(ns::MUC_USER, "reason", reason);
    }
    b.close();
}

/// Shows an occupant to all others, and to itself. `before` is the role that the others have known.
pub fn show_all(core: &mut Core, room: &Room, nick: &str, occupant: &Occupant, before: Role, show: Show<'_>) {
    show_others(core, room, nick, occupant, before, show);
    for seat in &occupant.seats {
        show_own(core, room, nick, occupant, seat, show);
    }
}

/// Shows an occupant to a session of its own.
pub fn show_own(core: &mut Core, room: &Room, nick: &str, occupant: &Occupant, seat: &Seat, show: Show<'_>) {
    hand(core, &presence(room, nick, occupant, seat, Eyes::Own, show), seat, None, true);
}

/// Shows an occupant to all others, as far as the room broadcasts its role.
pub fn show_others(core: &mut Core, room: &Room, nick: &str, occupant: &Occupant, before: Role, show: Show<'_>) {
    let Some(seat) = occupant.seats.first() else { return };
    let is_seen = |role: Role| room.record.broadcast_roles & role.bit() != 0;
    let show = match (is_seen(before), is_seen(occupant.role) && !show.leaves) {
        (_, true) => show,
        (true, false) => Show { leaves: true, ..show },
        (false, false) => return,
    };
    let sees = |o: &Occupant| room.sees_addresses(o.role) || o.account == occupant.account;
    for (eyes, full) in [(Eyes::Full, true), (Eyes::Anonymous, false)] {
        let is_other = |n: &str, o: &Occupant| n != nick && sees(o) == full;
        if room.occupants.iter().any(|(n, o)| is_other(n, o)) {
            room.fan(core, &presence(room, nick, occupant, seat, eyes, show), true, is_other);
        }
    }
}

/// Shows one occupant to one session (section 7.2.2, and to who asks).
pub fn show_to(core: &mut Core, room: &Room, nick: &str, to: &Seat, role: Role) {
    let Some(occupant) = room.occupants.get(nick) else { return };
    let Some(seat) = occupant.seats.first() else { return };
    let own = to.jid.same_bare(&occupant.account);
    if !own && room.record.broadcast_roles & occupant.role.bit() == 0 {
        return;
    }
    let eyes = if own || room.sees_addresses(role) { Eyes::Full } else { Eyes::Anonymous };
    hand(core, &presence(room, nick, occupant, seat, eyes, Show::default()), to, None, true);
}

/// Takes an occupant out for all of its sessions and shows it (sections 8.2 and 9.1).
pub fn remove(core: &mut Core, room: &mut Room, nick: &str, show: Show<'_>) {
    let Some(mut occupant) = room.occupants.remove(nick) else { return };
    let before = std::mem::replace(&mut occupant.role, Role::None);
    let nick: Rc<str> = nick.into();
    for seat in &occupant.seats {
        room.nicks.remove(&seat.jid);
        forget_directed(core, room, &nick, seat);
        if core.view.wrote() {
            room.removed.push((nick.clone(), seat.clone()));
        }
    }
    show_all(core, room, &nick, &occupant, before, Show { leaves: true, ..show });
}

/// The session need not take back what it has said to the room.
pub fn forget_directed(core: &mut Core, room: &Room, nick: &str, seat: &Seat) {
    let at = room.at(nick);
    if let Some(id) = seat.session
        && let Some(session) = core.sessions.get_mut(id)
    {
        session.directed.remove(&at);
        core.session_changed(id);
    }
}

/// A session leaves, or is taken for lost (section 7.14). `said` is its last presence.
pub fn leave(core: &mut Core, room: &mut Room, jid: &Jid, said: Stanza, codes: &[&'static str]) {
    let Some(nick) = room.nicks.remove(jid) else { return };
    let Some(occupant) = room.occupants.get_mut(&nick) else { return };
    let Some(at) = occupant.seats.iter().position(|s| s.jid == *jid) else { return };
    let mut seat = occupant.seats.remove(at);
    if armed(Fault::OutsiderHears) {
        occupant.seats.push(seat.clone());
    }
    forget_directed(core, room, &nick, &seat);
    seat.presence = said;
    let Some(occupant) = room.occupants.get(&nick) else { return };
    let show = Show { codes, leaves: true, ..Show::default() };
    let mut left = Occupant { role: Role::None, seats: vec![seat.clone()], ..occupant.clone() };
    if occupant.seats.is_empty() {
        let before = occupant.role;
        room.occupants.remove(&nick);
        show_all(core, room, &nick, &left, before, show);
    } else {
        // The others see one session less.
        let occupant = occupant.clone();
        show_all(core, room, &nick, &occupant, occupant.role, Show::default());
        left.role = Role::None;
        show_own(core, room, &nick, &left, &seat, show);
    }
}

/// What a changed affiliation means for an account that is in the room (sections 9.1 to 9.6, 10.3 to 10.6).
///
/// # Errors
/// When storage cannot be read.
pub fn affiliation_changed(
    core: &mut Core,
    room: &mut Room,
    account: &str,
    now: Affiliation,
    show: Show<'_>,
) -> Result<(), StoreError> {
    for nick in room.nicks_of(account) {
        let Some(occupant) = room.occupants.get_mut(&nick) else { continue };
        let was = std::mem::replace(&mut occupant.affiliation, now);
        let before = occupant.role;
        if now == Affiliation::Outcast {
            remove(core, room, &nick, Show { codes: &["301"], ..show });
            continue;
        }
        if now == Affiliation::None && room.record.members_only {
            remove(core, room, &nick, Show { codes: &["321"], ..show });
            continue;
        }
        let default = room.default_role(now);
        let role = match (was >= Affiliation::Admin, now >= Affiliation::Admin) {
            (_, true) => Role::Moderator,
            (true, false) => default,
            // A new member of a moderated room has voice.
            (false, false) => before.max(if now == Affiliation::Member { default } else { before }),
        };
        if was != now || before != role {
            set_role(core, room, &nick, role, show);
        }
    }
    Ok(())
}

/// Gives an occupant a role and shows it.
pub fn set_role(core: &mut Core, room: &mut Room, nick: &str, role: Role, show: Show<'_>) {
    let Some(occupant) = room.occupants.get_mut(nick) else { return };
    let before = std::mem::replace(&mut occupant.role, role);
    let occupant = occupant.clone();
    occupant.seats.iter().filter_map(|seat| seat.session).for_each(|id| core.session_changed(id));
    show_all(core, room, nick, &occupant, before, show);
}

/// The room is destroyed (section 10.9): each occupant hears it in its own name.
pub fn destroyed(core: &mut Core, room: &mut Room, build: impl Fn(&mut Builder)) {
    let all = std::mem::take(&mut room.occupants);
    room.nicks.clear();
    for (nick, occupant) in all {
        let stanza = Stanza::build(Kind::Presence(PresenceType::Unavailable), |b| {
            b.open(ns::OCCUPANT_ID, "occupant-id").attr("id", &occupant.id).close();
            b.open(ns::MUC_USER, "x");
            item(b, Affiliation::None, Role::None, None, Show::default());
            build(b);
            status(b, "110");
            b.close();
        });
        let stanza = stanza.addressed(Some(room.at(&nick)), None);
        for seat in occupant.seats {
            forget_directed(core, room, &nick, &seat);
            hand(core, &stanza, &seat, None, true);
            room.removed.push((nick.clone(), seat));
        }
    }
}

/// Tells a session that it is not in the room (section 7.2.18).
pub fn show_stranger(core: &mut Core, room: &Room, nick: &str, seat: &Seat) {
    let occupant = Occupant::stranger(room, seat.jid.bare());
    forget_directed(core, room, nick, seat);
    let show = Show { codes: &["307", "333"], leaves: true, ..Show::default() };
    show_own(core, room, nick, &occupant, seat, show);
}

/// What was told of the room was not stored: everybody leaves it, and whoever still wants to be there joins anew.
pub fn reset(core: &mut Core, room: &mut Room) {
    let show = Show { codes: &["333"], leaves: true, ..Show::default() };
    let present = std::mem::take(&mut room.occupants).into_iter().flat_map(|(nick, o)| {
        o.seats.into_iter().map(move |seat| (nick.clone(), seat)).collect::<Vec<_>>()
    });
    let all: Vec<_> = std::mem::take(&mut room.removed).into_iter().chain(present).collect();
    room.nicks.clear();
    for (nick, seat) in all {
        let occupant = Occupant::stranger(room, seat.jid.bare());
        forget_directed(core, room, &nick, &seat);
        show_own(core, room, &nick, &occupant, &seat, show);
    }
}

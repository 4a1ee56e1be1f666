//! Rooms of a session that waits to be resumed (XEP-0198): it stays in them, also across a restart.
//!
//! While the server runs there is nothing to do: the session has its seat, and what the room says waits for it. For a
//! restart this is stored with the session: the room, the nickname, the role, the presence, and whom the client has
//! seen there. The others hear of nothing. When the client is back it hears who has gone, who is there, and if it has
//! been removed meanwhile, because presence that waited is not stored.

use super::presence;
use super::room::{Occupant, Role, Room, Seat, status};
use super::{Muc, hats, join, store};
use crate::core::Core;
use crate::core::flight::InFlight;
use crate::core::session::SessionId;
use crate::jid::Jid;
use crate::modules::Module;
use crate::stanza::{Kind, PresenceType, Stanza};
use crate::storage::StoreError;
use crate::storage::codec::{from_bytes, to_bytes};
use crate::xml::ns;
use std::collections::BTreeSet;

crate::record! {
    /// A room of a session.
    pub struct Place {
        /// `room@service/nick`.
        at: Jid,
        /// 0 when the session has been removed and its client does not know it yet; otherwise as [`Role::bit`].
        role: u16,
        /// The presence that it has sent, as XML.
        presence: String,
        /// Nicknames that its client has seen.
        seen: Vec<String>,
    }
}

impl Place {
    fn gone(at: Jid) -> Self {
        Self { at, role: 0, presence: String::new(), seen: Vec::new() }
    }

    fn bytes(&self) -> usize {
        self.at.as_str().len() + self.presence.len() + self.seen.iter().map(|nick| nick.len() + 1).sum::<usize>()
    }
}

fn places(state: &[u8]) -> Vec<Place> {
    from_bytes(state).unwrap_or_default()
}

fn role(bit: u16) -> Option<Role> {
    [Role::Visitor, Role::Participant, Role::Moderator].into_iter().find(|role| role.bit() == bit)
}

impl Muc {
    /// Where a session is, and where it was before and its client believes that it is. Rooms for which there is no
    /// space in `limits.muc_parked_bytes_max` are left with a restart.
    pub(super) fn places(&self, core: &Core, id: SessionId, before: &[u8], unseen: &[Jid]) -> Vec<u8> {
        let Some(session) = core.sessions.get(id) else { return Vec::new() };
        let mut before = places(before);
        let mut all = Vec::new();
        for at in session.directed.iter() {
            let Some(room) = self.rooms.get(&at.bare()) else { continue };
            let Some((nick, occupant)) = room.who(&session.jid).filter(|(nick, _)| room.at(nick) == *at) else {
                continue;
            };
            let Some(seat) = occupant.seats.iter().find(|seat| seat.jid == session.jid) else { continue };
            let known = before.iter().position(|place| place.at == *at).map(|i| before.swap_remove(i));
            let seen = known.map(|place| place.seen).unwrap_or_else(|| {
                let present = room.occupants.keys().filter(|n| **n != nick).map(|n| n.to_string());
                let gone = unseen.iter().filter(|gone| gone.same_bare(at) && *gone != at).filter_map(Jid::resource);
                present.chain(gone.map(str::to_string)).collect::<BTreeSet<_>>().into_iter().collect()
            });
            let presence = seat.presence.to_xml();
            all.push(Place { at: at.clone(), role: occupant.role.bit(), presence, seen });
        }
        all.extend(before.into_iter().map(|place| Place::gone(place.at)));
        let mut left = core.settings.limits.muc_parked_bytes_max as usize;
        for place in &mut all {
            match left.checked_sub(place.bytes()) {
                Some(rest) => left = rest,
                None => *place = Place::gone(place.at.clone()),
            }
        }
        if all.is_empty() { Vec::new() } else { to_bytes(&all) }
    }

    /// Seats a session again. Nobody is told.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub(super) fn seat_again(&mut self, core: &mut Core, id: SessionId, state: &[u8]) -> Result<(), StoreError> {
        let Some(jid) = core.sessions.get(id).map(|s| s.jid.clone()) else { return Ok(()) };
        for place in places(state) {
            let (Some(role), Some(nick), true) =
                (role(place.role), place.at.resource(), self.owns(core, place.at.domain()))
            else {
                continue;
            };
            let at = place.at.bare();
            if !self.rooms.contains_key(&at)
                && let Some(room) = Room::load_occupied(core, &at)?
            {
                self.rooms.insert(at.clone(), room);
            }
            let presence = Stanza::parse(&place.presence).map(Stanza::shrunk);
            let (Some(room), Some(presence)) = (self.rooms.get_mut(&at), presence) else { continue };
            let account = jid.bare();
            let affiliation = store::affiliation(core, &at, account.as_str())?;
            if room.occupants.get(nick).is_none_or(|occupant| occupant.account == account) {
                let seat = Seat { jid: jid.clone(), session: Some(id), presence };
                let (id, hats) = (room.occupant_id(account.as_str()).into(), hats::of(core, &at, account.as_str())?);
                join::take_seat(room, nick, Occupant { account, affiliation, role, id, hats, seats: vec![seat] });
            }
            self.weigh(&at);
        }
        Ok(())
    }

    /// Tells a client what it has missed of its rooms.
    pub(super) fn catch_up(&self, core: &mut Core, id: SessionId, state: &[u8]) {
        let Some(jid) = core.sessions.get(id).map(|s| s.jid.clone()) else { return };
        for place in places(state) {
            let room = self.rooms.get(&place.at.bare());
            let here = room.and_then(|room| Some((room, room.who(&jid)?)));
            let Some((room, (nick, occupant))) = here.filter(|(room, (nick, _))| room.at(nick) == place.at) else {
                gone(core, id, &jid, &place.at, true);
                continue;
            };
            let Some(seat) = occupant.seats.iter().find(|seat| seat.jid == jid) else { continue };
            for other in place.seen.iter().filter(|other| !room.occupants.contains_key(other.as_str())) {
                gone(core, id, &jid, &room.at(other), false);
            }
            for other in room.occupants.keys().filter(|other| **other != nick) {
                presence::show_to(core, room, other, seat, occupant.role);
            }
            presence::show_own(core, room, &nick, occupant, seat, presence::Show::default());
        }
    }
}

/// Somebody is not in the room any more; for the client itself, it has been removed (section 9.1.3, status 333).
fn gone(core: &mut Core, id: SessionId, to: &Jid, at: &Jid, is_own: bool) {
    let stanza = Stanza::build(Kind::Presence(PresenceType::Unavailable), |b| {
        b.open(ns::MUC_USER, "x");
        b.open(ns::MUC_USER, "item").attr("affiliation", "none").attr("role", "none").close();
        if is_own {
            status(b, "110");
            status(b, "333");
        }
        b.close();
    });
    if is_own && let Some(session) = core.sessions.get_mut(id) {
        session.directed.remove(at);
    }
    core.send(InFlight::promising(stanza.addressed(Some(at.clone()), Some(to.clone()))).to_session(id));
}

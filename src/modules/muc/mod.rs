//! Group chat (XEP-0045), with what belongs to it: direct invitations (XEP-0249, which rooms add to mediated ones),
//! unique names (XEP-0307), hats (XEP-0317), self-ping (XEP-0410), occupant ids (XEP-0421), avatars of rooms
//! (XEP-0486).
//!
//! What a room is, is stored under its address (`store`); who is in it, is in memory. A room is loaded when somebody
//! says something to it and forgotten when nobody is in it, so that idle rooms cost nothing.

mod admin;
#[cfg(feature = "mam")]
mod archive;
#[cfg(not(feature = "mam"))]
#[path = "no_archive.rs"]
mod archive;
mod disco;
mod form;
mod hats;
mod history;
mod join;
mod message;
#[cfg(feature = "import")]
mod moving;
mod owner;
mod parked;
mod presence;
mod register;
mod request;
mod room;
mod store;

use super::{Module, TableInfo, Xep};
use crate::core::Core;
use crate::core::disco::{Disco, Service};
use crate::core::flight::InFlight;
#[cfg(feature = "import")]
use crate::core::moving::{Outcome, Piece, Terms};
use crate::core::session::SessionId;
use crate::core::settings::Settings;
use crate::jid::Jid;
use crate::setting::section;
use crate::stanza::{Condition, IqType, Kind, PresenceType, Stanza, StanzaError};
use crate::storage::{StoreError, Table};
use crate::xml::ns;
use room::{Affiliation, Pm, Role, Room, Whois};
use std::collections::BTreeMap;
use store::{RoomRecord, Standing, Tie};

/// Name of the services, for people.
pub(crate) const NAME: &str = "Chatrooms";

section! {
    /// Group chat (XEP-0045).
    pub struct Config in "modules.muc" {
        /// Domains of the service, such as "conference.example.org"; without any, "conference." before each host.
        pub hosts: Vec<String> = Vec::new() => |hosts: &Vec<String>| domains(hosts),
        /// New rooms stay when the last occupant has left, until their owner says otherwise.
        pub persistent: bool = true,
        /// New rooms are listed for everybody, until their owner says otherwise.
        pub public: bool = true,
        /// Only admins may create rooms.
        pub restrict_creation: bool = false,
        /// Messages that a new room keeps for those who enter.
        pub history: u32 = 20,
        /// Who has registered a nickname with a room gets it there, whatever he asks for.
        pub registered_nick: bool = false,
    }
}

fn domains(hosts: &[String]) -> Result<(), String> {
    match hosts.iter().find(|h| !Jid::parse(h).is_ok_and(|jid| jid.is_host())) {
        None => Ok(()),
        Some(host) => Err(format!("\"{host}\" is no domain; write for example \"conference.example.org\"")),
    }
}

/// Of this module in `memory.modules`.
const MODULE: &str = "muc";

/// Lines of history that are given up at once when the store is full.
const GIVEN_UP_LINES: usize = 256;

/// The module.
pub struct Muc {
    config: Config,
    /// Prepared.
    hosts: Vec<String>,
    /// Those that somebody is in, by bare address.
    rooms: BTreeMap<Jid, Room>,
    /// What they hold.
    held_bytes: usize,
    /// Whose history was shortened last for want of room.
    halved: Option<Jid>,
    /// Those that nobody is in any more, until that is durable.
    fading: Vec<Room>,
}

const fn table<T: Table>() -> TableInfo {
    TableInfo { id: T::ID, name: T::NAME }
}

impl Module for Muc {
    const XEPS: &'static [Xep] = &[
        Xep { number: 45, version: "1.35.3" },
        Xep { number: 249, version: "1.2" },
        Xep { number: 307, version: "0.1" },
        Xep { number: 317, version: "0.3.1" },
        Xep { number: 410, version: "1.1.0" },
        Xep { number: 421, version: "1.0.1" },
        #[cfg(feature = "mam")]
        Xep { number: 425, version: "0.3.0" },
        Xep { number: 486, version: "0.1.0" },
    ];
    const TABLES: &'static [TableInfo] = &[
        table::<store::Rooms>(),
        table::<store::Standings>(),
        table::<store::Nicks>(),
        table::<store::History>(),
        table::<store::Cards>(),
        table::<store::Directory>(),
        table::<store::Ties>(),
        table::<store::Hats>(),
        table::<store::Wearers>(),
        table::<store::Archiving>(),
    ];
    type Config = Config;

    fn new(config: Config) -> Self {
        let hosts = prepared(&config);
        Self { config, hosts, rooms: BTreeMap::new(), held_bytes: 0, halved: None, fading: Vec::new() }
    }

    fn reconfigure(&mut self, config: Config) {
        self.hosts = prepared(&config);
        self.config = config;
    }

    fn disco(&self, _: &Settings, host: &str, disco: &mut Disco) {
        let domains = match self.hosts.as_slice() {
            [] => vec![format!("conference.{host}")],
            hosts => hosts.to_vec(),
        };
        disco.services.extend(domains.into_iter().map(|domain| Service { domain, name: NAME }));
    }

    fn owns(&self, core: &Core, domain: &str) -> bool {
        match self.hosts.as_slice() {
            [] => domain.strip_prefix("conference.").is_some_and(|host| core.serves(host)),
            hosts => hosts.iter().any(|h| h == domain),
        }
    }

    fn service(&mut self, core: &mut Core, flight: &InFlight, to: &Jid) -> Result<(), StanzaError> {
        let durable = core.view.durable();
        self.fading.retain(|room| room.written > durable);
        let stanza = &flight.stanza;
        if to.node().is_none() {
            return match stanza.kind {
                Kind::Iq(IqType::Get | IqType::Set) if to.is_host() => request::to_service(core, stanza, to),
                Kind::Iq(IqType::Result | IqType::Error) | Kind::Presence(_) => Ok(()),
                Kind::Iq(_) | Kind::Message(_) => Err(Condition::ServiceUnavailable.into()),
            };
        }
        let jid = to.bare();
        if !self.rooms.contains_key(&jid)
            && let Some(room) = Room::load(core, &jid)?
        {
            self.rooms.insert(jid.clone(), room);
        }
        let outcome = match self.rooms.get_mut(&jid) {
            Some(room) if enters(room, stanza) => core
                .may_hold(MODULE, self.held_bytes)
                .and_then(|()| handle(core, &self.config, room, flight, to)),
            Some(room) => handle(core, &self.config, room, flight, to),
            None => self.absent(core, flight, to),
        };
        // What is said in a room changes nothing of what it holds, but for its subject.
        if !matches!(stanza.kind, Kind::Message(_) | Kind::Iq(IqType::Get)) {
            self.weigh(&jid);
        }
        self.settle(core, &jid)?;
        if outcome.is_err()
            && stanza.kind == Kind::Presence(PresenceType::Available)
            && let Some(from) = &stanza.from
            && self.rooms.get(&jid).is_none_or(|room| room.nicks.get(from).is_none_or(|n| room.at(n) != *to))
            && let Some(session) = flight.origin.and_then(|id| core.sessions.get_mut(id))
        {
            // What was refused need not be taken back.
            session.directed.remove(to);
        }
        if let Err(error) = &outcome
            && stanza.kind == Kind::Presence(PresenceType::Available)
            && stanza.child(ns::MUC, "x").is_some()
        {
            // Clients know by it what was refused, as in the examples of section 7.2.
            let refusal = Stanza::build(Kind::Presence(PresenceType::Error), |b| {
                b.open(ns::MUC, "x").close();
                error.build(b);
            });
            let refusal = Stanza { id: stanza.id.clone(), ..refusal };
            core.send(InFlight::answer(refusal.addressed(Some(to.clone()), stanza.from.clone())));
            core.counters.bounced = core.counters.bounced.wrapping_add(1);
            return Ok(());
        }
        outcome
    }

    fn withdrawn(&mut self, core: &mut Core) {
        let durable = core.view.durable();
        let rooms = std::mem::take(&mut self.rooms);
        for mut room in rooms.into_values().chain(std::mem::take(&mut self.fading)) {
            if room.written > durable {
                presence::reset(core, &mut room);
            } else if !room.occupants.is_empty() {
                if let Err(error) = room.count_history(core) {
                    log::error!(target: "couplet::muc", "the history of {} is not known: {error}", room.jid);
                }
                self.rooms.insert(room.jid.clone(), room);
            }
        }
        self.held_bytes = self.rooms.values_mut().map(Room::weigh).sum();
    }

    fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// The older half of the history of some rooms, one after the other.
    fn make_room(&mut self, core: &mut Core) -> Result<(), StoreError> {
        let mut services: Vec<String> = core.disco.services().to_vec();
        services.retain(|domain| self.owns(core, domain));
        let mut rooms = Vec::new();
        for service in services {
            let listed = core.view.list::<store::Directory>(&service, usize::MAX)?.into_iter();
            rooms.extend(listed.filter_map(|(sub, _)| Jid::parse(std::str::from_utf8(&sub).ok()?).ok()));
        }
        let next = rooms.iter().position(|room| Some(room) > self.halved.as_ref()).unwrap_or_default();
        rooms.rotate_left(next);
        let mut given_up = 0;
        for room in rooms {
            given_up += history::halve(core, &room)?;
            if let Some(room) = self.rooms.get_mut(&room) {
                room.count_history(core)?;
            }
            self.halved = Some(room);
            if given_up >= GIVEN_UP_LINES {
                break;
            }
        }
        Ok(())
    }

    #[cfg(feature = "import")]
    fn take_in(&mut self, core: &mut Core, owner: &Jid, piece: &Piece, terms: &mut Terms) -> Outcome {
        self.take_room(core, owner, piece, terms)
    }

    #[cfg(feature = "import")]
    fn give_out(&mut self, core: &mut Core, owner: &Jid, to: &mut dyn FnMut(Piece)) -> Result<(), StoreError> {
        moving::give(core, owner, to)
    }

    fn session_state(&mut self, core: &mut Core, id: SessionId, before: &[u8], unseen: &[Jid]) -> Vec<u8> {
        self.places(core, id, before, unseen)
    }

    fn restore_session(&mut self, core: &mut Core, id: SessionId, state: &[u8]) -> Result<(), StoreError> {
        self.seat_again(core, id, state)
    }

    fn revived(&mut self, core: &mut Core, id: SessionId, state: &[u8]) -> Result<(), StanzaError> {
        self.catch_up(core, id, state);
        Ok(())
    }

    fn account_deleted(&mut self, core: &mut Core, account: &Jid) -> Result<(), StanzaError> {
        // Whoever gets the address next has nothing to do with the rooms of this one.
        for (sub, _) in core.view.list::<store::Ties>(account.bare_str(), usize::MAX)? {
            let Some(jid) = std::str::from_utf8(&sub).ok().and_then(|jid| Jid::parse(jid).ok()) else { continue };
            store::put_standing(core, &jid, account.bare_str(), None)?;
            if let Some(room) = self.rooms.get_mut(&jid) {
                room.wrote(core);
            }
        }
        let mut services: Vec<String> = core.disco.services().to_vec();
        services.retain(|domain| self.owns(core, domain));
        for service in &services {
            hats::forget(core, service, account.bare_str())?;
        }
        Ok(())
    }
}

fn prepared(config: &Config) -> Vec<String> {
    config.hosts.iter().filter_map(|h| Some(Jid::parse(h).ok()?.domain().to_string())).collect()
}

/// Whether somebody comes who is not in the room.
fn enters(room: &Room, stanza: &Stanza) -> bool {
    stanza.kind == Kind::Presence(PresenceType::Available)
        && stanza.from.as_ref().is_some_and(|from| !room.nicks.contains_key(from))
}

/// A stanza for a room that is there.
fn handle(
    core: &mut Core,
    config: &Config,
    room: &mut Room,
    flight: &InFlight,
    to: &Jid,
) -> Result<(), StanzaError> {
    let stanza = &flight.stanza;
    match (stanza.kind, to.resource()) {
        (Kind::Presence(_), _) => join::presence(core, config, room, flight),
        (Kind::Message(_), None) => message::to_room(core, room, stanza),
        (Kind::Message(_), Some(nick)) => message::to_occupant(core, room, stanza, nick),
        (Kind::Iq(IqType::Get | IqType::Set), None) => request::to_room(core, room, stanza),
        (Kind::Iq(IqType::Get | IqType::Set), Some(nick)) => request::to_occupant(core, room, stanza, nick),
        (Kind::Iq(IqType::Result | IqType::Error), Some(nick)) => {
            request::answered(core, room, stanza, nick);
            Ok(())
        }
        (Kind::Iq(IqType::Result | IqType::Error), None) => Ok(()),
    }
}

impl Muc {
    /// A stanza for a room that is not there: entering makes it (section 10.1).
    fn absent(&mut self, core: &mut Core, flight: &InFlight, to: &Jid) -> Result<(), StanzaError> {
        let stanza = &flight.stanza;
        let (Some(from), Some(nick)) = (&stanza.from, to.resource()) else { return Err(no_such_room(to, stanza)) };
        if stanza.kind != Kind::Presence(PresenceType::Available) || stanza.child(ns::MUC, "x").is_none() {
            return match stanza.kind {
                Kind::Presence(PresenceType::Available) | Kind::Message(_) | Kind::Iq(_) => {
                    Err(no_such_room(to, stanza))
                }
                Kind::Presence(_) => Ok(()),
            };
        }
        core.may_write()?;
        core.may_hold(MODULE, self.held_bytes)?;
        let is_admin = core.is_admin(from)?;
        if self.config.restrict_creation && !is_admin {
            return Err(Condition::NotAllowed.because("Only admins may create rooms."));
        }
        let jid = to.bare();
        store::may_create(core, &jid, from.bare_str())?;
        let mut room = Room::new(jid.clone(), self.new_record(core, from.bare_str()));
        let seat = join::newcomer(core, &room, flight, nick)?;
        let owner = Standing { affiliation: Affiliation::Owner, nick: String::new(), reason: String::new() };
        core.view.put::<store::Ties>(from.bare_str(), jid.as_str().as_bytes(), &Tie { created: true });
        store::put_standing(core, &jid, from.bare_str(), Some(owner))?;
        room.save(core);
        join::join(core, &self.config, &mut room, nick, seat, stanza, true)?;
        self.rooms.insert(jid, room);
        Ok(())
    }

    fn new_record(&self, core: &mut Core, creator: &str) -> RoomRecord {
        let mut secret = vec![0; 32];
        core.entropy.fill(&mut secret);
        RoomRecord {
            name: String::new(),
            description: String::new(),
            lang: String::new(),
            persistent: self.config.persistent,
            public: self.config.public,
            members_only: false,
            moderated: false,
            password: String::new(),
            whois: Whois::Moderators,
            subject_by_participants: false,
            invites_by_members: false,
            pm: Pm::Anyone,
            broadcast_roles: Role::Moderator.bit() | Role::Participant.bit() | Role::Visitor.bit(),
            list_roles: Role::Moderator.bit(),
            users_max: 0,
            history_max: self.config.history.min(core.settings.limits.muc_history_max),
            secret,
            locked: true,
            creator: creator.to_string(),
            subject: String::new(),
            subject_nick: String::new(),
            subject_id: String::new(),
            subject_ms: 0,
            avatars: Vec::new(),
        }
    }

    /// Finds out anew what a room holds.
    fn weigh(&mut self, jid: &Jid) {
        if let Some(room) = self.rooms.get_mut(jid) {
            self.held_bytes -= room.held_bytes;
            self.held_bytes += room.weigh();
        }
    }

    /// After each stanza: a room without occupants leaves the memory, and the store if it is not to stay.
    fn settle(&mut self, core: &mut Core, jid: &Jid) -> Result<(), StanzaError> {
        if self.rooms.get(jid).is_none_or(|room| !room.occupants.is_empty()) {
            return Ok(());
        }
        let Some(mut room) = self.rooms.remove(jid) else { return Ok(()) };
        self.held_bytes -= room.held_bytes;
        if !room.record.persistent || room.record.locked {
            store::forget(core, jid, &room.record)?;
            room.wrote(core);
        }
        if !room.removed.is_empty() && room.written > core.view.durable() {
            self.fading.push(room);
        }
        core.view.forget_owner(jid.as_str());
        Ok(())
    }
}

/// Of an answer nobody wants to hear that it came too late.
fn no_such_room(to: &Jid, stanza: &Stanza) -> StanzaError {
    if to.resource().is_none() && stanza.kind == Kind::Presence(PresenceType::Available) {
        return Condition::JidMalformed.because("A nickname is missing.");
    }
    Condition::ItemNotFound.because("There is no such room.")
}

//! A room in memory: who is in it. What is stored of it is in [`RoomRecord`].

use super::hats::Hat;
use super::store::{self, RoomRecord};
use crate::budget::allocated;
use crate::core::Core;
use crate::core::flight::{Filters, InFlight};
use crate::core::session::SessionId;
use crate::jid::Jid;
use crate::stanza::{Condition, Kind, MessageType, Stanza, StanzaError};
use crate::storage::StoreError;
use crate::xml::{Builder, ns};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::hmac;
use std::collections::BTreeMap;
use std::rc::Rc;

crate::record! {
    /// Who sees the real addresses of occupants.
    pub enum Whois { Moderators = 0, Anyone = 1 }
    /// Who may send private messages.
    pub enum Pm { Anyone = 0, Participants = 1, Moderators = 2, Nobody = 3 }
    /// XEP-0045 section 5.2, in growing order.
    pub enum Affiliation { Outcast = 0, None = 1, Member = 2, Admin = 3, Owner = 4 }
}

/// XEP-0045 section 5.1, in growing order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Not in the room.
    None,
    /// Listens.
    Visitor,
    /// Speaks.
    Participant,
    /// Keeps order.
    Moderator,
}

impl Affiliation {
    /// The attribute's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outcast => "outcast",
            Self::None => "none",
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    /// From the attribute's value.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Outcast, Self::None, Self::Member, Self::Admin, Self::Owner].into_iter().find(|a| a.as_str() == text)
    }
}

impl Role {
    /// The attribute's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Visitor => "visitor",
            Self::Participant => "participant",
            Self::Moderator => "moderator",
        }
    }

    /// From the attribute's value.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::None, Self::Visitor, Self::Participant, Self::Moderator].into_iter().find(|r| r.as_str() == text)
    }

    /// Its bit in [`RoomRecord::broadcast_roles`].
    pub fn bit(self) -> u16 {
        match self {
            Self::Moderator => 1,
            Self::Participant => 2,
            Self::Visitor => 4,
            Self::None => 0,
        }
    }
}

/// One session of an occupant.
#[derive(Clone, Debug)]
pub struct Seat {
    /// Its full address.
    pub jid: Jid,
    /// The session, when it is one of ours.
    pub session: Option<SessionId>,
    /// Its last presence, cleaned.
    pub presence: Stanza,
}

/// Who has a nickname. All sessions belong to one account.
#[derive(Clone, Debug)]
pub struct Occupant {
    /// Bare address.
    pub account: Jid,
    /// As stored.
    pub affiliation: Affiliation,
    /// Never none while it is in the room.
    pub role: Role,
    /// XEP-0421.
    pub id: Rc<str>,
    /// XEP-0317.
    pub hats: Vec<Hat>,
    /// In the order of joining; never empty while it is in the room.
    pub seats: Vec<Seat>,
}

impl Occupant {
    fn heap_bytes(&self) -> usize {
        let hat = |hat: &Hat| size_of::<Hat>() + allocated(hat.uri.len()) + allocated(hat.record.title.len());
        let seat = |seat: &Seat| size_of::<Seat>() + seat.presence.heap_bytes();
        self.account.heap_bytes()
            + allocated(self.id.len() + 16)
            + self.hats.iter().map(hat).sum::<usize>()
            + self.seats.iter().map(seat).sum::<usize>()
    }

    /// Somebody who is not in the room.
    pub fn stranger(room: &Room, account: Jid) -> Self {
        let id = room.occupant_id(account.as_str()).into();
        let (affiliation, role) = (Affiliation::None, Role::None);
        Self { account, affiliation, role, id, hats: Vec::new(), seats: Vec::new() }
    }
}

/// A room's place in the table of rooms.
const ROOM_BYTES: usize = size_of::<(Jid, Room)>() * 4 / 3;

/// An occupant's place in the table of occupants, and the counts in front of the nickname.
const NICK_BYTES: usize = size_of::<(Rc<str>, Occupant)>() * 4 / 3 + 16;

/// A room that somebody is in, or that is being looked at.
#[derive(Debug)]
pub struct Room {
    /// Bare address.
    pub jid: Jid,
    /// Stored state.
    pub record: RoomRecord,
    /// By nickname.
    pub occupants: BTreeMap<Rc<str>, Occupant>,
    /// Nickname of each session.
    pub nicks: BTreeMap<Jid, Rc<str>>,
    /// Number of the next line of history.
    pub next_line: u64,
    /// Messages in the history.
    pub lines: usize,
    /// Bytes that the history holds.
    pub history_bytes: usize,
    /// The batch of the last write, and who has been removed since: should that write fail, all of them are told.
    pub written: crate::storage::Ticket,
    /// Nickname and session.
    pub removed: Vec<(Rc<str>, Seat)>,
    /// What it held when it was last weighed.
    pub held_bytes: usize,
}

impl Room {
    /// Reads a room; none when there is no such room.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn load(core: &mut Core, jid: &Jid) -> Result<Option<Self>, StoreError> {
        let Some(room) = Self::load_occupied(core, jid)? else { return Ok(None) };
        if !room.record.persistent || room.record.locked {
            // The server has ended while somebody was in it, or before it was configured.
            store::forget(core, &room.jid, &room.record)?;
            return Ok(None);
        }
        Ok(Some(room))
    }

    /// The same of a room that somebody is in: it need not be one that stays.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn load_occupied(core: &mut Core, jid: &Jid) -> Result<Option<Self>, StoreError> {
        let jid = jid.bare();
        let Some(record) = core.view.get::<store::Rooms>(jid.as_str(), b"")? else { return Ok(None) };
        let mut room = Self::new(jid, record);
        room.count_history(core)?;
        Ok(Some(room))
    }

    /// Finds out what the room holds, in bytes.
    pub fn weigh(&mut self) -> usize {
        let texts = [&self.record.name, &self.record.description, &self.record.subject, &self.record.creator];
        let record = texts.into_iter().map(|text| allocated(text.capacity())).sum::<usize>();
        let occupants = self.occupants.iter().map(|(nick, o)| NICK_BYTES + allocated(nick.len()) + o.heap_bytes());
        // A node of a tree is three quarters full, more or less.
        let seats = self.nicks.len() * (size_of::<(Jid, Rc<str>)>() * 4 / 3);
        self.held_bytes = ROOM_BYTES + record + self.jid.heap_bytes() + occupants.sum::<usize>() + seats;
        self.held_bytes
    }

    /// Looks up how much history is stored.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn count_history(&mut self, core: &mut Core) -> Result<(), StoreError> {
        let lines = core.view.list::<store::History>(self.jid.as_str(), usize::MAX)?;
        self.lines = lines.len();
        self.history_bytes = lines.iter().map(|(_, line)| line.xml.len()).sum();
        let last = lines.last().and_then(|(sub, _)| sub.as_slice().try_into().ok());
        // Numbers that a failed write has used are not used again.
        self.next_line = self.next_line.max(last.map_or(0, |sub| u64::from_be_bytes(sub) + 1));
        Ok(())
    }

    /// A room with nobody in it.
    pub fn new(jid: Jid, record: RoomRecord) -> Self {
        Self {
            jid,
            record,
            occupants: BTreeMap::new(),
            nicks: BTreeMap::new(),
            next_line: 0,
            lines: 0,
            history_bytes: 0,
            written: crate::storage::Ticket(0),
            removed: Vec::new(),
            held_bytes: 0,
        }
    }

    /// Writes the record.
    pub fn save(&mut self, core: &mut Core) {
        store::put(core, &self.jid, &self.record);
        self.wrote(core);
    }

    /// Remembers that this input writes.
    pub fn wrote(&mut self, core: &Core) {
        if self.written <= core.view.durable() {
            self.removed.clear();
        }
        self.written = core.view.ticket();
    }

    /// `room@service/nick`. Nicknames here come from addresses, so they are prepared.
    pub fn at(&self, nick: &str) -> Jid {
        self.jid.with_resource(nick).unwrap_or_else(|_| self.jid.clone())
    }

    /// Nickname and occupant of a session.
    pub fn who(&self, jid: &Jid) -> Option<(Rc<str>, &Occupant)> {
        let nick = self.nicks.get(jid)?;
        Some((nick.clone(), self.occupants.get(nick)?))
    }

    /// The same, or the error for those who are not in the room.
    ///
    /// # Errors
    /// `not-acceptable`.
    pub fn insider(&self, jid: &Jid) -> Result<(Rc<str>, &Occupant), StanzaError> {
        self.who(jid).ok_or_else(|| StanzaError {
            error_type: Some("cancel"),
            ..Condition::NotAcceptable.because("You are not in this room.")
        })
    }

    /// Nicknames of an account; of a domain, those of all its accounts without a standing of their own.
    pub fn nicks_of(&self, account: &str) -> Vec<Rc<str>> {
        let is = |o: &Occupant| {
            let of_domain = o.affiliation == Affiliation::None && o.account.domain() == account;
            o.account.as_str() == account || of_domain
        };
        self.occupants.iter().filter(|(_, o)| is(o)).map(|(nick, _)| nick.clone()).collect()
    }

    /// The role of an affiliation on entering (XEP-0045 section 5.1.2).
    pub fn default_role(&self, affiliation: Affiliation) -> Role {
        match affiliation {
            Affiliation::Outcast => Role::None,
            Affiliation::None if self.record.moderated => Role::Visitor,
            Affiliation::None | Affiliation::Member => Role::Participant,
            Affiliation::Admin | Affiliation::Owner => Role::Moderator,
        }
    }

    /// XEP-0421: the same for the same account in the same room, and telling nothing else.
    pub fn occupant_id(&self, account: &str) -> String {
        STANDARD_NO_PAD.encode(self.sign(&[account.as_bytes()]).as_ref())
    }

    /// What only this room can make of the parts.
    pub fn sign(&self, parts: &[&[u8]]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.record.secret));
        for (i, part) in parts.iter().enumerate() {
            if i > 0 {
                context.update(&[0]);
            }
            context.update(part);
        }
        context.sign()
    }

    /// Sends a stanza to every seat of the occupants for whom `pick` holds. The tail is written once.
    pub fn fan(&self, core: &mut Core, stanza: &Stanza, promise: bool, pick: impl Fn(&str, &Occupant) -> bool) {
        let mut tail = None;
        for (_, occupant) in self.occupants.iter().filter(|(nick, o)| pick(nick, o)) {
            for seat in &occupant.seats {
                let tail: &Rc<[u8]> = tail.get_or_insert_with(|| stanza.tail());
                hand(core, stanza, seat, Some(tail.clone()), promise);
            }
        }
    }

    /// Tells all occupants something about the room (XEP-0045 sections 10.2.1 and 9.3).
    pub fn notify(&self, core: &mut Core, pick: impl Fn(&str, &Occupant) -> bool, build: impl FnOnce(&mut Builder)) {
        let stanza = Stanza::build(Kind::Message(MessageType::Groupchat), |b| {
            b.open(ns::MUC_USER, "x");
            build(b);
            b.close();
        });
        self.fan(core, &stanza.addressed(Some(self.jid.clone()), None), true, pick);
    }

    /// Everybody may see real addresses, or this role may.
    pub fn sees_addresses(&self, role: Role) -> bool {
        self.record.whois == Whois::Anyone || role == Role::Moderator
    }
}

/// Sends a stanza of a room to one session.
pub fn hand(core: &mut Core, stanza: &Stanza, seat: &Seat, tail: Option<Rc<[u8]>>, promise: bool) {
    let stanza = Stanza { to: Some(seat.jid.clone()), ..stanza.clone() };
    let flight = InFlight { tail, promise, is_copy: true, filters: Filters::In, ..InFlight::passing(stanza) };
    let is_there = |id: &SessionId| core.sessions.get(*id).is_some_and(|s| s.jid == seat.jid);
    core.send(match seat.session.filter(is_there) {
        Some(id) => flight.to_session(id),
        None => flight,
    });
}

/// Adds `<status code=''/>`.
pub fn status(b: &mut Builder, code: &str) {
    b.open(ns::MUC_USER, "status").attr("code", code).close();
}

/// Removes from a client's stanza what only a room may say.
pub fn clean(stanza: &mut Stanza, room: &Jid) {
    stanza.retain_children(|c| {
        let forged_stamp = |c: crate::xml::ElementRef<'_>| {
            c.attr("from").and_then(|from| Jid::parse(from).ok()).is_some_and(|from| from.domain() == room.domain())
        };
        !(matches!(c.ns(), ns::MUC | ns::MUC_USER | ns::MUC_ADMIN | ns::MUC_OWNER | ns::OCCUPANT_ID | ns::HATS)
            || (c.is(ns::DELAY, "delay") && forged_stamp(c))
            || (c.is(ns::OLD_DELAY, "x") && forged_stamp(c))
            || (c.is(ns::STANZA_ID, "stanza-id") && c.attr("by").is_none_or(|by| by == room.as_str())))
    });
}

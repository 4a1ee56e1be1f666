//! Group chat: rooms whose occupants come, speak, drop, resume and are thrown out, and what each of them sees.

use super::disk::deep_text;
use super::model::{Check, Invariant, Key, What, bare, broken};
use super::world::{HOST, World};
use couplet::xml::{ElementRef, ns};
use std::collections::{BTreeMap, BTreeSet};

const NODES: [&str; 2] = ["den", "hall"];
const AFFILIATIONS: [&str; 4] = ["member", "admin", "outcast", "none"];

/// What the world knows of all rooms.
#[derive(Debug, Default)]
pub struct Rooms {
    /// Of two messages, that somebody has seen the first before the second.
    order: BTreeSet<(usize, usize)>,
    /// By room and account, how the room names whom.
    ids: BTreeMap<(String, String), String>,
    /// Those that stay: one that is left before it was unlocked is gone with all that was set there, and the next of
    /// that address is another.
    lasting: BTreeMap<String, Lasting>,
}

/// A room that stays.
#[derive(Debug)]
struct Lasting {
    /// The account that has created it.
    owner: String,
    /// When somebody knew that it had been unlocked.
    since: u64,
}

/// Where a session is, as far as its client knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    #[default]
    Outside,
    /// It has asked to enter.
    Entering,
    Inside,
    /// It has asked to leave.
    Leaving,
    /// The room may have forgotten it.
    Unsure,
}

/// A session and one room.
#[derive(Debug, Default)]
pub struct Stay {
    pub place: Place,
    /// When it last asked to enter, having been outside.
    asked: u64,
    /// Messages in the order in which they came.
    heard: Vec<usize>,
}

/// True for the group chat service and all that is of it.
pub fn is_of_service(jid: &str) -> bool {
    bare(jid).ends_with(&format!("conference.{HOST}"))
}

impl World {
    fn room(&mut self) -> String {
        format!("{}@conference.{HOST}", self.rng.pick(&NODES))
    }

    /// The nickname of a client: it says whose it is.
    fn nick(&mut self, client: usize) -> String {
        let number = if self.rng.percent(80) { 0 } else { self.rng.below(3) };
        format!("{}!{number}", self.clients[client].name().replace(&format!("@{HOST}/"), "."))
    }

    /// Something that one does with rooms.
    pub fn act_in_room(&mut self, session: usize) {
        let room = self.room();
        let place = self.model.sessions[session].rooms.entry(room.clone()).or_default().place;
        let client = self.model.sessions[session].client;
        let lasting = self.model.rooms.lasting.get(&room);
        let owns = lasting.is_some_and(|lasting| lasting.owner == self.model.sessions[session].account);
        match (self.rng.below(20), place) {
            (9..=13, _) if owns => self.list_affiliation(session, &room),
            (14..=17, _) if owns => self.set_affiliation(session, &room),
            (0, Place::Inside) => self.leave(session, &room),
            (1..=3, Place::Inside) => self.set_affiliation(session, &room),
            (4, Place::Inside) => self.list_affiliation(session, &room),
            (7, Place::Inside) => {
                let who = self.rng.below(self.clients.len());
                let nick = self.nick(who);
                let child = format!("<query xmlns='{}'><item nick='{nick}' role='none'/></query>", ns::MUC_ADMIN);
                self.request(session, What::Request, Some(room), "set", &child, vec![]);
            }
            (8, Place::Inside) | (0..=15, Place::Outside) => self.enter(session, client, &room),
            (_, Place::Entering | Place::Leaving | Place::Unsure) => {}
            _ => self.speak(session, &room),
        }
    }

    /// Enters, or takes another nickname.
    fn enter(&mut self, session: usize, client: usize, room: &str) {
        let nick = self.nick(client);
        let stay = self.model.sessions[session].rooms.entry(room.to_string()).or_default();
        let child = match stay.place {
            Place::Inside => "",
            _ => {
                (stay.place, stay.asked) = (Place::Entering, self.step);
                "<x xmlns='http://jabber.org/protocol/muc'/>"
            }
        };
        self.send(session, What::RoomPresence, Some(format!("{room}/{nick}")), "presence", "", child, vec![]);
        self.count("rooms entered");
    }

    fn leave(&mut self, session: usize, room: &str) {
        let client = self.model.sessions[session].client;
        let to = format!("{room}/{}", self.nick(client));
        if let Some(stay) = self.model.sessions[session].rooms.get_mut(room) {
            stay.place = Place::Leaving;
        }
        self.send(session, What::RoomPresence, Some(to), "presence", " type='unavailable'", "", vec![]);
    }

    /// Says something, now and then with what only the room may say.
    fn speak(&mut self, session: usize, room: &str) {
        let forged = match self.rng.below(6) {
            0 => format!("<occupant-id xmlns='{}' id='forged'/>", ns::OCCUPANT_ID),
            1 => format!("<delay xmlns='{}' from='{room}' stamp='2001-01-01T00:00:00Z'>forged</delay>", ns::DELAY),
            2 => "<x xmlns='http://jabber.org/protocol/muc#user'><status code='110'/>forged</x>".to_string(),
            _ => String::new(),
        };
        let body = format!("<body>ha</body>{forged}");
        self.send(session, What::Groupchat, Some(room.to_string()), "message", " type='groupchat'", &body, vec![]);
    }

    fn set_affiliation(&mut self, session: usize, room: &str) {
        let who = bare(&self.somebody()).to_string();
        let affiliation = self.rng.pick(&AFFILIATIONS);
        if self.model.sessions[session].account == who {
            return;
        }
        let value = if affiliation == "none" { "" } else { affiliation };
        let write = self.model.registers.begin(room, Key::Affiliation(who.clone()), value, session, self.step);
        let child = format!("<query xmlns='{}'><item jid='{who}' affiliation='{affiliation}'/></query>", ns::MUC_ADMIN);
        self.request(session, What::Request, Some(room.to_string()), "set", &child, vec![write]);
    }

    fn list_affiliation(&mut self, session: usize, room: &str) {
        let affiliation = self.rng.pick(&AFFILIATIONS[..3]);
        let child = format!("<query xmlns='{}'><item affiliation='{affiliation}'/></query>", ns::MUC_ADMIN);
        self.request(session, What::RoomList(affiliation), Some(room.to_string()), "get", &child, vec![]);
    }

    /// An instant room is unlocked by its creator (XEP-0045 section 10.1.2).
    fn unlock(&mut self, session: usize, room: &str) {
        let child =
            "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query>";
        self.request(session, What::Unlock, Some(room.to_string()), "set", child, vec![]);
    }

    /// A room is unlocked.
    pub fn unlocked(&mut self, session: usize, room: &str) {
        self.count("rooms created");
        let owner = self.model.sessions[session].account.clone();
        self.model.rooms.lasting.insert(room.to_string(), Lasting { owner, since: self.step });
    }

    /// A list of affiliations was asked for at `since`.
    pub fn affiliations_read(&mut self, room: &str, value: &str, child: ElementRef<'_>, since: u64) -> Check {
        let lasting = self.model.rooms.lasting.get(room).map(|lasting| lasting.since);
        let listed: Vec<&str> = child.children().filter_map(|item| item.attr("jid")).collect();
        let keys: Vec<Key> = self.model.registers.keys().filter(|k| k.0 == room).map(|k| k.1.clone()).collect();
        for key in keys {
            if let Key::Affiliation(who) = &key
                && listed.contains(&who.as_str())
            {
                self.count("affiliations read");
                if !self.model.registers.may_hold(room, &key, value, since) {
                    return broken(Invariant::NothingLost, format!("{who} was said to be {value} of {room}"));
                }
            } else if let (Key::Affiliation(who), Some(from)) = (&key, lasting)
                && self.model.registers.must_hold(room, &key, value, from, since)
            {
                return broken(Invariant::NothingLost, format!("{who} is not said to be {value} of {room}"));
            }
        }
        Ok(())
    }

    /// A refusal of a room arrives.
    pub fn room_refuses(&mut self, session: usize, from: &str) {
        let refuses = self.plan.may_refuse();
        if let Some(stay) = self.model.sessions[session].rooms.get_mut(bare(from))
            && stay.place == Place::Entering
        {
            // What the disk has refused may have shown before.
            stay.place = if refuses { Place::Unsure } else { Place::Outside };
        }
    }

    /// A stanza of a room arrives that is no answer.
    pub fn room_stanza(&mut self, session: usize, stanza: ElementRef<'_>, from: &str) -> Check {
        let own = self.model.sessions[session].jid.clone();
        let room = bare(from).to_string();
        let place = self.model.sessions[session].rooms.get(&room).map_or(Place::Outside, |stay| stay.place);
        let kind = stanza.attr("type").unwrap_or_default();
        if stanza.name() == "message" && kind != "groupchat" {
            // News of the room, invitations.
            return Ok(());
        }
        let of_itself = |x: ElementRef<'_>| x.children().any(|c| c.attr("code") == Some("110"));
        if kind == "unavailable" && stanza.children().any(of_itself) && place == Place::Outside {
            // It hears twice that it is out.
            return Ok(());
        }
        if place == Place::Outside {
            return broken(Invariant::RoomKept, format!("{own} is not in {room} and got {}", stanza.to_xml()));
        }
        if deep_text(stanza).contains("forged") || stanza.children().any(|c| c.attr("id") == Some("forged")) {
            return broken(Invariant::TrueSender, format!("{own} got what only {room} may say, and another did"));
        }
        match stanza.name() {
            "presence" => self.room_presence(session, stanza, from, place),
            "message" => self.room_message(session, stanza, from),
            _ => Ok(()),
        }
    }

    fn room_presence(&mut self, session: usize, stanza: ElementRef<'_>, from: &str, place: Place) -> Check {
        let (room, nick) = from.split_once('/').unwrap_or((from, ""));
        let x = stanza.children().find(|c| c.ns() == ns::MUC_USER);
        let has =
            |code: &str| x.is_some_and(|x| x.children().any(|c| c.name() == "status" && c.attr("code") == Some(code)));
        let gone = stanza.attr("type") == Some("unavailable");
        if !gone {
            self.named(session, room, nick, stanza)?;
        }
        if !has("110") || place == Place::Unsure || (gone && has("303")) {
            return Ok(());
        }
        if has("201") && !gone {
            self.unlock(session, room);
        }
        if has("307") || has("301") || has("321") {
            self.count("occupants thrown out");
        }
        let refuses = self.plan.may_refuse();
        if let Some(stay) = self.model.sessions[session].rooms.get_mut(room) {
            stay.place = match place {
                // Of a stay before this one, which a disk that refuses has ended, or of this one.
                Place::Entering if gone && refuses => Place::Unsure,
                _ if gone => Place::Outside,
                Place::Entering => Place::Inside,
                place => place,
            };
        }
        Ok(())
    }

    /// A room names each account in its own way, and no two alike (XEP-0421). What comes late may be of the room that
    /// had the address before: whoever was outside and has entered since is in this one.
    fn named(&mut self, session: usize, room: &str, nick: &str, stanza: ElementRef<'_>) -> Check {
        let since = self.model.rooms.lasting.get(room).map_or(u64::MAX, |lasting| lasting.since);
        let stay = self.model.sessions[session].rooms.get(room);
        if !stay.is_some_and(|stay| stay.asked > since && stay.place != Place::Unsure) {
            return Ok(());
        }
        let Some(id) = stanza.child(ns::OCCUPANT_ID, "occupant-id").and_then(|o| o.attr("id")) else { return Ok(()) };
        let account = nick.split('.').next().unwrap_or_default().to_string();
        let known = self.model.rooms.ids.entry((room.to_string(), account.clone())).or_insert_with(|| id.to_string());
        if known != id {
            return broken(Invariant::TrueSender, format!("{account} in {room} is {id}, was {known}"));
        }
        let twice = self.model.rooms.ids.iter().filter(|((r, _), known)| r == room && *known == id).count() > 1;
        match twice {
            true => broken(Invariant::TrueSender, format!("two accounts in {room} are {id}")),
            false => Ok(()),
        }
    }

    fn room_message(&mut self, session: usize, stanza: ElementRef<'_>, from: &str) -> Check {
        let own = self.model.sessions[session].jid.clone();
        let (room, nick) = from.split_once('/').unwrap_or((from, ""));
        let Some((number, sent)) = stanza.attr("id").and_then(|id| self.model.by_id(id)) else { return Ok(()) };
        let sender = self.model.sessions[sent.session].jid.replace(&format!("@{HOST}/"), ".");
        let again = sent.again;
        if nick.split('!').next() != Some(sender.as_str()) {
            return broken(Invariant::TrueSender, format!("{own} got x{number} from {from}, and {sender} sent it"));
        }
        self.named(session, room, nick, stanza)?;
        let of_history = |c: &ElementRef<'_>| c.is(ns::DELAY, "delay") && c.attr("from") == Some(room);
        if stanza.children().any(|c| of_history(&c)) {
            self.count("messages out of a room's history");
            return Ok(());
        }
        self.count("messages in rooms");
        let Some(stay) = self.model.sessions[session].rooms.get_mut(room) else { return Ok(()) };
        if stay.heard.contains(&number) && !again {
            return broken(Invariant::NotTwice, format!("{own} got x{number} in {room} twice"));
        }
        stay.heard.push(number);
        let heard = &self.model.sessions[session].rooms[room].heard;
        for before in heard.iter().rev().skip(1).take(30) {
            if self.model.rooms.order.contains(&(number, *before)) {
                let text = format!("{own} saw x{before} before x{number} in {room}, another the other way round");
                return broken(Invariant::OrderKept, text);
            }
            self.model.rooms.order.insert((*before, number));
        }
        Ok(())
    }

    /// After a restart a room may know an occupant no more.
    pub fn rooms_unsure(&mut self, session: usize) {
        self.model.sessions[session].rooms.values_mut().for_each(|stay| stay.place = Place::Unsure);
    }
}

//! Rooms of another server, and ours for another.

use super::{Muc, archive};
use super::form::Form;
use super::owner::{self, CONFIG};
use super::room::{Affiliation, Room};
use super::store::{self, Cards, History, Line, RoomRecord, Rooms, Standing, Text};
use crate::core::Core;
use crate::core::moving::{Outcome, Piece, Refusal, RoomPiece, StandingPiece, Taken, Terms, verdict};
use crate::jid::{Jid, prepare_resource};
use crate::limits::Limits;
use crate::modules::Module;
use crate::stanza::{Stanza, delay, form};
use crate::storage::StoreError;
use crate::xml::ns;

impl Muc {
    /// Takes in a room, or something of one.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn take_room(&mut self, core: &mut Core, owner: &Jid, piece: &Piece, terms: &mut Terms) -> Outcome {
        if !matches!(piece, Piece::Room(_) | Piece::RoomCard(_) | Piece::RoomArchived(_) | Piece::RoomLine { .. }) {
            return Ok(Taken::NotMine);
        }
        let room = owner.bare();
        if room.node().is_none() || !self.owns(core, room.domain()) {
            return Err(Refusal::because("its domain is none of modules.muc.hosts"));
        }
        match piece {
            Piece::Room(piece) => self.take_record(core, &room, piece, terms),
            _ if !core.view.contains::<Rooms>(room.as_str(), b"")? => Err(Refusal::because("there is no such room")),
            Piece::RoomCard(card) => {
                let text = card.root().to_xml();
                if text.len() > core.settings.limits.vcard_bytes_max as usize {
                    return Err(Refusal::because("its vCard is longer than limits.vcard_bytes_max"));
                }
                core.take_row::<Cards>(room.as_str(), b"", &Text { text }, terms.replace)
            }
            Piece::RoomArchived(piece) => archive::take(core, &room, piece, terms.replace),
            Piece::RoomLine { message, wall_ms } => take_line(core, &room, message, *wall_ms),
            _ => Ok(Taken::NotMine),
        }
    }

    fn take_record(&self, core: &mut Core, room: &Jid, piece: &RoomPiece, terms: &mut Terms) -> Outcome {
        let old = core.view.get::<Rooms>(room.as_str(), b"")?;
        let limits = core.settings.limits.clone();
        let is_owner = |standing: &&StandingPiece| standing.affiliation == "owner";
        let creator = piece.standings.iter().find(is_owner).map_or("", |owner| owner.jid.bare_str());
        if old.is_none() && core.view.count::<store::Directory>(room.domain())? >= limits.muc_rooms_max as usize {
            return Err(Refusal::because("the service has more rooms than limits.muc_rooms_max"));
        }
        let base = old.clone().unwrap_or_else(|| self.new_record(core, creator));
        let mut record = configured(RoomRecord { persistent: true, locked: false, ..base }, piece, &limits);
        if piece.subject.len() <= limits.muc_subject_bytes_max as usize {
            record.subject.clone_from(&piece.subject);
            record.subject_nick = prepare_resource(&piece.subject_nick).unwrap_or_default();
            record.subject_ms = piece.subject_ms;
            record.subject_id.clear();
        }
        let mut taken = match &old {
            Some(old) if *old == record => Taken::Same,
            Some(_) => verdict(terms.replace),
            None => Taken::New,
        };
        if matches!(taken, Taken::New | Taken::Replaced) {
            store::put(core, room, &record);
            // Where there are no archives, a room does without.
            if let Ok(wish) = archive::wish(core, &Form::of(CONFIG, piece.fields.iter())) {
                archive::configure(core, room, wish)?;
            }
        }
        for piece in &piece.standings {
            let Some(affiliation) = Affiliation::parse(&piece.affiliation).filter(|a| *a != Affiliation::None) else {
                continue;
            };
            let nick = prepare_resource(&piece.nick).unwrap_or_default();
            // A nickname is one account's.
            let is_free = store::nick_owner(core, room, &nick)?.is_none_or(|whose| whose == piece.jid.as_str());
            let nick = if is_free { nick } else { String::new() };
            let new = Standing { affiliation, nick, reason: piece.reason.clone() };
            match store::standing(core, room, piece.jid.as_str())? {
                Some(old) if old == new || !terms.replace => {}
                _ => {
                    store::put_standing(core, room, piece.jid.as_str(), Some(new))?;
                    if taken == Taken::Same {
                        taken = Taken::New;
                    }
                }
            }
        }
        Ok(taken)
    }
}

/// The configuration: all fields at once, or those of them that can be.
fn configured(record: RoomRecord, piece: &RoomPiece, limits: &Limits) -> RoomRecord {
    if let Ok(all) = owner::read_config(&Form::of(CONFIG, piece.fields.iter()), &record, limits) {
        return all;
    }
    piece.fields.iter().fold(record, |record, field| {
        owner::read_config(&Form::of(CONFIG, std::iter::once(field)), &record, limits).unwrap_or(record)
    })
}

/// A line of history, behind those that are there.
fn take_line(core: &mut Core, jid: &Jid, message: &Stanza, wall_ms: i64) -> Outcome {
    let Some(room) = Room::load_occupied(core, jid)? else { return Err(Refusal::because("there is no such room")) };
    let max = room.record.history_max.min(core.settings.limits.muc_history_max) as usize;
    let mut kept = message.clone().addressed(message.from.clone(), None);
    if kept.from.as_ref().is_none_or(|from| !from.same_bare(jid)) {
        return Err(Refusal::because("it is from somewhere else"));
    }
    delay::stamp(&mut kept, jid.as_str(), wall_ms);
    let line = Line { xml: kept.to_xml(), wall_ms: u64::try_from(wall_ms).unwrap_or(0) };
    let lines = core.view.list::<History>(jid.as_str(), usize::MAX)?;
    if lines.iter().any(|(_, there)| there.xml == line.xml) {
        return Ok(Taken::Same);
    }
    // What was said here since comes behind it, and there is no room between them.
    if lines.last().is_some_and(|(_, last)| last.wall_ms > line.wall_ms) || max == 0 {
        return Ok(Taken::Stays);
    }
    let bytes_max = core.settings.limits.muc_history_bytes_max as usize;
    let mut bytes = line.xml.len() + lines.iter().map(|(_, line)| line.xml.len()).sum::<usize>();
    if line.xml.len() > bytes_max {
        return Err(Refusal::because("it is longer than limits.muc_history_bytes_max"));
    }
    let mut left = lines.len() + 1;
    for (sub, old) in &lines {
        if left <= max && bytes <= bytes_max {
            break;
        }
        core.view.delete::<History>(jid.as_str(), sub);
        (left, bytes) = (left - 1, bytes - old.xml.len());
    }
    core.view.put::<History>(jid.as_str(), &room.next_line.to_be_bytes(), &line);
    Ok(Taken::New)
}

/// Gives a room out.
///
/// # Errors
/// When storage cannot be read.
pub(super) fn give(core: &mut Core, owner: &Jid, to: &mut dyn FnMut(Piece)) -> Result<(), StoreError> {
    let Some(room) = Room::load_occupied(core, owner)?.filter(|room| room.record.persistent) else { return Ok(()) };
    let form = owner::config_form(core, &room)?;
    let fields = form.root().child(ns::DATA, "x").and_then(|x| form::fields(x).ok()).unwrap_or_default();
    let unlisted = |var: &str| var == "FORM_TYPE" || var.ends_with("_roomadmins") || var.ends_with("_roomowners");
    let standings = store::standings(core, &room.jid)?.into_iter().filter_map(|(account, standing)| {
        let Standing { affiliation, nick, reason } = standing;
        let (jid, affiliation) = (Jid::parse(&account).ok()?, affiliation.as_str().to_string());
        Some(StandingPiece { jid, affiliation, nick, reason })
    });
    to(Piece::Room(Box::new(RoomPiece {
        fields: fields.into_iter().filter(|(var, _)| !unlisted(var)).collect(),
        standings: standings.collect(),
        subject: room.record.subject.clone(),
        subject_nick: room.record.subject_nick.clone(),
        subject_ms: room.record.subject_ms,
    })));
    if let Some(card) = core.view.get::<Cards>(room.jid.as_str(), b"")? {
        crate::xml::parse(&card.text).ok().map(Piece::RoomCard).into_iter().for_each(&mut *to);
    }
    for (_, line) in core.view.list::<History>(room.jid.as_str(), usize::MAX)? {
        let message = Stanza::parse(&line.xml);
        if let Some(message) = message {
            to(Piece::RoomLine { message: Box::new(message), wall_ms: i64::try_from(line.wall_ms).unwrap_or(0) });
        }
    }
    Ok(())
}

//! Message archives of accounts (XEP-0313), with preferences (XEP-0441), ids (XEP-0359) and what is taken back
//! (XEP-0424). What an archive is, is in [`core::archive`](crate::core::archive); those of rooms are the rooms' own.
//!
//! A message is archived when it leaves its sender and when it comes to its addressee, behind what blocks and before
//! what copies, delivers or keeps it, so that all of that carries its id. One to oneself is archived when it comes.

mod judge;
mod prefs;

use super::{Dir, IqRoute, Module, Scope, TableInfo, Xep};
use crate::clock::datetime_fine;
use crate::core::archive::{self, Find, Id, Named, New, Reading};
#[cfg(feature = "import")]
use crate::core::archive::Mover;
use crate::core::disco::Disco;
use crate::core::flight::InFlight;
#[cfg(feature = "import")]
use crate::core::moving::{ArchivedPiece, Outcome, Piece, Refusal, Taken, Terms};
use crate::core::session::SessionId;
use crate::core::settings::{self, Settings};
use crate::core::{Answer, Core, Request};
use crate::fault::{Fault, armed};
use crate::jid::Jid;
use crate::setting::{Bytes, Seconds, section};
use crate::stanza::{Condition, Kind, MessageType, Stanza, StanzaError};
use crate::storage::{StoreError, Table, codec};
use crate::xml::{Builder, Element, ElementRef, ns};
use log::debug;
use prefs::Rule;
use std::rc::Rc;

section! {
    /// Message archives (XEP-0313).
    pub struct Config in "modules.mam" {
        /// How long messages are kept; 0 is for ever. They go an hour later at the latest.
        pub keep: Seconds = Seconds(604_800),
        /// What one archive may take; of more the oldest messages go. 0 is any size.
        pub size_max: Bytes = Bytes(256_000_000),
        /// Whose messages are archived for an account that has said nothing of it (XEP-0441): "always", "roster" (those
        /// of contacts) or "never".
        pub default: String = "always".to_string() => |rule: &String| prefs::known(rule),
        /// Messages of one page at most.
        pub page_max: u32 = 50 => |max: &u32| at_least_one(*max),
        /// Rooms are archived, until their owners say otherwise.
        pub rooms: bool = true,
        /// How long messages of rooms are kept; 0 is for ever.
        pub rooms_keep: Seconds = Seconds(604_800),
    }
}

fn at_least_one(max: u32) -> Result<(), String> {
    if (1..=1000).contains(&max) { Ok(()) } else { Err("write a number from 1 to 1000".to_string()) }
}

const LOG: &str = "couplet::mam";

/// Rows of a conversation among which what is taken back is looked for.
const RETRACT_ROWS_MAX: u32 = 10_000;

/// Of queries that have no answer yet so much is kept of a session that waits to be resumed, in bytes.
const OPEN_BYTES_MAX: usize = 16_384;

/// The module.
pub struct Mam {
    config: Config,
}

impl Module for Mam {
    const XEPS: &'static [Xep] = &[
        Xep { number: 313, version: "1.1.3" },
        Xep { number: 59, version: "1.0" },
        Xep { number: 359, version: "0.7.0" },
        Xep { number: 424, version: "0.4.2" },
        Xep { number: 441, version: "0.2.0" },
    ];
    const HOST_FEATURES: &'static [&'static str] = &[ns::RETRACT];
    const ACCOUNT_FEATURES: &'static [&'static str] =
        &[ns::MAM, ns::MAM_EXTENDED, ns::MAM_GROUPCHAT_FIELD, ns::STANZA_ID, ns::RETRACT, ns::TOMBSTONE];
    const TABLES: &'static [TableInfo] = &[TableInfo { id: prefs::Rules::ID, name: prefs::Rules::NAME }];
    const IQ: &'static [IqRoute] = &[
        (Scope::Account, ns::MAM, "query"),
        (Scope::Account, ns::MAM, "metadata"),
        (Scope::Account, ns::MAM, "prefs"),
    ];
    type Config = Config;

    fn new(config: Config) -> Self {
        Self { config }
    }

    fn settle(&self, settings: &mut Settings) {
        settings.archive = settings::Archive {
            rooms: self.config.rooms,
            keep_s: self.config.keep.0,
            rooms_keep_s: self.config.rooms_keep.0,
            bytes_max: u64::from(self.config.size_max.0),
            page_max: self.config.page_max,
        };
    }

    fn disco(&self, _: &Settings, _: &str, _: &mut Disco) {}

    /// XEP-0386 section 3: the state of the archive at this moment. What waits offline and is in it need not be sent.
    fn bind(&mut self, core: &mut Core, id: SessionId, _: ElementRef<'_>, bound: &mut Builder) {
        let Some(account) = core.sessions.get(id).map(|s| s.jid.bare()) else { return };
        match core.archive_ends(account.as_str()) {
            Ok(ends) => build_metadata(bound, ends),
            Err(error) => return log::error!(target: LOG, "{error}"),
        }
        if let Some(session) = core.sessions.get_mut(id) {
            session.reads_archive = true;
        }
        match core.spool_free(&account) {
            Ok(rows) => {
                for (row, stored) in rows {
                    if stored.stanza().is_some_and(|stanza| stanza.archive_id(account.as_str()).is_some()) {
                        core.spool_give(&account, row);
                    }
                }
            }
            Err(error) => log::error!(target: LOG, "{error}"),
        }
    }

    fn iq(&mut self, core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        let (true, Some(session)) = (request.is_own(), request.session) else {
            return Err(Condition::Forbidden.because("An archive is for its owner."));
        };
        match (request.child.name(), request.is_set) {
            ("query", false) => Ok(Answer::Result(archive::form())),
            ("query", true) => {
                let reading = Reading {
                    owner: request.owner,
                    is_room: false,
                    sees_addresses: false,
                    page_max: self.config.page_max,
                    page_bytes_max: core.settings.limits.mam_page_bytes_max,
                };
                core.archive_ask(request.stanza, reading)?;
                if let Some(session) = core.sessions.get_mut(session) {
                    session.reads_archive = true;
                }
                Ok(Answer::Later)
            }
            ("metadata", false) => {
                let ends = core.archive_ends(request.owner.as_str())?;
                let mut b = Builder::new("", "");
                build_metadata(&mut b, ends);
                Ok(Answer::Result(only_child(&b.finish())))
            }
            ("prefs", is_set) => {
                if is_set {
                    prefs::set(core, request.owner.as_str(), request.child)?;
                }
                prefs::get(core, request.owner.as_str(), self.rule()).map(Answer::Result)
            }
            _ => Err(Condition::BadRequest.into()),
        }
    }

    /// Queries that have no answer yet: what their sender was told of them outlives a restart.
    fn session_state(&mut self, core: &mut Core, id: SessionId, _: &[u8], _: &[Jid]) -> Vec<u8> {
        let open = core.archives.open.iter().filter(|(session, _)| *session == id);
        let xml: Vec<String> = open.map(|(_, request)| request.to_xml()).collect();
        match xml.iter().map(String::len).sum::<usize>() {
            0 => Vec::new(),
            bytes if bytes > OPEN_BYTES_MAX => Vec::new(),
            _ => codec::to_bytes(&xml),
        }
    }

    fn revived(&mut self, core: &mut Core, id: SessionId, state: &[u8]) -> Result<(), StanzaError> {
        for xml in codec::from_bytes::<Vec<String>>(state).unwrap_or_default() {
            if let Some(request) = Stanza::parse(&xml) {
                core.send(InFlight { origin: Some(id), ..InFlight::passing(request) });
            }
        }
        Ok(())
    }

    fn archive(&mut self, core: &mut Core, dir: Dir, flight: &mut InFlight) -> Result<(), StanzaError> {
        let Stanza { kind: Kind::Message(_), from: Some(from), to: Some(to), .. } = &flight.stanza else {
            return Ok(());
        };
        let (from, to) = (from.clone(), to.clone());
        let (whose, other) = if dir == Dir::Sent { (&from, &to) } else { (&to, &from) };
        let account = whose.bare_str();
        // To oneself, or once more on its way.
        if (dir == Dir::Sent && from.same_bare(&to)) || flight.stanza.archive_id(account).is_some() {
            return Ok(());
        }
        let reason = match judge::worth(&flight.stanza) {
            Ok(reason) => reason,
            Err(reason) => {
                debug!(target: LOG, "not archived for {account}: {reason}");
                return Ok(());
            }
        };
        if !prefs::wants(core, account, other, self.rule())? {
            debug!(target: LOG, "not archived for {account}: preferences");
            return Ok(());
        }
        let known = flight.written.take().filter(|known| Rc::ptr_eq(&known.0, &flight.stanza.payload));
        let xml = match known {
            Some(known) => known.1,
            None => match judge::stripped(&flight.stanza) {
                Some(stored) => stored.to_xml().into(),
                None => {
                    debug!(target: LOG, "not archived for {account}: nothing but a chat state");
                    return Ok(());
                }
            },
        };
        core.may_write()?;
        debug!(target: LOG, "archived for {account}: {reason}");
        let new = New { with: other.bare_str(), xml: &xml, ..New::default() };
        if armed(Fault::ArchivedTwice) && dir == Dir::Received {
            core.archive_append(account, new)?;
        }
        let id = core.archive_append(account, new)?;
        if let Some(find) = retraction(&flight.stanza, account, other) {
            core.archives.retracted.push(find);
        }
        if dir == Dir::Sent && core.is_local(&to) {
            flight.written = Some(Box::new((flight.stanza.payload.clone(), xml)));
        }
        // Of what was sent only the other sessions of the account get a copy.
        if dir == Dir::Received || core.sessions.of(&from).len() > 1 {
            add_id(&mut flight.stanza, account, id);
            flight.tail = None;
        }
        Ok(())
    }

    #[cfg(feature = "import")]
    fn take_in(&mut self, core: &mut Core, owner: &Jid, piece: &Piece, terms: &mut Terms) -> Outcome {
        if let Piece::ArchivePrefs(prefs) = piece {
            return prefs::take_in(core, owner.bare_str(), prefs.root(), self.rule(), terms.replace);
        }
        let Piece::Archived(piece) = piece else { return Ok(Taken::NotMine) };
        let ArchivedPiece { id, wall_ms, with: Some(with), message, .. } = &**piece else {
            return Err(Refusal::because("nobody knows with whom"));
        };
        let xml = message.to_xml();
        let new = New { with: with.bare_str(), xml: &xml, ..New::default() };
        let mover = Mover { name: id, wall_ms: *wall_ms, keep_s: self.config.keep.0, new };
        core.archive_take(owner.bare_str(), mover, terms.replace)
    }

    #[cfg(feature = "import")]
    fn give_out(&mut self, core: &mut Core, owner: &Jid, to: &mut dyn FnMut(Piece)) -> Result<(), StoreError> {
        prefs::give_out(core, owner.bare_str(), self.rule())?.into_iter().map(Piece::ArchivePrefs).for_each(to);
        Ok(())
    }
}

impl Mam {
    fn rule(&self) -> Rule {
        Rule::parse(&self.config.default).unwrap_or(Rule::Always)
    }
}

/// Says under which id an archive has it (XEP-0359).
fn add_id(stanza: &mut Stanza, archive: &str, id: Id) {
    stanza.append(|b| {
        b.open(ns::STANZA_ID, "stanza-id").attr("by", archive).attr("id", &id.to_string()).close();
    });
}

/// What somebody takes back in a conversation (XEP-0424).
fn retraction(stanza: &Stanza, account: &str, other: &Jid) -> Option<Find> {
    if !matches!(stanza.kind, Kind::Message(MessageType::Chat | MessageType::Normal)) {
        return None;
    }
    let target = stanza.child(ns::RETRACT, "retract")?.attr("id")?;
    Some(Find {
        owner: account.to_owned(),
        with: other.bare_str().to_owned(),
        author: stanza.from.as_ref()?.bare_str().to_owned(),
        target: target.to_owned(),
        retraction: stanza.id.as_deref().unwrap_or_default().to_owned(),
        before: Id::END,
        left: RETRACT_ROWS_MAX,
    })
}

/// XEP-0313 section 4.4.
fn build_metadata(b: &mut Builder, ends: Option<(Named, Named)>) {
    b.open(ns::MAM, "metadata");
    if let Some((first, last)) = ends {
        for (name, end) in [("start", first), ("end", last)] {
            let stamp = datetime_fine(i64::try_from(end.id.wall_ms()).unwrap_or_default());
            b.open(ns::MAM, name).attr("id", &end.to_string()).attr("timestamp", &stamp).close();
        }
    }
    b.close();
}

fn only_child(element: &Element) -> Element {
    element.root().children().next().map_or_else(|| Element::empty(ns::MAM, "metadata"), ElementRef::to_element)
}

/// Where a store error is an answer.
type Stored<T> = Result<T, StoreError>;

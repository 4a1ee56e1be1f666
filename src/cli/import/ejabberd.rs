//! ejabberd's SQLite file, table by table; with `new_sql_schema` each row names its host.

use super::{Importer, prepared, sqlite};
use crate::clock::datetime_ms;
use crate::core::moving::{ItemPiece, NodePiece, Piece, Terms};
use crate::jid::Jid;
use crate::moving::ejabberd::data::{self, Archived, BANNED, Contact, Login};
use crate::moving::fragment;
use crate::moving::sqlite::{Cell, Database, SqliteError, TableInfo};
use crate::storage::StoreError;
use crate::xml::ns;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

/// Entries of what is kept in memory between two tables: accounts, groups of contacts, nodes with their items.
const NOTES_MAX: usize = 1 << 22;

/// Pieces of an archive that are taken in together.
const AT_ONCE: usize = 64;

/// What nothing here keeps, and an administrator should hear of.
const UNKNOWN: [(&str, &str); 6] = [
    ("sr_group", "shared roster groups"),
    ("motd", "messages of the day"),
    ("muc_registered", "nicknames registered with the service"),
    ("muc_room_subscribers", "subscribers of rooms"),
    ("mix_channel", "channels of MIX"),
    ("mqtt_pub", "messages of MQTT"),
];

/// A row, by the names of its columns.
struct Row<'a> {
    table: &'a TableInfo,
    number: i64,
    cells: &'a [Cell],
}

impl Row<'_> {
    fn cell(&self, name: &str) -> Option<&Cell> {
        self.cells.get(self.table.column(name)?)
    }

    fn text(&self, name: &str) -> &str {
        self.cell(name).and_then(Cell::text).unwrap_or_default()
    }

    /// A number; that of the row where the column is its name.
    fn number(&self, name: &str) -> Option<i64> {
        match self.cell(name)? {
            Cell::Null => Some(self.number),
            Cell::Int(n) => Some(*n),
            cell => cell.text()?.trim().parse().ok(),
        }
    }

    fn is(&self, name: &str) -> bool {
        matches!(self.text(name), "true" | "t" | "1") || matches!(self.cell(name), Some(Cell::Int(n)) if *n != 0)
    }

    /// When it was written, in milliseconds since 1970.
    fn created_ms(&self) -> Option<i64> {
        datetime_ms(&format!("{}Z", self.text("created_at").replacen(' ', "T", 1)))
    }
}

struct One<'a> {
    importer: &'a mut Importer,
    database: Database<File>,
    name: String,
    /// Of rows that name none.
    host: Option<String>,
    only: BTreeSet<String>,
    /// There was a row of nobody knows which host.
    homeless: bool,
}

/// Takes in everything; `only_host` is the one host that is served here, if there is but one.
///
/// # Errors
/// When it cannot go on.
pub fn run(importer: &mut Importer, file: &Path, only: &[String], only_host: Option<String>) -> Result<(), String> {
    let name = file.display().to_string();
    let (mut database, only) = (sqlite::open(file, "ejabberd")?, prepared(only));
    let host = if only.len() == 1 { only.first().cloned() } else { only_host };
    let is_theirs = database.table("rosterusers").map_err(|error| format!("{name}: {error}"))?.is_some();
    if !is_theirs {
        return Err(format!("{name}: it has no tables of ejabberd's"));
    }
    let mut one = One { importer, database, name, host, only, homeless: false };
    one.accounts()?;
    one.rosters()?;
    one.plain()?;
    one.blocked()?;
    one.nodes()?;
    one.rooms()?;
    one.archives()?;
    for (table, what) in UNKNOWN {
        let mut count = 0_u64;
        one.each(table, &mut |_, _| {
            count += 1;
            Ok(())
        })?;
        (0..count).for_each(|_| one.importer.report.unknown(format!("{what}: nothing here keeps that")));
    }
    if one.homeless {
        let why = "its rows name no host: say with --host whose file it is";
        one.importer.report.line(format!("{}: {why}", one.name));
    }
    Ok(())
}

/// Why a walk through a table ends.
enum Ends {
    Store(StoreError),
    Full,
}

impl From<StoreError> for Ends {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What a row says.
type Read = fn(&Row<'_>) -> Result<Piece, String>;

/// What is done with a row.
type EachRow<'a> = &'a mut dyn FnMut(&mut One<'_>, &Row<'_>) -> Result<(), Ends>;

impl One<'_> {
    /// Shows the rows of a table, if there is one.
    fn each(&mut self, table: &str, each: EachRow<'_>) -> Result<(), String> {
        let wrong = |error: SqliteError| error.to_string();
        let place = format!("{}: {table}", self.name);
        let Some(info) = self.database.table(table).map_err(wrong)? else { return Ok(()) };
        let mut rows = self.database.rows(&info).map_err(wrong)?;
        while let Some((number, cells)) = self.database.next(&mut rows).map_err(|error| format!("{place}: {error}"))? {
            each(self, &Row { table: &info, number, cells: &cells }).map_err(|ends| match ends {
                Ends::Store(error) => error.to_string(),
                Ends::Full => format!("{place}: it has too many rows; take in one --host after the other"),
            })?;
        }
        Ok(())
    }

    /// Whose row it is; none for one that is not wanted.
    fn owner(&mut self, row: &Row<'_>) -> Option<Jid> {
        let host = match row.text("server_host") {
            "" => self.host.clone(),
            host => Some(host.to_string()),
        };
        let Some(host) = host else {
            self.homeless = true;
            return None;
        };
        self.wanted(Jid::from_parts(Some(row.text("username")), &host, None).ok(), "hosts")
    }

    fn wanted(&mut self, jid: Option<Jid>, setting: &str) -> Option<Jid> {
        let jid = jid?;
        if !self.only.is_empty() && !self.only.contains(jid.domain()) && setting == "hosts" {
            return None;
        }
        if !self.importer.engine.keeps(jid.domain()) {
            self.importer.report.foreign(&self.name, jid.domain(), setting);
            return None;
        }
        Some(jid)
    }

    fn take(&mut self, owner: &Jid, table: &str, piece: Result<Piece, String>) -> Result<(), Ends> {
        let place = format!("{}: {table}", self.name);
        match piece {
            Ok(piece) => {
                let mut terms = self.importer.terms();
                self.importer.take(owner, &place, &[piece], &mut terms)?;
            }
            Err(why) => self.importer.report.line(format!("{place}: {owner}: {why}")),
        }
        Ok(())
    }

    fn accounts(&mut self) -> Result<(), String> {
        let mut logins: BTreeMap<Jid, Login> = BTreeMap::new();
        self.each("users", &mut |one, row| {
            let Some(jid) = one.owner(row) else { return Ok(()) };
            let login = logins.entry(jid).or_default();
            login.created_ms = row.created_ms().and_then(|ms| u64::try_from(ms).ok());
            let (kind, iterations) = (row.number("type").unwrap_or(0), row.number("iterationcount").unwrap_or(0));
            login.add(kind, row.text("password"), row.text("serverkey"), row.text("salt"), iterations);
            if logins.len() > NOTES_MAX { Err(Ends::Full) } else { Ok(()) }
        })?;
        self.each("private_storage", &mut |one, row| {
            if row.text("namespace") == BANNED.0
                && let Some(login) = one.owner(row).and_then(|jid| logins.get_mut(&jid))
            {
                login.disabled = true;
            }
            Ok(())
        })?;
        for (jid, login) in logins {
            match self.take(&jid, "users", login.piece()) {
                Ok(()) => {}
                Err(Ends::Store(error)) => return Err(error.to_string()),
                Err(Ends::Full) => {}
            }
        }
        Ok(())
    }

    fn rosters(&mut self) -> Result<(), String> {
        let (mut groups, mut count): (BTreeMap<(Jid, String), Vec<String>>, _) = (BTreeMap::new(), 0);
        self.each("rostergroups", &mut |one, row| {
            if let Some(jid) = one.owner(row) {
                groups.entry((jid, row.text("jid").to_string())).or_default().push(row.text("grp").to_string());
                count += 1;
            }
            if count > NOTES_MAX { Err(Ends::Full) } else { Ok(()) }
        })?;
        self.each("rosterusers", &mut |one, row| {
            let Some(owner) = one.owner(row) else { return Ok(()) };
            let contact = Contact {
                jid: row.text("jid"),
                nick: row.text("nick"),
                subscription: row.text("subscription"),
                ask: row.text("ask"),
                message: row.text("askmessage"),
                approved: row.is("approved"),
            };
            let groups = groups.remove(&(owner.clone(), row.text("jid").to_string())).unwrap_or_default();
            one.take(&owner, "rosterusers", data::contact(contact, groups))
        })
    }

    /// Tables whose rows are pieces.
    fn plain(&mut self) -> Result<(), String> {
        let read: [(&str, Read); 6] = [
            ("vcard", |row| {
                let vcard = fragment(row.text("vcard"), ns::VCARD).filter(|vcard| vcard.root().is(ns::VCARD, "vCard"));
                vcard.map(Piece::VCard).ok_or_else(|| "it is no vCard".to_string())
            }),
            ("private_storage", |row| {
                let element = fragment(row.text("data"), row.text("namespace"));
                element.map(Piece::Private).ok_or_else(|| format!("{:?} is no element", row.text("namespace")))
            }),
            ("last", |row| {
                let seconds = row.number("seconds").and_then(|seconds| u64::try_from(seconds).ok());
                seconds
                    .map(|s| Piece::LastSeen(s.saturating_mul(1000)))
                    .ok_or_else(|| "a time that is none".to_string())
            }),
            ("spool", |row| data::offline(row.text("xml"), row.created_ms())),
            ("archive_prefs", |row| data::archive_prefs(row.text("def"), row.text("always"), row.text("never"))),
            ("push_session", |row| data::push(row.text("service"), row.text("node"), row.text("xml"))),
        ];
        for (table, read) in read {
            self.each(table, &mut |one, row| {
                // A ban is none of a user's data.
                let is_ban = table == "private_storage" && row.text("namespace") == BANNED.0;
                let Some(owner) = one.owner(row).filter(|_| !is_ban) else { return Ok(()) };
                one.take(&owner, table, read(row))
            })?;
        }
        Ok(())
    }

    /// Addresses that the default privacy list denies everything (XEP-0191 as ejabberd keeps it).
    fn blocked(&mut self) -> Result<(), String> {
        let mut defaults: BTreeMap<Jid, String> = BTreeMap::new();
        self.each("privacy_default_list", &mut |one, row| {
            if let Some(jid) = one.owner(row) {
                defaults.insert(jid, row.text("name").to_string());
            }
            if defaults.len() > NOTES_MAX { Err(Ends::Full) } else { Ok(()) }
        })?;
        let mut lists: BTreeMap<i64, Jid> = BTreeMap::new();
        self.each("privacy_list", &mut |one, row| {
            if let (Some(jid), Some(id)) = (one.owner(row), row.number("id")) {
                match defaults.get(&jid) {
                    Some(name) if *name == row.text("name") => _ = lists.insert(id, jid),
                    _ => {
                        one.importer.report.unknown("privacy lists that are no default: nothing here keeps that".into())
                    }
                }
            }
            Ok(())
        })?;
        let (mut blocked, mut others): (BTreeMap<Jid, Vec<Jid>>, u64) = (BTreeMap::new(), 0);
        self.each("privacy_list_data", &mut |_, row| {
            let Some(owner) = row.number("id").and_then(|id| lists.get(&id)) else { return Ok(()) };
            let jid = Jid::parse(row.text("value")).ok();
            match jid.filter(|_| row.text("t") == "j" && row.text("action") == "d" && row.is("match_all")) {
                Some(jid) => blocked.entry(owner.clone()).or_default().push(jid),
                None if row.text("t") == "n" && row.text("action") == "a" => {}
                None => others += 1,
            }
            Ok(())
        })?;
        for (owner, jids) in blocked {
            if let Err(Ends::Store(error)) = self.take(&owner, "privacy_list_data", Ok(Piece::Blocked(jids))) {
                return Err(error.to_string());
            }
        }
        let what = "rules of privacy lists that block no address";
        (0..others).for_each(|_| self.importer.report.unknown(what.to_string()));
        Ok(())
    }

    /// Nodes of accounts and services with their items.
    fn nodes(&mut self) -> Result<(), String> {
        let mut nodes: BTreeMap<i64, (Jid, NodePiece)> = BTreeMap::new();
        self.each("pubsub_node", &mut |one, row| {
            let owner = Jid::parse(row.text("host")).ok();
            let setting = if owner.as_ref().is_some_and(Jid::is_host) { "modules.pubsub.hosts" } else { "hosts" };
            if let (Some(owner), Some(id)) = (one.wanted(owner, setting), row.number("nodeid")) {
                nodes.insert(id, (owner, NodePiece { name: row.text("node").to_string(), ..NodePiece::default() }));
            }
            if nodes.len() > NOTES_MAX { Err(Ends::Full) } else { Ok(()) }
        })?;
        self.each("pubsub_node_option", &mut |_, row| {
            if let Some((_, node)) = row.number("nodeid").and_then(|id| nodes.get_mut(&id)) {
                node.fields.extend(data::node_field(row.text("name"), row.text("val")));
            }
            Ok(())
        })?;
        self.each("pubsub_state", &mut |_, row| {
            if let Some((owner, node)) = row.number("nodeid").and_then(|id| nodes.get_mut(&id)) {
                let (affiliation, subscriptions) = (row.text("affiliation"), row.text("subscriptions"));
                data::node_state(node, owner, row.text("jid"), affiliation, subscriptions);
            }
            Ok(())
        })?;
        // Items by the time of their last change, as they are to come.
        let (mut items, mut count): (BTreeMap<i64, Vec<(String, i64)>>, _) = (BTreeMap::new(), 0);
        self.each("pubsub_item", &mut |_, row| {
            if let Some(id) = row.number("nodeid").filter(|id| nodes.contains_key(id)) {
                items.entry(id).or_default().push((row.text("modification").to_string(), row.number));
                count += 1;
            }
            if count > NOTES_MAX { Err(Ends::Full) } else { Ok(()) }
        })?;
        let table = self.database.table("pubsub_item").map_err(|error| error.to_string())?;
        let place = format!("{}: pubsub_item", self.name);
        let mut terms: BTreeMap<Jid, Terms> = BTreeMap::new();
        for (id, (owner, node)) in nodes {
            let name = node.name.clone();
            let terms = terms.entry(owner.clone()).or_insert_with(|| self.importer.terms());
            let node = [Piece::Node(Box::new(node))];
            self.importer.take(&owner, &place, &node, terms).map_err(|error| error.to_string())?;
            let mut items = items.remove(&id).unwrap_or_default();
            items.sort();
            for (modification, number) in items {
                let Some(table) = &table else { continue };
                let cells = self.database.row_of(table, number).map_err(|error| format!("{place}: {error}"))?;
                let cells = cells.unwrap_or_default();
                let row = Row { table, number, cells: &cells };
                let (id, payload) = (row.text("itemid").to_string(), fragment(row.text("payload"), ""));
                if payload.is_none() && !row.text("payload").is_empty() {
                    self.importer.report.line(format!("{place}: {owner}: the item {id:?} of {name} is no element"));
                    continue;
                }
                let publisher = Jid::parse(row.text("publisher")).ok().map(|jid| jid.bare());
                let at_ms = datetime_ms(&modification).and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0);
                let item = [Piece::NodeItem(Box::new(ItemPiece { node: name.clone(), id, publisher, payload, at_ms }))];
                self.importer.take(&owner, &place, &item, terms).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    fn rooms(&mut self) -> Result<(), String> {
        self.each("muc_room", &mut |one, row| {
            let room = Jid::from_parts(Some(row.text("name")), row.text("host"), None).ok();
            let Some(room) = one.wanted(room, "modules.muc.hosts") else { return Ok(()) };
            match data::room(row.text("opts")) {
                Ok(Some(piece)) => one.take(&room, "muc_room", Ok(piece)),
                Ok(None) => {
                    let what = format!("{}: rooms that end with their last occupant", room.domain());
                    one.importer.report.unknown(what);
                    Ok(())
                }
                Err(why) => one.take(&room, "muc_room", Err(why)),
            }
        })
    }

    fn archives(&mut self) -> Result<(), String> {
        let (mut opened, mut owner, mut waiting) = (BTreeSet::new(), None, Vec::new());
        let place = format!("{}: archive", self.name);
        self.each("archive", &mut |one, row| {
            let is_room = row.text("kind") == "groupchat";
            let whose = match is_room {
                true => one.wanted(Jid::parse(row.text("username")).ok(), "modules.muc.hosts"),
                false => one.owner(row),
            };
            let Some(whose) = whose else { return Ok(()) };
            if !row.text("xml").starts_with('<') {
                one.importer.report.unknown("archived messages: written with compress_xml, which is not read".into());
                return Ok(());
            }
            let stamp = row.number("timestamp").and_then(|stamp| u64::try_from(stamp).ok()).unwrap_or(0);
            let (peer, nick, xml) = (row.text("peer"), row.text("nick"), row.text("xml"));
            let piece = match data::archived(&whose, Archived { stamp, peer, nick, xml }, is_room) {
                Ok(piece) => piece,
                Err(why) => {
                    one.importer.report.line(format!("{place}: {whose}: {why}"));
                    return Ok(());
                }
            };
            if owner.as_ref() != Some(&whose) || waiting.len() >= AT_ONCE {
                one.flush(owner.as_ref(), &place, &mut waiting)?;
                if !opened.contains(&whose) {
                    one.importer.archive_opens(&whose)?;
                    opened.insert(whose.clone());
                }
                owner = Some(whose);
            }
            waiting.push(piece);
            Ok(())
        })?;
        let done = self.flush(owner.as_ref(), &place, &mut waiting);
        let closed = opened.iter().try_for_each(|owner| Ok(self.importer.archive_closes(owner)?));
        match done.and(closed) {
            Err(Ends::Store(error)) => Err(error.to_string()),
            Err(Ends::Full) | Ok(()) => Ok(()),
        }
    }

    fn flush(&mut self, owner: Option<&Jid>, place: &str, waiting: &mut Vec<Piece>) -> Result<(), Ends> {
        if let Some(owner) = owner {
            let mut terms = self.importer.terms();
            self.importer.take(owner, place, waiting, &mut terms)?;
        }
        waiting.clear();
        Ok(())
    }
}

//! Prosody's SQLite file: the tables `prosody` and `prosodyarchive`.
//!
//! A first pass notes where the rows of each account and room are, by their numbers; then they come in one by one.

use super::archive::Said;
use super::prosody::{self, STORES};
use super::{Importer, prepared, uploads};
use crate::core::moving::{Piece, Terms};
use crate::jid::Jid;
use crate::moving::json;
use crate::moving::lua::{Table, Value};
use crate::moving::prosody::data::{self, Entry, encoded};
use crate::moving::prosody::vcard;
use crate::moving::sqlite::{Cell, Database, SqliteError, TableInfo};
use crate::storage::StoreError;
use crate::xml::ns;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Rows that are noted; eight bytes each.
const ROWS_MAX: usize = 1 << 24;

/// A table with the places of its columns.
struct Source {
    table: TableInfo,
    /// Of `host`, `user`, `store`, `key`, `type`, `value`, and of an archive `when` and `with`.
    columns: [usize; 8],
}

const COLUMNS: [&str; 8] = ["host", "user", "store", "key", "type", "value", "when", "with"];

/// Whose rows: host and user, by store.
type Places = BTreeMap<(String, String), BTreeMap<String, Vec<i64>>>;

/// Takes in everything.
///
/// # Errors
/// When it cannot go on: the file cannot be read, or storage fails.
pub fn run(importer: &mut Importer, file: &Path, only: &[String]) -> Result<(), String> {
    let wrong = |error: SqliteError| format!("{}: {error}", file.display());
    let mut database = open(file, "Prosody")?;
    let keyval = source(&mut database, "prosody", 6).map_err(wrong)?;
    let archive = source(&mut database, "prosodyarchive", 8).map_err(wrong)?;
    let Some(keyval) = keyval else { return Err(format!("{}: it has no table of Prosody's", file.display())) };
    let only = prepared(only);
    let mut places = Places::new();
    places_of(&mut database, &keyval, &only, &mut places, |_| true).map_err(wrong)?;
    let mut lists = Places::new();
    if let Some(archive) = &archive {
        let is_list = |store: &str| {
            ["offline", "archive", "muc_log", "uploads"].contains(&store)
                || ["pep_", "pubsub_"].iter().any(|kind| store.starts_with(kind))
        };
        places_of(&mut database, archive, &only, &mut lists, is_list).map_err(wrong)?;
    }
    let (mut hosts, name) = (BTreeSet::new(), file.display().to_string());
    let mut one = One { importer, database, keyval, archive, name };
    let (of_hosts, mut lists): (Places, Places) = lists.into_iter().partition(|((_, user), _)| user.is_empty());
    for ((host, user), stores) in places {
        hosts.insert(host.clone());
        if let Some(rows) = stores.get(prosody::NODES) {
            let items =
                of_hosts.get(&(host.clone(), String::new())).and_then(|lists| lists.get(&format!("pubsub_{user}")));
            one.node(&host, &user, rows, items.map(Vec::as_slice).unwrap_or_default())?;
            continue;
        }
        let lists = lists.remove(&(host.clone(), user.clone())).unwrap_or_default();
        one.take(&host, &user, stores, &lists)?;
    }
    // They belong to accounts, often of another host.
    for ((host, _), stores) in &of_hosts {
        hosts.insert(host.clone());
        // The files stand beside the database, as Prosody has them by default.
        let folder = file.parent().unwrap_or(Path::new("")).join(encoded(host)).join(uploads::STORE);
        for number in stores.get("uploads").into_iter().flatten() {
            match one.entry(*number, ns::UPLOAD) {
                Ok(entry) => one.importer.take_file(&folder, &entry),
                Err(why) => one.importer.report.line(format!("{}: {host}: uploads: {why}", one.name)),
            }
        }
    }
    for host in only.difference(&hosts) {
        one.importer.report.line(format!("{}: there is nothing of {host}", one.name));
    }
    Ok(())
}

/// Opens a database in which all is that a server has written.
///
/// # Errors
/// What to do.
pub(super) fn open(file: &Path, server: &str) -> Result<Database<File>, String> {
    let name = file.display();
    for (suffix, what) in [("-wal", "a write-ahead log"), ("-journal", "a journal")] {
        let mut beside = file.as_os_str().to_owned();
        beside.push(suffix);
        if fs::metadata(PathBuf::from(&beside)).is_ok_and(|meta| meta.len() > 0) {
            return Err(format!(
                "{name} has {what} with changes that are not in it: stop {server}, then let SQLite put them there: \
                 sqlite3 {name} 'PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode=DELETE;'"
            ));
        }
    }
    let opened = File::open(file).map_err(|error| format!("{name} cannot be read: {error}"))?;
    Database::open(opened).map_err(|error| format!("{name}: {error}"))
}

fn source(database: &mut Database<File>, name: &str, count: usize) -> Result<Option<Source>, SqliteError> {
    let Some(table) = database.table(name)? else { return Ok(None) };
    let mut columns = [0; 8];
    for (place, column) in columns.iter_mut().zip(COLUMNS).take(count) {
        *place = table.column(column).ok_or(SqliteError::Foreign("a table of Prosody's lacks a column"))?;
    }
    Ok(Some(Source { table, columns }))
}

fn places_of(
    database: &mut Database<File>,
    source: &Source,
    only: &BTreeSet<String>,
    places: &mut Places,
    wanted: impl Fn(&str) -> bool,
) -> Result<(), SqliteError> {
    let mut rows = database.rows(&source.table)?;
    let mut count = 0;
    while let Some((number, row)) = database.next(&mut rows)? {
        let text = |at: usize| row.get(source.columns[at]).and_then(Cell::text).unwrap_or_default();
        let (host, user, store) = (text(0), text(1), text(2));
        if !wanted(store) || (!only.is_empty() && !only.contains(host)) {
            continue;
        }
        count += 1;
        if count > ROWS_MAX {
            return Err(SqliteError::Foreign("it has too many rows; take in one --host after the other"));
        }
        let stores = places.entry((host.to_string(), user.to_string())).or_default();
        stores.entry(store.to_string()).or_default().push(number);
    }
    Ok(())
}

/// What is needed for one account or room after the other.
struct One<'a> {
    importer: &'a mut Importer,
    database: Database<File>,
    keyval: Source,
    archive: Option<Source>,
    name: String,
}

type Stores = BTreeMap<String, Vec<i64>>;

impl One<'_> {
    fn take(&mut self, host: &str, user: &str, stores: Stores, lists: &Stores) -> Result<(), String> {
        // What belongs to the host itself, such as the list of its rooms.
        if user.is_empty() {
            return Ok(());
        }
        let place = format!("{}: {user}@{host}", self.name);
        let Ok(jid) = Jid::from_parts(Some(user), host, None) else {
            self.importer.report.line(format!("{place}: this is the name of no user"));
            return Ok(());
        };
        let (is_account, is_room) = (stores.contains_key("accounts"), stores.contains_key("config"));
        if !self.importer.engine.keeps(jid.domain()) {
            if is_account || is_room {
                self.importer.report.foreign(
                    &self.name,
                    jid.domain(),
                    if is_account { "hosts" } else { "modules.muc.hosts" },
                );
            }
            return Ok(());
        }
        let done = match (is_account, is_room) {
            (true, _) => self.account(&jid, &place, &stores, lists),
            (_, true) => self.room(&jid, &place, &stores, lists),
            _ => {
                self.importer.report.unknown(format!("{}: users without an account", self.name));
                Ok(())
            }
        };
        done.map_err(|error| error.to_string())
    }

    /// A node of a service; what would be a user is its name.
    fn node(&mut self, host: &str, name: &str, rows: &Vec<i64>, items: &[i64]) -> Result<(), String> {
        let place = format!("{}: {host}: the node {name}", self.name);
        let Some(service) = Jid::parse(host).ok().filter(Jid::is_host) else { return Ok(()) };
        if !self.importer.engine.keeps(service.domain()) {
            self.importer.report.foreign(&self.name, service.domain(), "modules.pubsub.hosts");
            return Ok(());
        }
        let mut terms = self.importer.terms();
        match self.table(Some(rows)).and_then(|value| data::service_node(name, &value)) {
            Ok(piece) => self
                .importer
                .take(&service, &place, &[piece], &mut terms)
                .and_then(|()| {
                    self.list(&service, &place, "items", items, "", &mut terms, &mut |entry| {
                        Ok(Some(data::node_item(name, entry)))
                    })
                })
                .map_err(|error| error.to_string()),
            Err(why) => {
                self.importer.report.line(format!("{place}: {why}; nothing of it was taken"));
                Ok(())
            }
        }
    }

    fn account(&mut self, jid: &Jid, place: &str, stores: &Stores, lists: &Stores) -> Result<(), StoreError> {
        let mut terms = self.importer.terms();
        let account = self.table(stores.get("accounts")).and_then(|value| data::account(&value));
        match account {
            Ok(piece) => self.importer.take(jid, place, &[piece], &mut terms)?,
            Err(why) => {
                self.importer.report.line(format!("{place}: {why}; nothing of it was taken"));
                return Ok(());
            }
        }
        for store in STORES.iter().chain(&["pep"]) {
            self.store(jid, place, store, stores, &mut terms)?;
        }
        let mut parts = vcard::Parts::default();
        for (store, rows) in lists {
            let Some(node) = store.strip_prefix("pep_") else { continue };
            self.list(jid, place, store, rows, "", &mut terms, &mut |entry| {
                parts.note(node, &entry.key, &entry.element);
                Ok(Some(data::node_item(node, entry)))
            })?;
        }
        if let Some(vcard) = parts.build().filter(|_| !stores.contains_key("vcard")) {
            self.importer.take(jid, "made from vCard4 and avatar", &[Piece::VCard(vcard)], &mut terms)?;
        }
        self.store(jid, place, "private", stores, &mut terms)?;
        if let Some(rows) = lists.get("offline") {
            self.list(jid, place, "offline", rows, ns::CLIENT, &mut terms, &mut |entry| {
                data::offline(entry).map(Some)
            })?;
        }
        if let Some(rows) = lists.get("archive") {
            self.importer.archive_opens(jid)?;
            self.list(jid, place, "archive", rows, ns::CLIENT, &mut terms, &mut |entry| {
                data::archived(entry).map(Some)
            })?;
            self.importer.archive_closes(jid)?;
        }
        for store in stores.keys() {
            if store != "accounts" && !prosody::is_known(store) {
                self.importer.report.unknown(format!("{}: {store}: nothing here keeps that", self.name));
            }
        }
        Ok(())
    }

    fn room(&mut self, jid: &Jid, place: &str, stores: &Stores, lists: &Stores) -> Result<(), StoreError> {
        let mut terms = self.importer.terms();
        match self.table(stores.get("config")).and_then(|value| data::room(&value)) {
            Ok(Some(piece)) => self.importer.take(jid, place, &[piece], &mut terms)?,
            Ok(None) => {
                self.importer.report.unknown(format!("{}: rooms that end with their last occupant", jid.domain()));
                return Ok(());
            }
            Err(why) => {
                self.importer.report.line(format!("{place}: {why}; nothing of it was taken"));
                return Ok(());
            }
        }
        let Some(rows) = lists.get("muc_log") else { return Ok(()) };
        let mut said = Said::new(jid, format!("{place}: muc_log"));
        self.importer.archive_opens(jid)?;
        for number in rows {
            match self.entry(*number, ns::CLIENT) {
                Ok(entry) => said.put(self.importer, entry, &mut terms)?,
                Err(why) => self.importer.report.line(format!("{place}: muc_log: {why}")),
            }
        }
        said.end(self.importer, &mut terms)
    }

    fn store(
        &mut self,
        jid: &Jid,
        place: &str,
        store: &str,
        stores: &Stores,
        terms: &mut Terms,
    ) -> Result<(), StoreError> {
        if !stores.contains_key(store) {
            return Ok(());
        }
        let value = self.table(stores.get(store));
        match value.and_then(|value| data::of_account(store, &value).unwrap_or_else(|| Ok(Vec::new()))) {
            Ok(pieces) => self.importer.take(jid, &format!("{place}: {store}"), &pieces, terms),
            Err(why) => {
                self.importer.report.line(format!("{place}: {store}: {why}; nothing of it was taken"));
                Ok(())
            }
        }
    }

    /// A table, of which each row is a field, but for the row without a key, which has all the others.
    fn table(&mut self, rows: Option<&Vec<i64>>) -> Result<Value, String> {
        let mut table = Table::default();
        for number in rows.into_iter().flatten() {
            let row = self.database.row_of(&self.keyval.table, *number).map_err(|error| error.to_string())?;
            let row = row.ok_or("a row is gone")?;
            let cell = |at: usize| row.get(self.keyval.columns[at]);
            let text = |at: usize| cell(at).and_then(Cell::text);
            let value = match (text(4).unwrap_or_default(), text(5)) {
                ("string", Some(text)) => Value::Text(text.as_bytes().to_vec()),
                ("boolean", Some(text)) => Value::Bool(text == "true"),
                ("number", _) => cell(5).and_then(Cell::number).map(Value::Float).ok_or("a number is none")?,
                ("json", Some(text)) => json::read(text).ok_or("a value is no JSON")?,
                // Bytes that are no text, such as a salt.
                ("string", None) => match cell(5) {
                    Some(Cell::Blob(bytes)) => Value::Text(bytes.clone()),
                    _ => return Err("a value is of no kind that is known".to_string()),
                },
                _ => return Err("a value is of no kind that is known".to_string()),
            };
            match (text(3).unwrap_or_default(), value) {
                ("", Value::Table(Table(fields))) => table.0.extend(fields),
                ("", _) => return Err("a row has no key".to_string()),
                (key, value) => table.0.push((Value::Text(key.as_bytes().to_vec()), value)),
            }
        }
        Ok(Value::Table(table))
    }

    #[expect(clippy::too_many_arguments, reason = "whose, where, what, and what becomes of it")]
    fn list(
        &mut self,
        jid: &Jid,
        place: &str,
        store: &str,
        rows: &[i64],
        root_ns: &str,
        terms: &mut Terms,
        piece: &mut dyn FnMut(Entry) -> Result<Option<Piece>, String>,
    ) -> Result<(), StoreError> {
        let place = format!("{place}: {store}");
        for rows in rows.chunks(prosody::ITEMS_AT_ONCE) {
            let mut pieces = Vec::new();
            for number in rows {
                match self.entry(*number, root_ns).and_then(&mut *piece) {
                    Ok(piece) => pieces.extend(piece),
                    Err(why) => self.importer.report.line(format!("{place}: {why}")),
                }
            }
            self.importer.take(jid, &place, &pieces, terms)?;
        }
        Ok(())
    }

    /// A row of an archive.
    fn entry(&mut self, number: i64, root_ns: &str) -> Result<Entry, String> {
        let Some(archive) = &self.archive else { return Err("there is no archive".to_string()) };
        let row = self.database.row_of(&archive.table, number).map_err(|error| error.to_string())?;
        let row = row.ok_or("a row is gone")?;
        let cell = |at: usize| row.get(archive.columns[at]);
        let text = |at: usize| cell(at).and_then(Cell::text).unwrap_or_default();
        if text(4) != "xml" {
            return Err("a row is no XML".to_string());
        }
        data::row(text(3), cell(6).and_then(Cell::number).unwrap_or(0.0), text(7), text(5), root_ns)
    }
}

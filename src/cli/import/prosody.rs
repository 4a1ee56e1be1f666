//! The data folder of Prosody: `HOST/STORE/USER.dat` and `.list`, every name with `%` and two digits for what is no
//! letter.

use super::archive::Said;
use super::{Importer, prepared, sqlite, uploads};
use crate::cli::convert;
use crate::core::moving::{Piece, Terms};
use crate::jid::Jid;
use crate::moving::lua::{self, Items, ListError, Value};
use crate::moving::prosody::data::{self, Entry, decoded};
use crate::moving::prosody::vcard;
use crate::storage::StoreError;
use crate::xml::ns;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of a file that is read as a whole.
const FILE_BYTES_MAX: u64 = 1 << 24;
/// Items of a list that are taken in together.
pub(super) const ITEMS_AT_ONCE: usize = 64;

/// Stores that are looked at by name, beside those of [`data::of_account`], in this order.
pub(super) const STORES: [&str; 10] = [
    "account_roles",
    "roles",
    "roster",
    "blocklist",
    "vcard",
    "lastlog",
    "lastlog2",
    "account_activity",
    "cloud_notify",
    "archive_prefs",
];

/// Where the nodes of a service are.
pub(super) const NODES: &str = "pubsub_nodes";

/// Stores that tell what a host is, with the setting that must name it.
pub(super) const KINDS: [(&str, &str); 3] =
    [("accounts", "hosts"), ("config", "modules.muc.hosts"), (NODES, "modules.pubsub.hosts")];

/// What it keeps for itself, and nobody misses.
const OWN: [&str; 15] = [
    "archive_cleanup",
    "auth_tokens",
    "caps_cache",
    // Files are taken by what `uploads.list` says of them.
    "http_file_share",
    "cron",
    "invite_token",
    "persistent",
    "register",
    "smacks_h",
    "sessions",
    "state",
    "tokens",
    "tombstones",
    "upload_stats",
    "vcard_legacy",
];

/// Where the data is.
#[derive(Debug)]
pub enum Place {
    /// In files.
    Folder(PathBuf),
    /// In one file of SQLite.
    Sqlite(PathBuf),
}

impl Default for Place {
    fn default() -> Self {
        Self::Folder(PathBuf::from("/var/lib/prosody"))
    }
}

impl Place {
    /// What a configuration of Prosody says of it.
    ///
    /// # Errors
    /// One line.
    pub fn of(file: &Path) -> Result<Self, String> {
        let settings = convert::read(file)?;
        let folder = settings.global("data_path").and_then(Value::text).unwrap_or("/var/lib/prosody");
        let folder = file.parent().unwrap_or(Path::new("")).join(folder);
        let storage = settings.global("storage").or(settings.global("default_storage"));
        let sql = settings.global("sql").and_then(Value::table);
        let said = |key: &str| sql.and_then(|sql| sql.get(key)).and_then(Value::text);
        match (storage.and_then(Value::text), said("driver").unwrap_or("SQLite3")) {
            (None | Some("internal"), _) => Ok(Self::Folder(folder)),
            (Some("sql"), "SQLite3") => Ok(Self::Sqlite(folder.join(said("database").unwrap_or("prosody.sqlite")))),
            (Some(other), driver) => {
                Err(format!("{}: storage is {other:?} ({driver}), which is not read", file.display()))
            }
        }
    }

    /// Takes in everything.
    ///
    /// # Errors
    /// When it cannot go on: the folder cannot be read, or storage fails.
    pub fn run(&self, importer: &mut Importer, only: &[String]) -> Result<(), String> {
        match self {
            Self::Folder(path) if path.is_file() => sqlite::run(importer, path, only),
            Self::Folder(folder) => {
                let file = folder.join("prosody.sqlite");
                let has_data = |(_, path): &(String, PathBuf)| KINDS.iter().any(|(store, _)| path.join(store).is_dir());
                match file.is_file() && !folders(folder)?.iter().any(has_data) {
                    true => sqlite::run(importer, &file, only),
                    false => from_folder(importer, folder, only),
                }
            }
            Self::Sqlite(file) => sqlite::run(importer, file, only),
        }
    }
}

fn from_folder(importer: &mut Importer, from: &Path, only: &[String]) -> Result<(), String> {
    let only = prepared(only);
    let (mut seen, mut with_files) = (BTreeSet::new(), Vec::new());
    for (name, path) in folders(from)? {
        let host = decoded(&name).and_then(|host| Jid::parse(&host).ok()).filter(Jid::is_host);
        // `_global` is nobody's.
        let Some(host) = host.filter(|_| !name.starts_with('_')) else { continue };
        seen.insert(host.domain().to_string());
        if !only.is_empty() && !only.contains(host.domain()) {
            continue;
        }
        with_files.push(path.clone());
        if path.join("accounts").is_dir() && importer.engine.keeps(host.domain()) {
            accounts(importer, &host, &path)?;
        } else if path.join("config").is_dir() && importer.engine.keeps(host.domain()) {
            rooms(importer, &host, &path)?;
        } else if path.join(NODES).is_dir() && importer.engine.keeps(host.domain()) {
            nodes(importer, &host, &path)?;
        } else if let Some((_, hint)) = KINDS.iter().find(|(store, _)| path.join(store).is_dir())
            && !importer.engine.keeps(host.domain())
        {
            importer.report.foreign(&path.display().to_string(), host.domain(), hint);
        }
    }
    // They belong to accounts, often of another host.
    for path in with_files {
        files(importer, &path)?;
    }
    for host in only.difference(&seen) {
        importer.report.line(format!("{}: there is nothing of {host}", from.display()));
    }
    Ok(())
}

/// What users have shared, by what is known of it.
fn files(importer: &mut Importer, folder: &Path) -> Result<(), String> {
    let (records, files) = (folder.join("uploads.list"), folder.join(uploads::STORE));
    if !records.is_file() {
        return Ok(());
    }
    let mut each = |importer: &mut Importer, entry: Entry| {
        importer.take_file(&files, &entry);
        Ok(())
    };
    each_item(importer, &records, ns::UPLOAD, &mut each).map_err(|error| error.to_string())
}

/// Names and paths of what is in a folder, in their order.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, String> {
    let cannot = |error: std::io::Error| format!("{} cannot be read: {error}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

fn folders(folder: &Path) -> Result<Vec<(String, PathBuf)>, String> {
    Ok(entries(folder)?.into_iter().filter(|(_, path)| path.is_dir()).collect())
}

/// Users of a store, by the names of its files.
fn users(folder: &Path, extension: &str) -> Result<Vec<(String, PathBuf)>, String> {
    let files = entries(folder)?.into_iter().filter(|(_, path)| path.is_file());
    Ok(files.filter_map(|(name, path)| Some((name.strip_suffix(extension)?.to_string(), path))).collect())
}

/// A host with accounts.
fn accounts(importer: &mut Importer, host: &Jid, folder: &Path) -> Result<(), String> {
    let accounts = users(&folder.join("accounts"), ".dat")?;
    let known: BTreeSet<&str> = accounts.iter().map(|(name, _)| name.as_str()).collect();
    let stores = folders(folder)?;
    for (name, path) in &accounts {
        let user = decoded(name).and_then(|user| Jid::from_parts(Some(&user), host.domain(), None).ok());
        let Some(user) = user else {
            importer.report.line(format!("{}: this is the file of no user", path.display()));
            continue;
        };
        account(importer, &user, name, path, &stores).map_err(|error| error.to_string())?;
    }
    // What nothing here keeps, and what belongs to nobody.
    for (store, path) in &stores {
        let all = [users(path, ".dat")?, users(path, ".list")?].concat();
        let (theirs, nobodys): (Vec<_>, Vec<_>) = all.into_iter().partition(|(name, _)| known.contains(name.as_str()));
        if !nobodys.is_empty() && !is_own(store) {
            importer.report.unknown(format!("{}: files of users without an account", path.display()));
        }
        if !theirs.is_empty() && !is_known(store) {
            for _ in theirs {
                importer.report.unknown(format!("{}: nothing here keeps that", path.display()));
            }
        }
    }
    Ok(())
}

/// True for a store that is taken, or that nobody misses.
pub(super) fn is_known(store: &str) -> bool {
    ["accounts", "private", "pep", "offline", "archive"].contains(&store)
        || STORES.contains(&store)
        || store.starts_with("pep_")
        || is_own(store)
}

fn is_own(store: &str) -> bool {
    OWN.contains(&store)
}

/// One account with all that it has.
fn account(
    importer: &mut Importer,
    user: &Jid,
    name: &str,
    path: &Path,
    stores: &[(String, PathBuf)],
) -> Result<(), StoreError> {
    let mut terms = importer.terms();
    match read(path).and_then(|value| data::account(&value)) {
        Ok(piece) => importer.take(user, &path.display().to_string(), &[piece], &mut terms)?,
        // Without the account the rest is nobody's.
        Err(why) => {
            importer.report.line(format!("{}: {why}; nothing of {user} was taken", path.display()));
            return Ok(());
        }
    }
    let by_name: BTreeMap<&str, &Path> = stores.iter().map(|(name, path)| (name.as_str(), path.as_path())).collect();
    let file = |store: &str, ext: &str| {
        by_name.get(store).map(|folder| folder.join(format!("{name}{ext}"))).filter(|file| file.is_file())
    };
    let mut has_vcard = false;
    for store in STORES.iter().chain(&["pep"]) {
        if let Some(path) = file(store, ".dat") {
            has_vcard |= *store == "vcard";
            table(importer, user, store, &path, &mut terms)?;
        }
    }
    let mut parts = vcard::Parts::default();
    for (store, folder) in stores {
        let Some(node) = store.strip_prefix("pep_").and_then(decoded) else { continue };
        let path = folder.join(format!("{name}.list"));
        if path.is_file() {
            let mut item = |entry: Entry| {
                parts.note(&node, &entry.key, &entry.element);
                Ok(Some(data::node_item(&node, entry)))
            };
            list(importer, user, &path, "", &mut terms, &mut item)?;
        }
    }
    if let Some(vcard) = parts.build().filter(|_| !has_vcard) {
        importer.take(user, "made from vCard4 and avatar", &[Piece::VCard(vcard)], &mut terms)?;
    }
    // Older forms of bookmarks are here, which are taken where there are none of the newer one.
    if let Some(path) = file("private", ".dat") {
        table(importer, user, "private", &path, &mut terms)?;
    }
    if let Some(path) = file("offline", ".list") {
        list(importer, user, &path, ns::CLIENT, &mut terms, &mut |entry| data::offline(entry).map(Some))?;
    }
    if let Some(path) = file("archive", ".list") {
        importer.archive_opens(user)?;
        list(importer, user, &path, ns::CLIENT, &mut terms, &mut |entry| data::archived(entry).map(Some))?;
        importer.archive_closes(user)?;
    }
    Ok(())
}

/// A store with one table.
fn table(importer: &mut Importer, user: &Jid, store: &str, path: &Path, terms: &mut Terms) -> Result<(), StoreError> {
    let pieces = read(path).and_then(|value| data::of_account(store, &value).unwrap_or_else(|| Ok(Vec::new())));
    match pieces {
        Ok(pieces) => importer.take(user, &path.display().to_string(), &pieces, terms),
        Err(why) => {
            importer.report.line(format!("{}: {why}; nothing of it was taken", path.display()));
            Ok(())
        }
    }
}

/// A store with a list.
fn list(
    importer: &mut Importer,
    owner: &Jid,
    path: &Path,
    root_ns: &str,
    terms: &mut Terms,
    piece: &mut dyn FnMut(Entry) -> Result<Option<Piece>, String>,
) -> Result<(), StoreError> {
    let place = path.display().to_string();
    let mut waiting = Vec::new();
    each_item(importer, path, root_ns, &mut |importer, entry| {
        match piece(entry) {
            Ok(piece) => waiting.extend(piece),
            Err(why) => importer.report.line(format!("{place}: {why}")),
        }
        if waiting.len() >= ITEMS_AT_ONCE {
            importer.take(owner, &place, &std::mem::take(&mut waiting), terms)?;
        }
        Ok(())
    })?;
    importer.take(owner, &place, &waiting, terms)
}

/// Shows the items of a list one after the other. What is broken is named.
fn each_item(
    importer: &mut Importer,
    path: &Path,
    root_ns: &str,
    each: &mut dyn FnMut(&mut Importer, Entry) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let place = path.display();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) => {
            importer.report.line(format!("{place}: it cannot be read: {error}"));
            return Ok(());
        }
    };
    let mut items = Items::new(file);
    loop {
        match items.next() {
            Ok(None) => return Ok(()),
            Ok(Some(value)) => match data::entry(&value, root_ns) {
                Ok(entry) => each(importer, entry)?,
                Err(why) => importer.report.line(format!("{place}: {why}")),
            },
            Err(error @ ListError::Io(_)) => {
                importer.report.line(format!("{place}: {error}"));
                return Ok(());
            }
            Err(error) => importer.report.line(format!("{place}: {error}")),
        }
    }
}

/// A data file as a whole.
fn read(path: &Path) -> Result<Value, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| format!("it cannot be read: {error}"))?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| format!("it cannot be read: {error}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it has more than {FILE_BYTES_MAX} bytes"));
    }
    lua::data(&bytes).map_err(|wrong| wrong.to_string())
}

/// A host with rooms.
fn rooms(importer: &mut Importer, host: &Jid, folder: &Path) -> Result<(), String> {
    let mut temporary = 0;
    for (name, path) in users(&folder.join("config"), ".dat")? {
        let room = decoded(&name).and_then(|room| Jid::from_parts(Some(&room), host.domain(), None).ok());
        let Some(room) = room else {
            importer.report.line(format!("{}: this is the file of no room", path.display()));
            continue;
        };
        match read(&path).and_then(|value| data::room(&value)) {
            Ok(Some(piece)) => {
                one_room(importer, &room, &name, &path, folder, piece).map_err(|error| error.to_string())?;
            }
            Ok(None) => temporary += 1,
            Err(why) => importer.report.line(format!("{}: {why}; nothing of {room} was taken", path.display())),
        }
    }
    for _ in 0..temporary {
        importer.report.unknown(format!("{}: rooms that end with their last occupant", host.domain()));
    }
    Ok(())
}

fn one_room(
    importer: &mut Importer,
    room: &Jid,
    name: &str,
    path: &Path,
    folder: &Path,
    piece: Piece,
) -> Result<(), StoreError> {
    let mut terms = importer.terms();
    importer.take(room, &path.display().to_string(), &[piece], &mut terms)?;
    let card = folder.join("vcard_muc").join(format!("{name}.dat"));
    if card.is_file() {
        let read = read(&card).and_then(|value| data::of_account("vcard", &value).unwrap_or_else(|| Ok(Vec::new())));
        match read {
            Ok(pieces) => {
                let pieces = pieces.into_iter().map(|piece| match piece {
                    Piece::VCard(card) => Piece::RoomCard(card),
                    piece => piece,
                });
                importer.take(room, &card.display().to_string(), &pieces.collect::<Vec<_>>(), &mut terms)?;
            }
            Err(why) => importer.report.line(format!("{}: {why}; nothing of it was taken", card.display())),
        }
    }
    let log = folder.join("muc_log").join(format!("{name}.list"));
    if log.is_file() {
        let mut said = Said::new(room, log.display().to_string());
        importer.archive_opens(room)?;
        each_item(importer, &log, ns::CLIENT, &mut |importer, entry| said.put(importer, entry, &mut terms))?;
        said.end(importer, &mut terms)?;
    }
    Ok(())
}

/// A host with nodes. Their items are in lists of the host itself, with the name of the node in theirs.
fn nodes(importer: &mut Importer, host: &Jid, folder: &Path) -> Result<(), String> {
    let lists = users(folder, ".list")?.into_iter();
    let of_node = |(name, path): (String, PathBuf)| Some((decoded(&name)?.strip_prefix("pubsub_")?.to_string(), path));
    let mut lists: BTreeMap<String, PathBuf> = lists.filter_map(of_node).collect();
    let mut terms = importer.terms();
    for (name, path) in users(&folder.join(NODES), ".dat")? {
        let Some(node) = decoded(&name) else {
            importer.report.line(format!("{}: this is the file of no node", path.display()));
            continue;
        };
        let items = lists.remove(&node);
        match read(&path).and_then(|value| data::service_node(&node, &value)) {
            Ok(piece) => importer
                .take(host, &path.display().to_string(), &[piece], &mut terms)
                .and_then(|()| match items {
                    Some(items) => list(importer, host, &items, "", &mut terms, &mut |entry| {
                        Ok(Some(data::node_item(&node, entry)))
                    }),
                    None => Ok(()),
                })
                .map_err(|error| error.to_string())?,
            Err(why) => {
                importer.report.line(format!("{}: {why}; nothing of the node {node} was taken", path.display()));
            }
        }
    }
    for _ in lists {
        importer.report.unknown(format!("{}: items of nodes that are not there", host.domain()));
    }
    Ok(())
}

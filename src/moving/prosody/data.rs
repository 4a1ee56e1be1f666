//! What Prosody keeps of accounts and rooms, by the names of its stores.

use super::stanza::{element, item};
use crate::clock::datetime_ms;
use crate::core::moving::{ArchivedPiece, ItemPiece, NodePiece, Piece, RoomPiece, StandingPiece};
use crate::core::roster;
use crate::encoding::{from_hex, percent_decoded};
use crate::jid::Jid;
use crate::moving::lua::{Table, Value};
use crate::moving::{self, fragment};
use crate::setting::Secret;
use crate::stanza::form::Values;
use crate::stanza::{Kind, MessageType, PresenceType, Stanza};
use crate::stream::sasl::ScramKeys;
use crate::xml::{Element, ns};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// A name of a file or folder as it stands for a user, a host or a store: `%40` is `@`. None for one that was not
/// written by Prosody.
pub fn decoded(name: &str) -> Option<String> {
    let is_its = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'%' | b'_'));
    is_its.then(|| percent_decoded(name)).flatten()
}

/// The name of a file or folder for a user, a host or a slot.
pub fn encoded(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        match byte {
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            byte => {
                out.push('%');
                out.push_str(&crate::encoding::hex(&[byte]));
            }
        }
    }
    out
}

/// An account, from `accounts`.
///
/// # Errors
/// What is wrong with it.
pub fn account(value: &Value) -> Result<Piece, String> {
    let table = value.table().ok_or("it is no table")?;
    let created_ms = table.get("created").and_then(Value::number).map(milliseconds);
    let disabled = table.get("disabled").is_some_and(|disabled| *disabled != Value::Bool(false));
    if disabled {
        return Ok(Piece::Account { sha1: None, sha256: None, password: None, created_ms, disabled });
    }
    if let Some(password) = table.get("password").and_then(Value::text).filter(|password| !password.is_empty()) {
        let password = Some(Secret(Zeroizing::new(password.to_string())));
        return Ok(Piece::Account { sha1: None, sha256: None, password, created_ms, disabled });
    }
    let key = |name: &str| table.get(name).and_then(Value::text).and_then(from_hex);
    let (stored_key, server_key) = (key("stored_key"), key("server_key"));
    let salt = if let Some(Value::Text(salt)) = table.get("salt") { salt.clone() } else { Vec::new() };
    let iterations = table.get("iteration_count").and_then(Value::int).and_then(|n| u32::try_from(n).ok());
    let (Some(stored_key), Some(server_key), Some(iterations)) = (stored_key, server_key, iterations) else {
        return match table.get("stored_key").or(table.get("salt")) {
            None => Ok(Piece::Account { sha1: None, sha256: None, password: None, created_ms, disabled }),
            Some(_) => Err("its keys are not whole".to_string()),
        };
    };
    if salt.is_empty() || iterations == 0 || stored_key.len() != server_key.len() {
        return Err("its keys are not whole".to_string());
    }
    let bytes = stored_key.len();
    let keys = Some(ScramKeys { salt, iterations, stored_key, server_key });
    match bytes {
        20 => Ok(Piece::Account { sha1: keys, sha256: None, password: None, created_ms, disabled }),
        32 => Ok(Piece::Account { sha1: None, sha256: keys, password: None, created_ms, disabled }),
        _ => Err("its keys are of a hash function that is not known here".to_string()),
    }
}

/// Seconds since 1970 with a fraction, as milliseconds.
fn milliseconds(seconds: f64) -> u64 {
    // Beyond the bounds the nearest of them.
    (seconds * 1000.0).round() as u64
}

/// Pieces of a store with one table for each account; none when its name says nothing.
///
/// # Errors
/// What is wrong with it. Then nothing of it is good.
pub fn of_account(store: &str, value: &Value) -> Option<Result<Vec<Piece>, String>> {
    let known: fn(&Table) -> Result<Vec<Piece>, String> = match store {
        "account_roles" | "roles" => |table| Ok(role(table)),
        "roster" => roster,
        "blocklist" => blocklist,
        "private" => private,
        "cloud_notify" => push,
        "archive_prefs" => |table| Ok(archive_prefs(table)),
        "pep" => |table| Ok(nodes(table)),
        "lastlog" | "lastlog2" | "account_activity" => |table| Ok(last_seen(table)),
        "vcard" => {
            let vcard = element(value, ns::VCARD).filter(|vcard| vcard.root().is(ns::VCARD, "vCard"));
            return Some(vcard.map(|vcard| vec![Piece::VCard(vcard)]).ok_or_else(|| "it is no vCard".to_string()));
        }
        _ => return None,
    };
    Some(value.table().ok_or_else(|| "it is no table".to_string()).and_then(known))
}

fn role(table: &Table) -> Vec<Piece> {
    const OF_ADMINISTRATORS: [&str; 2] = ["prosody:admin", "prosody:operator"];
    const OF_ALL: [&str; 3] = ["prosody:user", "prosody:registered", "prosody:member"];
    let has = |role: &str| table.get(role) == Some(&Value::Bool(true));
    let default = table.get("_default").and_then(Value::text);
    if OF_ADMINISTRATORS.into_iter().any(|role| has(role) || default == Some(role)) {
        return vec![Piece::Administrator];
    }
    default.filter(|role| !OF_ALL.contains(role)).map(|_| Piece::OtherRole).into_iter().collect()
}

/// Contacts by their addresses; what is said of the roster itself stands under `false`, or long ago under `pending`.
fn roster(table: &Table) -> Result<Vec<Piece>, String> {
    let mut contacts: BTreeMap<Jid, roster::Item> = BTreeMap::new();
    let metadata = table.0.iter().find(|(key, _)| *key == Value::Bool(false)).and_then(|(_, value)| value.table());
    let old = table.get("pending").and_then(Value::table).filter(|t| t.get("subscription").is_none());
    for (address, value) in table.named() {
        if address == "pending" && old.is_some() {
            continue;
        }
        let (Ok(jid), Some(item)) = (Jid::parse(address), value.table()) else {
            return Err(format!("{address:?} is no contact"));
        };
        let text = |key: &str| item.get(key).and_then(Value::text);
        let subscription = text("subscription").unwrap_or("none");
        let groups = item.get("groups").and_then(Value::table);
        let contact = roster::Item {
            name: text("name").unwrap_or_default().to_string(),
            groups: groups.into_iter().flat_map(Table::named).map(|(group, _)| group.to_string()).collect(),
            to: matches!(subscription, "to" | "both"),
            from: matches!(subscription, "from" | "both"),
            ask: text("ask") == Some("subscribe"),
            approved: item.get("approved") == Some(&Value::Bool(true)),
            listed: true,
            ..roster::Item::empty()
        };
        contacts.insert(jid.bare(), contact);
    }
    let pending = metadata.and_then(|m| m.get("pending")).and_then(Value::table).or(old);
    let mut requests: BTreeMap<Jid, Box<Stanza>> = BTreeMap::new();
    for (address, request) in pending.into_iter().flat_map(Table::named) {
        let Ok(jid) = Jid::parse(address) else { return Err(format!("{address:?} is no address")) };
        contacts.entry(jid.bare()).or_insert_with(roster::Item::empty).pending_in = true;
        // Older versions have not kept what it said.
        let request = element(request, ns::CLIENT).and_then(|element| Stanza::read(element).ok());
        if let Some(request) = request.filter(|r| r.kind == Kind::Presence(PresenceType::Subscribe)) {
            requests.insert(jid.bare(), Box::new(request));
        }
    }
    let version = metadata.and_then(|m| m.get("version")).and_then(Value::int).and_then(|n| u64::try_from(n).ok());
    let contacts = contacts.into_iter().map(|(jid, item)| {
        let request = requests.remove(&jid);
        Piece::Contact { jid, item, request }
    });
    Ok(contacts.chain(version.map(Piece::RosterVersion)).collect())
}

fn blocklist(table: &Table) -> Result<Vec<Piece>, String> {
    let parse = |(address, _): (&str, &Value)| Jid::parse(address).map_err(|_| format!("{address:?} is no address"));
    let jids: Vec<Jid> = table.named().map(parse).collect::<Result<_, _>>()?;
    Ok(if jids.is_empty() { Vec::new() } else { vec![Piece::Blocked(jids)] })
}

fn private(table: &Table) -> Result<Vec<Piece>, String> {
    let read = |(key, value): (&str, &Value)| {
        // Its key is the name, a colon and the namespace.
        let space = key.split_once(':').map_or("", |(_, space)| space);
        element(value, space).map(Piece::Private).ok_or_else(|| format!("{key:?} is no element"))
    };
    table.named().map(read).collect()
}

fn push(table: &Table) -> Result<Vec<Piece>, String> {
    let read = |(key, value): (&str, &Value)| {
        let service = value.table().ok_or_else(|| format!("{key:?} is no registration"))?;
        let text = |key: &str| service.get(key).and_then(Value::text);
        let jid = text("jid").and_then(|jid| Jid::parse(jid).ok()).ok_or_else(|| format!("{key:?} has no address"))?;
        let options = service.get("options").and_then(|options| element(options, ns::DATA));
        Ok(Piece::Push { jid, node: text("node").unwrap_or_default().to_string(), options })
    };
    table.named().map(read).collect()
}

/// Addresses with whether messages are archived; under `false` the same for all others.
fn archive_prefs(table: &Table) -> Vec<Piece> {
    let all = table.0.iter().find(|(key, _)| *key == Value::Bool(false)).map(|(_, value)| value);
    let default = all.and_then(|value| match value {
        Value::Bool(true) => Some("always"),
        Value::Bool(false) => Some("never"),
        value => value.text(),
    });
    let with = |wanted| table.named().filter(move |(_, value)| **value == Value::Bool(wanted)).map(|(jid, _)| jid);
    vec![moving::archive_prefs(default, with(true), with(false))]
}

fn nodes(table: &Table) -> Vec<Piece> {
    // Long ago nothing was said of a node but that it is there.
    table.named().map(|(name, value)| Piece::Node(Box::new(node(name, value.table())))).collect()
}

fn node(name: &str, node: Option<&Table>) -> NodePiece {
    let part = |key: &str| node.and_then(|node| node.get(key)).and_then(Value::table);
    let fields = part("config").into_iter().flat_map(Table::named).filter_map(|(key, value)| field(key, value));
    let people = |key: &str| -> Vec<(Jid, String)> {
        let all = part(key).into_iter().flat_map(Table::named);
        all.filter_map(|(jid, value)| Some((Jid::parse(jid).ok()?, value.text().unwrap_or_default().to_string())))
            .collect()
    };
    NodePiece {
        name: name.to_string(),
        fields: fields.collect(),
        affiliations: people("affiliations"),
        subscribers: people("subscribers").into_iter().map(|(jid, _)| jid).collect(),
        asked: Vec::new(),
    }
}

/// A node of a service, from `pubsub_nodes`.
///
/// # Errors
/// What is wrong with it.
pub fn service_node(name: &str, value: &Value) -> Result<Piece, String> {
    // What holds there where nothing is said.
    const DEFAULTS: [(&str, &str); 3] =
        [("access_model", "open"), ("max_items", "20"), ("send_last_published_item", "never")];
    let mut node = node(name, Some(value.table().ok_or("it is no table")?));
    for (key, value) in DEFAULTS {
        let var = format!("pubsub#{key}");
        if node.fields.iter().all(|(said, _)| *said != var) {
            node.fields.push((var, vec![value.to_string()]));
        }
    }
    Ok(Piece::Node(Box::new(node)))
}

/// A field of a node's configuration under the name that it has in the form.
fn field(key: &str, value: &Value) -> Option<Values> {
    let var = match key {
        "include_payload" => "deliver_payloads",
        "notify_items" => "deliver_notifications",
        "payload_type" => "type",
        key => key,
    };
    Some((format!("pubsub#{}", var.trim_start_matches("pubsub#")), texts(value)?))
}

/// A value as a form has it.
fn texts(value: &Value) -> Option<Vec<String>> {
    Some(match value {
        Value::Bool(is) => vec![if *is { "1" } else { "0" }.to_string()],
        Value::Int(n) => vec![n.to_string()],
        Value::Float(n) => vec![n.to_string()],
        Value::Text(_) => vec![value.text()?.to_string()],
        Value::Table(table) => table.list().into_iter().filter_map(|v| v.text().map(str::to_string)).collect(),
        Value::Nil | Value::Unread(_) => return None,
    })
}

fn last_seen(table: &Table) -> Vec<Piece> {
    let of = |table: &Table| table.get("timestamp").and_then(Value::number);
    let inner = ["logout", "login"].into_iter().filter_map(|key| of(table.get(key)?.table()?));
    let newest = of(table).into_iter().chain(inner).fold(None, |newest: Option<f64>, time| match newest {
        Some(newest) if newest >= time => Some(newest),
        _ => Some(time),
    });
    newest.map(|seconds| Piece::LastSeen(milliseconds(seconds))).into_iter().collect()
}

/// An entry of a list or an archive.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its id.
    pub key: String,
    /// When, in milliseconds since 1970.
    pub wall_ms: i64,
    /// With whom, or by whom.
    pub with: String,
    /// What.
    pub element: Element,
}

/// An item of a list.
///
/// # Errors
/// When it is none.
pub fn entry(value: &Value, root_ns: &str) -> Result<Entry, String> {
    let table = value.table().ok_or("an item is no table")?;
    let text = |key: &str| table.get(key).and_then(Value::text).unwrap_or_default().to_string();
    let stamp = || table.get("attr")?.table()?.get("stamp")?.text().and_then(datetime_ms);
    let when = table.get("when").and_then(Value::number).map(|when| milliseconds(when) as i64);
    let element = item(value, root_ns).ok_or("an item is no element")?;
    Ok(Entry { key: text("key"), wall_ms: when.or_else(stamp).unwrap_or(0), with: text("with"), element })
}

/// A row of an archive in SQL: its id, its time in seconds since 1970, with whom, and what it holds.
///
/// # Errors
/// When it holds no element.
pub fn row(key: &str, seconds: f64, with: &str, xml: &str, root_ns: &str) -> Result<Entry, String> {
    // A stanza names no namespace there when it is that of clients.
    let element = fragment(xml, root_ns);
    let element = element.ok_or("a row is no element")?;
    Ok(Entry { key: key.to_string(), wall_ms: milliseconds(seconds) as i64, with: with.to_string(), element })
}

/// A message that waits for somebody, from `offline`.
///
/// # Errors
/// When it is none.
pub fn offline(entry: Entry) -> Result<Piece, String> {
    match Stanza::read(entry.element) {
        Ok(message) if matches!(message.kind, Kind::Message(_)) => {
            Ok(Piece::Offline { message: Box::new(message), wall_ms: entry.wall_ms })
        }
        _ => Err("an item is no message".to_string()),
    }
}

/// An item of a node, from `pep_NODE`, or at a service from `pubsub_NODE`.
pub fn node_item(node: &str, entry: Entry) -> Piece {
    Piece::NodeItem(Box::new(ItemPiece {
        node: node.to_string(),
        id: entry.key,
        publisher: Jid::parse(&entry.with).ok().map(|jid| jid.bare()),
        payload: Some(entry.element),
        at_ms: u64::try_from(entry.wall_ms).unwrap_or(0),
    }))
}

/// A message of an archive, from `archive`.
///
/// # Errors
/// When it is none.
pub fn archived(entry: Entry) -> Result<Piece, String> {
    let message = Stanza::read(entry.element).ok().filter(|message| matches!(message.kind, Kind::Message(_)));
    let message = message.ok_or("an item is no message")?;
    let with = Jid::parse(&entry.with).ok().map(|jid| jid.bare());
    let wall_ms = u64::try_from(entry.wall_ms).unwrap_or(0);
    Ok(Piece::Archived(Box::new(ArchivedPiece { id: entry.key, wall_ms, with, standing: String::new(), message })))
}

/// Something that was said in a room, from `muc_log`; none for anything else, such as somebody's coming and going.
pub fn room_archived(entry: Entry) -> Option<Piece> {
    let mut message = Stanza::read(entry.element).ok()?;
    if message.kind != Kind::Message(MessageType::Groupchat) {
        return None;
    }
    // Who somebody really is stands there for the server alone.
    let (mut with, mut standing) = (None, String::new());
    if let Some(item) = message.child(ns::MUC_USER, "x").and_then(|x| x.child(ns::MUC_USER, "item")) {
        with = item.attr("jid").and_then(|jid| Jid::parse(jid).ok());
        let said = |name| item.attr(name).unwrap_or("none");
        standing = format!("{} {}", said("affiliation"), said("role"));
    }
    message.retain_children(|child| child.ns() != ns::MUC_USER);
    let wall_ms = u64::try_from(entry.wall_ms).unwrap_or(0);
    Some(Piece::RoomArchived(Box::new(ArchivedPiece { id: entry.key, wall_ms, with, standing, message })))
}

/// A room, from `config`; none for one that ends with its last occupant.
///
/// # Errors
/// What is wrong with it.
pub fn room(value: &Value) -> Result<Option<Piece>, String> {
    let table = value.table().ok_or("it is no table")?;
    let data = table.get("_data").and_then(Value::table).ok_or("it is no room")?;
    if data.get("persistent") != Some(&Value::Bool(true)) {
        return Ok(None);
    }
    let about = table.get("_affiliation_data").and_then(Value::table);
    let old = table.get("_affiliations").and_then(Value::table);
    let standings = old.unwrap_or(table).named().filter(|(key, _)| !key.starts_with('_') && *key != "jid");
    let standings = standings.filter_map(|(address, value)| {
        let jid = Jid::parse(address).ok()?.bare();
        let about = about.and_then(|about| about.get(address)).and_then(Value::table);
        let said = |key: &str| about.and_then(|a| a.get(key)).and_then(Value::text).unwrap_or_default().to_string();
        let (nick, reason) = (said("reserved_nickname"), said("reason"));
        Some(StandingPiece { jid, affiliation: value.text()?.to_string(), nick, reason })
    });
    let text = |key: &str| data.get(key).and_then(Value::text).unwrap_or_default();
    let from = Jid::parse(text("subject_from")).ok();
    Ok(Some(Piece::Room(Box::new(RoomPiece {
        fields: room_fields(data),
        standings: standings.collect(),
        subject: text("subject").to_string(),
        subject_nick: from.and_then(|from| from.resource().map(str::to_string)).unwrap_or_default(),
        subject_ms: data.get("subject_time").and_then(Value::number).map(milliseconds).unwrap_or(0),
    }))))
}

/// The configuration under the names of XEP-0045 section 10.2.
fn room_fields(data: &Table) -> Vec<Values> {
    const SAME: [(&str, &str); 10] = [
        ("name", "roomname"),
        ("description", "roomdesc"),
        ("language", "lang"),
        ("members_only", "membersonly"),
        ("moderated", "moderatedroom"),
        ("whois", "whois"),
        ("changesubject", "changesubject"),
        ("allow_member_invites", "allowinvites"),
        ("history_length", "historylength"),
        ("archiving", "enablearchiving"),
    ];
    let named = |name: &str, values: Vec<String>| (format!("muc#roomconfig_{name}"), values);
    let one = |name: &str, value: &str| named(name, vec![value.to_string()]);
    let mut fields: Vec<Values> =
        SAME.iter().filter_map(|(theirs, ours)| Some(named(ours, texts(data.get(theirs)?)?))).collect();
    let is = |key: &str| data.get(key) == Some(&Value::Bool(true));
    fields.push(one("publicroom", if is("hidden") { "0" } else { "1" }));
    if let Some(password) = data.get("password").and_then(Value::text).filter(|password| !password.is_empty()) {
        fields.push(one("passwordprotectedroom", "1"));
        fields.push(one("roomsecret", password));
    }
    // Of the older form this was true or false.
    match data.get("allow_pm") {
        Some(Value::Bool(false)) => fields.push(one("allowpm", "none")),
        Some(value) => fields.extend(texts(value).filter(|_| value.text().is_some()).map(|v| named("allowpm", v))),
        None => {}
    }
    if let Some(roles) = data.get("presence_broadcast").and_then(Value::table) {
        let shown = roles.named().filter(|(_, value)| **value == Value::Bool(true)).map(|(role, _)| role.to_string());
        fields.push(named("presencebroadcast", shown.filter(|role| role != "none").collect()));
    }
    fields
}

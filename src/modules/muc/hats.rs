//! Hats (XEP-0317): what an occupant is beside role and affiliation, as those who run the room have said.

use super::admin::Actor;
use super::form::{self, Form};
use super::presence::{self, Show};
use super::room::{Affiliation, Role, Room, status};
use super::store::{Directory, HatRecord, Hats, Wearer, Wearers};
use crate::core::Core;
use crate::encoding::hex;
use crate::jid::Jid;
use crate::stanza::command::{self, Action};
use crate::stanza::{Condition, StanzaError};
use crate::storage::StoreError;
use crate::xml::{Builder, Element, ElementRef, ns};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

const FORM: &str = "urn:xmpp:hats:commands";
const PREFIX: &str = "urn:xmpp:hats:commands:";

/// Name at the end of the node, name for people, and whether only admins may (section 3).
const COMMANDS: [(&str, &str, bool); 6] = [
    ("create", "Create or change a hat", true),
    ("destroy", "Destroy a hat", true),
    ("assign", "Give somebody a hat", true),
    ("unassign", "Take a hat from somebody", true),
    ("list", "List the hats", false),
    ("list-assigned", "List who has which hat", true),
];

/// A hat that somebody wears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hat {
    /// Its name for programs.
    pub uri: String,
    /// What is stored of it.
    pub record: HatRecord,
}

/// The hats of an account.
///
/// # Errors
/// When storage cannot be read.
pub fn of(core: &mut Core, room: &Jid, account: &str) -> Result<Vec<Hat>, StoreError> {
    let Some(wearer) = core.view.get::<Wearers>(room.as_str(), account.as_bytes())? else { return Ok(Vec::new()) };
    let mut hats = Vec::new();
    for uri in wearer.uris {
        if let Some(record) = core.view.get::<Hats>(room.as_str(), uri.as_bytes())? {
            hats.push(Hat { uri, record });
        }
    }
    Ok(hats)
}

/// Takes all hats of an account in all rooms of a service.
///
/// # Errors
/// When storage cannot be read.
pub fn forget(core: &mut Core, service: &str, account: &str) -> Result<(), StoreError> {
    for (sub, _) in core.view.list::<Directory>(service, usize::MAX)? {
        if let Ok(room) = std::str::from_utf8(&sub)
            && core.view.contains::<Wearers>(room, account.as_bytes())?
        {
            core.view.delete::<Wearers>(room, account.as_bytes());
        }
    }
    Ok(())
}

/// Adds `<hats/>` (section 3.1).
pub fn write(b: &mut Builder, hats: &[Hat]) {
    if hats.is_empty() {
        return;
    }
    b.open(ns::HATS, "hats");
    for hat in hats {
        b.open(ns::HATS, "hat").attr("title", &hat.record.title).attr("uri", &hat.uri);
        if !hat.record.hue.is_empty() {
            b.attr("hue", &hat.record.hue);
        }
        b.close();
    }
    b.close();
}

/// Changes with the list of hats (section 2); none where there are none.
///
/// # Errors
/// When storage cannot be read.
pub fn hash(core: &mut Core, room: &Jid) -> Result<Option<String>, StoreError> {
    let mut all = Vec::new();
    for (uri, hat) in core.view.list::<Hats>(room.as_str(), usize::MAX)? {
        for part in [uri.as_slice(), hat.title.as_bytes(), hat.hue.as_bytes()] {
            all.extend_from_slice(part);
            all.push(0);
        }
    }
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &all);
    Ok((!all.is_empty()).then(|| hex(hash.as_ref())))
}

/// The row of [`COMMANDS`] of a node, for those who may.
fn known(room: &Room, actor: &Actor, node: &str) -> Result<(&'static str, &'static str), StanzaError> {
    let name = node.strip_prefix(PREFIX).unwrap_or_default();
    let Some(row) = COMMANDS.iter().find(|row| row.0 == name) else { return Err(Condition::ItemNotFound.into()) };
    match may(room, actor, row.2) {
        true => Ok((row.0, row.1)),
        false => Err(Condition::Forbidden.because("Only those who run the room may do that.")),
    }
}

fn may(room: &Room, actor: &Actor, admins_only: bool) -> bool {
    let is_open = !room.record.members_only && room.record.password.is_empty();
    let belongs = actor.role > Role::None || actor.affiliation >= Affiliation::Member;
    let hears = belongs || (is_open && actor.affiliation != Affiliation::Outcast);
    if admins_only { actor.affiliation >= Affiliation::Admin } else { hears }
}

/// Answers disco#items for the node of commands (XEP-0050 section 2.2).
pub fn items(room: &Room, actor: &Actor) -> Element {
    let mut b = Builder::new(ns::DISCO_ITEMS, "query");
    b.attr("node", ns::COMMANDS);
    for (name, label, _) in COMMANDS.iter().filter(|row| may(room, actor, row.2)) {
        b.open(ns::DISCO_ITEMS, "item").attr("jid", room.jid.as_str());
        b.attr("node", &format!("{PREFIX}{name}")).attr("name", label).close();
    }
    b.finish()
}

/// Answers disco#info for a command.
///
/// # Errors
/// `item-not-found` for another, `forbidden` for those who may not.
pub fn info(room: &Room, actor: &Actor, node: &str) -> Result<Element, StanzaError> {
    let (_, label) = known(room, actor, node)?;
    Ok(command::info(node, "command-node", label))
}

/// Carries out a command.
///
/// # Errors
/// As [`info`]; `bad-request` for another form, `not-acceptable` for one with a field that cannot be, `item-not-found`
/// for a hat that is not there, `resource-constraint` for too many.
pub fn run(
    core: &mut Core,
    room: &mut Room,
    actor: &Actor,
    asked: ElementRef<'_>,
    answer: impl FnOnce(&mut Core, Element),
) -> Result<(), StanzaError> {
    let node = asked.attr("node").unwrap_or_default();
    let (name, label) = known(room, actor, node)?;
    let own = asked.attr("sessionid").filter(|id| !id.is_empty()).map(str::to_string);
    let session = own.unwrap_or_else(|| core.token());
    let form = match (command::read(asked)?, name) {
        (Action::Cancel, _) => {
            answer(core, command::answer(node, &session, "canceled", |_| {}));
            return Ok(());
        }
        (_, "list" | "list-assigned") => {
            let table = if name == "list" { list(core, room)? } else { list_assigned(core, room)? };
            answer(core, command::answer(node, &session, "completed", |b| b.copy(table.root())));
            return Ok(());
        }
        (Action::Ask, _) => {
            let form = blank(core, room, name, label)?;
            answer(core, command::answer(node, &session, "executing", |b| b.copy(form.root())));
            return Ok(());
        }
        (Action::Do(x), _) => Form::read(x)?,
    };
    let fields: &[&str] = match name {
        "create" => &["FORM_TYPE", "hats#title", "hats#uri", "hats#hue"],
        "destroy" => &["FORM_TYPE", "hats#uri"],
        _ => &["FORM_TYPE", "hats#jid", "hats#uri"],
    };
    form.only(fields)?;
    if form.form_type() != FORM {
        return Err(Condition::BadRequest.because("The form has another FORM_TYPE than is wanted here."));
    }
    let uri = text(core, &form, "hats#uri")?;
    let shown = match name {
        "create" => create(core, room, &form, &uri)?,
        "destroy" => destroy(core, room, &uri)?,
        _ => assign(core, room, &form, &uri, name == "assign")?,
    };
    room.wrote(core);
    answer(core, command::answer(node, &session, "completed", |_| {}));
    for account in shown {
        show(core, room, &account)?;
    }
    if matches!(name, "create" | "destroy") {
        room.notify(core, |_, _| true, |b| status(b, "104"));
    }
    Ok(())
}

/// A text that has to be there.
fn text(core: &Core, form: &Form, var: &str) -> Result<String, StanzaError> {
    let text = form.text(var).map(str::trim).filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| Condition::NotAcceptable.because("A field of the form is missing."))?;
    if text.len() > core.settings.limits.muc_hat_bytes_max as usize || text.contains(char::is_control) {
        return Err(Condition::NotAcceptable.because("A field of the form is too long, or no text."));
    }
    Ok(text.to_string())
}

/// An angle from 0 to 360, as it is written.
fn hue(form: &Form) -> Result<String, StanzaError> {
    let hue = form.text("hats#hue").map_or("", str::trim);
    let (whole, fraction) = hue.split_once('.').unwrap_or((hue, ""));
    let digits = |part: &str, max: usize| part.len() <= max && part.bytes().all(|b| b.is_ascii_digit());
    let fits = digits(whole, 3) && digits(fraction, 12) && whole.parse::<u16>().is_ok_and(|n| n <= 360);
    if hue.is_empty() || fits {
        return Ok(hue.to_string());
    }
    Err(Condition::NotAcceptable.because("The hue is an angle from 0 to 360."))
}

/// Makes or changes a hat; says whose presence that changes.
fn create(core: &mut Core, room: &Room, form: &Form, uri: &str) -> Result<Vec<String>, StanzaError> {
    let record = HatRecord { title: text(core, form, "hats#title")?, hue: hue(form)? };
    let is_uri = uri.split_once(':').is_some_and(|(scheme, rest)| {
        let first = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
        first && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) && !rest.is_empty()
    });
    if !is_uri || uri.contains(char::is_whitespace) {
        return Err(Condition::NotAcceptable.because("The name of the hat is no URI."));
    }
    let is_new = !core.view.contains::<Hats>(room.jid.as_str(), uri.as_bytes())?;
    let max = core.settings.limits.muc_hats_max as usize;
    if is_new && core.view.count::<Hats>(room.jid.as_str())? >= max {
        return Err(Condition::ResourceConstraint.because("The room has too many hats."));
    }
    core.view.put::<Hats>(room.jid.as_str(), uri.as_bytes(), &record);
    if is_new { Ok(Vec::new()) } else { Ok(wearers(core, room, Some(uri))?.into_iter().map(|(a, _)| a).collect()) }
}

/// Takes a hat out of the world; says whose presence that changes.
fn destroy(core: &mut Core, room: &Room, uri: &str) -> Result<Vec<String>, StanzaError> {
    there(core, room, uri)?;
    let wearers = wearers(core, room, Some(uri))?;
    core.view.delete::<Hats>(room.jid.as_str(), uri.as_bytes());
    for (account, wearer) in &wearers {
        let uris = wearer.uris.iter().filter(|u| *u != uri).cloned().collect();
        put(core, room, account, uris);
    }
    Ok(wearers.into_iter().map(|(account, _)| account).collect())
}

/// Gives or takes a hat; says whose presence that changes.
fn assign(core: &mut Core, room: &Room, form: &Form, uri: &str, on: bool) -> Result<Vec<String>, StanzaError> {
    let account = Jid::parse(&text(core, form, "hats#jid")?).map_err(|_| StanzaError::from(Condition::JidMalformed))?;
    there(core, room, uri)?;
    let account = account.bare_str().to_string();
    let worn = core.view.get::<Wearers>(room.jid.as_str(), account.as_bytes())?;
    let is_new = worn.is_none();
    let mut uris = worn.map(|w| w.uris).unwrap_or_default();
    match (uris.iter().position(|u| u == uri), on) {
        (None, true) => {
            let limits = &core.settings.limits;
            let (hats_max, wearers_max) = (limits.muc_hats_max as usize, limits.muc_affiliations_max as usize);
            if uris.len() >= hats_max || (is_new && core.view.count::<Wearers>(room.jid.as_str())? >= wearers_max) {
                return Err(Condition::ResourceConstraint.because("Too many hats are given in this room."));
            }
            uris.push(uri.to_string());
        }
        (Some(at), false) => _ = uris.remove(at),
        (Some(_), true) => return Ok(Vec::new()),
        (None, false) => return Err(Condition::ItemNotFound.because("They do not have this hat.")),
    }
    put(core, room, &account, uris);
    Ok(vec![account])
}

fn there(core: &mut Core, room: &Room, uri: &str) -> Result<(), StanzaError> {
    match core.view.contains::<Hats>(room.jid.as_str(), uri.as_bytes())? {
        true => Ok(()),
        false => Err(Condition::ItemNotFound.because("There is no such hat.")),
    }
}

fn put(core: &mut Core, room: &Room, account: &str, uris: Vec<String>) {
    if uris.is_empty() {
        core.view.delete::<Wearers>(room.jid.as_str(), account.as_bytes());
    } else {
        core.view.put::<Wearers>(room.jid.as_str(), account.as_bytes(), &Wearer { uris });
    }
}

/// Accounts with hats, or with this one.
fn wearers(core: &mut Core, room: &Room, uri: Option<&str>) -> Result<Vec<(String, Wearer)>, StoreError> {
    let rows = core.view.list::<Wearers>(room.jid.as_str(), usize::MAX)?;
    let wears = |wearer: &Wearer| uri.is_none_or(|uri| wearer.uris.iter().any(|u| u == uri));
    let rows = rows.into_iter().filter(|(_, wearer)| wears(wearer));
    Ok(rows.filter_map(|(sub, wearer)| Some((String::from_utf8(sub).ok()?, wearer))).collect())
}

/// Shows the account's occupants with the hats of today.
fn show(core: &mut Core, room: &mut Room, account: &str) -> Result<(), StoreError> {
    let hats = of(core, &room.jid, account)?;
    for nick in room.nicks_of(account) {
        let Some(occupant) = room.occupants.get_mut(&nick) else { continue };
        occupant.hats.clone_from(&hats);
        let occupant = occupant.clone();
        presence::show_all(core, room, &nick, &occupant, occupant.role, Show::default());
    }
    Ok(())
}

/// The form of a command.
fn blank(core: &mut Core, room: &Room, name: &str, label: &str) -> Result<Element, StoreError> {
    let all = core.view.list::<Hats>(room.jid.as_str(), usize::MAX)?;
    let hats: Vec<(String, String)> =
        all.into_iter().filter_map(|(uri, hat)| Some((String::from_utf8(uri).ok()?, hat.title))).collect();
    let options: Vec<(&str, &str)> = hats.iter().map(|(uri, title)| (uri.as_str(), title.as_str())).collect();
    let mut b = Builder::new("", "form");
    form::open(&mut b, "form", FORM);
    b.leaf(ns::DATA, "title", label);
    let mut f = |var: &str, kind: &str, label: &str, options: &[(&str, &str)]| {
        form::choice(&mut b, var, kind, label, &[], options);
    };
    match name {
        "create" => {
            f("hats#title", "text-single", "Title", &[]);
            f("hats#uri", "text-single", "URI", &[]);
            f("hats#hue", "text-single", "Hue, an angle from 0 to 360", &[]);
        }
        "destroy" => f("hats#uri", "list-single", "Hat", &options),
        _ => {
            f("hats#jid", "jid-single", "Address", &[]);
            f("hats#uri", "list-single", "Hat", &options);
        }
    }
    b.close();
    Ok(inner(&b.finish()))
}

/// The only child.
fn inner(element: &Element) -> Element {
    element.root().children().next().map(|c| c.to_element()).unwrap_or_else(|| Element::empty(ns::DATA, "x"))
}

/// Rows of a table, as a form of type result.
fn table(title: &str, columns: &[&str], rows: &[Vec<&str>]) -> Element {
    let mut b = Builder::new(ns::DATA, "x");
    b.attr("type", "result").leaf(ns::DATA, "title", title);
    b.open(ns::DATA, "reported");
    for column in columns {
        b.open(ns::DATA, "field").attr("var", column).close();
    }
    b.close();
    for row in rows {
        b.open(ns::DATA, "item");
        for (column, value) in columns.iter().zip(row).filter(|(_, value)| !value.is_empty()) {
            b.open(ns::DATA, "field").attr("var", column).leaf(ns::DATA, "value", value).close();
        }
        b.close();
    }
    b.finish()
}

fn list(core: &mut Core, room: &Room) -> Result<Element, StoreError> {
    let all = core.view.list::<Hats>(room.jid.as_str(), usize::MAX)?;
    let row = |(uri, hat): &'_ (Vec<u8>, HatRecord)| (hat.title.clone(), String::from_utf8_lossy(uri).into_owned());
    let texts: Vec<_> = all.iter().map(|pair| (row(pair), pair.1.hue.clone())).collect();
    let rows: Vec<Vec<&str>> =
        texts.iter().map(|((title, uri), hue)| vec![title.as_str(), uri.as_str(), hue.as_str()]).collect();
    Ok(table("Hats", &["hats#title", "hats#uri", "hats#hue"], &rows))
}

fn list_assigned(core: &mut Core, room: &Room) -> Result<Element, StoreError> {
    let mut worn = Vec::new();
    for (account, _) in wearers(core, room, None)? {
        for hat in of(core, &room.jid, &account)? {
            worn.push((account.clone(), hat));
        }
    }
    let row = |(account, hat): &'_ (String, Hat)| -> [String; 4] {
        [account.clone(), hat.uri.clone(), hat.record.title.clone(), hat.record.hue.clone()]
    };
    let texts: Vec<[String; 4]> = worn.iter().map(row).collect();
    let rows: Vec<Vec<&str>> = texts.iter().map(|t| t.iter().map(String::as_str).collect()).collect();
    Ok(table("Hats that are worn", &["hats#jid", "hats#uri", "hats#title", "hats#hue"], &rows))
}

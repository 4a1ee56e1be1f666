//! What owners ask of a room: its configuration, and its end (XEP-0045 sections 10.1, 10.2, 10.9).

use super::admin;
use super::archive;
use super::form::{self, Form};
use super::presence::{self, Show};
use super::room::{Affiliation, Pm, Role, Room, Whois, status};
use super::store::{self, RoomRecord};
use crate::core::Core;
use crate::jid::Jid;
use crate::limits::Limits;
use crate::stanza::{Condition, StanzaError};
use crate::storage::StoreError;
use crate::xml::{Builder, Element, ElementRef, ns};

/// `FORM_TYPE` of section 10.2.
pub const CONFIG: &str = "http://jabber.org/protocol/muc#roomconfig";

const ROLES: [(&str, Role); 3] =
    [("moderator", Role::Moderator), ("participant", Role::Participant), ("visitor", Role::Visitor)];
const PM: [(&str, &str, Pm); 4] = [
    ("anyone", "Anyone", Pm::Anyone),
    ("participants", "Anyone with voice", Pm::Participants),
    ("moderators", "Moderators only", Pm::Moderators),
    ("none", "Nobody", Pm::Nobody),
];

macro_rules! fields {
    ($($name:literal)*) => { &["FORM_TYPE", $( concat!("muc#roomconfig_", $name), )* "muc#maxhistoryfetch"] };
}

/// All that the form has.
const FIELDS: &[&str] = fields! {
    "roomname" "roomdesc" "lang" "persistentroom" "publicroom" "membersonly" "moderatedroom" "passwordprotectedroom"
    "roomsecret" "whois" "changesubject" "allowinvites" "allowpm" "presencebroadcast" "getmemberlist" "maxusers"
    "historylength" "enablearchiving" "roomadmins" "roomowners"
};

/// The form of section 10.2.
///
/// # Errors
/// When storage cannot be read.
pub fn config_form(core: &mut Core, room: &Room) -> Result<Element, StoreError> {
    let r = &room.record;
    let all = store::standings(core, &room.jid)?;
    let (archives, archived) = (archive::is_supported(core), archive::is_on(core, &room.jid)?);
    let with = |affiliation| -> Vec<&str> {
        all.iter().filter(|(_, s)| s.affiliation == affiliation).map(|(account, _)| account.as_str()).collect()
    };
    let mut b = Builder::new(ns::MUC_OWNER, "query");
    form::open(&mut b, "form", CONFIG);
    b.leaf(ns::DATA, "title", "Room configuration");
    let mut f = |var: &str, kind: &str, label: &str, values: &[&str], options: &[(&str, &str)]| {
        form::choice(&mut b, &format!("muc#roomconfig_{var}"), kind, label, values, options);
    };
    let flag = |on: bool| if on { "1" } else { "0" };
    let roles = |mask: u16| -> Vec<&str> {
        ROLES.iter().filter(|(_, role)| mask & role.bit() != 0).map(|(name, _)| *name).collect()
    };
    let role_options = [("moderator", "Moderators"), ("participant", "Participants"), ("visitor", "Visitors")];
    f("roomname", "text-single", "Name", &[&r.name], &[]);
    f("roomdesc", "text-single", "Description", &[&r.description], &[]);
    f("lang", "text-single", "Language of the discussion", &[&r.lang], &[]);
    f("persistentroom", "boolean", "Stay when the last occupant leaves", &[flag(r.persistent)], &[]);
    f("publicroom", "boolean", "List the room for everybody", &[flag(r.public)], &[]);
    f("membersonly", "boolean", "Only members may enter", &[flag(r.members_only)], &[]);
    f("moderatedroom", "boolean", "Newcomers have no voice", &[flag(r.moderated)], &[]);
    f("passwordprotectedroom", "boolean", "Ask for a password", &[flag(!r.password.is_empty())], &[]);
    f("roomsecret", "text-private", "Password", &[&r.password], &[]);
    let whois = if r.whois == Whois::Anyone { "anyone" } else { "moderators" };
    let who = [("moderators", "Moderators only"), ("anyone", "Anyone")];
    f("whois", "list-single", "Who sees real addresses", &[whois], &who);
    f("changesubject", "boolean", "Participants may change the subject", &[flag(r.subject_by_participants)], &[]);
    f("allowinvites", "boolean", "Members may invite", &[flag(r.invites_by_members)], &[]);
    let pm = PM.iter().find(|p| p.2 == r.pm).map_or("anyone", |p| p.0);
    f("allowpm", "list-single", "Who may send private messages", &[pm], &PM.map(|p| (p.0, p.1)));
    let shown = roles(r.broadcast_roles);
    f("presencebroadcast", "list-multi", "Roles whose presence is shown", &shown, &role_options);
    f("getmemberlist", "list-multi", "Roles that may see the member list", &roles(r.list_roles), &role_options);
    let (users, history) = (r.users_max.to_string(), r.history_max.to_string());
    let users = if r.users_max == 0 { "none" } else { &users };
    let counts = [("10", "10"), ("20", "20"), ("50", "50"), ("100", "100"), ("none", "No limit")];
    f("maxusers", "list-single", "Most occupants", &[users], &counts);
    f("historylength", "text-single", "Messages kept for those who enter", &[&history], &[]);
    if archives {
        f("enablearchiving", "boolean", "Archive messages", &[flag(archived)], &[]);
    }
    f("roomadmins", "jid-multi", "Admins", &with(Affiliation::Admin), &[]);
    f("roomowners", "jid-multi", "Owners", &with(Affiliation::Owner), &[]);
    form::field(&mut b, "muc#maxhistoryfetch", "text-single", "Most messages sent to those who enter", &[&history]);
    Ok(b.finish())
}

/// Takes the submitted form into a record; what is not in the form stays.
///
/// # Errors
/// `bad-request` for a form that is none of ours, `not-acceptable` for a value that cannot be.
pub fn read_config(form: &Form, old: &RoomRecord, limits: &Limits) -> Result<RoomRecord, StanzaError> {
    if form.form_type() != CONFIG {
        return Err(Condition::BadRequest.because("The form is not that of a room's configuration."));
    }
    form.only(FIELDS)?;
    let mut r = old.clone();
    let var = |name: &str| format!("muc#roomconfig_{name}");
    let text = |name: &str, slot: &mut String| match form.text(&var(name)) {
        Some(text) if text.len() > limits.muc_subject_bytes_max as usize => {
            Err(Condition::NotAcceptable.because("A text of the form is too long."))
        }
        Some(text) => {
            *slot = text.to_string();
            Ok(())
        }
        None => Ok(()),
    };
    let flag = |name: &str, slot: &mut bool| form.flag(&var(name)).map(|is| *slot = is.unwrap_or(*slot));
    text("roomname", &mut r.name)?;
    text("roomdesc", &mut r.description)?;
    text("lang", &mut r.lang)?;
    flag("persistentroom", &mut r.persistent)?;
    flag("publicroom", &mut r.public)?;
    flag("membersonly", &mut r.members_only)?;
    flag("moderatedroom", &mut r.moderated)?;
    flag("changesubject", &mut r.subject_by_participants)?;
    flag("allowinvites", &mut r.invites_by_members)?;
    let mut protected = !r.password.is_empty();
    flag("passwordprotectedroom", &mut protected)?;
    text("roomsecret", &mut r.password)?;
    if form.values(&var("passwordprotectedroom")).is_some() && !protected {
        r.password.clear();
    }
    if protected && r.password.is_empty() {
        return Err(Condition::NotAcceptable.because("A room with a password needs one."));
    }
    let unknown = || Condition::NotAcceptable.because("A field of the form has a value that was not offered.");
    if let Some(whois) = form.text(&var("whois")) {
        r.whois = match whois {
            "anyone" => Whois::Anyone,
            "moderators" => Whois::Moderators,
            _ => return Err(unknown()),
        };
    }
    if let Some(pm) = form.text(&var("allowpm")) {
        r.pm = PM.iter().find(|p| p.0 == pm).map(|p| p.2).ok_or_else(unknown)?;
    }
    for (name, mask) in [("presencebroadcast", &mut r.broadcast_roles), ("getmemberlist", &mut r.list_roles)] {
        if let Some(values) = form.values(&var(name)) {
            *mask = 0;
            for value in values {
                *mask |= ROLES.iter().find(|(name, _)| name == value).ok_or_else(unknown)?.1.bit();
            }
        }
    }
    let number = |text: &str| text.trim().parse::<u32>().map_err(|_| unknown());
    if let Some(users) = form.text(&var("maxusers")) {
        r.users_max = if users == "none" || users.is_empty() { 0 } else { number(users)? };
    }
    let history = form.text(&var("historylength")).or_else(|| form.text("muc#maxhistoryfetch"));
    if let Some(history) = history {
        // More than the server keeps is as much as it keeps.
        r.history_max = number(history)?.min(limits.muc_history_max);
    }
    Ok(r)
}

/// Addresses of a field, as bare ones.
fn accounts(form: &Form, name: &str) -> Result<Option<Vec<String>>, StanzaError> {
    let Some(values) = form.values(&format!("muc#roomconfig_{name}")) else { return Ok(None) };
    let mut out = Vec::new();
    for value in values.iter().filter(|v| !v.trim().is_empty()) {
        let jid = Jid::parse(value.trim()).map_err(|_| StanzaError::from(Condition::JidMalformed))?;
        out.push(jid.bare_str().to_string());
    }
    Ok(Some(out))
}

/// Configures the room (section 10.2), and opens it if it was new (section 10.1).
///
/// # Errors
/// As [`read_config`]; when storage cannot be read.
pub fn submit(
    core: &mut Core,
    room: &mut Room,
    form: &Form,
    answer: impl FnOnce(&mut Core),
) -> Result<(), StanzaError> {
    let new = read_config(form, &room.record, &core.settings.limits)?;
    let archived = archive::wish(core, form)?;
    let mut changes = Vec::new();
    let (admins, owners) = (accounts(form, "roomadmins")?, accounts(form, "roomowners")?);
    let lists = [(Affiliation::Admin, admins), (Affiliation::Owner, owners)];
    let all = store::standings(core, &room.jid)?;
    for (affiliation, list) in lists {
        let Some(list) = list else { continue };
        if affiliation == Affiliation::Owner && list.is_empty() {
            return Err(Condition::Conflict.because("A room keeps one owner at least."));
        }
        for (account, standing) in &all {
            if standing.affiliation == affiliation && !list.contains(account) {
                changes.push((account.clone(), Affiliation::Member));
            }
        }
        for account in list {
            let is = |(a, s): &(String, store::Standing)| *a == account && s.affiliation == affiliation;
            if !all.iter().any(is) {
                changes.retain(|(a, _)| *a != account);
                changes.push((account, affiliation));
            }
        }
    }
    let is_made_owner = |account: &String| changes.iter().any(|c| c.0 == *account && c.1 == Affiliation::Owner);
    let is_changed = |account: &String| changes.iter().any(|c| c.0 == *account);
    let stays = |(a, s): &(String, store::Standing)| s.affiliation == Affiliation::Owner && !is_changed(a);
    if !all.iter().any(stays) && !changes.iter().any(|(account, _)| is_made_owner(account)) {
        return Err(Condition::Conflict.because("A room keeps one owner at least."));
    }
    store::may_add(core, &room.jid, changes.iter().map(|(account, affiliation)| (account.as_str(), *affiliation)))?;
    for (account, affiliation) in &changes {
        admin::store_affiliation(core, room, account, *affiliation, None, None)?;
    }
    let logged = archive::configure(core, &room.jid, archived)?;
    let old = std::mem::replace(&mut room.record, new);
    room.record.locked = false;
    room.save(core);
    answer(core);
    for (account, affiliation) in &changes {
        presence::affiliation_changed(core, room, account, *affiliation, Show::default())?;
    }
    // Section 10.2.1: 104 is for any other change.
    let mut codes = Vec::new();
    if !changes.is_empty() || (RoomRecord { whois: old.whois, ..room.record.clone() }) != old {
        codes.push("104");
    }
    codes.extend(logged);
    if old.whois != room.record.whois {
        codes.push(if room.record.whois == Whois::Anyone { "172" } else { "173" });
    }
    if !old.locked && !codes.is_empty() {
        room.notify(core, |_, _| true, |b| codes.iter().for_each(|code| status(b, code)));
    }
    apply(core, room, &old);
    Ok(())
}

/// What a changed configuration means for those who are in the room.
fn apply(core: &mut Core, room: &mut Room, old: &RoomRecord) {
    let now = room.record.clone();
    let nicks: Vec<_> = room.occupants.iter().map(|(nick, o)| (nick.clone(), o.affiliation, o.role)).collect();
    for (nick, affiliation, role) in nicks {
        if now.members_only && !old.members_only && affiliation == Affiliation::None {
            presence::remove(core, room, &nick, Show { codes: &["322"], ..Show::default() });
        } else if old.moderated && !now.moderated && role == Role::Visitor {
            presence::set_role(core, room, &nick, Role::Participant, Show::default());
        }
    }
}

/// Ends the room (section 10.9).
///
/// # Errors
/// When storage cannot be read.
pub fn destroy(
    core: &mut Core,
    room: &mut Room,
    destroy: Option<ElementRef<'_>>,
    answer: impl FnOnce(&mut Core),
) -> Result<(), StanzaError> {
    let jid = match destroy.and_then(|d| d.attr("jid")).map(Jid::parse) {
        Some(Err(_)) => return Err(Condition::JidMalformed.into()),
        Some(Ok(jid)) => Some(jid),
        None => None,
    };
    let child = |name| destroy.and_then(|d| d.child(ns::MUC_OWNER, name)).map(|c| c.text());
    let (reason, password) = (child("reason"), child("password"));
    store::forget(core, &room.jid, &room.record)?;
    room.wrote(core);
    answer(core);
    presence::destroyed(core, room, |b| {
        b.open(ns::MUC_USER, "destroy");
        if let Some(jid) = &jid {
            b.attr("jid", jid.as_str());
        }
        for (name, text) in [("reason", &reason), ("password", &password)] {
            if let Some(text) = text {
                b.leaf(ns::MUC_USER, name, text);
            }
        }
        b.close();
    });
    Ok(())
}

//! Service administration (XEP-0133): numbers and lists of users, announcements, administrators, the end of the
//! process; sections 4.13 to 4.23 and 4.29 to 4.31.

use crate::core::accounts::AccountIndex;
use crate::core::commands::{Act, Call, Field, Kind, Offer, Whom, bad_payload, note};
use crate::core::session::Session;
use crate::core::{Answer, Core};
use crate::jid::Jid;
use crate::stanza::{Condition, Stanza, StanzaError, form};
use crate::storage::StoreError;
use crate::xml::{ElementRef, ns};
use std::collections::BTreeSet;

const REGISTERED_NUM: &str = "http://jabber.org/protocol/admin#get-registered-users-num";
const ONLINE_NUM: &str = "http://jabber.org/protocol/admin#get-online-users-num";
const ACTIVE_NUM: &str = "http://jabber.org/protocol/admin#get-active-users-num";
const IDLE_NUM: &str = "http://jabber.org/protocol/admin#get-idle-users-num";
const REGISTERED: &str = "http://jabber.org/protocol/admin#get-registered-users-list";
const ONLINE: &str = "http://jabber.org/protocol/admin#get-online-users-list";
// The text of sections 4.21 and 4.22 has these two names.
const ACTIVE: &str = "http://jabber.org/protocol/admin#get-active-users";
const IDLE: &str = "http://jabber.org/protocol/admin#get-idle-users";
const ANNOUNCE: &str = "http://jabber.org/protocol/admin#announce";
const ADMINS: &str = "http://jabber.org/protocol/admin#edit-admin";
const RESTART: &str = "http://jabber.org/protocol/admin#restart";
const SHUTDOWN: &str = "http://jabber.org/protocol/admin#shutdown";

const MAX_ITEMS: Field = Field {
    var: "max_items",
    kind: Kind::Choice(&[
        ("25", "25"),
        ("50", "50"),
        ("75", "75"),
        ("100", "100"),
        ("150", "150"),
        ("200", "200"),
        ("none", "All"),
    ]),
    label: "How many at most",
    is_required: false,
};
const TEXT: Field = Field { var: "announcement", kind: Kind::Lines, label: "Announcement", is_required: true };
const DELAY: Field = Field {
    var: "delay",
    kind: Kind::Choice(&[
        ("30", "30 seconds"),
        ("60", "60 seconds"),
        ("90", "90 seconds"),
        ("120", "2 minutes"),
        ("180", "3 minutes"),
        ("240", "4 minutes"),
        ("300", "5 minutes"),
    ]),
    label: "In how much time; at once if nothing is said",
    is_required: false,
};
const PARTING: Field = Field { is_required: false, ..TEXT };
const ADMIN_JIDS: Field =
    Field { var: "adminjids", kind: Kind::Addresses, label: "Administrators", is_required: false };

const fn offer(node: &'static str, name: &'static str, fields: &'static [Field]) -> Offer {
    Offer { node, name, whom: Whom::Admins, form_type: ns::ADMIN, fields, is_prefilled: false }
}

/// The commands.
pub const OFFERS: [Offer; 12] = [
    offer(REGISTERED_NUM, "Get the number of registered users", &[]),
    offer(ONLINE_NUM, "Get the number of online users", &[]),
    offer(ACTIVE_NUM, "Get the number of active users", &[]),
    offer(IDLE_NUM, "Get the number of idle users", &[]),
    offer(REGISTERED, "List registered users", &[MAX_ITEMS]),
    offer(ONLINE, "List online users", &[MAX_ITEMS]),
    offer(ACTIVE, "List active users", &[MAX_ITEMS]),
    offer(IDLE, "List idle users", &[MAX_ITEMS]),
    offer(ANNOUNCE, "Send an announcement to online users", &[TEXT]),
    Offer { is_prefilled: true, ..offer(ADMINS, "Edit the list of administrators", &[ADMIN_JIDS]) },
    offer(RESTART, "Restart the server", &[DELAY, PARTING]),
    offer(SHUTDOWN, "Shut the server down", &[DELAY, PARTING]),
];

/// Does one of them.
///
/// # Errors
/// Those of section 5.
pub fn run(core: &mut Core, call: &Call) -> Result<Answer, StanzaError> {
    let host = call.host.domain().to_string();
    match call.offer.node {
        REGISTERED_NUM => {
            let number = core.view.count::<AccountIndex>(&host)?;
            Ok(number_of(call, "registeredusersnum", number))
        }
        ONLINE_NUM => Ok(number_of(call, "onlineusersnum", online(core, &host).len())),
        ACTIVE_NUM => Ok(number_of(call, "activeusersnum", active(core, &host).len())),
        IDLE_NUM => Ok(number_of(call, "idleusersnum", idle(core, &host).len())),
        REGISTERED => {
            let users = core.account_list(&host)?;
            let users = users.into_iter().map(|user| format!("{user}@{host}"));
            Ok(list(core, call, "registereduserjids", users))
        }
        ONLINE => {
            let users = online(core, &host);
            Ok(list(core, call, "onlineuserjids", users.into_iter()))
        }
        ACTIVE => {
            let users = active(core, &host);
            Ok(list(core, call, "activeuserjids", users.into_iter()))
        }
        // No other name is registered for the field.
        IDLE => {
            let users = idle(core, &host);
            Ok(list(core, call, "activeuserjids", users.into_iter()))
        }
        ANNOUNCE => {
            let number = core.announce(&[host], &call.lines("announcement"));
            Ok(call.done(&format!("{number} clients are told")))
        }
        ADMINS => admins(core, call),
        RESTART => stop(core, call, true),
        SHUTDOWN => stop(core, call, false),
        _ => Ok(Answer::NotMine),
    }
}

fn number_of(call: &Call, var: &str, number: usize) -> Answer {
    call.result(ns::ADMIN, &[(var, "text-single", vec![number.to_string()])])
}

/// Accounts of a host with such a session, in order.
fn with_session(core: &Core, host: &str, is_such: impl Fn(&Session) -> bool) -> BTreeSet<String> {
    let ids = core.sessions.ids();
    let sessions = ids.into_iter().filter_map(|id| core.sessions.get(id));
    let such = sessions.filter(|session| session.jid.domain() == host && is_such(session));
    such.map(|session| session.jid.bare_str().to_string()).collect()
}

/// Section 4.15: who has a session, be it one that waits for its connection.
fn online(core: &Core, host: &str) -> BTreeSet<String> {
    with_session(core, host, |_| true)
}

/// Section 4.16: somebody looks at his client, as far as that has said: it is connected, it is available and not away,
/// and it is not inactive (XEP-0352).
fn active(core: &Core, host: &str) -> BTreeSet<String> {
    let is_away = |presence: &Stanza| {
        let show = presence.child(ns::CLIENT, "show").map(ElementRef::text).unwrap_or_default();
        matches!(show.trim(), "away" | "xa")
    };
    with_session(core, host, |session| {
        let is_here = session.available.as_ref().is_some_and(|available| !is_away(&available.stanza));
        is_here && session.conn.is_some() && !session.inactive
    })
}

/// Section 4.17: who is online and not active.
fn idle(core: &Core, host: &str) -> BTreeSet<String> {
    let active = active(core, host);
    online(core, host).into_iter().filter(|user| !active.contains(user)).collect()
}

/// As many as were asked for, and no more than `limits.command_items_max`; a note says what is left out.
fn list(core: &Core, call: &Call, var: &str, users: impl Iterator<Item = String>) -> Answer {
    let wanted = call.text("max_items").parse().unwrap_or(usize::MAX);
    let max = wanted.min(core.settings.limits.command_items_max as usize);
    let mut users = users;
    let shown: Vec<String> = users.by_ref().take(max).collect();
    let left = users.count();
    Answer::Result(call.run.completed(|b| {
        form::open(b, "result", ns::ADMIN);
        let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
        form::field(b, var, "jid-multi", "", &[], &shown);
        b.close();
        if left > 0 {
            note(b, "warn", &format!("{left} more are not shown."));
        }
    }))
}

/// Section 4.29. Those whom the configuration names stay what they are; nobody takes away his own right.
fn admins(core: &mut Core, call: &Call) -> Result<Answer, StanzaError> {
    let (host, now) = (call.host.domain(), core.admins(call.host.domain())?);
    if call.is_question {
        let names = now.iter().map(Jid::to_string).collect();
        return Ok(call.form(&[("adminjids", names)]));
    }
    let is_configured = |core: &Core, jid: &Jid| core.settings.admins.iter().any(|admin| admin.same_bare(jid));
    let mut wanted = Vec::new();
    for text in call.all("adminjids") {
        let jid = Jid::parse(text).map_err(|_| bad_payload("A field is no address."))?.bare();
        if !is_configured(core, &jid) {
            wanted.push(call.account(jid.as_str())?);
        }
    }
    if let Some(missing) = first_missing(core, &wanted)? {
        log::info!(target: "couplet::commands", "{missing} is not there and becomes no administrator");
        return Err(Condition::ItemNotFound.because("There is no such account."));
    }
    let taken: Vec<&Jid> = now.iter().filter(|jid| !is_configured(core, jid) && !wanted.contains(jid)).collect();
    if taken.iter().any(|jid| jid.same_bare(&call.from)) {
        return Err(Condition::NotAllowed.because("Another administrator can take your right away, not you."));
    }
    for jid in &taken {
        core.demote(jid)?;
    }
    let given: Vec<&Jid> = wanted.iter().filter(|jid| !now.contains(jid)).collect();
    for jid in &given {
        core.promote(jid);
    }
    let names = |jids: &[&Jid]| jids.iter().map(|jid| jid.as_str()).collect::<Vec<_>>().join(" ");
    let text = format!("at {host} administrators are now, too: {}; and not any more: {}", names(&given), names(&taken));
    log::info!(target: "couplet::commands", "{}: {text}", call.from);
    Ok(call.done(&format!("{} added, {} removed", given.len(), taken.len())))
}

fn first_missing(core: &mut Core, accounts: &[Jid]) -> Result<Option<Jid>, StoreError> {
    for account in accounts {
        if !core.account_exists(account)? {
            return Ok(Some(account.clone()));
        }
    }
    Ok(None)
}

/// Sections 4.30 and 4.31. The process is that of all hosts, so that an administrator of one cannot end it.
fn stop(core: &mut Core, call: &Call, again: bool) -> Result<Answer, StanzaError> {
    let is_everywhere = core.settings.admins.iter().any(|admin| admin.same_bare(&call.from));
    let hosts = core.settings.hosts.clone();
    if !is_everywhere && hosts.len() > 1 {
        return Err(Condition::Forbidden.because("This server has other hosts, of which you are no administrator."));
    }
    let text = call.lines("announcement");
    if !text.trim().is_empty() {
        core.announce(&hosts, &text);
    }
    let delay_s = call.text("delay").parse().unwrap_or(0);
    Ok(call.act(core, Act::Stop { again, delay_s }))
}

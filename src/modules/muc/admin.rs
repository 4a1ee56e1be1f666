//! Roles and affiliations: who has them, and changing them (XEP-0045 sections 8 to 10).

use super::message;
use super::presence::{self, Show};
use super::room::{Affiliation, Role, Room, Whois};
use super::store::{self, Standing};
use crate::core::{Answer, Core};
use crate::jid::Jid;
use crate::stanza::{Condition, StanzaError};
use crate::xml::{Builder, ElementRef, ns};
use std::rc::Rc;

/// Who asks.
#[derive(Clone, Debug)]
pub struct Actor {
    /// Bare address.
    pub account: Jid,
    /// As stored.
    pub affiliation: Affiliation,
    /// Of the session that asks; none when it is not in the room.
    pub role: Role,
    /// Its nickname, when it is in the room.
    pub nick: Option<Rc<str>>,
}

impl Actor {
    /// Looks up who a session is.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn of(core: &mut Core, room: &Room, from: &Jid) -> Result<Self, StanzaError> {
        let account = from.bare();
        let affiliation = store::affiliation(core, &room.jid, account.as_str())?;
        let (nick, role) = match room.who(from) {
            Some((nick, occupant)) => (Some(nick), occupant.role),
            None => (None, Role::None),
        };
        Ok(Self { account, affiliation, role, nick })
    }
}

/// A list of roles or affiliations.
///
/// # Errors
/// `forbidden` for those who may not see it.
pub fn get(core: &mut Core, room: &Room, actor: &Actor, query: ElementRef<'_>) -> Result<Answer, StanzaError> {
    let mut items = query.children().filter(|c| c.is(ns::MUC_ADMIN, "item"));
    let (Some(item), None) = (items.next(), items.next()) else {
        return Err(Condition::BadRequest.because("One list is asked for at a time."));
    };
    let mut b = Builder::new(ns::MUC_ADMIN, "query");
    match (item.attr("affiliation").map(Affiliation::parse), item.attr("role").map(Role::parse)) {
        (Some(Some(wanted)), None) if wanted != Affiliation::None => {
            if !may_list(room, actor, wanted) {
                return Err(Condition::Forbidden.into());
            }
            for (account, standing) in store::standings(core, &room.jid)? {
                if standing.affiliation == wanted {
                    b.open(ns::MUC_ADMIN, "item").attr("affiliation", wanted.as_str()).attr("jid", &account);
                    if !standing.nick.is_empty() {
                        b.attr("nick", &standing.nick);
                    }
                    if !standing.reason.is_empty() {
                        b.leaf(ns::MUC_ADMIN, "reason", &standing.reason);
                    }
                    b.close();
                }
            }
        }
        (None, Some(Some(wanted))) if wanted != Role::None => {
            // Sections 8.5 and 9.8.
            let may = match wanted {
                Role::Moderator => actor.affiliation >= Affiliation::Admin,
                _ => actor.role == Role::Moderator,
            };
            if !may {
                return Err(Condition::Forbidden.into());
            }
            for (nick, occupant) in room.occupants.iter().filter(|(_, o)| o.role == wanted) {
                for seat in &occupant.seats {
                    b.open(ns::MUC_ADMIN, "item").attr("affiliation", occupant.affiliation.as_str());
                    b.attr("role", wanted.as_str()).attr("nick", nick).attr("jid", seat.jid.as_str()).close();
                }
            }
        }
        _ => return Err(Condition::BadRequest.because("Name one role or one affiliation.")),
    }
    Ok(Answer::Result(b.finish()))
}

/// Sections 9.2, 9.5, 10.5 and 10.8. Where everybody sees addresses, those who belong to the room may know who does:
/// encryption needs it. Nobody else learns anything.
fn may_list(room: &Room, actor: &Actor, wanted: Affiliation) -> bool {
    let belongs = actor.role > Role::None || actor.affiliation >= Affiliation::Member;
    let role = if actor.affiliation >= Affiliation::Admin { Role::Moderator } else { actor.role };
    match wanted {
        Affiliation::Outcast => actor.affiliation >= Affiliation::Admin,
        _ if belongs && room.record.whois == Whois::Anyone => true,
        Affiliation::Member => {
            actor.affiliation >= Affiliation::Admin
                || (belongs && room.record.list_roles & role.bit() != 0)
        }
        _ => actor.affiliation == Affiliation::Owner,
    }
}

/// One change that somebody asks for.
enum Change {
    Role { nick: String, role: Role },
    Affiliation { account: String, affiliation: Affiliation, nick: Option<String> },
}

/// Changes roles and affiliations: all that are asked for, or none.
///
/// # Errors
/// The error of the section that forbids it.
pub fn set(
    core: &mut Core,
    room: &mut Room,
    actor: &Actor,
    query: ElementRef<'_>,
    answer: impl FnOnce(&mut Core),
) -> Result<(), StanzaError> {
    let mut changes = Vec::new();
    for item in query.children().filter(|c| c.is(ns::MUC_ADMIN, "item")) {
        let reason = item.child(ns::MUC_ADMIN, "reason").map(|r| r.text()).filter(|r| !r.is_empty());
        let too_long = |r: &String| r.len() > core.settings.limits.muc_subject_bytes_max as usize;
        if reason.as_ref().is_some_and(too_long) {
            return Err(Condition::NotAcceptable.because("The reason is too long."));
        }
        changes.push((read(room, item)?, reason));
    }
    if changes.is_empty() {
        return Err(Condition::BadRequest.because("The request changes nothing."));
    }
    check(core, room, actor, &changes)?;
    let named = changes.iter().filter_map(|(change, _)| match change {
        Change::Affiliation { account, affiliation, .. } => Some((account.as_str(), *affiliation)),
        Change::Role { .. } => None,
    });
    store::may_add(core, &room.jid, named)?;
    for (change, reason) in &changes {
        if let Change::Affiliation { account, affiliation, nick } = change {
            store_affiliation(core, room, account, *affiliation, nick.as_deref(), reason.as_deref())?;
        }
    }
    if changes.iter().any(|(change, _)| matches!(change, Change::Affiliation { .. })) {
        room.save(core);
    }
    answer(core);
    for (change, reason) in changes {
        let show = Show { actor: actor.nick.as_deref(), reason: reason.as_deref(), ..Show::default() };
        match change {
            Change::Role { nick, role: Role::None } => {
                presence::remove(core, room, &nick, Show { codes: &["307"], ..show });
            }
            Change::Role { nick, role } => presence::set_role(core, room, &nick, role, show),
            Change::Affiliation { account, affiliation, .. } => {
                tell_affiliation(core, room, actor, &account, affiliation, show)?;
            }
        }
    }
    Ok(())
}

fn read(room: &Room, item: ElementRef<'_>) -> Result<Change, StanzaError> {
    let bad = |why| Err(Condition::BadRequest.because(why));
    match (item.attr("role"), item.attr("affiliation")) {
        (Some(role), None) => {
            let Some(role) = Role::parse(role) else { return bad("There is no such role.") };
            let Some(nick) = item.attr("nick") else { return bad("A role is that of a nickname.") };
            let Ok(at) = room.jid.with_resource(nick) else { return Err(Condition::JidMalformed.into()) };
            let nick = at.resource().unwrap_or_default().to_string();
            if !room.occupants.contains_key(nick.as_str()) {
                return Err(Condition::ItemNotFound.because("Nobody in the room has this nickname."));
            }
            Ok(Change::Role { nick, role })
        }
        (None, Some(affiliation)) => {
            let Some(affiliation) = Affiliation::parse(affiliation) else {
                return bad("There is no such affiliation.");
            };
            let nick = item.attr("nick");
            let account = match (item.attr("jid").map(Jid::parse), nick) {
                (Some(Ok(jid)), _) => jid.bare_str().to_string(),
                (Some(Err(_)), _) => return Err(Condition::JidMalformed.into()),
                // Who does not see addresses may still know whom he means.
                (None, Some(nick)) => match room.occupants.get(nick) {
                    Some(occupant) => return Ok(Change::Affiliation {
                        account: occupant.account.to_string(),
                        affiliation,
                        nick: None,
                    }),
                    None => return Err(Condition::ItemNotFound.because("Nobody in the room has this nickname.")),
                },
                (None, None) => return bad("The request names nobody."),
            };
            let nick = nick.and_then(|n| room.jid.with_resource(n).ok()?.resource().map(str::to_string));
            Ok(Change::Affiliation { account, affiliation, nick })
        }
        _ => bad("Name one role or one affiliation."),
    }
}

fn check(
    core: &mut Core,
    room: &Room,
    actor: &Actor,
    changes: &[(Change, Option<String>)],
) -> Result<(), StanzaError> {
    let mut owners_lost = 0;
    for (change, _) in changes {
        match change {
            Change::Role { nick, role } => check_role(room, actor, nick, *role)?,
            Change::Affiliation { account, affiliation, nick } => {
                let before = store::affiliation(core, &room.jid, account)?;
                check_affiliation(actor, account, before, *affiliation)?;
                if before == Affiliation::Owner && *affiliation != Affiliation::Owner {
                    owners_lost += 1;
                }
                if let Some(nick) = nick
                    && store::nick_owner(core, &room.jid, nick)?.is_some_and(|owner| owner != *account)
                {
                    return Err(Condition::Conflict.because("The nickname is registered by somebody else."));
                }
            }
        }
    }
    if owners_lost > 0 {
        let all = store::standings(core, &room.jid)?;
        let owners = all.iter().filter(|(_, s)| s.affiliation == Affiliation::Owner).count();
        if owners <= owners_lost {
            // Section 10.4.
            return Err(Condition::Conflict.because("A room keeps one owner at least."));
        }
    }
    Ok(())
}

/// Who may change whose role (sections 8.2 to 8.4, 9.6, 9.7, and the table of section 5.1.1).
fn check_role(room: &Room, actor: &Actor, nick: &str, role: Role) -> Result<(), StanzaError> {
    let Some(other) = room.occupants.get(nick) else { return Ok(()) };
    if actor.role != Role::Moderator && actor.affiliation < Affiliation::Admin {
        return Err(Condition::Forbidden.because("Only moderators may do that."));
    }
    let is_self = other.account == actor.account;
    let is_equal = other.affiliation == actor.affiliation;
    // Among equals an admin has no power over another, and a member takes no voice from another (section 8.4).
    let least = if role == Role::Visitor { Affiliation::Member } else { Affiliation::Admin };
    let is_above = other.affiliation > actor.affiliation || (is_equal && other.affiliation >= least);
    if is_above && !is_self {
        return Err(Condition::NotAllowed.because("They stand as high as you."));
    }
    if other.affiliation >= Affiliation::Admin && role != Role::None && role != Role::Moderator {
        return Err(Condition::NotAllowed.because("Admins and owners are moderators."));
    }
    if actor.affiliation < Affiliation::Admin && !is_self {
        if role == Role::Moderator {
            return Err(Condition::Forbidden.because("Only admins make moderators."));
        }
        if other.role == Role::Moderator {
            return Err(Condition::NotAllowed.because("They are a moderator, too."));
        }
    }
    Ok(())
}

/// Who may change whose affiliation (sections 9.1, 9.3, 9.4, 10.3 to 10.7).
fn check_affiliation(
    actor: &Actor,
    account: &str,
    before: Affiliation,
    after: Affiliation,
) -> Result<(), StanzaError> {
    if actor.affiliation < Affiliation::Admin {
        return Err(Condition::Forbidden.because("Only admins may do that."));
    }
    if after == Affiliation::Outcast && actor.account.as_str() == account {
        return Err(Condition::Conflict.because("Nobody can ban himself."));
    }
    if actor.affiliation == Affiliation::Owner {
        return Ok(());
    }
    if after >= Affiliation::Admin && before != after {
        return Err(Condition::Forbidden.because("Only owners may do that."));
    }
    let resigns = actor.account.as_str() == account && after < before;
    if before >= Affiliation::Admin && before != after && !resigns {
        return Err(Condition::NotAllowed.because("They stand as high as you."));
    }
    Ok(())
}

/// Writes a changed affiliation; a registered nickname stays with those who belong to the room.
///
/// # Errors
/// When there are too many, or storage cannot be read.
pub fn store_affiliation(
    core: &mut Core,
    room: &Room,
    account: &str,
    affiliation: Affiliation,
    nick: Option<&str>,
    reason: Option<&str>,
) -> Result<(), StanzaError> {
    let before = store::standing(core, &room.jid, account)?;
    let kept = before.map(|s| s.nick).filter(|_| affiliation >= Affiliation::Member);
    let registers = nick.filter(|n| affiliation >= Affiliation::Member && !n.is_empty());
    let max = core.settings.limits.muc_nick_bytes_max as usize;
    let nick = registers.filter(|n| n.len() <= max).map(str::to_string).or(kept).unwrap_or_default();
    let standing = (affiliation != Affiliation::None).then(|| Standing {
        affiliation,
        nick,
        reason: reason.unwrap_or_default().to_string(),
    });
    store::put_standing(core, &room.jid, account, standing)
}

/// Shows a changed affiliation: of an occupant by presence, of others by a message (section 9.3).
fn tell_affiliation(
    core: &mut Core,
    room: &mut Room,
    actor: &Actor,
    account: &str,
    affiliation: Affiliation,
    show: Show<'_>,
) -> Result<(), StanzaError> {
    let now = store::affiliation(core, &room.jid, account)?;
    if !room.nicks_of(account).is_empty() {
        presence::affiliation_changed(core, room, account, now, show)?;
        return Ok(());
    }
    let sees = |_: &str, o: &super::room::Occupant| room.sees_addresses(o.role);
    room.notify(core, sees, |b| {
        b.open(ns::MUC_USER, "item").attr("affiliation", now.as_str()).attr("role", "none").attr("jid", account);
        if let Some(reason) = show.reason {
            b.leaf(ns::MUC_USER, "reason", reason);
        }
        b.close();
    });
    // Section 9.3.
    if room.record.members_only
        && affiliation == Affiliation::Member
        && let Ok(to) = Jid::parse(account)
    {
        message::invite_to(core, room, &to, Some(&actor.account), show.reason, None);
    }
    Ok(())
}

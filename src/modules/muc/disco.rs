//! What a service and its rooms say of themselves (XEP-0045 section 6, XEP-0030, XEP-0059).

use super::admin::Actor;
use super::archive;
use super::form;
use super::hats;
use super::register::REGISTER_FORM;
use super::room::{Affiliation, Room, Whois};
use super::store::{self, Directory};
use crate::core::{Answer, Core};
use crate::jid::Jid;
use crate::stanza::{Condition, StanzaError, rsm};
use crate::xml::{Builder, Element, ElementRef, ns};

/// Section 7.4: what is said keeps the id that its sender has given it.
const STABLE_ID: &str = "http://jabber.org/protocol/muc#stable_id";

/// Section 18.1.1: what a room lets through.
const TRAFFIC: &str = "http://jabber.org/protocol/muc#traffic";

/// Rooms in one answer, where nothing else is asked for.
const PAGE: usize = 200;

/// Who a service is.
pub fn service_info() -> Element {
    let mut b = Builder::new(ns::DISCO_INFO, "query");
    b.open(ns::DISCO_INFO, "identity").attr("category", "conference").attr("type", "text");
    b.attr("name", super::NAME).close();
    let features = [
        ns::MUC,
        STABLE_ID,
        ns::MUC_UNIQUE,
        ns::OCCUPANT_ID,
        ns::DISCO_INFO,
        ns::DISCO_ITEMS,
        ns::PING,
        ns::VCARD,
        ns::RSM,
    ];
    for feature in features {
        b.open(ns::DISCO_INFO, "feature").attr("var", feature).close();
    }
    b.finish()
}

/// Its public rooms, a page at a time.
///
/// # Errors
/// When storage cannot be read; `item-not-found` when the page cannot be found.
pub fn service_items(core: &mut Core, service: &Jid, query: ElementRef<'_>) -> Result<Answer, StanzaError> {
    let rows = core.view.list::<Directory>(service.domain(), usize::MAX)?;
    let public = rows.into_iter().filter(|(_, room)| room.public);
    let rooms: Vec<(String, String)> =
        public.filter_map(|(sub, room)| Some((String::from_utf8(sub).ok()?, room.name))).collect();
    let wish = rsm::Wish::read(query)?;
    let place = |jid: &str| rooms.iter().position(|(room, _)| room == jid);
    let range = match &wish {
        Some(wish) => wish.page(rooms.len(), PAGE, place)?,
        None => 0..PAGE.min(rooms.len()),
    };
    let start = range.start;
    let page = rooms.get(range).unwrap_or_default();
    let mut b = Builder::new(ns::DISCO_ITEMS, "query");
    for (room, name) in page {
        b.open(ns::DISCO_ITEMS, "item").attr("jid", room);
        if !name.is_empty() {
            b.attr("name", name);
        }
        b.close();
    }
    if wish.is_some() || page.len() < rooms.len() {
        let ends = page.first().zip(page.last()).map(|(first, last)| (start, first.0.as_str(), last.0.as_str()));
        rsm::build(&mut b, ends, rooms.len());
    }
    Ok(Answer::Result(b.finish()))
}

/// Who a room is (section 6.4), or which nickname somebody has registered there (section 7.12).
///
/// # Errors
/// `item-not-found` for a node that there is not.
pub fn room_info(
    core: &mut Core,
    room: &Room,
    actor: &Actor,
    query: ElementRef<'_>,
) -> Result<Answer, StanzaError> {
    let r = &room.record;
    let mut b = Builder::new(ns::DISCO_INFO, "query");
    let identity = |b: &mut Builder, name: &str| {
        b.open(ns::DISCO_INFO, "identity").attr("category", "conference").attr("type", "text");
        b.attr("name", name).close();
    };
    match query.attr("node") {
        None | Some("") => {}
        Some(node @ "x-roomuser-item") => {
            b.attr("node", node);
            let nick = store::standing(core, &room.jid, actor.account.as_str())?.map(|s| s.nick);
            if let Some(nick) = nick.filter(|n| !n.is_empty()) {
                identity(&mut b, &nick);
            }
            return Ok(Answer::Result(b.finish()));
        }
        // Everything.
        Some(TRAFFIC) => return Err(Condition::ServiceUnavailable.into()),
        Some(node) => return Ok(Answer::Result(hats::info(room, actor, node)?)),
    }
    identity(&mut b, if r.name.is_empty() { room.jid.node().unwrap_or_default() } else { &r.name });
    let is = |on: bool, yes: &'static str, no: &'static str| if on { yes } else { no };
    let features = [
        ns::MUC,
        STABLE_ID,
        "http://jabber.org/protocol/muc#self-ping-optimization",
        "http://jabber.org/protocol/muc#request",
        ns::OCCUPANT_ID,
        ns::STANZA_ID,
        ns::HATS,
        ns::COMMANDS,
        ns::REGISTER,
        ns::VCARD,
        ns::PING,
        ns::DISCO_INFO,
        ns::DISCO_ITEMS,
        is(r.public, "muc_public", "muc_hidden"),
        is(r.persistent, "muc_persistent", "muc_temporary"),
        is(r.members_only, "muc_membersonly", "muc_open"),
        is(r.moderated, "muc_moderated", "muc_unmoderated"),
        is(r.password.is_empty(), "muc_unsecured", "muc_passwordprotected"),
        is(r.whois == Whois::Anyone, "muc_nonanonymous", "muc_semianonymous"),
        REGISTER_FORM,
    ];
    let archived: &[&str] = if archive::is_on(core, &room.jid)? { archive::FEATURES } else { &[] };
    for feature in features.iter().chain(archived) {
        b.open(ns::DISCO_INFO, "feature").attr("var", feature).close();
    }
    let hats = hats::hash(core, &room.jid)?;
    form::open(&mut b, "result", "http://jabber.org/protocol/muc#roominfo");
    let mut f = |var: &str, kind: &str, label: &str, values: &[&str]| form::field(&mut b, var, kind, label, values);
    let info = |name: &str| format!("muc#roominfo_{name}");
    let (count, history) = (room.occupants.len().to_string(), r.history_max.to_string());
    f(&info("description"), "text-single", "Description", &[&r.description]);
    f(&info("occupants"), "text-single", "Number of occupants", &[&count]);
    f(&info("lang"), "text-single", "Language of the discussion", &[&r.lang]);
    // The subject is for those who may hear the discussion.
    if actor.affiliation > Affiliation::Outcast && !r.members_only && r.password.is_empty() {
        f(&info("subject"), "text-single", "Subject", &[&r.subject]);
    }
    let flag = if r.subject_by_participants { "1" } else { "0" };
    f(&info("subjectmod"), "boolean", "Participants may change the subject", &[flag]);
    f("muc#maxhistoryfetch", "text-single", "Most messages sent to those who enter", &[&history]);
    if let Some(hash) = &hats {
        f("hats#hash", "text-single", "Changes with the list of hats", &[hash]);
    }
    if !r.avatars.is_empty() {
        let hashes: Vec<&str> = r.avatars.iter().map(String::as_str).collect();
        f(&info("avatarhash"), "text-multi", "Avatar", &hashes);
    }
    b.close();
    Ok(Answer::Result(b.finish()))
}

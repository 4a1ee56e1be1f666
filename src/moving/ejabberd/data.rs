//! What the columns of ejabberd's tables say.

use super::Term;
use crate::core::moving::{ArchivedPiece, NodePiece, Piece, RoomPiece, StandingPiece};
use crate::core::roster;
use crate::jid::Jid;
use crate::moving::{self, fragment};
use crate::setting::Secret;
use crate::stanza::form::Values;
use crate::stanza::{Kind, MessageType, PresenceType, Stanza};
use crate::stream::sasl::ScramKeys;
use crate::xml::ns;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// How a password begins that nobody has, which older versions give to whom they ban.
pub const BANNED_PASSWORD: &str = "BANNED_ACCOUNT--";

/// The namespace of what newer versions put into the private storage of whom they ban, with its name.
pub const BANNED: (&str, &str) = ("jabber:ejabberd:banned", "banned");

/// What a row of `users` says: one for each kind of key.
#[derive(Clone, Debug, Default)]
pub struct Login {
    sha1: Option<ScramKeys>,
    sha256: Option<ScramKeys>,
    password: Option<Secret>,
    /// It is banned.
    pub disabled: bool,
    /// Why there is nothing more of it.
    unknown: bool,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: Option<u64>,
}

impl Login {
    /// Another row. `kind` is 0 in older tables, where the hash is said in the key itself.
    pub fn add(&mut self, kind: i64, password: &str, server_key: &str, salt: &str, iterations: i64) {
        if password.is_empty() {
            return;
        }
        if password.starts_with(BANNED_PASSWORD) {
            self.disabled = true;
            return;
        }
        if kind == 1 || (salt.is_empty() && server_key.is_empty()) {
            self.password = Some(Secret(Zeroizing::new(password.to_string())));
            return;
        }
        let (kind, key) = match (kind, password.split_once(':')) {
            (0, Some(("sha256", key))) => (3, key),
            (0, None) => (2, password),
            (0, Some(_)) => (4, password),
            (kind, _) => (kind, password),
        };
        let bytes = |text: &str| STANDARD.decode(text).ok().filter(|bytes| !bytes.is_empty());
        let (stored_key, server_key, salt) = (bytes(key), bytes(server_key), bytes(salt));
        let iterations = u32::try_from(iterations).ok().filter(|n| *n > 0);
        let keys = match (stored_key, server_key, salt, iterations) {
            (Some(stored_key), Some(server_key), Some(salt), Some(iterations)) => {
                Some(ScramKeys { salt, iterations, stored_key, server_key })
            }
            _ => None,
        };
        let of = |len: usize| keys.filter(|keys| keys.stored_key.len() == len && keys.server_key.len() == len);
        match kind {
            2 => self.sha1 = of(20),
            3 => self.sha256 = of(32),
            _ => {}
        }
        self.unknown |= !matches!((kind, &self.sha1, &self.sha256), (2, Some(_), _) | (3, _, Some(_)));
    }

    /// The account.
    ///
    /// # Errors
    /// When nobody could log in.
    pub fn piece(self) -> Result<Piece, String> {
        let Self { sha1, sha256, password, disabled, unknown, created_ms } = self;
        if unknown && !disabled && sha1.is_none() && sha256.is_none() && password.is_none() {
            return Err("its keys are not whole, or of a hash function that is not known here".to_string());
        }
        // Keys count before a password beside them.
        let password = password.filter(|_| sha1.is_none() && sha256.is_none());
        Ok(Piece::Account { sha1, sha256, password, created_ms, disabled })
    }
}

/// A row of `rosterusers`.
#[derive(Clone, Copy, Debug)]
pub struct Contact<'a> {
    /// Whose address.
    pub jid: &'a str,
    /// What the user calls him.
    pub nick: &'a str,
    /// One letter.
    pub subscription: &'a str,
    /// One letter.
    pub ask: &'a str,
    /// What came with a request that waits.
    pub message: &'a str,
    /// He may see presence without asking.
    pub approved: bool,
}

/// A contact with his groups.
///
/// # Errors
/// When it is none.
pub fn contact(row: Contact<'_>, groups: Vec<String>) -> Result<Piece, String> {
    let jid = Jid::parse(row.jid).map_err(|_| format!("{:?} is no contact", row.jid))?.bare();
    let pending_in = matches!(row.ask, "I" | "B");
    let item = roster::Item {
        name: row.nick.to_string(),
        groups,
        to: matches!(row.subscription, "T" | "B"),
        from: matches!(row.subscription, "F" | "B"),
        ask: matches!(row.ask, "O" | "B" | "S"),
        pending_in,
        approved: row.approved,
        // One that has only asked is shown to nobody.
        listed: row.subscription != "N" || row.ask != "I",
    };
    let request = (pending_in && !row.message.is_empty()).then(|| {
        Box::new(Stanza::build(Kind::Presence(PresenceType::Subscribe), |b| {
            b.leaf(ns::CLIENT, "status", row.message);
        }))
    });
    Ok(Piece::Contact { jid, item, request })
}

/// What ejabberd says to itself of messages that it has archived.
const NOTE: &str = "urn:xmpp:mam:tmp";

/// A message that is kept as XML.
fn message(xml: &str) -> Option<Stanza> {
    let message = fragment(xml, ns::CLIENT).and_then(|element| Stanza::read(element).ok());
    let mut message = message.filter(|message| matches!(message.kind, Kind::Message(_)))?;
    message.retain_children(|child| child.ns() != NOTE);
    Some(message)
}

/// A message of `spool`, which waits since that time in milliseconds since 1970, if it does not say itself.
///
/// # Errors
/// When it is none.
pub fn offline(xml: &str, since_ms: Option<i64>) -> Result<Piece, String> {
    let message = message(xml).ok_or("a message that is none")?;
    let stamp = message.child(ns::DELAY, "delay").and_then(|delay| delay.attr("stamp"));
    let wall_ms = stamp.and_then(crate::clock::datetime_ms).or(since_ms).unwrap_or(0);
    Ok(Piece::Offline { message: Box::new(message), wall_ms })
}

/// A row of `archive`.
#[derive(Clone, Copy, Debug)]
pub struct Archived<'a> {
    /// Microseconds since 1970, by which clients know it, too.
    pub stamp: u64,
    /// Who it is with; in a room who has said it.
    pub peer: &'a str,
    /// In a room: under which name.
    pub nick: &'a str,
    /// The message.
    pub xml: &'a str,
}

/// A message of the archive of an account, or of a room.
///
/// # Errors
/// When it is none.
pub fn archived(owner: &Jid, row: Archived<'_>, is_room: bool) -> Result<Piece, String> {
    let mut message = message(row.xml).ok_or("a message of an archive that is none")?;
    // The id that it has here is not said again.
    message.retain_children(|child| {
        !child.is(ns::STANZA_ID, "stanza-id") || child.attr("by").is_none_or(|by| by != owner.bare_str())
    });
    let with = Jid::parse(row.peer).ok();
    let (id, wall_ms, standing) = (row.stamp.to_string(), row.stamp / 1000, String::new());
    if !is_room {
        let with = with.map(|with| with.bare());
        return Ok(Piece::Archived(Box::new(ArchivedPiece { id, wall_ms, with, standing, message })));
    }
    if message.kind != Kind::Message(MessageType::Groupchat) {
        return Err("a message of a room that is none".to_string());
    }
    let from = match row.nick {
        "" => Some(owner.bare()),
        nick => Jid::from_parts(owner.node(), owner.domain(), Some(nick)).ok(),
    };
    let message = message.addressed(Some(from.ok_or("a message of a room from nobody")?), None);
    Ok(Piece::RoomArchived(Box::new(ArchivedPiece { id, wall_ms, with, standing, message })))
}

/// A field of a node's configuration, from `pubsub_node_option`; none for a value that no form has.
pub fn node_field(name: &str, value: &str) -> Option<Values> {
    Some((format!("pubsub#{name}"), texts(&super::read(value)?)?))
}

/// A value as a form has it.
fn texts(term: &Term) -> Option<Vec<String>> {
    match term {
        Term::List(terms) => terms.iter().map(|term| term.text().map(str::to_string)).collect(),
        Term::Int(n) => Some(vec![n.to_string()]),
        Term::Atom(name) if matches!(name.as_str(), "undefined" | "none") => None,
        term => Some(vec![term.text()?.to_string()]),
    }
}

/// A row of `pubsub_state`: what somebody is for a node.
pub fn node_state(node: &mut NodePiece, owner: &Jid, jid: &str, affiliation: &str, subscriptions: &str) {
    let Ok(jid) = Jid::parse(jid) else { return };
    let affiliation = match affiliation {
        "o" => "owner",
        "p" => "publisher",
        "c" => "publish-only",
        "m" => "member",
        "u" => "outcast",
        _ => "",
    };
    if !affiliation.is_empty() && !jid.same_bare(owner) {
        node.affiliations.push((jid.bare(), affiliation.to_string()));
    }
    let has = |state: &str| subscriptions.split(',').any(|one| one.starts_with(state));
    if has("s:") {
        node.subscribers.push(jid);
    } else if has("p:") {
        node.asked.push(jid);
    }
}

/// A room, from `muc_room`; none for one that ends with its last occupant.
///
/// # Errors
/// What is wrong with it.
pub fn room(opts: &str) -> Result<Option<Piece>, String> {
    let opts = super::read(opts).filter(|opts| matches!(opts, Term::List(_))).ok_or("its options cannot be read")?;
    let is = |name: &str| opts.get(name).is_some_and(|term| term.is("true"));
    if !is("persistent") {
        return Ok(None);
    }
    let text = |name: &str| opts.get(name).and_then(Term::text).unwrap_or_default();
    let mut standings = Vec::new();
    for pair in opts.get("affiliations").map(Term::list).unwrap_or_default() {
        let [who, what] = pair.tuple() else { continue };
        let [node, domain, _] = who.tuple() else { continue };
        let (affiliation, reason) = match what.tuple() {
            [affiliation, reason] => (affiliation.text(), reason.text().unwrap_or_default()),
            _ => (what.text(), ""),
        };
        let node = node.text().filter(|node| !node.is_empty());
        let jid = domain.text().and_then(|domain| Jid::from_parts(node, domain, None).ok());
        if let (Some(jid), Some(affiliation)) = (jid, affiliation) {
            let (affiliation, nick, reason) = (affiliation.to_string(), String::new(), reason.to_string());
            standings.push(StandingPiece { jid, affiliation, nick, reason });
        }
    }
    // In newer versions with a language: {text, <<>>, <<"...">>}.
    let subject = opts.get("subject").map_or("", |subject| match subject {
        Term::List(texts) => texts.first().and_then(|text| text.tuple().last()?.text()).unwrap_or_default(),
        subject => subject.text().unwrap_or_default(),
    });
    let nick = opts.get("subject_author").map_or("", |author| match author.tuple() {
        [nick, ..] => nick.text().unwrap_or_default(),
        [] => author.text().unwrap_or_default(),
    });
    Ok(Some(Piece::Room(Box::new(RoomPiece {
        fields: room_fields(&opts, text("password")),
        standings,
        subject: subject.to_string(),
        subject_nick: nick.to_string(),
        subject_ms: 0,
    }))))
}

/// The configuration under the names of XEP-0045 section 10.2.
fn room_fields(opts: &Term, password: &str) -> Vec<Values> {
    const SAME: [(&str, &str); 9] = [
        ("title", "roomname"),
        ("description", "roomdesc"),
        ("lang", "lang"),
        ("members_only", "membersonly"),
        ("moderated", "moderatedroom"),
        ("public", "publicroom"),
        ("allow_change_subj", "changesubject"),
        ("allow_user_invites", "allowinvites"),
        ("mam", "enablearchiving"),
    ];
    let named = |name: &str, values: Vec<String>| (format!("muc#roomconfig_{name}"), values);
    let one = |name: &str, value: &str| named(name, vec![value.to_string()]);
    let value = |(theirs, ours): &(&str, &str)| Some(named(ours, texts(opts.get(theirs)?)?));
    let mut fields: Vec<Values> = SAME.iter().filter_map(value).collect();
    let is = |name: &str| opts.get(name).is_some_and(|term| term.is("true"));
    if opts.get("anonymous").is_some() {
        fields.push(one("whois", if is("anonymous") { "moderators" } else { "anyone" }));
    }
    if is("password_protected") && !password.is_empty() {
        fields.push(one("passwordprotectedroom", "1"));
        fields.push(one("roomsecret", password));
    }
    let pm = opts.get("allowpm").and_then(Term::text);
    fields.extend(
        pm.filter(|who| ["anyone", "participants", "moderators", "none"].contains(who)).map(|who| one("allowpm", who)),
    );
    if let Some(Term::Int(max)) = opts.get("max_users") {
        fields.push(one("maxusers", &max.to_string()));
    }
    if let Some(Term::List(roles)) = opts.get("presence_broadcast") {
        let roles = roles.iter().filter_map(|role| role.text().map(str::to_string));
        fields.push(named("presencebroadcast", roles.collect()));
    }
    fields
}

/// A row of `archive_prefs`, with addresses as tuples of their three parts.
///
/// # Errors
/// When they cannot be read.
pub fn archive_prefs(default: &str, always: &str, never: &str) -> Result<Piece, String> {
    let [always, never] = [always, never].map(|text| {
        let jid = |term: &Term| {
            let [node, domain, resource] = term.tuple() else { return None };
            let part = |term: &Term| term.text().filter(|text| !text.is_empty()).map(str::to_string);
            Jid::from_parts(part(node).as_deref(), domain.text()?, part(resource).as_deref()).ok()
        };
        super::read(text).and_then(|list| list.list().iter().map(jid).collect::<Option<Vec<Jid>>>())
    });
    let (Some(always), Some(never)) = (always, never) else { return Err("addresses that cannot be read".to_string()) };
    Ok(moving::archive_prefs(Some(default), always.iter().map(Jid::as_str), never.iter().map(Jid::as_str)))
}

/// A row of `push_session`.
///
/// # Errors
/// When it is none.
pub fn push(service: &str, node: &str, options: &str) -> Result<Piece, String> {
    let jid = Jid::parse(service).map_err(|_| format!("{service:?} is no push service"))?;
    Ok(Piece::Push { jid, node: node.to_string(), options: fragment(options, ns::DATA) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_all_times_are_read() {
        let key = |len: usize| STANDARD.encode(vec![7; len]);
        let piece = |rows: &[(i64, &str, usize)]| {
            let mut login = Login::default();
            for (kind, prefix, len) in rows {
                login.add(*kind, &format!("{prefix}{}", key(*len)), &key(*len), &key(16), 4096);
            }
            login.piece()
        };
        let has = |rows: &[(i64, &str, usize)]| match piece(rows) {
            Ok(Piece::Account { sha1, sha256, .. }) => (sha1.is_some(), sha256.is_some()),
            other => panic!("{other:?}"),
        };
        assert_eq!(has(&[(0, "", 20)]), (true, false));
        assert_eq!(has(&[(0, "sha256:", 32)]), (false, true));
        assert_eq!(has(&[(2, "", 20), (3, "", 32), (4, "", 64)]), (true, true));
        assert!(piece(&[(0, "sha512:", 64)]).is_err() && piece(&[(4, "", 64)]).is_err());
        assert!(piece(&[(0, "", 19)]).is_err());
        let mut login = Login::default();
        login.add(0, "pencil", "", "", 0);
        assert!(matches!(login.piece(), Ok(Piece::Account { password: Some(_), .. })));
    }

    #[test]
    fn rooms_of_all_times_are_read() {
        let room = |text: &str| match room(text) {
            Ok(Some(Piece::Room(room))) => *room,
            other => panic!("{other:?}"),
        };
        let new = room(
            r#"[{title,<<"The orchard">>},{persistent,true},{anonymous,false},{password_protected,true},{public,false},
                {password,<<"sesame">>},{affiliations,[{{<<"romeo">>,<<"localhost">>,<<>>},{owner,<<>>}},
                {{<<>>,<<"bad.example">>,<<>>},{outcast,<<"spam">>}}]},{subject,[{text,<<>>,<<"But soft">>}]},
                {subject_author,{<<"R">>,{jid,<<"romeo">>,<<"localhost">>,<<"r">>}}},{max_users,200},{lang,<<>>},
                {presence_broadcast,[moderator,participant]}]"#,
        );
        assert_eq!((new.subject.as_str(), new.subject_nick.as_str(), new.standings.len()), ("But soft", "R", 2));
        let field = |name: &str| new.fields.iter().find(|(var, _)| *var == format!("muc#roomconfig_{name}")).unwrap();
        assert_eq!(field("roomname").1, ["The orchard"]);
        assert_eq!((&*field("whois").1, &*field("roomsecret").1), (&["anyone".into()][..], &["sesame".into()][..]));
        assert_eq!(field("presencebroadcast").1, ["moderator", "participant"]);
        let old = room(
            r#"[{persistent,true},{subject,<<"S">>},{subject_author,<<"N">>},
                {affiliations,[{{<<"a">>,<<"b">>,<<>>},member}]}]"#,
        );
        assert_eq!((old.subject.as_str(), old.standings[0].affiliation.as_str()), ("S", "member"));
        assert!(matches!(super::room("[{persistent,false}]"), Ok(None)));
        assert!(super::room("{persistent,true}").is_err());
    }
}

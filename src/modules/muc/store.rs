//! What a room keeps in the store. Its owner there is the room's address.

use super::room::{Affiliation, Pm, Whois};
use crate::core::Core;
use crate::jid::Jid;
use crate::stanza::{Condition, StanzaError};
use crate::storage::{StoreError, Table};

crate::record! {
    /// A room: its configuration and its subject.
    pub struct RoomRecord {
        /// For people; empty means the localpart of its address.
        pub name: String,
        /// For people.
        pub description: String,
        /// Language tag of the discussion.
        pub lang: String,
        /// It stays when the last occupant has left.
        pub persistent: bool,
        /// It is listed by its service.
        pub public: bool,
        /// Only those with an affiliation may enter.
        pub members_only: bool,
        /// Newcomers without an affiliation have no voice.
        pub moderated: bool,
        /// Empty for none.
        pub password: String,
        /// Who sees real addresses.
        pub whois: Whois,
        /// Participants may change the subject.
        pub subject_by_participants: bool,
        /// Members may invite to a members-only room.
        pub invites_by_members: bool,
        /// Who may send private messages.
        pub pm: Pm,
        /// Roles whose presence is broadcast: bit 0 moderator, 1 participant, 2 visitor.
        pub broadcast_roles: u16,
        /// Roles that may have the lists of affiliations, in the same bits.
        pub list_roles: u16,
        /// 0 for the limit of the server.
        pub users_max: u32,
        /// Messages that it keeps for those who join.
        pub history_max: u32,
        /// Makes occupant ids (XEP-0421).
        pub secret: Vec<u8>,
        /// It waits for its owner to configure it (XEP-0045 section 10.1).
        pub locked: bool,
        /// Who made it, as a bare address.
        pub creator: String,
        /// Empty for none.
        pub subject: String,
        /// Nickname of who set it; empty when nobody has.
        pub subject_nick: String,
        /// Occupant id of who set it.
        pub subject_id: String,
        /// When, in milliseconds since 1970.
        pub subject_ms: u64,
        /// Hashes of the avatars in its vCard (XEP-0486).
        pub avatars: Vec<String>,
    }
    /// The standing of an account in a room.
    pub struct Standing {
        /// Never none.
        pub affiliation: Affiliation,
        /// Registered nickname; empty for none.
        pub nick: String,
        /// Why, as it was said when it was given; empty for no reason.
        pub reason: String,
    }
    /// A message in the history of a room.
    pub struct Line {
        /// From whom and with its stamp, without addressee.
        pub xml: String,
        /// When it was sent, in milliseconds since 1970.
        pub wall_ms: u64,
    }
    /// A hat (XEP-0317).
    pub struct HatRecord {
        /// For people.
        pub title: String,
        /// Its colour as an angle; empty for none.
        pub hue: String,
    }
    /// Somebody with hats.
    pub struct Wearer {
        /// Their URIs, never none.
        pub uris: Vec<String>,
    }
    /// What owners have said of the archive of a room.
    pub struct Archived {
        /// Whether what is said there is archived (XEP-0313).
        pub on: bool,
    }
    /// A text.
    pub struct Text {
        /// The text.
        pub text: String,
    }
    /// A room of a service.
    pub struct Listed {
        /// It is shown to everybody.
        pub public: bool,
        /// For people.
        pub name: String,
    }
    /// A room in which an account has an affiliation.
    pub struct Tie {
        /// The account has made it.
        pub created: bool,
    }
}

/// Owner: the room. One row, no sub key.
pub struct Rooms;
impl Table for Rooms {
    const ID: u8 = 48;
    const NAME: &'static str = "rooms";
    type Value = RoomRecord;
}

/// Owner: the room. Sub key: the bare address.
pub struct Standings;
impl Table for Standings {
    const ID: u8 = 49;
    const NAME: &'static str = "room-affiliations";
    type Value = Standing;
}

/// Owner: the room. Sub key: a registered nickname. Value: whose it is, as a bare address.
pub struct Nicks;
impl Table for Nicks {
    const ID: u8 = 50;
    const NAME: &'static str = "room-nicks";
    type Value = Text;
}

/// Owner: the room. Sub key: a number that grows, eight bytes, big endian.
pub struct History;
impl Table for History {
    const ID: u8 = 51;
    const NAME: &'static str = "room-history";
    type Value = Line;
}

/// Owner: the room. One row, no sub key: its vCard as XML.
pub struct Cards;
impl Table for Cards {
    const ID: u8 = 52;
    const NAME: &'static str = "room-vcards";
    type Value = Text;
}

/// Owner: the service. Sub key: the room.
pub struct Directory;
impl Table for Directory {
    const ID: u8 = 53;
    const NAME: &'static str = "rooms-of-service";
    type Value = Listed;
}

/// Owner: the account. Sub key: the room.
pub struct Ties;
impl Table for Ties {
    const ID: u8 = 54;
    const NAME: &'static str = "rooms-of-account";
    const MARKS: Option<fn(&Tie) -> u8> = Some(|tie| tie.created.into());
    type Value = Tie;
}

/// Owner: the room. Sub key: the URI of a hat.
pub struct Hats;
impl Table for Hats {
    const ID: u8 = 55;
    const NAME: &'static str = "room-hats";
    type Value = HatRecord;
}

/// Owner: the room. Sub key: the bare address of who has hats.
pub struct Wearers;
impl Table for Wearers {
    const ID: u8 = 56;
    const NAME: &'static str = "room-hat-wearers";
    type Value = Wearer;
}

/// Owner: the room. One row, no sub key; none where its owners have said nothing.
pub struct Archiving;
impl Table for Archiving {
    const ID: u8 = 58;
    const NAME: &'static str = "room-archiving";
    const SPARSE: bool = true;
    type Value = Archived;
}

/// Writes the record of a room, and what its service and its creator know of it.
pub fn put(core: &mut Core, room: &Jid, record: &RoomRecord) {
    core.view.put::<Rooms>(room.as_str(), b"", record);
    let listed = Listed { public: record.public && !record.locked, name: record.name.clone() };
    core.view.put::<Directory>(room.domain(), room.as_str().as_bytes(), &listed);
}

/// Refuses a room more than the limits allow.
///
/// # Errors
/// `resource-constraint`, or when storage cannot be read.
pub fn may_create(core: &mut Core, room: &Jid, account: &str) -> Result<(), StanzaError> {
    let max = core.settings.limits.muc_rooms_per_account_max as usize;
    if core.view.marked::<Ties>(account)?.len() >= max {
        return Err(Condition::ResourceConstraint.because("You have created too many rooms."));
    }
    if core.view.count::<Directory>(room.domain())? >= core.settings.limits.muc_rooms_max as usize {
        return Err(Condition::ResourceConstraint.because("The service has too many rooms."));
    }
    Ok(())
}

/// What an account is in a room.
///
/// # Errors
/// When storage cannot be read.
pub fn standing(core: &mut Core, room: &Jid, account: &str) -> Result<Option<Standing>, StoreError> {
    core.view.get::<Standings>(room.as_str(), account.as_bytes())
}

/// The affiliation of an account; admins of the server own every room.
///
/// # Errors
/// When storage cannot be read.
pub fn affiliation(core: &mut Core, room: &Jid, account: &str) -> Result<Affiliation, StoreError> {
    if let Ok(jid) = Jid::parse(account)
        && core.is_admin(&jid)?
    {
        return Ok(Affiliation::Owner);
    }
    if let Some(standing) = standing(core, room, account)? {
        return Ok(standing.affiliation);
    }
    // A whole domain can be banned (section 9.2), and no more than that.
    let Some((_, domain)) = account.split_once('@') else { return Ok(Affiliation::None) };
    let theirs = standing(core, room, domain)?.map(|s| s.affiliation);
    Ok(theirs.filter(|a| *a == Affiliation::Outcast).unwrap_or(Affiliation::None))
}

/// Gives an account its standing in a room; none takes it away, its registered nickname with it.
///
/// # Errors
/// When there are too many, or storage cannot be read.
pub fn put_standing(core: &mut Core, room: &Jid, account: &str, new: Option<Standing>) -> Result<(), StanzaError> {
    let before = standing(core, room, account)?;
    let nick = new.as_ref().map_or("", |s| s.nick.as_str());
    if let Some(old) = before.as_ref().filter(|s| !s.nick.is_empty() && s.nick != nick) {
        core.view.delete::<Nicks>(room.as_str(), old.nick.as_bytes());
    }
    let tie = core.view.get::<Ties>(account, room.as_str().as_bytes())?;
    match new {
        Some(standing) => {
            if before.is_none() {
                may_add(core, room, [(account, standing.affiliation)].into_iter())?;
            }
            if !standing.nick.is_empty() {
                let whose = Text { text: account.to_string() };
                core.view.put::<Nicks>(room.as_str(), standing.nick.as_bytes(), &whose);
            }
            core.view.put::<Standings>(room.as_str(), account.as_bytes(), &standing);
            if tie.is_none() {
                core.view.put::<Ties>(account, room.as_str().as_bytes(), &Tie { created: false });
            }
        }
        None => {
            core.view.delete::<Standings>(room.as_str(), account.as_bytes());
            if tie.is_some_and(|tie| !tie.created) {
                core.view.delete::<Ties>(account, room.as_str().as_bytes());
            }
        }
    }
    Ok(())
}

/// Refuses more affiliations than the limit allows.
///
/// # Errors
/// `resource-constraint`, or when storage cannot be read.
pub fn may_add<'a>(
    core: &mut Core,
    room: &Jid,
    named: impl Iterator<Item = (&'a str, Affiliation)>,
) -> Result<(), StanzaError> {
    let mut new = 0;
    for (account, affiliation) in named {
        let is_there = core.view.contains::<Standings>(room.as_str(), account.as_bytes())?;
        new += usize::from(!is_there && affiliation != Affiliation::None);
    }
    let max = core.settings.limits.muc_affiliations_max as usize;
    if new > 0 && core.view.count::<Standings>(room.as_str())? + new > max {
        return Err(Condition::ResourceConstraint.because("The room has too many affiliations."));
    }
    Ok(())
}

/// Everybody with an affiliation, by address.
///
/// # Errors
/// When storage cannot be read.
pub fn standings(core: &mut Core, room: &Jid) -> Result<Vec<(String, Standing)>, StoreError> {
    let rows = core.view.list::<Standings>(room.as_str(), usize::MAX)?;
    Ok(rows.into_iter().filter_map(|(sub, s)| Some((String::from_utf8(sub).ok()?, s))).collect())
}

/// Whose registered nickname it is.
///
/// # Errors
/// When storage cannot be read.
pub fn nick_owner(core: &mut Core, room: &Jid, nick: &str) -> Result<Option<String>, StoreError> {
    Ok(core.view.get::<Nicks>(room.as_str(), nick.as_bytes())?.map(|whose| whose.text))
}

/// Forgets a room.
///
/// # Errors
/// When storage cannot be read.
pub fn forget(core: &mut Core, room: &Jid, record: &RoomRecord) -> Result<(), StoreError> {
    for (account, _) in standings(core, room)? {
        core.view.delete::<Ties>(&account, room.as_str().as_bytes());
    }
    core.view.delete::<Ties>(&record.creator, room.as_str().as_bytes());
    core.delete_owner(room.as_str())?;
    core.view.delete::<Directory>(room.domain(), room.as_str().as_bytes());
    Ok(())
}

//! What is stored: any bytes are a record or none, a record that was read is written in the same way; a backup is
//! whole or refused; and a server starts on whatever rows it finds.

use super::world::{World, settings};
use couplet::core::{accounts, fast, invites, parked, presence, pubsub, roster, spool, vcard};
use couplet::modules::{avatars, blocking, bookmarks, last, private};
use couplet::storage::{Batch, Record, Table, Ticket, backup, codec};

/// Reads a record of that table, and writes and reads it again.
fn record<T: Table>(bytes: &[u8])
where
    T::Value: Record,
{
    let Some(value) = codec::from_bytes::<T::Value>(bytes) else { return };
    let written = codec::to_bytes(&value);
    // An older form becomes the newest one.
    if written.first() == bytes.first() {
        assert_eq!(written, bytes, "a record of {} has two forms", T::NAME);
    }
    let again = codec::from_bytes::<T::Value>(&written).expect("what was written is read");
    assert_eq!(codec::to_bytes(&again), written);
}

const RECORDS: [fn(&[u8]); 21] = [
    record::<accounts::Accounts>,
    record::<accounts::AccountIndex>,
    record::<accounts::Admins>,
    record::<fast::FastTokens>,
    record::<invites::Invites>,
    record::<parked::ParkedSessions>,
    record::<parked::EndedSessions>,
    record::<presence::Requests>,
    record::<pubsub::Affiliations>,
    record::<pubsub::Items>,
    record::<roster::Items>,
    record::<roster::Versions>,
    record::<spool::Rows>,
    record::<vcard::VCards>,
    record::<avatars::AvatarsInForce>,
    record::<blocking::Blocklists>,
    record::<bookmarks::BookmarkLinks>,
    record::<last::Departures>,
    record::<private::Elements>,
    |bytes| {
        if let Ok(summary) = backup::verify(&mut &*bytes) {
            assert_eq!(summary.bytes, bytes.len() as u64);
        }
    },
    rows,
];

/// Owners of rows: an account that is there, nobody, the host, a room.
const OWNERS: [&str; 4] = ["juliet@localhost", "", "localhost", "room@conference.localhost"];

/// Rows that end with 0xFF: owner, table, length of the sub key, sub key, value. A server starts on them, and the
/// accounts that are there log in and ask for what is stored.
fn rows(bytes: &[u8]) {
    let writes = bytes.split(|byte| *byte == 0xFF).filter_map(|row| {
        let (&[owner, table, sub], rest) = row.split_first_chunk()?;
        let owner = OWNERS[usize::from(owner) % OWNERS.len()];
        let (sub, value) = rest.split_at_checked(usize::from(sub) % 32)?;
        Some(([owner.as_bytes(), &[0, table % 64], sub].concat().into(), Some(value.into())))
    });
    let batch = Batch { ticket: Ticket(1), epoch: 0, writes: writes.collect() };
    // It may refuse to, but says so.
    let Ok(mut world) = World::on_rows(batch, settings(|_| ())) else { return };
    let lanes = [0, 1].map(|account| world.log_in(account, "a"));
    for query in [
        "<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>",
        "<iq type='get' id='2'><blocklist xmlns='urn:xmpp:blocking'/></iq>",
        "<iq type='get' id='3'><vCard xmlns='vcard-temp'/></iq>",
        "<iq type='get' id='4'><query xmlns='jabber:iq:private'><a xmlns='b'/></query></iq>",
        "<iq type='get' id='5'><pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='a'/></pubsub></iq>",
        "<iq type='get' id='6' to='juliet@localhost'><query xmlns='jabber:iq:last'/></iq>",
        "<iq type='get' id='7' to='conference.localhost'>\
            <query xmlns='http://jabber.org/protocol/disco#items'/></iq>",
        "<presence to='room@conference.localhost/a'><x xmlns='http://jabber.org/protocol/muc'/></presence>",
        "<iq type='set' id='8'><pubsub xmlns='http://jabber.org/protocol/pubsub'>\
            <publish node='a'><item id='a'><a xmlns='b'/></item></publish></pubsub></iq>",
        "<message to='juliet@localhost' type='chat'><body>a</body></message>",
    ] {
        lanes.iter().for_each(|lane| world.send(*lane, query.as_bytes()));
    }
    world.pass(1_000_000);
    world.shut_down();
}

/// The first byte says what the others are.
pub fn run(data: &[u8]) {
    if let Some((&first, rest)) = data.split_first() {
        RECORDS[usize::from(first) % RECORDS.len()](rest);
    }
}

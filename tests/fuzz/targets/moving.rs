//! What other servers have kept: readers end, whatever they read, and what is read in small pieces is what is read at
//! once.

use couplet::jid::Jid;
use couplet::moving::pie::{Found, Reader, Walker};
use couplet::moving::{ejabberd, json, lua, prosody, sqlite};
use std::io::{self, Cursor, Read};

/// Gives so many bytes at a time.
struct Slow<'a>(&'a [u8], usize);

impl Read for Slow<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = out.len().min(self.1);
        self.0.read(&mut out[..len])
    }
}

/// The first byte says who reads.
pub fn run(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    match first % 6 {
        0 => table(rest),
        1 => assert_eq!(items(rest, 1), items(rest, usize::MAX)),
        2 => database(rest),
        3 => assert_eq!(document(rest, 1), document(rest, usize::MAX)),
        4 => assert!(json::read(&text).is_none() || json::read(&format!("{text} x")).is_none()),
        _ => term(&text),
    }
}

/// Stores with one table for each account or room.
fn table(bytes: &[u8]) {
    let Ok(value) = lua::data(bytes) else { return };
    let _ = (prosody::data::account(&value), prosody::data::room(&value));
    for store in ["roster", "blocklist", "private", "pep", "account_roles", "vcard", "lastlog", "cloud_notify"] {
        let _ = prosody::data::of_account(store, &value);
    }
}

/// Lists: how many items are good, and how many are none.
fn items(bytes: &[u8], step: usize) -> (usize, usize) {
    let (mut items, mut good, mut bad) = (lua::Items::new(Slow(bytes, step)), 0, 0);
    loop {
        match items.next() {
            Ok(None) => return (good, bad),
            Ok(Some(value)) => match prosody::data::entry(&value, "jabber:client") {
                Ok(entry) => {
                    let _ = (prosody::data::archived(entry.clone()), prosody::data::room_archived(entry));
                    good += 1;
                }
                Err(_) => bad += 1,
            },
            Err(_) => bad += 1,
        }
        assert!(good + bad <= bytes.len(), "there are more items than bytes");
    }
}

/// All rows of all tables that are known.
fn database(bytes: &[u8]) {
    let Ok(mut database) = sqlite::Database::open(Cursor::new(bytes)) else { return };
    for name in ["prosody", "users"] {
        let Ok(Some(table)) = database.table(name) else { continue };
        let Ok(mut rows) = database.rows(&table) else { continue };
        let mut count = 0;
        while let Ok(Some((number, cells))) = database.next(&mut rows) {
            count += 1;
            assert!(count <= bytes.len(), "there are more rows than bytes");
            // In a sound file it is the same row; in another one it is there, or not.
            let _ = (database.row_of(&table, number), cells.len());
        }
    }
}

/// Pieces of accounts, and what was left out.
fn document(bytes: &[u8], step: usize) -> (usize, usize) {
    let (mut reader, mut walker) = (Reader::new(Slow(bytes, step)), Walker::default());
    let (mut pieces, mut others) = (0, 0);
    while let Ok(Some(event)) = reader.next() {
        match walker.take(event) {
            Found::Pieces(_, found, _) => pieces += found.len(),
            Found::Nothing => {}
            Found::Skipped(_) | Found::Include(_) => others += 1,
        }
        assert!(others <= bytes.len(), "there are more elements than bytes");
    }
    (pieces, others)
}

/// Terms of Erlang, and what they say of rooms and nodes.
fn term(text: &str) {
    let Some(term) = ejabberd::read(text) else { return };
    // As atoms begin, and nothing that can stand behind a term.
    assert_eq!(ejabberd::read(&format!("{text} x")), None, "what stands behind {term:?} is read over");
    let _ = ejabberd::data::room(text);
    let _ = ejabberd::data::node_field("title", text);
    let owner = Jid::parse("a@b").expect("an address");
    let archived = ejabberd::data::Archived { stamp: 1, peer: "c@d", nick: text, xml: text };
    let _ = (ejabberd::data::archived(&owner, archived, true), ejabberd::data::archived(&owner, archived, false));
}

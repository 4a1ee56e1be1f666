//! Moving house: what other servers have kept, read and never run.
//!
//! * [`lua`] reads the part of Lua that Prosody's configurations and data files are written in. Nothing is evaluated.
//! * [`sqlite`] reads tables of an SQLite file, [`json`] what Prosody puts into them.
//! * [`pie`] reads and writes documents of XEP-0227, which other servers write and read, too.
//! * [`ejabberd`] knows what ejabberd keeps in tables of SQL, and reads the terms of Erlang in them.
//! * [`prosody`] knows what Prosody keeps where, and what its options are called here.
//!
//! No file is opened here: `cli` hands over bytes, or something to read from. What is read becomes
//! [`Piece`](crate::core::moving::Piece)s, which the tables' own code takes in
//! ([`Engine::take_in`](crate::engine::Engine::take_in)).

pub mod ejabberd;
pub mod json;
pub mod lua;
pub mod pie;
pub mod prosody;
pub mod sqlite;

use crate::core::moving::Piece;
use crate::xml::{Builder, Element, ns, write_attribute};

/// An element that was stored as text, of which it is known in which namespace it stood.
pub fn fragment(xml: &str, root_ns: &str) -> Option<Element> {
    let mut around = b"<w".to_vec();
    write_attribute("xmlns", root_ns, &mut around);
    let around = format!("{}>{xml}</w>", String::from_utf8_lossy(&around));
    let whole = crate::xml::parse(&around).ok()?;
    let mut children = whole.root().children();
    children.next().filter(|_| children.next().is_none()).map(|child| child.to_element())
}

/// What an account wants archived: `always`, `roster` or `never` for all but those with a rule of their own.
pub fn archive_prefs<S: AsRef<str>>(
    default: Option<&str>,
    always: impl Iterator<Item = S>,
    never: impl Iterator<Item = S>,
) -> Piece {
    let mut b = Builder::new(ns::MAM, "prefs");
    default.iter().for_each(|rule| _ = b.attr("default", rule));
    b.open(ns::MAM, "always");
    always.for_each(|jid| _ = b.leaf(ns::MAM, "jid", jid.as_ref()));
    b.close().open(ns::MAM, "never");
    never.for_each(|jid| _ = b.leaf(ns::MAM, "jid", jid.as_ref()));
    b.close();
    Piece::ArchivePrefs(b.finish())
}

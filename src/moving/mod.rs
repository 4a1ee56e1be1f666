//! Moving house: what other servers have kept, read and never run.
//!
//! * [`lua`] reads the part of Lua that Prosody's configurations and data files are written in. Nothing is evaluated.
//! * [`sqlite`] reads tables of an SQLite file, [`json`] what Prosody puts into them.
//! * [`pie`] reads and writes documents of XEP-0227, which other servers write and read, too.
//! * [`prosody`] knows what Prosody keeps where, and what its options are called here.
//!
//! No file is opened here: `cli` hands over bytes, or something to read from. What is read becomes
//! [`Piece`](crate::core::moving::Piece)s, which the tables' own code takes in
//! ([`Engine::take_in`](crate::engine::Engine::take_in)).

pub mod json;
pub mod lua;
pub mod pie;
pub mod prosody;
pub mod sqlite;

//! Prosody: its configuration, and what it keeps.

pub mod config;
pub mod convert;
pub mod data;
mod options;
pub mod stanza;
pub mod vcard;

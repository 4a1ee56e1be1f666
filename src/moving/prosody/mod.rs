//! Prosody: its configuration, and what it keeps.

pub mod config;
pub mod convert;
mod options;

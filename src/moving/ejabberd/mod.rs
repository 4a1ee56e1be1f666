//! What ejabberd keeps in SQL: rows of its tables as pieces. Some columns hold terms of Erlang.

pub mod data;
mod term;

pub use term::{Term, read};

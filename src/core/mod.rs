//! What several modules need.

pub mod admin;

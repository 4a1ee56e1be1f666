//! Couplet.
#![forbid(unsafe_code)]
pub mod budget;
pub mod clock;
pub mod jid;
pub mod limits;
pub mod storage;
pub mod xml;

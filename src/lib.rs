//! Couplet.
#![forbid(unsafe_code)]
pub mod budget;
pub mod clock;
pub mod jid;
pub mod limits;
pub mod net;
pub mod stanza;
pub mod stream;
pub mod xml;

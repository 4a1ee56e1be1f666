//! Couplet.
#![forbid(unsafe_code)]
pub mod budget;
pub mod cli;
pub mod clock;
pub mod config;
pub mod core;
pub mod engine;
pub mod jid;
pub mod limits;
pub mod metrics;
pub mod modules;
pub mod net;
pub mod pipeline;
pub mod setting;
pub mod stanza;
pub mod storage;
pub mod stream;
pub mod xml;

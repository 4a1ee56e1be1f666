//! Signals: TERM and INT shut down, HUP reloads, USR1 writes the state to the log. (The runtime ignores PIPE already.)

use std::io;
use std::sync::Arc;

use async_signal::{Signal, Signals};
use smol::stream::StreamExt;

use crate::net::bell::Bell;
use crate::net::shell::Report;

/// Takes over the signals from the system's defaults.
///
/// # Errors
/// When the system refuses.
pub fn open() -> io::Result<Signals> {
    Signals::new([Signal::Term, Signal::Int, Signal::Hup, Signal::Usr1])
}

/// Passes signals on for ever.
pub async fn pass_on(mut signals: Signals, bell: Arc<Bell<Report>>) {
    while let Some(signal) = signals.next().await {
        match signal {
            Ok(Signal::Hup) => bell.report(Report::Reload),
            Ok(Signal::Usr1) => bell.report(Report::Dump),
            Ok(_) => bell.report(Report::Shutdown),
            Err(error) => log::warn!("signals cannot be read any more: {error}"),
        }
    }
}

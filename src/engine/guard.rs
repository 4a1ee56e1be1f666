//! The boundary of one input: a bug of ours ends the connection that it met, and not the server.
//!
//! What panics is caught, its place is in the log by then, and what it has half done is dropped. Then the connection is
//! cut off, the operator told that his command failed. A bug while the store's word is taken ends the process: what
//! waits for it could wait for ever, and what was acknowledged is on the disk.

use super::admin::{BUG, Door};
use super::{Engine, LOG};
use crate::clock::Now;
use crate::core::admin::FAILED;
use crate::core::io::{ConnId, Input, Output};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Whom a bug has met.
#[derive(Clone, Copy, Debug)]
pub(super) enum Met {
    /// This connection.
    Conn(ConnId),
    /// An operator, by the id of the command.
    Operator(u32),
    /// The store, which is asked by all.
    Store,
    /// Nobody in particular.
    Nobody,
}

impl Engine {
    /// Takes one input. What it causes is ready after the tick is closed by [`Engine::end_tick`].
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        self.core.now = now;
        let (what, met) = match &input {
            Input::Bytes { conn, .. } => ("what a peer has sent", Met::Conn(*conn)),
            Input::TlsReady { conn, .. } => ("a TLS handshake", Met::Conn(*conn)),
            Input::Dialed { conn, .. } | Input::DialFailed { conn, .. } => ("an attempt to connect", Met::Conn(*conn)),
            Input::Closed { conn } => ("the end of a connection", Met::Conn(*conn)),
            Input::Wrote { conn, .. } | Input::Held { conn, .. } => ("what was written", Met::Conn(*conn)),
            Input::Committed(_) | Input::CommitFailed(_) => ("the word of the store", Met::Store),
            Input::Hashed(_) => ("a password", Met::Nobody),
            #[cfg(feature = "mam")]
            Input::Archive { .. } => ("an archive", Met::Nobody),
            Input::Weighed { .. } => ("a weight", Met::Nobody),
            Input::Wake => ("a point in time", Met::Nobody),
            Input::Admin { id, .. } => ("a command", Met::Operator(*id)),
            Input::Shutdown => ("the shutdown", Met::Store),
        };
        let mut input = Some(input);
        self.guard(what, met, &mut |engine| input.take().into_iter().for_each(|input| engine.take(input)));
    }

    /// Closes the tick: its writes become one batch, and every connection that has something to say says it.
    pub fn end_tick(&mut self, now: Now) {
        self.core.now = now;
        self.guard("the end of a tick", Met::Store, &mut Self::close_tick);
    }

    /// The shell has met a bug while it did something for a connection.
    pub fn met_bug(&mut self, now: Now, conn: Option<ConnId>) {
        self.core.now = now;
        self.bug("the shell", conn.map_or(Met::Nobody, Met::Conn));
    }

    /// Does something that a bug of ours may break off.
    pub(super) fn guard(&mut self, what: &str, met: Met, run: &mut dyn FnMut(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| run(self))).is_err() {
            self.bug(what, met);
        }
    }

    /// Counts a caught bug. Too many in a minute and the process ends, for its supervisor to start it afresh.
    pub(super) fn caught(&mut self, what: &str) {
        let now_ms = self.core.now.mono_ms;
        self.core.counters.panics = self.core.counters.panics.wrapping_add(1);
        self.panics.push_back(now_ms);
        while self.panics.front().is_some_and(|at| at + 60_000 < now_ms) {
            self.panics.pop_front();
        }
        log::error!(target: LOG, "a bug of ours in {what} was caught; please report it with the lines above");
        if self.panics.len() > self.core.settings.limits.panics_per_minute_max as usize {
            log::error!(target: LOG, "too many of them in a minute: ending");
            self.exit();
        }
    }

    fn bug(&mut self, what: &str, met: Met) {
        self.core.view.drop_scratch();
        self.core.queue.clear();
        self.core.ask = None;
        self.core.changed.clear();
        #[cfg(feature = "mam")]
        self.core.archives.forget_step();
        self.caught(what);
        let end = |engine: &mut Self| match met {
            Met::Conn(conn) => {
                #[cfg(feature = "http")]
                engine.end_guest(conn);
                if engine.is_link(conn) {
                    engine.end_link(conn, None);
                } else {
                    engine.end_conn(conn);
                }
                engine.outputs.push_back(Output::Close { conn });
            }
            Met::Operator(id) => engine.reply_now(&Door::Socket(id), FAILED, BUG.to_string()),
            Met::Store => engine.exit(),
            Met::Nobody => {}
        };
        let ended = catch_unwind(AssertUnwindSafe(|| end(self))).is_ok();
        if !(ended && self.budget_is_sound()) {
            log::error!(target: LOG, "after that bug nothing here can be relied on: ending");
            self.exit();
        }
    }
}

//! What is due when its time has come.

use super::{Engine, LOG, Met, Output, StreamError, Timer};
use crate::core::io::ConnId;
use crate::fault::{Fault, trip};

/// After how many timers others are served: thousands of stanzas for servers out of reach may have waited long enough
/// at once, and each that goes back takes some ten microseconds.
const DUE_MAX: usize = 128;

impl Engine {
    /// The moment of the first timer has come.
    pub(super) fn wake(&mut self) {
        // Nobody has two turns in one tick.
        self.turns.append(&mut self.due);
        self.overdue = true;
        for _ in 0..DUE_MAX {
            let Some(&(at, timer)) = self.timers.first_key().filter(|(at, _)| *at <= self.core.now.mono_ms) else {
                self.overdue = false;
                return;
            };
            self.timers.pop_first();
            match timer {
                Timer::Conn(conn) => self.guard("a deadline", Met::Conn(conn), &mut |engine| engine.conn_due(conn, at)),
                Timer::Pace(conn) => self.guard("a pause", Met::Conn(conn), &mut |engine| engine.pace_due(conn)),
                Timer::Login(conn) => self.guard("a login", Met::Conn(conn), &mut |engine| engine.login_due(conn)),
                Timer::Spool(holder) => self.spool_due(holder),
                Timer::Peer(peer) => self.peer_due(peer),
                Timer::Parked(session) => self.parked_due(session),
                Timer::Late(session) => self.late_due(session),
                Timer::Retry => self.retry(),
                // The tick ends with that.
                Timer::Weigh => self.parts.weighs = false,
                Timer::Rest => self.rest_due(),
                #[cfg(feature = "mam")]
                Timer::Archive => self.archive_due(at),
                Timer::Modules => self.modules_due(),
                #[cfg(feature = "commands")]
                Timer::Stop(again) => self.outputs.push_back(Output::Stop { again }),
            }
        }
    }

    /// Sets the timer for what modules wait for.
    pub(super) fn arm_modules(&mut self) {
        let due_ms = self.modules.due_ms(&self.core);
        if due_ms != self.modules_due_ms {
            if let Some(old) = self.modules_due_ms {
                self.timers.remove(&(old, Timer::Modules));
            }
            self.modules_due_ms = due_ms;
            if let Some(due_ms) = due_ms {
                self.timers.insert((due_ms, Timer::Modules), ());
            }
        }
    }

    fn modules_due(&mut self) {
        self.modules_due_ms = None;
        self.step("a module's time", |core, modules| {
            if let Err(error) = modules.due(core) {
                log::error!(target: LOG, "a module cannot do what it is time for: {}", error.condition.as_str());
            }
        });
    }

    /// A timer whose connection has gone, or has another deadline by now, means nothing.
    fn conn_due(&mut self, conn: ConnId, at: u64) {
        if self.is_link(conn) {
            return self.link_due(conn, at);
        }
        let Some(c) = self.conns.get_mut(conn.0).filter(|c| c.deadline_ms == Some(at)) else { return };
        trip(Fault::PanicTimer);
        if c.ends {
            self.end_conn(conn);
            self.outputs.push_back(Output::Close { conn });
        } else if c.pace.grace() {
            self.wait_longer(conn, self.core.settings.limits.auth_timeout_s);
        } else {
            self.fail(conn, StreamError::ConnectionTimeout, Some("Logging in took too long."));
        }
    }
}

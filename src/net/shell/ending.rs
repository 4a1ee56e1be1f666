//! The end of the process that somebody wants: by a signal, or by an administrator's command.

use super::{Failure, Shell};
use crate::clock::Now;
use crate::core::io::Input;
use crate::net::conn::Stage;

impl Shell {
    /// Nobody new is let in, and the engine closes all streams; `again` for a restart. Twice is once.
    pub(super) fn stop(&mut self, again: bool, now: Now) {
        if self.shutdown_ms.is_some() {
            return;
        }
        log::info!("shutting down");
        self.again = again;
        if let Some(supervisor) = &self.supervisor {
            supervisor.stopping();
        }
        self.listeners.clear();
        let seconds = self.tuning.limits.close_timeout_s.max(1);
        self.shutdown_ms = Some(now.mono_ms + u64::from(seconds) * 1000);
        self.engine.handle(now, Input::Shutdown);
    }

    /// After the engine has said its last word, what it said still has to reach its readers.
    pub(super) fn is_over(&self) -> bool {
        let late = self.shutdown_ms.is_some_and(|at| self.clock.now().mono_ms >= at);
        late || (self.done && self.conns.values().all(|conn| conn.stage == Stage::Lingering))
    }

    /// The store is closed. The exit code of a restart is that of a failure: so supervisors start it anew.
    pub(super) fn end(self) -> Result<(), Failure> {
        self.threads.finish().map_err(Failure::Storage)?;
        if self.again { Err(Failure::Restart) } else { Ok(()) }
    }
}

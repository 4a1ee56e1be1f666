//! The shell's side of statistics: when they are taken, and of what.

use super::Shell;
use crate::clock::Now;
use crate::core::admin::Reply;

impl Shell {
    /// Takes figures, if it is time.
    pub(super) fn statistics_due(&mut self, now: Now) {
        if self.web.statistics.next_ms().is_none_or(|at| at > now.mono_ms) {
            return;
        }
        let mut statistics = std::mem::take(&mut self.web.statistics);
        let means = (&**self.dials.executor(), self.dials.dialer());
        statistics.take(&self.figures(), &self.web.measured(), self.clock.cpu_ms(), now, means);
        self.web.statistics = statistics;
    }

    /// Figures of the past, for an operator.
    pub(super) fn history(&self, seconds: u32, now: Now) -> Reply {
        Reply::ok(self.web.statistics.history(seconds, now))
    }
}

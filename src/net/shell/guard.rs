//! A bug of ours in the shell itself, or in a library below it, ends the connection that it met.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};

use smol::future::FutureExt;

use super::Shell;
use crate::clock::Now;
use crate::core::io::ConnId;
use crate::fault::{Fault, trip};

impl Shell {
    /// Does something that a bug may break off, for a connection or for all.
    pub(super) fn guard(&mut self, conn: Option<ConnId>, now: Now, run: &mut dyn FnMut(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| run(self))).is_err() {
            conn.into_iter().for_each(|id| self.forget(id, now));
            self.engine.met_bug(now, conn);
        }
    }

    /// The turn of a connection: see [`Shell::attend`].
    pub(super) fn turn(&mut self, id: ConnId, now: Now) {
        self.guard(Some(id), now, &mut |shell| {
            trip(Fault::PanicRead);
            shell.attend(id, now);
            shell.scratch.wipe();
        });
    }
}

/// What a task comes to; none when a bug breaks it off, whose place is in the log.
pub(in crate::net) async fn guarded<T>(task: impl Future<Output = T>) -> Option<T> {
    AssertUnwindSafe(task).catch_unwind().await.ok()
}

//! The end of the process: streams are closed, and who can come back will.

use super::Engine;
use crate::core::io::{ConnId, Output};
use crate::fault::{Fault, armed};
use crate::stream::StreamError;

impl Engine {
    pub(super) fn exit(&mut self) {
        if !self.exited {
            self.exited = true;
            self.outputs.push_back(Output::Exit);
        }
    }

    /// Sessions that can be resumed wait for that, also beyond the end of this process; the others end.
    pub(super) fn shutdown(&mut self) {
        self.shutting_down = true;
        for key in self.conns.keys().into_iter().skip(usize::from(armed(Fault::StreamForgotten))) {
            self.park(ConnId(key));
            self.fail(ConnId(key), StreamError::SystemShutdown, None);
        }
        self.shutdown_links();
    }
}

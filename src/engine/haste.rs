//! Clients that write faster than the disk: they are not read until it has caught up, so that a burst is slowed down
//! and not refused. With archives (XEP-0313) each message is a write.
//!
//! Only who adds to what waits for the disk, while that is [`COMMITS`] or half of what may, waits with it. Servers do
//! not: two that are slowed down by each other would wait for each other's acknowledgements.

use super::Engine;
use crate::core::io::ConnId;
use crate::engine::pace::Pause;
use crate::storage::COMMIT_BYTES_MAX;

/// Commits that may wait for the disk: one is being made, the next is full, and one is being filled. More would not
/// make the disk faster; it would only let a message wait longer for its acknowledgement than it must.
const COMMITS: usize = 3;

impl Engine {
    /// A client has written something. While much waits for the disk, it waits, too.
    pub(super) fn wait_for_disk(&mut self, conn: ConnId) {
        if self.core.view.pending_bytes() <= self.hasty_from_bytes() || self.hasty.contains(&conn) {
            return;
        }
        if self.conns.get(conn.0).is_some_and(|c| !c.ends) {
            self.hasty.push(conn);
            self.pause(conn, Pause::Room, true);
        }
    }

    /// The disk has caught up, or what waited for it is given up: they are read again.
    pub(super) fn disk_in(&mut self) {
        if !self.hasty.is_empty() && self.core.view.pending_bytes() <= self.hasty_from_bytes() / 2 {
            for conn in std::mem::take(&mut self.hasty) {
                if !self.waits_for_room(conn) {
                    self.pause(conn, Pause::Room, false);
                }
            }
        }
    }

    /// With more than this on its way to the disk, who adds to it waits.
    fn hasty_from_bytes(&self) -> usize {
        (self.core.pending_max_bytes() / 2).min(COMMITS * COMMIT_BYTES_MAX)
    }

    /// Whether a client waits for the disk.
    pub(super) fn waits_for_disk(&self, conn: ConnId) -> bool {
        self.hasty.contains(&conn)
    }
}

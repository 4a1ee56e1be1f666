//! Attempts to connect to other servers: so many are under way at a time, the others wait in their order. Whoever waits
//! has no link yet, so that a server that cannot be reached costs little more than what waits for it.

use super::PeerId;
use crate::core::io::{ConnId, Output};
use crate::engine::Engine;
use std::collections::VecDeque;

/// What an attempt takes: its task, questions to name servers, sockets.
pub(super) const DIAL_BYTES: usize = 8192;

/// After how many of those who wait others are served: where all connections are taken, each fails at once.
const LOOKS_MAX: usize = 64;

/// Attempts under way, and who waits for one. A peer that is gone may be among these.
#[derive(Default)]
pub(super) struct Dials {
    under_way: usize,
    waiting: VecDeque<PeerId>,
}

impl Dials {
    /// Bytes of the table.
    pub fn table_bytes(&self) -> usize {
        self.waiting.capacity() * size_of::<PeerId>()
    }
}

impl Engine {
    /// Whether another attempt may begin at once. If not, the peer's turn comes.
    pub(super) fn may_dial(&mut self, id: PeerId) -> bool {
        let max = self.core.settings.limits.s2s_dials_max.max(1) as usize;
        let Some(peer) = self.remotes.peers.get_mut(id.0) else { return false };
        if self.remotes.dials.under_way < max {
            return true;
        }
        if !std::mem::replace(&mut peer.queued, true) {
            let (waiting, peers) = (&mut self.remotes.dials.waiting, &self.remotes.peers);
            if waiting.len() > 2 * peers.len() {
                waiting.retain(|id| peers.get(id.0).is_some());
            }
            waiting.push_back(id);
        }
        false
    }

    /// Begins an attempt.
    pub(super) fn begin_dial(&mut self, conn: ConnId, domain: String, from: String) {
        let Some(link) = self.remotes.links.get_mut(conn.0) else { return };
        link.dialing = true;
        self.remotes.dials.under_way += 1;
        self.link_held(conn, DIAL_BYTES);
        self.outputs.push_back(Output::Dial { conn, domain, from });
    }

    /// An attempt is over, whatever has come of it: the next begins. Does nothing for a link that was not being dialed.
    pub(super) fn end_dial(&mut self, conn: ConnId) {
        let Some(link) = self.remotes.links.get_mut(conn.0).filter(|link| link.dialing) else { return };
        link.dialing = false;
        self.remotes.dials.under_way -= 1;
        self.dial_next();
    }

    /// Begins attempts for those who wait for one, while there is memory for that: they wait on where there is none.
    /// True when there are more than one tick takes.
    pub(in crate::engine) fn dial_next(&mut self) -> bool {
        let max = self.core.settings.limits.s2s_dials_max.max(1) as usize;
        let (mut looks, has_room) = (0, self.has_room_for_strangers());
        while has_room && looks < LOOKS_MAX && self.remotes.dials.under_way < max {
            let Some(id) = self.remotes.dials.waiting.pop_front() else { break };
            looks += 1;
            if let Some(peer) = self.remotes.peers.get_mut(id.0) {
                peer.queued = false;
                self.connect(id);
                self.arm_peer(id);
            }
        }
        crate::core::flat::relax(&mut self.remotes.dials.waiting);
        looks == LOOKS_MAX && !self.remotes.dials.waiting.is_empty()
    }
}

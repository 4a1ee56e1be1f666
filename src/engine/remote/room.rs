//! Clients that send faster than another server takes: they are not read until it has taken what waits for it, so that
//! a burst is slowed down and not returned.
//!
//! It is only for a server that is connected: what waits for one that is not goes back or not, and nobody waits for
//! that. Only clients wait, never a server: acknowledgements are read whatever happens, so two servers that are slowed
//! down by each other still get on. A client waits for what it has sent itself, not for what others have, or what a
//! stranger has made this server say; and not for long.

use crate::core::io::ConnId;
use crate::engine::Engine;
use crate::engine::pace::Pause;
use crate::jid::Jid;

/// Clients that wait for room in the queue of a link.
#[derive(Debug)]
pub(super) struct Room {
    clients: Vec<ConnId>,
    /// When they have waited long enough.
    until_ms: u64,
    /// They have. Nobody waits again before there is room.
    spent: bool,
}

impl Room {
    /// When nobody shall wait any more.
    pub fn until_ms(&self) -> Option<u64> {
        Some(self.until_ms).filter(|_| !self.spent)
    }
}

impl Engine {
    /// A stanza of a client was put into the queue of a link of which half is full. If that is its doing, it waits.
    pub(super) fn wait_for_room(&mut self, conn: ConnId, from: &Jid) {
        let limits = &self.core.settings.limits;
        let (max_bytes, pause_ms) = (limits.s2s_queue_bytes_max as usize, u64::from(limits.s2s_pause_max_s) * 1000);
        let Some(link) = self.remotes.links.get_mut(conn.0) else { return };
        if pause_ms == 0 || link.room.as_ref().is_some_and(|room| room.spent) {
            return;
        }
        let session = self.core.sessions.find(from).and_then(|id| self.core.sessions.get(id));
        let Some(client) = session.and_then(|session| session.conn) else { return };
        if self.conns.get(client.0).is_none_or(|c| c.ends || c.pace.has(Pause::Room)) {
            return;
        }
        let own = link.out.parcels().filter(|parcel| parcel.from.as_ref() == Some(from));
        if own.map(|parcel| parcel.held_bytes()).sum::<usize>() < max_bytes / 8 {
            return;
        }
        let until_ms = self.core.now.mono_ms + pause_ms;
        let room = link.room.get_or_insert_with(|| Box::new(Room { clients: Vec::new(), until_ms, spent: false }));
        room.clients.push(client);
        self.pause(client, Pause::Room, true);
        self.arm_link(conn);
    }

    /// Those who wait for room are read again, if there is some.
    pub(super) fn room_in(&mut self, conn: ConnId) {
        let max_bytes = self.core.settings.limits.s2s_queue_bytes_max as usize;
        if self.remotes.links.get(conn.0).is_some_and(|link| link.out.held_bytes() <= max_bytes / 4) {
            self.forget_room(conn);
        }
    }

    /// Nobody waits for a link any more: there is room, or no link.
    pub(super) fn forget_room(&mut self, conn: ConnId) {
        if let Some(room) = self.remotes.links.get_mut(conn.0).and_then(|link| link.room.take()) {
            self.read_again(room.clients);
        }
    }

    /// They are read again although there is none.
    pub(super) fn end_wait(&mut self, conn: ConnId) {
        if let Some(room) = self.remotes.links.get_mut(conn.0).and_then(|link| link.room.as_mut()) {
            room.spent = true;
            let clients = std::mem::take(&mut room.clients);
            self.read_again(clients);
        }
        self.arm_link(conn);
    }

    fn read_again(&mut self, clients: Vec<ConnId>) {
        for client in clients {
            if !self.waits_for_disk(client) {
                self.pause(client, Pause::Room, false);
            }
        }
    }

    /// Whether a client waits for room in the queue of any link.
    pub(in crate::engine) fn waits_for_room(&self, client: ConnId) -> bool {
        let waits = |room: &Room| room.clients.contains(&client);
        self.remotes.links.iter().any(|(_, link)| link.room.as_ref().is_some_and(|room| waits(room)))
    }
}

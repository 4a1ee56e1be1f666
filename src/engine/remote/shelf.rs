//! Memory is short: of what waits for a server that no link reaches, what is on the disk anyway is there alone, and
//! what is not goes back to its senders.

use super::{FULL, LOG, PeerId};
use crate::core::flight::{Item, Keep, Parcel};
use crate::core::out_queue::OutQueue;
use crate::core::spool::Stored;
use crate::engine::Engine;
use crate::jid::Jid;
use crate::storage::Ticket;
use std::cmp::Reverse;

/// After how many stanzas that go back others are served: each takes some ten microseconds.
const BACK_MAX: usize = 256;

/// A stanza that is on the disk alone.
pub(super) struct Shelved {
    /// Its row in the spool.
    row: u64,
    /// When it was sent.
    pub since_ms: u64,
}

impl Engine {
    /// Lets the disk alone have what it has, the longest queue first, until there is room.
    pub(in crate::engine) fn shelve_peers(&mut self) {
        for id in self.longest_peers() {
            if self.budget.excess_bytes() == 0 {
                return;
            }
            self.shelve(id);
        }
    }

    /// What waits for servers that no link reaches and was not acknowledged goes back to its senders, the longest queue
    /// first, until there is room. True when there is more of it than one tick takes.
    pub(in crate::engine) fn shed_peers(&mut self) -> bool {
        let mut has_more = false;
        for id in self.longest_peers() {
            if self.budget.excess_bytes() == 0 {
                break;
            }
            has_more = self.remotes.returned.len() >= BACK_MAX;
            if has_more {
                break;
            }
            self.give_up(id, FULL, &|keep| keep.row.is_none());
            self.arm_peer(id);
        }
        self.bring_all_back();
        has_more
    }

    /// Peers for which something waits here, by what they hold.
    fn longest_peers(&self) -> Vec<PeerId> {
        let peers = self.remotes.peers.iter().filter(|(_, peer)| peer.out.stanzas() > 0);
        let mut peers: Vec<_> = peers.map(|(key, peer)| (Reverse(peer.charge.bytes()), PeerId(key))).collect();
        peers.sort_unstable();
        peers.into_iter().map(|(_, id)| id).collect()
    }

    /// The first stanzas of a peer's queue, as far as all of them are on the disk, are there alone from now on: those
    /// behind one that is not stay, for their order.
    fn shelve(&mut self, id: PeerId) {
        let durable = self.core.view.durable();
        let Some(peer) = self.remotes.peers.get_mut(id.0) else { return };
        let is_stored = |keep: &Keep| keep.row.is_some() && keep.row_after <= durable;
        let stored = |parcel: &Parcel| parcel.keep.as_deref().is_some_and(is_stored);
        if !peer.out.parcels().next().is_some_and(stored) {
            return;
        }
        let spools = peer.out.spools();
        for parcel in std::mem::take(&mut peer.out).into_parcels() {
            match parcel.keep.as_deref() {
                Some(Keep { row: Some(row), since_ms, .. }) if peer.out.stanzas() == 0 && stored(&parcel) => {
                    peer.shelf.push(Shelved { row: *row, since_ms: *since_ms });
                }
                _ => peer.out.push(Item::Stanza(Box::new(parcel))),
            }
        }
        peer.shelf.shrink_to_fit();
        peer.out.set_spools(spools);
        self.charge_peer(id);
    }

    /// Puts what is on the disk alone back before what waits for a peer. What cannot be read waits for a restart.
    pub(super) fn unshelve(&mut self, id: PeerId) {
        let Some(peer) = self.remotes.peers.get_mut(id.0).filter(|peer| !peer.shelf.is_empty()) else { return };
        let Ok(elsewhere) = Jid::parse(&peer.pair.remote) else { return };
        let (shelf, behind) = (std::mem::take(&mut peer.shelf), std::mem::take(&mut peer.out));
        let mut out = OutQueue::default();
        for Shelved { row, since_ms } in shelf {
            let stored = self.core.spool_row(&elsewhere, row);
            match stored.map(|stored| stored.and_then(|stored| parcel_of(&stored, row, since_ms))) {
                Ok(Some(parcel)) => out.push(Item::Stanza(Box::new(parcel))),
                Ok(None) => self.core.spool_release(&elsewhere, row),
                Err(error) => {
                    log::error!(target: LOG, "what waits for {elsewhere} cannot be read: {error}");
                    self.core.spool_release(&elsewhere, row);
                }
            }
        }
        let Some(peer) = self.remotes.peers.get_mut(id.0) else { return };
        let spools = behind.spools();
        behind.into_parcels().into_iter().for_each(|parcel| out.push(Item::Stanza(Box::new(parcel))));
        out.set_spools(spools);
        peer.out = out;
        self.charge_peer(id);
    }
}

/// What a row of the spool holds for another server.
pub(super) fn parcel_of(stored: &Stored, row: u64, since_ms: u64) -> Option<Parcel> {
    let stanza = stored.stanza()?;
    let keep = Keep { row: Some(row), since_ms, ..Keep::default() };
    Some(Parcel {
        kind: stanza.kind,
        to: Some(stanza.to.clone()?),
        from: stanza.from.clone(),
        tail: Some(stanza.tail()),
        after: Ticket(0),
        is_copy: false,
        read_ms: 0,
        keep: Some(Box::new(keep)),
    })
}

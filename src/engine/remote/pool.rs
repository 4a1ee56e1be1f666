//! Peers: what waits for them, when they are tried, what goes back.

use super::{ABSENT, FULL, LATE, LOG, PeerId, Refusal, SHUNNED, TOO_LONG, receipt_of, s2s_cx};
use crate::budget::{Charge, Kind as Held, State, allocated};
use crate::core::flight::{InFlight, Item, Keep, Parcel};
use crate::core::io::ConnId;
use crate::core::out_queue::OutQueue;
use crate::engine::{Engine, Holder, Timer};
use crate::fault::{Fault, armed};
use crate::jid::{Jid, idna};
use crate::pipeline;
use crate::stanza::{Kind, PresenceType, Stanza};
use crate::storage::{StoreError, Ticket};
use crate::stream::s2s::{Pair, S2s, S2sCx, Verdict};

use super::{Peer, Verify, shelf};
use std::collections::BTreeSet;

impl Engine {
    /// The peer of a stanza. None when there are too many already.
    pub(in crate::engine) fn peer_for(&mut self, parcel: &Parcel) -> Option<PeerId> {
        let (from, to) = (parcel.from.as_ref()?, parcel.to.as_ref()?);
        self.peer_of_pair(&Pair::new(from.domain(), to.domain()))
    }

    pub(super) fn peer_of_pair(&mut self, pair: &Pair) -> Option<PeerId> {
        if let Some(peer) = self.remotes.by_pair.get(pair) {
            return Some(*peer);
        }
        if self.remotes.peers.len() >= self.core.settings.limits.s2s_peers_max as usize {
            return None;
        }
        let peer = Peer {
            pair: pair.clone(),
            out: OutQueue::default(),
            charge: Charge::default(),
            via: None,
            link: None,
            failures: 0,
            retry_ms: 0,
            condemned: None,
            verifies: Vec::new(),
            timer_ms: None,
            queued: false,
            shelf: Vec::new(),
        };
        self.tick_bytes += peer.held_bytes();
        let id = PeerId(self.remotes.peers.insert(peer));
        self.remotes.by_pair.insert(pair.clone(), id);
        self.charge_peer(id);
        Some(id)
    }

    /// Puts a stanza into the queue of its peer, and sees to it that there is a connection.
    pub(in crate::engine) fn hand_to_peer(&mut self, id: PeerId, parcel: Parcel) {
        let now_ms = self.core.now.mono_ms;
        let settings = self.core.settings.clone();
        let Some(peer) = self.remotes.peers.get(id.0) else { return };
        let (via, pair) = (peer.via, peer.pair.clone());
        if let Some(refusal) = peer.condemned.filter(|_| peer.retry_ms > now_ms) {
            return self.bring_back(parcel, refusal);
        }
        if via.is_some_and(|conn| self.is_too_long(conn, &parcel)) {
            return self.bring_back(parcel, TOO_LONG);
        }
        if via.is_none() && self.core.is_component(&pair.remote) && self.bidi_link(&pair).is_none() {
            return self.bring_back(parcel, ABSENT);
        }
        let receipt = receipt_of(&parcel);
        if self.shutting_down && via.is_none() && receipt.is_none() {
            return self.bring_back(parcel, LATE);
        }
        let (sheds, shelved) = (self.budget.state() == State::Shedding, peer.shelf.len());
        self.tick_bytes += parcel.held_bytes();
        let Some(out) = self.peer_queue(id) else { return };
        let bytes = out.held_bytes() + parcel.held_bytes();
        // A server that is there may be slow to acknowledge: what it has been sent is bounded by its bytes alone.
        let max = settings.limits.s2s_queue_max as usize;
        let is_full = via.is_none() && (sheds || out.stanzas() + shelved >= max);
        if is_full || bytes > settings.limits.s2s_queue_bytes_max as usize {
            return self.bring_back(parcel, FULL);
        }
        let crowds = (bytes > settings.limits.s2s_queue_bytes_max as usize / 2).then(|| parcel.from.clone()).flatten();
        out.push(Item::Stanza(Box::new(parcel)));
        match via {
            Some(conn) => {
                self.touch(conn);
                crowds.into_iter().for_each(|from| self.wait_for_room(conn, &from));
            }
            None => {
                self.charge_peer(id);
                self.connect(id);
                self.arm_peer(id);
            }
        }
        self.owe(receipt, Holder::Peer(id));
    }

    fn is_too_long(&self, conn: ConnId, parcel: &Parcel) -> bool {
        let link = self.remotes.links.get(conn.0);
        let max = link.and_then(|link| link.stream.peer_limits().bytes_max);
        max.is_some_and(|max| parcel.written_bytes() > max as usize)
    }

    /// A link carries something.
    fn touch(&mut self, conn: ConnId) {
        if let Some(link) = self.remotes.links.get_mut(conn.0) {
            link.touched_ms = self.core.now.mono_ms;
            self.dirty.insert(conn);
        }
    }

    /// Charges what a peer holds, and says how much that is.
    pub(super) fn charge_peer(&mut self, id: PeerId) -> usize {
        let Some(peer) = self.remotes.peers.get_mut(id.0) else { return 0 };
        let held = peer.held_bytes();
        self.budget.settle(Held::Servers, &mut peer.charge, held);
        held
    }

    /// Looks for a way to a peer for which something waits.
    pub(super) fn connect(&mut self, id: PeerId) {
        let now_ms = self.core.now.mono_ms;
        let settings = self.core.settings.clone();
        let Some(peer) = self.remotes.peers.get(id.0) else { return };
        let (pair, waits, asks) = (peer.pair.clone(), peer.waits() > 0, !peer.verifies.is_empty());
        if peer.via.is_none()
            && waits
            && let Some(conn) = self.bidi_link(&pair)
        {
            return self.fill(conn, id);
        }
        if self.core.is_component(&pair.remote) {
            // It connects itself; what it has left unread waits for that.
            return;
        }
        if !settings.s2s.admits(&pair.remote) {
            self.unshelve(id);
            return self.give_up(id, SHUNNED, &|_| true);
        }
        let Some(peer) = self.remotes.peers.get(id.0) else { return };
        if let Some(conn) = peer.link {
            if waits && let Some(link) = self.remotes.links.get_mut(conn.0).filter(|l| l.stream.may_authenticate()) {
                link.stream.authenticate(&mut s2s_cx!(self, settings));
                self.again.push(conn);
            }
            return;
        }
        if (!waits && !asks) || peer.retry_ms > now_ms || self.shutting_down {
            return;
        }
        let Some(domain) = idna::to_ascii(&pair.remote) else {
            return self.peer_failed(id, Some(super::NOT_FOUND));
        };
        if !self.may_dial(id) {
            return;
        }
        if self.remotes.links.len() >= settings.limits.s2s_connections_max as usize {
            log::warn!(target: LOG, "no connection to {}: limits.s2s_connections_max is reached", pair.remote);
            return self.peer_failed(id, None);
        }
        let Some(conn) = self.new_link(S2s::outgoing(&pair, &settings.limits), None) else {
            return self.peer_failed(id, None);
        };
        if let Some(link) = self.remotes.links.get_mut(conn.0) {
            link.peer = Some(id);
        }
        if let Some(peer) = self.remotes.peers.get_mut(id.0) {
            peer.link = Some(conn);
        }
        self.begin_dial(conn, domain, pair.local.into());
    }

    /// A link that the peer has opened and that takes our stanzas (XEP-0288).
    fn bidi_link(&self, pair: &Pair) -> Option<ConnId> {
        self.remotes.links.iter().find(|(_, link)| link.takes(pair)).map(|(key, _)| ConnId(key))
    }

    /// A link takes stanzas of a peer: all that waits goes there.
    pub(super) fn fill(&mut self, conn: ConnId, id: PeerId) {
        self.unshelve(id);
        let Some(peer) = self.remotes.peers.get_mut(id.0) else { return };
        peer.via = Some(conn);
        if let Some(link) = self.remotes.links.get_mut(conn.0) {
            link.serves.push(id);
        }
        (peer.failures, peer.retry_ms, peer.condemned) = (0, 0, None);
        let waiting = std::mem::take(&mut peer.out).into_parcels();
        self.charge_peer(id);
        let durable = self.core.view.durable();
        let mut owed = false;
        for parcel in waiting {
            if self.is_too_long(conn, &parcel) {
                self.bring_back(parcel, TOO_LONG);
            } else if let Some(link) = self.remotes.links.get_mut(conn.0) {
                owed |= parcel.owed(durable).is_some();
                link.out.push(Item::Stanza(Box::new(parcel)));
            }
        }
        if owed {
            self.spool_in(Holder::Peer(id), u64::from(self.core.settings.limits.sm_spool_delay_ms));
        }
        self.touch(conn);
    }

    /// A link takes stanzas no more: what has not arrived goes back to its peers.
    pub(super) fn forsake_link(&mut self, conn: ConnId) -> Vec<PeerId> {
        let Some(link) = self.remotes.links.get_mut(conn.0) else { return Vec::new() };
        let mut parcels = link.out.take_stanzas().into_parcels();
        if armed(Fault::WayForgotten) {
            parcels.clear();
        } else if armed(Fault::WayUnordered) {
            parcels.reverse();
        }
        let mut peers = std::mem::take(&mut link.serves);
        self.forget_room(conn);
        peers.retain(|id| {
            let peer = self.remotes.peers.get_mut(id.0).filter(|peer| peer.via == Some(conn));
            peer.map(|peer| peer.via = None).is_some()
        });
        for mut parcel in parcels {
            if let Some(keep) = &mut parcel.keep {
                keep.end = 0;
            }
            match self.peer_for(&parcel) {
                Some(id) => {
                    if let Some(peer) = self.remotes.peers.get_mut(id.0) {
                        peer.out.push(Item::Stanza(Box::new(parcel)));
                    }
                }
                None => self.bring_back(parcel, FULL),
            }
        }
        let (durable, delay_ms) = (self.core.view.durable(), u64::from(self.core.settings.limits.sm_spool_delay_ms));
        for id in &peers {
            self.charge_peer(*id);
            if self.peer_queue(*id).is_some_and(|out| out.parcels().any(|p| p.owed(durable).is_some())) {
                self.spool_in(Holder::Peer(*id), delay_ms);
            }
            self.arm_peer(*id);
        }
        peers
    }

    /// A link is lost or gives up: its peers look for another.
    pub(super) fn leave_link(&mut self, conn: ConnId, refusal: Option<Refusal>) {
        let now_ms = self.core.now.mono_ms;
        let peers = self.forsake_link(conn);
        let Some(link) = self.remotes.links.get_mut(conn.0) else { return };
        // One that has lived, and has not been refused, says nothing against the next.
        let lived = link.is_settled()
            && now_ms.saturating_sub(link.since_ms) > u64::from(self.core.settings.limits.s2s_retry_min_s) * 1000;
        let opener = link.peer.take();
        if let Some(id) = opener
            && let Some(peer) = self.remotes.peers.get_mut(id.0).filter(|peer| peer.link == Some(conn))
        {
            peer.link = None;
            if !lived && (peer.waits() > 0 || !peer.verifies.is_empty()) {
                self.peer_failed(id, refusal);
            }
        }
        for id in peers.into_iter().chain(opener) {
            self.connect(id);
            self.arm_peer(id);
        }
        self.forget_claims(conn);
    }

    /// Peers whose link was closed by us look for another if they need one.
    pub(super) fn let_go(&mut self, conn: ConnId, peers: Vec<PeerId>) {
        for id in peers {
            if let Some(peer) = self.remotes.peers.get_mut(id.0).filter(|peer| peer.link == Some(conn)) {
                peer.link = None;
                peer.verifies.iter_mut().for_each(|verify| verify.sent = false);
            }
            self.connect(id);
            self.arm_peer(id);
        }
    }

    /// An attempt to reach a peer has failed, for good when there is a refusal.
    pub(super) fn peer_failed(&mut self, id: PeerId, refusal: Option<Refusal>) {
        let limits = &self.core.settings.limits;
        let (min_ms, max_ms) = (u64::from(limits.s2s_retry_min_s) * 1000, u64::from(limits.s2s_retry_max_s) * 1000);
        let mut random = [0; 2];
        self.core.entropy.fill(&mut random);
        let Some(peer) = self.remotes.peers.get_mut(id.0) else { return };
        let wait_ms = min_ms.saturating_mul(1 << peer.failures.min(16)).min(max_ms);
        // Between half of it and all, so that those who wait for the same server do not come together.
        let jitter_ms = wait_ms / 2 * u64::from(u16::from_be_bytes(random)) / u64::from(u16::MAX);
        peer.failures = peer.failures.saturating_add(1);
        peer.retry_ms = self.core.now.mono_ms + wait_ms - jitter_ms;
        peer.condemned = refusal;
        log::info!(
            target: LOG,
            "{}: attempt {} has failed{}",
            peer.pair,
            peer.failures,
            refusal.map(|r| format!(": {}", r.text)).unwrap_or_default()
        );
        let condition = refusal.map_or(LATE.condition, |refusal| refusal.condition);
        let verifies = std::mem::take(&mut peer.verifies);
        let pair = peer.pair.clone();
        for verify in verifies {
            self.answer_claim(verify.conn, &pair, Verdict::Error(condition));
        }
        if let Some(refusal) = refusal {
            self.unshelve(id);
            self.give_up(id, refusal, &|_| true);
        }
        self.arm_peer(id);
    }

    /// Returns those of the waiting stanzas of a peer that `which` names.
    pub(super) fn give_up(&mut self, id: PeerId, refusal: Refusal, which: &dyn Fn(&Keep) -> bool) {
        let Some(peer) = self.remotes.peers.get_mut(id.0) else { return };
        let spools = peer.out.spools();
        let (gone, stay): (Vec<_>, Vec<_>) = std::mem::take(&mut peer.out)
            .into_parcels()
            .into_iter()
            .partition(|parcel| parcel.keep.as_deref().is_none_or(which));
        for parcel in stay {
            peer.out.push(Item::Stanza(Box::new(parcel)));
        }
        peer.out.set_spools(spools);
        self.charge_peer(id);
        self.remotes.returned.extend(gone.into_iter().map(|parcel| (parcel, refusal)));
    }

    /// A stanza goes back to its sender when the input is done with.
    pub(in crate::engine) fn bring_back(&mut self, parcel: Parcel, refusal: Refusal) {
        self.remotes.returned.push((parcel, refusal));
    }

    /// Returns what could not be sent. Errors and results are not returned, so nothing goes round.
    pub(in crate::engine) fn bring_all_back(&mut self) {
        let durable = self.core.view.durable();
        while !self.remotes.returned.is_empty() {
            for (parcel, refusal) in std::mem::take(&mut self.remotes.returned) {
                let stanza = parcel.stanza();
                let mut is_told = false;
                let ticket = self.step("a stanza that is returned", |core, _| {
                    if let (Some(row), Some(to)) = (parcel.row(), &parcel.to) {
                        core.spool_give(to, row);
                    }
                    let is_returned = |stanza: &Stanza| pipeline::is_returned(core, stanza);
                    if let Some(stanza) = stanza.filter(|s| is_returned(s) && !armed(Fault::ReturnUntold)) {
                        core.counters.bounced = core.counters.bounced.wrapping_add(1);
                        if let Some(reply) = stanza.error(&refusal.condition.because(refusal.text)) {
                            core.send(InFlight::answer(reply));
                            is_told = true;
                        }
                    }
                });
                if let Some(keep) = &parcel.keep {
                    if let (Some(receipt), Some(ticket)) = (keep.owed(durable), ticket)
                        && self.core.view.wrote()
                        && let Some(inbound) = self.inbound_of(receipt.sender)
                    {
                        inbound.wait(receipt.number, ticket);
                    }
                    self.settle(keep, durable);
                }
                if let Some(ticket) = ticket.filter(|ticket| is_told && *ticket > durable) {
                    self.remotes.returning.push((ticket, parcel, refusal));
                }
            }
        }
    }

    /// What went back with the batches behind `durable` did not: its senders will be told with the next attempt to
    /// write, and what they wait for is not safe before that.
    fn return_failed(&mut self, durable: Ticket) {
        for (after, mut parcel, refusal) in std::mem::take(&mut self.remotes.returning) {
            if after <= durable {
                continue;
            }
            if let Some(keep) = &mut parcel.keep {
                let row = keep.row.filter(|_| keep.row_after <= durable);
                (keep.row, keep.row_after) = (row, Ticket(0));
                if let (Some(row), Some(to)) = (row, &parcel.to) {
                    self.core.spool_hold(to, row);
                }
                if let Some(receipt) = keep.owed(durable)
                    && let Some(inbound) = self.inbound_of(receipt.sender)
                {
                    inbound.owe(receipt.number);
                }
            }
            self.remotes.unreturned.push((parcel, refusal));
        }
    }

    /// Another attempt to write may go well: what could not go back goes.
    pub(in crate::engine) fn return_again(&mut self) {
        self.remotes.returned.append(&mut self.remotes.unreturned);
    }

    /// The link that is being made for a peer, when nothing is for it any more.
    fn needless_link(&self, id: PeerId) -> Option<ConnId> {
        let peer = self.remotes.peers.get(id.0)?;
        let conn = peer.link.filter(|_| peer.waits() == 0 && peer.verifies.is_empty())?;
        let is_made = |link: &super::Link| !link.ends && !link.stream.is_open() && !link.stream.is_closing();
        self.remotes.links.get(conn.0).filter(|link| is_made(link)).map(|_| conn)
    }

    /// Sets the timer of a peer to the next thing that time brings, and forgets one for which there is none. What is
    /// being done to reach it ends when nothing is for it any more.
    pub(super) fn arm_peer(&mut self, id: PeerId) {
        if let Some(conn) = self.needless_link(id) {
            // Comes back here when the peer has let go of it.
            return self.close_link(conn);
        }
        let wait_ms = u64::from(self.core.settings.limits.s2s_queue_timeout_s) * 1000;
        let now_ms = self.core.now.mono_ms;
        let Some(peer) = self.remotes.peers.get_mut(id.0) else { return };
        let oldest = peer.oldest_ms();
        let late_ms = oldest.map(|since_ms| since_ms + wait_ms);
        let retry_ms = Some(peer.retry_ms).filter(|at| *at > now_ms);
        let next_ms = late_ms.into_iter().chain(retry_ms).min();
        if peer.timer_ms != next_ms {
            if let Some(old) = peer.timer_ms.take() {
                self.timers.remove(&(old, Timer::Peer(id)));
            }
            peer.timer_ms = next_ms;
            if let Some(at) = next_ms {
                self.timers.insert((at, Timer::Peer(id)), ());
            }
        }
        if next_ms.is_none() && peer.is_idle() {
            self.remotes.by_pair.remove(&peer.pair);
            if let Some(mut peer) = self.remotes.peers.remove(id.0) {
                self.budget.settle(Held::Servers, &mut peer.charge, 0);
            }
        }
    }

    /// A peer is to be tried again, or something has waited too long for it.
    pub(in crate::engine) fn peer_due(&mut self, id: PeerId) {
        let now_ms = self.core.now.mono_ms;
        let wait_ms = u64::from(self.core.settings.limits.s2s_queue_timeout_s) * 1000;
        let Some(peer) = self.remotes.peers.get_mut(id.0) else { return };
        peer.timer_ms = None;
        if peer.retry_ms <= now_ms {
            (peer.retry_ms, peer.condemned) = (0, None);
        }
        if self.remotes.peers.get(id.0).and_then(Peer::oldest_ms).is_some_and(|since_ms| since_ms + wait_ms <= now_ms) {
            self.unshelve(id);
        }
        self.give_up(id, LATE, &|keep| keep.since_ms + wait_ms <= now_ms);
        if let Some(peer) = self.remotes.peers.get_mut(id.0).filter(|peer| peer.is_idle() && peer.condemned.is_none()) {
            // Nobody waits for the next attempt; of thousands that were tried in vain nothing is left.
            peer.retry_ms = 0;
        }
        self.connect(id);
        self.arm_peer(id);
    }

    /// The batches behind `durable` never happened: what showed them is withdrawn, with whoever may have missed
    /// presence by that.
    pub(in crate::engine) fn withdraw_remote(
        &mut self,
        durable: Ticket,
        withdrawn: &mut Vec<Parcel>,
        unsure: &mut BTreeSet<(Jid, Jid)>,
    ) {
        self.return_failed(durable);
        for holder in self.peer_holders() {
            let Some(out) = self.queue_of(holder) else { continue };
            let back = out.withdraw(durable);
            for parcel in &back.parcels {
                if let (Kind::Presence(PresenceType::Available | PresenceType::Unavailable), Some(from), Some(to)) =
                    (parcel.kind, &parcel.from, &parcel.to)
                    && self.core.is_local(from)
                {
                    unsure.insert((from.bare(), to.clone()));
                }
            }
            withdrawn.extend(back.parcels);
            back.rows.iter().for_each(|(to, row)| self.core.spool_release(to, *row));
        }
        for key in self.remotes.links.keys() {
            if let Some(inbound) = self.link_inbound(ConnId(key)) {
                inbound.refused(durable);
            }
            self.dirty.insert(ConnId(key));
        }
        for holder in self.peer_holders() {
            if let Holder::Peer(id) = holder {
                self.arm_peer(id);
            }
        }
    }

    /// Brings what was on its way to other servers back from the disk, after a restart.
    pub(in crate::engine) fn restore_remote(&mut self) -> Result<(), StoreError> {
        let wait_ms = u64::from(self.core.settings.limits.s2s_queue_timeout_s) * 1000;
        let now = self.core.now;
        self.core.view.begin();
        let mut rows = self.core.spool_remote()?;
        self.core.view.join();
        if armed(Fault::WayNotRestored) {
            rows.clear();
        }
        let mut gone: Vec<(Jid, u64)> = Vec::new();
        for (row, stored) in rows {
            let rest_ms = stored.until_ms.saturating_sub(u64::try_from(now.wall_ms).unwrap_or_default());
            let since_ms = (now.mono_ms + rest_ms.min(wait_ms)).saturating_sub(wait_ms);
            let Some(parcel) = shelf::parcel_of(&stored, row, since_ms) else { continue };
            let Some(to) = parcel.to.clone() else { continue };
            self.core.spool_hold(&to, row);
            match self.peer_for(&parcel) {
                Some(id) if !self.core.is_local(&to) => self.restore_parcel(id, parcel),
                // Served here by now.
                _ => gone.push((to, row)),
            }
        }
        if !gone.is_empty() {
            self.step("what waited for other servers", |core, _| {
                gone.iter().for_each(|(to, row)| core.spool_delete(to, *row));
            });
        }
        for holder in self.peer_holders() {
            if let Holder::Peer(id) = holder {
                self.connect(id);
                self.arm_peer(id);
            }
        }
        Ok(())
    }

    fn restore_parcel(&mut self, id: PeerId, parcel: Parcel) {
        if let Some(peer) = self.remotes.peers.get_mut(id.0) {
            peer.out.push(Item::Stanza(Box::new(parcel)));
        }
        self.charge_peer(id);
    }

    /// Writes all that somebody waits for and that has not arrived at its peer.
    pub(super) fn spool_peers(&mut self) {
        let durable = self.core.view.durable();
        for holder in self.peer_holders() {
            self.spool(holder, &|keep| keep.row.is_none() && keep.owed(durable).is_some());
        }
    }
}

impl Peer {
    /// Bytes that it takes, its places in tables and what waits for it among them.
    fn held_bytes(&self) -> usize {
        /// Its share of a node of the tree of pairs, the queue's first places, timers, its place in the list of a link.
        const PLACES_BYTES: usize = 2 * size_of::<(Pair, PeerId)>() + allocated(4 * size_of::<Item>()) + 64;
        /// An addressee.
        const ADDRESS_BYTES: usize = 48;
        let text = |text: &str| 2 * allocated(text.len());
        let verify = |verify: &Verify| size_of::<Verify>() + allocated(verify.id.len()) + allocated(verify.key.len());
        let verifies: usize = self.verifies.iter().map(verify).sum();
        let shelf = allocated(self.shelf.capacity() * size_of::<shelf::Shelved>());
        let waits = self.out.held_bytes() + self.out.stanzas() * ADDRESS_BYTES + shelf;
        size_of::<Self>() + PLACES_BYTES + text(&self.pair.local) + text(&self.pair.remote) + verifies + waits
    }

    /// How many stanzas wait for it, those on the disk alone among them.
    pub(super) fn waits(&self) -> usize {
        self.out.stanzas() + self.shelf.len()
    }

    /// When the first of them was sent.
    fn oldest_ms(&self) -> Option<u64> {
        let waiting = self.out.parcels().filter_map(|parcel| parcel.keep.as_ref()).map(|keep| keep.since_ms);
        waiting.chain(self.shelf.iter().map(|shelved| shelved.since_ms)).min()
    }

    /// Nothing waits for it or goes on with it.
    pub(super) fn is_idle(&self) -> bool {
        self.via.is_none() && self.link.is_none() && self.waits() == 0 && self.verifies.is_empty()
    }
}

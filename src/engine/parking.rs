//! Sessions without connection (XEP-0198 section 5): they are written, wait to be resumed, and end.

use super::managed::Managed;
use super::{ConnId, Engine, LOG, Timer};
use crate::budget::{Charge, Kind as Held};
use crate::core::Core;
use crate::core::flight::{Item, Keep, Parcel, Receipt};
use crate::core::out_queue::OutQueue;
use crate::core::parked::State;
use crate::core::session::SessionId;
use crate::core::spool::Stored;
use crate::fault::{Fault, armed};
use crate::jid::Jid;
use crate::modules::Modules;
use crate::modules::SessionEvent;
use crate::stanza::{Condition, Kind, PresenceType, Stanza};
use crate::storage::{StoreError, Ticket};
use crate::stream::StreamError;
use crate::stream::management::Inbound;

/// Where a session waits.
pub(super) struct Lot {
    /// What waits for it. Of a session that was restored, what came before the restart is on disk alone.
    pub out: OutQueue,
    pub charge: Charge,
    /// When it ends.
    pub deadline_ms: u64,
    /// When its record is durable; [`NEVER`] while it has none.
    saved: Ticket,
    /// Stanzas that had been sent before the restart that it was restored after.
    restored: Option<u64>,
    /// What modules had stored, when somebody wanted to resume it in vain.
    given_up: Option<Box<State>>,
    /// Who takes it over as soon as all that it has sent is safe.
    pub resuming: Option<Box<Resuming>>,
}

/// A batch that there will not be.
const NEVER: Ticket = Ticket(u64::MAX);

/// A connection that waits for a session.
pub(super) struct Resuming {
    pub conn: ConnId,
    h: u32,
    /// When the session's record is gone.
    after: Ticket,
    /// What modules had stored there.
    state: State,
}

impl Lot {
    fn new(out: OutQueue, deadline_ms: u64) -> Self {
        Self {
            out,
            charge: Charge::default(),
            deadline_ms,
            saved: NEVER,
            restored: None,
            given_up: None,
            resuming: None,
        }
    }

    /// Stanzas sent and acknowledged.
    fn counts(&self) -> (u64, u64) {
        let (sent, acked) = self.out.counts().unwrap_or_default();
        (self.restored.unwrap_or(sent), acked)
    }
}

impl Engine {
    /// Makes parked sessions of all records. Their rows stay on disk until they are resumed.
    pub(super) fn restore(&mut self) -> Result<(), StoreError> {
        self.core.view.begin();
        let restored = self.core.parked_restore()?;
        self.core.view.join();
        let mut states = Vec::with_capacity(restored.len());
        let wall_ms = u64::try_from(self.core.now.wall_ms).unwrap_or_default();
        for (session, record) in restored {
            let rest_ms = record.until_ms.saturating_sub(wall_ms).min(u64::from(record.max_s) * 1000);
            let mut lot = Lot::new(OutQueue::restored(record.acked), self.core.now.mono_ms + rest_ms);
            lot.saved = Ticket(0);
            lot.restored = Some(record.sent);
            self.timers.insert((lot.deadline_ms, Timer::Parked(session)), ());
            states.push((session, record.state));
            let inbound = Inbound::restored(record.received);
            let managed = Managed { max_s: record.max_s, inbound, lot: Some(Box::new(lot)) };
            self.managed.insert(session, Box::new(managed));
            self.crowded(session);
        }
        // Once all are there, since modules may look at each other's sessions.
        self.core.view.begin();
        for (session, state) in states {
            self.modules.restore_session(&mut self.core, session, &state)?;
        }
        self.core.view.join();
        for (session, wait_s) in std::mem::take(&mut self.core.waits) {
            self.postpone(session, wait_s);
        }
        Ok(())
    }

    /// Sessions that wait.
    pub(super) fn parked(&self) -> usize {
        self.managed.values().filter(|m| m.lot.is_some()).count()
    }

    /// Takes the session from its connection. False when it is none that waits.
    pub(super) fn park(&mut self, conn: ConnId) -> bool {
        let Some(session) = self.detach(conn) else { return false };
        self.unseen(session);
        self.save(session);
        self.crowded(session);
        let max = self.core.settings.limits.sm_parked_max as usize;
        let Some(jid) = self.core.sessions.get(session).map(|s| s.jid.bare()) else { return true };
        while let Some(oldest) = self.oldest_parked(&jid, max) {
            self.end_session(oldest);
        }
        true
    }

    /// Of more than `max` sessions of an account that wait the one that ends first.
    pub(super) fn oldest_parked(&self, account: &Jid, max: usize) -> Option<SessionId> {
        let deadline = |id: &SessionId| self.managed.get(id)?.lot.as_ref().map(|lot| (lot.deadline_ms, *id));
        let parked: Vec<_> = self.core.sessions.of(account).iter().filter_map(deadline).collect();
        if parked.len() > max { parked.into_iter().min().map(|(_, id)| id) } else { None }
    }

    /// Takes the session from its connection without writing anything.
    fn detach(&mut self, conn: ConnId) -> Option<SessionId> {
        let c = self.conns.get_mut(conn.0)?;
        let session = c.session?;
        let managed = self.managed.get_mut(&session).filter(|m| m.max_s > 0)?;
        let s = self.core.sessions.get_mut(session)?;
        // Not while the client has not been told that it can.
        c.out.counts()?;
        c.session = None;
        s.conn = None;
        let deadline_ms = self.core.now.mono_ms + u64::from(managed.max_s) * 1000;
        managed.lot = Some(Box::new(Lot::new(c.out.take_stanzas(), deadline_ms)));
        self.timers.insert((deadline_ms, Timer::Parked(session)), ());
        self.dirty.insert(conn);
        Some(session)
    }

    /// Writes a parked session with all that waits for it, and what its own stanzas wait for: then all of those are
    /// safe.
    fn save(&mut self, session: SessionId) {
        self.spool_owed_to(session);
        let Some(managed) = self.managed.get_mut(&session) else { return };
        let (received, max_s) = (managed.inbound.received(), managed.max_s);
        let Some(lot) = &mut managed.lot else { return };
        let (sent, acked) = lot.counts();
        let mut out = std::mem::take(&mut lot.out);
        let until_ms = u64::try_from(self.core.now.wall_ms).unwrap_or_default()
            + lot.deadline_ms.saturating_sub(self.core.now.mono_ms);
        let restored = lot.restored.is_some();
        let given_up = lot.given_up.take().unwrap_or_default();
        let is_leaving = |p: &&Parcel| p.kind == Kind::Presence(PresenceType::Unavailable);
        let unseen: Vec<Jid> = out.parcels().filter(is_leaving).filter_map(|p| p.from.clone()).collect();
        let mut receipts: Vec<Receipt> = Vec::new();
        let mut failed = None;
        let ticket = self.step("parking a session", |core, modules| {
            let Some(id) = core.sessions.get(session).and_then(|s| s.resume_id.clone()) else { return };
            let durable = core.view.durable();
            for (parcel, place) in out.parcels_mut().zip(acked + 1..) {
                // What came after a restart has no place before what came earlier.
                let place = if restored { crate::core::spool::LAST } else { place };
                let owed = parcel.owed(durable).filter(|_| parcel.row().is_none());
                match core.spool_parcel(parcel, Some((&id, place))) {
                    Ok(()) => receipts.extend(owed.filter(|_| parcel.row().is_some())),
                    Err(error) => failed = Some(error),
                }
            }
            let Some(jid) = core.sessions.get(session).map(|s| s.jid.clone()) else { return };
            match (core.parked(&jid), &failed) {
                (Ok(before), None) => {
                    let before = before.as_ref().map_or(&*given_up, |record| &record.state);
                    let state = modules.session_state(core, session, before, &unseen);
                    core.parked_put(session, max_s, until_ms, (received, sent, acked), state);
                }
                // A record stands for all that the session holds, or there is none.
                (Ok(_), Some(_)) => {}
                (Err(error), _) => failed = Some(error),
            }
        });
        out.recount();
        self.spooled(ticket, receipts);
        if let Some(lot) = self.managed.get_mut(&session).and_then(|m| m.lot.as_mut()) {
            lot.out = out;
            lot.saved = ticket.filter(|_| failed.is_none()).unwrap_or(NEVER);
            if failed.is_some() {
                lot.given_up = Some(given_up);
            }
        }
        if let Some(error) = failed {
            log::error!(target: LOG, "a session that waits is not written yet: {error}");
            self.retry_later();
        }
    }

    /// A session without connection is to wait so many seconds from now on, or as long as it may by itself.
    pub(super) fn wait_anew(&mut self, session: SessionId, wait_s: Option<u32>) {
        if self.postpone(session, wait_s) {
            self.save(session);
        }
    }

    /// The same, of which nothing is written. False when the session does not wait, or does not for long.
    fn postpone(&mut self, session: SessionId, wait_s: Option<u32>) -> bool {
        let (now_ms, max_s) = (self.core.now.mono_ms, self.core.settings.limits.sm_wait_max_s);
        let Some(managed) = self.managed.get_mut(&session) else { return false };
        let Some(lot) = &mut managed.lot else { return false };
        let wait_s = wait_s.map_or(managed.max_s, |wait_s| wait_s.clamp(managed.max_s, max_s.max(managed.max_s)));
        lot.deadline_ms = now_ms + u64::from(wait_s) * 1000;
        self.timers.insert((lot.deadline_ms, Timer::Parked(session)), ());
        lot.resuming.is_none()
    }

    fn retry_later(&mut self) {
        self.timers.insert((self.core.now.mono_ms + super::RETRY_MS, Timer::Retry), ());
    }

    /// What is stored of these sessions is written anew with that batch.
    pub(super) fn renewed(&mut self, sessions: &[SessionId], ticket: Ticket) {
        for session in sessions {
            if let Some(lot) = self.managed.get_mut(session).and_then(|m| m.lot.as_mut()) {
                lot.saved = ticket;
            }
        }
    }

    /// Settles what a parked session holds; one that holds too much ends with the tick.
    pub(super) fn crowded(&mut self, session: SessionId) {
        let limits = &self.core.settings.limits;
        let Some(managed) = self.managed.get_mut(&session) else { return };
        let Some(lot) = &mut managed.lot else { return };
        let held = size_of::<Lot>() + lot.out.held_bytes() + managed.inbound.heap_bytes();
        self.budget.settle(Held::Parked, &mut lot.charge, held);
        if let Some(s) = self.core.sessions.get_mut(session) {
            let bytes = s.held_bytes();
            self.budget.settle(Held::Sessions, &mut s.charge, bytes);
        }
        let many = lot.out.stanzas() > limits.sm_unacked_max as usize;
        if many || lot.out.held_bytes() > limits.out_bytes_max as usize {
            self.overfull.push(session);
        }
    }

    /// Lets a parked session have on the disk alone what waits for it, as after a restart. Nothing is done unless all
    /// of that is durable.
    pub(super) fn unload(&mut self, session: SessionId) {
        let durable = self.core.view.durable();
        let Some(lot) = self.managed.get_mut(&session).and_then(|m| m.lot.as_mut()) else { return };
        let is_stored =
            |p: &Parcel| p.keep.as_ref().is_none_or(|k| k.row_after <= durable && k.owed(durable).is_none());
        if lot.out.stanzas() == 0 || lot.resuming.is_some() || lot.saved > durable || !lot.out.parcels().all(is_stored)
        {
            return;
        }
        let (sent, acked) = lot.counts();
        lot.restored = Some(sent);
        let out = std::mem::replace(&mut lot.out, OutQueue::restored(acked));
        for parcel in out.into_parcels() {
            if let (Some(row), Some(to)) = (parcel.row(), &parcel.to) {
                self.core.spool_release(to, row);
            }
        }
        self.crowded(session);
    }

    /// Time is up.
    pub(super) fn parked_due(&mut self, session: SessionId) {
        let now_ms = self.core.now.mono_ms;
        let Some(lot) = self.managed.get_mut(&session).and_then(|m| m.lot.as_mut()) else { return };
        if lot.deadline_ms > now_ms {
            return;
        }
        if lot.resuming.is_some() {
            // Its connection has a deadline of its own.
            lot.deadline_ms = now_ms + super::RETRY_MS;
            self.timers.insert((lot.deadline_ms, Timer::Parked(session)), ());
            return;
        }
        log::info!(target: LOG, "a session was not resumed in time");
        self.end_session(session);
    }

    /// What a restored session has on disk alone, as parcels behind `acked`; and the rest, which has arrived.
    fn load(&mut self, session: SessionId, acked: u64) -> Result<(OutQueue, Vec<(Jid, u64)>), StoreError> {
        let (mut out, mut arrived) = (OutQueue::restored(acked), Vec::new());
        let Some(s) = self.core.sessions.get(session) else { return Ok((out, arrived)) };
        let (jid, Some(id)) = (s.jid.clone(), s.resume_id.clone()) else { return Ok((out, arrived)) };
        for (row, stored) in self.core.spool_of(&jid, &id)? {
            match stored.stanza() {
                Some(stanza) if stored.place > acked => {
                    self.core.spool_hold(&jid, row);
                    out.push(Item::Stanza(Box::new(parcel(&stanza, &stored, row, self.core.now.mono_ms))));
                }
                _ => arrived.push((jid.clone(), row)),
            }
        }
        Ok((out, arrived))
    }

    /// Loads what a session that ends has on disk alone.
    pub(super) fn load_all(&mut self, session: SessionId) -> OutQueue {
        let lot = self.managed.get(&session).and_then(|m| m.lot.as_ref());
        let Some((_, acked)) = lot.filter(|lot| lot.restored.is_some()).map(|lot| lot.counts()) else {
            return OutQueue::default();
        };
        self.core.view.begin();
        match self.load(session, acked) {
            Ok((out, _)) => out,
            Err(error) => {
                // It stays there, and is for the next session from now on.
                log::error!(target: LOG, "{error}");
                OutQueue::default()
            }
        }
    }

    /// Section 5: a client wants to go on with a session of its account.
    pub(super) fn resume(&mut self, conn: ConnId, previd: &str, h: u32) {
        let Some(c) = self.conns.get(conn.0) else { return };
        let (Some(host), Some(user)) = (c.stream.host(), c.stream.user()) else { return };
        let Ok(account) = Jid::from_parts(Some(user), host, None) else { return };
        let Some(session) = self.core.sessions.resumable(&account, previd) else {
            self.core.view.begin();
            let h = self.core.ended(&account, previd).unwrap_or_else(|error| {
                log::error!(target: LOG, "{error}");
                None
            });
            return self.refuse_resume(conn, Condition::ItemNotFound, h);
        };
        let old = self.core.sessions.get(session).and_then(|s| s.conn);
        let lot = self.managed.get(&session).and_then(|m| m.lot.as_ref());
        let counts = match old {
            Some(old) => self.conns.get(old.0).and_then(|c| c.out.counts()),
            None => lot.map(|lot| lot.counts()),
        };
        let Some((sent, acked)) = counts else { return self.refuse_resume(conn, Condition::ItemNotFound, None) };
        if u64::from(h.wrapping_sub(acked as u32)) > sent - acked {
            return self.too_high(conn, h, sent as u32);
        }
        let other = lot.and_then(|lot| lot.resuming.as_ref()).map(|resuming| resuming.conn);
        if let Some(old) = old {
            self.detach(old);
        }
        for former in old.into_iter().chain(other) {
            self.fail(former, StreamError::Conflict, Some("Resumed elsewhere."));
        }
        self.spool_owed_to(session);
        let jid = self.core.sessions.get(session).map(|s| s.jid.clone());
        let (mut state, mut unknown) = (State::new(), false);
        let gone = self.step("a session that is resumed", |core, modules| {
            match jid.as_ref().map(|jid| (jid, core.parked(jid))) {
                Some((jid, Ok(Some(record)))) => {
                    state = record.state;
                    core.parked_delete(jid);
                }
                Some((_, Err(error))) => {
                    log::error!(target: LOG, "a session is not resumed: {error}");
                    unknown = true;
                    return;
                }
                Some((_, Ok(None))) | None => {}
            }
            if let Err(error) = modules.session(core, session, SessionEvent::Resumed) {
                log::error!(target: LOG, "modules do not know a resumed session: {}", error.condition.as_str());
            }
        });
        let Some(after) = gone.filter(|_| !unknown) else {
            // A record that stays on disk would come back after a crash, older than the session.
            self.refuse_resume(conn, Condition::InternalServerError, None);
            return self.save(session);
        };
        if let Some(lot) = self.managed.get_mut(&session).and_then(|m| m.lot.as_mut()) {
            lot.saved = NEVER;
            lot.resuming = Some(Box::new(Resuming { conn, h, after, state }));
        }
        if let Some(c) = self.conns.get_mut(conn.0) {
            c.resuming = Some(session);
        }
        self.finish_resume(session);
    }

    pub(super) fn refuse_resume(&mut self, conn: ConnId, condition: Condition, h: Option<u64>) {
        if let Some(c) = self.conns.get_mut(conn.0) {
            c.resuming = None;
            c.stream.refuse_resume(condition, h);
        }
        self.again.push(conn);
    }

    /// Whoever wanted to resume the session is gone, or what must be durable for it is not: it goes on waiting.
    pub(super) fn resume_given_up(&mut self, session: SessionId) {
        let lot = self.managed.get_mut(&session).and_then(|m| m.lot.as_mut());
        if let Some(resuming) = lot.and_then(|lot| lot.resuming.take()) {
            self.wait_on(session, resuming.state);
        }
    }

    /// Writes a session once more that has not been resumed, with what modules had stored.
    fn wait_on(&mut self, session: SessionId, state: State) {
        if let Some(lot) = self.managed.get_mut(&session).and_then(|m| m.lot.as_mut()) {
            lot.given_up = Some(Box::new(state));
        }
        self.save(session);
    }

    /// Lets a session go on if all that it has sent is safe.
    pub(super) fn finish_resume(&mut self, session: SessionId) {
        let durable = self.core.view.durable();
        let Some(managed) = self.managed.get_mut(&session) else { return };
        managed.inbound.progress(durable);
        let received = managed.inbound.received();
        let is_safe = managed.inbound.safe() == received;
        let Some(lot) = &mut managed.lot else { return };
        let Some(resuming) = lot.resuming.take_if(|r| is_safe && r.after <= durable) else { return };
        let Resuming { conn, h, state, .. } = *resuming;
        let acked = lot.restored.map(|_| lot.counts().1).map(|acked| acked + u64::from(h.wrapping_sub(acked as u32)));
        let loaded = acked.map(|acked| {
            self.core.view.begin();
            self.load(session, acked)
        });
        let (loaded, gone) = match loaded.transpose() {
            Ok(loaded) => loaded.unzip(),
            Err(error) => {
                log::error!(target: LOG, "{error}");
                self.refuse_resume(conn, Condition::InternalServerError, None);
                return self.wait_on(session, state);
            }
        };
        let Some(mut lot) = self.managed.get_mut(&session).and_then(|m| m.lot.take()) else { return };
        self.budget.settle(Held::Parked, &mut lot.charge, 0);
        let mut out = std::mem::take(&mut lot.out);
        let mut arrived = Vec::new();
        if let Some(mut loaded) = loaded {
            loaded.append_waiting(out);
            out = loaded;
        } else {
            if !armed(Fault::ResumedTwice) {
                arrived = out.ack(h).unwrap_or_default();
            }
            if !armed(Fault::ResumedQueueLost) {
                out.send_again();
            }
        }
        let Some(s) = self.core.sessions.get_mut(session) else { return };
        let (jid, id) = (s.jid.clone(), s.resume_id.clone().unwrap_or_default());
        s.conn = Some(conn);
        if let Some(c) = self.conns.get_mut(conn.0) {
            c.session = Some(session);
            c.resuming = None;
            c.deadline_ms = None;
            c.stream.resumed(&jid, &id, received);
            let output = c.stream.take_output();
            c.out.push(Item::Raw(output));
            c.out.append(out);
        }
        log::info!(target: LOG, "{jid} is resumed");
        self.dirty.insert(conn);
        self.arrived(arrived);
        if let Some(gone) = gone {
            self.step("a session after a restart", |core, modules| {
                for (jid, row) in &gone {
                    core.spool_delete(jid, *row);
                }
                let is_available = core.sessions.get(session).is_some_and(|s| s.available.is_some());
                if is_available && let Err(error) = core.presence_initial(session, &jid) {
                    log::error!(target: LOG, "{jid} is not told who is there: {}", error.condition.as_str());
                }
                if let Err(error) = modules.revived(core, session, &state) {
                    log::error!(target: LOG, "{jid} is not told what it has missed: {}", error.condition.as_str());
                }
            });
        }
        self.again.push(conn);
    }

    /// What was written of parked sessions has failed: it is tried again later. Nobody resumes meanwhile.
    pub(super) fn parked_failed(&mut self) {
        let durable = self.core.view.durable();
        let mut waiting = Vec::new();
        for managed in self.managed.values_mut() {
            managed.inbound.refused(durable);
            let Some(lot) = &mut managed.lot else { continue };
            if lot.saved > durable {
                lot.saved = NEVER;
            }
            if let Some(resuming) = lot.resuming.take() {
                lot.given_up = Some(Box::new(resuming.state));
                waiting.push(resuming.conn);
            }
        }
        for conn in waiting {
            self.refuse_resume(conn, Condition::InternalServerError, None);
        }
        self.retry_later();
    }

    /// Writes once more what could not be written, and deletes what could not be deleted.
    pub(super) fn retry(&mut self) {
        self.return_again();
        let mut deleted = Ok(());
        self.step("sessions that do not wait", |core, _| deleted = core.parked_delete_again());
        if let Err(error) = deleted {
            log::error!(target: LOG, "a session that is over may come back with a restart: {error}");
            self.retry_later();
        }
        if self.core.spool_owes() {
            self.step("the spool", |core, _| core.spool_delete_again());
        }
        let unsaved = |m: &Managed| m.lot.as_ref().is_some_and(|lot| lot.saved == NEVER && lot.resuming.is_none());
        let sessions: Vec<SessionId> = self.managed.iter().filter(|(_, m)| unsaved(m)).map(|(id, _)| *id).collect();
        for session in sessions {
            self.save(session);
        }
    }
}

/// Writes anew what is stored of sessions that wait and of which something has changed. Gives those.
pub(super) fn renew(core: &mut Core, modules: &mut Modules) -> Vec<SessionId> {
    let mut renewed = Vec::new();
    for session in std::mem::take(&mut core.changed) {
        let Some(jid) = core.sessions.get(session).map(|s| s.jid.clone()) else { continue };
        match core.parked(&jid) {
            // Without record: it is about to get one, or to be resumed.
            Ok(None) => {}
            Ok(Some(record)) => {
                let state = modules.session_state(core, session, &record.state, &[]);
                let counts = (record.received, record.sent, record.acked);
                core.parked_put(session, record.max_s, record.until_ms, counts, state);
                renewed.push(session);
            }
            Err(error) => log::error!(target: LOG, "what is stored of {jid} stays as it was: {error}"),
        }
    }
    renewed
}

/// A row as it waits for its session.
fn parcel(stanza: &Stanza, stored: &Stored, row: u64, now_ms: u64) -> Parcel {
    Parcel {
        kind: stanza.kind,
        to: stanza.to.clone(),
        from: stanza.from.clone(),
        tail: Some(stanza.tail()),
        after: Ticket(0),
        is_copy: stored.is_copy,
        read_ms: 0,
        keep: Some(Box::new(Keep { row: Some(row), since_ms: now_ms, ..Keep::default() })),
    }
}

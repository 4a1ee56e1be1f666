//! Stream management (XEP-0198): acknowledgements that keep their word.
//!
//! What a client sends is counted, and the count is told as far as it is *safe*: what a stanza wrote is durable, and a
//! message that XEP-0160 would store has reached each of its recipients. It has reached one that uses stream management
//! when that acknowledges it, one that does not when the socket has taken it, and any of them when it is on disk, where
//! it goes after `limits.sm_spool_delay_ms`. What is sent is kept until the client acknowledges it, and sent again when
//! the session is resumed, or goes elsewhere when the session ends. Sessions without connection are in
//! [`parking`](super::parking).

use super::parking::Lot;
use super::{ConnId, Engine, Holder, LOG, Timer};
use crate::budget::Kind as Held;
use crate::core::flight::{Filters, InFlight, Item, Keep, Parcel, Receipt, Sender, Urgency};
use crate::core::out_queue::OutQueue;
use crate::core::parked::Ended;
use crate::core::session::SessionId;
use crate::core::spool::{is_for_others, stamp};
use crate::fault::{Fault, armed};
use crate::jid::Jid;
use crate::modules::SessionEvent;
use crate::stanza::{Condition, IqType, Kind, Stanza};
use crate::storage::Ticket;
use crate::stream::management::{self, Inbound, Request};
use std::rc::Rc;

/// A session that uses stream management.
#[derive(Default)]
pub(super) struct Managed {
    /// How long it waits to be resumed, in seconds; 0 when it cannot be.
    pub max_s: u32,
    /// What the client has sent.
    pub inbound: Inbound,
    /// Where it waits without connection.
    pub lot: Option<Box<Lot>>,
}

/// An acknowledgement of a session that modules watch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Owed {
    /// It was asked for last at that time. There is a [`Timer::Late`].
    Since(u64),
    /// For too long: modules have heard of it.
    Late,
}

impl Engine {
    /// An element of XEP-0198 on a stream with a session.
    pub(super) fn manage(&mut self, conn: ConnId, session: SessionId, request: Result<Request, Condition>) {
        let managed = self.managed.get_mut(&session);
        let Some(c) = self.conns.get_mut(conn.0) else { return };
        match (request, managed) {
            (Ok(Request::Enable { resume, max_s }), None) => self.enable(conn, session, resume, max_s),
            (Ok(Request::Ask), Some(managed)) => {
                managed.inbound.asked = true;
                self.dirty.insert(conn);
            }
            (Ok(Request::Ack { h }), Some(_)) => match c.out.ack(h) {
                Ok(arrived) => {
                    self.dirty.insert(conn);
                    self.arrived(arrived);
                    if self.owed.get(&session) == Some(&Owed::Late) {
                        self.owed.remove(&session);
                        self.on_time(session);
                    }
                }
                Err(sent) => self.too_high(conn, h, sent),
            },
            (Ok(_), _) => self.refuse(conn, Condition::UnexpectedRequest),
            (Err(condition), _) => self.refuse(conn, condition),
        }
    }

    fn refuse(&mut self, conn: ConnId, condition: Condition) {
        let mut out = Vec::new();
        management::write_failed(condition, None, &mut out);
        if let Some(c) = self.conns.get_mut(conn.0) {
            c.out.push(Item::Raw(out));
        }
    }

    fn enable(&mut self, conn: ConnId, session: SessionId, resume: bool, max_s: Option<u32>) {
        let out = self.enable_session(session, resume, max_s);
        if let Some(c) = self.conns.get_mut(conn.0) {
            c.out.push(Item::Raw(out));
            c.out.push(Item::Enabled);
        }
    }

    /// Section 3. Returns the answer; behind that the client counts, which is for the caller to see to.
    pub(super) fn enable_session(&mut self, session: SessionId, resume: bool, max_s: Option<u32>) -> Vec<u8> {
        let limit_s = self.core.settings.limits.sm_resume_timeout_s;
        let max_s = if resume { max_s.unwrap_or(limit_s).min(limit_s) } else { 0 };
        let mut out = Vec::new();
        if max_s > 0 {
            let id = self.core.token();
            management::write_enabled(Some((&id, max_s)), &mut out);
            if let Some(s) = self.core.sessions.get_mut(session) {
                s.resume_id = Some(Rc::from(id));
            }
        } else {
            management::write_enabled(None, &mut out);
        }
        self.managed.insert(session, Box::new(Managed { max_s, ..Managed::default() }));
        out
    }

    /// The client acknowledges what it was not sent.
    pub(super) fn too_high(&mut self, conn: ConnId, h: u32, sent: u32) {
        log::info!(target: LOG, "{conn:?} acknowledges {h} stanzas of {sent}");
        self.core.counters.stream_errors = self.core.counters.stream_errors.wrapping_add(1);
        if let Some(c) = self.conns.get_mut(conn.0) {
            c.stream.handled_too_high(h, sent);
            let output = c.stream.take_output();
            c.out.push(Item::Raw(output));
        }
        self.begin_end(conn);
    }

    /// The queue of whoever it is, wherever that is.
    pub(super) fn queue_of(&mut self, holder: Holder) -> Option<&mut OutQueue> {
        match holder {
            Holder::Session(session) => self.session_queue(session),
            Holder::Peer(peer) => self.peer_queue(peer),
        }
    }

    fn session_queue(&mut self, session: SessionId) -> Option<&mut OutQueue> {
        match self.core.sessions.get(session)?.conn {
            Some(conn) => Some(&mut self.conns.get_mut(conn.0)?.out),
            None => Some(&mut self.managed.get_mut(&session)?.lot.as_mut()?.out),
        }
    }

    /// The client of a session has been asked for an acknowledgement.
    pub(super) fn asked(&mut self, session: SessionId) {
        let delay_s = self.core.settings.limits.sm_ack_delay_s;
        if delay_s == 0 || !self.modules.watches(session) {
            return;
        }
        let now_ms = self.core.now.mono_ms;
        if self.owed.insert(session, Owed::Since(now_ms)).is_none() {
            self.timers.insert((now_ms + u64::from(delay_s) * 1000, Timer::Late(session)), ());
        }
    }

    /// A client may owe an acknowledgement for too long.
    pub(super) fn late_due(&mut self, session: SessionId) {
        let delay_ms = u64::from(self.core.settings.limits.sm_ack_delay_s) * 1000;
        let conn = self.core.sessions.get(session).and_then(|s| s.conn);
        let owes = conn.and_then(|conn| self.conns.get(conn.0)).is_some_and(|c| c.out.is_asking());
        let Some(Owed::Since(since_ms)) = self.owed.get(&session).copied() else { return };
        let due_ms = since_ms + delay_ms;
        if !owes {
            self.owed.remove(&session);
        } else if due_ms > self.core.now.mono_ms {
            self.timers.insert((due_ms, Timer::Late(session)), ());
        } else {
            self.owed.insert(session, Owed::Late);
            self.unseen(session);
        }
    }

    fn on_time(&mut self, session: SessionId) {
        self.step("a late acknowledgement", |core, modules| {
            if let Err(error) = modules.session(core, session, SessionEvent::OnTime) {
                log::error!(target: LOG, "modules do not know a session: {}", error.condition.as_str());
            }
        });
    }

    /// Modules hear what a session has not acknowledged, if they watch it.
    pub(super) fn unseen(&mut self, session: SessionId) {
        if !self.modules.watches(session) {
            return;
        }
        let Some(out) = self.session_queue(session) else { return };
        let messages = out.parcels().filter(|p| matches!(p.kind, Kind::Message(_)));
        let messages: Vec<Stanza> = messages.filter_map(Parcel::stanza).collect();
        self.step("what a client has not seen", |core, modules| modules.unseen(core, session, &messages));
    }

    /// Puts a parcel into the queue of a session. What the disk has and the socket cannot take soon is on the disk
    /// alone, so that no queue is as long as all that has waited offline.
    pub(super) fn hand_over(&mut self, session: SessionId, mut parcel: Parcel, urgency: Urgency) {
        self.tick_bytes += parcel.held_bytes();
        let receipt = parcel.keep.as_ref().and_then(|keep| keep.receipt);
        let (row, to) = (parcel.row(), parcel.to.clone());
        let (durable, limits) = (self.core.view.durable(), &self.core.settings.limits);
        let (held_max, window_bytes) = (limits.csi_held_max as usize, limits.out_window_bytes as usize);
        let conn = self.core.sessions.get(session).and_then(|s| s.conn);
        if conn.is_none_or(|conn| self.conns.get(conn.0).is_some_and(|c| !c.ends || armed(Fault::EndOutlived)))
            && let Some(out) = self.session_queue(session)
        {
            if conn.is_none() {
                out.make_obsolete(&parcel);
            }
            if out.held_bytes() + parcel.held_bytes() > window_bytes {
                parcel.shelve(durable);
            }
            let parcel = Box::new(parcel);
            match urgency {
                Urgency::Now => {
                    out.release(durable);
                    out.push(Item::Stanza(parcel));
                }
                Urgency::Later => out.hold(parcel, None, durable, held_max),
                Urgency::Last(subject) => out.hold(parcel, Some(subject), durable, held_max),
            }
            match conn {
                Some(conn) => _ = self.dirty.insert(conn),
                None => self.crowded(session),
            }
            self.owe(receipt, Holder::Session(session));
        } else if let (Some(row), Some(to)) = (row, to) {
            // Nothing follows the end of a stream, not even what its own session sends to itself on leaving.
            self.core.spool_release(&to, row);
        }
    }

    /// A parcel with a receipt has come into a queue.
    pub(super) fn owe(&mut self, receipt: Option<Receipt>, holder: Holder) {
        let Some(receipt) = receipt else { return };
        if let Some(inbound) = self.inbound_of(receipt.sender) {
            inbound.owe(receipt.number);
        }
        self.spool_in(holder, u64::from(self.core.settings.limits.sm_spool_delay_ms));
    }

    /// What is known of the stanzas of whoever uses stream management.
    pub(super) fn inbound_of(&mut self, sender: Sender) -> Option<&mut Inbound> {
        match sender {
            Sender::Session(session) => self.managed.get_mut(&session).map(|managed| &mut managed.inbound),
            Sender::Server(conn) => self.link_inbound(conn),
        }
    }

    /// What somebody's receipt waits for is to be on disk after that time, if it has not arrived by then.
    pub(super) fn spool_in(&mut self, holder: Holder, delay_ms: u64) {
        let at = self.core.now.mono_ms + delay_ms;
        if let Some(out) = self.queue_of(holder)
            && !out.spools()
        {
            out.set_spools(true);
            self.timers.insert((at, Timer::Spool(holder)), ());
        }
    }

    /// Time is up for some of what waits in a queue.
    pub(super) fn spool_due(&mut self, holder: Holder) {
        let (now_ms, durable) = (self.core.now.mono_ms, self.core.view.durable());
        let delay_ms = u64::from(self.core.settings.limits.sm_spool_delay_ms);
        let Some(out) = self.queue_of(holder) else { return };
        out.set_spools(false);
        let waits = |keep: &Keep| keep.row.is_none() && keep.owed(durable).is_some();
        self.spool(holder, &|keep| waits(keep) && keep.since_ms + delay_ms <= now_ms);
        let Some(out) = self.queue_of(holder) else { return };
        let oldest =
            out.parcels().filter_map(|p| p.keep.as_deref()).filter(|keep| waits(keep)).map(|k| k.since_ms).min();
        if let Some(since_ms) = oldest {
            // What could not be written is tried again later.
            let rest_ms = (since_ms + delay_ms).checked_sub(now_ms).filter(|ms| *ms > 0);
            self.spool_in(holder, rest_ms.unwrap_or(super::RETRY_MS));
        }
    }

    /// Writes those messages of a queue that `pick` names.
    pub(super) fn spool(&mut self, holder: Holder, pick: &dyn Fn(&Keep) -> bool) {
        let Some(mut out) = self.queue_of(holder).map(std::mem::take) else { return };
        let mut receipts = Vec::new();
        let ticket = self.step("the spool", |core, _| {
            for parcel in out.parcels_mut().filter(|p| p.keep.as_deref().is_some_and(pick)) {
                match core.spool_parcel(parcel, None) {
                    Ok(()) => receipts.extend(parcel.keep.as_ref().and_then(|keep| keep.receipt)),
                    Err(error) => log::error!(target: LOG, "a message is not written: {error}"),
                }
            }
        });
        if let Some(place) = self.queue_of(holder) {
            *place = out;
        }
        self.spooled(ticket, receipts);
    }

    /// These receipts wait for that batch.
    pub(super) fn spooled(&mut self, ticket: Option<Ticket>, receipts: Vec<Receipt>) {
        if let Some(ticket) = ticket {
            self.spooling.extend(receipts.into_iter().map(|receipt| (ticket, receipt)));
        }
    }

    /// Writes all that the stanzas of a session wait for.
    pub(super) fn spool_owed_to(&mut self, sender: SessionId) {
        let (durable, sender) = (self.core.view.durable(), Sender::Session(sender));
        let owed = |keep: &Keep| keep.row.is_none() && keep.owed(durable).is_some_and(|r| r.sender == sender);
        let waits = |out: &OutQueue| out.parcels().any(|p| p.keep.as_deref().is_some_and(owed));
        for holder in self.holders() {
            if self.queue_of(holder).is_some_and(|out| waits(out)) {
                self.spool(holder, &owed);
            }
        }
    }

    /// Everybody who has a queue.
    pub(super) fn holders(&self) -> Vec<Holder> {
        let sessions = self.core.sessions.ids().into_iter().map(Holder::Session);
        sessions.chain(self.peer_holders()).collect()
    }

    /// Parcels have arrived: whoever waits for that hears of it, and their rows go.
    pub(super) fn arrived(&mut self, parcels: Vec<Parcel>) {
        let durable = self.core.view.durable();
        let mut rows = Vec::new();
        for parcel in parcels {
            let Some(keep) = parcel.keep else { continue };
            if let Some(arrived) = &keep.arrived {
                arrived.set(true);
            }
            self.settle(&keep, durable);
            if let (Some(row), Some(to)) = (keep.row, parcel.to) {
                rows.push((to, row));
            }
        }
        if !rows.is_empty() {
            self.step("an arrival", |core, _| {
                for (to, row) in &rows {
                    core.spool_delete(to, *row);
                }
            });
        }
    }

    /// A copy of a message needs to be waited for no more.
    pub(super) fn settle(&mut self, keep: &Keep, durable: Ticket) {
        let Some(receipt) = keep.owed(durable) else { return };
        if keep.row.is_some()
            // Not that of another copy, which may be there when this one is not.
            && let Some(at) = self.spooling.iter().position(|waits| *waits == (keep.row_after, receipt))
        {
            self.spooling.swap_remove(at);
        }
        self.settle_receipt(receipt);
    }

    fn settle_receipt(&mut self, receipt: Receipt) {
        if let Some(inbound) = self.inbound_of(receipt.sender) {
            inbound.settle(receipt.number);
            self.progress(receipt.sender);
        }
    }

    /// More of what a client has sent may be safe by now.
    pub(super) fn progress(&mut self, sender: Sender) {
        let durable = self.core.view.durable();
        let conn = match sender {
            Sender::Session(session) => self.core.sessions.get(session).and_then(|s| s.conn),
            Sender::Server(conn) => Some(conn),
        };
        if let Some(inbound) = self.inbound_of(sender)
            && inbound.progress(durable)
            && let Some(conn) = conn
        {
            self.dirty.insert(conn);
        }
    }

    /// A batch is durable: what waited for it is safe.
    pub(super) fn managed_committed(&mut self) {
        let durable = self.core.view.durable();
        self.core.spool_settle();
        let (safe, waiting): (Vec<_>, _) =
            std::mem::take(&mut self.spooling).into_iter().partition(|(after, _)| *after <= durable);
        self.spooling = waiting;
        for (_, receipt) in safe {
            self.settle_receipt(receipt);
        }
        let sessions: Vec<SessionId> = self.managed.keys().copied().collect();
        for session in sessions {
            self.progress(Sender::Session(session));
            self.finish_resume(session);
        }
        self.links_committed();
    }

    /// Sends what has not arrived at a session that is over on its way again: messages to the other sessions of the
    /// account or to its spool, requests back. Filters of the sender have seen it.
    pub(super) fn forsake(&mut self, parcels: Vec<Parcel>) {
        let durable = self.core.view.durable();
        for parcel in parcels {
            let keep = parcel.keep.as_deref().cloned();
            let owed = keep.as_ref().and_then(|keep| keep.owed(durable));
            let elsewhere = keep.as_ref().and_then(|keep| keep.arrived.as_ref()).is_some_and(|a| {
                // This copy holds two of them, and each other queue that has the message one more.
                a.get() || Rc::strong_count(a) > 2
            });
            let goes = is_for_others(parcel.kind) && !parcel.is_copy && !elsewhere;
            let asks = matches!(parcel.kind, Kind::Iq(IqType::Get | IqType::Set)) && !parcel.is_copy;
            let (row, to) = (parcel.row(), parcel.to.clone());
            if let (Some(row), Some(to), None, true) = (row, &to, owed, goes)
                && self.core.sessions.highest(to).is_empty()
                && self.is_for_anybody(to, row)
            {
                // It is where it would go, in its order.
                self.core.spool_release(to, row);
                continue;
            }
            if let (Some(row), Some(to), None, true) = (row, &to, owed, goes)
                && let Some(heir) = self.heir(to)
            {
                self.step("what a session left", |core, _| core.spool_pass_on(to, row, heir));
                continue;
            }
            self.core.view.begin();
            let read = if goes || asks { self.core.spool_stanza(&parcel) } else { Ok(None) };
            let stanza = match (read, row, &to) {
                (Ok(stanza), ..) => stanza,
                (Err(error), Some(row), Some(to)) => {
                    log::error!(target: LOG, "a message stays for the next session of {}: {error}", to.bare());
                    self.core.spool_release(to, row);
                    continue;
                }
                (Err(_), ..) => None,
            };
            let original = stanza.clone();
            let ticket = self.step("what a session left", |core, _| {
                if let (Some(row), Some(to)) = (row, &to) {
                    core.spool_give(to, row);
                }
                match stanza {
                    Some(stanza) if asks => core.refuse(&stanza, &Condition::ServiceUnavailable.into()),
                    Some(mut stanza) => {
                        let since_ms = keep.as_ref().map_or(core.now.mono_ms, |keep| keep.since_ms);
                        let age_ms = i64::try_from(core.now.mono_ms.saturating_sub(since_ms)).unwrap_or_default();
                        let domain = to.as_ref().map(Jid::domain).unwrap_or_default();
                        stamp(&mut stanza, domain, core.now.wall_ms.saturating_sub(age_ms));
                        let flight = InFlight { receipt: owed, is_copy: true, ..InFlight::passing(stanza) };
                        core.send(InFlight { filters: Filters::In, ..flight });
                    }
                    None => {}
                }
            });
            if let (Some(receipt), Some(ticket)) = (owed, ticket)
                && self.core.view.wrote()
                && let Some(inbound) = self.inbound_of(receipt.sender)
            {
                inbound.wait(receipt.number, ticket);
                self.unproven.extend(original.map(|stanza| (ticket, receipt.sender, stanza.outline())));
            }
            if let Some(keep) = keep {
                self.settle(&keep, durable);
            }
        }
    }

    /// Which session gets what another has left on the disk: the one of that address, or one of those that a message to
    /// the account goes to.
    fn heir(&self, account: &Jid) -> Option<SessionId> {
        let is_here = |id: &SessionId| self.core.sessions.get(*id).is_some_and(|s| s.conn.is_some());
        let highest = self.core.sessions.highest(account);
        self.core.sessions.find(account).or(highest.iter().copied().find(is_here)).or(highest.first().copied())
    }

    /// Whether a row of the spool is of no session in particular.
    fn is_for_anybody(&mut self, account: &Jid, row: u64) -> bool {
        self.core.view.begin();
        matches!(self.core.spool_row(account, row), Ok(Some(stored)) if stored.holder.is_empty())
    }

    /// A session ends that has been taken out of the table: what is left of it goes elsewhere.
    pub(super) fn managed_end(&mut self, session: SessionId, jid: &Jid, resume_id: Option<Rc<str>>, out: OutQueue) {
        self.owed.remove(&session);
        let Some(mut managed) = self.managed.remove(&session) else { return self.forsake(out.into_parcels()) };
        managed.inbound.progress(self.core.view.durable());
        if let Some(id) = resume_id {
            let ended = Ended { resume_id: id.to_string(), account: jid.bare(), received: managed.inbound.safe() };
            self.step("what is known of a session that is over", |core, _| {
                if let Err(error) = core.ended_put(&ended) {
                    log::error!(target: LOG, "of a session nothing is kept: {error}");
                }
            });
        }
        let mut parcels = out.into_parcels();
        if let Some(mut lot) = managed.lot {
            self.budget.settle(Held::Parked, &mut lot.charge, 0);
            if let Some(resuming) = lot.resuming {
                self.refuse_resume(resuming.conn, Condition::ItemNotFound, Some(managed.inbound.safe()));
            }
            parcels.extend(lot.out.into_parcels());
        }
        self.forsake(parcels);
    }
}

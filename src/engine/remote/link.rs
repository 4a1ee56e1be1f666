//! Connections with other servers: how they begin and end, and what leaves on them.

use super::{LOG, Link, s2s_cx};
use crate::budget::{Charge, Kind as Held, allocated};
use crate::core::flight::Item;
use crate::core::io::{ConnId, DialFailure, Output, Role};
use crate::core::out_queue::OutQueue;
use crate::engine::pace::{self, Pace, Pause};
use crate::engine::{Engine, Timer};
use crate::fault::{Fault, armed};
use crate::stream::s2s::{Pair, Refusal, S2s, S2sCx};
use crate::stream::{StreamError, TlsFacts, management};
use std::net::IpAddr;

impl Engine {
    /// A server or a component has connected.
    pub(in crate::engine) fn accept_server(&mut self, role: Role, ip: IpAddr) -> Option<ConnId> {
        let settings = self.core.settings.clone();
        let limits = &settings.limits;
        let full = self.remotes.links.len() >= limits.s2s_connections_max as usize;
        let served = match role {
            Role::Component => !settings.components.is_empty(),
            _ => settings.s2s.enabled,
        };
        if self.shutting_down || full || !served {
            let why = if full { "limits.s2s_connections_max is reached" } else { "nobody like that is served" };
            return self.turn_away(ip, why);
        }
        self.enter(role, ip)?;
        let stream = if role == Role::Component { S2s::component(limits) } else { S2s::incoming(limits) };
        self.new_link(stream, Some(ip)).or_else(|| {
            self.leave(role, ip);
            None
        })
    }

    /// Adds a link. None when memory is short.
    pub(super) fn new_link(&mut self, stream: S2s, ip: Option<IpAddr>) -> Option<ConnId> {
        let now_ms = self.core.now.mono_ms;
        if !self.has_room_for_strangers() {
            log::debug!(target: LOG, "no connection with another server: memory is short");
            return None;
        }
        let mut charge = Charge::default();
        self.budget.settle(Held::Servers, &mut charge, size_of::<Link>());
        let link = Link {
            stream,
            ip,
            out: OutQueue::default(),
            charge,
            socket: Charge::default(),
            waiting_bytes: 0,
            since_ms: now_ms,
            touched_ms: now_ms,
            sent_ms: now_ms,
            asked_ms: None,
            deadline_ms: None,
            ends: false,
            pace: Pace::default(),
            inbound: None,
            heard: false,
            dialing: false,
            peer: None,
            serves: Vec::new(),
            claims: false,
            room: None,
        };
        let conn = ConnId(self.remotes.links.insert(link));
        self.set_link_deadline(conn, now_ms + u64::from(self.core.settings.limits.s2s_auth_timeout_s) * 1000);
        self.core.counters.connections = self.core.counters.connections.wrapping_add(1);
        Some(conn)
    }

    pub(in crate::engine) fn dialed(&mut self, conn: ConnId, tls: Option<&TlsFacts>) {
        let settings = self.core.settings.clone();
        self.end_dial(conn);
        if let Some(link) = self.remotes.links.get_mut(conn.0) {
            link.stream.begin(tls, &mut s2s_cx!(self, settings));
            self.drive_link(conn);
        }
    }

    pub(in crate::engine) fn dial_failed(&mut self, conn: ConnId, why: &DialFailure) {
        let Some(link) = self.remotes.links.get(conn.0) else { return };
        log::info!(target: LOG, "no connection to {}: {why}", link.stream.remote().unwrap_or("somebody"));
        let refusal = match why {
            DialFailure::NotFound => Some(super::NOT_FOUND),
            DialFailure::Tls(_) => Some(super::NO_TLS),
            DialFailure::Timeout | DialFailure::Unreachable(_) => None,
        };
        self.end_link(conn, refusal);
    }

    pub(in crate::engine) fn link_secured(&mut self, conn: ConnId, facts: &TlsFacts) {
        let settings = self.core.settings.clone();
        if let Some(link) = self.remotes.links.get_mut(conn.0) {
            link.stream.facts(facts, &mut s2s_cx!(self, settings));
            self.drive_link(conn);
        }
    }

    pub(in crate::engine) fn link_wrote(&mut self, conn: ConnId, waiting_bytes: usize) {
        let Some(link) = self.remotes.links.get_mut(conn.0) else { return };
        link.waiting_bytes = waiting_bytes;
        self.dirty.insert(conn);
        let arrived = link.out.taken(waiting_bytes);
        if !arrived.is_empty() {
            self.arrived(arrived);
        }
    }

    /// Hands to the shell what may leave.
    pub(in crate::engine) fn flush_link(&mut self, conn: ConnId) {
        let durable = self.core.view.durable();
        let settings = self.core.settings.clone();
        let limits = &settings.limits;
        let now_ms = self.core.now.mono_ms;
        let Some(link) = self.remotes.links.get_mut(conn.0) else { return };
        let window = (limits.out_window_bytes as usize).saturating_sub(link.waiting_bytes);
        let (mut bytes, mut asks) = (Vec::new(), false);
        if window > 0 {
            link.out.flush(durable, window, limits.sm_unacked_max as usize, &mut bytes, &mut self.left.servers);
            if let Some(inbound) = link.inbound.as_mut().filter(|_| !link.ends)
                && inbound.progress(durable)
            {
                management::write_ack(inbound.answer(), &mut bytes);
            }
            if !link.ends && link.out.ask() {
                management::write_ask(&mut bytes);
                link.asked_ms = Some(now_ms);
                asks = true;
            }
        }
        let inbound = link.inbound.as_ref().map_or(0, |inbound| inbound.heap_bytes());
        let held =
            inbound + link.stream.heap_bytes() + link.out.held_bytes() + allocated(link.waiting_bytes + bytes.len());
        link.waiting_bytes += bytes.len();
        self.budget.settle(Held::Servers, &mut link.charge, size_of::<Link>() + held);
        let pauses = match link.ends {
            true => link.pace.clear(),
            false => link.pace.set(Pause::Question, link.stream.is_asking()),
        };
        self.outputs.extend(pauses.map(|pauses| pace::reading(conn, pauses)));
        let done = link.ends && link.out.is_empty();
        if !bytes.is_empty() {
            link.sent_ms = now_ms;
            self.outputs.push_back(Output::Write { conn, bytes });
        }
        if done {
            self.end_link(conn, None);
            self.outputs.push_back(Output::Close { conn });
        } else if asks {
            self.arm_link(conn);
        }
        self.room_in(conn);
    }

    /// A reason not to read from a link begins or ends. An acknowledgement that is owed to us can come from then on.
    pub(in crate::engine) fn pause_link(&mut self, conn: ConnId, why: Pause, holds: bool) -> Option<bool> {
        let now_ms = self.core.now.mono_ms;
        let link = self.remotes.links.get_mut(conn.0)?;
        let news = link.pace.set(why, holds && !link.ends);
        if news == Some(false) && link.asked_ms.is_some() {
            link.asked_ms = Some(now_ms);
            self.arm_link(conn);
        }
        news
    }

    /// Sets the deadline of a link that has come through its negotiation.
    pub(super) fn arm_link(&mut self, conn: ConnId) {
        if self.remotes.links.get(conn.0).is_some_and(|link| link.ends || link.stream.is_closing()) {
            return;
        }
        if let Some((at_ms, _)) = self.link_next(conn) {
            self.set_link_deadline(conn, at_ms);
        }
    }

    /// When something must be done next, and what.
    fn link_next(&self, conn: ConnId) -> Option<(u64, Due)> {
        let limits = &self.core.settings.limits;
        let link = self.remotes.links.get(conn.0)?;
        let after = |since_ms: u64, seconds: u32| since_ms + u64::from(seconds) * 1000;
        if !link.is_settled() {
            let at_ms = link.since_ms + u64::from(limits.s2s_auth_timeout_s) * 1000 * link.pace.times();
            return Some((at_ms, Due::Proof));
        }
        let room = link.room.as_ref().and_then(|room| Some((room.until_ms()?, Due::Room)));
        if link.stream.is_component() {
            // It may have nothing to say for days.
            return room;
        }
        let theirs_s = link.stream.peer_limits().idle_s.unwrap_or(u32::MAX).max(1);
        let idle_ms = after(link.touched_ms, limits.s2s_idle_timeout_s.min(theirs_s));
        let other = match link.asked_ms {
            Some(asked_ms) => Some((after(asked_ms, limits.s2s_ack_timeout_s), Due::Ack)),
            None if limits.s2s_keepalive_s == 0 => None,
            None => Some((after(link.sent_ms, limits.s2s_keepalive_s), Due::Keepalive)),
        };
        [Some((idle_ms, Due::Idle)), other, room].into_iter().flatten().min_by_key(|(at_ms, _)| *at_ms)
    }

    /// A deadline of a link has passed, if it is still the one that holds.
    pub(in crate::engine) fn link_due(&mut self, conn: ConnId, at: u64) {
        let now_ms = self.core.now.mono_ms;
        let Some(link) = self.remotes.links.get_mut(conn.0).filter(|link| link.deadline_ms == Some(at)) else { return };
        link.deadline_ms = None;
        if link.ends || link.stream.is_closing() {
            self.end_link(conn, None);
            self.outputs.push_back(Output::Close { conn });
            return;
        }
        // What it has to say is not heard at present.
        if link.pace.is_paused() && link.asked_ms.is_some() {
            link.asked_ms = Some(now_ms);
        }
        if !link.is_settled() {
            link.pace.grace();
        }
        let has_more = link.out.stanzas() > 0 || link.waiting_bytes > 0 || link.asked_ms.is_some();
        match self.link_next(conn) {
            None => {}
            Some((next_ms, _)) if next_ms > now_ms => self.set_link_deadline(conn, next_ms),
            Some((_, Due::Keepalive)) => self.keep_alive(conn),
            Some((_, Due::Room)) => self.end_wait(conn),
            Some((_, Due::Proof)) => {
                self.fail_link(conn, StreamError::ConnectionTimeout, Some("Saying who you are took too long."));
            }
            Some((_, Due::Idle)) if !has_more => self.close_link(conn),
            Some((_, Due::Ack | Due::Idle)) => {
                self.fail_link(conn, StreamError::ConnectionTimeout, Some("Nothing is taken here any more."));
            }
        }
    }

    /// Nothing has been sent for a while: something is, so that the networks between do not forget the connection. Who
    /// acknowledges is asked to, so that we learn when it is lost.
    fn keep_alive(&mut self, conn: ConnId) {
        let now_ms = self.core.now.mono_ms;
        let Some(link) = self.remotes.links.get_mut(conn.0) else { return };
        link.sent_ms = now_ms;
        // The shell still has something for it.
        if link.waiting_bytes == 0 {
            let mut out = Vec::new();
            match link.inbound {
                Some(_) => {
                    management::write_ask(&mut out);
                    link.asked_ms = Some(now_ms);
                }
                None => out.push(b' '),
            }
            link.out.push(Item::Raw(out));
            self.dirty.insert(conn);
        }
        self.arm_link(conn);
    }

    /// Closes our side of a stream without an error. What comes from the peer before it closes its own still counts.
    pub(super) fn close_link(&mut self, conn: ConnId) {
        let close_ms = self.core.now.mono_ms + u64::from(self.core.settings.limits.close_timeout_s) * 1000;
        let mut peers = self.forsake_link(conn);
        let Some(link) = self.remotes.links.get_mut(conn.0) else { return };
        link.stream.close();
        let output = link.stream.take_output();
        link.out.push(Item::Raw(output));
        peers.extend(link.peer.take());
        self.set_link_deadline(conn, close_ms);
        self.again.push(conn);
        self.dirty.insert(conn);
        self.let_go(conn, peers);
    }

    /// Ends a stream with an error.
    pub(in crate::engine) fn fail_link(&mut self, conn: ConnId, error: StreamError, text: Option<&str>) {
        let Some(link) = self.remotes.links.get_mut(conn.0).filter(|link| !link.ends) else { return };
        if link.stream.is_outgoing() && !link.stream.has_begun() {
            // It is still being dialed, or TLS comes first.
            self.end_link(conn, None);
            return self.outputs.push_back(Output::Close { conn });
        }
        link.stream.fail(error, text, &mut *self.core.entropy);
        let output = link.stream.take_output();
        let (to, from) = (link.stream.local(), link.stream.remote().unwrap_or("somebody"));
        log::info!(target: LOG, "the stream of {from} with {to} ends with {}", error.condition());
        self.core.counters.stream_errors = self.core.counters.stream_errors.wrapping_add(1);
        link.out.push(Item::Raw(output));
        self.begin_end_link(conn, None);
    }

    /// Nothing more is read; what waits goes back to its peers now, the connection goes when its queue is written.
    pub(super) fn begin_end_link(&mut self, conn: ConnId, refusal: Option<Refusal>) {
        let close_ms = self.core.now.mono_ms + u64::from(self.core.settings.limits.close_timeout_s) * 1000;
        let Some(link) = self.remotes.links.get_mut(conn.0) else { return };
        link.ends = true;
        self.set_link_deadline(conn, close_ms);
        self.dirty.insert(conn);
        self.leave_link(conn, refusal);
    }

    /// The connection is no more.
    pub(in crate::engine) fn end_link(&mut self, conn: ConnId, refusal: Option<Refusal>) {
        self.pace_end(conn);
        if let Some(link) = self.remotes.links.get_mut(conn.0) {
            // What comes back from it must not go to it again.
            link.ends = true;
        }
        self.leave_link(conn, refusal);
        self.end_dial(conn);
        let Some(mut link) = self.remotes.links.remove(conn.0) else { return };
        if !armed(Fault::LinkChargeKept) {
            self.budget.settle(Held::Servers, &mut link.charge, 0);
        }
        self.budget.settle(Held::Sockets, &mut link.socket, 0);
        if let Some(at) = link.deadline_ms {
            self.timers.remove(&(at, Timer::Conn(conn)));
        }
        self.dirty.remove(&conn);
        if let Some(ip) = link.ip {
            self.leave(Role::Server, ip);
        }
    }

    /// The server stops: what waits stays on disk.
    pub(in crate::engine) fn shutdown_links(&mut self) {
        self.spool_peers();
        for key in self.remotes.links.keys() {
            let conn = ConnId(key);
            self.flush_link(conn);
            match self.remotes.links.get(key).is_some_and(Link::is_settled) {
                true => self.fail_link(conn, StreamError::SystemShutdown, None),
                false => {
                    self.end_link(conn, None);
                    self.outputs.push_back(Output::Close { conn });
                }
            }
        }
    }
}

/// What is due on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// Somebody ought to have proved something.
    Proof,
    /// An acknowledgement ought to have come.
    Ack,
    /// There is nothing to be said any more.
    Idle,
    /// Nothing has been said for long.
    Keepalive,
    /// Clients have waited long enough for room.
    Room,
}

impl Link {
    /// True when a stream that goes both ways takes our stanzas for a pair. Not while a peer that opened it may yet
    /// enable stream management, which it does first if it does: what was sent before that would not be counted, and be
    /// lost with the connection.
    pub(super) fn takes(&self, pair: &Pair) -> bool {
        let has_chosen = !self.stream.is_authenticated() || self.inbound.is_some() || self.heard;
        let has_chosen = has_chosen || armed(Fault::CountUnawaited);
        !self.ends && self.stream.takes(pair) && has_chosen
    }

    /// True once somebody has proved something, so that stanzas may come or go.
    pub(super) fn is_settled(&self) -> bool {
        self.stream.has_opened() || !self.stream.pairs().is_empty()
    }
}

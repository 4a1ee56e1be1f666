//! Who is let in, and when a login is looked at.

use super::pace::Pace;
use super::{Conn, ConnId, Engine, LOG, Role, Timer, Transport};
use crate::budget::{Charge, Kind as Held};
use crate::clock::Now;
use crate::core::flat::Flat;
use crate::core::gate::{self, Attempt, Bounds, Gate, Place, Refusal};
use crate::core::out_queue::OutQueue;
use crate::core::rates::{Rate, judged};
use crate::stream::{C2s, Event, Options, StreamError};
use ring::hmac;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// How long the same is not said again of those who are turned away, in milliseconds.
const QUIET_MS: u64 = 60_000;

/// What is known of those who are at the door.
#[derive(Default)]
pub(super) struct Doors {
    clients: Gate,
    /// Servers and components.
    servers: Gate,
    pub charge: Charge,
    /// Of accounts and of servers.
    scores: Flat<u64, i8>,
    /// Logins that wait, and until when.
    held: BTreeMap<ConnId, (u64, Event)>,
    /// What is said once in a while, when it was said last, and how often it was not since then.
    said: Vec<(&'static str, u64, u32)>,
}

/// How often something was not said.
struct More(u32);

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            n => write!(f, "; {n} more since that was last said"),
        }
    }
}

impl Doors {
    fn gate(&mut self, role: Role) -> &mut Gate {
        match role {
            Role::Client | Role::Web | Role::Authority => &mut self.clients,
            Role::Server | Role::Component => &mut self.servers,
        }
    }

    /// Whether something is said that many could make us say, which must not cost more than it costs them: how often it
    /// was not, since it was said last.
    fn says(&mut self, what: &'static str, now_ms: u64) -> Option<u32> {
        match self.said.iter_mut().find(|(said, ..)| *said == what) {
            Some((_, said_ms, since)) if now_ms < *said_ms + QUIET_MS => {
                *since = since.saturating_add(1);
                None
            }
            Some((_, said_ms, since)) => {
                *said_ms = now_ms;
                Some(std::mem::take(since))
            }
            None => {
                self.said.push((what, now_ms, 0));
                Some(0)
            }
        }
    }

    /// The score of somebody.
    pub fn score(&self, who: u64) -> i8 {
        self.scores.get(&who).copied().unwrap_or_default()
    }

    /// The same behind a minute in which he has sent.
    pub fn score_after(&mut self, who: u64, has_waited: bool, max: u32) -> i8 {
        let points = judged(self.score(who), has_waited);
        if !self.scores.contains_key(&who) {
            gate::forget(&mut self.scores, max, |points| points.unsigned_abs().into());
        }
        self.scores.insert(who, points);
        points
    }
}

impl Engine {
    /// Somebody has connected. None when one of the limits forbids it: the shell closes the socket.
    pub fn accept(&mut self, now: Now, role: Role, transport: Transport, peer: IpAddr) -> Option<ConnId> {
        self.core.now = now;
        match role {
            Role::Client => {
                self.may_enter(peer)?;
                self.enter(role, peer)?;
                Some(self.admit_client(
                    transport == Transport::DirectTls,
                    transport == Transport::StartTls,
                    false,
                    peer,
                ))
            }
            #[cfg(feature = "http")]
            Role::Web | Role::Authority => self.accept_guest(peer),
            _ => self.accept_server(role, peer),
        }
    }

    /// Whether there is room for somebody who is no server.
    pub(super) fn may_enter(&mut self, peer: IpAddr) -> Option<()> {
        #[cfg(feature = "http")]
        let open = self.conns.len() + self.guests.len();
        #[cfg(not(feature = "http"))]
        let open = self.conns.len();
        if self.shutting_down || open >= self.core.settings.limits.connections_max as usize {
            return self.turn_away(peer, "limits.connections_max is reached");
        }
        if !self.has_room_for_strangers() {
            return self.turn_away(peer, "memory is short");
        }
        Some(())
    }

    /// A client is here. `has_tls`: under TLS from the first byte; `starttls`: it can be had; `is_framed`: its stream
    /// comes in messages of another protocol.
    #[cfg_attr(not(feature = "compression"), expect(unused_variables, reason = "nothing else depends on it"))]
    pub(super) fn admit_client(&mut self, has_tls: bool, starttls: bool, is_framed: bool, peer: IpAddr) -> ConnId {
        let settings = self.core.settings.clone();
        let options = Options {
            direct_tls: has_tls,
            starttls,
            encryption_required: settings.encryption_required,
            plain_allowed: settings.plain_allowed,
            sasl2: settings.sasl2,
            fast: settings.fast,
            #[cfg(feature = "compression")]
            compression: settings.compression && !is_framed,
            iterations: settings.iterations,
        };
        let mut charge = Charge::default();
        self.budget.settle(Held::Connections, &mut charge, size_of::<Conn>());
        let deadline_ms = self.core.now.mono_ms + u64::from(settings.limits.auth_timeout_s) * 1000;
        let conn = Conn {
            stream: C2s::new(options, &settings.limits),
            peer,
            out: OutQueue::default(),
            session: None,
            charge,
            socket: Charge::default(),
            waiting_bytes: 0,
            deadline_ms: Some(deadline_ms),
            ends: false,
            pace: Pace::default(),
            resuming: None,
        };
        let id = ConnId(self.conns.insert(conn));
        self.timers.insert((deadline_ms, Timer::Conn(id)), ());
        self.core.counters.connections = self.core.counters.connections.wrapping_add(1);
        id
    }

    /// Counts a connection of an address. None when there are too many, or they come too fast.
    pub(super) fn enter(&mut self, role: Role, peer: IpAddr) -> Option<()> {
        let (now_ms, limits) = (self.core.now.mono_ms, &self.core.settings.limits);
        let (open_max, why) = match role {
            Role::Client | Role::Web | Role::Authority => {
                (limits.connections_per_address_max, "limits.connections_per_address_max is reached")
            }
            _ => (limits.s2s_connections_per_address_max, "limits.s2s_connections_per_address_max is reached"),
        };
        let bounds = Bounds { open_max, new: self.new_rate(), places_max: limits.addresses_max };
        let bounds = Some(bounds).filter(|_| !self.core.settings.is_exempt(peer));
        let entered = self.doors.gate(role).enter(Place::of(peer), now_ms, bounds);
        self.settle_doors();
        match entered {
            Ok(()) => Some(()),
            Err(Refusal::TooMany) => self.turn_away(peer, why),
            Err(Refusal::TooFast) => self.turn_away(peer, "limits.new_connection_rate is reached"),
        }
    }

    /// A connection that has entered is no more.
    pub(super) fn leave(&mut self, role: Role, peer: IpAddr) {
        let (now_ms, new) = (self.core.now.mono_ms, self.new_rate());
        self.doors.gate(role).leave(Place::of(peer), now_ms, new);
        self.settle_doors();
    }

    fn new_rate(&self) -> Rate {
        let limits = &self.core.settings.limits;
        Rate { per_s: limits.new_connection_rate, burst: limits.new_connection_burst }
    }

    /// For tests: bytes charged for what is remembered of addresses.
    pub fn remembered_bytes(&self) -> usize {
        self.doors.charge.bytes()
    }

    fn settle_doors(&mut self) {
        let held = self.doors.clients.heap_bytes() + self.doors.servers.heap_bytes() + self.doors.scores.heap_bytes();
        self.budget.settle(Held::Addresses, &mut self.doors.charge, held);
    }

    /// Says why somebody is not let in, once in a while.
    pub(super) fn turn_away<T>(&mut self, peer: IpAddr, why: &'static str) -> Option<T> {
        self.core.counters.turned_away = self.core.counters.turned_away.wrapping_add(1);
        if let Some(since) = self.doors.says(why, self.core.now.mono_ms) {
            log::warn!(target: LOG, "{peer} turned away: {why}{}", More(since));
        }
        None
    }

    /// Who it is that logs in.
    fn attempt(&self, conn: ConnId, user: &str) -> Option<Attempt> {
        let c = self.conns.get(conn.0)?;
        let place = Place::of(c.peer);
        let host = c.stream.host().unwrap_or_default();
        let exempt = self.core.settings.is_exempt(c.peer);
        let account = self.keyed(["login", user, host]);
        let pair = self.keyed([&account.to_be_bytes()[..], &place.bytes()]);
        Some(Attempt { place, account, pair, exempt })
    }

    /// A hash that nobody outside can find a second text for.
    pub(super) fn keyed<const N: usize, T: AsRef<[u8]>>(&self, parts: [T; N]) -> u64 {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.secret);
        let mut context = hmac::Context::with_key(&key);
        for part in parts {
            context.update(part.as_ref());
            context.update(&[0]);
        }
        let tag = context.sign();
        tag.as_ref().iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
    }

    /// A client wants to log in: its keys or tokens are looked up now, or when it has waited for what failed before.
    pub(super) fn log_in(&mut self, conn: ConnId, event: Event) {
        let (Event::NeedKeys { user } | Event::NeedTokens { user, .. }) = &event else { return };
        let Some(who) = self.attempt(conn, user) else { return };
        let now_ms = self.core.now.mono_ms;
        match self.doors.clients.login(&who, now_ms, &self.core.settings.limits) {
            Some(0) => self.look_up(conn, event),
            Some(wait_ms) => {
                self.timers.insert((now_ms + wait_ms, Timer::Login(conn)), ());
                self.doors.held.insert(conn, (now_ms + wait_ms, event));
            }
            None => self.refuse_login(conn),
        }
    }

    fn look_up(&mut self, conn: ConnId, event: Event) {
        match event {
            Event::NeedKeys { user } => self.need_keys(conn, &user),
            Event::NeedTokens { user, client } => self.need_tokens(conn, &user, &client),
            _ => {}
        }
    }

    /// A login has waited.
    pub(super) fn login_due(&mut self, conn: ConnId) {
        if let Some((_, event)) = self.doors.held.remove(&conn) {
            self.look_up(conn, event);
            self.again.push(conn);
        }
    }

    /// A client that may have waited to log in is gone.
    pub(super) fn login_end(&mut self, conn: ConnId) {
        if let Some((at, _)) = self.doors.held.remove(&conn) {
            self.timers.remove(&(at, Timer::Login(conn)));
        }
    }

    /// Somebody is not who he says. The line is for programs, too, that shut such addresses out.
    pub(super) fn login_failed(&mut self, conn: ConnId, user: Option<&str>) {
        let Some(c) = self.conns.get(conn.0) else { return };
        let (peer, host) = (c.peer, c.stream.host().unwrap_or_default());
        log::warn!(target: LOG, "failed login from {peer} as {}@{host}", user.unwrap_or("?"));
        self.core.counters.logins_failed = self.core.counters.logins_failed.wrapping_add(1);
        if let Some(who) = self.attempt(conn, user.unwrap_or_default()) {
            self.doors.clients.failed(&who, self.core.now.mono_ms, &self.core.settings.limits);
            self.settle_doors();
        }
    }

    /// Whether no component at that address is listened to for now.
    pub(super) fn is_barred(&self, peer: IpAddr) -> bool {
        self.doors.servers.is_barred(Place::of(peer), self.core.now.mono_ms)
    }

    /// Somebody says to be a component, and its secret is another.
    pub(super) fn secret_guessed(&mut self, peer: IpAddr, domain: &str) {
        self.core.counters.logins_failed = self.core.counters.logins_failed.wrapping_add(1);
        let now_ms = self.core.now.mono_ms;
        let since = if self.core.settings.is_exempt(peer) {
            // Nothing slows it down, and nobody shuts it out.
            self.doors.says("the secret of a component", now_ms)
        } else {
            self.doors.servers.guessed(Place::of(peer), now_ms, &self.core.settings.limits);
            Some(0)
        };
        if let Some(since) = since {
            log::warn!(target: LOG, "failed login from {peer} as {domain}{}", More(since));
        }
    }

    /// A client has proved who it is.
    pub(super) fn logged_in(&mut self, conn: ConnId) {
        self.core.counters.logins = self.core.counters.logins.wrapping_add(1);
        self.visits.remove(&conn);
        let Some(c) = self.conns.get(conn.0) else { return };
        let user = c.stream.user().unwrap_or_default();
        let may_hurry = self.core.settings.rates.is_exempt(Some(user), c.stream.host().unwrap_or_default());
        if let Some(who) = self.attempt(conn, user) {
            self.doors.clients.succeeded(&who, self.core.now.mono_ms, &self.core.settings.limits);
            self.settle_doors();
        }
        if may_hurry {
            self.exempt(conn);
        }
        self.crowd(conn);
    }

    /// Notes a connection that has logged in and has no session yet. The first of those of an account gives way when
    /// they are more than sessions it may have.
    fn crowd(&mut self, conn: ConnId) {
        let account = |conn: &ConnId| {
            let c = self.conns.get(conn.0).filter(|c| c.session.is_none() && !c.ends)?;
            c.stream.user().zip(c.stream.host())
        };
        self.unbound.retain(|other| account(other).is_some());
        self.unbound.shrink_to(2 * self.unbound.len());
        self.unbound.push(conn);
        let mut same = self.unbound.iter().filter(|other| account(other) == account(&conn));
        let first = same.next().copied();
        if same.count() >= self.core.settings.limits.resources_max as usize
            && let Some(first) = first
        {
            self.fail(
                first,
                StreamError::PolicyViolation,
                Some("Too many connections of this account have no session."),
            );
        }
    }
}

//! The memory ceiling: what is charged for all holders together, how close to the ceiling the server is, and what it
//! gives up when it is too close.
//!
//! # The order of shedding
//!
//! Each step is taken only as far as the steps before it have not made enough room.
//!
//! 1. *New strangers* are not let in, be they clients or servers; of those who are there and have not proved who they
//!    are, the ones that hold most are closed.
//! 2. *Buffers and caches*: what would be found again, and memory that is kept to be used again.
//! 3. *Long queues that the disk has, too*: those of sessions that wait to be resumed (XEP-0198), then those of servers
//!    that cannot be reached, are in memory no more. They are read again when the session is resumed, or the server
//!    reached.
//! 4. *Whoever holds more than a fair share* (`limits.fair_bytes`), the one that holds most first. A session that can
//!    be resumed is written to the disk and waits for that.
//! 5. *What waits for servers that cannot be reached* and is not on the disk goes back to its senders, the longest
//!    queue first, however short it is: thousands of short queues are as heavy as a few long ones. Until there is room
//!    again nothing more waits for such servers.
//!
//! A message that was acknowledged is on the disk, or is written there when its connection is closed: none is given up.
//! Whoever has logged in and holds no more than a fair share stays and is served. What comes last in a tick may need
//! more than is left to it, as the memory of a process is weighed once a second: a sixteenth of the ceiling is kept
//! free for that.

use super::{ConnId, Engine, Timer};
use crate::budget::{Budget, Charge, Kind, State};
use crate::core::flight::Sender;
use crate::core::io::Output;
use crate::core::session::SessionId;
use crate::jid::Jid;
use crate::metrics::Counters;
use crate::stanza::Stanza;
use crate::storage::Ticket;
use crate::stream::StreamError;
use std::cmp::Reverse;
use std::fmt::Write as _;

const LOG: &str = "couplet::memory";

/// How often the process is weighed while memory is short, in milliseconds.
const WEIGH_MS: u64 = 1000;

/// After how long without much to do what is known of the store is forgotten, in milliseconds, and how many stanzas are
/// not much in that time. It would be read again within some microseconds, and takes up to a twentieth of all memory.
const REST: (u64, u32) = (4000, 100);

/// What somebody takes who has just come: a connection, and a TLS handshake.
const STRANGER_BYTES: usize = 16_384;

/// Charges of the parts that have none for each of their holders.
#[derive(Debug, Default)]
pub(super) struct Parts {
    modules: Charge,
    tables: Charge,
    caches: Charge,
    storage: Charge,
    /// There is a [`Timer::Weigh`].
    pub weighs: bool,
    /// More must be given up, or dialed, than this tick could take.
    pub has_more: bool,
    /// There is a [`Timer::Rest`], set when so many stanzas had been routed.
    rest: Option<u32>,
    /// When caches were last given up.
    swept_ms: u64,
    /// What was given up since the state changed.
    closed: u32,
}

impl Engine {
    /// Whether somebody may come in who is not known yet.
    pub(super) fn has_room_for_strangers(&self) -> bool {
        self.budget.state() != State::Shedding && self.budget.spare_bytes() > STRANGER_BYTES
    }

    /// The shell holds so much for a connection beside what waits to be written.
    pub(super) fn held(&mut self, conn: ConnId, bytes: usize) {
        if let Some(c) = self.conns.get_mut(conn.0) {
            self.budget.settle(Kind::Sockets, &mut c.socket, bytes);
        } else {
            self.link_held(conn, bytes);
            #[cfg(feature = "http")]
            self.guests.held(&mut self.budget, conn, bytes);
        }
    }

    /// True when so much was charged since the process was weighed that it should be weighed again.
    pub fn is_weight_stale(&self) -> bool {
        self.budget.is_stale()
    }

    /// Charges what has no charge yet, finds out how close to the ceiling the server is, and gives up what must go.
    pub(super) fn weigh(&mut self) {
        let parts = self.parts_bytes();
        let Parts { modules, tables, caches, storage, .. } = &mut self.parts;
        for ((kind, bytes), charge) in parts.into_iter().zip([modules, tables, caches, storage]) {
            self.budget.settle(kind, charge, bytes);
        }
        if let Some(state) = self.budget.judge() {
            self.tell(state);
            self.parts.closed = 0;
        }
        let state = self.budget.state();
        self.core.sheds = state == State::Shedding;
        self.parts.has_more = false;
        if state == State::Shedding {
            self.shed();
        }
        self.parts.has_more |= self.dial_next();
        if state != State::Normal && !self.parts.weighs {
            self.parts.weighs = true;
            self.timers.insert((self.core.now.mono_ms + WEIGH_MS, Timer::Weigh), ());
        }
        if self.parts.rest.is_none() && self.core.view.known_bytes() > 0 {
            self.parts.rest = Some(self.routed());
            self.timers.insert((self.core.now.mono_ms + REST.0, Timer::Rest), ());
        }
    }

    /// The server may have come to rest: what is known of the store goes then.
    pub(super) fn rest_due(&mut self) {
        let before = self.parts.rest.take();
        if before.is_some_and(|before| self.routed().wrapping_sub(before) < REST.1) {
            self.core.view.forget_known();
        }
    }

    fn routed(&self) -> u32 {
        let Counters { messages, presences, iqs, .. } = self.core.counters;
        messages.wrapping_add(presences).wrapping_add(iqs)
    }

    fn parts_bytes(&self) -> [(Kind, usize); 4] {
        let tables = self.conns.spare_bytes()
            + self.core.sessions.spare_bytes()
            + self.managed.table_bytes()
            + self.timers.table_bytes()
            + self.remotes.spare_bytes()
            + self.outputs.capacity() * size_of::<Output>()
            + self.unproven.capacity() * size_of::<(Ticket, Sender, Stanza)>();
        #[cfg(feature = "http")]
        let tables = tables + self.guests.spare_bytes();
        #[cfg(feature = "mam")]
        let tables = tables + self.archive_held_bytes();
        [
            (Kind::Modules, self.modules.held_bytes()),
            (Kind::Tables, tables),
            (Kind::Caches, self.core.held_bytes() + self.reader.held_bytes()),
            (Kind::Storage, self.core.view.pending_bytes()),
        ]
    }

    fn tell(&self, state: State) {
        let (weight, max) = (self.budget.weight_bytes(), self.budget.max_bytes());
        let percent = weight as u64 * 100 / max.max(1) as u64;
        match state {
            State::Normal => log::info!(target: LOG, "memory is normal again: {weight} of {max} bytes, {percent} %"),
            State::Warning => log::warn!(target: LOG, "memory becomes short: {weight} of {max} bytes, {percent} %"),
            State::Shedding => log::warn!(
                target: LOG,
                "memory is short: {weight} of {max} bytes, {percent} %: nobody new is let in, and whoever holds more \
                 than limits.fair_bytes may be closed; raise memory.max if that is not an attack"
            ),
        }
    }

    fn shed(&mut self) {
        self.shed_strangers();
        if self.is_light() {
            return;
        }
        if self.core.now.mono_ms >= self.parts.swept_ms + WEIGH_MS || self.parts.swept_ms == 0 {
            self.parts.swept_ms = self.core.now.mono_ms.max(1);
            self.sweep();
        }
        if !self.is_light() {
            self.unload_parked();
        }
        if !self.is_light() {
            self.shelve_peers();
        }
        if !self.is_light() {
            self.shed_unfair();
        }
        if !self.is_light() {
            self.parts.has_more = self.shed_peers();
        }
    }

    fn is_light(&self) -> bool {
        self.budget.excess_bytes() == 0
    }

    /// Step 1: those who have not proved who they are.
    fn shed_strangers(&mut self) {
        let clients = self.conns.iter().filter(|(_, c)| !c.stream.is_authenticated());
        let mut strangers: Vec<(Reverse<usize>, ConnId)> =
            clients.map(|(key, c)| (Reverse(c.charge.bytes() + c.socket.bytes()), ConnId(key))).collect();
        strangers.extend(self.strange_links().into_iter().map(|(bytes, conn)| (Reverse(bytes), conn)));
        #[cfg(feature = "http")]
        strangers.extend(self.guests.charges().into_iter().map(|(bytes, conn)| (Reverse(bytes), conn)));
        strangers.sort_unstable();
        for (_, conn) in strangers {
            if self.is_light() {
                return;
            }
            self.part_with(conn);
        }
    }

    /// Step 2: what would be found again.
    fn sweep(&mut self) {
        self.core.forget_caches();
        self.reader.forget_templates();
        self.forget_failures();
        self.outputs.push_back(Output::Shrink);
        for (kind, bytes) in self.parts_bytes() {
            if kind == Kind::Caches {
                self.budget.settle(kind, &mut self.parts.caches, bytes);
            }
        }
    }

    /// Step 3: queues that are on the disk.
    fn unload_parked(&mut self) {
        let lots = self.managed.iter().filter_map(|(id, m)| Some((Reverse(m.lot.as_ref()?.charge.bytes()), *id)));
        let mut lots: Vec<(Reverse<usize>, SessionId)> = lots.collect();
        lots.sort_unstable();
        for (_, session) in lots {
            if self.is_light() {
                return;
            }
            self.unload(session);
        }
    }

    /// Step 4: whoever holds more than a fair share, the one that holds most first.
    fn shed_unfair(&mut self) {
        enum Holder {
            Conn(ConnId),
            Parked(SessionId),
        }
        let fair = self.core.settings.limits.fair_bytes as usize;
        let held = |c: &super::Conn| c.charge.bytes() + c.socket.bytes();
        let conns = self.conns.iter().map(|(key, c)| (held(c), Holder::Conn(ConnId(key))));
        let parked = self.managed.iter().filter_map(|(id, m)| {
            let lot = m.lot.as_ref().filter(|lot| lot.resuming.is_none())?;
            Some((lot.charge.bytes(), Holder::Parked(*id)))
        });
        let links = self.link_charges().into_iter().map(|(bytes, conn)| (bytes, Holder::Conn(conn)));
        let mut unfair: Vec<(usize, Holder)> = conns.chain(parked).chain(links).filter(|(b, _)| *b > fair).collect();
        unfair.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
        for (_, holder) in unfair {
            if self.is_light() {
                return;
            }
            match holder {
                Holder::Conn(conn) => self.part_with(conn),
                Holder::Parked(session) => self.end_session(session),
            }
        }
    }

    /// Closes a connection at once. It is told why (RFC 6120 section 4.9.3.17), as far as its socket takes that.
    pub(super) fn part_with(&mut self, conn: ConnId) {
        self.parts.closed = self.parts.closed.wrapping_add(1);
        self.core.counters.shed = self.core.counters.shed.wrapping_add(1);
        #[cfg(feature = "http")]
        if self.is_guest(conn) {
            self.end_guest(conn);
            self.outputs.push_back(Output::Close { conn });
            return;
        }
        if self.is_link(conn) {
            self.flush_link(conn);
            self.fail_link(conn, StreamError::ResourceConstraint, None);
            self.flush_link(conn);
            self.end_link(conn, None);
        } else {
            if let Some(c) = self.conns.get(conn.0) {
                log::debug!(target: LOG, "{} is closed: it holds {} bytes", c.peer, c.charge.bytes());
            }
            self.park(conn);
            if let Some(c) = self.conns.get_mut(conn.0) {
                c.stream.fail(StreamError::ResourceConstraint, None, &mut *self.core.entropy);
                let bytes = c.stream.take_output();
                if !bytes.is_empty() {
                    self.outputs.push_back(Output::Write { conn, bytes });
                }
            }
            self.end_conn(conn);
        }
        self.outputs.push_back(Output::Close { conn });
    }

    /// An account holds more than all its connections and sessions may: the one that holds most is closed.
    pub(super) fn bound_account(&mut self, account: &Jid) {
        let max = self.core.settings.limits.account_bytes_max as usize;
        let (mut sum, mut most) = (0, None);
        for id in self.core.sessions.of(account) {
            let conn = self.core.sessions.get(*id).and_then(|session| session.conn);
            let lot = || self.managed.get(id)?.lot.as_ref().map(|lot| lot.charge.bytes());
            let bytes = match conn {
                Some(conn) => self.conns.get(conn.0).map_or(0, |c| c.charge.bytes()),
                None => lot().unwrap_or_default(),
            };
            sum += bytes;
            most = most.max(Some((bytes, *id, conn)));
        }
        let Some((bytes, id, conn)) = most.filter(|_| sum > max) else { return };
        log::info!(target: LOG, "{account} holds {sum} bytes: what holds {bytes} of them is closed");
        match conn {
            Some(conn) => self.part_with(conn),
            None => self.overfull.push(id),
        }
    }

    /// What the operator sees.
    pub(super) fn memory_lines(&self, text: &mut String) {
        let budget: &Budget = &self.budget;
        let (weight, max) = (budget.weight_bytes(), budget.max_bytes());
        let _ = write!(text, "memory: {}, {weight} of {max} bytes", budget.state().name());
        let _ = match budget.rss_bytes() {
            Some(rss) => writeln!(text, " (RSS {rss}; the program by itself {})", budget.base_bytes()),
            None => writeln!(text),
        };
        let own = budget.used_by(Kind::Tables) + budget.used_by(Kind::Caches);
        let _ = writeln!(text, "held for peers: {} bytes", budget.used_bytes() - own);
        for kind in Kind::ALL {
            let _ = writeln!(text, "  {}: {}", kind.name(), budget.used_by(kind));
        }
        for (name, bytes) in self.modules.held_bytes_each().into_iter().filter(|(_, bytes)| *bytes > 0) {
            let max = self.core.settings.memory.module_max_bytes(name);
            let _ = writeln!(text, "  module {name}: {bytes} of {max}");
        }
    }

    /// For tests: bytes charged to the connection that holds most.
    pub fn held_most_bytes(&self) -> usize {
        self.conns.iter().map(|(_, c)| c.charge.bytes()).max().unwrap_or(0)
    }

    /// For tests: what is charged.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// For tests: the sum of what all holders are charged is what the budget says, for each kind of them.
    pub fn budget_is_sound(&self) -> bool {
        let sessions = self.core.sessions.ids();
        let sessions = sessions.iter().filter_map(|id| self.core.sessions.get(*id));
        let (servers, link_sockets) = self.remotes.charged_bytes();
        #[cfg(feature = "http")]
        let link_sockets = link_sockets + self.guests.charged_bytes();
        let lots = || self.managed.values().filter_map(|m| m.lot.as_ref());
        let charged = |kind: Kind| match kind {
            Kind::Connections => self.conns.iter().map(|(_, c)| c.charge.bytes()).sum::<usize>(),
            Kind::Sockets => self.conns.iter().map(|(_, c)| c.socket.bytes()).sum::<usize>() + link_sockets,
            Kind::Sessions => sessions.clone().map(|s| s.charge.bytes()).sum(),
            Kind::Parked => lots().map(|lot| lot.charge.bytes()).sum(),
            Kind::Servers => servers,
            Kind::Addresses => self.remembered_bytes(),
            Kind::Modules => self.parts.modules.bytes(),
            Kind::Tables => self.parts.tables.bytes(),
            Kind::Caches => self.parts.caches.bytes(),
            Kind::Storage => self.parts.storage.bytes(),
        };
        Kind::ALL.into_iter().all(|kind| self.budget.used_by(kind) == charged(kind))
    }
}

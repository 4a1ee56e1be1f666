//! The shell's side of HTTP: connections whose bytes are not the engine's. Each has a [`Wire`] and a deadline; what a
//! request is for says the [`Site`].

mod bosh;
mod files;
mod relay;
mod socket;
mod visits;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Instant;

use super::sockets::log_end;
use super::{Shell, Tuning};
use crate::budget::allocated;
use crate::clock::Now;
use crate::core::endpoints::Delivery;
use crate::core::io::{ConnId, Input, Role, Transport};
use crate::core::web::Order;
use crate::http::metrics::{self, Histogram};
use crate::http::site::Resource;
use crate::http::wire::{Event, Turn};
use crate::http::{Answer, Head, Pages, Site, Status, Wire, forwarded};
use crate::metrics::{Durations, Figure, Kind};
use crate::net::bell::{Clapper, Token};
use crate::net::conn::{Conn, End, Origin, Received};
#[cfg(feature = "statistics")]
use crate::net::statistics::Statistics;
use crate::net::tls::{ALPN_CLIENT, ALPN_HTTP};
use crate::stream::TlsFacts;
use bosh::{Kept, Post};
use files::{Files, Transfer};
use relay::Relay;
use socket::Socket;
use visits::Visit;

/// What a connection must bring, or take, in `http_content_timeout_s`.
const STEP_BYTES: usize = 16_384;

/// All connections of HTTP.
pub struct Web {
    /// What is served.
    pub site: Site,
    guests: HashMap<ConnId, Box<Guest>>,
    /// Clients of the engine, and the connection of each.
    clients: HashMap<ConnId, ConnId>,
    /// When to give up on which connection.
    ends: BTreeSet<(u64, ConnId)>,
    files: Files,
    /// Sessions of BOSH, by the engine's name of their client.
    sessions: HashMap<ConnId, Box<Kept>>,
    /// The same by the name that clients know.
    sids: HashMap<String, ConnId>,
    /// When to look at which session.
    session_ends: BTreeSet<(u64, ConnId)>,
    /// How long it takes from reading what has come to writing what it leads to.
    ticks: Durations,
    /// How long it takes from reading the last bytes of a stanza to handing it to the sockets of clients, and to those
    /// of servers.
    stanzas: [Durations; 2],
    tick_began: Option<Instant>,
    #[cfg(feature = "statistics")]
    pub statistics: Statistics,
}

/// One connection.
struct Guest {
    wire: Wire,
    /// What it brings or fetches.
    file: Option<Box<Transfer>>,
    /// It sees what is put up, and nothing else.
    sees_pages_alone: bool,
    /// Of one that looks at the page of an invitation.
    visit: Option<Box<Visit>>,
    /// What it brings to an endpoint.
    relay: Option<Box<Relay>>,
    /// A request of BOSH.
    post: Option<Box<Post>>,
    /// Of one that is a WebSocket.
    socket: Option<Box<Socket>>,
    /// From where it comes, by the socket or by a proxy's header.
    peer: IpAddr,
    /// Whose turn it was when the deadline was set.
    turn: Turn,
    /// 0 for never.
    deadline_ms: u64,
    /// Bytes that have come, or gone, since then.
    moved_bytes: usize,
}

/// What a connection has brought.
pub struct Got {
    facts: Option<TlsFacts>,
    from: Option<IpAddr>,
    data: Vec<u8>,
    end: Option<End>,
}

/// True when both ends have agreed on HTTP.
pub fn speaks_http(facts: &TlsFacts) -> bool {
    facts.alpn.as_deref() == Some(ALPN_HTTP)
}

impl Web {
    pub fn new(tuning: &Tuning, now: Now) -> Self {
        let site = Site { options: tuning.site.clone(), pages: Pages::default() };
        let mut web = Self {
            site,
            guests: HashMap::new(),
            clients: HashMap::new(),
            ends: BTreeSet::new(),
            files: Files::default(),
            sessions: HashMap::new(),
            sids: HashMap::new(),
            session_ends: BTreeSet::new(),
            ticks: Durations::default(),
            stanzas: Default::default(),
            tick_began: None,
            #[cfg(feature = "statistics")]
            statistics: Statistics::default(),
        };
        web.configure(tuning, now);
        web
    }

    /// What a connection has brought, not in the shell's buffers.
    pub fn take(&mut self, id: ConnId, received: Received<'_>) -> Got {
        let Received { facts, from, data, end } = received;
        let file = self.guests.get_mut(&id).and_then(|guest| guest.file.as_mut());
        let mut buffer = file.map(|file| file.take_buffer()).unwrap_or_default();
        buffer.extend_from_slice(data);
        Got { facts, from, data: buffer, end }
    }

    /// Takes over a changed configuration.
    #[cfg_attr(not(feature = "statistics"), expect(unused_variables, reason = "they are about time"))]
    pub fn configure(&mut self, tuning: &Tuning, now: Now) {
        self.site.options = tuning.site.clone();
        #[cfg(feature = "statistics")]
        self.statistics.configure(&tuning.statistics, now);
    }

    /// A tick begins.
    pub fn tick_begins(&mut self) {
        self.tick_began = Some(Instant::now());
    }

    /// Microseconds since the tick began.
    fn tick_us(&self) -> Option<u64> {
        Some(u64::try_from(self.tick_began?.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// What was measured, with a name for each.
    #[cfg(feature = "statistics")]
    pub fn measured(&self) -> [(&'static str, &Durations); 3] {
        let [clients, servers] = &self.stanzas;
        [("tick", &self.ticks), ("stanza_latency.client", clients), ("stanza_latency.server", servers)]
    }

    /// It is at its end.
    pub fn tick_ends(&mut self) {
        if let Some(us) = self.tick_us() {
            self.ticks.add(us);
            self.tick_began = None;
        }
    }

    /// When something is due.
    pub fn next_ms(&self) -> Option<u64> {
        let purge = Some(self.files.purge_ms).filter(|at| *at > 0);
        let first = |ends: &BTreeSet<(u64, ConnId)>| ends.first().map(|(at, _)| *at);
        let ends = first(&self.ends).into_iter().chain(first(&self.session_ends)).chain(purge);
        #[cfg(feature = "statistics")]
        let ends = ends.chain(self.statistics.next_ms());
        ends.min()
    }

    fn set_deadline(&mut self, id: ConnId, at_ms: u64) {
        let Some(guest) = self.guests.get_mut(&id) else { return };
        let old_ms = std::mem::replace(&mut guest.deadline_ms, at_ms);
        guest.moved_bytes = 0;
        if old_ms > 0 {
            self.ends.remove(&(old_ms, id));
        }
        if at_ms > 0 {
            self.ends.insert((at_ms, id));
        }
    }
}

impl Shell {
    /// The engine wants something of HTTP.
    pub(super) fn obey_web(&mut self, order: Order, now: Now) {
        match order {
            Order::Deliver(conn, delivery) => self.relay_done(conn, delivery, now),
            Order::Sweep => self.sweep_files(now),
            Order::Remove(ids) => self.remove_files(ids, now),
        }
    }

    /// The pages that others put up.
    pub fn pages(&self) -> Pages {
        self.web.site.pages.clone()
    }

    /// A connection was accepted.
    pub(super) fn web_welcome(&mut self, id: ConnId, conn: &mut Conn, peer: IpAddr, now: Now) {
        if !conn.is_web() {
            return;
        }
        let options = &self.web.site.options;
        if options.proxy_protocol && forwarded::is_among(&options.trusted, peer) {
            conn.expect_prelude();
        }
        self.add_guest(id, peer, matches!(conn.origin, Origin::Accepted(Role::Authority)));
        // The time of a TLS handshake is another's business.
        if !conn.is_handshaking() {
            self.web.set_deadline(id, self.head_deadline_ms(now));
        }
    }

    fn add_guest(&mut self, id: ConnId, peer: IpAddr, sees_pages_alone: bool) {
        let guest = Guest {
            wire: Wire::default(),
            sees_pages_alone,
            file: None,
            visit: None,
            relay: None,
            post: None,
            socket: None,
            peer,
            turn: Turn::Idle,
            deadline_ms: 0,
            moved_bytes: 0,
        };
        self.web.guests.insert(id, Box::new(guest));
    }

    fn head_deadline_ms(&self, now: Now) -> u64 {
        now.mono_ms + u64::from(self.tuning.limits.http_head_timeout_s.max(1)) * 1000
    }

    /// A connection of HTTP, or one that turns out to be one, has brought something.
    pub(super) fn attend_web(&mut self, id: ConnId, got: Got, now: Now) {
        let Got { facts, from, data, end } = got;
        if let (Some(guest), Some(from)) = (self.web.guests.get_mut(&id), from) {
            guest.peer = from;
        }
        let mut id = id;
        if let Some(facts) = &facts {
            self.set_deadline(id, 0);
            let is_client = facts.alpn.as_deref() == Some(ALPN_CLIENT);
            let known = self.web.guests.contains_key(&id);
            if is_client == known {
                let role = if is_client { Role::Client } else { Role::Web };
                let Some(renamed) = self.rename(id, role, now) else { return };
                id = renamed;
            }
            if is_client {
                return self.attend_renamed(id, facts.clone(), &data, end, now);
            }
            self.web.set_deadline(id, self.head_deadline_ms(now));
        }
        if let Some(guest) = self.web.guests.get_mut(&id) {
            guest.moved_bytes += data.len();
            match &mut guest.socket {
                Some(socket) => socket.feed(&data),
                None => guest.wire.feed(data),
            }
        }
        self.drive_web(id, now);
        if let Some(end) = end {
            log_end(&end);
            self.end_web(id, now);
        }
        self.tell_held(id, now);
        self.mark_dirty(id);
    }

    /// A client of XMPP has come to a port of HTTP.
    fn attend_renamed(&mut self, id: ConnId, facts: TlsFacts, data: &[u8], end: Option<End>, now: Now) {
        self.engine.handle(now, Input::TlsReady { conn: id, facts });
        if !data.is_empty() {
            self.engine.handle(now, Input::Bytes { conn: id, data });
        }
        if let Some(end) = end {
            log_end(&end);
            self.engine.handle(now, Input::Closed { conn: id });
            self.begin_close(id, now);
        }
        self.tell_held(id, now);
        self.mark_dirty(id);
    }

    /// The TLS handshake has shown that a connection is another's business than its port's: it goes on under another
    /// name. None when it is not let in as that.
    fn rename(&mut self, id: ConnId, role: Role, now: Now) -> Option<ConnId> {
        let mut conn = self.conns.remove(&id)?;
        let peer = self.web.guests.get(&id).map(|guest| guest.peer).or_else(|| conn.peer());
        self.web_gone(id, now);
        self.engine.handle(now, Input::Closed { conn: id });
        let renamed = self.engine.accept(now, role, Transport::DirectTls, peer?)?;
        conn.rename(Clapper::new(self.bell.clone(), Token::Conn(renamed)), role);
        conn.read_bytes = self.tuning.rates.of(role).read_bytes(crate::net::conn::READ_BYTES);
        self.conns.insert(renamed, conn);
        if role == Role::Web {
            self.add_guest(renamed, peer?, false);
        }
        self.enqueue(renamed);
        Some(renamed)
    }

    /// Handles what has come on a connection, as far as it goes.
    fn drive_web(&mut self, id: ConnId, now: Now) {
        loop {
            let Some(guest) = self.web.guests.get_mut(&id) else { return };
            if guest.socket.is_some() {
                return self.drive_socket(id, now);
            }
            if guest.file.as_ref().is_some_and(|file| file.waits()) {
                break;
            }
            let (is_post, is_relay) = (guest.post.is_some(), guest.relay.is_some());
            let Some(event) = guest.wire.poll() else { break };
            match event {
                Event::Request(head) => self.request(id, *head, now),
                Event::Refused(status) => self.answer_web(id, &Answer::error(status), now),
                Event::Content(bytes) if self.is_visited(id) => self.visit_piece(id, &bytes),
                Event::Content(bytes) if is_relay => self.relay_piece(id, &bytes),
                Event::End if is_relay => self.relay_end(id, now),
                Event::Content(bytes) if is_post => self.bosh_piece(id, &bytes, now),
                Event::Content(bytes) => self.file_piece(id, bytes, now),
                Event::End if is_post => self.bosh_end(id, now),
                Event::End if self.is_visited(id) => self.visit_end(id, now),
                Event::End => self.file_end(id, now),
            }
        }
        let Some(guest) = self.web.guests.get_mut(&id) else { return };
        if let Some(client) = guest.post.as_ref().and_then(|post| post.client())
            && guest.wire.has_more()
        {
            return self.release_request(id, client, now);
        }
        // What comes of a file waits in the socket while the disk is at work.
        let waits = guest.file.as_ref().is_some_and(|file| file.waits());
        let is_relayed = guest.relay.as_ref().is_some_and(|relay| relay.waits());
        let (turn, is_full) = (guest.wire.turn(), guest.wire.is_full() || waits);
        if turn == Turn::Over {
            return self.end_web(id, now);
        }
        let has_moved = guest.moved_bytes >= STEP_BYTES && turn == Turn::Content;
        if turn != guest.turn || has_moved {
            guest.turn = turn;
            let limits = &self.tuning.limits;
            let seconds = match turn {
                Turn::Idle => limits.http_idle_timeout_s,
                Turn::Head => limits.http_head_timeout_s,
                Turn::Content => limits.http_content_timeout_s,
                Turn::Answer if is_relayed => limits.http_delivery_wait_s,
                Turn::Answer | Turn::Over => 0,
            };
            let at_ms = if seconds > 0 { now.mono_ms + u64::from(seconds) * 1000 } else { 0 };
            self.web.set_deadline(id, at_ms);
        }
        if let Some(conn) = self.live(id).filter(|conn| conn.paused != is_full) {
            conn.paused = is_full;
            self.watch(id);
        }
    }

    fn request(&mut self, id: ConnId, head: Head, now: Now) {
        let resource = match self.web.guests.get(&id).is_some_and(|guest| guest.sees_pages_alone) {
            true => Resource::Ready(self.web.site.page(&head).unwrap_or_else(|| Answer::error(Status::NotFound))),
            false => self.web.site.resource(&head),
        };
        let answer = match resource {
            Resource::Ready(answer) => answer,
            Resource::Health => Answer::text(Status::Ok, "text/plain", "ok\n").with("Cache-Control", "no-store"),
            Resource::Readiness => match self.engine.readiness() {
                Ok(()) => Answer::text(Status::Ok, "text/plain", "ready\n"),
                Err(why) => Answer::text(Status::Unavailable, "text/plain", format!("{why}\n")),
            }
            .with("Cache-Control", "no-store"),
            Resource::Metrics => self.metrics(id, &head),
            Resource::WebSocket => return self.open_socket(id, &head, now),
            Resource::Bosh => return self.bosh_request(id, head, now),
            Resource::File => return self.file_request(id, head, now),
            Resource::Invitation => return self.visit(id, head, now),
            Resource::Endpoint(place) => return self.relay_request(id, head, place, now),
        };
        self.answer_web(id, &answer, now);
    }

    /// Figures, for those who may see them.
    fn metrics(&self, id: ConnId, head: &Head) -> Answer {
        let options = &self.web.site.options;
        let Some(guest) = self.web.guests.get(&id) else { return Answer::error(Status::Forbidden) };
        let from = forwarded::origin(head, guest.peer, false, &options.trusted);
        if !forwarded::is_among(&options.metrics_from, from.ip) {
            return Answer::error(Status::Forbidden);
        }
        // They are for whoever is at the right place, and for no page that a browser there shows.
        if !self.web.site.is_known(&head.host) {
            return Answer::error(Status::MisdirectedRequest);
        }
        let stanzas = ["client", "server"].into_iter().zip(&self.web.stanzas);
        let histograms = [
            Histogram {
                name: "couplet_tick_seconds",
                help: "Time from reading what has come to writing what it led to.",
                samples: vec![(String::new(), &self.web.ticks)],
            },
            Histogram {
                name: "couplet_stanza_latency_seconds",
                help: "Time from reading a stanza to handing it to the socket of its recipient.",
                samples: stanzas.map(|(to, durations)| (format!("to=\"{to}\""), durations)).collect(),
            },
        ];
        metrics::answer(head, &self.figures(), &histograms, self.clock.cpu_ms())
    }

    /// What can be known of the server at present, in the order in which it is shown.
    pub(super) fn figures(&self) -> Vec<Figure> {
        let mut figures = self.engine.figures();
        let gauge = |name, help, value: usize| Figure::one(Kind::Gauge, name, help, value as u64);
        let waiting = self.conns.values().map(|conn| conn.waiting_bytes()).sum();
        let handshakes = self.conns.values().filter(|conn| conn.is_handshaking()).count();
        figures.extend([
            gauge("sockets", "Sockets of peers.", self.conns.len()),
            gauge("sockets_tls_handshakes", "Sockets in a TLS handshake.", handshakes),
            gauge("sockets_waiting_bytes", "Bytes that wait for sockets to take them.", waiting),
            gauge("dials", "Attempts to connect to other servers.", self.dials.len()),
            gauge("uptime_seconds", "Since the start.", (self.clock.now().mono_ms / 1000) as usize),
        ]);
        figures
    }

    /// The sockets have got what has left for them in this tick, as far as they have room.
    pub(super) fn web_handed(&mut self, now: Now) {
        let Some(us) = self.web.tick_us() else { return };
        let left = self.engine.left();
        for (left, durations) in [&mut left.clients, &mut left.servers].into_iter().zip(&mut self.web.stanzas) {
            left.hand_over(now.stamp(), us, durations);
        }
    }

    fn answer_web(&mut self, id: ConnId, answer: &Answer, now: Now) {
        let Some(guest) = self.web.guests.get_mut(&id) else { return };
        let mut out = Vec::new();
        guest.wire.answer(answer, now.wall_ms, &mut out);
        self.write_web(id, out, now);
    }

    /// Answers so that scripts of other sites may read it, if they are welcome.
    fn answer_shared(&mut self, id: ConnId, head: &Head, answer: Answer, now: Now) {
        let answer = self.web.site.share(head, answer);
        self.answer_web(id, &answer, now);
    }

    fn write_web(&mut self, id: ConnId, bytes: Vec<u8>, now: Now) {
        let Some(conn) = self.live(id) else { return };
        if let Err(error) = conn.queue(bytes) {
            log::debug!("a connection is lost: {error}");
            self.end_web(id, now);
        }
        self.mark_dirty(id);
    }

    /// Ends a connection behind what is queued.
    fn end_web(&mut self, id: ConnId, now: Now) {
        self.engine.handle(now, Input::Closed { conn: id });
        self.begin_close(id, now);
    }

    /// A socket took bytes: as long as it does, an answer may take its time.
    pub(super) fn web_wrote(&mut self, id: ConnId, waiting_bytes: usize, now: Now) {
        let Some(guest) = self.web.guests.get(&id) else { return };
        if let Some(socket) = &guest.socket {
            let conn = socket.client();
            return self.engine.handle(now, Input::Wrote { conn, waiting_bytes });
        }
        if guest.turn == Turn::Answer && guest.relay.is_none() {
            let ms = u64::from(self.tuning.limits.http_content_timeout_s.max(1)) * 1000;
            self.web.set_deadline(id, if waiting_bytes > 0 { now.mono_ms + ms } else { 0 });
            self.next_piece(id, now);
        }
    }

    /// Who is told what a connection holds, and what that is beside its socket and TLS.
    pub(super) fn web_held(&self, id: ConnId) -> (ConnId, usize) {
        let Some(guest) = self.web.guests.get(&id) else { return (id, 0) };
        let own = allocated(size_of::<Guest>());
        if let Some(socket) = &guest.socket {
            // What waits to be written is the engine's count.
            return (socket.client(), own + socket.held_bytes());
        }
        let out = self.conns.get(&id).map_or(0, |conn| conn.out_bytes());
        let file = guest.file.as_ref().map_or(0, |file| file.held_bytes());
        let visit = guest.visit.as_ref().map_or(0, |visit| visit.held_bytes());
        let post = guest.post.as_ref().map_or(0, |post| post.held_bytes());
        let relay = guest.relay.as_ref().map_or(0, |relay| relay.held_bytes());
        (id, own + guest.wire.heap_bytes() + file + post + visit + relay + out)
    }

    /// A connection is being closed, or is no more.
    pub(super) fn web_gone(&mut self, id: ConnId, now: Now) {
        self.web.set_deadline(id, 0);
        let Some(guest) = self.web.guests.remove(&id) else { return };
        if guest.file.is_some() {
            self.leave_thread(id, now);
        }
        if let Some(client) = guest.post.as_ref().and_then(|post| post.client()) {
            self.leave_session(id, client, now);
        }
        let of_visit = guest.visit.as_ref().and_then(|visit| visit.client());
        if let Some(client) = guest.socket.as_ref().map(|socket| socket.client()).or(of_visit)
            && self.web.clients.remove(&client).is_some()
        {
            self.engine.handle(now, Input::Closed { conn: client });
        }
    }

    /// Gives up on those that are too slow.
    pub(super) fn web_deadlines(&mut self, now: Now) {
        self.purge_files(now);
        #[cfg(feature = "statistics")]
        self.statistics_due(now);
        self.sessions_due(now);
        while let Some(&(_, id)) = self.web.ends.first().filter(|(at, _)| *at <= now.mono_ms) {
            self.web.set_deadline(id, 0);
            let Some(guest) = self.web.guests.get_mut(&id) else { continue };
            if guest.relay.as_ref().is_some_and(|relay| relay.waits()) {
                self.relay_done(id, Delivery::Away, now);
                continue;
            }
            if matches!(guest.turn, Turn::Head | Turn::Content) && guest.wire.turn() != Turn::Idle {
                guest.wire.give_up();
                self.answer_web(id, &Answer::error(Status::RequestTimeout), now);
            }
            self.end_web(id, now);
        }
    }

    fn is_visited(&self, id: ConnId) -> bool {
        self.web.guests.get(&id).is_some_and(|guest| guest.visit.is_some())
    }

    /// The engine has something for a client that comes through HTTP.
    pub(super) fn web_deliver(&mut self, client: ConnId, bytes: Vec<u8>, now: Now) {
        if let Some(id) = self.web.clients.get(&client).copied() {
            match self.is_visited(id) {
                true => self.hear_clerk(id, &bytes, now),
                false => self.deliver_to_socket(id, &bytes, now),
            }
        } else {
            self.deliver_to_session(client, &bytes, now);
        }
    }

    /// The engine closes such a client.
    pub(super) fn web_close(&mut self, client: ConnId, now: Now) {
        if let Some(id) = self.web.clients.remove(&client) {
            match self.is_visited(id) {
                true => self.end_clerk(id, now),
                false => self.close_socket(id, now),
            }
        } else {
            self.close_session(client, now);
        }
    }

    /// The engine wants to hear nothing from such a client for now, or to hear from it again.
    pub(super) fn web_pause(&mut self, client: ConnId, paused: bool, now: Now) {
        // A clerk says nothing before it is answered.
        if let Some(id) = self.web.clients.get(&client).copied().filter(|id| !self.is_visited(*id)) {
            self.pause(id, paused, now);
        } else {
            self.pause_session(client, paused, now);
        }
    }

    /// The server ends: so does everything here, behind what is queued.
    pub(super) fn web_end(&mut self, now: Now) {
        let all: Vec<ConnId> = self.web.guests.keys().copied().collect();
        for id in all {
            self.end_web(id, now);
        }
    }
}

//! The shell's side of single sockets: accepting, reading, writing, giving up.

use std::io;
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::task::{Context, Waker};

#[cfg(feature = "http")]
use super::web;
use super::{CERTIFICATES_CHECK_MS, EXHAUSTED_PAUSE_MS, Shell};
use crate::clock::Now;
use crate::core::io::{ConnId, DialFailure, Input, Role, Transport};
use crate::net::bell::{Clapper, Token};
use crate::net::conn::{Conn, End, Origin, READ_BYTES, Stage, Written};
use crate::net::listen;
#[cfg(feature = "acme")]
use crate::net::tls::ALPN_ACME;

impl Shell {
    /// A connection that the engine still knows.
    pub(super) fn live(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(&id).map(Box::as_mut).filter(|conn| conn.stage == Stage::Live)
    }

    pub(super) fn enqueue(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.queued) else { return };
        conn.queued = true;
        if conn.is_handshaking() {
            self.handshakes.push_back(id);
        } else {
            self.established.push_back(id);
        }
    }

    pub(super) fn mark_dirty(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.dirty) {
            conn.dirty = true;
            self.dirty.push(id);
        }
    }

    /// Watches a connection, or queues it again when there is something to do at once.
    pub(super) fn watch(&mut self, id: ConnId) {
        if self.conns.get_mut(&id).is_some_and(|conn| conn.watch()) {
            self.enqueue(id);
        }
    }

    /// One read from a connection, and its turn to write if it was blocked.
    pub(super) fn attend(&mut self, id: ConnId, now: Now) {
        let Self { conns, scratch, engine, .. } = self;
        let Some(conn) = conns.get_mut(&id) else { return };
        conn.queued = false;
        conn.watch();
        let live = conn.stage == Stage::Live;
        #[cfg(feature = "http")]
        let (is_web, has_role) = (conn.is_web(), matches!(conn.origin, Origin::Accepted(_)));
        let shakes_hands = conn.is_handshaking() && conn.origin.is_dialed();
        let received = conn.receive(scratch);
        #[cfg(feature = "acme")]
        if received.facts.as_ref().is_some_and(|facts| facts.alpn.as_deref() == Some(ALPN_ACME)) {
            // The handshake was all that this connection is for (RFC 8737 section 3).
            engine.handle(now, Input::Closed { conn: id });
            return self.begin_close(id, now);
        }
        #[cfg(feature = "http")]
        if live && has_role && (is_web || received.facts.as_ref().is_some_and(web::speaks_http)) {
            let got = self.web.take(id, received);
            return self.attend_web(id, got, now);
        }
        if live {
            let finished = received.facts.is_some();
            if let Some(facts) = received.facts {
                engine.handle(now, Input::TlsReady { conn: id, facts });
            }
            if !received.data.is_empty() {
                engine.handle(now, Input::Bytes { conn: id, data: received.data });
            }
            if let Some(end) = received.end {
                log_end(&end);
                let input = match end {
                    End::Tls(error) if shakes_hands => {
                        Input::DialFailed { conn: id, why: DialFailure::Tls(error.to_string()) }
                    }
                    _ => Input::Closed { conn: id },
                };
                engine.handle(now, input);
                self.begin_close(id, now);
            } else if finished {
                self.set_deadline(id, 0);
            }
            self.tell_held(id, now);
        }
        self.mark_dirty(id);
    }

    /// Tells the engine what a connection holds here, if that has changed.
    pub(super) fn tell_held(&mut self, id: ConnId, now: Now) {
        let (who, beside) = self.web_held(id);
        if let Some(bytes) = self.live(id).and_then(|conn| conn.news_of_held(beside)) {
            self.engine.handle(now, Input::Held { conn: who, bytes });
        }
    }

    pub(super) fn begin_close(&mut self, id: ConnId, now: Now) {
        self.web_gone(id, now);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.close();
            self.set_deadline(id, now.mono_ms + u64::from(self.tuning.limits.close_timeout_s) * 1000);
            self.mark_dirty(id);
        }
    }

    pub(super) fn set_deadline(&mut self, id: ConnId, at_ms: u64) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let old_ms = mem::replace(&mut conn.deadline_ms, at_ms);
        let stage = conn.stage;
        if old_ms > 0 {
            self.handshakes_end.remove(&(old_ms, id));
            self.closing_end.remove(&(old_ms, id));
        }
        if at_ms > 0 {
            let set = if stage == Stage::Live { &mut self.handshakes_end } else { &mut self.closing_end };
            set.insert((at_ms, id));
        }
    }

    pub(super) fn forget(&mut self, id: ConnId, now: Now) {
        self.web_gone(id, now);
        self.set_deadline(id, 0);
        self.conns.remove(&id);
    }

    pub(super) fn tls_deadline_ms(&self, now: Now) -> u64 {
        now.mono_ms + u64::from(self.tuning.limits.tls_timeout_s.max(1)) * 1000
    }

    /// Starts TLS behind what is queued, as the connection's origin asks for it.
    pub(super) fn start_tls(&mut self, id: ConnId, now: Now) {
        let Self { conns, tls, .. } = self;
        let Some(conn) = conns.get_mut(&id).filter(|conn| conn.stage == Stage::Live) else { return };
        match conn.start_tls(tls) {
            Ok(()) => {
                self.set_deadline(id, self.tls_deadline_ms(now));
                self.tell_held(id, now);
                self.mark_dirty(id);
            }
            Err(error) => {
                log::debug!("TLS does not start: {error}");
                self.engine.handle(now, Input::Closed { conn: id });
                self.begin_close(id, now);
            }
        }
    }

    pub(super) fn accept(&mut self, now: Now) {
        for index in 0..self.listeners.len() {
            for _ in 0..self.steps_max() {
                let Some(door) = self.listeners.get_mut(index) else { return };
                if !door.ready || door.shut_until_ms > now.mono_ms {
                    break;
                }
                door.shut_until_ms = 0;
                let (role, transport) = (door.listener.role, door.listener.transport);
                match door.listener.socket.get_ref().accept() {
                    Ok((socket, peer)) => {
                        self.exhausted = false;
                        self.welcome(socket, peer, (role, transport), now);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        let waker = Waker::from(door.clapper.clone());
                        door.ready = door.listener.socket.poll_readable(&mut Context::from_waker(&waker)).is_ready();
                    }
                    // A peer that has gone before it was let in.
                    Err(error) if !listen::is_exhaustion(&error) => {}
                    Err(error) => {
                        door.shut_until_ms = now.mono_ms + EXHAUSTED_PAUSE_MS;
                        if !mem::replace(&mut self.exhausted, true) {
                            log::warn!("new connections wait: {error}; raise the limit of open files (ulimit -n)");
                        }
                    }
                }
            }
        }
    }

    fn welcome(&mut self, socket: TcpStream, peer: SocketAddr, (role, transport): (Role, Transport), now: Now) {
        // Those that are only being closed give way before anybody is refused.
        if self.conns.len() >= self.tuning.limits.connections_max as usize
            && let Some(&(_, id)) = self.closing_end.first()
        {
            self.forget(id, now);
        }
        let Some(id) = self.engine.accept(now, role, transport, peer.ip().to_canonical()) else { return };
        let direct = transport == Transport::DirectTls;
        let clapper = Clapper::new(self.bell.clone(), Token::Conn(id));
        let tuned = listen::tune(&socket, self.tuning.nodelay, self.tuning.keepalive);
        let acceptor = direct.then(|| self.tls.acceptor(role, transport));
        match tuned.and_then(|()| Conn::new(socket, clapper, acceptor, Origin::Accepted(role))) {
            Ok(mut conn) => {
                self.web_welcome(id, &mut conn, peer.ip().to_canonical(), now);
                conn.read_bytes = self.tuning.rates.of(role).read_bytes(READ_BYTES);
                self.conns.insert(id, Box::new(conn));
                if direct {
                    self.set_deadline(id, self.tls_deadline_ms(now));
                }
                self.tell_held(id, now);
                self.enqueue(id);
            }
            Err(error) => {
                log::debug!("a new connection was lost: {error}");
                self.engine.handle(now, Input::Closed { conn: id });
            }
        }
    }

    pub(super) fn pass_deadlines(&mut self, now: Now) {
        while let Some(&(_, id)) = self.closing_end.first().filter(|(at, _)| *at <= now.mono_ms) {
            self.forget(id, now);
        }
        while let Some(&(_, id)) = self.handshakes_end.first().filter(|(at, _)| *at <= now.mono_ms) {
            log::debug!("a TLS handshake took too long");
            let is_dialed = self.conns.get(&id).is_some_and(|conn| conn.origin.is_dialed());
            let late = Input::DialFailed { conn: id, why: DialFailure::Timeout };
            self.engine.handle(now, if is_dialed { late } else { Input::Closed { conn: id } });
            self.forget(id, now);
        }
        self.web_deadlines(now);
        if self.engine.next_deadline().is_some_and(|at| at <= now.mono_ms) {
            self.engine.handle(now, Input::Wake);
        }
        if self.certificates_check_ms <= now.mono_ms {
            self.certificates_check_ms = now.mono_ms + CERTIFICATES_CHECK_MS;
            self.check_certificates();
        }
    }

    pub(super) fn pause(&mut self, id: ConnId, paused: bool, now: Now) {
        match self.live(id) {
            Some(conn) => {
                conn.paused = paused;
                self.watch(id);
            }
            None => self.web_pause(id, paused, now),
        }
    }

    pub(super) fn write(&mut self, id: ConnId, now: Now) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.dirty = false;
        let (live, is_web) = (conn.stage == Stage::Live, conn.is_web());
        match conn.write() {
            Ok(Written::Nothing) => self.watch(id),
            Ok(Written::Some(waiting_bytes)) => {
                if live {
                    match is_web {
                        true => self.web_wrote(id, waiting_bytes, now),
                        false => self.engine.handle(now, Input::Wrote { conn: id, waiting_bytes }),
                    }
                    self.tell_held(id, now);
                }
                self.watch(id);
            }
            Ok(Written::Over) => self.forget(id, now),
            Err(error) => {
                log_end(&End::Socket(error));
                if live {
                    self.engine.handle(now, Input::Closed { conn: id });
                }
                self.forget(id, now);
            }
        }
    }
}

/// At `debug`: peers come and go as they like.
pub(super) fn log_end(end: &End) {
    match end {
        End::Closed => log::debug!("a peer closed its connection"),
        End::Tls(error) => log::debug!("a connection is lost: {error}"),
        End::Socket(error) => log::debug!("a connection is lost: {error}"),
    }
}

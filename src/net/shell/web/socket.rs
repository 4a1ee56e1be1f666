//! Clients that come by WebSocket (RFC 6455, RFC 7395): a connection that is theirs as a whole, and a stream whose
//! bytes are its messages.

use super::Shell;
use crate::budget::allocated;
use crate::clock::Now;
use crate::core::io::{ConnId, Input, Role};
use crate::http::framing::Messages;
use crate::http::websocket::{self, Code, Incoming, Item};
use crate::http::{Answer, Head, Status, forwarded};

/// With so much waiting to be written, no pings are answered.
const PONGS_BYTES_MAX: usize = 4096;

/// A connection that is a WebSocket.
pub struct Socket {
    /// The engine's name of the client.
    client: ConnId,
    incoming: Incoming,
    messages: Messages,
}

impl Socket {
    pub fn feed(&mut self, bytes: &[u8]) {
        self.incoming.feed(bytes);
    }

    pub fn client(&self) -> ConnId {
        self.client
    }

    pub fn held_bytes(&self) -> usize {
        allocated(size_of::<Self>()) + self.incoming.heap_bytes()
    }
}

impl Shell {
    /// Somebody asks for a WebSocket.
    pub(super) fn open_socket(&mut self, id: ConnId, head: &Head, now: Now) {
        let site = &self.web.site;
        let answer = websocket::handshake(head, |origin| site.allows(origin));
        let Some(guest) = self.web.guests.get(&id) else { return };
        let has_tls = self.conns.get(&id).is_some_and(|conn| conn.has_tls());
        let from = forwarded::origin(head, guest.peer, has_tls, &site.options.trusted);
        if answer.status != Status::SwitchingProtocols {
            return self.answer_web(id, &answer, now);
        }
        let Some(client) = self.engine.accept_through_web(now, from.is_secure, from.ip) else {
            return self.answer_web(id, &Answer::error(Status::Unavailable), now);
        };
        self.answer_web(id, &answer, now);
        self.engine.guest_serves(id);
        self.web.set_deadline(id, 0);
        let Some(guest) = self.web.guests.get_mut(&id) else { return };
        let mut incoming = Incoming::default();
        incoming.feed(&guest.wire.upgrade());
        guest.socket = Some(Box::new(Socket { client, incoming, messages: Messages::default() }));
        self.web.clients.insert(client, id);
        let read_bytes = self.tuning.rates.of(Role::Client).read_bytes(crate::net::conn::READ_BYTES);
        if let Some(conn) = self.live(id) {
            conn.read_bytes = read_bytes;
            conn.tell_anew();
        }
    }

    /// Handles the messages that have come.
    pub(super) fn drive_socket(&mut self, id: ConnId, now: Now) {
        loop {
            let Some(socket) = self.web.guests.get_mut(&id).and_then(|guest| guest.socket.as_mut()) else { return };
            let (client, limits) = (socket.client, &self.tuning.limits);
            match socket.incoming.poll(socket.messages.bytes_max(limits)) {
                Ok(None) => return,
                Ok(Some((Item::Text(text), _))) => match socket.messages.incoming(&text, limits) {
                    Ok(data) if data.is_empty() => self.engine.spend_beside(now, client, text.len() + 1),
                    Ok(data) => self.engine.handle(now, Input::Bytes { conn: client, data: &data }),
                    Err(error) => return self.engine.refuse_stream(now, client, error),
                },
                Ok(Some((Item::Ping(payload), bytes))) => {
                    self.engine.spend_beside(now, client, bytes);
                    // Whoever reads no answers gets none to his latest questions (section 5.5.3).
                    if self.live(id).is_some_and(|conn| conn.waiting_bytes() < PONGS_BYTES_MAX) {
                        let mut out = Vec::new();
                        websocket::write_pong(&payload, &mut out);
                        self.write_web(id, out, now);
                    }
                }
                Ok(Some((Item::Pong | Item::Nothing, bytes))) => self.engine.spend_beside(now, client, bytes),
                Ok(Some((Item::Close, _))) => return self.leave_socket(id, Code::Normal, now),
                Err(code) => return self.leave_socket(id, code, now),
            }
        }
    }

    /// The engine has something to say: each element is a message.
    pub(super) fn deliver_to_socket(&mut self, id: ConnId, bytes: &[u8], now: Now) {
        let Some(socket) = self.web.guests.get_mut(&id).and_then(|guest| guest.socket.as_mut()) else { return };
        let mut out = Vec::with_capacity(bytes.len() + 64);
        socket.messages.outgoing(bytes, |message| websocket::write_text(message, &mut out));
        self.unwritten_bytes += out.len();
        self.write_web(id, out, now);
    }

    /// The engine has said all.
    pub(super) fn close_socket(&mut self, id: ConnId, now: Now) {
        let code = if self.shutdown_ms.is_some() { Code::GoingAway } else { Code::Normal };
        self.leave_socket(id, code, now);
    }

    /// Ends a WebSocket, with the reason (RFC 6455 section 7).
    fn leave_socket(&mut self, id: ConnId, code: Code, now: Now) {
        let mut out = Vec::new();
        websocket::write_close(code, &mut out);
        self.write_web(id, out, now);
        self.end_web(id, now);
    }
}

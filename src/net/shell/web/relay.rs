//! What application servers bring to endpoints (UnifiedPush): a small content comes in, the engine passes it to a
//! client, and the client's word is the answer.

use super::Shell;
use crate::budget::allocated;
use crate::clock::Now;
use crate::core::endpoints::{CONTENT_BYTES_MAX, Delivery, Endpoint};
use crate::core::io::ConnId;
use crate::http::endpoint::{self, Place};
use crate::http::{Answer, Head, Method, Status};

/// What goes on between a connection and an endpoint.
pub struct Relay {
    head: Head,
    endpoint: Endpoint,
    content: Vec<u8>,
    /// The client has been asked.
    waits: bool,
}

impl Relay {
    /// Bytes that it holds.
    pub fn held_bytes(&self) -> usize {
        allocated(size_of::<Self>()) + self.head.heap_bytes() + allocated(self.content.capacity())
    }

    /// It waits for a client.
    pub fn waits(&self) -> bool {
        self.waits
    }
}

impl Shell {
    /// A request in the folder of endpoints.
    pub(super) fn relay_request(&mut self, id: ConnId, head: Head, place: Place, now: Now) {
        let found = match (head.method, place) {
            (Method::Options, _) => {
                let answer = self.web.site.preflight(&head, "GET, HEAD, POST");
                return self.answer_web(id, &answer, now);
            }
            (_, Place::Message) => Err(Answer::error(Status::Gone)),
            (Method::Get | Method::Head, Place::Endpoint) => Err(endpoint::discovery()),
            (Method::Put, Place::Endpoint) => Err(crate::http::site::not_allowed("GET, HEAD, POST")),
            (Method::Post, Place::Endpoint) => {
                let endpoint = self.engine.endpoint(&head.path, now.wall_ms);
                endpoint.ok_or_else(|| endpoint::answer(Delivery::Gone, ""))
            }
        };
        let endpoint = match found {
            Ok(endpoint) => endpoint,
            Err(answer) => return self.answer_shared(id, &head, answer, now),
        };
        let Some(guest) = self.web.guests.get_mut(&id) else { return };
        let mut out = Vec::new();
        match guest.wire.take_content(CONTENT_BYTES_MAX, &mut out) {
            Ok(()) => guest.relay = Some(Box::new(Relay { head, endpoint, content: Vec::new(), waits: false })),
            Err(status) => return self.answer_shared(id, &head, Answer::error(status), now),
        }
        self.write_web(id, out, now);
    }

    /// A piece of it has come.
    pub(super) fn relay_piece(&mut self, id: ConnId, bytes: &[u8]) {
        if let Some(relay) = self.web.guests.get_mut(&id).and_then(|guest| guest.relay.as_mut()) {
            relay.content.extend_from_slice(bytes);
        }
    }

    /// All of it has come.
    pub(super) fn relay_end(&mut self, id: ConnId, now: Now) {
        let Some(guest) = self.web.guests.get_mut(&id) else { return };
        let Some(mut relay) = guest.relay.take() else { return };
        if relay.content.is_empty() {
            return self.answer_shared(id, &relay.head, Answer::error(Status::BadRequest), now);
        }
        let content = std::mem::take(&mut relay.content);
        relay.waits = true;
        let endpoint = relay.endpoint.clone();
        guest.relay = Some(relay);
        self.engine.bring(now, id, &endpoint, &content);
    }

    /// The client has said something, or nothing in time.
    pub(in super::super) fn relay_done(&mut self, id: ConnId, delivery: Delivery, now: Now) {
        let relay = self.web.guests.get_mut(&id).and_then(|guest| guest.relay.take());
        let Some(relay) = relay else { return };
        let name = self.engine.token();
        self.answer_shared(id, &relay.head, endpoint::answer(delivery, &name), now);
        self.drive_web(id, now);
        self.tell_held(id, now);
        self.mark_dirty(id);
    }
}

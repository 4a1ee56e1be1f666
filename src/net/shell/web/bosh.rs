//! Clients that come by BOSH (XEP-0124, XEP-0206): streams that belong to no connection, but to sessions, whose
//! requests come on any.

use super::{Shell, Web};
use crate::clock::Now;
use crate::core::io::{ConnId, Input};
use crate::http::bosh::{self, Body, Condition, Limits, Session};
use crate::http::site::not_allowed;
use crate::http::{Answer, Head, Method, Status, forwarded};
use crate::xml::ScanLimits;

/// Beside what is said: the start tag of a body and white space.
const BESIDE_BYTES: usize = 4096;

/// A request whose content comes, or whose answer waits.
pub struct Post {
    head: Head,
    content: Vec<u8>,
    /// Of the client that the answer waits for.
    client: Option<ConnId>,
}

impl Post {
    /// The client that the answer waits for.
    pub fn client(&self) -> Option<ConnId> {
        self.client
    }

    pub fn held_bytes(&self) -> usize {
        use crate::budget::allocated;
        allocated(size_of::<Self>()) + self.head.heap_bytes() + allocated(self.content.capacity())
    }
}

/// A session, and what the shell knows of it.
pub struct Kept {
    session: Session,
    /// The engine knows its client.
    is_live: bool,
    /// When it is looked at; 0 for never.
    due_ms: u64,
}

impl Web {
    fn set_session_due(&mut self, client: ConnId) {
        let Some(kept) = self.sessions.get_mut(&client) else { return };
        let due_ms = kept.session.next_ms().max(1);
        if due_ms != kept.due_ms {
            self.session_ends.remove(&(kept.due_ms, client));
            kept.due_ms = due_ms;
            self.session_ends.insert((due_ms, client));
        }
    }

    fn forget_session(&mut self, client: ConnId) {
        if let Some(kept) = self.sessions.remove(&client) {
            self.session_ends.remove(&(kept.due_ms, client));
            self.sids.remove(kept.session.sid());
        }
    }
}

impl Shell {
    /// A request at the path of BOSH: its content is wanted.
    pub(super) fn bosh_request(&mut self, id: ConnId, head: Head, now: Now) {
        match head.method {
            Method::Post => {}
            Method::Options => {
                let answer = self.web.site.preflight(&head, "POST");
                return self.answer_web(id, &answer, now);
            }
            _ => return self.answer_shared(id, &head, not_allowed("POST"), now),
        }
        let bytes_max = self.tuning.limits.stanza_bytes_max as usize + BESIDE_BYTES;
        let Some(guest) = self.web.guests.get_mut(&id) else { return };
        let mut out = Vec::new();
        match guest.wire.take_content(bytes_max as u64, &mut out) {
            Ok(()) => {
                guest.post = Some(Box::new(Post { head, content: Vec::new(), client: None }));
                self.write_web(id, out, now);
            }
            Err(status) => self.answer_shared(id, &head, Answer::error(status), now),
        }
    }

    /// A piece of a body has come. Those who have not logged in may say as little as on other streams.
    pub(super) fn bosh_piece(&mut self, id: ConnId, bytes: &[u8], now: Now) {
        let strange_max = self.tuning.limits.stanza_bytes_max_before_auth as usize + BESIDE_BYTES;
        let Web { guests, sids, sessions, .. } = &mut self.web;
        let Some(post) = guests.get_mut(&id).and_then(|guest| guest.post.as_mut()) else { return };
        post.content.extend_from_slice(bytes);
        let is_known = || {
            let client = sids.get(&bosh::sid_of(&post.content)?)?;
            sessions.get(client).map(|kept| kept.session.is_known())
        };
        if post.content.len() > strange_max && is_known() != Some(true) {
            self.answer_post(id, Err(Status::ContentTooLarge), now);
        }
    }

    /// All of a body has come.
    pub(super) fn bosh_end(&mut self, id: ConnId, now: Now) {
        let Some(guest) = self.web.guests.get_mut(&id) else { return };
        let Some(post) = guest.post.as_mut() else { return };
        let content = std::mem::take(&mut post.content);
        let has_tls = self.conns.get(&id).is_some_and(|conn| conn.has_tls());
        let from = forwarded::origin(&post.head, guest.peer, has_tls, &self.web.site.options.trusted);
        let body = match Body::read(&content, ScanLimits::authenticated(&self.tuning.limits)) {
            Ok(body) => body,
            Err(condition) => return self.answer_post(id, Ok(bosh::terminal(condition)), now),
        };
        let known = body.sid().map(|sid| self.web.sids.get(sid).copied());
        match known {
            None => self.begin_session(id, &body, from, now),
            Some(None) => self.answer_post(id, Ok(bosh::terminal(Condition::ItemNotFound)), now),
            Some(Some(client)) => self.go_on_with_session(id, client, body, from.is_secure, now),
        }
    }

    fn begin_session(&mut self, id: ConnId, body: &Body, from: forwarded::Origin, now: Now) {
        let limits = &self.tuning.limits;
        let limits =
            Limits { wait_s: limits.bosh_wait_s, inactivity_s: limits.bosh_inactivity_s, pause_s: limits.bosh_pause_s };
        let Some(client) = self.engine.accept_through_web(now, from.is_secure, from.ip) else {
            return self.answer_post(id, Ok(bosh::terminal(Condition::InternalServerError)), now);
        };
        let sid = self.engine.token();
        let (mut session, opening) = Session::new(sid.clone(), body, from.is_secure, limits, now.mono_ms);
        session.hold_first(id, now.mono_ms);
        self.web.sids.insert(sid, client);
        self.web.sessions.insert(client, Box::new(Kept { session, is_live: true, due_ms: 0 }));
        self.wait_for_session(id, client);
        self.engine.handle(now, Input::Bytes { conn: client, data: &opening });
        self.answer_session(client, now);
    }

    fn wait_for_session(&mut self, id: ConnId, client: ConnId) {
        if let Some(post) = self.web.guests.get_mut(&id).and_then(|guest| guest.post.as_mut()) {
            post.client = Some(client);
        }
    }

    fn go_on_with_session(&mut self, id: ConnId, client: ConnId, body: Body, is_secure: bool, now: Now) {
        let Some(kept) = self.web.sessions.get_mut(&client) else { return };
        // Section 18: whoever comes in plain for what was begun under TLS is no client of it, and does it no harm.
        if !kept.session.may_come(is_secure) {
            return self.end_web(id, now);
        }
        match kept.session.request(body, id, now.mono_ms) {
            Ok(()) => {
                self.wait_for_session(id, client);
                self.feed_session(client, now);
            }
            Err(condition) => {
                self.answer_post(id, Ok(bosh::terminal(condition)), now);
                self.end_session(client, condition, now);
            }
        }
    }

    /// Passes on what may be, and answers.
    fn feed_session(&mut self, client: ConnId, now: Now) {
        loop {
            let Some(kept) = self.web.sessions.get_mut(&client) else { return };
            match kept.session.take(now.mono_ms) {
                Ok(Some(bytes)) if kept.is_live && !bytes.is_empty() => {
                    self.engine.handle(now, Input::Bytes { conn: client, data: &bytes });
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(condition) => return self.end_session(client, condition, now),
            }
        }
        self.answer_session(client, now);
    }

    /// The client has broken a rule of sessions: its stream is lost, and can be resumed (XEP-0198).
    fn end_session(&mut self, client: ConnId, condition: Condition, now: Now) {
        if let Some(kept) = self.web.sessions.get_mut(&client) {
            kept.session.finish(Some(condition));
            if std::mem::replace(&mut kept.is_live, false) {
                self.engine.handle(now, Input::Closed { conn: client });
            }
        }
        self.answer_session(client, now);
    }

    /// Gives the answers that leave now.
    fn answer_session(&mut self, client: ConnId, now: Now) {
        let Some(kept) = self.web.sessions.get_mut(&client) else { return };
        let waiting_bytes = kept.session.waiting_bytes();
        let answers = kept.session.answers(now.mono_ms);
        if kept.is_live {
            let bytes = kept.session.held_bytes();
            if kept.session.waiting_bytes() < waiting_bytes {
                let waiting_bytes = kept.session.waiting_bytes();
                self.engine.handle(now, Input::Wrote { conn: client, waiting_bytes });
            }
            self.engine.handle(now, Input::Held { conn: client, bytes });
        }
        self.web.set_session_due(client);
        if self.web.sessions.get(&client).is_some_and(|kept| kept.session.is_over()) {
            self.drop_session(client, now);
        }
        for (id, body) in answers {
            self.answer_post(id, Ok(body), now);
        }
    }

    fn drop_session(&mut self, client: ConnId, now: Now) {
        let is_live = self.web.sessions.get(&client).is_some_and(|kept| kept.is_live);
        self.web.forget_session(client);
        if is_live {
            self.engine.handle(now, Input::Closed { conn: client });
        }
    }

    /// Answers a request.
    fn answer_post(&mut self, id: ConnId, answer: Result<Vec<u8>, Status>, now: Now) {
        let Some(post) = self.web.guests.get_mut(&id).and_then(|guest| guest.post.take()) else { return };
        let answer = match answer {
            Ok(body) => Answer::text(Status::Ok, "text/xml; charset=utf-8", body).with("Cache-Control", "no-store"),
            Err(status) => Answer::error(status),
        };
        self.answer_shared(id, &post.head, answer, now);
        self.drive_web(id, now);
        self.tell_held(id, now);
        self.mark_dirty(id);
    }

    /// The engine has something to say. False when the client has no session.
    pub(super) fn deliver_to_session(&mut self, client: ConnId, bytes: &[u8], now: Now) -> bool {
        let Some(kept) = self.web.sessions.get_mut(&client) else { return false };
        kept.session.say(bytes);
        self.answer_session(client, now);
        true
    }

    /// The engine has said all.
    pub(super) fn close_session(&mut self, client: ConnId, now: Now) {
        if let Some(kept) = self.web.sessions.get_mut(&client) {
            kept.is_live = false;
            kept.session.finish(None);
            self.answer_session(client, now);
        }
    }

    /// The engine wants to hear nothing for now, or again.
    pub(super) fn pause_session(&mut self, client: ConnId, paused: bool, now: Now) {
        if let Some(kept) = self.web.sessions.get_mut(&client) {
            kept.session.pause(paused);
            self.feed_session(client, now);
        }
    }

    /// A connection whose request waits is gone.
    pub(super) fn leave_session(&mut self, id: ConnId, client: ConnId, now: Now) {
        if let Some(kept) = self.web.sessions.get_mut(&client) {
            kept.session.lost(id, now.mono_ms);
            self.web.set_session_due(client);
        }
    }

    /// The client has more to say on a connection whose request waits: that is answered, for the next to be read.
    pub(super) fn release_request(&mut self, id: ConnId, client: ConnId, now: Now) {
        if let Some(kept) = self.web.sessions.get_mut(&client) {
            kept.session.release(id);
            self.answer_session(client, now);
        }
    }

    /// Answers what has waited long enough, and ends sessions whose client is gone.
    pub(super) fn sessions_due(&mut self, now: Now) {
        while let Some(&(_, client)) = self.web.session_ends.first().filter(|(at, _)| *at <= now.mono_ms) {
            if self.web.sessions.get(&client).is_none_or(|kept| kept.session.is_lost(now.mono_ms)) {
                log::debug!("a client of BOSH has not been heard of for too long");
                self.drop_session(client, now);
                self.web.session_ends.retain(|(_, ended)| *ended != client);
                continue;
            }
            let before = self.web.session_ends.first().copied();
            self.answer_session(client, now);
            // What could not be answered now is not looked at without end.
            if self.web.session_ends.first().copied() == before {
                self.web.session_ends.pop_first();
                if let Some(kept) = self.web.sessions.get_mut(&client) {
                    kept.due_ms = 0;
                }
            }
        }
    }
}

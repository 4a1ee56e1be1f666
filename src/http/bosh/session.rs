//! One session of BOSH: which requests wait, which have been answered, what is to be said.

use std::collections::{BTreeMap, VecDeque};
use std::mem;

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::super::framing::{Piece, split};
use super::{Body, Condition, write_body};
use crate::budget::allocated;
use crate::core::io::ConnId;
use crate::encoding::hex;

/// The bounds of a session, in seconds where they are times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a request waits for something to be said.
    pub wait_s: u32,
    /// How long a client may have no request here.
    pub inactivity_s: u32,
    /// How long it may pause.
    pub pause_s: u32,
}

/// Requests that wait (section 7.2): with one more there is always one for the client to speak by.
const HOLD_MAX: u32 = 1;

/// A request that is not answered.
#[derive(Debug)]
struct Held {
    rid: u64,
    /// The connection that it came on; none when that is gone.
    conn: Option<ConnId>,
    until_ms: u64,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    /// Its unguessable name.
    sid: String,
    /// The host that its stream is to.
    host: Option<String>,
    limits: Limits,
    /// As agreed upon.
    wait_s: u32,
    hold: usize,
    /// All its requests come under TLS.
    is_secure: bool,
    /// The last request whose content was passed on.
    last_rid: u64,
    /// What came ahead of its turn.
    early: BTreeMap<u64, Body>,
    held: VecDeque<Held>,
    /// The last answers, to be given again to who has not got them.
    answered: VecDeque<(u64, Vec<u8>)>,
    /// What the engine has said and no answer has carried.
    pending: Vec<u8>,
    /// The key that comes next is one whose hash is that, in hexadecimal digits.
    key: Option<String>,
    /// The answer to the first request has left.
    is_open: bool,
    /// The header that the engine has sent, for that answer.
    header: Vec<u8>,
    /// The client has logged in.
    is_known: bool,
    /// The engine wants to hear nothing for now.
    paused: bool,
    /// Nothing more comes of it, and why.
    end: Option<Option<Condition>>,
    /// The client has been told so.
    told_end: bool,
    /// It ends when no request has come by then.
    idle_ms: u64,
}

impl Session {
    /// A session that the first body asks for (section 7), and the bytes that open its stream.
    pub fn new(sid: String, body: &Body, is_secure: bool, limits: Limits, now_ms: u64) -> (Self, Vec<u8>) {
        let header = body.header(None);
        let mut payload = header;
        payload.extend_from_slice(&body.payload);
        let session = Self {
            sid,
            host: body.attr("to").map(str::to_owned),
            limits,
            wait_s: body.number("wait").unwrap_or(limits.wait_s).min(limits.wait_s),
            hold: body.number("hold").unwrap_or(HOLD_MAX).min(HOLD_MAX) as usize,
            is_secure,
            last_rid: body.rid,
            early: BTreeMap::new(),
            held: VecDeque::new(),
            answered: VecDeque::new(),
            pending: Vec::new(),
            key: body.attr("newkey").map(str::to_ascii_lowercase),
            is_open: false,
            header: Vec::new(),
            is_known: false,
            paused: false,
            end: None,
            told_end: false,
            idle_ms: now_ms + u64::from(limits.inactivity_s) * 1000,
        };
        (session, payload)
    }

    /// Its name.
    pub fn sid(&self) -> &str {
        &self.sid
    }

    /// The first request waits on this connection.
    pub fn hold_first(&mut self, conn: ConnId, now_ms: u64) {
        self.hold(self.last_rid, conn, now_ms);
    }

    /// Requests that may be under way (section 11).
    fn requests(&self) -> u64 {
        self.hold as u64 + 1
    }

    /// The client has logged in, and may say more at a time.
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    /// Whether a request may have come that way: all of them under TLS, if the first did (section 18).
    pub fn may_come(&self, is_secure: bool) -> bool {
        is_secure || !self.is_secure
    }

    /// Another request has come, on that connection.
    ///
    /// # Errors
    /// The session is to end for that; the answer is [`super::terminal`] with it.
    pub fn request(&mut self, body: Body, conn: ConnId, now_ms: u64) -> Result<(), Condition> {
        let rid = body.rid;
        self.idle_ms = now_ms + u64::from(self.limits.inactivity_s) * 1000;
        if rid <= self.last_rid || self.early.contains_key(&rid) {
            return self.repeat(rid, conn, now_ms);
        }
        // Section 11: one more may pause or end the session. Section 14.1: nothing else is within the window.
        let more = u64::from(body.attr("pause").is_some() || body.ends());
        if rid > self.last_rid + self.requests() + more {
            return Err(Condition::ItemNotFound);
        }
        if self.held.len() as u64 >= self.requests() + more {
            return Err(Condition::PolicyViolation);
        }
        self.early.insert(rid, body);
        self.hold(rid, conn, now_ms);
        Ok(())
    }

    fn hold(&mut self, rid: u64, conn: ConnId, now_ms: u64) {
        let at = self.held.iter().position(|held| held.rid > rid).unwrap_or(self.held.len());
        let until_ms = now_ms + u64::from(self.wait_s) * 1000;
        self.held.insert(at, Held { rid, conn: Some(conn), until_ms });
    }

    /// A request comes again, because its answer was lost or its connection (section 14.3).
    fn repeat(&mut self, rid: u64, conn: ConnId, now_ms: u64) -> Result<(), Condition> {
        if let Some(held) = self.held.iter_mut().find(|held| held.rid == rid) {
            let before = held.conn.replace(conn);
            if let Some(before) = before.filter(|before| *before != conn) {
                self.held.push_front(Held { rid: 0, conn: Some(before), until_ms: 0 });
            }
            return Ok(());
        }
        match self.answered.iter().any(|(answered, _)| *answered == rid) {
            true => {
                self.held.push_front(Held { rid, conn: Some(conn), until_ms: now_ms });
                Ok(())
            }
            false => Err(Condition::ItemNotFound),
        }
    }

    /// What may be passed on to the engine by now, in the order of the numbers; none when there is nothing.
    ///
    /// # Errors
    /// As of [`Session::request`].
    pub fn take(&mut self, now_ms: u64) -> Result<Option<Vec<u8>>, Condition> {
        if self.paused || self.end.is_some() {
            return Ok(None);
        }
        let Some(body) = self.early.remove(&(self.last_rid + 1)) else { return Ok(None) };
        self.last_rid = body.rid;
        self.check_key(&body)?;
        if let Some(pause_s) = body.number("pause").filter(|pause_s| *pause_s <= self.limits.pause_s) {
            self.idle_ms = now_ms + u64::from(pause_s) * 1000;
            // Section 10: all are answered, and with nothing.
            for held in &mut self.held {
                held.until_ms = 0;
            }
        }
        let restarts = body.attr_of_xbosh("restart").is_some_and(|value| value == "true" || value == "1");
        let mut bytes = if restarts { body.header(self.host.as_deref()) } else { Vec::new() };
        bytes.extend_from_slice(&body.payload);
        if body.ends() {
            bytes.extend_from_slice(b"</stream:stream>");
            self.end = Some(None);
        }
        Ok(Some(bytes))
    }

    /// Section 15: each request has the key whose hash the last one has shown.
    fn check_key(&mut self, body: &Body) -> Result<(), Condition> {
        let Some(expected) = self.key.take() else { return Ok(()) };
        let key = body.attr("key").unwrap_or_default().to_ascii_lowercase();
        if hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, key.as_bytes()).as_ref()) != expected {
            return Err(Condition::ItemNotFound);
        }
        self.key = Some(body.attr("newkey").map_or(key, str::to_ascii_lowercase));
        Ok(())
    }

    /// The engine has said something.
    pub fn say(&mut self, bytes: &[u8]) {
        let Self { pending, is_known, end, header, is_open, .. } = self;
        split(bytes, |piece| match piece {
            Piece::Header(_) if *is_open => {}
            Piece::Header(attributes) => *header = attributes,
            Piece::Element(element, says_success) => {
                *is_known |= says_success;
                if element.starts_with(b"<stream:error") {
                    *end = Some(Some(Condition::RemoteStreamError));
                }
                pending.extend_from_slice(&element);
            }
            Piece::End => _ = end.get_or_insert(None),
        });
    }

    /// The engine has closed the stream, or the session ends for that reason.
    pub fn finish(&mut self, condition: Option<Condition>) {
        self.end.get_or_insert(condition);
    }

    /// True when nothing more comes of it and its client knows.
    pub fn is_over(&self) -> bool {
        self.told_end && self.held.is_empty()
    }

    /// The engine wants to hear nothing for now, or again.
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Bytes that wait for an answer to carry them.
    pub fn waiting_bytes(&self) -> usize {
        self.pending.len()
    }

    /// A connection is gone. Its request can be sent again.
    pub fn lost(&mut self, conn: ConnId, now_ms: u64) {
        for held in &mut self.held {
            if held.conn == Some(conn) {
                held.conn = None;
            }
        }
        self.idle_ms = self.idle_ms.max(now_ms + u64::from(self.limits.inactivity_s) * 1000);
    }

    /// What waits on a connection is answered in any case: the client has more to say on it.
    pub fn release(&mut self, conn: ConnId) {
        for held in self.held.iter_mut().filter(|held| held.conn == Some(conn)) {
            held.until_ms = 0;
        }
    }

    /// The answers that leave now, each with its connection. To be called when anything has changed, or is due.
    pub fn answers(&mut self, now_ms: u64) -> Vec<(ConnId, Vec<u8>)> {
        let mut out = Vec::new();
        loop {
            // Those whose content has not been passed on wait for that.
            let passed_on = |held: &&Held| held.rid <= self.last_rid || self.end.is_some();
            let Some(oldest) = self.held.front().filter(passed_on) else { break };
            if let Some(at) = self.answered.iter().position(|(rid, _)| *rid == oldest.rid) {
                let again = self.answered.get(at).map(|(_, answer)| answer.clone()).unwrap_or_default();
                out.extend(self.held.pop_front().and_then(|held| held.conn).map(|conn| (conn, again)));
                continue;
            }
            if oldest.rid == 0 {
                // It was sent again: section 14.3.
                let answer = write_body(&[("type", "error")], &[]);
                out.extend(self.held.pop_front().and_then(|held| held.conn).map(|conn| (conn, answer)));
                continue;
            }
            let has_more =
                self.held.iter().skip(1).filter(|held| held.rid <= self.last_rid && held.conn.is_some()).count();
            let waits = self.held.len() > self.hold.max(1) && has_more > 0;
            let is_due = oldest.until_ms <= now_ms || waits || self.hold == 0;
            let speaks = self.is_open || !self.header.is_empty();
            let is_news = (!self.pending.is_empty() && speaks) || self.end.is_some();
            if !(is_news || (is_due && self.is_open)) {
                break;
            }
            // Nobody hears an answer on a connection that is gone: it is kept for who asks again, and what is to be
            // said goes on the next that is there.
            let is_there = oldest.conn.is_some();
            let others = self.held.iter().any(|held| held.conn.is_some());
            if !is_there && !others {
                break;
            }
            let Some(held) = self.held.pop_front() else { break };
            let answer = if is_there { self.compose(held.rid) } else { write_body(&[], &[]) };
            self.remember(held.rid, &answer);
            out.extend(held.conn.map(|conn| (conn, answer)));
        }
        if !out.is_empty() && self.held.is_empty() {
            self.idle_ms = self.idle_ms.max(now_ms + u64::from(self.limits.inactivity_s) * 1000);
        }
        out
    }

    /// The body of the next answer, with all that waits.
    fn compose(&mut self, rid: u64) -> Vec<u8> {
        let mut payload = mem::take(&mut self.pending);
        // Section 13: a client that has ended the session is told so by a body without content. What there was to say
        // leaves before that, if there is a request for it.
        let others = self.held.iter().any(|held| held.conn.is_some());
        let later = self.end == Some(None) && !self.told_end && !payload.is_empty() && others;
        if self.end == Some(None) && !later {
            payload.clear();
        }
        let number = |number: u32| number.to_string();
        let (wait, hold, requests) = (number(self.wait_s), self.hold.to_string(), self.requests().to_string());
        let (inactivity, pause, ack) = (number(self.limits.inactivity_s), number(self.limits.pause_s), rid.to_string());
        let mut attributes: Vec<(&str, &str)> = Vec::new();
        let id = id_of(&self.header);
        if !mem::replace(&mut self.is_open, true) {
            attributes.extend([
                ("xmlns:xmpp", super::XBOSH),
                ("sid", self.sid.as_str()),
                ("wait", wait.as_str()),
                ("hold", hold.as_str()),
                ("requests", requests.as_str()),
                ("inactivity", inactivity.as_str()),
                ("maxpause", pause.as_str()),
                ("ver", "1.11"),
                ("ack", ack.as_str()),
                ("xmpp:version", "1.0"),
                ("xmpp:restartlogic", "true"),
            ]);
            if self.is_secure {
                attributes.push(("secure", "true"));
            }
            attributes.extend(self.host.as_deref().map(|host| ("from", host)));
            attributes.extend(id.as_deref().map(|id| ("authid", id)));
        }
        let last = self.last_rid.to_string();
        if self.last_rid > rid {
            attributes.push(("ack", last.as_str()));
        }
        // On all that wait, as Prosody does: a client that hears on a newer one first that nothing is there goes on.
        self.told_end |= self.end.is_some() && !later;
        match self.end.filter(|_| !later) {
            None => {}
            Some(None) => attributes.push(("type", "terminate")),
            Some(Some(condition)) => {
                attributes.extend([("type", "terminate"), ("condition", condition.name())]);
            }
        }
        let answer = write_body(&attributes, &payload);
        self.header = Vec::new();
        answer
    }

    fn remember(&mut self, rid: u64, answer: &[u8]) {
        self.answered.push_back((rid, answer.to_vec()));
        while self.answered.len() as u64 > self.requests() {
            self.answered.pop_front();
        }
    }

    /// When something is due.
    pub fn next_ms(&self) -> u64 {
        let is_held = self.held.iter().any(|held| held.conn.is_some());
        match self.held.iter().filter(|held| held.conn.is_some()).map(|held| held.until_ms).min() {
            Some(until_ms) if is_held => until_ms,
            _ => self.idle_ms,
        }
    }

    /// True when the client has not been heard of for too long.
    pub fn is_lost(&self, now_ms: u64) -> bool {
        self.held.iter().all(|held| held.conn.is_none()) && self.idle_ms <= now_ms
    }

    /// Bytes on the heap beside what waits for an answer.
    pub fn held_bytes(&self) -> usize {
        let answered = self.answered.iter().map(|(_, answer)| allocated(answer.capacity()));
        let early = self.early.values().map(|body| allocated(body.payload.capacity()) + body.tag.heap_bytes());
        allocated(size_of::<Self>())
            + answered.sum::<usize>()
            + early.sum::<usize>()
            + allocated(self.header.capacity())
    }
}

/// The id of a stream's header.
fn id_of(header: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(header).ok()?;
    text.split_once(" id='")?.1.split_once('\'').map(|(id, _)| id.to_owned())
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;

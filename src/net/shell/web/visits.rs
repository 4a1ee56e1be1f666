//! Visits to the page of an invitation: a form comes in, a clerk asks the engine as a client of its own, and the page
//! with what came of it leaves.

use std::net::IpAddr;

use zeroize::Zeroizing;

use super::Shell;
use crate::budget::allocated;
use crate::clock::Now;
use crate::core::io::{ConnId, Input};
use crate::http::clerk::{Clerk, Entry, Outcome, out_of_order};
use crate::http::invitation::{self, FORM_BYTES_MAX};
use crate::http::{Head, Method, Status, forwarded};

/// What goes on between a connection and the page.
pub struct Visit {
    host: String,
    token: String,
    /// What is to be mended in the form that was sent.
    wrong: Option<&'static str>,
    stage: Stage,
}

enum Stage {
    /// The form comes.
    Filling(Box<Head>, Zeroizing<Vec<u8>>, IpAddr),
    /// The engine is asked, by this client.
    Asking(ConnId, Box<Clerk>),
}

impl Visit {
    /// Bytes that it holds.
    pub fn held_bytes(&self) -> usize {
        let stage = match &self.stage {
            Stage::Filling(head, content, _) => head.heap_bytes() + allocated(content.capacity()),
            Stage::Asking(..) => allocated(size_of::<Clerk>()),
        };
        allocated(size_of::<Self>()) + self.host.len() + self.token.len() + stage
    }

    /// The client that asks for it.
    pub fn client(&self) -> Option<ConnId> {
        match self.stage {
            Stage::Filling(..) => None,
            Stage::Asking(client, _) => Some(client),
        }
    }
}

impl Shell {
    /// A request for the page.
    pub(super) fn visit(&mut self, id: ConnId, head: Head, now: Now) {
        let site = &self.web.site;
        let host = site.host(&head).to_owned();
        let Some(guest) = self.web.guests.get_mut(&id) else { return };
        let has_tls = self.conns.get(&id).is_some_and(|conn| conn.has_tls());
        let from = forwarded::origin(&head, guest.peer, has_tls, &site.options.trusted);
        let refused = match head.method {
            Method::Get | Method::Head | Method::Post if !from.is_secure => {
                Some((Status::Forbidden, "Passwords do not travel in the open. Open this page by https."))
            }
            Method::Get | Method::Head => None,
            Method::Post if !invitation::is_own(&head, &site.url(&host)) => {
                Some((Status::Forbidden, "This form was sent by another site."))
            }
            Method::Post => None,
            Method::Put | Method::Options => {
                return self.answer_web(id, &crate::http::site::not_allowed("GET, HEAD, POST"), now);
            }
        };
        if let Some((status, why)) = refused {
            return self.answer_web(id, &invitation::refusal(status, &host, why), now);
        }
        if head.method != Method::Post {
            let token = invitation::token(&head);
            return self.ask_clerk(id, from.ip, host, token, Err(None), now);
        }
        let mut out = Vec::new();
        if let Err(status) = guest.wire.take_content(FORM_BYTES_MAX, &mut out) {
            return self.answer_web(id, &invitation::refusal(status, &host, "This is too much."), now);
        }
        let stage = Stage::Filling(Box::new(head), Zeroizing::new(Vec::new()), from.ip);
        guest.visit = Some(Box::new(Visit { host, token: String::new(), wrong: None, stage }));
        self.write_web(id, out, now);
    }

    /// A piece of a form has come.
    pub(super) fn visit_piece(&mut self, id: ConnId, bytes: &[u8]) {
        let visit = self.web.guests.get_mut(&id).and_then(|guest| guest.visit.as_mut());
        let Some(Stage::Filling(_, content, _)) = visit.map(|visit| &mut visit.stage) else { return };
        // With its final capacity: growing would leave a copy of the password behind.
        if content.capacity() == 0 {
            content.reserve_exact(FORM_BYTES_MAX as usize);
        }
        content.extend_from_slice(bytes);
    }

    /// The form is complete.
    pub(super) fn visit_end(&mut self, id: ConnId, now: Now) {
        let visit = self.web.guests.get_mut(&id).and_then(|guest| guest.visit.take());
        let Some(Visit { host, stage: Stage::Filling(head, content, from), .. }) = visit.map(|visit| *visit) else {
            return;
        };
        match invitation::filled(&head, &content) {
            Ok(filled) => self.ask_clerk(id, from, host, filled.token, filled.entry.map_err(Some), now),
            Err((status, why)) => self.answer_web(id, &invitation::refusal(status, &host, why), now),
        }
    }

    /// Has the engine asked: what somebody wants, or for the form with what is to be mended in it.
    fn ask_clerk(
        &mut self,
        id: ConnId,
        from: IpAddr,
        host: String,
        token: String,
        entry: Result<Entry, Option<&'static str>>,
        now: Now,
    ) {
        let Some(client) = self.engine.accept_through_web(now, true, from) else {
            return self.answer_web(id, &invitation::page(&host, &token, &out_of_order()), now);
        };
        let wrong = entry.as_ref().err().copied().flatten();
        let clerk = Clerk::new(&host, &token, entry.ok());
        let hello = clerk.open();
        let stage = Stage::Asking(client, Box::new(clerk));
        if let Some(guest) = self.web.guests.get_mut(&id) {
            guest.visit = Some(Box::new(Visit { host, token, wrong, stage }));
        }
        self.web.clients.insert(client, id);
        self.engine.handle(now, Input::Bytes { conn: client, data: &hello });
    }

    /// The engine has said something to a clerk.
    pub(super) fn hear_clerk(&mut self, id: ConnId, bytes: &[u8], now: Now) {
        let Some(visit) = self.web.guests.get_mut(&id).and_then(|guest| guest.visit.as_mut()) else { return };
        let Stage::Asking(client, asking) = &mut visit.stage else { return };
        let client = *client;
        let mut out = Vec::new();
        let outcome = asking.hear(bytes, &mut out);
        let outcome = outcome.map(|outcome| match (outcome, visit.wrong) {
            (Outcome::Form { user }, Some(why)) => {
                Outcome::Refused { status: Status::BadRequest, why: why.to_string(), again: Some(user) }
            }
            (outcome, _) => outcome,
        });
        let page = outcome.map(|outcome| invitation::page(&visit.host, &visit.token, &outcome));
        self.engine.handle(now, Input::Wrote { conn: client, waiting_bytes: 0 });
        if !out.is_empty() {
            self.engine.handle(now, Input::Bytes { conn: client, data: &out });
        }
        let Some(page) = page else { return };
        self.leave_clerk(id, now);
        self.answer_web(id, &page, now);
        self.drive_web(id, now);
        self.tell_held(id, now);
        self.mark_dirty(id);
    }

    /// The engine has closed the clerk's stream before it has said what came of the visit.
    pub(super) fn end_clerk(&mut self, id: ConnId, now: Now) {
        let visit = self.web.guests.get_mut(&id).and_then(|guest| guest.visit.take());
        if let Some(visit) = visit {
            self.answer_web(id, &invitation::page(&visit.host, &visit.token, &out_of_order()), now);
            self.drive_web(id, now);
            self.tell_held(id, now);
            self.mark_dirty(id);
        }
    }

    /// The visit is over.
    pub(super) fn leave_clerk(&mut self, id: ConnId, now: Now) {
        let visit = self.web.guests.get_mut(&id).and_then(|guest| guest.visit.take());
        if let Some(client) = visit.and_then(|visit| visit.client())
            && self.web.clients.remove(&client).is_some()
        {
            self.engine.handle(now, Input::Closed { conn: client });
        }
    }
}

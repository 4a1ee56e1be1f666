//! Logging in with SASL2 (XEP-0388): what it stores, and the session that comes with it.
//!
//! A client is told of its login when what that changes is durable. A new token that cannot be stored is not given;
//! what the client relies on (keys that it has made, a token that it has ended, a count that no replay may repeat)
//! refuses the login.

use super::{ConnId, Engine, LOG};
use crate::core::fast::Use;
use crate::core::flight::Item;
use crate::core::session::SessionId;
use crate::jid::{self, Jid};
use crate::stanza::Condition;
use crate::storage::Ticket;
use crate::stream::management;
use crate::stream::sasl::{Failure, ScramKeys};
use crate::stream::{Admission, IssuedToken, StreamCx, StreamError};
use crate::xml::{Builder, Element, ElementRef, ns};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use std::mem;

/// A login that waits for the disk.
pub(super) struct Waiting {
    after: Ticket,
    conn: ConnId,
    token: Option<IssuedToken>,
    /// It fails when the batch does; otherwise it goes on without the token.
    must: bool,
}

/// Characters of a resource that is made of a client's id.
const STABLE_CHARS: usize = 16;

impl Engine {
    /// Bare address of whoever is logging in on a connection.
    fn account_of(&self, conn: ConnId, user: &str) -> Option<String> {
        Some(format!("{user}@{}", self.conns.get(conn.0)?.stream.host()?))
    }

    pub(super) fn need_tokens(&mut self, conn: ConnId, user: &str, client: &str) {
        let Some(bare) = self.account_of(conn, user) else { return };
        match self.core.fast_tokens(&bare, client) {
            Ok(tokens) => self.answer_login(conn, |c, cx| c.tokens(&tokens, cx)),
            Err(error) => {
                log::error!(target: LOG, "{error}");
                self.refuse_login(conn);
            }
        }
    }

    pub(super) fn refuse_login(&mut self, conn: ConnId) {
        self.answer_login(conn, |c, cx| c.refuse_login(Failure::TemporaryAuthFailure, cx));
    }

    /// Better keys have been made of a password (XEP-0480). Nobody waits for them.
    pub(super) fn better_keys(&mut self, conn: ConnId, user: &str, keys: ScramKeys) {
        let Some(bare) = self.account_of(conn, user) else { return };
        self.step("better keys", |core, _| {
            if let Err(error) = core.account_upgrade(&bare, keys) {
                log::error!(target: LOG, "{error}");
            }
        });
    }

    pub(super) fn admit(&mut self, conn: ConnId, admission: Admission) {
        let Admission { user, agent, keys, keys_promised, used, count, invalidate, request_token } = admission;
        let Some(bare) = self.account_of(conn, &user) else { return };
        if let Some(c) = self.conns.get(conn.0) {
            let [software, device] = [&agent.software, &agent.device].map(|t| t.as_deref().unwrap_or("unknown"));
            log::info!(target: LOG, "{bare} logs in from {} with {software:?} on {device:?}", c.peer);
        }
        let (mut token, mut failed) = (None, None);
        let ticket = self.step("a login", |core, _| {
            let store = || {
                if let Some(keys) = keys {
                    core.account_upgrade(&bare, keys)?;
                }
                if let Some(client) = &agent.id {
                    token = core.fast_use(&bare, client, Use { used, count, invalidate, request: request_token })?;
                }
                Ok(())
            };
            failed = store().err();
        });
        match (ticket, failed) {
            (None, _) => self.fail(conn, StreamError::InternalServerError, None),
            (Some(_), Some(error)) => {
                let error: crate::storage::StoreError = error;
                log::error!(target: LOG, "{error}");
                self.refuse_login(conn);
            }
            (Some(after), None) if after <= self.core.view.durable() => self.admitted(conn, token),
            (Some(after), None) => {
                let must = keys_promised || invalidate || (used.is_some() && count.is_some());
                self.logins.push(Waiting { after, conn, token, must });
            }
        }
    }

    fn admitted(&mut self, conn: ConnId, token: Option<IssuedToken>) {
        let settings = self.core.settings.clone();
        // It may have gone while it waited.
        let Some(c) = self.conns.get_mut(conn.0) else { return };
        c.stream.admitted(token, &settings.limits);
        self.logged_in(conn);
        self.again.push(conn);
    }

    /// What some logins wait for is durable.
    pub(super) fn logins_committed(&mut self) {
        let durable = self.core.view.durable();
        for login in self.logins.extract_if(.., |login| login.after <= durable).collect::<Vec<_>>() {
            self.admitted(login.conn, login.token);
        }
    }

    /// What some logins wait for is not stored.
    pub(super) fn logins_failed(&mut self) {
        for login in mem::take(&mut self.logins) {
            if login.must {
                self.refuse_login(login.conn);
                self.again.push(login.conn);
            } else {
                self.admitted(login.conn, None);
            }
        }
    }

    /// XEP-0386 section 3.2.
    pub(super) fn bind_inline(&mut self, conn: ConnId, request: &Element, client: Option<&str>) {
        let Some(c) = self.conns.get(conn.0) else { return };
        let (Some(host), Some(user)) = (c.stream.host(), c.stream.user()) else { return };
        let Ok(account) = Jid::from_parts(Some(user), host, None) else { return };
        let root = request.root();
        let own = match client {
            Some(id) => self.stable(&account, id),
            None => self.core.token(),
        };
        let tag = root.child(ns::BIND2, "tag").map(ElementRef::text).filter(|tag| !tag.is_empty());
        let tagged = tag.and_then(|tag| jid::prepare_resource(&format!("{tag}/{own}")).ok());
        if client.is_some() {
            self.end_earlier(&account, &own);
        }
        let (session, jid) = match self.new_session(conn, tagged.unwrap_or(own)) {
            Ok(bound) => bound,
            Err(Some(Condition::ResourceConstraint)) => {
                return self.fail(conn, StreamError::ResourceConstraint, Some("Too many sessions of this account."));
            }
            Err(Some(_)) => return self.fail(conn, StreamError::InternalServerError, None),
            Err(None) => return,
        };
        // What modules send to the session comes behind the news that there is one.
        let before = self.conns.get_mut(conn.0).map(|c| mem::take(&mut c.out)).unwrap_or_default();
        let mut b = Builder::new(ns::BIND2, "bound");
        self.step("a client that binds", |core, modules| modules.bind(core, session, root, &mut b));
        let mut bound = Vec::new();
        b.finish().root().write_content(&mut bound);
        let enabled = self.enable_inline(session, root, &mut bound);
        let features = self.features_of_login(jid.domain(), !enabled);
        let settings = self.core.settings.clone();
        let Some(c) = self.conns.get_mut(conn.0) else { return };
        let behind = mem::replace(&mut c.out, before);
        c.stream.bound_inline(&jid, &bound, &features, &settings.limits);
        c.out.push(Item::Raw(c.stream.take_output()));
        if enabled {
            c.out.push(Item::Enabled);
        }
        c.out.append(behind);
        self.dirty.insert(conn);
    }

    /// XEP-0198 section 9.1. True when stream management is on.
    fn enable_inline(&mut self, session: SessionId, request: ElementRef<'_>, bound: &mut Vec<u8>) -> bool {
        match request.child(ns::SM, "enable").and_then(management::read) {
            Some(Ok(management::Request::Enable { resume, max_s })) => {
                bound.extend(self.enable_session(session, resume, max_s));
                true
            }
            _ => false,
        }
    }

    /// What a client's resource ends with: the same each time, and nothing that its id could be read from.
    fn stable(&self, account: &Jid, client: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.secret);
        let mut context = hmac::Context::with_key(&key);
        for part in ["resource", account.as_str(), client] {
            context.update(part.as_bytes());
            context.update(&[0]);
        }
        let mut text = URL_SAFE_NO_PAD.encode(context.sign());
        text.truncate(STABLE_CHARS);
        text
    }

    /// A client is here once at a time.
    fn end_earlier(&mut self, account: &Jid, own: &str) {
        let is_own = |resource: &str| resource.rsplit('/').next() == Some(own);
        for old in self.core.sessions.of_where(account, |s| s.jid.resource().is_some_and(is_own)) {
            self.replace(old);
        }
    }

    fn answer_login(&mut self, conn: ConnId, answer: impl FnOnce(&mut crate::stream::C2s, &mut StreamCx<'_>)) {
        let settings = self.core.settings.clone();
        if let Some(c) = self.conns.get_mut(conn.0) {
            answer(&mut c.stream, &mut stream_cx!(self, settings));
        }
    }
}

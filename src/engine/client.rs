//! Client connections: what the stream machine asks, and what it hands on.

use super::{ConnId, Engine, HashOwner, Holder, LOG, Pause, Timer};
use crate::budget::Kind as Held;
use crate::core::flight::{Item, Receipt, Sender};
use crate::core::io::{Output, Role};
use crate::core::session::SessionId;
use crate::fault::{Fault, armed};
use crate::jid::Jid;
use crate::modules::SessionEvent;
use crate::pipeline;
use crate::stanza::{Condition, IqType, Kind, ReadError, Stanza, StanzaError};
use crate::stream::management;
use crate::stream::sasl::keys::fake_place;
use crate::stream::sasl::{Failure, HashJob, HashOutcome, HashResult, HashWork, Known, ScramKeys};
use crate::stream::{Event, StreamCx, StreamError};
use crate::xml::{Element, ns};
use zeroize::Zeroizing;

/// Borrows what the stream machine needs, from disjoint parts of the engine.
macro_rules! stream_cx {
    ($engine:ident, $settings:ident) => {
        StreamCx {
            hosts: &|domain: &str| $settings.hosts.iter().any(|h| h == domain),
            reader: &mut $engine.reader,
            limits: &$settings.limits,
            entropy: &mut *$engine.core.entropy,
            bind_features: &|host: &str| $engine.modules.bind_features(host),
            secret: &$engine.secret,
        }
    };
}

impl Engine {
    pub(super) fn bytes(&mut self, conn: ConnId, data: &[u8]) {
        #[cfg(feature = "compression")]
        if self.take_compressed(conn, data) {
            return self.drive(conn);
        }
        self.tick_bytes += data.len();
        match self.conns.get_mut(conn.0) {
            Some(c) if !c.ends => c.stream.feed(data),
            _ => return,
        }
        self.spend(conn, data.len());
        self.drive(conn);
    }

    /// Lets the machine work until it has nothing more or waits for an answer. Its output goes to the queue before the
    /// event that came with it is acted upon, so that order is that of time.
    pub(super) fn drive(&mut self, conn: ConnId) {
        if self.conns.get(conn.0).is_some_and(|c| c.pace.has(Pause::Tick)) {
            self.pause(conn, Pause::Tick, false);
        }
        for turn in 1.. {
            let settings = self.core.settings.clone();
            let Some(c) = self.conns.get_mut(conn.0) else { return };
            if c.ends {
                return;
            }
            let event = c.stream.next(&mut stream_cx!(self, settings));
            let output = c.stream.take_output();
            if !output.is_empty() {
                c.out.push(Item::Raw(output));
            }
            // Flushed in any case: what it holds may have changed, and so its charge.
            self.dirty.insert(conn);
            match event {
                #[cfg(feature = "compression")]
                None if self.inflate(conn) => {}
                None => return,
                Some(event) => self.event(conn, event),
            }
            if self.is_sated() || turn >= self.core.settings.limits.turn_stanzas_max {
                return self.put_off(conn);
            }
        }
    }

    fn event(&mut self, conn: ConnId, event: Event) {
        match event {
            Event::StartTls => {
                self.flush(conn);
                self.outputs.push_back(Output::StartTls { conn });
            }
            #[cfg(feature = "compression")]
            Event::Compress => self.compress(conn),
            Event::NeedKeys { .. } | Event::NeedTokens { .. } => self.log_in(conn, event),
            Event::Refused { user } => self.login_failed(conn, user.as_deref()),
            Event::Hash { password, work } => self.need_hash(conn, password, work),
            Event::Admit(admission) => self.admit(conn, *admission),
            Event::Authenticated { user, keys } => {
                self.logged_in(conn);
                if let Some(c) = self.conns.get(conn.0) {
                    log::info!(target: LOG, "{user}@{} logged in from {}", c.stream.host().unwrap_or_default(), c.peer);
                }
                if let Some(keys) = keys {
                    self.better_keys(conn, &user, *keys);
                }
            }
            Event::NeedFeatures => {
                let extra = self.features(conn);
                let settings = self.core.settings.clone();
                if let Some(c) = self.conns.get_mut(conn.0) {
                    c.stream.features(&extra, &mut stream_cx!(self, settings));
                }
            }
            Event::Ask(element) => self.stranger(conn, element),
            Event::Bind { resource } => self.bind(conn, resource),
            Event::BindInline { request, client } => self.bind_inline(conn, &request, client.as_deref()),
            Event::Resume { previd, h } => self.resume(conn, &previd, h),
            Event::Element(element) => self.element(conn, element),
            Event::Closed { error } => {
                if let Some(error) = error {
                    self.count_error(conn, error);
                }
                self.begin_end(conn);
            }
        }
    }

    /// Features beyond those of the stream itself, for a client that has logged in or could.
    fn features(&mut self, conn: ConnId) -> Vec<Element> {
        let Some(c) = self.conns.get(conn.0) else { return Vec::new() };
        if !c.stream.is_authenticated() {
            return self.modules.offers(&mut self.core, c.stream.host().unwrap_or_default());
        }
        self.features_of_login(c.stream.host().unwrap_or_default(), true)
    }

    /// The same for one that has logged in at a host; without stream management when that is on already.
    pub(super) fn features_of_login(&self, host: &str, manageable: bool) -> Vec<Element> {
        let mut features = self.modules.features(&self.core, host);
        features.extend(crate::core::roster::features());
        if manageable {
            features.push(Element::empty(ns::SM, "sm"));
        }
        features
    }

    pub(super) fn need_keys(&mut self, conn: ConnId, user: &str) {
        let Some(host) = self.conns.get(conn.0).and_then(|c| c.stream.host()) else { return };
        let bare = format!("{user}@{host}");
        // Looked at in any case, so that the work is the same.
        let place = fake_place(&self.secret, host, user);
        let like = self.core.account_behind(host, &place);
        let keys = self.core.account_keys(&bare).and_then(|keys| Ok(Known { keys, like: like? }));
        let settings = self.core.settings.clone();
        let Some(c) = self.conns.get_mut(conn.0) else { return };
        match keys {
            Ok(keys) => c.stream.keys(keys, &mut stream_cx!(self, settings)),
            Err(error) => {
                log::error!(target: LOG, "{error}");
                c.stream.refuse_login(Failure::TemporaryAuthFailure, &mut stream_cx!(self, settings));
            }
        }
    }

    fn need_hash(&mut self, conn: ConnId, password: Zeroizing<String>, work: HashWork) {
        if !self.hash(password, work, HashOwner::Login(conn)) {
            let settings = self.core.settings.clone();
            if let Some(c) = self.conns.get_mut(conn.0) {
                c.stream.refuse_login(Failure::TemporaryAuthFailure, &mut stream_cx!(self, settings));
            }
        }
    }

    /// Hands a password to the hashing thread. False when too many wait there.
    pub(super) fn hash(&mut self, password: Zeroizing<String>, work: HashWork, owner: HashOwner) -> bool {
        if self.hashing.len() >= self.core.settings.limits.hash_queue_max as usize {
            log::warn!(target: LOG, "limits.hash_queue_max is reached: a password check is refused");
            return false;
        }
        self.hash_ids += 1;
        self.hashing.push((self.hash_ids, owner));
        self.outputs.push_back(Output::Hash(HashJob { id: self.hash_ids, password, work }));
        true
    }

    pub(super) fn hashed(&mut self, result: HashResult) {
        let at = self.hashing.iter().position(|(id, _)| *id == result.id);
        let owner = at.map(|at| self.hashing.swap_remove(at).1);
        match (owner, result.outcome) {
            (Some(HashOwner::Login(conn)), HashOutcome::Verified(right)) => self.verified(conn, right, None),
            (Some(HashOwner::Login(conn)), HashOutcome::Upgraded(keys)) => self.verified(conn, true, Some(keys)),
            (Some(HashOwner::Account(pending)), HashOutcome::Derived { sha1, sha256 }) => {
                self.derived(*pending, sha1, sha256);
            }
            // A job answers what it was asked; its asker may be gone.
            (Some(_), _) | (None, _) => {}
        }
    }

    fn verified(&mut self, conn: ConnId, right: bool, keys: Option<ScramKeys>) {
        let settings = self.core.settings.clone();
        if let Some(c) = self.conns.get_mut(conn.0) {
            c.stream.verified(right, keys, &mut stream_cx!(self, settings));
        }
        self.drive(conn);
    }

    fn bind(&mut self, conn: ConnId, resource: Option<String>) {
        let resource = resource.unwrap_or_else(|| crate::clock::token(&mut *self.core.entropy));
        match self.new_session(conn, resource) {
            Ok((_, jid)) => {
                if let Some(c) = self.conns.get_mut(conn.0) {
                    c.stream.bound(&jid);
                }
            }
            Err(Some(condition)) => self.refuse_bind(conn, condition),
            Err(None) => {}
        }
    }

    /// RFC 6120 section 7. A resource that is taken goes to the newcomer, and the old session is told of the conflict
    /// (section 7.7.2.2, case 3, as Prosody does): its connection is most often dead already. The error is for the
    /// client, or none where its stream has ended.
    pub(super) fn new_session(
        &mut self,
        conn: ConnId,
        resource: String,
    ) -> Result<(SessionId, Jid), Option<Condition>> {
        let c = self.conns.get(conn.0).ok_or(None)?;
        let (host, user) = (c.stream.host().ok_or(None)?, c.stream.user().ok_or(None)?);
        let jid = Jid::from_parts(Some(user), host, Some(&resource)).map_err(|_| Some(Condition::BadRequest))?;
        match self.core.account_exists(&jid) {
            Ok(true) => {}
            // Deleted between login and now.
            Ok(false) => {
                self.fail(conn, StreamError::NotAuthorized, Some("The account is gone."));
                return Err(None);
            }
            Err(error) => {
                log::error!(target: LOG, "{error}");
                return Err(Some(Condition::InternalServerError));
            }
        }
        if let Some(old) = self.core.sessions.find(&jid) {
            self.replace(old);
        } else if self.core.sessions.of(&jid).len() >= self.core.settings.limits.resources_max as usize {
            // Whoever is here goes before whoever may come back.
            let parked = self.oldest_parked(&jid, 0).ok_or(Some(Condition::ResourceConstraint))?;
            self.end_session(parked);
        }
        let session = self.core.sessions.add(jid.clone(), conn);
        if let Some(c) = self.conns.get_mut(conn.0) {
            c.session = Some(session);
            c.deadline_ms = None;
        }
        Ok((session, jid))
    }

    /// Ends a session in whose place another comes.
    pub(super) fn replace(&mut self, old: SessionId) {
        let conn = self.core.sessions.get(old).and_then(|s| s.conn);
        self.end_session(old);
        if let Some(conn) = conn {
            self.fail(conn, StreamError::Conflict, Some("Replaced by a new session."));
        }
    }

    fn refuse_bind(&mut self, conn: ConnId, condition: Condition) {
        let error = StanzaError::from(condition);
        // XEP-0205 section 5.4.
        let error = match condition {
            Condition::ResourceConstraint => error.with_application(ns::ERRORS, "resource-limit-exceeded"),
            _ => error,
        };
        if let Some(c) = self.conns.get_mut(conn.0) {
            c.stream.refuse_bind(&error);
        }
    }

    /// A first-level element of a client that is logged in.
    fn element(&mut self, conn: ConnId, element: Element) {
        let Some(c) = self.conns.get(conn.0) else { return };
        let Some(session) = c.session else {
            return self.fail(conn, StreamError::UnsupportedStanzaType, None);
        };
        if let Some(request) = management::read(element.root()) {
            return self.manage(conn, session, request);
        }
        if element.root().ns() != ns::CLIENT {
            return self.nonza(conn, session, &element);
        }
        let lang = c.stream.lang().cloned();
        let Some(jid) = self.core.sessions.get(session).map(|s| s.jid.clone()) else { return };
        let (stanza, refused) = match Stanza::read(element) {
            Ok(stanza) => (stanza, None),
            Err(ReadError::Refused { stanza, condition }) => (*stanza, Some(condition)),
            Err(ReadError::NotAStanza) => return self.fail(conn, StreamError::UnsupportedStanzaType, None),
            Err(ReadError::InvalidFrom) => return self.fail(conn, StreamError::InvalidFrom, None),
        };
        // RFC 6120 section 8.1.2.1: the full or bare address of the session, or none.
        let forged = |from: &Jid| *from != jid && from.as_str() != jid.bare_str() && !armed(Fault::SenderBelieved);
        if stanza.from.as_ref().is_some_and(forged) {
            return self.fail(conn, StreamError::InvalidFrom, None);
        }
        let lang = stanza.lang.clone().or(lang);
        let jid = stanza.from.clone().filter(|_| armed(Fault::SenderBelieved)).unwrap_or(jid);
        let stanza = Stanza { from: Some(jid), lang, ..stanza };
        let number = self.managed.get_mut(&session).map(|managed| managed.inbound.count());
        let receipt = number.map(|number| Receipt { sender: Sender::Session(session), number });
        if let (Kind::Iq(IqType::Result | IqType::Error), Some(id), Some(_)) = (stanza.kind, &stanza.id, number)
            && let Some(c) = self.conns.get_mut(conn.0)
        {
            c.out.answered(stanza.to.as_ref(), id);
        }
        let (original, durable) = (stanza.clone(), self.core.view.durable());
        let sound = self.step("a stanza", |core, modules| match refused {
            None => pipeline::from_session(core, modules, session, stanza, receipt),
            Some(condition) => core.refuse(&stanza, &condition.into()),
        });
        if let Some(ask) = self.core.ask.take() {
            return self.session_asks(session, original, number, ask);
        }
        #[cfg(feature = "mam")]
        if let Some(number) = number.filter(|_| original.kind == Kind::Iq(IqType::Set)) {
            self.archive_owe(session, &original, number);
        }
        match sound {
            None => {
                if let Some(managed) = self.managed.get_mut(&session) {
                    managed.inbound.uncount();
                }
                self.fail(conn, StreamError::InternalServerError, None);
            }
            // What only passed has gone already; an answer of ours waits for all that it has read.
            Some(ticket)
                if ticket > durable
                    && (self.core.view.wrote() || self.answered.contains(&Holder::Session(session))) =>
            {
                self.unproven.push_back((ticket, Sender::Session(session), original.outline()));
                if let (Some(number), Some(managed)) = (number, self.managed.get_mut(&session)) {
                    managed.inbound.wait(number, ticket);
                }
            }
            Some(_) => {}
        }
        self.progress(Sender::Session(session));
        if self.core.view.wrote() {
            self.wait_for_disk(conn);
        }
    }

    /// A first-level element that is no stanza, such as a client state indication (XEP-0352): modules read it.
    fn nonza(&mut self, conn: ConnId, session: SessionId, element: &Element) {
        let mut is_known = false;
        let sound = self.step("an element that is no stanza", |core, modules| {
            is_known = modules.nonza(core, session, element.root());
        });
        if sound.is_none() {
            return self.fail(conn, StreamError::InternalServerError, None);
        }
        if !is_known {
            return self.fail(conn, StreamError::UnsupportedStanzaType, None);
        }
        let is_active = self.core.sessions.get(session).is_some_and(|s| !s.inactive);
        if let Some(c) = self.conns.get_mut(conn.0).filter(|_| is_active) {
            c.out.release(self.core.view.durable());
            self.dirty.insert(conn);
        }
    }

    /// Ends a stream with an error; what waits in its queue still leaves.
    pub(super) fn fail(&mut self, conn: ConnId, error: StreamError, text: Option<&str>) {
        let Some(c) = self.conns.get_mut(conn.0) else { return };
        if c.ends {
            return;
        }
        c.stream.fail(error, text, &mut *self.core.entropy);
        let output = c.stream.take_output();
        c.out.push(Item::Raw(output));
        self.count_error(conn, error);
        self.begin_end(conn);
    }

    pub(super) fn count_error(&mut self, conn: ConnId, error: StreamError) {
        self.core.counters.stream_errors = self.core.counters.stream_errors.wrapping_add(1);
        if let Some(c) = self.conns.get(conn.0) {
            let session = c.session.and_then(|id| self.core.sessions.get(id));
            let who = session.map_or_else(|| "a stranger".to_string(), |s| s.jid.to_string());
            log::info!(target: LOG, "stream of {who} from {} closed with {}", c.peer, error.condition());
        }
    }

    /// Nothing more is read; the session ends now, the connection when its queue is written.
    pub(super) fn begin_end(&mut self, conn: ConnId) {
        let Some(c) = self.conns.get_mut(conn.0) else { return };
        c.ends = true;
        let deadline_ms = self.core.now.mono_ms + u64::from(self.core.settings.limits.close_timeout_s) * 1000;
        c.deadline_ms = Some(deadline_ms);
        let (session, resuming) = (c.session, c.resuming.take());
        self.timers.insert((deadline_ms, Timer::Conn(conn)), ());
        self.dirty.insert(conn);
        if let Some(session) = session {
            self.end_session(session);
        }
        if let Some(session) = resuming {
            self.resume_given_up(session);
        }
    }

    /// The connection is no more.
    pub(super) fn end_conn(&mut self, conn: ConnId) {
        self.pace_end(conn);
        if let Some(session) = self.conns.get(conn.0).and_then(|c| c.session) {
            self.end_session(session);
        }
        let Some(mut c) = self.conns.remove(conn.0) else { return };
        if !armed(Fault::ChargeKept) {
            self.budget.settle(Held::Connections, &mut c.charge, 0);
        }
        self.budget.settle(Held::Sockets, &mut c.socket, 0);
        if let Some(at) = c.deadline_ms {
            self.timers.remove(&(at, Timer::Conn(conn)));
        }
        #[cfg(feature = "compression")]
        self.codecs.remove(&conn);
        self.dirty.remove(&conn);
        self.visits.remove(&conn);
        self.login_end(conn);
        self.leave(Role::Client, c.peer);
        if let Some(session) = c.resuming {
            self.resume_given_up(session);
        }
        // What the socket has not taken, of a session without stream management: it goes elsewhere only if somebody has
        // been promised that.
        let durable = self.core.view.durable();
        let mut left = c.out.into_parcels();
        left.retain(|parcel| parcel.owed(durable).is_some() || parcel.row().is_some());
        self.forsake(left);
    }

    /// The session is no more: contacts and modules hear of it, and what has not arrived goes elsewhere. Without stream
    /// management what waits is still written.
    pub(super) fn end_session(&mut self, id: SessionId) {
        let Some(session) = self.core.sessions.get(id) else { return };
        let (jid, conn, resume_id) = (session.jid.clone(), session.conn, session.resume_id.clone());
        let mut left = self.load_all(id);
        self.step("the end of a session", |core, modules| {
            let told = core.presence_end(id);
            let heard = modules.session(core, id, SessionEvent::Closed);
            for error in [told.err(), heard.err()].into_iter().flatten() {
                log::error!(target: LOG, "the end of a session was not told: {}", error.condition.as_str());
            }
            if conn.is_none() {
                core.parked_delete(&jid);
            }
        });
        if let Some(c) = conn.and_then(|conn| self.conns.get_mut(conn.0)) {
            c.session = None;
            if self.managed.contains_key(&id) {
                left = c.out.take_stanzas();
            }
        }
        if let Some(mut session) = self.core.sessions.remove(id) {
            self.budget.settle(Held::Sessions, &mut session.charge, 0);
        }
        self.managed_end(id, &jid, resume_id, left);
        if self.core.sessions.of(&jid).is_empty() {
            self.core.view.forget_owner(jid.bare_str());
        }
    }
}

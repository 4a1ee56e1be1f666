//! Accounts from their users' side: registration before a login, other passwords, deletion.
//!
//! What needs the hashing thread comes here as an [`Ask`] of the handler that has read the request, and is answered
//! when the keys are on the disk.

use super::admin::Door;
use super::{ConnId, Engine, HashOwner, LOG, Timer};
use crate::core::flight::{InFlight, Item, Parcel, Sender};
use crate::core::register::{Ask, NewPassword, Newcomer, Purpose, Stranger};
use crate::core::session::SessionId;
use crate::core::{Answer, Core};
use crate::jid::Jid;
use crate::modules::Modules;
use crate::stanza::{Condition, IqType, Kind, ReadError, Stanza, StanzaError};
use crate::storage::Ticket;
use crate::stream::StreamError;
use crate::stream::sasl::{HashWork, ScramKeys};
use crate::xml::Element;
use std::net::IpAddr;

/// Who wants something, and is told what came of it.
#[derive(Debug)]
pub(super) enum Asker {
    /// An operator, or an administrator.
    Operator(Door),
    /// A session of the account itself, with its request and that one's number in stream management.
    Session(SessionId, Stanza, Option<u64>),
    /// Somebody who has not logged in.
    Stranger(ConnId, Stanza, IpAddr),
}

/// A password that is being hashed.
pub(super) struct Pending {
    new: Wanted,
    asker: Asker,
}

/// What it is for.
struct Wanted {
    account: Jid,
    purpose: Purpose,
    token: Option<String>,
    /// From where a stranger asks.
    peer: Option<IpAddr>,
}

/// What came of it: what promises of it wait for, none after a bug of ours.
pub(super) type Stored = Result<Option<Ticket>, StanzaError>;

impl Engine {
    /// A request about registration of somebody who has not logged in.
    pub(super) fn stranger(&mut self, conn: ConnId, element: Element) {
        let Some(c) = self.conns.get(conn.0) else { return };
        let (peer, Some(Ok(host))) = (c.peer, c.stream.host().map(Jid::parse)) else { return };
        let (stanza, refused) = match Stanza::read(element) {
            Ok(stanza) => (stanza, None),
            Err(ReadError::Refused { stanza, condition }) => (*stanza, Some(condition)),
            Err(ReadError::NotAStanza) => return self.fail(conn, StreamError::UnsupportedStanzaType, None),
            Err(ReadError::InvalidFrom) => return self.fail(conn, StreamError::InvalidFrom, None),
        };
        if stanza.to.as_ref().is_some_and(|to| *to != host) {
            return self.fail(conn, StreamError::NotAuthorized, None);
        }
        // He has no address yet, whatever he says.
        let stanza = Stanza { from: None, to: Some(host.clone()), ..stanza };
        let mut visit = self.visits.remove(&conn).unwrap_or_default();
        let had_form = visit.has_form;
        let mut answer = Err(Condition::InternalServerError.into());
        self.step("a request of a stranger", |core, modules| {
            answer = match (refused, stanza.request()) {
                (None, Some(child)) => {
                    let is_set = matches!(stanza.kind, Kind::Iq(IqType::Set));
                    let request = Stranger { stanza: &stanza, child, host: &host, peer, is_set };
                    modules.stranger(core, &request, &mut visit)
                }
                (refused, _) => Err(refused.unwrap_or(Condition::BadRequest).into()),
            };
        });
        if visit.has_form && !had_form {
            // A form to fill in takes longer than a login.
            self.wait_longer(conn, self.core.settings.limits.register_timeout_s);
        }
        self.visits.insert(conn, visit);
        match (answer, self.core.ask.take()) {
            (Ok(Answer::Result(element)), _) => {
                self.tell_stranger(conn, &stanza.result(|b| b.copy(element.root())));
            }
            (Ok(Answer::Later), Some(Ask::Password(new))) => {
                if let Err(error) = self.hash_new(new, Asker::Stranger(conn, stanza.clone(), peer)) {
                    self.refuse_stranger(conn, &stanza, &error);
                }
            }
            (Ok(Answer::Empty), _) => self.tell_stranger(conn, &stanza.result(|_| {})),
            (Ok(_), _) => self.refuse_stranger(conn, &stanza, &Condition::ServiceUnavailable.into()),
            (Err(error), _) => self.refuse_stranger(conn, &stanza, &error),
        }
    }

    /// Gives a connection that many seconds from now to log in.
    pub(super) fn wait_longer(&mut self, conn: ConnId, seconds: u32) {
        let Some(c) = self.conns.get_mut(conn.0) else { return };
        if let Some(at) = c.deadline_ms {
            self.timers.remove(&(at, Timer::Conn(conn)));
        }
        let at = self.core.now.mono_ms + u64::from(seconds) * 1000;
        c.deadline_ms = Some(at);
        self.timers.insert((at, Timer::Conn(conn)), ());
    }

    fn tell_stranger(&mut self, conn: ConnId, answer: &Stanza) {
        if let Some(c) = self.conns.get_mut(conn.0) {
            c.stream.asked(answer);
            self.again.push(conn);
        }
    }

    fn refuse_stranger(&mut self, conn: ConnId, request: &Stanza, error: &StanzaError) {
        if let Some(answer) = request.error(error) {
            self.tell_stranger(conn, &answer);
        }
    }

    /// What a request of a session leads to.
    pub(super) fn session_asks(&mut self, session: SessionId, request: Stanza, number: Option<u64>, ask: Ask) {
        match ask {
            Ask::Password(new) => {
                let asker = Asker::Session(session, request.clone(), number);
                match self.hash_new(new, asker) {
                    // It is not safe before it is stored.
                    Ok(()) => {
                        if let (Some(number), Some(managed)) = (number, self.managed.get_mut(&session)) {
                            managed.inbound.owe(number);
                        }
                    }
                    Err(error) => _ = self.step("a refusal", |core, _| core.refuse(&request, &error)),
                }
                self.progress(Sender::Session(session));
            }
            Ask::Delete => self.delete_own(session, &request),
            #[cfg(feature = "commands")]
            Ask::Administer(act, run) => {
                self.administer(super::commands::Errand { session, request, number, run }, act)
            }
        }
    }

    /// Hands a new password to the hashing thread.
    ///
    /// # Errors
    /// `resource-constraint` when too many wait there.
    pub(super) fn hash_new(&mut self, new: NewPassword, asker: Asker) -> Result<(), StanzaError> {
        let NewPassword { account, password, purpose, token } = new;
        let mut salt = vec![0; 16];
        self.core.entropy.fill(&mut salt);
        let work = HashWork::Derive { salt, iterations: self.core.settings.iterations };
        let peer = if let Asker::Stranger(_, _, peer) = &asker { Some(*peer) } else { None };
        let pending = Box::new(Pending { new: Wanted { account, purpose, token, peer }, asker });
        if self.hash(password, work, HashOwner::Account(pending)) {
            return Ok(());
        }
        Err(Condition::ResourceConstraint.because("Too many passwords are being checked; try again."))
    }

    /// The keys of a new password are there.
    pub(super) fn derived(&mut self, pending: Pending, sha1: ScramKeys, sha256: ScramKeys) {
        let Pending { new, asker } = pending;
        let is_here = match &asker {
            Asker::Operator(Door::Socket(_)) => true,
            #[cfg(feature = "commands")]
            Asker::Operator(Door::Client(errand)) => self.core.sessions.get(errand.session).is_some(),
            Asker::Session(id, ..) => self.core.sessions.get(*id).is_some(),
            Asker::Stranger(conn, ..) => self.conns.get(conn.0).is_some_and(|c| !c.ends),
        };
        // Who cannot be told does not get what he could not know of.
        if !is_here {
            return;
        }
        let mut stored = Ok(());
        let ticket = self.step("a new password", |core, modules| {
            stored = store(core, modules, &new, (sha1, sha256));
            if stored.is_err() {
                core.view.drop_scratch();
                core.queue.clear();
            }
            if let Asker::Session(_, request, _) = &asker {
                match &stored {
                    Ok(()) => core.queue.push_front(InFlight::answer(request.result(|_| {}))),
                    Err(error) => core.refuse(request, error),
                }
            }
        });
        let Wanted { account, purpose, .. } = new;
        let done = stored.is_ok() && ticket.is_some();
        if done && purpose == Purpose::Change {
            log::info!(target: LOG, "{account} has another password");
            let own = match &asker {
                Asker::Session(id, ..) => Some(*id),
                // Whoever changes his own this way, too.
                #[cfg(feature = "commands")]
                Asker::Operator(Door::Client(errand)) => Some(errand.session),
                Asker::Operator(Door::Socket(_)) | Asker::Stranger(..) => None,
            };
            self.close_sessions(&account, own, StreamError::Reset, "The password has been changed.");
        }
        match asker {
            Asker::Operator(door) => self.reply_stored(&door, &account, purpose, stored.map(|()| ticket)),
            Asker::Session(session, request, number) => {
                if let (Some(number), Some(managed)) = (number, self.managed.get_mut(&session)) {
                    managed.inbound.wait(number, ticket.filter(|_| done).unwrap_or(Ticket(0)));
                    managed.inbound.settle(number);
                }
                if let Some(ticket) = ticket.filter(|ticket| done && *ticket > self.core.view.durable()) {
                    self.unproven.push_back((ticket, Sender::Session(session), request.outline()));
                }
                self.progress(Sender::Session(session));
            }
            Asker::Stranger(conn, request, peer) => match (stored, ticket) {
                (Ok(()), Some(ticket)) => {
                    if purpose == Purpose::Register {
                        log::info!(target: LOG, "{account} was registered from {peer}");
                    }
                    self.registering.push((ticket, conn, request));
                    self.registered(self.core.view.durable());
                }
                (Ok(()), None) => self.refuse_stranger(conn, &request, &Condition::InternalServerError.into()),
                (Err(error), _) => self.refuse_stranger(conn, &request, &error),
            },
        }
    }

    /// What strangers have asked for is on the disk.
    pub(super) fn registered(&mut self, durable: Ticket) {
        let (ready, waiting) = std::mem::take(&mut self.registering).into_iter().partition(|r| r.0 <= durable);
        self.registering = waiting;
        for (_, conn, request) in ready {
            if let Some(visit) = self.visits.get_mut(&conn) {
                visit.has_registered = true;
            }
            self.tell_stranger(conn, &request.result(|_| {}));
        }
    }

    /// It is not, and will not be.
    pub(super) fn registering_failed(&mut self, error: &StanzaError) {
        for (_, conn, request) in std::mem::take(&mut self.registering) {
            self.refuse_stranger(conn, &request, error);
        }
    }

    /// Closes all sessions of an account but one.
    pub(super) fn close_sessions(&mut self, account: &Jid, but: Option<SessionId>, error: StreamError, text: &str) {
        for session in self.core.sessions.of(account).to_vec() {
            if Some(session) == but {
                continue;
            }
            match self.core.sessions.get(session).and_then(|s| s.conn) {
                Some(conn) => self.fail(conn, error, Some(text)),
                None => self.end_session(session),
            }
        }
    }

    /// Deletes an account whose sessions are closed, with all that is stored of it.
    pub(super) fn delete_account(&mut self, account: &Jid) -> Stored {
        let mut deleted = Ok(());
        let ticket = self.step("the deletion of an account", |core, modules| {
            if modules.account_deleted(core, account).is_err() {
                log::error!(target: LOG, "a module could not say good-bye for {account}");
            }
            deleted = delete(core, account);
            if deleted.is_err() {
                core.view.drop_scratch();
                core.queue.clear();
            }
        });
        deleted.map(|()| ticket)
    }

    /// XEP-0077 section 3.2: the answer, then `not-authorized` for every session of the account.
    fn delete_own(&mut self, session: SessionId, request: &Stanza) {
        let Some((jid, conn)) = self.core.sessions.get(session).map(|s| (s.jid.clone(), s.conn)) else { return };
        let account = jid.bare();
        self.close_sessions(&account, Some(session), StreamError::NotAuthorized, "The account has been deleted.");
        // What is queued for this one leaves with it, the answer last.
        self.managed.remove(&session);
        self.end_session(session);
        let (answer, after) = match self.delete_account(&account) {
            Ok(Some(ticket)) => {
                log::info!(target: LOG, "{account} was deleted by its owner");
                (Some(request.result(|_| {})), ticket)
            }
            Ok(None) => (request.error(&Condition::InternalServerError.into()), Ticket(0)),
            Err(error) => (request.error(&error), Ticket(0)),
        };
        let Some((conn, answer)) = conn.zip(answer) else { return };
        let is_deleted = matches!(answer.kind, Kind::Iq(IqType::Result));
        if let Some(c) = self.conns.get_mut(conn.0) {
            let tail = Some(answer.tail());
            let Stanza { kind, to, from, .. } = answer;
            let parcel = Parcel { kind, to, from, tail, after, is_copy: false, read_ms: 0, keep: None };
            c.out.push(Item::Stanza(Box::new(parcel)));
        }
        match is_deleted {
            true => self.fail(conn, StreamError::NotAuthorized, Some("The account has been deleted.")),
            false => self.fail(conn, StreamError::InternalServerError, None),
        }
    }
}

/// Stores an account's keys, with what an invitation adds.
fn store(
    core: &mut Core,
    modules: &mut Modules,
    new: &Wanted,
    (sha1, sha256): (ScramKeys, ScramKeys),
) -> Result<(), StanzaError> {
    let Wanted { account, purpose, token, peer } = new;
    match (purpose, core.account_exists(account)?) {
        (Purpose::Register, true) => return Err(Condition::Conflict.because("The username is taken.")),
        (Purpose::Change, false) => return Err(Condition::ItemNotFound.because("The account is gone.")),
        (Purpose::Register, false) | (Purpose::Change, true) => {}
    }
    core.may_write()?;
    core.account_put(account, sha1, sha256)?;
    if let Some(token) = token {
        core.invite_redeem(account, token)?;
    }
    match (purpose, peer) {
        (Purpose::Change, _) => modules.password_changed(core, account),
        (Purpose::Register, Some(peer)) => {
            modules.registered(core, &Newcomer { account: account.clone(), peer: *peer })
        }
        (Purpose::Register, None) => Ok(()),
    }
}

/// Takes leave of an account's contacts and deletes it.
fn delete(core: &mut Core, account: &Jid) -> Result<(), StanzaError> {
    for (contact, item) in core.roster(account.bare_str())? {
        core.roster_end(account, &contact, &item);
    }
    Ok(core.account_delete(account)?)
}

//! What administrators want by commands of their clients (XEP-0133): done as for an operator, answered when it is
//! stored.

use super::admin::Door;
use super::{Engine, LOG, Timer};
use crate::core::admin::{OK, Reply};
use crate::core::commands::{Act, Run};
use crate::core::flight::{InFlight, Sender};
use crate::core::session::SessionId;
use crate::jid::Jid;
use crate::stanza::Stanza;
use crate::storage::Ticket;
use crate::stream::StreamError;

/// A command of a client that waits for its answer.
#[derive(Clone, Debug)]
pub(super) struct Errand {
    pub(super) session: SessionId,
    pub(super) request: Stanza,
    /// The request's number in stream management.
    pub(super) number: Option<u64>,
    pub(super) run: Run,
}

impl Engine {
    /// Does what an administrator wants.
    pub(super) fn administer(&mut self, errand: Errand, act: Act) {
        // It is not safe before it is done.
        if let (Some(number), Some(managed)) = (errand.number, self.managed.get_mut(&errand.session)) {
            managed.inbound.owe(number);
        }
        // A form may have a password in it, which is in the act by now.
        let errand = Box::new(Errand { request: errand.request.header(), ..errand });
        match act {
            Act::Operator(command) => self.admin(&Door::Client(errand), command),
            Act::EndSessions(jids) => self.end_sessions(&errand, &jids),
            Act::Stop { again, delay_s } => self.stop_in(&errand, again, delay_s),
        }
    }

    /// Answers the command.
    pub(super) fn report(&mut self, errand: &Errand, reply: &Reply) {
        let kind = if reply.code == OK { "info" } else { "error" };
        let note = errand.run.noted(kind, &reply.text);
        let answer = errand.request.result(|b| b.copy(note.root()));
        self.step("the answer to a command", |core, _| core.send(InFlight::answer(answer)));
        if let (Some(number), Some(managed)) = (errand.number, self.managed.get_mut(&errand.session)) {
            managed.inbound.wait(number, Ticket(0));
            managed.inbound.settle(number);
        }
        self.progress(Sender::Session(errand.session));
    }

    /// XEP-0133 section 4.5: of a bare address all sessions, of a full one that.
    fn end_sessions(&mut self, errand: &Errand, jids: &[Jid]) {
        let mut sessions = Vec::new();
        for jid in jids {
            match jid.is_bare() {
                true => sessions.extend_from_slice(self.core.sessions.of(jid)),
                false => sessions.extend(self.core.sessions.find(jid)),
            }
        }
        sessions.sort_unstable();
        sessions.dedup();
        // Before the asker's own may end.
        self.report(errand, &Reply::ok(format!("{} sessions ended", sessions.len())));
        for session in sessions {
            match self.core.sessions.get(session).map(|session| session.conn) {
                Some(Some(conn)) => {
                    self.fail(conn, StreamError::PolicyViolation, Some("An administrator has ended the session."));
                }
                Some(None) => self.end_session(session),
                None => {}
            }
        }
    }

    /// Sections 4.30 and 4.31. The last who says when is right.
    fn stop_in(&mut self, errand: &Errand, again: bool, delay_s: u32) {
        self.timers.retain(|(_, timer), ()| !matches!(timer, Timer::Stop(_)));
        let what = if again { "restarts" } else { "stops" };
        let text = format!("the server {what} in {delay_s} s");
        log::warn!(target: LOG, "{text}");
        self.report(errand, &Reply::ok(text));
        self.timers.insert((self.core.now.mono_ms + u64::from(delay_s) * 1000, Timer::Stop(again)), ());
    }
}

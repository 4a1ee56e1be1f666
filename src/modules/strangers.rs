//! Strangers: who is not in the roster of an account, and has not been spoken to, can be kept from writing to it,
//! asking its clients, and asking for subscriptions too often. What is refused is archived, copied and stored nowhere.
//!
//! No strangers are the account itself, this server, its rooms, services and components, other accounts of it (unless
//! `local` says otherwise), whom `allow` names, all of a server that is itself in the roster (a gateway), rooms that a
//! session has entered, whoever else got directed presence of one, and whom a session has written to. Errors and
//! answers pass: somebody has asked for them. An invitation to a room (XEP-0045 section 7.8.2) is judged by who
//! invites.

use super::{Module, SessionEvent, Xep};
use crate::core::Core;
use crate::core::flat::Flat;
use crate::core::flight::{Dest, Flow, InFlight};
use crate::core::rates::Hourly;
use crate::core::session::SessionId;
use crate::jid::Jid;
use crate::setting::{section, words};
use crate::stanza::{Condition, IqType, Kind, MessageType, PresenceType, Stanza, StanzaError};
use crate::storage::StoreError;
use crate::xml::ns;
use std::collections::{BTreeMap, VecDeque};

const LOG: &str = "couplet::strangers";

section! {
    /// What strangers may do who write to an account: those who are not in its roster and have not been spoken to.
    /// Nothing is refused unless it is said here.
    pub struct Config in "modules.strangers" {
        /// Their messages: "pass", "bounce" (they are told) or "drop".
        pub messages: Treatment = Treatment::Pass,
        /// Requests to a client: false answers them as if it were not there. Requests to accounts, such as for vCards,
        /// have rules of their own.
        pub requests: bool = true,
        /// Subscription requests that one account gets from strangers in an hour; more are dropped. 0 is any number.
        pub subscriptions_per_hour: u32 = 0,
        /// Other accounts of this server are no strangers.
        pub local: bool = true,
        /// Nor are these: addresses, or domains with all of their users.
        pub allow: Vec<String> = Vec::new() => |all: &Vec<String>| check(all),
        /// What is refused gets a line in the log: who and whom, and not what.
        pub log: bool = true,
    }
}

words! {
    /// What becomes of a message.
    pub enum Treatment {
        /// It goes on.
        Pass = "pass",
        /// It goes back.
        Bounce = "bounce",
        /// It goes nowhere.
        Drop = "drop",
    }
}

fn check(all: &[String]) -> Result<(), String> {
    match all.iter().find(|one| !Jid::parse(one).is_ok_and(|jid| jid.is_bare())) {
        None => Ok(()),
        Some(one) => {
            Err(format!("\"{one}\" is no address; write for example \"romeo@example.org\" or \"example.org\""))
        }
    }
}

/// The module.
pub struct Strangers {
    config: Config,
    /// Prepared.
    allow: Vec<Jid>,
    /// Whom sessions have written to: bare addresses, the newest last.
    spoken: Flat<SessionId, VecDeque<Jid>>,
    /// Subscription requests that accounts have got.
    asked: BTreeMap<Jid, Hourly>,
    held_bytes: usize,
}

/// What an address costs in a queue of them.
fn cost(jid: &Jid) -> usize {
    size_of::<Jid>() + jid.heap_bytes()
}

/// What an account costs among those that were asked, its share of a node that may be half empty with it.
fn cost_of_asked(jid: &Jid) -> usize {
    2 * (cost(jid) + size_of::<Hourly>())
}

impl Module for Strangers {
    const XEPS: &'static [Xep] = &[];
    type Config = Config;

    fn new(config: Config) -> Self {
        let allow = prepared(&config);
        Self { config, allow, spoken: Flat::default(), asked: BTreeMap::new(), held_bytes: 0 }
    }

    fn reconfigure(&mut self, config: Config) {
        self.allow = prepared(&config);
        self.config = config;
    }

    /// Remembers whom a session writes to.
    fn filter_out(&mut self, core: &mut Core, flight: &mut InFlight) -> Result<Flow, StanzaError> {
        if self.config.messages == Treatment::Pass && self.config.requests {
            return Ok(Flow::Pass);
        }
        let (Some(session), Some(from), Some(to)) = (flight.origin, &flight.stanza.from, &flight.stanza.to) else {
            return Ok(Flow::Pass);
        };
        let is_said = match flight.stanza.kind {
            Kind::Message(typ) => !matches!(typ, MessageType::Error | MessageType::Groupchat),
            Kind::Iq(_) | Kind::Presence(_) => false,
        };
        if is_said && !from.same_bare(to) && !self.is_known(core, from, to)? {
            self.remember(core, session, to.bare());
        }
        Ok(Flow::Pass)
    }

    fn filter_in(&mut self, core: &mut Core, flight: &mut InFlight) -> Result<Flow, StanzaError> {
        // What was stored has been let in.
        let is_new = flight.dest == Dest::Address;
        let (true, Some(from), Some(to)) = (is_new, &flight.stanza.from, &flight.stanza.to) else {
            return Ok(Flow::Pass);
        };
        let is_looked_at = match flight.stanza.kind {
            Kind::Message(typ) => self.config.messages != Treatment::Pass && typ != MessageType::Error,
            Kind::Iq(IqType::Get | IqType::Set) => !self.config.requests && !to.is_bare(),
            Kind::Presence(PresenceType::Subscribe) => self.config.subscriptions_per_hour > 0,
            Kind::Iq(_) | Kind::Presence(_) => false,
        };
        if !is_looked_at {
            return Ok(Flow::Pass);
        }
        let inviter = inviter(&flight.stanza);
        let who = inviter.as_ref().unwrap_or(from);
        if who.same_bare(to) || self.is_known(core, to, who)? {
            return Ok(Flow::Pass);
        }
        let flow = match flight.stanza.kind {
            Kind::Message(_) if self.config.messages == Treatment::Bounce => {
                Flow::Bounce(Condition::PolicyViolation.because("Messages are taken from contacts only."))
            }
            Kind::Iq(_) => Flow::Bounce(Condition::ServiceUnavailable.into()),
            Kind::Presence(_) if self.may_ask(core, to.bare()) => Flow::Pass,
            Kind::Message(_) | Kind::Presence(_) => Flow::Drop("from a stranger"),
        };
        if self.config.log && !matches!(flow, Flow::Pass) {
            let what = crate::stanza::name(flight.stanza.kind);
            log::info!(target: LOG, "{what} from {who} to {} is refused: a stranger", to.bare_str());
        }
        Ok(flow)
    }

    fn session(&mut self, _: &mut Core, id: SessionId, event: SessionEvent) -> Result<(), StanzaError> {
        if event == SessionEvent::Closed
            && let Some(jids) = self.spoken.remove(&id)
        {
            self.held_bytes -= jids.iter().map(cost).sum::<usize>();
        }
        Ok(())
    }

    fn session_state(&mut self, _: &mut Core, id: SessionId, _: &[u8], _: &[Jid]) -> Vec<u8> {
        let jids = self.spoken.get(&id).into_iter().flatten();
        jids.map(Jid::as_str).collect::<Vec<_>>().join("\n").into_bytes()
    }

    fn restore_session(&mut self, core: &mut Core, id: SessionId, state: &[u8]) -> Result<(), StoreError> {
        let jids = std::str::from_utf8(state).unwrap_or_default().lines();
        for jid in jids.filter_map(|jid| Jid::parse(jid).ok()) {
            self.remember(core, id, jid);
        }
        Ok(())
    }

    fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}

impl Strangers {
    /// True for somebody who is no stranger to an account.
    fn is_known(&self, core: &mut Core, account: &Jid, who: &Jid) -> Result<bool, StoreError> {
        let is_local_user = core.is_local(who) && who.node().is_some();
        let is_here = core.is_ours(who) || core.is_component(who.domain());
        if is_here && (self.config.local || !is_local_user) {
            return Ok(true);
        }
        let is_allowed = |jid: &Jid| jid.same_bare(who) || (jid.is_host() && jid.domain() == who.domain());
        if self.allow.iter().any(is_allowed) || core.is_contact(account, who)? {
            return Ok(true);
        }
        Ok(core.sessions.of(account).iter().any(|id| {
            let has_met = |session: &crate::core::session::Session| session.directed.iter().any(|j| j.same_bare(who));
            let has_written = |jids: &VecDeque<Jid>| jids.iter().any(|jid| jid.same_bare(who));
            core.sessions.get(*id).is_some_and(has_met) || self.spoken.get(id).is_some_and(has_written)
        }))
    }

    /// The one to whom a session wrote first is forgotten when there are more than `limits.strangers_spoken_max`.
    fn remember(&mut self, core: &Core, session: SessionId, to: Jid) {
        if core.may_hold("strangers", self.held_bytes).is_err() {
            return;
        }
        if !self.spoken.contains_key(&session) {
            self.spoken.insert(session, VecDeque::new());
        }
        let Some(jids) = self.spoken.get_mut(&session) else { return };
        self.held_bytes += cost(&to);
        jids.push_back(to);
        while jids.len() > core.settings.limits.strangers_spoken_max as usize {
            self.held_bytes -= jids.pop_front().as_ref().map_or(0, cost);
        }
    }

    /// True when an account may get another subscription request now.
    fn may_ask(&mut self, core: &Core, account: Jid) -> bool {
        let (now_ms, max) = (core.now.mono_ms, core.settings.limits.strangers_asked_max as usize);
        if !self.asked.contains_key(&account) && self.asked.len() >= max {
            self.asked.retain(|_, hourly| !hourly.is_unused(now_ms));
            if self.asked.len() >= max {
                self.asked.pop_first();
            }
            let spoken = self.spoken.values().flatten().map(cost).sum::<usize>();
            self.held_bytes = spoken + self.asked.keys().map(cost_of_asked).sum::<usize>();
        }
        if !self.asked.contains_key(&account) {
            self.held_bytes += cost_of_asked(&account);
        }
        self.asked.entry(account).or_default().may(self.config.subscriptions_per_hour, now_ms)
    }
}

fn prepared(config: &Config) -> Vec<Jid> {
    config.allow.iter().filter_map(|jid| Jid::parse(jid).ok()).collect()
}

/// Who has asked a room to invite somebody.
fn inviter(stanza: &Stanza) -> Option<Jid> {
    let invite = stanza.child(ns::MUC_USER, "x")?.child(ns::MUC_USER, "invite")?;
    Jid::parse(invite.attr("from")?).ok()
}

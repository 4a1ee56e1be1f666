//! What several modules need: sessions, routing, roster, presence, accounts, discovery, inputs and outputs.

pub mod accounts;
pub mod admin;
#[cfg(feature = "mam")]
pub mod archive;
pub mod caps;
#[cfg(feature = "commands")]
pub mod commands;
pub mod disco;
#[cfg(feature = "http")]
pub mod endpoints;
pub mod fast;
pub mod flat;
pub mod flight;
pub mod gate;
pub mod invites;
pub mod io;
#[cfg(feature = "import")]
pub mod moving;
#[cfg(feature = "commands")]
pub mod notices;
pub mod out_queue;
pub mod parked;
pub mod presence;
pub mod pubsub;
pub mod rates;
pub mod register;
pub mod roster;
pub mod route;
#[cfg(feature = "rtbl")]
pub mod rtbl;
pub mod session;
pub mod settings;
pub mod slab;
#[cfg(feature = "http")]
pub mod slots;
pub mod spool;
pub mod subscription;
pub mod vcard;
#[cfg(feature = "http")]
pub mod web;

use crate::clock::{Entropy, Now};
use crate::jid::Jid;
use crate::metrics::Counters;
use crate::stanza::{Condition, Stanza, StanzaError, forged};
use crate::storage::{StoreError, View};
use crate::xml::Element;
use flight::InFlight;
use session::{SessionId, Sessions};
use settings::Settings;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

/// State that handlers work on. It knows no module.
pub struct Core {
    /// When the input that is being handled happened.
    pub now: Now,
    /// When the server started.
    pub started: Now,
    /// The configuration in force.
    pub settings: Rc<Settings>,
    /// Stored state.
    pub view: View,
    /// Bound resources.
    pub sessions: Sessions,
    /// What clients want to be told of.
    pub caps: caps::Capabilities,
    /// Randomness.
    pub entropy: Box<dyn Entropy>,
    /// What has happened so far.
    pub counters: Counters,
    /// What the server says of itself and of accounts.
    pub disco: disco::Discos,
    /// What is known of the spool's rows.
    pub spool: spool::Spool,
    /// What is known of archives, and asked of them.
    #[cfg(feature = "mam")]
    pub archives: archive::Archives,
    /// Rows of [`parked::EndedSessions`] that were written since they were counted.
    pub ended_unchecked: usize,
    /// Sessions of which something has changed that is stored of those that wait to be resumed.
    pub changed: BTreeSet<SessionId>,
    /// Sessions without connection that are to wait so many seconds to be resumed from now on; none: as long as any.
    pub waits: Vec<(SessionId, Option<u32>)>,
    /// Messages that those would want who could have been there, and whom: absent members of rooms, as bare addresses.
    /// None when no module asks for them.
    pub missed: Option<Vec<(Jid, Stanza)>>,
    /// Stanzas that the input has set on their way.
    pub queue: VecDeque<InFlight>,
    /// What the request at hand leads to beyond its step.
    pub ask: Option<register::Ask>,
    /// Memory is short: nothing that grows may grow.
    pub sheds: bool,
    /// What is shared with HTTP.
    #[cfg(feature = "http")]
    pub web: web::Web,
}

impl Core {
    /// True for a prepared domain that this server serves.
    pub fn serves(&self, domain: &str) -> bool {
        self.settings.hosts.iter().any(|h| h == domain)
    }

    /// True for an address at a host of ours.
    pub fn is_local(&self, jid: &Jid) -> bool {
        self.serves(jid.domain())
    }

    /// True for an address at a host or a service of ours.
    pub fn is_ours(&self, jid: &Jid) -> bool {
        self.is_local(jid) || self.is_service(jid.domain())
    }

    /// True for the domain of an external component.
    pub fn is_component(&self, domain: &str) -> bool {
        self.settings.components.iter().any(|component| component.domain == domain)
    }

    /// True for a domain under which a module runs a service.
    pub fn is_service(&self, domain: &str) -> bool {
        !self.serves(domain) && self.disco.services().iter().any(|service| service == domain)
    }

    /// Takes out of a stanza that comes in what only this server, its services or rooms may say. Stamps are those of a
    /// host itself, and of all of a service; ids are those of accounts too.
    pub fn strip_forged(&self, stanza: &mut Stanza, from_client: bool) {
        let is_service = |jid: &Jid| self.is_service(jid.domain());
        let to_people = from_client && stanza.to.as_ref().is_none_or(|to| self.is_local(to));
        let stamps = |jid: &Jid| (jid.node().is_none() && self.is_local(jid)) || is_service(jid);
        forged::strip(stanza, to_people, stamps, |jid| self.is_local(jid) || is_service(jid));
    }

    /// Sets a stanza on its way.
    pub fn send(&mut self, flight: InFlight) {
        self.queue.push_back(flight);
    }

    /// Answers a stanza with an error, if it may be answered.
    pub fn refuse(&mut self, stanza: &Stanza, error: &StanzaError) {
        if let Some(reply) = stanza.error(error) {
            self.send(InFlight::answer(reply));
        }
    }

    /// Answers a request, before what it has caused.
    pub fn answer(&mut self, request: &Stanza, answer: Answer) {
        if matches!(answer, Answer::Refused(..)) {
            self.counters.bounced = self.counters.bounced.wrapping_add(1);
        }
        if let Some(reply) = answer.reply(request) {
            self.queue.push_front(InFlight::answer(reply));
        }
    }

    /// Sends a stanza that the account itself sends to some of its sessions, each under its full address.
    pub fn push(&mut self, sessions: &[SessionId], stanza: &Stanza) {
        for id in sessions {
            let Some(jid) = self.sessions.get(*id).map(|s| s.jid.clone()) else { continue };
            let stanza = Stanza { to: Some(jid), ..stanza.clone() };
            self.send(InFlight::promising(stanza).to_session(*id));
        }
    }

    /// Refuses what a module would remember from now on while it holds `held_bytes` already and that is all that it
    /// may, or memory is short.
    ///
    /// # Errors
    /// `resource-constraint`.
    pub fn may_hold(&self, module: &str, held_bytes: usize) -> Result<(), StanzaError> {
        if self.sheds || held_bytes >= self.settings.memory.module_max_bytes(module) {
            return Err(Condition::ResourceConstraint.because("The server has no memory for that now."));
        }
        Ok(())
    }

    /// Bytes of what would be found again.
    pub fn held_bytes(&self) -> usize {
        #[cfg(feature = "mam")]
        let archives = self.archives.held_bytes();
        #[cfg(not(feature = "mam"))]
        let archives = 0;
        self.view.known_bytes() + self.caps.held_bytes() + self.spool.held_bytes() + archives
    }

    /// Gives up what would be found again.
    pub fn forget_caches(&mut self) {
        self.view.forget_known();
        self.caps.forget_cache();
    }

    /// Deletes all that is stored of an account or a room. What may be large goes later, and is void from now on.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn delete_owner(&mut self, owner: &str) -> Result<(), StoreError> {
        #[cfg(feature = "mam")]
        {
            self.view.delete_owner(owner, Some(archive::TABLES_FROM))?;
            self.archive_void(owner)
        }
        #[cfg(not(feature = "mam"))]
        self.view.delete_owner(owner, None)
    }

    /// Refuses what would write while more than `limits.store_pending_bytes_max` waits for the disk, or a sixth of all
    /// memory.
    ///
    /// # Errors
    /// `resource-constraint`.
    pub fn may_write(&self) -> Result<(), StanzaError> {
        if self.view.pending_bytes() > self.pending_max_bytes() {
            return Err(Condition::ResourceConstraint.because("Too much waits for the disk."));
        }
        Ok(())
    }

    /// So much may wait for the disk.
    pub fn pending_max_bytes(&self) -> usize {
        (self.settings.limits.store_pending_bytes_max as usize).min(self.settings.memory.max_bytes / 6)
    }

    /// Milliseconds since 1970, as rows keep them.
    pub fn wall_ms(&self) -> u64 {
        u64::try_from(self.now.wall_ms).unwrap_or_default()
    }

    /// An unguessable name.
    pub fn token(&mut self) -> String {
        crate::clock::token(&mut *self.entropy)
    }
}

/// Reading failed: the request is refused, nothing is harmed.
impl From<StoreError> for StanzaError {
    fn from(error: StoreError) -> Self {
        log::error!(target: "couplet::storage", "{error}");
        Condition::InternalServerError.because("The server could not read its storage.")
    }
}

/// What a request is about.
#[derive(Debug)]
pub struct Request<'a> {
    /// The request with `from` (a full address) and `to` (never none: its own account where the client named none).
    pub stanza: &'a Stanza,
    /// Its only child.
    pub child: crate::xml::ElementRef<'a>,
    /// Whose account is asked, for an account; the host for a host.
    pub owner: &'a Jid,
    /// The session that asks, when it is one of ours.
    pub session: Option<SessionId>,
    /// True for a set.
    pub is_set: bool,
}

impl Request<'_> {
    /// True when somebody asks his own account.
    pub fn is_own(&self) -> bool {
        self.stanza.from.as_ref().is_some_and(|from| from.same_bare(self.owner))
    }

    /// True when whoever asks may see the presence of the account that is asked.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn asker_sees_owner(&self, core: &mut Core) -> Result<bool, StoreError> {
        match &self.stanza.from {
            Some(from) => core.is_seen_by(self.owner, from),
            None => Ok(false),
        }
    }
}

/// The answer to a request.
#[derive(Debug)]
pub enum Answer {
    /// A result with this child.
    Result(Element),
    /// A result without child.
    Empty,
    /// An error, before which this child stands: what was not changed.
    Refused(Element, Box<StanzaError>),
    /// The answer comes when the engine has done what the handler has put into [`Core::ask`].
    Later,
    /// Somebody who may wants a command done (XEP-0050): the module that offers it answers.
    #[cfg(feature = "commands")]
    Command(Box<commands::Call>),
    /// This module has nothing to say to it after all: the next one with the same route is asked.
    NotMine,
}

impl Answer {
    /// The stanza that answers a request, if there is something to say already.
    pub fn reply(&self, request: &Stanza) -> Option<Stanza> {
        match self {
            Self::Result(element) => Some(request.result(|b| b.copy(element.root()))),
            Self::Empty => Some(request.result(|_| {})),
            Self::Refused(element, error) => Some(request.refusal(element, error)),
            _ => None,
        }
    }
}

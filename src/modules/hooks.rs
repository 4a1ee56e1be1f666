//! What a module is: its hooks, with empty defaults.

use super::terms::{Dir, Fit, IqRoute, SessionEvent, TableInfo, Undelivered, Xep};
#[cfg(feature = "commands")]
use crate::core::commands::Call;
use crate::core::disco::Disco;
#[cfg(feature = "http")]
use crate::core::endpoints::Endpoint;
use crate::core::flight::{Flow, InFlight, Urgency};
#[cfg(feature = "http")]
use crate::core::io::ConnId;
#[cfg(feature = "import")]
use crate::core::moving::{Outcome, Piece, Taken, Terms};
use crate::core::register::{Newcomer, Stranger, Visit};
use crate::core::session::SessionId;
use crate::core::settings::Settings;
use crate::core::{Answer, Core, Request};
use crate::jid::Jid;
use crate::setting::Section;
use crate::stanza::{Condition, Stanza, StanzaError};
use crate::storage::StoreError;
use crate::xml::{Builder, Element, ElementRef};

/// One protocol extension. Every hook has an empty default. An error from a hook is the answer to the stanza.
pub trait Module: Sized {
    /// What it follows.
    const XEPS: &'static [Xep];
    /// Features of a host in service discovery.
    const HOST_FEATURES: &'static [&'static str] = &[];
    /// Features of an account in service discovery.
    const ACCOUNT_FEATURES: &'static [&'static str] = &[];
    /// Tables of the store.
    const TABLES: &'static [TableInfo] = &[];
    /// Features that a client can ask for while it binds (XEP-0386 section 3.1), by the names that announce them.
    const BIND_FEATURES: &'static [&'static str] = &[];
    /// It wants to hear what absent members of rooms miss: [`Module::missed`].
    const HEARS_MISSED: bool = false;
    /// Requests it answers.
    const IQ: &'static [IqRoute] = &[];
    /// Its section of the configuration.
    type Config: Section + Default + Clone;

    /// Makes the module.
    fn new(config: Self::Config) -> Self;

    /// Looks whether values fit together that are right by themselves.
    fn fit(config: &Self::Config, fit: &mut Fit) {
        let _ = (config, fit);
    }

    /// Takes over a changed configuration. The default makes the module anew; one that knows sessions keeps them.
    fn reconfigure(&mut self, config: Self::Config) {
        *self = Self::new(config);
    }

    /// Adds to what is said of a host and its accounts beyond the constants.
    fn disco(&self, settings: &Settings, host: &str, disco: &mut Disco) {
        let _ = (settings, host, disco);
    }

    /// Puts what other floors must know of its configuration where they look.
    fn settle(&self, settings: &mut Settings) {
        let _ = settings;
    }

    /// Adds features of a stream whose client has logged in.
    fn features(&self, core: &Core, host: &str, out: &mut Vec<Element>) {
        let _ = (core, host, out);
    }

    /// A client has bound a resource together with its login (XEP-0386 section 3.2). Each child of `request` in a
    /// namespace of its own asks for a feature: the module looks for those of [`Module::BIND_FEATURES`], turns them on,
    /// and adds to `bound` what their specifications answer. The client hears of its session behind that; what is sent
    /// to it meanwhile follows.
    fn bind(&mut self, core: &mut Core, id: SessionId, request: ElementRef<'_>, bound: &mut Builder) {
        let _ = (core, id, request, bound);
    }

    /// A client says something of its session that is no stanza: true when the module knows the element.
    fn nonza(&mut self, core: &mut Core, id: SessionId, element: ElementRef<'_>) -> bool {
        let _ = (core, id, element);
        false
    }

    /// Phase *deliver*: a stanza leaves for a session that is [inactive](crate::core::session::Session::inactive).
    fn urgency(&mut self, core: &mut Core, stanza: &Stanza) -> Urgency {
        let _ = (core, stanza);
        Urgency::Now
    }

    /// Adds features of a stream whose client could log in and has not.
    fn offers(&self, core: &mut Core, host: &str, out: &mut Vec<Element>) {
        let _ = (core, host, out);
    }

    /// Answers a request of somebody who has not logged in; `visit` lasts as long as his stream.
    fn stranger(&mut self, core: &mut Core, request: &Stranger<'_>, visit: &mut Visit) -> Result<Answer, StanzaError> {
        let _ = (core, request, visit);
        Ok(Answer::NotMine)
    }

    /// Answers a request that [`Module::IQ`] names. With [`Answer::NotMine`] the next module is asked that names it.
    fn iq(&mut self, core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        let _ = (core, request);
        Err(Condition::ServiceUnavailable.into())
    }

    /// Does one of the commands (XEP-0050) that [`Module::disco`] has named, for somebody who may; its form is as the
    /// command asks for it. With [`Answer::NotMine`] the next module is asked.
    #[cfg(feature = "commands")]
    fn command(&mut self, core: &mut Core, call: &Call) -> Result<Answer, StanzaError> {
        let _ = (core, call);
        Ok(Answer::NotMine)
    }

    /// A request to an account that changes something was answered well, by whichever module.
    fn done(&mut self, core: &mut Core, request: &Request<'_>) -> Result<(), StanzaError> {
        let _ = (core, request);
        Ok(())
    }

    /// Somebody on another server says to an account that he is available, or that he is not.
    fn contact(&mut self, core: &mut Core, account: &Jid, stanza: &Stanza) -> Result<(), StanzaError> {
        let _ = (core, account, stanza);
        Ok(())
    }

    /// A session of an account, or a client on another server, answers a request that the server has made in the
    /// account's name.
    fn answered(&mut self, core: &mut Core, stanza: &Stanza) -> Result<(), StanzaError> {
        let _ = (core, stanza);
        Ok(())
    }

    /// Somebody has sent a message to the host itself; true when it was expected.
    fn told(&mut self, core: &mut Core, stanza: &Stanza) -> Result<bool, StanzaError> {
        let _ = (core, stanza);
        Ok(false)
    }

    /// When [`Module::due`] is to be called, on the clock of [`Now::mono_ms`](crate::clock::Now::mono_ms). Asked after
    /// whatever has happened.
    fn due_ms(&self, core: &Core) -> Option<u64> {
        let _ = core;
        None
    }

    /// The time has come that [`Module::due_ms`] has named.
    fn due(&mut self, core: &mut Core) -> Result<(), StanzaError> {
        let _ = core;
        Ok(())
    }

    /// A session sends available presence, to everybody or to somebody; nothing is done with it yet.
    fn presence(&mut self, core: &mut Core, stanza: &mut Stanza) -> Result<(), StanzaError> {
        let _ = (core, stanza);
        Ok(())
    }

    /// Phase *filter out*: a stanza leaves a local account.
    fn filter_out(&mut self, core: &mut Core, flight: &mut InFlight) -> Result<Flow, StanzaError> {
        let _ = (core, flight);
        Ok(Flow::Pass)
    }

    /// Phase *filter in*: a stanza reaches a local account.
    fn filter_in(&mut self, core: &mut Core, flight: &mut InFlight) -> Result<Flow, StanzaError> {
        let _ = (core, flight);
        Ok(Flow::Pass)
    }

    /// Phase *filter in* of what is for a service of ours.
    fn filter_service(&mut self, core: &mut Core, flight: &mut InFlight) -> Result<Flow, StanzaError> {
        let _ = (core, flight);
        Ok(Flow::Pass)
    }

    /// Phase *archive*: a message leaves a session of the account, or reaches the account and is let in. What is done
    /// to the stanza is for those of the account alone: for copies of what was sent, and for all that follows what
    /// has come.
    fn archive(&mut self, core: &mut Core, dir: Dir, flight: &mut InFlight) -> Result<(), StanzaError> {
        let _ = (core, dir, flight);
        Ok(())
    }

    /// Phase *copy*: a message was sent, or has gone to `reached` of the account's sessions.
    fn copy(&mut self, core: &mut Core, dir: Dir, flight: &InFlight, reached: &[SessionId]) {
        let _ = (core, dir, flight, reached);
    }

    /// Whether it is to hear more of a session: [`Module::deliver`] and [`Module::unseen`].
    fn watches(&self, id: SessionId) -> bool {
        let _ = id;
        false
    }

    /// Phase *deliver*: a message that was not stored before goes to a session that it watches.
    fn deliver(&mut self, core: &mut Core, id: SessionId, message: &Stanza) {
        let _ = (core, id, message);
    }

    /// A session that it watches has lost its connection and waits to be resumed, or its client owes an acknowledgement
    /// for `limits.sm_ack_delay_s`. These messages have not been acknowledged.
    fn unseen(&mut self, core: &mut Core, id: SessionId, messages: &[Stanza]) {
        let _ = (core, id, messages);
    }

    /// An account has an affiliation with a room that it is not in, and this was said there.
    fn missed(&mut self, core: &mut Core, account: &Jid, message: &Stanza) {
        let _ = (core, account, message);
    }

    /// Phase *undelivered*: no session of the account can take a message.
    fn undelivered(&mut self, core: &mut Core, flight: &InFlight) -> Result<Undelivered, StanzaError> {
        let _ = (core, flight);
        Ok(Undelivered::NotMine)
    }

    /// True for a domain of a service of this module, one that [`Module::disco`] has named.
    fn owns(&self, core: &Core, domain: &str) -> bool {
        let _ = (core, domain);
        false
    }

    /// A stanza of whatever kind for a service of this module.
    fn service(&mut self, core: &mut Core, flight: &InFlight, to: &Jid) -> Result<(), StanzaError> {
        let _ = (core, flight, to);
        Err(Condition::ServiceUnavailable.into())
    }

    /// A write failed, and with it all behind the last that is durable: what the module remembers of them is void.
    fn withdrawn(&mut self, core: &mut Core) {
        let _ = core;
    }

    /// Bytes that the module holds for others beside what is stored, for the budget: to be known without counting. It
    /// asks [`Core::may_hold`] before they become more.
    fn held_bytes(&self) -> usize {
        0
    }

    /// The store is full: gives up some of what was promised to nobody, the oldest.
    ///
    /// # Errors
    /// When storage cannot be read.
    fn make_room(&mut self, core: &mut Core) -> Result<(), StoreError> {
        let _ = core;
        Ok(())
    }

    /// Something was brought to an endpoint (UnifiedPush) of an account, through that connection of HTTP, which is told
    /// what comes of it by [`Web::delivered`](crate::core::web::Web::delivered). False when the module knows none.
    #[cfg(feature = "http")]
    fn brought(&mut self, core: &mut Core, conn: ConnId, endpoint: &Endpoint, content: &[u8]) -> bool {
        let _ = (core, conn, endpoint, content);
        false
    }

    /// A session changes.
    fn session(&mut self, core: &mut Core, id: SessionId, event: SessionEvent) -> Result<(), StanzaError> {
        let _ = (core, id, event);
        Ok(())
    }

    /// What it knows of a session that waits to be resumed, to be stored; empty is nothing. `before` is what it has
    /// said of it last, and empty when the session has just lost its connection; `unseen` are those whose presence of
    /// type unavailable its client may not have got.
    fn session_state(&mut self, core: &mut Core, id: SessionId, before: &[u8], unseen: &[Jid]) -> Vec<u8> {
        let _ = (core, id, before, unseen);
        Vec::new()
    }

    /// Takes over what [`Module::session_state`] has said before a restart. Nothing is sent.
    ///
    /// # Errors
    /// When storage cannot be read.
    fn restore_session(&mut self, core: &mut Core, id: SessionId, state: &[u8]) -> Result<(), StoreError> {
        let _ = (core, id, state);
        Ok(())
    }

    /// A session goes on that was restored: its client hears what it has missed, beside messages and requests.
    fn revived(&mut self, core: &mut Core, id: SessionId, state: &[u8]) -> Result<(), StanzaError> {
        let _ = (core, id, state);
        Ok(())
    }

    /// Somebody has made an account for himself.
    fn registered(&mut self, core: &mut Core, newcomer: &Newcomer) -> Result<(), StanzaError> {
        let _ = (core, newcomer);
        Ok(())
    }

    /// An account has got another password: what stands in for the old one is void.
    fn password_changed(&mut self, core: &mut Core, account: &Jid) -> Result<(), StanzaError> {
        let _ = (core, account);
        Ok(())
    }

    /// Takes in what an account or a room has had on another server; `owner` is its bare address.
    ///
    /// # Errors
    /// Why not.
    #[cfg(feature = "import")]
    fn take_in(&mut self, core: &mut Core, owner: &Jid, piece: &Piece, terms: &mut Terms) -> Outcome {
        let _ = (core, owner, piece, terms);
        Ok(Taken::NotMine)
    }

    /// Gives out what an account or a room has, for another server.
    ///
    /// # Errors
    /// When storage cannot be read.
    #[cfg(feature = "import")]
    fn give_out(&mut self, core: &mut Core, owner: &Jid, to: &mut dyn FnMut(Piece)) -> Result<(), StoreError> {
        let _ = (core, owner, to);
        Ok(())
    }

    /// An account is being deleted. Its tables go without that.
    fn account_deleted(&mut self, core: &mut Core, account: &Jid) -> Result<(), StanzaError> {
        let _ = (core, account);
        Ok(())
    }
}

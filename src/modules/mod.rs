//! One file for each protocol extension, and the list that makes them one struct.
//!
//! Hooks are typed, have empty defaults, and run in the named phases of [`pipeline`](crate::pipeline). The phase orders
//! kinds of work; the list at the end of this file orders modules inside a phase. A module knows the floors above it
//! and no other module.

use crate::core::disco::Disco;
use crate::core::flight::{Flow, InFlight, Urgency};
#[cfg(feature = "import")]
use crate::core::moving::{Outcome, Piece, Taken, Terms};
use crate::core::parked::{State, state_of};
use crate::core::register::{Newcomer, Stranger, Visit};
use crate::core::session::SessionId;
use crate::core::settings::Settings;
use crate::core::{Answer, Core, Request};
use crate::jid::Jid;
use crate::setting::Section;
use crate::stanza::{Condition, Stanza, StanzaError};
use crate::storage::StoreError;
use crate::xml::{Builder, Element, ElementRef};

mod switches;
mod terms;

pub use switches::General;
use switches::{Slot, host_of, host_of_session, host_that_way};
pub use terms::{Dir, IqRoute, Scope, SessionEvent, TableInfo, Undelivered, Xep};

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

/// What `couplet about` says of a module.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// File, feature and configuration section.
    pub name: &'static str,
    /// What it follows.
    pub xeps: &'static [Xep],
    /// Its tables.
    pub tables: &'static [TableInfo],
}

macro_rules! modules {
    ($( $feature:literal => $file:ident :: $type:ident, )*) => {
        $( #[cfg(feature = $feature)] pub mod $file; )*

        /// Sections of the modules, and which of them are switched off.
        #[derive(Clone, Debug, Default)]
        pub struct Config {
            /// `[modules]`.
            pub general: General,
            $( #[cfg(feature = $feature)]
            #[doc = concat!("`[modules.", stringify!($file), "]`.")]
            pub $file: <$file::$type as Module>::Config, )*
        }

        impl Config {
            /// All sections, for reading and showing the configuration.
            pub fn sections(&mut self) -> Vec<&mut dyn Section> {
                vec![ &mut self.general, $( #[cfg(feature = $feature)] &mut self.$file, )* ]
            }
        }

        /// The modules of this build that the configuration leaves on.
        pub struct Modules { $( #[cfg(feature = $feature)] $file: Slot<$file::$type>, )* }

        /// Every module of the source tree, and whether this build has it.
        pub const KNOWN: &[(&str, bool)] = &[ $( (stringify!($file), cfg!(feature = $feature)), )* ];

        /// The modules of this build.
        pub const LIST: &[Info] = &[ $( #[cfg(feature = $feature)] Info {
            name: stringify!($file), xeps: $file::$type::XEPS, tables: $file::$type::TABLES,
        }, )* ];

        impl Modules {
            /// Makes all that are on.
            pub fn new(config: &Config) -> Self {
                Self { $( #[cfg(feature = $feature)] $file: Slot {
                    module: (!config.general.is_off(stringify!($file)))
                        .then(|| $file::$type::new(config.$file.clone())),
                    off: config.general.off_hosts(stringify!($file)),
                }, )* }
            }

            /// Takes over a changed configuration. A module keeps what it knows of sessions.
            pub fn reconfigure(&mut self, config: &Config) {
                $( #[cfg(feature = $feature)] {
                    self.$file.off = config.general.off_hosts(stringify!($file));
                    match &mut self.$file.module {
                        slot if config.general.is_off(stringify!($file)) => *slot = None,
                        Some(m) => m.reconfigure(config.$file.clone()),
                        slot => *slot = Some($file::$type::new(config.$file.clone())),
                    }
                } )*
            }

            /// Every module says what others must know.
            pub fn settle(&self, settings: &mut Settings) {
                $( #[cfg(feature = $feature)] if let Some(m) = &self.$file.module { m.settle(settings); } )*
            }

            /// Collects what is said of a host and its accounts.
            pub fn disco(&self, settings: &Settings, host: &str, disco: &mut Disco) {
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.look(host) {
                    disco.host.features.extend($file::$type::HOST_FEATURES);
                    disco.account.features.extend($file::$type::ACCOUNT_FEATURES);
                    m.disco(settings, host, disco);
                } )*
            }

            /// Features of a stream whose client has logged in.
            pub fn features(&self, core: &Core, host: &str) -> Vec<Element> {
                let mut out = Vec::new();
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.look(host) {
                    m.features(core, host, &mut out);
                } )*
                out
            }

            /// Features that a client can ask for while it binds.
            pub fn bind_features(&self, host: &str) -> Vec<&'static str> {
                let mut out = Vec::new();
                $( #[cfg(feature = $feature)] if self.$file.look(host).is_some() {
                    out.extend($file::$type::BIND_FEATURES);
                } )*
                out
            }

            /// Every module hears of it.
            pub fn bind(&mut self, core: &mut Core, id: SessionId, request: ElementRef<'_>, bound: &mut Builder) {
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.at(|| host_of_session(core, id)) {
                    m.bind(core, id, request, bound);
                } )*
            }

            /// True when one of the modules knows the element.
            pub fn nonza(&mut self, core: &mut Core, id: SessionId, element: ElementRef<'_>) -> bool {
                $( #[cfg(feature = $feature)]
                if let Some(m) = self.$file.at(|| host_of_session(core, id)) && m.nonza(core, id, element) {
                    return true;
                } )*
                false
            }

            /// The first module by which it can wait decides.
            pub fn urgency(&mut self, core: &mut Core, stanza: &Stanza) -> Urgency {
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.any() {
                    match m.urgency(core, stanza) { Urgency::Now => {} waits => return waits }
                } )*
                Urgency::Now
            }

            /// Features of a stream whose client could log in and has not.
            pub fn offers(&self, core: &mut Core, host: &str) -> Vec<Element> {
                let mut out = Vec::new();
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.look(host) {
                    m.offers(core, host, &mut out);
                } )*
                out
            }

            /// The answer of the first module that has one for somebody who has not logged in.
            pub fn stranger(&mut self, core: &mut Core, request: &Stranger<'_>, visit: &mut Visit)
                -> Result<Answer, StanzaError>
            {
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.at(|| request.host.domain()) {
                    match m.stranger(core, request, visit)? { Answer::NotMine => {} answer => return Ok(answer) }
                } )*
                Err(Condition::ServiceUnavailable.into())
            }

            /// The answer of the first module that has the request's route and answers; none when there is none.
            pub fn iq(&mut self, core: &mut Core, scope: Scope, request: &Request<'_>)
                -> Option<Result<Answer, StanzaError>>
            {
                let is = |r: &IqRoute| r.0 == scope && request.child.is(r.1, r.2);
                $( #[cfg(feature = $feature)]
                if let Some(m) = self.$file.at(|| request.owner.domain()) && $file::$type::IQ.iter().any(is) {
                    match m.iq(core, request) { Ok(Answer::NotMine) => {} answer => return Some(answer) }
                } )*
                None
            }

            /// Every module hears of it.
            pub fn done(&mut self, core: &mut Core, request: &Request<'_>) -> Result<(), StanzaError> {
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.at(|| request.owner.domain()) {
                    m.done(core, request)?;
                } )*
                Ok(())
            }

            /// Every module hears of it.
            pub fn answered(&mut self, core: &mut Core, stanza: &Stanza) -> Result<(), StanzaError> {
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.at(|| host_of(stanza.to.as_ref())) {
                    m.answered(core, stanza)?;
                } )*
                Ok(())
            }

            /// Every module hears of it.
            pub fn contact(&mut self, core: &mut Core, account: &Jid, stanza: &Stanza) -> Result<(), StanzaError> {
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.at(|| account.domain()) {
                    m.contact(core, account, stanza)?;
                } )*
                Ok(())
            }

            /// Every module may change it.
            pub fn presence(&mut self, core: &mut Core, stanza: &mut Stanza) -> Result<(), StanzaError> {
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.at(|| host_of(stanza.from.as_ref())) {
                    m.presence(core, stanza)?;
                } )*
                Ok(())
            }

            /// The first module that does not let the stanza pass decides.
            pub fn filter_out(&mut self, core: &mut Core, flight: &mut InFlight) -> Result<Flow, StanzaError> {
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.at(|| host_of(flight.stanza.from.as_ref())) {
                    match m.filter_out(core, flight)? { Flow::Pass => {} decided => return Ok(decided) }
                } )*
                Ok(Flow::Pass)
            }

            /// The first module that does not let the stanza pass decides.
            pub fn filter_in(&mut self, core: &mut Core, flight: &mut InFlight) -> Result<Flow, StanzaError> {
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.at(|| host_of(flight.stanza.to.as_ref())) {
                    match m.filter_in(core, flight)? { Flow::Pass => {} decided => return Ok(decided) }
                } )*
                Ok(Flow::Pass)
            }

            /// Every module may archive.
            pub fn archive(&mut self, core: &mut Core, dir: Dir, flight: &mut InFlight) -> Result<(), StanzaError> {
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.at(|| host_that_way(dir, &flight.stanza)) {
                    m.archive(core, dir, flight)?;
                } )*
                Ok(())
            }

            /// Every module may copy.
            pub fn copy(&mut self, core: &mut Core, dir: Dir, flight: &InFlight, reached: &[SessionId]) {
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.at(|| host_that_way(dir, &flight.stanza)) {
                    m.copy(core, dir, flight, reached);
                } )*
            }

            /// Whether any module is to hear more of a session.
            pub fn watches(&self, id: SessionId) -> bool {
                $( #[cfg(feature = $feature)] if self.$file.module.as_ref().is_some_and(|m| m.watches(id)) {
                    return true;
                } )*
                false
            }

            /// Every module hears of it that watches the session.
            pub fn deliver(&mut self, core: &mut Core, id: SessionId, message: &Stanza) {
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.any() && m.watches(id) {
                    m.deliver(core, id, message);
                } )*
            }

            /// Every module hears of it that watches the session.
            pub fn unseen(&mut self, core: &mut Core, id: SessionId, messages: &[Stanza]) {
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.any() && m.watches(id) {
                    m.unseen(core, id, messages);
                } )*
            }

            /// Whether any module wants to hear what absent members of rooms miss.
            pub fn hears_missed(&self) -> bool {
                $( #[cfg(feature = $feature)] if $file::$type::HEARS_MISSED && self.$file.module.is_some() {
                    return true;
                } )*
                false
            }

            /// Every module hears of it.
            pub fn missed(&mut self, core: &mut Core, account: &Jid, message: &Stanza) {
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.at(|| account.domain()) {
                    m.missed(core, account, message);
                } )*
            }

            /// The first module that takes it decides.
            pub fn undelivered(&mut self, core: &mut Core, flight: &InFlight) -> Result<Undelivered, StanzaError> {
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.at(|| host_of(flight.stanza.to.as_ref())) {
                    match m.undelivered(core, flight)? { Undelivered::NotMine => {} decided => return Ok(decided) }
                } )*
                Ok(Undelivered::NotMine)
            }

            /// Hands a stanza for a service to the module that runs it; none when no module does.
            pub fn service(&mut self, core: &mut Core, flight: &InFlight, to: &Jid)
                -> Option<Result<(), StanzaError>>
            {
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.any() && m.owns(core, to.domain()) {
                    return Some(m.service(core, flight, to));
                } )*
                None
            }

            /// Every module hears of it.
            pub fn withdrawn(&mut self, core: &mut Core) {
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.any() { m.withdrawn(core); } )*
            }

            /// Every module hears of it; of the end also one that is off for the host.
            pub fn session(&mut self, core: &mut Core, id: SessionId, event: SessionEvent) -> Result<(), StanzaError> {
                let ends = event == SessionEvent::Closed;
                $( #[cfg(feature = $feature)]
                if let Some(m) = if ends { self.$file.any() } else { self.$file.at(|| host_of_session(core, id)) } {
                    m.session(core, id, event)?;
                } )*
                Ok(())
            }

            /// What all modules hold.
            pub fn held_bytes(&self) -> usize {
                let mut bytes = 0;
                $( #[cfg(feature = $feature)] if let Some(m) = &self.$file.module { bytes += m.held_bytes(); } )*
                bytes
            }

            /// What each of them holds.
            pub fn held_bytes_each(&self) -> Vec<(&'static str, usize)> {
                vec![ $( #[cfg(feature = $feature)]
                    (stringify!($file), self.$file.module.as_ref().map_or(0, Module::held_bytes)), )* ]
            }

            /// Every module gives up something.
            pub fn make_room(&mut self, core: &mut Core) -> Result<(), StoreError> {
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.any() { m.make_room(core)?; } )*
                Ok(())
            }

            /// What modules know of a session.
            pub fn session_state(&mut self, core: &mut Core, id: SessionId, before: &State, unseen: &[Jid]) -> State {
                let mut all = State::new();
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.any() {
                    let name = stringify!($file);
                    all.push((name.to_string(), m.session_state(core, id, state_of(before, name), unseen)));
                } )*
                all.retain(|(_, state)| !state.is_empty());
                all
            }

            /// Gives it back to them.
            pub fn restore_session(&mut self, core: &mut Core, id: SessionId, all: &State) -> Result<(), StoreError> {
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.any() {
                    m.restore_session(core, id, state_of(all, stringify!($file)))?;
                } )*
                Ok(())
            }

            /// Every module hears of it.
            pub fn revived(&mut self, core: &mut Core, id: SessionId, all: &State) -> Result<(), StanzaError> {
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.any() {
                    m.revived(core, id, state_of(all, stringify!($file)))?;
                } )*
                Ok(())
            }

            /// Every module hears of it.
            pub fn registered(&mut self, core: &mut Core, newcomer: &Newcomer) -> Result<(), StanzaError> {
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.any() { m.registered(core, newcomer)?; } )*
                Ok(())
            }

            /// Every module hears of it.
            pub fn password_changed(&mut self, core: &mut Core, account: &Jid) -> Result<(), StanzaError> {
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.any() {
                    m.password_changed(core, account)?;
                } )*
                Ok(())
            }

            /// The first module takes it whose it is.
            #[cfg(feature = "import")]
            pub fn take_in(&mut self, core: &mut Core, owner: &Jid, piece: &Piece, terms: &mut Terms) -> Outcome {
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.any() {
                    match m.take_in(core, owner, piece, terms)? { Taken::NotMine => {} taken => return Ok(taken) }
                } )*
                Ok(Taken::NotMine)
            }

            /// Every module gives what it has.
            #[cfg(feature = "import")]
            pub fn give_out(&mut self, core: &mut Core, owner: &Jid, to: &mut dyn FnMut(Piece))
                -> Result<(), StoreError>
            {
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.any() { m.give_out(core, owner, to)?; } )*
                Ok(())
            }

            /// Every module hears of it.
            pub fn account_deleted(&mut self, core: &mut Core, account: &Jid) -> Result<(), StanzaError> {
                $( #[cfg(feature = $feature)] if let Some(m) = self.$file.any() {
                    m.account_deleted(core, account)?;
                } )*
                Ok(())
            }
        }
    };
}

// The order is the order inside each phase: what blocks comes before what copies and what keeps, and who knows a part
// of what a request may name comes before who answers for the rest.
modules! {
    "blocking" => blocking::Blocking,
    "mam" => mam::Mam,
    "carbons" => carbons::Carbons,
    "offline" => offline::Offline,
    "bookmarks" => bookmarks::Bookmarks,
    "avatars" => avatars::Avatars,
    "pep" => pep::Pep,
    "csi" => csi::Csi,
    "external_services" => external_services::ExternalServices,
    "disco" => disco::ServiceDiscovery,
    "caps" => caps::Caps,
    "ping" => ping::Ping,
    "version" => version::Version,
    "time" => time::Time,
    "last" => last::Last,
    "private" => private::Private,
    "vcard" => vcard::VCard,
    "muc" => muc::Muc,
    "register" => register::Register,
    "invites" => invites::Invites,
    "contact_info" => contact_info::ContactInfo,
    "motd" => motd::Motd,
    "upload" => upload::Upload,
    "push" => push::Push,
}

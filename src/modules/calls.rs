//! What the list of modules becomes: the struct of those that are on, their configuration, and each hook as
//! straight-line calls in the order of the list.

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

            /// Looks whether the values of each module fit together.
            pub fn fit(&self) -> Fit {
                let mut fit = Fit::default();
                $( #[cfg(feature = $feature)] $file::$type::fit(&self.$file, &mut fit); )*
                fit
            }
        }

        /// The modules of this build that the configuration leaves on.
        pub struct Modules {
            $( #[cfg(feature = $feature)] $file: Option<$file::$type>, )*
            off: OffHosts,
        }

        /// Which of the list a module is.
        #[derive(Clone, Copy)]
        #[allow(non_camel_case_types, dead_code, reason = "named as the files are; a build may lack some")]
        enum Place { $( $file, )* }

        /// Every module of the source tree, and whether this build has it.
        pub const KNOWN: &[(&str, bool)] = &[ $( (stringify!($file), cfg!(feature = $feature)), )* ];

        /// The modules of this build.
        pub const LIST: &[Info] = &[ $( #[cfg(feature = $feature)] Info {
            name: stringify!($file), xeps: $file::$type::XEPS, tables: $file::$type::TABLES,
        }, )* ];

        impl Modules {
            /// Makes all that are on.
            pub fn new(config: &Config) -> Self {
                Self {
                    $( #[cfg(feature = $feature)] $file: (!config.general.is_off(stringify!($file)))
                        .then(|| $file::$type::new(config.$file.clone())), )*
                    off: OffHosts::new(&config.general),
                }
            }

            /// Takes over a changed configuration. A module keeps what it knows of sessions.
            pub fn reconfigure(&mut self, config: &Config) {
                self.off = OffHosts::new(&config.general);
                $( #[cfg(feature = $feature)] match &mut self.$file {
                    slot if config.general.is_off(stringify!($file)) => *slot = None,
                    Some(m) => m.reconfigure(config.$file.clone()),
                    slot => *slot = Some($file::$type::new(config.$file.clone())),
                } )*
            }

            /// Every module says what others must know.
            pub fn settle(&self, settings: &mut Settings) {
                $( #[cfg(feature = $feature)] if let Some(m) = &self.$file { m.settle(settings); } )*
            }

            /// Collects what is said of a host and its accounts.
            pub fn disco(&self, settings: &Settings, host: &str, disco: &mut Disco) {
                let on = self.off.on(|| host);
                $( #[cfg(feature = $feature)] if let Some(m) = &self.$file && on.has(Place::$file) {
                    disco.host.features.extend($file::$type::HOST_FEATURES);
                    disco.account.features.extend($file::$type::ACCOUNT_FEATURES);
                    m.disco(settings, host, disco);
                } )*
            }

            /// Features of a stream whose client has logged in.
            pub fn features(&self, core: &Core, host: &str) -> Vec<Element> {
                let mut out = Vec::new();
                let on = self.off.on(|| host);
                $( #[cfg(feature = $feature)] if let Some(m) = &self.$file && on.has(Place::$file) {
                    m.features(core, host, &mut out);
                } )*
                out
            }

            /// Features that a client can ask for while it binds.
            pub fn bind_features(&self, host: &str) -> Vec<&'static str> {
                let mut out = Vec::new();
                let on = self.off.on(|| host);
                $( #[cfg(feature = $feature)] if self.$file.is_some() && on.has(Place::$file) {
                    out.extend($file::$type::BIND_FEATURES);
                } )*
                out
            }

            /// Every module hears of it.
            pub fn bind(&mut self, core: &mut Core, id: SessionId, request: ElementRef<'_>, bound: &mut Builder) {
                let on = self.off.on(|| host_of_session(core, id));
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file && on.has(Place::$file) {
                    m.bind(core, id, request, bound);
                } )*
            }

            /// True when one of the modules knows the element.
            pub fn nonza(&mut self, core: &mut Core, id: SessionId, element: ElementRef<'_>) -> bool {
                let on = self.off.on(|| host_of_session(core, id));
                $( #[cfg(feature = $feature)]
                if let Some(m) = &mut self.$file && on.has(Place::$file) && m.nonza(core, id, element) {
                    return true;
                } )*
                false
            }

            /// The first module by which it can wait decides.
            pub fn urgency(&mut self, core: &mut Core, stanza: &Stanza) -> Urgency {
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file {
                    match m.urgency(core, stanza) { Urgency::Now => {} waits => return waits }
                } )*
                Urgency::Now
            }

            /// Features of a stream whose client could log in and has not.
            pub fn offers(&self, core: &mut Core, host: &str) -> Vec<Element> {
                let mut out = Vec::new();
                let on = self.off.on(|| host);
                $( #[cfg(feature = $feature)] if let Some(m) = &self.$file && on.has(Place::$file) {
                    m.offers(core, host, &mut out);
                } )*
                out
            }

            /// The answer of the first module that has one for somebody who has not logged in.
            pub fn stranger(&mut self, core: &mut Core, request: &Stranger<'_>, visit: &mut Visit)
                -> Result<Answer, StanzaError>
            {
                let on = self.off.on(|| request.host.domain());
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file && on.has(Place::$file) {
                    match m.stranger(core, request, visit)? { Answer::NotMine => {} answer => return Ok(answer) }
                } )*
                Err(Condition::ServiceUnavailable.into())
            }

            /// The answer of the first module that has the request's route and answers; none when there is none.
            pub fn iq(&mut self, core: &mut Core, scope: Scope, request: &Request<'_>)
                -> Option<Result<Answer, StanzaError>>
            {
                let is = |r: &IqRoute| r.0 == scope && request.child.is(r.1, r.2);
                let on = self.off.on(|| request.owner.domain());
                $( #[cfg(feature = $feature)]
                if let Some(m) = &mut self.$file && on.has(Place::$file) && $file::$type::IQ.iter().any(is) {
                    match m.iq(core, request) { Ok(Answer::NotMine) => {} answer => return Some(answer) }
                } )*
                None
            }

            /// The answer of the module whose command it is.
            #[cfg(feature = "commands")]
            pub fn command(&mut self, core: &mut Core, call: &Call) -> Result<Answer, StanzaError> {
                let on = self.off.on(|| call.host.domain());
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file && on.has(Place::$file) {
                    match m.command(core, call)? { Answer::NotMine => {} answer => return Ok(answer) }
                } )*
                Err(Condition::ItemNotFound.into())
            }

            /// Every module hears of it.
            pub fn done(&mut self, core: &mut Core, request: &Request<'_>) -> Result<(), StanzaError> {
                let on = self.off.on(|| request.owner.domain());
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file && on.has(Place::$file) {
                    m.done(core, request)?;
                } )*
                Ok(())
            }

            /// Every module hears of it.
            pub fn answered(&mut self, core: &mut Core, stanza: &Stanza) -> Result<(), StanzaError> {
                let on = self.off.on(|| host_of(stanza.to.as_ref()));
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file && on.has(Place::$file) {
                    m.answered(core, stanza)?;
                } )*
                Ok(())
            }

            /// Every module hears of it.
            pub fn contact(&mut self, core: &mut Core, account: &Jid, stanza: &Stanza) -> Result<(), StanzaError> {
                let on = self.off.on(|| account.domain());
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file && on.has(Place::$file) {
                    m.contact(core, account, stanza)?;
                } )*
                Ok(())
            }

            /// True when one of the modules has expected it.
            pub fn told(&mut self, core: &mut Core, stanza: &Stanza) -> Result<bool, StanzaError> {
                let on = self.off.on(|| host_of(stanza.to.as_ref()));
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file && on.has(Place::$file)
                    && m.told(core, stanza)?
                {
                    return Ok(true);
                } )*
                Ok(false)
            }

            /// The first moment that a module waits for.
            pub fn due_ms(&self, core: &Core) -> Option<u64> {
                let mut first = None::<u64>;
                $( #[cfg(feature = $feature)]
                if let Some(due) = self.$file.as_ref().and_then(|m| m.due_ms(core)) {
                    first = Some(first.map_or(due, |first| first.min(due)));
                } )*
                first
            }

            /// Every module looks whether its time has come.
            pub fn due(&mut self, core: &mut Core) -> Result<(), StanzaError> {
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file
                    && m.due_ms(core).is_some_and(|due| due <= core.now.mono_ms)
                {
                    m.due(core)?;
                } )*
                Ok(())
            }

            /// Every module may change it.
            pub fn presence(&mut self, core: &mut Core, stanza: &mut Stanza) -> Result<(), StanzaError> {
                let on = self.off.on(|| host_of(stanza.from.as_ref()));
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file && on.has(Place::$file) {
                    m.presence(core, stanza)?;
                } )*
                Ok(())
            }

            /// The first module that does not let the stanza pass decides.
            pub fn filter_out(&mut self, core: &mut Core, flight: &mut InFlight) -> Result<Flow, StanzaError> {
                let on = self.off.on(|| host_of(flight.stanza.from.as_ref()));
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file && on.has(Place::$file) {
                    match m.filter_out(core, flight)? { Flow::Pass => {} decided => return Ok(decided) }
                } )*
                Ok(Flow::Pass)
            }

            /// The first module that does not let the stanza pass decides.
            pub fn filter_in(&mut self, core: &mut Core, flight: &mut InFlight) -> Result<Flow, StanzaError> {
                let on = self.off.on(|| host_of(flight.stanza.to.as_ref()));
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file && on.has(Place::$file) {
                    match m.filter_in(core, flight)? { Flow::Pass => {} decided => return Ok(decided) }
                } )*
                Ok(Flow::Pass)
            }

            /// The first module that does not let the stanza pass decides.
            pub fn filter_service(&mut self, core: &mut Core, flight: &mut InFlight) -> Result<Flow, StanzaError> {
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file {
                    match m.filter_service(core, flight)? { Flow::Pass => {} decided => return Ok(decided) }
                } )*
                Ok(Flow::Pass)
            }

            /// Every module may archive.
            pub fn archive(&mut self, core: &mut Core, dir: Dir, flight: &mut InFlight) -> Result<(), StanzaError> {
                let on = self.off.on(|| host_that_way(dir, &flight.stanza));
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file && on.has(Place::$file) {
                    m.archive(core, dir, flight)?;
                } )*
                Ok(())
            }

            /// Every module may copy.
            pub fn copy(&mut self, core: &mut Core, dir: Dir, flight: &InFlight, reached: &[SessionId]) {
                let on = self.off.on(|| host_that_way(dir, &flight.stanza));
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file && on.has(Place::$file) {
                    m.copy(core, dir, flight, reached);
                } )*
            }

            /// Whether any module is to hear more of a session.
            pub fn watches(&self, id: SessionId) -> bool {
                $( #[cfg(feature = $feature)] if self.$file.as_ref().is_some_and(|m| m.watches(id)) {
                    return true;
                } )*
                false
            }

            /// Every module hears of it that watches the session.
            pub fn deliver(&mut self, core: &mut Core, id: SessionId, message: &Stanza) {
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file && m.watches(id) {
                    m.deliver(core, id, message);
                } )*
            }

            /// Every module hears of it that watches the session.
            pub fn unseen(&mut self, core: &mut Core, id: SessionId, messages: &[Stanza]) {
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file && m.watches(id) {
                    m.unseen(core, id, messages);
                } )*
            }

            /// Whether any module wants to hear what absent members of rooms miss.
            pub fn hears_missed(&self) -> bool {
                $( #[cfg(feature = $feature)] if $file::$type::HEARS_MISSED && self.$file.is_some() {
                    return true;
                } )*
                false
            }

            /// Every module hears of it.
            pub fn missed(&mut self, core: &mut Core, account: &Jid, message: &Stanza) {
                let on = self.off.on(|| account.domain());
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file && on.has(Place::$file) {
                    m.missed(core, account, message);
                } )*
            }

            /// The first module that takes it decides.
            pub fn undelivered(&mut self, core: &mut Core, flight: &InFlight) -> Result<Undelivered, StanzaError> {
                let on = self.off.on(|| host_of(flight.stanza.to.as_ref()));
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file && on.has(Place::$file) {
                    match m.undelivered(core, flight)? { Undelivered::NotMine => {} decided => return Ok(decided) }
                } )*
                Ok(Undelivered::NotMine)
            }

            /// Hands a stanza for a service to the module that runs it; none when no module does.
            pub fn service(&mut self, core: &mut Core, flight: &InFlight, to: &Jid)
                -> Option<Result<(), StanzaError>>
            {
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file && m.owns(core, to.domain()) {
                    return Some(m.service(core, flight, to));
                } )*
                None
            }

            /// True when a module knows the endpoint.
            #[cfg(feature = "http")]
            pub fn brought(&mut self, core: &mut Core, conn: ConnId, endpoint: &Endpoint, content: &[u8]) -> bool {
                let on = self.off.on(|| endpoint.to.domain());
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file && on.has(Place::$file)
                    && m.brought(core, conn, endpoint, content)
                {
                    return true;
                } )*
                false
            }

            /// Every module hears of it.
            pub fn withdrawn(&mut self, core: &mut Core) {
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file { m.withdrawn(core); } )*
            }

            /// Every module hears of it; of the end also one that is off for the host.
            pub fn session(&mut self, core: &mut Core, id: SessionId, event: SessionEvent) -> Result<(), StanzaError> {
                let ends = event == SessionEvent::Closed;
                let on = if ends { On::ALL } else { self.off.on(|| host_of_session(core, id)) };
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file && on.has(Place::$file) {
                    m.session(core, id, event)?;
                } )*
                Ok(())
            }

            /// What all modules hold.
            pub fn held_bytes(&self) -> usize {
                let mut bytes = 0;
                $( #[cfg(feature = $feature)] if let Some(m) = &self.$file { bytes += m.held_bytes(); } )*
                bytes
            }

            /// What each of them holds.
            pub fn held_bytes_each(&self) -> Vec<(&'static str, usize)> {
                vec![ $( #[cfg(feature = $feature)]
                    (stringify!($file), self.$file.as_ref().map_or(0, Module::held_bytes)), )* ]
            }

            /// Every module gives up something.
            pub fn make_room(&mut self, core: &mut Core) -> Result<(), StoreError> {
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file { m.make_room(core)?; } )*
                Ok(())
            }

            /// What modules know of a session.
            pub fn session_state(&mut self, core: &mut Core, id: SessionId, before: &State, unseen: &[Jid]) -> State {
                let mut all = State::new();
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file {
                    let name = stringify!($file);
                    all.push((name.to_string(), m.session_state(core, id, state_of(before, name), unseen)));
                } )*
                all.retain(|(_, state)| !state.is_empty());
                all
            }

            /// Gives it back to them.
            pub fn restore_session(&mut self, core: &mut Core, id: SessionId, all: &State) -> Result<(), StoreError> {
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file {
                    m.restore_session(core, id, state_of(all, stringify!($file)))?;
                } )*
                Ok(())
            }

            /// Every module hears of it.
            pub fn revived(&mut self, core: &mut Core, id: SessionId, all: &State) -> Result<(), StanzaError> {
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file {
                    m.revived(core, id, state_of(all, stringify!($file)))?;
                } )*
                Ok(())
            }

            /// Every module hears of it.
            pub fn registered(&mut self, core: &mut Core, newcomer: &Newcomer) -> Result<(), StanzaError> {
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file { m.registered(core, newcomer)?; } )*
                Ok(())
            }

            /// Every module hears of it.
            pub fn password_changed(&mut self, core: &mut Core, account: &Jid) -> Result<(), StanzaError> {
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file {
                    m.password_changed(core, account)?;
                } )*
                Ok(())
            }

            /// The first module takes it whose it is.
            #[cfg(feature = "import")]
            pub fn take_in(&mut self, core: &mut Core, owner: &Jid, piece: &Piece, terms: &mut Terms) -> Outcome {
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file {
                    match m.take_in(core, owner, piece, terms)? { Taken::NotMine => {} taken => return Ok(taken) }
                } )*
                Ok(Taken::NotMine)
            }

            /// Every module gives what it has.
            #[cfg(feature = "import")]
            pub fn give_out(&mut self, core: &mut Core, owner: &Jid, to: &mut dyn FnMut(Piece))
                -> Result<(), StoreError>
            {
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file { m.give_out(core, owner, to)?; } )*
                Ok(())
            }

            /// Every module hears of it.
            pub fn account_deleted(&mut self, core: &mut Core, account: &Jid) -> Result<(), StanzaError> {
                $( #[cfg(feature = $feature)] if let Some(m) = &mut self.$file {
                    m.account_deleted(core, account)?;
                } )*
                Ok(())
            }
        }
    };
}

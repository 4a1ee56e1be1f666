//! The part of a client stream up to resource binding: what may be said when, and the answers.

mod login;

#[cfg(feature = "compression")]
use std::borrow::Cow;
use std::mem;
use std::rc::Rc;

use super::c2s::{Event, Options, StreamCx};
#[cfg(feature = "compression")]
use super::compression;
use super::profile::{self, Request};
use super::sasl::Known;
use super::sasl::{
    self, AwaitKeys, AwaitResponse, AwaitTokens, AwaitVerdict, Bindings, Failure, Mechanism, SaslCx, ScramKeys, Step,
};
use super::{StreamError, TlsFacts, features, header, management, sasl2};
use crate::budget::allocated;
use crate::jid::{self, Jid};
use crate::limits::Limits;
use crate::stanza::{self, Condition, IqType, Kind, Stanza, StanzaError};
use crate::xml::{Element, ElementRef, ReadError, ScanError, StreamHeader, ns, write_attribute};

/// What is needed until a resource is bound.
pub(super) struct Negotiation {
    options: Options,
    state: State,
    /// To be handed out next.
    event: Option<Event>,
    secured: bool,
    bindings: Bindings,
    failures: u32,
    /// Whom the client says to be, since its last `<auth/>`.
    tried: Option<String>,
    /// Questions about registration so far.
    questions: u32,
    /// The last word of SASL was in the elements of XEP-0388, not in those of RFC 6120.
    is_sasl2: bool,
    /// A login with SASL2 that is under way.
    login: Option<Box<login::Login>>,
    /// One has come as far as its tasks: there is no other on this stream (XEP-0388 section 5.8).
    continued: bool,
    #[cfg(feature = "compression")]
    compressed: bool,
    /// Bare address in the client's header.
    from: Option<Jid>,
    /// Our header has been sent on the present stream.
    pub header_sent: bool,
    /// Of the last header.
    pub host: Option<String>,
    /// Whoever has logged in.
    pub user: Option<String>,
}

enum State {
    /// The client must send a header.
    Header,
    /// TLS is being started.
    Tls,
    /// The client may start TLS or log in.
    Strange,
    /// In SASL, in the hands of the client.
    Response(AwaitResponse),
    /// In SASL, in the hands of the engine.
    Keys(AwaitKeys),
    /// In SASL, in the hands of the engine.
    Tokens(AwaitTokens),
    /// In SASL, in the hands of the hashing thread.
    Verdict(AwaitVerdict),
    /// In a task of SASL2, in the hands of the client. The salt, once it has been told.
    Task(Option<Vec<u8>>),
    /// The engine must store what a login changes.
    Admitting,
    /// The engine must say which features there are.
    Features,
    /// The engine must answer a question about registration.
    Asking,
    /// The client must bind a resource.
    Unbound,
    /// The engine must answer the request with this id.
    Binding(String),
    /// The engine must answer the request that came with the login.
    BindingInline,
    /// The engine must say whether a session is resumed (XEP-0198 section 5).
    Resuming,
    /// The engine must say whether there is room to compress (XEP-0138).
    #[cfg(feature = "compression")]
    Compressing,
}

/// The client will send a new header next.
pub(super) struct NewStream;

/// Why there is nothing more to handle.
pub(super) enum Stop {
    /// Not yet: a frame is incomplete or a question is open.
    Incomplete,
    /// The stream has come to its end without an error.
    Over,
    /// The stream is broken.
    Error(StreamError, Option<&'static str>),
}

impl Negotiation {
    pub(super) fn new(options: Options) -> Self {
        Self {
            options,
            state: State::Header,
            event: None,
            secured: options.direct_tls,
            bindings: Bindings::none(),
            failures: 0,
            tried: None,
            questions: 0,
            is_sasl2: false,
            login: None,
            continued: false,
            #[cfg(feature = "compression")]
            compressed: false,
            from: None,
            header_sent: false,
            host: None,
            user: None,
        }
    }

    pub(super) fn take_event(&mut self) -> Option<Event> {
        self.event.take()
    }

    /// True when there is no further try.
    pub(super) fn has_failed(&self, limits: &Limits) -> bool {
        self.user.is_none() && self.failures >= limits.sasl_tries_max
    }

    /// True while a question is open and input waits.
    pub(super) fn is_asking(&self) -> bool {
        match self.state {
            State::Tls | State::Keys(_) | State::Tokens(_) | State::Verdict(_) | State::Admitting => true,
            State::Features | State::Asking | State::Binding(_) | State::BindingInline | State::Resuming => true,
            State::Header | State::Strange | State::Response(_) | State::Task(_) | State::Unbound => false,
            #[cfg(feature = "compression")]
            State::Compressing => true,
        }
    }

    /// True between `<proceed/>` and the word that TLS stands.
    pub(super) fn awaits_tls(&self) -> bool {
        matches!(self.state, State::Tls)
    }

    /// Looks at how much input waits for an answer to a question.
    pub(super) fn may_wait(&self, bytes: usize, limits: &Limits) -> Result<(), Stop> {
        let bytes_max = if self.user.is_some() { limits.stanza_bytes_max } else { limits.stanza_bytes_max_before_auth };
        match self.state {
            State::Tls if bytes > 0 => Err(behind_starttls()),
            _ if bytes > bytes_max as usize => {
                Err(Stop::Error(StreamError::PolicyViolation, Some("more bytes than may wait for an answer")))
            }
            _ => Ok(()),
        }
    }

    /// Bytes held on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let login = self.login.as_ref().map_or(0, |login| login.heap_bytes());
        let from = self.from.as_ref().map_or(0, Jid::heap_bytes);
        let text = |text: &Option<String>| text.as_ref().map_or(0, |text| allocated(text.capacity()));
        text(&self.host) + text(&self.user) + login + from
    }

    /// The client has opened a stream. Returns its language.
    pub(super) fn opened(
        &mut self,
        header: &StreamHeader,
        output: &mut Vec<u8>,
        cx: &mut StreamCx<'_>,
    ) -> Result<Option<Rc<str>>, Stop> {
        let opened = header::check(header, cx.hosts)?;
        if self.user.is_some() && self.host.as_ref() != Some(&opened.host) {
            return Err(Stop::Error(StreamError::NotAuthorized, Some("the login was for another host")));
        }
        if self.offers_sasl2() && opened.from.as_ref().is_some_and(|from| from.domain() != opened.host) {
            return Err(Stop::Error(
                StreamError::InvalidFrom,
                Some("the address is not of the host that is asked for"),
            ));
        }
        header::write(Some(&opened.host), opened.from.as_ref(), cx.entropy, output);
        self.header_sent = true;
        self.host = Some(opened.host);
        self.from = opened.from.filter(|from| self.offers_sasl2() && from.node().is_some());
        self.state = State::Features;
        self.event = Some(Event::NeedFeatures);
        Ok(opened.lang.map(Rc::from))
    }

    /// The client has sent a first-level element; `more` when bytes follow it.
    pub(super) fn element(
        &mut self,
        element: Element,
        more: bool,
        output: &mut Vec<u8>,
        cx: &mut StreamCx<'_>,
    ) -> Result<Option<NewStream>, Stop> {
        let root = element.root();
        let is_stanza = root.ns() == ns::CLIENT && matches!(root.name(), "message" | "presence" | "iq");
        match (&self.state, root.ns()) {
            (State::Strange, ns::TLS) if root.name() == "starttls" => self.start_tls(more, output).map(|()| None),
            (State::Strange, ns::CLIENT) if is_question(root) && !self.mechanisms().is_empty() => {
                self.questions += 1;
                if self.questions > cx.limits.register_questions_max {
                    return Err(Stop::Error(StreamError::PolicyViolation, Some("too many questions before a login")));
                }
                self.state = State::Asking;
                self.event = Some(Event::Ask(element));
                Ok(None)
            }
            (State::Strange | State::Response(_), ns::SASL) if self.login.is_none() => {
                let done = profile::read(root).map(|request| self.request(request, output, cx));
                element.wipe();
                done.unwrap_or(Err(StreamError::UnsupportedStanzaType.into()))
            }
            (State::Strange | State::Response(_) | State::Task(_), ns::SASL2) if self.expects_sasl2() => {
                let done = sasl2::read(root, cx.limits).map(|request| self.sasl2(request, output, cx));
                element.wipe();
                done.unwrap_or(Err(StreamError::UnsupportedStanzaType.into()))
            }
            (State::Unbound, ns::CLIENT) if root.name() == "iq" && root.has_child(ns::BIND, "bind") => {
                self.bind(root, output);
                Ok(None)
            }
            #[cfg(feature = "compression")]
            (State::Unbound, ns::COMPRESS) if root.name() == "compress" => {
                self.compress(root, more, output).map(|()| None)
            }
            (State::Unbound, ns::SM) => self.manage(root, output).map(|()| None),
            (State::Unbound, other) if !matches!(other, ns::CLIENT | ns::STREAM | ns::SASL | ns::SASL2 | ns::TLS) => {
                self.event = Some(Event::Element(element));
                Ok(None)
            }
            _ if is_stanza => Err(StreamError::NotAuthorized.into()),
            _ => Err(StreamError::UnsupportedStanzaType.into()),
        }
    }

    /// The client wants to compress (XEP-0138 section 3).
    #[cfg(feature = "compression")]
    fn compress(&mut self, root: ElementRef<'_>, more: bool, output: &mut Vec<u8>) -> Result<(), Stop> {
        let methods = compression::read(root).unwrap_or_default();
        match compression::refusal(&methods, self.may_compress()) {
            Some(why) => compression::write_failure(why, output),
            None if more => {
                return Err(Stop::Error(StreamError::PolicyViolation, Some("bytes behind the request to compress")));
            }
            None => {
                self.state = State::Compressing;
                self.event = Some(Event::Compress);
            }
        }
        Ok(())
    }

    #[cfg(feature = "compression")]
    pub(super) fn compressed(&mut self, room: bool, output: &mut Vec<u8>) -> Option<NewStream> {
        if !matches!(self.state, State::Compressing) {
            return None;
        }
        if !room {
            self.state = State::Unbound;
            compression::write_failure(compression::SETUP_FAILED, output);
            return None;
        }
        self.compressed = true;
        compression::write_compressed(output);
        Some(self.new_stream())
    }

    #[cfg(feature = "compression")]
    fn may_compress(&self) -> bool {
        self.options.compression && !self.compressed
    }

    /// Features of a stream whose client has logged in.
    #[cfg(feature = "compression")]
    pub(super) fn with_compression<'a>(&self, features: &'a [Element]) -> Cow<'a, [Element]> {
        if !self.may_compress() {
            return Cow::Borrowed(features);
        }
        features.iter().cloned().chain([compression::offer()]).collect()
    }

    /// At the begin of a login with SASL2, and in the middle of one.
    fn expects_sasl2(&self) -> bool {
        if matches!(self.state, State::Strange) { self.offers_sasl2() } else { self.login.is_some() }
    }

    fn may_start_tls(&self) -> bool {
        self.options.starttls && !self.secured
    }

    fn start_tls(&mut self, more: bool, output: &mut Vec<u8>) -> Result<(), Stop> {
        let answer = if self.may_start_tls() { "<proceed" } else { "<failure" };
        if self.may_start_tls() && more {
            return Err(behind_starttls());
        }
        output.extend_from_slice(answer.as_bytes());
        write_attribute("xmlns", ns::TLS, output);
        output.extend_from_slice(b"/>");
        if !self.may_start_tls() {
            return Err(Stop::Over);
        }
        self.state = State::Tls;
        self.event = Some(Event::StartTls);
        Ok(())
    }

    /// TLS stands.
    pub(super) fn facts(&mut self, facts: &TlsFacts) -> Option<NewStream> {
        match self.state {
            State::Tls => {
                self.secured = true;
                self.bindings = Bindings::new(facts);
                Some(self.new_stream())
            }
            State::Header if self.options.direct_tls => {
                self.bindings = Bindings::new(facts);
                None
            }
            _ => None,
        }
    }

    fn new_stream(&mut self) -> NewStream {
        self.header_sent = false;
        self.state = State::Header;
        NewStream
    }

    /// What may be used to log in as things stand.
    fn mechanisms(&self) -> Vec<Mechanism> {
        if self.options.encryption_required && !self.secured {
            return Vec::new();
        }
        let allowed = |m: &Mechanism| match m {
            Mechanism::Plain => self.secured && self.options.plain_allowed,
            m => !m.binds_channel() || !self.bindings.is_empty(),
        };
        Mechanism::ALL.into_iter().filter(allowed).collect()
    }

    fn mechanism(&self, name: &str) -> Result<Mechanism, Failure> {
        let known = Mechanism::from_name(name);
        if !self.secured && (self.options.encryption_required || known == Some(Mechanism::Plain)) {
            return Err(Failure::EncryptionRequired);
        }
        known.filter(|m| self.mechanisms().contains(m)).ok_or(Failure::InvalidMechanism)
    }

    /// The client has sent an element of SASL.
    fn request(
        &mut self,
        request: Result<Request<'_>, Failure>,
        output: &mut Vec<u8>,
        cx: &mut StreamCx<'_>,
    ) -> Result<Option<NewStream>, Stop> {
        self.is_sasl2 = false;
        let step = match (mem::replace(&mut self.state, State::Strange), request) {
            (_, Err(failure)) => Step::Fail(failure),
            (_, Ok(Request::Abort)) => Step::Fail(Failure::Aborted),
            (State::Strange, Ok(Request::Auth { mechanism, initial })) => match self.mechanism(mechanism) {
                Ok(mechanism) => sasl::start(mechanism, initial.as_ref().map(|m| m.as_slice()), &self.sasl_cx(cx)),
                Err(failure) => Step::Fail(failure),
            },
            (State::Response(waiting), Ok(Request::Response(message))) => waiting.response(&message, &self.sasl_cx(cx)),
            // Out of turn.
            _ => Step::Fail(Failure::MalformedRequest),
        };
        self.step(step, output)
    }

    pub(super) fn keys(
        &mut self,
        known: Known,
        output: &mut Vec<u8>,
        cx: &mut StreamCx<'_>,
    ) -> Result<Option<NewStream>, Stop> {
        match mem::replace(&mut self.state, State::Strange) {
            State::Keys(waiting) => {
                self.look_at_keys(known.keys.as_ref());
                let step = waiting.keys(known, &mut self.sasl_cx(cx));
                self.step(step, output)
            }
            other => self.stay(other),
        }
    }

    pub(super) fn verified(
        &mut self,
        right: bool,
        keys: Option<ScramKeys>,
        output: &mut Vec<u8>,
    ) -> Result<Option<NewStream>, Stop> {
        match mem::replace(&mut self.state, State::Strange) {
            State::Verdict(waiting) => {
                let keys = self.keep_keys(keys);
                let new_stream = self.step(waiting.verdict(right), output);
                if let Some(Event::Authenticated { keys: new, .. }) = &mut self.event {
                    *new = keys.map(Box::new);
                }
                new_stream
            }
            other => self.stay(other),
        }
    }

    pub(super) fn refuse_login(&mut self, failure: Failure, output: &mut Vec<u8>) -> Result<Option<NewStream>, Stop> {
        match mem::replace(&mut self.state, State::Strange) {
            State::Keys(_) | State::Tokens(_) | State::Verdict(_) | State::Admitting => {
                self.step(Step::Fail(failure), output)
            }
            other => self.stay(other),
        }
    }

    /// An answer that nobody asked for changes nothing.
    fn stay(&mut self, state: State) -> Result<Option<NewStream>, Stop> {
        self.state = state;
        Ok(None)
    }

    fn sasl_cx<'a>(&'a self, cx: &'a mut StreamCx<'_>) -> SaslCx<'a> {
        SaslCx {
            host: self.host.as_deref().unwrap_or_default(),
            bindings: &self.bindings,
            from: self.from.as_ref().filter(|_| self.login.is_some()),
            offered: self.mechanisms(),
            iterations: self.options.iterations,
            secret: cx.secret,
            entropy: cx.entropy,
        }
    }

    /// Does what a mechanism asks for.
    fn step(&mut self, step: Step, output: &mut Vec<u8>) -> Result<Option<NewStream>, Stop> {
        match step {
            Step::Challenge(waiting, message) => {
                match self.is_sasl2 {
                    true => sasl2::write_challenge(&message, output),
                    false => profile::write_challenge(&message, output),
                }
                self.state = State::Response(waiting);
            }
            Step::NeedKeys(waiting, user) => {
                self.state = State::Keys(waiting);
                self.tried = Some(user.clone());
                self.event = Some(Event::NeedKeys { user });
            }
            Step::NeedTokens(waiting, user) => {
                self.state = State::Tokens(waiting);
                self.tried = Some(user.clone());
                self.event = Some(Event::NeedTokens { user, client: self.client_id().unwrap_or_default() });
            }
            Step::Verify(waiting, password, work) => {
                self.state = State::Verdict(waiting);
                self.event = Some(Event::Hash { password, work });
            }
            Step::Done { user, data } if self.login.is_some() => self.proven(user, data, output),
            Step::Done { user, data } => {
                profile::write_success(data.as_deref(), output);
                self.user = Some(user.clone());
                self.event = Some(Event::Authenticated { user, keys: None });
                return Ok(Some(self.new_stream()));
            }
            Step::Fail(failure) => {
                self.login = None;
                match self.is_sasl2 {
                    true => sasl2::write_failure(failure, output),
                    false => profile::write_failure(failure, output),
                }
                self.state = State::Strange;
                self.failures += 1;
                let user = self.tried.take();
                if failure == Failure::NotAuthorized {
                    self.event = Some(Event::Refused { user });
                }
            }
        }
        Ok(None)
    }

    pub(super) fn features(&mut self, extra: &[Element], output: &mut Vec<u8>, cx: &StreamCx<'_>) {
        if !matches!(self.state, State::Features) {
            return;
        }
        if self.user.is_some() {
            self.state = State::Unbound;
            #[cfg(feature = "compression")]
            let extra = &self.with_compression(extra)[..];
            return features::write_after_auth(extra, cx.limits.stanza_bytes_max, output);
        }
        self.state = State::Strange;
        let mechanisms = self.mechanisms();
        let bind = (cx.bind_features)(self.host.as_deref().unwrap_or_default());
        let features = features::BeforeAuth {
            starttls: self.may_start_tls().then_some(self.options.encryption_required),
            // What leads to a login is there where a login is.
            extra: if mechanisms.is_empty() { &[] } else { extra },
            mechanisms: &mechanisms,
            inline: self.offers_sasl2().then(|| features::Inline { tokens: self.token_mechanisms(), bind: &bind }),
            bindings: &self.bindings,
            bytes_max: cx.limits.stanza_bytes_max_before_auth,
        };
        features.write(output);
    }

    pub(super) fn asked(&mut self, answer: &Stanza, output: &mut Vec<u8>) {
        if matches!(self.state, State::Asking) {
            write(answer, output);
            self.state = State::Strange;
        }
    }

    /// The client wants a resource (section 7).
    fn bind(&mut self, iq: ElementRef<'_>, output: &mut Vec<u8>) {
        let wanted = iq.child(ns::BIND, "bind").and_then(|b| b.child(ns::BIND, "resource")).map(|r| r.text());
        let resource = wanted.filter(|r| !r.is_empty()).map(|r| jid::prepare_resource(&r)).transpose();
        match (iq.attr("id"), iq.attr("type"), resource) {
            (Some(id), Some("set"), Ok(resource)) => {
                self.state = State::Binding(id.to_owned());
                self.event = Some(Event::Bind { resource });
            }
            (id, _, _) => write_error(id, &Condition::BadRequest.into(), output),
        }
    }

    /// The client wants its former session, or to enable what needs one (XEP-0198 sections 3 and 5).
    fn manage(&mut self, root: ElementRef<'_>, output: &mut Vec<u8>) -> Result<(), Stop> {
        match management::read(root) {
            Some(Ok(management::Request::Resume { previd, h })) => {
                self.state = State::Resuming;
                self.event = Some(Event::Resume { previd, h });
            }
            Some(Ok(management::Request::Enable { .. })) => {
                management::write_failed(Condition::UnexpectedRequest, None, output);
            }
            Some(Err(condition)) if root.name() == "resume" => management::write_failed(condition, None, output),
            _ => return Err(StreamError::UnsupportedStanzaType.into()),
        }
        Ok(())
    }

    /// True when that was the answer to a question.
    pub(super) fn resumed(&mut self, jid: &Jid, previd: &str, h: u64, output: &mut Vec<u8>) -> bool {
        let asked = matches!(self.state, State::Resuming);
        match &self.login {
            Some(_) if asked => self.resumed_inline(jid, previd, h, output),
            None if asked => management::write_resumed(previd, h, output),
            _ => {}
        }
        asked
    }

    pub(super) fn refuse_resume(&mut self, condition: Condition, h: Option<u64>, output: &mut Vec<u8>) {
        match (&self.state, &self.login) {
            (State::Resuming, Some(_)) => self.refuse_resume_inline(condition, h, output),
            (State::Resuming, None) => {
                management::write_failed(condition, h, output);
                self.state = State::Unbound;
            }
            _ => {}
        }
    }

    /// True when that was the answer to a question.
    pub(super) fn bound(&mut self, jid: &Jid, output: &mut Vec<u8>) -> bool {
        let State::Binding(id) = &self.state else { return false };
        let result = Stanza::build(Kind::Iq(IqType::Result), |b| {
            b.open(ns::BIND, "bind").leaf(ns::BIND, "jid", jid.as_str());
        });
        write(&result.with_id(id), output);
        true
    }

    pub(super) fn refuse_bind(&mut self, error: &StanzaError, output: &mut Vec<u8>) {
        if let State::Binding(id) = &self.state {
            write_error(Some(id), error, output);
            self.state = State::Unbound;
        }
    }
}

/// Whether a stanza is a request about registration (XEP-0077, XEP-0445).
fn is_question(stanza: ElementRef<'_>) -> bool {
    stanza.name() == "iq"
        && matches!(stanza.attr("type"), Some("get" | "set"))
        && stanza.children().next().is_some_and(|child| matches!(child.ns(), ns::REGISTER | ns::PRE_AUTHENTICATION))
}

/// What stands behind `<starttls/>` in plain would be taken for something said under TLS.
fn behind_starttls() -> Stop {
    Stop::Error(StreamError::PolicyViolation, Some("bytes in plain behind starttls"))
}

fn write_error(id: Option<&str>, error: &StanzaError, output: &mut Vec<u8>) {
    let mut stanza = Stanza::build(Kind::Iq(IqType::Error), |b| error.build(b));
    stanza.id = id.map(Rc::from);
    write(&stanza, output);
}

fn write(stanza: &Stanza, output: &mut Vec<u8>) {
    stanza::write_head(stanza.kind, stanza.to.as_ref(), output);
    stanza.write_tail(output);
}

impl From<StreamError> for Stop {
    fn from(error: StreamError) -> Self {
        Self::Error(error, None)
    }
}

impl From<ScanError> for Stop {
    fn from(error: ScanError) -> Self {
        let (error, text) = StreamError::of_scan(error);
        Self::Error(error, text)
    }
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        let (error, text) = StreamError::of_read(error);
        Self::Error(error, text)
    }
}

//! Negotiation of a client stream (RFC 6120 sections 4 to 7), and its framing afterwards.
//!
//! Bytes go in with [`C2s::feed`], events come out of [`C2s::next`], what is to be sent out of [`C2s::take_output`].
//! An event that asks a question stops the machine until the engine has answered it; meanwhile bytes wait. The order
//! of things on the happy path:
//!
//! ```text
//! client              machine              engine
//! header           -> header               NeedFeatures    -> features
//!                     features
//! starttls         -> proceed              StartTls        -> facts
//! header           -> header               NeedFeatures    -> features
//!                     features
//! (iq              ->                      Ask             -> asked, to register an account)
//!                     result
//! auth             ->                      NeedKeys        -> keys
//!                     challenge
//! response         ->                      (Hash           -> verified, for PLAIN)
//!                     success              Authenticated
//! header           -> header               NeedFeatures    -> features
//!                     features
//! iq with bind     ->                      Bind            -> bound
//!                     result
//! ```
//!
//! or, with SASL2 (XEP-0388), which needs no new header:
//!
//! ```text
//! authenticate     ->                      NeedKeys        -> keys (NeedTokens -> tokens, for XEP-0484)
//!                     challenge
//! response         ->                      Admit           -> admitted
//!                                          (Resume         -> resumed)
//!                                          BindInline      -> bound_inline
//!                     success, features
//! ```
//!
//! and then
//!
//! ```text
//! stanzas          ->                      Element
//! end of stream    -> end of stream        Closed
//! ```

use std::fmt;
use std::rc::Rc;

use zeroize::Zeroizing;

#[cfg(feature = "compression")]
use super::compression;
use super::framing::Framer;
use super::negotiation::{Negotiation, NewStream, Stop};
use super::sasl::keys::{HashWork, Known};
use super::sasl::{Failure, Ht, ScramKeys, Slot, Tokens};
use super::{IssuedToken, StreamError, TlsFacts, UserAgent, header};
use crate::budget::allocated;
use crate::clock::Entropy;
use crate::fault::{Fault, trip};
use crate::jid::Jid;
use crate::limits::Limits;
use crate::stanza::{Condition, Stanza, StanzaError};
use crate::xml::{Element, FrameKind, Reader, ScanLimits, Template, ns};

/// What a stream offers. Fixed when it begins.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// TLS came first, so [`C2s::facts`] will be called before any byte is fed.
    pub direct_tls: bool,
    /// STARTTLS can be had.
    pub starttls: bool,
    /// No login without TLS.
    pub encryption_required: bool,
    /// PLAIN is offered, under TLS.
    pub plain_allowed: bool,
    /// SASL2 is offered, under TLS.
    pub sasl2: bool,
    /// Tokens of XEP-0484 are offered, with SASL2.
    pub fast: bool,
    /// It can be compressed once the client has logged in (XEP-0138).
    #[cfg(feature = "compression")]
    pub compression: bool,
    /// Iterations of SCRAM that accounts get, and that those are told who ask for the first account.
    pub iterations: u32,
}

/// What the machine uses of its surroundings, for the time of one call.
pub struct StreamCx<'a> {
    /// True for a prepared domain that we serve.
    pub hosts: &'a dyn Fn(&str) -> bool,
    /// Shared by all streams.
    pub reader: &'a mut Reader,
    /// The limits in force.
    pub limits: &'a Limits,
    /// For ids and nonces.
    pub entropy: &'a mut dyn Entropy,
    /// Features that a client of a host can ask for while it binds, beside stream management (XEP-0386 section 3.1).
    pub bind_features: &'a dyn Fn(&str) -> Vec<&'static str>,
    /// See [`super::sasl::SaslCx::secret`].
    pub secret: &'a [u8; 32],
}

/// What the engine must know or do. Output is taken and sent before an event is acted upon.
pub enum Event {
    /// Start TLS behind the output. Answer: [`C2s::facts`].
    StartTls,
    /// The client wants both directions to be compressed (XEP-0138). Answer: [`C2s::compressed`].
    #[cfg(feature = "compression")]
    Compress,
    /// Look up the keys of this prepared localpart at [`C2s::host`]. Answer: [`C2s::keys`] or [`C2s::refuse_login`].
    NeedKeys {
        /// Localpart.
        user: String,
    },
    /// Look up the tokens of this client (XEP-0484). Answer: [`C2s::tokens`] or [`C2s::refuse_login`].
    NeedTokens {
        /// Localpart.
        user: String,
        /// [`UserAgent::id`].
        client: String,
    },
    /// The client is not who it says, and has been told so.
    Refused {
        /// The prepared localpart at [`C2s::host`] that it has tried, where there is one.
        user: Option<String>,
    },
    /// Have a password checked. Answer: [`C2s::verified`] or [`C2s::refuse_login`].
    Hash {
        /// Prepared password.
        password: Zeroizing<String>,
        /// What to check it against.
        work: HashWork,
    },
    /// The client is this user of [`C2s::host`].
    Authenticated {
        /// Localpart.
        user: String,
        /// Better keys, to be stored.
        keys: Option<Box<ScramKeys>>,
    },
    /// The same by SASL2, whose success the client is not told before what it changes is stored. Answer:
    /// [`C2s::admitted`] or [`C2s::refuse_login`].
    Admit(Box<Admission>),
    /// The client wants a resource as part of its login (XEP-0386 section 3.2). Answer: [`C2s::bound_inline`].
    BindInline {
        /// `<bind/>`.
        request: Element,
        /// [`UserAgent::id`].
        client: Option<String>,
    },
    /// Which features are there beyond those of the stream itself, at [`C2s::is_authenticated`]? Answer:
    /// [`C2s::features`].
    NeedFeatures,
    /// A request about registration (XEP-0077) of a client that could log in and has not. Answer: [`C2s::asked`].
    Ask(Element),
    /// The client wants a resource. Answer: [`C2s::bound`] or [`C2s::refuse_bind`].
    Bind {
        /// Prepared; none when the server shall choose.
        resource: Option<String>,
    },
    /// The client wants to go on with a former session (XEP-0198). Answer: [`C2s::resumed`] or [`C2s::refuse_resume`].
    Resume {
        /// Its name.
        previd: String,
        /// Stanzas that the client has handled in it, modulo 2^32.
        h: u32,
    },
    /// A first-level element: any once bound; before that, but behind authentication, any that is neither a stanza nor
    /// of SASL or TLS.
    Element(Element),
    /// The stream is over. The connection is closed behind the output.
    Closed {
        /// What the client was told; none when it closed the stream itself.
        error: Option<StreamError>,
    },
}

/// What a login with SASL2 changes.
pub struct Admission {
    /// Localpart.
    pub user: String,
    /// The client.
    pub agent: UserAgent,
    /// Keys for SCRAM-SHA-256, to be stored.
    pub keys: Option<ScramKeys>,
    /// The client has made them (XEP-0480): it must not be told of success without them.
    pub keys_promised: bool,
    /// The token that was used.
    pub used: Option<Slot>,
    /// How often the client has used it (XEP-0484 section 3.4).
    pub count: Option<u32>,
    /// It must not be used again (section 3.6).
    pub invalidate: bool,
    /// The mechanism that another is wished for.
    pub request_token: Option<Ht>,
}

/// One client stream.
pub struct C2s {
    framer: Framer,
    output: Vec<u8>,
    phase: Phase,
    /// Namespaces of the client's header.
    template: Option<Template>,
    lang: Option<Rc<str>>,
}

enum Phase {
    Negotiating(Box<Negotiation>),
    Bound(Jid),
    /// We have closed our side and wait for the client's.
    Closing,
    /// All is over, but [`Event::Closed`] has not been handed out.
    Ended(Option<StreamError>),
    Closed,
}

const END: &[u8] = b"</stream:stream>";

impl C2s {
    /// A stream on a connection that has just been accepted.
    pub fn new(options: Options, limits: &Limits) -> Self {
        Self {
            framer: Framer::new(ScanLimits::stranger(limits)),
            output: Vec::new(),
            phase: Phase::Negotiating(Box::new(Negotiation::new(options))),
            template: None,
            lang: None,
        }
    }

    /// Takes bytes from the client. Nothing happens to them before [`C2s::next`].
    pub fn feed(&mut self, data: &[u8]) {
        if !matches!(self.phase, Phase::Ended(_) | Phase::Closed) {
            self.framer.feed(data);
        }
    }

    /// Handles what has come in, up to the first thing that concerns the engine. To be called until it returns `None`,
    /// and again after bytes have been fed, a question has been answered, or [`C2s::close`].
    pub fn next(&mut self, cx: &mut StreamCx<'_>) -> Option<Event> {
        loop {
            let waiting = self.framer.waiting_bytes();
            let handled = match &mut self.phase {
                Phase::Closed => return None,
                Phase::Ended(error) => {
                    let error = error.take();
                    self.shut();
                    return Some(Event::Closed { error });
                }
                Phase::Negotiating(n) => match n.take_event() {
                    Some(event) => return Some(event),
                    None if n.has_failed(cx.limits) => {
                        Err(Stop::Error(StreamError::PolicyViolation, Some("too many failed logins")))
                    }
                    None if n.is_asking() => n.may_wait(waiting, cx.limits).and(Err(Stop::Incomplete)),
                    None => self.frame(cx),
                },
                Phase::Bound(_) | Phase::Closing => self.frame(cx),
            };
            match handled {
                Ok(Some(event)) => return Some(event),
                Ok(None) => {}
                Err(Stop::Incomplete) => {
                    // What is said before the end of a login may be a password.
                    if matches!(self.phase, Phase::Negotiating(_)) {
                        self.framer.wipe();
                    }
                    self.framer.compact();
                    return None;
                }
                Err(Stop::Over) => self.finish(),
                Err(Stop::Error(error, text)) => self.end(error, text, cx.entropy),
            }
        }
    }

    /// What is to be sent to the client, in order. Empties it.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Ends the stream with an error (RFC 6120 section 4.9). No event follows; the connection is closed behind the
    /// output.
    pub fn fail(&mut self, error: StreamError, text: Option<&str>, entropy: &mut dyn Entropy) {
        self.end(error, text, entropy);
        self.shut();
    }

    /// As [`C2s::fail`], for a client that acknowledges `h` stanzas when there were but `sent` (XEP-0198 section 6).
    pub fn handled_too_high(&mut self, h: u32, sent: u32) {
        StreamError::write_handled_too_high(h, sent, &mut self.output);
        self.output.extend_from_slice(END);
        self.shut();
    }

    /// As [`C2s::fail`], for a client whose bytes cannot be inflated (XEP-0138 section 3).
    #[cfg(feature = "compression")]
    pub fn processing_failed(&mut self, entropy: &mut dyn Entropy) {
        if let Phase::Negotiating(n) = &self.phase
            && !n.header_sent
        {
            header::write(n.host.as_deref(), None, entropy, &mut self.output);
        }
        StreamError::write_processing_failed(&mut self.output);
        self.output.extend_from_slice(END);
        self.shut();
    }

    /// Closes our side of the stream without an error (section 4.4). [`Event::Closed`] follows when the client has
    /// closed its side; what it sends before that is dropped.
    pub fn close(&mut self) {
        match &self.phase {
            Phase::Negotiating(n) if !n.header_sent => self.phase = Phase::Ended(None),
            Phase::Negotiating(_) | Phase::Bound(_) => {
                self.output.extend_from_slice(END);
                self.phase = Phase::Closing;
            }
            Phase::Closing | Phase::Ended(_) | Phase::Closed => {}
        }
    }

    /// Says that TLS stands: answers [`Event::StartTls`], or comes before all bytes with direct TLS.
    pub fn facts(&mut self, facts: &TlsFacts) {
        trip(Fault::PanicTls);
        if let Phase::Negotiating(n) = &mut self.phase
            && let Some(NewStream) = n.facts(facts)
        {
            self.framer.reset();
        }
    }

    /// Answers [`Event::NeedKeys`].
    pub fn keys(&mut self, known: impl Into<Known>, cx: &mut StreamCx<'_>) {
        let known = known.into();
        self.answer(cx, |n, output, cx| n.keys(known, output, cx));
    }

    /// Answers [`Event::NeedTokens`]; with none when there is no such user, or the client has none.
    pub fn tokens(&mut self, tokens: &Tokens, cx: &mut StreamCx<'_>) {
        self.answer(cx, |n, output, _| n.tokens(tokens, output));
    }

    /// Answers [`Event::Hash`]; `keys` are better ones, if they have been made.
    pub fn verified(&mut self, right: bool, keys: Option<ScramKeys>, cx: &mut StreamCx<'_>) {
        self.answer(cx, |n, output, _| n.verified(right, keys, output));
    }

    /// Answers [`Event::Admit`], when all is stored, with the token that the client gets.
    pub fn admitted(&mut self, token: Option<IssuedToken>, limits: &Limits) {
        if let Phase::Negotiating(n) = &mut self.phase
            && n.admitted(token, &mut self.output)
        {
            self.framer.set_limits(ScanLimits::authenticated(limits));
        }
    }

    /// Answers [`Event::BindInline`] with the full address of the session, what stands in `<bound/>`, as XML, and the
    /// features of a stream with a resource. There is no refusal: a stream without what it asked for ends.
    pub fn bound_inline(&mut self, jid: &Jid, bound: &[u8], features: &[Element], limits: &Limits) {
        if let Phase::Negotiating(n) = &mut self.phase
            && n.bound_inline(jid, bound, features, limits, &mut self.output)
        {
            self.phase = Phase::Bound(jid.clone());
        }
    }

    /// Answers [`Event::NeedKeys`], [`Event::NeedTokens`], [`Event::Hash`] or [`Event::Admit`] where there is no other
    /// answer: with [`Failure::TemporaryAuthFailure`] when the queue is full or the storage fails.
    pub fn refuse_login(&mut self, failure: Failure, cx: &mut StreamCx<'_>) {
        self.answer(cx, |n, output, _| n.refuse_login(failure, output));
    }

    /// Answers [`Event::NeedFeatures`] with those beyond TLS, SASL and resource binding.
    pub fn features(&mut self, extra: &[Element], cx: &mut StreamCx<'_>) {
        self.answer(cx, |n, output, cx| {
            n.features(extra, output, cx);
            Ok(None)
        });
    }

    /// Answers [`Event::Compress`]: everything behind the output is compressed, if there is `room` for that.
    #[cfg(feature = "compression")]
    pub fn compressed(&mut self, room: bool, cx: &mut StreamCx<'_>) {
        self.answer(cx, |n, output, _| Ok(n.compressed(room, output)));
    }

    /// Answers [`Event::Ask`] with a result or an error.
    pub fn asked(&mut self, answer: &Stanza) {
        if let Phase::Negotiating(n) = &mut self.phase {
            n.asked(answer, &mut self.output);
        }
    }

    /// Answers [`Event::Bind`] with the full address of the session.
    pub fn bound(&mut self, jid: &Jid) {
        if let Phase::Negotiating(n) = &mut self.phase
            && n.bound(jid, &mut self.output)
        {
            self.phase = Phase::Bound(jid.clone());
        }
    }

    /// Answers [`Event::Bind`] with an error; the client may ask for another resource.
    pub fn refuse_bind(&mut self, error: &StanzaError) {
        if let Phase::Negotiating(n) = &mut self.phase {
            n.refuse_bind(error, &mut self.output);
        }
    }

    /// Answers [`Event::Resume`]: the stream goes on as that session, of which `h` stanzas have been received.
    pub fn resumed(&mut self, jid: &Jid, previd: &str, h: u64) {
        if let Phase::Negotiating(n) = &mut self.phase
            && n.resumed(jid, previd, h, &mut self.output)
        {
            self.phase = Phase::Bound(jid.clone());
        }
    }

    /// Answers [`Event::Resume`] with an error, and the count of a session that is over; the client may bind.
    pub fn refuse_resume(&mut self, condition: Condition, h: Option<u64>) {
        if let Phase::Negotiating(n) = &mut self.phase {
            n.refuse_resume(condition, h, &mut self.output);
        }
    }

    /// True once a resource is bound, for as long as the stream is open.
    pub fn is_bound(&self) -> bool {
        matches!(self.phase, Phase::Bound(_))
    }

    /// True once the client has logged in, for as long as the stream is open.
    pub fn is_authenticated(&self) -> bool {
        self.user().is_some()
    }

    /// True while a question is open. Input waits in memory, so reading from the client should pause.
    pub fn is_asking(&self) -> bool {
        matches!(&self.phase, Phase::Negotiating(n) if n.is_asking())
    }

    /// True when the connection may be closed behind the output.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Prepared domain that the client asked for, for as long as the stream is open.
    pub fn host(&self) -> Option<&str> {
        match &self.phase {
            Phase::Negotiating(n) => n.host.as_deref(),
            Phase::Bound(jid) => Some(jid.domain()),
            Phase::Closing | Phase::Ended(_) | Phase::Closed => None,
        }
    }

    /// Prepared localpart of whoever has logged in, for as long as the stream is open.
    pub fn user(&self) -> Option<&str> {
        match &self.phase {
            Phase::Negotiating(n) => n.user.as_deref(),
            Phase::Bound(jid) => jid.node(),
            Phase::Closing | Phase::Ended(_) | Phase::Closed => None,
        }
    }

    /// `xml:lang` of the stream, for stanzas that have none (section 4.7.4).
    pub fn lang(&self) -> Option<&Rc<str>> {
        self.lang.as_ref()
    }

    /// Bytes held on the heap for this client, but for what it shares with others.
    pub fn heap_bytes(&self) -> usize {
        let negotiation = match &self.phase {
            Phase::Negotiating(n) => allocated(size_of::<Negotiation>()) + n.heap_bytes(),
            _ => 0,
        };
        let lang = self.lang.as_ref().map_or(0, |lang| allocated(lang.len() + 16));
        self.framer.heap_bytes() + allocated(self.output.capacity()) + lang + negotiation
    }

    /// Handles one frame.
    fn frame(&mut self, cx: &mut StreamCx<'_>) -> Result<Option<Event>, Stop> {
        let frame = self.framer.next()?.ok_or(Stop::Incomplete)?;
        trip(Fault::PanicBytes);
        let (bytes, more) = (self.framer.bytes(frame), self.framer.waiting_bytes() > 0);
        let new_stream = match (frame.kind, &mut self.phase) {
            (FrameKind::Whitespace, Phase::Negotiating(n)) if n.is_between_messages() => {
                return Err(Stop::Error(StreamError::PolicyViolation, Some("white space in the middle of a login")));
            }
            (FrameKind::Whitespace | FrameKind::Declaration, _) => None,
            (FrameKind::StreamClose, _) => return Err(Stop::Over),
            (FrameKind::Element, Phase::Closing) => None,
            (FrameKind::Element, phase) => {
                let template = self.template.as_ref().ok_or(StreamError::BadFormat)?;
                let element = cx.reader.element(template, bytes)?;
                #[cfg(feature = "compression")]
                if matches!(phase, Phase::Bound(_)) && compression::read(element.root()).is_some() {
                    // It is too late for that.
                    compression::write_failure(compression::SETUP_FAILED, &mut self.output);
                    return Ok(None);
                }
                if element.root().is(ns::STREAM, "error") {
                    // The client's side is at its end, and so is ours (section 4.9.1.1).
                    return Err(Stop::Over);
                }
                match phase {
                    Phase::Negotiating(n) => n.element(element, more, &mut self.output, cx)?,
                    _ => return Ok(Some(Event::Element(element))),
                }
            }
            (FrameKind::StreamOpen, Phase::Negotiating(n)) => {
                let header = cx.reader.stream_header(bytes)?;
                self.lang = n.opened(&header, &mut self.output, cx)?;
                self.template = Some(header.template);
                None
            }
            (FrameKind::StreamOpen, _) => return Err(StreamError::BadFormat.into()),
        };
        self.start_anew(new_stream, cx.limits);
        Ok(None)
    }

    /// Carries the answer to a question into the negotiation.
    fn answer(
        &mut self,
        cx: &mut StreamCx<'_>,
        f: impl FnOnce(&mut Negotiation, &mut Vec<u8>, &mut StreamCx<'_>) -> Result<Option<NewStream>, Stop>,
    ) {
        let Phase::Negotiating(n) = &mut self.phase else { return };
        match f(n, &mut self.output, cx) {
            Ok(new_stream) => self.start_anew(new_stream, cx.limits),
            Err(Stop::Error(error, text)) => self.end(error, text, cx.entropy),
            Err(Stop::Over) => self.finish(),
            Err(Stop::Incomplete) => {}
        }
    }

    /// The client will send a new header (section 4.3.3). Limits grow once it has logged in.
    fn start_anew(&mut self, new_stream: Option<NewStream>, limits: &Limits) {
        if let Some(NewStream) = new_stream {
            if self.is_authenticated() {
                self.framer.set_limits(ScanLimits::authenticated(limits));
            }
            self.framer.reset();
        }
    }

    /// The client's side of the stream is closed: so is ours.
    fn finish(&mut self) {
        if matches!(self.phase, Phase::Negotiating(_) | Phase::Bound(_)) {
            self.output.extend_from_slice(END);
        }
        self.phase = Phase::Ended(None);
    }

    /// Sends an error, behind a header if there has been none (section 4.9.1.2), and the end of our side.
    fn end(&mut self, error: StreamError, text: Option<&str>, entropy: &mut dyn Entropy) {
        match &self.phase {
            Phase::Closed | Phase::Ended(_) => return,
            Phase::Closing => return self.finish(),
            // Whoever listens expects TLS by now, and the connection just closes (section 5.4.3.2).
            Phase::Negotiating(n) if n.awaits_tls() => {
                self.phase = Phase::Ended(Some(error));
                return;
            }
            Phase::Negotiating(n) if !n.header_sent => {
                header::write(n.host.as_deref(), None, entropy, &mut self.output);
            }
            Phase::Negotiating(_) | Phase::Bound(_) => {}
        }
        error.write(text, &mut self.output);
        self.output.extend_from_slice(END);
        self.phase = Phase::Ended(Some(error));
    }

    fn shut(&mut self) {
        self.phase = Phase::Closed;
        self.framer.clear();
    }
}

impl fmt::Debug for C2s {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("C2s").field("host", &self.host()).field("user", &self.user()).finish_non_exhaustive()
    }
}

/// Shows neither passwords nor keys nor what people write.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartTls => f.write_str("StartTls"),
            #[cfg(feature = "compression")]
            Self::Compress => f.write_str("Compress"),
            Self::NeedKeys { user } => write!(f, "NeedKeys({user:?})"),
            Self::NeedTokens { user, client } => write!(f, "NeedTokens({user:?}, {client:?})"),
            Self::Refused { user } => write!(f, "Refused({user:?})"),
            Self::Hash { .. } => f.write_str("Hash"),
            Self::Authenticated { user, .. } => write!(f, "Authenticated({user:?})"),
            Self::Admit(admission) => write!(f, "Admit({:?})", admission.user),
            Self::BindInline { .. } => f.write_str("BindInline"),
            Self::NeedFeatures => f.write_str("NeedFeatures"),
            Self::Ask(_) => f.write_str("Ask"),
            Self::Resume { previd, h } => write!(f, "Resume({previd:?}, {h})"),
            Self::Bind { resource } => write!(f, "Bind({resource:?})"),
            Self::Element(element) => write!(f, "Element({})", element.root().name()),
            Self::Closed { error } => write!(f, "Closed({error:?})"),
        }
    }
}

#[cfg(test)]
#[path = "c2s_tests.rs"]
mod tests;

//! Server streams without I/O (RFC 6120), in both directions: negotiation, proofs of identity by SASL EXTERNAL
//! (XEP-0178) and Server Dialback (XEP-0220), one connection for both directions (XEP-0288), framing.
//!
//! Bytes go in with [`S2s::feed`], events come out of [`S2s::next`], what is to be sent out of [`S2s::take_output`]. An
//! outgoing stream goes from the connection to [`Event::Secured`] by itself and then waits for
//! [`S2s::authenticate`], because some streams are for verifying keys alone:
//!
//! ```text
//! engine            machine                                 peer
//! begin          -> header                               -> header, features
//!                   starttls                             -> proceed
//! facts          <- StartTls
//!                   header                               -> header, features
//! authenticate   <- Secured
//!                   bidi, auth EXTERNAL                  -> success
//!                   header                               -> header, features
//!                <- Ready
//! ```
//!
//! Where the peer takes no certificate of ours, a dialback key goes out instead, and [`Event::Ready`] follows its
//! verdict. An incoming stream may prove several domains; each is told by [`Event::Proved`].

mod component;
mod dialback;
mod event;
mod incoming;
mod outgoing;
mod pair;
mod policy;
mod wire;

use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use super::framing::Framer;
use super::{PeerCert, StreamError, TlsFacts};
use crate::budget::allocated;
use crate::clock::{Entropy, token};
use crate::fault::{Fault, armed};
use crate::limits::Limits;
use crate::stanza::Condition;
use crate::xml::{Element, FrameKind, ReadError, Reader, ScanError, ScanLimits, StreamHeader, Template, ns};

pub use component::{Component, proof};
pub use dialback::Verdict;
pub use event::Event;
pub use pair::{Pair, Refusal};
pub use policy::Policy;
pub use wire::PeerLimits;

use dialback::{Name, Said, What};
use outgoing::Out;

/// What the machine uses of its surroundings, for the time of one call.
pub struct S2sCx<'a> {
    /// True for a prepared domain that we serve, services among them.
    pub hosts: &'a dyn Fn(&str) -> bool,
    /// Which components may connect.
    pub components: &'a [Component],
    /// Whom we trust.
    pub policy: &'a Policy,
    /// Shared by all streams.
    pub reader: &'a mut Reader,
    /// The limits in force.
    pub limits: &'a Limits,
    /// For ids.
    pub entropy: &'a mut dyn Entropy,
    /// That dialback keys are made from (XEP-0185).
    pub secret: &'a [u8; 32],
}

/// One server stream.
pub struct S2s {
    framer: Framer,
    output: Vec<u8>,
    events: VecDeque<Event>,
    template: Option<Template>,
    lang: Option<Rc<str>>,
    life: Life,
    side: Side,
    /// The domain of ours that the stream is for; empty until the peer has said it.
    local: Box<str>,
    /// The other server, as far as it has said who it is.
    remote: Option<Box<str>>,
    /// That the receiving server has given the stream.
    id: String,
    secured: bool,
    cert: Option<Box<PeerCert>>,
    /// A header of ours has been sent on the present stream.
    header_sent: bool,
    /// SASL has come to a good end.
    authenticated: bool,
    /// Domains that the peer has proved, each with the one of ours that it was proved for.
    pairs: Vec<Pair>,
    /// Both directions.
    bidi: bool,
    /// Keys that the peer has sent and that are being verified elsewhere.
    claims: Vec<Pair>,
    /// Keys that we have asked about.
    asked: Vec<(Pair, String)>,
    peer_limits: PeerLimits,
    /// SASL has come to so many bad ends.
    failures: u8,
    /// The peer of an outgoing stream verifies keys, and we may ask it to.
    offered_dialback: bool,
}

/// What the peer does next.
#[derive(Debug)]
enum Side {
    In(In),
    Out(Out),
    Component(component::Stage),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum In {
    /// Sends a header.
    Header,
    /// Starts TLS.
    Tls,
    /// Anything that negotiates, and stanzas for domains that it has proved.
    Open,
}

enum Life {
    Open,
    /// We have closed our side and wait for the peer's; what it still sends counts.
    Closing,
    /// All is over, but [`Event::Closed`] has not been handed out.
    Ended(Option<StreamError>, Option<Refusal>),
    Closed,
}

/// Why there is nothing more to handle.
enum Stop {
    Incomplete,
    /// The peer has closed its side.
    Over,
    /// The peer has sent a stream error of that name.
    Told(String),
    /// Another attempt would not help.
    Refused(Refusal),
    Error(StreamError, Option<&'static str>),
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

const END: &[u8] = b"</stream:stream>";

impl S2s {
    fn new(side: Side, local: &str, remote: Option<&str>, limits: &Limits) -> Self {
        Self {
            framer: Framer::new(ScanLimits::stranger(limits)),
            output: Vec::new(),
            events: VecDeque::new(),
            template: None,
            lang: None,
            life: Life::Open,
            side,
            local: local.into(),
            remote: remote.map(Into::into),
            id: String::new(),
            secured: false,
            cert: None,
            header_sent: false,
            authenticated: false,
            pairs: Vec::new(),
            bidi: false,
            claims: Vec::new(),
            asked: Vec::new(),
            peer_limits: PeerLimits::default(),
            failures: 0,
            offered_dialback: false,
        }
    }

    /// Takes bytes from the peer. Nothing happens to them before [`S2s::next`].
    pub fn feed(&mut self, data: &[u8]) {
        if !matches!(self.life, Life::Ended(..) | Life::Closed) {
            self.framer.feed(data);
        }
    }

    /// Handles what has come in, up to the first thing that concerns the engine. To be called until it returns `None`,
    /// and again after bytes have been fed or anything else was called.
    pub fn next(&mut self, cx: &mut S2sCx<'_>) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                if self.events.is_empty() {
                    self.events = VecDeque::new();
                }
                return Some(event);
            }
            match &mut self.life {
                Life::Closed => return None,
                Life::Ended(error, refusal) => {
                    let (error, refusal) = (error.take(), refusal.take());
                    self.shut();
                    return Some(Event::Closed { error, refusal });
                }
                Life::Open | Life::Closing => {}
            }
            match self.frame(cx) {
                Ok(()) => {}
                Err(Stop::Incomplete) => {
                    self.framer.compact();
                    return None;
                }
                Err(stop) => self.stop(stop, cx.entropy),
            }
        }
    }

    /// What is to be sent to the peer, in order. Empties it.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Ends the stream with an error (RFC 6120 section 4.9). No event follows; the connection is closed behind the
    /// output.
    pub fn fail(&mut self, error: StreamError, text: Option<&str>, entropy: &mut dyn Entropy) {
        self.end(error, text, entropy);
        self.shut();
    }

    /// As [`S2s::fail`], for a peer that acknowledges `h` stanzas when there were but `sent` (XEP-0198 section 6).
    pub fn handled_too_high(&mut self, h: u32, sent: u32) {
        StreamError::write_handled_too_high(h, sent, &mut self.output);
        self.output.extend_from_slice(END);
        self.shut();
    }

    /// Closes our side of the stream without an error (section 4.4). [`Event::Closed`] follows when the peer has closed
    /// its side; stanzas that it sends before that still come.
    pub fn close(&mut self) {
        if matches!(self.life, Life::Open) {
            // Whoever listens for TLS cannot read it.
            if self.header_sent && !self.is_asking() {
                self.output.extend_from_slice(END);
                self.life = Life::Closing;
            } else {
                self.life = Life::Ended(None, None);
            }
        }
    }

    /// TLS stands: answers [`Event::StartTls`], or comes before all bytes with direct TLS.
    pub fn facts(&mut self, facts: &TlsFacts, cx: &mut S2sCx<'_>) {
        if self.secured || !matches!(self.life, Life::Open) {
            return;
        }
        self.secured = true;
        self.cert = facts.peer.clone().map(Box::new);
        let checked = match self.side {
            Side::In(_) => {
                self.side = Side::In(In::Header);
                Ok(())
            }
            Side::Out(_) => self.out_secured(cx),
            Side::Component(_) => Ok(()),
        };
        self.start_anew(cx.limits);
        if let Err(stop) = checked {
            self.stop(stop, cx.entropy);
        }
    }

    /// True while TLS is being started: reading from the peer should pause.
    pub fn is_asking(&self) -> bool {
        matches!(self.side, Side::In(In::Tls) | Side::Out(Out::Tls)) && matches!(self.life, Life::Open)
    }

    /// True for a stream that we have initiated.
    pub fn is_outgoing(&self) -> bool {
        matches!(self.side, Side::Out(_))
    }

    /// True when stanzas from this prepared domain are taken from this stream.
    pub fn proves(&self, domain: &str) -> bool {
        self.pairs.iter().any(|pair| *pair.remote == *domain) || armed(Fault::ServerBelieved)
    }

    /// The domains that the peer has proved, with those of ours that they were proved for.
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// True when a policy lets the stream be: all its domains are spoken with, and proved as they must be.
    pub fn is_allowed(&self, policy: &Policy) -> bool {
        let by_cert = |domain: &str| self.cert.as_ref().is_some_and(|cert| cert.proves(domain));
        let is_proved = |domain: &str| by_cert(domain) || !policy.needs_certificate(domain);
        let mut pairs = self.pairs.iter().map(|pair| &*pair.remote);
        self.remote
            .as_deref()
            .is_none_or(|remote| policy.admits(remote) && (is_proved(remote) || !self.is_outgoing() || !self.secured))
            && pairs.all(|remote| policy.admits(remote) && is_proved(remote))
    }

    /// True when stanzas go both ways (XEP-0288).
    pub fn is_bidi(&self) -> bool {
        self.bidi
    }

    /// True once our side is closed.
    pub fn is_closing(&self) -> bool {
        !matches!(self.life, Life::Open)
    }

    /// True once anything was said on the connection, or TLS begun.
    pub fn has_begun(&self) -> bool {
        self.header_sent || self.secured
    }

    /// True when an incoming stream takes stanzas from us for a pair, the other way round.
    pub fn takes(&self, pair: &Pair) -> bool {
        if let Side::Component(stage) = &self.side {
            let open = *stage == component::Stage::Open && matches!(self.life, Life::Open);
            return open && self.remote.as_deref() == Some(&*pair.remote);
        }
        self.bidi
            && matches!(self.side, Side::In(In::Open))
            && matches!(self.life, Life::Open)
            && self.pairs.contains(pair)
    }

    /// True once TLS stands.
    pub fn is_secured(&self) -> bool {
        self.secured
    }

    /// True when we have proved who we are, and the peer who it is, by certificates.
    pub fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    /// What the peer takes (XEP-0478).
    pub fn peer_limits(&self) -> PeerLimits {
        self.peer_limits
    }

    /// The domain of ours that the stream is for.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// Who the other server says to be; on an incoming stream that is a claim.
    pub fn remote(&self) -> Option<&str> {
        self.remote.as_deref()
    }

    /// `xml:lang` of the stream, for stanzas that have none (RFC 6120 section 4.7.4).
    pub fn lang(&self) -> Option<&Rc<str>> {
        self.lang.as_ref()
    }

    /// Bytes held on the heap for this peer, but for what it shares with others; with those of keys that it has sent
    /// and that wait elsewhere.
    pub fn heap_bytes(&self) -> usize {
        let text = |text: usize| allocated(text + 16);
        let pair = |pair: &Pair| size_of::<Pair>() + text(pair.local.len()) + text(pair.remote.len());
        let claims = self.claims.iter().map(|claim| pair(claim) + dialback::KEY_BYTES_MAX);
        let asked = self.asked.iter().map(|(asked, id)| pair(asked) + size_of::<String>() + text(id.len()));
        let pairs: usize = self.pairs.iter().map(pair).chain(claims).chain(asked).sum();
        self.framer.heap_bytes() + allocated(self.output.capacity()) + pairs + self.cert.as_ref().map_or(0, |_| 512)
    }

    /// Says what has become of a key: answers [`Event::Verify`].
    pub fn verdict(&mut self, pair: &Pair, verdict: Verdict, cx: &mut S2sCx<'_>) {
        let Some(at) = self.claims.iter().position(|claim| claim == pair) else { return };
        self.claims.swap_remove(at);
        if !matches!(self.life, Life::Open) {
            return;
        }
        dialback::write_verdict(Name::Result, &pair.local, &pair.remote, "", verdict, &mut self.output);
        match verdict {
            Verdict::Valid => self.prove(pair.clone(), cx.limits),
            // Section 2.2.1: the first pair of a stream was a lie, and so nothing on it can be believed.
            Verdict::Invalid if self.pairs.is_empty() => self.close(),
            Verdict::Invalid | Verdict::Error(_) => {}
        }
    }

    /// Asks the peer, as the authoritative server, about a key that has come on another stream. It must have TLS.
    pub fn verify(&mut self, pair: Pair, id: String, key: &str) {
        dialback::write_key(Name::Verify, &pair.local, &pair.remote, &id, key, &mut self.output);
        self.asked.push((pair, id));
    }

    /// Keys that the peer has not answered for.
    pub fn unanswered(&mut self) -> Vec<(Pair, String)> {
        std::mem::take(&mut self.asked)
    }

    /// Stanzas of this pair are taken from now on, and may be long.
    fn prove(&mut self, pair: Pair, limits: &Limits) {
        self.pairs.push(pair.clone());
        self.framer.set_limits(authenticated(limits));
        self.events.push_back(Event::Proved { pair });
    }

    /// Handles one frame.
    fn frame(&mut self, cx: &mut S2sCx<'_>) -> Result<(), Stop> {
        if self.is_asking() {
            return match self.framer.waiting_bytes() {
                0 => Err(Stop::Incomplete),
                // RFC 6120 section 5.4.3.3: what came in plain is not to be taken for encrypted.
                _ => Err(Stop::Error(StreamError::PolicyViolation, Some("bytes between STARTTLS and TLS"))),
            };
        }
        let frame = self.framer.next()?.ok_or(Stop::Incomplete)?;
        match frame.kind {
            FrameKind::Whitespace | FrameKind::Declaration => Ok(()),
            FrameKind::StreamClose => Err(Stop::Over),
            FrameKind::StreamOpen => {
                let header = cx.reader.stream_header(self.framer.bytes(frame))?;
                self.lang = header.lang.as_deref().and_then(incoming::language);
                self.template = Some(header.template.clone());
                self.opened(&header, cx)
            }
            FrameKind::Element => {
                let template = self.template.as_ref().ok_or(StreamError::BadFormat)?;
                let element = cx.reader.element(template, self.framer.bytes(frame))?;
                if element.root().is(ns::STREAM, "error") {
                    let name = element.root().children().find(|c| c.ns() == ns::STREAM_ERROR);
                    return Err(Stop::Told(name.map_or("", |c| c.name()).to_owned()));
                }
                self.element(element, cx)
            }
        }
    }

    fn opened(&mut self, header: &StreamHeader, cx: &mut S2sCx<'_>) -> Result<(), Stop> {
        match self.side {
            Side::In(In::Header) => self.in_opened(header, cx),
            Side::Out(Out::Header) => self.out_opened(header),
            Side::Component(component::Stage::Header) => self.component_opened(header, cx),
            _ => Err(StreamError::BadFormat.into()),
        }
    }

    fn element(&mut self, element: Element, cx: &mut S2sCx<'_>) -> Result<(), Stop> {
        let root = element.root();
        let is_stanza = root.ns() == ns::CLIENT && matches!(root.name(), "message" | "presence" | "iq");
        if is_stanza || root.ns() == ns::SM {
            let is_open = match self.side {
                Side::In(_) => !self.pairs.is_empty(),
                Side::Out(Out::Open) => root.ns() == ns::SM || self.bidi,
                Side::Out(_) => false,
                Side::Component(stage) => stage == component::Stage::Open && is_stanza,
            };
            if !is_open {
                return Err(StreamError::NotAuthorized.into());
            }
            self.events.push_back(Event::Element(element));
            return Ok(());
        }
        if !matches!(self.life, Life::Open) {
            return Ok(());
        }
        match (root.ns(), &self.side) {
            (ns::DIALBACK, Side::In(_) | Side::Out(_)) => self.dialback(&element, cx),
            (_, Side::Component(_)) => self.component_element(&element),
            (_, Side::In(_)) => self.in_element(&element, cx),
            (_, Side::Out(_)) => self.out_element(&element, cx),
        }
    }

    /// An element of Server Dialback, in any of its three roles. Only where it is configured, and under TLS.
    fn dialback(&mut self, element: &Element, cx: &mut S2sCx<'_>) -> Result<(), Stop> {
        if !cx.policy.dialback || !self.secured {
            return Err(StreamError::UnsupportedStanzaType.into());
        }
        let Some(Said { name, from, to, id, what }) = dialback::read(element.root()) else {
            return Err(StreamError::BadFormat.into());
        };
        let pair = Pair::new(&to, &from);
        match (name, what) {
            (Name::Result, What::Key(key)) => self.claim(pair, key, cx),
            (Name::Verify, What::Key(key)) => {
                let verdict = if !(cx.hosts)(&to) {
                    Verdict::Error(Condition::ItemNotFound)
                } else if dialback::is_key(cx.secret, &from, &to, &id, &key) {
                    Verdict::Valid
                } else {
                    Verdict::Invalid
                };
                dialback::write_verdict(Name::Verify, &to, &from, &id, verdict, &mut self.output);
                Ok(())
            }
            (Name::Result, What::Verdict(verdict)) => self.out_verdict(&pair, verdict, cx.limits),
            (Name::Verify, What::Verdict(verdict)) => {
                let at = self.asked.iter().position(|(asked, of)| *asked == pair && *of == id);
                let Some(at) = at else { return Err(unsolicited()) };
                let (pair, id) = self.asked.swap_remove(at);
                self.events.push_back(Event::Verdict { pair, id, verdict });
                Ok(())
            }
        }
    }

    /// The peer wants to send stanzas for a pair and has a key for it (section 2.2).
    fn claim(&mut self, pair: Pair, key: String, cx: &mut S2sCx<'_>) -> Result<(), Stop> {
        let proved_by_cert = self.cert.as_ref().is_some_and(|cert| cert.proves(&pair.remote));
        let refused = if self.is_outgoing() {
            // Section 2.3 of XEP-0288 lets a peer ask on our stream; ours for its domains are streams of their own.
            Some(Condition::NotAllowed)
        } else if !(cx.hosts)(&pair.local) {
            Some(Condition::ItemNotFound)
        } else if (cx.hosts)(&pair.remote) {
            Some(Condition::NotAllowed)
        } else if !cx.policy.admits(&pair.remote) {
            Some(Condition::PolicyViolation)
        } else if !proved_by_cert && !cx.policy.trusts_dialback(&pair.remote) {
            Some(Condition::NotAuthorized)
        } else if self.pairs.len() + self.claims.len() >= cx.limits.s2s_pairs_max as usize {
            Some(Condition::ResourceConstraint)
        } else {
            None
        };
        let answer = match refused {
            Some(condition) => Some(Verdict::Error(condition)),
            None if self.pairs.contains(&pair) => Some(Verdict::Valid),
            None => None,
        };
        if let Some(verdict) = answer {
            dialback::write_verdict(Name::Result, &pair.local, &pair.remote, "", verdict, &mut self.output);
        } else if proved_by_cert {
            // What a certificate proves nobody needs to be asked about.
            dialback::write_verdict(Name::Result, &pair.local, &pair.remote, "", Verdict::Valid, &mut self.output);
            self.prove(pair, cx.limits);
        } else if !self.claims.contains(&pair) {
            self.claims.push(pair.clone());
            self.events.push_back(Event::Verify { pair, id: self.id.clone(), key });
        }
        Ok(())
    }

    /// The peer will send a new header (RFC 6120 section 4.3.3).
    fn start_anew(&mut self, limits: &Limits) {
        self.header_sent = matches!(self.side, Side::Out(_)) && self.header_sent;
        if self.authenticated {
            self.framer.set_limits(authenticated(limits));
        }
        self.framer.reset();
    }

    fn stop(&mut self, stop: Stop, entropy: &mut dyn Entropy) {
        match stop {
            Stop::Incomplete => {}
            Stop::Over => self.finish(None),
            Stop::Told(name) => {
                let who = self.remote().unwrap_or("somebody");
                log::info!(target: "couplet::s2s", "{who} ends its stream with {name}");
                let refusal = if self.is_outgoing() { outgoing::refusal_of(&name, &self.side) } else { None };
                self.finish(refusal);
            }
            Stop::Refused(refusal) => self.finish(Some(refusal)),
            Stop::Error(error, text) => self.end(error, text, entropy),
        }
    }

    /// The peer's side of the stream is closed, or means nothing to us any more: so is ours.
    fn finish(&mut self, refusal: Option<Refusal>) {
        if matches!(self.life, Life::Open) && self.header_sent {
            self.output.extend_from_slice(END);
        }
        self.life = Life::Ended(None, refusal);
    }

    /// Sends an error, behind a header if there has been none (section 4.9.1.2), and the end of our side.
    fn end(&mut self, error: StreamError, text: Option<&str>, entropy: &mut dyn Entropy) {
        match &self.life {
            Life::Closed | Life::Ended(..) => return,
            Life::Closing => return self.finish(None),
            Life::Open => {}
        }
        let refusal = match &self.side {
            Side::Out(Out::Open) | Side::In(_) | Side::Component(_) => None,
            // Its negotiation is broken, and will be next time.
            Side::Out(_) => Some(outgoing::NO_STREAM),
        };
        // Whoever listens expects TLS by now, and the connection just closes (section 5.4.3.2).
        if !self.is_asking() {
            if !self.header_sent {
                let id = token(entropy);
                let id = Some(id.as_str()).filter(|_| !self.is_outgoing());
                match &self.side {
                    Side::Component(_) => component::write_header("", id.unwrap_or_default(), &mut self.output),
                    _ => wire::write_header(&self.local, self.remote.as_deref(), id, false, &mut self.output),
                }
                self.header_sent = true;
            }
            error.write(text, &mut self.output);
            self.output.extend_from_slice(END);
        }
        self.life = Life::Ended(Some(error), refusal);
    }

    fn shut(&mut self) {
        self.life = Life::Closed;
        self.framer.clear();
        self.events = VecDeque::new();
    }
}

/// Bounds of what a peer sends that has proved who it is.
fn authenticated(limits: &Limits) -> ScanLimits {
    ScanLimits { bytes_max: limits.s2s_stanza_bytes_max as usize, ..ScanLimits::authenticated(limits) }
}

/// A verdict that answers nothing we have asked: whoever sends it hopes to be taken for somebody else.
fn unsolicited() -> Stop {
    Stop::Error(StreamError::PolicyViolation, Some("a verdict that nobody has asked for"))
}

impl fmt::Debug for S2s {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S2s").field("side", &self.side).field("remote", &self.remote).finish_non_exhaustive()
    }
}

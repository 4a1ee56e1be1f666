//! Streams that we open (RFC 6120 sections 4 to 6, XEP-0178 section 3, XEP-0220 section 2.1).

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::dialback::{self, Name};
use super::wire::{self, Offered};
use super::{Event, Pair, Refusal, S2s, S2sCx, Side, Stop, Verdict, unsolicited};
use crate::limits::Limits;
use crate::stanza::Condition;
use crate::stream::{StreamError, TlsFacts};
use crate::xml::{Element, StreamHeader, ns, write_attribute};

/// What the peer does next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Out {
    /// Sends a header.
    Header,
    /// Sends features.
    Features,
    /// Lets TLS begin.
    Proceed,
    /// Starts TLS.
    Tls,
    /// Nothing: it is our turn, when there is something to be sent.
    Secured(Offered),
    /// Judges our certificate; dialback is the other way, if it has one.
    External { dialback: bool },
    /// Judges our dialback key.
    Key,
    /// Takes our stanzas.
    Open,
}

/// Its negotiation cannot be understood.
pub(super) const NO_STREAM: Refusal =
    Refusal { condition: Condition::RemoteServerNotFound, text: "The other server does not speak as it should." };

const NO_TLS: Refusal =
    Refusal { condition: Condition::RemoteServerNotFound, text: "The other server does not offer encryption." };
const NO_TRUST: Refusal = Refusal {
    condition: Condition::RemoteServerNotFound,
    text: "The certificate of the other server does not prove that it is who it should be.",
};
const NOT_TRUSTED: Refusal = Refusal {
    condition: Condition::RemoteServerNotFound,
    text: "The other server does not believe that this server is who it says.",
};
const HOST_UNKNOWN: Refusal =
    Refusal { condition: Condition::RemoteServerNotFound, text: "The other server does not serve that domain." };
/// XEP-0220 section 2.1.2.
const KEY_INVALID: Refusal =
    Refusal { condition: Condition::InternalServerError, text: "The other server has found our key invalid." };
const KEY_UNVERIFIED: Refusal =
    Refusal { condition: Condition::RemoteServerTimeout, text: "The other server could not verify our key." };

/// Whether a stream error of the peer means that another attempt would end in the same way.
pub(super) fn refusal_of(name: &str, side: &Side) -> Option<Refusal> {
    match (name, side) {
        // What breaks a stream that has worked may be mended by the next.
        (_, Side::Out(Out::Open) | Side::In(_)) => None,
        ("host-unknown" | "host-gone", _) => Some(HOST_UNKNOWN),
        ("not-authorized" | "policy-violation" | "invalid-from", _) => Some(NOT_TRUSTED),
        ("bad-format" | "improper-addressing" | "invalid-namespace" | "unsupported-version", _) => Some(NO_STREAM),
        _ => None,
    }
}

impl S2s {
    /// A stream to a server that is being connected to.
    pub fn outgoing(pair: &Pair, limits: &Limits) -> Self {
        Self::new(Side::Out(Out::Header), &pair.local, Some(&pair.remote), limits)
    }

    /// The connection stands, with direct TLS when there are facts.
    pub fn begin(&mut self, tls: Option<&TlsFacts>, cx: &mut S2sCx<'_>) {
        match tls {
            Some(facts) => self.facts(facts, cx),
            None => self.write_header(cx),
        }
    }

    fn write_header(&mut self, cx: &S2sCx<'_>) {
        let dialback = cx.policy.dialback && self.secured;
        wire::write_header(&self.local, self.remote.as_deref(), None, dialback, &mut self.output);
        self.header_sent = true;
        self.side = Side::Out(Out::Header);
    }

    /// True when the stream waits for [`S2s::authenticate`].
    pub fn may_authenticate(&self) -> bool {
        matches!(self.side, Side::Out(Out::Secured(_)))
    }

    /// True when [`S2s::verify`] may be called.
    pub fn may_verify(&self) -> bool {
        let side = matches!(self.side, Side::Out(Out::Secured(_) | Out::External { .. } | Out::Key | Out::Open));
        side && self.offered_dialback && matches!(self.life, super::Life::Open)
    }

    /// True when the stream takes stanzas of ours.
    pub fn is_open(&self) -> bool {
        matches!(self.side, Side::Out(Out::Open)) && matches!(self.life, super::Life::Open)
    }

    /// True for an outgoing stream that takes stanzas of ours, or has done so before it ended.
    pub fn has_opened(&self) -> bool {
        matches!(self.side, Side::Out(Out::Open))
    }

    /// TLS stands. RFC 6120 section 13.7.2: who must show a certificate, and does not, is spoken with no more.
    pub(super) fn out_secured(&mut self, cx: &mut S2sCx<'_>) -> Result<(), Stop> {
        let remote = self.remote.as_deref().unwrap_or_default();
        let proves = self.cert.as_ref().is_some_and(|cert| cert.proves(remote));
        if !proves && cx.policy.needs_certificate(remote) {
            let found = self.cert.as_ref().map(|cert| (&cert.trust, &cert.names));
            log::warn!(target: "couplet::s2s", "{remote} does not prove who it is: {found:?}");
            self.header_sent = false;
            return Err(Stop::Refused(NO_TRUST));
        }
        self.write_header(cx);
        Ok(())
    }

    pub(super) fn out_opened(&mut self, header: &StreamHeader) -> Result<(), Stop> {
        wire::check(header)?;
        let from = header.from.as_deref().map(wire::domain);
        if from.is_some_and(|from| from.as_deref() != self.remote.as_deref()) {
            return Err(Stop::Error(StreamError::InvalidFrom, Some("somebody else answers")));
        }
        self.id = header.id.clone().unwrap_or_default();
        self.side = Side::Out(Out::Features);
        Ok(())
    }

    pub(super) fn out_element(&mut self, element: &Element, cx: &mut S2sCx<'_>) -> Result<(), Stop> {
        let root = element.root();
        match (&self.side, root.ns(), root.name()) {
            (Side::Out(Out::Features), ns::STREAM, "features") => self.out_features(element, cx),
            (Side::Out(Out::Proceed), ns::TLS, "proceed") => {
                self.side = Side::Out(Out::Tls);
                self.events.push_back(Event::StartTls);
                Ok(())
            }
            (Side::Out(Out::Proceed), ns::TLS, "failure") => Err(Stop::Refused(NO_TLS)),
            (Side::Out(Out::External { .. }), ns::SASL, "success") => {
                self.authenticated = true;
                self.start_anew(cx.limits);
                self.write_header(cx);
                Ok(())
            }
            (Side::Out(Out::External { dialback }), ns::SASL, "failure") => match dialback {
                true => {
                    self.out_key(cx);
                    Ok(())
                }
                false => Err(Stop::Refused(NOT_TRUSTED)),
            },
            // All has been said in the initial response.
            (Side::Out(Out::External { .. }), ns::SASL, "challenge") => {
                self.output.extend_from_slice(b"<response");
                write_attribute("xmlns", ns::SASL, &mut self.output);
                self.output.extend_from_slice(b">=</response>");
                Ok(())
            }
            // Features that change on an open stream, or come late, are of no interest.
            (Side::Out(_), ns::STREAM, "features") => Ok(()),
            _ => Err(StreamError::UnsupportedStanzaType.into()),
        }
    }

    fn out_features(&mut self, element: &Element, cx: &mut S2sCx<'_>) -> Result<(), Stop> {
        let root = element.root();
        self.peer_limits = wire::read_limits(root);
        if !self.secured {
            if !root.has_child(ns::TLS, "starttls") {
                return Err(Stop::Refused(NO_TLS));
            }
            self.output.extend_from_slice(b"<starttls");
            write_attribute("xmlns", ns::TLS, &mut self.output);
            self.output.extend_from_slice(b"/>");
            self.side = Side::Out(Out::Proceed);
        } else if self.authenticated {
            self.out_open(root.has_child(ns::SM, "sm"), cx.limits);
        } else {
            let declares = self.template.as_ref().is_some_and(|t| t.prefixes().any(|(_, ns)| ns == ns::DIALBACK));
            let offered = wire::read_offered(root, declares);
            self.offered_dialback = offered.dialback && cx.policy.dialback;
            self.side = Side::Out(Out::Secured(offered));
            self.events.push_back(Event::Secured);
        }
        Ok(())
    }

    /// Goes on from [`Event::Secured`]: proves to the peer who we are.
    pub fn authenticate(&mut self, cx: &mut S2sCx<'_>) {
        let Side::Out(Out::Secured(offered)) = self.side else { return };
        if !matches!(self.life, super::Life::Open) {
            return;
        }
        let dialback = self.offered_dialback;
        if (offered.external || dialback) && offered.bidi && cx.policy.bidi {
            wire::write_bidi(cx.limits, &mut self.output);
            self.bidi = true;
        }
        if offered.external {
            self.output.extend_from_slice(b"<auth");
            write_attribute("xmlns", ns::SASL, &mut self.output);
            write_attribute("mechanism", "EXTERNAL", &mut self.output);
            self.output.push(b'>');
            // Section 3 of XEP-0178: those who follow its first version rely on it.
            self.output.extend_from_slice(STANDARD.encode(self.local.as_bytes()).as_bytes());
            self.output.extend_from_slice(b"</auth>");
            self.side = Side::Out(Out::External { dialback });
        } else if dialback {
            self.out_key(cx);
        } else {
            self.finish(Some(NOT_TRUSTED));
        }
    }

    fn out_key(&mut self, cx: &S2sCx<'_>) {
        let remote = self.remote.as_deref().unwrap_or_default();
        let key = dialback::key(cx.secret, remote, &self.local, &self.id);
        dialback::write_key(Name::Result, &self.local, remote, "", &key, &mut self.output);
        self.side = Side::Out(Out::Key);
    }

    /// The peer has judged a key of ours.
    pub(super) fn out_verdict(&mut self, pair: &Pair, verdict: Verdict, limits: &Limits) -> Result<(), Stop> {
        let is_ours = *pair.local == *self.local && Some(&pair.remote) == self.remote.as_ref();
        if !is_ours || !matches!(self.side, Side::Out(Out::Key)) {
            return Err(unsolicited());
        }
        match verdict {
            Verdict::Valid => {
                self.out_open(false, limits);
                Ok(())
            }
            Verdict::Invalid => Err(Stop::Refused(KEY_INVALID)),
            Verdict::Error(_) => Err(Stop::Refused(KEY_UNVERIFIED)),
        }
    }

    fn out_open(&mut self, management: bool, limits: &Limits) {
        self.side = Side::Out(Out::Open);
        self.framer.set_limits(super::authenticated(limits));
        if self.bidi {
            self.pairs = vec![Pair::new(&self.local, self.remote.as_deref().unwrap_or_default())];
        }
        self.events.push_back(Event::Ready { management });
    }
}

//! Streams that other servers open (RFC 6120 sections 4 to 6, XEP-0178 section 3).

use std::rc::Rc;

use super::wire::{self, Offer};
use super::{Event, In, Pair, S2s, S2sCx, Side, Stop, authenticated};
use crate::clock::token;
use crate::limits::Limits;
use crate::stream::StreamError;
use crate::stream::profile::{self, Request};
use crate::stream::sasl::Failure;
use crate::xml::{Element, StreamHeader, ns, write_attribute};

impl S2s {
    /// A stream on a connection that has just been accepted.
    pub fn incoming(limits: &Limits) -> Self {
        Self::new(Side::In(In::Header), "", None, limits)
    }

    pub(super) fn in_opened(&mut self, header: &StreamHeader, cx: &mut S2sCx<'_>) -> Result<(), Stop> {
        wire::check(header)?;
        let to = header.to.as_deref().ok_or(StreamError::ImproperAddressing)?;
        let to = wire::domain(to).ok_or(StreamError::ImproperAddressing)?;
        if !(cx.hosts)(&to) {
            return Err(StreamError::HostUnknown.into());
        }
        let from = match header.from.as_deref() {
            Some(from) => Some(wire::domain(from).ok_or(StreamError::ImproperAddressing)?),
            None => None,
        };
        if self.authenticated && (from.as_deref() != self.remote.as_deref() || *to != *self.local) {
            return Err(Stop::Error(StreamError::InvalidFrom, Some("the certificate was shown for another stream")));
        }
        self.local = to.into();
        self.remote = from.map(Into::into);
        if self.remote.as_deref().is_some_and(cx.hosts) {
            return Err(Stop::Error(StreamError::InvalidFrom, Some("that domain is served here")));
        }
        self.id = token(cx.entropy);
        wire::write_header(
            &self.local,
            self.remote.as_deref(),
            Some(&self.id),
            cx.policy.dialback && self.secured,
            &mut self.output,
        );
        self.header_sent = true;
        let remote = self.remote.as_deref();
        if remote.is_some_and(|remote| !cx.policy.admits(remote)) {
            return Err(Stop::Error(StreamError::PolicyViolation, Some("this server does not speak with yours")));
        }
        let external = self.secured && !self.authenticated && remote.is_some_and(|remote| self.cert_proves(remote));
        let dialback = self.secured && cx.policy.dialback;
        if self.secured
            && !self.authenticated
            && !external
            && remote.is_some_and(|remote| !dialback || !cx.policy.trusts_dialback(remote))
        {
            let text = "your certificate does not prove that you are that domain";
            return Err(Stop::Error(StreamError::NotAuthorized, Some(text)));
        }
        let bytes_max =
            if self.pairs.is_empty() { cx.limits.stanza_bytes_max_before_auth } else { cx.limits.s2s_stanza_bytes_max };
        let offer = Offer {
            starttls: !self.secured,
            external,
            dialback,
            bidi: self.secured && !self.authenticated && cx.policy.bidi,
            management: self.authenticated,
            bytes_max,
            limits: cx.limits,
        };
        offer.write(&mut self.output);
        self.side = Side::In(In::Open);
        if self.authenticated
            && let Some(pair) = self.pairs.first()
        {
            self.events.push_back(Event::Proved { pair: pair.clone() });
        }
        Ok(())
    }

    fn cert_proves(&self, domain: &str) -> bool {
        self.cert.as_ref().is_some_and(|cert| cert.proves(domain))
    }

    pub(super) fn in_element(&mut self, element: &Element, cx: &mut S2sCx<'_>) -> Result<(), Stop> {
        let root = element.root();
        match root.ns() {
            ns::TLS if root.name() == "starttls" => self.in_starttls(),
            ns::SASL => match profile::read(root) {
                Some(request) => self.in_sasl(request, cx),
                None => Err(StreamError::UnsupportedStanzaType.into()),
            },
            // Section 2.2 of XEP-0288: before anything is proved.
            ns::BIDI if root.name() == "bidi" && self.secured && self.pairs.is_empty() && cx.policy.bidi => {
                self.bidi = true;
                self.peer_limits = wire::read_limits(root);
                Ok(())
            }
            _ => Err(StreamError::UnsupportedStanzaType.into()),
        }
    }

    fn in_starttls(&mut self) -> Result<(), Stop> {
        let name: &[u8] = if self.secured { b"<failure" } else { b"<proceed" };
        if !self.secured && self.framer.waiting_bytes() > 0 {
            return Err(Stop::Error(StreamError::PolicyViolation, Some("bytes between STARTTLS and TLS")));
        }
        self.output.extend_from_slice(name);
        write_attribute("xmlns", ns::TLS, &mut self.output);
        self.output.extend_from_slice(b"/>");
        if self.secured {
            return Err(Stop::Over);
        }
        self.side = Side::In(In::Tls);
        self.events.push_back(Event::StartTls);
        Ok(())
    }

    /// The peer's certificate is to prove who it is.
    fn in_sasl(&mut self, request: Result<Request<'_>, Failure>, cx: &mut S2sCx<'_>) -> Result<(), Stop> {
        let failure = match (request, self.remote.clone()) {
            (Err(failure), _) => failure,
            (Ok(Request::Abort), _) => Failure::Aborted,
            (Ok(_), _) if !self.secured => Failure::EncryptionRequired,
            (Ok(_), _) if self.authenticated => Failure::MalformedRequest,
            (Ok(Request::Auth { mechanism: "EXTERNAL", initial }), Some(remote)) => {
                let authzid = initial.as_ref().map(|m| String::from_utf8_lossy(m).into_owned()).unwrap_or_default();
                if !authzid.is_empty() && wire::domain(&authzid).as_deref() != Some(&*remote) {
                    Failure::InvalidAuthzid
                } else if self.cert_proves(&remote) {
                    return self.in_authenticated(&remote, cx);
                } else {
                    Failure::NotAuthorized
                }
            }
            (Ok(Request::Auth { mechanism: "EXTERNAL", .. }), None) => Failure::NotAuthorized,
            (Ok(Request::Auth { .. }), _) => Failure::InvalidMechanism,
            (Ok(Request::Response(_)), _) => Failure::MalformedRequest,
        };
        profile::write_failure(failure, &mut self.output);
        self.failures += 1;
        match u32::from(self.failures) >= cx.limits.sasl_tries_max {
            true => Err(Stop::Error(StreamError::PolicyViolation, Some("too many failed logins"))),
            false => Ok(()),
        }
    }

    fn in_authenticated(&mut self, remote: &str, cx: &mut S2sCx<'_>) -> Result<(), Stop> {
        profile::write_success(None, &mut self.output);
        self.authenticated = true;
        self.header_sent = false;
        self.side = Side::In(In::Header);
        let pair = Pair::new(&self.local, remote);
        // It is told when the stream has begun anew.
        self.pairs.retain(|other| *other != pair);
        self.pairs.insert(0, pair);
        self.framer.set_limits(authenticated(cx.limits));
        self.framer.reset();
        Ok(())
    }
}

/// A language tag that stanzas may inherit; others are left out.
pub(super) fn language(tag: &str) -> Option<Rc<str>> {
    let is_tag = (1..=64).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    is_tag.then(|| Rc::from(tag))
}

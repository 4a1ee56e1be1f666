//! Streams of external components (XEP-0114): servers of a domain of their own that run beside this one, and prove who
//! they are by a secret that both know.

use super::{Event, Pair, S2s, S2sCx, Side, Stop, authenticated};
use crate::clock::token;
use crate::encoding::hex;
use crate::jid::Jid;
use crate::limits::Limits;
use crate::stream::StreamError;
use crate::stream::sasl::keys::equal;
use crate::xml::{Element, StreamHeader, ns, write_attribute};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use zeroize::Zeroizing;

/// What a component does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Sends a header.
    Header,
    /// Proves who it is.
    Handshake,
    /// Sends and takes stanzas.
    Open,
}

/// A component that may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Its domain, prepared.
    pub domain: String,
    /// What it shares with this server.
    pub secret: Zeroizing<String>,
}

/// What a component sends to prove who it is (section 3): hexadecimal digits in lower case.
pub fn proof(id: &str, secret: &str) -> String {
    hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, Zeroizing::new([id, secret].concat()).as_bytes()).as_ref())
}

impl S2s {
    /// A stream on a connection that a component has opened.
    pub fn component(limits: &Limits) -> Self {
        Self::new(Side::Component(Stage::Header), "", None, limits)
    }

    /// True for the stream of a component.
    pub fn is_component(&self) -> bool {
        matches!(self.side, Side::Component(_))
    }

    pub(super) fn component_opened(&mut self, header: &StreamHeader, cx: &mut S2sCx<'_>) -> Result<(), Stop> {
        if header.ns != ns::STREAM || header.content_ns != ns::COMPONENT {
            return Err(StreamError::InvalidNamespace.into());
        }
        let to = header.to.as_deref().and_then(|to| Jid::parse(to).ok()).filter(Jid::is_host);
        let Some(to) = to.filter(|to| cx.components.iter().any(|c| c.domain == to.domain())) else {
            return Err(Stop::Error(StreamError::HostUnknown, Some("no component of that domain is configured")));
        };
        self.remote = Some(to.domain().into());
        self.id = token(cx.entropy);
        write_header(to.domain(), &self.id, &mut self.output);
        self.header_sent = true;
        self.side = Side::Component(Stage::Handshake);
        Ok(())
    }

    pub(super) fn component_element(&mut self, element: &Element) -> Result<(), Stop> {
        let root = element.root();
        // Elements of the content namespace are those of a client's stream by now.
        let is = |stage| matches!(self.side, Side::Component(at) if at == stage);
        if !(is(Stage::Handshake) && root.is(ns::CLIENT, "handshake")) {
            let known = is(Stage::Open);
            return Err(if known { StreamError::UnsupportedStanzaType } else { StreamError::NotAuthorized }.into());
        }
        self.events.push_back(Event::Handshake { proof: root.text().trim().into() });
        Ok(())
    }

    /// Looks at what a component has sent to prove who it is, and lets it in if that is right.
    pub fn handshake(&mut self, said: &str, cx: &mut S2sCx<'_>) -> bool {
        let domain = self.remote.clone().unwrap_or_default();
        let component = cx.components.iter().find(|c| *c.domain == *domain);
        if !component.is_some_and(|c| equal(said.as_bytes(), proof(&self.id, &c.secret).as_bytes())) {
            return false;
        }
        self.output.extend_from_slice(b"<handshake/>");
        self.side = Side::Component(Stage::Open);
        self.framer.set_limits(authenticated(cx.limits));
        let pair = Pair { local: "".into(), remote: domain };
        self.pairs.push(pair.clone());
        self.events.push_back(Event::Proved { pair });
        true
    }
}

/// Writes our header.
pub(super) fn write_header(domain: &str, id: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"<?xml version='1.0'?><stream:stream");
    write_attribute("xmlns", ns::COMPONENT, out);
    write_attribute("xmlns:stream", ns::STREAM, out);
    write_attribute("from", domain, out);
    write_attribute("id", id, out);
    out.push(b'>');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The stream id of section 3's examples with a secret: `printf 3BF96D32secret | sha1sum`.
    #[test]
    fn the_proof_is_the_hash_of_id_and_secret() {
        assert_eq!(proof("3BF96D32", "secret"), "b09ea9b3b7f586be8a08d0a3dd7466f110aeb136");
    }
}

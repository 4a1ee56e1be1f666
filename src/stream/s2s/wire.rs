//! Headers and features of server streams (RFC 6120 sections 4.3, 4.7, 5, 6; XEP-0220, 0288, 0478).

use crate::jid::{self, Jid};
use crate::limits::Limits;
use crate::stream::StreamError;
use crate::xml::{Builder, ElementRef, StreamHeader, ns, write_attribute};

/// Writes our header. Domains are left out while they are not known (RFC 6120 section 4.9.1.3), the id by who
/// initiates the stream.
pub(super) fn write_header(from: &str, to: Option<&str>, id: Option<&str>, dialback: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"<?xml version='1.0'?><stream:stream");
    write_attribute("xmlns", ns::SERVER, out);
    write_attribute("xmlns:stream", ns::STREAM, out);
    if dialback {
        write_attribute("xmlns:db", ns::DIALBACK, out);
    }
    for (name, value) in [("id", id), ("from", Some(from).filter(|from| !from.is_empty())), ("to", to)] {
        if let Some(value) = value {
            write_attribute(name, value, out);
        }
    }
    out.extend_from_slice(b" version='1.0' xml:lang='en'>");
}

/// Checks what both kinds of headers have in common.
pub(super) fn check(header: &StreamHeader) -> Result<(), StreamError> {
    if header.ns != ns::STREAM {
        return Err(StreamError::InvalidNamespace);
    }
    // Section 4.8.5: many know streams by this prefix alone, so no other is accepted.
    if !header.template.prefixes().any(|declared| declared == ("stream", ns::STREAM)) {
        return Err(StreamError::BadNamespacePrefix);
    }
    if header.content_ns != ns::SERVER {
        return Err(StreamError::InvalidNamespace);
    }
    if header.name != "stream" {
        return Err(StreamError::BadFormat);
    }
    // Without a version it is a server of before RFC 3920, which knows no TLS.
    let major = header.version.as_deref().and_then(|v| v.split('.').next()?.parse::<u32>().ok());
    if major.is_none_or(|major| major < 1) {
        return Err(StreamError::UnsupportedVersion);
    }
    Ok(())
}

/// The prepared domain of an address in a header; none when it is no domain.
pub(super) fn domain(address: &str) -> Option<String> {
    let jid = Jid::parse(address).ok().filter(Jid::is_host)?;
    jid::prepare_domain(jid.domain()).ok()
}

/// What the receiving server offers.
pub(super) struct Offer<'a> {
    /// TLS must come first.
    pub starttls: bool,
    /// SASL EXTERNAL.
    pub external: bool,
    /// Server Dialback, with errors.
    pub dialback: bool,
    /// Both directions on one connection.
    pub bidi: bool,
    /// Stream management.
    pub management: bool,
    /// Bytes of the largest element that is taken.
    pub bytes_max: u32,
    pub limits: &'a Limits,
}

impl Offer<'_> {
    /// Writes `<stream:features/>`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut b = Builder::new(ns::STREAM, "features");
        if self.starttls {
            b.open(ns::TLS, "starttls").open(ns::TLS, "required").close().close();
        }
        if self.external {
            b.open(ns::SASL, "mechanisms").leaf(ns::SASL, "mechanism", "EXTERNAL").close();
        }
        if self.dialback {
            b.open(ns::DIALBACK_FEATURE, "dialback").open(ns::DIALBACK_FEATURE, "errors").close().close();
        }
        if self.bidi {
            b.open(ns::BIDI_FEATURE, "bidi").close();
        }
        if self.management {
            b.open(ns::SM, "sm").close();
        }
        write_limits(&mut b, self.bytes_max, self.limits);
        out.extend_from_slice(b"<stream:features>");
        b.finish().root().write_content(out);
        out.extend_from_slice(b"</stream:features>");
    }
}

fn write_limits(b: &mut Builder, bytes_max: u32, limits: &Limits) {
    b.open(ns::STREAM_LIMITS, "limits");
    b.leaf(ns::STREAM_LIMITS, "max-bytes", &bytes_max.to_string());
    b.leaf(ns::STREAM_LIMITS, "idle-seconds", &limits.s2s_idle_timeout_s.to_string());
    b.close();
}

/// Writes `<bidi/>`, with our limits in it because there is no other place for them (XEP-0478 section 3).
pub(super) fn write_bidi(limits: &Limits, out: &mut Vec<u8>) {
    let mut b = Builder::new(ns::BIDI, "bidi");
    write_limits(&mut b, limits.s2s_stanza_bytes_max, limits);
    b.finish().root().write("", out);
}

/// What a peer says that it takes (XEP-0478).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerLimits {
    /// Bytes of the largest element; none when it has not said.
    pub bytes_max: Option<u32>,
    /// Seconds without traffic after which it may close the stream.
    pub idle_s: Option<u32>,
}

/// Reads the limits in features or in `<bidi/>`.
pub(super) fn read_limits(parent: ElementRef<'_>) -> PeerLimits {
    let number = |name| {
        let limits = parent.child(ns::STREAM_LIMITS, "limits")?;
        limits.child(ns::STREAM_LIMITS, name)?.text().trim().parse().ok()
    };
    PeerLimits { bytes_max: number("max-bytes"), idle_s: number("idle-seconds") }
}

/// What a peer's features offer beyond TLS.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Offered {
    pub external: bool,
    pub dialback: bool,
    pub bidi: bool,
}

pub(super) fn read_offered(features: ElementRef<'_>, declares_dialback: bool) -> Offered {
    let mechanisms = features.child(ns::SASL, "mechanisms");
    Offered {
        external: mechanisms.is_some_and(|m| m.children().any(|m| m.text() == "EXTERNAL")),
        // Servers of before the stream feature say it with the namespace alone (XEP-0220 section 2.4.1).
        dialback: declares_dialback || features.has_child(ns::DIALBACK_FEATURE, "dialback"),
        bidi: features.has_child(ns::BIDI_FEATURE, "bidi"),
    }
}

//! Stream headers (RFC 6120 section 4.7): checking the client's, writing ours.

use super::StreamError;
use crate::clock::{Entropy, token};
use crate::jid::Jid;
use crate::xml::{StreamHeader, ns, write_attribute};

/// Bytes of a language tag; RFC 5646 section 4.4.1 asks for 35.
const LANG_BYTES_MAX: usize = 64;

/// What is kept of a client's header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Opened {
    /// Prepared domain in `to`.
    pub host: String,
    /// Bare address in `from`, which the answer repeats (section 4.7.2).
    pub from: Option<Jid>,
    /// `xml:lang`, for stanzas that have none of their own (section 4.7.4).
    pub lang: Option<String>,
}

/// Checks a client's header.
pub(super) fn check(header: &StreamHeader, serves: &dyn Fn(&str) -> bool) -> Result<Opened, StreamError> {
    if header.ns != ns::STREAM {
        return Err(StreamError::InvalidNamespace);
    }
    // Section 4.8.5: many know streams by this prefix alone, so no other is accepted.
    if !header.template.prefixes().any(|declared| declared == ("stream", ns::STREAM)) {
        return Err(StreamError::BadNamespacePrefix);
    }
    // None is allowed too: then each stanza says what it is (section 4.8.2).
    if !matches!(header.content_ns.as_str(), ns::CLIENT | "") {
        return Err(StreamError::InvalidNamespace);
    }
    if header.name != "stream" {
        return Err(StreamError::BadFormat);
    }
    // Without a version it is one of before RFC 3920, whose clients know neither TLS nor SASL.
    let major = header.version.as_deref().and_then(|v| v.split('.').next()?.parse::<u32>().ok());
    if major.is_none_or(|major| major < 1) {
        return Err(StreamError::UnsupportedVersion);
    }
    let to = header.to.as_deref().ok_or(StreamError::ImproperAddressing)?;
    let to = Jid::parse(to).ok().filter(Jid::is_host).ok_or(StreamError::ImproperAddressing)?;
    if !serves(to.domain()) {
        return Err(StreamError::HostUnknown);
    }
    Ok(Opened {
        host: to.domain().to_owned(),
        from: header.from.as_deref().and_then(|from| Jid::parse(from).ok()).map(|from| from.bare()),
        lang: header.lang.as_deref().filter(|lang| is_language_tag(lang)).map(str::to_owned),
    })
}

/// It goes into every stanza that has none, so it had better be one.
fn is_language_tag(lang: &str) -> bool {
    (1..=LANG_BYTES_MAX).contains(&lang.len()) && lang.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// How each header of ours begins.
pub const HEADER: &str =
    "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'";

/// Writes our header. Without `host`, before it is known, there is no `from` (section 4.9.1.3). Each header has a new
/// id that nobody can guess (section 4.7.3).
pub(super) fn write(host: Option<&str>, to: Option<&Jid>, entropy: &mut dyn Entropy, out: &mut Vec<u8>) {
    out.extend_from_slice(HEADER.as_bytes());
    write_attribute("id", &token(entropy), out);
    if let Some(host) = host {
        write_attribute("from", host, out);
    }
    if let Some(to) = to {
        write_attribute("to", to.as_str(), out);
    }
    out.extend_from_slice(b" version='1.0' xml:lang='en'>");
}

//! Stream errors (RFC 6120 section 4.9): the connection that gets one is at its end.

use crate::xml::{ReadError, ScanError, escape_text, ns, write_attribute};

macro_rules! conditions {
    ($( $(#[$doc:meta])* $variant:ident $name:literal, )*) => {
        /// Defined conditions (RFC 6120 section 4.9.3).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum StreamError { $( $(#[$doc])* $variant, )* }

        impl StreamError {
            /// All of them, in the order of the RFC.
            pub const ALL: &[StreamError] = &[ $( Self::$variant, )* ];

            /// Element name.
            pub fn condition(self) -> &'static str {
                match self { $( Self::$variant => $name, )* }
            }
        }
    };
}

conditions! {
    /// 4.9.3.1: XML that cannot be processed, such as text between stanzas.
    BadFormat "bad-format",
    /// 4.9.3.2: a prefix that is not supported, or none where one is needed.
    BadNamespacePrefix "bad-namespace-prefix",
    /// 4.9.3.3: another stream took this one's place.
    Conflict "conflict",
    /// 4.9.3.4: the peer has not been heard of for too long.
    ConnectionTimeout "connection-timeout",
    /// 4.9.3.5: we no longer serve that host.
    HostGone "host-gone",
    /// 4.9.3.6: we do not serve that host.
    HostUnknown "host-unknown",
    /// 4.9.3.7: no `to` or `from` where one is needed, or not an address.
    ImproperAddressing "improper-addressing",
    /// 4.9.3.8: our own fault.
    InternalServerError "internal-server-error",
    /// 4.9.3.9: a `from` that is not the peer's.
    InvalidFrom "invalid-from",
    /// 4.9.3.10: another namespace than that of streams, or content that is not `jabber:client`.
    InvalidNamespace "invalid-namespace",
    /// 4.9.3.11: XML that a validating party found invalid.
    InvalidXml "invalid-xml",
    /// 4.9.3.12: stanzas before authentication or resource binding.
    NotAuthorized "not-authorized",
    /// 4.9.3.13: not XML.
    NotWellFormed "not-well-formed",
    /// 4.9.3.14: a rule of this server, such as a limit.
    PolicyViolation "policy-violation",
    /// 4.9.3.15: a server that is needed for the request cannot be reached.
    RemoteConnectionFailed "remote-connection-failed",
    /// 4.9.3.16: features changed, connect again.
    Reset "reset",
    /// 4.9.3.17: no room for this stream.
    ResourceConstraint "resource-constraint",
    /// 4.9.3.18: XML that XMPP forbids, such as a comment.
    RestrictedXml "restricted-xml",
    /// 4.9.3.19: connect elsewhere. The text is the place.
    SeeOtherHost "see-other-host",
    /// 4.9.3.20: this server stops.
    SystemShutdown "system-shutdown",
    /// 4.9.3.21: something else.
    UndefinedCondition "undefined-condition",
    /// 4.9.3.22: not UTF-8.
    UnsupportedEncoding "unsupported-encoding",
    /// 4.9.3.23: the peer does not support a feature that is required.
    UnsupportedFeature "unsupported-feature",
    /// 4.9.3.24: a first-level element that means nothing here.
    UnsupportedStanzaType "unsupported-stanza-type",
    /// 4.9.3.25: a version of XMPP before 1.0.
    UnsupportedVersion "unsupported-version",
}

impl StreamError {
    /// What a peer is told about bytes that the scanner refuses, with a text where the condition does not say it all.
    pub fn of_scan(error: ScanError) -> (Self, Option<&'static str>) {
        match error {
            ScanError::NotWellFormed => (Self::NotWellFormed, None),
            ScanError::RestrictedXml => (Self::RestrictedXml, None),
            ScanError::BadText => (Self::BadFormat, Some("text between stanzas")),
            ScanError::UnsupportedEncoding => (Self::UnsupportedEncoding, None),
            ScanError::TooLong => (Self::PolicyViolation, Some("too many bytes in one element")),
            ScanError::TooDeep => (Self::PolicyViolation, Some("elements nested too deeply")),
            ScanError::TooMany => {
                (Self::PolicyViolation, Some("too many attributes, namespaces or nodes in one element"))
            }
        }
    }

    /// What a peer is told about a frame that the reader refuses.
    pub fn of_read(error: ReadError) -> (Self, Option<&'static str>) {
        match error {
            ReadError::NotWellFormed => (Self::NotWellFormed, None),
            ReadError::RestrictedXml => (Self::RestrictedXml, None),
            ReadError::TooMuch => (Self::PolicyViolation, Some("too many prefixes, or an element too large")),
            ReadError::Scan(error) => Self::of_scan(error),
        }
    }

    /// Writes `<stream:error/>` behind a stream header that declares the prefix `stream`. The text, in English, is for
    /// the person who reads the client's log.
    pub fn write(self, text: Option<&str>, out: &mut Vec<u8>) {
        let condition = self.condition().as_bytes();
        out.extend_from_slice(b"<stream:error><");
        out.extend_from_slice(condition);
        write_attribute("xmlns", ns::STREAM_ERROR, out);
        match text {
            Some(place) if self == Self::SeeOtherHost => {
                out.push(b'>');
                escape_text(place, out);
                out.extend_from_slice(b"</");
                out.extend_from_slice(condition);
                out.push(b'>');
            }
            Some(text) => {
                out.extend_from_slice(b"/><text");
                write_attribute("xmlns", ns::STREAM_ERROR, out);
                out.extend_from_slice(b" xml:lang='en'>");
                escape_text(text, out);
                out.extend_from_slice(b"</text>");
            }
            None => out.extend_from_slice(b"/>"),
        }
        out.extend_from_slice(b"</stream:error>");
    }

    /// XEP-0138 section 3: what the peer sends cannot be inflated.
    #[cfg(feature = "compression")]
    pub(super) fn write_processing_failed(out: &mut Vec<u8>) {
        out.extend_from_slice(b"<stream:error><undefined-condition");
        write_attribute("xmlns", ns::STREAM_ERROR, out);
        out.extend_from_slice(b"/>");
        super::compression::write_failure("processing-failed", out);
        out.extend_from_slice(b"</stream:error>");
    }

    /// XEP-0198 section 6: the peer acknowledges more stanzas than there were.
    pub(super) fn write_handled_too_high(h: u32, sent: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(b"<stream:error><undefined-condition");
        write_attribute("xmlns", ns::STREAM_ERROR, out);
        out.extend_from_slice(b"/><handled-count-too-high");
        write_attribute("xmlns", ns::SM, out);
        write_attribute("h", &h.to_string(), out);
        write_attribute("send-count", &sent.to_string(), out);
        out.extend_from_slice(b"/></stream:error>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(error: StreamError, text: Option<&str>) -> String {
        let mut out = Vec::new();
        error.write(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_twenty_five_conditions() {
        assert_eq!(StreamError::ALL.len(), 25);
        assert!(StreamError::ALL.is_sorted_by_key(|e| e.condition()));
        assert_eq!(
            written(StreamError::Conflict, None),
            "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
        );
    }

    #[test]
    fn texts_are_escaped_and_see_other_host_holds_its_own() {
        assert_eq!(
            written(StreamError::BadFormat, Some("a<b")),
            "<stream:error><bad-format xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
             <text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>a&lt;b</text></stream:error>"
        );
        assert_eq!(
            written(StreamError::SeeOtherHost, Some("[2001:db8::1]:5222")),
            "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>[2001:db8::1]:5222\
             </see-other-host></stream:error>"
        );
    }
}

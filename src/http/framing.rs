//! Streams without `<stream:stream>`: messages of WebSocket (RFC 7395) and bodies of BOSH hold single elements, each
//! with its own namespaces. Here they become the bytes of a stream as RFC 6120 has it, and its bytes become them, so
//! that the engine knows one kind of stream.

use crate::limits::Limits;
use crate::stream::{HEADER, StreamError};
use crate::xml::{Element, FrameKind, ScanLimits, Scanner, ns, parse, write_attribute};

/// RFC 7395 section 3.3.
const FRAMING: &str = "urn:ietf:params:xml:ns:xmpp-framing";
const END: &[u8] = b"</stream:stream>";

/// A piece of what the engine sends.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// The header: its attributes but for namespaces, as they stand there, each with a blank before it.
    Header(Vec<u8>),
    /// One element that declares what it needs; and whether it says that somebody has logged in.
    Element(Vec<u8>, bool),
    /// The end of the stream.
    End,
}

/// Cuts what the engine sends, which is whole elements.
pub fn split(bytes: &[u8], mut each: impl FnMut(Piece)) {
    let mut rest = bytes;
    while !rest.is_empty() {
        if let Some(attributes) = rest.strip_prefix(HEADER.as_bytes()) {
            let len = tag_len(attributes);
            each(Piece::Header(attributes.get(..len).unwrap_or_default().to_vec()));
            rest = attributes.get(len + 1..).unwrap_or_default();
        } else if let Some(behind) = rest.strip_prefix(END) {
            each(Piece::End);
            rest = behind;
        } else {
            match Scanner::without_stream(UNBOUNDED).scan(rest) {
                Ok(Some(frame)) if frame.len > 0 => {
                    let (element, behind) = rest.split_at(frame.len.min(rest.len()));
                    if frame.kind == FrameKind::Element {
                        each(standalone(element));
                    }
                    rest = behind;
                }
                // What we have written is sound.
                _ => return,
            }
        }
    }
}

/// What we write has its bounds already.
const UNBOUNDED: ScanLimits = ScanLimits {
    bytes_max: usize::MAX,
    depth_max: u32::MAX,
    attributes_max: u32::MAX,
    namespaces_max: u32::MAX,
    namespace_bytes_max: usize::MAX,
    nodes_max: u32::MAX,
};

/// Bytes up to the end of the tag.
pub fn tag_len(bytes: &[u8]) -> usize {
    let mut quote = None;
    for (at, byte) in bytes.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return at,
            (None, b'\'' | b'"') => quote = Some(*byte),
            (Some(open), byte) if open == *byte => quote = None,
            _ => {}
        }
    }
    bytes.len()
}

/// True when a start tag, without its brackets, declares the default namespace.
fn declares_default(tag: &[u8]) -> bool {
    let mut quote = None;
    for (at, byte) in tag.iter().enumerate() {
        match (quote, byte) {
            (None, b'\'' | b'"') => quote = Some(*byte),
            (None, b' ') if tag.get(at + 1..).is_some_and(|rest| rest.starts_with(b"xmlns=")) => return true,
            (Some(open), byte) if open == *byte => quote = None,
            _ => {}
        }
    }
    false
}

/// The element with the namespaces that it has from the stream.
fn standalone(element: &[u8]) -> Piece {
    let tag = element.get(1..1 + tag_len(element.get(1..).unwrap_or_default())).unwrap_or_default();
    let name_len = tag.iter().position(|b| matches!(b, b' ' | b'/' | b'>')).unwrap_or(tag.len());
    let (name, attributes) = tag.split_at(name_len);
    let mut out = Vec::with_capacity(element.len() + 64);
    out.push(b'<');
    out.extend_from_slice(name);
    if name.starts_with(b"stream:") {
        write_attribute("xmlns:stream", ns::STREAM, &mut out);
    } else if !name.contains(&b':') && !declares_default(attributes) {
        write_attribute("xmlns", ns::CLIENT, &mut out);
    }
    out.extend_from_slice(element.get(1 + name_len..).unwrap_or_default());
    Piece::Element(out, name == b"success")
}

/// RFC 7395: one stream, each of whose elements is a message of its own.
#[derive(Debug)]
pub struct Messages {
    /// `<open/>` is what must come next.
    opens: bool,
    /// The client has logged in.
    is_known: bool,
}

impl Default for Messages {
    fn default() -> Self {
        Self { opens: true, is_known: false }
    }
}

impl Messages {
    /// Bytes that the next message may have.
    pub fn bytes_max(&self, limits: &Limits) -> usize {
        // White space and the namespaces that a stream would have declared.
        const BESIDE: usize = 256;
        let max = if self.is_known { limits.stanza_bytes_max } else { limits.stanza_bytes_max_before_auth };
        max as usize + BESIDE
    }

    /// What the client says, as bytes of a stream.
    ///
    /// # Errors
    /// The stream ends with that.
    pub fn incoming(&mut self, message: &str, limits: &Limits) -> Result<Vec<u8>, StreamError> {
        // Some clients keep connections alive that way, as they do without WebSocket.
        if message.bytes().all(|b| b.is_ascii_whitespace()) {
            return Ok(Vec::new());
        }
        let message = message.trim_ascii_end();
        // Section 3.3.3.
        if !message.starts_with('<') {
            return Err(StreamError::BadFormat);
        }
        let bounds = if self.is_known { ScanLimits::authenticated(limits) } else { ScanLimits::stranger(limits) };
        let bounds = ScanLimits { bytes_max: self.bytes_max(limits), ..bounds };
        match Scanner::without_stream(bounds).scan(message.as_bytes()) {
            Ok(Some(frame)) if frame.kind == FrameKind::Element && frame.len == message.len() => {}
            // Less or more than one element: no other may be begun or ended by it.
            Ok(_) => return Err(StreamError::BadFormat),
            Err(error) => return Err(StreamError::of_scan(error).0),
        }
        let framing = message.contains(FRAMING).then(|| parse(message).ok()).flatten();
        let framing = framing.filter(|element| element.root().ns() == FRAMING);
        match framing.as_ref().map(|element| element.root().name().to_owned()).as_deref() {
            Some("open") if self.opens => {
                self.opens = false;
                Ok(framing.map(|open| header(&open)).unwrap_or_default())
            }
            Some("close") => Ok(END.to_vec()),
            Some(_) => Err(StreamError::UnsupportedStanzaType),
            // Section 3.4: the stream begins with it, and begins anew with it behind a login.
            None if self.opens => Err(StreamError::InvalidNamespace),
            None => Ok(message.as_bytes().to_vec()),
        }
    }

    /// What the engine sends, each message on its own.
    pub fn outgoing(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        split(bytes, |piece| match piece {
            Piece::Header(attributes) => {
                let mut open = format!("<open xmlns='{FRAMING}'").into_bytes();
                open.extend_from_slice(&attributes);
                open.extend_from_slice(b"/>");
                each(&open);
            }
            Piece::Element(element, says_success) => {
                if says_success {
                    self.is_known = true;
                    // With SASL2 there is no new header (XEP-0388 section 2.6.4).
                    self.opens |= !contains(&element, ns::SASL2);
                }
                each(&element);
            }
            Piece::End => each(format!("<close xmlns='{FRAMING}'/>").as_bytes()),
        });
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    memchr::memmem::find(bytes, text.as_bytes()).is_some()
}

/// `<open/>` as the header of a stream.
fn header(open: &Element) -> Vec<u8> {
    let mut out = b"<stream:stream".to_vec();
    write_attribute("xmlns", ns::CLIENT, &mut out);
    write_attribute("xmlns:stream", ns::STREAM, &mut out);
    for name in ["to", "from", "version", "id"] {
        if let Some(value) = open.root().attr(name) {
            write_attribute(name, value, &mut out);
        }
    }
    if let Some(lang) = open.root().attributes().find(|a| a.ns == ns::XML && a.name == "lang") {
        write_attribute("xml:lang", lang.value, &mut out);
    }
    out.push(b'>');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: &str = "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='a.example' version='1.0' xml:lang='de'/>";

    fn outgoing(messages: &mut Messages, text: &str) -> Vec<String> {
        let mut all = Vec::new();
        messages.outgoing(text.as_bytes(), |message| all.push(String::from_utf8(message.to_vec()).unwrap()));
        all
    }

    fn incoming(messages: &mut Messages, text: &str) -> Result<String, StreamError> {
        messages.incoming(text, &Limits::default()).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_stream_becomes_messages_and_messages_a_stream() {
        let mut messages = Messages::default();
        assert_eq!(
            incoming(&mut messages, OPEN).unwrap(),
            "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='a.example' \
             version='1.0' xml:lang='de'>"
        );
        let header = format!("{HEADER} id='x&gt;' from='a.example' version='1.0' xml:lang='en'>");
        let text = format!(
            "{header}<stream:features><bind xmlns='b'/></stream:features><success xmlns='urn:ietf:params:xml:ns:\
             xmpp-sasl'/><message to='x' id=' xmlns='><body>&lt;/&gt;</body></message><iq/><presence xmlns='jabber:\
             client'/><r xmlns='urn:xmpp:sm:3'/></stream:stream>"
        )
        .replace("id=' xmlns='>", "id=\" xmlns='\">");
        assert_eq!(
            outgoing(&mut messages, &text),
            [
                "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' id='x&gt;' from='a.example' version='1.0' \
             xml:lang='en'/>",
                "<stream:features xmlns:stream='http://etherx.jabber.org/streams'><bind xmlns='b'/></stream:features>",
                "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
                "<message xmlns='jabber:client' to='x' id=\" xmlns='\"><body>&lt;/&gt;</body></message>",
                "<iq xmlns='jabber:client'/>",
                "<presence xmlns='jabber:client'/>",
                "<r xmlns='urn:xmpp:sm:3'/>",
                "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>",
            ]
        );
        assert!(incoming(&mut messages, OPEN).is_ok(), "anew behind the login");
        assert_eq!(incoming(&mut messages, OPEN), Err(StreamError::UnsupportedStanzaType));
        let message = "<message xmlns='jabber:client'><body>urn:ietf:params:xml:ns:xmpp-framing</body></message>";
        assert_eq!(incoming(&mut messages, message).as_deref(), Ok(message));
        assert_eq!(incoming(&mut messages, " \n").as_deref(), Ok(""));
        let close = "<f:close xmlns:f='urn:ietf:params:xml:ns:xmpp-framing'/>";
        assert_eq!(incoming(&mut messages, close).as_deref(), Ok("</stream:stream>"));
    }

    #[test]
    fn a_login_with_sasl2_needs_no_new_header() {
        let mut messages = Messages::default();
        incoming(&mut messages, OPEN).unwrap();
        outgoing(&mut messages, "<success xmlns='urn:xmpp:sasl:2'><authorization-identifier/></success>");
        assert!(messages.is_known);
        assert_eq!(incoming(&mut messages, OPEN), Err(StreamError::UnsupportedStanzaType));
    }

    #[test]
    fn a_message_is_one_element() {
        let mut messages = Messages::default();
        assert_eq!(incoming(&mut messages, "<presence/>"), Err(StreamError::InvalidNamespace), "before it is open");
        incoming(&mut messages, OPEN).unwrap();
        for (wrong, error) in [
            ("x<a/>", StreamError::BadFormat),
            ("<a>", StreamError::BadFormat),
            ("</a>", StreamError::NotWellFormed),
            ("</stream:stream>", StreamError::NotWellFormed),
            ("<a/><b/>", StreamError::BadFormat),
            ("<a/>x", StreamError::BadFormat),
            ("<?xml version='1.0'?>", StreamError::RestrictedXml),
            ("<!-- -->", StreamError::RestrictedXml),
            ("<stream:stream xmlns:stream='http://etherx.jabber.org/streams'>", StreamError::BadFormat),
        ] {
            assert_eq!(incoming(&mut messages, wrong), Err(error), "{wrong}");
        }
    }
}

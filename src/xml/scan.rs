//! Finds where each piece of a stream ends, without parsing it, and enforces what no parser should have to see.
//!
//! Refused here: comments, processing instructions, DTDs and undefined entities (RFC 6120 section 11.1), text
//! directly under the stream, other encodings than UTF-8 (section 11.6), and whatever is too long, too deep or too
//! many. What passes is not yet well-formed: the reader decides that on the frame.
//!
//! The caller keeps the bytes, the scanner a few numbers. Each byte is looked at a bounded number of times, however
//! the stream is cut into reads.

use memchr::{memchr, memchr2, memchr3};

use super::markup::{
    attribute_name, check_declaration, check_reference, has_duplicate, hash, is_declaration, is_space,
};
use crate::fault::{Fault, armed};
use crate::limits::Limits;

/// Bounds of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanLimits {
    /// Bytes of one frame.
    pub bytes_max: usize,
    /// Elements inside each other; a stanza without children has depth 1.
    pub depth_max: u32,
    /// Attributes of one element, namespace declarations among them.
    pub attributes_max: u32,
    /// Prefixes declared in one frame. Default namespaces do not count: they hide each other, so that no more of
    /// them are in force than elements are open.
    pub namespaces_max: u32,
    /// Bytes of one declared namespace.
    pub namespace_bytes_max: usize,
    /// Elements, attributes and texts in one frame.
    pub nodes_max: u32,
}

impl ScanLimits {
    /// For a peer that has authenticated.
    pub fn authenticated(limits: &Limits) -> Self {
        Self {
            bytes_max: limits.stanza_bytes_max as usize,
            depth_max: limits.depth_max,
            attributes_max: limits.attributes_max,
            namespaces_max: limits.namespaces_max,
            namespace_bytes_max: limits.namespace_bytes_max as usize,
            nodes_max: limits.nodes_max,
        }
    }

    /// For a stranger.
    pub fn stranger(limits: &Limits) -> Self {
        Self { bytes_max: limits.stanza_bytes_max_before_auth as usize, ..Self::authenticated(limits) }
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// `<?xml version='1.0'?>`, checked. Nothing in it is of further interest.
    Declaration,
    /// The start tag of the stream, for [`super::Reader::stream_header`].
    StreamOpen,
    /// A complete child of the stream, for [`super::Reader::element`].
    Element,
    /// The end tag of the stream. Nothing but white space may follow.
    StreamClose,
    /// White space between elements: a keep-alive (RFC 6120 section 4.6.1).
    Whitespace,
}

/// One piece of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: FrameKind,
    /// Its bytes, from the start of the buffer.
    pub len: usize,
}

/// Why a stream cannot go on, with the condition of its stream error (RFC 6120 section 4.9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanError {
    /// Not XML, or not UTF-8: `not-well-formed`.
    NotWellFormed,
    /// Comment, processing instruction, DTD, XML 1.1, or an entity that XML does not define: `restricted-xml`.
    RestrictedXml,
    /// Text directly under the stream: `bad-format`.
    BadText,
    /// The declaration names another encoding, or the first byte shows one: `unsupported-encoding`.
    UnsupportedEncoding,
    /// More bytes than `bytes_max`: `policy-violation`.
    TooLong,
    /// Deeper than `depth_max`: `policy-violation`.
    TooDeep,
    /// Too many attributes, prefixes or nodes, or a namespace too long: `policy-violation`.
    TooMany,
}

impl std::fmt::Display for ScanError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ScanError::NotWellFormed => "not well-formed XML in UTF-8",
            ScanError::RestrictedXml => "a comment, processing instruction, DTD or entity, which XMPP does not allow",
            ScanError::BadText => "text outside of a stanza",
            ScanError::UnsupportedEncoding => "an encoding other than UTF-8",
            ScanError::TooLong => "more bytes than one stanza may have",
            ScanError::TooDeep => "elements nested too deeply",
            ScanError::TooMany => "too many attributes, prefixes or nodes in one stanza, or a namespace too long",
        })
    }
}

impl std::error::Error for ScanError {}

/// Which part of the stream comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing yet but white space.
    Start,
    /// The declaration was seen.
    Declared,
    /// Between the start tag and the end tag of the stream.
    Open,
    /// Behind the end tag.
    Closed,
}

/// Where in the frame the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At its start.
    Start,
    /// Behind `<`.
    Markup,
    /// Behind `<?`.
    Declaration,
    /// Behind `<!`.
    Bang,
    /// In a start tag, outside of attribute values.
    Tag,
    /// In an attribute value that ends with this quote.
    Value(u8),
    /// Behind `</`.
    EndTag,
    /// In the content of an element.
    Text,
    /// Behind `&`, in text or in the value that ends with this quote.
    Reference(Option<u8>),
    /// Behind `<![CDATA[`.
    Cdata,
}

const CDATA: &[u8] = b"[CDATA[";

/// The framing of one stream.
#[derive(Clone, Debug)]
pub struct Scanner {
    limits: ScanLimits,
    phase: Phase,
    state: State,
    /// Bytes of the buffer that have been looked at.
    at: usize,
    /// Where the current tag starts, behind `<`, `</` or `<!`.
    tag: usize,
    /// Where the current attribute value starts.
    value: usize,
    /// The current attribute value is a namespace.
    in_declaration: bool,
    /// There is text since the last tag.
    text: bool,
    /// Open elements of the frame.
    depth: u32,
    /// Attributes of the current tag.
    attributes: u32,
    /// Namespaces declared in the current tag, with and without prefix.
    declarations: u32,
    /// Prefixes declared in the frame.
    prefixes: u32,
    /// Nodes in the frame.
    nodes: u32,
    /// Hash of the stream's name, to check its end tag without keeping a name that the peer chose.
    root: u32,
}

impl Scanner {
    /// A scanner at the start of a stream.
    pub fn new(limits: ScanLimits) -> Self {
        Self {
            limits,
            phase: Phase::Start,
            state: State::Start,
            at: 0,
            tag: 0,
            value: 0,
            in_declaration: false,
            text: false,
            depth: 0,
            attributes: 0,
            declarations: 0,
            prefixes: 0,
            nodes: 0,
            root: 0,
        }
    }

    /// A scanner for elements without a stream around them.
    pub fn without_stream(limits: ScanLimits) -> Self {
        Self { phase: Phase::Open, ..Self::new(limits) }
    }

    /// Sets other limits, as after authentication. They hold for a frame already begun too.
    pub fn set_limits(&mut self, limits: ScanLimits) {
        self.limits = limits;
    }

    /// Starts a new stream with the next byte that is not consumed, as after STARTTLS or SASL.
    pub fn reset(&mut self) {
        *self = Self::new(self.limits);
    }

    /// True when a frame has begun and not ended.
    pub fn is_inside_frame(&self) -> bool {
        self.at > 0
    }

    /// Looks for the end of the next frame. `buf` starts at the first byte that is not consumed: after a frame the
    /// caller drops its `len` bytes; after `None` it keeps all and calls again when there is more behind them.
    ///
    /// # Errors
    /// When the stream cannot go on; the scanner is then of no use until [`Scanner::reset`]. The bound on bytes
    /// fires as soon as it is passed, not at the end of the frame.
    pub fn scan(&mut self, buf: &[u8]) -> Result<Option<Frame>, ScanError> {
        let visible = buf.get(..self.limits.bytes_max).unwrap_or(buf);
        match self.advance(visible)? {
            Some(kind) => self.end_frame(kind, visible).map(Some),
            None if buf.len() > visible.len() => Err(ScanError::TooLong),
            None => Ok(None),
        }
    }

    /// Moves on until a frame ends, whose length is then `at`, or until `buf` does.
    fn advance(&mut self, buf: &[u8]) -> Result<Option<FrameKind>, ScanError> {
        while let Some(&byte) = buf.get(self.at) {
            let rest = &buf[self.at..];
            match self.state {
                State::Start if byte == b'<' => self.go(State::Markup),
                State::Start => return self.between(byte, rest).map(Some),
                State::Markup => self.markup(byte)?,
                State::Bang => self.bang(&buf[self.tag..])?,
                State::Declaration => {
                    if self.skip_to(memchr(b'>', rest), buf) {
                        self.at += 1;
                        check_declaration(&buf[..self.at])?;
                        return Ok(Some(FrameKind::Declaration));
                    }
                }
                State::Tag => {
                    if self.skip_to(memchr3(b'\'', b'"', b'>', rest), buf) {
                        let tag = &buf[self.tag..self.at];
                        match buf[self.at] {
                            b'>' => {
                                self.go(State::Text);
                                if let Some(kind) = self.start_tag(tag)? {
                                    return Ok(Some(kind));
                                }
                            }
                            quote => {
                                self.attribute(tag)?;
                                self.go(State::Value(quote));
                                self.value = self.at;
                            }
                        }
                    }
                }
                State::Value(quote) => {
                    if self.skip_to(memchr3(quote, b'<', b'&', rest), buf) {
                        match buf[self.at] {
                            b'<' => return Err(ScanError::NotWellFormed),
                            b'&' => self.go(State::Reference(Some(quote))),
                            _ if self.in_declaration && self.at - self.value > self.limits.namespace_bytes_max => {
                                return Err(ScanError::TooMany);
                            }
                            _ => self.go(State::Tag),
                        }
                    }
                }
                State::Text => {
                    let start = self.at;
                    let found = self.skip_to(memchr2(b'<', b'&', rest), buf);
                    self.text |= self.at > start;
                    if found {
                        self.go(if buf[self.at] == b'<' { State::Markup } else { State::Reference(None) });
                    }
                }
                State::Reference(value) => {
                    if self.skip_to(rest.iter().position(|b| !b.is_ascii_alphanumeric() && *b != b'#'), buf) {
                        check_reference(&buf[..self.at], buf[self.at])?;
                        self.text |= value.is_none();
                        self.go(value.map_or(State::Text, State::Value));
                    } else if armed(Fault::SplitForgotten) {
                        self.state = value.map_or(State::Text, State::Value);
                    }
                }
                State::EndTag => {
                    if self.skip_to(memchr(b'>', rest), buf) {
                        let name = buf[self.tag..self.at].trim_ascii_end();
                        self.go(State::Text);
                        if self.depth == 0 {
                            let matches = hash(name) == self.root;
                            return matches.then_some(Some(FrameKind::StreamClose)).ok_or(ScanError::NotWellFormed);
                        }
                        if self.leave_element()? {
                            return Ok(Some(FrameKind::Element));
                        }
                    }
                }
                State::Cdata => {
                    if self.skip_to(memchr(b'>', rest), buf) {
                        // The section starts with `[`, so that both brackets are inside of it.
                        let ended = buf[..self.at].ends_with(b"]]");
                        self.go(if ended { State::Text } else { State::Cdata });
                    }
                }
            }
        }
        Ok(None)
    }

    /// Consumes a byte and goes on in `state`.
    fn go(&mut self, state: State) {
        self.at += 1;
        self.state = state;
    }

    /// Goes to what was found in the rest of `buf`; false, and at the end, when nothing was.
    fn skip_to(&mut self, found: Option<usize>, buf: &[u8]) -> bool {
        self.at = found.map_or(buf.len(), |offset| self.at + offset);
        found.is_some()
    }

    /// What stands between frames and is no markup.
    fn between(&mut self, byte: u8, rest: &[u8]) -> Result<FrameKind, ScanError> {
        if is_space(byte) {
            self.at = rest.iter().position(|&b| !is_space(b)).unwrap_or(rest.len());
            return Ok(FrameKind::Whitespace);
        }
        Err(match (self.phase, byte) {
            // No UTF-8 text starts so: UTF-16 or UTF-32.
            (Phase::Start, 0 | 0xFE | 0xFF) => ScanError::UnsupportedEncoding,
            (Phase::Open, _) => ScanError::BadText,
            (Phase::Start | Phase::Declared | Phase::Closed, _) => ScanError::NotWellFormed,
        })
    }

    /// What `<` begins.
    fn markup(&mut self, byte: u8) -> Result<(), ScanError> {
        match (byte, self.phase) {
            (_, Phase::Closed) => return Err(ScanError::NotWellFormed),
            (b'?', Phase::Start) => self.go(State::Declaration),
            (b'!', Phase::Open) if self.depth > 0 => self.go(State::Bang),
            (b'?' | b'!', _) => return Err(ScanError::RestrictedXml),
            (b'/', Phase::Open) => self.go(State::EndTag),
            (b'/' | b'<' | b'>', _) => return Err(ScanError::NotWellFormed),
            _ => {
                self.state = State::Tag;
                self.attributes = 0;
                self.declarations = 0;
                self.end_text()?;
                self.count_node()?;
            }
        }
        self.tag = self.at;
        Ok(())
    }

    /// What `<!` begins: only a CDATA section may stand in content.
    fn bang(&mut self, from_bang: &[u8]) -> Result<(), ScanError> {
        let known = from_bang.len().min(CDATA.len());
        if from_bang[..known] != CDATA[..known] {
            return Err(ScanError::RestrictedXml);
        }
        self.at = self.tag + known;
        if known == CDATA.len() {
            self.state = State::Cdata;
            self.text = true;
        }
        Ok(())
    }

    /// Counts an attribute. `tag` reaches up to the quote of its value.
    fn attribute(&mut self, tag: &[u8]) -> Result<(), ScanError> {
        let name = attribute_name(tag).ok_or(ScanError::NotWellFormed)?;
        self.attributes += 1;
        self.in_declaration = is_declaration(name);
        if self.in_declaration {
            self.declarations += 1;
            self.prefixes += u32::from(name != b"xmlns");
        } else {
            self.count_node()?;
        }
        match self.attributes > self.limits.attributes_max || self.prefixes > self.limits.namespaces_max {
            true => Err(ScanError::TooMany),
            false => Ok(()),
        }
    }

    /// Handles a start tag, from its name to before its `>`.
    fn start_tag(&mut self, tag: &[u8]) -> Result<Option<FrameKind>, ScanError> {
        // The reader knows duplicate attributes, but not duplicate declarations.
        if self.declarations > 1 && has_duplicate(tag) {
            return Err(ScanError::NotWellFormed);
        }
        let empty = tag.ends_with(b"/");
        if self.phase != Phase::Open {
            if empty {
                return Err(ScanError::NotWellFormed);
            }
            let name_len = tag.iter().position(|&b| is_space(b)).unwrap_or(tag.len());
            self.root = hash(&tag[..name_len]);
            return Ok(Some(FrameKind::StreamOpen));
        }
        self.depth += 1;
        if self.depth > self.limits.depth_max {
            return Err(ScanError::TooDeep);
        }
        Ok((empty && self.leave_element()?).then_some(FrameKind::Element))
    }

    /// Leaves an element; true when it was the stanza.
    fn leave_element(&mut self) -> Result<bool, ScanError> {
        self.end_text()?;
        self.depth = self.depth.saturating_sub(1);
        Ok(self.depth == 0)
    }

    fn end_text(&mut self) -> Result<(), ScanError> {
        match std::mem::take(&mut self.text) {
            true => self.count_node(),
            false => Ok(()),
        }
    }

    fn count_node(&mut self) -> Result<(), ScanError> {
        self.nodes += 1;
        match self.nodes > self.limits.nodes_max {
            true => Err(ScanError::TooMany),
            false => Ok(()),
        }
    }

    /// Checks a frame as a whole and makes ready for the next.
    fn end_frame(&mut self, kind: FrameKind, buf: &[u8]) -> Result<Frame, ScanError> {
        let len = self.at;
        self.phase = match kind {
            FrameKind::Declaration => Phase::Declared,
            FrameKind::StreamOpen => Phase::Open,
            FrameKind::StreamClose => Phase::Closed,
            FrameKind::Element | FrameKind::Whitespace => self.phase,
        };
        self.state = State::Start;
        self.at = 0;
        self.prefixes = 0;
        self.nodes = 0;
        match std::str::from_utf8(&buf[..len]) {
            Ok(_) => Ok(Frame { kind, len }),
            Err(_) => Err(ScanError::NotWellFormed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::FrameKind::{Declaration, Element, StreamClose, StreamOpen, Whitespace};
    use super::ScanError::{BadText, NotWellFormed, RestrictedXml, TooDeep, TooLong, TooMany, UnsupportedEncoding};
    use super::*;

    const LIMITS: ScanLimits = ScanLimits {
        bytes_max: 1000,
        depth_max: 4,
        attributes_max: 4,
        namespaces_max: 3,
        namespace_bytes_max: 20,
        nodes_max: 12,
    };
    const HEADER: &str = "<stream:stream xmlns='jabber:client' xmlns:stream='s' to='>'>";

    /// All frames of `text`, which arrives in pieces of `step` bytes.
    fn frames(text: &[u8], step: usize) -> Result<Vec<(FrameKind, String)>, ScanError> {
        let mut scanner = Scanner::new(LIMITS);
        let (mut buf, mut found) = (Vec::new(), Vec::new());
        for piece in text.chunks(step) {
            buf.extend_from_slice(piece);
            while let Some(frame) = scanner.scan(&buf)? {
                found.push((frame.kind, String::from_utf8(buf.drain(..frame.len).collect()).unwrap()));
            }
        }
        assert_eq!(scanner.is_inside_frame(), !buf.is_empty());
        Ok(found)
    }

    /// What follows the header, which `text` may not end: the last frame, or the error, in whatever pieces.
    fn after_header(text: &[u8]) -> Result<Option<(FrameKind, String)>, ScanError> {
        let text = [HEADER.as_bytes(), text].concat();
        let whole = frames(&text, usize::MAX).map(|frames| frames.into_iter().skip(1).last());
        for step in [1, 2, 3, 7] {
            let pieces = frames(&text, step).map(|frames| frames.into_iter().skip(1).last());
            // White space comes as it arrives.
            if !matches!(whole, Ok(Some((Whitespace, _)))) {
                assert_eq!(pieces, whole, "in steps of {step}");
            }
        }
        whole
    }

    #[test]
    fn a_stream_comes_apart_into_its_frames() {
        let parts = [
            (Declaration, "<?xml version='1.0'?>"),
            (Whitespace, "\n"),
            (StreamOpen, HEADER),
            (Element, "<message a=\"'>\" b='/>\"'><body>&lt;a b='&#x3e;'&gt; / ' \" > ü</body></message>"),
            (Whitespace, " \r\n\t"),
            (Element, "<presence/>"),
            (Element, "<a\n/>"),
            (Element, "<iq ><a><b c='d'/></a ><x></x></iq\n>"),
            (Element, "<a><![CDATA[</a>]>]]]><![CDATA[]]>]</a>"),
            (StreamClose, "</stream:stream >"),
            (Whitespace, "\n"),
        ];
        let text: String = parts.iter().map(|(_, text)| *text).collect();
        let expected: Vec<_> = parts.iter().map(|(kind, text)| (*kind, text.to_string())).collect();
        assert_eq!(frames(text.as_bytes(), usize::MAX), Ok(expected.clone()));
        for step in 1..50 {
            let found = frames(text.as_bytes(), step).unwrap();
            let elements = |frames: &[(FrameKind, String)]| {
                frames.iter().filter(|(kind, _)| *kind != Whitespace).cloned().collect::<Vec<_>>()
            };
            assert_eq!(elements(&found), elements(&expected), "in steps of {step}");
        }
    }

    #[test]
    fn what_xmpp_restricts_is_refused_wherever_it_stands() {
        for text in [
            "<!-- c -->",
            "<?pi?>",
            "<?xml version='1.0'?>",
            "<!DOCTYPE a>",
            "<![CDATA[a]]>",
            "<a><!-- c --></a>",
            "<a><?pi?></a>",
            "<a><!DOCTYPE a></a>",
            "<a><![CDAT[",
            "<a>&nbsp;</a>",
            "<a>&a_b;</a>",
            "<a>&\u{E9};</a>",
            "<a b='&nbsp;'/>",
        ] {
            assert_eq!(after_header(text.as_bytes()), Err(RestrictedXml), "{text}");
        }
        for text in ["<!-- c -->", "<!DOCTYPE a>", "<?pi?>", "<?xml-model ?>", "<?xml version='1.1'?>"] {
            assert_eq!(frames(text.as_bytes(), 1), Err(RestrictedXml), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_xml_is_refused() {
        for text in [
            &b"<<a/>"[..],
            b"<>",
            b"<a b='<'/>",
            b"<a 'b'/>",
            b"<a ='b'/>",
            b"<a>&;</a>",
            b"<a>& b</a>",
            b"<a>&lt</a>",
            b"<a>&#;</a>",
            b"<a xmlns:b='1' xmlns='2' xmlns:b='3'/>",
            b"<a xmlns='1' xmlns='1'/>",
            b"<a>\xff</a>",
            b"<a>\xc0\x80</a>",
            b"<a>\xed\xa0\x80</a>",
            b"<a b='\xe2\x82'/>",
            b"</stream>",
            b"</streams:stream>",
            b"</stream:stream><a/>",
            b"</stream:stream></stream:stream>",
            b"</stream:stream>a",
        ] {
            assert_eq!(after_header(text), Err(NotWellFormed), "{}", String::from_utf8_lossy(text));
        }
        for text in ["a", "</a>", "<a/>", "\u{FEFF}<a>", "<?xml version='1.0'?><?xml version='1.0'?>"] {
            assert!(matches!(frames(text.as_bytes(), 1), Err(NotWellFormed | RestrictedXml)), "{text}");
        }
    }

    #[test]
    fn other_encodings_are_told_from_rubbish() {
        for text in [&b"\xfe\xff"[..], b"\xff\xfe<", b"\0<", b"<?xml version='1.0' encoding='UTF-16'?>"] {
            assert_eq!(frames(text, 1), Err(UnsupportedEncoding), "{text:?}");
        }
        assert_eq!(frames(b"\x16\x03\x01", 1), Err(NotWellFormed), "a TLS hello");
    }

    #[test]
    fn text_directly_under_the_stream_is_refused_at_once() {
        for text in ["x", " x", "<a/>x", "&#32;", "\u{FEFF}", "\0"] {
            assert_eq!(after_header(text.as_bytes()), Err(BadText), "{text:?}");
        }
    }

    #[test]
    fn each_bound_lets_its_number_pass_and_no_more() {
        for (passes, fails, error) in [
            ("<a><b><c><d/></c></b></a>", "<a><b><c><d><e/></d></c></b></a>", TooDeep),
            ("<a b='' c='' d='' e=''/>", "<a b='' c='' d='' e='' f=''/>", TooMany),
            ("<a xmlns='' c='' d='' e=''/>", "<a xmlns='' c='' d='' e='' f=''/>", TooMany),
            (
                "<a xmlns:a='1' xmlns='2'><b xmlns:b='1'/><c xmlns:c='1' xmlns='1'/></a>",
                "<a xmlns:a='1' xmlns='2'><b xmlns:b='1'/><c xmlns:c='1' xmlns:d='1'/></a>",
                TooMany,
            ),
            ("<a xmlns='01234567890123456789'/>", "<a xmlns='012345678901234567890'/>", TooMany),
            ("<a b='012345678901234567890'/>", "<a xmlns:b='0123456&amp;01234567890'/>", TooMany),
            // Elements, attributes, texts.
            (
                "<a b=''>1<b/>2<c d=''>&lt;</c> <![CDATA[]]>&gt;<d/><e/>4</a>",
                "<a b=''>1<b/>2<c d=''>&lt;</c> <![CDATA[]]>&gt;<d/><e f=''/>4</a>",
                TooMany,
            ),
        ] {
            assert!(matches!(after_header(passes.as_bytes()), Ok(Some((Element, _)))), "{passes}");
            assert_eq!(after_header(fails.as_bytes()), Err(error), "{fails}");
        }
        // Each frame is counted for itself.
        assert!(after_header("<a b='' c='' d=''/>".repeat(9).as_bytes()).is_ok());
        assert!(after_header("<a xmlns:a='' xmlns:b=''/>".repeat(9).as_bytes()).is_ok());
    }

    #[test]
    fn the_bound_on_bytes_fires_with_the_first_byte_too_many() {
        for (start, end) in
            [("<a>", "</a>"), ("<a b='", "'/>"), ("<a>&#", ";</a>"), ("<a", "/>"), ("<a><![CDATA[", "]]></a>")]
        {
            let filler = if start == "<a" { " " } else { "0" };
            let longest = format!("{start}{}{end}", filler.repeat(LIMITS.bytes_max - start.len() - end.len()));
            assert_eq!(after_header(longest.as_bytes()), Ok(Some((Element, longest.clone()))));
            let open = format!("{start}{}", filler.repeat(LIMITS.bytes_max - start.len()));
            assert_eq!(after_header(open.as_bytes()), Ok(None));
            assert_eq!(after_header(format!("{open}{filler}").as_bytes()), Err(TooLong));
        }
        assert_eq!(
            after_header(format!("{}<a/>", " ".repeat(5000)).as_bytes()),
            Ok(Some((Element, "<a/>".to_owned())))
        );
    }

    #[test]
    fn limits_change_in_mid_stream_and_a_reset_starts_over() {
        let mut scanner = Scanner::new(ScanLimits { bytes_max: 70, ..LIMITS });
        let element = format!("<a>{}</a>", "x".repeat(100));
        let len = scanner.scan(HEADER.as_bytes()).unwrap().unwrap().len;
        assert_eq!(len, HEADER.len());
        assert_eq!(scanner.clone().scan(element.as_bytes()), Err(TooLong));
        scanner.set_limits(LIMITS);
        assert_eq!(scanner.scan(element.as_bytes()), Ok(Some(Frame { kind: Element, len: 107 })));
        scanner.reset();
        assert_eq!(scanner.scan(HEADER.as_bytes()), Ok(Some(Frame { kind: StreamOpen, len })));
    }

    /// What a scanner costs each connection.
    #[test]
    fn a_scanner_is_small() {
        assert!(size_of::<Scanner>() <= 96, "{}", size_of::<Scanner>());
    }
}

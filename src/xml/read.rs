//! Reads framed XML into the arena. The only file that knows the XML parser.
//!
//! A frame of a stream is read by a clone of a parser that has already read a stream header (a *template*), so that
//! an idle connection holds none. What the parser would let through and XMPP, or the arena, does not is refused here.

use std::fmt;
use std::io;
use std::rc::Rc;

use xml::common::is_name_start_char;
use xml::name::OwnedName;
use xml::namespace::Namespace;
use xml::reader::{EventReader, ParserConfig, XmlEvent};

use super::element::{Builder, Element};
use super::ns;
use super::plain::{self, Bounds, Outside};
use super::scan::{FrameKind, ScanError, ScanLimits, Scanner};
use super::write::escape_attribute;
use crate::limits::Limits;

/// Why a frame cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// Not well-formed, namespaces included: `not-well-formed`.
    NotWellFormed,
    /// Something that XMPP does not allow in XML: `restricted-xml`.
    RestrictedXml,
    /// The stream declares more prefixes than allowed, or the element has become too large: `policy-violation`.
    TooMuch,
    /// Refused before reading; by [`parse`] only.
    Scan(ScanError),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::NotWellFormed => f.write_str("not well-formed XML"),
            ReadError::RestrictedXml => f.write_str("XML that XMPP does not allow"),
            ReadError::TooMuch => f.write_str("too many namespace prefixes, or an element too large"),
            ReadError::Scan(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {}

/// What the start tag of a stream says (RFC 6120 section 4.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamHeader {
    /// Namespace of the start tag itself; should be [`ns::STREAM`].
    pub ns: String,
    /// Local name of the start tag; should be `stream`.
    pub name: String,
    /// The default namespace, that of the stanzas; empty when none is declared.
    pub content_ns: String,
    /// `from`, unprepared.
    pub from: Option<String>,
    /// `to`, unprepared.
    pub to: Option<String>,
    /// `id`.
    pub id: Option<String>,
    /// `version`, such as `1.0`.
    pub version: Option<String>,
    /// `xml:lang`.
    pub lang: Option<String>,
    /// For reading what is inside the stream.
    pub template: Template,
}

/// The namespaces that hold inside a stream. Cheap to clone, and shared by the streams that declare the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Rc<Declared>);

#[derive(Debug, PartialEq, Eq)]
struct Declared {
    content_ns: String,
    /// Prefix and namespace, in the order of the prefixes.
    prefixes: Vec<(String, String)>,
}

impl Template {
    /// The default namespace of the stream.
    pub fn content_ns(&self) -> &str {
        &self.0.content_ns
    }

    /// Prefixes declared by the stream and their namespaces, in the order of the prefixes.
    pub fn prefixes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.prefixes.iter().map(|(prefix, ns)| (prefix.as_str(), ns.as_str()))
    }

    /// Bytes held on the heap, by all that share it together.
    pub fn heap_bytes(&self) -> usize {
        let strings = self.0.prefixes.iter().map(|(p, n)| p.capacity() + n.capacity()).sum::<usize>();
        size_of::<Declared>()
            + self.0.content_ns.capacity()
            + self.0.prefixes.capacity() * size_of::<(String, String)>()
            + strings
    }
}

/// Reads the frames of all streams. Holds nothing of any of them but a bounded cache of parsers.
pub struct Reader {
    /// The last used first.
    cache: Vec<(Rc<Declared>, Box<Parser<'static>>)>,
    templates_max: usize,
    prefixes_max: usize,
    bounds: Bounds,
    /// Of what other servers send.
    server_bounds: Bounds,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("cache", &self.cache.len()).finish_non_exhaustive()
    }
}

impl Reader {
    /// A reader with an empty cache.
    pub fn new(limits: &Limits) -> Self {
        let bounds = Bounds { nodes_max: limits.nodes_max as usize, text_bytes_max: limits.stanza_bytes_max as usize };
        Self {
            cache: Vec::new(),
            templates_max: limits.templates_max as usize,
            prefixes_max: limits.prefixes_max as usize,
            bounds,
            server_bounds: Bounds { text_bytes_max: limits.s2s_stanza_bytes_max as usize, ..bounds },
        }
    }

    /// Bytes that the cache holds.
    pub fn held_bytes(&self) -> usize {
        self.cache.iter().map(|(declared, _)| TEMPLATE_BYTES + Template(declared.clone()).heap_bytes()).sum()
    }

    /// Empties the cache.
    pub fn forget_templates(&mut self) {
        self.cache = Vec::new();
    }

    fn bounds(&self, template: &Template) -> Bounds {
        if matches!(template.content_ns(), ns::SERVER | ns::COMPONENT) { self.server_bounds } else { self.bounds }
    }

    /// Sets other limits, as after a reload.
    pub fn set_limits(&mut self, limits: &Limits) {
        let cache = std::mem::take(&mut self.cache);
        *self = Self { cache, ..Self::new(limits) };
        self.cache.truncate(self.templates_max);
    }

    /// Reads the start tag of a stream: a frame of kind [`FrameKind::StreamOpen`].
    ///
    /// # Errors
    /// When it is not well-formed or declares more prefixes than allowed. Whether it is the header of a stream that
    /// we serve is for the caller to decide.
    pub fn stream_header(&mut self, frame: &[u8]) -> Result<StreamHeader, ReadError> {
        match self.plain_header(frame) {
            Some(header) => Ok(header),
            None => self.parsed_header(frame),
        }
    }

    /// What [`Reader::stream_header`] tries first: `None` when the frame is not plain, or not a header.
    pub fn plain_header(&mut self, frame: &[u8]) -> Option<StreamHeader> {
        let start = plain::read_start(frame)?;
        let mut prefixes: Vec<_> = start.prefixes.into_iter().map(|(p, ns)| (p.into(), ns.into())).collect();
        prefixes.sort_unstable();
        self.header(&start.element, Declared { content_ns: start.default_ns.into(), prefixes }).ok()
    }

    /// What [`Reader::stream_header`] does with all other frames.
    ///
    /// # Errors
    /// As [`Reader::stream_header`].
    pub fn parsed_header(&mut self, frame: &[u8]) -> Result<StreamHeader, ReadError> {
        let mut parser = new_parser(Source::Borrowed(frame));
        let XmlEvent::StartElement { name, attributes, namespace } = next_in_document(&mut parser)? else {
            return Err(ReadError::NotWellFormed);
        };
        if !parser.source().is_empty() {
            return Err(ReadError::NotWellFormed);
        }
        let mut declared = Declared { content_ns: String::new(), prefixes: Vec::new() };
        check_prefixes(&namespace)?;
        for (prefix, uri) in namespace.0 {
            match prefix.as_str() {
                "xml" | "xmlns" => {}
                "" => declared.content_ns = uri,
                _ => declared.prefixes.push((prefix, uri)),
            }
        }
        let (ns, name) = checked_name(name)?;
        let mut tag = Builder::new(&ns, &name);
        for attribute in attributes {
            let (ns, name) = checked_attribute(attribute.name)?;
            tag.attr_ns(&ns, &name, &attribute.value);
        }
        self.header(&tag.finish(), declared)
    }

    fn header(&mut self, tag: &Element, declared: Declared) -> Result<StreamHeader, ReadError> {
        if declared.prefixes.len() > self.prefixes_max {
            return Err(ReadError::TooMuch);
        }
        let template = match self.cache.iter().find(|(cached, _)| **cached == declared) {
            Some((cached, _)) => Template(cached.clone()),
            None => {
                // Into the cache at once, so that the next stream that declares the same shares it.
                let template = Template(Rc::new(declared));
                self.parser_for(&template)?;
                template
            }
        };
        let tag = tag.root();
        let attribute = |name| tag.attr(name).map(str::to_owned);
        Ok(StreamHeader {
            ns: tag.ns().into(),
            name: tag.name().into(),
            content_ns: template.content_ns().into(),
            from: attribute("from"),
            to: attribute("to"),
            id: attribute("id"),
            version: attribute("version"),
            lang: tag.attr_ns(ns::XML, "lang").map(str::to_owned),
            template,
        })
    }

    /// Reads a child of the stream: a frame of kind [`FrameKind::Element`]. Elements in the content namespace of a
    /// client or server stream are [`ns::CLIENT`] in the result.
    ///
    /// # Errors
    /// When it is not well-formed or becomes too large.
    pub fn element(&mut self, template: &Template, frame: &[u8]) -> Result<Element, ReadError> {
        match self.plain_element(template, frame) {
            Some(element) => Ok(element),
            None => self.parsed_element(template, frame),
        }
    }

    /// What [`Reader::element`] tries first: `None` when the frame is not plain, or not well-formed.
    pub fn plain_element(&self, template: &Template, frame: &[u8]) -> Option<Element> {
        let outside = Outside {
            default_ns: template.content_ns(),
            prefixes: &template.0.prefixes,
            content_ns: mapped_ns(template),
        };
        plain::read(frame, outside, &self.bounds(template))
    }

    /// What [`Reader::element`] does with all other frames.
    ///
    /// # Errors
    /// As [`Reader::element`].
    pub fn parsed_element(&mut self, template: &Template, frame: &[u8]) -> Result<Element, ReadError> {
        let content_ns = mapped_ns(template);
        let bounds = self.bounds(template);
        let mut parser: Parser<'_> = self.parser_for(template)?.clone();
        *parser.source_mut() = Source::Borrowed(frame);
        let first = parser.next().map_err(|_| ReadError::NotWellFormed)?;
        build(&mut parser, first, content_ns, bounds)
    }

    /// The parser to clone: from the cache, or made and put there in place of the one least recently used.
    fn parser_for(&mut self, template: &Template) -> Result<&Parser<'static>, ReadError> {
        let found = self.cache.iter().position(|(declared, _)| Rc::ptr_eq(declared, &template.0));
        match found.or_else(|| self.cache.iter().position(|(declared, _)| *declared == template.0)) {
            Some(at) => self.cache[..=at].rotate_right(1),
            None => {
                let parser = template_parser(&template.0)?;
                self.cache.truncate(self.templates_max.saturating_sub(1));
                self.cache.insert(0, (template.0.clone(), Box::new(parser)));
            }
        }
        self.cache.first().map(|(_, parser)| &**parser).ok_or(ReadError::TooMuch)
    }
}

/// The content namespace, when it is one whose elements become [`ns::CLIENT`].
fn mapped_ns(template: &Template) -> Option<&str> {
    Some(template.content_ns()).filter(|ns| matches!(*ns, ns::CLIENT | ns::SERVER | ns::COMPONENT))
}

/// Reads one element that stands alone: configuration, stored data, tests. White space may surround it.
///
/// What is read here was bounded when it came in, and may have been wrapped since: only depth has a bound of its own.
///
/// # Errors
/// When the text is not one element, or not one that a stream could carry.
pub fn parse(text: &str) -> Result<Element, ReadError> {
    const ANY: ScanLimits = ScanLimits {
        bytes_max: 1 << 30,
        depth_max: 1024,
        attributes_max: u32::MAX,
        namespaces_max: u32::MAX,
        namespace_bytes_max: usize::MAX,
        nodes_max: u32::MAX,
    };
    let bytes = text.trim_ascii().as_bytes();
    match Scanner::without_stream(ANY).scan(bytes).map_err(ReadError::Scan)? {
        Some(frame) if frame.kind == FrameKind::Element && frame.len == bytes.len() => {}
        _ => return Err(ReadError::NotWellFormed),
    }
    let bounds = Bounds { nodes_max: usize::MAX, text_bytes_max: 1 << 30 };
    if let Some(element) = plain::read(bytes, Outside::default(), &bounds) {
        return Ok(element);
    }
    let mut parser = new_parser(Source::Borrowed(bytes));
    let first = next_in_document(&mut parser)?;
    build(&mut parser, first, None, bounds)
}

/// What a parser takes that has read the header of a stream, roughly.
const TEMPLATE_BYTES: usize = 4096;

type Parser<'a> = EventReader<Source<'a>>;

/// Where a parser's bytes come from: a template owns nothing but can read its own header once.
#[derive(Clone)]
enum Source<'a> {
    Owned(io::Cursor<Vec<u8>>),
    Borrowed(&'a [u8]),
}

impl Source<'_> {
    fn is_empty(&self) -> bool {
        match self {
            Source::Owned(cursor) => cursor.position() as usize >= cursor.get_ref().len(),
            Source::Borrowed(bytes) => bytes.is_empty(),
        }
    }
}

impl io::Read for Source<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Source::Owned(cursor) => cursor.read(out),
            Source::Borrowed(bytes) => bytes.read(out),
        }
    }
}

fn new_parser(source: Source<'_>) -> Parser<'_> {
    // Comments are reported so that they can be refused; the encoding is fixed so that nothing is guessed.
    ParserConfig::new().ignore_comments(false).override_encoding(Some(xml::Encoding::Utf8)).create_reader(source)
}

/// A parser inside a stream that declares these namespaces.
fn template_parser(declared: &Declared) -> Result<Parser<'static>, ReadError> {
    let mut header = b"<stream xmlns='".to_vec();
    escape_attribute(&declared.content_ns, &mut header);
    header.push(b'\'');
    for (prefix, ns) in &declared.prefixes {
        super::element::write_attribute(&format!("xmlns:{prefix}"), ns, &mut header);
    }
    header.push(b'>');
    let mut parser = new_parser(Source::Owned(io::Cursor::new(header)));
    next_in_document(&mut parser)?;
    *parser.source_mut() = Source::Borrowed(&[]);
    Ok(parser)
}

/// The first event of a document behind the one that announces it.
fn next_in_document(parser: &mut Parser<'_>) -> Result<XmlEvent, ReadError> {
    match parser.next() {
        Ok(XmlEvent::StartDocument { .. }) => parser.next().map_err(|_| ReadError::NotWellFormed),
        _ => Err(ReadError::NotWellFormed),
    }
}

/// Builds an element from its first event to its last, with which the source must be at its end.
fn build(
    parser: &mut Parser<'_>,
    first: XmlEvent,
    content_ns: Option<&str>,
    bounds: Bounds,
) -> Result<Element, ReadError> {
    let mut builder: Option<Builder> = None;
    let mut event = first;
    loop {
        match (event, &mut builder) {
            (XmlEvent::StartElement { name, attributes, namespace }, _) => {
                check_prefixes(&namespace)?;
                let (ns, name) = checked_name(name)?;
                let ns = if content_ns == Some(ns.as_str()) { ns::CLIENT } else { ns.as_str() };
                let builder = match &mut builder {
                    Some(builder) => builder.open(ns, &name),
                    None => builder.insert(Builder::new(ns, &name)),
                };
                for attribute in attributes {
                    let (ns, name) = checked_attribute(attribute.name)?;
                    builder.attr_ns(&ns, &name, &attribute.value);
                }
            }
            (XmlEvent::EndElement { .. }, Some(open)) => {
                if open.depth() == 1 {
                    return match (parser.source().is_empty(), builder) {
                        (true, Some(builder)) => Ok(builder.finish()),
                        _ => Err(ReadError::NotWellFormed),
                    };
                }
                open.close();
            }
            (XmlEvent::Characters(text) | XmlEvent::CData(text) | XmlEvent::Whitespace(text), Some(builder)) => {
                builder.text(&text);
            }
            (XmlEvent::Comment(_) | XmlEvent::ProcessingInstruction { .. } | XmlEvent::Doctype { .. }, _) => {
                return Err(ReadError::RestrictedXml);
            }
            _ => return Err(ReadError::NotWellFormed),
        }
        if builder.as_ref().is_some_and(|b| b.nodes_len() > bounds.nodes_max || b.text_bytes() > bounds.text_bytes_max)
        {
            return Err(ReadError::TooMuch);
        }
        event = parser.next().map_err(|_| ReadError::NotWellFormed)?;
    }
}

/// Checks the prefixes in force, as far as the parser does not: each is a name (Namespaces in XML 1.0, section 4), and
/// none but their own stand for the two namespaces that have one (section 3).
fn check_prefixes(declared: &Namespace) -> Result<(), ReadError> {
    let is_sound = |(prefix, uri): (&String, &String)| match prefix.as_str() {
        "xml" | "xmlns" => true,
        prefix => {
            (prefix.is_empty() || prefix.starts_with(is_name_start_char))
                && !matches!(uri.as_str(), ns::XML | ns::XMLNS)
        }
    };
    if declared.0.iter().all(is_sound) { Ok(()) } else { Err(ReadError::NotWellFormed) }
}

/// Namespace and local name of an element. The parser checks the character behind a prefix as if it stood in the
/// middle of a name, and lets other prefixes stand for the two namespaces that have one of their own.
fn checked_name(name: OwnedName) -> Result<(String, String), ReadError> {
    let ns = name.namespace.unwrap_or_default();
    match name.local_name.starts_with(is_name_start_char) && !matches!(ns.as_str(), ns::XML | ns::XMLNS) {
        true => Ok((ns, name.local_name)),
        false => Err(ReadError::NotWellFormed),
    }
}

/// As [`checked_name`], for an attribute.
fn checked_attribute(name: OwnedName) -> Result<(String, String), ReadError> {
    let is_xml = name.prefix.as_deref() == Some("xml");
    let ns = name.namespace.unwrap_or_default();
    match name.local_name.starts_with(is_name_start_char) && ns != ns::XMLNS && (ns == ns::XML) == is_xml {
        true => Ok((ns, name.local_name)),
        false => Err(ReadError::NotWellFormed),
    }
}

#[cfg(test)]
mod tests {
    use super::ReadError::{NotWellFormed, RestrictedXml, TooMuch};
    use super::*;

    const CLIENT_HEADER: &str = "<stream:stream xmlns='jabber:client' to='b.example' \
        xmlns:stream='http://etherx.jabber.org/streams' from='a@b.example' version='1.0' id='&lt;1&gt;' xml:lang='de'>";

    fn reader() -> Reader {
        Reader::new(&Limits::default())
    }

    /// Reads a frame of a stream that declares these namespaces.
    fn read_in(declarations: &str, frame: &str) -> Result<Element, ReadError> {
        let mut reader = reader();
        let header = reader.stream_header(format!("<stream {declarations}>").as_bytes())?;
        reader.element(&header.template, frame.as_bytes())
    }

    fn read(frame: &str) -> Result<Element, ReadError> {
        read_in("xmlns='jabber:client' xmlns:s='http://etherx.jabber.org/streams'", frame)
    }

    #[test]
    fn a_header_says_what_it_declares() {
        let header = reader().stream_header(CLIENT_HEADER.as_bytes()).unwrap();
        assert_eq!((header.ns.as_str(), header.name.as_str()), (ns::STREAM, "stream"));
        assert_eq!(header.content_ns, ns::CLIENT);
        assert_eq!(header.to.as_deref(), Some("b.example"));
        assert_eq!(header.from.as_deref(), Some("a@b.example"));
        assert_eq!(header.version.as_deref(), Some("1.0"));
        assert_eq!(header.id.as_deref(), Some("<1>"));
        assert_eq!(header.lang.as_deref(), Some("de"));
        assert_eq!(header.template.content_ns(), ns::CLIENT);
        assert_eq!(header.template.prefixes().collect::<Vec<_>>(), [("stream", ns::STREAM)]);

        let header = reader().stream_header(b"<x:s x:to='a' lang='b' xmlns:x='u:x'>").unwrap();
        assert_eq!((header.ns.as_str(), header.name.as_str(), header.content_ns.as_str()), ("u:x", "s", ""));
        assert_eq!((header.to, header.lang), (None, None));
    }

    #[test]
    fn a_header_that_is_none_is_refused() {
        for (frame, error) in [
            ("", NotWellFormed),
            ("a", NotWellFormed),
            ("<a", NotWellFormed),
            ("<a>b", NotWellFormed),
            ("<a></a>", NotWellFormed),
            ("<b:a>", NotWellFormed),
            ("<a b:c=''>", NotWellFormed),
            ("<a b='' b=''>", NotWellFormed),
            ("<a xmlns:b='http://www.w3.org/XML/1998/namespace'>", NotWellFormed),
            ("<a xmlns:b='http://www.w3.org/2000/xmlns/'>", NotWellFormed),
            ("<a xmlns:3b='u'>", NotWellFormed),
            ("<a xmlns:-b='u'>", NotWellFormed),
        ] {
            assert_eq!(reader().stream_header(frame.as_bytes()), Err(error), "{frame}");
        }
        let prefixes = |n| (0..n).map(|i| format!(" xmlns:p{i}='u:{i}'")).collect::<String>();
        assert!(reader().stream_header(format!("<a{}>", prefixes(8)).as_bytes()).is_ok());
        assert_eq!(reader().stream_header(format!("<a{}>", prefixes(9)).as_bytes()), Err(TooMuch));
    }

    #[test]
    fn an_element_comes_with_its_namespaces_attributes_and_text() {
        let element = read(
            "<message xml:lang='en' s:a='1' to=\"j@b\"><body>a &lt;b&gt; &#x1F600;<![CDATA[<&]]>]\r\n</body> \
             <p:x xmlns:p='u:x' b='2' p:b=' 3\n\t4&#10;'><y/><z xmlns='u:z'><p:q/></z></p:x></message>",
        )
        .unwrap();
        let root = element.root();
        assert!(root.is(ns::CLIENT, "message"));
        assert_eq!(root.attr_ns(ns::XML, "lang"), Some("en"));
        assert_eq!((root.attr_ns(ns::STREAM, "a"), root.attr("a"), root.attr("to")), (Some("1"), None, Some("j@b")));
        assert_eq!(root.attributes().count(), 3, "declarations are not attributes");
        assert_eq!(root.child(ns::CLIENT, "body").unwrap().text(), "a <b> \u{1F600}<&]\n");
        let x = root.child("u:x", "x").unwrap();
        assert_eq!((x.attr("b"), x.attr_ns("u:x", "b")), (Some("2"), Some(" 3  4\n")));
        assert!(x.has_child(ns::CLIENT, "y"));
        assert!(x.child("u:z", "z").unwrap().has_child("u:x", "q"));
        assert_eq!(root.text(), " ");
    }

    #[test]
    fn stanzas_of_both_kinds_of_stream_are_alike_and_nothing_else_is() {
        let stanza = "<iq type='get'><query xmlns='jabber:server'/><ping xmlns='jabber:client'/></iq>";
        let in_server = read_in("xmlns='jabber:server'", stanza).unwrap();
        let (query, ping) = (in_server.root().children().next().unwrap(), in_server.root().children().nth(1).unwrap());
        assert_eq!((in_server.root().ns(), query.ns(), ping.ns()), (ns::CLIENT, ns::CLIENT, ns::CLIENT));
        let in_client = read(stanza).unwrap();
        assert!(in_client.root().has_child(ns::SERVER, "query"));
        assert_eq!(read_in("xmlns='u:x'", "<a/>").unwrap().root().ns(), "u:x");
        assert_eq!(read_in("", "<a/>").unwrap().root().ns(), "");
        assert_eq!(read_in("xmlns:c='jabber:client'", "<c:iq/>").unwrap().root().ns(), ns::CLIENT);
    }

    #[test]
    fn the_prefixes_of_the_stream_hold_in_it_and_those_of_an_element_end_with_it() {
        let mut reader = reader();
        let template = reader.stream_header(b"<s xmlns='jabber:client' xmlns:d='u:d'>").unwrap().template;
        assert_eq!(reader.element(&template, b"<d:a/>").unwrap().root().ns(), "u:d");
        assert_eq!(reader.element(&template, b"<e:a xmlns:e='u:e'/>").unwrap().root().ns(), "u:e");
        assert_eq!(reader.element(&template, b"<e:a/>"), Err(NotWellFormed));
        assert_eq!(reader.element(&template, b"<a"), Err(NotWellFormed));
        assert_eq!(reader.element(&template, b"<d:a xmlns:d='u:other'/>").unwrap().root().ns(), "u:other");
        assert_eq!(reader.element(&template, b"<d:a/>").unwrap().root().ns(), "u:d", "an error left nothing behind");
    }

    #[test]
    fn what_the_scanner_cannot_see_is_refused() {
        for frame in [
            "",
            "a",
            "<a>",
            "<a/><b/>",
            "<a/> ",
            "<a></b>",
            "<a><b></a></b>",
            "<a></a b='1'>",
            "<p:a xmlns:p='1'></a>",
            "<a b='1' b='2'/>",
            "<a p:b='1' q:b='2' xmlns:p='u' xmlns:q='u'/>",
            "<p:a/>",
            "<a p:b=''/>",
            "<a xmlns:p=''/>",
            "<a:b:c xmlns:a='u'/>",
            "<a xmlns:a:b='u'/>",
            "<:a/>",
            "<a:/>",
            "<1a/>",
            "<-a/>",
            "<p:1a xmlns:p='u'/>",
            "<a p:-b='' xmlns:p='u'/>",
            "<xml:a/>",
            "<xmlns:a/>",
            "<p:a xmlns:p='http://www.w3.org/XML/1998/namespace'/>",
            "<a p:lang='de' xmlns:p='http://www.w3.org/XML/1998/namespace'/>",
            "<a p:b='de' xmlns:p='http://www.w3.org/2000/xmlns/'/>",
            "<a xmlns='http://www.w3.org/XML/1998/namespace'/>",
            "<a xmlns='http://www.w3.org/2000/xmlns/'/>",
            "<a xmlns:xml='u'/>",
            "<a xmlns:xmlns='u'/>",
            "<a b/>",
            "<a b=c/>",
            "<a b='c'd='e'/>",
            "<a b='c\"/>",
            "<a b='\0'/>",
            "<a>\u{1}</a>",
            "<a>\u{FFFE}</a>",
            "<a>]]></a>",
            "<a>&#0;</a>",
            "<a>&#xD800;</a>",
            "<a>&#x110000;</a>",
            "<a>&#xFFFF;</a>",
            "<a>&#x;</a>",
            "<a>&#X41;</a>",
            "<a>&nbsp;</a>",
            "<a b='&nbsp;'/>",
            "<a / >",
            "</a>",
            "<a><![CDATA[</a>",
            "<a><!DOCTYPE b></a>",
            "<a xmlns:3b='u'/>",
            "<a><c xmlns:.b='u'/></a>",
            "<a xmlns:b='http://www.w3.org/2000/xmlns/'/>",
            "<a><c xmlns='http://www.w3.org/XML/1998/namespace'/></a>",
        ] {
            assert_eq!(read(frame), Err(NotWellFormed), "{frame}");
        }
        assert_eq!(read("<a><!-- b --></a>"), Err(RestrictedXml));
        assert_eq!(read("<a><?b?></a>"), Err(RestrictedXml));
        assert_eq!(reader().element(&template("jabber:client"), b"<a>\xff</a>"), Err(NotWellFormed));
    }

    #[test]
    fn odd_but_legal_xml_is_read() {
        for frame in [
            "<a xmlns:xml='http://www.w3.org/XML/1998/namespace' xml:b=''/>",
            "<a\n\tb = \"'>\"\n></a\t>",
            "<a b=']]>/>'/>",
            "<\u{E9}\u{B7}-.1 _=''/>",
            "<a xmlns=''/>",
            "<a>&#0000000000000000065;</a>",
            "<p:xmlns xmlns:p='u' p:xmlns='1' xmlns1='2'/>",
        ] {
            assert!(read(frame).is_ok(), "{frame}");
        }
        assert_eq!(read("<a>\r\r\n&#13;\n</a>").unwrap().root().text(), "\n\n\r\n");
    }

    fn template(content_ns: &str) -> Template {
        Template(Rc::new(Declared { content_ns: content_ns.to_owned(), prefixes: Vec::new() }))
    }

    #[test]
    fn templates_are_shared_and_the_cache_forgets_the_least_recently_used() {
        let mut reader = Reader::new(&Limits { templates_max: 2, ..Limits::default() });
        let cached = |reader: &Reader| reader.cache.iter().map(|(d, _)| d.content_ns.clone()).collect::<Vec<_>>();
        let first = reader.stream_header(CLIENT_HEADER.as_bytes()).unwrap().template;
        let second = reader.stream_header(CLIENT_HEADER.as_bytes()).unwrap().template;
        assert!(Rc::ptr_eq(&first.0, &second.0));
        for (used, left) in
            [("u:1", ["u:1", ns::CLIENT]), (ns::CLIENT, [ns::CLIENT, "u:1"]), ("u:2", ["u:2", ns::CLIENT])]
        {
            let used = if used == ns::CLIENT { first.clone() } else { template(used) };
            assert_eq!(reader.parsed_element(&used, b"<a/>").unwrap().root().ns(), used.content_ns());
            assert_eq!(cached(&reader), left);
        }
        // One that was forgotten is made again.
        assert_eq!(reader.parsed_element(&template("u:1"), b"<a/>").unwrap().root().ns(), "u:1");
        reader.set_limits(&Limits { templates_max: 1, ..Limits::default() });
        assert_eq!(cached(&reader), ["u:1"]);
    }

    #[test]
    fn namespaces_with_quotes_survive_in_a_template() {
        let element = read_in("xmlns=\"a'&lt;\" xmlns:p='&quot;&#10;'", "<b p:c=''/>").unwrap();
        assert_eq!(element.root().ns(), "a'<");
        assert_eq!(element.root().attributes().next().unwrap().ns, "\"\n");
    }

    #[test]
    fn an_element_may_not_grow_beyond_its_bounds() {
        let mut reader = Reader::new(&Limits { stanza_bytes_max: 2000, nodes_max: 5, ..Limits::default() });
        let template = template("jabber:client");
        let repeated = |n| format!("<a xmlns:p='{}'>{}</a>", "u".repeat(500), "<p:b/>".repeat(n));
        assert!(reader.element(&template, repeated(3).as_bytes()).is_ok());
        assert_eq!(reader.element(&template, repeated(4).as_bytes()), Err(TooMuch), "by spelling out the namespace");
        assert!(reader.element(&template, b"<a b=''>c<d/>e</a>").is_ok());
        assert_eq!(reader.element(&template, b"<a b=''>c<d/>e<f/></a>"), Err(TooMuch));
    }

    #[test]
    fn parse_reads_one_element_and_nothing_else() {
        let element = parse(" <a xmlns='jabber:server'><b xml:lang='x'>c</b></a>\n").unwrap();
        assert_eq!(element.root().ns(), ns::SERVER, "no stream, no content namespace");
        assert_eq!(element.root().child(ns::SERVER, "b").unwrap().text(), "c");
        for text in ["", " ", "a", "<a/><b/>", "<a>", "</a>", "<a/>b", "<p:a/>", "<?xml version='1.0'?><a/>", "<a></b>"]
        {
            assert!(matches!(parse(text), Err(NotWellFormed | ReadError::Scan(_))), "{text}");
        }
        assert_eq!(parse("<a><!-- b --></a>"), Err(ReadError::Scan(ScanError::RestrictedXml)));
        let deep = |n: usize| format!("{}{}", "<a>".repeat(n), "</a>".repeat(n));
        assert!(parse(&deep(1024)).is_ok());
        assert_eq!(parse(&deep(1025)), Err(ReadError::Scan(ScanError::TooDeep)));
    }
}

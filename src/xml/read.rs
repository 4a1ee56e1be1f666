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
mod tests;

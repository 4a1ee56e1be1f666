//! The document, tag by tag where it holds many things, element by element below that.

use super::{ARCHIVE, PIE, PIE_OLD};
use crate::xml::{Element, FrameKind, ReadError, ScanError, ScanLimits, Scanner, ns, write_attribute};
use std::fmt;
use std::io::{self, Read};

/// Bytes of one element.
const ELEMENT_BYTES_MAX: usize = 1 << 23;
/// Bytes of a start tag of what holds many things.
const TAG_BYTES_MAX: usize = 1 << 14;
/// Bytes that are read at once.
const STEP_BYTES: usize = 1 << 16;

const LIMITS: ScanLimits = ScanLimits {
    bytes_max: ELEMENT_BYTES_MAX,
    depth_max: 128,
    attributes_max: 64,
    namespaces_max: 256,
    namespace_bytes_max: 1024,
    nodes_max: 1 << 18,
};

/// Why a document cannot be read on.
#[derive(Debug)]
pub enum PieError {
    /// The file cannot be read.
    Io(io::Error),
    /// It ends too early.
    Truncated,
    /// It is no XML, or none that XMPP allows.
    Xml(ReadError),
    /// It is something else.
    Foreign,
}

impl fmt::Display for PieError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "it cannot be read: {error}"),
            Self::Truncated => f.write_str("it ends too early"),
            Self::Xml(error) => error.fmt(f),
            Self::Foreign => f.write_str("it is no document of XEP-0227"),
        }
    }
}

impl std::error::Error for PieError {}

impl From<io::Error> for PieError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What comes next.
#[derive(Debug)]
pub enum Event {
    /// The start of something that holds many things, with its attributes.
    Open(Element),
    /// Something whole.
    Whole(Element),
    /// The end of what was opened last.
    Close,
}

/// What is open: its name as it is written, and its namespaces.
#[derive(Debug)]
struct Level {
    name: String,
    /// Of the element itself, without prefix.
    ns: String,
    local: String,
    /// Prefix (empty for none) and namespace, all that are in force.
    declared: Vec<(String, String)>,
}

/// A document that is being read.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    buffer: Vec<u8>,
    start: usize,
    levels: Vec<Level>,
    at_end: bool,
    /// The root was read.
    done: bool,
    closes: bool,
    /// It stands in a user, and may be anything that can stand there.
    is_part: bool,
    /// Bytes before the buffer.
    before: u64,
}

/// True for what holds many things, by what it stands in.
fn holds_many(within: Option<(&str, &str)>, ns: &str, name: &str) -> bool {
    let is_pie = |ns: &str| ns == PIE || ns == PIE_OLD;
    match within {
        None => is_pie(ns) && ["server-data", "host", "user"].contains(&name),
        Some((outer, "server-data")) if is_pie(outer) => is_pie(ns) && name == "host",
        Some((outer, "host")) if is_pie(outer) => is_pie(ns) && name == "user",
        Some((outer, "user")) if is_pie(outer) => {
            (is_pie(ns) && name == "offline-messages")
                || (ns == ARCHIVE && name == "archive")
                || (name == "pubsub" && (ns == ns::PUBSUB || ns == ns::PUBSUB_OWNER))
                || (ns == ns::PRIVATE && name == "query")
        }
        Some((ns::PUBSUB, "pubsub")) => ns == ns::PUBSUB && name == "items",
        Some(_) => false,
    }
}

impl<R: Read> Reader<R> {
    /// At the start of a document.
    pub fn new(from: R) -> Self {
        let (buffer, levels) = (Vec::new(), Vec::new());
        Self { from, buffer, start: 0, levels, at_end: false, done: false, closes: false, is_part: false, before: 0 }
    }

    /// At the start of a document that stands for something of a user.
    pub fn part(from: R) -> Self {
        Self { is_part: true, ..Self::new(from) }
    }

    /// Bytes that were read so far.
    pub fn position(&self) -> u64 {
        self.before + self.start as u64
    }

    /// The next event; none behind the end of the root.
    ///
    /// # Errors
    /// When it cannot go on. It is of no use then.
    #[expect(clippy::should_implement_trait, reason = "the type of what it gives is clearer without an Option in it")]
    pub fn next(&mut self) -> Result<Option<Event>, PieError> {
        if std::mem::take(&mut self.closes) {
            return Ok(Some(self.close()));
        }
        if !self.skip_blanks()? {
            return if self.done { Ok(None) } else { Err(PieError::Truncated) };
        }
        if self.done {
            return Err(PieError::Xml(ReadError::NotWellFormed));
        }
        while !self.rest().contains(&b'>') && self.rest().len() < TAG_BYTES_MAX {
            self.more()?;
        }
        if self.levels.is_empty() && self.before == 0 && self.rest().starts_with(b"\xef\xbb\xbf") {
            self.start += 3;
        }
        if self.rest().starts_with(b"<?xml") && self.levels.is_empty() {
            let end = self.rest().iter().position(|b| *b == b'>').ok_or(PieError::Foreign)?;
            self.start += end + 1;
            return self.next_tag();
        }
        self.next_tag()
    }

    fn next_tag(&mut self) -> Result<Option<Event>, PieError> {
        if !self.skip_blanks()? {
            return Err(PieError::Truncated);
        }
        let tag_len = loop {
            match tag_end(self.rest()) {
                Some(len) => break len,
                None if self.rest().len() > TAG_BYTES_MAX => break 0,
                None => self.more()?,
            }
        };
        let not_xml = || PieError::Xml(ReadError::NotWellFormed);
        let tag = self.rest().get(..tag_len).and_then(|tag| std::str::from_utf8(tag).ok()).ok_or_else(not_xml)?;
        if let Some(name) = tag.strip_prefix("</") {
            let name = name.trim_end_matches('>').trim_end();
            if self.levels.last().is_none_or(|level| level.name != name) {
                return Err(not_xml());
            }
            self.start += tag_len;
            return Ok(Some(self.close()));
        }
        // A tag that is too long is none of those that hold many things.
        if tag_len > 0
            && let Some((level, attributes, is_empty)) = self.opened(tag)?
        {
            self.start += tag_len;
            self.levels.push(level);
            self.closes = is_empty;
            return Ok(Some(Event::Open(attributes)));
        }
        self.whole().map(|element| Some(Event::Whole(element)))
    }

    fn close(&mut self) -> Event {
        self.levels.pop();
        self.done = self.levels.is_empty();
        Event::Close
    }

    /// What a start tag opens, if that holds many things: with its attributes, and whether it ends at once.
    fn opened(&self, tag: &str) -> Result<Option<(Level, Element, bool)>, PieError> {
        let inner = tag.trim_start_matches('<').trim_end_matches('>');
        let (inner, is_empty) = inner.strip_suffix('/').map_or((inner, false), |inner| (inner, true));
        let name = inner.split(|c: char| c.is_ascii_whitespace()).next().unwrap_or_default().to_string();
        // As an element of its own, for the parser to say what it is.
        let element = self.within(format!("<{inner}/>").as_bytes())?;
        let root = element.root();
        let within = self.levels.last().map(|level| (level.ns.as_str(), level.local.as_str()));
        let within = within.or(self.is_part.then_some((PIE, "user")));
        if !holds_many(within, root.ns(), root.name()) {
            return if within.is_none() { Err(PieError::Foreign) } else { Ok(None) };
        }
        let mut declared = self.levels.last().map(|level| level.declared.clone()).unwrap_or_default();
        for (prefix, ns) in declarations(inner) {
            declared.retain(|(known, _)| *known != prefix);
            declared.push((prefix, ns));
        }
        let level = Level { name, ns: root.ns().to_string(), local: root.name().to_string(), declared };
        Ok(Some((level, element, is_empty)))
    }

    /// An element with the namespaces that are in force where it stands.
    fn within(&self, text: &[u8]) -> Result<Element, PieError> {
        let mut whole = b"<w".to_vec();
        for (prefix, ns) in self.levels.last().into_iter().flat_map(|level| &level.declared) {
            match prefix.as_str() {
                "" => write_attribute("xmlns", ns, &mut whole),
                prefix => write_attribute(&format!("xmlns:{prefix}"), ns, &mut whole),
            }
        }
        whole.push(b'>');
        whole.extend_from_slice(text);
        whole.extend_from_slice(b"</w>");
        let whole = std::str::from_utf8(&whole).map_err(|_| PieError::Xml(ReadError::NotWellFormed))?;
        let element = crate::xml::parse(whole).map_err(PieError::Xml)?;
        let mut children = element.root().children();
        match (children.next(), children.next()) {
            (Some(child), None) => Ok(child.to_element()),
            _ => Err(PieError::Xml(ReadError::NotWellFormed)),
        }
    }

    /// Takes a whole element.
    fn whole(&mut self) -> Result<Element, PieError> {
        let mut scanner = Scanner::without_stream(LIMITS);
        let len = loop {
            match scanner.scan(self.rest()).map_err(|error| PieError::Xml(ReadError::Scan(error)))? {
                Some(frame) if frame.kind == FrameKind::Element => break frame.len,
                Some(_) => return Err(PieError::Xml(ReadError::Scan(ScanError::BadText))),
                None => self.more()?,
            }
        };
        let element = self.within(self.rest().get(..len).unwrap_or_default())?;
        self.start += len;
        self.done = self.levels.is_empty();
        Ok(element)
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// False at the end of the file.
    fn skip_blanks(&mut self) -> Result<bool, PieError> {
        loop {
            match self.rest().iter().position(|b| !b.is_ascii_whitespace()) {
                Some(blanks) => {
                    self.start += blanks;
                    return Ok(true);
                }
                None if self.at_end => return Ok(false),
                None => {
                    self.start = self.buffer.len();
                    match self.more() {
                        Err(PieError::Truncated) => return Ok(false),
                        other => other?,
                    }
                }
            }
        }
    }

    /// Reads on.
    fn more(&mut self) -> Result<(), PieError> {
        self.before += self.start as u64;
        self.buffer.drain(..self.start);
        self.start = 0;
        let len = self.buffer.len();
        self.buffer.resize(len + STEP_BYTES, 0);
        let got = self.from.read(self.buffer.get_mut(len..).unwrap_or_default());
        self.buffer.truncate(len + got.as_ref().copied().unwrap_or(0));
        match got {
            Ok(0) => {
                self.at_end = true;
                Err(PieError::Truncated)
            }
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Where a tag ends, its `>` included.
fn tag_end(bytes: &[u8]) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in bytes.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at + 1),
            (None, b'"' | b'\'') => quote = Some(*byte),
            (Some(open), byte) if open == *byte => quote = None,
            _ => {}
        }
    }
    None
}

/// Prefix and namespace of what a tag declares; the parser has read it without complaint.
fn declarations(inner: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = inner;
    while let Some(at) = rest.find('=') {
        let (name, behind) = rest.split_at(at);
        let name = name.split(|c: char| c.is_ascii_whitespace()).rfind(|part| !part.is_empty()).unwrap_or_default();
        let value = behind.trim_start_matches('=').trim_start();
        let Some(quote) = value.chars().next().filter(|c| matches!(c, '"' | '\'')) else { break };
        let Some((value, behind)) = value.get(1..).and_then(|value| value.split_once(quote)) else { break };
        // References in a namespace are nothing that anybody writes; what has one is not taken.
        if !value.contains('&') {
            match name.split_once(':') {
                None if name == "xmlns" => found.push((String::new(), value.to_string())),
                Some(("xmlns", prefix)) => found.push((prefix.to_string(), value.to_string())),
                _ => {}
            }
        }
        rest = behind;
    }
    found
}

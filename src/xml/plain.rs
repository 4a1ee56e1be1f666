//! The quick reader for what peers send nearly always: no CDATA, no character references, no names beyond ASCII. It
//! reads a frame into the arena in one pass, and gives up at the first thing that is not plain; the parser then reads
//! the frame from its start and decides. What it accepts, the parser accepts too and reads in the same way:
//! `tests/properties.rs` compares the two.

use memchr::{memchr, memchr_iter, memchr2, memchr3};

use super::element::{Builder, Element};
use super::markup::is_space;
use super::ns;
use crate::fault::{Fault, armed};

/// Bounds of one element in the arena. Depth is the scanner's business.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub nodes_max: usize,
    /// Prefixes are spelled out in the arena, so that an element may become larger than its frame.
    pub text_bytes_max: usize,
}

/// The namespaces that hold where an element stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outside<'a> {
    pub default_ns: &'a str,
    /// Prefixes with their namespaces.
    pub prefixes: &'a [(String, String)],
    /// Elements in this one become [`ns::CLIENT`].
    pub content_ns: Option<&'a str>,
}

/// Reads a frame that is one element.
pub(super) fn read(frame: &[u8], outside: Outside<'_>, bounds: &Bounds) -> Option<Element> {
    let mut reader = Reader::new(plain(frame)?, outside);
    let mut builder = reader.start_tag(None)?;
    while !reader.open.is_empty() {
        builder = reader.content(builder)?;
        if builder.nodes_len() > bounds.nodes_max || builder.text_bytes() > bounds.text_bytes_max {
            return None;
        }
    }
    reader.is_at_end().then(|| builder.finish())
}

/// What a start tag says.
pub(super) struct Start<'a> {
    /// The element without its content.
    pub element: Element,
    /// The default namespace behind it.
    pub default_ns: &'a str,
    /// Prefixes that it declares, with their namespaces.
    pub prefixes: Vec<(&'a str, &'a str)>,
}

/// Reads a frame that is a start tag alone.
pub(super) fn read_start(frame: &[u8]) -> Option<Start<'_>> {
    let mut reader = Reader::new(plain(frame)?, Outside::default());
    let builder = reader.start_tag(None)?;
    let open = reader.open.pop().filter(|_| reader.is_at_end())?;
    let Reader { prefixes, .. } = reader;
    Some(Start { element: builder.finish(), default_ns: open.default_ns, prefixes })
}

fn plain(frame: &[u8]) -> Option<&str> {
    is_plain(frame).then(|| std::str::from_utf8(frame).ok())?
}

/// Leaves to the parser what XML forbids or normalises: control characters but line feed and tab, carriage returns,
/// the two non-characters, the end of a CDATA section where there is none.
fn is_plain(frame: &[u8]) -> bool {
    let (words, rest) = frame.as_chunks();
    let is_control = |b: &u8| *b < b' ' && *b != b'\n' && *b != b'\t';
    !words.iter().any(|word| may_have_control(*word) && word.iter().any(is_control))
        && !rest.iter().any(is_control)
        && !memchr_iter(0xEF, frame).any(|at| matches!(frame.get(at + 1..at + 3), Some([0xBF, 0xBE | 0xBF])))
        && !memchr_iter(b']', frame).any(|at| frame.get(at..at + 3) == Some(b"]]>"))
}

/// False only if no byte is below the space: eight bytes in one look, on any machine and at any level of optimisation.
/// A byte below borrows from its highest bit, which was not set.
fn may_have_control(word: [u8; 8]) -> bool {
    let word = u64::from_ne_bytes(word);
    word.wrapping_sub(SPACES) & !word & HIGHEST_BITS != 0
}

/// What a plain name may have, by byte; some may not be its first.
const IN_NAMES: [bool; 256] = {
    let mut is_in = [false; 256];
    let mut byte = 0;
    while byte < is_in.len() {
        is_in[byte] = matches!(byte as u8, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.');
        byte += 1;
    }
    is_in
};

const SPACES: u64 = u64::from_ne_bytes([b' '; 8]);
const HIGHEST_BITS: u64 = u64::from_ne_bytes([0x80; 8]);

/// Room for the nodes of nearly all stanzas, so that their table is made once.
const NODES: usize = 8;

struct Reader<'a> {
    text: &'a str,
    at: usize,
    outside: Outside<'a>,
    /// Prefixes that open elements declare, with their namespaces. The last of a name hides the others.
    prefixes: Vec<(&'a str, &'a str)>,
    open: Vec<Open<'a>>,
    /// Of the tag at hand.
    attributes: Vec<Attribute<'a>>,
}

/// An element that is not closed yet.
struct Open<'a> {
    /// As it is written, with its prefix.
    name: &'a str,
    default_ns: &'a str,
    /// Prefixes that are declared outside of it.
    prefixes_len: usize,
}

struct Attribute<'a> {
    /// First its prefix, empty for none, then the namespace of that.
    ns: &'a str,
    name: &'a str,
    /// Not unescaped yet.
    value: &'a str,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, outside: Outside<'a>) -> Self {
        Self { text, at: 0, outside, prefixes: Vec::new(), open: Vec::new(), attributes: Vec::new() }
    }

    fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek() == Some(byte)).then(|| self.at += 1)
    }

    /// Skips white space; true when there was some.
    fn skip_space(&mut self) -> bool {
        let start = self.at;
        while self.peek().is_some_and(is_space) {
            self.at += 1;
        }
        self.at > start
    }

    fn name(&mut self) -> Option<&'a str> {
        let bytes = self.text.as_bytes().get(self.at..)?;
        bytes.first().filter(|b| !matches!(b, b'0'..=b'9' | b'-' | b'.'))?;
        let len = bytes.iter().position(|b| !IN_NAMES[usize::from(*b)]).filter(|len| *len > 0)?;
        let name = self.text.get(self.at..self.at + len)?;
        self.at += len;
        Some(name)
    }

    /// A name with its prefix, which is empty where there is none.
    fn prefixed_name(&mut self) -> Option<(&'a str, &'a str)> {
        let name = self.name()?;
        match self.take(b':') {
            Some(()) => Some((name, self.name()?)),
            None => Some(("", name)),
        }
    }

    /// The namespace of a prefix that is declared.
    fn declared(&self, prefix: &str) -> Option<&'a str> {
        let inside = self.prefixes.iter().rev().find(|(known, _)| *known == prefix).map(|(_, ns)| *ns);
        let outside = || self.outside.prefixes.iter().find(|(known, _)| known == prefix).map(|(_, ns)| ns.as_str());
        inside.or_else(outside)
    }

    /// Reads a start tag, with its end when it is empty.
    fn start_tag(&mut self, builder: Option<Builder>) -> Option<Builder> {
        self.take(b'<')?;
        let start = self.at;
        let (prefix, name) = self.prefixed_name()?;
        let written = self.text.get(start..self.at)?;
        let prefixes_len = self.prefixes.len();
        let mut default_ns = self.open.last().map_or(self.outside.default_ns, |open| open.default_ns);
        let mut declared = false;
        self.attributes.clear();
        let is_empty = loop {
            let spaced = self.skip_space();
            match self.peek()? {
                b'>' => break false,
                b'/' => {
                    self.at += 1;
                    break true;
                }
                _ if spaced => {}
                _ => return None,
            }
            let (ns, name) = self.prefixed_name()?;
            let value = self.value()?;
            match (ns, name) {
                ("", "xmlns") if declared || !is_ns(value) => return None,
                ("", "xmlns") => (declared, default_ns) = (true, value),
                ("xmlns", "xml" | "xmlns") => return None,
                ("xmlns", _) if value.is_empty() || !is_ns(value) => return None,
                ("xmlns", prefix) => {
                    if self.prefixes.iter().skip(prefixes_len).any(|(known, _)| *known == prefix) {
                        return None;
                    }
                    self.prefixes.push((prefix, value));
                }
                _ => self.attributes.push(Attribute { ns, name, value }),
            }
        };
        self.take(b'>')?;
        let ns = if prefix.is_empty() { default_ns } else { self.declared(prefix)? };
        let ns = if self.outside.content_ns == Some(ns) { ns::CLIENT } else { ns };
        let mut attributes = std::mem::take(&mut self.attributes);
        for attribute in &mut attributes {
            attribute.ns = match attribute.ns {
                "" => "",
                "xml" => ns::XML,
                prefix => self.declared(prefix)?,
            };
        }
        if !armed(Fault::AttributeTwice) && has_twice(&attributes) {
            return None;
        }
        let mut builder = match builder {
            Some(mut builder) => {
                builder.open(ns, name);
                builder
            }
            // Names and values take no more than the frame, where its namespaces are its own.
            None => Builder::with_room(ns, name, NODES.max(1 + attributes.len()), ns.len() + self.text.len()),
        };
        for Attribute { ns, name, value } in &attributes {
            match value.as_bytes().contains(&b'&') {
                false => builder.attr_ns(ns, name, value),
                true => builder.attr_ns(ns, name, &unescaped(value)?),
            };
        }
        self.attributes = attributes;
        if is_empty {
            builder.close();
            // The root stays open in the builder and is closed by its end.
            self.prefixes.truncate(prefixes_len);
        } else {
            self.open.push(Open { name: written, default_ns, prefixes_len });
        }
        Some(builder)
    }

    /// ` = 'value'`, raw. Line feeds and tabs would be normalised.
    fn value(&mut self) -> Option<&'a str> {
        self.skip_space();
        self.take(b'=')?;
        self.skip_space();
        let quote = self.peek().filter(|q| matches!(q, b'\'' | b'"'))?;
        let start = self.at + 1;
        let len = memchr(quote, self.text.as_bytes().get(start..)?)?;
        self.at = start + len + 1;
        self.text.get(start..start + len).filter(|value| memchr3(b'<', b'\n', b'\t', value.as_bytes()).is_none())
    }

    /// Reads text, a start tag or an end tag inside an element.
    fn content(&mut self, mut builder: Builder) -> Option<Builder> {
        let bytes = self.text.as_bytes().get(self.at..)?;
        match bytes {
            [b'<', b'/', ..] => {
                let start = self.at + 2;
                self.at = start;
                self.prefixed_name()?;
                let name = self.text.get(start..self.at)?;
                self.skip_space();
                self.take(b'>')?;
                let open = self.open.pop().filter(|open| open.name == name)?;
                self.prefixes.truncate(open.prefixes_len);
                builder.close();
                Some(builder)
            }
            [b'<', ..] => self.start_tag(Some(builder)),
            [b'&', ..] => {
                let (character, len) = entity(self.text.get(self.at..)?)?;
                builder.text(character);
                self.at += len;
                Some(builder)
            }
            _ => {
                let len = memchr2(b'<', b'&', bytes)?;
                builder.text(self.text.get(self.at..self.at + len)?);
                self.at += len;
                Some(builder)
            }
        }
    }
}

/// True for a namespace that any prefix may stand for and that says itself what it is.
fn is_ns(value: &str) -> bool {
    !value.contains('&') && !matches!(value, ns::XML | ns::XMLNS)
}

/// True when two attributes have the same name.
fn has_twice(attributes: &[Attribute<'_>]) -> bool {
    const FEW: usize = 8;
    fn key<'a>(a: &Attribute<'a>) -> (&'a [u8], &'a [u8]) {
        (a.name.as_bytes(), a.ns.as_bytes())
    }
    let mut rest = attributes;
    if attributes.len() <= FEW {
        while let Some((last, before)) = rest.split_last() {
            if before.iter().any(|other| key(other) == key(last)) {
                return true;
            }
            rest = before;
        }
        return false;
    }
    let mut keys: Vec<_> = attributes.iter().map(key).collect();
    keys.sort_unstable();
    keys.windows(2).any(|pair| pair[0] == pair[1])
}

/// The predefined entity at the start of `text`, and its length. References to characters are the parser's.
fn entity(text: &str) -> Option<(&'static str, usize)> {
    [("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"), ("&apos;", "'"), ("&quot;", "\"")]
        .into_iter()
        .find(|(name, _)| text.starts_with(name))
        .map(|(name, character)| (character, name.len()))
}

fn unescaped(value: &str) -> Option<String> {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = memchr(b'&', rest.as_bytes()) {
        out.push_str(rest.get(..at)?);
        let (character, len) = entity(rest.get(at..)?)?;
        out.push_str(character);
        rest = rest.get(at + len..)?;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(frame: &str) -> Option<String> {
        let bounds = Bounds { nodes_max: 100, text_bytes_max: 10_000 };
        let prefixes = [("db".to_owned(), "u:db".to_owned())];
        let outside = Outside { default_ns: ns::SERVER, prefixes: &prefixes, content_ns: Some(ns::SERVER) };
        let element = super::read(frame.as_bytes(), outside, &bounds)?;
        Some(element.root().to_xml())
    }

    #[test]
    fn plain_frames_are_read() {
        for (frame, written) in [
            ("<a/>", "<a xmlns='jabber:client'/>"),
            ("<a b = \"c&lt;\" xml:lang='de' ></a >", "<a xmlns='jabber:client' b='c&lt;' xml:lang='de'/>"),
            (
                "<a>x&amp;y<b xmlns='u:b'><c/></b>\n<b xmlns=''/></a>",
                "<a xmlns='jabber:client'>x&amp;y<b xmlns='u:b'><c/></b>\n<b xmlns=''/></a>",
            ),
            ("<db:a><db:b/><c/></db:a>", "<a xmlns='u:db'><b/><c xmlns='jabber:client'/></a>"),
            (
                "<p:a xmlns:p='u:p'><db:b xmlns:db='u:p'/><db:b/><p:c xmlns:p='jabber:server' d='' db:d=''/></p:a>",
                "<a xmlns='u:p'><b/><b xmlns='u:db'/><c xmlns='jabber:client' d='' xmlns:ns1='u:db' ns1:d=''/></a>",
            ),
        ] {
            assert_eq!(read(frame).as_deref(), Some(written), "{frame}");
        }
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_parser() {
        for frame in [
            "",
            "a",
            "<a",
            "<a>",
            "<a></b>",
            "<a/>x",
            "<a/><b/>",
            "<a:b/>",
            "<a b:c='d'/>",
            "<xml:a/>",
            "<xmlns:a/>",
            "<a><b xmlns:p='u'/><p:c/></a>",
            "<a><b xmlns:p='u'></b><p:c/></a>",
            "<db:a></a>",
            "<db:a xmlns:p='u:db'></p:a>",
            "<db:a:b/>",
            "<a xmlns:p='u:db' p:b='' db:b=''/>",
            "<a xmlns:p=''/>",
            "<a xmlns:p='u' xmlns:p='u'/>",
            "<a xmlns:xml='http://www.w3.org/XML/1998/namespace'/>",
            "<a xmlns:p='http://www.w3.org/XML/1998/namespace'/>",
            "<a a='' b='' c='' d='' e='' f='' g='' h='' i='' a=''/>",
            "<a b='c' b='d'/>",
            "<a b='c'd='e'/>",
            "<a b=c/>",
            "<a b='<'/>",
            "<a b='\n'/>",
            "<a b='&#65;'/>",
            "<a>&#65;</a>",
            "<a>&nbsp;</a>",
            "<a>\r</a>",
            "<a>\u{1}</a>",
            "<a>\u{FFFE}</a>",
            "<a>]]></a>",
            "<a><![CDATA[]]></a>",
            "<a><!-- --></a>",
            "<\u{E9}/>",
            "<a xmlns='u' xmlns='v'/>",
            "<a xmlns='&amp;'/>",
            "< a/>",
            "<a / >",
            "<a xmlns='http://www.w3.org/2000/xmlns/'/>",
        ] {
            assert_eq!(read(frame), None, "{frame}");
        }
    }
}

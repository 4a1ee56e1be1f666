//! XML as the plays write it and as servers send it, read by xml-rs directly, so that a fault in the server's own
//! reading or writing shows.

use couplet::xml::{Builder, Content, Element, ElementRef};
use xml::reader::{EventReader, ParserConfig, XmlEvent};

/// Namespace of the attributes that steer matching.
pub const NS_SCANSION: &str = "https://matthewwild.co.uk/projects/scansion";
/// Namespace of the stream itself.
pub const NS_STREAMS: &str = "http://etherx.jabber.org/streams";

/// The elements in a piece of a play. Text that is nothing but white space beside elements is left out.
///
/// # Errors
/// What is not well-formed.
pub fn fragments(text: &str) -> Result<Vec<Element>, String> {
    let wrapped =
        format!("<play xmlns='jabber:client' xmlns:stream='{NS_STREAMS}' xmlns:scansion='{NS_SCANSION}'>{text}</play>");
    let play = parse(&wrapped)?;
    let root = play.root();
    if root.content().any(|c| matches!(c, Content::Text(t) if !t.trim().is_empty())) {
        return Err("text outside of elements".to_owned());
    }
    Ok(root.children().map(|e| without_blanks(e)).collect())
}

/// One document as an arena.
///
/// # Errors
/// What is not well-formed.
pub fn parse(text: &str) -> Result<Element, String> {
    let config = ParserConfig::new().cdata_to_characters(true).whitespace_to_characters(true);
    let mut builder: Option<Builder> = None;
    for event in EventReader::new_with_config(text.as_bytes(), config) {
        match event.map_err(|e| format!("{e} in {text}"))? {
            XmlEvent::StartElement { name, attributes, .. } => {
                let ns = name.namespace.unwrap_or_default();
                let b = match &mut builder {
                    Some(b) => b.open(&ns, &name.local_name),
                    none => none.insert(Builder::new(&ns, &name.local_name)),
                };
                for a in attributes {
                    b.attr_ns(&a.name.namespace.unwrap_or_default(), &a.name.local_name, &a.value);
                }
            }
            XmlEvent::EndElement { .. } => {
                if let Some(b) = &mut builder {
                    b.close();
                }
            }
            XmlEvent::Characters(text) => {
                if let Some(b) = &mut builder {
                    b.text(&text);
                }
            }
            _ => {}
        }
    }
    builder.map(Builder::finish).ok_or_else(|| "no element".to_owned())
}

/// A copy in which each attribute value and text has gone through `change`.
pub fn changed(element: ElementRef<'_>, change: &mut dyn FnMut(&str) -> String) -> Element {
    fn inside(element: ElementRef<'_>, b: &mut Builder, change: &mut dyn FnMut(&str) -> String) {
        for a in element.attributes() {
            b.attr_ns(a.ns, a.name, &change(a.value));
        }
        for content in element.content() {
            match content {
                Content::Text(t) => b.text(&change(t)),
                Content::Element(e) => {
                    b.open(e.ns(), e.name());
                    inside(e, b, change);
                    b.close();
                }
            }
        }
    }
    let mut b = Builder::new(element.ns(), element.name());
    inside(element, &mut b, change);
    b.finish()
}

fn without_blanks(element: ElementRef<'_>) -> Element {
    fn inside(element: ElementRef<'_>, b: &mut Builder) {
        b.attributes_of(element);
        let parent = element.children().next().is_some();
        for content in element.content() {
            match content {
                Content::Text(t) if parent && t.trim().is_empty() => {}
                Content::Text(t) => b.text(t),
                Content::Element(e) => {
                    b.open(e.ns(), e.name());
                    inside(e, b);
                    b.close();
                }
            }
        }
    }
    let mut b = Builder::new(element.ns(), element.name());
    inside(element, &mut b);
    b.finish()
}

/// An element over several lines, for people.
pub fn pretty(element: ElementRef<'_>) -> String {
    fn lines(element: ElementRef<'_>, inherited: &str, indent: usize, out: &mut String) {
        let mut head = Builder::new(element.ns(), element.name());
        for a in element.attributes() {
            // With the prefix that plays use.
            let name = if a.ns == NS_SCANSION { format!("scansion:{}", a.name) } else { a.name.to_owned() };
            head.attr_ns(if a.ns == NS_SCANSION { "" } else { a.ns }, &name, a.value);
        }
        let head = head.finish();
        let mut tag = Vec::new();
        head.root().write(inherited, &mut tag);
        let tag = String::from_utf8_lossy(&tag).into_owned();
        out.push_str(&"  ".repeat(indent));
        if element.content().next().is_none() {
            out.push_str(&tag);
            out.push('\n');
            return;
        }
        out.push_str(tag.trim_end_matches("/>"));
        out.push('>');
        if element.children().next().is_none() {
            let text = element.text();
            let shown: String = text.chars().take(200).collect();
            out.push_str(&format!(
                "{shown}{}</{}>\n",
                if shown.len() < text.len() { "..." } else { "" },
                element.name()
            ));
            return;
        }
        out.push('\n');
        for content in element.content() {
            match content {
                Content::Text(t) if t.trim().is_empty() => {}
                Content::Text(t) => out.push_str(&format!("{}{}\n", "  ".repeat(indent + 1), t.trim())),
                Content::Element(e) => lines(e, element.ns(), indent + 1, out),
            }
        }
        out.push_str(&format!("{}</{}>\n", "  ".repeat(indent), element.name()));
    }
    let mut out = String::new();
    lines(element, "jabber:client", 2, &mut out);
    out
}

/// What a server says on a stream.
#[derive(Debug)]
pub enum Said {
    /// The start tag of the stream, without what is in it.
    Header(Element),
    /// A stanza, or what stands in its place during negotiation.
    Element(Element),
    /// The end tag of the stream.
    End,
}

/// Cuts the bytes of a server into what it says.
#[derive(Debug, Default)]
pub struct Splitter {
    bytes: Vec<u8>,
    /// The stream's start tag, in front of every element when it is parsed.
    header: Option<String>,
}

impl Splitter {
    /// The client has started a new stream: the next thing will be a stream header again.
    pub fn new_stream(&mut self) {
        self.header = None;
    }

    /// More bytes have come.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes white space between elements, if nothing else has come. False when there is none.
    pub fn take_blanks(&mut self) -> bool {
        let is_there = !self.bytes.is_empty() && self.bytes.iter().all(u8::is_ascii_whitespace);
        if is_there {
            self.bytes.clear();
        }
        is_there
    }

    /// The next thing said, when it is there whole.
    ///
    /// # Errors
    /// What is not well-formed.
    pub fn next(&mut self) -> Result<Option<Said>, String> {
        let (mut at, mut depth, mut start) = (0, 0_usize, None);
        while let Some((from, to)) = self.tag(at) {
            at = to;
            let tag = self.bytes.get(from..to).unwrap_or_default();
            let (closes, empty) = (tag.starts_with(b"</"), tag.ends_with(b"/>"));
            if tag.starts_with(b"<?") {
                continue;
            }
            let whole = if self.header.is_none() {
                let header = self.text(from, to)?;
                let element = parse(&if empty { header.clone() } else { format!("{header}</stream:stream>") })?;
                // Stanzas of servers are compared as those of clients are.
                let header = header.replace("'jabber:component:accept'", "'jabber:client'");
                self.header = Some(header.replace("'jabber:server'", "'jabber:client'"));
                Said::Header(element)
            } else if closes && depth == 0 {
                Said::End
            } else if closes && depth == 1 || empty && depth == 0 {
                let frame = self.text(start.unwrap_or(from), to)?;
                let document =
                    parse(&format!("{}{frame}</stream:stream>", self.header.as_deref().unwrap_or_default()))?;
                let child = document.root().children().next().ok_or("an element without an element")?;
                Said::Element(child.to_element())
            } else {
                start = start.or(Some(from));
                match (closes, empty) {
                    (true, _) => depth -= 1,
                    (false, false) => depth += 1,
                    (false, true) => {}
                }
                continue;
            };
            self.bytes.drain(..to);
            return Ok(Some(whole));
        }
        Ok(None)
    }

    /// Where the next tag starts and ends, from `at`. A `>` within quotes ends nothing.
    fn tag(&self, at: usize) -> Option<(usize, usize)> {
        let from = at + self.bytes.get(at..)?.iter().position(|&b| b == b'<')?;
        let mut quote = None;
        for (i, &b) in self.bytes.get(from..)?.iter().enumerate() {
            match (quote, b) {
                (None, b'>') => return Some((from, from + i + 1)),
                (None, b'\'' | b'"') => quote = Some(b),
                (Some(q), b) if q == b => quote = None,
                _ => {}
            }
        }
        None
    }

    fn text(&self, from: usize, to: usize) -> Result<String, String> {
        let bytes = self.bytes.get(from..to).unwrap_or_default();
        String::from_utf8(bytes.to_vec()).map_err(|e| format!("the server sends what is not UTF-8: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_know_the_prefixes_of_a_play() {
        let found = fragments("<iq>\n\t<q xmlns='a' scansion:strict='false'>x</q>\n</iq> <stream:error/>").unwrap();
        assert_eq!(found.len(), 2);
        let q = found[0].root().child("a", "q").unwrap();
        assert_eq!(q.attr_ns(NS_SCANSION, "strict"), Some("false"));
        assert_eq!(found[0].root().content().count(), 1);
        assert!(found[1].root().is(NS_STREAMS, "error"));
        assert!(fragments("<iq>").is_err());
        assert!(fragments("hello <iq/>").is_err());
    }

    #[test]
    fn a_splitter_needs_no_luck_with_packets() {
        let text = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' id='a>b' \
                    xmlns:stream='http://etherx.jabber.org/streams'><stream:features/> <message><body>a &gt; b</body>\
                    <x xmlns='y'><x/></x></message></stream:stream>";
        for step in [1, 7, 1000] {
            let (mut splitter, mut said) = (Splitter::default(), Vec::new());
            for piece in text.as_bytes().chunks(step) {
                splitter.feed(piece);
                while let Some(s) = splitter.next().unwrap() {
                    said.push(s);
                }
            }
            assert!(matches!(&said[0], Said::Header(h) if h.root().attr("id") == Some("a>b")));
            assert!(matches!(&said[1], Said::Element(e) if e.root().is(NS_STREAMS, "features")));
            let Said::Element(message) = &said[2] else { panic!("{:?}", said[2]) };
            assert_eq!(message.root().child("jabber:client", "body").unwrap().text(), "a > b");
            assert!(matches!(&said[3], Said::End));
            assert_eq!(said.len(), 4);
        }
    }
}

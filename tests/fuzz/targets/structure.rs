//! A second opinion on XML: what we accept, a parser that nobody here has written accepts, too, and sees the same
//! namespaces, names, attributes and text. And what we have read and written again is still the same.

use super::frames::{frames, scanner};
use couplet::limits::Limits;
use couplet::xml::{Content, Element, ElementRef, FrameKind, Reader, StreamHeader, ns};
use roxmltree::{Document, Node};

/// Of a stream whose input does not begin with one.
const HEADER: &str = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='a'>";

/// A stream, or what stands in one.
pub fn run(data: &[u8]) {
    let has_header = data.starts_with(b"<?xml") || data.starts_with(b"<stream") || data.starts_with(b"<s:stream");
    let stream = if has_header { data.to_vec() } else { [HEADER.as_bytes(), data].concat() };
    let mut reader = Reader::new(&Limits::default());
    let mut open: Option<(String, StreamHeader)> = None;
    for (kind, frame) in frames(scanner(), &stream, &[usize::MAX]).0 {
        // The scanner lets nothing else pass.
        let frame = String::from_utf8(frame).expect("UTF-8");
        match (kind, &open) {
            (FrameKind::StreamOpen, _) => {
                let Ok(header) = reader.stream_header(frame.as_bytes()) else { return };
                same_header(&frame, &header);
                open = Some((frame, header));
            }
            (FrameKind::Element, Some((start, header))) => {
                let Ok(element) = reader.element(&header.template, frame.as_bytes()) else { return };
                let content_ns = header.content_ns.as_str();
                same_element(start, &frame, &element, content_ns);
                let mut written = Vec::new();
                element.root().write(content_ns, &mut written);
                assert_eq!(reader.element(&header.template, &written).as_ref(), Ok(&element));
                same_element(start, &String::from_utf8(written).expect("UTF-8"), &element, content_ns);
            }
            _ => {}
        }
    }
}

/// What any parser is to see of these bytes: ends of lines are line feeds before anything else is looked at (XML
/// section 2.11). The other one does not see to that everywhere.
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// The end tag that goes with a start tag.
fn end_of(start: &str) -> String {
    let name: String = start.chars().skip(1).take_while(|c| !matches!(c, ' ' | '\t' | '\r' | '\n' | '>')).collect();
    format!("</{name}>")
}

fn same_header(start: &str, header: &StreamHeader) {
    let text = lines(&format!("{start}{}", end_of(start)));
    let document = Document::parse(&text).unwrap_or_else(|e| panic!("another parser refuses {start:?}: {e}"));
    let root = document.root_element();
    assert_eq!((root.tag_name().namespace().unwrap_or_default(), root.tag_name().name()), (&*header.ns, &*header.name));
    assert_eq!(root.default_namespace().unwrap_or_default(), header.content_ns);
    let fields = [("from", &header.from), ("to", &header.to), ("id", &header.id), ("version", &header.version)];
    for (name, field) in fields {
        // By its name alone it would find those of any namespace.
        let theirs = root.attributes().find(|a| a.namespace().is_none() && a.name() == name);
        assert_eq!(theirs.map(|a| a.value()), field.as_deref(), "{name}");
    }
    assert_eq!(root.attribute((ns::XML, "lang")), header.lang.as_deref());
}

fn same_element(start: &str, frame: &str, element: &Element, content_ns: &str) {
    let text = lines(&format!("{start}{frame}{}", end_of(start)));
    let document = Document::parse(&text).unwrap_or_else(|e| panic!("another parser refuses {text:?}: {e}"));
    let mut children = document.root_element().children();
    let (Some(node), None) = (children.next(), children.next()) else { panic!("not one element: {frame:?}") };
    let mapped = matches!(content_ns, ns::CLIENT | ns::SERVER | ns::COMPONENT).then_some(content_ns);
    same(node, element.root(), mapped);
}

/// Both see the same. Depth is bounded by the scanner.
fn same(theirs: Node<'_, '_>, ours: ElementRef<'_>, mapped: Option<&str>) {
    let ns = theirs.tag_name().namespace().unwrap_or_default();
    let ns = if mapped == Some(ns) { ns::CLIENT } else { ns };
    assert_eq!((ns, theirs.tag_name().name()), (ours.ns(), ours.name()));
    let their_attributes: Vec<_> =
        theirs.attributes().map(|a| (a.namespace().unwrap_or_default(), a.name(), a.value())).collect();
    let our_attributes: Vec<_> = ours.attributes().map(|a| (a.ns, a.name, a.value)).collect();
    assert_eq!(their_attributes, our_attributes);
    let mut their_content: Vec<Result<String, Node<'_, '_>>> = Vec::new();
    for child in theirs.children() {
        match (child.is_element(), their_content.last_mut()) {
            (true, _) => their_content.push(Err(child)),
            (false, Some(Ok(text))) => text.push_str(child.text().unwrap_or_default()),
            (false, _) => their_content.push(Ok(child.text().unwrap_or_default().to_owned())),
        }
    }
    their_content.retain(|content| content.as_ref().map_or(true, |text| !text.is_empty()));
    let our_content: Vec<_> = ours.content().collect();
    assert_eq!(their_content.len(), our_content.len(), "children of {}", ours.name());
    for pair in their_content.into_iter().zip(our_content) {
        match pair {
            (Err(node), Content::Element(element)) => same(node, element, mapped),
            (Ok(theirs), Content::Text(ours)) => assert_eq!(theirs, ours),
            _ => panic!("text and elements differ in {}", ours.name()),
        }
    }
}

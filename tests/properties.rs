//! Properties of the lowest floors: what is written is read back, framing does not depend on how bytes arrive,
//! nothing a peer can send makes them panic, and preparing an address twice changes nothing.

#[path = "fuzz/targets/frames.rs"]
mod frames;
#[path = "fuzz/targets/jid.rs"]
mod jid;

use couplet::jid::Jid;
use couplet::xml::{Builder, Element, FrameKind, ns, parse};
use frames::{frames, headers_agree, read_or_refused, reader_in, readers_agree, same_in_pieces, scanner};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

/// What a random element is made of. Recursion is bounded by the strategy.
#[derive(Clone, Debug)]
enum Node {
    Text(String),
    Element { ns: String, name: String, attributes: Vec<(String, String, String)>, children: Vec<Node> },
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z_][a-zA-Z0-9._-]{0,6}",
        "[\u{E9}\u{3C0}\u{4E2D}][a-z\u{B7}\u{300}]{0,3}",
        "xmlns|xml|ns0|ns1|xmlnsa"
    ]
}

fn any_ns() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["", ns::CLIENT, ns::SERVER, ns::STREAM, "u:a", "u:b"]).prop_map(str::to_owned),
        1 => any_text(1..6),
    ]
}

/// Characters that XML allows, with a liking for those that mean something to it.
fn any_text(len: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "<", ">", "&", "'", "\"", "]", "]]>", "<![CDATA[", "<!--", "-->", "<?", "?>", "/>", "</", "&amp;", "&#x0;",
            "\r", "\n", "\t", "\r\n", " ", "=", ";", "\u{FEFF}", "\u{85}", "\u{2028}", "\u{1F98A}", "\u{FFFD}",
        ]).prop_map(str::to_owned),
        4 => "[ -~]{1,8}",
        1 => any::<char>().prop_filter("a character of XML 1.0", |c| is_xml_char(*c)).prop_map(String::from),
    ];
    vec(piece, len).prop_map(|pieces| pieces.concat())
}

fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{FFFD}' | '\u{10000}'..)
}

fn any_attributes() -> impl Strategy<Value = Vec<(String, String, String)>> {
    let ns = prop_oneof![4 => Just(String::new()), 1 => Just(ns::XML.to_owned()), 1 => "u:[a-c']"];
    let name = any_name().prop_filter("not a declaration", |name| name != "xmlns");
    btree_map((ns, name), any_text(0..4), 0..4)
        .prop_map(|map| map.into_iter().map(|((ns, name), value)| (ns, name, value)).collect())
}

fn any_node() -> impl Strategy<Value = Node> {
    let element =
        |children| {
            (any_ns(), any_name(), any_attributes(), children)
                .prop_map(|(ns, name, attributes, children)| Node::Element { ns, name, attributes, children })
        };
    let leaf = prop_oneof![any_text(1..5).prop_map(Node::Text), element(Just(Vec::new()).boxed())];
    leaf.prop_recursive(6, 40, 5, move |inner| element(vec(inner, 0..5).boxed()))
}

fn any_element() -> impl Strategy<Value = Element> {
    (any_ns(), any_name(), any_attributes(), vec(any_node(), 0..5)).prop_map(|(ns, name, attributes, children)| {
        let mut b = Builder::new(&ns, &name);
        for (ns, name, value) in &attributes {
            b.attr_ns(ns, name, value);
        }
        children.iter().for_each(|child| add(&mut b, child));
        b.finish()
    })
}

fn add(b: &mut Builder, node: &Node) {
    match node {
        Node::Text(text) => b.text(text),
        Node::Element { ns, name, attributes, children } => {
            b.open(ns, name);
            for (ns, name, value) in attributes {
                b.attr_ns(ns, name, value);
            }
            children.iter().for_each(|child| add(b, child));
            b.close();
        }
    }
}

/// A start tag that declares prefixes and uses them, right or wrong, and whether it is empty.
fn any_tag() -> impl Strategy<Value = (String, String, bool)> {
    // Nearly all are right, so that most of what is made of them is.
    let mostly = |right: &'static [&'static str], wrong: &'static [&'static str]| {
        let (right, wrong) = (prop::sample::select(right), prop::sample::select(wrong));
        prop_oneof![40 => right, 1 => wrong]
    };
    let prefix = mostly(&["", "p:", "q:", "s:"], &["xml:", "xmlns:", "none:"]);
    let ns = mostly(&["u:a", "u:b", "u:s", ns::CLIENT, ns::SERVER], &[ns::XML, ns::XMLNS, "", "&lt;"]);
    let declaration = (mostly(&["", ":p", ":q", ":s"], &[":xml", ":xmlns"]), ns);
    let attribute = (mostly(&["", "p:", "q:", "s:", "xml:"], &["none:"]), mostly(&["a", "b", "c"], &["xmlns"]));
    (prefix, vec(declaration, 0..3), vec(attribute, 0..3), any::<bool>()).prop_map(
        |(prefix, declarations, attributes, is_empty)| {
            let mut tag = format!("{prefix}e");
            let declarations = declarations.into_iter().map(|(prefix, ns)| format!(" xmlns{prefix}='{ns}'"));
            tag.extend(declarations.chain(attributes.into_iter().map(|(prefix, name)| format!(" {prefix}{name}='1'"))));
            (format!("{prefix}e"), tag, is_empty)
        },
    )
}

/// An element with prefixes. Each tag goes into the one before that is not empty, or closes it first.
fn any_prefixed() -> impl Strategy<Value = String> {
    vec((any_tag(), any::<bool>()), 1..6).prop_map(|tags| {
        let (mut text, mut open) = (String::new(), Vec::new());
        for ((name, tag, is_empty), closes) in tags {
            if closes && open.len() > 1 {
                open.pop().into_iter().for_each(|name| text.push_str(&format!("</{name}>")));
            }
            // The first is around all others.
            match is_empty && !open.is_empty() {
                true => text.push_str(&format!("<{tag}/>")),
                false => {
                    text.push_str(&format!("<{tag}>"));
                    open.push(name);
                }
            }
        }
        while let Some(name) = open.pop() {
            text.push_str(&format!("</{name}>"));
        }
        text
    })
}

/// Bytes of a stream, whole or damaged.
fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    let markup = prop::sample::select(vec![
        "<a>",
        "</a>",
        "<a",
        "/>",
        ">",
        "<a/>",
        "<a b='",
        "' c=\"",
        "'",
        "\"",
        "<![CDATA[",
        "]]>",
        "]",
        "<!",
        "<!--",
        "<?xml ",
        "version='1.0'?>",
        "&lt;",
        "&#x41;",
        "&",
        ";",
        "\u{E9}",
        "</stream>",
        "<stream xmlns='jabber:client'>",
        "</",
        " ",
        "\n",
        " xmlns:p='u'",
        "<p:a",
        "=",
    ]);
    let body = prop_oneof![
        6 => any_element().prop_map(|e| e.root().to_xml().into_bytes()),
        6 => markup.prop_map(|m| m.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..8),
    ];
    (any::<bool>(), vec(body, 0..12)).prop_map(|(whole, parts)| {
        let mut bytes = if whole { b"<?xml version='1.0'?>\n<stream>".to_vec() } else { Vec::new() };
        bytes.extend(parts.concat());
        bytes
    })
}

fn any_part() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z0-9._-]{1,12}",
        2 => "[ -~]{1,8}",
        2 => "[\u{C0}-\u{24F}\u{370}-\u{3FF}\u{5D0}-\u{5EA}\u{AD}\u{300}-\u{345}\
              \u{1E00}-\u{2134}\u{3002}\u{FF00}-\u{FF21}.]{1,6}",
        1 => vec(any::<char>(), 1..5).prop_map(String::from_iter),
    ]
}

proptest! {
    /// A stanza that one server writes is the same stanza for the next.
    #[test]
    fn what_is_written_is_read_back(element in any_element()) {
        for content_ns in [ns::CLIENT, "u:a"] {
            let mut written = Vec::new();
            element.root().write(content_ns, &mut written);
            let mut scanner = scanner();
            let open = scanner.scan(b"<stream>").unwrap().unwrap();
            prop_assert_eq!(open.kind, FrameKind::StreamOpen);
            let frame = scanner.scan(&written).unwrap().unwrap();
            prop_assert_eq!((frame.kind, frame.len), (FrameKind::Element, written.len()));
            let (mut reader, template) = reader_in(content_ns);
            let read = reader.element(&template, &written).unwrap();
            prop_assert_eq!(&read, &element);
            let mut again = Vec::new();
            read.root().write(content_ns, &mut again);
            prop_assert_eq!(again, written);
        }
    }

    #[test]
    fn what_is_written_for_storage_is_read_back(element in any_element()) {
        let text = element.root().to_xml();
        let read = parse(&text).unwrap();
        prop_assert_eq!(&read, &element);
        prop_assert_eq!(read.root().to_xml(), text);
    }

    #[test]
    fn a_copy_is_equal_wherever_it_comes_from(element in any_element()) {
        prop_assert_eq!(&element.root().to_element(), &element);
        for child in element.root().children() {
            let copy = child.to_element();
            prop_assert_eq!(copy.root().to_xml(), child.to_xml());
            prop_assert_eq!(copy.root().to_element(), copy);
        }
    }

    #[test]
    fn framing_does_not_depend_on_how_the_bytes_arrive(bytes in any_stream(), pieces in vec(1usize..40, 1..6)) {
        same_in_pieces(&scanner(), &bytes, &pieces);
    }

    /// The reader finds the end of an element where the scanner has put it, or refuses it.
    #[test]
    fn whatever_the_scanner_frames_the_reader_reads_or_refuses(bytes in any_stream()) {
        read_or_refused(&frames(scanner(), &bytes, &[usize::MAX]));
    }

    /// Whatever the quick reader accepts, the parser accepts and sees in the same way, scanned or not.
    #[test]
    fn the_quick_reader_and_the_parser_agree(bytes in any_stream(), server in any::<bool>()) {
        let (mut reader, template) = reader_in(if server { ns::SERVER } else { ns::CLIENT });
        let mut all = vec![bytes.clone()];
        all.extend(frames(scanner(), &bytes, &[usize::MAX]).0.into_iter().map(|(_, frame)| frame));
        all.iter().for_each(|frame| readers_agree(&mut reader, &template, frame));
    }

    #[test]
    fn the_quick_reader_and_the_parser_agree_on_prefixes(text in any_prefixed(), server in any::<bool>()) {
        let (mut reader, template) = reader_in(if server { ns::SERVER } else { ns::CLIENT });
        readers_agree(&mut reader, &template, text.as_bytes());
        // Whatever the scanner lets pass of that, the quick reader leaves nothing to the parser that it would read, but
        // for what is declared wrongly and not used.
        let (found, error) = frames(scanner(), format!("<stream>{text}").as_bytes(), &[usize::MAX]);
        let is_odd = ["&", ns::XML, ns::XMLNS, "xmlns:xml"].into_iter().any(|odd| text.contains(odd));
        if error.is_none() && found.len() == 2 && !is_odd {
            let plain = reader.plain_element(&template, text.as_bytes());
            prop_assert_eq!(plain, reader.parsed_element(&template, text.as_bytes()).ok());
        }
    }

    #[test]
    fn the_quick_reader_and_the_parser_agree_on_headers(bytes in any_stream(), (_, tag, _) in any_tag()) {
        let (mut reader, _) = reader_in(ns::CLIENT);
        headers_agree(&mut reader, &bytes);
        let header = format!("<{tag}>");
        headers_agree(&mut reader, header.as_bytes());
        // It leaves none to the parser that is as all are; what is odd is so as above.
        let is_odd = ["&", ns::XML, ns::XMLNS, "xmlns:xml"].into_iter().any(|odd| header.contains(odd));
        let (found, error) = frames(scanner(), header.as_bytes(), &[usize::MAX]);
        if error.is_none() && found.len() == 1 && !is_odd {
            prop_assert_eq!(reader.plain_header(header.as_bytes()), reader.parsed_header(header.as_bytes()).ok());
        }
    }

    /// And it does accept what the writer writes, but for what is not plain.
    #[test]
    fn the_quick_reader_reads_plain_text(text in "[ -~\u{A0}-\u{D7FF}]{0,40}", value in "[ -~]{0,20}") {
        let mut b = Builder::new(ns::CLIENT, "message");
        b.attr("to", &value).leaf(ns::CLIENT, "body", &text).open("u:x", "x").close();
        let element = b.finish();
        let (reader, template) = reader_in(ns::CLIENT);
        let mut written = Vec::new();
        element.root().write(ns::CLIENT, &mut written);
        prop_assert_eq!(reader.plain_element(&template, &written), Some(element));
    }

    #[test]
    fn no_bytes_make_anything_panic(bytes in vec(any::<u8>(), 0..200)) {
        frames::run(&bytes);
        jid::run(&bytes);
        let _ = Jid::parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_damaged_stream_makes_the_reader_panic(bytes in any_stream()) {
        let (mut reader, template) = reader_in(ns::CLIENT);
        let _ = reader.element(&template, &bytes);
        let _ = reader.stream_header(&bytes);
        let _ = parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn preparing_an_address_twice_changes_nothing(
        node in option::of(any_part()),
        domain in any_part(),
        resource in option::of(any_part()),
    ) {
        if let Ok(jid) = Jid::from_parts(node.as_deref(), &domain, resource.as_deref()) {
            jid::stable(&jid);
        }
    }

    #[test]
    fn parsing_and_joining_agree(text in "[a-zA-Z0-9.@/\u{E9} -]{0,12}") {
        if let Ok(jid) = Jid::parse(&text) {
            jid::stable(&jid);
        }
    }
}

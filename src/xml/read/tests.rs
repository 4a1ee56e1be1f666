//! What is read of headers and elements, and what is refused.

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
    for (used, left) in [("u:1", ["u:1", ns::CLIENT]), (ns::CLIENT, [ns::CLIENT, "u:1"]), ("u:2", ["u:2", ns::CLIENT])]
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
    for text in ["", " ", "a", "<a/><b/>", "<a>", "</a>", "<a/>b", "<p:a/>", "<?xml version='1.0'?><a/>", "<a></b>"] {
        assert!(matches!(parse(text), Err(NotWellFormed | ReadError::Scan(_))), "{text}");
    }
    assert_eq!(parse("<a><!-- b --></a>"), Err(ReadError::Scan(ScanError::RestrictedXml)));
    let deep = |n: usize| format!("{}{}", "<a>".repeat(n), "</a>".repeat(n));
    assert!(parse(&deep(1024)).is_ok());
    assert_eq!(parse(&deep(1025)), Err(ReadError::Scan(ScanError::TooDeep)));
}

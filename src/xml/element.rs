//! One XML element with all that is in it, as one table of nodes and one buffer of text.
//!
//! Nodes stand in document order: an element, then its attributes, then its children. Each node names where what
//! belongs to it ends, so walking needs no recursion and no pointers. Elements of a stream's content namespace
//! (`jabber:client`, `jabber:server`) are all `jabber:client` here; what is written inherits the namespace of the
//! stream it is written to.

use super::ns;
use super::write::{escape_attribute, escape_text};
use crate::budget::allocated;
use zeroize::Zeroize;

/// Offset and length of a piece of the text buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    start: u32,
    len: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Element,
    Attribute,
    Text,
}

/// 32 bytes; `limits.nodes_max` bounds how many one stanza has.
#[derive(Clone, Copy, Debug)]
struct Node {
    kind: Kind,
    /// Index of the first node behind this one and all that is in it.
    end: u32,
    ns: Span,
    name: Span,
    /// Value of an attribute, characters of a text.
    value: Span,
}

/// An element that owns its nodes. Node 0 is the element itself.
#[derive(Clone, Debug)]
pub struct Element {
    nodes: Vec<Node>,
    text: String,
}

impl Element {
    /// Gives back memory that was reserved for more, for one that is kept for long.
    #[must_use]
    pub fn shrunk(mut self) -> Self {
        self.nodes.shrink_to_fit();
        self.text.shrink_to_fit();
        self
    }

    /// Ends it, and overwrites its texts: one of them may have been a password.
    pub fn wipe(mut self) {
        self.text.zeroize();
    }

    /// An element without attributes or children.
    pub fn empty(ns: &str, name: &str) -> Self {
        Builder::new(ns, name).finish()
    }

    /// An element whose only child is text.
    pub fn with_text(ns: &str, name: &str, text: &str) -> Self {
        let mut b = Builder::new(ns, name);
        b.text(text);
        b.finish()
    }

    /// The element as a view.
    pub fn root(&self) -> ElementRef<'_> {
        ElementRef { arena: self, at: 0 }
    }

    /// Bytes held on the heap.
    pub fn heap_bytes(&self) -> usize {
        allocated(self.nodes.capacity() * size_of::<Node>()) + allocated(self.text.capacity())
    }

    /// Bytes of names, values and characters.
    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// Nodes in the table.
    pub fn nodes_len(&self) -> usize {
        self.nodes.len()
    }

    /// The same element without those children of the root that `keep` refuses. Text directly in the root is kept.
    pub fn retain_children(&self, mut keep: impl FnMut(ElementRef<'_>) -> bool) -> Element {
        let root = self.root();
        let mut b = Builder::new(root.ns(), root.name());
        b.attributes_of(root);
        for content in root.content() {
            match content {
                Content::Text(t) => b.text(t),
                Content::Element(e) if keep(e) => b.copy(e),
                Content::Element(_) => {}
            }
        }
        b.finish()
    }

    fn span(&self, span: Span) -> &str {
        let start = span.start as usize;
        self.text.get(start..start + span.len as usize).unwrap_or_default()
    }

    /// Whether the span has this text. Lengths tell nearly always that it has not.
    fn has(&self, span: Span, text: &str) -> bool {
        span.len as usize == text.len() && self.span(span) == text
    }

    fn node(&self, at: u32) -> Node {
        self.nodes[at as usize]
    }
}

/// Two elements are equal when name, attributes (in order) and content are; how they lie in memory does not matter.
impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.nodes.len() == other.nodes.len()
            && self.nodes.iter().zip(&other.nodes).all(|(a, b)| {
                a.kind == b.kind
                    && a.end == b.end
                    && self.span(a.ns) == other.span(b.ns)
                    && self.span(a.name) == other.span(b.name)
                    && self.span(a.value) == other.span(b.value)
            })
    }
}

impl Eq for Element {}

/// A view of one element inside an [`Element`].
#[derive(Clone, Copy, Debug)]
pub struct ElementRef<'a> {
    arena: &'a Element,
    at: u32,
}

/// An attribute with its namespace, which is empty for nearly all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Namespace; empty for an attribute without prefix.
    pub ns: &'a str,
    /// Local name.
    pub name: &'a str,
    /// Unescaped value.
    pub value: &'a str,
}

/// A child of either kind.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// Unescaped characters.
    Text(&'a str),
    /// A child element.
    Element(ElementRef<'a>),
}

impl<'a> ElementRef<'a> {
    /// Namespace.
    pub fn ns(self) -> &'a str {
        self.arena.span(self.arena.node(self.at).ns)
    }

    /// Local name.
    pub fn name(self) -> &'a str {
        self.arena.span(self.arena.node(self.at).name)
    }

    /// True when both namespace and name are these.
    pub fn is(self, ns: &str, name: &str) -> bool {
        let node = self.arena.node(self.at);
        self.arena.has(node.name, name) && self.arena.has(node.ns, ns)
    }

    /// Value of the attribute without namespace.
    pub fn attr(self, name: &str) -> Option<&'a str> {
        self.attr_ns("", name)
    }

    /// Value of the attribute in a namespace, such as `xml:lang`.
    pub fn attr_ns(self, ns: &str, name: &str) -> Option<&'a str> {
        let arena = self.arena;
        let sought = |node: &&Node| arena.has(node.name, name) && arena.has(node.ns, ns);
        self.attribute_nodes().find(sought).map(|node| arena.span(node.value))
    }

    fn attribute_nodes(self) -> impl Iterator<Item = &'a Node> {
        let inside = self.at as usize + 1..self.arena.node(self.at).end as usize;
        let nodes = self.arena.nodes.get(inside).unwrap_or_default();
        nodes.iter().take_while(|node| node.kind == Kind::Attribute)
    }

    /// All attributes in the order of the document; namespace declarations are not among them.
    pub fn attributes(self) -> impl Iterator<Item = Attribute<'a>> {
        let arena = self.arena;
        self.attribute_nodes().map(|node| Attribute {
            ns: arena.span(node.ns),
            name: arena.span(node.name),
            value: arena.span(node.value),
        })
    }

    /// Children of both kinds, in order.
    pub fn content(self) -> impl Iterator<Item = Content<'a>> {
        let arena = self.arena;
        let end = arena.node(self.at).end;
        let mut at = self.at + 1;
        std::iter::from_fn(move || {
            while at < end {
                let (here, node) = (at, arena.node(at));
                at = node.end;
                match node.kind {
                    Kind::Attribute => {}
                    Kind::Text => return Some(Content::Text(arena.span(node.value))),
                    Kind::Element => return Some(Content::Element(ElementRef { arena, at: here })),
                }
            }
            None
        })
    }

    /// Child elements, in order.
    pub fn children(self) -> impl Iterator<Item = ElementRef<'a>> {
        self.content().filter_map(|c| match c {
            Content::Element(e) => Some(e),
            Content::Text(_) => None,
        })
    }

    /// The first child of that namespace and name.
    pub fn child(self, ns: &str, name: &str) -> Option<ElementRef<'a>> {
        self.children().find(|c| c.is(ns, name))
    }

    /// True when there is such a child.
    pub fn has_child(self, ns: &str, name: &str) -> bool {
        self.child(ns, name).is_some()
    }

    /// The characters directly inside, without those of children.
    pub fn text(self) -> String {
        self.content()
            .filter_map(|c| match c {
                Content::Text(t) => Some(t),
                Content::Element(_) => None,
            })
            .collect()
    }

    /// A copy that owns its nodes.
    pub fn to_element(self) -> Element {
        let mut b = Builder::new(self.ns(), self.name());
        b.attributes_of(self);
        for content in self.content() {
            match content {
                Content::Text(t) => b.text(t),
                Content::Element(e) => b.copy(e),
            }
        }
        b.finish()
    }

    /// Writes the element as XML behind `out`. `inherited` is the default namespace where it will stand: no
    /// declaration is written for an element that is in it.
    pub fn write(self, inherited: &str, out: &mut Vec<u8>) {
        write_nodes(self.arena, self.at, self.arena.node(self.at).end, inherited, out);
    }

    /// Writes what is inside the element, as [`ElementRef::write`] does, with the element's own namespace inherited.
    pub fn write_content(self, out: &mut Vec<u8>) {
        let mut first = self.at + 1;
        let end = self.arena.node(self.at).end;
        while first < end && self.arena.node(first).kind == Kind::Attribute {
            first += 1;
        }
        write_nodes(self.arena, first, end, self.ns(), out);
    }

    /// The element as text, for logs and tests.
    pub fn to_xml(self) -> String {
        let mut out = Vec::new();
        self.write("", &mut out);
        String::from_utf8(out).unwrap_or_default()
    }
}

/// Writes the nodes `from..to` of `arena`. A stack of open elements replaces recursion.
fn write_nodes(arena: &Element, from: u32, to: u32, inherited: &str, out: &mut Vec<u8>) {
    let mut open: Vec<(u32, &str, &str)> = Vec::new();
    let mut at = from;
    loop {
        while let Some(&(end, name, _)) = open.last() {
            if at < end {
                break;
            }
            out.extend_from_slice(b"</");
            out.extend_from_slice(name.as_bytes());
            out.push(b'>');
            open.pop();
        }
        if at >= to {
            return;
        }
        let node = arena.node(at);
        match node.kind {
            Kind::Attribute => at += 1,
            Kind::Text => {
                escape_text(arena.span(node.value), out);
                at += 1;
            }
            Kind::Element => {
                let element = ElementRef { arena, at };
                let default = open.last().map_or(inherited, |o| o.2);
                let next = at + 1 + element.attribute_nodes().count() as u32;
                write_start(element, default, out);
                if next >= node.end {
                    out.extend_from_slice(b"/>");
                } else {
                    out.push(b'>');
                    open.push((node.end, element.name(), element.ns()));
                }
                at = next;
            }
        }
    }
}

/// Writes a start tag without its end.
fn write_start(element: ElementRef<'_>, inherited: &str, out: &mut Vec<u8>) {
    out.push(b'<');
    out.extend_from_slice(element.name().as_bytes());
    if element.ns() != inherited {
        write_attribute("xmlns", element.ns(), out);
    }
    for (i, a) in element.attributes().enumerate() {
        match a.ns {
            "" => write_attribute(a.name, a.value, out),
            ns::XML => write_attribute(&format!("xml:{}", a.name), a.value, out),
            other => {
                // One prefix an attribute: rare, and never ambiguous.
                write_attribute(&format!("xmlns:ns{i}"), other, out);
                write_attribute(&format!("ns{i}:{}", a.name), a.value, out);
            }
        }
    }
}

/// Writes ` name='value'`.
pub fn write_attribute(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"='");
    escape_attribute(value, out);
    out.push(b'\'');
}

/// Makes an [`Element`] from its start to its end.
#[derive(Debug)]
pub struct Builder {
    element: Element,
    open: Vec<u32>,
    /// The last node is a text of the element opened last, so that more text joins it.
    after_text: bool,
}

impl Builder {
    /// Starts with the root.
    pub fn new(ns: &str, name: &str) -> Self {
        Self::with_room(ns, name, 0, 0)
    }

    /// Starts with the root of an element that will have about so many nodes and bytes of text.
    pub fn with_room(ns: &str, name: &str, nodes: usize, text_bytes: usize) -> Self {
        let element = Element { nodes: Vec::with_capacity(nodes), text: String::with_capacity(text_bytes) };
        let mut b = Self { element, open: Vec::new(), after_text: false };
        b.open(ns, name);
        b
    }

    /// Adds an attribute without namespace to the element opened last. Must come before its content.
    pub fn attr(&mut self, name: &str, value: &str) -> &mut Self {
        self.attr_ns("", name, value)
    }

    /// Adds an attribute in a namespace.
    pub fn attr_ns(&mut self, ns: &str, name: &str, value: &str) -> &mut Self {
        let (ns, name, value) = (self.push(ns), self.push(name), self.push(value));
        self.node(Kind::Attribute, ns, name, value);
        self
    }

    /// Adds the attributes of another element.
    pub fn attributes_of(&mut self, other: ElementRef<'_>) -> &mut Self {
        for a in other.attributes() {
            self.attr_ns(a.ns, a.name, a.value);
        }
        self
    }

    /// Opens a child; what follows goes into it until [`Builder::close`].
    pub fn open(&mut self, ns: &str, name: &str) -> &mut Self {
        let ns = self.namespace(ns);
        let name = self.push(name);
        self.open.push(self.element.nodes.len() as u32);
        self.node(Kind::Element, ns, name, Span::default());
        self
    }

    /// Closes the child opened last. The root stays open until [`Builder::finish`].
    pub fn close(&mut self) -> &mut Self {
        if self.open.len() > 1 {
            self.end_last();
        }
        self
    }

    /// Adds text to the element opened last; text behind text becomes one.
    pub fn text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if self.after_text
            && let Some(last) = self.element.nodes.last_mut()
        {
            last.value.len += text.len() as u32;
            self.element.text.push_str(text);
            return;
        }
        let value = self.push(text);
        self.node(Kind::Text, Span::default(), Span::default(), value);
        self.after_text = true;
    }

    /// Adds a child that holds only text.
    pub fn leaf(&mut self, ns: &str, name: &str, text: &str) -> &mut Self {
        self.open(ns, name);
        self.text(text);
        self.close()
    }

    /// Adds a copy of another element as a child.
    pub fn copy(&mut self, other: ElementRef<'_>) {
        let source = other.arena;
        let root = source.node(other.at);
        let nodes = &source.nodes[other.at as usize..root.end as usize];
        // What belongs to an element lies together, its own namespace perhaps excepted: that may be its parent's.
        let text_start = root.name.start;
        let text_end = nodes.last().map_or(text_start, |last| match last.kind {
            Kind::Element => last.name.start + last.name.len,
            Kind::Attribute | Kind::Text => last.value.start + last.value.len,
        });
        let ns = self.namespace(source.span(root.ns));
        let moved_text = self.push(source.span(Span { start: text_start, len: text_end - text_start }));
        let moved = |span: Span| match span.start.checked_sub(text_start) {
            Some(offset) => Span { start: moved_text.start + offset, len: span.len },
            None if span.len == 0 => Span::default(),
            None => ns,
        };
        let first = self.element.nodes.len() as u32;
        self.element.nodes.extend(nodes.iter().map(|node| Node {
            kind: node.kind,
            end: node.end - other.at + first,
            ns: moved(node.ns),
            name: moved(node.name),
            value: moved(node.value),
        }));
        self.after_text = false;
    }

    /// Number of nodes so far.
    pub fn nodes_len(&self) -> usize {
        self.element.nodes.len()
    }

    /// Bytes of names, values and characters so far.
    pub fn text_bytes(&self) -> usize {
        self.element.text.len()
    }

    /// Number of elements open, the root among them.
    pub fn depth(&self) -> usize {
        self.open.len()
    }

    /// Closes all that is open.
    pub fn finish(mut self) -> Element {
        while !self.open.is_empty() {
            self.end_last();
        }
        self.element
    }

    fn end_last(&mut self) {
        self.after_text = false;
        let end = self.element.nodes.len() as u32;
        if let Some(at) = self.open.pop() {
            self.element.nodes[at as usize].end = end;
        }
    }

    fn node(&mut self, kind: Kind, ns: Span, name: Span, value: Span) {
        let end = self.element.nodes.len() as u32 + 1;
        self.after_text = false;
        self.element.nodes.push(Node { kind, end, ns, name, value });
    }

    /// The namespace of a new child: its parent's when that is the same, so that an inherited one is kept once.
    fn namespace(&mut self, ns: &str) -> Span {
        match self.open.last().map(|&at| self.element.nodes[at as usize].ns) {
            Some(parent) if self.element.span(parent) == ns => parent,
            _ => self.push(ns),
        }
    }

    fn push(&mut self, text: &str) -> Span {
        let start = self.element.text.len() as u32;
        self.element.text.push_str(text);
        Span { start, len: text.len() as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `<message to='j'><body>hi <b/> there</body><x xmlns='u:x' a='1'><y/>t</x></message>`
    fn message() -> Element {
        let mut b = Builder::new(ns::CLIENT, "message");
        b.attr("to", "j").open(ns::CLIENT, "body").text("hi ");
        b.open(ns::CLIENT, "b").close().text(" there");
        b.close().open("u:x", "x").attr("a", "1").open("u:x", "y").close().text("t");
        b.finish()
    }

    #[test]
    fn a_builder_makes_what_it_was_told() {
        let element = message();
        let root = element.root();
        assert!(root.is(ns::CLIENT, "message") && !root.is("", "message") && !root.is(ns::CLIENT, "iq"));
        assert_eq!((root.attr("to"), root.attr("from")), (Some("j"), None));
        assert_eq!(root.children().map(ElementRef::name).collect::<Vec<_>>(), ["body", "x"]);
        let body = root.child(ns::CLIENT, "body").unwrap();
        assert_eq!(body.text(), "hi  there");
        assert_eq!(body.content().count(), 3);
        let x = root.child("u:x", "x").unwrap();
        assert_eq!(x.attributes().collect::<Vec<_>>(), [Attribute { ns: "", name: "a", value: "1" }]);
        assert!(x.has_child("u:x", "y") && !x.has_child(ns::CLIENT, "y") && !root.has_child("u:x", "y"));
        assert_eq!(x.text(), "t");
        assert_eq!(element.nodes_len(), 10);
        assert!(element.heap_bytes() >= 10 * 32);
    }

    #[test]
    fn the_root_closes_only_at_the_end() {
        let mut b = Builder::new("", "a");
        b.close().close().open("", "b");
        assert_eq!((b.depth(), b.nodes_len()), (2, 2));
        b.close().leaf("", "c", "d");
        assert_eq!(b.finish().root().to_xml(), "<a><b/><c>d</c></a>");
    }

    #[test]
    fn text_behind_text_is_one_and_empty_text_is_none() {
        let mut b = Builder::new("", "a");
        b.text("");
        b.text("x");
        b.text("");
        b.text("y");
        b.leaf("", "b", "");
        b.text("z");
        let element = b.finish();
        let texts = |e: &Element| e.root().content().filter(|c| matches!(c, Content::Text(_))).count();
        assert_eq!((texts(&element), element.root().text().as_str()), (2, "xyz"));
        assert_eq!(element.root().to_xml(), "<a>xy<b/>z</a>");
        // Text behind a copy is text of the parent, not of what was copied.
        let mut b = Builder::new("", "p");
        b.copy(Element::with_text("", "a", "1").root());
        b.text("2");
        assert_eq!(b.finish().root().to_xml(), "<p><a>1</a>2</p>");
        // A text that only a removed child had divided is one again.
        let joined = element.retain_children(|_| false);
        assert_eq!((texts(&joined), joined.root().to_xml().as_str()), (1, "<a>xyz</a>"));
    }

    #[test]
    fn writing_declares_a_namespace_where_it_changes() {
        let element = message();
        let mut out = Vec::new();
        element.root().write(ns::CLIENT, &mut out);
        let inside = "<body>hi <b/> there</body><x xmlns='u:x' a='1'><y/>t</x>";
        assert_eq!(String::from_utf8(out).unwrap(), format!("<message to='j'>{inside}</message>"));
        assert_eq!(element.root().to_xml(), format!("<message xmlns='jabber:client' to='j'>{inside}</message>"));
        let mut out = Vec::new();
        element.root().write_content(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), inside);
        let mut out = Vec::new();
        Element::empty("", "a").root().write(ns::CLIENT, &mut out);
        assert_eq!(out, b"<a xmlns=''/>");
        let mut out = Vec::new();
        Element::empty("u:x", "a").root().write_content(&mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn writing_escapes_what_a_reader_would_take_for_something_else() {
        let mut b = Builder::new("", "a");
        b.attr("b", "<>&'\"\r\n\t\u{E9}")
            .attr_ns(ns::XML, "lang", "de")
            .attr_ns("u:'", "c", "1")
            .attr_ns("u:d", "c", "2");
        b.text("<>&'\"\r\n\t]]>\u{E9}");
        assert_eq!(
            b.finish().root().to_xml(),
            "<a b='&lt;&gt;&amp;&apos;&quot;&#13;&#10;&#9;\u{E9}' xml:lang='de' xmlns:ns2='u:&apos;' ns2:c='1' \
             xmlns:ns3='u:d' ns3:c='2'>&lt;&gt;&amp;'\"&#13;\n\t]]&gt;\u{E9}</a>"
        );
    }

    #[test]
    fn a_copy_equals_its_original_and_needs_no_more_room() {
        let element = message();
        assert_eq!(element.root().to_element(), element);
        assert_eq!(element.retain_children(|_| true), element);
        for child in element.root().children() {
            let alone = child.to_element();
            assert_eq!(alone.root().to_xml(), child.to_xml());
            let mut b = Builder::new("u:outer", "outer");
            b.attr("z", "0").copy(child);
            b.leaf("u:outer", "last", "1");
            let wrapped = b.finish();
            assert_eq!(wrapped.root().children().next().unwrap().to_element(), alone);
            assert!(wrapped.root().has_child("u:outer", "last"));
        }
        // An empty value at the end of a copy still says where its text ends.
        let mut b = Builder::new("", "a");
        b.open("", "b").attr("c", "").close().text("d");
        let copy = b.finish().root().children().next().unwrap().to_element();
        assert_eq!(copy.root().to_element().root().to_xml(), "<b c=''/>");
        // An inherited namespace is kept once, however many elements a copy has.
        let mut b = Builder::new("u:long", "a");
        for _ in 0..9 {
            b.open("u:long", "b").open("u:other", "c").close().close();
        }
        let original = b.finish();
        let mut b = Builder::new("u:long", "a");
        original.root().children().for_each(|child| b.copy(child));
        assert_eq!(b.text_bytes(), original.text.len());
        assert_eq!(b.finish(), original);
    }

    #[test]
    fn removing_children_leaves_the_rest() {
        let rest = message().retain_children(|child| child.ns() != ns::CLIENT);
        assert_eq!(
            rest.root().to_xml(),
            "<message xmlns='jabber:client' to='j'><x xmlns='u:x' a='1'><y/>t</x></message>"
        );
    }

    #[test]
    fn equality_is_of_content_not_of_layout() {
        let element = message();
        let mut b = Builder::new(ns::CLIENT, "message");
        b.attributes_of(element.root());
        element.root().children().for_each(|child| b.copy(child));
        assert_eq!(b.finish(), element);
        let attribute = |name, value| {
            let mut b = Builder::new("", "a");
            b.attr(name, value);
            b.finish()
        };
        assert_eq!(attribute("b", "c"), attribute("b", "c"));
        for other in
            [attribute("b", "d"), attribute("c", "c"), Element::empty("", "a"), Element::with_text("", "a", "c")]
        {
            assert_ne!(attribute("b", "c"), other);
        }
        assert_ne!(Element::empty("", "a"), Element::empty("u", "a"));
        // As many nodes, nested differently.
        assert_ne!(super::super::parse("<a><b/><c/></a>"), super::super::parse("<a><b><c/></b></a>"));
    }

    #[test]
    fn a_node_is_small() {
        assert_eq!(size_of::<Node>(), 32);
    }
}

//! Stanzas: a typed header and an opaque payload (RFC 6120 section 8).

pub mod command;
pub mod delay;
pub mod error;
pub mod forged;
pub mod form;
pub mod rsm;

use crate::budget::allocated;
use crate::jid::Jid;
use crate::xml::{Attribute, Builder, Element, ElementRef, ns, write_attribute};
use std::rc::Rc;

pub use error::{Condition, StanzaError};

/// Which of the three stanzas, and its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `<message/>`.
    Message(MessageType),
    /// `<presence/>`.
    Presence(PresenceType),
    /// `<iq/>`.
    Iq(IqType),
}

impl Kind {
    /// True for presence that says that somebody is available, or not any more (RFC 6121 section 4).
    pub fn is_availability(self) -> bool {
        matches!(self, Self::Presence(PresenceType::Available | PresenceType::Unavailable))
    }
}

macro_rules! types {
    ($(#[$doc:meta])* $name:ident { $( $variant:ident = $text:literal, )* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $( #[doc = concat!("`type='", $text, "'`.")] $variant, )* }

        impl $name {
            /// The attribute's value.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $text, )* }
            }

            fn parse(text: &str) -> Option<Self> {
                match text { $( $text => Some(Self::$variant), )* _ => None }
            }
        }
    };
}

types! {
    /// RFC 6121 section 5.2.2. An unknown type means `normal`.
    MessageType { Normal = "normal", Chat = "chat", Groupchat = "groupchat", Headline = "headline", Error = "error", }
}
types! {
    /// RFC 6121 section 4.7.1. Absent means available.
    PresenceType {
        Available = "available", Unavailable = "unavailable", Subscribe = "subscribe", Subscribed = "subscribed",
        Unsubscribe = "unsubscribe", Unsubscribed = "unsubscribed", Probe = "probe", Error = "error",
    }
}
types! {
    /// RFC 6120 section 8.2.3.
    IqType { Get = "get", Set = "set", Result = "result", Error = "error", }
}

/// A stanza. Cloning shares the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stanza {
    /// Name and type.
    pub kind: Kind,
    /// Addressee; none means the sender's own account.
    pub to: Option<Jid>,
    /// Sender.
    pub from: Option<Jid>,
    /// Identifier, kept as it came.
    pub id: Option<Rc<str>>,
    /// `xml:lang`.
    pub lang: Option<Rc<str>>,
    /// The stanza element. Attributes of it that are fields here are not looked at again: the fields hold.
    pub payload: Rc<Element>,
}

impl Stanza {
    /// Bytes of the heap that it takes beside its addresses, which others share.
    pub fn heap_bytes(&self) -> usize {
        const COUNTS: usize = 2 * size_of::<usize>();
        let text = |text: &Option<Rc<str>>| text.as_ref().map_or(0, |text| allocated(COUNTS + text.len()));
        text(&self.id) + text(&self.lang) + allocated(COUNTS + size_of::<Element>()) + self.payload.heap_bytes()
    }
}

/// Why an element is not a stanza that may go on.
#[derive(Debug)]
pub enum ReadError {
    /// Not one of the three: `unsupported-stanza-type` for the stream.
    NotAStanza,
    /// The sender is told.
    Refused {
        /// The header as far as it could be read, to address the error.
        stanza: Box<Stanza>,
        /// What to tell.
        condition: Condition,
    },
    /// `from` is not an address: `invalid-from` for the stream.
    InvalidFrom,
}

impl Stanza {
    /// Reads what [`Stanza::to_xml`] has written; none where that is damaged.
    pub fn parse(xml: &str) -> Option<Self> {
        Self::read(crate::xml::parse(xml).ok()?).ok()
    }

    /// As XML in the namespace of clients.
    pub fn to_xml(&self) -> String {
        // Most often enough: the arena holds the same text, and names of its own.
        let mut out = Vec::with_capacity(128 + self.payload.heap_bytes());
        write_head(self.kind, self.to.as_ref(), &mut out);
        write_attribute("xmlns", ns::CLIENT, &mut out);
        self.write_tail(&mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    /// Reads one again of which a queue has [`Stanza::tail`]; none where that is damaged.
    pub fn of_tail(kind: Kind, to: Option<&Jid>, tail: &[u8]) -> Option<Self> {
        let mut xml = Vec::with_capacity(128 + tail.len());
        write_head(kind, to, &mut xml);
        write_attribute("xmlns", ns::CLIENT, &mut xml);
        xml.extend_from_slice(tail);
        Self::parse(std::str::from_utf8(&xml).ok()?)
    }

    /// The id under which the archive of `owner`, a bare address, has it, as it says (XEP-0359 section 3).
    pub fn archive_id(&self, owner: &str) -> Option<&str> {
        let is_theirs = |c: &ElementRef<'_>| c.is(ns::STANZA_ID, "stanza-id") && c.attr("by") == Some(owner);
        self.payload.root().children().find(is_theirs)?.attr("id")
    }

    /// Gives back memory that was reserved for more, for one that is kept for long.
    #[must_use]
    pub fn shrunk(self) -> Self {
        Self { payload: Rc::new(Rc::unwrap_or_clone(self.payload).shrunk()), ..self }
    }

    /// Reads the header of an element of the content namespace.
    ///
    /// # Errors
    /// When it is no stanza, an address is malformed, or the type or structure is wrong (RFC 6120 sections 8.1 to 8.3).
    pub fn read(element: Element) -> Result<Self, ReadError> {
        let root = element.root();
        if root.ns() != ns::CLIENT {
            return Err(ReadError::NotAStanza);
        }
        let typ = root.attr("type");
        let kind = match root.name() {
            "message" => Some(Kind::Message(typ.and_then(MessageType::parse).unwrap_or(MessageType::Normal))),
            "presence" => match typ {
                None => Some(Kind::Presence(PresenceType::Available)),
                // `available` is not a value of the attribute.
                Some(t) => PresenceType::parse(t).filter(|t| *t != PresenceType::Available).map(Kind::Presence),
            },
            "iq" => typ.and_then(IqType::parse).map(Kind::Iq),
            _ => return Err(ReadError::NotAStanza),
        };
        let fallback = match root.name() {
            "message" => Kind::Message(MessageType::Normal),
            "presence" => Kind::Presence(PresenceType::Available),
            _ => Kind::Iq(IqType::Get),
        };
        let from = match root.attr("from").map(Jid::parse) {
            Some(Err(_)) => return Err(ReadError::InvalidFrom),
            Some(Ok(jid)) => Some(jid),
            None => None,
        };
        let to = root.attr("to").map(Jid::parse);
        let mut stanza = Self {
            kind: kind.unwrap_or(fallback),
            to: None,
            from,
            id: root.attr("id").map(Into::into),
            lang: root.attr_ns(ns::XML, "lang").map(Into::into),
            payload: Rc::new(element),
        };
        let refuse = |stanza, condition| Err(ReadError::Refused { stanza: Box::new(stanza), condition });
        match to {
            Some(Err(_)) => return refuse(stanza, Condition::JidMalformed),
            Some(Ok(jid)) => stanza.to = Some(jid),
            None => {}
        }
        if kind.is_none() || !stanza.is_sound() {
            return refuse(stanza, Condition::BadRequest);
        }
        Ok(stanza)
    }

    /// RFC 6120 section 8.2.3: an IQ has an id, and a request exactly one child.
    fn is_sound(&self) -> bool {
        let Kind::Iq(typ) = self.kind else { return true };
        let children = self.payload.root().children().count();
        self.id.is_some()
            && match typ {
                IqType::Get | IqType::Set => children == 1,
                IqType::Result => children <= 1,
                IqType::Error => true,
            }
    }

    /// A stanza without payload.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            to: None,
            from: None,
            id: None,
            lang: None,
            payload: Rc::new(Element::empty(ns::CLIENT, name(kind))),
        }
    }

    /// A stanza whose children `build` adds.
    pub fn build(kind: Kind, build: impl FnOnce(&mut Builder)) -> Self {
        let mut b = Builder::new(ns::CLIENT, name(kind));
        build(&mut b);
        Self { payload: Rc::new(b.finish()), ..Self::new(kind) }
    }

    /// The same with addressee and sender.
    #[must_use]
    pub fn addressed(mut self, from: Option<Jid>, to: Option<Jid>) -> Self {
        (self.from, self.to) = (from, to);
        self
    }

    /// The same with an id.
    #[must_use]
    pub fn with_id(mut self, id: &str) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The result of this request, from its addressee to its sender.
    pub fn result(&self, build: impl FnOnce(&mut Builder)) -> Self {
        let mut reply = Self::build(Kind::Iq(IqType::Result), build).addressed(self.to.clone(), self.from.clone());
        reply.id.clone_from(&self.id);
        reply
    }

    /// The error that answers this request, with a child before it.
    pub fn refusal(&self, child: &Element, error: &StanzaError) -> Self {
        let build = |b: &mut Builder| {
            b.copy(child.root());
            error.build(b);
        };
        let mut reply = Self::build(Kind::Iq(IqType::Error), build).addressed(self.to.clone(), self.from.clone());
        reply.id.clone_from(&self.id);
        reply
    }

    /// The error that answers this stanza; none for errors and results, which are never answered (RFC 6120 section
    /// 8.3.1).
    pub fn error(&self, error: &StanzaError) -> Option<Self> {
        let kind = match self.kind {
            Kind::Message(MessageType::Error) | Kind::Presence(PresenceType::Error) => return None,
            Kind::Iq(IqType::Error | IqType::Result) => return None,
            Kind::Message(_) => Kind::Message(MessageType::Error),
            Kind::Presence(_) => Kind::Presence(PresenceType::Error),
            Kind::Iq(_) => Kind::Iq(IqType::Error),
        };
        // XEP-0077 section 9 asks for both kinds of errors.
        let coded = self.request().is_some_and(|child| child.ns() == ns::REGISTER);
        // Section 3.8 of XEP-0050 shows the command beside its error, by which clients find their session.
        let command = self.request().filter(|child| child.is(ns::COMMANDS, "command"));
        let build = |b: &mut Builder| {
            if let Some(command) = command {
                b.open(ns::COMMANDS, "command").attributes_of(command).close();
            }
            error.build_coded(b, coded);
        };
        let mut reply = Self::build(kind, build).addressed(self.to.clone(), self.from.clone());
        reply.id.clone_from(&self.id);
        Some(reply)
    }

    /// What a result in answer to it needs.
    #[must_use]
    pub fn header(&self) -> Self {
        Self { payload: Rc::new(Element::empty(ns::CLIENT, name(self.kind))), ..self.clone() }
    }

    /// What an error in answer to it needs: its header, and the name of what it is about. A small one stays whole.
    #[must_use]
    pub fn outline(&self) -> Self {
        const SMALL_BYTES: usize = 2048;
        if self.payload.heap_bytes() <= SMALL_BYTES {
            return self.clone();
        }
        let root = self.payload.root();
        let mut b = Builder::new(root.ns(), root.name());
        if let Some(child) = self.request() {
            b.open(child.ns(), child.name()).close();
        }
        Self { payload: Rc::new(b.finish()), ..self.clone() }
    }

    /// The first child of that namespace and name.
    pub fn child(&self, ns: &str, name: &str) -> Option<ElementRef<'_>> {
        self.payload.root().child(ns, name)
    }

    /// True when there is such a child.
    pub fn has_child(&self, ns: &str, name: &str) -> bool {
        self.payload.root().has_child(ns, name)
    }

    /// The child that says what a request is about.
    pub fn request(&self) -> Option<ElementRef<'_>> {
        self.payload.root().children().next()
    }

    /// Replaces the payload by one without those children that `keep` refuses.
    pub fn retain_children(&mut self, keep: impl FnMut(ElementRef<'_>) -> bool) {
        self.payload = Rc::new(self.payload.retain_children(keep));
    }

    /// Adds children at the end.
    pub fn append(&mut self, build: impl FnOnce(&mut Builder)) {
        // Room for a small child, too.
        const MORE: (usize, usize) = (8, 128);
        let root = self.payload.root();
        let (nodes, text_bytes) = (self.payload.nodes_len() + MORE.0, self.payload.text_bytes() + MORE.1);
        let mut b = Builder::with_room(root.ns(), root.name(), nodes, text_bytes);
        b.attributes_of(root);
        for child in root.children() {
            b.copy(child);
        }
        build(&mut b);
        self.payload = Rc::new(b.finish());
    }

    /// Writes what follows the head: the other attributes, the content, the end tag.
    pub fn write_tail(&self, out: &mut Vec<u8>) {
        if let Some(from) = &self.from {
            write_attribute("from", from.as_str(), out);
        }
        if let Some(id) = &self.id {
            write_attribute("id", id, out);
        }
        match self.kind {
            // The default is not written (RFC 6121 section 5.2.2), and availability has no type at all.
            Kind::Message(MessageType::Normal) | Kind::Presence(PresenceType::Available) => {}
            Kind::Message(t) => write_attribute("type", t.as_str(), out),
            Kind::Presence(t) => write_attribute("type", t.as_str(), out),
            Kind::Iq(t) => write_attribute("type", t.as_str(), out),
        }
        if let Some(lang) = &self.lang {
            write_attribute("xml:lang", lang, out);
        }
        let root = self.payload.root();
        for a in root.attributes().filter(|a| a.ns.is_empty() && !is_header(a)) {
            write_attribute(a.name, a.value, out);
        }
        if root.content().next().is_none() {
            out.extend_from_slice(b"/>");
            return;
        }
        out.push(b'>');
        root.write_content(out);
        out.extend_from_slice(b"</");
        out.extend_from_slice(name(self.kind).as_bytes());
        out.push(b'>');
    }

    /// The tail in shared form.
    pub fn tail(&self) -> Rc<[u8]> {
        // Most often enough: the arena holds the same text, and names of its own.
        let mut out = Vec::with_capacity(self.payload.heap_bytes());
        self.write_tail(&mut out);
        out.into()
    }

    /// The whole stanza as an element, for carrying it inside another (XEP-0297) and for storing it.
    pub fn to_element(&self) -> Element {
        let mut b = Builder::new(ns::CLIENT, name(self.kind));
        self.copy_into(&mut b);
        b.finish()
    }

    /// Adds the whole stanza as a child.
    pub fn copy_as_child(&self, b: &mut Builder) {
        b.open(ns::CLIENT, name(self.kind));
        self.copy_into(b);
        b.close();
    }

    fn copy_into(&self, b: &mut Builder) {
        for (key, value) in [("to", &self.to), ("from", &self.from)] {
            if let Some(jid) = value {
                b.attr(key, jid.as_str());
            }
        }
        if let Some(id) = &self.id {
            b.attr("id", id);
        }
        match self.kind {
            Kind::Message(MessageType::Normal) | Kind::Presence(PresenceType::Available) => {}
            Kind::Message(t) => _ = b.attr("type", t.as_str()),
            Kind::Presence(t) => _ = b.attr("type", t.as_str()),
            Kind::Iq(t) => _ = b.attr("type", t.as_str()),
        }
        if let Some(lang) = &self.lang {
            b.attr_ns(ns::XML, "lang", lang);
        }
        let root = self.payload.root();
        for a in root.attributes().filter(|a| !is_header(a)) {
            b.attr_ns(a.ns, a.name, a.value);
        }
        for child in root.children() {
            b.copy(child);
        }
    }
}

/// Writes `<name to='...'`, which is all that differs between the recipients of one stanza.
pub fn write_head(kind: Kind, to: Option<&Jid>, out: &mut Vec<u8>) {
    out.push(b'<');
    out.extend_from_slice(name(kind).as_bytes());
    if let Some(to) = to {
        write_attribute("to", to.as_str(), out);
    }
}

/// Element name of a kind.
pub fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Message(_) => "message",
        Kind::Presence(_) => "presence",
        Kind::Iq(_) => "iq",
    }
}

fn is_header(a: &Attribute<'_>) -> bool {
    match a.ns {
        "" => matches!(a.name, "to" | "from" | "id" | "type"),
        ns::XML => a.name == "lang",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Stanza {
        let mut b = Builder::new(ns::CLIENT, "message");
        b.attr("to", "romeo@example.org/orchard").attr("from", "juliet@example.org/balcony");
        b.attr("id", "a1").attr("type", "chat").attr("x", "1").attr_ns(ns::XML, "lang", "en");
        b.leaf(ns::CLIENT, "body", "O <Romeo>").open("urn:x", "x").close();
        Stanza::read(b.finish()).unwrap()
    }

    #[test]
    fn head_and_tail_make_the_whole_and_unknown_parts_go_through() {
        let stanza = message();
        let mut out = Vec::new();
        write_head(stanza.kind, stanza.to.as_ref(), &mut out);
        stanza.write_tail(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "<message to='romeo@example.org/orchard' from='juliet@example.org/balcony' id='a1' type='chat' \
             xml:lang='en' x='1'><body>O &lt;Romeo&gt;</body><x xmlns='urn:x'/></message>"
        );
        assert_eq!(Stanza::read(stanza.to_element()).unwrap().to_element(), stanza.to_element());
    }

    #[test]
    fn errors_go_back_once_and_never_answer_errors() {
        let error = message().error(&Condition::ServiceUnavailable.into()).unwrap();
        assert_eq!(error.kind, Kind::Message(MessageType::Error));
        assert_eq!(error.to.as_ref().unwrap().as_str(), "juliet@example.org/balcony");
        assert_eq!(error.id.as_deref(), Some("a1"));
        assert!(error.error(&Condition::ServiceUnavailable.into()).is_none());
    }

    #[test]
    fn unsound_stanzas_are_refused_with_their_condition() {
        let refused = |build: &dyn Fn(&mut Builder), name: &str| {
            let mut b = Builder::new(ns::CLIENT, name);
            build(&mut b);
            match Stanza::read(b.finish()) {
                Err(ReadError::Refused { condition, .. }) => condition,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(refused(&|b| _ = b.attr("to", "@"), "message"), Condition::JidMalformed);
        assert_eq!(refused(&|b| _ = b.attr("type", "available"), "presence"), Condition::BadRequest);
        assert_eq!(refused(&|b| _ = b.attr("id", "1"), "iq"), Condition::BadRequest);
        assert_eq!(refused(&|b| _ = b.attr("type", "get").leaf("u", "q", ""), "iq"), Condition::BadRequest);
        assert_eq!(refused(&|b| _ = b.attr("type", "get").attr("id", "1"), "iq"), Condition::BadRequest);
        assert!(matches!(Stanza::read(Element::empty(ns::CLIENT, "msg")), Err(ReadError::NotAStanza)));
    }
}

//! BOSH (XEP-0124, XEP-0206) without I/O: streams for clients that have nothing but requests. What is in a body becomes
//! the bytes of a stream, and its bytes become the content of bodies, by [`framing`](super::framing).

mod session;

pub use session::{Limits, Session};

use super::framing::tag_len;
use crate::xml::{Element, FrameKind, ScanLimits, Scanner, ns, parse, write_attribute};

const HTTPBIND: &str = "http://jabber.org/protocol/httpbind";
const XBOSH: &str = "urn:xmpp:xbosh";

/// Section 14.1: no number in a script is exact above that.
const RID_MAX: u64 = 9_007_199_254_740_991;

/// Bytes of the start tag of a body.
const TAG_BYTES_MAX: usize = 4096;

/// Why a session ends (section 17.2), in the words of `condition`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// What came is no body.
    BadRequest,
    /// There is no such session, or its `rid` or key is none that can come now.
    ItemNotFound,
    /// More requests at a time than may be.
    PolicyViolation,
    /// There is no room for another session.
    InternalServerError,
    /// The stream ended with an error, which is in the body.
    RemoteStreamError,
}

impl Condition {
    fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::ItemNotFound => "item-not-found",
            Self::PolicyViolation => "policy-violation",
            Self::InternalServerError => "internal-server-error",
            Self::RemoteStreamError => "remote-stream-error",
        }
    }
}

/// One `<body/>` of a client.
#[derive(Debug)]
pub struct Body {
    /// Its start tag, as an element without content.
    tag: Element,
    /// Its number.
    rid: u64,
    /// Its elements, each with what it declares itself.
    payload: Vec<u8>,
}

impl Body {
    /// Reads a body.
    ///
    /// # Errors
    /// [`Condition::BadRequest`].
    pub fn read(content: &[u8], bounds: ScanLimits) -> Result<Self, Condition> {
        let text = std::str::from_utf8(content).map_err(|_| Condition::BadRequest)?.trim_ascii();
        // An XML declaration may stand before it.
        let text = match text.strip_prefix("<?xml") {
            Some(rest) => rest.split_once("?>").ok_or(Condition::BadRequest)?.1.trim_ascii_start(),
            None => text,
        };
        let (tag, rest) = start_tag(text.as_bytes()).ok_or(Condition::BadRequest)?;
        let rid = tag.root().attr("rid").filter(|rid| rid.bytes().all(|b| b.is_ascii_digit()));
        let rid = rid.and_then(|rid| rid.parse().ok()).filter(|rid| (1..=RID_MAX).contains(rid));
        let payload = match rest {
            Some(rest) => elements(rest, bounds)?,
            None => Vec::new(),
        };
        Ok(Self { rid: rid.ok_or(Condition::BadRequest)?, tag, payload })
    }

    /// The session that it is of; none for a new one.
    pub fn sid(&self) -> Option<&str> {
        self.tag.root().attr("sid")
    }

    fn attr(&self, name: &str) -> Option<&str> {
        self.tag.root().attr(name)
    }

    fn attr_of_xbosh(&self, name: &str) -> Option<&str> {
        self.tag.root().attributes().find(|a| a.ns == XBOSH && a.name == name).map(|a| a.value)
    }

    fn number(&self, name: &str) -> Option<u32> {
        self.attr(name)?.parse().ok()
    }

    fn ends(&self) -> bool {
        self.attr("type") == Some("terminate")
    }

    /// The header that opens the stream, or opens it anew (XEP-0206 sections 4 and 5).
    fn header(&self, host: Option<&str>) -> Vec<u8> {
        let mut out = b"<stream:stream".to_vec();
        write_attribute("xmlns", ns::CLIENT, &mut out);
        write_attribute("xmlns:stream", ns::STREAM, &mut out);
        if let Some(to) = self.attr("to").or(host) {
            write_attribute("to", to, &mut out);
        }
        if let Some(from) = self.attr("from") {
            write_attribute("from", from, &mut out);
        }
        write_attribute("version", self.attr_of_xbosh("version").unwrap_or("1.0"), &mut out);
        if let Some(lang) = self.tag.root().attributes().find(|a| a.ns == ns::XML && a.name == "lang") {
            write_attribute("xml:lang", lang.value, &mut out);
        }
        out.push(b'>');
        out
    }
}

/// The session that the beginning of a body names, of a content that is not complete.
pub fn sid_of(content: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(content.get(..content.len().min(TAG_BYTES_MAX))?);
    // The rest of a character may be still to come.
    let text =
        text.or_else(|error| std::str::from_utf8(content.get(..error.valid_up_to()).unwrap_or_default())).ok()?;
    let text = text.trim_ascii_start();
    let text = text.strip_prefix("<?xml").map_or(Some(text), |rest| rest.split_once("?>").map(|(_, rest)| rest))?;
    let (tag, _) = start_tag(text.trim_ascii_start().as_bytes())?;
    tag.root().attr("sid").map(str::to_owned)
}

/// The start tag as an element of its own, and what follows it; nothing follows one that is empty.
fn start_tag(bytes: &[u8]) -> Option<(Element, Option<&[u8]>)> {
    let len = tag_len(bytes.get(..bytes.len().min(TAG_BYTES_MAX))?);
    let (tag, behind) = bytes.split_at_checked(len)?;
    let rest = behind.strip_prefix(b">")?;
    let (tag, is_empty) = match tag.strip_suffix(b"/") {
        Some(tag) => (tag, true),
        None => (tag, false),
    };
    let element = parse(&format!("{}/>", std::str::from_utf8(tag).ok()?)).ok()?;
    if !element.root().is(HTTPBIND, "body") || (is_empty && !rest.is_empty()) {
        return None;
    }
    Some((element, (!is_empty).then_some(rest)))
}

/// The elements up to the end tag, which is the end of all.
fn elements(bytes: &[u8], bounds: ScanLimits) -> Result<Vec<u8>, Condition> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        if let Some(end) = rest.strip_prefix(b"</") {
            let name = end.strip_suffix(b">").ok_or(Condition::BadRequest)?.trim_ascii_end();
            let is_body = name == b"body" || name.ends_with(b":body");
            return if is_body && !name.contains(&b'<') { Ok(out) } else { Err(Condition::BadRequest) };
        }
        match Scanner::without_stream(bounds).scan(rest) {
            Ok(Some(frame)) if frame.len > 0 => {
                let (frame_bytes, behind) = rest.split_at(frame.len.min(rest.len()));
                if frame.kind == FrameKind::Element {
                    out.extend_from_slice(frame_bytes);
                }
                rest = behind;
            }
            _ => return Err(Condition::BadRequest),
        }
    }
}

/// Writes a body around elements that stand alone.
fn write_body(attributes: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 256);
    out.extend_from_slice(b"<body");
    write_attribute("xmlns", HTTPBIND, &mut out);
    for (name, value) in attributes {
        write_attribute(name, value, &mut out);
    }
    if payload.is_empty() {
        out.extend_from_slice(b"/>");
        return out;
    }
    out.push(b'>');
    out.extend_from_slice(payload);
    out.extend_from_slice(b"</body>");
    out
}

/// The body that says that there is no session, or no more.
pub fn terminal(condition: Condition) -> Vec<u8> {
    write_body(&[("type", "terminate"), ("condition", condition.name())], &[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    fn read(text: &str) -> Result<(u64, Option<String>, String), Condition> {
        let bounds = ScanLimits::authenticated(&limits::Limits::default());
        Body::read(text.as_bytes(), bounds).map(|body| {
            let payload = String::from_utf8(body.payload.clone()).unwrap();
            (body.rid, body.sid().map(str::to_owned), payload)
        })
    }

    #[test]
    fn bodies_are_read() {
        let is = |sid: Option<&str>, payload: &str| Ok((7, sid.map(str::to_owned), payload.to_owned()));
        let tag = "<body rid='7' sid='s' xmlns='http://jabber.org/protocol/httpbind'";
        assert_eq!(read(&format!("{tag}/>")), is(Some("s"), ""));
        assert_eq!(read(&format!(" <?xml version='1.0'?>\n{tag}></body>\n")), is(Some("s"), ""));
        let two = "<message xmlns='jabber:client'><body>&lt;/body></body></message>\n<presence/>";
        assert_eq!(read(&format!("{tag}>{two}</body >")), is(Some("s"), &two.replace('\n', "")));
        let prefixed = "<b:body xmlns:b='http://jabber.org/protocol/httpbind' rid='7'><a xmlns='x'/></b:body>";
        assert_eq!(read(prefixed), is(None, "<a xmlns='x'/>"));
        for wrong in [
            "",
            "x",
            "<body/>",
            "<body rid='7'/>",
            "<body xmlns='http://jabber.org/protocol/httpbind'/>",
            "<body rid='0' xmlns='http://jabber.org/protocol/httpbind'/>",
            "<body rid='+7' xmlns='http://jabber.org/protocol/httpbind'/>",
            "<body rid='9007199254740992' xmlns='http://jabber.org/protocol/httpbind'/>",
            "<body rid='-1' xmlns='http://jabber.org/protocol/httpbind'/>",
            tag,
            &format!("{tag}>"),
            &format!("{tag}>x</body>"),
            &format!("{tag}><a></body>"),
            &format!("{tag}></a></body>"),
            &format!("{tag}></nobody><body>"),
            &format!("{tag}></body><body>"),
            &format!("{tag}/><a/>"),
            &format!("{tag}><!-- --></body>"),
            &format!("{tag}></stream:stream></body>"),
            &format!("{tag}><stream:stream></body>"),
            &format!("{tag} a='{}'/>", "x".repeat(TAG_BYTES_MAX)),
        ] {
            assert_eq!(read(wrong), Err(Condition::BadRequest), "{wrong}");
        }
        assert_eq!(sid_of(format!("{tag}><a>{}", "\u{e4}".repeat(5000)).as_bytes()).as_deref(), Some("s"));
        assert_eq!(sid_of(b"<body sid='s' rid="), None);
    }
}

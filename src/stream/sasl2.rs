//! How SASL messages travel in the elements of XEP-0388, and what comes along with them.

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::management;
use super::profile::Message;
use super::sasl::{Failure, Ht};
use crate::fault::{Fault, armed};
use crate::limits::Limits;
use crate::stanza::Condition;
use crate::xml::{Builder, Element, ElementRef, ns, write_attribute};

/// The one upgrade task that there is (XEP-0480).
pub(super) const UPGRADE_TASK: &str = "UPGR-SCRAM-SHA-256";

/// What a client asks for.
pub(super) enum Request {
    /// Section 2.3: begin.
    Authenticate(Box<Authenticate>),
    /// Section 2.5: go on.
    Response(Message),
    /// Section 5.6: give up.
    Abort,
    /// Section 2.6.3: begin this task.
    Next(String),
    /// Section 2.6.3: go on with the task. The salted password of XEP-0480, if there is one.
    TaskData(Option<Zeroizing<Vec<u8>>>),
}

/// The client that somebody uses (section 2.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserAgent {
    /// Stays the same for one installation.
    pub id: Option<String>,
    /// What it is.
    pub software: Option<String>,
    /// What it runs on.
    pub device: Option<String>,
}

/// What a client wants, and all that it wants at once.
pub(super) struct Authenticate {
    pub mechanism: String,
    pub initial: Option<Message>,
    pub agent: UserAgent,
    /// The upgrade task that we know is wished for (XEP-0480 section 2.2).
    pub upgrade: bool,
    /// `<bind/>` of XEP-0386.
    pub bind: Option<Element>,
    /// Name of the session and stanzas handled in it (XEP-0198 section 9.2), or what is wrong with that.
    pub resume: Option<Result<(String, u32), Condition>>,
    /// For which mechanism a token is wished for (XEP-0484 section 3.2); one that we do not know is no wish.
    pub request_token: Option<Ht>,
    pub fast: Option<Fast>,
}

/// The client uses a token (XEP-0484 section 3.4).
#[derive(Clone, Copy)]
pub(super) struct Fast {
    pub count: Option<u32>,
    pub invalidate: bool,
}

/// Reads an element of the namespace of SASL2. `None` when it is not one that a client sends.
pub(super) fn read(element: ElementRef<'_>, limits: &Limits) -> Option<Result<Request, Failure>> {
    Some(match element.name() {
        "authenticate" => authenticate(element, limits).map(|a| Request::Authenticate(Box::new(a))),
        "response" => decode(element).map(Request::Response),
        "abort" => Ok(Request::Abort),
        "next" => Ok(Request::Next(element.attr("task").unwrap_or_default().to_owned())),
        "task-data" => element.child(ns::SCRAM_UPGRADE, "hash").map(decode).transpose().map(Request::TaskData),
        _ => return None,
    })
}

fn authenticate(element: ElementRef<'_>, limits: &Limits) -> Result<Authenticate, Failure> {
    let agent = match element.child(ns::SASL2, "user-agent") {
        Some(agent) => user_agent(agent, limits)?,
        None => UserAgent::default(),
    };
    let bind = element.child(ns::BIND2, "bind");
    if let Some(tag) = bind.and_then(|b| b.child(ns::BIND2, "tag")) {
        bounded(tag.text(), limits)?;
    }
    let resume = match element.child(ns::SM, "resume").and_then(management::read) {
        Some(Ok(management::Request::Resume { previd, h })) => Some(Ok((previd, h))),
        Some(Err(condition)) => Some(Err(condition)),
        _ => None,
    };
    Ok(Authenticate {
        mechanism: element.attr("mechanism").unwrap_or_default().to_owned(),
        initial: element.child(ns::SASL2, "initial-response").map(decode).transpose()?,
        agent,
        upgrade: element.children().any(|c| c.is(ns::SASL_UPGRADE, "upgrade") && c.text().trim() == UPGRADE_TASK),
        bind: bind.map(ElementRef::to_element),
        resume,
        request_token: element.child(ns::FAST, "request-token").and_then(|r| Ht::from_name(r.attr("mechanism")?)),
        fast: element.child(ns::FAST, "fast").map(fast).transpose()?,
    })
}

fn user_agent(agent: ElementRef<'_>, limits: &Limits) -> Result<UserAgent, Failure> {
    let text = |name| agent.child(ns::SASL2, name).map_or(Ok(None), |child| bounded(child.text(), limits));
    let id = bounded(agent.attr("id").unwrap_or_default().to_owned(), limits)?;
    Ok(UserAgent { id, software: text("software")?, device: text("device")? })
}

fn bounded(text: String, limits: &Limits) -> Result<Option<String>, Failure> {
    match text.len() {
        0 => Ok(None),
        n if n > limits.user_agent_bytes_max as usize => Err(Failure::MalformedRequest),
        _ => Ok(Some(text)),
    }
}

fn fast(fast: ElementRef<'_>) -> Result<Fast, Failure> {
    let count = fast.attr("count").map(str::parse).transpose().map_err(|_| Failure::MalformedRequest)?;
    Ok(Fast { count, invalidate: matches!(fast.attr("invalidate"), Some("true" | "1")) })
}

/// An empty text is an empty message; no message is no element (section 2.2).
fn decode(element: ElementRef<'_>) -> Result<Message, Failure> {
    let text = Zeroizing::new(element.text());
    if armed(Fault::EncodingTrusted) {
        assert!(text.len().is_multiple_of(4), "planted: out of bounds");
    }
    STANDARD.decode(text.as_str()).map(Zeroizing::new).map_err(|_| Failure::IncorrectEncoding)
}

/// Writes `<challenge/>`.
pub(super) fn write_challenge(message: &[u8], out: &mut Vec<u8>) {
    Element::with_text(ns::SASL2, "challenge", &STANDARD.encode(message)).root().write("", out);
}

/// Writes `<failure/>`.
pub(super) fn write_failure(failure: Failure, out: &mut Vec<u8>) {
    let mut b = Builder::new(ns::SASL2, "failure");
    b.open(ns::SASL, failure.condition()).close();
    b.finish().root().write("", out);
}

/// Writes `<continue/>` with the upgrade task.
pub(super) fn write_continue(data: Option<&[u8]>, out: &mut Vec<u8>) {
    let mut b = Builder::new(ns::SASL2, "continue");
    additional_data(&mut b, data);
    b.open(ns::SASL2, "tasks").leaf(ns::SASL2, "task", UPGRADE_TASK).close();
    b.finish().root().write("", out);
}

/// Writes `<task-data/>` with what the client needs for new keys (XEP-0480 section 3).
pub(super) fn write_salt(salt: &[u8], iterations: u32, out: &mut Vec<u8>) {
    let mut b = Builder::new(ns::SASL2, "task-data");
    b.open(ns::SCRAM_UPGRADE, "salt").attr("iterations", &iterations.to_string());
    b.text(&STANDARD.encode(salt));
    b.close();
    b.finish().root().write("", out);
}

/// Writes `<success/>` for that address, with what came of the client's other wishes behind it: `inner` is XML.
pub(super) fn write_success(
    data: Option<&[u8]>,
    jid: &str,
    token: Option<&IssuedToken>,
    inner: &[u8],
    out: &mut Vec<u8>,
) {
    let mut b = Builder::new(ns::SASL2, "success");
    additional_data(&mut b, data);
    b.leaf(ns::SASL2, "authorization-identifier", jid);
    if let Some(token) = token {
        b.open(ns::FAST, "token").attr("expiry", &token.expiry).attr("token", &token.token).close();
    }
    out.extend_from_slice(b"<success");
    write_attribute("xmlns", ns::SASL2, out);
    out.push(b'>');
    b.finish().root().write_content(out);
    out.extend_from_slice(inner);
    out.extend_from_slice(b"</success>");
}

/// A new token (XEP-0484 section 3.3).
#[derive(Clone, PartialEq, Eq)]
pub struct IssuedToken {
    /// The secret.
    pub token: String,
    /// When it ends, as XEP-0082 writes it.
    pub expiry: String,
}

fn additional_data(b: &mut Builder, data: Option<&[u8]>) {
    if let Some(data) = data {
        b.leaf(ns::SASL2, "additional-data", &STANDARD.encode(data));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Result<Request, Failure>> {
        super::read(crate::xml::parse(text).unwrap().root(), &Limits::default())
    }

    fn wishes(inner: &str) -> Result<Authenticate, Failure> {
        let text = format!("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'>{inner}</authenticate>");
        match read(&text) {
            Some(Ok(Request::Authenticate(a))) => Ok(*a),
            Some(Err(failure)) => Err(failure),
            _ => panic!(),
        }
    }

    #[test]
    fn a_message_is_empty_or_not_there() {
        assert_eq!(wishes("").unwrap().initial, None);
        assert_eq!(wishes("<initial-response/>").unwrap().initial.unwrap().as_slice(), b"");
        assert_eq!(wishes("<initial-response>AHI=</initial-response>").unwrap().initial.unwrap().as_slice(), b"\0r");
        for bad in ["=", " AHI=", "AHI", "%"] {
            let failure = wishes(&format!("<initial-response>{bad}</initial-response>")).err();
            assert_eq!(failure, Some(Failure::IncorrectEncoding), "{bad}");
        }
    }

    #[test]
    fn all_wishes_are_read() {
        let a = wishes(
            "<user-agent id='i'><software>s</software><device/></user-agent>\
             <upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-X</upgrade>\
             <upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-SHA-256</upgrade>\
             <bind xmlns='urn:xmpp:bind:0'><tag>t</tag></bind><resume xmlns='urn:xmpp:sm:3' previd='p' h='3'/>\
             <fast xmlns='urn:xmpp:fast:0' count='7' invalidate='1'/>\
             <request-token xmlns='urn:xmpp:fast:0' mechanism='HT-SHA-256-NONE'/>",
        )
        .unwrap();
        assert_eq!(a.agent, UserAgent { id: Some("i".into()), software: Some("s".into()), device: None });
        assert!(a.upgrade && a.bind.is_some());
        assert_eq!(a.resume, Some(Ok(("p".into(), 3))));
        assert_eq!(a.request_token, Some(Ht::Unbound));
        assert!(a.fast.is_some_and(|f| f.count == Some(7) && f.invalidate));
        let nothing = wishes("<user-agent/><upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-X</upgrade>").unwrap();
        assert!(nothing.agent == UserAgent::default() && !nothing.upgrade && nothing.fast.is_none());
        assert_eq!(wishes("<resume xmlns='urn:xmpp:sm:3'/>").unwrap().resume, Some(Err(Condition::BadRequest)));
    }

    #[test]
    fn what_is_too_long_or_no_number_is_refused() {
        let long = "x".repeat(257);
        for inner in [
            format!("<user-agent id='{long}'/>"),
            format!("<user-agent><software>{long}</software></user-agent>"),
            format!("<user-agent><device>{long}</device></user-agent>"),
            format!("<bind xmlns='urn:xmpp:bind:0'><tag>{long}</tag></bind>"),
            "<fast xmlns='urn:xmpp:fast:0' count='-1'/>".into(),
            "<fast xmlns='urn:xmpp:fast:0' count='4294967296'/>".into(),
        ] {
            assert_eq!(wishes(&inner).err(), Some(Failure::MalformedRequest), "{inner}");
        }
        assert!(read("<success xmlns='urn:xmpp:sasl:2'/>").is_none());
    }

    #[test]
    fn what_is_written() {
        let written = |f: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            f(&mut out);
            String::from_utf8(out).unwrap().replace(" xmlns='urn:xmpp:sasl:2'", "")
        };
        assert_eq!(written(&|o| write_challenge(b"", o)), "<challenge/>");
        assert_eq!(
            written(&|o| write_failure(Failure::Aborted, o)),
            "<failure><aborted xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/></failure>"
        );
        assert_eq!(
            written(&|o| write_continue(Some(b"\0r"), o)),
            "<continue><additional-data>AHI=</additional-data><tasks><task>UPGR-SCRAM-SHA-256</task></tasks></continue>"
        );
        assert_eq!(
            written(&|o| write_salt(b"\0r", 4096, o)),
            "<task-data><salt xmlns='urn:xmpp:scram-upgrade:0' iterations='4096'>AHI=</salt></task-data>"
        );
        let token = IssuedToken { token: "t".into(), expiry: "e".into() };
        assert_eq!(
            written(&|o| write_success(None, "a@b/<", Some(&token), b"<x/>", o)),
            "<success><authorization-identifier>a@b/&lt;</authorization-identifier>\
             <token xmlns='urn:xmpp:fast:0' expiry='e' token='t'/><x/></success>"
        );
    }
}

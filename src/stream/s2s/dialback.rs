//! Server Dialback (XEP-0220): its elements, and the keys of XEP-0185.

use ring::digest::{SHA256, digest};
use ring::hmac;

use crate::encoding::hex;
use crate::jid;
use crate::stanza::{Condition, StanzaError};
use crate::stream::sasl::keys::equal;
use crate::xml::{Builder, ElementRef, escape_text, ns, write_attribute};

/// Bytes of a key. Those of XEP-0185 have 64, and nobody is known to make longer ones than twice that.
pub(super) const KEY_BYTES_MAX: usize = 512;

/// What is known of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is one that the sender domain has made.
    Valid,
    /// It is not.
    Invalid,
    /// Nobody could say (section 2.4).
    Error(Condition),
}

/// One of the two elements of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// From the initiating server to the receiving server, and back.
    Result,
    /// From the receiving server to the authoritative server, and back.
    Verify,
}

/// An element that has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub name: Name,
    /// Prepared domains.
    pub from: String,
    pub to: String,
    /// Of a `<db:verify/>`; empty otherwise.
    pub id: String,
    pub what: What,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A key that is to be verified.
    Key(String),
    /// What became of one.
    Verdict(Verdict),
}

/// Reads an element of the namespace; none when it is ill-formed.
pub(super) fn read(element: ElementRef<'_>) -> Option<Said> {
    let name = match element.name() {
        "result" => Name::Result,
        "verify" => Name::Verify,
        _ => return None,
    };
    let domain = |key| element.attr(key).and_then(|d| jid::prepare_domain(d).ok());
    let what = match element.attr("type") {
        None => What::Key(Some(element.text()).filter(|key| key.len() <= KEY_BYTES_MAX)?),
        Some("valid") => What::Verdict(Verdict::Valid),
        Some("invalid") => What::Verdict(Verdict::Invalid),
        Some("error") => What::Verdict(Verdict::Error(condition(element))),
        Some(_) => return None,
    };
    let id = element.attr("id").unwrap_or_default().to_owned();
    if name == Name::Verify && id.is_empty() {
        return None;
    }
    Some(Said { name, from: domain("from")?, to: domain("to")?, id, what })
}

/// Which of the conditions that section 2.4 lists an error names.
fn condition(element: ElementRef<'_>) -> Condition {
    let error = element.children().find(|c| c.name() == "error");
    let named = error.and_then(|e| e.children().find(|c| c.ns() == ns::STANZA_ERROR));
    match named.map(|c| c.name()) {
        Some("item-not-found") => Condition::ItemNotFound,
        Some("remote-server-not-found") => Condition::RemoteServerNotFound,
        Some("policy-violation") => Condition::PolicyViolation,
        Some("not-authorized") => Condition::NotAuthorized,
        Some("not-allowed") => Condition::NotAllowed,
        _ => Condition::RemoteServerTimeout,
    }
}

fn open(name: Name, from: &str, to: &str, id: &str, out: &mut Vec<u8>) {
    // The prefix that our stream header declares (section 2.1).
    out.extend_from_slice(if name == Name::Result { b"<db:result" } else { b"<db:verify" });
    write_attribute("from", from, out);
    write_attribute("to", to, out);
    if !id.is_empty() {
        write_attribute("id", id, out);
    }
}

fn close(name: Name, out: &mut Vec<u8>) {
    out.extend_from_slice(if name == Name::Result { b"</db:result>" } else { b"</db:verify>" });
}

/// Writes a key.
pub(super) fn write_key(name: Name, from: &str, to: &str, id: &str, key: &str, out: &mut Vec<u8>) {
    open(name, from, to, id, out);
    out.push(b'>');
    escape_text(key, out);
    close(name, out);
}

/// Writes what became of one.
pub(super) fn write_verdict(name: Name, from: &str, to: &str, id: &str, verdict: Verdict, out: &mut Vec<u8>) {
    open(name, from, to, id, out);
    match verdict {
        Verdict::Valid => out.extend_from_slice(b" type='valid'/>"),
        Verdict::Invalid => out.extend_from_slice(b" type='invalid'/>"),
        Verdict::Error(condition) => {
            out.extend_from_slice(b" type='error'>");
            let mut b = Builder::new(ns::CLIENT, "x");
            StanzaError::from(condition).build(&mut b);
            b.finish().root().write_content(out);
            close(name, out);
        }
    }
}

/// The key that lets `from` send to `to` on the stream that the receiving server has named `id` (XEP-0185 section 2).
pub(super) fn key(secret: &[u8], to: &str, from: &str, id: &str) -> String {
    let secret = hex(digest(&SHA256, secret).as_ref());
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hex(hmac::sign(&key, format!("{to} {from} {id}").as_bytes()).as_ref())
}

/// Whether it is, in constant time.
pub(super) fn is_key(secret: &[u8], to: &str, from: &str, id: &str, key: &str) -> bool {
    equal(key.as_bytes(), self::key(secret, to, from, id).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of XEP-0185 section 4.
    #[test]
    fn keys_are_those_of_the_example() {
        assert_eq!(
            key(b"s3cr3tf0rd14lb4ck", "xmpp.example.com", "example.org", "D60000229F"),
            "37c69b1cf07a3f67c04a5ef5902fa5114f2c76fe4a2686482ba5b89323075643"
        );
    }

    #[test]
    fn elements_are_read_with_prepared_domains() {
        let read = |text: &str| {
            let element = crate::xml::parse(text).unwrap();
            super::read(element.root())
        };
        let said = read("<result xmlns='jabber:server:dialback' from='A.example' to='b.example'>k</result>").unwrap();
        assert_eq!((said.name, said.from.as_str(), said.what), (Name::Result, "a.example", What::Key("k".into())));
        let error = "<verify xmlns='jabber:server:dialback' from='a' to='b' id='i' type='error'><error type='cancel'>\
            <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></verify>";
        assert_eq!(read(error).unwrap().what, What::Verdict(Verdict::Error(Condition::ItemNotFound)));
        for bad in ["result from='a'", "verify from='a' to='b'", "other from='a' to='b'"] {
            assert_eq!(read(&format!("<{bad} xmlns='jabber:server:dialback'/>")), None, "{bad}");
        }
    }

    #[test]
    fn a_key_is_bounded() {
        let read = |n: usize| {
            let key = "k".repeat(n);
            let text = format!("<result xmlns='jabber:server:dialback' from='a.example' to='b.example'>{key}</result>");
            super::read(crate::xml::parse(&text).unwrap().root()).is_some()
        };
        assert_eq!([read(KEY_BYTES_MAX), read(KEY_BYTES_MAX + 1)], [true, false]);
    }

    #[test]
    fn a_key_holds_for_one_pair_and_one_stream() {
        let key = key(&[1; 32], "b.example", "a.example", "s1");
        assert!(is_key(&[1; 32], "b.example", "a.example", "s1", &key));
        for (to, from, id) in [("c", "a.example", "s1"), ("b.example", "c", "s1"), ("b.example", "a.example", "s2")] {
            assert!(!is_key(&[1; 32], to, from, id, &key));
        }
        assert!(!is_key(&[2; 32], "b.example", "a.example", "s1", &key));
        assert!(!is_key(&[1; 32], "b.example", "a.example", "s1", ""));
    }
}

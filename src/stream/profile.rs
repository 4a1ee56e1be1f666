//! How SASL messages travel in the elements of RFC 6120 section 6.

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::sasl::Failure;
use crate::xml::{ElementRef, ns, write_attribute};

/// What a client asks for.
pub(super) enum Request<'a> {
    /// Begin with this mechanism; the first message may have come along.
    Auth { mechanism: &'a str, initial: Option<Message> },
    /// Go on.
    Response(Message),
    /// Give up.
    Abort,
}

/// A decoded message. It may hold a password.
pub(super) type Message = Zeroizing<Vec<u8>>;

/// Reads an element of the namespace of SASL. `None` when it is not one that a client sends.
pub(super) fn read(element: ElementRef<'_>) -> Option<Result<Request<'_>, Failure>> {
    Some(match element.name() {
        "auth" => {
            decode(element).map(|initial| Request::Auth { mechanism: element.attr("mechanism").unwrap_or(""), initial })
        }
        "response" => decode(element).map(|message| Request::Response(message.unwrap_or_default())),
        "abort" => Ok(Request::Abort),
        _ => return None,
    })
}

/// No text is no message; `=` is an empty one (section 6.4.2). White space is not allowed (section 13.9.1).
fn decode(element: ElementRef<'_>) -> Result<Option<Message>, Failure> {
    let text = Zeroizing::new(element.text());
    match text.as_str() {
        "" => Ok(None),
        "=" => Ok(Some(Message::default())),
        text => STANDARD.decode(text).map(|m| Some(Zeroizing::new(m))).map_err(|_| Failure::IncorrectEncoding),
    }
}

/// Writes `<challenge/>`.
pub(super) fn write_challenge(message: &[u8], out: &mut Vec<u8>) {
    write_message("challenge", Some(message).filter(|m| !m.is_empty()), out);
}

/// Writes `<success/>` with additional data if the mechanism has any.
pub(super) fn write_success(data: Option<&[u8]>, out: &mut Vec<u8>) {
    write_message("success", data, out);
}

/// Writes `<failure/>`.
pub(super) fn write_failure(failure: Failure, out: &mut Vec<u8>) {
    out.extend_from_slice(b"<failure");
    write_attribute("xmlns", ns::SASL, out);
    out.extend_from_slice(b"><");
    out.extend_from_slice(failure.condition().as_bytes());
    out.extend_from_slice(b"/></failure>");
}

fn write_message(name: &str, message: Option<&[u8]>, out: &mut Vec<u8>) {
    out.push(b'<');
    out.extend_from_slice(name.as_bytes());
    write_attribute("xmlns", ns::SASL, out);
    match message {
        None => out.extend_from_slice(b"/>"),
        Some([]) => {
            out.extend_from_slice(b">=</");
            out.extend_from_slice(name.as_bytes());
            out.push(b'>');
        }
        Some(message) => {
            out.push(b'>');
            out.extend_from_slice(STANDARD.encode(message).as_bytes());
            out.extend_from_slice(b"</");
            out.extend_from_slice(name.as_bytes());
            out.push(b'>');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::Element;

    fn message(text: &str) -> Result<Option<Vec<u8>>, Failure> {
        let element = Element::with_text(ns::SASL, "auth", text);
        match read(element.root()).unwrap()? {
            Request::Auth { initial, .. } => Ok(initial.map(|m| m.to_vec())),
            _ => panic!(),
        }
    }

    #[test]
    fn messages_are_strict_base64() {
        assert_eq!(message(""), Ok(None));
        assert_eq!(message("="), Ok(Some(Vec::new())));
        assert_eq!(message("AHI="), Ok(Some(b"\0r".to_vec())));
        for bad in ["AHI", "AHJ=", "AH I=", "AHI=\n", "====", "A", "%%%%", "-_-_"] {
            assert_eq!(message(bad), Err(Failure::IncorrectEncoding), "{bad:?}");
        }
    }

    #[test]
    fn what_is_written() {
        let written = |f: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            f(&mut out);
            String::from_utf8(out).unwrap().replace(" xmlns='urn:ietf:params:xml:ns:xmpp-sasl'", "")
        };
        assert_eq!(written(&|o| write_challenge(b"", o)), "<challenge/>");
        assert_eq!(written(&|o| write_challenge(b"\0r", o)), "<challenge>AHI=</challenge>");
        assert_eq!(written(&|o| write_success(None, o)), "<success/>");
        assert_eq!(written(&|o| write_success(Some(b""), o)), "<success>=</success>");
        assert_eq!(written(&|o| write_success(Some(b"\0r"), o)), "<success>AHI=</success>");
        assert_eq!(written(&|o| write_failure(Failure::Aborted, o)), "<failure><aborted/></failure>");
    }
}

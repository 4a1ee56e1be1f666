//! Where else clients can connect: `host-meta` and `host-meta.json` (XEP-0156, RFC 6415), computed from what is on.

use std::fmt::Write as _;

use super::answer::{Answer, Status};
use crate::xml::write_attribute;

const BOSH: &str = "urn:xmpp:alt-connections:xbosh";
const WEBSOCKET: &str = "urn:xmpp:alt-connections:websocket";

/// Other ways to connect, with the kind of each.
pub fn links(base: &str, websocket: Option<&str>, bosh: Option<&str>) -> Vec<(&'static str, String)> {
    let base = base.trim_end_matches('/');
    let socket = match base.strip_prefix("http") {
        Some(rest) => format!("ws{rest}"),
        None => base.to_owned(),
    };
    let websocket = websocket.map(|path| (WEBSOCKET, format!("{socket}{path}")));
    let bosh = bosh.map(|path| (BOSH, format!("{base}{path}")));
    websocket.into_iter().chain(bosh).collect()
}

/// The document as XML (section 3.1).
pub fn xml(links: &[(&str, String)]) -> Answer {
    let mut out =
        b"<?xml version='1.0' encoding='utf-8'?>\n<XRD xmlns='http://docs.oasis-open.org/ns/xri/xrd-1.0'>".to_vec();
    for (rel, href) in links {
        out.extend_from_slice(b"<Link");
        write_attribute("rel", rel, &mut out);
        write_attribute("href", href, &mut out);
        out.extend_from_slice(b"/>");
    }
    out.extend_from_slice(b"</XRD>\n");
    Answer::text(Status::Ok, "application/xrd+xml; charset=utf-8", out)
}

/// The same as JSON (section 3.2).
pub fn json(links: &[(&str, String)]) -> Answer {
    let mut out = String::from("{\"links\":[");
    for (index, (rel, href)) in links.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        // Neither holds what JSON would escape: the check of the configuration has seen to that.
        let _ = write!(out, "{comma}{{\"rel\":\"{rel}\",\"href\":\"{href}\"}}");
    }
    out.push_str("]}\n");
    Answer::text(Status::Ok, "application/json; charset=utf-8", out)
}

#[cfg(test)]
mod tests {
    use super::super::answer::Content;
    use super::*;

    #[test]
    fn both_forms_name_the_same() {
        let links = links("https://a.example:5281/", Some("/xmpp-websocket"), Some("/http-bind"));
        let text = |answer: Answer| match answer.content {
            Content::Bytes(bytes) => String::from_utf8(bytes).unwrap(),
            Content::Later(_) => panic!(),
        };
        assert_eq!(
            text(json(&links)),
            "{\"links\":[{\"rel\":\"urn:xmpp:alt-connections:websocket\",\
             \"href\":\"wss://a.example:5281/xmpp-websocket\"},\
             {\"rel\":\"urn:xmpp:alt-connections:xbosh\",\"href\":\"https://a.example:5281/http-bind\"}]}\n"
        );
        let xml = text(xml(&links));
        let parsed = crate::xml::parse(xml.split_once('\n').unwrap().1.trim()).unwrap();
        assert_eq!(
            parsed.root().children().filter_map(|link| link.attr("href")).collect::<Vec<_>>(),
            ["wss://a.example:5281/xmpp-websocket", "https://a.example:5281/http-bind",]
        );
    }
}

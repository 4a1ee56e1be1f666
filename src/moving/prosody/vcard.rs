//! The vCard of somebody whose server makes it from nodes: vCard4 (XEP-0292) and avatar (XEP-0084) as XEP-0054 has it.

use crate::xml::{Builder, Element, ElementRef, ns};

const VCARD4: &str = "urn:ietf:params:xml:ns:vcard-4.0";
/// The node of it.
pub const NODE: &str = "urn:xmpp:vcard4";

/// What is known of somebody's nodes.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// Of [`NODE`].
    pub card: Option<Element>,
    /// The avatar that counts: its id and type.
    pub avatar: Option<(String, String)>,
    /// Of the avatars there are, by id: Base64.
    pub images: Vec<(String, String)>,
}

impl Parts {
    /// Takes note of an item.
    pub fn note(&mut self, node: &str, id: &str, payload: &Element) {
        let root = payload.root();
        match node {
            NODE if root.is(VCARD4, "vcard") => self.card = Some(payload.clone()),
            ns::AVATAR_METADATA => {
                let info = root.child(ns::AVATAR_METADATA, "info").filter(|info| info.attr("url").is_none());
                let kind = |info: ElementRef<'_>| info.attr("type").unwrap_or("image/png").to_string();
                self.avatar = info.and_then(|info| Some((info.attr("id")?.to_string(), kind(info))));
            }
            ns::AVATAR_DATA => {
                self.images.retain(|(known, _)| known != id);
                self.images.push((id.to_string(), root.text()));
            }
            _ => {}
        }
    }

    /// The vCard; none when nothing is known.
    pub fn build(&self) -> Option<Element> {
        let avatar = self
            .avatar
            .as_ref()
            .and_then(|(id, kind)| self.images.iter().find(|(known, _)| known == id).map(|(_, image)| (kind, image)));
        if self.card.is_none() && avatar.is_none() {
            return None;
        }
        let mut b = Builder::new(ns::VCARD, "vCard");
        if let Some(card) = &self.card {
            contents(card.root(), &mut b);
        }
        if let Some((kind, image)) = avatar {
            b.open(ns::VCARD, "PHOTO").leaf(ns::VCARD, "TYPE", kind).leaf(ns::VCARD, "BINVAL", image).close();
        }
        Some(b.finish())
    }
}

fn text(parent: ElementRef<'_>, name: &str) -> Option<String> {
    parent.child(VCARD4, name).map(ElementRef::text).filter(|text| !text.is_empty())
}

fn leaves(from: ElementRef<'_>, pairs: &[(&str, &str)], b: &mut Builder) {
    for (theirs, ours) in pairs {
        if let Some(text) = text(from, theirs) {
            b.leaf(ns::VCARD, ours, &text);
        }
    }
}

/// Whether it is for home or for work (RFC 6350 section 5.6).
fn place(of: ElementRef<'_>, b: &mut Builder) {
    let kind = of.child(VCARD4, "parameters").and_then(|p| p.child(VCARD4, "type")).and_then(|kind| text(kind, "text"));
    match kind.as_deref() {
        Some("home") => _ = b.open(ns::VCARD, "HOME").close(),
        Some("work") => _ = b.open(ns::VCARD, "WORK").close(),
        _ => {}
    }
}

fn contents(card: ElementRef<'_>, b: &mut Builder) {
    const PLAIN: [(&str, &str, &str); 8] = [
        ("fn", "text", "FN"),
        ("nickname", "text", "NICKNAME"),
        ("title", "text", "TITLE"),
        ("role", "text", "ROLE"),
        ("note", "text", "NOTE"),
        ("url", "uri", "URL"),
        ("bday", "date", "BDAY"),
        ("categories", "text", "CATEGORIES"),
    ];
    for child in card.children().filter(|child| child.ns() == VCARD4) {
        if let Some((_, inner, ours)) = PLAIN.iter().find(|(name, ..)| *name == child.name()) {
            leaves(child, &[(inner, ours)], b);
            continue;
        }
        let ours = match child.name() {
            "n" => "N",
            "email" => "EMAIL",
            "tel" => "TEL",
            "adr" => "ADR",
            "org" => "ORG",
            "impp" => {
                let uri = text(child, "uri");
                if let Some(address) = uri.as_deref().and_then(|uri| uri.strip_prefix("xmpp:")) {
                    b.leaf(ns::VCARD, "JABBERID", address);
                }
                continue;
            }
            _ => continue,
        };
        b.open(ns::VCARD, ours);
        match ours {
            "N" => {
                let parts = [("surname", "FAMILY"), ("given", "GIVEN"), ("additional", "MIDDLE")];
                leaves(child, &parts, b);
                leaves(child, &[("prefix", "PREFIX"), ("suffix", "SUFFIX")], b);
            }
            "EMAIL" => {
                b.open(ns::VCARD, "INTERNET").close();
                place(child, b);
                leaves(child, &[("text", "USERID")], b);
            }
            "TEL" => {
                place(child, b);
                let number = text(child, "uri").map(|uri| uri.trim_start_matches("tel:").to_string());
                if let Some(number) = number.or_else(|| text(child, "text")) {
                    b.leaf(ns::VCARD, "NUMBER", &number);
                }
            }
            "ADR" => {
                place(child, b);
                leaves(child, &[("pobox", "POBOX"), ("ext", "EXTADD"), ("street", "STREET")], b);
                leaves(child, &[("locality", "LOCALITY"), ("region", "REGION"), ("code", "PCODE")], b);
                leaves(child, &[("country", "CTRY")], b);
            }
            _ => leaves(child, &[("text", "ORGNAME")], b),
        }
        b.close();
    }
}

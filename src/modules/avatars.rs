//! Conversion of avatars (XEP-0398): one avatar, whether a client sets it in its vCard (XEP-0153) or as an item
//! (XEP-0084), and its hash in every presence.
//!
//! The item is the avatar. A vCard shows it to whoever may read the item; a photo that a vCard brings is published.

use super::{IqRoute, Module, Scope, TableInfo, Xep};
use crate::core::pubsub::{AccessModel, Config as NodeConfig};
use crate::core::session::SessionId;
use crate::core::{Answer, Core, Request};
use crate::encoding::hex;
use crate::jid::Jid;
use crate::setting::section;
use crate::stanza::{Stanza, StanzaError};
use crate::storage::{StoreError, Table};
use crate::xml::{Builder, Element, ElementRef, ns};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

section! {
    /// Conversion of avatars between vCards and items (XEP-0398, XEP-0153).
    pub struct Config in "modules.avatars" {}
}

crate::record! {
    /// The avatar in force.
    pub struct Avatar {
        /// SHA-1 of the image in hexadecimal digits; empty when the account has none.
        pub hash: String,
        /// Its media type.
        pub media_type: String,
    }
}

/// Owner: the account. One row, no sub key; none when no avatar was ever published.
pub struct AvatarsInForce;
impl Table for AvatarsInForce {
    const ID: u8 = 38;
    const NAME: &'static str = "avatars";
    type Value = Avatar;
}

/// The module.
pub struct Avatars;

impl Module for Avatars {
    const XEPS: &'static [Xep] = &[Xep { number: 398, version: "1.0.0" }, Xep { number: 153, version: "1.1.1" }];
    const ACCOUNT_FEATURES: &'static [&'static str] = &[ns::AVATAR_CONVERSION];
    const TABLES: &'static [TableInfo] = &[TableInfo { id: AvatarsInForce::ID, name: AvatarsInForce::NAME }];
    const IQ: &'static [IqRoute] = &[(Scope::Account, ns::VCARD, "vCard")];
    type Config = Config;

    fn new(_: Config) -> Self {
        Self
    }

    fn iq(&mut self, core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        if !request.is_set {
            return shown(core, request);
        }
        // What the vCard's own module will refuse changes nothing here.
        let max = core.settings.limits.vcard_bytes_max as usize;
        if request.is_own() && request.child.to_xml().len() <= max {
            publish(core, request.owner, request.child)?;
            in_force(core, request.owner)?;
        }
        Ok(Answer::NotMine)
    }

    fn done(&mut self, core: &mut Core, request: &Request<'_>) -> Result<(), StanzaError> {
        let node = request.child.children().next().and_then(|what| what.attr("node"));
        if matches!(request.child.ns(), ns::PUBSUB | ns::PUBSUB_OWNER)
            && matches!(node, Some(ns::AVATAR_METADATA | ns::AVATAR_DATA))
        {
            in_force(core, request.owner)?;
        }
        Ok(())
    }

    /// Section 4.
    fn presence(&mut self, core: &mut Core, stanza: &mut Stanza) -> Result<(), StanzaError> {
        let Some(account) = stanza.from.as_ref().map(Jid::bare) else { return Ok(()) };
        if let Some(avatar) = stored(core, &account)?.filter(|a| !a.hash.is_empty()) {
            put_hash(stanza, &avatar.hash);
        }
        Ok(())
    }
}

fn stored(core: &mut Core, account: &Jid) -> Result<Option<Avatar>, StoreError> {
    core.view.get::<AvatarsInForce>(account.bare_str(), b"")
}

/// A vCard with the avatar in force as its photo, for who may see that (section 7).
fn shown(core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
    let (owner, Some(who)) = (request.owner, &request.stanza.from) else { return Ok(Answer::NotMine) };
    let Some(avatar) = stored(core, owner)? else { return Ok(Answer::NotMine) };
    let vcard = core.vcard(owner.bare_str())?;
    let mut service = core.pubsub(owner);
    let image = match service.node(ns::AVATAR_DATA)? {
        Some(node) if !avatar.hash.is_empty() && service.reads(ns::AVATAR_DATA, &node, who)? => {
            service.item(ns::AVATAR_DATA, &avatar.hash)?.and_then(|item| item.read())
        }
        _ => None,
    };
    if vcard.is_none() && image.is_none() {
        return Ok(Answer::NotMine);
    }
    let mut b = Builder::new(ns::VCARD, "vCard");
    if let Some(vcard) = &vcard {
        b.attributes_of(vcard.root());
        vcard.root().children().filter(|c| !c.is(ns::VCARD, "PHOTO")).for_each(|child| b.copy(child));
    }
    if let Some(image) = image {
        b.open(ns::VCARD, "PHOTO").leaf(ns::VCARD, "TYPE", &avatar.media_type);
        b.leaf(ns::VCARD, "BINVAL", image.root().text().trim()).close();
    }
    Ok(Answer::Result(b.finish()))
}

/// Section 3.2: what a vCard says of the avatar is published. A vCard without photo takes the avatar away.
fn publish(core: &mut Core, owner: &Jid, vcard: ElementRef<'_>) -> Result<(), StanzaError> {
    let before = stored(core, owner)?.map(|a| a.hash).unwrap_or_default();
    // A vCard is for everybody, so what is made for it is, too.
    let open = NodeConfig { access: AccessModel::Open, ..NodeConfig::default() };
    let photo = vcard.child(ns::VCARD, "PHOTO");
    let bytes = photo.and_then(|p| p.child(ns::VCARD, "BINVAL")).and_then(decode).filter(|bytes| !bytes.is_empty());
    match bytes {
        Some(bytes) => {
            let hash = hash(&bytes);
            if hash == before {
                return Ok(());
            }
            let media_type = photo.and_then(|p| p.child(ns::VCARD, "TYPE")).map(ElementRef::text);
            let media_type = media_type.filter(|t| !t.trim().is_empty()).unwrap_or_else(|| "image/png".to_string());
            let data = Element::with_text(ns::AVATAR_DATA, "data", &STANDARD.encode(&bytes));
            core.pubsub(owner).publish_own(ns::AVATAR_DATA, &open, &hash, data.root())?;
            let mut b = Builder::new(ns::AVATAR_METADATA, "metadata");
            b.open(ns::AVATAR_METADATA, "info").attr("bytes", &bytes.len().to_string());
            b.attr("id", &hash).attr("type", media_type.trim());
            core.pubsub(owner).publish_own(ns::AVATAR_METADATA, &open, &hash, b.finish().root())
        }
        None if before.is_empty() => Ok(()),
        None => {
            // XEP-0084 section 3.5.
            let none = Element::empty(ns::AVATAR_METADATA, "metadata");
            core.pubsub(owner).publish_own(ns::AVATAR_METADATA, &open, "none", none.root())
        }
    }
}

/// Finds out which avatar is in force and, when that has changed, tells everybody who sees the account.
fn in_force(core: &mut Core, owner: &Jid) -> Result<(), StanzaError> {
    let before = stored(core, owner)?;
    let avatar = published(core, owner)?.unwrap_or(Avatar { hash: String::new(), media_type: String::new() });
    let old = before.as_ref().map(|a| a.hash.clone()).unwrap_or_default();
    if before.as_ref() == Some(&avatar) || (before.is_none() && avatar.hash.is_empty()) {
        return Ok(());
    }
    core.view.put::<AvatarsInForce>(owner.bare_str(), b"", &avatar);
    if old == avatar.hash {
        return Ok(());
    }
    let sessions: Vec<SessionId> = core.sessions.of_where(owner, |s| s.available.is_some());
    for id in sessions {
        let available = core.sessions.get(id).and_then(|s| s.available.as_ref()).map(|a| a.stanza.clone());
        let Some(mut stanza) = available else { continue };
        if put_hash(&mut stanza, &avatar.hash) {
            core.presence_from_session(id, stanza)?;
            if avatar.hash.is_empty()
                && let Some(available) = core.sessions.get_mut(id).and_then(|s| s.available.as_mut())
            {
                // It was not the client that has said so; the next avatar is to be told again.
                available.stanza.retain_children(|child| !child.is(ns::VCARD_UPDATE, "x"));
            }
        }
    }
    Ok(())
}

/// Section 3.1: the first image of the metadata that is here and is what its id says.
fn published(core: &mut Core, owner: &Jid) -> Result<Option<Avatar>, StanzaError> {
    let mut service = core.pubsub(owner);
    let metadata = service.items(ns::AVATAR_METADATA, 1)?.pop().and_then(|item| item.read());
    let Some(metadata) = metadata else { return Ok(None) };
    for info in metadata.root().children().filter(|c| c.is(ns::AVATAR_METADATA, "info")) {
        let (Some(id), None) = (info.attr("id"), info.attr("url")) else { continue };
        let data = service.item(ns::AVATAR_DATA, id)?.and_then(|item| item.read());
        if data.and_then(|data| decode(data.root())).is_some_and(|bytes| hash(&bytes) == id) {
            let media_type = info.attr("type").unwrap_or("image/png").to_string();
            return Ok(Some(Avatar { hash: id.to_string(), media_type }));
        }
    }
    Ok(None)
}

/// Puts a hash into presence, as section 4 says where; an empty one is for no avatar. True when it has changed it.
fn put_hash(stanza: &mut Stanza, hash: &str) -> bool {
    let x = stanza.child(ns::VCARD_UPDATE, "x");
    let photo = x.and_then(|x| x.child(ns::VCARD_UPDATE, "photo")).map(ElementRef::text);
    if photo.is_some_and(|said| said.trim().is_empty() || said.trim() == hash) {
        return false;
    }
    stanza.retain_children(|child| !child.is(ns::VCARD_UPDATE, "x"));
    stanza.append(|b| _ = b.open(ns::VCARD_UPDATE, "x").leaf(ns::VCARD_UPDATE, "photo", hash).close());
    true
}

/// Base64, with white space anywhere.
fn decode(element: ElementRef<'_>) -> Option<Vec<u8>> {
    let text: String = element.text().split_ascii_whitespace().collect();
    STANDARD.decode(text).ok()
}

fn hash(bytes: &[u8]) -> String {
    hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stanza::{Kind, PresenceType};

    fn after(x: &str, hash: &str) -> (bool, String) {
        let xml = format!("<presence xmlns='jabber:client'><show>away</show>{x}</presence>");
        let mut stanza = Stanza::parse(&xml).unwrap();
        assert_eq!(stanza.kind, Kind::Presence(PresenceType::Available));
        let changed = put_hash(&mut stanza, hash);
        let x = stanza.child(ns::VCARD_UPDATE, "x").map(ElementRef::to_xml).unwrap_or_default();
        (changed, x.replace(" xmlns='vcard-temp:x:update'", ""))
    }

    #[test]
    fn a_hash_is_put_where_a_client_has_not_said_that_there_is_none() {
        let full = |hash: &str| (true, format!("<x><photo>{hash}</photo></x>"));
        assert_eq!(after("", "ab"), full("ab"));
        assert_eq!(after("<x xmlns='vcard-temp:x:update'/>", "ab"), full("ab"));
        assert_eq!(after("<x xmlns='vcard-temp:x:update'><photo>cd</photo></x>", "ab"), full("ab"));
        let none = "<x xmlns='vcard-temp:x:update'><photo/></x>";
        assert_eq!(after(none, "ab"), (false, "<x><photo/></x>".to_string()));
        let same = "<x xmlns='vcard-temp:x:update'><photo>ab</photo></x>";
        assert_eq!(after(same, "ab"), (false, "<x><photo>ab</photo></x>".to_string()));
        assert_eq!(after(same, ""), (true, "<x><photo/></x>".to_string()));
    }

    #[test]
    fn base64_may_be_broken_into_lines() {
        let of = |text: &str| decode(Element::with_text("", "a", text).root());
        assert_eq!(of(" YW\n Jj "), Some(b"abc".to_vec()));
        assert_eq!(of("YW!"), None);
        assert_eq!(hash(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
    }
}

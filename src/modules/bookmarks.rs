//! Bookmarks (XEP-0402), and the same bookmarks for clients that know only XEP-0048, in private storage (XEP-0049) or
//! as one item (XEP-0411).
//!
//! The node of XEP-0402 is what is stored. The older forms are made from it, and what they set is taken apart into it.
//! Links to pages, which only XEP-0048 has, are kept beside it.

use super::{IqRoute, Module, Scope, TableInfo, Xep};
#[cfg(feature = "import")]
use crate::core::moving::{Outcome, Piece, Taken, Terms};
use crate::core::pubsub::{AccessModel, Config as NodeConfig, Item, MAX};
use crate::core::{Answer, Core, Request};
use crate::jid::Jid;
use crate::setting::section;
use crate::stanza::{Condition, StanzaError};
#[cfg(feature = "import")]
use crate::storage::StoreError;
use crate::storage::Table;
use crate::xml::{Builder, Element, ElementRef, ns};
use std::collections::BTreeMap;

section! {
    /// Bookmarks, and their older forms (XEP-0402, XEP-0048).
    pub struct Config in "modules.bookmarks" {}
}

crate::record! {
    /// Links of XEP-0048.
    pub struct Links {
        /// `<storage/>` with nothing but them, as text.
        pub xml: String,
    }
}

/// Owner: the account. One row, no sub key.
pub struct BookmarkLinks;
impl Table for BookmarkLinks {
    const ID: u8 = 39;
    const NAME: &'static str = "bookmark-links";
    type Value = Links;
}

/// Id of the one item of XEP-0048.
const CURRENT: &str = "current";

/// The module.
pub struct Bookmarks;

impl Module for Bookmarks {
    const XEPS: &'static [Xep] = &[
        Xep { number: 402, version: "1.2.0" },
        Xep { number: 48, version: "1.2" },
        Xep { number: 411, version: "1.1.0" },
    ];
    const ACCOUNT_FEATURES: &'static [&'static str] =
        &[ns::BOOKMARKS_COMPAT, ns::BOOKMARKS_COMPAT_PEP, ns::BOOKMARKS_CONVERSION];
    const TABLES: &'static [TableInfo] = &[TableInfo { id: BookmarkLinks::ID, name: BookmarkLinks::NAME }];
    const IQ: &'static [IqRoute] = &[(Scope::Account, ns::PRIVATE, "query"), (Scope::Account, ns::PUBSUB, "pubsub")];
    type Config = Config;

    fn new(_: Config) -> Self {
        Self
    }

    fn iq(&mut self, core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        if !request.is_own() {
            return Ok(Answer::NotMine);
        }
        match request.child.ns() {
            ns::PRIVATE => private(core, request),
            _ => item(core, request),
        }
    }

    fn done(&mut self, core: &mut Core, request: &Request<'_>) -> Result<(), StanzaError> {
        let node = request.child.children().next().and_then(|what| what.attr("node"));
        if matches!(request.child.ns(), ns::PUBSUB | ns::PUBSUB_OWNER) && node == Some(ns::BOOKMARKS) {
            announce(core, request.owner)?;
        }
        Ok(())
    }

    /// Bookmarks of the older forms. Those of the newer one come as items of a node, before these, and what is in them
    /// is not brought back by an older copy.
    #[cfg(feature = "import")]
    fn take_in(&mut self, core: &mut Core, owner: &Jid, piece: &Piece, _: &mut Terms) -> Outcome {
        let storage = match piece {
            _ if owner.is_host() => return Ok(Taken::NotMine),
            Piece::Private(storage) => storage.root(),
            Piece::NodeItem(item) if item.node == ns::BOOKMARKS_OLD => match &item.payload {
                Some(payload) => payload.root(),
                None => return Ok(Taken::NotMine),
            },
            // Its items are taken apart.
            Piece::Node(node) if node.name == ns::BOOKMARKS_OLD => return Ok(Taken::Same),
            _ => return Ok(Taken::NotMine),
        };
        if !storage.is(ns::BOOKMARKS_OLD, "storage") {
            return Ok(Taken::NotMine);
        }
        if !core.pubsub(owner).items(ns::BOOKMARKS, 1)?.is_empty() {
            let links = core.view.contains::<BookmarkLinks>(owner.bare_str(), b"")?;
            if !links {
                keep_links(core, owner, storage)?;
            }
            return Ok(Taken::Same);
        }
        if storage.children().next().is_none() {
            return Ok(Taken::Same);
        }
        take_apart(core, owner, storage)?;
        Ok(Taken::New)
    }

    #[cfg(feature = "import")]
    fn give_out(&mut self, core: &mut Core, owner: &Jid, to: &mut dyn FnMut(Piece)) -> Result<(), StoreError> {
        let unreadable = |error: StanzaError| StoreError::Io(format!("bookmarks: {}", error.condition.as_str()));
        let storage = collate(core, owner).map_err(unreadable)?;
        if storage.root().children().next().is_some() {
            to(Piece::Private(storage));
        }
        Ok(())
    }
}

/// In private storage.
fn private(core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
    let mut children = request.child.children();
    let Some(storage) = request.child.child(ns::BOOKMARKS_OLD, "storage") else { return Ok(Answer::NotMine) };
    if children.nth(1).is_some() {
        return Err(Condition::NotAcceptable.because("Bookmarks are set, and asked for, by themselves."));
    }
    if request.is_set {
        take_apart(core, request.owner, storage)?;
        return Ok(Answer::Empty);
    }
    let mut b = Builder::new(ns::PRIVATE, "query");
    b.copy(collate(core, request.owner)?.root());
    Ok(Answer::Result(b.finish()))
}

/// As one item.
fn item(core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
    let what = request.child.children().next().filter(|what| what.attr("node") == Some(ns::BOOKMARKS_OLD));
    let Some(what) = what else { return Ok(Answer::NotMine) };
    match (what.name(), request.is_set) {
        ("items", false) => {
            if core.pubsub(request.owner).node(ns::BOOKMARKS)?.is_none() {
                return Err(Condition::ItemNotFound.into());
            }
            let mut b = Builder::new(ns::PUBSUB, "pubsub");
            b.open(ns::PUBSUB, "items").attr("node", ns::BOOKMARKS_OLD);
            b.open(ns::PUBSUB, "item").attr("id", CURRENT).copy(collate(core, request.owner)?.root());
            Ok(Answer::Result(b.finish()))
        }
        ("publish", true) => {
            let item = what.child(ns::PUBSUB, "item");
            let Some(storage) = item.and_then(|item| item.child(ns::BOOKMARKS_OLD, "storage")) else {
                return Err(Condition::BadRequest.because("Bookmarks are a storage element."));
            };
            take_apart(core, request.owner, storage)?;
            let mut b = Builder::new(ns::PUBSUB, "pubsub");
            b.open(ns::PUBSUB, "publish").attr("node", ns::BOOKMARKS_OLD);
            b.open(ns::PUBSUB, "item").attr("id", CURRENT);
            Ok(Answer::Result(b.finish()))
        }
        _ => Ok(Answer::NotMine),
    }
}

/// XEP-0402 section 5.3.1: all bookmarks as one element.
fn collate(core: &mut Core, owner: &Jid) -> Result<Element, StanzaError> {
    let links = core.view.get::<BookmarkLinks>(owner.bare_str(), b"")?;
    let mut b = Builder::new(ns::BOOKMARKS_OLD, "storage");
    for item in core.pubsub(owner).items(ns::BOOKMARKS, usize::MAX)? {
        let Some(conference) = item.read().filter(|c| c.root().is(ns::BOOKMARKS, "conference")) else { continue };
        let conference = conference.root();
        b.open(ns::BOOKMARKS_OLD, "conference").attr("jid", &item.id);
        for name in ["name", "autojoin"] {
            if let Some(value) = conference.attr(name) {
                b.attr(name, value);
            }
        }
        for name in ["nick", "password"] {
            if let Some(child) = conference.child(ns::BOOKMARKS, name) {
                b.leaf(ns::BOOKMARKS_OLD, name, &child.text());
            }
        }
        b.close();
    }
    if let Some(links) = links.and_then(|links| crate::xml::parse(&links.xml).ok()) {
        links.root().children().for_each(|link| b.copy(link));
    }
    Ok(b.finish())
}

/// XEP-0402 section 5.3.2: bookmarks that are new or different are published, those that are missing retracted.
fn take_apart(core: &mut Core, owner: &Jid, storage: ElementRef<'_>) -> Result<(), StanzaError> {
    let mut wanted = BTreeMap::new();
    for conference in storage.children().filter(|c| c.is(ns::BOOKMARKS_OLD, "conference")) {
        match conference.attr("jid").map(Jid::parse) {
            Some(Ok(room)) => _ = wanted.insert(room.bare_str().to_string(), conference),
            Some(Err(_)) => return Err(Condition::JidMalformed.into()),
            None => return Err(Condition::BadRequest.because("A bookmark has no address.")),
        }
    }
    if wanted.len() > core.settings.limits.pubsub_items_max as usize {
        return Err(Condition::ResourceConstraint.because("Too many bookmarks."));
    }
    keep_links(core, owner, storage)?;
    let mut service = core.pubsub(owner);
    match service.node(ns::BOOKMARKS)? {
        // XEP-0411 section 5: for nobody else.
        Some(node) if node.config.access != AccessModel::Whitelist || node.config.max_items != MAX => {
            let mut config = node.config.clone();
            (config.access, config.max_items, config.persist) = (AccessModel::Whitelist, MAX, true);
            service.configure(ns::BOOKMARKS, &node, config)?;
        }
        Some(_) => {}
        None => _ = service.create(ns::BOOKMARKS, NodeConfig::private())?,
    }
    let known = service.items(ns::BOOKMARKS, usize::MAX)?;
    for item in known.iter().filter(|item| !wanted.contains_key(&item.id)) {
        if let Some(node) = service.node(ns::BOOKMARKS)? {
            service.retract(ns::BOOKMARKS, &node, &item.id, true)?;
        }
    }
    for (room, conference) in wanted {
        let old = known.iter().find(|item| item.id == room).and_then(Item::read);
        let new = native(conference, old.as_ref());
        if old.as_ref().is_none_or(|old| meaning(old.root()) != meaning(new.root())) {
            service.publish_own(ns::BOOKMARKS, &NodeConfig::private(), &room, new.root())?;
        }
    }
    announce(core, owner)
}

/// Keeps what only the older form has.
fn keep_links(core: &mut Core, owner: &Jid, storage: ElementRef<'_>) -> Result<(), StanzaError> {
    let mut b = Builder::new(ns::BOOKMARKS_OLD, "storage");
    let links: Vec<_> = storage.children().filter(|c| c.is(ns::BOOKMARKS_OLD, "url")).collect();
    if links.is_empty() {
        core.view.delete::<BookmarkLinks>(owner.bare_str(), b"");
        return Ok(());
    }
    links.into_iter().for_each(|link| b.copy(link));
    let xml = b.finish().root().to_xml();
    if xml.len() > core.settings.limits.private_bytes_max as usize {
        return Err(Condition::NotAcceptable.because("The links are too long."));
    }
    core.view.put::<BookmarkLinks>(owner.bare_str(), b"", &Links { xml });
    Ok(())
}

/// One bookmark in the form of XEP-0402, with what other clients have put into the one that is there.
fn native(conference: ElementRef<'_>, old: Option<&Element>) -> Element {
    let mut b = Builder::new(ns::BOOKMARKS, "conference");
    for name in ["name", "autojoin"] {
        if let Some(value) = conference.attr(name) {
            b.attr(name, value);
        }
    }
    for name in ["nick", "password"] {
        if let Some(child) = conference.child(ns::BOOKMARKS_OLD, name) {
            b.leaf(ns::BOOKMARKS, name, &child.text());
        }
    }
    if let Some(extensions) = old.and_then(|old| old.root().child(ns::BOOKMARKS, "extensions")) {
        b.copy(extensions);
    }
    b.finish()
}

/// What a bookmark says, however it is written.
fn meaning(conference: ElementRef<'_>) -> (Option<&str>, bool, Option<String>, Option<String>) {
    let child = |name| conference.child(ns::BOOKMARKS, name).map(ElementRef::text);
    let joins = matches!(conference.attr("autojoin"), Some("1" | "true"));
    (conference.attr("name"), joins, child("nick"), child("password"))
}

/// XEP-0411 section 3: clients that want the older form hear of every change.
fn announce(core: &mut Core, owner: &Jid) -> Result<(), StanzaError> {
    let storage = collate(core, owner)?;
    core.pubsub(owner).announce(ns::BOOKMARKS_OLD, &NodeConfig::private(), CURRENT, &storage)?;
    Ok(())
}

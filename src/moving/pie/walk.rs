//! Accounts as they come out of a document.

use super::{ARCHIVE, Event, PIE, PIE_OLD, PRIVACY, SCRAM, XINCLUDE};
use crate::clock::datetime_ms;
use crate::core::moving::{ArchivedPiece, ItemPiece, NodePiece, Piece};
use crate::core::roster;
use crate::jid::Jid;
use crate::moving::ejabberd::data::{BANNED, BANNED_PASSWORD};
use crate::setting::Secret;
use crate::stanza::{Kind, PresenceType, Stanza, form};
use crate::stream::sasl::ScramKeys;
use crate::xml::{Element, ElementRef, ns};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// Pieces that are gathered before they are handed on.
const PIECES_MAX: usize = 64;

/// What a step of a document gives.
#[derive(Debug)]
pub enum Found {
    /// Nothing yet.
    Nothing,
    /// Pieces of an account, in the order in which they are to be taken in. True when it begins with them.
    Pieces(Jid, Vec<Piece>, bool),
    /// Another file stands in its place (section 5).
    Include(String),
    /// Something that is left out, and why.
    Skipped(String),
}

/// An account that is being read.
#[derive(Default)]
struct Account {
    jid: Option<Jid>,
    password: Option<Secret>,
    sha1: Option<ScramKeys>,
    sha256: Option<ScramKeys>,
    pieces: Vec<Piece>,
    /// What makes sense behind everything else.
    last: Vec<Piece>,
    contacts: BTreeMap<Jid, roster::Item>,
    requests: BTreeMap<Jid, Box<Stanza>>,
    nodes: Vec<NodePiece>,
    version: Option<u64>,
    /// ejabberd says so in its private storage.
    disabled: bool,
    is_handed_on: bool,
    /// Its end.
    ends: bool,
}

/// Where in a document, and in those that it includes, the walk is.
#[derive(Default)]
pub struct Walker {
    host: Option<Jid>,
    user: Option<Box<Account>>,
    /// Names of what is open, with namespaces.
    open: Vec<(String, String)>,
    /// The node whose items come.
    node: String,
}

fn is_pie(ns: &str) -> bool {
    ns == PIE || ns == PIE_OLD
}

impl Walker {
    /// Takes the next event.
    pub fn take(&mut self, event: Event) -> Found {
        match event {
            Event::Open(element) => self.open(element.root()),
            Event::Whole(element) => self.whole(element.root()),
            Event::Close => self.close(),
        }
    }

    /// What is open, for whoever includes a file: its name.
    pub fn within(&self) -> Option<&str> {
        self.open.last().map(|(_, name)| name.as_str())
    }

    /// How many things are open.
    pub fn depth(&self) -> usize {
        self.open.len()
    }

    /// A document is broken: what it has opened beyond `depth` is closed. The account that began in it is given up;
    /// what of it was not handed on never is.
    pub fn unwind(&mut self, depth: usize) -> Option<Jid> {
        let begins = self.open.iter().skip(depth).any(|(_, name)| name == "user");
        self.open.truncate(depth);
        if begins { self.user.take().and_then(|user| user.jid) } else { None }
    }

    fn open(&mut self, root: ElementRef<'_>) -> Found {
        self.open.push((root.ns().to_string(), root.name().to_string()));
        match root.name() {
            "host" if is_pie(root.ns()) => {
                self.host = root.attr("jid").and_then(|jid| Jid::parse(jid).ok()).filter(Jid::is_host);
                if self.host.is_none() {
                    return Found::Skipped(format!("{:?} is no host", root.attr("jid").unwrap_or_default()));
                }
            }
            "user" if is_pie(root.ns()) => {
                let host = self.host.as_ref().map(Jid::domain).unwrap_or_default();
                let name = root.attr("name").unwrap_or_default();
                let jid = Jid::from_parts(Some(name), host, None).ok();
                let password = root.attr("password").filter(|password| !password.is_empty());
                let disabled = password.is_some_and(|password| password.starts_with(BANNED_PASSWORD));
                let password = password.map(|password| Secret(Zeroizing::new(password.to_string())));
                let is_known = jid.is_some();
                self.user = Some(Box::new(Account { jid, password, disabled, ..Account::default() }));
                if !is_known {
                    return Found::Skipped(format!("{name:?} at {host:?} is no user"));
                }
            }
            "items" => self.node = root.attr("node").unwrap_or_default().to_string(),
            _ => {}
        }
        Found::Nothing
    }

    fn close(&mut self) -> Found {
        match self.open.pop() {
            Some((space, name)) if name == "user" && is_pie(&space) => {
                let Some(mut user) = self.user.take() else { return Found::Nothing };
                user.ends = true;
                user.finish();
                user.hand_on()
            }
            _ => Found::Nothing,
        }
    }

    fn whole(&mut self, root: ElementRef<'_>) -> Found {
        if root.is(XINCLUDE, "include") {
            let is_here = self.open.last().is_some_and(|(space, _)| is_pie(space));
            let is_plain = root.attr("parse").is_none_or(|parse| parse == "xml") && root.attr("xpointer").is_none();
            return match root.attr("href").filter(|_| is_here && is_plain) {
                Some(href) => Found::Include(href.to_string()),
                None => {
                    Found::Skipped("an include that stands where none is read, or of a kind that is not".to_string())
                }
            };
        }
        let (Some(user), Some((space, name))) = (&mut self.user, self.open.last()) else {
            return Found::Skipped(format!("<{}/> in {:?}, which nothing here keeps", root.name(), root.ns()));
        };
        if user.jid.is_none() {
            return Found::Nothing;
        }
        let taken = match (space.as_str(), name.as_str()) {
            (space, "user") if is_pie(space) => user.child(root),
            (space, "offline-messages") if is_pie(space) => user.offline(root),
            (ns::PRIVATE, "query") if root.is(BANNED.0, BANNED.1) => {
                user.disabled = true;
                Ok(())
            }
            (ns::PRIVATE, "query") => {
                user.last.push(Piece::Private(root.to_element()));
                Ok(())
            }
            (ns::PUBSUB_OWNER, "pubsub") => user.node(root),
            (ns::PUBSUB, "items") => user.item(&self.node, root),
            (ARCHIVE, "archive") => user.archived(root),
            _ => Err(format!("<{}/> in {:?}, which nothing here keeps", root.name(), root.ns())),
        };
        match taken {
            Err(why) => Found::Skipped(format!("{}: {why}", user.jid.as_ref().map_or("", Jid::as_str))),
            Ok(()) if user.pieces.len() >= PIECES_MAX => user.hand_on(),
            Ok(()) => Found::Nothing,
        }
    }
}

impl Account {
    /// A child of `<user/>` (section 4).
    fn child(&mut self, root: ElementRef<'_>) -> Result<(), String> {
        match (root.ns(), root.name()) {
            (SCRAM, "scram-credentials") => return self.credentials(root),
            (ns::ROSTER, "query") => return self.roster(root),
            (ns::MAM, "prefs") => self.pieces.push(Piece::ArchivePrefs(root.to_element())),
            (ns::VCARD, "vCard") => self.pieces.push(Piece::VCard(root.to_element())),
            (ns::CLIENT, "presence") => return self.presence(root),
            (PRIVACY, "query") => return self.privacy(root),
            _ => return Err(format!("<{}/> in {:?}, which nothing here keeps", root.name(), root.ns())),
        }
        Ok(())
    }

    /// Section 4.3.
    fn credentials(&mut self, root: ElementRef<'_>) -> Result<(), String> {
        if self.is_handed_on {
            return Err("credentials that stand too far behind".to_string());
        }
        let text = |name: &str| root.child(SCRAM, name).map(|child| child.text().trim().to_string());
        let bytes = |name: &str| text(name).and_then(|text| STANDARD.decode(text).ok()).filter(|b| !b.is_empty());
        let iterations = text("iter-count").and_then(|n| n.parse().ok()).filter(|n: &u32| *n > 0);
        let (Some(salt), Some(stored_key), Some(server_key), Some(iterations)) =
            (bytes("salt"), bytes("stored-key"), bytes("server-key"), iterations)
        else {
            return Err("credentials that are not whole".to_string());
        };
        let mut parts = [salt, stored_key, server_key];
        // ejabberd keeps them in Base64, and encodes that once more.
        let decoded = parts.each_ref().map(|part| STANDARD.decode(part).ok());
        if let [Some(salt), Some(stored_key), Some(server_key)] = decoded
            && [20, 32].contains(&stored_key.len())
            && stored_key.len() == server_key.len()
        {
            parts = [salt, stored_key, server_key];
        }
        let [salt, stored_key, server_key] = parts;
        let (len, is_whole) = (stored_key.len(), stored_key.len() == server_key.len() && !salt.is_empty());
        let keys = Some(ScramKeys { salt, iterations, stored_key, server_key }).filter(|_| is_whole);
        match (root.attr("mechanism"), len) {
            _ if keys.is_none() => return Err("credentials that are not whole".to_string()),
            (Some("SCRAM-SHA-1"), 20) => self.sha1 = keys,
            (Some("SCRAM-SHA-256"), 32) => self.sha256 = keys,
            (mechanism, _) => return Err(format!("credentials for {:?}", mechanism.unwrap_or_default())),
        }
        Ok(())
    }

    /// Section 4.4, and RFC 6121 section 2.1.2.
    fn roster(&mut self, root: ElementRef<'_>) -> Result<(), String> {
        self.version = root.attr("ver").and_then(|ver| ver.parse().ok());
        for item in root.children().filter(|child| child.is(ns::ROSTER, "item")) {
            let Some(Ok(jid)) = item.attr("jid").map(Jid::parse) else {
                return Err(format!("a contact whose address is {:?}", item.attr("jid").unwrap_or_default()));
            };
            let subscription = item.attr("subscription").unwrap_or("none");
            let groups = item.children().filter(|child| child.is(ns::ROSTER, "group"));
            let contact = self.contacts.entry(jid.bare()).or_insert_with(roster::Item::empty);
            contact.name = item.attr("name").unwrap_or_default().to_string();
            contact.groups = groups.map(ElementRef::text).filter(|group| !group.is_empty()).collect();
            (contact.to, contact.from) =
                (matches!(subscription, "to" | "both"), matches!(subscription, "from" | "both"));
            contact.ask = item.attr("ask") == Some("subscribe");
            contact.approved = matches!(item.attr("approved"), Some("true" | "1"));
            contact.listed = true;
        }
        Ok(())
    }

    /// Section 4.8; and when the account was here last, as it would say so itself.
    fn presence(&mut self, root: ElementRef<'_>) -> Result<(), String> {
        let stanza = Stanza::read(root.to_element()).map_err(|_| "presence that cannot be read".to_string())?;
        match (stanza.kind, &stanza.from) {
            (Kind::Presence(PresenceType::Subscribe), Some(from)) => {
                self.contacts.entry(from.bare()).or_insert_with(roster::Item::empty).pending_in = true;
                self.requests.insert(from.bare(), Box::new(stanza));
                Ok(())
            }
            (Kind::Presence(PresenceType::Unavailable), _) => {
                let stamp = root.child(ns::DELAY, "delay").and_then(|delay| delay.attr("stamp")).and_then(datetime_ms);
                let seen = stamp.and_then(|ms| u64::try_from(ms).ok());
                self.pieces.push(Piece::LastSeen(seen.ok_or("presence without a time")?));
                Ok(())
            }
            _ => Err("presence that is no request".to_string()),
        }
    }

    /// Section 4.7: addresses that the default list denies everything.
    fn privacy(&mut self, root: ElementRef<'_>) -> Result<(), String> {
        let default = root.child(PRIVACY, "default").and_then(|default| default.attr("name"));
        let mut lists = root.children().filter(|child| child.is(PRIVACY, "list"));
        let list = lists.find(|list| default.is_some() && list.attr("name") == default);
        let Some(list) = list else { return Err("privacy lists without one by default".to_string()) };
        let (mut jids, mut others) = (Vec::new(), 0);
        for item in list.children() {
            let jid = item.attr("value").and_then(|value| Jid::parse(value).ok());
            let denies = item.attr("action") == Some("deny") && item.attr("type") == Some("jid");
            match jid.filter(|_| denies && item.children().next().is_none()) {
                Some(jid) => jids.push(jid),
                None if item.attr("action") == Some("allow") && item.attr("type").is_none() => {}
                None => others += 1,
            }
        }
        if !jids.is_empty() {
            self.pieces.push(Piece::Blocked(jids));
        }
        if others == 0 { Ok(()) } else { Err(format!("{others} rules of a privacy list that block no address")) }
    }

    /// Section 4.5.
    fn offline(&mut self, root: ElementRef<'_>) -> Result<(), String> {
        let message = Stanza::read(root.to_element()).ok().filter(|m| matches!(m.kind, Kind::Message(_)));
        let message = message.ok_or("an offline message that is none")?;
        let stamp = root.child(ns::DELAY, "delay").and_then(|delay| delay.attr("stamp")).and_then(datetime_ms);
        self.last.push(Piece::Offline { message: Box::new(message), wall_ms: stamp.unwrap_or(0) });
        Ok(())
    }

    /// Section 4.10.
    fn archived(&mut self, root: ElementRef<'_>) -> Result<(), String> {
        let forwarded =
            Some(root).filter(|root| root.is(ns::MAM, "result")).and_then(|r| r.child(ns::FORWARD, "forwarded"));
        let forwarded = forwarded.ok_or("a message of an archive that is none")?;
        let stamp = forwarded.child(ns::DELAY, "delay").and_then(|delay| delay.attr("stamp")).and_then(datetime_ms);
        let wall_ms = stamp.and_then(|ms| u64::try_from(ms).ok()).ok_or("a message of an archive without a time")?;
        let message = forwarded.child(ns::CLIENT, "message").map(ElementRef::to_element);
        let message =
            message.and_then(|message| Stanza::read(message).ok()).ok_or("a message of an archive that is none")?;
        let account = self.jid.as_ref().ok_or("an archive of nobody")?;
        let is_sent = message.from.as_ref().is_none_or(|from| from.same_bare(account));
        let other = if is_sent { &message.to } else { &message.from };
        let with = Some(other.as_ref().unwrap_or(account).bare());
        let (id, standing) = (root.attr("id").unwrap_or_default().to_string(), String::new());
        self.pieces.push(Piece::Archived(Box::new(ArchivedPiece { id, wall_ms, with, standing, message })));
        Ok(())
    }

    /// Section 4.9.1.
    fn node(&mut self, root: ElementRef<'_>) -> Result<(), String> {
        let Some(name) = root.attr("node").filter(|node| !node.is_empty()) else {
            return Err("a node without a name".to_string());
        };
        if self.nodes.iter().all(|node| node.name != name) {
            self.nodes.push(NodePiece { name: name.to_string(), ..NodePiece::default() });
        }
        let Some(node) = self.nodes.iter_mut().find(|node| node.name == name) else { return Ok(()) };
        let address = |child: ElementRef<'_>| child.attr("jid").and_then(|jid| Jid::parse(jid).ok());
        match root.name() {
            "configure" => {
                let x = root.child(ns::DATA, "x").ok_or("a node without a form")?;
                node.fields = form::fields(x).map_err(|_| "a node whose form cannot be read")?;
                node.fields.retain(|(var, _)| var != "FORM_TYPE");
            }
            "affiliations" => {
                let all = root.children().filter_map(|child| {
                    Some((address(child)?.bare(), child.attr("affiliation").unwrap_or_default().to_string()))
                });
                node.affiliations = all.collect();
            }
            "subscriptions" => {
                let is = |child: &ElementRef<'_>| child.attr("subscription") == Some("subscribed");
                node.subscribers = root.children().filter(is).filter_map(address).collect();
            }
            _ => return Err(format!("<{}/> of a node, which nothing here keeps", root.name())),
        }
        Ok(())
    }

    /// Section 4.9.2.
    fn item(&mut self, node: &str, root: ElementRef<'_>) -> Result<(), String> {
        if !root.is(ns::PUBSUB, "item") {
            return Err(format!("<{}/> among items, which nothing here keeps", root.name()));
        }
        let Some(id) = root.attr("id").filter(|id| !id.is_empty()) else {
            return Err("an item without id".to_string());
        };
        self.flush_nodes();
        let publisher = root.attr("publisher").and_then(|jid| Jid::parse(jid).ok()).map(|jid| jid.bare());
        let payload: Option<Element> = root.children().next().map(ElementRef::to_element);
        let (node, id) = (node.to_string(), id.to_string());
        self.pieces.push(Piece::NodeItem(Box::new(ItemPiece { node, id, publisher, payload, at_ms: 0 })));
        Ok(())
    }

    fn flush_nodes(&mut self) {
        let nodes = std::mem::take(&mut self.nodes);
        self.pieces.extend(nodes.into_iter().map(|node| Piece::Node(Box::new(node))));
    }

    /// Puts what was gathered behind the rest.
    fn finish(&mut self) {
        self.flush_nodes();
        for (jid, item) in std::mem::take(&mut self.contacts) {
            let request = self.requests.remove(&jid);
            self.pieces.push(Piece::Contact { jid, item, request });
        }
        self.pieces.extend(self.version.take().map(Piece::RosterVersion));
        self.pieces.append(&mut self.last);
    }

    /// Hands on what is there, the account itself first.
    fn hand_on(&mut self) -> Found {
        let Some(jid) = self.jid.clone() else { return Found::Nothing };
        let mut pieces = std::mem::take(&mut self.pieces);
        let is_first = !std::mem::replace(&mut self.is_handed_on, true);
        let disabled = std::mem::take(&mut self.disabled);
        if is_first || disabled {
            let (sha1, sha256) = (self.sha1.take(), self.sha256.take());
            // Keys count before a password beside them.
            let password = self.password.take().filter(|_| sha1.is_none() && sha256.is_none());
            pieces.insert(0, Piece::Account { sha1, sha256, password, created_ms: None, disabled });
        }
        Found::Pieces(jid, pieces, is_first)
    }
}

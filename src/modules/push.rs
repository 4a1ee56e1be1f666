//! Push notifications (XEP-0357): a service that the client has named wakes it up when something waits for it.
//!
//! A registration belongs to the account and outlives the connection, the session and the server. It hears of
//! * a message for the account, while the session that made it is no more;
//! * a message in a room that the account has an affiliation with and bookmarked to be joined (XEP-0402), the same;
//! * a message for that session, while it waits to be resumed or its client owes an acknowledgement for too long, and
//!   of those that it had not acknowledged when that began.
//!
//! A session with a registration waits longer to be resumed, until something is said to matter to it: then its client
//! has as long as any other. Requests come from the host (section 7), and what is said in them is that there is
//! something, and by default not what.

use super::{Dir, IqRoute, Module, Scope, SessionEvent, TableInfo, Xep};
use crate::core::flight::{Filters, Flow, InFlight};
#[cfg(feature = "import")]
use crate::core::moving::{Outcome, Piece, Refusal, Taken, Terms};
use crate::core::session::SessionId;
use crate::core::spool::{Worth, worth};
use crate::core::{Answer, Core, Request};
use crate::jid::Jid;
use crate::setting::{Seconds, section};
use crate::stanza::{Condition, IqType, Kind, MessageType, Stanza, StanzaError, form};
use crate::storage::codec::{from_bytes, to_bytes};
use crate::storage::{StoreError, Table};
use crate::xml::{Element, ElementRef, ns};
use log::debug;
use std::collections::{BTreeMap, VecDeque};

const LOG: &str = "couplet::push";

section! {
    /// Push notifications (XEP-0357): services of clients are told that a message waits.
    pub struct Config in "modules.push" {
        /// They are told who has sent it, as Prosody's push_notification_with_sender.
        pub with_sender: bool = false,
        /// They are told what it says, as Prosody's push_notification_with_body.
        pub with_body: bool = false,
        /// What they are told in its place when it is to be read; "" for nothing. Some wake their clients only then.
        pub important_body: String = "New Message!".to_string(),
        /// How long a session without connection that is told of messages waits for the first of them; 0 for no longer
        /// than any other.
        pub hibernation: Seconds = Seconds(72 * 3600),
    }
}

crate::record! {
    /// A registration: jid and node identify it.
    pub struct Service {
        /// The service.
        pub jid: Jid,
        /// The node; empty for none.
        pub node: String,
        /// The form of options to publish with, as XML; empty for none.
        pub options: String,
        /// Errors that the service has answered with since it last took something.
        pub errors: u32,
    }

    /// Those of an account, the oldest first.
    pub struct Services {
        /// No more than `limits.push_services_max`.
        pub list: Vec<Service>,
    }

    /// What is stored with a session that waits.
    struct Bound {
        /// Service of its registration.
        jid: Jid,
        /// Node of its registration.
        node: String,
        /// It was told of something that matters, since the session lost its connection.
        told: bool,
        /// Its client owes an acknowledgement for too long.
        late: bool,
    }
}

/// Owner: the account. One row, no sub key.
pub struct Registrations;
impl Table for Registrations {
    const ID: u8 = 64;
    const NAME: &'static str = "push";
    const SPARSE: bool = true;
    type Value = Services;
}

/// A request that is on its way.
struct Asked {
    id: String,
    account: Jid,
    jid: Jid,
    node: String,
}

/// So many requests are remembered; the answer to an older one says nothing.
const ASKED_MAX: usize = 256;

/// A service hears of no more than one message that matters, and one that does not, in this time.
const CALM_MS: u64 = 1000;

/// The module.
pub struct Push {
    config: Config,
    /// The registrations that sessions have made.
    bound: BTreeMap<SessionId, Bound>,
    asked: VecDeque<Asked>,
    /// What was told in the last [`CALM_MS`]: when, as which request, whether it matters.
    recent: VecDeque<(u64, Jid, Jid, String, bool)>,
}

impl Module for Push {
    const XEPS: &'static [Xep] = &[Xep { number: 357, version: "0.4.1" }];
    const ACCOUNT_FEATURES: &'static [&'static str] = &[ns::PUSH];
    const HEARS_MISSED: bool = true;
    const TABLES: &'static [TableInfo] = &[TableInfo { id: Registrations::ID, name: Registrations::NAME }];
    const IQ: &'static [IqRoute] = &[(Scope::Account, ns::PUSH, "enable"), (Scope::Account, ns::PUSH, "disable")];
    type Config = Config;

    fn new(config: Config) -> Self {
        Self { config, bound: BTreeMap::new(), asked: VecDeque::new(), recent: VecDeque::new() }
    }

    fn reconfigure(&mut self, config: Config) {
        self.config = config;
    }

    fn iq(&mut self, core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        if !request.is_own() {
            return Err(Condition::Forbidden.into());
        }
        if !request.is_set {
            return Err(Condition::BadRequest.into());
        }
        let jid = request.child.attr("jid").ok_or_else(|| Condition::BadRequest.because("The service is not named."))?;
        let jid = Jid::parse(jid).map_err(|_| Condition::JidMalformed)?;
        match request.child.name() {
            "enable" => self.enable(core, request, jid)?,
            _ => self.disable(core, request.owner, &jid, request.child.attr("node"))?,
        }
        Ok(Answer::Empty)
    }

    /// A message for the account. What goes to one of its sessions is looked at there.
    fn copy(&mut self, core: &mut Core, dir: Dir, flight: &InFlight, _: &[SessionId]) {
        let (Dir::Received, Some(to)) = (dir, &flight.stanza.to) else { return };
        // What a room says is for those who are in it, and what a session leaves has been told of.
        let is_other = matches!(flight.stanza.kind, Kind::Message(MessageType::Groupchat | MessageType::Error));
        if is_other || flight.is_copy {
            return;
        }
        if let Some(services) = services(core, to) {
            self.tell_sleepers(core, to, services, &flight.stanza);
        }
    }

    /// It is told if its clients would be there.
    fn missed(&mut self, core: &mut Core, account: &Jid, message: &Stanza) {
        let Some(room) = message.from.as_ref().map(Jid::bare) else { return };
        let Some(services) = services(core, account) else { return };
        let bookmark = core.pubsub(account).item(ns::BOOKMARKS, room.as_str());
        let bookmark = bookmark.unwrap_or_else(|error| {
            log::error!(target: LOG, "{error}");
            None
        });
        let joins = |item: &Element| matches!(item.root().attr("autojoin"), Some("true" | "1"));
        if bookmark.and_then(|item| item.read()).as_ref().is_some_and(joins) {
            self.tell_sleepers(core, account, services, message);
        }
    }

    fn watches(&self, id: SessionId) -> bool {
        self.bound.contains_key(&id)
    }

    fn deliver(&mut self, core: &mut Core, id: SessionId, stanza: &Stanza) {
        if core.sessions.get(id).is_some_and(|s| s.conn.is_none()) || self.bound.get(&id).is_some_and(|b| b.late) {
            self.tell_session(core, id, stanza);
        }
    }

    fn unseen(&mut self, core: &mut Core, id: SessionId, messages: &[Stanza]) {
        let Some(bound) = self.bound.get_mut(&id) else { return };
        if core.sessions.get(id).is_some_and(|s| s.conn.is_none()) {
            (bound.late, bound.told) = (false, false);
            self.wait_longer(core, id);
        } else {
            bound.late = true;
        }
        for message in messages {
            self.tell_session(core, id, message);
        }
    }

    fn session(&mut self, _: &mut Core, id: SessionId, event: SessionEvent) -> Result<(), StanzaError> {
        match event {
            SessionEvent::Closed => _ = self.bound.remove(&id),
            SessionEvent::OnTime | SessionEvent::Resumed => {
                if let Some(bound) = self.bound.get_mut(&id) {
                    (bound.late, bound.told) = (false, false);
                }
            }
            SessionEvent::Reachable | SessionEvent::Available | SessionEvent::Unavailable => {}
        }
        Ok(())
    }

    fn session_state(&mut self, _: &mut Core, id: SessionId, _: &[u8], _: &[Jid]) -> Vec<u8> {
        self.bound.get(&id).map(to_bytes).unwrap_or_default()
    }

    fn restore_session(&mut self, core: &mut Core, id: SessionId, state: &[u8]) -> Result<(), StoreError> {
        if let Some(bound) = from_bytes::<Bound>(state) {
            if !bound.told {
                self.wait_longer(core, id);
            }
            self.bound.insert(id, bound);
        }
        Ok(())
    }

    /// Section 8: a service takes no more for an account.
    fn filter_in(&mut self, core: &mut Core, flight: &mut InFlight) -> Result<Flow, StanzaError> {
        let stanza = &flight.stanza;
        let (Kind::Message(_), Some(from), Some(to)) = (stanza.kind, &stanza.from, &stanza.to) else {
            return Ok(Flow::Pass);
        };
        let Some(pubsub) = stanza.child(ns::PUBSUB, "pubsub") else { return Ok(Flow::Pass) };
        let ends = |c: ElementRef<'_>| c.is(ns::PUBSUB, "affiliation") && c.attr("affiliation") == Some("none");
        let node = pubsub.attr("node");
        if !pubsub.children().any(ends) || !is_registered(core, to, from, node)? {
            return Ok(Flow::Pass);
        }
        let (from, to) = (from.clone(), to.bare());
        let node = node.map(str::to_string);
        self.disable(core, &to, &from, node.as_deref())?;
        Ok(Flow::Drop("a push service wants no more"))
    }

    fn answered(&mut self, core: &mut Core, stanza: &Stanza) -> Result<(), StanzaError> {
        let is_it = |a: &Asked| stanza.id.as_deref() == Some(&*a.id) && stanza.from.as_ref() == Some(&a.jid);
        let Some(asked) = self.asked.iter().position(is_it).and_then(|at| self.asked.remove(at)) else { return Ok(()) };
        let owner = asked.account.bare_str();
        let Some(mut stored) = core.view.get::<Registrations>(owner, b"")? else { return Ok(()) };
        let Some(at) = stored.list.iter().position(|s| s.jid == asked.jid && s.node == asked.node) else {
            return Ok(());
        };
        let error = stanza.child(ns::CLIENT, "error");
        match stanza.kind {
            Kind::Iq(IqType::Error) if error.and_then(|e| e.attr("type")) == Some("wait") => return Ok(()),
            Kind::Iq(IqType::Error) => {
                let condition = error.and_then(|e| e.children().find(|c| c.ns() == ns::STANZA_ERROR));
                let condition = condition.map_or("an error", |c| c.name());
                debug!(target: LOG, "{} refuses to tell {owner}: {condition}", asked.jid);
                stored.list[at].errors += 1;
                if stored.list[at].errors >= core.settings.limits.push_errors_max {
                    log::info!(target: LOG, "{} is told of nothing for {owner} any more: {condition}", asked.jid);
                    self.disable(core, &asked.account, &asked.jid, Some(&asked.node))?;
                    return Ok(());
                }
            }
            _ if stored.list[at].errors == 0 => return Ok(()),
            _ => stored.list[at].errors = 0,
        }
        core.view.put::<Registrations>(owner, b"", &stored);
        Ok(())
    }

    fn held_bytes(&self) -> usize {
        // An entry is two addresses, a name and an id.
        const ENTRY_BYTES: usize = 256;
        (self.bound.len() + self.asked.len() + self.recent.len()) * ENTRY_BYTES
    }

    #[cfg(feature = "import")]
    fn take_in(&mut self, core: &mut Core, owner: &Jid, piece: &Piece, _: &mut Terms) -> Outcome {
        let Piece::Push { jid, node, options } = piece else { return Ok(Taken::NotMine) };
        let mut list = core.view.get::<Registrations>(owner.bare_str(), b"")?.map(|all| all.list).unwrap_or_default();
        if list.iter().any(|service| service.jid == *jid && service.node == *node) {
            return Ok(Taken::Same);
        }
        if list.len() >= core.settings.limits.push_services_max as usize {
            return Err(Refusal::because("there are more registrations than limits.push_services_max"));
        }
        let options = options.as_ref().map(|options| options.root().to_xml()).unwrap_or_default();
        if options.len() + node.len() > core.settings.limits.push_bytes_max as usize {
            return Err(Refusal::because("its node or its options are too long"));
        }
        list.push(Service { jid: jid.clone(), node: node.clone(), options, errors: 0 });
        core.view.put::<Registrations>(owner.bare_str(), b"", &Services { list });
        Ok(Taken::New)
    }

    #[cfg(feature = "import")]
    fn give_out(&mut self, core: &mut Core, owner: &Jid, to: &mut dyn FnMut(Piece)) -> Result<(), StoreError> {
        let all = core.view.get::<Registrations>(owner.bare_str(), b"")?.map(|all| all.list).unwrap_or_default();
        for Service { jid, node, options, .. } in all {
            to(Piece::Push { jid, node, options: crate::xml::parse(&options).ok() });
        }
        Ok(())
    }
}

impl Bound {
    fn is(&self, service: &Service) -> bool {
        self.jid == service.jid && self.node == service.node
    }
}

impl Push {
    /// Section 5: the last request for a service and node holds.
    fn enable(&mut self, core: &mut Core, request: &Request<'_>, jid: Jid) -> Result<(), StanzaError> {
        if request.stanza.from.as_ref() == Some(&jid) {
            return Err(Condition::BadRequest.because("A client cannot be its own push service."));
        }
        let node = request.child.attr("node").unwrap_or_default().to_string();
        let options = match request.child.child(ns::DATA, "x") {
            None => String::new(),
            Some(x) => {
                form::read(x, ns::PUBSUB_PUBLISH_OPTIONS)?;
                x.to_xml()
            }
        };
        let limits = &core.settings.limits;
        if options.len() + node.len() > limits.push_bytes_max as usize {
            return Err(Condition::NotAcceptable.because("The options are too long."));
        }
        let max = limits.push_services_max as usize;
        let owner = request.owner.bare_str();
        if let Some(id) = request.session {
            if !self.bound.contains_key(&id) {
                core.may_hold("push", self.held_bytes())?;
            }
            self.bound.insert(id, Bound { jid: jid.clone(), node: node.clone(), told: false, late: false });
        }
        let mut stored = core.view.get::<Registrations>(owner, b"")?.unwrap_or(Services { list: Vec::new() });
        stored.list.retain(|s| s.jid != jid || s.node != node);
        stored.list.push(Service { jid, node, options, errors: 0 });
        let excess = stored.list.len().saturating_sub(max);
        // As Prosody does: the telephone that was bought last matters more than the first.
        stored.list.drain(..excess);
        core.view.put::<Registrations>(owner, b"", &stored);
        Ok(())
    }

    /// Section 6: of that node, or of all.
    fn disable(&mut self, core: &mut Core, owner: &Jid, jid: &Jid, node: Option<&str>) -> Result<(), StoreError> {
        let is = |of: &Jid, at: &str| of == jid && node.is_none_or(|node| node == at);
        for id in core.sessions.of(owner).to_vec() {
            if self.bound.get(&id).is_some_and(|bound| is(&bound.jid, &bound.node)) {
                self.bound.remove(&id);
                core.session_changed(id);
                core.waits.push((id, None));
            }
        }
        let owner = owner.bare_str();
        let Some(mut stored) = core.view.get::<Registrations>(owner, b"")? else { return Ok(()) };
        stored.list.retain(|s| !is(&s.jid, &s.node));
        match stored.list.is_empty() {
            true => core.view.delete::<Registrations>(owner, b""),
            false => core.view.put::<Registrations>(owner, b"", &stored),
        }
        Ok(())
    }

    /// Until something matters.
    fn wait_longer(&self, core: &mut Core, id: SessionId) {
        let Seconds(hibernation_s) = self.config.hibernation;
        if hibernation_s > 0 {
            core.waits.push((id, Some(hibernation_s)));
        }
    }

    /// Registrations of an account whose sessions are no more.
    fn tell_sleepers(&mut self, core: &mut Core, account: &Jid, services: Services, stanza: &Stanza) {
        for service in services.list {
            let sessions = core.sessions.of(account);
            if !sessions.iter().any(|id| self.bound.get(id).is_some_and(|bound| bound.is(&service))) {
                self.tell(core, account, &service, stanza);
            }
        }
    }

    /// The registration of a session that does not see a message itself.
    fn tell_session(&mut self, core: &mut Core, id: SessionId, stanza: &Stanza) {
        let Some(account) = core.sessions.get(id).map(|s| s.jid.bare()) else { return };
        let Some(services) = services(core, &account) else { return };
        let Some(bound) = self.bound.get(&id) else { return };
        let Some(service) = services.list.into_iter().find(|service| bound.is(service)) else { return };
        let is_parked = core.sessions.get(id).is_some_and(|s| s.conn.is_none());
        if self.tell(core, &account, &service, stanza)
            && is_parked
            && let Some(bound) = self.bound.get_mut(&id).filter(|bound| !bound.told)
        {
            // From now on its client has as long as any other.
            bound.told = true;
            core.session_changed(id);
            core.waits.push((id, None));
        }
    }

    /// Tells a service of a message, unless it has just been told of another. True when it is one that matters.
    fn tell(&mut self, core: &mut Core, account: &Jid, service: &Service, stanza: &Stanza) -> bool {
        let Some(message) = weigh(stanza) else { return false };
        let now_ms = core.now.mono_ms;
        while self.recent.front().is_some_and(|told| told.0 + CALM_MS <= now_ms) || self.recent.len() > ASKED_MAX {
            self.recent.pop_front();
        }
        let is_same = |told: &&(u64, Jid, Jid, String, bool)| {
            told.1.same_bare(account) && told.2 == service.jid && told.3 == service.node
        };
        if self.recent.iter().filter(is_same).any(|told| told.4 || !message.matters) {
            debug!(target: LOG, "{} has just been told for {}", service.jid, account.bare_str());
            return message.matters;
        }
        let Ok(host) = Jid::parse(account.domain()) else { return false };
        let id = core.token();
        let node = service.node.clone();
        self.recent.push_back((now_ms, account.bare(), service.jid.clone(), node.clone(), message.matters));
        self.asked.push_back(Asked { id: id.clone(), account: account.bare(), jid: service.jid.clone(), node });
        if self.asked.len() > ASKED_MAX {
            self.asked.pop_front();
        }
        debug!(target: LOG, "{} is told for {}", service.jid, account.bare_str());
        let publish = self.publish(service, &message).with_id(&id).addressed(Some(host), Some(service.jid.clone()));
        core.send(InFlight { filters: Filters::None, ..InFlight::passing(publish) });
        message.matters
    }

    /// Section 7. What is counted is not said; Prosody says 1 as well.
    fn publish(&self, service: &Service, message: &Weighed<'_>) -> Stanza {
        let body = match self.config.with_body {
            true => message.body.as_deref(),
            false => Some(self.config.important_body.as_str()).filter(|text| message.matters && !text.is_empty()),
        };
        let sender = message.sender.filter(|_| self.config.with_sender);
        Stanza::build(Kind::Iq(IqType::Set), |b| {
            b.open(ns::PUBSUB, "pubsub").open(ns::PUBSUB, "publish");
            if !service.node.is_empty() {
                b.attr("node", &service.node);
            }
            b.open(ns::PUBSUB, "item").open(ns::PUSH, "notification");
            form::open(b, "form", ns::PUSH_SUMMARY);
            form::field(b, "message-count", "text-single", "", &[], &["1"]);
            if let Some(sender) = sender {
                form::field(b, "last-message-sender", "jid-single", "", &[], &[sender.as_str()]);
            }
            if let Some(body) = body {
                form::field(b, "last-message-body", "text-single", "", &[], &[body]);
            }
            b.close().close().close().close();
            if let Ok(options) = crate::xml::parse(&service.options) {
                b.open(ns::PUBSUB, "publish-options").copy(options.root());
                b.close();
            }
            b.close();
        })
    }
}

/// The registrations of an account, if it has any and they can be read.
fn services(core: &mut Core, account: &Jid) -> Option<Services> {
    core.view.get::<Registrations>(account.bare_str(), b"").unwrap_or_else(|error| {
        log::error!(target: LOG, "{error}");
        None
    })
}

fn is_registered(core: &mut Core, account: &Jid, jid: &Jid, node: Option<&str>) -> Result<bool, StoreError> {
    let stored = core.view.get::<Registrations>(account.bare_str(), b"")?;
    let is = |s: &Service| s.jid == *jid && node.is_none_or(|node| node == s.node);
    Ok(stored.is_some_and(|stored| stored.list.iter().any(is)))
}

/// A message as far as a service may hear of it.
struct Weighed<'a> {
    /// There is something to read, or somebody calls.
    matters: bool,
    sender: Option<&'a Jid>,
    body: Option<String>,
}

/// None of what nobody needs to come for: states, errors, what the account itself has sent.
fn weigh(stanza: &Stanza) -> Option<Weighed<'_>> {
    let Kind::Message(kind) = stanza.kind else { return None };
    let root = stanza.payload.root();
    if root.has_child(ns::CARBONS, "sent") {
        return None;
    }
    let copied = root.child(ns::CARBONS, "received").and_then(|c| c.child(ns::FORWARD, "forwarded"));
    let message = copied.and_then(|forwarded| forwarded.child(ns::CLIENT, "message")).unwrap_or(root);
    let body = message.child(ns::CLIENT, "body").map(|body| body.text()).filter(|body| !body.is_empty());
    let is_subject = kind == MessageType::Groupchat && message.has_child(ns::CLIENT, "subject");
    let matters = match kind {
        MessageType::Error => return None,
        MessageType::Headline => false,
        _ if message.children().any(is_sealed_or_calls) => true,
        _ => body.is_some() && !is_subject,
    };
    if !matters && (copied.is_some() || worth(stanza) != Worth::Kept) {
        return None;
    }
    Some(Weighed { matters, sender: stanza.from.as_ref(), body })
}

/// What is encrypted cannot be judged, and a call does not wait.
fn is_sealed_or_calls(child: ElementRef<'_>) -> bool {
    const SEALED: [(&str, &str); 5] = [
        ("eu.siacs.conversations.axolotl", "encrypted"),
        ("urn:xmpp:omemo:2", "encrypted"),
        ("jabber:x:encrypted", "x"),
        ("urn:xmpp:openpgp:0", "openpgp"),
        (ns::JINGLE_MESSAGE, "propose"),
    ];
    SEALED.iter().any(|(space, name)| child.is(space, name))
}

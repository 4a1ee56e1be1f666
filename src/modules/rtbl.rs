//! Real-time block lists (<https://xmppbl.org>): addresses and domains that others have met as spammers are kept out
//! of rooms, and if it is wanted, from writing to those whose contacts they are not.
//!
//! A list is a node (XEP-0060) at a service; the id of each item is the SHA-256 of a bare address or a domain. The
//! server subscribes in the name of its first host, reads the whole list at start and once a day, and takes up what it
//! is told of in between. What is known is stored: while the service cannot be reached, it stays in force. Rules can
//! name lists, too.

use super::{Module, Xep};
use crate::core::Core;
use crate::core::flight::{Dest, Flow, InFlight};
use crate::core::rtbl::{Hash, Source, hash_of};
use crate::core::settings::Settings;
use crate::jid::Jid;
use crate::setting::{Seconds, section};
use crate::stanza::{Condition, IqType, Kind, MessageType, PresenceType, Stanza, StanzaError};
use crate::storage::StoreError;
use crate::xml::{Builder, ElementRef, ns};
use std::collections::BTreeSet;

const LOG: &str = "couplet::rtbl";

section! {
    /// Real-time block lists, as <https://xmppbl.org> and others publish them.
    pub struct Config in "modules.rtbl" {
        /// Services and their nodes: "xmppbl.org" means "xmpp:xmppbl.org?;node=muc_bans_sha256". Without any, nothing
        /// is asked and nobody is refused.
        pub lists: Vec<String> = Vec::new() => |lists: &Vec<String>| check(lists),
        /// Who is on a list may not enter rooms, or write to them.
        pub rooms: bool = true,
        /// Nor write to people here, or ask for subscriptions, unless they are in the roster.
        pub strangers: bool = false,
        /// Who is let in although he is on a list: addresses, or domains with all of their users. Administrators are.
        pub exempt: Vec<String> = Vec::new() => |all: &Vec<String>| check_exempt(all),
        /// Time after which a list is read as a whole again.
        pub refresh: Seconds = Seconds(86_400) => |time| long_enough(*time),
    }
}

fn check(lists: &[String]) -> Result<(), String> {
    match lists.iter().find(|list| Source::parse(list).is_none()) {
        None => Ok(()),
        Some(list) => Err(wrong(list)),
    }
}

/// What to write in place of something that names no list.
fn wrong(list: &str) -> String {
    format!("\"{list}\" is no block list; write for example \"xmpp:xmppbl.org?;node=muc_bans_sha256\"")
}

fn check_exempt(all: &[String]) -> Result<(), String> {
    match all.iter().find(|one| !Jid::parse(one).is_ok_and(|jid| jid.is_bare())) {
        None => Ok(()),
        Some(one) => {
            Err(format!("\"{one}\" is no address; write for example \"romeo@example.org\" or \"example.org\""))
        }
    }
}

fn long_enough(time: Seconds) -> Result<(), String> {
    if time.0 >= 600 { Ok(()) } else { Err("this is too often for a list; write \"10 min\" or more".to_string()) }
}

/// Items of one page (XEP-0059) that are asked for.
const PAGE: usize = 500;

/// The module.
pub struct Rtbl {
    config: Config,
    /// Lists for rooms and strangers.
    own: Vec<Source>,
    exempt: Vec<Jid>,
    /// All lists, those of rules among them.
    feeds: Vec<Feed>,
}

/// What is known of reading a list.
struct Feed {
    source: Source,
    stage: Stage,
    /// When something is to be done about it.
    due_ms: u64,
    /// Attempts that have failed since the last that went well.
    failures: u32,
    /// What was read so far.
    seen: BTreeSet<Hash>,
    /// Hashes that are stored.
    stored: usize,
}

enum Stage {
    /// Nothing is asked.
    Calm,
    /// A subscription was asked for, with this id.
    Subscribing(String),
    /// A page was asked for.
    Reading(String),
}

impl Module for Rtbl {
    const XEPS: &'static [Xep] = &[];
    type Config = Config;

    fn new(config: Config) -> Self {
        let (own, exempt) = prepared(&config);
        Self { config, own, exempt, feeds: Vec::new() }
    }

    fn reconfigure(&mut self, config: Config) {
        (self.own, self.exempt) = prepared(&config);
        self.config = config;
    }

    fn settle(&self, settings: &mut Settings) {
        self.own.iter().for_each(|list| settings.want_rtbl(list));
    }

    fn due_ms(&self, core: &Core) -> Option<u64> {
        let is_feed = |(source, feed): (&Source, &Feed)| *source == feed.source;
        let wanted = &core.settings.rtbl;
        match wanted.len() == self.feeds.len() && wanted.iter().zip(&self.feeds).all(is_feed) {
            true => self.feeds.iter().map(|feed| feed.due_ms).min(),
            false => Some(0),
        }
    }

    fn due(&mut self, core: &mut Core) -> Result<(), StanzaError> {
        self.take_up(core)?;
        let now_ms = core.now.mono_ms;
        for feed in self.feeds.iter_mut().filter(|feed| feed.due_ms <= now_ms) {
            match feed.stage {
                Stage::Calm => feed.subscribe(core),
                Stage::Subscribing(_) | Stage::Reading(_) => feed.fail(core, "nobody answers"),
            }
        }
        Ok(())
    }

    fn answered(&mut self, core: &mut Core, stanza: &Stanza) -> Result<(), StanzaError> {
        let is_asked = |feed: &&mut Feed| {
            let (Stage::Subscribing(id) | Stage::Reading(id)) = &feed.stage else { return false };
            stanza.id.as_deref() == Some(id) && stanza.from.as_ref() == Some(&feed.source.service)
        };
        let Some(feed) = self.feeds.iter_mut().find(is_asked) else { return Ok(()) };
        let error = stanza.child(ns::CLIENT, "error").filter(|_| stanza.kind == Kind::Iq(IqType::Error));
        let condition = |error: ElementRef<'_>| {
            let condition = error.children().find(|child| child.ns() == ns::STANZA_ERROR);
            condition.map_or("undefined-condition", ElementRef::name).to_string()
        };
        match (error.map(condition), &feed.stage) {
            (None, Stage::Reading(_)) => feed.read(core, stanza, u64::from(self.config.refresh.0) * 1000)?,
            (None, _) => feed.ask_page(core, None),
            // A list that can be read needs nobody's subscription; it is only older.
            (Some(why), Stage::Subscribing(_)) if is_there(&why) => {
                log::warn!(target: LOG, "{}: no subscription: {why}", feed.source);
                feed.ask_page(core, None);
            }
            (Some(why), _) => feed.fail(core, &why),
        }
        Ok(())
    }

    fn told(&mut self, core: &mut Core, stanza: &Stanza) -> Result<bool, StanzaError> {
        let Some(event) = stanza.child(ns::PUBSUB_EVENT, "event") else { return Ok(false) };
        let mut is_told = false;
        for part in event.children() {
            let is_of = |feed: &&mut Feed| {
                stanza.from.as_ref() == Some(&feed.source.service) && part.attr("node") == Some(&feed.source.node)
            };
            if let Some(feed) = self.feeds.iter_mut().find(is_of) {
                feed.hear(core, part)?;
                is_told = true;
            }
        }
        Ok(is_told)
    }

    fn filter_service(&mut self, core: &mut Core, flight: &mut InFlight) -> Result<Flow, StanzaError> {
        let is_looked_at = match flight.stanza.kind {
            Kind::Message(typ) => typ != MessageType::Error,
            Kind::Presence(typ) => typ == PresenceType::Available,
            Kind::Iq(_) => false,
        };
        let Some(from) = flight.stanza.from.as_ref().filter(|_| is_looked_at && self.config.rooms) else {
            return Ok(Flow::Pass);
        };
        if !self.refuses(core, from)? {
            return Ok(Flow::Pass);
        }
        log::debug!(target: LOG, "{from} is on a block list, and kept out of {:?}", flight.stanza.to);
        Ok(Flow::Bounce(Condition::Forbidden.because("This address, or its server, is on a block list.")))
    }

    fn filter_in(&mut self, core: &mut Core, flight: &mut InFlight) -> Result<Flow, StanzaError> {
        let is_looked_at = match flight.stanza.kind {
            Kind::Message(typ) => typ != MessageType::Error,
            Kind::Presence(typ) => typ == PresenceType::Subscribe,
            Kind::Iq(_) => false,
        };
        // What was stored has been let in.
        let is_new = flight.dest == Dest::Address && is_looked_at && self.config.strangers;
        let (true, Some(from), Some(to)) = (is_new, &flight.stanza.from, &flight.stanza.to) else {
            return Ok(Flow::Pass);
        };
        if core.is_ours(from) || !self.refuses(core, from)? || core.is_contact(to, from)? {
            return Ok(Flow::Pass);
        }
        log::debug!(target: LOG, "{from} is on a block list, and kept from {}", to.bare_str());
        Ok(match flight.stanza.kind {
            // As if nobody were there, as to who is blocked (XEP-0191 section 3.3).
            Kind::Message(_) => Flow::Bounce(Condition::ServiceUnavailable.into()),
            Kind::Presence(_) | Kind::Iq(_) => Flow::Drop("from an address on a block list"),
        })
    }

    fn held_bytes(&self) -> usize {
        // A node of the set may be half empty.
        self.feeds.iter().map(|feed| size_of::<Feed>() + feed.seen.len() * 2 * size_of::<Hash>()).sum()
    }
}

impl Rtbl {
    fn refuses(&self, core: &mut Core, who: &Jid) -> Result<bool, StoreError> {
        // At the start, what is stored is not counted yet.
        let has_none = !self.feeds.is_empty() && self.feeds.iter().all(|feed| feed.stored == 0);
        if self.own.is_empty() || has_none {
            return Ok(false);
        }
        let is_exempt = |jid: &Jid| jid.same_bare(who) || (jid.is_host() && jid.domain() == who.domain());
        if self.exempt.iter().any(is_exempt) || !core.rtbl_has(&self.own, who)? {
            return Ok(false);
        }
        Ok(!core.is_local(who) || !core.is_admin(who)?)
    }

    /// Begins with lists that are new, and leaves those that are wanted no more.
    fn take_up(&mut self, core: &mut Core) -> Result<(), StoreError> {
        let wanted = core.settings.rtbl.clone();
        if wanted.iter().eq(self.feeds.iter().map(|feed| &feed.source)) {
            return Ok(());
        }
        let mut old = std::mem::take(&mut self.feeds);
        for source in wanted.iter().cloned() {
            let feed = match old.iter().position(|feed| feed.source == source) {
                Some(at) => old.swap_remove(at),
                None => {
                    let stored = core.rtbl_hashes(&source)?.len();
                    Feed { source, stage: Stage::Calm, due_ms: 0, failures: 0, seen: BTreeSet::new(), stored }
                }
            };
            self.feeds.push(feed);
        }
        for feed in old {
            feed.ask(core, IqType::Set, |b, host, source| {
                b.open(ns::PUBSUB, "unsubscribe").attr("node", &source.node).attr("jid", host.as_str()).close();
            });
        }
        core.rtbl_keep(&wanted)
    }
}

impl Feed {
    /// Asks the service for something; the id of the request.
    fn ask(&self, core: &mut Core, typ: IqType, build: impl FnOnce(&mut Builder, &Jid, &Source)) -> String {
        let id = core.token();
        let host = core.settings.hosts.first().and_then(|host| Jid::parse(host).ok());
        if let Some(host) = host {
            let request = Stanza::build(Kind::Iq(typ), |b| {
                b.open(ns::PUBSUB, "pubsub");
                build(b, &host, &self.source);
                b.close();
            });
            let request = request.addressed(Some(host), Some(self.source.service.clone())).with_id(&id);
            core.send(InFlight::passing(request));
        }
        id
    }

    fn wait_for_answer(&mut self, core: &Core) {
        self.due_ms = core.now.mono_ms + u64::from(core.settings.limits.rtbl_answer_timeout_s) * 1000;
    }

    /// Before it is read, so that nothing is missed in between.
    fn subscribe(&mut self, core: &mut Core) {
        let id = self.ask(core, IqType::Set, |b, host, source| {
            b.open(ns::PUBSUB, "subscribe").attr("node", &source.node).attr("jid", host.as_str()).close();
        });
        self.stage = Stage::Subscribing(id);
        self.wait_for_answer(core);
    }

    /// Asks for the first page, or for that behind an item.
    fn ask_page(&mut self, core: &mut Core, after: Option<&str>) {
        if after.is_none() {
            self.seen.clear();
        }
        let id = self.ask(core, IqType::Get, |b, _, source| {
            b.open(ns::PUBSUB, "items").attr("node", &source.node).close();
            b.open(ns::RSM, "set").leaf(ns::RSM, "max", &PAGE.to_string());
            if let Some(after) = after {
                b.leaf(ns::RSM, "after", after);
            }
            b.close();
        });
        self.stage = Stage::Reading(id);
        self.wait_for_answer(core);
    }

    /// A page has come. Services that know no pages send all at once.
    fn read(&mut self, core: &mut Core, stanza: &Stanza, refresh_ms: u64) -> Result<(), StoreError> {
        let pubsub = stanza.child(ns::PUBSUB, "pubsub");
        let Some(items) = pubsub.and_then(|p| p.child(ns::PUBSUB, "items")) else {
            self.fail(core, "the answer has no items");
            return Ok(());
        };
        let max = core.settings.limits.rtbl_hashes_max as usize;
        let (before, mut count) = (self.seen.len(), 0);
        for item in items.children().filter(|child| child.is(ns::PUBSUB, "item")) {
            count += 1;
            if let Some(hash) = item.attr("id").and_then(hash_of)
                && self.seen.len() < max
            {
                self.seen.insert(hash);
            }
        }
        let set = pubsub.and_then(|p| p.child(ns::RSM, "set"));
        let text = |name| set.and_then(|set| set.child(ns::RSM, name)).map(|child| child.text());
        let is_all = match text("count").and_then(|count| count.trim().parse::<usize>().ok()) {
            Some(all) => self.seen.len() >= all,
            None => count < PAGE,
        };
        // A service that brings nothing new would go on for ever.
        if let Some(last) = text("last").filter(|_| !is_all && self.seen.len() > before && self.seen.len() < max) {
            self.ask_page(core, Some(&last));
            return Ok(());
        }
        if core.may_write().is_err() {
            self.fail(core, "too much waits for the disk");
            return Ok(());
        }
        if self.seen.len() >= max {
            log::warn!(target: LOG, "{} has more than limits.rtbl_hashes_max; the rest is left out", self.source);
        }
        let stored = core.rtbl_hashes(&self.source)?;
        for hash in self.seen.difference(&stored) {
            core.rtbl_put(&self.source, hash);
        }
        for hash in stored.difference(&self.seen) {
            core.rtbl_delete(&self.source, hash);
        }
        log::info!(target: LOG, "{} has {} entries", self.source, self.seen.len());
        self.stored = self.seen.len();
        self.seen = BTreeSet::new();
        (self.stage, self.failures) = (Stage::Calm, 0);
        self.due_ms = core.now.mono_ms + refresh_ms;
        Ok(())
    }

    /// What is known stays in force, and it is tried again at growing intervals.
    fn fail(&mut self, core: &Core, why: &str) {
        let limits = &core.settings.limits;
        let wait_s = limits.rtbl_retry_min_s.saturating_mul(1 << self.failures.min(16)).min(limits.rtbl_retry_max_s);
        self.failures = self.failures.saturating_add(1);
        log::warn!(target: LOG, "{} cannot be read: {why}; {} entries stay in force", self.source, self.stored);
        self.seen = BTreeSet::new();
        self.stage = Stage::Calm;
        self.due_ms = core.now.mono_ms + u64::from(wait_s.max(1)) * 1000;
    }

    /// What the service tells its subscribers (XEP-0060 sections 7.1.2, 7.2.2, 8.5.2).
    fn hear(&mut self, core: &mut Core, part: ElementRef<'_>) -> Result<(), StanzaError> {
        if part.is(ns::PUBSUB_EVENT, "purge") {
            for hash in core.rtbl_hashes(&self.source)? {
                core.rtbl_delete(&self.source, &hash);
            }
            self.stored = 0;
            self.seen.clear();
        }
        for child in part.children().filter(|_| part.is(ns::PUBSUB_EVENT, "items")) {
            let Some(hash) = child.attr("id").and_then(hash_of) else { continue };
            let is_known = core.rtbl_has_hash(&self.source, &hash)?;
            if child.is(ns::PUBSUB_EVENT, "item") && !is_known {
                if self.stored < core.settings.limits.rtbl_hashes_max as usize {
                    core.may_write()?;
                    core.rtbl_put(&self.source, &hash);
                    self.stored += 1;
                }
            } else if child.is(ns::PUBSUB_EVENT, "retract") && is_known {
                core.rtbl_delete(&self.source, &hash);
                self.stored = self.stored.saturating_sub(1);
            }
            // A page that comes later may be older.
            match child.name() {
                "item" if matches!(self.stage, Stage::Reading(_)) => _ = self.seen.insert(hash),
                _ => _ = self.seen.remove(&hash),
            }
        }
        Ok(())
    }
}

/// False for an error that means that nobody has looked at a request.
fn is_there(condition: &str) -> bool {
    !["remote-server-not-found", "remote-server-timeout", "service-unavailable"].contains(&condition)
}

fn prepared(config: &Config) -> (Vec<Source>, Vec<Jid>) {
    let own: BTreeSet<Source> = config.lists.iter().filter_map(|list| Source::parse(list)).collect();
    (own.into_iter().collect(), config.exempt.iter().filter_map(|jid| Jid::parse(jid).ok()).collect())
}

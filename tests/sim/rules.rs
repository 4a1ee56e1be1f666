//! Rules that look at more than one client: what may leave the server at a moment, and what must be so at rest.

use super::disk::deep_text;
use super::model::{Check, Invariant, ItemView, Key, Session, What, bare, broken};
use super::world::{HOST, World};
use couplet::core::io::ConnId;
use couplet::core::presence::Requests;
use couplet::core::roster::Items;
use couplet::xml::{Element, ElementRef, ns};
use std::collections::BTreeMap;

impl World {
    /// The engine has let a stanza go: all that it shows must be on disk by now, because power may go at any time.
    pub fn left_server(&mut self, conn: ConnId, element: &Element) -> Check {
        let stanza = element.root();
        if stanza.ns() == ns::SM {
            return match self.links.get(&conn).and_then(|l| l.client) {
                Some(client) => self.count_left(client, stanza),
                None => Ok(()),
            };
        }
        if stanza.ns() != ns::CLIENT {
            return Ok(());
        }
        let Some(client) = self.links.get(&conn).and_then(|l| l.client) else { return Ok(()) };
        if stanza.attr("type") == Some("error")
            && let Some((number, _)) = stanza.attr("id").and_then(|id| self.model.by_id(id))
        {
            self.model.sent[number].refused = true;
        }
        let account = &self.clients[client].account;
        let kind = stanza.attr("type").unwrap_or_default();
        match (stanza.name(), kind) {
            ("iq", "result") => self.result_left(account, stanza),
            ("iq", "set") => self.push_left(account, stanza),
            ("message", _) => match (stanza.child(ns::PUBSUB_EVENT, "event"), stanza.attr("from")) {
                (Some(event), Some(owner)) => self.event_left(owner, event),
                _ => Ok(()),
            },
            ("presence", "error") => Ok(()),
            ("presence", _) => self.presence_left(account, stanza, kind),
            _ => Ok(()),
        }
    }

    fn result_left(&self, account: &str, stanza: ElementRef<'_>) -> Check {
        let Some((number, sent)) = stanza.attr("id").and_then(|id| self.model.by_id(id)) else { return Ok(()) };
        self.written(number)?;
        let child = stanza.children().next();
        match &sent.what {
            What::RosterGet => self.version_left(account, child.and_then(|c| c.attr("ver"))),
            What::PrivateGet(n) => self.shown(account, &Key::Private(*n), &child.map(deep_text).unwrap_or_default()),
            What::VCardGet(owner) => self.shown(owner, &Key::VCard, &child.map(deep_text).unwrap_or_default()),
            What::BlockGet => {
                let mut jids = child.into_iter().flat_map(|c| c.children()).filter_map(|item| item.attr("jid"));
                jids.try_for_each(|jid| self.shown(account, &Key::Block(jid.to_string()), "yes"))
            }
            _ => Ok(()),
        }
    }

    /// What this stanza writes is on disk.
    pub fn written(&self, number: usize) -> Check {
        for write in self.model.sent[number].writes.iter().filter(|write| write.0.1.is_plain()) {
            let ((owner, key), value) = (&write.0, &self.model.registers.write(write).value);
            let stored = self.disk.read(owner, key);
            let writes = self.model.registers.of(owner, key);
            let this = &writes[write.1];
            // What another session wrote at the same time may stand in its place.
            let newer = writes.iter().any(|w| w.value == stored && !w.before(this));
            if stored != *value && !newer {
                let text = format!("x{number} was acknowledged and {key:?} of {owner} is {stored:?}, not {value:?}");
                return broken(Invariant::NothingEarly, text);
            }
        }
        Ok(())
    }

    fn push_left(&self, account: &str, stanza: ElementRef<'_>) -> Check {
        let Some(child) = stanza.children().next() else { return Ok(()) };
        if child.is(ns::BLOCKING, "block") {
            let mut jids = child.children().filter_map(|item| item.attr("jid"));
            return jids.try_for_each(|jid| self.shown(account, &Key::Block(jid.to_string()), "yes"));
        }
        match child.is(ns::ROSTER, "query") {
            true => self.version_left(account, child.attr("ver")),
            false => Ok(()),
        }
    }

    fn version_left(&self, account: &str, shown: Option<&str>) -> Check {
        let shown: u64 = shown.and_then(|v| v.parse().ok()).unwrap_or(0);
        let stored = self.disk.roster_version(account);
        match shown > stored {
            true => broken(
                Invariant::NothingEarly,
                format!("version {shown} of {account}'s roster is out, {stored} on disk"),
            ),
            false => Ok(()),
        }
    }

    pub fn shown(&self, account: &str, key: &Key, value: &str) -> Check {
        let stored = self.disk.read(account, key);
        match self.model.registers.may_follow(account, key, value, &stored) {
            true => Ok(()),
            false => {
                let text = format!("{key:?} of {account} is shown as {value:?}, on disk it is {stored:?}");
                broken(Invariant::NothingEarly, text)
            }
        }
    }

    fn presence_left(&self, account: &str, stanza: ElementRef<'_>, kind: &str) -> Check {
        let (Some(from), Some((number, sent))) =
            (stanza.attr("from").map(bare), stanza.attr("id").and_then(|id| self.model.by_id(id)))
        else {
            return Ok(());
        };
        let early = match (&sent.what, kind) {
            (What::Subscription, "subscribe") => self.disk.touched::<Requests>(account, from) < sent.step,
            (What::Subscription, _) => self.disk.touched::<Items>(account, from) < sent.step,
            (What::Presence, "") if from != account => {
                let sender = &self.model.sessions[sent.session];
                let granted = self.model.granted.get(&(from.to_string(), account.to_string())).copied();
                let directed = sender.directed.iter().any(|to| bare(to) == account);
                // Stored now, or stored since it was granted and taken back by now.
                let stored = self.disk.item(from, account).is_some_and(|item| item.from)
                    || granted.is_some_and(|at| self.disk.touched::<Items>(from, account) >= at);
                !directed && !stored
            }
            _ => false,
        };
        match early {
            true => {
                broken(Invariant::NothingEarly, format!("{account} is shown x{number}, which stands on nothing stored"))
            }
            false => Ok(()),
        }
    }

    /// Everything that was acknowledged is on disk. Holds at any moment.
    pub fn check_store(&self) -> Check {
        for (account, key) in self.model.registers.keys().filter(|(_, key)| key.is_plain()) {
            let stored = self.disk.read(account, key);
            if !self.model.registers.may_hold(account, key, &stored, self.step + 1) {
                return broken(Invariant::NothingLost, format!("{key:?} of {account} is {stored:?} on disk"));
            }
        }
        self.check_counted()
    }

    /// Nothing is on its way any more.
    pub fn check_at_rest(&mut self) -> Check {
        self.check_store()?;
        self.check_answers()?;
        self.check_all_counted()?;
        if cfg!(feature = "mam") {
            self.check_archives()?;
        }
        self.check_rosters()?;
        self.check_presence()?;
        self.check_nodes()
    }

    fn check_answers(&self) -> Check {
        for (number, sent) in self.model.sent.iter().enumerate() {
            let session = &self.model.sessions[sent.session];
            if session.alive && sent.is_owed() && sent.answers != 1 {
                return broken(Invariant::AnsweredOnce, format!("x{number} of {} has no answer", session.jid));
            }
        }
        Ok(())
    }

    fn check_rosters(&self) -> Check {
        for a in &self.plan.accounts {
            let stored = self.disk.roster(a);
            for (b, item) in &stored {
                let other = self.disk.item(b, a);
                let agrees = other.is_some_and(|o| o.from) == item.to;
                if self.plan.accounts.contains(b) && !agrees && !self.model.ever_blocked(a, b) {
                    return broken(Invariant::RosterAgrees, format!("{a} and {b} do not agree whether {a} sees {b}"));
                }
            }
            let stored: BTreeMap<String, ItemView> =
                stored.into_iter().filter(|(_, i)| i.listed).map(|(jid, i)| (jid, item_view(i))).collect();
            for session in self.model.sessions.iter().filter(|s| s.alive && s.account == *a) {
                if session.roster.as_ref().is_some_and(|known| *known != stored) {
                    let text = format!("{} has {:?}, stored is {stored:?}", session.jid, session.roster);
                    return broken(Invariant::RosterAgrees, text);
                }
            }
        }
        Ok(())
    }

    fn check_presence(&self) -> Check {
        let alive = || self.model.sessions.iter().enumerate().filter(|(_, s)| s.alive);
        for (_, s) in alive().filter(|(_, s)| s.priority.is_some()) {
            for (number, t) in alive() {
                if t.jid == s.jid && s.unsure {
                    // After a restart it is not told of itself.
                    continue;
                }
                let (owner, other) = (&t.account, &s.account);
                // What a full address blocks concerns some sessions and not others.
                if self.model.ever_blocked(owner, other) && self.blocks_any_full(owner, other)
                    || t.directed.iter().any(|to| bare(to) == other)
                {
                    continue;
                }
                let may_see = owner == other || {
                    let from = self.disk.item(owner, other).is_some_and(|item| item.from);
                    let to = self.disk.item(other, owner).is_some_and(|item| item.to);
                    if from != to {
                        continue;
                    }
                    let blocks = |a: &String, b: &String| !self.disk.read(a, &Key::Block(b.clone())).is_empty();
                    from && !blocks(owner, other) && !blocks(other, owner)
                };
                let should = may_see && t.priority.is_some();
                let sees = s.seen.get(&t.jid).is_some_and(|seen| *seen == number);
                let sees_old = s.seen.contains_key(&t.jid);
                if should && !sees {
                    return broken(Invariant::PresenceAgrees, format!("{} does not see {}", s.jid, t.jid));
                }
                if !should && sees_old && !s.unsure {
                    return broken(Invariant::PresenceAgrees, format!("{} still sees {}", s.jid, t.jid));
                }
            }
            // The server lets a session wait that its client may never have heard it could resume.
            let may_wait = |t: &Session| t.managed && !self.rested_long;
            let there = |jid: &String| self.model.sessions.iter().any(|t| t.jid == *jid && (t.alive || may_wait(t)));
            if let Some((gone, _)) = s.seen.iter().find(|(jid, _)| !s.unsure && !there(jid)) {
                return broken(Invariant::PresenceAgrees, format!("{} still sees {gone}, which is gone", s.jid));
            }
        }
        Ok(())
    }

    fn blocks_any_full(&self, a: &str, b: &str) -> bool {
        let full = |owner: &str, other: &str| {
            self.model
                .registers
                .keys()
                .any(|(o, key)| o == owner && matches!(key, Key::Block(jid) if bare(jid) == other && jid != other))
        };
        full(a, b) || full(b, a)
    }

    pub fn check_nothing_held(&mut self) -> Check {
        // What is remembered of addresses is bounded in another way.
        match self.held()? - self.engine.remembered_bytes() {
            0 => Ok(()),
            held => broken(Invariant::Bounded, format!("{held} bytes are held for nobody")),
        }
    }

    /// "held for peers: 123 bytes"
    fn held(&mut self) -> Check<usize> {
        let status = self.status()?;
        let held = status.lines().find_map(|l| l.strip_prefix("held for peers: ")?.split(' ').next()?.parse().ok());
        match held {
            Some(held) => Ok(held),
            None => broken(Invariant::NoBug, format!("status of {HOST} does not say what is held: {status}")),
        }
    }
}

fn item_view(item: couplet::core::roster::Item) -> ItemView {
    let subscription = item.subscription().as_str().to_string();
    (item.name, subscription, item.ask, item.approved)
}

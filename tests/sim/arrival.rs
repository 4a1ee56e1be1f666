//! What a client sees, and what it must not see.

use super::client::State;
use super::disk::deep_text;
use super::model::{Check, Fate, Invariant, ItemView, Key, Session, Way, What, bare, broken};
use super::network::{Flying, Frame};
use super::rooms;
use super::world::World;
use couplet::xml::{ElementRef, ns};
use std::collections::BTreeMap;

/// Causes for which the server may close a stream of ours.
const CAUSES: [&str; 4] = ["conflict", "invalid-from", "system-shutdown", "connection-timeout"];

impl World {
    /// A frame has reached its client.
    pub fn arrived(&mut self, client: usize, flying: Flying) -> Check {
        let Flying { left, frame, .. } = flying;
        let element = match frame {
            Frame::Header => return Ok(()),
            Frame::End => {
                self.close_stream(client);
                return Ok(());
            }
            Frame::Element(element) => element,
        };
        let root = element.root();
        let name = self.clients[client].name();
        self.note(|| format!("{name} reads {}", root.to_xml()));
        if root.is(ns::STREAM, "error") {
            let cause = root.children().find(|c| c.ns() == ns::STREAM_ERROR).map_or("none", |c| c.name());
            return match CAUSES.contains(&cause) {
                true => Ok(()),
                false => broken(Invariant::NoBug, format!("{name} was closed with {cause}")),
            };
        }
        match (self.clients[client].state.clone(), self.clients[client].session) {
            (State::Online | State::Leaving | State::Resuming, _) if root.ns() == ns::SM => self.managed(client, root),
            (State::Online | State::Leaving, Some(session)) => {
                self.handled(client);
                self.stanza(session, root, left)
            }
            (State::Binding, _) if root.attr("id") == Some("bind") => {
                if root.attr("type") == Some("result") {
                    self.bound(client, &deep_text(root))
                } else {
                    self.close_stream(client);
                    Ok(())
                }
            }
            (State::Leaving | State::Away, _) => Ok(()),
            _ => {
                self.log_in(client, root);
                Ok(())
            }
        }
    }

    fn bound(&mut self, client: usize, jid: &str) -> Check {
        let account = self.clients[client].account.clone();
        if jid != self.clients[client].name() {
            return broken(Invariant::NoBug, format!("{} was bound as {jid}", self.clients[client].name()));
        }
        self.model.sessions.push(Session {
            client,
            began: self.step,
            account,
            jid: jid.to_string(),
            alive: true,
            managed: false,
            restarted: false,
            priority: None,
            heard: false,
            unsure: false,
            roster: None,
            seen: BTreeMap::new(),
            blocked: BTreeMap::new(),
            rooms: BTreeMap::new(),
            wants: false,
            steady: None,
            nodes: BTreeMap::new(),
            page: Vec::new(),
            directed: Vec::new(),
            messages: BTreeMap::new(),
            newest: BTreeMap::new(),
        });
        let session = self.model.sessions.len() - 1;
        self.clients[client].session = Some(session);
        self.clients[client].state = State::Online;
        self.enable(client, session);
        self.send_left_over(client, session);
        self.greet(session);
        Ok(())
    }

    fn stanza(&mut self, session: usize, stanza: ElementRef<'_>, left: u64) -> Check {
        let kind = stanza.attr("type").unwrap_or_default();
        let answer = match stanza.name() {
            "iq" => matches!(kind, "result" | "error"),
            "message" => kind == "error" && stanza.children().all(|c| c.ns() != ns::CARBONS),
            _ => kind == "error",
        };
        if answer {
            return self.answer(session, stanza, left);
        }
        if let Some(from) = stanza.attr("from").filter(|from| rooms::is_of_service(from)) {
            return self.room_stanza(session, stanza, from);
        }
        let own = &self.model.sessions[session];
        let from = match (stanza.attr("from"), stanza.name()) {
            (Some(from), _) => from.to_string(),
            (None, "iq") => own.account.clone(),
            (None, name) => return broken(Invariant::TrueSender, format!("{} got {name} from nobody", own.jid)),
        };
        let sent = stanza.attr("id").and_then(|id| self.model.by_id(id)).map(|(_, sent)| sent.step);
        self.unseen(session, &from, sent)?;
        match stanza.name() {
            "message" => self.message(session, stanza, &from),
            "presence" => self.presence(session, stanza, &from, kind),
            _ => self.request_from(session, stanza, &from, left),
        }
    }

    /// Nothing comes from an address that is surely blocked, neither behind the news of it nor sent after it.
    fn unseen(&self, session: usize, from: &str, sent: Option<u64>) -> Check {
        let own = &self.model.sessions[session];
        if bare(from) == own.account {
            return Ok(());
        }
        let Some(block) = self.model.surely_blocked(&own.account, from) else { return Ok(()) };
        // What a slow client is told late may be of an earlier block, which was lifted in between.
        let lifted = [from, bare(from)].into_iter().any(|jid| {
            let mut writes = self.model.registers.of(&own.account, &Key::Block(jid.to_string())).iter();
            writes.any(|w| w.value.is_empty() && w.sent < block.sent && w.done.is_none_or(|done| done > own.began))
        });
        let told = [from, bare(from)].into_iter().filter_map(|jid| own.blocked.get(jid)).any(|at| *at >= block.sent);
        let told = told && !lifted;
        let later = sent.is_some_and(|sent| block.done.is_some_and(|done| done < sent));
        match told || later {
            true => broken(Invariant::BlockedUnseen, format!("{} got something from {from}", own.jid)),
            false => Ok(()),
        }
    }

    fn message(&mut self, session: usize, stanza: ElementRef<'_>, from: &str) -> Check {
        let own = self.model.sessions[session].jid.clone();
        if let Some(result) = stanza.child(ns::MAM, "result").filter(|_| from == bare(&own)) {
            return self.archive_result(session, result);
        }
        let carbon = stanza.children().find(|c| c.ns() == ns::CARBONS);
        let Some(carbon) = carbon else {
            let spooled = stanza.has_child(ns::DELAY, "delay");
            if let Some(event) = stanza.child(ns::PUBSUB_EVENT, "event") {
                return self.event(session, from, event, spooled);
            }
            return self.message_itself(session, stanza, from, if spooled { "spool" } else { "live" });
        };
        if from != bare(&own) {
            return broken(Invariant::TrueSender, format!("{own} got a copy from {from}"));
        }
        let inner = carbon.children().next().and_then(|f| f.child(ns::CLIENT, "message"));
        let Some(inner) = inner else { return broken(Invariant::NoBug, format!("{own} got an empty copy")) };
        let Some(inner_from) = inner.attr("from") else {
            return broken(Invariant::TrueSender, format!("{own} got a copy of a message from nobody"));
        };
        self.count("carbons");
        if inner.attr("type") == Some("error") {
            // What the server itself says in somebody's name.
            return Ok(());
        }
        let sent = inner.attr("id").and_then(|id| self.model.by_id(id)).map(|(_, sent)| sent.step);
        self.unseen(session, inner_from, sent)?;
        if carbon.name() == "sent" && bare(inner_from) != bare(&own) {
            return broken(Invariant::TrueSender, format!("{own} got as sent what {inner_from} sent"));
        }
        let way = if carbon.name() == "sent" { "sent copy" } else { "received copy" };
        self.message_itself(session, inner, inner_from, way)
    }

    fn message_itself(&mut self, session: usize, stanza: ElementRef<'_>, from: &str, way: &'static str) -> Check {
        self.count("messages that arrived");
        let own = self.model.sessions[session].jid.clone();
        let Some((number, sent)) = stanza.attr("id").and_then(|id| self.model.by_id(id)) else {
            return broken(Invariant::TrueSender, format!("{own} got a message that nobody has sent"));
        };
        let sender = sent.session;
        if self.model.sessions[sender].jid != from {
            let text = format!("{own} got x{number} from {from}, and {} sent it", self.model.sessions[sender].jid);
            return broken(Invariant::TrueSender, text);
        }
        let (sent_again, excused) = (sent.again, sent.excused);
        let again = sent_again || way == "spool" && sent.step < self.model.trouble;
        // What was kept for whoever comes, and what has waited for this session, are ordered each by itself.
        let how = match (way, sent.step < self.model.sessions[session].began) {
            ("spool", true) => Way::Kept,
            ("spool", false) => Way::Waited,
            _ => Way::Straight,
        };
        let lane = (sender, how, sent.to.clone().unwrap_or_default());
        if matches!(way, "live" | "spool") {
            self.model.sent[number].arrived = true;
        }
        // What a session has left is owed to a sender with stream management, too.
        let some_managed = self.model.sessions[sender].managed
            || self.model.sessions.iter().any(|s| s.managed && s.account == bare(&own));
        if way == "spool" {
            self.count("messages out of the spool");
            let first = *self.model.spooled.entry((bare(&own).to_string(), number)).or_insert(session);
            // What a session has left may go to several others, and it may have read that without acknowledging it.
            // What was handed to a client and not taken when its connection was closed goes to another: nobody knows
            // what it has read.
            if first != session && !again && !some_managed && !excused {
                return broken(Invariant::NotTwice, format!("{own} got x{number} out of the spool, another before it"));
            }
        }
        let s = &mut self.model.sessions[session];
        // What nobody could take is kept and copied at once (XEP-0280 section 7).
        let kept = |before| matches!((before, way), ("received copy", "spool") | ("spool", "received copy"));
        // What a session has left goes to another, which has had a copy of it.
        let left = |before| matches!((before, way), ("sent copy", "spool") | ("spool", "sent copy"));
        let restarted = s.restarted && way == "spool";
        if let Some(before) = s.messages.insert(number, way)
            && !again
            && !kept(before)
            && !restarted
            && !(some_managed && left(before))
        {
            return broken(Invariant::NotTwice, format!("{own} got x{number} as {before} and as {way}"));
        }
        // What another session has left comes late. That for its address comes at once (RFC 6121 section 8.5.3.1), and
        // before what has waited for it to be available (XEP-0160).
        let late = way == "spool" && some_managed && (lane.2 != own || how == Way::Kept);
        if matches!(way, "live" | "spool") && !again && !late {
            let newest = s.newest.entry(lane).or_insert(number);
            if *newest > number {
                return broken(Invariant::OrderKept, format!("{own} got x{number} behind x{newest}, both from {from}"));
            }
            *newest = number;
        }
        Ok(())
    }

    fn presence(&mut self, session: usize, stanza: ElementRef<'_>, from: &str, kind: &str) -> Check {
        let own = self.model.sessions[session].jid.clone();
        if let Some((number, sent)) = stanza.attr("id").and_then(|id| self.model.by_id(id)) {
            let sender = &self.model.sessions[sent.session];
            let right = match sent.what {
                What::Subscription => &sender.account,
                _ => &sender.jid,
            };
            if right != from {
                return broken(Invariant::TrueSender, format!("{own} got x{number} from {from}, and {right} sent it"));
            }
            if kind.is_empty() {
                let (sender, directed) = (sent.session, matches!(sent.what, What::Directed));
                self.count("presences that arrived");
                let s = &mut self.model.sessions[session];
                s.heard |= from == own;
                s.unsure |= directed && !s.heard;
                s.seen.insert(from.to_string(), sender);
                return Ok(());
            }
        }
        match kind {
            "" => broken(Invariant::TrueSender, format!("{own} got presence of {from} that nobody has sent")),
            "unavailable" => {
                let gone = |jid: &str| jid == from || bare(jid) == from;
                self.model.sessions[session].seen.retain(|jid, _| !gone(jid));
                Ok(())
            }
            "subscribe" | "subscribed" | "unsubscribe" | "unsubscribed" if bare(from) == from => {
                self.count("subscription stanzas that arrived");
                Ok(())
            }
            _ => broken(Invariant::TrueSender, format!("{own} got presence {kind} from {from}")),
        }
    }

    /// A push, or a question of another client.
    fn request_from(&mut self, session: usize, stanza: ElementRef<'_>, from: &str, left: u64) -> Check {
        let Session { jid, account, client, .. } = &self.model.sessions[session];
        let (jid, account, client) = (jid.clone(), account.clone(), *client);
        let Some(child) = stanza.children().next() else {
            return broken(Invariant::NoBug, format!("{jid} got an empty request"));
        };
        let is_push = child.is(ns::ROSTER, "query") || child.ns() == ns::BLOCKING;
        if is_push && from != account {
            return broken(Invariant::TrueSender, format!("{jid} got a push from {from}"));
        }
        if child.is(ns::DISCO_INFO, "query") && from == account {
            self.tell_capabilities(client, from, stanza, child);
            return Ok(());
        }
        let items = child.children().filter_map(|item| Some((item.attr("jid")?.to_string(), item)));
        if child.is(ns::ROSTER, "query") {
            self.count("roster pushes");
            let Some(roster) = &mut self.model.sessions[session].roster else { return Ok(()) };
            for (contact, item) in items {
                match item.attr("subscription") {
                    Some("remove") => _ = roster.remove(&contact),
                    _ => _ = roster.insert(contact, item_view(item)),
                }
            }
        } else if is_push {
            self.count("block pushes");
            let jids: Vec<String> = items.map(|(contact, _)| contact).collect();
            self.block_known(session, &jids, child.name() == "block", left);
        } else {
            let right = stanza.attr("id").and_then(|id| self.model.by_id(id)).map(|(_, sent)| sent.session);
            if right.is_none_or(|sender| self.model.sessions[sender].jid != from) {
                return broken(Invariant::TrueSender, format!("{jid} got a question from {from} who asked none"));
            }
        }
        let id = stanza.attr("id").unwrap_or_default();
        self.say_stanza(client, None, format!("<iq type='result' to='{from}' id='{id}'/>"));
        Ok(())
    }

    fn block_known(&mut self, session: usize, jids: &[String], on: bool, left: u64) {
        let s = &mut self.model.sessions[session];
        for jid in jids {
            if on {
                s.blocked.insert(jid.clone(), left);
                s.seen.retain(|seen, _| seen != jid && bare(seen) != jid);
            } else {
                s.blocked.remove(jid);
            }
        }
    }

    /// A result, or an error of any kind.
    fn answer(&mut self, session: usize, stanza: ElementRef<'_>, left: u64) -> Check {
        let jid = self.model.sessions[session].jid.clone();
        let account = bare(&jid).to_string();
        let failed = stanza.attr("type") == Some("error");
        if failed && stanza.name() == "presence" {
            self.room_refuses(session, stanza.attr("from").unwrap_or_default());
        }
        let Some((number, sent)) = stanza.attr("id").and_then(|id| self.model.by_id(id)) else {
            let text = format!("{jid} got an answer to what it has not asked: {}", stanza.to_xml());
            return broken(Invariant::AnsweredOnce, text);
        };
        if matches!(sent.what, What::Peer) && sent.session != session && self.model.sessions[sent.session].jid == jid {
            // The peer answers to an address, and that has passed to a new session.
            return Ok(());
        }
        let asker = &self.model.sessions[sent.session];
        if stanza.name() == "message" && asker.account == account || stanza.name() != "iq" && asker.jid == jid {
            // It has waited for whoever comes under that address, or was left by a session that is over.
            return Ok(());
        }
        if sent.session != session {
            return broken(Invariant::AnsweredOnce, format!("{jid} got the answer to x{number}, which is another's"));
        }
        let asked = sent.to.clone().unwrap_or_else(|| account.clone());
        if stanza.attr("from").is_some_and(|from| from != asked) || (sent.to.is_some() && stanza.attr("from").is_none())
        {
            let text = format!("{jid} asked {asked} and got the answer of {:?}", stanza.attr("from"));
            return broken(Invariant::TrueSender, text);
        }
        let (what, step, sent_to) = (sent.what.clone(), sent.step, sent.to.clone());
        let writes = sent.writes.clone();
        if failed {
            self.count("errors");
        }
        if stanza.name() != "iq" {
            return Ok(());
        }
        let sent = &mut self.model.sent[number];
        sent.answers += 1;
        if sent.answers > 1 && !(sent.again && matches!(what, What::Peer)) {
            return broken(Invariant::AnsweredOnce, format!("{jid} got another answer to x{number}"));
        }
        let fate = if failed { Fate::Refused } else { Fate::Acknowledged };
        writes.iter().for_each(|write| self.model.registers.end(write, fate, self.step));
        if let (What::Items(owner, node), true) = (&what, failed) {
            return self.items_read(session, owner, node, None, step);
        }
        if failed {
            return Ok(());
        }
        let child = stanza.children().next();
        match what {
            What::Items(owner, node) => self.items_read(session, &owner, node, child, step)?,
            What::RosterGet => {
                let items = child.into_iter().flat_map(|c| c.children());
                let roster: BTreeMap<String, ItemView> =
                    items.filter_map(|item| Some((item.attr("jid")?.to_string(), item_view(item)))).collect();
                for (contact, view) in &roster {
                    self.read_back(&account, &Key::Name(contact.clone()), &view.0, step)?;
                }
                self.model.sessions[session].roster = Some(roster);
            }
            What::BlockGet => {
                let items = child.into_iter().flat_map(|c| c.children());
                let jids: Vec<String> = items.filter_map(|i| i.attr("jid")).map(str::to_string).collect();
                self.model.sessions[session].blocked.clear();
                self.block_known(session, &jids, true, left);
                let keys: Vec<Key> =
                    self.model.registers.keys().filter(|k| k.0 == account).map(|k| k.1.clone()).collect();
                for key in keys {
                    if let Key::Block(jid) = &key {
                        self.read_back(&account, &key, if jids.contains(jid) { "yes" } else { "" }, step)?;
                    }
                }
            }
            What::Block { jids, on } => self.block_known(session, &jids, on, left),
            What::Unlock => self.unlocked(session, &sent_to.unwrap_or_default()),
            What::RoomList(value) => {
                let room = sent_to.unwrap_or_default();
                if let Some(child) = child {
                    self.affiliations_read(&room, value, child, step)?;
                }
            }
            What::PrivateGet(n) => {
                let value = child.map(deep_text).unwrap_or_default();
                self.read_back(&account, &Key::Private(n), &value, step)?;
            }
            What::Archive => self.archive_read(session, number, child)?,
            What::VCardGet(owner) => {
                let value = child.map(deep_text).unwrap_or_default();
                self.read_back(&owner, &Key::VCard, &value, step)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// A client asked at `since` and was told `value`.
    fn read_back(&mut self, account: &str, key: &Key, value: &str, since: u64) -> Check {
        self.count("registers read");
        match self.model.registers.may_hold(account, key, value, since) {
            true => Ok(()),
            false => broken(Invariant::NothingLost, format!("{key:?} of {account} was said to be {value:?}")),
        }
    }
}

fn item_view(item: ElementRef<'_>) -> ItemView {
    let text = |name| item.attr(name).unwrap_or_default().to_string();
    (text("name"), text("subscription"), item.attr("ask").is_some(), item.attr("approved") == Some("true"))
}

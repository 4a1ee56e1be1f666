//! Clients of servers that speak with each other: they log in, talk across domains, and count (XEP-0198).

use super::model::{Message, Question, Session, domain};
use super::plan::LIAR;
use super::world::{World, password};
use crate::model::{Check, Invariant, bare, broken};
use crate::network::{Flying, Frame};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use couplet::core::io::ConnId;
use couplet::xml::{ElementRef, ns};
use std::collections::{BTreeMap, VecDeque};

/// Marks what nobody may ever read.
pub const LIE: &str = "sim:lie";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Away,
    Greeting,
    LoggingIn,
    Known,
    Binding,
    Online,
    Leaving,
}

/// What a client knows of the counts of its stream.
#[derive(Debug, Default)]
pub struct Counts {
    /// The server has said that it counts what it sends.
    counts: bool,
    handled: u32,
    told: u32,
    acked: u32,
    /// Messages among those behind, by their numbers.
    unacked: VecDeque<Option<usize>>,
    asked: bool,
    asked_at_rest: bool,
}

pub struct Client {
    pub account: String,
    pub server: usize,
    pub state: State,
    pub conn: Option<ConnId>,
    pub session: Option<usize>,
    pub counts: Option<Counts>,
    /// It has said that it is there.
    available: bool,
}

impl Client {
    pub fn new(account: &str, server: usize) -> Self {
        Self {
            account: account.to_string(),
            server,
            state: State::Away,
            conn: None,
            session: None,
            counts: None,
            available: false,
        }
    }

    pub fn name(&self) -> String {
        format!("{}/c", self.account)
    }
}

/// Something that a person might do.
#[derive(Clone, Copy, Debug)]
enum Act {
    Message,
    Presence,
    Unavailable,
    Subscription,
    Ask,
    Block,
    Count,
    Acknowledge,
    Close,
}

impl World {
    pub fn act(&mut self, client: usize) -> Check {
        if self.clients[client].state == State::Away {
            return self.connect(client);
        }
        let Some(session) = self.clients[client].session else { return Ok(()) };
        let acts = [
            (50, Act::Message),
            (4, Act::Presence),
            (2, Act::Unavailable),
            (self.plan.subscription_weight, Act::Subscription),
            (16, Act::Ask),
            (self.plan.block_weight, Act::Block),
            (10, Act::Count),
            (8, Act::Acknowledge),
            (1, Act::Close),
        ];
        let Some(act) = self.rng.weighted(&acts) else { return Ok(()) };
        match act {
            Act::Message => self.send_message(session),
            Act::Presence => self.be_available(client, true),
            Act::Unavailable => self.be_available(client, false),
            Act::Subscription => {
                let kind = self.rng.pick(&["subscribe", "subscribed", "subscribed", "unsubscribe", "unsubscribed"]);
                let to = self.somebody();
                self.say_stanza(client, None, &format!("<presence to='{to}' type='{kind}'/>"));
            }
            Act::Ask => self.ask_somebody(session),
            Act::Block => self.block(session),
            Act::Count => self.ask_count(client),
            Act::Acknowledge => self.acknowledge(client),
            Act::Close => self.close_stream(client),
        }
        Ok(())
    }

    fn be_available(&mut self, client: usize, available: bool) {
        self.clients[client].available = available;
        self.say_stanza(client, None, if available { "<presence/>" } else { "<presence type='unavailable'/>" });
    }

    /// A bare address at which somebody is.
    fn somebody(&mut self) -> String {
        let client = self.rng.below(self.clients.len());
        self.clients[client].account.clone()
    }

    fn send_message(&mut self, session: usize) {
        let client = self.model.sessions[session].client;
        let to = match self.rng.below(20) {
            0 => format!("nobody@{}", self.rng.pick(&self.plan.domains)),
            1 => "x@void.example".to_string(),
            2 if self.plan.liar_weight > 0 => format!("x@{LIAR}"),
            3..=7 => format!("{}/c", self.somebody()),
            _ => self.somebody(),
        };
        let words = if self.rng.percent(10) { 300 } else { 1 + self.rng.below(5) };
        let number = self.model.messages.len();
        let xml =
            format!("<message id='m{number}' to='{to}' type='chat'><body>{}</body></message>", "ha ".repeat(words));
        let step = self.step;
        self.model.messages.push(Message { session, to, step, counted: false, read: 0, errors: 0 });
        self.count("messages");
        self.say_stanza(client, Some(number), &xml);
    }

    fn ask_somebody(&mut self, session: usize) {
        let client = self.model.sessions[session].client;
        let ping = format!("<ping xmlns='{}'/>", ns::PING);
        let (to, child, owed) = match self.rng.below(8) {
            0 => ("void.example".to_string(), ping, true),
            1 => (self.somebody(), "<query xmlns='sim:unknown'/>".to_string(), true),
            2 => (format!("{}/c", self.somebody()), ping, false),
            3 if self.plan.liar_weight > 0 => (LIAR.to_string(), ping, false),
            _ => (self.rng.pick(&self.plan.domains), ping, true),
        };
        let number = self.model.questions.len();
        let xml = format!("<iq id='q{number}' to='{to}' type='get'>{child}</iq>");
        self.model.questions.push(Question { session, to, step: self.step, answers: 0, owed });
        self.count("questions");
        self.say_stanza(client, None, &xml);
    }

    fn block(&mut self, session: usize) {
        let (client, account) = (self.model.sessions[session].client, self.model.sessions[session].account.clone());
        let jid = self.somebody();
        if jid == account {
            return;
        }
        let number = self.model.blocks.len();
        let child = format!("<block xmlns='{}'><item jid='{jid}'/></block>", ns::BLOCKING);
        self.model.blocks.push((account, jid));
        self.say_stanza(client, None, &format!("<iq id='b{number}' type='set'>{child}</iq>"));
    }

    pub fn close_stream(&mut self, client: usize) {
        if !matches!(self.clients[client].state, State::Away | State::Leaving) {
            self.acknowledge(client);
            self.say(client, "</stream:stream>");
            self.clients[client].state = State::Leaving;
        }
    }

    pub fn say(&mut self, client: usize, xml: &str) {
        let (name, server) = (self.clients[client].name(), self.clients[client].server);
        self.note(|| format!("{name}: {xml}"));
        let Some(conn) = self.clients[client].conn else { return };
        if let Some(link) = self.servers[server].links.get_mut(&conn)
            && !link.closed
        {
            link.to_server.extend_from_slice(xml.as_bytes());
        }
    }

    fn say_stanza(&mut self, client: usize, number: Option<usize>, xml: &str) {
        self.say(client, xml);
        if let Some(counts) = &mut self.clients[client].counts {
            counts.unacked.push_back(number);
        }
    }

    pub fn send_header(&mut self, client: usize) {
        let host = self.plan.domains[self.clients[client].server].clone();
        let header = format!(
            "<?xml version='1.0'?><stream:stream xmlns='{}' xmlns:stream='{}' to='{host}' version='1.0'>",
            ns::CLIENT,
            ns::STREAM
        );
        self.say(client, &header);
    }

    fn ask_count(&mut self, client: usize) {
        if self.clients[client].counts.is_some() {
            self.say(client, &format!("<r xmlns='{}'/>", ns::SM));
        }
    }

    fn acknowledge(&mut self, client: usize) {
        let Some(counts) = self.clients[client].counts.as_mut().filter(|c| c.counts) else { return };
        (counts.told, counts.asked) = (counts.handled, false);
        let xml = format!("<a xmlns='{}' h='{}'/>", ns::SM, counts.handled);
        self.say(client, &xml);
    }

    /// Says what is left to be said when nothing else happens. False when that is nothing.
    pub fn settle_counts(&mut self) -> bool {
        let mut said = false;
        for client in 0..self.clients.len() {
            let is_online = self.clients[client].state == State::Online;
            let Some(counts) = self.clients[client].counts.as_mut().filter(|c| c.counts && is_online) else { continue };
            let asks = !counts.unacked.is_empty() && !counts.asked_at_rest;
            counts.asked_at_rest |= asks;
            if counts.told != counts.handled || counts.asked {
                self.acknowledge(client);
                said = true;
            }
            if asks {
                self.ask_count(client);
                said = true;
            }
        }
        said
    }

    /// Forgets what was said at the last rest. Everybody is there.
    pub fn stir(&mut self) {
        for client in 0..self.clients.len() {
            if self.clients[client].state == State::Online && !self.clients[client].available {
                self.be_available(client, true);
            }
        }
        self.clients.iter_mut().filter_map(|c| c.counts.as_mut()).for_each(|c| c.asked_at_rest = false);
    }

    /// The connection of a client is no more.
    pub fn lose(&mut self, client: usize) {
        let c = &mut self.clients[client];
        (c.state, c.conn, c.counts) = (State::Away, None, None);
        if let Some(session) = c.session.take() {
            self.model.sessions[session].alive = false;
            self.model.left.insert(self.clients[client].account.clone(), self.step);
        }
    }

    /// A frame has reached its client.
    pub fn arrived(&mut self, client: usize, flying: Flying) -> Check {
        let element = match flying.frame {
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
        if root.to_xml().contains(LIE) {
            return broken(Invariant::TrueSender, format!("{name} reads what a liar says: {}", root.to_xml()));
        }
        match (self.clients[client].state, self.clients[client].session) {
            (State::Online | State::Leaving, Some(_)) if root.ns() == ns::SM => self.counted(client, root),
            (State::Online | State::Leaving, Some(session)) if root.ns() == ns::CLIENT => {
                if let Some(counts) = self.clients[client].counts.as_mut().filter(|c| c.counts) {
                    counts.handled += 1;
                }
                self.stanza(client, session, root)
            }
            (State::Binding, _) if root.attr("id") == Some("bind") => {
                self.bound(client);
                Ok(())
            }
            (State::Leaving | State::Away | State::Online, _) => Ok(()),
            _ => {
                self.log_in(client, root);
                Ok(())
            }
        }
    }

    fn log_in(&mut self, client: usize, element: ElementRef<'_>) {
        let account = self.clients[client].account.clone();
        let user = account.split('@').next().unwrap_or_default();
        match (self.clients[client].state, element.ns(), element.name()) {
            (State::Greeting, ns::STREAM, "features") => {
                let message = STANDARD.encode(format!("\0{user}\0{}", password(&account)));
                self.say(client, &format!("<auth xmlns='{}' mechanism='PLAIN'>{message}</auth>", ns::SASL));
                self.clients[client].state = State::LoggingIn;
            }
            (State::LoggingIn, ns::SASL, "success") => {
                self.send_header(client);
                self.clients[client].state = State::Known;
            }
            (State::Known, ns::STREAM, "features") => {
                let bind = format!("<bind xmlns='{}'><resource>c</resource></bind>", ns::BIND);
                self.say(client, &format!("<iq type='set' id='bind'>{bind}</iq>"));
                self.clients[client].state = State::Binding;
            }
            _ => self.close_stream(client),
        }
    }

    fn bound(&mut self, client: usize) {
        let (account, jid) = (self.clients[client].account.clone(), self.clients[client].name());
        let (newest, blocked) = (BTreeMap::new(), BTreeMap::new());
        self.model.sessions.push(Session { client, account, jid, alive: true, newest, blocked });
        self.clients[client].session = Some(self.model.sessions.len() - 1);
        self.clients[client].state = State::Online;
        if self.rng.percent(self.plan.managed_percent) {
            self.say(client, &format!("<enable xmlns='{}'/>", ns::SM));
            self.clients[client].counts = Some(Counts::default());
        }
        self.be_available(client, true);
    }

    fn counted(&mut self, client: usize, root: ElementRef<'_>) -> Check {
        let h: Option<u32> = root.attr("h").and_then(|h| h.parse().ok());
        let name = self.clients[client].name();
        let Some(counts) = &mut self.clients[client].counts else { return Ok(()) };
        match (root.name(), h) {
            ("enabled", _) => counts.counts = true,
            ("r", _) => {
                counts.asked = true;
                if self.rng.percent(80) {
                    self.acknowledge(client);
                }
            }
            ("a", Some(h)) => {
                let fresh = h.wrapping_sub(counts.acked) as usize;
                if fresh > counts.unacked.len() {
                    return broken(Invariant::NothingLost, format!("{name} hears of {h} stanzas"));
                }
                counts.acked = h;
                let fresh: Vec<usize> = counts.unacked.drain(..fresh).flatten().collect();
                for number in fresh {
                    self.count("messages that were counted");
                    self.model.messages[number].counted = true;
                }
            }
            _ => return broken(Invariant::NoBug, format!("{name} got {}", root.to_xml())),
        }
        Ok(())
    }

    fn stanza(&mut self, client: usize, session: usize, stanza: ElementRef<'_>) -> Check {
        let kind = stanza.attr("type").unwrap_or_default();
        let from = stanza.attr("from").unwrap_or_default().to_string();
        let number = |prefix: char| stanza.attr("id").and_then(|id| id.strip_prefix(prefix)?.parse::<usize>().ok());
        match (stanza.name(), kind) {
            ("message", "error") => match number('m') {
                Some(number) => self.bounced(session, number, &from),
                None => Ok(()),
            },
            ("message", _) if stanza.attr("id") == Some("honest") && domain(&from) == LIAR => {
                self.count("messages of the liar in its own name");
                Ok(())
            }
            ("message", _) => match number('m') {
                Some(number) => self.read_message(session, number, &from, stanza),
                None => broken(Invariant::TrueSender, format!("a message that nobody has sent: {}", stanza.to_xml())),
            },
            ("iq", "result" | "error") => match (number('q'), number('b')) {
                (Some(number), _) => self.answered(session, number, &from),
                (_, Some(number)) if kind == "result" => {
                    let jid = self.model.blocks[number].1.clone();
                    self.model.sessions[session].blocked.insert(jid, self.step);
                    Ok(())
                }
                _ => Ok(()),
            },
            ("iq", _) => {
                let id = stanza.attr("id").unwrap_or_default();
                self.say_stanza(client, None, &format!("<iq type='result' to='{from}' id='{id}'/>"));
                Ok(())
            }
            _ => {
                self.count("presences that arrived");
                Ok(())
            }
        }
    }

    fn read_message(&mut self, session: usize, number: usize, from: &str, stanza: ElementRef<'_>) -> Check {
        let (account, jid) = (self.model.sessions[session].account.clone(), self.model.sessions[session].jid.clone());
        let Some(message) = self.model.messages.get_mut(number) else {
            return broken(Invariant::TrueSender, format!("{jid} reads m{number}, which nobody has sent"));
        };
        message.read += 1;
        let (step, sender, read, to) = (message.step, message.session, message.read, message.to.clone());
        let errors = message.errors;
        let true_from = self.model.sessions[sender].jid.clone();
        if from != true_from || bare(&to) != account {
            return broken(Invariant::TrueSender, format!("{jid} reads m{number} of {true_from} to {to} from {from}"));
        }
        self.count(if domain(from) == domain(&jid) { "messages inside" } else { "messages between servers" });
        if self.model.sessions[session].blocked.get(bare(from)).is_some_and(|at| *at < step) {
            return broken(Invariant::BlockedUnseen, format!("{jid} reads m{number} of {from}, whom it has blocked"));
        }
        let may_repeat = self.may_repeat(number);
        if read + errors > 1 && !may_repeat {
            let text = format!("{jid} reads m{number} of {from}: {read} times, {errors} errors");
            return broken(Invariant::NotTwice, text);
        }
        if read > 1 {
            self.count("messages that came again");
            return Ok(());
        }
        let kept = stanza.children().any(|c| c.is(ns::DELAY, "delay") && c.attr("from") == Some(domain(&jid)));
        // Without stream management between the servers, what one connection has lost another passes. What a session
        // has left comes behind what has come for the account since.
        if !self.is_counted(sender, session) && may_repeat || kept && self.model.has_left(&account, step) {
            return Ok(());
        }
        let newest = self.model.sessions[session].newest.entry((sender, kept)).or_insert(number);
        if *newest > number {
            return broken(Invariant::OrderKept, format!("{jid} reads m{number} of {from} behind m{newest}"));
        }
        *newest = number;
        Ok(())
    }

    /// True when both servers count what they send each other, or are one.
    fn is_counted(&self, a: usize, b: usize) -> bool {
        let server = |session: usize| self.clients[self.model.sessions[session].client].server;
        server(a) == server(b) || self.plan.proof == super::plan::Proof::Certificates
    }

    /// True when a message may come twice, or come and come back: a server on its way has crashed, a connection
    /// between them has ended, or a session of its addressee, before what was sent on it was acknowledged.
    fn may_repeat(&self, number: usize) -> bool {
        let message = &self.model.messages[number];
        let from = self.clients[self.model.sessions[message.session].client].server;
        let Some(to) = self.server_of(&message.to) else { return true };
        let since = message.step;
        self.model.troubled(from, since)
            || self.model.troubled(to, since)
            || self.model.was_cut(from, to, since)
            || self.model.has_left(bare(&message.to), since)
    }

    fn bounced(&mut self, session: usize, number: usize, from: &str) -> Check {
        let jid = self.model.sessions[session].jid.clone();
        let Some(message) = self.model.messages.get_mut(number) else {
            return broken(
                Invariant::AnsweredOnce,
                format!("{jid} reads an error for m{number}, which nobody has sent"),
            );
        };
        message.errors += 1;
        let (read, errors, to) = (message.read, message.errors, message.to.clone());
        let sender = self.model.sessions[message.session].account.clone();
        if to != from || sender != self.model.sessions[session].account {
            return broken(Invariant::TrueSender, format!("{jid} reads the error for m{number} to {to} from {from}"));
        }
        self.count("messages that came back");
        // Its sender may have lost the session that has read it before it was acknowledged.
        let repeats = self.may_repeat(number) || self.model.has_left(&sender, self.model.messages[number].step);
        if read + errors > 1 && !repeats {
            let text = format!("m{number} of {sender} came back: read {read} times, {errors} errors");
            return broken(Invariant::NotTwice, text);
        }
        Ok(())
    }

    fn answered(&mut self, session: usize, number: usize, from: &str) -> Check {
        let jid = self.model.sessions[session].jid.clone();
        let Some(question) = self.model.questions.get_mut(number) else {
            return broken(Invariant::AnsweredOnce, format!("{jid} gets an answer to q{number}, which nobody asked"));
        };
        if question.session != session {
            // It has waited for the address, at which somebody else is by now.
            return Ok(());
        }
        question.answers += 1;
        let (to, step, answers) = (question.to.clone(), question.step, question.answers);
        self.count("questions that were answered");
        if to != from {
            return broken(Invariant::TrueSender, format!("{jid} asked {to} and gets the answer of {from}"));
        }
        let own = self.clients[self.model.sessions[session].client].server;
        let troubled = |model: &super::model::Model, server: usize| {
            model.troubled(server, step) || model.was_cut(own, server, step) || model.has_left(bare(&to), step)
        };
        if answers > 1 && !self.server_of(&to).is_some_and(|server| troubled(&self.model, server)) {
            return broken(Invariant::AnsweredOnce, format!("{jid} gets another answer to q{number} of {to}"));
        }
        Ok(())
    }
}

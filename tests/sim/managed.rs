//! Clients with stream management (XEP-0198): they count, ask, acknowledge, resume, and send again what was not safe.

use super::client::State;
use super::model::{Check, Fate, Invariant, Key, What, WriteId, bare, broken};
use super::world::World;
use couplet::xml::{ElementRef, ns};
use std::collections::VecDeque;

/// What a client knows of a stream's counts. It outlives the connection when the session can be resumed.
#[derive(Debug)]
pub struct Managed {
    /// The name by which the session is resumed, once it has one.
    pub id: Option<String>,
    /// The session of the model.
    pub session: usize,
    /// The server has said that it counts what it sends.
    counts: bool,
    /// Stanzas that were read since.
    handled: u32,
    /// How many of them the server has been told of.
    told: u32,
    /// Stanzas of the client that the server says are safe.
    acked: u32,
    /// Those behind, in order: number, if it has one, and text.
    unacked: VecDeque<(Option<usize>, String)>,
    /// An answer is due.
    asked: bool,
    /// In which life of the server it was connected last.
    life: u32,
}

impl World {
    /// A client that has just been bound may want stream management.
    pub fn enable(&mut self, client: usize, session: usize) {
        if !self.rng.percent(self.plan.managed_percent) {
            return;
        }
        let resume = if self.rng.percent(90) { " resume='true'" } else { "" };
        self.say(client, &format!("<enable xmlns='{}'{resume}/>", ns::SM));
        self.model.sessions[session].managed = true;
        let (id, counts, handled, told, acked) = (None, false, 0, 0, 0);
        let (unacked, asked, life) = (VecDeque::new(), false, self.life);
        let managed = Managed { id, session, counts, handled, told, acked, unacked, asked, life };
        self.clients[client].managed = Some(managed);
    }

    /// What an earlier session of the client could not be sure of goes out once more.
    pub fn send_left_over(&mut self, client: usize, session: usize) {
        for (number, xml) in std::mem::take(&mut self.clients[client].left_over) {
            self.count("stanzas sent again in a new session");
            let sent = &mut self.model.sent[number];
            (sent.session, sent.again) = (session, true);
            self.say_stanza(client, Some(number), xml);
        }
    }

    /// A stanza goes on its way.
    pub fn say_stanza(&mut self, client: usize, number: Option<usize>, xml: String) {
        self.say(client, &xml);
        if let Some(managed) = &mut self.clients[client].managed {
            managed.unacked.push_back((number, xml));
        }
    }

    /// A stanza was read.
    pub fn handled(&mut self, client: usize) {
        if let Some(managed) = self.clients[client].managed.as_mut().filter(|m| m.counts) {
            managed.handled += 1;
        }
    }

    /// True while the session has no connection and its client means to resume it.
    pub fn is_parked(&self, session: usize) -> bool {
        let s = &self.model.sessions[session];
        !s.alive && self.clients[s.client].managed.as_ref().is_some_and(|m| m.session == session)
    }

    /// The connection of a session is no more.
    pub fn lose(&mut self, session: usize) {
        let client = self.model.sessions[session].client;
        match &self.clients[client].managed {
            Some(managed) if managed.session == session && managed.id.is_some() => {
                self.model.sessions[session].alive = false;
                self.count("sessions that wait");
            }
            Some(managed) if managed.session == session => self.give_up(client),
            _ => self.model.end_session(session, self.step),
        }
    }

    /// The session cannot be resumed, or shall not be: messages that were not safe go out again in the next one.
    pub fn give_up(&mut self, client: usize) {
        let Some(managed) = self.clients[client].managed.take() else { return };
        self.model.end_session(managed.session, self.step);
        let left = managed.unacked.into_iter().filter_map(|(number, xml)| Some((number?, xml)));
        let left = left.filter(|(number, _)| matches!(self.model.sent[*number].what, What::Message));
        self.clients[client].left_over.extend(left);
    }

    /// Asks to resume what waits. False when nothing does.
    pub fn ask_to_resume(&mut self, client: usize) -> bool {
        if self.rng.percent(8) {
            self.give_up(client);
        }
        let Some(managed) = &mut self.clients[client].managed else { return false };
        let Some(id) = &managed.id else { return false };
        managed.told = managed.handled;
        let xml = format!("<resume xmlns='{}' previd='{id}' h='{}'/>", ns::SM, managed.handled);
        self.say(client, &xml);
        self.clients[client].state = State::Resuming;
        true
    }

    /// An element of stream management arrives.
    pub fn managed(&mut self, client: usize, root: ElementRef<'_>) -> Check {
        let h: Option<u32> = root.attr("h").and_then(|h| h.parse().ok());
        let resuming = self.clients[client].state == State::Resuming;
        let Some(managed) = &mut self.clients[client].managed else { return Ok(()) };
        match (root.name(), h) {
            ("enabled", _) => {
                managed.counts = true;
                managed.id = root.attr("id").map(str::to_string);
            }
            ("r", _) => {
                managed.asked = true;
                if self.rng.percent(80) {
                    self.acknowledge(client);
                }
            }
            ("a", Some(h)) => self.counted(client, h)?,
            ("resumed", Some(h)) if resuming => self.resumed(client, root, h)?,
            ("failed", h) if resuming => {
                self.count("resumptions refused");
                if let Some(h) = h {
                    self.count("resumptions that came too late");
                    self.counted(client, h)?;
                }
                self.give_up(client);
                self.bind(client);
            }
            (name, _) => {
                let name = format!("{} got {name} of stream management", self.clients[client].name());
                return broken(Invariant::NoBug, name);
            }
        }
        Ok(())
    }

    fn resumed(&mut self, client: usize, root: ElementRef<'_>, h: u32) -> Check {
        self.counted(client, h)?;
        let Some(managed) = &mut self.clients[client].managed else { return Ok(()) };
        if root.attr("previd") != managed.id.as_deref() {
            return broken(Invariant::NoBug, "another session was resumed");
        }
        let (session, restarted) = (managed.session, managed.life != self.life);
        (managed.life, managed.asked) = (self.life, false);
        let rest: Vec<(Option<usize>, String)> = managed.unacked.iter().cloned().collect();
        self.count(if restarted { "sessions resumed after a restart" } else { "sessions resumed" });
        let s = &mut self.model.sessions[session];
        s.alive = true;
        // Who has gone meanwhile is not told.
        s.unsure |= restarted;
        s.restarted |= restarted;
        s.steady = s.steady.filter(|_| !restarted);
        self.clients[client].session = Some(session);
        self.clients[client].state = State::Online;
        for (number, xml) in rest {
            self.count("stanzas sent again");
            // A question to another client may have been written for that one before a crash: it gets it twice.
            if let Some(sent) = number.filter(|_| restarted).map(|number| &mut self.model.sent[number]) {
                sent.again |= matches!(sent.what, What::Peer);
            }
            // What was granted by it is granted once more.
            if let Some(sent) = number.map(|number| &self.model.sent[number]) {
                let account = &self.model.sessions[session].account;
                match (&sent.what, &sent.to) {
                    (What::Subscription, Some(to)) => self.model.access.open(account, "presence", to),
                    (What::Admit(to), _) => self.model.access.open(account, "whitelist", to),
                    _ => {}
                }
            }
            self.say(client, &xml);
        }
        Ok(())
    }

    /// Tells the server how much was read.
    pub fn acknowledge(&mut self, client: usize) {
        let Some(managed) = self.clients[client].managed.as_mut().filter(|m| m.counts) else { return };
        (managed.told, managed.asked) = (managed.handled, false);
        let xml = format!("<a xmlns='{}' h='{}'/>", ns::SM, managed.handled);
        self.say(client, &xml);
    }

    /// Asks the server how much is safe.
    pub fn ask(&mut self, client: usize) {
        if self.clients[client].managed.is_some() {
            self.say(client, &format!("<r xmlns='{}'/>", ns::SM));
        }
    }

    /// Says what is left to be said when nothing else happens. False when that is nothing.
    pub fn settle_counts(&mut self) -> bool {
        let mut said = false;
        for client in 0..self.clients.len() {
            let Some(managed) = &self.clients[client].managed else { continue };
            if self.clients[client].state != State::Online {
                continue;
            }
            let (told, safe) = (managed.told == managed.handled && !managed.asked, managed.unacked.is_empty());
            let sent = Some(managed.acked.wrapping_add(managed.unacked.len() as u32));
            if !told && managed.counts {
                self.acknowledge(client);
                said = true;
            }
            let asked = &mut self.clients[client].asked_at_rest;
            if !safe && *asked != sent {
                *asked = sent;
                self.ask(client);
                said = true;
            }
        }
        said
    }

    /// Forgets what was said at the last rest. Somebody looks at every client.
    pub fn stir(&mut self) {
        (0..self.clients.len()).for_each(|client| self.be_idle(client, false));
        self.clients.iter_mut().for_each(|c| c.asked_at_rest = None);
    }

    /// The client reads that so many of its stanzas are safe.
    fn counted(&mut self, client: usize, h: u32) -> Check {
        let name = self.clients[client].name();
        let Some(managed) = &mut self.clients[client].managed else { return Ok(()) };
        let fresh = h.wrapping_sub(managed.acked) as usize;
        if fresh > managed.unacked.len() {
            let text = format!("{name} hears of {h} stanzas, was told of {} before", managed.acked);
            return broken(Invariant::NothingLost, format!("{text} and waits for {}", managed.unacked.len()));
        }
        managed.acked = h;
        let fresh: Vec<usize> = managed.unacked.drain(..fresh).filter_map(|(number, _)| number).collect();
        for number in fresh {
            self.count("stanzas that were acknowledged");
            let sent = &mut self.model.sent[number];
            sent.counted = true;
            if self.is_surely_written(number) {
                let writes = self.model.sent[number].writes.clone();
                writes.iter().for_each(|write| self.model.registers.end(write, Fate::Acknowledged, self.step));
            }
        }
        Ok(())
    }

    /// The server lets a count go: all that it counts must be safe by now.
    pub fn count_left(&self, client: usize, root: ElementRef<'_>) -> Check {
        let (Some(h), Some(managed)) = (root.attr("h"), &self.clients[client].managed) else { return Ok(()) };
        let Ok(h) = h.parse::<u32>() else { return broken(Invariant::NoBug, "no number") };
        let fresh = h.wrapping_sub(managed.acked) as usize;
        for number in managed.unacked.iter().take(fresh).filter_map(|(number, _)| *number) {
            if self.model.sent[number].refused {
                continue;
            }
            if self.is_surely_written(number) {
                self.written(number)?;
            }
            if !self.is_safe(number, root.name() != "a") {
                let text = format!("x{number} is counted in {h} and is nowhere: {:?}", self.model.sent[number]);
                return broken(Invariant::NothingEarly, text);
            }
        }
        Ok(())
    }

    /// Whether a request writes, and nothing can refuse that.
    fn is_surely_written(&self, number: usize) -> bool {
        let plain = |write: &WriteId| matches!(write.0.1, Key::Private(_) | Key::VCard);
        !self.plan.may_refuse() && self.model.sent[number].writes.iter().all(plain)
    }

    /// Whether a message has arrived, was refused, or is on the disk. True for what nobody has promised to keep.
    fn is_safe(&self, number: usize, over: bool) -> bool {
        let sent = &self.model.sent[number];
        let Some(account) = sent.to.as_deref().map(bare) else { return true };
        if !matches!(sent.what, What::Message) || !sent.is_kept || sent.arrived || sent.refused || sent.excused {
            return true;
        }
        let from = &self.model.sessions[sent.session];
        let may_fail = self.plan.may_refuse() || self.plan.limits.offline_messages_max < 10;
        let may_return = may_fail || sent.is_normal || !self.plan.accounts.iter().any(|a| a == account);
        if may_return && (over || !from.alive && !self.is_parked(sent.session)) {
            // Whoever would be told is gone.
            return true;
        }
        let from = &from.account;
        // What finds no room offline is kept in the archive.
        if may_fail && self.disk.archives(account, number) {
            return true;
        }
        // It, or the error that came of it.
        self.disk.spools(from, number) || self.model.ever_blocked(from, account) || self.disk.spools(account, number)
    }

    /// Everything that was counted is somewhere. Holds at any moment.
    pub fn check_counted(&self) -> Check {
        for (number, sent) in self.model.sent.iter().enumerate().filter(|(_, sent)| sent.counted) {
            if !self.is_safe(number, false) {
                return broken(Invariant::NothingLost, format!("x{number} was counted and is nowhere: {sent:?}"));
            }
        }
        Ok(())
    }

    /// Who has asked has heard that all is safe.
    pub fn check_all_counted(&self) -> Check {
        for client in self.clients.iter().filter(|c| c.state == State::Online) {
            if let Some(managed) = client.managed.as_ref().filter(|m| !m.unacked.is_empty()) {
                let text = format!("{} waits for the acknowledgement of {:?}", client.name(), managed.unacked);
                return broken(Invariant::AnsweredOnce, text);
            }
        }
        Ok(())
    }
}

//! Clients with stream management (XEP-0198): one that sends and believes the server's counter, and one that receives,
//! counts, and comes back.

use super::By;
use super::client::{Client, Heard, attribute, body, counted, numbered};
use super::ledger::{Ledger, Wrong};
use crate::rng::Rng;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::mpsc::Sender;

/// Messages that are under way at once, at most.
const BURST_MAX: usize = 12;

/// Sends until the connection ends, and gives the reason. Each message that the server has counted is one told.
pub fn send(
    port: u16,
    ledger: &mut Ledger,
    people: &[&str],
    rng: &mut Rng,
    told: &Sender<By>,
    wrong: &mut Wrong,
) -> io::Error {
    match try_to_send(port, ledger, people, rng, told, wrong) {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

fn try_to_send(
    port: u16,
    ledger: &mut Ledger,
    people: &[&str],
    rng: &mut Rng,
    told: &Sender<By>,
    wrong: &mut Wrong,
) -> io::Result<std::convert::Infallible> {
    let mut client = Client::log_in(port, &ledger.name)?;
    let session = client.enable()?;
    // What the server has counted, and what it has not.
    let (mut h, mut open) = (0, VecDeque::new());
    loop {
        let mut text = String::new();
        for _ in 0..=rng.below(BURST_MAX) {
            let to = rng.pick(people);
            let (n, message) = ledger.post(to);
            text.push_str(&message);
            open.push_back((n, to, message));
        }
        client.say(&text)?;
        let lost = rng.percent(5);
        let now = if lost {
            // The connection is lost with something on its way.
            drop(client);
            client = Client::authenticate(port, &ledger.name)?;
            let now = client.resume(&session, 0)?;
            now.ok_or_else(|| io::Error::other("a session is gone while the server lives"))?
        } else {
            client.say("<r xmlns='urn:xmpp:sm:3'/>")?;
            loop {
                let element = client.next()?;
                if element.starts_with("<message")
                    && let Some(n) = attribute(&element, "id").and_then(|id| id.parse().ok())
                {
                    wrong.refused += 1;
                    people.iter().for_each(|to| ledger.refused(to, n));
                }
                if let (true, Some(now)) = (element.starts_with("<a "), counted(&element)) {
                    break now;
                }
            }
        };
        while h < now {
            let Some((n, to, _)) = open.pop_front() else {
                wrong.corrupted.push(format!("{} stanzas of {} are counted that were not sent", now - h, ledger.name));
                break;
            };
            ledger.counted(to, n);
            // Nobody counts any more when the server is dead.
            let _ = told.send(By::Counter);
            h += 1;
        }
        h = now;
        if lost {
            // What it has not counted never came, and is sent again (section 5). Otherwise it may count it later.
            let again: String = open.iter().map(|(_, _, message)| message.as_str()).collect();
            client.say(&again)?;
        }
    }
}

/// Somebody who comes and goes.
#[derive(Debug)]
pub struct Receiver {
    pub name: String,
    /// All that it was given since the last audit, in its order.
    pub heard: Heard,
    /// What it was given in this session.
    known: BTreeSet<(String, u64)>,
    /// The session that may be waiting, and how many stanzas of it were received.
    waits: Option<(String, u64)>,
    pub resumed: u64,
    pub resumed_later: u64,
}

impl Receiver {
    pub fn new(name: &str) -> Self {
        let (heard, known) = (Heard::new(), BTreeSet::new());
        Self { name: name.to_owned(), heard, known, waits: None, resumed: 0, resumed_later: 0 }
    }

    /// Receives until the connection ends, and gives the reason. Or goes away before that, to come back later: then it
    /// gives none.
    pub fn receive(&mut self, port: u16, rng: &mut Rng, wrong: &mut Wrong) -> Option<io::Error> {
        self.try_to_receive(port, rng, wrong).err()
    }

    fn try_to_receive(&mut self, port: u16, rng: &mut Rng, wrong: &mut Wrong) -> io::Result<()> {
        let mut client = Client::log_in(port, &self.name)?;
        self.known.clear();
        let session = client.enable()?;
        let mut h = 0;
        self.waits = Some((session.clone(), h));
        client.say("<presence/>")?;
        loop {
            let element = client.next()?;
            if element.starts_with("<r ") || element.starts_with("<r/") {
                if rng.percent(80) {
                    client.say(&format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>"))?;
                }
                continue;
            }
            h += u64::from(["<message", "<presence", "<iq"].iter().any(|name| element.starts_with(name)));
            self.hear(&element, wrong);
            // However this ends, the session may be waiting then.
            self.waits = Some((session.clone(), h));
            if rng.percent(2) {
                drop(client);
                if rng.percent(20) {
                    return Ok(());
                }
                client = Client::authenticate(port, &self.name)?;
                if client.resume(&session, h)?.is_none() {
                    return Err(io::Error::other("a session is gone while the server lives"));
                }
                self.resumed += 1;
            }
        }
    }

    fn hear(&mut self, element: &str, wrong: &mut Wrong) {
        let Some(message) = body(element).map(numbered) else { return };
        self.note(message, wrong);
    }

    fn note(&mut self, message: Result<(String, u64), String>, wrong: &mut Wrong) {
        if let Ok(message) = &message
            && !self.known.insert(message.clone())
        {
            wrong.repeated.push(format!("message {} of {} to {}", message.1, message.0, self.name));
        }
        self.heard.push(message);
    }

    /// Comes back after the server has, and hears what has waited.
    pub fn come_back(&mut self, port: u16, wrong: &mut Wrong) -> io::Result<()> {
        let mut client = Client::authenticate(port, &self.name)?;
        let resumed = match self.waits.take() {
            // A server that does not take this count has forgotten what it had sent.
            Some((session, h)) => client.resume(&session, h)?.is_some(),
            None => false,
        };
        let heard = if resumed {
            self.resumed_later += 1;
            client.catch_up()?
        } else {
            self.known.clear();
            client.bind()?;
            client.wake()?
        };
        client.leave()?;
        heard.into_iter().for_each(|message| self.note(message, wrong));
        Ok(())
    }
}

//! What one writer has asked for, and what of it was acknowledged.

use super::SLOTS;
use super::client::{Heard, numbered, text};
use crate::rng::Rng;
use std::collections::BTreeMap;

/// What should not have happened, in words.
#[derive(Debug, Default)]
pub struct Wrong {
    /// Acknowledged, and not there.
    pub lost: Vec<String>,
    /// There, and not what was written.
    pub corrupted: Vec<String>,
    /// Behind what was sent later by the same writer to the same resource.
    pub reordered: Vec<String>,
    /// Given out twice to a client that had counted it.
    pub repeated: Vec<String>,
    /// Messages that were sent back. That is no fault of a server whose disk is.
    pub refused: u64,
}

impl Wrong {
    pub fn count(&self) -> usize {
        self.lost.len() + self.corrupted.len() + self.reordered.len() + self.repeated.len()
    }

    pub fn add(&mut self, other: Wrong) {
        self.lost.extend(other.lost);
        self.corrupted.extend(other.corrupted);
        self.reordered.extend(other.reordered);
        self.repeated.extend(other.repeated);
        self.refused += other.refused;
    }
}

/// A value that is overwritten with larger ones.
#[derive(Debug, Default)]
struct Register {
    acknowledged: u64,
    sent: u64,
}

impl Register {
    /// After a crash it has what was acknowledged last, or what was sent since. It begins anew from there.
    fn check(&mut self, found: u64, what: &str, wrong: &mut Wrong) {
        let told =
            || format!("{what} is {found}, was acknowledged as {} and sent up to {}", self.acknowledged, self.sent);
        if found < self.acknowledged {
            wrong.lost.push(told());
        } else if found > self.sent {
            wrong.corrupted.push(told());
        }
        (self.acknowledged, self.sent) = (found, found);
    }
}

/// Messages to one person.
#[derive(Debug, Default)]
struct Posted {
    /// Sent, not known to be delivered; true when acknowledged.
    open: BTreeMap<u64, bool>,
    /// The newest that was delivered.
    newest: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    pub name: String,
    count: u64,
    contacts: [Register; SLOTS],
    elements: [Register; SLOTS + 1],
    posted: BTreeMap<String, Posted>,
    /// What waits for its result, by the number of the request.
    under_way: BTreeMap<u64, Request>,
}

#[derive(Debug)]
enum Request {
    Contact(usize),
    Element(usize),
    Message(String),
}

impl Ledger {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            count: 0,
            contacts: Default::default(),
            elements: Default::default(),
            posted: BTreeMap::new(),
            under_way: BTreeMap::new(),
        }
    }

    /// Something to ask for, as text. It has one result.
    pub fn next(&mut self, rng: &mut Rng, people: &[&str]) -> String {
        let slot = rng.below(SLOTS);
        match rng.below(3) {
            0 => {
                self.count += 1;
                let n = self.count;
                self.contacts[slot].sent = n;
                self.under_way.insert(n, Request::Contact(slot));
                format!(
                    "<iq type='set' id='{n}'><query xmlns='jabber:iq:roster'>\
                     <item jid='slot{slot}@example.org' name='{n}'/></query></iq>"
                )
            }
            1 => {
                self.count += 1;
                self.under_way.insert(self.count, Request::Element(slot));
                self.put(slot)
            }
            _ => {
                let to = rng.pick(people);
                let (n, message) = self.post(to);
                self.under_way.insert(n, Request::Message(to.to_owned()));
                // A message has no result. What is written behind it on the same stream is not on the disk before it.
                format!("{message}{}", self.put(SLOTS))
            }
        }
    }

    /// A message, and its number.
    pub fn post(&mut self, to: &str) -> (u64, String) {
        self.count += 1;
        let n = self.count;
        self.posted.entry(to.to_owned()).or_default().open.insert(n, false);
        let body = text(&self.name, n);
        (n, format!("<message type='chat' id='{n}' to='{to}@localhost'><body>{body}</body></message>"))
    }

    fn put(&mut self, slot: usize) -> String {
        let n = self.count;
        self.elements[slot].sent = n;
        let body = text(&self.name, n);
        format!(
            "<iq type='set' id='{n}'><query xmlns='jabber:iq:private'>\
             <s{slot} xmlns='kill:9'>{body}</s{slot}></query></iq>"
        )
    }

    /// The server has answered the request of that number with a result.
    pub fn acknowledged(&mut self, id: &str) {
        let Some((n, request)) = id.parse().ok().and_then(|n| self.under_way.remove_entry(&n)) else { return };
        match request {
            Request::Contact(slot) => self.contacts[slot].acknowledged = n,
            Request::Element(slot) => self.elements[slot].acknowledged = n,
            Request::Message(to) => {
                self.elements[SLOTS].acknowledged = n;
                self.counted(&to, n);
            }
        }
    }

    /// The server vouches for that message.
    pub fn counted(&mut self, to: &str, n: u64) {
        if let Some(acknowledged) = self.posted.entry(to.to_owned()).or_default().open.get_mut(&n) {
            *acknowledged = true;
        }
    }

    /// It has come back, so nobody counts on it.
    pub fn refused(&mut self, to: &str, n: u64) {
        self.posted.entry(to.to_owned()).or_default().open.remove(&n);
    }

    pub fn check_contacts(&mut self, roster: &BTreeMap<String, u64>, wrong: &mut Wrong) {
        self.under_way.clear();
        for (slot, contact) in self.contacts.iter_mut().enumerate() {
            let found = roster.get(&format!("slot{slot}@example.org")).copied().unwrap_or_default();
            contact.check(found, &format!("contact {slot} of {}", self.name), wrong);
        }
    }

    pub fn check_element(&mut self, slot: usize, found: &str, wrong: &mut Wrong) {
        let what = format!("element {slot} of {}", self.name);
        let found = match numbered(found) {
            _ if found.is_empty() => 0,
            Ok((name, n)) if name == self.name => n,
            _ => return wrong.corrupted.push(format!("{what}: {found:?}")),
        };
        self.elements[slot].check(found, &what, wrong);
    }

    /// `heard` is what that person was given, in its order.
    pub fn check_messages(&mut self, to: &str, heard: &Heard, wrong: &mut Wrong) {
        let posted = self.posted.entry(to.to_owned()).or_default();
        for (_, n) in heard.iter().flatten().filter(|(from, _)| *from == self.name) {
            // What was handed out may be handed out again when the server was killed before it had noted that.
            if posted.open.remove(n).is_some() {
                if *n < posted.newest {
                    wrong.reordered.push(format!("message {n} of {} to {to} behind {}", self.name, posted.newest));
                }
                posted.newest = *n;
            }
        }
        for (n, acknowledged) in std::mem::take(&mut posted.open) {
            if acknowledged {
                wrong.lost.push(format!("message {n} of {} to {to}", self.name));
            }
        }
    }
}

//! What one writer has asked for, and what of it was acknowledged.

use crate::rng::Rng;
use std::collections::BTreeMap;

/// Contacts and private elements of each writer; each is written again and again. One element more marks messages.
pub const SLOTS: usize = 8;

/// A value that is overwritten with larger ones.
#[derive(Debug, Default)]
struct Register {
    acknowledged: u64,
    sent: u64,
}

impl Register {
    /// After a crash it has what was acknowledged last, or what was sent since. It begins anew from there.
    fn check(&mut self, found: u64, what: &str, lost: &mut Vec<String>) {
        if found < self.acknowledged || found > self.sent {
            lost.push(format!(
                "{what} is {found}, was acknowledged as {} and sent up to {}",
                self.acknowledged, self.sent
            ));
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
        self.count += 1;
        let (n, slot) = (self.count, rng.below(SLOTS));
        match rng.below(3) {
            0 => {
                self.contacts[slot].sent = n;
                self.under_way.insert(n, Request::Contact(slot));
                format!(
                    "<iq type='set' id='{n}'><query xmlns='jabber:iq:roster'>\
                     <item jid='slot{slot}@example.org' name='{n}'/></query></iq>"
                )
            }
            1 => {
                self.under_way.insert(n, Request::Element(slot));
                self.put(slot, n)
            }
            _ => {
                let to = rng.pick(people);
                self.posted.entry(to.to_owned()).or_default().open.insert(n, false);
                self.under_way.insert(n, Request::Message(to.to_owned()));
                let put = self.put(SLOTS, n);
                let name = &self.name;
                // A message has no result. What is written behind it on the same stream is not on the disk before it.
                format!("<message type='chat' to='{to}@localhost'><body>{name} {n}</body></message>{put}")
            }
        }
    }

    fn put(&mut self, slot: usize, n: u64) -> String {
        self.elements[slot].sent = n;
        format!(
            "<iq type='set' id='{n}'><query xmlns='jabber:iq:private'>\
             <s{slot} xmlns='kill:9'>{n}</s{slot}></query></iq>"
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
                if let Some(acknowledged) = self.posted.entry(to).or_default().open.get_mut(&n) {
                    *acknowledged = true;
                }
            }
        }
    }

    pub fn check_contacts(&mut self, roster: &BTreeMap<String, u64>, lost: &mut Vec<String>) {
        self.under_way.clear();
        for (slot, contact) in self.contacts.iter_mut().enumerate() {
            let found = roster.get(&format!("slot{slot}@example.org")).copied().unwrap_or_default();
            contact.check(found, &format!("contact {slot} of {}", self.name), lost);
        }
    }

    pub fn check_element(&mut self, slot: usize, found: u64, lost: &mut Vec<String>) {
        self.elements[slot].check(found, &format!("element {slot} of {}", self.name), lost);
    }

    /// `heard` is what that person was given, in its order: who wrote it, and its number.
    pub fn check_messages(&mut self, to: &str, heard: &[(String, u64)], lost: &mut Vec<String>) {
        let posted = self.posted.entry(to.to_owned()).or_default();
        for (_, n) in heard.iter().filter(|(from, _)| *from == self.name) {
            // What was handed out may be handed out again when the server was killed before it had noted that.
            if posted.open.remove(n).is_some() {
                if *n < posted.newest {
                    lost.push(format!("message {n} of {} to {to} came behind {}", self.name, posted.newest));
                }
                posted.newest = *n;
            }
        }
        for (n, acknowledged) in std::mem::take(&mut posted.open) {
            if acknowledged {
                lost.push(format!("message {n} of {} to {to}", self.name));
            }
        }
    }
}

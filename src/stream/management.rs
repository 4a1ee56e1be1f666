//! Stream management (XEP-0198): its elements, and what may be acknowledged of what a client has sent.

use crate::budget::allocated;
use crate::fault::{Fault, armed};
use crate::stanza::Condition;
use crate::storage::Ticket;
use crate::xml::{ElementRef, ns, write_attribute};
use std::collections::VecDeque;

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// Section 3.
    Enable {
        /// The session shall outlive its connection.
        resume: bool,
        /// For so many seconds at most.
        max_s: Option<u32>,
    },
    /// Section 5.
    Resume {
        /// Name of the session.
        previd: String,
        /// Stanzas that the client has handled.
        h: u32,
    },
    /// Section 4: so many stanzas have been handled.
    Ack {
        /// Modulo 2^32.
        h: u32,
    },
    /// Section 4: how many stanzas have been handled?
    Ask,
}

/// Reads a first-level element; none when it is none of these. The error is the condition that answers it.
pub fn read(root: ElementRef<'_>) -> Option<Result<Request, Condition>> {
    if root.ns() != ns::SM {
        return None;
    }
    let h = root.attr("h").and_then(|h| h.parse().ok()).ok_or(Condition::BadRequest);
    Some(match root.name() {
        "enable" => Ok(Request::Enable {
            resume: matches!(root.attr("resume"), Some("true" | "1")),
            max_s: root.attr("max").and_then(|max| max.parse().ok()),
        }),
        "resume" => match (root.attr("previd"), h) {
            (Some(previd), Ok(h)) => Ok(Request::Resume { previd: previd.to_owned(), h }),
            _ => Err(Condition::BadRequest),
        },
        "a" => h.map(|h| Request::Ack { h }),
        "r" => Ok(Request::Ask),
        _ => return None,
    })
}

fn open(name: &str, out: &mut Vec<u8>) {
    out.push(b'<');
    out.extend_from_slice(name.as_bytes());
    write_attribute("xmlns", ns::SM, out);
}

/// Writes `<enable/>`, of a server that opens a stream and will not resume it.
pub fn write_enable(out: &mut Vec<u8>) {
    open("enable", out);
    out.extend_from_slice(b"/>");
}

/// Writes `<enabled/>`; with name and time of a session that can be resumed.
pub fn write_enabled(resumable: Option<(&str, u32)>, out: &mut Vec<u8>) {
    open("enabled", out);
    if let Some((id, max_s)) = resumable {
        write_attribute("id", id, out);
        write_attribute("resume", "true", out);
        write_attribute("max", &max_s.to_string(), out);
    }
    out.extend_from_slice(b"/>");
}

/// Writes `<resumed/>`.
pub fn write_resumed(previd: &str, h: u64, out: &mut Vec<u8>) {
    open("resumed", out);
    write_attribute("previd", previd, out);
    write_attribute("h", &(h as u32).to_string(), out);
    out.extend_from_slice(b"/>");
}

/// Writes `<failed/>`; with the count of a session that is over.
pub fn write_failed(condition: Condition, h: Option<u64>, out: &mut Vec<u8>) {
    open("failed", out);
    if let Some(h) = h {
        write_attribute("h", &(h as u32).to_string(), out);
    }
    out.extend_from_slice(b"><");
    out.extend_from_slice(condition.as_str().as_bytes());
    write_attribute("xmlns", ns::STANZA_ERROR, out);
    out.extend_from_slice(b"/></failed>");
}

/// Writes `<a/>`.
pub fn write_ack(h: u64, out: &mut Vec<u8>) {
    open("a", out);
    write_attribute("h", &(h as u32).to_string(), out);
    out.extend_from_slice(b"/>");
}

/// Writes `<r/>`.
pub fn write_ask(out: &mut Vec<u8>) {
    open("r", out);
    out.extend_from_slice(b"/>");
}

/// What a client has sent since it enabled stream management, and how much of it is safe.
#[derive(Debug, Default)]
pub struct Inbound {
    received: u64,
    /// In order, the first is not safe. What comes behind it is not acknowledged either.
    waiting: VecDeque<Waiting>,
    /// A request has not been answered yet.
    pub asked: bool,
    /// The last answer was short of what had been received: another follows by itself.
    is_short: bool,
    told: u64,
}

/// A stanza that has been handled.
#[derive(Debug)]
struct Waiting {
    number: u64,
    /// What it wrote is durable then.
    after: Ticket,
    /// Recipients that it has not reached.
    owed: u32,
}

impl Inbound {
    /// That of a session that is restored: all that it has received is safe.
    pub fn restored(received: u64) -> Self {
        Self { received, told: received, ..Self::default() }
    }

    /// Stanzas so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// A stanza has come: its number, from 1. It is not safe before [`Inbound::progress`] finds it so.
    pub fn count(&mut self) -> u64 {
        self.received += 1;
        self.waiting.push_back(Waiting { number: self.received, after: Ticket(0), owed: 0 });
        self.received
    }

    /// The last stanza broke the stream: it does not count.
    pub fn uncount(&mut self) {
        if self.waiting.pop_back().is_some() {
            self.received -= 1;
        }
    }

    /// A stanza is not safe before this is durable.
    pub fn wait(&mut self, number: u64, after: Ticket) {
        if let Some(w) = self.find(number) {
            w.after = w.after.max(after);
        }
    }

    /// A stanza is on its way to one more recipient.
    pub fn owe(&mut self, number: u64) {
        if let Some(w) = self.find(number) {
            w.owed += 1;
        }
    }

    /// A stanza has reached one of its recipients, or the disk on the way to it.
    pub fn settle(&mut self, number: u64) {
        if let Some(w) = self.find(number) {
            w.owed = w.owed.saturating_sub(1);
        }
    }

    /// What waited for a batch behind `durable` has been refused, and its sender been told.
    pub fn refused(&mut self, durable: Ticket) {
        for w in self.waiting.iter_mut().filter(|w| w.after > durable) {
            w.after = Ticket(0);
        }
    }

    /// Finds out what has become safe. True when the client should hear of it.
    pub fn progress(&mut self, durable: Ticket) -> bool {
        let is_safe = |w: &Waiting| (w.owed == 0 && w.after <= durable) || armed(Fault::CountEarly);
        while self.waiting.front().is_some_and(is_safe) {
            self.waiting.pop_front();
        }
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        self.asked || (self.is_short && self.safe() > self.told)
    }

    /// How many stanzas, from the first one, are safe.
    pub fn safe(&self) -> u64 {
        self.waiting.front().map_or(self.received, |w| w.number - 1)
    }

    /// The number to answer with now.
    pub fn answer(&mut self) -> u64 {
        self.asked = false;
        self.told = self.safe();
        self.is_short = self.told < self.received;
        self.told
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        allocated(self.waiting.capacity() * size_of::<Waiting>())
    }

    fn find(&mut self, number: u64) -> Option<&mut Waiting> {
        let at = self.waiting.binary_search_by_key(&number, |w| w.number).ok()?;
        self.waiting.get_mut(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_safe_from_the_first_on_is_acknowledged() {
        let mut inbound = Inbound::default();
        let numbers: Vec<u64> = (0..4).map(|_| inbound.count()).collect();
        inbound.wait(numbers[0], Ticket(3));
        inbound.owe(numbers[1]);
        inbound.owe(numbers[1]);
        inbound.progress(Ticket(2));
        assert_eq!(inbound.safe(), 0);
        inbound.asked = true;
        assert!(inbound.progress(Ticket(2)));
        assert_eq!(inbound.answer(), 0);
        assert!(inbound.progress(Ticket(3)), "more than was told");
        assert_eq!(inbound.answer(), 1);
        inbound.settle(numbers[1]);
        assert!(!inbound.progress(Ticket(3)), "one recipient is missing");
        inbound.settle(numbers[1]);
        assert!(inbound.progress(Ticket(3)));
        assert_eq!((inbound.answer(), inbound.progress(Ticket(3))), (4, false));
        inbound.count();
        assert!(!inbound.progress(Ticket(3)), "nobody has asked since");
    }

    #[test]
    fn counts_wrap_on_the_wire_alone() {
        let mut inbound = Inbound::restored(u64::from(u32::MAX));
        inbound.count();
        inbound.progress(Ticket(0));
        let mut out = Vec::new();
        write_ack(inbound.answer(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "<a xmlns='urn:xmpp:sm:3' h='0'/>");
    }

    #[test]
    fn elements_are_read_with_their_counts() {
        let read = |text: &str| super::read(crate::xml::parse(text).unwrap().root());
        assert_eq!(read("<a xmlns='urn:xmpp:sm:3' h='4294967295'/>"), Some(Ok(Request::Ack { h: u32::MAX })));
        assert_eq!(read("<a xmlns='urn:xmpp:sm:3' h='4294967296'/>"), Some(Err(Condition::BadRequest)));
        assert_eq!(read("<resume xmlns='urn:xmpp:sm:3' h='1'/>"), Some(Err(Condition::BadRequest)));
        assert_eq!(
            read("<enable xmlns='urn:xmpp:sm:3' resume='1' max='9'/>"),
            Some(Ok(Request::Enable { resume: true, max_s: Some(9) }))
        );
        assert_eq!((read("<b xmlns='urn:xmpp:sm:3'/>"), read("<a xmlns='urn:x'/>")), (None, None));
    }
}

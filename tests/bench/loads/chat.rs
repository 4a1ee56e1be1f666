//! One-to-one messages: at fixed rates, for how long they take; and flat out, for how many there can be.

use super::{Tally, body, deaf, number, quantile};
use crate::crowd::{Crowd, HOST, News, PATIENCE, Profile};
use crate::frame::attribute;
use crate::net::{Heard, Id, Net};
use crate::process::Span;
use crate::report::Sheet;
use crate::seed::strangers;
use crate::server::{Kind, Server};
use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Pairs of clients; in each, the first writes to the second.
const PAIRS: usize = 50;
/// Messages of a pair that may be under way when it writes as fast as it can.
const WINDOW: usize = 10;
const RATES: [(usize, [&str; 3]); 2] = [
    (200, ["chat-200-p50", "chat-200-p99", "chat-200-cpu"]),
    (1000, ["chat-1000-p50", "chat-1000-p99", "chat-1000-cpu"]),
];
const RATE_TIME: Duration = Duration::from_secs(3);
const WARM_UP: Duration = Duration::from_millis(500);
const FLAT_TIME: Duration = Duration::from_secs(2);
/// Of so many messages one is timed where they go as fast as they can.
const TIMED: usize = 16;

/// Clients of a server, or of an echo.
enum Peers {
    Xmpp(Crowd),
    Echo(Net),
}

/// Pairs that write to each other.
pub struct Pairs {
    peers: Peers,
    /// Who writes.
    senders: Vec<Id>,
    /// To which pair a connection belongs.
    pair_of: Vec<usize>,
    /// What the server has acknowledged of each pair (XEP-0198).
    acks: Vec<Acks>,
    /// How long messages waited for that, in milliseconds.
    ack_times: Vec<f64>,
    /// What stands around a message's number, for each pair: up to its `to`, and what follows the message.
    to: Vec<String>,
    after: &'static str,
    tally: Tally,
    sent: usize,
}

/// What one writes with stream management.
#[derive(Default)]
struct Acks {
    /// The counter of what the server has; none until it has told it once.
    counted: Option<u64>,
    /// When those were written that it has not.
    since: VecDeque<Instant>,
}

/// All of it, as the table shows it.
pub fn run(server: &mut Server, sheet: &mut Sheet<'_>) -> Result<(), String> {
    let users = strangers(0, 2 * PAIRS);
    if matches!(server.kind, Kind::Echo | Kind::Defaults) {
        let mut pairs = Pairs::new(server, users, false)?;
        return pairs.flat_out(server, sheet, "chat").and_then(|()| pairs.end(sheet));
    }
    let mut pairs = Pairs::new(server, users.clone(), false)?;
    for (rate, names) in RATES {
        pairs.at_rate(server, sheet, rate, names)?;
    }
    pairs.flat_out(server, sheet, "chat")?;
    pairs.end(sheet)?;
    let mut pairs = Pairs::new(server, users, true)?;
    if !pairs.after.is_empty() {
        pairs.flat_out(server, sheet, "chat-sm")?;
    }
    pairs.end(sheet)
}

impl Acks {
    /// When those were written that the server has now, by its counter.
    fn count(&mut self, h: u64) -> impl Iterator<Item = Instant> {
        let more = h - self.counted.replace(h).unwrap_or(h);
        self.since.drain(..self.since.len().min(more as usize))
    }
}

impl Pairs {
    /// Logs them in: of each two users the first writes to the second.
    pub fn new(server: &Server, users: Range<usize>, managed: bool) -> Result<Self, String> {
        let count = users.len() / 2;
        let mut pairs = Self {
            peers: Peers::Echo(Net::new(server.address)?),
            senders: Vec::new(),
            pair_of: Vec::new(),
            acks: Vec::new(),
            ack_times: Vec::new(),
            to: vec!["echo".into(); count],
            after: "",
            tally: Tally::default(),
            sent: 0,
        };
        if let Peers::Echo(net) = &mut pairs.peers
            && server.kind == Kind::Echo
        {
            let mut open = 0;
            for pair in 0..count {
                pairs.senders.push(net.connect()?);
                pairs.pair_of.push(pair);
            }
            while open < count {
                net.step(Duration::from_secs(1), &mut |_, _, heard| open += usize::from(matches!(heard, Heard::Open)))?;
            }
            return Ok(pairs);
        }
        let mut crowd = server.crowd()?;
        let ids = crowd.log_in(users.clone(), Profile { managed, ..Profile::ONLINE }, 16, &mut deaf)?;
        crowd.until_quiet(Duration::from_millis(200), &mut deaf)?;
        if managed && crowd.can_manage(ids[0]) {
            pairs.after = "<r xmlns='urn:xmpp:sm:3'/>";
        }
        pairs.pair_of = vec![usize::MAX; ids.len()];
        for pair in 0..count {
            pairs.senders.push(ids[2 * pair]);
            (pairs.pair_of[ids[2 * pair]], pairs.pair_of[ids[2 * pair + 1]]) = (pair, pair);
            pairs.to[pair] = format!("u{}@{HOST}", users.start + 2 * pair + 1);
        }
        pairs.peers = Peers::Xmpp(crowd);
        if !pairs.after.is_empty() {
            pairs.acks.resize_with(count, Acks::default);
            let (begin, ask) = (Instant::now(), pairs.after);
            for pair in 0..count {
                let id = pairs.senders[pair];
                pairs.net().say(id, ask);
            }
            while pairs.acks.iter().any(|acks| acks.counted.is_none()) && begin.elapsed() < PATIENCE {
                pairs.step(Duration::from_millis(100), &mut |_, _, _| {})?;
            }
        }
        Ok(pairs)
    }

    fn net(&mut self) -> &mut Net {
        match &mut self.peers {
            Peers::Xmpp(crowd) => &mut crowd.net,
            Peers::Echo(net) => net,
        }
    }

    fn message(&self, pair: usize, number: usize) -> String {
        let (to, body, after) = (&self.to[pair], body(number), self.after);
        format!("<message type='chat' id='m{number}' to='{to}'>{body}</message>{after}")
    }

    /// Waits; hands on the number of each message with its pair, once.
    fn step(&mut self, wait: Duration, hear: &mut dyn FnMut(&mut Net, usize, usize)) -> Result<(), String> {
        let Self { peers, pair_of, tally, acks, ack_times, .. } = self;
        let mut take = |net: &mut Net, id: Id, stanza: &[u8]| {
            if stanza.starts_with(b"<a ") {
                let acks = pair_of.get(id).and_then(|pair| acks.get_mut(*pair));
                if let (Some(acks), Some(h)) = (acks, attribute(stanza, "h").and_then(|h| h.parse().ok())) {
                    ack_times.extend(acks.count(h).map(|since| since.elapsed().as_secs_f64() * 1000.0));
                }
            } else if let (Some(number), Some(pair)) = (number(stanza), pair_of.get(id))
                && tally.hear(number) == 1
            {
                hear(net, *pair, number);
            }
        };
        match peers {
            Peers::Xmpp(crowd) => crowd.step(wait, &mut |net, id, news| match news {
                News::Stanza(stanza) => take(net, id, stanza),
                News::Ready | News::Gone => {}
            }),
            Peers::Echo(net) => net.step(wait, &mut |net, id, heard| {
                if let Heard::Element(stanza) = heard {
                    take(net, id, stanza);
                }
            }),
        }
    }

    /// So many messages a second, whatever comes back. Each counts from when it was due.
    fn at_rate(
        &mut self,
        server: &Server,
        sheet: &mut Sheet<'_>,
        per_second: usize,
        names: [&'static str; 3],
    ) -> Result<(), String> {
        let (first, total) = (self.sent, (per_second as f64 * RATE_TIME.as_secs_f64()) as usize);
        let (span, begin) = (Span::new(server.pid()), Instant::now());
        let due = |n: usize| begin + Duration::from_secs_f64((n - first) as f64 / per_second as f64);
        let mut times = Vec::with_capacity(total);
        while times.len() < total && begin.elapsed() < RATE_TIME + PATIENCE {
            while self.sent < first + total && due(self.sent) <= Instant::now() {
                let pair = self.sent % self.senders.len();
                let text = self.message(pair, self.sent);
                let id = self.senders[pair];
                self.net().say(id, &text);
                self.sent += 1;
            }
            let next = if self.sent < first + total { due(self.sent) } else { Instant::now() + WARM_UP };
            self.step(next.saturating_duration_since(Instant::now()), &mut |_, _, number| {
                if number >= first {
                    times.push(due(number).elapsed().as_secs_f64() * 1000.0);
                }
            })?;
        }
        let spent = span.end();
        sheet.note(names[0], quantile(&mut times, 0.5), &spent);
        sheet.note(names[1], quantile(&mut times, 0.99), &spent);
        sheet.cpu(names[2], times.len() as f64 / 1000.0, &spent);
        Ok(())
    }

    /// As many as go through a window: rows `name`, `name-cpu` and `name-p99`.
    pub fn flat_out(&mut self, server: &Server, sheet: &mut Sheet<'_>, name: &'static str) -> Result<(), String> {
        let first = self.sent;
        let mut due = Vec::new();
        let managed = !self.acks.is_empty();
        for pair in 0..self.senders.len() {
            if managed {
                self.acks[pair].since.resize(WINDOW, Instant::now());
            }
            let text: String = (self.sent..self.sent + WINDOW).map(|n| self.message(pair, n)).collect();
            let id = self.senders[pair];
            due.resize((self.sent + WINDOW - first).div_ceil(TIMED), Instant::now());
            self.net().say(id, &text);
            self.sent += WINDOW;
        }
        let (mut span, mut begin, mut heard, mut warm) = (Span::new(server.pid()), Instant::now(), 0, false);
        let (mut next, mut times) = (Vec::new(), Vec::new());
        loop {
            self.step(Duration::from_millis(100), &mut |_, pair, number| {
                next.push(pair);
                if number >= first && (number - first).is_multiple_of(TIMED) && warm {
                    times.push(due[(number - first) / TIMED].elapsed().as_secs_f64() * 1000.0);
                }
            })?;
            heard += next.len();
            for pair in next.drain(..) {
                let (id, text) = (self.senders[pair], self.message(pair, self.sent));
                if (self.sent - first).is_multiple_of(TIMED) {
                    due.push(Instant::now());
                }
                if managed {
                    self.acks[pair].since.push_back(Instant::now());
                }
                self.net().say(id, &text);
                self.sent += 1;
            }
            if !warm && begin.elapsed() > WARM_UP {
                self.ack_times.clear();
                (span, begin, heard, warm) = (Span::new(server.pid()), Instant::now(), 0, true);
            } else if begin.elapsed() > FLAT_TIME {
                break;
            }
        }
        let spent = span.end();
        sheet.rate(name, heard as f64, &spent);
        sheet.cpu(&format!("{name}-cpu"), heard as f64 / 1000.0, &spent);
        sheet.note(&format!("{name}-p99"), quantile(&mut times, 0.99), &spent);
        if managed {
            sheet.note(&format!("{name}-ack"), quantile(&mut self.ack_times, 0.99), &spent);
        }
        Ok(())
    }

    /// Waits for what is under way, counts what is missing and what came twice, and leaves.
    pub fn end(&mut self, sheet: &mut Sheet<'_>) -> Result<(), String> {
        let begin = Instant::now();
        while self.tally.wrong(self.sent, 1)[0] > 0 && begin.elapsed() < PATIENCE {
            self.step(Duration::from_millis(200), &mut |_, _, _| {})?;
        }
        // What comes twice comes behind.
        self.step(Duration::from_millis(100), &mut |_, _, _| {})?;
        sheet.wrong(self.tally.wrong(self.sent, 1));
        match &mut self.peers {
            Peers::Xmpp(crowd) => crowd.leave(),
            Peers::Echo(net) => {
                net.hang_up_all();
                Ok(())
            }
        }
    }
}

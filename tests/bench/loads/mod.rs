//! What servers are asked to do, one file each. Federation gets its own file when there is something to federate with.

pub mod chat;
pub mod idle;
pub mod login;
pub mod offline;
pub mod rooms;
pub mod scale;
pub mod storm;

use crate::crowd::News;
use crate::frame::between;
use crate::net::{Id, Net};
use crate::report::Sheet;
use crate::server::{Kind, Server};

/// A load: its name in `BENCH_ONLY`, and what does it.
pub struct Load {
    /// As in `BENCH_ONLY`.
    pub name: &'static str,
    /// Which servers it is for.
    pub takes: fn(Kind) -> bool,
    /// Does it.
    pub run: fn(&mut Server, &mut Sheet<'_>) -> Result<(), String>,
}

/// All, in the order in which they run; the first ones measure memory, so the server is fresh.
pub const ALL: [Load; 9] = [
    Load { name: "idle", takes: is_xmpp, run: idle::run },
    Load { name: "login", takes: has_scram, run: login::run },
    Load { name: "ping", takes: is_xmpp, run: login::pings },
    Load { name: "chat", takes: |_| true, run: chat::run },
    Load { name: "rooms", takes: has_rooms, run: rooms::run },
    Load { name: "storm", takes: is_xmpp, run: storm::run },
    Load { name: "offline", takes: is_xmpp, run: offline::run },
    Load { name: "idle-rooms", takes: |kind| kind == Kind::Couplet, run: rooms::idle },
    Load { name: "scale", takes: |kind| kind == Kind::Couplet, run: scale::run },
];

/// jabberd2 has no SCRAM, and its logins are another thing.
fn has_scram(kind: Kind) -> bool {
    !matches!(kind, Kind::Echo | Kind::Jabberd2)
}

/// What is run with limits lifted.
fn is_xmpp(kind: Kind) -> bool {
    !matches!(kind, Kind::Echo | Kind::Defaults)
}

/// jabberd2 has no group chat of its own.
fn has_rooms(kind: Kind) -> bool {
    is_xmpp(kind) && kind != Kind::Jabberd2
}

/// Hears nothing.
pub fn deaf(_: &mut Net, _: Id, _: News<'_>) {}

/// A hundred characters that people might write.
pub const WORDS: &str = "But, soft! what light through yonder window breaks? It is the east, and Juliet is the sun. ";

/// The body of a message with a number.
pub fn body(number: usize) -> String {
    format!("<body>{number:08} {WORDS}</body>")
}

/// The number of a message whose body [`body`] has made.
pub fn number(stanza: &[u8]) -> Option<usize> {
    between(stanza.strip_prefix(b"<message")?, "<body>", " ")?.parse().ok()
}

/// Which messages have come, and how often.
#[derive(Default)]
pub struct Tally {
    seen: Vec<u32>,
    /// How many came, each time counted.
    pub heard: usize,
}

impl Tally {
    /// A message came; says how often so far.
    pub fn hear(&mut self, number: usize) -> u32 {
        if self.seen.len() <= number {
            self.seen.resize(number + 1024, 0);
        }
        self.heard += 1;
        self.seen[number] += 1;
        self.seen[number]
    }

    /// Of `sent` messages that should have come `times` each: how many deliveries are missing, and how many too many.
    pub fn wrong(&self, sent: usize, times: u32) -> [usize; 2] {
        let of = |n: usize| self.seen.get(n).copied().unwrap_or(0);
        let lost = (0..sent).map(|n| times.saturating_sub(of(n)) as usize).sum();
        [lost, (0..sent).map(|n| of(n).saturating_sub(times) as usize).sum()]
    }
}

/// The value below which so much of all lies.
pub fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * part) as usize;
    values.get(at.min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

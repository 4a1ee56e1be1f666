//! Floods: much of what is allowed once. A witness is served meanwhile, and the server's memory is looked at before,
//! at its peak, and ten seconds later.
//!
//! `cargo test` shows with a little of each that nobody is harmed. With `COUPLET_FLOODS=5` each lasts five seconds, the
//! figures are printed, and those that are promised are kept. They are those of the published binary, which
//! `COUPLET_BINARY` names.

mod connections;
mod heavy;
mod stanzas;

use std::collections::BTreeMap;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::process::{Peak, cpu, rss_bytes, waited};
use crate::stages::{Stage, Stream};
use crate::target::Target;
use crate::wire::{End, Wire};
use crate::witness::{Witness, percentile};

pub use heavy::{HEAVY, cpu_max as heavy_cpu_max};

/// What the server may hold, and what its process may have at most.
pub const MEMORY_MAX: (&str, &str) = ("COUPLET_MEMORY__MAX", "8 MB");
pub const RSS_MAX_BYTES: u64 = 9_000_000;
/// How much more it may have afterwards than before.
pub const LEFT_MAX_BYTES: u64 = 1_000_000;
/// How long it has for that.
pub const REST: Duration = Duration::from_secs(10);
/// How long a flood lasts where nothing is measured.
pub const LITTLE: Duration = Duration::from_millis(100);

/// Niceness of the threads that flood, where there are fewer processors than threads.
const MODEST: i32 = 10;

/// Before the reason of a failed login.
const FAILURE: &str = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><";

/// What a flood is made of, which says how soon a witness must be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Connections,
    Stanzas,
}

impl Kind {
    /// 95 percent of the answers take no longer.
    pub fn p95_max(self) -> Duration {
        Duration::from_millis(if self == Self::Connections { 100 } else { 20 })
    }
}

/// One flood.
pub struct Flood {
    pub name: &'static str,
    pub kind: Kind,
    /// Peers that do it at a time.
    workers: usize,
    work: fn(&Arena<'_>, usize) -> io::Result<Tally>,
    /// Errors that it may get; another is a mistake.
    errors: &'static [&'static str],
}

/// All of them.
pub fn all() -> Vec<&'static Flood> {
    connections::FLOODS.iter().chain(stanzas::FLOODS).collect()
}

/// Where a flood happens, and how long.
pub struct Arena<'a> {
    pub target: &'a Target,
    until: Instant,
}

impl Arena<'_> {
    fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    /// Waits until it is over.
    fn hold(&self) {
        thread::sleep(self.until.saturating_duration_since(Instant::now()));
    }

    fn open(&self, stage: Stage) -> io::Result<Stream> {
        stage.open(self.target)
    }
}

/// What a peer has done, and what it was told.
#[derive(Debug, Default)]
pub struct Tally {
    pub done: u64,
    pub errors: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.done += other.done;
        for (name, count) in other.errors {
            *self.errors.entry(name).or_default() += count;
        }
    }

    /// Counts the errors in what has come, and forgets it. A tag that is not complete yet stays.
    fn look(&mut self, wire: &mut Wire) {
        while wire.wait(Duration::ZERO) {}
        let whole = wire.got.iter().rposition(|byte| *byte == b'>').map_or(0, |at| at + 1);
        let text = String::from_utf8_lossy(&wire.got[..whole]);
        let mut count = |name: Option<&str>| {
            if let Some(name) = name.filter(|name| *name != "text") {
                *self.errors.entry(name.to_owned()).or_default() += 1;
            }
        };
        for (at, _) in text.match_indices(" xmlns='urn:ietf:params:xml:ns:xmpp-st") {
            count(text[..at].rsplit('<').next());
        }
        for (_, rest) in text.match_indices(FAILURE).map(|(at, _)| text.split_at(at + FAILURE.len())) {
            count(rest.split('/').next());
        }
        drop(text);
        wire.got.drain(..whole);
    }

    /// Says something again and again until the flood is over or nobody listens.
    fn pour(&mut self, arena: &Arena<'_>, wire: &mut Wire, mut next: impl FnMut(u64) -> String) {
        while arena.goes_on() && wire.end == End::Open {
            wire.say(next(self.done));
            self.done += 1;
            self.look(wire);
        }
        wire.wait(LITTLE);
        self.look(wire);
    }
}

/// The figures of a flood.
pub struct Figures {
    pub tally: Tally,
    pub p50: Duration,
    pub p95: Duration,
    pub before_bytes: u64,
    pub peak_bytes: u64,
    pub after_bytes: u64,
    pub cpu: Duration,
    /// See [`waited`].
    pub waited: Duration,
}

/// Opens something; whoever is turned away because memory is short is let in when the flood before has been given back.
pub fn patiently<T>(mut open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let until = Instant::now() + REST;
    loop {
        match open() {
            Err(_) if Instant::now() < until => thread::sleep(LITTLE),
            result => return result,
        }
    }
}

/// Lets a flood happen for a time, and looks at the memory after some rest.
pub fn run(target: &Target, flood: &Flood, lasts: Duration, rest: Duration, peak: &Peak) -> Result<Figures, String> {
    let name = flood.name;
    let place = |error: io::Error| format!("{name}: {error}");
    let pid = target.server.pid().ok_or("no server")?;
    let witness = patiently(|| Witness::start(target)).map_err(place)?;
    let before_bytes = rss_bytes(pid).map_err(place)?;
    let (cpu_before, waited_before) = (cpu(pid).map_err(place)?, waited(pid).map_err(place)?);
    peak.take();
    let arena = Arena { target, until: Instant::now() + lasts };
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let work = |n| {
            // The server and its witness do not wait for whoever floods.
            let _ = rustix::process::setpriority_process(None, MODEST);
            (flood.work)(&arena, n)
        };
        let workers: Vec<_> = (0..flood.workers).map(|n| scope.spawn(move || work(n))).collect();
        for worker in workers {
            match worker.join() {
                Ok(Ok(other)) => tally.add(other),
                // Whoever floods may be turned away.
                Ok(Err(_)) => *tally.errors.entry("turned away".to_owned()).or_default() += 1,
                Err(_) => *tally.errors.entry("a worker has fallen".to_owned()).or_default() += 1,
            }
        }
    });
    let times = witness.stop().map_err(|error| format!("{name}: the witness: {error}"))?;
    let cpu = cpu(pid).map_err(place)? - cpu_before;
    let waited = waited(pid).map_err(place)? - waited_before;
    thread::sleep(rest);
    let peak_bytes = peak.take();
    let after_bytes = rss_bytes(pid).map_err(place)?;
    let unknown = tally.errors.keys().find(|error| !flood.errors.contains(&error.as_str()));
    match unknown {
        Some(error) => Err(format!("{name}: {error} is not among its errors: {tally:?}")),
        None => Ok(Figures {
            tally,
            p50: percentile(&times, 50),
            p95: percentile(&times, 95),
            before_bytes,
            peak_bytes,
            after_bytes,
            cpu,
            waited,
        }),
    }
}

//! Load on the real binary, and the account of what it acknowledged, for tests that end it in the worst moment: roster
//! items, private elements, messages to people who are offline, messages that stream management has counted to people
//! who are offline, here, or away for a moment, and registrations.

pub mod client;
pub mod ledger;
pub mod managed;
pub mod server;

use crate::rng::Rng;
use client::Client;
use ledger::{Ledger, Wrong};
use managed::Receiver;
use server::Server;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// Contacts and private elements of each writer; each is written again and again. One element more marks messages.
pub const SLOTS: usize = 8;

/// Who writes with requests, who writes with stream management, who is written to while away, and who while there.
const WRITERS: [&str; 3] = ["anne", "beth", "cleo"];
const SENDERS: [&str; 2] = ["emil", "finn"];
const SLEEPERS: [&str; 3] = ["xena", "yves", "zoe"];
const RECEIVERS: [&str; 3] = ["gina", "hugo", "iris"];
/// Who does nothing of it, and is there for single tests.
const OTHERS: [&str; 1] = ["dora"];

/// Operations that are under way at once, at most.
const BURST_MAX: usize = 12;

/// What came of it.
#[derive(Debug, Default)]
pub struct Found {
    pub ends: u64,
    /// Results of requests, messages that were counted, and users that were added.
    pub results: u64,
    pub counted: u64,
    pub registered: u64,
    /// Sessions that were resumed while the server lived, and behind its end.
    pub resumed: u64,
    pub resumed_later: u64,
    pub wrong: Wrong,
    /// Milliseconds from the end to the features of a new stream: half of the starts took no longer, and the longest.
    pub median_ms: u128,
    pub longest_ms: u128,
    pub file_bytes: u64,
}

impl Found {
    pub fn acknowledged(&self) -> u64 {
        self.results + self.counted + self.registered
    }

    /// One line with the figures.
    pub fn summary(&self) -> String {
        let Wrong { lost, corrupted, reordered, repeated, refused } = &self.wrong;
        format!(
            "{} ends; acknowledged: {} results, {} messages by counter, {} registrations; sessions resumed: {} and {} \
             behind an end; lost: {}, corrupted: {}, reordered: {}, given out twice: {}, refused: {refused}; served \
             again after {} ms (median; at most {} ms) with a file of {} kB",
            self.ends,
            self.results,
            self.counted,
            self.registered,
            self.resumed,
            self.resumed_later,
            lost.len(),
            corrupted.len(),
            reordered.len(),
            repeated.len(),
            self.median_ms,
            self.longest_ms,
            self.file_bytes / 1000
        )
    }
}

/// What has acknowledged something: a result, or the counter of stream management.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Result,
    Counter,
}

/// A number from the environment.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Starts it with everybody in it.
pub fn prepare(server: &mut Server) -> io::Result<()> {
    for user in WRITERS.iter().chain(&SENDERS).chain(&SLEEPERS).chain(&RECEIVERS).chain(&OTHERS) {
        server.add_user(user)?;
    }
    server.start()
}

/// Puts load on the server and ends it with `end`, which leaves nothing of it running, `ends` times. Looks for all that
/// was acknowledged each time. A server that cannot be used any more has lost everything.
pub fn run(
    server: &mut Server,
    ends: u64,
    rng: &mut Rng,
    mut end: impl FnMut(&mut Server, &mut Rng) -> io::Result<()>,
) -> io::Result<Found> {
    let mut people = People {
        writers: WRITERS.iter().map(|name| Ledger::new(name)).collect(),
        senders: SENDERS.iter().map(|name| Ledger::new(name)).collect(),
        receivers: RECEIVERS.iter().map(|name| Receiver::new(name)).collect(),
        registered: BTreeSet::new(),
    };
    let (mut found, mut starts) = (Found::default(), Vec::new());
    while found.ends < ends {
        found.ends += 1;
        people = people.work(server, rng, &mut found, &mut end)?;
        let ended = Instant::now();
        let served = server.start().and_then(|()| Client::open(server.port)).map(drop);
        starts.push(ended.elapsed().as_millis());
        if let Err(error) = served.and_then(|()| people.audit(server, &mut found.wrong)) {
            found.wrong.lost.push(format!("everything: {error}"));
            break;
        }
    }
    starts.sort_unstable();
    found.median_ms = starts.get(starts.len() / 2).copied().unwrap_or_default();
    found.longest_ms = starts.last().copied().unwrap_or_default();
    found.file_bytes = server.file_bytes();
    found.registered = people.registered.len() as u64;
    found.resumed = people.receivers.iter().map(|receiver| receiver.resumed).sum();
    found.resumed_later = people.receivers.iter().map(|receiver| receiver.resumed_later).sum();
    server.kill()?;
    Ok(found)
}

struct People {
    writers: Vec<Ledger>,
    senders: Vec<Ledger>,
    receivers: Vec<Receiver>,
    registered: BTreeSet<String>,
}

impl People {
    /// Everybody works until the server has ended.
    fn work(
        mut self,
        server: &mut Server,
        rng: &mut Rng,
        found: &mut Found,
        end: &mut impl FnMut(&mut Server, &mut Rng) -> io::Result<()>,
    ) -> io::Result<Self> {
        let (tell, told) = mpsc::channel();
        let over = Arc::new(AtomicBool::new(false));
        let pause = Duration::from_micros(rng.next() % 5000);
        let (enough, port) = (1 + rng.next() % 150, server.port);
        // Whoever ends before the server does says why.
        let early = |over: &AtomicBool, name: &str, why: io::Error| match over.load(Ordering::Relaxed) {
            true => None,
            false => Some(format!("{name}: {why}")),
        };
        let writers: Vec<_> = std::mem::take(&mut self.writers)
            .into_iter()
            .map(|mut ledger| {
                let (mut rng, told, over) = (rng.fork(), tell.clone(), over.clone());
                thread::spawn(move || {
                    let why = write(port, &mut ledger, &mut rng, &told);
                    (early(&over, &ledger.name, why), ledger, Wrong::default())
                })
            })
            .collect();
        let senders: Vec<_> = std::mem::take(&mut self.senders)
            .into_iter()
            .map(|mut ledger| {
                let (mut rng, told, over) = (rng.fork(), tell.clone(), over.clone());
                thread::spawn(move || {
                    let (mut wrong, to) = (Wrong::default(), [&SLEEPERS[..], &RECEIVERS[..]].concat());
                    let why = managed::send(port, &mut ledger, &to, &mut rng, &told, &mut wrong);
                    (early(&over, &ledger.name, why), ledger, wrong)
                })
            })
            .collect();
        let receivers: Vec<_> = std::mem::take(&mut self.receivers)
            .into_iter()
            .map(|mut receiver| {
                let (mut rng, over) = (rng.fork(), over.clone());
                thread::spawn(move || {
                    let mut wrong = Wrong::default();
                    let why = receiver.receive(port, &mut rng, &mut wrong);
                    (why.and_then(|why| early(&over, &receiver.name, why)), receiver, wrong)
                })
            })
            .collect();
        drop(tell);
        let registrar = {
            let (registrar, over, round) = (server.registrar(), over.clone(), found.ends);
            thread::spawn(move || {
                let mut added = Vec::new();
                for n in 0.. {
                    let newcomer = format!("new{round}-{n}");
                    match registrar.add_user(&newcomer) {
                        Ok(()) => added.push(newcomer),
                        Err(_) => break,
                    }
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                }
                added
            })
        };
        // Of either kind so many, so that nobody is just about to begin.
        let (mut results, mut counted) = (0, 0);
        for by in &told {
            *if by == By::Result { &mut results } else { &mut counted } += 1;
            if results >= enough && counted >= enough {
                break;
            }
        }
        // Into the middle of whatever it does.
        thread::sleep(pause);
        over.store(true, Ordering::Relaxed);
        let ended = end(server, rng);
        server.kill()?;
        ended?;
        for by in &told {
            *if by == By::Result { &mut results } else { &mut counted } += 1;
        }
        found.results += results;
        found.counted += counted;
        let lost = |_| io::Error::other("somebody is lost");
        let mut complaints = Vec::new();
        for handle in writers {
            let (complaint, ledger, _) = handle.join().map_err(lost)?;
            complaints.extend(complaint);
            self.writers.push(ledger);
        }
        for handle in senders {
            let (complaint, ledger, wrong) = handle.join().map_err(lost)?;
            complaints.extend(complaint);
            found.wrong.add(wrong);
            self.senders.push(ledger);
        }
        for handle in receivers {
            let (complaint, receiver, wrong) = handle.join().map_err(lost)?;
            complaints.extend(complaint);
            found.wrong.add(wrong);
            self.receivers.push(receiver);
        }
        self.registered.extend(registrar.join().map_err(lost)?);
        if complaints.is_empty() { Ok(self) } else { Err(io::Error::other(complaints.join("\n"))) }
    }

    /// Looks for everything that was acknowledged.
    fn audit(&mut self, server: &Server, wrong: &mut Wrong) -> io::Result<()> {
        for ledger in &mut self.writers {
            let mut client = Client::log_in(server.port, &ledger.name)?;
            ledger.check_contacts(&client.roster()?, wrong);
            for slot in 0..=SLOTS {
                ledger.check_element(slot, &client.private(slot)?, wrong);
            }
            client.leave()?;
        }
        let mut heard = Vec::new();
        for sleeper in SLEEPERS {
            let mut client = Client::log_in(server.port, sleeper)?;
            heard.push((sleeper.to_owned(), client.wake()?));
            client.leave()?;
        }
        for receiver in &mut self.receivers {
            receiver.come_back(server.port, wrong)?;
            heard.push((receiver.name.clone(), std::mem::take(&mut receiver.heard)));
        }
        for (to, heard) in heard {
            wrong.corrupted.extend(heard.iter().filter_map(|message| message.clone().err()));
            for ledger in self.writers.iter_mut().chain(&mut self.senders) {
                ledger.check_messages(&to, &heard, wrong);
            }
        }
        let users = server.users()?;
        let gone = self.registered.iter().filter(|user| !users.contains(*user));
        wrong.lost.extend(gone.map(|user| format!("the user {user}")));
        Ok(())
    }
}

/// Writes until the connection ends, and gives the reason.
fn write(port: u16, ledger: &mut Ledger, rng: &mut Rng, told: &Sender<By>) -> io::Error {
    let mut client = match Client::log_in(port, &ledger.name) {
        Ok(client) => client,
        Err(error) => return error,
    };
    loop {
        let mut text = String::new();
        let n = 1 + rng.below(BURST_MAX);
        for _ in 0..n {
            text.push_str(&ledger.next(rng, &SLEEPERS));
        }
        if let Err(error) = client.say(&text) {
            return error;
        }
        for _ in 0..n {
            match client.next_result() {
                Ok(id) => {
                    ledger.acknowledged(&id);
                    // Nobody counts any more when the server is dead.
                    let _ = told.send(By::Result);
                }
                Err(error) => return error,
            }
        }
    }
}

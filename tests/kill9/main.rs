//! The real binary is killed (SIGKILL) at random moments under load and started again; every change that it has
//! acknowledged must be there: roster items, private elements, messages to people who are offline, registrations.
//!
//! `COUPLET_KILLS=200` kills more often, `COUPLET_SEED` begins elsewhere, `COUPLET_BINARY` is another build of it.

mod client;
mod ledger;
mod server;
#[path = "../trust/mod.rs"]
mod trust;

#[path = "../sim/rng.rs"]
#[allow(dead_code, reason = "the simulation needs more of it")]
mod rng;

use client::Client;
use ledger::{Ledger, SLOTS};
use rng::Rng;
use server::Server;
use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// Who writes, and who is written to while away.
const WRITERS: [&str; 4] = ["anne", "beth", "cleo", "dora"];
const SLEEPERS: [&str; 3] = ["xena", "yves", "zoe"];

/// Operations that are under way at once, at most.
const BURST_MAX: usize = 12;

#[test]
fn nothing_acknowledged_is_lost_to_kills() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (kills, seed) = (number("COUPLET_KILLS").unwrap_or(8), number("COUPLET_SEED").unwrap_or(1));
    let found = run(kills, seed, &[]).unwrap();
    println!("{found:?}");
    assert!(found.acknowledged > 20 * kills, "too little happened: {found:?}");
    assert_eq!(found.lost, Vec::<String>::new(), "seed {seed}");
}

/// The accounts are kept well: a server that acknowledges what is only in memory is found out.
#[test]
fn a_server_that_forgets_is_found_out() {
    let found = run(1, 1, &[("COUPLET_STORAGE__DURABILITY", "volatile")]).unwrap();
    for what in ["contact", "element", "message"] {
        assert!(found.lost.iter().any(|lost| lost.contains(what)), "{what}: {found:?}");
    }
}

/// `COUPLET_FILE_MB=30` looks at a large file.
#[test]
fn a_server_with_much_data_serves_again_after_a_kill() {
    let megabytes = std::env::var("COUPLET_FILE_MB").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let mut server = Server::new(&format!("{megabytes}-mb"), &[]).unwrap();
    server.start().unwrap();
    let mut served_ms = Vec::new();
    for n in 0.. {
        let user = format!("user{n}");
        server.add_user(&user).unwrap();
        let mut client = Client::log_in(server.port, &user).unwrap();
        // As many as an account may have, written into the kill.
        for slot in 0..64 {
            let element = format!("<s{slot} xmlns='kill:9'>{}</s{slot}>", "x".repeat(60_000));
            client.say(&private(&slot.to_string(), &element)).unwrap();
            client.next_result().unwrap();
        }
        client.say(&private("last", &format!("<s0 xmlns='kill:9'>{}</s0>", "y".repeat(60_000)))).unwrap();
        server.kill().unwrap();
        let killed = Instant::now();
        server.start().unwrap();
        let mut client = Client::open(server.port).unwrap();
        served_ms.push((server.file_bytes(), killed.elapsed().as_millis()));
        client.say("</stream:stream>").unwrap();
        let mut client = Client::log_in(server.port, &user).unwrap();
        client
            .say("<iq type='get' id='p'><query xmlns='jabber:iq:private'><s63 xmlns='kill:9'/></query></iq>")
            .unwrap();
        assert_eq!(client.next_result().unwrap(), "p");
        if server.file_bytes() >= megabytes * 1_000_000 {
            break;
        }
    }
    println!("bytes of the file, and milliseconds from the kill to the features of a new stream: {served_ms:?}");
    server.kill().unwrap();
}

fn private(id: &str, element: &str) -> String {
    format!("<iq type='set' id='{id}'><query xmlns='jabber:iq:private'>{element}</query></iq>")
}

/// What came of it.
#[derive(Debug, Default)]
#[allow(dead_code, reason = "printed")]
struct Found {
    kills: u64,
    acknowledged: u64,
    lost: Vec<String>,
    /// Milliseconds from the kill to the features of a new stream: half of the starts took no longer, and the longest.
    median_ms: u128,
    longest_ms: u128,
    file_bytes: u64,
}

fn run(kills: u64, seed: u64, environment: &[(&'static str, &'static str)]) -> io::Result<Found> {
    let mut rng = Rng::new(seed);
    let mut server = Server::new(&format!("{seed}-{kills}"), environment)?;
    for user in WRITERS.iter().chain(&SLEEPERS) {
        server.add_user(user)?;
    }
    server.start()?;
    let mut ledgers: Vec<Ledger> = WRITERS.iter().map(|name| Ledger::new(name)).collect();
    let mut registered: BTreeSet<String> = BTreeSet::new();
    let (mut found, mut starts) = (Found::default(), Vec::new());
    for kill in 1..=kills {
        let (acknowledge, acknowledged) = mpsc::channel();
        let enough = 20 + rng.below(200);
        let pause = Duration::from_micros(rng.next() % 5000);
        let newcomer = format!("new{kill}");
        let adding = server.adding_user(&newcomer)?;
        let port = server.port;
        let writers: Vec<_> = ledgers
            .into_iter()
            .map(|mut ledger| {
                let (mut rng, acknowledge) = (rng.fork(), acknowledge.clone());
                thread::spawn(move || {
                    let ended = write(port, &mut ledger, &mut rng, &acknowledge);
                    (ledger, ended)
                })
            })
            .collect();
        drop(acknowledge);
        let heard = acknowledged.iter().take(enough).count();
        // Into the middle of whatever it does.
        thread::sleep(pause);
        server.kill()?;
        let killed = Instant::now();
        let rest = acknowledged.iter().count();
        found.acknowledged += (heard + rest) as u64;
        ledgers = Vec::new();
        for writer in writers {
            let (ledger, ended) = writer.join().map_err(|_| io::Error::other("a writer is lost"))?;
            // They end with the server, and for no other reason.
            if heard < enough {
                return Err(io::Error::other(format!("{}: {ended}", ledger.name)));
            }
            ledgers.push(ledger);
        }
        if adding.wait_with_output()?.status.success() {
            registered.insert(newcomer);
        }
        server.start()?;
        Client::open(server.port)?;
        starts.push(killed.elapsed().as_millis());
        audit(&server, &mut ledgers, &registered, &mut found.lost)?;
        found.kills = kill;
    }
    starts.sort_unstable();
    found.median_ms = starts.get(starts.len() / 2).copied().unwrap_or_default();
    found.longest_ms = starts.last().copied().unwrap_or_default();
    found.file_bytes = server.file_bytes();
    server.kill()?;
    Ok(found)
}

/// Writes until the connection ends, and gives the reason.
fn write(port: u16, ledger: &mut Ledger, rng: &mut Rng, acknowledge: &Sender<()>) -> io::Error {
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
                    let _ = acknowledge.send(());
                }
                Err(error) => return error,
            }
        }
    }
}

/// Looks for everything that was acknowledged.
fn audit(
    server: &Server,
    ledgers: &mut [Ledger],
    registered: &BTreeSet<String>,
    lost: &mut Vec<String>,
) -> io::Result<()> {
    for ledger in ledgers.iter_mut() {
        let mut client = Client::log_in(server.port, &ledger.name)?;
        ledger.check_contacts(&client.roster()?, lost);
        for slot in 0..=SLOTS {
            ledger.check_element(slot, client.private(slot)?, lost);
        }
        client.leave()?;
    }
    for sleeper in SLEEPERS {
        let mut client = Client::log_in(server.port, sleeper)?;
        let heard = client.wake()?;
        client.leave()?;
        for ledger in ledgers.iter_mut() {
            ledger.check_messages(sleeper, &heard, lost);
        }
    }
    let users = server.users()?;
    lost.extend(registered.iter().filter(|user| !users.contains(*user)).map(|user| format!("the user {user}")));
    Ok(())
}

//! The real binary is killed (SIGKILL) at random moments under load and started again; every change that it has
//! acknowledged must be there, in its order.
//!
//! `COUPLET_KILLS=200` kills more often, `COUPLET_SEED` begins elsewhere, `COUPLET_BINARY` kills another build,
//! `COUPLET_BACKEND=sqlite` one with another store.

#[path = "../load/mod.rs"]
#[allow(dead_code, reason = "another test needs more of it")]
mod load;
#[path = "../trust/mod.rs"]
mod trust;

#[path = "../sim/rng.rs"]
#[allow(dead_code, reason = "the simulation needs more of it")]
mod rng;

use load::client::Client;
use load::server::Server;
use load::{Found, number};
use rng::Rng;
use std::time::Instant;

#[test]
fn nothing_acknowledged_is_lost_to_kills() {
    let (kills, seed) = (number("COUPLET_KILLS", 8), number("COUPLET_SEED", 1));
    let found = run(kills, seed, &[]);
    println!("kill -9: {}", found.summary());
    assert_eq!((found.wrong.count(), found.wrong.refused), (0, 0), "seed {seed}: {:#?}", found.wrong);
    assert!(found.results > 10 * kills && found.counted > 10 * kills, "too little happened");
    assert!(found.registered > kills / 2, "too few were registered");
}

/// The accounts are kept well: a server that acknowledges what is only in memory is found out.
#[test]
fn a_server_that_forgets_is_found_out() {
    let settings = [("COUPLET_STORAGE__BACKEND", "redb"), ("COUPLET_STORAGE__DURABILITY", "volatile")];
    // On a busy machine the end may come before anybody is registered, who could be forgotten.
    let found = (1..10).map(|seed| run(1, seed, &settings)).find(|found| found.registered > 0);
    let found = found.expect("registrations");
    for what in ["contact", "element", "of anne to", "of emil to", "the user"] {
        assert!(found.wrong.lost.iter().any(|lost| lost.contains(what)), "{what}: {:#?}", found.wrong);
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

fn run(kills: u64, seed: u64, environment: &[(&str, &str)]) -> Found {
    let mut server = Server::new(&format!("kill9-{seed}-{kills}"), environment).unwrap();
    load::prepare(&mut server).unwrap();
    load::run(&mut server, kills, &mut Rng::new(seed), |server, _| server.kill()).unwrap()
}

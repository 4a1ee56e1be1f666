//! The power is cut under the real binary: its data folder is on a disk that this test plays ([`fuse`], [`disk`]), and
//! at a random call the disk stops, the server is killed, and of all that was not synced the disk keeps, drops and
//! tears what it likes. Then the server starts again and must have every change that it has acknowledged, whole and in
//! order.
//!
//! `COUPLET_CUTS=200` cuts that often, `COUPLET_SEED` begins elsewhere, `COUPLET_BINARY` cuts another build,
//! `COUPLET_BACKEND=sqlite` another store. With the feature `planted-faults` the binary leaves its syncs out, and this
//! must be found out.
//!
//! As this mounts a file system it is done when it is asked for, by `COUPLET_CUTS` or `make nightly`. Otherwise, and
//! where that cannot be done, all of this says that it was skipped.

#[cfg_attr(feature = "planted-faults", allow(dead_code, reason = "for other troubles"))]
mod disk;
#[cfg_attr(feature = "planted-faults", allow(dead_code, reason = "for other troubles"))]
mod fuse;
#[path = "../load/mod.rs"]
#[allow(dead_code, reason = "another test needs more of it")]
mod load;
#[cfg(not(feature = "planted-faults"))]
mod trouble;
#[path = "../trust/mod.rs"]
mod trust;

#[path = "../sim/rng.rs"]
#[allow(dead_code, reason = "the simulation needs more of it")]
mod rng;

use disk::Tally;
use fuse::Mounted;
use load::server::Server;
use load::{Found, number};
use rng::Rng;
use std::io;
use std::time::Duration;

/// Bytes that the disk has place for.
const PLENTY: u64 = 256 * 1024 * 1024;

/// The call at which the power goes is one of that many next ones: a few commits.
const CALLS_MAX: u64 = 60;

/// A disk, or why there is none.
fn mount(name: &str, capacity: u64) -> Option<Mounted> {
    let asked = std::env::var_os("COUPLET_CUTS").ok_or_else(|| "it was not asked for: `make nightly`".to_owned());
    match asked.and_then(|_| Mounted::new(name, capacity)) {
        Ok(disk) => Some(disk),
        Err(why) => {
            println!("power: {name}: skipped: {why}");
            None
        }
    }
}

/// Cuts the power that often, and gives what was found and what the disk has lost.
fn cut(cuts: u64, seed: u64, disk: &Mounted, fault: &str) -> io::Result<(Found, Tally)> {
    let path = disk.path.display().to_string();
    let environment = [("COUPLET_STORAGE__PATH", path.as_str()), ("COUPLET_FAULT", fault)];
    let mut server = Server::new(&format!("power-{seed}-{cuts}"), &environment)?;
    let mut sum = Tally::default();
    let end = |server: &mut Server, rng: &mut Rng| {
        let calls = 1 + rng.next() % CALLS_MAX;
        disk.cut_in(calls, Duration::from_millis(500));
        server.strike()?;
        disk.dead();
        server.bury()?;
        sum.add(disk.power_on(rng));
        Ok(())
    };
    load::prepare(&mut server)?;
    if !fault.is_empty() {
        // It has begun well; otherwise there were nobody to lose anything.
        disk.with(disk::Disk::sync_all);
    }
    let found = load::run(&mut server, cuts, &mut Rng::new(seed), end)?;
    Ok((found, sum))
}

#[cfg(not(feature = "planted-faults"))]
#[test]
fn nothing_acknowledged_is_lost_to_power_cuts() {
    let (cuts, seed) = (number("COUPLET_CUTS", 8), number("COUPLET_SEED", 1));
    let Some(disk) = mount("cuts", PLENTY) else { return };
    let (found, sum) = cut(cuts, seed, &disk, "").unwrap();
    println!("power cuts: {}", found.summary());
    println!("power cuts: of what was not synced: {sum}");
    assert_eq!((found.wrong.count(), found.wrong.refused), (0, 0), "seed {seed}: {:#?}", found.wrong);
    assert!(found.results > 5 * cuts && found.counted > 5 * cuts, "too little happened");
    assert!(cuts < 50 || sum.dropped > 0 && sum.torn > 0, "the disk has lost nothing");
}

/// What says that nothing is lost must be able to say that something is.
#[cfg(feature = "planted-faults")]
#[test]
fn a_server_that_does_not_sync_is_found_out() {
    let (cuts, seed) = (number("COUPLET_CUTS", 8), number("COUPLET_SEED", 1));
    let (mut lost, mut unusable) = (0, 0);
    for n in 0..cuts {
        // A new disk each time: most do not survive one cut.
        let Some(disk) = mount(&format!("counter-proof-{n}"), PLENTY) else { return };
        let (found, _) = cut(1, seed + n, &disk, "SyncLeftOut").unwrap();
        let (all, some): (Vec<_>, Vec<_>) = found.wrong.lost.iter().partition(|lost| lost.starts_with("everything"));
        (lost, unusable) = (lost + some.len(), unusable + all.len());
    }
    println!("power cuts without syncs: of {cuts}, {unusable} left no store, the others lost {lost} changes");
    assert!(unusable + lost > 0, "nothing was lost, so these tests find nothing");
}

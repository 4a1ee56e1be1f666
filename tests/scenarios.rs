//! Performs every play in `tests/scenarios`: in process and in virtual time, over TCP and TLS against our binary, or
//! against another server to check that the plays expect the right thing.
//!
//! * `SCENARIO=0102` performs only the plays whose file name starts like that.
//! * `COUPLET_SCENARIO_PEER=127.0.0.1:5223` performs them against the server there, which must take direct TLS and know
//!   the accounts of the plays; with several addresses, separated by commas, as many plays at a time.
//!   `COUPLET_SCENARIO_ACCOUNTS` then names a program that is run before each play, with the address and `jid password`
//!   pairs as arguments, to make that server's accounts anew.

mod scenario;
mod trust;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use couplet::modules;
use scenario::grammar::{self, Play};
#[cfg(feature = "sqlite")]
use scenario::in_process::Disk;
use scenario::in_process::InProcess;
use scenario::own_server::OwnServer;
use scenario::perform;
use scenario::subscriptions;
use scenario::tcp::Tcp;

#[test]
fn every_play_is_performed_in_process() {
    each_play("in process", |play| {
        has_modules(play).then(|| InProcess::new(play).and_then(|mut stage| perform(play, &mut stage)))
    });
}

/// The same with the store that SQLite keeps.
#[cfg(feature = "sqlite")]
#[test]
fn every_play_is_performed_in_process_on_sqlite() {
    each_play("in process, on SQLite", |play| {
        has_modules(play).then(|| InProcess::on(Disk::sqlite(), play).and_then(|mut stage| perform(play, &mut stage)))
    });
}

/// What a play is said to require, it requires: without one of these modules it goes wrong.
#[test]
fn every_play_fails_in_process_without_a_module_that_it_requires() {
    let mut idle = Vec::new();
    for mut play in plays(std::env::var("SCENARIO").ok().as_deref()) {
        if !has_modules(&play) {
            continue;
        }
        let settings = play.settings.len();
        for name in play.requires.clone() {
            play.settings.truncate(settings);
            let also = play.settings.iter().find_map(|line| line.strip_prefix("modules.disabled = "));
            let disabled = also.map_or(name.clone(), |also| format!("{},{name}", also.trim_matches('"')));
            play.settings.push(format!("modules.disabled = {disabled}"));
            if InProcess::new(&play).and_then(|mut stage| perform(&play, &mut stage)).is_ok() {
                idle.push(format!("{}: passes without {name}", play.file));
            }
        }
    }
    assert!(idle.is_empty(), "{}", idle.join("\n"));
}

#[test]
fn every_cell_of_the_subscription_tables_is_performed_in_process() {
    each("in process", WORKERS, subscriptions::plays(), |play| {
        Some(InProcess::new(play).and_then(|mut stage| perform(play, &mut stage)))
    });
}

#[test]
fn every_play_is_performed_over_tls() {
    let certificates = Folder(std::env::temp_dir().join(format!("couplet-plays-{}", std::process::id())));
    each_play("over TLS", |play| {
        if play.in_process_only || !has_modules(play) {
            return None;
        }
        let stage = OwnServer::start(play, &certificates.0).and_then(Tcp::own);
        Some(stage.and_then(|mut stage| perform(play, &mut stage)))
    });
}

/// Prosody, that is: what a play says of how it differs must be true.
#[test]
fn every_play_is_performed_against_another_server_when_one_is_named() {
    let Ok(peers) = std::env::var("COUPLET_SCENARIO_PEER") else {
        return;
    };
    let parse = |peer: &str| peer.parse().expect("COUPLET_SCENARIO_PEER is address:port[,address:port...]");
    let peers: Vec<SocketAddr> = peers.split(',').map(parse).collect();
    // A server is for one play at a time: the accounts are the same.
    let (workers, idle, differ) = (peers.len(), Mutex::new(peers), AtomicUsize::new(0));
    let (played, skipped) =
        each("against another server", workers, plays(std::env::var("SCENARIO").ok().as_deref()), |play| {
            if play.ours_only || play.in_process_only {
                return None;
            }
            let peer = idle.lock().expect("no play panics while it holds it").pop().expect("a server for each worker");
            let outcome = make_accounts(peer, play).and_then(|()| Tcp::foreign(peer)).and_then(|mut stage| {
                match (perform(play, &mut stage), play.differs) {
                    (Ok(()), true) => Err(format!("{}:1: is said to differ and does not", play.file)),
                    (Err(how), true) => {
                        println!("as said: {}", how.lines().next().unwrap_or_default());
                        differ.fetch_add(1, Ordering::Relaxed);
                        Ok(())
                    }
                    (outcome, false) => outcome,
                }
            });
            idle.lock().expect("no play panics while it holds it").push(peer);
            Some(outcome)
        });
    let differ = differ.into_inner();
    let alike = played - differ;
    println!("against another server: {alike} performed alike, {differ} said to differ, {skipped} cannot run there");
}

#[test]
fn plays_are_numbered_and_titled() {
    let mut numbers = std::collections::BTreeMap::new();
    for play in plays(None) {
        if let Some(other) = numbers.insert(play.file[..4].to_owned(), play.file.clone()) {
            panic!("{}: {other} has that number already", play.file);
        }
        let (number, topic) = play.file.split_once('-').unwrap_or_default();
        assert!(
            number.len() == 4 && number.bytes().all(|b| b.is_ascii_digit()),
            "{}: expected NNNN-topic.scs",
            play.file
        );
        for name in &play.requires {
            assert!(modules::KNOWN.iter().any(|(known, _)| known == name), "{}: there is no module {name}", play.file);
        }
        assert!(!topic.is_empty() && !play.title.is_empty(), "{}: a play has a topic and a title", play.file);
    }
}

/// Plays that are performed at the same time.
const WORKERS: usize = 6;

/// Performs all plays that `SCENARIO` chooses and reports every one that fails. `stage` returns `None` for a play that
/// is not for it.
fn each_play(place: &str, stage: impl Fn(&Play) -> Option<Result<(), String>> + Sync) {
    each(place, WORKERS, plays(std::env::var("SCENARIO").ok().as_deref()), stage);
}

/// Gives how many were played and how many are not for this stage.
fn each(
    place: &str,
    workers: usize,
    plays: Vec<Play>,
    stage: impl Fn(&Play) -> Option<Result<(), String>> + Sync,
) -> (usize, usize) {
    // Over TLS a play mostly waits for silence. The first makes the certificates that all share.
    let (next, outcomes) = (AtomicUsize::new(1), Mutex::new(vec![stage(&plays[0])]));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(play) = plays.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = stage(play);
                    outcomes.lock().expect("no play panics while it holds it").push(outcome);
                }
            });
        }
    });
    let (mut played, mut skipped, mut failures) = (0, 0, Vec::new());
    for outcome in outcomes.into_inner().expect("no play has panicked") {
        match outcome {
            None => skipped += 1,
            Some(Ok(())) => played += 1,
            Some(Err(why)) => failures.push(why),
        }
    }
    failures.sort();
    println!("{place}: {played} plays performed, {skipped} are not for this stage, {} failed", failures.len());
    assert!(failures.is_empty(), "{place}: {} plays failed\n\n{}", failures.len(), failures.join("\n"));
    (played, skipped)
}

fn plays(only: Option<&str>) -> Vec<Play> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut plays = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("tests/scenarios can be read") {
        let path = entry.expect("tests/scenarios can be read").path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_some_and(|e| e == "scs") && only.is_none_or(|only| file.starts_with(only)) {
            let text = std::fs::read_to_string(&path).expect("a play can be read");
            plays.push(grammar::parse(&file, &text).unwrap_or_else(|e| panic!("{e}")));
        }
    }
    plays.sort_by(|a, b| a.file.cmp(&b.file));
    assert!(!plays.is_empty(), "no play is called {only:?}");
    plays
}

/// A folder that goes with its owner, however the test ends.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing is in it when every play was filtered out.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether this build has the modules that the play needs.
fn has_modules(play: &Play) -> bool {
    play.requires.iter().all(|name| modules::LIST.iter().any(|m| m.name == name))
}

fn make_accounts(peer: SocketAddr, play: &Play) -> Result<(), String> {
    let Ok(program) = std::env::var("COUPLET_SCENARIO_ACCOUNTS") else {
        return Ok(());
    };
    let pairs = play.accounts().into_iter().flat_map(|(jid, password)| [jid, password]);
    let command = std::process::Command::new(&program).arg(peer.to_string()).args(pairs).status();
    let status = command.map_err(|e| format!("{program}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{program} failed")) }
}

//! A machine that is in a hurry, and one that has little.

use std::fs;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use super::{CONFIG, Folder};

/// As process 1 of a container, too, whom the system gives no signal that it does not wait for.
#[test]
fn told_to_stop_or_to_reload_while_it_starts_it_does_so_once_it_has_started() {
    let folder = Folder::new();
    drop(folder.serve());
    let lock = fs::File::open(folder.0.join("couplet-data/couplet.redb.lock")).unwrap();
    lock.lock().unwrap();
    let socket = folder.0.join("couplet-data/couplet.sock");
    fs::remove_file(&socket).unwrap();
    let mut child = folder.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    while !socket.exists() {
        assert_eq!(child.try_wait().unwrap(), None, "it has not waited");
    }
    for signal in [Signal::HUP, Signal::TERM] {
        kill_process(Pid::from_child(&child), signal).unwrap();
    }
    drop(lock);
    let ran = child.wait_with_output().unwrap();
    let log = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(0), "{log}");
    assert!(log.contains("shutting down") && !socket.exists(), "{log}");
    assert_eq!(folder.run(&["check"]).code, 0);
}

/// In a container it is what a ceiling of memory says; a machine has what it has.
#[test]
fn a_ceiling_that_the_machine_does_not_have_is_named() {
    let folder = Folder::new();
    folder.write("couplet.toml", &format!("{CONFIG}[memory]\nmax = \"4 GB\"\n[limits]\nconnections_max = 1000\n"));
    let total = fs::read_to_string("/proc/meminfo").unwrap();
    let total: u64 = total.split_whitespace().nth(1).unwrap().parse().unwrap();
    if total / 4 * 3 > 4_000_000_000 / 1024 {
        println!("skipped: this machine has more memory than can be asked for");
        return;
    }
    let check = folder.run(&["check"]);
    assert!(check.code == 0 && check.out.contains("warn  memory: memory.max lets couplet take 4000 MB"), "{check:?}");
}

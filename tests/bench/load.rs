//! How fast, and with how little: `make bench` drives our server and other people's the same way, in turn, in one run.
//!
//! | variable | what |
//! |---|---|
//! | `BENCH_COUPLET` | the binary of ours; `make bench` takes the one that is published |
//! | `BENCH_ONLY` | loads to run: `idle,login,ping,chat,rooms,storm,offline,idle-rooms` |
//! | `BENCH_SERVERS` | servers to run: `couplet,sqlite,prosody,ejabberd,jabberd2,defaults,echo`; `sqlite` is ours with that store |
//! | `BENCH_REPEATS` | how often each; 3 |
//! | `BENCH=full` | 5000 clients as well, and what a message costs among more clients, contacts, accounts |
//!
//! The server has one processor, the generator another; CPU and memory are those of the server's processes, from
//! `/proc`. A rate or a latency counts only if the generator had time to spare; CPU for each message counts always, and
//! is what to compare on a machine that does other things too.

mod crowd;
mod echo;
mod frame;
mod loads;
mod net;
mod process;
mod report;
mod seed;
mod server;
#[path = "../trust/mod.rs"]
mod trust;

use report::Report;
use server::{GENERATOR_CORE, Kind, Server};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        [_, "echo", port, pem] => match port.parse() {
            Ok(port) => echo::serve(port, Path::new(pem)),
            Err(_) => Err("echo: no port".into()),
        },
        _ => run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether a comma-separated variable has a word; one that is not set has all.
fn wants(variable: &str, word: &str) -> bool {
    std::env::var(variable).map_or(true, |all| all.is_empty() || all.split(',').any(|one| one.trim() == word))
}

fn run() -> Result<(), String> {
    server::couplet()?;
    let _ = rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit { current: Some(20_000), maximum: Some(20_000) },
    );
    let pinned = process::pin_self(GENERATOR_CORE);
    let is_wanted = |kind: &Kind| wants("BENCH_SERVERS", kind.key());
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(is_wanted).filter(|kind| kind.is_installed()).collect();
    for kind in Kind::ALL.iter().filter(|kind| is_wanted(kind) && !kinds.contains(kind)) {
        eprintln!("bench: without {}: {}", kind.name(), kind.remedy());
    }
    let repeats = std::env::var("BENCH_REPEATS").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    let begin = std::time::Instant::now();
    let mut report = Report::default();
    for kind in kinds.iter().filter(|kind| **kind != Kind::Echo) {
        seed::make(*kind)?;
    }
    let first_load = process::load_average();
    for repeat in 1..=repeats {
        let commit = process::commit_time(&server::target())?;
        for kind in &kinds {
            eprintln!("bench: {repeat} of {repeats}: {} (load average {:.1})", kind.name(), process::load_average());
            report.sheet(*kind).remark("commit-ms", commit.as_secs_f64() * 1000.0);
            one(*kind, &mut report)?;
        }
    }
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor =
        processor.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ")).unwrap_or_default().1;
    let preface = format!(
        "TLS 1.3, P-256, no resumption; medians of {repeats} (lowest to highest). {processor}; server and generator \
         {}on a core each. Load average {first_load:.1} before and {:.1} behind; {:.0} s in all. \"void\": the \
         generator had no time to spare.\n",
        if pinned { "" } else { "NOT " },
        process::load_average(),
        begin.elapsed().as_secs_f64(),
    );
    report.write(&kinds, &preface)
}

/// All loads on one server. One that fails is counted, and the next one gets a fresh server.
fn one(kind: Kind, report: &mut Report) -> Result<(), String> {
    let mut server = Server::start(kind)?;
    let mut failed = 0;
    for load in loads::ALL.iter().filter(|load| wants("BENCH_ONLY", load.name) && (load.takes)(kind)) {
        if let Err(error) = (load.run)(&mut server, &mut report.sheet(kind)) {
            eprintln!("bench: {}: {}: {error}", kind.name(), load.name);
            failed += 1;
            server.stop();
            server = Server::start(kind)?;
        }
    }
    report.sheet(kind).remark("failed", f64::from(failed));
    Ok(())
}

//! What strangers, users, other servers and components may try, against the real binary over real sockets: each input
//! has the answer that its specification fixes, what must not be allowed is refused and its allowed twin is not, and
//! a client that does nothing wrong is served all the while.
//!
//! `COUPLET_ATTACK=carbons,rooms` runs what has one of these words in its name, `COUPLET_BINARY` attacks another build,
//! and with `COUPLET_FLOODS=5` floods last five seconds each and the figures are measured that are promised.

#[cfg(feature = "compression")]
mod bombs;
#[path = "../load/client.rs"]
#[allow(dead_code, reason = "tests of power cuts and kills need more of it")]
mod client;
mod figures;
mod floods;
mod gate;
mod pairs;
mod process;
mod script;
mod seen;
#[path = "../load/server.rs"]
#[allow(dead_code, reason = "tests of power cuts and kills need more of it")]
mod server;
mod stages;
mod table;
mod target;
#[path = "../trust/mod.rs"]
mod trust;
mod wire;
mod witness;

use pairs::{Cast, PAIRS};
use process::Peak;
use seen::observe;
use std::time::Duration;
use table::{Input, STAGES};
use target::Target;
use witness::Witness;

/// Whether somebody wants to see that.
fn wanted(name: &str) -> bool {
    std::env::var("COUPLET_ATTACK").map_or(true, |words| words.split(',').any(|word| name.contains(word)))
}

/// Everything that is wrong with an input, in one line.
fn judge(target: &Target, input: &Input, others: &[Input]) -> Result<(), String> {
    let Input { stage, outcome, reference, name, script } = input;
    let name = format!("{name} ({reference})");
    let seen = observe(target, *stage, script, outcome).map_err(|error| format!("{name}: {error}"))?;
    if !seen.is(outcome) {
        return Err(format!("{name}: {outcome:?} does not come: {seen:?}"));
    }
    // What fits everything shows nothing.
    match others.iter().find(|other| outcome.excludes(&other.outcome) && seen.is(&other.outcome)) {
        Some(other) => Err(format!("{name}: it is {:?} as well: {seen:?}", other.outcome)),
        None => Ok(()),
    }
}

/// Nothing that the server says is about itself.
fn said_no_bug(target: &Target) -> String {
    let said = target.server.said();
    assert!(!said.contains(" ERROR ") && !said.contains("panic"), "{said}");
    said
}

/// Whether the program that is attacked has this module, by its own word.
fn has_module(name: &str) -> bool {
    let about = std::process::Command::new(server::binary()).arg("about").output().unwrap().stdout;
    let about = String::from_utf8(about).unwrap();
    let row = about.lines().find(|line| line.trim_start().starts_with(&format!("{name} ")));
    !row.unwrap_or_else(|| panic!("`couplet about` does not know {name}:\n{about}")).contains("not in this build")
}

/// Performs all inputs; what is wrong with them.
fn inputs(target: &Target) -> Vec<String> {
    let (mut wrong, mut all) = (Vec::new(), 0);
    for (stage, table) in STAGES {
        // COUPLET_BINARY may name another build than this test is of.
        let is_there = match *stage {
            "http" => target.port("HTTP").is_ok(),
            "commands" => has_module("commands"),
            _ => true,
        };
        if !is_there {
            println!("{stage}: skipped: this server has none");
            continue;
        }
        let inputs = table::read(table).unwrap();
        for input in inputs.iter().filter(|input| wanted(&format!("{stage}: {}", input.name))) {
            wrong.extend(judge(target, input, &inputs).err().map(|text| format!("{stage}: {text}")));
        }
        println!("{stage}: {} inputs", inputs.len());
        all += inputs.len();
    }
    println!("{all} inputs");
    wrong
}

/// Performs all pairs; what is wrong with them.
fn pairs(target: &Target) -> Vec<String> {
    let lines = pairs::read(PAIRS).unwrap();
    let mut cast = Cast::new(target);
    let mut wrong = Vec::new();
    for line in &lines {
        let twin = lines.iter().find(|other| other.pair == line.pair && other.kind == '+');
        let twin = twin.filter(|_| line.kind == '-');
        wrong.extend(cast.perform(line, twin).err());
    }
    println!("{} pairs", lines.iter().filter(|line| line.kind == '+').count());
    wrong
}

/// Does it while a witness is served; nothing is wrong.
fn witnessed(target: &Target, act: fn(&Target) -> Vec<String>) {
    let witness = Witness::start(target).unwrap();
    let mut wrong = act(target);
    wrong.extend(witness.stop().err().map(|error| format!("the witness: {error}")));
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    said_no_bug(target);
}

#[test]
fn every_hostile_input_has_its_answer() {
    witnessed(&Target::start("inputs", &[]).unwrap(), inputs);
}

#[cfg(feature = "compression")]
#[test]
fn bombs_end_their_streams_and_take_no_memory() {
    // As fast as they come: else the rate of a client would hold them.
    let settings = [("COUPLET_COMPRESSION__ENABLED", "true"), ("COUPLET_LIMITS__C2S__RATE", "unlimited")];
    witnessed(&Target::start("bombs", &settings).unwrap(), bombs::drop_all);
}

#[test]
fn what_must_not_be_allowed_is_refused_and_its_twin_is_not() {
    witnessed(&Target::start("pairs", &[]).unwrap(), pairs);
}

#[test]
fn floods_harm_nobody() {
    let seconds = std::env::var("COUPLET_FLOODS").ok().and_then(|seconds| seconds.parse().ok());
    match seconds.map(Duration::from_secs) {
        None => {
            let target = Target::start("floods", &[]).unwrap();
            let peak = Peak::watch(target.server.pid().unwrap());
            let flood =
                |flood: &&floods::Flood| floods::run(&target, flood, floods::LITTLE, Duration::ZERO, &peak).err();
            let wrong: Vec<_> = floods::all().iter().filter(|flood| wanted(flood.name)).filter_map(flood).collect();
            assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
            let said = said_no_bug(&target);
            // Who guesses from an address that nothing slows down does not fill the log.
            let guesses = said.lines().filter(|line| line.contains(" as irc.localhost")).count();
            assert!(guesses <= 2, "{guesses} lines of the log are about a component that guesses");
        }
        Some(lasts) => {
            let wrong = figures::measure(lasts, &[inputs, pairs], wanted).unwrap();
            assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
        }
    }
}

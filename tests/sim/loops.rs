//! One run, again and again, with one misfortune each time: the power goes at every commit, and every call of the store
//! fails once. What the clients were told must hold each time.

use super::model::{Check, Violation};
use super::world::World;

/// What happens at one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doom {
    /// The power goes before it has reached the disk.
    CrashBefore,
    /// The power goes when it has, and nobody was told.
    CrashAfter,
    /// It fails.
    Fails,
    /// It is durable, and what is stored cannot be read when that is told.
    Unreadable,
}

impl Doom {
    /// Whether what is asked for may be refused by it.
    pub fn refuses(self) -> bool {
        matches!(self, Self::Fails | Self::Unreadable)
    }
}

/// Of what led to the end so much is told.
const LINES: usize = 80;

/// Performs a script once with each of these misfortunes at each of its commits. Returns how many runs that were.
fn at_every_commit(script: u64, dooms: &[Doom]) -> u64 {
    let mut runs = 0;
    for &doom in dooms {
        for nth in 1.. {
            let (outcome, met) = perform(script, Some((nth, doom)), false);
            if let Err(Violation { invariant, text }) = outcome {
                let (_, trace) = tell(script, Some((nth, doom)));
                panic!("{trace}\nscript {script}, commit {nth}, {doom:?}: {invariant:?}: {text}");
            }
            if !met {
                break;
            }
            runs += 1;
        }
    }
    runs
}

/// Whether all rules held, and whether the misfortune came.
fn perform(script: u64, doom: Option<(u64, Doom)>, traced: bool) -> (Check, bool) {
    match World::scripted(script, doom, traced) {
        Ok(mut world) => (world.run(), world.doom.is_none()),
        Err(violation) => (Err(violation), true),
    }
}

fn tell(script: u64, doom: Option<(u64, Doom)>) -> (Check, String) {
    match World::scripted(script, doom, true) {
        Ok(mut world) => {
            let outcome = world.run();
            let lines: Vec<String> = world.trace().map(|line| line.chars().take(300).collect()).collect();
            (outcome, lines[lines.len().saturating_sub(LINES)..].join("\n"))
        }
        Err(violation) => (Err(violation), String::new()),
    }
}

/// Scripts for both loops: `COUPLET_SIM_SCRIPTS=20` performs that many, `COUPLET_SIM_SCRIPT=4` that one.
fn scripts() -> std::ops::Range<u64> {
    match super::seeds::number("COUPLET_SIM_SCRIPT") {
        Some(script) => script..script + 1,
        None => 0..super::seeds::number("COUPLET_SIM_SCRIPTS").unwrap_or(1),
    }
}

#[test]
fn a_crash_at_any_commit_loses_nothing_that_was_acknowledged() {
    for script in scripts() {
        let runs = at_every_commit(script, &[Doom::CrashBefore, Doom::CrashAfter]);
        println!("script {script}: {runs} crashes");
        assert!(runs > 60, "a script that writes too little: {runs}");
    }
}

#[test]
fn a_store_that_fails_any_call_loses_nothing_that_was_acknowledged() {
    for script in scripts() {
        let runs = at_every_commit(script, &[Doom::Fails, Doom::Unreadable]);
        println!("script {script}: {runs} failures");
        assert!(runs > 60, "a script that writes too little: {runs}");
    }
}

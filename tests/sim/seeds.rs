//! Runs from many seeds: what all of them have to hold, and what each planted fault has to break.
//!
//! * `COUPLET_SIM_SEED=7` performs that seed alone and says everything that happens.
//! * `COUPLET_SIM_SEEDS=5000` performs that many instead of the usual number, `COUPLET_SIM_FROM=2000` from that one on.

#[cfg(feature = "planted-faults")]
use crate::model::Invariant;
use crate::model::{Check, Violation};
#[cfg(feature = "planted-faults")]
use couplet::fault::{Fault, arm};
use std::collections::BTreeMap;

/// So many are tried until one notices a planted fault.
#[cfg(feature = "planted-faults")]
const FAULT_SEEDS: u64 = 2000;

/// So many seeds that break a rule are enough to see what is wrong.
const FAILED_MAX: usize = 20;

/// How many lines of a run that broke a rule are shown, and how many characters of each.
const LINES: usize = 80;
const WIDTH: usize = 300;

/// What happened in a run, and how often.
pub type Stats = BTreeMap<&'static str, u64>;

/// One run, and what it leaves to be told.
pub struct Told {
    pub outcome: Check,
    pub stats: Stats,
    /// What happened, if it was to be written down.
    pub trace: Vec<String>,
    pub step: u64,
}

impl From<Violation> for Told {
    /// A world that could not even be made.
    fn from(violation: Violation) -> Self {
        Self { outcome: Err(violation), stats: Stats::new(), trace: Vec::new(), step: 0 }
    }
}

/// Performs a seed; the second says whether to write down what happens.
pub type Run = fn(u64, bool) -> Told;

pub fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs a seed again and tells what led to its end.
fn explain(run: Run, seed: u64, lines: usize, width: usize) -> String {
    let Told { outcome, trace, step, .. } = run(seed, true);
    let skipped = trace.len().saturating_sub(lines);
    let last: Vec<String> = trace[skipped..].iter().map(|line| line.chars().take(width).collect()).collect();
    let end = match outcome {
        Ok(()) => "all rules held".to_string(),
        Err(Violation { invariant, text }) => format!("{invariant:?}: {text}"),
    };
    format!("{}\nseed {seed}, step {step}: {end}", last.join("\n"))
}

/// Every rule holds for `usual` seeds, or as many as are asked for. Each thing of `rare` happens in them at least once
/// in four: a world in which nothing happens breaks no rule.
pub fn every_rule_holds(run: Run, usual: u64, rare: &[&str]) {
    if let Some(seed) = number("COUPLET_SIM_SEED") {
        let text = explain(run, seed, usize::MAX, usize::MAX);
        println!("{text}");
        assert!(text.ends_with("all rules held"));
        return;
    }
    let (mut stats, mut failed) = (Stats::new(), Vec::new());
    let seeds = number("COUPLET_SIM_SEEDS").unwrap_or(usual);
    let first = number("COUPLET_SIM_FROM").unwrap_or(0);
    for seed in first..first + seeds {
        let told = run(seed, false);
        if let Err(violation) = told.outcome {
            failed.push((seed, violation));
            if failed.len() >= FAILED_MAX {
                break;
            }
        }
        for (what, n) in told.stats {
            *stats.entry(what).or_default() += n;
        }
    }
    for (seed, Violation { invariant, text }) in &failed {
        println!("seed {seed}: {invariant:?}: {text}");
    }
    if let Some((seed, _)) = failed.first() {
        panic!("{}", explain(run, *seed, LINES, WIDTH));
    }
    println!("{stats:#?}");
    for what in rare {
        assert!(stats.get(what).is_some_and(|n| *n >= seeds / 4), "too few {what}");
    }
}

/// With each fault a seed is found that breaks the rule beside it.
#[cfg(feature = "planted-faults")]
pub fn every_fault_is_noticed(run: Run, faults: &[(Fault, Invariant)]) {
    let mut unseen = Vec::new();
    for (fault, rule) in faults {
        arm(Some(*fault));
        let caught = |seed: &u64| run(*seed, false).outcome.is_err_and(|violation| violation.invariant == *rule);
        match (0..FAULT_SEEDS).find(caught) {
            Some(seed) => println!("{fault:?}: seed {seed} shows that {rule:?} is broken"),
            None => unseen.push(fault),
        }
    }
    arm(None);
    assert!(unseen.is_empty(), "no seed below {FAULT_SEEDS} notices {unseen:?}");
}

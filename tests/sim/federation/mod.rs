//! Two and three servers that speak with each other over a network that breaks, and with somebody who lies to them.
//!
//! * `COUPLET_SIM_SEED=7` performs that seed alone and says everything that happens.
//! * `COUPLET_SIM_SEEDS=5000` performs that many instead of 100, `COUPLET_SIM_FROM=2000` from that one on.

mod client;
mod liar;
mod model;
mod network;
mod plan;
mod rules;
mod wire;
mod world;

#[cfg(feature = "planted-faults")]
use crate::FAULT_SEEDS;
#[cfg(feature = "planted-faults")]
use crate::model::Invariant;
use crate::model::{Check, Violation};
use crate::{FAILED_MAX, Stats, number};
#[cfg(feature = "planted-faults")]
use couplet::fault::{Fault, arm};
use world::World;

const SEEDS: u64 = 100;

fn run(seed: u64, traced: bool) -> (Check, Option<World>) {
    match World::new(seed, traced) {
        Ok(mut world) => (world.run(), Some(world)),
        Err(violation) => (Err(violation), None),
    }
}

/// Runs a seed again and tells what led to its end.
fn explain(seed: u64, lines: usize) -> String {
    let (outcome, world) = run(seed, true);
    let trace: Vec<&String> = world.iter().flat_map(|w| w.trace()).collect();
    let skipped = trace.len().saturating_sub(lines);
    let width = if lines == usize::MAX { usize::MAX } else { 300 };
    let trace: Vec<String> = trace[skipped..].iter().map(|line| line.chars().take(width).collect()).collect();
    let step = world.as_ref().map_or(0, |w| w.step);
    let end = match outcome {
        Ok(()) => "all rules held".to_string(),
        Err(Violation { invariant, text }) => format!("{invariant:?}: {text}"),
    };
    format!("{}\nseed {seed}, step {step}: {end}", trace.join("\n"))
}

#[test]
fn every_rule_holds_between_servers() {
    if let Some(seed) = number("COUPLET_SIM_SEED") {
        let text = explain(seed, usize::MAX);
        println!("{text}");
        assert!(text.ends_with("all rules held"));
        return;
    }
    let (mut stats, mut failed) = (Stats::new(), Vec::new());
    let seeds = number("COUPLET_SIM_SEEDS").unwrap_or(SEEDS);
    let first = number("COUPLET_SIM_FROM").unwrap_or(0);
    for seed in first..first + seeds {
        let (outcome, world) = run(seed, false);
        if let Err(violation) = outcome {
            failed.push((seed, violation));
            if failed.len() >= FAILED_MAX {
                break;
            }
        }
        for (what, n) in world.into_iter().flat_map(|w| w.stats) {
            *stats.entry(what).or_default() += n;
        }
    }
    for (seed, Violation { invariant, text }) in &failed {
        println!("seed {seed}: {invariant:?}: {text}");
    }
    if let Some((seed, _)) = failed.first() {
        panic!("{}", explain(*seed, 80));
    }
    println!("{stats:#?}");
    // A world in which nothing happens breaks no rule.
    let rare = [
        "attempts to connect that failed",
        "calls that reached a liar",
        "connections between servers",
        "connections between servers that were cut",
        "crashes",
        "messages between servers",
        "messages that came again",
        "messages that came back",
        "messages that were counted",
        "presences that arrived",
        "questions that were answered",
        "what liars said",
    ];
    for what in rare {
        assert!(stats.get(what).is_some_and(|n| *n >= seeds / 4), "too few {what}");
    }
}

/// Each fault and the rule that it breaks.
#[cfg(feature = "planted-faults")]
const FAULTS: [(Fault, Invariant); 8] = [
    (Fault::ServerBelieved, Invariant::TrueSender),
    (Fault::WayForgotten, Invariant::NothingLost),
    (Fault::WayUnordered, Invariant::OrderKept),
    (Fault::WayNotRestored, Invariant::NothingLost),
    (Fault::CountUnawaited, Invariant::NothingLost),
    (Fault::ReturnUntold, Invariant::AnsweredOnce),
    (Fault::LinkChargeKept, Invariant::Bounded),
    (Fault::BlockIgnored, Invariant::BlockedUnseen),
];

#[cfg(feature = "planted-faults")]
#[test]
fn every_planted_fault_is_noticed_between_servers() {
    let mut unseen = Vec::new();
    for (fault, rule) in FAULTS {
        arm(Some(fault));
        let caught = |seed: &u64| run(*seed, false).0.is_err_and(|violation| violation.invariant == rule);
        match (0..FAULT_SEEDS).find(caught) {
            Some(seed) => println!("{fault:?}: seed {seed} shows that {rule:?} is broken"),
            None => unseen.push(fault),
        }
    }
    arm(None);
    assert!(unseen.is_empty(), "no seed below {FAULT_SEEDS} notices {unseen:?}");
}

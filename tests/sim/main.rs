//! The whole server in a simulated world: engine, clients, network and disk, from one seed.
//!
//! * `COUPLET_SIM_SEED=7` performs that seed alone and says everything that happens.
//! * `COUPLET_SIM_SEEDS=5000` performs that many instead of 200, `COUPLET_SIM_FROM=2000` from that one on.

mod arrival;
mod client;
mod disk;
mod federation;
mod loops;
mod managed;
mod model;
mod network;
mod nodes;
mod plan;
mod rng;
mod rooms;
mod rules;
mod tap;
mod world;

#[cfg(feature = "planted-faults")]
use couplet::fault::{Fault, arm};
#[cfg(feature = "planted-faults")]
use model::Invariant;
use model::{Check, Violation};
use std::collections::BTreeMap;
use world::World;

const SEEDS: u64 = 200;

/// So many are tried until one notices a planted fault.
#[cfg(feature = "planted-faults")]
const FAULT_SEEDS: u64 = 2000;

/// So many seeds that break a rule are enough to see what is wrong.
const FAILED_MAX: usize = 20;

type Stats = BTreeMap<&'static str, u64>;

/// One run. The world is returned for its last words.
fn run(seed: u64, traced: bool) -> (Check, Option<World>) {
    match World::new(seed, traced) {
        Ok(mut world) => (world.run(), Some(world)),
        Err(violation) => (Err(violation), None),
    }
}

/// Runs a seed again and tells what led to its end.
fn explain(seed: u64, lines: usize) -> String {
    let (outcome, world) = run(seed, true);
    let trace: Vec<String> = world.iter().flat_map(|w| w.trace().cloned()).collect();
    let skipped = trace.len().saturating_sub(lines);
    let short =
        |line: &String| line.chars().take(if lines == usize::MAX { usize::MAX } else { 300 }).collect::<String>();
    let trace: Vec<String> = trace.iter().map(short).collect();
    let step = world.map_or(0, |w| w.step);
    let end = match outcome {
        Ok(()) => "all rules held".to_string(),
        Err(Violation { invariant, text }) => format!("{invariant:?}: {text}"),
    };
    format!("{}\nseed {seed}, step {step}: {end}", trace[skipped..].join("\n"))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn every_rule_holds_for_every_seed() {
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
        "block pushes",
        "carbons",
        "clients that were idle",
        "commits that failed",
        "connections dropped",
        "crashes",
        "errors",
        "messages out of the spool",
        "presences that arrived",
        "registers read",
        "roster pushes",
        "items published",
        "items read",
        "messages in rooms",
        "notifications of nodes",
        "sessions resumed",
        "stanzas that were acknowledged",
        "subscription stanzas that arrived",
    ];
    for what in rare {
        assert!(stats.get(what).is_some_and(|n| *n >= seeds / 4), "too few {what}");
    }
}

/// Each fault and the rule that it breaks. Every rule is here, so that none only seems to be checked.
#[cfg(feature = "planted-faults")]
const FAULTS: [(Fault, Invariant); 24] = [
    (Fault::NameForgotten, Invariant::NothingLost),
    (Fault::QueueJumped, Invariant::OrderKept),
    (Fault::SenderBelieved, Invariant::TrueSender),
    (Fault::BlockIgnored, Invariant::BlockedUnseen),
    (Fault::StoredUnfiltered, Invariant::BlockedUnseen),
    (Fault::FailureUntold, Invariant::AnsweredOnce),
    (Fault::SpoolKept, Invariant::NotTwice),
    (Fault::ChargeKept, Invariant::Bounded),
    (Fault::QueueUnbounded, Invariant::Bounded),
    (Fault::PromiseEarly, Invariant::NothingEarly),
    (Fault::PresenceEarly, Invariant::NothingEarly),
    (Fault::SubscriptionHalf, Invariant::RosterAgrees),
    (Fault::PushForgotten, Invariant::RosterAgrees),
    (Fault::EndUntold, Invariant::PresenceAgrees),
    (Fault::StreamForgotten, Invariant::EndsWell),
    (Fault::EndOutlived, Invariant::NoBug),
    (Fault::CountEarly, Invariant::NothingEarly),
    (Fault::ResumedQueueLost, Invariant::AnsweredOnce),
    (Fault::ResumedTwice, Invariant::NotTwice),
    (Fault::LeftBehind, Invariant::NothingLost),
    (Fault::RoomUnordered, Invariant::OrderKept),
    (Fault::OutsiderHears, Invariant::RoomKept),
    (Fault::AccessIgnored, Invariant::AccessKept),
    (Fault::EventForgotten, Invariant::NodesAgree),
];

#[cfg(feature = "planted-faults")]
#[test]
fn every_planted_fault_is_noticed() {
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

//! Two and three servers that speak with each other over a network that breaks, and with somebody who lies to them.

mod client;
mod liar;
mod model;
mod network;
mod plan;
mod rules;
mod wire;
mod world;

#[cfg(feature = "planted-faults")]
use crate::model::Invariant;
use crate::seeds::{self, Told};
#[cfg(feature = "planted-faults")]
use couplet::fault::Fault;
use world::World;

const SEEDS: u64 = 100;

fn run(seed: u64, traced: bool) -> Told {
    match World::new(seed, traced) {
        Ok(mut world) => {
            Told { outcome: world.run(), trace: world.trace().cloned().collect(), step: world.step, stats: world.stats }
        }
        Err(violation) => violation.into(),
    }
}

#[test]
fn every_rule_holds_between_servers() {
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
    seeds::every_rule_holds(run, SEEDS, &rare);
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
    seeds::every_fault_is_noticed(run, &FAULTS);
}

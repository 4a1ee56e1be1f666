//! The whole server in a simulated world: engine, clients, network and disk, from one seed.
//!
//! `COUPLET_SIM_SEED=7` and its like: [`seeds`].

mod archives;
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
mod seeds;
mod tap;
mod world;

#[cfg(feature = "planted-faults")]
use couplet::fault::Fault;
#[cfg(feature = "planted-faults")]
use model::Invariant;
use seeds::Told;
use world::World;

const SEEDS: u64 = 200;

/// One run.
fn run(seed: u64, traced: bool) -> Told {
    match World::new(seed, traced) {
        Ok(mut world) => {
            Told { outcome: world.run(), trace: world.trace().cloned().collect(), step: world.step, stats: world.stats }
        }
        Err(violation) => violation.into(),
    }
}

#[test]
fn every_rule_holds_for_every_seed() {
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
    seeds::every_rule_holds(run, SEEDS, &rare);
}

/// Each fault and the rule that it breaks. Every rule is here, so that none only seems to be checked.
#[cfg(feature = "planted-faults")]
const FAULTS: [(Fault, Invariant); 26] = [
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
    (Fault::ArchivedTwice, Invariant::ArchiveKept),
    (Fault::ArchiveReadEarly, Invariant::ArchiveKept),
];

#[cfg(feature = "planted-faults")]
#[test]
fn every_planted_fault_is_noticed() {
    seeds::every_fault_is_noticed(run, &FAULTS);
}

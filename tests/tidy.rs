//! Keeps the house in order, so that nobody has to remember its rules: floors, determinism, what no code may contain,
//! and what belongs to every module. The map of the house is at the top of `src/lib.rs`.
//!
//! Each rule is a function from files to complaints, so that the tests below can see it fail, too.

#[path = "tidy/belongings.rs"]
mod belongings;
#[path = "tidy/code.rs"]
mod code;
#[path = "tidy/duties.rs"]
mod duties;
#[path = "tidy/floors.rs"]
mod floors;
#[path = "tidy/limits.rs"]
mod limits;
#[path = "tidy/source.rs"]
mod source;

use source::{File, tree};

/// Fails with all complaints at once.
fn expect_none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn each(rule: fn(&File) -> Vec<String>) {
    expect_none(tree().iter().flat_map(rule).collect());
}

#[test]
fn floors_know_only_those_above() {
    each(floors::upward);
}

#[test]
fn modules_do_not_know_each_other() {
    each(floors::strangers);
}

#[test]
fn nothing_below_net_knows_the_world() {
    each(floors::pure);
}

#[test]
fn no_code_is_unfinished_unsafe_or_gives_up() {
    each(code::forbidden);
}

#[test]
fn files_are_short_and_clean() {
    each(code::clean);
}

#[test]
fn every_limit_is_shown_just_below_and_just_above() {
    let limits: Vec<_> = couplet::limits::TABLE.iter().map(|row| row.name).collect();
    expect_none(limits::unshown(&tree(), &limits, include_str!("limits.md")));
}

#[test]
fn every_module_has_its_belongings() {
    let files = tree();
    let modules: Vec<_> = couplet::modules::KNOWN
        .iter()
        .map(|(name, _)| {
            let info = couplet::modules::LIST.iter().find(|info| info.name == *name);
            let xeps = info.map(|i| i.xeps.iter().map(|x| x.number).collect()).unwrap_or_default();
            (*name, xeps, info.map(|i| i.tables.len()))
        })
        .collect();
    expect_none(belongings::of_modules(&files, &modules));
}

#[test]
fn every_duty_has_its_play_or_a_reason() {
    expect_none(duties::tables(&tree()));
}

#[test]
fn every_specification_of_a_module_has_its_duties() {
    let xeps: Vec<u16> = couplet::modules::LIST.iter().flat_map(|m| m.xeps.iter().map(|x| x.number)).collect();
    expect_none(duties::of_modules(&tree(), &xeps));
    expect_none(duties::links(&tree()));
}

#[test]
fn tables_have_numbers_of_their_own() {
    expect_none(belongings::tables(&tree()));
}

#[test]
fn dependencies_give_their_reason() {
    expect_none(belongings::dependencies(&tree()));
}

#[test]
fn no_tier_contains_planted_faults() {
    expect_none(belongings::tiers(&tree()));
}

#[test]
fn every_limit_is_kept_somewhere() {
    let names: Vec<_> = couplet::limits::TABLE.iter().map(|row| row.name).collect();
    expect_none(belongings::limits(&tree(), &names));
}

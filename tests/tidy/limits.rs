//! Each limit is shown by a test that names it, or `tests/limits.md` says why not.

use super::source::File;
use std::collections::BTreeSet;

/// Where words are that no test is about.
const NO_TESTS: [&str; 3] = ["tests/fuzz/", "tests/bench/", "tests/tidy"];

/// What a file has that is a test: all of it, as its name or folder says, or what stands behind `#[cfg(test)]`.
fn tests(file: &File) -> &str {
    let path = file.path.as_str();
    if NO_TESTS.iter().any(|folder| path.starts_with(folder)) {
        return "";
    }
    let of_source = || file.text.split_once("#[cfg(test)]").map_or("", |(_, behind)| behind);
    let is_test = path.starts_with("tests/") && !path.ends_with(".md") || path.ends_with("tests.rs");
    if is_test { &file.text } else { of_source() }
}

/// Limits that nothing shows, and those that are in the list without need.
pub fn unshown(files: &[File], limits: &[&str], list: &str) -> Vec<String> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let words: BTreeSet<&str> = files.iter().flat_map(|file| tests(file).split(|c| !is_part(c))).collect();
    let shown = |name: &str| words.contains(name);
    let listed = |name: &str| list.contains(&format!("| `{name}` |"));
    let wrong = limits.iter().filter_map(|name| match (shown(name), listed(name)) {
        (false, false) => Some(format!("{name}: no test names it, and tests/limits.md does not say why")),
        (true, true) => Some(format!("{name}: a test names it; take it out of tests/limits.md")),
        _ => None,
    });
    wrong.collect()
}

#[test]
fn a_limit_is_shown_or_listed() {
    let files = [
        File::new("tests/scenarios/1.scs", "# setting: limits.a_max = 1"),
        File::new("src/b.rs", "b_max #[cfg(test)] c_max"),
        File::new("tests/fuzz/words", "d_max"),
        File::new("tests/x.rs", "bb_max b_max_s"),
    ];
    let wrong = unshown(&files, &["a_max", "b_max", "c_max", "d_max", "e_max"], "| `e_max` |\n| `c_max` |");
    let names: Vec<_> = wrong.iter().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(names, ["b_max", "c_max", "d_max"]);
}

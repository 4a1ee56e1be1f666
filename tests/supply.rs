//! Where dependencies come from and under which licences: the rules of `.cargo/deny.toml`, kept with nothing but Cargo,
//! so that they hold where cargo-deny is not installed. Known holes (advisories) are cargo-deny's alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use toml_span::Value;

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// What stands at `path` of a document, each text of it, or that key of each table in it.
fn texts(document: &Value<'_>, path: &str, key: &str) -> Vec<String> {
    let rows = document.pointer(path).and_then(Value::as_array).map_or(&[][..], |rows| rows);
    let text = |row: &Value<'_>| match row.as_table() {
        Some(table) => table.get(key).and_then(Value::as_str).unwrap_or_default().to_owned(),
        None => row.as_str().unwrap_or_default().to_owned(),
    };
    rows.iter().map(text).collect()
}

struct Rules {
    licences: Vec<String>,
    banned: Vec<String>,
    twice: Vec<String>,
}

fn rules() -> Rules {
    let text = read(".cargo/deny.toml");
    let rules = toml_span::parse(&text).unwrap();
    Rules {
        licences: texts(&rules, "/licenses/allow", ""),
        banned: texts(&rules, "/bans/deny", "crate"),
        twice: texts(&rules, "/bans/skip", "crate"),
    }
}

/// What is wrong with the packages of a `Cargo.lock`.
fn complaints(lock: &str, rules: &Rules) -> Vec<String> {
    let lock = toml_span::parse(lock).unwrap();
    let [names, sources] = ["name", "source"].map(|key| texts(&lock, "/package", key));
    let checksums = texts(&lock, "/package", "checksum");
    let mut versions: BTreeMap<&str, u32> = BTreeMap::new();
    let mut out = Vec::new();
    for ((name, source), checksum) in names.iter().zip(&sources).zip(&checksums) {
        *versions.entry(name).or_default() += 1;
        if name != "couplet" && (source != REGISTRY || checksum.is_empty()) {
            out.push(format!("{name} comes from \"{source}\", not from crates.io"));
        }
        if rules.banned.contains(name) {
            out.push(format!("{name} is banned"));
        }
    }
    for (name, count) in &versions {
        if *count > 1 && !rules.twice.iter().any(|twice| twice == name) {
            out.push(format!("{name} is there {count} times; find one version for all, or give a reason to skip it"));
        }
    }
    for twice in rules.twice.iter().filter(|twice| versions.get(twice.as_str()).is_none_or(|count| *count < 2)) {
        out.push(format!("{twice} is there once; do not skip it any more"));
    }
    out
}

/// Whether a licence expression of SPDX can be met: one of the alternatives of each part that must hold.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let any = |part: &str| {
        let part = part.trim_matches(|c| c == '(' || c == ')').replace('/', " OR ");
        part.split(" OR ").any(|licence| allowed.iter().any(|allowed| allowed == licence.trim()))
    };
    // No licence of ours mixes the two without parentheses.
    expression.split(" AND ").all(any)
}

#[test]
fn every_dependency_comes_from_where_it_should_and_once() {
    let found = complaints(&read("Cargo.lock"), &rules());
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn every_licence_is_one_that_we_may_use() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let run = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    };
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = run(&rustc, &["-vV"]).unwrap_or_default();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
    let args = ["metadata", "--format-version=1", "--offline", "--locked", "--filter-platform", host];
    let Some(metadata) = run(&cargo, &args) else {
        println!("skipped: `cargo metadata` cannot read all packages without a network; try `cargo fetch`");
        return;
    };
    let allowed = rules().licences;
    // Of JSON no more is needed than that each package begins with its name and has its licence as a text.
    let packages: Vec<&str> = metadata.split("{\"name\":\"").filter(|row| row.contains("\"license\":")).collect();
    assert!(packages.len() > 50, "{} packages", packages.len());
    for package in packages {
        let name = package.split('"').next().unwrap_or_default();
        let licence = package.split("\"license\":\"").nth(1).and_then(|rest| rest.split('"').next());
        let licence = licence.unwrap_or_else(|| panic!("{name} says no licence"));
        assert!(is_allowed(licence, &allowed), "{name}: {licence}");
    }
}

#[test]
fn what_does_not_belong_there_is_seen() {
    let rules = Rules { licences: Vec::new(), banned: vec!["tokio".into()], twice: vec!["syn".into()] };
    let package = |name: &str, source: &str| {
        format!("[[package]]\nname = \"{name}\"\nversion = \"1.0.0\"\nsource = \"{source}\"\nchecksum = \"00\"\n")
    };
    let syn = package("syn", REGISTRY).repeat(2);
    let complain = |more: &str| complaints(&(syn.clone() + more), &rules).len();
    assert_eq!(complain(&package("log", REGISTRY)), 0);
    assert_eq!(complain(&package("log", "git+https://example.org/log")), 1);
    assert_eq!(complain(&package("tokio", REGISTRY)), 1);
    assert_eq!(complain(&package("log", REGISTRY).repeat(2)), 1);
    assert_eq!(complaints(&package("syn", REGISTRY), &rules).len(), 1);
}

#[test]
fn licences_are_read() {
    let allowed = ["MIT".to_owned(), "ISC".to_owned(), "Unicode-3.0".to_owned()];
    for (expression, may) in [
        ("MIT", true),
        ("Apache-2.0 OR MIT", true),
        ("MIT/Apache-2.0", true),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", true),
        ("Apache-2.0 AND ISC", false),
        ("GPL-3.0-or-later", false),
        ("MPL-2.0", false),
        ("", false),
    ] {
        assert_eq!(is_allowed(expression, &allowed), may, "{expression}");
    }
}

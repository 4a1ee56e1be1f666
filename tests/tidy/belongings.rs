//! What belongs to modules, tables, dependencies, tiers and limits.

use crate::source::{File, tokens};
use std::collections::BTreeMap;

/// Name, numbers of its specifications, and how many tables it says it has; the last is unknown when it is not built.
pub type ModuleFacts<'a> = (&'a str, Vec<u16>, Option<usize>);

fn text<'a>(files: &'a [File], path: &str) -> &'a str {
    files.iter().find(|f| f.path == path).map_or("", |f| &f.text)
}

/// A feature, a section of the example, a row of the README for each specification, a play, and its tables.
pub fn of_modules(files: &[File], modules: &[ModuleFacts<'_>]) -> Vec<String> {
    let features = features(text(files, "Cargo.toml"));
    let (example, readme) = (text(files, "config.example.toml"), text(files, "README.md"));
    let heads: Vec<String> =
        files.iter().filter(|f| f.path.starts_with("tests/scenarios/")).map(|f| head(&f.text)).collect();
    let mut out = Vec::new();
    for (name, xeps, tables) in modules {
        if !features.contains_key(*name) {
            out.push(format!("{name}: no feature in Cargo.toml"));
        }
        if !example.lines().any(|line| line == format!("[modules.{name}]")) {
            out.push(format!("{name}: no section in config.example.toml"));
        }
        let xeps: Vec<String> = xeps.iter().map(|number| format!("XEP-{number:04}")).collect();
        for xep in &xeps {
            if !readme.lines().any(|line| line.starts_with('|') && line.contains(xep.as_str())) {
                out.push(format!("{name}: no row for {xep} in the table of README.md"));
            }
        }
        let is_about = |head: &String| {
            head.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == *name)
                || xeps.iter().any(|xep| head.contains(xep.as_str()))
        };
        if !heads.iter().any(is_about) {
            out.push(format!("{name}: no play in tests/scenarios names it or its specification in its first lines"));
        }
        let is_of = |f: &&File| f.module().starts_with(&["modules".to_string(), name.to_string()]);
        let there: usize = files.iter().filter(is_of).map(|f| tables_of(f).len()).sum();
        if tables.is_some_and(|said| said != there) {
            out.push(format!("{name}: has {there} tables and names another number of them in TABLES"));
        }
    }
    let known = |name: &str| modules.iter().any(|m| m.0 == name);
    for section in example.lines().filter_map(|l| l.strip_prefix("[modules.")?.strip_suffix(']')) {
        if !known(section) {
            out.push(format!("config.example.toml: there is no module {section}"));
        }
    }
    out
}

/// The comments before the first client.
fn head(play: &str) -> String {
    play.lines().take_while(|l| !l.starts_with('[') && !l.starts_with("---")).collect::<Vec<_>>().join("\n")
}

/// Numbers and line of the tables that a file implements.
fn tables_of(file: &File) -> Vec<(String, usize)> {
    let tokens = tokens(&file.product);
    let word = |i: usize| tokens.get(i).map_or("", |t| t.0.as_str());
    let mut out = Vec::new();
    for i in 0..tokens.len() {
        if word(i) == "impl" && word(i + 1) == "Table" && word(i + 2) == "for" {
            let id = (i..tokens.len()).find(|&n| word(n) == "ID").map_or("", |n| word(n + 4));
            out.push((id.to_string(), tokens[i].1));
        }
    }
    out
}

/// No number names two tables.
pub fn tables(files: &[File]) -> Vec<String> {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    let mut out = Vec::new();
    for file in files {
        for (id, line) in tables_of(file) {
            let place = format!("{}:{line}", file.path);
            if id.parse::<u8>().is_err() {
                out.push(format!("{place}: its ID is no plain number"));
            } else if let Some(other) = seen.insert(id.clone(), place.clone()) {
                out.push(format!("{place}: table {id} is that of {other} already"));
            }
        }
    }
    if seen.is_empty() {
        out.push("no table was found at all".to_string());
    }
    out
}

/// Lines of a table of a TOML file, with their comments: those before a line count as its own.
fn rows(toml: &str, is_table: impl Fn(&str) -> bool) -> Vec<(&str, bool)> {
    let (mut inside, mut commented) = (false, false);
    let mut out = Vec::new();
    for line in toml.lines() {
        if line.starts_with('[') {
            inside = is_table(line);
        } else if inside && line.starts_with(|c: char| c.is_alphanumeric()) {
            out.push((line, commented || line.contains(" # ")));
            // A comment stands for the one line below it.
            commented = false;
        } else {
            commented = line.starts_with('#');
        }
    }
    out
}

/// Every direct dependency says why it is there.
pub fn dependencies(files: &[File]) -> Vec<String> {
    let is_table = |line: &str| line.trim_end_matches(']').ends_with("dependencies");
    let rows = rows(text(files, "Cargo.toml"), is_table);
    let mut out: Vec<String> = rows
        .iter()
        .filter(|(_, commented)| !commented)
        .map(|(line, _)| {
            format!("Cargo.toml: {} has no reason; write it behind or above it", line.split(' ').next().unwrap_or(""))
        })
        .collect();
    if rows.is_empty() {
        out.push("Cargo.toml: no dependency was found at all".to_string());
    }
    out
}

/// Features and what they turn on.
fn features(toml: &str) -> BTreeMap<String, Vec<String>> {
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut name = None;
    let mut inside = false;
    for line in toml.lines() {
        if line.starts_with('[') {
            inside = line == "[features]";
            continue;
        }
        if !inside || line.starts_with('#') {
            continue;
        }
        let mut rest = line;
        if let Some((key, value)) = line.split_once('=') {
            name = Some(key.trim().to_string());
            rest = value;
        }
        if let Some(name) = &name {
            let names = rest.split('"').skip(1).step_by(2).map(str::to_string);
            out.entry(name.clone()).or_default().extend(names);
        }
    }
    out
}

/// What the self-tests of the tests plant is in no tier.
pub fn tiers(files: &[File]) -> Vec<String> {
    let features = features(text(files, "Cargo.toml"));
    let mut out = Vec::new();
    for tier in ["default", "minimal", "balanced", "enterprise", "cluster"] {
        if !features.contains_key(tier) {
            out.push(format!("Cargo.toml: there is no tier {tier}"));
        }
        let mut found = vec![tier.to_string()];
        let mut at = 0;
        while let Some(name) = found.get(at).cloned() {
            let more = features.get(&name).into_iter().flatten().filter(|n| !found.contains(n)).cloned();
            found.extend(more.collect::<Vec<_>>());
            at += 1;
        }
        if found.iter().any(|name| name == "planted-faults") {
            out.push(format!("Cargo.toml: the tier {tier} contains planted-faults"));
        }
    }
    out
}

/// A limit that nothing looks at is none.
pub fn limits(files: &[File], names: &[&str]) -> Vec<String> {
    let is_used = |name: &str| {
        let place = |f: &&File| f.in_src().is_some_and(|p| !p.ends_with("limits.rs"));
        files.iter().filter(place).any(|f| tokens(&f.product).iter().any(|t| t.0 == name))
    };
    names.iter().filter(|n| !is_used(n)).map(|n| format!("src/limits.rs: nothing keeps {n}")).collect()
}

#[test]
fn a_module_without_its_belongings_is_seen() {
    let module: [ModuleFacts<'_>; 1] = [("ping", vec![199], Some(1))];
    let complete = |without: &str| -> Vec<File> {
        [
            ("Cargo.toml", "[features]\nping = []\n"),
            ("config.example.toml", "[modules.ping]\n"),
            ("README.md", "| XEP-0199 | ping | 2.0.1 |\n"),
            ("tests/scenarios/0001-ping.scs", "# Are you there (XEP-0199)\n\n[Client] Romeo\n"),
            ("src/modules/ping.rs", "impl Table for Pings { const ID: u8 = 3; }"),
        ]
        .iter()
        .filter(|(path, _)| *path != without)
        .map(|(path, text)| File::new(path, text))
        .collect()
    };
    assert_eq!(of_modules(&complete(""), &module), Vec::<String>::new());
    for file in complete("") {
        assert_eq!(of_modules(&complete(&file.path), &module).len(), 1, "without {}", file.path);
    }
    assert_eq!(of_modules(&complete(""), &[]).len(), 1, "a section without a module");
    let mut named_late = complete("tests/scenarios/0001-ping.scs");
    named_late.push(File::new("tests/scenarios/0002-x.scs", "# Something\n[Client] Romeo\n# XEP-0199 ping\n"));
    assert_eq!(of_modules(&named_late, &module).len(), 1);
}

#[test]
fn tables_with_one_number_are_seen() {
    let table = |path, id| File::new(path, &format!("impl Table for T {{\n    const ID: u8 = {id};\n}}\n"));
    assert_eq!(tables(&[table("src/a.rs", "1"), table("src/b.rs", "2")]), Vec::<String>::new());
    assert_eq!(tables(&[table("src/a.rs", "1"), table("src/b.rs", "1")]).len(), 1);
    assert_eq!(tables(&[table("src/a.rs", "FIRST")]).len(), 2);
}

#[test]
fn dependencies_without_reason_are_seen() {
    let complain = |toml: &str| dependencies(&[File::new("Cargo.toml", toml)]).len();
    assert_eq!(complain("[dependencies]\na = \"1\" # why\n# why\nb = \"1\"\n[features]\nc = []\n"), 0);
    assert_eq!(complain("[dependencies]\n# why\na = \"1\"\nb = \"1\"\n"), 1);
    assert_eq!(complain("[target.'cfg(unix)'.dependencies]\na = \"1\"\n"), 1);
    assert_eq!(complain("[dev-dependencies]\na = \"1\"\n"), 1);
    assert_eq!(complain("[features]\n"), 1);
}

#[test]
fn planted_faults_in_a_tier_are_seen() {
    let complain = |minimal: &str| {
        let toml = format!(
            "[features]\ndefault = [\"minimal\"]\nminimal = [\n    \"ping\",{minimal}\n]\nbalanced = []\n\
             enterprise = []\ncluster = []\nping = []\nplanted-faults = []\n"
        );
        tiers(&[File::new("Cargo.toml", &toml)]).len()
    };
    assert_eq!(complain(""), 0);
    assert_eq!(complain(" \"planted-faults\""), 2);
    assert_eq!(tiers(&[File::new("Cargo.toml", "[features]\n")]).len(), 5);
}

#[test]
fn a_limit_that_nothing_keeps_is_seen() {
    let files = [File::new("src/limits.rs", "a_max b_max"), File::new("src/core/x.rs", "limits.a_max // b_max")];
    assert_eq!(limits(&files, &["a_max", "b_max"]).len(), 1);
}

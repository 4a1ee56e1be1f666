//! What specifications ask of a server, and where it is shown: `tests/duties/xep-NNNN.md`, `tests/duties/rfc-NNNN.md`.

use crate::source::File;
use std::collections::BTreeSet;

fn is_table(file: &&File) -> bool {
    let is_of = |kind: &str| file.path.starts_with(&format!("tests/duties/{kind}-"));
    (is_of("xep") || is_of("rfc")) && file.path.ends_with(".md")
}

/// Numbers of four digits, each with the word before it.
fn numbers(text: &str) -> Vec<(&str, &str)> {
    let mut out = Vec::new();
    let mut before = "";
    for word in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()) {
        if word.len() == 4 && word.bytes().all(|b| b.is_ascii_digit()) {
            out.push((before, word));
        }
        before = word;
    }
    out
}

/// Rows of three cells, none of them empty; each play, source file and table that the last one names is there.
pub fn tables(files: &[File]) -> Vec<String> {
    let plays: BTreeSet<&str> =
        files.iter().filter_map(|f| f.path.strip_prefix("tests/scenarios/")?.strip_suffix(".scs")).collect();
    let is_play = |number: &str| plays.iter().any(|play| play.starts_with(number));
    let mut out = Vec::new();
    for file in files.iter().filter(is_table) {
        let mut rows = 0;
        for (number, line) in file.text.lines().enumerate().filter(|(_, l)| l.starts_with('|')) {
            let place = format!("{}:{}", file.path, number + 1);
            let inner = line.strip_prefix('|').and_then(|l| l.strip_suffix('|')).unwrap_or("");
            let cells: Vec<&str> = inner.split(" | ").map(str::trim).collect();
            if inner.starts_with("---") {
                continue;
            }
            rows += 1;
            if cells.len() != 3 || cells.iter().any(|c| c.is_empty()) {
                out.push(format!("{place}: a row has section, duty, and play or reason"));
                continue;
            }
            let shown = cells[2];
            for (before, number) in numbers(shown) {
                if !["RFC", "XEP", "xep"].contains(&before) && !is_play(number) {
                    out.push(format!("{place}: there is no play {number}"));
                }
            }
            for word in shown.split(|c: char| c.is_whitespace() || "`,;:()".contains(c)) {
                let word = word.trim_end_matches('.');
                let there = |f: &File| format!("/{}", f.path).ends_with(&format!("/{word}"));
                if (word.ends_with(".rs") || word.ends_with(".md")) && !files.iter().any(there) {
                    out.push(format!("{place}: there is no file {word}"));
                }
                let is_topic =
                    word.len() > 5 && word.as_bytes()[4] == b'-' && word[..4].bytes().all(|b| b.is_ascii_digit());
                if is_topic && !plays.contains(word) {
                    out.push(format!("{place}: there is no play {word}"));
                }
            }
        }
        if rows < 2 {
            out.push(format!("{}: no table was found", file.path));
        }
    }
    if !files.iter().any(|f| is_table(&f)) {
        out.push("tests/duties: no table was found at all".to_string());
    }
    out
}

/// Every specification is in the heading of a table, or in its first column.
pub fn of_modules(files: &[File], xeps: &[u16]) -> Vec<String> {
    let mut known = BTreeSet::new();
    for file in files.iter().filter(is_table) {
        let first = |line: &'_ str| line.strip_prefix('|').and_then(|l| l.split('|').next()).map(str::to_string);
        let heads = file.text.lines().filter_map(|l| l.strip_prefix("# ").map(str::to_string).or_else(|| first(l)));
        known.extend(heads.flat_map(|h| numbers(&h).into_iter().map(|n| n.1.to_string()).collect::<Vec<_>>()));
    }
    let missing = xeps.iter().map(|x| format!("{x:04}")).filter(|x| !known.contains(x));
    missing.map(|x| format!("tests/duties: no table for XEP-{x}")).collect()
}

/// Each specification in a row of the README's table of modules is a link to the table that has its duties.
pub fn links(files: &[File]) -> Vec<String> {
    let readme = files.iter().find(|f| f.path == "README.md").map_or("", |f| &f.text);
    let mut out = Vec::new();
    for line in readme.lines().filter(|l| l.starts_with("| `")) {
        for (at, _) in line.match_indices("XEP-") {
            let number = line.get(at + 4..at + 8).unwrap_or_default();
            let link = line.get(at + 8..).and_then(|rest| rest.strip_prefix("](")?.split(')').next());
            let table = link.and_then(|link| files.iter().find(|f| f.path == link));
            if !table.is_some_and(|t| is_table(&t) && (t.path.contains(number) || t.text.contains(number))) {
                out.push(format!("README.md: XEP-{number} of the modules is no link to a table with its duties"));
            }
        }
    }
    out
}

#[test]
fn a_specification_without_link_is_seen() {
    let table = || File::new("tests/duties/xep-0199.md", "# XEP-0199\n");
    let complain = |row: &str| links(&[table(), File::new("README.md", row)]).len();
    assert_eq!(complain("| `ping` | [XEP-0199](tests/duties/xep-0199.md) | ping |\n"), 0);
    for wrong in ["XEP-0199", "[XEP-0199](tests/duties/xep-0198.md)", "[XEP-0198](tests/duties/xep-0199.md)"] {
        assert_eq!(complain(&format!("| `ping` | {wrong} | ping |\n")), 1, "{wrong}");
    }
}

#[test]
fn empty_cells_and_plays_that_are_not_there_are_seen() {
    let complain = |row: &str| {
        let table = format!("# XEP-0199\n\n| section | duty | play |\n|---|---|---|\n{row}\n");
        tables(&[
            File::new("tests/duties/xep-0199.md", &table),
            File::new("tests/scenarios/0705-ping.scs", ""),
            File::new("src/modules/ping.rs", ""),
        ])
        .len()
    };
    assert_eq!(complain("| 4.2 | answer | 0705, RFC 6121, `modules/ping.rs` |"), 0);
    assert_eq!(complain("| 4.2 | answer | 0705-ping |"), 0);
    for wrong in ["| 4.2 | answer |  |", "| 4.2 | answer |", "| 4.2 | answer | 0706 |", "| 4.2 | x | 0705-pong |"] {
        assert_eq!(complain(wrong), 1, "{wrong}");
    }
    assert_eq!(complain("| 4.2 | answer | `modules/pong.rs` |"), 1);
    assert_eq!(complain(""), 1);
    assert_eq!(tables(&[]).len(), 1);
}

#[test]
fn a_specification_without_duties_is_seen() {
    let files = [File::new("tests/duties/xep-0199.md", "# XEP-0199, XEP-0202\n\n| 0092, 2 | x | y |\n")];
    assert_eq!(of_modules(&files, &[199, 202, 92]), Vec::<String>::new());
    assert_eq!(of_modules(&files, &[12]).len(), 1);
}

//! What no file may contain.

use crate::source::{File, tokens};

/// Lines of a file.
const LINES_MAX: usize = 700;
/// Characters of a line of Rust.
const WIDTH_MAX: usize = 120;

/// Where something forbidden is needed, with the reason.
const ALLOWED: [(&str, &str, &str); 1] =
    [("tests/budgets.rs", "unsafe", "an allocator that counts can only be written so")];

/// Nothing is unfinished, unsafe or left out, and the product does not give up.
pub fn forbidden(file: &File) -> Vec<String> {
    let mut out = Vec::new();
    let mut complain = |line: usize, what: &str, why: &str| {
        if !ALLOWED.iter().any(|(path, allowed, _)| *path == file.path && *allowed == what) {
            out.push(format!("{}:{line}: {what}: {why}", file.path));
        }
    };
    let all = tokens(&file.code);
    let is = |tokens: &[(String, usize)], i: usize, words: &[&str]| {
        words.iter().enumerate().all(|(n, word)| tokens.get(i + n).is_some_and(|t| t.0 == *word))
    };
    for (i, (name, line)) in all.iter().enumerate() {
        match name.as_str() {
            "unsafe" => complain(*line, name, "the crate has none"),
            "todo" | "unimplemented" | "dbg" if is(&all, i + 1, &["!"]) => complain(*line, name, "is not finished"),
            "ignore" if i > 1 && is(&all, i - 2, &["#", "["]) => complain(*line, name, "a test runs or is not there"),
            _ => {}
        }
    }
    let product = tokens(&file.product);
    for (i, (_, line)) in product.iter().enumerate() {
        if is(&product, i, &[".", "unwrap", "(", ")"]) {
            complain(*line, "unwrap", "say what happens instead");
        }
        // A parser of ours has an `expect` that returns.
        if is(&product, i, &[".", "expect", "(", "\""]) || is(&product, i, &[".", "expect", "(", "&"]) {
            complain(*line, "expect", "say what happens instead");
        }
    }
    if file.path == "src/lib.rs" && !file.text.contains("#![forbid(unsafe_code)]") {
        complain(1, "lib.rs", "it forbids unsafe code");
    }
    out
}

/// Short files, short lines, no blanks at their ends, and nothing of the machine that it was written on.
pub fn clean(file: &File) -> Vec<String> {
    let mut out = Vec::new();
    let is_rust = file.path.ends_with(".rs");
    let lines = file.text.lines().count();
    if is_rust && lines > LINES_MAX {
        out.push(format!("{}: {lines} lines, {LINES_MAX} are too many: what could go elsewhere?", file.path));
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        out.push(format!("{}: the last line has no end", file.path));
    }
    // Written apart, so that this file is clean.
    let machine = [["/ho", "me/"], ["/wo", "rk/"], ["/ro", "ot/"], ["/Us", "ers/"]].map(|p| p.concat());
    for (n, line) in file.text.lines().enumerate() {
        let n = n + 1;
        if line.ends_with([' ', '\t', '\r']) {
            out.push(format!("{}:{n}: blanks at the end", file.path));
        }
        let width = line.chars().count();
        // A row of a table in a comment cannot be broken.
        let is_row = line.starts_with("//! |") || line.trim_start().starts_with("/// |");
        if is_rust && width > WIDTH_MAX && !is_row {
            out.push(format!("{}:{n}: {width} characters, at most {WIDTH_MAX}", file.path));
        }
        if let Some(path) = machine.iter().find(|p| line.contains(p.as_str())) {
            out.push(format!("{}:{n}: {path} is a path of one machine", file.path));
        }
    }
    out
}

#[test]
fn what_is_forbidden_is_seen() {
    let complain = |path: &str, text: &str| forbidden(&File::new(path, text)).len();
    for text in ["unsafe { f() }", "fn f() { todo!() }", "unimplemented!()", "dbg!(x)", "#[ignore]\nfn t() {}"] {
        assert_eq!(complain("src/core/x.rs", text), 1, "{text}");
        assert_eq!(complain("tests/x.rs", text), 1, "{text}");
    }
    for text in ["x.unwrap();", "x.expect(\"y\");", "x\n    .unwrap();", "x.expect(&y);"] {
        assert_eq!(complain("src/core/x.rs", text), 1, "{text}");
        assert_eq!(complain("tests/x.rs", text), 0, "{text}");
    }
    for text in
        ["x.unwrap_or(1)", "der.expect(SEQUENCE)?", "// unsafe", "#[cfg(test)]\nmod tests { fn t() { x.unwrap() } }"]
    {
        assert_eq!(complain("src/core/x.rs", text), 0, "{text}");
    }
    assert_eq!(complain("src/lib.rs", "pub mod xml;"), 1);
    assert_eq!(complain("tests/budgets.rs", "unsafe { f() }"), 0);
}

#[test]
fn dirt_is_seen() {
    let complain = |path: &str, text: &str| clean(&File::new(path, text)).len();
    assert_eq!(complain("src/x.rs", &"//\n".repeat(LINES_MAX + 1)), 1);
    assert_eq!(complain("src/x.rs", &format!("//{}\n", "ä".repeat(WIDTH_MAX))), 1);
    assert_eq!(complain("src/x.rs", &format!("{}\n", "ä".repeat(WIDTH_MAX))), 0);
    assert_eq!(complain("README.md", "a \n"), 1);
    assert_eq!(complain("README.md", "a"), 1);
    assert_eq!(complain("Makefile", &["see /ho", "me/me/couplet\n"].concat()), 1);
}

//! The source tree as text, and Rust text without what is not code.

use std::path::Path;

/// A text file of the repository.
#[derive(Debug)]
pub struct File {
    /// Relative to the repository, with forward slashes.
    pub path: String,
    /// All of it.
    pub text: String,
    /// For Rust: the text with comments and the content of literals blanked.
    pub code: String,
    /// For Rust: `code` with test code blanked, too.
    pub product: String,
}

impl File {
    pub fn new(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") { without_words(text) } else { String::new() };
        let is_test = path.starts_with("tests/") || path.ends_with("tests.rs");
        let product = if is_test { String::new() } else { without_tests(&code) };
        Self { path: path.to_string(), text: text.to_string(), code, product }
    }

    /// `core/roster.rs` for `src/core/roster.rs`.
    pub fn in_src(&self) -> Option<&str> {
        self.path.strip_prefix("src/").filter(|p| p.ends_with(".rs"))
    }

    /// Module path: `[core, roster]` for `src/core/roster.rs`, `[core]` for `src/core/mod.rs`.
    pub fn module(&self) -> Vec<String> {
        let path = self.in_src().unwrap_or_default().trim_end_matches(".rs");
        let path = path.strip_suffix("/mod").unwrap_or(path);
        path.split('/').map(str::to_string).collect()
    }
}

/// Every text file of the repository, in order of names.
pub fn tree() -> Vec<File> {
    let mut files = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            if ["target", ".git", "couplet-data", "__pycache__", "dist"].contains(&name.as_str()) {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if let Ok(text) = std::fs::read_to_string(entry.path()) {
                let path = entry.path().strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
                files.push(File::new(&path, &text));
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// Blanks comments and the content of literals; lines and columns stay.
fn without_words(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut out = String::with_capacity(text.len());
    let blank = |c: char| if c == '\n' { '\n' } else { ' ' };
    let mut i = 0;
    while i < chars.len() {
        let rest = |mark: &str| mark.chars().enumerate().all(|(n, c)| at(i + n) == c);
        let end = if rest("//") {
            (i..chars.len()).find(|&n| at(n) == '\n').unwrap_or(chars.len())
        } else if rest("/*") {
            end_of_block_comment(&chars, i)
        } else if let Some(end) = end_of_raw_string(&chars, i) {
            out.push('"');
            i += 1;
            end
        } else if at(i) == '"' {
            out.push('"');
            i += 1;
            end_of_string(&chars, i)
        } else if at(i) == '\'' && (at(i + 1) == '\\' || at(i + 2) == '\'') {
            // A character, not a lifetime.
            let from = if at(i + 1) == '\\' { i + 3 } else { i + 2 };
            (from..chars.len()).find(|&n| at(n) == '\'').map_or(chars.len(), |n| n + 1)
        } else {
            out.push(at(i));
            i + 1
        };
        if end > i + 1 || !out.ends_with(at(i)) {
            out.extend(chars[i..end].iter().map(|c| blank(*c)));
        }
        i = end.max(i + 1);
    }
    out
}

fn end_of_block_comment(chars: &[char], from: usize) -> usize {
    let mut depth = 0;
    let mut i = from;
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => (depth, i) = (depth + 1, i + 2),
            ('*', '/') => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    chars.len()
}

fn end_of_string(chars: &[char], from: usize) -> usize {
    let mut i = from;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

fn end_of_raw_string(chars: &[char], from: usize) -> Option<usize> {
    let before = from.checked_sub(1).map(|n| chars[n]);
    if chars[from] != 'r' || before.is_some_and(|c| c != 'b' && (c.is_alphanumeric() || c == '_')) {
        return None;
    }
    let hashes = chars[from + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(from + 1 + hashes) != Some(&'"') {
        return None;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = from + 2 + hashes;
    (body..chars.len()).find(|&n| chars[n..].starts_with(&close)).map(|n| n + close.len())
}

/// Blanks every item behind `#[cfg(test)]`, in code without words.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = code.to_string();
    while let Some(start) = out.find(MARK) {
        let end = end_of_item(&out, start + MARK.len());
        let blank: String = out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &blank);
    }
    out
}

fn end_of_item(code: &str, from: usize) -> usize {
    let (mut braces, mut brackets) = (0, 0);
    for (n, c) in code[from..].char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            '{' => braces += 1,
            '}' => braces -= 1,
            _ => {}
        }
        if (c == ';' && braces == 0 && brackets == 0) || (c == '}' && braces == 0) {
            return from + n + 1;
        }
    }
    code.len()
}

/// A path in code: how it begins (`crate`, or `super` so many times) and its names behind that.
#[derive(Debug, PartialEq, Eq)]
pub struct UsedPath {
    /// None for `crate`.
    pub supers: Option<usize>,
    pub names: Vec<String>,
    pub line: usize,
}

/// All paths that begin with `crate` or `super`, groups in braces taken apart.
pub fn paths(code: &str) -> Vec<UsedPath> {
    let tokens = tokens(code);
    let mut out = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let (word, line) = (tokens[i].0.as_str(), tokens[i].1);
        let is_path = |i: usize| tokens.get(i + 1).is_some_and(|t| t.0 == "::");
        if word == "crate" && is_path(i) {
            i = tree_of(&tokens, i + 2, &mut Vec::new(), &mut |names| {
                out.push(UsedPath { supers: None, names: names.to_vec(), line });
            });
        } else if word == "super" && is_path(i) {
            let mut supers = 0;
            while tokens.get(i).is_some_and(|t| t.0 == "super") && is_path(i) {
                (supers, i) = (supers + 1, i + 2);
            }
            i = tree_of(&tokens, i, &mut Vec::new(), &mut |names| {
                out.push(UsedPath { supers: Some(supers), names: names.to_vec(), line });
            });
        } else {
            i += 1;
        }
    }
    out
}

fn tree_of(tokens: &[(String, usize)], from: usize, names: &mut Vec<String>, out: &mut dyn FnMut(&[String])) -> usize {
    let mut i = from;
    let depth = names.len();
    while let Some((word, _)) = tokens.get(i) {
        if word == "{" {
            i += 1;
            while tokens.get(i).is_some_and(|t| t.0 != "}") {
                i = if tokens[i].0 == "," { i + 1 } else { tree_of(tokens, i, names, out).max(i + 1) };
            }
            names.truncate(depth);
            return i + 1;
        }
        if !word.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            break;
        }
        names.push(word.clone());
        if tokens.get(i + 1).is_some_and(|t| t.0 == "::") {
            i += 2;
        } else {
            i += 1;
            break;
        }
    }
    out(names);
    names.truncate(depth);
    i
}

/// Names, `::` and single other characters, each with its line.
pub fn tokens(code: &str) -> Vec<(String, usize)> {
    let mut out: Vec<(String, usize)> = Vec::new();
    let mut line = 1;
    let mut in_word = false;
    for c in code.chars() {
        let is_word = c.is_alphanumeric() || c == '_';
        match out.last_mut() {
            Some((last, _)) if is_word && in_word => last.push(c),
            Some((last, _)) if c == ':' && last == ":" => last.push(c),
            _ if c.is_whitespace() => {
                line += usize::from(c == '\n');
                // Two colons apart are not a path.
                in_word = false;
                continue;
            }
            _ => out.push((c.to_string(), line)),
        }
        in_word = is_word;
    }
    out
}

#[test]
fn words_and_tests_are_no_code() {
    let text = "let a = \"unsafe \\\" x\"; // unsafe\n/* a /* b */ unsafe */ let b = r#\"unsafe\"#;\nlet c = '\"';\n\
                fn f<'a>(x: &'a str) { g('\\'') }\n#[cfg(test)]\nmod tests { fn t() { unwrap() } }\nfn g() {}\n";
    let file = File::new("src/core/x.rs", text);
    assert!(!file.code.contains("unsafe"), "{}", file.code);
    assert_eq!(file.code.lines().count(), text.lines().count());
    assert!(file.code.contains("fn f<'a>(x: &'a str)"), "{}", file.code);
    assert!(file.code.contains("unwrap") && !file.product.contains("unwrap") && file.product.contains("fn g()"));
    assert!(File::new("src/core/x_tests.rs", text).product.is_empty());
}

#[test]
fn paths_are_found_in_groups_and_in_code() {
    let code = "use crate::{xml, core::{io::Input, self}};\nfn f() { super::super::engine::run(crate::jid::Jid) }";
    let found: Vec<String> =
        paths(code).into_iter().map(|p| format!("{:?} {} {}", p.supers, p.names.join("::"), p.line)).collect();
    let expected =
        ["None xml 1", "None core::io::Input 1", "None core::self 1", "Some(2) engine::run 2", "None jid::Jid 2"];
    assert_eq!(found, expected);
}

//! A target under libFuzzer: `tests/fuzz/run` builds and starts this.
//!
//! | variable | meaning |
//! |---|---|
//! | `FUZZ_TARGET` | which of [`TARGETS`] |
//! | `FUZZ_UNPACK` | writes the committed inputs into this folder, a file each, before anything else |
//! | `FUZZ_PACK` | writes the inputs of this folder into the committed corpus, and ends |
//! | `FUZZ_SHOW` | prints this file as a line of a corpus, and ends |
//! | `FUZZ_PLANTED` | the fault that the target must find is planted in the server |
#![no_main]

mod targets;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use targets::{TARGETS, Target, input, line};

/// Bytes of one corpus. What is there stays; of the others the smallest join it.
const CORPUS_BYTES_MAX: usize = 28_000;

static TARGET: OnceLock<&Target> = OnceLock::new();

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn set_up() {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|target| target.name == name);
    let names = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>();
    let target = found.unwrap_or_else(|| panic!("FUZZ_TARGET is one of {:?}", names()));
    let corpus = here().join(format!("corpus/{name}.txt"));
    if let Some(folder) = std::env::var_os("FUZZ_UNPACK") {
        unpack(&[corpus.clone(), here().join(format!("regressions/{name}.txt"))], Path::new(&folder));
    }
    if let Some(file) = std::env::var_os("FUZZ_SHOW") {
        println!("{}", line(&std::fs::read(file).expect("a file")));
        std::process::exit(0);
    }
    if let Some(folder) = std::env::var_os("FUZZ_PACK") {
        pack(Path::new(&folder), &corpus);
        std::process::exit(0);
    }
    if std::env::var_os("FUZZ_PLANTED").is_some_and(|value| !value.is_empty()) {
        couplet::fault::arm(Some(target.fault));
    }
    let _ = TARGET.set(target);
}

fn unpack(files: &[PathBuf], folder: &Path) {
    std::fs::create_dir_all(folder).expect("a folder");
    let texts = files.iter().map(|file| std::fs::read_to_string(file).unwrap_or_default());
    for (n, bytes) in texts.collect::<String>().lines().filter_map(input).enumerate() {
        std::fs::write(folder.join(format!("committed-{n:04}")), bytes).expect("a file");
    }
}

fn pack(folder: &Path, corpus: &Path) {
    let files = std::fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path());
    let mut found: Vec<String> = files.map(|file| line(&std::fs::read(file).expect("a file"))).collect();
    found.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    let there = std::fs::read_to_string(corpus).unwrap_or_default();
    let mut lines: Vec<&str> = there.lines().collect();
    let mut bytes = there.len();
    for line in found.iter().filter(|line| !line.is_empty()) {
        bytes += line.len() + 1;
        if bytes > CORPUS_BYTES_MAX {
            break;
        }
        if !lines.contains(&line.as_str()) {
            lines.push(line);
        }
    }
    std::fs::write(corpus, lines.join("\n") + "\n").expect("a file");
}

libfuzzer_sys::fuzz_target!(init: set_up(), |data: &[u8]| {
    if let Some(target) = TARGET.get() {
        (target.run)(data);
    }
});

//! Replays the committed inputs through every target: what libFuzzer has found worth keeping (`corpus/`), and what has
//! once broken a rule (`regressions/`). One input a line, with escapes as in Rust.

mod targets;

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use targets::{TARGETS, Target, input, line};

/// Bytes of all corpora.
const CORPUS_BYTES_MAX: u64 = 300_000;

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// The engine catches its own bugs; here they count.
fn count_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            print(info);
        }));
    });
}

fn lines(folder: &str, name: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(folder).join(format!("{name}.txt"));
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn fails(target: &Target, bytes: &[u8]) -> bool {
    let before = PANICS.get();
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(bytes)));
    outcome.is_err() || PANICS.get() != before
}

fn replay(name: &str) {
    count_panics();
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of that name");
    let corpus = lines("corpus", name);
    assert!(!corpus.is_empty(), "{name} has no corpus");
    for text in corpus.iter().chain(&lines("regressions", name)) {
        if let Some(bytes) = input(text) {
            assert!(!fails(target, &bytes), "{name} fails with {text}");
        }
    }
}

macro_rules! replayed {
    ($($(#[$when:meta])* $name:ident)*) => {
        const REPLAYED: &[&str] = &[$($(#[$when])* stringify!($name)),*];
        mod corpus_of { $($(#[$when])* #[test] fn $name() { super::replay(stringify!($name)); })* }
    };
}

replayed! {
    #[cfg(feature = "acme")] acme
    config dns engine frames
    #[cfg(feature = "http")] http
    jid
    #[cfg(feature = "import")] moving
    sasl server store stranger structure
}

#[test]
fn every_target_is_replayed() {
    assert_eq!(TARGETS.iter().map(|target| target.name).collect::<Vec<_>>(), REPLAYED);
}

/// One input for each target that shows its fault; libFuzzer has found them.
#[cfg(feature = "planted-faults")]
#[test]
fn every_planted_fault_is_noticed() {
    count_panics();
    for target in TARGETS {
        let found = lines("planted", target.name);
        let bytes = found.iter().find_map(|text| input(text)).expect("an input");
        assert!(!fails(target, &bytes), "{} fails without a fault", target.name);
        couplet::fault::arm(Some(target.fault));
        assert!(fails(target, &bytes), "{} does not notice {:?}", target.name, target.fault);
        couplet::fault::arm(None);
    }
}

#[test]
fn every_target_has_a_fault_of_its_own() {
    for (n, target) in TARGETS.iter().enumerate() {
        assert!(TARGETS[..n].iter().all(|other| other.fault != target.fault), "{}", target.name);
    }
}

/// What the targets do only with a feature is built under libFuzzer, too: its crate has that feature, and turns it on.
#[test]
fn every_feature_of_the_targets_is_fuzzed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    let default = manifest.lines().find(|line| line.starts_with("default = ")).unwrap();
    let targets = std::fs::read_dir(folder.join("targets")).unwrap().map(|file| file.unwrap().path());
    let mut named = 0;
    for path in targets.chain([folder.join("targets.rs")]) {
        let text = std::fs::read_to_string(&path).unwrap();
        for feature in text.split("feature = \"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let (on, known) =
                (default.contains(&format!("\"{feature}\"")), manifest.contains(&format!("\n{feature} = []")));
            assert!(on && known, "{} names the feature {feature}", path.display());
            named += 1;
        }
    }
    assert!(named > 3);
}

#[test]
fn the_corpora_are_small() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let bytes: u64 = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes <= CORPUS_BYTES_MAX, "{bytes} bytes");
}

#[test]
fn lines_are_inputs() {
    for bytes in [&b"a"[..], b"#a ", b"\xff\0\\'\"\n\r\t~", b"\\x41", b" "] {
        let text = line(bytes);
        assert_eq!(input(&text).as_deref(), Some(bytes), "{text}");
        assert!(!text.ends_with(' ') && text.is_ascii());
    }
    assert_eq!((input(""), input("# what")), (None, None));
}

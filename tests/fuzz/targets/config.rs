//! The configuration file: any text gives settings, or errors of which each has a place and one line of text. Settings
//! that are shown are read again.

use couplet::config::Config;
use std::path::PathBuf;

fn file() -> PathBuf {
    std::env::temp_dir().join(format!("couplet-fuzz-{}.toml", std::process::id()))
}

/// A file.
pub fn run(data: &[u8]) {
    let path = file();
    std::fs::write(&path, data).expect("a temporary file");
    let loaded = Config::load(Some(&path), []);
    match loaded {
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in errors {
                assert!(!error.place.is_empty() && !error.text.is_empty(), "{error:?}");
                assert!(!error.place.contains('\n') && !error.text.contains('\n'), "{error:?}");
            }
        }
        Ok(config) => {
            let shown = config.show();
            std::fs::write(&path, &shown).expect("a temporary file");
            let again = Config::load(Some(&path), []).unwrap_or_else(|errors| panic!("{errors:?} in {shown}"));
            let values = |text: &str| -> Vec<String> {
                text.lines().map(|line| line.rsplit_once(" # ").map_or(line, |l| l.0).trim().to_owned()).collect()
            };
            assert_eq!(values(&again.show()), values(&shown));
            let _ = (config.engine_settings(), config.store());
        }
    }
    let _ = std::fs::remove_file(&path);
}

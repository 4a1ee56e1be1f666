//! `couplet config convert`: a configuration of Prosody in our own words.

use super::{Exit, complain, say};
use crate::moving::prosody::config::{self, Settings};
use crate::moving::prosody::convert;
use argh::FromArgs;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of one file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Print a configuration of Prosody as one of ours. It is read and never run; what has no equal is named.
#[derive(FromArgs)]
#[argh(subcommand, name = "convert")]
pub struct Convert {
    /// prosody.cfg.lua
    #[argh(positional)]
    file: PathBuf,
}

impl Convert {
    pub fn run(&self) -> Exit {
        match read(&self.file) {
            Ok(settings) => {
                // Paths count from the folder of the file there, and from the data folder here.
                let file = fs::canonicalize(&self.file).unwrap_or_else(|_| self.file.clone());
                let folder = file.parent().map(|folder| folder.display().to_string()).unwrap_or_default();
                say(&convert::convert(&settings, &format!("{}/", folder.trim_end_matches('/'))))
            }
            Err(error) => complain(Exit::Failed, &error),
        }
    }
}

/// Reads a configuration of Prosody with the files that it includes.
///
/// # Errors
/// One line with the place.
pub fn read(file: &Path) -> Result<Settings, String> {
    let text = content(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut include = |from: &str, pattern: &str| {
        let folder = Path::new(from).parent().unwrap_or(Path::new(""));
        included(folder, pattern)
    };
    let settings = config::read(&file.display().to_string(), &text, &mut include);
    settings.map_err(|(place, what)| format!("{place}: {what}"))
}

fn content(file: &Path) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let opened = File::open(file).map_err(|error| format!("it cannot be read: {error}"))?;
    opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(|error| format!("it cannot be read: {error}"))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it has more than {FILE_BYTES_MAX} bytes"));
    }
    Ok(text)
}

/// The files that a pattern stands for, in their order. As there, `*` and `?` stand in the last part alone.
fn included(folder: &Path, pattern: &str) -> Result<Vec<(String, Vec<u8>)>, String> {
    let path = folder.join(pattern);
    let mut files = Vec::new();
    if pattern.contains(['*', '?']) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_string();
        let folder = path.parent().unwrap_or(Path::new(""));
        let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        for entry in entries {
            let entry = entry.map_err(|error| format!("{}: {error}", folder.display()))?;
            let found = entry.file_name();
            let is_hidden = found.as_encoded_bytes().starts_with(b".");
            if !is_hidden && found.to_str().is_some_and(|found| fits(name.as_bytes(), found.as_bytes())) {
                files.push(entry.path());
            }
        }
        files.sort();
    } else {
        files.push(path);
    }
    files.into_iter().map(|file| Ok((file.display().to_string(), content(&file)?))).collect()
}

/// True when a name fits a pattern in which `*` stands for anything and `?` for one byte.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where the last `*` stood, and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if *byte == b'?' || Some(byte) == name.get(n) => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, n) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn patterns_fit_as_in_a_shell() {
        for (pattern, name, is) in [
            ("*.cfg.lua", "a.cfg.lua", true),
            ("*.cfg.lua", "a.cfg.lua~", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxayyb", true),
            ("*a*b*", "xxbyya", false),
            ("", "", true),
        ] {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), is, "{pattern} {name}");
        }
    }
}

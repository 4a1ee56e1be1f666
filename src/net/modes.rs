//! Who else can reach the files of the server: what lies open is closed, or told with the command that closes it.

use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What is wrong with the mode of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Every user of the machine can put files into the folder of data, or take them out: no start.
    FolderWritable,
    /// Every user can see what the folder of data holds.
    FolderReadable,
    /// Others than the server can read or write accounts and messages. Nobody else needs that: it is mended.
    Store,
    /// Every user can read a backup, or a configuration with secrets.
    Secret,
}

/// A file and what is wrong with its mode, as one line with the command that mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposed {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong.
    pub what: Exposure,
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, closes) = match self.what {
            Exposure::FolderWritable => ("every user can write to the data folder", "o="),
            Exposure::FolderReadable => ("every user can look into the data folder", "o="),
            Exposure::Store => ("other users can reach accounts and messages", "go="),
            Exposure::Secret => ("every user can read the secrets in this file", "o="),
        };
        write!(f, "{path}: {what}; run: chmod {closes} {path}", path = self.path.display())
    }
}

/// Looks at the data folder and the store in it, at backups, and at files that hold secrets. What is not there is well.
pub fn look(data: &Path, backups: &Path, secrets: &[PathBuf]) -> Vec<Exposed> {
    let mut out = Vec::new();
    let mut judge = |path: &Path, judge: fn(u32) -> Option<Exposure>| {
        let found = fs::metadata(path).ok().and_then(|meta| judge(meta.mode()));
        out.extend(found.map(|what| Exposed { path: path.to_path_buf(), what }));
    };
    judge(data, |mode| match mode {
        _ if mode & 0o002 != 0 => Some(Exposure::FolderWritable),
        _ if mode & 0o005 != 0 => Some(Exposure::FolderReadable),
        _ => None,
    });
    for store in named(data, &["couplet.redb", "couplet.snapshot", "couplet.sqlite"]) {
        judge(&store, |mode| (mode & 0o077 != 0).then_some(Exposure::Store));
    }
    for file in named(backups, &["couplet"]).iter().chain(secrets) {
        judge(file, |mode| (mode & 0o007 != 0).then_some(Exposure::Secret));
    }
    out
}

/// Closes what was found open, where that takes nothing from anybody. Returns what the operator should read.
///
/// # Errors
/// When it would be wrong to start: one line.
pub fn mend(found: &[Exposed]) -> Result<Vec<String>, String> {
    let mut notices = Vec::new();
    for exposed in found {
        let told = exposed.to_string();
        match exposed.what {
            Exposure::FolderWritable => return Err(told),
            Exposure::FolderReadable | Exposure::Secret => notices.push(told),
            Exposure::Store => match close(&exposed.path) {
                Ok(()) => notices.push(format!("{}: other users could reach it; closed", exposed.path.display())),
                Err(_) => notices.push(told),
            },
        }
    }
    Ok(notices)
}

fn close(file: &Path) -> io::Result<()> {
    fs::set_permissions(file, Permissions::from_mode(0o600))
}

/// Files of a folder whose names begin so, in the order of their names.
fn named(folder: &Path, beginnings: &[&str]) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let is_named = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        beginnings.iter().any(|beginning| name.starts_with(beginning)) && path.is_file()
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_named).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_are_closed_or_told() {
        let data = std::env::temp_dir().join(format!("couplet-modes-{}", std::process::id()));
        let backups = data.join("backups");
        fs::create_dir_all(&backups).unwrap();
        let set = |name: &str, mode| fs::set_permissions(data.join(name), Permissions::from_mode(mode)).unwrap();
        for name in ["couplet.redb", "couplet.log", "backups/couplet-1.backup", "couplet.toml"] {
            fs::write(data.join(name), "").unwrap();
            set(name, 0o600);
        }
        set("", 0o700);
        let secrets = [data.join("couplet.toml")];
        let look = || look(&data, &backups, &secrets);
        assert_eq!(look(), []);
        // A log is for others to read.
        set("couplet.log", 0o644);
        assert_eq!(look(), []);
        for name in ["couplet.redb", "backups/couplet-1.backup", "couplet.toml"] {
            set(name, 0o644);
        }
        set("", 0o755);
        let told = mend(&look()).unwrap();
        assert_eq!(told.len(), 4, "{told:?}");
        for (line, text) in told.iter().zip(["chmod o= ", "redb: other users could reach it; closed", "o= ", "o= "]) {
            assert!(line.contains(text), "{line}");
        }
        assert_eq!(fs::metadata(data.join("couplet.redb")).unwrap().mode() & 0o777, 0o600);
        assert_eq!(look().len(), 3);
        set("", 0o777);
        assert!(mend(&look()).unwrap_err().contains("every user can write to the data folder"));
        fs::remove_dir_all(&data).unwrap();
    }
}

//! Why the store cannot do what was asked.

use std::fmt;

/// Why the store cannot do what was asked. Its text is one line that says what happened and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// No space is left on the disk, or the file has the size that it may have.
    Full,
    /// The file or the disk under it failed.
    Io(String),
    /// The user that runs this may not use the file; the text names both and the system's words.
    Denied(String),
    /// Nothing can be written to the disk, or to it any more.
    ReadOnly(String),
    /// The disk did not confirm what was written; the text names the file. What the system shows of the file from now
    /// on may never reach the disk, so this process must not read it, acknowledge anything, or try again.
    FsyncFailed(String),
    /// The file is none of ours, or is damaged.
    Corrupt(String),
    /// The file was written by a version that this one does not know.
    Newer {
        /// Schema of the file.
        found: u32,
        /// Newest schema that this version knows.
        known: u32,
    },
    /// Another process uses the file; the text is its path.
    Locked(String),
    /// A backup that cannot be used; the text says which and why.
    BadBackup(String),
    /// Something is there that would be overwritten; the text is its path.
    Exists(String),
    /// The folder has a store of another form, see [`Kept`](super::Kept); the text is its path.
    OtherForm(String),
}

impl StoreError {
    /// True when the process must end and start again, because nothing it does with the store can be trusted any more.
    pub fn is_fatal(&self) -> bool {
        matches!(self, StoreError::FsyncFailed(_))
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Full => f.write_str(
                "no room is left for the store: free some space on its disk or raise storage.size_max; \
                 what was acknowledged is kept, and deleting still works",
            ),
            StoreError::Io(what) => write!(f, "{what}: check that the disk is well (dmesg)"),
            StoreError::Denied(what) => {
                write!(f, "{what}: let the user that runs couplet read and write it and its folder (chown, chmod)")
            }
            StoreError::ReadOnly(what) => {
                write!(f, "{what}: look at the disk (dmesg), then mount it for writing, or set storage.path")
            }
            StoreError::FsyncFailed(name) => write!(
                f,
                "the disk did not confirm what was written to {name}: look at the disk (dmesg), then start couplet \
                 again; what was acknowledged before is kept"
            ),
            StoreError::Corrupt(what) => write!(
                f,
                "{what}: the file was left as it is; `couplet backup restore FILE --replace` keeps it beside a store \
                 made from a backup, `couplet set-aside` begins without one"
            ),
            StoreError::Newer { found, known } => write!(
                f,
                "the store has schema {found} and this couplet knows {known} at most: the file was left as it is; \
                 run a newer couplet, or put a backup of this version in its place"
            ),
            StoreError::Locked(path) => {
                write!(f, "another couplet is using {path}: stop that one, or give this one a data folder of its own")
            }
            StoreError::BadBackup(what) => {
                write!(f, "{what}: nothing was changed; use another backup (couplet backup list)")
            }
            StoreError::Exists(path) => {
                write!(f, "{path} exists and was left as it is: move it away, or say that it may be replaced")
            }
            StoreError::OtherForm(path) => write!(
                f,
                "{path} was written with another storage.backend or storage.durability: set that again, or `couplet \
                 backup create` with it and `couplet backup restore FILE --replace` with the new one"
            ),
        }
    }
}

impl std::error::Error for StoreError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_says_what_to_do() {
        let text = |error: StoreError| error.to_string();
        assert!(text(StoreError::Locked("/x/y".into())).starts_with("another couplet is using /x/y: stop"));
        let newer = text(StoreError::Newer { found: 9, known: 1 });
        assert!(newer.contains("schema 9") && newer.contains("knows 1") && newer.contains("left as it is"));
        let [io, denied, read_only] = [StoreError::Io, StoreError::Denied, StoreError::ReadOnly];
        let named = [io, denied, read_only, StoreError::Corrupt, StoreError::FsyncFailed, StoreError::BadBackup];
        for error in named.map(|error| error("/x/y".into())) {
            assert!(text(error).contains("/x/y"));
        }
        for error in [StoreError::Full, StoreError::FsyncFailed("a".into()), StoreError::Exists("a".into())] {
            assert!(text(error.clone()).contains(": ") && !text(error).contains('\n'));
        }
    }

    #[test]
    fn only_a_failed_sync_is_fatal() {
        assert!(StoreError::FsyncFailed("a".into()).is_fatal());
        for error in [StoreError::Full, StoreError::Io("a".into()), StoreError::Corrupt("a".into())] {
            assert!(!error.is_fatal());
        }
    }
}

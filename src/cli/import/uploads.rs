//! Files that users have shared through Prosody's `mod_http_file_share`: `HOST/http_file_share/SLOT.bin`, and what is
//! known of each in the archive `uploads`. They keep their URLs, as far as these lead here: see
//! [`core::slots`](crate::core::slots).

use super::Importer;
use crate::moving::prosody::data::Entry;
use std::path::Path;

/// The folder of a host in which they are.
pub const STORE: &str = "http_file_share";

/// In a build that keeps no files they are counted.
#[cfg(not(feature = "upload"))]
impl Importer {
    /// Counts a file.
    pub fn take_file(&mut self, _: &Path, _: &Entry) {
        self.report.unknown("files: nothing here keeps them".to_string());
    }
}

#[cfg(feature = "upload")]
pub use taking::Files;

#[cfg(feature = "upload")]
mod taking {
    use super::{Entry, Importer, Path};
    use crate::core::moving::{Outcome, Refusal, Taken};
    use crate::core::slots::{SLOT_S, Slot, moved_id, tidy_name, tidy_type};
    use crate::http::upload::{FilesOptions, label};
    use crate::jid::Jid;
    use crate::moving::prosody::data::encoded;
    use std::fs::{self, DirBuilder, File, OpenOptions};
    use std::io::{self, Write};
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    use std::time::{Duration, UNIX_EPOCH};

    /// Where they go.
    pub struct Files {
        options: FilesOptions,
        /// Of all that are there.
        total_bytes: u64,
    }

    impl Files {
        /// Looks at what is there.
        pub fn new(options: FilesOptions) -> Self {
            let files = fs::read_dir(&options.folder).into_iter().flatten().flatten();
            let total_bytes = files.map(|entry| entry.metadata().map_or(0, |meta| meta.len())).sum();
            Self { options, total_bytes }
        }
    }

    impl Importer {
        /// Takes a file that is in `folder`.
        pub fn take_file(&mut self, folder: &Path, entry: &Entry) {
            let path = folder.join(format!("{}.bin", encoded(&entry.key)));
            let (now, dry_run) = (self.clock.now(), self.how.dry_run);
            let engine = &mut self.engine;
            let mut is_owned = |slot: &Slot| engine.is_owned(now, &slot.owned());
            let outcome = match &mut self.files {
                Some(files) => take(files, &path, entry, now.wall_ms, dry_run, &mut is_owned),
                None => Ok(Taken::Left("upload is switched off in modules.disabled")),
            };
            self.report.file(&path.display().to_string(), &outcome);
        }
    }

    fn take(
        files: &mut Files,
        path: &Path,
        entry: &Entry,
        now_ms: i64,
        dry_run: bool,
        is_owned: &mut dyn FnMut(&Slot) -> bool,
    ) -> Outcome {
        let (options, root) = (&files.options, entry.element.root());
        let seconds = |ms: i64| u64::try_from(ms / 1000).unwrap_or(0);
        let (stored_s, now_s) = (seconds(entry.wall_ms), seconds(now_ms));
        if stored_s.saturating_add(options.expires_s.into()) < now_s {
            return Ok(Taken::Left("older than what is kept, see expires of [modules.upload]"));
        }
        let name = root.attr("filename").and_then(tidy_name).ok_or_else(|| Refusal::because("it has no name"))?;
        let cannot = |error: io::Error| Refusal::because(error.to_string());
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Taken::Left("never brought, or deleted since"));
            }
            Err(error) => return Err(cannot(error)),
        };
        let size = file.metadata().map_err(cannot)?.len();
        if root.attr("size").and_then(|size| size.parse().ok()) != Some(size) {
            return Err(Refusal::because("it is not as long as it should be"));
        }
        let media_type = tidy_type(root.attr("content-type").unwrap_or_default());
        let owner = Jid::parse(&entry.with).map_or_else(|_| String::new(), |owner| owner.bare_str().to_owned());
        // As if it were granted now: who has the account now has the file, also where the account is younger.
        let slot = Slot { id: moved_id(&entry.key), name, size, media_type, owner, expires_s: now_s + SLOT_S };
        if !is_owned(&slot) {
            return Ok(Taken::Left("of users without an account here"));
        }
        let to = options.folder.join(&slot.id);
        if to.exists() {
            return Ok(Taken::Same);
        }
        if options.total_max > 0 && files.total_bytes + size > options.total_max {
            return Err(Refusal::because("all files together are more than total_quota of [modules.upload]"));
        }
        files.total_bytes += size;
        if dry_run {
            return Ok(Taken::New);
        }
        // It is what its name says as soon as it has that name.
        let part = options.folder.join(format!("{}.part", slot.id));
        let mut copy = || -> io::Result<()> {
            DirBuilder::new().recursive(true).mode(0o700).create(&options.folder)?;
            let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
            out.write_all(&label(&slot))?;
            io::copy(&mut file, &mut out)?;
            // From then on its time is counted.
            out.set_modified(UNIX_EPOCH + Duration::from_secs(stored_s))?;
            out.sync_all()?;
            fs::rename(&part, &to)?;
            File::open(&options.folder)?.sync_all()
        };
        copy().map(|()| Taken::New).map_err(|error| {
            let _ = fs::remove_file(&part);
            cannot(error)
        })
    }
}

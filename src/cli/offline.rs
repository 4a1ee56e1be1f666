//! Commands about accounts while no server runs: the same engine on the same store, without a network.

use crate::config::Config;
use crate::core::admin::{Command, Reply};
use crate::engine::{Engine, Input, Output};
use crate::net::clock::{Clock, SystemEntropy};
use crate::net::process::Account;
use crate::storage::{Writer, memory};
use crate::stream::sasl::keys;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

/// Does what `command` says and waits until it is on disk.
///
/// # Errors
/// When the store cannot be opened or read: one line with what to do.
pub fn offline(config: &Config, command: Command) -> Result<Reply, String> {
    let store = config.store();
    let is_there = store.has_other_form() || store.file().is_some_and(Path::exists);
    let (reader, mut writer) = if is_there || matches!(command, Command::UserAdd { .. } | Command::InviteCreate(_)) {
        make_folder(config)?;
        let opened = store.open().map_err(|e| e.to_string())?;
        give_to_owner(config);
        opened
    } else {
        // Looking into a store that nobody has made yet does not make it.
        memory::open()
    };
    let clock = Clock::start();
    let entropy = SystemEntropy::open().ok_or("the system gives no random bytes: couplet needs getrandom(2)")?;
    let engine = Engine::new(config.engine_settings(), reader, Box::new(entropy), clock.now());
    let mut engine = engine.map_err(|e| e.to_string())?;
    let reply = answer(&mut engine, &mut *writer, &clock, command);
    give_to_owner(config);
    Ok(reply)
}

/// Plays the shell's part until the engine has nothing more to say.
fn answer(engine: &mut Engine, writer: &mut dyn Writer, clock: &Clock, command: Command) -> Reply {
    let mut answer = None;
    engine.handle(clock.now(), Input::Admin { id: 0, command });
    engine.end_tick(clock.now());
    while let Some(output) = engine.poll_output() {
        match output {
            Output::Hash(job) => engine.handle(clock.now(), Input::Hashed(keys::run(job))),
            Output::Commit(batch) => {
                let ticket = batch.ticket;
                // A volatile store is on the disk behind the second.
                let stored = writer.commit(&[batch]).and_then(|()| writer.flush(clock.now().wall_ms));
                let input = match stored {
                    Ok(()) => Input::Committed(ticket),
                    Err(error) => Input::CommitFailed(error),
                };
                engine.handle(clock.now(), input);
            }
            Output::AdminReply { reply, .. } => answer = Some(reply),
            // Nobody is there who would ask.
            #[cfg(feature = "mam")]
            Output::Archive(_) => {}
            // What is nobody's is looked for when the server starts.
            #[cfg(feature = "http")]
            Output::Web(_) => {}
            // There is no connection, and nothing of this process to be read again or ended.
            Output::Write { .. }
            | Output::Shrink
            | Output::Dial { .. }
            | Output::StartTls { .. }
            | Output::Close { .. }
            | Output::PauseRead { .. }
            | Output::ResumeRead { .. }
            | Output::Reload { .. }
            | Output::Stop { .. }
            | Output::Exit => {}
        }
        engine.end_tick(clock.now());
    }
    answer.unwrap_or_else(|| Reply::failed("the server's part of this command gave no answer; please report this"))
}

/// Makes the data folder, closed to other users. One that root makes belongs to whom the server will run as.
///
/// # Errors
/// One line with what to do.
pub fn make_folder(config: &Config) -> Result<(), String> {
    make(config, &config.data_folder(), "the data folder", "storage.path")
}

/// The same with a folder of certificates elsewhere: one that is not there when the sandbox closes could not be made
/// any more.
///
/// # Errors
/// One line with what to do.
pub fn make_certificates_folder(config: &Config) -> Result<(), String> {
    let folder = config.certificates_folder();
    if folder.starts_with(config.data_folder()) {
        return Ok(());
    }
    make(config, &folder, "the folder of certificates", "tls.certificates")
}

fn make(config: &Config, folder: &Path, what: &str, key: &str) -> Result<(), String> {
    if folder.is_dir() {
        return Ok(());
    }
    let account = Account::find(&config.process.user, &config.process.group)?;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    let made = made.and_then(|()| match account.filter(|_| rustix::process::geteuid().is_root()) {
        Some(account) => std::os::unix::fs::chown(folder, Some(account.uid), Some(account.gid)),
        None => Ok(()),
    });
    made.map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem => "mount its disk for writing",
            io::ErrorKind::StorageFull => "free some space on its disk",
            _ => "make it writable for the user that runs couplet",
        };
        format!("cannot make {what} {}: {error}; {remedy}, or set {key}", folder.display())
    })
}

/// When root does this before the server's own user has started it, that user must be able to open the files: all that
/// is in the data folder belongs to whom the folder belongs to.
pub fn give_to_owner(config: &Config) {
    let (folder, backups) = (config.data_folder(), config.backup_folder());
    let give = || -> io::Result<()> {
        let owner = fs::metadata(&folder)?;
        let mut files = vec![backups.clone()];
        for folder in [&folder, &backups] {
            if let Ok(entries) = fs::read_dir(folder) {
                files.extend(entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| is_ours(path)));
            }
        }
        for path in files.iter().filter(|path| path.starts_with(&folder)) {
            if fs::symlink_metadata(path).is_ok_and(|file| file.uid() != owner.uid() && !file.is_symlink()) {
                std::os::unix::fs::lchown(path, Some(owner.uid()), Some(owner.gid()))?;
            }
        }
        Ok(())
    };
    if rustix::process::geteuid().is_root()
        && let Err(error) = give()
    {
        log::warn!("not all that is in {} belongs to the owner of that folder: {error}", folder.display());
    }
}

/// The same with the files of users.
#[cfg(all(feature = "upload", feature = "import"))]
pub fn give_uploads_to_owner(config: &Config) {
    let folder = config.uploads_folder();
    let give = || -> io::Result<()> {
        let owner = fs::metadata(config.data_folder())?;
        let inside = fs::read_dir(&folder)?.filter_map(Result::ok).map(|entry| entry.path());
        for path in [folder.clone()].into_iter().chain(inside) {
            let meta = fs::symlink_metadata(&path)?;
            if meta.uid() != owner.uid() && !meta.is_symlink() {
                std::os::unix::fs::lchown(&path, Some(owner.uid()), Some(owner.gid()))?;
            }
        }
        Ok(())
    };
    if rustix::process::geteuid().is_root()
        && folder.is_dir()
        && let Err(error) = give()
    {
        log::warn!("not all that is in {} belongs to the owner of the data folder: {error}", folder.display());
    }
}

/// The same with the folder of certificates and what is in it, links excepted: what they lead to is somebody else's.
pub fn give_certificates_to_owner(config: &Config) {
    let folder = config.certificates_folder();
    let give = || -> io::Result<()> {
        let owner = fs::metadata(config.data_folder())?;
        let inside = fs::read_dir(&folder)?.filter_map(Result::ok).map(|entry| entry.path());
        for path in [folder.clone()].into_iter().chain(inside) {
            let meta = fs::symlink_metadata(&path)?;
            // A certificate that its owner has put there is read by the group, or by all; a new one is the owner's.
            if meta.uid() == 0 && owner.uid() != 0 && !meta.is_symlink() && meta.mode() & 0o077 == 0 {
                std::os::unix::fs::lchown(&path, Some(owner.uid()), Some(owner.gid()))?;
            }
        }
        Ok(())
    };
    if rustix::process::geteuid().is_root()
        && let Err(error) = give()
    {
        log::warn!("not all that is in {} belongs to the owner of the data folder: {error}", folder.display());
    }
}

/// A file of the store, or a backup.
fn is_ours(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"couplet"))
}

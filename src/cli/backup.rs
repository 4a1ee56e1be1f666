//! `couplet backup ...`, `couplet compact` and `couplet set-aside`: the store as a whole.
//!
//! A running server sends a backup over the admin socket and goes on meanwhile; where none runs, it is read from the
//! store. Either way this process writes the file, so it belongs to who asked for it.

use super::offline::give_to_owner;
use super::{Exit, ask, complain, say, with_config};
use crate::clock::datetime;
use crate::config::Config;
use crate::core::admin::{Command, OK};
use crate::net::admin::{CallError, call, call_for_backup};
use crate::net::clock::Clock;
use crate::storage::backup::{self, Keep, Summary};
use crate::storage::{Store, StoreError, set_aside};
use argh::FromArgs;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Make, list, check or put back backups.
#[derive(FromArgs)]
#[argh(subcommand, name = "backup")]
pub struct Backup {
    #[argh(subcommand)]
    verb: BackupVerb,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum BackupVerb {
    Create(Create),
    List(List),
    Verify(Verify),
    Restore(Restore),
}

/// Make a backup, while the server runs or not, and delete those that need not be kept.
#[derive(FromArgs)]
#[argh(subcommand, name = "create")]
struct Create {
    /// folder of backups (default: backup.folder of the configuration)
    #[argh(option, arg_name = "folder")]
    to: Option<PathBuf>,

    /// write it to this file instead, or to the standard output for "-"; nothing is deleted
    #[argh(option, arg_name = "file")]
    output: Option<PathBuf>,

    /// how many to keep in the folder; 0 keeps any number (default: backup.keep)
    #[argh(option, arg_name = "n")]
    keep: Option<u32>,

    /// for how many days; 0 keeps them for ever (default: backup.keep_days)
    #[argh(option, arg_name = "n")]
    keep_days: Option<u32>,

    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,
}

/// List backups, the newest first.
#[derive(FromArgs)]
#[argh(subcommand, name = "list")]
struct List {
    /// folder of backups (default: backup.folder of the configuration)
    #[argh(positional)]
    folder: Option<PathBuf>,

    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,
}

/// Read a backup to its end and check every bit of it.
#[derive(FromArgs)]
#[argh(subcommand, name = "verify")]
struct Verify {
    /// the backup, or "-" for the standard input
    #[argh(positional)]
    file: PathBuf,
}

/// Make the store from a backup. The server must not run.
#[derive(FromArgs)]
#[argh(subcommand, name = "restore")]
struct Restore {
    /// the backup
    #[argh(positional)]
    file: PathBuf,

    /// replace the store that is there; a damaged one is kept beside it
    #[argh(switch)]
    replace: bool,

    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,
}

/// Make the data file as small as it can be, while the server runs or not.
#[derive(FromArgs)]
#[argh(subcommand, name = "compact")]
pub struct Compact {
    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,
}

/// Move a store that cannot be used out of the way, so that the server starts with an empty one. It must not run.
#[derive(FromArgs)]
#[argh(subcommand, name = "set-aside")]
pub struct SetAside {
    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,
}

impl Backup {
    pub fn run(self) -> Exit {
        match self.verb {
            BackupVerb::Create(verb) => with_config(verb.config.as_ref(), |config| verb.run(config)),
            BackupVerb::List(verb) => with_config(verb.config.as_ref(), |config| verb.run(config)),
            BackupVerb::Verify(verb) => told(verb.run()),
            BackupVerb::Restore(verb) => with_config(verb.config.as_ref(), |config| told(verb.run(config))),
        }
    }
}

impl Create {
    fn run(&self, config: &Config) -> Exit {
        if self.output.is_some() && (self.to.is_some() || self.keep.is_some() || self.keep_days.is_some()) {
            return complain(Exit::Usage, "--output takes no --to, --keep or --keep-days");
        }
        let mut source = match Source::open(config) {
            Ok(source) => source,
            Err(exit) => return exit,
        };
        let wall_ms = Clock::start().now().wall_ms;
        let mut fill = |out: &mut dyn Write| source.write(config, wall_ms, out);
        let made = match self.output.as_deref() {
            Some(path) if path == Path::new("-") => fill(&mut io::stdout().lock()).map(|made| (None, made)),
            Some(path) => backup::write_file_by(&mut fill, path).map(|made| (Some(path.to_path_buf()), made)),
            None => {
                let folder = self.to.clone().unwrap_or_else(|| config.backup_folder());
                let days = self.keep_days.unwrap_or(config.backup.keep_days);
                let keep = Keep { count: self.keep.unwrap_or(config.backup.keep), age_s: u64::from(days) * 86_400 };
                let made = backup::create_file_by(&mut fill, &folder, wall_ms, keep);
                give_to_owner(config);
                made.map(|(path, made)| (Some(path), made))
            }
        };
        match made {
            Ok((Some(path), made)) => say(&format!("made {}: {}", path.display(), sizes(&made))),
            // The standard output is the backup.
            Ok((None, made)) => complain(Exit::Ok, &format!("made a backup: {}", sizes(&made))),
            Err(error) => complain(Exit::Failed, &format!("no backup was made: {error}")),
        }
    }
}

/// Where a backup comes from.
enum Source {
    /// The running server; this is its answer, until that is used up.
    Server(Option<UnixStream>),
    /// The store itself.
    Store(Store),
}

impl Source {
    fn open(config: &Config) -> Result<Self, Exit> {
        match call_for_backup(&config.admin_socket()) {
            Ok((reply, stream)) if reply.code == OK => Ok(Source::Server(Some(stream))),
            Ok((reply, _)) => Err(complain(Exit::Answered(reply.code), &reply.text)),
            Err(CallError::NotRunning) if config.storage.backend.is_kept() => {
                open_store(config).map(Source::Store).map_err(|error| complain(Exit::Failed, &error))
            }
            Err(error) => Err(ask::refused(config, &error)),
        }
    }

    fn write(&mut self, config: &Config, wall_ms: i64, out: &mut dyn Write) -> Result<Summary, StoreError> {
        match self {
            Source::Store((reader, _)) => backup::create(&**reader, wall_ms, out),
            Source::Server(first) => {
                let mut stream = match first.take() {
                    Some(stream) => stream,
                    None => match call_for_backup(&config.admin_socket()) {
                        Ok((reply, stream)) if reply.code == OK => stream,
                        Ok((reply, _)) => return Err(StoreError::Io(reply.text)),
                        Err(error) => return Err(StoreError::Io(error.to_string())),
                    },
                };
                backup::copy(&mut stream, out).map_err(|error| match error {
                    StoreError::BadBackup(_) => StoreError::Io("the server broke off, and its log says why".into()),
                    error => error,
                })
            }
        }
    }
}

impl List {
    fn run(&self, config: &Config) -> Exit {
        let folder = self.folder.clone().unwrap_or_else(|| config.backup_folder());
        match backup::list(&folder) {
            Ok(entries) if entries.is_empty() => say(&format!("no backups in {}", folder.display())),
            Ok(entries) => {
                let line = |entry: &backup::Entry| {
                    format!("{}  {:>12} bytes  {}", datetime(entry.made_ms), entry.bytes, entry.path.display())
                };
                say(&entries.iter().map(line).collect::<Vec<_>>().join("\n"))
            }
            Err(error) => complain(Exit::Failed, &error.to_string()),
        }
    }
}

impl Verify {
    fn run(&self) -> Result<String, String> {
        if self.file == Path::new("-") {
            let found = backup::verify(&mut io::stdin().lock());
            return found.map(|found| format!("a good backup: {}", what(&found))).map_err(|error| error.to_string());
        }
        let found = verified(&self.file)?;
        Ok(format!("{} is a good backup: {}", self.file.display(), what(&found)))
    }
}

impl Restore {
    fn run(&self, config: &Config) -> Result<String, String> {
        refuse_running(config)?;
        let store = config.store();
        let Some(path) = store.file() else {
            return Err("storage.backend is \"memory\", which keeps nothing: set it to \"redb\"".to_string());
        };
        // Nothing is touched for a backup that is not whole.
        verified(&self.file)?;
        super::offline::make_folder(config)?;
        let restored = store.restore(&mut opened(&self.file)?, self.replace);
        give_to_owner(config);
        let (found, aside) = restored.map_err(|error| match error {
            StoreError::Exists(there) => format!(
                "{there} exists and was left as it is: `couplet backup restore {} --replace` replaces it",
                self.file.display()
            ),
            error => error.to_string(),
        })?;
        let mut text = format!("restored {} from {}: {}", path.display(), self.file.display(), what(&found));
        for path in aside {
            text.push_str(&format!("\nwhat was there is kept as {}", path.display()));
        }
        Ok(text)
    }
}

impl Compact {
    pub fn run(&self) -> Exit {
        with_config(self.config.as_ref(), |config| match call(&config.admin_socket(), &Command::Compact) {
            Err(CallError::NotRunning) if config.storage.backend.is_kept() => told(compact(config)),
            Ok(reply) => ask::print(&reply),
            Err(error) => ask::refused(config, &error),
        })
    }
}

fn compact(config: &Config) -> Result<String, String> {
    let (_reader, mut writer) = open_store(config)?;
    writer.compact().map(|stats| stats.to_string()).map_err(|error| error.to_string())
}

impl SetAside {
    pub fn run(&self) -> Exit {
        with_config(self.config.as_ref(), |config| told(aside(config)))
    }
}

fn aside(config: &Config) -> Result<String, String> {
    refuse_running(config)?;
    let store = config.store();
    let path = store.file().filter(|path| fs::symlink_metadata(path).is_ok());
    let path = path.ok_or_else(|| format!("there is no store in {}", config.data_folder().display()))?;
    let aside = set_aside(path).map_err(|error| error.to_string())?;
    Ok(format!("{} is now {}; the server will start with an empty store", path.display(), aside.display()))
}

fn refuse_running(config: &Config) -> Result<(), String> {
    match call(&config.admin_socket(), &Command::Healthcheck) {
        Err(CallError::NotRunning) => Ok(()),
        Ok(_) | Err(_) => Err("the server is running: stop it first".to_string()),
    }
}

/// The store, if there is one.
fn open_store(config: &Config) -> Result<Store, String> {
    let store = config.store();
    if !store.has_other_form() && !store.file().is_some_and(Path::exists) {
        return Err(format!("there is no store in {}", config.data_folder().display()));
    }
    let opened = store.open().map_err(|error| error.to_string())?;
    give_to_owner(config);
    Ok(opened)
}

fn opened(path: &Path) -> Result<File, String> {
    File::open(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

fn verified(path: &Path) -> Result<Summary, String> {
    let mut file = opened(path)?;
    backup::verify(&mut file as &mut dyn Read).map_err(|error| format!("{}: {error}", path.display()))
}

fn told(done: Result<String, String>) -> Exit {
    match done {
        Ok(text) => say(&text),
        Err(text) => complain(Exit::Failed, &text),
    }
}

fn what(backup: &Summary) -> String {
    format!("{}, made {}", sizes(backup), datetime(backup.made_ms))
}

fn sizes(backup: &Summary) -> String {
    format!("{} rows, {} bytes", backup.rows, backup.bytes)
}

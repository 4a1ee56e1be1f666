//! `couplet import`: what another server has kept moves in, while no server of ours runs.
//!
//! The store is opened with the same engine behind it that serves, and every table is written by its own code. An
//! account or a room is one batch or several; those that are ready go to the disk together.

mod archive;
mod dry;
mod ejabberd;
mod pie;
mod prosody;
mod report;
mod sqlite;
mod uploads;

use super::{Exit, complain, offline, say, with_config};
use crate::config::Config;
use crate::core::admin::Command;
use crate::core::moving::{Outcome, Piece, Terms};
use crate::engine::{Engine, Input, Output};
use crate::jid::Jid;
use crate::net::admin::{CallError, call};
use crate::net::clock::{Clock, SystemEntropy};
use crate::storage::{StoreError, Writer, memory};
use argh::{FromArgValue, FromArgs};
use report::Report;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Bytes of what was taken in that wait for the disk.
const PENDING_BYTES_MAX: usize = 1 << 20;
/// The same in a dry run while an account or a room comes in: of that nothing but the account stays behind it.
const DRY_BYTES_MAX: usize = 1 << 24;

/// Take in what another server has kept. The server must not run.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "import",
    note = "Of an ejabberd without SQLite, and of others, `ejabberdctl export_piefxis` and the like make documents of\n\
    XEP-0227. A configuration that ends in \".lua\" is Prosody's, which says where its data is."
)]
pub struct Import {
    /// what it is: prosody, ejabberd or xep0227
    #[argh(positional)]
    kind: Kind,

    /// prosody: its data folder, or prosody.sqlite (default: what prosody.cfg.lua says, or /var/lib/prosody); ejabberd:
    /// the file that `sql_database` names (`sql_type: sqlite`); xep0227: the main file, or the folder in which it is
    #[argh(positional)]
    from: Option<PathBuf>,

    /// say what would be taken, and take nothing
    #[argh(switch)]
    dry_run: bool,

    /// what is here and differs is replaced; without it, it stays
    #[argh(switch)]
    replace: bool,

    /// only this host, such as "example.org" or "conference.example.org"; can be given several times. A file of
    /// ejabberd's without `new_sql_schema` names none: then say whose it is
    #[argh(option, arg_name = "host")]
    host: Vec<String>,

    /// configuration file; for prosody also its own
    #[argh(option, short = 'c', arg_name = "file")]
    config: Vec<PathBuf>,
}

/// What is taken in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Prosody,
    Ejabberd,
    Pie,
}

impl FromArgValue for Kind {
    fn from_arg_value(value: &str) -> Result<Self, String> {
        match value {
            "prosody" => Ok(Self::Prosody),
            "ejabberd" => Ok(Self::Ejabberd),
            "xep0227" => Ok(Self::Pie),
            _ => Err("write prosody, ejabberd or xep0227".to_string()),
        }
    }
}

impl Import {
    pub fn run(&self) -> Exit {
        let is_theirs = |file: &&PathBuf| {
            self.kind == Kind::Prosody && file.extension().is_some_and(|extension| extension == "lua")
        };
        let place = match (&self.from, self.config.iter().rfind(is_theirs)) {
            (None, _) if self.kind != Kind::Prosody => {
                return complain(Exit::Usage, "say which file; `couplet import --help` has more");
            }
            (Some(from), _) => Ok(prosody::Place::Folder(from.clone())),
            (None, Some(file)) => prosody::Place::of(file),
            (None, None) => Ok(prosody::Place::default()),
        };
        let place = match place {
            Ok(place) => place,
            Err(error) => return complain(Exit::Failed, &error),
        };
        let from = self.from.as_deref().unwrap_or(Path::new(""));
        let ours = self.config.iter().rfind(|file| !is_theirs(file));
        with_config(ours, |config| {
            let how = How { dry_run: self.dry_run, replace: self.replace };
            let only_host = if let [host] = config.server.hosts.as_slice() { Some(host.clone()) } else { None };
            import(config, how, |importer| match self.kind {
                Kind::Prosody => place.run(importer, &self.host),
                Kind::Ejabberd => ejabberd::run(importer, from, &self.host, only_host),
                Kind::Pie => pie::run(importer, from, &self.host),
            })
        })
    }
}

/// How to import.
#[derive(Clone, Copy)]
struct How {
    dry_run: bool,
    replace: bool,
}

/// The names of hosts, prepared where they can be.
pub(super) fn prepared(hosts: &[String]) -> BTreeSet<String> {
    let prepare = |host: &String| Jid::parse(host).map_or_else(|_| host.clone(), |jid| jid.domain().to_string());
    hosts.iter().map(prepare).collect()
}

/// Opens the store, lets `from` feed the importer, and prints what came of it.
fn import(config: &Config, how: How, from: impl FnOnce(&mut Importer) -> Result<(), String>) -> Exit {
    match call(&config.admin_socket(), &Command::Healthcheck) {
        Err(CallError::NotRunning) => {}
        Ok(_) | Err(_) => {
            return complain(Exit::Failed, "the server is running: stop it, import, and start it again");
        }
    }
    let mut importer = match Importer::open(config, how) {
        Ok(importer) => importer,
        Err(error) => return complain(Exit::Failed, &error),
    };
    let fed = from(&mut importer);
    let settled = importer.settle(0);
    offline::give_to_owner(config);
    #[cfg(feature = "upload")]
    offline::give_uploads_to_owner(config);
    let report = importer.report;
    say(&report.table(how.dry_run));
    let problems = report.problems();
    if !problems.is_empty() {
        complain(Exit::Failed, &problems);
    }
    match fed.and(settled.map_err(|error| error.to_string())) {
        Err(error) => complain(Exit::Failed, &format!("the import ended early: {error}")),
        Ok(()) if report.is_whole() => Exit::Ok,
        Ok(()) => complain(Exit::Failed, "not everything was taken; the lines above say why"),
    }
}

/// An engine that nobody is connected to.
struct Importer {
    engine: Engine,
    writer: Box<dyn Writer>,
    clock: Clock,
    /// Messages of a room that can be kept.
    history_max: usize,
    how: How,
    /// Whose pieces were taken in last.
    last: Option<Jid>,
    /// Where files of users go, if they are kept.
    #[cfg(feature = "upload")]
    files: Option<uploads::Files>,
    report: Report,
}

impl Importer {
    fn open(config: &Config, how: How) -> Result<Self, String> {
        let store = config.store();
        let is_there = store.has_other_form() || store.file().is_some_and(Path::exists);
        let store = if is_there || !how.dry_run {
            offline::make_folder(config)?;
            let opened = store.open().map_err(|error| error.to_string())?;
            offline::give_to_owner(config);
            opened
        } else {
            memory::open()
        };
        let (reader, writer) = if how.dry_run { dry::open(store.0) } else { store };
        let clock = Clock::start();
        let entropy = SystemEntropy::open().ok_or("the system gives no random bytes: couplet needs getrandom(2)")?;
        let engine = Engine::new(config.engine_settings(), reader, Box::new(entropy), clock.now());
        let engine = engine.map_err(|error| error.to_string())?;
        let history_max = config.limits.muc_history_max as usize;
        let report = Report::default();
        #[cfg(feature = "upload")]
        let files = super::run::files(config).map(uploads::Files::new);
        Ok(Self {
            engine,
            writer,
            clock,
            history_max,
            how,
            last: None,
            #[cfg(feature = "upload")]
            files,
            report,
        })
    }

    /// Terms for one account or room.
    fn terms(&self) -> Terms {
        Terms { replace: self.how.replace, ..Terms::default() }
    }

    /// Takes in pieces of one account or room that stand in `place`.
    fn take(&mut self, owner: &Jid, place: &str, pieces: &[Piece], terms: &mut Terms) -> Result<(), StoreError> {
        self.offer(owner, place, pieces, terms).map(drop)
    }

    /// The same, and says what became of them.
    fn offer(
        &mut self,
        owner: &Jid,
        place: &str,
        pieces: &[Piece],
        terms: &mut Terms,
    ) -> Result<Vec<Outcome>, StoreError> {
        if self.last.as_ref() != Some(owner) {
            self.settle(PENDING_BYTES_MAX)?;
            self.last = Some(owner.clone());
        }
        let outcomes = self.engine.take_in(self.clock.now(), owner, pieces, terms);
        for (piece, outcome) in pieces.iter().zip(&outcomes) {
            self.report.count(owner, place, piece, outcome);
        }
        self.settle(if self.how.dry_run { DRY_BYTES_MAX } else { PENDING_BYTES_MAX })?;
        Ok(outcomes)
    }

    /// Puts on the disk what was taken in, once it is more than that.
    fn settle(&mut self, bytes: usize) -> Result<(), StoreError> {
        if self.engine.pending_bytes() <= bytes {
            return Ok(());
        }
        self.engine.end_tick(self.clock.now());
        while let Some(output) = self.engine.poll_output() {
            let Output::Commit(batch) = output else { continue };
            let ticket = batch.ticket;
            // A volatile store is on the disk behind the second.
            let now = self.clock.now();
            let stored = self.writer.commit(&[batch]).and_then(|()| self.writer.flush(now.wall_ms));
            match stored {
                Ok(()) => self.engine.handle(now, Input::Committed(ticket)),
                Err(error) => {
                    self.engine.handle(now, Input::CommitFailed(error.clone()));
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

//! `couplet export`: accounts as a document of XEP-0227, for another server.

use super::{Exit, complain, offline, with_config};
use crate::config::Config;
use crate::core::admin::Command;
#[cfg(feature = "mam")]
use crate::core::archive::Way;
use crate::core::moving::Piece;
use crate::engine::Engine;
use crate::jid::Jid;
use crate::moving::pie::write;
use crate::net::admin::{CallError, call};
use crate::net::clock::{Clock, SystemEntropy};
use argh::FromArgs;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Write all accounts as one XML document (XEP-0227), for another server. The server must not run.
#[derive(FromArgs)]
#[argh(subcommand, name = "export")]
pub struct Export {
    /// the file, which nobody else can read; without it, the standard output
    #[argh(positional)]
    to: Option<PathBuf>,

    /// only this host; can be given several times
    #[argh(option, arg_name = "host")]
    host: Vec<String>,

    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,
}

impl Export {
    pub fn run(&self) -> Exit {
        with_config(self.config.as_ref(), |config| match self.write(config) {
            Ok(text) => complain(Exit::Ok, &text),
            Err(error) => complain(Exit::Failed, &error),
        })
    }

    fn write(&self, config: &Config) -> Result<String, String> {
        match call(&config.admin_socket(), &Command::Healthcheck) {
            Err(CallError::NotRunning) => {}
            Ok(_) | Err(_) => return Err("the server is running: stop it, export, and start it again".to_string()),
        }
        let known = &config.server.hosts;
        let wanted: Vec<String> = super::import::prepared(&self.host).into_iter().collect();
        if let Some(host) = wanted.iter().find(|host| !known.contains(host)) {
            return Err(format!("{host} is none of hosts"));
        }
        let hosts = if wanted.is_empty() { known } else { &wanted };
        let mut engine = open(config)?;
        let Some(path) = &self.to else {
            return document(&mut engine, hosts, &mut BufWriter::new(io::stdout().lock()));
        };
        // The whole or nothing: it takes its place when it is there.
        let mut draft = path.clone().into_os_string();
        draft.push(".part");
        let draft = PathBuf::from(draft);
        let cannot = |error: io::Error| format!("{} cannot be written: {error}", path.display());
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(cannot)?;
        let mut out = BufWriter::new(file);
        let written = document(&mut engine, hosts, &mut out).and_then(|text| {
            let file = out.into_inner().map_err(|error| cannot(error.into_error()))?;
            file.sync_all().and_then(|()| fs::rename(&draft, path)).map_err(cannot)?;
            Ok(format!("made {}: {text}", path.display()))
        });
        if written.is_err() {
            // What is left of it is of no use.
            let _ = fs::remove_file(&draft);
        }
        written
    }
}

fn open(config: &Config) -> Result<Engine, String> {
    let store = config.store();
    if !store.has_other_form() && !store.file().is_some_and(Path::exists) {
        return Err(format!("there is no store in {}", config.data_folder().display()));
    }
    let (reader, _) = store.open().map_err(|error| error.to_string())?;
    offline::give_to_owner(config);
    let entropy = SystemEntropy::open().ok_or("the system gives no random bytes: couplet needs getrandom(2)")?;
    Engine::new(config.engine_settings(), reader, Box::new(entropy), Clock::start().now())
        .map_err(|error| error.to_string())
}

/// Writes it account by account.
fn document(engine: &mut Engine, hosts: &[String], out: &mut dyn Write) -> Result<String, String> {
    let cannot = |error: io::Error| format!("the document cannot be written: {error}");
    let (mut accounts, mut left_out) = (0, BTreeMap::<&str, u64>::new());
    write::head(out).map_err(cannot)?;
    for host in hosts {
        write::host(host, out).map_err(cannot)?;
        for jid in engine.accounts_of(host).map_err(|error| error.to_string())? {
            let pieces = pieces(engine, &jid)?;
            for what in write::account(&jid, &pieces, out).map_err(cannot)? {
                *left_out.entry(what).or_default() += 1;
            }
            #[cfg(feature = "mam")]
            archive(engine, &jid, out)?;
            write::account_end(out).map_err(cannot)?;
            accounts += 1;
        }
        write::host_end(out).map_err(cannot)?;
    }
    write::tail(out).and_then(|()| out.flush()).map_err(cannot)?;
    let left_out =
        left_out.iter().map(|(what, n)| format!("\nnot in it, as the format has no place for it: {what} ({n})"));
    Ok(format!("{accounts} accounts{}", left_out.collect::<String>()))
}

/// Writes the archive of an account, if there is anything in it, a portion at a time.
#[cfg(feature = "mam")]
fn archive(engine: &mut Engine, jid: &Jid, out: &mut dyn Write) -> Result<(), String> {
    let (mut way, mut is_empty, mut written) = (Some(Way::default()), true, Ok(()));
    while let Some(from) = way.take() {
        let next = engine.archive_gives(jid, from, |named, row| {
            if written.is_ok() && std::mem::take(&mut is_empty) {
                written = write::archive(out);
            }
            if written.is_ok() {
                written = write::archived(&named.to_string(), named.id.wall_ms(), row.xml, out);
            }
        });
        way = next.map_err(|error| error.to_string())?.filter(|_| written.is_ok());
    }
    if written.is_ok() && !is_empty {
        written = write::archive_end(out);
    }
    written.map_err(|error| format!("the document cannot be written: {error}"))
}

fn pieces(engine: &mut Engine, jid: &Jid) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    engine.give_out(jid, &mut |piece| pieces.push(piece)).map_err(|error| error.to_string())?;
    // The node of the newer form has all of them.
    let has_bookmarks = |piece: &Piece| matches!(piece, Piece::Node(node) if node.name == crate::xml::ns::BOOKMARKS);
    if pieces.iter().any(has_bookmarks) {
        pieces.retain(|piece| !matches!(piece, Piece::Private(e) if e.root().ns() == crate::xml::ns::BOOKMARKS_OLD));
    }
    Ok(pieces)
}

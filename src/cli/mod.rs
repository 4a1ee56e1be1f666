//! The command line: `couplet VERB`.
//!
//! A verb about accounts or about the running server goes through the admin socket; when no server runs, verbs about
//! accounts open the store themselves, with the same engine behind them, so that the answer is the same. No verb but
//! `run`, and those that look at the network (`check dns`, `s2s`), needs the reactor or starts a thread.

mod about;
mod ask;
mod backup;
mod cert;
mod check;
mod config;
#[cfg(feature = "import")]
mod convert;
mod dns;
#[cfg(feature = "import")]
mod export;
#[cfg(feature = "import")]
mod import;
mod invite;
mod offline;
mod password;
mod run;
mod s2s;
mod user;

use crate::config::Config;
use argh::FromArgs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What the program returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok,
    /// Refused or failed; the text says why.
    Failed,
    /// The command line is wrong.
    Usage,
    /// No server runs.
    NotRunning,
    /// The configuration is wrong (EX_CONFIG of sysexits.h).
    BadConfig,
    /// What a running server answered.
    Answered(u8),
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NotRunning => 3,
            Exit::BadConfig => 78,
            Exit::Answered(code) => code,
        }
    }
}

/// couplet: an XMPP server for small machines.
#[derive(FromArgs)]
#[argh(
    note = "Try it without any configuration: `couplet run`, then in the same folder\n\
    `couplet user add romeo@localhost` and connect a client to localhost.",
    error_code(1, "refused or failed; the text says why"),
    error_code(2, "the command line is wrong"),
    error_code(3, "the server is not running"),
    error_code(78, "the configuration is wrong")
)]
struct Couplet {
    /// print the version
    #[argh(switch, short = 'V')]
    version: bool,

    #[argh(subcommand)]
    verb: Option<Verb>,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    Run(run::Run),
    User(user::User),
    Invite(invite::Invite),
    Check(check::Check),
    Cert(cert::Cert),
    S2s(s2s::S2s),
    Status(ask::Status),
    Reload(ask::Reload),
    Healthcheck(ask::Healthcheck),
    Backup(backup::Backup),
    Compact(backup::Compact),
    Flush(ask::Flush),
    SetAside(backup::SetAside),
    About(about::About),
    Config(config::ConfigVerb),
    #[cfg(feature = "import")]
    Import(import::Import),
    #[cfg(feature = "import")]
    Export(export::Export),
    AddUser(user::AddUserAlias),
    Passwd(user::PasswdAlias),
    DelUser(user::DelUserAlias),
    Register(user::Register),
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    ExitCode::from(dispatch().code())
}

fn dispatch() -> Exit {
    let mut args = Vec::new();
    for arg in std::env::args_os().skip(1) {
        match arg.into_string() {
            Ok(arg) => args.push(arg),
            Err(arg) => return complain(Exit::Usage, &format!("{} is not UTF-8", arg.display())),
        }
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let args = invite::with_verb(&args);
    let couplet = match Couplet::from_args(&["couplet"], &args) {
        Ok(couplet) => couplet,
        Err(early) if early.status.is_ok() => return say(&early.output),
        Err(early) => {
            let help = "`couplet --help` lists all commands.";
            return complain(Exit::Usage, &format!("{}\n{help}", early.output.trim_end()));
        }
    };
    match couplet.verb {
        _ if couplet.version => say(&format!("couplet {}", env!("CARGO_PKG_VERSION"))),
        None => match Couplet::from_args(&["couplet"], &["--help"]) {
            Err(help) => complain(Exit::Usage, &help.output),
            Ok(_) => Exit::Usage,
        },
        Some(Verb::Run(verb)) => verb.run(),
        Some(verb) => perform(verb),
    }
}

/// All that is not for the server itself. Not inlined: what other commands have on the stack would lie below its own.
#[inline(never)]
fn perform(verb: Verb) -> Exit {
    match verb {
        Verb::Run(verb) => verb.run(),
        Verb::User(verb) => verb.run(),
        Verb::Invite(verb) => verb.run(),
        Verb::Check(verb) => verb.run(),
        Verb::Cert(verb) => verb.run(),
        Verb::S2s(verb) => verb.run(),
        Verb::Status(verb) => verb.run(),
        Verb::Reload(verb) => verb.run(),
        Verb::Healthcheck(verb) => verb.run(),
        Verb::Backup(verb) => verb.run(),
        Verb::Compact(verb) => verb.run(),
        Verb::Flush(verb) => verb.run(),
        Verb::SetAside(verb) => verb.run(),
        Verb::About(verb) => verb.run(),
        Verb::Config(verb) => verb.run(),
        #[cfg(feature = "import")]
        Verb::Import(verb) => verb.run(),
        #[cfg(feature = "import")]
        Verb::Export(verb) => verb.run(),
        Verb::AddUser(verb) => verb.run(),
        Verb::Passwd(verb) => verb.run(),
        Verb::DelUser(verb) => verb.run(),
        Verb::Register(verb) => verb.run(),
    }
}

/// Prints an answer.
fn say(text: &str) -> Exit {
    let text = text.trim_end();
    if !text.is_empty() {
        // A reader that has gone, such as `head`, has what it wanted.
        let _ = writeln!(std::io::stdout(), "{text}");
    }
    Exit::Ok
}

/// Prints a refusal, and returns `exit`.
fn complain(exit: Exit, text: &str) -> Exit {
    // Without a standard error there is only the exit code.
    let _ = writeln!(std::io::stderr(), "{}", text.trim_end());
    exit
}

/// The configuration of this command, or everything that is wrong with it on the standard error.
fn load(path: Option<&Path>) -> Result<Box<Config>, Exit> {
    match Config::load(path, std::env::vars_os()) {
        Ok(config) => {
            for warning in &config.warnings {
                complain(Exit::Ok, &format!("warning: {warning}"));
            }
            Ok(Box::new(config))
        }
        Err(errors) => {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Err(complain(Exit::BadConfig, &lines.join("\n")))
        }
    }
}

/// Runs a verb that needs the configuration.
fn with_config(path: Option<&PathBuf>, verb: impl FnOnce(&Config) -> Exit) -> Exit {
    match load(path.map(PathBuf::as_path)) {
        Ok(config) => verb(&config),
        Err(exit) => exit,
    }
}

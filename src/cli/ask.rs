//! Verbs that the running server answers.

use super::{Exit, complain, offline, say, with_config};
use crate::config::Config;
use crate::core::admin::{self, Command, Reply};
use crate::net::admin::{CallError, call};
#[cfg(feature = "statistics")]
use crate::setting::{Seconds, Setting, Value};
use argh::FromArgs;
use std::path::PathBuf;

/// Show what the running server does.
#[derive(FromArgs)]
#[argh(subcommand, name = "status")]
pub struct Status {
    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,
    /// what it did in that time instead, such as 1h or 2d, as far as [statistics] keeps it
    #[cfg(feature = "statistics")]
    #[argh(option, arg_name = "time")]
    history: Option<String>,
}

/// Let the running server read configuration and certificates again.
#[derive(FromArgs)]
#[argh(subcommand, name = "reload")]
pub struct Reload {
    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,
}

/// Ask the running server whether it is well (exit code 0), for supervisors and containers.
#[derive(FromArgs)]
#[argh(subcommand, name = "healthcheck")]
pub struct Healthcheck {
    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,
}

/// Let the running server write to the disk now what waits for its time (storage.durability batched or volatile).
#[derive(FromArgs)]
#[argh(subcommand, name = "flush")]
pub struct Flush {
    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,
}

impl Status {
    pub fn run(&self) -> Exit {
        #[cfg(feature = "statistics")]
        if let Some(time) = &self.history {
            return match Seconds::parse(&Value::Str(time.clone())) {
                Ok(Seconds(seconds)) => {
                    with_config(self.config.as_ref(), |config| ask_running(config, &Command::History { seconds }))
                }
                Err(error) => complain(Exit::Usage, &format!("--history: {error}")),
            };
        }
        with_config(self.config.as_ref(), |config| ask_running(config, &Command::Status))
    }
}

impl Reload {
    pub fn run(&self) -> Exit {
        with_config(self.config.as_ref(), |config| ask_running(config, &Command::Reload))
    }
}

impl Healthcheck {
    pub fn run(&self) -> Exit {
        with_config(self.config.as_ref(), |config| ask_running(config, &Command::Healthcheck))
    }
}

impl Flush {
    pub fn run(&self) -> Exit {
        with_config(self.config.as_ref(), |config| ask_running(config, &Command::Flush))
    }
}

/// Asks the running server.
pub fn ask_running(config: &Config, command: &Command) -> Exit {
    match call(&config.admin_socket(), command) {
        Ok(reply) => print(&reply),
        Err(error) => refused(config, &error),
    }
}

/// Asks the running server, or does it here when none runs.
pub fn ask(config: &Config, command: Command) -> Exit {
    ask_for(config, command).map_or_else(|exit| exit, |reply| print(&reply))
}

/// As [`ask`], for who prints the answer himself. Without an answer, what the program returns; why has been said.
pub fn ask_for(config: &Config, command: Command) -> Result<Reply, Exit> {
    match call(&config.admin_socket(), &command) {
        Ok(reply) => Ok(reply),
        Err(CallError::NotRunning) if config.storage.backend.is_kept() => {
            // One that starts meanwhile has taken the store, and answers.
            let begun = |error: String| call(&config.admin_socket(), &command).map_err(|_| error);
            offline::offline(config, command.clone()).or_else(begun).map_err(|error| complain(Exit::Failed, &error))
        }
        Err(error) => Err(refused(config, &error)),
    }
}

/// Prints an answer.
pub fn print(reply: &Reply) -> Exit {
    if reply.code == admin::OK { say(&reply.text) } else { complain(Exit::Answered(reply.code), &reply.text) }
}

/// Says why there is none.
pub fn refused(config: &Config, error: &CallError) -> Exit {
    match error {
        CallError::NotRunning => {
            let socket = config.admin_socket();
            complain(Exit::NotRunning, &format!("the server is not running: nothing listens at {}", socket.display()))
        }
        CallError::Denied | CallError::Failed(_) => complain(Exit::Failed, &error.to_string()),
    }
}

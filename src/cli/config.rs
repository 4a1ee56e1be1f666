//! `couplet config ...`.

use super::{Exit, say, with_config};
use crate::config::Config;
use argh::FromArgs;
use std::path::PathBuf;

/// Show the configuration.
#[derive(FromArgs)]
#[argh(subcommand, name = "config")]
pub struct ConfigVerb {
    #[argh(subcommand)]
    verb: Inner,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Inner {
    Show(Show),
    Example(Example),
    #[cfg(feature = "import")]
    Convert(super::convert::Convert),
}

/// Print the configuration in force, and where each value comes from. Secrets are masked.
#[derive(FromArgs)]
#[argh(subcommand, name = "show")]
struct Show {
    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,
}

/// Print a configuration file with every key, its default and what it does.
#[derive(FromArgs)]
#[argh(subcommand, name = "example")]
struct Example {}

impl ConfigVerb {
    pub fn run(&self) -> Exit {
        match &self.verb {
            Inner::Show(verb) => with_config(verb.config.as_ref(), |config| say(&config.show())),
            Inner::Example(_) => say(&Config::example()),
            #[cfg(feature = "import")]
            Inner::Convert(verb) => verb.run(),
        }
    }
}

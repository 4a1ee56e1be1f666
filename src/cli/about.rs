//! `couplet about`: what this program is made of, and how far its configuration gets.

use super::{Exit, say, with_config};
use crate::config::{Compliance, Config, Reached, compliance, shown_limits};
use crate::limits::Limits;
use crate::modules::{KNOWN, LIST};
use crate::net::sandbox;
use argh::FromArgs;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Show version, features, specifications, limits and threads of this program.
#[derive(FromArgs)]
#[argh(subcommand, name = "about")]
pub struct About {
    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,
}

/// Tiers from the largest to the smallest, whether this build is of it, and what it adds to the one below.
const TIERS: &[(&str, bool, &str)] = &[
    ("cluster", cfg!(feature = "cluster"), "adds nothing to enterprise yet"),
    ("enterprise", cfg!(feature = "enterprise"), "adds SQLite as a store to balanced"),
    ("balanced", cfg!(feature = "balanced"), "adds archives, files, web clients, push and moving house to minimal"),
    ("minimal", cfg!(feature = "minimal"), "the smallest"),
];

/// What storage.backend can be.
const BACKENDS: &[(&str, bool)] = &[("redb", true), ("sqlite", cfg!(feature = "sqlite")), ("memory", true)];

/// Threads of a running server, as the README names them.
const THREADS: &[(&str, &str)] = &[
    ("couplet", "the worker: all connections and everything else"),
    ("couplet-store", "writes to the disk"),
    ("couplet-hash", "hashes passwords"),
    ("couplet-backup", "sends a backup, while one is made"),
    #[cfg(feature = "mam")]
    ("couplet-archive", "reads archives, from the first query on"),
    #[cfg(feature = "upload")]
    ("couplet-files", "keeps files of users, from the first on"),
    ("async-io", "a helper of the library that waits for sockets; parked"),
];

impl About {
    pub fn run(&self) -> Exit {
        with_config(self.config.as_ref(), |config| say(&about(config)))
    }
}

fn about(config: &Config) -> String {
    let mut out = String::new();
    let mut line = |text: std::fmt::Arguments<'_>| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{text}");
    };
    line(format_args!("couplet {}: {}", env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_DESCRIPTION")));
    match TIERS.iter().find(|(_, built, _)| *built) {
        Some((name, _, adds)) => line(format_args!("tier: {name} ({adds})")),
        None => line(format_args!("tier: none, but single modules")),
    }
    line(format_args!("\nmodules:"));
    for (name, built) in KNOWN {
        let what = match LIST.iter().find(|info| info.name == *name) {
            Some(info) if info.xeps.is_empty() => "on".to_string(),
            Some(info) => {
                info.xeps.iter().map(|x| format!("XEP-{:04} ({})", x.number, x.version)).collect::<Vec<_>>().join(", ")
            }
            None if *built => "on".to_string(),
            None => "not in this build".to_string(),
        };
        line(format_args!("  {name:<12} {what}"));
    }
    line(format_args!("  in the core: RFC 6120, RFC 6121, RFC 7590, RFC 5802, RFC 7677, RFC 9266, RFC 5929,"));
    line(format_args!("               XEP-0198 (stream management, 1.6.3), XEP-0368 (direct TLS),"));
    line(format_args!("               XEP-0440 (channel binding types)"));
    #[cfg(feature = "compression")]
    line(format_args!("               XEP-0138 (stream compression, 2.1), where compression.enabled says so"));
    let of = match &config.file {
        Some(file) => format!("as {} has it", file.display()),
        None => "without a configuration".to_string(),
    };
    line(format_args!("\ncompliance suites 2023 (XEP-0479), {of}:"));
    for Reached { category, level, lacks } in compliance(config) {
        let level = match level {
            Compliance::None => "not reached",
            Compliance::Server => "Server",
            Compliance::Advanced => "Advanced Server",
        };
        let lacks =
            if lacks.is_empty() { String::new() } else { format!("; the next level lacks {}", lacks.join(", ")) };
        line(format_args!("  {category:<12} {level}{lacks}"));
    }
    line(format_args!("\nthreads of the server:"));
    for (name, what) in THREADS {
        line(format_args!("  {name:<14} {what}"));
    }
    let backends: Vec<&str> = BACKENDS.iter().filter(|(_, built)| *built).map(|(name, _)| *name).collect();
    let backends = backends.join(", ");
    line(format_args!("\nback ends of the store: {backends}; used here: {}", config.storage.backend.as_str()));
    let sandbox = if sandbox::is_available() { "Landlock" } else { "none: this kernel has no Landlock" };
    line(format_args!("\nsandbox of the server: {sandbox}"));
    line(format_args!("\nlimits (defaults; [limits] of the configuration changes them):"));
    for (row, value) in shown_limits(&Limits::default()) {
        line(format_args!("  {:<30} {:>10}  {}", row.name, value.trim_matches('"'), row.reason));
    }
    out
}

//! `couplet s2s`: other servers, as this one sees them.

use super::ask::ask_running;
use super::run::federation;
use super::{Exit, complain, say, with_config};
use crate::config::Config;
use crate::core::admin::Command;
use crate::jid::{Jid, idna};
use crate::net::authorities::Authorities;
use crate::net::certs::CertStore;
use crate::net::clock::{Clock, SystemEntropy};
use crate::net::dial::{Dialer, Patience};
use crate::net::dns::Resolver;
use crate::net::probe::{Found, probe};
use crate::net::tls::{PeerVerifier, TlsConnector};
use argh::FromArgs;
use std::path::PathBuf;
use std::sync::Arc;

/// Look at other servers, and close connections with them.
#[derive(FromArgs)]
#[argh(subcommand, name = "s2s")]
pub struct S2s {
    #[argh(subcommand)]
    verb: Verb,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    Check(Check),
    List(List),
    Close(Close),
}

/// List connections with other servers, and what waits for one.
#[derive(FromArgs)]
#[argh(subcommand, name = "list")]
struct List {
    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,
}

/// Close the connections with a domain; what waits for it is tried again at once.
#[derive(FromArgs)]
#[argh(subcommand, name = "close")]
struct Close {
    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,

    /// the other domain
    #[argh(positional)]
    domain: String,
}

/// Find the server of a domain, connect to it, and say what it shows and offers. The server need not run.
#[derive(FromArgs)]
#[argh(subcommand, name = "check")]
struct Check {
    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,

    /// the host of ours that asks (default: the first of the configuration)
    #[argh(option, arg_name = "host")]
    from: Option<String>,

    /// the other domain
    #[argh(positional)]
    domain: String,
}

impl S2s {
    pub fn run(self) -> Exit {
        match self.verb {
            Verb::Check(check) => with_config(check.config.as_ref(), |config| match check.look(config) {
                Ok(exit) => exit,
                Err(why) => complain(Exit::Failed, &why),
            }),
            Verb::List(List { config }) => {
                with_config(config.as_ref(), |config| ask_running(config, &Command::S2sList))
            }
            Verb::Close(Close { config, domain }) => {
                with_config(config.as_ref(), |config| ask_running(config, &Command::S2sClose { domain }))
            }
        }
    }
}

impl Check {
    fn look(&self, config: &Config) -> Result<Exit, String> {
        let jid = Jid::parse(&self.domain).ok().filter(Jid::is_host);
        let domain = jid.and_then(|jid| idna::to_ascii(jid.domain())).ok_or_else(|| {
            format!("{} is not a domain; write for example example.org", crate::setting::quote(&self.domain))
        })?;
        let first = config.server.hosts.first().cloned().unwrap_or_default();
        let host = self.from.clone().unwrap_or(first);
        let dialer = dialer(config)?;
        let tell = |line: String| {
            say(&format!("      {line}"));
        };
        say(&format!("{domain}, as {host} sees it:"));
        let found = async_io::block_on(probe(&dialer, &domain, &host, &config.limits, &tell));
        match found {
            Ok(found) => Ok(verdict(&domain, &found)),
            Err(why) => Err(format!("FAIL  {domain}: {why}")),
        }
    }
}

fn verdict(domain: &str, found: &Found) -> Exit {
    match found {
        Found { proved: true, external: true, .. } => {
            say(&format!("ok    {domain}: both sides can prove who they are"))
        }
        Found { proved: true, dialback: true, .. } => {
            say(&format!("warn  {domain}: it proves who it is; it wants Server Dialback of us"))
        }
        Found { proved: true, .. } => complain(
            Exit::Failed,
            &format!(
                "FAIL  {domain}: it proves who it is, and offers no way in which we could; has it seen a \
                      certificate of ours that it believes?"
            ),
        ),
        Found { proved: false, .. } => complain(
            Exit::Failed,
            &format!(
                "FAIL  {domain}: its certificate does not prove who it is, so it is not spoken with unless the \
                      configuration says otherwise"
            ),
        ),
    }
}

fn dialer(config: &Config) -> Result<Dialer, String> {
    let entropy = SystemEntropy::open().ok_or("the system gives no random bytes: couplet needs getrandom(2)")?;
    let (clock, federation, limits) = (Clock::start(), federation(config), &config.limits);
    let authorities = Authorities::new(federation.authorities.clone());
    match authorities.path().and_then(|path| Ok((path, authorities.count()?))) {
        Ok((path, count)) => say(&format!("{count} authorities are believed, those of {}", path.display())),
        Err(error) => say(&format!("no authority is believed: {error}")),
    };
    let verifier = Arc::new(PeerVerifier::new(authorities));
    let connector = TlsConnector::new(certificates(config), verifier).map_err(|error| error.to_string())?;
    let resolver = Resolver::new(federation.name_servers, limits.dns_answers_max, clock, Box::new(entropy));
    let patience = Patience {
        dial_s: limits.s2s_dial_timeout_s,
        connect_s: limits.s2s_connect_timeout_s,
        tls_s: limits.tls_timeout_s,
    };
    Ok(Dialer { resolver, connector, routes: federation.routes, patience, clock })
}

/// Those that there are; none is made.
fn certificates(config: &Config) -> Option<CertStore> {
    let (folder, hosts) = (config.certificates_folder(), &config.server.hosts);
    let all_there =
        CertStore::inspect(&folder, hosts).is_ok_and(|(found, _)| found.iter().all(|(_, cert)| cert.is_some()));
    let loaded = all_there.then(|| CertStore::load(&folder, hosts).ok()).flatten();
    if loaded.is_none() {
        say("no certificate of ours is shown: there is none, or this user may not read it");
    }
    loaded.map(|(store, _)| store)
}

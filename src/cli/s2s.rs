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
use crate::stream::s2s::Policy;
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
        let named = jid.and_then(|jid| Some((idna::to_ascii(jid.domain())?, jid.domain().to_owned())));
        let (domain, prepared) = named.ok_or_else(|| {
            format!("{} is not a domain; write for example example.org", crate::setting::quote(&self.domain))
        })?;
        let policy = &config.engine_settings().core.s2s;
        if config.server.hosts.contains(&prepared) {
            return Err(format!("FAIL  {domain}: it is served here; name another domain"));
        }
        if let Some(why) = shunned(policy, &prepared) {
            return Err(format!("FAIL  {domain}: {why}, so it is not spoken with"));
        }
        let first = config.server.hosts.first().cloned().unwrap_or_default();
        let host = self.from.clone().unwrap_or(first);
        let dialer = dialer(config)?;
        let tell = |line: String| {
            say(&format!("      {line}"));
        };
        say(&format!("{domain}, as {host} sees it:"));
        let found = async_io::block_on(probe(&dialer, &domain, &host, &config.limits, &tell));
        match found {
            Ok(found) => {
                let (exit, text) = verdict(policy, &prepared, &found);
                Ok(if exit == Exit::Ok { say(&text) } else { complain(exit, &text) })
            }
            Err(why) => Err(format!("FAIL  {domain}: {why}")),
        }
    }
}

/// The setting that forbids to speak with a prepared domain.
fn shunned(policy: &Policy, domain: &str) -> Option<&'static str> {
    match policy {
        _ if policy.admits(domain) => None,
        Policy { enabled: false, .. } => Some("s2s.enabled is false"),
        _ if policy.blocked.iter().any(|blocked| blocked == domain) => Some("s2s.blocked_domains names it"),
        _ => Some("s2s.allowed_domains does not name it"),
    }
}

/// What comes of what was found, under a policy: whether stanzas go there, and in words.
fn verdict(policy: &Policy, domain: &str, found: &Found) -> (Exit, String) {
    let Found { proved, external, dialback } = *found;
    let believed = proved || !policy.needs_certificate(domain);
    let (word, text) = match (believed, external, dialback && policy.dialback) {
        (false, _, _) => (
            "FAIL",
            "its certificate does not prove who it is, so it is not spoken with; s2s.insecure_domains can name \
             exceptions",
        ),
        (true, true, _) if proved => ("ok", "both sides can prove who they are"),
        (true, true, _) => ("warn", "its certificate does not prove who it is, and the configuration lets that pass"),
        (true, false, true) if proved => ("ok", "it proves who it is, and verifies keys of ours (Server Dialback)"),
        (true, false, true) => ("warn", "neither side proves who it is by more than Server Dialback"),
        (true, false, false) if dialback => (
            "FAIL",
            "it wants Server Dialback of us, and s2s.dialback is false; or it does not believe our certificate",
        ),
        (true, false, false) => (
            "FAIL",
            "it offers no way in which we could prove who we are; has it seen a certificate of ours that it believes?",
        ),
    };
    let exit = if word == "FAIL" { Exit::Failed } else { Exit::Ok };
    (exit, format!("{word:<4}  {domain}: {text}"))
}

fn dialer(config: &Config) -> Result<Dialer, String> {
    let entropy = SystemEntropy::open().ok_or("the system gives no random bytes: couplet needs getrandom(2)")?;
    let (clock, federation, limits) = (Clock::start(), federation(config), &config.limits);
    let authorities = Authorities::new(federation.authorities.clone());
    match authorities.path().and_then(|path| Ok((path, authorities.count()?))) {
        Ok((path, 1)) => say(&format!("one authority is believed, that of {}", path.display())),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_is_that_of_the_configuration() {
        let found = |proved, external, dialback| Found { proved, external, dialback };
        let says = |policy: &Policy, found: Found| verdict(policy, "a.example", &found).1[..4].to_owned();
        let strict = Policy::default();
        assert_eq!(says(&strict, found(true, true, false)), "ok  ");
        assert_eq!(says(&strict, found(false, true, true)), "FAIL");
        assert_eq!(says(&strict, found(true, false, true)), "FAIL", "dialback is off");
        assert_eq!(says(&strict, found(true, false, false)), "FAIL");
        let lax = Policy { insecure: vec!["a.example".to_owned()], dialback: true, ..Policy::default() };
        assert_eq!(says(&lax, found(true, false, true)), "ok  ");
        assert_eq!(says(&lax, found(false, false, true)), "warn");
        assert_eq!(says(&lax, found(false, true, false)), "warn");
        assert_eq!(says(&lax, found(false, false, false)), "FAIL");
    }

    #[test]
    fn the_setting_that_forbids_is_named() {
        let list = || vec!["a.example".to_owned()];
        let policy = Policy { blocked: list(), ..Policy::default() };
        assert_eq!(shunned(&policy, "a.example"), Some("s2s.blocked_domains names it"));
        assert_eq!(shunned(&policy, "b.example"), None);
        let policy = Policy { allowed: list(), ..Policy::default() };
        assert_eq!(shunned(&policy, "b.example"), Some("s2s.allowed_domains does not name it"));
        assert_eq!(shunned(&Policy { enabled: false, ..policy }, "a.example"), Some("s2s.enabled is false"));
    }
}

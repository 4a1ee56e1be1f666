//! `couplet cert ...`: the certificates of our hosts.

#[cfg(feature = "acme")]
use super::ask::ask_running;
use super::offline::{give_certificates_to_owner, make_certificates_folder, make_folder};
use super::{Exit, complain, say, with_config};
use crate::clock::datetime;
use crate::config::Config;
#[cfg(feature = "acme")]
use crate::core::admin::Command;
#[cfg(feature = "acme")]
use crate::jid::Jid;
#[cfg(feature = "acme")]
use crate::net::acme;
use crate::net::certs::{self, CertInfo, CertStore, HostCertificate, Notice};
use crate::net::clock::Clock;
use argh::FromArgs;
use std::path::PathBuf;

/// List certificates, renew them, or import those that another program has got.
#[derive(FromArgs)]
#[argh(subcommand, name = "cert")]
pub struct Cert {
    #[argh(subcommand)]
    verb: CertVerb,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum CertVerb {
    List(List),
    #[cfg(feature = "acme")]
    Renew(Renew),
    Import(Import),
}

/// List the certificate of each host: names, dates, file, fingerprint.
#[derive(FromArgs)]
#[argh(subcommand, name = "list")]
struct List {
    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,
}

/// Let the running server renew certificates now: of a host, due or not; else what is due or has failed.
#[cfg(feature = "acme")]
#[derive(FromArgs)]
#[argh(subcommand, name = "renew")]
struct Renew {
    /// the host
    #[argh(positional)]
    host: Option<String>,

    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,
}

/// Copy a certificate with its key into the folder of certificates, after checking both. A running server takes it up
/// by itself.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "import",
    note = "Let certbot do it at each renewal:\n\
    certbot renew --deploy-hook 'couplet cert import \"$RENEWED_LINEAGE\"'"
)]
struct Import {
    /// certbot's folder (/etc/letsencrypt, its live, or one folder in that), or the file of a certificate
    #[argh(positional)]
    path: PathBuf,

    /// the file of its key (default: beside the certificate, or in the same file)
    #[argh(positional)]
    key: Option<PathBuf>,

    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,
}

impl Cert {
    pub fn run(self) -> Exit {
        match self.verb {
            CertVerb::List(verb) => with_config(verb.config.as_ref(), list),
            #[cfg(feature = "acme")]
            CertVerb::Renew(verb) => with_config(verb.config.as_ref(), |config| verb.run(config)),
            CertVerb::Import(verb) => with_config(verb.config.as_ref(), |config| verb.run(config)),
        }
    }
}

fn list(config: &Config) -> Exit {
    let folder = config.certificates_folder();
    match CertStore::inspect(&folder, &config.server.hosts) {
        Ok((hosts, notices)) => {
            let now_s = Clock::start().now().wall_ms / 1000;
            let rows: Vec<String> =
                hosts.iter().map(|row| format!("{}{}", shown(row, now_s), renewal(config, &row.0))).collect();
            say(&rows.join("\n"));
            warn(&notices);
            Exit::Ok
        }
        Err(error) => complain(Exit::Failed, &error.to_string()),
    }
}

fn warn(notices: &[Notice]) {
    for notice in notices.iter().filter(|notice| notice.is_warning()) {
        complain(Exit::Ok, &format!("warning: {notice}"));
    }
}

/// A host and its certificate, a line for each thing that there is to say.
fn shown((host, certificate): &HostCertificate, now_s: i64) -> String {
    let Some(info) = certificate else {
        return format!("{host}\n  none; a self-signed one is made when the server starts\n");
    };
    let CertInfo { path, names, not_before_unix_s, not_after_unix_s, self_signed, issuer, .. } = info;
    let day = |unix_s: i64| datetime(unix_s.saturating_mul(1000)).chars().take(10).collect::<String>();
    let left = match not_after_unix_s.saturating_sub(now_s) {
        i64::MIN..0 => "expired".to_string(),
        0..172_800 => format!("{} hours left", (not_after_unix_s - now_s) / 3600),
        seconds => format!("{} days left", seconds / 86_400),
    };
    let issuer = if *self_signed { "itself: clients ask whether to trust it" } else { issuer };
    format!(
        "{host}\n  file    {}\n  names   {}\n  valid   {} to {}, {left}\n  issuer  {issuer}\n  SHA-256 {}\n",
        path.display(),
        names.join(", "),
        day(*not_before_unix_s),
        day(*not_after_unix_s),
        info.fingerprint(),
    )
}

/// When it is renewed, or why there is none, of a host that gets certificates by itself.
#[cfg(feature = "acme")]
fn renewal(config: &Config, host: &str) -> String {
    let files = acme::Files::new(&config.data_folder(), &config.certificates_folder());
    let is_wanted = config.acme_names().iter().any(|(wanted, _)| wanted == host);
    let outlook = acme::outlook(&files, host).filter(|_| is_wanted);
    outlook.map_or_else(String::new, |(_, text)| format!("  renewal {text}\n"))
}

#[cfg(not(feature = "acme"))]
fn renewal(_config: &Config, _host: &str) -> String {
    String::new()
}

/// Certificates that could not be got by themselves, and what to do.
#[cfg(feature = "acme")]
pub fn troubles(config: &Config) -> Vec<String> {
    let files = acme::Files::new(&config.data_folder(), &config.certificates_folder());
    let trouble = |(host, _): (String, Vec<String>)| {
        let (_, text) = acme::outlook(&files, &host).filter(|(is_wrong, _)| *is_wrong)?;
        Some(format!("certificate of {host}: {text}"))
    };
    config.acme_names().into_iter().filter_map(trouble).collect()
}

#[cfg(not(feature = "acme"))]
pub fn troubles(_config: &Config) -> Vec<String> {
    Vec::new()
}

#[cfg(feature = "acme")]
impl Renew {
    fn run(&self, config: &Config) -> Exit {
        let host = self.host.as_deref().map(|host| Jid::parse(host).map_or(host.to_string(), |jid| jid.to_string()));
        match host.filter(|host| !config.server.hosts.contains(host)) {
            Some(host) => {
                let hosts = config.server.hosts.join(", ");
                complain(Exit::Failed, &format!("{host} is not served here; hosts are: {hosts}"))
            }
            None => ask_running(config, &Command::CertRenew { host: self.host.clone() }),
        }
    }
}

impl Import {
    fn run(&self, config: &Config) -> Exit {
        let pairs = match certs::pairs(&self.path, self.key.clone()) {
            Ok(pairs) => pairs,
            Err(error) => return complain(Exit::Failed, &error.to_string()),
        };
        if let Err(error) = make_folder(config).and_then(|()| make_certificates_folder(config)) {
            return complain(Exit::Failed, &error);
        }
        let mut exit = Exit::Ok;
        let mut imported = false;
        for pair in &pairs {
            match certs::import(&config.certificates_folder(), pair, &config.server.hosts) {
                Ok(certs::Imported { info, files }) => {
                    imported = true;
                    let until = datetime(info.not_after_unix_s.saturating_mul(1000));
                    for (file, other) in files {
                        say(&format!("{}: valid until {until}", file.display()));
                        if let Some(other) = other {
                            complain(
                                Exit::Ok,
                                &format!(
                                    "warning: {} stays in force: it lasts longer, or fits the \
                                 host better; remove it",
                                    other.display()
                                ),
                            );
                        }
                    }
                }
                Err(error) => exit = complain(Exit::Failed, &error.to_string()),
            }
        }
        give_certificates_to_owner(config);
        if imported {
            say("A running server takes it up within a minute; `couplet cert list` shows what is in force.");
        }
        exit
    }
}

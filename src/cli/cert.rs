//! `couplet cert ...`: the certificates of our hosts.

use super::offline::{give_certificates_to_owner, make_certificates_folder, make_folder};
use super::{Exit, complain, say, with_config};
use crate::clock::datetime;
use crate::config::Config;
use crate::net::certs::{self, CertInfo, CertStore, HostCertificate, Notice};
use crate::net::clock::Clock;
use argh::FromArgs;
use std::path::PathBuf;

/// List certificates, or import those that another program has got.
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
            CertVerb::Import(verb) => with_config(verb.config.as_ref(), |config| verb.run(config)),
        }
    }
}

fn list(config: &Config) -> Exit {
    let folder = config.certificates_folder();
    match CertStore::inspect(&folder, &config.server.hosts) {
        Ok((hosts, notices)) => {
            let now_s = Clock::start().now().wall_ms / 1000;
            let rows: Vec<String> = hosts.iter().map(|row| shown(row, now_s)).collect();
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

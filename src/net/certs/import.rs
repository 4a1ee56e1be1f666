//! Certificates that other programs have got: found where those keep them, checked, and copied into the folder.

use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{CertError, CertInfo, Content, a_label, choose, unix_s};
use crate::clock;
use crate::net::cert_folder;

/// The files of a certificate and of its key, which may be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The certificate, with those of its issuers behind it.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// A certificate that was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// What it says.
    pub info: CertInfo,
    /// The file of each host that it is for and, where another certificate stays in force, the file of that.
    pub files: Vec<(PathBuf, Option<PathBuf>)>,
}

/// Files that certbot leaves in the folder of each certificate.
const CHAIN: &str = "fullchain.pem";
const KEY: &str = "privkey.pem";

/// Certificates of a folder that are looked at.
const PAIRS_MAX: usize = 10_000;

/// What lies at `path`: certbot's folder, its `live`, one folder in that, or the file of a certificate. The key of such
/// a file is in `key`, or else beside it, or in the file itself.
///
/// # Errors
/// When there is nothing.
pub fn pairs(path: &Path, key: Option<PathBuf>) -> Result<Vec<Pair>, CertError> {
    if path.is_dir() {
        let of = |folder: &Path| Pair { cert: folder.join(CHAIN), key: folder.join(KEY) };
        if path.join(CHAIN).exists() {
            return Ok(vec![of(path)]);
        }
        let live = Some(path.join("live")).filter(|live| live.is_dir()).unwrap_or_else(|| path.to_owned());
        let entries = std::fs::read_dir(&live).map_err(|error| {
            let advice = "run this as a user who may read it, such as root";
            cert_folder::error(&live, &format!("cannot list the folder ({error})"), advice)
        })?;
        let folders = entries.flatten().take(PAIRS_MAX).map(|entry| entry.path());
        let mut found: Vec<Pair> = folders.filter(|folder| folder.join(CHAIN).exists()).map(|f| of(&f)).collect();
        found.sort_by(|a, b| a.cert.cmp(&b.cert));
        if found.is_empty() {
            let problem = format!("neither {CHAIN} with {KEY} nor folders that have them are in it");
            let advice =
                "name the file of a certificate, or certbot's folder, such as /etc/letsencrypt/live/example.org";
            return Err(cert_folder::error(path, &problem, advice));
        }
        return Ok(found);
    }
    let beside = || {
        let certbots = (path.file_name() == Some(CHAIN.as_ref())).then(|| path.with_file_name(KEY));
        let same_name = path.with_extension("key");
        certbots.into_iter().chain([same_name]).find(|key| key.exists()).unwrap_or_else(|| path.to_owned())
    };
    Ok(vec![Pair { cert: path.to_owned(), key: key.unwrap_or_else(beside) }])
}

/// Copies a certificate and its key into one file for each of `hosts` that it names: HOST.pem in `folder`, closed to
/// other users, there whole or not at all.
///
/// # Errors
/// When the certificate or its key cannot be used, is out of date, or names no host; then nothing is written.
pub fn import(folder: &Path, pair: &Pair, hosts: &[String]) -> Result<Imported, CertError> {
    let wrong = |problem: &str, advice: &str| Err(cert_folder::error(&pair.cert, problem, advice));
    let candidate = cert_folder::candidate(pair.cert.clone(), pair.key.clone());
    let info = match &candidate.content {
        Content::Pair(info) => info.clone(),
        Content::Other(error) | Content::Broken(error) => return Err(error.clone()),
    };
    let date = |unix_s: i64| clock::datetime(unix_s.saturating_mul(1000));
    if unix_s() > info.not_after_unix_s {
        return wrong(
            &format!("expired on {}", date(info.not_after_unix_s)),
            "renew it (certbot renew), then import it",
        );
    }
    let mut named = Vec::new();
    for host in hosts {
        let name = a_label(folder, host)?;
        if info.covers(&name) {
            named.push((host, cert_folder::file_of(folder, host, &name, ".pem")?, name));
        }
    }
    if named.is_empty() {
        let problem = format!("it is for {}, and none of that is served here", info.names.join(", "));
        let advice = format!("have one issued for {}, or correct hosts in the configuration", hosts.join(", "));
        return wrong(&problem, &advice);
    }
    cert_folder::certified_key(&candidate, &rustls::crypto::ring::default_provider())?;
    let (chain, key) = parts_of(pair)?;
    cert_folder::create_folder(folder)?;
    let mut files = Vec::new();
    for (_, file, _) in &named {
        cert_folder::write_pair(file, &chain, &key)?;
    }
    let scan = cert_folder::scan(folder)?;
    for (_, file, name) in named {
        let in_force = choose(&scan.candidates, &name)?.map(|(candidate, _)| candidate.cert.clone());
        let other = in_force.filter(|in_force| *in_force != file);
        files.push((file, other));
    }
    Ok(Imported { info, files })
}

type Parts = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Chain and key, without what else the files may say.
fn parts_of(pair: &Pair) -> Result<Parts, CertError> {
    let damaged = |path: &Path| cert_folder::error(path, "the PEM text is damaged", "copy it again from its place");
    let key = PrivateKeyDer::from_pem_slice(&cert_folder::read(&pair.key)?).map_err(|_| damaged(&pair.key))?;
    let chain = CertificateDer::pem_slice_iter(&cert_folder::read(&pair.cert)?).collect::<Result<_, _>>();
    Ok((chain.map_err(|_| damaged(&pair.cert))?, key))
}

//! The certificates of our hosts: chosen by the server name that a client asks for, and exchanged while the server
//! runs when their files change.
//!
//! A host's certificate is the one in the folder that names it; where several do, one that is valid now, then one that
//! an authority has issued, then one in a file with the host's name, then one that names it without a wildcard, then
//! the one that lasts longest. One in a file with the host's name is taken even if it does not name the host. A host
//! that has none gets a self-signed one.

mod import;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

pub use super::cert_folder::CertError;
use super::cert_folder::{self, Candidate, Content, Scan, Watched};
pub use super::x509::CertInfo;
use super::{tls, x509};
use crate::clock;
use crate::jid::idna;
pub use import::{Imported, Pair, import, pairs};

/// Something about the certificates that the operator should read, as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A self-signed certificate was made for a host that had none.
    Created {
        /// The host.
        host: String,
        /// The certificate's file; the key lies beside it.
        path: PathBuf,
        /// SHA-256, as clients show it.
        fingerprint: String,
    },
    /// A certificate is past its end.
    Expired {
        /// The certificate's file.
        path: PathBuf,
        /// Its last second since 1970-01-01T00:00:00Z.
        not_after_unix_s: i64,
    },
    /// The validity of a certificate is still to begin; often the clock is wrong.
    NotYetValid {
        /// The certificate's file.
        path: PathBuf,
        /// Its first second since 1970-01-01T00:00:00Z.
        not_before_unix_s: i64,
    },
    /// A host's certificate, taken for its file name, does not name the host.
    NotNamed {
        /// The host.
        host: String,
        /// The certificate's file.
        path: PathBuf,
    },
    /// Every user of the machine can read a private key.
    KeyExposed {
        /// The key's file.
        path: PathBuf,
    },
    /// A file that no host needs cannot be read.
    Skipped(CertError),
}

impl Notice {
    /// False for what is merely worth knowing.
    pub fn is_warning(&self) -> bool {
        !matches!(self, Notice::Created { .. })
    }
}

/// The certificates in force. Acceptors that were made with its resolver see every exchange. A clone is the same store.
#[derive(Clone)]
pub struct CertStore {
    folder: PathBuf,
    resolver: Arc<Resolver>,
}

/// A host and its certificate, if it has one.
pub type HostCertificate = (String, Option<CertInfo>);

impl CertStore {
    /// Finds the certificates of `hosts` in `folder`. The first host's is shown to clients that ask for no name or for
    /// an unknown one. Folder and self-signed certificates are made where they are missing.
    ///
    /// # Errors
    /// When a host's certificate or its key cannot be read or used, or a missing one cannot be made.
    pub fn load(folder: &Path, hosts: &[String]) -> Result<(Self, Vec<Notice>), CertError> {
        cert_folder::create_folder(folder)?;
        let (table, notices) = Table::build(folder, hosts, None)?;
        let table = RwLock::new(Arc::new(table));
        #[cfg(feature = "acme")]
        let resolver = Arc::new(Resolver { table, proofs: RwLock::default() });
        #[cfg(not(feature = "acme"))]
        let resolver = Arc::new(Resolver { table });
        Ok((Self { folder: folder.to_owned(), resolver }, notices))
    }

    /// What [`CertStore::load`] would find, for `couplet check`: writes nothing.
    ///
    /// # Errors
    /// As [`CertStore::load`]; a host without certificate is none.
    pub fn inspect(folder: &Path, hosts: &[String]) -> Result<(Vec<HostCertificate>, Vec<Notice>), CertError> {
        let mut notices = Vec::new();
        if !folder.exists() {
            return Ok((hosts.iter().map(|host| (host.clone(), None)).collect(), notices));
        }
        let scan = cert_folder::scan(folder)?;
        let mut loader = Loader::new(&scan);
        let mut found = Vec::new();
        for host in hosts {
            let loaded = loader.load(host, &a_label(folder, host)?, &mut notices)?;
            found.push((host.clone(), loaded.map(|loaded| loaded.info.clone())));
        }
        loader.skipped(&mut notices);
        Ok((found, notices))
    }

    /// True when a file of the folder is not what it was when the certificates in force were read: some calls of stat,
    /// cheap enough for every minute. True again and again while the new files cannot be used.
    pub fn changed(&self) -> bool {
        self.resolver.table().watched.iter().any(Watched::changed)
    }

    /// Reads the folder again if it has changed and exchanges all certificates at once. New connections get the new
    /// ones; open connections notice nothing.
    ///
    /// # Errors
    /// When a certificate cannot be used or is gone; those in force stay.
    pub fn reload(&self) -> Result<Vec<Notice>, CertError> {
        if !self.changed() {
            return Ok(Vec::new());
        }
        let hosts = self.resolver.table().hosts.iter().map(|(host, _)| host.clone()).collect::<Vec<_>>();
        self.reload_for(&hosts)
    }

    /// As [`CertStore::reload`], changed or not, for hosts that may be others than before. New ones without a
    /// certificate get a self-signed one.
    ///
    /// # Errors
    /// As [`CertStore::reload`].
    pub fn reload_for(&self, hosts: &[String]) -> Result<Vec<Notice>, CertError> {
        let old = self.resolver.table();
        let (table, notices) = Table::build(&self.folder, hosts, Some(&old))?;
        *self.resolver.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
        Ok(notices)
    }

    /// The certificate of each host, in the order of the hosts.
    pub fn certificates(&self) -> Vec<(String, CertInfo)> {
        let table = self.resolver.table();
        table.hosts.iter().map(|(host, loaded)| (host.clone(), loaded.info.clone())).collect()
    }

    /// Shows this certificate to who wants a proof for `name` (RFC 8737), from now on; None shows none any more.
    #[cfg(feature = "acme")]
    pub fn show_proof(&self, name: &str, proof: Option<CertifiedKey>) {
        let mut proofs = self.resolver.proofs.write().unwrap_or_else(PoisonError::into_inner);
        proofs.retain(|(of, _)| of != name);
        proofs.extend(proof.map(|key| (name.to_owned(), Arc::new(key))));
    }

    /// Where the files are.
    #[cfg(feature = "acme")]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// For [`tls::TlsAcceptor::new`].
    pub fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        self.resolver.clone()
    }

    /// Shows the certificate of one of our hosts to the servers that it connects to.
    pub fn client_resolver(&self, host: &str) -> Arc<dyn ResolvesClientCert> {
        let name = idna::to_ascii(host).unwrap_or_else(|| host.to_owned());
        Arc::new(OfHost { resolver: self.resolver.clone(), name })
    }
}

/// The certificate of one host.
#[derive(Debug)]
struct OfHost {
    resolver: Arc<Resolver>,
    /// As A-labels.
    name: String,
}

impl ResolvesClientCert for OfHost {
    /// Whatever authorities the server names: it may believe others, and does not need to believe any.
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.resolver.table().choose(Some(&self.name)).map(|loaded| loaded.key.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

struct Resolver {
    table: RwLock<Arc<Table>>,
    /// By name, what is shown to an authority that wants to see it (RFC 8737).
    #[cfg(feature = "acme")]
    proofs: RwLock<Vec<(String, Arc<CertifiedKey>)>>,
}

impl Resolver {
    fn table(&self) -> Arc<Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(feature = "acme")]
impl Resolver {
    fn proof(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let proofs = self.proofs.read().unwrap_or_else(PoisonError::into_inner);
        proofs.iter().find(|(of, _)| of == name).map(|(_, key)| key.clone())
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.table().hosts.iter().map(|(host, _)| host)).finish()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.table();
        let name = hello.server_name().map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        #[cfg(feature = "acme")]
        if hello.alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == tls::ALPN_ACME)) {
            return self.proof(&name?);
        }
        let loaded = table.choose(name.as_deref())?;
        tls::note_hello(name.as_deref(), loaded.end_point.clone());
        Some(loaded.key.clone())
    }
}

/// What is in force at one time.
struct Table {
    /// As configured, in that order.
    hosts: Vec<(String, Arc<Loaded>)>,
    /// By A-label.
    by_name: Vec<(String, Arc<Loaded>)>,
    watched: Vec<Watched>,
}

struct Loaded {
    key: Arc<CertifiedKey>,
    /// tls-server-end-point, the same for all connections that see this certificate.
    end_point: Option<Arc<[u8]>>,
    info: CertInfo,
}

impl Table {
    fn build(folder: &Path, hosts: &[String], old: Option<&Table>) -> Result<(Self, Vec<Notice>), CertError> {
        let mut notices = Vec::new();
        let mut scan = cert_folder::scan(folder)?;
        let mut created = false;
        for host in hosts {
            let name = a_label(folder, host)?;
            if choose(&scan.candidates, &name)?.is_some() {
                continue;
            }
            if old.is_some_and(|old| old.of_host(&name).is_some()) {
                let advice = "put it back; the one that was read before stays in use until the server stops";
                return Err(cert_folder::error(folder, &format!("the certificate of {host} is gone"), advice));
            }
            let path = cert_folder::create_self_signed(folder, host, &name, unix_s().saturating_mul(1000))?;
            created = true;
            notices.push(Notice::Created { host: host.clone(), path, fingerprint: String::new() });
        }
        if created {
            scan = cert_folder::scan(folder)?;
        }
        let mut loader = Loader::new(&scan);
        let mut table = Table { hosts: Vec::new(), by_name: Vec::new(), watched: Vec::new() };
        for host in hosts {
            let name = a_label(folder, host)?;
            let Some(loaded) = loader.load(host, &name, &mut notices)? else {
                let advice = "put it back, and keep other programs from changing the folder while the server starts";
                return Err(cert_folder::error(folder, &format!("the certificate of {host} has just gone"), advice));
            };
            for notice in &mut notices {
                if let Notice::Created { host: for_host, fingerprint, .. } = notice
                    && for_host == host
                {
                    *fingerprint = loaded.info.fingerprint();
                }
            }
            table.hosts.push((host.clone(), loaded.clone()));
            table.by_name.push((name, loaded));
        }
        loader.skipped(&mut notices);
        table.watched = scan.watched;
        Ok((table, notices))
    }

    fn of_host(&self, name: &str) -> Option<&Arc<Loaded>> {
        self.by_name.iter().find(|(host, _)| host == name).map(|(_, loaded)| loaded)
    }

    /// The certificate for a server name: the host's of that name, else any that covers it, else the first host's.
    fn choose(&self, name: Option<&str>) -> Option<&Arc<Loaded>> {
        let named = name.and_then(|name| {
            let covering = || self.hosts.iter().map(|(_, loaded)| loaded).find(|loaded| loaded.info.covers(name));
            self.of_host(name).or_else(covering)
        });
        named.or_else(|| self.hosts.first().map(|(_, loaded)| loaded))
    }
}

/// Reads the keys of chosen certificates, each once.
struct Loader<'a> {
    scan: &'a Scan,
    provider: CryptoProvider,
    loaded: Vec<(&'a Path, Arc<Loaded>)>,
}

impl<'a> Loader<'a> {
    fn new(scan: &'a Scan) -> Self {
        Self { scan, provider: rustls::crypto::ring::default_provider(), loaded: Vec::new() }
    }

    fn load(&mut self, host: &str, name: &str, notices: &mut Vec<Notice>) -> Result<Option<Arc<Loaded>>, CertError> {
        let Some((candidate, info)) = choose(&self.scan.candidates, name)? else { return Ok(None) };
        let path = || candidate.cert.clone();
        if !info.covers(name) {
            notices.push(Notice::NotNamed { host: host.to_owned(), path: path() });
        }
        if let Some((_, loaded)) = self.loaded.iter().find(|(path, _)| *path == candidate.cert) {
            return Ok(Some(loaded.clone()));
        }
        let key = cert_folder::certified_key(candidate, &self.provider)?;
        let CertInfo { not_before_unix_s, not_after_unix_s, .. } = *info;
        if unix_s() > not_after_unix_s {
            notices.push(Notice::Expired { path: path(), not_after_unix_s });
        } else if unix_s() < not_before_unix_s {
            notices.push(Notice::NotYetValid { path: path(), not_before_unix_s });
        }
        if cert_folder::exposed(&candidate.key) {
            notices.push(Notice::KeyExposed { path: candidate.key.clone() });
        }
        let end_point = key.end_entity_cert().ok().and_then(|der| x509::server_end_point(der)).map(Arc::from);
        let loaded = Arc::new(Loaded { key: Arc::new(key), end_point, info: info.clone() });
        self.loaded.push((&candidate.cert, loaded.clone()));
        Ok(Some(loaded))
    }

    /// Tells about broken files. Those with a host's name were errors before it comes to this.
    fn skipped(&self, notices: &mut Vec<Notice>) {
        notices.extend(self.scan.candidates.iter().filter_map(|candidate| match &candidate.content {
            Content::Broken(error) => Some(Notice::Skipped(error.clone())),
            Content::Pair(_) | Content::Other(_) => None,
        }));
    }
}

/// The certificate for a host, given in A-labels.
///
/// # Errors
/// When the only file with the host's name cannot be used.
fn choose<'a>(candidates: &'a [Candidate], name: &str) -> Result<Option<(&'a Candidate, &'a CertInfo)>, CertError> {
    let now = unix_s();
    let mut unusable = None;
    let mut best = None;
    for candidate in candidates {
        let named = candidate.stem == name;
        match &candidate.content {
            Content::Pair(info) if named || info.covers(name) => {
                let exact = info.names.iter().any(|n| n == name);
                let issued = !info.self_signed;
                let rank = (info.covers(name), info.valid_at(now), issued, named, exact, info.not_after_unix_s);
                // Of equals the first in the order of file names.
                if best.as_ref().is_none_or(|(best_rank, _, _)| rank > *best_rank) {
                    best = Some((rank, candidate, info));
                }
            }
            Content::Other(error) | Content::Broken(error) if named => unusable = Some(error),
            Content::Pair(_) | Content::Other(_) | Content::Broken(_) => {}
        }
    }
    let usable_named = candidates.iter().any(|c| c.stem == name && matches!(c.content, Content::Pair(_)));
    match unusable {
        Some(error) if !usable_named => Err(error.clone()),
        _ => Ok(best.map(|(_, candidate, info)| (candidate, info))),
    }
}

fn a_label(folder: &Path, host: &str) -> Result<String, CertError> {
    idna::to_ascii(host).ok_or_else(|| {
        let problem = format!("no certificate can name the host {host:?}");
        cert_folder::error(folder, &problem, "correct the host's name in the configuration")
    })
}

/// Seconds since 1970-01-01T00:00:00Z by the system's clock.
fn unix_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = |unix_s: i64| clock::datetime(unix_s.saturating_mul(1000));
        match self {
            Notice::Created { host, path, fingerprint } => write!(
                f,
                "{host} had no certificate; made a self-signed one, {}, SHA-256 {fingerprint}; clients will ask \
                 whether to trust it, until you put one there from a certificate authority",
                path.display()
            ),
            Notice::Expired { path, not_after_unix_s } => {
                write!(f, "{}: expired on {}; renew it", path.display(), date(*not_after_unix_s))
            }
            Notice::NotYetValid { path, not_before_unix_s } => {
                let date = date(*not_before_unix_s);
                write!(f, "{}: not valid before {date}; is this machine's clock right?", path.display())
            }
            Notice::NotNamed { host, path } => {
                write!(f, "{}: does not name {host}, so clients will refuse it; have it issued anew", path.display())
            }
            Notice::KeyExposed { path } => {
                write!(f, "{0}: every user can read this private key; run: chmod o= {0}", path.display())
            }
            Notice::Skipped(error) => write!(f, "not used: {error}"),
        }
    }
}

#[cfg(test)]
mod tests;

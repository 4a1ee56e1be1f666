//! The authorities whose word counts for other servers' certificates.
//!
//! A system's bundle has some 140 of them in 220 kB. None is kept in memory: for each chain that is looked at, the file
//! is read piece by piece, and what has issued one of the chain's certificates is taken out. So a renewed bundle
//! counts at once, too.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::x509;

/// Where systems have their bundle: Debian, Alpine and OpenWrt; Fedora; others that follow OpenSSL; openSUSE.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// Certificates of one file that are looked at.
const CERTIFICATES_MAX: usize = 2_000;

/// Authorities that one chain can have; those of the same name are different keys of one.
const FOUND_MAX: usize = 8;

/// Certificates of a chain whose issuer is looked for.
const CHAIN_MAX: usize = 8;

/// A file of authorities in PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities {
    /// None is the system's.
    file: Option<PathBuf>,
}

/// What a file has for a chain.
pub struct Found {
    /// Those that may have issued one of its certificates.
    pub roots: RootCertStore,
    /// The first certificate of the chain stands in the file itself.
    pub is_leaf: bool,
}

impl Authorities {
    /// Those of the operator's file, or of the system's bundle.
    pub fn new(file: Option<PathBuf>) -> Self {
        Self { file }
    }

    /// The file, or one line that says what to do to have one.
    ///
    /// # Errors
    /// When the system has none.
    pub fn path(&self) -> Result<&Path, String> {
        let system = || BUNDLES.iter().map(Path::new).find(|path| path.exists());
        self.file.as_deref().or_else(system).ok_or_else(|| {
            "this system has no list of certificate authorities: install ca-certificates (OpenWrt: ca-bundle), or \
             name a file in s2s.ca"
                .to_owned()
        })
    }

    /// How many authorities the file has.
    ///
    /// # Errors
    /// When it cannot be read or has none.
    pub fn count(&self) -> Result<usize, String> {
        let path = self.path()?;
        let failed = |what: &str| format!("{}: {what}", path.display());
        let mut count = 0;
        each(path, |_| count += 1).map_err(|error| failed(&format!("cannot read the file ({error})")))?;
        if count > 0 { Ok(count) } else { Err(failed("there is no certificate in it; put some there in PEM form")) }
    }

    /// Those that may have issued the certificates of a chain.
    pub fn find(&self, leaf: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> Found {
        let mut found = Found { roots: RootCertStore::empty(), is_leaf: false };
        let issuers: Vec<&[u8]> =
            [leaf].into_iter().chain(chain).take(CHAIN_MAX).filter_map(|der| x509::parties(der)).map(|p| p.0).collect();
        let read = self.path().map_err(io::Error::other).and_then(|path| {
            each(path, |der| {
                found.is_leaf |= *der == *leaf;
                let is_issuer = x509::parties(der).is_some_and(|(_, subject)| issuers.contains(&subject));
                if is_issuer && found.roots.len() < FOUND_MAX {
                    found.roots.add_parsable_certificates([der.clone()]);
                }
            })
        });
        if let Err(error) = read {
            log::error!("no certificate of another server can be checked: {error}");
        }
        found
    }
}

/// Shows each certificate of a file. Broken ones are passed over.
fn each(path: &Path, mut show: impl FnMut(&CertificateDer<'static>)) -> io::Result<()> {
    let file = File::open(path)?;
    CertificateDer::pem_reader_iter(file).take(CERTIFICATES_MAX).flatten().for_each(|der| show(&der));
    Ok(())
}

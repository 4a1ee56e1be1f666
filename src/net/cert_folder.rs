//! The folder of certificates: what lies in it, reading a certificate with its key, making a self-signed one.
//!
//! Layouts, side by side in one folder: `NAME.crt`, `NAME.pem` or `NAME.cert` with `NAME.key`; one PEM file with both;
//! `NAME/fullchain.pem` with `NAME/privkey.pem`, as certbot leaves them.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use memchr::memmem;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::x509::CertInfo;
use super::{der, self_signed};
use crate::jid::idna;

/// A file that cannot be used, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertError {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
    /// What the operator should do.
    pub advice: String,
}

/// Bytes of one file; a chain of ten RSA certificates with their texts has some 60 kB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A certificate in the folder that may serve a host.
pub(super) struct Candidate {
    /// Its file name without ending, or its folder's name, as an A-label domain where it is one.
    pub stem: String,
    pub cert: PathBuf,
    /// The same as `cert` where one file has both.
    pub key: PathBuf,
    pub content: Content,
}

pub(super) enum Content {
    /// Readable, and a key lies beside it.
    Pair(CertInfo),
    /// Of no use to us, which is normal for a file that has no host's name: a chain, parameters, no key beside it.
    Other(CertError),
    /// Meant to be a certificate, but unreadable.
    Broken(CertError),
}

/// Everything in the folder, and what must stay the same for that to be true.
pub(super) struct Scan {
    pub candidates: Vec<Candidate>,
    pub watched: Vec<Watched>,
}

/// A path as it was when it was looked at.
pub(super) struct Watched {
    path: PathBuf,
    stamp: Option<Stamp>,
}

/// Changes with any write, replacement, or change of permissions.
#[derive(PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    changed: (i64, i64),
    size_bytes: u64,
    inode: u64,
}

impl Watched {
    /// Must be called before the path is read, so that a change in between is seen.
    fn new(path: PathBuf) -> Self {
        let stamp = Self::stamp(&path);
        Self { path, stamp }
    }

    pub fn changed(&self) -> bool {
        Self::stamp(&self.path) != self.stamp
    }

    fn stamp(path: &Path) -> Option<Stamp> {
        let meta = fs::metadata(path).ok()?;
        Some(Stamp {
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
            size_bytes: meta.size(),
            inode: meta.ino(),
        })
    }
}

/// A certificate that lies anywhere, with its key.
pub(super) fn candidate(cert: PathBuf, key: PathBuf) -> Candidate {
    Candidate { stem: String::new(), content: look(&cert, &key), cert, key }
}

/// Looks at every certificate of the folder, in the order of their names. Keys are not read.
pub(super) fn scan(folder: &Path) -> Result<Scan, CertError> {
    let mut watched = vec![Watched::new(folder.to_owned())];
    let list = |e: io::Error| io_error(folder, "cannot list the folder of certificates", &e);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(list)? {
        paths.push(entry.map_err(list)?.path());
    }
    paths.sort();
    let mut candidates = Vec::new();
    for path in paths {
        let (stem, cert, key) = if path.is_dir() {
            watched.push(Watched::new(path.clone()));
            let cert = path.join("fullchain.pem");
            if !cert.exists() {
                continue;
            }
            (path.file_name(), cert, path.join("privkey.pem"))
        } else {
            let ending = path.extension().and_then(OsStr::to_str);
            if !matches!(ending, Some("crt" | "pem" | "cert")) {
                continue;
            }
            let key = path.with_extension("key");
            let key = if key.exists() && !has_key(&path) { key } else { path.clone() };
            (path.file_stem(), path.clone(), key)
        };
        let Some(stem) = stem.and_then(OsStr::to_str) else { continue };
        let stem = idna::to_ascii(stem).unwrap_or_else(|| stem.to_owned());
        watched.push(Watched::new(cert.clone()));
        if key != cert {
            watched.push(Watched::new(key.clone()));
        }
        let content = look(&cert, &key);
        candidates.push(Candidate { stem, cert, key, content });
    }
    Ok(Scan { candidates, watched })
}

/// In the first line of a key in PEM form, of whatever kind.
const KEY_MARK: &[u8] = b"PRIVATE KEY-----";

/// One file with both is not for a key beside it, which may belong to another certificate of the same name.
fn has_key(cert: &Path) -> bool {
    read(cert).is_ok_and(|bytes| memmem::find(&bytes, KEY_MARK).is_some())
}

fn look(cert: &Path, key: &Path) -> Content {
    let bytes = match read(cert) {
        Ok(bytes) => bytes,
        Err(error) => return Content::Broken(error),
    };
    let no_certificate = |problem: &str| {
        error(cert, problem, "put the certificate there in PEM form, followed by those of its issuers (the full chain)")
    };
    let der = match CertificateDer::pem_slice_iter(&bytes).next() {
        Some(Ok(der)) => der,
        Some(Err(_)) => return Content::Broken(no_certificate("the PEM text is damaged")),
        None => return Content::Other(no_certificate("there is no certificate in it")),
    };
    let Some(info) = CertInfo::parse(&der, cert.to_owned()) else {
        return Content::Broken(no_certificate("the certificate is damaged"));
    };
    if key == cert && memmem::find(&bytes, KEY_MARK).is_none() {
        let beside = cert.with_extension("key");
        return Content::Other(error(
            cert,
            "there is no private key for this certificate",
            &format!("put the key into {}", beside.display()),
        ));
    }
    Content::Pair(info)
}

/// Reads the chain and the key of a candidate and checks that they belong together.
pub(super) fn certified_key(candidate: &Candidate, provider: &CryptoProvider) -> Result<CertifiedKey, CertError> {
    let Candidate { cert, key, .. } = candidate;
    let chain = CertificateDer::pem_slice_iter(&read(cert)?).collect::<Result<Vec<_>, _>>().map_err(|_| {
        error(cert, "the PEM text of the chain is damaged", "copy the whole chain again from where it was issued")
    })?;
    let bytes = read(key)?;
    let private = PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        if memmem::find(&bytes, b"ENCRYPTED").is_some() {
            let decrypt = format!("decrypt it with: openssl pkey -in {0} -out {0}", key.display());
            error(key, "the private key is encrypted with a passphrase", &decrypt)
        } else {
            error(key, "there is no private key in it", "put the key there in PEM form (PKCS #8, PKCS #1 or SEC 1)")
        }
    })?;
    CertifiedKey::from_der(chain, private, provider).map_err(|reason| match reason {
        rustls::Error::InconsistentKeys(_) => error(
            key,
            &format!("this key does not belong to the certificate {}", cert.display()),
            "copy both again from the same place; the first certificate in the file must be that of the server",
        ),
        reason => error(
            key,
            &format!("the private key cannot be used ({reason})"),
            "make a key with ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 8192 bits",
        ),
    })
}

/// Whether a key is that of the first certificate of a chain.
#[cfg(feature = "acme")]
pub(super) fn check_pair(chain: &[CertificateDer<'static>], key: &PrivateKeyDer<'_>) -> Result<(), rustls::Error> {
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain.to_vec(), key.clone_key(), &provider).map(drop)
}

/// True when users other than its owner and group can reach the file.
pub(super) fn exposed(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o007 != 0)
}

/// Makes a self-signed certificate for `host` (`name` in A-labels) as NAME.crt and NAME.key; gives the path of the
/// former.
///
/// A key that is there already is used, not replaced: it may belong to a certificate that is still being issued.
/// The key is written first, so that a crash in between leaves nothing but such a key.
pub(super) fn create_self_signed(folder: &Path, host: &str, name: &str, wall_ms: i64) -> Result<PathBuf, CertError> {
    let cert_path = file_of(folder, host, name, ".crt")?;
    let key_path = file_of(folder, host, name, ".key")?;
    let advice = "put a certificate for the host there yourself, or remove the key to have one made";
    let failed = |reason: &dyn fmt::Display| {
        error(&key_path, &format!("cannot make a certificate with this key ({reason})"), advice)
    };
    if !key_path.exists() {
        let key = self_signed::generate_key().map_err(|e| failed(&e))?;
        write_new(&key_path, der::pem("PRIVATE KEY", &key).as_bytes(), 0o600)?;
    }
    let key = PrivateKeyDer::from_pem_slice(&read(&key_path)?).map_err(|e| failed(&e))?;
    let cert = any_supported_type(&key).and_then(|key| self_signed::certificate(&*key, host, name, wall_ms));
    let cert = der::pem("CERTIFICATE", &cert.map_err(|e| failed(&e))?);
    write_new(&cert_path, cert.as_bytes(), 0o644)?;
    Ok(cert_path)
}

/// The path of a file for `host` (`name` in A-labels).
///
/// # Errors
/// When the host can have none.
pub(super) fn file_of(folder: &Path, host: &str, name: &str, ending: &str) -> Result<PathBuf, CertError> {
    // No slash, and no label is empty: the name is no path to elsewhere.
    if name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:".contains(c)) {
        return Ok(folder.join(format!("{name}{ending}")));
    }
    Err(error(
        folder,
        &format!("no certificate can be made for the host {host:?}: it is not a DNS name"),
        "correct the host's name in the configuration",
    ))
}

/// Writes a chain and its key into one file, closed to other users.
pub(super) fn write_pair(path: &Path, chain: &[CertificateDer<'_>], key: &PrivateKeyDer<'_>) -> Result<(), CertError> {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    let key = der::pem(label, key.secret_der());
    let chain: String = chain.iter().map(|one| der::pem("CERTIFICATE", one).as_str().to_owned()).collect();
    // The room for all of it is made at once: growing would leave copies of the key behind.
    let mut text = Zeroizing::new(String::with_capacity(key.len() + chain.len()));
    text.push_str(&key);
    text.push_str(&chain);
    write_new(path, text.as_bytes(), 0o600)
}

/// Makes the folder if there is none, open to nobody else.
pub(super) fn create_folder(folder: &Path) -> Result<(), CertError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|e| io_error(folder, "cannot make the folder of certificates", &e))
}

/// Writes a file that is there whole or not at all, after a power cut too.
pub(super) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CertError> {
    let mut half = path.as_os_str().to_owned();
    half.push(".new");
    let half = PathBuf::from(half);
    let write = || -> io::Result<()> {
        match fs::remove_file(&half) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&half)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&half, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    write().map_err(|e| io_error(path, "cannot write the certificate", &e))
}

pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, CertError> {
    let cannot = |e: io::Error| io_error(path, "cannot read the file", &e);
    let file = File::open(path).map_err(cannot)?;
    let size_bytes = file.metadata().map_err(cannot)?.len();
    // The room for all of it is made at once: growing would leave copies of a key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(size_bytes.min(FILE_BYTES_MAX) as usize + 1));
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(error(path, "the file has more than a megabyte", "put a certificate or a key in PEM form there"));
    }
    Ok(bytes)
}

pub(super) fn error(path: &Path, problem: &str, advice: &str) -> CertError {
    CertError { path: path.to_owned(), problem: problem.to_owned(), advice: advice.to_owned() }
}

fn io_error(path: &Path, what: &str, reason: &io::Error) -> CertError {
    let advice = match reason.kind() {
        io::ErrorKind::PermissionDenied => {
            "let the user that runs the server do so (chown, chmod); a running one must be restarted for a place that \
             it has not seen when it started (process.sandbox)"
        }
        io::ErrorKind::NotFound => "put the file there, or correct the folder in the configuration",
        io::ErrorKind::StorageFull => "make room on the disk",
        io::ErrorKind::ReadOnlyFilesystem => "put a certificate and its key there yourself, or choose another folder",
        _ => "check the file system, and that the path is what the configuration means",
    };
    error(path, &format!("{what} ({reason})"), advice)
}

impl fmt::Display for CertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.path.display(), self.problem, self.advice)
    }
}

impl std::error::Error for CertError {}

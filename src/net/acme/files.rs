//! What is kept between visits, in a folder of the data folder: the account with its key, certificates that are being
//! issued, and what went wrong the last time. All of it is closed to other users and written whole or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use super::json::printable;
use super::jws::AccountKey;
use super::session::{Account, Pending};
use crate::net::certs::{CertError, CertInfo};
use crate::net::{cert_folder, der, self_signed};

/// The folder, below the data folder.
pub const FOLDER: &str = "acme";

const ACCOUNT_KEY: &str = "account.key";
const ACCOUNT: &str = "account";

/// A certificate that we have got: `example.org+acme.pem`. A plus stands in no name, so it is nobody else's file.
const CERTIFICATE: &str = "+acme.pem";

/// What went wrong with a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// How often it did, one after another.
    pub failures: u32,
    /// When it is tried again, in seconds since 1970.
    pub next_s: i64,
    /// Of these settings: it says nothing about others.
    pub settings: String,
    /// What it was, and what to do.
    pub text: String,
}

/// A certificate that is being issued, and the key for it.
pub struct Begun {
    /// The order.
    pub pending: Pending,
    /// Its key in PKCS #8.
    pub key: Zeroizing<Vec<u8>>,
}

/// The files.
#[derive(Clone, Debug)]
pub struct Files {
    folder: PathBuf,
    certificates: PathBuf,
}

impl Files {
    /// Those of a data folder and a folder of certificates.
    pub fn new(data: &Path, certificates: &Path) -> Self {
        Self { folder: data.join(FOLDER), certificates: certificates.to_owned() }
    }

    /// The folder for what is not a certificate.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the certificate of a host is (A-labels).
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.certificates.join(format!("{name}{CERTIFICATE}"))
    }

    /// The key of the account; made when there is none.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn account_key(&self) -> Result<AccountKey, CertError> {
        let path = self.folder.join(ACCOUNT_KEY);
        if !path.exists() {
            let key = self_signed::generate_key()
                .map_err(|error| cert_folder::error(&path, &error.to_string(), "see that getrandom(2) works"))?;
            self.write(ACCOUNT_KEY, &der::pem("PRIVATE KEY", &key))?;
        }
        let bytes = cert_folder::read(&path)?;
        let key = PrivateKeyDer::from_pem_slice(&bytes).ok();
        key.and_then(|key| AccountKey::from_pkcs8(key.secret_der())).ok_or_else(|| {
            let advice = "put it back from a backup; or remove it to have a new account made";
            cert_folder::error(&path, "this is no key of an account (ECDSA with P-256, PKCS #8)", advice)
        })
    }

    /// The account with the authority of this directory, as it was written down.
    pub fn account(&self, directory: &str) -> Account {
        let mut account = Account::default();
        let text = self.text(ACCOUNT);
        let fields = || text.lines().filter_map(|line| line.split_once(' '));
        if fields().any(|field| field == ("directory", directory)) {
            for (name, value) in fields() {
                match name {
                    "url" => account.url = Some(value.to_owned()),
                    "contact" => account.contacts.push(value.to_owned()),
                    _ => {}
                }
            }
        }
        account
    }

    /// Writes the account down.
    ///
    /// # Errors
    /// When it cannot.
    pub fn set_account(&self, directory: &str, account: &Account) -> Result<(), CertError> {
        let mut text = format!("directory {directory}\n");
        if let Some(url) = &account.url {
            text.push_str(&format!("url {}\n", printable(url)));
        }
        for contact in &account.contacts {
            text.push_str(&format!("contact {contact}\n"));
        }
        self.write(ACCOUNT, &text)
    }

    /// What was begun with the authority of this directory.
    pub fn begun(&self, name: &str, directory: &str) -> Option<Begun> {
        let text = Zeroizing::new(self.text(&format!("{name}.order")));
        let value =
            |of: &str| text.lines().filter_map(|line| line.split_once(' ')).find(|(n, _)| *n == of).map(|f| f.1);
        if value("directory") != Some(directory) {
            return None;
        }
        let pending =
            Pending { url: value("url")?.to_owned(), names: value("names")?.split(' ').map(str::to_owned).collect() };
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).ok()?;
        Some(Begun { pending, key: Zeroizing::new(key.secret_der().to_vec()) })
    }

    /// Writes down what is begun.
    ///
    /// # Errors
    /// When it cannot.
    pub fn set_begun(&self, name: &str, directory: &str, pending: &Pending, key: &[u8]) -> Result<(), CertError> {
        let key = der::pem("PRIVATE KEY", key);
        let head =
            format!("directory {directory}\nurl {}\nnames {}\n", printable(&pending.url), pending.names.join(" "));
        let mut text = Zeroizing::new(String::with_capacity(head.len() + key.len()));
        text.push_str(&head);
        text.push_str(&key);
        self.write(&format!("{name}.order"), &text)
    }

    /// Forgets what was begun.
    pub fn end(&self, name: &str) {
        self.remove(&format!("{name}.order"));
    }

    /// What went wrong with the certificate of a host, if it is not mended.
    pub fn record(&self, name: &str) -> Option<Record> {
        let text = self.text(&format!("{name}.trouble"));
        let mut record = Record::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            match name {
                "failures" => record.failures = value.parse().ok()?,
                "next" => record.next_s = value.parse().ok()?,
                "settings" => record.settings = value.to_owned(),
                "text" => record.text = value.to_owned(),
                _ => {}
            }
        }
        (record.failures > 0).then_some(record)
    }

    /// Writes that down; None when all is well.
    pub fn set_record(&self, name: &str, record: Option<&Record>) {
        let file = format!("{name}.trouble");
        let Some(Record { failures, next_s, settings, text }) = record else { return self.remove(&file) };
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let text = format!("failures {failures}\nnext {next_s}\nsettings {settings}\ntext {text}\n");
        if let Err(error) = self.write(&file, &text) {
            log::error!("certificates: {error}");
        }
    }

    /// The certificate that we have got for a host, and what its issuer calls it.
    pub fn issued(&self, name: &str) -> Option<(CertInfo, Option<String>)> {
        let path = self.certificate(name);
        if !path.exists() {
            return None;
        }
        let bytes = cert_folder::read(&path).ok()?;
        let der = CertificateDer::pem_slice_iter(&bytes).next()?.ok()?;
        Some((CertInfo::parse(&der, path)?, crate::net::x509::renewal_id(&der)))
    }

    /// Puts a chain and its key in force, after checking that they are what was asked for.
    ///
    /// # Errors
    /// When they are not, or cannot be written.
    pub fn install(&self, names: &[String], chain: &[u8], key: &[u8]) -> Result<CertInfo, CertError> {
        let path = self.certificate(names.first().map_or("", String::as_str));
        let wrong = |problem: &str| cert_folder::error(&path, problem, "tell the authority; it is tried again");
        let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|_| wrong("the authority has sent something else than certificates"))?;
        let info = chain.first().and_then(|leaf| CertInfo::parse(leaf, path.clone()));
        let info = info.ok_or_else(|| wrong("the authority has sent no certificate"))?;
        if let Some(missing) = names.iter().find(|name| !info.names.contains(name)) {
            return Err(wrong(&format!("the authority has sent a certificate that does not name {missing}")));
        }
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
        cert_folder::check_pair(&chain, &key).map_err(|_| wrong("the certificate is not for the key that was sent"))?;
        cert_folder::write_pair(&path, &chain, &key)?;
        Ok(info)
    }

    fn text(&self, name: &str) -> String {
        let path = self.folder.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    log::error!("certificates: {}: {error}; make it readable for the server's user", path.display());
                }
                String::new()
            }
        }
    }

    fn write(&self, name: &str, text: &str) -> Result<(), CertError> {
        cert_folder::create_folder(&self.folder)?;
        cert_folder::write_new(&self.folder.join(name), text.as_bytes(), 0o600)
    }

    fn remove(&self, name: &str) {
        let path = self.folder.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => log::error!("{}: {error}", path.display()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn files() -> (Files, PathBuf) {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("couplet-acme-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let data = std::env::temp_dir().join(name);
        (Files::new(&data, &data.join("certs")), data)
    }

    #[test]
    fn an_account_is_kept_with_its_key_and_for_its_authority_alone() {
        let (files, data) = files();
        let authorization = files.account_key().unwrap().authorization("t");
        assert_eq!(files.account_key().unwrap().authorization("t"), authorization, "the same");
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(data.join("acme")), mode(data.join("acme/account.key"))), (0o700, 0o600));
        assert_eq!(files.account("https://a"), Account::default());
        let account =
            Account { url: Some("https://a/1".to_owned()), contacts: vec!["mailto:x@a".into(), "mailto:y@a".into()] };
        files.set_account("https://a", &account).unwrap();
        assert_eq!((files.account("https://a"), files.account("https://b")), (account, Account::default()));
        fs::write(data.join("acme/account.key"), "nonsense").unwrap();
        let error = files.account_key().err().unwrap().to_string();
        assert!(error.contains("remove it to have a new account made"), "{error}");
        fs::remove_dir_all(data).unwrap();
    }

    #[test]
    fn what_is_begun_and_what_went_wrong_outlive_a_restart() {
        let (files, data) = files();
        let pending = Pending { url: "https://a/o/1".into(), names: vec!["a.example".into(), "*.a.example".into()] };
        assert!(files.begun("a.example", "https://a").is_none() && files.record("a.example").is_none());
        files.set_begun("a.example", "https://a", &pending, b"key").unwrap();
        let begun = files.begun("a.example", "https://a").unwrap();
        assert_eq!((begun.pending, begun.key.as_slice()), (pending, &b"key"[..]));
        assert!(files.begun("a.example", "https://b").is_none());
        files.end("a.example");
        files.end("a.example");
        assert!(files.begun("a.example", "https://a").is_none());
        let record =
            Record { failures: 2, next_s: 99, settings: "0af".to_owned(), text: "a: b; see https://x y".to_owned() };
        files.set_record("a.example", Some(&record));
        assert_eq!(files.record("a.example"), Some(record));
        files.set_record("a.example", None);
        assert_eq!(files.record("a.example"), None);
        fs::write(data.join("acme/a.example.trouble"), "failures x\n").unwrap();
        assert_eq!(files.record("a.example"), None);
        fs::remove_dir_all(data).unwrap();
    }

    #[test]
    fn only_what_was_asked_for_is_put_in_force() {
        let (files, data) = files();
        fs::create_dir_all(data.join("certs")).unwrap();
        let issue = |names: &[&str]| {
            let key = rcgen::KeyPair::generate().unwrap();
            let names = names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
            let cert = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
            (cert.pem(), key.serialize_der())
        };
        let (cert, key) = issue(&["a.example", "b.a.example"]);
        let names = ["a.example".to_owned(), "b.a.example".to_owned()];
        let refused = |cert: &str, key: &[u8]| files.install(&names, cert.as_bytes(), key).unwrap_err().problem;
        assert!(refused("", &key).contains("no certificate"));
        assert!(refused("-----BEGIN CERTIFICATE-----\n!\n", &key).contains("something else"));
        assert!(refused(&issue(&["a.example"]).0, &key).contains("does not name b.a.example"));
        assert!(refused(&cert, &issue(&["a.example"]).1).contains("not for the key"));
        assert!(files.issued("a.example").is_none());
        let info = files.install(&names, cert.as_bytes(), &key).unwrap();
        assert_eq!(info.path, data.join("certs/a.example+acme.pem"));
        assert_eq!(fs::metadata(&info.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(files.issued("a.example").unwrap().0, info);
        fs::remove_dir_all(data).unwrap();
    }
}

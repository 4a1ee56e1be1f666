//! Folders of certificates in the system's temporary directory, and handshakes with what was found in them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;
use crate::net::tls::{TlsAcceptor, TlsConn};
use crate::stream::TlsFacts;

/// A folder that is removed with its owner.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("couplet-certs-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Writes a certificate for `names` and its key to these files, which may be one.
    fn issue(&self, cert: &str, key: &str, names: &[&str], years: (i32, i32)) {
        let (cert_pem, key_pem) = issue(names, years);
        if cert == key {
            self.write(cert, &(key_pem + &cert_pem));
        } else {
            self.write(cert, &cert_pem);
            self.write(key, &key_pem);
        }
    }

    fn load(&self, hosts: &[&str]) -> Result<(CertStore, Vec<Notice>), CertError> {
        CertStore::load(&self.0, &strings(hosts))
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(&self.0).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const NOW: (i32, i32) = (2020, 2999);

fn issue(names: &[&str], years: (i32, i32)) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(strings(names)).unwrap();
    params.not_before = date_time_ymd(years.0, 1, 1);
    params.not_after = date_time_ymd(years.1, 1, 1);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| s.to_string()).collect()
}

/// The file whose certificate serves each host.
fn chosen(store: &CertStore) -> Vec<(String, String)> {
    let name = |info: CertInfo| info.path.file_name().unwrap().to_str().unwrap().to_string();
    store.certificates().into_iter().map(|(host, info)| (host, name(info))).collect()
}

/// Shakes hands with the store, trusting only the certificate in `cert`. Gives the facts of the server, and the
/// certificate.
fn handshake(store: &CertStore, name: &str, cert: &Path) -> Result<(TlsFacts, Vec<u8>), rustls::Error> {
    let root = CertificateDer::from_pem_file(cert).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(root).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_string()).unwrap())?;
    let mut server = TlsConn::new(&TlsAcceptor::new(store.resolver(), &[]).unwrap()).unwrap();
    for _ in 0..4 {
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        while client.wants_write() {
            client.write_tls(&mut to_server).unwrap();
        }
        server.receive(&mut to_server, &mut Vec::new(), &mut to_client).unwrap();
        let mut to_client = &to_client[..];
        while !to_client.is_empty() {
            client.read_tls(&mut to_client).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking());
    Ok((server.facts(), client.peer_certificates().unwrap()[0].to_vec()))
}

#[test]
fn a_host_without_certificate_gets_one_that_its_clients_can_verify() {
    let folder = Folder::new();
    let inner = folder.path("deep/certificates");
    let hosts = strings(&["capulet.example", "bücher.example", "192.0.2.1"]);
    let (store, notices) = CertStore::load(&inner, &hosts).unwrap();
    assert_eq!(notices.len(), 3);
    for (notice, (host, info)) in notices.iter().zip(store.certificates()) {
        assert!(!notice.is_warning());
        let (path, fingerprint) = (info.path.clone(), info.fingerprint());
        assert_eq!(*notice, Notice::Created { host, path: path.clone(), fingerprint: fingerprint.clone() });
        assert!(notice.to_string().contains(&fingerprint));
        assert!(info.self_signed && info.valid_at(unix_s()) && info.valid_at(unix_s() + 9 * 365 * 86_400));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path.with_extension("key")), 0o600);
    }
    let names = store.certificates().into_iter().map(|(_, info)| info.names).collect::<Vec<_>>();
    assert_eq!(names, [vec!["capulet.example"], vec!["xn--bcher-kva.example"], vec!["192.0.2.1"]]);
    for (i, name) in ["capulet.example", "xn--bcher-kva.example", "192.0.2.1"].iter().enumerate() {
        let result = handshake(&store, name, &inner.join(format!("{name}.crt")));
        // An address cannot be asked for in a server name: the first host's certificate is shown.
        assert_eq!(result.is_ok(), i < 2, "{name}");
    }
    let (again, notices) = CertStore::load(&inner, &hosts).unwrap();
    assert_eq!((again.certificates(), notices), (store.certificates(), vec![]));
}

#[test]
fn the_self_signed_certificate_takes_a_key_that_waits_for_its_certificate() {
    let folder = Folder::new();
    let (_, key) = issue(&["x"], NOW);
    folder.write("capulet.example.key", &key);
    let (_, notices) = folder.load(&["capulet.example"]).unwrap();
    assert!(matches!(notices[..], [Notice::Created { .. }]));
    assert_eq!(fs::read_to_string(folder.path("capulet.example.key")).unwrap(), key);
    folder.write("montague.example.key", "not a key");
    let error = folder.load(&["montague.example"]).err().unwrap();
    assert_eq!(error.path, folder.path("montague.example.key"));
    assert!(!folder.path("montague.example.crt").exists());
}

#[test]
fn every_layout_is_read() {
    let folder = Folder::new();
    folder.issue("a.example.crt", "a.example.key", &["a.example"], NOW);
    folder.issue("b.example.pem", "b.example.key", &["b.example"], NOW);
    folder.issue("c.example.cert", "c.example.key", &["c.example"], NOW);
    folder.issue("d.example/fullchain.pem", "d.example/privkey.pem", &["d.example"], NOW);
    folder.issue("e.example.pem", "e.example.pem", &["e.example"], NOW);
    folder.issue("any.crt", "any.key", &["*.wild.example", "wild.example"], NOW);
    folder.write("README", "not a certificate");
    folder.write("dhparam.pem", "-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n");
    folder.write("chain.pem", &issue(&["authority.example"], NOW).0);
    let hosts = ["a.example", "b.example", "c.example", "d.example", "e.example", "wild.example", "chat.wild.example"];
    let before = folder.names();
    let (store, notices) = folder.load(&hosts).unwrap();
    assert_eq!((notices, folder.names()), (vec![], before));
    let files: Vec<String> = chosen(&store).into_iter().map(|(_, file)| file).collect();
    let expected = ["a.example.crt", "b.example.pem", "c.example.cert", "fullchain.pem", "e.example.pem"];
    assert_eq!(files[..5], expected);
    assert_eq!(files[5..], ["any.crt", "any.crt"]);
    for (host, info) in store.certificates() {
        let (facts, der) = handshake(&store, &host, &info.path).unwrap();
        assert_eq!(facts.sni.as_deref(), Some(host.as_str()));
        assert_eq!(facts.end_point, x509::server_end_point(&der));
        assert!(facts.end_point.is_some());
    }
}

#[test]
fn the_better_certificate_wins() {
    let folder = Folder::new();
    let host = "capulet.example";
    let expect = |file: &str| {
        let (store, notices) = folder.load(&[host]).unwrap();
        assert_eq!(chosen(&store), [(host.to_string(), file.to_string())]);
        notices
    };
    folder.issue("capulet.example.crt", "capulet.example.key", &["other.example"], (2020, 2030));
    let notices = expect("capulet.example.crt");
    assert_eq!(notices, [Notice::NotNamed { host: host.into(), path: folder.path("capulet.example.crt") }]);
    folder.issue("old.crt", "old.key", &[host], (2020, 2021));
    let notices = expect("old.crt");
    let expired = Notice::Expired { path: folder.path("old.crt"), not_after_unix_s: 1_609_459_200 };
    assert_eq!(notices, [expired]);
    assert!(notices[0].to_string().contains("2021-01-01T00:00:00Z"));
    folder.issue("wild.crt", "wild.key", &["*.example"], (2020, 2999));
    assert_eq!(expect("wild.crt"), []);
    folder.issue("exact.crt", "exact.key", &[host], (2020, 2900));
    expect("exact.crt");
    folder.issue("exact2.crt", "exact2.key", &[host], (2020, 2950));
    expect("exact2.crt");
    folder.issue("capulet.example.crt", "capulet.example.key", &["*.example"], (2020, 2800));
    expect("capulet.example.crt");
}

#[test]
fn unknown_and_missing_names_get_the_first_host_or_one_that_covers_them() {
    let folder = Folder::new();
    folder.issue("a.crt", "a.key", &["a.example"], NOW);
    folder.issue("b.crt", "b.key", &["b.example", "*.b.example"], NOW);
    let (store, _) = folder.load(&["a.example", "b.example"]).unwrap();
    let shown = |name: &str| {
        let (a, b) = (handshake(&store, name, &folder.path("a.crt")), handshake(&store, name, &folder.path("b.crt")));
        (a.is_ok(), b.is_ok())
    };
    assert_eq!(shown("a.example"), (true, false));
    assert_eq!(shown("upload.b.example"), (false, true));
    let table = store.resolver.table();
    let file = |name| table.choose(name).unwrap().info.path.clone();
    assert_eq!((file(None), file(Some("c.example"))), (folder.path("a.crt"), folder.path("a.crt")));
}

#[test]
fn what_cannot_be_used_is_named_with_advice() {
    let host = "capulet.example";
    let fails = |prepare: &dyn Fn(&Folder), file: &str, words: &[&str]| {
        let folder = Folder::new();
        prepare(&folder);
        let error = folder.load(&[host]).err().unwrap();
        assert_eq!(error.path, folder.path(file), "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "{error}");
        }
        let inspected = CertStore::inspect(&folder.0, &strings(&[host])).unwrap_err();
        assert_eq!(inspected, error);
    };
    let (crt, key) = ("capulet.example.crt", "capulet.example.key");
    let (cert_pem, key_pem) = issue(&[host], NOW);
    let other_key = issue(&[host], NOW).1;
    fails(
        &|f| {
            f.write(crt, &cert_pem);
            f.write(key, &other_key);
        },
        key,
        &["does not belong to the certificate"],
    );
    fails(&|f| f.write(crt, &cert_pem), crt, &["no private key", "put the key into", key]);
    fails(&|f| f.write(crt, ""), crt, &["no certificate in it"]);
    fails(&|f| f.write(crt, &cert_pem.replace("MII", "!!!")), crt, &["damaged"]);
    fails(&|f| f.write(crt, &"x".repeat(1_100_000)), crt, &["megabyte"]);
    fails(
        &|f| {
            f.write(crt, &cert_pem);
            f.write(
                key,
                &key_pem.replace("BEGIN PRIVATE", "BEGIN ENCRYPTED PRIVATE").replace("END P", "END ENCRYPTED P"),
            );
        },
        key,
        &["passphrase", "openssl pkey"],
    );
    fails(
        &|f| {
            f.write("any.crt", &cert_pem);
            f.write("any.key", "");
        },
        "any.key",
        &["no private key in it"],
    );
    fails(
        &|f| {
            f.write(crt, &cert_pem);
            fs::create_dir(f.path(key)).unwrap();
        },
        key,
        &["cannot read the file"],
    );
}

#[test]
fn hosts_that_no_certificate_can_name_are_refused() {
    let folder = Folder::new();
    for host in ["../capulet", ".", "a b.example", "", "..", "a/b"] {
        assert!(folder.load(&[host]).is_err(), "{host}");
    }
    assert!(folder.names().is_empty());
}

#[test]
fn broken_files_that_no_host_needs_are_only_mentioned() {
    let folder = Folder::new();
    folder.issue("capulet.example.crt", "capulet.example.key", &["capulet.example"], NOW);
    folder.write("other.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let (_, notices) = folder.load(&["capulet.example"]).unwrap();
    assert!(matches!(&notices[..], [Notice::Skipped(error)] if error.path == folder.path("other.crt")));
}

#[test]
fn a_key_that_everybody_can_read_is_mentioned() {
    let folder = Folder::new();
    folder.issue("capulet.example.crt", "capulet.example.key", &["capulet.example"], NOW);
    let key = folder.path("capulet.example.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(folder.load(&["capulet.example"]).unwrap().1, [Notice::KeyExposed { path: key.clone() }]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(folder.load(&["capulet.example"]).unwrap().1, []);
}

#[test]
fn a_renewed_certificate_is_taken_and_a_broken_one_is_not() {
    let folder = Folder::new();
    let host = "capulet.example";
    let (crt, key) = ("capulet.example/fullchain.pem", "capulet.example/privkey.pem");
    folder.issue(crt, key, &[host], NOW);
    let (store, _) = folder.load(&[host]).unwrap();
    let first = store.certificates();
    assert!(!store.changed());
    assert_eq!((store.reload().unwrap(), store.certificates()), (vec![], first.clone()));

    folder.issue(crt, key, &[host], (2021, 2999));
    assert!(store.changed());
    store.reload().unwrap();
    let second = store.certificates();
    assert_ne!(second, first);
    assert!(!store.changed());
    let (_, der) = handshake(&store, host, &folder.path(crt)).unwrap();
    assert_eq!(CertInfo::parse(&der, folder.path(crt)).as_ref(), Some(&second[0].1));

    folder.write(key, &issue(&[host], NOW).1);
    assert!(store.reload().unwrap_err().problem.contains("does not belong"));
    assert_eq!(store.certificates(), second);
    assert!(store.changed());

    fs::remove_dir_all(folder.path("capulet.example")).unwrap();
    assert!(store.reload().unwrap_err().problem.contains("is gone"));
    assert_eq!((store.certificates(), folder.names().len()), (second, 0));

    folder.issue("capulet.example.crt", "capulet.example.key", &[host], NOW);
    store.reload().unwrap();
    assert_eq!(chosen(&store)[0].1, "capulet.example.crt");
}

#[test]
fn new_hosts_come_with_a_reload() {
    let folder = Folder::new();
    let (store, _) = folder.load(&["a.example"]).unwrap();
    let notices = store.reload_for(&strings(&["b.example", "a.example"])).unwrap();
    assert!(matches!(&notices[..], [Notice::Created { host, .. }] if host == "b.example"));
    let hosts: Vec<String> = store.certificates().into_iter().map(|(host, _)| host).collect();
    assert_eq!(hosts, ["b.example", "a.example"]);
    assert!(!store.changed());
}

#[test]
fn an_inspection_writes_nothing() {
    let folder = Folder::new();
    let hosts = strings(&["capulet.example"]);
    let missing = (vec![("capulet.example".to_string(), None)], vec![]);
    assert_eq!(CertStore::inspect(&folder.0, &hosts).unwrap(), missing);
    assert_eq!(CertStore::inspect(&folder.path("none"), &hosts).unwrap(), missing);
    assert!(folder.names().is_empty());
}

#[cfg(feature = "acme")]
#[test]
fn a_proof_is_for_those_who_ask_for_it_alone_and_goes_away() {
    let folder = Folder::new();
    let (store, _) = folder.load(&["a.example"]).unwrap();
    let hosts = folder.path("a.example.crt");
    let proof = cert_folder::candidate(hosts.clone(), folder.path("a.example.key"));
    let proof = || cert_folder::certified_key(&proof, &rustls::crypto::ring::default_provider()).unwrap();
    let asked = |name: &str, alpn: &[u8]| {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&hosts).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let name = ServerName::try_from(name.to_string()).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut server = TlsConn::new(&TlsAcceptor::new(store.resolver(), &[tls::ALPN_CLIENT]).unwrap()).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        server.receive(&mut hello, &mut Vec::new(), &mut Vec::new()).is_ok()
    };
    assert!(asked("a.example", tls::ALPN_CLIENT) && !asked("a.example", tls::ALPN_ACME), "there is none");
    store.show_proof("a.example", Some(proof()));
    assert!(asked("a.example", tls::ALPN_ACME) && !asked("b.example", tls::ALPN_ACME));
    store.show_proof("a.example", Some(proof()));
    store.show_proof("a.example", None);
    assert!(!asked("a.example", tls::ALPN_ACME), "one takes the place of the other");
}

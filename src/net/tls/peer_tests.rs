//! Both sides of connections between servers, in memory: what is found out about certificates of every kind.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType, date_time_ymd};

use super::*;
use crate::net::authorities::Authorities;
use crate::net::certs::CertStore;
use crate::stream::Trust;

pub const CAPULET: &str = "capulet.example";
pub const MONTAGUE: &str = "montague.example";

/// A folder of certificates and authorities, removed with its owner.
pub struct World {
    folder: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn params(host: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![host.to_string()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, host);
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2099, 1, 1);
    params
}

impl World {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("couplet-peer-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        // A bundle with others of the same and of another name, and with what is no certificate.
        let own = authority("Verona");
        let texts = [authority("Verona").pem(), "nonsense\n".to_string(), authority("Mantua").pem(), own.pem()];
        fs::write(folder.join("authorities.pem"), texts.concat()).unwrap();
        Self { folder, authority: own }
    }

    /// The certificates of a host, as its own server has them.
    fn store(
        &self,
        host: &str,
        params: &CertificateParams,
        issuer: Option<&CertifiedIssuer<'_, KeyPair>>,
    ) -> CertStore {
        let key = KeyPair::generate().unwrap();
        let cert = match issuer {
            Some(issuer) => params.signed_by(&key, issuer).unwrap(),
            None => params.self_signed(&key).unwrap(),
        };
        let folder = self.folder.join(format!("of-{host}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(format!("{host}.crt")), cert.pem()).unwrap();
        fs::write(folder.join(format!("{host}.key")), key.serialize_pem()).unwrap();
        CertStore::load(&folder, &[host.to_string()]).unwrap().0
    }

    pub fn issued(&self, host: &str) -> CertStore {
        self.store(host, &params(host), Some(&self.authority))
    }

    pub fn verifier(&self) -> Arc<PeerVerifier> {
        self.verifier_with(self.folder.join("authorities.pem"))
    }

    fn verifier_with(&self, file: PathBuf) -> Arc<PeerVerifier> {
        Arc::new(PeerVerifier::new(Authorities::new(Some(file))))
    }
}

/// A connection from one server to another: what each has found out.
fn meet(client: &TlsConnector, server: &TlsAcceptor, direct: bool) -> Result<(TlsFacts, TlsFacts), TlsError> {
    let (mut flight, mut plain) = (Vec::new(), Vec::new());
    let mut client = TlsConn::connect(client, CAPULET, MONTAGUE, direct, &mut flight)?;
    let mut server = TlsConn::new(server)?;
    let (mut of_client, mut of_server) = (None, None);
    for _ in 0..10 {
        let mut back = Vec::new();
        // In small pieces, so that every record is once incomplete.
        for piece in flight.chunks_mut(700) {
            if server.receive(piece, &mut plain, &mut back)? == Progress::Finished {
                of_server = Some(server.facts());
            }
        }
        flight.clear();
        for piece in back.chunks_mut(700) {
            if client.receive(piece, &mut plain, &mut flight)? == Progress::Finished {
                of_client = Some(client.facts());
            }
        }
        if let (Some(of_client), Some(of_server)) = (&of_client, &of_server) {
            assert_eq!((client.held_bytes(), server.held_bytes()), (0, 0));
            let (mut there, mut back) = (Vec::new(), Vec::new());
            client.send(b"<stream:stream>", &mut there)?;
            server.receive(&mut there, &mut plain, &mut Vec::new())?;
            server.send(b"<stream:features/>", &mut back)?;
            server.close(&mut back);
            assert_eq!(client.receive(&mut back, &mut plain, &mut Vec::new())?, Progress::Closed);
            assert_eq!(plain, b"<stream:stream><stream:features/>");
            return Ok((of_client.clone(), of_server.clone()));
        }
    }
    panic!("the handshake does not end");
}

/// What each side finds out about the other, over TLS 1.3.
fn both(world: &World, ours: CertStore, theirs: CertStore, verifier: Arc<PeerVerifier>) -> (TlsFacts, TlsFacts) {
    let client = TlsConnector::new(Some(ours), verifier.clone()).unwrap();
    let server = TlsAcceptor::for_servers(theirs.resolver(), &[ALPN_SERVER], verifier).unwrap();
    assert!(world.folder.exists());
    meet(&client, &server, true).unwrap()
}

fn trust_in(world: &World, theirs: CertStore) -> Trust {
    let (facts, _) = both(world, world.issued(CAPULET), theirs, world.verifier());
    facts.peer.unwrap().trust
}

#[test]
fn each_side_sees_the_certificate_of_the_other() {
    let world = World::new();
    let (of_client, of_server) = both(&world, world.issued(CAPULET), world.issued(MONTAGUE), world.verifier());
    assert!(of_client.tls13 && of_client.alpn == Some(ALPN_SERVER.to_vec()) && of_client.alpn == of_server.alpn);
    assert_eq!(of_client.exporter, of_server.exporter);
    assert_eq!(of_server.sni.as_deref(), Some(MONTAGUE));
    let (theirs, ours) = (of_client.peer.unwrap(), of_server.peer.unwrap());
    assert!(theirs.proves(MONTAGUE) && !theirs.proves(CAPULET), "{theirs:?}");
    assert!(ours.proves(CAPULET) && !ours.proves(MONTAGUE), "{ours:?}");
}

#[test]
fn tls12_does_the_same() {
    let world = World::new();
    let mut client = TlsConnector::new(Some(world.issued(CAPULET)), world.verifier()).unwrap();
    client.only(&rustls::version::TLS12, world.verifier());
    let server = TlsAcceptor::for_servers(world.issued(MONTAGUE).resolver(), &[], world.verifier()).unwrap();
    let (of_client, of_server) = meet(&client, &server, false).unwrap();
    assert!(!of_client.tls13 && of_client.alpn.is_none());
    assert!(of_client.peer.unwrap().proves(MONTAGUE) && of_server.peer.unwrap().proves(CAPULET));
}

#[test]
fn a_certificate_that_proves_nothing_ends_no_handshake() {
    let world = World::new();
    let self_signed = world.store(MONTAGUE, &params(MONTAGUE), None);
    assert_eq!(trust_in(&world, self_signed), Trust::SelfSigned);
    let mut ca = params(MONTAGUE);
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert_eq!(trust_in(&world, world.store(MONTAGUE, &ca, None)), Trust::SelfSigned, "as openssl makes them");
    let stranger = authority("Padua");
    let unknown = world.store(MONTAGUE, &params(MONTAGUE), Some(&stranger));
    assert_eq!(trust_in(&world, unknown), Trust::UnknownIssuer);
    let namesake = authority("Verona");
    let unknown = world.store(MONTAGUE, &params(MONTAGUE), Some(&namesake));
    assert_eq!(trust_in(&world, unknown), Trust::UnknownIssuer, "another key under a known name");
    let mut old = params(MONTAGUE);
    old.not_after = date_time_ymd(2024, 2, 1);
    assert_eq!(trust_in(&world, world.store(MONTAGUE, &old, Some(&world.authority))), Trust::Expired);
    let mut new = params(MONTAGUE);
    new.not_before = date_time_ymd(2098, 1, 1);
    assert_eq!(trust_in(&world, world.store(MONTAGUE, &new, Some(&world.authority))), Trust::NotYetValid);
    let mut purpose = params(MONTAGUE);
    purpose.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::CodeSigning];
    let other = trust_in(&world, world.store(MONTAGUE, &purpose, Some(&world.authority)));
    assert!(matches!(other, Trust::Other(_)), "{other:?}");
}

#[test]
fn a_certificate_that_the_operator_has_named_is_believed_until_it_ends() {
    let world = World::new();
    for is_ca in [IsCa::NoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        let mut named = params(MONTAGUE);
        named.is_ca = is_ca;
        for (year, expected) in [(2099, Trust::Valid), (2025, Trust::Expired)] {
            named.not_after = date_time_ymd(year, 1, 1);
            let theirs = world.store(MONTAGUE, &named, None);
            let file = world.folder.join("of-montague.example/montague.example.crt");
            let (facts, _) = both(&world, world.issued(CAPULET), theirs, world.verifier_with(file));
            assert_eq!(facts.peer.unwrap().trust, expected);
        }
    }
}

#[test]
fn without_authorities_nobody_is_believed() {
    let world = World::new();
    let verifier = world.verifier_with(world.folder.join("missing"));
    let (facts, _) = both(&world, world.issued(CAPULET), world.issued(MONTAGUE), verifier);
    assert_eq!(facts.peer.unwrap().trust, Trust::UnknownIssuer);
}

#[test]
fn a_server_without_certificate_is_let_in() {
    let world = World::new();
    let server = TlsAcceptor::for_servers(world.issued(MONTAGUE).resolver(), &[], world.verifier()).unwrap();
    let client = TlsConnector::new(None, world.verifier()).unwrap();
    let (_, of_server) = meet(&client, &server, false).unwrap();
    assert_eq!(of_server.peer, None);
}

#[test]
fn names_of_every_kind_are_read() {
    let world = World::new();
    let mut many = params(MONTAGUE);
    let other = |last: u8, text: &str| SanType::OtherName((vec![1, 3, 6, 1, 5, 5, 7, 8, u64::from(last)], text.into()));
    many.subject_alt_names.push(other(5, "B\u{fc}cher.example"));
    many.subject_alt_names.push(other(7, "_xmpp-server.Verona.Example"));
    many.subject_alt_names.extend((0..300).map(|n| SanType::DnsName(format!("h{n}.example").try_into().unwrap())));
    let theirs = world.store(MONTAGUE, &many, Some(&world.authority));
    let (facts, _) = both(&world, world.issued(CAPULET), theirs, world.verifier());
    let peer = facts.peer.unwrap();
    for domain in [MONTAGUE, "b\u{fc}cher.example", "verona.example", "h252.example"] {
        assert!(peer.proves(domain), "{domain}");
    }
    assert!(!peer.proves("h253.example"), "more names than are read");
}

#[test]
fn what_the_operator_has_is_counted() {
    let world = World::new();
    let count = |name: &str| Authorities::new(Some(world.folder.join(name))).count();
    assert_eq!(count("authorities.pem"), Ok(3));
    fs::write(world.folder.join("empty.pem"), "nothing").unwrap();
    assert!(count("empty.pem").unwrap_err().ends_with("there is no certificate in it; put some there in PEM form"));
    assert!(count("missing").unwrap_err().contains("cannot read the file"));
}

#[test]
fn a_domain_that_is_no_name_is_refused_before_anything_is_sent() {
    let world = World::new();
    let client = TlsConnector::new(Some(world.issued(CAPULET)), world.verifier()).unwrap();
    let mut out = Vec::new();
    assert!(matches!(TlsConn::connect(&client, CAPULET, "a b", true, &mut out), Err(TlsError::Name)));
    assert!(TlsConn::connect(&client, CAPULET, "192.0.2.1", true, &mut out).is_ok());
}

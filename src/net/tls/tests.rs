//! Our side against rustls' buffered client, in memory.

use std::io::{Read, Write};

use proptest::prelude::*;
use ring::aead;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use super::*;
use rustls::version::{TLS12, TLS13};

const NAME: &str = "capulet.example";

/// One self-signed certificate for all tests.
#[derive(Debug)]
struct One {
    key: Arc<CertifiedKey>,
}

impl ResolvesServerCert for One {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        note_hello(hello.server_name(), Some(Arc::from(&b"end point"[..])));
        Some(self.key.clone())
    }
}

struct World {
    acceptor: TlsAcceptor,
    client: ClientConfig,
}

impl World {
    fn new(versions: &[&'static SupportedProtocolVersion], alpn: &[&[u8]]) -> Self {
        let made = rcgen::generate_simple_self_signed(vec![NAME.to_string()]).unwrap();
        let provider = rustls::crypto::ring::default_provider();
        let der = made.cert.der().clone();
        let private = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let key = Arc::new(CertifiedKey::from_der(vec![der.clone()], private, &provider).unwrap());
        let mut roots = RootCertStore::empty();
        roots.add(der).unwrap();
        let client = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { acceptor: TlsAcceptor::new(Arc::new(One { key }), alpn).unwrap(), client }
    }

    fn client(&self) -> ClientConnection {
        ClientConnection::new(Arc::new(self.client.clone()), ServerName::try_from(NAME).unwrap()).unwrap()
    }

    fn server(&self) -> TlsConn {
        TlsConn::new(&self.acceptor).unwrap()
    }

    /// Both sides with the handshake done.
    fn pair(&self) -> (ClientConnection, TlsConn) {
        let (mut client, mut server) = (self.client(), self.server());
        let plain = shake(&mut client, &mut server, usize::MAX);
        assert!(plain.is_empty());
        (client, server)
    }
}

/// What the client has to send.
fn outgoing(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Gives bytes of the server to the client; what it decrypts from them.
fn deliver(client: &mut ClientConnection, mut bytes: &[u8]) -> Result<Vec<u8>, rustls::Error> {
    let mut plain = Vec::new();
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).unwrap();
        client.process_new_packets()?;
        let _ = client.reader().read_to_end(&mut plain);
    }
    Ok(plain)
}

/// Runs the handshake to its end, each flight of the client cut in two at `cut`. Gives the plaintext that the server
/// got with it.
fn shake(client: &mut ClientConnection, server: &mut TlsConn, cut: usize) -> Vec<u8> {
    let (mut plain, mut finished) = (Vec::new(), 0);
    for _ in 0..10 {
        let mut flight = outgoing(client);
        let mut out = Vec::new();
        let at = cut.min(flight.len());
        let (head, tail) = flight.split_at_mut(at);
        for part in [head, tail] {
            if server.receive(part, &mut plain, &mut out).unwrap() == Progress::Finished {
                finished += 1;
            }
        }
        deliver(client, &out).unwrap();
        if finished == 1 && !client.is_handshaking() && !client.wants_write() {
            assert_eq!(server.held_bytes(), 0);
            return plain;
        }
    }
    panic!("the handshake does not end");
}

fn receive(server: &mut TlsConn, mut bytes: Vec<u8>) -> (Result<Progress, TlsError>, Vec<u8>, Vec<u8>) {
    let (mut plain, mut out) = (Vec::new(), Vec::new());
    let result = server.receive(&mut bytes, &mut plain, &mut out);
    (result, plain, out)
}

#[test]
fn both_versions_carry_data_both_ways_and_hold_nothing_between() {
    for version in [&TLS12, &TLS13] {
        let (mut client, mut server) = World::new(&[version], &[]).pair();
        client.writer().write_all(b"<presence/>").unwrap();
        let (progress, plain, out) = receive(&mut server, outgoing(&mut client));
        assert_eq!((progress.unwrap(), &plain[..], &out[..]), (Progress::Open, &b"<presence/>"[..], &b""[..]));
        assert_eq!(server.held_bytes(), 0);
        let mut out = Vec::new();
        server.send(b"<message/>", &mut out).unwrap();
        server.send(b"", &mut out).unwrap();
        server.send(b"<iq/>", &mut out).unwrap();
        assert_eq!(deliver(&mut client, &out).unwrap(), b"<message/><iq/>");
        assert_eq!(server.held_bytes(), 0);
    }
}

#[test]
fn tls_exporter_is_what_the_client_computes() {
    let suites = [
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::TLS13_AES_256_GCM_SHA384,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    for suite in suites {
        let mut world = World::new(&[&TLS13], &[]);
        let mut provider = rustls::crypto::ring::default_provider();
        provider.cipher_suites.retain(|s| s.suite() == suite);
        let roots = RootCertStore::empty();
        let mut client = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        mem::swap(&mut world.client, &mut client);
        world.client.dangerous().set_certificate_verifier(Arc::new(Anyone));
        let (client, mut server) = world.pair();
        assert_eq!(client.negotiated_cipher_suite().unwrap().suite(), suite);
        let expected = client.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b"")).unwrap();
        assert_eq!(server.facts().exporter, Some(expected));
    }
}

#[test]
fn interleaved_handshakes_keep_their_own_facts() {
    let world = World::new(&[&TLS13], &[]);
    let (mut a, mut b) = ((world.client(), world.server()), (world.client(), world.server()));
    for _ in 0..3 {
        for (client, server) in [&mut a, &mut b] {
            let (_, _, out) = receive(server, outgoing(client));
            deliver(client, &out).unwrap();
        }
    }
    let export = |c: &ClientConnection| c.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b""));
    let (of_a, of_b) = (export(&a.0).unwrap(), export(&b.0).unwrap());
    assert_ne!(of_a, of_b);
    assert_eq!((a.1.facts().exporter, b.1.facts().exporter), (Some(of_a), Some(of_b)));
}

#[test]
fn facts_tell_version_name_and_bindings() {
    let (_, mut server) = World::new(&[&TLS12], &[]).pair();
    let facts = server.facts();
    let end_point = Some(b"end point".to_vec());
    let sni = Some(NAME.to_string());
    assert_eq!(
        facts,
        TlsFacts {
            tls13: false,
            exporter: None,
            end_point: end_point.clone(),
            sni: sni.clone(),
            ..TlsFacts::default()
        }
    );
    let mut world = World::new(&[&TLS13], &[b"xmpp-client"]);
    world.client.alpn_protocols = vec![b"xmpp-client".to_vec()];
    let facts = world.pair().1.facts();
    assert!(facts.tls13 && facts.exporter.is_some());
    assert_eq!((facts.end_point, facts.sni, facts.alpn), (end_point, sni, Some(b"xmpp-client".to_vec())));
}

#[test]
fn alpn_may_be_absent_but_not_wrong() {
    let mut world = World::new(&[&TLS13], &[b"xmpp-client"]);
    assert_eq!(world.pair().1.facts().alpn, None);
    world.client.alpn_protocols = vec![b"http/1.1".to_vec()];
    let (mut client, mut server) = (world.client(), world.server());
    let (result, _, out) = receive(&mut server, outgoing(&mut client));
    assert!(matches!(result, Err(TlsError::Protocol(rustls::Error::NoApplicationProtocol))));
    let alert = deliver(&mut client, &out).unwrap_err();
    assert_eq!(alert, rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol));
    let mut world = World::new(&[&TLS13], &[]);
    world.client.alpn_protocols = vec![b"xmpp-client".to_vec()];
    assert_eq!(world.pair().1.facts().alpn, None);
}

#[test]
fn a_flight_may_be_cut_anywhere() {
    for version in [&TLS12, &TLS13] {
        let world = World::new(&[version], &[]);
        for cut in 0..outgoing(&mut world.client()).len() {
            let (mut client, mut server) = (world.client(), world.server());
            shake(&mut client, &mut server, cut);
            client.writer().write_all(b"<presence/>").unwrap();
            let mut record = outgoing(&mut client);
            let (mut plain, mut out) = (Vec::new(), Vec::new());
            let at = cut.min(record.len());
            let (head, tail) = record.split_at_mut(at);
            server.receive(head, &mut plain, &mut out).unwrap();
            // Sending must not disturb the record that is half here.
            server.send(b"<iq/>", &mut out).unwrap();
            server.receive(tail, &mut plain, &mut out).unwrap();
            assert_eq!((&plain[..], server.held_bytes()), (&b"<presence/>"[..], 0), "{cut}");
            assert_eq!(deliver(&mut client, &out).unwrap(), b"<iq/>");
        }
    }
}

#[test]
fn handshake_messages_may_be_spread_over_records_and_come_byte_by_byte() {
    for version in [&TLS12, &TLS13] {
        let mut world = World::new(&[version], &[]);
        world.client.max_fragment_size = Some(32);
        let (mut client, mut server) = (world.client(), world.server());
        let mut states = Vec::new();
        for _ in 0..4 {
            let mut out = Vec::new();
            for byte in outgoing(&mut client) {
                states.push(server.receive(&mut [byte], &mut Vec::new(), &mut out).unwrap());
                assert!(server.held_bytes() <= 2 * RECORD_BYTES_MAX);
            }
            deliver(&mut client, &out).unwrap();
        }
        assert_eq!(states.iter().filter(|s| **s == Progress::Finished).count(), 1);
        assert_eq!((states.last(), server.held_bytes()), (Some(&Progress::Finished), 0));
    }
}

#[test]
fn many_records_at_once_and_data_longer_than_a_record() {
    for version in [&TLS12, &TLS13] {
        let (mut client, mut server) = World::new(&[version], &[]).pair();
        client.set_buffer_limit(None);
        let text: Vec<u8> = (0..100_000_u32).map(|i| i as u8).collect();
        client.writer().write_all(&text).unwrap();
        let mut bytes = outgoing(&mut client);
        let last = bytes.split_off(bytes.len() - 1);
        let (progress, mut plain, _) = receive(&mut server, bytes);
        assert_eq!(progress.unwrap(), Progress::Open);
        assert!(server.held_bytes() > 0 && server.held_bytes() <= RECORD_BYTES_MAX);
        let (_, rest, _) = receive(&mut server, last);
        plain.extend(rest);
        assert!(plain == text && server.held_bytes() == 0);
        let mut out = Vec::new();
        server.send(&text, &mut out).unwrap();
        assert!(deliver(&mut client, &out).unwrap() == text);
    }
}

/// However reads cut records, no more than one is kept, and nothing is lost.
#[test]
fn records_may_be_cut_in_any_way_and_one_is_kept_at_most() {
    for version in [&TLS12, &TLS13] {
        for step in [1, 2, 4, 7, 1000, 16_400, 16_405, 18_432, 40_000] {
            let (mut client, mut server) = World::new(&[version], &[]).pair();
            client.set_buffer_limit(None);
            let text: Vec<u8> = (0..70_000_u32).map(|i| (i / 7) as u8).collect();
            let mut plain = Vec::new();
            for part in [&text[..30_000], &text[30_000..30_003], &text[30_003..]] {
                client.writer().write_all(part).unwrap();
            }
            for piece in outgoing(&mut client).chunks_mut(step) {
                server.receive(piece, &mut plain, &mut Vec::new()).unwrap();
                assert!(server.held_bytes() <= RECORD_BYTES_MAX, "{step}: {}", server.held_bytes());
            }
            assert!(plain == text && server.held_bytes() == 0, "{step}");
        }
    }
}

#[test]
fn what_follows_the_handshake_in_the_same_bytes_is_not_lost() {
    let world = World::new(&[&TLS13], &[]);
    let (mut client, mut server) = (world.client(), world.server());
    let (_, _, out) = receive(&mut server, outgoing(&mut client));
    deliver(&mut client, &out).unwrap();
    client.writer().write_all(b"<stream:stream>").unwrap();
    client.send_close_notify();
    let (progress, plain, _) = receive(&mut server, outgoing(&mut client));
    assert_eq!((progress.unwrap(), &plain[..]), (Progress::Finished, &b"<stream:stream>"[..]));
    assert!(server.facts().exporter.is_some());
    assert_eq!(receive(&mut server, Vec::new()).0.unwrap(), Progress::Closed);
}

#[test]
fn close_notify_ends_what_comes_and_not_what_goes() {
    for version in [&TLS12, &TLS13] {
        let (mut client, mut server) = World::new(&[version], &[]).pair();
        client.writer().write_all(b"</stream:stream>").unwrap();
        client.send_close_notify();
        let mut bytes = outgoing(&mut client);
        bytes.extend(b"this is ignored");
        let (progress, plain, _) = receive(&mut server, bytes);
        assert_eq!((progress.unwrap(), &plain[..]), (Progress::Closed, &b"</stream:stream>"[..]));
        assert_eq!(server.held_bytes(), 0);
        let mut out = Vec::new();
        server.send(b"</stream:stream>", &mut out).unwrap();
        server.close(&mut out);
        assert!(server.send(b"x", &mut out).is_err());
        let length = out.len();
        server.close(&mut out);
        assert_eq!(out.len(), length);
        assert_eq!(deliver(&mut client, &out).unwrap(), b"</stream:stream>");
        assert!(client.process_new_packets().unwrap().peer_has_closed());
    }
}

#[test]
fn nothing_is_read_after_our_close() {
    let (mut client, mut server) = World::new(&[&TLS13], &[]).pair();
    let mut out = Vec::new();
    server.close(&mut out);
    client.writer().write_all(b"<presence/>").unwrap();
    let (progress, plain, out) = receive(&mut server, outgoing(&mut client));
    assert_eq!((progress.unwrap(), plain.len(), out.len()), (Progress::Closed, 0, 0));
    assert_eq!(receive(&mut server, b"garbage".to_vec()).0.unwrap(), Progress::Closed);
}

/// RUSTSEC-2024-0336: such a connection once spun for ever.
#[test]
fn close_notify_within_the_handshake_ends_it() {
    let close_notify = [21, 3, 3, 0, 2, 1, 0];
    for version in [&TLS12, &TLS13] {
        for flights in 0..2 {
            let world = World::new(&[version], &[]);
            let (mut client, mut server) = (world.client(), world.server());
            for _ in 0..flights {
                receive(&mut server, outgoing(&mut client)).0.unwrap();
            }
            let error = (0..20).find_map(|_| receive(&mut server, close_notify.to_vec()).0.err());
            assert!(error.is_some(), "{version:?} after {flights}");
            assert_eq!(receive(&mut server, outgoing(&mut client)).0.unwrap(), Progress::Closed);
            let mut out = Vec::new();
            assert!(server.send(b"x", &mut out).is_err());
            server.close(&mut out);
            assert!(out.is_empty());
        }
    }
}

#[test]
fn closing_within_the_handshake_is_silent() {
    let world = World::new(&[&TLS13], &[]);
    let (mut client, mut server) = (world.client(), world.server());
    receive(&mut server, outgoing(&mut client)).0.unwrap();
    let mut out = Vec::new();
    server.close(&mut out);
    assert!(out.is_empty());
}

#[test]
fn what_is_not_tls_gets_an_alert_and_an_error() {
    let world = World::new(&[&TLS13], &[]);
    let texts = [
        &b"<?xml version='1.0'?><stream:stream xmlns='jabber:client'>"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        &[22, 3, 1, 0xff, 0xff, 1],
        &[22, 3, 1, 0x48, 0x01, 1],
        &[23, 3, 3, 0, 1, 0],
        &[0; 64],
    ];
    for text in texts {
        let mut server = world.server();
        let (result, plain, out) = receive(&mut server, text.to_vec());
        assert!(result.is_err() && plain.is_empty(), "{text:?}");
        assert_eq!((out.first(), server.held_bytes()), (Some(&21), 0), "{text:?}");
    }
}

#[test]
fn a_damaged_record_gets_an_alert_and_an_error() {
    for version in [&TLS12, &TLS13] {
        let (mut client, mut server) = World::new(&[version], &[]).pair();
        client.writer().write_all(b"<presence/>").unwrap();
        let good = outgoing(&mut client);
        client.writer().write_all(b"<message/>").unwrap();
        let mut bad = outgoing(&mut client);
        *bad.last_mut().unwrap() ^= 1;
        let (result, plain, out) = receive(&mut server, [good, bad].concat());
        assert!(matches!(result, Err(TlsError::Protocol(rustls::Error::DecryptError))));
        assert_eq!(plain, b"<presence/>");
        let alert = deliver(&mut client, &out).unwrap_err();
        assert_eq!(alert, rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac));
    }
}

#[test]
fn an_endless_handshake_message_is_refused_within_one_record() {
    let mut server = World::new(&[&TLS13], &[]).server();
    // A ClientHello that promises 60 000 bytes, in records of 1000.
    let mut record = vec![22, 3, 1, 3, 232, 1, 0, 0xea, 0x60];
    record.resize(1005, 0);
    let mut records = 0;
    while server.receive(&mut record.clone(), &mut Vec::new(), &mut Vec::new()).is_ok_and(|p| p != Progress::Closed) {
        records += 1;
        assert!(server.held_bytes() <= 2 * RECORD_BYTES_MAX);
    }
    assert_eq!((records, server.held_bytes()), (18, 0));
}

#[test]
fn key_updates_are_answered_in_front_of_the_next_data() {
    let (mut client, mut server) = World::new(&[&TLS13], &[]).pair();
    for _ in 0..3 {
        client.refresh_traffic_keys().unwrap();
        client.writer().write_all(b"<presence/>").unwrap();
        let (progress, plain, mut out) = receive(&mut server, outgoing(&mut client));
        assert_eq!((progress.unwrap(), &plain[..]), (Progress::Open, &b"<presence/>"[..]));
        server.send(b"<iq/>", &mut out).unwrap();
        assert_eq!(deliver(&mut client, &out).unwrap(), b"<iq/>");
        assert_eq!(server.held_bytes(), 0);
    }
}

/// rustls remembers offsets into what is kept of an incomplete handshake message.
#[test]
fn half_a_handshake_message_does_not_disturb_what_is_sent() {
    let mut world = World::new(&[&TLS13], &[]);
    world.client.enable_secret_extraction = true;
    let (client, mut server) = world.pair();
    let mut secrets = client.dangerous_extract_secrets().unwrap().tx;
    // KeyUpdate with update_not_requested (RFC 8446 section 4.6.3).
    let (head, tail) = [24, 0, 0, 1, 0].split_at(2);
    let head = record(&mut secrets, head);
    let (progress, _, _) = receive(&mut server, head);
    assert_eq!(progress.unwrap(), Progress::Open);
    assert!(server.held_bytes() > 0);
    let mut out = Vec::new();
    server.send(b"<iq/>", &mut out).unwrap();
    assert!(!out.is_empty());
    let tail = record(&mut secrets, tail);
    let (progress, _, _) = receive(&mut server, tail);
    assert_eq!((progress.unwrap(), server.held_bytes()), (Progress::Open, 0));
}

/// A record of TLS 1.3 that carries a piece of a handshake message (RFC 8446 section 5.2).
fn record((sequence, secrets): &mut (u64, rustls::ConnectionTrafficSecrets), handshake: &[u8]) -> Vec<u8> {
    let rustls::ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else { panic!("another cipher suite") };
    let key = aead::LessSafeKey::new(aead::UnboundKey::new(&aead::AES_256_GCM, key.as_ref()).unwrap());
    let mut nonce: [u8; 12] = iv.as_ref().try_into().unwrap();
    for (byte, mask) in nonce[4..].iter_mut().zip(sequence.to_be_bytes()) {
        *byte ^= mask;
    }
    *sequence += 1;
    let mut body = [handshake, &[22]].concat();
    let header = [23, 3, 3, 0, (body.len() + 16) as u8];
    let nonce = aead::Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce, aead::Aad::from(header), &mut body).unwrap();
    [&header[..], &body].concat()
}

#[test]
fn the_connection_stays_small() {
    let bytes = size_of::<TlsConn>();
    assert!(bytes <= 1_152, "{bytes}");
}

proptest! {
    #[test]
    fn random_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 20..24_u8) {
        thread_local! { static WORLD: World = World::new(&[&TLS13], &[]); }
        WORLD.with(|world| {
            let _ = receive(&mut world.server(), bytes.clone());
            let header = [kind, 3, 3, 0, bytes.len() as u8];
            let mut server = world.server();
            let _ = receive(&mut server, [&header[..], &bytes].concat());
            let _ = receive(&mut server, bytes);
            server.close(&mut Vec::new());
        });
    }

    #[test]
    fn a_damaged_client_hello_does_no_harm(at in 0..400_usize, byte in any::<u8>(), cut in 0..400_usize) {
        thread_local! { static WORLD: World = World::new(&[&TLS13, &TLS12], &[]); }
        WORLD.with(|world| {
            let mut hello = outgoing(&mut world.client());
            let at = at % hello.len();
            hello[at] = byte;
            hello.truncate(hello.len().max(cut));
            let mut server = world.server();
            let _ = receive(&mut server, hello.clone());
            let _ = receive(&mut server, hello);
        });
    }
}

/// Trusts every certificate, for clients whose one cipher suite must not be narrowed to the certificate's.
#[derive(Debug)]
struct Anyone;

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &rustls::pki_types::CertificateDer<'_>,
        _intermediates: &[rustls::pki_types::CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &rustls::pki_types::CertificateDer<'_>,
        _dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &rustls::pki_types::CertificateDer<'_>,
        _dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

#[cfg(feature = "acme")]
#[test]
fn proofs_for_an_authority_are_on_every_port_where_tls_comes_first() {
    let mut world = World::new(&[&TLS13], &[ALPN_CLIENT]);
    world.client.alpn_protocols = vec![ALPN_ACME.to_vec()];
    let (_, mut server) = world.pair();
    assert_eq!(server.facts().alpn.as_deref(), Some(ALPN_ACME));
    // Where it comes later, nobody is asked what he speaks.
    let mut world = World::new(&[&TLS13], &[]);
    world.client.alpn_protocols = vec![ALPN_ACME.to_vec()];
    let (_, mut server) = world.pair();
    assert_eq!(server.facts().alpn, None);
}

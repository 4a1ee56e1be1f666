//! A self-signed certificate (RFC 5280) for a host that has none, and a key for it.

use std::net::IpAddr;

use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::pki_types::alg_id;
use rustls::sign::{Signer, SigningKey};
use rustls::{Error, SignatureScheme};
use zeroize::Zeroizing;

use super::der::{BITS, GENERALIZED_TIME, IA5, INTEGER, OID, SEQUENCE, SET, UTC_TIME, UTF8, extension, value};
use super::machine::CLOCK_UNSET_BEFORE_MS;
use super::x509::{OID_COMMON_NAME, OID_SAN, OID_SRV_NAME, OID_XMPP_ADDR};
use crate::clock;

/// Validity of the certificate. Clients pin it, so its end is an outage; nothing is gained by an early one.
const YEARS: i32 = 10;

const OID_BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const OID_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const OID_EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const OID_SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];

/// A new key for ECDSA with P-256, in PKCS #8.
///
/// # Errors
/// When the system has no random bytes.
pub(super) fn generate_key() -> Result<Zeroizing<Vec<u8>>, Error> {
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
    key.map(|document| Zeroizing::new(document.as_ref().to_vec())).map_err(|_| Error::FailedToGetRandomBytes)
}

/// A certificate in DER for `host` (`name` in A-labels), signed with its own key. It names the host in each way that
/// RFC 6120 section 13.7.1.2.1 lets an XMPP client look for: DNS-ID or iPAddress, SRV-ID, xmppAddr.
///
/// # Errors
/// When this kind of key signs no certificates, or the system has no random bytes.
pub(super) fn certificate(key: &dyn SigningKey, host: &str, name: &str, wall_ms: i64) -> Result<Vec<u8>, Error> {
    signed(key, name, wall_ms, &extensions(host, name))
}

fn unfit() -> Error {
    Error::General("it is of an unknown kind".to_owned())
}

/// What signs with a key, and its AlgorithmIdentifier (RFC 5280 section 4.1.1.2) in DER.
///
/// # Errors
/// When this kind of key signs no certificates.
pub(super) fn signer_of(key: &dyn SigningKey) -> Result<(Box<dyn Signer>, Vec<u8>), Error> {
    let schemes = [
        SignatureScheme::ECDSA_NISTP256_SHA256,
        SignatureScheme::ECDSA_NISTP384_SHA384,
        SignatureScheme::ED25519,
        SignatureScheme::RSA_PKCS1_SHA256,
    ];
    let signer = key.choose_scheme(&schemes).ok_or_else(unfit)?;
    let algorithm = match signer.scheme() {
        SignatureScheme::ECDSA_NISTP256_SHA256 => alg_id::ECDSA_SHA256,
        SignatureScheme::ECDSA_NISTP384_SHA384 => alg_id::ECDSA_SHA384,
        SignatureScheme::ED25519 => alg_id::ED25519,
        SignatureScheme::RSA_PKCS1_SHA256 => alg_id::RSA_PKCS1_SHA256,
        _ => return Err(unfit()),
    };
    Ok((signer, value(SEQUENCE, &[algorithm.as_ref()])))
}

/// A certificate in DER with these extensions, each in DER, for `name`, signed with its own key.
///
/// # Errors
/// As [`certificate`].
pub(super) fn signed(key: &dyn SigningKey, name: &str, wall_ms: i64, extensions: &[u8]) -> Result<Vec<u8>, Error> {
    let (signer, algorithm) = signer_of(key)?;
    let public_key = key.public_key().ok_or_else(unfit)?;
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| Error::FailedToGetRandomBytes)?;
    // Positive, and in its shortest form.
    serial[0] = serial[0] & 0x7f | 0x40;
    // RFC 5280 appendix A.1, ub-common-name.
    let common_name = if name.len() <= 64 { name } else { "couplet" };
    let common_name = [value(OID, &[OID_COMMON_NAME]), value(UTF8, &[common_name.as_bytes()])].concat();
    let distinguished_name = value(SEQUENCE, &[&value(SET, &[&value(SEQUENCE, &[&common_name])])]);
    let to_be_signed = value(
        SEQUENCE,
        &[
            &value(0xa0, &[&value(INTEGER, &[&[2]])]), // version 3
            &value(INTEGER, &[&serial]),
            &algorithm,
            &distinguished_name,
            &validity(wall_ms),
            &distinguished_name,
            public_key.as_ref(),
            &value(0xa3, &[&value(SEQUENCE, &[extensions])]),
        ],
    );
    let signature = signer.sign(&to_be_signed)?;
    Ok(value(SEQUENCE, &[&to_be_signed, &algorithm, &value(BITS, &[&[0], &signature])]))
}

/// From a day ago, for clients whose clock is behind ours; years of four digits, as X.509 has them.
fn validity(wall_ms: i64) -> Vec<u8> {
    let (year, month, day) = date(wall_ms.max(CLOCK_UNSET_BEFORE_MS) - 86_400_000).unwrap_or((2026, 1, 1));
    value(SEQUENCE, &[&midnight(year, month, day), &midnight(year + YEARS, month, day.min(28))])
}

fn date(wall_ms: i64) -> Option<(i32, u8, u8)> {
    let text = clock::datetime(wall_ms);
    let mut parts = text.split('T').next()?.split('-');
    let year: i32 = parts.next()?.parse().ok()?;
    let month = parts.next()?.parse().ok()?;
    let day = parts.next()?.parse().ok()?;
    (year <= 9999 - YEARS).then_some((year, month, day))
}

/// The form that RFC 5280 section 4.1.2.5 has for the year.
fn midnight(year: i32, month: u8, day: u8) -> Vec<u8> {
    let (tag, century) = if year < 2050 { (UTC_TIME, 2) } else { (GENERALIZED_TIME, 0) };
    let text = format!("{year:04}{month:02}{day:02}000000Z");
    value(tag, &[text.as_bytes().get(century..).unwrap_or_default()])
}

fn extensions(host: &str, name: &str) -> Vec<u8> {
    let server = match name.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => vec![value(0x87, &[&address.octets()])],
        Ok(IpAddr::V6(address)) => vec![value(0x87, &[&address.octets()])],
        Err(_) => {
            let service = |prefix: &str| other_name(OID_SRV_NAME, IA5, &[prefix, name].concat());
            vec![value(0x82, &[name.as_bytes()]), service("_xmpp-client."), service("_xmpp-server.")]
        }
    };
    let names = [server.concat(), other_name(OID_XMPP_ADDR, UTF8, host)].concat();
    [
        extension(OID_SAN, false, &value(SEQUENCE, &[&names])),
        extension(OID_BASIC_CONSTRAINTS, true, &value(SEQUENCE, &[])),
        extension(OID_KEY_USAGE, true, &value(BITS, &[&[7, 0x80]])), // digitalSignature, the first of 8 - 7 bits
        extension(OID_EXTENDED_KEY_USAGE, false, &value(SEQUENCE, &[&value(OID, &[OID_SERVER_AUTH])])),
    ]
    .concat()
}

/// An otherName of GeneralName (RFC 5280 section 4.2.1.6).
fn other_name(oid: &[u8], tag: u8, text: &str) -> Vec<u8> {
    value(0xa0, &[&value(OID, &[oid]), &value(0xa0, &[&value(tag, &[text.as_bytes()])])])
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
    use rustls::crypto::ring::sign::any_supported_type;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};

    use super::super::x509::CertInfo;
    use super::*;

    /// 2026-11-22T12:00:00Z.
    const NOW_MS: i64 = 1_795_348_800_000;

    fn made(pkcs8: &[u8], host: &str, name: &str, wall_ms: i64) -> (CertInfo, Vec<u8>) {
        let key = any_supported_type(&PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8))).unwrap();
        let der = certificate(&*key, host, name, wall_ms).unwrap();
        (CertInfo::parse(&der, PathBuf::new()).unwrap(), der)
    }

    #[test]
    fn each_kind_of_key_signs_a_certificate_that_webpki_takes_as_its_own_root() {
        let mut keys = vec![generate_key().unwrap().to_vec()];
        for kind in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
            keys.push(KeyPair::generate_for(kind).unwrap().serialize_der());
        }
        for pkcs8 in keys {
            let (_, der) = made(&pkcs8, "capulet.example", "capulet.example", NOW_MS);
            let der = CertificateDer::from(der);
            let mut roots = rustls::RootCertStore::empty();
            roots.add(der.clone()).unwrap();
            let provider = rustls::crypto::ring::default_provider();
            rustls::client::verify_server_cert_signed_by_trust_anchor(
                &rustls::server::ParsedCertificate::try_from(&der).unwrap(),
                &roots,
                &[],
                UnixTime::since_unix_epoch(std::time::Duration::from_millis(NOW_MS as u64)),
                provider.signature_verification_algorithms.all,
            )
            .unwrap();
        }
    }

    #[test]
    fn it_names_the_host_in_every_way() {
        let key = generate_key().unwrap();
        let (info, der) = made(&key, "bücher.example", "xn--bcher-kva.example", NOW_MS);
        assert_eq!(info.names, ["xn--bcher-kva.example"]);
        assert!(info.self_signed);
        for part in ["bücher.example", "_xmpp-client.xn--bcher-kva.example", "_xmpp-server.xn--bcher-kva.example"] {
            assert!(memchr::memmem::find(&der, part.as_bytes()).is_some(), "{part}");
        }
        let (info, der) = made(&key, "[2001:db8::1]", "2001:db8::1", NOW_MS);
        assert_eq!(info.names, ["2001:db8::1"]);
        assert!(memchr::memmem::find(&der, b"_xmpp-client").is_none());
        assert_eq!(made(&key, "192.0.2.1", "192.0.2.1", NOW_MS).0.names, ["192.0.2.1"]);
        let long = [["a"; 100].concat(), ["b"; 50].concat()].join(".");
        assert_eq!(made(&key, &long, &long, NOW_MS).0.names, [long]);
    }

    #[test]
    fn it_is_valid_for_ten_years_in_both_forms_of_time() {
        let key = generate_key().unwrap();
        let validity = |wall_ms| {
            let (info, _) = made(&key, "a.example", "a.example", wall_ms);
            [info.not_before_unix_s, info.not_after_unix_s].map(|s| clock::datetime(s * 1000))
        };
        assert_eq!(validity(NOW_MS), ["2026-11-21T00:00:00Z", "2036-11-21T00:00:00Z"]);
        assert_eq!(validity(0), ["2025-12-31T00:00:00Z", "2035-12-28T00:00:00Z"]);
        let in_2045 = 2_367_964_800_000;
        assert_eq!(validity(in_2045), ["2045-01-13T00:00:00Z", "2055-01-13T00:00:00Z"]);
        let in_9998 = 253_340_000_000_000;
        assert_eq!(validity(in_9998), ["2026-01-01T00:00:00Z", "2036-01-01T00:00:00Z"]);
    }
}

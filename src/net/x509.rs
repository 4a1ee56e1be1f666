//! A look at a certificate (RFC 5280): names, validity, fingerprint, channel binding. It trusts nothing it reads and
//! verifies nothing: of the operator's own certificates others do that, and of other servers' [`super::tls`].

use std::net::IpAddr;
use std::path::PathBuf;

use ring::digest;

use super::der::{BOOLEAN, Der, OCTETS, OID, SEQUENCE};
use crate::jid::idna;
use crate::stream::PeerNames;

/// What a certificate says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertInfo {
    /// Where it was read from.
    pub path: PathBuf,
    /// Names that it is valid for, in lower case, in its order, each once: DNS names (with `*.` wildcards), IP
    /// addresses, and the domains of xmppAddr and SRVName (RFC 6120 section 13.7.1.2).
    pub names: Vec<String>,
    /// First second of validity, since 1970-01-01T00:00:00Z.
    pub not_before_unix_s: i64,
    /// Last second of validity, since 1970-01-01T00:00:00Z.
    pub not_after_unix_s: i64,
    /// True when it names itself as its issuer.
    pub self_signed: bool,
    /// The issuer's common name, or else its organization, as it is there; empty when it has neither.
    pub issuer: String,
    /// SHA-256 of the certificate, as clients show it.
    pub fingerprint_sha256: [u8; 32],
}

/// Names read of one certificate; more are left out.
const NAMES_MAX: usize = 1_000;

/// The same for a certificate of a stranger: public authorities put 100 into one.
const PEER_NAMES_MAX: usize = 256;

/// What is shown of an issuer's name.
const PARTY_CHARS_MAX: usize = 100;

pub(super) const OID_COMMON_NAME: &[u8] = &[0x55, 4, 3];
const OID_AUTHORITY_KEY: &[u8] = &[0x55, 0x1d, 0x23];
const OID_ORGANIZATION: &[u8] = &[0x55, 4, 10];
pub(super) const OID_SAN: &[u8] = &[0x55, 0x1d, 0x11];
pub(super) const OID_XMPP_ADDR: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 8, 5];
pub(super) const OID_SRV_NAME: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 8, 7];
/// 1.2.840.113549.1.1, the RSA signatures of PKCS #1 (RFC 8017).
const OID_PKCS1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1];
/// 1.2.840.10045.4, the ECDSA signatures (RFC 5758).
const OID_ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4];
/// 2.16.840.1.101.3.4.2, the SHA-2 hashes (RFC 5754).
const OID_SHA2: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2];
/// 1.3.14.3.2.26, SHA-1.
const OID_SHA1: &[u8] = &[0x2b, 0x0e, 3, 2, 0x1a];

impl CertInfo {
    /// Reads a certificate in DER. None when it is not one.
    pub fn parse(der: &[u8], path: PathBuf) -> Option<Self> {
        let fields = Fields::parse(der)?;
        let mut validity = Der(fields.validity);
        let not_before_unix_s = unix_seconds(validity.next()?)?;
        let not_after_unix_s = unix_seconds(validity.next()?)?;
        let names = fields.alternative_names.map(alternative_names).unwrap_or_default();
        let mut fingerprint_sha256 = [0; 32];
        fingerprint_sha256.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
        let self_signed = fields.issuer == fields.subject;
        let issuer = party(fields.issuer).unwrap_or_default();
        Some(Self { path, names, not_before_unix_s, not_after_unix_s, self_signed, issuer, fingerprint_sha256 })
    }

    /// True when one of its names is `host`, an A-label domain in lower case or an IP address.
    pub fn covers(&self, host: &str) -> bool {
        self.names.iter().any(|name| name_covers(name, host))
    }

    /// True at any moment between its first and its last second.
    pub fn valid_at(&self, unix_s: i64) -> bool {
        (self.not_before_unix_s..=self.not_after_unix_s).contains(&unix_s)
    }

    /// The fingerprint as clients and openssl show it: `AB:CD:...`.
    pub fn fingerprint(&self) -> String {
        let pairs: Vec<String> = self.fingerprint_sha256.iter().map(|b| format!("{b:02X}")).collect();
        pairs.join(":")
    }
}

/// Common name or organization of a distinguished name (RFC 5280 section 4.1.2.4).
fn party(name: &[u8]) -> Option<String> {
    let attribute = |kind: &[u8]| {
        let mut sets = Der(name);
        while let Some((_, set)) = sets.next() {
            let mut pair = Der(Der(set).expect(SEQUENCE)?);
            if pair.expect(OID)? == kind {
                let value = std::str::from_utf8(pair.next()?.1).ok()?;
                return Some(value.chars().filter(|c| !c.is_control()).take(PARTY_CHARS_MAX).collect::<String>());
            }
        }
        None
    };
    attribute(OID_COMMON_NAME).or_else(|| attribute(OID_ORGANIZATION))
}

/// Issuer and subject of a certificate, in DER without their heads.
pub(super) fn parties(der: &[u8]) -> Option<(&[u8], &[u8])> {
    Fields::parse(der).map(|fields| (fields.issuer, fields.subject))
}

/// The domains that a peer's certificate names, by kind of name; those that are no domains are left out.
pub(super) fn peer_names(der: &[u8]) -> PeerNames {
    let mut names = PeerNames::default();
    let mut list = Der(Fields::parse(der).and_then(|fields| fields.alternative_names).unwrap_or_default());
    for _ in 0..PEER_NAMES_MAX {
        match list.next() {
            Some((0x82, value)) => names.dns.extend(dns_name(value)),
            Some((0xa0, value)) => match other_kind(value) {
                Some((OID_XMPP_ADDR, name)) => names.xmpp.extend(idna::to_ascii(&name).filter(|name| is_short(name))),
                Some((OID_SRV_NAME, name)) => names.srv.extend(Some(name).filter(|name| is_short(name))),
                _ => {}
            },
            Some(_) => {}
            None => break,
        }
    }
    names
}

/// A dNSName is ASCII (RFC 5280 section 4.2.1.6).
fn dns_name(value: &[u8]) -> Option<String> {
    text(value).filter(|name| name.is_ascii() && is_short(name))
}

/// No domain is longer (RFC 1035 section 2.3.4); a service in front of it takes no more than this, either.
fn is_short(name: &str) -> bool {
    name.len() <= 275
}

/// The name of a certificate for its issuer (RFC 9773 section 4.1): key identifier and serial number. None for one that
/// does not say by which key it was signed.
#[cfg(feature = "acme")]
pub fn renewal_id(der: &[u8]) -> Option<String> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let fields = Fields::parse(der)?;
    // AuthorityKeyIdentifier (RFC 5280 section 4.2.1.1)
    let key = Der(Der(fields.authority_key?).expect(SEQUENCE)?).expect(0x80)?;
    Some(format!("{}.{}", URL_SAFE_NO_PAD.encode(key), URL_SAFE_NO_PAD.encode(fields.serial)))
}

/// The parts of a certificate that are looked at, each the content of its DER.
struct Fields<'a> {
    #[cfg_attr(not(feature = "acme"), allow(dead_code, reason = "names a certificate for its issuer"))]
    serial: &'a [u8],
    #[cfg_attr(not(feature = "acme"), allow(dead_code, reason = "the same"))]
    authority_key: Option<&'a [u8]>,
    issuer: &'a [u8],
    validity: &'a [u8],
    subject: &'a [u8],
    alternative_names: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn parse(der: &'a [u8]) -> Option<Self> {
        let mut tbs = Der(Der(Der(der).expect(SEQUENCE)?).expect(SEQUENCE)?);
        tbs.optional(0xa0); // version
        let serial = tbs.expect(0x02)?;
        tbs.expect(SEQUENCE)?; // signature
        let issuer = tbs.expect(SEQUENCE)?;
        let validity = tbs.expect(SEQUENCE)?;
        let subject = tbs.expect(SEQUENCE)?;
        tbs.expect(SEQUENCE)?; // public key
        tbs.optional(0x81);
        tbs.optional(0x82);
        let mut alternative_names = None;
        let mut authority_key = None;
        if let Some(extensions) = tbs.optional(0xa3) {
            let mut extensions = Der(Der(extensions).expect(SEQUENCE)?);
            while let Some((tag, extension)) = extensions.next() {
                let mut extension = Der(extension);
                if tag != SEQUENCE {
                    continue;
                }
                let kind = extension.expect(OID)?;
                extension.optional(BOOLEAN); // critical
                if kind == OID_SAN {
                    alternative_names = Some(Der(extension.expect(OCTETS)?).expect(SEQUENCE)?);
                } else if kind == OID_AUTHORITY_KEY {
                    authority_key = extension.expect(OCTETS);
                }
            }
        }
        Some(Self { serial, authority_key, issuer, validity, subject, alternative_names })
    }
}

/// A wildcard stands for one whole label, the first (RFC 6125 section 6.4.3).
fn name_covers(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        None => name == host,
        Some(parent) => host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
    }
}

/// tls-server-end-point (RFC 5929 section 4.1): the certificate hashed with the hash of its signature, SHA-256 in
/// place of MD5 and SHA-1. None where the signature uses no hash of its own (Ed25519) or one that we do not know: the
/// binding is undefined then.
pub fn server_end_point(der: &[u8]) -> Option<Vec<u8>> {
    let mut certificate = Der(Der(der).expect(SEQUENCE)?);
    certificate.expect(SEQUENCE)?; // tbsCertificate
    let mut algorithm = Der(certificate.expect(SEQUENCE)?);
    let oid = algorithm.expect(OID)?;
    let hash = match (oid.strip_prefix(OID_PKCS1), oid.strip_prefix(OID_ECDSA)) {
        (Some([4 | 5 | 11]), _) => &digest::SHA256, // MD5, SHA-1, SHA-256
        (Some([12]), _) => &digest::SHA384,
        (Some([13]), _) => &digest::SHA512,
        (Some([10]), _) => pss_hash(algorithm.expect(SEQUENCE)?)?,
        (_, Some([1] | [3, 2])) => &digest::SHA256, // SHA-1, SHA-256
        (_, Some([3, 3])) => &digest::SHA384,
        (_, Some([3, 4])) => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(hash, der).as_ref().to_vec())
}

/// The hash in RSASSA-PSS-params (RFC 4055 section 3.1): `[0] hashAlgorithm`, SHA-1 where it is missing.
fn pss_hash(params: &[u8]) -> Option<&'static digest::Algorithm> {
    let Some(tagged) = Der(params).optional(0xa0) else { return Some(&digest::SHA256) };
    let oid = Der(Der(tagged).expect(SEQUENCE)?).expect(OID)?;
    match oid.strip_prefix(OID_SHA2) {
        Some([1]) => Some(&digest::SHA256),
        Some([2]) => Some(&digest::SHA384),
        Some([3]) => Some(&digest::SHA512),
        _ if oid == OID_SHA1 => Some(&digest::SHA256),
        _ => None,
    }
}

/// GeneralNames (RFC 5280 section 4.2.1.6), those that can name a host.
fn alternative_names(content: &[u8]) -> Vec<String> {
    let mut list = Der(content);
    let mut names: Vec<String> = Vec::new();
    while let Some((tag, value)) = list.next() {
        let name = match tag {
            0x82 => text(value),
            0x87 => address(value),
            0xa0 => other_name(value),
            _ => None,
        };
        if let Some(name) = name.filter(|name| !names.contains(name)) {
            names.push(name);
        }
        if names.len() >= NAMES_MAX {
            break;
        }
    }
    names
}

/// xmppAddr of a domain, or SRVName (RFC 4985) of an XMPP service.
fn other_name(content: &[u8]) -> Option<String> {
    match other_kind(content)? {
        (OID_XMPP_ADDR, name) => idna::to_ascii(&name),
        (OID_SRV_NAME, name) => {
            ["_xmpp-client.", "_xmpp-server."].iter().find_map(|s| name.strip_prefix(s)).map(str::to_owned)
        }
        _ => None,
    }
}

/// The kind of an otherName, and its text.
fn other_kind(content: &[u8]) -> Option<(&[u8], String)> {
    let mut content = Der(content);
    let kind = content.expect(OID)?;
    let (_, value) = Der(content.expect(0xa0)?).next()?;
    Some((kind, text(value)?))
}

fn text(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.to_lowercase())
}

fn address(value: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(value) {
        return Some(IpAddr::from(v4).to_string());
    }
    <[u8; 16]>::try_from(value).ok().map(|v6| IpAddr::from(v6).to_string())
}

/// UTCTime or GeneralizedTime, in the one form that RFC 5280 section 4.1.2.5 allows of each.
fn unix_seconds((tag, content): (u8, &[u8])) -> Option<i64> {
    let digits = content.strip_suffix(b"Z")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |digits: &[u8]| digits.iter().fold(0_i64, |n, d| n * 10 + i64::from(d - b'0'));
    let (year, rest) = match (tag, digits.len()) {
        (0x17, 12) => {
            let (year, rest) = digits.split_at_checked(2)?;
            let year = number(year);
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        (0x18, 14) => {
            let (year, rest) = digits.split_at_checked(4)?;
            (number(year), rest)
        }
        _ => return None,
    };
    let mut pairs = rest.chunks(2).map(number);
    let mut pair = || pairs.next();
    let (month, day, hour, minute, second) = (pair()?, pair()?, pair()?, pair()?, pair()?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since 1970-01-01, in eras of 400 years that start in March so that the leap day comes last.
    let year = year - i64::from(month <= 2);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let year_of_era = year.rem_euclid(400);
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = year.div_euclid(400) * 146_097 + day_of_era - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
    use rcgen::{SanType, date_time_ymd};

    fn certificate(key: &KeyPair) -> Vec<u8> {
        let names: Vec<String> = ["Example.org", "*.example.org", "192.0.2.1"].iter().map(|s| s.to_string()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let xmpp = SanType::OtherName((vec![1, 3, 6, 1, 5, 5, 7, 8, 5], "bücher.example".into()));
        params.subject_alt_names.push(xmpp);
        params.not_before = date_time_ymd(2024, 2, 29);
        params.not_after = date_time_ymd(2051, 1, 1);
        params.self_signed(key).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_tells_names_validity_and_fingerprint() {
        let der = certificate(&KeyPair::generate().unwrap());
        let info = CertInfo::parse(&der, PathBuf::from("x.crt")).unwrap();
        assert_eq!(info.names, ["example.org", "*.example.org", "192.0.2.1", "xn--bcher-kva.example"]);
        assert_eq!(info.not_before_unix_s, 1_709_164_800);
        assert_eq!(info.not_after_unix_s, 2_556_144_000);
        assert!(info.valid_at(1_709_164_800) && !info.valid_at(1_709_164_799) && !info.valid_at(2_556_144_001));
        assert!(info.self_signed);
        assert_eq!(info.fingerprint().len(), 95);
        assert_eq!(info.fingerprint_sha256, digest::digest(&digest::SHA256, &der).as_ref());
    }

    #[test]
    fn a_wildcard_covers_one_label() {
        let der = certificate(&KeyPair::generate().unwrap());
        let info = CertInfo::parse(&der, PathBuf::new()).unwrap();
        assert!(info.covers("example.org") && info.covers("chat.example.org") && info.covers("192.0.2.1"));
        assert!(!info.covers("a.b.example.org") && !info.covers("example.com") && !info.covers(".example.org"));
        assert!(!info.covers("*.org") && !info.covers("org"));
    }

    #[test]
    fn the_end_point_uses_the_hash_of_the_signature() {
        for (algorithm, bytes) in [(&PKCS_ECDSA_P256_SHA256, 32), (&PKCS_ECDSA_P384_SHA384, 48)] {
            let der = certificate(&KeyPair::generate_for(algorithm).unwrap());
            assert_eq!(server_end_point(&der).map(|h| h.len()), Some(bytes));
        }
        let der = certificate(&KeyPair::generate_for(&PKCS_ED25519).unwrap());
        assert_eq!(server_end_point(&der), None);
    }

    /// A certificate with nothing in it but its signature algorithm.
    fn signed_with(oid: &[u8], params: &[u8]) -> Vec<u8> {
        let value = |tag: u8, content: &[u8]| [&[tag, content.len() as u8], content].concat();
        let algorithm = value(SEQUENCE, &[value(OID, oid), params.to_vec()].concat());
        value(SEQUENCE, &[value(SEQUENCE, &[]), algorithm].concat())
    }

    #[test]
    fn rsa_signatures_name_their_hash_in_the_oid_or_in_the_parameters() {
        let rsa = |last: u8| [OID_PKCS1, &[last]].concat();
        let length = |der: Vec<u8>| server_end_point(&der).map(|h| h.len());
        for (last, bytes) in [(4, Some(32)), (5, Some(32)), (11, Some(32)), (12, Some(48)), (13, Some(64)), (14, None)]
        {
            assert_eq!(length(signed_with(&rsa(last), &[5, 0])), bytes, "{last}");
        }
        let pss = |hash: &[u8]| {
            let value = |tag: u8, content: &[u8]| [&[tag, content.len() as u8], content].concat();
            value(SEQUENCE, &value(0xa0, &value(SEQUENCE, &value(OID, hash))))
        };
        assert_eq!(length(signed_with(&rsa(10), &[SEQUENCE, 0])), Some(32));
        assert_eq!(length(signed_with(&rsa(10), &pss(&[OID_SHA2, &[2]].concat()))), Some(48));
        assert_eq!(length(signed_with(&rsa(10), &pss(OID_SHA1))), Some(32));
        assert_eq!(length(signed_with(&rsa(10), &pss(&[OID_SHA2, &[4]].concat()))), None);
        assert_eq!(length(signed_with(&rsa(10), &[])), None);
    }

    /// The example of RFC 9773 section 4.1.
    #[cfg(feature = "acme")]
    #[test]
    fn a_certificate_has_a_name_for_its_issuer() {
        use rcgen::{BasicConstraints, IsCa, Issuer, KeyIdMethod, SerialNumber};
        let key_id = vec![
            0x69, 0x88, 0x5b, 0x6b, 0x87, 0x46, 0x40, 0x41, 0xe1, 0xb3, 0x7b, 0x84, 0x7b, 0xa0, 0xae, 0x2c, 0xde, 0x01,
            0xc8, 0xd4,
        ];
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_identifier_method = KeyIdMethod::PreSpecified(key_id);
        let authority = Issuer::new(authority, KeyPair::generate().unwrap());
        let mut params = CertificateParams::new(vec!["a.example".to_string()]).unwrap();
        params.serial_number = Some(SerialNumber::from_slice(&[0x87, 0x65, 0x43, 0x21]));
        params.use_authority_key_identifier_extension = true;
        let issued = params.signed_by(&KeyPair::generate().unwrap(), &authority).unwrap();
        assert_eq!(renewal_id(issued.der()).as_deref(), Some("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"));
        assert_eq!(renewal_id(&certificate(&KeyPair::generate().unwrap())), None);
    }

    #[test]
    fn only_the_times_of_rfc_5280_are_times() {
        assert_eq!(unix_seconds((0x17, b"500101000000Z")), Some(-631_152_000));
        assert_eq!(unix_seconds((0x17, b"491231235959Z")), Some(2_524_607_999));
        assert_eq!(unix_seconds((0x18, b"20000229000001Z")), Some(951_782_401));
        assert_eq!(unix_seconds((0x18, b"21000228000000Z")), Some(4_107_456_000));
        assert_eq!(unix_seconds((0x18, b"21000301000000Z")), Some(4_107_542_400));
        assert_eq!(unix_seconds((0x18, b"99991231235959Z")), Some(253_402_300_799));
        for bad in [&b"20001301000000Z"[..], b"20000100000000Z", b"2000010100000Z", b"20000101000000", b"", b"Z"] {
            assert_eq!(unix_seconds((0x18, bad)), None);
        }
    }

    proptest! {
        #[test]
        fn random_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = CertInfo::parse(&bytes, PathBuf::new());
            let _ = server_end_point(&bytes);
            let _ = alternative_names(&bytes);
            let _ = (peer_names(&bytes), parties(&bytes));
        }

        #[test]
        fn damaged_certificates_do_no_harm(at in 0..2_000_usize, byte in any::<u8>(), cut in 0..2_000_usize) {
            thread_local! { static DER: Vec<u8> = certificate(&KeyPair::generate().unwrap()); }
            let mut der = DER.with(Clone::clone);
            let at = at % der.len();
            der[at] = byte;
            der.truncate(der.len() - cut % 3 * (cut % der.len()) / 2);
            let _ = CertInfo::parse(&der, PathBuf::new());
            let _ = server_end_point(&der);
            let _ = (peer_names(&der), parties(&der));
        }
    }
}

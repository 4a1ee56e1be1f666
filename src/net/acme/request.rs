//! What is signed beside requests: the request for a certificate (PKCS #10, RFC 2986), and the certificate that proves
//! a name (RFC 8737 section 3).

use std::sync::Arc;

use ring::digest;
use rustls::Error;
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SigningKey};

use crate::net::der::{self, BITS, INTEGER, OCTETS, OID, SEQUENCE, SET, value};
use crate::net::self_signed::{self, signer_of};
use crate::net::x509::OID_SAN;

/// id-pe-acmeIdentifier (RFC 8737 section 3).
const OID_ACME_IDENTIFIER: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 31];

/// PKCS #9 extensionRequest (RFC 2985 section 5.4.2).
const OID_EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];

fn signing_key(pkcs8: &[u8]) -> Result<Arc<dyn SigningKey>, Error> {
    any_ecdsa_type(&PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8)))
}

fn alternative_names(names: &[String]) -> Vec<u8> {
    let names: Vec<Vec<u8>> = names.iter().map(|name| value(0x82, &[name.as_bytes()])).collect();
    der::extension(OID_SAN, false, &value(SEQUENCE, &[&names.concat()]))
}

/// A request for a certificate of `names` (A-labels) with this key in PKCS #8.
///
/// # Errors
/// When it is no key for ECDSA, or the system has no random bytes.
pub fn certificate_request(pkcs8: &[u8], names: &[String]) -> Result<Vec<u8>, Error> {
    let key = signing_key(pkcs8)?;
    let (signer, algorithm) = signer_of(&*key)?;
    let public_key = key.public_key().ok_or(Error::FailedToGetCurrentTime)?;
    let extensions = value(SEQUENCE, &[&alternative_names(names)]);
    let attribute = value(SEQUENCE, &[&value(OID, &[OID_EXTENSION_REQUEST]), &value(SET, &[&extensions])]);
    let info = value(
        SEQUENCE,
        &[
            &value(INTEGER, &[&[0]]),
            // No subject: the names are all that counts (RFC 8555 section 7.4).
            &value(SEQUENCE, &[]),
            public_key.as_ref(),
            &value(0xa0, &[&attribute]),
        ],
    );
    let signature = signer.sign(&info)?;
    Ok(value(SEQUENCE, &[&info, &algorithm, &value(BITS, &[&[0], &signature])]))
}

/// The certificate that proves `name` with this key authorization, and a key for it.
///
/// # Errors
/// When the system has no random bytes.
pub fn proof(name: &str, authorization: &str, wall_ms: i64) -> Result<CertifiedKey, Error> {
    let key = signing_key(&self_signed::generate_key()?)?;
    let hash = digest::digest(&digest::SHA256, authorization.as_bytes());
    let extensions = [
        alternative_names(&[name.to_owned()]),
        der::extension(OID_ACME_IDENTIFIER, true, &value(OCTETS, &[hash.as_ref()])),
    ];
    let der = self_signed::signed(&*key, name, wall_ms, &extensions.concat())?;
    // Unchecked: rustls does not know the critical extension.
    Ok(CertifiedKey::new(vec![CertificateDer::from(der)], key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::der::Der;
    use crate::net::x509::CertInfo;
    use memchr::memmem;
    use ring::rand::SystemRandom;
    use ring::signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
    };

    #[test]
    fn a_request_is_signed_and_has_the_names() {
        let key = self_signed::generate_key().unwrap();
        let names = ["a.example".to_owned(), "*.a.example".to_owned()];
        let der = certificate_request(&key, &names).unwrap();
        let mut request = Der(Der(&der).expect(SEQUENCE).unwrap());
        let info = value(SEQUENCE, &[request.expect(SEQUENCE).unwrap()]);
        request.expect(SEQUENCE).unwrap();
        let signature = request.expect(BITS).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &key, &SystemRandom::new()).unwrap();
        let verifier = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, pair.public_key().as_ref());
        verifier.verify(&info, &signature[1..]).unwrap();
        assert!(memmem::find(&info, pair.public_key().as_ref()).is_some());
        let listed = value(SEQUENCE, &[&value(0x82, &[b"a.example"]), &value(0x82, &[b"*.a.example"])]);
        assert!(memmem::find(&info, &[&[6, 3], OID_SAN, &value(OCTETS, &[&listed])].concat()).is_some());
    }

    #[test]
    fn a_proof_has_one_name_and_the_hash() {
        let proof = proof("a.example", "token.thumbprint", 1_795_348_800_000).unwrap();
        let der = proof.end_entity_cert().unwrap();
        let info = CertInfo::parse(der, Default::default()).unwrap();
        assert_eq!(info.names, ["a.example"]);
        assert!(info.self_signed);
        let hash = digest::digest(&digest::SHA256, b"token.thumbprint");
        // Object identifier, critical, and the hash as an octet string in an octet string (RFC 8737 section 3).
        let extension = [&[6, 8][..], OID_ACME_IDENTIFIER, &[1, 1, 0xff, 4, 34, 4, 32], hash.as_ref()].concat();
        assert!(memmem::find(der, &extension).is_some());
    }
}

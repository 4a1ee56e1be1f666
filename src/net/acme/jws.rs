//! Signed requests: JWS (RFC 7515) as RFC 8555 section 6.2 wants it, by ECDSA with P-256, and the keys for it.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use ring::{digest, hmac};
use zeroize::Zeroizing;

use crate::json::quote;

/// The key of an account.
pub struct AccountKey {
    pair: EcdsaKeyPair,
    /// JWK (RFC 7517) in the form of RFC 7638 section 3.
    jwk: String,
}

/// Who signs.
#[derive(Clone, Copy)]
pub enum Signer<'a> {
    /// Somebody who has no account yet.
    Key,
    /// The account of this address.
    Account(&'a str),
}

/// What an authority has given to who has an account there in another way (RFC 8555 section 7.3.4).
#[derive(Clone, PartialEq, Eq)]
pub struct Binding {
    /// The name of the key.
    pub key_id: String,
    /// The key, in base64url.
    pub hmac_key: Zeroizing<String>,
}

impl std::fmt::Debug for Binding {
    /// Never shows the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Binding({:?})", self.key_id)
    }
}

/// base64url without padding (RFC 7515 section 2).
pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl AccountKey {
    /// A key in PKCS #8; None when it is none for ECDSA with P-256.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Option<Self> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &SystemRandom::new()).ok()?;
        // An uncompressed point: 4, then both coordinates.
        let (x, y) = pair.public_key().as_ref().get(1..)?.split_at_checked(32)?;
        let jwk = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, base64url(x), base64url(y));
        Some(Self { pair, jwk })
    }

    /// The key authorization of a challenge (RFC 8555 section 8.1).
    pub fn authorization(&self, token: &str) -> String {
        format!("{token}.{}", base64url(digest::digest(&digest::SHA256, self.jwk.as_bytes())))
    }

    /// A request to `url`. An empty payload asks for what is there (RFC 8555 section 6.3). None when the system has no
    /// random bytes.
    pub fn sign(&self, signer: Signer<'_>, nonce: &str, url: &str, payload: &str) -> Option<String> {
        let signer = match signer {
            Signer::Key => format!(r#""jwk":{}"#, self.jwk),
            Signer::Account(account) => format!(r#""kid":{}"#, quote(account)),
        };
        let header = format!(r#"{{"alg":"ES256",{signer},"nonce":{},"url":{}}}"#, quote(nonce), quote(url));
        let (header, payload) = (base64url(header), base64url(payload));
        let signed = format!("{header}.{payload}");
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).ok()?;
        Some(flattened(&header, &payload, signature.as_ref()))
    }

    /// `externalAccountBinding` of a new account at `url` (RFC 8555 section 7.3.4). None when the key of the binding is
    /// not in base64url.
    pub fn bind(&self, binding: &Binding, url: &str) -> Option<String> {
        // Some authorities write it in the other alphabet, or with padding.
        let text: Zeroizing<String> =
            Zeroizing::new(binding.hmac_key.trim().trim_end_matches('=').replace('+', "-").replace('/', "_"));
        let key = Zeroizing::new(URL_SAFE_NO_PAD.decode(text.as_bytes()).ok().filter(|key| !key.is_empty())?);
        let key_id = quote(&binding.key_id);
        let header = base64url(format!(r#"{{"alg":"HS256","kid":{key_id},"url":{}}}"#, quote(url)));
        let payload = base64url(&self.jwk);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let signature = hmac::sign(&key, format!("{header}.{payload}").as_bytes());
        Some(flattened(&header, &payload, signature.as_ref()))
    }
}

/// Flattened JSON Serialization (RFC 7515 section 7.2.2).
fn flattened(header: &str, payload: &str, signature: &[u8]) -> String {
    let signature = base64url(signature);
    format!(r#"{{"protected":"{header}","payload":"{payload}","signature":"{signature}"}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::acme::json::Json;
    use crate::net::self_signed;
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    fn decoded(json: &Json, name: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(json.text(name).unwrap()).unwrap()
    }

    #[test]
    fn a_request_can_be_verified_with_the_key_that_it_names() {
        let key = AccountKey::from_pkcs8(&self_signed::generate_key().unwrap()).unwrap();
        let request = key.sign(Signer::Key, "n\"1", "https://ca.example/new", r#"{"a":1}"#).unwrap();
        let json = Json::parse(request.as_bytes()).unwrap();
        let header = Json::parse(&decoded(&json, "protected")).unwrap();
        assert_eq!(header.text("alg"), Some("ES256"));
        assert_eq!(header.text("nonce"), Some("n\"1"));
        assert_eq!(header.text("url"), Some("https://ca.example/new"));
        assert_eq!(decoded(&json, "payload"), br#"{"a":1}"#);
        let jwk = header.object("jwk").unwrap();
        let point = [vec![4], decoded(&jwk, "x"), decoded(&jwk, "y")].concat();
        let signed = format!("{}.{}", json.text("protected").unwrap(), json.text("payload").unwrap());
        let verifier = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        verifier.verify(signed.as_bytes(), &decoded(&json, "signature")).unwrap();
        let request = key.sign(Signer::Account("https://ca.example/1"), "n", "https://ca.example/x", "").unwrap();
        let json = Json::parse(request.as_bytes()).unwrap();
        let header = Json::parse(&decoded(&json, "protected")).unwrap();
        assert_eq!((header.text("kid"), json.text("payload")), (Some("https://ca.example/1"), Some("")));
        assert!(header.object("jwk").is_none());
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_7638() {
        let key = AccountKey::from_pkcs8(&self_signed::generate_key().unwrap()).unwrap();
        let jwk = Json::parse(key.jwk.as_bytes()).unwrap();
        let text = |name| jwk.text(name).unwrap();
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, text("x"), text("y"));
        let thumbprint = base64url(digest::digest(&digest::SHA256, canonical.as_bytes()));
        assert_eq!(key.authorization("token"), format!("token.{thumbprint}"));
        assert_eq!((text("x").len(), text("y").len(), thumbprint.len()), (43, 43, 43));
        assert!(AccountKey::from_pkcs8(b"no key").is_none());
    }

    #[test]
    fn a_binding_is_signed_with_the_key_of_the_authority() {
        let key = AccountKey::from_pkcs8(&self_signed::generate_key().unwrap()).unwrap();
        let binding = |text: &str| Binding { key_id: "kid-1".to_owned(), hmac_key: Zeroizing::new(text.to_owned()) };
        let bound = key.bind(&binding("-_8h"), "https://ca.example/new").unwrap();
        let json = Json::parse(bound.as_bytes()).unwrap();
        let header = Json::parse(&decoded(&json, "protected")).unwrap();
        assert_eq!((header.text("alg"), header.text("kid")), (Some("HS256"), Some("kid-1")));
        assert_eq!(decoded(&json, "payload"), key.jwk.as_bytes());
        let signed = format!("{}.{}", json.text("protected").unwrap(), json.text("payload").unwrap());
        let hmac_key = hmac::Key::new(hmac::HMAC_SHA256, &[0xfb, 0xff, 0x21]);
        hmac::verify(&hmac_key, signed.as_bytes(), &decoded(&json, "signature")).unwrap();
        assert_eq!(key.bind(&binding("+/8h=="), "https://ca.example/new"), Some(bound), "the other alphabet");
        assert!(key.bind(&binding(""), "u").is_none() && key.bind(&binding("a b"), "u").is_none());
        assert!(!format!("{:?}", binding("-_8h")).contains("8h"));
    }
}

//! The client's half of SCRAM (RFC 5802, RFC 7677), with the binding of RFC 9266 for the `-PLUS` kinds.

use std::num::NonZeroU32;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ring::{digest, hmac, pbkdf2};

/// The one of RFC 5802 section 5: plays are the same each time.
const NONCE: &str = "fyko+d2lbbFgONRv9qkxdawL";

/// One exchange.
pub struct Scram {
    hmac: hmac::Algorithm,
    digest: &'static digest::Algorithm,
    pbkdf2: pbkdf2::Algorithm,
    gs2: String,
    binding: Vec<u8>,
    first_bare: String,
    password: String,
    /// What the server has shown, as XEP-0474 section 5.1 writes it.
    offered: String,
    server_signature: Vec<u8>,
}

impl Scram {
    /// Prepares an exchange.
    pub fn new(
        mechanism: &str,
        user: &str,
        password: &str,
        exporter: Option<[u8; 32]>,
        offered: String,
    ) -> Result<Self, String> {
        let (hash, plus) = match mechanism.strip_suffix("-PLUS") {
            Some(hash) => (hash, true),
            None => (mechanism, false),
        };
        let (hmac, digest, pbkdf2) = match hash {
            "SCRAM-SHA-1" => {
                (hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &digest::SHA1_FOR_LEGACY_USE_ONLY, pbkdf2::PBKDF2_HMAC_SHA1)
            }
            "SCRAM-SHA-256" => (hmac::HMAC_SHA256, &digest::SHA256, pbkdf2::PBKDF2_HMAC_SHA256),
            _ => return Err(format!("no play can log in with {mechanism}")),
        };
        let binding = match (plus, exporter) {
            (false, _) => Vec::new(),
            (true, Some(exporter)) => exporter.to_vec(),
            (true, None) => return Err("this connection has no channel binding".to_owned()),
        };
        let gs2 = if plus { "p=tls-exporter,," } else { "n,," }.to_owned();
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let first_bare = format!("n={user},r={NONCE}");
        let password = password.to_owned();
        Ok(Self { hmac, digest, pbkdf2, gs2, binding, first_bare, password, offered, server_signature: Vec::new() })
    }

    /// client-first-message
    pub fn first(&self) -> String {
        format!("{}{}", self.gs2, self.first_bare)
    }

    /// client-final-message, for a server-first-message.
    pub fn answer(&mut self, challenge: &str) -> Result<String, String> {
        let field =
            |key| challenge.split(',').find_map(|f| f.strip_prefix(key)).ok_or(format!("no {key} in {challenge}"));
        let nonce = field("r=")?;
        if !nonce.starts_with(NONCE) || nonce.len() <= NONCE.len() {
            return Err("the server adds nothing to the nonce".to_owned());
        }
        let hash = BASE64_STANDARD.encode(digest::digest(self.digest, self.offered.as_bytes()));
        if field("h=").is_ok_and(|h| h != hash) {
            return Err(format!("somebody has tampered with what is offered: {:?}", self.offered));
        }
        let salt = BASE64_STANDARD.decode(field("s=")?).map_err(|e| e.to_string())?;
        let iterations: NonZeroU32 = field("i=")?.parse().map_err(|_| "no iteration count")?;
        let mut salted = vec![0; self.digest.output_len()];
        pbkdf2::derive(self.pbkdf2, iterations, &salt, self.password.as_bytes(), &mut salted);
        let bound = [self.gs2.as_bytes(), &self.binding].concat();
        let without_proof = format!("c={},r={nonce}", BASE64_STANDARD.encode(bound));
        let auth = format!("{},{challenge},{without_proof}", self.first_bare);
        let client_key = self.sign(&salted, b"Client Key");
        let stored_key = digest::digest(self.digest, &client_key);
        let signature = self.sign(stored_key.as_ref(), auth.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        self.server_signature = self.sign(&self.sign(&salted, b"Server Key"), auth.as_bytes());
        Ok(format!("{without_proof},p={}", BASE64_STANDARD.encode(proof)))
    }

    /// Checks that the server knows the account too.
    pub fn check_server(&self, last: &str) -> Result<(), String> {
        let signature = last.strip_prefix("v=").and_then(|v| BASE64_STANDARD.decode(v).ok());
        if signature.as_ref() == Some(&self.server_signature) {
            return Ok(());
        }
        Err(format!("the server's signature is wrong: {last}"))
    }

    /// What XEP-0480 section 3 asks of the client: the salted password for SCRAM-SHA-256, in base64.
    pub fn upgrade(&self, salt: &str, iterations: &str) -> Result<String, String> {
        let salt = BASE64_STANDARD.decode(salt).map_err(|e| e.to_string())?;
        let iterations: NonZeroU32 = iterations.parse().map_err(|_| "no iteration count")?;
        let mut salted = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, self.password.as_bytes(), &mut salted);
        Ok(BASE64_STANDARD.encode(salted))
    }

    fn sign(&self, key: &[u8], data: &[u8]) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(self.hmac, key), data).as_ref().to_vec()
    }
}

/// The first message of HT-SHA-256-NONE (draft-schmaus-kitten-sasl-ht), in base64.
pub fn token_message(user: &str, token: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes());
    let proof = hmac::sign(&key, b"Initiator");
    BASE64_STANDARD.encode([user.as_bytes(), &[0], proof.as_ref()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_5802_section_5() {
        let mut scram = Scram::new("SCRAM-SHA-1", "user", "pencil", None, String::new()).unwrap();
        assert_eq!(scram.first(), "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL");
        let last = scram.answer(&format!("r={NONCE}3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096")).unwrap();
        assert_eq!(last, format!("c=biws,r={NONCE}3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="));
        assert!(scram.check_server("v=rmF9pqV8S7suAoZWja4dJRkFsKQ=").is_ok());
    }

    #[test]
    fn the_server_must_add_to_the_nonce_and_sign() {
        let mut scram = Scram::new("SCRAM-SHA-256", "user", "pencil", None, String::new()).unwrap();
        assert!(scram.answer(&format!("r={NONCE},s=QSXCR+Q6sek8bf92,i=4096")).is_err());
        assert!(scram.answer(&format!("r={NONCE}x,s=QSXCR+Q6sek8bf92,i=4096")).is_ok());
        assert!(scram.check_server("v=rmF9pqV8S7suAoZWja4dJRkFsKQ=").is_err());
        assert!(Scram::new("SCRAM-SHA-1-PLUS", "user", "pencil", None, String::new()).is_err());
    }
}

//! SCRAM (RFC 5802, RFC 7677), with and without channel binding.
//!
//! A message is a list of `letter=value` in a fixed order. What the client sends twice (its header, its nonce) must be
//! the same both times. Problems with the form or with the flags are `malformed-request`; what only the wrong client,
//! or one with somebody in between, gets wrong is `not-authorized`.

use base64::{Engine, engine::general_purpose::STANDARD};
use std::fmt::Write as _;

use super::keys::{Known, ScramHash, ScramKeys, StoredKeys, equal, fake_keys};
use super::{Failure, SaslCx, check_authzid, prepare_user};
use crate::clock;
use crate::fault::{Fault, armed};

/// Bytes of a client's nonce; those in use have 16 to 44.
const NONCE_BYTES_MAX: usize = 256;

/// Waits for the keys of the account.
#[cfg_attr(test, derive(Debug))]
pub struct Keys {
    hash: ScramHash,
    user: String,
    /// The first message without its header, which is signed.
    first_bare: String,
    client_nonce: String,
    /// What the final message must repeat in `c=`, decoded: header and binding data.
    binding: Vec<u8>,
}

/// Waits for the client's final message.
#[cfg_attr(test, derive(Debug))]
pub struct Final {
    hash: ScramHash,
    user: String,
    known: bool,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
    binding: Vec<u8>,
    /// Both nonces.
    nonce: String,
    /// The first messages of both sides, which are signed.
    signed: String,
}

/// Reads the client's first message. The user is the prepared localpart.
pub fn first(hash: ScramHash, plus: bool, message: &[u8], cx: &SaslCx<'_>) -> Result<(Keys, String), Failure> {
    let text = str::from_utf8(message).map_err(|_| Failure::MalformedRequest)?;
    let (flag, rest) = text.split_once(',').ok_or(Failure::MalformedRequest)?;
    let (authzid, bare) = rest.split_once(',').ok_or(Failure::MalformedRequest)?;
    let header = &text[..text.len() - bare.len()];

    let data = binding_data(flag, plus, cx)?;
    let (name, client_nonce) = first_bare(bare)?;
    let user = prepare_user(&name)?;
    match authzid.strip_prefix("a=") {
        Some(authzid) => check_authzid(&unescape(authzid)?, &user, cx)?,
        None if authzid.is_empty() => {}
        None => return Err(Failure::MalformedRequest),
    }
    let binding = [header.as_bytes(), data].concat();
    let state = Keys { hash, user: user.clone(), first_bare: bare.to_owned(), client_nonce, binding };
    Ok((state, user))
}

/// The binding data that goes with a gs2-cbind-flag (RFC 5802 section 6).
fn binding_data<'a>(flag: &str, plus: bool, cx: &SaslCx<'a>) -> Result<&'a [u8], Failure> {
    match flag {
        "n" if !plus => Ok(&[]),
        // The client could bind and believes that we cannot. If we offered it, somebody took the offer away.
        "y" if !plus && cx.bindings.is_empty() => Ok(&[]),
        _ => match flag.strip_prefix("p=") {
            Some(name) if plus => cx.bindings.data(name).ok_or(Failure::MalformedRequest),
            _ => Err(Failure::MalformedRequest),
        },
    }
}

/// Name and nonce of client-first-message-bare.
fn first_bare(bare: &str) -> Result<(String, String), Failure> {
    let mut parts = bare.split(',');
    let name = parts.next().and_then(|p| p.strip_prefix("n=")).ok_or(Failure::MalformedRequest)?;
    let nonce = parts.next().and_then(|p| p.strip_prefix("r=")).ok_or(Failure::MalformedRequest)?;
    let printable = nonce.bytes().all(|b| b.is_ascii_graphic());
    if nonce.is_empty() || nonce.len() > NONCE_BYTES_MAX || !printable || !parts.all(is_extension) {
        return Err(Failure::MalformedRequest);
    }
    Ok((unescape(name)?, nonce.to_owned()))
}

/// True for an extension that may be ignored. `m=` asks for one that may not, and there is none (RFC 5802 section 5.1).
fn is_extension(part: &str) -> bool {
    match part.as_bytes() {
        [letter, b'=', _, ..] => letter.is_ascii_alphabetic() && *letter != b'm' && !part.contains('\0'),
        _ => false,
    }
}

/// Undoes `=2C` and `=3D`, the only escapes of a name.
fn unescape(name: &str) -> Result<String, Failure> {
    let mut pieces = name.split('=');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        if let Some(rest) = piece.strip_prefix("2C") {
            out.push(',');
            out.push_str(rest);
        } else if let Some(rest) = piece.strip_prefix("3D") {
            out.push('=');
            out.push_str(rest);
        } else {
            return Err(Failure::MalformedRequest);
        }
    }
    if out.is_empty() { Err(Failure::MalformedRequest) } else { Ok(out) }
}

impl Keys {
    /// Our first message: nonce, salt and number of iterations, and the hash of what the client was shown, by which it
    /// notices if somebody has taken the best away (XEP-0474). A user who does not exist, or has no keys for this
    /// hash function, gets some all the same and fails at the proof.
    pub fn keys(self, known: impl Into<Known>, cx: &mut SaslCx<'_>) -> (Final, Vec<u8>) {
        let ours = clock::token(cx.entropy);
        self.keys_and_nonce(known.into(), &ours, cx)
    }

    fn keys_and_nonce(self, known: Known, ours: &str, cx: &SaslCx<'_>) -> (Final, Vec<u8>) {
        let Keys { hash, user, first_bare, client_nonce, binding } = self;
        // Made in any case, so that the work is the same.
        let Known { keys, like } = known;
        let fake = fake_keys(cx.secret, (cx.host, &user), hash, like.of(hash), cx.iterations);
        let StoredKeys { sha1, sha256 } = keys.unwrap_or_default();
        let stored = match hash {
            ScramHash::Sha1 => sha1,
            ScramHash::Sha256 => sha256,
        };
        let known = stored.is_some();
        let ScramKeys { salt, mut iterations, stored_key, server_key } = stored.unwrap_or(fake);
        if armed(Fault::StrangerTold) && !known {
            iterations += 1;
        }

        let nonce = client_nonce + ours;
        let mut message = format!("r={nonce},s={},i={iterations}", STANDARD.encode(salt));
        if !cx.offered.is_empty() {
            let _ = write!(message, ",h={}", STANDARD.encode(hash.digest(offer(cx).as_bytes())));
        }
        let signed = format!("{first_bare},{message}");
        (Final { hash, user, known, stored_key, server_key, binding, nonce, signed }, message.into_bytes())
    }
}

impl Final {
    /// Checks the proof. Returns the user and our own signature, by which the client knows us.
    pub fn message(self, message: &[u8]) -> Result<(String, Vec<u8>), Failure> {
        let text = str::from_utf8(message).map_err(|_| Failure::MalformedRequest)?;
        let (unsigned, proof) = text.rsplit_once(",p=").ok_or(Failure::MalformedRequest)?;
        let proof = decode(proof)?;
        let mut parts = unsigned.split(',');
        let binding = parts.next().and_then(|p| p.strip_prefix("c=")).ok_or(Failure::MalformedRequest)?;
        let binding = decode(binding)?;
        let nonce = parts.next().and_then(|p| p.strip_prefix("r=")).ok_or(Failure::MalformedRequest)?;
        if !parts.all(is_extension) || proof.len() != self.hash.output_bytes() {
            return Err(Failure::MalformedRequest);
        }

        let signed = format!("{},{unsigned}", self.signed);
        let signature = self.hash.hmac(&self.stored_key, signed.as_bytes());
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(p, s)| p ^ s).collect();
        // All four are looked at in any case: how long it takes says nothing about which one failed.
        let right = equal(&self.hash.digest(&client_key), &self.stored_key)
            & equal(&binding, &self.binding)
            & equal(nonce.as_bytes(), self.nonce.as_bytes())
            & self.known;
        if !right {
            return Err(Failure::NotAuthorized);
        }
        let signature = self.hash.hmac(&self.server_key, signed.as_bytes());
        Ok((self.user, format!("v={}", STANDARD.encode(signature)).into_bytes()))
    }
}

/// What the client was shown, as XEP-0474 section 5.1 wants it hashed. Octets are sorted, as those of `str` are.
fn offer(cx: &SaslCx<'_>) -> String {
    let joined = |mut names: Vec<&str>| {
        names.sort_unstable();
        names.join("\u{1E}")
    };
    let mut offer = joined(cx.offered.iter().map(|m| m.name()).collect());
    if !cx.bindings.is_empty() {
        offer.push('\u{1F}');
        offer.push_str(&joined(cx.bindings.names().collect()));
    }
    offer
}

fn decode(text: &str) -> Result<Vec<u8>, Failure> {
    STANDARD.decode(text).map_err(|_| Failure::MalformedRequest)
}

#[cfg(test)]
#[path = "scram_tests.rs"]
mod tests;

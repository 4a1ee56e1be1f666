//! Endpoints of applications (UnifiedPush): where an application server brings by HTTP what a client is to pass to an
//! application on its device. Nothing is stored of them: the address of an endpoint says it all, sealed, so that nobody
//! but this server can make one or read whose it is.

use crate::jid::Jid;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// The folder of the site in which they are, as Prosody's.
pub const FOLDER: &str = "/push";

/// Bytes that can be brought at once, as everywhere with UnifiedPush.
pub const CONTENT_BYTES_MAX: u64 = 4096;

/// Bytes of the path of an endpoint; it must fit into the first line of a request.
const PATH_BYTES_MAX: usize = 2048;

/// Names of applications and their instances are SHA-256 hashes.
pub type Hash = [u8; 32];

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The client, by its full address.
    pub to: Jid,
    /// The application.
    pub application: Hash,
    /// Which of those that it has.
    pub instance: Hash,
    /// Until when it can be used, in seconds since 1970.
    pub expires_s: u64,
}

/// What came of something that was brought to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The client has it.
    Done,
    /// There is no such endpoint, or its application is gone.
    Gone,
    /// The client is not there.
    Away,
    /// It was too much in too short a time.
    TooMany,
    /// Another error of the client.
    Failed,
}

impl Endpoint {
    /// Its path, sealed with random bytes that are used but once; none when its address is too long for one.
    pub fn path(&self, key: &[u8; 32], nonce: [u8; NONCE_LEN]) -> Option<String> {
        let mut sealed = self.expires_s.to_be_bytes().to_vec();
        sealed.extend_from_slice(&self.application);
        sealed.extend_from_slice(&self.instance);
        sealed.extend_from_slice(self.to.as_str().as_bytes());
        let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).ok()?);
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed).ok()?;
        sealed.splice(0..0, nonce);
        let path = format!("{FOLDER}/{}", BASE64_URL_SAFE_NO_PAD.encode(sealed));
        (path.len() <= PATH_BYTES_MAX).then_some(path)
    }

    /// The endpoint of a path, if it is one of ours and still can be used.
    pub fn read(path: &str, key: &[u8; 32], wall_ms: i64) -> Option<Self> {
        let text = path.strip_prefix(FOLDER)?.strip_prefix('/')?;
        let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok().filter(|_| path.len() <= PATH_BYTES_MAX)?;
        let (nonce, sealed) = bytes.split_first_chunk_mut()?;
        let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).ok()?);
        let opened = key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), sealed).ok()?;
        let (expires_s, rest) = opened.split_first_chunk()?;
        let (application, rest) = rest.split_first_chunk()?;
        let (instance, to) = rest.split_first_chunk()?;
        let to = Jid::parse(std::str::from_utf8(to).ok()?).ok()?;
        let (application, instance, expires_s) = (*application, *instance, u64::from_be_bytes(*expires_s));
        let is_valid = u64::try_from(wall_ms / 1000).is_ok_and(|now_s| now_s < expires_s);
        is_valid.then_some(Self { to, application, instance, expires_s })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(to: &str) -> Endpoint {
        Endpoint { to: Jid::parse(to).unwrap(), application: [1; 32], instance: [2; 32], expires_s: 1000 }
    }

    #[test]
    fn an_endpoint_is_known_again_and_no_other_is() {
        let (endpoint, key) = (endpoint("romeo@montague.example/orchard"), [7; 32]);
        let path = endpoint.path(&key, [3; NONCE_LEN]).unwrap();
        assert_eq!(Endpoint::read(&path, &key, 999_999), Some(endpoint));
        assert_eq!(Endpoint::read(&path, &key, 1_000_000), None, "too late");
        assert_eq!(Endpoint::read(&path, &[8; 32], 0), None);
        for wrong in ["/push", "/push/", "/push/x", "/push/????", &path[..path.len() - 1], &path.replace("/push", "")] {
            assert_eq!(Endpoint::read(wrong, &key, 0), None, "{wrong}");
        }
        for at in FOLDER.len() + 1..path.len() {
            let mut other = path.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(Endpoint::read(std::str::from_utf8(&other).unwrap(), &key, 0), None, "{at}");
        }
    }

    #[test]
    fn nobody_reads_of_it_whose_it_is() {
        let path = endpoint("romeo@montague.example/orchard").path(&[7; 32], [3; NONCE_LEN]).unwrap();
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(&path[FOLDER.len() + 1..]).unwrap();
        assert!(!bytes.windows(5).any(|part| part == b"romeo") && !bytes.windows(5).any(|part| part == [1; 5]));
        let long = format!("{}@montague.example/{}", "r".repeat(1000), "x".repeat(1000));
        assert_eq!(endpoint(&long).path(&[7; 32], [3; NONCE_LEN]), None);
    }
}

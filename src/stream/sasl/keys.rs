//! SCRAM keys of a password and the slow work on them (RFC 5802 section 3, RFC 7677).
//!
//! [`run`] is the only slow function of the stream floor: the shell calls it on the hashing thread.

use std::fmt;
use std::num::NonZeroU32;

use ring::{digest, hmac, pbkdf2};
use zeroize::Zeroizing;

/// Iterations for new keys, and what strangers are told for accounts that do not exist. RFC 7677 wants 4096 or more.
pub const ITERATIONS_DEFAULT: u32 = 10_000;
/// Bytes of a new salt.
pub const SALT_BYTES: usize = 16;

/// A hash function of the SCRAM family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScramHash {
    /// RFC 5802.
    Sha1,
    /// RFC 7677.
    Sha256,
}

/// What a server keeps of a password for one hash function: enough to check it and to prove the check, not to log in.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    /// Random bytes that make equal passwords look different.
    pub salt: Vec<u8>,
    /// Rounds of PBKDF2.
    pub iterations: u32,
    /// `H(HMAC(SaltedPassword, "Client Key"))`.
    pub stored_key: Vec<u8>,
    /// `HMAC(SaltedPassword, "Server Key")`.
    pub server_key: Vec<u8>,
}

/// All keys of one account. One made by us has both, one that was imported may have one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredKeys {
    /// For SCRAM-SHA-1.
    pub sha1: Option<ScramKeys>,
    /// For SCRAM-SHA-256.
    pub sha256: Option<ScramKeys>,
}

impl StoredKeys {
    /// Those for a hash function.
    pub(super) fn of(&self, hash: ScramHash) -> Option<&ScramKeys> {
        match hash {
            ScramHash::Sha1 => self.sha1.as_ref(),
            ScramHash::Sha256 => self.sha256.as_ref(),
        }
    }
}

/// What is stored for somebody who wants to log in.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// None when there is no such user.
    pub keys: Option<StoredKeys>,
    /// Those of somebody else. A user who does not exist looks like that one: accounts that were imported, or made
    /// under another number of iterations, would be told from him otherwise.
    pub like: StoredKeys,
}

impl From<Option<StoredKeys>> for Known {
    fn from(keys: Option<StoredKeys>) -> Self {
        Self { keys, like: StoredKeys::default() }
    }
}

/// What the hashing thread is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashWork {
    /// Is the password the one of these keys?
    Verify {
        /// Which hash function the keys are for.
        hash: ScramHash,
        /// The keys.
        keys: ScramKeys,
    },
    /// Is the password the one of these keys for SCRAM-SHA-1? If it is, make keys for SCRAM-SHA-256, too.
    Upgrade {
        /// The keys that there are.
        keys: Box<ScramKeys>,
        /// For the new ones.
        salt: Vec<u8>,
        /// For the new ones.
        iterations: u32,
    },
    /// Make both sets of keys.
    Derive {
        /// The same for both sets.
        salt: Vec<u8>,
        /// The same for both sets.
        iterations: u32,
    },
}

/// One piece of work for the hashing thread.
pub struct HashJob {
    /// Comes back in the result.
    pub id: u64,
    /// As [`prepare_password`] returned it.
    pub password: Zeroizing<String>,
    /// What to do with it.
    pub work: HashWork,
}

/// The answer to a [`HashJob`].
#[derive(Debug, PartialEq, Eq)]
pub struct HashResult {
    /// That of the job.
    pub id: u64,
    /// What came out.
    pub outcome: HashOutcome,
}

/// What came out of a [`HashWork`].
#[derive(Debug, PartialEq, Eq)]
pub enum HashOutcome {
    /// Whether the password is the right one.
    Verified(bool),
    /// The password is the right one, and these are its keys for SCRAM-SHA-256.
    Upgraded(ScramKeys),
    /// Both sets of keys.
    Derived {
        /// For SCRAM-SHA-1.
        sha1: ScramKeys,
        /// For SCRAM-SHA-256.
        sha256: ScramKeys,
    },
}

/// Shows no keys.
impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramKeys").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

/// Shows no password.
impl fmt::Debug for HashJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashJob").field("id", &self.id).field("work", &self.work).finish_non_exhaustive()
    }
}

/// The password has a character that SASLprep (RFC 4013) forbids, or nothing of it is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPassword;

impl fmt::Display for BadPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the password is empty or has a character that SASLprep (RFC 4013) forbids")
    }
}

impl std::error::Error for BadPassword {}

/// The form of a password that is hashed: SASLprep (RFC 4013), so that all keyboards type the same one.
///
/// # Errors
/// When SASLprep forbids it or leaves nothing of it.
pub fn prepare_password(password: &str) -> Result<Zeroizing<String>, BadPassword> {
    let prepared = Zeroizing::new(stringprep::saslprep(password).map_err(|_| BadPassword)?.into_owned());
    if prepared.is_empty() { Err(BadPassword) } else { Ok(prepared) }
}

/// Does the work. Slow by design: some 2 to 10 ms for the default number of iterations.
pub fn run(job: HashJob) -> HashResult {
    let HashJob { id, password, work } = job;
    let outcome = match work {
        HashWork::Verify { hash, keys } => HashOutcome::Verified(verify(hash, &password, &keys)),
        HashWork::Upgrade { keys, salt, iterations } => match verify(ScramHash::Sha1, &password, &keys) {
            true => HashOutcome::Upgraded(derive(ScramHash::Sha256, &password, &salt, iterations)),
            false => HashOutcome::Verified(false),
        },
        HashWork::Derive { salt, iterations } => HashOutcome::Derived {
            sha1: derive(ScramHash::Sha1, &password, &salt, iterations),
            sha256: derive(ScramHash::Sha256, &password, &salt, iterations),
        },
    };
    HashResult { id, outcome }
}

fn verify(hash: ScramHash, password: &str, keys: &ScramKeys) -> bool {
    equal(&derive(hash, password, &keys.salt, keys.iterations).stored_key, &keys.stored_key)
}

fn derive(hash: ScramHash, password: &str, salt: &[u8], iterations: u32) -> ScramKeys {
    let mut buffer = Zeroizing::new([0; digest::MAX_OUTPUT_LEN]);
    let salted = &mut buffer[..hash.output_bytes()];
    let rounds = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
    pbkdf2::derive(hash.pbkdf2(), rounds, salt, password.as_bytes(), salted);
    of_salted_password(hash, salted, salt, iterations)
}

/// The keys that a `SaltedPassword` leads to (RFC 5802 section 3): quick.
pub(in crate::stream) fn of_salted_password(hash: ScramHash, salted: &[u8], salt: &[u8], iterations: u32) -> ScramKeys {
    let client_key = Zeroizing::new(hash.hmac(salted, b"Client Key"));
    ScramKeys {
        salt: salt.to_vec(),
        iterations,
        stored_key: hash.digest(&client_key),
        server_key: hash.hmac(salted, b"Server Key"),
    }
}

/// Keys for a user who does not exist: the same salt each time he is asked for, as with one who does, and keys that
/// no password leads to. The salt does not depend on the hash function, because ours never do. Its length and the
/// number of iterations are those of `like`; without that, those that new accounts get.
pub(super) fn fake_keys(
    secret: &[u8; 32],
    (host, user): (&str, &str),
    hash: ScramHash,
    like: Option<&ScramKeys>,
    iterations: u32,
) -> ScramKeys {
    let cut = |mut bytes: Vec<u8>, len: usize| {
        bytes.truncate(len);
        bytes
    };
    let part = |name| fake_part(secret, name, (host, user));
    let salt_bytes = like.map_or(SALT_BYTES, |keys| keys.salt.len());
    let mut salt = part(b"salt");
    while salt.len() < salt_bytes {
        salt.extend(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), &salt).as_ref());
    }
    ScramKeys {
        salt: cut(salt, salt_bytes),
        iterations: like.map_or(iterations, |keys| keys.iterations),
        stored_key: cut(part(b"stored key"), hash.output_bytes()),
        server_key: cut(part(b"server key"), hash.output_bytes()),
    }
}

/// A localpart that looks random and is always the same for a user: whoever comes next behind it in the order of
/// accounts is whom a user who does not exist is like.
pub fn fake_place(secret: &[u8; 32], host: &str, user: &str) -> String {
    let letter = |byte: &u8| char::from(b'a' + byte % 26);
    fake_part(secret, b"place", (host, user)).iter().take(8).map(letter).collect()
}

fn fake_part(secret: &[u8; 32], name: &[u8], (host, user): (&str, &str)) -> Vec<u8> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    for piece in [name, host.as_bytes(), user.as_bytes()] {
        context.update(piece);
        context.update(&[0]);
    }
    context.sign().as_ref().to_vec()
}

impl ScramHash {
    /// Bytes of its output.
    pub(in crate::stream) fn output_bytes(self) -> usize {
        match self {
            Self::Sha1 => digest::SHA1_OUTPUT_LEN,
            Self::Sha256 => digest::SHA256_OUTPUT_LEN,
        }
    }

    pub(super) fn digest(self, data: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
        };
        digest::digest(algorithm, data).as_ref().to_vec()
    }

    pub(super) fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), data).as_ref().to_vec()
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        }
    }
}

/// Compares a guess with a secret in a time that does not depend on where they differ: ring compares MACs that way,
/// so each side is replaced by its MAC under the secret.
pub fn equal(guess: &[u8], secret: &[u8]) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    hmac::verify(&key, guess, hmac::sign(&key, secret).as_ref()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine, engine::general_purpose::STANDARD};

    fn job(password: &str, work: HashWork) -> HashOutcome {
        let result = run(HashJob { id: 7, password: prepare_password(password).unwrap(), work });
        assert_eq!(result.id, 7);
        result.outcome
    }

    #[test]
    fn whoever_does_not_exist_looks_like_somebody_who_does() {
        let fake = |user, like: Option<&ScramKeys>| fake_keys(&[7; 32], ("h", user), ScramHash::Sha1, like, 10);
        let alone = fake("a", None);
        assert_eq!((alone.salt.len(), alone.iterations), (SALT_BYTES, 10));
        for salt_bytes in [4, SALT_BYTES, 32, 100] {
            let other = ScramKeys { salt: vec![1; salt_bytes], iterations: 4096, ..alone.clone() };
            let keys = fake("a", Some(&other));
            assert_eq!((keys.salt.len(), keys.iterations), (salt_bytes, 4096));
            assert_ne!(keys.salt, other.salt);
            assert_eq!(fake("a", Some(&other)), keys, "it stays the same");
            assert_ne!(fake("b", Some(&other)).salt, keys.salt);
        }
        let place = fake_place(&[7; 32], "h", "a");
        assert_eq!((fake_place(&[7; 32], "h", "a"), place.len()), (place.clone(), 8));
        assert_ne!(fake_place(&[7; 32], "h", "b"), place);
    }

    #[test]
    fn derived_keys_verify_their_password_and_no_other() {
        let work = HashWork::Derive { salt: vec![1; SALT_BYTES], iterations: 16 };
        let HashOutcome::Derived { sha1, sha256 } = job("pencil", work) else { panic!() };
        assert_eq!((sha1.stored_key.len(), sha256.stored_key.len()), (20, 32));
        for (hash, keys) in [(ScramHash::Sha1, sha1), (ScramHash::Sha256, sha256)] {
            let work = HashWork::Verify { hash, keys };
            assert_eq!(job("pencil", work.clone()), HashOutcome::Verified(true));
            assert_eq!(job("pencils", work), HashOutcome::Verified(false));
        }
    }

    #[test]
    fn better_keys_are_made_of_the_right_password_alone() {
        let keys = Box::new(derive(ScramHash::Sha1, "pencil", &[1; SALT_BYTES], 16));
        let work = HashWork::Upgrade { keys, salt: vec![2; SALT_BYTES], iterations: 8 };
        assert_eq!(job("pencils", work.clone()), HashOutcome::Verified(false));
        let better = derive(ScramHash::Sha256, "pencil", &[2; SALT_BYTES], 8);
        assert_eq!(job("pencil", work), HashOutcome::Upgraded(better));
    }

    #[test]
    fn keys_of_rfc_7677() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let keys = derive(ScramHash::Sha256, "pencil", &salt, 4096);
        assert_eq!(STANDARD.encode(&keys.stored_key), "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=");
        assert_eq!(STANDARD.encode(&keys.server_key), "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=");
    }

    #[test]
    fn passwords_are_prepared() {
        assert_eq!(prepare_password("pass\u{00AD}word").unwrap().as_str(), "password");
        assert_eq!(prepare_password("\u{2168}").unwrap().as_str(), "IX");
        assert_eq!(prepare_password(""), Err(BadPassword));
        assert_eq!(prepare_password("\u{00AD}"), Err(BadPassword));
        assert_eq!(prepare_password("a\nb"), Err(BadPassword));
    }

    #[test]
    fn fake_keys_are_stable_and_differ_between_users_and_hosts() {
        let fake = |secret, host, user, hash| fake_keys(&[secret; 32], (host, user), hash, None, 10);
        let keys = fake(1, "a.example", "romeo", ScramHash::Sha256);
        assert_eq!(keys, fake(1, "a.example", "romeo", ScramHash::Sha256));
        assert_eq!((keys.salt.len(), keys.stored_key.len()), (SALT_BYTES, 32));
        let sha1 = fake(1, "a.example", "romeo", ScramHash::Sha1);
        assert_eq!((&sha1.salt, sha1.stored_key.len()), (&keys.salt, 20));
        for other in [
            fake(2, "a.example", "romeo", ScramHash::Sha256),
            fake(1, "b.example", "romeo", ScramHash::Sha256),
            fake(1, "a.example", "juliet", ScramHash::Sha256),
        ] {
            assert_ne!(keys.salt, other.salt);
            assert_ne!(keys.stored_key, other.stored_key);
        }
        assert_ne!(keys.salt, keys.stored_key[..SALT_BYTES]);
    }

    #[test]
    fn equal_is_equality() {
        assert!(equal(b"abc", b"abc"));
        assert!(!equal(b"abd", b"abc") && !equal(b"ab", b"abc") && !equal(b"", b"abc"));
        assert!(!equal(b"abc\0", b"abc"), "an HMAC key is padded with zeros, the message is not");
    }
}

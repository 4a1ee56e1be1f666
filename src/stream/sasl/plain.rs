//! PLAIN (RFC 4616). Offered under TLS alone; the password is checked on the hashing thread.

use zeroize::Zeroizing;

use super::keys::{HashWork, Known, SALT_BYTES, ScramHash, StoredKeys, fake_keys, prepare_password};
use super::{Failure, SaslCx, check_authzid, prepare_user};

/// Waits for the keys of the account.
#[cfg_attr(test, derive(Debug))]
pub struct Keys {
    user: String,
    password: Zeroizing<String>,
}

/// Waits for the hashing thread.
#[cfg_attr(test, derive(Debug))]
pub struct Verdict {
    user: String,
    known: bool,
}

/// Reads `[authzid] NUL authcid NUL passwd`. The user is the prepared localpart.
pub fn first(message: &[u8], cx: &SaslCx<'_>) -> Result<(Keys, String), Failure> {
    let text = str::from_utf8(message).map_err(|_| Failure::MalformedRequest)?;
    let mut parts = text.split('\0');
    let (Some(authzid), Some(name), Some(password), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Failure::MalformedRequest);
    };
    if password.is_empty() {
        return Err(Failure::MalformedRequest);
    }
    let user = prepare_user(name)?;
    if !authzid.is_empty() {
        check_authzid(authzid, &user, cx)?;
    }
    // No account has such a password, and that is known before any account is looked at.
    let password = prepare_password(password).map_err(|_| Failure::NotAuthorized)?;
    Ok((Keys { user: user.clone(), password }, user))
}

impl Keys {
    /// Asks for the password to be checked, against keys that nothing leads to when there is no such user. An account
    /// that lacks the better keys gets them if it is right.
    pub fn keys(self, known: Known, cx: &mut SaslCx<'_>) -> (Verdict, Zeroizing<String>, HashWork) {
        let Keys { user, password } = self;
        let Known { keys, like } = known;
        let StoredKeys { sha1, sha256 } = keys.unwrap_or_default();
        let (known, work) = match (sha256, sha1) {
            (Some(keys), _) => (true, HashWork::Verify { hash: ScramHash::Sha256, keys }),
            (None, Some(keys)) => {
                let mut salt = vec![0; SALT_BYTES];
                cx.entropy.fill(&mut salt);
                (true, HashWork::Upgrade { keys: Box::new(keys), salt, iterations: cx.iterations })
            }
            (None, None) => {
                let is_old = like.sha256.is_none() && like.sha1.is_some();
                let hash = if is_old { ScramHash::Sha1 } else { ScramHash::Sha256 };
                let keys = fake_keys(cx.secret, (cx.host, &user), hash, like.of(hash), cx.iterations);
                (false, HashWork::Verify { hash, keys })
            }
        };
        (Verdict { user, known }, password, work)
    }
}

impl Verdict {
    /// The user, if he is who he says.
    pub fn verdict(self, right: bool) -> Option<String> {
        (right && self.known).then_some(self.user)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Bindings, Mechanism, Step, start};
    use super::*;
    use crate::clock::Entropy;
    use crate::stream::sasl::keys::{HashJob, HashOutcome, ScramKeys, run};

    struct Fixed;
    impl Entropy for Fixed {
        fn fill(&mut self, out: &mut [u8]) {
            out.fill(5);
        }
    }

    fn with_cx<T>(f: impl FnOnce(&mut SaslCx<'_>) -> T) -> T {
        f(&mut SaslCx {
            host: "example.org",
            bindings: &Bindings::none(),
            from: None,
            offered: Vec::new(),
            iterations: 20,
            secret: &[1; 32],
            entropy: &mut Fixed,
        })
    }

    fn keys_of(password: &str) -> (ScramKeys, ScramKeys) {
        let work = HashWork::Derive { salt: vec![3; 16], iterations: 10 };
        match run(HashJob { id: 0, password: prepare_password(password).unwrap(), work }).outcome {
            HashOutcome::Derived { sha1, sha256 } => (sha1, sha256),
            other => panic!("{other:?}"),
        }
    }

    /// A whole login. Returns the user that was asked for, the iterations of the check, and what came out.
    fn login(message: &str, keys: Option<StoredKeys>) -> (String, u32, Result<String, Failure>) {
        with_cx(|cx| {
            let Step::NeedKeys(state, asked) = start(Mechanism::Plain, Some(message.as_bytes()), cx) else { panic!() };
            let Step::Verify(state, password, work) = state.keys(keys, cx) else { panic!() };
            let iterations = match &work {
                HashWork::Verify { keys, .. } => keys.iterations,
                HashWork::Upgrade { keys, .. } => keys.iterations,
                HashWork::Derive { .. } => panic!(),
            };
            let right = match run(HashJob { id: 0, password, work }).outcome {
                HashOutcome::Verified(right) => right,
                HashOutcome::Upgraded(sha256) => {
                    assert_eq!((sha256.salt.as_slice(), sha256.iterations), (&[5; 16][..], 20));
                    true
                }
                HashOutcome::Derived { .. } => panic!(),
            };
            match state.verdict(right) {
                Step::Done { user, data: None } => (asked, iterations, Ok(user)),
                Step::Fail(failure) => (asked, iterations, Err(failure)),
                other => panic!("{other:?}"),
            }
        })
    }

    fn refused(message: &[u8]) -> Failure {
        with_cx(|cx| match start(Mechanism::Plain, Some(message), cx) {
            Step::Fail(failure) => failure,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn the_right_password_and_no_other() {
        let (sha1, sha256) = keys_of("secret");
        let both = StoredKeys { sha1: Some(sha1.clone()), sha256: Some(sha256) };
        let old = StoredKeys { sha1: Some(sha1), sha256: None };
        for keys in [both, old] {
            assert_eq!(login("\0Romeo\0secret", Some(keys.clone())), ("romeo".into(), 10, Ok("romeo".into())));
            assert_eq!(login("\0romeo\0secre\u{00AD}t", Some(keys.clone())).2, Ok("romeo".into()));
            assert_eq!(login("romeo@example.org\0romeo\0secret", Some(keys.clone())).2, Ok("romeo".into()));
            assert_eq!(login("\0romeo\0Secret", Some(keys)).2, Err(Failure::NotAuthorized));
        }
    }

    #[test]
    fn an_unknown_user_costs_the_same_work_and_gets_the_same_answer() {
        assert_eq!(login("\0nobody\0secret", None), ("nobody".into(), 20, Err(Failure::NotAuthorized)));
        assert_eq!(login("\0nobody\0secret", Some(StoredKeys::default())).2, Err(Failure::NotAuthorized));
        let verdict = Verdict { user: "nobody".into(), known: false };
        assert_eq!(verdict.verdict(true), None, "even if the hashing thread said yes");
    }

    #[test]
    fn bad_messages() {
        use Failure::*;
        for (message, failure) in [
            (&b""[..], MalformedRequest),
            (b"romeo", MalformedRequest),
            (b"romeo\0secret", MalformedRequest),
            (b"\0romeo\0", MalformedRequest),
            (b"\0\0secret", MalformedRequest),
            (b"\0romeo\0sec\0ret", MalformedRequest),
            (b"\0romeo\0\xff\xfe", MalformedRequest),
            (b"\0ro\x07meo\0secret", MalformedRequest),
            (b"\0romeo\0se\x07cret", NotAuthorized),
            (b"juliet@example.org\0romeo\0secret", InvalidAuthzid),
            (b"romeo@example.com\0romeo\0secret", InvalidAuthzid),
            (b"romeo@example.org/orchard\0romeo\0secret", InvalidAuthzid),
            (b"romeo\0romeo\0secret", InvalidAuthzid),
        ] {
            assert_eq!(refused(message), failure, "{:?}", String::from_utf8_lossy(message));
        }
        assert_eq!(refused(&[b'a'; 8000]), MalformedRequest);
    }
}

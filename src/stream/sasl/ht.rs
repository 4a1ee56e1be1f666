//! HT-SHA-256 (draft-schmaus-kitten-sasl-ht): a secret token that server and client know, proven in one message each,
//! with or without channel binding. It is how XEP-0484 logs in.
//!
//! `Proof = HMAC(token, "Initiator" || binding)`, and our answer is the same with `"Responder"`. So the server needs
//! the token itself: a hash of it would do for neither.

use ring::hmac;
use zeroize::Zeroizing;

use super::{Failure, SaslCx, prepare_user};

/// A mechanism of this family, by what it binds to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ht {
    /// `tls-exporter` (RFC 9266).
    Exporter,
    /// `tls-server-end-point` (RFC 5929).
    EndPoint,
    /// Nothing.
    Unbound,
}

impl Ht {
    /// All of them, best first. That for `tls-unique` is left out as [`Bindings`](super::Bindings) leaves it out.
    pub const ALL: [Ht; 3] = [Self::Exporter, Self::EndPoint, Self::Unbound];

    /// Name of the mechanism.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exporter => "HT-SHA-256-EXPR",
            Self::EndPoint => "HT-SHA-256-ENDP",
            Self::Unbound => "HT-SHA-256-NONE",
        }
    }

    /// The mechanism of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ht| ht.name() == name)
    }

    /// Name of the binding that it proves.
    pub fn binding(self) -> Option<&'static str> {
        match self {
            Self::Exporter => Some("tls-exporter"),
            Self::EndPoint => Some("tls-server-end-point"),
            Self::Unbound => None,
        }
    }
}

/// A token as it is stored.
pub struct Token {
    /// Its characters, which are the key.
    pub secret: Zeroizing<Vec<u8>>,
    /// The only mechanism that it is for.
    pub mechanism: Ht,
    /// Its time is over.
    pub is_expired: bool,
    /// The highest count that it was used with.
    pub count: Option<u32>,
}

/// Tokens of one client: at most the last one that it has used, and one that it has been given since.
#[derive(Default)]
pub struct Tokens {
    /// Has been used, or is all there is.
    pub current: Option<Token>,
    /// Takes the place of the other one when it is used.
    pub new: Option<Token>,
}

/// Which of [`Tokens`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// [`Tokens::current`].
    Current,
    /// [`Tokens::new`].
    New,
}

/// What the client has said; waits for its tokens.
pub struct Proof {
    mechanism: Ht,
    user: String,
    proof: Vec<u8>,
    binding: Vec<u8>,
}

/// Reads `authcid NUL proof`. The user is the prepared localpart.
pub fn first(mechanism: Ht, message: &[u8], cx: &SaslCx<'_>) -> Result<(Proof, String), Failure> {
    let end = message.iter().position(|b| *b == 0).ok_or(Failure::MalformedRequest)?;
    let (name, proof) = message.split_at_checked(end).ok_or(Failure::MalformedRequest)?;
    let proof = proof.get(1..).filter(|proof| proof.len() == PROOF_BYTES).ok_or(Failure::MalformedRequest)?;
    let user = prepare_user(str::from_utf8(name).map_err(|_| Failure::MalformedRequest)?)?;
    let binding = match mechanism.binding() {
        Some(name) => cx.bindings.data(name).ok_or(Failure::InvalidMechanism)?,
        None => &[],
    };
    Ok((Proof { mechanism, user: user.clone(), proof: proof.to_vec(), binding: binding.to_vec() }, user))
}

/// Of HMAC-SHA-256.
const PROOF_BYTES: usize = 32;

impl Proof {
    /// Finds the token that was used. Returns the user, our own proof, and which one it was. Two proofs are calculated
    /// and compared in any case, so that the time tells nothing of accounts and tokens that do not exist.
    pub fn tokens(self, tokens: &Tokens, count: Option<u32>) -> Result<(String, Vec<u8>, Slot), Failure> {
        let mut found = None;
        for (slot, token) in [(Slot::New, &tokens.new), (Slot::Current, &tokens.current)] {
            // Ours are as long.
            let secret = token.as_ref().map_or(&[0; 48][..], |t| &t.secret);
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
            let is_right = hmac::verify(&key, &self.message(b"Initiator"), &self.proof).is_ok();
            if let Some(token) = token.as_ref().filter(|t| is_right && t.mechanism == self.mechanism) {
                found = found.or(Some((slot, token, key)));
            }
        }
        let (slot, token, key) = found.ok_or(Failure::NotAuthorized)?;
        if token.is_expired {
            return Err(Failure::CredentialsExpired);
        }
        if count.zip(token.count).is_some_and(|(count, last)| count <= last) {
            return Err(Failure::NotAuthorized);
        }
        let answer = hmac::sign(&key, &self.message(b"Responder"));
        Ok((self.user, answer.as_ref().to_vec(), slot))
    }

    fn message(&self, who: &[u8]) -> Vec<u8> {
        [who, &self.binding].concat()
    }
}

#[cfg(test)]
impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proof").field("user", &self.user).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Bindings, Mechanism, Step, start};
    use super::*;
    use crate::clock::Entropy;
    use crate::stream::TlsFacts;

    struct NoEntropy;
    impl Entropy for NoEntropy {
        fn fill(&mut self, _: &mut [u8]) {
            panic!("tokens need no randomness")
        }
    }

    fn with_cx<T>(bindings: &Bindings, f: impl FnOnce(&SaslCx<'_>) -> T) -> T {
        f(&SaslCx {
            host: "example.org",
            bindings,
            from: None,
            offered: Vec::new(),
            iterations: 1,
            secret: &[1; 32],
            entropy: &mut NoEntropy,
        })
    }

    fn tls() -> Bindings {
        Bindings::new(&TlsFacts {
            tls13: true,
            exporter: Some([0xCB; 32]),
            end_point: Some(vec![0xEE; 32]),
            ..TlsFacts::default()
        })
    }

    fn token(secret: &str, mechanism: Ht) -> Token {
        Token { secret: Zeroizing::new(secret.into()), mechanism, is_expired: false, count: None }
    }

    fn hmac(secret: &str, who: &str, data: &[u8]) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        hmac::sign(&key, &[who.as_bytes(), data].concat()).as_ref().to_vec()
    }

    fn message(secret: &str, data: &[u8]) -> Vec<u8> {
        [b"Romeo\0", &hmac(secret, "Initiator", data)[..]].concat()
    }

    fn login(mechanism: Ht, message: &[u8], tokens: &Tokens, count: Option<u32>) -> Result<(Vec<u8>, Slot), Failure> {
        with_cx(&tls(), |cx| match start(Mechanism::Ht(mechanism), Some(message), cx) {
            Step::NeedTokens(state, user) => {
                assert_eq!(user, "romeo");
                match state.tokens(tokens, count) {
                    (Step::Done { user, data: Some(data) }, Some(slot)) => {
                        assert_eq!(user, "romeo");
                        Ok((data, slot))
                    }
                    (Step::Fail(failure), None) => Err(failure),
                    other => panic!("{other:?}"),
                }
            }
            Step::Fail(failure) => Err(failure),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn each_mechanism_takes_its_token_and_proves_ours() {
        let bound: [(Ht, &[u8]); 3] = [(Ht::Exporter, &[0xCB; 32]), (Ht::EndPoint, &[0xEE; 32]), (Ht::Unbound, &[])];
        for (mechanism, data) in bound {
            let tokens = Tokens { new: Some(token("n", mechanism)), current: Some(token("c", mechanism)) };
            for (secret, slot) in [("n", Slot::New), ("c", Slot::Current)] {
                let expected = (hmac(secret, "Responder", data), slot);
                assert_eq!(login(mechanism, &message(secret, data), &tokens, None), Ok(expected));
            }
            assert_eq!(login(mechanism, &message("x", data), &tokens, None), Err(Failure::NotAuthorized));
            assert_eq!(login(mechanism, &message("n", b"other"), &tokens, None), Err(Failure::NotAuthorized));
            assert_eq!(login(mechanism, &message("n", data), &Tokens::default(), None), Err(Failure::NotAuthorized));
        }
    }

    #[test]
    fn a_token_is_for_its_mechanism_alone() {
        let tokens = Tokens { current: Some(token("c", Ht::Exporter)), new: None };
        assert_eq!(login(Ht::Unbound, &message("c", b""), &tokens, None), Err(Failure::NotAuthorized));
    }

    #[test]
    fn what_stands_in_for_a_missing_token_is_no_token() {
        let secret = String::from_utf8(vec![0; 48]).unwrap();
        assert_eq!(login(Ht::Unbound, &message(&secret, b""), &Tokens::default(), None), Err(Failure::NotAuthorized));
        assert_eq!(login(Ht::Unbound, &message("", b""), &Tokens::default(), None), Err(Failure::NotAuthorized));
    }

    #[test]
    fn a_token_ends_and_its_count_grows() {
        let mut tokens = Tokens { current: Some(Token { count: Some(5), ..token("c", Ht::Unbound) }), new: None };
        let message = message("c", b"");
        for (count, failure) in [
            (None, None),
            (Some(6), None),
            (Some(5), Some(Failure::NotAuthorized)),
            (Some(0), Some(Failure::NotAuthorized)),
        ] {
            assert_eq!(login(Ht::Unbound, &message, &tokens, count).err(), failure, "{count:?}");
        }
        tokens.current.as_mut().unwrap().is_expired = true;
        assert_eq!(login(Ht::Unbound, &message, &tokens, None), Err(Failure::CredentialsExpired));
    }

    #[test]
    fn bad_messages() {
        let proof = [7; 32];
        for message in [
            &b""[..],
            b"romeo",
            b"romeo\0",
            &[b"romeo\0", &proof[..31]].concat(),
            &[b"romeo\0", &proof[..], b"x"].concat(),
            &[b"\0", &proof[..]].concat(),
            &[b"ro\xffmeo\0", &proof[..]].concat(),
        ] {
            assert_eq!(login(Ht::Unbound, message, &Tokens::default(), None), Err(Failure::MalformedRequest));
        }
        let step = with_cx(&Bindings::none(), |cx| {
            start(Mechanism::Ht(Ht::Exporter), Some(&[b"romeo\0", &proof[..]].concat()), cx)
        });
        assert!(matches!(step, Step::Fail(Failure::InvalidMechanism)));
    }
}

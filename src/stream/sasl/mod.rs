//! SASL, server side (RFC 4422): mechanisms without transport.
//!
//! A mechanism takes and gives bare messages. How they travel (base64 in the elements of RFC 6120 section 6, or those
//! of XEP-0388) is the business of whoever drives it. An exchange is a value that is consumed by each [`Step`] and
//! says by its type what it waits for, so a step out of turn cannot be written.
//!
//! What a stranger must not learn is whether an account exists. Unknown users get a salt that stays the same, the same
//! work is done for them, and they fail where a wrong password fails, with the same answer.

pub mod binding;
pub mod ht;
pub mod keys;
mod plain;
mod scram;

use zeroize::Zeroizing;

use crate::clock::Entropy;
use crate::jid::{self, Jid};
pub use binding::Bindings;
pub use ht::{Ht, Slot, Token, Tokens};
pub use keys::{HashJob, HashOutcome, HashResult, HashWork, Known, ScramHash, ScramKeys, StoredKeys};

/// Bytes of one message of a client, decoded. Enough for a name and an authorization identity of 1023 bytes each with
/// every character escaped; the element that carries it is bounded by `limits.stanza_bytes_max_before_auth`.
const MESSAGE_BYTES_MAX: usize = 7000;

/// A mechanism that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 7677 with channel binding.
    ScramSha256Plus,
    /// RFC 7677.
    ScramSha256,
    /// RFC 5802 with channel binding.
    ScramSha1Plus,
    /// RFC 5802.
    ScramSha1,
    /// RFC 4616.
    Plain,
    /// A token instead of a password (XEP-0484). Offered apart from the others.
    Ht(Ht),
}

impl Mechanism {
    /// Those with a password, best first, which is the order in which they are offered.
    pub const ALL: [Mechanism; 5] =
        [Self::ScramSha256Plus, Self::ScramSha256, Self::ScramSha1Plus, Self::ScramSha1, Self::Plain];

    /// Name in the registry of IANA.
    pub fn name(self) -> &'static str {
        match self {
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha1Plus => "SCRAM-SHA-1-PLUS",
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::Plain => "PLAIN",
            Self::Ht(ht) => ht.name(),
        }
    }

    /// The mechanism of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain(Ht::ALL.map(Self::Ht)).find(|m| m.name() == name)
    }

    /// True when it proves a channel binding.
    pub fn binds_channel(self) -> bool {
        match self {
            Self::ScramSha256Plus | Self::ScramSha1Plus => true,
            Self::ScramSha256 | Self::ScramSha1 | Self::Plain => false,
            Self::Ht(ht) => ht.binding().is_some(),
        }
    }
}

/// Why a login failed: the conditions of RFC 6120 section 6.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// 6.5.1: the client gave up.
    Aborted,
    /// 6.5.2: the account exists and is switched off.
    AccountDisabled,
    /// 6.5.3: the password is right and too old.
    CredentialsExpired,
    /// 6.5.4: not without TLS.
    EncryptionRequired,
    /// 6.5.5: not base64.
    IncorrectEncoding,
    /// 6.5.6: the client asked to act for another account.
    InvalidAuthzid,
    /// 6.5.7: not a mechanism that we offered.
    InvalidMechanism,
    /// 6.5.8: the message breaks the grammar of its mechanism, or a rule on flags and names.
    MalformedRequest,
    /// 6.5.9: that mechanism is not allowed for this account.
    MechanismTooWeak,
    /// 6.5.10: unknown user, wrong password, wrong channel binding.
    NotAuthorized,
    /// 6.5.11: try again later.
    TemporaryAuthFailure,
}

impl Failure {
    /// Name of the element.
    pub fn condition(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::AccountDisabled => "account-disabled",
            Self::CredentialsExpired => "credentials-expired",
            Self::EncryptionRequired => "encryption-required",
            Self::IncorrectEncoding => "incorrect-encoding",
            Self::InvalidAuthzid => "invalid-authzid",
            Self::InvalidMechanism => "invalid-mechanism",
            Self::MalformedRequest => "malformed-request",
            Self::MechanismTooWeak => "mechanism-too-weak",
            Self::NotAuthorized => "not-authorized",
            Self::TemporaryAuthFailure => "temporary-auth-failure",
        }
    }
}

/// What an exchange knows of its surroundings.
pub struct SaslCx<'a> {
    /// The prepared domain that the client logs in to.
    pub host: &'a str,
    /// Bindings of this connection. When there are any, the mechanisms with channel binding have been offered.
    pub bindings: &'a Bindings,
    /// The bare address in the client's stream header, where the profile wants an authorization identity to be that one
    /// (XEP-0388 section 2.3).
    pub from: Option<&'a Jid>,
    /// The mechanisms that the client was shown, for XEP-0474.
    pub offered: Vec<Mechanism>,
    /// Iterations that unknown users are told; the number that new accounts get.
    pub iterations: u32,
    /// A secret of the server that outlives restarts, for the salts of unknown users.
    pub secret: &'a [u8; 32],
    /// Source of nonces.
    pub entropy: &'a mut dyn Entropy,
}

/// What comes next in an exchange.
#[cfg_attr(test, derive(Debug))]
pub enum Step {
    /// Send this (perhaps empty) message and wait for the client's.
    Challenge(AwaitResponse, Vec<u8>),
    /// Look up the keys of this prepared localpart.
    NeedKeys(AwaitKeys, String),
    /// Look up the tokens of this prepared localpart and of the client.
    NeedTokens(AwaitTokens, String),
    /// Have this password checked.
    Verify(AwaitVerdict, Zeroizing<String>, HashWork),
    /// The client is who it says.
    Done {
        /// Prepared localpart.
        user: String,
        /// Additional data for the success message.
        data: Option<Vec<u8>>,
    },
    /// It is not, or the exchange went wrong.
    Fail(Failure),
}

/// An exchange that waits for a message of the client.
#[cfg_attr(test, derive(Debug))]
pub struct AwaitResponse(Response);

#[cfg_attr(test, derive(Debug))]
enum Response {
    /// The mechanism was named without an initial message.
    Initial(Mechanism),
    ScramFinal(scram::Final),
}

/// An exchange that waits for the keys of the account.
#[cfg_attr(test, derive(Debug))]
pub struct AwaitKeys(Keys);

#[cfg_attr(test, derive(Debug))]
enum Keys {
    Plain(plain::Keys),
    Scram(scram::Keys),
}

/// An exchange that waits for the tokens of the client.
#[cfg_attr(test, derive(Debug))]
pub struct AwaitTokens(ht::Proof);

/// An exchange that waits for the hashing thread.
#[cfg_attr(test, derive(Debug))]
pub struct AwaitVerdict(plain::Verdict);

/// Begins an exchange. `initial` is the client's first message if it came along; one may be empty.
pub fn start(mechanism: Mechanism, initial: Option<&[u8]>, cx: &SaslCx<'_>) -> Step {
    match initial {
        Some(message) => initial_message(mechanism, message, cx).unwrap_or_else(Step::Fail),
        // All our mechanisms let the client speak first, so it is asked with an empty challenge (RFC 4422 section 5).
        None => Step::Challenge(AwaitResponse(Response::Initial(mechanism)), Vec::new()),
    }
}

impl AwaitResponse {
    /// Goes on with the client's message.
    pub fn response(self, message: &[u8], cx: &SaslCx<'_>) -> Step {
        if message.len() > MESSAGE_BYTES_MAX {
            return Step::Fail(Failure::MalformedRequest);
        }
        match self.0 {
            Response::Initial(mechanism) => initial_message(mechanism, message, cx),
            Response::ScramFinal(state) => {
                state.message(message).map(|(user, data)| Step::Done { user, data: Some(data) })
            }
        }
        .unwrap_or_else(Step::Fail)
    }
}

impl AwaitKeys {
    /// Goes on with the keys.
    pub fn keys(self, known: impl Into<Known>, cx: &mut SaslCx<'_>) -> Step {
        let known = known.into();
        match self.0 {
            Keys::Plain(state) => {
                let (next, password, work) = state.keys(known, cx);
                Step::Verify(AwaitVerdict(next), password, work)
            }
            Keys::Scram(state) => {
                let (next, message) = state.keys(known, cx);
                Step::Challenge(AwaitResponse(Response::ScramFinal(next)), message)
            }
        }
    }
}

impl AwaitTokens {
    /// Goes on with the tokens; none when there is no such user, or the client has none. `count` is how often the
    /// client says it has used its token. Returns which one it was.
    pub fn tokens(self, tokens: &Tokens, count: Option<u32>) -> (Step, Option<Slot>) {
        match self.0.tokens(tokens, count) {
            Ok((user, data, slot)) => (Step::Done { user, data: Some(data) }, Some(slot)),
            Err(failure) => (Step::Fail(failure), None),
        }
    }
}

impl AwaitVerdict {
    /// Goes on with what the hashing thread found.
    pub fn verdict(self, right: bool) -> Step {
        match self.0.verdict(right) {
            Some(user) => Step::Done { user, data: None },
            None => Step::Fail(Failure::NotAuthorized),
        }
    }
}

fn initial_message(mechanism: Mechanism, message: &[u8], cx: &SaslCx<'_>) -> Result<Step, Failure> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(Failure::MalformedRequest);
    }
    let hash = match mechanism {
        Mechanism::Plain => {
            let (state, user) = plain::first(message, cx)?;
            return Ok(Step::NeedKeys(AwaitKeys(Keys::Plain(state)), user));
        }
        Mechanism::Ht(ht) => {
            let (state, user) = ht::first(ht, message, cx)?;
            return Ok(Step::NeedTokens(AwaitTokens(state), user));
        }
        Mechanism::ScramSha256Plus | Mechanism::ScramSha256 => ScramHash::Sha256,
        Mechanism::ScramSha1Plus | Mechanism::ScramSha1 => ScramHash::Sha1,
    };
    let (state, user) = scram::first(hash, mechanism.binds_channel(), message, cx)?;
    Ok(Step::NeedKeys(AwaitKeys(Keys::Scram(state)), user))
}

/// The localpart that a user name stands for: SASLprep as the mechanisms want, then nodeprep as addresses want. The
/// answer to a bad name depends on the name alone, so it tells nothing of accounts.
fn prepare_user(name: &str) -> Result<String, Failure> {
    let name = stringprep::saslprep(name).map_err(|_| Failure::MalformedRequest)?;
    jid::prepare_node(&name).map_err(|_| Failure::MalformedRequest)
}

/// An authorization identity must be the user's own bare address (RFC 6120 section 6.3.8), and that of the stream
/// header (XEP-0388 section 2.3).
fn check_authzid(authzid: &str, user: &str, cx: &SaslCx<'_>) -> Result<(), Failure> {
    let own = |j: &Jid| j.is_bare() && j.node() == Some(user) && j.domain() == cx.host;
    let right = Jid::parse(authzid).is_ok_and(|j| own(&j) && cx.from.is_none_or(|from| *from == j));
    if right { Ok(()) } else { Err(Failure::InvalidAuthzid) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_their_mechanism() {
        for mechanism in Mechanism::ALL {
            assert_eq!(Mechanism::from_name(mechanism.name()), Some(mechanism));
            assert_eq!(mechanism.binds_channel(), mechanism.name().ends_with("-PLUS"));
        }
        for mechanism in Ht::ALL.map(Mechanism::Ht) {
            assert_eq!(Mechanism::from_name(mechanism.name()), Some(mechanism));
            assert_eq!(mechanism.binds_channel(), !mechanism.name().ends_with("-NONE"));
        }
        assert_eq!(Mechanism::from_name("scram-sha-1"), None);
        assert_eq!(Mechanism::from_name("EXTERNAL"), None);
    }
}

//! Tests of SCRAM: the exchanges printed in the RFCs, then a client of our own that can lie.

use super::super::{Bindings, Mechanism, Step, start};
use super::*;
use crate::clock::Entropy;
use crate::stream::TlsFacts;
use crate::stream::sasl::keys::{HashJob, HashOutcome, HashWork, prepare_password, run};

struct Fixed;
impl Entropy for Fixed {
    fn fill(&mut self, out: &mut [u8]) {
        out.fill(0);
    }
}

const BINDING: [u8; 32] = [0xCB; 32];

fn tls() -> Bindings {
    Bindings::new(&TlsFacts {
        tls13: true,
        exporter: Some(BINDING),
        end_point: Some(vec![0xEE; 32]),
        ..TlsFacts::default()
    })
}

fn with_cx<T>(bindings: &Bindings, f: impl FnOnce(&mut SaslCx<'_>) -> T) -> T {
    f(&mut SaslCx {
        host: "example.org",
        bindings,
        from: None,
        offered: Vec::new(),
        iterations: 10,
        secret: &[9; 32],
        entropy: &mut Fixed,
    })
}

fn derive(password: &str, salt: &[u8], iterations: u32) -> StoredKeys {
    let work = HashWork::Derive { salt: salt.to_vec(), iterations };
    match run(HashJob { id: 0, password: prepare_password(password).unwrap(), work }).outcome {
        HashOutcome::Derived { sha1, sha256 } => StoredKeys { sha1: Some(sha1), sha256: Some(sha256) },
        other => panic!("{other:?}"),
    }
}

/// One exchange as an RFC prints it.
fn vector(hash: ScramHash, salt: &str, messages: [&str; 4], server_nonce: &str) {
    let [client_first, server_first, client_final, server_final] = messages;
    let keys = derive("pencil", &STANDARD.decode(salt).unwrap(), 4096);
    with_cx(&Bindings::none(), |cx| {
        let (state, user) = first(hash, false, client_first.as_bytes(), cx).unwrap();
        assert_eq!(user, "user");
        let (state, message) = state.keys_and_nonce(Some(keys).into(), server_nonce, cx);
        assert_eq!(str::from_utf8(&message), Ok(server_first));
        let (user, message) = state.message(client_final.as_bytes()).unwrap();
        assert_eq!((user.as_str(), str::from_utf8(&message)), ("user", Ok(server_final)));
    });
}

#[test]
fn exchange_of_rfc_5802_section_5() {
    vector(
        ScramHash::Sha1,
        "QSXCR+Q6sek8bf92",
        [
            "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
            "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
            "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        ],
        "3rfcNHYJY1ZVvWVs7j",
    );
}

#[test]
fn exchange_of_rfc_7677_section_3() {
    vector(
        ScramHash::Sha256,
        "W22ZaJ0SNY7soEsUEjb6gQ==",
        [
            "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        ],
        "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
    );
}

/// A client that does what the RFC says except where a test changes it.
struct Client {
    mechanism: Mechanism,
    header: &'static str,
    bare: &'static str,
    password: &'static str,
    /// What is bound behind the header.
    data: Vec<u8>,
    /// Put behind the nonce of the final message.
    extension: &'static str,
    /// Put behind the nonce itself.
    nonce_tail: &'static str,
}

fn client(mechanism: Mechanism) -> Client {
    let plus = mechanism.binds_channel();
    Client {
        mechanism,
        header: if plus { "p=tls-exporter,," } else { "n,," },
        bare: "n=romeo,r=abc",
        password: "secret",
        data: if plus { BINDING.to_vec() } else { Vec::new() },
        extension: "",
        nonce_tail: "",
    }
}

impl Client {
    fn hash(&self) -> ScramHash {
        match self.mechanism {
            Mechanism::ScramSha1 | Mechanism::ScramSha1Plus => ScramHash::Sha1,
            _ => ScramHash::Sha256,
        }
    }

    /// Our first message and, behind the client's last, the user or the failure. The signature is checked.
    fn login(&self, bindings: &Bindings, account: Option<StoredKeys>) -> (String, Result<String, Failure>) {
        with_cx(bindings, |cx| {
            let message = format!("{}{}", self.header, self.bare);
            let (state, user) = match start(self.mechanism, Some(message.as_bytes()), cx) {
                Step::NeedKeys(state, user) => (state, user),
                Step::Fail(failure) => return (String::new(), Err(failure)),
                other => panic!("{other:?}"),
            };
            let Step::Challenge(state, challenge) = state.keys(account, cx) else { panic!() };
            let challenge = String::from_utf8(challenge).unwrap();
            let fields: Vec<&str> = challenge.split(',').map(|f| &f[2..]).collect();
            let salt = STANDARD.decode(fields[1]).unwrap();
            let keys = derive(self.password, &salt, fields[2].parse().unwrap());
            let (response, signature) = self.last(&challenge, fields[0], &salt, fields[2].parse().unwrap(), &keys);
            match state.response(response.as_bytes(), cx) {
                Step::Done { user: found, data: Some(data) } => {
                    assert_eq!(found, user);
                    assert_eq!(String::from_utf8(data).unwrap(), signature);
                    (challenge, Ok(found))
                }
                Step::Fail(failure) => (challenge, Err(failure)),
                other => panic!("{other:?}"),
            }
        })
    }

    fn last(&self, challenge: &str, nonce: &str, salt: &[u8], iterations: u32, keys: &StoredKeys) -> (String, String) {
        let hash = self.hash();
        let keys = match hash {
            ScramHash::Sha1 => keys.sha1.as_ref().unwrap(),
            ScramHash::Sha256 => keys.sha256.as_ref().unwrap(),
        };
        let mut salted = vec![0; hash.output_bytes()];
        let algorithm = match hash {
            ScramHash::Sha1 => ring::pbkdf2::PBKDF2_HMAC_SHA1,
            ScramHash::Sha256 => ring::pbkdf2::PBKDF2_HMAC_SHA256,
        };
        ring::pbkdf2::derive(algorithm, iterations.try_into().unwrap(), salt, self.password.as_bytes(), &mut salted);
        let client_key = hash.hmac(&salted, b"Client Key");
        let binding = STANDARD.encode([self.header.as_bytes(), &self.data].concat());
        let unsigned = format!("c={binding},r={nonce}{}{}", self.nonce_tail, self.extension);
        let signed = format!("{},{challenge},{unsigned}", self.bare);
        let signature = hash.hmac(&keys.stored_key, signed.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(k, s)| k ^ s).collect();
        let answer = STANDARD.encode(hash.hmac(&keys.server_key, signed.as_bytes()));
        (format!("{unsigned},p={}", STANDARD.encode(proof)), format!("v={answer}"))
    }

    fn refused(&self, bindings: &Bindings) -> Failure {
        self.login(bindings, Some(derive("secret", &[5; 16], 10))).1.unwrap_err()
    }
}

const SCRAM: [Mechanism; 4] =
    [Mechanism::ScramSha256Plus, Mechanism::ScramSha256, Mechanism::ScramSha1Plus, Mechanism::ScramSha1];

#[test]
fn each_mechanism_lets_the_right_password_in_and_no_other() {
    let account = derive("secret", &[5; 16], 10);
    for mechanism in SCRAM {
        let right = client(mechanism);
        assert_eq!(right.login(&tls(), Some(account.clone())).1, Ok("romeo".into()), "{mechanism:?}");
        let wrong = Client { password: "Secret", ..client(mechanism) };
        assert_eq!(wrong.login(&tls(), Some(account.clone())).1, Err(Failure::NotAuthorized), "{mechanism:?}");
    }
    let end_point = Client {
        header: "p=tls-server-end-point,a=romeo@example.org,",
        data: vec![0xEE; 32],
        extension: ",x=1",
        bare: "n=Romeo,r=abc,y=z",
        ..client(Mechanism::ScramSha1Plus)
    };
    assert_eq!(end_point.login(&tls(), Some(account.clone())).1, Ok("romeo".into()));
    let honest = Client { header: "y,,", ..client(Mechanism::ScramSha256) };
    assert_eq!(honest.login(&Bindings::none(), Some(account)).1, Ok("romeo".into()), "y is true without TLS");
}

#[test]
fn an_unknown_user_looks_like_a_wrong_password() {
    for mechanism in SCRAM {
        let (first, failure) = client(mechanism).login(&tls(), None);
        assert_eq!(failure, Err(Failure::NotAuthorized));
        assert_eq!(client(mechanism).login(&tls(), None).0, first, "the salt stays");
        let (known, _) = client(mechanism).login(&tls(), Some(derive("secret", &[5; 16], 10)));
        assert_eq!(first.len(), known.len());
        assert_ne!(first, known);
        // An account without keys for this hash function is no different.
        assert_eq!(client(mechanism).login(&tls(), Some(StoredKeys::default())), (first, failure));
    }
}

#[test]
fn keys_that_happen_to_fit_do_not_let_an_unknown_user_in() {
    with_cx(&Bindings::none(), |cx| {
        let romeo = client(Mechanism::ScramSha256);
        let (state, _) = first(ScramHash::Sha256, false, b"n,,n=romeo,r=abc", cx).unwrap();
        let (mut state, challenge) = state.keys(Some(derive("secret", &[5; 16], 10)), cx);
        let challenge = String::from_utf8(challenge).unwrap();
        let nonce = state.nonce.clone();
        let (last, _) = romeo.last(&challenge, &nonce, &[5; 16], 10, &derive("secret", &[5; 16], 10));
        state.known = false;
        assert_eq!(state.message(last.as_bytes()), Err(Failure::NotAuthorized));
    });
}

#[test]
fn channel_binding_cannot_be_stripped_or_swapped() {
    use Mechanism::*;
    let downgraded = Client { header: "y,,", ..client(ScramSha256) };
    assert_eq!(downgraded.refused(&tls()), Failure::MalformedRequest);
    let in_between = Client { data: vec![1; 32], ..client(ScramSha256Plus) };
    assert_eq!(in_between.refused(&tls()), Failure::NotAuthorized);
    let none = Client { data: Vec::new(), ..client(ScramSha256Plus) };
    assert_eq!(none.refused(&tls()), Failure::NotAuthorized);
    for header in ["p=tls-unique,,", "p=,,", "n,,", "y,,", "p,,", "x,,"] {
        assert_eq!(Client { header, ..client(ScramSha256Plus) }.refused(&tls()), Failure::MalformedRequest, "{header}");
    }
    let not_plus = Client { header: "p=tls-exporter,,", data: BINDING.to_vec(), ..client(ScramSha256) };
    assert_eq!(not_plus.refused(&tls()), Failure::MalformedRequest);
}

#[test]
fn what_is_sent_twice_must_be_the_same() {
    let nonce = Client { nonce_tail: "x", ..client(Mechanism::ScramSha256) };
    assert_eq!(nonce.refused(&tls()), Failure::NotAuthorized);
    let header = Client { data: b"x".to_vec(), ..client(Mechanism::ScramSha256) };
    assert_eq!(header.refused(&tls()), Failure::NotAuthorized);
}

#[test]
fn an_authzid_must_be_the_own_address() {
    for (header, failure) in [
        ("n,a=juliet@example.org,", Failure::InvalidAuthzid),
        ("n,a=romeo@example.com,", Failure::InvalidAuthzid),
        ("n,a=romeo,", Failure::InvalidAuthzid),
        ("n,a=romeo@example.org/balcony,", Failure::InvalidAuthzid),
        ("n,a=,", Failure::MalformedRequest),
        ("n,romeo@example.org,", Failure::MalformedRequest),
    ] {
        assert_eq!(Client { header, ..client(Mechanism::ScramSha256) }.refused(&tls()), failure, "{header}");
    }
}

#[test]
fn malformed_first_messages() {
    let long = format!("n,,n=romeo,r={}", "a".repeat(NONCE_BYTES_MAX + 1));
    for message in [
        &b""[..],
        b"n",
        b"n,",
        b"n,,",
        b"n,,n=romeo",
        b"n,,r=abc,n=romeo",
        b"n,,n=,r=abc",
        b"n,,n=romeo,r=",
        b"n,,n=romeo,r=a b",
        b"n,,n=romeo,r=\xc3\xa4",
        b"n,,n=romeo,r=abc,",
        b"n,,n=romeo,r=abc,x",
        b"n,,n=romeo,r=abc,x=",
        b"n,,n=romeo,r=abc,m=x",
        b"n,,m=x,n=romeo,r=abc",
        b"n,,n=ro=meo,r=abc",
        b"n,,n=ro=2cmeo,r=abc",
        b"n,,n=romeo=,r=abc",
        b"n,,n=\xff,r=abc",
        b"n,,n=ro\x07meo,r=abc",
        long.as_bytes(),
    ] {
        with_cx(&Bindings::none(), |cx| {
            let failure = first(ScramHash::Sha256, false, message, cx).unwrap_err();
            assert_eq!(failure, Failure::MalformedRequest, "{}", String::from_utf8_lossy(message));
        });
    }
}

/// The example of XEP-0474 section 5.3.
#[test]
fn what_was_offered_is_hashed() {
    with_cx(&tls(), |cx| {
        cx.offered = vec![Mechanism::ScramSha1Plus, Mechanism::ScramSha1];
        assert_eq!(offer(cx), "SCRAM-SHA-1\u{1E}SCRAM-SHA-1-PLUS\u{1F}tls-exporter\u{1E}tls-server-end-point");
        let (state, _) = first(ScramHash::Sha1, false, b"n,,n=romeo,r=abc", cx).unwrap();
        let message = String::from_utf8(state.keys(None, cx).1).unwrap();
        assert!(message.ends_with(",i=10,h=G6k/rBLDqgOhRRaCuuatSDFkJ08="), "{message}");
    });
    with_cx(&Bindings::none(), |cx| {
        cx.offered = vec![Mechanism::ScramSha256, Mechanism::Plain];
        assert_eq!(offer(cx), "PLAIN\u{1E}SCRAM-SHA-256");
    });
}

#[test]
fn an_authzid_must_be_the_address_of_the_stream_header() {
    let (romeo, juliet) = ("romeo@example.org", "juliet@example.org");
    for (from, authzid, right) in [(romeo, "", true), (romeo, romeo, true), (juliet, "", true), (juliet, romeo, false)]
    {
        let from = crate::jid::Jid::parse(from).unwrap();
        let message =
            if authzid.is_empty() { "n,,n=romeo,r=abc".into() } else { format!("n,a={authzid},n=romeo,r=abc") };
        with_cx(&Bindings::none(), |cx| {
            let cx = SaslCx { from: Some(&from), offered: Vec::new(), entropy: &mut Fixed, ..*cx };
            let failure = first(ScramHash::Sha1, false, message.as_bytes(), &cx).err();
            assert_eq!(failure, (!right).then_some(Failure::InvalidAuthzid), "{from} {authzid}");
        });
    }
}

#[test]
fn names_are_unescaped() {
    assert_eq!(unescape("a=2Cb=3Dc").as_deref(), Ok("a,b=c"));
    assert_eq!(unescape("=3D2C").as_deref(), Ok("=2C"), "once");
    assert_eq!(unescape("plain").as_deref(), Ok("plain"));
}

#[test]
fn malformed_final_messages() {
    for message in [
        "",
        "c=biws",
        "c=biws,r=abcAAAAAAAAAAAAAAAAAAAAAAAA",
        "r=abcAAAAAAAAAAAAAAAAAAAAAAAA,c=biws,p=AAAA",
        "c=biws,p=AAAA",
        "c=b!ws,r=abcAAAAAAAAAAAAAAAAAAAAAAAA,p=AAAA",
        "c=biws,r=abcAAAAAAAAAAAAAAAAAAAAAAAA,p=",
        "c=biws,r=abcAAAAAAAAAAAAAAAAAAAAAAAA,p=AAAA",
        "c=biws,r=abcAAAAAAAAAAAAAAAAAAAAAAAA,p=A",
        "c=biws,r=abcAAAAAAAAAAAAAAAAAAAAAAAA,m=x,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "c=biws,r=abcAAAAAAAAAAAAAAAAAAAAAAAA,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,x=1",
    ] {
        with_cx(&Bindings::none(), |cx| {
            let (state, _) = first(ScramHash::Sha256, false, b"n,,n=romeo,r=abc", cx).unwrap();
            let (state, _) = state.keys(None, cx);
            assert_eq!(state.message(message.as_bytes()), Err(Failure::MalformedRequest), "{message}");
        });
    }
}

#[test]
fn without_an_initial_message_the_client_is_asked_for_it() {
    with_cx(&Bindings::none(), |cx| {
        let Step::Challenge(state, message) = start(Mechanism::ScramSha1, None, cx) else { panic!() };
        assert!(message.is_empty());
        let Step::NeedKeys(_, user) = state.response(b"n,,n=romeo,r=abc", cx) else { panic!() };
        assert_eq!(user, "romeo");
    });
}

//! Logins: the messages of the mechanisms, and the elements of SASL and SASL2 around them. Nobody here knows a
//! password, so nobody gets in; and an account that exists is not told from one that does not.

use couplet::clock::Entropy;
use couplet::limits::Limits;
use couplet::stream::sasl::{self, Bindings, HashJob, HashOutcome, Ht, Mechanism, SaslCx, Step, Token, Tokens, keys};
use couplet::stream::sasl::{ScramKeys, StoredKeys};
use couplet::stream::{C2s, Event, Options, StreamCx, TlsFacts};
use couplet::xml::Reader;

/// All that is unguessable is the same.
struct Sevens;

impl Entropy for Sevens {
    fn fill(&mut self, out: &mut [u8]) {
        out.fill(7);
    }
}

/// Keys that no password has.
fn stored() -> StoredKeys {
    let keys = |len| ScramKeys { salt: vec![1; 16], iterations: 1, stored_key: vec![9; len], server_key: vec![8; len] };
    StoredKeys { sha1: Some(keys(20)), sha256: Some(keys(32)) }
}

fn tokens(exist: bool) -> Tokens {
    let token = || Token { secret: b"no-such".to_vec().into(), mechanism: Ht::Exporter, is_expired: true, count: None };
    Tokens { current: exist.then(token), new: None }
}

fn facts() -> TlsFacts {
    TlsFacts { tls13: true, exporter: Some([5; 32]), end_point: Some(vec![6; 32]), ..TlsFacts::default() }
}

/// The first byte says what is fuzzed; the rest are messages or pieces of a stream that end with 0xFF.
pub fn run(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let [known, unknown] = match first & 0x80 {
        0 => [true, false].map(|exists| exchange(first, rest, exists)),
        _ => [true, false].map(|exists| stream(first, rest, exists)),
    };
    assert_eq!(known, unknown, "an account shows whether it exists");
}

/// What a client is answered, message by message.
fn exchange(first: u8, rest: &[u8], exists: bool) -> Vec<String> {
    const HT: [Mechanism; 3] = [Mechanism::Ht(Ht::Exporter), Mechanism::Ht(Ht::EndPoint), Mechanism::Ht(Ht::Unbound)];
    let mechanism = Mechanism::ALL.into_iter().chain(HT).nth(usize::from(first) % 8).expect("there are eight");
    let bindings = if first & 8 == 0 { Bindings::new(&facts()) } else { Bindings::none() };
    let from = couplet::jid::Jid::parse("juliet@localhost").expect("an address");
    let mut entropy = Sevens;
    let mut cx = SaslCx {
        host: "localhost",
        bindings: &bindings,
        from: (first & 16 != 0).then_some(&from),
        offered: Mechanism::ALL.to_vec(),
        iterations: 1,
        secret: &[3; 32],
        entropy: &mut entropy,
    };
    let mut messages = rest.split(|byte| *byte == 0xFF);
    let mut said = Vec::new();
    let mut step = sasl::start(mechanism, (first & 32 == 0).then(|| messages.next().unwrap_or_default()), &cx);
    loop {
        step = match step {
            Step::Challenge(waiting, message) => {
                // All but the salt, which nobody can tell from another.
                let text = String::from_utf8_lossy(&message);
                let parts: Vec<&str> = text.split(',').filter(|part| !part.starts_with("s=")).collect();
                said.push(format!("{} {}", text.len(), parts.join(",")));
                let Some(message) = messages.next() else { return said };
                waiting.response(message, &cx)
            }
            Step::NeedKeys(waiting, _) => waiting.keys(exists.then(stored), &mut cx),
            Step::NeedTokens(waiting, _) => waiting.tokens(&tokens(exists), Some(u32::from(first))).0,
            Step::Verify(waiting, password, work) => {
                let result = keys::run(HashJob { id: 0, password, work });
                waiting.verdict(result.outcome == HashOutcome::Verified(true))
            }
            Step::Done { user, .. } => panic!("{user} is let in"),
            Step::Fail(failure) => {
                said.push(format!("{failure:?}"));
                return said;
            }
        }
    }
}

/// What a client is answered on its stream.
fn stream(first: u8, rest: &[u8], exists: bool) -> Vec<String> {
    let (limits, mut reader, mut entropy) = (Limits::default(), Reader::new(&Limits::default()), Sevens);
    let mut cx = StreamCx {
        hosts: &|host| host == "localhost",
        reader: &mut reader,
        limits: &limits,
        entropy: &mut entropy,
        bind_features: &|_| vec!["urn:xmpp:carbons:2"],
        secret: &[3; 32],
    };
    let options = Options {
        direct_tls: true,
        #[cfg(feature = "compression")]
        compression: true,
        starttls: false,
        encryption_required: true,
        plain_allowed: first & 8 == 0,
        sasl2: first & 16 == 0,
        fast: first & 32 == 0,
        iterations: 1,
    };
    let mut c2s = C2s::new(options, &limits);
    c2s.facts(&facts());
    c2s.feed(
        b"<stream:stream to='localhost' from='juliet@localhost' version='1.0' xmlns='jabber:client' \
          xmlns:stream='http://etherx.jabber.org/streams'>",
    );
    let mut said = Vec::new();
    for piece in [&[][..]].into_iter().chain(rest.split(|byte| *byte == 0xFF)) {
        c2s.feed(piece);
        while let Some(event) = c2s.next(&mut cx) {
            match event {
                Event::NeedFeatures => c2s.features(&[], &mut cx),
                Event::NeedKeys { .. } => c2s.keys(exists.then(stored), &mut cx),
                Event::NeedTokens { .. } => c2s.tokens(&tokens(exists), &mut cx),
                Event::Hash { password, work } => {
                    let result = keys::run(HashJob { id: 0, password, work });
                    c2s.verified(result.outcome == HashOutcome::Verified(true), None, &mut cx);
                }
                Event::Closed { error } => said.push(format!("{error:?}")),
                // Who it was is for the brake on guessing; the client is not told.
                Event::Refused { .. } => {}
                Event::Ask(_) => return said,
                other => panic!("{other:?} before a login"),
            }
        }
        let output = c2s.take_output();
        // Salts differ, and the digits of a challenge hide them.
        let text = String::from_utf8_lossy(&output);
        match text.contains("<challenge") {
            true => said.push(format!("a challenge of {}", text.len())),
            false => said.push(text.into_owned()),
        }
    }
    assert!(c2s.heap_bytes() <= 4 * limits.stanza_bytes_max_before_auth as usize + rest.len() * 2);
    said
}

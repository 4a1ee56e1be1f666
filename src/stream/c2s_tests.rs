//! Tests of client streams. A [`Play`] is one stream with an engine that answers what it is asked and keeps a log;
//! `says` is the client speaking, and returns what came back: events in brackets, output as it is.

use std::ops::Range;

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{digest, hmac};

use super::*;
use crate::stanza::Condition;
use crate::stream::sasl::StoredKeys;
use crate::stream::sasl::keys::ScramKeys;

struct Fixed;
impl Entropy for Fixed {
    fn fill(&mut self, out: &mut [u8]) {
        out.fill(0);
    }
}

const ID: &str = "AAAAAAAAAAAAAAAAAAAAAAAA";
const CLIENT_KEY: [u8; 32] = [7; 32];
const EXPORTER: [u8; 32] = [0xCB; 32];
const OPTIONS: Options = Options {
    #[cfg(feature = "compression")]
    compression: false,
    direct_tls: false,
    starttls: true,
    encryption_required: true,
    plain_allowed: true,
    sasl2: false,
    fast: true,
    iterations: 4096,
};
const DIRECT: Options = Options { direct_tls: true, ..OPTIONS };
const PLAIN_TEXT: Options = Options { starttls: false, encryption_required: false, ..OPTIONS };
const OPEN: &str = "<?xml version='1.0'?><stream:stream to='example.org' version='1.0' xmlns='jabber:client' \
                    xmlns:stream='http://etherx.jabber.org/streams'>";
const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const BIND: &str = "<iq id='b' type='set'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";
const CLOSE: &str = "</stream:stream>";
const SASL: &str = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'";

fn facts() -> TlsFacts {
    TlsFacts { tls13: true, exporter: Some(EXPORTER), end_point: Some(vec![0xEE; 32]), ..TlsFacts::default() }
}

fn auth(mechanism: &str, message: &str) -> String {
    format!("<auth {SASL} mechanism='{mechanism}'>{}</auth>", STANDARD.encode(message))
}

fn response(message: &str) -> String {
    format!("<response {SASL}>{}</response>", STANDARD.encode(message))
}

/// The account of romeo, whose keys a test can make proofs for.
fn account() -> StoredKeys {
    let stored_key = digest::digest(&digest::SHA256, &CLIENT_KEY).as_ref().to_vec();
    let keys = ScramKeys { salt: vec![1; 16], iterations: 4096, stored_key, server_key: vec![2; 32] };
    StoredKeys { sha1: None, sha256: Some(keys) }
}

/// What XEP-0474 makes of all that is offered.
fn offered() -> String {
    let offered = "PLAIN\x1eSCRAM-SHA-1\x1eSCRAM-SHA-1-PLUS\x1eSCRAM-SHA-256\x1eSCRAM-SHA-256-PLUS\x1f\
                   tls-exporter\x1etls-server-end-point";
    STANDARD.encode(digest::digest(&digest::SHA256, offered.as_bytes()))
}

/// Both messages of a client for SCRAM-SHA-256-PLUS, knowing what our nonce will be.
fn scram(data: &[u8]) -> [String; 2] {
    let header = "p=tls-exporter,,";
    let bare = "n=romeo,r=abc";
    let binding = STANDARD.encode([header.as_bytes(), data].concat());
    let salt = STANDARD.encode([1; 16]);
    let unsigned = format!("c={binding},r=abc{ID}");
    let signed = format!("{bare},r=abc{ID},s={salt},i=4096,h={},{unsigned}", offered());
    let stored_key = digest::digest(&digest::SHA256, &CLIENT_KEY);
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, stored_key.as_ref()), signed.as_bytes());
    let proof: Vec<u8> = CLIENT_KEY.iter().zip(signature.as_ref()).map(|(k, s)| k ^ s).collect();
    [
        auth("SCRAM-SHA-256-PLUS", &format!("{header}{bare}")),
        response(&format!("{unsigned},p={}", STANDARD.encode(proof))),
    ]
}

struct Play {
    c2s: C2s,
    reader: Reader,
    limits: Limits,
    /// Answer questions as they come.
    obliging: bool,
    refused: Vec<Option<String>>,
}

fn play(options: Options) -> Play {
    let limits = Limits::default();
    let mut c2s = C2s::new(options, &limits);
    if options.direct_tls {
        c2s.facts(&facts());
    }
    Play { c2s, reader: Reader::new(&limits), limits, obliging: true, refused: Vec::new() }
}

/// A stream on which romeo has logged in and sent his header.
fn logged_in() -> Play {
    let mut p = play(DIRECT);
    p.says(OPEN);
    p.says(&auth("PLAIN", "\0romeo\0right"));
    p.says(OPEN);
    p
}

fn bound() -> Play {
    let mut p = logged_in();
    assert!(p.says(BIND).contains("<jid>romeo@example.org/res</jid>"));
    p
}

impl Play {
    fn with<T>(&mut self, f: impl FnOnce(&mut C2s, &mut StreamCx<'_>) -> T) -> T {
        f(
            &mut self.c2s,
            &mut StreamCx {
                hosts: &|host| matches!(host, "example.org" | "example.com"),
                reader: &mut self.reader,
                limits: &self.limits,
                entropy: &mut Fixed,
                bind_features: &|_| vec!["urn:x:feature"],
                secret: &[3; 32],
            },
        )
    }

    fn says(&mut self, text: &str) -> String {
        self.c2s.feed(text.as_bytes());
        self.goes_on()
    }

    fn goes_on(&mut self) -> String {
        let mut log = String::new();
        loop {
            let event = self.with(C2s::next);
            log.push_str(str::from_utf8(&self.c2s.take_output()).unwrap());
            let Some(event) = event else { return log };
            // Before a login it comes with every header.
            let is_usual = matches!(event, Event::NeedFeatures) && !self.c2s.is_authenticated();
            if let Event::Refused { user } = &event {
                self.refused.push(user.clone());
            } else if !is_usual {
                log.push_str(&format!("[{event:?}]"));
            }
            if self.obliging {
                self.oblige(event);
            }
        }
    }

    fn oblige(&mut self, event: Event) {
        self.with(|c2s, cx| match event {
            Event::StartTls => c2s.facts(&facts()),
            #[cfg(feature = "compression")]
            Event::Compress => c2s.compressed(false, cx),
            Event::NeedKeys { user } => c2s.keys((user == "romeo").then(account), cx),
            Event::Hash { password, .. } => c2s.verified(password.as_str() == "right", None, cx),
            Event::NeedFeatures if !c2s.is_authenticated() => c2s.features(&[], cx),
            Event::NeedFeatures => c2s.features(&[Element::empty(ns::ROSTER_VERSIONING, "ver")], cx),
            Event::Bind { resource } => {
                let resource = resource.unwrap_or_else(|| "res".into());
                c2s.bound(&Jid::from_parts(c2s.user(), c2s.host().unwrap(), Some(&resource)).unwrap());
            }
            Event::Resume { previd, h } if previd == "known" => {
                c2s.resumed(&Jid::from_parts(c2s.user(), c2s.host().unwrap(), Some("res")).unwrap(), &previd, h.into());
            }
            Event::Resume { .. } => c2s.refuse_resume(Condition::ItemNotFound, Some(7)),
            Event::Ask(iq) => c2s.asked(&Stanza::read(iq).unwrap().result(|_| {})),
            Event::NeedTokens { user, client } => c2s.tokens(&login::tokens(&user, &client), cx),
            Event::Admit(admission) => c2s.admitted(login::token_for(&admission), cx.limits),
            Event::BindInline { request, client } => login::bind(c2s, &request, client, cx.limits),
            Event::Authenticated { .. } | Event::Refused { .. } | Event::Element(_) | Event::Closed { .. } => {}
        });
    }

    fn fails(&mut self, error: StreamError, text: Option<&str>) -> String {
        self.c2s.fail(error, text, &mut Fixed);
        String::from_utf8(self.c2s.take_output()).unwrap()
    }
}

fn header(to: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
         id='{ID}' from='example.org'{to} version='1.0' xml:lang='en'>"
    )
}

fn error(condition: &str) -> String {
    format!("<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>")
}

/// True when the stream ended with this error, once, and nothing came behind it.
fn ended_with(log: &str, condition: StreamError) -> bool {
    log.contains(&error(condition.condition()))
        && log.ends_with(&format!("</stream:error></stream:stream>[Closed(Some({condition:?}))]"))
        && log.matches(CLOSE).count() == 1
}

fn failure(condition: &str) -> String {
    format!("<failure {SASL}><{condition}/></failure>")
}

const BEFORE_TLS: &str = "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>\
    <limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>10000</max-bytes></limits></stream:features>";
const UNDER_TLS: &str = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
    <mechanism>SCRAM-SHA-256-PLUS</mechanism><mechanism>SCRAM-SHA-256</mechanism>\
    <mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism>SCRAM-SHA-1</mechanism><mechanism>PLAIN</mechanism></mechanisms>\
    <sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-exporter'/>\
    <channel-binding type='tls-server-end-point'/></sasl-channel-binding>\
    <limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>10000</max-bytes></limits></stream:features>";
const AFTER_AUTH: &str = "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>\
    <session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session>\
    <ver xmlns='urn:xmpp:features:rosterver'/>\
    <limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>262144</max-bytes></limits></stream:features>";

#[test]
fn from_the_first_byte_to_the_last() {
    let mut p = play(OPTIONS);
    let bare_header = header("");
    assert_eq!(p.says(OPEN), format!("{bare_header}{BEFORE_TLS}"));
    assert_eq!(p.says(STARTTLS), "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>[StartTls]");
    let from = OPEN.replace("to=", "from='Romeo@example.org/x' xml:lang='it' to=");
    assert_eq!(p.says(&from), format!("{}{UNDER_TLS}", header(" to='romeo@example.org'")));
    assert_eq!((p.c2s.host(), p.c2s.user(), p.c2s.lang().map(|l| &**l)), (Some("example.org"), None, Some("it")));
    let [first, last] = scram(&EXPORTER);
    let challenge = STANDARD.encode(format!("r=abc{ID},s={},i=4096,h={}", STANDARD.encode([1; 16]), offered()));
    assert_eq!(p.says(&first), format!("[NeedKeys(\"romeo\")]<challenge {SASL}>{challenge}</challenge>"));
    let log = p.says(&last);
    assert!(log.starts_with(&format!("<success {SASL}>dj")) && log.ends_with("</success>[Authenticated(\"romeo\")]"));
    assert!(p.c2s.is_authenticated());
    assert_eq!(p.says(OPEN), format!("{bare_header}[NeedFeatures]{AFTER_AUTH}"));
    let result = "<iq id='b' type='result'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
                  <jid>romeo@example.org/res</jid></bind></iq>";
    assert_eq!(p.says(BIND), format!("[Bind(None)]{result}"));
    assert!(p.c2s.is_bound() && p.c2s.is_authenticated());
    assert_eq!((p.c2s.host(), p.c2s.user()), (Some("example.org"), Some("romeo")));
    assert_eq!(
        p.says("<message/> <r xmlns='urn:xmpp:sm:3'/>\n<presence/>"),
        "[Element(message)][Element(r)][Element(presence)]"
    );
    assert_eq!(p.says("</stream:stream>"), "</stream:stream>[Closed(None)]");
    assert!(p.c2s.is_closed() && !p.c2s.is_bound());
    assert_eq!(p.says("<message/></stream:stream>"), "");
    assert_eq!(p.c2s.heap_bytes(), 0);
}

#[test]
fn however_the_input_is_cut() {
    let [first, last] = scram(&EXPORTER);
    let all = [OPEN, &first, &last, OPEN, BIND, "<message><body>&lt;é</body></message> <presence/>", CLOSE].concat();
    let run = |cut: &mut dyn FnMut() -> Range<usize>| {
        let mut p = play(DIRECT);
        let mut log = String::new();
        let mut at = 0;
        while at < all.len() {
            let end = (at + cut().len()).min(all.len());
            p.c2s.feed(&all.as_bytes()[at..end]);
            log.push_str(&p.goes_on());
            at = end;
        }
        log
    };
    let whole = run(&mut || 0..all.len());
    assert!(whole.ends_with("[Element(message)][Element(presence)]</stream:stream>[Closed(None)]"), "{whole}");
    for size in [1, 2, 3, 7, 100] {
        assert_eq!(run(&mut || 0..size), whole, "{size} bytes at a time");
    }
}

#[test]
fn what_is_offered() {
    let mechanisms = |log: &str| {
        let names: Vec<_> =
            log.split("<mechanism>").skip(1).filter_map(|m| m.split('<').next().map(str::to_owned)).collect();
        names.join(" ")
    };
    let log = play(PLAIN_TEXT).says(OPEN);
    assert_eq!(mechanisms(&log), "SCRAM-SHA-256 SCRAM-SHA-1");
    assert!(!log.contains("starttls") && !log.contains("sasl-cb"));
    let log = play(Options { starttls: true, ..PLAIN_TEXT }).says(OPEN);
    assert_eq!(mechanisms(&log), "SCRAM-SHA-256 SCRAM-SHA-1");
    assert!(log.contains("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"));
    let log = play(Options { plain_allowed: false, ..DIRECT }).says(OPEN);
    assert_eq!(mechanisms(&log), "SCRAM-SHA-256-PLUS SCRAM-SHA-256 SCRAM-SHA-1-PLUS SCRAM-SHA-1");
    assert!(!log.contains("starttls"));
    let mut p = play(DIRECT);
    p.c2s.facts(&TlsFacts::default());
    let log = p.says(OPEN);
    assert_eq!(mechanisms(&log), "SCRAM-SHA-256 SCRAM-SHA-1 PLAIN");
    assert!(!log.contains("sasl-cb"));
}

#[test]
fn nothing_may_stand_behind_starttls() {
    for behind in [" ", "<", STARTTLS, "\x16\x03\x01"] {
        let mut p = play(OPTIONS);
        p.says(OPEN);
        let log = p.says(&format!("{STARTTLS}{behind}"));
        assert!(!log.contains("proceed") && log.contains("policy-violation") && p.c2s.is_closed(), "{log}");
    }
    // Bytes that come before TLS stands belong to TLS: the shell must not have fed them.
    let mut p = play(OPTIONS);
    p.says(OPEN);
    p.obliging = false;
    p.says(STARTTLS);
    assert!(p.c2s.is_asking());
    assert_eq!(p.says("<auth/>"), "[Closed(Some(PolicyViolation))]", "in plain nothing is said any more");
    assert!(p.c2s.is_closed());
    p.c2s.facts(&facts());
    assert_eq!(p.says(OPEN), "");
}

#[test]
fn an_account_is_asked_for_where_a_login_can_be_had() {
    let ask = "<iq type='get' id='r'><query xmlns='jabber:iq:register'/></iq>";
    let mut p = play(OPTIONS);
    p.says(OPEN);
    let log = p.says(ask);
    assert!(ended_with(&log, StreamError::NotAuthorized), "not in plain: {log}");
    let mut p = play(DIRECT);
    p.c2s.facts(&facts());
    p.says(OPEN);
    assert_eq!(p.says(ask), "[Ask]<iq id='r' type='result'/>");
    p.obliging = false;
    assert_eq!(p.says(ask), "[Ask]");
    assert!(p.c2s.is_asking(), "one after another");
    assert_eq!(p.says(ask), "");
}

#[test]
fn starttls_that_cannot_be_had_fails_and_closes() {
    for options in [PLAIN_TEXT, DIRECT] {
        let mut p = play(options);
        p.says(OPEN);
        let expected = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>[Closed(None)]";
        assert_eq!(p.says(STARTTLS), expected);
    }
}

#[test]
fn what_was_said_in_plain_is_forgotten_under_tls() {
    let mut p = play(Options { encryption_required: false, ..OPTIONS });
    p.says(OPEN);
    assert_eq!(p.says(&auth("SCRAM-SHA-1", "n,,n=romeo,r=abc")).matches("challenge").count(), 2);
    assert!(p.says(STARTTLS).contains("unsupported-stanza-type"), "not in the middle of a login");
    let mut p = play(OPTIONS);
    p.says(&OPEN.replace("example.org", "example.com"));
    p.says(STARTTLS);
    p.says(OPEN);
    assert_eq!(p.c2s.host(), Some("example.org"));
}

#[test]
fn headers_that_are_refused() {
    let open = |from: &str, to: &str| OPEN.replace(from, to);
    for (text, condition) in [
        (open("to='example.org'", ""), StreamError::ImproperAddressing),
        (open("to='example.org'", "to=''"), StreamError::ImproperAddressing),
        (open("to='example.org'", "to='romeo@example.org'"), StreamError::ImproperAddressing),
        (open("to='example.org'", "to='example.org/x'"), StreamError::ImproperAddressing),
        (open("to='example.org'", "to='example.net'"), StreamError::HostUnknown),
        (open(" version='1.0' xmlns=", " xmlns="), StreamError::UnsupportedVersion),
        (open("to='example.org' version='1.0'", "to='example.org' version='0.9'"), StreamError::UnsupportedVersion),
        (open("to='example.org' version='1.0'", "to='example.org' version='x'"), StreamError::UnsupportedVersion),
        (open("'jabber:client'", "'jabber:server'"), StreamError::InvalidNamespace),
        (open("etherx", "ether"), StreamError::InvalidNamespace),
        (open("stream:", "s:").replace(":stream=", ":s="), StreamError::BadNamespacePrefix),
        (
            "<stream to='example.org' version='1.0' xmlns='http://etherx.jabber.org/streams'>".into(),
            StreamError::BadNamespacePrefix,
        ),
        (open("stream:stream", "stream:features"), StreamError::BadFormat),
        ("<stream:stream to='example.org'>".into(), StreamError::NotWellFormed),
        ("<message/>".into(), StreamError::NotWellFormed),
        ("GET / HTTP/1.1".into(), StreamError::NotWellFormed),
        ("<!DOCTYPE x><stream:stream>".into(), StreamError::RestrictedXml),
        ("<?xml version='1.0' encoding='ISO-8859-1'?>".into(), StreamError::UnsupportedEncoding),
    ] {
        let log = play(OPTIONS).says(&text);
        assert!(ended_with(&log, condition), "{text}\n{log}");
        let plain = header("").replace(" from='example.org'", "");
        assert!(log.starts_with(&plain) && log.matches("<stream:stream").count() == 1, "{log}");
    }
}

#[test]
fn headers_that_are_accepted() {
    for text in [
        OPEN.replace("to='example.org' version='1.0'", "to='EXAMPLE.org' version='1.1'"),
        OPEN.replace("<?xml version='1.0'?>", "\n"),
        OPEN.replace(" xmlns='jabber:client'", ""),
        OPEN.replace("to=", "from='@@' xml:lang='not a language' to="),
    ] {
        let mut p = play(OPTIONS);
        assert_eq!(p.says(&text), format!("{}{BEFORE_TLS}", header("")));
        assert_eq!((p.c2s.host(), p.c2s.lang()), (Some("example.org"), None));
    }
}

#[test]
fn logins_that_fail() {
    let abort = format!("<abort {SASL}/>");
    let right = "\0romeo\0right";
    for (options, said, condition) in [
        (DIRECT, auth("PLAIN", "\0romeo\0wrong"), "not-authorized"),
        (DIRECT, auth("PLAIN", "\0nobody\0wrong"), "not-authorized"),
        (DIRECT, auth("PLAIN", "juliet@example.org\0romeo\0right"), "invalid-authzid"),
        (DIRECT, auth("PLAIN", "romeo"), "malformed-request"),
        (DIRECT, auth("DIGEST-MD5", ""), "invalid-mechanism"),
        (DIRECT, auth("", right), "invalid-mechanism"),
        (DIRECT, format!("<auth {SASL}/>"), "invalid-mechanism"),
        (DIRECT, format!("<auth {SASL} mechanism='PLAIN'>AHI</auth>"), "incorrect-encoding"),
        (DIRECT, format!("<auth {SASL} mechanism='PLAIN'>=</auth>"), "malformed-request"),
        (DIRECT, auth("SCRAM-SHA-256", "y,,n=romeo,r=abc"), "malformed-request"),
        (DIRECT, abort.clone(), "aborted"),
        (DIRECT, response(right), "malformed-request"),
        (OPTIONS, auth("PLAIN", right), "encryption-required"),
        (OPTIONS, auth("SCRAM-SHA-1", "n,,n=romeo,r=abc"), "encryption-required"),
        (PLAIN_TEXT, auth("PLAIN", right), "encryption-required"),
        (PLAIN_TEXT, scram(&EXPORTER)[0].clone(), "invalid-mechanism"),
        (Options { plain_allowed: false, ..DIRECT }, auth("PLAIN", right), "invalid-mechanism"),
    ] {
        let mut p = play(options);
        p.says(OPEN);
        let log = p.says(&said);
        assert!(log.ends_with(&failure(condition)), "{said}\n{log}");
        assert!(!p.c2s.is_authenticated());
    }
    // In the middle of an exchange.
    for (said, condition) in [
        (abort, "aborted"),
        (response("c=biws"), "malformed-request"),
        (scram(&[0; 32])[1].clone(), "not-authorized"),
        (auth("PLAIN", right), "malformed-request"),
        (format!("<response {SASL}>%</response>"), "incorrect-encoding"),
    ] {
        let mut p = play(DIRECT);
        p.says(OPEN);
        assert!(p.says(&scram(&EXPORTER)[0]).contains("<challenge"));
        assert_eq!(p.says(&said), failure(condition));
        assert!(p.says(&auth("PLAIN", right)).contains("<success"), "a new try is free");
    }
}

#[test]
fn an_empty_challenge_asks_for_the_first_message() {
    let mut p = play(DIRECT);
    p.says(OPEN);
    assert_eq!(p.says(&format!("<auth {SASL} mechanism='PLAIN'/>")), format!("<challenge {SASL}/>"));
    let log = p.says(&response("\0romeo\0right"));
    assert_eq!(log, format!("[NeedKeys(\"romeo\")][Hash]<success {SASL}/>[Authenticated(\"romeo\")]"));
}

#[test]
fn the_last_try() {
    let mut p = play(DIRECT);
    p.says(OPEN);
    let wrong = auth("PLAIN", "\0romeo\0wrong");
    assert!(p.says(&wrong).ends_with(&failure("not-authorized")));
    assert!(p.says(&wrong).ends_with(&failure("not-authorized")));
    let log = p.says(&wrong);
    assert!(log.contains(&failure("not-authorized")) && log.ends_with("[Closed(Some(PolicyViolation))]"), "{log}");
    assert_eq!(p.refused, vec![Some("romeo".to_string()); 3], "each is told, the last one too");
    assert_eq!(p.says(&auth("PLAIN", "\0romeo\0right")), "");
    // The count does not start again with TLS.
    let mut p = play(Options { encryption_required: false, ..OPTIONS });
    p.says(OPEN);
    p.says(&wrong);
    p.says(&wrong);
    p.says(STARTTLS);
    p.says(OPEN);
    assert!(p.says(&wrong).ends_with("[Closed(Some(PolicyViolation))]"));
}

#[test]
fn logins_that_the_engine_refuses() {
    for event in ["[NeedKeys(\"romeo\")]", "[NeedKeys(\"romeo\")][Hash]"] {
        let mut p = play(DIRECT);
        p.says(OPEN);
        p.obliging = false;
        let mut log = p.says(&auth("PLAIN", "\0romeo\0right"));
        if event.ends_with("[Hash]") {
            p.with(|c2s, cx| c2s.keys(Some(account()), cx));
            log += &p.goes_on();
        }
        assert_eq!(log, event);
        assert!(p.c2s.is_asking());
        p.with(|c2s, cx| c2s.refuse_login(Failure::TemporaryAuthFailure, cx));
        assert_eq!(p.goes_on(), failure("temporary-auth-failure"));
        assert!(!p.c2s.is_asking());
    }
}

#[test]
fn input_waits_for_an_answer_and_not_without_bound() {
    let mut p = play(DIRECT);
    p.says(OPEN);
    p.obliging = false;
    p.says(&auth("PLAIN", "\0romeo\0right"));
    assert_eq!(p.says(&format!("{OPEN}{BIND}")), "", "pipelined");
    p.obliging = true;
    p.with(|c2s, cx| c2s.keys(Some(account()), cx));
    let log = p.goes_on();
    assert!(log.contains("[NeedFeatures]") && log.ends_with("</iq>"), "{log}");

    let mut p = play(DIRECT);
    p.says(OPEN);
    p.obliging = false;
    p.says(&auth("PLAIN", "\0romeo\0right"));
    assert_eq!(p.says(&" ".repeat(10_000)), "");
    assert!(p.says(" ").ends_with("</stream:error></stream:stream>[Closed(Some(PolicyViolation))]"));
}

#[test]
fn answers_that_nobody_asked_for_change_nothing() {
    let mut p = play(DIRECT);
    let answer_all = |p: &mut Play| {
        p.with(|c2s, cx| {
            c2s.keys(Some(account()), cx);
            c2s.verified(true, None, cx);
            c2s.refuse_login(Failure::NotAuthorized, cx);
            c2s.features(&[], cx);
            c2s.bound(&Jid::parse("romeo@example.org/x").unwrap());
            c2s.refuse_bind(&Condition::Conflict.into());
        });
        assert_eq!(p.goes_on(), "");
        assert!(!p.c2s.is_authenticated() && !p.c2s.is_bound());
    };
    answer_all(&mut p);
    p.says(OPEN);
    answer_all(&mut p);
    p.c2s.facts(&TlsFacts::default());
    p.says(&scram(&EXPORTER)[0]);
    answer_all(&mut p);
    assert!(p.says(&scram(&EXPORTER)[1]).contains("<success"), "and the bindings are those of the header");
}

#[test]
fn elements_out_of_turn() {
    use StreamError::{NotAuthorized, NotWellFormed, UnsupportedStanzaType};
    let early = |mut p: Play, said: &str, condition| {
        let log = p.says(said);
        assert!(ended_with(&log, condition), "{said}\n{log}");
    };
    let stranger = || {
        let mut p = play(DIRECT);
        p.says(OPEN);
        p
    };
    for said in ["<message/>", "<presence/>", BIND, "<iq type='get' id='a'><query xmlns='jabber:iq:auth'/></iq>"] {
        early(stranger(), said, NotAuthorized);
    }
    for said in ["<foo/>", "<r xmlns='urn:xmpp:sm:3'/>", "<stream:features/>", &format!("<success {SASL}/>"), OPEN] {
        let condition = if said == OPEN { StreamError::RestrictedXml } else { UnsupportedStanzaType };
        early(stranger(), said, condition);
    }
    for said in ["<message/>", "<presence/>", "<iq type='get' id='a'><ping xmlns='urn:xmpp:ping'/></iq>"] {
        early(logged_in(), said, NotAuthorized);
    }
    for said in ["<foo/>", "<stream:features/>", STARTTLS, &auth("PLAIN", "\0romeo\0right")] {
        early(logged_in(), said, UnsupportedStanzaType);
    }
    assert_eq!(logged_in().says("<x xmlns='urn:example:x'/>"), "[Element(x)]");
    early(bound(), "<message><body></message></body>", NotWellFormed);
    early(bound(), "text", StreamError::BadFormat);
    early(bound(), "<!-- comment -->", StreamError::RestrictedXml);
    early(bound(), "</stream:features>", NotWellFormed);
}

#[test]
fn a_session_goes_on_in_the_place_of_binding() {
    let mut p = logged_in();
    assert!(p.says("<enable xmlns='urn:xmpp:sm:3'/>").contains("<unexpected-request "));
    assert!(p.says("<resume xmlns='urn:xmpp:sm:3' h='1'/>").contains("<bad-request "));
    let refused = p.says("<resume xmlns='urn:xmpp:sm:3' previd='other' h='1'/>");
    assert!(refused.contains("<failed xmlns='urn:xmpp:sm:3' h='7'><item-not-found "), "{refused}");
    let resumed = p.says("<resume xmlns='urn:xmpp:sm:3' previd='known' h='3'/><message/>");
    assert!(resumed.contains("<resumed xmlns='urn:xmpp:sm:3' previd='known' h='3'/>"), "{resumed}");
    assert!(resumed.ends_with("[Element(message)]"), "{resumed}");
    p.c2s.handled_too_high(3, 2);
    assert!(p.c2s.is_closed() && !p.c2s.is_bound());
}

#[test]
fn the_second_header_must_name_the_host_of_the_login() {
    let mut p = play(DIRECT);
    p.says(OPEN);
    p.says(&auth("PLAIN", "\0romeo\0right"));
    let log = p.says(&OPEN.replace("example.org", "example.com"));
    assert!(log.starts_with(&header("")) && ended_with(&log, StreamError::NotAuthorized), "{log}");
}

#[test]
fn binding() {
    let bind = |attributes: &str, resource: &str| {
        format!("<iq {attributes}><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>{resource}</bind></iq>")
    };
    let mut p = logged_in();
    for (attributes, resource) in [
        ("type='set'", "<resource>a</resource>".to_owned()),
        ("type='get' id='b'", String::new()),
        ("type='set' id='b'", format!("<resource>{}</resource>", "a".repeat(1024))),
        ("type='set' id='b'", "<resource>&#x202A;</resource>".to_owned()),
    ] {
        let log = p.says(&bind(attributes, &resource));
        assert!(log.starts_with("<iq ") && log.contains("<bad-request "), "{log}");
    }
    p.obliging = false;
    let log = p.says(&bind("type='set' id='b&amp;'", "<resource>balcony</resource>"));
    assert_eq!(log, "[Bind(Some(\"balcony\"))]");
    p.c2s.refuse_bind(&Condition::Conflict.into());
    assert_eq!(
        p.goes_on(),
        "<iq id='b&amp;' type='error'><error type='cancel'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
         </error></iq>"
    );
    assert_eq!(p.says(&bind("type='set' id='c'", "<resource/>")), "[Bind(None)]");
    p.c2s.bound(&Jid::parse("romeo@example.org/orchard").unwrap());
    assert!(p.goes_on().contains("<jid>romeo@example.org/orchard</jid>"));
    assert_eq!(p.says(BIND), "[Element(iq)]", "a second resource is the engine's business");
}

#[test]
fn streams_end_once() {
    let mut p = bound();
    p.c2s.close();
    p.c2s.close();
    assert_eq!(p.goes_on(), CLOSE);
    assert_eq!(p.says("<message/>"), "", "dropped");
    assert_eq!(p.says(CLOSE), "[Closed(None)]");
    assert_eq!(p.fails(StreamError::Conflict, None), "");

    let mut p = bound();
    p.c2s.close();
    p.goes_on();
    assert_eq!(p.says("<<"), "[Closed(None)]", "broken, but we have said goodbye");

    let mut p = bound();
    let log =
        p.says("<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>");
    assert_eq!(log, "</stream:stream>[Closed(None)]");

    let mut p = play(DIRECT);
    p.c2s.close();
    assert_eq!(p.goes_on(), "[Closed(None)]", "nothing was opened");
}

#[test]
fn the_engine_ends_a_stream_with_an_error() {
    let mut p = bound();
    let expected = format!("{}</stream:error>{CLOSE}", error("conflict"));
    assert_eq!(p.fails(StreamError::Conflict, None), expected);
    assert!(p.c2s.is_closed() && !p.c2s.is_bound());
    assert_eq!(p.fails(StreamError::Conflict, None), "");
    assert_eq!(p.says("<message/>"), "");

    let log = play(OPTIONS).fails(StreamError::ConnectionTimeout, Some("too slow"));
    assert!(log.starts_with("<?xml version='1.0'?><stream:stream ") && log.contains("too slow</text>"), "{log}");
    assert!(!log.contains("from="));
}

#[path = "bounds_tests.rs"]
mod bounds;
#[path = "login_tests.rs"]
mod login;

//! Tests of SASL2 and of what comes with it, on the plays of client streams.

use super::*;
use crate::stream::Admission;
use crate::stream::sasl::StoredKeys;
use crate::stream::sasl::{Ht, ScramHash, Slot, Token, Tokens};
use crate::stream::{IssuedToken, UserAgent};
use zeroize::Zeroizing;

const SASL2: &str = "xmlns='urn:xmpp:sasl:2'";
const MODERN: Options = Options { sasl2: true, ..DIRECT };
const FEATURES: &str = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
    <mechanism>SCRAM-SHA-256-PLUS</mechanism><mechanism>SCRAM-SHA-256</mechanism>\
    <mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism>SCRAM-SHA-1</mechanism><mechanism>PLAIN</mechanism></mechanisms>\
    <authentication xmlns='urn:xmpp:sasl:2'>\
    <mechanism>SCRAM-SHA-256-PLUS</mechanism><mechanism>SCRAM-SHA-256</mechanism>\
    <mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism>SCRAM-SHA-1</mechanism><mechanism>PLAIN</mechanism>\
    <inline><sm xmlns='urn:xmpp:sm:3'/><bind xmlns='urn:xmpp:bind:0'><inline><feature var='urn:x:feature'/>\
    <feature var='urn:xmpp:sm:3'/></inline></bind><fast xmlns='urn:xmpp:fast:0'>\
    <mechanism>HT-SHA-256-EXPR</mechanism><mechanism>HT-SHA-256-ENDP</mechanism><mechanism>HT-SHA-256-NONE</mechanism>\
    </fast></inline><upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-SHA-256</upgrade></authentication>\
    <sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-exporter'/>\
    <channel-binding type='tls-server-end-point'/></sasl-channel-binding>\
    <limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>10000</max-bytes></limits></stream:features>";
const BOUND_FEATURES: &str = "<stream:features><ver xmlns='urn:xmpp:features:rosterver'/>\
    <limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>262144</max-bytes></limits></stream:features>";

/// The token `secret` of Romeo's client `phone`, for any mechanism without binding.
pub fn tokens(user: &str, client: &str) -> Tokens {
    let secret = Zeroizing::new(b"secret".to_vec());
    let token = Token { secret, mechanism: Ht::Unbound, is_expired: false, count: Some(3) };
    Tokens { new: (user == "romeo" && client == "phone").then_some(token), current: None }
}

pub fn token_for(admission: &Admission) -> Option<IssuedToken> {
    admission.request_token.map(|ht| IssuedToken { token: ht.name().into(), expiry: "E".into() })
}

pub fn bind(c2s: &mut C2s, request: &Element, client: Option<String>, limits: &Limits) {
    assert!(request.root().is(ns::BIND2, "bind"));
    let jid = Jid::from_parts(c2s.user(), c2s.host().unwrap(), Some(client.as_deref().unwrap_or("res"))).unwrap();
    c2s.bound_inline(&jid, b"<x/>", &[Element::empty(ns::ROSTER_VERSIONING, "ver")], limits);
}

fn authenticate(mechanism: &str, message: impl AsRef<[u8]>, wishes: &str) -> String {
    let initial = STANDARD.encode(message);
    format!(
        "<authenticate {SASL2} mechanism='{mechanism}'><initial-response>{initial}</initial-response>{wishes}\
         </authenticate>"
    )
}

fn right(wishes: &str) -> String {
    authenticate("PLAIN", "\0romeo\0right", wishes)
}

fn with_token(secret: &str, wishes: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let proof = hmac::sign(&key, b"Initiator");
    authenticate("HT-SHA-256-NONE", [b"romeo\0", proof.as_ref()].concat(), wishes)
}

fn success(inner: &str) -> String {
    format!("<success {SASL2}>{inner}</success>")
}

fn failure(condition: &str) -> String {
    format!("<failure {SASL2}><{condition} {SASL}/></failure>")
}

fn modern() -> Play {
    let mut p = play(MODERN);
    assert_eq!(p.says(OPEN), format!("{}{FEATURES}", header("")));
    p
}

const ASKED: &str = "[NeedKeys(\"romeo\")][Hash][Admit(\"romeo\")]";
const PHONE: &str = "<user-agent id='phone'/>";
const FAST: &str = "<fast xmlns='urn:xmpp:fast:0'/>";

#[test]
fn a_login_alone_needs_no_new_header() {
    let mut p = modern();
    let done = success("<authorization-identifier>romeo@example.org</authorization-identifier>");
    assert_eq!(p.says(&right("")), format!("{ASKED}{done}[NeedFeatures]{AFTER_AUTH}"));
    assert!(p.says(BIND).contains("<jid>romeo@example.org/res</jid>"));
    assert!(p.c2s.is_bound());
}

#[test]
fn sasl2_is_offered_under_tls_alone_and_can_be_switched_off() {
    for options in [PLAIN_TEXT, OPTIONS, DIRECT] {
        let mut p = play(Options { sasl2: options.starttls, ..options });
        let log = p.says(OPEN);
        assert!(!log.contains("urn:xmpp:sasl:2") || options.direct_tls, "{log}");
    }
    let mut p = play(DIRECT);
    assert!(!p.says(OPEN).contains("urn:xmpp:sasl:2"));
    assert!(ended_with(&p.says(&right("")), StreamError::UnsupportedStanzaType));
    let mut p = play(Options { fast: false, ..MODERN });
    assert!(!p.says(OPEN).contains("urn:xmpp:fast:0"));
    assert_eq!(p.says(&with_token("secret", &format!("{PHONE}{FAST}"))), failure("malformed-request"));
    let log = p.says(&right(&format!("{PHONE}<request-token xmlns='urn:xmpp:fast:0' mechanism='HT-SHA-256-NONE'/>")));
    assert!(log.contains("<success") && !log.contains("<token"), "{log}");
}

#[test]
fn scram_in_the_elements_of_sasl2() {
    let [first, last] = scram(&EXPORTER);
    let mut p = modern();
    let message = |xml: &str| xml.split_once('>').unwrap().1.split_once('<').unwrap().0.to_owned();
    let challenge = p.says(&format!(
        "<authenticate {SASL2} mechanism='SCRAM-SHA-256-PLUS'><initial-response>{}</initial-response></authenticate>",
        message(&first)
    ));
    assert!(challenge.starts_with(&format!("[NeedKeys(\"romeo\")]<challenge {SASL2}>")), "{challenge}");
    let log = p.says(&format!("<response {SASL2}>{}</response>", message(&last)));
    assert!(log.starts_with(&format!("[Admit(\"romeo\")]<success {SASL2}><additional-data>")), "{log}");
    assert!(log.contains("</additional-data><authorization-identifier>romeo@example.org</authorization-identifier>"));
}

#[test]
fn the_client_speaks_first_even_if_it_is_asked() {
    let mut p = modern();
    assert_eq!(p.says(&format!("<authenticate {SASL2} mechanism='PLAIN'/>")), format!("<challenge {SASL2}/>"));
    let response = STANDARD.encode("\0romeo\0right");
    assert!(p.says(&format!("<response {SASL2}>{response}</response>")).contains("<success"));
}

#[test]
fn a_resource_in_the_same_round_trip() {
    let mut p = modern();
    let bound = "<bound xmlns='urn:xmpp:bind:0'><x/></bound>";
    let done = success(&format!("<authorization-identifier>romeo@example.org/phone</authorization-identifier>{bound}"));
    let log = p.says(&right(&format!("{PHONE}<bind xmlns='urn:xmpp:bind:0'/>")));
    assert_eq!(log, format!("{ASKED}[BindInline]{done}{BOUND_FEATURES}"));
    assert!(p.c2s.is_bound());
    assert!(p.says(&right("")).contains("[Element(authenticate)]"), "the engine refuses what is no stanza");
}

#[test]
fn a_former_session_in_the_same_round_trip() {
    let resume =
        |previd| format!("<bind xmlns='urn:xmpp:bind:0'/><resume xmlns='urn:xmpp:sm:3' previd='{previd}' h='5'/>");
    let mut p = modern();
    let resumed = "<resumed xmlns='urn:xmpp:sm:3' previd='known' h='5'/>";
    let done = success(&format!("<authorization-identifier>romeo@example.org/res</authorization-identifier>{resumed}"));
    assert_eq!(p.says(&right(&resume("known"))), format!("{ASKED}[Resume(\"known\", 5)]{done}"));
    assert!(p.c2s.is_bound(), "and no features follow");

    let mut p = modern();
    let log = p.says(&right(&resume("gone")));
    assert!(
        log.contains(
            "<failed xmlns='urn:xmpp:sm:3' h='7'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
            </failed><bound xmlns='urn:xmpp:bind:0'><x/></bound></success>"
        ),
        "{log}"
    );
    assert!(p.c2s.is_bound());

    let mut p = modern();
    let log = p.says(&right("<resume xmlns='urn:xmpp:sm:3' previd='gone'/>"));
    assert!(log.contains("<bad-request") && log.ends_with(AFTER_AUTH), "{log}");
    let log = p.says("<resume xmlns='urn:xmpp:sm:3' previd='known' h='1'/>");
    assert_eq!(log, "[Resume(\"known\", 1)]<resumed xmlns='urn:xmpp:sm:3' previd='known' h='1'/>");
}

#[test]
fn a_token_is_asked_for_and_used() {
    let mut p = modern();
    let wish = "<request-token xmlns='urn:xmpp:fast:0' mechanism='HT-SHA-256-EXPR'/>";
    let token = "<token xmlns='urn:xmpp:fast:0' expiry='E' token='HT-SHA-256-EXPR'/>";
    assert!(p.says(&right(wish)).contains(token));

    let mut p = modern();
    let log = p.says(&with_token("secret", &format!("{PHONE}{FAST}")));
    assert!(log.starts_with("[NeedTokens(\"romeo\", \"phone\")][Admit(\"romeo\")]<success"), "{log}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
    let proof = STANDARD.encode(hmac::sign(&key, b"Responder"));
    assert!(log.contains(&format!("<additional-data>{proof}</additional-data>")), "{log}");
}

#[test]
fn tokens_that_are_refused() {
    let fast = |attributes: &str| format!("{PHONE}<fast xmlns='urn:xmpp:fast:0' {attributes}/>");
    for (wishes, condition) in [
        (fast("count='3'"), Some("not-authorized")),
        (fast("count='4'"), None),
        (fast("count='x'"), Some("malformed-request")),
        (PHONE.to_owned(), Some("malformed-request")),
        (FAST.to_owned(), Some("malformed-request")),
        (format!("<user-agent id='laptop'/>{FAST}"), Some("not-authorized")),
    ] {
        let log = modern().says(&with_token("secret", &wishes));
        match condition {
            Some(condition) => assert!(log.ends_with(&failure(condition)), "{wishes}: {log}"),
            None => assert!(log.contains("<success"), "{wishes}: {log}"),
        }
    }
    assert!(modern().says(&with_token("wrong", &format!("{PHONE}{FAST}"))).ends_with(&failure("not-authorized")));
    assert!(modern().says(&right(&format!("{PHONE}{FAST}"))).ends_with(&failure("malformed-request")));
    // A token is no password, and SASL1 knows none.
    let log = modern().says(&auth("HT-SHA-256-NONE", "romeo\0"));
    assert!(log.contains("<invalid-mechanism/>"), "{log}");
}

#[test]
fn what_the_token_was_used_for_is_told() {
    let mut p = modern();
    p.obliging = false;
    let wishes = String::from(
        "<user-agent id='phone'><software>S</software></user-agent>\
         <fast xmlns='urn:xmpp:fast:0' count='9' invalidate='true'/>",
    );
    p.c2s.feed(with_token("secret", &wishes).as_bytes());
    let Some(Event::NeedTokens { .. }) = p.with(C2s::next) else { panic!() };
    p.with(|c2s, cx| c2s.tokens(&tokens("romeo", "phone"), cx));
    let Some(Event::Admit(a)) = p.with(C2s::next) else { panic!() };
    assert_eq!((a.used, a.count, a.invalidate), (Some(Slot::New), Some(9), true));
    assert_eq!(a.agent, UserAgent { id: Some("phone".into()), software: Some("S".into()), device: None });
    assert!(a.keys.is_none() && a.request_token.is_none());
    assert!(!p.c2s.is_authenticated(), "not before it is stored");
    p.with(|c2s, cx| c2s.refuse_login(Failure::TemporaryAuthFailure, cx));
    assert_eq!(p.goes_on(), failure("temporary-auth-failure"));
}

/// An account that knows SCRAM-SHA-1 alone.
fn old_account() -> StoredKeys {
    let keys = ScramKeys { salt: vec![1; 16], iterations: 4096, stored_key: vec![0; 20], server_key: vec![0; 20] };
    StoredKeys { sha1: Some(keys), sha256: None }
}

fn upgrading() -> Play {
    let mut p = modern();
    p.obliging = false;
    p.c2s.feed(right("<upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-SHA-256</upgrade>").as_bytes());
    let Some(Event::NeedKeys { .. }) = p.with(C2s::next) else { panic!() };
    p.with(|c2s, cx| c2s.keys(Some(old_account()), cx));
    let Some(Event::Hash { work: HashWork::Upgrade { .. }, .. }) = p.with(C2s::next) else { panic!() };
    // As if no keys had come of the password, so that a task is left for the client.
    p.with(|c2s, cx| c2s.verified(true, None, cx));
    let log = p.goes_on();
    assert_eq!(log, format!("<continue {SASL2}><tasks><task>UPGR-SCRAM-SHA-256</task></tasks></continue>"));
    p
}

const NEXT: &str = "<next xmlns='urn:xmpp:sasl:2' task='UPGR-SCRAM-SHA-256'/>";

fn task_data(hash: &str) -> String {
    format!("<task-data {SASL2}><hash xmlns='urn:xmpp:scram-upgrade:0'>{hash}</hash></task-data>")
}

#[test]
fn an_account_gets_better_keys_from_its_client() {
    let mut p = upgrading();
    let salt = STANDARD.encode([0; 16]);
    assert_eq!(
        p.says(NEXT),
        format!(
            "<task-data {SASL2}><salt xmlns='urn:xmpp:scram-upgrade:0' iterations='4096'>{salt}</salt></task-data>"
        )
    );
    p.c2s.feed(task_data(&STANDARD.encode([9; 32])).as_bytes());
    let Some(Event::Admit(a)) = p.with(C2s::next) else { panic!() };
    let expected = crate::stream::sasl::keys::of_salted_password(ScramHash::Sha256, &[9; 32], &[0; 16], 4096);
    assert!(a.keys_promised && a.keys == Some(expected));
    p.with(|c2s, cx| c2s.admitted(None, cx.limits));
    let log = p.goes_on();
    assert!(log.starts_with(&success("<authorization-identifier>romeo@example.org</authorization-identifier>")));
}

#[test]
fn tasks_that_go_wrong() {
    for (messages, condition) in [
        (vec!["<next xmlns='urn:xmpp:sasl:2' task='UPGR-SCRAM-SHA-512'/>".to_owned()], "malformed-request"),
        (vec!["<next xmlns='urn:xmpp:sasl:2'/>".to_owned()], "malformed-request"),
        (vec![task_data(&STANDARD.encode([9; 32]))], "malformed-request"),
        (vec![NEXT.to_owned(), NEXT.to_owned()], "malformed-request"),
        (vec![NEXT.to_owned(), task_data(&STANDARD.encode([9; 20]))], "malformed-request"),
        (vec![NEXT.to_owned(), task_data("")], "malformed-request"),
        (vec![NEXT.to_owned(), task_data("?")], "incorrect-encoding"),
        (vec![NEXT.to_owned(), "<task-data xmlns='urn:xmpp:sasl:2'/>".to_owned()], "malformed-request"),
        (vec!["<abort xmlns='urn:xmpp:sasl:2'/>".to_owned()], "aborted"),
    ] {
        let mut p = upgrading();
        let log: String = messages.iter().map(|message| p.says(message)).collect();
        assert!(log.ends_with(&failure(condition)), "{messages:?}: {log}");
        // XEP-0388 section 5.8.
        assert!(ended_with(&p.says(&right("")), StreamError::PolicyViolation));
    }
}

#[test]
fn a_password_makes_better_keys_by_itself() {
    for modern_login in [true, false] {
        let mut p = modern();
        p.obliging = false;
        let wish = "<upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-SHA-256</upgrade>";
        let login = if modern_login { right(wish) } else { auth("PLAIN", "\0romeo\0right") };
        p.c2s.feed(login.as_bytes());
        p.with(C2s::next);
        p.with(|c2s, cx| c2s.keys(Some(old_account()), cx));
        p.with(C2s::next);
        let made = account().sha256;
        p.with(|c2s, cx| c2s.verified(true, made.clone(), cx));
        let keys = match p.with(C2s::next) {
            Some(Event::Admit(a)) => {
                assert!(modern_login && !a.keys_promised);
                a.keys
            }
            Some(Event::Authenticated { keys, .. }) => keys.map(|k| *k),
            other => panic!("{other:?}"),
        };
        assert_eq!(keys, made);
    }
}

#[test]
fn failures_leave_the_stream_as_it_was() {
    let mut p = modern();
    let unknown = p.says(&authenticate("PLAIN", "\0nobody\0right", ""));
    assert!(unknown.ends_with(&failure("not-authorized")), "{unknown}");
    assert_eq!(p.says(&authenticate("ROT13", "", "")), failure("invalid-mechanism"));
    assert!(p.says(&auth("PLAIN", "\0romeo\0right")).contains("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"));
    let mut p = modern();
    let log: String = (0..3).map(|_| p.says(&authenticate("PLAIN", "\0romeo\0wrong", ""))).collect();
    assert!(ended_with(&log, StreamError::PolicyViolation), "{log}");
}

#[test]
fn nothing_else_may_be_said_in_the_middle_of_a_login() {
    let begin = format!("<authenticate {SASL2} mechanism='PLAIN'/>");
    for (traffic, error) in [
        (" ".to_owned(), StreamError::PolicyViolation),
        ("<presence/>".to_owned(), StreamError::NotAuthorized),
        (auth("PLAIN", "\0romeo\0right"), StreamError::UnsupportedStanzaType),
        (begin.clone(), StreamError::PolicyViolation),
        (format!("<success {SASL2}/>"), StreamError::UnsupportedStanzaType),
    ] {
        let mut p = modern();
        p.says(&begin);
        assert!(ended_with(&p.says(&traffic), error), "{traffic}");
    }
    let mut p = modern();
    p.says(&begin);
    assert_eq!(p.says(&format!("<abort {SASL2}/>")), failure("aborted"));
    assert!(p.says(&right("")).contains("<success"));
    assert!(ended_with(&p.says(&right("")), StreamError::UnsupportedStanzaType), "one login is enough");
    let mut p = modern();
    assert_eq!(p.says(&format!("<response {SASL2}/>")), failure("malformed-request"));
    // And the exchange of one profile is not gone on with in the other.
    let mut p = modern();
    p.says(&format!("<auth {SASL} mechanism='PLAIN'/>"));
    assert!(ended_with(&p.says(&format!("<response {SASL2}/>")), StreamError::UnsupportedStanzaType));
}

#[test]
fn the_address_in_the_header_is_believed_to_be_meant() {
    let open = |from: &str| OPEN.replace("to=", &format!("from='{from}' to="));
    let mut p = play(MODERN);
    assert!(ended_with(&p.says(&open("romeo@example.com")), StreamError::InvalidFrom));
    for (from, authzid, right) in [
        ("juliet@example.org", "romeo@example.org", false),
        ("juliet@example.org", "", true),
        ("romeo@example.org", "romeo@example.org", true),
    ] {
        let mut p = play(MODERN);
        p.says(&open(from));
        let log = p.says(&authenticate("PLAIN", format!("{authzid}\0romeo\0right"), ""));
        assert_eq!(log.contains("<success"), right, "{log}");
        assert_eq!(log.contains("<invalid-authzid"), !right, "{log}");
    }
}

#[test]
fn limits_grow_with_the_login() {
    let mut p = modern();
    p.says(&right("<bind xmlns='urn:xmpp:bind:0'/>"));
    let body = "x".repeat(20_000);
    assert_eq!(p.says(&format!("<message><body>{body}</body></message>")), "[Element(message)]");
}

#[test]
fn an_idle_stream_is_as_small_as_with_sasl1() {
    let (mut old, mut new) = (bound(), modern());
    new.says(&right(&format!("{PHONE}<bind xmlns='urn:xmpp:bind:0'/>")));
    old.says(" ");
    new.says(" ");
    assert_eq!(old.c2s.heap_bytes(), new.c2s.heap_bytes());
}

/// What clients say, and others.
const WORDS: &[&str] = &[
    "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'/>",
    "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response>AHJvbWVvAHdyb25n</initial-response>\
     <user-agent id='phone'/><bind xmlns='urn:xmpp:bind:0'><tag>x</tag></bind></authenticate>",
    "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='SCRAM-SHA-256'><initial-response>biwsbj1yb21lbyxyPWFiYw==\
     </initial-response><upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-SHA-256</upgrade></authenticate>",
    "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='HT-SHA-256-NONE'><user-agent id='phone'/>\
     <fast xmlns='urn:xmpp:fast:0' count='1'/></authenticate>",
    "<response xmlns='urn:xmpp:sasl:2'>AHJvbWVvAHdyb25n</response>",
    "<response xmlns='urn:xmpp:sasl:2'>Yz1iaXdzLHI9YWJjLHA9QUFBQQ==</response>",
    "<response xmlns='urn:xmpp:sasl:2'/>",
    "<abort xmlns='urn:xmpp:sasl:2'/>",
    "<next xmlns='urn:xmpp:sasl:2' task='UPGR-SCRAM-SHA-256'/>",
    "<task-data xmlns='urn:xmpp:sasl:2'><hash xmlns='urn:xmpp:scram-upgrade:0'>AAAA</hash></task-data>",
    "<success xmlns='urn:xmpp:sasl:2'/>",
    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>",
    "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>AHJvbWVvAHdyb25n</response>",
    "<resume xmlns='urn:xmpp:sm:3' previd='known' h='1'/>",
    "<iq id='b' type='set'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
    "<presence/>",
    " ",
    "</stream:stream>",
    "<",
    "\u{0}",
];

proptest::proptest! {
    /// Nobody gets in without a proof, and nothing is worse than an error.
    #[test]
    fn whatever_is_said_in_whatever_order(
        words in proptest::collection::vec(0..WORDS.len(), 0..12),
        cuts in proptest::collection::vec(1..40usize, 1..20),
    ) {
        let text: String = words.iter().filter_map(|at| WORDS.get(*at)).copied().collect();
        let (mut p, mut rest, mut cuts) = (modern(), text.as_bytes(), cuts.into_iter().cycle());
        let mut log = String::new();
        while let Some(at) = cuts.next().filter(|_| !rest.is_empty()) {
            let (piece, more) = rest.split_at(at.min(rest.len()));
            p.c2s.feed(piece);
            log.push_str(&p.goes_on());
            rest = more;
        }
        proptest::prop_assert!(!log.contains("<success") && !p.c2s.is_authenticated(), "{}", log);
    }
}

#[test]
fn however_the_input_is_cut() {
    let login =
        right(&format!("{PHONE}<resume xmlns='urn:xmpp:sm:3' previd='x' h='1'/><bind xmlns='urn:xmpp:bind:0'/>"));
    let whole = modern().says(&login);
    for cut in 1..login.len() {
        let mut p = modern();
        let (first, second) = login.split_at(cut);
        let log = p.says(first) + &p.says(second);
        assert_eq!(log, whole, "{cut}");
    }
}

//! Visits to an authority that lives in the test: it knows accounts, orders and nonces, and can be told to misbehave.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::*;
use crate::net::acme::json::Json;
use crate::net::self_signed;

const CHAIN: &str = "-----BEGIN CERTIFICATE-----\n";

/// The authority and the world around us.
#[derive(Default)]
struct Authority {
    /// The next nonce; each is good once.
    nonce: u32,
    /// Every so manyeth good nonce is refused.
    refuses_nonces: u32,
    posts: u32,
    accounts: u32,
    /// Names of each order, and how far it is.
    orders: Vec<(Vec<String>, &'static str)>,
    /// Names that it does not believe, or does not issue for.
    disbelieved: Vec<&'static str>,
    rejected: Vec<&'static str>,
    /// Answers once with that in place of its own.
    once: BTreeMap<&'static str, Response>,
    wants_terms: bool,
    wants_binding: bool,
    knows_renewal: bool,
    /// What an order had as `replaces`.
    replaced: Vec<String>,
    /// It does not answer from that request on.
    down_from: Option<u32>,
    requests: u32,
    shown: Vec<String>,
    presented: Vec<String>,
    waited_ms: u64,
    begun: Option<Pending>,
    account: Account,
    /// How often somebody looks at what is being worked on before it is done.
    slow: u32,
    looks: u32,
}

fn problem(kind: &str, status: u16) -> Response {
    let body = format!(r#"{{"type":"urn:ietf:params:acme:error:{kind}","detail":"because of {kind}"}}"#);
    Response { status, body: body.into_bytes(), ..Response::default() }
}

fn body(status: u16, text: String) -> Response {
    Response { status, body: text.into_bytes(), ..Response::default() }
}

impl Authority {
    fn order(&self, index: usize) -> Response {
        let (names, status) = &self.orders[index];
        let authorizations = names.iter().map(|name| quote(&format!("https://ca/authz/{index}/{name}")));
        let authorizations = authorizations.collect::<Vec<_>>().join(",");
        let certificate =
            if *status == "valid" { format!(r#","certificate":"https://ca/cert/{index}""#) } else { String::new() };
        let text = format!(
            r#"{{"status":"{status}","authorizations":[{authorizations}],"finalize":"https://ca/finalize/{index}"
               {certificate}}}"#
        );
        Response { location: Some(format!("https://ca/order/{index}")), ..body(201, text) }
    }

    fn post(&mut self, path: &str, signed: &str) -> Response {
        let json = Json::parse(signed.as_bytes()).unwrap();
        let decode = |name| URL_SAFE_NO_PAD.decode(json.text(name).unwrap()).unwrap();
        let (header, payload) = (Json::parse(&decode("protected")).unwrap(), decode("payload"));
        assert_eq!(header.text("url"), Some(format!("https://ca/{path}").as_str()));
        self.posts += 1;
        let is_good = header.text("nonce") == Some(format!("n{}", self.nonce).as_str());
        self.nonce += 1;
        if !is_good || (self.refuses_nonces > 0 && self.posts.is_multiple_of(self.refuses_nonces)) {
            return problem("badNonce", 400);
        }
        if path == "new-account" {
            assert!(header.object("jwk").is_some());
            return self.new_account(&Json::parse(&payload).unwrap());
        }
        if header.text("kid") != Some(format!("https://ca/account/{}", self.accounts).as_str()) {
            return problem("accountDoesNotExist", 400);
        }
        let (what, rest) = path.split_once('/').unwrap_or((path, ""));
        let (index, name) = rest.split_once('/').unwrap_or((rest, ""));
        let index: usize = index.parse().unwrap_or_default();
        match what {
            "new-order" => self.new_order(&Json::parse(&payload).unwrap()),
            "account" => body(200, "{}".to_owned()),
            "order" => {
                self.looks += 1;
                if self.orders[index].1 == "processing" && self.looks > self.slow {
                    self.orders[index].1 = "valid";
                }
                self.order(index)
            }
            "authz" => self.authorization(index, name),
            "challenge" => {
                let proved = format!("{name} {}", self.shown.last().unwrap());
                let is_believed = !self.disbelieved.contains(&name);
                self.presented.push(proved);
                let (names, status) = &mut self.orders[index];
                if is_believed {
                    names.retain(|of| of != name);
                    if names.is_empty() {
                        *status = "ready";
                    }
                } else {
                    *status = "invalid";
                }
                body(200, "{}".to_owned())
            }
            "finalize" => {
                let csr = Json::parse(&payload).unwrap().text("csr").unwrap().to_owned();
                assert_eq!(URL_SAFE_NO_PAD.decode(csr).unwrap(), b"request");
                self.orders[index].1 = "processing";
                self.order(index)
            }
            "cert" => body(200, format!("{CHAIN}{index}")),
            _ => problem("malformed", 404),
        }
    }

    fn new_account(&mut self, payload: &Json) -> Response {
        if self.wants_binding && payload.object("externalAccountBinding").is_none() {
            return problem("externalAccountRequired", 403);
        }
        self.accounts += 1;
        Response { location: Some(format!("https://ca/account/{}", self.accounts)), ..body(201, "{}".to_owned()) }
    }

    fn new_order(&mut self, payload: &Json) -> Response {
        let names: Vec<String> =
            payload.objects("identifiers").iter().map(|id| id.text("value").unwrap().to_owned()).collect();
        if let Some(rejected) = names.iter().find(|name| self.rejected.contains(&name.as_str())) {
            let kind = "urn:ietf:params:acme:error:rejectedIdentifier";
            let text = format!(r#"{{"type":"{kind}","detail":"policy forbids \"{rejected}\"."}}"#);
            return body(403, text);
        }
        match payload.text("replaces") {
            Some("known") | None => {}
            Some(_) => return problem("alreadyReplaced", 409),
        }
        self.replaced.extend(payload.text("replaces").map(str::to_owned));
        self.orders.push((names, "pending"));
        self.order(self.orders.len() - 1)
    }

    fn authorization(&mut self, index: usize, name: &str) -> Response {
        let (names, status) = &self.orders[index];
        let is_open = names.iter().any(|of| of == name);
        let status = match (is_open, *status) {
            (true, "invalid") if self.disbelieved.contains(&name) => "invalid",
            (true, _) => "pending",
            (false, _) => "valid",
        };
        let error = r#","error":{"type":"urn:ietf:params:acme:error:connection","detail":"refused"}"#;
        let error = if status == "invalid" { error } else { "" };
        let challenges = ["http-01", "tls-alpn-01", "dns-01"].map(|kind| {
            format!(r#"{{"type":"{kind}","url":"https://ca/challenge/{index}/{name}","token":"token"{error}}}"#)
        });
        let challenges = challenges.join(",");
        let text = format!(
            r#"{{"status":"{status}","identifier":{{"type":"dns","value":"{name}"}},"challenges":[{challenges}]}}"#
        );
        body(200, text)
    }
}

impl World for Authority {
    async fn exchange(&mut self, request: &Request) -> Result<Response, String> {
        self.requests += 1;
        if self.down_from.is_some_and(|from| self.requests >= from) {
            return Err("no route to host".to_owned());
        }
        let path = request.url.strip_prefix("https://ca/").unwrap();
        if let Some(response) = self.once.remove(path) {
            return Ok(response);
        }
        let response = match &request.method {
            Method::Get if path == "directory" => {
                let terms = if self.wants_terms { r#","meta":{"termsOfService":"https://ca/terms"}"# } else { "" };
                let renewal = if self.knows_renewal { r#","renewalInfo":"https://ca/renewal""# } else { "" };
                body(
                    200,
                    format!(
                        r#"{{"newNonce":"https://ca/new-nonce","newAccount":"https://ca/new-account",
                           "newOrder":"https://ca/new-order"{terms}{renewal}}}"#
                    ),
                )
            }
            Method::Get if path == "renewal/id" => body(
                200,
                r#"{"suggestedWindow":{"start":"1970-01-01T00:01:00Z","end":"1970-01-01T00:02:00Z"}}"#.to_owned(),
            ),
            Method::Get => problem("malformed", 404),
            Method::Head => Response { status: 200, ..Response::default() },
            Method::Post(signed) => self.post(path, signed),
        };
        Ok(Response { nonce: Some(format!("n{}", self.nonce)), ..response })
    }

    async fn present(&mut self, challenge: &Challenge) -> Result<(), String> {
        self.shown.push(challenge.name.clone());
        Ok(())
    }

    async fn withdraw(&mut self, challenge: &Challenge) {
        self.shown.retain(|shown| *shown != challenge.name);
    }

    async fn wait(&mut self, ms: u64) {
        self.waited_ms += ms;
    }

    fn begun(&mut self, pending: &Pending) -> Result<(), String> {
        self.begun = Some(pending.clone());
        Ok(())
    }

    fn ended(&mut self, _names: &[String]) {
        self.begun = None;
    }

    fn registered(&mut self, account: &Account) -> Result<(), String> {
        self.account = account.clone();
        Ok(())
    }

    fn request(&mut self, _names: &[String]) -> Result<Vec<u8>, String> {
        Ok(b"request".to_vec())
    }
}

fn visitor() -> Visitor {
    Visitor {
        directory: "https://ca/directory".to_owned(),
        contacts: vec!["mailto:romeo@a.example".to_owned()],
        terms_agreed: true,
        binding: None,
        kind: Kind::TlsAlpn,
    }
}

fn want(names: &[&str]) -> Want {
    Want { names: names.iter().map(|name| name.to_string()).collect(), ..Want::default() }
}

/// One visit for one certificate.
fn visit(ca: &mut Authority, visitor: Visitor, want: &Want) -> Result<String, Trouble> {
    let key = AccountKey::from_pkcs8(&self_signed::generate_key().unwrap()).unwrap();
    let account = ca.account.clone();
    async_io::block_on(async {
        let mut session = Session::open(ca, visitor, key, account).await?;
        session.obtain(ca, want).await.map(|chain| String::from_utf8(chain).unwrap())
    })
}

#[test]
fn an_order_goes_its_way() {
    let mut ca = Authority { slow: 2, ..Authority::default() };
    let chain = visit(&mut ca, visitor(), &want(&["a.example", "b.a.example"])).unwrap();
    assert_eq!(chain, format!("{CHAIN}0"));
    assert_eq!(ca.presented, ["a.example a.example", "b.a.example b.a.example"]);
    assert!(ca.shown.is_empty(), "nothing is shown any more");
    assert!(ca.waited_ms > 0 && ca.begun.is_some());
    assert_eq!(ca.account.url.as_deref(), Some("https://ca/account/1"));
    // The account is used again, and told about other contacts.
    let other = Visitor { contacts: Vec::new(), ..visitor() };
    visit(&mut ca, other, &want(&["a.example"])).unwrap();
    assert_eq!((ca.accounts, ca.account.contacts.len()), (1, 0));
}

#[test]
fn refused_nonces_are_fetched_anew_and_in_the_end_given_up() {
    let mut ca = Authority { refuses_nonces: 2, ..Authority::default() };
    visit(&mut ca, visitor(), &want(&["a.example"])).unwrap();
    let mut ca = Authority { refuses_nonces: 1, ..Authority::default() };
    let trouble = visit(&mut ca, visitor(), &want(&["a.example"])).unwrap_err();
    assert!(trouble.is_passing && trouble.text.contains("badNonce"), "{trouble}");
    assert_eq!(ca.posts as usize, NONCE_TRIES);
}

#[test]
fn what_is_no_nonce_is_none() {
    let mut plain = Authority::default();
    visit(&mut plain, visitor(), &want(&["a.example"])).unwrap();
    let text = r#"{"newNonce":"https://ca/new-nonce","newAccount":"https://ca/new-account",
        "newOrder":"https://ca/new-order"}"#;
    let mut ca = Authority::default();
    let nonce = Some("a b".to_owned());
    ca.once.insert("directory", Response { nonce, ..body(200, text.to_owned()) });
    visit(&mut ca, visitor(), &want(&["a.example"])).unwrap();
    assert_eq!((ca.posts, ca.requests), (plain.posts, plain.requests + 1), "another is fetched, and none is refused");
}

#[test]
fn all_names_that_fail_are_known_at_once() {
    let mut ca = Authority { disbelieved: vec!["a.example", "c.a.example"], ..Authority::default() };
    let trouble = visit(&mut ca, visitor(), &want(&["a.example", "b.a.example", "c.a.example"])).unwrap_err();
    assert_eq!(trouble.names, ["a.example", "c.a.example"]);
    assert!(trouble.is_final && !trouble.is_passing && ca.begun.is_none());
    let text = trouble.to_string();
    assert!(
        text.starts_with("a.example: refused (connection); c.a.example: refused (connection); let port 443"),
        "{text}"
    );
    // By policy, told in words.
    let mut ca = Authority { rejected: vec!["b.a.example"], ..Authority::default() };
    let trouble = visit(&mut ca, visitor(), &want(&["a.example", "b.a.example"])).unwrap_err();
    assert_eq!(trouble.names, ["b.a.example"]);
    assert!(trouble.to_string().contains("leave it out of acme.hosts or acme.names"), "{trouble}");
}

#[test]
fn what_was_begun_goes_on() {
    for broken_at in 4..20 {
        let mut ca = Authority { down_from: Some(broken_at), ..Authority::default() };
        let wanted = want(&["a.example", "b.a.example"]);
        let Err(trouble) = visit(&mut ca, visitor(), &wanted) else { continue };
        assert!(trouble.is_passing, "{broken_at}: {trouble}");
        assert!(trouble.to_string().contains("cannot be reached at https://ca/"), "{trouble}");
        let pending = ca.begun.clone();
        let orders = ca.orders.len();
        ca.down_from = None;
        let chain = visit(&mut ca, visitor(), &Want { pending: pending.clone(), ..wanted }).unwrap();
        assert_eq!(chain, format!("{CHAIN}0"), "{broken_at}");
        assert_eq!(ca.orders.len(), orders.max(1), "{broken_at}: no second order");
        assert!(ca.shown.is_empty());
    }
    // An order that is of no use any more, of other names, or unknown.
    for (status, names) in [("invalid", "a.example"), ("pending", "b.example")] {
        let mut ca = Authority { orders: vec![(vec![names.to_owned()], status)], ..Authority::default() };
        let pending = Pending { url: "https://ca/order/0".to_owned(), names: vec![names.to_owned()] };
        let wanted = Want { pending: Some(pending), ..want(&["a.example"]) };
        assert_eq!(visit(&mut ca, visitor(), &wanted).unwrap(), format!("{CHAIN}1"));
    }
    // One whose proof the authority has missed meanwhile.
    let mut ca =
        Authority { orders: vec![(vec!["a.example".to_owned()], "pending")], accounts: 1, ..Authority::default() };
    ca.account = Account { url: Some("https://ca/account/1".to_owned()), contacts: visitor().contacts };
    let missed = r#"{"status":"invalid","identifier":{"type":"dns","value":"a.example"},"challenges":[]}"#;
    ca.once.insert("authz/0/a.example", body(200, missed.to_owned()));
    let pending = Pending { url: "https://ca/order/0".to_owned(), names: vec!["a.example".to_owned()] };
    let wanted = Want { pending: Some(pending), ..want(&["a.example"]) };
    assert_eq!(visit(&mut ca, visitor(), &wanted).unwrap(), format!("{CHAIN}1"));
    let mut ca = Authority::default();
    let pending = Pending { url: "https://ca/nothing/0".to_owned(), names: vec!["a.example".to_owned()] };
    assert!(visit(&mut ca, visitor(), &Want { pending: Some(pending), ..want(&["a.example"]) }).is_ok());
}

#[test]
fn an_account_that_is_gone_is_made_anew() {
    let account = |url: &str| Account { url: Some(url.to_owned()), contacts: visitor().contacts };
    let mut ca = Authority { account: account("https://ca/account/99"), ..Authority::default() };
    visit(&mut ca, visitor(), &want(&["a.example"])).unwrap();
    assert_eq!((ca.accounts, ca.account.url.as_deref()), (1, Some("https://ca/account/1")));
    // It is found out earlier when contacts have changed.
    let mut ca = Authority { account: account("https://ca/account/99"), ..Authority::default() };
    visit(&mut ca, Visitor { contacts: Vec::new(), ..visitor() }, &want(&["a.example"])).unwrap();
    assert_eq!(ca.accounts, 1);
}

#[test]
fn who_must_agree_or_be_known_is_told() {
    let mut ca = Authority { wants_terms: true, ..Authority::default() };
    let trouble = visit(&mut ca, Visitor { terms_agreed: false, ..visitor() }, &want(&["a.example"])).unwrap_err();
    assert_eq!(
        trouble.to_string(),
        "the authority issues certificates to those who agree to its terms: https://ca/terms; read them, and set \
         acme.terms_agreed = true"
    );
    assert!(visit(&mut ca, visitor(), &want(&["a.example"])).is_ok());
    let mut ca = Authority { wants_binding: true, ..Authority::default() };
    let trouble = visit(&mut ca, visitor(), &want(&["a.example"])).unwrap_err().to_string();
    assert!(trouble.contains("set acme.eab_key_id and acme.eab_hmac_key"), "{trouble}");
    let binding = |key: &str| Some(Binding { key_id: "k".to_owned(), hmac_key: key.to_owned().into() });
    let trouble = visit(&mut ca, Visitor { binding: binding("ä"), ..visitor() }, &want(&["a.example"])).unwrap_err();
    assert!(trouble.to_string().contains("copy acme.eab_hmac_key again"), "{trouble}");
    assert!(visit(&mut ca, Visitor { binding: binding("c2VjcmV0"), ..visitor() }, &want(&["a.example"])).is_ok());
}

#[test]
fn waits_are_as_long_as_the_authority_wishes() {
    let mut ca = Authority::default();
    let limited = Response { retry_after_s: Some(7200), ..problem("rateLimited", 429) };
    ca.once.insert("new-order", limited);
    let trouble = visit(&mut ca, visitor(), &want(&["a.example"])).unwrap_err();
    assert!(trouble.is_passing && trouble.retry_after_s == Some(7200), "{trouble}");
    let mut ca = Authority { slow: u32::MAX, ..Authority::default() };
    let trouble = visit(&mut ca, visitor(), &want(&["a.example"])).unwrap_err();
    assert!(trouble.is_passing && trouble.text.contains("within ten minutes"), "{trouble}");
    assert!(ca.waited_ms >= STEP_MS_MAX && ca.begun.is_some(), "it is looked at again");
}

#[test]
fn certificates_that_are_replaced_are_named_where_that_is_known() {
    let replacing = |id: &str| Want { replaces: Some(id.to_owned()), ..want(&["a.example"]) };
    let mut ca = Authority { knows_renewal: true, ..Authority::default() };
    visit(&mut ca, visitor(), &replacing("known")).unwrap();
    assert_eq!(ca.replaced, ["known"]);
    visit(&mut ca, visitor(), &replacing("gone")).unwrap();
    assert_eq!(ca.replaced.len(), 1, "without it, then");
    let mut ca = Authority::default();
    visit(&mut ca, visitor(), &replacing("known")).unwrap();
    assert!(ca.replaced.is_empty());
    let mut ca = Authority { knows_renewal: true, ..Authority::default() };
    let key = AccountKey::from_pkcs8(&self_signed::generate_key().unwrap()).unwrap();
    let asked = async_io::block_on(async {
        let mut session = Session::open(&mut ca, visitor(), key, Account::default()).await.unwrap();
        (session.renewal_window(&mut ca, "id").await, session.renewal_window(&mut ca, "other").await)
    });
    assert_eq!(asked, (Some((Window { start_s: 60, end_s: 120 }, None)), None));
}

#[test]
fn other_ways_are_named_where_ours_is_not_offered() {
    let mut ca = Authority::default();
    let text = r#"{"status":"pending","identifier":{"type":"dns","value":"a.example"},"challenges":[
        {"type":"dns-01","url":"https://ca/x","token":"t"},{"type":"device-attest-01","url":"https://ca/y"}]}"#;
    ca.once.insert("authz/0/a.example", body(200, text.to_owned()));
    // A nonce is spent on it.
    let trouble = visit(&mut ca, visitor(), &want(&["a.example"])).unwrap_err().to_string();
    assert!(trouble.contains("does not take tls-alpn-01 for this name, but dns-01, device-attest-01"), "{trouble}");
}

proptest! {
    /// Whatever an authority answers, a visit comes to an end.
    #[test]
    fn no_answers_do_harm(path in 0..8_usize, status in 200..600_u16, answer in ".{0,200}") {
        let paths = ["directory", "new-nonce", "new-account", "new-order", "authz/0/a.example", "challenge/0/a.example",
            "finalize/0", "cert/0"];
        let mut ca = Authority::default();
        ca.once.insert(paths[path], body(status, answer));
        let _ = visit(&mut ca, visitor(), &want(&["a.example"]));
        // Of one that never comes to an end one gives up after ten minutes.
        prop_assert!(ca.requests < 300 && ca.shown.is_empty());
    }
}

//! Answers of an authority that issues certificates (RFC 8555): a visit to it ends, whatever it says, and nothing that
//! it says becomes a path, a second line in a file, or an order without end.

use couplet::net::acme::message::{Method, Request, Response};
use couplet::net::acme::session::{Account, Challenge, Pending, Session, Want, World};
use couplet::net::acme::{AccountKey, Kind, Trouble, Visitor};
use std::future::Future;
use std::task::{Context, Poll, Waker};

/// The authority says what the input has, answer by answer, and nothing more behind that.
struct Script<'a> {
    answers: std::slice::Split<'a, u8, fn(&u8) -> bool>,
    asked: u32,
    shown: Vec<Challenge>,
}

/// More than any visit asks for: an order of 256 names, each with its nonce, and ten minutes of looking.
const ASKED_MAX: u32 = 5000;

impl World for Script<'_> {
    async fn exchange(&mut self, request: &Request) -> Result<Response, String> {
        self.asked += 1;
        assert!(self.asked <= ASKED_MAX, "it asks on and on");
        if let Method::Post(body) = &request.method {
            assert!(body.starts_with("{\"protected\":\"") && !body.contains('\n'));
        }
        let answer = self.answers.next().ok_or("there are no more")?;
        // The first byte says how it comes.
        let (&how, body) = answer.split_first().ok_or("an empty one")?;
        let status = [200, 201, 400, 403, 429, 500, 200, 200][usize::from(how & 7)];
        Ok(Response {
            status,
            nonce: (how & 8 == 0).then(|| "n".to_owned()),
            location: (how & 16 == 0).then(|| "https://ca/1".to_owned()),
            retry_after_s: (how & 32 != 0).then_some(u64::from(how)),
            body: body.to_vec(),
        })
    }

    async fn present(&mut self, challenge: &Challenge) -> Result<(), String> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        assert!(!challenge.token.is_empty() && challenge.token.bytes().all(is_token), "{:?}", challenge.token);
        self.shown.push(challenge.clone());
        Ok(())
    }

    async fn withdraw(&mut self, challenge: &Challenge) {
        self.shown.retain(|shown| shown != challenge);
    }

    async fn wait(&mut self, ms: u64) {
        assert!((1..=60_000).contains(&ms));
    }

    fn begun(&mut self, pending: &Pending) -> Result<(), String> {
        assert_eq!(pending.names, ["a.example", "b.a.example"]);
        Ok(())
    }

    fn ended(&mut self, _names: &[String]) {}

    fn registered(&mut self, account: &Account) -> Result<(), String> {
        assert!(account.url.is_some());
        Ok(())
    }

    fn request(&mut self, _names: &[String]) -> Result<Vec<u8>, String> {
        Ok(vec![1])
    }
}

/// A key that was made once (RFC 5915 in PKCS #8).
const KEY: &str = "308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b02010104205dc7a24dce5d27e08145e153c9e9\
    2615aee49102f89c753f735cf36d0ca3205da14403420004c39f9642d04a4f6c5af9ec7dd091853bf47ef32131d6d80e23cf\
    bc8fd8d45dde02062020a23b5c11c09fc84147f15eee67f5731395ebcfb0112ce19910dff3d8";

/// Answers with 0xff between them. The first byte says which way names are proved.
pub fn run(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let byte = |at: usize| u8::from_str_radix(&KEY[at..at + 2], 16).expect("two digits");
    let key: Vec<u8> = (0..KEY.len()).step_by(2).map(byte).collect();
    let key = AccountKey::from_pkcs8(&key).expect("a key");
    let visitor = Visitor {
        directory: "https://ca/directory".to_owned(),
        contacts: vec!["mailto:romeo@a.example".to_owned()],
        terms_agreed: first & 4 == 0,
        binding: None,
        kind: [Kind::Http, Kind::Dns, Kind::TlsAlpn][usize::from(first & 3) % 3],
    };
    let names = vec!["a.example".to_owned(), "b.a.example".to_owned()];
    let pending = (first & 8 != 0).then(|| Pending { url: "https://ca/2".to_owned(), names: names.clone() });
    let want = Want { names, replaces: (first & 16 != 0).then(|| "id".to_owned()), pending };
    let url = (first & 32 != 0).then(|| "https://ca/3".to_owned());
    let is_end: fn(&u8) -> bool = |byte| *byte == 0xff;
    let mut script = Script { answers: rest.split(is_end), asked: 0, shown: Vec::new() };
    // Nothing here waits for anything.
    let visit = Box::pin(visit(&mut script, visitor, key, Account { url, contacts: Vec::new() }, &want));
    let Poll::Ready(visited) = std::pin::pin!(visit).poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("it waits");
    };
    if let Err(trouble) = visited {
        let text = trouble.to_string();
        assert!(!text.contains(char::is_control) && text.contains("; ") && text.len() < 10_000, "{text:?}");
    }
    assert!(script.shown.is_empty(), "a proof is still shown");
}

async fn visit(
    script: &mut Script<'_>,
    visitor: Visitor,
    key: AccountKey,
    account: Account,
    want: &Want,
) -> Result<(), Trouble> {
    let mut session = Session::open(script, visitor, key, account).await?;
    let chain = session.obtain(script, want).await;
    let _ = session.renewal_window(script, "id").await;
    chain.map(drop)
}

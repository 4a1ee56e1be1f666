//! What an authority says: directory, orders, authorizations, problems (RFC 8555 section 7.1, RFC 7807), and when a
//! certificate is best renewed (RFC 9773).

use crate::clock;
use crate::fault::{Fault, armed};
use crate::net::acme::json::{Json, printable};

/// A request to an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where.
    pub url: String,
    /// How.
    pub method: Method,
    /// What is wished for in return; JSON else.
    pub accept: Option<&'static str>,
}

/// How a request is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// POST of a signed body.
    Post(String),
}

/// An answer to it, as far as one looks at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// Of HTTP.
    pub status: u16,
    /// `Replay-Nonce`.
    pub nonce: Option<String>,
    /// `Location`.
    pub location: Option<String>,
    /// `Retry-After`, as seconds from now.
    pub retry_after_s: Option<u64>,
    /// The content.
    pub body: Vec<u8>,
}

impl Response {
    /// Done, or under way.
    pub fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Where an authority takes what (section 7.1.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// `newNonce`.
    pub new_nonce: String,
    /// `newAccount`.
    pub new_account: String,
    /// `newOrder`.
    pub new_order: String,
    /// `renewalInfo` (RFC 9773 section 4.1).
    pub renewal_info: Option<String>,
    /// Terms that it wants one to agree to.
    pub terms: Option<String>,
}

impl Directory {
    /// None when it is not one.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let json = Json::parse(body)?;
        let url = |name| json.text(name).map(str::to_owned);
        Some(Self {
            new_nonce: url("newNonce")?,
            new_account: url("newAccount")?,
            new_order: url("newOrder")?,
            renewal_info: url("renewalInfo"),
            terms: json.object("meta").and_then(|meta| meta.shown("termsOfService")),
        })
    }
}

/// How far an order, an authorization or a challenge is (section 7.1.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// It waits for us.
    Pending,
    /// An order, to be finalized.
    Ready,
    /// It waits for the authority.
    Processing,
    /// Done.
    Valid,
    /// Failed, or over in another way, or something that we do not know.
    #[default]
    Over,
}

impl Status {
    fn of(json: &Json) -> Self {
        match json.text("status") {
            Some("pending") => Self::Pending,
            Some("ready") => Self::Ready,
            Some("processing") => Self::Processing,
            Some("valid") => Self::Valid,
            _ => Self::Over,
        }
    }
}

/// An order (section 7.1.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// How far it is.
    pub status: Status,
    /// Where the proofs that it needs are.
    pub authorizations: Vec<String>,
    /// Where the request for the certificate goes.
    pub finalize: String,
    /// Where the certificate is.
    pub certificate: Option<String>,
    /// Why there is none.
    pub error: Option<Problem>,
}

impl Order {
    /// None when it is not one.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let json = Json::parse(body)?;
        Some(Self {
            status: Status::of(&json),
            authorizations: json.texts("authorizations"),
            finalize: json.text("finalize")?.to_owned(),
            certificate: json.text("certificate").map(str::to_owned),
            error: json.object("error").map(|error| Problem::of(&error)),
        })
    }
}

/// The proof of one name (section 7.1.4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authorization {
    /// How far it is.
    pub status: Status,
    /// The name, without the `*.` of a wildcard.
    pub name: String,
    /// Ways to prove it.
    pub challenges: Vec<Offered>,
}

/// A way to prove a name (section 8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// Such as `dns-01`.
    pub kind: String,
    /// Where we say that the proof is there.
    pub url: String,
    /// What the proof is made of.
    pub token: String,
    /// Why it was not believed.
    pub error: Option<Problem>,
}

impl Authorization {
    /// None when it is not one.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let json = Json::parse(body)?;
        let offered = |json: &Json| {
            Some(Offered {
                kind: json.text("type")?.to_owned(),
                url: json.text("url")?.to_owned(),
                // Others have none; a token of another alphabet (section 8.1) is none.
                token: json.text("token").filter(|token| is_token(token)).unwrap_or_default().to_owned(),
                error: json.object("error").map(|error| Problem::of(&error)),
            })
        };
        Some(Self {
            status: Status::of(&json),
            name: json.object("identifier")?.text("value")?.to_owned(),
            challenges: json.objects("challenges").iter().filter_map(offered).collect(),
        })
    }
}

/// Characters of base64url alone (sections 6.5.1 and 8.1); a token becomes part of a path.
pub(super) fn is_token(token: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte) || armed(Fault::TokenBelieved);
    !token.is_empty() && token.len() <= 256 && token.bytes().all(is_plain)
}

/// What is wrong (section 6.7, RFC 7807).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// Without `urn:ietf:params:acme:error:`; empty where there is none.
    pub kind: String,
    /// In words.
    pub detail: String,
    /// Where one reads more, or has to do something.
    pub instance: Option<String>,
    /// Names that are to blame.
    pub names: Vec<String>,
}

impl Problem {
    /// What an answer that is no good says.
    pub fn parse(response: &Response) -> Self {
        let said = Json::parse(&response.body).map(|json| Self::of(&json)).unwrap_or_default();
        let detail = if said.detail.is_empty() { format!("HTTP status {}", response.status) } else { said.detail };
        Self { detail, ..said }
    }

    fn of(json: &Json) -> Self {
        let kind = |json: &Json| json.text("type").and_then(|kind| kind.rsplit(':').next()).map(printable);
        let name = |json: &Json| json.object("identifier").and_then(|id| id.text("value").map(str::to_owned));
        let inner = json.objects("subproblems");
        let mut detail = json.shown("detail").unwrap_or_default();
        for more in inner.iter().filter_map(|json| json.shown("detail")).take(3) {
            detail = format!("{detail}; {more}");
        }
        Self {
            kind: kind(json).unwrap_or_default(),
            detail,
            instance: json.shown("instance"),
            names: name(json).into_iter().chain(inner.iter().filter_map(name)).collect(),
        }
    }
}

/// When a certificate is best renewed, in seconds since 1970 (RFC 9773 section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Not before.
    pub start_s: i64,
    /// Not after; never before `start_s`.
    pub end_s: i64,
}

impl Window {
    /// None when it is not one.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let window = Json::parse(body)?.object("suggestedWindow")?;
        let time = |name| Some(clock::datetime_ms(window.text(name)?)? / 1000);
        let (start_s, end_s) = (time("start")?, time("end")?);
        (start_s <= end_s).then_some(Self { start_s, end_s })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_authorizations_are_read() {
        let order = Order::parse(
            br#"{"status":"pending","expires":"2026-01-05T14:09:07.99Z","authorizations":["https://ca/a/1"],
               "finalize":"https://ca/f","identifiers":[{"type":"dns","value":"a.example"}]}"#,
        );
        let order = order.unwrap();
        assert_eq!((order.status, order.authorizations.len()), (Status::Pending, 1));
        assert_eq!((order.finalize.as_str(), order.certificate), ("https://ca/f", None));
        let authorization = Authorization::parse(
            br#"{"status":"invalid","identifier":{"type":"dns","value":"a.example"},"wildcard":true,"challenges":[
               {"type":"dns-01","url":"https://ca/c/1","token":"a-_9"},
               {"type":"http-01","url":"https://ca/c/2","token":"../x","error":{
                 "type":"urn:ietf:params:acme:error:connection","detail":"refused\n"}},
               {"type":"other"}]}"#,
        );
        let authorization = authorization.unwrap();
        assert_eq!((authorization.status, authorization.name.as_str()), (Status::Over, "a.example"));
        assert_eq!(authorization.challenges.len(), 2);
        assert_eq!(authorization.challenges[0].token, "a-_9");
        assert_eq!(authorization.challenges[1].token, "", "no token that could be a path");
        let error = authorization.challenges[1].error.as_ref().unwrap();
        assert_eq!((error.kind.as_str(), error.detail.as_str()), ("connection", "refused "));
        assert!(Order::parse(b"{}").is_none() && Authorization::parse(b"{}").is_none());
    }

    #[test]
    fn problems_name_those_who_are_to_blame() {
        let body = br#"{"type":"urn:ietf:params:acme:error:malformed","detail":"Some names","subproblems":[
            {"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"no b",
             "identifier":{"type":"dns","value":"b.example"}}]}"#;
        let problem = Problem::parse(&Response { status: 403, body: body.to_vec(), ..Response::default() });
        assert_eq!((problem.kind.as_str(), problem.detail.as_str()), ("malformed", "Some names; no b"));
        assert_eq!(problem.names, ["b.example"]);
        let problem = Problem::parse(&Response { status: 502, body: b"<html>".to_vec(), ..Response::default() });
        assert_eq!((problem.kind.as_str(), problem.detail.as_str()), ("", "HTTP status 502"));
    }

    #[test]
    fn a_window_ends_behind_its_start() {
        let window = |start: &str, end: &str| {
            let body = format!(r#"{{"suggestedWindow":{{"start":"{start}","end":"{end}"}}}}"#);
            Window::parse(body.as_bytes()).map(|window| (window.start_s, window.end_s))
        };
        assert_eq!(window("1970-01-01T00:01:00Z", "1970-01-01T00:02:00+00:00"), Some((60, 120)));
        assert_eq!(window("1970-01-01T00:02:00Z", "1970-01-01T00:01:00Z"), None);
        assert_eq!(window("today", "1970-01-01T00:01:00Z"), None);
    }
}

//! A small client of HTTP/1.1 (RFC 9112) over TLS: one request a connection.

use std::sync::Arc;

use httparse::Status;
use rustls::ClientConfig;
use smol::io::{AsyncReadExt, AsyncWriteExt};

use super::message::{Method, Request, Response};
use crate::clock;
use crate::core::io::DialFailure;
use crate::net::clock::Clock;
use crate::net::dial::{self, Dialed};
use crate::net::dns::Resolver;
use crate::net::tls::{Progress, TlsConn};

/// One answer: a chain of certificates in PEM is some 6 kB, with ten RSA certificates 20.
const ANSWER_BYTES_MAX: usize = 1 << 18;

/// How long one request may take altogether.
const EXCHANGE_S: u32 = 60;

/// Header fields of one answer.
const FIELDS_MAX: usize = 96;

/// Room for a TLS record.
const READ_BYTES: usize = 18 * 1024;

/// Asks servers over HTTPS.
pub struct Https {
    /// Finds them.
    pub resolver: Resolver,
    /// Believes them.
    pub tls: Arc<ClientConfig>,
    /// The time.
    pub clock: Clock,
}

/// The parts of an address.
#[derive(Debug, PartialEq, Eq)]
struct Url<'a> {
    /// As DNS has it; an address of IPv6 without its brackets.
    host: &'a str,
    port: u16,
    /// As it stands in the address.
    authority: &'a str,
    /// With query, without fragment.
    path: &'a str,
}

impl<'a> Url<'a> {
    fn parse(url: &'a str) -> Option<Self> {
        let rest = url.strip_prefix("https://")?;
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, port) = v6.split_once(']')?;
                (host, port.strip_prefix(':').or(port.is_empty().then_some("443"))?)
            }
            None => authority.split_once(':').unwrap_or((authority, "443")),
        };
        let is_visible = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        let is_host = !host.is_empty() && !host.contains('@') && is_visible(host);
        (is_host && is_visible(path)).then_some(Self { host, port: port.parse().ok()?, authority, path })
    }
}

impl Https {
    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// Why there is none: one phrase.
    pub async fn exchange(&self, request: &Request) -> Result<Response, String> {
        let url = Url::parse(&request.url).ok_or("this is no address that begins with https://")?;
        let exchange = self.ask(&url, request);
        dial::within(EXCHANGE_S, exchange).await.unwrap_or_else(|| Err(format!("no answer within {EXCHANGE_S} s")))
    }

    async fn ask(&self, url: &Url<'_>, request: &Request) -> Result<Response, String> {
        let tell = |line: String| log::debug!("{line}");
        let socket =
            dial::reach(&self.resolver, self.clock, url.host, url.port, &tell).await.map_err(|why| why.to_string())?;
        let mut out = Vec::new();
        let tls = TlsConn::client(self.tls.clone(), url.host, &mut out).map_err(|error| error.to_string())?;
        let dialed = dial::shake_hands(socket, tls, out).await.map_err(|why| match why {
            DialFailure::Tls(error) => error,
            why => why.to_string(),
        })?;
        let Dialed { mut socket, tls: Some((mut tls, _)), plain } = dialed else { return Err("no TLS".to_owned()) };
        let lost = |error: &dyn std::fmt::Display| format!("the connection is lost: {error}");
        let mut out = Vec::new();
        tls.send(&text_of(url, request), &mut out).map_err(|error| lost(&error))?;
        socket.write_all(&out).await.map_err(|error| lost(&error))?;
        let mut answer = plain;
        let mut buffer = vec![0; READ_BYTES];
        let mut is_over = false;
        loop {
            match parse(&answer, request.method == Method::Head, is_over, self.clock.now().wall_ms)? {
                Some(response) => {
                    let mut goodbye = Vec::new();
                    tls.close(&mut goodbye);
                    // Whether it arrives is of no interest any more.
                    let _ = socket.write_all(&goodbye).await;
                    return Ok(response);
                }
                None if is_over => return Err("the connection ends in the middle of the answer".to_owned()),
                None if answer.len() > ANSWER_BYTES_MAX => return Err("the answer is too long".to_owned()),
                None => {}
            }
            let read = socket.read(&mut buffer).await.map_err(|error| lost(&error))?;
            let mut out = Vec::new();
            let progress = tls.receive(buffer.get_mut(..read).unwrap_or_default(), &mut answer, &mut out);
            socket.write_all(&out).await.map_err(|error| lost(&error))?;
            // A connection that is cut without a word of TLS may be cut by anybody: only a length is believed then.
            is_over = progress.map_err(|error| lost(&error))? == Progress::Closed;
            if read == 0 && !is_over {
                return Err("the connection ends in the middle of the answer".to_owned());
            }
        }
    }
}

/// The request as it is sent.
fn text_of(url: &Url<'_>, request: &Request) -> Vec<u8> {
    let (method, body) = match &request.method {
        Method::Get => ("GET", None),
        Method::Head => ("HEAD", None),
        Method::Post(body) => ("POST", Some(body)),
    };
    let Url { authority, path, .. } = url;
    let agent = concat!("couplet/", env!("CARGO_PKG_VERSION"));
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {agent}\r\n");
    text.push_str("Accept-Language: en\r\nConnection: close\r\n");
    if let Some(accept) = request.accept {
        text.push_str(&format!("Accept: {accept}\r\n"));
    }
    if let Some(body) = body {
        text.push_str(&format!("Content-Type: application/jose+json\r\nContent-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body.map_or("", String::as_str));
    text.into_bytes()
}

/// The answer, once all of it is there. `is_over`: there will be no more.
fn parse(bytes: &[u8], is_head: bool, is_over: bool, wall_ms: i64) -> Result<Option<Response>, String> {
    let mut rest = bytes;
    let mut fields;
    let broken = || "this is no answer of HTTP".to_owned();
    let (head, status) = loop {
        fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut head = httparse::Response::new(&mut fields);
        let Status::Complete(at) = head.parse(rest).map_err(|_| broken())? else { return Ok(None) };
        rest = rest.get(at..).unwrap_or_default();
        match head.code.unwrap_or_default() {
            // Interim ones (RFC 9110 section 15.2).
            100..200 => {}
            status => break (head, status),
        }
    };
    let field = |name: &str| {
        let found = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        found.and_then(|field| std::str::from_utf8(field.value).ok()).map(str::trim)
    };
    let body = if is_head || status == 204 || status == 304 {
        Some(Vec::new())
    } else if field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        chunked(rest)?
    } else if let Some(length) = field("content-length") {
        let length: usize = length.parse().map_err(|_| broken())?;
        rest.get(..length).map(<[u8]>::to_vec)
    } else {
        is_over.then(|| rest.to_vec())
    };
    let text = |name| field(name).map(str::to_owned);
    Ok(body.map(|body| Response {
        status,
        nonce: text("replay-nonce"),
        location: text("location"),
        retry_after_s: field("retry-after").and_then(|text| seconds(text, wall_ms)),
        body,
    }))
}

/// The content of chunks (RFC 9112 section 7.1), once the last is there.
fn chunked(mut bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let mut body = Vec::new();
    loop {
        let chunk = httparse::parse_chunk_size(bytes).map_err(|_| "this is no chunk of HTTP".to_owned())?;
        let Status::Complete((at, length)) = chunk else { return Ok(None) };
        if length == 0 {
            // Fields behind it say nothing that is of interest.
            return Ok(Some(body));
        }
        let length = usize::try_from(length).ok().filter(|length| *length <= ANSWER_BYTES_MAX);
        let length = length.ok_or("the answer is too long")?;
        let Some(content) = bytes.get(at..at + length) else { return Ok(None) };
        body.extend_from_slice(content);
        let Some(rest) = bytes.get(at + length + 2..) else { return Ok(None) };
        bytes = rest;
    }
}

/// `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date.
fn seconds(text: &str, wall_ms: i64) -> Option<u64> {
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    // Sun, 06 Nov 1994 08:49:37 GMT
    let mut parts = text.split_once(", ")?.1.split(' ');
    let (day, month, year, time) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|name| *name == month)? + 1;
    let at_ms = clock::datetime_ms(&format!("{year}-{month:02}-{day}T{time}Z"))?;
    Some(u64::try_from(at_ms.saturating_sub(wall_ms)).unwrap_or(0).div_ceil(1000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(text: &str, is_over: bool) -> Result<Option<Response>, String> {
        parse(text.as_bytes(), false, is_over, 784_111_777_000)
    }

    #[test]
    fn addresses_are_taken_apart() {
        let parts = |url: &'static str| Url::parse(url).map(|url| (url.host, url.port, url.authority, url.path));
        let whole = parts("https://ca.example:14000/dir?x=1#y");
        assert_eq!(whole, Some(("ca.example", 14000, "ca.example:14000", "/dir?x=1")));
        assert_eq!(parts("https://ca.example"), Some(("ca.example", 443, "ca.example", "/")));
        assert_eq!(parts("https://[::1]:99/"), Some(("::1", 99, "[::1]:99", "/")));
        assert_eq!(parts("https://[::1]"), Some(("::1", 443, "[::1]", "/")));
        for bad in ["http://a/", "https://", "https:///x", "https://a:b/", "https://a/\r\nX: y", "https://u@a/", "x"] {
            assert_eq!(parts(bad), None, "{bad}");
        }
    }

    #[test]
    fn requests_are_those_of_http_1_1() {
        let request = Request {
            url: "https://ca.example/new".to_owned(),
            method: Method::Post("{}".to_owned()),
            accept: Some("application/pem-certificate-chain"),
        };
        let text = String::from_utf8(text_of(&Url::parse(&request.url).unwrap(), &request)).unwrap();
        assert!(text.starts_with("POST /new HTTP/1.1\r\nHost: ca.example\r\nUser-Agent: couplet/"), "{text}");
        assert!(
            text.contains(
                "\r\nAccept-Language: en\r\nConnection: close\r\nAccept: application/pem-certificate-chain\r\n"
            ),
            "{text}"
        );
        assert!(text.ends_with("\r\nContent-Type: application/jose+json\r\nContent-Length: 2\r\n\r\n{}"), "{text}");
    }

    #[test]
    fn answers_are_read_in_each_form() {
        let head = "HTTP/1.1 201 Created\r\nReplay-Nonce: n1\r\nLocation: https://a\r\nRetry-After: 7\r\n";
        let with = |rest: &str, is_over| answer(&format!("{head}{rest}"), is_over).unwrap();
        let whole = with("Content-Length: 3\r\n\r\nabc", false).unwrap();
        assert_eq!((whole.status, whole.body.as_slice(), whole.retry_after_s), (201, &b"abc"[..], Some(7)));
        assert_eq!((whole.nonce.as_deref(), whole.location.as_deref()), (Some("n1"), Some("https://a")));
        assert_eq!(with("Content-Length: 3\r\n\r\nab", false), None);
        assert_eq!(with("Content-Length: 3\r\n\r\nab", true), None);
        assert_eq!(with("\r\nab", false), None, "it may go on");
        assert_eq!(with("\r\nab", true).unwrap().body, b"ab");
        let chunks = "Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        assert_eq!(with(chunks, false).unwrap().body, b"abcde");
        assert_eq!(with(&chunks[..chunks.len() - 7], false), None);
        assert!(answer(&format!("{head}Transfer-Encoding: chunked\r\n\r\nfffffffff\r\n"), false).is_err());
        assert!(answer(&format!("{head}Content-Length: x\r\n\r\n"), false).is_err());
        assert_eq!(answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n", false).unwrap().unwrap().status, 204);
        assert!(answer("SSH-2.0-x\r\n", false).is_err());
        assert_eq!(answer("HTTP/1.1 200", false), Ok(None));
    }

    #[test]
    fn waits_are_seconds_or_dates() {
        assert_eq!(seconds("120", 0), Some(120));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_770_000), Some(7));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_999_000), Some(0));
        assert_eq!(seconds("soon", 0), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(rest: Vec<u8>, is_over: bool) {
            let _ = parse(&rest, false, is_over, 0);
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            let _ = parse(&[head, rest.as_slice()].concat(), false, is_over, 0);
        }
    }
}

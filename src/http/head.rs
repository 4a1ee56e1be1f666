//! The head of a request (RFC 9112 sections 2 to 7): read strictly, so that nobody before or behind this server can
//! see another request in the same bytes.

use super::answer::Status;
use crate::budget::allocated;

/// Bytes of a head, request line and all.
pub const HEAD_BYTES_MAX: usize = 8192;
/// Bytes of a request line.
pub const LINE_BYTES_MAX: usize = 4096;
/// Fields of a head.
const FIELDS_MAX: usize = 64;

/// What is to be done (RFC 9110 section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Transfer a resource.
    Get,
    /// The same without its content.
    Head,
    /// Let a resource process the content.
    Post,
    /// Make the content the resource.
    Put,
    /// Say what may be done.
    Options,
}

/// How long the content of a request is (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// So many bytes; 0 where nothing is said.
    Known(u64),
    /// As many as come in chunks.
    Chunked,
}

/// The head of a request.
#[derive(Debug)]
pub struct Head {
    /// What is to be done.
    pub method: Method,
    /// Where: with a slash at the start, still percent-encoded.
    pub path: String,
    /// What stands behind the question mark.
    pub query: String,
    /// Name of the host that is asked, in lower case, without its port; empty with HTTP/1.0, perhaps.
    pub host: String,
    /// HTTP/1.1, not 1.0.
    pub is_1_1: bool,
    /// The client means to send more requests on this connection.
    pub keeps: bool,
    /// The client waits for a word before it sends the content (RFC 9110 section 10.1.1).
    pub expects: bool,
    /// Of the content.
    pub length: Length,
    /// Names, in lower case, and values.
    fields: Vec<(Box<str>, Box<str>)>,
}

impl Head {
    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        let fields = self.fields.iter().map(|(name, value)| allocated(name.len()) + allocated(value.len()));
        let texts = [&self.path, &self.query, &self.host].map(|text| allocated(text.capacity()));
        allocated(self.fields.capacity() * size_of::<(Box<str>, Box<str>)>())
            + fields.sum::<usize>()
            + texts.iter().sum::<usize>()
    }

    /// The value of a field that stands there once; `name` in lower case.
    pub fn field<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let mut all = self.all(name);
        all.next().filter(|_| all.next().is_none())
    }

    /// All values of a field, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a str> {
        self.fields.iter().filter(move |(n, _)| **n == *name).map(|(_, value)| &**value)
    }

    /// The members of a field that is a list (RFC 9110 section 5.6.1).
    pub fn list<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a str> {
        self.all(name).flat_map(|value| value.split(',')).map(str::trim).filter(|member| !member.is_empty())
    }

    /// True when a field that is a list has this member, in whatever case.
    pub fn has(&self, name: &str, member: &str) -> bool {
        self.list(name).any(|m| m.eq_ignore_ascii_case(member))
    }
}

/// Reads the head at the start of `bytes`: the head and its length, or nothing while it is not complete.
///
/// # Errors
/// The status to answer with; the connection is of no use then.
pub fn read(bytes: &[u8]) -> Result<Option<(Head, usize)>, Status> {
    // White space before a request is not skipped for ever (section 2.2).
    if bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count() > 4 {
        return Err(Status::BadRequest);
    }
    if line_len(bytes) > LINE_BYTES_MAX {
        return Err(Status::UriTooLong);
    }
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    // What is behind the longest head cannot make a difference, however much of it is here already.
    let len = match request.parse(bytes.get(..HEAD_BYTES_MAX).unwrap_or(bytes)) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if bytes.len() > HEAD_BYTES_MAX => return Err(Status::FieldsTooLarge),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Status::FieldsTooLarge),
        Err(httparse::Error::Version) => return Err(Status::VersionNotSupported),
        Err(_) => return Err(Status::BadRequest),
    };
    let raw = bytes.get(..len).unwrap_or_default();
    let has_bare_feed = memchr::memchr_iter(b'\n', raw).any(|at| at == 0 || raw.get(at - 1) != Some(&b'\r'));
    if has_bare_feed {
        return Err(Status::BadRequest);
    }
    let mut kept = Vec::with_capacity(request.headers.len());
    for field in request.headers.iter() {
        let value = std::str::from_utf8(field.value).map_err(|_| Status::BadRequest)?;
        kept.push((field.name.to_ascii_lowercase().into_boxed_str(), value.trim().into()));
    }
    let is_1_1 = request.version == Some(1);
    let (target, method) = (request.path.unwrap_or_default(), request.method.unwrap_or_default());
    let (authority, path, query) = target_of(target, method)?;
    let mut head = Head {
        method: method_of(method)?,
        path: path.to_owned(),
        query: query.to_owned(),
        host: String::new(),
        is_1_1,
        keeps: false,
        expects: false,
        length: Length::Known(0),
        fields: kept,
    };
    head.host = host_of(&head, authority)?;
    head.length = length_of(&head)?;
    head.keeps = if is_1_1 { !head.has("connection", "close") } else { head.has("connection", "keep-alive") };
    head.expects = match head.field("expect") {
        None if head.all("expect").next().is_some() => return Err(Status::ExpectationFailed),
        None => false,
        // Section 10.1.1: a client of 1.0 does not know what would come.
        Some(expected) if expected.eq_ignore_ascii_case("100-continue") => is_1_1,
        Some(_) => return Err(Status::ExpectationFailed),
    };
    Ok(Some((head, len)))
}

fn line_len(bytes: &[u8]) -> usize {
    let start = bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    let line = bytes.get(start..).unwrap_or_default();
    memchr::memchr(b'\n', line).unwrap_or(line.len())
}

fn method_of(name: &str) -> Result<Method, Status> {
    match name {
        "GET" => Ok(Method::Get),
        "HEAD" => Ok(Method::Head),
        "POST" => Ok(Method::Post),
        "PUT" => Ok(Method::Put),
        "OPTIONS" => Ok(Method::Options),
        _ => Err(Status::NotImplemented),
    }
}

/// Authority, path and query of a target (RFC 9112 section 3.2).
fn target_of<'a>(target: &'a str, method: &str) -> Result<(Option<&'a str>, &'a str, &'a str), Status> {
    let (authority, rest) = if target.starts_with('/') {
        (None, target)
    } else if target == "*" && method == "OPTIONS" {
        (None, "*")
    } else {
        let after = ["http://", "https://"].into_iter().find_map(|scheme| {
            let is_scheme = target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
            target.get(scheme.len()..).filter(|_| is_scheme)
        });
        let after = after.ok_or(Status::BadRequest)?;
        let end = after.find(['/', '?']).unwrap_or(after.len());
        let (authority, rest) = after.split_at(end);
        // User information in an http URI is an error (RFC 9110 section 4.2.4).
        if authority.is_empty() || authority.contains('@') {
            return Err(Status::BadRequest);
        }
        (Some(authority), if rest.is_empty() { "/" } else { rest })
    };
    if !target.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        return Err(Status::BadRequest);
    }
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    Ok((authority, if path.is_empty() { "/" } else { path }, query))
}

/// Section 3.2: a request of 1.1 has one `Host`, and a target with an authority counts more.
fn host_of(head: &Head, authority: Option<&str>) -> Result<String, Status> {
    let said = match (head.field("host"), head.all("host").count()) {
        (Some(host), 1) => host,
        (_, 0) if !head.is_1_1 => "",
        _ => return Err(Status::BadRequest),
    };
    let text = authority.unwrap_or(said);
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']' | b'%');
    if !text.bytes().all(is_name) || !said.bytes().all(is_name) {
        return Err(Status::BadRequest);
    }
    let name = match text.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => text,
    };
    Ok(name.trim_end_matches('.').to_ascii_lowercase())
}

/// Section 6: one length, said once and in one way.
fn length_of(head: &Head) -> Result<Length, Status> {
    let lengths = head.all("content-length").count();
    let mut codings = head.all("transfer-encoding").peekable();
    if codings.peek().is_some() {
        // Section 6.1: who sends both tries to smuggle; 1.0 has no chunks.
        if lengths > 0 || !head.is_1_1 {
            return Err(Status::BadRequest);
        }
        return match (codings.next(), codings.next()) {
            (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => Ok(Length::Chunked),
            (Some(""), None) => Err(Status::BadRequest),
            // Other codings, and chunks that are not the last of them.
            (Some(coding), None) if !coding.to_ascii_lowercase().contains("chunked") => Err(Status::NotImplemented),
            _ => Err(Status::BadRequest),
        };
    }
    match (head.field("content-length"), lengths) {
        (None, 0) => Ok(Length::Known(0)),
        (Some(digits), 1) if (1..=18).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().map(Length::Known).map_err(|_| Status::BadRequest)
        }
        _ => Err(Status::BadRequest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Option<(Head, usize)>, Status> {
        read(text.as_bytes())
    }

    fn get(fields: &str) -> Result<Head, Status> {
        head(&format!("GET / HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n")).map(|found| found.unwrap().0)
    }

    #[test]
    fn a_head_is_read() {
        let text = "GET /a%20b?c=d HTTP/1.1\r\nHost: A.example.:5280\r\nAccept: x\r\nX-A: 1, 2\r\nx-a:3 \r\n\r\nrest";
        let (head, len) = head(text).unwrap().unwrap();
        assert_eq!((head.path.as_str(), head.query.as_str(), head.host.as_str()), ("/a%20b", "c=d", "a.example"));
        assert_eq!(&text[len..], "rest");
        assert!(head.keeps && !head.expects && head.length == Length::Known(0));
        assert_eq!(head.list("x-a").collect::<Vec<_>>(), ["1", "2", "3"]);
        assert_eq!((head.field("x-a"), head.field("accept")), (None, Some("x")));
        for end in 0..text.len() - 4 {
            assert!(read(&text.as_bytes()[..end]).unwrap().is_none(), "{end}");
        }
    }

    #[test]
    fn targets_have_their_forms() {
        let target = |target: &str| {
            let found = head(&format!("OPTIONS {target} HTTP/1.1\r\nHost: b.example\r\n\r\n"));
            found.map(|found| found.map(|(head, _)| (head.host, head.path, head.query)).unwrap())
        };
        let is = |host: &str, path: &str, query: &str| Ok((host.to_owned(), path.to_owned(), query.to_owned()));
        assert_eq!(target("/x"), is("b.example", "/x", ""));
        assert_eq!(target("*"), is("b.example", "*", ""));
        assert_eq!(target("http://c.example:80/y?z"), is("c.example", "/y", "z"));
        assert_eq!(target("HTTPS://[2001:db8::1]"), is("[2001:db8::1]", "/", ""));
        for wrong in ["x", "http://", "http://u@c.example/", "ftp://c.example/", "/a#b", "c.example:443"] {
            assert_eq!(target(wrong), Err(Status::BadRequest), "{wrong}");
        }
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for fields in [
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: 0x1\r\n",
            "Content-Length:\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding:\r\n",
            "Host: b.example\r\n",
            "A : b\r\n",
            " A: b\r\n",
            "A: b\r\n c\r\n",
            "A: b\nC: d\r\n",
            "A: b\rC: d\r\n",
            "A: \0\r\n",
            "A: \u{7f}\r\n",
            "=: b\u{0}\r\n",
        ] {
            assert_eq!(get(fields).map(|_| ()), Err(Status::BadRequest), "{fields:?}");
        }
        assert_eq!(get("Transfer-Encoding: gzip\r\n").map(|_| ()), Err(Status::NotImplemented));
        assert_eq!(get("Expect: 200-ok\r\n").map(|_| ()), Err(Status::ExpectationFailed));
        assert_eq!(get("Transfer-Encoding: Chunked\r\n").unwrap().length, Length::Chunked);
        let of = |text: &str| head(text).map(|_| ());
        assert_eq!(of("GET / HTTP/1.1\r\n\r\n"), Err(Status::BadRequest), "no host");
        assert_eq!(of("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), Err(Status::BadRequest));
        assert_eq!(of("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), Err(Status::VersionNotSupported));
        assert_eq!(of("GET  / HTTP/1.1\r\nHost: a\r\n\r\n"), Err(Status::BadRequest));
        assert_eq!(of("BREW / HTTP/1.1\r\nHost: a\r\n\r\n"), Err(Status::NotImplemented));
        assert_eq!(of("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), Err(Status::BadRequest));
        assert_eq!(of("\r\n\r\n\r\nGET"), Err(Status::BadRequest));
    }

    #[test]
    fn heads_are_bounded() {
        let line = format!("GET /{} HTTP/1.1\r\n", "a".repeat(LINE_BYTES_MAX));
        assert_eq!(head(&line).map(|_| ()), Err(Status::UriTooLong));
        assert_eq!(head(&line[..LINE_BYTES_MAX + 2]).map(|_| ()), Err(Status::UriTooLong));
        let many = "A: b\r\n".repeat(FIELDS_MAX);
        assert_eq!(get(&many).map(|_| ()), Err(Status::FieldsTooLarge));
        let long = format!("A: {}", "b".repeat(HEAD_BYTES_MAX));
        assert_eq!(head(&format!("GET / HTTP/1.1\r\n{long}")).map(|_| ()), Err(Status::FieldsTooLarge));
    }

    #[test]
    fn who_keeps_the_connection() {
        assert!(!get("Connection: keep-alive, Close\r\n").unwrap().keeps);
        let old = |fields: &str| head(&format!("GET / HTTP/1.0\r\n{fields}\r\n")).unwrap().unwrap().0;
        assert!(!old("").keeps && old("Connection: Keep-Alive\r\n").keeps);
        assert!(get("Expect: 100-Continue\r\n").unwrap().expects && !old("Expect: 100-continue\r\n").expects);
    }
}

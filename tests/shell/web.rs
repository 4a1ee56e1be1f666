//! HTTP over real sockets, with TLS and without.

use super::*;
use couplet::http::SiteOptions;

pub fn options() -> SiteOptions {
    SiteOptions {
        hosts: vec!["localhost".to_owned(), "b.example".to_owned()],
        external_url: "https://{host}:5281/".to_owned(),
        trusted: Vec::new(),
        proxy_protocol: false,
        origins: vec!["*".to_owned()],
        websocket: true,
        bosh: true,
        files: None,
        metrics_from: couplet::core::settings::LOOPBACK.to_vec(),
    }
}

fn start(name: &str, limits: Limits) -> Server {
    start_with(name, limits, |_| {})
}

fn start_with(name: &str, limits: Limits, change: impl FnOnce(&mut ServeOptions) + Send + 'static) -> Server {
    Server::start_with(name, limits, |options| {
        options.listen.extend([(ANY, Role::Web, Transport::StartTls), (ANY, Role::Web, Transport::DirectTls)]);
        change(options);
    })
}

fn web(server: &Server) -> Client<TcpStream> {
    let client = plain(server.addresses[2]);
    client.stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    client
}

const GET: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Head and content of the next answer.
pub fn answer<S: Read + Write>(client: &mut Client<S>) -> (String, String) {
    let head = client.hear("\r\n\r\n");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).map_or(0, |n| n.parse().unwrap());
    while client.got.len() < length {
        let mut buffer = [0; 4096];
        let read = client.stream.read(&mut buffer).unwrap();
        assert!(read > 0, "the end came in the middle of an answer");
        client.got.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    let rest = client.got.split_off(length);
    (head, std::mem::replace(&mut client.got, rest))
}

pub fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn requests_on_one_connection_are_answered_in_their_order() {
    let server = start("http-keep", Limits::default());
    let mut client = web(&server);
    client.say(&format!("{GET}HEAD /readyz HTTP/1.1\r\nHost: a\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n"));
    let (head, content) = answer(&mut client);
    assert_eq!((status(&head), content.as_str()), (200, "ok\n"));
    assert!(head.contains("X-Content-Type-Options: nosniff") && head.contains("\r\nDate: "), "{head}");
    let head = client.hear("\r\n\r\n");
    assert!(status(&head) == 200 && head.contains("Content-Length: 6\r\n"), "{head}");
    assert_eq!(status(&answer(&mut client).0), 404);
    client.say("GET /.well-known/host-meta.json HTTP/1.1\r\nHost: b.example\r\nOrigin: https://x.example\r\n");
    client.say("Connection: close\r\n\r\n");
    let head = client.hear("\r\n\r\n");
    assert!(head.contains("Access-Control-Allow-Origin: *") && head.contains("Connection: close"), "{head}");
    assert!(client.hear_all().starts_with("{\"links\":["));
    server.stop();
}

#[test]
fn one_port_serves_both_as_alpn_says() {
    let server = start("http-alpn", Limits::default());
    server.add_user("romeo");
    for (port, name) in [(server.addresses[1], "that of clients"), (server.addresses[3], "that of HTTP")] {
        let mut browser = under_tls_for(plain(port), b"http/1.1");
        for _ in 0..2 {
            browser.say(GET);
            assert_eq!(answer(&mut browser).1, "ok\n", "{name}");
        }
        let mut client = under_tls(plain(port));
        let features = client.open();
        assert!(features.contains("SCRAM-SHA-256-PLUS"), "{name}: {features}");
        client.say("</stream:stream>");
        client.hear_all();
    }
    server.stop();
}

#[test]
fn what_could_be_read_in_two_ways_is_refused_and_the_connection_ends() {
    let server = start("http-smuggling", Limits::default());
    let smuggled = "GET /healthz HTTP/1.1\r\nHost: smuggled\r\n\r\n";
    for (request, code) in [
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n", 400),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        // A content that nobody reads must not be taken for a request.
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 41\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: wonders\r\n\r\n", 417),
    ] {
        let mut client = web(&server);
        client.say(&format!("{request}{smuggled}"));
        let all = client.hear_all();
        assert_eq!(status(&all), code, "{request:?}: {all}");
        assert_eq!(all.matches("HTTP/1.1 ").count(), 1, "{request:?}: {all}");
        assert!(all.contains("Connection: close\r\n"), "{request:?}: {all}");
    }
    let mut client = web(&server);
    client.say(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(5000)));
    assert_eq!(status(&client.hear_all()), 414);
    let mut client = web(&server);
    client.say(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "a".repeat(8192)));
    assert_eq!(status(&client.hear_all()), 431);
    server.stop();
}

#[test]
fn who_is_slow_is_given_up() {
    let limits = Limits { http_head_timeout_s: 1, http_idle_timeout_s: 1, ..Limits::default() };
    let server = start("http-slow", limits);
    let (mut silent, mut drips, mut idle) = (web(&server), web(&server), web(&server));
    drips.say("GET / HTTP/1.1\r\nHost:");
    idle.say(GET);
    assert_eq!(answer(&mut idle).1, "ok\n");
    assert_eq!(silent.hear_all(), "");
    assert_eq!(status(&drips.hear_all()), 408);
    assert_eq!(idle.hear_all(), "");
    server.stop();
}

#[test]
fn connections_of_http_are_counted() {
    let server = start("http-many", Limits { connections_max: 3, ..Limits::default() });
    let mut clients: Vec<_> = (0..3).map(|_| web(&server)).collect();
    for client in &mut clients {
        client.say(GET);
        assert_eq!(answer(client).1, "ok\n");
    }
    let mut refused = Vec::new();
    let _ = web(&server).stream.read_to_end(&mut refused);
    assert_eq!(refused, b"");
    let _ = plain(server.starttls).stream.read_to_end(&mut refused);
    assert_eq!(refused, b"");
    let status = server.ask(Command::Status).text;
    let sockets = status.lines().find_map(|line| line.trim().strip_prefix("sockets and TLS: ")).unwrap().to_owned();
    assert!(sockets.parse::<u32>().unwrap() > 3 * 500, "{sockets}");
    drop(clients);
    server.stop();
}

#[test]
fn a_proxy_says_who_comes_and_nobody_else_does() {
    let server = start_with("http-proxy", Limits::default(), |options| {
        options.tuning.site.trusted = couplet::core::settings::LOOPBACK.to_vec();
        options.tuning.site.proxy_protocol = true;
    });
    let mut client = web(&server);
    client.say(&format!("PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n{GET}"));
    assert_eq!(answer(&mut client).1, "ok\n");
    // Behind it TLS, and in pieces.
    let mut client = plain(server.addresses[3]);
    let header: Vec<u8> =
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &[192, 0, 2, 7, 198, 51, 100, 1, 0, 1, 0, 2]].concat();
    client.stream.write_all(&header[..9]).unwrap();
    client.stream.flush().unwrap();
    std::thread::yield_now();
    client.stream.write_all(&header[9..]).unwrap();
    let mut browser = under_tls_for(client, b"http/1.1");
    browser.say(GET);
    assert_eq!(answer(&mut browser).1, "ok\n");
    let mut client = web(&server);
    client.say(GET);
    let mut heard = Vec::new();
    let _ = client.stream.read_to_end(&mut heard);
    assert_eq!(heard, b"");
    server.stop();
}

/// A WebSocket's client.
struct Socket<S> {
    stream: S,
    got: Vec<u8>,
}

const KEY: &str = "GET /xmpp-websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Protocol: xmpp\r\n";

impl<S: Read + Write> Socket<S> {
    fn open(mut client: Client<S>, fields: &str) -> Self {
        client.say(&format!("{KEY}{fields}\r\n"));
        let head = client.hear("\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        Self { stream: client.stream, got: client.got.into_bytes() }
    }

    fn frame(&mut self, first: u8, payload: &[u8]) {
        let mut out = vec![first];
        match payload.len() {
            len @ 0..=125 => out.push(0x80 | len as u8),
            len @ 126..=0xffff => {
                out.push(0xfe);
                out.extend((len as u16).to_be_bytes());
            }
            len => {
                out.push(0xff);
                out.extend((len as u64).to_be_bytes());
            }
        }
        let mask = [1, 2, 3, 4];
        out.extend(mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b));
        self.stream.write_all(&out).unwrap();
        self.stream.flush().unwrap();
    }

    fn say(&mut self, text: &str) {
        self.frame(0x81, text.as_bytes());
    }

    /// Opcode and payload of the next frame; none at the end.
    fn hear(&mut self) -> Option<(u8, String)> {
        loop {
            let long = |bytes: &[u8]| bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b));
            let found = match self.got[..] {
                [first, len @ 0..=125, ..] => Some((first, 2, usize::from(len))),
                [first, 126, a, b, ..] => Some((first, 4, long(&[a, b]))),
                [first, 127, ..] if self.got.len() >= 10 => Some((first, 10, long(&self.got[2..10]))),
                _ => None,
            };
            if let Some((first, head, len)) = found.filter(|(_, head, len)| self.got.len() >= head + len) {
                let payload: Vec<u8> = self.got.drain(..head + len).skip(head).collect();
                assert_eq!(first & 0xf0, 0x80);
                return Some((first & 15, String::from_utf8_lossy(&payload).into_owned()));
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.got.extend(&buffer[..read]),
            }
        }
    }

    fn text(&mut self) -> String {
        match self.hear() {
            Some((1, text)) => text,
            other => panic!("{other:?}"),
        }
    }

    fn open_stream(&mut self) -> String {
        self.say("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='localhost' version='1.0'/>");
        let open = self.text();
        assert!(open.starts_with("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' id="), "{open}");
        let features = self.text();
        assert!(
            features.starts_with("<stream:features xmlns:stream='http://etherx.jabber.org/streams'>"),
            "{features}"
        );
        features
    }

    fn log_in(&mut self, user: &str, resource: &str) {
        let features = self.open_stream();
        assert!(!features.contains("-PLUS"), "a browser knows no channel: {features}");
        let response = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, format!("\0{user}\0secret"));
        self.say(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{response}</auth>"));
        assert_eq!(self.text(), "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
        assert!(self.open_stream().contains("<sm xmlns='urn:xmpp:sm:3'/>"));
        self.say(&format!(
            "<iq xmlns='jabber:client' type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <resource>{resource}</resource></bind></iq>"
        ));
        let bound = self.text();
        assert!(bound.starts_with("<iq xmlns='jabber:client' id='b' type='result'>"), "{bound}");
        self.say("<presence xmlns='jabber:client'/>");
        let presence = self.text();
        assert!(presence.starts_with("<presence xmlns='jabber:client' "), "{presence}");
    }
}

#[test]
fn a_client_comes_by_websocket() {
    let server = start("websocket", Limits::default());
    server.add_user("romeo");
    server.add_user("juliet");
    let mut juliet = log_in(&server, "juliet");
    let mut romeo =
        Socket::open(under_tls_for(plain(server.addresses[3]), b"http/1.1"), "Origin: https://x.example\r\n");
    romeo.log_in("romeo", "web");
    // In fragments, with a ping between.
    romeo.frame(0x01, b"<message xmlns='jabber:client' to='juliet@localhost' type='chat' id='m1'>");
    romeo.frame(0x89, b"there?");
    romeo.frame(0x80, b"<body>Hi</body></message>");
    assert_eq!(romeo.hear(), Some((10, "there?".to_owned())));
    assert!(juliet.hear("</message>").contains("<body>Hi</body>"));
    juliet.say("<message to='romeo@localhost/web' type='chat' id='m2'><body>Ho</body></message>");
    let message = romeo.text();
    assert!(message.starts_with("<message xmlns='jabber:client' to='romeo@localhost/web' "), "{message}");
    let long = "x".repeat(100_000);
    romeo.say(&format!("<message xmlns='jabber:client' to='juliet@localhost' id='m3'><body>{long}</body></message>"));
    assert!(juliet.hear("</message>").contains(&long));
    let status = server.ask(Command::Status).text;
    assert!(status.contains("connections: 2, sessions: 2 of 2 accounts"), "{status}");
    romeo.say("<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>");
    assert_eq!(romeo.text(), "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>");
    assert_eq!(romeo.hear(), Some((8, "\u{3}\u{fffd}".to_owned())), "1000");
    assert_eq!(romeo.hear(), None);
    server.stop();
}

#[test]
fn a_websocket_that_is_lost_is_resumed_by_another() {
    let server = start("websocket-resumed", Limits::default());
    server.add_user("romeo");
    server.add_user("juliet");
    let open = || Socket::open(under_tls_for(plain(server.addresses[3]), b"http/1.1"), "");
    let mut romeo = open();
    romeo.log_in("romeo", "web");
    romeo.say("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    let enabled = romeo.text();
    let id = enabled.split("id='").nth(1).unwrap().split('\'').next().unwrap().to_owned();
    drop(romeo);
    let mut juliet = log_in(&server, "juliet");
    juliet.say("<message to='romeo@localhost/web' type='chat' id='m1'><body>Back?</body></message>");
    let mut again = open();
    again.open_stream();
    let response = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, "\0romeo\0secret");
    again.say(&format!(
        "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response>{response}</initial-response>\
         <resume xmlns='urn:xmpp:sm:3' h='0' previd='{id}'/></authenticate>"
    ));
    let success = again.text();
    assert!(success.starts_with("<success xmlns='urn:xmpp:sasl:2'>") && success.contains("<resumed"), "{success}");
    let mut heard = String::new();
    while !heard.contains("Back?") {
        heard = again.text();
    }
    server.stop();
}

#[test]
fn what_a_websocket_must_not_say_ends_it() {
    let server = start_with("websocket-bad", Limits::default(), |options| {
        options.tuning.site.trusted = couplet::core::settings::LOOPBACK.to_vec();
        options.tuning.site.origins = vec!["https://chat.example".to_owned()];
    });
    let open = |fields: &str| Socket::open(web(&server), fields);
    let code = |socket: &mut Socket<TcpStream>| loop {
        match socket.hear() {
            Some((8, code)) => return code,
            Some((1, _)) => {}
            other => panic!("{other:?}"),
        }
    };
    for (first, payload, expected) in
        [(0x82, &b"<open/>"[..], "\u{3}\u{fffd}"), (0x81, b"\xff", "\u{3}\u{fffd}"), (0x91, b"a", "\u{3}\u{fffd}")]
    {
        let mut socket = open("");
        socket.frame(first, payload);
        assert_eq!(code(&mut socket), expected);
        assert_eq!(socket.hear(), None);
    }
    // More than a stranger may say.
    let mut socket = open("");
    socket.frame(0x01, &[b'<'; 10_000]);
    socket.frame(0x00, &[b'<'; 10_000]);
    assert_eq!(code(&mut socket), "\u{3}\u{fffd}");
    // Elements that do not stand alone.
    for wrong in ["<presence/>", "x", "<open", "<stream:stream xmlns:stream='http://etherx.jabber.org/streams'>"] {
        let mut socket = open("");
        socket.say(wrong);
        assert!(socket.text().starts_with("<open "));
        let error = socket.text();
        assert!(error.starts_with("<stream:error xmlns:stream='http://etherx.jabber.org/streams'><"), "{error}");
        assert_eq!(socket.text(), "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>");
        code(&mut socket);
    }
    // Behind a proxy without TLS nobody logs in; with it, he does.
    let mut socket = open("X-Forwarded-For: 192.0.2.7\r\n");
    assert!(!socket.open_stream().contains("mechanism"));
    let mut socket = open("X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nOrigin: https://chat.example\r\n");
    assert!(socket.open_stream().contains("SCRAM-SHA-256"));
    let mut evil = web(&server);
    evil.say(&format!("{KEY}Origin: https://evil.example\r\n\r\n"));
    assert_eq!(status(&answer(&mut evil).0), 403);
    server.stop();
}

#[test]
fn figures_are_for_those_who_may_see_them() {
    let server = start_with("metrics", Limits::default(), |options| {
        options.tuning.site.trusted = couplet::core::settings::LOOPBACK.to_vec();
    });
    server.add_user("romeo");
    let romeo = log_in(&server, "romeo");
    let mut client = web(&server);
    client.say("GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: application/openmetrics-text;version=1.0.0\r\n\r\n");
    let (head, text) = answer(&mut client);
    assert!(head.contains("Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"), "{head}");
    for line in [
        "# TYPE couplet_logins counter",
        "couplet_logins_total 1",
        "couplet_sessions 1",
        "couplet_clients 1",
        "couplet_http_connections 1",
        "prosody_connections_total 2",
        "couplet_memory_state{state=\"normal\"} 1",
        "couplet_s2s_streams{direction=\"out\"} 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert!(text.contains("couplet_tick_seconds_bucket{le=\"+Inf\"} ") && text.ends_with("# EOF\n"), "{text}");
    let mut names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "each family once");
    client.say("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    let (head, text) = answer(&mut client);
    assert!(head.contains("Content-Type: text/plain; version=0.0.4"), "{head}");
    assert!(text.contains("# TYPE couplet_logins_total counter\n") && !text.contains("EOF"), "{text}");
    client.say("GET /metrics HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n");
    assert_eq!(status(&answer(&mut client).0), 403);
    drop(romeo);
    server.stop();
}

fn start_with_files(name: &str, total_max: u64, expires_s: u32) -> Server {
    start_with(name, Limits::default(), move |options| {
        let folder = options.certificates.parent().unwrap().join("uploads");
        options.tuning.site.files = Some(couplet::http::upload::FilesOptions { folder, expires_s, total_max });
    })
}

/// Path and token of a slot.
fn slot(client: &mut TlsClient, name: &str, size: usize) -> (String, String) {
    client.say(&format!(
        "<iq type='get' id='u' to='localhost'><request xmlns='urn:xmpp:http:upload:0' filename='{name}' size='{size}' \
         content-type='image/png'/></iq>"
    ));
    let answer = client.hear("</iq>");
    let between = |from: &str, to: &str| answer.split(from).nth(1).unwrap().split(to).next().unwrap().to_owned();
    assert_eq!(between("<put url='", "'"), between("<get url='", "'"));
    (between("<put url='https://localhost:5281", "'"), between("Bearer ", "<"))
}

fn put(client: &mut Client<TcpStream>, path: &str, token: &str, content: &[u8]) -> (String, String) {
    client.say(&format!(
        "PUT {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\
         Content-Type: image/png\r\nOrigin: https://x.example\r\n\r\n",
        content.len()
    ));
    // A server that refuses may close before it has read all.
    let _ = client.stream.write_all(content);
    answer(client)
}

#[test]
fn a_file_is_brought_and_fetched() {
    let server = start_with_files("upload", 0, 3600);
    server.add_user("romeo");
    let mut romeo = log_in(&server, "romeo");
    let content: Vec<u8> = (0..300_000_u32).map(|n| (n % 251 % 64) as u8 + 32).collect();
    let (path, token) = slot(&mut romeo, "tr\u{e8}s cool.png", content.len());
    assert!(path.ends_with("/tr%C3%A8s%20cool.png"), "{path}");
    let mut client = web(&server);
    client.say(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(status(&answer(&mut client).0), 404);
    let (head, _) = put(&mut client, &path, &token, &content);
    assert_eq!(status(&head), 201, "{head}");
    assert!(head.contains("Access-Control-Allow-Origin: *"), "{head}");
    // On the same connection, whole.
    client.say(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    let (head, text) = answer(&mut client);
    assert!(text.as_bytes() == content, "{} bytes", text.len());
    for field in [
        "Content-Type: image/png\r\n",
        "Content-Disposition: inline; filename*=UTF-8''tr%C3%A8s%20cool.png\r\n",
        "X-Content-Type-Options: nosniff\r\n",
        "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'; sandbox\r\n",
        "Accept-Ranges: bytes\r\n",
    ] {
        assert!(head.contains(field), "{field}{head}");
    }
    client.say(&format!("GET {path} HTTP/1.1\r\nHost: a\r\nRange: bytes=100000-199999\r\n\r\n"));
    let (head, text) = answer(&mut client);
    assert_eq!((status(&head), text.as_bytes() == &content[100_000..200_000]), (206, true));
    client.say(&format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert!(client.hear("\r\n\r\n").contains("Content-Length: 300000\r\n"));
    // Not twice, not another, not without a slot.
    assert_eq!(status(&put(&mut web(&server), &path, &token, &content).0), 409);
    assert_eq!(status(&put(&mut web(&server), &path, &token, &content[1..]).0), 400);
    assert_eq!(status(&put(&mut web(&server), &path, &format!("{token}x"), &content).0), 403);
    assert_eq!(status(&put(&mut web(&server), &path.replace(".png", ".exe"), &token, &content).0), 403);
    client.say(&format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", path.replace(".png", ".exe")));
    assert_eq!(status(&answer(&mut client).0), 404);
    client.say(&format!("OPTIONS {path} HTTP/1.1\r\nHost: a\r\nOrigin: https://x.example\r\n\r\n"));
    let (head, _) = answer(&mut client);
    assert!(head.contains("Access-Control-Allow-Methods: GET, HEAD, PUT, OPTIONS\r\n"), "{head}");
    // In chunks with a word before: there is no length to hold it against.
    let (path, token) = slot(&mut romeo, "b.png", 5);
    client.say(&format!(
        "PUT {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n"
    ));
    assert_eq!(status(&answer(&mut client).0), 411);
    let mut client = web(&server);
    client.say(&format!(
        "PUT {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: 5\r\n\
         Expect: 100-continue\r\n\r\n"
    ));
    assert_eq!(client.hear("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    client.say("12345");
    assert_eq!(status(&answer(&mut client).0), 201);
    // One that is cut off leaves nothing, and its slot can still be used.
    let (path, token) = slot(&mut romeo, "c.png", 100_000);
    let mut cut = web(&server);
    cut.say(&format!(
        "PUT {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: 100000\r\n\r\n1234"
    ));
    drop(cut);
    let whole = loop {
        let (head, _) = put(&mut web(&server), &path, &token, &content[..100_000]);
        if status(&head) != 409 {
            break status(&head);
        }
    };
    assert_eq!(whole, 201);
    let folder = server.folder.join("uploads");
    assert!(
        std::fs::read_dir(folder).unwrap().all(|entry| !entry.unwrap().file_name().to_string_lossy().contains('.'))
    );
    server.stop();
}

#[test]
fn files_have_their_room_and_their_time() {
    let server = start_with_files("upload-quota", 100_100, 3600);
    server.add_user("romeo");
    let mut romeo = log_in(&server, "romeo");
    let (path, token) = slot(&mut romeo, "a.png", 100_000);
    let (other, token_of_other) = slot(&mut romeo, "b.png", 1000);
    assert_eq!(status(&put(&mut web(&server), &path, &token, &[b'x'; 100_000]).0), 201);
    assert_eq!(status(&put(&mut web(&server), &other, &token_of_other, &[b'x'; 1000]).0), 507);
    // Nobody gets what is too old, whether it was deleted or not.
    let mut client = web(&server);
    let get = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    client.say(&get);
    assert_eq!(status(&answer(&mut client).0), 200);
    let file = server.folder.join("uploads").join(path.split('/').nth(2).unwrap());
    let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(3700)).unwrap();
    client.say(&get);
    assert_eq!(status(&answer(&mut client).0), 404);
    server.stop();
}

const BODY: &str = "<body xmlns='http://jabber.org/protocol/httpbind' xmlns:xmpp='urn:xmpp:xbosh'";

fn post<S: Read + Write>(client: &mut Client<S>, attributes: &str, payload: &str) {
    let body = format!("{BODY} {attributes}>{payload}</body>");
    client.say(&format!("POST /http-bind HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
}

fn bosh<S: Read + Write>(client: &mut Client<S>, attributes: &str, payload: &str) -> String {
    post(client, attributes, payload);
    let (head, body) = answer(client);
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("Content-Type: text/xml; charset=utf-8"), "{head}");
    body
}

fn attribute(body: &str, name: &str) -> String {
    body.split(&format!(" {name}='")).nth(1).unwrap_or_default().split('\'').next().unwrap().to_owned()
}

fn browser(server: &Server) -> TlsClient {
    under_tls_for(plain(server.addresses[3]), b"http/1.1")
}

/// A session of romeo's, whose last request was 1005.
fn log_in_by_bosh(client: &mut TlsClient) -> String {
    let features = bosh(client, "rid='1000' to='localhost' wait='60' hold='1' ver='1.6' xmpp:version='1.0'", "");
    assert!(features.contains("<stream:features xmlns:stream=") && features.contains(">SCRAM-SHA-256<"), "{features}");
    assert!(!features.contains("-PLUS") && !features.contains("starttls"), "{features}");
    assert_eq!((attribute(&features, "requests").as_str(), attribute(&features, "wait").as_str()), ("2", "60"));
    assert!(attribute(&features, "sid").len() >= 20 && attribute(&features, "authid").len() >= 20, "{features}");
    let sid = attribute(&features, "sid");
    let response = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, "\0romeo\0secret");
    let auth = format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{response}</auth>");
    let success = bosh(client, &format!("rid='1001' sid='{sid}'"), &auth);
    assert!(success.contains("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"), "{success}");
    let restart = format!("rid='1002' sid='{sid}' to='localhost' xmpp:restart='true'");
    assert!(bosh(client, &restart, "").contains("<bind xmlns="), "behind a login");
    let bind = "<iq xmlns='jabber:client' type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
                <resource>bosh</resource></bind></iq>";
    assert!(bosh(client, &format!("rid='1003' sid='{sid}'"), bind).contains("romeo@localhost/bosh"));
    let presence = bosh(client, &format!("rid='1004' sid='{sid}'"), "<presence xmlns='jabber:client'/>");
    assert!(presence.contains("<presence xmlns='jabber:client' "), "{presence}");
    let ping = "<iq xmlns='jabber:client' type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>";
    assert!(bosh(client, &format!("rid='1005' sid='{sid}'"), ping).contains("id='p'"));
    sid
}

#[test]
fn a_client_comes_by_bosh() {
    let server = start("bosh", Limits::default());
    server.add_user("romeo");
    server.add_user("juliet");
    let mut juliet = log_in(&server, "juliet");
    let (mut one, mut two) = (browser(&server), browser(&server));
    let sid = log_in_by_bosh(&mut one);
    // One request waits; what is said comes on it.
    post(&mut one, &format!("rid='1006' sid='{sid}'"), "");
    juliet.say("<message to='romeo@localhost/bosh' type='chat' id='m1'><body>Ho</body></message>");
    let (_, body) = answer(&mut one);
    assert!(body.contains("<message xmlns='jabber:client' ") && body.contains("<body>Ho</body>"), "{body}");
    // One waits, and another lets it go.
    post(&mut one, &format!("rid='1007' sid='{sid}'"), "");
    let message = "<message xmlns='jabber:client' to='juliet@localhost' type='chat'><body>Hi</body></message>";
    post(&mut two, &format!("rid='1008' sid='{sid}'"), message);
    assert!(juliet.hear("</message>").contains("<body>Hi</body>"));
    assert_eq!(answer(&mut one).1, "<body xmlns='http://jabber.org/protocol/httpbind' ack='1008'/>");
    // The same on one connection: what waits there makes room.
    post(&mut two, &format!("rid='1009' sid='{sid}'"), "");
    assert!(answer(&mut two).1.ends_with("/>") && server.ask(Command::Status).text.contains("sessions: 2"));
    // The answer is lost: it is given again.
    drop(two);
    juliet.say("<message to='romeo@localhost/bosh' type='chat' id='m2'><body>Lost</body></message>");
    juliet.say("<iq type='get' id='f'><ping xmlns='urn:xmpp:ping'/></iq>");
    juliet.hear("id='f'");
    for _ in 0..2 {
        let body = bosh(&mut one, &format!("rid='1009' sid='{sid}'"), "");
        assert!(body.contains("<body>Lost</body>"), "{body}");
    }
    let end = bosh(
        &mut one,
        &format!("rid='1010' sid='{sid}' type='terminate'"),
        "<presence xmlns='jabber:client' \
                                                                                       type='unavailable'/>",
    );
    assert!(end.contains(" type='terminate'") && !end.contains("condition"), "{end}");
    let gone = bosh(&mut one, &format!("rid='1011' sid='{sid}'"), "");
    assert!(gone.contains(" type='terminate' condition='item-not-found'"), "{gone}");
    assert!(server.ask(Command::Status).text.contains("sessions: 1 of 1"));
    server.stop();
}

#[test]
fn games_with_sessions_of_bosh_are_refused() {
    let server = start("bosh-bad", Limits { bosh_inactivity_s: 1, ..Limits::default() });
    server.add_user("romeo");
    let mut one = browser(&server);
    for (attributes, payload, condition) in [
        ("rid='1' sid='nobody'", "", "item-not-found"),
        ("", "", "bad-request"),
        ("rid='0'", "", "bad-request"),
        ("rid='1' to='localhost'", "<a>", "bad-request"),
        ("rid='1' to='nowhere.example'", "", "remote-stream-error"),
    ] {
        let body = bosh(&mut one, attributes, payload);
        assert!(body.contains(&format!(" type='terminate' condition='{condition}'")), "{attributes}: {body}");
    }
    // Who has not logged in says little.
    let mut other = browser(&server);
    post(&mut other, "rid='1' to='localhost'", &format!("<a xmlns='x'>{}</a>", "y".repeat(20_000)));
    assert_eq!(status(&answer(&mut other).0), 413);
    // In plain, for what was begun under TLS: nothing happens, to nobody.
    let sid = log_in_by_bosh(&mut one);
    let mut spy = web(&server);
    post(&mut spy, &format!("rid='1006' sid='{sid}'"), "");
    assert_eq!(spy.hear_all(), "");
    let ping = "<iq xmlns='jabber:client' type='get' id='q'><ping xmlns='urn:xmpp:ping'/></iq>";
    assert!(bosh(&mut one, &format!("rid='1006' sid='{sid}'"), ping).contains("id='q'"));
    // Out of the window: the session ends.
    let body = bosh(&mut one, &format!("rid='2000' sid='{sid}'"), "");
    assert!(body.contains("condition='item-not-found'"), "{body}");
    assert!(server.ask(Command::Status).text.contains("sessions: 0"), "no stream management, nothing to resume");
    // Nobody asks any more.
    log_in_by_bosh(&mut one);
    drop(one);
    while !server.ask(Command::Status).text.contains("connections: 0, sessions: 0") {
        std::thread::yield_now();
    }
    let mut get = web(&server);
    get.say("GET /http-bind HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(status(&answer(&mut get).0), 405);
    server.stop();
}

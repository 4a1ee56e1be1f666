//! HTTP over real sockets, with TLS and without.

#[path = "web/bosh.rs"]
mod bosh;
#[path = "web/endpoints.rs"]
mod endpoints;
#[path = "web/files.rs"]
mod files;
#[path = "web/socket.rs"]
mod socket;
#[cfg(feature = "statistics")]
#[path = "web/statistics.rs"]
mod statistics;

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
        endpoints: true,
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
    let limits =
        Limits { http_head_timeout_s: 1, http_idle_timeout_s: 1, http_content_timeout_s: 1, ..Limits::default() };
    let server = start("http-slow", limits);
    let (mut silent, mut drips, mut idle) = (web(&server), web(&server), web(&server));
    drips.say("GET / HTTP/1.1\r\nHost:");
    idle.say(GET);
    assert_eq!(answer(&mut idle).1, "ok\n");
    let mut halfway = web(&server);
    halfway.say("POST /http-bind HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n<body");
    assert_eq!(status(&halfway.hear_all()), 408);
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

#[test]
fn figures_are_for_those_who_may_see_them() {
    let server = start_with("metrics", Limits::default(), |options| {
        options.tuning.site.trusted = couplet::core::settings::LOOPBACK.to_vec();
    });
    server.add_user("romeo");
    let mut romeo = log_in(&server, "romeo");
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
    // What the server answered its one client, from reading to writing.
    let timed = |text: &str| {
        let line =
            text.lines().find_map(|line| line.strip_prefix("couplet_stanza_latency_seconds_count{to=\"client\"} "));
        line.and_then(|count| count.parse::<u64>().ok()).unwrap_or_default()
    };
    assert!(text.contains("couplet_stanza_latency_seconds_count{to=\"server\"} 0\n"), "{text}");
    let before = timed(&text);
    romeo.say("<iq type='get' id='timed'><ping xmlns='urn:xmpp:ping'/></iq>");
    romeo.hear("timed");
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
    assert_eq!(timed(&text), before + 1, "{text}");
    client.say("GET /metrics HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n");
    assert_eq!(status(&answer(&mut client).0), 403);
    drop(romeo);
    server.stop();
}

//! Endpoints of applications (UnifiedPush): what their servers bring reaches a client, and they hear what came of it.

use super::*;

const HASHES: &str = "application='oXLO3K5HR0thXFTVEKXYSo3qMDLpWFh0MLQTU4vj8zM=' \
                      instance='XowDqUx4Nbh92CxpD5+FwIWS73QzqhQc6qyzap9NpDQ='";

/// The path of an endpoint that leads to the client.
fn register(client: &mut TlsClient) -> String {
    client.say(&format!(
        "<iq type='set' id='r' to='localhost'>\
         <register xmlns='http://gultsch.de/xmpp/drafts/unified-push' {HASHES}/></iq>"
    ));
    let answer = client.hear("</iq>");
    let path = answer.split("endpoint='https://localhost:5281").nth(1).unwrap().split('\'').next().unwrap();
    assert!(path.starts_with("/push/") && answer.contains(" expiration='20"), "{answer}");
    path.to_owned()
}

fn post(client: &mut Client<TcpStream>, path: &str, content: &str) {
    client.say(&format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nTTL: 60\r\nOrigin: https://x.example\r\n\
         Content-Length: {}\r\n\r\n{content}",
        content.len()
    ));
}

/// The id of a request that a client has got, with what was brought.
fn push(client: &mut TlsClient) -> (String, String) {
    let push = client.hear("</iq>");
    assert!(push.contains(" type='set'") && push.contains(" from='localhost'") && push.contains(HASHES), "{push}");
    let id = push.split(" id='").nth(1).unwrap().split('\'').next().unwrap().to_owned();
    let content = push.split("</push>").next().unwrap().rsplit('>').next().unwrap();
    let content = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, content).unwrap();
    (id, String::from_utf8(content).unwrap())
}

fn error(client: &mut TlsClient, id: &str, condition: &str) {
    client.say(&format!(
        "<iq type='error' id='{id}' to='localhost'><error type='cancel'><{condition} \
         xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
    ));
}

#[test]
fn what_is_brought_reaches_the_client_and_its_word_is_the_answer() {
    let server = start("endpoint", Limits::default());
    server.add_user("romeo");
    let mut romeo = log_in(&server, "romeo");
    let path = register(&mut romeo);
    let mut client = web(&server);
    client.say(&format!("GET {path} HTTP/1.1\r\nHost: a\r\nOrigin: https://x.example\r\n\r\n"));
    let (head, content) = answer(&mut client);
    assert_eq!(content, "{\"unifiedpush\":{\"version\":1}}");
    assert!(
        head.contains("Content-Type: application/json") && head.contains("Access-Control-Allow-Origin: *"),
        "{head}"
    );
    // As long as it may be, and in characters of all kinds.
    let text = format!("{}\u{2665}<&>\n", "x".repeat(4096 - 7));
    post(&mut client, &path, &text);
    let (id, got) = push(&mut romeo);
    assert_eq!(got, text);
    romeo.say(&format!("<iq type='result' id='{id}' to='localhost'/>"));
    let (head, _) = answer(&mut client);
    assert_eq!(status(&head), 201, "{head}");
    for field in ["TTL: 0\r\n", "Location: /push/message/", "Access-Control-Allow-Origin: *\r\n"] {
        assert!(head.contains(field), "{field}{head}");
    }
    let message = head.split("Location: ").nth(1).unwrap().lines().next().unwrap();
    client.say(&format!("GET {message} HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(status(&answer(&mut client).0), 410, "nothing is kept");
    for (condition, code) in [
        ("item-not-found", 404),
        ("feature-not-implemented", 404),
        ("service-unavailable", 503),
        ("recipient-unavailable", 503),
        ("internal-server-error", 500),
    ] {
        post(&mut client, &path, "x");
        let (id, _) = push(&mut romeo);
        error(&mut romeo, &id, condition);
        assert_eq!(status(&answer(&mut client).0), code, "{condition}");
    }
    // In chunks, and in two pieces.
    client.say(&format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"));
    client.say("1\r\nc\r\n0\r\n\r\n");
    let (id, got) = push(&mut romeo);
    assert_eq!(got, "abc");
    romeo.say(&format!("<iq type='result' id='{id}' to='localhost'/>"));
    assert_eq!(status(&answer(&mut client).0), 201);
    // Who is gone takes nothing.
    romeo.say("</stream:stream>");
    romeo.hear_all();
    post(&mut client, &path, "x");
    assert_eq!(status(&answer(&mut client).0), 503);
    server.stop();
}

#[test]
fn what_is_nothing_for_an_endpoint_is_refused() {
    let limits = Limits { http_delivery_wait_s: 1, unified_push_asked_max: 2, ..Limits::default() };
    let server = start("endpoint-refused", limits);
    server.add_user("romeo");
    let mut romeo = log_in(&server, "romeo");
    let path = register(&mut romeo);
    let code = |path: &str, content: &str| {
        let mut client = web(&server);
        post(&mut client, path, content);
        status(&answer(&mut client).0)
    };
    assert_eq!(code(&path, ""), 400);
    assert_eq!(code(&path, &"x".repeat(4097)), 413);
    assert_eq!(code(&format!("{path}x"), "x"), 404);
    assert_eq!(code("/push/", "x"), 404);
    assert_eq!(code("/push/message/x", "x"), 410);
    let mut client = web(&server);
    client.say(&format!("PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
    assert_eq!(status(&answer(&mut client).0), 405);
    let mut client = web(&server);
    client.say(&format!("OPTIONS {path} HTTP/1.1\r\nHost: a\r\nOrigin: https://x.example\r\n\r\n"));
    let (head, _) = answer(&mut client);
    assert!(head.contains("Access-Control-Allow-Headers: Authorization, Content-Encoding, "), "{head}");
    // Two wait for the client's word, which does not come; a third is not let in.
    let (mut one, mut two) = (web(&server), web(&server));
    post(&mut one, &path, "1");
    post(&mut two, &path, "2");
    let (first, _) = push(&mut romeo);
    push(&mut romeo);
    assert_eq!(code(&path, "3"), 503);
    assert_eq!([status(&answer(&mut one).0), status(&answer(&mut two).0)], [503, 503]);
    // It is too late, and nothing comes of it.
    romeo.say(&format!("<iq type='result' id='{first}' to='localhost'/>"));
    post(&mut one, &path, "4");
    let (id, got) = push(&mut romeo);
    assert_eq!(got, "4");
    romeo.say(&format!("<iq type='result' id='{id}' to='localhost'/>"));
    assert_eq!(status(&answer(&mut one).0), 201);
    server.stop();
}

#[test]
fn an_endpoint_takes_so_much_in_a_minute() {
    let limits = Limits { unified_push_per_minute_max: 2, ..Limits::default() };
    let server = start("endpoint-rate", limits);
    server.add_user("romeo");
    server.add_user("juliet");
    let (mut romeo, mut juliet) = (log_in(&server, "romeo"), log_in(&server, "juliet"));
    let (path, other) = (register(&mut romeo), register(&mut juliet));
    let mut client = web(&server);
    let mut bring = |to: &mut TlsClient, path: &str| {
        post(&mut client, path, "x");
        let (id, _) = push(to);
        to.say(&format!("<iq type='result' id='{id}' to='localhost'/>"));
        status(&answer(&mut client).0)
    };
    assert_eq!([bring(&mut romeo, &path), bring(&mut romeo, &path)], [201, 201]);
    assert_eq!(bring(&mut juliet, &other), 201, "another's");
    // Also by another address of the same endpoint.
    let again = register(&mut romeo);
    for path in [&path, &again] {
        post(&mut client, path, "x");
        let (head, _) = answer(&mut client);
        assert!(status(&head) == 429 && head.contains("Retry-After: "), "{head}");
    }
    server.stop();
}

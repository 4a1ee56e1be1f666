//! Clients that come by BOSH.

use super::*;

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

//! Clients that come by WebSocket.

use super::*;

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

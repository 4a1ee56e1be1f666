//! Streams that are compressed (XEP-0138), over real sockets. The client's codec is the server's; other people's zlib
//! is in tests/interop.

use super::*;
use couplet::stream::compression::Codec;

const ASK: &str =
    "<compress xmlns='http://jabber.org/protocol/compress'><method>lzw</method><method>zlib</method></compress>";
const FEATURE: &str = "<compression xmlns='http://jabber.org/features/compress'><method>zlib</method></compression>";
const BIND: &str =
    "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>r</resource></bind></iq>";

/// A connection whose bytes go through a codec.
struct Squeezed<S> {
    inner: S,
    codec: Codec,
    plain: Vec<u8>,
}

impl<S: Read> Read for Squeezed<S> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        while self.plain.is_empty() {
            let mut buffer = [0; 4096];
            let read = self.inner.read(&mut buffer)?;
            if read == 0 {
                return Ok(0);
            }
            self.codec.feed(&buffer[..read]);
            while let Some(piece) = self.codec.next(&Limits::default()).expect("the server compresses") {
                self.plain.extend_from_slice(piece);
            }
        }
        let len = out.len().min(self.plain.len());
        out[..len].copy_from_slice(&self.plain[..len]);
        self.plain.drain(..len);
        Ok(len)
    }
}

impl<S: Write> Write for Squeezed<S> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.inner.write_all(&self.codec.deflate(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

type SqueezedClient = Client<Squeezed<StreamOwned<ClientConnection, TcpStream>>>;

fn start(name: &str, enabled: bool) -> Server {
    let server = Server::start_with(name, Limits::default(), move |options| {
        options.settings.core.compression = enabled;
        options.tuning.rates.c2s = Rate::UNLIMITED;
        options.settings.core.rates.c2s = Rate::UNLIMITED;
    });
    server.add_user("romeo");
    server.add_user("juliet");
    server
}

/// A client that has logged in, and the features that it is told before and behind that.
fn logged_in(server: &Server, user: &str) -> (TlsClient, String, String) {
    let mut client = under_tls(plain(server.direct));
    client.stream.sock.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let before = client.open();
    let response = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, format!("\0{user}\0secret"));
    client.say(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{response}</auth>"));
    client.hear("<success");
    client.hear(">");
    let behind = client.open();
    (client, before, behind)
}

/// One that is compressed as well, and its features.
fn compressed(server: &Server, user: &str) -> (SqueezedClient, String) {
    let (mut client, ..) = logged_in(server, user);
    client.say(ASK);
    assert_eq!(client.hear("/>"), "<compressed xmlns='http://jabber.org/protocol/compress'/>");
    let stream = Squeezed { inner: client.stream, codec: Codec::new(), plain: Vec::new() };
    let mut client = Client { stream, got: client.got };
    let features = client.open();
    (client, features)
}

#[test]
fn it_is_offered_behind_the_login_and_before_the_resource_and_once() {
    let server = start("compression-offer", true);
    let (mut client, before, behind) = logged_in(&server, "romeo");
    assert!(!before.contains("compress") && behind.contains(FEATURE), "{before} {behind}");
    client.say("<compress xmlns='http://jabber.org/protocol/compress'><method>lz4</method></compress>");
    let failure = |why: &str| format!("<failure xmlns='http://jabber.org/protocol/compress'><{why}/></failure>");
    assert_eq!(client.hear("</failure>"), failure("unsupported-method"));
    client.say("<compress xmlns='http://jabber.org/protocol/compress'/>");
    assert_eq!(client.hear("</failure>"), failure("setup-failed"));
    let (mut client, features) = compressed(&server, "romeo");
    assert!(!features.contains("compress") && features.contains("<bind "), "{features}");
    client.say(ASK);
    assert_eq!(client.hear("</failure>"), failure("setup-failed"));
    client.say(BIND);
    client.hear("</iq>");
    client.say(ASK);
    assert_eq!(client.hear("</failure>"), failure("setup-failed"));
    client.say("</stream:stream>");
    assert!(client.hear_all().ends_with("</stream:stream>"));
    // Nobody has switched it on.
    let off = start("compression-off", false);
    let (mut client, _, behind) = logged_in(&off, "romeo");
    assert!(!behind.contains("compress"), "{behind}");
    client.say(ASK);
    assert_eq!(client.hear("</failure>"), failure("setup-failed"));
    off.stop();
    server.stop();
}

#[test]
fn what_stands_behind_the_request_in_plain_is_refused() {
    let server = start("compression-behind", true);
    let (mut client, ..) = logged_in(&server, "romeo");
    client.say(&format!("{ASK}{OPEN}"));
    assert!(client.hear_all().contains("<policy-violation"));
    server.stop();
}

#[test]
fn stanzas_go_both_ways_and_a_session_is_resumed_on_a_compressed_stream() {
    let server = start("compression-stanzas", true);
    let mut juliet = log_in(&server, "juliet");
    let (mut romeo, _) = compressed(&server, "romeo");
    romeo.say(BIND);
    romeo.hear("</iq>");
    romeo.say("<presence/>");
    romeo.hear("/>");
    romeo.say("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    let enabled = romeo.hear("/>");
    let id = enabled.split("id='").nth(1).and_then(|rest| rest.split('\'').next()).unwrap().to_owned();
    for n in 0..200 {
        romeo.say(&format!("<message type='chat' to='juliet@localhost'><body>Größe {n}</body></message>"));
        juliet.hear(&format!("Größe {n}</body>"));
        juliet.say(&format!("<message type='chat' to='romeo@localhost/r'><body>Answer {n}</body></message>"));
        romeo.hear(&format!("Answer {n}</body>"));
    }
    let long = "x".repeat(100_000);
    romeo.say(&format!("<message type='chat' to='juliet@localhost'><body>{long}</body></message>"));
    juliet.hear(&format!("{long}</body>"));
    // The connection is gone, and the next one compressed anew.
    drop(romeo);
    juliet.say("<message type='chat' to='romeo@localhost/r'><body>In the tunnel</body></message>");
    let (mut romeo, _) = compressed(&server, "romeo");
    romeo.say(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='200'/>"));
    romeo.hear("<resumed");
    romeo.hear("In the tunnel</body>");
    romeo.say("</stream:stream>");
    assert!(romeo.hear_all().ends_with("</stream:stream>"));
    server.stop();
}

#[test]
fn what_is_not_compressed_and_what_is_a_bomb_ends_the_stream() {
    let server = start("compression-bomb", true);
    let (mut client, _) = compressed(&server, "romeo");
    client.stream.inner.write_all(b"<presence/> and many more bytes that are none of zlib's \xff\xff\xff").unwrap();
    let end = client.hear_all();
    let failed = "<failure xmlns='http://jabber.org/protocol/compress'><processing-failed/></failure></stream:error>";
    assert!(end.contains("<undefined-condition") && end.contains(failed), "{end}");
    // Four megabytes of nothing, and as many of one stanza.
    for bomb in [" ".repeat(4 << 20), format!("<message><body>{}", "a".repeat(4 << 20))] {
        let (mut client, _) = compressed(&server, "romeo");
        // The server may have had enough before the end.
        let _ = client.stream.write_all(bomb.as_bytes());
        let end = client.hear_all();
        assert!(end.contains("<policy-violation"), "{end}");
    }
    server.stop();
}

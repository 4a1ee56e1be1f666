//! A client over direct TLS that knows what this test needs.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

const OPEN: &str = "<?xml version='1.0'?><stream:stream to='localhost' version='1.0' xmlns='jabber:client' \
                    xmlns:stream='http://etherx.jabber.org/streams'>";

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The password of everybody.
pub const PASSWORD: &str = "secret";

pub struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
    got: String,
}

impl Client {
    /// Up to the features of the first stream.
    pub fn open(port: u16) -> io::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(crate::trust::Anyone(provider)))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"xmpp-client".to_vec()];
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let tls = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let mut client = Self { stream: StreamOwned::new(tls, socket), got: String::new() };
        client.say(OPEN)?;
        client.hear("</stream:features>")?;
        Ok(client)
    }

    /// Up to a bound resource.
    pub fn log_in(port: u16, user: &str) -> io::Result<Self> {
        let mut client = Self::open(port)?;
        let response = BASE64_STANDARD.encode(format!("\0{user}\0{PASSWORD}"));
        client.say(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{response}</auth>"))?;
        client.hear("<success")?;
        client.hear(">")?;
        client.say(OPEN)?;
        client.hear("</stream:features>")?;
        client.say("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")?;
        client.hear("</iq>")?;
        Ok(client)
    }

    pub fn say(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(text.as_bytes())?;
        self.stream.flush()
    }

    /// Everything up to and including `end`.
    fn hear(&mut self, end: &str) -> io::Result<String> {
        let mut from = 0;
        loop {
            if let Some(at) = self.got.get(from..).and_then(|new| new.find(end)) {
                let rest = self.got.split_off(from + at + end.len());
                return Ok(std::mem::replace(&mut self.got, rest));
            }
            from = self.got.len().saturating_sub(end.len());
            let mut buffer = [0; 16384];
            let read = self.stream.read(&mut buffer)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // All that is sent here is ASCII.
            self.got.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    }

    /// The id of the next request that has a result.
    pub fn next_result(&mut self) -> io::Result<String> {
        loop {
            self.hear("<iq ")?;
            let tag = self.hear(">")?;
            match (attribute(&tag, "type"), attribute(&tag, "id")) {
                (Some("result"), Some(id)) => return Ok(id.to_owned()),
                (Some("error"), _) => return Err(io::Error::other(format!("refused: {tag} {}", self.hear("</iq>")?))),
                _ => {}
            }
        }
    }

    /// Contacts and their names.
    pub fn roster(&mut self) -> io::Result<BTreeMap<String, u64>> {
        self.say(
            "<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq><iq type='get' id='end'><e xmlns='e'/></iq>",
        )?;
        let text = self.until_end()?;
        let items = text.split("<item ").skip(1).filter_map(|item| item.split('>').next());
        let numbered = |item| Some((attribute(item, "jid")?.to_owned(), attribute(item, "name")?.parse().ok()?));
        Ok(items.filter_map(numbered).collect())
    }

    /// What that private element holds; 0 for nothing.
    pub fn private(&mut self, slot: usize) -> io::Result<u64> {
        self.say(&format!(
            "<iq type='get' id='p'><query xmlns='jabber:iq:private'><s{slot} xmlns='kill:9'/></query></iq>\
             <iq type='get' id='end'><e xmlns='e'/></iq>"
        ))?;
        let text = self.until_end()?;
        let element = text.split(&format!("<s{slot}")).nth(1).unwrap_or_default();
        let value = element.split('>').nth(1).and_then(|text| text.split('<').next()).unwrap_or_default();
        Ok(value.parse().unwrap_or_default())
    }

    /// Comes online, and gives what had waited: who wrote it, and its number.
    pub fn wake(&mut self) -> io::Result<Vec<(String, u64)>> {
        self.say("<presence/><iq type='get' id='end'><e xmlns='e'/></iq>")?;
        let text = self.until_end()?;
        let bodies = text.split("<body>").skip(1).filter_map(|body| body.split("</body>").next());
        let numbered = |body: &str| body.split_once(' ').and_then(|(from, n)| Some((from.to_owned(), n.parse().ok()?)));
        Ok(bodies.filter_map(numbered).collect())
    }

    /// Up to the refusal of a request that nobody knows, which was made last.
    fn until_end(&mut self) -> io::Result<String> {
        let mut text = String::new();
        loop {
            text.push_str(&self.hear("<iq ")?);
            let tag = self.hear(">")?;
            if attribute(&tag, "id") == Some("end") {
                self.hear("</iq>")?;
                return Ok(text);
            }
            text.push_str(&tag);
        }
    }

    /// Ends the stream in good order.
    pub fn leave(mut self) -> io::Result<()> {
        self.say("</stream:stream>")?;
        self.hear("</stream:stream>").map(drop)
    }
}

/// The value of an attribute in a tag.
fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    for quote in ['\'', '"'] {
        let start = format!("{name}={quote}");
        // At the beginning, or behind a space: `xml:id` is another one.
        let at = tag.match_indices(&start).map(|(at, _)| at).find(|at| *at == 0 || tag[..*at].ends_with(' '));
        if let Some(at) = at {
            return tag[at + start.len()..].split(quote).next();
        }
    }
    None
}

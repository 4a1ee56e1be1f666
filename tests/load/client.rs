//! A client over direct TLS that knows what these tests need.

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

/// Longest filler of a text, in bytes.
const FILLER_MAX: u64 = 1500;

/// What is written to be found again: who wrote it, its number, and more that follows from both, so that a text of
/// which any byte was changed is seen.
pub fn text(name: &str, n: u64) -> String {
    let mut state = name.bytes().fold(n, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let mut text = format!("{name} {n} ");
    let len = text.len() as u64 + state % FILLER_MAX * u64::from(state.is_multiple_of(3));
    while (text.len() as u64) < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push(char::from(b'a' + (state >> 33) as u8 % 26));
    }
    text
}

/// The writer and the number of such a text.
pub fn numbered(found: &str) -> Result<(String, u64), String> {
    let mut words = found.split(' ');
    let (name, n) = (words.next().unwrap_or_default(), words.next().and_then(|n| n.parse().ok()).unwrap_or_default());
    if text(name, n) == found { Ok((name.to_owned(), n)) } else { Err(format!("the text {found:?}")) }
}

/// Messages that were given out, in their order, and what could not be read of them.
pub type Heard = Vec<Result<(String, u64), String>>;

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
        let mut client = Self::authenticate(port, user)?;
        client.bind()?;
        Ok(client)
    }

    /// Up to the features of the second stream.
    pub fn authenticate(port: u16, user: &str) -> io::Result<Self> {
        let mut client = Self::open(port)?;
        let response = BASE64_STANDARD.encode(format!("\0{user}\0{PASSWORD}"));
        client.say(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{response}</auth>"))?;
        let answer = client.next()?;
        if !answer.starts_with("<success") {
            return Err(io::Error::other(format!("{user} cannot log in: {answer}")));
        }
        client.say(OPEN)?;
        client.hear("</stream:features>")?;
        Ok(client)
    }

    /// A resource of the server's choice.
    pub fn bind(&mut self) -> io::Result<()> {
        self.say("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")?;
        self.hear("</iq>").map(drop)
    }

    /// Switches stream management on, and gives the name by which the session is resumed.
    pub fn enable(&mut self) -> io::Result<String> {
        self.say("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")?;
        let enabled = self.next()?;
        attribute(&enabled, "id").map(ToOwned::to_owned).ok_or_else(|| io::Error::other(enabled))
    }

    /// Goes on with a session of which `h` stanzas were received. How many the server has received, or none when there
    /// is no such session.
    pub fn resume(&mut self, session: &str, h: u64) -> io::Result<Option<u64>> {
        self.say(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{session}' h='{h}'/>"))?;
        let answer = self.next()?;
        match answer.starts_with("<stream:error") {
            true => Err(io::Error::other(answer)),
            false => Ok(if answer.starts_with("<resumed") { counted(&answer) } else { None }),
        }
    }

    /// The next element of the stream, whole.
    pub fn next(&mut self) -> io::Result<String> {
        self.hear("<")?;
        let tag = self.hear(">")?;
        if tag.starts_with('/') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let name = tag.split(['>', '/', ' ']).next().unwrap_or_default().to_owned();
        let rest = if tag.ends_with("/>") { String::new() } else { self.hear(&format!("</{name}>"))? };
        Ok(format!("<{tag}{rest}"))
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

    /// The answer to a request, whole.
    pub fn ask(&mut self, request: &str) -> io::Result<String> {
        self.say(request)?;
        let id = attribute(request, "id");
        loop {
            let element = self.next()?;
            if element.starts_with("<iq ") && attribute(&element, "id") == id {
                return Ok(element);
            }
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

    /// The text that a private element holds; nothing when there is none.
    pub fn private(&mut self, slot: usize) -> io::Result<String> {
        self.say(&format!(
            "<iq type='get' id='p'><query xmlns='jabber:iq:private'><s{slot} xmlns='kill:9'/></query></iq>\
             <iq type='get' id='end'><e xmlns='e'/></iq>"
        ))?;
        let text = self.until_end()?;
        let element = text.split(&format!("<s{slot}")).nth(1).unwrap_or_default();
        let value = element.split('>').nth(1).and_then(|text| text.split('<').next()).unwrap_or_default();
        Ok(value.to_owned())
    }

    /// Comes online, and gives what had waited.
    pub fn wake(&mut self) -> io::Result<Heard> {
        self.say("<presence/>")?;
        self.catch_up()
    }

    /// Messages that are on their way.
    pub fn catch_up(&mut self) -> io::Result<Heard> {
        self.say("<iq type='get' id='end'><e xmlns='e'/></iq>")?;
        let mut heard = Heard::new();
        loop {
            let element = self.next()?;
            if element.starts_with("<iq ") && attribute(&element, "id") == Some("end") {
                return Ok(heard);
            }
            heard.extend(body(&element).map(numbered));
        }
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

/// The text of a message.
pub fn body(element: &str) -> Option<&str> {
    element.split_once("<body>")?.1.split_once("</body>").map(|(body, _)| body)
}

/// The counter of an element of stream management.
pub fn counted(element: &str) -> Option<u64> {
    attribute(element, "h")?.parse().ok()
}

/// The value of an attribute in a tag, or in an element that begins with it.
pub fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
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

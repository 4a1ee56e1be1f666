//! A look at another server, as one that wants to talk with it sees it: where it is, what its certificate says, what it
//! offers. Nobody logs in, and nothing is sent but two stream headers.

use std::io;
use std::net::TcpStream;

use async_io::Async;
use smol::future::FutureExt;
use smol::io::{AsyncReadExt, AsyncWriteExt};

use crate::limits::Limits;
use crate::net::dial::{Dialed, Dialer, Tell};
use crate::net::tls::{Progress, TlsConn};
use crate::stream::{PeerCert, TlsFacts, Trust};
use crate::xml::{Element, FrameKind, Reader, ScanLimits, Scanner, StreamHeader, Template, ns, write_attribute};

const READ_BYTES: usize = 18 * 1024;

/// A feature that announces Server Dialback (XEP-0220 section 3).
const DIALBACK_FEATURE: &str = "urn:xmpp:features:dialback";

/// What was found out.
#[derive(Debug, Default)]
pub struct Found {
    /// The certificate proves the domain.
    pub proved: bool,
    /// It would judge our certificate (SASL EXTERNAL).
    pub external: bool,
    /// It verifies keys (Server Dialback).
    pub dialback: bool,
}

/// Connects to the server of `domain` (A-labels), in the name of `host`, and tells what comes of each step.
///
/// # Errors
/// What has ended it.
pub async fn probe(
    dialer: &Dialer,
    domain: &str,
    host: &str,
    limits: &Limits,
    tell: Tell<'_>,
) -> Result<Found, String> {
    let dialed = dialer.dial(domain, host, tell).await.map_err(|why| why.to_string())?;
    let late = async {
        dialer
            .clock
            .instant(dialer.clock.now().mono_ms + 1000 * u64::from(limits.auth_timeout_s))
            .map_or_else(async_io::Timer::never, async_io::Timer::at)
            .await;
        Err("the server says nothing more".to_owned())
    };
    talk(dialer, dialed, domain, host, limits, tell).or(late).await
}

async fn talk(
    dialer: &Dialer,
    dialed: Dialed,
    domain: &str,
    host: &str,
    limits: &Limits,
    tell: Tell<'_>,
) -> Result<Found, String> {
    let mut line = Line::new(dialed.socket, dialed.plain, limits);
    let facts = match dialed.tls {
        Some((tls, facts)) => {
            line.tls = Some(tls);
            facts
        }
        None => {
            let features = line.open(host, domain).await?;
            if !features.root().has_child(ns::TLS, "starttls") {
                return Err("it does not offer STARTTLS, and nothing is said in plain".to_owned());
            }
            tell("it offers STARTTLS".to_owned());
            let mut request = b"<starttls".to_vec();
            write_attribute("xmlns", ns::TLS, &mut request);
            request.extend_from_slice(b"/>");
            line.send(&request).await?;
            let answer = line.element().await?;
            if !answer.root().is(ns::TLS, "proceed") {
                return Err(format!("it answers STARTTLS with <{}/>", answer.root().name()));
            }
            line.start_tls(dialer, host, domain).await?
        }
    };
    tell(format!("TLS {}", if facts.tls13 { "1.3" } else { "1.2" }));
    let proved = judge(facts.peer.as_ref(), domain, tell);
    let features = line.open(host, domain).await?;
    let root = features.root();
    let mechanisms = root.child(ns::SASL, "mechanisms");
    let external = mechanisms.is_some_and(|m| m.children().any(|m| m.text().trim() == "EXTERNAL"));
    let declares = line.template.as_ref().is_some_and(|t| t.prefixes().any(|(_, ns)| ns == "jabber:server:dialback"));
    let dialback = declares || root.has_child(DIALBACK_FEATURE, "dialback");
    let offers =
        |offered: bool, what: &str| tell(format!("it {} {what}", if offered { "offers" } else { "does not offer" }));
    offers(external, "SASL EXTERNAL: it believes our certificate, if it proves who we are");
    offers(dialback, "Server Dialback (XEP-0220)");
    let _ = line.send(b"</stream:stream>").await;
    Ok(Found { proved, external, dialback })
}

/// Whether the certificate proves the domain.
fn judge(peer: Option<&PeerCert>, domain: &str, tell: Tell<'_>) -> bool {
    let Some(peer) = peer else {
        tell("it shows no certificate".to_owned());
        return false;
    };
    let trust = match &peer.trust {
        Trust::Valid => "its certificate comes from an authority that is believed".to_owned(),
        Trust::SelfSigned => "its certificate is self-signed".to_owned(),
        Trust::UnknownIssuer => "its certificate comes from an authority that is not believed; see s2s.ca".to_owned(),
        Trust::Expired => "its certificate has expired".to_owned(),
        Trust::NotYetValid => "its certificate is not valid yet; is the clock of this machine right?".to_owned(),
        Trust::Revoked => "its certificate was revoked".to_owned(),
        Trust::Other(why) => format!("its certificate cannot be believed: {why}"),
    };
    tell(trust);
    let names = [&peer.names.dns, &peer.names.srv, &peer.names.xmpp].map(|list| list.join(", "));
    let names: Vec<&str> = names.iter().map(String::as_str).filter(|list| !list.is_empty()).collect();
    let named = peer.names.proves(domain);
    tell(format!("its certificate {} {domain}: {}", if named { "names" } else { "does not name" }, names.join(", ")));
    peer.proves(domain)
}

/// A stream as the one who opens it sees it.
struct Line {
    socket: Async<TcpStream>,
    tls: Option<Box<TlsConn>>,
    input: Vec<u8>,
    scanner: Scanner,
    reader: Reader,
    template: Option<Template>,
}

/// What a server has said.
enum Said {
    Header(StreamHeader),
    Element(Element),
}

impl Line {
    fn new(socket: Async<TcpStream>, input: Vec<u8>, limits: &Limits) -> Self {
        let scanner = Scanner::new(ScanLimits::stranger(limits));
        Self { socket, tls: None, input, scanner, reader: Reader::new(limits), template: None }
    }

    /// Opens a stream, anew under TLS; gives the features.
    async fn open(&mut self, from: &str, to: &str) -> Result<Element, String> {
        self.scanner.reset();
        self.template = None;
        let mut header = b"<?xml version='1.0'?><stream:stream".to_vec();
        for (name, value) in [
            ("xmlns", "jabber:server"),
            ("xmlns:stream", ns::STREAM),
            ("xmlns:db", "jabber:server:dialback"),
            ("from", from),
            ("to", to),
            ("version", "1.0"),
        ] {
            write_attribute(name, value, &mut header);
        }
        header.push(b'>');
        self.send(&header).await?;
        let features = self.element().await?;
        if !features.root().is(ns::STREAM, "features") {
            return Err(format!("it answers with <{}/> in place of features", features.root().name()));
        }
        Ok(features)
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut out = Vec::new();
        match &mut self.tls {
            Some(tls) => tls.send(bytes, &mut out).map_err(|error| error.to_string())?,
            None => out.extend_from_slice(bytes),
        }
        self.socket.write_all(&out).await.map_err(lost)
    }

    /// The next element. A stream error ends it.
    async fn element(&mut self) -> Result<Element, String> {
        loop {
            match self.said()? {
                Some(Said::Element(element)) if element.root().is(ns::STREAM, "error") => {
                    let name = element.root().children().find(|child| child.ns() == ns::STREAM_ERROR);
                    let text = element.root().child(ns::STREAM_ERROR, "text").map(|text| text.text());
                    let name = name.map_or("undefined-condition", |child| child.name());
                    return Err(format!("it ends the stream with {name} ({})", text.unwrap_or_default()));
                }
                Some(Said::Element(element)) => return Ok(element),
                Some(Said::Header(header)) => self.template = Some(header.template),
                None => self.receive().await?,
            }
        }
    }

    fn said(&mut self) -> Result<Option<Said>, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("it does not speak XMPP: {error}");
        while let Some(frame) = self.scanner.scan(&self.input).map_err(|error| wrong(&error))? {
            let bytes: Vec<u8> = self.input.drain(..frame.len).collect();
            match (frame.kind, &self.template) {
                (FrameKind::Whitespace | FrameKind::Declaration, _) => {}
                (FrameKind::StreamClose, _) => return Err("it ends the stream".to_owned()),
                (FrameKind::StreamOpen, _) => {
                    let header = self.reader.stream_header(&bytes).map_err(|error| wrong(&error))?;
                    return Ok(Some(Said::Header(header)));
                }
                (FrameKind::Element, None) => return Err(wrong(&"an element comes before the stream")),
                (FrameKind::Element, Some(template)) => {
                    let element = self.reader.element(template, &bytes).map_err(|error| wrong(&error))?;
                    return Ok(Some(Said::Element(element)));
                }
            }
        }
        Ok(None)
    }

    async fn receive(&mut self) -> Result<(), String> {
        let mut buffer = vec![0; READ_BYTES];
        let read = self.socket.read(&mut buffer).await.map_err(lost)?;
        if read == 0 {
            return Err("it closes the connection".to_owned());
        }
        let bytes = buffer.get_mut(..read).unwrap_or_default();
        let Some(tls) = &mut self.tls else {
            self.input.extend_from_slice(bytes);
            return Ok(());
        };
        let mut out = Vec::new();
        let result = tls.receive(bytes, &mut self.input, &mut out);
        let _ = self.socket.write_all(&out).await;
        match result {
            Ok(Progress::Closed) if self.input.is_empty() => Err("it closes the connection".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn start_tls(&mut self, dialer: &Dialer, host: &str, domain: &str) -> Result<TlsFacts, String> {
        let mut out = Vec::new();
        let connected = TlsConn::connect(&dialer.connector, host, domain, false, &mut out);
        let mut tls = Box::new(connected.map_err(|error| error.to_string())?);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            self.socket.write_all(&out).await.map_err(lost)?;
            out.clear();
            let read = self.socket.read(&mut buffer).await.map_err(lost)?;
            if read == 0 {
                return Err("it closes the connection in the middle of the TLS handshake".to_owned());
            }
            let result = tls.receive(buffer.get_mut(..read).unwrap_or_default(), &mut self.input, &mut out);
            if result.is_err() || matches!(result, Ok(Progress::Finished)) {
                let _ = self.socket.write_all(&out).await;
            }
            if result.map_err(|error| error.to_string())? == Progress::Finished {
                let facts = tls.facts();
                self.tls = Some(tls);
                return Ok(facts);
            }
        }
    }
}

fn lost(error: io::Error) -> String {
    format!("the connection is lost: {error}")
}

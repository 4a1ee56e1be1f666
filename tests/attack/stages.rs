//! How far a connection is before something hostile is sent on it, and how it is seen that it is still of use.

use std::io;

use crate::client::{PASSWORD, attribute};
use crate::script::{header, send};
use crate::target::Target;
use crate::wire::Wire;
use base64::prelude::{BASE64_STANDARD, Engine as _};

pub const CLIENT: &str = "jabber:client";
pub const SERVER: &str = "jabber:server";
const COMPONENT: &str = "jabber:component:accept";
const TO: &str = "to='localhost' version='1.0'";
const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const FEATURES: &str = "</stream:features>";
const BIND: &str = "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";
const PING: &str = "<iq type='get' id='probe' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>";

/// A connection with what scripts need to know of it.
pub struct Stream {
    pub wire: Wire,
    /// Full address of the client, or the domain of the server or component.
    pub me: String,
    /// Of the stream, as the server has said.
    pub id: String,
    /// What was heard last.
    pub last: String,
    /// Name of the session that was enabled last.
    pub session: String,
    /// For SCRAM.
    pub first_bare: String,
    pub is_sha256: bool,
    stage: Stage,
}

/// Where in its life a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Connected to the port of that kind.
    Raw(&'static str),
    /// A client that has been offered TLS.
    BeforeTls,
    /// A client under TLS that has sent no header.
    UnderTls,
    /// A client that may log in.
    Strange,
    /// A client that may bind a resource.
    Authenticated(&'static str),
    /// A client with a session.
    Bound(&'static str),
    /// A client with this resource that is online.
    Online(&'static str, &'static str),
    /// A server that has been offered TLS.
    ServerBeforeTls,
    /// A server under TLS that has sent no header, with the certificate of a domain or none.
    ServerUnderTls(Option<&'static str>),
    /// A server that has been told what it may do.
    ServerStrange(&'static str),
    /// A server that has proved who it is and speaks both ways.
    Server(&'static str),
    /// A component that has opened a stream.
    ComponentStrange,
    /// A component that is one.
    Component,
}

impl Stage {
    /// Reads the title of a section in a table.
    pub fn named(title: &str) -> Option<Self> {
        Some(match title {
            "port for STARTTLS" => Self::Raw("STARTTLS"),
            "port for direct TLS" => Self::Raw("direct TLS"),
            "port of servers" => Self::Raw("servers, STARTTLS"),
            "port of servers for direct TLS" => Self::Raw("servers, direct TLS"),
            "port of HTTP" => Self::Raw("HTTP"),
            "port of components" => Self::Raw("components"),
            "before TLS" => Self::BeforeTls,
            "under TLS" => Self::UnderTls,
            "features are offered" => Self::Strange,
            "logged in" => Self::Authenticated("romeo"),
            "bound" => Self::Bound("tybalt"),
            "a server before TLS" => Self::ServerBeforeTls,
            "a server without certificate" => Self::ServerUnderTls(None),
            "a server with certificate" => Self::ServerUnderTls(Some("capulet.example")),
            "a server whose certificate nobody believes" => Self::ServerUnderTls(Some("paris.example")),
            "a server that may prove itself" => Self::ServerStrange("capulet.example"),
            "a server for dialback" => Self::ServerStrange("dial.example"),
            "a server that is proved" => Self::Server("capulet.example"),
            "a component before its handshake" => Self::ComponentStrange,
            "a component" => Self::Component,
            _ => return None,
        })
    }

    /// What somebody is who is called so in the table of pairs, and whether he stays.
    pub fn of(who: &'static str) -> (Self, bool) {
        if let Some(user) = who.strip_suffix(", logged in") {
            return (Self::Authenticated(user), false);
        }
        if let Some(domain) = who.strip_suffix(", not proved") {
            return (Self::ServerStrange(domain), false);
        }
        match who {
            "a stranger" => (Self::Strange, false),
            "a component to be" => (Self::ComponentStrange, false),
            "irc.localhost" => (Self::Component, true),
            domain if domain.ends_with(".example") => (Self::Server(domain), true),
            user => {
                let (user, resource) = user.split_once('/').unwrap_or((user, "here"));
                (Self::Online(user, resource), true)
            }
        }
    }

    /// Opens a connection and brings it there.
    pub fn open(self, target: &Target) -> io::Result<Stream> {
        let kind = match self {
            Self::Raw(kind) => kind,
            Self::BeforeTls => "STARTTLS",
            Self::UnderTls | Self::Strange | Self::Authenticated(_) | Self::Bound(_) | Self::Online(..) => "direct TLS",
            Self::ServerBeforeTls => "servers, STARTTLS",
            Self::ServerUnderTls(_) | Self::ServerStrange(_) | Self::Server(_) => "servers, direct TLS",
            Self::ComponentStrange | Self::Component => "components",
        };
        let wire = Wire::connect(target.port(kind)?)?;
        let mut stream = Stream {
            wire,
            me: String::new(),
            id: String::new(),
            last: String::new(),
            session: String::new(),
            first_bare: String::new(),
            is_sha256: false,
            stage: self,
        };
        stream.advance(self, target)?;
        Ok(stream)
    }
}

impl Stream {
    fn advance(&mut self, stage: Stage, target: &Target) -> io::Result<()> {
        match stage {
            Stage::Raw(_) => Ok(()),
            Stage::BeforeTls => self.open(CLIENT, TO),
            Stage::UnderTls => self.wire.start_tls("xmpp-client", None),
            Stage::Strange => {
                self.advance(Stage::UnderTls, target)?;
                self.open(CLIENT, TO)
            }
            Stage::Authenticated(user) => {
                self.advance(Stage::Strange, target)?;
                self.wire.say(plain(user));
                self.wire.hear("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")?;
                self.me = format!("{user}@localhost");
                self.open(CLIENT, TO)
            }
            Stage::Bound(user) => {
                self.advance(Stage::Authenticated(user), target)?;
                self.wire.say(BIND);
                let bound = self.wire.hear("</iq>")?;
                let jid = bound.split("<jid>").nth(1).and_then(|rest| rest.split('<').next());
                self.me = jid.ok_or_else(|| io::Error::other(bound.clone()))?.to_owned();
                Ok(())
            }
            Stage::Online(user, resource) => {
                self.advance(Stage::Authenticated(user), target)?;
                self.wire.say(BIND.replace("bind'/>", &format!("bind'><resource>{resource}</resource></bind>")));
                self.wire.hear("</iq>")?;
                self.me = format!("{user}@localhost/{resource}");
                self.wire.say("<presence/>");
                Ok(())
            }
            Stage::ServerBeforeTls => self.open(SERVER, &format!("from='capulet.example' {TO}")),
            Stage::ServerUnderTls(domain) => {
                self.me = domain.unwrap_or("capulet.example").to_owned();
                self.wire.start_tls("xmpp-server", domain.and_then(|domain| target.identity(domain)))
            }
            Stage::ServerStrange(domain) => {
                self.advance(Stage::ServerUnderTls(Some(domain)), target)?;
                self.open(SERVER, &format!("from='{domain}' {TO}"))
            }
            Stage::Server(domain) => {
                self.advance(Stage::ServerStrange(domain), target)?;
                self.wire.say("<bidi xmlns='urn:xmpp:bidi'/>");
                self.wire.say(external("="));
                self.wire.hear("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")?;
                self.open(SERVER, &format!("from='{domain}' {TO}"))
            }
            Stage::ComponentStrange => {
                self.me = "irc.localhost".to_owned();
                self.wire.say(header(COMPONENT, "to='irc.localhost'"));
                self.wire.hear("<stream:stream")?;
                let opened = self.wire.hear(">")?;
                self.id = attribute(&opened, "id").unwrap_or_default().to_owned();
                Ok(())
            }
            Stage::Component => {
                self.advance(Stage::ComponentStrange, target)?;
                send("<handshake>{handshake shared}</handshake>", self)?;
                self.wire.hear("<handshake/>").map(drop)
            }
        }
    }

    /// A header and what it is answered with.
    fn open(&mut self, ns: &str, attributes: &str) -> io::Result<()> {
        self.wire.say(header(ns, attributes));
        let opened = self.wire.hear(FEATURES)?;
        let tag = opened.split("<stream:stream").nth(1).unwrap_or_default();
        self.id = attribute(tag.split('>').next().unwrap_or_default(), "id").unwrap_or_default().to_owned();
        Ok(())
    }

    /// What a connection at its stage must still be able to do, and by what its success is known.
    pub fn probe(&self) -> (String, &'static str) {
        // It comes behind what is said of the account.
        let own = PING.replace("localhost", self.me.split('/').next().unwrap_or_default());
        let ping = |from: &str| PING.replace("to=", &format!("from='{from}' to="));
        match self.stage {
            Stage::Raw("components") => (header(COMPONENT, "to='irc.localhost'"), "from='irc.localhost'"),
            Stage::Raw("servers, STARTTLS") => (header(SERVER, TO) + STARTTLS, "<proceed"),
            Stage::Raw("HTTP") => ("GET /healthz HTTP/1.1{n}Host: a{n}{n}".to_owned(), "\r\n\r\nok\n"),
            // Without TLS nothing can be asked there.
            Stage::Raw("direct TLS" | "servers, direct TLS") => (String::new(), "\0none"),
            Stage::Raw(_) => (header(CLIENT, TO) + STARTTLS, "<proceed"),
            Stage::BeforeTls | Stage::ServerBeforeTls => (STARTTLS.to_owned(), "<proceed"),
            Stage::UnderTls => (header(CLIENT, TO) + &plain("romeo"), "<success"),
            Stage::Strange => (plain("romeo"), "<success"),
            Stage::Authenticated(_) => (BIND.to_owned(), "id='bind'"),
            Stage::Bound(_) | Stage::Online(..) => (own, "id='probe'"),
            Stage::ServerUnderTls(_) => (header(SERVER, &format!("from='{}' {TO}", self.me)), FEATURES),
            Stage::ServerStrange("dial.example") => (
                "<db:verify from='dial.example' to='localhost' id='probe'>wrong</db:verify>".to_owned(),
                "id='probe' type='invalid'",
            ),
            Stage::ServerStrange(_) => (external("="), "<success"),
            Stage::Server(domain) => (ping(domain), "id='probe'"),
            Stage::ComponentStrange => ("<handshake>{handshake shared}</handshake>".to_owned(), "<handshake/>"),
            Stage::Component => (ping("irc.localhost"), "id='probe'"),
        }
    }
}

fn plain(user: &str) -> String {
    let message = BASE64_STANDARD.encode(format!("\0{user}\0{PASSWORD}"));
    format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{message}</auth>")
}

fn external(message: &str) -> String {
    format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>{message}</auth>")
}

//! Another server of a play: its certificate, and the negotiation of a stream, whoever has opened it.

use couplet::core::io::DialFailure;
use couplet::stream::s2s::proof;
use couplet::stream::{PeerCert, PeerNames, TlsFacts, Trust};

use super::Stage;
use super::client::Client;
use super::grammar::Role;
use super::xml_text::{NS_STREAMS, Said};

const NS_TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
const NS_SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
const NS_SM: &str = "urn:xmpp:sm:3";

/// What a `[Server]` is beyond its name.
#[derive(Clone, Debug, Default)]
pub struct Server {
    /// What it shows in a handshake: `valid` for its own domain, `valid for` others, `none`, or what is wrong with it.
    pub certificate: String,
    /// What its features offer once TLS stands: `management`, `bidi`, `dialback`, `bytes=N`.
    pub offers: Vec<String>,
    /// It is a component with this secret.
    pub component: Option<String>,
}

impl Server {
    /// As what it connects.
    pub fn role(&self) -> couplet::core::io::Role {
        match self.component {
            Some(_) => couplet::core::io::Role::Component,
            None => couplet::core::io::Role::Server,
        }
    }

    fn offers(&self, what: &str) -> bool {
        self.offers.iter().any(|offer| offer == what)
    }
}

/// What TLS says of a server.
///
/// # Errors
/// When its certificate is of a kind that nobody knows.
pub fn facts(role: &Role) -> Result<TlsFacts, String> {
    let server = role.server.clone().unwrap_or_default();
    let (trust, names) = match server.certificate.as_str() {
        "" | "valid" => (Trust::Valid, role.jid.as_str()),
        "none" => return Ok(TlsFacts { tls13: true, ..TlsFacts::default() }),
        "self-signed" => (Trust::SelfSigned, role.jid.as_str()),
        "expired" => (Trust::Expired, role.jid.as_str()),
        "of an unknown issuer" => (Trust::UnknownIssuer, role.jid.as_str()),
        other => (Trust::Valid, other.strip_prefix("valid for ").ok_or_else(|| format!("no certificate is {other}"))?),
    };
    let dns = names.split_whitespace().map(str::to_owned).collect();
    let names = PeerNames { dns, ..PeerNames::default() };
    Ok(TlsFacts { tls13: true, peer: Some(PeerCert { trust, names }), ..TlsFacts::default() })
}

/// Why a dial fails, as plays say it.
///
/// # Errors
/// When nobody knows such a reason.
pub fn failure(why: &str) -> Result<DialFailure, String> {
    Ok(match why {
        "not found" => DialFailure::NotFound,
        "timeout" => DialFailure::Timeout,
        "unreachable" => DialFailure::Unreachable("refused".to_owned()),
        "tls" => DialFailure::Tls("no common cipher".to_owned()),
        other => return Err(format!("no dial fails with `{other}`")),
    })
}

/// Opens a stream and proves who it is by its certificate. The inner error is the condition of the refusal.
///
/// # Errors
/// What came instead of what should.
pub fn connect(
    client: &mut Client,
    role: &Role,
    to: &str,
    stage: &mut dyn Stage,
) -> Result<Result<(), String>, String> {
    client.open_as(role, stage)?;
    if let Some(secret) = role.server.as_ref().and_then(|server| server.component.as_ref()) {
        return handshake(client, role, secret, stage);
    }
    if let Err(condition) = open_stream(client, role, to, stage)? {
        return Ok(Err(condition));
    }
    client.say(stage, format!("<starttls xmlns='{NS_TLS}'/>").as_bytes())?;
    expect(client, stage, NS_TLS, "proceed")?;
    client.secure(role, stage)?;
    if let Err(condition) = open_stream(client, role, to, stage)? {
        return Ok(Err(condition));
    }
    client.say(stage, format!("<auth xmlns='{NS_SASL}' mechanism='EXTERNAL'>=</auth>").as_bytes())?;
    match client.hear(stage)? {
        Some(Said::Element(e)) if e.root().is(NS_SASL, "success") => {}
        Some(Said::Element(e)) if e.root().is(NS_SASL, "failure") => {
            return Ok(Err(e.root().children().next().map_or("", |c| c.name()).to_owned()));
        }
        other => return Err(format!("instead of an answer to <auth/> comes {other:?}")),
    }
    open_stream(client, role, to, stage)
}

/// XEP-0114 section 3.
fn handshake(
    client: &mut Client,
    role: &Role,
    secret: &str,
    stage: &mut dyn Stage,
) -> Result<Result<(), String>, String> {
    client.splitter.new_stream();
    let header =
        format!("<stream:stream to='{}' xmlns='jabber:component:accept' xmlns:stream='{NS_STREAMS}'>", role.jid);
    client.say(stage, header.as_bytes())?;
    let Some(Said::Header(header)) = client.hear(stage)? else { return Err("no stream header comes".to_owned()) };
    let proof = match header.root().attr("id") {
        Some(id) => proof(id, secret),
        // It goes on with an error.
        None => String::new(),
    };
    client.say(stage, format!("<handshake>{proof}</handshake>").as_bytes())?;
    match client.hear(stage)? {
        Some(Said::Element(e)) if e.root().is("jabber:client", "handshake") => Ok(Ok(())),
        Some(Said::Element(e)) if e.root().is(NS_STREAMS, "error") => {
            Ok(Err(e.root().children().next().map_or("", |c| c.name()).to_owned()))
        }
        other => Err(format!("instead of <handshake/> comes {other:?}")),
    }
}

fn open_stream(
    client: &mut Client,
    role: &Role,
    to: &str,
    stage: &mut dyn Stage,
) -> Result<Result<(), String>, String> {
    client.splitter.new_stream();
    let header = format!(
        "<?xml version='1.0'?><stream:stream from='{}' to='{to}' version='1.0' xmlns='jabber:server' \
         xmlns:db='jabber:server:dialback' xmlns:stream='{NS_STREAMS}'>",
        role.jid
    );
    client.say(stage, header.as_bytes())?;
    match client.hear(stage)? {
        Some(Said::Header(_)) => {}
        other => return Err(format!("no stream header comes, but {other:?}")),
    }
    match client.hear(stage)? {
        Some(Said::Element(e)) if e.root().is(NS_STREAMS, "error") => {
            Ok(Err(e.root().children().next().map_or("", |c| c.name()).to_owned()))
        }
        Some(Said::Element(e)) if e.root().is(NS_STREAMS, "features") => Ok(Ok(())),
        other => Err(format!("no features come, but {other:?}")),
    }
}

/// Takes a connection of ours and lets it prove who we are by our certificate.
///
/// # Errors
/// What came instead of what should.
pub fn accept(client: &mut Client, role: &Role, stage: &mut dyn Stage) -> Result<(), String> {
    let server = role.server.clone().unwrap_or_default();
    client.dialed(role, false, stage)?;
    answer(client, role, &format!("<starttls xmlns='{NS_TLS}'><required/></starttls>"), stage)?;
    expect(client, stage, NS_TLS, "starttls")?;
    client.say(stage, format!("<proceed xmlns='{NS_TLS}'/>").as_bytes())?;
    client.secure(role, stage)?;
    let mut features = format!("<mechanisms xmlns='{NS_SASL}'><mechanism>EXTERNAL</mechanism></mechanisms>");
    if server.offers("bidi") {
        features.push_str("<bidi xmlns='urn:xmpp:features:bidi'/>");
    }
    if server.offers("dialback") {
        features.push_str("<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>");
    }
    answer(client, role, &features, stage)?;
    if server.offers("bidi") {
        expect(client, stage, "urn:xmpp:bidi", "bidi")?;
    }
    expect(client, stage, NS_SASL, "auth")?;
    client.say(stage, format!("<success xmlns='{NS_SASL}'/>").as_bytes())?;
    let mut features = String::new();
    if server.offers("management") {
        features.push_str("<sm xmlns='urn:xmpp:sm:3'/>");
    }
    for bytes in server.offers.iter().filter_map(|offer| offer.strip_prefix("bytes=")) {
        features.push_str(&format!("<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>{bytes}</max-bytes></limits>"));
    }
    answer(client, role, &features, stage)?;
    if server.offers("management") {
        expect(client, stage, NS_SM, "enable")?;
        client.say(stage, format!("<enabled xmlns='{NS_SM}'/>").as_bytes())?;
    }
    Ok(())
}

/// Answers a stream header with one, and with features.
fn answer(client: &mut Client, role: &Role, features: &str, stage: &mut dyn Stage) -> Result<(), String> {
    client.splitter.new_stream();
    let header = match client.hear(stage)? {
        Some(Said::Header(header)) => header,
        other => return Err(format!("no stream header comes, but {other:?}")),
    };
    let to = header.root().attr("from").unwrap_or_default().to_owned();
    let said = format!(
        "<?xml version='1.0'?><stream:stream from='{}' to='{to}' id='{}-stream' version='1.0' xmlns='jabber:server' \
         xmlns:db='jabber:server:dialback' xmlns:stream='{NS_STREAMS}'><stream:features>{features}</stream:features>",
        role.jid, role.jid
    );
    client.say(stage, said.as_bytes())
}

fn expect(client: &mut Client, stage: &mut dyn Stage, ns: &str, name: &str) -> Result<(), String> {
    match client.hear(stage)? {
        Some(Said::Element(e)) if e.root().is(ns, name) => Ok(()),
        other => Err(format!("instead of <{name}/> comes {other:?}")),
    }
}

//! One client of a play: its connection, its login, what it has received and not yet looked at.

use std::collections::VecDeque;
use std::net::IpAddr;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use couplet::xml::{Element, ElementRef};

use super::grammar::Role;
use super::scram::Scram;
use super::server::{self, Server};
use super::xml_text::{NS_STREAMS, Said, Splitter};
use super::{Heard, Stage};
use couplet::core::io::Role as Peer;

const NS_SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
const NS_SASL2: &str = "urn:xmpp:sasl:2";
const NS_BIND2: &str = "urn:xmpp:bind:0";
const NS_UPGRADE: &str = "urn:xmpp:scram-upgrade:0";
const UPGRADE: &str = "UPGR-SCRAM-SHA-256";
const NS_CHANNEL_BINDING: &str = "urn:xmpp:sasl-cb:0";
const NS_BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
const NS_STANZAS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
const NS_STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";

/// See the module.
#[derive(Debug)]
pub struct Client {
    /// As the play calls it.
    pub name: String,
    /// What was received and not yet looked at.
    pub inbox: VecDeque<Said>,
    /// The resource that the server has bound last.
    pub resource: Option<String>,
    /// The server has closed the connection.
    pub closed: bool,
    /// Cuts what comes.
    pub splitter: Splitter,
    domain: String,
    address: Option<IpAddr>,
    connection: Option<usize>,
    bound: bool,
}

impl Client {
    /// Before its entrance.
    pub fn new(role: &Role) -> Self {
        Self {
            name: role.name.clone(),
            inbox: VecDeque::new(),
            resource: None,
            closed: false,
            splitter: Splitter::default(),
            domain: role.jid.split('@').next_back().unwrap_or_default().to_owned(),
            address: role.address,
            connection: None,
            bound: false,
        }
    }

    /// A connection without a stream.
    pub fn open(&mut self, stage: &mut dyn Stage) -> Result<(), String> {
        if self.connection.is_some() {
            // The server may have gone in the meantime.
            while !self.closed && self.hear_new(stage)?.is_some() {}
            if !self.closed {
                return Err("is connected already".to_owned());
            }
        }
        self.begin(stage)?;
        self.connection = Some(stage.open()?);
        Ok(())
    }

    fn begin(&mut self, stage: &mut dyn Stage) -> Result<(), String> {
        self.hang_up(stage)?;
        (self.closed, self.bound, self.splitter) = (false, false, Splitter::default());
        self.inbox.clear();
        self.address.map_or(Ok(()), |address| stage.come_from(address))
    }

    /// The same, of a client or another server.
    pub fn open_as(&mut self, role: &Role, stage: &mut dyn Stage) -> Result<(), String> {
        if role.server.is_none() {
            return self.open(stage);
        }
        self.begin(stage)?;
        self.connection = Some(stage.open_server(role.server.as_ref().map_or(Peer::Client, Server::role))?);
        Ok(())
    }

    /// Takes a connection of ours to another server.
    pub fn dialed(&mut self, role: &Role, tls: bool, stage: &mut dyn Stage) -> Result<(), String> {
        self.begin(stage)?;
        let facts = server::facts(role)?;
        self.connection = Some(stage.take_dial(&role.jid, tls.then_some(facts))?);
        Ok(())
    }

    /// The TLS handshake of another server is done.
    pub fn secure(&mut self, role: &Role, stage: &mut dyn Stage) -> Result<(), String> {
        self.splitter.new_stream();
        stage.secure(self.connection.ok_or("is not connected")?, server::facts(role)?)
    }

    /// Sends bytes.
    pub fn say(&mut self, stage: &mut dyn Stage, bytes: &[u8]) -> Result<(), String> {
        stage.send(self.connection.ok_or("is not connected")?, bytes)
    }

    /// The next thing that the server says; nothing when it is silent or gone (see `closed`).
    pub fn hear(&mut self, stage: &mut dyn Stage) -> Result<Option<Said>, String> {
        if let Some(said) = self.inbox.pop_front() {
            return Ok(Some(said));
        }
        self.hear_new(stage)
    }

    /// What [`Client::hear`] would return now, on a stage where all is done that will be.
    pub fn peek(&mut self, stage: &mut dyn Stage) -> Result<Option<&Said>, String> {
        if self.inbox.is_empty()
            && stage.knows_silence()
            && let Some(said) = self.hear_new(stage)?
        {
            self.inbox.push_back(said);
        }
        Ok(self.inbox.front())
    }

    fn hear_new(&mut self, stage: &mut dyn Stage) -> Result<Option<Said>, String> {
        loop {
            if let Some(said) = self.splitter.next()? {
                return Ok(Some(said));
            }
            match stage.read(self.connection.ok_or("is not connected")?)? {
                Heard::Bytes(bytes) => self.splitter.feed(&bytes),
                Heard::Silence => return Ok(None),
                Heard::Closed => {
                    self.closed = true;
                    return Ok(None);
                }
            }
        }
    }

    /// Closes the stream as RFC 6120 section 4.4 says.
    pub fn disconnect(&mut self, stage: &mut dyn Stage) -> Result<(), String> {
        if !self.closed {
            self.say(stage, b"</stream:stream>")?;
            while !matches!(self.hear(stage)?, None | Some(Said::End)) {}
        }
        self.hang_up(stage)
    }

    /// Ends the connection without a word.
    pub fn hang_up(&mut self, stage: &mut dyn Stage) -> Result<(), String> {
        self.bound = false;
        self.connection.take().map_or(Ok(()), |connection| stage.hang_up(connection))
    }

    /// Asks the server something and puts aside what comes before the answer. Whatever the answer is, an error too.
    pub fn wait_for_answer(&mut self, stage: &mut dyn Stage, number: u32, writes: bool) -> Result<(), String> {
        if !self.bound || self.closed {
            return Ok(());
        }
        let id = format!("barrier{number}");
        let question = if writes {
            format!(
                "<iq type='set' id='{id}'><query xmlns='jabber:iq:private'>\
                 <barrier xmlns='urn:example:barrier'>{number}</barrier></query></iq>"
            )
        } else {
            format!("<iq type='get' id='{id}' to='{}'><ping xmlns='urn:xmpp:ping'/></iq>", self.domain)
        };
        if self.say(stage, question.as_bytes()).is_err() {
            return Ok(());
        }
        loop {
            match self.hear_new(stage)? {
                Some(Said::Element(e)) if e.root().attr("id") == Some(&id) => return Ok(()),
                Some(said) => self.inbox.push_back(said),
                None if self.closed => return Ok(()),
                None => return Err(format!("{} gets no answer", self.name)),
            }
        }
    }

    /// Connects, authenticates and binds. The inner error is the condition with which the server refuses.
    pub fn log_in(&mut self, role: &Role, stage: &mut dyn Stage) -> Result<Result<(), String>, String> {
        self.open(stage)?;
        let refused = match self.authenticate(role, stage)? {
            Ok(Some(jid)) => self.bound(role, &jid).map(Ok)?,
            Ok(None) => self.bind(role, stage)?,
            Err(condition) => Err(condition),
        };
        if refused.is_err() {
            self.hang_up(stage)?;
        }
        Ok(refused)
    }

    /// Opens a stream and returns its features.
    fn open_stream(&mut self, stage: &mut dyn Stage) -> Result<Result<Element, String>, String> {
        self.splitter.new_stream();
        let header = format!(
            "<?xml version='1.0'?><stream:stream to='{}' version='1.0' xml:lang='en' xmlns='jabber:client' \
             xmlns:stream='{NS_STREAMS}'>",
            self.domain
        );
        self.say(stage, header.as_bytes())?;
        match self.hear(stage)? {
            Some(Said::Header(_)) => self.element(stage, "stream features"),
            other => Err(format!("no stream header comes, but {other:?}")),
        }
    }

    /// The next element; a stream error is a refusal.
    fn element(&mut self, stage: &mut dyn Stage, what: &str) -> Result<Result<Element, String>, String> {
        match self.hear(stage)? {
            Some(Said::Element(e)) if e.root().is(NS_STREAMS, "error") => {
                Ok(Err(condition(e.root(), NS_STREAM_ERRORS)))
            }
            Some(Said::Element(e)) => Ok(Ok(e)),
            other => Err(format!("instead of {what} comes {other:?}")),
        }
    }

    /// Returns the full address when a resource is bound already.
    fn authenticate(&mut self, role: &Role, stage: &mut dyn Stage) -> Result<Result<Option<String>, String>, String> {
        let features = match self.open_stream(stage)? {
            Ok(features) => features,
            Err(condition) => return Ok(Err(condition)),
        };
        let ns = if role.sasl2 { NS_SASL2 } else { NS_SASL };
        let offered = features.root().child(ns, if role.sasl2 { "authentication" } else { "mechanisms" });
        let names = |m: ElementRef<'_>| m.children().filter(|m| m.is(ns, "mechanism")).map(|m| m.text()).collect();
        let names: Vec<String> = offered.map(names).unwrap_or_default();
        if !names.contains(&role.mechanism) {
            return Err(format!("{} is not offered", role.mechanism));
        }
        let user = role.jid.split('@').next().unwrap_or_default();
        let mut scram = None;
        let first = if role.mechanism == "PLAIN" {
            format!("\0{user}\0{}", role.password)
        } else {
            let binding = stage.exporter(self.connection.ok_or("is not connected")?);
            let offer = offer(names, features.root());
            scram.insert(Scram::new(&role.mechanism, user, &role.password, binding, offer)?).first()
        };
        let (mechanism, first) = (&role.mechanism, BASE64_STANDARD.encode(first));
        let auth = if role.sasl2 {
            let tag = role.resource.as_ref().map(|tag| Element::with_text(NS_BIND2, "tag", tag).root().to_xml());
            format!(
                "<authenticate xmlns='{ns}' mechanism='{mechanism}'><initial-response>{first}</initial-response>\
                 <bind xmlns='{NS_BIND2}'>{}</bind>\
                 <upgrade xmlns='urn:xmpp:sasl:upgrade:0'>{UPGRADE}</upgrade></authenticate>",
                tag.unwrap_or_default()
            )
        } else {
            format!("<auth xmlns='{ns}' mechanism='{mechanism}'>{first}</auth>")
        };
        self.say(stage, auth.as_bytes())?;
        // Not behind a task: it has come with that.
        let mut data_comes = true;
        loop {
            let answer = match self.element(stage, "an answer to the login")? {
                Ok(answer) => answer,
                Err(condition) => return Ok(Err(condition)),
            };
            let root = answer.root();
            let text = match (root.name(), role.sasl2) {
                ("success" | "continue", true) => {
                    root.child(ns, "additional-data").map(|d| d.text()).unwrap_or_default()
                }
                _ => root.text(),
            };
            let data =
                String::from_utf8(BASE64_STANDARD.decode(text).unwrap_or_default()).map_err(|e| e.to_string())?;
            match (root.name(), &mut scram) {
                ("success", scram) => {
                    scram.as_ref().filter(|_| data_comes).map_or(Ok(()), |scram| scram.check_server(&data))?;
                    if !role.sasl2 {
                        return Ok(Ok(None));
                    }
                    let jid = root.child(ns, "authorization-identifier").ok_or("the success names nobody")?.text();
                    return Ok(self.element(stage, "stream features")?.map(|_| Some(jid)));
                }
                ("failure", _) => return Ok(Err(condition(root, NS_SASL))),
                ("continue", Some(scram)) => {
                    scram.check_server(&data)?;
                    self.say(stage, format!("<next xmlns='{ns}' task='{UPGRADE}'/>").as_bytes())?;
                }
                ("task-data", Some(scram)) => {
                    let salt = root.child(NS_UPGRADE, "salt").ok_or("the task has no salt")?;
                    let hash = scram.upgrade(&salt.text(), salt.attr("iterations").unwrap_or_default())?;
                    let answer =
                        format!("<task-data xmlns='{ns}'><hash xmlns='{NS_UPGRADE}'>{hash}</hash></task-data>");
                    self.say(stage, answer.as_bytes())?;
                    data_comes = false;
                }
                ("challenge", Some(scram)) => {
                    let response = BASE64_STANDARD.encode(scram.answer(&data)?);
                    self.say(stage, format!("<response xmlns='{ns}'>{response}</response>").as_bytes())?;
                }
                (other, _) => return Err(format!("<{other}/> is no answer to a login")),
            }
        }
    }

    /// Connects, authenticates and opens the stream on which a resource could be bound.
    pub fn prove_identity(&mut self, role: &Role, stage: &mut dyn Stage) -> Result<Result<(), String>, String> {
        self.open(stage)?;
        match self.authenticate(role, stage)? {
            Ok(None) => Ok(self.open_stream(stage)?.map(|_| ())),
            Ok(Some(_)) => Err("a client with `sasl: 2` binds as it logs in".to_owned()),
            Err(condition) => Ok(Err(condition)),
        }
    }

    fn bind(&mut self, role: &Role, stage: &mut dyn Stage) -> Result<Result<(), String>, String> {
        let features = match self.open_stream(stage)? {
            Ok(features) => features,
            Err(condition) => return Ok(Err(condition)),
        };
        if !features.root().has_child(NS_BIND, "bind") {
            return Err("resource binding is not offered".to_owned());
        }
        let mut wish = String::new();
        if let Some(resource) = &role.resource {
            let resource = Element::with_text(NS_BIND, "resource", resource);
            wish = resource.root().to_xml();
        }
        self.say(stage, format!("<iq type='set' id='bind'><bind xmlns='{NS_BIND}'>{wish}</bind></iq>").as_bytes())?;
        let answer = match self.element(stage, "an answer to <bind/>")? {
            Ok(answer) => answer,
            Err(condition) => return Ok(Err(condition)),
        };
        if let Some(error) = answer.root().child("jabber:client", "error") {
            return Ok(Err(condition(error, NS_STANZAS)));
        }
        let jid = answer.root().child(NS_BIND, "bind").and_then(|b| b.child(NS_BIND, "jid")).map(|j| j.text());
        self.bound(role, &jid.ok_or("the answer to <bind/> has no jid")?).map(Ok)
    }

    /// The server says that this is the address.
    fn bound(&mut self, role: &Role, jid: &str) -> Result<(), String> {
        let (bare, resource) = jid.split_once('/').ok_or("the bound jid has no resource")?;
        if bare != role.jid {
            return Err(format!("the server binds {jid}"));
        }
        self.resource = Some(resource.to_owned());
        self.bound = true;
        Ok(())
    }
}

/// What is hashed for XEP-0474: mechanisms and channel bindings, each in order.
fn offer(mut mechanisms: Vec<String>, features: ElementRef<'_>) -> String {
    mechanisms.sort();
    let mut offer = mechanisms.join("\u{1E}");
    if let Some(bindings) = features.child(NS_CHANNEL_BINDING, "sasl-channel-binding") {
        let mut bindings: Vec<&str> = bindings.children().filter_map(|b| b.attr("type")).collect();
        bindings.sort_unstable();
        offer.push('\u{1F}');
        offer.push_str(&bindings.join("\u{1E}"));
    }
    offer
}

/// Name of the first child in that namespace: the condition of an error.
fn condition(error: ElementRef<'_>, ns: &str) -> String {
    error.children().find(|c| c.ns() == ns && c.name() != "text").map_or("no condition", |c| c.name()).to_owned()
}

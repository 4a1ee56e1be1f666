//! What clients do: log in, and everything that a person might.

use super::disk::private_ns;
use super::managed::Managed;
use super::model::{Check, Key, Sent, What, WriteId, bare};
use super::nodes::capabilities;
use super::world::{HOST, World, password};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use couplet::core::io::ConnId;
use couplet::xml::{ElementRef, ns};
use ring::{digest, hmac, pbkdf2};
use std::num::NonZeroU32;

/// How far a client has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Away,
    /// It has connected and waits for features.
    Greeting,
    /// It has asked for TLS.
    Tls,
    /// It logs in; the first message of SCRAM, if it uses that.
    LoggingIn(Option<String>),
    /// It is logged in and waits for features.
    Known,
    Binding,
    Online,
    /// It has asked to resume a session.
    Resuming,
    /// It has closed its stream.
    Leaving,
}

pub struct Client {
    pub account: String,
    pub resource: &'static str,
    pub state: State,
    pub conn: Option<ConnId>,
    pub session: Option<usize>,
    pub managed: Option<Managed>,
    /// Messages of sessions that are over, which may have been lost.
    pub left_over: Vec<(usize, String)>,
    /// Stanzas sent when it last asked at rest whether they are safe.
    pub asked_at_rest: Option<u32>,
    secured: bool,
    /// It has said that nobody looks at it (XEP-0352).
    pub idle: bool,
}

impl Client {
    pub fn new(account: &str, resource: &'static str) -> Self {
        Self {
            account: account.to_string(),
            resource,
            state: State::Away,
            conn: None,
            session: None,
            managed: None,
            left_over: Vec::new(),
            asked_at_rest: None,
            secured: false,
            idle: false,
        }
    }

    pub fn name(&self) -> String {
        format!("{}/{}", self.account, self.resource)
    }

    pub fn connected(&mut self, conn: ConnId, direct_tls: bool) {
        (self.conn, self.state, self.secured) = (Some(conn), State::Greeting, direct_tls);
        self.idle = false;
    }

    pub fn tls(&mut self) {
        (self.secured, self.state) = (true, State::Greeting);
    }

    /// Its connection is no more. Returns what it was logged in as.
    pub fn disconnected(&mut self) -> Option<usize> {
        (self.conn, self.state) = (None, State::Away);
        self.session.take()
    }
}

/// Something that a person might do.
#[derive(Clone, Copy, Debug)]
enum Act {
    Message,
    Available,
    Unavailable,
    Directed,
    Subscription,
    RosterSet,
    RosterRemove,
    RosterGet,
    Block,
    Unblock,
    BlockGet,
    PrivateSet,
    PrivateGet,
    VCardSet,
    VCardGet,
    Carbons,
    Ping,
    Unknown,
    Forge,
    Room,
    Node,
    Idle,
    Archive,
    Ask,
    Acknowledge,
    Close,
}

impl World {
    /// How often this client does something, against everything else that happens.
    pub fn act_weight(&self, client: usize) -> u32 {
        match self.clients[client].state {
            State::Away => 2,
            State::Online => 4,
            _ => 0,
        }
    }

    pub fn act(&mut self, client: usize) -> Check {
        if self.clients[client].state == State::Away {
            return self.connect(client);
        }
        let Some(session) = self.clients[client].session else { return Ok(()) };
        let block = self.plan.block_weight;
        let acts = [
            (60, Act::Message),
            (10, Act::Available),
            (4, Act::Unavailable),
            (5, Act::Directed),
            (24, Act::Subscription),
            (10, Act::RosterSet),
            (4, Act::RosterRemove),
            (2, Act::RosterGet),
            (block, Act::Block),
            (block, Act::Unblock),
            (1, Act::BlockGet),
            (6, Act::PrivateSet),
            (6, Act::PrivateGet),
            (4, Act::VCardSet),
            (6, Act::VCardGet),
            (3, Act::Carbons),
            (6, Act::Ping),
            (2, Act::Unknown),
            (1, Act::Forge),
            (self.plan.room_weight, Act::Room),
            (self.plan.node_weight, Act::Node),
            (self.plan.idle_weight, Act::Idle),
            (if cfg!(feature = "mam") { 8 } else { 0 }, Act::Archive),
            (10, Act::Ask),
            (6, Act::Acknowledge),
            (2, Act::Close),
        ];
        if let Some(act) = self.rng.weighted(&acts) {
            self.do_act(client, session, act);
        }
        Ok(())
    }

    fn do_act(&mut self, client: usize, session: usize, act: Act) {
        let account = self.clients[client].account.clone();
        match act {
            Act::Message => self.send_message(session),
            Act::Available => self.send_presence(session, true),
            Act::Unavailable => self.send_presence(session, false),
            Act::Directed => {
                let to = self.somebody();
                let away = self.rng.percent(30);
                let kind = if away { " type='unavailable'" } else { "" };
                self.model.sessions[session].directed.push(to.clone());
                self.send(session, What::Directed, Some(to), "presence", kind, "<show>chat</show>", vec![]);
            }
            Act::Subscription => {
                let to = bare(&self.somebody()).to_string();
                let kind = self.rng.pick(&[
                    "subscribe",
                    "subscribe",
                    "subscribed",
                    "subscribed",
                    "unsubscribe",
                    "unsubscribed",
                ]);
                if kind == "subscribed" {
                    self.model.access.open(&account, "presence", &to);
                    self.model.granted.entry((account, to.clone())).or_insert(self.step);
                }
                let attributes = format!(" type='{kind}'");
                self.send(session, What::Subscription, Some(to), "presence", &attributes, "", vec![]);
                if kind == "subscribed" && self.rng.percent(40) {
                    self.send_presence(session, true);
                }
            }
            Act::RosterSet | Act::RosterRemove => {
                let contact = bare(&self.somebody()).to_string();
                let value = match act {
                    Act::RosterSet => format!("n{}", self.step),
                    _ => String::new(),
                };
                let item = match act {
                    Act::RosterSet => format!("<item jid='{contact}' name='{value}'/>"),
                    _ => format!("<item jid='{contact}' subscription='remove'/>"),
                };
                let write = self.write(session, Key::Name(contact), &value);
                let child = format!("<query xmlns='{}'>{item}</query>", ns::ROSTER);
                self.request(session, What::Request, None, "set", &child, vec![write]);
            }
            Act::RosterGet => self.ask_roster(session),
            Act::BlockGet => self.ask_blocklist(session),
            Act::Block | Act::Unblock => self.send_block(session, matches!(act, Act::Block)),
            Act::PrivateSet => {
                let (n, value) = (self.rng.below(3) as u8, format!("p{}", self.step));
                let write = self.write(session, Key::Private(n), &value);
                let child =
                    format!("<query xmlns='{}'><note xmlns='{}'>{value}</note></query>", ns::PRIVATE, private_ns(n));
                self.request(session, What::Request, None, "set", &child, vec![write]);
            }
            Act::PrivateGet => {
                let n = self.rng.below(3) as u8;
                let child = format!("<query xmlns='{}'><note xmlns='{}'/></query>", ns::PRIVATE, private_ns(n));
                self.request(session, What::PrivateGet(n), None, "get", &child, vec![]);
            }
            Act::VCardSet => {
                let value = format!("v{}", self.step);
                let write = self.write(session, Key::VCard, &value);
                let child = format!("<vCard xmlns='{}'><FN>{value}</FN></vCard>", ns::VCARD);
                self.request(session, What::Request, None, "set", &child, vec![write]);
            }
            Act::VCardGet => {
                let own = self.rng.percent(50);
                let owner = if own { account } else { bare(&self.somebody()).to_string() };
                let (to, child) = ((!own).then(|| owner.clone()), format!("<vCard xmlns='{}'/>", ns::VCARD));
                self.request(session, What::VCardGet(owner), to, "get", &child, vec![]);
            }
            Act::Carbons => {
                let name = if self.rng.percent(80) { "enable" } else { "disable" };
                self.request(
                    session,
                    What::Request,
                    None,
                    "set",
                    &format!("<{name} xmlns='{}'/>", ns::CARBONS),
                    vec![],
                );
            }
            Act::Ping => {
                let child = format!("<ping xmlns='{}'/>", ns::PING);
                match self.rng.below(3) {
                    0 => self.request(session, What::Request, None, "get", &child, vec![]),
                    1 => self.request(session, What::Request, Some(HOST.to_string()), "get", &child, vec![]),
                    _ => {
                        let peer = self.somebody();
                        self.request(session, What::Peer, Some(peer), "get", &child, vec![]);
                    }
                }
            }
            Act::Unknown => {
                let to = self.rng.pick(&[None, Some(HOST.to_string()), Some("else.example".to_string())]);
                let kind = self.rng.pick(&["get", "set"]);
                self.request(session, What::Request, to, kind, "<query xmlns='sim:unknown'/>", vec![]);
            }
            Act::Forge => {
                let (from, to) = (self.somebody(), self.somebody());
                let attributes = format!(" from='{from}' type='chat'");
                let what = What::Message;
                self.send(session, what, Some(to), "message", &attributes, "<body>hm</body>", vec![]);
            }
            Act::Room => self.act_in_room(session),
            Act::Node => self.act_on_nodes(session),
            Act::Idle => self.be_idle(client, !self.clients[client].idle),
            Act::Archive => self.ask_archive(session),
            Act::Ask => self.ask(client),
            Act::Acknowledge => self.acknowledge(client),
            Act::Close => {
                if self.rng.percent(70) {
                    self.acknowledge(client);
                }
                // It does not mean to come back.
                self.clients[client].managed = None;
                self.close_stream(client);
            }
        }
    }

    /// Nobody looks at a client any more, or somebody does again.
    pub fn be_idle(&mut self, client: usize, idle: bool) {
        if self.clients[client].state == State::Online && self.clients[client].idle != idle {
            self.clients[client].idle = idle;
            let name = if idle { "inactive" } else { "active" };
            self.count(if idle { "clients that were idle" } else { "clients that were looked at again" });
            self.say(client, &format!("<{name} xmlns='{}'/>", ns::CSI));
        }
    }

    /// What every client does first.
    pub fn greet(&mut self, session: usize) {
        self.ask_blocklist(session);
        if self.rng.percent(75) {
            self.ask_roster(session);
        }
        if self.rng.percent(50) {
            self.request(session, What::Request, None, "set", &format!("<enable xmlns='{}'/>", ns::CARBONS), vec![]);
        }
        if self.rng.percent(90) {
            self.send_presence(session, true);
        }
    }

    fn ask_roster(&mut self, session: usize) {
        self.request(session, What::RosterGet, None, "get", &format!("<query xmlns='{}'/>", ns::ROSTER), vec![]);
    }

    fn ask_blocklist(&mut self, session: usize) {
        let child = format!("<blocklist xmlns='{}'/>", ns::BLOCKING);
        self.request(session, What::BlockGet, None, "get", &child, vec![]);
    }

    fn send_message(&mut self, session: usize) {
        let to = match self.rng.below(10) {
            0 => self.rng.pick(&[format!("nobody@{HOST}"), "x@else.example".to_string(), HOST.to_string()]),
            1..=5 => bare(&self.somebody()).to_string(),
            _ => self.somebody(),
        };
        let kind = self.rng.pick(&["chat", "chat", "chat", "chat", "normal", "headline"]);
        let words = if self.rng.percent(self.plan.long_percent) { 700 } else { 1 + self.rng.below(6) };
        let body = format!("<body>{}</body>", "ha &amp; ".repeat(words));
        let from = match self.rng.below(10) {
            0 => format!(" from='{}'", self.model.sessions[session].jid),
            1 => format!(" from='{}'", self.model.sessions[session].account),
            _ => String::new(),
        };
        let state = self.plan.idle_weight > 0 && self.rng.percent(20);
        let body = if state { format!("<composing xmlns='{}'/>", ns::CHAT_STATES) } else { body };
        let kind = if state { "chat" } else { kind };
        let what = What::Message;
        self.send(session, what, Some(to), "message", &format!("{from} type='{kind}'"), &body, vec![]);
        if let Some(sent) = self.model.sent.last_mut().filter(|_| state) {
            // It means nothing later.
            sent.is_kept = false;
        }
    }

    fn send_presence(&mut self, session: usize, available: bool) {
        let priority = self.rng.pick(&[0i8, 0, 0, 1, 5, -1]);
        let wants = self.plan.node_weight > 0 && self.rng.percent(70);
        let s = &mut self.model.sessions[session];
        if available {
            s.priority = Some(priority);
            s.wants |= wants;
        } else {
            s.unsure |= s.priority.take().is_some();
            s.seen.clear();
            s.directed.clear();
            (s.wants, s.steady) = (false, None);
            // The server leaves its rooms.
            self.rooms_unsure(session);
        }
        let mut body = if available { format!("<priority>{priority}</priority>") } else { String::new() };
        if available && wants {
            body.push_str(&capabilities());
        }
        let kind = if available { "" } else { " type='unavailable'" };
        self.send(session, What::Presence, None, "presence", kind, &body, vec![]);
    }

    fn send_block(&mut self, session: usize, on: bool) {
        let full = self.rng.percent(15);
        let mut jids = Vec::new();
        for _ in 0..1 + self.rng.below(2) {
            let jid = self.somebody();
            let jid = if full { jid } else { bare(&jid).to_string() };
            if bare(&jid) != self.model.sessions[session].account && !jids.contains(&jid) {
                jids.push(jid);
            }
        }
        if jids.is_empty() {
            return;
        }
        let value = if on { "yes" } else { "" };
        let writes = jids.iter().map(|jid| self.write(session, Key::Block(jid.clone()), value)).collect();
        let items: String = jids.iter().map(|jid| format!("<item jid='{jid}'/>")).collect();
        let name = if on { "block" } else { "unblock" };
        let child = format!("<{name} xmlns='{}'>{items}</{name}>", ns::BLOCKING);
        self.request(session, What::Block { jids, on }, None, "set", &child, writes);
    }

    fn write(&mut self, session: usize, key: Key, value: &str) -> WriteId {
        let account = self.model.sessions[session].account.clone();
        self.model.registers.begin(&account, key, value, session, self.step)
    }

    pub fn request(
        &mut self,
        session: usize,
        what: What,
        to: Option<String>,
        kind: &str,
        child: &str,
        writes: Vec<WriteId>,
    ) {
        self.send(session, what, to, "iq", &format!(" type='{kind}'"), child, writes);
    }

    /// Sends a stanza whose id is its number.
    #[allow(clippy::too_many_arguments)]
    pub fn send(
        &mut self,
        session: usize,
        what: What,
        to: Option<String>,
        name: &'static str,
        attributes: &str,
        body: &str,
        writes: Vec<WriteId>,
    ) {
        let number = self.model.sent.len();
        let to_attribute = to.as_ref().map(|to| format!(" to='{to}'")).unwrap_or_default();
        let xml = format!("<{name} id='x{number}'{to_attribute}{attributes}>{body}</{name}>");
        let is_normal = attributes.contains("'normal'");
        let is_kept = is_normal || attributes.contains("'chat'");
        self.model.sent.push(Sent { is_kept, is_normal, ..Sent::new(session, self.step, what, to, writes) });
        self.count(name);
        self.say_stanza(self.model.sessions[session].client, Some(number), xml);
    }

    /// A full address at which somebody may be.
    pub fn somebody(&mut self) -> String {
        let client = self.rng.below(self.clients.len());
        self.clients[client].name()
    }

    pub fn close_stream(&mut self, client: usize) {
        if !matches!(self.clients[client].state, State::Away | State::Leaving) {
            self.say(client, "</stream:stream>");
            self.clients[client].state = State::Leaving;
            self.count("streams closed");
        }
    }

    /// Bytes go on their way to the server.
    pub fn say(&mut self, client: usize, xml: &str) {
        let name = self.clients[client].name();
        self.note(|| format!("{name}: {xml}"));
        if let Some(link) = self.clients[client].conn.and_then(|conn| self.links.get_mut(&conn))
            && !link.closed
        {
            link.to_server.extend_from_slice(xml.as_bytes());
        }
    }

    pub fn send_header(&mut self, client: usize) {
        let header = format!(
            "<?xml version='1.0'?><stream:stream xmlns='{}' xmlns:stream='{}' to='{HOST}' version='1.0'>",
            ns::CLIENT,
            ns::STREAM
        );
        self.say(client, &header);
    }

    pub fn bind(&mut self, client: usize) {
        let resource = self.clients[client].resource;
        let bind = format!("<bind xmlns='{}'><resource>{resource}</resource></bind>", ns::BIND);
        self.say(client, &format!("<iq type='set' id='bind'>{bind}</iq>"));
        self.clients[client].state = State::Binding;
    }

    /// An element arrives before a session begins.
    pub fn log_in(&mut self, client: usize, element: ElementRef<'_>) {
        let Client { account, state, secured, .. } = &self.clients[client];
        let (account, secured) = (account.clone(), *secured);
        let user = account.split('@').next().unwrap_or_default();
        match (state.clone(), element.ns(), element.name()) {
            (State::Greeting, ns::STREAM, "features") if !secured => {
                self.say(client, &format!("<starttls xmlns='{}'/>", ns::TLS));
                self.clients[client].state = State::Tls;
            }
            (State::Greeting, ns::STREAM, "features") => {
                let (name, first, message) = match self.rng.below(3) {
                    0 => ("PLAIN", None, format!("\0{user}\0{}", password(&account))),
                    n => {
                        let first = format!("n={user},r=nonce{}", self.step);
                        let name = ["", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"][n];
                        let message = format!("{}{first}", gs2(name));
                        (name, Some(format!("{name} {first}")), message)
                    }
                };
                let auth = format!("<auth xmlns='{}' mechanism='{name}'>{}</auth>", ns::SASL, STANDARD.encode(message));
                self.say(client, &auth);
                self.clients[client].state = State::LoggingIn(first);
            }
            (State::LoggingIn(Some(first)), ns::SASL, "challenge") => {
                let answer = scram(&first, &element.text(), &password(&account));
                self.say(client, &format!("<response xmlns='{}'>{}</response>", ns::SASL, STANDARD.encode(answer)));
            }
            (State::LoggingIn(_), ns::SASL, "success") => {
                self.count("logins");
                self.send_header(client);
                self.clients[client].state = State::Known;
            }
            (State::Known, ns::STREAM, "features") => {
                if !self.ask_to_resume(client) {
                    self.bind(client);
                }
            }
            (State::Tls, ns::TLS, "proceed") => {}
            _ => self.close_stream(client),
        }
    }
}

fn gs2(mechanism: &str) -> &'static str {
    if mechanism.ends_with("-PLUS") { "p=tls-exporter,," } else { "n,," }
}

/// The client's proof (RFC 5802 section 3).
fn scram(first: &str, challenge: &str, password: &str) -> String {
    let (mechanism, first) = first.split_once(' ').unwrap_or_default();
    let server = String::from_utf8(STANDARD.decode(challenge).unwrap_or_default()).unwrap_or_default();
    let field = |name: &str| server.split(',').find_map(|f| f.strip_prefix(name)).unwrap_or_default();
    let salt = STANDARD.decode(field("s=")).unwrap_or_default();
    let rounds = field("i=").parse().ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
    let mut binding = gs2(mechanism).as_bytes().to_vec();
    if mechanism.ends_with("-PLUS") {
        binding.extend([7; 32]);
    }
    let unsigned = format!("c={},r={}", STANDARD.encode(binding), field("r="));
    let mut salted = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password.as_bytes(), &mut salted);
    let mac = |key: &[u8], data: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
    let client_key = mac(&salted, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
    let signature = mac(stored_key.as_ref(), format!("{first},{server},{unsigned}").as_bytes());
    let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(k, s)| k ^ s).collect();
    format!("{unsigned},p={}", STANDARD.encode(proof))
}

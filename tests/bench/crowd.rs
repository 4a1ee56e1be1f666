//! Clients that log in as clients do: TLS 1.3, SCRAM, a resource, and what else a profile asks for.

use crate::frame::{attribute, between, has};
use crate::net::{Heard, Id, Net};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use ring::{digest, hmac, pbkdf2};
use std::cell::RefCell;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The domain that every server serves.
pub const HOST: &str = "localhost";
/// The password of everybody.
pub const PASSWORD: &str = "secret";
/// How long a server may take for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

const HEADER: &str = "<?xml version='1.0'?><stream:stream to='localhost' version='1.0' xmlns='jabber:client' \
                      xmlns:stream='http://etherx.jabber.org/streams'>";

/// What a client does once it has its resource.
#[derive(Clone, Copy, Default)]
pub struct Profile {
    /// Switches stream management on (XEP-0198).
    pub managed: bool,
    /// Switches carbons on (XEP-0280).
    pub carbons: bool,
    /// Asks for its roster.
    pub roster: bool,
    /// Comes online.
    pub presence: bool,
    /// Makes its account (XEP-0077) and does nothing else.
    pub registers: bool,
}

impl Profile {
    /// A client that chats.
    pub const ONLINE: Self = Self { managed: false, carbons: false, roster: true, presence: true, registers: false };
    /// One that does all that clients on phones do.
    pub const PHONE: Self = Self { managed: true, carbons: true, ..Self::ONLINE };
}

/// What is told of clients.
pub enum News<'a> {
    /// It is logged in, and has got what its profile asks for.
    Ready,
    /// A stanza, or an acknowledgement. Until it is ready, presence and messages alone.
    Stanza(&'a [u8]),
    /// Its connection is gone.
    Gone,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Features,
    Challenge,
    Success,
    FeaturesAgain,
    Bind,
    Registering,
    Settling,
    Ready,
    Gone,
}

struct Client {
    user: usize,
    profile: Profile,
    stage: Stage,
    scram: Option<Scram>,
    /// The server has stream management.
    can_manage: bool,
    /// Stanzas that came since it is on.
    inbound: Option<u32>,
}

struct Scram {
    algorithm: Algorithm,
    first: String,
    server_signature: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Algorithm {
    Sha1,
    Sha256,
}

/// What SCRAM derives from a password, which clients may keep (RFC 5802 section 3).
struct Keys {
    client: hmac::Tag,
    stored: digest::Digest,
    server: hmac::Key,
}

thread_local! {
    // So that the generator derives them once a user, and not while it measures.
    static KEYS: RefCell<HashMap<(Algorithm, String, u32), Rc<Keys>>> = RefCell::default();
}

/// All clients of one server.
pub struct Crowd {
    /// Their connections.
    pub net: Net,
    clients: Vec<Client>,
    /// Logins under way.
    pending: usize,
}

impl Crowd {
    /// Nobody yet.
    pub fn new(net: Net) -> Self {
        Self { net, clients: Vec::new(), pending: 0 }
    }

    /// Whether the server of this client has stream management.
    pub fn can_manage(&self, id: Id) -> bool {
        self.clients.get(id).is_some_and(|client| client.can_manage)
    }

    /// Begins to log a user in.
    pub fn start(&mut self, user: usize, profile: Profile) -> Result<Id, String> {
        let id = self.net.connect()?;
        let stage = Stage::Connecting;
        self.clients.push(Client { user, profile, stage, scram: None, can_manage: false, inbound: None });
        self.pending += 1;
        Ok(id)
    }

    /// Logs users in, so many at a time, and tells what they hear meanwhile.
    pub fn log_in(
        &mut self,
        users: impl Iterator<Item = usize>,
        profile: Profile,
        at_once: usize,
        hear: &mut dyn FnMut(&mut Net, Id, News<'_>),
    ) -> Result<Vec<Id>, String> {
        let (mut users, mut ids, mut last) = (users.peekable(), Vec::new(), Instant::now());
        loop {
            while self.pending < at_once && users.peek().is_some() {
                ids.extend(users.next().map(|user| self.start(user, profile)).transpose()?);
            }
            if self.pending == 0 {
                return Ok(ids);
            }
            let before = self.pending;
            self.step(Duration::from_millis(100), hear)?;
            if self.pending < before {
                last = Instant::now();
            } else if last.elapsed() > PATIENCE {
                return Err(format!("{} logins do not end", self.pending));
            }
        }
    }

    /// Waits for what happens, once.
    pub fn step(&mut self, wait: Duration, hear: &mut dyn FnMut(&mut Net, Id, News<'_>)) -> Result<(), String> {
        let Self { net, clients, pending } = self;
        let mut failed = None;
        net.step(wait, &mut |net, id, heard| {
            let Some(client) = clients.get_mut(id) else { return };
            let was_pending = client.is_pending();
            match heard {
                Heard::Open => {
                    client.stage = Stage::Features;
                    net.say(id, HEADER);
                }
                Heard::Element(element) => match client.hear(net, id, element) {
                    Ok(true) => hear(net, id, News::Stanza(element)),
                    Ok(false) => {}
                    Err(why) => {
                        let said = String::from_utf8_lossy(&element[..element.len().min(400)]).into_owned();
                        failed = Some(format!("u{}: {why}: {said}", client.user));
                    }
                },
                Heard::Closed => {
                    if was_pending {
                        failed = Some(format!("u{}: the connection ends during the login", client.user));
                    }
                    client.stage = Stage::Gone;
                    hear(net, id, News::Gone);
                }
            }
            if was_pending && !client.is_pending() {
                *pending -= 1;
                if client.stage == Stage::Ready {
                    hear(net, id, News::Ready);
                }
            }
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// Steps until `done` says so. False when that takes too long.
    pub fn until(
        &mut self,
        patience: Duration,
        hear: &mut dyn FnMut(&mut Net, Id, News<'_>),
        mut done: impl FnMut() -> bool,
    ) -> Result<bool, String> {
        let begin = Instant::now();
        while !done() {
            if begin.elapsed() > patience {
                return Ok(false);
            }
            self.step(Duration::from_millis(20), hear)?;
        }
        Ok(true)
    }

    /// Steps until nothing has come for so long.
    pub fn until_quiet(&mut self, quiet: Duration, hear: &mut dyn FnMut(&mut Net, Id, News<'_>)) -> Result<(), String> {
        let (begin, mut last) = (Instant::now(), Instant::now());
        while last.elapsed() < quiet && begin.elapsed() < PATIENCE {
            self.step(quiet / 4, &mut |net, id, news| {
                last = Instant::now();
                hear(net, id, news);
            })?;
        }
        Ok(())
    }

    /// Everybody leaves in good order.
    pub fn leave(&mut self) -> Result<(), String> {
        for (id, client) in self.clients.iter_mut().enumerate().filter(|(_, client)| client.stage == Stage::Ready) {
            client.stage = Stage::Gone;
            self.net.say(id, "</stream:stream>");
        }
        self.until_quiet(Duration::from_millis(200), &mut |_, _, _| {})?;
        self.net.hang_up_all();
        Ok(())
    }
}

impl Client {
    fn is_pending(&self) -> bool {
        !matches!(self.stage, Stage::Ready | Stage::Gone)
    }

    /// Takes an element. True when it is for the user.
    fn hear(&mut self, net: &mut Net, id: Id, element: &[u8]) -> Result<bool, String> {
        if element.starts_with(b"<stream:error") || element.starts_with(b"<failure") {
            return Err("the server refuses".into());
        }
        match self.stage {
            Stage::Features if self.profile.registers => {
                let query = format!("<username>u{}</username><password>{PASSWORD}</password>", self.user);
                let query = format!("<query xmlns='jabber:iq:register'>{query}</query>");
                net.say(id, &format!("<iq type='set' id='reg' to='{HOST}'>{query}</iq>"));
                self.stage = Stage::Registering;
            }
            Stage::Registering => {
                let there = has(element, "conflict");
                if attribute(element, "type") != Some("result") && !there {
                    return Err("no registration".into());
                }
                self.stage = Stage::Gone;
                net.hang_up(id);
            }
            Stage::Features => {
                let (name, algorithm) = if has(element, ">SCRAM-SHA-256<") {
                    ("SCRAM-SHA-256", Some(Algorithm::Sha256))
                } else if has(element, ">SCRAM-SHA-1<") {
                    ("SCRAM-SHA-1", Some(Algorithm::Sha1))
                } else {
                    ("PLAIN", None)
                };
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let first = format!("n=u{},r=bench{id:x}x{:x}", self.user, since.as_nanos());
                let response = match algorithm {
                    Some(_) => format!("n,,{first}"),
                    None => format!("\0u{}\0{PASSWORD}", self.user),
                };
                let auth = format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{name}'>");
                net.say(id, &format!("{auth}{}</auth>", BASE64_STANDARD.encode(response)));
                self.stage = if algorithm.is_some() { Stage::Challenge } else { Stage::Success };
                self.scram = algorithm.map(|algorithm| Scram { algorithm, first, server_signature: String::new() });
            }
            Stage::Challenge => {
                let challenge = text_of(element)?;
                let Some(scram) = &mut self.scram else { return Err("no SCRAM".into()) };
                let last = scram.answer(&challenge)?;
                let last = BASE64_STANDARD.encode(last);
                net.say(id, &format!("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{last}</response>"));
                self.stage = Stage::Success;
            }
            Stage::Success => {
                if let Some(scram) = self.scram.take()
                    && text_of(element)? != scram.server_signature
                {
                    return Err("the server's signature is wrong".into());
                }
                net.say(id, HEADER);
                self.stage = Stage::FeaturesAgain;
            }
            Stage::FeaturesAgain => {
                self.can_manage = has(element, "urn:xmpp:sm:3");
                let bind = format!("<resource>bench{id}</resource>");
                let bind = format!("<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>{bind}</bind>");
                net.say(id, &format!("<iq type='set' id='bind'>{bind}</iq>"));
                self.stage = Stage::Bind;
            }
            Stage::Bind => {
                if attribute(element, "type") != Some("result") {
                    return Err("no resource".into());
                }
                self.settle(net, id);
            }
            Stage::Settling | Stage::Ready => return Ok(self.stanza(net, id, element)),
            Stage::Connecting | Stage::Gone => {}
        }
        Ok(false)
    }

    /// Says all that the profile asks for, and a ping: when that is answered, all is done.
    fn settle(&mut self, net: &mut Net, id: Id) {
        let Profile { managed, carbons, roster, presence, .. } = self.profile;
        if !(managed || carbons || roster || presence) {
            self.stage = Stage::Ready;
            return;
        }
        let all = [
            (roster, "<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>"),
            (carbons, "<iq type='set' id='carbons'><enable xmlns='urn:xmpp:carbons:2'/></iq>"),
            (managed && self.can_manage, "<enable xmlns='urn:xmpp:sm:3'/>"),
            (presence, "<presence/>"),
            (true, "<iq type='get' id='ready' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>"),
        ];
        let said: String = all.iter().filter(|(wanted, _)| *wanted).map(|(_, text)| *text).collect();
        net.say(id, &said);
        self.stage = Stage::Settling;
    }

    fn stanza(&mut self, net: &mut Net, id: Id, element: &[u8]) -> bool {
        match element {
            [b'<', b'e', b'n', ..] => self.inbound = Some(0),
            [b'<', b'r', b' ' | b'/' | b'>', ..] => {
                if let Some(inbound) = self.inbound {
                    net.say(id, &format!("<a xmlns='urn:xmpp:sm:3' h='{inbound}'/>"));
                }
            }
            [b'<', b'a', b' ', ..] => return true,
            _ => {
                if let Some(inbound) = &mut self.inbound {
                    *inbound += 1;
                }
                let is_request = element.starts_with(b"<iq");
                if is_request && self.stage == Stage::Settling && attribute(element, "id") == Some("ready") {
                    self.stage = Stage::Ready;
                    return false;
                }
                return self.stage == Stage::Ready || !is_request;
            }
        }
        false
    }
}

/// What a SASL element holds.
fn text_of(element: &[u8]) -> Result<String, String> {
    let text = between(element, ">", "<").ok_or("an empty answer")?;
    let text = BASE64_STANDARD.decode(text).map_err(|e| e.to_string())?;
    String::from_utf8(text).map_err(|e| e.to_string())
}

impl Scram {
    /// RFC 5802 section 3.
    fn answer(&mut self, challenge: &str) -> Result<String, String> {
        let value =
            |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name)).ok_or("no SCRAM challenge");
        let (nonce, salt) = (value("r=")?, value("s=")?);
        let rounds = value("i=")?.parse().map_err(|_| "no SCRAM iterations")?;
        let keys = keys(self.algorithm, salt, rounds)?;
        let bare = format!("c=biws,r={nonce}");
        let all = format!("{},{challenge},{bare}", self.first);
        let algorithm = self.algorithm.hmac();
        let signature = hmac::sign(&hmac::Key::new(algorithm, keys.stored.as_ref()), all.as_bytes());
        let proof: Vec<u8> = keys.client.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        self.server_signature = format!("v={}", BASE64_STANDARD.encode(hmac::sign(&keys.server, all.as_bytes())));
        Ok(format!("{bare},p={}", BASE64_STANDARD.encode(proof)))
    }
}

impl Algorithm {
    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
        }
    }
}

fn keys(algorithm: Algorithm, salt: &str, rounds: u32) -> Result<Rc<Keys>, String> {
    let name = (algorithm, salt.to_owned(), rounds);
    if let Some(keys) = KEYS.with_borrow(|all| all.get(&name).cloned()) {
        return Ok(keys);
    }
    let salt = BASE64_STANDARD.decode(salt).map_err(|e| e.to_string())?;
    let rounds = NonZeroU32::new(rounds).ok_or("no SCRAM iterations")?;
    let (pbkdf2, digest, len) = match algorithm {
        Algorithm::Sha1 => (pbkdf2::PBKDF2_HMAC_SHA1, &digest::SHA1_FOR_LEGACY_USE_ONLY, 20),
        Algorithm::Sha256 => (pbkdf2::PBKDF2_HMAC_SHA256, &digest::SHA256, 32),
    };
    let mut salted = [0; 32];
    let salted = &mut salted[..len];
    pbkdf2::derive(pbkdf2, rounds, &salt, PASSWORD.as_bytes(), salted);
    let salted = hmac::Key::new(algorithm.hmac(), salted);
    let client = hmac::sign(&salted, b"Client Key");
    let server = hmac::Key::new(algorithm.hmac(), hmac::sign(&salted, b"Server Key").as_ref());
    let keys = Rc::new(Keys { stored: digest::digest(digest, client.as_ref()), client, server });
    KEYS.with_borrow_mut(|all| all.insert(name, keys.clone()));
    Ok(keys)
}

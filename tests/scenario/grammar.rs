//! The language of the plays in `tests/scenarios/*.scs`.
//!
//! It is the language of Scansion, the test tool of Prosody, with a few lines more. A file is a list of clients, a line
//! of dashes, and what happens, in order:
//!
//! ```text
//! # Comments start with a hash. The first one is the title of the play.
//!
//! [Client] Romeo
//!     jid: romeo@localhost
//!     password: secret
//!
//! [Client] Juliet's phone
//!     jid: juliet@localhost
//!     password: secret
//!     resource: phone
//!
//! ---------
//!
//! Romeo connects
//! Romeo sends:
//!     <message to="${Juliet's phone's full JID}"><body>Hi</body></message>
//! ```
//!
//! A `[Component]` has `jid`, its domain, and `password`, its secret, as in the original; `# setting:
//! components.secrets = irc.example=SECRET` lets it connect. A `[Server]` is another server, with one connection at
//! a time: `domain`, and optionally `certificate` (`valid`, `valid for a.example b.example`, `self-signed`, `expired`,
//! `of an unknown issuer`, `none`) and `offers`
//! (`management`, `bidi`, `dialback`, `bytes=N`). Two of one domain are two connections of it. Plays with servers are
//! performed in process only. A domain that is of none of them cannot be found.
//!
//! Fields of a client: `jid`, `password`, and optionally `resource` (without it the server chooses one). Of ours:
//! `account: none` (no such account is made; the others are, each with the password of the first client that has it)
//! `account: SCRAM-SHA-1` (it has keys for that alone; in process only), `mechanism:` (SASL; `PLAIN` where nothing is
//! said), `address: 192.0.2.1` (from where it connects; this machine where nothing is said; in process only) and
//! `sasl: 2` (the client logs in and binds as XEP-0388 and XEP-0386 say; its resource is the tag).
//!
//! | line | meaning |
//! |---|---|
//! | `Romeo connects` | opens a stream, authenticates, binds a resource; sends no presence |
//! | `Romeo disconnects` | closes the stream |
//! | `Romeo sends:` + XML | one stanza |
//! | `Romeo receives:` + XML | the next stanza that Romeo gets is like this one (see `matching.rs`) |
//!
//! The following are ours; a play that uses them is not for the original Scansion:
//!
//! | line | meaning |
//! |---|---|
//! | `Romeo receives in any order:` + several stanzas | the next ones are these, however ordered |
//! | `Romeo may receive:` + XML | takes the next stanza if it is like this one: for what a specification leaves to the server |
//! | `Romeo receives nothing` | no stanza is there once the server is done with all that was sent before |
//! | `Romeo fails to connect: condition` | as `connects`, but refused with that condition of SASL, bind or stream |
//! | `Capulet is turned away` | it connects, and there is no room for one more; in process only |
//! | `Romeo logs in` | as `connects`, but binds no resource: for what may be done instead |
//! | `Romeo opens a connection` | TLS, but no stream yet: for plays about the stream itself |
//! | `Capulet opens a connection with TLS` | a server does not begin with TLS, unless it is said so |
//! | `Capulet connects` | of a server: opens a stream to the first host, starts TLS, proves who it is by its certificate |
//! | `Capulet accepts` | a connection of ours to its domain is under way: it answers, and lets us prove who we are |
//! | `Capulet is dialed` | the same, but it says nothing yet; `is dialed with TLS` is direct TLS |
//! | `Capulet starts TLS` | the handshake is done, whoever has begun it |
//! | `Capulet cannot be dialed: not found` | ... or `timeout`, `unreachable`, `tls`: our attempt ends so |
//! | `Capulet is not dialed` | no connection of ours to its domain is under way |
//! | `Romeo sends raw:` + text | these characters, well-formed or not |
//! | `Capulet receives white space` | nothing but that, between elements |
//! | `Romeo receives stream error: condition` | the next thing is that error, and then the end of the stream |
//! | `Romeo is disconnected` | the server has closed the stream without an error |
//! | `Romeo's connection drops` | the connection is gone without a word |
//! | `the operator runs: invite --user juliet` | that command, one of those in `operator.rs`, with lines that it prints |
//! | `the operator sets: limits.x = 2` | the same as `# setting:`, from now on; in process only |
//! | `time passes 5 minutes` | (`ms`, `seconds`, `minutes`, `hours`, `days`) in process only |
//! | `the disk fails`, `the disk works again` | what is committed in between is not stored; in process only |
//! | `the disk is gone` | the same, and nothing more can be read of it, until it works again |
//! | `the server restarts` | every connection ends, what is stored stays; not against another server |
//! | `the server is killed` | the same without a warning; not against another server |
//!
//! In XML and in raw text `${Romeo's JID}`, `${Romeo's full JID}` and `${Romeo's resource}` stand for what they say,
//! `${300 times x}` for 300 x, `${the token}` for that of the last invitation that the operator has made.
//! `{scansion:capture:name}` in what is received keeps the value and, in what is received or sent later, stands for it;
//! `{scansion:any}` stands for any value. In what is sent, `{scansion:HT:romeo:name}` is the first message of
//! HT-SHA-256-NONE with the captured value as the token. XML stands in the namespace `jabber:client`, with the prefixes
//! `stream` and `scansion` declared.
//!
//! Comments of the form `# key: value` before the line of dashes say where a play can run:
//!
//! * `# requires: offline carbons`: only with these modules;
//! * `# in-process only: reason`;
//! * `# setting: limits.offline_messages_max = 2`: a line of configuration; not against another server;
//! * `# differs from Prosody: how`: what is expected here is not what Prosody does, and why both may be; against it the
//!   play must go wrong.

use std::net::IpAddr;

use couplet::xml::Element;

use super::server::Server;
use super::xml_text;

/// One file.
#[derive(Debug)]
pub struct Play {
    /// Name of the file without folder.
    pub file: String,
    /// The first comment.
    pub title: String,
    /// Modules without which it makes no sense.
    pub requires: Vec<String>,
    /// Lines of configuration, `key = value`.
    pub settings: Vec<String>,
    /// Not over a socket.
    pub in_process_only: bool,
    /// Not against another server.
    pub ours_only: bool,
    /// Goes wrong against Prosody, as a comment explains.
    pub differs: bool,
    /// Who is in it.
    pub clients: Vec<Role>,
    /// What happens.
    pub lines: Vec<Line>,
}

/// One client of a play.
#[derive(Debug)]
pub struct Role {
    /// As the play calls it.
    pub name: String,
    /// Bare JID.
    pub jid: String,
    /// What the client says at login.
    pub password: String,
    /// The resource that it asks for.
    pub resource: Option<String>,
    /// SASL mechanism.
    pub mechanism: String,
    /// From where it connects.
    pub address: Option<IpAddr>,
    /// Whether the account exists.
    pub account: bool,
    /// Whether it has keys for SCRAM-SHA-1 alone.
    pub weak: bool,
    /// Whether the client uses XEP-0388 and XEP-0386.
    pub sasl2: bool,
    /// It is another server, whose domain `jid` is.
    pub server: Option<Server>,
}

/// One thing that happens.
#[derive(Debug)]
pub struct Line {
    /// Where in the file, from 1.
    pub number: usize,
    /// What.
    pub action: Action,
}

/// `usize` is the index of the client.
#[derive(Debug)]
pub enum Action {
    Connect(usize),
    Accept(usize),
    /// With direct TLS or without.
    Dialed(usize, bool),
    StartTls(usize),
    DialFails(usize, String),
    NotDialed(usize),
    FailToConnect(usize, String),
    TurnedAway(usize),
    LogIn(usize),
    Open(usize),
    OpenTls(usize),
    Disconnect(usize),
    Drop(usize),
    Send(usize, Element),
    SendRaw(usize, String),
    /// The stanzas, and whether in any order.
    Receive(usize, Vec<Element>, bool),
    MayReceive(usize, Element),
    ReceiveNothing(usize),
    ReceiveBlanks(usize),
    ReceiveStreamError(usize, String),
    Disconnected(usize),
    /// A command line without the program.
    OperatorRuns(String, Vec<String>),
    OperatorSets(String),
    /// Milliseconds.
    TimePasses(u64),
    DiskFails,
    DiskIsGone,
    DiskWorks,
    ServerRestarts,
    ServerIsKilled,
}

/// Reads one file.
///
/// # Errors
/// `file:line: what is wrong`.
pub fn parse(file: &str, text: &str) -> Result<Play, String> {
    let mut play = Play {
        file: file.to_owned(),
        title: String::new(),
        requires: Vec::new(),
        settings: Vec::new(),
        in_process_only: false,
        ours_only: false,
        differs: false,
        clients: Vec::new(),
        lines: Vec::new(),
    };
    let mut lines = Lines { rest: text.lines().enumerate().collect::<Vec<_>>(), at: 0 };
    let wrong = |number: usize, what: &str| format!("{file}:{number}: {what}");
    let mut in_action = false;
    while let Some((number, line)) = lines.next() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with("//") || line.starts_with("-- ") {
            continue;
        }
        if let Some(comment) = line.strip_prefix('#') {
            if !in_action {
                play.comment(comment.trim()).map_err(|e| wrong(number, &e))?;
            }
        } else if line.starts_with(char::is_whitespace) {
            return Err(wrong(number, "an indented line that belongs to nothing"));
        } else if let Some(name) = line.strip_prefix("[Client]") {
            if in_action {
                return Err(wrong(number, "clients come before the line of dashes"));
            }
            let role = role(name.trim(), &lines.block()).map_err(|(n, e)| wrong(n.unwrap_or(number), &e))?;
            play.in_process_only |= role.weak || role.address.is_some();
            play.enter(role).map_err(|e| wrong(number, &e))?;
        } else if let Some(name) = line.strip_prefix("[Component]") {
            if in_action {
                return Err(wrong(number, "components come before the line of dashes"));
            }
            let role = server(name.trim(), &lines.block()).map_err(|(n, e)| wrong(n.unwrap_or(number), &e))?;
            play.in_process_only = true;
            play.enter(role).map_err(|e| wrong(number, &e))?;
        } else if let Some(name) = line.strip_prefix("[Server]") {
            if in_action {
                return Err(wrong(number, "servers come before the line of dashes"));
            }
            let role = server(name.trim(), &lines.block()).map_err(|(n, e)| wrong(n.unwrap_or(number), &e))?;
            play.in_process_only = true;
            play.enter(role).map_err(|e| wrong(number, &e))?;
        } else if line.len() > 2 && line.chars().all(|c| c == '-') {
            in_action = true;
        } else if !in_action {
            return Err(wrong(number, "neither a client nor the line of dashes"));
        } else {
            let action = play.action(line, &lines.block()).map_err(|e| wrong(number, &e))?;
            play.lines.push(Line { number, action });
        }
    }
    if play.lines.is_empty() {
        return Err(wrong(text.lines().count(), "nothing happens"));
    }
    Ok(play)
}

struct Lines<'a> {
    rest: Vec<(usize, &'a str)>,
    at: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<(usize, &'a str)> {
        let (index, line) = *self.rest.get(self.at)?;
        self.at += 1;
        Some((index + 1, line))
    }

    /// The indented lines from here, with blank ones between them.
    fn block(&mut self) -> Vec<(usize, &'a str)> {
        let mut block = Vec::new();
        while let Some(&(index, line)) = self.rest.get(self.at) {
            if !line.trim().is_empty() && !line.starts_with(char::is_whitespace) {
                break;
            }
            block.push((index + 1, line));
            self.at += 1;
        }
        while block.last().is_some_and(|(_, line)| line.trim().is_empty()) {
            block.pop();
        }
        block
    }
}

fn role(name: &str, block: &[(usize, &str)]) -> Result<Role, (Option<usize>, String)> {
    let mut role = Role {
        name: name.to_owned(),
        jid: String::new(),
        password: String::new(),
        resource: None,
        mechanism: "PLAIN".to_owned(),
        address: None,
        account: true,
        weak: false,
        sasl2: false,
        server: None,
    };
    for &(number, line) in block {
        let (key, value) = match line.split_once(':') {
            Some((key, value)) => (key.trim(), value.trim()),
            None if line.trim().is_empty() => continue,
            None => return Err((Some(number), "expected `key: value`".to_owned())),
        };
        match key {
            "jid" => {
                let (bare, resource) = value.split_once('/').map_or((value, None), |(b, r)| (b, Some(r)));
                bare.clone_into(&mut role.jid);
                role.resource = resource.map(str::to_owned).or(role.resource);
            }
            "password" => value.clone_into(&mut role.password),
            "resource" => role.resource = Some(value.to_owned()),
            "mechanism" => value.clone_into(&mut role.mechanism),
            "address" => match value.parse() {
                Ok(address) => role.address = Some(address),
                Err(_) => return Err((Some(number), format!("`{value}` is no address"))),
            },
            "account" if value == "none" => role.account = false,
            "account" if value == "SCRAM-SHA-1" => role.weak = true,
            "sasl" if value == "2" => role.sasl2 = true,
            _ => return Err((Some(number), format!("a client has no `{line}`", line = line.trim()))),
        }
    }
    if role.name.is_empty() || !role.jid.contains('@') || role.password.is_empty() {
        return Err((None, "a client needs a name, a jid and a password".to_owned()));
    }
    Ok(role)
}

fn server(name: &str, block: &[(usize, &str)]) -> Result<Role, (Option<usize>, String)> {
    let (mut domain, mut server, mut address) = (String::new(), Server::default(), None);
    for &(number, line) in block.iter().filter(|(_, line)| !line.trim().is_empty()) {
        match line.split_once(':').map(|(key, value)| (key.trim(), value.trim())) {
            Some(("domain" | "jid", value)) => value.clone_into(&mut domain),
            Some(("address", value)) => match value.parse() {
                Ok(from) => address = Some(from),
                Err(_) => return Err((Some(number), format!("`{value}` is no address"))),
            },
            Some(("password", value)) => server.component = Some(value.to_owned()),
            Some(("certificate", value)) => value.clone_into(&mut server.certificate),
            Some(("offers", value)) => server.offers = value.split_whitespace().map(str::to_owned).collect(),
            _ => return Err((Some(number), format!("a server has no `{line}`", line = line.trim()))),
        }
    }
    if name.is_empty() || domain.is_empty() {
        return Err((None, "a server needs a name and a domain".to_owned()));
    }
    Ok(Role {
        name: name.to_owned(),
        jid: domain,
        password: String::new(),
        resource: None,
        mechanism: "EXTERNAL".to_owned(),
        address,
        account: false,
        weak: false,
        sasl2: false,
        server: Some(server),
    })
}

impl Play {
    fn enter(&mut self, role: Role) -> Result<(), String> {
        if self.clients.iter().any(|c| c.name == role.name) {
            return Err("two clients of that name".to_owned());
        }
        self.clients.push(role);
        Ok(())
    }

    /// A comment before the line of dashes.
    fn comment(&mut self, comment: &str) -> Result<(), String> {
        let (key, value) = comment.split_once(':').map_or((comment, ""), |(k, v)| (k, v.trim()));
        match key {
            "requires" => self.requires.extend(value.split_whitespace().map(str::to_owned)),
            "in-process only" => self.in_process_only = true,
            "setting" if value.contains('=') => {
                self.settings.push(value.to_owned());
                self.ours_only = true;
            }
            "setting" => return Err("expected `# setting: key = value`".to_owned()),
            "differs from Prosody" if value.is_empty() => return Err("expected how it differs, and why".to_owned()),
            "differs from Prosody" => self.differs = true,
            _ if self.title.is_empty() => comment.clone_into(&mut self.title),
            _ => {}
        }
        Ok(())
    }

    fn action(&mut self, line: &str, block: &[(usize, &str)]) -> Result<Action, String> {
        let takes_block = |action: Action| {
            if block.is_empty() { Err("something indented must follow".to_owned()) } else { Ok(action) }
        };
        let alone = |action: Action| {
            if block.is_empty() { Ok(action) } else { Err("nothing indented can follow".to_owned()) }
        };
        match line {
            "the disk fails" => {
                self.in_process_only = true;
                return alone(Action::DiskFails);
            }
            "the disk is gone" => {
                self.in_process_only = true;
                return alone(Action::DiskIsGone);
            }
            "the disk works again" => return alone(Action::DiskWorks),
            "the server restarts" => {
                self.ours_only = true;
                return alone(Action::ServerRestarts);
            }
            "the server is killed" => {
                self.ours_only = true;
                return alone(Action::ServerIsKilled);
            }
            _ => {}
        }
        if let Some(command) = line.strip_prefix("the operator runs: ") {
            self.ours_only = true;
            let answer = dedented(block).lines().map(str::to_owned).collect();
            return Ok(Action::OperatorRuns(command.trim().to_owned(), answer));
        }
        if let Some(setting) = line.strip_prefix("the operator sets: ") {
            self.in_process_only = true;
            return alone(Action::OperatorSets(setting.trim().to_owned()));
        }
        if let Some(duration) = line.strip_prefix("time passes ") {
            self.in_process_only = true;
            return alone(Action::TimePasses(duration_ms(duration)?));
        }
        let (client, rest) = self.who(line).ok_or_else(|| format!("nobody in this play does `{line}`"))?;
        let rest = if rest.contains(": ") { rest } else { rest.trim_end_matches(':') };
        match rest {
            " accepts" => return alone(Action::Accept(client)),
            " is dialed" => return alone(Action::Dialed(client, false)),
            " is dialed with TLS" => return alone(Action::Dialed(client, true)),
            " is not dialed" => return alone(Action::NotDialed(client)),
            " starts TLS" => return alone(Action::StartTls(client)),
            " connects" => return alone(Action::Connect(client)),
            " disconnects" => return alone(Action::Disconnect(client)),
            " is turned away" => {
                self.in_process_only = true;
                return alone(Action::TurnedAway(client));
            }
            " logs in" => return alone(Action::LogIn(client)),
            " opens a connection with TLS" => return alone(Action::OpenTls(client)),
            " opens a connection" => return alone(Action::Open(client)),
            " is disconnected" => return alone(Action::Disconnected(client)),
            " receives white space" => return alone(Action::ReceiveBlanks(client)),
            " receives nothing" => return alone(Action::ReceiveNothing(client)),
            "'s connection drops" => return alone(Action::Drop(client)),
            " sends" => {
                let mut stanzas = xml_text::fragments(&joined(block))?;
                return match (stanzas.pop(), stanzas.is_empty()) {
                    (Some(stanza), true) => Ok(Action::Send(client, stanza)),
                    _ => Err("`sends:` takes one stanza".to_owned()),
                };
            }
            " sends raw" => return takes_block(Action::SendRaw(client, dedented(block))),
            " receives" => {
                let stanzas = xml_text::fragments(&joined(block))?;
                return match stanzas.len() {
                    1 => Ok(Action::Receive(client, stanzas, false)),
                    _ => Err("`receives:` takes one stanza".to_owned()),
                };
            }
            " may receive" => {
                let mut stanzas = xml_text::fragments(&joined(block))?;
                return match (stanzas.pop(), stanzas.is_empty()) {
                    (Some(stanza), true) => Ok(Action::MayReceive(client, stanza)),
                    _ => Err("`may receive:` takes one stanza".to_owned()),
                };
            }
            " receives in any order" => {
                let stanzas = xml_text::fragments(&joined(block))?;
                return match stanzas.len() {
                    0 | 1 => Err("`receives in any order:` takes several stanzas".to_owned()),
                    _ => Ok(Action::Receive(client, stanzas, true)),
                };
            }
            _ => {}
        }
        match rest.split_once(": ") {
            Some((" fails to connect", condition)) => alone(Action::FailToConnect(client, condition.trim().to_owned())),
            Some((" cannot be dialed", why)) => alone(Action::DialFails(client, why.trim().to_owned())),
            Some((" receives stream error", condition)) => {
                alone(Action::ReceiveStreamError(client, condition.trim().to_owned()))
            }
            _ => Err(format!("`{}` cannot do `{}`", self.clients[client].name, rest.trim())),
        }
    }

    /// The accounts that must exist: bare JID and password.
    pub fn accounts(&self) -> Vec<(String, String)> {
        let mut accounts: Vec<(String, String)> = Vec::new();
        for role in self.clients.iter().filter(|c| c.account) {
            if accounts.iter().all(|(jid, _)| *jid != role.jid) {
                accounts.push((role.jid.clone(), role.password.clone()));
            }
        }
        accounts
    }

    /// The first host.
    pub fn host(&self) -> &str {
        let client = self.clients.iter().find(|c| c.server.is_none());
        client.and_then(|c| c.jid.split('@').next_back()).unwrap_or("localhost")
    }

    /// The client with the longest name that the line starts with, and what follows.
    pub fn who<'a>(&self, line: &'a str) -> Option<(usize, &'a str)> {
        let found = self.clients.iter().enumerate().filter_map(|(i, c)| {
            let rest = line.strip_prefix(c.name.as_str())?;
            (rest.starts_with(' ') || rest.starts_with("'s ")).then_some((i, rest))
        });
        found.min_by_key(|(_, rest)| rest.len())
    }
}

fn duration_ms(text: &str) -> Result<u64, String> {
    let (number, unit) = text.split_once(' ').ok_or("expected `time passes 5 minutes`")?;
    let number: u64 = number.parse().map_err(|_| format!("`{number}` is no number"))?;
    let unit = match unit.trim_end_matches('s') {
        "m" => 1,
        "second" => 1000,
        "minute" => 60_000,
        "hour" => 3_600_000,
        "day" => 86_400_000,
        _ => return Err(format!("`{unit}` is no unit of time")),
    };
    Ok(number * unit)
}

fn joined(block: &[(usize, &str)]) -> String {
    block.iter().map(|(_, line)| *line).collect::<Vec<_>>().join("\n")
}

/// The block without the indentation of its first line.
fn dedented(block: &[(usize, &str)]) -> String {
    let first = block.first().map_or("", |b| b.1);
    let indent = &first[..first.len() - first.trim_start().len()];
    let lines: Vec<&str> =
        block.iter().map(|(_, line)| line.strip_prefix(indent).unwrap_or(line.trim_start())).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROMEO: &str = "# A title\n# requires: carbons offline\n\n[Client] Romeo\n\tjid: romeo@localhost\n\t\
                         password: p\n\n[Client] Romeo's phone\n\tjid: romeo@localhost/phone\n\tpassword: p\n\n-----\n";

    fn play(lines: &str) -> Result<Play, String> {
        parse("t.scs", &format!("{ROMEO}{lines}"))
    }

    #[test]
    fn clients_may_have_apostrophes_and_spaces() {
        let play =
            play("Romeo's phone connects\n\nRomeo's phone's connection drops\nRomeo's connection drops\n").unwrap();
        assert_eq!(play.title, "A title");
        assert_eq!(play.requires, ["carbons", "offline"]);
        assert_eq!(play.clients[1].resource.as_deref(), Some("phone"));
        assert!(matches!(play.lines[0], Line { number: 13, action: Action::Connect(1) }));
        assert!(matches!(play.lines[1].action, Action::Drop(1)));
        assert!(matches!(play.lines[2].action, Action::Drop(0)));
        assert!(!play.in_process_only && !play.ours_only);
    }

    #[test]
    fn blocks_are_xml_or_raw() {
        let text = "Romeo sends:\n\t<presence/>\n\nRomeo receives in any order:\n\t<a/>\n\n\t<b/>\n\n\
                    Romeo sends raw:\n\t<x\n\t  <y\n";
        let play = play(text).unwrap();
        assert!(matches!(&play.lines[0].action, Action::Send(0, e) if e.root().is("jabber:client", "presence")));
        assert!(matches!(&play.lines[1].action, Action::Receive(0, e, true) if e.len() == 2));
        assert!(matches!(&play.lines[2].action, Action::SendRaw(0, t) if t == "<x\n  <y"));
    }

    #[test]
    fn what_needs_a_world_of_ours_is_marked() {
        assert!(play("time passes 5 minutes\n").unwrap().in_process_only);
        assert!(play("the server restarts\n").unwrap().ours_only);
        assert!(matches!(play("time passes 2 hours\n").unwrap().lines[0].action, Action::TimePasses(7_200_000)));
        assert!(matches!(play("time passes 1 ms\n").unwrap().lines[0].action, Action::TimePasses(1)));
    }

    #[test]
    fn conditions_follow_a_colon() {
        let play = play("Romeo fails to connect: not-authorized\nRomeo receives stream error: conflict\n").unwrap();
        assert!(matches!(&play.lines[0].action, Action::FailToConnect(0, c) if c == "not-authorized"));
        assert!(matches!(&play.lines[1].action, Action::ReceiveStreamError(0, c) if c == "conflict"));
    }

    #[test]
    fn errors_name_file_and_line() {
        for (text, says) in [
            ("Juliet connects\n", "t.scs:13: nobody in this play does `Juliet connects`"),
            ("Romeo dances\n", "t.scs:13: `Romeo` cannot do `dances`"),
            ("Romeo sends:\n\t<a>\n", "t.scs:13: "),
            ("Romeo sends:\n", "t.scs:13: `sends:` takes one stanza"),
            ("Romeo connects\n\t<a/>\n", "t.scs:13: nothing indented can follow"),
            ("time passes 5 weeks\n", "t.scs:13: `weeks` is no unit of time"),
            ("", "t.scs:12: nothing happens"),
        ] {
            let error = play(text).unwrap_err();
            assert!(error.starts_with(says), "{error}");
        }
        assert!(parse("u.scs", "[Client] A\n\tjid: x\n").unwrap_err().starts_with("u.scs:1: a client needs"));
        assert!(
            parse("u.scs", "[Client] A\n\tjid: a@b\n\tpasword: x\n")
                .unwrap_err()
                .starts_with("u.scs:3: a client has no")
        );
    }
}

//! Plays a scenario: reads its lines and makes its clients do what they say, on any [`Stage`].

pub mod client;
pub mod grammar;
pub mod in_process;
pub mod matching;
pub mod operator;
pub mod own_server;
pub mod scram;
pub mod server;
pub mod subscriptions;
pub mod tcp;
pub mod xml_text;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use client::Client;
use couplet::core::io::DialFailure;
use couplet::stream::TlsFacts;
use couplet::xml::Element;
use grammar::{Action, Play};
use matching::Captures;
use xml_text::{NS_STREAMS, Said};

/// What a client finds when it reads.
#[derive(Debug)]
pub enum Heard {
    /// Bytes of the server, decrypted.
    Bytes(Vec<u8>),
    /// The server has closed the connection.
    Closed,
    /// Nothing, and nothing will come by itself.
    Silence,
}

/// Something that happens to the world, not to one client.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    /// Milliseconds.
    TimePasses(u64),
    DiskFails,
    DiskIsGone,
    DiskWorks,
    ServerRestarts,
    ServerIsKilled,
}

/// What a stage answers when the server takes no more connections.
pub const TURNED_AWAY: &str = "the server accepts no more";

/// Where a play is performed: a server and the way to it.
pub trait Stage {
    /// Opens a connection with TLS and names it.
    fn open(&mut self) -> Result<usize, String>;
    /// The next connection comes from this address.
    fn come_from(&mut self, address: IpAddr) -> Result<(), String> {
        Err(format!("nobody comes from {address} here"))
    }
    /// Sends bytes on it.
    fn send(&mut self, connection: usize, bytes: &[u8]) -> Result<(), String>;
    /// Reads what there is, or waits for it where a real server may take its time.
    fn read(&mut self, connection: usize) -> Result<Heard, String>;
    /// Opens a connection as another server or as a component, in plain.
    fn open_server(&mut self, role: couplet::core::io::Role) -> Result<usize, String> {
        let _ = role;
        Err("no other servers here".to_owned())
    }
    /// Takes a connection of ours that is under way to another server's domain; with TLS when there are facts.
    fn take_dial(&mut self, domain: &str, tls: Option<TlsFacts>) -> Result<usize, String> {
        let _ = (domain, tls);
        Err("no other servers here".to_owned())
    }
    /// Lets such a connection fail.
    fn fail_dial(&mut self, domain: &str, why: DialFailure) -> Result<(), String> {
        let _ = (domain, why);
        Err("no other servers here".to_owned())
    }
    /// Whether there is one.
    fn is_dialed(&self, domain: &str) -> bool {
        let _ = domain;
        false
    }
    /// The TLS handshake with another server is done.
    fn secure(&mut self, connection: usize, facts: TlsFacts) -> Result<(), String> {
        let _ = (connection, facts);
        Err("no other servers here".to_owned())
    }
    /// Ends it without a word.
    fn hang_up(&mut self, connection: usize) -> Result<(), String>;
    /// The binding of RFC 9266 of this connection.
    fn exporter(&mut self, connection: usize) -> Option<[u8; 32]>;
    /// Runs a command of the operator, its words without the program, and returns what it prints.
    fn operate(&mut self, words: &[&str]) -> Result<String, String>;
    /// Changes a setting, as a reload does.
    fn reconfigure(&mut self, _setting: &str) -> Result<(), String> {
        Err("this stage cannot change settings".to_owned())
    }
    /// Lets something happen.
    fn fate(&mut self, fate: Fate) -> Result<(), String>;
    /// True when [`Heard::Silence`] means that the server has nothing more to do; false when it only means that nothing
    /// came in time.
    fn knows_silence(&self) -> bool;
    /// Everybody has gone: checks what can be checked.
    fn end(&mut self) -> Result<(), String>;
}

/// Performs a play.
///
/// # Errors
/// `file:line: what went wrong`, with the last things that were said.
pub fn perform(play: &Play, stage: &mut dyn Stage) -> Result<(), String> {
    let mut troupe = Troupe {
        clients: play.clients.iter().map(Client::new).collect(),
        stage,
        captures: BTreeMap::new(),
        log: VecDeque::new(),
        barriers: 0,
        unheard: None,
        token: None,
    };
    for line in &play.lines {
        troupe.act(play, &line.action).map_err(|e| {
            let log: Vec<String> = troupe.log.iter().map(|l| format!("    {l}\n")).collect();
            format!("{}:{}: {e}\n  what was said last:\n{}", play.file, line.number, log.concat())
        })?;
    }
    for client in &mut troupe.clients {
        client.hang_up(troupe.stage)?;
    }
    troupe.stage.end().map_err(|e| format!("{}: {e}", play.file))
}

/// Lines of the log that a failure shows.
const LOG_LINES: usize = 12;

struct Troupe<'a> {
    clients: Vec<Client>,
    stage: &'a mut dyn Stage,
    captures: Captures,
    log: VecDeque<String>,
    barriers: u32,
    /// Who spoke last, where nobody has heard anything since and no answer need come.
    unheard: Option<usize>,
    /// Of the operator's last invitation.
    token: Option<String>,
}

impl Troupe<'_> {
    fn act(&mut self, play: &Play, action: &Action) -> Result<(), String> {
        self.take_turns(action)?;
        match action {
            Action::Accept(who) => server::accept(&mut self.clients[*who], &play.clients[*who], self.stage),
            Action::Dialed(who, tls) => self.clients[*who].dialed(&play.clients[*who], *tls, self.stage),
            Action::StartTls(who) => self.clients[*who].secure(&play.clients[*who], self.stage),
            Action::DialFails(who, why) => self.stage.fail_dial(&play.clients[*who].jid, server::failure(why)?),
            Action::NotDialed(who) => match self.stage.is_dialed(&play.clients[*who].jid) {
                true => Err("a connection is under way".to_owned()),
                false => Ok(()),
            },
            Action::Connect(who) => match self.log_in(play, *who)? {
                Ok(()) => Ok(()),
                Err(condition) => Err(format!("the server refuses with {condition}")),
            },
            Action::FailToConnect(who, expected) => match self.log_in(play, *who)? {
                Ok(()) => Err("the login succeeds".to_owned()),
                Err(condition) if condition == *expected => Ok(()),
                Err(condition) => Err(format!("the server refuses with {condition}, not {expected}")),
            },
            Action::LogIn(who) => match self.clients[*who].prove_identity(&play.clients[*who], self.stage)? {
                Ok(()) => Ok(()),
                Err(condition) => Err(format!("the server refuses with {condition}")),
            },
            Action::Open(who) => self.clients[*who].open_as(&play.clients[*who], self.stage),
            Action::TurnedAway(who) => match self.clients[*who].open_as(&play.clients[*who], self.stage) {
                Err(why) if why == TURNED_AWAY => Ok(()),
                other => Err(format!("is not turned away: {other:?}")),
            },
            Action::OpenTls(who) => {
                self.clients[*who].open_as(&play.clients[*who], self.stage)?;
                self.clients[*who].secure(&play.clients[*who], self.stage)
            }
            Action::Disconnect(who) => self.clients[*who].disconnect(self.stage),
            Action::Drop(who) => self.clients[*who].hang_up(self.stage),
            Action::Send(who, stanza) => {
                let stanza = self.filled_in(play, stanza)?;
                let mut bytes = Vec::new();
                stanza.root().write("jabber:client", &mut bytes);
                self.say(*who, &bytes)
            }
            Action::SendRaw(who, text) => {
                let mut text = self.substituted(play, text)?;
                for (name, value) in &self.captures {
                    text = text.replace(&format!("{{scansion:capture:{name}}}"), value);
                }
                // With whatever prefix; or we are to open one, on a connection of ours.
                let opens = [":stream to=", ":stream xmlns", "<success"].iter().any(|start| text.contains(start));
                if opens {
                    self.clients[*who].splitter.new_stream();
                }
                self.say(*who, text.as_bytes())
            }
            Action::Receive(who, expected, _) => {
                let mut expected: Vec<Element> =
                    expected.iter().map(|e| self.filled_in_but_captures(play, e)).collect::<Result<_, _>>()?;
                while !expected.is_empty() {
                    self.receive_one_of(*who, &mut expected)?;
                }
                Ok(())
            }
            Action::MayReceive(who, stanza) => {
                let stanza = self.filled_in_but_captures(play, stanza)?;
                self.may_receive(*who, &stanza)
            }
            Action::ReceiveNothing(who) => self.receive_nothing(*who),
            Action::ReceiveBlanks(who) => {
                self.receive_nothing(*who)?;
                match self.clients[*who].splitter.take_blanks() {
                    true => Ok(()),
                    false => Err("no white space comes".to_owned()),
                }
            }
            Action::ReceiveStreamError(who, condition) => self.receive_stream_error(*who, condition),
            Action::Disconnected(who) => match self.hear(*who)? {
                None if self.clients[*who].closed => Ok(()),
                Some(Said::End) => Ok(()),
                None => Err("the stream is still open".to_owned()),
                Some(Said::Element(e) | Said::Header(e)) => Err(format!("unexpected:\n{}", xml_text::pretty(e.root()))),
            },
            Action::OperatorRuns(command, expected) => {
                let command = self.substituted(play, command)?;
                let printed = self.stage.operate(&command.split_whitespace().collect::<Vec<_>>())?;
                self.note(format!("the operator reads {printed}"));
                self.token = operator::token(&printed).or(self.token.take());
                match expected.iter().find(|line| !printed.contains(line.as_str())) {
                    Some(line) => Err(format!("the answer lacks `{line}`:\n{printed}")),
                    None => Ok(()),
                }
            }
            Action::OperatorSets(setting) => self.stage.reconfigure(setting),
            Action::TimePasses(ms) => self.stage.fate(Fate::TimePasses(*ms)),
            Action::DiskFails => self.stage.fate(Fate::DiskFails),
            Action::DiskIsGone => self.stage.fate(Fate::DiskIsGone),
            Action::DiskWorks => self.stage.fate(Fate::DiskWorks),
            Action::ServerRestarts => self.stage.fate(Fate::ServerRestarts),
            Action::ServerIsKilled => self.stage.fate(Fate::ServerIsKilled),
        }
    }

    fn log_in(&mut self, play: &Play, who: usize) -> Result<Result<(), String>, String> {
        let role = &play.clients[who];
        self.note(format!("{} logs in", role.name));
        if role.server.is_some() {
            return server::connect(&mut self.clients[who], role, play.host(), self.stage);
        }
        self.clients[who].log_in(role, self.stage)
    }

    fn say(&mut self, who: usize, bytes: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(bytes).chars().take(1000).collect::<String>();
        self.note(format!("{} > {text}", self.clients[who].name));
        self.clients[who].say(self.stage, bytes)
    }

    fn hear(&mut self, who: usize) -> Result<Option<Said>, String> {
        let said = self.clients[who].hear(self.stage)?;
        let text = match &said {
            Some(Said::Header(e)) => e.root().to_xml(),
            Some(Said::Element(e)) => {
                let mut bytes = Vec::new();
                e.root().write("jabber:client", &mut bytes);
                String::from_utf8_lossy(&bytes).into_owned()
            }
            Some(Said::End) => "(end of the stream)".to_owned(),
            None if self.clients[who].closed => "(end of the connection)".to_owned(),
            None => "(nothing)".to_owned(),
        };
        self.note(format!("{} < {text}", self.clients[who].name));
        Ok(said)
    }

    fn note(&mut self, line: String) {
        if self.log.len() == LOG_LINES {
            self.log.pop_front();
        }
        self.log.push_back(line);
    }

    fn receive_one_of(&mut self, who: usize, expected: &mut Vec<Element>) -> Result<(), String> {
        let wants_header = expected.iter().any(|e| e.root().is(NS_STREAMS, "stream"));
        let received = loop {
            match self.hear(who)? {
                Some(Said::Header(_)) if !wants_header => {}
                Some(Said::Header(e) | Said::Element(e)) => break e,
                Some(Said::End) => return Err("the stream ends instead".to_owned()),
                None => {
                    let first = expected.first().map(|e| xml_text::pretty(e.root())).unwrap_or_default();
                    return Err(format!("nothing comes; expected:\n{first}"));
                }
            }
        };
        let mut reasons = Vec::new();
        for (i, wanted) in expected.iter().enumerate() {
            match matching::check(wanted.root(), received.root(), &mut self.captures) {
                Ok(()) => {
                    expected.remove(i);
                    return Ok(());
                }
                Err(why) => reasons.push(why),
            }
        }
        Err(reasons.join("\n  nor\n  "))
    }

    fn receive_nothing(&mut self, who: usize) -> Result<(), String> {
        self.settle()?;
        match self.clients[who].peek(self.stage)? {
            Some(Said::Element(e) | Said::Header(e)) => {
                Err(format!("something comes:\n{}", xml_text::pretty(e.root())))
            }
            Some(Said::End) => Err("the stream ends".to_owned()),
            None => Ok(()),
        }
    }

    fn may_receive(&mut self, who: usize, expected: &Element) -> Result<(), String> {
        self.settle()?;
        if let Some(Said::Element(e)) = self.clients[who].peek(self.stage)?
            && matching::check(expected.root(), e.root(), &mut self.captures).is_ok()
        {
            self.hear(who)?;
        }
        Ok(())
    }

    /// Who speaks behind somebody else is heard behind him, too: a server of its own process reads connections in any
    /// order.
    fn take_turns(&mut self, action: &Action) -> Result<(), String> {
        let speaker = match action {
            Action::Send(who, _) | Action::SendRaw(who, _) => Some(*who),
            Action::Connect(who) | Action::Drop(who) | Action::Disconnect(who) => Some(*who),
            Action::OperatorRuns(..) => None,
            _ => {
                self.unheard = None;
                return Ok(());
            }
        };
        if let Some(before) = self.unheard.take_if(|before| speaker != Some(*before))
            && !self.stage.knows_silence()
        {
            self.barriers += 1;
            self.clients[before].wait_for_answer(self.stage, self.barriers, true)?;
        }
        if let Action::Send(_, stanza) = action
            && matches!(stanza.root().name(), "message" | "presence")
        {
            self.unheard = speaker;
        }
        Ok(())
    }

    /// Waits until the server is done with all that was sent, where it does not know by itself.
    fn settle(&mut self) -> Result<(), String> {
        if self.stage.knows_silence() {
            return Ok(());
        }
        // The first answers show that each client's own stanzas have been taken and what they changed is stored,
        // because the question writes; the second ones come behind all that this has caused for others.
        for writes in [true, false] {
            for client in &mut self.clients {
                self.barriers += 1;
                client.wait_for_answer(self.stage, self.barriers, writes)?;
            }
        }
        Ok(())
    }

    fn receive_stream_error(&mut self, who: usize, condition: &str) -> Result<(), String> {
        const NS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
        let error = loop {
            match self.hear(who)? {
                Some(Said::Header(_)) => {}
                Some(Said::Element(e)) => break e,
                Some(Said::End) => return Err("the stream ends without an error".to_owned()),
                None => return Err("no stream error comes".to_owned()),
            }
        };
        if !error.root().is(NS_STREAMS, "error") || !error.root().has_child(NS, condition) {
            return Err(format!(
                "expected the stream error {condition}, received:\n{}",
                xml_text::pretty(error.root())
            ));
        }
        match self.hear(who)? {
            Some(Said::End) => {}
            None if self.clients[who].closed => {}
            _ => return Err("a stream error, but not the end of the stream".to_owned()),
        }
        self.clients[who].hang_up(self.stage)
    }

    /// What is sent: with names and captured values put in.
    fn filled_in(&self, play: &Play, stanza: &Element) -> Result<Element, String> {
        self.replaced(play, stanza, |text| match text.strip_prefix("{scansion:capture:") {
            Some(rest) => {
                let name = rest.trim_end_matches('}');
                self.captures.get(name).cloned().ok_or_else(|| format!("nothing was captured as {name}"))
            }
            None => {
                match text.strip_prefix("{scansion:HT:").and_then(|rest| rest.trim_end_matches('}').split_once(':')) {
                    Some((user, name)) => {
                        let token = self.captures.get(name).ok_or_else(|| format!("nothing was captured as {name}"))?;
                        Ok(scram::token_message(user, token))
                    }
                    None => Ok(text.to_owned()),
                }
            }
        })
    }

    /// What is expected: with names put in; captures are for the comparison.
    fn filled_in_but_captures(&self, play: &Play, stanza: &Element) -> Result<Element, String> {
        self.replaced(play, stanza, |text| Ok(text.to_owned()))
    }

    fn replaced(
        &self,
        play: &Play,
        stanza: &Element,
        then: impl Fn(&str) -> Result<String, String>,
    ) -> Result<Element, String> {
        let mut failed = None;
        let element = xml_text::changed(stanza.root(), &mut |text| {
            self.substituted(play, text).and_then(|text| then(&text)).unwrap_or_else(|e| {
                failed = Some(e);
                String::new()
            })
        });
        failed.map_or(Ok(element), Err)
    }

    /// Replaces each `${...}`.
    fn substituted(&self, play: &Play, text: &str) -> Result<String, String> {
        let (mut out, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once("${") {
            let (what, behind) = after.split_once('}').ok_or("`${` without `}`")?;
            out.push_str(before);
            out.push_str(&self.meaning(play, what)?);
            rest = behind;
        }
        out.push_str(rest);
        Ok(out)
    }

    fn meaning(&self, play: &Play, what: &str) -> Result<String, String> {
        if let Some((number, piece)) = what.split_once(" times ")
            && let Ok(number) = number.parse::<usize>()
        {
            return Ok(piece.repeat(number));
        }
        if what == "the token" {
            return self.token.clone().ok_or_else(|| "nobody has been invited".to_owned());
        }
        let unknown = || format!("nobody knows what `${{{what}}}` is");
        let (who, property) = play.who(what).ok_or_else(unknown)?;
        let (role, client) = (&play.clients[who], &self.clients[who]);
        let resource = client.resource.as_ref().or(role.resource.as_ref());
        match (property, resource) {
            ("'s JID", _) => Ok(role.jid.clone()),
            ("'s full JID", Some(resource)) => Ok(format!("{}/{resource}", role.jid)),
            ("'s resource", Some(resource)) => Ok(resource.clone()),
            ("'s full JID" | "'s resource", None) => Err(format!("{} has no resource yet", role.name)),
            _ => Err(unknown()),
        }
    }
}

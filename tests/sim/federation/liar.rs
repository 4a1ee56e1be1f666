//! A peer that lies: it proves a domain of its own, or nothing, and speaks for others.

use super::client::LIE;
use super::model::domain;
use super::plan::LIAR;
use super::world::World;
use crate::model::{Check, Invariant, broken};
use couplet::core::io::{ConnId, Input, Role, Transport};
use couplet::xml::ns;
use std::net::{IpAddr, Ipv4Addr};

/// A liar at one end of a wire.
pub struct Liar {
    /// The server at the other end.
    victim: usize,
    /// It was called; otherwise it has connected itself.
    called: bool,
    /// Who it says to be.
    claims: String,
    /// What it has heard and not taken in.
    heard: String,
    /// Both have begun to speak.
    begun: bool,
    /// It has tried to prove who it says to be.
    tried: bool,
    /// The victim has believed a proof, or has proved itself.
    proved: bool,
    /// Stanzas that it has been sent.
    handled: u32,
}

impl Liar {
    fn new(victim: usize, called: bool, claims: &str) -> Self {
        let claims = claims.to_string();
        let (heard, begun, tried, proved, handled) = (String::new(), false, false, false, 0);
        Self { victim, called, claims, heard, begun, tried, proved, handled }
    }

    /// True when it could say something.
    pub fn may_talk(&self) -> bool {
        self.begun
    }
}

fn attribute<'a>(tag: &'a str, name: &str) -> &'a str {
    let value = tag.split_once(&format!(" {name}='")).map(|(_, rest)| rest);
    value.and_then(|rest| rest.split_once('\'')).map_or("", |(value, _)| value)
}

impl World {
    /// A liar connects to a server.
    pub fn liar_connects(&mut self) -> Check {
        let victim = self.rng.below(self.servers.len());
        let mut claims = self.plan.domains.clone();
        claims.push(LIAR.to_string());
        claims.push(LIAR.to_string());
        let claims = self.rng.pick(&claims);
        let ip = IpAddr::V4(Ipv4Addr::new(10, 2, 0, 1));
        let Some(conn) = self.accept_liar(victim, ip) else { return Ok(()) };
        self.count("liars that connected");
        let wire = self.lay_to_liar(victim, conn, Liar::new(victim, false, &claims));
        self.note(|| format!("a liar connects as {conn:?} and says to be {claims}"));
        let facts = self.liar_facts(&claims, claims == LIAR);
        self.input(victim, Input::TlsReady { conn, facts })?;
        let header = self.liar_header(wire);
        self.liar_says(wire, &header);
        Ok(())
    }

    fn accept_liar(&mut self, victim: usize, ip: IpAddr) -> Option<ConnId> {
        if self.is_down(victim) {
            return None;
        }
        self.servers[victim].engine.accept(self.now, Role::Server, Transport::DirectTls, ip)
    }

    /// A server calls somebody and reaches a liar.
    pub fn liar_is_called(&mut self, server: usize, conn: ConnId, domain: &str) -> Check {
        self.count("calls that reached a liar");
        self.note(|| format!("{conn:?} for {domain} reaches a liar"));
        self.lay_to_liar(server, conn, Liar::new(server, true, domain));
        let facts = match self.rng.percent(50) || domain == LIAR {
            true => self.liar_facts(LIAR, true),
            false => self.liar_facts(domain, false),
        };
        self.input(server, Input::Dialed { conn, tls: Some(facts) })
    }

    fn liar_header(&self, wire: u64) -> String {
        let Some(liar) = self.liars.get(&wire) else { return String::new() };
        let (from, to) = (&liar.claims, &self.plan.domains[liar.victim]);
        let id = if liar.called { " id='liar'" } else { "" };
        format!(
            "<?xml version='1.0'?><stream:stream xmlns='{}' xmlns:stream='{}' xmlns:db='{}' from='{from}' \
             to='{to}'{id} version='1.0'>",
            ns::SERVER,
            ns::STREAM,
            ns::DIALBACK
        )
    }

    fn liar_says(&mut self, wire: u64, text: &str) {
        self.note(|| format!("the liar on wire {wire}: {text}"));
        if let Some(wire) = self.wires.get_mut(&wire) {
            wire.ends[1].out.extend_from_slice(text.as_bytes());
        }
    }

    /// Bytes have reached it.
    pub fn liar_reads(&mut self, wire: u64, data: &[u8]) -> Check {
        let Some(liar) = self.liars.get_mut(&wire) else { return Ok(()) };
        liar.heard.push_str(&String::from_utf8_lossy(data));
        while let Some(liar) = self.liars.get_mut(&wire)
            && let Some(end) = liar.heard.find('>')
        {
            let rest = liar.heard.split_off(end + 1);
            let tag = std::mem::replace(&mut liar.heard, rest);
            self.liar_hears(wire, tag[tag.find('<').unwrap_or(0)..].trim_end_matches('>'))?;
        }
        Ok(())
    }

    /// A tag has been heard.
    fn liar_hears(&mut self, wire: u64, tag: &str) -> Check {
        let Some(liar) = self.liars.get_mut(&wire) else { return Ok(()) };
        let (called, proved, tried, claims) = (liar.called, liar.proved, liar.tried, liar.claims.clone());
        let victim = self.plan.domains[liar.victim].clone();
        let name = tag.trim_start_matches('<').split([' ', '/']).next().unwrap_or_default();
        match name {
            "stream:stream" => {
                liar.begun = true;
                if called {
                    let header = self.liar_header(wire);
                    let features = match proved {
                        true => format!("<sm xmlns='{}'/>", ns::SM),
                        false => format!(
                            "<mechanisms xmlns='{}'><mechanism>EXTERNAL</mechanism></mechanisms><bidi xmlns='{}'/>",
                            ns::SASL,
                            ns::BIDI_FEATURE
                        ),
                    };
                    self.liar_says(wire, &format!("{header}<stream:features>{features}</stream:features>"));
                }
            }
            "auth" if called => {
                liar.proved = true;
                self.liar_says(wire, &format!("<success xmlns='{}'/>", ns::SASL));
            }
            "enable" if called => self.liar_says(wire, &format!("<enabled xmlns='{}'/>", ns::SM)),
            "db:result" if called => {
                liar.proved = true;
                self.liar_says(wire, &format!("<db:result from='{claims}' to='{victim}' type='valid'/>"));
            }
            "db:verify" if called => {
                let id = attribute(tag, "id").to_string();
                self.liar_says(wire, &format!("<db:verify from='{claims}' to='{victim}' id='{id}' type='valid'/>"));
            }
            "success" if !called => {
                liar.proved = true;
                let header = self.liar_header(wire);
                self.liar_says(wire, &header);
            }
            // The end of the features.
            "" if tag == "</stream:features" && !called && !tried => {
                liar.tried = true;
                let external = format!("<auth xmlns='{}' mechanism='EXTERNAL'>=</auth>", ns::SASL);
                let key = format!("<db:result from='{claims}' to='{victim}'>0123456789abcdef</db:result>");
                let bidi = format!("<bidi xmlns='{}'/>", ns::BIDI);
                let bidi = if self.rng.percent(50) { bidi } else { String::new() };
                let proof = if self.rng.percent(50) { external } else { key };
                self.liar_says(wire, &format!("{bidi}{proof}"));
            }
            "message" | "iq" | "presence" => {
                liar.handled += 1;
                let to = attribute(tag, "to");
                if called && domain(to) != LIAR {
                    return broken(Invariant::TrueSender, format!("a liar is told what is for {to}"));
                }
            }
            "r" => {
                let right = liar.handled;
                let h = if self.rng.percent(50) { right } else { right.wrapping_add(7) };
                self.liar_says(wire, &format!("<a xmlns='{}' h='{h}'/>", ns::SM));
            }
            _ => {}
        }
        Ok(())
    }

    /// It says something.
    pub fn liar_talks(&mut self, wire: u64) {
        let Some(liar) = self.liars.get(&wire) else { return };
        let (victim, begun) = (liar.victim, liar.begun);
        if !begun || !self.wires.contains_key(&wire) {
            return;
        }
        let domain = self.plan.domains[victim].clone();
        let to: Vec<String> = self.clients.iter().filter(|c| c.server == victim).map(|c| c.account.clone()).collect();
        let to = self.rng.pick(&to);
        // Of whom it speaks.
        let other = self.rng.below(self.clients.len());
        let (from, of) = (self.clients[other].name(), self.plan.domains[self.clients[other].server].clone());
        let lie = format!("<lie xmlns='{LIE}'/>");
        // Of a stream that a liar has opened to the same server, in somebody's name.
        let ids = self.stream_ids.iter().rev().filter(|id| id.0 == victim).take(3);
        let ids: Vec<(String, String)> = ids.map(|id| (id.1.clone(), id.2.clone())).collect();
        let (whose, id) = match ids.is_empty() {
            true => (of.clone(), "none".to_string()),
            false => self.rng.pick(&ids),
        };
        let text = match self.rng.below(12) {
            0..=2 => format!("<message from='{from}' to='{to}' type='chat' id='lie'>{lie}<body>no</body></message>"),
            3 => format!("<presence from='{from}' to='{to}' id='lie'>{lie}</presence>"),
            4 => format!(
                "<iq from='{to}' to='{to}/c' type='set' id='lie'><query xmlns='{}'>{lie}</query></iq>",
                ns::ROSTER
            ),
            5 => format!("<iq from='{from}' to='{to}/c' type='get' id='lie'>{lie}</iq>"),
            6 => format!("<a xmlns='{}' h='9999'/>", ns::SM),
            7 => format!("<r xmlns='{}'/>", ns::SM),
            8 => format!("<db:verify from='{whose}' to='{domain}' id='{id}' type='valid'/>"),
            9 => format!("<db:result from='{of}' to='{domain}' type='valid'/>"),
            10 => format!("<db:result from='{of}' to='{domain}'>0123456789abcdef</db:result>"),
            _ => format!("<message from='x@{LIAR}' to='{to}' type='chat' id='honest'><body>yes</body></message>"),
        };
        self.count("what liars said");
        self.liar_says(wire, &text);
    }

    /// A liar notes the ids of its own streams.
    pub fn overhear(&mut self, wire: u64, text: &[u8]) {
        let Some(liar) = self.liars.get(&wire).filter(|liar| !liar.called) else { return };
        let text = String::from_utf8_lossy(text);
        if let Some(at) = text.find("<stream:stream") {
            self.stream_ids.push((liar.victim, liar.claims.clone(), attribute(&text[at..], "id").to_string()));
        }
    }
}

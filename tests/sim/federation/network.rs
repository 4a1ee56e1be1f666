//! The network between servers: attempts to connect, bytes on their way, cuts.

use super::liar::Liar;
use super::model::Model;
use super::plan::{LIAR, Proof, certificate};
use super::wire::{Who, Wire};
use super::world::{Dial, World};
use crate::model::Check;
use couplet::core::io::{ConnId, DialFailure, Input, Role, Transport};
use couplet::stream::{PeerCert, TlsFacts};
use std::net::{IpAddr, Ipv4Addr};

impl World {
    pub fn facts(&self, peer: PeerCert) -> TlsFacts {
        TlsFacts { tls13: true, exporter: Some([8; 32]), peer: Some(peer), ..TlsFacts::default() }
    }

    pub fn answer_dial(&mut self, at: usize, resting: bool) -> Check {
        let Dial { server, conn, domain } = self.dials.remove(at);
        let fails = !resting && self.rng.percent(self.plan.dial_fails_percent);
        let kinds = [
            DialFailure::Timeout,
            DialFailure::Unreachable("the simulated network".to_string()),
            DialFailure::NotFound,
            DialFailure::Tls("the simulated network".to_string()),
        ];
        let why = self.rng.pick(&kinds[..if self.plan.strict { 2 } else { 4 }]);
        let to = self.plan.domains.iter().position(|d| *d == domain);
        let spoofed = !resting
            && !self.plan.strict
            && self.plan.proof == Proof::Certificates
            && self.rng.below(20) < self.plan.liar_weight as usize;
        let failure = match to {
            Some(to) if self.servers[to].down => Some(DialFailure::Unreachable("it is down".to_string())),
            _ if fails => Some(why),
            None if domain != LIAR => Some(DialFailure::NotFound),
            _ => None,
        };
        if let Some(why) = failure {
            self.note(|| format!("{conn:?} for {domain} fails: {why}"));
            self.count("attempts to connect that failed");
            return self.input(server, Input::DialFailed { conn, why });
        }
        self.count("connections between servers");
        let direct = self.rng.percent(60);
        let from = Who::Server(server, conn);
        let to = match to.filter(|_| !spoofed) {
            Some(to) => to,
            None => return self.liar_is_called(server, conn, &domain),
        };
        let transport = if direct { Transport::DirectTls } else { Transport::StartTls };
        let ip = IpAddr::V4(Ipv4Addr::new(10, 1, 0, server as u8));
        let other = self.servers[to].engine.accept(self.now, Role::Server, transport, ip);
        self.servers[to].open = true;
        let Some(other) = other else {
            return self.input(server, Input::DialFailed { conn, why: DialFailure::Timeout });
        };
        self.note(|| format!("{conn:?} reaches {domain} as {other:?}"));
        let wire = self.lay(from, Who::Server(to, other));
        self.servers[server].wires.insert(conn, (wire, 0));
        self.servers[to].wires.insert(other, (wire, 1));
        if direct {
            let facts = self.facts(self.plan.certificate(server));
            self.input(to, Input::TlsReady { conn: other, facts })?;
        }
        let tls = direct.then(|| self.facts(self.plan.certificate(to)));
        self.input(server, Input::Dialed { conn, tls })
    }

    pub fn lay(&mut self, from: Who, to: Who) -> u64 {
        self.wire_ids += 1;
        self.wires.insert(self.wire_ids, Wire::new(from, to));
        self.wire_ids
    }

    /// A liar connects to a server, or is called by one, with TLS and a certificate.
    pub fn lay_to_liar(&mut self, server: usize, conn: ConnId, liar: Liar) -> u64 {
        let wire = self.lay(Who::Server(server, conn), Who::Liar);
        self.servers[server].wires.insert(conn, (wire, 0));
        self.liars.insert(wire, liar);
        wire
    }

    pub fn liar_facts(&self, domain: &str, valid: bool) -> TlsFacts {
        self.facts(certificate(domain, valid))
    }

    pub fn take(&mut self, id: u64, side: usize) -> Check {
        let Some(wire) = self.wires.get_mut(&id) else { return Ok(()) };
        let end = &mut wire.ends[side];
        let n = if self.rng.percent(70) { end.out.len() } else { 1 + self.rng.below(end.out.len()) };
        let taken: Vec<u8> = end.out.drain(..n).collect();
        let waiting = end.out.len();
        if !wire.cut && wire.ends[Wire::other(side)].open {
            wire.ends[side].pipe.extend(taken);
        }
        match (wire.ends[side].who, wire.ends[side].open) {
            (Who::Server(server, conn), true) => self.input(server, Input::Wrote { conn, waiting_bytes: waiting }),
            _ => Ok(()),
        }
    }

    pub fn deliver(&mut self, id: u64, side: usize) -> Check {
        let Some(wire) = self.wires.get_mut(&id) else { return Ok(()) };
        let pipe = &mut wire.ends[Wire::other(side)].pipe;
        let n = if self.rng.percent(70) { pipe.len() } else { 1 + self.rng.below(pipe.len()) };
        let data: Vec<u8> = pipe.drain(..n).collect();
        match wire.ends[side].who {
            Who::Server(server, conn) => self.input(server, Input::Bytes { conn, data: &data }),
            Who::Liar => self.liar_reads(id, &data),
        }
    }

    pub fn secure(&mut self, id: u64, resting: bool) -> Check {
        let Some(wire) = self.wires.get_mut(&id) else { return Ok(()) };
        wire.ends.iter_mut().for_each(|end| end.wants_tls = false);
        let (Who::Server(a, a_conn), Who::Server(b, b_conn)) = (wire.ends[0].who, wire.ends[1].who) else {
            return Ok(());
        };
        if !resting && !self.plan.strict && self.rng.percent(self.plan.dial_fails_percent / 4) {
            self.count("handshakes that failed");
            self.gone(id, 1)?;
            self.servers[a].wires.remove(&a_conn);
            self.wires.remove(&id);
            let why = DialFailure::Tls("the simulated network".to_string());
            return self.input(a, Input::DialFailed { conn: a_conn, why });
        }
        let (to_a, to_b) = (self.facts(self.plan.certificate(b)), self.facts(self.plan.certificate(a)));
        self.input(b, Input::TlsReady { conn: b_conn, facts: to_b })?;
        self.input(a, Input::TlsReady { conn: a_conn, facts: to_a })
    }

    /// A server has closed its side.
    pub fn closed(&mut self, id: u64, side: usize) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        wire.ends[side].open = false;
        // Nobody reads what comes.
        wire.ends[Wire::other(side)].pipe.clear();
        if wire.ends[Wire::other(side)].who == Who::Liar {
            wire.ends[Wire::other(side)].open = false;
            self.liars.remove(&id);
        }
        self.ended(id);
    }

    /// One side hears that the other is gone.
    pub fn learn(&mut self, id: u64, side: usize) -> Check {
        self.note(|| format!("side {side} of wire {id} learns that it is over"));
        self.gone(id, side)
    }

    pub fn gone(&mut self, id: u64, side: usize) -> Check {
        let Some(wire) = self.wires.get_mut(&id) else { return Ok(()) };
        wire.ends[side].open = false;
        wire.ends[side].out.clear();
        wire.ends[side].pipe.clear();
        let who = wire.ends[side].who;
        self.ended(id);
        match who {
            Who::Server(server, conn) => {
                self.servers[server].wires.remove(&conn);
                self.input(server, Input::Closed { conn })
            }
            Who::Liar => {
                self.liars.remove(&id);
                Ok(())
            }
        }
    }

    /// A wire has lost one of its sides, or is cut.
    pub fn ended(&mut self, id: u64) {
        let Some(wire) = self.wires.get(&id) else { return };
        if let (Who::Server(a, _), Who::Server(b, _)) = (wire.ends[0].who, wire.ends[1].who) {
            self.model.cut.insert(Model::pair(a, b), self.step);
        }
        if wire.is_over() {
            self.wires.remove(&id);
        }
    }

    /// Nothing gets through any more; what is on its way is lost, or some of it still arrives.
    pub fn cut(&mut self) {
        let ids: Vec<u64> = self.wires.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let id = self.rng.pick(&ids);
        self.note(|| format!("wire {id} is cut"));
        self.count("connections between servers that were cut");
        for side in [0, 1] {
            let deaf = self.rng.percent(self.plan.silent_percent);
            let Some(wire) = self.wires.get_mut(&id) else { return };
            let keep = self.rng.below(wire.ends[side].pipe.len() + 1);
            wire.ends[side].pipe.truncate(keep);
            wire.ends[side].is_deaf |= deaf;
            wire.cut = true;
        }
        self.ended(id);
    }
}

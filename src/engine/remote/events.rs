//! What the stream machines of other servers ask, and what they hand on.

use super::{LOG, PeerId, Verify, s2s_cx};
use crate::core::flight::{Item, Receipt, Sender};
use crate::core::io::{ConnId, Output};
use crate::engine::{Engine, Holder, Pause, Timer};
use crate::fault::{Fault, armed};
use crate::jid::Jid;
use crate::pipeline;
use crate::stanza::{Condition, ReadError, Stanza};
use crate::stream::StreamError;
use crate::stream::management::{self, Inbound, Request};
use crate::stream::s2s::{Event, Pair, S2sCx, Verdict};
use crate::xml::{Element, ns};

impl Engine {
    pub(in crate::engine) fn link_bytes(&mut self, conn: ConnId, data: &[u8]) {
        match self.remotes.links.get_mut(conn.0) {
            Some(link) if !link.ends => link.stream.feed(data),
            _ => return,
        }
        self.tick_bytes += data.len();
        self.spend(conn, data.len());
        self.drive_link(conn);
    }

    /// Lets the machine work until it has nothing more. Its output goes to the queue before the event that came with
    /// it is acted upon, so that order is that of time.
    pub(in crate::engine) fn drive_link(&mut self, conn: ConnId) {
        if self.remotes.links.get(conn.0).is_some_and(|link| link.pace.has(Pause::Tick)) {
            self.pause(conn, Pause::Tick, false);
        }
        for turn in 1.. {
            let settings = self.core.settings.clone();
            let Some(link) = self.remotes.links.get_mut(conn.0).filter(|link| !link.ends) else { return };
            let event = link.stream.next(&mut s2s_cx!(self, settings));
            let output = link.stream.take_output();
            if !output.is_empty() {
                link.out.push(Item::Raw(output));
            }
            self.dirty.insert(conn);
            match event {
                None => return,
                Some(event) => self.link_event(conn, event),
            }
            if self.is_sated() || turn >= self.core.settings.limits.turn_stanzas_max {
                return self.put_off(conn);
            }
        }
    }

    fn link_event(&mut self, conn: ConnId, event: Event) {
        match event {
            Event::StartTls => {
                self.flush_link(conn);
                self.outputs.push_back(Output::StartTls { conn });
            }
            Event::Secured => self.link_is_secured(conn),
            Event::Ready { management: true } => {
                let mut out = Vec::new();
                management::write_enable(&mut out);
                if let Some(link) = self.remotes.links.get_mut(conn.0) {
                    link.out.push(Item::Raw(out));
                }
            }
            Event::Ready { management: false } => self.link_ready(conn),
            Event::Verify { pair, .. } if armed(Fault::DialbackBelieved) => {
                let settings = self.core.settings.clone();
                if let Some(link) = self.remotes.links.get_mut(conn.0) {
                    link.stream.verdict(&pair, Verdict::Valid, &mut s2s_cx!(self, settings));
                }
            }
            Event::Verify { pair, id, key } => self.verify(conn, &pair, id, key),
            Event::Verdict { pair, id, verdict } => self.verdict(&pair, &id, verdict),
            Event::Handshake { proof } => self.handshake(conn, &proof),
            Event::Proved { pair } => self.proved(conn, &pair),
            Event::Element(element) => self.link_element(conn, element),
            Event::Closed { error, refusal } => {
                if let Some(error) = error {
                    self.core.counters.stream_errors = self.core.counters.stream_errors.wrapping_add(1);
                    let link = self.remotes.links.get(conn.0);
                    let who = link.and_then(|link| link.stream.remote()).unwrap_or("somebody");
                    log::info!(target: LOG, "the stream of {who} ends with {}", error.condition());
                }
                self.begin_end_link(conn, refusal);
            }
        }
    }

    /// An outgoing link has TLS: keys can be verified, and it proves who we are when there is something to be sent.
    fn link_is_secured(&mut self, conn: ConnId) {
        let Some(id) = self.remotes.links.get(conn.0).and_then(|link| link.peer) else { return };
        self.send_verifies(id);
        self.connect(id);
        self.arm_peer(id);
    }

    /// An outgoing link takes stanzas.
    fn link_ready(&mut self, conn: ConnId) {
        let Some(link) = self.remotes.links.get(conn.0) else { return };
        let (peer, to) = (link.peer, link.stream.remote().unwrap_or_default());
        log::info!(target: LOG, "{} is connected to {to}", link.stream.local());
        if self.core.settings.rates.is_exempt(None, to) {
            self.exempt(conn);
        }
        self.arm_link(conn);
        let Some(id) = peer else { return };
        match self.remotes.peers.get(id.0).is_some_and(|peer| peer.via.is_none()) {
            true => self.fill(conn, id),
            // A stream of the other server's takes them already.
            false => self.close_link(conn),
        }
        self.arm_peer(id);
    }

    /// An incoming link has proved a domain.
    fn proved(&mut self, conn: ConnId, pair: &Pair) {
        let max = self.core.settings.limits.s2s_incoming_per_host_max as usize;
        if self.core.settings.rates.is_exempt(None, &pair.remote) {
            self.exempt(conn);
        }
        let Some(link) = self.remotes.links.get(conn.0) else { return };
        if link.stream.is_component() {
            return self.component_proved(conn, &pair.remote);
        }
        let how = if link.stream.is_authenticated() { "its certificate" } else { "dialback" };
        log::info!(target: LOG, "{} is connected to {}, by {how}", pair.remote, pair.local);
        let same = self.remotes.links.iter().filter(|(_, l)| !l.ends && !l.stream.is_outgoing());
        let mut same: Vec<_> =
            same.filter(|(_, l)| l.stream.pairs().contains(pair)).map(|(k, l)| (l.since_ms, ConnId(k))).collect();
        same.sort();
        if same.len() > max
            && let Some((_, oldest)) = same.into_iter().find(|(_, other)| *other != conn)
        {
            self.fail_link(oldest, StreamError::Conflict, Some("Replaced by a new stream."));
        }
        self.arm_link(conn);
        self.offer_link(conn);
    }

    /// What waits for the domains of a link can go this way now, if the stream takes it.
    fn offer_link(&mut self, conn: ConnId) {
        let Some(link) = self.remotes.links.get(conn.0) else { return };
        let pairs = link.stream.pairs().iter().filter(|pair| link.takes(pair));
        let peers: Vec<PeerId> = pairs.filter_map(|pair| self.remotes.by_pair.get(pair).copied()).collect();
        for id in peers {
            if self.remotes.peers.get(id.0).is_some_and(|peer| peer.via.is_none()) {
                self.connect(id);
            }
        }
    }

    /// A component says that it knows its secret. The line of those that do not is for programs, too.
    fn handshake(&mut self, conn: ConnId, proof: &str) {
        let settings = self.core.settings.clone();
        let Some(ip) = self.remotes.links.get(conn.0).and_then(|link| link.ip) else { return };
        if self.is_barred(ip) {
            return self.fail_link(conn, StreamError::PolicyViolation, Some("Too many wrong secrets: wait a while."));
        }
        let Some(link) = self.remotes.links.get_mut(conn.0) else { return };
        if !link.stream.handshake(proof, &mut s2s_cx!(self, settings)) {
            let domain = link.stream.remote().unwrap_or_default().to_owned();
            self.secret_guessed(ip, &domain);
            self.fail_link(conn, StreamError::NotAuthorized, Some("The secret is another one."));
        }
    }

    /// A component has proved its domain. It replaces an earlier connection of its, which it may have lost.
    fn component_proved(&mut self, conn: ConnId, domain: &str) {
        log::info!(target: LOG, "the component {domain} is connected");
        let is_same = |link: &super::Link| !link.ends && link.stream.is_component() && link.stream.proves(domain);
        let links = self.remotes.links.iter().filter(|(key, link)| ConnId(*key) != conn && is_same(link));
        let others: Vec<ConnId> = links.map(|(key, _)| ConnId(key)).collect();
        for other in others {
            self.fail_link(other, StreamError::Conflict, Some("Replaced by a new stream."));
        }
        if let Some(link) = self.remotes.links.get_mut(conn.0)
            && let Some(at) = link.deadline_ms.take()
        {
            self.timers.remove(&(at, Timer::Conn(conn)));
        }
        let waiting = self.remotes.by_pair.iter().filter(|(pair, _)| *pair.remote == *domain);
        let waiting: Vec<_> = waiting.map(|(_, id)| *id).collect();
        for id in waiting {
            self.connect(id);
        }
    }

    fn link_element(&mut self, conn: ConnId, element: Element) {
        if element.root().ns() == ns::SM {
            return self.link_manage(conn, &element);
        }
        let Some(link) = self.remotes.links.get_mut(conn.0) else { return };
        link.touched_ms = self.core.now.mono_ms;
        if !std::mem::replace(&mut link.heard, true) {
            self.offer_link(conn);
        }
        let Some(link) = self.remotes.links.get_mut(conn.0) else { return };
        let (lang, is_component) = (link.stream.lang().cloned(), link.stream.is_component());
        let (stanza, refused) = match Stanza::read(element) {
            Ok(stanza) => (stanza, None),
            Err(ReadError::Refused { stanza, condition }) => (*stanza, Some(condition)),
            Err(ReadError::NotAStanza) => return self.fail_link(conn, StreamError::UnsupportedStanzaType, None),
            Err(ReadError::InvalidFrom) => return self.fail_link(conn, StreamError::ImproperAddressing, None),
        };
        // RFC 6120 section 8.1: both addresses are there, `from` is of a domain that was proved, `to` is ours.
        let Some(from) = stanza.from.clone() else {
            return self.fail_link(conn, StreamError::ImproperAddressing, Some("A stanza without from."));
        };
        if !link.stream.proves(from.domain()) {
            return self.fail_link(conn, StreamError::InvalidFrom, Some("That domain was not proved."));
        }
        match &stanza.to {
            Some(to) if !is_component && !self.core.is_ours(to) && !self.core.is_component(to.domain()) => {
                return self.fail_link(conn, StreamError::HostUnknown, Some("That domain is not served here."));
            }
            None if refused != Some(Condition::JidMalformed) => {
                return self.fail_link(conn, StreamError::ImproperAddressing, Some("A stanza without to."));
            }
            _ => {}
        }
        let stanza = Stanza { lang: stanza.lang.clone().or(lang), ..stanza };
        let Some(link) = self.remotes.links.get_mut(conn.0) else { return };
        let number = link.inbound.as_mut().map(|inbound| inbound.count());
        let receipt = number.map(|number| Receipt { sender: Sender::Server(conn), number });
        let local: Box<str> = link.stream.local().into();
        let (original, durable) = (stanza.clone(), self.core.view.durable());
        let sound = self.step("a stanza of another server", |core, _| match refused {
            None => pipeline::from_server(core, stanza, receipt),
            Some(condition) => {
                // Who cannot be named has not been asked: the error is the server's.
                let to = stanza.to.clone().or_else(|| Jid::parse(&local).ok());
                core.refuse(&Stanza { to, ..stanza }, &condition.into());
            }
        });
        match sound {
            None => {
                if let Some(inbound) = self.link_inbound(conn) {
                    inbound.uncount();
                }
                self.fail_link(conn, StreamError::InternalServerError, None);
            }
            Some(ticket) if ticket > durable && (self.core.view.wrote() || self.answers(from.domain())) => {
                self.unproven.push_back((ticket, Sender::Server(conn), original.outline()));
                if let (Some(number), Some(inbound)) = (number, self.link_inbound(conn)) {
                    inbound.wait(number, ticket);
                }
            }
            Some(_) => {}
        }
        self.progress(Sender::Server(conn));
    }

    /// True when the last step has answered somebody at that domain.
    fn answers(&self, domain: &str) -> bool {
        self.answered.iter().any(|holder| match holder {
            Holder::Peer(id) => self.remotes.peers.get(id.0).is_some_and(|peer| *peer.pair.remote == *domain),
            Holder::Session(_) => false,
        })
    }

    /// An element of stream management (XEP-0198).
    fn link_manage(&mut self, conn: ConnId, element: &Element) {
        let root = element.root();
        let Some(link) = self.remotes.links.get_mut(conn.0) else { return };
        let (is_outgoing, is_managed) = (link.stream.is_outgoing(), link.inbound.is_some());
        let mut out = Vec::new();
        match management::read(root) {
            Some(Ok(Request::Enable { .. })) if !is_managed && !is_outgoing => {
                // A stream of servers is not resumed: what is not acknowledged is sent again on the next.
                management::write_enabled(None, &mut out);
                link.out.push(Item::Raw(out));
                link.out.push(Item::Enabled);
                link.inbound = Some(Box::default());
                self.offer_link(conn);
            }
            None if root.name() == "enabled" && is_outgoing && !is_managed => {
                link.out.push(Item::Enabled);
                link.inbound = Some(Box::<Inbound>::default());
                self.link_ready(conn);
            }
            None if root.name() == "failed" && is_outgoing && !is_managed => self.link_ready(conn),
            Some(Ok(Request::Ask)) if is_managed => {
                if let Some(inbound) = &mut link.inbound {
                    inbound.asked = true;
                }
            }
            Some(Ok(Request::Ack { h })) if is_managed => {
                link.asked_ms = None;
                match link.out.ack(h) {
                    Ok(arrived) => self.arrived(arrived),
                    Err(sent) => {
                        log::info!(target: LOG, "{conn:?} acknowledges {h} stanzas of {sent}");
                        link.stream.handled_too_high(h, sent);
                        let output = link.stream.take_output();
                        link.out.push(Item::Raw(output));
                        self.begin_end_link(conn, None);
                    }
                }
            }
            Some(request) => {
                let condition = request.err().unwrap_or(Condition::UnexpectedRequest);
                management::write_failed(condition, None, &mut out);
                link.out.push(Item::Raw(out));
            }
            None => self.fail_link(conn, StreamError::UnsupportedStanzaType, None),
        }
        self.dirty.insert(conn);
    }

    /// A key has come that is to be verified with the domain that it is said to be of (XEP-0220 section 2.2).
    fn verify(&mut self, conn: ConnId, pair: &Pair, id: String, key: String) {
        let now_ms = self.core.now.mono_ms;
        let Some(peer_id) = self.peer_of_pair(pair) else {
            return self.answer_claim(conn, pair, Verdict::Error(Condition::ResourceConstraint));
        };
        let Some(peer) = self.remotes.peers.get_mut(peer_id.0) else { return };
        if peer.retry_ms > now_ms {
            let condition = peer.condemned.map_or(Condition::RemoteServerTimeout, |refusal| refusal.condition);
            return self.answer_claim(conn, pair, Verdict::Error(condition));
        }
        if let Some(at) = peer.verifies.iter().position(|v| v.conn == conn && v.id == id) {
            peer.verifies.swap_remove(at);
        }
        peer.verifies.push(Verify { conn, id, key, sent: false });
        if let Some(link) = self.remotes.links.get_mut(conn.0) {
            link.claims = true;
        }
        self.charge_peer(peer_id);
        self.send_verifies(peer_id);
        self.connect(peer_id);
    }

    /// Sends what is to be verified, if there is a link that takes it.
    fn send_verifies(&mut self, id: PeerId) {
        let Some(peer) = self.remotes.peers.get_mut(id.0) else { return };
        let Some(conn) = peer.link else { return };
        let Some(link) = self.remotes.links.get_mut(conn.0) else { return };
        if !link.stream.may_verify() {
            if link.stream.may_authenticate() || link.stream.is_open() {
                // It will not take it later either.
                let pair = peer.pair.clone();
                for verify in std::mem::take(&mut peer.verifies) {
                    self.answer_claim(verify.conn, &pair, Verdict::Error(Condition::RemoteServerNotFound));
                }
            }
            return;
        }
        for verify in peer.verifies.iter_mut().filter(|verify| !verify.sent) {
            verify.sent = true;
            link.stream.verify(peer.pair.clone(), verify.id.clone(), &verify.key);
        }
        self.again.push(conn);
    }

    /// The authoritative server has answered.
    fn verdict(&mut self, pair: &Pair, id: &str, verdict: Verdict) {
        let Some(peer_id) = self.remotes.by_pair.get(pair).copied() else { return };
        let Some(peer) = self.remotes.peers.get_mut(peer_id.0) else { return };
        let at = peer.verifies.iter().position(|v| v.sent && v.id == id);
        let claimer = at.map(|at| peer.verifies.swap_remove(at).conn);
        if let Some(claimer) = claimer {
            self.answer_claim(claimer, pair, verdict);
        }
        // Section 2.1.2: a connection that was for this alone is closed.
        self.arm_peer(peer_id);
    }

    /// Tells a peer what has become of its key.
    pub(super) fn answer_claim(&mut self, conn: ConnId, pair: &Pair, verdict: Verdict) {
        let settings = self.core.settings.clone();
        if let Some(link) = self.remotes.links.get_mut(conn.0).filter(|link| !link.ends) {
            if verdict != Verdict::Valid {
                log::warn!(target: LOG, "{} has not proved to be {}: {verdict:?}", link.who(), pair.remote);
            }
            link.stream.verdict(pair, verdict, &mut s2s_cx!(self, settings));
            self.again.push(conn);
        }
    }

    /// A link is gone, and with it the keys that have come on it.
    pub(super) fn forget_claims(&mut self, conn: ConnId) {
        if !self.remotes.links.get(conn.0).is_some_and(|link| link.claims) {
            return;
        }
        for key in self.remotes.peers.keys() {
            if let Some(peer) = self.remotes.peers.get_mut(key).filter(|p| p.verifies.iter().any(|v| v.conn == conn)) {
                peer.verifies.retain(|verify| verify.conn != conn);
                self.arm_peer(PeerId(key));
            }
        }
    }
}

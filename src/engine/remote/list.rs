//! What operators see of other servers, and do with them.

use super::{Link, Peer, PeerId};
use crate::core::io::ConnId;
use crate::engine::Engine;
use crate::jid;
use crate::stream::StreamError;
use crate::stream::s2s::{Pair, S2s};
use std::fmt::Write as _;

impl Engine {
    /// Connections with other servers and what waits for them, a line each.
    pub(in crate::engine) fn s2s_list(&self) -> String {
        let now_ms = self.core.now.mono_ms;
        let mut text = String::new();
        for (_, link) in self.remotes.links.iter() {
            let _ = writeln!(text, "{}", link.describe(now_ms));
        }
        let waiting = self.remotes.peers.iter().filter(|(_, peer)| peer.via.is_none());
        for (_, peer) in waiting.filter(|(_, peer)| peer.waits() > 0 || peer.retry_ms > now_ms) {
            let _ = writeln!(text, "{}", peer.describe(now_ms));
        }
        if text.is_empty() {
            return "no other servers".to_owned();
        }
        text.trim_end().to_owned()
    }

    /// Closes all streams with a domain, and lets the next attempt be made at once.
    ///
    /// # Errors
    /// What is wrong, for the operator.
    pub(in crate::engine) fn s2s_close(&mut self, domain: &str) -> Result<String, String> {
        let domain = jid::prepare_domain(domain).map_err(|e| format!("\"{domain}\" is no domain: {e}"))?;
        let is_with = |link: &Link| {
            !link.ends
                && !link.stream.is_closing()
                && (link.stream.remote() == Some(&*domain) || link.stream.proves(&domain))
        };
        let conns: Vec<ConnId> =
            self.remotes.links.iter().filter(|(_, link)| is_with(link)).map(|(key, _)| ConnId(key)).collect();
        for conn in &conns {
            self.close_link(*conn);
        }
        self.try_anew(|pair| *pair.remote == *domain);
        Ok(match conns.len() {
            0 => format!("no streams with {domain}"),
            1 => format!("1 stream with {domain} is closed"),
            n => format!("{n} streams with {domain} are closed"),
        })
    }

    /// After a reload: streams that the new settings do not allow end, and what waits for such servers goes back.
    pub(in crate::engine) fn enforce_s2s_policy(&mut self) {
        let settings = self.core.settings.clone();
        let is_allowed = |stream: &S2s| match (stream.is_component(), stream.remote()) {
            (true, Some(domain)) => settings.components.iter().any(|component| component.domain == domain),
            (true, None) => true,
            (false, _) => stream.is_allowed(&settings.s2s),
        };
        let links = self.remotes.links.iter().filter(|(_, link)| !link.ends && !is_allowed(&link.stream));
        let links: Vec<ConnId> = links.map(|(key, _)| ConnId(key)).collect();
        for conn in links {
            self.fail_link(conn, StreamError::PolicyViolation, Some("This server does not speak with yours any more."));
        }
        // Names may lead elsewhere now, and authorities be believed that were not.
        self.try_anew(|_| true);
    }

    /// Lets attempts to reach servers be made at once, whatever has become of earlier ones.
    fn try_anew(&mut self, which: impl Fn(&Pair) -> bool) {
        for key in self.remotes.peers.keys() {
            if let Some(peer) = self.remotes.peers.get_mut(key).filter(|peer| which(&peer.pair)) {
                (peer.retry_ms, peer.failures, peer.condemned) = (0, 0, None);
                self.connect(PeerId(key));
                self.arm_peer(PeerId(key));
            }
        }
    }

    /// For tests: bytes charged to the connection with another server, or to what waits for one, that holds most.
    pub fn held_most_remote_bytes(&self) -> usize {
        let links = self.remotes.links.iter().map(|(_, link)| link.charge.bytes());
        links.chain(self.remotes.peers.iter().map(|(_, peer)| peer.charge.bytes())).max().unwrap_or(0)
    }

    /// Connections with other servers: out, in, and stanzas that wait for a connection.
    pub(in crate::engine) fn s2s_counts(&self) -> (usize, usize, usize) {
        let out = self.remotes.links.iter().filter(|(_, link)| link.stream.is_outgoing()).count();
        let waiting = self.remotes.peers.iter().map(|(_, peer)| peer.waits()).sum();
        (out, self.remotes.links.len() - out, waiting)
    }
}

impl Link {
    /// For the log.
    pub(super) fn who(&self) -> String {
        self.ip.map_or_else(|| self.stream.remote().unwrap_or("somebody").to_owned(), |ip| ip.to_string())
    }

    fn describe(&self, now_ms: u64) -> String {
        let (local, remote) = (self.stream.local(), self.stream.remote().unwrap_or("(not said yet)"));
        let mut text = match self.stream.is_outgoing() {
            true => format!("out  {local} -> {remote}"),
            false => format!("in   {remote} -> {local}"),
        };
        for pair in self.stream.pairs().iter().filter(|pair| Some(&*pair.remote) != self.stream.remote()) {
            let _ = write!(text, ", {} -> {}", pair.remote, pair.local);
        }
        let state = match () {
            () if self.ends || self.stream.is_closing() => "closing",
            () if self.stream.is_authenticated() => "certificate",
            () if self.is_settled() => "dialback",
            () if self.stream.is_secured() => "encrypted, nothing proved",
            () => "connecting",
        };
        let _ = write!(text, "  {state}");
        for (holds, what) in [(self.stream.is_bidi(), "both ways"), (self.inbound.is_some(), "acknowledged")] {
            if holds {
                let _ = write!(text, ", {what}");
            }
        }
        if self.out.stanzas() > 0 {
            let _ = write!(text, ", {} on the way", stanzas(self.out.stanzas()));
        }
        let _ = write!(text, ", idle for {} s", now_ms.saturating_sub(self.touched_ms) / 1000);
        text.extend(self.ip.map(|ip| format!(", from {ip}")));
        text
    }
}

impl Peer {
    fn describe(&self, now_ms: u64) -> String {
        let mut text = format!("wait {} -> {}  {}", self.pair.local, self.pair.remote, stanzas(self.waits()));
        if self.failures > 0 {
            let next_s = self.retry_ms.saturating_sub(now_ms).div_ceil(1000);
            let _ = write!(text, ", attempt {} in {next_s} s", self.failures + 1);
        }
        text.extend(self.condemned.map(|refusal| format!(": {}", refusal.text)));
        text
    }
}

fn stanzas(count: usize) -> String {
    if count == 1 { "1 stanza".to_owned() } else { format!("{count} stanzas") }
}

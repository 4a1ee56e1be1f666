//! Other servers: a table of *links*, which are connections, and one of *peers*, which are pairs of a domain of ours
//! and another.
//!
//! A peer exists while something waits for it or goes on with it. What is for it waits in its own queue until a link
//! takes stanzas for the pair, then in that of the link; when the link ends, what has not arrived comes back. A peer
//! that cannot be reached is tried again at growing intervals, for as long as a stanza may wait, and what cannot be
//! had by trying is told at once. What waits longer than a moment for its acknowledgement is on disk, and is there
//! after a restart.

mod dials;
mod events;
mod link;
mod list;
mod pool;
mod room;
mod shelf;

use super::pace::Pace;
use super::{Engine, Holder, Timer};
use crate::budget::{Charge, Kind as Held};
use crate::core::flight::{Parcel, Receipt};
use crate::core::io::ConnId;
use crate::core::out_queue::OutQueue;
use crate::core::slab::{Key, Slab};
use crate::stanza::Condition;
use crate::storage::Ticket;
use crate::stream::management::Inbound;
use crate::stream::s2s::{Pair, Refusal, S2s};
use std::collections::BTreeMap;
use std::net::IpAddr;

const LOG: &str = "couplet::s2s";

/// Names a [`Peer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PeerId(Key);

/// Links and peers.
pub(super) struct Remotes {
    links: Slab<Link>,
    peers: Slab<Peer>,
    by_pair: BTreeMap<Pair, PeerId>,
    dials: dials::Dials,
    /// What goes back to its senders when the input is done with, and why.
    returned: Vec<(Parcel, Refusal)>,
    /// What has gone back in a batch that is not durable: should that fail, it goes back once more.
    returning: Vec<(Ticket, Parcel, Refusal)>,
    /// What is to go back with the next attempt to write.
    unreturned: Vec<(Parcel, Refusal)>,
}

impl Default for Remotes {
    fn default() -> Self {
        Self {
            links: Slab::starting_at(LINKS_START),
            peers: Slab::default(),
            by_pair: BTreeMap::new(),
            dials: dials::Dials::default(),
            returned: Vec::new(),
            returning: Vec::new(),
            unreturned: Vec::new(),
        }
    }
}

/// Keys of clients' connections are below it.
const LINKS_START: u32 = 1 << 31;

/// One connection with another server, or the attempt to have one.
struct Link {
    stream: S2s,
    /// Of one that came in.
    ip: Option<IpAddr>,
    out: OutQueue,
    charge: Charge,
    /// Of what the shell holds for it.
    socket: Charge,
    /// Bytes that the shell has not got rid of yet.
    waiting_bytes: usize,
    /// When it was begun.
    since_ms: u64,
    /// When it last carried a stanza.
    touched_ms: u64,
    /// When anything was last sent on it.
    sent_ms: u64,
    /// Since when an acknowledgement is owed to us.
    asked_ms: Option<u64>,
    /// When something must be looked at.
    deadline_ms: Option<u64>,
    /// Nothing more is read; it goes when its queue is empty.
    ends: bool,
    /// How fast it may send, and why nothing is read.
    pace: Pace,
    /// Stanzas of the peer are counted (XEP-0198).
    inbound: Option<Box<Inbound>>,
    /// A stanza has come.
    heard: bool,
    /// We are connecting it.
    dialing: bool,
    /// For whom it was opened, of one that we have opened.
    peer: Option<PeerId>,
    /// Those whose stanzas it takes ([`Peer::via`]).
    serves: Vec<PeerId>,
    /// Keys have come on it that others are asked about ([`Verify::conn`]).
    claims: bool,
    /// Clients that wait for room in its queue.
    room: Option<Box<room::Room>>,
}

/// A pair of domains for which something waits or goes on.
struct Peer {
    pair: Pair,
    /// What waits while no link takes it.
    out: OutQueue,
    /// What waits before that, on the disk alone.
    shelf: Vec<shelf::Shelved>,
    charge: Charge,
    /// The link that takes stanzas.
    via: Option<ConnId>,
    /// The link that we have opened, or try to.
    link: Option<ConnId>,
    /// Attempts that have failed since the last that went well.
    failures: u32,
    /// No attempt is made before.
    retry_ms: u64,
    /// Until then whatever comes goes back at once.
    condemned: Option<Refusal>,
    /// Keys to be verified with it.
    verifies: Vec<Verify>,
    /// There is a timer for this moment.
    timer_ms: Option<u64>,
    /// It waits for its turn to be dialed.
    queued: bool,
}

/// A dialback key that has come on one of the links.
struct Verify {
    conn: ConnId,
    /// Of that stream.
    id: String,
    key: String,
    sent: bool,
}

/// Too much waits.
pub(super) const FULL: Refusal =
    Refusal { condition: Condition::ResourceConstraint, text: "Too much waits for the other server." };
const LATE: Refusal =
    Refusal { condition: Condition::RemoteServerTimeout, text: "The other server could not be reached in time." };
const NOT_FOUND: Refusal = Refusal { condition: Condition::RemoteServerNotFound, text: "There is no such server." };
const NO_TLS: Refusal =
    Refusal { condition: Condition::RemoteServerNotFound, text: "Encryption with the other server fails." };
const SHUNNED: Refusal =
    Refusal { condition: Condition::RemoteServerNotFound, text: "This server does not speak with the other one." };
const TOO_LONG: Refusal =
    Refusal { condition: Condition::PolicyViolation, text: "The other server takes no stanza of that size." };

const ABSENT: Refusal = Refusal { condition: Condition::ServiceUnavailable, text: "The component is not connected." };

/// Borrows what the stream machine needs, from disjoint parts of the engine.
macro_rules! s2s_cx {
    ($engine:ident, $settings:ident) => {
        S2sCx {
            components: &$settings.components,
            hosts: &|domain: &str| {
                $settings.hosts.iter().any(|h| h == domain)
                    || $engine.core.disco.services().iter().any(|service| service == domain)
                    || $settings.components.iter().any(|component| component.domain == domain)
            },
            policy: &$settings.s2s,
            reader: &mut $engine.reader,
            limits: &$settings.limits,
            entropy: &mut *$engine.core.entropy,
            secret: &$engine.secret,
        }
    };
}
use s2s_cx;

impl Remotes {
    /// True when nothing keeps the server from ending.
    pub fn is_quiet(&self) -> bool {
        self.links.is_empty()
    }

    /// How fast the other end of a link may send, and whether it is a component.
    pub fn link_pace(&mut self, conn: ConnId) -> Option<(&mut Pace, bool)> {
        self.links.get_mut(conn.0).map(|link| (&mut link.pace, link.stream.is_component()))
    }

    /// The first domain that the other end of a link has proved.
    pub fn link_proved(&self, conn: ConnId) -> Option<&str> {
        let link = self.links.get(conn.0).filter(|link| link.is_settled())?;
        link.stream.remote()
    }

    /// Bytes of the tables beside those of links and peers.
    pub fn spare_bytes(&self) -> usize {
        self.links.spare_bytes() + self.peers.spare_bytes() + self.dials.table_bytes()
    }

    /// Bytes that are charged to links and peers, and those to sockets of links.
    pub fn charged_bytes(&self) -> (usize, usize) {
        let links = self.links.iter().map(|(_, l)| l.charge.bytes()).sum::<usize>();
        let peers = self.peers.iter().map(|(_, p)| p.charge.bytes()).sum::<usize>();
        (links + peers, self.links.iter().map(|(_, l)| l.socket.bytes()).sum())
    }
}

impl Engine {
    /// True when the connection is one with another server.
    pub(super) fn is_link(&self, conn: ConnId) -> bool {
        self.remotes.links.get(conn.0).is_some()
    }

    /// Stanzas of a server with stream management.
    pub(super) fn link_inbound(&mut self, conn: ConnId) -> Option<&mut Inbound> {
        self.remotes.links.get_mut(conn.0)?.inbound.as_deref_mut()
    }

    /// The shell holds so much for a link.
    pub(super) fn link_held(&mut self, conn: ConnId, bytes: usize) {
        if let Some(link) = self.remotes.links.get_mut(conn.0) {
            self.budget.settle(Held::Sockets, &mut link.socket, bytes);
        }
    }

    /// Links of which nobody knows yet who they are, with what they hold.
    pub(super) fn strange_links(&self) -> Vec<(usize, ConnId)> {
        let is_strange = |link: &Link| link.ip.is_some() && !link.is_settled();
        let links = self.remotes.links.iter().filter(|(_, link)| is_strange(link));
        links.map(|(key, link)| (link.charge.bytes() + link.socket.bytes(), ConnId(key))).collect()
    }

    /// All links, with what they hold.
    pub(super) fn link_charges(&self) -> Vec<(usize, ConnId)> {
        let held = |link: &Link| link.charge.bytes() + link.socket.bytes();
        self.remotes.links.iter().map(|(key, link)| (held(link), ConnId(key))).collect()
    }

    /// Forgets of servers for which nothing waits when they could not be reached.
    pub(super) fn forget_failures(&mut self) {
        for key in self.remotes.peers.keys() {
            if let Some(peer) = self.remotes.peers.get_mut(key).filter(|peer| peer.is_idle()) {
                peer.retry_ms = 0;
                self.arm_peer(PeerId(key));
            }
        }
    }

    /// The queue of what is for a peer.
    pub(super) fn peer_queue(&mut self, peer: PeerId) -> Option<&mut OutQueue> {
        let peer = self.remotes.peers.get_mut(peer.0)?;
        match peer.via {
            Some(conn) => Some(&mut self.remotes.links.get_mut(conn.0)?.out),
            None => Some(&mut peer.out),
        }
    }

    /// All peers.
    pub(super) fn peer_holders(&self) -> Vec<Holder> {
        self.remotes.peers.keys().into_iter().map(|key| Holder::Peer(PeerId(key))).collect()
    }

    /// A batch is durable: links may have more to say.
    pub(super) fn links_committed(&mut self) {
        let durable = self.core.view.durable();
        self.remotes.returning.retain(|(after, ..)| *after > durable);
        for key in self.remotes.links.keys() {
            let Some(link) = self.remotes.links.get_mut(key) else { continue };
            if !link.out.is_empty() || link.inbound.as_mut().is_some_and(|inbound| inbound.progress(durable)) {
                self.dirty.insert(ConnId(key));
            }
        }
    }

    fn set_link_deadline(&mut self, conn: ConnId, at_ms: u64) {
        let Some(link) = self.remotes.links.get_mut(conn.0) else { return };
        if let Some(old) = link.deadline_ms.replace(at_ms) {
            self.timers.remove(&(old, Timer::Conn(conn)));
        }
        self.timers.insert((at_ms, Timer::Conn(conn)), ());
    }
}

/// What somebody waits for with a parcel.
fn receipt_of(parcel: &Parcel) -> Option<Receipt> {
    parcel.keep.as_ref().and_then(|keep| keep.receipt)
}

//! Connections of HTTP as far as they are the engine's business: they are counted and charged like those of clients,
//! and what is in them is the shell's. Clients that come through one (WebSocket, BOSH) are clients like all others, on
//! streams whose bytes the shell takes from it.

use super::guard::Met;
use super::{ConnId, Engine, Role};
use crate::budget::{Budget, Charge, Kind as Held};
use crate::clock::Now;
use crate::core::Core;
use crate::core::endpoints::{Delivery, Endpoint};
use crate::core::io::Output;
use crate::core::slab::Slab;
use crate::core::slots::Owned;
use crate::core::web::Order;
use crate::storage::Ticket;
use crate::stream::StreamError;
use std::net::IpAddr;

/// Keys of connections with servers are below it.
const GUESTS_START: u32 = 3 << 30;

/// One connection of HTTP.
struct Guest {
    peer: IpAddr,
    /// Of what the shell holds for it.
    socket: Charge,
    /// It has become that of a client, who is counted and charged for it.
    serves: bool,
}

/// All connections of HTTP.
pub(super) struct Guests {
    all: Slab<Guest>,
    /// Those that are no client's.
    counted: usize,
}

impl Default for Guests {
    fn default() -> Self {
        Self { all: Slab::starting_at(GUESTS_START), counted: 0 }
    }
}

impl Guests {
    /// Those that are no client's.
    pub fn len(&self) -> usize {
        self.counted
    }

    /// Bytes of the table beside its entries.
    pub fn spare_bytes(&self) -> usize {
        self.all.spare_bytes()
    }

    /// Bytes that are charged.
    pub fn charged_bytes(&self) -> usize {
        self.all.iter().map(|(_, guest)| guest.socket.bytes()).sum()
    }

    /// The shell holds so much for one of them.
    pub fn held(&mut self, budget: &mut Budget, conn: ConnId, bytes: usize) {
        if let Some(guest) = self.all.get_mut(conn.0).filter(|guest| !guest.serves) {
            budget.settle(Held::Sockets, &mut guest.socket, bytes);
        }
    }

    /// Those that hold something, with what that is.
    pub fn charges(&self) -> Vec<(usize, ConnId)> {
        let held = self.all.iter().filter(|(_, guest)| !guest.serves);
        held.map(|(key, guest)| (guest.socket.bytes(), ConnId(key))).collect()
    }
}

fn owned(core: &mut Core, file: &Owned) -> bool {
    core.is_owned(file).unwrap_or_else(|error| {
        log::error!(target: "couplet::storage", "{error}");
        true
    })
}

impl Engine {
    /// What slots for files are signed with.
    pub fn slot_key(&self) -> [u8; 32] {
        self.core.web.slot_key
    }

    /// The endpoint of a path, if it can be used (UnifiedPush).
    pub fn endpoint(&self, path: &str, wall_ms: i64) -> Option<Endpoint> {
        Endpoint::read(path, &self.core.web.endpoint_key, wall_ms)
    }

    /// Something was brought to an endpoint, through that connection of HTTP. Answer: [`Order::Deliver`].
    pub fn bring(&mut self, now: Now, conn: ConnId, endpoint: &Endpoint, content: &[u8]) {
        self.core.now = now;
        self.step("what an application is sent", |core, modules| {
            if !modules.brought(core, conn, endpoint, content) {
                core.web.delivered.push((conn, Delivery::Gone));
            }
        });
    }

    /// Whether the account that a file was granted to is there. What cannot be read is taken for true.
    pub fn is_owned(&mut self, now: Now, file: &Owned) -> bool {
        self.core.now = now;
        let mut is_owned = true;
        self.step("a look for an account", |core, _| is_owned = owned(core, file));
        is_owned
    }

    /// These files are on the disk. Those whose owners are no more are to be deleted, by [`Order::Remove`], when
    /// it is durable that they are not.
    pub fn files_seen(&mut self, now: Now, mut files: Vec<Owned>) {
        self.core.now = now;
        let mut after = Ticket(0);
        self.step("a look for accounts", |core, _| {
            files.retain(|file| !owned(core, file));
            after = core.view.ticket();
        });
        if !files.is_empty() {
            self.core.web.unowned.push((after, files.into_iter().map(|file| file.id).collect()));
        }
    }

    /// What HTTP is to hear at the end of a tick.
    pub(super) fn tell_web(&mut self) {
        let durable = self.core.view.durable();
        let web = &mut self.core.web;
        let delivered = web.delivered.drain(..).map(|(conn, delivery)| Order::Deliver(conn, delivery));
        self.outputs.extend(delivered.map(Output::Web));
        let (ready, waiting) = std::mem::take(&mut web.unowned).into_iter().partition(|(after, _)| *after <= durable);
        web.unowned = waiting;
        let ready: Vec<_> = ready;
        self.outputs.extend(ready.into_iter().map(|(_, ids)| Output::Web(Order::Remove(ids))));
        if std::mem::take(&mut web.sweeps) {
            self.outputs.push_back(Output::Web(Order::Sweep));
        }
    }

    /// An unguessable name.
    pub fn token(&mut self) -> String {
        self.core.token()
    }

    /// All files together take so many bytes on the disk.
    pub fn files_kept(&mut self, bytes: u64) {
        self.core.web.files_bytes = bytes;
    }

    /// True when the connection is one of HTTP.
    pub(super) fn is_guest(&self, conn: ConnId) -> bool {
        self.guests.all.get(conn.0).is_some()
    }

    /// Whether strangers are let in and what they write is stored.
    ///
    /// # Errors
    /// Why not, in a few words.
    pub fn readiness(&self) -> Result<(), &'static str> {
        if self.shutting_down {
            Err("shutting down")
        } else if !self.has_room_for_strangers() {
            Err("memory is short")
        } else if self.full_ms.is_some() {
            Err("the disk is full")
        } else {
            Ok(())
        }
    }

    pub(super) fn accept_guest(&mut self, peer: IpAddr) -> Option<ConnId> {
        self.may_enter(peer)?;
        self.enter(Role::Web, peer)?;
        self.core.counters.connections = self.core.counters.connections.wrapping_add(1);
        self.guests.counted += 1;
        Some(ConnId(self.guests.all.insert(Guest { peer, socket: Charge::default(), serves: false })))
    }

    /// A client comes through HTTP, from that address, with TLS as far as we can know. None when one of the limits
    /// forbids it. [`Input`](super::Input)s and [`Output`](super::Output)s are as for any other client.
    pub fn accept_through_web(&mut self, now: Now, is_secure: bool, peer: IpAddr) -> Option<ConnId> {
        self.core.now = now;
        self.may_enter(peer)?;
        self.enter(Role::Client, peer)?;
        Some(self.admit_client(is_secure, false, true, peer))
    }

    /// What a client that comes through HTTP has sent is none of a stream: it ends with that error.
    pub fn refuse_stream(&mut self, now: Now, conn: ConnId, error: StreamError) {
        self.core.now = now;
        self.guard("what a peer has sent", Met::Conn(conn), &mut |engine| engine.fail(conn, error, None));
    }

    /// Such a client has sent so many bytes that are none of its stream; they count for its rate all the same.
    pub fn spend_beside(&mut self, now: Now, conn: ConnId, bytes: usize) {
        self.core.now = now;
        self.guard("what a peer has sent", Met::Conn(conn), &mut |engine| engine.spend(conn, bytes));
    }

    /// A connection of HTTP is a client's from now on, as a whole: what it holds is told for that client.
    pub fn guest_serves(&mut self, conn: ConnId) {
        let Some(guest) = self.guests.all.get_mut(conn.0).filter(|guest| !guest.serves) else { return };
        guest.serves = true;
        let peer = guest.peer;
        self.budget.settle(Held::Sockets, &mut guest.socket, 0);
        self.guests.counted -= 1;
        self.leave(Role::Web, peer);
    }

    pub(super) fn end_guest(&mut self, conn: ConnId) {
        let Some(mut guest) = self.guests.all.remove(conn.0) else { return };
        self.budget.settle(Held::Sockets, &mut guest.socket, 0);
        if !guest.serves {
            self.guests.counted -= 1;
            self.leave(Role::Web, guest.peer);
        }
    }
}

//! What things cost, in exact numbers and without a clock: sizes of types, allocations, bytes, commits, writes.
//!
//! The engine runs in this process with a store in memory; hashing and committing are not counted. What does more than
//! its budget fails, and so does what has become a tenth cheaper: put the number in that the message says, if the
//! change is meant. The numbers are those of 64-bit machines and of the tier `minimal`.
#![cfg(all(target_pointer_width = "64", feature = "minimal"))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Write as _;
use std::sync::Arc;

use couplet::budget::allocated;
use couplet::core::io::{Input, Output};
use couplet::engine::{Engine, Settings};
use couplet::net::tls::{TlsAcceptor, TlsConn};
use couplet::storage::memory;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

mod trust;
#[path = "budgets/world.rs"]
mod world;

use world::{NOW, Seeded, World, in_a_room, message};

/// Counts what its thread allocates.
struct Counting;

thread_local! {
    static COUNTS: Cell<bool> = const { Cell::new(false) };
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
    /// Counted or not: what is allocated and not freed.
    static LIVE: Cell<i64> = const { Cell::new(0) };
    /// The same, as much as an allocator takes for it.
    static TAKEN: Cell<i64> = const { Cell::new(0) };
}

fn count(fresh: usize, before: usize, after: usize) {
    LIVE.set(LIVE.get() + after as i64 - before as i64);
    TAKEN.set(TAKEN.get() + allocated(after) as i64 - allocated(before) as i64);
    if COUNTS.get() && fresh > 0 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        BYTES.set(BYTES.get() + fresh as u64);
    }
}

// SAFETY: every call goes to the system's allocator unchanged; the counters are plain cells that allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0, layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(0, layout.size(), 0);
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Growing counts as an allocation of what is added.
        count(size.saturating_sub(layout.size()), layout.size(), size);
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` gives, its allocations and their bytes.
fn measured<T>(work: impl FnOnce() -> T) -> (T, u64, u64) {
    let before = (ALLOCATIONS.get(), BYTES.get());
    COUNTS.set(true);
    let done = work();
    COUNTS.set(false);
    (done, ALLOCATIONS.get() - before.0, BYTES.get() - before.1)
}

/// Compares what was counted with what it may be. Fails with all differences at once.
#[derive(Default)]
struct Bill(String);

impl Bill {
    /// At most `budget`, and not much less.
    fn at_most(&mut self, what: &str, counted: u64, budget: u64) {
        if counted > budget {
            let _ = writeln!(self.0, "{what}: {counted}, the budget is {budget}; if that is meant, put {counted}");
        } else if counted < budget - budget / 10 {
            let _ = writeln!(self.0, "{what}: {counted}, cheaper than its budget of {budget}: put {counted}");
        }
    }

    /// Exactly `expected`.
    fn exactly(&mut self, what: &str, counted: u64, expected: u64) {
        if counted != expected {
            let _ = writeln!(self.0, "{what}: {counted} instead of {expected}");
        }
    }

    fn settle(self) {
        assert!(self.0.is_empty(), "\n{}", self.0);
    }
}

#[test]
fn types_have_their_sizes() {
    use couplet::core::{flight, out_queue, session};
    use couplet::{jid, pipeline, stanza, storage, stream, xml};
    let mut bill = Bill::default();
    let mut size = |name: &str, counted: usize, expected: u64| bill.exactly(name, counted as u64, expected);
    size("Jid", size_of::<jid::Jid>(), 24);
    size("Element", size_of::<xml::Element>(), 48);
    size("Stanza", size_of::<stanza::Stanza>(), 96);
    size("InFlight", size_of::<flight::InFlight>(), 192);
    size("Parcel", size_of::<flight::Parcel>(), 88);
    size("Item", size_of::<flight::Item>(), 24);
    size("OutQueue", size_of::<out_queue::OutQueue>(), 64);
    size("Delivery", size_of::<pipeline::Delivery>(), 128);
    size("Session", size_of::<session::Session>(), 200);
    size("C2s", size_of::<stream::C2s>(), 200);
    size("Batch", size_of::<storage::Batch>(), 40);
    size("Output", size_of::<Output>(), 120);
    let element = couplet::xml::parse(&message(0).replace("<message", "<message xmlns='jabber:client'")).unwrap();
    size("heap of a message of 100 characters", element.heap_bytes(), 544);
    bill.settle();
}

#[test]
fn a_message_costs_no_commit_and_one_write() {
    let (mut world, conns) = World::online(2);
    let text = message(1);
    world.send(conns[0], &text);
    let cost = world.cost_of(|w| (0..100).for_each(|_| w.send(conns[0], &text)));
    let mut bill = Bill::default();
    bill.exactly("commits of 100 messages", cost.commits, 0);
    bill.exactly("writes of 100 messages in 100 ticks", cost.writes, 100);
    bill.at_most("allocations of 100 messages", cost.allocations, 1700);
    bill.at_most("allocated bytes of 100 messages", cost.bytes, 285_700);
    let together = world.cost_of(|w| w.send(conns[0], &text.repeat(100)));
    bill.exactly("writes of 100 messages in one tick", together.writes, 1);
    bill.exactly("bytes written", together.written_bytes, cost.written_bytes);
    bill.at_most("allocations of 100 messages in one tick", together.allocations, 1416);
    bill.settle();
}

#[test]
#[cfg(feature = "mam")]
fn an_archived_message_costs_one_commit_a_tick() {
    let mut world = World::of(2, couplet::engine::Settings::default());
    let conns = [world.log_in(0), world.log_in(1)];
    conns.iter().for_each(|conn| world.send(*conn, "<presence/>"));
    let text = message(1);
    world.send(conns[0], &text);
    let rows = world.memory.rows();
    let cost = world.cost_of(|w| w.send(conns[0], &text.repeat(50)));
    let mut bill = Bill::default();
    bill.exactly("commits of 50 messages in one tick", cost.commits, 1);
    bill.exactly("rows of 50 messages, two in each archive", (world.memory.rows() - rows) as u64, 200);
    bill.at_most("allocations of 50 archived messages in one tick", cost.allocations, 1663);
    bill.at_most("allocated bytes of 50 archived messages in one tick", cost.bytes, 350_346);
    bill.settle();
}

#[test]
fn presence_costs_the_same_for_each_contact() {
    const CONTACTS: usize = 50;
    let (mut world, conns) = World::online(CONTACTS + 1);
    for contact in 1..=CONTACTS {
        world.send(conns[contact], "<presence type='subscribe' to='u0@localhost'/>");
        world.send(conns[0], &format!("<presence type='subscribed' to='u{contact}@localhost'/>"));
    }
    let show = |world: &mut World| world.cost_of(|w| w.send(conns[0], "<presence><show>away</show></presence>"));
    let cost = show(&mut world);
    let mut bill = Bill::default();
    bill.exactly("commits", cost.commits, 0);
    bill.exactly("writes: each contact and oneself", cost.writes, CONTACTS as u64 + 1);
    bill.at_most("allocations of presence for 50 contacts", cost.allocations, 292);
    bill.at_most("allocated bytes of presence for 50 contacts", cost.bytes, 39_606);
    // Nothing for those who do not see it.
    let among_few = show(&mut world);
    for n in 0..200 {
        let query = format!("<query xmlns='jabber:iq:roster'><item jid='c{n}@example.org' name='n'/></query>");
        world.send(conns[0], &format!("<iq type='set' id='c{n}'>{query}</iq>"));
    }
    let among_many = show(&mut world);
    bill.exactly("allocations of presence for 50 contacts of 250", among_many.allocations, among_few.allocations);
    bill.settle();
}

#[test]
fn a_message_in_a_room_is_written_once() {
    let said = |n: usize| {
        let body = "x".repeat(n);
        let hint = "<no-store xmlns='urn:xmpp:hints'/>";
        format!("<message type='groupchat' id='m' to='r@conference.localhost'><body>{body}</body>{hint}</message>")
    };
    let costs = |occupants: usize, bytes: usize| {
        let (mut world, conns) = in_a_room(occupants);
        world.send(conns[0], &said(bytes));
        let cost = world.cost_of(|w| w.send(conns[0], &said(bytes)));
        assert_eq!((cost.commits, cost.writes), (0, occupants as u64));
        cost
    };
    let mut bill = Bill::default();
    let small = costs(100, 100);
    bill.at_most("allocations of a message for 100", small.allocations, 385);
    bill.at_most("allocated bytes of a message for 100", small.bytes, 101_739);
    // What a longer message allocates beside what each of the 100 connections is handed is the same for few and many.
    let more = |n: usize| costs(n, 10_100).bytes - costs(n, 100).bytes - n as u64 * 10_000;
    bill.at_most("more bytes for 10 000 characters in a room of 2", more(2), 72_088);
    bill.at_most("more bytes for 10 000 characters in a room of 100", more(100), 72_088);
    bill.settle();
}

#[test]
fn a_login_costs_no_commit() {
    let mut world = World::new(2);
    world.log_in(0);
    let cost = world.cost_of(|w| _ = w.log_in(1));
    let mut bill = Bill::default();
    bill.exactly("commits", cost.commits, 0);
    bill.exactly("writes: header and features, success, header and features, bind", cost.writes, 4);
    bill.at_most("allocations of a login", cost.allocations, 204);
    bill.at_most("allocated bytes of a login", cost.bytes, 17_015);
    bill.settle();
}

#[test]
fn an_idle_session_holds_little() {
    const SESSIONS: usize = 64;
    let mut world = World::new(SESSIONS + 1);
    world.log_in(SESSIONS);
    let before = LIVE.get();
    let conns: Vec<_> = (0..SESSIONS).map(|n| world.log_in(n)).collect();
    let bound = LIVE.get() - before;
    for conn in &conns {
        world.send(*conn, "<presence><show>away</show><status>Gone fishing</status></presence>");
    }
    let available = LIVE.get() - before;
    let mut bill = Bill::default();
    bill.at_most("bytes of a session that is bound", bound as u64 / SESSIONS as u64, 1244);
    bill.at_most("bytes of a session that is available", available as u64 / SESSIONS as u64, 1659);
    bill.settle();
}

/// What is charged is nearly all that is held, and not much more.
fn is_fair(what: &str, charged: usize, taken: i64) {
    let taken = usize::try_from(taken).unwrap();
    assert!(
        charged >= taken - taken / 8 && charged <= taken + taken / 3,
        "{what}: {charged} bytes charged for {taken}"
    );
}

#[test]
fn sessions_and_what_waits_for_them_are_charged_what_they_take() {
    const SESSIONS: usize = 64;
    let mut world = World::new(2 * SESSIONS + 1);
    // What a table of so many takes is there beforehand.
    let first: Vec<_> = (SESSIONS..=2 * SESSIONS).map(|n| world.log_in(n)).collect();
    for conn in &first[1..] {
        world.input(Input::Closed { conn: *conn });
    }
    let charged = |world: &World| world.engine.budget().used_bytes();
    let before = (charged(&world), TAKEN.get());
    let conns: Vec<_> = (0..SESSIONS).map(|n| world.log_in(n)).collect();
    is_fair("sessions", charged(&world) - before.0, TAKEN.get() - before.1);
    for conn in &conns {
        world.send(*conn, "<presence><show>away</show><status>Gone fishing</status></presence>");
    }
    is_fair("available sessions", charged(&world) - before.0, TAKEN.get() - before.1);
    // A peer that takes nothing more.
    let before = (charged(&world), TAKEN.get());
    world.engine.handle(NOW, Input::Wrote { conn: conns[1], waiting_bytes: 1 << 20 });
    for _ in 0..100 {
        world.send(first[0], &message(1));
    }
    let waiting = charged(&world) - before.0 - (1 << 20);
    is_fair("a queue", waiting, TAKEN.get() - before.1);
}

#[test]
fn tls_is_charged_what_it_takes() {
    const CONNECTIONS: usize = 32;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_string()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let private = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let key = CertifiedKey::from_der(vec![made.cert.der().clone()], private, &provider).unwrap();
    let acceptor = TlsAcceptor::new(Arc::new(SingleCertAndKey::from(key)), &[]).unwrap();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let client = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(trust::Anyone(provider.clone())))
            .with_no_client_auth();
        let client = Arc::new(client);
        let name = || ServerName::try_from("localhost").unwrap();
        let mut clients: Vec<_> =
            (0..CONNECTIONS).map(|_| rustls::ClientConnection::new(client.clone(), name()).unwrap()).collect();
        let before = TAKEN.get();
        let mut servers: Vec<_> = (0..CONNECTIONS).map(|_| Box::new(TlsConn::new(&acceptor).unwrap())).collect();
        let mut plain = Vec::new();
        let mut states = vec![("silent", TAKEN.get() - before, servers[0].state_bytes())];
        // Half of the handshake, then the other half.
        for state in ["handshake", "open"] {
            let mut answers: Vec<Vec<u8>> = Vec::new();
            let mut flights: Vec<Vec<u8>> = Vec::new();
            for client in &mut clients {
                let mut flight = Vec::new();
                while client.wants_write() {
                    client.write_tls(&mut flight).unwrap();
                }
                flights.push(flight);
            }
            let before_servers = TAKEN.get();
            for (server, flight) in servers.iter_mut().zip(&mut flights) {
                let mut out = Vec::new();
                server.receive(flight, &mut plain, &mut out).unwrap();
                answers.push(out);
            }
            let answers_take: usize = answers.iter().map(|a| allocated(a.capacity())).sum::<usize>()
                + allocated(answers.capacity() * size_of::<Vec<u8>>());
            let grown = TAKEN.get() - before_servers - answers_take as i64;
            let last = states.last().map_or(0, |(_, taken, _)| *taken);
            states.push((state, last + grown, servers[0].state_bytes()));
            for (client, answer) in clients.iter_mut().zip(&answers) {
                let mut answer = &answer[..];
                while !answer.is_empty() {
                    client.read_tls(&mut answer).unwrap();
                    client.process_new_packets().unwrap();
                }
            }
        }
        for (state, taken, charged) in states {
            let each = usize::try_from(taken).unwrap() / CONNECTIONS;
            assert!(charged >= each, "{version:?}, {state}: {charged} bytes charged for {each}");
            assert!(charged <= 2 * each + 256, "{version:?}, {state}: {charged} bytes charged for {each}");
        }
    }
}

#[test]
fn what_is_acknowledged_at_once_never_touches_the_disk() {
    const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>";
    let (mut world, conns) = World::online(2);
    world.send(conns[0], ENABLE);
    world.send(conns[1], ENABLE);
    let mut bill = Bill::default();
    let cost = world.cost_of(|w| {
        for n in 1..=100 {
            w.send(conns[0], &message(1));
            assert!(w.said.ends_with("<r xmlns='urn:xmpp:sm:3'/>"), "{}", w.said);
            w.send(conns[1], &format!("<a xmlns='urn:xmpp:sm:3' h='{n}'/>"));
            w.send(conns[0], "<r xmlns='urn:xmpp:sm:3'/>");
            assert_eq!(w.said, format!("<a xmlns='urn:xmpp:sm:3' h='{n}'/>"));
        }
    });
    bill.exactly("commits of 100 acknowledged messages", cost.commits, 0);
    bill.exactly("writes of 100 messages, their requests and their acknowledgements", cost.writes, 200);
    let cost = world.cost_of(|w| {
        w.send(conns[0], &message(1).repeat(100));
        w.input(Input::Closed { conn: conns[1] });
    });
    bill.exactly("commits of 100 messages to a connection that is lost then", cost.commits, 1);
    bill.settle();
}

#[test]
fn a_session_that_waits_to_be_resumed_holds_little() {
    const SESSIONS: usize = 64;
    let mut world = World::new(SESSIONS);
    for n in 0..SESSIONS {
        let conn = world.log_in(n);
        world.send(conn, "<presence><show>away</show><status>Gone fishing</status></presence>");
        world.send(conn, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
        world.input(Input::Closed { conn });
    }
    // A new server has the sessions and nothing that connections have left behind.
    let held_by = |memory: &memory::Memory| {
        let before = LIVE.get();
        let engine = Engine::new(Settings::default(), memory.open().0, Box::new(Seeded(1)), NOW).unwrap();
        let held = LIVE.get() - before;
        drop(engine);
        held
    };
    let held = held_by(&world.memory) - held_by(&World::new(SESSIONS).memory);
    let mut bill = Bill::default();
    bill.at_most("bytes of a session that waits", held as u64 / SESSIONS as u64, 877);
    bill.settle();
}

#[test]
fn what_is_stored_costs_one_commit() {
    let (mut world, conns) = World::online(2);
    let mut bill = Bill::default();
    let item = |n: usize| {
        format!(
            "<iq type='set' id='{n}'><query xmlns='jabber:iq:roster'><item jid='c{n}@localhost' name='C'/></query></iq>"
        )
    };
    world.send(conns[0], "<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>");
    world.send(conns[0], &item(0));
    let cost = world.cost_of(|w| w.send(conns[0], &item(1)));
    bill.exactly("commits of a roster set", cost.commits, 1);
    bill.exactly("writes of a roster set, push and answer", cost.writes, 1);
    bill.at_most("allocations of a roster set", cost.allocations, 62);
    let many: String = (2..12).map(item).collect();
    let cost = world.cost_of(|w| w.send(conns[0], &many));
    bill.exactly("commits of ten roster sets in one tick", cost.commits, 1);
    bill.exactly("writes of ten roster sets in one tick", cost.writes, 1);
    world.send(conns[1], "<presence type='unavailable'/>");
    let cost = world.cost_of(|w| w.send(conns[0], &message(1).replace("/r'", "'")));
    bill.exactly("commits of a message for somebody offline", cost.commits, 1);
    bill.at_most("allocations of a message for somebody offline", cost.allocations, 33);
    let cost = world.cost_of(|w| w.send(conns[0], &message(1).replace("/r'", "'")));
    bill.at_most("allocations of one more", cost.allocations, 25);
    let cost = world.cost_of(|w| w.send(conns[1], "<presence/>"));
    bill.exactly("commits when it is delivered", cost.commits, 1);
    let cost = world.cost_of(|w| w.send(conns[0], "<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>"));
    bill.exactly("commits of a ping", cost.commits, 0);
    bill.exactly("writes of a ping", cost.writes, 1);
    bill.at_most("allocations of a ping", cost.allocations, 28);
    bill.settle();
}

#[test]
fn a_full_box_is_not_read_for_each_message() {
    let (mut world, conns) = World::online(2);
    let mut bill = Bill::default();
    let text = message(1).replace("/r'", "'");
    world.send(conns[1], "<presence type='unavailable'/><enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    let room = Settings::default().core.limits.offline_messages_max as usize;
    world.send(conns[0], &text.repeat(room));
    let cost = world.cost_of(|w| w.send(conns[0], &text.repeat(50)));
    bill.exactly("commits of 50 messages to a full box", cost.commits, 0);
    bill.at_most("allocations of 50 messages to a full box", cost.allocations, 1515);
    // What is in the queue of a session does not count, and is not read either.
    world.send(conns[0], &message(1).repeat(20));
    world.input(Input::Closed { conn: conns[1] });
    let cost = world.cost_of(|w| w.send(conns[0], &text.repeat(50)));
    bill.exactly("commits of 50 messages to a full box beside a queue", cost.commits, 0);
    bill.at_most("allocations of 50 messages to a full box beside a queue", cost.allocations, 1963);
    bill.settle();
}

#[test]
fn a_bill_sees_what_is_dearer_and_what_is_cheaper() {
    let complains = |counted, budget| {
        let mut bill = Bill::default();
        bill.at_most("x", counted, budget);
        !bill.0.is_empty()
    };
    assert_eq!(
        [complains(101, 100), complains(100, 100), complains(90, 100), complains(89, 100)],
        [true, false, false, true]
    );
    let mut bill = Bill::default();
    bill.exactly("x", 1, 2);
    assert!(!bill.0.is_empty());
    let (_, allocations, bytes) = measured(|| drop(std::hint::black_box(Box::new(1u64))));
    assert_eq!((allocations, bytes), (1, 8));
}

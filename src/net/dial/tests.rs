//! Name servers and servers on loopback addresses.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::thread;

use super::*;
use crate::clock::Entropy;
use crate::dns::message::tests::{a, alias, reply, soa, srv};
use crate::dns::{name, service::Route};
use crate::net::tls::peer_tests::{CAPULET, MONTAGUE, World};
use crate::net::tls::{ALPN_SERVER, TlsAcceptor};

struct Ones;

impl Entropy for Ones {
    fn fill(&mut self, out: &mut [u8]) {
        out.fill(1);
    }
}

/// Answers that a name server gives, by name and number of the kind.
type Zone = Vec<(String, u16, Vec<Vec<u8>>)>;

fn asked(question: &[u8]) -> (String, u16) {
    let (name, end) = name::read(question, 12).unwrap();
    (name, u16::from_be_bytes([question[end], question[end + 1]]))
}

fn answer(zone: &Zone, question: &[u8]) -> Vec<u8> {
    let (name, kind) = asked(question);
    let known = zone.iter().any(|row| row.0 == name);
    let rows = zone.iter().find(|row| row.0 == name && (row.1 == kind || row.1 == 5)).map(|row| &row.2[..]);
    reply(question, if known { 0 } else { 3 }, rows.unwrap_or_default(), &[soa(60, 60)])
}

/// A name server over UDP and TCP. What does not fit into one small packet it cuts.
fn name_server(zone: Zone) -> SocketAddr {
    // A port that is free for both.
    let (udp, tcp, address) = std::iter::repeat_with(|| {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = udp.local_addr().unwrap();
        TcpListener::bind(address).ok().map(|tcp| (udp, tcp, address))
    })
    .flatten()
    .next()
    .unwrap();
    let of_tcp = zone.clone();
    thread::spawn(move || {
        for socket in tcp.incoming() {
            let mut socket = socket.unwrap();
            let mut length = [0; 2];
            socket.read_exact(&mut length).unwrap();
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            socket.read_exact(&mut question).unwrap();
            let message = answer(&of_tcp, &question);
            socket.write_all(&[&(message.len() as u16).to_be_bytes(), &message[..]].concat()).unwrap();
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 2000];
        loop {
            let (length, from) = udp.recv_from(&mut buffer).unwrap();
            let question = &buffer[..length];
            let message = answer(&zone, question);
            if asked(question).0.contains("silent") {
                continue;
            }
            // First what somebody else might send who has not seen the question.
            let mut forged = message.clone();
            forged[0] ^= 0xff;
            udp.send_to(&forged, from).unwrap();
            let cut = if message.len() > 300 { reply(question, 0x200, &[], &[]) } else { message };
            udp.send_to(&cut, from).unwrap();
        }
    });
    address
}

/// A server with direct TLS, which lets one peer in and then says good bye.
fn tls_server(acceptor: TlsAcceptor) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut tls = TlsConn::new(&acceptor).unwrap();
        let mut buffer = vec![0; 20_000];
        loop {
            let length = socket.read(&mut buffer).unwrap();
            let (mut plain, mut out) = (Vec::new(), Vec::new());
            let progress = tls.receive(&mut buffer[..length], &mut plain, &mut out).unwrap();
            if progress == Progress::Finished {
                tls.send(b"early", &mut out).unwrap();
            }
            socket.write_all(&out).unwrap();
            if length == 0 {
                return;
            }
        }
    });
    port
}

fn plain_server() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || for _socket in listener.incoming() {});
    port
}

/// A port at which nobody listens.
fn nobody() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn dialer(world: &World, zone: Zone, routes: Vec<Route>) -> Dialer {
    let clock = Clock::start();
    Dialer {
        resolver: Resolver::new(vec![name_server(zone)], 64, clock, Box::new(Ones)),
        connector: TlsConnector::new(Some(world.issued(CAPULET)), world.verifier()).unwrap(),
        routes,
        patience: Patience { dial_s: 20, connect_s: 10, tls_s: 10 },
        clock,
    }
}

/// One with less patience, for the whole attempt and for one host.
fn impatient(world: &World, zone: Zone, dial_s: u32, connect_s: u32) -> Dialer {
    let patience = Patience { dial_s, connect_s, tls_s: 10 };
    Dialer { patience, ..dialer(world, zone, Vec::new()) }
}

/// The result, and what was told on the way.
fn dial(dialer: &Dialer, domain: &str) -> (Result<Dialed, DialFailure>, Vec<String>) {
    let told = RefCell::new(Vec::new());
    let result = async_io::block_on(dialer.dial(domain, CAPULET, &|line| told.borrow_mut().push(line)));
    (result, told.into_inner())
}

fn direct(domain: &str) -> String {
    format!("_xmpps-server._tcp.{domain}")
}

fn starttls(domain: &str) -> String {
    format!("_xmpp-server._tcp.{domain}")
}

fn row(owner: &str, numbers: [u16; 3], target: &str) -> (String, u16, Vec<Vec<u8>>) {
    (owner.to_string(), 33, vec![srv(owner, numbers, target)])
}

fn local(host: &str) -> (String, u16, Vec<Vec<u8>>) {
    (host.to_string(), 1, vec![a(host, 60, [127, 0, 0, 1])])
}

#[test]
fn direct_tls_stands_when_the_connection_is_handed_over() {
    let world = World::new();
    let acceptor =
        TlsAcceptor::for_servers(world.issued(MONTAGUE).resolver(), &[ALPN_SERVER], world.verifier()).unwrap();
    let port = tls_server(acceptor);
    let zone = vec![
        row(&direct(MONTAGUE), [5, 0, port], "xmpp.montague.example"),
        row(&starttls(MONTAGUE), [10, 0, nobody()], "xmpp.montague.example"),
        local("xmpp.montague.example"),
    ];
    let dialer = dialer(&world, zone, Vec::new());
    let (result, told) = dial(&dialer, MONTAGUE);
    let dialed = result.unwrap_or_else(|error| panic!("{error}: {told:#?}"));
    let (_, facts) = dialed.tls.unwrap();
    assert_eq!(facts.alpn.as_deref(), Some(ALPN_SERVER));
    assert!(facts.peer.unwrap().proves(MONTAGUE));
    assert!(
        told.contains(&format!("SRV _xmpps-server._tcp.{MONTAGUE}: 5 0 {port} xmpp.montague.example.")),
        "{told:#?}"
    );
}

#[test]
fn what_fails_is_passed_over() {
    let world = World::new();
    let (silent, port) = (nobody(), plain_server());
    let zone = vec![
        row(&direct(MONTAGUE), [5, 0, silent], "dead.example"),
        row(&starttls(MONTAGUE), [10, 0, port], "alias.example"),
        local("dead.example"),
        ("alias.example".to_string(), 5, vec![alias("alias.example", 60, "live.example")]),
        local("live.example"),
    ];
    let dialer = dialer(&world, zone, Vec::new());
    let (result, told) = dial(&dialer, MONTAGUE);
    let dialed = result.unwrap_or_else(|error| panic!("{error}: {told:#?}"));
    assert!(dialed.tls.is_none() && dialed.plain.is_empty());
    assert_eq!(dialed.socket.get_ref().peer_addr().unwrap().port(), port);
    assert!(told.iter().any(|line| line.starts_with("dead.example:") && line.contains("refused")), "{told:#?}");
}

#[test]
fn a_host_has_its_time_and_so_has_the_whole_attempt() {
    let world = World::new();
    let port = plain_server();
    let zone = vec![
        row(&starttls(MONTAGUE), [5, 0, port], "silent.example"),
        (
            starttls(CAPULET),
            33,
            vec![
                srv(&starttls(CAPULET), [5, 0, port], "silent.example"),
                srv(&starttls(CAPULET), [9, 0, port], "localhost"),
            ],
        ),
    ];
    let dialer = impatient(&world, zone.clone(), 20, 1);
    assert_eq!(dial(&dialer, MONTAGUE).0.err(), Some(DialFailure::Timeout));
    let (result, told) = dial(&dialer, CAPULET);
    assert!(result.is_ok(), "the next host is tried: {told:#?}");
    let dialer = impatient(&world, zone, 1, 20);
    assert_eq!(dial(&dialer, CAPULET).0.err(), Some(DialFailure::Timeout));
    assert_eq!(dial(&dialer, "silent.org").0.err(), Some(DialFailure::Timeout), "no name server answers");
}

#[test]
fn a_long_answer_comes_by_tcp_and_is_remembered() {
    let world = World::new();
    let port = plain_server();
    let owner = starttls(MONTAGUE);
    let mut rows: Vec<Vec<u8>> =
        (0..12).map(|n| srv(&owner, [20, 0, 1], &format!("host-number-{n}.montague.example"))).collect();
    rows.push(srv(&owner, [1, 0, port], "localhost"));
    let dialer = dialer(&world, vec![(owner, 33, rows)], Vec::new());
    assert!(dial(&dialer, MONTAGUE).0.is_ok());
    // With no name server left.
    let dialer = Dialer { resolver: forget_servers(dialer.resolver), ..dialer };
    assert!(dial(&dialer, MONTAGUE).0.is_ok());
}

/// The same cache, and a name server that is not there.
fn forget_servers(mut resolver: Resolver) -> Resolver {
    resolver.ask_only(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, nobody()))]);
    resolver
}

#[test]
fn a_domain_without_server_is_told_from_one_that_is_down() {
    let world = World::new();
    let zone = vec![
        row(&starttls("dot.example"), [0, 0, 0], ""),
        row(&starttls("down.example"), [0, 0, nobody()], "localhost"),
        row(&starttls("lost.example"), [0, 0, 1], "nowhere.example"),
    ];
    let dialer = dialer(&world, zone, Vec::new());
    let failure = |domain: &str| dial(&dialer, domain).0.err();
    assert_eq!(failure("dot.example"), Some(DialFailure::NotFound));
    assert_eq!(failure("unknown.example"), Some(DialFailure::NotFound));
    assert_eq!(failure("lost.example"), Some(DialFailure::NotFound));
    let down = failure("down.example");
    assert!(matches!(&down, Some(DialFailure::Unreachable(why)) if why.contains("refused")), "{down:?}");
    let long = format!("{}.example", "a".repeat(64));
    assert_eq!(failure(&long), Some(DialFailure::NotFound));
}

#[test]
fn the_operator_knows_better_than_dns() {
    let world = World::new();
    let port = plain_server();
    let route = |port| Route {
        domain: MONTAGUE.to_string(),
        target: Target { host: "127.0.0.1".to_string(), port, direct_tls: false },
    };
    let zone = vec![row(&starttls(MONTAGUE), [0, 0, 0], "")];
    let dialer = dialer(&world, zone, vec![route(nobody()), route(port)]);
    assert!(dial(&dialer, MONTAGUE).0.is_ok());
    assert_eq!(dial(&dialer, "127.0.0.1.").0.err(), Some(DialFailure::NotFound));
}

#[test]
fn a_peer_that_breaks_tls_is_told_so() {
    let world = World::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.write_all(b"<?xml version='1.0'?><stream:stream>").unwrap();
        let _ = socket.read(&mut [0; 4096]);
    });
    let dialer = dialer(&world, vec![row(&direct(MONTAGUE), [0, 0, port], "localhost")], Vec::new());
    let failure = dial(&dialer, MONTAGUE).0.err();
    assert!(matches!(failure, Some(DialFailure::Tls(_))), "{failure:?}");
}

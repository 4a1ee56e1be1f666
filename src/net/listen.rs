//! Listening sockets: bound all together before anything else starts, so that a taken port is found at once and while
//! the process may be root; opened when somebody is there to serve who connects.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use async_io::Async;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use super::activation::Passed;
use crate::core::io::{Role, Transport};

/// Connections that the kernel completes ahead of `accept`; more wait in their SYN.
const BACKLOG: i32 = 1024;

/// When the kernel tells us that a peer has vanished without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe in seconds; 0 sends none.
    pub idle_s: u32,
    /// Between probes, in seconds.
    pub interval_s: u32,
    /// Probes without an answer before the connection counts as lost.
    pub count: u32,
}

impl Default for Keepalive {
    /// A lost mobile peer is noticed after 10 minutes and a half; its radio is woken every 7.5 minutes at most.
    fn default() -> Self {
        Self { idle_s: 450, interval_s: 60, count: 3 }
    }
}

/// A socket that has its port and is still shut.
#[derive(Debug)]
pub struct Bound {
    socket: TcpListener,
    address: SocketAddr,
    role: Role,
    transport: Transport,
}

/// One listening socket.
#[derive(Debug)]
pub struct Listener {
    /// The socket, nonblocking.
    pub socket: Async<TcpListener>,
    /// Where it really listens; differs from the wish where that had port 0 or IPv6 is off.
    pub address: SocketAddr,
    /// Who connects to it.
    pub role: Role,
    /// What is spoken on it.
    pub transport: Transport,
}

/// Where to listen, and for whom and what.
pub type Wish = (SocketAddr, Role, Transport);

/// The key of the configuration that says where to listen.
pub fn key_of(role: Role, transport: Transport) -> &'static str {
    match (role, transport) {
        (Role::Client, Transport::StartTls) => "c2s.listen",
        (Role::Client, Transport::DirectTls) => "c2s.direct_tls_listen",
        (Role::Component, _) => "components.listen",
        (Role::Server, Transport::StartTls) => "s2s.listen",
        (Role::Server, Transport::DirectTls) => "s2s.direct_tls_listen",
        (Role::Web, Transport::StartTls) => "http.listen",
        (Role::Web, Transport::DirectTls) => "http.tls_listen",
        (Role::Authority, _) => "acme.listen",
    }
}

/// Why a socket cannot listen.
#[derive(Debug)]
pub struct ListenError {
    address: SocketAddr,
    role: Role,
    transport: Transport,
    error: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, role, transport, error } = self;
        let port = address.port();
        let key = key_of(*role, *transport);
        match Errno::from_io_error(error) {
            Some(Errno::ADDRINUSE) => {
                write!(
                    f,
                    "another server listens on {address}: stop it (`ss -ltnp sport = :{port}` shows it) or set {key}"
                )
            }
            Some(Errno::ACCESS | Errno::PERM) if port < 1024 => write!(
                f,
                "not allowed to listen on {address}: ports below 1024 need `setcap cap_net_bind_service=+ep` on the \
                 couplet binary; or set {key} to a higher port"
            ),
            Some(Errno::ADDRNOTAVAIL) => {
                write!(f, "cannot listen on {address}: this machine has no such address; set {key} to one it has")
            }
            _ => write!(f, "cannot listen on {address}: {error}; set {key} to another address"),
        }
    }
}

impl std::error::Error for ListenError {}

/// Binds one socket to each address, in that order. `[::]` takes IPv4 too, and becomes `0.0.0.0` on a machine without
/// IPv6. Where something was passed for a role and a transport, it comes last, and takes the place of all their wishes.
///
/// # Errors
/// For the first address that does not work; those bound before are closed again.
pub fn bind(wishes: &[Wish], passed: Vec<Passed>) -> Result<Vec<Bound>, ListenError> {
    let is_passed = |(_, role, transport): &&Wish| passed.iter().any(|p| (p.role, p.transport) == (*role, *transport));
    let wishes = wishes.iter().filter(|wish| !is_passed(wish));
    let bound = wishes.map(|&(address, role, transport)| bind_one(address, role, transport));
    let mut bound = bound.collect::<Result<Vec<_>, _>>()?;
    for Passed { socket, role, transport } in passed {
        let unnamed = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let address = socket.local_addr().map_err(|error| ListenError { address: unnamed, role, transport, error })?;
        bound.push(Bound { socket, address, role, transport });
    }
    Ok(bound)
}

fn bind_one(address: SocketAddr, role: Role, transport: Transport) -> Result<Bound, ListenError> {
    let failed = |error| ListenError { address, role, transport, error };
    let bound = match reserve(address) {
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) if address.is_ipv6() && address.ip().is_unspecified() => {
            reserve(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
        }
        bound => bound,
    };
    let socket = bound.map_err(|errno| failed(errno.into()))?;
    let address = socket.local_addr().map_err(failed)?;
    Ok(Bound { socket, address, role, transport })
}

/// Opens what was bound.
///
/// # Errors
/// For the first that does not work: another server was faster.
pub fn open(bound: Vec<Bound>) -> Result<Vec<Listener>, ListenError> {
    let open_one = |Bound { socket, address, role, transport }: Bound| {
        let opened = net::listen(&socket, BACKLOG).map_err(io::Error::from).and_then(|()| Async::new(socket));
        match opened {
            Ok(socket) => Ok(Listener { socket, address, role, transport }),
            Err(error) => Err(ListenError { address, role, transport, error }),
        }
    };
    bound.into_iter().map(open_one).collect()
}

fn reserve(address: SocketAddr) -> rustix::io::Result<TcpListener> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket: OwnedFd = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Lets a restart bind while connections of the predecessor are still in TIME_WAIT.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // `[::]` means both families whatever net.ipv6.bindv6only says.
        sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
    }
    net::bind(&socket, &address)?;
    Ok(TcpListener::from(socket))
}

/// Sets a fresh connection's options: whether small writes leave at once (stanzas are small), and keep-alive.
///
/// # Errors
/// When the peer has gone already, on some systems.
pub fn tune(socket: &TcpStream, nodelay: bool, keepalive: Keepalive) -> io::Result<()> {
    sockopt::set_tcp_nodelay(socket, nodelay)?;
    if keepalive.idle_s > 0 {
        sockopt::set_tcp_keepidle(socket, seconds(keepalive.idle_s))?;
        sockopt::set_tcp_keepintvl(socket, seconds(keepalive.interval_s))?;
        sockopt::set_tcp_keepcnt(socket, keepalive.count.clamp(1, 127))?;
        sockopt::set_socket_keepalive(socket, true)?;
    }
    Ok(())
}

/// Linux refuses more than 32767 seconds, and zero.
fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.clamp(1, 32_767).into())
}

/// Whether accepting failed for want of file descriptors or memory: then trying again at once helps nobody.
pub fn is_exhaustion(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_its_remedy() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let first = open(bind(&[(any, Role::Client, Transport::StartTls)], Vec::new()).unwrap()).unwrap();
        let address = first[0].address;
        let error = bind(
            &[(any, Role::Client, Transport::DirectTls), (address, Role::Client, Transport::StartTls)],
            Vec::new(),
        )
        .unwrap_err()
        .to_string();
        let port = address.port();
        assert_eq!(
            error,
            format!(
                "another server listens on 127.0.0.1:{port}: stop it (`ss -ltnp sport = :{port}` shows it) \
                 or set c2s.listen"
            )
        );
    }

    #[test]
    fn a_foreign_address_is_refused_by_name() {
        let foreign = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 0));
        for (role, key) in [(Role::Client, "c2s.direct_tls_listen"), (Role::Server, "s2s.direct_tls_listen")] {
            let error = bind(&[(foreign, role, Transport::DirectTls)], Vec::new()).unwrap_err().to_string();
            assert!(error.contains("192.0.2.1:0") && error.contains(key), "{error}");
        }
    }

    #[test]
    fn the_unspecified_v6_address_takes_v4_as_well() {
        let any = "[::]:0".parse().unwrap();
        let listeners = open(bind(&[(any, Role::Client, Transport::StartTls)], Vec::new()).unwrap()).unwrap();
        let port = listeners[0].address.port();
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        tune(&client, true, Keepalive::default()).unwrap();
        assert!(client.nodelay().unwrap());
        assert!(sockopt::socket_keepalive(&client).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&client).unwrap(), Duration::from_secs(450));
    }

    #[test]
    fn what_is_passed_takes_the_place_of_what_its_key_says() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let socket = TcpListener::bind(any).unwrap();
        let port = socket.local_addr().unwrap().port();
        let taken = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let wishes = [(taken, Role::Client, Transport::StartTls), (any, Role::Client, Transport::DirectTls)];
        let passed = vec![Passed { socket, role: Role::Client, transport: Transport::StartTls }];
        let listeners = open(bind(&wishes, passed).unwrap()).unwrap();
        let kinds: Vec<_> = listeners.iter().map(|l| (l.transport, l.address.port() == port)).collect();
        assert_eq!(kinds, [(Transport::DirectTls, false), (Transport::StartTls, true)]);
        TcpStream::connect(taken).unwrap();
    }
}

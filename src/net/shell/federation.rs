//! The shell's side of other servers: what is shared by connections with them, and the attempts to make some.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use smol::{LocalExecutor, Task};

use super::guard::guarded;
use super::{Report, Shell};
use crate::clock::Now;
use crate::core::io::{ConnId, DialFailure, Input, Role, Transport};
use crate::dns::service::Route;
use crate::fault::{Fault, trip};
use crate::limits::Limits;
use crate::net::authorities::Authorities;
use crate::net::bell::{Bell, Clapper, Token};
use crate::net::certs::CertStore;
use crate::net::clock::{Clock, SystemEntropy};
use crate::net::conn::{Conn, Origin};
use crate::net::dial::{Dialed, Dialer, Patience};
use crate::net::dns::Resolver;
use crate::net::listen;
use crate::net::tls::{ALPN_CLIENT, ALPN_SERVER, PeerVerifier, TlsAcceptor, TlsConnector, TlsError};

/// How other servers are found and believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Federation {
    /// File of the authorities that are believed; None is the system's.
    pub authorities: Option<PathBuf>,
    /// Where servers are, whatever DNS says.
    pub routes: Vec<Route>,
    /// Whom to ask in place of the system's name servers.
    pub name_servers: Vec<SocketAddr>,
}

/// What is spoken with clients where TLS starts with the first byte. One port is enough for both: who has not said
/// what he speaks, speaks what the port is for.
#[cfg(feature = "http")]
const OF_CLIENTS: &[&[u8]] = &[ALPN_CLIENT, crate::net::tls::ALPN_HTTP];
#[cfg(not(feature = "http"))]
const OF_CLIENTS: &[&[u8]] = &[ALPN_CLIENT];

/// TLS for every kind of connection.
pub struct Tls {
    /// Clients, where it starts with the first byte (RFC 7301 protocol xmpp-client, XEP-0368), and HTTP.
    client_direct: TlsAcceptor,
    /// Clients, where it starts later (RFC 6120 section 5).
    client_later: TlsAcceptor,
    /// The same for servers, whose certificates are looked at.
    server_direct: TlsAcceptor,
    server_later: TlsAcceptor,
    /// To other servers.
    pub connector: TlsConnector,
    /// The certificates of all.
    pub certificates: CertStore,
}

impl Tls {
    /// TLS with these certificates.
    ///
    /// # Errors
    /// When the cryptography at hand does not fit.
    pub fn new(certificates: CertStore, federation: &Federation) -> Result<Self, TlsError> {
        let verifier = Arc::new(PeerVerifier::new(Authorities::new(federation.authorities.clone())));
        let resolver = || certificates.resolver();
        Ok(Self {
            client_direct: TlsAcceptor::new(resolver(), OF_CLIENTS)?,
            client_later: TlsAcceptor::new(resolver(), &[])?,
            server_direct: TlsAcceptor::for_servers(resolver(), &[ALPN_SERVER], verifier.clone())?,
            server_later: TlsAcceptor::for_servers(resolver(), &[], verifier.clone())?,
            connector: TlsConnector::new(Some(certificates.clone()), verifier)?,
            certificates,
        })
    }

    /// For connections that come in.
    pub fn acceptor(&self, role: Role, transport: Transport) -> &TlsAcceptor {
        match (role, transport) {
            (Role::Client | Role::Web | Role::Authority, Transport::DirectTls) => &self.client_direct,
            (Role::Client | Role::Web | Role::Authority, Transport::StartTls) => &self.client_later,
            (Role::Server | Role::Component, Transport::DirectTls) => &self.server_direct,
            // Components do not start TLS.
            (Role::Server | Role::Component, Transport::StartTls) => &self.server_later,
        }
    }
}

/// An attempt to connect.
#[derive(Debug)]
struct Wanted {
    conn: ConnId,
    domain: String,
    host: String,
}

/// Attempts to connect: some under way, the others in their order.
pub struct Dials {
    executor: Rc<LocalExecutor<'static>>,
    dialer: Option<Rc<Dialer>>,
    waiting: VecDeque<Wanted>,
    /// Dropping one ends it.
    under_way: HashMap<ConnId, (Task<()>, Wanted)>,
}

impl Dials {
    /// No attempt yet, and none possible before there is a dialer.
    pub fn new(executor: Rc<LocalExecutor<'static>>) -> Self {
        Self { executor, dialer: None, waiting: VecDeque::new(), under_way: HashMap::new() }
    }

    /// How attempts are made from now on. The cache of names begins anew.
    pub fn configure(&mut self, federation: &Federation, limits: &Limits, connector: TlsConnector, clock: Clock) {
        let Some(entropy) = SystemEntropy::open() else { return };
        let answers_max = limits.dns_answers_max;
        let resolver = Resolver::new(federation.name_servers.clone(), answers_max, clock, Box::new(entropy));
        let patience = Patience {
            dial_s: limits.s2s_dial_timeout_s,
            connect_s: limits.s2s_connect_timeout_s,
            tls_s: limits.tls_timeout_s,
        };
        let routes = federation.routes.clone();
        self.dialer = Some(Rc::new(Dialer { resolver, connector, routes, patience, clock }));
    }

    /// What runs attempts, and other tasks.
    #[cfg(feature = "acme")]
    pub fn executor(&self) -> &Rc<LocalExecutor<'static>> {
        &self.executor
    }

    /// Forgets the addresses of servers.
    pub fn forget_names(&self) {
        if let Some(dialer) = &self.dialer {
            dialer.resolver.forget();
        }
    }

    /// Attempts, under way and waiting.
    pub fn len(&self) -> usize {
        self.under_way.len() + self.waiting.len()
    }

    /// Begins with what waits, as far as `dials_max` allows.
    fn start(&mut self, dials_max: u32, bell: &Arc<Bell<Report>>) {
        let Some(dialer) = &self.dialer else { return };
        while self.under_way.len() < dials_max.max(1) as usize {
            let Some(wanted) = self.waiting.pop_front() else { return };
            let (dialer, bell) = (dialer.clone(), bell.clone());
            let (conn, domain, host) = (wanted.conn, wanted.domain.clone(), wanted.host.clone());
            let task = self.executor.spawn(async move {
                let tell = |line| log::debug!("{domain}: {line}");
                let result = guarded(async {
                    trip(Fault::PanicDial);
                    dialer.dial(&domain, &host, &tell).await
                });
                let bug = || Err(DialFailure::Unreachable("a bug of ours; the log has it".to_owned()));
                let result = result.await.unwrap_or_else(bug);
                bell.report(Report::Dialed(conn, Box::new(result)));
            });
            self.under_way.insert(conn, (task, wanted));
        }
    }

    /// Gives up an attempt. False when there is none of that name.
    fn cancel(&mut self, conn: ConnId) -> bool {
        let before = self.len();
        self.waiting.retain(|wanted| wanted.conn != conn);
        self.under_way.remove(&conn);
        self.len() < before
    }
}

impl Shell {
    /// Begins to connect, or puts it behind others.
    pub(super) fn dial(&mut self, conn: ConnId, domain: String, host: String) {
        self.dials.waiting.push_back(Wanted { conn, domain, host });
        self.start_dials();
    }

    fn start_dials(&mut self) {
        self.dials.start(self.tuning.limits.s2s_dials_max, &self.bell);
    }

    /// The engine closes a connection that does not stand yet.
    pub(super) fn cancel_dial(&mut self, conn: ConnId) -> bool {
        let cancelled = self.dials.cancel(conn);
        self.start_dials();
        cancelled
    }

    /// An attempt has come to its end.
    pub(super) fn dialed(&mut self, id: ConnId, result: Result<Dialed, DialFailure>, now: Now) {
        // The engine may have given it up while the report was on its way.
        let Some((_, wanted)) = self.dials.under_way.remove(&id) else { return };
        self.start_dials();
        let result = result.and_then(|dialed| {
            let Dialed { socket, tls, plain } = dialed;
            let (tls, facts) = tls.unzip();
            let clapper = Clapper::new(self.bell.clone(), Token::Conn(id));
            let origin = Origin::Dialed(Box::new((wanted.host, wanted.domain)));
            let tuned = listen::tune(socket.get_ref(), self.tuning.nodelay, self.tuning.keepalive);
            tuned.map_err(|error| DialFailure::Unreachable(error.to_string()))?;
            Ok((Conn::dialed(socket, clapper, tls, origin), facts, plain))
        });
        match result {
            Ok((conn, tls, plain)) => {
                self.conns.insert(id, Box::new(conn));
                self.tell_held(id, now);
                self.engine.handle(now, Input::Dialed { conn: id, tls });
                if !plain.is_empty() {
                    self.engine.handle(now, Input::Bytes { conn: id, data: &plain });
                }
                self.enqueue(id);
            }
            Err(why) => self.engine.handle(now, Input::DialFailed { conn: id, why }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use super::*;
    use crate::core::slab::Slab;
    use crate::net::tls::peer_tests::World;

    #[test]
    fn so_many_are_under_way_and_the_next_begins_when_one_ends() {
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let federation = Federation { name_servers: vec![silent.local_addr().unwrap()], ..Federation::default() };
        let connector = TlsConnector::new(None, World::new().verifier()).unwrap();
        let mut dials = Dials::new(Rc::new(LocalExecutor::new()));
        dials.configure(&federation, &Limits::default(), connector, Clock::start());
        let bell = Arc::default();
        let mut names = Slab::default();
        let wanted: Vec<ConnId> = (0..4).map(|_| ConnId(names.insert(()))).collect();
        for conn in &wanted {
            let (domain, host) = ("example.org".to_owned(), "localhost".to_owned());
            dials.waiting.push_back(Wanted { conn: *conn, domain, host });
            dials.start(2, &bell);
        }
        let under_way =
            |dials: &Dials| wanted.iter().map(|conn| dials.under_way.contains_key(conn)).collect::<Vec<_>>();
        assert_eq!(under_way(&dials), [true, true, false, false]);
        assert!(dials.cancel(wanted[2]), "one that waits");
        assert!(dials.cancel(wanted[0]) && !dials.cancel(wanted[0]));
        dials.start(2, &bell);
        assert_eq!(under_way(&dials), [false, true, false, true]);
        assert_eq!(dials.len(), 2);
    }
}

//! The shell's side of other servers: what is shared by connections with them, and the attempts to make some.

use std::collections::HashMap;
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

/// One attempt, which ends when it is dropped: the host in whose name it is made, and the domain.
struct Attempt {
    _task: Task<()>,
    names: Box<(String, String)>,
}

/// Attempts to connect, of which the engine begins so many at a time.
pub struct Dials {
    executor: Rc<LocalExecutor<'static>>,
    dialer: Option<Rc<Dialer>>,
    under_way: HashMap<ConnId, Attempt>,
}

impl Dials {
    /// No attempt yet, and none possible before there is a dialer.
    pub fn new(executor: Rc<LocalExecutor<'static>>) -> Self {
        Self { executor, dialer: None, under_way: HashMap::new() }
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
    #[cfg(any(feature = "acme", feature = "statistics"))]
    pub fn executor(&self) -> &Rc<LocalExecutor<'static>> {
        &self.executor
    }

    /// What finds addresses, once there is one.
    #[cfg(feature = "statistics")]
    pub fn dialer(&self) -> Option<&Rc<Dialer>> {
        self.dialer.as_ref()
    }

    /// Forgets the addresses of servers.
    pub fn forget_names(&self) {
        if let Some(dialer) = &self.dialer {
            dialer.resolver.forget();
        }
    }

    /// Attempts under way.
    pub fn len(&self) -> usize {
        self.under_way.len()
    }

    fn start(&mut self, conn: ConnId, domain: String, host: String, bell: &Arc<Bell<Report>>) {
        let Some(dialer) = &self.dialer else { return };
        let (dialer, bell) = (dialer.clone(), bell.clone());
        let names = Box::new((host.clone(), domain.clone()));
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
        self.under_way.insert(conn, Attempt { _task: task, names });
    }

    /// Gives up an attempt. False when there is none of that name.
    fn cancel(&mut self, conn: ConnId) -> bool {
        self.under_way.remove(&conn).is_some()
    }
}

impl Shell {
    /// Begins to connect.
    pub(super) fn dial(&mut self, conn: ConnId, domain: String, host: String) {
        self.dials.start(conn, domain, host, &self.bell);
    }

    /// The engine closes a connection that does not stand yet.
    pub(super) fn cancel_dial(&mut self, conn: ConnId) -> bool {
        self.dials.cancel(conn)
    }

    /// An attempt has come to its end.
    pub(super) fn dialed(&mut self, id: ConnId, result: Result<Dialed, DialFailure>, now: Now) {
        // The engine may have given it up while the report was on its way.
        let Some(Attempt { names, .. }) = self.dials.under_way.remove(&id) else { return };
        let result = result.and_then(|dialed| {
            let Dialed { socket, tls, plain } = dialed;
            let (tls, facts) = tls.unzip();
            let clapper = Clapper::new(self.bell.clone(), Token::Conn(id));
            let origin = Origin::Dialed(names);
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

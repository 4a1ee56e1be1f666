//! Connecting to the server of a domain: where it is, which address answers, and TLS where it comes first.
//!
//! One future is one attempt. It holds all sockets and timers of the attempt, so that dropping it ends everything.

use std::future::{self, Future};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_io::{Async, Timer};
use smol::future::FutureExt;
use smol::io::{AsyncReadExt, AsyncWriteExt};

use crate::core::io::DialFailure;
use crate::dns::race::{Race, Step};
use crate::dns::service::{self, Route, Target};
use crate::dns::{DnsError, Kind};
use crate::net::clock::Clock;
use crate::net::dns::Resolver;
use crate::net::tls::{Progress, TlsConn, TlsConnector};
use crate::stream::TlsFacts;

/// Room for a TLS record.
const READ_BYTES: usize = 18 * 1024;

/// How long is waited for what, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For the whole attempt.
    pub dial_s: u32,
    /// For one host to take the connection.
    pub connect_s: u32,
    /// For one TLS handshake.
    pub tls_s: u32,
}

/// Connects to servers.
pub struct Dialer {
    /// Finds them.
    pub resolver: Resolver,
    /// TLS with them.
    pub connector: TlsConnector,
    /// Overrides; several of one domain are tried in their order.
    pub routes: Vec<Route>,
    /// When to give up.
    pub patience: Patience,
    /// The time.
    pub clock: Clock,
}

/// A connection that stands.
pub struct Dialed {
    /// The socket.
    pub socket: Async<TcpStream>,
    /// Direct TLS, its handshake done, and what it has found out.
    pub tls: Option<(Box<TlsConn>, TlsFacts)>,
    /// What came behind the handshake, decrypted.
    pub plain: Vec<u8>,
}

/// Who wants to know what is tried and what comes of it, a line each.
pub type Tell<'a> = &'a dyn Fn(String);

type Attempt = Pin<Box<dyn Future<Output = io::Result<Async<TcpStream>>>>>;

impl Dialer {
    /// Connects to the server of `domain` (A-labels) in the name of `host`, one of ours.
    ///
    /// # Errors
    /// Why none can be reached.
    pub async fn dial(&self, domain: &str, host: &str, tell: Tell<'_>) -> Result<Dialed, DialFailure> {
        within(self.patience.dial_s, self.find_and_connect(domain, host, tell))
            .await
            .unwrap_or(Err(DialFailure::Timeout))
    }

    async fn find_and_connect(&self, domain: &str, host: &str, tell: Tell<'_>) -> Result<Dialed, DialFailure> {
        let targets = self.find(domain, tell).await?;
        let mut failure = DialFailure::NotFound;
        for target in &targets {
            let Target { host: name, port, direct_tls } = target;
            tell(format!("trying {name}:{port} ({})", if *direct_tls { "direct TLS" } else { "STARTTLS" }));
            let reached = reach(&self.resolver, self.clock, name, *port, tell);
            let reached = within(self.patience.connect_s, reached).await;
            let result = match reached.unwrap_or(Err(DialFailure::Timeout)) {
                Ok(socket) if *direct_tls => {
                    let shaken = within(self.patience.tls_s, self.start_tls(socket, domain, host)).await;
                    shaken.unwrap_or(Err(DialFailure::Timeout))
                }
                Ok(socket) => Ok(Dialed { socket, tls: None, plain: Vec::new() }),
                Err(failure) => Err(failure),
            };
            match result {
                Ok(dialed) => return Ok(dialed),
                Err(why) => {
                    tell(format!("{name}:{port}: {why}"));
                    failure = why;
                }
            }
        }
        Err(failure)
    }

    /// The places to try.
    async fn find(&self, domain: &str, tell: Tell<'_>) -> Result<Vec<Target>, DialFailure> {
        let routes = self.routes.iter().filter(|route| route.domain == domain);
        let routes: Vec<Target> = routes.map(|route| route.target.clone()).collect();
        if !routes.is_empty() {
            tell(format!("{domain}: s2s.routes says where it is"));
            return Ok(routes);
        }
        let address = domain.trim_start_matches('[').trim_end_matches(']');
        if address.parse::<std::net::IpAddr>().is_ok() {
            return Ok(vec![Target { host: address.to_owned(), port: service::PORT, direct_tls: false }]);
        }
        let [direct, starttls] = service::names(domain).ok_or(DialFailure::NotFound)?;
        let ask = |name: String| async move {
            let found = self.resolver.records(&name, Kind::Srv).await;
            match &found {
                Ok(records) => tell(format!(
                    "SRV {name}: {}",
                    records.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                )),
                Err(error) => tell(format!("SRV {name}: {error}")),
            }
            found
        };
        let (direct, starttls) = smol::future::zip(ask(direct), ask(starttls)).await;
        let targets = service::targets(domain, direct, starttls, &mut **self.resolver.entropy());
        targets.ok_or_else(|| {
            tell(format!("{domain} says that no server serves it"));
            DialFailure::NotFound
        })
    }

    async fn start_tls(&self, socket: Async<TcpStream>, domain: &str, host: &str) -> Result<Dialed, DialFailure> {
        let mut out = Vec::new();
        let tls = TlsConn::connect(&self.connector, host, domain, true, &mut out);
        shake_hands(socket, tls.map_err(|error| DialFailure::Tls(error.to_string()))?, out).await
    }
}

/// The first connection that stands among the addresses of a host.
///
/// # Errors
/// Why there is none.
pub async fn reach(
    resolver: &Resolver,
    clock: Clock,
    host: &str,
    port: u16,
    tell: Tell<'_>,
) -> Result<Async<TcpStream>, DialFailure> {
    let mut race = Race::new(port);
    let mut v6 = Some(Box::pin(resolver.addresses(host, Kind::Aaaa)));
    let mut v4 = Some(Box::pin(resolver.addresses(host, Kind::A)));
    let mut attempts: Vec<(SocketAddr, Attempt)> = Vec::new();
    let mut negative = true;
    let mut last = None;
    loop {
        let timer = match race.next(clock.now()) {
            Step::Connect(address) => {
                attempts.push((address, Box::pin(Async::<TcpStream>::connect(address))));
                continue;
            }
            Step::Over => {
                return Err(match last {
                    Some(why) => DialFailure::Unreachable(why),
                    None if negative => DialFailure::NotFound,
                    None => DialFailure::Unreachable(format!("the address of {host} cannot be found")),
                });
            }
            Step::Wait(until_ms) => until_ms.and_then(|at| clock.instant(at)).map_or(Timer::never(), Timer::at),
        };
        let mut timer = timer;
        let event = future::poll_fn(|cx| poll_event(&mut v6, &mut v4, &mut attempts, &mut timer, cx)).await;
        match event {
            Event::V6(found) => {
                note(host, "AAAA", &found, &mut negative, tell);
                race.found_v6(&found.unwrap_or_default());
            }
            Event::V4(found) => {
                note(host, "A", &found, &mut negative, tell);
                race.found_v4(&found.unwrap_or_default(), clock.now());
            }
            Event::Connected(address, Ok(socket)) => {
                tell(format!("connected to {address}"));
                return Ok(socket);
            }
            Event::Connected(address, Err(error)) => {
                race.failed();
                let why = format!("{address}: {error}");
                tell(why.clone());
                last = Some(why);
            }
            Event::Alarm => {}
        }
    }
}

/// Shakes hands as client of TLS, whose first bytes are in `out`.
///
/// # Errors
/// Why that fails.
pub async fn shake_hands(mut socket: Async<TcpStream>, tls: TlsConn, mut out: Vec<u8>) -> Result<Dialed, DialFailure> {
    let failed = |error: &dyn std::fmt::Display| DialFailure::Tls(error.to_string());
    let (mut tls, mut plain) = (Box::new(tls), Vec::new());
    let mut buffer = vec![0; READ_BYTES];
    loop {
        socket.write_all(&out).await.map_err(|error| failed(&error))?;
        out.clear();
        let read = socket.read(&mut buffer).await.map_err(|error| failed(&error))?;
        if read == 0 {
            return Err(failed(&"the peer closes the connection"));
        }
        let progress = tls.receive(buffer.get_mut(..read).unwrap_or_default(), &mut plain, &mut out);
        let is_finished = match progress {
            Ok(progress) => progress == Progress::Finished,
            Err(error) => {
                // The alert; whether it arrives is the peer's business.
                let _ = socket.write_all(&out).await;
                return Err(failed(&error));
            }
        };
        if is_finished {
            socket.write_all(&out).await.map_err(|error| failed(&error))?;
            let facts = tls.facts();
            return Ok(Dialed { socket, tls: Some((tls, facts)), plain });
        }
    }
}

fn note<T: ToString>(host: &str, kind: &str, found: &Result<Vec<T>, DnsError>, negative: &mut bool, tell: Tell<'_>) {
    match found {
        Ok(addresses) => {
            *negative = false;
            tell(format!("{kind} {host}: {}", addresses.iter().map(T::to_string).collect::<Vec<_>>().join(", ")));
        }
        Err(error) => {
            *negative &= error.is_negative() || *error == DnsError::BadName;
            tell(format!("{kind} {host}: {error}"));
        }
    }
}

/// What a race waits for.
enum Event<T> {
    V6(T),
    V4(T),
    Connected(SocketAddr, io::Result<Async<TcpStream>>),
    Alarm,
}

fn poll_event<F: Future + Unpin>(
    v6: &mut Option<F>,
    v4: &mut Option<F>,
    attempts: &mut Vec<(SocketAddr, Attempt)>,
    timer: &mut Timer,
    cx: &mut Context<'_>,
) -> Poll<Event<F::Output>> {
    if let Some(Poll::Ready(found)) = v6.as_mut().map(|asking| Pin::new(asking).poll(cx)) {
        *v6 = None;
        return Poll::Ready(Event::V6(found));
    }
    if let Some(Poll::Ready(found)) = v4.as_mut().map(|asking| Pin::new(asking).poll(cx)) {
        *v4 = None;
        return Poll::Ready(Event::V4(found));
    }
    for index in 0..attempts.len() {
        let Some((address, attempt)) = attempts.get_mut(index) else { continue };
        if let Poll::Ready(result) = attempt.as_mut().poll(cx) {
            let address = *address;
            drop(attempts.swap_remove(index));
            return Poll::Ready(Event::Connected(address, result));
        }
    }
    Pin::new(timer).poll(cx).map(|_| Event::Alarm)
}

/// The result of a future, or None when it takes longer.
///
/// What is in the future lies on the heap: a future that holds another by value has room for it twice, and an attempt
/// has several in each other, which made 25 kB of it.
pub fn within<T>(seconds: u32, future: impl Future<Output = T>) -> impl Future<Output = Option<T>> {
    let future = Box::pin(future);
    async move {
        let late = async {
            Timer::after(Duration::from_secs(seconds.into())).await;
            None
        };
        async { Some(future.await) }.or(late).await
    }
}

#[cfg(test)]
mod tests;

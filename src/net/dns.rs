//! Name servers over the network: drives [`Query`] with sockets, and keeps what was answered.
//!
//! Nothing of a question outlives the future that asks it: who drops that closes its sockets. The files of the system
//! are read anew for each question that goes out, so that a changed network counts at once.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::rc::Rc;

use async_io::{Async, Timer};
use smol::future::FutureExt;
use smol::io::{AsyncReadExt, AsyncWriteExt};

use crate::clock::Entropy;
use crate::dns::cache::Cache;
use crate::dns::message::{Question, Record};
use crate::dns::query::{Query, Servers, Step};
use crate::dns::service::Found;
use crate::dns::system::{self, ResolvConf};
use crate::dns::{DnsError, Kind, name};
use crate::net::clock::Clock;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// What is read of the system.
pub const FILES: [&str; 2] = [RESOLV_CONF, HOSTS];

/// Of both files, more is not read.
const FILE_BYTES_MAX: u64 = 1 << 18;

/// More than any answer that we let servers send over UDP.
const UDP_BUFFER_BYTES: usize = 4096;

/// Asks name servers.
pub struct Resolver {
    clock: Clock,
    /// In place of the system's.
    servers: Vec<SocketAddr>,
    cache: RefCell<Cache>,
    entropy: RefCell<Box<dyn Entropy>>,
}

impl Resolver {
    /// A resolver that asks these servers, or those of the system if there are none, and keeps so many answers.
    pub fn new(servers: Vec<SocketAddr>, answers_max: u32, clock: Clock, entropy: Box<dyn Entropy>) -> Self {
        Self { clock, servers, cache: RefCell::new(Cache::new(answers_max)), entropy: RefCell::new(entropy) }
    }

    /// Random bytes for those who put answers in order.
    pub fn entropy(&self) -> impl std::ops::DerefMut<Target = Box<dyn Entropy>> + '_ {
        self.entropy.borrow_mut()
    }

    /// Forgets all answers.
    pub fn forget(&self) {
        self.cache.borrow_mut().clear();
    }

    /// Whom it asks, as of now.
    pub fn conf(&self) -> ResolvConf {
        let mut conf = system::resolv_conf(&read(RESOLV_CONF));
        if !self.servers.is_empty() {
            conf.servers.addresses.clone_from(&self.servers);
        }
        conf
    }

    /// The records of a name.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn records(&self, name: &str, kind: Kind) -> Found {
        self.ask(name, kind, &Rc::new(self.conf().servers)).await
    }

    /// Addresses of a host, of one family: from the file of hosts, else from name servers. An address stands for
    /// itself.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn addresses(&self, host: &str, kind: Kind) -> Result<Vec<IpAddr>, DnsError> {
        let of_family = |list: Vec<IpAddr>| {
            let list: Vec<IpAddr> = list.into_iter().filter(|ip| ip.is_ipv6() == (kind == Kind::Aaaa)).collect();
            if list.is_empty() { Err(DnsError::NoData) } else { Ok(list) }
        };
        if let Ok(ip) = host.parse() {
            return of_family(vec![ip]);
        }
        let host = name::normal(host).ok_or(DnsError::BadName)?;
        let listed = system::hosts(&read(HOSTS), &host);
        if !listed.is_empty() {
            return of_family(listed);
        }
        let conf = self.conf();
        let servers = Rc::new(conf.servers.clone());
        let mut result = Err(DnsError::NoName);
        for name in conf.candidates(&host) {
            result = self.ask(&name, kind, &servers).await;
            if !result.as_ref().is_err_and(|error| error.is_negative()) {
                break;
            }
        }
        let address = |record| match record {
            Record::Address(ip) => Some(ip),
            Record::Service(_) => None,
        };
        result.map(|records| records.into_iter().filter_map(address).collect())
    }

    async fn ask(&self, name: &str, kind: Kind, servers: &Rc<Servers>) -> Found {
        let question = Question { name: name::normal(name).ok_or(DnsError::BadName)?, kind };
        if let Some(answer) = self.cache.borrow().find(&question, self.clock.now()) {
            return answer.result;
        }
        let mut query = Query::new(servers.clone(), question.clone());
        let mut step = query.start(self.clock.now(), &mut **self.entropy.borrow_mut());
        loop {
            step = match step {
                Step::Done(answer) => {
                    self.cache.borrow_mut().keep(question, &answer, self.clock.now());
                    return answer.result;
                }
                Step::Ask { server, tcp, message, until_ms } => {
                    let exchange = async {
                        if tcp {
                            self.over_tcp(&mut query, server, &message).await
                        } else {
                            self.over_udp(&mut query, server, &message).await
                        }
                    };
                    match exchange.or(self.late(until_ms)).await {
                        Ok(step) => step,
                        Err(error) => {
                            log::debug!("{} of {}: {server}: {error}", question.kind.name(), question.name);
                            query.failed(self.clock.now(), &mut **self.entropy.borrow_mut())
                        }
                    }
                }
            };
        }
    }

    /// An error at that time.
    async fn late<T>(&self, until_ms: u64) -> io::Result<T> {
        match self.clock.instant(until_ms) {
            Some(at) => Timer::at(at).await,
            None => std::future::pending().await,
        };
        Err(io::ErrorKind::TimedOut.into())
    }

    async fn over_udp(&self, query: &mut Query, server: SocketAddr, message: &[u8]) -> io::Result<Step> {
        let any: IpAddr = if server.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        // The system chooses a port at random, and lets in what comes from the server alone.
        let socket = Async::<UdpSocket>::bind((any, 0))?;
        socket.get_ref().connect(server)?;
        socket.send(message).await?;
        let mut buffer = vec![0; UDP_BUFFER_BYTES];
        loop {
            let length = socket.recv(&mut buffer).await?;
            let received = buffer.get(..length).unwrap_or_default();
            if let Some(step) = query.received(self.clock.now(), received, &mut **self.entropy.borrow_mut()) {
                return Ok(step);
            }
        }
    }

    async fn over_tcp(&self, query: &mut Query, server: SocketAddr, message: &[u8]) -> io::Result<Step> {
        let mut socket = Async::<TcpStream>::connect(server).await?;
        let length = u16::try_from(message.len()).map_err(io::Error::other)?;
        socket.write_all(&[&length.to_be_bytes(), message].concat()).await?;
        let mut length = [0; 2];
        socket.read_exact(&mut length).await?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        socket.read_exact(&mut answer).await?;
        let step = query.received(self.clock.now(), &answer, &mut **self.entropy.borrow_mut());
        step.ok_or_else(|| io::Error::other("this is no answer to the question"))
    }
}

/// The text of a file of the system; nothing where there is none.
fn read(path: &str) -> String {
    let mut bytes = Vec::new();
    let read = File::open(Path::new(path)).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    if let Err(error) = read {
        log::debug!("{path}: {error}");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
impl Resolver {
    /// Asks others from now on.
    pub fn ask_only(&mut self, servers: Vec<SocketAddr>) {
        self.servers = servers;
    }
}

//! Certificates by themselves: ACME (RFC 8555) with the challenges http-01, dns-01 and tls-alpn-01 (RFC 8737), and
//! renewal when the authority suggests it (RFC 9773).
//!
//! One task of the worker visits the authority when a certificate is due, one host after another: each has a
//! certificate of its own, so that a name that fails keeps no other from having one. [`Session`](session::Session) is
//! the protocol, without I/O; [`Reality`](world::Reality) is what it asks of the world; [`schedule`] says when. What
//! was got goes into the folder of certificates and is taken up as any file there; until then the host has the
//! self-signed one.

mod files;
mod hook;
mod https;
mod json;
mod jws;
pub mod message;
mod request;
mod schedule;
pub mod session;
mod trouble;
mod work;
mod world;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;

use smol::channel::{Sender, TrySendError};
use smol::{LocalExecutor, Task};

pub use files::{Files, Record};
pub use hook::Hook;
pub use jws::{AccountKey, Binding, base64url};
pub use session::{Kind, Visitor};
pub use trouble::Trouble;

use crate::clock;
use crate::core::admin::Reply;
use crate::http::Pages;
use crate::jid::idna;
use crate::net::certs::CertStore;
use crate::net::clock::Clock;
use work::{Kick, Work};

/// How certificates are got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// From whom, and for whom.
    pub visitor: Visitor,
    /// Hosts that get one, as configured, each with the names of its certificate as A-labels, its own first.
    pub hosts: Vec<(String, Vec<String>)>,
    /// File of the authorities that vouch for the authority's own server; None is the system's.
    pub authorities: Option<PathBuf>,
    /// What writes records of DNS.
    pub hook: Option<Hook>,
    /// How long it takes until they are everywhere.
    pub dns_wait_s: u32,
    /// Whom to ask in place of the system's name servers.
    pub name_servers: Vec<SocketAddr>,
    /// The data folder.
    pub data: PathBuf,
}

/// The work of getting certificates. Dropping it ends that.
pub struct Acme {
    settings: Settings,
    kicks: Sender<Kick>,
    _task: Task<()>,
}

/// Kicks that wait while one is under way.
const KICKS_MAX: usize = 8;

impl Acme {
    /// Begins. `certificates` are those in force, `pages` those that are shown over HTTP.
    pub fn start(
        settings: Settings,
        certificates: CertStore,
        pages: Pages,
        clock: Clock,
        executor: &Rc<LocalExecutor<'static>>,
    ) -> Self {
        let (kicks, kicked) = smol::channel::bounded(KICKS_MAX);
        let work = Work::new(settings.clone(), certificates, pages, clock);
        Self { settings, kicks, _task: executor.spawn(work.run(kicked)) }
    }

    /// Whether it works with these settings.
    pub fn is_of(&self, settings: &Settings) -> bool {
        self.settings == *settings
    }

    /// Renews the certificate of a host, due or not; without a host, what is due or has failed. The reply comes when
    /// that is done.
    pub fn renew(&self, host: Option<String>, reply: Sender<Reply>) {
        if let Err(TrySendError::Full(kick) | TrySendError::Closed(kick)) = self.kicks.try_send(Kick { host, reply }) {
            let _ = kick.reply.try_send(Reply::failed("certificates are being renewed; try again in a minute"));
        }
    }
}

/// What is known of a host's certificate beside what it says itself: a line for `couplet cert list` and
/// `couplet check`, and whether it is about something that went wrong.
pub fn outlook(files: &Files, host: &str) -> Option<(bool, String)> {
    let name = idna::to_ascii(host)?;
    if let Some(record) = files.record(&name) {
        let next = clock::datetime(record.next_s.saturating_mul(1000));
        let times = if record.failures == 1 { String::new() } else { format!(" {} times", record.failures) };
        return Some((true, format!("{} (failed{times}, next attempt {next})", record.text)));
    }
    let (info, _) = files.issued(&name)?;
    let due_s = schedule::due_s(Some(&info), &[], None, None, None);
    let day: String = clock::datetime(due_s.saturating_mul(1000)).chars().take(10).collect();
    Some((false, format!("about {day}, by itself")))
}

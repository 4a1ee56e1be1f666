//! The part of the configuration that the engine works with.

use super::gate::Network;
use super::rates::Rates;
use crate::jid::Jid;
use crate::limits::Limits;
use crate::stream::s2s::{Component, Policy};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the engine must know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Prepared domains that are served; the first is the default. Never empty.
    pub hosts: Vec<String>,
    /// Bare addresses with an administrator's rights.
    pub admins: Vec<Jid>,
    /// Whether a client must start TLS before it may log in.
    pub encryption_required: bool,
    /// Whether the mechanism PLAIN is offered under TLS.
    pub plain_allowed: bool,
    /// Whether SASL2 (XEP-0388) is offered under TLS.
    pub sasl2: bool,
    /// Whether tokens (XEP-0484) are, with it.
    pub fast: bool,
    /// How long a token can be used, in seconds.
    pub fast_lifetime_s: u32,
    /// Age from which a token is replaced when it is used, in seconds.
    pub fast_rotation_s: u32,
    /// Rounds of PBKDF2 for new passwords, at least 4096.
    pub iterations: u32,
    /// Streams of clients can be compressed (XEP-0138).
    #[cfg(feature = "compression")]
    pub compression: bool,
    /// The ceiling of the memory.
    pub memory: Memory,
    /// Components that may connect (XEP-0114).
    pub components: Vec<Component>,
    /// With which other servers we speak.
    pub s2s: Policy,
    /// Addresses for which there are no limits of connections and failed logins.
    pub exempt: Vec<Network>,
    /// How fast peers may send.
    pub rates: Rates,
    /// How clients reach the HTTP server, with `{host}` in place of the name; empty when they cannot.
    #[cfg(feature = "http")]
    pub url: String,
    /// Message archives.
    pub archive: Archive,
    /// Block lists that are wanted; modules name them.
    #[cfg(feature = "rtbl")]
    pub rtbl: Vec<super::rtbl::Source>,
    /// Every bound.
    pub limits: Limits,
}

/// Message archives (XEP-0313). Without the module that keeps them nothing is archived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archive {
    /// Rooms are archived, and new ones by default.
    pub rooms: bool,
    /// How long the messages of accounts are kept, in seconds; 0 is for ever.
    pub keep_s: u32,
    /// The same of rooms.
    pub rooms_keep_s: u32,
    /// Bytes of one archive; 0 is any number.
    pub bytes_max: u64,
    /// Messages of one page.
    pub page_max: u32,
}

/// This machine: proxies before the server, and those who test it.
pub const LOOPBACK: [Network; 2] = [
    Network { address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), bits: 8 },
    Network { address: IpAddr::V6(Ipv6Addr::LOCALHOST), bits: 128 },
];

impl Settings {
    /// True for an address without limits.
    pub fn is_exempt(&self, ip: IpAddr) -> bool {
        self.exempt.iter().any(|network| network.contains(ip))
    }

    /// A module wants a block list to be kept.
    #[cfg(feature = "rtbl")]
    pub fn want_rtbl(&mut self, list: &super::rtbl::Source) {
        if !self.rtbl.contains(list) {
            self.rtbl.push(list.clone());
        }
    }

    /// How clients reach the HTTP server of a host, if that is with TLS.
    #[cfg(feature = "http")]
    pub fn url(&self, host: &str) -> Option<String> {
        self.url.starts_with("https://").then(|| self.url.replace("{host}", host))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hosts: vec!["localhost".to_string()],
            admins: Vec::new(),
            encryption_required: true,
            plain_allowed: true,
            sasl2: true,
            fast: true,
            fast_lifetime_s: 1_814_400,
            fast_rotation_s: 86_400,
            iterations: 10_000,
            #[cfg(feature = "compression")]
            compression: false,
            memory: Memory::default(),
            components: Vec::new(),
            s2s: Policy::default(),
            exempt: LOOPBACK.to_vec(),
            rates: Rates::default(),
            #[cfg(feature = "http")]
            url: "https://{host}:5281/".to_string(),
            archive: Archive::default(),
            #[cfg(feature = "rtbl")]
            rtbl: Vec::new(),
            limits: Limits::default(),
        }
    }
}

/// How much memory the server may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All of it, in bytes.
    pub max_bytes: usize,
    /// Percent of that from which the operator is warned.
    pub warning_percent: u32,
    /// What single modules may hold, in bytes.
    pub modules: Vec<(String, usize)>,
}

impl Default for Memory {
    fn default() -> Self {
        Self { max_bytes: 32_000_000, warning_percent: 75, modules: Vec::new() }
    }
}

impl Memory {
    /// What may be remembered beside rows of the store, in bytes: contacts that see each other, numbers of rows.
    pub fn known_max_bytes(&self) -> usize {
        self.max_bytes / 32
    }

    /// What a module may hold, in bytes: a quarter of everything where nothing else was said.
    pub fn module_max_bytes(&self, name: &str) -> usize {
        self.modules.iter().find(|(module, _)| module == name).map_or(self.max_bytes / 4, |(_, bytes)| *bytes)
    }
}

//! Finding servers by name, without I/O: the DNS as a stub resolver sees it (RFC 1034 section 5.3.1), and what XMPP
//! makes of it.
//!
//! | file | what |
//! |---|---|
//! | [`name`] | names, in text and on the wire |
//! | [`message`] | questions and answers on the wire (RFC 1035 section 4) |
//! | [`query`] | one question: retries, servers, truncation, aliases |
//! | [`cache`] | answers, until their time is up |
//! | [`system`] | `resolv.conf` and `hosts` |
//! | [`service`] | the order of SRV records (RFC 2782, XEP-0368) |
//! | [`race`] | the order of addresses, and when to try the next (RFC 8305) |
//!
//! Who drives a [`Query`](query::Query) sends what it says, tells what came, and asks again when the time is up that it
//! names. Numbers that nobody may guess come from an injected source.

pub mod cache;
pub mod message;
pub mod name;
pub mod query;
pub mod race;
pub mod service;
pub mod system;

/// Kinds of records that are asked for (RFC 1035 section 3.2.2, RFC 3596, RFC 2782).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Where a service is.
    Srv,
}

impl Kind {
    /// As zone files write it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::A => "A",
            Kind::Aaaa => "AAAA",
            Kind::Srv => "SRV",
        }
    }

    /// Its number on the wire.
    pub fn code(self) -> u16 {
        match self {
            Kind::A => 1,
            Kind::Aaaa => 28,
            Kind::Srv => 33,
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsError {
    /// Nothing with this name exists (NXDOMAIN).
    NoName,
    /// The name exists, without records of this kind (RFC 2308 section 2.2).
    NoData,
    /// The name cannot be asked for: a label is empty or longer than 63 bytes, or all of it longer than 255.
    BadName,
    /// No name server answers.
    Timeout,
    /// All name servers fail or refuse.
    ServerFailure,
    /// The aliases of the name go round in circles, or on and on.
    AliasLoop,
}

impl DnsError {
    /// True when a name server has said that there is nothing, which is knowledge and no failure.
    pub fn is_negative(self) -> bool {
        matches!(self, Self::NoName | Self::NoData)
    }
}

impl std::fmt::Display for DnsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoName => "there is no such name",
            Self::NoData => "the name has no such record",
            Self::BadName => "this is no name that DNS knows",
            Self::Timeout => "no name server answers",
            Self::ServerFailure => "all name servers fail",
            Self::AliasLoop => "the aliases of the name do not end",
        })
    }
}

impl std::error::Error for DnsError {}

//! Where to listen.

use crate::setting::{Setting, Value, quote, wanted};
use std::fmt;
use std::net::IpAddr;

/// An address and a port to listen at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// `::` stands for every address, of IPv4 too.
    pub ip: IpAddr,
    /// 0 lets the system choose.
    pub port: u16,
}

impl Address {
    /// A port of every address.
    pub fn any(port: u16) -> Self {
        Self { ip: IpAddr::from([0_u16; 8]), port }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            IpAddr::V4(ip) => write!(f, "{ip}:{}", self.port),
            IpAddr::V6(ip) => write!(f, "[{ip}]:{}", self.port),
        }
    }
}

impl Setting for Address {
    fn kind() -> String {
        "an address with a port such as \"[::]:5222\" or \"127.0.0.1:5222\"".to_string()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        let text = value.text().ok_or_else(|| wanted::<Self>(value))?;
        read(text).ok_or_else(|| wanted::<Self>(value))
    }

    fn show(&self) -> String {
        quote(&self.to_string())
    }
}

/// `HOST:PORT`, where the host is an IPv4 address, an IPv6 address in brackets, or `*`.
fn read(text: &str) -> Option<Address> {
    let (host, port) = text.trim().rsplit_once(':')?;
    let port = port.parse().ok()?;
    if host == "*" {
        return Some(Address::any(port));
    }
    let ip = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => IpAddr::V6(v6.parse().ok()?),
        None => IpAddr::V4(host.parse().ok()?),
    };
    Some(Address { ip, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        for (text, shown) in [
            ("[::]:5222", "[::]:5222"),
            ("*:5222", "[::]:5222"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            (" [2001:db8::1]:65535", "[2001:db8::1]:65535"),
        ] {
            assert_eq!(read(text).map(|a| a.to_string()).as_deref(), Some(shown), "{text}");
        }
        for text in ["", "5222", ":5222", "::1:5222", "localhost:5222", "127.0.0.1", "127.0.0.1:65536", "[::]", "[]:1"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }
}

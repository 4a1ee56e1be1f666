//! `[s2s]`, `[components]` and `[dns]`: other servers, and how they are found.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::address::Address;
use crate::dns::service::{Route, Target};
use crate::dns::{name, system};
use crate::jid::{Jid, idna};
use crate::setting::{MASK, Setting, Value, quote, section, wanted};
use crate::stream::s2s::Component;
use zeroize::Zeroizing;

section! {
    /// Connections from and to other servers.
    pub struct S2s in "s2s" {
        /// Speak with other servers at all.
        pub enabled: bool = true,
        /// Addresses and ports where other servers connect and then start TLS.
        pub listen: Vec<Address> = vec![Address::any(5269)],
        /// Addresses and ports where TLS starts with the first byte (XEP-0368).
        pub direct_tls_listen: Vec<Address> = vec![Address::any(5270)],
        /// File of the certificate authorities that are believed about other servers, in PEM form, relative to the
        /// folder of this file; certificates of servers can stand there, too. "" is the system's list.
        pub ca: String = String::new(),
        /// Where servers are that DNS does not know, or knows wrongly: "example.org=192.0.2.1:5269", or with
        /// direct TLS "example.org=tls://chat.lan:5270". Several of one domain are tried in turn.
        pub routes: Vec<Route> = Vec::new(),
        /// Speak with those servers alone whose certificate proves who they are.
        pub secure_auth: bool = true,
        /// Domains that need no such certificate.
        pub insecure_domains: Vec<String> = Vec::new(),
        /// Believe servers that need no such certificate when their domain's own server vouches for them (Server
        /// Dialback, XEP-0220), and prove that way who we are. Only under TLS. That is as safe as DNS is.
        pub dialback: bool = false,
        /// Use one connection for both directions where the other server can (XEP-0288).
        pub bidi: bool = true,
        /// Domains that are not spoken with.
        pub blocked_domains: Vec<String> = Vec::new(),
        /// When any are named, the only domains that are spoken with.
        pub allowed_domains: Vec<String> = Vec::new(),
    }
}

section! {
    /// External components (XEP-0114), such as gateways: programs of their own that serve a domain beside yours.
    pub struct Components in "components" {
        /// Addresses and ports where they connect, once there is a secret. Nothing is encrypted there: leave it at
        /// addresses of this machine.
        pub listen: Vec<Address> = vec![Address { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 5347 }],
        /// The domain of each with the secret that it shares with this server, such as "irc.example.org=SECRET".
        pub secrets: Vec<ComponentSecret> = Vec::new(),
    }
}

/// A domain with a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct ComponentSecret(pub Component);

impl fmt::Debug for ComponentSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show())
    }
}

impl Setting for ComponentSecret {
    fn kind() -> String {
        "a domain and its secret such as \"irc.example.org=SECRET\"".to_string()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        let wrong = || format!("this is not {}", Self::kind());
        let (domain, secret) = value.text().and_then(|text| text.split_once('=')).ok_or_else(wrong)?;
        let domain = Jid::parse(domain.trim()).ok().filter(Jid::is_host).ok_or_else(wrong)?;
        if secret.trim().is_empty() {
            return Err(wrong());
        }
        let secret = Zeroizing::new(secret.trim().to_string());
        Ok(Self(Component { domain: domain.domain().to_string(), secret }))
    }

    fn show(&self) -> String {
        quote(&format!("{}={MASK}", self.0.domain))
    }
}

section! {
    /// Name servers, by which other servers are found.
    pub struct Dns in "dns" {
        /// Their addresses, with ":PORT" behind unless it is 53. [] asks those of the system (/etc/resolv.conf).
        pub servers: Vec<NameServer> = Vec::new() => |servers| few(servers),
    }
}

/// As many as a system's file may name, and some.
fn few(servers: &[NameServer]) -> Result<(), String> {
    if servers.len() <= 8 { Ok(()) } else { Err("these are too many; write at most 8".to_string()) }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Target { host, port, direct_tls } = &self.target;
        let scheme = if *direct_tls { "tls://" } else { "" };
        let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{}={scheme}{open}{host}{close}:{port}", self.domain)
    }
}

impl Setting for Route {
    fn kind() -> String {
        "a domain and its place such as \"example.org=192.0.2.1:5269\" or \"example.org=tls://chat.lan:5270\""
            .to_string()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        value.text().and_then(route).ok_or_else(|| wanted::<Self>(value))
    }

    fn show(&self) -> String {
        quote(&self.to_string())
    }
}

fn route(text: &str) -> Option<Route> {
    let (domain, place) = text.split_once('=')?;
    let place = place.trim();
    let (place, direct_tls) = match place.strip_prefix("tls://") {
        Some(place) => (place, true),
        None => (place, false),
    };
    let (host, port) = place.rsplit_once(':')?;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => v6.parse::<IpAddr>().ok().filter(IpAddr::is_ipv6)?.to_string(),
        None => name::normal(host)?,
    };
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let domain = idna::to_ascii(domain.trim()).filter(|domain| !domain.contains(char::is_whitespace))?;
    Some(Route { domain, target: Target { host, port, direct_tls } })
}

/// The address of a name server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameServer(pub SocketAddr);

impl Setting for NameServer {
    fn kind() -> String {
        "an address such as \"192.0.2.53\", \"2001:db8::53\" or \"127.0.0.1:5353\"".to_string()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        let read = |text: &str| {
            let alone = text.parse().ok().map(|ip| SocketAddr::new(ip, system::PORT));
            alone.or_else(|| text.parse().ok()).filter(|address| address.port() > 0).map(Self)
        };
        value.text().and_then(|text| read(text.trim())).ok_or_else(|| wanted::<Self>(value))
    }

    fn show(&self) -> String {
        let Self(address) = self;
        quote(&if address.port() == system::PORT { address.ip().to_string() } else { address.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Str(text.to_string())
    }

    #[test]
    fn routes_are_read_and_shown() {
        for (written, shown) in [
            ("example.org=192.0.2.1:5269", "example.org=192.0.2.1:5269"),
            (" B\u{fc}cher.example = tls://Chat.LAN:443", "xn--bcher-kva.example=tls://chat.lan:443"),
            ("lan=[2001:DB8::1]:5269", "lan=[2001:db8::1]:5269"),
        ] {
            assert_eq!(Route::parse(&text(written)).map(|route| route.to_string()).as_deref(), Ok(shown));
        }
        for wrong in [
            "",
            "example.org",
            "example.org=",
            "=x:1",
            "a=b",
            "a=b:0",
            "a=b:x",
            "a=::1:5",
            "a=[x]:5",
            "a b=c:1",
            "a=b c:1",
        ] {
            assert!(Route::parse(&text(wrong)).is_err_and(|e| e.contains("is not a domain and its place")), "{wrong}");
        }
    }

    #[test]
    fn name_servers_are_read_and_shown() {
        for (written, shown) in [
            ("192.0.2.53", "\"192.0.2.53\""),
            ("2001:db8::53", "\"2001:db8::53\""),
            ("127.0.0.1:5353", "\"127.0.0.1:5353\""),
            ("[::1]:53", "\"::1\""),
        ] {
            assert_eq!(NameServer::parse(&text(written)).map(|server| server.show()).as_deref(), Ok(shown));
        }
        for wrong in ["", "ns.example.org", "192.0.2.53:0", "[::1]"] {
            assert!(NameServer::parse(&text(wrong)).is_err(), "{wrong}");
        }
    }
}

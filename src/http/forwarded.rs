//! Who is behind a proxy: `X-Forwarded-For` and `X-Forwarded-Proto`, believed of those alone who are trusted.

use std::net::IpAddr;

use super::head::Head;
use crate::core::gate::Network;

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The address of the client.
    pub ip: IpAddr,
    /// The client speaks TLS, with us or with a proxy that is trusted.
    pub is_secure: bool,
}

/// True for an address in one of these networks.
pub fn is_among(networks: &[Network], ip: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(ip))
}

/// Where a request really comes from that came from `peer`, with TLS or without.
///
/// Proxies add the address that they see at the end of the list. So what stands there is true as far as who wrote it is
/// trusted: the list is read from its end, up to the first address that is not a trusted proxy's. What is no address
/// ends that, too: the last that was believed counts.
pub fn origin(head: &Head, peer: IpAddr, has_tls: bool, trusted: &[Network]) -> Origin {
    let peer = peer.to_canonical();
    if !is_among(trusted, peer) {
        return Origin { ip: peer, is_secure: has_tls };
    }
    let mut ip = peer;
    for member in head.list("x-forwarded-for").rev() {
        let Some(address) = address(member) else { break };
        ip = address.to_canonical();
        if !is_among(trusted, ip) {
            break;
        }
    }
    let proto = head.list("x-forwarded-proto").next_back();
    let said = proto.map(|proto| proto.eq_ignore_ascii_case("https") || proto.eq_ignore_ascii_case("wss"));
    Origin { ip, is_secure: said.unwrap_or(has_tls) }
}

/// An address, perhaps in brackets or with a port, as some proxies write them.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches('"');
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0.parse().ok(),
        None => text.rsplit_once(':')?.0.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::settings::LOOPBACK;

    fn of(fields: &str, peer: &str, has_tls: bool) -> (String, bool) {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let (head, _) = super::super::head::read(text.as_bytes()).unwrap().unwrap();
        let Origin { ip, is_secure } = origin(&head, peer.parse().unwrap(), has_tls, &LOOPBACK);
        (ip.to_string(), is_secure)
    }

    fn is(ip: &str, secure: bool) -> (String, bool) {
        (ip.to_owned(), secure)
    }

    #[test]
    fn a_trusted_proxy_says_who_it_is() {
        let both = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n";
        assert_eq!(of(both, "127.0.0.1", false), is("192.0.2.7", true));
        assert_eq!(of(both, "::ffff:127.0.0.1", false), is("192.0.2.7", true));
        assert_eq!(of("X-Forwarded-Proto: http\r\n", "::1", true), is("::1", false));
        assert_eq!(of("X-Forwarded-For: \"[2001:db8::1]:4711\"\r\n", "::1", true), is("2001:db8::1", true));
        assert_eq!(of("X-Forwarded-For: 192.0.2.7:80\r\n", "::1", false), is("192.0.2.7", false));
    }

    #[test]
    fn nobody_else_does() {
        let both = "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: https\r\n";
        assert_eq!(of(both, "198.51.100.9", false), is("198.51.100.9", false));
        // What the client has written before the proxy.
        let forged = "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-For: 203.0.113.5, 192.0.2.7\r\n";
        assert_eq!(of(forged, "127.0.0.1", false), is("192.0.2.7", false));
        assert_eq!(of("X-Forwarded-For: 192.0.2.7, 127.0.0.9\r\n", "127.0.0.1", false), is("192.0.2.7", false));
        assert_eq!(of("X-Forwarded-For: 192.0.2.7, unknown\r\n", "127.0.0.1", false), is("127.0.0.1", false));
    }
}

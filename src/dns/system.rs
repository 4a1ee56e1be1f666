//! The two files by which a machine says how it finds names: resolv.conf(5) and hosts(5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::name;
use super::query::Servers;

/// Name servers that are taken from the file, as the C library does (MAXNS).
const SERVERS_MAX: usize = 3;

/// Domains in which short names are looked for.
const SEARCH_MAX: usize = 6;

/// What DNS has for a port.
pub const PORT: u16 = 53;

/// How this machine finds names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConf {
    /// Whom to ask.
    pub servers: Servers,
    /// Domains in which names with few dots are looked for, in their normal form.
    pub search: Vec<String>,
    /// Names with as many dots, or more, are complete.
    pub ndots: u32,
}

/// Reads `resolv.conf`. What it does not say, and what is wrong in it, has the C library's default: the name server of
/// the machine itself, 5 seconds, two attempts.
pub fn resolv_conf(text: &str) -> ResolvConf {
    let mut servers = Servers { addresses: Vec::new(), timeout_ms: 5000, attempts: 2, rotate: false };
    let (mut search, mut ndots) = (Vec::new(), 1);
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") => {
                let server = words.next().and_then(server);
                servers.addresses.extend(server.filter(|_| servers.addresses.len() < SERVERS_MAX));
            }
            // The last one counts.
            Some("search" | "domain") => search = words.filter_map(name::normal).take(SEARCH_MAX).collect(),
            Some("options") => {
                for option in words {
                    let (key, value) = option.split_once(':').unwrap_or((option, ""));
                    let number = |max: u32| value.parse::<u32>().ok().map(|n| n.min(max));
                    match key {
                        "ndots" => ndots = number(15).unwrap_or(ndots),
                        "timeout" => servers.timeout_ms = number(30).map_or(servers.timeout_ms, |s| s.max(1) * 1000),
                        "attempts" => servers.attempts = number(5).map_or(servers.attempts, |n| n.max(1)),
                        "rotate" => servers.rotate = true,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if servers.addresses.is_empty() {
        servers.addresses.push(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));
    }
    ResolvConf { servers, search, ndots }
}

/// An address without port. A zone, as of fe80::1%eth0, is a number that only the system knows.
fn server(text: &str) -> Option<SocketAddr> {
    Some(SocketAddr::new(text.parse().ok()?, PORT))
}

impl ResolvConf {
    /// The names to ask for, one after another, when somebody writes `name` (in its normal form): a name with fewer
    /// dots than `ndots` is looked for in the search domains first. A complete name is never looked for there: the
    /// domain of a stranger must not become a host of ours by a slip.
    pub fn candidates(&self, name: &str) -> Vec<String> {
        let dots = name.matches('.').count();
        let mut names = Vec::new();
        if dots < self.ndots as usize {
            names.extend(self.search.iter().filter_map(|domain| name::normal(&format!("{name}.{domain}"))));
        }
        names.push(name.to_string());
        names
    }
}

/// Addresses that `hosts` has for a name, in its normal form; and those of `localhost`, which nobody asks the network
/// for (RFC 6761 section 6.3).
pub fn hosts(text: &str, wanted: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let Some(ip) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        if words.any(|word| name::normal(word).is_some_and(|name| name == wanted)) && !found.contains(&ip) {
            found.push(ip);
        }
    }
    if found.is_empty() && (wanted == "localhost" || wanted.ends_with(".localhost")) {
        found = vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn resolv_conf_is_read_as_the_c_library_does() {
        let conf = resolv_conf(
            "# comment\n; comment\nnameserver 192.0.2.1\nnameserver  2001:db8::1\nnameserver nonsense\n\
             nameserver fe80::1%eth0\nnameserver 192.0.2.2\nnameserver 192.0.2.3\ndomain old.example\n\
             search Corp.Example lan a..b\noptions ndots:2 timeout:99 attempts:0 rotate edns0 ndots:x\n",
        );
        let server = |text: &str| SocketAddr::new(text.parse().unwrap(), 53);
        assert_eq!(conf.servers.addresses, ["192.0.2.1", "2001:db8::1", "192.0.2.2"].map(server));
        assert_eq!((conf.servers.timeout_ms, conf.servers.attempts, conf.servers.rotate), (30_000, 1, true));
        assert_eq!(conf.search, ["corp.example", "lan"]);
        assert_eq!(conf.ndots, 2);
        let default = resolv_conf("");
        assert_eq!(default.servers.addresses, [server("127.0.0.1")]);
        assert_eq!((default.servers.timeout_ms, default.servers.attempts, default.ndots), (5000, 2, 1));
    }

    #[test]
    fn short_names_are_looked_for_in_the_search_domains_and_complete_ones_are_not() {
        let conf = resolv_conf("search corp.example lan\n");
        assert_eq!(conf.candidates("chat"), ["chat.corp.example", "chat.lan", "chat"]);
        assert_eq!(conf.candidates("example.org"), ["example.org"]);
    }

    #[test]
    fn hosts_has_several_names_and_addresses() {
        let text =
            "127.0.0.1 localhost\n192.0.2.1 Chat.Lan chat # the box\n\n2001:db8::1 chat\n#192.0.2.9 chat\nx chat\n";
        let addresses = |name: &str| hosts(text, name).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(addresses("chat"), ["192.0.2.1", "2001:db8::1"]);
        assert_eq!(addresses("chat.lan"), ["192.0.2.1"]);
        assert_eq!(addresses("box"), Vec::<String>::new());
        assert_eq!(addresses("localhost"), ["127.0.0.1"]);
        assert_eq!(addresses("a.localhost"), ["::1", "127.0.0.1"]);
    }

    proptest! {
        #[test]
        fn any_text_does_no_harm(text in "\\PC{0,60}|((nameserver|search|options|ndots:|[0-9.:]{1,9})[ \\n]){0,9}") {
            let conf = resolv_conf(&text);
            prop_assert!((1..=3).contains(&conf.servers.addresses.len()));
            let _ = hosts(&text, "chat");
        }
    }
}

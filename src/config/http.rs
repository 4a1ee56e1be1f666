//! `[http]`: the HTTP server.

use super::address::Address;
use super::rates::Network;
use crate::core::settings::LOOPBACK;
use crate::setting::section;
use std::net::{IpAddr, Ipv4Addr};

section! {
    /// The HTTP server: /healthz, /readyz, host-meta (XEP-0156), and what the modules below put on it.
    pub struct Http in "http" {
        /// Addresses and ports without TLS: for a proxy on this machine, as with Prosody. With "[::]:80" it can answer
        /// for certificates (ACME, http-01).
        pub listen: Vec<Address> = vec![Address { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 5280 }],
        /// Addresses and ports with TLS. With "[::]:443" they are those that browsers take. XMPP clients can connect
        /// there, too, and browsers to the ports of c2s.direct_tls_listen: ALPN says who it is.
        pub tls_listen: Vec<Address> = vec![Address::any(5281)],
        /// How clients reach this server, for host-meta and links: "https://xmpp.example.org/", with "{host}" where the
        /// name of the host stands. "" is "https://{host}:PORT/" with the first port of tls_listen.
        pub external_url: String = String::new() => |url| url_of_site(url),
        /// Clients can come by WebSocket (RFC 7395), at /xmpp-websocket.
        pub websocket: bool = true,
        /// Clients can come by BOSH (XEP-0124), at /http-bind.
        pub bosh: bool = true,
        /// Who may read /metrics (OpenMetrics, for Prometheus): addresses and networks.
        pub metrics_from: Vec<Network> = LOOPBACK.map(Network).to_vec(),
        /// Proxies that are believed when they say who connects to them (X-Forwarded-For, X-Forwarded-Proto), and that
        /// have no limits of connections.
        pub trusted_proxies: Vec<Network> = LOOPBACK.map(Network).to_vec(),
        /// These proxies begin each connection with a header of the PROXY protocol (version 1 or 2). What does not is
        /// closed; others never need one.
        pub proxy_protocol: bool = false,
        /// Sites whose scripts may use this server, such as "https://chat.example.org"; "*" is every site. Nobody is
        /// logged in by a cookie here, so no site can do more than its visitor has given it a password for.
        pub origins: Vec<String> = vec!["*".to_string()] => |origins| are_origins(origins),
    }
}

fn url_of_site(url: &str) -> Result<(), String> {
    let is_text =
        |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'<' | b'>' | b'\\'));
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    match rest {
        None if url.is_empty() => Ok(()),
        Some(rest) if !rest.is_empty() && is_text(rest) && !rest.contains(['?', '#']) => Ok(()),
        _ => Err("this is no address of a site; write for example \"https://xmpp.example.org/\"".to_string()),
    }
}

fn are_origins(origins: &[String]) -> Result<(), String> {
    let is_origin = |origin: &str| {
        origin.split_once("://").is_some_and(|(scheme, host)| {
            !scheme.is_empty() && !host.is_empty() && !host.contains('/') && host.bytes().all(|b| b.is_ascii_graphic())
        })
    };
    match origins.iter().find(|origin| *origin != "*" && !is_origin(origin)) {
        None => Ok(()),
        Some(wrong) => {
            Err(format!("\"{wrong}\" is no site; write for example \"https://chat.example.org\", without a path"))
        }
    }
}

impl Http {
    /// How clients reach this server, with `{host}` in place of the name.
    pub fn url(&self) -> String {
        if !self.external_url.is_empty() {
            return self.external_url.clone();
        }
        match (self.tls_listen.first(), self.listen.first()) {
            // Nobody knows yet which port that will be.
            (Some(Address { port: 0, .. }), _) => String::new(),
            (Some(Address { port: 443, .. }), _) => "https://{host}/".to_string(),
            (Some(address), _) => format!("https://{{host}}:{}/", address.port),
            (None, Some(address)) => format!("http://{{host}}:{}/", address.port),
            (None, None) => String::new(),
        }
    }
}

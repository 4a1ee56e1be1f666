//! What a certificate says of its owner: whether it can be believed, and which domains it names.

use std::net::IpAddr;

use crate::jid::idna;

/// A peer's certificate, once its handshake has proved that the peer has the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCert {
    /// Whether it can be believed.
    pub trust: Trust,
    /// Whom it names.
    pub names: PeerNames,
}

impl PeerCert {
    /// True when it proves that its owner is this prepared domain (RFC 6120 section 13.7).
    pub fn proves(&self, domain: &str) -> bool {
        self.trust == Trust::Valid && self.names.proves(domain)
    }
}

/// Whether a chain of certificates leads to an authority that is trusted (RFC 5280 section 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It does, and all of it is in force.
    Valid,
    /// The owner vouches for itself.
    SelfSigned,
    /// An authority vouches that is not trusted.
    UnknownIssuer,
    /// It is too old.
    Expired,
    /// Its time is to come.
    NotYetValid,
    /// Its authority has taken it back.
    Revoked,
    /// Anything else, for the log.
    Other(String),
}

/// Names of a certificate, as A-labels in lower case. Whoever reads the certificate bounds their number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerNames {
    /// dNSName, the first label of which may be `*` (RFC 6125 section 6.4.3).
    pub dns: Vec<String>,
    /// SRVName (RFC 4985), such as `_xmpp-server.example.org`.
    pub srv: Vec<String>,
    /// XmppAddr of domains (RFC 6120 section 13.7.1.4).
    pub xmpp: Vec<String>,
}

/// The service that SRVNames of servers have.
const SERVICE: &str = "_xmpp-server.";

impl PeerNames {
    /// True when one of the names is this prepared domain (RFC 6120 section 13.7.2.2): of any kind, as each is given
    /// for the whole domain or for servers of it. The common name of the subject does not count (RFC 9525 section 2).
    pub fn proves(&self, domain: &str) -> bool {
        let Some(domain) = idna::to_ascii(domain) else { return false };
        // An IP address is no name of DNS, whatever stands in a dNSName (RFC 9525 section 6.3).
        let is_address = domain.contains(':') || domain.parse::<IpAddr>().is_ok();
        (!is_address && self.dns.iter().any(|name| covers(name, &domain)))
            || self.srv.iter().any(|name| name.strip_prefix(SERVICE) == Some(&*domain))
            || self.xmpp.contains(&domain)
    }
}

/// Whether a DNS name, with or without wildcard, stands for a domain. A wildcard is the whole first label, stands for
/// one whole label (RFC 6125 section 6.4.3, RFC 9525 section 6.3), and has two labels or more behind it: nobody owns
/// all of a top-level domain.
fn covers(name: &str, domain: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(parent) => {
            parent.contains('.')
                && domain.split_once('.').is_some_and(|(first, rest)| !first.is_empty() && rest == parent)
        }
        None => name == domain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_proved_by_any_kind_of_name() {
        let names = |dns: &[&str], srv: &[&str], xmpp: &[&str]| {
            let own = |list: &[&str]| list.iter().map(|name| name.to_string()).collect();
            PeerNames { dns: own(dns), srv: own(srv), xmpp: own(xmpp) }
        };
        assert!(names(&["example.org"], &[], &[]).proves("example.org"));
        assert!(names(&["*.example.org"], &[], &[]).proves("chat.example.org"));
        assert!(!names(&["*.example.org"], &[], &[]).proves("a.chat.example.org"));
        assert!(!names(&["*.example.org"], &[], &[]).proves("example.org"));
        assert!(!names(&["*.org"], &[], &[]).proves("example.org"));
        assert!(!names(&["c*.example.org", "*"], &[], &[]).proves("chat.example.org"));
        assert!(!names(&[], &["_xmpp-server.*.example.org"], &["*.example.org"]).proves("chat.example.org"));
        assert!(!names(&["192.0.2.1"], &[], &[]).proves("192.0.2.1"));
        assert!(!names(&["::1"], &[], &[]).proves("[::1]"));
        assert!(!PeerNames::default().proves("example.org"));
        assert!(names(&[], &["_xmpp-server.example.org"], &[]).proves("example.org"));
        assert!(!names(&[], &["_xmpp-client.example.org"], &[]).proves("example.org"));
        assert!(names(&[], &[], &["xn--bcher-kva.example"]).proves("b\u{fc}cher.example"));
    }
}

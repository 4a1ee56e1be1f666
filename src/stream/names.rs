//! What a certificate says of its owner: whether it can be believed, and which domains it names.

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
    /// True when one of the names is this prepared domain (RFC 6120 section 13.7.2.2).
    pub fn proves(&self, domain: &str) -> bool {
        let Some(domain) = idna::to_ascii(domain) else { return false };
        let covers = |name: &str| match name.strip_prefix("*.") {
            Some(parent) => domain.split_once('.').is_some_and(|(_, rest)| rest == parent),
            None => name == domain,
        };
        self.dns.iter().any(|name| covers(name))
            || self.srv.iter().any(|name| name.strip_prefix(SERVICE) == Some(&*domain))
            || self.xmpp.contains(&domain)
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
        assert!(names(&[], &["_xmpp-server.example.org"], &[]).proves("example.org"));
        assert!(!names(&[], &["_xmpp-client.example.org"], &[]).proves("example.org"));
        assert!(names(&[], &[], &["xn--bcher-kva.example"]).proves("b\u{fc}cher.example"));
    }
}

//! Channel bindings: what ties a login to the TLS connection it runs on.

use crate::stream::TlsFacts;

/// Name and data of each binding that this connection can prove, best first.
///
/// `tls-unique` (RFC 5929) is left out: it is broken without the extended master secret and does not exist in TLS 1.3.
#[derive(Clone, Debug, Default)]
pub struct Bindings {
    known: Vec<(&'static str, Vec<u8>)>,
}

impl Bindings {
    /// No binding at all: a connection in plain.
    pub fn none() -> Self {
        Self::default()
    }

    /// What these facts allow: `tls-exporter` (RFC 9266) on TLS 1.3, `tls-server-end-point` (RFC 5929) on any.
    pub fn new(facts: &TlsFacts) -> Self {
        let mut known = Vec::new();
        if let Some(exporter) = facts.exporter.filter(|_| facts.tls13) {
            known.push(("tls-exporter", exporter.to_vec()));
        }
        if let Some(end_point) = &facts.end_point {
            known.push(("tls-server-end-point", end_point.clone()));
        }
        Self { known }
    }

    /// True when no mechanism with channel binding can be offered.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Names as XEP-0440 and the `p=` flag of RFC 5802 write them.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.known.iter().map(|(name, _)| *name)
    }

    /// Data of the binding of that name.
    pub fn data(&self, name: &str) -> Option<&[u8]> {
        self.known.iter().find(|(known, _)| *known == name).map(|(_, data)| data.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exporter_is_for_tls_1_3_alone() {
        let mut facts =
            TlsFacts { tls13: true, exporter: Some([7; 32]), end_point: Some(vec![8; 32]), ..TlsFacts::default() };
        let names = |facts: &TlsFacts| Bindings::new(facts).names().collect::<Vec<_>>();
        assert_eq!(names(&facts), ["tls-exporter", "tls-server-end-point"]);
        assert_eq!(Bindings::new(&facts).data("tls-exporter"), Some(&[7; 32][..]));
        assert_eq!(Bindings::new(&facts).data("tls-unique"), None);
        facts.tls13 = false;
        assert_eq!(names(&facts), ["tls-server-end-point"]);
        facts.end_point = None;
        assert!(Bindings::new(&facts).is_empty() && Bindings::none().is_empty());
    }
}

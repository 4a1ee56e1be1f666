//! With whom we speak, and what they must prove.

/// What a server must be to be spoken with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Other servers are spoken with at all.
    pub enabled: bool,
    /// A certificate must prove the domain.
    pub secure_auth: bool,
    /// Prepared domains that need not prove theirs that way.
    pub insecure: Vec<String>,
    /// Server Dialback (XEP-0220) proves the domains that no certificate must prove.
    pub dialback: bool,
    /// One connection for both directions (XEP-0288).
    pub bidi: bool,
    /// Prepared domains that are not spoken with.
    pub blocked: Vec<String>,
    /// If there are any, the only prepared domains that are spoken with.
    pub allowed: Vec<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            enabled: true,
            secure_auth: true,
            insecure: Vec::new(),
            dialback: false,
            bidi: true,
            blocked: Vec::new(),
            allowed: Vec::new(),
        }
    }
}

impl Policy {
    /// True for a prepared domain that is spoken with.
    pub fn admits(&self, domain: &str) -> bool {
        let is_in = |list: &[String]| list.iter().any(|d| d == domain);
        self.enabled && !is_in(&self.blocked) && (self.allowed.is_empty() || is_in(&self.allowed))
    }

    /// True for a prepared domain that only a certificate proves.
    pub fn needs_certificate(&self, domain: &str) -> bool {
        self.secure_auth && !self.insecure.iter().any(|d| d == domain)
    }

    /// True for a prepared domain that Server Dialback proves.
    pub fn trusts_dialback(&self, domain: &str) -> bool {
        self.dialback && !self.needs_certificate(domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_decide_who_is_spoken_with_and_what_he_must_prove() {
        let list = |domains: &[&str]| domains.iter().map(|d| d.to_string()).collect();
        let policy = Policy { blocked: list(&["b"]), insecure: list(&["i"]), dialback: true, ..Policy::default() };
        assert!(policy.admits("a") && !policy.admits("b"));
        assert!(policy.needs_certificate("a") && !policy.trusts_dialback("a"));
        assert!(!policy.needs_certificate("i") && policy.trusts_dialback("i"));
        let policy = Policy { allowed: list(&["a", "b"]), ..policy };
        assert!(policy.admits("a") && !policy.admits("b") && !policy.admits("c"));
        assert!(!Policy { enabled: false, ..policy }.admits("a"));
    }
}

//! Why there is no certificate, and what the operator can do about it.

use std::fmt;

use super::json::printable;
use super::message::Problem;
use super::session::Kind;
use crate::net::certs::CertError;

/// Troubles with single names that are told; more are counted by their names alone.
const SHOWN_MAX: usize = 8;

/// What went wrong with a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// What it is.
    pub text: String,
    /// What to do, as far as that can be said.
    pub advice: String,
    /// Seconds for which the authority wants to be left alone.
    pub retry_after_s: Option<u64>,
    /// Names that are to blame; none when it is about all of them.
    pub names: Vec<String>,
    /// The authority knows no such account.
    pub is_account_gone: bool,
    /// The order is of no use any more.
    pub is_final: bool,
    /// It says nothing about the names: the authority cannot be reached, or has too much to do.
    pub is_passing: bool,
}

impl Trouble {
    fn new(text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { text: text.into(), advice: advice.into(), ..Self::default() }
    }

    /// No answer came.
    pub fn unreached(url: &str, why: &str) -> Self {
        let advice = if why.contains("certificate") {
            "for an authority of your own, name the file of its root certificate in acme.ca"
        } else {
            "look at the network, and at acme.directory; it is tried again"
        };
        let text = format!("the authority cannot be reached at {}: {why}", printable(url));
        Self { is_passing: true, ..Self::new(text, advice) }
    }

    /// What is there is something else.
    pub fn no_directory(url: &str) -> Self {
        let text = format!("there is no ACME directory at {url}");
        Self::new(text, "set acme.directory to the address that the authority names for ACME")
    }

    /// The authority wants one to agree to its terms.
    pub fn terms(url: &str) -> Self {
        let text = format!("the authority issues certificates to those who agree to its terms: {url}");
        Self::new(text, "read them, and set acme.terms_agreed = true")
    }

    /// `acme.eab_hmac_key` is no key.
    pub fn bad_binding() -> Self {
        let advice = "copy acme.eab_hmac_key again from where the authority shows it";
        Self::new("the HMAC key of the external account is not in base64url", advice)
    }

    /// The authority does not keep to the protocol.
    pub fn nonsense(what: &str) -> Self {
        let text = format!("the authority answers with {what}");
        Self::new(text, "is acme.directory that of an authority for ACME (RFC 8555)? It is tried again")
    }

    /// Something on this side.
    pub fn own(why: &str) -> Self {
        Self::new(why, "make the data folder writable for the user that runs couplet, with some room on its disk")
    }

    /// A file on this side.
    pub fn of_file(error: &CertError) -> Self {
        Self::new(format!("{}: {}", error.path.display(), error.problem), &*error.advice)
    }

    /// The authority takes its time.
    pub fn slow() -> Self {
        let text = "the authority has come to no end within ten minutes";
        Self { is_passing: true, ..Self::new(text, "it is asked again later") }
    }

    /// The authority lets one prove the name in other ways alone.
    pub fn not_offered(kind: Kind, kinds: &str) -> Self {
        let text = format!("the authority does not take {} for this name, but {}", kind.as_str(), printable(kinds));
        let advice = match kind {
            Kind::Dns => "set acme.challenge to one of these",
            Kind::Http | Kind::TlsAlpn => "set acme.challenge to one of these; a wildcard needs \"dns-01\"",
        };
        Self::new(text, advice)
    }

    /// The proof could not be shown.
    pub fn not_shown(kind: Kind, why: &str) -> Self {
        let advice = match kind {
            Kind::Dns => {
                "run acme.hook by hand with `add`, the name of a record and a text; what it does there and not here, \
                 the sandbox keeps it from (process.sandbox)"
            }
            Kind::Http | Kind::TlsAlpn => "the log may say more",
        };
        Self::new(format!("the proof of the name cannot be shown: {why}"), advice)
    }

    /// What the authority says.
    pub fn of(problem: &Problem, retry_after_s: Option<u64>, kind: Kind) -> Self {
        let Problem { kind: what, detail, instance, names } = problem;
        let said = if detail.is_empty() { "the authority refuses, and does not say why" } else { detail };
        let text = if what.is_empty() { said.to_owned() } else { format!("{said} ({what})") };
        let reachable = match kind {
            Kind::Http => "let port 80 of the name lead to acme.listen or http.listen, in DNS and in the firewall",
            Kind::TlsAlpn => {
                "let port 443 of the name lead to a port with direct TLS (c2s.direct_tls_listen, http.tls_listen), in \
                 DNS and in the firewall"
            }
            Kind::Dns => "see that acme.hook writes the record where the name servers of the domain have it",
        };
        let advice = match what.as_str() {
            "accountDoesNotExist" => "an account is made anew",
            "badCSR" | "badPublicKey" | "badSignatureAlgorithm" => "please report this",
            "caa" => "a CAA record of the domain forbids this authority: correct it",
            "connection" | "tls" | "unauthorized" | "incorrectResponse" | "orderNotReady" => reachable,
            "dns" if kind != Kind::Dns => "the name needs an address in DNS: `couplet check dns` prints the records",
            "dns" => reachable,
            "externalAccountRequired" => {
                "get an external account from the authority, and set acme.eab_key_id and acme.eab_hmac_key"
            }
            "invalidContact" | "unsupportedContact" => "correct acme.contacts",
            "rateLimited" => "it is tried again when the authority allows it; fewer names help",
            "rejectedIdentifier" | "unsupportedIdentifier" => {
                "this authority issues no certificate for the name: leave it out of acme.hosts or acme.names"
            }
            "userActionRequired" => "do what the authority wants of you",
            "serverInternal" => "it is tried again",
            _ => "it is tried again; the authority's documents may say more",
        };
        let advice = match instance.as_ref().filter(|_| !what.is_empty()) {
            Some(page) => format!("{advice}; see {page}"),
            None => advice.to_owned(),
        };
        Self {
            retry_after_s,
            names: names.clone(),
            is_account_gone: what == "accountDoesNotExist",
            is_final: matches!(what.as_str(), "rejectedIdentifier" | "unsupportedIdentifier" | "caa"),
            is_passing: matches!(what.as_str(), "rateLimited" | "serverInternal" | "badNonce"),
            ..Self::new(text, advice)
        }
    }

    /// It is about this name.
    #[must_use]
    pub fn about(self, name: String) -> Self {
        Self { text: format!("{}: {}", printable(&name), self.text), names: vec![name], ..self }
    }

    /// Those of `names` are to blame that it is about in words, if no others are.
    #[must_use]
    pub fn naming(self, names: &[String]) -> Self {
        if !self.is_final || !self.names.is_empty() {
            return self;
        }
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
        let words = self.text.split(|c| !is_part(c)).map(|word| word.trim_end_matches('.'));
        let is_named = |name: &&String| {
            let name = name.strip_prefix("*.").unwrap_or(name);
            words.clone().any(|word| word.eq_ignore_ascii_case(name))
        };
        let names = names.iter().filter(is_named).map(|name| name.strip_prefix("*.").unwrap_or(name).to_owned());
        Self { names: names.collect(), ..self }
    }

    /// Several at once, if there are any.
    ///
    /// # Errors
    /// Then.
    pub fn all(troubles: Vec<Self>) -> Result<(), Self> {
        let join = |what: fn(&Self) -> &String| {
            let mut texts: Vec<&str> = Vec::new();
            for text in troubles.iter().map(|trouble| what(trouble).as_str()) {
                if !texts.contains(&text) {
                    texts.push(text);
                }
            }
            texts.truncate(SHOWN_MAX);
            texts.join("; ")
        };
        let (text, advice) = (join(|trouble| &trouble.text), join(|trouble| &trouble.advice));
        if troubles.is_empty() {
            return Ok(());
        }
        Err(Self {
            retry_after_s: troubles.iter().filter_map(|trouble| trouble.retry_after_s).max(),
            is_final: troubles.iter().any(|trouble| trouble.is_final),
            names: troubles.into_iter().flat_map(|trouble| trouble.names).collect(),
            ..Self::new(text, advice)
        })
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.text.trim_end_matches('.'), self.advice)
    }
}

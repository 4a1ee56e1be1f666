//! Many addresses, looked for in one step each.

use super::glob::Glob;
use crate::jid::Jid;
use std::collections::BTreeSet;

/// A set of addresses as an operator writes them.
#[derive(Debug, Default)]
pub struct Addresses {
    /// Full, bare, or a domain.
    exact: BTreeSet<Box<str>>,
    /// Domains of which all below them are meant.
    under: BTreeSet<Box<str>>,
    globs: Vec<Glob>,
}

enum Entry {
    Exact(Jid),
    Under(Jid),
    Glob,
}

fn read(entry: &str) -> Result<Entry, String> {
    let wrong = || {
        format!(
            "\"{entry}\" is no address; write for example \"romeo@example.org\", \"example.org\", \"*.example.org\" \
             or \"*bot@example.org\""
        )
    };
    let domain = entry.strip_prefix("*.").filter(|domain| !domain.contains('*'));
    if let Some(domain) = domain {
        return Jid::parse(domain).ok().filter(Jid::is_host).map(Entry::Under).ok_or_else(wrong);
    }
    if entry.contains('*') {
        let is_plain = !entry.contains(|c: char| c.is_whitespace() || c == '/') && entry.matches('@').count() <= 1;
        return if is_plain { Ok(Entry::Glob) } else { Err(wrong()) };
    }
    if entry.contains(char::is_whitespace) && !entry.contains('/') {
        return Err(wrong());
    }
    Jid::parse(entry).map(Entry::Exact).map_err(|_| wrong())
}

/// Whether an entry means something.
///
/// # Errors
/// What to write.
pub fn check(entry: &str) -> Result<(), String> {
    read(entry).map(|_| ())
}

impl Addresses {
    /// Adds an entry; one that means nothing is left out.
    pub fn add(&mut self, entry: &str) {
        match read(entry) {
            Ok(Entry::Exact(jid)) => _ = self.exact.insert(jid.as_str().into()),
            Ok(Entry::Under(jid)) => _ = self.under.insert(jid.as_str().into()),
            Ok(Entry::Glob) => self.globs.push(Glob::new(entry)),
            Err(_) => {}
        }
    }

    /// True for an address that one of them means: a full address is itself, a bare one all of its resources, a domain
    /// all that is of it, one with stars the bare addresses that are like it, or the domains when it has no `@`.
    pub fn contains(&self, jid: &Jid) -> bool {
        let domain = jid.domain();
        [jid.as_str(), jid.bare_str(), domain].iter().any(|one| self.exact.contains(*one))
            || (!self.under.is_empty() && above(domain).any(|domain| self.under.contains(domain)))
            || self.globs.iter().any(|glob| glob.matches(jid.bare_str()) || glob.matches(domain))
    }
}

/// The domains above a domain.
fn above(domain: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(domain.split_once('.'), |(_, rest)| rest.split_once('.')).map(|(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_means_what_its_form_says() {
        let is = |entry: &str, jid: &str| {
            let mut all = Addresses::default();
            all.add(entry);
            all.contains(&Jid::parse(jid).unwrap())
        };
        for (entry, jid) in [
            ("a@b.c", "a@b.c"),
            ("A@B.c", "a@b.c/r"),
            ("b.c", "a@b.c/r"),
            ("b.c", "b.c"),
            ("a@b.c/r", "a@b.c/r"),
            ("a@b.c/r s", "a@b.c/r s"),
            ("*.c", "a@b.c"),
            ("*.b.c", "x@y.a.b.c"),
            ("*bot@b.c", "spambot@b.c/x"),
            ("spam*@*", "spammer@anything.at"),
            ("*.ru*", "x@a.ru.example"),
            ("*", "anybody@a.b"),
        ] {
            assert!(is(entry, jid), "{entry} {jid}");
        }
        for (entry, jid) in [
            ("a@b.c", "b.c"),
            ("a@b.c/r", "a@b.c"),
            ("b.c", "a@x.b.c"),
            ("*.b.c", "a@b.c"),
            ("*.c", "a@bc"),
            ("*bot@b.c", "bots@b.c"),
        ] {
            assert!(!is(entry, jid), "{entry} {jid}");
        }
    }

    #[test]
    fn what_is_no_address_is_said() {
        for wrong in ["", "@", "a b", "*.a b", "*.a@b", "a@@*", "*/x", "a@", "*@*@*"] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}

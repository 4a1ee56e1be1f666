//! Block lists that another server publishes (<https://xmppbl.org>): nodes (XEP-0060) with an item for each address or
//! domain that is on the list, whose id is the SHA-256 of it.

use super::Core;
use super::accounts::Present;
use crate::jid::Jid;
use crate::storage::{StoreError, Table};
use ring::digest;
use std::collections::BTreeSet;

/// Owner: nobody. Sub key: [`Source::key`], and a [`Hash`] that is on that list.
pub struct Listed;
impl Table for Listed {
    const ID: u8 = 65;
    const NAME: &'static str = "rtbl";
    type Value = Present;
}

/// Of a bare address or a domain.
pub type Hash = [u8; 32];

/// The list of those who are to be kept out of rooms, where no other node is named.
const NODE: &str = "muc_bans_sha256";

/// Where a list is published.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The service.
    pub service: Jid,
    /// The node.
    pub node: String,
}

impl Source {
    /// Reads the address of a service, or the URI of a node (XEP-0060 section 12.22).
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix("xmpp:").unwrap_or(text);
        let (service, query) = text.split_once('?').unwrap_or((text, ""));
        let named = query.split(';').find_map(|part| part.strip_prefix("node="));
        let is_plain = query.split(';').all(|part| part.is_empty() || part.starts_with("node=") || part == "pubsub");
        let node = named.unwrap_or(NODE).replace("%2F", "/").replace("%3A", ":");
        let service = Jid::parse(service).ok().filter(|jid| jid.is_bare() && !service.contains(char::is_whitespace))?;
        (is_plain && !node.is_empty() && node.len() <= 1024).then_some(Self { service, node })
    }

    /// What stands for it in the store.
    pub fn key(&self) -> [u8; 8] {
        let hash = sha256(&format!("{}\0{}", self.service, self.node));
        let mut key = [0; 8];
        key.copy_from_slice(&hash[..8]);
        key
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "xmpp:{}?;node={}", self.service, self.node)
    }
}

/// The hash of a text.
pub fn sha256(text: &str) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    hash
}

/// A hash as the id of an item has it: 64 hexadecimal digits.
pub fn hash_of(id: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    if id.len() != 64 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in hash.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(id.get(at..at + 2)?, 16).ok()?;
    }
    Some(hash)
}

fn sub(source: &Source, hash: &Hash) -> [u8; 40] {
    let mut sub = [0; 40];
    sub[..8].copy_from_slice(&source.key());
    sub[8..].copy_from_slice(hash);
    sub
}

impl Core {
    /// True when a bare address, or its domain, is on one of these lists.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn rtbl_has(&mut self, sources: &[Source], jid: &Jid) -> Result<bool, StoreError> {
        if sources.is_empty() {
            return Ok(false);
        }
        let hashes = [sha256(jid.bare_str()), sha256(jid.domain())];
        for source in sources {
            for hash in &hashes {
                if self.rtbl_has_hash(source, hash)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// True when a list has that hash.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn rtbl_has_hash(&mut self, source: &Source, hash: &Hash) -> Result<bool, StoreError> {
        self.view.contains::<Listed>("", &sub(source, hash))
    }

    /// All hashes of a list, as they are stored.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn rtbl_hashes(&mut self, source: &Source) -> Result<BTreeSet<Hash>, StoreError> {
        let key = source.key();
        let rows = self.view.list_from::<Listed>("", &key, usize::MAX)?;
        Ok(rows.into_iter().filter_map(|(sub, _)| sub.strip_prefix(&key)?.try_into().ok()).collect())
    }

    /// Puts a hash on a list.
    pub fn rtbl_put(&mut self, source: &Source, hash: &Hash) {
        self.view.put::<Listed>("", &sub(source, hash), &Present {});
    }

    /// Takes a hash from a list.
    pub fn rtbl_delete(&mut self, source: &Source, hash: &Hash) {
        self.view.delete::<Listed>("", &sub(source, hash));
    }

    /// Forgets lists that are none of these any more.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn rtbl_keep(&mut self, sources: &[Source]) -> Result<(), StoreError> {
        let keys: Vec<[u8; 8]> = sources.iter().map(Source::key).collect();
        for (sub, _) in self.view.list::<Listed>("", usize::MAX)? {
            if !keys.iter().any(|key| sub.starts_with(key)) {
                self.view.delete::<Listed>("", &sub);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_named_by_its_service_or_by_a_uri() {
        let of = |text: &str| Source::parse(text).map(|s| format!("{} {}", s.service, s.node));
        for (text, expected) in [
            ("rtbl.example", "rtbl.example muc_bans_sha256"),
            ("xmpp:RTBL.example", "rtbl.example muc_bans_sha256"),
            ("xmpp:rtbl.example?;node=spam", "rtbl.example spam"),
            ("xmpp:lists@rtbl.example?pubsub;node=a%2Fb", "lists@rtbl.example a/b"),
        ] {
            assert_eq!(of(text).as_deref(), Some(expected), "{text}");
        }
        for wrong in ["", "xmpp:", "a b", "rtbl.example/x", "rtbl.example?;node=", "rtbl.example?join"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
        assert_eq!(Source::parse("a.example?;node=n").unwrap().to_string(), "xmpp:a.example?;node=n");
    }

    /// With `printf romeo@example.org | sha256sum`.
    #[test]
    fn ids_are_hashes_of_addresses() {
        let id = "4f11361df77607b18f07f25caa5f0bf7e12c6f02a2a1e4285e78aa135df83fbe";
        assert_eq!(hash_of(id), Some(sha256("romeo@example.org")));
        assert_eq!(hash_of(&id.to_uppercase()), hash_of(id));
        for wrong in ["", "e1", &id[1..], &format!("{}g", &id[1..]), &format!("+{}", &id[1..]), &"é".repeat(32)] {
            assert_eq!(hash_of(wrong), None, "{wrong}");
        }
    }
}

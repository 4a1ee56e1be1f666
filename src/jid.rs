//! Addresses (RFC 6122: nodeprep, nameprep, resourceprep, which is what peers use).

pub mod idna;

use crate::budget::allocated;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::Ipv6Addr;
use std::rc::Rc;

use crate::fault::{Fault, armed};
use stringprep::tables;
use unicode_normalization::UnicodeNormalization;

/// A prepared address. Cloning shares the text, and so does [`Jid::bare`].
#[derive(Clone)]
pub struct Jid {
    /// It may go on behind the address.
    text: Rc<str>,
    len: u16,
    /// Bytes of the localpart; 0 when there is none.
    node_len: u16,
    /// Offset behind the domain.
    bare_len: u16,
}

/// Why a text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JidError {
    /// A part is empty that must not be.
    Empty,
    /// A part has more than 1023 bytes.
    TooLong,
    /// A part has a character that its profile forbids.
    Forbidden,
}

const PART_BYTES_MAX: usize = 1023;

impl Jid {
    /// Parses and prepares `node@domain/resource`.
    ///
    /// # Errors
    /// When a part is empty, too long, or has a character that its profile forbids.
    pub fn parse(text: &str) -> Result<Self, JidError> {
        let (bare, resource) = match text.split_once('/') {
            Some((bare, resource)) => (bare, Some(resource)),
            None => (text, None),
        };
        let (node, domain) = match bare.split_once('@') {
            Some((node, domain)) => (Some(node), domain),
            None => (None, bare),
        };
        // Nearly all addresses on the wire are prepared already.
        if node.is_none_or(is_plain_node) && is_plain_domain(domain) && resource.is_none_or(is_plain_resource) {
            let node_len = node.map_or(0, str::len) as u16;
            return Ok(Self::of(text, node_len, bare.len() as u16));
        }
        Self::from_parts(node, domain, resource)
    }

    /// Prepares the parts and joins them.
    ///
    /// # Errors
    /// As [`Jid::parse`].
    pub fn from_parts(node: Option<&str>, domain: &str, resource: Option<&str>) -> Result<Self, JidError> {
        let mut text = String::new();
        if let Some(node) = node {
            text.push_str(&prepare_node(node)?);
            text.push('@');
        }
        let node_len = text.len().saturating_sub(1) as u16;
        text.push_str(&prepare_domain(domain)?);
        let bare_len = text.len() as u16;
        if let Some(resource) = resource {
            text.push('/');
            text.push_str(&prepare_resource(resource)?);
        }
        Ok(Self::of(&text, node_len, bare_len))
    }

    /// Of prepared text, whose three parts have 3071 bytes at most.
    fn of(text: &str, node_len: u16, bare_len: u16) -> Self {
        Self { text: text.into(), len: text.len() as u16, node_len, bare_len }
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.text[..usize::from(self.len)]
    }

    /// Localpart.
    pub fn node(&self) -> Option<&str> {
        (self.node_len > 0).then(|| &self.text[..usize::from(self.node_len)])
    }

    /// Domain.
    pub fn domain(&self) -> &str {
        let start = if self.node_len > 0 { usize::from(self.node_len) + 1 } else { 0 };
        &self.text[start..usize::from(self.bare_len)]
    }

    /// Resource.
    pub fn resource(&self) -> Option<&str> {
        self.as_str().get(usize::from(self.bare_len) + 1..)
    }

    /// `node@domain` or `domain`, as text.
    pub fn bare_str(&self) -> &str {
        &self.text[..usize::from(self.bare_len)]
    }

    /// Bytes of the heap that it takes, by itself: those that share its text take no more.
    pub fn heap_bytes(&self) -> usize {
        allocated(2 * size_of::<usize>() + self.text.len())
    }

    /// True without resource.
    pub fn is_bare(&self) -> bool {
        self.len == self.bare_len
    }

    /// True for an address of a host alone: no localpart, no resource.
    pub fn is_host(&self) -> bool {
        self.node_len == 0 && self.is_bare()
    }

    /// The address without resource.
    pub fn bare(&self) -> Jid {
        Self { len: self.bare_len, ..self.clone() }
    }

    /// The bare address with another resource.
    ///
    /// # Errors
    /// When resourceprep refuses `resource`.
    pub fn with_resource(&self, resource: &str) -> Result<Jid, JidError> {
        let text = format!("{}/{}", self.bare_str(), prepare_resource(resource)?);
        Ok(Self::of(&text, self.node_len, self.bare_len))
    }

    /// True when both belong to the same account, room or host.
    pub fn same_bare(&self, other: &Jid) -> bool {
        self.bare_str() == other.bare_str()
    }
}

impl PartialEq for Jid {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Jid {}

impl PartialOrd for Jid {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Jid {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Jid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for JidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JidError::Empty => "a part of the address is empty",
            JidError::TooLong => "a part of the address has more than 1023 bytes",
            JidError::Forbidden => "the address has a character that is not allowed there",
        })
    }
}

impl std::error::Error for JidError {}

/// Nodeprep of a localpart (RFC 6122 appendix A).
///
/// # Errors
/// When it is empty, longer than 1023 bytes, or has a character that the profile forbids.
pub fn prepare_node(node: &str) -> Result<String, JidError> {
    if is_plain_node(node) {
        return Ok(node.to_owned());
    }
    stringprep(node, true, is_forbidden_in_node)
}

/// Nameprep of a domain (RFC 3491), or an IP literal in its shortest form. A final dot is dropped (RFC 6122
/// section 2.2). Labels in Unicode and in their ASCII form stay what they are, as they do for Prosody.
///
/// # Errors
/// As [`prepare_node`]. In ASCII only letters, digits, `-` and `_` may stand between the dots; `_` because hosts
/// inside of companies have it.
pub fn prepare_domain(domain: &str) -> Result<String, JidError> {
    if is_plain_domain(domain) {
        return Ok(domain.to_owned());
    }
    if let Some(literal) = domain.strip_prefix('[').and_then(|d| d.strip_suffix(']')) {
        return literal.parse::<Ipv6Addr>().map(|ip| format!("[{ip}]")).map_err(|_| JidError::Forbidden);
    }
    // The ideographic full stop separates labels too (RFC 3490 section 3.1); nameprep has mapped its variants to it.
    let mut prepared = stringprep(domain, true, |_| false)?.replace('\u{3002}', ".");
    if prepared.ends_with('.') {
        prepared.pop();
    }
    match prepared.split('.').find_map(|label| check_label(label).err()) {
        Some(error) => Err(error),
        None => Ok(prepared),
    }
}

/// Resourceprep of a resource (RFC 6122 appendix B).
///
/// # Errors
/// As [`prepare_node`].
pub fn prepare_resource(resource: &str) -> Result<String, JidError> {
    if is_plain_resource(resource) {
        return Ok(resource.to_owned());
    }
    stringprep(resource, false, tables::ascii_control_character)
}

/// RFC 6122 appendix A.5.
fn is_forbidden_in_node(c: char) -> bool {
    c == ' ' || tables::ascii_control_character(c) || "\"&'/:<>@".contains(c)
}

/// True when nodeprep changes nothing, and cheap to find out.
fn is_plain_node(node: &str) -> bool {
    let plain = |b: u8| {
        b.is_ascii_lowercase()
            || b.is_ascii_digit()
            || matches!(b, b'#'..=b'%' | b'('..=b'.' | b'['..=b'`' | b'{'..=b'~' | b'!' | b';' | b'=' | b'?')
    };
    (1..=PART_BYTES_MAX).contains(&node.len()) && node.bytes().all(plain)
}

/// True when nameprep changes nothing, and cheap to find out.
fn is_plain_domain(domain: &str) -> bool {
    let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    let is_plain_label = |label: &[u8]| (1..=LABEL_MAX).contains(&label.len()) && label.iter().all(|&b| plain(b));
    domain.len() <= PART_BYTES_MAX && domain.as_bytes().split(|&b| b == b'.').all(is_plain_label)
}

/// True when resourceprep changes nothing, and cheap to find out.
fn is_plain_resource(resource: &str) -> bool {
    (1..=PART_BYTES_MAX).contains(&resource.len()) && resource.bytes().all(|b| matches!(b, b' '..=b'~'))
}

/// Characters of one label of a domain (RFC 1035 section 2.3.4). The ASCII form of a label in Unicode is longer than
/// its characters, so this bound refuses none that DNS could hold.
const LABEL_MAX: usize = 63;

fn check_label(label: &str) -> Result<(), JidError> {
    match label.chars().count() {
        0 => Err(JidError::Empty),
        n if n > LABEL_MAX => Err(JidError::TooLong),
        _ if label.chars().any(|c| c.is_ascii() && !matches!(c, 'a'..='z' | '0'..='9' | '-' | '_')) => {
            Err(JidError::Forbidden)
        }
        _ => Ok(()),
    }
}

/// Stringprep (RFC 3454) with the tables that the three profiles have in common, and what `forbidden` adds.
///
/// Characters that Unicode 3.2 does not know, nearly all emoji among them, pass untouched, as for a query (RFC 3454
/// section 7): servers route them, and people have them in their nicknames.
fn stringprep(text: &str, fold_case: bool, forbidden: impl Fn(char) -> bool) -> Result<String, JidError> {
    if text.len() > PART_BYTES_MAX {
        return Err(JidError::TooLong);
    }
    let mapped = text.chars().filter(|&c| !tables::commonly_mapped_to_nothing(c));
    let prepared = if armed(Fault::FoldedPlainly) && fold_case {
        normalize(mapped.flat_map(char::to_lowercase))
    } else if fold_case {
        normalize(mapped.flat_map(tables::case_fold_for_nfkc))
    } else {
        normalize(mapped)
    };
    if prepared.chars().any(|c| is_forbidden(c) || forbidden(c)) || is_mixed_direction(&prepared) {
        return Err(JidError::Forbidden);
    }
    match prepared.len() {
        0 => Err(JidError::Empty),
        n if n > PART_BYTES_MAX => Err(JidError::TooLong),
        _ => Ok(prepared),
    }
}

/// NFKC as Unicode 3.2 has it. To it an unknown character neither decomposes nor combines, so it ends a run.
fn normalize(chars: impl Iterator<Item = char>) -> String {
    let mut normal = String::new();
    let mut run = String::new();
    for c in chars {
        if tables::unassigned_code_point(c) {
            normal.extend(run.nfkc());
            run.clear();
            normal.push(c);
        } else {
            run.push(c);
        }
    }
    normal.extend(run.nfkc());
    normal
}

/// Tables C.1.2, C.2.2 and C.3 to C.9 of RFC 3454. (C.5, surrogates, cannot be in a `char`.)
fn is_forbidden(c: char) -> bool {
    tables::non_ascii_space_character(c)
        || tables::non_ascii_control_character(c)
        || tables::private_use(c)
        || tables::non_character_code_point(c)
        || tables::inappropriate_for_plain_text(c)
        || tables::inappropriate_for_canonical_representation(c)
        || tables::change_display_properties_or_deprecated(c)
        || tables::tagging_character(c)
}

/// RFC 3454 section 6: with a right-to-left character, none may be left-to-right, and the first and the last must
/// be right-to-left.
fn is_mixed_direction(text: &str) -> bool {
    let mut ends = text.chars().next().into_iter().chain(text.chars().next_back());
    text.contains(tables::bidi_r_or_al) && (text.contains(tables::bidi_l) || !ends.all(tables::bidi_r_or_al))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Result<(Option<String>, String, Option<String>), JidError> {
        let jid = Jid::parse(text)?;
        Ok((jid.node().map(str::to_owned), jid.domain().to_owned(), jid.resource().map(str::to_owned)))
    }

    fn prepared(text: &str) -> Result<String, JidError> {
        Jid::parse(text).map(|jid| jid.as_str().to_owned())
    }

    #[test]
    fn an_address_splits_at_the_first_slash_and_at_the_first_at_before_it() {
        for (text, node, domain, resource) in [
            ("server", None, "server", None),
            ("server/resource", None, "server", Some("resource")),
            ("node@server", Some("node"), "server", None),
            ("node@server/resource", Some("node"), "server", Some("resource")),
            ("server/resource@foo", None, "server", Some("resource@foo")),
            ("server/resource@foo/bar", None, "server", Some("resource@foo/bar")),
            ("node@server/@resource/", Some("node"), "server", Some("@resource/")),
            ("node@server//", Some("node"), "server", Some("/")),
        ] {
            let expected = (node.map(str::to_owned), domain.to_owned(), resource.map(str::to_owned));
            assert_eq!(parts(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn no_part_may_be_empty_or_look_like_another() {
        for text in ["", "@", "/", "@/", "node@", "node@/server", "@server", "@server/r", "server/", "node@server/"] {
            assert_eq!(prepared(text), Err(JidError::Empty), "{text:?}");
        }
        for text in ["node@@", "node@@host", "node@host@other", "@node@host"] {
            assert!(prepared(text).is_err(), "{text:?}");
        }
        assert_eq!(prepared("\u{AD}@server"), Err(JidError::Empty), "mapped to nothing");
        assert_eq!(prepared("server/\u{200B}"), Err(JidError::Empty), "mapped to nothing");
    }

    #[test]
    fn views_of_the_parts_agree() {
        let full = Jid::parse("juliet@example.com/balcony").unwrap();
        assert_eq!((full.bare_str(), full.is_bare(), full.is_host()), ("juliet@example.com", false, false));
        let bare = full.bare();
        assert_eq!((bare.as_str(), bare.node(), bare.resource()), ("juliet@example.com", Some("juliet"), None));
        assert!(bare.is_bare() && !bare.is_host() && full.same_bare(&bare) && bare != full);
        assert_eq!(bare.with_resource("balcony"), Ok(full));
        assert_eq!(bare.with_resource(""), Err(JidError::Empty));
        let host = Jid::parse("example.com").unwrap();
        assert!(host.is_host() && host.is_bare() && host.bare() == host);
        assert!(!Jid::parse("example.com/x").unwrap().is_host());
    }

    #[test]
    fn each_part_has_its_profile() {
        for (text, expected) in [
            // RFC 6122 section 2 and its profiles: localpart and domain fold case, a resource does not.
            ("JULIET@Example.COM/Balcony", "juliet@example.com/Balcony"),
            ("fu\u{DF}ball@example.com", "fussball@example.com"),
            ("\u{3C0}@example.com", "\u{3C0}@example.com"),
            ("\u{3A3}@example.com/foo", "\u{3C3}@example.com/foo"),
            ("king@example.com/\u{265A}", "king@example.com/\u{265A}"),
            ("foo\\20bar@example.com", "foo\\20bar@example.com"),
            ("example.com/foo bar", "example.com/foo bar"),
            ("henry\u{2163}@example.com", "henryiv@example.com"),
            ("example.com/\u{2163}", "example.com/IV"),
            ("example.com/e\u{301}", "example.com/\u{E9}"),
            ("ju\u{AD}liet@example.com", "juliet@example.com"),
            // Domains.
            ("example.com.", "example.com"),
            ("example\u{3002}com\u{FF0E}", "example.com"),
            ("B\u{DC}CHER.example", "b\u{FC}cher.example"),
            ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
            ("_host-1.example", "_host-1.example"),
            ("192.0.2.1/r", "192.0.2.1/r"),
            ("[2001:DB8::0:1]/r", "[2001:db8::1]/r"),
            // Unknown to Unicode 3.2.
            ("room@example.com/\u{1F98A} fox", "room@example.com/\u{1F98A} fox"),
            ("room@example.com/\u{1F130}", "room@example.com/\u{1F130}"),
        ] {
            assert_eq!(prepared(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn forbidden_characters_are_refused() {
        for text in [
            "a b@example.com",
            "a\"b@example.com",
            "a&b@example.com",
            "a'b@example.com",
            "a:b@example.com",
            "<a>@example.com",
            "a\u{7F}@example.com",
            "a\u{A0}b@example.com",
            "a\u{FF20}b@example.com",
            "a\u{E000}@example.com",
            "a\u{FFFD}@example.com",
            "\u{5D0}a@example.com",
            "\u{5D0}1@example.com",
            "\u{5D0}a\u{5D0}@example.com",
            "exa mple.com",
            "example.com\u{80}",
            "exam<ple.com",
            "ex\u{FF0F}ample.com",
            "[::1",
            "[::g]",
            "[127.0.0.1]",
            "::1",
            "example.com/\0",
            "example.com/\n",
            "example.com/\u{2028}",
            "example.com/\u{E0041}",
            "example.com/\u{FFFE}",
        ] {
            assert_eq!(prepared(text), Err(JidError::Forbidden), "{text:?}");
        }
        assert_eq!(prepared("a..b"), Err(JidError::Empty));
        assert_eq!(prepared("a.."), Err(JidError::Empty));
        assert_eq!(prepared("."), Err(JidError::Empty));
    }

    #[test]
    fn parts_have_at_most_1023_bytes() {
        let longest = "a".repeat(1023);
        let domain = format!("{}example", "a.".repeat(508));
        let text = format!("{longest}@{domain}/{longest}");
        assert_eq!(domain.len(), 1023);
        assert_eq!(parts(&text), Ok((Some(longest.clone()), domain.clone(), Some(longest.clone()))));
        assert_eq!(prepared(&format!("{longest}a@b")), Err(JidError::TooLong));
        assert_eq!(prepared(&format!("{longest}A@b")), Err(JidError::TooLong));
        assert_eq!(prepared(&format!("b/{longest}a")), Err(JidError::TooLong));
        assert_eq!(prepared(&format!("a.{domain}")), Err(JidError::TooLong));
        // Longer after preparation only: one character becomes four.
        assert_eq!(prepared(&format!("b/{}", "\u{2057}".repeat(300))), Err(JidError::TooLong));
        assert_eq!(prepared(&"a".repeat(63)), Ok("a".repeat(63)));
        assert_eq!(prepared(&"a".repeat(64)), Err(JidError::TooLong));
    }

    #[test]
    fn the_short_way_and_the_profile_agree_on_ascii() {
        for b in 0..0x80u8 {
            let text = (b as char).to_string();
            for (plain, full) in [
                (is_plain_node(&text), stringprep(&text, true, is_forbidden_in_node)),
                (is_plain_resource(&text), stringprep(&text, false, tables::ascii_control_character)),
            ] {
                assert_eq!(plain, full.as_deref() == Ok(&text), "{text:?} {full:?}");
            }
        }
    }

    #[test]
    fn preparing_any_character_twice_changes_nothing_more() {
        // Beyond lie only characters that Unicode 3.2 does not know, or that are forbidden.
        for c in '\0'..='\u{2FFFF}' {
            let text = c.to_string();
            for prepare in [prepare_node, prepare_domain, prepare_resource] {
                if let Ok(once) = prepare(&text) {
                    assert_eq!(prepare(&once).as_deref(), Ok(once.as_str()), "U+{:04X}", c as u32);
                }
            }
        }
    }

    #[test]
    fn an_address_is_small() {
        assert_eq!(size_of::<Jid>(), size_of::<&str>() + 8);
    }
}

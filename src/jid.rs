//! Addresses (RFC 6122: nodeprep, nameprep, resourceprep, which is what peers use).

use std::fmt;
use std::rc::Rc;

/// A prepared address. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Jid {
    text: Rc<str>,
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
        Ok(Self { text: text.into(), node_len, bare_len })
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.text
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
        self.text.get(usize::from(self.bare_len) + 1..)
    }

    /// `node@domain` or `domain`, as text.
    pub fn bare_str(&self) -> &str {
        &self.text[..usize::from(self.bare_len)]
    }

    /// True without resource.
    pub fn is_bare(&self) -> bool {
        self.text.len() == usize::from(self.bare_len)
    }

    /// True for an address of a host alone: no localpart, no resource.
    pub fn is_host(&self) -> bool {
        self.node_len == 0 && self.is_bare()
    }

    /// The address without resource.
    pub fn bare(&self) -> Jid {
        if self.is_bare() {
            return self.clone();
        }
        Self { text: self.bare_str().into(), node_len: self.node_len, bare_len: self.bare_len }
    }

    /// The bare address with another resource.
    ///
    /// # Errors
    /// When resourceprep refuses `resource`.
    pub fn with_resource(&self, resource: &str) -> Result<Jid, JidError> {
        let text = format!("{}/{}", self.bare_str(), prepare_resource(resource)?);
        Ok(Self { text: text.into(), node_len: self.node_len, bare_len: self.bare_len })
    }

    /// True when both belong to the same account, room or host.
    pub fn same_bare(&self, other: &Jid) -> bool {
        self.bare_str() == other.bare_str()
    }
}

impl fmt::Display for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
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
pub fn prepare_node(node: &str) -> Result<String, JidError> {
    bounded(node.to_lowercase())
}

/// Nameprep of a domain (RFC 3491); a final dot is dropped (RFC 6122 section 2.2).
pub fn prepare_domain(domain: &str) -> Result<String, JidError> {
    bounded(domain.to_lowercase())
}

/// Resourceprep of a resource (RFC 6122 appendix B).
pub fn prepare_resource(resource: &str) -> Result<String, JidError> {
    bounded(resource.to_string())
}

fn bounded(part: String) -> Result<String, JidError> {
    match part.len() {
        0 => Err(JidError::Empty),
        n if n > PART_BYTES_MAX => Err(JidError::TooLong),
        _ => Ok(part),
    }
}

//! Portable import and export of accounts (XEP-0227): one document, or several that include each other.
//!
//! [`Reader`] frames it: what holds many things (hosts, users, nodes, archives) is opened and closed, what stands in
//! them comes as whole elements, so that a file of any length goes through a buffer of one of them. [`Walker`] makes
//! pieces of that, [`write`](write::account) the way back.

mod read;
mod walk;
pub mod write;

pub use read::{Event, PieError, Reader};
pub use walk::{Found, Walker};

/// The namespace of section 4.
pub const PIE: &str = "urn:xmpp:pie:0";
/// What ejabberd has written before that.
const PIE_OLD: &str = "http://www.xmpp.org/extensions/xep-0227.html#ns";
/// Section 4.3.
const SCRAM: &str = "urn:xmpp:pie:0#scram";
/// Section 4.10.
const ARCHIVE: &str = "urn:xmpp:pie:0#mam";
/// Section 5.
const XINCLUDE: &str = "http://www.w3.org/2001/XInclude";
/// Privacy lists (XEP-0016), by which blocked addresses travel.
const PRIVACY: &str = "jabber:iq:privacy";

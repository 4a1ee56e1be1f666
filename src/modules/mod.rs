//! One file for each protocol extension, and the list that makes them one struct.
//!
//! Hooks are typed, have empty defaults, and run in the named phases of [`pipeline`](crate::pipeline). The phase orders
//! kinds of work; the list at the end of this file orders modules inside a phase. A module knows the floors above it
//! and no other module.

#[cfg(feature = "commands")]
use crate::core::commands::Call;
use crate::core::disco::Disco;
#[cfg(feature = "http")]
use crate::core::endpoints::Endpoint;
use crate::core::flight::{Flow, InFlight, Urgency};
#[cfg(feature = "http")]
use crate::core::io::ConnId;
#[cfg(feature = "import")]
use crate::core::moving::{Outcome, Piece, Taken, Terms};
use crate::core::parked::{State, state_of};
use crate::core::register::{Newcomer, Stranger, Visit};
use crate::core::session::SessionId;
use crate::core::settings::Settings;
use crate::core::{Answer, Core, Request};
use crate::jid::Jid;
use crate::setting::Section;
use crate::stanza::{Condition, Stanza, StanzaError};
use crate::storage::StoreError;
use crate::xml::{Builder, Element, ElementRef};

#[macro_use]
mod calls;
mod hooks;
mod switches;
mod terms;

pub use hooks::Module;
pub use switches::General;
use switches::{OffHosts, On, host_of, host_of_session, host_that_way};
pub use terms::{Dir, Fit, Info, IqRoute, Misfit, Scope, SessionEvent, TableInfo, Undelivered, Xep};

// The order is the order inside each phase: what blocks comes before what copies and what keeps, and who knows a part
// of what a request may name comes before who answers for the rest.
modules! {
    "blocking" => blocking::Blocking,
    "rules" => rules::Rules,
    "rtbl" => rtbl::Rtbl,
    "strangers" => strangers::Strangers,
    "mam" => mam::Mam,
    "carbons" => carbons::Carbons,
    "offline" => offline::Offline,
    "bookmarks" => bookmarks::Bookmarks,
    "avatars" => avatars::Avatars,
    "pep" => pep::Pep,
    "csi" => csi::Csi,
    "external_services" => external_services::ExternalServices,
    "commands" => commands::Commands,
    "disco" => disco::ServiceDiscovery,
    "caps" => caps::Caps,
    "ping" => ping::Ping,
    "version" => version::Version,
    "time" => time::Time,
    "last" => last::Last,
    "private" => private::Private,
    "vcard" => vcard::VCard,
    "muc" => muc::Muc,
    "pubsub" => pubsub::PubSub,
    "register" => register::Register,
    "invites" => invites::Invites,
    "contact_info" => contact_info::ContactInfo,
    "motd" => motd::Motd,
    "upload" => upload::Upload,
    "push" => push::Push,
    "unified_push" => unified_push::UnifiedPush,
}

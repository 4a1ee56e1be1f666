//! HTTP without I/O: requests are read, bodies cut, answers written, addresses of proxies believed or not. Sockets are
//! [`net`](crate::net)'s.
//!
//! [`Wire`] is one connection. It hands out one request at a time and takes its answer; what follows in the same
//! bytes waits for that, so that answers are in order (RFC 9112 section 9.3.2) and nothing piles up. Whatever two
//! readers could understand differently is refused: two lengths, a length and chunks, bare line feeds, folded lines.

pub mod answer;
pub mod body;
pub mod bosh;
pub mod clerk;
pub mod endpoint;
pub mod forwarded;
pub mod framing;
pub mod head;
pub mod host_meta;
pub mod invitation;
pub mod metrics;
pub mod pages;
pub mod proxy;
pub mod site;
pub mod upload;
pub mod websocket;
pub mod wire;

pub use answer::{Answer, Status};
pub use head::{Head, Method};
pub use pages::{Page, Pages};
pub use site::{Site, SiteOptions};
pub use wire::Wire;

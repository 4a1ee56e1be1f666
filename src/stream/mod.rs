//! One connection without I/O: negotiation, SASL, stream errors. Knows no accounts, no other connections, no sockets.

mod c2s;
#[cfg(feature = "compression")]
pub mod compression;
#[cfg(feature = "compression")]
mod deflate;
mod error;
mod features;
mod framing;
mod header;
pub mod management;
pub mod names;
mod negotiation;
mod profile;
pub mod s2s;
pub mod sasl;
mod sasl2;

pub use c2s::{Admission, C2s, Event, Options, StreamCx};
pub use error::StreamError;
pub use header::HEADER;
pub use names::{PeerCert, PeerNames, Trust};
pub use sasl2::{IssuedToken, UserAgent};

/// What TLS says about a connection, once its handshake is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// TLS 1.3.
    pub tls13: bool,
    /// The `tls-exporter` channel binding (RFC 9266), on TLS 1.3 alone.
    pub exporter: Option<[u8; 32]>,
    /// The `tls-server-end-point` channel binding (RFC 5929): the hash of our certificate.
    pub end_point: Option<Vec<u8>>,
    /// Name that the client asked for.
    pub sni: Option<String>,
    /// Protocol agreed upon.
    pub alpn: Option<Vec<u8>>,
    /// The peer's certificate, of servers; none when it has shown none.
    pub peer: Option<PeerCert>,
}

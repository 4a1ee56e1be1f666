//! Sockets, TLS and certificates: the shell around the engine.

mod cert_folder;
pub mod certs;
pub mod idna;
pub mod tls;
pub mod x509;

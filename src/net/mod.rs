//! Sockets, TLS and certificates: the shell around the engine.

pub mod admin;
mod cert_folder;
pub mod certs;
pub mod idna;
pub mod tls;
pub mod x509;

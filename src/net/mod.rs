//! The shell around the engine: sockets, TLS and certificates, threads, signals, real time, the log.
//!
//! [`serve`] opens everything that can fail, in an order that lets each failure be told before anything is changed, and
//! then runs the [`shell`]'s loop on the calling thread, the worker. Beside it run the storage writer, the password
//! hasher ([`threads`]) and async-io's helper, which sleeps.

#[cfg(feature = "acme")]
pub mod acme;
pub mod activation;
pub mod admin;
#[cfg(feature = "mam")]
mod archive;
pub mod authorities;
pub mod bell;
mod cert_folder;
pub mod certs;
pub mod clock;
pub mod conn;
mod der;
pub mod dial;
pub mod dns;
#[cfg(feature = "http")]
pub mod files;
pub mod listen;
pub mod log;
pub mod machine;
pub mod memory;
pub mod modes;
pub mod probe;
pub mod process;
pub mod queue;
pub mod sandbox;
mod self_signed;
mod serve;
pub mod shell;
pub mod signals;
#[cfg(feature = "statistics")]
pub mod statistics;
pub mod supervisor;
pub mod threads;
pub mod tls;
pub mod x509;

pub use serve::{Handle, OnReady, ServeError, ServeOptions, Serving, kind_of, serve};

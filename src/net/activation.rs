//! Sockets that a supervisor has bound and passes on: sd_listen_fds(3), spoken by systemd and by others that know its
//! protocol. Each has a name, which is the key of the configuration that it stands for; what is passed for a key is
//! listened on in place of what the key says.
//!
//! So the program needs no right to bind a port, and whoever connects while it restarts waits a moment and is served.

use std::net::TcpListener;

use listenfd::ListenFd;

use super::listen::key_of;
use crate::core::io::{Role, Transport};

/// All that can be listened on.
const KINDS: &[(Role, Transport)] = &[
    (Role::Client, Transport::StartTls),
    (Role::Client, Transport::DirectTls),
    (Role::Server, Transport::StartTls),
    (Role::Server, Transport::DirectTls),
    (Role::Component, Transport::StartTls),
    #[cfg(feature = "http")]
    (Role::Web, Transport::StartTls),
    #[cfg(feature = "http")]
    (Role::Web, Transport::DirectTls),
    #[cfg(feature = "acme")]
    (Role::Authority, Transport::StartTls),
];

/// One socket of the supervisor's.
#[derive(Debug)]
pub struct Passed {
    /// The socket.
    pub socket: TcpListener,
    /// Who connects to it.
    pub role: Role,
    /// What is spoken on it.
    pub transport: Transport,
}

/// Takes what `LISTEN_FDS` says is passed to this process, by the names in `LISTEN_FDNAMES`. To be called once, before
/// there is a second thread: the variables are removed.
///
/// # Errors
/// For a socket that stands for no key, or is none that can be listened on: one line that says what to write.
pub fn take() -> Result<Vec<Passed>, String> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut sockets = ListenFd::from_env();
    let count = sockets.len();
    let take_one = |n: usize| {
        let name = names.split(':').nth(n).unwrap_or_default();
        let (role, transport) = kind_of(name)?;
        match sockets.take_tcp_listener(n) {
            Ok(Some(socket)) => Ok(Passed { socket, role, transport }),
            _ => Err(format!(
                "the supervisor passes something as {name} that is no TCP socket; write ListenStream= with a port in \
                 its .socket unit"
            )),
        }
    };
    (0..count).map(take_one).collect()
}

/// What a name stands for.
fn kind_of(name: &str) -> Result<(Role, Transport), String> {
    KINDS.iter().find(|(role, transport)| key_of(*role, *transport) == name).copied().ok_or_else(|| {
        let keys: Vec<_> = KINDS.iter().map(|(role, transport)| key_of(*role, *transport)).collect();
        format!(
            "the supervisor passes a socket named \"{name}\", for which there is nothing to do; write \
             FileDescriptorName= in its .socket unit, with one of {}",
            keys.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_key_of_the_configuration() {
        for (role, transport) in KINDS {
            assert_eq!(kind_of(key_of(*role, *transport)), Ok((*role, *transport)));
        }
        for name in ["", "couplet.socket", "c2s", "C2S.LISTEN"] {
            let error = kind_of(name).unwrap_err();
            assert!(error.contains(&format!("\"{name}\"")) && error.contains("c2s.direct_tls_listen"), "{error}");
        }
    }
}

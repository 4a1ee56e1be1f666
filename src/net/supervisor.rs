//! What a supervisor is told: sd_notify(3), spoken by systemd and by others that know its protocol.
//!
//! One datagram of `NAME=VALUE` lines to the socket that the environment names. Without that variable nothing is sent
//! and nothing wakes.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the supervisor.
#[derive(Debug)]
pub struct Supervisor {
    socket: UnixDatagram,
    address: SocketAddr,
    /// How often it wants to hear that the worker lives: half of the time after which it acts.
    watchdog: Option<Duration>,
    /// When that is due next, on the worker's clock.
    due_ms: u64,
}

impl Supervisor {
    /// The one that `NOTIFY_SOCKET` names; a path, or behind `@` a name without one. `WATCHDOG_USEC` is its patience,
    /// unless `WATCHDOG_PID` names another process.
    ///
    /// # Errors
    /// When there is such a variable and no such socket can be used.
    pub fn find(environment: impl Fn(&str) -> Option<std::ffi::OsString>) -> io::Result<Option<Self>> {
        let Some(name) = environment("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Ok(None) };
        let address = address_of(&name)?;
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let number = |name| environment(name).and_then(|text| text.to_str()?.parse::<u64>().ok());
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let patience_us = number("WATCHDOG_USEC").filter(|us| is_ours && *us > 0);
        let watchdog = patience_us.map(|us| Duration::from_micros(us / 2).max(Duration::from_millis(1)));
        Ok(Some(Self { socket, address, watchdog, due_ms: 0 }))
    }

    /// Everything listens.
    pub fn ready(&self) {
        self.tell("READY=1\nSTATUS=serving");
    }

    /// The streams are being closed.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=closing streams");
    }

    /// The worker goes on. To be called at every tick; sends when it is due.
    pub fn alive(&mut self, now_ms: u64) {
        if let Some(period) = self.watchdog.filter(|_| now_ms >= self.due_ms) {
            self.due_ms = now_ms + u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
            self.tell("WATCHDOG=1");
        }
    }

    /// When [`Supervisor::alive`] is due; none when nobody asks.
    pub fn due_ms(&self) -> Option<u64> {
        self.watchdog.map(|_| self.due_ms)
    }

    fn tell(&self, text: &str) {
        if let Err(error) = self.socket.send_to_addr(text.as_bytes(), &self.address) {
            log::debug!("the supervisor cannot be told: {error}");
        }
    }
}

fn address_of(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn with(name: &str, patience_us: &str, pid: &str) -> Supervisor {
        let environment = |key: &str| match key {
            "NOTIFY_SOCKET" => Some(OsString::from(name)),
            "WATCHDOG_USEC" => Some(OsString::from(patience_us)),
            "WATCHDOG_PID" => Some(OsString::from(pid)),
            _ => None,
        };
        Supervisor::find(environment).unwrap().unwrap()
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        match socket.recv(&mut bytes) {
            Ok(count) => String::from_utf8(bytes[..count].to_vec()).unwrap(),
            Err(_) => String::new(),
        }
    }

    #[test]
    fn nobody_is_told_where_nobody_asks() {
        assert!(Supervisor::find(|_| None).unwrap().is_none());
        assert!(Supervisor::find(|_| Some(OsString::new())).unwrap().is_none());
    }

    #[test]
    fn a_supervisor_hears_of_start_end_and_life() {
        let name = format!("couplet-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut supervisor = with(&format!("@{name}"), "10000000", &std::process::id().to_string());
        supervisor.ready();
        assert!(heard(&socket).starts_with("READY=1\n"));
        supervisor.alive(1000);
        assert_eq!((heard(&socket).as_str(), supervisor.due_ms()), ("WATCHDOG=1", Some(6000)));
        supervisor.alive(5999);
        assert_eq!(heard(&socket), "");
        supervisor.alive(6000);
        assert_eq!(heard(&socket), "WATCHDOG=1");
        supervisor.stopping();
        assert!(heard(&socket).starts_with("STOPPING=1\n"));
        let other = with(&format!("@{name}"), "10000000", "1");
        assert_eq!(other.due_ms(), None, "the watchdog is another process's");
    }
}

//! Many TLS 1.3 connections on one thread: epoll, one read and one write for each that is ready.
//!
//! The generator must cost little, so that it can ask more of a server than the server can do: bytes are decrypted
//! where they were read, and what is said to one connection in one step leaves in as few records as it fits in.

use crate::frame::Framer;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::time::Timespec;
use rustls::client::{ClientConnectionData, Resumption, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus};
use rustls::{ClientConfig, crypto::ring};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// Bytes read at once.
const READ_BYTES: usize = 128 * 1024;

/// A connection's name: its place in the list.
pub type Id = usize;

/// What happens at a connection.
pub enum Heard<'a> {
    /// TLS is up.
    Open,
    /// A whole element of the first level.
    Element(&'a [u8]),
    /// It is gone.
    Closed,
}

struct Conn {
    socket: TcpStream,
    tls: UnbufferedClientConnection,
    open: bool,
    /// Records that are not whole yet; rustls keeps places in it.
    kept: Vec<u8>,
    /// Plaintext that has not been used.
    heard: Vec<u8>,
    framer: Framer,
    /// Plaintext to be sent.
    said: Vec<u8>,
    /// Bytes for the socket.
    wire: Vec<u8>,
    dirty: bool,
    /// The socket was full: it is watched for room.
    full: bool,
}

/// All connections to one server.
pub struct Net {
    epoll: OwnedFd,
    config: Arc<ClientConfig>,
    address: SocketAddr,
    conns: Vec<Option<Box<Conn>>>,
    dirty: Vec<Id>,
    read: Vec<u8>,
}

impl Net {
    /// No connections yet, to whoever listens at `address` for TLS with the first byte.
    pub fn new(address: SocketAddr) -> Result<Self, String> {
        let mut provider = ring::default_provider();
        // One key exchange for all servers: what each of them knows.
        provider.kx_groups = vec![ring::kx_group::SECP256R1];
        let provider = Arc::new(provider);
        let mut config = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(crate::trust::Anyone(provider)))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"xmpp-client".to_vec()];
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| e.to_string())?;
        let (config, read) = (Arc::new(config), vec![0; READ_BYTES]);
        Ok(Self { epoll, config, address, conns: Vec::new(), dirty: Vec::new(), read })
    }

    /// Opens a connection; its [`Heard::Open`] follows.
    pub fn connect(&mut self) -> Result<Id, String> {
        let socket = TcpStream::connect(self.address).map_err(|e| format!("connecting: {e}"))?;
        socket.set_nodelay(true).and_then(|()| socket.set_nonblocking(true)).map_err(|e| e.to_string())?;
        let name = ServerName::try_from("localhost").map_err(|e| e.to_string())?;
        let tls = UnbufferedClientConnection::new(self.config.clone(), name).map_err(|e| e.to_string())?;
        let id = self.conns.len();
        epoll::add(&self.epoll, &socket, EventData::new_u64(id as u64), EventFlags::IN).map_err(|e| e.to_string())?;
        let mut conn = Box::new(Conn {
            socket,
            tls,
            open: false,
            kept: Vec::new(),
            heard: Vec::new(),
            framer: Framer::default(),
            said: Vec::new(),
            wire: Vec::new(),
            dirty: false,
            full: false,
        });
        conn.process(&mut [])?;
        self.conns.push(Some(conn));
        self.touch(id);
        Ok(id)
    }

    /// Says something at the end of this step.
    pub fn say(&mut self, id: Id, text: &str) {
        if let Some(conn) = self.conns.get_mut(id).and_then(Option::as_mut) {
            conn.said.extend_from_slice(text.as_bytes());
            self.touch(id);
        }
    }

    /// Hangs up, without a word.
    pub fn hang_up(&mut self, id: Id) {
        if let Some(slot) = self.conns.get_mut(id) {
            *slot = None;
        }
    }

    /// Hangs up on everybody.
    pub fn hang_up_all(&mut self) {
        self.conns.iter_mut().for_each(|slot| *slot = None);
    }

    fn touch(&mut self, id: Id) {
        if let Some(conn) = self.conns.get_mut(id).and_then(Option::as_mut)
            && !std::mem::replace(&mut conn.dirty, true)
        {
            self.dirty.push(id);
        }
    }

    /// Writes what was said, waits for what is ready, and tells all of it.
    pub fn step(&mut self, wait: Duration, hear: &mut dyn FnMut(&mut Net, Id, Heard<'_>)) -> Result<(), String> {
        self.flush(hear);
        let mut events = Vec::with_capacity(1024);
        let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(format!("epoll: {error}")),
        }
        for event in events {
            let (id, flags) = (event.data.u64() as Id, event.flags);
            if flags.contains(EventFlags::OUT) {
                self.touch(id);
            }
            if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                self.receive(id, hear);
            }
        }
        self.flush(hear);
        Ok(())
    }

    fn receive(&mut self, id: Id, hear: &mut dyn FnMut(&mut Net, Id, Heard<'_>)) {
        let mut read = std::mem::take(&mut self.read);
        let outcome = self.take_in(id, &mut read, hear);
        self.read = read;
        if let Err(reason) = outcome {
            self.hang_up(id);
            if !reason.is_empty() {
                eprintln!("bench: a connection ends: {reason}");
            }
            hear(self, id, Heard::Closed);
        }
    }

    fn take_in(
        &mut self,
        id: Id,
        read: &mut [u8],
        hear: &mut dyn FnMut(&mut Net, Id, Heard<'_>),
    ) -> Result<(), String> {
        let Some(conn) = self.conns.get_mut(id).and_then(Option::as_mut) else { return Ok(()) };
        let count = match conn.socket.read(read) {
            Ok(0) => return Err(String::new()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Err(String::new()),
            Err(error) => return Err(error.to_string()),
        };
        let was_open = conn.open;
        conn.absorb(&mut read[..count])?;
        let is_news = conn.open && !was_open;
        let mut heard = std::mem::take(&mut conn.heard);
        let mut framer = std::mem::take(&mut conn.framer);
        if is_news || !conn.wire.is_empty() {
            self.touch(id);
        }
        if is_news {
            hear(self, id, Heard::Open);
        }
        while let Some(element) = framer.next(&heard) {
            hear(self, id, Heard::Element(&heard[element]));
        }
        let used = framer.used();
        heard.drain(..used);
        if let Some(conn) = self.conns.get_mut(id).and_then(Option::as_mut) {
            (conn.heard, conn.framer) = (heard, framer);
        }
        Ok(())
    }

    fn flush(&mut self, hear: &mut dyn FnMut(&mut Net, Id, Heard<'_>)) {
        for id in std::mem::take(&mut self.dirty) {
            let Some(conn) = self.conns.get_mut(id).and_then(Option::as_mut) else { continue };
            conn.dirty = false;
            let was_full = conn.full;
            let outcome = conn.send();
            let watch = if conn.full { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            if conn.full != was_full {
                // It can only fail for a socket that is gone, which the next read tells.
                let _ = epoll::modify(&self.epoll, &conn.socket, EventData::new_u64(id as u64), watch);
            }
            if let Err(reason) = outcome {
                eprintln!("bench: a connection ends: {reason}");
                self.hang_up(id);
                hear(self, id, Heard::Closed);
            }
        }
    }
}

impl Conn {
    fn absorb(&mut self, incoming: &mut [u8]) -> Result<(), String> {
        if self.kept.is_empty() {
            let used = self.process(incoming)?;
            self.kept.extend_from_slice(&incoming[used..]);
        } else {
            let mut held = std::mem::take(&mut self.kept);
            held.extend_from_slice(incoming);
            let used = self.process(&mut held)?;
            held.drain(..used);
            self.kept = held;
        }
        Ok(())
    }

    /// Reads all whole records; says how many bytes are done with.
    fn process(&mut self, buffer: &mut [u8]) -> Result<usize, String> {
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state, .. } = self.tls.process_tls_records(&mut buffer[used..]);
            let mut waits = false;
            match state.map_err(|e| format!("TLS: {e}"))? {
                ConnectionState::EncodeTlsData(data) => encode(data, &mut self.wire),
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(|e| format!("TLS: {e}"))?;
                        self.heard.extend_from_slice(record.payload);
                        discard += record.discard;
                    }
                }
                ConnectionState::BlockedHandshake => waits = true,
                ConnectionState::WriteTraffic(_) => (waits, self.open) = (true, true),
                _ => return Ok(buffer.len()),
            }
            used += discard;
            if waits {
                return Ok(used);
            }
        }
    }

    fn send(&mut self) -> Result<(), String> {
        if self.open && !self.said.is_empty() {
            let said = std::mem::take(&mut self.said);
            self.encrypt(&said)?;
            self.said = said;
            self.said.clear();
        }
        while !self.wire.is_empty() {
            match self.socket.write(&self.wire) {
                Ok(count) => drop(self.wire.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.full = true;
                    return Ok(());
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        self.full = false;
        Ok(())
    }

    fn encrypt(&mut self, plain: &[u8]) -> Result<(), String> {
        loop {
            match self.tls.process_tls_records(&mut self.kept).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let start = self.wire.len();
                    let mut room = plain.len() + (plain.len() / 16_384 + 1) * 64;
                    loop {
                        self.wire.resize(start + room, 0);
                        match traffic.encrypt(plain, &mut self.wire[start..]) {
                            Ok(count) => {
                                self.wire.truncate(start + count);
                                return Ok(());
                            }
                            Err(EncryptError::InsufficientSize(size)) if size.required_size > room => {
                                room = size.required_size;
                            }
                            Err(error) => return Err(error.to_string()),
                        }
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.wire),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(_) => return Err("TLS: closed".into()),
                Err(error) => return Err(format!("TLS: {error}")),
            }
        }
    }
}

fn encode(mut data: EncodeTlsData<'_, ClientConnectionData>, out: &mut Vec<u8>) {
    if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
        let start = out.len();
        out.resize(start + size.required_size, 0);
        let written = data.encode(&mut out[start..]).unwrap_or(0);
        out.truncate(start + written);
    }
}

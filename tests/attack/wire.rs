//! A connection that sends what it likes, in plain or under TLS.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// How long a server may take to answer.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes written before it is looked whether something came.
const PIECE_BYTES: usize = 8192;

/// What a peer shows of itself under TLS: chain and key.
pub type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

enum Link {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// How a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is open.
    Open,
    /// The other side has closed it in good order.
    Closed,
    /// It is gone in another way: reset, or a record that is none.
    Broken,
}

/// One connection to the server.
pub struct Wire {
    link: Option<Link>,
    /// What came and was not taken.
    pub got: Vec<u8>,
    pub end: End,
}

impl Wire {
    pub fn connect(port: u16) -> io::Result<Self> {
        Self::connect_from(Ipv4Addr::LOCALHOST, port)
    }

    /// From another loopback address.
    pub fn connect_from(own: Ipv4Addr, port: u16) -> io::Result<Self> {
        use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        if own != Ipv4Addr::LOCALHOST {
            bind(&socket, &SocketAddrV4::new(own, 0))?;
        }
        connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
        let socket = TcpStream::from(socket);
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { link: Some(Link::Plain(socket)), got: Vec::new(), end: End::Open })
    }

    /// Starts TLS and completes its handshake.
    pub fn start_tls(&mut self, alpn: &str, identity: Option<&Identity>) -> io::Result<()> {
        let Some(Link::Plain(mut socket)) = self.link.take() else {
            return Err(io::Error::other("TLS stands already"));
        };
        let mut tls = session(alpn, identity)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        tls.complete_io(&mut socket)?;
        self.link = Some(Link::Tls(Box::new(StreamOwned::new(tls, socket))));
        Ok(())
    }

    /// Writes all of it, reading meanwhile, so that neither side waits for the other. What happens to the connection
    /// shows when it is read.
    pub fn say(&mut self, bytes: impl AsRef<[u8]>) {
        for piece in bytes.as_ref().chunks(PIECE_BYTES) {
            while self.end == End::Open && self.is_readable(Duration::ZERO) {
                self.read_once();
            }
            let Some(link) = &mut self.link else { return };
            let written = match link {
                Link::Plain(socket) => socket.write_all(piece),
                Link::Tls(tls) => tls.write_all(piece).and_then(|()| tls.flush()),
            };
            if written.is_err() {
                // What was said before is still there to be read.
                return;
            }
        }
    }

    /// Writes without reading what comes; false when that takes longer.
    pub fn say_blindly(&mut self, text: &str, patience: Duration) -> bool {
        let Some(link) = &mut self.link else { return false };
        let written = match link {
            Link::Plain(socket) => {
                socket.set_write_timeout(Some(patience)).and_then(|()| socket.write_all(text.as_bytes()))
            }
            Link::Tls(tls) => {
                let patient = tls.sock.set_write_timeout(Some(patience));
                patient.and_then(|()| tls.write_all(text.as_bytes())).and_then(|()| tls.flush())
            }
        };
        written.is_ok()
    }

    /// Everything up to and including `end`; an error when the connection ends first, or nothing more comes.
    pub fn hear(&mut self, end: &str) -> io::Result<String> {
        self.hear_in(end, PATIENCE)
    }

    /// As [`Wire::hear`], with another patience.
    pub fn hear_in(&mut self, end: &str, patience: Duration) -> io::Result<String> {
        let begun = Instant::now();
        let mut from = 0;
        loop {
            if let Some(at) = find(&self.got[from..], end.as_bytes()) {
                let rest = self.got.split_off(from + at + end.len());
                let heard = std::mem::replace(&mut self.got, rest);
                return Ok(String::from_utf8_lossy(&heard).into_owned());
            }
            from = self.got.len().saturating_sub(end.len());
            if self.end != End::Open || !self.wait(patience.saturating_sub(begun.elapsed())) {
                let got = String::from_utf8_lossy(&self.got);
                return Err(io::Error::other(format!("{:?} before {end:?}; there was {got:?}", self.end)));
            }
        }
    }

    /// Waits for more; false when none came in that time.
    pub fn wait(&mut self, patience: Duration) -> bool {
        let came = self.end == End::Open && self.is_readable(patience);
        if came {
            self.read_once();
        }
        came
    }

    /// Nothing more will be sent.
    pub fn shut(&mut self) {
        if let Some(Link::Plain(socket)) = &self.link {
            // The other side may have been faster.
            let _ = socket.shutdown(Shutdown::Write);
        }
    }

    /// The keying material of RFC 9266.
    pub fn exporter(&self) -> Option<[u8; 32]> {
        let Some(Link::Tls(tls)) = &self.link else { return None };
        tls.conn.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[])).ok()
    }

    fn socket(&self) -> Option<&TcpStream> {
        match self.link.as_ref()? {
            Link::Plain(socket) => Some(socket),
            Link::Tls(tls) => Some(&tls.sock),
        }
    }

    fn is_readable(&self, patience: Duration) -> bool {
        let Some(socket) = self.socket() else { return false };
        let patience = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
        let mut fds = [PollFd::new(socket, PollFlags::IN)];
        poll(&mut fds, Some(&patience)).is_ok_and(|ready| ready > 0)
    }

    /// Something is there to be read, if only a part of a record.
    fn read_once(&mut self) {
        let mut buffer = [0; 32768];
        let read = match &mut self.link {
            None => return,
            Some(Link::Plain(socket)) => socket.read(&mut buffer),
            Some(Link::Tls(tls)) => {
                let StreamOwned { conn, sock, .. } = &mut **tls;
                match conn.read_tls(sock).and_then(|read| {
                    conn.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
                    Ok(read)
                }) {
                    Ok(read) => match conn.reader().read(&mut buffer) {
                        // Not a whole record; at the end of the connection there will be none.
                        Err(error) if error.kind() == ErrorKind::WouldBlock && read > 0 => return,
                        other => other,
                    },
                    Err(error) => Err(error),
                }
            }
        };
        match read {
            Ok(0) => self.end = End::Closed,
            Ok(read) => {
                self.got.extend_from_slice(&buffer[..read]);
                self.drain_tls();
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => self.end = End::Broken,
        }
    }

    /// What was decrypted and not read is seen by no poll.
    fn drain_tls(&mut self) {
        if let Some(Link::Tls(tls)) = &mut self.link {
            let mut buffer = [0; 32768];
            while let Ok(read @ 1..) = tls.conn.reader().read(&mut buffer) {
                self.got.extend_from_slice(&buffer[..read]);
            }
        }
    }
}

/// The client's end of TLS.
pub fn session(alpn: &str, identity: Option<&Identity>) -> io::Result<ClientConnection> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(crate::trust::Anyone(provider)));
    let mut config = match identity {
        Some((cert, key)) => {
            builder.with_client_auth_cert(vec![cert.clone()], key.clone_key()).map_err(io::Error::other)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, wanted)
}

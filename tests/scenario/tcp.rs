//! A play over real sockets and TLS, against our binary or against any server.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::own_server::OwnServer;
use super::{Fate, Heard, Stage};

/// How long a server may take to say what it has to say.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server behind an address that takes direct TLS (XEP-0368).
pub struct Tcp {
    peer: SocketAddr,
    tls: Arc<ClientConfig>,
    connections: Vec<Option<StreamOwned<ClientConnection, TcpStream>>>,
    /// None for a server that is not ours to restart.
    own: Option<OwnServer>,
}

impl Tcp {
    /// A stage for our binary.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn own(server: OwnServer) -> Result<Self, String> {
        Ok(Self { own: Some(server), ..Self::foreign(SocketAddr::from(([127, 0, 0, 1], 0)))? })
    }

    /// A stage for the server there.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn foreign(peer: SocketAddr) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(crate::trust::Anyone(provider)))
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"xmpp-client".to_vec()];
        Ok(Self { peer, tls: Arc::new(tls), connections: Vec::new(), own: None })
    }

    fn connection(&mut self, connection: usize) -> Result<&mut StreamOwned<ClientConnection, TcpStream>, String> {
        self.connections.get_mut(connection).and_then(Option::as_mut).ok_or_else(|| "no such connection".to_owned())
    }
}

impl Stage for Tcp {
    fn open(&mut self) -> Result<usize, String> {
        let peer = self.own.as_ref().map_or(self.peer, |own| own.address);
        let socket = TcpStream::connect_timeout(&peer, PATIENCE).map_err(|e| format!("{peer}: {e}"))?;
        socket.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
        socket.set_write_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
        socket.set_nodelay(true).map_err(|e| e.to_string())?;
        let name = ServerName::try_from("localhost").map_err(|e| e.to_string())?;
        let tls = ClientConnection::new(Arc::clone(&self.tls), name).map_err(|e| e.to_string())?;
        let mut stream = StreamOwned::new(tls, socket);
        stream.conn.complete_io(&mut stream.sock).map_err(|e| format!("TLS: {e}"))?;
        self.connections.push(Some(stream));
        Ok(self.connections.len() - 1)
    }

    fn send(&mut self, connection: usize, bytes: &[u8]) -> Result<(), String> {
        let stream = self.connection(connection)?;
        match stream.write_all(bytes).and_then(|()| stream.flush()) {
            // The server may have closed with good reason, which is there to be read.
            Err(e) if !matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => Err(e.to_string()),
            _ => Ok(()),
        }
    }

    fn read(&mut self, connection: usize) -> Result<Heard, String> {
        let mut buffer = vec![0; 16384];
        match self.connection(connection)?.read(&mut buffer) {
            Ok(0) => Ok(Heard::Closed),
            Ok(n) => {
                buffer.truncate(n);
                Ok(Heard::Bytes(buffer))
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(Heard::Silence),
            Err(e) if matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => Ok(Heard::Closed),
            Err(e) => Err(e.to_string()),
        }
    }

    fn hang_up(&mut self, connection: usize) -> Result<(), String> {
        if let Some(slot) = self.connections.get_mut(connection) {
            *slot = None;
        }
        Ok(())
    }

    fn exporter(&mut self, connection: usize) -> Option<[u8; 32]> {
        let stream = self.connection(connection).ok()?;
        stream.conn.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[])).ok()
    }

    fn operate(&mut self, words: &[&str]) -> Result<String, String> {
        self.own.as_ref().ok_or("this server is not ours to operate")?.operate(words)
    }

    fn fate(&mut self, fate: Fate) -> Result<(), String> {
        match (fate, &mut self.own) {
            (Fate::ServerRestarts, Some(own)) => own.restart(false),
            (Fate::ServerIsKilled, Some(own)) => own.restart(true),
            _ => Err(format!("{fate:?} cannot happen here")),
        }
    }

    fn knows_silence(&self) -> bool {
        false
    }

    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }
}

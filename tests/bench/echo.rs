//! What nobody can be faster than on this runtime: smol, one thread, TLS 1.3, each read sent back.

use async_io::Async;
use couplet::net::tls::{Progress, TlsAcceptor, TlsConn};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

#[derive(Debug)]
struct One(Arc<CertifiedKey>);

impl ResolvesServerCert for One {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// Serves until it is killed.
pub fn serve(port: u16, pem: &Path) -> Result<(), String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(pem).map_err(|e| e.to_string())?.collect();
    let key = PrivateKeyDer::from_pem_file(pem).map_err(|e| e.to_string())?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|e| e.to_string())?;
    let resolver = One(Arc::new(CertifiedKey::new(chain.map_err(|e| e.to_string())?, key)));
    let acceptor = TlsAcceptor::new(Arc::new(resolver), &[]).map_err(|e| e.to_string())?;
    let executor = Rc::new(smol::LocalExecutor::new());
    smol::block_on(executor.clone().run(async move {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = Async::<TcpListener>::bind(address).map_err(|e| e.to_string())?;
        loop {
            let (socket, _) = listener.accept().await.map_err(|e| e.to_string())?;
            let acceptor = acceptor.clone();
            executor.spawn(async move { echo(socket, &acceptor).await.unwrap_or_default() }).detach();
        }
    }))
}

/// None when the connection fails.
async fn echo(mut socket: Async<TcpStream>, acceptor: &TlsAcceptor) -> Option<()> {
    socket.get_ref().set_nodelay(true).ok()?;
    let mut tls = TlsConn::new(acceptor).ok()?;
    let (mut read, mut plain, mut out) = (vec![0; 64 * 1024], Vec::new(), Vec::new());
    loop {
        let count = socket.read(&mut read).await.ok().filter(|count| *count > 0)?;
        let progress = tls.receive(&mut read[..count], &mut plain, &mut out).ok()?;
        if !plain.is_empty() {
            tls.send(&plain, &mut out).ok()?;
            plain.clear();
        }
        if !out.is_empty() {
            socket.write_all(&out).await.ok()?;
            out.clear();
        }
        if progress == Progress::Closed {
            return Some(());
        }
    }
}

//! The server of a domain that proves itself by dialback (XEP-0220): it says of the key `right` that it is its own.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::client::attribute;
use crate::script::header;
use crate::target::certificate;

const DOMAIN: &str = "dial.example";
const SILENCE: Duration = Duration::from_secs(60);

/// Where it listens; it is started when it is first asked for.
pub fn port() -> io::Result<u16> {
    static PORT: OnceLock<u16> = OnceLock::new();
    if let Some(port) = PORT.get() {
        return Ok(*port);
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let (_, (cert, key)) = certificate(DOMAIN)?;
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .map_err(io::Error::other)?;
    let config = Arc::new(config);
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let config = config.clone();
            // The server closes what it has no use for.
            thread::spawn(move || serve(socket, config));
        }
    });
    Ok(*PORT.get_or_init(|| port))
}

fn serve(mut socket: TcpStream, config: Arc<ServerConfig>) -> io::Result<()> {
    socket.set_read_timeout(Some(SILENCE))?;
    until(&mut socket, "version='1.0'")?;
    until(&mut socket, ">")?;
    let open = |id: &str, features: &str| {
        let header = header("jabber:server", &format!("from='{DOMAIN}' to='localhost' version='1.0' id='{id}'"));
        format!("{header}<stream:features>{features}</stream:features>")
    };
    let starttls = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
    socket.write_all(open("g1", starttls).as_bytes())?;
    until(&mut socket, "/>")?;
    socket.write_all(b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")?;
    let mut tls = StreamOwned::new(ServerConnection::new(config).map_err(io::Error::other)?, socket);
    until(&mut tls, "version='1.0'")?;
    until(&mut tls, ">")?;
    let dialback = "<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>";
    tls.write_all(open("g2", dialback).as_bytes())?;
    loop {
        until(&mut tls, "<db:")?;
        let tag = until(&mut tls, ">")?;
        let name = if tag.starts_with("verify") { "verify" } else { "result" };
        let key = until(&mut tls, "</")?;
        until(&mut tls, ">")?;
        let id = attribute(&tag, "id").map(|id| format!("id='{id}'")).unwrap_or_default();
        // Keys that the server sends for itself are good.
        let verdict = if name == "result" || key == "right</" { "valid" } else { "invalid" };
        write!(tls, "<db:{name} from='{DOMAIN}' to='localhost' {id} type='{verdict}'/>")?;
        tls.flush()?;
    }
}

fn until(stream: &mut impl Read, end: &str) -> io::Result<String> {
    let mut got = Vec::new();
    while !got.ends_with(end.as_bytes()) {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        got.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&got).into_owned())
}

//! One socket of a client or of another server, plain or under TLS, as the tick sees it: what can be
//! read now, what waits to be written.
//!
//! An idle connection holds no buffer: reads go through the shell's scratch buffers, and what a socket did not take is
//! freed as soon as it is gone.

use std::io::{self, Read, Write};
use std::mem;
#[cfg(feature = "http")]
use std::net::IpAddr;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::task::{Context, Waker};

use async_io::Async;

use crate::budget::allocated;
use crate::core::io::{Role, Transport};
#[cfg(feature = "http")]
use crate::http::proxy::{Found, Prelude};
use crate::net::bell::Clapper;
use crate::net::shell::{Report, Tls as Shared};
use crate::net::tls::{Progress, RECORD_BYTES_MAX, TlsAcceptor, TlsConn, TlsError};
use crate::stream::TlsFacts;

/// Room for the largest TLS record (RFC 8446 section 5.2) and a little more, so that a full record is one read.
pub const READ_BYTES: usize = 18 * 1024;

/// What a socket takes beside TLS: this type, its waker, its place in the shell's table, its registration with the
/// reactor, and its deadline.
const SOCKET_BYTES: usize = allocated(size_of::<Conn>()) + 640;

/// Buffers that all connections use in turn.
pub struct Scratch {
    /// What a socket gave.
    raw: Vec<u8>,
    /// Bytes of it that were read last.
    read: usize,
    /// What TLS made of it, and of a record that was incomplete before.
    plain: Vec<u8>,
}

impl Default for Scratch {
    /// The only read buffers of the process, as large as they will ever be: one that is allocated, or grows, while many
    /// connections hold as much lies among theirs, and the allocator keeps the room of all of them for it.
    fn default() -> Self {
        Self { raw: vec![0; READ_BYTES], read: 0, plain: Vec::with_capacity(RECORD_BYTES_MAX + READ_BYTES) }
    }
}

impl Scratch {
    /// Overwrites what was read: the next may be long in coming, and this may have been a password.
    pub fn wipe(&mut self) {
        self.raw.iter_mut().take(mem::take(&mut self.read)).for_each(|byte| *byte = 0);
        self.plain.fill(0);
        self.plain.clear();
    }
}

/// What a connection has for the engine, in this order: facts, then data, then the end.
#[derive(Debug, Default)]
pub struct Received<'a> {
    /// The TLS handshake was finished.
    pub facts: Option<TlsFacts>,
    /// From where the connection comes, as the proxy before it says.
    #[cfg(feature = "http")]
    pub from: Option<IpAddr>,
    /// Decrypted bytes; may be empty.
    pub data: &'a [u8],
    /// The peer will send no more.
    pub end: Option<End>,
}

/// Why a peer sends no more.
#[derive(Debug)]
pub enum End {
    /// It closed its direction, of TCP or of TLS. What waits for it may still be written.
    Closed,
    /// It broke TLS. An alert waits to be written.
    Tls(TlsError),
    /// The socket failed; nothing can be written.
    Socket(io::Error),
}

/// What writing has come to.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    /// There was nothing to write, or the socket took nothing.
    Nothing,
    /// The socket took some; that many bytes still wait.
    Some(usize),
    /// The connection is over and can be forgotten.
    Over,
}

/// How much of a connection is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The engine knows it.
    Live,
    /// What is queued is still to be written. What the peer sends is thrown away.
    Flushing,
    /// All is written, our direction is closed. Closing the socket before the peer has closed its own would reset the
    /// connection if unread bytes are there, and a reset takes our last words (a stream error, above all) with it.
    Lingering,
}

/// How a connection came about, which is what its TLS depends on.
#[derive(Debug)]
pub enum Origin {
    /// Somebody connected.
    Accepted(Role),
    /// We did: in the name of a host of ours, to the server of a domain (A-labels).
    Dialed(Box<(String, String)>),
}

impl Origin {
    /// True when we connected.
    pub fn is_dialed(&self) -> bool {
        matches!(self, Self::Dialed(_))
    }
}

enum Tls {
    Plain,
    Handshaking(Box<TlsConn>),
    Open(Box<TlsConn>),
}

/// A connection.
pub struct Conn {
    /// How much of it is left.
    pub stage: Stage,
    /// How it came about.
    pub origin: Origin,
    /// When the shell gives it up, on the monotonic clock in milliseconds; 0 for never.
    pub deadline_ms: u64,
    /// What [`Conn::news_of_held`] has said last.
    told_bytes: u32,
    /// It is in one of the shell's queues.
    pub queued: bool,
    /// It is in the list of those to be written to at the end of the tick.
    pub dirty: bool,
    /// What one read may bring.
    pub read_bytes: usize,
    /// The engine does not want to read from it for now. A TLS handshake, which is no business of its, goes on.
    pub paused: bool,
    /// A read may find something.
    readable: bool,
    /// A write may find room.
    writable: bool,
    /// The peer closed its direction of the TCP connection.
    peer_done: bool,
    /// Nothing more can be written, for want of a socket or of TLS keys.
    broken: bool,
    socket: Async<TcpStream>,
    clapper: Arc<Clapper<Report>>,
    tls: Tls,
    out: OutBuffer,
    /// A header of the PROXY protocol comes first.
    #[cfg(feature = "http")]
    prelude: Option<Box<Prelude>>,
}

impl Conn {
    /// Takes over a fresh socket. `tls` is given where TLS starts with the first byte.
    ///
    /// # Errors
    /// When the socket cannot be watched or TLS does not start.
    pub fn new(
        socket: TcpStream,
        clapper: Arc<Clapper<Report>>,
        tls: Option<&TlsAcceptor>,
        origin: Origin,
    ) -> io::Result<Self> {
        let tls = match tls {
            Some(acceptor) => Tls::Handshaking(Box::new(TlsConn::new(acceptor).map_err(io::Error::other)?)),
            None => Tls::Plain,
        };
        Ok(Self::of(Async::new(socket)?, clapper, tls, origin))
    }

    /// Takes over a socket that we have connected, with TLS if that is done with its handshake.
    pub fn dialed(
        socket: Async<TcpStream>,
        clapper: Arc<Clapper<Report>>,
        tls: Option<Box<TlsConn>>,
        origin: Origin,
    ) -> Self {
        Self::of(socket, clapper, tls.map_or(Tls::Plain, Tls::Open), origin)
    }

    fn of(socket: Async<TcpStream>, clapper: Arc<Clapper<Report>>, tls: Tls, origin: Origin) -> Self {
        Self {
            stage: Stage::Live,
            origin,
            deadline_ms: 0,
            told_bytes: 0,
            queued: false,
            dirty: false,
            read_bytes: READ_BYTES,
            paused: false,
            readable: true,
            writable: true,
            peer_done: false,
            broken: false,
            socket,
            clapper,
            tls,
            out: OutBuffer::default(),
            #[cfg(feature = "http")]
            prelude: None,
        }
    }

    /// A TLS handshake is under way: reading may cost a signature.
    pub fn is_handshaking(&self) -> bool {
        matches!(self.tls, Tls::Handshaking(_)) && self.stage == Stage::Live
    }

    /// What it holds here beside what waits to be written, and `beside` that, if it is not what this function has said
    /// before.
    pub fn news_of_held(&mut self, beside: usize) -> Option<usize> {
        let tls = match &self.tls {
            Tls::Plain => 0,
            Tls::Handshaking(tls) => tls.state_bytes() + allocated(tls.held_bytes()) + allocated(self.out.capacity()),
            Tls::Open(tls) => tls.state_bytes() + allocated(tls.held_bytes()),
        };
        let held = SOCKET_BYTES + tls + beside;
        let is_news = held != self.told_bytes as usize;
        self.told_bytes = held as u32;
        is_news.then_some(held)
    }

    /// True for a connection of HTTP.
    pub fn is_web(&self) -> bool {
        matches!(self.origin, Origin::Accepted(Role::Web | Role::Authority))
    }

    /// Bytes that wait to be written.
    pub fn waiting_bytes(&self) -> usize {
        self.out.waiting().len()
    }

    /// To be called when the connection's token was taken from the bell, before anything else.
    pub fn woken(&self) {
        self.clapper.reset();
    }

    /// Whether [`Conn::receive`] or [`Conn::write`] may find something to do at once; otherwise the clapper tells when.
    /// Reads are watched for only while they are wanted, so that a peer that we do not read cannot wake us.
    pub fn watch(&mut self) -> bool {
        let waker = Waker::from(self.clapper.clone());
        let mut cx = Context::from_waker(&waker);
        if !self.readable && self.is_read() {
            // An error here is one of the socket, and reading finds it.
            self.readable = self.socket.poll_readable(&mut cx).is_ready();
        }
        if !self.writable {
            self.writable = self.socket.poll_writable(&mut cx).is_ready();
        }
        (self.readable && self.is_read()) || (self.writable && !self.out.is_empty())
    }

    fn is_read(&self) -> bool {
        !self.peer_done && (!self.paused || matches!(self.tls, Tls::Handshaking(_)))
    }

    /// Reads once, if the socket may have something.
    pub fn receive<'a>(&mut self, scratch: &'a mut Scratch) -> Received<'a> {
        let mut received = Received::default();
        if !self.readable || !self.is_read() {
            return received;
        }
        let room = scratch.raw.get_mut(..self.read_bytes).unwrap_or_default();
        let read = match self.socket.get_ref().read(room) {
            Ok(0) => {
                self.peer_done = true;
                received.end = Some(End::Closed);
                return received;
            }
            Ok(read) => read,
            Err(error) if is_not_now(&error) => {
                self.readable = error.kind() == io::ErrorKind::Interrupted;
                return received;
            }
            Err(error) => {
                self.peer_done = true;
                self.broken = true;
                received.end = Some(End::Socket(error));
                return received;
            }
        };
        scratch.read = read;
        // A short read has emptied the socket; asking again would cost a system call to hear so.
        self.readable = read == self.read_bytes;
        if self.stage != Stage::Live {
            return received;
        }
        let raw = scratch.raw.get_mut(..read).unwrap_or_default();
        #[cfg(feature = "http")]
        let raw = match self.take_prelude(raw) {
            Ok((used, from)) => {
                received.from = from;
                raw.get_mut(used..).unwrap_or_default()
            }
            Err(error) => {
                self.peer_done = true;
                self.broken = true;
                received.end = Some(End::Socket(error));
                return received;
            }
        };
        #[cfg(feature = "http")]
        if raw.is_empty() {
            return received;
        }
        let tls = match &mut self.tls {
            Tls::Plain => {
                received.data = raw;
                return received;
            }
            Tls::Handshaking(tls) | Tls::Open(tls) => tls,
        };
        scratch.plain.clear();
        let progress = self.out.append(|out| tls.receive(raw, &mut scratch.plain, out));
        received.data = &scratch.plain;
        match progress {
            Ok(Progress::Handshaking | Progress::Open) => {}
            Ok(Progress::Finished) => {
                received.facts = Some(tls.facts());
                self.tls = match mem::replace(&mut self.tls, Tls::Plain) {
                    Tls::Handshaking(tls) | Tls::Open(tls) => Tls::Open(tls),
                    Tls::Plain => Tls::Plain,
                };
            }
            Ok(Progress::Closed) => received.end = Some(End::Closed),
            Err(error) => received.end = Some(End::Tls(error)),
        }
        received
    }

    /// Queues bytes of the engine, encrypted where TLS is open.
    ///
    /// # Errors
    /// When TLS takes no more. The connection is then of no use.
    pub fn queue(&mut self, bytes: Vec<u8>) -> Result<(), TlsError> {
        match &mut self.tls {
            Tls::Plain => self.out.push(bytes),
            Tls::Handshaking(tls) | Tls::Open(tls) => self.out.append(|out| tls.send(&bytes, out))?,
        }
        Ok(())
    }

    /// Starts TLS behind what is queued. What the peer has sent since the last read belongs to TLS.
    ///
    /// # Errors
    /// When TLS does not start.
    pub fn start_tls(&mut self, shared: &Shared) -> Result<(), TlsError> {
        let tls = match &self.origin {
            Origin::Accepted(role) => TlsConn::new(shared.acceptor(*role, Transport::StartTls))?,
            Origin::Dialed(names) => {
                let (host, domain) = &**names;
                self.out.append(|out| TlsConn::connect(&shared.connector, host, domain, false, out))?
            }
        };
        self.tls = Tls::Handshaking(Box::new(tls));
        Ok(())
    }

    /// Ends the connection behind what is queued, with TLS's close_notify (RFC 8446 section 6.1).
    pub fn close(&mut self) {
        if self.stage == Stage::Live {
            self.stage = Stage::Flushing;
            self.paused = false;
            if let Tls::Handshaking(tls) | Tls::Open(tls) = &mut self.tls {
                self.out.append(|out| tls.close(out));
            }
            // Keys and what else TLS holds are not needed for lingering.
            self.tls = Tls::Plain;
        }
    }

    /// Writes once, if the socket may have room, and takes leave when all is written that ever will be.
    ///
    /// # Errors
    /// When the peer has gone.
    pub fn write(&mut self) -> io::Result<Written> {
        if self.broken {
            return Ok(Written::Over);
        }
        let mut written = Written::Nothing;
        if self.writable && !self.out.is_empty() {
            match self.socket.get_ref().write(self.out.waiting()) {
                Ok(count) => {
                    self.out.consume(count);
                    self.writable = self.out.is_empty();
                    written = Written::Some(self.waiting_bytes());
                }
                Err(error) if is_not_now(&error) => {
                    self.writable = error.kind() == io::ErrorKind::Interrupted;
                }
                Err(error) => {
                    self.broken = true;
                    return Err(error);
                }
            }
        }
        if self.stage == Stage::Flushing && self.out.is_empty() {
            self.stage = Stage::Lingering;
            if self.socket.get_ref().shutdown(Shutdown::Write).is_err() {
                return Ok(Written::Over);
            }
        }
        if self.stage == Stage::Lingering && self.peer_done {
            return Ok(Written::Over);
        }
        Ok(written)
    }
}

/// What only connections of HTTP need.
#[cfg(feature = "http")]
impl Conn {
    /// The first bytes are to be a header of the PROXY protocol.
    pub fn expect_prelude(&mut self) {
        self.prelude = Some(Box::default());
    }

    /// Takes such a header from the start of what was read: so many bytes are of it.
    fn take_prelude(&mut self, raw: &[u8]) -> io::Result<(usize, Option<IpAddr>)> {
        let Some(prelude) = &mut self.prelude else { return Ok((0, None)) };
        match prelude.take(raw) {
            (used, Found::Incomplete) => Ok((used, None)),
            (used, Found::Header(_, from)) => {
                self.prelude = None;
                Ok((used, from))
            }
            (_, Found::Nothing) => Err(io::Error::other("a proxy that is to begin with a PROXY header has not")),
        }
    }

    /// The address at the other end of the socket.
    pub fn peer(&self) -> Option<IpAddr> {
        self.socket.get_ref().peer_addr().ok().map(|address| address.ip().to_canonical())
    }

    /// Under TLS, whose handshake is done.
    pub fn has_tls(&self) -> bool {
        matches!(self.tls, Tls::Open(_))
    }

    /// It goes on under another name: `clapper` has that.
    pub fn rename(&mut self, clapper: Arc<Clapper<Report>>, role: Role) {
        self.clapper = clapper;
        self.origin = Origin::Accepted(role);
        (self.readable, self.writable, self.queued, self.dirty, self.told_bytes) = (true, true, false, false, 0);
    }

    /// What it holds is told to somebody else from now on.
    pub fn tell_anew(&mut self) {
        self.told_bytes = 0;
    }

    /// What waits to be written, as the allocator takes it.
    pub fn out_bytes(&self) -> usize {
        allocated(self.out.capacity())
    }
}

/// Neither data nor an error.
fn is_not_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Bytes that wait for a socket. Holds no memory while it is empty.
#[derive(Debug, Default)]
struct OutBuffer {
    bytes: Vec<u8>,
    /// That many at the front are written.
    written: usize,
}

impl OutBuffer {
    fn is_empty(&self) -> bool {
        self.written >= self.bytes.len()
    }

    fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    fn waiting(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    /// Appends a whole piece, without copying it when nothing waits.
    fn push(&mut self, piece: Vec<u8>) {
        if self.is_empty() {
            *self = Self { bytes: piece, written: 0 };
        } else {
            self.append(|bytes| bytes.extend_from_slice(&piece));
        }
    }

    /// Lets `write` append to what waits.
    fn append<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        self.bytes.drain(..self.written.min(self.bytes.len()));
        self.written = 0;
        write(&mut self.bytes)
    }

    fn consume(&mut self, count: usize) {
        self.written += count;
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;
    use crate::net::bell::Token;

    fn pair() -> (Conn, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let clapper = Clapper::new(Arc::default(), Token::Listener(0));
        (Conn::new(server, clapper, None, Origin::Accepted(Role::Client)).unwrap(), client)
    }

    #[test]
    fn the_out_buffer_keeps_order_and_gives_its_memory_back() {
        let mut out = OutBuffer::default();
        out.push(b"abc".to_vec());
        out.consume(2);
        out.push(b"def".to_vec());
        assert_eq!(out.waiting(), b"cdef");
        assert_eq!(out.bytes.len(), 4, "what is written is not kept");
        out.consume(4);
        assert!(out.is_empty());
        assert_eq!(out.bytes.capacity(), 0);
    }

    #[test]
    fn a_socket_that_takes_no_more_keeps_the_rest_until_there_is_room() {
        let (mut conn, mut client) = pair();
        let sent = vec![b'x'; 16 << 20];
        conn.queue(sent.clone()).unwrap();
        // The kernel may find more room meanwhile, so the first refusal need not be the last.
        while conn.write().unwrap() != Written::Nothing {
            conn.watch();
        }
        assert!(conn.waiting_bytes() > 0, "16 MB do not fit into socket buffers");
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            client.read_to_end(&mut got).unwrap();
            got
        });
        conn.close();
        while conn.stage != Stage::Lingering {
            async_io::block_on(conn.socket.writable()).unwrap();
            conn.writable = true;
            conn.write().unwrap();
        }
        assert_eq!(reader.join().unwrap(), sent);
        assert_eq!(conn.waiting_bytes(), 0);
        async_io::block_on(conn.socket.readable()).unwrap();
        let mut scratch = Scratch::default();
        assert!(matches!(conn.receive(&mut scratch).end, Some(End::Closed)));
        assert_eq!(conn.write().unwrap(), Written::Over);
    }

    #[test]
    fn a_paused_connection_is_not_read() {
        let (mut conn, mut client) = pair();
        client.write_all(b"hello").unwrap();
        async_io::block_on(conn.socket.readable()).unwrap();
        let mut scratch = Scratch::default();
        conn.paused = true;
        assert!(!conn.watch());
        assert_eq!(conn.receive(&mut scratch).data, b"");
        conn.paused = false;
        assert!(conn.watch());
        assert_eq!(conn.receive(&mut scratch).data, b"hello");
    }
}

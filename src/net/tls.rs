//! A TLS connection, of a client or with another server, without I/O and without buffers while it is idle.
//!
//! Bytes from the socket go into [`TlsConn::receive`], plaintext and bytes for the socket come out. The connection
//! keeps nothing between calls but rustls' keys and, when the peer stopped in the middle of one, an incomplete record.
//!
//! Channel bindings: tls-exporter (RFC 9266) on TLS 1.3 and tls-server-end-point (RFC 5929) on both versions.
//! Sessions are not resumed: no tickets, no session cache, so an idle connection costs no more than its keys.

mod connector;
mod peer;

use std::cell::RefCell;
use std::fmt;
use std::mem;
use std::ops::DerefMut;
use std::sync::Arc;

use ring::hkdf;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert, ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedConnectionCommon, UnbufferedStatus,
    WriteTraffic,
};
use rustls::{ClientConfig, KeyLog, ProtocolVersion, ServerConfig};

#[cfg(feature = "http")]
pub use self::connector::ALPN_HTTP;
#[cfg(feature = "acme")]
pub use self::connector::{ALPN_ACME, https};
pub use self::connector::{ALPN_CLIENT, ALPN_SERVER, TlsConnector};
pub use self::peer::PeerVerifier;
use crate::budget::allocated;
use crate::stream::{PeerCert, TlsFacts};

/// The largest record on the wire: 2^14 bytes of plaintext, 2048 of expansion (RFC 5246 section 6.2.3), the header.
pub const RECORD_BYTES_MAX: usize = 16_384 + 2_048 + HEADER_BYTES;

/// What stands before a record.
const HEADER_BYTES: usize = 5;

/// An incomplete handshake message is kept up to this size; a longer one is refused. It is one record for a peer
/// without a certificate of its own, which needs no more.
const KEPT_BYTES_MAX: usize = RECORD_BYTES_MAX;

/// The same for a peer that shows its certificates, which are seldom more than 6 kB.
const KEPT_WITH_CERTIFICATES_BYTES_MAX: usize = 3 * RECORD_BYTES_MAX;

/// What rustls holds during a handshake, and afterwards.
const HANDSHAKE_BYTES: usize = 3360;
const OPEN_BYTES: usize = 2688;

/// Plaintext in one record (RFC 8446 section 5.1).
const FRAGMENT_BYTES_MAX: usize = 16_384;

/// No less than header, nonce, content type and tag of a record in any cipher suite of both versions.
const RECORD_OVERHEAD_BYTES: usize = 32;

/// How far a connection is after [`TlsConn::receive`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The handshake goes on; the peer's turn.
    Handshaking,
    /// The handshake is done as of this call: ask for [`TlsConn::facts`]. There may be plaintext already, and a
    /// close_notify behind it is told by the next call.
    Finished,
    /// Open for data in both directions.
    Open,
    /// The peer has sent close_notify, or [`TlsConn::close`] was called: there will be no more plaintext.
    Closed,
}

/// Why a connection cannot go on.
#[derive(Debug)]
pub enum TlsError {
    /// The peer broke the protocol, wants what we do not have, or sent an alert.
    Protocol(rustls::Error),
    /// A handshake message that is longer than any that we need.
    TooLong,
    /// The peer's domain is no name that TLS can ask for.
    Name,
    /// Data to send before the handshake is done, after `close`, or after an error.
    NotOpen,
    /// So much was sent under one key that TLS 1.2 allows no more.
    Exhausted,
}

/// The configuration that connections of one kind share. Certificates come from its resolver, so that renewed ones
/// need no new acceptor.
#[derive(Clone)]
pub struct TlsAcceptor {
    config: Arc<ServerConfig>,
    kept_bytes_max: usize,
}

impl TlsAcceptor {
    /// An acceptor for TLS 1.2 and 1.3.
    ///
    /// `alpn` lists the application protocols that we speak, best first. A client that offers none of them, but others,
    /// is refused with no_application_protocol (RFC 7301 section 3.2); one that does not use ALPN is accepted. An
    /// empty list ignores what clients offer.
    ///
    /// # Errors
    /// When the cryptography at hand does not support these versions.
    pub fn new(resolver: Arc<dyn ResolvesServerCert>, alpn: &[&[u8]]) -> Result<Self, TlsError> {
        Self::with(resolver, alpn, None)
    }

    /// As [`TlsAcceptor::new`], for other servers: their certificates are asked for and looked at.
    ///
    /// # Errors
    /// As [`TlsAcceptor::new`].
    pub fn for_servers(
        resolver: Arc<dyn ResolvesServerCert>,
        alpn: &[&[u8]],
        verifier: Arc<PeerVerifier>,
    ) -> Result<Self, TlsError> {
        Self::with(resolver, alpn, Some(verifier))
    }

    fn with(
        resolver: Arc<dyn ResolvesServerCert>,
        alpn: &[&[u8]],
        verifier: Option<Arc<PeerVerifier>>,
    ) -> Result<Self, TlsError> {
        let kept_bytes_max = if verifier.is_some() { KEPT_WITH_CERTIFICATES_BYTES_MAX } else { KEPT_BYTES_MAX };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(TlsError::Protocol)?;
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(resolver);
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        // Without a proof that is to be shown, the resolver has no certificate for it.
        #[cfg(feature = "acme")]
        if !alpn.is_empty() {
            config.alpn_protocols.push(ALPN_ACME.to_vec());
        }
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.key_log = Arc::new(ExporterTap);
        Ok(Self { config: Arc::new(config), kept_bytes_max })
    }
}

/// One TLS connection, as server or as client.
pub struct TlsConn {
    tls: Side,
    phase: Phase,
    kept_bytes_max: usize,
    /// An incomplete record, or records that hold an incomplete handshake message; rustls decrypts in place and
    /// remembers offsets in it, so it must be given back as it was left.
    kept: Vec<u8>,
    seen: Option<Box<Seen>>,
}

enum Side {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// Does the same with either side, whose types have no trait in common.
macro_rules! with_either {
    ($side:expr, $tls:ident => $body:expr) => {
        match $side {
            Side::Server($tls) => $body,
            Side::Client($tls) => $body,
        }
    };
}

/// What rustls has for both sides, under one name.
trait Records: DerefMut<Target = UnbufferedConnectionCommon<Self::Data>> {
    type Data;

    fn read<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Records for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn read<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(bytes)
    }
}

impl Records for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn read<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(bytes)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Handshaking,
    Open,
    /// The peer has closed its direction; ours may still be used.
    PeerClosed,
    /// After our close_notify or after an error. rustls must not be asked to process anything from here on.
    Done,
}

impl TlsConn {
    /// A connection that waits for the peer's first bytes.
    ///
    /// # Errors
    /// When rustls refuses the configuration.
    pub fn new(acceptor: &TlsAcceptor) -> Result<Self, TlsError> {
        let tls = UnbufferedServerConnection::new(acceptor.config.clone()).map_err(TlsError::Protocol)?;
        Ok(Self::of(Side::Server(tls), acceptor.kept_bytes_max))
    }

    /// A connection as client, in the name of `host`, to a server for `domain` (A-labels), whose first bytes are
    /// appended to `out`. `direct` where TLS starts with the first byte: then ALPN says what will be spoken.
    ///
    /// # Errors
    /// When the domain cannot be asked for, or rustls refuses the configuration.
    pub fn connect(
        connector: &TlsConnector,
        host: &str,
        domain: &str,
        direct: bool,
        out: &mut Vec<u8>,
    ) -> Result<Self, TlsError> {
        Self::client(connector.config(host, direct), domain, out)
    }

    /// A connection as client with a configuration of its own, whose first bytes are appended to `out`. An address of
    /// IPv6 stands without brackets.
    ///
    /// # Errors
    /// When the server cannot be asked for, or rustls refuses the configuration.
    pub fn client(config: Arc<ClientConfig>, server: &str, out: &mut Vec<u8>) -> Result<Self, TlsError> {
        let name = ServerName::try_from(server.to_owned()).map_err(|_| TlsError::Name)?;
        let tls = UnbufferedClientConnection::new(config, name).map_err(TlsError::Protocol)?;
        let mut conn = Self::of(Side::Client(tls), KEPT_WITH_CERTIFICATES_BYTES_MAX);
        conn.process(&mut [], &mut Vec::new(), out)?;
        Ok(conn)
    }

    fn of(tls: Side, kept_bytes_max: usize) -> Self {
        Self { tls, phase: Phase::Handshaking, kept_bytes_max, kept: Vec::new(), seen: None }
    }

    /// Takes bytes from the socket, which are overwritten; appends plaintext to `plain` and bytes for the socket to
    /// `out`. Whole records are read in place; an incomplete one is kept.
    ///
    /// # Errors
    /// When the connection cannot go on. `out` then ends with the alert that tells the peer; it must still be written
    /// before the socket is closed. What was appended to `plain` before is authentic.
    pub fn receive(
        &mut self,
        incoming: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Progress, TlsError> {
        let was = self.phase;
        match was {
            // What a handshake that panicked may have left behind must not become this one's.
            Phase::Handshaking => drop(SEEN.take()),
            Phase::Open => {}
            Phase::PeerClosed | Phase::Done => return Ok(Progress::Closed),
        }
        let result = self.absorb(incoming, plain, out);
        if was == Phase::Handshaking {
            self.take_seen();
        }
        if let Err(error) = result {
            self.finish(out);
            return Err(error);
        }
        Ok(match (was, self.phase) {
            (Phase::Handshaking, Phase::Handshaking) => Progress::Handshaking,
            (Phase::Handshaking, Phase::Open | Phase::PeerClosed) => Progress::Finished,
            (_, Phase::Open | Phase::Handshaking) => Progress::Open,
            (_, Phase::PeerClosed | Phase::Done) => Progress::Closed,
        })
    }

    /// Encrypts `plain` into as many records as it needs and appends them to `out`.
    ///
    /// # Errors
    /// [`TlsError::NotOpen`] while the handshake lasts, after [`TlsConn::close`], and after an error;
    /// [`TlsError::Exhausted`] when the keys are used up.
    pub fn send(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        match self.phase {
            Phase::Open | Phase::PeerClosed => {}
            Phase::Handshaking | Phase::Done => return Err(TlsError::NotOpen),
        }
        self.write(Say::Data(plain), out)
    }

    /// Appends close_notify (RFC 8446 section 6.1) to `out`, once and if the handshake is done. Nothing can be sent or
    /// received afterwards.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        if matches!(self.phase, Phase::Open | Phase::PeerClosed) {
            // With no room for it the alert is queued, and flushed below.
            let _ = self.write(Say::Goodbye, out);
        }
        self.finish(out);
    }

    /// Hands over what the handshake found out; to be called when [`Progress::Finished`] is told. What comes from the
    /// handshake alone (channel bindings, server name) is no longer held afterwards, and missing from a second answer.
    pub fn facts(&mut self) -> TlsFacts {
        let seen = self.seen.take().map(|seen| *seen).unwrap_or_default();
        let (version, alpn) =
            with_either!(&self.tls, tls => (tls.protocol_version(), tls.alpn_protocol().map(<[u8]>::to_vec)));
        let tls13 = version == Some(ProtocolVersion::TLSv1_3);
        TlsFacts {
            tls13,
            exporter: seen.exporter.filter(|_| tls13),
            end_point: seen.end_point.map(|hash| hash.to_vec()),
            sni: seen.sni,
            alpn,
            peer: seen.peer,
        }
    }

    /// Bytes that are buffered for this connection here, for the budget; 0 when it is idle.
    pub fn held_bytes(&self) -> usize {
        self.kept.capacity()
    }

    /// What it takes beside that: this type, keys, and what a handshake remembers, as `tests/budgets.rs` measures it.
    pub fn state_bytes(&self) -> usize {
        allocated(size_of::<Self>()) + if self.phase == Phase::Handshaking { HANDSHAKE_BYTES } else { OPEN_BYTES }
    }

    /// Reads what there is and keeps the rest.
    fn absorb(&mut self, incoming: &mut [u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), TlsError> {
        let (mut held, mut incoming) = (mem::take(&mut self.kept), incoming);
        while !held.is_empty() && !incoming.is_empty() {
            // No more than its record needs: what follows is read where it lies.
            let (more, rest) = incoming.split_at_mut(lacks(&held).min(incoming.len()));
            held.reserve_exact(more.len());
            held.extend_from_slice(more);
            let used = self.process(&mut held, plain, out)?;
            held.drain(..used.min(held.len()));
            incoming = rest;
        }
        if !incoming.is_empty() {
            let used = self.process(incoming, plain, out)?;
            let rest = incoming.get(used..).unwrap_or_default();
            held.reserve_exact(rest.len());
            held.extend_from_slice(rest);
        }
        // Between records there is no buffer; what one was in serves for the start of the next.
        if !held.is_empty() {
            self.kept = held;
        }
        if self.kept.len() > self.kept_bytes_max { Err(TlsError::TooLong) } else { Ok(()) }
    }

    /// Lets rustls read the records of `buffer` and does what each state asks for. Gives the number of bytes that are
    /// done with.
    fn process(&mut self, buffer: &mut [u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<usize, TlsError> {
        if self.phase == Phase::PeerClosed {
            return Ok(buffer.len());
        }
        with_either!(&mut self.tls, tls => process(tls, &mut self.phase, buffer, plain, out))
    }

    fn write(&mut self, what: Say<'_>, out: &mut Vec<u8>) -> Result<(), TlsError> {
        let result = with_either!(&mut self.tls, tls => write(tls, &mut self.kept, what, out));
        if result.is_err() {
            self.finish(out);
        }
        result
    }

    /// The end, whatever the reason: appends the last alert and lets go of everything.
    fn finish(&mut self, out: &mut Vec<u8>) {
        with_either!(&mut self.tls, tls => flush(tls, out));
        self.phase = Phase::Done;
        self.kept = Vec::new();
        self.seen = None;
    }

    fn take_seen(&mut self) {
        let new = SEEN.take();
        if new.is_empty() {
            return;
        }
        let seen = self.seen.get_or_insert_default();
        if new.hello {
            seen.sni = new.sni;
            seen.end_point = new.end_point;
        }
        if new.exporter.is_some() {
            seen.exporter = new.exporter;
        }
        if new.peer.is_some() {
            seen.peer = new.peer;
        }
    }
}

/// How many bytes the record at the start lacks, or its header; any number when it is complete, and something that
/// began in it is not.
fn lacks(kept: &[u8]) -> usize {
    match kept {
        [_, _, _, high, low, rest @ ..] => match usize::from(u16::from_be_bytes([*high, *low])) {
            len if len > rest.len() => len - rest.len(),
            _ => usize::MAX,
        },
        _ => HEADER_BYTES.saturating_sub(kept.len()),
    }
}

fn process<T: Records>(
    tls: &mut T,
    phase: &mut Phase,
    buffer: &mut [u8],
    plain: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<usize, TlsError> {
    let mut used = 0;
    loop {
        let rest = buffer.get_mut(used..).unwrap_or_default();
        let UnbufferedStatus { mut discard, state, .. } = tls.read(rest);
        let mut waits = false;
        match state.map_err(TlsError::Protocol)? {
            ConnectionState::EncodeTlsData(data) => encode(data, out),
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record.map_err(TlsError::Protocol)?;
                    plain.extend_from_slice(record.payload);
                    discard += record.discard;
                }
            }
            ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) => waits = true,
            ConnectionState::PeerClosed | ConnectionState::Closed => {
                // What follows a closure alert is ignored (RFC 8446 section 6.1).
                *phase = Phase::PeerClosed;
                return Ok(buffer.len());
            }
            // Early data is off, and there are no further states.
            _ => return Err(TlsError::Protocol(rustls::Error::HandshakeNotComplete)),
        }
        used += discard;
        if waits {
            if *phase == Phase::Handshaking && !tls.is_handshaking() {
                *phase = Phase::Open;
            }
            return Ok(used);
        }
    }
}

/// What is to be written on an open connection.
enum Say<'a> {
    Data(&'a [u8]),
    /// close_notify.
    Goodbye,
}

fn write<T: Records>(tls: &mut T, kept: &mut [u8], what: Say<'_>, out: &mut Vec<u8>) -> Result<(), TlsError> {
    loop {
        // All whole records were read on arrival, so nothing but the way to that state is left. It may not be shown an
        // empty buffer: it remembers offsets in what was kept.
        match tls.read(kept).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                return match what {
                    Say::Data(plain) => encrypt(&mut traffic, plain, out),
                    Say::Goodbye => traffic.queue_close_notify(&mut []).map(drop).map_err(|_| TlsError::NotOpen),
                };
            }
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out),
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(_) => return Err(TlsError::NotOpen),
            Err(error) => return Err(TlsError::Protocol(error)),
        }
    }
}

fn encrypt<Data>(traffic: &mut WriteTraffic<'_, Data>, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
    let start = out.len();
    let records = plain.len().div_ceil(FRAGMENT_BYTES_MAX);
    let mut room = plain.len() + records * RECORD_OVERHEAD_BYTES;
    loop {
        out.resize(start + room, 0);
        let result = traffic.encrypt(plain, &mut out[start..]);
        out.truncate(start + *result.as_ref().unwrap_or(&0));
        match result {
            Ok(_) => return Ok(()),
            // A key update that was waiting goes out in front.
            Err(EncryptError::InsufficientSize(size)) if size.required_size > room => room = size.required_size,
            Err(_) => return Err(TlsError::Exhausted),
        }
    }
}

/// Appends what rustls has queued (alerts, above all). It must not come to read records here: after an error it may
/// not, and while a handshake message is incomplete it would miss its buffer.
fn flush<T: Records>(tls: &mut T, out: &mut Vec<u8>) {
    while tls.wants_write() {
        match tls.read(&mut []).state {
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out),
            _ => return,
        }
    }
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, out: &mut Vec<u8>) {
    if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
        let start = out.len();
        out.resize(start + size.required_size, 0);
        let written = data.encode(&mut out[start..]).unwrap_or(0);
        out.truncate(start + written);
    }
}

/// What rustls tells its call-backs during a handshake and not the owner of an unbuffered connection.
#[derive(Default)]
struct Seen {
    /// The resolver was asked: `sni` and `end_point` are of this call.
    hello: bool,
    sni: Option<String>,
    end_point: Option<Arc<[u8]>>,
    exporter: Option<[u8; 32]>,
    peer: Option<PeerCert>,
}

impl Seen {
    fn is_empty(&self) -> bool {
        !self.hello && self.exporter.is_none() && self.peer.is_none()
    }
}

thread_local! {
    // rustls calls back synchronously from within `process_tls_records`, so what is here after the call belongs to
    // its connection, whatever other threads do.
    static SEEN: RefCell<Seen> = RefCell::new(Seen::default());
}

/// For the certificate resolver: the handshake that this thread is in asked for `sni` and gets a certificate whose
/// tls-server-end-point is `end_point`.
pub(super) fn note_hello(sni: Option<&str>, end_point: Option<Arc<[u8]>>) {
    SEEN.with_borrow_mut(|seen| {
        seen.hello = true;
        seen.sni = sni.map(str::to_owned);
        seen.end_point = end_point;
    });
}

/// For the verifier: the handshake that this thread is in has shown this certificate of the peer.
fn note_peer(peer: PeerCert) {
    SEEN.with_borrow_mut(|seen| seen.peer = Some(peer));
}

/// A key log that logs nothing: it derives tls-exporter from the exporter secret, which it alone is shown, and keeps
/// no copy of the secret.
#[derive(Debug)]
struct ExporterTap;

const EXPORTER_SECRET: &str = "EXPORTER_SECRET";

impl KeyLog for ExporterTap {
    fn will_log(&self, label: &str) -> bool {
        label == EXPORTER_SECRET
    }

    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        // TLS 1.2 calls without asking first.
        if label == EXPORTER_SECRET {
            let exporter = tls_exporter(secret);
            SEEN.with_borrow_mut(|seen| seen.exporter = exporter);
        }
    }
}

/// RFC 9266: TLS-Exporter("EXPORTER-Channel-Binding", "", 32), which RFC 8446 section 7.5 defines on the
/// exporter_secret. The length of the secret tells the hash of the cipher suite.
fn tls_exporter(secret: &[u8]) -> Option<[u8; 32]> {
    let (hkdf, digest) = match secret.len() {
        32 => (hkdf::HKDF_SHA256, &ring::digest::SHA256),
        48 => (hkdf::HKDF_SHA384, &ring::digest::SHA384),
        _ => return None,
    };
    let empty = ring::digest::digest(digest, b"");
    let mut derived = zeroize::Zeroizing::new([0; 48]);
    let derived = derived.get_mut(..secret.len())?;
    let mut binding = [0; 32];
    expand_label(&hkdf::Prk::new_less_safe(hkdf, secret), b"EXPORTER-Channel-Binding", empty.as_ref(), derived)?;
    expand_label(&hkdf::Prk::new_less_safe(hkdf, derived), b"exporter", empty.as_ref(), &mut binding)?;
    Some(binding)
}

/// HKDF-Expand-Label of RFC 8446 section 7.1.
fn expand_label(secret: &hkdf::Prk, label: &[u8], context: &[u8], out: &mut [u8]) -> Option<()> {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    const PREFIX: &[u8] = b"tls13 ";
    let length = u16::try_from(out.len()).ok()?.to_be_bytes();
    let label_length = [u8::try_from(PREFIX.len() + label.len()).ok()?];
    let context_length = [u8::try_from(context.len()).ok()?];
    let info = [&length[..], &label_length, PREFIX, label, &context_length, context];
    secret.expand(&info, Length(out.len())).and_then(|okm| okm.fill(out)).ok()
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::Protocol(error) => write!(f, "TLS: {error}"),
            TlsError::TooLong => f.write_str("TLS: a handshake message is too long"),
            TlsError::Name => f.write_str("TLS: the domain is no name that it can ask for"),
            TlsError::NotOpen => f.write_str("TLS: the connection is not open for data"),
            TlsError::Exhausted => f.write_str("TLS: the keys of the connection are used up"),
        }
    }
}

impl std::error::Error for TlsError {}

#[cfg(test)]
pub(super) mod peer_tests;
#[cfg(test)]
mod tests;

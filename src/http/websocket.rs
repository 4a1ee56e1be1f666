//! WebSocket (RFC 6455) without I/O: the handshake, frames in, frames out.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::answer::{Answer, Status};
use super::head::{Head, Method};
use crate::budget::allocated;

/// Section 1.3: what is appended to the key of a handshake.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The subprotocol of RFC 7395.
const PROTOCOL: &str = "xmpp";

/// Why a connection ends (section 7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// All is said.
    Normal = 1000,
    /// The server stops.
    GoingAway = 1001,
    /// A broken rule of the protocol.
    Protocol = 1002,
    /// Bytes where there is to be text.
    Unacceptable = 1003,
    /// Text that is not UTF-8.
    NotText = 1007,
    /// A message longer than any that is taken.
    TooLong = 1009,
}

/// What has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// A text.
    Text(String),
    /// A question whether we are there, to be answered with the same bytes.
    Ping(Vec<u8>),
    /// An answer to such a question.
    Pong,
    /// The other end has said all.
    Close,
    /// A piece of a message.
    Nothing,
}

/// Answers a request for a WebSocket: with 101 it is one behind the answer.
pub fn handshake(head: &Head, is_welcome: impl Fn(&str) -> bool) -> Answer {
    let asks = head.method == Method::Get && head.is_1_1 && head.has("upgrade", "websocket");
    if !asks || !head.has("connection", "upgrade") {
        return Answer::error(Status::UpgradeRequired).with("Upgrade", "websocket").with("Connection", "Upgrade");
    }
    if head.field("sec-websocket-version") != Some("13") {
        return Answer::error(Status::UpgradeRequired)
            .with("Upgrade", "websocket")
            .with("Connection", "Upgrade")
            .with("Sec-WebSocket-Version", "13");
    }
    let key = head.field("sec-websocket-key").filter(|key| BASE64_STANDARD.decode(key).is_ok_and(|k| k.len() == 16));
    // RFC 7395 section 3.1: a client that speaks XMPP says so.
    let (Some(key), true) = (key, head.list("sec-websocket-protocol").any(|protocol| protocol == PROTOCOL)) else {
        return Answer::error(Status::BadRequest);
    };
    // Section 10.2: browsers say whose script this is, other clients nothing.
    if head.all("origin").any(|origin| !is_welcome(origin)) {
        return Answer::error(Status::Forbidden);
    }
    let accept = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
    Answer::empty(Status::SwitchingProtocols)
        .with("Upgrade", "websocket")
        .with("Connection", "Upgrade")
        .with("Sec-WebSocket-Accept", BASE64_STANDARD.encode(accept))
        .with("Sec-WebSocket-Protocol", PROTOCOL)
}

/// Opcodes (section 5.2).
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Bytes of a control frame (section 5.5).
const CONTROL_BYTES_MAX: usize = 125;

/// What has come of one connection. Idle, it holds no buffer.
#[derive(Debug, Default)]
pub struct Incoming {
    input: Vec<u8>,
    /// The fragments so far of a message that is not complete.
    message: Option<Vec<u8>>,
}

impl Incoming {
    /// Takes bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The next frame, of a message of at most so many bytes, and bytes of it that are not the message's; none while it
    /// is not complete.
    ///
    /// # Errors
    /// The connection has to end for that reason.
    pub fn poll(&mut self, bytes_max: usize) -> Result<Option<(Item, usize)>, Code> {
        let [first, second, ..] = self.input[..] else { return Ok(None) };
        let (is_last, opcode, is_masked) = (first & 0x80 != 0, first & 0x0f, second & 0x80 != 0);
        // No extension was agreed upon (section 5.2), and what a client sends is masked (section 5.1).
        if first & 0x70 != 0 || !is_masked {
            return Err(Code::Protocol);
        }
        let (len, header) = match second & 0x7f {
            126 => match self.input.get(2..4).and_then(|bytes| bytes.try_into().ok()) {
                Some(bytes) => (u64::from(u16::from_be_bytes(bytes)), 4),
                None => return Ok(None),
            },
            127 => match self.input.get(2..10).and_then(|bytes| bytes.try_into().ok()) {
                Some(bytes) => (u64::from_be_bytes(bytes), 10),
                None => return Ok(None),
            },
            short => (u64::from(short), 2),
        };
        // The shortest form is the only one (section 5.2).
        let is_shortest = match header {
            4 => len > 125,
            10 => len > u64::from(u16::MAX) && len >> 63 == 0,
            _ => true,
        };
        if !is_shortest {
            return Err(Code::Protocol);
        }
        let is_control = opcode & 8 != 0;
        if is_control && (!is_last || len > CONTROL_BYTES_MAX as u64) {
            return Err(Code::Protocol);
        }
        match (opcode, &self.message) {
            (CONTINUATION, Some(_)) | (TEXT, None) | (CLOSE | PING | PONG, _) => {}
            (BINARY, None) => return Err(Code::Unacceptable),
            _ => return Err(Code::Protocol),
        }
        let before = self.message.as_ref().map_or(0, Vec::len);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if !is_control && len > bytes_max.saturating_sub(before) {
            return Err(Code::TooLong);
        }
        let (start, end) = (header + 4, header + 4 + len);
        let Some(frame) = self.input.get_mut(header..end) else { return Ok(None) };
        let (mask, payload) = frame.split_at_mut(4);
        for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        let payload = match end == self.input.len() {
            true => {
                let mut all = std::mem::take(&mut self.input);
                all.drain(..start);
                all
            }
            false => {
                let payload = self.input.get(start..end).unwrap_or_default().to_vec();
                self.input.drain(..end);
                payload
            }
        };
        Ok(Some(match opcode {
            PING => (Item::Ping(payload), end),
            PONG => (Item::Pong, end),
            CLOSE => return closed(&payload).map(|()| Some((Item::Close, end))),
            _ => (self.fragment(payload, is_last)?, start),
        }))
    }

    fn fragment(&mut self, payload: Vec<u8>, is_last: bool) -> Result<Item, Code> {
        let whole = match self.message.take() {
            None => payload,
            Some(mut message) => {
                message.extend_from_slice(&payload);
                message
            }
        };
        if !is_last {
            self.message = Some(whole);
            return Ok(Item::Nothing);
        }
        String::from_utf8(whole).map(Item::Text).map_err(|_| Code::NotText)
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        allocated(self.input.capacity()) + self.message.as_ref().map_or(0, |message| allocated(message.capacity()))
    }
}

/// Section 5.5.1: nothing, or a code that may stand there (section 7.4) and a text.
fn closed(payload: &[u8]) -> Result<(), Code> {
    match payload {
        [] => Ok(()),
        [high, low, text @ ..] => match u16::from_be_bytes([*high, *low]) {
            1000..=1003 | 1007..=1014 | 3000..=4999 if std::str::from_utf8(text).is_ok() => Ok(()),
            1000..=1003 | 1007..=1014 | 3000..=4999 => Err(Code::NotText),
            _ => Err(Code::Protocol),
        },
        [_] => Err(Code::Protocol),
    }
}

/// Writes a message.
pub fn write_text(text: &[u8], out: &mut Vec<u8>) {
    write(TEXT, text, out);
}

/// Answers a [`Item::Ping`].
pub fn write_pong(payload: &[u8], out: &mut Vec<u8>) {
    write(PONG, payload, out);
}

/// Says that this was all.
pub fn write_close(code: Code, out: &mut Vec<u8>) {
    write(CLOSE, &(code as u16).to_be_bytes(), out);
}

/// A server does not mask (section 5.1).
fn write(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match payload.len() {
        len @ 0..=125 => out.push(len as u8),
        len @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write(first & 0x0f, payload, &mut out);
        out[0] = first;
        out[1] |= 0x80;
        let at = out.len() - payload.len();
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        out.splice(at..at, mask);
        for (byte, mask) in out[at + 4..].iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        out
    }

    fn all(bytes: &[u8], step: usize) -> Result<Vec<Item>, Code> {
        let (mut incoming, mut items) = (Incoming::default(), Vec::new());
        for piece in bytes.chunks(step) {
            incoming.feed(piece);
            while let Some((item, _)) = incoming.poll(70_000)? {
                items.push(item);
            }
        }
        if incoming.message.is_none() && incoming.input.is_empty() {
            assert_eq!(incoming.heap_bytes(), 0);
        }
        Ok(items)
    }

    #[test]
    fn messages_come_whole_or_in_fragments_with_pings_between() {
        for step in [1, 2, 3, 7, 1000, 100_000] {
            let long = "x".repeat(66_000);
            let stream = [
                frame(0x81, b"Hello"),
                frame(0x01, b"a"),
                frame(0x89, b"?"),
                frame(0x00, b""),
                frame(0x80, "\u{e4}".as_bytes()),
                frame(0x81, "y".repeat(126).as_bytes()),
                frame(0x81, long.as_bytes()),
                frame(0x8a, b""),
                frame(0x88, &[3, 232]),
            ];
            let items = all(&stream.concat(), step).unwrap();
            assert_eq!(
                items,
                [
                    Item::Text("Hello".to_owned()),
                    Item::Nothing,
                    Item::Ping(b"?".to_vec()),
                    Item::Nothing,
                    Item::Text("a\u{e4}".to_owned()),
                    Item::Text("y".repeat(126)),
                    Item::Text(long),
                    Item::Pong,
                    Item::Close,
                ]
            );
        }
    }

    #[test]
    fn the_key_of_the_rfc_gets_the_answer_of_the_rfc() {
        let request = |fields: &str| {
            let text = format!("GET /ws HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            let (head, _) = super::super::head::read(text.as_bytes()).unwrap().unwrap();
            handshake(&head, |origin| origin == "https://a.example")
        };
        let sound = "Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chat, xmpp\r\n";
        let answer = request(sound);
        assert_eq!(answer.status, Status::SwitchingProtocols);
        assert!(answer.fields.contains(&("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned())));
        assert!(answer.fields.contains(&("Sec-WebSocket-Protocol", "xmpp".to_owned())));
        for (wrong, status) in [
            (sound.replace("WebSocket\r\nCon", "h2c\r\nCon"), Status::UpgradeRequired),
            (sound.replace("keep-alive, Upgrade", "keep-alive"), Status::UpgradeRequired),
            (sound.replace("Version: 13", "Version: 8"), Status::UpgradeRequired),
            (sound.replace("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j"), Status::BadRequest),
            (sound.replace("chat, xmpp", "chat"), Status::BadRequest),
            (format!("{sound}Origin: https://evil.example\r\n"), Status::Forbidden),
            (format!("{sound}Origin: https://a.example\r\n"), Status::SwitchingProtocols),
        ] {
            assert_eq!(request(&wrong).status, status, "{wrong}");
        }
    }

    #[test]
    fn broken_frames_end_the_connection() {
        let mut unmasked = Vec::new();
        write_text(b"Hello", &mut unmasked);
        let long_form = [0x81, 0xfe, 0, 1, 0, 0, 0, 0, b'a'];
        let huge = [0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for (bytes, code) in [
            (unmasked, Code::Protocol),
            (frame(0xc1, b"a"), Code::Protocol),
            (frame(0x83, b"a"), Code::Protocol),
            (frame(0x8b, b"a"), Code::Protocol),
            (frame(0x80, b"a"), Code::Protocol),
            ([frame(0x01, b"a"), frame(0x81, b"b")].concat(), Code::Protocol),
            (frame(0x09, b"a"), Code::Protocol),
            (frame(0x89, &[b'a'; 126]), Code::Protocol),
            (frame(0x88, b"a"), Code::Protocol),
            (frame(0x88, &[3, 237]), Code::Protocol),
            (frame(0x88, &[3, 232, 0xff]), Code::NotText),
            (frame(0x82, b"a"), Code::Unacceptable),
            (frame(0x81, b"\xff"), Code::NotText),
            (long_form.to_vec(), Code::Protocol),
            (huge.to_vec(), Code::Protocol),
            (frame(0x81, &[b'a'; 70_001]), Code::TooLong),
            ([frame(0x01, &[b'a'; 69_999]), frame(0x00, b"ab")].concat(), Code::TooLong),
        ] {
            assert_eq!(all(&bytes, 100_000), Err(code), "{:?}", &bytes[..bytes.len().min(16)]);
        }
        // As soon as its head is here.
        assert_eq!(all(&frame(0x81, &[b'a'; 70_001])[..10], 10), Err(Code::TooLong));
    }
}

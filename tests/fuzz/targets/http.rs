//! What comes to the HTTP server: however bytes are cut into reads, they mean the same; what is held is bounded by what
//! came; and what is passed on to a stream is one element.

use couplet::http::answer::{Answer, Status};
use couplet::http::bosh::{self, Body};
use couplet::http::framing::Messages;
use couplet::http::proxy::{Found, Prelude};
use couplet::http::websocket::{Code, Incoming, Item};
use couplet::http::wire::{Event, Turn, Wire};
use couplet::limits::Limits;
use couplet::xml::{FrameKind, ScanLimits, Scanner};

/// Content that is taken of one request.
const CONTENT_BYTES_MAX: u64 = 600;

/// The first byte says what it is for, the second how long the reads are.
pub fn run(data: &[u8]) {
    let [kind, step, rest @ ..] = data else { return };
    // A line is looked at when it is complete.
    let (step, rest) = (usize::from(*step).max(1), &[rest, b"\n"].concat()[..]);
    match kind % 4 {
        0 => assert_eq!(requests(rest, rest.len().max(1)), requests(rest, step)),
        1 => assert_eq!(messages(rest, rest.len().max(1)), messages(rest, step)),
        2 => assert_eq!(prelude(rest, rest.len().max(1)), prelude(rest, step)),
        _ => streams(rest),
    }
}

/// What a connection brings, each request with its content.
fn requests(data: &[u8], step: usize) -> Vec<String> {
    let (mut wire, mut seen, mut out) = (Wire::default(), Vec::new(), Vec::new());
    for piece in data.chunks(step) {
        wire.feed(piece.to_vec());
        let mut content = 0;
        while let Some(event) = wire.poll() {
            let status = match event {
                Event::Request(head) => {
                    seen.push(format!("{head:?}"));
                    content = 0;
                    match wire.take_content(CONTENT_BYTES_MAX, &mut out) {
                        Ok(()) => continue,
                        Err(status) => status,
                    }
                }
                Event::Content(bytes) => {
                    content += bytes.len();
                    match seen.last_mut().filter(|last| !last.starts_with("Head")) {
                        Some(last) => last.push_str(&format!("{bytes:?}").replace(['[', ']'], ",")),
                        None => seen.push(format!("{bytes:?}").replace(['[', ']'], ",")),
                    }
                    continue;
                }
                Event::End => Status::Ok,
                // Of two reasons the one that is seen first is told.
                Event::Refused(_) => Status::BadRequest,
            };
            assert!(content as u64 <= CONTENT_BYTES_MAX);
            seen.push(format!("Head {status:?}"));
            wire.answer(&Answer::error(status), 0, &mut out);
        }
        assert!(wire.heap_bytes() <= 3 * data.len() + 64, "{} of {}", wire.heap_bytes(), data.len());
        if wire.turn() == Turn::Over {
            break;
        }
    }
    for text in seen.iter_mut() {
        *text = text.replace(" ", "").replace(",,", ",");
    }
    seen
}

/// What a WebSocket brings, up to the first broken rule.
fn messages(data: &[u8], step: usize) -> (Vec<Item>, Option<Code>) {
    let (mut incoming, mut items) = (Incoming::default(), Vec::new());
    for piece in data.chunks(step) {
        incoming.feed(piece);
        loop {
            match incoming.poll(300) {
                Ok(None) => break,
                Ok(Some((item, _))) => items.push(item),
                Err(code) => return (items, Some(code)),
            }
        }
    }
    (items, None)
}

/// How many bytes are a proxy's, and whom it names; none of what is no header.
fn prelude(data: &[u8], step: usize) -> Option<(usize, Found)> {
    let (mut prelude, mut used) = (Prelude::default(), 0);
    for piece in data.chunks(step) {
        match prelude.take(piece) {
            (bytes, Found::Incomplete) => used += bytes,
            (_, Found::Nothing) => return None,
            (bytes, found) => return Some((used + bytes, found)),
        }
    }
    // What could still become one may turn out to be none by the next byte.
    None
}

/// Bodies and messages become elements of a stream, each whole.
fn streams(data: &[u8]) {
    let (limits, text) = (Limits::default(), String::from_utf8_lossy(data));
    let bounds = ScanLimits::authenticated(&limits);
    let _ = (Body::read(data, bounds), bosh::sid_of(data));
    let mut messages = Messages::default();
    for message in text.split('\n') {
        let Ok(bytes) = messages.incoming(message, &limits) else { continue };
        if bytes.is_empty() || bytes.starts_with(b"<stream:stream ") || bytes == b"</stream:stream>" {
            continue;
        }
        let frame = Scanner::without_stream(bounds).scan(&bytes).expect("it was looked at").expect("it is whole");
        assert_eq!((frame.kind, frame.len), (FrameKind::Element, bytes.len()));
    }
    messages.outgoing(&[], |_| {});
}

//! What a line of a table sends. Text goes as it stands, but for what stands in braces:
//!
//! | in braces | sends |
//! |---|---|
//! | `x C0 80` | these bytes |
//! | `3 * TEXT` | the text three times, with the number of the turn for each `%` |
//! | `b64 TEXT` | base64 of the text |
//! | `utf16 TEXT` | the text in UTF-16 with a mark of its order |
//! | `open NAMESPACE ATTRIBUTES` | a stream header |
//! | `n` | the end of a line of HTTP |
//! | `sized TEXT` | the length of a content, the end of the head, the content |
//! | `websocket` | a request for a WebSocket, whose answer is waited for |
//! | `frame BYTE TEXT` | a frame of WebSocket with that first byte, masked |
//! | `hear TEXT` | nothing, until the text is heard, which is then forgotten |
//! | `cut` | nothing, for a moment |
//! | `tls ALPN` | a handshake |
//! | `shut` | the end of what is sent |
//! | `me`, `bare` | the address of the client |
//! | `sm` | the name of the session that was enabled last |
//! | `keep sm` | nothing, but keeps it for `kept`, which anybody may send |
//! | `scram1 NAME`, `scram256 NAME`, `scramplus NAME` | the first message of SCRAM, in base64 |
//! | `proof PASSWORD; HEADER; CHANGE` | its last message, with what is changed: `nonce`, `binding`, `proof`, `extra` |
//! | `exporter` | the channel binding, raw |
//! | `handshake SECRET` | the proof of a component |
//!
//! Braces may stand in each other.

use std::io;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ring::{digest, hmac, pbkdf2};

use crate::stages::Stream;

/// The client's half of a nonce.
const NONCE: &str = "fyko+d2lbbFgONRv9qkxdawL";

/// The name of a session that another tries to have.
static KEPT: Mutex<String> = Mutex::new(String::new());

const WEBSOCKET: &str = "GET /xmpp-websocket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                         Sec-WebSocket-Protocol: xmpp\r\n\r\n";

/// How long a pause is that a peer makes between two writes.
const MOMENT: Duration = Duration::from_millis(10);

/// Sends a script on a stream.
pub fn send(script: &str, stream: &mut Stream) -> io::Result<()> {
    let mut out = Vec::new();
    run(script, stream, &mut out)?;
    stream.wire.say(&out);
    Ok(())
}

fn run(script: &str, stream: &mut Stream, out: &mut Vec<u8>) -> io::Result<()> {
    let mut rest = script;
    while let Some(at) = rest.find('{') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let end = closing(&rest[at..]).ok_or_else(|| io::Error::other(format!("no end of {rest}")))?;
        command(&rest[at + 1..at + end], stream, out)?;
        rest = &rest[at + end + 1..];
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(())
}

fn inner(script: &str, stream: &mut Stream) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    run(script, stream, &mut out)?;
    Ok(out)
}

/// The text of one turn: what stands in further braces has turns of its own.
fn numbered(body: &str, turn: usize) -> String {
    let (mut out, mut depth) = (String::with_capacity(body.len()), 0);
    for c in body.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            '%' if depth == 0 => {
                out.push_str(&turn.to_string());
                continue;
            }
            _ => {}
        }
        out.push(c);
    }
    out
}

/// Where the brace closes that the text begins with.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

fn command(words: &str, stream: &mut Stream, out: &mut Vec<u8>) -> io::Result<()> {
    let (word, rest) = words.split_once(' ').unwrap_or((words, ""));
    if let Ok(times) = word.parse::<usize>() {
        let body = rest.strip_prefix("* ").ok_or_else(|| io::Error::other(format!("no * in {words}")))?;
        for turn in 0..times {
            let body = numbered(body, turn);
            match body.contains('{') {
                true => out.extend(inner(&body, stream)?),
                false => out.extend_from_slice(body.as_bytes()),
            }
        }
        return Ok(());
    }
    match word {
        "x" => {
            for byte in rest.split(' ') {
                out.push(u8::from_str_radix(byte, 16).map_err(io::Error::other)?);
            }
        }
        "b64" => out.extend_from_slice(BASE64_STANDARD.encode(inner(rest, stream)?).as_bytes()),
        "utf16" => {
            let text = String::from_utf8(inner(rest, stream)?).map_err(io::Error::other)?;
            out.extend([0xFF, 0xFE]);
            out.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
        }
        "open" => {
            let (ns, attributes) = rest.split_once(' ').unwrap_or((rest, ""));
            let (before, after) = HEADER.split_once("NAMESPACE").unwrap_or_default();
            out.extend_from_slice(format!("{before}{ns}{after} ").as_bytes());
            run(attributes, stream, out)?;
            out.push(b'>');
        }
        "n" => out.extend_from_slice(b"\r\n"),
        "sized" => {
            let content = inner(rest, stream)?;
            out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", content.len()).as_bytes());
            out.extend_from_slice(&content);
        }
        "websocket" => {
            stream.wire.say(WEBSOCKET);
            stream.wire.hear("\r\n\r\n")?;
        }
        "frame" => {
            let (first, text) = rest.split_once(' ').unwrap_or((rest, ""));
            let text = inner(text, stream)?;
            let len = u8::try_from(text.len()).map_err(io::Error::other)?;
            out.push(u8::from_str_radix(first, 16).map_err(io::Error::other)?);
            out.extend_from_slice(&[0x80 | len, 0, 0, 0, 0]);
            out.extend_from_slice(&text);
        }
        "hear" => {
            stream.wire.say(std::mem::take(out));
            stream.last = stream.wire.hear(rest)?;
            // A tag goes up to its end.
            if rest.starts_with('<') && !rest.ends_with('>') {
                stream.last.push_str(&stream.wire.hear(">")?);
            }
            if let Some(id) = crate::client::attribute(&stream.last, "id").filter(|_| rest.contains("enabled")) {
                stream.session = id.to_owned();
            }
        }
        "cut" => {
            stream.wire.say(std::mem::take(out));
            std::thread::sleep(MOMENT);
        }
        "tls" => {
            stream.wire.say(std::mem::take(out));
            stream.wire.start_tls(rest, None)?;
        }
        "shut" => {
            stream.wire.say(std::mem::take(out));
            stream.wire.shut();
        }
        "me" => out.extend_from_slice(stream.me.as_bytes()),
        "bare" => out.extend_from_slice(stream.me.split('/').next().unwrap_or_default().as_bytes()),
        "keep" => *KEPT.lock().unwrap_or_else(PoisonError::into_inner) = stream.session.clone(),
        "kept" => out.extend_from_slice(KEPT.lock().unwrap_or_else(PoisonError::into_inner).as_bytes()),
        "sm" => out.extend_from_slice(stream.session.as_bytes()),
        "exporter" => out.extend_from_slice(&stream.wire.exporter().unwrap_or_default()),
        "scram1" | "scram256" | "scramplus" => {
            stream.is_sha256 = word != "scram1";
            stream.first_bare = format!("n={},r={NONCE}", String::from_utf8_lossy(&inner(rest, stream)?));
            let header = if word == "scramplus" { "p=tls-exporter,," } else { "n,," };
            let first = format!("{header}{}", stream.first_bare);
            out.extend_from_slice(BASE64_STANDARD.encode(first).as_bytes());
        }
        "proof" => {
            let mut parts = rest.split(';').map(str::trim);
            let (password, header) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let header = inner(header, stream)?;
            let last = final_message(stream, password, &header, parts.next().unwrap_or_default())?;
            out.extend_from_slice(BASE64_STANDARD.encode(last).as_bytes());
        }
        "handshake" => {
            let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{}{rest}", stream.id).as_bytes());
            out.extend(hash.as_ref().iter().flat_map(|byte| format!("{byte:02x}").into_bytes()));
        }
        _ => return Err(io::Error::other(format!("what is {word}?"))),
    }
    Ok(())
}

/// Begins a stream header.
const HEADER: &str = "<stream:stream xmlns='NAMESPACE' xmlns:stream='http://etherx.jabber.org/streams' \
                      xmlns:db='jabber:server:dialback'";

/// A stream header.
pub fn header(ns: &str, attributes: &str) -> String {
    format!("{} {attributes}>", HEADER.replace("NAMESPACE", ns))
}

/// client-final-message of RFC 5802 for the challenge that was heard last.
fn final_message(stream: &Stream, password: &str, header: &[u8], change: &str) -> io::Result<String> {
    let broken = || io::Error::other(format!("no challenge in {}", stream.last));
    let text = stream.last.rsplit_once("</").map_or("", |(text, _)| text);
    let challenge = BASE64_STANDARD.decode(text.rsplit('>').next().unwrap_or_default()).map_err(io::Error::other)?;
    let challenge = String::from_utf8(challenge).map_err(io::Error::other)?;
    let field = |key| challenge.split(',').find_map(|field| field.strip_prefix(key)).ok_or_else(broken);
    let salt = BASE64_STANDARD.decode(field("s=")?).map_err(io::Error::other)?;
    let iterations: NonZeroU32 = field("i=")?.parse().map_err(|_| broken())?;
    let (mac, hash, derive) = match stream.is_sha256 {
        true => (hmac::HMAC_SHA256, &digest::SHA256, pbkdf2::PBKDF2_HMAC_SHA256),
        false => (hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &digest::SHA1_FOR_LEGACY_USE_ONLY, pbkdf2::PBKDF2_HMAC_SHA1),
    };
    let mut salted = vec![0; hash.output_len()];
    pbkdf2::derive(derive, iterations, &salt, password.as_bytes(), &mut salted);
    let nonce = match change {
        "nonce" => format!("{}x", field("r=")?),
        "half" => NONCE.to_owned(),
        _ => field("r=")?.to_owned(),
    };
    let mut without_proof = format!("c={},r={nonce}", BASE64_STANDARD.encode(header));
    if change == "extra" {
        without_proof.push_str(",m=none");
    }
    let sign = |key: &[u8], data: &[u8]| hmac::sign(&hmac::Key::new(mac, key), data);
    let client_key = sign(&salted, b"Client Key");
    let stored_key = digest::digest(hash, client_key.as_ref());
    let signed = format!("{},{challenge},{without_proof}", stream.first_bare);
    let signature = sign(stored_key.as_ref(), signed.as_bytes());
    let mut proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
    match change {
        "proof" => proof[0] ^= 1,
        "short" => proof.truncate(4),
        "none" => return Ok(without_proof),
        _ => {}
    }
    Ok(format!("{without_proof},p={}", BASE64_STANDARD.encode(proof)))
}

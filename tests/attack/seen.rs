//! What an input has led to, and whether it is what the tables say.

use std::io;
use std::time::{Duration, Instant};

use crate::script;
use crate::stages::{Stage, Stream};
use crate::target::Target;
use crate::wire::{End, PATIENCE};

/// How long a server is listened to that is to say nothing.
const SILENCE: Duration = Duration::from_millis(120);

/// How much later than others an answer may come.
const LATE: Duration = Duration::from_secs(5);

/// What must come of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This stream error (RFC 6120 section 4.9.3), the end of the stream and of the connection.
    Stream(String),
    /// This failure of SASL (section 6.5); another attempt may follow.
    Sasl(String),
    /// A stanza error with this condition (section 8.3.3); the stream goes on.
    Stanza(String),
    /// `<failed/>` of XEP-0198 with this condition; the stream goes on.
    Failed(String),
    /// An alert of TLS (RFC 8446 section 6) and the end of the connection.
    Alert,
    /// One answer of HTTP with that status, and the end of the connection.
    Status(String),
    /// A frame of WebSocket that closes it with that code (RFC 6455 section 7.4), and the end of the connection.
    Code(u16),
    /// The end without an error.
    Closed,
    /// No error at all: the stream goes on.
    Lives,
    /// A text, and the stream goes on.
    Answers(String),
    /// Nothing: there is more to come.
    Waits,
}

impl Outcome {
    pub fn read(words: &str) -> Option<Self> {
        let (word, rest) = words.split_once(' ').unwrap_or((words, ""));
        Some(match (word, rest) {
            ("stream", condition @ "invalid-xml") | ("stream", condition) => Self::Stream(condition.to_owned()),
            ("sasl", condition) => Self::Sasl(condition.to_owned()),
            ("stanza", condition) => Self::Stanza(condition.to_owned()),
            ("failed", condition) => Self::Failed(condition.to_owned()),
            ("status", code) => Self::Status(code.to_owned()),
            ("code", code) => Self::Code(code.parse().ok()?),
            ("answers", text) => Self::Answers(text.to_owned()),
            ("alert", "") => Self::Alert,
            ("closed", "") => Self::Closed,
            ("lives", "") => Self::Lives,
            ("waits", "") => Self::Waits,
            _ => return None,
        })
    }

    /// True when what fits the one cannot fit the other.
    pub fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Answers(_), Self::Answers(_) | Self::Lives) | (Self::Lives, Self::Answers(_)) => false,
            (Self::Answers(_), Self::Stanza(_) | Self::Sasl(_) | Self::Failed(_)) => false,
            (Self::Stanza(_) | Self::Sasl(_) | Self::Failed(_), Self::Answers(_)) => false,
            _ => self != other,
        }
    }
}

/// What came behind an input, and what became of the connection.
#[derive(Debug)]
pub struct Seen {
    pub text: String,
    /// The first byte, which may be none of a text.
    first: Option<u8>,
    /// The last four, for the same reason.
    last: [u8; 4],
    end: End,
    /// The connection was still of use.
    alive: bool,
}

impl Seen {
    /// Whether it is that.
    pub fn is(&self, outcome: &Outcome) -> bool {
        let has = |name: &str, ns: &str| self.text.contains(&format!("<{name} xmlns='{ns}'"));
        let closed = !self.alive && self.end == End::Closed;
        match outcome {
            Outcome::Stream(name) => {
                closed
                    && self.text.contains("<stream:error>")
                    && has(name, "urn:ietf:params:xml:ns:xmpp-streams")
                    && self.text.ends_with("</stream:error></stream:stream>")
            }
            Outcome::Sasl(name) => {
                let old = format!("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><{name}/>");
                let new = format!("<failure xmlns='urn:xmpp:sasl:2'><{name} xmlns='urn:ietf:params:xml:ns:xmpp-sasl'");
                self.alive && (self.text.contains(&old) || self.text.contains(&new))
            }
            Outcome::Stanza(name) => {
                let is_error = self.text.contains("type='error'");
                self.alive && is_error && has(name, "urn:ietf:params:xml:ns:xmpp-stanzas")
            }
            Outcome::Failed(name) => {
                let is_failed = self.text.contains("<failed xmlns='urn:xmpp:sm:3'");
                self.alive && is_failed && has(name, "urn:ietf:params:xml:ns:xmpp-stanzas")
            }
            Outcome::Alert => !self.alive && self.end != End::Open && self.first == Some(21),
            Outcome::Status(code) => {
                let is_one = self.text.matches("HTTP/1.1 ").count() == 1;
                closed && is_one && self.text.starts_with(&format!("HTTP/1.1 {code} "))
            }
            Outcome::Code(code) => {
                let [high, low] = code.to_be_bytes();
                closed && self.last == [0x88, 2, high, low]
            }
            Outcome::Closed => closed && !self.text.contains("<stream:error") && self.first != Some(21),
            Outcome::Lives => {
                let bad = ["type='error'", "<failure", "<failed"];
                self.alive && !bad.iter().any(|bad| self.text.contains(bad))
            }
            Outcome::Answers(text) => self.alive && self.text.contains(text.as_str()),
            Outcome::Waits => !self.alive && self.end == End::Open && self.text.is_empty(),
        }
    }
}

/// Brings a connection to its stage, sends the script there and looks what comes of it.
pub fn observe(target: &Target, stage: Stage, script: &str, outcome: &Outcome) -> io::Result<Seen> {
    let mut stream = stage.open(target)?;
    script::send(script, &mut stream)?;
    look(&mut stream, outcome)
}

/// What has come of what was sent last. It is enough when the connection has shown to be of use, or is gone; but some
/// answers wait for the disk, and what was asked later may be answered sooner.
pub fn look(stream: &mut Stream, outcome: &Outcome) -> io::Result<Seen> {
    let (probe, mark) = stream.probe();
    let patience = match outcome {
        Outcome::Waits => SILENCE,
        _ => {
            script::send(&probe, stream)?;
            PATIENCE
        }
    };
    let begun = Instant::now();
    loop {
        let got = &stream.wire.got;
        let alive = memchr::memmem::find(got, mark.as_bytes()).is_some();
        let text = String::from_utf8_lossy(got).into_owned();
        let last = got.last_chunk().copied().unwrap_or_default();
        let seen = Seen { text, first: got.first().copied(), last, end: stream.wire.end, alive };
        let late = alive && begun.elapsed() > LATE;
        if stream.wire.end != End::Open || late || (alive && seen.is(outcome)) || begun.elapsed() > patience {
            stream.wire.got.clear();
            return Ok(seen);
        }
        stream.wire.wait(if alive { LATE } else { patience }.saturating_sub(begun.elapsed()));
    }
}

//! What a server stream tells the engine.

use std::fmt;

use super::{Pair, Refusal, Verdict};
use crate::stream::StreamError;
use crate::xml::Element;

/// What the engine must know or do. Output is taken and sent before an event is acted upon.
pub enum Event {
    /// Start TLS behind the output. Answer: [`super::S2s::facts`].
    StartTls,
    /// An outgoing stream has TLS: keys may be verified on it, and [`super::S2s::authenticate`] goes on.
    Secured,
    /// An outgoing stream takes stanzas.
    Ready {
        /// The peer offers stream management.
        management: bool,
    },
    /// The peer claims to be `pair.remote`: its key is to be verified with that domain on another stream. Answer:
    /// [`super::S2s::verdict`].
    Verify {
        /// What it wants to send stanzas for.
        pair: Pair,
        /// Of this stream.
        id: String,
        /// As it came.
        key: String,
    },
    /// What has become of a key that [`super::S2s::verify`] has asked about.
    Verdict {
        /// As asked.
        pair: Pair,
        /// As asked.
        id: String,
        /// The answer.
        verdict: Verdict,
    },
    /// A component shows that it knows its secret. Answer: [`super::S2s::handshake`].
    Handshake {
        /// As it came.
        proof: Box<str>,
    },
    /// An incoming stream takes stanzas from one more domain.
    Proved {
        /// The domain, and that of ours which it was proved for.
        pair: Pair,
    },
    /// A stanza, or an element of stream management. A stanza may come from any domain: see [`super::S2s::proves`].
    Element(Element),
    /// The stream is over. The connection is closed behind the output.
    Closed {
        /// What we have told the peer.
        error: Option<StreamError>,
        /// Of an outgoing stream, when another attempt would not help.
        refusal: Option<Refusal>,
    },
}

/// Shows neither keys nor what people write.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartTls => f.write_str("StartTls"),
            Self::Secured => f.write_str("Secured"),
            Self::Ready { management } => write!(f, "Ready({management})"),
            Self::Verify { pair, .. } => write!(f, "Verify({pair})"),
            Self::Verdict { pair, verdict, .. } => write!(f, "Verdict({pair}, {verdict:?})"),
            Self::Handshake { .. } => f.write_str("Handshake"),
            Self::Proved { pair } => write!(f, "Proved({pair})"),
            Self::Element(element) => write!(f, "Element({})", element.root().name()),
            Self::Closed { error, refusal } => write!(f, "Closed({error:?}, {refusal:?})"),
        }
    }
}

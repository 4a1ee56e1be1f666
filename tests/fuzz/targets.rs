//! What is fuzzed. A target takes any bytes and panics when a rule is broken.
//!
//! `tests/fuzz/main.rs` runs the committed inputs through them, and `tests/fuzz/libfuzzer.rs` those that libFuzzer
//! makes up; see `tests/fuzz/run`.

#[cfg(feature = "acme")]
#[path = "targets/acme.rs"]
mod acme;
#[path = "targets/config.rs"]
mod config;
#[path = "targets/dns.rs"]
mod dns;
#[path = "targets/engine.rs"]
mod engine;
#[path = "targets/frames.rs"]
mod frames;
#[cfg(feature = "http")]
#[path = "targets/http.rs"]
mod http;
#[path = "targets/jid.rs"]
mod jid;
#[cfg(feature = "import")]
#[path = "targets/moving.rs"]
mod moving;
#[path = "targets/sasl.rs"]
mod sasl;
#[path = "targets/store.rs"]
mod store;
#[path = "targets/strangers.rs"]
mod strangers;
#[path = "targets/structure.rs"]
mod structure;
#[path = "targets/world.rs"]
mod world;

use couplet::fault::Fault;

/// Something that any bytes can be given to.
pub struct Target {
    /// Of its files.
    pub name: &'static str,
    /// Panics when a rule is broken.
    pub run: fn(&[u8]),
    /// What must be found in a server in which it is planted.
    pub fault: Fault,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    #[cfg(feature = "acme")]
    Target { name: "acme", run: acme::run, fault: Fault::TokenBelieved },
    Target { name: "config", run: config::run, fault: Fault::PlaceMiscounted },
    Target { name: "dns", run: dns::run, fault: Fault::PointerFollowed },
    Target { name: "engine", run: engine::run, fault: Fault::EndOutlived },
    Target { name: "frames", run: frames::run, fault: Fault::SplitForgotten },
    #[cfg(feature = "http")]
    Target { name: "http", run: http::run, fault: Fault::ChunkForgotten },
    Target { name: "jid", run: jid::run, fault: Fault::FoldedPlainly },
    #[cfg(feature = "import")]
    Target { name: "moving", run: moving::run, fault: Fault::TailIgnored },
    Target { name: "sasl", run: sasl::run, fault: Fault::StrangerTold },
    Target { name: "server", run: strangers::server, fault: Fault::DialbackBelieved },
    Target { name: "store", run: store::run, fault: Fault::NumberPadded },
    Target { name: "stranger", run: strangers::client, fault: Fault::EncodingTrusted },
    Target { name: "structure", run: structure::run, fault: Fault::AttributeTwice },
];

/// The bytes of a line of a corpus; none for a comment or an empty line.
pub fn input(line: &str) -> Option<Vec<u8>> {
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (mut bytes, mut rest) = (Vec::new(), line.bytes());
    while let Some(byte) = rest.next() {
        let value = match byte {
            b'\\' => match rest.next() {
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'x') => {
                    let digits: String = rest.by_ref().take(2).map(char::from).collect();
                    u8::from_str_radix(&digits, 16).expect("two digits behind \\x")
                }
                Some(other) => other,
                None => panic!("nothing behind the last \\ of {line}"),
            },
            plain => plain,
        };
        bytes.push(value);
    }
    Some(bytes)
}

/// The line of a corpus that stands for these bytes.
pub fn line(bytes: &[u8]) -> String {
    let mut text = bytes.escape_ascii().to_string().replace("\\'", "'").replace("\\\"", "\"");
    if text.starts_with('#') {
        text.replace_range(..1, "\\x23");
    }
    if text.ends_with(' ') {
        text.replace_range(text.len() - 1.., "\\x20");
    }
    text
}

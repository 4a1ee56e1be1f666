//! One connection: bytes on their way in both directions, and a tap that reads what the server says.

use super::tap::Tap;
use couplet::xml::Reader;
use std::collections::VecDeque;

pub use super::tap::Frame;

/// A frame on its way to the client.
#[derive(Clone, Debug)]
pub struct Flying {
    /// Bytes of the connection up to its end.
    pub end: u64,
    /// When the engine let it go.
    pub left: u64,
    pub frame: Frame,
}

/// A connection as the network sees it.
pub struct Link {
    /// None when the client has gone without a word.
    pub client: Option<usize>,
    /// What that client was logged in as when it went.
    pub session: Option<usize>,
    /// That was one with stream management.
    pub managed: bool,
    /// From the client, not yet taken by the engine.
    pub to_server: Vec<u8>,
    /// Bytes that the engine has handed out and the client has not taken.
    pub waiting: usize,
    taken: u64,
    handed: u64,
    flying: VecDeque<Flying>,
    /// The engine has closed it; what it wrote before still arrives.
    pub closed: bool,
    /// The engine wants nothing more at present.
    pub paused: bool,
    /// The client does not read.
    pub stalled: bool,
    /// The engine has asked for TLS, or the client has just connected with it.
    pub handshake: bool,
    tap: Tap,
}

impl Link {
    pub fn new(client: usize, direct_tls: bool) -> Self {
        Self {
            client: Some(client),
            session: None,
            managed: false,
            to_server: Vec::new(),
            waiting: 0,
            taken: 0,
            handed: 0,
            flying: VecDeque::new(),
            closed: false,
            paused: false,
            stalled: false,
            handshake: direct_tls,
            tap: Tap::new(),
        }
    }

    /// The engine writes. Returns what it says.
    pub fn write(&mut self, bytes: &[u8], step: u64, reader: &mut Reader) -> Result<Vec<Frame>, String> {
        let start = self.handed;
        self.handed += bytes.len() as u64;
        self.waiting += bytes.len();
        let found = self.tap.read(bytes, reader)?;
        for (end, frame) in &found {
            self.flying.push_back(Flying { end: start + *end as u64, left: step, frame: frame.clone() });
        }
        Ok(found.into_iter().map(|(_, frame)| frame).collect())
    }

    /// Messages that the client has not taken, by their ids.
    pub fn messages(&self) -> impl Iterator<Item = String> {
        let root = |f: &Flying| match &f.frame {
            Frame::Element(element) if element.root().name() == "message" => {
                element.root().attr("id").map(str::to_string)
            }
            _ => None,
        };
        self.flying.iter().filter_map(root)
    }

    /// The client takes some bytes. Returns what is complete with them.
    pub fn take(&mut self, bytes: usize) -> Vec<Flying> {
        self.waiting -= bytes;
        self.taken += bytes as u64;
        let whole = self.flying.iter().take_while(|f| f.end <= self.taken).count();
        self.flying.drain(..whole).collect()
    }
}

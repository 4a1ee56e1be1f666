//! A connection between two servers as the network sees it: bytes at each end and on their way, cuts, and sides that
//! never hear of them.

use couplet::core::io::ConnId;

/// Who is at an end of a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Server(usize, ConnId),
    /// Whoever says what he likes.
    Liar,
}

/// One of two ends.
#[derive(Debug)]
pub struct End {
    pub who: Who,
    /// Handed out by this side, not taken by its socket.
    pub out: Vec<u8>,
    /// Taken, on the way to the other side.
    pub pipe: Vec<u8>,
    /// This side holds the connection.
    pub open: bool,
    /// This side reads nothing at present.
    pub paused: bool,
    /// This side has asked for TLS.
    pub wants_tls: bool,
    /// This side is not told when the other is gone.
    pub is_deaf: bool,
}

#[derive(Debug)]
pub struct Wire {
    /// The side that has connected first.
    pub ends: [End; 2],
    /// Nothing gets through any more.
    pub cut: bool,
}

impl End {
    fn new(who: Who) -> Self {
        Self { who, out: Vec::new(), pipe: Vec::new(), open: true, paused: false, wants_tls: false, is_deaf: false }
    }
}

impl Wire {
    pub fn new(from: Who, to: Who) -> Self {
        Self { ends: [End::new(from), End::new(to)], cut: false }
    }

    /// The other side.
    pub fn other(side: usize) -> usize {
        1 - side
    }

    /// True when this side can hear that the other is gone, behind all that came before.
    pub fn ends_for(&self, side: usize) -> bool {
        let (own, other) = (&self.ends[side], &self.ends[Self::other(side)]);
        let rest = other.out.is_empty() && other.pipe.is_empty();
        own.open && !own.is_deaf && (self.cut || (!other.open && rest))
    }

    /// True when bytes can be handed to this side.
    pub fn delivers_to(&self, side: usize) -> bool {
        let (own, other) = (&self.ends[side], &self.ends[Self::other(side)]);
        own.open && !own.paused && !own.wants_tls && !other.pipe.is_empty()
    }

    /// True when both want TLS and nothing is before it.
    pub fn may_secure(&self) -> bool {
        let quiet = |end: &End| end.open && end.wants_tls && end.out.is_empty() && end.pipe.is_empty();
        !self.cut && self.ends.iter().all(quiet)
    }

    /// Nobody holds it.
    pub fn is_over(&self) -> bool {
        self.ends.iter().all(|end| !end.open)
    }
}

//! Bytes of one stream that have come in, cut into frames.

use crate::budget::allocated;
use crate::xml::{Frame, ScanError, ScanLimits, Scanner};
use zeroize::Zeroize;

/// A scanner with the bytes that it has not come to the end of. Idle, it holds no buffer.
pub(super) struct Framer {
    scanner: Scanner,
    /// Those before `at` are done with. Without capacity when there are none.
    input: Vec<u8>,
    at: usize,
}

/// Room that an incomplete frame may keep beyond twice its size.
const SPARE_BYTES: usize = 512;

impl Framer {
    pub fn new(limits: ScanLimits) -> Self {
        Self { scanner: Scanner::new(limits), input: Vec::new(), at: 0 }
    }

    pub fn feed(&mut self, data: &[u8]) {
        self.input.extend_from_slice(data);
    }

    /// The next frame, when it is complete.
    pub fn next(&mut self) -> Result<Option<Frame>, ScanError> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let frame = self.scanner.scan(rest)?;
        self.at += frame.map_or(0, |frame| frame.len);
        Ok(frame)
    }

    /// The bytes of a frame, until the next one is asked for.
    pub fn bytes(&self, frame: Frame) -> &[u8] {
        self.input.get(self.at.saturating_sub(frame.len)..self.at).unwrap_or_default()
    }

    /// Bytes behind the frame at hand.
    pub fn waiting_bytes(&self) -> usize {
        self.input.len() - self.at
    }

    /// The peer will send a new header.
    pub fn reset(&mut self) {
        self.scanner.reset();
    }

    pub fn set_limits(&mut self, limits: ScanLimits) {
        self.scanner.set_limits(limits);
    }

    /// Forgets the bytes that are done with, and the room they took.
    pub fn compact(&mut self) {
        self.input.drain(..self.at);
        self.at = 0;
        if self.input.is_empty() {
            self.input = Vec::new();
        } else if self.input.capacity() > 2 * self.input.len() + SPARE_BYTES {
            self.input.shrink_to_fit();
        }
    }

    /// Overwrites the bytes that are done with.
    pub fn wipe(&mut self) {
        self.input.get_mut(..self.at).unwrap_or_default().zeroize();
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.input.zeroize();
        self.input = Vec::new();
        self.at = 0;
    }

    pub fn heap_bytes(&self) -> usize {
        allocated(self.input.capacity())
    }
}

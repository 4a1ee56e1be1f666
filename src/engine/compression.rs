//! Streams of clients that are compressed (XEP-0138): a codec stands between the bytes of the connection and its
//! machine. What has come is inflated a piece at a time, each handled before the next comes out, and no faster than the
//! client may send.

use super::{ConnId, Engine, LOG};
use crate::budget::State;
use crate::core::flight::Item;
use crate::engine::pace::Pause;
use crate::stream::compression::{Broken, Codec};
use crate::stream::{StreamCx, StreamError};

/// What a codec holds once both directions have begun.
const CODEC_BYTES: usize = 50_000;

impl Engine {
    /// A client wants its stream to be compressed. It may be, while memory is not short and nothing waits for it that
    /// would leave later, compressed.
    pub(super) fn compress(&mut self, conn: ConnId) {
        let settings = self.core.settings.clone();
        let has_room = self.budget.state() == State::Normal && self.budget.spare_bytes() > CODEC_BYTES;
        let Some(c) = self.conns.get_mut(conn.0) else { return };
        let is_quiet = c.out.is_empty() && c.waiting_bytes < settings.limits.out_window_bytes as usize;
        let begins = has_room && is_quiet;
        c.stream.compressed(begins, &mut stream_cx!(self, settings));
        let answer = c.stream.take_output();
        c.out.push(Item::Raw(answer));
        if begins {
            self.flush(conn);
            self.codecs.insert(conn, Box::new(Codec::new()));
        }
    }

    /// Takes what has come on a connection, if it is compressed.
    pub(super) fn take_compressed(&mut self, conn: ConnId, data: &[u8]) -> bool {
        let Some(codec) = self.codecs.get_mut(&conn) else { return false };
        if self.conns.get(conn.0).is_some_and(|c| !c.ends) {
            codec.feed(data);
            self.tick_bytes += data.len();
        }
        true
    }

    /// Gives the next piece of what has come to the machine of a connection, if it is compressed and may be heard. True
    /// when there was one.
    pub(super) fn inflate(&mut self, conn: ConnId) -> bool {
        let Some(codec) = self.codecs.get_mut(&conn) else { return false };
        let Some(c) = self.conns.get_mut(conn.0).filter(|c| !c.ends && !c.stream.is_asking()) else { return false };
        if c.pace.has(Pause::Pace) || c.pace.has(Pause::Room) {
            return false;
        }
        match codec.next(&self.core.settings.limits) {
            Ok(None) => false,
            Ok(Some(piece)) => {
                let len = piece.len();
                c.stream.feed(piece);
                self.tick_bytes += len;
                self.spend(conn, len);
                true
            }
            Err(Broken::TooMuch) => {
                self.fail(conn, StreamError::PolicyViolation, Some("more comes out of these bytes than may"));
                false
            }
            Err(Broken::Corrupt) => {
                log::debug!(target: LOG, "{conn:?} sends what is not compressed");
                c.stream.processing_failed(&mut *self.core.entropy);
                let output = c.stream.take_output();
                c.out.push(Item::Raw(output));
                self.count_error(conn, StreamError::UndefinedCondition);
                self.begin_end(conn);
                false
            }
        }
    }

    /// A connection is read again: what has come and was not inflated has its turn.
    pub(super) fn inflate_later(&mut self, conn: ConnId) {
        if self.codecs.get(&conn).is_some_and(|codec| codec.has_more()) {
            self.again.push(conn);
        }
    }

    /// What leaves for a connection, compressed if it is, and what its codec holds.
    pub(super) fn deflate(&mut self, conn: ConnId, bytes: Vec<u8>) -> (Vec<u8>, usize) {
        match self.codecs.get_mut(&conn) {
            Some(codec) if !bytes.is_empty() => (codec.deflate(&bytes), codec.held_bytes()),
            codec => (bytes, codec.map_or(0, |codec| codec.held_bytes())),
        }
    }

    /// How much of what was written waits, as far as the queue of a connection may know: of compressed bytes nobody
    /// knows which stanzas they are.
    pub(super) fn waiting_of(&self, conn: ConnId, bytes: usize) -> usize {
        if bytes > 0 && self.codecs.contains_key(&conn) { usize::MAX } else { bytes }
    }
}

//! One connection of HTTP/1.1: bytes in, one request at a time out, its answer back in.

use super::answer::{Answer, Content, Status};
use super::body::{Body, Piece};
use super::head::{self, HEAD_BYTES_MAX, Head, Length};
use crate::budget::allocated;

/// What has come in.
#[derive(Debug)]
pub enum Event {
    /// A request: to be answered at once, or its content asked for with [`Wire::take_content`].
    Request(Box<Head>),
    /// A piece of the content.
    Content(Vec<u8>),
    /// The content is complete: to be answered.
    End,
    /// What came is refused: to be answered with that, and the connection is at its end.
    Refused(Status),
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The client's, and it has not begun with a request.
    Idle,
    /// The client's, in the middle of a head.
    Head,
    /// The client's, in the middle of a content.
    Content,
    /// Ours.
    Answer,
    /// Nobody's: the connection ends behind what is written.
    Over,
}

/// The request at hand.
#[derive(Clone, Copy, Debug)]
struct Asked {
    length: Length,
    expects: bool,
    head_only: bool,
    keeps: bool,
}

#[derive(Debug)]
enum State {
    Head,
    /// Whoever handles the request has not said whether its content is wanted.
    Asked(Asked),
    Content(Body, Asked),
    /// The content is complete.
    Answering(Asked),
    /// So much of an answer is still to come.
    Streaming(u64, Asked),
    Over,
}

/// A connection. Idle, it holds no buffer.
#[derive(Debug)]
pub struct Wire {
    input: Vec<u8>,
    /// What of it was looked at without finding the end of a head.
    looked: usize,
    state: State,
}

impl Default for Wire {
    fn default() -> Self {
        Self { input: Vec::new(), looked: 0, state: State::Head }
    }
}

impl Wire {
    /// Takes bytes of the client.
    pub fn feed(&mut self, bytes: Vec<u8>) {
        if matches!(self.state, State::Over) {
            return;
        }
        if self.input.is_empty() {
            self.input = bytes;
        } else {
            self.input.extend_from_slice(&bytes);
        }
    }

    /// The next thing that has come in; none while more must come, or while a request waits for its answer.
    pub fn poll(&mut self) -> Option<Event> {
        let result = match &mut self.state {
            State::Head => self.next_head(),
            State::Content(body, asked) => match body.next(&self.input) {
                Ok(Piece::Bytes(skip, len)) => {
                    // What came last is most often all content: that is not copied.
                    let rest = self.input.split_off((skip + len).min(self.input.len()));
                    let mut content = std::mem::replace(&mut self.input, rest);
                    content.drain(..skip);
                    Ok(Some(Event::Content(content)))
                }
                Ok(Piece::Wait(skip)) => {
                    self.drop_input(skip);
                    Ok(None)
                }
                Ok(Piece::End(skip)) => {
                    self.state = State::Answering(*asked);
                    self.drop_input(skip);
                    Ok(Some(Event::End))
                }
                Err(status) => Err(status),
            },
            State::Asked(_) | State::Answering(_) | State::Streaming(..) | State::Over => Ok(None),
        };
        result.unwrap_or_else(|status| {
            self.give_up();
            Some(Event::Refused(status))
        })
    }

    fn next_head(&mut self) -> Result<Option<Event>, Status> {
        // A head can only be complete, or wrong, by a line's end: bytes that drip are not read again each time.
        let new = self.input.get(self.looked..).unwrap_or_default();
        if memchr::memchr(b'\n', new).is_none() && self.input.len() <= head::LINE_BYTES_MAX {
            self.looked = self.input.len();
            return Ok(None);
        }
        let Some((head, len)) = head::read(&self.input)? else {
            self.looked = self.input.len();
            return Ok(None);
        };
        self.drop_input(len);
        self.state = State::Asked(Asked {
            length: head.length,
            expects: head.expects,
            head_only: head.method == head::Method::Head,
            keeps: head.keeps,
        });
        Ok(Some(Event::Request(Box::new(head))))
    }

    fn drop_input(&mut self, len: usize) {
        self.looked = 0;
        if len >= self.input.len() {
            self.input = Vec::new();
        } else {
            self.input.drain(..len);
        }
    }

    /// The content of the request at hand is wanted, up to that many bytes. A client that waits for a word gets it.
    ///
    /// # Errors
    /// 413 when it is longer.
    pub fn take_content(&mut self, bytes_max: u64, out: &mut Vec<u8>) -> Result<(), Status> {
        if let State::Asked(asked) = self.state {
            let body = Body::new(asked.length, bytes_max)?;
            if asked.expects && asked.length != Length::Known(0) && self.input.is_empty() {
                out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            self.state = State::Content(body, asked);
        }
        Ok(())
    }

    /// Answers the request at hand.
    pub fn answer(&mut self, answer: &Answer, wall_ms: i64, out: &mut Vec<u8>) {
        let asked = match self.state {
            // Without content there is nothing to be left over.
            State::Asked(asked) => Asked { keeps: asked.keeps && asked.length == Length::Known(0), ..asked },
            // What is still to come of it would be taken for a request.
            State::Content(_, asked) => Asked { keeps: false, ..asked },
            State::Answering(asked) => asked,
            State::Head | State::Streaming(..) | State::Over => return,
        };
        answer.write(wall_ms, asked.head_only, asked.keeps, out);
        match answer.content {
            Content::Later(bytes) if bytes > 0 && !asked.head_only => self.state = State::Streaming(bytes, asked),
            _ => self.finish(asked),
        }
    }

    /// Passes on a piece of the answer that [`Content::Later`] has announced; nothing beyond that leaves.
    pub fn stream(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let State::Streaming(left, asked) = self.state else { return };
        let len = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        out.extend_from_slice(bytes.get(..len).unwrap_or_default());
        match left - len as u64 {
            0 => self.finish(asked),
            left => self.state = State::Streaming(left, asked),
        }
    }

    fn finish(&mut self, asked: Asked) {
        self.state = if asked.keeps { State::Head } else { State::Over };
        if !asked.keeps {
            self.input = Vec::new();
        }
    }

    /// The request has not come in time: to be answered with that, and the connection is at its end.
    pub fn give_up(&mut self) {
        self.input = Vec::new();
        let asked = Asked { length: Length::Known(0), expects: false, head_only: false, keeps: false };
        self.state = State::Answering(asked);
    }

    /// There will be no further request: the answer at hand, if there is one, is the last.
    pub fn end(&mut self) {
        match &mut self.state {
            State::Head | State::Over => self.state = State::Over,
            State::Asked(asked) | State::Content(_, asked) | State::Answering(asked) | State::Streaming(_, asked) => {
                asked.keeps = false;
            }
        }
    }

    /// Another protocol is spoken behind the answer to the request at hand: what has come of it.
    pub fn upgrade(&mut self) -> Vec<u8> {
        self.state = State::Over;
        std::mem::take(&mut self.input)
    }

    /// Whose turn it is.
    pub fn turn(&self) -> Turn {
        match self.state {
            State::Head if self.input.is_empty() => Turn::Idle,
            State::Head => Turn::Head,
            State::Content(..) => Turn::Content,
            State::Asked(_) | State::Answering(_) | State::Streaming(..) => Turn::Answer,
            State::Over => Turn::Over,
        }
    }

    /// True when more has come behind the request that waits for its answer.
    pub fn has_more(&self) -> bool {
        self.turn() == Turn::Answer && !self.input.is_empty()
    }

    /// True when nothing should be read from the client for now: as much as a head waits for its turn.
    pub fn is_full(&self) -> bool {
        self.turn() == Turn::Answer && self.input.len() >= HEAD_BYTES_MAX
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        allocated(self.input.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(wire: &mut Wire, text: &str) -> String {
        let mut out = Vec::new();
        wire.answer(&Answer::text(Status::Ok, "text/plain", text), 0, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn path(event: Option<Event>) -> String {
        match event {
            Some(Event::Request(head)) => head.path,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_that_come_together_are_answered_in_their_order() {
        let mut wire = Wire::default();
        assert_eq!(wire.turn(), Turn::Idle);
        wire.feed(
            b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /3".to_vec(),
        );
        assert_eq!(path(wire.poll()), "/1");
        assert!(wire.poll().is_none() && wire.has_more());
        assert!(!answer(&mut wire, "x").contains("close"));
        assert_eq!(path(wire.poll()), "/2");
        assert!(answer(&mut wire, "x").contains("Connection: close"));
        assert!(wire.poll().is_none());
        assert_eq!((wire.turn(), wire.heap_bytes()), (Turn::Over, 0));
    }

    #[test]
    fn contents_are_passed_on_when_they_are_wanted() {
        let mut wire = Wire::default();
        wire.feed(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n".to_vec());
        assert_eq!(path(wire.poll()), "/");
        assert_eq!(wire.turn(), Turn::Answer);
        let mut out = Vec::new();
        wire.take_content(3, &mut out).unwrap();
        assert_eq!(out, b"HTTP/1.1 100 Continue\r\n\r\n");
        assert!(wire.poll().is_none() && wire.turn() == Turn::Content);
        wire.feed(b"abcGET".to_vec());
        assert!(matches!(wire.poll(), Some(Event::Content(piece)) if piece == b"abc"));
        assert!(matches!(wire.poll(), Some(Event::End)));
        assert!(!answer(&mut wire, "").contains("close"));
        assert_eq!(wire.turn(), Turn::Head);
    }

    #[test]
    fn a_content_that_nobody_reads_ends_the_connection() {
        let mut wire = Wire::default();
        wire.feed(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\nGET /smuggled HTTP/1.1\r\n".to_vec());
        assert_eq!(path(wire.poll()), "/");
        assert_eq!(wire.take_content(3, &mut Vec::new()), Err(Status::ContentTooLarge));
        assert!(answer(&mut wire, "").contains("Connection: close"));
        assert!(wire.poll().is_none() && wire.turn() == Turn::Over);
    }

    #[test]
    fn what_is_wrong_is_refused_and_ends_the_connection() {
        let mut wire = Wire::default();
        wire.feed(
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET"
                .to_vec(),
        );
        assert!(matches!(wire.poll(), Some(Event::Refused(Status::BadRequest))));
        assert!(answer(&mut wire, "").contains("Connection: close"));
        wire.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec());
        assert!(wire.poll().is_none());
    }

    #[test]
    fn an_answer_that_comes_in_pieces_is_as_long_as_it_said() {
        let mut wire = Wire::default();
        wire.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec());
        wire.poll();
        let mut out = Vec::new();
        wire.answer(&Answer { content: Content::Later(5), ..Answer::empty(Status::Ok) }, 0, &mut out);
        out.clear();
        wire.stream(b"abc", &mut out);
        assert_eq!(wire.turn(), Turn::Answer);
        wire.stream(b"defg", &mut out);
        assert_eq!((out.as_slice(), wire.turn()), (&b"abcde"[..], Turn::Idle));
    }
}

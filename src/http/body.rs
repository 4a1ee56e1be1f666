//! The content of a request: bytes that are counted, or chunks (RFC 9112 section 7.1), without their frames.

use super::answer::Status;
use super::head::Length;
use crate::fault::{Fault, armed};

/// Bytes of the line before a chunk, extensions among them, which mean nothing here.
const CHUNK_LINE_BYTES_MAX: usize = 256;
/// Bytes of all fields behind the last chunk, which are thrown away.
const TRAILER_BYTES_MAX: usize = 4096;

/// Cuts the content of one request out of what follows its head.
#[derive(Debug)]
pub struct Body {
    state: State,
    /// Bytes that may still come.
    room: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes.
    Counted(u64),
    /// The line before a chunk.
    Size,
    /// In a chunk, of which so much is to come.
    Chunk(u64),
    /// Behind a chunk.
    ChunkEnd,
    /// Fields behind the last chunk, of which there may be so many bytes.
    Trailer(usize),
    Done,
}

/// What stands at the start of the bytes at hand.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// So many bytes of frames, then so many of content.
    Bytes(usize, usize),
    /// So many bytes of frames, and then more must come.
    Wait(usize),
    /// So many bytes of frames, and the content is at its end.
    End(usize),
}

impl Body {
    /// For a request with that length, of which at most `bytes_max` are taken.
    ///
    /// # Errors
    /// 413 when it says that it is longer.
    pub fn new(length: Length, bytes_max: u64) -> Result<Self, Status> {
        match length {
            Length::Known(bytes) if bytes > bytes_max => Err(Status::ContentTooLarge),
            Length::Known(bytes) => Ok(Self { state: State::Counted(bytes), room: bytes_max }),
            Length::Chunked => Ok(Self { state: State::Size, room: bytes_max }),
        }
    }

    /// Looks at what follows. What it counts is not shown to it again.
    ///
    /// # Errors
    /// The status to answer with; the connection is of no use then.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Piece, Status> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            match self.state {
                State::Done | State::Counted(0) => {
                    self.state = State::Done;
                    return Ok(Piece::End(at));
                }
                State::Counted(left) | State::Chunk(left) if left > 0 => {
                    let len = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    if len == 0 {
                        return Ok(Piece::Wait(at));
                    }
                    let left = if armed(Fault::ChunkForgotten) { 0 } else { left - len as u64 };
                    self.state = match self.state {
                        State::Counted(_) => State::Counted(left),
                        _ => State::Chunk(left),
                    };
                    return Ok(Piece::Bytes(at, len));
                }
                State::Counted(_) | State::Chunk(_) => self.state = State::ChunkEnd,
                State::ChunkEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        at += 2;
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(Piece::Wait(at)),
                    _ => return Err(Status::BadRequest),
                },
                State::Size => match line(rest, CHUNK_LINE_BYTES_MAX)? {
                    None => return Ok(Piece::Wait(at)),
                    Some(line) => {
                        at += line.len() + 2;
                        self.state = match size_of_chunk(line)? {
                            0 => State::Trailer(TRAILER_BYTES_MAX),
                            size => {
                                self.room = self.room.checked_sub(size).ok_or(Status::ContentTooLarge)?;
                                State::Chunk(size)
                            }
                        };
                    }
                },
                State::Trailer(room) => match line(rest, room)? {
                    None => return Ok(Piece::Wait(at)),
                    Some(line) => {
                        at += line.len() + 2;
                        self.state = match line {
                            [] => State::Done,
                            line => State::Trailer(room.saturating_sub(line.len())),
                        };
                    }
                },
            }
        }
    }
}

/// The line at the start, without its end; none while it is not complete.
fn line(bytes: &[u8], bytes_max: usize) -> Result<Option<&[u8]>, Status> {
    match memchr::memchr2(b'\n', b'\r', bytes) {
        Some(at) if at > bytes_max => Err(Status::BadRequest),
        Some(at) => match bytes.get(at..).unwrap_or_default() {
            [b'\r', b'\n', ..] => Ok(bytes.get(..at)),
            [b'\r'] => Ok(None),
            _ => Err(Status::BadRequest),
        },
        None if bytes.len() > bytes_max => Err(Status::BadRequest),
        None => Ok(None),
    }
}

/// The number in hexadecimal digits before the extensions, if there are any.
fn size_of_chunk(line: &[u8]) -> Result<u64, Status> {
    let (digits, extensions) = match memchr::memchr(b';', line) {
        Some(at) => line.split_at(at),
        None => (line, &[][..]),
    };
    let is_text = |b: &u8| matches!(b, b'\t' | b' '..=b'~' | 0x80..);
    if digits.is_empty() || digits.len() > 8 || !extensions.iter().all(is_text) {
        return Err(Status::BadRequest);
    }
    digits.iter().try_fold(0, |size, digit| {
        let digit = char::from(*digit).to_digit(16).ok_or(Status::BadRequest)?;
        Ok(size << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` in pieces of that size. The content, and what is left behind it.
    fn cut(length: Length, max: u64, text: &str, step: usize) -> Result<(String, String), Status> {
        let mut body = Body::new(length, max)?;
        let (mut input, mut content) = (Vec::new(), Vec::new());
        let mut source = text.as_bytes().chunks(step);
        loop {
            match body.next(&input)? {
                Piece::Bytes(skip, len) => {
                    content.extend(&input[skip..skip + len]);
                    input.drain(..skip + len);
                }
                Piece::Wait(skip) => {
                    input.drain(..skip);
                    match source.next() {
                        Some(more) => input.extend(more),
                        None => return Ok((String::from_utf8(content).unwrap(), "...".to_owned())),
                    }
                }
                Piece::End(skip) => {
                    input.drain(..skip);
                    input.extend(source.flatten());
                    return Ok((String::from_utf8(content).unwrap(), String::from_utf8(input).unwrap()));
                }
            }
        }
    }

    #[test]
    fn contents_end_where_they_say() {
        let is = |content: &str, rest: &str| Ok((content.to_owned(), rest.to_owned()));
        for step in 1..20 {
            assert_eq!(cut(Length::Known(0), 9, "GET", step), is("", "GET"));
            assert_eq!(cut(Length::Known(3), 9, "abcGET", step), is("abc", "GET"));
            assert_eq!(cut(Length::Known(3), 9, "ab", step), is("ab", "..."));
            let chunks = "3\r\nabc\r\n0A ;x\r\n";
            assert_eq!(cut(Length::Chunked, 99, chunks, step), Err(Status::BadRequest), "a blank behind the size");
            let chunks = "3\r\nabc\r\n02;x=\"y\"\r\nde\r\n0\r\nA: b\r\n\r\nGET";
            assert_eq!(cut(Length::Chunked, 9, chunks, step), is("abcde", "GET"));
            assert_eq!(cut(Length::Chunked, 9, "0\r\n\r\n", step), is("", ""));
        }
    }

    #[test]
    fn games_with_chunks_are_refused() {
        for wrong in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "0x3\r\n",
            "3\nabc\r\n",
            "3\r\nabcd\r\n",
            "3\r\nabc\n",
            "3\rabc",
            "+3\r\n",
            "123456789\r\n",
            "3;a\nb\r\n",
            "3;\u{1}\r\n",
            "0\r\nA: b\n\r\n",
            " 3\r\n",
        ] {
            assert_eq!(cut(Length::Chunked, 99, wrong, 99), Err(Status::BadRequest), "{wrong:?}");
        }
        let long = format!("3;{}", "a".repeat(CHUNK_LINE_BYTES_MAX));
        assert_eq!(cut(Length::Chunked, 99, &long, 99), Err(Status::BadRequest));
        let trailer = format!("0\r\n{}", "A: b\r\n".repeat(TRAILER_BYTES_MAX));
        assert_eq!(cut(Length::Chunked, 99, &trailer, 99), Err(Status::BadRequest));
    }

    #[test]
    fn too_much_is_refused_before_it_comes() {
        assert_eq!(cut(Length::Known(10), 9, "", 1), Err(Status::ContentTooLarge));
        assert_eq!(cut(Length::Chunked, 9, "5\r\nabcde\r\n5\r\n", 99), Err(Status::ContentTooLarge));
        assert_eq!(cut(Length::Chunked, 9, "ffffffff\r\n", 99), Err(Status::ContentTooLarge));
    }
}

//! Finds the first-level elements of a stream in its bytes, without reading what is in them.

use memchr::{memchr, memchr3};
use std::ops::Range;

/// How far a stream has been looked at. Positions count in the buffer that holds what is not used yet.
#[derive(Default)]
pub struct Framer {
    at: usize,
    start: usize,
    depth: u32,
}

impl Framer {
    /// The next whole element, or the tag that ends the stream; none when more bytes are needed.
    pub fn next(&mut self, buffer: &[u8]) -> Option<Range<usize>> {
        loop {
            let open = self.at + memchr(b'<', buffer.get(self.at..)?)?;
            if self.depth == 0 {
                self.start = open;
            }
            self.at = open;
            let close = end_of_tag(buffer, open)?;
            self.at = close + 1;
            let tag = buffer.get(open..=close)?;
            match tag {
                [b'<', b'?', ..] => {}
                tag if tag.starts_with(b"<stream:stream") => self.depth = 0,
                tag if tag.starts_with(b"</stream:stream") => return Some(open..self.at),
                [b'<', b'/', ..] => self.depth = self.depth.saturating_sub(1),
                [.., b'/', b'>'] => {}
                _ => {
                    self.depth += 1;
                    continue;
                }
            }
            if self.depth == 0 && !tag.starts_with(b"<?") && !tag.starts_with(b"<stream:stream") {
                return Some(self.start..self.at);
            }
        }
    }

    /// Forgets what has been found; says how many bytes in front of the buffer are done with.
    pub fn used(&mut self) -> usize {
        let used = if self.depth == 0 { self.at } else { self.start };
        self.at -= used;
        self.start = 0;
        used
    }
}

/// Where the tag ends that begins at `from`: a `>` that is not in an attribute's value.
fn end_of_tag(buffer: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr3(b'>', b'\'', b'"', buffer.get(at..)?)?;
        match buffer[at] {
            b'>' => return Some(at),
            quote => at += 1 + memchr(quote, buffer.get(at + 1..)?)? + 1,
        }
    }
}

/// Whether `needle` is in `text`.
pub fn has(text: &[u8], needle: &str) -> bool {
    memchr::memmem::find(text, needle.as_bytes()).is_some()
}

/// What stands between the first `before` and the next `after`.
pub fn between<'a>(text: &'a [u8], before: &str, after: &str) -> Option<&'a str> {
    let start = memchr::memmem::find(text, before.as_bytes())? + before.len();
    let rest = text.get(start..)?;
    let end = memchr::memmem::find(rest, after.as_bytes())?;
    std::str::from_utf8(&rest[..end]).ok()
}

/// The value of an attribute of the first tag, with either quote.
pub fn attribute<'a>(stanza: &'a [u8], name: &str) -> Option<&'a str> {
    let tag = &stanza[..=end_of_tag(stanza, 0)?];
    between(tag, &format!(" {name}='"), "'").or_else(|| between(tag, &format!(" {name}=\""), "\""))
}

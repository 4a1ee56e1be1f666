//! Lists that are appended to: `item({ ... });` one behind the other. Files of any length go through a buffer of one
//! item.

use super::lexer::{Lexer, Wrong};
use super::value::Value;
use std::fmt;
use std::io::{self, Read};

/// Bytes of one item, as it is written there.
const ITEM_BYTES_MAX: usize = 1 << 22;
/// Bytes that are read at once.
const STEP_BYTES: usize = 1 << 16;

/// Why an item was not read.
#[derive(Debug)]
pub enum ListError {
    /// The file cannot be read.
    Io(io::Error),
    /// The item is not what it should be.
    Wrong(Wrong),
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "it cannot be read: {error}"),
            Self::Wrong(wrong) => wrong.fmt(f),
        }
    }
}

impl std::error::Error for ListError {}

impl From<io::Error> for ListError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The items of a list, one after the other.
#[derive(Debug)]
pub struct Items<R> {
    from: R,
    buffer: Vec<u8>,
    /// Where the next item starts in the buffer.
    start: usize,
    /// How far it was looked through, and in what.
    seen: usize,
    inside: Inside,
    depth: u32,
    line: u32,
    at_end: bool,
    over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    Code,
    Text(u8),
    Escape(u8),
}

impl<R: Read> Items<R> {
    /// The items of a file.
    pub fn new(from: R) -> Self {
        let (buffer, inside) = (Vec::new(), Inside::Code);
        Self { from, buffer, start: 0, seen: 0, inside, depth: 0, line: 1, at_end: false, over: false }
    }

    /// The next item; none at the end. Behind an error of one item the next ones can still be there.
    ///
    /// # Errors
    /// When the file cannot be read, ends in the middle of an item, or holds something else.
    #[expect(clippy::should_implement_trait, reason = "the type of what it gives is clearer without an Option in it")]
    pub fn next(&mut self) -> Result<Option<Value>, ListError> {
        while !self.over {
            if let Some(end) = self.scan() {
                let item = self.buffer.get(self.start..end).unwrap_or_default();
                let parsed = item_of(item).map_err(|wrong| Wrong { line: self.line + wrong.line - 1, ..wrong });
                self.line += u32::try_from(item.iter().filter(|b| **b == b'\n').count()).unwrap_or(0);
                (self.start, self.seen, self.depth) = (end, end, 0);
                return parsed.map_err(ListError::Wrong);
            }
            if self.at_end {
                self.over = true;
                let rest = self.buffer.get(self.start..).unwrap_or_default();
                // What could not be written was blanked out.
                return match rest.iter().all(u8::is_ascii_whitespace) {
                    true => Ok(None),
                    false => Err(self.wrong("the file ends in the middle of an item")),
                };
            }
            self.fill()?;
        }
        Ok(None)
    }

    fn wrong(&self, what: &'static str) -> ListError {
        ListError::Wrong(Wrong { line: self.line, what })
    }

    fn fill(&mut self) -> Result<(), ListError> {
        self.buffer.drain(..self.start);
        self.seen -= self.start;
        self.start = 0;
        if self.buffer.len() > ITEM_BYTES_MAX {
            self.over = true;
            return Err(self.wrong("an item is too long"));
        }
        let len = self.buffer.len();
        self.buffer.resize(len + STEP_BYTES, 0);
        let got = self.from.read(self.buffer.get_mut(len..).unwrap_or_default());
        self.buffer.truncate(len + got.as_ref().copied().unwrap_or(0));
        self.at_end = matches!(got, Ok(0));
        match got {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => {
                self.over = true;
                Err(error.into())
            }
            Ok(_) => Ok(()),
        }
    }

    /// Looks for the `)` that ends an item, and the `;` behind it.
    fn scan(&mut self) -> Option<usize> {
        while let Some(&byte) = self.buffer.get(self.seen) {
            self.seen += 1;
            match (self.inside, byte) {
                (Inside::Code, b'"' | b'\'') => self.inside = Inside::Text(byte),
                (Inside::Code, b'(') => self.depth += 1,
                (Inside::Code, b')') => self.depth = self.depth.saturating_sub(1),
                (Inside::Code, b';') if self.depth == 0 => return Some(self.seen),
                (Inside::Text(quote), b'\\') => self.inside = Inside::Escape(quote),
                (Inside::Text(quote), byte) if byte == quote => self.inside = Inside::Code,
                (Inside::Escape(quote), _) => self.inside = Inside::Text(quote),
                _ => {}
            }
        }
        None
    }
}

fn item_of(bytes: &[u8]) -> Result<Option<Value>, Wrong> {
    let mut lexer = Lexer::new(bytes);
    if !lexer.take_name("item")? || !lexer.take("(")? {
        return Err(lexer.wrong("this is no item of a list"));
    }
    let value = lexer.data_value()?;
    if !lexer.take(")")? || !lexer.take(";")? || lexer.peek()?.is_some() {
        return Err(lexer.wrong("an item has no end"));
    }
    Ok(Some(value))
}

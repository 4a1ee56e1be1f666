//! Words and signs of Lua (its manual, section 3.1).

use std::fmt;

/// Bytes of one text.
const TEXT_BYTES_MAX: usize = 1 << 22;

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Counts from 1.
    pub line: u32,
    /// For people.
    pub what: &'static str,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for Wrong {}

/// A word or a sign.
#[derive(Clone, Debug, PartialEq)]
pub enum Token<'a> {
    /// A name, or a word of the language.
    Name(&'a str),
    /// A text, which may hold any bytes.
    Text(Vec<u8>),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A sign, such as `{` or `..`.
    Sign(&'static str),
}

/// Longer ones first.
const SIGNS: [&str; 34] = [
    "...", "..", "==", "~=", "<=", ">=", "<<", ">>", "//", "::", "+", "-", "*", "/", "%", "^", "#", "&", "~", "|", "<",
    ">", "=", "(", ")", "{", "}", "[", "]", ";", ":", ",", ".", "!",
];

/// Reads word by word. Cheap to clone, to look further ahead.
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u32,
}

impl<'a> Lexer<'a> {
    /// At the start of a file.
    pub fn new(bytes: &'a [u8]) -> Self {
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        let mut lexer = Self { bytes, at: 0, line: 1 };
        if bytes.starts_with(b"#") {
            lexer.skip_line();
        }
        lexer
    }

    /// The line of what comes next, once the white space before it is skipped.
    pub fn line(&mut self) -> u32 {
        // What is wrong there shows when it is read.
        let _ = self.skip_blanks();
        self.line
    }

    /// Where it is, in bytes.
    pub fn at(&self) -> usize {
        self.at
    }

    /// What was read since `from`, on one line and not too long.
    pub fn excerpt(&self, from: usize) -> String {
        const CHARS_MAX: usize = 60;
        let text = String::from_utf8_lossy(self.bytes.get(from..self.at).unwrap_or_default());
        let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some((end, _)) = words.char_indices().nth(CHARS_MAX) {
            words.truncate(end);
            words.push_str("...");
        }
        words.retain(|c| !c.is_control());
        words
    }

    /// An error in the present line.
    pub fn wrong(&self, what: &'static str) -> Wrong {
        Wrong { line: self.line, what }
    }

    /// The next word or sign, without taking it.
    ///
    /// # Errors
    /// As [`Lexer::token`].
    pub fn peek(&mut self) -> Result<Option<Token<'a>>, Wrong> {
        self.skip_blanks()?;
        self.clone().token()
    }

    /// Takes the sign, if it is next.
    ///
    /// # Errors
    /// As [`Lexer::token`].
    pub fn take(&mut self, sign: &str) -> Result<bool, Wrong> {
        self.take_if(|token| matches!(token, Token::Sign(s) if *s == sign))
    }

    /// Takes the name, if it is next.
    ///
    /// # Errors
    /// As [`Lexer::token`].
    pub fn take_name(&mut self, name: &str) -> Result<bool, Wrong> {
        self.take_if(|token| matches!(token, Token::Name(n) if *n == name))
    }

    fn take_if(&mut self, is: impl Fn(&Token<'a>) -> bool) -> Result<bool, Wrong> {
        let mut ahead = self.clone();
        let found = ahead.token()?.is_some_and(|token| is(&token));
        if found {
            *self = ahead;
        }
        Ok(found)
    }

    /// The next word or sign; none at the end.
    ///
    /// # Errors
    /// Something that is no Lua, or ends too early, or is too long.
    pub fn token(&mut self) -> Result<Option<Token<'a>>, Wrong> {
        self.skip_blanks()?;
        let Some(&first) = self.rest().first() else { return Ok(None) };
        if first.is_ascii_alphabetic() || first == b'_' {
            return Ok(Some(Token::Name(self.word(|b| b.is_ascii_alphanumeric() || b == b'_'))));
        }
        if first.is_ascii_digit() || (first == b'.' && self.rest().get(1).is_some_and(u8::is_ascii_digit)) {
            return self.number().map(Some);
        }
        if first == b'"' || first == b'\'' {
            return self.quoted(first).map(|text| Some(Token::Text(text)));
        }
        if let Some(level) = self.long_bracket() {
            return self.long(level).map(|text| Some(Token::Text(text.to_vec())));
        }
        match SIGNS.iter().find(|sign| self.rest().starts_with(sign.as_bytes())) {
            Some(sign) => {
                self.at += sign.len();
                Ok(Some(Token::Sign(sign)))
            }
            None => Err(self.wrong("this is no Lua")),
        }
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn skip_line(&mut self) {
        self.at += self.rest().iter().position(|b| *b == b'\n').unwrap_or(self.rest().len());
    }

    fn skip_blanks(&mut self) -> Result<(), Wrong> {
        while let Some(&byte) = self.rest().first() {
            if byte == b'\n' {
                self.line += 1;
            }
            if byte.is_ascii_whitespace() || byte == 0x0b {
                self.at += 1;
            } else if self.rest().starts_with(b"--") {
                self.at += 2;
                match self.long_bracket() {
                    Some(level) => _ = self.long(level)?,
                    None => self.skip_line(),
                }
            } else {
                break;
            }
        }
        Ok(())
    }

    fn word(&mut self, is: impl Fn(u8) -> bool) -> &'a str {
        let len = self.rest().iter().position(|b| !is(*b)).unwrap_or(self.rest().len());
        let word = self.rest().get(..len).unwrap_or_default();
        self.at += len;
        std::str::from_utf8(word).unwrap_or_default()
    }

    fn number(&mut self) -> Result<Token<'a>, Wrong> {
        if matches!(self.rest(), [b'0', b'x' | b'X', ..]) {
            self.at += 2;
            let digits = self.word(|b| b.is_ascii_alphanumeric() || b == b'.');
            return i64::from_str_radix(digits, 16).map(Token::Int).map_err(|_| self.wrong("this is no number"));
        }
        let from = self.at;
        self.word(|b| b.is_ascii_digit() || b == b'.');
        if matches!(self.rest(), [b'e' | b'E', ..]) {
            self.at += 1;
            if matches!(self.rest(), [b'+' | b'-', ..]) {
                self.at += 1;
            }
            self.word(|b| b.is_ascii_digit());
        }
        // What hangs on it belongs to it, and makes it wrong.
        self.word(|b| b.is_ascii_alphanumeric() || b == b'_');
        let digits = self.bytes.get(from..self.at).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or_default();
        match (digits.parse(), digits.parse()) {
            (Ok(int), _) => Ok(Token::Int(int)),
            (_, Ok(float)) => Ok(Token::Float(float)),
            _ => Err(self.wrong("this is no number")),
        }
    }

    /// The level of a long bracket that starts here.
    fn long_bracket(&self) -> Option<usize> {
        let rest = self.rest().strip_prefix(b"[")?;
        let level = rest.iter().position(|b| *b != b'=')?;
        (rest.get(level) == Some(&b'[')).then_some(level)
    }

    /// Takes a long bracket, and gives what is in it.
    fn long(&mut self, level: usize) -> Result<&'a [u8], Wrong> {
        let start = self.at + level + 2;
        let end = [b"]".as_slice(), &vec![b'='; level], b"]"].concat();
        let inside = self.bytes.get(start..).unwrap_or_default();
        let Some(len) = memchr::memmem::find(inside, &end) else {
            return Err(self.wrong("a long text or comment has no end"));
        };
        let inside = inside.get(..len).unwrap_or_default();
        self.at = start + len + end.len();
        self.line += u32::try_from(inside.iter().filter(|b| **b == b'\n').count()).unwrap_or(0);
        let inside = inside.strip_prefix(b"\r").unwrap_or(inside);
        Ok(inside.strip_prefix(b"\n").unwrap_or(inside))
    }

    fn next_byte(&mut self) -> Option<u8> {
        let byte = self.rest().first().copied()?;
        self.at += 1;
        Some(byte)
    }

    fn quoted(&mut self, quote: u8) -> Result<Vec<u8>, Wrong> {
        self.at += 1;
        let mut text = Vec::new();
        loop {
            let plain = self.rest().iter().position(|b| matches!(b, b'\\' | b'\n') || *b == quote);
            let Some(plain) = plain else { return Err(self.wrong("a text has no end")) };
            text.extend_from_slice(self.rest().get(..plain).unwrap_or_default());
            self.at += plain;
            if text.len() > TEXT_BYTES_MAX {
                return Err(self.wrong("a text is too long"));
            }
            match self.next_byte() {
                Some(b'\\') => self.escape(&mut text)?,
                Some(byte) if byte == quote => return Ok(text),
                _ => return Err(self.wrong("a text has no end")),
            }
        }
    }

    /// What stands behind a backslash (section 3.1).
    fn escape(&mut self, text: &mut Vec<u8>) -> Result<(), Wrong> {
        let wrong = |lexer: &Self| lexer.wrong("an escape in a text is wrong");
        let byte = self.next_byte().ok_or_else(|| self.wrong("a text has no end"))?;
        match byte {
            b'a' => text.push(7),
            b'b' => text.push(8),
            b'f' => text.push(12),
            b'n' => text.push(b'\n'),
            b'r' => text.push(b'\r'),
            b't' => text.push(b'\t'),
            b'v' => text.push(11),
            b'\\' | b'"' | b'\'' => text.push(byte),
            b'\n' => {
                self.line += 1;
                text.push(byte);
            }
            b'\r' => {
                if self.rest().first() == Some(&b'\n') {
                    self.at += 1;
                }
                self.line += 1;
                text.push(b'\n');
            }
            b'z' => {
                while let Some(blank) = self.rest().first().copied().filter(u8::is_ascii_whitespace) {
                    self.line += u32::from(blank == b'\n');
                    self.at += 1;
                }
            }
            b'x' => {
                let digits = self.rest().get(..2).and_then(|d| std::str::from_utf8(d).ok());
                let value = digits.filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
                text.push(value.and_then(|d| u8::from_str_radix(d, 16).ok()).ok_or_else(|| wrong(self))?);
                self.at += 2;
            }
            b'u' => {
                let digits = self.rest().strip_prefix(b"{").and_then(|r| r.get(..r.iter().position(|b| *b == b'}')?));
                let digits = digits.and_then(|d| std::str::from_utf8(d).ok()).ok_or_else(|| wrong(self))?;
                let value = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32).ok_or_else(|| wrong(self))?;
                text.extend_from_slice(value.encode_utf8(&mut [0; 4]).as_bytes());
                self.at += digits.len() + 2;
            }
            b'0'..=b'9' => {
                let mut value = u32::from(byte - b'0');
                for _ in 0..2 {
                    let Some(digit) = self.rest().first().filter(|b| b.is_ascii_digit()) else { break };
                    value = value * 10 + u32::from(digit - b'0');
                    self.at += 1;
                }
                text.push(u8::try_from(value).map_err(|_| wrong(self))?);
            }
            _ => return Err(wrong(self)),
        }
        Ok(())
    }
}

//! Terms of Erlang as `io_lib:print/1` writes them: atoms, numbers, texts, binaries, tuples, lists and maps. Processes,
//! references and functions are none that anybody has stored. Depth and number are bounded, and nothing calls itself.

use crate::fault::{Fault, armed};

/// Terms in terms.
const DEPTH_MAX: usize = 64;
/// Terms of all.
const TERMS_MAX: usize = 1 << 18;

/// A term.
#[derive(Clone, Debug, PartialEq)]
pub enum Term {
    /// A name.
    Atom(String),
    /// A whole number.
    Int(i64),
    /// Another number.
    Float(f64),
    /// Bytes, most often of a text.
    Binary(Vec<u8>),
    /// A text, which is a list of its characters there.
    Text(String),
    /// So many things that belong together.
    Tuple(Vec<Term>),
    /// Any number of things.
    List(Vec<Term>),
    /// Keys with their values, one behind the other.
    Map(Vec<Term>),
}

impl Term {
    /// The text of an atom, a binary in UTF-8, or a list of characters.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Atom(text) | Self::Text(text) => Some(text),
            Self::Binary(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The elements of a tuple.
    pub fn tuple(&self) -> &[Term] {
        if let Self::Tuple(terms) = self { terms } else { &[] }
    }

    /// The elements of a list.
    pub fn list(&self) -> &[Term] {
        if let Self::List(terms) = self { terms } else { &[] }
    }

    /// In a list of pairs, what belongs to a name.
    pub fn get(&self, name: &str) -> Option<&Term> {
        self.list().iter().find_map(|pair| match pair.tuple() {
            [Term::Atom(key), value] if key == name => Some(value),
            _ => None,
        })
    }

    /// True for that atom.
    pub fn is(&self, name: &str) -> bool {
        matches!(self, Self::Atom(atom) if atom == name)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tuple,
    List,
    Map,
}

struct Reader<'a> {
    rest: &'a [u8],
}

/// Reads a term; none for anything else, and for one that is too deep or too large.
pub fn read(text: &str) -> Option<Term> {
    let mut reader = Reader { rest: text.as_bytes() };
    let mut open: Vec<(Kind, Vec<Term>)> = Vec::new();
    let mut count = 0;
    loop {
        // A term starts here, or what is open ends before its first.
        let mut term = match reader.begin()? {
            Begin::Open(kind) => {
                if open.len() >= DEPTH_MAX {
                    return None;
                }
                if !reader.take(close(kind)) {
                    open.push((kind, Vec::new()));
                    continue;
                }
                made(kind, Vec::new())?
            }
            Begin::Whole(term) => term,
        };
        // It ends here, and so may what it stands in.
        loop {
            count += 1;
            if count > TERMS_MAX {
                return None;
            }
            let Some((kind, terms)) = open.last_mut() else {
                reader.take(b".");
                return (reader.peek().is_none() || armed(Fault::TailIgnored)).then_some(term);
            };
            terms.push(term);
            let kind = *kind;
            if kind == Kind::Map && terms.len() % 2 == 1 {
                if reader.take(b"=>") {
                    break;
                }
                return None;
            }
            if reader.take(b",") {
                break;
            }
            if !reader.take(close(kind)) {
                return None;
            }
            let (_, terms) = open.pop()?;
            term = made(kind, terms)?;
        }
    }
}

fn close(kind: Kind) -> &'static [u8] {
    if kind == Kind::List { b"]" } else { b"}" }
}

fn made(kind: Kind, terms: Vec<Term>) -> Option<Term> {
    Some(match kind {
        Kind::Tuple => Term::Tuple(terms),
        Kind::List => Term::List(terms),
        Kind::Map => Term::Map(terms),
    })
}

enum Begin {
    Open(Kind),
    Whole(Term),
}

impl Reader<'_> {
    fn peek(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_ascii_start();
        self.rest.first().copied()
    }

    fn take(&mut self, token: &[u8]) -> bool {
        self.peek();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn begin(&mut self) -> Option<Begin> {
        let first = self.peek()?;
        Some(match first {
            _ if self.take(b"<<") => Begin::Whole(self.binary()?),
            _ if self.take(b"#{") => Begin::Open(Kind::Map),
            _ if self.take(b"{") => Begin::Open(Kind::Tuple),
            _ if self.take(b"[") => Begin::Open(Kind::List),
            b'"' => Begin::Whole(Term::Text(self.quoted(b'"')?)),
            b'\'' => Begin::Whole(Term::Atom(self.quoted(b'\'')?)),
            b'-' | b'0'..=b'9' => Begin::Whole(self.number()?),
            b'a'..=b'z' => {
                let is_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'@');
                let name = self.word(is_name)?;
                Begin::Whole(Term::Atom(name))
            }
            _ => return None,
        })
    }

    fn word(&mut self, is_part: impl Fn(&u8) -> bool) -> Option<String> {
        let len = self.rest.iter().position(|b| !is_part(b)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        String::from_utf8(word.to_vec()).ok()
    }

    fn number(&mut self) -> Option<Term> {
        let word = self.word(|b| b.is_ascii_alphanumeric() || b"-+.".contains(b))?;
        // The full stop at the end of all is none of the number's.
        let word = word.strip_suffix('.').unwrap_or(&word);
        match word.parse() {
            Ok(int) => Some(Term::Int(int)),
            Err(_) => word.parse().ok().filter(|float: &f64| float.is_finite()).map(Term::Float),
        }
    }

    /// Behind `<<`: texts and bytes with commas between them.
    fn binary(&mut self) -> Option<Term> {
        let mut bytes = Vec::new();
        if self.take(b">>") {
            return Some(Term::Binary(bytes));
        }
        loop {
            if self.peek()? == b'"' {
                let text = self.quoted(b'"')?;
                // Without a word on it, each character is a byte.
                match self.take(b"/utf8") {
                    true => bytes.extend_from_slice(text.as_bytes()),
                    false => {
                        for c in text.chars() {
                            bytes.push(u8::try_from(u32::from(c)).ok()?);
                        }
                    }
                }
            } else {
                let Term::Int(byte) = self.number()? else { return None };
                bytes.push(u8::try_from(byte).ok()?);
            }
            if self.take(b">>") {
                return Some(Term::Binary(bytes));
            }
            if !self.take(b",") {
                return None;
            }
        }
    }

    fn quoted(&mut self, quote: u8) -> Option<String> {
        let mut text = Vec::new();
        self.rest = self.rest.get(1..)?;
        loop {
            let plain = self.rest.iter().position(|b| *b == quote || *b == b'\\')?;
            let (before, rest) = self.rest.split_at_checked(plain)?;
            text.extend_from_slice(before);
            let (mark, rest) = rest.split_first()?;
            self.rest = rest;
            if *mark == quote {
                return String::from_utf8(text).ok();
            }
            text.extend_from_slice(self.escape()?.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }

    /// Behind a backslash.
    fn escape(&mut self) -> Option<char> {
        let (mark, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(match mark {
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'v' => '\u{b}',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'e' => '\u{1b}',
            b's' => ' ',
            b'd' => '\u{7f}',
            b'x' => {
                let is_long = self.rest.first() == Some(&b'{');
                let len = if is_long { self.rest.iter().position(|b| *b == b'}')? + 1 } else { 2 };
                let (digits, rest) = self.rest.split_at_checked(len)?;
                self.rest = rest;
                let digits = std::str::from_utf8(digits).ok()?.trim_matches(['{', '}']);
                char::from_u32(u32::from_str_radix(digits, 16).ok()?)?
            }
            b'0'..=b'7' => {
                let mut value = u32::from(mark - b'0');
                for _ in 0..2 {
                    match self.rest.split_first() {
                        Some((digit @ b'0'..=b'7', rest)) => {
                            value = value * 8 + u32::from(digit - b'0');
                            self.rest = rest;
                        }
                        _ => break,
                    }
                }
                char::from_u32(value)?
            }
            mark if mark.is_ascii() => char::from(*mark),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_read_as_erlang_prints_them() {
        let text = r#"[{title,<<"The orchard">>},{max_users,200},{persistent,true},
            {affiliations,[{{<<"romeo">>,<<"localhost">>,<<>>},{owner,<<195,164>>}}]},
            {'a b',"x\"\x{e9}\351"},{f,-2.5e3},{m,#{k => [],1 => {}}},{u,<<"é"/utf8>>},{l,<<"\351">>}]."#;
        let term = read(text).unwrap();
        assert_eq!(term.get("title").and_then(Term::text), Some("The orchard"));
        assert_eq!(term.get("max_users"), Some(&Term::Int(200)));
        assert!(term.get("persistent").unwrap().is("true"));
        let [pair] = term.get("affiliations").unwrap().list() else { panic!("{term:?}") };
        let [who, what] = pair.tuple() else { panic!("{pair:?}") };
        assert_eq!((who.tuple().len(), what.tuple()[1].text()), (3, Some("ä")));
        assert_eq!(term.get("a b").and_then(Term::text), Some("x\"éé"));
        assert_eq!(term.get("f"), Some(&Term::Float(-2500.0)));
        assert!(matches!(term.get("m"), Some(Term::Map(terms)) if terms.len() == 4));
        assert_eq!(term.get("u").and_then(Term::text), Some("é"));
        assert_eq!(term.get("l"), Some(&Term::Binary(vec![0xe9])));
        assert_eq!(read("whitelist"), Some(Term::Atom("whitelist".to_string())));
        assert_eq!(read("10"), Some(Term::Int(10)));
    }

    #[test]
    fn what_is_no_term_is_refused() {
        for text in [
            "",
            "{",
            "[1,]",
            "[1 2]",
            "{a",
            "<<1",
            "<<256>>",
            "<<a>>",
            "<0.1.2>",
            "#Ref<0.1>",
            "#{a}",
            "#{a => }",
            "\"a",
            "'a",
            "\"\\x{110000}\"",
            "A",
            "_",
            "1x",
            "[}",
            "a b",
            "[|a]",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read(&"[".repeat(1_000_000)), None);
        assert!(read(&format!("{}{}", "{".repeat(64), "}".repeat(64))).is_some());
        assert_eq!(read(&format!("{}{}", "{".repeat(66), "}".repeat(66))), None);
    }
}

//! JSON (RFC 8259), read into values of whoever asks. Depth and number are bounded, and nothing calls itself.

/// Lists and objects in each other.
const DEPTH_MAX: usize = 132;
/// Members of all.
const MEMBERS_MAX: usize = 1 << 18;

/// What stands in a text and has nothing in it.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number that fits.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(String),
}

/// What values are made of.
pub trait Json: Sized {
    /// A value with nothing in it.
    fn scalar(scalar: Scalar) -> Self;
    /// A list.
    fn list(items: Vec<Self>) -> Self;
    /// An object, with its members in their order. Names may come twice.
    fn object(members: Vec<(String, Self)>) -> Self;
}

/// A list or an object that is being read.
struct Frame<T> {
    /// Those of a list have no names.
    members: Vec<(String, T)>,
    is_list: bool,
    name: String,
}

impl<T: Json> Frame<T> {
    fn close(self) -> T {
        match self.is_list {
            true => T::list(self.members.into_iter().map(|(_, item)| item).collect()),
            false => T::object(self.members),
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

/// Reads a text; none for one that is no JSON, or that is too deep or too large.
pub fn read<T: Json>(text: &str) -> Option<T> {
    let mut reader = Reader { rest: text.as_bytes() };
    let mut frames: Vec<Frame<T>> = Vec::new();
    let mut count = 0;
    loop {
        // A value starts here, or an empty list or object ends.
        let mut value = match reader.next()? {
            open @ (b'{' | b'[') => {
                let is_list = open == b'[';
                if frames.len() >= DEPTH_MAX {
                    return None;
                }
                let mut frame = Frame { members: Vec::new(), is_list, name: String::new() };
                if reader.take(if is_list { b']' } else { b'}' }) {
                    frame.close()
                } else {
                    if !is_list {
                        frame.name = reader.name()?;
                    }
                    frames.push(frame);
                    continue;
                }
            }
            b'"' => T::scalar(Scalar::Text(reader.text()?)),
            first => T::scalar(reader.word(first)?),
        };
        // It ends here, and so may what it stands in.
        loop {
            let Some(frame) = frames.last_mut() else {
                return reader.skip_blanks().is_none().then_some(value);
            };
            count += 1;
            if count > MEMBERS_MAX {
                return None;
            }
            frame.members.push((std::mem::take(&mut frame.name), value));
            match (reader.next()?, frame.is_list) {
                (b',', true) => break,
                (b',', false) => {
                    frame.name = reader.name()?;
                    break;
                }
                (b']', true) | (b'}', false) => value = frames.pop()?.close(),
                _ => return None,
            }
        }
    }
}

impl Reader<'_> {
    fn skip_blanks(&mut self) -> Option<u8> {
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        let blanks = self.rest.iter().position(|byte| !is_blank(byte)).unwrap_or(self.rest.len());
        self.rest = self.rest.get(blanks..).unwrap_or_default();
        self.rest.first().copied()
    }

    /// The next byte that is no blank.
    fn next(&mut self) -> Option<u8> {
        let byte = self.skip_blanks()?;
        self.rest = self.rest.get(1..)?;
        Some(byte)
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.skip_blanks() == Some(byte);
        if is_next {
            self.rest = self.rest.get(1..).unwrap_or_default();
        }
        is_next
    }

    /// The name of a member, and its colon.
    fn name(&mut self) -> Option<String> {
        let name = if self.next()? == b'"' { self.text()? } else { return None };
        (self.next()? == b':').then_some(name)
    }

    /// A text behind its first quote.
    fn text(&mut self) -> Option<String> {
        let mut text = Vec::new();
        loop {
            let plain = self.rest.iter().position(|b| matches!(b, b'"' | b'\\') || *b < b' ')?;
            let (before, rest) = self.rest.split_at_checked(plain)?;
            text.extend_from_slice(before);
            let (mark, rest) = rest.split_first()?;
            self.rest = rest;
            match mark {
                b'"' => return String::from_utf8(text).ok(),
                b'\\' => {
                    let c = self.escape()?;
                    text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let (mark, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(match mark {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'"' | b'\\' | b'/' => char::from(*mark),
            b'u' => {
                let first = self.unit()?;
                if !(0xd800..0xdc00).contains(&first) {
                    return char::from_u32(first);
                }
                self.rest = self.rest.strip_prefix(b"\\u")?;
                let second = self.unit()?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                return char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + second);
            }
            _ => return None,
        })
    }

    fn unit(&mut self) -> Option<u32> {
        let (digits, rest) = self.rest.split_at_checked(4)?;
        self.rest = rest;
        let digits = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u32::from_str_radix(digits, 16).ok()
    }

    /// A number or a word, of which the first byte is taken.
    fn word(&mut self, first: u8) -> Option<Scalar> {
        let len = self.rest.iter().position(|b| !(b.is_ascii_alphanumeric() || b"+-.".contains(b)));
        let (word, rest) = self.rest.split_at_checked(len.unwrap_or(self.rest.len()))?;
        self.rest = rest;
        let word = String::from_utf8([&[first], word].concat()).ok()?;
        Some(match word.as_str() {
            "null" => Scalar::Null,
            "true" => Scalar::Bool(true),
            "false" => Scalar::Bool(false),
            word if is_number(word) => match (word.parse(), word.parse()) {
                (Ok(int), _) => Scalar::Int(int),
                (_, Ok(float)) => Scalar::Float(float),
                _ => return None,
            },
            _ => return None,
        })
    }
}

/// Section 6, where it says less than Rust reads.
fn is_number(word: &str) -> bool {
    let (mantissa, exponent) = word.split_once(['e', 'E']).map_or((word, None), |(m, e)| (m, Some(e)));
    let mantissa = mantissa.strip_prefix('-').unwrap_or(mantissa);
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let exponent = exponent.map(|exponent| exponent.strip_prefix(['+', '-']).unwrap_or(exponent));
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(digits)
}

/// A text in quotes (section 7).
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.extend(format!("\\u{:04x}", u32::from(c)).chars()),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug, PartialEq)]
    enum Tree {
        Leaf(Scalar),
        List(Vec<Tree>),
        Object(Vec<(String, Tree)>),
    }

    impl Json for Tree {
        fn scalar(scalar: Scalar) -> Self {
            Self::Leaf(scalar)
        }
        fn list(items: Vec<Self>) -> Self {
            Self::List(items)
        }
        fn object(members: Vec<(String, Self)>) -> Self {
            Self::Object(members)
        }
    }

    #[test]
    fn values_are_read() {
        let text = r#" { "a\u00e9\ud83d\ude00" : [ 1, -2.5e3, true, null, "x" ], "a": {}, "a": [] } "#;
        let leaf = |scalar| Tree::Leaf(scalar);
        let list = [Scalar::Int(1), Scalar::Float(-2500.0), Scalar::Bool(true), Scalar::Null, Scalar::Text("x".into())];
        let members = vec![
            ("aé😀".to_string(), Tree::List(list.map(leaf).to_vec())),
            ("a".to_string(), Tree::Object(Vec::new())),
            ("a".to_string(), Tree::List(Vec::new())),
        ];
        assert_eq!(read(text), Some(Tree::Object(members)));
        for (text, value) in [
            ("0", Scalar::Int(0)),
            ("-0.0", Scalar::Float(-0.0)),
            ("1e+3", Scalar::Float(1000.0)),
            ("9223372036854775807", Scalar::Int(i64::MAX)),
            ("9223372036854775808", Scalar::Float(9_223_372_036_854_775_808.0)),
        ] {
            assert_eq!(read(text), Some(Tree::Leaf(value)), "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in [
            "",
            "{",
            "[1,]",
            "{\"a\"}",
            "{\"a\":1,}",
            "[1 2]",
            "\"\\ud800\"",
            "\"\\x\"",
            "nul",
            "01x",
            "01",
            "1.",
            ".5",
            "-",
            "-inf",
            "+1",
            "1e",
            "{1:2}",
            "[]]",
            "\"\n\"",
            "[}",
            "{]",
            "\u{c}1",
            "1\u{b}",
        ] {
            assert_eq!(read::<Tree>(text), None, "{text}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read::<Tree>(&nested(DEPTH_MAX)).is_some());
        assert!(read::<Tree>(&nested(DEPTH_MAX + 1)).is_none());
        assert!(read::<Tree>(&"[".repeat(1_000_000)).is_none());
        assert!(read::<Tree>(&format!("[\"{}\"]", "[".repeat(1000))).is_some(), "in a text");
    }

    proptest! {
        #[test]
        fn quoted_texts_come_back(text: String) {
            prop_assert_eq!(read(&quote(&text)), Some(Tree::Leaf(Scalar::Text(text))));
        }

        #[test]
        fn any_text_is_json_or_not(text: String) {
            let _ = read::<Tree>(&text);
        }
    }
}

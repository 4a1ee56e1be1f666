//! JSON (RFC 8259) as Prosody keeps tables in SQL, read into the values of [`lua`](super::lua).
//!
//! A list has keys from 1. `__array` and `__hash` in an object are what JSON has no words for: members with numbers,
//! and members whose keys are no texts, each followed by its value. Depth and number are bounded, and nothing calls
//! itself.

use super::lua::{Table, Value};

/// Values in values.
const DEPTH_MAX: usize = 132;
/// Members of all.
const MEMBERS_MAX: usize = 1 << 18;

/// A list or an object that is being read.
struct Frame {
    table: Table,
    is_list: bool,
    key: Option<String>,
}

struct Reader<'a> {
    rest: &'a [u8],
}

/// Reads a text; none for one that is no JSON, or that is too deep or too large.
pub fn read(text: &str) -> Option<Value> {
    let mut reader = Reader { rest: text.as_bytes() };
    let mut frames: Vec<Frame> = Vec::new();
    let mut members = 0;
    loop {
        // A value starts here, or an empty list or object ends.
        let mut value = match reader.next()? {
            open @ (b'{' | b'[') => {
                if frames.len() >= DEPTH_MAX {
                    return None;
                }
                frames.push(Frame { table: Table::default(), is_list: open == b'[', key: None });
                let is_list = open == b'[';
                if reader.take(if is_list { b']' } else { b'}' }) {
                    closed(frames.pop()?)
                } else {
                    if !is_list {
                        frames.last_mut()?.key = Some(reader.key()?);
                    }
                    continue;
                }
            }
            b'"' => Value::Text(reader.text()?.into_bytes()),
            first => reader.scalar(first)?,
        };
        // It ends here, and so may what it stands in.
        loop {
            let Some(frame) = frames.last_mut() else {
                return reader.skip_blanks().is_none().then_some(value);
            };
            members += 1;
            if members > MEMBERS_MAX {
                return None;
            }
            let next = i64::try_from(frame.table.0.len()).ok()? + 1;
            let key = match frame.key.take() {
                Some(key) => Value::Text(key.into_bytes()),
                None => Value::Int(next),
            };
            frame.table.0.push((key, value));
            match (reader.next()?, frame.is_list) {
                (b',', true) => break,
                (b',', false) => {
                    frame.key = Some(reader.key()?);
                    break;
                }
                (b']', true) | (b'}', false) => value = closed(frames.pop()?),
                _ => return None,
            }
        }
    }
}

/// A list or object as a table.
fn closed(frame: Frame) -> Value {
    let mut fields = Vec::with_capacity(frame.table.0.len());
    for (key, value) in frame.table.0 {
        match (key.text(), value) {
            (Some("__array"), Value::Table(Table(list))) if !frame.is_list => fields.extend(list),
            (Some("__hash"), Value::Table(Table(list))) if !frame.is_list => {
                let mut list = list.into_iter().map(|(_, value)| value);
                while let (Some(key), Some(value)) = (list.next(), list.next()) {
                    fields.push((key, value));
                }
            }
            (_, value) => fields.push((key, value)),
        }
    }
    fields.retain(|(_, value)| *value != Value::Nil);
    Value::Table(Table(fields))
}

impl Reader<'_> {
    fn skip_blanks(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_ascii_start();
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

    /// The key of a member, and its colon.
    fn key(&mut self) -> Option<String> {
        let key = if self.next()? == b'"' { self.text()? } else { return None };
        (self.next()? == b':').then_some(key)
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
    fn scalar(&mut self, first: u8) -> Option<Value> {
        let len = self.rest.iter().position(|b| !(b.is_ascii_alphanumeric() || b"+-.".contains(b)));
        let (word, rest) = self.rest.split_at_checked(len.unwrap_or(self.rest.len()))?;
        self.rest = rest;
        let word = String::from_utf8([&[first], word].concat()).ok()?;
        Some(match word.as_str() {
            "null" => Value::Nil,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            word if first == b'-' || first.is_ascii_digit() => match (word.parse(), word.parse()) {
                (Ok(int), _) => Value::Int(int),
                (_, Ok(float)) => Value::Float(float),
                _ => return None,
            },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lua_has_beyond_json_is_read() {
        let text = r#" { "a\u00e9\ud83d\ude00" : [ 1, -2.5e3, true, null, "x" ], "__array": ["one", {}],
            "__hash": [false, {"version": 3}], "n": null } "#;
        let Some(Value::Table(table)) = read(text) else { panic!("{text}") };
        assert_eq!(table.get("aé😀").and_then(Value::table).map(|t| t.0.len()), Some(4));
        assert_eq!(table.list().first().and_then(|v| v.text()), Some("one"));
        let metadata = table.0.iter().find(|(key, _)| *key == Value::Bool(false)).and_then(|(_, v)| v.table());
        assert_eq!(metadata.and_then(|m| m.get("version")), Some(&Value::Int(3)));
        assert_eq!(table.get("n"), None);
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
            "{1:2}",
            "[]]",
            "\"\n\"",
            "[}",
            "{]",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read(&"[".repeat(1_000_000)), None);
        assert!(read(&format!("{}{}", "[".repeat(132), "]".repeat(132))).is_some());
    }
}

//! Escaping of text and attribute values.

use memchr::{memchr, memchr3};

/// Writes `text` as element content. `>` is escaped too, so that `]]>` never appears.
pub fn escape_text(text: &str, out: &mut Vec<u8>) {
    // Texts are long enough that a search by vectors pays, and none that people write has a carriage return. With one,
    // each search for the other three could run to the end in vain.
    match memchr(b'\r', text.as_bytes()) {
        None => escape(text, out, |rest| memchr3(b'&', b'<', b'>', rest)),
        Some(_) => escape(text, out, |rest| replaced(rest, TEXT)),
    }
}

/// Writes `value` for between single quotes. White space is escaped, or the reader would normalise it (XML 1.0
/// section 3.3.3).
pub fn escape_attribute(value: &str, out: &mut Vec<u8>) {
    escape(value, out, |rest| replaced(rest, ATTRIBUTE));
}

/// Where a byte has a replacement.
const TEXT: u8 = 1;
const ATTRIBUTE: u8 = 2;

/// What takes the place of which bytes, and where. All of them are ASCII.
const REPLACEMENTS: [(u8, u8, &str); 8] = [
    (b'&', TEXT | ATTRIBUTE, "&amp;"),
    (b'<', TEXT | ATTRIBUTE, "&lt;"),
    (b'>', TEXT | ATTRIBUTE, "&gt;"),
    // A bare carriage return would come back as a line feed (XML 1.0 section 2.11).
    (b'\r', TEXT | ATTRIBUTE, "&#13;"),
    (b'\'', ATTRIBUTE, "&apos;"),
    (b'"', ATTRIBUTE, "&quot;"),
    (b'\n', ATTRIBUTE, "&#10;"),
    (b'\t', ATTRIBUTE, "&#9;"),
];

/// By byte: where it has a replacement. One look for each byte of what is written.
static REPLACED: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < REPLACEMENTS.len() {
        table[REPLACEMENTS[i].0 as usize] = REPLACEMENTS[i].1;
        i += 1;
    }
    table
};

/// Where the first byte is that has a replacement in that place.
fn replaced(bytes: &[u8], place: u8) -> Option<usize> {
    bytes.iter().position(|b| REPLACED[usize::from(*b)] & place != 0)
}

/// Copies `text` in runs between the bytes that have a replacement, of which `next` finds the first.
fn escape(text: &str, out: &mut Vec<u8>, next: impl Fn(&[u8]) -> Option<usize>) {
    let mut rest = text.as_bytes();
    while let Some(at) = next(rest) {
        out.extend_from_slice(&rest[..at]);
        let replacement = REPLACEMENTS.iter().find(|r| r.0 == rest[at]);
        out.extend_from_slice(replacement.map_or("", |r| r.2).as_bytes());
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(text: &str) -> [String; 2] {
        [escape_text, escape_attribute].map(|escape| {
            let mut out = Vec::new();
            escape(text, &mut out);
            String::from_utf8(out).unwrap()
        })
    }

    #[test]
    fn each_byte_is_replaced_where_it_must_be() {
        assert_eq!(both("a&<>\u{E9}&"), ["a&amp;&lt;&gt;\u{E9}&amp;"; 2]);
        assert_eq!(both("\n\t'\""), ["\n\t'\"", "&#10;&#9;&apos;&quot;"]);
        assert_eq!(both("<\r\r>b"), ["&lt;&#13;&#13;&gt;b"; 2]);
        assert_eq!(both(""), [""; 2]);
    }
}

//! Bytes as text: hexadecimal digits and percent-encoding.

use std::fmt::Write as _;

/// Two digits in lower case for each byte.
pub fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        _ = write!(out, "{byte:02x}");
    }
    out
}

/// The bytes that so many pairs of hexadecimal digits stand for, in either case; none for any other text.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let mut digits = text.bytes();
    let mut out = Vec::with_capacity(text.len() / 2);
    while let Some(high) = digits.next() {
        out.push(pair(high, digits.next()?)?);
    }
    Some(out)
}

/// Percent-encoded (RFC 3986 section 2.1): all bytes but those that are never reserved (section 2.3) and those of
/// `also`, which have no meaning of their own where the text goes.
pub fn percent_encoded(text: &str, also: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            byte if also.contains(&byte) => out.push(char::from(byte)),
            byte => _ = write!(out, "%{byte:02X}"),
        }
    }
    out
}

/// What a percent-encoded text stands for; none when two digits do not follow each `%`, or it is not UTF-8.
pub fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(if byte == b'%' { pair(bytes.next()?, bytes.next()?)? } else { byte });
    }
    String::from_utf8(out).ok()
}

fn pair(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_and_bytes() {
        assert_eq!(hex(&[0, 10, 255]), "000aff");
        assert_eq!(from_hex("000aFf"), Some(vec![0, 10, 255]));
        assert_eq!(from_hex(""), Some(Vec::new()));
        for wrong in ["0", "0g", "+1", " 1", "000", "\u{e4}"] {
            assert_eq!(from_hex(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn texts_in_addresses() {
        assert_eq!(percent_encoded("a\u{e4} [x]/~", b"[]"), "a%C3%A4%20[x]%2F~");
        assert_eq!(percent_decoded("a%C3%a4%20[x]%2F+"), Some("a\u{e4} [x]/+".to_owned()));
        for wrong in ["%", "%4", "%4g", "%+f", "% 1", "%\u{e4}", "%ff"] {
            assert_eq!(percent_decoded(wrong), None, "{wrong}");
        }
    }
}

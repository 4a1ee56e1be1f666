//! Names of DNS (RFC 1035 sections 2.3.4 and 4.1.4): dots and labels in text, lengths and pointers on the wire.

use crate::fault::{Fault, armed};

/// Bytes of a label.
const LABEL_BYTES_MAX: usize = 63;

/// Bytes of a name on the wire, lengths and root included.
const WIRE_BYTES_MAX: usize = 255;

/// The form in which names are compared: lower case, without the dot of the root. None for what is no name.
/// Only letters, digits, `-` and `_` may stand in a label: no name of a host or service has others.
pub fn normal(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    (text.len() + 2 <= WIRE_BYTES_MAX && text.split('.').all(is_label)).then(|| text.to_ascii_lowercase())
}

/// Appends a normal name to a message, uncompressed.
pub fn write(name: &str, out: &mut Vec<u8>) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        // A normal name has no longer labels.
        out.push(label.len().min(LABEL_BYTES_MAX) as u8);
        out.extend(label.bytes().take(LABEL_BYTES_MAX));
    }
    out.push(0);
}

/// Reads the name that begins at `at` of `message`: the name in its normal form, empty for the root, and where what
/// follows begins. None for what is no name: a pointer that does not point back, a label with bytes that no host has,
/// or too many of them.
pub fn read(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut behind = None;
    // Each pointer goes further back than the one before, so that there is an end.
    let mut lowest = at;
    loop {
        let length = *message.get(at)?;
        match length {
            0 => return Some((name, behind.unwrap_or(at + 1))),
            1..=63 => {
                let label = message.get(at + 1..at + 1 + usize::from(length))?;
                if name.len() + label.len() + 3 > WIRE_BYTES_MAX {
                    return None;
                }
                if !name.is_empty() {
                    name.push('.');
                }
                for &b in label {
                    if !b.is_ascii_alphanumeric() && b != b'-' && b != b'_' {
                        return None;
                    }
                    name.push(char::from(b.to_ascii_lowercase()));
                }
                at += 1 + usize::from(length);
            }
            192.. => {
                let target = usize::from(length & 0x3f) << 8 | usize::from(*message.get(at + 1)?);
                behind = behind.or(Some(at + 2));
                if target >= lowest {
                    assert!(!armed(Fault::PointerFollowed), "planted: round and round");
                    return None;
                }
                lowest = target;
                at = target;
            }
            // Reserved.
            _ => return None,
        }
    }
}

/// Where the name that begins at `at` ends, whatever is in it.
pub fn skip(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            192.. => return Some(at + 2),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_compared_in_lower_case_and_without_root() {
        assert_eq!(normal("_XMPP-Server._tcp.Example.ORG.").as_deref(), Some("_xmpp-server._tcp.example.org"));
        for wrong in ["", ".", "a..b", ".a", "a b", "b\u{fc}cher.example", &"a".repeat(64), &"a.".repeat(128)] {
            assert_eq!(normal(wrong), None, "{wrong}");
        }
        assert!(normal(&"a.".repeat(127)).is_some());
    }

    #[test]
    fn pointers_lead_back_and_never_round() {
        let message = b"\x03org\x00\x07EXAMPLE\xc0\x00\x04chat\xc0\x05";
        assert_eq!(read(message, 0), Some(("org".to_string(), 5)));
        assert_eq!(read(message, 5), Some(("example.org".to_string(), 15)));
        assert_eq!(read(message, 15), Some(("chat.example.org".to_string(), 22)));
        assert_eq!(skip(message, 15), Some(22));
        assert_eq!(read(b"\x00", 0), Some((String::new(), 1)));
        for wrong in [
            &b"\xc0\x00"[..],
            b"\x01a\xc0\x00",
            b"\x01a\xc0\x02",
            b"\x01a\xc0\x03\x00",
            b"\x05ab",
            b"\x01a",
            b"\x41a\x00",
            b"\x03a.b\x00",
            b"",
        ] {
            assert_eq!(read(wrong, 0), None, "{wrong:?}");
        }
        // From a loop that is not entered at its first byte.
        assert_eq!(read(b"\x01a\x01b\xc0\x00", 2), None);
    }

    #[test]
    fn a_name_has_an_end_even_if_pointers_multiply_it() {
        let mut message = b"\x3f".to_vec();
        message.extend([b'a'; 63]);
        message.push(0);
        let mut last = 0;
        for _ in 0..3 {
            let at = message.len();
            message.push(63);
            message.extend([b'b'; 63]);
            message.extend([0xc0 | (last >> 8) as u8, last as u8]);
            last = at;
        }
        assert_eq!(read(&message, last), None, "four labels of 63 bytes are 257 with their lengths");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(name in "[a-z0-9_-]{1,63}(\\.[a-z0-9_-]{1,20}){0,8}", before in 0..20_usize) {
            prop_assume!(normal(&name).is_some());
            let mut message = vec![7; before];
            write(&name, &mut message);
            let end = message.len();
            message.push(1);
            prop_assert_eq!(skip(&message, before), Some(end));
            prop_assert_eq!(read(&message, before), Some((name, end)));
        }

        #[test]
        fn random_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..80), at in 0..90_usize) {
            if let Some((name, end)) = read(&bytes, at) {
                prop_assert!(name.is_empty() || normal(&name) == Some(name));
                prop_assert_eq!(skip(&bytes, at), Some(end));
            }
        }
    }
}

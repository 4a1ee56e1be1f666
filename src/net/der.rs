//! DER (X.690) and its form in text, PEM (RFC 7468): reading what others have made without trusting it, writing what is
//! ours.

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

pub const BOOLEAN: u8 = 0x01;
pub const INTEGER: u8 = 0x02;
pub const BITS: u8 = 0x03;
pub const OCTETS: u8 = 0x04;
pub const OID: u8 = 0x06;
pub const UTF8: u8 = 0x0c;
pub const IA5: u8 = 0x16;
pub const UTC_TIME: u8 = 0x17;
pub const GENERALIZED_TIME: u8 = 0x18;
pub const SEQUENCE: u8 = 0x30;
pub const SET: u8 = 0x31;

/// What is left of a run of DER values (X.690): definite lengths, tags of one byte.
pub struct Der<'a>(pub &'a [u8]);

impl<'a> Der<'a> {
    /// Tag and content of the next value; None at the end and at what is not DER.
    pub fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, length], rest) = self.0.split_first_chunk::<2>()?;
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (length, rest) = match length {
            0..=0x7f => (usize::from(length), rest),
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
                (bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next value, which must have this tag.
    pub fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// The content of the next value if it has this tag; else nothing is taken.
    pub fn optional(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.0.first() == Some(&tag) { self.expect(tag) } else { None }
    }
}

/// A value of DER (X.690): the tag, the length in its shortest form, the parts of the content.
pub fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut der = vec![tag];
    match u8::try_from(length) {
        Ok(length) if length < 0x80 => der.push(length),
        _ => {
            let bytes = length.to_be_bytes();
            let bytes = bytes.iter().copied().skip_while(|b| *b == 0);
            // At most the eight bytes of a usize.
            der.push(0x80 | bytes.clone().count() as u8);
            der.extend(bytes);
        }
    }
    parts.iter().for_each(|part| der.extend_from_slice(part));
    der
}

/// An extension of a certificate (RFC 5280 section 4.2) with its content in DER.
pub fn extension(oid: &[u8], critical: bool, content: &[u8]) -> Vec<u8> {
    let critical = if critical { value(BOOLEAN, &[&[0xff]]) } else { Vec::new() };
    value(SEQUENCE, &[&value(OID, &[oid]), &critical, &value(OCTETS, &[content])])
}

/// PEM (RFC 7468) of one value.
pub fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    // The room for all of it is made at once: growing would leave copies of a key behind.
    let mut pem = Zeroizing::new(String::with_capacity(base64.len() + base64.len() / 64 + 2 * label.len() + 40));
    let mut line = |parts: &[&str]| {
        parts.iter().for_each(|part| pem.push_str(part));
        pem.push('\n');
    };
    line(&["-----BEGIN ", label, "-----"]);
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (head, tail) = rest.split_at_checked(64).unwrap_or((rest, ""));
        line(&[head]);
        rest = tail;
    }
    line(&["-----END ", label, "-----"]);
    pem
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{CertificateDer, pem::PemObject};

    use super::*;

    #[test]
    fn lengths_have_their_shortest_form() {
        for (length, head) in [
            (0, &[4, 0][..]),
            (127, &[4, 127]),
            (128, &[4, 0x81, 128]),
            (255, &[4, 0x81, 255]),
            (256, &[4, 0x82, 1, 0]),
            (65_536, &[4, 0x83, 1, 0, 0]),
        ] {
            let der = value(OCTETS, &[&vec![0; length]]);
            assert_eq!((&der[..head.len()], der.len()), (head, head.len() + length));
        }
    }

    #[test]
    fn pem_can_be_read_again() {
        for bytes in [1, 47, 48, 49, 96, 300] {
            let der = vec![7; bytes];
            let text = pem("CERTIFICATE", &der);
            assert!(text.lines().all(|line| line.len() <= 64) && text.len() <= text.capacity());
            assert_eq!(CertificateDer::from_pem_slice(text.as_bytes()).unwrap().as_ref(), der);
        }
    }
}

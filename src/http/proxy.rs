//! The PROXY protocol, versions 1 and 2, of HAProxy (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>):
//! ahead of everything else, a proxy says from where the connection came to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Section 2.1: the longest line of version 1.
const LINE_BYTES_MAX: usize = 107;
/// A header of version 2 with what it may say beside addresses.
const BINARY_BYTES_MAX: usize = 536;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What stands at the start of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// More must come.
    Incomplete,
    /// A header of so many bytes, and from where the connection came; none when the proxy itself has made it.
    Header(usize, Option<IpAddr>),
    /// Something else.
    Nothing,
}

/// The start of a connection that is to begin with a header.
#[derive(Debug, Default)]
pub struct Prelude {
    kept: Vec<u8>,
}

impl Prelude {
    /// Takes what was read next. Bytes of that which belong to the header, and, with [`Found::Header`], from where the
    /// connection came.
    pub fn take(&mut self, bytes: &[u8]) -> (usize, Found) {
        let before = self.kept.len();
        self.kept.extend_from_slice(bytes);
        let found = read(&self.kept);
        let used = match found {
            Found::Header(len, _) => len.saturating_sub(before),
            Found::Incomplete | Found::Nothing => bytes.len(),
        };
        (used, found)
    }
}

/// Reads the header at the start of `bytes`.
pub fn read(bytes: &[u8]) -> Found {
    let starts = |mark: &[u8]| bytes.iter().zip(mark).all(|(a, b)| a == b);
    if starts(SIGNATURE) {
        binary(bytes)
    } else if starts(b"PROXY ") {
        line(bytes)
    } else {
        Found::Nothing
    }
}

fn line(bytes: &[u8]) -> Found {
    let Some(end) = memchr::memchr(b'\n', bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes)) else {
        return if bytes.len() < LINE_BYTES_MAX { Found::Incomplete } else { Found::Nothing };
    };
    let text = bytes.get(..end).and_then(|line| std::str::from_utf8(line).ok()?.strip_suffix('\r'));
    let mut words = text.unwrap_or_default().split(' ').skip(1);
    let (family, from, to) = (words.next(), words.next(), words.next());
    let is_port = |word: Option<&str>| word.is_some_and(|word| word.parse::<u16>().is_ok());
    let ip = match family {
        Some("UNKNOWN") => return Found::Header(end + 1, None),
        Some("TCP4") => {
            from.zip(to).and_then(|(a, b)| Some((a.parse::<Ipv4Addr>().ok()?, b.parse::<Ipv4Addr>().ok()?).0.into()))
        }
        Some("TCP6") => {
            from.zip(to).and_then(|(a, b)| Some((a.parse::<Ipv6Addr>().ok()?, b.parse::<Ipv6Addr>().ok()?).0.into()))
        }
        _ => None,
    };
    match ip {
        Some(ip)
            if end < LINE_BYTES_MAX && is_port(words.next()) && is_port(words.next()) && words.next().is_none() =>
        {
            Found::Header(end + 1, Some(IpAddr::to_canonical(&ip)))
        }
        _ => Found::Nothing,
    }
}

fn binary(bytes: &[u8]) -> Found {
    let Some([command, family, high, low]) = bytes.get(12..16) else { return Found::Incomplete };
    let len = 16 + usize::from(u16::from_be_bytes([*high, *low]));
    if len > BINARY_BYTES_MAX {
        return Found::Nothing;
    }
    let Some(rest) = bytes.get(16..len) else { return Found::Incomplete };
    let v4 = || Some(IpAddr::from(<[u8; 4]>::try_from(rest.get(..12)?.get(..4)?).ok()?));
    let v6 = || Some(IpAddr::from(<[u8; 16]>::try_from(rest.get(..36)?.get(..16)?).ok()?));
    match (command, family) {
        // LOCAL: the proxy's own, to see whether we are there.
        (0x20, _) => Found::Header(len, None),
        (0x21, 0x11) => v4().map_or(Found::Nothing, |ip| Found::Header(len, Some(ip))),
        (0x21, 0x21) => v6().map_or(Found::Nothing, |ip| Found::Header(len, Some(ip.to_canonical()))),
        // Section 2.2: other families leave the address of the connection in force.
        (0x21, 0x00 | 0x12 | 0x22 | 0x31 | 0x32) => Found::Header(len, None),
        _ => Found::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn lines_of_version_1() {
        let text = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 5280\r\nGET / HTTP/1.1\r\n";
        assert_eq!(read(text), Found::Header(45, ip("192.0.2.7")));
        for end in 0..45 {
            assert_eq!(read(&text[..end]), Found::Incomplete, "{end}");
        }
        assert_eq!(read(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n"), Found::Header(32, ip("2001:db8::1")));
        assert_eq!(read(b"PROXY UNKNOWN\r\n"), Found::Header(15, None));
        for wrong in [
            "GET / HTTP/1.1\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 4711 5280\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 4711 5280 x\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 4711 65536\r\n",
            "PROXY  TCP4 192.0.2.7 198.51.100.1 4711 5280\r\n",
            "PROXY UDP4 192.0.2.7 198.51.100.1 4711 5280\r\n",
        ] {
            assert_eq!(read(wrong.as_bytes()), Found::Nothing, "{wrong}");
        }
        assert_eq!(read(format!("PROXY {}", "A".repeat(LINE_BYTES_MAX)).as_bytes()), Found::Nothing);
    }

    #[test]
    fn headers_of_version_2() {
        let header = |command: u8, family: u8, rest: &[u8]| {
            let mut bytes = SIGNATURE.to_vec();
            bytes.extend([command, family]);
            bytes.extend((rest.len() as u16).to_be_bytes());
            bytes.extend(rest);
            bytes
        };
        let v4 = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x67, 0x14, 0xa0, 3, 0, 1, 9];
        let whole = header(0x21, 0x11, &v4);
        assert_eq!(read(&whole), Found::Header(32, ip("192.0.2.7")));
        for end in 0..32 {
            assert_eq!(read(&whole[..end]), Found::Incomplete, "{end}");
        }
        let mut v6 = [0; 36];
        v6[15] = 1;
        assert_eq!(read(&header(0x21, 0x21, &v6)), Found::Header(52, ip("::1")));
        assert_eq!(read(&header(0x20, 0, &[])), Found::Header(16, None));
        assert_eq!(read(&header(0x21, 0x31, &[0; 216])), Found::Header(232, None));
        for wrong in
            [header(0x21, 0x11, &v4[..11]), header(0x21, 0x21, &v4), header(0x11, 0x11, &v4), header(0x22, 0x11, &v4)]
        {
            assert_eq!(read(&wrong), Found::Nothing);
        }
        assert_eq!(read(&header(0x21, 0x11, &[0; 600])), Found::Nothing);
    }
}

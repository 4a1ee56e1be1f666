//! Domains as DNS and certificates spell them: A-labels (RFC 5890 section 2.3.2.1, Punycode of RFC 3492).
//!
//! XMPP addresses carry U-labels; server names of TLS, DNS questions and certificates carry A-labels.

/// A label of DNS has at most 63 bytes (RFC 1035 section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// The A-label form of a prepared domain, in lower case: `bücher.example` gives `xn--bcher-kva.example`. IP addresses
/// lose the brackets that XMPP puts around them (RFC 6122 section 2.2). None when a label is empty or too long.
pub fn to_ascii(domain: &str) -> Option<String> {
    if let Some(address) = domain.strip_prefix('[').and_then(|d| d.strip_suffix(']')) {
        return Some(address.to_ascii_lowercase());
    }
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    if domain.contains(':') {
        return Some(domain.to_ascii_lowercase());
    }
    let mut ascii = String::with_capacity(domain.len());
    // IDNA reads these three as dots too (RFC 3490 section 3.1).
    for (i, label) in domain.split(['.', '\u{3002}', '\u{ff0e}', '\u{ff61}']).enumerate() {
        if i > 0 {
            ascii.push('.');
        }
        let start = ascii.len();
        if label.is_ascii() {
            ascii.push_str(&label.to_ascii_lowercase());
        } else {
            ascii.push_str("xn--");
            encode(&label.to_lowercase(), &mut ascii)?;
        }
        if !(1..=LABEL_BYTES_MAX).contains(&(ascii.len() - start)) {
            return None;
        }
    }
    Some(ascii)
}

/// Punycode of one label (RFC 3492 section 6.3), appended to `out`. None where a number would overflow.
fn encode(label: &str, out: &mut String) -> Option<()> {
    const BASE: u32 = 36;
    const T_MIN: u32 = 1;
    const T_MAX: u32 = 26;
    // The shortest encoding of a label has a byte for each character; this also bounds the square below.
    let points: Vec<u32> = label.chars().map(u32::from).collect();
    if points.len() > LABEL_BYTES_MAX {
        return None;
    }
    let before = out.len();
    out.extend(label.chars().filter(char::is_ascii));
    let basic = u32::try_from(out.len() - before).ok()?;
    if basic > 0 {
        out.push('-');
    }
    let (mut n, mut delta, mut bias, mut handled) = (128_u32, 0_u32, 72_u32, basic);
    while usize::try_from(handled).ok()? < points.len() {
        let next = points.iter().copied().filter(|&p| p >= n).min()?;
        delta = delta.checked_add((next - n).checked_mul(handled + 1)?)?;
        n = next;
        for &point in &points {
            if point < n {
                delta = delta.checked_add(1)?;
            }
            if point != n {
                continue;
            }
            let mut q = delta;
            let mut k = BASE;
            loop {
                let t = k.saturating_sub(bias).clamp(T_MIN, T_MAX);
                if q < t {
                    break;
                }
                out.push(digit(t + (q - t) % (BASE - t)));
                q = (q - t) / (BASE - t);
                k += BASE;
            }
            out.push(digit(q));
            bias = adapt(delta, handled + 1, handled == basic);
            delta = 0;
            handled += 1;
        }
        delta = delta.checked_add(1)?;
        n += 1;
    }
    Some(())
}

/// The bias behind a delta (RFC 3492 section 6.1).
fn adapt(delta: u32, handled: u32, first: bool) -> u32 {
    let mut delta = if first { delta / 700 } else { delta / 2 };
    delta += delta / handled;
    let mut k = 0;
    while delta > 455 {
        delta /= 35;
        k += 36;
    }
    k + 36 * delta / (delta + 38)
}

/// `a` to `z` for 0 to 25, `0` to `9` for 26 to 35.
fn digit(value: u32) -> char {
    let value = u8::try_from(value).unwrap_or(0);
    char::from(if value < 26 { b'a' + value } else { b'0' + (value - 26) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn domains_of_rfc_3492_and_of_everyday_use() {
        for (domain, ascii) in [
            ("Example.ORG.", "example.org"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("münchen.example", "xn--mnchen-3ya.example"),
            ("faß.example", "xn--fa-hia.example"),
            ("他们为什么不说中文", "xn--ihqwcrb4cv8a8dqg056pqjye"),
            ("почемужеонинеговорятпорусски", "xn--b1abfaaepdrnnbgefbadotcwatmq2g4l"),
            ("3年b組金八先生", "xn--3b-ww4c5e180e575a65lsy2b"),
            ("[2001:DB8::1]", "2001:db8::1"),
            ("192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(to_ascii(domain).as_deref(), Some(ascii), "{domain}");
        }
    }

    #[test]
    fn labels_are_neither_empty_nor_too_long() {
        assert_eq!(to_ascii(""), None);
        assert_eq!(to_ascii("a..b"), None);
        assert_eq!(to_ascii(&"a".repeat(64)), None);
        assert_eq!(to_ascii(&"ü".repeat(64)), None);
    }

    proptest! {
        #[test]
        fn any_text_gives_ascii_or_nothing(text in "\\PC{0,80}") {
            if let Some(ascii) = to_ascii(&text) {
                prop_assert!(text.contains(['[', ':']) || ascii.is_ascii());
            }
        }
    }
}

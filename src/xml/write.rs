//! Escaping of text and attribute values.

/// Writes `text` as element content. `>` is escaped too, so that `]]>` never appears.
pub fn escape_text(text: &str, out: &mut Vec<u8>) {
    escape(text, out, |b| match b {
        b'&' => Some("&amp;"),
        b'<' => Some("&lt;"),
        b'>' => Some("&gt;"),
        // A bare carriage return would come back as a line feed (XML 1.0 section 2.11).
        b'\r' => Some("&#13;"),
        _ => None,
    });
}

/// Writes `value` for between single quotes. White space is escaped, or the reader would normalise it (XML 1.0
/// section 3.3.3).
pub fn escape_attribute(value: &str, out: &mut Vec<u8>) {
    escape(value, out, |b| match b {
        b'&' => Some("&amp;"),
        b'<' => Some("&lt;"),
        b'>' => Some("&gt;"),
        b'\'' => Some("&apos;"),
        b'"' => Some("&quot;"),
        b'\r' => Some("&#13;"),
        b'\n' => Some("&#10;"),
        b'\t' => Some("&#9;"),
        _ => None,
    });
}

/// Copies `text` in runs between the bytes that have a replacement; all of those are ASCII.
fn escape(text: &str, out: &mut Vec<u8>, replacement: impl Fn(u8) -> Option<&'static str>) {
    let bytes = text.as_bytes();
    let mut done = 0;
    for (i, &b) in bytes.iter().enumerate() {
        if let Some(r) = replacement(b) {
            out.extend_from_slice(&bytes[done..i]);
            out.extend_from_slice(r.as_bytes());
            done = i + 1;
        }
    }
    out.extend_from_slice(&bytes[done..]);
}

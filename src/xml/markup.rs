//! The small grammar that the scanner looks at: names of attributes, references, the XML declaration.

use memchr::{memchr, memchr2};

use super::scan::ScanError;

/// White space of XML (XML 1.0 section 2.3).
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Name of the attribute whose `=` stands at the end of `tag`.
pub(super) fn attribute_name(tag: &[u8]) -> Option<&[u8]> {
    let tag = tag.trim_ascii_end().strip_suffix(b"=")?.trim_ascii_end();
    let start = tag.iter().rposition(|&b| is_space(b) || b == b'\'' || b == b'"')? + 1;
    tag.get(start..).filter(|name| !name.is_empty())
}

/// True for `xmlns` and `xmlns:prefix`.
pub(super) fn is_declaration(name: &[u8]) -> bool {
    name.strip_prefix(b"xmlns").is_some_and(|rest| rest.is_empty() || rest.starts_with(b":"))
}

/// True when a start tag declares a prefix, or the default namespace, twice.
pub(super) fn has_duplicate(tag: &[u8]) -> bool {
    let mut names = Vec::new();
    let mut at = 0;
    while let Some(open) = memchr2(b'\'', b'"', &tag[at..]).map(|offset| at + offset) {
        names.extend(attribute_name(&tag[..open]).filter(|name| is_declaration(name)));
        at = match memchr(tag[open], &tag[open + 1..]) {
            Some(offset) => open + offset + 2,
            None => break,
        };
    }
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

/// Checks the reference at the end of `before`, which `end` follows.
pub(super) fn check_reference(before: &[u8], end: u8) -> Result<(), ScanError> {
    let name = before.iter().rposition(|&b| b == b'&').map_or(before, |ampersand| &before[ampersand + 1..]);
    match (end, name) {
        (b';', b"amp" | b"lt" | b"gt" | b"apos" | b"quot" | [b'#', _, ..]) => Ok(()),
        (_, [b'#', ..]) => Err(ScanError::NotWellFormed),
        // The name of an entity that only a DTD could define.
        (b';' | b'-' | b'.', [_, ..]) | (b'_' | b':' | 0x80.., _) => Err(ScanError::RestrictedXml),
        _ => Err(ScanError::NotWellFormed),
    }
}

/// Checks `<?xml version='1.0' encoding='UTF-8' standalone='yes'?>` (XML 1.0 section 2.8), of which all but the
/// version may be missing.
pub(super) fn check_declaration(declaration: &[u8]) -> Result<(), ScanError> {
    let mut rest = declaration
        .strip_prefix(b"<?xml")
        .filter(|rest| rest.first().is_some_and(|&b| is_space(b)))
        .ok_or(ScanError::RestrictedXml)?
        .strip_suffix(b"?>")
        .ok_or(ScanError::NotWellFormed)?;
    match pseudo_attribute(&mut rest, b"version")? {
        Some(b"1.0") => {}
        Some(_) => return Err(ScanError::RestrictedXml),
        None => return Err(ScanError::NotWellFormed),
    }
    if pseudo_attribute(&mut rest, b"encoding")?.is_some_and(|name| !name.eq_ignore_ascii_case(b"utf-8")) {
        return Err(ScanError::UnsupportedEncoding);
    }
    match (pseudo_attribute(&mut rest, b"standalone")?, rest.trim_ascii()) {
        (None | Some(b"yes" | b"no"), []) => Ok(()),
        _ => Err(ScanError::NotWellFormed),
    }
}

/// Takes ` name='value'` off the front of `rest`, if it is there.
fn pseudo_attribute<'a>(rest: &mut &'a [u8], name: &[u8]) -> Result<Option<&'a [u8]>, ScanError> {
    let trimmed = rest.trim_ascii_start();
    let Some(behind) = trimmed.strip_prefix(name).filter(|_| trimmed.len() < rest.len()) else {
        return Ok(None);
    };
    let value = behind.trim_ascii_start().strip_prefix(b"=").ok_or(ScanError::NotWellFormed)?.trim_ascii_start();
    let (&quote, value) =
        value.split_first().filter(|(q, _)| matches!(q, b'\'' | b'"')).ok_or(ScanError::NotWellFormed)?;
    let len = memchr(quote, value).ok_or(ScanError::NotWellFormed)?;
    *rest = &value[len + 1..];
    Ok(Some(&value[..len]))
}

/// FNV-1a.
pub(super) fn hash(name: &[u8]) -> u32 {
    name.iter().fold(0x811c_9dc5, |hash, &b| (hash ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::ScanError::{NotWellFormed, RestrictedXml, UnsupportedEncoding};
    use super::*;

    #[test]
    fn a_declaration_must_be_one_of_xml_1_0_in_utf_8() {
        for text in [
            "<?xml version='1.0'?>",
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>",
            "<?xml\tversion = '1.0'\nencoding = 'UTF-8' standalone='no' ?>",
        ] {
            assert_eq!(check_declaration(text.as_bytes()), Ok(()), "{text}");
        }
        for text in [
            "<?xml version='1.0' encoding='UTF-16'?>",
            "<?xml version='1.0' encoding='ISO-8859-1'?>",
            "<?xml version='1.0' encoding=''?>",
        ] {
            assert_eq!(check_declaration(text.as_bytes()), Err(UnsupportedEncoding), "{text}");
        }
        for text in ["<?xml version='1.1'?>", "<?xml-model x?>", "<?x?>", "<?xml?>"] {
            assert_eq!(check_declaration(text.as_bytes()), Err(RestrictedXml), "{text}");
        }
        for text in [
            "<?xml ?>",
            "<?xml version='1.0'>",
            "<?xml encoding='utf-8'?>",
            "<?xml version='1.0'encoding='utf-8'?>",
            "<?xml version='1.0' standalone='maybe'?>",
            "<?xml version='1.0' other='x'?>",
            "<?xml version=1.0?>",
            "<?xml version='1.0?>",
            "<?xml version?>",
        ] {
            assert_eq!(check_declaration(text.as_bytes()), Err(NotWellFormed), "{text}");
        }
    }

    #[test]
    fn the_name_of_an_attribute_ends_before_its_quote() {
        for (tag, name) in [
            ("a b=", Some("b")),
            ("a  x:b\n= \t", Some("x:b")),
            ("a b='c' d=", Some("d")),
            ("a b='c'd=", Some("d")),
            ("a b", None),
            ("a =", None),
            ("b=", None),
            ("=", None),
            ("", None),
        ] {
            assert_eq!(attribute_name(tag.as_bytes()), name.map(str::as_bytes), "{tag}");
        }
    }

    #[test]
    fn only_the_same_declaration_twice_is_a_duplicate() {
        for (tag, duplicate) in [
            ("a xmlns='1' xmlns:a='1' xmlns:b='1'", false),
            ("a xmlns='xmlns=' xmlns:a=\"' xmlns='\" b='xmlns='", false),
            ("a b='' b=''", false),
            ("a xmlns='1' b='' xmlns='2'", true),
            ("a xmlns:c='1' xmlns:b='2' xmlns:c=\"'\"", true),
        ] {
            assert_eq!(has_duplicate(tag.as_bytes()), duplicate, "{tag}");
        }
    }
}

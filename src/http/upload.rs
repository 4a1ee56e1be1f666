//! Files of users (XEP-0363) as resources: what a slot asks of a request, what stands before a file on the disk, and
//! how a file is answered with, whole or in part.

use std::path::PathBuf;

use super::answer::{Answer, Content, Status, date};
use super::head::{Head, Length, Method};
use crate::core::slots::{self, Slot};
use crate::encoding::percent_encoded;

/// How files are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesOptions {
    /// Their folder.
    pub folder: PathBuf,
    /// How long each is kept, in seconds.
    pub expires_s: u32,
    /// What all may take, in bytes; 0 is any number.
    pub total_max: u64,
}

/// Marks a file of ours.
const MAGIC: &[u8; 4] = b"CUP2";

/// Bytes that can stand before a file: with the longest address that an account can have.
pub const LABEL_BYTES_MAX: usize = 2304;

/// Checks a request to store a file against the slot that it names.
///
/// # Errors
/// The status to answer with.
pub fn accept(head: &Head, key: &[u8; 32], wall_ms: i64) -> Result<Slot, Status> {
    let (id, name) = slots::read_path(&head.path).ok_or(Status::NotFound)?;
    let token = head.field("authorization").and_then(|value| value.split_once(' '));
    let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    let slot = Slot::proved(id, &name, token.ok_or(Status::Forbidden)?, key).ok_or(Status::Forbidden)?;
    if i64::try_from(slot.expires_s).is_ok_and(|at| at < wall_ms / 1000) {
        return Err(Status::Gone);
    }
    // Section 6: exactly what was said.
    match head.length {
        Length::Chunked => return Err(Status::LengthRequired),
        Length::Known(length) if length > slot.size => return Err(Status::ContentTooLarge),
        Length::Known(length) if length < slot.size => return Err(Status::BadRequest),
        Length::Known(_) => {}
    }
    let is_other = |said: &str| !slot.media_type.is_empty() && slots::tidy_type(said) != slot.media_type;
    if head.field("content-type").is_some_and(is_other) {
        return Err(Status::UnsupportedMediaType);
    }
    Ok(slot)
}

/// What stands before a file on the disk: when its slot was granted, its type, its name and its owner.
pub fn label(slot: &Slot) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&slot.owned().granted_s.to_be_bytes());
    for text in [&slot.media_type, &slot.name, &slot.owner] {
        out.extend_from_slice(&(text.len() as u16).to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    out
}

/// A file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its media type, if its owner has said one.
    pub media_type: String,
    /// Its name.
    pub name: String,
    /// The account that has brought it.
    pub owner: String,
    /// When that was allowed to, in seconds since 1970.
    pub granted_s: u64,
    /// Where it begins behind its label.
    pub start: u64,
    /// Bytes of it.
    pub size: u64,
    /// When it was stored, in seconds since 1970.
    pub stored_s: u64,
}

/// Reads the label at the start of a file of so many bytes; none when it is none of ours.
pub fn read_label(bytes: &[u8], file_size: u64, stored_s: u64) -> Option<Stored> {
    let (granted_s, mut rest) = bytes.strip_prefix(MAGIC)?.split_first_chunk()?;
    let granted_s = u64::from_be_bytes(*granted_s);
    let mut text = || {
        let (len, behind) = rest.split_first_chunk()?;
        let (text, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        rest = behind;
        String::from_utf8(text.to_vec()).ok()
    };
    let (media_type, name, owner) = (text()?, text()?, text()?);
    let start = (bytes.len() - rest.len()) as u64;
    Some(Stored { media_type, name, owner, granted_s, start, size: file_size.checked_sub(start)?, stored_s })
}

/// Which part of a file leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The first byte.
    pub from: u64,
    /// How many.
    pub len: u64,
}

/// Answers with a file that can be had for so many seconds from when it was stored; and the part of it that follows the
/// answer.
pub fn answer(head: &Head, id: &str, file: &Stored, expires_s: u32, wall_ms: i64) -> (Answer, Option<Part>) {
    let tag = format!("\"{id}\"");
    let left_s = (file.stored_s + u64::from(expires_s)).saturating_sub(u64::try_from(wall_ms / 1000).unwrap_or(0));
    let dress = |answer: Answer| {
        answer
            .with("ETag", tag.clone())
            .with("Last-Modified", date(i64::try_from(file.stored_s).unwrap_or(0).saturating_mul(1000)))
            .with("Cache-Control", format!("private, max-age={left_s}, immutable"))
            .with("Accept-Ranges", "bytes")
            // Even where a browser shows it: nothing in it runs, and nothing frames it.
            .with("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
            .with("Cross-Origin-Resource-Policy", "cross-origin")
    };
    if head.list("if-none-match").any(|known| known == "*" || known.trim_start_matches("W/") == tag) {
        return (dress(Answer::empty(Status::NotModified)), None);
    }
    let described = |answer: Answer| {
        let media_type = if file.media_type.is_empty() { "application/octet-stream" } else { &file.media_type };
        dress(answer).with("Content-Type", media_type).with("Content-Disposition", disposition(file))
    };
    let of = |status, len| Answer { content: Content::Later(len), ..Answer::empty(status) };
    match range(head, file.size, &tag) {
        Range::All => {
            let part = Part { from: 0, len: file.size };
            (described(of(Status::Ok, file.size)), sent(head, part))
        }
        Range::Part(part) => {
            let said = format!("bytes {}-{}/{}", part.from, part.from + part.len - 1, file.size);
            (described(of(Status::PartialContent, part.len)).with("Content-Range", said), sent(head, part))
        }
        Range::None => {
            let answer = Answer::error(Status::RangeNotSatisfiable);
            (answer.with("Content-Range", format!("bytes */{}", file.size)), None)
        }
    }
}

fn sent(head: &Head, part: Part) -> Option<Part> {
    (head.method == Method::Get && part.len > 0).then_some(part)
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    All,
    Part(Part),
    None,
}

/// RFC 9110 section 14.2: one range of bytes; several, and units that are unknown, are answered with all.
fn range(head: &Head, size: u64, tag: &str) -> Range {
    let Some(said) = head.field("range").and_then(|said| said.strip_prefix("bytes=")) else { return Range::All };
    // Section 13.1.5.
    if head.field("if-range").is_some_and(|known| known != tag) || said.contains(',') {
        return Range::All;
    }
    let Some((from, to)) = said.trim().split_once('-') else { return Range::All };
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(from) || !is_number(to) || (from.is_empty() && to.is_empty()) {
        return Range::All;
    }
    // What is larger than any number of ours is behind every end.
    let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
    let (from, end) = match (from.is_empty(), to.is_empty()) {
        (true, _) => (size.saturating_sub(number(to)), size),
        (false, true) => (number(from), size),
        (false, false) => (number(from), number(to).saturating_add(1).min(size)),
    };
    match end.checked_sub(from) {
        Some(len) if len > 0 => Range::Part(Part { from, len }),
        // The last byte before the first is no range at all.
        None if from < size => Range::All,
        _ => Range::None,
    }
}

/// Shown in place where that is safe in any browser, else kept (RFC 6266).
fn disposition(file: &Stored) -> String {
    let shown = match file.media_type.split_once('/') {
        Some(("image", sub)) => !sub.contains("svg") && !sub.contains("xml"),
        Some(("audio" | "video", _)) => true,
        Some(("text", "plain")) => true,
        _ => false,
    };
    let how = if shown { "inline" } else { "attachment" };
    format!("{how}; filename*=UTF-8''{}", percent_encoded(&file.name, b""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "abcdefghijklmnopqrstuv-_";

    fn head(line: &str, fields: &str) -> Head {
        let text = format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        super::super::head::read(text.as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn a_slot_is_for_one_file_of_one_size_for_a_while() {
        let slot = Slot {
            id: ID.to_owned(),
            name: "a.jpg".to_owned(),
            size: 5,
            media_type: "image/jpeg".to_owned(),
            owner: "romeo@montague.example".to_owned(),
            expires_s: 400,
        };
        let (key, token) = ([7; 32], slot.token(&[7; 32]));
        let status = |path: &str, fields: &str, wall_ms: i64| {
            let fields = fields.replace("TOKEN", &token);
            accept(&head(&format!("PUT {path}"), &fields), &key, wall_ms + 300_000).map(|_| ())
        };
        let (path, sound) = (slot.path(), "Authorization: Bearer TOKEN\r\nContent-Length: 5\r\n");
        assert_eq!(status(&path, sound, 100_999), Ok(()));
        assert_eq!(status(&path, &format!("{sound}Content-Type: Image/JPEG;x=y\r\n"), 0), Ok(()));
        for (path, fields, wall_ms, expected) in [
            (path.as_str(), sound.to_owned(), 101_000, Status::Gone),
            (&path, sound.replace("Bearer", "Basic"), 0, Status::Forbidden),
            (&path, sound.replace("TOKEN", "TOKEN1"), 0, Status::Forbidden),
            (&path, "Content-Length: 5\r\n".to_owned(), 0, Status::Forbidden),
            (&path, sound.replace(": 5", ": 6"), 0, Status::ContentTooLarge),
            (&path, sound.replace(": 5", ": 4"), 0, Status::BadRequest),
            (&path, sound.replace("Content-Length: 5", "Transfer-Encoding: chunked"), 0, Status::LengthRequired),
            (&path, format!("{sound}Content-Type: text/html\r\n"), 0, Status::UnsupportedMediaType),
            ("/upload/x/a.jpg", sound.to_owned(), 0, Status::NotFound),
            (&path.replace("a.jpg", "b.jpg"), sound.to_owned(), 0, Status::Forbidden),
            (&path.replace("a.jpg", "..%2Fa.jpg"), sound.to_owned(), 0, Status::NotFound),
        ] {
            assert_eq!(status(path, &fields, wall_ms), Err(expected), "{path} {fields}");
        }
        let label = label(&slot);
        let stored = read_label(&[&label[..], b"12345"].concat(), label.len() as u64 + 5, 9).unwrap();
        assert_eq!((stored.media_type.as_str(), stored.name.as_str(), stored.size), ("image/jpeg", "a.jpg", 5));
        assert_eq!((stored.owner.as_str(), stored.granted_s), ("romeo@montague.example", 100));
        assert!((0..label.len()).all(|len| read_label(&label[..len], len as u64, 0).is_none()));
        let (name, owner, media_type) = ("a".repeat(128), format!("{0}@{0}", "a".repeat(1023)), "a".repeat(80));
        assert!(self::label(&Slot { name, owner, media_type, ..slot }).len() <= LABEL_BYTES_MAX);
    }

    #[test]
    fn parts_of_a_file() {
        let file = |media_type: &str| Stored {
            media_type: media_type.to_owned(),
            name: "\u{e4} b.svg".to_owned(),
            owner: "romeo@montague.example".to_owned(),
            granted_s: 900,
            start: 10,
            size: 100,
            stored_s: 1000,
        };
        let ask = |line: &str, fields: &str| answer(&head(line, fields), ID, &file("image/png"), 3600, 2_000_000);
        let field = |answer: &Answer, name: &str| {
            answer.fields.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let (whole, part) = ask("GET /", "");
        assert_eq!((whole.status, part), (Status::Ok, Some(Part { from: 0, len: 100 })));
        assert_eq!(field(&whole, "Content-Disposition"), "inline; filename*=UTF-8''%C3%A4%20b.svg");
        assert_eq!(field(&whole, "Cache-Control"), "private, max-age=2600, immutable");
        assert!(field(&whole, "Content-Security-Policy").contains("sandbox"));
        assert_eq!(ask("HEAD /", "").1, None);
        for (range, from, len) in
            [("0-0", 0, 1), ("10-19", 10, 10), ("90-", 90, 10), ("-7", 93, 7), ("50-999", 50, 50), ("-999", 0, 100)]
        {
            let (answer, part) = ask("GET /", &format!("Range: bytes={range}\r\n"));
            assert_eq!((answer.status, part), (Status::PartialContent, Some(Part { from, len })), "{range}");
            assert_eq!(answer.content, Content::Later(len));
            assert_eq!(field(&answer, "Content-Range"), format!("bytes {from}-{}/100", from + len - 1));
        }
        for range in ["100-", "100-200", "99999999999999999999-", "-0"] {
            let (answer, part) = ask("GET /", &format!("Range: bytes={range}\r\n"));
            assert_eq!((answer.status, part), (Status::RangeNotSatisfiable, None), "{range}");
            assert_eq!(field(&answer, "Content-Range"), "bytes */100");
        }
        for range in ["bytes=1-2,4-5", "lines=1-2", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-1"] {
            assert_eq!(ask("GET /", &format!("Range: {range}\r\n")).0.status, Status::Ok, "{range}");
        }
        let known = format!("Range: bytes=1-2\r\nIf-Range: \"{ID}\"\r\n");
        assert_eq!(ask("GET /", &known).0.status, Status::PartialContent);
        assert_eq!(ask("GET /", &known.replace("abc", "xyz")).0.status, Status::Ok);
        assert_eq!(ask("GET /", &format!("If-None-Match: \"x\", W/\"{ID}\"\r\n")).0.status, Status::NotModified);
        for kind in ["image/svg+xml", "text/html", "application/pdf", ""] {
            let (answer, _) = answer(&head("GET /", ""), ID, &file(kind), 3600, 0);
            assert!(field(&answer, "Content-Disposition").starts_with("attachment"), "{kind}");
        }
    }
}

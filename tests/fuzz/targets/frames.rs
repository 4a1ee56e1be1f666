//! The frame scanner and the reader: framing does not depend on how the bytes arrive, and whatever is framed is read
//! or refused. `tests/properties.rs` uses what is here, too.

use couplet::limits::Limits;
use couplet::xml::{FrameKind, Reader, ScanError, ScanLimits, Scanner, Template, ns, parse, write_attribute};

/// The kind and the bytes of each frame, and the error behind them.
pub type Frames = (Vec<(FrameKind, Vec<u8>)>, Option<ScanError>);

/// A scanner as a peer has it that has logged in.
pub fn scanner() -> Scanner {
    Scanner::new(ScanLimits::authenticated(&Limits::default()))
}

/// A reader and the template of a stream with that content namespace and a prefix.
pub fn reader_in(content_ns: &str) -> (Reader, Template) {
    let mut reader = Reader::new(&Limits::default());
    let mut header = b"<stream".to_vec();
    write_attribute("xmlns", content_ns, &mut header);
    write_attribute("xmlns:s", "u:s", &mut header);
    header.push(b'>');
    let template = reader.stream_header(&header).unwrap().template;
    (reader, template)
}

/// Frames of `bytes` that arrive in pieces of the given lengths, again and again, and the error behind them. White
/// space comes as it arrives, so that runs of it are joined here.
pub fn frames(mut scanner: Scanner, bytes: &[u8], pieces: &[usize]) -> Frames {
    let mut found: Vec<(FrameKind, Vec<u8>)> = Vec::new();
    let (mut buf, mut rest) = (Vec::new(), bytes);
    for len in pieces.iter().cycle() {
        let (piece, behind) = rest.split_at((*len).min(rest.len()));
        buf.extend_from_slice(piece);
        rest = behind;
        loop {
            match scanner.scan(&buf) {
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
                Ok(Some(frame)) => {
                    assert!((1..=buf.len()).contains(&frame.len));
                    let bytes = buf.drain(..frame.len);
                    match found.last_mut() {
                        Some((FrameKind::Whitespace, last)) if frame.kind == FrameKind::Whitespace => {
                            last.extend(bytes)
                        }
                        _ => found.push((frame.kind, bytes.collect())),
                    }
                }
            }
        }
        if rest.is_empty() {
            break;
        }
    }
    (found, None)
}

/// Frames of `bytes` as a whole, which do not depend on pieces.
pub fn same_in_pieces(scanner: &Scanner, bytes: &[u8], pieces: &[usize]) -> Frames {
    let whole = frames(scanner.clone(), bytes, &[usize::MAX]);
    assert_eq!(frames(scanner.clone(), bytes, pieces), whole, "in pieces of {pieces:?}");
    assert_eq!(frames(scanner.clone(), bytes, &[1]), whole, "byte by byte");
    assert!(whole.0.iter().map(|(_, frame)| frame.len()).sum::<usize>() <= bytes.len());
    whole
}

/// The reader finds the end of an element where the scanner has put it, or refuses it. What it reads is read again
/// when it was written.
pub fn read_or_refused(frames: &Frames) {
    let (mut reader, mut template) = reader_in(ns::CLIENT);
    for (kind, frame) in &frames.0 {
        match kind {
            FrameKind::StreamOpen => {
                headers_agree(&mut reader, frame);
                if let Ok(header) = reader.stream_header(frame) {
                    template = header.template;
                }
            }
            FrameKind::Element => {
                if let Ok(element) = reader.element(&template, frame) {
                    let (mut plain_reader, plain) = reader_in(ns::CLIENT);
                    let mut written = Vec::new();
                    element.root().write(ns::CLIENT, &mut written);
                    assert_eq!(plain_reader.element(&plain, &written).as_ref(), Ok(&element));
                }
                readers_agree(&mut reader, &template, frame);
            }
            FrameKind::Declaration | FrameKind::StreamClose | FrameKind::Whitespace => {}
        }
    }
}

/// Whatever the quick reader accepts, the parser accepts and sees in the same way.
pub fn readers_agree(reader: &mut Reader, template: &Template, frame: &[u8]) {
    if let Some(element) = reader.plain_element(template, frame) {
        assert_eq!(reader.parsed_element(template, frame), Ok(element));
    }
}

/// The same of the start tag of a stream.
pub fn headers_agree(reader: &mut Reader, frame: &[u8]) {
    if let Some(header) = reader.plain_header(frame) {
        assert_eq!(reader.parsed_header(frame), Ok(header));
    }
}

/// The first two bytes say how the others arrive, and with which bounds.
pub fn run(data: &[u8]) {
    let Some((&[first, second], stream)) = data.split_first_chunk() else { return };
    let limits = match first & 1 {
        0 => ScanLimits::authenticated(&Limits::default()),
        _ => ScanLimits {
            bytes_max: 120,
            depth_max: 3,
            attributes_max: 3,
            namespaces_max: 2,
            namespace_bytes_max: 8,
            nodes_max: 9,
        },
    };
    let pieces = [usize::from(first >> 1) % 40 + 1, usize::from(second) % 64 + 1];
    let found = same_in_pieces(&Scanner::new(limits), stream, &pieces);
    read_or_refused(&found);
    // What no scanner has seen.
    let (mut reader, template) = reader_in(ns::SERVER);
    readers_agree(&mut reader, &template, stream);
    headers_agree(&mut reader, stream);
    let _ = reader.element(&template, stream);
    let _ = reader.stream_header(stream);
    if let Ok(element) = str::from_utf8(stream).map_err(drop).and_then(|text| parse(text).map_err(drop)) {
        assert_eq!(parse(&element.root().to_xml()), Ok(element));
    }
}

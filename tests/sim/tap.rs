//! Reads what the server writes, as a client would. `tests/fuzz` uses it, too.

use couplet::limits::Limits;
use couplet::xml::{Element, FrameKind, Reader, ScanLimits, Scanner, Template, ns};
use std::rc::Rc;

/// What the server said at once.
#[derive(Clone, Debug)]
pub enum Frame {
    Header,
    Element(Rc<Element>),
    End,
}

/// The other end of a connection.
pub struct Tap {
    scanner: Scanner,
    template: Option<Template>,
}

impl Tap {
    pub fn new() -> Self {
        Self { scanner: Scanner::new(ScanLimits::authenticated(&Limits::default())), template: None }
    }

    /// The server begins a new stream.
    pub fn reset(&mut self) {
        self.scanner.reset();
        self.template = None;
    }

    /// Frames and where they end. The engine writes whole frames.
    pub fn read(&mut self, bytes: &[u8], reader: &mut Reader) -> Result<Vec<(usize, Frame)>, String> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let text = || String::from_utf8_lossy(rest).into_owned();
            let frame = self.scanner.scan(rest).map_err(|e| format!("{e} in: {}", text()))?;
            let Some(frame) = frame else { return Err(format!("not a whole frame: {}", text())) };
            let bytes = &rest[..frame.len];
            at += frame.len;
            let frame = match frame.kind {
                FrameKind::Whitespace | FrameKind::Declaration => continue,
                FrameKind::StreamClose => Frame::End,
                FrameKind::StreamOpen => {
                    let header = reader.stream_header(bytes).map_err(|e| format!("{e} in: {}", text()))?;
                    self.template = Some(header.template);
                    Frame::Header
                }
                FrameKind::Element => {
                    let template = self.template.as_ref().ok_or_else(|| format!("no header before: {}", text()))?;
                    let element = reader.element(template, bytes).map_err(|e| format!("{e} in: {}", text()))?;
                    let root = element.root();
                    if root.is(ns::SASL, "success") || root.is(ns::TLS, "proceed") {
                        self.reset();
                    }
                    Frame::Element(Rc::new(element))
                }
            };
            found.push((at, frame));
        }
        Ok(found)
    }
}

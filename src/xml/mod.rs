//! XML: framing, reading, the arena element, writing, namespaces. Knows nothing of what a stanza means.

mod element;
mod markup;
pub mod ns;
mod plain;
mod read;
mod scan;
mod write;

pub use element::{Attribute, Builder, Content, Element, ElementRef, write_attribute};
pub use read::{ReadError, Reader, StreamHeader, Template, parse};
pub use scan::{Frame, FrameKind, ScanError, ScanLimits, Scanner};
pub use write::{escape_attribute, escape_text};

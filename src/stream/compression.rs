//! Stream compression (XEP-0138) with the one method that everybody has, zlib: its elements, and the codec
//! of one stream, without I/O.
//!
//! What a peer sends is inflated a piece at a time, and only when what came out of the last one was handled: so a bomb
//! is never in memory, and what comes out counts for the peer's rate and for the limits of a stanza like any other
//! bytes. A stream that grows more than [`Limits::compression_ratio_max`] says ends.
//!
//! A stream that is compressed has 32 KiB of window for what the peer sends, unless the peer's header asks for less,
//! 11 kB of state, and 8 kB for what it is sent ([`Deflater`]).

use miniz_oxide::inflate::TINFLStatus as Status;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags::TINFL_FLAG_HAS_MORE_INPUT};

use super::deflate::Deflater;
use crate::budget::allocated;
use crate::limits::Limits;
use crate::xml::{Builder, Element, ElementRef, ns, write_attribute};
use zeroize::Zeroize;

/// The name of the method (RFC 1950).
pub(super) const METHOD: &str = "zlib";

/// What comes out before the ratio counts.
const RATIO_FREE_BYTES: u64 = 65_536;

/// Of a smaller window the pieces would be too small.
const WINDOW_BYTES_MIN: usize = 4096;

/// What a client asks for: the names of methods, in its order (section 3).
pub(super) fn read(root: ElementRef<'_>) -> Option<Vec<String>> {
    let is_method = |child: &ElementRef<'_>| child.is(ns::COMPRESS, "method");
    root.is(ns::COMPRESS, "compress").then(|| root.children().filter(is_method).map(|method| method.text()).collect())
}

/// The condition of what cannot be done for other reasons than the method.
pub(super) const SETUP_FAILED: &str = "setup-failed";

/// Why a request for those methods is refused, if it is.
pub(super) fn refusal(methods: &[String], is_offered: bool) -> Option<&'static str> {
    let is_known = methods.iter().any(|method| method.trim() == METHOD);
    match is_offered {
        true if is_known => None,
        true if !methods.is_empty() => Some("unsupported-method"),
        _ => Some(SETUP_FAILED),
    }
}

/// Refuses.
pub(super) fn write_failure(why: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"<failure");
    write_attribute("xmlns", ns::COMPRESS, out);
    out.extend_from_slice(format!("><{why}/></failure>").as_bytes());
}

/// Everything behind this is compressed.
pub(super) fn write_compressed(out: &mut Vec<u8>) {
    out.extend_from_slice(b"<compressed");
    write_attribute("xmlns", ns::COMPRESS, out);
    out.extend_from_slice(b"/>");
}

/// The feature.
pub(super) fn offer() -> Element {
    let mut b = Builder::new(ns::COMPRESS_FEATURE, "compression");
    b.leaf(ns::COMPRESS_FEATURE, "method", METHOD);
    b.finish()
}

/// Why nothing more comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// It is not what the method makes.
    Corrupt,
    /// More would come out than may.
    TooMuch,
}

/// Both directions of one stream.
pub struct Codec {
    deflater: Deflater,
    inflater: Box<DecompressorOxide>,
    /// What has come out last, and all that the peer may refer to. Empty before its header.
    window: Vec<u8>,
    /// Where the next byte comes in it.
    at: usize,
    /// What has come and was not taken in; the header, until it is whole.
    input: Vec<u8>,
    /// All that was taken in, and all that came out of it.
    taken: u64,
    made: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It waits for input.
    Hungry,
    /// There is more to come out.
    Full,
    /// The peer has ended it.
    Ended,
    Broken,
}

impl Codec {
    /// That of a stream that begins.
    #[allow(clippy::new_without_default, reason = "there is nothing about it that goes without saying")]
    pub fn new() -> Self {
        Self {
            deflater: Deflater::new(),
            inflater: Box::default(),
            window: Vec::new(),
            at: 0,
            input: Vec::new(),
            taken: 0,
            made: 0,
            state: State::Hungry,
        }
    }

    /// Takes what has come. Nothing happens to it before [`Codec::next`].
    pub fn feed(&mut self, data: &[u8]) {
        if self.state != State::Broken {
            self.input.extend_from_slice(data);
        }
    }

    /// True when [`Codec::next`] may have something.
    pub fn has_more(&self) -> bool {
        !self.input.is_empty() || self.state == State::Full
    }

    /// The next piece that comes out, of at most 32 KiB; none when more must come in.
    ///
    /// # Errors
    /// The stream is broken, and nothing more comes out.
    pub fn next(&mut self, limits: &Limits) -> Result<Option<&[u8]>, Broken> {
        match self.inflate(limits) {
            Ok((from, to)) if from == to => Ok(None),
            Ok((from, to)) => Ok(self.window.get(from..to)),
            Err(broken) => {
                (self.state, self.input) = (State::Broken, Vec::new());
                Err(broken)
            }
        }
    }

    fn inflate(&mut self, limits: &Limits) -> Result<(usize, usize), Broken> {
        if self.state == State::Broken {
            return Err(Broken::Corrupt);
        }
        if self.window.is_empty() && !self.header()? {
            return Ok((0, 0));
        }
        while self.has_more() {
            if matches!(self.state, State::Ended | State::Broken) {
                return Err(Broken::Corrupt);
            }
            let from = self.at;
            let (status, taken, made) =
                decompress(&mut self.inflater, &self.input, &mut self.window, from, TINFL_FLAG_HAS_MORE_INPUT);
            self.input.drain(..taken);
            if self.input.is_empty() {
                self.input = Vec::new();
            }
            (self.taken, self.made) = (self.taken + taken as u64, self.made + made as u64);
            // A power of two.
            self.at = (from + made) & (self.window.len() - 1);
            self.state = match status {
                Status::NeedsMoreInput => State::Hungry,
                Status::HasMoreOutput => State::Full,
                Status::Done => State::Ended,
                _ => return Err(Broken::Corrupt),
            };
            if self.made > RATIO_FREE_BYTES + self.taken * u64::from(limits.compression_ratio_max) {
                return Err(Broken::TooMuch);
            }
            if made > 0 {
                return Ok((from, from + made));
            }
            if taken == 0 {
                break;
            }
        }
        Ok((0, 0))
    }

    /// Reads the two bytes of zlib's header (RFC 1950 section 2.2), which say how large the window must be.
    fn header(&mut self) -> Result<bool, Broken> {
        let Some([method, flags]) = self.input.first_chunk::<2>().copied() else { return Ok(false) };
        let (window_bits, has_dictionary) = (8 + (method >> 4), flags & 0x20 != 0);
        let is_whole = u16::from_be_bytes([method, flags]).is_multiple_of(31);
        if method & 0x0f != 8 || window_bits > 15 || has_dictionary || !is_whole {
            return Err(Broken::Corrupt);
        }
        self.input.drain(..2);
        self.window = vec![0; WINDOW_BYTES_MIN.max(1 << window_bits)];
        Ok(true)
    }

    /// What the peer must get to have these bytes, all of them at once.
    pub fn deflate(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.deflater.deflate(bytes)
    }

    /// Bytes that it holds, its own among them.
    pub fn held_bytes(&self) -> usize {
        allocated(size_of::<Self>())
            + self.deflater.heap_bytes()
            + allocated(size_of::<DecompressorOxide>())
            + allocated(self.window.capacity())
            + allocated(self.input.capacity())
    }
}

impl Drop for Codec {
    /// A new password may have gone through it.
    fn drop(&mut self) {
        self.window.zeroize();
        self.input.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inflated(codec: &mut Codec, bytes: &[u8]) -> Result<Vec<u8>, Broken> {
        let (limits, mut out) = (Limits::default(), Vec::new());
        codec.feed(bytes);
        while let Some(piece) = codec.next(&limits)? {
            out.extend_from_slice(piece);
        }
        Ok(out)
    }

    /// Texts that stanzas look like, and others.
    fn texts() -> Vec<Vec<u8>> {
        let chat = |n: usize| {
            format!(
                "<message to='romeo@localhost/{n}' type='chat' id='{n:x}'><body>What's in a name? {n}</body></message>"
            )
        };
        let mut noise = 1u32;
        let mut random = |len: usize| {
            let mut byte = || {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (noise >> 24) as u8
            };
            (0..len).map(|_| byte()).collect::<Vec<u8>>()
        };
        let mut all: Vec<Vec<u8>> = (0..300).map(|n| chat(n).into_bytes()).collect();
        all.extend([vec![], vec![b'a'; 100_000], random(70_000), "Größe, 大きさ".repeat(50).into_bytes(), random(3)]);
        all.extend((0..20).map(|n| chat(n).repeat(40).into_bytes()));
        all
    }

    #[test]
    fn each_write_comes_out_whole_at_once() {
        let (mut ours, mut theirs) = (Codec::new(), Codec::new());
        let (mut before, mut after) = (0, 0);
        for text in texts() {
            let bytes = ours.deflate(&text);
            // The other half comes later, as from a socket.
            let (front, back) = bytes.split_at(bytes.len() / 2);
            let mut out = inflated(&mut theirs, front).unwrap();
            out.extend(inflated(&mut theirs, back).unwrap());
            assert_eq!(out, text);
            (before, after) = (before + text.len(), after + bytes.len());
        }
        assert!(theirs.window.len() == 4096 && after * 2 < before, "{after} of {before}");
        assert!(ours.deflater.heap_bytes() < 8000, "{}", ours.deflater.heap_bytes());
    }

    #[test]
    fn chats_become_a_third() {
        let mut codec = Codec::new();
        let chats: Vec<Vec<u8>> = texts().into_iter().take(300).collect();
        let small: usize = chats.iter().map(|text| codec.deflate(text).len()).sum();
        let large: usize = chats.iter().map(Vec::len).sum();
        assert!(small * 3 < large, "{small} of {large}");
    }

    #[test]
    fn a_bomb_ends_before_it_is_in_memory() {
        let mut bomb = Codec::new();
        let bytes = bomb.deflate(&vec![b' '; 4 << 20]);
        assert!(bytes.len() < 40_000, "{}", bytes.len());
        let mut codec = Codec::new();
        codec.feed(&bytes);
        let (mut came_out, limits) = (0, Limits::default());
        let end = loop {
            match codec.next(&limits) {
                Ok(Some(piece)) => came_out += piece.len(),
                other => break other.map(|_| ()),
            }
            assert!(codec.held_bytes() < 100_000, "{}", codec.held_bytes());
        };
        assert_eq!(end, Err(Broken::TooMuch));
        assert!((60_000..4 << 20).contains(&came_out), "{came_out}");
        assert_eq!(codec.next(&limits), Err(Broken::Corrupt));
    }

    #[test]
    fn so_many_bytes_may_come_out_of_one() {
        let text = vec![b'a'; 400_000];
        let bytes = Codec::new().deflate(&text);
        let ratio = (text.len() - RATIO_FREE_BYTES as usize).div_ceil(bytes.len()) as u32;
        let end = |compression_ratio_max| {
            let (limits, mut codec) = (Limits { compression_ratio_max, ..Limits::default() }, Codec::new());
            codec.feed(&bytes);
            loop {
                match codec.next(&limits) {
                    Ok(Some(_)) => {}
                    other => return other.map(|_| ()),
                }
            }
        };
        // What has come in grows as what comes out does, but for what a piece is ahead.
        assert_eq!(end(ratio + ratio / 4), Ok(()));
        assert_eq!(end(ratio - 1), Err(Broken::TooMuch));
    }

    #[test]
    fn what_is_no_zlib_is_broken() {
        for wrong in [&b"<stream:stream"[..], &[0x78, 0x9d, 0], &[0x78, 0xbb], &[0x88, 0x1c], &[0x78, 0x9c, 0xff]] {
            assert_eq!(inflated(&mut Codec::new(), wrong), Err(Broken::Corrupt), "{wrong:?}");
        }
        let mut codec = Codec::new();
        assert_eq!(inflated(&mut codec, &[0x78]), Ok(vec![]));
        // A last block, and something behind it.
        assert_eq!(inflated(&mut codec, &[0x9c, 3, 0]), Ok(vec![]));
        assert_eq!(inflated(&mut codec, &[0]), Err(Broken::Corrupt));
    }
}

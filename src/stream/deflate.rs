//! Compression by deflate (RFC 1951) in zlib's container (RFC 1950), made for a great many streams that say little: a
//! stream has eight kilobytes of memory between two writes, where zlib takes 256 by default.
//!
//! Each write is one block of the fixed codes (RFC 1951 section 3.2.6), which need no table, and an empty block of
//! bytes behind it that brings it to its end (a sync flush, as zlib calls that). What repeats is looked for among the
//! last 4 KiB, at one place for each hash of four bytes.

use crate::budget::allocated;

/// What is looked through: `CINFO` in the header says as much (RFC 1950 section 2.2).
const WINDOW_BYTES: usize = 4096;

/// `CM` 8, `CINFO` 4, no dictionary, the fastest algorithm, and what makes it a multiple of 31.
const HEADER: [u8; 2] = [0x48, 0x0d];

/// Shorter ones would save nothing.
const MATCH_MIN: usize = 4;
const MATCH_MAX: usize = 258;

const HASH_BITS: u32 = 10;

/// Base of each length code from 257 on, and bits that follow it (section 3.2.5).
const LENGTHS: [(u16, u8); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];

/// The same for distances, as far as the window goes.
const DISTANCES: [(u16, u8); 24] = [
    (1, 0),
    (2, 0),
    (3, 0),
    (4, 0),
    (5, 1),
    (7, 1),
    (9, 2),
    (13, 2),
    (17, 3),
    (25, 3),
    (33, 4),
    (49, 4),
    (65, 5),
    (97, 5),
    (129, 6),
    (193, 6),
    (257, 7),
    (385, 7),
    (513, 8),
    (769, 8),
    (1025, 9),
    (1537, 9),
    (2049, 10),
    (3073, 10),
];

/// One direction of one stream.
pub struct Deflater {
    /// The last bytes that were written.
    history: Vec<u8>,
    /// Where four bytes of each hash were last, modulo 2^16.
    heads: Box<[u16; 1 << HASH_BITS]>,
    /// Bytes that were written, modulo 2^16.
    written: u16,
    begun: bool,
}

impl Deflater {
    pub fn new() -> Self {
        Self { history: Vec::new(), heads: Box::new([0; 1 << HASH_BITS]), written: 0, begun: false }
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        allocated(self.history.capacity()) + allocated(size_of_val(&*self.heads))
    }

    /// What the peer must get to have these bytes, all of them.
    pub fn deflate(&mut self, data: &[u8]) -> Vec<u8> {
        let mut bits = Bits { out: Vec::with_capacity(data.len() / 2 + 16), held: 0, count: 0 };
        if !std::mem::replace(&mut self.begun, true) {
            bits.out.extend_from_slice(&HEADER);
        }
        let start = self.history.len();
        let mut text = std::mem::take(&mut self.history);
        text.extend_from_slice(data);
        bits.put(0b010, 3);
        let mut at = start;
        while at < text.len() {
            let place = self.written.wrapping_add((at - start) as u16);
            let length = match self.find(&text, at, place) {
                Some((length, distance)) => {
                    bits.put_match(length, distance);
                    length
                }
                None => {
                    bits.put_literal(text.get(at).copied().unwrap_or_default().into());
                    1
                }
            };
            for step in 0..length {
                if let Some(hash) = hash(&text, at + step) {
                    self.heads[hash] = place.wrapping_add(step as u16);
                }
            }
            at += length;
        }
        bits.put_literal(256);
        bits.put(0, 3);
        bits.align();
        bits.out.extend_from_slice(&[0, 0, 0xff, 0xff]);
        self.written = self.written.wrapping_add(data.len() as u16);
        // No more than is looked through, and no spare room.
        self.history = text.split_off(text.len().saturating_sub(WINDOW_BYTES));
        self.history.shrink_to_fit();
        bits.out
    }

    /// What was written before that begins as what follows: its length and how far back it is.
    fn find(&self, text: &[u8], at: usize, place: u16) -> Option<(usize, usize)> {
        let head = self.heads[hash(text, at)?];
        let distance = usize::from(place.wrapping_sub(head));
        let before = at.checked_sub(distance).filter(|_| (1..=WINDOW_BYTES).contains(&distance))?;
        let (old, new) = (text.get(before..)?, text.get(at..)?);
        let length = old.iter().zip(new).take(MATCH_MAX).take_while(|(a, b)| a == b).count();
        (length >= MATCH_MIN).then_some((length, distance))
    }
}

fn hash(text: &[u8], at: usize) -> Option<usize> {
    let four = text.get(at..)?.first_chunk::<4>()?;
    Some((u32::from_le_bytes(*four).wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize)
}

/// Bits, the lowest first (section 3.1.1).
struct Bits {
    out: Vec<u8>,
    held: u64,
    count: u32,
}

impl Bits {
    fn put(&mut self, bits: u32, count: u32) {
        self.held |= u64::from(bits) << self.count;
        self.count += count;
        while self.count >= 8 {
            self.out.push(self.held as u8);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    /// Codes begin with their highest bit.
    fn put_code(&mut self, code: u32, count: u32) {
        self.put(code.reverse_bits() >> (32 - count), count);
    }

    fn put_literal(&mut self, symbol: u32) {
        match symbol {
            0..144 => self.put_code(0x30 + symbol, 8),
            144..256 => self.put_code(0x190 + symbol - 144, 9),
            256..280 => self.put_code(symbol - 256, 7),
            _ => self.put_code(0xc0 + symbol - 280, 8),
        }
    }

    fn put_match(&mut self, length: usize, distance: usize) {
        let (code, rest, extra) = row(&LENGTHS, length);
        self.put_literal(257 + code);
        self.put(rest, extra);
        let (code, rest, extra) = row(&DISTANCES, distance);
        self.put_code(code, 5);
        self.put(rest, extra);
    }

    fn align(&mut self) {
        if self.count > 0 {
            self.put(0, 8 - self.count);
        }
    }
}

/// The last row that begins at or before a value: its number, what remains, and in how many bits.
fn row(table: &[(u16, u8)], value: usize) -> (u32, u32, u32) {
    let at = table.partition_point(|(base, _)| usize::from(*base) <= value).saturating_sub(1);
    let (base, extra) = table.get(at).copied().unwrap_or_default();
    (at as u32, (value - usize::from(base)) as u32, extra.into())
}

//! Archive ids: 44 bits of milliseconds since 1970 and 36 bits of chance, so that they sort by time and cannot be
//! guessed (XEP-0313 section 3). They only grow: within a millisecond, or while the clock goes back, the next is the
//! last and a little more. What a crash takes away takes its ids with it: whatever comes in the same millisecond has
//! other bits.

use crate::budget::allocated;
use crate::clock::Entropy;
use std::fmt;

/// Bits that are no time.
const CHANCE_BITS: u32 = 36;

/// How far the next of a millisecond is from the last at most: room for 8000 of them before the time itself grows.
const STEP_BITS: u32 = 24;

/// Characters of the text.
const CHARS: usize = 16;

/// In the order of ASCII.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

/// Bytes of the key.
pub const KEY_BYTES: usize = 10;

/// The id of a message in its archive: a number of 80 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(u128);

impl Id {
    /// Behind all.
    pub const END: Self = Self(1 << 80);

    /// The next behind `last`, at a time in milliseconds since 1970.
    pub fn next(last: Self, wall_ms: u64, chance: u64) -> Self {
        let fresh = Self::at(wall_ms);
        if fresh.0 > last.0 {
            return Self(fresh.0 | u128::from(chance & ((1 << CHANCE_BITS) - 1)));
        }
        Self(last.0 + 1 + u128::from(chance & ((1 << STEP_BITS) - 1)))
    }

    /// The first that a moment could have, in milliseconds since 1970.
    pub fn at(wall_ms: u64) -> Self {
        Self(u128::from(wall_ms.min((1 << 44) - 1)) << CHANCE_BITS)
    }

    /// The one behind it.
    #[must_use]
    pub fn following(self) -> Self {
        Self(self.0 + 1)
    }

    /// When it was given, in milliseconds since 1970.
    pub fn wall_ms(self) -> u64 {
        (self.0 >> CHANCE_BITS) as u64
    }

    /// As a part of keys, in the order of the ids. [`Id::END`] is behind all keys and has none.
    pub fn key(self) -> [u8; KEY_BYTES] {
        let bytes = self.0.to_be_bytes();
        let mut key = [0; KEY_BYTES];
        key.copy_from_slice(&bytes[bytes.len() - KEY_BYTES..]);
        key
    }

    /// From what [`Id::key`] made.
    pub fn from_key(key: &[u8]) -> Option<Self> {
        let key: [u8; KEY_BYTES] = key.try_into().ok()?;
        Some(Self(key.iter().fold(0, |id, byte| id << 8 | u128::from(*byte))))
    }

    /// From its text.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != CHARS {
            return None;
        }
        let digit = |c: u8| ALPHABET.iter().position(|a| *a == c);
        text.bytes().try_fold(0, |id, c| Some(id << 5 | digit(c)? as u128)).map(Self)
    }
}

/// Sixteen characters, in the order of the ids.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; CHARS];
        for (i, c) in text.iter_mut().rev().enumerate() {
            *c = ALPHABET[(self.0 >> (5 * i)) as usize & 31];
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// Chance in portions: asking the system for each id would cost a call.
#[derive(Debug, Default)]
pub struct Chance {
    pool: Vec<u8>,
}

impl Chance {
    /// Bytes that one id takes, and that are asked for at once.
    const EACH: usize = 5;
    const PORTION: usize = 64 * Self::EACH;

    /// Bytes of the heap that it takes.
    pub fn held_bytes(&self) -> usize {
        allocated(self.pool.capacity())
    }

    /// At least 36 bits.
    pub fn draw(&mut self, entropy: &mut dyn Entropy) -> u64 {
        if self.pool.len() < Self::EACH {
            self.pool.resize(Self::PORTION, 0);
            entropy.fill(&mut self.pool);
        }
        let left = self.pool.len() - Self::EACH;
        self.pool.drain(left..).fold(0, |bits, byte| bits << 8 | u64::from(byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_whatever_the_clock_does_and_sort_as_text_and_as_key() {
        let mut last = Id::default();
        let mut before = (String::new(), [0; KEY_BYTES]);
        for (ms, chance) in [(5, 7), (5, u64::MAX), (5, 0), (4, 1), (0, 9), (6, 0), (1_795_305_540_000, u64::MAX)] {
            let next = Id::next(last, ms, chance);
            assert!(next > last);
            let now = (next.to_string(), next.key());
            assert!(now.0 > before.0 && now.1 > before.1, "{next}");
            assert_eq!((Id::parse(&now.0), Id::from_key(&now.1)), (Some(next), Some(next)));
            (last, before) = (next, now);
        }
        assert_eq!(last.wall_ms(), 1_795_305_540_000);
        assert_eq!(last.to_string().len(), CHARS);
    }

    #[test]
    fn what_is_no_id_is_none() {
        for text in ["", "0", "000000000000000w", "00000000000000000", "000000000000000A", "00000000000000\u{e9}"] {
            assert_eq!(Id::parse(text), None, "{text}");
        }
        assert_eq!(Id::from_key(&[0; 9]), None);
    }

    #[test]
    fn two_that_nobody_knows_of_each_other_differ() {
        struct Count(u8);
        impl Entropy for Count {
            fn fill(&mut self, out: &mut [u8]) {
                out.iter_mut().for_each(|b| {
                    self.0 = self.0.wrapping_add(1);
                    *b = self.0;
                });
            }
        }
        let (mut chance, mut entropy) = (Chance::default(), Count(0));
        let drawn: Vec<u64> = (0..70).map(|_| chance.draw(&mut entropy)).collect();
        assert!(drawn.iter().all(|a| drawn.iter().filter(|b| *b == a).count() == 1));
        assert_ne!(Id::next(Id::default(), 9, drawn[0]), Id::next(Id::default(), 9, drawn[1]));
    }
}

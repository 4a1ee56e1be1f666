//! How a value becomes bytes: a version byte, then its fields one after the other, with nothing between them.
//!
//! Numbers are varints (7 bits a byte, low bits first), texts, bytes and lists carry their length in front. Every form
//! says itself where it ends, so records nest. Reading is total: any bytes give a value or `None`, never a panic, and
//! nothing is reserved for a length that the input could not hold.

use crate::fault::{Fault, armed};
use crate::jid::Jid;
use std::rc::Rc;

/// Something that has a form in bytes: a field, or a whole record (see [`record!`](crate::record)).
pub trait Record: Sized {
    /// Appends the value.
    fn encode(&self, out: &mut Encoder);

    /// Takes the value from the front; `None` when the bytes are none of ours.
    fn decode(d: &mut Decoder<'_>) -> Option<Self>;

    /// Appends the members of a list, without their number. `u8` does it in one copy.
    fn encode_all(list: &[Self], out: &mut Encoder) {
        for member in list {
            member.encode(out);
        }
    }

    /// Takes `n` members of a list; the caller has seen to it that `n` is at most the number of bytes left.
    fn decode_all(n: usize, d: &mut Decoder<'_>) -> Option<Vec<Self>> {
        // A member takes at least one byte; what it takes in memory is reserved only as far as the input reaches.
        let mut list = Vec::with_capacity(n.min(d.left() / size_of::<Self>().max(1)));
        for _ in 0..n {
            list.push(Self::decode(d)?);
        }
        Some(list)
    }
}

/// Reads a value from bytes that hold it and nothing else.
pub fn from_bytes<R: Record>(bytes: &[u8]) -> Option<R> {
    let mut d = Decoder::new(bytes);
    let value = R::decode(&mut d)?;
    (d.left() == 0).then_some(value)
}

/// The bytes of a value.
pub fn to_bytes<R: Record>(value: &R) -> Vec<u8> {
    let mut out = Encoder::new();
    value.encode(&mut out);
    out.bytes
}

/// Where a value is written to.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was written so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets what was written and keeps the memory, unless a large value has made it large.
    pub fn clear(&mut self) {
        const KEPT_BYTES_MAX: usize = 4096;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
    }

    /// One byte as it is.
    pub fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// A number: one byte up to 127, ten at most.
    pub fn number(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.bytes.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.bytes.push(n as u8);
    }

    /// Length and bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    /// Length and text.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Any value that has a form.
    pub fn put<R: Record>(&mut self, value: &R) {
        value.encode(self);
    }
}

/// Where a value is read from.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Reads from the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not yet read.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// One byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// A number; `None` when it has more than 64 bits or bytes that add nothing.
    pub fn number(&mut self) -> Option<u64> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits || (byte == 0 && shift > 0 && !armed(Fault::NumberPadded)) {
                return None;
            }
            n |= bits << shift;
            if byte < 0x80 {
                return Some(n);
            }
        }
        None
    }

    /// A length, checked against the bytes that are left.
    pub fn length(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok().filter(|n| *n <= self.rest.len())
    }

    /// `n` bytes as they are.
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(taken)
    }

    /// Length and bytes.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let n = self.length()?;
        self.take(n)
    }

    /// Length and text.
    pub fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// Any value that has a form.
    pub fn get<R: Record>(&mut self) -> Option<R> {
        R::decode(self)
    }

    /// The version byte, when it is `version`.
    pub fn version(&mut self, version: u8) -> Option<()> {
        (self.byte()? == version).then_some(())
    }
}

impl Record for u8 {
    fn encode(&self, out: &mut Encoder) {
        out.byte(*self);
    }

    fn decode(d: &mut Decoder<'_>) -> Option<Self> {
        d.byte()
    }

    fn encode_all(list: &[Self], out: &mut Encoder) {
        out.bytes.extend_from_slice(list);
    }

    fn decode_all(n: usize, d: &mut Decoder<'_>) -> Option<Vec<Self>> {
        d.take(n).map(<[u8]>::to_vec)
    }
}

macro_rules! numbers {
    ($($number:ty)*) => { $(
        impl Record for $number {
            fn encode(&self, out: &mut Encoder) {
                out.number(u64::from(*self));
            }

            fn decode(d: &mut Decoder<'_>) -> Option<Self> {
                d.number()?.try_into().ok()
            }
        }
    )* };
}

numbers! { u16 u32 u64 }

impl Record for bool {
    fn encode(&self, out: &mut Encoder) {
        out.byte(u8::from(*self));
    }

    fn decode(d: &mut Decoder<'_>) -> Option<Self> {
        match d.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

macro_rules! texts {
    ($($text:ty)*) => { $(
        impl Record for $text {
            fn encode(&self, out: &mut Encoder) {
                out.text(self);
            }

            fn decode(d: &mut Decoder<'_>) -> Option<Self> {
                d.text().map(Into::into)
            }
        }
    )* };
}

texts! { String Box<str> Rc<str> }

impl Record for Jid {
    fn encode(&self, out: &mut Encoder) {
        out.text(self.as_str());
    }

    fn decode(d: &mut Decoder<'_>) -> Option<Self> {
        // As it was written, prepared: each value has one form.
        let text = d.text()?;
        Jid::parse(text).ok().filter(|jid| jid.as_str() == text)
    }
}

impl<R: Record> Record for Option<R> {
    fn encode(&self, out: &mut Encoder) {
        self.is_some().encode(out);
        if let Some(value) = self {
            value.encode(out);
        }
    }

    fn decode(d: &mut Decoder<'_>) -> Option<Self> {
        if bool::decode(d)? { R::decode(d).map(Some) } else { Some(None) }
    }
}

impl<R: Record> Record for Vec<R> {
    fn encode(&self, out: &mut Encoder) {
        out.number(self.len() as u64);
        R::encode_all(self, out);
    }

    fn decode(d: &mut Decoder<'_>) -> Option<Self> {
        let n = d.length()?;
        R::decode_all(n, d)
    }
}

impl<A: Record, B: Record> Record for (A, B) {
    fn encode(&self, out: &mut Encoder) {
        self.0.encode(out);
        self.1.encode(out);
    }

    fn decode(d: &mut Decoder<'_>) -> Option<Self> {
        Some((A::decode(d)?, B::decode(d)?))
    }
}

/// Defines records: structs whose form is a version byte (1) and their fields in order, and enums without data whose
/// form is the one byte that is written beside each name.
///
/// ```
/// couplet::record! {
///     /// What a contact has asked for.
///     pub enum Ask { Nothing = 0, Subscribe = 1 }
///     /// A contact.
///     pub struct Contact {
///         /// What the user calls it.
///         pub name: String,
///         pub groups: Vec<String>,
///         pub ask: Ask,
///     }
/// }
/// let contact = Contact { name: "Juliet".into(), groups: vec![], ask: Ask::Subscribe };
/// let bytes = couplet::storage::codec::to_bytes(&contact);
/// assert_eq!(couplet::storage::codec::from_bytes(&bytes), Some(contact));
/// ```
///
/// A record that changes later implements [`Record`](crate::storage::Record) by hand and reads each version.
#[macro_export]
macro_rules! record {
    () => {};
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $( $(#[$field_meta:meta])* $field_vis:vis $field:ident : $type:ty ),* $(,)?
    } $($rest:tt)*) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        $vis struct $name { $( $(#[$field_meta])* $field_vis $field: $type, )* }

        impl $crate::storage::Record for $name {
            fn encode(&self, out: &mut $crate::storage::Encoder) {
                out.byte(1);
                $( out.put(&self.$field); )*
            }

            fn decode(d: &mut $crate::storage::Decoder<'_>) -> Option<Self> {
                d.version(1)?;
                Some(Self { $( $field: d.get()?, )* })
            }
        }

        $crate::record! { $($rest)* }
    };
    ($(#[$meta:meta])* $vis:vis enum $name:ident {
        $( $(#[$case_meta:meta])* $case:ident = $byte:literal ),* $(,)?
    } $($rest:tt)*) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        $vis enum $name { $( $(#[$case_meta])* $case = $byte, )* }

        impl $crate::storage::Record for $name {
            fn encode(&self, out: &mut $crate::storage::Encoder) {
                out.byte(match self { $( $name::$case => $byte, )* });
            }

            fn decode(d: &mut $crate::storage::Decoder<'_>) -> Option<Self> {
                match d.byte()? {
                    $( $byte => Some($name::$case), )*
                    _ => None,
                }
            }
        }

        $crate::record! { $($rest)* }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    crate::record! {
        enum Ask { Nothing = 0, Subscribe = 7 }
        struct Inner { pub flag: bool, at: Option<u64>, }
        struct Mark {}
        struct Outer {
            name: String, groups: Vec<String>, key: Vec<u8>, ask: Ask, inner: Vec<Inner>, pair: (u16, u32), who: Jid,
        }
    }

    fn outer() -> impl Strategy<Value = Outer> {
        let inner = (any::<bool>(), any::<Option<u64>>()).prop_map(|(flag, at)| Inner { flag, at });
        (
            (any::<String>(), any::<Vec<String>>(), any::<Vec<u8>>()),
            (any::<bool>(), prop::collection::vec(inner, 0..5), any::<(u16, u32)>()),
        )
            .prop_map(|((name, groups, key), (ask, inner, pair))| Outer {
                name,
                groups,
                key,
                ask: if ask { Ask::Subscribe } else { Ask::Nothing },
                inner,
                pair,
                who: Jid::parse("romeo@example.org").unwrap(),
            })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_and_a_part_of_it_is_not(value in outer(), cut in any::<prop::sample::Index>()) {
            let bytes = to_bytes(&value);
            prop_assert_eq!(from_bytes::<Outer>(&bytes), Some(value));
            prop_assert_eq!(from_bytes::<Outer>(&bytes[..cut.index(bytes.len())]), None);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(mut bytes in any::<Vec<u8>>(), versioned in any::<bool>()) {
            if let (true, Some(first)) = (versioned, bytes.first_mut()) {
                *first = 1;
            }
            if let Some(value) = from_bytes::<Outer>(&bytes) {
                prop_assert_eq!(to_bytes(&value), bytes);
            }
        }

        #[test]
        fn a_changed_byte_is_read_without_a_panic(
            value in outer(),
            at in any::<prop::sample::Index>(),
            to in any::<u8>(),
        ) {
            let mut bytes = to_bytes(&value);
            let at = at.index(bytes.len());
            bytes[at] = to;
            let _ = from_bytes::<Outer>(&bytes);
        }

        #[test]
        fn every_number_has_one_form(n in any::<u64>(), bytes in prop::collection::vec(any::<u8>(), 0..11)) {
            prop_assert_eq!(from_bytes::<u64>(&to_bytes(&n)), Some(n));
            if let Some(n) = from_bytes::<u64>(&bytes) {
                prop_assert_eq!(to_bytes(&n), bytes);
            }
        }
    }

    #[test]
    fn lengths_beyond_the_input_reserve_nothing() {
        let mut out = Encoder::new();
        out.number(u64::MAX);
        assert_eq!(from_bytes::<Vec<u8>>(out.as_bytes()), None);
        assert_eq!(from_bytes::<Vec<Vec<String>>>(out.as_bytes()), None);
        assert_eq!(from_bytes::<String>(out.as_bytes()), None);
    }

    #[test]
    fn a_list_of_nothings_has_no_more_members_than_the_input_has_bytes() {
        #[derive(Debug, PartialEq)]
        struct Nothing;
        impl Record for Nothing {
            fn encode(&self, _: &mut Encoder) {}

            fn decode(_: &mut Decoder<'_>) -> Option<Self> {
                Some(Nothing)
            }
        }
        assert_eq!(from_bytes::<Vec<Nothing>>(&to_bytes(&u64::MAX)), None);
    }

    #[test]
    fn a_number_with_bytes_that_add_nothing_is_none() {
        assert_eq!(from_bytes::<u64>(&[0x80, 0]), None);
        assert_eq!(from_bytes::<u64>(&[0]), Some(0));
        let mut bytes = [0xff; 10];
        bytes[9] = 1;
        assert_eq!(from_bytes::<u64>(&bytes), Some(u64::MAX));
        bytes[9] = 2;
        assert_eq!(from_bytes::<u64>(&bytes), None, "65 bits");
        bytes[9] = 0x81;
        assert_eq!(from_bytes::<u64>(&bytes), None);
    }

    #[test]
    fn an_address_that_is_not_prepared_is_none() {
        let read = |text: &str| from_bytes::<Jid>(&to_bytes(&text.to_owned()));
        assert_eq!(read("Romeo@Example.org/x"), None);
        assert_eq!(read("romeo@example.org/X"), Jid::parse("romeo@example.org/X").ok());
    }

    #[test]
    fn the_form_of_each_kind_is_fixed() {
        assert_eq!(to_bytes(&300u32), [0xac, 0x02]);
        assert_eq!(to_bytes(&Inner { flag: true, at: Some(5) }), [1, 1, 1, 5]);
        assert_eq!(to_bytes(&vec!["a".to_string(), String::new()]), [2, 1, b'a', 0]);
        assert_eq!(to_bytes(&Ask::Subscribe), [7]);
        assert_eq!(to_bytes(&Mark {}), [1]);
        assert_eq!(from_bytes::<Ask>(&[1]), None);
        assert_eq!(from_bytes::<Inner>(&[2, 1, 1, 5]), None, "another version");
        assert_eq!(from_bytes::<u16>(&to_bytes(&65536u32)), None);
    }
}

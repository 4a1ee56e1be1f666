//! Durations, sizes and rates as people write them.

use super::{Setting, Value, quote};

/// A duration in whole seconds: `30`, `"30s"`, `"10 min"`, `"1h"`, `"2 days"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub u32);

/// A size in bytes: `4096`, `"256 kB"` (k = 1000), `"4 KiB"` (Ki = 1024).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u32);

/// Bytes a second: `"10 kB/s"` or `10000`; 0, also written `"unlimited"`, is any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(pub u32);

/// What may come at once: a size, or as much as a rate brings in a time. `"25 kB"`, `"2 s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Burst {
    /// Bytes.
    Bytes(u32),
    /// Seconds.
    Seconds(u32),
}

/// Names of a unit, in lower case, with its size. The first name of each size is the one that is shown.
type Unit = (&'static [&'static str], u32);

const TIMES: &[Unit] = &[
    (&["s", "sec", "secs", "second", "seconds", ""], 1),
    (&["min", "m", "mins", "minute", "minutes"], 60),
    (&["h", "hour", "hours"], 3600),
    (&["d", "day", "days"], 86_400),
    (&["w", "week", "weeks"], 604_800),
];

const SIZES: &[Unit] = &[
    (&["B", "byte", "bytes", ""], 1),
    (&["kB", "k"], 1000),
    (&["KiB", "ki"], 1024),
    (&["MB", "m"], 1_000_000),
    (&["MiB", "mi"], 1_048_576),
    (&["GB", "g"], 1_000_000_000),
    (&["GiB", "gi"], 1_073_741_824),
];

impl Setting for Seconds {
    fn kind() -> String {
        "a duration such as \"30 s\", \"10 min\", \"1 h\", \"2 d\"".to_string()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        measured(value, TIMES, "", &Self::kind()).map(Self)
    }

    fn show(&self) -> String {
        quote(&shown(self.0, TIMES))
    }
}

impl Setting for Bytes {
    fn kind() -> String {
        "a size such as \"256 kB\", \"32 MB\", \"4 KiB\"".to_string()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        measured(value, SIZES, "", &Self::kind()).map(Self)
    }

    fn show(&self) -> String {
        quote(&shown(self.0, SIZES))
    }
}

impl Setting for Rate {
    fn kind() -> String {
        "a rate such as \"10 kB/s\", or \"unlimited\"".to_string()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        if value.text().is_some_and(|text| text.trim() == "unlimited") {
            return Ok(Self(0));
        }
        measured(value, SIZES, "/s", &Self::kind()).map(Self)
    }

    fn show(&self) -> String {
        match self.0 {
            0 => quote("unlimited"),
            rate => quote(&format!("{}/s", shown(rate, SIZES))),
        }
    }
}

impl Setting for Burst {
    fn kind() -> String {
        "a size such as \"25 kB\" or a time such as \"2 s\"".to_string()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        let kind = Self::kind();
        // A number alone is bytes to some and seconds to others.
        if value.text().is_none_or(|text| !text.trim().ends_with(|c: char| c.is_ascii_alphabetic())) {
            return Err(super::wanted::<Self>(value));
        }
        let size = measured(value, SIZES, "", &kind).map(Self::Bytes);
        size.or_else(|_| measured(value, TIMES, "", &kind).map(Self::Seconds))
    }

    fn show(&self) -> String {
        match self {
            Self::Bytes(size) => Bytes(*size).show(),
            Self::Seconds(time) => Seconds(*time).show(),
        }
    }
}

/// Reads a plain number, or a number with one of `units` and then `suffix`.
fn measured(value: &Value, units: &[Unit], suffix: &str, kind: &str) -> Result<u32, String> {
    let text = match value {
        Value::Int(n) => n.to_string(),
        Value::Str(s) | Value::Text(s) => s.trim().to_string(),
        Value::Float(_) | Value::Bool(_) | Value::List(_) => {
            return Err(format!("this is {}; write {kind}", value.kind()));
        }
    };
    let wrong = || format!("{} is not {kind}", quote(&text));
    if text.starts_with('-') {
        return Err(format!("{text} is negative; write {kind}"));
    }
    let number_len = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_len);
    // A plain number needs no suffix; one with a unit does.
    let unit = match unit.strip_suffix(suffix) {
        Some(unit) => unit.trim(),
        None if unit.is_empty() => "",
        None => return Err(wrong()),
    };
    let unit = unit.to_lowercase();
    let (_, size) =
        units.iter().find(|(names, _)| names.iter().any(|name| name.to_lowercase() == unit)).ok_or_else(wrong)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 9 || (number.contains('.') && fraction.is_empty()) || fraction.contains('.')
    {
        return Err(wrong());
    }
    // In billionths of a unit, so that "1.5 MB" is exact and "0.5 B" is seen.
    let digits: u128 = format!("{whole}{fraction:0<9}").parse().map_err(|_| too_large(&text, units, suffix))?;
    let billionths = digits.checked_mul(u128::from(*size)).ok_or_else(|| too_large(&text, units, suffix))?;
    if billionths % 1_000_000_000 != 0 {
        return Err(wrong());
    }
    u32::try_from(billionths / 1_000_000_000).map_err(|_| too_large(&text, units, suffix))
}

fn too_large(text: &str, units: &[Unit], suffix: &str) -> String {
    let base = units.first().and_then(|(names, _)| names.first()).copied().unwrap_or_default();
    format!("{} is too large; write at most \"{} {base}{suffix}\"", quote(text), u32::MAX)
}

/// The value in the unit that divides it with the fewest digits.
fn shown(value: u32, units: &[Unit]) -> String {
    let (names, size) = units
        .iter()
        .filter(|(_, size)| value != 0 && value.is_multiple_of(*size))
        .min_by_key(|(_, size)| (value / size).to_string().len())
        .or(units.first())
        .copied()
        .unwrap_or((&[""], 1));
    format!("{} {}", value / size, names.first().copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read<T: Setting>(text: &str) -> Result<T, String> {
        T::parse(&Value::Str(text.to_string()))
    }

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("30s", 30),
            ("30", 30),
            ("10 min", 600),
            ("10m", 600),
            ("1h", 3600),
            ("2d", 172_800),
            ("2 days", 172_800),
            ("1 Week", 604_800),
            ("1.5 h", 5400),
            ("0", 0),
            (" 5 s ", 5),
        ] {
            assert_eq!(read(text), Ok(Seconds(seconds)), "{text}");
        }
        assert_eq!(Seconds::parse(&Value::Int(90)), Ok(Seconds(90)));
        assert_eq!(Seconds(90).show(), "\"90 s\"");
        assert_eq!(Seconds(600).show(), "\"10 min\"");
        assert_eq!(Seconds(0).show(), "\"0 s\"");
    }

    #[test]
    fn sizes_in_thousands_and_in_1024() {
        for (text, bytes) in [
            ("256kB", 256_000),
            ("256 kb", 256_000),
            ("256K", 256_000),
            ("32 MB", 32_000_000),
            ("1 KiB", 1024),
            ("1.5 MB", 1_500_000),
            ("4 GB", 4_000_000_000),
            ("3 GiB", 3_221_225_472),
            ("17", 17),
            ("17 B", 17),
            ("4294967295", u32::MAX),
        ] {
            assert_eq!(read(text), Ok(Bytes(bytes)), "{text}");
        }
        assert_eq!(Bytes(256_000).show(), "\"256 kB\"");
        assert_eq!(Bytes(262_144).show(), "\"256 KiB\"");
        assert_eq!(Bytes(1001).show(), "\"1001 B\"");
    }

    #[test]
    fn rates() {
        for (text, rate) in [("10kb/s", 10_000), ("10 kB/s", 10_000), ("1 MB/s", 1_000_000), ("500", 500)] {
            assert_eq!(read(text), Ok(Rate(rate)), "{text}");
        }
        assert_eq!(
            read::<Rate>("10kb"),
            Err("\"10kb\" is not a rate such as \"10 kB/s\", or \"unlimited\"".to_string())
        );
        for lifted in ["0", "unlimited", "0 kB/s"] {
            assert_eq!(read(lifted), Ok(Rate(0)), "{lifted}");
        }
        assert_eq!(Rate(0).show(), "\"unlimited\"");
        assert_eq!(Rate(25_000).show(), "\"25 kB/s\"");
    }

    #[test]
    fn bursts_are_sizes_or_times() {
        for (text, burst, shown) in [
            ("25kb", Burst::Bytes(25_000), "\"25 kB\""),
            ("25 kB", Burst::Bytes(25_000), "\"25 kB\""),
            ("2s", Burst::Seconds(2), "\"2 s\""),
            ("1 min", Burst::Seconds(60), "\"1 min\""),
            ("2 m", Burst::Bytes(2_000_000), "\"2 MB\""),
        ] {
            assert_eq!((read(text), burst.show().as_str()), (Ok(burst), shown), "{text}");
        }
        for wrong in ["25", "", "2 parsecs"] {
            assert!(read::<Burst>(wrong).is_err_and(|e| e.contains("is not a size such as")), "{wrong}");
        }
        assert!(Burst::parse(&Value::Int(2)).is_err());
    }

    #[test]
    fn nonsense_is_refused_with_what_to_write() {
        let kind = "a size such as \"256 kB\", \"32 MB\", \"4 KiB\"";
        for text in ["", "kB", "12 parsecs", "1.2.3 MB", "1. MB", ".5 MB", "0.5 B", "1e3", "0x10", "1 kB/s", "1,5 MB"] {
            assert_eq!(read::<Bytes>(text), Err(format!("\"{text}\" is not {kind}")), "{text}");
        }
        assert_eq!(read::<Bytes>("-1 kB"), Err(format!("-1 kB is negative; write {kind}")));
        assert_eq!(Bytes::parse(&Value::Int(-5)), Err(format!("-5 is negative; write {kind}")));
        assert_eq!(Bytes::parse(&Value::Bool(true)), Err(format!("this is true or false; write {kind}")));
        for text in ["5 GB", "4294967296", "99999999999999999999999999999999999999999999 GB"] {
            let message = format!("\"{text}\" is too large; write at most \"4294967295 B\"");
            assert_eq!(read::<Bytes>(text), Err(message), "{text}");
        }
        assert_eq!(
            read::<Seconds>("9999 weeks"),
            Err("\"9999 weeks\" is too large; write at most \"4294967295 s\"".to_string())
        );
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(n: u32) {
            let inside = |shown: String| shown.trim_matches('"').to_string();
            prop_assert_eq!(read(&inside(Bytes(n).show())), Ok(Bytes(n)));
            prop_assert_eq!(read(&inside(Seconds(n).show())), Ok(Seconds(n)));
            prop_assert_eq!(read(&inside(Rate(n).show())), Ok(Rate(n)));
            if n > 0 {
                prop_assert_eq!(read(&inside(Burst::Bytes(n).show())), Ok(Burst::Bytes(n)));
            }
            prop_assert_eq!(read(&inside(Burst::Seconds(n).show())), Ok(Burst::Seconds(n)));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,20}|[0-9.]{0,60} ?[kKMGi]?B?(/s)?") {
            let _ = (read::<Bytes>(&text), read::<Seconds>(&text), read::<Rate>(&text));
        }
    }
}

//! Time and randomness as values that the shell hands in: nothing below `net/` reads a clock or a random source.

/// The moment at which an input is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Milliseconds of a clock that never goes back; its zero means nothing.
    pub mono_ms: u64,
    /// Milliseconds since 1970-01-01T00:00:00Z, as the system believes.
    pub wall_ms: i64,
}

impl Now {
    /// The monotonic milliseconds in 32 bits, never 0: to tell how long something took that takes less than 49 days.
    pub fn stamp(self) -> u32 {
        (self.mono_ms as u32).max(1)
    }
}

/// Where random bytes come from: the operating system in production, a seed in tests.
pub trait Entropy {
    /// Fills all of `out` with unguessable bytes.
    fn fill(&mut self, out: &mut [u8]);
}

/// An unguessable name of 24 characters (143 bits), safe in XML, URLs, file names and, as it starts with no dash, on
/// command lines.
pub fn token(entropy: &mut dyn Entropy) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = [0; 24];
    entropy.fill(&mut bytes);
    let [first, rest @ ..] = bytes;
    let first = char::from(ALPHABET[usize::from(first & 31)]);
    std::iter::once(first).chain(rest.iter().map(|b| char::from(ALPHABET[usize::from(b & 63)]))).collect()
}

/// XEP-0082 DateTime in UTC with seconds, as `2026-11-21T23:59:59Z`.
pub fn datetime(wall_ms: i64) -> String {
    let seconds = wall_ms.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// The same with milliseconds, as `2026-11-21T23:59:59.125Z`.
pub fn datetime_fine(wall_ms: i64) -> String {
    let whole = datetime(wall_ms);
    format!("{}.{:03}Z", whole.trim_end_matches('Z'), wall_ms.rem_euclid(1000))
}

/// Milliseconds since 1970 of an XEP-0082 DateTime, whatever its time zone and fraction; none when it is none.
pub fn datetime_ms(text: &str) -> Option<i64> {
    let (date, rest) = text.trim().split_once('T')?;
    let number = |text: &str, len: usize| -> Option<i64> {
        (text.len() == len && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
    };
    let fields = |text: &str, separator: char, lens: [usize; 3]| -> Option<[i64; 3]> {
        let mut parts = text.split(separator);
        let fields =
            [number(parts.next()?, lens[0])?, number(parts.next()?, lens[1])?, number(parts.next()?, lens[2])?];
        parts.next().is_none().then_some(fields)
    };
    let [year, month, day] = fields(date, '-', [4, 2, 2])?;
    let zone_at = rest.find(['Z', '+', '-'])?;
    let (time, zone) = rest.split_at_checked(zone_at)?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = fields(time, ':', [2, 2, 2])?;
    let is_time = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    if !is_time || fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let ms: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let offset_minutes = match zone.split_at_checked(1)? {
        ("Z", "") => 0,
        (sign, zone) => {
            let (hours, minutes) = zone.split_once(':')?;
            let minutes = number(hours, 2)? * 60 + number(minutes, 2)?;
            if sign == "-" { -minutes } else { minutes }
        }
    };
    // Days since 1970 of a calendar whose years start in March, so that the leap day comes last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + (day - 1)
        - 719_468;
    Some((((days * 24 + hour) * 60 + minute - offset_minutes) * 60 + second) * 1000 + ms)
}

/// Year, month, day of the proleptic Gregorian calendar, from days since 1970-01-01.
pub fn civil(days: i64) -> (i64, i64, i64) {
    // Eras of 400 years that start in March, so that the leap day comes last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datetime_knows_leap_years_and_the_time_before_1970() {
        assert_eq!(datetime(0), "1970-01-01T00:00:00Z");
        assert_eq!(datetime(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(datetime(1_795_305_599_999), "2026-11-21T23:59:59Z");
        assert_eq!(datetime(-1), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn what_datetime_writes_is_read_back_and_zones_count() {
        for ms in [0, 951_782_400_000, 1_795_305_599_000, -1000, 4_102_444_800_000] {
            assert_eq!(datetime_ms(&datetime(ms)), Some(ms));
            assert_eq!(datetime_ms(&datetime_fine(ms + 7)), Some(ms + 7));
        }
        assert_eq!(datetime_ms("1969-07-20T21:56:15-05:00"), datetime_ms("1969-07-21T02:56:15Z"));
        assert_eq!(datetime_ms("1970-01-01T00:00:00.5Z"), Some(500));
        for wrong in ["", "1970-01-01", "1970-01-01T00:00:00", "1970-13-01T00:00:00Z", "1970-01-01T00:00:00.Z", "x"] {
            assert_eq!(datetime_ms(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn tokens_use_all_their_bytes() {
        struct Count(u8);
        impl Entropy for Count {
            fn fill(&mut self, out: &mut [u8]) {
                for b in out {
                    *b = self.0;
                    self.0 = self.0.wrapping_add(1);
                }
            }
        }
        let mut e = Count(0);
        assert_eq!(token(&mut e), "ABCDEFGHIJKLMNOPQRSTUVWX");
        assert_eq!(token(&mut e), "YZabcdefghijklmnopqrstuv");
        assert_eq!(&token(&mut Count(62))[..3], "e_A", "no option of a command line");
    }
}

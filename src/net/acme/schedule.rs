//! When a certificate is asked for: early enough, not at the same moment as everybody else, and not again and again
//! where that is of no use.

use super::files::Record;
use super::message::Window;
use crate::net::certs::CertInfo;

/// Waits after failures, in seconds; the last for ever. Public authorities allow five failures an hour.
const WAITS_S: [u64; 7] = [60, 300, 1800, 7200, 21_600, 43_200, 86_400];

/// The most that an authority can make one wait.
const WAIT_S_MAX: u64 = 7 * 86_400;

/// How often an authority is asked when a certificate is best renewed, unless it says so itself, and within which
/// bounds it can (RFC 9773 section 4.3).
const LOOK_S: u64 = 21_600;
const LOOK_S_MIN: u64 = 60;
const LOOK_S_MAX: u64 = 86_400;

/// A plan for a certificate that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    /// What the authority suggests, and the moment in that which was drawn.
    pub window: Option<(Window, i64)>,
    /// When the authority is asked again.
    pub look_s: i64,
}

impl Plan {
    /// Whether the authority is to be asked again; also when the clock was wrong when that was planned.
    pub fn is_to_be_asked(&self, now_s: i64) -> bool {
        self.look_s <= now_s || self.look_s > later(now_s, LOOK_S_MAX)
    }

    /// What comes of asking. A moment once drawn stays while the window does (RFC 9773 section 4.2).
    pub fn asked(
        before: Option<Self>,
        info: &CertInfo,
        answer: Option<(Window, Option<u64>)>,
        now_s: i64,
        random: u16,
    ) -> Self {
        let fingerprint = info.fingerprint_sha256;
        let before = before.filter(|plan| plan.fingerprint == fingerprint).and_then(|plan| plan.window);
        let (window, look_s) = match answer {
            Some((window, look_s)) => {
                let kept = before.filter(|(was, _)| *was == window);
                let drawn = || {
                    let length = window.end_s.saturating_sub(window.start_s);
                    window.start_s.saturating_add(length.saturating_mul(i64::from(random)) / 65_536)
                };
                (Some(kept.unwrap_or_else(|| (window, drawn()))), look_s.unwrap_or(LOOK_S))
            }
            None => (before, LOOK_S),
        };
        Self { fingerprint, window, look_s: later(now_s, look_s.clamp(LOOK_S_MIN, LOOK_S_MAX)) }
    }
}

/// When a certificate with these `names` is to be asked for, in seconds since 1970: now, when it is not there or lacks
/// a name; when its issuer suggests it; or else a third of its life before its end. Later, when that has failed.
///
/// `obtained_s` is when we have got it: half of its life stays it at least, as with a clock that is wrong every new one
/// would be too old.
pub fn due_s(
    issued: Option<&CertInfo>,
    names: &[String],
    plan: Option<&Plan>,
    obtained_s: Option<i64>,
    record: Option<&Record>,
) -> i64 {
    let wish_s = match issued {
        Some(info) if names.iter().all(|name| info.names.contains(name)) => {
            let life_s = info.not_after_unix_s.saturating_sub(info.not_before_unix_s).max(0);
            let half_s = obtained_s.map_or(i64::MIN, |obtained_s| obtained_s.saturating_add(life_s / 2));
            let third_s = info.not_after_unix_s.saturating_sub(life_s / 3).max(half_s);
            let planned = plan.filter(|plan| plan.fingerprint == info.fingerprint_sha256).and_then(|plan| plan.window);
            // A window behind the end would be the issuer's mistake.
            planned.map_or(third_s, |(_, at_s)| at_s.min(info.not_after_unix_s.saturating_sub(life_s / 10)))
        }
        _ => i64::MIN,
    };
    wish_s.max(record.map_or(i64::MIN, |record| record.next_s))
}

impl Record {
    /// Whether nothing can be made of it, because the clock was wrong when it was written.
    pub fn is_void(&self, now_s: i64) -> bool {
        self.next_s > later(now_s, WAIT_S_MAX)
    }
}

/// When something that has failed so often in a row is tried again.
pub fn retry_s(now_s: i64, failures: u32, retry_after_s: Option<u64>, random: u16) -> i64 {
    let index = (failures.max(1) as usize - 1).min(WAITS_S.len() - 1);
    let wait_s = WAITS_S.get(index).copied().unwrap_or(WAIT_S_MAX);
    // From three quarters to five quarters of it.
    let wait_s = wait_s * 3 / 4 + wait_s * u64::from(random) / 131_072;
    later(now_s, wait_s.max(retry_after_s.unwrap_or(0)).min(WAIT_S_MAX))
}

fn later(now_s: i64, wait_s: u64) -> i64 {
    now_s.saturating_add(i64::try_from(wait_s).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(days: (i64, i64), names: &[&str]) -> CertInfo {
        CertInfo {
            path: Default::default(),
            names: names.iter().map(|name| name.to_string()).collect(),
            not_before_unix_s: days.0 * 86_400,
            not_after_unix_s: days.1 * 86_400,
            self_signed: false,
            issuer: String::new(),
            fingerprint_sha256: [days.1 as u8; 32],
        }
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn a_third_of_its_life_is_left() {
        let wanted = names(&["a.example"]);
        assert_eq!(due_s(None, &wanted, None, None, None), i64::MIN);
        assert_eq!(due_s(Some(&info((0, 90), &["a.example"])), &wanted, None, None, None), 60 * 86_400);
        assert_eq!(due_s(Some(&info((0, 6), &["a.example"])), &wanted, None, None, None), 4 * 86_400);
        let lacks = info((0, 90), &["a.example"]);
        assert_eq!(due_s(Some(&lacks), &names(&["a.example", "b.a.example"]), None, None, None), i64::MIN);
        let failed = Record { failures: 1, next_s: 99, ..Record::default() };
        assert_eq!(due_s(None, &wanted, None, None, Some(&failed)), 99);
        assert_eq!(due_s(Some(&info((0, 90), &["a.example"])), &wanted, None, None, Some(&failed)), 60 * 86_400);
    }

    #[test]
    fn the_issuer_knows_better() {
        let (wanted, info, now_s) = (names(&["a.example"]), info((0, 90), &["a.example"]), 30 * 86_400);
        let window = Window { start_s: 40 * 86_400, end_s: 42 * 86_400 };
        let plan = |before, answer, random| Plan::asked(before, &info, answer, now_s, random);
        let first = plan(None, Some((window, None)), 32_768);
        let due = |plan: &Plan| due_s(Some(&info), &wanted, Some(plan), None, None);
        assert!((due(&first) - 41 * 86_400).abs() < 10, "in its middle");
        assert_eq!(first.look_s, now_s + 21_600);
        let again = plan(Some(first), Some((window, Some(7200))), 0);
        assert_eq!((due(&again), again.look_s), (due(&first), now_s + 7200), "drawn once");
        let silent = plan(Some(again), None, 0);
        assert_eq!(due(&silent), due(&first));
        // It was revoked: the window has passed.
        let revoked = plan(Some(silent), Some((Window { start_s: 0, end_s: 1 }, Some(1))), 9);
        assert_eq!((due(&revoked), revoked.look_s), (0, now_s + 60));
        let late = plan(None, Some((Window { start_s: 99 * 86_400, end_s: 99 * 86_400 }, Some(1 << 60))), 9);
        assert_eq!((due(&late), late.look_s), (81 * 86_400, now_s + 86_400), "never behind its end");
        let other = self::info((0, 91), &["a.example"]);
        assert!(due_s(Some(&other), &wanted, Some(&late), None, None) < 81 * 86_400, "of another certificate");
    }

    #[test]
    fn a_wrong_clock_makes_no_haste_and_no_eternity() {
        let (info, wanted) = (info((0, 90), &["a.example"]), names(&["a.example"]));
        let now_s = 400 * 86_400;
        let due = |plan: Option<&Plan>, obtained_s| due_s(Some(&info), &wanted, plan, obtained_s, None);
        assert_eq!(due(None, None), 60 * 86_400, "it is too old already");
        assert_eq!(due(None, Some(now_s)), now_s + 45 * 86_400, "a new one would be, too");
        assert_eq!(due_s(None, &wanted, None, Some(now_s), None), i64::MIN);
        assert_eq!(due_s(Some(&info), &names(&["b.example"]), None, Some(now_s), None), i64::MIN);
        let plan = Plan::asked(None, &info, Some((Window { start_s: 1, end_s: 1 }, None)), now_s, 0);
        assert_eq!(due(Some(&plan), Some(now_s)), 1, "its issuer wants it");
        assert!(!plan.is_to_be_asked(now_s) && plan.is_to_be_asked(now_s + 21_600) && plan.is_to_be_asked(0));
        let record = Record { failures: 1, next_s: now_s, ..Record::default() };
        assert!(!record.is_void(now_s) && !record.is_void(now_s - 7 * 86_400) && record.is_void(0));
    }

    #[test]
    fn waits_grow_and_differ() {
        let wait = |failures, random| retry_s(1000, failures, None, random) - 1000;
        assert_eq!((wait(1, 0), wait(1, 32_768), wait(1, u16::MAX)), (45, 60, 74));
        assert_eq!((wait(2, 32_768), wait(7, 32_768), wait(4_000_000_000, 32_768)), (300, 86_400, 86_400));
        assert_eq!(retry_s(1000, 1, Some(3600), 0), 4600);
        assert_eq!(retry_s(1000, 9, Some(u64::MAX), 0), 1000 + 7 * 86_400);
    }
}

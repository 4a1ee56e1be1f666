//! How fast peers may send, and the bucket that each connection has for it.
//!
//! A token bucket: it holds `burst` bytes, `rate` bytes a second flow into it, what a peer sends is taken out. What one
//! read brings is taken whole, so a bucket may owe something; nothing more is read until it has been paid. Nobody is
//! disconnected for speed: what is not read waits in the sockets, and TCP slows the peer down.

use super::io::Role;
use crate::jid::Jid;

/// How fast a peer may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Bytes a second in the long run; 0 is any number.
    pub per_s: u32,
    /// Bytes that may come at once after a silence.
    pub burst: u32,
}

impl Rate {
    /// As fast as the peer can.
    pub const UNLIMITED: Self = Self { per_s: 0, burst: 0 };

    /// True when nothing is counted.
    pub fn is_unlimited(self) -> bool {
        self.per_s == 0
    }

    /// What a score makes of it: the burst stays.
    pub fn adapted(self, adaptive: Adaptive, points: i8) -> Self {
        let points_abs = u64::from(points.unsigned_abs());
        let percent = match points {
            0.. => 100 + u64::from(adaptive.bonus_percent.saturating_sub(100)) * points_abs / 100,
            _ => 100 - u64::from(100_u32.saturating_sub(adaptive.penalty_percent)) * points_abs / 100,
        };
        let per_s = u32::try_from(u64::from(self.per_s) * percent / 100).unwrap_or(u32::MAX);
        Self { per_s: per_s.max(self.per_s.min(1)), ..self }
    }

    /// Bytes that one read may bring, at most `max`: less than a burst, so that what a slow peer sends is not here
    /// long before it may be.
    pub fn read_bytes(self, max: usize) -> usize {
        if self.is_unlimited() { max } else { (self.burst as usize / 4 * 3).max(READ_BYTES_MIN).min(max) }
    }

    /// Nanoseconds in which that many bytes flow.
    fn time_ns(self, bytes: u64) -> u64 {
        bytes.saturating_mul(1_000_000_000) / u64::from(self.per_s.max(1))
    }
}

/// How scores change rates.
///
/// A score is of an account, or of a domain of another server, and is between -100 and 100. Each minute in which
/// something is sent without having to wait is a point more; each in which its sender had to wait is ten less. In
/// between, rates grow and shrink in proportion. Scores are forgotten when the server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adaptive {
    /// What a score of 100 makes of a rate, at least 100 and at most 200.
    pub bonus_percent: u32,
    /// What a score of -100 makes of a rate, at least 50 and at most 100.
    pub penalty_percent: u32,
}

/// The score behind a minute in which somebody has sent.
pub fn judged(points: i8, has_waited: bool) -> i8 {
    points.saturating_add(if has_waited { -10 } else { 1 }).clamp(-100, 100)
}

/// What one connection has left of its rate. A new one is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// When it is full again, if nothing more is taken, on the clock of [`Now::mono_ms`](crate::clock::Now) but in
    /// nanoseconds. That is all there is to know, and it stays right while nobody looks. As bytes it needs no room for
    /// alignment, and there is one for each connection.
    full_ns: [u8; 8],
}

/// Less costs more system calls than it is worth.
const READ_BYTES_MIN: usize = 1024;

const NS_OF_MS: u64 = 1_000_000;

impl Bucket {
    /// Takes bytes out. The moment at which reading may go on, in milliseconds, when that is not now.
    pub fn take(&mut self, bytes: usize, rate: Rate, now_ms: u64) -> Option<u64> {
        let now_ns = now_ms.saturating_mul(NS_OF_MS);
        let full_ns = self.full_ns().max(now_ns).saturating_add(rate.time_ns(bytes as u64));
        self.full_ns = full_ns.to_ne_bytes();
        self.ready_ms(rate, now_ms)
    }

    fn full_ns(&self) -> u64 {
        u64::from_ne_bytes(self.full_ns)
    }

    /// When it is full again, in milliseconds.
    #[cfg(feature = "rules")]
    pub fn full_ms(&self) -> u64 {
        self.full_ns() / NS_OF_MS
    }

    /// True when nothing is missing.
    pub fn is_full(&self, now_ms: u64) -> bool {
        self.full_ns() <= now_ms.saturating_mul(NS_OF_MS)
    }

    /// The moment at which it owes nothing any more, when that is to come.
    pub fn ready_ms(&self, rate: Rate, now_ms: u64) -> Option<u64> {
        let ready_ms = self.full_ns().saturating_sub(rate.time_ns(rate.burst.into())).div_ceil(NS_OF_MS);
        (ready_ms > now_ms && !rate.is_unlimited()).then_some(ready_ms)
    }
}

/// How often something may be done in an hour. All that may be done, may be done at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hourly(Bucket);

impl Hourly {
    /// In units of which a thousand flow in each second, so that they are milliseconds.
    const HOUR_MS: u32 = 3_600_000;

    /// True when it may be done now; then it counts as done.
    pub fn may(&mut self, per_hour: u32, now_ms: u64) -> bool {
        if per_hour == 0 {
            return false;
        }
        let cost = (Self::HOUR_MS / per_hour).max(1);
        // What is taken when nothing is owed may owe one time more.
        let rate = Rate { per_s: 1000, burst: Self::HOUR_MS - cost };
        let may = self.0.ready_ms(rate, now_ms).is_none();
        if may {
            self.0.take(cost as usize, rate, now_ms);
        }
        may
    }

    /// True when it was not done for so long that it is as if it never was.
    pub fn is_unused(&self, now_ms: u64) -> bool {
        self.0.is_full(now_ms)
    }
}

/// The rates of all kinds of peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Of each connection of a client.
    pub c2s: Rate,
    /// Of each connection with another server.
    pub s2s: Rate,
    /// Of each connection of a component.
    pub component: Rate,
    /// How scores change them, if they do.
    pub adaptive: Option<Adaptive>,
    /// Bare addresses of users, and domains of users and of servers, for whom there is none.
    pub exempt: Vec<Jid>,
}

impl Default for Rates {
    /// The preset `community`.
    fn default() -> Self {
        Self {
            c2s: Rate { per_s: 10_000, burst: 25_000 },
            s2s: Rate { per_s: 30_000, burst: 100_000 },
            component: Rate::UNLIMITED,
            adaptive: None,
            exempt: Vec::new(),
        }
    }
}

impl Rates {
    /// That of the connections that somebody has opened.
    pub fn of(&self, role: Role) -> Rate {
        match role {
            Role::Client => self.c2s,
            Role::Server => self.s2s,
            Role::Component => self.component,
            // Clients that come through it have theirs.
            Role::Web | Role::Authority => Rate::UNLIMITED,
        }
    }

    /// True for a user or a domain that may send as fast as it can.
    pub fn is_exempt(&self, node: Option<&str>, domain: &str) -> bool {
        self.exempt.iter().any(|jid| jid.domain() == domain && (jid.node().is_none() || jid.node() == node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Rate = Rate { per_s: 1000, burst: 5000 };

    #[test]
    fn the_state_of_a_connection_is_small() {
        assert_eq!(size_of::<Bucket>(), 8);
    }

    #[test]
    fn a_full_bucket_is_good_for_the_burst_and_not_for_a_byte_more() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(5000, SLOW, 7), None);
        assert_eq!(bucket.take(1, SLOW, 7), Some(8));
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(5001, SLOW, 7), Some(8));
        assert_eq!(bucket.ready_ms(SLOW, 8), None);
    }

    #[test]
    fn it_fills_while_nobody_looks_but_not_beyond_the_burst() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(5000, SLOW, 1000), None);
        assert_eq!(bucket.take(3000, SLOW, 4000), None, "three seconds brought three thousand");
        assert_eq!(bucket.take(5000, SLOW, 1_000_000), None);
        assert_eq!(bucket.take(1000, SLOW, 1_000_000), Some(1_001_000));
    }

    #[test]
    fn sixty_five_kilobytes_at_one_a_second_and_five_at_once_take_sixty_seconds() {
        for read in [1, 100, 1000, 2500] {
            let (mut bucket, mut now_ms, mut sent) = (Bucket::default(), 0, 0);
            while sent < 65_000 {
                let bytes = read.min(65_000 - sent);
                sent += bytes;
                if let Some(at) = bucket.take(bytes, SLOW, now_ms) {
                    assert!(at > now_ms);
                    now_ms = at;
                }
            }
            assert_eq!(now_ms, 60_000, "in pieces of {read}");
        }
    }

    #[test]
    fn no_time_is_lost_where_reads_are_short_and_rates_odd() {
        let rate = Rate { per_s: 333, burst: 1000 };
        let (mut bucket, mut now_ms) = (Bucket::default(), 0);
        for _ in 0..1000 + 333 * 60 {
            now_ms = bucket.take(1, rate, now_ms).unwrap_or(now_ms);
        }
        assert!((59_990..=60_010).contains(&now_ms), "{now_ms}");
    }

    #[test]
    fn no_rate_is_no_wait() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(usize::MAX, Rate::UNLIMITED, 5), None);
        assert_eq!(Bucket::default().take(usize::MAX, SLOW, u64::MAX), None, "nothing overflows");
    }

    #[test]
    fn scores_change_rates_between_half_and_double() {
        let adaptive = Adaptive { bonus_percent: 200, penalty_percent: 50 };
        let of = |points| Rate { per_s: 1000, burst: 5 }.adapted(adaptive, points).per_s;
        assert_eq!([of(-100), of(-50), of(0), of(50), of(100)], [500, 750, 1000, 1500, 2000]);
        assert!(Rate::UNLIMITED.adapted(adaptive, -100).is_unlimited());
        let minutes = |waits: bool| (0..200).fold(0, |points, _| judged(points, waits));
        assert_eq!((minutes(false), minutes(true), judged(50, true), judged(-10, false)), (100, -100, 40, -9));
    }

    #[test]
    fn an_hour_has_as_many_as_are_said() {
        let mut hourly = Hourly::default();
        assert_eq!((0..50).filter(|_| hourly.may(20, 5)).count(), 20);
        assert!(hourly.may(20, 5 + 180_000) && !hourly.may(20, 5 + 180_000));
        assert!(!Hourly::default().may(0, 5));
        assert!(!hourly.is_unused(3_600_000) && hourly.is_unused(3_780_005));
    }

    #[test]
    fn a_slow_peer_is_read_in_small_pieces() {
        let read = |per_s, burst| Rate { per_s, burst }.read_bytes(18_000);
        assert_eq!((read(10_000, 100_000), read(10_000, 25_000), read(1000, 5000)), (18_000, 18_000, 3750));
        assert_eq!((read(100, 1000), read(0, 0)), (1024, 18_000));
    }

    #[test]
    fn a_user_a_domain_and_nobody_else_is_exempt() {
        let exempt = ["romeo@a.example", "b.example"].map(|jid| Jid::parse(jid).unwrap()).to_vec();
        let rates = Rates { exempt, ..Rates::default() };
        assert!(rates.is_exempt(Some("romeo"), "a.example") && rates.is_exempt(Some("juliet"), "b.example"));
        assert!(rates.is_exempt(None, "b.example") && !rates.is_exempt(None, "a.example"));
        assert!(!rates.is_exempt(Some("juliet"), "a.example"));
    }
}

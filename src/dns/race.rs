//! Connecting to one host that may have several addresses of both families: RFC 8305, "Happy Eyeballs". Addresses are
//! tried in turn, IPv6 first, each a quarter of a second after the one before or as soon as that one has failed; the
//! first connection that stands is taken.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use crate::clock::Now;

/// Between two attempts (RFC 8305 section 5: Connection Attempt Delay).
const ATTEMPT_DELAY_MS: u64 = 250;

/// How long IPv4 waits for the answer about IPv6 (section 3: Resolution Delay).
const RESOLUTION_DELAY_MS: u64 = 50;

/// Addresses of one host that are tried, of each family.
const ADDRESSES_MAX: usize = 8;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Begin to connect to an address, and ask again.
    Connect(SocketAddr),
    /// Wait for an answer, for an attempt to end, or until then on the monotonic clock, if that is given.
    Wait(Option<u64>),
    /// All attempts have failed, or there is no address.
    Over,
}

/// The attempts for one host and port.
#[derive(Debug)]
pub struct Race {
    port: u16,
    v6: VecDeque<IpAddr>,
    v4: VecDeque<IpAddr>,
    /// Answers that are still to come.
    v6_asked: bool,
    v4_asked: bool,
    /// When the answer about IPv4 came.
    v4_since_ms: u64,
    /// The family of the last attempt.
    last_v6: bool,
    /// No attempt before that time while others go on.
    not_before_ms: u64,
    under_way: u32,
}

impl Race {
    /// A race whose addresses are being asked for.
    pub fn new(port: u16) -> Self {
        let (v6, v4) = (VecDeque::new(), VecDeque::new());
        let (v6_asked, v4_asked, last_v6) = (true, true, false);
        Self { port, v6, v4, v6_asked, v4_asked, v4_since_ms: 0, last_v6, not_before_ms: 0, under_way: 0 }
    }

    /// A race among known addresses.
    pub fn among(addresses: &[IpAddr], port: u16, now: Now) -> Self {
        let mut race = Self::new(port);
        race.found_v6(addresses);
        race.found_v4(addresses, now);
        race
    }

    /// What was answered about IPv6; other addresses are left out.
    pub fn found_v6(&mut self, addresses: &[IpAddr]) {
        self.v6_asked = false;
        self.v6 = addresses.iter().filter(|ip| ip.is_ipv6()).take(ADDRESSES_MAX).copied().collect();
    }

    /// What was answered about IPv4; other addresses are left out.
    pub fn found_v4(&mut self, addresses: &[IpAddr], now: Now) {
        self.v4_asked = false;
        self.v4_since_ms = now.mono_ms;
        self.v4 = addresses.iter().filter(|ip| ip.is_ipv4()).take(ADDRESSES_MAX).copied().collect();
    }

    /// An attempt has failed: the next need not wait.
    pub fn failed(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
        self.not_before_ms = 0;
    }

    /// What to do next.
    pub fn next(&mut self, now: Now) -> Step {
        let patience_ms = self.v4_since_ms + RESOLUTION_DELAY_MS;
        let waits_for_v6 = self.v6_asked && !self.v4_asked && !self.v4.is_empty() && now.mono_ms < patience_ms;
        if self.under_way == 0 && waits_for_v6 {
            return Step::Wait(Some(patience_ms));
        }
        if self.v6.is_empty() && self.v4.is_empty() {
            return if self.v6_asked || self.v4_asked || self.under_way > 0 { Step::Wait(None) } else { Step::Over };
        }
        if self.under_way > 0 && now.mono_ms < self.not_before_ms {
            return Step::Wait(Some(self.not_before_ms));
        }
        let v6 = !self.v6.is_empty() && (!self.last_v6 || self.v4.is_empty());
        let Some(ip) = (if v6 { self.v6.pop_front() } else { self.v4.pop_front() }) else { return Step::Over };
        self.last_v6 = v6;
        self.under_way += 1;
        self.not_before_ms = now.mono_ms + ATTEMPT_DELAY_MS;
        Step::Connect(SocketAddr::new(ip, self.port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { mono_ms: ms, wall_ms: 0 }
    }

    fn v4(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    fn v6(n: u16) -> IpAddr {
        IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n])
    }

    fn connect(ip: IpAddr) -> Step {
        Step::Connect(SocketAddr::new(ip, 5269))
    }

    #[test]
    fn families_take_turns_a_quarter_of_a_second_apart() {
        let mut race = Race::among(&[v4(1), v4(2), v6(1), v6(2), v6(3)], 5269, at(0));
        let mut now = 0;
        for ip in [v6(1), v4(1), v6(2), v4(2), v6(3)] {
            assert_eq!(race.next(at(now)), connect(ip));
            assert_eq!(race.next(at(now + 249)), Step::Wait(Some(now + 250)).filter_last(ip == v6(3)));
            now += 250;
        }
        for _ in 0..5 {
            assert_eq!(race.next(at(9999)), Step::Wait(None));
            race.failed();
        }
        assert_eq!(race.next(at(9999)), Step::Over);
    }

    impl Step {
        /// Behind the last address there is no time to wait for.
        fn filter_last(self, last: bool) -> Self {
            if last { Step::Wait(None) } else { self }
        }
    }

    #[test]
    fn a_failure_lets_the_next_start_at_once() {
        let mut race = Race::among(&[v6(1), v4(1)], 5269, at(0));
        assert_eq!(race.next(at(0)), connect(v6(1)));
        race.failed();
        assert_eq!(race.next(at(1)), connect(v4(1)));
        race.failed();
        assert_eq!(race.next(at(2)), Step::Over);
    }

    #[test]
    fn ipv4_waits_a_moment_for_ipv6() {
        let mut race = Race::new(5269);
        assert_eq!(race.next(at(0)), Step::Wait(None));
        race.found_v4(&[v4(1)], at(100));
        assert_eq!(race.next(at(100)), Step::Wait(Some(150)));
        race.found_v6(&[v6(1)]);
        assert_eq!(race.next(at(120)), connect(v6(1)));
        let mut race = Race::new(5269);
        race.found_v4(&[v4(1)], at(100));
        assert_eq!(race.next(at(150)), connect(v4(1)));
        assert_eq!(race.next(at(150)), Step::Wait(None), "for the answer");
        race.found_v6(&[]);
        race.failed();
        assert_eq!(race.next(at(151)), Step::Over);
    }

    #[test]
    fn no_address_is_the_end_of_it() {
        let mut race = Race::new(5269);
        race.found_v6(&[]);
        assert_eq!(race.next(at(0)), Step::Wait(None));
        race.found_v4(&[], at(0));
        assert_eq!(race.next(at(0)), Step::Over);
        let many: Vec<IpAddr> = (0..100).map(v4).collect();
        let mut race = Race::among(&many, 5269, at(0));
        let mut attempts = 0;
        while let Step::Connect(_) = race.next(at(0)) {
            race.failed();
            attempts += 1;
        }
        assert_eq!(attempts, ADDRESSES_MAX);
    }
}

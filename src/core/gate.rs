//! Who comes from where: how many connections one address has and how fast it opens more, and what failed logins cost.
//!
//! An address is an IPv4 address or an IPv6 network of 64 bits, which is what one household gets. Of those without a
//! connection, the ones that matter least are forgotten when there are too many.
//!
//! **Guessing passwords.** A login that follows failed ones waits before it is looked at, whether its password is right
//! or wrong, so that the wait tells nothing. Behind the first few failures from an address the wait doubles with each,
//! and logins of that address wait one behind the other. An account has a brake of its own against those who guess from
//! many addresses; it is mild and nobody waits for anybody else there, so nobody can shut a user out. Who has logged in
//! to an account from his address before goes past both, until he has failed some times himself. Accounts that do not
//! exist behave like others.
//!
//! **Guessing secrets of components** costs an address the same waits, during which it is not listened to at all.

use super::flat::Flat;
use super::rates::{Bucket, Rate};
use crate::limits::Limits;
use std::net::IpAddr;

/// An address, as far as one is told from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u64);

impl Place {
    /// The place of an address.
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            // Behind 0:1::/32, which nobody has (RFC 4291 section 2.4).
            IpAddr::V4(v4) => Self(1 << 32 | u64::from(u32::from(v4))),
            IpAddr::V6(v6) => Self((u128::from(v6) >> 64) as u64),
        }
    }

    /// For a hash.
    pub fn bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// One of them.
    pub address: IpAddr,
    /// Leading bits that all of them share.
    pub bits: u8,
}

impl Network {
    /// True for an address in it.
    pub fn contains(self, ip: IpAddr) -> bool {
        let shifted = |bits: u128, width: u8| bits.checked_shr(u32::from(width.saturating_sub(self.bits))).unwrap_or(0);
        match (self.address, ip.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => shifted(u32::from(a).into(), 32) == shifted(u32::from(b).into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => shifted(a.into(), 128) == shifted(b.into(), 128),
            _ => false,
        }
    }
}

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many connections from there.
    TooMany,
    /// Too many new ones from there.
    TooFast,
}

/// How many connections one address may have.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// At a time; 0 is any number.
    pub open_max: u32,
    /// New ones a second, and at once.
    pub new: Rate,
    /// Addresses that are remembered beside those with a connection.
    pub places_max: u32,
}

/// Failures that are forgotten one by one.
#[derive(Clone, Copy, Debug, Default)]
struct Brake {
    failures: u8,
    /// When the last was forgotten, or the first came.
    since_ms: u64,
    /// No login is looked at before.
    next_ms: u64,
}

/// One failure is forgotten in that time.
const FORGET_MS: u64 = 60_000;
/// More are not counted, so an hour forgets all.
const FAILURES_MAX: u8 = 60;
/// The first wait; each doubles it.
const DELAY_MIN_MS: u64 = 250;
/// What an account may fail beside what an address may.
const ACCOUNT_FREE: u32 = 2;

impl Brake {
    fn failures(&self, now_ms: u64) -> u8 {
        let forgotten = now_ms.saturating_sub(self.since_ms) / FORGET_MS;
        self.failures.saturating_sub(u8::try_from(forgotten).unwrap_or(u8::MAX))
    }

    fn fail(&mut self, now_ms: u64) {
        let left = self.failures(now_ms);
        self.since_ms = match left {
            0 => now_ms,
            left => self.since_ms + u64::from(self.failures - left) * FORGET_MS,
        };
        self.failures = (left + 1).min(FAILURES_MAX);
    }

    /// What the failures behind the first `free` cost.
    fn delay_ms(&self, now_ms: u64, free: u32, max_ms: u64) -> u64 {
        match u32::from(self.failures(now_ms)).checked_sub(free) {
            Some(more) => DELAY_MIN_MS.checked_shl(more.min(32)).unwrap_or(max_ms).min(max_ms),
            None => 0,
        }
    }
}

#[derive(Debug, Default)]
struct Visitor {
    open: u32,
    new: Bucket,
    brake: Brake,
}

/// Who logs in.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// From where.
    pub place: Place,
    /// A keyed hash of the account's address.
    pub account: u64,
    /// A keyed hash of account and place.
    pub pair: u64,
    /// Nothing is counted against the place.
    pub exempt: bool,
}

#[derive(Debug)]
struct Known {
    /// Since the last login.
    failures: u8,
    seen_s: u32,
}

/// Failures behind which a known user waits as a stranger.
const KNOWN_FAILURES: u8 = 5;

/// Addresses with their connections, and brakes.
#[derive(Debug, Default)]
pub struct Gate {
    places: Flat<Place, Visitor>,
    accounts: Flat<u64, Brake>,
    known: Flat<u64, Known>,
    /// Addresses at which those are looked for that can be forgotten.
    sweep_at: usize,
}

/// Fewer are not worth a look.
const SWEEP_MIN: usize = 64;

impl Gate {
    /// Somebody wants to come in. `bounds` is none for an address that is exempt.
    ///
    /// # Errors
    /// When he may not. He has not entered then.
    pub fn enter(&mut self, place: Place, now_ms: u64, bounds: Option<Bounds>) -> Result<(), Refusal> {
        if !self.places.contains_key(&place) {
            if let Some(bounds) = bounds {
                self.sweep(now_ms, bounds);
            }
            self.places.insert(place, Visitor::default());
        }
        let Some(visitor) = self.places.get_mut(&place) else { return Ok(()) };
        if let Some(Bounds { open_max, new, .. }) = bounds {
            if open_max > 0 && visitor.open >= open_max {
                return Err(Refusal::TooMany);
            }
            let mut bucket = visitor.new;
            if bucket.take(1, new, now_ms).is_some() {
                return Err(Refusal::TooFast);
            }
            visitor.new = bucket;
        }
        visitor.open = visitor.open.saturating_add(1);
        Ok(())
    }

    /// Somebody who had entered has gone.
    pub fn leave(&mut self, place: Place, now_ms: u64, new: Rate) {
        let Some(visitor) = self.places.get_mut(&place) else { return };
        visitor.open = visitor.open.saturating_sub(1);
        if visitor.open == 0 && visitor.is_quiet(now_ms, new) {
            self.places.remove(&place);
        }
    }

    /// How long a login waits before it is looked at, in milliseconds. None when it would be too long: then it is not
    /// looked at.
    pub fn login(&mut self, who: &Attempt, now_ms: u64, limits: &Limits) -> Option<u64> {
        if self.known.get(&who.pair).is_some_and(|known| known.failures < KNOWN_FAILURES) {
            return Some(0);
        }
        let free = limits.login_failures_free;
        let account_ms = u64::from(limits.login_account_delay_max_s) * 1000;
        let account = self.accounts.get(&who.account);
        let wait_ms = account.map_or(0, |brake| brake.delay_ms(now_ms, free.saturating_mul(ACCOUNT_FREE), account_ms));
        let max_ms = u64::from(limits.login_delay_max_s) * 1000;
        let Some(visitor) = self.places.get_mut(&who.place).filter(|_| !who.exempt) else { return Some(wait_ms) };
        let delay_ms = visitor.brake.delay_ms(now_ms, free, max_ms);
        if delay_ms == 0 {
            return Some(wait_ms);
        }
        let at_ms = visitor.brake.next_ms.max(now_ms) + delay_ms;
        if at_ms - now_ms > 2 * max_ms {
            return None;
        }
        visitor.brake.next_ms = at_ms;
        Some(wait_ms.max(at_ms - now_ms))
    }

    /// A login has failed: no such account, or not its password.
    pub fn failed(&mut self, who: &Attempt, now_ms: u64, limits: &Limits) {
        if let Some(known) = self.known.get_mut(&who.pair) {
            known.failures = known.failures.saturating_add(1);
        } else {
            if !self.accounts.contains_key(&who.account) {
                let weight = |brake: &Brake| u64::from(brake.failures(now_ms));
                forget(&mut self.accounts, limits.addresses_max, weight);
                self.accounts.insert(who.account, Brake::default());
            }
            if let Some(brake) = self.accounts.get_mut(&who.account) {
                brake.fail(now_ms);
            }
        }
        if let Some(visitor) = self.places.get_mut(&who.place).filter(|_| !who.exempt) {
            visitor.brake.fail(now_ms);
        }
    }

    /// A login has gone well.
    pub fn succeeded(&mut self, who: &Attempt, now_ms: u64, limits: &Limits) {
        if !self.known.contains_key(&who.pair) {
            forget(&mut self.known, limits.addresses_max, |known| known.seen_s.into());
        }
        self.known.insert(who.pair, Known { failures: 0, seen_s: (now_ms / 1000) as u32 });
    }

    /// Whether nobody is listened to who comes from there, as secrets of components were guessed there. Unlike a login
    /// such a look does not wait: a component tries again by itself.
    pub fn is_barred(&self, place: Place, now_ms: u64) -> bool {
        self.places.get(&place).is_some_and(|visitor| visitor.brake.next_ms > now_ms)
    }

    /// Somebody has given a wrong secret of a component.
    pub fn guessed(&mut self, place: Place, now_ms: u64, limits: &Limits) {
        let Some(Visitor { brake, .. }) = self.places.get_mut(&place) else { return };
        let max_ms = u64::from(limits.login_delay_max_s) * 1000;
        brake.fail(now_ms);
        brake.next_ms = now_ms + brake.delay_ms(now_ms, limits.login_failures_free, max_ms);
    }

    /// Forgets those that have no connection and nothing to be remembered for; when there are too many without a
    /// connection, those with the fewest failures.
    fn sweep(&mut self, now_ms: u64, bounds: Bounds) {
        if self.places.len() < self.sweep_at.max(SWEEP_MIN) {
            return;
        }
        self.places.retain(|_, visitor| visitor.open > 0 || !visitor.is_quiet(now_ms, bounds.new));
        let gone = self.places.values().filter(|visitor| visitor.open == 0).count();
        let room = (bounds.places_max as usize).saturating_sub(gone);
        if room == 0 {
            let least = self.places.iter().filter(|(_, visitor)| visitor.open == 0);
            let least = least.min_by_key(|(_, visitor)| visitor.brake.failures(now_ms)).map(|(place, _)| *place);
            least.and_then(|place| self.places.remove(&place));
        }
        self.sweep_at = self.places.len() + room.min(self.places.len());
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.places.heap_bytes() + self.accounts.heap_bytes() + self.known.heap_bytes()
    }
}

impl Visitor {
    fn is_quiet(&self, now_ms: u64, new: Rate) -> bool {
        self.brake.failures(now_ms) == 0 && (new.is_unlimited() || self.new.is_full(now_ms))
    }
}

/// Makes room for one more entry: those of the least weight go.
pub fn forget<T>(map: &mut Flat<u64, T>, max: u32, weight: impl Fn(&T) -> u64) {
    while map.len() >= (max as usize).max(1) {
        let least = map.iter().min_by_key(|(_, value)| weight(value)).map(|(key, _)| *key);
        if least.and_then(|key| map.remove(&key)).is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Rate = Rate { per_s: 1, burst: 3 };
    const BOUNDS: Bounds = Bounds { open_max: 5, new: NEW, places_max: 100 };

    fn place(n: u32) -> Place {
        Place::of(IpAddr::V4(n.into()))
    }

    fn who(place_: u32, account: u64) -> Attempt {
        Attempt { place: place(place_), account, pair: account * 1000 + u64::from(place_), exempt: false }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_that_of_a_household() {
        assert_eq!(Place::of(ip("192.0.2.1")), Place::of(ip("::ffff:192.0.2.1")));
        assert_ne!(Place::of(ip("192.0.2.1")), Place::of(ip("192.0.2.2")));
        assert_eq!(Place::of(ip("2001:db8:1:2::3")), Place::of(ip("2001:db8:1:2:ffff::4")));
        assert_ne!(Place::of(ip("2001:db8:1:2::3")), Place::of(ip("2001:db8:1:3::3")));
    }

    #[test]
    fn a_network_has_its_addresses_and_no_others() {
        let of = |address: &str, bits| Network { address: ip(address), bits };
        assert!(of("127.0.0.0", 8).contains(ip("127.9.9.9")) && !of("127.0.0.0", 8).contains(ip("128.0.0.0")));
        assert!(of("192.0.2.7", 32).contains(ip("::ffff:192.0.2.7")) && !of("192.0.2.7", 32).contains(ip("192.0.2.6")));
        assert!(of("0.0.0.0", 0).contains(ip("8.8.8.8")) && !of("0.0.0.0", 0).contains(ip("2001:db8::1")));
        assert!(of("2001:db8::", 32).contains(ip("2001:db8:ffff::1")) && !of("::1", 128).contains(ip("::2")));
        assert!(of("::", 0).contains(ip("2001:db8::1")));
    }

    #[test]
    fn connections_of_an_address_are_counted_and_so_are_new_ones() {
        let mut gate = Gate::default();
        let mut enter = |now_ms| gate.enter(place(1), now_ms, Some(BOUNDS));
        assert_eq!([enter(0), enter(0), enter(0), enter(0)], [Ok(()), Ok(()), Ok(()), Err(Refusal::TooFast)]);
        assert_eq!((enter(999), enter(1000)), (Err(Refusal::TooFast), Ok(())));
        assert_eq!((enter(2000), enter(9000)), (Ok(()), Err(Refusal::TooMany)));
        assert_eq!(gate.enter(place(2), 9000, Some(BOUNDS)), Ok(()), "others are not concerned");
        assert_eq!(gate.enter(place(1), 9000, None), Ok(()), "exempt");
        gate.leave(place(1), 9000, NEW);
        assert_eq!(gate.enter(place(1), 9000, Some(BOUNDS)), Err(Refusal::TooMany));
        gate.leave(place(1), 9000, NEW);
        assert_eq!(gate.enter(place(1), 9000, Some(BOUNDS)), Ok(()));
    }

    #[test]
    fn who_has_gone_is_forgotten_and_a_crowd_is_bounded() {
        let mut gate = Gate::default();
        assert_eq!(gate.enter(place(1), 0, Some(BOUNDS)), Ok(()));
        gate.leave(place(1), 1000, NEW);
        assert_eq!((gate.places.len(), gate.heap_bytes()), (0, 0));
        let guesser = who(7, 1);
        assert_eq!(gate.enter(guesser.place, 0, Some(BOUNDS)), Ok(()));
        gate.failed(&guesser, 0, &Limits::default());
        gate.leave(guesser.place, 0, NEW);
        for n in 100..2100 {
            assert_eq!(gate.enter(place(n), 0, Some(BOUNDS)), Ok(()));
            gate.leave(place(n), 0, NEW);
            assert!(gate.places.len() <= 101, "{}", gate.places.len());
        }
        assert!(gate.places.contains_key(&guesser.place), "who has failed is remembered longest");
        for n in 100..2100 {
            assert_eq!(gate.enter(place(n), 0, Some(BOUNDS)), Ok(()), "those who stay are all counted");
        }
        assert!(gate.places.len() >= 2000);
    }

    #[test]
    fn guessed_secrets_bar_their_address_ever_longer() {
        let (mut gate, limits) = (Gate::default(), Limits::default());
        gate.enter(place(1), 0, None).unwrap();
        gate.enter(place(2), 0, None).unwrap();
        let mut now_ms = 0;
        for barred_ms in [0, 0, 0, 0, 250, 500, 1000, 2000, 4000, 8000, 8000] {
            gate.guessed(place(1), now_ms, &limits);
            let (last_ms, next_ms) = (now_ms + u64::max(barred_ms, 1) - 1, now_ms + barred_ms);
            assert_eq!((gate.is_barred(place(1), last_ms), gate.is_barred(place(1), next_ms)), (barred_ms > 0, false));
            now_ms = next_ms;
        }
        assert!(!gate.is_barred(place(2), 0), "another address is not");
        gate.leave(place(1), now_ms, NEW);
        gate.guessed(place(1), now_ms, &limits);
        assert!(gate.is_barred(place(1), now_ms), "who has gone is still barred");
    }

    #[test]
    fn guesses_from_an_address_cost_ever_more_and_stand_in_line() {
        let (mut gate, limits) = (Gate::default(), Limits::default());
        gate.enter(place(1), 0, None).unwrap();
        gate.enter(place(2), 0, None).unwrap();
        let mut waits = Vec::new();
        let mut now_ms = 0;
        for account in 0..12 {
            let wait = gate.login(&who(1, account), now_ms, &limits).unwrap();
            waits.push(wait);
            now_ms += wait;
            gate.failed(&who(1, account), now_ms, &limits);
        }
        assert_eq!(waits, [0, 0, 0, 0, 0, 250, 500, 1000, 2000, 4000, 8000, 8000]);
        // At once: one behind the other, and not more than two.
        assert_eq!([1, 2, 3].map(|n| gate.login(&who(1, n), now_ms, &limits)), [Some(8000), Some(16_000), None]);
        assert_eq!(gate.login(&who(2, 1), now_ms, &limits), Some(0), "another address does not wait");
        assert_eq!(gate.login(&Attempt { exempt: true, ..who(1, 1) }, now_ms, &limits), Some(0));
        assert_eq!(gate.login(&who(1, 1), now_ms + 8 * FORGET_MS, &limits), Some(0), "it is forgotten");
    }

    #[test]
    fn an_account_that_many_guess_at_is_slow_for_strangers_and_open_for_its_user() {
        let (mut gate, limits) = (Gate::default(), Limits::default());
        (0..200).for_each(|n| gate.enter(place(n), 0, None).unwrap());
        gate.succeeded(&who(1, 7), 0, &limits);
        for n in 100..200 {
            gate.failed(&who(n, 7), 0, &limits);
        }
        assert_eq!(gate.login(&who(1, 7), 0, &limits), Some(0), "from where he has been before");
        for n in [2, 3, 4] {
            assert_eq!(gate.login(&who(n, 7), 0, &limits), Some(2000), "elsewhere two seconds, and no line");
        }
        assert_eq!(gate.login(&who(2, 8), 0, &limits), Some(0), "another account");
        // A neighbour guesses: five for nothing, then as everybody.
        for _ in 0..KNOWN_FAILURES {
            assert_eq!(gate.login(&who(1, 7), 0, &limits), Some(0));
            gate.failed(&who(1, 7), 0, &limits);
        }
        assert_eq!(gate.login(&who(1, 7), 0, &limits), Some(2000));
        gate.succeeded(&who(1, 7), 0, &limits);
        assert_eq!(gate.login(&who(1, 7), 0, &limits), Some(0));
    }

    #[test]
    fn what_is_remembered_of_accounts_is_bounded() {
        let (mut gate, limits) = (Gate::default(), Limits { addresses_max: 10, ..Limits::default() });
        gate.enter(place(1), 0, None).unwrap();
        for account in 0..100 {
            gate.failed(&who(1, account), account, &limits);
            gate.succeeded(&who(1, account), account, &limits);
            assert!(gate.accounts.len() <= 10 && gate.known.len() <= 10);
        }
        assert_eq!(gate.login(&who(1, 99), 0, &limits), Some(0));
    }
}

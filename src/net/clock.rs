//! The only place that reads a clock and the operating system's random source.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ring::rand::{SecureRandom, SystemRandom};

use crate::clock::{Entropy, Now};

/// Both clocks of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock whose monotonic zero is this moment.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The present.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| whole_ms(d) as i64);
        Now { mono_ms: whole_ms(self.start.elapsed()), wall_ms: wall }
    }

    /// What the process has had of the processors so far, in milliseconds, with the precision of the system's own
    /// count; none where the system does not tell.
    #[cfg(feature = "http")]
    pub fn cpu_ms(&self) -> Option<u64> {
        let text = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name of the program, in brackets, may hold anything.
        let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let mut ticks = || fields.next()?.parse::<u64>().ok();
        let all = ticks()? + ticks()?;
        Some(all * 1000 / rustix::param::clock_ticks_per_second().max(1))
    }

    /// When the monotonic clock will read `mono_ms`; None for a time that this machine cannot count to.
    pub fn instant(&self, mono_ms: u64) -> Option<Instant> {
        self.start.checked_add(Duration::from_millis(mono_ms))
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Random bytes of the operating system.
pub struct SystemEntropy {
    random: SystemRandom,
}

impl SystemEntropy {
    /// Checks once that the system gives random bytes, so that [`Entropy::fill`] can rely on it. None where it does
    /// not.
    pub fn open() -> Option<Self> {
        let random = SystemRandom::new();
        random.fill(&mut [0; 16]).ok()?;
        Some(Self { random })
    }
}

impl Entropy for SystemEntropy {
    fn fill(&mut self, out: &mut [u8]) {
        // getrandom(2) has answered once and cannot fail after that. Should it all the same, tokens and nonces would be
        // guessable, and it is better not to run.
        if self.random.fill(out).is_err() {
            log::error!("the operating system gives no random bytes any more; couplet stops");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_count_milliseconds() {
        let clock = Clock::start();
        let now = clock.now();
        assert!(now.mono_ms < 60_000, "{now:?}");
        assert!(now.wall_ms > 1_700_000_000_000, "{now:?}");
        assert!(clock.instant(now.mono_ms + 60_000).is_some_and(|at| at > Instant::now()));
    }

    #[test]
    fn random_bytes_differ() {
        let mut entropy = SystemEntropy::open().expect("this machine has a random source");
        let (mut a, mut b) = ([0; 16], [0; 16]);
        entropy.fill(&mut a);
        entropy.fill(&mut b);
        assert_ne!(a, b);
    }
}

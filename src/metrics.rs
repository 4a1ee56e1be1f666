//! Counters of what has happened since the start. They wrap; readers take differences.

macro_rules! counters {
    ($( $name:ident $doc:literal; )*) => {
        /// The counters.
        #[derive(Clone, Debug, Default)]
        pub struct Counters { $( #[doc = $doc] pub $name: u32, )* }

        impl Counters {
            /// Name, value and meaning of each, for `couplet status`.
            pub fn rows(&self) -> Vec<(&'static str, u32, &'static str)> {
                vec![ $( (stringify!($name), self.$name, $doc), )* ]
            }
        }
    };
}

counters! {
    connections "Connections accepted.";
    logins "Successful logins.";
    logins_failed "Logins that failed.";
    turned_away "Connections that limits did not let in.";
    messages "Messages routed.";
    presences "Presence stanzas routed.";
    iqs "IQ stanzas routed.";
    bounced "Stanzas returned to their sender with an error.";
    dropped "Stanzas dropped as the specifications ask.";
    stream_errors "Streams closed with an error.";
    shed "Connections closed because memory was short.";
    commits_failed "Writes that storage refused.";
    commits "Writes that the disk has confirmed, many of them together.";
    panics "Inputs whose handling failed by a bug of ours.";
}

/// Stanzas that have left for connections since the shell last asked, by when their last bytes were read: the moment
/// that their parcels carry as [`Now::stamp`](crate::clock::Now::stamp), or 0 if they are not to be counted, because
/// their client was away, has nobody who looks at it, or they come from storage.
///
/// What leaves together has come together, most often: so few moments are told apart, and all others count as the last.
#[derive(Debug, Default)]
pub struct Left {
    #[cfg(feature = "http")]
    groups: [(u32, u32); GROUPS],
}

/// Stanzas that have left: those for clients, those for other servers and components.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "said above")]
pub struct AllLeft {
    pub clients: Left,
    pub servers: Left,
}

#[cfg(feature = "http")]
const GROUPS: usize = 8;

impl Left {
    /// A stanza leaves that was read then.
    #[cfg(feature = "http")]
    pub fn add(&mut self, read_ms: u32) {
        if read_ms == 0 {
            return;
        }
        let is_its = |(ms, count): &(u32, u32)| *ms == read_ms || *count == 0;
        let at = self.groups.iter().position(is_its).unwrap_or(GROUPS - 1);
        let (ms, count) = &mut self.groups[at];
        if *count == 0 {
            *ms = read_ms;
        }
        *count = count.saturating_add(1);
    }

    /// A stanza leaves.
    #[cfg(not(feature = "http"))]
    pub fn add(&mut self, _: u32) {}

    /// Their sockets have got them, `us` behind the moment that `now_ms` is. None are left.
    #[cfg(feature = "http")]
    pub fn hand_over(&mut self, now_ms: u32, us: u64, to: &mut Durations) {
        for (read_ms, count) in &mut self.groups {
            if *count == 0 {
                return;
            }
            to.add_many(u64::from(now_ms.wrapping_sub(*read_ms)) * 1000 + us, *count);
            *count = 0;
        }
    }
}

/// What a figure is.
#[cfg(feature = "http")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, until the server starts anew or it has reached 2^32.
    Counter,
    /// It is as it is.
    Gauge,
}

/// A figure for those who watch the server.
#[cfg(feature = "http")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// What it is.
    pub kind: Kind,
    /// Its name, without what names the program.
    pub name: &'static str,
    /// One line that says what it counts.
    pub help: &'static str,
    /// Values, each with its labels.
    pub samples: Vec<(String, u64)>,
}

#[cfg(feature = "http")]
impl Figure {
    /// One value without labels.
    pub fn one(kind: Kind, name: &'static str, help: &'static str, value: u64) -> Self {
        Self { kind, name, help, samples: vec![(String::new(), value)] }
    }

    /// A counter.
    pub fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self::one(Kind::Counter, name, help, value)
    }
}

/// How long something took, each time.
#[cfg(feature = "http")]
#[derive(Clone, Debug, Default)]
pub struct Durations {
    counts: [u32; LIMITS.len()],
    longer: u32,
    sum_us: u64,
}

/// Upper limits of what is counted together, in microseconds, and how they are written in seconds.
#[cfg(feature = "http")]
const LIMITS: [(u64, &str); 11] = [
    (100, "0.0001"),
    (500, "0.0005"),
    (1000, "0.001"),
    (5000, "0.005"),
    (10_000, "0.01"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (500_000, "0.5"),
    (1_000_000, "1.0"),
    (5_000_000, "5.0"),
    (10_000_000, "10.0"),
];

#[cfg(feature = "http")]
impl Durations {
    /// It took so many microseconds.
    pub fn add(&mut self, us: u64) {
        self.add_many(us, 1);
    }

    /// It took so many microseconds, so many times.
    pub fn add_many(&mut self, us: u64, times: u32) {
        self.sum_us = self.sum_us.wrapping_add(us.saturating_mul(u64::from(times)));
        let count = match LIMITS.iter().position(|(limit, _)| us <= *limit) {
            Some(at) => &mut self.counts[at],
            None => &mut self.longer,
        };
        *count = count.wrapping_add(times);
    }

    /// How often.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum::<u64>() + u64::from(self.longer)
    }

    /// All together, in microseconds.
    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// What has been counted since.
    #[cfg(feature = "statistics")]
    #[must_use]
    pub fn since(&self, before: Option<&Self>) -> Self {
        let mut lately = self.clone();
        if let Some(before) = before {
            lately.counts.iter_mut().zip(before.counts).for_each(|(count, old)| *count = count.wrapping_sub(old));
            lately.longer = lately.longer.wrapping_sub(before.longer);
            lately.sum_us = lately.sum_us.wrapping_sub(before.sum_us);
        }
        lately
    }

    /// What so many of a hundred did not exceed, in microseconds, as far as the limits tell: the lowest of them that
    /// holds, and the highest where none does. None when nothing was counted.
    #[cfg(feature = "statistics")]
    pub fn quantile_us(&self, percent: u64) -> Option<u64> {
        let wanted = (self.count() * percent).div_ceil(100);
        let mut sum = 0;
        let reaches = |(_, count): &(&(u64, &str), &u32)| {
            sum += u64::from(**count);
            sum >= wanted
        };
        let limit = LIMITS.iter().zip(&self.counts).find(reaches).map_or(LIMITS.last(), |(limit, _)| Some(limit));
        limit.filter(|_| wanted > 0).map(|(us, _)| *us)
    }

    /// How often it took no longer than each of some seconds.
    pub fn buckets(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let mut sum = 0;
        let limited = LIMITS.iter().zip(self.counts).map(move |((_, limit), count)| {
            sum += u64::from(count);
            (*limit, sum)
        });
        limited.chain([("+Inf", self.count())])
    }
}

#[cfg(all(test, feature = "http"))]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_is_counted_by_when_it_was_read() {
        let (mut left, mut took) = (Left::default(), Durations::default());
        // Those that are not to be counted are not; of moments beyond the eighth none is lost.
        for read_ms in [0, 100, 100, 98, 0].into_iter().chain(10..20) {
            left.add(read_ms);
        }
        left.hand_over(100, 400, &mut took);
        let buckets: Vec<(&str, u64)> = took.buckets().collect();
        assert_eq!(took.count(), 13);
        assert_eq!(buckets[1], ("0.0005", 2));
        assert_eq!(buckets[3], ("0.005", 3));
        assert_eq!(buckets[6], ("0.1", 13));
        left.hand_over(200, 0, &mut took);
        assert_eq!(took.count(), 13, "each once");
        // The clock of 32 bits goes round after 49 days.
        left.add(u32::MAX);
        left.hand_over(1, 0, &mut took);
        assert_eq!(took.buckets().nth(3), Some(("0.005", 4)));
    }
}

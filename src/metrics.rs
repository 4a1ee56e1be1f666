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
const LIMITS: [(u64, &str); 9] = [
    (100, "0.0001"),
    (500, "0.0005"),
    (1000, "0.001"),
    (5000, "0.005"),
    (10_000, "0.01"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (500_000, "0.5"),
    (1_000_000, "1.0"),
];

#[cfg(feature = "http")]
impl Durations {
    /// It took so many microseconds.
    pub fn add(&mut self, us: u64) {
        self.sum_us = self.sum_us.wrapping_add(us);
        match LIMITS.iter().position(|(limit, _)| us <= *limit) {
            Some(at) => self.counts[at] = self.counts[at].wrapping_add(1),
            None => self.longer = self.longer.wrapping_add(1),
        }
    }

    /// How often.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum::<u64>() + u64::from(self.longer)
    }

    /// All together, in microseconds.
    pub fn sum_us(&self) -> u64 {
        self.sum_us
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

//! What rules remember: how much of each rate is used up, and who has which mark.

use super::config::{By, Limit};
use crate::core::rates::{Bucket, Rate};
use crate::jid::Jid;
use std::collections::BTreeMap;

/// What one entry takes beside its key: its share of a node that may be half empty.
const ENTRY_BYTES: usize = 2 * (size_of::<Box<str>>() + size_of::<u64>());

/// A number of stanzas in a time, and who has used up how much of it.
#[derive(Debug)]
pub struct Counted {
    name: String,
    by: By,
    /// In units of which a thousand flow in each second, so that they are milliseconds.
    rate: Rate,
    /// What a stanza takes.
    cost: u32,
    buckets: BTreeMap<Box<str>, Bucket>,
    bytes: usize,
}

impl Counted {
    /// One that nobody has used.
    pub fn new(limit: &Limit) -> Self {
        let (per_ms, stanzas) = (limit.per.0.saturating_mul(1000), limit.stanzas.max(1));
        let cost = (per_ms / stanzas).max(1);
        // What is taken when nothing is owed may owe one stanza more.
        let rate = Rate { per_s: 1000, burst: per_ms.saturating_sub(cost) };
        Self { name: limit.name.clone(), by: limit.by, rate, cost, buckets: BTreeMap::new(), bytes: 0 }
    }

    /// Goes on with what another one knows, if it is the same rate.
    pub fn inherit(&mut self, old: Vec<Self>) -> Vec<Self> {
        let mut old = old;
        let same = old.iter().position(|o| o.name == self.name && o.by == self.by && o.rate == self.rate);
        if let Some(same) = same.map(|at| old.swap_remove(at)) {
            (self.buckets, self.bytes) = (same.buckets, same.bytes);
        }
        old
    }

    /// Counts a stanza; true when there were too many before it, and then it is not counted.
    pub fn is_over(&mut self, from: &Jid, to: &Jid, now_ms: u64, max: usize) -> bool {
        let key = match self.by {
            By::Sender => from.bare_str(),
            By::Domain => from.domain(),
            By::Recipient => to.bare_str(),
            By::All => "",
        };
        let (rate, cost) = (self.rate, self.cost as usize);
        if let Some(bucket) = self.buckets.get_mut(key) {
            let is_over = bucket.ready_ms(rate, now_ms).is_some();
            if !is_over {
                bucket.take(cost, rate, now_ms);
            }
            return is_over;
        }
        if self.buckets.len() >= max {
            self.buckets.retain(|_, bucket| !bucket.is_full(now_ms));
            if self.buckets.len() >= max {
                // So many at once are a flood; who has used up least is forgotten.
                let least = self.buckets.iter().min_by_key(|(_, bucket)| bucket.full_ms()).map(|(key, _)| key.clone());
                least.and_then(|key| self.buckets.remove(&key));
            }
            self.bytes = self.buckets.keys().map(|key| key.len() + ENTRY_BYTES).sum();
        }
        let mut bucket = Bucket::default();
        bucket.take(cost, rate, now_ms);
        self.bytes += key.len() + ENTRY_BYTES;
        self.buckets.insert(key.into(), bucket);
        false
    }

    /// What it holds.
    pub fn held_bytes(&self) -> usize {
        self.bytes
    }
}

/// Who has which mark.
#[derive(Debug, Default)]
pub struct Marks {
    /// Until when, by mark and bare address.
    all: BTreeMap<(Box<str>, Box<str>), u64>,
    bytes: usize,
}

impl Marks {
    /// Gives somebody a mark.
    pub fn set(&mut self, mark: &str, who: &Jid, until_ms: u64, now_ms: u64, max: usize) {
        let key = (Box::from(mark), Box::from(who.bare_str()));
        if !self.all.contains_key(&key) && self.all.len() >= max {
            self.all.retain(|_, until| *until > now_ms);
            if self.all.len() >= max {
                let first = self.all.iter().min_by_key(|(_, until)| **until).map(|(key, _)| key.clone());
                first.and_then(|key| self.all.remove(&key));
            }
        }
        self.all.insert(key, until_ms);
        self.bytes = self.all.keys().map(|(mark, who)| mark.len() + who.len() + 2 * ENTRY_BYTES).sum();
    }

    /// True when somebody has it.
    pub fn has(&self, mark: &str, who: &Jid, now_ms: u64) -> bool {
        !self.all.is_empty()
            && self.all.get(&(Box::from(mark), Box::from(who.bare_str()))).is_some_and(|until| *until > now_ms)
    }

    /// What they hold.
    pub fn held_bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setting::Seconds;

    fn jid(text: &str) -> Jid {
        Jid::parse(text).unwrap()
    }

    fn counted(stanzas: u32, by: By) -> Counted {
        Counted::new(&Limit { name: "x".to_string(), stanzas, per: Seconds(60), by })
    }

    #[test]
    fn as_many_pass_as_are_said_and_then_one_each_time_that_its_share_has_flown_back() {
        for stanzas in [1, 3, 10, 60_000, 1_000_000] {
            let mut rate = counted(stanzas, By::Sender);
            let (from, to) = (jid("a@b/1"), jid("c@d"));
            let passed = (0..stanzas + 5).filter(|_| !rate.is_over(&from, &to, 1000, 100)).count();
            assert_eq!(passed, stanzas.min(60_000) as usize, "{stanzas}");
            let later = 1000 + u64::from(60_000 / stanzas.min(60_000));
            assert!(!rate.is_over(&jid("a@b/2"), &to, later, 100), "another resource, a share later");
            assert!(rate.is_over(&from, &to, later, 100));
            assert!(!rate.is_over(&jid("x@b"), &to, later, 100), "somebody else");
        }
    }

    #[test]
    fn a_flood_of_senders_is_bounded() {
        let mut rate = counted(2, By::Sender);
        for n in 0..500 {
            assert!(!rate.is_over(&jid(&format!("u{n}@b")), &jid("c@d"), n, 16));
        }
        assert_eq!(rate.buckets.len(), 16);
        assert!(rate.held_bytes() > 0 && rate.held_bytes() < 16 * 200);
        let mut marks = Marks::default();
        for n in 0..500 {
            marks.set("m", &jid(&format!("u{n}@b")), n + 1000, n, 16);
        }
        assert_eq!(marks.all.len(), 16);
        assert!(marks.has("m", &jid("u499@b/x"), 500) && !marks.has("m", &jid("u499@b"), 1499));
    }

    #[test]
    fn what_is_counted_together_is_what_was_said() {
        let (a, b, c, d) = (jid("a@x/1"), jid("b@x"), jid("c@y"), jid("d@y"));
        for (by, from, to) in [(By::Domain, &b, &d), (By::Recipient, &b, &c), (By::All, &b, &d)] {
            let mut rate = counted(1, by);
            assert!(!rate.is_over(&a, &c, 0, 9));
            assert!(rate.is_over(from, to, 0, 9), "{by:?}");
        }
    }
}

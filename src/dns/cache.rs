//! Answers that are still valid, those that say that there is nothing among them (RFC 2308).

use std::collections::BTreeMap;

use super::message::Question;
use super::query::Answer;
use crate::clock::Now;

/// Nothing is believed for longer, whatever its time to live says: a day.
const TTL_S_MAX: u32 = 86_400;

/// That there is nothing is believed for five minutes at most: it is often about to change.
const NEGATIVE_TTL_S_MAX: u32 = 300;

/// Answers by question.
#[derive(Debug)]
pub struct Cache {
    entries: BTreeMap<Question, Entry>,
    count_max: usize,
}

#[derive(Debug)]
struct Entry {
    answer: Answer,
    /// On the monotonic clock.
    until_ms: u64,
}

impl Cache {
    /// An empty cache for that many answers.
    pub fn new(count_max: u32) -> Self {
        Self { entries: BTreeMap::new(), count_max: count_max as usize }
    }

    /// What was answered to a question, if it is still valid.
    pub fn find(&self, question: &Question, now: Now) -> Option<Answer> {
        let entry = self.entries.get(question).filter(|entry| entry.until_ms > now.mono_ms)?;
        Some(entry.answer.clone())
    }

    /// Keeps an answer for its time. A failure is not kept: the next one who asks may be luckier.
    pub fn keep(&mut self, question: Question, answer: &Answer, now: Now) {
        let ttl_s = match answer.result {
            Ok(_) => answer.ttl_s.min(TTL_S_MAX),
            Err(error) if error.is_negative() => answer.ttl_s.min(NEGATIVE_TTL_S_MAX),
            Err(_) => 0,
        };
        if ttl_s == 0 || self.count_max == 0 {
            return;
        }
        if self.entries.len() >= self.count_max && !self.entries.contains_key(&question) {
            self.entries.retain(|_, entry| entry.until_ms > now.mono_ms);
        }
        if self.entries.len() >= self.count_max && !self.entries.contains_key(&question) {
            let first =
                self.entries.iter().min_by_key(|(_, entry)| entry.until_ms).map(|(question, _)| question.clone());
            first.and_then(|question| self.entries.remove(&question));
        }
        let until_ms = now.mono_ms + u64::from(ttl_s) * 1000;
        self.entries.insert(question, Entry { answer: answer.clone(), until_ms });
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Record;
    use super::super::{DnsError, Kind};
    use super::*;
    use std::net::IpAddr;

    fn at(seconds: u64) -> Now {
        Now { mono_ms: seconds * 1000, wall_ms: 0 }
    }

    fn question(name: &str) -> Question {
        Question { name: name.to_string(), kind: Kind::A }
    }

    fn good(ttl_s: u32) -> Answer {
        Answer { result: Ok(vec![Record::Address(IpAddr::from([192, 0, 2, 1]))]), ttl_s }
    }

    #[test]
    fn answers_are_valid_for_their_time() {
        let mut cache = Cache::new(8);
        cache.keep(question("a"), &good(60), at(1));
        assert_eq!(cache.find(&question("a"), at(60)), Some(good(60)));
        assert_eq!(cache.find(&question("a"), at(61)), None);
        assert_eq!(cache.find(&Question { kind: Kind::Aaaa, ..question("a") }, at(2)), None);
        cache.keep(question("b"), &good(0), at(1));
        assert_eq!(cache.find(&question("b"), at(1)), None);
        cache.keep(question("c"), &good(u32::MAX), at(1));
        assert!(cache.find(&question("c"), at(86_400)).is_some() && cache.find(&question("c"), at(86_401)).is_none());
    }

    #[test]
    fn nothing_is_remembered_for_a_short_time_and_failures_are_not() {
        let mut cache = Cache::new(8);
        for (error, until_s) in [(DnsError::NoName, 301), (DnsError::NoData, 301), (DnsError::Timeout, 0)] {
            let answer = Answer { result: Err(error), ttl_s: 86_400 };
            cache.keep(question("a"), &answer, at(1));
            assert_eq!(cache.find(&question("a"), at(until_s)), None);
            assert_eq!(cache.find(&question("a"), at(300)).is_some(), until_s > 0);
            cache.clear();
        }
    }

    #[test]
    fn a_full_cache_forgets_what_ends_first() {
        let mut cache = Cache::new(2);
        cache.keep(question("a"), &good(50), at(0));
        cache.keep(question("b"), &good(20), at(0));
        cache.keep(question("c"), &good(90), at(0));
        let known = |cache: &Cache| ["a", "b", "c", "d"].map(|name| cache.entries.contains_key(&question(name)));
        assert_eq!(known(&cache), [true, false, true, false]);
        cache.keep(question("d"), &good(1), at(60));
        assert_eq!(known(&cache), [false, false, true, true], "what has ended goes first");
        cache.keep(question("d"), &good(9), at(60));
        assert_eq!(cache.entries.len(), 2);
    }
}

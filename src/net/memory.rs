//! What the process weighs, by what the system says.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::clock::Now;

/// How often it is looked at, at most, while not much is being charged, in milliseconds.
const EVERY_MS: u64 = 1000;

/// How often at most in any case: much may be charged in a moment.
const PAUSE_MS: u64 = 20;

/// Looks at what the process weighs. The file stays open: whoever gives up rights after the start keeps it.
pub struct Scales {
    statm: File,
    page_bytes: usize,
    last_ms: Option<u64>,
}

impl Scales {
    /// None where the system does not tell.
    pub fn open() -> Option<Self> {
        let scales =
            Self { statm: File::open("/proc/self/statm").ok()?, page_bytes: rustix::param::page_size(), last_ms: None };
        scales.weigh().map(|_| scales)
    }

    /// Pages of the process that are in memory, those of the program among them, in bytes.
    pub fn weigh(&self) -> Option<usize> {
        let mut text = [0; 128];
        let len = self.statm.read_at(&mut text, 0).ok()?;
        let pages = std::str::from_utf8(text.get(..len)?).ok()?.split_ascii_whitespace().nth(1)?;
        Some(pages.parse::<usize>().ok()? * self.page_bytes)
    }

    /// The same, if it is time to look: once a second, and earlier when `is_stale`.
    pub fn weigh_now_and_then(&mut self, is_stale: bool, now: Now) -> Option<usize> {
        let pause_ms = if is_stale { PAUSE_MS } else { EVERY_MS };
        if self.last_ms.is_some_and(|last| now.mono_ms < last + pause_ms) {
            return None;
        }
        self.last_ms = Some(now.mono_ms);
        self.weigh()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_weighs_more_than_what_it_has_just_written_to() {
        let mut scales = Scales::open().expect("there is a /proc here");
        let before = scales.weigh().unwrap();
        let much = vec![1u8; 32 << 20];
        assert!(scales.weigh().unwrap() > before + (16 << 20));
        assert!(much.iter().all(|byte| *byte == 1));
        let at = |mono_ms| Now { mono_ms, wall_ms: 0 };
        assert!(scales.weigh_now_and_then(false, at(0)).is_some());
        assert!(scales.weigh_now_and_then(false, at(999)).is_none());
        assert!(scales.weigh_now_and_then(true, at(999)).is_some());
        assert!(scales.weigh_now_and_then(true, at(1000)).is_none());
    }
}

//! When nothing is read from a connection: there are several reasons, and the shell hears of the first and of the end
//! of the last. One of them is kept here: the rate at which a peer may send ([`crate::core::rates`]).
//!
//! A connection that is paused cannot acknowledge anything and cannot log in. So a deadline for the one begins anew
//! when reading does, and one for the other is given once more to whoever had to wait.

use super::{ConnId, Engine, Timer};
use crate::core::io::Output;
use crate::core::rates::{Bucket, Rate};

/// A reason not to read from a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Pause {
    /// What has come waits for an answer of ours.
    Question = 1,
    /// It has sent faster than it may.
    Pace = 2,
    /// What it sends has no room where it goes.
    Room = 4,
    /// It has more to say than the tick could take.
    Tick = 128,
}

const MINUTE_MS: u64 = 60_000;

/// All reasons.
const REASONS: u8 = 7 | Pause::Tick as u8;
/// It has waited for its rate.
const WAITED: u8 = 8;
/// It has been given more time for that.
const GRACED: u8 = 16;
/// It may send as fast as it can.
const EXEMPT: u8 = 32;
/// It has waited in the minute that is not judged yet.
const SLOWED: u8 = 64;

/// Why nothing is read from a connection, and what it has left of its rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pace {
    bucket: Bucket,
    flags: u8,
    /// Its score, where scores are kept, and the minute that is not judged yet.
    points: i8,
    minute: [u8; 2],
}

impl Pace {
    /// Whether this reason holds from now on. Returns whether reading pauses, when that is news.
    pub fn set(&mut self, why: Pause, holds: bool) -> Option<bool> {
        let before = self.is_paused();
        self.flags = if holds { self.flags | why as u8 } else { self.flags & !(why as u8) };
        (before != self.is_paused()).then_some(self.is_paused())
    }

    /// No reason holds any more. Returns as [`Pace::set`].
    pub fn clear(&mut self) -> Option<bool> {
        let before = self.is_paused();
        self.flags &= !REASONS;
        before.then_some(false)
    }

    /// True while one of the reasons holds.
    pub fn is_paused(&self) -> bool {
        self.flags & REASONS != 0
    }

    /// True while this one holds.
    pub fn has(&self, why: Pause) -> bool {
        self.flags & why as u8 != 0
    }

    /// Whether a deadline for what the peer has to say is given once more. It is for a peer that could not be heard,
    /// and only the first time: nobody buys time by sending fast.
    pub fn grace(&mut self) -> bool {
        let due = self.flags & (WAITED | GRACED) == WAITED;
        if due {
            self.flags |= GRACED;
        }
        due
    }

    /// How often a deadline holds, [`Pace::grace`] among it.
    pub fn times(&self) -> u64 {
        1 + u64::from(self.flags & GRACED != 0)
    }
}

/// What the shell is told.
pub(super) fn reading(conn: ConnId, pauses: bool) -> Output {
    if pauses { Output::PauseRead { conn } } else { Output::ResumeRead { conn } }
}

impl Engine {
    /// Says whether a reason not to read from a connection, of a client or of another server, holds from now on. It
    /// holds until this is called again: a connection that ends is read all the same, so that its end is noticed.
    pub(super) fn pause(&mut self, conn: ConnId, why: Pause, holds: bool) {
        let news = if self.is_link(conn) {
            self.pause_link(conn, why, holds)
        } else {
            self.conns.get_mut(conn.0).and_then(|c| c.pace.set(why, holds && !c.ends))
        };
        self.outputs.extend(news.map(|pauses| reading(conn, pauses)));
        #[cfg(feature = "compression")]
        if !holds && why != Pause::Tick {
            self.inflate_later(conn);
        }
    }

    /// Counts bytes that a connection has brought. While they are more than its rate allows, nothing more is read.
    pub(super) fn spend(&mut self, conn: ConnId, bytes: usize) {
        let now_ms = self.core.now.mono_ms;
        if self.core.settings.rates.adaptive.is_some() {
            self.judge(conn);
        }
        let Some((pace, rate)) = self.pace_of(conn) else { return };
        if rate.is_unlimited() {
            return;
        }
        let Some(at_ms) = pace.bucket.take(bytes, rate, now_ms) else { return };
        pace.flags |= WAITED | SLOWED;
        // Otherwise the timer is set, and will find that there is more to wait for.
        if !pace.has(Pause::Pace) {
            self.timers.insert((at_ms, Timer::Pace(conn)), ());
            self.pause(conn, Pause::Pace, true);
        }
    }

    /// Judges the last minute in which a connection has sent, once that is over, and takes over the score of whoever is
    /// at the other end, which his other connections have a part in.
    fn judge(&mut self, conn: ConnId) {
        let minute = ((self.core.now.mono_ms / MINUTE_MS) as u16).to_ne_bytes();
        let who = match self.conns.get(conn.0) {
            Some(c) => c.stream.user().zip(c.stream.host()).map(|(user, host)| self.keyed(["score", user, host])),
            None => self.remotes.link_proved(conn).map(|domain| self.keyed(["score", "", domain])),
        };
        let (Some(who), Some((pace, _))) = (who, self.pace_of(conn)) else { return };
        if pace.minute == minute {
            return;
        }
        let (is_first, has_waited) = (pace.minute == [0; 2], pace.flags & SLOWED != 0);
        pace.minute = minute;
        pace.flags &= !SLOWED;
        let points = match is_first {
            true => self.doors.score(who),
            false => self.doors.score_after(who, has_waited, self.core.settings.limits.addresses_max),
        };
        if let Some((pace, _)) = self.pace_of(conn) {
            pace.points = points;
        }
    }

    /// A connection has waited as long as it had to.
    pub(super) fn pace_due(&mut self, conn: ConnId) {
        let now_ms = self.core.now.mono_ms;
        let Some((pace, rate)) = self.pace_of(conn) else { return };
        match pace.bucket.ready_ms(rate, now_ms).filter(|_| pace.has(Pause::Pace)) {
            Some(at_ms) => _ = self.timers.insert((at_ms, Timer::Pace(conn)), ()),
            None => self.pause(conn, Pause::Pace, false),
        }
    }

    /// Whoever is at the other end may send as fast as it can.
    pub(super) fn exempt(&mut self, conn: ConnId) {
        self.pace_end(conn);
        if let Some((pace, _)) = self.pace_of(conn) {
            pace.flags |= EXEMPT;
        }
        self.pause(conn, Pause::Pace, false);
    }

    /// Takes the timer of a connection away that ends.
    pub(super) fn pace_end(&mut self, conn: ConnId) {
        let now_ms = self.core.now.mono_ms;
        if let Some((pace, rate)) = self.pace_of(conn)
            && let Some(at_ms) = pace.bucket.ready_ms(rate, now_ms)
        {
            self.timers.remove(&(at_ms, Timer::Pace(conn)));
        }
    }

    fn pace_of(&mut self, conn: ConnId) -> Option<(&mut Pace, Rate)> {
        let rates = &self.core.settings.rates;
        let (pace, rate) = match self.conns.get_mut(conn.0) {
            Some(c) => (&mut c.pace, rates.c2s),
            None => {
                let (pace, is_component) = self.remotes.link_pace(conn)?;
                (pace, if is_component { rates.component } else { rates.s2s })
            }
        };
        let rate = match rates.adaptive {
            _ if pace.flags & EXEMPT != 0 => Rate::UNLIMITED,
            Some(adaptive) => rate.adapted(adaptive, pace.points),
            None => rate,
        };
        Some((pace, rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shell_hears_of_the_first_reason_and_of_the_end_of_the_last() {
        let mut pace = Pace::default();
        assert_eq!(pace.set(Pause::Pace, false), None);
        assert_eq!(pace.set(Pause::Pace, true), Some(true));
        assert_eq!(pace.set(Pause::Room, true), None);
        assert_eq!(pace.set(Pause::Pace, false), None);
        assert!(pace.has(Pause::Room) && !pace.has(Pause::Pace));
        assert_eq!(pace.set(Pause::Room, true), None, "it holds already");
        assert_eq!(pace.set(Pause::Room, false), Some(false));
        assert_eq!(pace, Pace::default());
        assert_eq!(size_of::<Pace>(), 12);
    }

    #[test]
    fn whoever_had_to_wait_gets_more_time_once() {
        let mut pace = Pace::default();
        assert!(!pace.grace() && pace.times() == 1);
        pace.flags |= WAITED;
        assert!(pace.grace() && pace.times() == 2);
        pace.flags |= WAITED;
        assert!(!pace.grace());
    }
}

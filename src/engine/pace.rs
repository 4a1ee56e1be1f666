//! When nothing is read from a connection: there are several reasons, and the shell hears of the first and of the end
//! of the last.

use super::{ConnId, Engine};
use crate::core::io::Output;

/// A reason not to read from a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Pause {
    /// What has come waits for an answer of ours.
    Question = 1,
    /// It has sent faster than it may.
    #[allow(dead_code, reason = "of the limits of rates")]
    Pace = 2,
    /// What it sends has no room where it goes.
    #[allow(dead_code, reason = "of streams with other servers")]
    Room = 4,
}

/// All reasons that hold at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pauses(u8);

impl Pauses {
    /// Whether this reason holds from now on. Returns whether reading pauses, when that is news.
    pub fn set(&mut self, why: Pause, holds: bool) -> Option<bool> {
        let before = *self;
        self.0 = if holds { self.0 | why as u8 } else { self.0 & !(why as u8) };
        (before.any() != self.any()).then_some(self.any())
    }

    /// No reason holds any more. Returns as [`Pauses::set`].
    pub fn clear(&mut self) -> Option<bool> {
        std::mem::take(self).any().then_some(false)
    }

    /// True while one of them holds.
    pub fn any(self) -> bool {
        self.0 != 0
    }

    /// True while this one holds.
    #[allow(dead_code, reason = "of the limits of rates")]
    pub fn has(self, why: Pause) -> bool {
        self.0 & why as u8 != 0
    }
}

/// What the shell is told.
pub(super) fn reading(conn: ConnId, pauses: bool) -> Output {
    if pauses { Output::PauseRead { conn } } else { Output::ResumeRead { conn } }
}

impl Engine {
    /// Says whether a reason not to read from a connection, of a client or of another server, holds from now on. It
    /// holds until this is called again: a connection that ends is read all the same, so that its end is noticed.
    #[allow(dead_code, reason = "of the limits of rates")]
    pub(super) fn pause(&mut self, conn: ConnId, why: Pause, holds: bool) {
        let pauses = match self.remotes.link_pauses(conn) {
            Some((pauses, ends)) => pauses.set(why, holds && !ends),
            None => match self.conns.get_mut(conn.0) {
                Some(c) => c.pauses.set(why, holds && !c.ends),
                None => None,
            },
        };
        self.outputs.extend(pauses.map(|pauses| reading(conn, pauses)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shell_hears_of_the_first_reason_and_of_the_end_of_the_last() {
        let mut pauses = Pauses::default();
        assert_eq!(pauses.set(Pause::Pace, false), None);
        assert_eq!(pauses.set(Pause::Pace, true), Some(true));
        assert_eq!(pauses.set(Pause::Room, true), None);
        assert_eq!(pauses.set(Pause::Pace, false), None);
        assert!(pauses.has(Pause::Room) && !pauses.has(Pause::Pace));
        assert_eq!(pauses.set(Pause::Room, true), None, "it holds already");
        assert_eq!(pauses.set(Pause::Room, false), Some(false));
        assert_eq!(pauses, Pauses::default());
    }
}

//! What a small machine may lack: the time, memory, room on its disk. Each as one line that says what to do; the server
//! serves all the same, as well as it can.

use std::fs;
use std::path::Path;

use crate::clock;

/// 2026-01-01, in milliseconds since 1970: a machine whose clock says less has not been told the time yet.
pub const CLOCK_UNSET_BEFORE_MS: i64 = 1_767_225_600_000;

/// Room in bytes that a new store takes at once; later it gives most of it back.
pub const NEW_STORE_BYTES: u64 = 1_200_000;

/// Room in bytes with which a store goes on for a while.
const ROOM_BYTES: u64 = 1_000_000;

/// What a clock that nobody has set does. Machines without one of their own start in 1970, or when they last ran.
pub fn clock(wall_ms: i64) -> Option<String> {
    (wall_ms < CLOCK_UNSET_BEFORE_MS).then(|| {
        format!(
            "this machine's clock says {}: start what sets it (NTP) before couplet; until it is right, no certificate \
             of another server is valid, and messages carry wrong times",
            clock::datetime(wall_ms)
        )
    })
}

/// What a ceiling above the machine's memory does.
pub fn memory(max_bytes: u64) -> Option<String> {
    // The first is the whole machine's, the second what a container or a service gets of it.
    let whole = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_bytes(&text));
    let share = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    short_of(max_bytes, whole.into_iter().chain(share).min()?)
}

fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// A quarter stays for the system and for whatever else runs there.
fn short_of(max_bytes: u64, total_bytes: u64) -> Option<String> {
    (max_bytes > total_bytes / 4 * 3).then(|| {
        format!(
            "memory.max lets couplet take {} MB, and there are {} MB in all: set memory.max = \"{} MB\", or the system \
             may kill couplet before it can refuse anybody",
            max_bytes / 1_000_000,
            total_bytes / 1_000_000,
            (total_bytes / 2_000_000).max(8)
        )
    })
}

/// Bytes that are free for this user where `folder` is; none where that cannot be said.
pub fn room_bytes(folder: &Path) -> Option<u64> {
    let room = rustix::fs::statvfs(folder).ok()?;
    room.f_bavail.checked_mul(room.f_frsize)
}

/// What a disk that is nearly full does.
pub fn room(folder: &Path) -> Option<String> {
    let free = room_bytes(folder).filter(|free| *free < ROOM_BYTES)?;
    Some(format!(
        "only {} kB are free where {} is: free some space, or what adds to the store will be refused soon",
        free / 1000,
        folder.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_never_set_is_told_from_one_that_was() {
        assert!(clock(60_000).is_some_and(|line| line.contains("1970-01-01T00:01:00Z") && line.contains("NTP")));
        assert_eq!(clock(CLOCK_UNSET_BEFORE_MS), None);
    }

    #[test]
    fn a_ceiling_leaves_room_for_the_program() {
        assert_eq!(total_bytes("MemTotal:       61440 kB\nMemFree: 1 kB\n"), Some(62_914_560));
        assert_eq!(total_bytes("MemTotal: many\n"), None);
        assert_eq!(short_of(32_000_000, 62_914_560), None);
        let line = short_of(32_000_000, 32 << 20).unwrap();
        assert!(line.contains("32 MB, and there are 33 MB") && line.contains("memory.max = \"16 MB\""), "{line}");
        assert_eq!(memory(0), None);
    }

    #[test]
    fn a_machine_that_can_build_this_has_some_room() {
        assert!(room_bytes(Path::new("/")).is_some());
        assert_eq!(room_bytes(Path::new("/no/such/folder")), None);
    }
}

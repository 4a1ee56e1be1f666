//! The engine with two accounts on three connections: what they say, when it comes, what the disk does meanwhile, and
//! who goes and comes back.
//!
//! The input is a list of deeds that end with the byte 0xFF. The first byte of each says what happens:
//!
//! | byte | what |
//! |---|---|
//! | `0` `1` `2` | that lane sends the bytes behind it; lane 2 is of the account of lane 0 |
//! | `d` `o` `s` `r` | a lane drops, logs in again, reads nothing more, reads again |
//! | `t` | time passes: 10 ms to the power of the digit behind it |
//! | `h` `w` `f` | the disk holds back what is written, writes all of it, refuses all of it |
//! | `k` `q` | the server is killed, or stopped, and starts again |

use super::world::{World, settings};

/// Deeds of one run; more cost time and show nothing.
const DEEDS_MAX: usize = 48;
/// Account and resource of each lane.
const LANES: [(usize, &str); 3] = [(0, "a"), (1, "b"), (0, "c")];

pub fn run(data: &[u8]) {
    let mut world = World::new(settings(|_| ()));
    // Which lane of the world is at present the one of that number.
    let mut lanes = LANES.map(|(account, resource)| world.log_in(account, resource));
    for deed in data.split(|byte| *byte == 0xFF).take(DEEDS_MAX) {
        let Some((&what, rest)) = deed.split_first() else { continue };
        let digit = rest.first().map_or(0, |byte| usize::from(byte.wrapping_sub(b'0')));
        let number = digit % LANES.len();
        match what {
            b'0'..=b'2' => world.send(lanes[usize::from(what - b'0')], rest),
            b'd' => world.drop_lane(lanes[number]),
            b'o' if world.lanes[lanes[number]].id.is_none() => {
                let (account, resource) = LANES[number];
                lanes[number] = world.log_in(account, resource);
            }
            b's' => world.stall(lanes[number], true),
            b'r' => world.stall(lanes[number], false),
            b't' => world.pass(10_u64.pow(digit.min(6) as u32)),
            b'h' => world.slow = true,
            b'w' | b'f' => {
                world.slow = false;
                world.write(what == b'f');
            }
            b'k' | b'q' => world.restart(what == b'k'),
            _ => {}
        }
    }
    for lane in lanes {
        world.drop_lane(lane);
    }
    world.shut_down();
}

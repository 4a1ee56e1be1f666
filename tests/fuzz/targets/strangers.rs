//! Who has not logged in: a client, and another server. Whatever they say, nobody hears it, nothing is stored for
//! them, and they get no stanza.

use super::world::{World, settings};
use couplet::core::io::{Role, Transport};
use couplet::stream::s2s::Component;

/// A client. The first byte says how it connects; the rest comes in pieces that end with 0xFF, an empty one is time
/// that passes.
pub fn client(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let mut world = World::new(settings(|settings| {
        settings.core.encryption_required = first & 2 != 0;
        settings.core.sasl2 = first & 4 == 0;
        settings.core.plain_allowed = first & 8 == 0;
    }));
    let witness = world.log_in(0, "a");
    let (heard, batches) = (world.lanes[witness].heard, world.batches);
    let transport = if first & 1 == 0 { Transport::DirectTls } else { Transport::StartTls };
    let stranger = world.connect(Role::Client, transport).expect("room for a client");
    for piece in rest.split(|byte| *byte == 0xFF) {
        match piece {
            [] => world.pass(10_000),
            piece => world.send(stranger, piece),
        }
    }
    assert_eq!(world.lanes[stranger].heard, 0, "a stranger is told something");
    assert_eq!(world.lanes[witness].heard, heard, "a stranger is heard");
    assert_eq!(world.batches, batches, "a stranger is remembered");
    world.pass(60_000);
    assert!(world.lanes[stranger].id.is_none(), "a stranger stays");
    world.shut_down();
}

/// Another server, or a component, and the connections that it makes us open. The first byte says which and how; the
/// rest comes in pieces that end with 0xFF. The first byte of a piece says which:
///
/// | byte | what |
/// |---|---|
/// | `0` | the lane that came in sends the bytes behind it |
/// | `1` | so does the one that we have opened last |
/// | `c` `f` | the next connection that we want to open can be had, or not |
/// | `t` | 10 s pass |
/// | `w` | the witness writes to that address |
pub fn server(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let mut world = World::new(settings(|settings| {
        settings.core.s2s.dialback = true;
        settings.core.s2s.secure_auth = false;
        settings.core.s2s.insecure = vec!["b.example".to_owned(), "c.example".to_owned()];
        let secret = "4hT-ycL8-2pQe".to_owned().into();
        settings.core.components = vec![Component { domain: "irc.localhost".to_owned(), secret }];
    }));
    let witness = world.log_in(0, "a");
    let heard = world.lanes[witness].heard;
    let role = if first & 1 == 0 { Role::Server } else { Role::Component };
    let transport = if first & 2 == 0 { Transport::StartTls } else { Transport::DirectTls };
    let stranger = world.connect(role, transport).expect("room for a server");
    // Whoever answers for a domain may say that it is who it is.
    let (mut dialed, mut asked) = (None, false);
    for piece in rest.split(|byte| *byte == 0xFF).take(32) {
        let Some((&what, bytes)) = piece.split_first() else { continue };
        match what {
            b'0' => world.send(stranger, bytes),
            b'1' => {
                if let Some(lane) = dialed {
                    world.send(lane, bytes);
                }
            }
            b'c' | b'f' => dialed = world.answer_dial(what == b'c').or(dialed),
            b't' => world.pass(10_000),
            b'w' => {
                asked = true;
                let to = String::from_utf8_lossy(bytes).replace(['\'', '<', '&', '>'], "");
                world.send(witness, format!("<message to='{to}' id='w'><body>hi</body></message>").as_bytes());
            }
            _ => {}
        }
    }
    let lane = &world.lanes[witness];
    if dialed.is_none() && !asked {
        assert_eq!(lane.heard, heard, "a stranger is heard as {}", lane.heard_from);
    }
    assert!(dialed.is_some() || world.lanes[stranger].heard == 0, "a stranger is told something");
    world.shut_down();
}

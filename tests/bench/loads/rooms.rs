//! Group chat: one room with many people, and many rooms with nobody.

use super::{Tally, body, deaf, number};
use crate::crowd::{Crowd, HOST, News, PATIENCE, Profile};
use crate::frame::has;
use crate::net::{Id, Net};
use crate::process::{Span, rss_bytes};
use crate::report::Sheet;
use crate::seed::strangers;
use crate::server::Server;
use std::cell::Cell;
use std::time::{Duration, Instant};

const OCCUPANTS: usize = 100;
/// Occupants who write, each with so many messages under way.
const SPEAKERS: usize = 10;
const WINDOW: usize = 4;
const WARM_UP: Duration = Duration::from_millis(500);
const TIME: Duration = Duration::from_secs(2);

const IDLE_ROOMS: usize = 10_000;
const OWNERS: usize = 100;

fn enter(room: &str, nick: usize) -> String {
    let x = "<x xmlns='http://jabber.org/protocol/muc'/>";
    format!("<presence to='{room}@conference.{HOST}/n{nick}'>{x}</presence>")
}

fn unlock(room: &str) -> String {
    let query = "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query>";
    format!("<iq type='set' id='unlock' to='{room}@conference.{HOST}'>{query}</iq>")
}

/// Waits for so many occupants to hear that they are in.
fn wait_entered(crowd: &mut Crowd, count: usize) -> Result<(), String> {
    let entered = Cell::new(0);
    let mut hear = |_: &mut Net, _: Id, news: News<'_>| {
        let is_own = |stanza| has(stanza, "code='110'") || has(stanza, "code=\"110\"");
        entered.set(entered.get() + usize::from(matches!(news, News::Stanza(stanza) if is_own(stanza))));
    };
    match crowd.until(PATIENCE, &mut hear, || entered.get() >= count)? {
        true => Ok(()),
        false => Err(format!("{} of {count} entered", entered.get())),
    }
}

/// A hundred people in a room, ten of whom write as fast as all hear it.
pub fn run(server: &mut Server, sheet: &mut Sheet<'_>) -> Result<(), String> {
    let mut crowd = server.crowd()?;
    let ids = crowd.log_in(strangers(0, OCCUPANTS), Profile::ONLINE, 10, &mut deaf)?;
    crowd.net.say(ids[0], &(enter("bench", 0) + &unlock("bench")));
    wait_entered(&mut crowd, 1)?;
    for (nick, id) in ids.iter().enumerate().skip(1) {
        crowd.net.say(*id, &enter("bench", nick));
    }
    wait_entered(&mut crowd, OCCUPANTS - 1)?;
    crowd.until_quiet(Duration::from_millis(500), &mut deaf)?;
    let mut tally = Tally::default();
    let say = |number: usize| {
        format!("<message type='groupchat' id='g{number}' to='bench@conference.{HOST}'>{}</message>", body(number))
    };
    let mut sent = 0;
    for speaker in ids.iter().take(SPEAKERS) {
        for _ in 0..WINDOW {
            // A message's number tells who says it, and the next one.
            crowd.net.say(*speaker, &say(sent));
            sent += 1;
        }
    }
    let (mut span, mut begin, mut before, mut warm) = (Span::new(server.pid()), Instant::now(), 0, false);
    let mut whole = Vec::new();
    loop {
        crowd.step(Duration::from_millis(100), &mut |_, _, news| {
            if let News::Stanza(stanza) = news
                && let Some(number) = number(stanza)
                && tally.hear(number) == OCCUPANTS as u32
            {
                whole.push(number);
            }
        })?;
        let is_over = warm && begin.elapsed() > TIME;
        if is_over && (tally.heard >= sent * OCCUPANTS || begin.elapsed() > TIME + PATIENCE) {
            break;
        }
        if !is_over {
            for _ in whole.drain(..) {
                crowd.net.say(ids[sent % SPEAKERS], &say(sent));
                sent += 1;
            }
        }
        if !warm && begin.elapsed() > WARM_UP {
            (span, begin, before, warm) = (Span::new(server.pid()), Instant::now(), tally.heard, true);
        }
    }
    let (spent, deliveries) = (span.end(), (tally.heard - before) as f64);
    sheet.rate("room", deliveries, &spent);
    sheet.note("room-cpu", spent.server.cpu.as_secs_f64() * 1e6 / deliveries, &spent);
    sheet.wrong(tally.wrong(sent, OCCUPANTS as u32));
    crowd.leave()
}

/// Makes rooms that stay, leaves them, and looks at the memory, also of a server that has started with them.
pub fn idle(server: &mut Server, sheet: &mut Sheet<'_>) -> Result<(), String> {
    server.restart()?;
    let before = rss_bytes(server.pid()) as f64;
    let span = Span::new(server.pid());
    let mut crowd = server.crowd()?;
    let ids = crowd.log_in(strangers(0, OWNERS), Profile::ONLINE, 16, &mut deaf)?;
    for round in 0..IDLE_ROOMS / OWNERS {
        for (owner, id) in ids.iter().enumerate() {
            let room = format!("idle{owner}x{round}");
            let leave = format!("<presence type='unavailable' to='{room}@conference.{HOST}/n0'/>");
            crowd.net.say(*id, &(enter(&room, 0) + &unlock(&room) + &leave));
        }
        // It is in, and it is out.
        wait_entered(&mut crowd, 2 * OWNERS)?;
    }
    crowd.leave()?;
    std::thread::sleep(Duration::from_secs(1));
    sheet.note("idle-rooms", (rss_bytes(server.pid()) as f64 - before) / 1e6, &span.end());
    server.restart()?;
    std::thread::sleep(Duration::from_secs(1));
    sheet.note("idle-rooms-again", (rss_bytes(server.pid()) as f64 - before) / 1e6, &span.end());
    Ok(())
}

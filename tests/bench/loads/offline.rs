//! Messages for people who are not there: how many a second are acknowledged, and whether all are there later.

use super::{Tally, body, deaf, number};
use crate::crowd::{HOST, News, PATIENCE, Profile};
use crate::frame::attribute;
use crate::process::Span;
use crate::report::Sheet;
use crate::seed::strangers;
use crate::server::Server;
use std::collections::HashMap;
use std::time::{Duration, Instant};

const SENDERS: usize = 100;
/// Messages of one sender that wait for an acknowledgement.
const WINDOW: usize = 20;
const TIME: Duration = Duration::from_secs(2);

#[derive(Default, Clone, Copy)]
struct Sender {
    sent: usize,
    acked: usize,
}

/// A hundred people write, each to somebody of its own; each asks after each message whether it is safe, by XEP-0198
/// or, where there is none, by a ping that is answered behind it.
pub fn run(server: &mut Server, sheet: &mut Sheet<'_>) -> Result<(), String> {
    let (users, absent) = (strangers(0, SENDERS), strangers(SENDERS, SENDERS));
    let mut crowd = server.crowd()?;
    let ids = crowd.log_in(users, Profile { managed: true, ..Profile::ONLINE }, 16, &mut deaf)?;
    let ask = match crowd.can_manage(ids[0]) {
        true => "<r xmlns='urn:xmpp:sm:3'/>".to_owned(),
        false => format!("<iq type='get' id='safe' to='{HOST}'><ping xmlns='urn:xmpp:ping'/></iq>"),
    };
    let places: HashMap<usize, usize> = ids.iter().copied().enumerate().map(|(at, id)| (id, at)).collect();
    // What was said before each began: its presence, and a ping.
    let mut base: Vec<Option<usize>> = vec![None; SENDERS];
    let mut senders = vec![Sender::default(); SENDERS];
    let mut numbers = 0;
    let (span, begin) = (Span::new(server.pid()), Instant::now());
    if crowd.can_manage(ids[0]) {
        for id in &ids {
            crowd.net.say(*id, &ask);
        }
    } else {
        base.fill(Some(0));
    }
    while begin.elapsed() < TIME || senders.iter().any(|s| s.acked < s.sent) {
        for (at, sender) in senders.iter_mut().enumerate().filter(|(at, _)| base[*at].is_some()) {
            let room = if begin.elapsed() < TIME { WINDOW.saturating_sub(sender.sent - sender.acked) } else { 0 };
            for _ in 0..room {
                let to = absent.start + at;
                let message =
                    format!("<message type='chat' id='o{numbers}' to='u{to}@{HOST}'>{}</message>", body(numbers));
                crowd.net.say(ids[at], &(message + &ask));
                (numbers, sender.sent) = (numbers + 1, sender.sent + 1);
            }
        }
        crowd.step(Duration::from_millis(100), &mut |_, id, news| {
            let (News::Stanza(stanza), Some(at)) = (news, places.get(&id)) else { return };
            let sender = &mut senders[*at];
            if stanza.starts_with(b"<a ") {
                let h = attribute(stanza, "h").and_then(|h| h.parse().ok()).unwrap_or(0);
                sender.acked = h - *base[*at].get_or_insert(h);
            } else if attribute(stanza, "id") == Some("safe") {
                sender.acked += 1;
            }
        })?;
        if begin.elapsed() > PATIENCE {
            break;
        }
    }
    let spent = span.end();
    let acked: usize = senders.iter().map(|s| s.acked).sum();
    sheet.rate("offline", acked as f64, &spent);
    sheet.cpu("offline-cpu", acked as f64 / 1000.0, &spent);
    // Each sender always has its window under way, so that its length and the rate say how long a message waits.
    let wall = spent.wall.as_secs_f64();
    sheet.remark("offline-busy", spent.server.cpu.as_secs_f64() / wall);
    sheet.remark("offline-wait", (SENDERS * WINDOW) as f64 * wall * 1000.0 / acked.max(1) as f64);
    crowd.leave()?;
    // All that was acknowledged is there, once.
    let mut tally = Tally::default();
    let mut hear = |_: &mut crate::net::Net, _, news: News<'_>| {
        if let News::Stanza(stanza) = news
            && let Some(number) = number(stanza)
        {
            tally.hear(number);
        }
    };
    let mut crowd = server.crowd()?;
    crowd.log_in(absent, Profile::ONLINE, 16, &mut hear)?;
    crowd.until_quiet(Duration::from_secs(1), &mut hear)?;
    let [lost, doubled] = tally.wrong(numbers, 1);
    sheet.wrong([lost.saturating_sub(numbers - acked), doubled]);
    crowd.leave()
}

//! Logins with a full handshake, and pings.

use super::{deaf, quantile};
use crate::crowd::{HOST, News, PATIENCE, Profile};
use crate::process::Span;
use crate::report::Sheet;
use crate::seed::strangers;
use crate::server::Server;
use std::cell::Cell;
use std::time::Instant;

const USERS: usize = 100;
const LOGINS: usize = 1000;
const AT_ONCE: usize = 32;
const PINGS: usize = 500;

/// A hundred users log in again and again: TCP, TLS 1.3 without resumption, SCRAM, a resource.
pub fn run(server: &mut Server, sheet: &mut Sheet<'_>) -> Result<(), String> {
    let users = strangers(0, USERS);
    let mut crowd = server.crowd()?;
    // From here on the generator knows the keys of all of them.
    crowd.log_in(users.clone(), Profile::default(), AT_ONCE, &mut deaf)?;
    crowd.leave()?;
    let mut crowd = server.crowd()?;
    let span = Span::new(server.pid());
    let each = users.cycle().take(LOGINS);
    // A client that has got its resource goes, so that nobody has more than a few.
    crowd.log_in(each, Profile::default(), AT_ONCE, &mut |net, id, news| {
        if matches!(news, News::Ready) {
            net.hang_up(id);
        }
    })?;
    let spent = span.end();
    sheet.rate("login", LOGINS as f64, &spent);
    sheet.cpu("login-cpu", LOGINS as f64, &spent);
    Ok(())
}

/// One client pings the server, again when it has answered.
pub fn pings(server: &mut Server, sheet: &mut Sheet<'_>) -> Result<(), String> {
    let mut crowd = server.crowd()?;
    let id = crowd.log_in(strangers(0, 1), Profile::ONLINE, 1, &mut deaf)?[0];
    let ping = format!("<iq type='get' id='p' to='{HOST}'><ping xmlns='urn:xmpp:ping'/></iq>");
    let (mut times, span) = (Vec::new(), Span::new(server.pid()));
    for _ in 0..PINGS {
        let (begin, answered) = (Instant::now(), Cell::new(false));
        crowd.net.say(id, &ping);
        let mut hear = |_: &mut crate::net::Net, _, news: News<'_>| {
            answered.set(answered.get() || matches!(news, News::Stanza(stanza) if stanza.starts_with(b"<iq")));
        };
        if !crowd.until(PATIENCE, &mut hear, || answered.get())? {
            return Err("a ping is not answered".into());
        }
        times.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    let spent = span.end();
    sheet.note("ping-p50", quantile(&mut times, 0.5), &spent);
    sheet.note("ping-p99", quantile(&mut times, 0.99), &spent);
    crowd.leave()
}

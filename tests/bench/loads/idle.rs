//! Memory of clients that say nothing.

use super::deaf;
use crate::crowd::Profile;
use crate::process::{Span, rss_bytes};
use crate::report::Sheet;
use crate::seed::{RING, strangers, users};
use crate::server::Server;
use std::time::Duration;

/// What a server may still want to do after the last word.
const SETTLE: Duration = Duration::from_secs(1);

fn rss(server: &Server) -> f64 {
    std::thread::sleep(SETTLE);
    rss_bytes(server.pid()) as f64
}

/// None, some, many; then, on a server that has seen nobody yet, those with contacts and all features.
pub fn run(server: &mut Server, sheet: &mut Sheet<'_>) -> Result<(), String> {
    let span = Span::new(server.pid());
    let alone = rss(server);
    sheet.note("rss-0", alone / 1e6, &span.end());
    let mut crowd = server.crowd()?;
    let mut online = 0;
    for (count, name) in [(100, "rss-100"), (1000, "rss-1000"), (5000, "rss-5000")] {
        if count + RING > users() {
            continue;
        }
        crowd.log_in(strangers(online, count - online), Profile::ONLINE, 16, &mut deaf)?;
        online = count;
        let now = rss(server);
        sheet.note(name, now / 1e6, &span.end());
        if count == 1000 {
            sheet.note("rss-each", (now - alone) / count as f64 / 1000.0, &span.end());
        }
    }
    crowd.leave()?;
    sheet.note("rss-after", rss(server) / 1e6, &span.end());
    server.restart()?;
    let span = Span::new(server.pid());
    let alone = rss(server);
    let mut crowd = server.crowd()?;
    crowd.log_in(0..RING, Profile::PHONE, 16, &mut deaf)?;
    crowd.until_quiet(SETTLE, &mut deaf)?;
    sheet.note("rss-phone", (rss(server) - alone) / RING as f64 / 1000.0, &span.end());
    crowd.leave()
}

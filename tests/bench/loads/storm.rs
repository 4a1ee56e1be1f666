//! Everybody comes online at once: each has twenty contacts who hear of it.

use super::deaf;
use crate::crowd::{News, Profile};
use crate::process::Span;
use crate::report::Sheet;
use crate::seed::RING;
use crate::server::Server;
use std::time::Duration;

const AT_ONCE: usize = 32;
const QUIET: Duration = Duration::from_millis(500);

/// Logs in all who have contacts, until nobody hears anything more.
pub fn run(server: &mut Server, sheet: &mut Sheet<'_>) -> Result<(), String> {
    let mut crowd = server.crowd()?;
    // From here on the generator knows the keys of all of them.
    crowd.log_in(0..RING, Profile::default(), AT_ONCE, &mut deaf)?;
    crowd.leave()?;
    let mut crowd = server.crowd()?;
    let mut presences = 0;
    let mut hear = |_: &mut crate::net::Net, _, news: News<'_>| {
        presences += usize::from(matches!(news, News::Stanza(stanza) if stanza.starts_with(b"<presence")));
    };
    let span = Span::new(server.pid());
    crowd.log_in(0..RING, Profile::ONLINE, AT_ONCE, &mut hear)?;
    crowd.until_quiet(QUIET, &mut hear)?;
    let spent = span.end();
    sheet.cpu("storm-cpu", RING as f64, &spent);
    sheet.note("storm-presences", presences as f64, &spent);
    crowd.leave()
}

//! What a message costs when there is more of everything: clients, contacts, accounts. With `BENCH=full` alone.

use super::chat::Pairs;
use super::deaf;
use crate::crowd::{HOST, News, PATIENCE, Profile};
use crate::process::Span;
use crate::report::Sheet;
use crate::seed::{strangers, users};
use crate::server::Server;
use std::cell::Cell;

const CHATTERS: usize = 20;
const CLIENTS: [(usize, &str); 4] =
    [(10, "scale-clients-10"), (100, "scale-clients-100"), (1000, "scale-clients-1000"), (5000, "scale-clients-5000")];
const CONTACTS: [(usize, &str, &str); 3] = [
    (10, "scale-contacts-10", "scale-contacts-10-login"),
    (100, "scale-contacts-100", "scale-contacts-100-login"),
    (1000, "scale-contacts-1000", "scale-contacts-1000-login"),
];
/// How often each of them logs in to be measured.
const LOGINS: usize = 10;
const ACCOUNTS: [(usize, &str); 2] = [(10_000, "scale-accounts-10000"), (100_000, "scale-accounts-100000")];

/// Chat flat out beside so many idle clients; between people with so many contacts; on a server with so many accounts.
pub fn run(server: &mut Server, sheet: &mut Sheet<'_>) -> Result<(), String> {
    if std::env::var("BENCH").is_ok_and(|b| b == "full") {
        server.restart()?;
        beside_clients(server, sheet)?;
        with_contacts(server, sheet)?;
        beside_accounts(server, sheet)?;
    }
    Ok(())
}

fn chat(server: &Server, sheet: &mut Sheet<'_>, name: &'static str) -> Result<(), String> {
    let mut pairs = Pairs::new(server, strangers(0, CHATTERS), false)?;
    pairs.flat_out(server, sheet, name)?;
    pairs.end(sheet)
}

fn beside_clients(server: &Server, sheet: &mut Sheet<'_>) -> Result<(), String> {
    let mut crowd = server.crowd()?;
    let mut online = 0;
    for (count, name) in CLIENTS {
        crowd.log_in(strangers(CHATTERS + online, count - online), Profile::ONLINE, 16, &mut deaf)?;
        online = count;
        chat(server, sheet, name)?;
    }
    crowd.leave()
}

fn with_contacts(server: &Server, sheet: &mut Sheet<'_>) -> Result<(), String> {
    let mut there = 0;
    for (count, name, login) in CONTACTS {
        let mut crowd = server.crowd()?;
        let ids = crowd.log_in(strangers(0, CHATTERS), Profile::default(), 16, &mut deaf)?;
        for contact in there..count {
            let item = format!("<query xmlns='jabber:iq:roster'><item jid='contact{contact}@{HOST}'/></query>");
            ids.iter().for_each(|id| crowd.net.say(*id, &format!("<iq type='set' id='add'>{item}</iq>")));
            let answers = Cell::new(0);
            let mut hear = |_: &mut crate::net::Net, _, _: News<'_>| answers.set(answers.get() + 1);
            crowd.until(PATIENCE, &mut hear, || answers.get() >= CHATTERS)?;
        }
        there = count;
        crowd.leave()?;
        chat(server, sheet, name)?;
        let mut crowd = server.crowd()?;
        let span = Span::new(server.pid());
        let each = strangers(0, CHATTERS).cycle().take(LOGINS * CHATTERS);
        crowd.log_in(each, Profile::ONLINE, 16, &mut |net, id, news| {
            if matches!(news, News::Ready) {
                net.hang_up(id);
            }
        })?;
        sheet.cpu(login, (LOGINS * CHATTERS) as f64, &span.end());
    }
    Ok(())
}

fn beside_accounts(server: &Server, sheet: &mut Sheet<'_>) -> Result<(), String> {
    let mut there = users();
    for (count, name) in ACCOUNTS {
        server.add_users(there..count)?;
        there = count;
        chat(server, sheet, name)?;
    }
    Ok(())
}

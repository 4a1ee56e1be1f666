//! Floods by people who are who they say.

use std::io;
use std::time::Duration;

use super::{Arena, Flood, Kind, Tally};
use crate::stages::Stage;

/// What may be told to somebody who has too much of something.
const TOO_MUCH: &[&str] = &[
    "turned away",
    "resource-constraint",
    "policy-violation",
    "not-acceptable",
    "conflict",
    "not-allowed",
    "service-unavailable",
    "item-not-found",
    "remote-server-timeout",
];

pub const FLOODS: &[Flood] = &[
    flood("requests", 4, |arena, n| pour(arena, n, "", requests)),
    flood("messages to a friend", 4, |arena, n| pour(arena, n, "<presence/>", messages)),
    flood("messages of 200 kB", 2, |arena, n| pour(arena, n, "<presence/>", long_messages)),
    flood("presence", 4, |arena, n| pour(arena, n, "<presence/>", presence)),
    flood("directed presence", 2, |arena, n| pour(arena, n, "<presence/>", directed)),
    flood("subscription requests", 2, |arena, n| pour(arena, n, "<presence/>", subscriptions)),
    flood("rosters", 2, |arena, n| pour(arena, n, "", rosters)),
    flood("private storage", 2, |arena, n| pour(arena, n, "", private)),
    flood("nodes", 2, |arena, n| pour(arena, n, "", nodes)),
    flood("items of 100 kB", 2, |arena, n| pour(arena, n, "", items)),
    flood("rooms", 2, |arena, n| pour(arena, n, "<presence/>", rooms)),
    flood("the talk of a room", 4, |arena, n| pour(arena, n, ROOM, talk)),
    flood("messages to people who are away", 2, |arena, n| pour(arena, n, "", offline)),
    flood("acknowledgements", 2, |arena, n| pour(arena, n, "<enable xmlns='urn:xmpp:sm:3'/>", acks)),
    flood("client states", 2, |arena, n| pour(arena, n, "<presence/>", states)),
    flood("capabilities", 2, |arena, n| pour(arena, n, "<presence/>", caps)),
    flood("discovery", 2, |arena, n| pour(arena, n, "", discovery)),
    flood("messages to other servers", 2, |arena, n| pour(arena, n, "", abroad)),
    flood("answers that nobody reads", 4, unread),
    flood("stanzas of a server", 2, from_server),
    flood("stanzas of a component", 1, from_component),
];

const fn flood(name: &'static str, workers: usize, work: fn(&Arena<'_>, usize) -> io::Result<Tally>) -> Flood {
    Flood { name, kind: Kind::Stanzas, workers, work, errors: TOO_MUCH }
}

const ROOM: &str = "<presence to='flood@conference.localhost/%'><x xmlns='http://jabber.org/protocol/muc'/></presence>";

/// Stanzas that are said at a time.
const AT_ONCE: u64 = 20;

fn user(n: usize) -> &'static str {
    ["romeo", "juliet", "tybalt", "mercutio"][n % 4]
}

fn pour(arena: &Arena<'_>, n: usize, first: &str, next: fn(usize, u64) -> String) -> io::Result<Tally> {
    let mut stream = arena.open(Stage::Bound(user(n)))?;
    stream.wire.say(first.replace('%', user(n)));
    let mut tally = Tally::default();
    let long = next(n, 0).len() > 10_000;
    tally.pour(arena, &mut stream.wire, |turn| {
        let range = if long { turn..turn + 1 } else { turn * AT_ONCE..(turn + 1) * AT_ONCE };
        range.map(|i| next(n, i)).collect()
    });
    Ok(tally)
}

fn requests(_: usize, i: u64) -> String {
    format!("<iq type='get' id='{i}' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>")
}

fn messages(n: usize, i: u64) -> String {
    format!("<message to='{}@localhost' type='chat' id='{i}'><body>{}</body></message>", user(n + 1), "x".repeat(100))
}

fn long_messages(n: usize, i: u64) -> String {
    let body = "x".repeat(200_000);
    format!("<message to='{}@localhost' type='chat' id='{i}'><body>{body}</body></message>", user(n + 1))
}

fn presence(_: usize, i: u64) -> String {
    format!("<presence><status>{i}</status></presence>")
}

fn directed(_: usize, i: u64) -> String {
    format!("<presence to='a{i}@localhost'/>")
}

fn subscriptions(_: usize, i: u64) -> String {
    format!("<presence type='subscribe' to='{}@localhost'/>", ["nurse".to_owned(), format!("a{i}")][i as usize % 2])
}

fn rosters(_: usize, i: u64) -> String {
    format!(
        "<iq type='set' id='{i}'><query xmlns='jabber:iq:roster'><item jid='c{i}@example.org' name='{}'>\
         <group>g{i}</group></item></query></iq>",
        "n".repeat(100)
    )
}

fn private(_: usize, i: u64) -> String {
    let text = "x".repeat(20_000);
    format!("<iq type='set' id='{i}'><query xmlns='jabber:iq:private'><a xmlns='n{i}'>{text}</a></query></iq>")
}

fn publish(node: &str, i: u64, bytes: usize) -> String {
    let text = "x".repeat(bytes);
    format!(
        "<iq type='set' id='{i}'><pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='{node}'>\
         <item id='i{i}'><a xmlns='a'>{text}</a></item></publish></pubsub></iq>"
    )
}

fn nodes(_: usize, i: u64) -> String {
    publish(&format!("n{i}"), i, 100)
}

fn items(_: usize, i: u64) -> String {
    publish("items", i, 100_000)
}

fn rooms(_: usize, i: u64) -> String {
    format!("<presence to='flood{i}@conference.localhost/me'><x xmlns='http://jabber.org/protocol/muc'/></presence>")
}

fn talk(_: usize, i: u64) -> String {
    format!(
        "<message type='groupchat' to='flood@conference.localhost' id='{i}'><body>{}</body></message>",
        "x".repeat(500)
    )
}

fn offline(_: usize, i: u64) -> String {
    format!("<message to='nurse@localhost' type='chat' id='{i}'><body>{}</body></message>", "x".repeat(9_000))
}

fn acks(_: usize, i: u64) -> String {
    if i.is_multiple_of(2) { "<r xmlns='urn:xmpp:sm:3'/>" } else { "<a xmlns='urn:xmpp:sm:3' h='0'/>" }.to_owned()
}

fn states(_: usize, i: u64) -> String {
    if i.is_multiple_of(2) { "<inactive xmlns='urn:xmpp:csi:0'/>" } else { "<active xmlns='urn:xmpp:csi:0'/>" }
        .to_owned()
}

fn caps(_: usize, i: u64) -> String {
    format!("<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='{i}'/></presence>")
}

fn discovery(_: usize, i: u64) -> String {
    let what = ["http://jabber.org/protocol/disco#info", "http://jabber.org/protocol/disco#items"][i as usize % 2];
    format!("<iq type='get' id='{i}' to='conference.localhost'><query xmlns='{what}'/></iq>")
}

fn abroad(_: usize, i: u64) -> String {
    format!("<message to='a@s{i}.nowhere.example' type='chat' id='{i}'><body>x</body></message>")
}

/// Asks for much and takes none of it.
fn unread(arena: &Arena<'_>, n: usize) -> io::Result<Tally> {
    let mut stream = arena.open(Stage::Bound(user(n)))?;
    stream.wire.say(private(n, 0));
    stream.wire.hear("id='0'")?;
    let ask = "<iq type='get' id='p'><query xmlns='jabber:iq:private'><a xmlns='n0'/></query></iq>".repeat(20);
    let mut tally = Tally::default();
    while arena.goes_on() && stream.wire.say_blindly(&ask, Duration::from_millis(200)) {
        tally.done += 20;
    }
    arena.hold();
    Ok(tally)
}

fn from_server(arena: &Arena<'_>, n: usize) -> io::Result<Tally> {
    let domain = ["capulet.example", "montague.example"][n % 2];
    let mut stream = arena.open(Stage::Server(domain))?;
    let mut tally = Tally::default();
    tally.pour(arena, &mut stream.wire, |turn| {
        let one = |i: u64| {
            let to = user(i as usize);
            format!("<message from='a{i}@{domain}' to='{to}@localhost' type='chat'><body>{i}</body></message>")
        };
        (turn * AT_ONCE..(turn + 1) * AT_ONCE).map(one).collect()
    });
    Ok(tally)
}

fn from_component(arena: &Arena<'_>, _: usize) -> io::Result<Tally> {
    let mut stream = arena.open(Stage::Component)?;
    let mut tally = Tally::default();
    tally.pour(arena, &mut stream.wire, |turn| {
        let one = |i: u64| format!("<presence from='a{i}@irc.localhost' to='{}@localhost'/>", user(i as usize));
        (turn * AT_ONCE..(turn + 1) * AT_ONCE).map(one).collect()
    });
    Ok(tally)
}

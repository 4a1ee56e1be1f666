//! Floods of connections, by people who never say who they are, or who say it again and again.

use std::io;
use std::time::Duration;

use super::{Arena, Flood, Kind, Tally};
use crate::script::send;
use crate::stages::Stage;
use crate::wire::Wire;

/// What may be told to somebody who connects too often or says nothing.
const TURNED_AWAY: &[&str] =
    &["turned away", "connection-timeout", "policy-violation", "resource-constraint", "not-authorized", "conflict"];

/// And to a server whose keys cannot be verified in time (XEP-0220 section 2.5).
const UNVERIFIED: &[&str] = &["turned away", "policy-violation", "resource-constraint", "remote-server-timeout"];

pub const FLOODS: &[Flood] = &[
    flood("connections that come and go", 2, come_and_go),
    flood("silent connections", 1, silent),
    flood("half a hello", 1, half_hello),
    flood("headers, a byte at a time", 1, slow_headers),
    flood("handshakes", 2, handshakes),
    flood("streams of strangers", 2, strangers),
    flood("elements that never end", 2, unended),
    flood("guessed passwords", 2, guesses),
    flood("sessions that drop", 2, sessions),
    flood("sessions that wait to be resumed", 2, parked),
    flood("resources", 2, resources),
    flood("streams of servers", 2, servers),
    flood("proved servers", 2, proved),
    Flood { errors: UNVERIFIED, ..flood("dialback keys", 2, keys) },
    flood("components that guess", 2, components),
];

const fn flood(name: &'static str, workers: usize, work: fn(&Arena<'_>, usize) -> io::Result<Tally>) -> Flood {
    Flood { name, kind: Kind::Connections, workers, work, errors: TURNED_AWAY }
}

/// Connections that are held at a time.
const HELD: usize = 300;

/// Does it until the flood is over; who is turned away tries again.
fn again(arena: &Arena<'_>, mut once: impl FnMut(&mut Tally) -> io::Result<()>) -> io::Result<Tally> {
    let mut tally = Tally::default();
    while arena.goes_on() {
        match once(&mut tally) {
            Ok(()) => tally.done += 1,
            Err(_) => {
                *tally.errors.entry("turned away".to_owned()).or_default() += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
    Ok(tally)
}

/// Opens many, lets each say something from time to time, and holds them.
fn held(arena: &Arena<'_>, kind: &str, words: &[u8], pause: Duration) -> io::Result<Tally> {
    let mut tally = Tally::default();
    let port = arena.target.port(kind)?;
    let mut wires = Vec::new();
    for _ in 0..HELD {
        wires.extend(Wire::connect(port).ok());
    }
    let mut at = 0;
    while arena.goes_on() {
        for wire in &mut wires {
            wire.say(words.get(at..=at).unwrap_or_default());
            tally.look(wire);
        }
        at += 1;
        tally.done = wires.len() as u64;
        std::thread::sleep(pause);
    }
    Ok(tally)
}

fn come_and_go(arena: &Arena<'_>, _: usize) -> io::Result<Tally> {
    let port = arena.target.port("STARTTLS")?;
    again(arena, |_| Wire::connect(port).map(drop))
}

fn silent(arena: &Arena<'_>, _: usize) -> io::Result<Tally> {
    held(arena, "direct TLS", b"", Duration::from_millis(100))
}

fn half_hello(arena: &Arena<'_>, _: usize) -> io::Result<Tally> {
    held(arena, "direct TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Duration::from_millis(20))
}

fn slow_headers(arena: &Arena<'_>, _: usize) -> io::Result<Tally> {
    let words = b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='localhost'";
    held(arena, "STARTTLS", words, Duration::from_millis(50))
}

fn handshakes(arena: &Arena<'_>, _: usize) -> io::Result<Tally> {
    again(arena, |_| arena.open(Stage::UnderTls).map(drop))
}

fn strangers(arena: &Arena<'_>, _: usize) -> io::Result<Tally> {
    again(arena, |_| arena.open(Stage::Strange).map(drop))
}

fn unended(arena: &Arena<'_>, _: usize) -> io::Result<Tally> {
    let mut streams = Vec::new();
    again(arena, |tally| {
        let mut stream = arena.open(Stage::BeforeTls)?;
        send("<message><body>{9000 * a}", &mut stream)?;
        tally.look(&mut stream.wire);
        streams.push(stream);
        if streams.len() > HELD {
            streams.clear();
        }
        Ok(())
    })
}

fn guesses(arena: &Arena<'_>, n: usize) -> io::Result<Tally> {
    again(arena, |tally| {
        let mut stream = arena.open(Stage::Strange)?;
        for guess in 0..3 {
            send(
                &format!(
                    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>\
                     {{b64 {{x 00}}romeo{{x 00}}guess{n}{guess}}}</auth>"
                ),
                &mut stream,
            )?;
            stream.wire.hear("</failure>")?;
        }
        tally.look(&mut stream.wire);
        Ok(())
    })
}

/// One of those who flood.
fn user(n: usize) -> &'static str {
    ["romeo", "juliet", "tybalt", "mercutio"][n % 4]
}

fn sessions(arena: &Arena<'_>, n: usize) -> io::Result<Tally> {
    again(arena, |_| arena.open(Stage::Bound(user(n))).map(drop))
}

fn parked(arena: &Arena<'_>, n: usize) -> io::Result<Tally> {
    again(arena, |_| {
        let mut stream = arena.open(Stage::Bound(user(n)))?;
        send("<presence/><enable xmlns='urn:xmpp:sm:3' resume='true'/>{hear <enabled}", &mut stream)
    })
}

fn resources(arena: &Arena<'_>, n: usize) -> io::Result<Tally> {
    let mut streams = Vec::new();
    again(arena, |tally| {
        let mut stream = arena.open(Stage::Authenticated(user(n)))?;
        send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>", &mut stream)?;
        stream.wire.wait(Duration::from_secs(1));
        tally.look(&mut stream.wire);
        streams.push(stream);
        if streams.len() > 40 {
            streams.remove(0);
        }
        Ok(())
    })
}

fn servers(arena: &Arena<'_>, _: usize) -> io::Result<Tally> {
    again(arena, |_| arena.open(Stage::ServerStrange("capulet.example")).map(drop))
}

fn proved(arena: &Arena<'_>, n: usize) -> io::Result<Tally> {
    let domain = ["capulet.example", "montague.example"][n % 2];
    let mut streams = Vec::new();
    again(arena, |tally| {
        streams.push(arena.open(Stage::Server(domain))?);
        for stream in &mut streams {
            tally.look(&mut stream.wire);
        }
        if streams.len() > 40 {
            streams.remove(0);
        }
        Ok(())
    })
}

fn keys(arena: &Arena<'_>, n: usize) -> io::Result<Tally> {
    again(arena, |tally| {
        let mut stream = arena.open(Stage::ServerStrange("dial.example"))?;
        for key in 0..20 {
            send(
                &format!(
                    "<db:result from='dial.example' to='localhost'>{n}{key}</db:result>\
                     <db:verify from='dial.example' to='localhost' id='{key}'>{n}</db:verify>"
                ),
                &mut stream,
            )?;
            tally.look(&mut stream.wire);
        }
        stream.wire.wait(Duration::from_millis(20));
        tally.look(&mut stream.wire);
        Ok(())
    })
}

fn components(arena: &Arena<'_>, n: usize) -> io::Result<Tally> {
    again(arena, |tally| {
        let mut stream = arena.open(Stage::ComponentStrange)?;
        send(&format!("<handshake>guess{n}</handshake>"), &mut stream)?;
        stream.wire.hear("</stream:error>")?;
        tally.look(&mut stream.wire);
        Ok(())
    })
}

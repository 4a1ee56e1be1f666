//! Data folders with users and contacts, made once with the servers' own means and copied for each start.
//!
//! Users `0..RING` stand in a ring: each has ten contacts before it and ten behind it, subscribed both ways. All others
//! have none.

use crate::crowd::{HOST, News, PATIENCE, Profile};
use crate::frame::attribute;
use crate::net::{Id, Net};
use crate::server::{Kind, Server, target};
use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;

/// Users with contacts.
pub const RING: usize = 500;
/// How far contacts go in each direction.
const REACH: usize = 10;
/// Users whose requests are under way together: a server may bound what waits for its disk.
const TOGETHER: usize = 10;

/// How many users there are.
pub fn users() -> usize {
    if std::env::var("BENCH").is_ok_and(|b| b == "full") { RING + 5100 } else { RING + 1000 }
}

/// Users without contacts for a load, which leaves nothing that the next one would find.
pub fn strangers(first: usize, count: usize) -> Range<usize> {
    RING + first..RING + first + count
}

/// Where the seed of a server is.
pub fn folder(kind: Kind) -> PathBuf {
    target().join("seed").join(format!("{}-{}", kind.word(), users()))
}

/// The certificate of all servers and its key (ECDSA with P-256), as PEM.
pub fn certificate() -> Result<[String; 2], String> {
    let folder = target().join("seed");
    let paths = ["localhost.crt", "localhost.key"].map(|name| folder.join(name));
    if !paths[1].exists() {
        let mut wanted = rcgen::CertificateParams::new([HOST.to_owned()]).map_err(|e| e.to_string())?;
        // Further away, some servers' timers end.
        wanted.not_after = rcgen::date_time_ymd(2036, 1, 1);
        let signing_key = rcgen::KeyPair::generate().map_err(|e| e.to_string())?;
        let cert = wanted.self_signed(&signing_key).map_err(|e| e.to_string())?;
        fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        fs::write(&paths[0], cert.pem()).map_err(|e| e.to_string())?;
        fs::write(&paths[1], signing_key.serialize_pem()).map_err(|e| e.to_string())?;
    }
    let [certificate, key] = paths.map(fs::read_to_string);
    Ok([certificate.map_err(|e| e.to_string())?, key.map_err(|e| e.to_string())?])
}

/// Makes the seed of a server unless it is there. Ours is made anew for each build, which may store otherwise.
pub fn make(kind: Kind) -> Result<(), String> {
    let folder = folder(kind);
    let built =
        crate::server::couplet().and_then(|path| path.metadata().and_then(|m| m.modified()).map_err(|e| e.to_string()));
    let made = folder.join("made");
    let made_at = made.metadata().and_then(|m| m.modified());
    let is_old = kind.is_ours() && made_at.as_ref().ok() < built.as_ref().ok();
    if made_at.is_ok() && !is_old {
        return Ok(());
    }
    eprintln!("bench: making {} users for {}", users(), kind.name());
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("data")).map_err(|e| e.to_string())?;
    let mut server = Server::start_in(kind, folder)?;
    server.add_users(0..users())?;
    ring(&server)?;
    server.stop();
    fs::write(made, "").map_err(|e| e.to_string())
}

/// Whether `one` asks `other` to be its contact: when that stands close behind it.
fn asks(one: usize, other: usize) -> bool {
    (1..=REACH).contains(&((other + RING - one) % RING))
}

fn number(jid: &str) -> Option<usize> {
    jid.strip_prefix('u')?.split('@').next()?.parse().ok()
}

fn ring(server: &Server) -> Result<(), String> {
    let mut crowd = server.crowd()?;
    let ids = crowd.log_in(0..RING, Profile::ONLINE, 16, &mut |_, _, _| {})?;
    let users: HashMap<Id, usize> = ids.iter().copied().enumerate().map(|(user, id)| (id, user)).collect();
    let subscribed = std::cell::Cell::new(0);
    let mut hear = |net: &mut Net, id: Id, news: News<'_>| {
        let News::Stanza(stanza) = news else { return };
        let from = attribute(stanza, "from").and_then(number);
        let (Some(from), Some(own)) = (from, users.get(&id).copied()) else { return };
        match attribute(stanza, "type").filter(|_| stanza.starts_with(b"<presence")) {
            Some("subscribe") => {
                net.say(id, &format!("<presence to='u{from}@{HOST}' type='subscribed'/>"));
                if asks(from, own) {
                    net.say(id, &format!("<presence to='u{from}@{HOST}' type='subscribe'/>"));
                }
            }
            Some("subscribed") => subscribed.set(subscribed.get() + 1),
            _ => {}
        }
    };
    for first in (0..RING).step_by(TOGETHER) {
        for (own, id) in ids.iter().enumerate().skip(first).take(TOGETHER) {
            let others = (0..RING).filter(|other| asks(own, *other));
            let said: String =
                others.map(|other| format!("<presence to='u{other}@{HOST}' type='subscribe'/>")).collect();
            crowd.net.say(*id, &said);
        }
        let expected = (first + TOGETHER) * REACH * 2;
        if !crowd.until(PATIENCE, &mut hear, || subscribed.get() >= expected)? {
            return Err(format!("{} of {expected} subscriptions", subscribed.get()));
        }
    }
    crowd.leave()
}

//! What the binary says and does when its disk is in trouble: one line for what has happened and what to do, nothing
//! harmed, nothing acknowledged lost.

use crate::disk::Trouble;
use crate::fuse::Mounted;
use crate::load::client::{Client, attribute, body, counted};
use crate::load::server::{Server, backend, store_file};
use crate::load::{self, number};
use crate::rng::Rng;
use crate::{PLENTY, mount};
use std::io;
use std::time::{Duration, Instant};

/// How long a server may take to notice.
const PATIENCE: Duration = Duration::from_secs(20);

fn server(name: &str, disk: &Mounted) -> Server {
    let mut server = Server::new(name, &[("COUPLET_STORAGE__PATH", &disk.path.display().to_string())]).unwrap();
    load::prepare(&mut server).unwrap();
    server
}

/// Trouble in the middle of a load; then `end` says what must have come of it, and the disk is well again.
fn under_load(name: &str, mut end: impl FnMut(&mut Server, &Mounted) -> Result<(), String>) {
    let Some(disk) = mount(name, PLENTY) else { return };
    let mut server = server(name, &disk);
    let ends = |server: &mut Server, rng: &mut Rng| {
        server.said();
        let ended = end(server, &disk);
        disk.trouble(Trouble::Nothing);
        server.kill()?;
        // What the system has kept of it in memory may be wrong after an error, so it is lost, too.
        disk.power_on(rng);
        ended.map_err(io::Error::other)
    };
    let found = load::run(&mut server, 3, &mut Rng::new(number("COUPLET_SEED", 1)), ends).unwrap();
    println!("{name}: {}", found.summary());
    assert_eq!(found.wrong.count(), 0, "{:#?}", found.wrong);
}

/// One line has both.
fn says(said: &str, what: &str, remedy: &str) -> Result<(), String> {
    let both = |line: &str| line.split_once(what).is_some_and(|(_, rest)| rest.contains(remedy));
    if said.lines().any(both) { Ok(()) } else { Err(format!("{what:?} and {remedy:?} are not in:\n{said}")) }
}

/// What was acknowledged before is there at the next start, whatever the system has made of the pages that were not
/// written.
#[test]
fn a_sync_that_fails_ends_the_process_with_a_line() {
    under_load("failing-syncs", |server, disk| {
        disk.trouble(Trouble::Syncs);
        let ended = server.ended(PATIENCE).map_err(|error| error.to_string())?;
        let said = server.said();
        if ended.and_then(|status| status.code()) != Some(1) || said.contains("bug") || said.lines().count() > 12 {
            return Err(format!("{ended:?}: {said}"));
        }
        let what = format!("the disk did not confirm what was written to {}", disk.path.display());
        says(&said, &what, "look at the disk (dmesg), then start couplet again")
    });
}

/// Nothing of it is acknowledged, and the server goes on as soon as the disk does.
#[test]
fn writes_that_fail_are_refused_until_the_disk_is_well() {
    for (name, trouble, remedy) in [
        ("failing-writes", Trouble::Writes, "check that the disk is well"),
        ("read-only", Trouble::ReadOnly, "look at the disk (dmesg), then mount it for writing"),
    ] {
        under_load(name, |server, disk| {
            let failed = |error: io::Error| error.to_string();
            let mut client = Client::log_in(server.port, "dora").map_err(failed)?;
            disk.trouble(trouble);
            // What is there already need not be written.
            let mut n = 0;
            let mut put = || {
                n += 1;
                let w = format!("<w xmlns='kill:9'>{} {n}</w>", server.port);
                format!("<iq type='set' id='w'><query xmlns='jabber:iq:private'>{w}</query></iq>")
            };
            let refused = client.ask(&put()).map_err(failed)?;
            if attribute(&refused, "type") != Some("error") {
                return Err(format!("no error: {refused}"));
            }
            disk.trouble(Trouble::Nothing);
            // What was on its way behind a write that failed is refused with it.
            let begun = Instant::now();
            loop {
                let taken = client.ask(&put()).map_err(failed)?;
                if attribute(&taken, "type") == Some("result") {
                    break;
                }
                if begun.elapsed() > PATIENCE {
                    return Err(format!("not well again: {taken}"));
                }
            }
            let mut said = String::new();
            loop {
                said.push_str(&server.said());
                let told = says(&said, "a write failed, nothing of it is acknowledged: ", remedy);
                if told.is_ok() || begun.elapsed() > PATIENCE {
                    return told;
                }
            }
        });
    }
}

/// A message that takes room. Its text follows from its number.
fn long(n: usize) -> String {
    format!("{n} {}", char::from(b'a' + (n % 26) as u8).to_string().repeat(20_000))
}

/// Who fills boxes, with stream management.
struct Sender {
    client: Client,
    /// Messages that it has sent, and stanzas that it has got.
    sent: u64,
    got: u64,
}

impl Sender {
    fn log_in(port: u16, user: &str) -> io::Result<Self> {
        let mut client = Client::log_in(port, user)?;
        client.enable()?;
        Ok(Self { client, sent: 0, got: 0 })
    }

    /// Sends `count` messages, and gives the numbers of those that the server has counted and not sent back.
    fn post(&mut self, to: &str, count: usize) -> io::Result<Vec<usize>> {
        let from = self.sent as usize;
        let mut kept: Vec<usize> = (from..from + count).collect();
        for n in &kept {
            let body = long(*n);
            let message = format!("<message type='chat' id='{n}' to='{to}@localhost'><body>{body}</body></message>");
            self.client.say(&message)?;
        }
        self.sent += count as u64;
        self.client.say("<r xmlns='urn:xmpp:sm:3'/>")?;
        loop {
            let element = self.client.next()?;
            if element.starts_with("<message") && attribute(&element, "type") == Some("error") {
                assert!(element.contains("<resource-constraint "), "{element}");
                let n = attribute(&element, "id").and_then(|id| id.parse().ok());
                kept.retain(|kept| Some(*kept) != n);
                self.got += 1;
            }
            if element.starts_with("<r ") {
                self.client.say(&format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", self.got))?;
            }
            if element.starts_with("<a ") {
                if counted(&element) == Some(self.sent) {
                    return Ok(kept);
                }
                // It has not vouched for all of them yet.
                self.client.say("<r xmlns='urn:xmpp:sm:3'/>")?;
            }
        }
    }
}

/// What somebody was kept, by number. The messages are over when the socket has taken them, or when they are
/// acknowledged.
fn fetch(port: u16, user: &str, acknowledges: bool) -> io::Result<Vec<usize>> {
    let mut client = Client::log_in(port, user)?;
    if acknowledges {
        client.enable()?;
    }
    client.say("<presence/><iq type='get' id='end'><e xmlns='e'/></iq>")?;
    let (mut got, mut h) = (Vec::new(), 0);
    loop {
        let element = client.next()?;
        h += u64::from(["<message", "<presence", "<iq"].iter().any(|name| element.starts_with(name)));
        if element.starts_with("<iq ") {
            if acknowledges {
                client.say(&format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>"))?;
            }
            client.leave()?;
            return Ok(got);
        }
        if let Some(body) = body(&element) {
            let n = body.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_default();
            assert_eq!(body, long(n));
            got.push(n);
        }
    }
}

#[test]
fn a_full_disk_refuses_what_is_new_and_nothing_else() {
    const BURST: usize = 4;
    let Some(disk) = mount("full", 8 * 1024 * 1024) else { return };
    // A message takes its room once.
    let path = disk.path.display().to_string();
    let mut server =
        Server::new("full", &[("COUPLET_STORAGE__PATH", &path), ("COUPLET_MODULES__DISABLED", "mam")]).unwrap();
    load::prepare(&mut server).unwrap();
    let mut writer = Client::log_in(server.port, "anne").unwrap();
    let item = |name: &str, rest: &str| {
        let item = format!("<item jid='{name}@example.org' {rest}/>");
        format!("<iq type='set' id='i-{name}'><query xmlns='jabber:iq:roster'>{item}</query></iq>")
    };
    let answer = |asked: io::Result<String>| attribute(&asked.unwrap(), "type").map(ToOwned::to_owned).unwrap();
    assert_eq!(answer(writer.ask(&item("old", "name='Old'"))), "result");
    server.add_user("tybalt").unwrap();
    let mut sender = Sender::log_in(server.port, "emil").unwrap();
    let mut fill = |to: &str| {
        let mut kept = Vec::new();
        loop {
            let more = sender.post(to, BURST).unwrap();
            let full = more.len() < BURST;
            kept.extend(more);
            if full || kept.len() > 2000 {
                return kept;
            }
        }
    };
    let for_xena = fill("xena");
    let for_yves = fill("yves");
    println!("full disk: {} messages of 20 kB kept on 8 MB, then refused", for_xena.len() + for_yves.len());
    assert!(for_xena.len() > 100 && for_xena.len() < 400, "{}", for_xena.len());
    let said = server.said();
    says(&said, "a write failed, nothing of it is acknowledged: no room is left", "free some space").unwrap();
    // What adds is refused, and says so; what takes no more room, and what frees some, goes on.
    let refused = writer.ask(&item("new", &format!("name='{}'", "n".repeat(900)))).unwrap();
    assert!(refused.contains("<resource-constraint "), "{refused}");
    assert_eq!(answer(writer.ask(&item("old", "name='Odd'"))), "result", "as long as before");
    assert_eq!(answer(writer.ask(&item("old", "name='O'"))), "result", "shorter than before");
    assert_eq!(answer(writer.ask(&item("old", "subscription='remove'"))), "result");
    let deleted = server.command(&["user", "del", "tybalt@localhost"]).status().unwrap();
    assert!(deleted.success());
    assert_eq!(fetch(server.port, "xena", true).unwrap(), for_xena);
    // Whose room is free inside the file as soon as that is noted.
    let (mut for_zoe, begun) = (Vec::new(), Instant::now());
    while for_zoe.len() <= for_xena.len() / 2 {
        for_zoe.extend(fill("zoe"));
        assert!(begun.elapsed() < PATIENCE, "{} of {}", for_zoe.len(), for_xena.len());
    }
    // And behind it, without a restart.
    disk.with(|disk| disk.capacity *= 2);
    let more = fill("yves");
    assert!(more.len() > 100, "{}", more.len());
    let for_yves: Vec<usize> = for_yves.into_iter().chain(more).collect();
    server.kill().unwrap();
    disk.power_on(&mut Rng::new(1));
    server.start().unwrap();
    assert_eq!(fetch(server.port, "yves", false).unwrap(), for_yves);
    assert_eq!(fetch(server.port, "zoe", false).unwrap(), for_zoe);
    assert_eq!(
        fetch(server.port, "xena", false).unwrap(),
        Vec::<usize>::new(),
        "what was acknowledged does not come back"
    );
}

/// The words of a start that a disk refuses.
#[test]
fn a_start_on_a_disk_in_trouble_is_refused_with_a_line() {
    let Some(disk) = mount("start", PLENTY) else { return };
    let mut server = server("start", &disk);
    server.kill().unwrap();
    let path = disk.path.display().to_string();
    let said = |verb: &[&str]| {
        let mut command = server.command(verb);
        let ran = command.stderr(std::process::Stdio::piped()).output().unwrap();
        (ran.status.code(), String::from_utf8(ran.stderr).unwrap())
    };
    for (trouble, at_start, what, remedy) in [
        (Trouble::Reads, "certs/localhost.crt: cannot read", " cannot be used", "check that the disk is well"),
        (Trouble::Writes, "couplet.sock: ", " cannot be used", "check that the disk is well"),
        (Trouble::Syncs, "the disk did not confirm", ": look at the disk", "then start couplet again"),
        (Trouble::Permission, "couplet.sock: Permission", ".lock cannot be made", "chown"),
        (Trouble::ReadOnly, "couplet.sock: Read-only", ".lock cannot be made", "mount it for writing"),
    ] {
        if trouble == Trouble::Syncs && backend() == "sqlite" {
            // A start has nothing to sync.
            continue;
        }
        let what = store_file() + what;
        disk.trouble(trouble);
        let (code, text) = said(&["run"]);
        assert_eq!(code, Some(1), "{trouble:?}: {text}");
        says(&text, at_start, if trouble == Trouble::ReadOnly { "mount it for writing" } else { "" }).unwrap();
        if trouble == Trouble::Writes && backend() == "sqlite" {
            // It reads without writing.
            assert_eq!(said(&["user", "list"]).0, Some(0));
            continue;
        }
        let (code, text) = said(&["user", "list"]);
        assert_eq!((code, text.lines().count()), (Some(1), 1), "{trouble:?}: {text}");
        assert!(text.contains(&path), "{text}");
        says(&text, &what, remedy).unwrap();
    }
    disk.trouble(Trouble::Nothing);
    disk.with(|disk| disk.capacity = 0);
    let (code, text) = said(&["compact"]);
    assert_eq!((code, text.lines().count()), (Some(0), 0), "a store on a full disk can be used: {text}");
    let Some(none) = mount("start-full", 1 << 20) else { return };
    let full = Server::new("start-full", &[("COUPLET_STORAGE__PATH", &none.path.display().to_string())]).unwrap();
    let ran = full.command(&["user", "add", "a@localhost", "--password-file", "/dev/null"]).output();
    assert_eq!(ran.unwrap().status.code(), Some(1));
    if backend() == "sqlite" {
        // It is there, and takes nothing; so a server would run, and refuse.
        return;
    }
    let mut run = full.command(&["run"]);
    let ran = run.stderr(std::process::Stdio::piped()).output().unwrap();
    assert_eq!(ran.status.code(), Some(1));
    says(&String::from_utf8_lossy(&ran.stderr), "no room is left for the store", "free some space").unwrap();
}

//! System calls of the real binary, counted by strace from outside: for a message, a ping, a login, a write that is
//! acknowledged, a delivery in a room. Each waits for the one before, so that nothing batches and each has its full
//! price; more of them are compared with fewer, so that starting and ending to count costs nothing.
//!
//! Without strace, or where it may not look into processes, all is skipped and says so.
#![cfg(all(target_os = "linux", feature = "minimal"))]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

#[allow(dead_code, reason = "other tests need more of it")]
mod load;
#[path = "sim/rng.rs"]
#[allow(dead_code, reason = "the simulation needs more of it")]
mod rng;
mod trust;

use load::client::Client;
use load::server::Server;

const USERS: [&str; 4] = ["anne", "bert", "cleo", "dora"];

/// How often each is done while strace counts: the difference is what is divided.
const FEW: u64 = 20;
const MANY: u64 = 120;

/// How the worker waits and is woken: the reactor's calls. How often one wait serves several sockets, or a thread wakes
/// a worker that was awake, is the scheduler's choice, so that these have a common bound and no number. One wait is six
/// of them; a message that is alone needs one, or two when async-io's own thread comes first.
const WAITING: [&str; 6] = ["epoll_pwait2", "epoll_wait", "epoll_ctl", "timerfd_settime", "read", "write"];

/// How often it is counted how a server waits that waits too often: what else the machine does can only add to it.
const LOOKS: u32 = 20;

/// How a commit is written. It may be one for several who have not waited for each other.
const COMMITTING: [&str; 2] = ["fdatasync", "pwrite64"];

/// What the kernel was asked for, by name of the call.
type Calls = BTreeMap<String, u64>;

/// Counts what a server calls while `act` runs. Nothing when strace cannot.
fn counted(server: &Server, act: &mut dyn FnMut() -> io::Result<()>) -> io::Result<Option<Calls>> {
    let pid = server.pid().ok_or(io::ErrorKind::NotFound)?.to_string();
    let table = std::env::temp_dir().join(format!("couplet-syscalls-{}", std::process::id()));
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-p", &pid, "-o"]).arg(&table).stderr(Stdio::piped());
    let Ok(mut strace) = command.spawn() else {
        println!("syscalls: skipped: strace is not installed; try `apt-get install strace`");
        return Ok(None);
    };
    let mut lines = BufReader::new(strace.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    if !first.contains(" attached") {
        strace.wait()?;
        println!("syscalls: skipped: strace may not look into other processes here: {first}");
        return Ok(None);
    }
    act()?;
    // What the server still does behind its last answer, such as watching the socket again.
    std::thread::sleep(Duration::from_millis(100));
    kill_process(Pid::from_child(&strace), Signal::INT)?;
    strace.wait()?;
    let text = std::fs::read_to_string(&table)?;
    std::fs::remove_file(&table)?;
    // Share of time, seconds, microseconds each, calls, perhaps errors, name.
    let row = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let name = fields.last().filter(|name| **name != "total" && fields.len() >= 5)?;
        Some(((*name).to_owned(), fields[3].parse().ok()?))
    };
    Ok(Some(text.lines().filter_map(row).collect()))
}

/// Those of a hundred, by name.
fn of_a_hundred(server: &Server, act: &mut dyn FnMut() -> io::Result<()>) -> io::Result<Option<BTreeMap<String, i64>>> {
    let mut times = |n: u64| counted(server, &mut || (0..n).try_for_each(|_| act()));
    let (Some(few), Some(many)) = (times(FEW)?, times(MANY)?) else { return Ok(None) };
    let of = |calls: &Calls, name: &String| calls.get(name).copied().unwrap_or(0) as i64;
    let more = many.keys().map(|name| (name.clone(), (of(&many, name) - of(&few, name)) * 100 / (MANY - FEW) as i64));
    Ok(Some(more.filter(|(_, calls)| *calls != 0).collect()))
}

fn message(to: &str) -> String {
    format!("<message type='chat' to='{to}@localhost'><body>{}</body></message>", "x".repeat(100))
}

fn until(client: &mut Client, name: &str) -> io::Result<()> {
    while !client.next()?.starts_with(name) {}
    Ok(())
}

/// Into a room, up to its subject, which comes last.
fn enter(client: &mut Client, nick: &str) -> io::Result<()> {
    let x = "<x xmlns='http://jabber.org/protocol/muc'/>";
    client.say(&format!("<presence to='r@conference.localhost/{nick}'>{x}</presence>"))?;
    until(client, "<message")
}

/// What a hundred may take: so many calls of each name, and no others but for waiting, of which there are at most so
/// many. Locks between threads (`futex`) are not counted, nor what comes less than once in two times.
#[derive(Default)]
struct Bill(String);

impl Bill {
    fn settle(
        &mut self,
        server: &Server,
        what: &str,
        (waiting_max, budget): (i64, &[(&str, i64)]),
        act: &mut dyn FnMut() -> io::Result<()>,
    ) {
        let (mut calls, mut waiting) = (BTreeMap::new(), i64::MAX);
        for _ in 0..LOOKS {
            let Some(seen) = of_a_hundred(server, act).unwrap() else { return };
            println!("{what}, a hundred: {seen:?}");
            calls = seen;
            calls.retain(|name, n| name != "futex" && *n >= 50);
            waiting = waiting.min(WAITING.iter().filter_map(|name| calls.remove(*name)).sum());
            if waiting <= waiting_max {
                break;
            }
        }
        if waiting > waiting_max {
            self.0.push_str(&format!("a hundred {what}: {waiting} calls to wait, at most {waiting_max}\n"));
        }
        let known = |name: &str| budget.iter().find(|(known, _)| *known == name).map_or(0, |(_, n)| *n);
        let names: BTreeSet<&str> = calls.keys().map(String::as_str).chain(budget.iter().map(|b| b.0)).collect();
        for name in names {
            let (counted, budget) = (calls.get(name).copied().unwrap_or(0), known(name));
            let fewer_is_right = COMMITTING.contains(&name);
            if counted > budget + budget / 10 || (counted < budget - budget / 10 && !fewer_is_right) {
                self.0.push_str(&format!("a hundred {what}: {counted} times {name}, the budget is {budget}\n"));
            }
        }
    }
}

#[test]
fn each_thing_has_its_system_calls() {
    let mut server = Server::new("syscalls", &[("COUPLET_MODULES__DISABLED", "mam")]).unwrap();
    server.start().unwrap();
    for user in USERS {
        server.add_user(user).unwrap();
    }
    let port = server.port;
    let mut clients: Vec<_> = USERS[..3].iter().map(|user| Client::log_in(port, user).unwrap()).collect();
    for client in &mut clients {
        client.say("<presence/>").unwrap();
        until(client, "<presence").unwrap();
    }
    let [anne, bert, cleo] = &mut clients[..] else { panic!("three clients") };
    let mut bill = Bill::default();
    let answered = [("recvfrom", 100), ("sendto", 100)];
    bill.settle(&server, "messages", (1500, &answered), &mut || {
        anne.say(&message("bert"))?;
        until(bert, "<message")
    });
    bill.settle(&server, "pings", (1500, &answered), &mut || {
        anne.ask("<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>").map(drop)
    });
    let mut n = 0;
    // A commit is two syncs.
    let write = [&answered[..], &[("fdatasync", 200), ("pwrite64", 1000)]].concat();
    bill.settle(&server, "writes", (2200, &write), &mut || {
        n += 1;
        let set = format!("<s xmlns='s'>{n}</s>");
        anne.ask(&format!("<iq type='set' id='s'><query xmlns='jabber:iq:private'>{set}</query></iq>")).map(drop)
    });
    // With its end, which stores when that was.
    let login = [
        ("accept4", 300),
        ("close", 100),
        ("fcntl", 100),
        ("fdatasync", 200),
        ("getrandom", 600),
        ("ioctl", 100),
        ("pwrite64", 1000),
        ("recvfrom", 720),
        ("sendto", 600),
        ("setsockopt", 500),
        ("shutdown", 100),
    ];
    bill.settle(&server, "logins", (9000, &login), &mut || Client::log_in(port, "dora")?.leave());
    enter(anne, "anne").unwrap();
    let form = "<x xmlns='jabber:x:data' type='submit'/>";
    let query = format!("<query xmlns='http://jabber.org/protocol/muc#owner'>{form}</query>");
    anne.ask(&format!("<iq type='set' id='c' to='r@conference.localhost'>{query}</iq>")).unwrap();
    enter(bert, "bert").unwrap();
    enter(cleo, "cleo").unwrap();
    let said = "<message type='groupchat' to='r@conference.localhost'><body>x</body>\
                <no-store xmlns='urn:xmpp:hints'/></message>";
    bill.settle(&server, "messages in a room of three", (2000, &[("recvfrom", 100), ("sendto", 300)]), &mut || {
        anne.say(said)?;
        [&mut *anne, &mut *bert, &mut *cleo].into_iter().try_for_each(|client| until(client, "<message"))
    });
    assert!(bill.0.is_empty(), "\n{}", bill.0);
}

//! What a processor does for a message, in instructions and in bytes copied: `make instructions`. No clock, so that a
//! busy machine does not matter.
//!
//! Callgrind counts the instructions inside of the engine alone (and of its allocator), DHAT the bytes that
//! `memcpy` and its like move, in the whole program. Each case runs with few and with many turns; what more turns cost
//! is divided by their number, so that a start costs nothing. What costs more than 3 % above its budget fails, and so
//! does what has become 3 % cheaper: put the number in that the table says, if the change is meant.
//!
//! Another compiler makes other instructions, as another processor takes other ways through `memcpy`: with another
//! compiler or on another kind of processor the table is printed and not compared. Without valgrind all is skipped.

use couplet::core::io::{ConnId, Input};
use couplet::limits::Limits;
use couplet::stanza::{self, Stanza};
use couplet::xml::{Reader, ScanLimits, Scanner};
use std::hint::black_box;
use std::process::{Command, ExitCode};

#[path = "../budgets/world.rs"]
#[allow(dead_code, reason = "the budgets need more of it")]
mod world;

use world::{World, in_a_room, message};

/// What the budgets were counted with.
const COMPILER: &str = "rustc 1.95.0";

/// Turns that are not counted, and those that are.
const WARM: usize = 4;
const TURNS: usize = 64;

/// Stanzas of one tick, where there are several.
const TOGETHER: usize = 100;
const OCCUPANTS: usize = 100;
const CONTACTS: usize = 50;

/// What is counted: its name, what happens that often in a turn, instructions and bytes copied for one of these.
struct Case {
    name: &'static str,
    what: &'static str,
    in_a_turn: u64,
    instructions: u64,
    copied_bytes: u64,
    run: fn(usize),
}

const CASES: &[Case] = &[
    case("parse", "frame and read a message of 100 characters", 1, (7474, 152), |n| read(n, &message(1))),
    case("write", "write it", 1, (3447, 438), write),
    case("chat", "route it, alone in its tick: parse, write and all between", 1, (25_038, 4112), |n| chat(n, 1)),
    case("busy", "route it, 100 in a tick", TOGETHER as u64, (20_741, 1451), |n| chat(n, TOGETHER)),
    case("acked", "route it with acknowledgements of both ends (XEP-0198)", 1, (47_529, 8720), acknowledged),
    case("ping", "answer a ping", 1, (24_994, 4438), ping),
    case("presence", "show presence to a contact, of 50", CONTACTS as u64, (10_309, 2292), presence),
    case("room", "deliver a message to an occupant, of 100", OCCUPANTS as u64, (6566, 3265), room),
    case("login", "log in with PLAIN, without TLS and hashing", 1, (253_409, 43_505), log_in),
];

const fn case(
    name: &'static str,
    what: &'static str,
    in_a_turn: u64,
    (instructions, copied_bytes): (u64, u64),
    run: fn(usize),
) -> Case {
    Case { name, what, in_a_turn, instructions, copied_bytes, run }
}

/// Where callgrind counts. The name is what it is told.
#[inline(never)]
fn measured<T>(work: impl FnOnce() -> T) -> (T, u64, u64) {
    (black_box(work()), 0, 0)
}

fn read(turns: usize, text: &str) {
    let limits = Limits::default();
    let mut scanner = Scanner::new(ScanLimits::authenticated(&limits));
    let header = "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' \
                  xmlns:stream='http://etherx.jabber.org/streams'>";
    let open = scanner.scan(header.as_bytes()).unwrap().unwrap();
    let mut reader = Reader::new(&limits);
    let template = reader.stream_header(&header.as_bytes()[..open.len]).unwrap().template;
    for _ in 0..turns {
        let (element, ..) = measured(|| {
            let frame = scanner.scan(black_box(text.as_bytes())).unwrap().unwrap();
            reader.element(&template, &text.as_bytes()[..frame.len]).unwrap()
        });
        assert_eq!(element.root().name(), "message");
    }
}

fn write(turns: usize) {
    let text = message(1).replace("<message", "<message xmlns='jabber:client'");
    let stanza = Stanza::read(couplet::xml::parse(&text).unwrap()).unwrap();
    for _ in 0..turns {
        let (written, ..) = measured(|| {
            let mut out = Vec::new();
            stanza::write_head(stanza.kind, stanza.to.as_ref(), &mut out);
            out.extend_from_slice(&black_box(&stanza).tail());
            out
        });
        assert!(written.ends_with(b"</message>"));
    }
}

fn chat(turns: usize, together: usize) {
    let (mut world, conns) = World::online(2);
    let text = message(1).repeat(together);
    for _ in 0..turns {
        world.send(conns[0], &text);
    }
}

fn acknowledged(turns: usize) {
    let (mut world, conns) = World::online(2);
    for conn in &conns {
        world.send(*conn, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    }
    for n in 1..=turns {
        world.send(conns[0], &format!("{}<r xmlns='urn:xmpp:sm:3'/>", message(1)));
        world.send(conns[1], &format!("<a xmlns='urn:xmpp:sm:3' h='{n}'/>"));
    }
}

fn ping(turns: usize) {
    let (mut world, conns) = World::online(1);
    for _ in 0..turns {
        world.send(conns[0], "<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>");
    }
}

fn presence(turns: usize) {
    let (mut world, conns) = World::online(CONTACTS + 1);
    for (n, contact) in conns.iter().enumerate().skip(1) {
        world.send(*contact, "<presence type='subscribe' to='u0@localhost'/>");
        world.send(conns[0], &format!("<presence type='subscribed' to='u{n}@localhost'/>"));
    }
    for _ in 0..turns {
        world.send(conns[0], "<presence><show>away</show></presence>");
    }
}

fn room(turns: usize) {
    let (mut world, conns) = in_a_room(OCCUPANTS);
    let to = "to='r@conference.localhost'";
    let hint = "<no-store xmlns='urn:xmpp:hints'/>";
    let text = format!("<message type='groupchat' id='m' {to}><body>{}</body>{hint}</message>", "x".repeat(100));
    for _ in 0..turns {
        world.send(conns[0], &text);
    }
}

fn log_in(turns: usize) {
    let mut world = World::new(WARM + TURNS);
    let conns: Vec<ConnId> = (0..turns).map(|n| world.log_in(n)).collect();
    for conn in conns {
        world.input(Input::Closed { conn });
    }
}

/// What a tool of valgrind says of so many turns of a case: the number behind `label`.
fn valgrind(arguments: &[&str], label: &str, case: &Case, turns: usize) -> Result<u64, String> {
    let myself = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut command = Command::new("valgrind");
    command.args(arguments).arg(myself).args(["--run", case.name, &turns.to_string()]);
    let output = command.output().map_err(|e| format!("valgrind: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let number = said.lines().find_map(|line| line.split_once(label)?.1.split_whitespace().next());
    let number = number.and_then(|n| n.replace(',', "").parse().ok());
    number.filter(|_| output.status.success()).ok_or_else(|| format!("{}: valgrind says: {said}", case.name))
}

fn instructions(case: &Case, turns: usize) -> Result<u64, String> {
    let arguments = ["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*::measured*"];
    valgrind(&arguments, "Collected :", case, turns)
}

fn copied_bytes(case: &Case, turns: usize) -> Result<u64, String> {
    valgrind(&["--tool=dhat", "--mode=copy", "--dhat-out-file=/dev/null"], "Total:", case, turns)
}

/// What one of a case costs, by that meter.
fn cost(case: &Case, meter: fn(&Case, usize) -> Result<u64, String>) -> Result<u64, String> {
    let (few, many) = (meter(case, WARM)?, meter(case, WARM + TURNS)?);
    let ones = TURNS as u64 * case.in_a_turn;
    Ok((many.saturating_sub(few) + ones / 2) / ones)
}

/// What to say of a number and its budget.
fn verdict(counted: u64, budget: u64) -> Option<&'static str> {
    match () {
        () if counted > budget + budget * 3 / 100 => Some("dearer"),
        () if counted < budget - budget * 3 / 100 => Some("cheaper"),
        () => None,
    }
}

fn is_comparable() -> bool {
    let version = Command::new("rustc").arg("--version").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    cfg!(target_arch = "x86_64") && version.starts_with(&format!("{COMPILER} "))
}

fn table() -> Result<bool, String> {
    let comparable = is_comparable();
    let mut kept = true;
    println!("| case | | instructions | bytes copied |\n|---|---|---|---|");
    for case in CASES {
        let (instructions, copied) = (cost(case, instructions)?, cost(case, copied_bytes)?);
        println!("| {} | {} | {instructions} | {copied} |", case.name, case.what);
        let rows = [("instructions", instructions, case.instructions), ("bytes", copied, case.copied_bytes)];
        for (what, counted, budget) in rows.into_iter().filter(|_| comparable) {
            if let Some(verdict) = verdict(counted, budget) {
                println!("{}: {what}: {verdict} than the budget of {budget}: put {counted}", case.name);
                kept = false;
            }
        }
    }
    if !comparable {
        println!("not compared with the budgets: those are of {COMPILER} on x86_64");
    }
    Ok(kept)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--run") {
        let case = arguments.get(at + 1).and_then(|name| CASES.iter().find(|case| case.name == *name));
        let turns = arguments.get(at + 2).and_then(|turns| turns.parse().ok());
        return match (case, turns) {
            (Some(case), Some(turns)) => {
                (case.run)(turns);
                ExitCode::SUCCESS
            }
            _ => ExitCode::FAILURE,
        };
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("instructions: skipped: valgrind is not installed; try `apt-get install valgrind`");
        return ExitCode::SUCCESS;
    }
    match table() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("instructions: {why}");
            ExitCode::FAILURE
        }
    }
}

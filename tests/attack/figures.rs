//! The figures that are promised of a server under attack, each measured on the published binary with little memory.

use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::floods::{self, HEAVY, Kind, LEFT_MAX_BYTES, MEMORY_MAX, REST, RSS_MAX_BYTES, heavy_cpu_max};
use crate::process::{Peak, cpu, own_bytes, rss_bytes, waited};
use crate::script;
use crate::seen::{Outcome, look};
use crate::stages::Stage;
use crate::target::Target;
use crate::wire::{End, Wire};

/// Connections that say nothing, what each may cost, and how long they may stay.
const SILENT: u16 = 500;
const SILENT_MAX_BYTES: u64 = 12_000;
const DEADLINE: (&str, &str) = ("COUPLET_LIMITS__AUTH_TIMEOUT_S", "10 s");
/// How long something waits for a server that cannot be reached: no longer than is looked at afterwards.
const WAITS: (&str, &str) = ("COUPLET_LIMITS__S2S_QUEUE_TIMEOUT_S", "5 s");
/// What one client may send, where the operator says nothing.
const RATE: (&str, &str) = ("COUPLET_LIMITS__C2S__RATE", "");
const GONE: Duration = Duration::from_secs(20);
/// A server that has waited for a processor for a larger part of a flood shows what else the machine does.
const SHARE_MAX: u32 = 10;
/// How often the processor time of something is measured that is said to cost too much: others can only add to it.
const LOOKS: u32 = 3;

fn mb(bytes: u64) -> String {
    format!("{}.{:02}", bytes / 1_000_000, bytes % 1_000_000 / 10_000)
}

fn ms(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}

/// Measures all of it, prints tables, and gives what is not as promised.
pub fn measure(
    lasts: Duration,
    acts: &[fn(&Target) -> Vec<String>],
    wanted: fn(&str) -> bool,
) -> io::Result<Vec<String>> {
    let mut wrong = Vec::new();
    let target = Target::start("figures", &[MEMORY_MAX, DEADLINE, WAITS])?;
    let pid = target.server.pid().ok_or(io::ErrorKind::NotFound)?;
    let peak = Peak::watch(pid);
    let (start_bytes, start_own_bytes) = (rss_bytes(pid)?, own_bytes(pid)?);
    println!("memory.max {}, resident at the start: {} MB", MEMORY_MAX.1, mb(start_bytes));
    if wanted("silent") {
        wrong.extend(silent(&target)?);
    }
    for act in acts {
        wrong.extend(act(&target));
    }
    let functional = peak.take();
    println!("inputs and pairs: at most {} MB\n", mb(functional));
    if functional > RSS_MAX_BYTES {
        wrong.push(format!("inputs and pairs: {} MB", mb(functional)));
    }
    // As fast as they can, which is what memory has to stand.
    wrong.extend(pour(&target, lasts, REST, &peak, wanted)?);
    println!("\n| a megabyte of | stanzas | CPU (ms) | each (µs) | told |\n|---|---|---|---|---|");
    for (name, stanzas, script) in HEAVY.iter().filter(|(name, ..)| wanted(name)) {
        let Heavy { mut cost, mut is_quiet, told } = heavy(&target, pid, script)?;
        for _ in 1..LOOKS {
            if cost > heavy_cpu_max(*stanzas) {
                let again = heavy(&target, pid, script)?;
                cost = cost.min(again.cost);
                is_quiet |= again.is_quiet;
            }
        }
        println!("| {name} | {stanzas} | {} | {} | {told} |", ms(cost), (cost / *stanzas).as_micros());
        if cost > heavy_cpu_max(*stanzas) && !is_quiet {
            println!("{name}: what it costs is not judged: the machine was busy");
        } else if cost > heavy_cpu_max(*stanzas) {
            wrong.push(format!("a megabyte of {name}: {} ms", ms(cost)));
        }
    }
    std::thread::sleep(REST);
    let end_bytes = rss_bytes(pid)?;
    let more = end_bytes.saturating_sub(start_bytes);
    // The rest is code that had not run before.
    let own = own_bytes(pid)?.saturating_sub(start_own_bytes);
    println!(
        "\nresident at the end: {} MB, {} MB more than at the start, {} MB of it not pages of the program",
        mb(end_bytes),
        mb(more),
        mb(own)
    );
    let said = target.server.said();
    if said.contains(" ERROR ") || said.contains("panic") {
        wrong.push(said);
    }
    drop(peak);
    drop(target);
    println!("\nthe same at the rates that hold where nothing is configured");
    let target = Target::start("rates", &[MEMORY_MAX, DEADLINE, WAITS, RATE])?;
    let peak = Peak::watch(target.server.pid().ok_or(io::ErrorKind::NotFound)?);
    wrong.extend(pour(&target, lasts, Duration::ZERO, &peak, wanted)?);
    Ok(wrong)
}

/// All floods, one after the other; what is not as promised.
fn pour(
    target: &Target,
    lasts: Duration,
    rest: Duration,
    peak: &Peak,
    wanted: fn(&str) -> bool,
) -> io::Result<Vec<String>> {
    let mut wrong = Vec::new();
    println!("| flood | done | witness p50, p95 (ms) | MB before, at most, after | CPU, waited for one (ms) | told |");
    println!("|---|---|---|---|---|---|");
    for flood in floods::all().into_iter().filter(|flood| wanted(flood.name)) {
        let f = match floods::run(target, flood, lasts, rest, peak) {
            Ok(figures) => figures,
            Err(error) => {
                wrong.push(error);
                continue;
            }
        };
        let told: Vec<_> = f.tally.errors.iter().map(|(name, count)| format!("{name} {count}")).collect();
        println!(
            "| {} | {} | {}, {} | {}, {}, {} | {}, {} | {} |",
            flood.name,
            f.tally.done,
            ms(f.p50),
            ms(f.p95),
            mb(f.before_bytes),
            mb(f.peak_bytes),
            mb(f.after_bytes),
            ms(f.cpu),
            ms(f.waited),
            told.join(", ")
        );
        // Without rates, stanzas take what there is of the processor.
        let is_quiet = f.waited < lasts / SHARE_MAX;
        if f.p95 > flood.kind.p95_max() && !is_quiet {
            println!("{}: how soon the witness is served is not judged: the machine was busy", flood.name);
        }
        let (p95_max, paced) = (flood.kind.p95_max(), rest.is_zero() || flood.kind == Kind::Connections);
        let left = !rest.is_zero() && f.after_bytes > f.before_bytes + LEFT_MAX_BYTES;
        let broken = [
            (paced && is_quiet && f.p95 > p95_max)
                .then(|| format!("the witness waits {} ms, not {}", ms(f.p95), ms(p95_max))),
            (f.peak_bytes > RSS_MAX_BYTES).then(|| format!("{} MB at most", mb(f.peak_bytes))),
            left.then(|| format!("{} MB after", mb(f.after_bytes))),
        ];
        wrong.extend(broken.into_iter().flatten().map(|what| format!("{}: {what}", flood.name)));
    }
    Ok(wrong)
}

/// What it costs to look at something, whether the server had a processor all the while, as two that share one are
/// both slower, and what is said of it.
struct Heavy {
    cost: Duration,
    is_quiet: bool,
    told: String,
}

fn heavy(target: &Target, pid: u32, script: &str) -> io::Result<Heavy> {
    let mut stream = floods::patiently(|| Stage::Bound("tybalt").open(target))?;
    let (before, waited_before) = (cpu(pid)?, waited(pid)?);
    script::send(script, &mut stream)?;
    let seen = look(&mut stream, &Outcome::Answers(String::new()))?;
    let told = seen.text.split("<stream:error><").nth(1).and_then(|rest| rest.split(' ').next());
    let (cost, waited) = (cpu(pid)? - before, waited(pid)? - waited_before);
    Ok(Heavy { cost, is_quiet: waited < cost / SHARE_MAX, told: told.unwrap_or("nothing").to_owned() })
}

/// Connections that say nothing at all, or nothing more when TLS stands.
fn silent(target: &Target) -> io::Result<Vec<String>> {
    let pid = target.server.pid().ok_or(io::ErrorKind::NotFound)?;
    let mut wrong = Vec::new();
    println!("| silent connections | are there | bytes for each | gone after (s) |\n|---|---|---|---|");
    for (name, kind, tls) in
        [("before STARTTLS", "STARTTLS", false), ("before TLS", "direct TLS", false), ("under TLS", "direct TLS", true)]
    {
        let before = rss_bytes(pid)?;
        let begun = Instant::now();
        let mut wires = Vec::new();
        for n in 0..SILENT {
            let [high, low] = n.to_be_bytes();
            let mut wire = Wire::connect_from(Ipv4Addr::new(127, 1, high + 1, low.max(1)), target.port(kind)?)?;
            if !tls || wire.start_tls("xmpp-client", None).is_ok() {
                wires.push(wire);
            }
        }
        std::thread::sleep(Duration::from_millis(500));
        let open = |wires: &mut Vec<Wire>| {
            wires.iter_mut().for_each(|wire| while wire.wait(Duration::ZERO) {});
            wires.iter().filter(|wire| wire.end == End::Open).count()
        };
        let there = open(&mut wires);
        let each = rss_bytes(pid)?.saturating_sub(before) / (there as u64).max(1);
        while open(&mut wires) > 0 && begun.elapsed() < GONE {
            std::thread::sleep(Duration::from_millis(100));
        }
        let gone = begun.elapsed();
        println!("| {name} | {there} | {each} | {:.1} |", gone.as_secs_f64());
        if each > SILENT_MAX_BYTES {
            wrong.push(format!("silent connections {name}: {each} bytes each"));
        }
        if gone >= GONE {
            wrong.push(format!("silent connections {name}: {} stay", open(&mut wires)));
        }
    }
    println!();
    Ok(wrong)
}

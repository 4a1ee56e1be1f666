//! What was measured, as a table in Markdown and as a plot.

use crate::process::{Spent, load_average};
use crate::server::{Kind, target};
use std::fmt::Write as _;
use std::fs;

/// The generator's share of its processor from which on it says nothing about the server.
const BUSY_MAX: f64 = 0.9;

/// A row of the table.
struct Row {
    name: &'static str,
    text: &'static str,
    digits: usize,
    /// More is better.
    more: bool,
    /// Goes into the plot.
    plotted: bool,
}

const fn row(name: &'static str, text: &'static str, digits: usize, more: bool, plotted: bool) -> Row {
    Row { name, text, digits, more, plotted }
}

const ROWS: &[Row] = &[
    row("rss-0", "memory (RSS) of the server alone, MB", 1, false, true),
    row("rss-100", "with 100 idle clients, MB", 1, false, false),
    row("rss-1000", "with 1000 idle clients, MB", 1, false, true),
    row("rss-5000", "with 5000 idle clients, MB", 1, false, false),
    row("rss-each", "each of 1000 idle clients, kB", 1, false, true),
    row("rss-phone", "each of 500 with 20 contacts, XEP-0198 and carbons, kB", 1, false, true),
    row("rss-after", "after they have left, MB", 1, false, false),
    row("idle-rooms", "more for 10 000 rooms with nobody in them, MB", 2, false, false),
    row("idle-rooms-again", "the same after a restart, MB", 2, false, false),
    row("login", "logins a second", 0, true, false),
    row("login-core", "logins in a second of CPU", 0, true, true),
    row("login-cpu", "**CPU of a login, ms**", 3, false, false),
    row("ping-p50", "ping, p50, ms", 3, false, false),
    row("ping-p99", "ping, p99, ms", 3, false, false),
    row("chat-200-p50", "200 messages a second: p50, ms", 3, false, false),
    row("chat-200-p99", "p99, ms", 3, false, false),
    row("chat-200-cpu", "**CPU per 1000 messages, ms**", 1, false, true),
    row("chat-1000-p50", "1000 messages a second: p50, ms", 3, false, false),
    row("chat-1000-p99", "p99, ms", 3, false, false),
    row("chat-1000-cpu", "**CPU per 1000 messages, ms**", 1, false, true),
    row("chat", "messages flat out, a second", 0, true, false),
    row("chat-core", "messages in a second of CPU", 0, true, true),
    row("chat-cpu", "**CPU per 1000 messages, ms**", 2, false, false),
    row("chat-p99", "p99, ms, with 10 messages of each of 50 pairs under way", 1, false, false),
    row("chat-sm", "the same with XEP-0198 and a request for each, a second", 0, true, false),
    row("chat-sm-core", "messages in a second of CPU", 0, true, true),
    row("chat-sm-cpu", "**CPU per 1000 messages, ms**", 2, false, false),
    row("chat-sm-p99", "p99, ms", 1, false, false),
    row("chat-sm-ack", "until the server acknowledges it, p99, ms", 1, false, false),
    row("room", "room of 100: deliveries a second", 0, true, false),
    row("room-core", "deliveries in a second of CPU", 0, true, true),
    row("room-cpu", "**CPU of a delivery, us**", 2, false, false),
    row("storm-cpu", "**500 logins with 20 contacts each: CPU of a login, ms**", 3, false, true),
    row("storm-presences", "presence that they hear", 0, true, false),
    row("offline", "acknowledged offline messages of 100 senders, a second", 0, true, true),
    row("offline-core", "in a second of CPU", 0, true, false),
    row("offline-cpu", "**CPU per 1000 messages, ms**", 1, false, false),
    row(
        "offline-busy",
        "part of its core that the server used; where that is far from 1, commits set the rate",
        2,
        false,
        false,
    ),
    row("offline-wait", "until a message is acknowledged, ms", 1, false, false),
    row("scale-clients-10-cpu", "**CPU per 1000 messages beside 10 idle clients, ms**", 2, false, false),
    row("scale-clients-100-cpu", "beside 100", 2, false, false),
    row("scale-clients-1000-cpu", "beside 1000", 2, false, false),
    row("scale-clients-5000-cpu", "beside 5000", 2, false, false),
    row("scale-contacts-10-cpu", "**between people with 10 contacts, ms**", 2, false, false),
    row("scale-contacts-100-cpu", "with 100", 2, false, false),
    row("scale-contacts-1000-cpu", "with 1000", 2, false, false),
    row("scale-contacts-10-login", "**CPU of a login with the roster, 10 contacts, ms**", 2, false, false),
    row("scale-contacts-100-login", "100 contacts", 2, false, false),
    row("scale-contacts-1000-login", "1000 contacts", 2, false, false),
    row("scale-accounts-10000-cpu", "**with 10 000 accounts, ms**", 2, false, false),
    row("scale-accounts-100000-cpu", "with 100 000", 2, false, false),
    row("lost", "messages lost", 0, false, false),
    row("doubled", "messages that came twice", 0, false, false),
    row("load", "load average while it ran", 1, false, false),
    row("core-waited", "part of the time that the server waited for its core", 2, false, false),
    row("generator", "part of its core that the generator used, at most", 2, false, false),
    row("commit-ms", "the disk commits 4 kB in, ms", 2, false, false),
    row("failed", "loads that failed", 0, false, false),
];

/// One figure.
struct Record {
    kind: Kind,
    name: String,
    value: f64,
    void: bool,
}

/// All figures of a run.
#[derive(Default)]
pub struct Report {
    records: Vec<Record>,
}

/// Where a load writes its figures.
pub struct Sheet<'a> {
    report: &'a mut Report,
    kind: Kind,
}

impl Report {
    /// The figures of one server.
    pub fn sheet(&mut self, kind: Kind) -> Sheet<'_> {
        Sheet { report: self, kind }
    }

    /// Median, lowest and highest of what was measured, and whether part of it is void.
    fn cell(&self, kind: Kind, name: &str) -> Option<(f64, f64, f64, bool)> {
        let of = |r: &&Record| r.kind == kind && r.name == name;
        let mut all: Vec<&Record> = self.records.iter().filter(of).collect();
        if all.iter().any(|r| !r.void) && !all.is_empty() {
            all.retain(|r| !r.void);
        }
        all.sort_by(|a, b| a.value.total_cmp(&b.value));
        let void = all.iter().any(|r| r.void);
        Some((all.get(all.len() / 2)?.value, all.first()?.value, all.last()?.value, void))
    }

    /// Writes `report.md` and `report.svg`, and prints the table.
    pub fn write(&self, kinds: &[Kind], preface: &str) -> Result<(), String> {
        let mut text = format!("{preface}\n| |");
        kinds.iter().for_each(|kind| _ = write!(text, " {} |", kind.name()));
        text += "\n|---|";
        kinds.iter().for_each(|_| text += "---|");
        text.push('\n');
        for row in ROWS.iter().filter(|row| self.records.iter().any(|r| r.name == row.name)) {
            let _ = write!(text, "| {} |", row.text);
            for kind in kinds {
                let _ = match self.cell(*kind, row.name) {
                    None => write!(text, " |"),
                    Some((median, low, high, void)) => {
                        let mark = if void { " void" } else { "" };
                        let figure = |value| grouped(value, row.digits);
                        match low == high {
                            true => write!(text, " {}{mark} |", figure(median)),
                            false => write!(text, " {} ({} to {}){mark} |", figure(median), figure(low), figure(high)),
                        }
                    }
                };
            }
            text.push('\n');
        }
        println!("{text}");
        let write = |name: &str, text: &str| {
            let path = target().join(name);
            fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
            eprintln!("bench: {}", path.display());
            Ok::<_, String>(())
        };
        write("report.md", &text)?;
        write("report.svg", &self.plot(kinds))
    }

    /// Bars for each row that is plotted, longest in its row for the best.
    fn plot(&self, kinds: &[Kind]) -> String {
        const COLOURS: [&str; 6] = ["#1b6ca8", "#c0504d", "#e0a030", "#7a9a3b", "#7fb3d5", "#888888"];
        let (mut y, mut bars) = (30, String::new());
        for row in ROWS.iter().filter(|row| row.plotted) {
            let cells: Vec<_> =
                kinds.iter().enumerate().filter_map(|(n, k)| Some((n, *k, self.cell(*k, row.name)?))).collect();
            let most = cells.iter().map(|(_, _, cell)| cell.0).fold(0.0, f64::max);
            if cells.is_empty() || most <= 0.0 {
                continue;
            }
            let better = if row.more { "more is better" } else { "less is better" };
            let title = row.text.replace("**", "");
            let _ = writeln!(bars, "<text x='10' y='{y}' font-weight='bold'>{title} ({better})</text>");
            for (n, kind, (median, ..)) in cells {
                y += 20;
                let width = (median / most * 460.0).max(1.0);
                let (colour, name) = (COLOURS[n % COLOURS.len()], kind.name());
                let _ = writeln!(bars, "<text x='10' y='{y}'>{name}</text>");
                let top = y - 12;
                let _ = writeln!(bars, "<rect x='160' y='{top}' width='{width:.0}' height='15' fill='{colour}'/>");
                let (at, figure) = (166.0 + width, grouped(median, row.digits));
                let _ = writeln!(bars, "<text x='{at:.0}' y='{y}'>{figure}</text>");
            }
            y += 36;
        }
        let svg = "xmlns='http://www.w3.org/2000/svg' font-family='sans-serif' font-size='13'";
        format!("<svg {svg} width='760' height='{y}'><rect width='100%' height='100%' fill='white'/>\n{bars}</svg>\n")
    }
}

impl Sheet<'_> {
    /// A figure that was measured in this stretch of time.
    pub fn note(&mut self, name: &str, value: f64, spent: &Spent) {
        let void = spent.generator > BUSY_MAX;
        self.put(name, value, void);
    }

    fn put(&mut self, name: &str, value: f64, void: bool) {
        self.report.records.push(Record { kind: self.kind, name: name.to_owned(), value, void });
    }

    /// So many of something, as a rate by the clock and by the server's CPU.
    pub fn rate(&mut self, name: &'static str, count: f64, spent: &Spent) {
        self.note(name, count / spent.wall.as_secs_f64(), spent);
        self.put(&format!("{name}-core"), count / spent.server.cpu.as_secs_f64(), false);
        self.put("generator", spent.generator, false);
        self.put("load", load_average(), false);
        self.put("core-waited", spent.server.waited.as_secs_f64() / spent.wall.as_secs_f64(), false);
    }

    /// What the server's CPU spent on each of so many, in milliseconds. It is true however busy the generator is.
    pub fn cpu(&mut self, name: &str, count: f64, spent: &Spent) {
        self.put(name, spent.server.cpu.as_secs_f64() * 1000.0 / count, false);
    }

    /// What is missing and what came too often.
    pub fn wrong(&mut self, [lost, doubled]: [usize; 2]) {
        self.put("lost", lost as f64, false);
        self.put("doubled", doubled as f64, false);
    }

    /// Something that is no matter of a load.
    pub fn remark(&mut self, name: &str, value: f64) {
        self.put(name, value, false);
    }
}

/// A figure with its thousands apart.
fn grouped(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), String::new()), |(w, r)| (w, format!(".{r}")));
    if whole.len() < 5 {
        return text;
    }
    let mut out = String::new();
    for (n, digit) in whole.chars().enumerate() {
        if n > 0 && (whole.len() - n).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out + &rest
}

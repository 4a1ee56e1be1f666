//! What processes and the machine have used, as the system counts it.

use rustix::process::Pid;
use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// What some processes have used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Time on a processor, in user and system mode.
    pub cpu: Duration,
    /// Time in which they could run and something else did.
    pub waited: Duration,
}

impl Usage {
    /// Of a process and all that it started.
    pub fn of(pid: u32) -> Self {
        family(pid).into_iter().fold(Self::default(), |sum, pid| {
            let one = of_one(pid);
            Self { cpu: sum.cpu + one.cpu, waited: sum.waited + one.waited }
        })
    }

    /// What came since an earlier look.
    pub fn since(self, before: Self) -> Self {
        Self { cpu: self.cpu.saturating_sub(before.cpu), waited: self.waited.saturating_sub(before.waited) }
    }
}

fn of_one(pid: u32) -> Usage {
    let mut usage = Usage::default();
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return usage };
    for task in tasks.flatten() {
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let mut numbers = text.split_whitespace().map(|n| Duration::from_nanos(n.parse().unwrap_or(0)));
        usage.cpu += numbers.next().unwrap_or_default();
        usage.waited += numbers.next().unwrap_or_default();
    }
    usage
}

/// A process and its descendants.
fn family(root: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name of the program, in parentheses, may hold anything.
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        if let Some(parent) = rest.split_whitespace().nth(1).and_then(|p| p.parse::<u32>().ok()) {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![root];
    let mut at = 0;
    while let Some(one) = found.get(at).copied() {
        found.extend(parents.iter().filter(|(_, parent)| *parent == one).map(|(pid, _)| *pid));
        at += 1;
    }
    found
}

/// Resident memory of a process and its descendants, in bytes.
pub fn rss_bytes(pid: u32) -> u64 {
    family(pid)
        .into_iter()
        .filter_map(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .sum::<u64>()
        * 1024
}

/// Runnable processes, averaged over a minute.
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0.0)
}

/// A stretch of time that is measured.
pub struct Span {
    server: u32,
    begin: Instant,
    server_before: Usage,
    own_before: Usage,
}

/// What was used in a stretch of time.
#[derive(Clone, Copy)]
pub struct Spent {
    /// By the clock.
    pub wall: Duration,
    /// By the server.
    pub server: Usage,
    /// The part of the time in which the generator used its processor, or waited for it.
    pub generator: f64,
}

impl Span {
    /// Begins now.
    pub fn new(server: u32) -> Self {
        let own_before = of_one(std::process::id());
        Self { server, server_before: Usage::of(server), own_before, begin: Instant::now() }
    }

    /// Ends now.
    pub fn end(&self) -> Spent {
        let wall = self.begin.elapsed();
        let own = of_one(std::process::id()).since(self.own_before);
        let server = Usage::of(self.server).since(self.server_before);
        Spent { wall, server, generator: (own.cpu + own.waited).as_secs_f64() / wall.as_secs_f64().max(1e-9) }
    }
}

/// How long the disk below a folder takes to make 4 kB durable: the median of some tries.
pub fn commit_time(folder: &Path) -> Result<Duration, String> {
    let path = folder.join("commit-time");
    let mut file = fs::File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..30 {
        let begin = Instant::now();
        file.seek(SeekFrom::Start(0))
            .and_then(|_| file.write_all(&[7; 4096]))
            .and_then(|()| file.sync_data())
            .map_err(|e| e.to_string())?;
        times.push(begin.elapsed());
    }
    times.sort();
    let _ = fs::remove_file(path);
    Ok(times[times.len() / 2])
}

/// Puts this process on one processor, if there is more than one; says whether it has.
pub fn pin_self(core: &str) -> bool {
    let pid = Pid::as_raw(Some(rustix::process::getpid())).to_string();
    let done = std::process::Command::new("taskset").args(["-p", "-c", core, &pid]).output();
    std::thread::available_parallelism().is_ok_and(|n| n.get() > 0) && done.is_ok_and(|out| out.status.success())
}

//! What the server's process uses, as the system counts it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Time between two looks at the memory of a process.
const LOOK: Duration = Duration::from_millis(5);

/// Resident memory, in bytes.
pub fn rss_bytes(pid: u32) -> io::Result<u64> {
    status_bytes(pid, "VmRSS:")
}

/// What of that is not pages of files, as the program's code is.
pub fn own_bytes(pid: u32) -> io::Result<u64> {
    status_bytes(pid, "RssAnon:")
}

fn status_bytes(pid: u32, row: &str) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(row)).unwrap_or_default();
    let kib = line.trim().split(' ').next().and_then(|kib| kib.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other(format!("no {row}")))
}

/// Processor time of all its threads so far.
pub fn cpu(pid: u32) -> io::Result<Duration> {
    let mut sum = Duration::ZERO;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end meanwhile.
        sum += schedstat(&task?.path(), 0).unwrap_or_default();
    }
    Ok(sum)
}

/// How long the thread that serves everybody has waited for a processor while it could have worked: what others on this
/// machine took from it, those who flood among them, and what the machine's host took from all its processors.
pub fn waited(pid: u32) -> io::Result<Duration> {
    Ok(schedstat(Path::new(&format!("/proc/{pid}/task/{pid}")), 1)? + stolen()?)
}

/// Processor time that the host of a virtual machine gave to others.
fn stolen() -> io::Result<Duration> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let ticks = text.lines().next().and_then(|all| all.split_ascii_whitespace().nth(8)?.parse::<u64>().ok());
    let ticks = ticks.ok_or_else(|| io::Error::other("no /proc/stat"))?;
    Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}

/// A time that the system counts of a thread: 0 is what it ran, 1 what it waited to run.
fn schedstat(task: &Path, which: usize) -> io::Result<Duration> {
    let text = std::fs::read_to_string(task.join("schedstat"))?;
    let ns = text.split(' ').nth(which).and_then(|ns| ns.parse().ok());
    ns.map(Duration::from_nanos).ok_or_else(|| io::Error::other("no schedstat"))
}

/// Remembers the most memory that a process had.
pub struct Peak {
    stop: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Peak {
    pub fn watch(pid: u32) -> Self {
        let (stop, bytes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, most) = (stop.clone(), bytes.clone());
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // One that has ended needs none.
                most.fetch_max(rss_bytes(pid).unwrap_or_default(), Ordering::Relaxed);
                thread::sleep(LOOK);
            }
        });
        Self { stop, bytes, thread: Some(thread) }
    }

    /// Bytes, since the last call.
    pub fn take(&self) -> u64 {
        self.bytes.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

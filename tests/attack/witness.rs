//! A client that wants nothing but to be served while others attack.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::stages::Stage;
use crate::target::Target;

/// Time between an answer and the next question.
const PAUSE: Duration = Duration::from_millis(10);

/// A session that asks again and again, in a thread of its own.
pub struct Witness {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Vec<Duration>>>,
}

impl Witness {
    /// Logs in and begins.
    pub fn start(target: &Target) -> io::Result<Self> {
        let mut stream = Stage::Bound("witness").open(target)?;
        stream.wire.say("<presence/>");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut times = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let (id, asked) = (times.len(), Instant::now());
                stream
                    .wire
                    .say(format!("<iq type='get' id='w{id}-' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>"));
                let answer = stream.wire.hear(&format!("id='w{id}-'"))?;
                if answer.contains("type='error'") {
                    return Err(io::Error::other(answer));
                }
                times.push(asked.elapsed());
                thread::sleep(PAUSE);
            }
            Ok(times)
        });
        Ok(Self { stop, thread })
    }

    /// How long each answer took. An error when one did not come.
    pub fn stop(self) -> io::Result<Vec<Duration>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the witness has fallen")))
    }
}

/// The time that this share of the answers took at most.
pub fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

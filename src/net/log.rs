//! The back end of the `log` crate: one line for each event to stderr, a file or syslog, as text or JSON.
//!
//! Text begins with the date in ISO 8601, so that lines sort; under journald and syslog, which date lines themselves,
//! it begins with the priority. Whatever a peer managed to get into a message cannot forge a line: control characters
//! leave escaped, and a line is cut at [`LINE_BYTES_MAX`]. An error that everybody meets, as that of a disk, is said
//! once, and then how often it was met in ten seconds.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::clock;

/// Longest message in bytes; the rest is cut off. Half of what syslogd implementations take.
pub const LINE_BYTES_MAX: usize = 1024;

/// How long an error is not said again, in milliseconds.
const QUIET_MS: i64 = 10_000;

/// How many errors are remembered for that.
const SAID_MAX: usize = 8;

/// Where syslogd listens on every Unix.
const SYSLOG_PATH: &str = "/dev/log";

/// Facility `daemon` of RFC 3164 section 4.1.1, shifted into place.
const FACILITY: u8 = 3 << 3;

/// What `[log]` of the configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Where lines go.
    pub target: LogTarget,
    /// What they look like.
    pub format: LogFormat,
    /// Level of every log target that `levels` does not name.
    pub level: LevelFilter,
    /// Levels by prefix of the log target (`couplet::storage`); the longest prefix that fits wins.
    pub levels: Vec<(String, LevelFilter)>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { target: LogTarget::Stderr, format: LogFormat::Text, level: LevelFilter::Info, levels: Vec::new() }
    }
}

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error, with journald's priority prefix when journald reads it.
    Stderr,
    /// Appended to a file, which [`apply`] opens again so that it can be rotated.
    File(PathBuf),
    /// The local syslog daemon, facility `daemon`.
    Syslog,
}

/// What log lines look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `2026-11-21T23:59:59.000Z INFO couplet::net: listening on ...`
    Text,
    /// `{"time":"...","level":"info","target":"couplet::net","message":"..."}`
    Json,
}

/// Why the log could not be opened, and what to do.
#[derive(Debug)]
pub enum LogError {
    /// The file of `log.target` cannot be opened for appending.
    File(PathBuf, io::Error),
    /// No daemon listens on `/dev/log`.
    Syslog(io::Error),
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => {
                write!(f, "cannot append to the log file {}: {error}; create its folder or make it ", path.display())?;
                f.write_str(
                    "writable for the user that runs couplet; a running server must be restarted for a folder ",
                )?;
                f.write_str("that it has not seen when it started (process.sandbox)")
            }
            Self::Syslog(error) => {
                write!(f, "cannot reach syslog at {SYSLOG_PATH}: {error}; start a syslog daemon or log to stderr")
            }
        }
    }
}

impl std::error::Error for LogError {}

static LOGGER: Logger = Logger { state: Mutex::new(State::new()) };

/// Puts `options` in force: the first time it becomes the process's logger, later it replaces levels and sink and opens
/// the file again. On error what was in force stays.
///
/// # Errors
/// When the file or the syslog socket cannot be opened.
pub fn apply(options: &LogOptions) -> Result<(), LogError> {
    let sink = Sink::open(&options.target)?;
    let most = options.levels.iter().map(|(_, level)| *level).fold(options.level, Ord::max);
    {
        let mut state = LOGGER.lock();
        state.sink = sink;
        state.format = options.format;
        state.level = options.level;
        state.levels = options.levels.clone();
    }
    // Fails when a logger is set already, which is this one, or a test's own.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(most);
    Ok(())
}

struct Logger {
    state: Mutex<State>,
}

struct State {
    sink: Sink,
    format: LogFormat,
    level: LevelFilter,
    levels: Vec<(String, LevelFilter)>,
    /// Reused for every line.
    line: String,
    said: Vec<Said>,
}

/// An error that was said a moment ago.
struct Said {
    target: String,
    message: String,
    until_ms: i64,
    /// How often it was to be said again.
    again: u64,
}

enum Sink {
    Stderr,
    Journal,
    File(File),
    Syslog(UnixDatagram),
}

impl Logger {
    /// A panic while the lock was held leaves nothing half done that matters: lines are built from scratch.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let state = self.lock();
        metadata.level() <= level_of(metadata.target(), state.level, &state.levels)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // The arguments are written out before the lock is taken: a Display that logs must not wait for itself.
        let mut message = Cut::default();
        let _ = message.write_fmt(*record.args());
        self.lock().say(wall_ms(), record.level(), record.target(), &message.0);
    }

    fn flush(&self) {}
}

impl State {
    const fn new() -> Self {
        Self {
            sink: Sink::Stderr,
            format: LogFormat::Text,
            level: LevelFilter::Info,
            levels: Vec::new(),
            line: String::new(),
            said: Vec::new(),
        }
    }

    /// Writes a line, unless it is an error that was said a moment ago.
    fn say(&mut self, wall_ms: i64, level: Level, target: &str, message: &str) {
        // A clock that was set back makes nothing last longer.
        let is_past = |said: &Said| said.until_ms <= wall_ms || said.until_ms > wall_ms + QUIET_MS;
        while let Some(at) = self.said.iter().position(is_past) {
            let past = self.said.swap_remove(at);
            if past.again > 0 {
                let times = format!("{} times more in {} s: {}", past.again, QUIET_MS / 1000, past.message);
                self.write(wall_ms, Level::Error, &past.target, &times);
            }
        }
        if level == Level::Error {
            if let Some(said) = self.said.iter_mut().find(|said| said.message == message) {
                said.again = said.again.saturating_add(1);
                return;
            }
            if self.said.len() < SAID_MAX {
                let (target, message) = (target.to_owned(), message.to_owned());
                self.said.push(Said { target, message, until_ms: wall_ms + QUIET_MS, again: 0 });
            }
        }
        self.write(wall_ms, level, target, message);
    }

    fn write(&mut self, wall_ms: i64, level: Level, target: &str, message: &str) {
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        let dated = match self.sink {
            Sink::Stderr | Sink::File(_) => true,
            Sink::Journal => {
                let _ = write!(line, "<{}>", severity(level));
                false
            }
            // RFC 3164 dates are local time without a zone, which we cannot know; section 4.3.2 has the daemon add it.
            Sink::Syslog(_) => {
                let _ = write!(line, "<{}>couplet[{}]: ", FACILITY | severity(level), std::process::id());
                false
            }
        };
        match self.format {
            LogFormat::Text => text_line(&mut line, dated.then_some(wall_ms), level, target, message),
            LogFormat::Json => json_line(&mut line, wall_ms, level, target, message),
        }
        // A log that cannot be written must not stop the server, and there is nowhere to report it.
        let _ = self.sink.send(&mut line);
        self.line = line;
    }
}

impl Sink {
    fn open(target: &LogTarget) -> Result<Self, LogError> {
        match target {
            LogTarget::Stderr if journald_reads_stderr() => Ok(Self::Journal),
            LogTarget::Stderr => Ok(Self::Stderr),
            LogTarget::File(path) => open_file(path).map(Self::File).map_err(|e| LogError::File(path.clone(), e)),
            LogTarget::Syslog => open_syslog().map(Self::Syslog).map_err(LogError::Syslog),
        }
    }

    fn send(&mut self, line: &mut String) -> io::Result<()> {
        match self {
            Self::Stderr | Self::Journal => {
                line.push('\n');
                io::stderr().write_all(line.as_bytes())
            }
            Self::File(file) => {
                line.push('\n');
                file.write_all(line.as_bytes())
            }
            Self::Syslog(socket) => {
                if socket.send(line.as_bytes()).is_ok() {
                    return Ok(());
                }
                // A restarted daemon has a new socket under the old name.
                *socket = open_syslog()?;
                socket.send(line.as_bytes()).map(|_| ())
            }
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

fn open_syslog() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(SYSLOG_PATH)?;
    // The worker never waits for a slow daemon: the line is lost instead.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// systemd sets `JOURNAL_STREAM` to the device and inode of the socket it gave us; after a redirection they differ.
fn journald_reads_stderr() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stat) = rustix::fs::fstat(io::stderr()) else { return false };
    stream == format!("{}:{}", stat.st_dev, stat.st_ino)
}

/// The level in force for a log target: that of the longest prefix which ends at a `::`.
fn level_of(target: &str, level: LevelFilter, levels: &[(String, LevelFilter)]) -> LevelFilter {
    let fits = |prefix: &str| target.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    levels.iter().filter(|(prefix, _)| fits(prefix)).max_by_key(|(prefix, _)| prefix.len()).map_or(level, |row| row.1)
}

/// RFC 3164 section 4.1.1.
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

fn push_time(out: &mut String, wall_ms: i64) {
    let date = clock::datetime(wall_ms);
    let _ = write!(out, "{}.{:03}Z", date.trim_end_matches('Z'), wall_ms.rem_euclid(1000));
}

fn text_line(out: &mut String, wall_ms: Option<i64>, level: Level, target: &str, message: &str) {
    if let Some(wall_ms) = wall_ms {
        push_time(out, wall_ms);
        let _ = write!(out, " {level:<5} ");
    }
    let _ = write!(out, "{target}: ");
    for c in message.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if hides(c) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

/// Characters that move the cursor, end a line for some viewer, or reorder what is shown.
fn hides(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn json_line(out: &mut String, wall_ms: i64, level: Level, target: &str, message: &str) {
    out.push_str("{\"time\":\"");
    push_time(out, wall_ms);
    out.push_str("\",\"level\":\"");
    out.push_str(match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    });
    out.push_str("\",\"target\":");
    push_json(out, target);
    out.push_str(",\"message\":");
    push_json(out, message);
    out.push('}');
}

/// A string of RFC 8259 section 7.
fn push_json(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if hides(c) => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Collects a message up to [`LINE_BYTES_MAX`] and drops the rest.
#[derive(Default)]
struct Cut(String);

impl fmt::Write for Cut {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let mut room = LINE_BYTES_MAX.saturating_sub(self.0.len());
        if s.len() <= room {
            self.0.push_str(s);
            return Ok(());
        }
        while !s.is_char_boundary(room) {
            room -= 1;
        }
        self.0.push_str(s.get(..room).unwrap_or_default());
        self.0.push('…');
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_begins_with_the_date_and_cannot_be_forged() {
        let mut line = String::new();
        text_line(&mut line, Some(1_795_305_599_007), Level::Warn, "couplet::net", "bad\n2026 \u{1b}[2J\u{202e}\ttail");
        assert_eq!(line, "2026-11-21T23:59:59.007Z WARN  couplet::net: bad\\n2026 \\u{1b}[2J\\u{202e}\\ttail");
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn json_escapes_what_json_must() {
        let mut line = String::new();
        json_line(&mut line, 0, Level::Info, "couplet", "a \"quote\", a \\, a\nline, \u{0} and é");
        assert_eq!(
            line,
            "{\"time\":\"1970-01-01T00:00:00.000Z\",\"level\":\"info\",\"target\":\"couplet\",\
             \"message\":\"a \\\"quote\\\", a \\\\, a\\nline, \\u0000 and é\"}"
        );
    }

    #[test]
    fn an_error_is_said_once_and_then_counted() {
        let path = std::env::temp_dir().join(format!("couplet-log-said-{}", std::process::id()));
        let mut state = State { sink: Sink::File(open_file(&path).unwrap()), ..State::new() };
        for (at, level, message) in [
            (0, Level::Error, "the disk failed"),
            (1, Level::Error, "the disk failed"),
            (2, Level::Info, "news"),
            (3, Level::Info, "news"),
            (4, Level::Error, "another"),
            (9_999, Level::Error, "the disk failed"),
            (10_000, Level::Error, "the disk failed"),
            (20_004, Level::Info, "later"),
        ] {
            state.say(at, level, "couplet", message);
        }
        let said = std::fs::read_to_string(&path).unwrap();
        let said: Vec<&str> =
            said.lines().filter_map(|line| line.split_once("couplet: ")).map(|(_, said)| said).collect();
        let again = "2 times more in 10 s: the disk failed";
        assert_eq!(said, ["the disk failed", "news", "news", "another", again, "the disk failed", "later"]);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn the_longest_prefix_decides_and_ends_at_a_path_segment() {
        let levels =
            vec![("couplet".to_owned(), LevelFilter::Warn), ("couplet::storage".to_owned(), LevelFilter::Debug)];
        let level = |target| level_of(target, LevelFilter::Info, &levels);
        assert_eq!(level("couplet::storage::redb"), LevelFilter::Debug);
        assert_eq!(level("couplet::storage"), LevelFilter::Debug);
        assert_eq!(level("couplet::storages"), LevelFilter::Warn);
        assert_eq!(level("couplet::net"), LevelFilter::Warn);
        assert_eq!(level("rustls"), LevelFilter::Info);
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let mut message = Cut::default();
        assert!(write!(message, "{}", "é".repeat(LINE_BYTES_MAX)).is_err());
        assert_eq!(message.0.len(), LINE_BYTES_MAX + '…'.len_utf8());
        let mut odd = Cut::default();
        let _ = write!(odd, "x{}", "é".repeat(LINE_BYTES_MAX));
        assert_eq!(odd.0.len(), LINE_BYTES_MAX - 1 + '…'.len_utf8());
    }

    #[test]
    fn a_file_is_appended_to_and_named_in_the_error() {
        let folder = std::env::temp_dir().join(format!("couplet-log-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("couplet.log");
        for round in 0..2 {
            let mut state = State::new();
            state.sink = Sink::open(&LogTarget::File(path.clone())).unwrap();
            state.write(0, Level::Info, "couplet", &format!("round {round}"));
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "1970-01-01T00:00:00.000Z INFO  couplet: round 0\n1970-01-01T00:00:00.000Z INFO  couplet: round 1\n"
        );
        let error = Sink::open(&LogTarget::File(folder.join("no/such.log"))).err().unwrap().to_string();
        assert!(error.contains("no/such.log") && error.contains("create its folder"), "{error}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

//! Figures of the past.

use std::collections::VecDeque;
use std::fmt::Write as _;

use super::Point;
use crate::clock::datetime;

/// Lines of a table.
const LINES_MAX: usize = 60;

/// What is kept of one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// When it ended, in seconds since 1970.
    at_s: i64,
    /// What was then.
    clients: u32,
    sessions: u32,
    servers: u32,
    memory_kb: u32,
    /// What had come since the start.
    messages: u32,
    presences: u32,
    iqs: u32,
    logins: u32,
    failed: u32,
    errors: u32,
    cpu_ms: u32,
    /// What 99 of 100 stanzas did not exceed in it.
    p99_us: u32,
}

impl Row {
    pub fn of(points: &[Point], wall_ms: i64) -> Self {
        let get = |name: &str| points.iter().find(|point| point.name == name).map_or(0, |point| point.value);
        let small = |name: &str| get(name) as u32;
        Self {
            at_s: wall_ms.div_euclid(1000),
            clients: small("clients"),
            sessions: small("sessions"),
            servers: small("s2s_streams.out") + small("s2s_streams.in"),
            memory_kb: (get("memory_bytes") / 1000) as u32,
            messages: small("messages"),
            presences: small("presences"),
            iqs: small("iqs"),
            logins: small("logins"),
            failed: small("logins_failed"),
            errors: small("stream_errors"),
            cpu_ms: small("cpu_ms"),
            p99_us: small("stanza_latency.client.p99_us"),
        }
    }

    /// What has come since an earlier one.
    fn since(self, before: &Self) -> Self {
        let grown = |now: u32, before: u32| now.wrapping_sub(before);
        Self {
            messages: grown(self.messages, before.messages),
            presences: grown(self.presences, before.presences),
            iqs: grown(self.iqs, before.iqs),
            logins: grown(self.logins, before.logins),
            failed: grown(self.failed, before.failed),
            errors: grown(self.errors, before.errors),
            cpu_ms: grown(self.cpu_ms, before.cpu_ms),
            ..self
        }
    }

    /// The most of what was, and of what has come what the later one has.
    fn joined(self, later: &Self) -> Self {
        Self {
            clients: self.clients.max(later.clients),
            sessions: self.sessions.max(later.sessions),
            servers: self.servers.max(later.servers),
            memory_kb: self.memory_kb.max(later.memory_kb),
            p99_us: self.p99_us.max(later.p99_us),
            ..*later
        }
    }
}

/// Rows, the oldest first.
#[derive(Debug, Default)]
pub struct History {
    rows: VecDeque<Row>,
    rows_max: usize,
    interval_s: i64,
}

impl History {
    /// Keeps so many from now on.
    pub fn bound(&mut self, rows_max: usize) {
        self.rows_max = rows_max;
        let over = self.rows.len().saturating_sub(rows_max);
        self.rows.drain(..over);
        self.rows.shrink_to_fit();
    }

    pub fn add(&mut self, row: Row, interval_ms: u64) {
        self.interval_s = (interval_ms / 1000) as i64;
        if self.rows.len() >= self.rows_max {
            self.rows.pop_front();
        }
        if self.rows_max > 0 {
            // By and by, and never twice as much as is needed.
            if self.rows.len() == self.rows.capacity() {
                self.rows.reserve_exact((self.rows.len() / 4).max(15).min(self.rows_max - self.rows.len()));
            }
            self.rows.push_back(row);
        }
    }

    /// The last so many seconds, several rows in a line if there are many.
    pub fn table(&self, seconds: u32, wall_ms: i64) -> String {
        let since = wall_ms.div_euclid(1000) - i64::from(seconds);
        let first = self.rows.iter().position(|row| row.at_s > since).unwrap_or(self.rows.len());
        let count = self.rows.len() - first;
        if count == 0 {
            return "nothing is kept of that time; [statistics] says how much is".to_owned();
        }
        let together = count.div_ceil(LINES_MAX);
        let mut text = format!(
            "{:<19} {:>7} {:>8} {:>7} {:>8} {:>9} {:>8} {:>6} {:>6} {:>6} {:>5} {:>9} {:>7}",
            "until (UTC)",
            "clients",
            "sessions",
            "servers",
            "messages",
            "presences",
            "iqs",
            "logins",
            "failed",
            "errors",
            "cpu %",
            "memory kB",
            "p99 ms"
        );
        let mut before = first.checked_sub(1).and_then(|at| self.rows.get(at)).copied();
        let mut at = first;
        while at < self.rows.len() {
            let end = (at + together).min(self.rows.len());
            let mut rows = self.rows.range(at..end);
            let Some(row) = rows.next().map(|first| rows.fold(*first, Row::joined)) else { break };
            let steps = (end - at) as i64;
            line(row, before, steps * self.interval_s, &mut text);
            before = self.rows.get(end - 1).copied();
            at = end;
        }
        text
    }
}

/// Without one before it, it is the first since the start, and counts from zero.
fn line(row: Row, before: Option<Row>, seconds: i64, text: &mut String) {
    let grown = row.since(&before.unwrap_or_default());
    let seconds = before.map_or(seconds, |before| row.at_s - before.at_s).max(1);
    let time = datetime(row.at_s * 1000).replace('T', " ");
    let cpu = f64::from(grown.cpu_ms) / (seconds as f64 * 10.0);
    let p99 = if row.p99_us == 0 { "-".to_owned() } else { (f64::from(row.p99_us) / 1000.0).to_string() };
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "\n{:<19} {:>7} {:>8} {:>7} {:>8} {:>9} {:>8} {:>6} {:>6} {:>6} {cpu:>5.1} {:>9} {p99:>7}",
        time.trim_end_matches('Z'),
        row.clients,
        row.sessions,
        row.servers,
        grown.messages,
        grown.presences,
        grown.iqs,
        grown.logins,
        grown.failed,
        grown.errors,
        row.memory_kb
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Kind;

    fn row(minute: i64, messages: u32, clients: u32) -> Row {
        Row { at_s: minute * 60, messages, clients, cpu_ms: messages * 60, ..Row::default() }
    }

    #[test]
    fn a_table_has_what_has_come_and_the_most_of_what_was() {
        let mut history = History::default();
        history.bound(200);
        (1..=120).for_each(|minute| history.add(row(minute, minute as u32 * 10, minute as u32 % 7), 60_000));
        let table = history.table(180 * 60, 120 * 60_000);
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines.len(), 61);
        // Date, time, clients, sessions, servers, messages, ..., processor.
        assert_eq!((lines[1][1], lines[1][2], lines[1][5]), ("00:02:00", "2", "20"));
        assert_eq!((lines[4][1], lines[4][2], lines[4][5], lines[4][11]), ("00:08:00", "1", "20", "1.0"));
        assert_eq!(lines[3][2], "6", "the most of both");
        assert_eq!(history.table(600, 120 * 60_000).lines().count(), 11);
        assert!(history.table(600, 200 * 60_000).contains("nothing"));
    }

    #[test]
    fn so_much_is_kept() {
        let mut history = History::default();
        history.bound(100);
        (1..=300).for_each(|minute| history.add(row(minute, 0, 0), 60_000));
        assert_eq!((history.rows.len(), history.rows[0].at_s), (100, 201 * 60));
        assert!(history.rows.capacity() < 128, "{}", history.rows.capacity());
        history.bound(10);
        assert_eq!((history.rows.len(), history.rows[0].at_s), (10, 291 * 60));
        history.bound(0);
        history.add(row(1, 0, 0), 60_000);
        assert!(history.rows.is_empty());
    }

    #[test]
    fn a_row_is_made_of_what_is_pushed() {
        let point = |name: &str, value| Point { name: name.to_owned(), kind: Kind::Gauge, value };
        let points = [point("messages", 3), point("s2s_streams.in", 2), point("memory_bytes", 5_000_000)];
        let row = Row::of(&points, 60_000);
        assert_eq!((row.at_s, row.messages, row.servers, row.memory_kb), (60, 3, 2, 5000));
        assert!(size_of::<Row>() <= 56);
    }
}

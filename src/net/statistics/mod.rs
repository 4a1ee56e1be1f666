//! Figures now and then: kept for a while in memory, for `couplet status --history`, and handed to servers that draw
//! curves of them (Graphite, StatsD).
//!
//! Names are those of `/metrics` without the program's name and without `_total`; the values of labels stand behind
//! them: `couplet_s2s_streams{direction="out"}` is `couplet.s2s_streams.out`. Of a histogram there is how often
//! (`count`), and what half of them and 99 of 100 did not exceed in the last interval (`p50_us`, `p99_us`, as far as
//! the limits of `/metrics` tell).

mod history;
mod lines;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::rc::Rc;

use async_io::Async;
use smol::io::AsyncWriteExt;
use smol::{LocalExecutor, Task};

use crate::clock::Now;
use crate::dns::Kind as RecordKind;
use crate::metrics::{Durations, Figure, Kind};
use crate::net::dial::{Dialer, reach, within};
use history::{History, Row};

/// How long handing figures over may take, in seconds.
const PATIENCE_S: u32 = 10;

/// What is taken, and who gets it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Seconds from one time to the next; 0 is never.
    pub interval_s: u32,
    /// How often a row is kept before it makes way.
    pub rows_max: usize,
    /// What stands in front of each name.
    pub prefix: String,
    /// Who takes lines of Graphite's plain text, over TCP.
    pub graphite: Option<Place>,
    /// Who takes counters and gauges of StatsD, over UDP.
    pub statsd: Option<Place>,
}

/// Where somebody listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// One figure at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    name: String,
    kind: Kind,
    value: u64,
}

/// A histogram with what it was the last time.
struct Before(Durations);

/// What there is of figures beside those of the present.
#[derive(Default)]
pub struct Statistics {
    settings: Settings,
    /// When they are taken again; 0 is never.
    next_ms: u64,
    history: History,
    /// Histograms as they were the last time.
    before: Vec<Before>,
    graphite: Way,
    statsd: Way,
    /// What StatsD has been told of each counter.
    told: BTreeMap<String, u64>,
}

/// The way to somebody who gets figures.
#[derive(Default)]
struct Way {
    /// Dropping it ends it.
    under_way: Option<Task<()>>,
    /// The last attempt failed, which was said.
    fails: Rc<Cell<bool>>,
}

impl Statistics {
    /// Takes over a changed configuration. What is kept stays, as far as there is room for it.
    pub fn configure(&mut self, settings: &Settings, now: Now) {
        if *settings != self.settings {
            self.next_ms = match settings.interval_s {
                0 => 0,
                seconds => now.mono_ms + u64::from(seconds) * 1000,
            };
            self.history.bound(settings.rows_max);
            (self.graphite, self.statsd, self.told) = Default::default();
            self.settings = settings.clone();
        }
    }

    /// When figures are to be taken.
    pub fn next_ms(&self) -> Option<u64> {
        Some(self.next_ms).filter(|at| *at > 0)
    }

    /// Takes figures, keeps what [`Row`] has of them, and hands them to those who want them. Who has not taken the last
    /// ones yet gets these not at all.
    pub fn take(
        &mut self,
        figures: &[Figure],
        histograms: &[(&str, &Durations)],
        cpu_ms: Option<u64>,
        now: Now,
        (executor, dialer): (&LocalExecutor<'static>, Option<&Rc<Dialer>>),
    ) {
        let interval_ms = u64::from(self.settings.interval_s.max(1)) * 1000;
        // Whoever is late is not late again by as much.
        self.next_ms = (self.next_ms + interval_ms).max(now.mono_ms + interval_ms / 2);
        let mut points = points(figures, histograms, &self.before);
        points.extend(cpu_ms.map(|value| Point { name: "cpu_ms".to_owned(), kind: Kind::Counter, value }));
        self.before = histograms.iter().map(|(_, durations)| Before((*durations).clone())).collect();
        self.history.add(Row::of(&points, now.wall_ms), interval_ms);
        let Some(dialer) = dialer else { return };
        if let Some(place) = self.settings.graphite.clone().filter(|_| self.graphite.is_free("Graphite")) {
            let text = lines::graphite(&points, &self.settings.prefix, now.wall_ms);
            self.graphite.begin("Graphite", executor, to_graphite(dialer.clone(), place, text));
        }
        if let Some(place) = self.settings.statsd.clone().filter(|_| self.statsd.is_free("StatsD")) {
            let datagrams = lines::statsd(&points, &self.settings.prefix, &mut self.told);
            self.statsd.begin("StatsD", executor, to_statsd(dialer.clone(), place, datagrams));
        }
    }

    /// What is kept of the last so many seconds, as a table.
    pub fn history(&self, seconds: u32, now: Now) -> String {
        self.history.table(seconds, now.wall_ms)
    }
}

impl Way {
    fn is_free(&self, who: &str) -> bool {
        let is_free = self.under_way.as_ref().is_none_or(Task::is_finished);
        if !is_free {
            log::debug!("{who} has not taken the last figures yet, and gets none of this time");
        }
        is_free
    }

    fn begin(
        &mut self,
        who: &'static str,
        executor: &LocalExecutor<'static>,
        attempt: impl Future<Output = Result<(), String>> + 'static,
    ) {
        let fails = self.fails.clone();
        self.under_way = Some(executor.spawn(async move {
            match within(PATIENCE_S, attempt).await.unwrap_or_else(|| Err("nobody answers".to_owned())) {
                Ok(()) if fails.replace(false) => log::info!("{who} gets figures again"),
                Ok(()) => {}
                Err(why) if !fails.replace(true) => log::warn!("{who} gets no figures: {why}; this is said once"),
                Err(why) => log::debug!("{who} gets no figures: {why}"),
            }
        }));
    }
}

async fn to_graphite(dialer: Rc<Dialer>, place: Place, text: String) -> Result<(), String> {
    let reached = reach(&dialer.resolver, dialer.clock, &place.host, place.port, &|_| ()).await;
    let mut socket = reached.map_err(|why| why.to_string())?;
    let sent = async {
        socket.write_all(text.as_bytes()).await?;
        socket.close().await
    };
    sent.await.map_err(|error| error.to_string())
}

async fn to_statsd(dialer: Rc<Dialer>, place: Place, datagrams: Vec<String>) -> Result<(), String> {
    let v4 = dialer.resolver.addresses(&place.host, RecordKind::A).await;
    let found = match v4 {
        Ok(found) => Ok(found),
        Err(_) => dialer.resolver.addresses(&place.host, RecordKind::Aaaa).await,
    };
    let ip =
        found.ok().and_then(|found| found.first().copied()).ok_or_else(|| format!("there is no {}", place.host))?;
    let any: IpAddr = if ip.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let sent: io::Result<()> = async {
        let socket = Async::<UdpSocket>::bind((any, 0))?;
        socket.get_ref().connect((ip, place.port))?;
        for datagram in &datagrams {
            socket.send(datagram.as_bytes()).await?;
        }
        Ok(())
    }
    .await;
    sent.map_err(|error| error.to_string())
}

/// All figures, each with a name of its own.
fn points(figures: &[Figure], histograms: &[(&str, &Durations)], before: &[Before]) -> Vec<Point> {
    let mut points = Vec::new();
    for Figure { kind, name, samples, .. } in figures {
        for (labels, value) in samples {
            points.push(Point { name: path(name, labels), kind: *kind, value: *value });
        }
    }
    for (at, (name, durations)) in histograms.iter().enumerate() {
        let lately = durations.since(before.get(at).map(|before| &before.0));
        let mut add = |what: &str, kind, value| points.push(Point { name: format!("{name}.{what}"), kind, value });
        add("count", Kind::Counter, durations.count());
        for (what, percent) in [("p50_us", 50), ("p99_us", 99)] {
            lately.quantile_us(percent).into_iter().for_each(|us| add(what, Kind::Gauge, us));
        }
    }
    points
}

/// The name, and the values of the labels behind it, with nothing that means something to those who get it.
fn path(name: &str, labels: &str) -> String {
    let mut path = name.to_owned();
    for value in labels.split('"').skip(1).step_by(2) {
        path.push('.');
        path.extend(value.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paths() {
        assert_eq!(path("x", ""), "x");
        assert_eq!(path("s2s", "direction=\"out\",a=\"b c.d\""), "s2s.out.b_c_d");
    }

    #[test]
    fn a_histogram_has_what_half_of_the_last_ones_took() {
        let mut took = Durations::default();
        took.add_many(4000, 100);
        let before = [Before(took.clone())];
        took.add_many(300, 90);
        took.add_many(40_000, 9);
        took.add_many(90_000_000, 1);
        let points = points(&[], &[("latency", &took)], &before);
        let shown: Vec<(&str, u64)> = points.iter().map(|point| (point.name.as_str(), point.value)).collect();
        assert_eq!(shown, [("latency.count", 200), ("latency.p50_us", 500), ("latency.p99_us", 50_000)]);
        assert_eq!(super::points(&[], &[("latency", &took)], &[Before(took.clone())]).len(), 1, "none lately");
    }
}

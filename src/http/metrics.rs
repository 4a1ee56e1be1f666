//! `/metrics`: figures as Prometheus reads them, in its own text format (0.0.4) or as OpenMetrics 1.0, as is asked.

use std::fmt::Write as _;

use super::answer::{Answer, Status};
use super::head::Head;
use crate::metrics::{Durations, Figure, Kind};

const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Names that dashboards for Prosody know, and ours.
const ALIASES: [(&str, &str); 2] = [("connections", "prosody_connections"), ("messages", "prosody_messages")];

/// How long things took.
pub struct Histogram<'a> {
    /// Its name, which ends with `_seconds`.
    pub name: &'static str,
    /// One line that says what is measured.
    pub help: &'static str,
    /// Each with its labels.
    pub samples: Vec<(String, &'a Durations)>,
}

/// Answers with these figures.
pub fn answer(head: &Head, figures: &[Figure], histograms: &[Histogram<'_>], cpu_ms: Option<u64>) -> Answer {
    let is_open = head.all("accept").any(|accept| accept.contains("application/openmetrics-text"));
    let mut text = render(figures, histograms, is_open);
    if let Some(cpu_ms) = cpu_ms {
        let (family, seconds) = ("process_cpu_seconds", cpu_ms as f64 / 1000.0);
        let suffix = if is_open { "" } else { "_total" };
        let _ = writeln!(text, "# HELP {family}{suffix} Time of the processors, of users and system.");
        let _ = writeln!(text, "# TYPE {family}{suffix} counter");
        unit(family, is_open, &mut text);
        let _ = writeln!(text, "{family}_total {seconds}");
    }
    if is_open {
        text.push_str("# EOF\n");
    }
    Answer::text(Status::Ok, if is_open { OPEN } else { PLAIN }, text).with("Cache-Control", "no-store")
}

fn render(figures: &[Figure], histograms: &[Histogram<'_>], is_open: bool) -> String {
    let mut out = String::new();
    for figure in figures {
        family(&format!("couplet_{}", figure.name), figure, is_open, &mut out);
        if let Some((_, alias)) = ALIASES.iter().find(|(name, _)| *name == figure.name) {
            family(alias, figure, is_open, &mut out);
        }
    }
    histograms.iter().for_each(|histogram| distribution(histogram, is_open, &mut out));
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(out, "# HELP couplet_build_info The version.\n# TYPE couplet_build_info gauge");
    let _ = writeln!(out, "couplet_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
    out
}

/// In OpenMetrics a unit is told that a name ends with.
fn unit(family: &str, is_open: bool, out: &mut String) {
    let unit = ["bytes", "seconds"].into_iter().find(|unit| family.ends_with(&format!("_{unit}")));
    if let Some(unit) = unit.filter(|_| is_open) {
        let _ = writeln!(out, "# UNIT {family} {unit}");
    }
}

fn distribution(histogram: &Histogram<'_>, is_open: bool, out: &mut String) {
    let Histogram { name, help, samples } = histogram;
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
    unit(name, is_open, out);
    for (labels, durations) in samples {
        let (comma, open, close) = if labels.is_empty() { ("", "", "") } else { (",", "{", "}") };
        for (limit, count) in durations.buckets() {
            let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{limit}\"}} {count}");
        }
        let seconds = durations.sum_us() as f64 / 1e6;
        let _ = writeln!(out, "{name}_sum{open}{labels}{close} {seconds}");
        let _ = writeln!(out, "{name}_count{open}{labels}{close} {}", durations.count());
    }
}

fn family(name: &str, figure: &Figure, is_open: bool, out: &mut String) {
    let (kind, suffix) = match figure.kind {
        Kind::Counter => ("counter", "_total"),
        Kind::Gauge => ("gauge", ""),
    };
    // In OpenMetrics a family of counters has the name without the suffix of its samples.
    let family = if is_open { name.to_owned() } else { format!("{name}{suffix}") };
    let _ = writeln!(out, "# HELP {family} {}\n# TYPE {family} {kind}", figure.help);
    unit(&family, is_open, out);
    for (labels, value) in &figure.samples {
        let (open, close) = if labels.is_empty() { ("", "") } else { ("{", "}") };
        let _ = writeln!(out, "{name}{suffix}{open}{labels}{close} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_say_the_same() {
        let mut ticks = Durations::default();
        [50, 400, 3_000_000].into_iter().for_each(|us| ticks.add(us));
        let figures = [
            Figure::counter("messages", "Messages routed.", 7),
            Figure { samples: vec![("a=\"b\"".to_owned(), 1)], ..Figure::one(Kind::Gauge, "x", "Y.", 0) },
        ];
        let histograms = [
            Histogram { name: "couplet_tick_seconds", help: "A.", samples: vec![(String::new(), &ticks)] },
            Histogram { name: "couplet_b_seconds", help: "B.", samples: vec![("to=\"c\"".to_owned(), &ticks)] },
        ];
        let open = render(&figures, &histograms, true);
        assert!(open.starts_with(
            "# HELP couplet_messages Messages routed.\n# TYPE couplet_messages counter\ncouplet_messages_total 7\n\
             # HELP prosody_messages Messages routed.\n# TYPE prosody_messages counter\nprosody_messages_total 7\n\
             # HELP couplet_x Y.\n# TYPE couplet_x gauge\ncouplet_x{a=\"b\"} 1\n"
        ));
        assert!(open.contains("couplet_tick_seconds_bucket{le=\"0.0001\"} 1\n"), "{open}");
        assert!(open.contains("couplet_tick_seconds_bucket{le=\"0.0005\"} 2\n"), "{open}");
        assert!(open.contains("couplet_tick_seconds_bucket{le=\"1.0\"} 2\n"), "{open}");
        assert!(open.contains("couplet_tick_seconds_bucket{le=\"+Inf\"} 3\n"), "{open}");
        assert!(open.contains("couplet_tick_seconds_sum 3.00045\ncouplet_tick_seconds_count 3\n"), "{open}");
        assert!(open.contains("couplet_b_seconds_bucket{to=\"c\",le=\"0.0005\"} 2\n"), "{open}");
        assert!(open.contains("couplet_b_seconds_sum{to=\"c\"} 3.00045\ncouplet_b_seconds_count{to=\"c\"} 3\n"));
        assert!(open.contains("# UNIT couplet_b_seconds seconds\n"), "{open}");
        let plain = render(&figures, &histograms, false);
        assert!(!plain.contains("# UNIT"), "{plain}");
        assert!(plain.contains("# TYPE couplet_messages_total counter\ncouplet_messages_total 7\n"));
    }
}

//! `/metrics`: figures as Prometheus reads them, in its own text format (0.0.4) or as OpenMetrics 1.0, as is asked.

use std::fmt::Write as _;

use super::answer::{Answer, Status};
use super::head::Head;
use crate::metrics::{Durations, Figure, Kind};

const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Names that dashboards for Prosody know, and ours.
const ALIASES: [(&str, &str); 2] = [("connections", "prosody_connections"), ("messages", "prosody_messages")];

/// Answers with these figures; `ticks` is how long it took from reading what came to writing what it led to.
pub fn answer(head: &Head, figures: &[Figure], ticks: &Durations, cpu_ms: Option<u64>) -> Answer {
    let is_open = head.all("accept").any(|accept| accept.contains("application/openmetrics-text"));
    let mut text = render(figures, ticks, is_open);
    if let Some(cpu_ms) = cpu_ms {
        let (family, seconds) = ("process_cpu_seconds", cpu_ms as f64 / 1000.0);
        let suffix = if is_open { "" } else { "_total" };
        let _ = writeln!(text, "# HELP {family}{suffix} Time of the processors, of users and system.");
        let _ = writeln!(text, "# TYPE {family}{suffix} counter\n{family}_total {seconds}");
    }
    if is_open {
        text.push_str("# EOF\n");
    }
    Answer::text(Status::Ok, if is_open { OPEN } else { PLAIN }, text).with("Cache-Control", "no-store")
}

fn render(figures: &[Figure], ticks: &Durations, is_open: bool) -> String {
    let mut out = String::new();
    for figure in figures {
        family(&format!("couplet_{}", figure.name), figure, is_open, &mut out);
        if let Some((_, alias)) = ALIASES.iter().find(|(name, _)| *name == figure.name) {
            family(alias, figure, is_open, &mut out);
        }
    }
    let name = "couplet_tick_seconds";
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(out, "# HELP {name} Time from reading what has come to writing what it led to.");
    let _ = writeln!(out, "# TYPE {name} histogram");
    for (limit, count) in ticks.buckets() {
        let _ = writeln!(out, "{name}_bucket{{le=\"{limit}\"}} {count}");
    }
    let seconds = ticks.sum_us() as f64 / 1e6;
    let _ = writeln!(out, "{name}_sum {seconds}\n{name}_count {}", ticks.count());
    let _ = writeln!(out, "# HELP couplet_build_info The version.\n# TYPE couplet_build_info gauge");
    let _ = writeln!(out, "couplet_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
    out
}

fn family(name: &str, figure: &Figure, is_open: bool, out: &mut String) {
    let (kind, suffix) = match figure.kind {
        Kind::Counter => ("counter", "_total"),
        Kind::Gauge => ("gauge", ""),
    };
    // In OpenMetrics a family of counters has the name without the suffix of its samples.
    let family = if is_open { name.to_owned() } else { format!("{name}{suffix}") };
    let _ = writeln!(out, "# HELP {family} {}\n# TYPE {family} {kind}", figure.help);
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
        let open = render(&figures, &ticks, true);
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
        let plain = render(&figures, &ticks, false);
        assert!(plain.contains("# TYPE couplet_messages_total counter\ncouplet_messages_total 7\n"));
    }
}

//! Figures as Graphite and StatsD read them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Point;
use crate::metrics::Kind;

/// Fits into a packet of any network, headers included.
const DATAGRAM_BYTES_MAX: usize = 1200;

/// Lines of Graphite's plain text: name, value, seconds since 1970. Counters are what they have come to.
pub fn graphite(points: &[Point], prefix: &str, wall_ms: i64) -> String {
    let mut text = String::new();
    for Point { name, value, .. } in points {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "{prefix}.{name} {value} {}", wall_ms.div_euclid(1000));
    }
    text
}

/// Datagrams of StatsD: of a counter by how much it has grown since it was `told`, of a gauge what it is.
pub fn statsd(points: &[Point], prefix: &str, told: &mut BTreeMap<String, u64>) -> Vec<String> {
    let mut datagrams: Vec<String> = Vec::new();
    for Point { name, kind, value } in points {
        let mut line = String::new();
        match kind {
            Kind::Gauge => {
                let _ = writeln!(line, "{prefix}.{name}:{value}|g");
            }
            Kind::Counter => {
                let before = told.insert(name.clone(), *value).unwrap_or_default();
                // They wrap at 2^32, most of them.
                let grown = value.checked_sub(before).unwrap_or(u64::from((*value as u32).wrapping_sub(before as u32)));
                if grown > 0 {
                    let _ = writeln!(line, "{prefix}.{name}:{grown}|c");
                }
            }
        }
        match datagrams.last_mut().filter(|last| last.len() + line.len() <= DATAGRAM_BYTES_MAX) {
            Some(last) => last.push_str(&line),
            None => datagrams.push(line),
        }
    }
    datagrams.retain(|datagram| !datagram.is_empty());
    datagrams
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(name: &str, kind: Kind, value: u64) -> Point {
        Point { name: name.to_owned(), kind, value }
    }

    #[test]
    fn graphite_gets_sums_and_statsd_what_has_been_added() {
        let mut told = BTreeMap::new();
        let first = [point("messages", Kind::Counter, 7), point("sessions", Kind::Gauge, 2)];
        assert_eq!(
            graphite(&first, "a.b", 1_700_000_000_999),
            "a.b.messages 7 1700000000\na.b.sessions 2 1700000000\n"
        );
        assert_eq!(statsd(&first, "a", &mut told), ["a.messages:7|c\na.sessions:2|g\n"]);
        let second = [point("messages", Kind::Counter, 7), point("sessions", Kind::Gauge, 0)];
        assert_eq!(statsd(&second, "a", &mut told), ["a.sessions:0|g\n"]);
        told.insert("messages".to_owned(), u64::from(u32::MAX));
        assert_eq!(statsd(&[point("messages", Kind::Counter, 4)], "a", &mut told), ["a.messages:5|c\n"], "it wraps");
        assert!(statsd(&[], "a", &mut told).is_empty());
    }

    #[test]
    fn a_datagram_fits_into_a_packet() {
        let many: Vec<Point> = (0..200).map(|n| point(&format!("figure{n}"), Kind::Gauge, n)).collect();
        let datagrams = statsd(&many, "couplet", &mut BTreeMap::new());
        assert!(datagrams.len() > 2 && datagrams.iter().all(|datagram| datagram.len() <= DATAGRAM_BYTES_MAX));
        assert_eq!(datagrams.concat().lines().count(), 200);
    }
}

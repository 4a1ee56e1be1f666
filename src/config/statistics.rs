//! `[statistics]`: figures now and then.

use super::{Config, ConfigError, check::at};
use crate::setting::{Seconds, quote, section};
use std::net::Ipv6Addr;

section! {
    /// Figures of the past, and who gets them; /metrics has those of the present.
    pub struct Statistics in "statistics" {
        /// How often figures are taken; "0 s" is never.
        pub interval: Seconds = Seconds(60),
        /// How long they are kept, in memory alone, for `couplet status --history`: 56 bytes each time.
        pub retention: Seconds = Seconds(86_400),
        /// HOST:PORT of a server that takes them as Graphite's plain text, over TCP, such as "127.0.0.1:2003"; "" is
        /// nobody. Whoever is on the way reads it, as he does what StatsD gets.
        pub graphite: String = String::new() => |place| place_or_none(place),
        /// HOST:PORT of a server that takes them as StatsD does, over UDP, such as "127.0.0.1:8125": counters by how
        /// much they have grown. "" is nobody.
        pub statsd: String = String::new() => |place| place_or_none(place),
        /// What stands in front of each name for both, such as "couplet.example_org".
        pub prefix: String = "couplet".to_string() => |prefix| path(prefix),
    }
}

/// As many as a week of minutes has.
const ROWS_MAX: u32 = 10_080;

/// Host and port of `HOST:PORT`, where an address of IPv6 stands in brackets; none when it is not that.
fn place(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_name = |host: &&str| !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && b != b':');
    let host = match bare {
        Some(bare) => Some(bare).filter(|host| host.parse::<Ipv6Addr>().is_ok()),
        None => Some(host).filter(is_name),
    };
    Some((host?.to_owned(), port.parse().ok().filter(|port| *port > 0)?))
}

fn place_or_none(text: &str) -> Result<(), String> {
    match text.is_empty() || place(text).is_some() {
        true => Ok(()),
        false => Err(format!("{} is no place; write for example \"127.0.0.1:2003\"", quote(text))),
    }
}

fn path(prefix: &str) -> Result<(), String> {
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    match prefix.split('.').all(is_name) {
        true => Ok(()),
        false => Err(format!("{} is no name; write letters, digits, _ and -, with dots between", quote(prefix))),
    }
}

impl Statistics {
    /// How many figures of one kind are kept.
    pub fn rows(&self) -> u32 {
        self.retention.0.checked_div(self.interval.0).unwrap_or_default()
    }

    /// Host and port of [`Statistics::graphite`] and of [`Statistics::statsd`].
    pub fn places(&self) -> [Option<(String, u16)>; 2] {
        [&self.graphite, &self.statsd].map(|text| place(text))
    }
}

/// Values that must fit together.
pub fn check(config: &Config, errors: &mut Vec<ConfigError>) {
    let Statistics { interval, retention, graphite, statsd, .. } = &config.statistics;
    if config.statistics.rows() > ROWS_MAX {
        let least = retention.0.div_ceil(ROWS_MAX);
        let text = format!("at most {ROWS_MAX} are kept; write \"{least} s\" or more, or less for retention");
        errors.push(at(config, "statistics", "interval", text));
    }
    if interval.0 == 0 && !(graphite.is_empty() && statsd.is_empty()) {
        let text = "nobody gets figures that are never taken; write for example \"60 s\"".to_string();
        errors.push(at(config, "statistics", "interval", text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_a_host_and_a_port() {
        assert_eq!(place("stats.example:2003"), Some(("stats.example".to_owned(), 2003)));
        assert_eq!(place("[::1]:8125"), Some(("::1".to_owned(), 8125)));
        for wrong in ["", "stats.example", "stats.example:0", "::1:8125", "[a]:1", ":8125", "a b:1", "a:65536"] {
            assert_eq!(place(wrong), None, "{wrong}");
        }
    }
}

//! Figures that are handed over now and then, to servers that this test plays.

use super::*;
use couplet::core::admin::Command;
use couplet::net::statistics::{Place, Settings};
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

fn place(port: u16) -> Option<Place> {
    Some(Place { host: "127.0.0.1".to_owned(), port })
}

#[test]
fn graphite_and_statsd_get_figures_and_history_keeps_them() {
    let graphite = TcpListener::bind("127.0.0.1:0").unwrap();
    let statsd = UdpSocket::bind("127.0.0.1:0").unwrap();
    statsd.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let settings = Settings {
        interval_s: 1,
        rows_max: 100,
        prefix: "test.couplet".to_owned(),
        graphite: place(graphite.local_addr().unwrap().port()),
        statsd: place(statsd.local_addr().unwrap().port()),
    };
    let server = start_with("statistics", Limits::default(), move |options| options.tuning.statistics = settings);
    server.add_user("romeo");
    let mut romeo = log_in(&server, "romeo");
    romeo.say("<iq type='get' id='timed'><ping xmlns='urn:xmpp:ping'/></iq>");
    romeo.hear("timed");
    // A connection each time, with whole lines.
    let value = |text: &str, name: &str| {
        let of = |line: &str| line.strip_prefix(&format!("test.couplet.{name} ")).map(str::to_owned);
        let rest = text.lines().find_map(of).unwrap_or_else(|| panic!("{name} is missing in {text}"));
        let (value, time) = rest.split_once(' ').unwrap();
        assert!(time.parse::<u64>().unwrap() > 1_700_000_000, "{rest}");
        value.parse::<u64>().unwrap()
    };
    let mut logins = 0;
    for _ in 0..5 {
        let mut text = String::new();
        graphite.accept().unwrap().0.read_to_string(&mut text).unwrap();
        assert!(text.ends_with('\n'), "{text}");
        for name in ["memory_state.normal", "s2s_streams.out", "cpu_ms", "stanza_latency.client.count"] {
            value(&text, name);
        }
        logins = value(&text, "logins");
        if logins == 1 && value(&text, "sessions") == 1 {
            break;
        }
    }
    assert_eq!(logins, 1);
    // Of a counter what has been added: one login in all, however often that is told.
    let (mut told, mut gauges) = (0, 0);
    let mut datagram = [0; 2048];
    while gauges < 3 {
        let length = statsd.recv(&mut datagram).unwrap();
        assert!(length <= 1200);
        for line in std::str::from_utf8(&datagram[..length]).unwrap().lines() {
            let (name, value) = line.strip_prefix("test.couplet.").unwrap().split_once(':').unwrap();
            let (value, kind) = value.split_once('|').unwrap();
            let value: u64 = value.parse().unwrap();
            match (name, kind) {
                ("logins", "c") => told += value,
                ("sessions", "g") => gauges += usize::from(value == 1),
                (_, "c" | "g") => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(told, 1);
    let table = server.ask(Command::History { seconds: 3600 });
    assert!(table.code == 0 && table.text.starts_with("until (UTC)"), "{}", table.text);
    let columns = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let all: u64 = table.text.lines().skip(1).map(|line| columns(line)[8].parse::<u64>().unwrap()).sum();
    assert_eq!(all, 1, "{}", table.text);
    drop(romeo);
    server.stop();
}

#[test]
fn nobody_waits_for_those_who_take_no_figures() {
    // One that lets nobody finish, and a port where nobody is.
    let graphite = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = Settings {
        interval_s: 1,
        rows_max: 0,
        prefix: "a".to_owned(),
        graphite: place(graphite.local_addr().unwrap().port()),
        statsd: place(closed),
    };
    let server = start_with("statistics-silent", Limits::default(), move |options| {
        options.tuning.statistics = settings;
    });
    let _silent = graphite.accept().unwrap();
    let mut client = web(&server);
    client.say(GET);
    assert_eq!(answer(&mut client).1, "ok\n");
    assert!(server.ask(Command::History { seconds: 60 }).text.contains("nothing is kept"));
    server.stop();
}

//! Answers of name servers, and the two files about them: everything ends, and what is believed has the form that it
//! is used in.

use couplet::clock::{Entropy, Now};
use couplet::dns::message::{self, ALIASES_MAX, Question, RECORDS_MAX, Record, Reply};
use couplet::dns::query::{Query, Servers, Step};
use couplet::dns::{Kind, name, system};
use std::net::SocketAddr;
use std::rc::Rc;

/// Every message has the number 0.
struct Zeros;

impl Entropy for Zeros {
    fn fill(&mut self, out: &mut [u8]) {
        out.fill(0);
    }
}

fn is_name(text: &str) -> bool {
    text.is_empty() || name::normal(text).as_deref() == Some(text)
}

fn checked(records: &[Record]) {
    assert!((1..=RECORDS_MAX).contains(&records.len()));
    assert!(records.iter().all(|record| match record {
        Record::Address(_) => true,
        Record::Service(service) => is_name(&service.target),
    }));
}

/// Messages to one question: the first byte says which kind, each message has its length in front.
pub fn run(data: &[u8]) {
    let Some((&first, mut rest)) = data.split_first() else { return };
    if first & 0x80 != 0 {
        return files(&String::from_utf8_lossy(rest));
    }
    let kind = [Kind::A, Kind::Aaaa, Kind::Srv][usize::from(first) % 3];
    let question = Question { name: "a.example".to_owned(), kind };
    let addresses = vec![SocketAddr::from(([192, 0, 2, 1], 53)), SocketAddr::from(([192, 0, 2, 2], 53))];
    let servers = Servers { addresses, timeout_ms: 5000, attempts: 2, rotate: first & 4 != 0 };
    let mut query = Query::new(Rc::new(servers), question.clone());
    let now = Now { mono_ms: 1000, wall_ms: 0 };
    let mut step = query.start(now, &mut Zeros);
    let mut asked = 0;
    while let Step::Ask { .. } = step {
        asked += 1;
        // Each server twice, with and without EDNS, over UDP and TCP, for each of the names.
        assert!(asked <= 4 * 4 * (ALIASES_MAX + 1), "it asks on and on");
        let Some((&len, behind)) = rest.split_first() else {
            step = query.failed(now, &mut Zeros);
            continue;
        };
        let (message, behind) = behind.split_at(usize::from(len).min(behind.len()));
        rest = behind;
        match message::decode(message, &question, 0) {
            Reply::Final { result: Ok(records), .. } => checked(&records),
            Reply::Alias { name, .. } => assert!(is_name(&name), "{name:?}"),
            _ => {}
        }
        step = match query.received(now, message, &mut Zeros) {
            Some(step) => step,
            None => query.failed(now, &mut Zeros),
        };
    }
    if let Step::Done(answer) = step
        && let Ok(records) = &answer.result
    {
        checked(records);
    }
}

fn files(text: &str) {
    let conf = system::resolv_conf(text);
    assert!((1..=3).contains(&conf.servers.addresses.len()));
    assert!(conf.search.iter().all(|domain| is_name(domain)));
    assert!(conf.candidates("chat").iter().all(|name| is_name(name)));
    let _ = system::hosts(text, "chat");
}

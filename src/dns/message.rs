//! Messages of DNS (RFC 1035 section 4): the questions that we ask, and the part of answers that we look at.
//!
//! An answer is believed when it is one to the question: same number, same name and kind (RFC 5452 section 9.1). Who
//! has sent it is for the socket to check. Records beside the aliases and addresses that were asked for are not read.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{DnsError, Kind, name};

/// The size of answers over UDP that no network on the way cuts into pieces (RFC 9715 section 3.1).
const UDP_BYTES_MAX: u16 = 1232;

/// Records of an answer that are kept; more are left out.
pub const RECORDS_MAX: usize = 32;

/// Aliases that are followed from a name to its records.
pub const ALIASES_MAX: usize = 8;

/// Records of one part of a message that are looked at.
const ROWS_MAX: usize = 64;

const HEADER_BYTES: usize = 12;
const CLASS_IN: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_SOA: u16 = 6;
const TYPE_OPT: u16 = 41;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// In its normal form ([`name::normal`]).
    pub name: String,
    /// Which records of it.
    pub kind: Kind,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An address.
    Address(IpAddr),
    /// A place where a service is (RFC 2782).
    Service(Service),
}

/// An SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Lower is tried first.
    pub priority: u16,
    /// Share among those of the same priority.
    pub weight: u16,
    /// Of TCP.
    pub port: u16,
    /// Its host; empty where the record says that there is no such service (the target is `.`).
    pub target: String,
}

impl fmt::Display for Record {
    /// As zone files write its data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip) => ip.fmt(f),
            Self::Service(Service { priority, weight, port, target }) => {
                write!(f, "{priority} {weight} {port} {target}.")
            }
        }
    }
}

/// What a server has said to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Not to this question, or not a message at all: as if it had not come.
    Foreign,
    /// Records of the name, or why there are none; valid that long.
    Final {
        /// Of the kind that was asked for, never empty.
        result: Result<Vec<Record>, DnsError>,
        /// In seconds; 0 is not to be kept.
        ttl_s: u32,
    },
    /// The name is another one's alias, whose records are not in the answer.
    Alias {
        /// To be asked for.
        name: String,
        /// How long the alias is valid, in seconds.
        ttl_s: u32,
    },
    /// Too long for UDP: to be asked for by TCP.
    Truncated,
    /// The server does not know EDNS (RFC 6891 section 7).
    NoEdns,
    /// The server cannot or will not answer; another may.
    Failure,
}

/// The question on the wire, as number `id`, with EDNS (RFC 6891) for answers of a reasonable size or without.
pub fn encode(question: &Question, id: u16, edns: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + question.name.len() + 2 + 4 + 11);
    out.extend(id.to_be_bytes());
    // Recursion is desired, and nothing else.
    out.extend([1, 0]);
    for count in [1, 0, 0, u16::from(edns)] {
        out.extend(count.to_be_bytes());
    }
    name::write(&question.name, &mut out);
    out.extend(question.kind.code().to_be_bytes());
    out.extend(CLASS_IN.to_be_bytes());
    if edns {
        out.push(0);
        out.extend(TYPE_OPT.to_be_bytes());
        out.extend(UDP_BYTES_MAX.to_be_bytes());
        out.extend([0; 6]);
    }
    out
}

/// Reads a message as the answer to `question`, which was asked as number `id`.
pub fn decode(message: &[u8], question: &Question, id: u16) -> Reply {
    read(message, question, id).unwrap_or(Reply::Foreign)
}

fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*message.get(at..)?.first_chunk()?))
}

fn u32_at(message: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*message.get(at..)?.first_chunk()?))
}

fn read(message: &[u8], question: &Question, id: u16) -> Option<Reply> {
    let flags = u16_at(message, 2)?;
    let is_answer_to_query = flags & 0xf800 == 0x8000;
    if u16_at(message, 0)? != id || !is_answer_to_query {
        return None;
    }
    let code = flags & 0xf;
    let [questions, answers, authorities] = [u16_at(message, 4)?, u16_at(message, 6)?, u16_at(message, 8)?];
    // FORMERR may come with nothing but a header, from a server that has not understood the rest.
    if matches!(code, 1 | 4) {
        return Some(Reply::NoEdns);
    }
    if questions != 1 {
        return None;
    }
    let (asked, at) = name::read(message, HEADER_BYTES)?;
    if asked != question.name || u16_at(message, at)? != question.kind.code() || u16_at(message, at + 2)? != CLASS_IN {
        return None;
    }
    if !matches!(code, 0 | 3) {
        return Some(Reply::Failure);
    }
    if flags & 0x0200 != 0 {
        return Some(Reply::Truncated);
    }
    let mut rows = Rows { message, at: at + 4 };
    let (answer, authority) = (rows.take(answers), rows.take(authorities));
    Some(follow(question, &answer).unwrap_or_else(|| {
        let result = Err(if code == 3 { DnsError::NoName } else { DnsError::NoData });
        Reply::Final { result, ttl_s: negative_ttl_s(&authority) }
    }))
}

/// From the name along its aliases to its records. None if there are none.
fn follow(question: &Question, answer: &[Row<'_>]) -> Option<Reply> {
    let mut owner = question.name.clone();
    let mut ttl_s = u32::MAX;
    for aliases in 0..=ALIASES_MAX {
        let mut records = Vec::new();
        for row in answer.iter().filter(|row| row.kind == question.kind.code() && row.owner == owner) {
            if let Some(record) = row.record(question.kind).filter(|_| records.len() < RECORDS_MAX) {
                records.push(record);
                ttl_s = ttl_s.min(row.ttl_s);
            }
        }
        if !records.is_empty() {
            return Some(Reply::Final { result: Ok(records), ttl_s });
        }
        let alias = answer.iter().find(|row| row.kind == TYPE_CNAME && row.owner == owner);
        match alias.and_then(|row| Some((row.ttl_s, row.name_at(0)?))) {
            Some((alias_ttl_s, name)) => {
                ttl_s = ttl_s.min(alias_ttl_s);
                owner = name;
            }
            None if aliases == 0 => return None,
            None => return Some(Reply::Alias { name: owner, ttl_s }),
        }
    }
    Some(Reply::Final { result: Err(DnsError::AliasLoop), ttl_s: 0 })
}

/// How long it holds that there is nothing: RFC 2308 section 5.
fn negative_ttl_s(authority: &[Row<'_>]) -> u32 {
    let soa = authority.iter().find(|row| row.kind == TYPE_SOA);
    soa.and_then(|row| Some(row.soa_minimum()?.min(row.ttl_s))).unwrap_or(0)
}

/// A record of whatever kind.
struct Row<'a> {
    message: &'a [u8],
    owner: String,
    kind: u16,
    ttl_s: u32,
    /// Where its data is.
    data: std::ops::Range<usize>,
}

impl Row<'_> {
    fn record(&self, kind: Kind) -> Option<Record> {
        let data = self.message.get(self.data.clone())?;
        Some(match kind {
            Kind::A => Record::Address(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into()),
            Kind::Aaaa => Record::Address(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into()),
            Kind::Srv => Record::Service(Service {
                priority: u16_at(data, 0)?,
                weight: u16_at(data, 2)?,
                port: u16_at(data, 4)?,
                target: self.name_at(6)?,
            }),
        })
    }

    /// A name that is all of the data from `offset` on.
    fn name_at(&self, offset: usize) -> Option<String> {
        let (name, end) = name::read(self.message, self.data.start + offset)?;
        (end == self.data.end).then_some(name)
    }

    /// The last field of an SOA, behind two names and four numbers (RFC 1035 section 3.3.13).
    fn soa_minimum(&self) -> Option<u32> {
        let at = name::skip(self.message, name::skip(self.message, self.data.start)?)? + 16;
        (at + 4 == self.data.end).then(|| u32_at(self.message, at))?
    }
}

/// The records of a message, one after another.
struct Rows<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Rows<'a> {
    /// The next `count` at most. What is broken ends the message: what came before it still counts.
    fn take(&mut self, count: u16) -> Vec<Row<'a>> {
        let mut rows = Vec::new();
        for _ in 0..count {
            match self.next() {
                // A record with a name that no host has cannot be about what was asked.
                Some((row, is_read)) if is_read && rows.len() < ROWS_MAX => rows.push(row),
                Some(_) => {}
                None => break,
            }
        }
        rows
    }

    fn next(&mut self) -> Option<(Row<'a>, bool)> {
        let end = name::skip(self.message, self.at)?;
        let owner = name::read(self.message, self.at).map(|(owner, _)| owner);
        let (kind, class) = (u16_at(self.message, end)?, u16_at(self.message, end + 2)?);
        // The highest bit is no part of a time to live (RFC 2181 section 8).
        let ttl_s = u32_at(self.message, end + 4).map(|ttl| if ttl > i32::MAX as u32 { 0 } else { ttl })?;
        let start = end + 10;
        let data = start..start + usize::from(u16_at(self.message, end + 8)?);
        self.message.get(data.clone())?;
        self.at = data.end;
        let is_read = class == CLASS_IN && owner.is_some();
        Some((Row { message: self.message, owner: owner.unwrap_or_default(), kind, ttl_s, data }, is_read))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A record as a server writes it.
    pub fn row(owner: &str, kind: u16, ttl_s: u32, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        name::write(owner, &mut out);
        out.extend(kind.to_be_bytes());
        out.extend(CLASS_IN.to_be_bytes());
        out.extend(ttl_s.to_be_bytes());
        out.extend((data.len() as u16).to_be_bytes());
        out.extend(data);
        out
    }

    pub fn a(owner: &str, ttl_s: u32, ip: [u8; 4]) -> Vec<u8> {
        row(owner, 1, ttl_s, &ip)
    }

    pub fn alias(owner: &str, ttl_s: u32, of: &str) -> Vec<u8> {
        let mut data = Vec::new();
        name::write(of, &mut data);
        row(owner, TYPE_CNAME, ttl_s, &data)
    }

    pub fn srv(owner: &str, numbers: [u16; 3], target: &str) -> Vec<u8> {
        let mut data: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
        name::write(target, &mut data);
        row(owner, 33, 60, &data)
    }

    pub fn soa(ttl_s: u32, minimum_s: u32) -> Vec<u8> {
        let mut data = b"\x02ns\x00\x04mail\x00".to_vec();
        data.extend([0; 16]);
        data.extend(minimum_s.to_be_bytes());
        row("example.org", TYPE_SOA, ttl_s, &data)
    }

    /// The server's message to a question of ours.
    pub fn reply(question: &[u8], flags: u16, answer: &[Vec<u8>], authority: &[Vec<u8>]) -> Vec<u8> {
        let asked = name::skip(question, HEADER_BYTES).unwrap() + 4;
        let mut out = question[..2].to_vec();
        for n in [0x8180 | flags, 1, answer.len() as u16, authority.len() as u16, 0] {
            out.extend(n.to_be_bytes());
        }
        out.extend(&question[HEADER_BYTES..asked]);
        out.extend(answer.concat());
        out.extend(authority.concat());
        out
    }

    fn question(name: &str, kind: Kind) -> Question {
        Question { name: name.to_string(), kind }
    }

    fn ask(name: &str, kind: Kind, flags: u16, answer: &[Vec<u8>], authority: &[Vec<u8>]) -> Reply {
        let question = question(name, kind);
        decode(&reply(&encode(&question, 77, true), flags, answer, authority), &question, 77)
    }

    #[test]
    fn a_question_is_what_rfc_1035_says() {
        let bytes = encode(&question("example.org", Kind::Srv), 0x1234, false);
        assert_eq!(bytes, b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07example\x03org\0\0\x21\0\x01");
        let edns = encode(&question("example.org", Kind::Srv), 0x1234, true);
        assert_eq!(edns[bytes.len()..], *b"\0\0\x29\x04\xd0\0\0\0\0\0\0");
        assert_eq!(edns[11], 1);
    }

    #[test]
    fn records_of_the_name_are_found_along_its_aliases() {
        let ip = |last| Record::Address(IpAddr::from([192, 0, 2, last]));
        let rows = [
            a("elsewhere.example", 5, [192, 0, 2, 9]),
            alias("example.org", 300, "www.example.org"),
            a("www.example.org", 60, [192, 0, 2, 1]),
            a("www.example.org", 90, [192, 0, 2, 2]),
            row("www.example.org", 1, 60, b"short"),
            row("www.example.org", 99, 1, b"unknown"),
        ];
        let expected = Reply::Final { result: Ok(vec![ip(1), ip(2)]), ttl_s: 60 };
        assert_eq!(ask("example.org", Kind::A, 0, &rows, &[]), expected);
        let only_alias = Reply::Alias { name: "www.example.org".to_string(), ttl_s: 300 };
        assert_eq!(ask("example.org", Kind::Aaaa, 0, &rows, &[]), only_alias);
        let circle = [alias("a.example", 1, "b.example"), alias("b.example", 1, "a.example")];
        let endless = Reply::Final { result: Err(DnsError::AliasLoop), ttl_s: 0 };
        assert_eq!(ask("a.example", Kind::A, 0, &circle, &[]), endless);
        let service = |target: &str| {
            let target = target.to_string();
            Record::Service(Service { priority: 10, weight: 5, port: 5269, target })
        };
        for target in ["xmpp.example.org", ""] {
            let rows = [srv("_xmpp-server._tcp.example.org", [10, 5, 5269], target)];
            let expected = Reply::Final { result: Ok(vec![service(target)]), ttl_s: 60 };
            assert_eq!(ask("_xmpp-server._tcp.example.org", Kind::Srv, 0, &rows, &[]), expected);
        }
    }

    #[test]
    fn nothing_is_told_apart_from_no_name_and_lasts_as_long_as_the_soa_says() {
        let none = |error, ttl_s| Reply::Final { result: Err(error), ttl_s };
        assert_eq!(ask("example.org", Kind::A, 3, &[], &[soa(600, 300)]), none(DnsError::NoName, 300));
        assert_eq!(ask("example.org", Kind::A, 0, &[], &[soa(60, 300)]), none(DnsError::NoData, 60));
        assert_eq!(ask("example.org", Kind::A, 0, &[], &[]), none(DnsError::NoData, 0));
    }

    #[test]
    fn only_the_answer_to_the_question_is_one() {
        let asked = question("example.org", Kind::A);
        let bytes = encode(&asked, 77, true);
        let good = reply(&bytes, 0, &[a("example.org", 5, [192, 0, 2, 1])], &[]);
        assert!(matches!(decode(&good, &asked, 77), Reply::Final { result: Ok(_), .. }));
        assert_eq!(decode(&good, &asked, 78), Reply::Foreign);
        assert_eq!(decode(&good, &question("example.com", Kind::A), 77), Reply::Foreign);
        assert_eq!(decode(&good, &question("example.org", Kind::Srv), 77), Reply::Foreign);
        assert_eq!(decode(&bytes, &asked, 77), Reply::Foreign, "a question");
        assert_eq!(decode(&good[..11], &asked, 77), Reply::Foreign);
        let mut upper = good.clone();
        upper[13] = b'E';
        assert_eq!(decode(&upper, &asked, 77), decode(&good, &asked, 77));
    }

    #[test]
    fn servers_may_fail_in_their_own_ways() {
        assert_eq!(ask("example.org", Kind::A, 2, &[], &[]), Reply::Failure);
        assert_eq!(ask("example.org", Kind::A, 5, &[], &[]), Reply::Failure);
        assert_eq!(ask("example.org", Kind::A, 1, &[], &[]), Reply::NoEdns);
        assert_eq!(ask("example.org", Kind::A, 0x200, &[], &[]), Reply::Truncated);
    }

    #[test]
    fn records_are_bounded() {
        let rows: Vec<Vec<u8>> = (0..200).map(|n| a("example.org", 60, [192, 0, 2, n])).collect();
        let Reply::Final { result: Ok(records), .. } = ask("example.org", Kind::A, 0, &rows, &[]) else { panic!() };
        assert_eq!(records.len(), RECORDS_MAX);
    }

    proptest! {
        #[test]
        fn random_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let asked = question("a", Kind::Srv);
            let head = reply(&encode(&asked, 7, false), 0, &[], &[]);
            let _ = decode(&bytes, &asked, 7);
            let mut behind = head;
            behind[7] = 9;
            behind[9] = 9;
            behind.extend(bytes);
            let _ = decode(&behind, &asked, 7);
        }

        #[test]
        fn damaged_answers_do_no_harm(at in 0..150_usize, byte in any::<u8>(), cut in 0..150_usize) {
            let asked = question("example.org", Kind::A);
            let rows = [alias("example.org", 9, "b.example"), a("b.example", 60, [192, 0, 2, 1])];
            let mut message = reply(&encode(&asked, 7, true), 0, &rows, &[soa(5, 5)]);
            let length = message.len();
            message[at % length] = byte;
            message.truncate(length - cut % 3 * (cut % length) / 2);
            let _ = decode(&message, &asked, 7);
        }
    }
}

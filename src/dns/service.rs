//! Which hosts serve a domain, and in which order they are tried: SRV records (RFC 2782) of `xmpp-server` (RFC 6120
//! section 3.2.1) and `xmpps-server` (XEP-0368), as one list.

use std::cmp::Reverse;

use super::message::{Record, Service};
use super::{DnsError, name};
use crate::clock::Entropy;

/// The port of servers without SRV records (RFC 6120 section 3.2.2).
pub const PORT: u16 = 5269;

/// A place where a domain may be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name or address.
    pub host: String,
    /// Of TCP.
    pub port: u16,
    /// TLS starts with the first byte.
    pub direct_tls: bool,
}

/// Where the operator says that a domain is, whatever DNS says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// As A-labels.
    pub domain: String,
    /// The place.
    pub target: Target,
}

/// What is asked for to find the servers of a domain in A-labels; the first for direct TLS. None when it is too long.
pub fn names(domain: &str) -> Option<[String; 2]> {
    let service = |service: &str| name::normal(&format!("_{service}._tcp.{domain}"));
    Some([service("xmpps-server")?, service("xmpp-server")?])
}

/// An answer to one of [`names`].
pub type Found = Result<Vec<Record>, DnsError>;

/// The places to try, in order. Without any record it is the domain itself; with records, nothing but what they say
/// (RFC 6120 section 3.2.1 step 8). None when the domain says that nobody serves it (RFC 2782: the target is `.`).
pub fn targets(domain: &str, direct: Found, starttls: Found, entropy: &mut dyn Entropy) -> Option<Vec<Target>> {
    let mut records: Vec<(Service, bool)> = Vec::new();
    for (found, direct_tls) in [(direct, true), (starttls, false)] {
        records.extend(found.unwrap_or_default().into_iter().filter_map(|record| match record {
            Record::Service(service) => Some((service, direct_tls)),
            Record::Address(_) => None,
        }));
    }
    if records.is_empty() {
        return Some(vec![Target { host: domain.to_string(), port: PORT, direct_tls: false }]);
    }
    records.retain(|(service, _)| !service.target.is_empty());
    if records.is_empty() {
        return None;
    }
    // Of what is equal, direct TLS first: it saves two round trips.
    records.sort_by_key(|(service, direct_tls)| (service.priority, Reverse(*direct_tls)));
    let mut targets = Vec::with_capacity(records.len());
    while let Some((first, _)) = records.first() {
        let same = records.iter().take_while(|(service, _)| service.priority == first.priority).count();
        let mut group: Vec<(Service, bool)> = records.drain(..same).collect();
        while !group.is_empty() {
            let (service, direct_tls) = group.remove(choose(&group, entropy));
            targets.push(Target { host: service.target, port: service.port, direct_tls });
        }
    }
    Some(targets)
}

/// One of a group by its weight: RFC 2782, "Usage rules". Those of weight 0 have a small chance beside others.
fn choose(group: &[(Service, bool)], entropy: &mut dyn Entropy) -> usize {
    let total: u64 = group.iter().map(|(service, _)| u64::from(service.weight)).sum();
    if total == 0 {
        return 0;
    }
    let mut random = [0; 8];
    entropy.fill(&mut random);
    // The bias of the remainder is less than one in 2^40.
    let mut at = u64::from_be_bytes(random) % (total + 1);
    let mut order: Vec<usize> = (0..group.len()).collect();
    let weight = |index: usize| group.get(index).map_or(0, |(service, _)| u64::from(service.weight));
    order.sort_by_key(|&index| weight(index) != 0);
    for index in order {
        if at <= weight(index) {
            return index;
        }
        at -= weight(index);
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives the same number each time.
    struct Fixed(u64);

    impl Entropy for Fixed {
        fn fill(&mut self, out: &mut [u8]) {
            out.copy_from_slice(&self.0.to_be_bytes()[8 - out.len()..]);
        }
    }

    fn srv(priority: u16, weight: u16, target: &str) -> Record {
        Record::Service(Service { priority, weight, port: 5269, target: target.to_string() })
    }

    fn order(direct: &[Record], starttls: &[Record], random: u64) -> Option<Vec<String>> {
        let found = |records: &[Record]| if records.is_empty() { Err(DnsError::NoData) } else { Ok(records.to_vec()) };
        let targets = targets("example.org", found(direct), found(starttls), &mut Fixed(random))?;
        Some(targets.into_iter().map(|t| format!("{}{}", t.host, if t.direct_tls { "+" } else { "" })).collect())
    }

    #[test]
    fn both_services_are_asked_for() {
        let expected = ["_xmpps-server._tcp.example.org", "_xmpp-server._tcp.example.org"].map(str::to_string);
        assert_eq!(names("example.org"), Some(expected));
        assert_eq!(names(&"a.".repeat(120)), None);
    }

    #[test]
    fn both_services_are_one_list_by_priority() {
        let direct = [srv(20, 0, "b"), srv(5, 0, "d")];
        let starttls = [srv(10, 0, "a"), srv(20, 0, "c")];
        assert_eq!(order(&direct, &starttls, 0).unwrap(), ["d+", "a", "b+", "c"]);
    }

    #[test]
    fn weight_is_a_share() {
        let records = [srv(1, 10, "a"), srv(1, 30, "b"), srv(1, 0, "c")];
        // 41 numbers: 0 is c, 1 to 10 are a, 11 to 40 are b.
        let first = |random| order(&[], &records, random).unwrap().remove(0);
        assert_eq!([0, 1, 10, 11, 40, 41].map(first), ["c", "a", "a", "b", "b", "c"]);
        let all = |random| order(&[], &records, random).unwrap();
        assert_eq!([11, 12].map(all), [["b", "c", "a"], ["b", "a", "c"]]);
        let shares = (0..41).filter(|n| first(*n) == "b").count();
        assert_eq!(shares, 30);
    }

    #[test]
    fn without_records_it_is_the_domain_and_with_a_dot_it_is_nobody() {
        let fallback = targets("example.org", Err(DnsError::NoData), Err(DnsError::Timeout), &mut Fixed(0));
        assert_eq!(fallback, Some(vec![Target { host: "example.org".to_string(), port: 5269, direct_tls: false }]));
        assert_eq!(order(&[], &[srv(0, 0, "")], 0), None);
        assert_eq!(order(&[srv(0, 0, "")], &[srv(0, 0, "a")], 0).unwrap(), ["a"]);
        assert_eq!(order(&[srv(0, 0, "")], &[], 0), None);
    }
}

//! `couplet check dns`: the records that the domains of this server need, ready for a zone file, and what name servers
//! say of them now.

use super::Exit;
use super::run::federation;
use super::{complain, say};
use crate::config::{Address, Config};
use crate::core::disco::Disco;
use crate::dns::message::{Record, Service};
use crate::dns::service::Found;
use crate::dns::{DnsError, Kind};
use crate::jid::idna;
use crate::modules::Modules;
use crate::net::clock::{Clock, SystemEntropy};
use crate::net::dns::Resolver;
use std::fmt::Write as _;

/// Seconds for which others may remember a record: an hour, so that a move takes no longer.
const TTL_S: u32 = 3600;

/// A record that others need to find this server.
struct Wanted {
    /// `_xmpp-client._tcp.example.org`
    owner: String,
    port: u16,
    /// The domain, as A-labels.
    domain: String,
}

/// Prints the records and compares them; fails when one is missing.
pub fn check(config: &Config) -> Exit {
    let Some(entropy) = SystemEntropy::open() else {
        return complain(Exit::Failed, "the system gives no random bytes: couplet needs getrandom(2)");
    };
    let servers = federation(config).name_servers;
    let resolver = Resolver::new(servers, config.limits.dns_answers_max, Clock::start(), Box::new(entropy));
    let mut text = format!(
        "; Records by which clients and other servers find {}.\n\
         ; If the machine has a name of its own, put it in place of the last column; a host that SRV records name\n\
         ; needs A or AAAA records.\n",
        config.server.hosts.join(", ")
    );
    let mut missing = 0;
    for domain in domains(config) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n; {domain}");
        let Some(domain) = idna::to_ascii(&domain) else { continue };
        for wanted in wanted(config, &domain) {
            let found = async_io::block_on(resolver.records(&wanted.owner, Kind::Srv));
            let (fine, verdict) = verdict(&wanted, &found);
            missing += u32::from(!fine);
            let owner = format!("{}.", wanted.owner);
            let _ = writeln!(text, "{owner:<44} {TTL_S} IN SRV 0 5 {:<5} {}.  ; {verdict}", wanted.port, wanted.domain);
        }
        for kind in [Kind::A, Kind::Aaaa] {
            let found = async_io::block_on(resolver.addresses(&domain, kind));
            let shown = match found {
                Ok(addresses) => addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
                Err(error) => error.to_string(),
            };
            let _ = writeln!(text, "; {domain}. {}: {shown}", kind.name());
        }
    }
    if missing > 0 {
        let _ = writeln!(text, "\n; {missing} of these records are missing or different.");
    }
    say(&text);
    if missing == 0 { Exit::Ok } else { Exit::Failed }
}

/// Hosts, then the services of modules.
fn domains(config: &Config) -> Vec<String> {
    let settings = config.engine_settings();
    let modules = Modules::new(&settings.modules);
    let mut domains = config.server.hosts.clone();
    for host in &config.server.hosts {
        let mut disco = Disco::new("");
        modules.disco(&settings.core, host, &mut disco);
        let new = disco.services.into_iter().map(|service| service.domain);
        let new: Vec<String> = new.filter(|domain| !domains.contains(domain)).collect();
        domains.extend(new);
    }
    domains
}

/// What a domain needs, by who is listened for. Clients log in at hosts alone.
fn wanted(config: &Config, domain: &str) -> Vec<Wanted> {
    let is_host = config.server.hosts.iter().any(|host| idna::to_ascii(host).as_deref() == Some(domain));
    let port = |addresses: &[Address]| addresses.iter().map(|address| address.port).find(|port| *port > 0);
    let rows = [
        ("xmpp-client", is_host, &config.c2s.listen),
        ("xmpps-client", is_host, &config.c2s.direct_tls_listen),
        ("xmpp-server", true, &config.s2s.listen),
        ("xmpps-server", true, &config.s2s.direct_tls_listen),
    ];
    let record = |(service, is_on, addresses): (&str, bool, &Vec<Address>)| {
        let port = port(addresses).filter(|_| is_on)?;
        Some(Wanted { owner: format!("_{service}._tcp.{domain}"), port, domain: domain.to_owned() })
    };
    rows.into_iter().filter_map(record).collect()
}

/// Whether what was found will do, and what it is.
fn verdict(wanted: &Wanted, found: &Found) -> (bool, String) {
    let records: Vec<&Service> = match found {
        Ok(records) => records.iter().filter_map(service).collect(),
        Err(error) if error.is_negative() => return (false, "missing".to_owned()),
        Err(error @ DnsError::BadName) => return (false, error.to_string()),
        Err(error) => return (false, format!("unknown: {error}")),
    };
    let fits = |service: &&&Service| service.port == wanted.port && !service.target.is_empty();
    let shown = || records.iter().map(|r| Record::Service((*r).clone()).to_string()).collect::<Vec<_>>().join(", ");
    match records.iter().find(fits) {
        Some(service) if service.target == wanted.domain => (true, "there".to_owned()),
        Some(service) => (true, format!("there, at {}", service.target)),
        None => (false, format!("different: {}", shown())),
    }
}

fn service(record: &Record) -> Option<&Service> {
    match record {
        Record::Service(service) => Some(service),
        Record::Address(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners(config: &Config, domain: &str) -> Vec<String> {
        wanted(config, domain).into_iter().map(|wanted| format!("{} {}", wanted.owner, wanted.port)).collect()
    }

    #[test]
    fn hosts_need_four_records_and_services_two() {
        let mut config = Config::default();
        config.server.hosts = vec!["b\u{fc}cher.example".to_string()];
        let host = "xn--bcher-kva.example";
        let expected = [
            "_xmpp-client._tcp.{} 5222",
            "_xmpps-client._tcp.{} 5223",
            "_xmpp-server._tcp.{} 5269",
            "_xmpps-server._tcp.{} 5270",
        ];
        assert_eq!(owners(&config, host), expected.map(|row| row.replace("{}", host)));
        let service = "conference.xn--bcher-kva.example";
        assert_eq!(owners(&config, service), [&expected[2], &expected[3]].map(|row| row.replace("{}", service)));
        config.s2s.listen = vec![Address::any(0)];
        config.s2s.direct_tls_listen = Vec::new();
        assert_eq!(owners(&config, service), Vec::<String>::new());
    }

    #[test]
    fn what_is_there_is_compared_by_its_port() {
        let wanted = Wanted { owner: "_xmpp-server._tcp.a.example".into(), port: 5269, domain: "a.example".into() };
        let srv = |port, target: &str| Record::Service(Service { priority: 0, weight: 5, port, target: target.into() });
        for (found, fine, says) in [
            (Ok(vec![srv(5269, "a.example")]), true, "there"),
            (Ok(vec![srv(1, "a.example"), srv(5269, "b.example")]), true, "there, at b.example"),
            (Ok(vec![srv(5222, "a.example")]), false, "different: 0 5 5222 a.example."),
            (Ok(vec![srv(5269, "")]), false, "different: 0 5 5269 ."),
            (Err(DnsError::NoName), false, "missing"),
            (Err(DnsError::Timeout), false, "unknown: no name server answers"),
        ] {
            assert_eq!(verdict(&wanted, &found), (fine, says.to_owned()));
        }
    }
}

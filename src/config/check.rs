//! What no single value can tell: names that must be addresses, and values that must fit together.

use super::{Backend, Config, ConfigError, Durability, Origin, full_name};
use crate::jid::Jid;
use crate::modules::{Fit, Misfit};
use crate::setting::quote;

/// Checks the whole and brings addresses into their prepared form.
pub fn check(config: &mut Config, errors: &mut Vec<ConfigError>) {
    hosts(config, errors);
    admins(config, errors);
    listeners(config, errors);
    modules(config, errors);
    components(config, errors);
    servers(config, errors);
    exempt(config, errors);
    fit(config, errors);
    storage(config, errors);
    #[cfg(feature = "acme")]
    super::acme::check(config, errors);
    #[cfg(feature = "statistics")]
    super::statistics::check(config, errors);
    #[cfg(feature = "compression")]
    if config.compression.enabled {
        config.warnings.push(
            "compression.enabled: compression under TLS can leak secrets (CRIME): whoever watches how long a client's \
             messages are can guess what is in them; switch it off unless bytes are dear"
                .to_string(),
        );
    }
}

fn hosts(config: &mut Config, errors: &mut Vec<ConfigError>) {
    let mut prepared: Vec<String> = Vec::new();
    for host in &config.server.hosts {
        match Jid::parse(host) {
            Ok(jid) if jid.is_host() && !host.contains(char::is_whitespace) => {
                if prepared.iter().any(|other| other == jid.domain()) {
                    errors.push(at(config, "", "hosts", format!("{} stands there twice; remove one", quote(host))));
                } else {
                    prepared.push(jid.domain().to_string());
                }
            }
            Ok(jid) if jid.node().is_some() => {
                let text = format!("{} is an address; write the domain alone: {}", quote(host), quote(jid.domain()));
                errors.push(at(config, "", "hosts", text));
            }
            Ok(_) => errors.push(at(config, "", "hosts", not_a_domain(host, ""))),
            Err(e) => errors.push(at(config, "", "hosts", not_a_domain(host, &format!(" ({e})")))),
        }
    }
    if config.server.hosts.is_empty() {
        let text = "a server needs a domain; write for example hosts = [\"example.org\"]";
        errors.push(at(config, "", "hosts", text.to_string()));
    }
    config.server.hosts = prepared;
}

fn not_a_domain(host: &str, why: &str) -> String {
    format!("{} is not a domain{why}; write for example \"example.org\"", quote(host))
}

fn admins(config: &mut Config, errors: &mut Vec<ConfigError>) {
    let mut prepared = Vec::new();
    for admin in &config.server.admins {
        match Jid::parse(admin) {
            Ok(jid) if jid.node().is_some() && jid.is_bare() => prepared.push(jid.as_str().to_string()),
            _ => {
                let text = format!("{} is not an address; write for example \"romeo@example.org\"", quote(admin));
                errors.push(at(config, "", "admins", text));
            }
        }
    }
    config.server.admins = prepared;
}

/// A module can be off for a host that is served, and for no other.
fn modules(config: &Config, errors: &mut Vec<ConfigError>) {
    for (module, host) in config.modules.general.disabled_hosts() {
        let is_served = Jid::parse(host).is_ok_and(|jid| config.server.hosts.iter().any(|h| h == jid.domain()));
        if !is_served {
            let text =
                format!("{} is none of hosts; write \"{module}\", or \"{module}@\" with one of them", quote(host));
            errors.push(at(config, "modules", "disabled", text));
        }
    }
}

/// Values of one module that must fit together.
fn fit(config: &mut Config, errors: &mut Vec<ConfigError>) {
    #[cfg(feature = "rules")]
    super::lists::read(config, errors);
    let Fit { wrong, warnings } = config.modules.fit();
    errors.extend(wrong.into_iter().map(|Misfit { section, key, text }| at(config, &section, key, text)));
    config.warnings.extend(warnings);
}

/// A component has a domain that is not served in another way.
fn components(config: &Config, errors: &mut Vec<ConfigError>) {
    let domains: Vec<&String> = config.components.secrets.iter().map(|secret| &secret.0.domain).collect();
    for (index, domain) in domains.iter().enumerate() {
        let why = match config.server.hosts.contains(domain) {
            true => "is one of hosts; a component has a domain of its own",
            false if domains[..index].contains(domain) => "stands there twice; remove one",
            false => continue,
        };
        errors.push(at(config, "components", "secrets", format!("{} {why}", quote(domain))));
    }
}

/// The back end must be there, and keep data in its own form.
fn storage(config: &Config, errors: &mut Vec<ConfigError>) {
    if config.storage.backend != Backend::Sqlite {
        return;
    }
    if !cfg!(feature = "sqlite") {
        let text = "\"sqlite\" is not built in here; take the tier enterprise, or build with --features sqlite, or \
                    write \"redb\"";
        errors.push(at(config, "storage", "backend", text.to_string()));
    } else if config.storage.durability == Durability::Volatile {
        let text = "\"volatile\" keeps all in memory, and couplet.snapshot on the disk, without SQLite; write \
                    \"batched\", or leave storage.backend at \"redb\"";
        errors.push(at(config, "storage", "durability", text.to_string()));
    }
}

/// Domains of other servers.
fn servers(config: &mut Config, errors: &mut Vec<ConfigError>) {
    let s2s = config.s2s.clone();
    for (key, list) in [
        ("insecure_domains", &s2s.insecure_domains),
        ("blocked_domains", &s2s.blocked_domains),
        ("allowed_domains", &s2s.allowed_domains),
    ] {
        let mut prepared = Vec::new();
        for domain in list {
            match Jid::parse(domain) {
                Ok(jid) if jid.is_host() => prepared.push(jid.domain().to_string()),
                _ => errors.push(at(config, "s2s", key, not_a_domain(domain, ""))),
            }
        }
        match key {
            "insecure_domains" => config.s2s.insecure_domains = prepared,
            "blocked_domains" => config.s2s.blocked_domains = prepared,
            _ => config.s2s.allowed_domains = prepared,
        }
    }
}

/// Who has no rates: bare addresses and domains.
fn exempt(config: &mut Config, errors: &mut Vec<ConfigError>) {
    let mut prepared = Vec::new();
    for address in &config.rates.exempt {
        match Jid::parse(address) {
            Ok(jid) if jid.is_bare() => prepared.push(jid.as_str().to_string()),
            _ => {
                let text = format!(
                    "{} is not an address; write for example \"romeo@example.org\" or \"example.org\"",
                    quote(address)
                );
                errors.push(at(config, "limits.rates", "exempt", text));
            }
        }
    }
    config.rates.exempt = prepared;
}

fn listeners(config: &Config, errors: &mut Vec<ConfigError>) {
    let Config { c2s, s2s, components, .. } = config;
    let lists = [
        ("c2s", "listen", &c2s.listen),
        ("c2s", "direct_tls_listen", &c2s.direct_tls_listen),
        ("s2s", "listen", &s2s.listen),
        ("s2s", "direct_tls_listen", &s2s.direct_tls_listen),
        ("components", "listen", &components.listen),
    ];
    #[cfg(feature = "http")]
    let lists: Vec<_> = {
        let http = &config.http;
        lists.into_iter().chain([("http", "listen", &http.listen), ("http", "tls_listen", &http.tls_listen)]).collect()
    };
    #[cfg(feature = "acme")]
    let alone = config.acme_listen();
    #[cfg(feature = "acme")]
    let lists: Vec<_> = lists.into_iter().chain([("acme", "listen", &alone)]).collect();
    for (index, (section, key, addresses)) in lists.iter().enumerate() {
        for (other_section, other_key, other) in lists.iter().take(index) {
            let Some(address) = addresses.iter().find(|a| a.port != 0 && other.contains(a)) else { continue };
            let text = format!(
                "{} stands in {other_section}.{other_key}, too; each needs a port of its own",
                quote(&address.to_string())
            );
            errors.push(at(config, section, key, text));
        }
    }
    if config.c2s.listen.is_empty() && config.c2s.direct_tls_listen.is_empty() {
        let text = "nobody can connect when direct_tls_listen is empty, too; write for example [\"[::]:5222\"]";
        errors.push(at(config, "c2s", "listen", text.to_string()));
    }
}

/// An error at the place where the value was written.
pub(super) fn at(config: &Config, section: &str, key: &str, text: String) -> ConfigError {
    let name = full_name(section, key);
    // What a row lacks is told of the row.
    let origin = match config.origin(section, key) {
        Origin::Default => config.origin("", section),
        origin => origin,
    };
    match origin {
        Origin::Default => ConfigError { place: name, text },
        Origin::Environment(variable) => ConfigError { place: variable.clone(), text },
        Origin::File { file, line, column } => {
            ConfigError { place: format!("{file}:{line}:{column}"), text: format!("{name}: {text}") }
        }
    }
}

//! Which levels of the XMPP Compliance Suites 2023 (XEP-0479) a configuration reaches. Nothing is claimed: each
//! specification counts when a module that follows it is on, or the part of the server that does.

use super::Config;
use crate::modules::LIST;

/// A server's level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compliance {
    /// Not even the first.
    None,
    /// "Server".
    Server,
    /// "Advanced Server".
    Advanced,
}

/// How far a configuration gets in one category.
#[derive(Debug, PartialEq, Eq)]
pub struct Reached {
    /// Its name.
    pub category: &'static str,
    /// The level.
    pub level: Compliance,
    /// What the next level lacks: specifications by their names.
    pub lacks: Vec<&'static str>,
}

use Compliance::{Advanced, Server};

/// The rows of sections 2.1 to 2.5 that are for servers: category, from which level on, the specification. What the
/// suites list as of the core holds for each configuration: it cannot be switched off.
const ROWS: &[(&str, Compliance, &str)] = &[
    ("Core", Server, "XEP-0030"),
    ("Core", Server, "XEP-0114"),
    ("Core", Advanced, "XEP-0368"),
    ("Core", Advanced, "XEP-0115"),
    ("Core", Advanced, "XEP-0163"),
    ("Web", Server, "RFC 7395"),
    ("Web", Server, "XEP-0206"),
    ("IM", Server, "XEP-0054"),
    ("IM", Server, "XEP-0280"),
    ("IM", Server, "XEP-0045"),
    ("IM", Server, "XEP-0249"),
    ("IM", Server, "XEP-0363"),
    ("IM", Advanced, "XEP-0398"),
    ("IM", Advanced, "XEP-0153"),
    ("IM", Advanced, "XEP-0191"),
    ("IM", Advanced, "XEP-0048"),
    ("IM", Advanced, "XEP-0313"),
    ("IM", Advanced, "XEP-0402"),
    ("IM", Advanced, "XEP-0410"),
    ("IM", Advanced, "XEP-0223"),
    ("IM", Advanced, "XEP-0049"),
    ("Mobile", Server, "XEP-0352"),
    ("Mobile", Advanced, "XEP-0357"),
    ("A/V Calling", Server, "XEP-0215"),
];

/// The categories, in the order of the suites. All others need Core.
const CATEGORIES: [&str; 5] = ["Core", "Web", "IM", "Mobile", "A/V Calling"];

/// How far a configuration gets in each category.
pub fn compliance(config: &Config) -> Vec<Reached> {
    let reached = |category: &'static str, needs: &[&str]| {
        let lacks = |level: Compliance| {
            let rows = ROWS.iter().filter(|row| needs.contains(&row.0) && row.1 <= level);
            rows.map(|row| row.2).filter(|name| !provides(config, name)).collect::<Vec<_>>()
        };
        let level = match (lacks(Server).is_empty(), lacks(Advanced).is_empty()) {
            (_, true) => Advanced,
            (true, false) => Server,
            (false, false) => Compliance::None,
        };
        Reached { category, level, lacks: if level == Compliance::None { lacks(Server) } else { lacks(Advanced) } }
    };
    CATEGORIES.into_iter().map(|category| reached(category, &["Core", category])).collect()
}

fn provides(config: &Config, name: &str) -> bool {
    match name {
        "XEP-0114" => !config.components.listen.is_empty(),
        "XEP-0368" => !config.c2s.direct_tls_listen.is_empty(),
        // Of servers that are not named nobody hears.
        "XEP-0215" => is_on(config, name) && names_services(config),
        "RFC 7395" | "XEP-0206" => web(config, name),
        _ => is_on(config, name),
    }
}

/// A module that follows it is on, for every host.
fn is_on(config: &Config, name: &str) -> bool {
    let disabled = &config.modules.general.disabled;
    let is_off = |module: &str| disabled.iter().any(|row| row.split('@').next() == Some(module));
    let follows = |number: u16| format!("XEP-{number:04}") == name;
    LIST.iter().any(|info| info.xeps.iter().any(|xep| follows(xep.number)) && !is_off(info.name))
}

#[cfg(feature = "external_services")]
fn names_services(config: &Config) -> bool {
    !config.modules.external_services.services.is_empty()
}

#[cfg(not(feature = "external_services"))]
fn names_services(_: &Config) -> bool {
    false
}

/// How browsers connect.
#[cfg(feature = "http")]
fn web(config: &Config, name: &str) -> bool {
    let listens = !config.http.listen.is_empty() || !config.http.tls_listen.is_empty();
    listens && if name == "RFC 7395" { config.http.websocket } else { config.http.bosh }
}

#[cfg(not(feature = "http"))]
fn web(_: &Config, _: &str) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(config: &Config, category: &str) -> (Compliance, Vec<&'static str>) {
        let found = compliance(config).into_iter().find(|reached| reached.category == category);
        found.map(|reached| (reached.level, reached.lacks)).unwrap()
    }

    #[test]
    #[cfg(all(feature = "minimal", not(feature = "balanced")))]
    fn the_smallest_tier_has_three_categories_but_for_push() {
        let mut config = Config::default();
        assert_eq!(level(&config, "Core"), (Advanced, Vec::new()));
        assert_eq!(level(&config, "Web"), (Compliance::None, vec!["RFC 7395", "XEP-0206"]));
        assert_eq!(level(&config, "IM"), (Compliance::None, vec!["XEP-0363"]));
        assert_eq!(level(&config, "Mobile"), (Server, vec!["XEP-0357"]));
        assert_eq!(level(&config, "A/V Calling"), (Compliance::None, vec!["XEP-0215"]));
        config.modules.external_services.services = vec!["stun:stun.example.org".to_string()];
        assert_eq!(level(&config, "A/V Calling"), (Advanced, Vec::new()));
    }

    #[test]
    #[cfg(feature = "balanced")]
    fn the_balanced_tier_is_advanced_in_all_once_servers_for_calls_are_named() {
        let mut config = Config::default();
        assert_eq!(level(&config, "A/V Calling"), (Compliance::None, vec!["XEP-0215"]));
        config.modules.external_services.services = vec!["stun:stun.example.org".to_string()];
        for category in CATEGORIES {
            assert_eq!(level(&config, category), (Advanced, Vec::new()), "{category}");
        }
        config.http.bosh = false;
        assert_eq!(level(&config, "Web"), (Compliance::None, vec!["XEP-0206"]));
    }

    #[test]
    #[cfg(feature = "minimal")]
    fn what_is_switched_off_does_not_count() {
        let mut config = Config::default();
        config.modules.general.disabled = vec!["caps".to_string()];
        assert_eq!(level(&config, "Core"), (Server, vec!["XEP-0115"]));
        // Not for every host.
        config.modules.general.disabled = vec!["disco@example.org".to_string()];
        assert_eq!(level(&config, "Core"), (Compliance::None, vec!["XEP-0030"]));
        config.modules.general.disabled = Vec::new();
        config.c2s.direct_tls_listen = Vec::new();
        assert_eq!(
            level(&config, "Mobile"),
            (Compliance::Server, {
                let mut lacks = vec!["XEP-0368"];
                lacks.extend((!cfg!(feature = "push")).then_some("XEP-0357"));
                lacks
            })
        );
    }
}

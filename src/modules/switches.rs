//! Which modules run, and for which hosts.

use super::{Dir, KNOWN, Place};
use crate::core::Core;
use crate::core::session::SessionId;
use crate::jid::Jid;
use crate::setting::nearest;
use crate::stanza::Stanza;

crate::setting::section! {
    /// Protocol extensions. All that are built in are on.
    pub struct General in "modules" {
        /// Names of modules that are not to run, such as "carbons"; "register@example.org" is off for that host alone.
        pub disabled: Vec<String> = Vec::new() => |names: &Vec<String>| known_modules(names),
    }
}

fn known_modules(names: &[String]) -> Result<(), String> {
    let known = || KNOWN.iter().map(|(name, _)| *name);
    let module = |row: &'_ String| row.split('@').next().unwrap_or_default().to_string();
    match names.iter().map(module).find(|n| known().all(|k| k != n.as_str())) {
        None => Ok(()),
        Some(name) => {
            let hint = nearest(&name, known()).map(|n| format!("; did you mean \"{n}\"?")).unwrap_or_default();
            Err(format!("there is no module \"{name}\"{hint}"))
        }
    }
}

impl General {
    /// Hosts for which a module is switched off that is on for others: with its name, as the configuration has them.
    pub fn disabled_hosts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.disabled.iter().filter_map(|row| row.split_once('@'))
    }

    /// True for a module that is off for all hosts.
    pub fn is_off(&self, module: &str) -> bool {
        self.disabled.iter().any(|row| row == module)
    }
}

/// Modules that are off for some hosts alone.
pub(super) struct OffHosts(Vec<(String, On)>);

/// The modules that are on for a host, where they are on at all: a bit for each of the list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct On(u64);

const _: () = assert!(KNOWN.len() <= u64::BITS as usize, "a module has no bit");

impl OffHosts {
    pub(super) fn new(general: &General) -> Self {
        let mut hosts: Vec<(String, On)> = Vec::new();
        for (module, host) in general.disabled_hosts() {
            let place = KNOWN.iter().position(|(known, _)| *known == module);
            let (Some(place), Ok(host)) = (place, Jid::parse(host)) else { continue };
            match hosts.iter_mut().find(|(known, _)| known == host.domain()) {
                Some((_, on)) => *on = on.without(place),
                None => hosts.push((host.domain().to_string(), On::ALL.without(place))),
            }
        }
        Self(hosts)
    }

    /// Once for all modules, so that a hook costs nothing where a module has none. The host is not looked for where
    /// there is none of these.
    pub(super) fn on<'h>(&self, host: impl FnOnce() -> &'h str) -> On {
        if self.0.is_empty() {
            return On::ALL;
        }
        let host = host();
        self.0.iter().find(|(known, _)| known == host).map_or(On::ALL, |(_, on)| *on)
    }
}

impl On {
    /// Off for no host alone.
    pub(super) const ALL: Self = Self(u64::MAX);

    /// `place`: in the list.
    fn without(self, place: usize) -> Self {
        Self(self.0 & !(1 << place))
    }

    pub(super) fn has(self, module: Place) -> bool {
        self.0 & (1 << module as u32) != 0
    }
}

pub(super) fn host_of(jid: Option<&Jid>) -> &str {
    jid.map_or("", Jid::domain)
}

pub(super) fn host_of_session(core: &Core, id: SessionId) -> &str {
    core.sessions.get(id).map_or("", |s| s.jid.domain())
}

/// Whose a message is that goes this way.
pub(super) fn host_that_way(dir: Dir, stanza: &Stanza) -> &str {
    host_of(if dir == Dir::Sent { stanza.from.as_ref() } else { stanza.to.as_ref() })
}

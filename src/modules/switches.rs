//! Which modules run, and for which hosts.

use super::{Dir, KNOWN};
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

    /// Prepared.
    pub(super) fn off_hosts(&self, module: &str) -> Vec<String> {
        let hosts = self.disabled_hosts().filter(|(name, _)| *name == module);
        hosts.filter_map(|(_, host)| Some(Jid::parse(host).ok()?.domain().to_string())).collect()
    }
}

/// A module where it is on.
pub(super) struct Slot<M> {
    pub(super) module: Option<M>,
    /// Hosts for which it is off.
    pub(super) off: Vec<String>,
}

impl<M> Slot<M> {
    pub(super) fn is_on(&self, host: &str) -> bool {
        self.off.iter().all(|off| off != host)
    }

    /// The module, if it is on at all.
    pub(super) fn any(&mut self) -> Option<&mut M> {
        self.module.as_mut()
    }

    /// The module, if it is on for a host.
    pub(super) fn at<'h>(&mut self, host: impl FnOnce() -> &'h str) -> Option<&mut M> {
        let is_on = self.off.is_empty() || self.is_on(host());
        self.module.as_mut().filter(|_| is_on)
    }

    /// The same, to look at.
    pub(super) fn look(&self, host: &str) -> Option<&M> {
        self.module.as_ref().filter(|_| self.is_on(host))
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

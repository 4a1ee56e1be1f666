//! A configuration of Prosody in our own words.
//!
//! What has an equal becomes a key, once the key itself has accepted the value; of everything else a line says why
//! not. Options of single hosts hold for all of them here; where they differ, a line says so.

use super::config::{Place, Scope, Settings, not_run};
use super::options::{self, Rule};
use crate::config::Config;
use crate::jid::Jid;
use crate::moving::lua::{Table, Value};
use crate::setting::{self, quote};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// What is being made of it.
pub struct Out {
    /// Takes every value, so that nothing is written that would be refused.
    config: Config,
    keys: Vec<Key>,
    notes: Vec<(Option<Place>, String)>,
    /// Folder of the configuration, with a slash behind it; empty when it is not known.
    pub(super) folder: String,
    pub(super) hosts: usize,
    /// The section whose options are looked at.
    pub(super) scope: Scope,
    /// Where the option stands that is looked at.
    pub(super) place: Option<Place>,
}

struct Key {
    section: &'static str,
    key: &'static str,
    value: setting::Value,
    scope: Scope,
}

/// The configuration as TOML. `folder` is that of the file, with a slash behind it.
pub fn convert(settings: &Settings, folder: &str) -> String {
    let mut out = Out {
        config: Config::default(),
        keys: Vec::new(),
        notes: settings.notes.iter().map(|(place, what)| (Some(place.clone()), what.clone())).collect(),
        folder: folder.to_string(),
        hosts: settings.hosts().count(),
        scope: Scope::Global,
        place: None,
    };
    sections(settings, &mut out);
    for entry in &settings.entries {
        (out.scope, out.place) = (entry.scope.clone(), Some(entry.place.clone()));
        if let Value::Unread(unread) = &entry.value {
            out.note(format!("{}: {}", entry.name, not_run(unread)));
            continue;
        }
        match options::rule(&entry.name) {
            Some(Rule::Same(section, key)) => out.same(section, key, &entry.name, &entry.value),
            Some(Rule::Nothing(why)) => out.note(format!("{}: {why}", entry.name)),
            Some(Rule::Silent) => {}
            Some(Rule::By(by)) => by(&mut out, &entry.name, &entry.value),
            None => out.note(format!("{}: there is no equal here", entry.name)),
        }
    }
    (out.scope, out.place) = (Scope::Global, None);
    options::listeners(&mut out, settings);
    out.to_toml()
}

/// Hosts, rooms and programs of their own.
fn sections(settings: &Settings, out: &mut Out) {
    let (mut hosts, mut rooms, mut nodes, mut secrets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let of = |scope: &Scope, name: &str| {
        settings.entries.iter().rev().find(|e| e.scope == *scope && e.name == name).map(|e| &e.value)
    };
    let mut seen = BTreeSet::new();
    for (scope, place) in &settings.scopes {
        out.place = Some(place.clone());
        let (Scope::Host(name) | Scope::Component(name, _)) = scope else { continue };
        let Some(domain) = Jid::parse(name).ok().filter(Jid::is_host).map(|jid| jid.domain().to_string()) else {
            out.note(format!("{name:?} is no domain"));
            continue;
        };
        if !seen.insert(domain.clone()) {
            continue;
        }
        match scope {
            _ if of(scope, "enabled") == Some(&Value::Bool(false)) => out.note(format!("{name} is not enabled")),
            Scope::Host(_) => hosts.push(domain),
            Scope::Component(_, Some(module)) if module == "muc" => rooms.push(domain),
            Scope::Component(_, Some(module)) if module == "pubsub" => nodes.push(domain),
            Scope::Component(_, Some(module)) => out.component(&domain, module),
            _ => match of(scope, "component_secret").or_else(|| settings.global("component_secret")) {
                Some(Value::Text(secret)) => secrets.push(format!("{domain}={}", String::from_utf8_lossy(secret))),
                _ => out.note(format!("{domain}: no secret was found; write it into components.secrets")),
            },
        }
    }
    out.place = None;
    let list = |names: Vec<String>| setting::Value::List(names.into_iter().map(setting::Value::Str).collect());
    if hosts.is_empty() {
        out.note("there is no VirtualHost: write your domain into hosts".to_string());
    } else {
        out.set("", "hosts", list(hosts));
    }
    if !rooms.is_empty() {
        out.set("modules.muc", "hosts", list(rooms));
    }
    if !nodes.is_empty() {
        out.set("modules.pubsub", "hosts", list(nodes));
        // There, too, unless a role was given more rights.
        out.set("modules.pubsub", "creators", setting::Value::Str("admins".to_string()));
    }
    if !secrets.is_empty() {
        out.set("components", "secrets", list(secrets));
    }
}

impl Out {
    /// Says something of the option at hand.
    pub(super) fn note(&mut self, what: String) {
        let of = match &self.scope {
            Scope::Global => what,
            Scope::Host(name) | Scope::Component(name, _) => format!("{name}: {what}"),
        };
        self.notes.push((self.place.clone(), of));
    }

    /// A component of a module.
    fn component(&mut self, domain: &str, module: &str) {
        if let Some(why) = options::module(module).unwrap_or(Some("there is no equal here")) {
            self.note(format!("Component {domain:?} {module:?}: {why}"));
        } else {
            self.note(format!("Component {domain:?} {module:?}: it needs no domain of its own here"));
        }
    }

    /// Sets a key to the value of an option.
    pub(super) fn same(&mut self, section: &'static str, key: &'static str, option: &str, value: &Value) {
        match plain(value) {
            Some(value) => self.try_set(section, key, option, value),
            None => self.note(format!("{option}: a value of this form is not understood")),
        }
    }

    /// Sets a key; of a value that it refuses a line is left.
    pub(super) fn try_set(&mut self, section: &'static str, key: &'static str, option: &str, value: setting::Value) {
        if let Err(why) = self.attempt(section, key, value) {
            self.note(format!("{option}: {}: {why}", full_name(section, key)));
        }
    }

    /// Sets a key that accepts the value in any case.
    pub(super) fn set(&mut self, section: &'static str, key: &'static str, value: setting::Value) {
        self.try_set(section, key, key, value);
    }

    fn attempt(&mut self, section: &'static str, key: &'static str, value: setting::Value) -> Result<(), String> {
        if let Some(old) = self.keys.iter().find(|k| k.section == section && k.key == key)
            && old.value != value
            && self.scope != Scope::Global
            && old.scope != self.scope
            && self.hosts > 1
        {
            return Err("it differs between hosts, and is for all of them here".to_string());
        }
        self.config.try_set(section, key, &value)?;
        self.keys.retain(|k| k.section != section || k.key != key);
        self.keys.push(Key { section, key, value, scope: self.scope.clone() });
        Ok(())
    }

    /// True when a key was set.
    pub(super) fn has(&self, section: &str, key: &str) -> bool {
        self.keys.iter().any(|k| k.section == section && k.key == key)
    }

    /// Adds to a list.
    pub(super) fn add(&mut self, section: &'static str, key: &'static str, option: &str, item: String) {
        let found = self.keys.iter().find(|k| k.section == section && k.key == key);
        let mut list = match found.map(|k| &k.value) {
            Some(setting::Value::List(list)) => list.clone(),
            _ => Vec::new(),
        };
        let item = setting::Value::Str(item);
        if !list.contains(&item) {
            list.push(item);
        }
        self.keys.retain(|k| k.section != section || k.key != key);
        self.try_set(section, key, option, setting::Value::List(list));
    }

    fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut line = |what: std::fmt::Arguments<'_>| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{what}");
        };
        line(format_args!("# Converted from a configuration of Prosody. `couplet check` says what is wrong with it."));
        let mut sections: Vec<&str> = self.keys.iter().map(|k| k.section).collect();
        let order = self.config.clone().section_names();
        sections.sort_by_key(|name| order.iter().position(|n| n == name));
        sections.dedup();
        for section in sections {
            line(format_args!(""));
            if !section.is_empty() {
                line(format_args!("[{section}]"));
            }
            for Key { key, value, .. } in self.keys.iter().filter(|k| k.section == section) {
                line(format_args!("{key} = {}", shown(value)));
            }
        }
        if !self.notes.is_empty() {
            line(format_args!("\n# What has no equal, or needs a look:"));
        }
        for (place, what) in &self.notes {
            let place = place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
            line(format_args!("# {}", format!("{place}{what}").replace(char::is_control, " ")));
        }
        text
    }
}

fn full_name(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_string() } else { format!("{section}.{key}") }
}

/// The value as TOML.
fn shown(value: &setting::Value) -> String {
    match value {
        setting::Value::Str(text) | setting::Value::Text(text) => quote(text),
        setting::Value::Int(n) => n.to_string(),
        setting::Value::Float(n) => format!("{n:?}"),
        setting::Value::Bool(is) => is.to_string(),
        setting::Value::List(list) => format!("[{}]", list.iter().map(shown).collect::<Vec<_>>().join(", ")),
    }
}

/// The value as one of ours; none for tables with keys, and for what is not known.
pub fn plain(value: &Value) -> Option<setting::Value> {
    let scalar = |value: &Value| match value {
        Value::Bool(is) => Some(setting::Value::Bool(*is)),
        Value::Int(n) => Some(setting::Value::Int(*n)),
        Value::Float(n) => Some(setting::Value::Float(*n)),
        Value::Text(_) => value.text().map(|text| setting::Value::Str(text.to_string())),
        Value::Nil | Value::Table(_) | Value::Unread(_) => None,
    };
    match value {
        Value::Table(Table(fields)) => {
            let items: Option<Vec<_>> = fields
                .iter()
                .map(|(key, value)| matches!(key, Value::Int(_)).then(|| scalar(value)).flatten())
                .collect();
            items.map(setting::Value::List)
        }
        value => scalar(value),
    }
}

//! Reading the file and the environment.

use super::prosody::{self, Translation};
use super::{Config, ConfigError, FILE_VARIABLE, Origin, SYSTEM_FILE, check, full_name, variable};
use crate::fault::{Fault, armed};
use crate::modules::KNOWN;
use crate::setting::{Value, nearest, quote};
use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use toml_span::ErrorKind;
use toml_span::value::{Table, ValueInner};
use zeroize::Zeroizing;

/// Bytes of the largest file that is read, of configuration and of `_FILE` variables.
const FILE_BYTES_MAX: u64 = 1 << 18;

const PREFIX: &str = "COUPLET_";
const FROM_FILE: &str = "_FILE";
/// That of Prosody's container image.
const ALIAS_PREFIX: &str = "PROSODY_";

pub fn load(
    path: Option<&Path>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Config, Vec<ConfigError>> {
    let mut reader = Reader { config: Config::default(), errors: Vec::new() };
    let env = reader.variables(env);
    let named = value_of(&env, FILE_VARIABLE).map(Path::new);
    let system = Some(Path::new(SYSTEM_FILE)).filter(|file| file.exists());
    if let Some(file) = path.or(named).or(system) {
        reader.config.file = Some(file.to_path_buf());
        reader.file(file);
    }
    reader.environment(&env);
    check::check(&mut reader.config, &mut reader.errors);
    if reader.errors.is_empty() { Ok(reader.config) } else { Err(reader.errors) }
}

struct Reader {
    config: Config,
    errors: Vec<ConfigError>,
}

/// A text with its name, to turn offsets into places.
struct Source<'a> {
    file: String,
    text: &'a str,
}

impl Source<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = match armed(Fault::PlaceMiscounted) {
            false => self.text.get(..offset).unwrap_or(self.text),
            true => &self.text[..self.text.len().min(offset + 1)],
        };
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        Origin::File { file: self.file.clone(), line, column }
    }

    /// Where a value starts; the parser's span of a text leaves its quotes out.
    fn start(&self, value: &toml_span::Value<'_>) -> usize {
        let before = self.text.get(..value.span.start).unwrap_or_default();
        match value.as_ref() {
            ValueInner::String(_) => before.trim_end_matches(['"', '\'']).len(),
            _ => before.len(),
        }
    }

    fn place(&self, offset: usize) -> String {
        match self.origin(offset) {
            Origin::File { file, line, column } => format!("{file}:{line}:{column}"),
            Origin::Default | Origin::Environment(_) => self.file.clone(),
        }
    }
}

impl Reader {
    fn file(&mut self, file: &Path) {
        let name = file.display().to_string();
        match read_text(file) {
            Ok(text) => self.text(&Source { file: name, text: &text }),
            Err(e) => self.errors.push(ConfigError { place: name, text: e }),
        }
    }

    fn text(&mut self, source: &Source<'_>) {
        let root = match toml_span::parse(source.text) {
            Ok(root) => root,
            Err(e) => {
                let what = match &e.kind {
                    ErrorKind::UnexpectedEof => "the file ends in the middle of something".to_string(),
                    ErrorKind::UnquotedString => "a text needs \"quotes\"".to_string(),
                    _ => e.to_string().replace('\n', " "),
                };
                let text = format!("this is not TOML: {what}");
                return self.errors.push(ConfigError { place: source.place(e.span.start), text });
            }
        };
        let mut tables: Vec<(String, &Table<'_>)> = Vec::new();
        tables.extend(root.as_table().map(|table| (String::new(), table)));
        let mut found: Vec<(usize, Result<(), ConfigError>)> = Vec::new();
        // A list of what is still to be visited stands in for recursion.
        while let Some((section, table)) = tables.pop() {
            for (key, value) in table {
                let at = key.span.start;
                if let ValueInner::Table(inner) = value.as_ref() {
                    let name = full_name(&section, &key.name);
                    match self.section_error(&section, &name) {
                        None => tables.push((name, inner)),
                        Some(text) => found.push((at, Err(ConfigError { place: source.place(at), text }))),
                    }
                } else {
                    let (at, result) = match plain(value.as_ref()) {
                        Ok(plain) => self.set(&section, &key.name, &plain).map_or_else(
                            |e| if e.is_about_key { (at, Err(e.text)) } else { (source.start(value), Err(e.text)) },
                            |()| (at, Ok(())),
                        ),
                        Err(text) => (source.start(value), Err(format!("{}: {text}", full_name(&section, &key.name)))),
                    };
                    if result.is_ok() {
                        self.config.origins.push((full_name(&section, &key.name), source.origin(at)));
                    }
                    found.push((at, result.map_err(|text| ConfigError { place: source.place(at), text })));
                }
            }
        }
        // In the order of the file, not of the alphabet.
        found.sort_by_key(|(at, _)| *at);
        self.errors.extend(found.into_iter().filter_map(|(_, result)| result.err()));
    }

    /// Sets a key; the error names it.
    fn set(&mut self, section: &str, key: &str, value: &Value) -> Result<(), SetError> {
        let Some(target) = self.config.sections().into_iter().find(|s| s.name() == section) else {
            // Only a folder of sections, such as one above all modules, gets here without one of its own.
            return Err(SetError::key(format!("{} has no keys of its own", quote(section))));
        };
        if target.fields().iter().any(|field| field.key == key) {
            return target.set(key, value).map_err(|text| SetError {
                text: format!("{}: {text}", full_name(section, key)),
                is_about_key: false,
            });
        }
        Err(SetError::key(self.unknown_key(section, key)))
    }

    fn unknown_key(&mut self, section: &str, key: &str) -> String {
        let unknown = format!("unknown key {}", quote(&full_name(section, key)));
        let sections = self.config.sections();
        let own = sections.iter().filter(|s| s.name() == section).flat_map(|s| s.fields());
        if let Some(near) = nearest(key, own.map(|field| field.key)) {
            return format!("{unknown}; did you mean {}?", quote(near));
        }
        if sections.iter().any(|s| s.name() == full_name(section, key)) {
            return format!("{} is a section; write [{}] on a line of its own", quote(key), full_name(section, key));
        }
        let elsewhere = sections.iter().find(|s| s.fields().iter().any(|field| field.key == key));
        match elsewhere.map(|s| s.name()) {
            Some("") => format!("{unknown}; it belongs to the top of the file, above the first section"),
            Some(name) => format!("{unknown}; it belongs under [{name}]"),
            None => format!("{unknown}; `couplet config example` lists all keys"),
        }
    }

    /// Why `name` cannot be a section, if it cannot.
    fn section_error(&mut self, parent: &str, name: &str) -> Option<String> {
        let sections = self.config.sections();
        let inside = format!("{name}.");
        if sections.iter().any(|s| s.name() == name || s.name().starts_with(&inside)) {
            return None;
        }
        let key = name.rsplit('.').next().unwrap_or(name);
        let is_key =
            |s: &&mut dyn crate::setting::Section| s.name() == parent && s.fields().iter().any(|f| f.key == key);
        if sections.iter().any(is_key) {
            return Some(format!("{} is a key, not a section; write {key} = ...", quote(name)));
        }
        if let Some(module) = name.strip_prefix("modules.").filter(|m| KNOWN.iter().any(|(known, _)| known == m)) {
            return Some(format!("this build has no module {}; remove [{name}]", quote(module)));
        }
        // A slip is looked for among the sections beside it, by the part that is its own.
        let siblings = sections.iter().filter_map(|s| match s.name().rsplit_once('.') {
            Some((above, own)) => (above == parent).then_some(own),
            None => (parent.is_empty() && !s.name().is_empty()).then_some(s.name()),
        });
        Some(match nearest(key, siblings) {
            Some(near) => format!("unknown section [{name}]; did you mean [{}]?", full_name(parent, near)),
            None => format!("unknown section [{name}]; `couplet config example` lists all sections"),
        })
    }

    /// The variables that are ours, as text and in order.
    fn variables(&mut self, env: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<(String, String)> {
        let mut ours = Vec::new();
        for (name, value) in env {
            let is_ours = |name: &&str| name.starts_with(PREFIX) || name.starts_with(ALIAS_PREFIX);
            let Some(name) = name.to_str().filter(is_ours) else { continue };
            match value.into_string() {
                Ok(value) => ours.push((name.to_string(), value)),
                Err(_) => {
                    let text = "this is not UTF-8; write it in UTF-8".to_string();
                    self.errors.push(ConfigError { place: name.to_string(), text });
                }
            }
        }
        let (aliases, mut ours): (Vec<_>, Vec<_>) =
            ours.into_iter().partition(|(name, _)| name.starts_with(ALIAS_PREFIX));
        for (name, value) in &aliases {
            match prosody::translate(name, value, |other| value_of(&aliases, other).cloned()) {
                // What is said in our own words counts.
                Translation::Is(translated) => ours.extend(
                    translated.into_iter().filter(|(own, _)| value_of(&ours, own).is_none()).collect::<Vec<_>>(),
                ),
                Translation::Nothing(why) => self.config.warnings.push(format!("{name} means nothing here: {why}")),
            }
        }
        ours.sort();
        ours
    }

    fn environment(&mut self, env: &[(String, String)]) {
        let keys: Vec<(String, (&'static str, &'static str))> = self
            .config
            .sections()
            .iter()
            .flat_map(|s| s.fields().into_iter().map(|f| (variable(s.name(), f.key), (s.name(), f.key))))
            .collect();
        for (name, value) in env {
            if name == FILE_VARIABLE {
                continue;
            }
            // A key may itself end in "file", so the whole name goes first.
            let (key, text) = match (value_of(&keys, name), name.strip_suffix(FROM_FILE)) {
                (Some(key), _) => (key, Ok(value.clone())),
                (None, Some(base)) if value_of(env, base).is_some() && value_of(&keys, base).is_some() => {
                    let text = format!("{base} is set, too; remove one of them");
                    self.errors.push(ConfigError { place: name.clone(), text });
                    continue;
                }
                (None, base) => match base.and_then(|base| value_of(&keys, base)) {
                    Some(key) => {
                        (key, read_text(Path::new(value)).map(|t| t.trim_end_matches(['\r', '\n']).to_string()))
                    }
                    None => {
                        self.config.warnings.push(unknown_variable(name, keys.iter().map(|(key, _)| key.as_str())));
                        continue;
                    }
                },
            };
            let (section, key) = *key;
            let result = text.and_then(|text| self.set(section, key, &Value::Text(text)).map_err(|e| e.text));
            match result {
                Ok(()) => {
                    self.config.origins.push((full_name(section, key), Origin::Environment(name.clone())));
                }
                Err(text) => self.errors.push(ConfigError { place: name.clone(), text }),
            }
        }
    }
}

/// Why a key could not be set.
struct SetError {
    text: String,
    /// The key is wrong, not its value.
    is_about_key: bool,
}

impl SetError {
    fn key(text: String) -> Self {
        Self { text, is_about_key: true }
    }
}

fn value_of<'a, T>(list: &'a [(String, T)], name: &str) -> Option<&'a T> {
    list.iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

fn unknown_variable<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    match nearest(name, known) {
        Some(near) => format!("{name}: no key has this name; did you mean {near}?"),
        None => format!("{name}: no key has this name; `couplet config example` lists all keys"),
    }
}

/// A value of TOML as ours. Lists hold no lists and no tables: no key needs them.
fn plain(value: &ValueInner<'_>) -> Result<Value, String> {
    let scalar = |value: &ValueInner<'_>| match value {
        ValueInner::String(s) => Some(Value::Str(s.to_string())),
        ValueInner::Integer(n) => Some(Value::Int(*n)),
        ValueInner::Float(n) => Some(Value::Float(*n)),
        ValueInner::Boolean(b) => Some(Value::Bool(*b)),
        ValueInner::Array(_) | ValueInner::Table(_) => None,
    };
    match value {
        ValueInner::Array(items) => {
            let items: Option<Vec<Value>> = items.iter().map(|item| scalar(item.as_ref())).collect();
            items.map(Value::List).ok_or_else(|| "a list holds texts, numbers, true and false only".to_string())
        }
        value => scalar(value).ok_or_else(|| "this is a section, not a value".to_string()),
    }
}

/// The text of a small file. It may hold secrets.
fn read_text(path: &Path) -> Result<Zeroizing<String>, String> {
    let cannot = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_string(),
        std::io::ErrorKind::PermissionDenied => "not allowed to read this file".to_string(),
        std::io::ErrorKind::InvalidData => "this file is not UTF-8".to_string(),
        _ => format!("cannot read this file: {e}"),
    };
    let mut text = Zeroizing::new(String::new());
    let file = std::fs::File::open(path).map_err(cannot)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(cannot)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        Err(format!("this file has more than {FILE_BYTES_MAX} bytes"))
    } else {
        Ok(text)
    }
}

//! Reading the file and the environment.

use super::prosody::{self, Translation};
use super::{Config, ConfigError, FILE_VARIABLE, Origin, SYSTEM_FILE, check, full_name, variable};
use crate::fault::{Fault, armed};
use crate::modules::KNOWN;
use crate::setting::{Section, Value, nearest, quote, rows};
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
        match read_text(file, FILE_BYTES_MAX) {
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
                let name = full_name(&section, &key.name);
                match value.as_ref() {
                    ValueInner::Table(inner) => match self.section_error(&section, &name) {
                        None => tables.push((name, inner)),
                        Some(text) => found.push((at, Err(ConfigError { place: source.place(at), text }))),
                    },
                    ValueInner::Array(items) if items.first().is_some_and(|item| item.as_table().is_some()) => {
                        self.rows(&section, &name, at, items, source, &mut found);
                    }
                    _ => found.push(self.value(&section, &key.name, at, value, source)),
                }
            }
        }
        // In the order of the file, not of the alphabet.
        found.sort_by_key(|(at, _)| *at);
        self.errors.extend(found.into_iter().filter_map(|(_, result)| result.err()));
    }

    /// A key and its value, with where it stands.
    fn value(
        &mut self,
        section: &str,
        key: &str,
        at: usize,
        value: &toml_span::Value<'_>,
        source: &Source<'_>,
    ) -> (usize, Result<(), ConfigError>) {
        let name = full_name(section, key);
        let (at, result) = match plain(value.as_ref()) {
            Ok(plain) => self.set(section, key, &plain).map_or_else(
                |e| if e.is_about_key { (at, Err(e.text)) } else { (source.start(value), Err(e.text)) },
                |()| (at, Ok(())),
            ),
            Err(text) => (source.start(value), Err(format!("{name}: {text}"))),
        };
        if result.is_ok() {
            self.config.origins.push((name, source.origin(at)));
        }
        (at, result.map_err(|text| ConfigError { place: source.place(at), text }))
    }

    /// What stands under double brackets, each time.
    fn rows(
        &mut self,
        parent: &str,
        name: &str,
        at: usize,
        items: &[toml_span::Value<'_>],
        source: &Source<'_>,
        found: &mut Vec<(usize, Result<(), ConfigError>)>,
    ) {
        if rows::rows_of(self.config.sections(), name).is_none() {
            let text = match self.section_error(parent, name) {
                None => format!("{} is there once; write [{name}]", quote(name)),
                Some(text) => text,
            };
            return found.push((at, Err(ConfigError { place: source.place(at), text })));
        }
        for item in items {
            let table = item.as_table();
            let at = table.and_then(|table| table.keys().map(|key| key.span.start).min()).unwrap_or(at);
            let (Some(table), Some(number)) = (table, self.add_row(name)) else {
                let text = match table {
                    None => format!("{name}: each of them is a section; write [[{name}]] above its keys"),
                    Some(_) => format!("{name}: there are more than {}", rows::ROWS_MAX),
                };
                return found.push((at, Err(ConfigError { place: source.place(at), text })));
            };
            let row = full_name(name, &number.to_string());
            self.config.origins.push((row.clone(), source.origin(at)));
            for (key, value) in table {
                found.push(self.value(&row, &key.name, key.span.start, value, source));
            }
        }
    }

    /// The number of a new row.
    fn add_row(&mut self, name: &str) -> Option<usize> {
        let rows = rows::rows_of(self.config.sections(), name)?;
        rows.add().then(|| rows.count())
    }

    /// Sets a key; the error names it.
    fn set(&mut self, section: &str, key: &str, value: &Value) -> Result<(), SetError> {
        let Some(target) = rows::find(self.config.sections(), section) else {
            // Only a folder of sections, such as one above all modules, gets here without one of its own.
            return Err(SetError::key(format!("{} has no keys of its own", quote(section))));
        };
        let fields = target.fields();
        if fields.iter().any(|field| field.key == key) {
            return target.set(key, value).map_err(|text| SetError {
                text: format!("{}: {text}", full_name(section, key)),
                is_about_key: false,
            });
        }
        if let Some(near) = nearest(key, fields.iter().map(|field| field.key)) {
            let text = format!("unknown key {}; did you mean {}?", quote(&full_name(section, key)), quote(near));
            return Err(SetError::key(text));
        }
        Err(SetError::key(self.unknown_key(section, key)))
    }

    fn unknown_key(&mut self, section: &str, key: &str) -> String {
        let name = full_name(section, key);
        let unknown = format!("unknown key {}", quote(&name));
        if rows::rows_of(self.config.sections(), &name).is_some() {
            return several(&name);
        }
        let sections = self.config.sections();
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
        if rows::rows_of(self.config.sections(), name).is_some() {
            return Some(several(name));
        }
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

    /// Makes the rows that variables such as `COUPLET_RULES__1__ACTION` are about.
    fn rows_of_environment(&mut self, env: &[(String, String)]) {
        let names: Vec<&'static str> =
            self.config.sections().into_iter().flat_map(Section::rows).map(|rows| rows.name()).collect();
        for (variable_name, _) in env {
            for name in &names {
                let number = variable_name
                    .strip_prefix(&variable("", name))
                    .and_then(|rest| rest.strip_prefix("__")?.split_once("__"))
                    .map(|(number, _)| number);
                if let Some(number) = number {
                    rows::make(self.config.sections(), &full_name(name, number));
                }
            }
        }
    }

    fn environment(&mut self, env: &[(String, String)]) {
        self.rows_of_environment(env);
        let mut keys: Vec<(String, (String, &'static str))> = Vec::new();
        for section in self.config.sections() {
            let mut add = |name: &str, section: &dyn Section| {
                keys.extend(section.fields().iter().map(|f| (variable(name, f.key), (name.to_string(), f.key))));
            };
            add(section.name(), section);
            for rows in section.rows() {
                for number in 1..=rows.count() {
                    let name = full_name(rows.name(), &number.to_string());
                    if let Some(row) = rows.row(number) {
                        add(&name, row);
                    }
                }
            }
        }
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
                    Some(key) => (
                        key,
                        read_text(Path::new(value), FILE_BYTES_MAX)
                            .map(|t| t.trim_end_matches(['\r', '\n']).to_string()),
                    ),
                    None => {
                        self.config.warnings.push(unknown_variable(name, keys.iter().map(|(key, _)| key.as_str())));
                        continue;
                    }
                },
            };
            let (section, key) = key;
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

/// How to write what there may be several of.
fn several(name: &str) -> String {
    format!("there may be several of {}; write [[{name}]] above each", quote(name))
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
pub(super) fn read_text(path: &Path, bytes_max: u64) -> Result<Zeroizing<String>, String> {
    let cannot = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_string(),
        std::io::ErrorKind::PermissionDenied => "not allowed to read this file".to_string(),
        std::io::ErrorKind::InvalidData => "this file is not UTF-8".to_string(),
        _ => format!("cannot read this file: {e}"),
    };
    let mut text = Zeroizing::new(String::new());
    let file = std::fs::File::open(path).map_err(cannot)?;
    file.take(bytes_max + 1).read_to_string(&mut text).map_err(cannot)?;
    if text.len() as u64 > bytes_max { Err(format!("this file has more than {bytes_max} bytes")) } else { Ok(text) }
}

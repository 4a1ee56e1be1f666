//! Files of lists: an entry in each line.

use super::check::at;
use super::{Config, ConfigError};
use crate::modules::rules::{Holds, List, check_address};
use std::path::{Path, PathBuf};

/// The files that lists name. Relative paths count from the folder of the configuration file.
pub fn files(config: &Config) -> Vec<PathBuf> {
    let named = config.modules.rules.lists.iter().filter(|list| !list.file.is_empty());
    named.map(|list| path(config, &list.file)).collect()
}

fn path(config: &Config, file: &str) -> PathBuf {
    config.file.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).join(file)
}

/// Reads what is in the files, for [`add`].
pub fn read(config: &mut Config, errors: &mut Vec<ConfigError>) {
    let lists = config.modules.rules.lists.clone();
    for (number, list) in lists.iter().enumerate().filter(|(_, list)| !list.file.is_empty()) {
        let path = path(config, &list.file);
        let text = match super::read::read_text(&path, config.limits.rules_list_bytes_max.into()) {
            Ok(text) => text,
            Err(why) => {
                let text = format!("{}: {why}", path.display());
                errors.push(at(config, &format!("lists.{}", number + 1), "file", text));
                continue;
            }
        };
        let mut entries = Vec::new();
        for (line, entry) in (1..).zip(text.lines()) {
            let entry = entry.trim();
            if entry.is_empty() || entry.starts_with('#') {
                continue;
            }
            match check_address(entry) {
                Err(text) if list.holds == Holds::Addresses => {
                    errors.push(ConfigError { place: format!("{}:{line}", path.display()), text });
                }
                _ => entries.push(entry.to_string()),
            }
        }
        config.listed.push((number, entries));
    }
}

/// Adds what was read to the lists.
pub fn add(listed: &[(usize, Vec<String>)], lists: &mut [List]) {
    for (number, entries) in listed {
        if let Some(list) = lists.get_mut(*number) {
            list.entries.extend_from_slice(entries);
        }
    }
}

//! The configuration as text: what is in force, and the commented example.

use super::{Config, Origin};
use std::fmt::Write as _;

/// Column at which the origin of a value stands.
const ORIGIN_COLUMN: usize = 48;

pub fn effective(config: &Config) -> String {
    let mut out = String::new();
    let mut copy = config.clone();
    for section in copy.sections() {
        let fields = section.fields();
        if !section.name().is_empty() && !fields.is_empty() {
            line(&mut out, format_args!("\n[{}]", section.name()));
        }
        for field in fields {
            let value = format!("{} = {}", field.key, section.show(field.key).unwrap_or_default());
            let origin = match config.origin(section.name(), field.key) {
                Origin::Default => "default".to_string(),
                Origin::Environment(variable) => variable.clone(),
                Origin::File { file, line, .. } => format!("{file}:{line}"),
            };
            line(&mut out, format_args!("{value:<ORIGIN_COLUMN$} # {origin}"));
        }
    }
    out
}

pub fn example() -> String {
    let mut out = String::new();
    for section in Config::default().sections() {
        if !section.name().is_empty() {
            out.push('\n');
        }
        for text in section.doc() {
            comment(&mut out, text);
        }
        if section.name().is_empty() {
            out.push('\n');
        } else {
            line(&mut out, format_args!("[{}]", section.name()));
        }
        for field in section.fields() {
            for text in field.doc {
                comment(&mut out, text);
            }
            line(&mut out, format_args!("#{} = {}", field.key, field.default));
        }
    }
    out
}

fn comment(out: &mut String, text: &str) {
    match text.trim() {
        "" => out.push_str("#\n"),
        text => line(out, format_args!("# {text}")),
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

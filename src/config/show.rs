//! The configuration as text: what is in force, and the commented example.

use super::{Config, Origin, full_name};
use crate::setting::Section;
use std::fmt::Write as _;

/// Column at which the origin of a value stands.
const ORIGIN_COLUMN: usize = 48;

pub fn effective(config: &Config) -> String {
    let mut out = String::new();
    let mut copy = config.clone();
    for section in copy.sections() {
        if !section.name().is_empty() && !section.fields().is_empty() {
            line(&mut out, format_args!("\n[{}]", section.name()));
        }
        for field in section.fields() {
            value(&mut out, config, section, section.name(), field.key);
        }
        for rows in section.rows() {
            for number in 1..=rows.count() {
                let name = full_name(rows.name(), &number.to_string());
                line(&mut out, format_args!("\n[[{}]]", rows.name()));
                let Some(row) = rows.row(number) else { continue };
                for field in row.fields() {
                    if row.show(field.key).as_ref() != Some(&field.default) {
                        value(&mut out, config, row, &name, field.key);
                    }
                }
            }
        }
    }
    out
}

/// A key with where its value comes from.
fn value(out: &mut String, config: &Config, section: &dyn Section, name: &str, key: &str) {
    let value = format!("{key} = {}", section.show(key).unwrap_or_default());
    let origin = match config.origin(name, key) {
        Origin::Default => "default".to_string(),
        Origin::Environment(variable) => variable.clone(),
        Origin::File { file, line, .. } => format!("{file}:{line}"),
    };
    line(out, format_args!("{value:<ORIGIN_COLUMN$} # {origin}"));
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
        // Of what there may be several, an example is there in words alone: one that is uncommented would be one.
        for rows in section.rows() {
            let blank = rows.blank();
            out.push('\n');
            for text in blank.doc() {
                comment(&mut out, text);
            }
            line(&mut out, format_args!("# [[{}]]", rows.name()));
            for field in blank.fields() {
                for text in field.doc {
                    comment(&mut out, &format!("#{text}"));
                }
                line(&mut out, format_args!("# {} = {}", field.key, field.default));
            }
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

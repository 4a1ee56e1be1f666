//! `[limits]`: one key for each row of the table of limits.

use crate::limits::{LimitInfo, Limits, TABLE, Unit};
use crate::setting::{Bytes, Field, Seconds, Section, Setting, Value};

/// Rows that nothing works below: less would refuse ordinary stanzas, or stop the server from getting on at all.
const MINIMA: &[(&str, u32)] = &[
    // RFC 6120 section 13.12.
    ("stanza_bytes_max", 10_000),
    ("stanza_bytes_max_before_auth", 2000),
    ("depth_max", 8),
    ("attributes_max", 8),
    ("namespaces_max", 8),
    ("nodes_max", 64),
    ("prefixes_max", 1),
    ("templates_max", 1),
    ("connections_max", 1),
    ("new_connection_burst", 1),
    ("resources_max", 1),
    ("sasl_tries_max", 1),
    ("tls_timeout_s", 1),
    ("auth_timeout_s", 1),
    ("close_timeout_s", 1),
    ("hash_queue_max", 1),
    ("out_bytes_max", 16_384),
    ("out_window_bytes", 4096),
    ("tick_inputs_max", 1),
    ("turn_stanzas_max", 1),
    ("tick_handshakes_max", 1),
    ("store_pending_bytes_max", 65_536),
];

impl Section for Limits {
    fn name(&self) -> &'static str {
        "limits"
    }

    fn doc(&self) -> &'static [&'static str] {
        &[" Bounds of everything that strangers and users can make grow."]
    }

    fn fields(&self) -> Vec<Field> {
        TABLE
            .iter()
            .map(|row| Field {
                key: row.name,
                doc: std::slice::from_ref(&row.reason),
                kind: kind(row.unit),
                default: show(row.unit, row.default),
            })
            .collect()
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), String> {
        let row = row(key).ok_or_else(|| format!("unknown key \"{key}\""))?;
        let parsed = parse(row.unit, value)?;
        let min = MINIMA.iter().find(|(name, _)| *name == key).map_or(0, |(_, min)| *min);
        if parsed < min {
            return Err(format!("{} is too small; write {} or more", show(row.unit, parsed), show(row.unit, min)));
        }
        if let Some(limit) = self.by_name(key) {
            *limit = parsed;
        }
        Ok(())
    }

    fn show(&self, key: &str) -> Option<String> {
        let row = row(key)?;
        self.clone().by_name(key).map(|limit| show(row.unit, *limit))
    }
}

/// Every limit with the value in force, for `couplet about`.
pub fn shown(limits: &Limits) -> impl Iterator<Item = (&'static LimitInfo, String)> {
    TABLE.iter().map(|row| (row, Section::show(limits, row.name).unwrap_or_default()))
}

fn row(key: &str) -> Option<&'static LimitInfo> {
    TABLE.iter().find(|row| row.name == key)
}

fn kind(unit: Unit) -> String {
    match unit {
        Unit::Bytes => Bytes::kind(),
        Unit::Seconds => Seconds::kind(),
        Unit::Count | Unit::Milliseconds => u32::kind(),
    }
}

fn parse(unit: Unit, value: &Value) -> Result<u32, String> {
    match unit {
        Unit::Bytes => Bytes::parse(value).map(|size| size.0),
        Unit::Seconds => Seconds::parse(value).map(|duration| duration.0),
        Unit::Count | Unit::Milliseconds => u32::parse(value),
    }
}

fn show(unit: Unit, value: u32) -> String {
    match unit {
        Unit::Bytes => Bytes(value).show(),
        Unit::Seconds => Seconds(value).show(),
        Unit::Count | Unit::Milliseconds => value.show(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_can_be_set_to_its_default_and_shown() {
        let mut limits = Limits::default();
        for field in limits.fields() {
            let value = Value::Text(field.default.trim_matches('"').to_string());
            assert_eq!(Section::set(&mut limits, field.key, &value), Ok(()), "{}", field.key);
            assert_eq!(Section::show(&limits, field.key), Some(field.default));
        }
        assert_eq!(limits, Limits::default());
    }

    #[test]
    fn minima_name_rows_and_are_kept() {
        let mut limits = Limits::default();
        for (name, min) in MINIMA {
            assert!(row(name).is_some_and(|row| row.default >= *min), "{name}");
            assert_eq!(Section::set(&mut limits, name, &Value::Int(i64::from(*min))), Ok(()), "{name}");
            let less = Section::set(&mut limits, name, &Value::Int(i64::from(*min) - 1));
            assert!(less.is_err_and(|e| e.contains("is too small; write ")), "{name}");
        }
        assert_eq!(
            Section::set(&mut limits, "stanza_bytes_max", &Value::Str("9 kB".into())),
            Err("\"9 kB\" is too small; write \"10 kB\" or more".to_string())
        );
    }
}

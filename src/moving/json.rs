//! [JSON](crate::json) as Prosody keeps tables in SQL, read into the values of [`lua`](super::lua).
//!
//! A list has keys from 1. `__array` and `__hash` in an object are what JSON has no words for: members with numbers,
//! and members whose keys are no texts, each followed by its value.

use super::lua::{Table, Value};
use crate::json::{Json, Scalar};

/// Reads a text; none for one that is no JSON, or that is too deep or too large.
pub fn read(text: &str) -> Option<Value> {
    crate::json::read(text)
}

impl Json for Value {
    fn scalar(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Null => Self::Nil,
            Scalar::Bool(is) => Self::Bool(is),
            Scalar::Int(n) => Self::Int(n),
            Scalar::Float(n) => Self::Float(n),
            Scalar::Text(text) => Self::Text(text.into_bytes()),
        }
    }

    fn list(items: Vec<Self>) -> Self {
        let fields = (1..).map(Self::Int).zip(items);
        Self::Table(Table(fields.filter(|(_, value)| *value != Self::Nil).collect()))
    }

    fn object(members: Vec<(String, Self)>) -> Self {
        let mut fields = Vec::with_capacity(members.len());
        for (name, value) in members {
            match (name.as_str(), value) {
                ("__array", Self::Table(Table(list))) => fields.extend(list),
                ("__hash", Self::Table(Table(list))) => {
                    let mut list = list.into_iter().map(|(_, value)| value);
                    while let (Some(key), Some(value)) = (list.next(), list.next()) {
                        fields.push((key, value));
                    }
                }
                (_, value) => fields.push((Self::Text(name.into_bytes()), value)),
            }
        }
        fields.retain(|(_, value)| *value != Self::Nil);
        Self::Table(Table(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lua_has_beyond_json_is_read() {
        let text = r#" { "a\u00e9\ud83d\ude00" : [ 1, -2.5e3, true, null, "x" ], "__array": ["one", {}],
            "__hash": [false, {"version": 3}], "n": null } "#;
        let Some(Value::Table(table)) = read(text) else { panic!("{text}") };
        assert_eq!(table.get("aé😀").and_then(Value::table).map(|t| t.0.len()), Some(4));
        assert_eq!(table.list().first().and_then(|v| v.text()), Some("one"));
        let metadata = table.0.iter().find(|(key, _)| *key == Value::Bool(false)).and_then(|(_, v)| v.table());
        assert_eq!(metadata.and_then(|m| m.get("version")), Some(&Value::Int(3)));
        assert_eq!(table.get("n"), None);
    }
}

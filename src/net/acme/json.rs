//! JSON as an authority writes it, within bounds.

use std::collections::HashMap;

use tinyjson::JsonValue;

/// Objects and lists in each other; ACME has five of them. The parser descends for each.
const DEPTH_MAX: usize = 16;

/// An object.
pub struct Json(HashMap<String, JsonValue>);

impl Json {
    /// Reads an object. None when it is none, or too deep.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        if !is_shallow(text) {
            return None;
        }
        text.parse::<JsonValue>().ok().and_then(Self::of)
    }

    fn of(value: JsonValue) -> Option<Self> {
        match value {
            JsonValue::Object(fields) => Some(Self(fields)),
            _ => None,
        }
    }

    /// A text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.get::<String>().map(String::as_str)
    }

    /// A text without control characters, as one may show it to the operator, and no longer than that.
    pub fn shown(&self, name: &str) -> Option<String> {
        self.text(name).map(printable)
    }

    /// An object inside.
    pub fn object(&self, name: &str) -> Option<Self> {
        self.0.get(name).cloned().and_then(Self::of)
    }

    /// The texts of a list; others are left out.
    pub fn texts(&self, name: &str) -> Vec<String> {
        self.list(name).iter().filter_map(|value| value.get::<String>().cloned()).collect()
    }

    /// The objects of a list; others are left out.
    pub fn objects(&self, name: &str) -> Vec<Self> {
        self.list(name).iter().cloned().filter_map(Self::of).collect()
    }

    fn list(&self, name: &str) -> &[JsonValue] {
        self.0.get(name).and_then(|value| value.get::<Vec<JsonValue>>()).map(Vec::as_slice).unwrap_or_default()
    }
}

/// Characters that are shown of a text of the authority.
const SHOWN_MAX: usize = 400;

/// What an authority says, for the log and for a terminal: one line.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN_MAX).collect()
}

/// Whether brackets outside texts nest no deeper than we follow.
fn is_shallow(json: &str) -> bool {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return false;
        }
    }
    true
}

/// A text in quotes (RFC 8259 section 7).
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.extend(format!("\\u{:04x}", u32::from(c)).chars()),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A list of texts.
pub fn quote_all(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| quote(text)).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_found_by_their_kind() {
        let json = Json::parse(br#"{"a":"x","b":true,"c":{"d":"y"},"e":["p",1,"q"],"f":[{"g":"z"},2],"n":null}"#);
        let json = json.unwrap();
        assert_eq!((json.text("a"), json.text("b"), json.text("missing")), (Some("x"), None, None));
        assert_eq!(json.object("c").unwrap().text("d"), Some("y"));
        assert_eq!(json.texts("e"), ["p", "q"]);
        assert_eq!(json.objects("f")[0].text("g"), Some("z"));
        assert_eq!(json.objects("f").len(), 1);
        assert!(Json::parse(b"[1]").is_none() && Json::parse(b"{").is_none() && Json::parse(b"\xff").is_none());
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        assert!(Json::parse(nested(DEPTH_MAX).as_bytes()).is_some());
        assert!(Json::parse(nested(DEPTH_MAX + 1).as_bytes()).is_none());
        assert!(Json::parse("[".repeat(200_000).as_bytes()).is_none());
        assert!(Json::parse(format!(r#"{{"a":"{}\"["}}"#, "[".repeat(99)).as_bytes()).is_some(), "in a text");
    }

    #[test]
    fn what_is_shown_is_one_line() {
        let json = Json::parse(br#"{"a":"x\ny\u001b[2J"}"#).unwrap();
        assert_eq!(json.shown("a").unwrap(), "x y [2J");
        assert_eq!(printable(&"x".repeat(1000)).len(), SHOWN_MAX);
    }

    proptest! {
        #[test]
        fn quoted_texts_come_back(text: String) {
            let json = Json::parse(format!(r#"{{"a":{}}}"#, quote(&text)).as_bytes()).unwrap();
            prop_assert_eq!(json.text("a"), Some(text.as_str()));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Json::parse(&bytes);
        }
    }
}

//! JSON as an authority writes it, within bounds.

use crate::json::{self, Scalar};

/// What an authority says.
#[derive(Clone)]
enum Value {
    Text(String),
    List(Vec<Value>),
    Object(Json),
    /// Nothing that is looked at.
    Other,
}

impl json::Json for Value {
    fn scalar(scalar: Scalar) -> Self {
        if let Scalar::Text(text) = scalar { Self::Text(text) } else { Self::Other }
    }

    fn list(items: Vec<Self>) -> Self {
        Self::List(items)
    }

    fn object(members: Vec<(String, Self)>) -> Self {
        Self::Object(Json(members))
    }
}

/// An object.
#[derive(Clone)]
pub struct Json(Vec<(String, Value)>);

impl Json {
    /// Reads an object. None when it is none, or too deep.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        json::read(std::str::from_utf8(bytes).ok()?).and_then(Self::of)
    }

    fn of(value: Value) -> Option<Self> {
        if let Value::Object(object) = value { Some(object) } else { None }
    }

    /// Of two members with one name the later one counts.
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().rfind(|(own, _)| own == name).map(|(_, value)| value)
    }

    /// A text.
    pub fn text(&self, name: &str) -> Option<&str> {
        if let Value::Text(text) = self.get(name)? { Some(text) } else { None }
    }

    /// A text without control characters, as one may show it to the operator, and no longer than that.
    pub fn shown(&self, name: &str) -> Option<String> {
        self.text(name).map(printable)
    }

    /// An object inside.
    pub fn object(&self, name: &str) -> Option<Self> {
        self.get(name).cloned().and_then(Self::of)
    }

    /// The texts of a list; others are left out.
    pub fn texts(&self, name: &str) -> Vec<String> {
        let text = |value: &Value| if let Value::Text(text) = value { Some(text.clone()) } else { None };
        self.list(name).iter().filter_map(text).collect()
    }

    /// The objects of a list; others are left out.
    pub fn objects(&self, name: &str) -> Vec<Self> {
        self.list(name).iter().cloned().filter_map(Self::of).collect()
    }

    fn list(&self, name: &str) -> &[Value] {
        if let Some(Value::List(list)) = self.get(name) { list } else { &[] }
    }
}

/// Characters that are shown of a text of the authority.
const SHOWN_MAX: usize = 400;

/// What an authority says, for the log and for a terminal: one line.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN_MAX).collect()
}

/// A list of texts.
pub fn quote_all(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| json::quote(text)).collect::<Vec<_>>().join(","))
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
    fn what_is_shown_is_one_line() {
        let json = Json::parse(br#"{"a":"x\ny\u001b[2J"}"#).unwrap();
        assert_eq!(json.shown("a").unwrap(), "x y [2J");
        assert_eq!(printable(&"x".repeat(1000)).len(), SHOWN_MAX);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Json::parse(&bytes);
        }
    }
}

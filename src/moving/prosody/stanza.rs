//! Stanzas as Prosody keeps them: tables with `name`, `attr`, and children by number.

use crate::moving::lua::{Table, Value};
use crate::xml::{Element, escape_attribute, escape_text, ns};
use std::collections::BTreeMap;

/// Bytes of one element as XML.
const XML_BYTES_MAX: usize = 1 << 22;

/// What is still to be written, the next last.
enum Rest<'a> {
    Child(&'a Value),
    End(&'a str),
}

/// The element that a table stands for; `root_ns` is its namespace when it names none.
pub fn element(value: &Value, root_ns: &str) -> Option<Element> {
    read(value, root_ns, false)
}

/// The same of an item of a list, to which its time was added as an attribute.
pub fn item(value: &Value, root_ns: &str) -> Option<Element> {
    read(value, root_ns, true)
}

fn read(value: &Value, root_ns: &str, is_item: bool) -> Option<Element> {
    let mut xml = Vec::new();
    let mut prefixes: BTreeMap<String, usize> = BTreeMap::new();
    let mut rest = vec![Rest::Child(value)];
    let mut is_root = true;
    while let Some(next) = rest.pop() {
        if xml.len() > XML_BYTES_MAX {
            return None;
        }
        match next {
            Rest::End(name) => {
                xml.extend_from_slice(b"</");
                xml.extend_from_slice(name.as_bytes());
                xml.push(b'>');
            }
            Rest::Child(Value::Text(text)) if !is_root => escape_text(std::str::from_utf8(text).ok()?, &mut xml),
            Rest::Child(Value::Table(table)) => {
                let name = table.get("name")?.text().filter(|name| is_name(name))?;
                xml.push(b'<');
                xml.extend_from_slice(name.as_bytes());
                let root_ns = std::mem::take(&mut is_root).then_some(root_ns);
                attributes(table, root_ns, is_item, &mut prefixes, &mut xml)?;
                xml.push(b'>');
                rest.push(Rest::End(name));
                rest.extend(table.list().into_iter().rev().map(Rest::Child));
            }
            Rest::Child(_) => return None,
        }
    }
    crate::xml::parse(std::str::from_utf8(&xml).ok()?).ok()
}

fn attributes(
    table: &Table,
    root_ns: Option<&str>,
    is_item: bool,
    prefixes: &mut BTreeMap<String, usize>,
    xml: &mut Vec<u8>,
) -> Option<()> {
    let mut put = |name: &str, value: &str| {
        xml.push(b' ');
        xml.extend_from_slice(name.as_bytes());
        xml.extend_from_slice(b"='");
        escape_attribute(value, xml);
        xml.push(b'\'');
    };
    let attr = table.get("attr").and_then(Value::table);
    let mut has_ns = false;
    for (name, value) in attr.into_iter().flat_map(Table::named) {
        let Some(value) = text_of(value) else { continue };
        // A namespace stands before a byte of 1, or in what older versions wrote before a bar.
        let parts = name.split_once('\u{1}').or_else(|| name.rsplit_once('|'));
        match (name, parts) {
            ("xmlns", _) => {
                has_ns = true;
                put(name, if root_ns.is_some() && is_stream(&value) { ns::CLIENT } else { &value });
            }
            (_, Some((space, name))) if space == ns::XML => put(&format!("xml:{name}"), &value),
            (_, Some((space, name))) if is_name(name) => {
                let next = prefixes.len();
                let prefix = format!("n{}", prefixes.entry(space.to_string()).or_insert(next));
                put(&format!("xmlns:{prefix}"), space);
                put(&format!("{prefix}:{name}"), &value);
            }
            ("stamp" | "stamp_legacy", _) if root_ns.is_some() && is_item => {}
            ("xml:lang", _) => put(name, &value),
            _ if is_name(name) => put(name, &value),
            _ if name.starts_with("xmlns:") => {}
            _ => return None,
        }
    }
    if let Some(root_ns) = root_ns.filter(|_| !has_ns) {
        put("xmlns", root_ns);
    }
    Some(())
}

fn is_stream(space: &str) -> bool {
    matches!(space, ns::CLIENT | ns::SERVER | ns::COMPONENT)
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Text(_) => value.text().map(str::to_string),
        Value::Int(n) => Some(n.to_string()),
        Value::Float(n) => Some(n.to_string()),
        _ => None,
    }
}

/// A name of XML without prefix, as far as anybody uses it; the parser has the last word.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || ":<>&'\"/=|".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moving::lua;

    fn xml_of(text: &str, root_ns: &str) -> Option<String> {
        let value = lua::data(format!("return {text}").as_bytes()).unwrap();
        item(&value, root_ns).map(|element| element.root().to_xml())
    }

    #[test]
    fn tables_become_elements() {
        let text = r#"{ name = "message"; attr = { to = "a@b"; stamp = "x"; ["xml:lang"] = "de"; };
            { name = "body"; attr = {}; "1 < 2 & \195\164" };
            { name = "x"; attr = { xmlns = "urn:x"; ["urn:y\1k"] = "v"; }; { name = "y"; attr = {}; }; "t"; }; }"#;
        let xml = xml_of(text, ns::CLIENT).unwrap();
        assert!(xml.contains("1 &lt; 2 &amp; ä"), "{xml}");
        assert!(xml.contains("xml:lang='de'") && !xml.contains("stamp"), "{xml}");
        let element = crate::xml::parse(&xml).unwrap();
        let x = element.root().child("urn:x", "x").unwrap();
        assert_eq!(x.attr_ns("urn:y", "k"), Some("v"));
        assert!(x.has_child("urn:x", "y"));
    }

    #[test]
    fn what_is_no_element_is_refused() {
        for text in [
            r#""text""#,
            "{}",
            r#"{ name = "a b"; attr = {}; }"#,
            r#"{ name = "a"; attr = { ["b='c'"] = "d" }; }"#,
            r#"{ name = "a"; attr = {}; true }"#,
            r#"{ name = "a"; attr = {}; "\255" }"#,
            r#"{ name = "a"; attr = {}; "\0" }"#,
        ] {
            assert_eq!(xml_of(text, "urn:x"), None, "{text}");
        }
    }
}

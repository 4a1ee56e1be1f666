//! Data forms (XEP-0004) with a `FORM_TYPE` (XEP-0068), as far as servers read and write them.

use super::{Condition, StanzaError};
use crate::xml::{Builder, ElementRef, ns};

/// A field that a submitted form may have only once, with its values.
pub type Values = (String, Vec<String>);

/// Reads a form of type `submit`: its fields without `FORM_TYPE`, in order.
///
/// # Errors
/// `bad-request` when it is no submitted form, is of another `FORM_TYPE`, or names a field twice or not at all.
pub fn read(x: ElementRef<'_>, form_type: &str) -> Result<Vec<Values>, StanzaError> {
    if !x.is(ns::DATA, "x") || x.attr("type") != Some("submit") {
        return Err(Condition::BadRequest.because("A form of type submit is wanted."));
    }
    let mut fields = fields(x)?;
    match fields.iter().position(|(var, _)| var == "FORM_TYPE") {
        Some(at) if fields.remove(at).1 == [form_type] => Ok(fields),
        _ => Err(Condition::BadRequest.because("The form has another FORM_TYPE than is wanted here.")),
    }
}

/// Reads the fields of a form of any type, in order.
///
/// # Errors
/// `bad-request` when one is there twice or has no name.
pub fn fields(x: ElementRef<'_>) -> Result<Vec<Values>, StanzaError> {
    let mut fields: Vec<Values> = Vec::new();
    for field in x.children().filter(|c| c.is(ns::DATA, "field")) {
        let Some(var) = field.attr("var") else {
            if field.attr("type") == Some("fixed") {
                continue;
            }
            return Err(Condition::BadRequest.because("A field of the form has no name."));
        };
        if fields.iter().any(|(known, _)| known == var) {
            return Err(Condition::BadRequest.because("The form has a field twice."));
        }
        let values = field.children().filter(|c| c.is(ns::DATA, "value")).map(|v| v.text()).collect();
        fields.push((var.to_string(), values));
    }
    Ok(fields)
}

/// True for the form by which somebody takes back what he has begun (XEP-0004 section 3.1).
pub fn is_cancelled(x: ElementRef<'_>) -> bool {
    x.is(ns::DATA, "x") && x.attr("type") == Some("cancel")
}

/// Opens a form of a type (`form`, `result`, `submit`); the caller closes it.
pub fn open(b: &mut Builder, kind: &str, form_type: &str) {
    b.open(ns::DATA, "x").attr("type", kind);
    b.open(ns::DATA, "field").attr("var", "FORM_TYPE").attr("type", "hidden");
    b.leaf(ns::DATA, "value", form_type).close();
}

/// Adds a field. `options` are those of a list.
pub fn field(b: &mut Builder, var: &str, kind: &str, label: &str, options: &[&str], values: &[&str]) {
    b.open(ns::DATA, "field").attr("var", var).attr("type", kind);
    if !label.is_empty() {
        b.attr("label", label);
    }
    for option in options {
        b.open(ns::DATA, "option").leaf(ns::DATA, "value", option).close();
    }
    for value in values {
        b.leaf(ns::DATA, "value", value);
    }
    b.close();
}

/// Reads the value of a boolean field (XEP-0004 section 3.3).
pub fn boolean(values: &[String]) -> Option<bool> {
    match values {
        [value] if value == "1" || value == "true" => Some(true),
        [value] if value == "0" || value == "false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::Element;

    fn form(kind: &str, fields: &[(&str, &str)]) -> Element {
        let mut b = Builder::new("", "a");
        b.open(ns::DATA, "x").attr("type", kind);
        for (var, value) in fields {
            field(&mut b, var, "text-single", "", &[], &[value]);
        }
        b.finish().root().children().next().unwrap().to_element()
    }

    #[test]
    fn a_form_is_read_when_it_is_the_one_that_is_wanted() {
        let right = form("submit", &[("FORM_TYPE", "t"), ("a", "1")]);
        assert_eq!(read(right.root(), "t").unwrap(), [("a".to_string(), vec!["1".to_string()])]);
        for wrong in [
            form("result", &[("FORM_TYPE", "t")]),
            form("submit", &[("FORM_TYPE", "u")]),
            form("submit", &[("a", "1")]),
            form("submit", &[("FORM_TYPE", "t"), ("a", "1"), ("a", "2")]),
            Element::empty(ns::DATA, "y"),
        ] {
            assert_eq!(read(wrong.root(), "t").unwrap_err().condition, Condition::BadRequest);
        }
        assert!(is_cancelled(form("cancel", &[]).root()) && !is_cancelled(right.root()));
    }

    #[test]
    fn a_boolean_has_four_spellings() {
        let of = |text: &str| boolean(&[text.to_string()]);
        assert_eq!((of("1"), of("true"), of("0"), of("false")), (Some(true), Some(true), Some(false), Some(false)));
        assert_eq!((of("yes"), boolean(&[])), (None, None));
    }
}

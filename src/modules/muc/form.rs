//! Data forms (XEP-0004), as far as a room reads and writes them.

pub use crate::stanza::form::open;
use crate::stanza::{Condition, StanzaError, form};
use crate::xml::{Builder, ElementRef, ns};
use std::collections::BTreeMap;

/// A form that somebody has filled in.
#[derive(Debug)]
pub struct Form {
    /// It is taken back.
    pub cancelled: bool,
    fields: BTreeMap<String, Vec<String>>,
}

impl Form {
    /// Reads `<x/>`.
    ///
    /// # Errors
    /// `bad-request` for another type than submit and cancel, for a field without name and for a repeated one.
    pub fn read(x: ElementRef<'_>) -> Result<Self, StanzaError> {
        let cancelled = match x.attr("type") {
            Some("submit") => false,
            Some("cancel") => true,
            _ => return Err(Condition::BadRequest.because("The form is neither submitted nor cancelled.")),
        };
        let fields = form::fields(x)?.into_iter().collect();
        Ok(Self { cancelled, fields })
    }

    /// A form of that type with these fields, as if somebody had filled it in.
    #[cfg(feature = "import")]
    pub fn of<'a>(form_type: &str, fields: impl Iterator<Item = &'a form::Values>) -> Self {
        let kind = ("FORM_TYPE".to_string(), vec![form_type.to_string()]);
        Self { cancelled: false, fields: fields.cloned().chain([kind]).collect() }
    }

    /// What kind of form it says it is; empty when it says nothing.
    pub fn form_type(&self) -> &str {
        self.text("FORM_TYPE").unwrap_or_default()
    }

    /// True without any field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Refuses fields that are not among these.
    ///
    /// # Errors
    /// `bad-request`.
    pub fn only(&self, known: &[&str]) -> Result<(), StanzaError> {
        match self.fields.keys().all(|var| known.contains(&var.as_str())) {
            true => Ok(()),
            false => Err(Condition::BadRequest.because("The form has a field that was not asked for.")),
        }
    }

    /// All values of a field; none when it is not there.
    pub fn values(&self, var: &str) -> Option<&[String]> {
        self.fields.get(var).map(Vec::as_slice)
    }

    /// The first value.
    pub fn text(&self, var: &str) -> Option<&str> {
        self.values(var)?.first().map(String::as_str)
    }

    /// A field that is true or false.
    ///
    /// # Errors
    /// `bad-request` for anything else.
    pub fn flag(&self, var: &str) -> Result<Option<bool>, StanzaError> {
        match self.text(var) {
            None => Ok(None),
            Some("1" | "true") => Ok(Some(true)),
            Some("0" | "false") => Ok(Some(false)),
            Some(_) => Err(Condition::BadRequest.because("A field of the form is neither true nor false.")),
        }
    }
}

/// Adds a field.
pub fn field(b: &mut Builder, var: &str, kind: &str, label: &str, values: &[&str]) {
    choice(b, var, kind, label, values, &[]);
}

/// Adds a field with options: value and label.
pub fn choice(b: &mut Builder, var: &str, kind: &str, label: &str, values: &[&str], options: &[(&str, &str)]) {
    b.open(ns::DATA, "field").attr("var", var).attr("type", kind).attr("label", label);
    for value in values {
        b.leaf(ns::DATA, "value", value);
    }
    for (value, label) in options {
        b.open(ns::DATA, "option").attr("label", label).leaf(ns::DATA, "value", value).close();
    }
    b.close();
}

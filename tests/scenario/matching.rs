//! Whether what was received is what a play expects.
//!
//! The rules are Scansion's. The stanza itself is matched loosely: what the play writes must be there, more may be.
//! What is inside is matched strictly: the same attributes, the same text, the same children, those of one name in the
//! same order (which is not Scansion's: it fixes the order of all).
//! `scansion:strict='false'` makes the one element that carries it loose, `scansion:strict='true'` strict: that is how
//! a play says that something must *not* be in a stanza. `scansion:empty='true'`, which is ours, says that there is
//! nothing inside, and leaves the attributes alone. A loose element without text takes any text. `{scansion:any}` as a
//! value or text takes any; `{scansion:capture:name}` takes any the first time and the same one after that.
//! White space around text never matters.

use std::collections::BTreeMap;

use couplet::xml::{Attribute, ElementRef};

use super::xml_text::{NS_SCANSION, pretty};

/// Values that were captured, by name.
pub type Captures = BTreeMap<String, String>;

/// Compares one received stanza with one expected.
///
/// # Errors
/// What differs, and both, for people.
pub fn check(expected: ElementRef<'_>, received: ElementRef<'_>, captures: &mut Captures) -> Result<(), String> {
    let mut tried = captures.clone();
    match element(expected, received, false, &mut tried) {
        Ok(()) => {
            *captures = tried;
            Ok(())
        }
        Err(why) => Err(format!("{why}\n  expected:\n{}  received:\n{}", pretty(expected), pretty(received))),
    }
}

fn element(
    expected: ElementRef<'_>,
    received: ElementRef<'_>,
    strict: bool,
    captures: &mut Captures,
) -> Result<(), String> {
    let name = expected.name();
    if !received.is(expected.ns(), name) {
        let (ns, got, got_ns) = (expected.ns(), received.name(), received.ns());
        return Err(format!("<{name} xmlns='{ns}'/> was expected, <{got} xmlns='{got_ns}'/> is there"));
    }
    let strict = expected.attr_ns(NS_SCANSION, "strict").map_or(strict, |s| s == "true");
    for a in expected.attributes().filter(|a| a.ns != NS_SCANSION) {
        let is = received.attr_ns(a.ns, a.name).ok_or_else(|| format!("<{name}/> has no attribute {}", a.name))?;
        if !value(a.value, is, captures) {
            return Err(format!("attribute {} of <{name}/> is '{is}', not '{}'", a.name, a.value));
        }
    }
    if strict {
        let more = |a: &Attribute<'_>| expected.attr_ns(a.ns, a.name).is_none();
        if let Some(a) = received.attributes().find(more) {
            return Err(format!("<{name}/> has the attribute {}='{}' that it should not have", a.name, a.value));
        }
    }
    let (wanted, is) = (expected.text(), received.text());
    if (strict || !wanted.trim().is_empty()) && !value(wanted.trim(), is.trim(), captures) {
        return Err(format!("<{name}/> holds the text '{}', not '{}'", is.trim(), wanted.trim()));
    }
    if expected.attr_ns(NS_SCANSION, "empty") == Some("true")
        && let Some(child) = received.children().next()
    {
        return Err(format!("<{name}/> has a <{}/> that it should not have", child.name()));
    }
    if strict { children_in_order(expected, received, captures) } else { children_among(expected, received, captures) }
}

fn children_in_order(
    expected: ElementRef<'_>,
    received: ElementRef<'_>,
    captures: &mut Captures,
) -> Result<(), String> {
    let mut there: Vec<ElementRef<'_>> = received.children().collect();
    for wanted in expected.children() {
        let is = there.iter().position(|is| is.is(wanted.ns(), wanted.name()));
        let is = is.ok_or_else(|| format!("<{}/> has no <{}/>", expected.name(), wanted.name()))?;
        element(wanted, there.remove(is), true, captures)?;
    }
    match there.first() {
        Some(more) => Err(format!("<{}/> has a <{}/> that it should not have", expected.name(), more.name())),
        None => Ok(()),
    }
}

fn children_among(expected: ElementRef<'_>, received: ElementRef<'_>, captures: &mut Captures) -> Result<(), String> {
    let mut there: Vec<ElementRef<'_>> = received.children().collect();
    for wanted in expected.children() {
        let mut why = format!("<{}/> has no <{}/>", expected.name(), wanted.name());
        let found = there.iter().position(|is| {
            let mut tried = captures.clone();
            match element(wanted, *is, true, &mut tried) {
                Ok(()) => {
                    *captures = tried;
                    true
                }
                Err(e) => {
                    if is.is(wanted.ns(), wanted.name()) {
                        why = e;
                    }
                    false
                }
            }
        });
        there.remove(found.ok_or(why)?);
    }
    Ok(())
}

fn value(expected: &str, is: &str, captures: &mut Captures) -> bool {
    if expected == "{scansion:any}" {
        return true;
    }
    match expected.strip_prefix("{scansion:capture:").and_then(|rest| rest.strip_suffix('}')) {
        Some(name) => captures.entry(name.to_owned()).or_insert_with(|| is.to_owned()) == is,
        None => expected == is,
    }
}

#[cfg(test)]
mod tests {
    use super::super::xml_text::fragments;
    use super::*;

    fn matches(expected: &str, received: &str) -> bool {
        let (e, r) = (fragments(expected).unwrap(), fragments(received).unwrap());
        check(e[0].root(), r[0].root(), &mut Captures::new()).is_ok()
    }

    #[test]
    fn a_stanza_may_have_more_than_expected() {
        assert!(matches("<message to='a'/>", "<message id='1' to='a'><body>x</body></message>"));
        assert!(matches("<message><body>x</body></message>", "<message><x xmlns='y'/><body>x</body></message>"));
        assert!(!matches("<message to='a'/>", "<message to='b'/>"));
        assert!(!matches("<message to='a'/>", "<message/>"));
        assert!(!matches("<message/>", "<presence/>"));
        assert!(!matches("<message><body>x</body></message>", "<message><body>y</body></message>"));
        assert!(!matches("<message scansion:strict='true'/>", "<message to='a'/>"));
        assert!(!matches("<message scansion:strict='true'/>", "<message><body/></message>"));
        assert!(matches("<message scansion:empty='true'/>", "<message to='a'/>"));
        assert!(!matches("<message scansion:empty='true'/>", "<message to='a'><body/></message>"));
    }

    #[test]
    fn what_is_inside_is_exact() {
        assert!(!matches("<iq><q xmlns='a'/></iq>", "<iq><q xmlns='a' b='c'/></iq>"));
        assert!(!matches("<iq><q xmlns='a'/></iq>", "<iq><q xmlns='b'/></iq>"));
        assert!(!matches("<iq><q xmlns='a'/></iq>", "<iq><q xmlns='a'><x/></q></iq>"));
        assert!(matches("<iq><q xmlns='a'><x/><y/></q></iq>", "<iq><q xmlns='a'><y/><x/></q></iq>"));
        assert!(!matches("<iq><q xmlns='a'><x/><y/></q></iq>", "<iq><q xmlns='a'><y/></q></iq>"));
        let two = "<iq><q xmlns='a'><x>1</x><x>2</x></q></iq>";
        assert!(!matches(two, "<iq><q xmlns='a'><x>2</x><x>1</x></q></iq>"));
        assert!(!matches("<iq><q xmlns='a'/></iq>", "<iq><q xmlns='a'>text</q></iq>"));
        assert!(matches("<iq><q xmlns='a'>\n text </q></iq>", "<iq><q xmlns='a'>text</q></iq>"));
    }

    #[test]
    fn strictness_can_be_chosen() {
        assert!(matches("<iq><q xmlns='a' scansion:strict='false'/></iq>", "<iq><q xmlns='a' b='c'>t<x/></q></iq>"));
        assert!(matches(
            "<iq><q xmlns='a' scansion:strict='false'><x/><y/></q></iq>",
            "<iq><q xmlns='a'><y/><z/><x/></q></iq>"
        ));
        assert!(!matches(
            "<iq><q xmlns='a' scansion:strict='false'><x/><x/></q></iq>",
            "<iq><q xmlns='a'><x/></q></iq>"
        ));
        assert!(!matches(
            "<iq><q xmlns='a' scansion:strict='false'><x/></q></iq>",
            "<iq><q xmlns='a'><x y='z'/></q></iq>"
        ));
    }

    #[test]
    fn wild_cards_and_captures() {
        assert!(matches("<iq id='{scansion:any}'/>", "<iq id='7'/>"));
        assert!(!matches("<iq id='{scansion:any}'/>", "<iq/>"));
        assert!(matches("<iq><v>{scansion:any}</v></iq>", "<iq><v>7</v></iq>"));
        assert!(matches("<iq id='{scansion:capture:a}' to='{scansion:capture:a}'/>", "<iq id='7' to='7'/>"));
        assert!(!matches("<iq id='{scansion:capture:a}' to='{scansion:capture:a}'/>", "<iq id='7' to='8'/>"));
        let (e, r) = (fragments("<iq id='{scansion:capture:a}' to='x'/>").unwrap(), fragments("<iq id='7'/>").unwrap());
        let mut captures = Captures::new();
        let why = check(e[0].root(), r[0].root(), &mut captures).unwrap_err();
        assert!(why.starts_with("<iq/> has no attribute to\n  expected:\n    <iq "), "{why}");
        assert!(captures.is_empty());
    }
}

//! What an account wants to have archived (XEP-0441): a rule for each address that it names, and one for all others.

use super::Stored;
#[cfg(feature = "import")]
use crate::core::moving::{Outcome, Taken, verdict};
use crate::core::{Core, roster};
use crate::jid::Jid;
use crate::stanza::{Condition, StanzaError};
use crate::storage::Table;
use crate::xml::{Builder, Element, ElementRef, ns};
use std::collections::BTreeMap;

crate::record! {
    /// Whether messages are archived.
    pub enum Rule { Never = 0, Always = 1, Roster = 2 }
    /// The rule of an address.
    pub struct RuleRow {
        /// For one address never that of the roster.
        pub rule: Rule,
    }
}

/// Owner: the account. Sub key: an address, bare or full; empty for all others.
pub struct Rules;
impl Table for Rules {
    const ID: u8 = 57;
    const NAME: &'static str = "archive-rules";
    const SPARSE: bool = true;
    type Value = RuleRow;
}

impl Rule {
    /// From the attribute's value.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Never, Self::Always, Self::Roster].into_iter().find(|rule| rule.as_str() == text)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Always => "always",
            Self::Roster => "roster",
        }
    }
}

/// Refuses a default that there is not.
pub fn known(rule: &str) -> Result<(), String> {
    match Rule::parse(rule) {
        Some(_) => Ok(()),
        None => Err(format!("\"{rule}\" is no rule; write \"always\", \"roster\" or \"never\"")),
    }
}

/// Whether messages with an address are archived (section 2.3).
pub fn wants(core: &mut Core, account: &str, other: &Jid, default: Rule) -> Stored<bool> {
    let Some(all) = core.view.get::<Rules>(account, b"")? else {
        // Nothing has been said, or the rest would be there too.
        return by(core, account, other, default);
    };
    for named in [other.as_str(), other.bare_str()] {
        if let Some(row) = core.view.get::<Rules>(account, named.as_bytes())? {
            return Ok(row.rule == Rule::Always);
        }
    }
    by(core, account, other, all.rule)
}

fn by(core: &mut Core, account: &str, other: &Jid, rule: Rule) -> Stored<bool> {
    match rule {
        Rule::Always => Ok(true),
        Rule::Never => Ok(false),
        Rule::Roster => {
            let item = core.view.get::<roster::Items>(account, other.bare_str().as_bytes())?;
            Ok(item.is_some_and(|item| item.listed))
        }
    }
}

/// By address; that of the empty one is for all others.
type All = BTreeMap<String, Rule>;

/// Reads what a client wants.
fn read(core: &Core, prefs: ElementRef<'_>, default: Option<Rule>) -> Result<All, StanzaError> {
    let default = default.ok_or_else(|| Condition::BadRequest.because("The default is always, never or roster."))?;
    let mut rules = All::from([(String::new(), default)]);
    for (name, rule) in [("always", Rule::Always), ("never", Rule::Never)] {
        for jid in prefs.child(ns::MAM, name).iter().flat_map(|list| list.children()).filter(|c| c.is(ns::MAM, "jid")) {
            let jid = Jid::parse(jid.text().trim()).map_err(|_| StanzaError::from(Condition::JidMalformed))?;
            rules.insert(jid.as_str().to_owned(), rule);
        }
    }
    if rules.len() - 1 > core.settings.limits.mam_rules_max as usize {
        return Err(Condition::ResourceConstraint.because("Too many addresses are named."));
    }
    Ok(rules)
}

/// What was said; nothing at all, or with a rule for all others.
fn said(core: &mut Core, account: &str) -> Stored<All> {
    let rows = core.view.list::<Rules>(account, usize::MAX)?;
    Ok(rows.into_iter().filter_map(|(sub, row)| Some((String::from_utf8(sub).ok()?, row.rule))).collect())
}

fn replace(core: &mut Core, account: &str, old: &All, new: &All) {
    for address in old.keys() {
        core.view.delete::<Rules>(account, address.as_bytes());
    }
    for (address, rule) in new {
        core.view.put::<Rules>(account, address.as_bytes(), &RuleRow { rule: *rule });
    }
}

/// Takes over what a client wants: all of it, in the place of what was.
///
/// # Errors
/// `bad-request` for a default that there is not, `jid-malformed`, `resource-constraint` for too many addresses.
pub fn set(core: &mut Core, account: &str, prefs: ElementRef<'_>) -> Result<(), StanzaError> {
    let new = read(core, prefs, prefs.attr("default").and_then(Rule::parse))?;
    let old = said(core, account)?;
    replace(core, account, &old, &new);
    Ok(())
}

/// What is in force.
///
/// # Errors
/// When storage cannot be read.
pub fn get(core: &mut Core, account: &str, default: Rule) -> Result<Element, StanzaError> {
    Ok(build(&said(core, account)?, default))
}

fn build(rules: &All, default: Rule) -> Element {
    let default = rules.get("").copied().unwrap_or(default);
    let mut b = Builder::new(ns::MAM, "prefs");
    b.attr("default", default.as_str());
    for rule in [Rule::Always, Rule::Never] {
        b.open(ns::MAM, rule.as_str());
        for (address, _) in rules.iter().filter(|(address, of)| !address.is_empty() && **of == rule) {
            b.leaf(ns::MAM, "jid", address);
        }
        b.close();
    }
    b.finish()
}

/// Takes in what was wanted on another server, where `default` stands in for nothing said of all others.
#[cfg(feature = "import")]
pub fn take_in(core: &mut Core, account: &str, prefs: ElementRef<'_>, default: Rule, over: bool) -> Outcome {
    let new = read(core, prefs, prefs.attr("default").map_or(Some(default), Rule::parse))?;
    let old = said(core, account)?;
    let taken = match () {
        () if old == new => Taken::Same,
        () if old.is_empty() => Taken::New,
        () => verdict(over),
    };
    if matches!(taken, Taken::New | Taken::Replaced) {
        replace(core, account, &old, &new);
    }
    Ok(taken)
}

/// What was said, for another server; none for nothing.
#[cfg(feature = "import")]
pub fn give_out(core: &mut Core, account: &str, default: Rule) -> Stored<Option<Element>> {
    let rules = said(core, account)?;
    Ok(if rules.is_empty() { None } else { Some(build(&rules, default)) })
}

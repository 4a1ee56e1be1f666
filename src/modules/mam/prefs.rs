//! What an account wants to have archived (XEP-0441): a rule for each address that it names, and one for all others.

use super::Stored;
use crate::core::{Core, roster};
use crate::jid::Jid;
use crate::stanza::{Condition, StanzaError};
use crate::storage::Table;
use crate::xml::{Builder, Element, ElementRef, ns};

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

/// Takes over what a client wants: all of it, in the place of what was.
///
/// # Errors
/// `bad-request` for a default that there is not, `jid-malformed`, `resource-constraint` for too many addresses.
pub fn set(core: &mut Core, account: &str, prefs: ElementRef<'_>) -> Result<(), StanzaError> {
    let default = prefs.attr("default").and_then(Rule::parse);
    let default = default.ok_or_else(|| Condition::BadRequest.because("The default is always, never or roster."))?;
    let mut rows = vec![(String::new(), default)];
    for (name, rule) in [("always", Rule::Always), ("never", Rule::Never)] {
        for jid in prefs.child(ns::MAM, name).iter().flat_map(|list| list.children()).filter(|c| c.is(ns::MAM, "jid")) {
            let jid = Jid::parse(jid.text().trim()).map_err(|_| StanzaError::from(Condition::JidMalformed))?;
            rows.push((jid.as_str().to_owned(), rule));
        }
    }
    if rows.len() - 1 > core.settings.limits.mam_rules_max as usize {
        return Err(Condition::ResourceConstraint.because("Too many addresses are named."));
    }
    for (sub, _) in core.view.list::<Rules>(account, usize::MAX)? {
        core.view.delete::<Rules>(account, &sub);
    }
    for (sub, rule) in rows {
        core.view.put::<Rules>(account, sub.as_bytes(), &RuleRow { rule });
    }
    Ok(())
}

/// What is in force.
///
/// # Errors
/// When storage cannot be read.
pub fn get(core: &mut Core, account: &str, default: Rule) -> Result<Element, StanzaError> {
    let rows = core.view.list::<Rules>(account, usize::MAX)?;
    let default = rows.iter().find(|(sub, _)| sub.is_empty()).map_or(default, |(_, row)| row.rule);
    let mut b = Builder::new(ns::MAM, "prefs");
    b.attr("default", default.as_str());
    for rule in [Rule::Always, Rule::Never] {
        b.open(ns::MAM, rule.as_str());
        for (sub, _) in rows.iter().filter(|(sub, row)| !sub.is_empty() && row.rule == rule) {
            b.leaf(ns::MAM, "jid", std::str::from_utf8(sub).unwrap_or_default());
        }
        b.close();
    }
    Ok(b.finish())
}

//! Whether rules, lists and rates fit together, and which rule has nothing left to decide.

use super::addresses;
use super::config::{Action, Config, Direction, Holds, LIST, Rule, TYPES};
use crate::modules::{Fit, Misfit};
use crate::setting::nearest;
use std::collections::BTreeMap;

/// Looks at all of them.
pub fn fit(config: &Config, fit: &mut Fit) {
    let mut wrong = |section: String, key, text| fit.wrong.push(Misfit { section, key, text });
    let mut lists: BTreeMap<&str, Holds> = BTreeMap::new();
    for (number, list) in (1..).zip(&config.lists) {
        let section = || format!("lists.{number}");
        if list.name.is_empty() {
            wrong(section(), "name", "a list needs a name; write for example name = \"friends\"".to_string());
        } else if lists.insert(&list.name, list.holds).is_some() {
            wrong(section(), "name", format!("there is a list \"{}\" already; write another name", list.name));
        }
        if list.holds == Holds::Texts && !list.rtbl.is_empty() {
            wrong(section(), "rtbl", "a block list has no texts; write holds = \"addresses\"".to_string());
        }
        if list.holds == Holds::Addresses
            && let Some(Err(text)) = list.entries.iter().map(|entry| addresses::check(entry)).find(Result::is_err)
        {
            wrong(section(), "entries", text);
        }
    }
    let mut rates: Vec<&str> = Vec::new();
    for (number, rate) in (1..).zip(&config.rates) {
        let section = || format!("rates.{number}");
        if rate.name.is_empty() {
            wrong(section(), "name", "a rate needs a name; write for example name = \"calls\"".to_string());
        } else if rates.contains(&rate.name.as_str()) {
            wrong(section(), "name", format!("there is a rate \"{}\" already; write another name", rate.name));
        }
        rates.push(&rate.name);
    }
    for (number, rule) in (1..).zip(&config.rules) {
        let section = || format!("rules.{number}");
        match rule.action {
            None => {
                let text = "a rule needs an action; write for example action = \"drop\"".to_string();
                wrong(section(), "action", text);
            }
            Some(Action::Mark) if rule.mark.is_empty() => {
                wrong(section(), "mark", "which mark? write for example mark = \"suspect\"".to_string());
            }
            Some(_) => {}
        }
        for (key, entries, holds) in [
            ("from", &rule.from, Holds::Addresses),
            ("to", &rule.to, Holds::Addresses),
            ("body", &rule.body, Holds::Texts),
            ("subject", &rule.subject, Holds::Texts),
        ] {
            for name in entries.iter().filter_map(|entry| entry.strip_prefix(LIST)) {
                match lists.get(name) {
                    Some(held) if *held == holds => {}
                    Some(_) => {
                        let text = format!("list \"{name}\" holds no {0}; write holds = \"{0}\" there", holds.as_str());
                        wrong(section(), key, text);
                    }
                    None => wrong(section(), key, missing("list", name, lists.keys().copied())),
                }
            }
        }
        if !rule.rate.is_empty() && !rates.contains(&rule.rate.as_str()) {
            wrong(section(), "rate", missing("rate", &rule.rate, rates.iter().copied()));
        }
        let is_of_kind = |word: &String| {
            let kinds = TYPES.iter().filter(|(kind, _)| rule.kind.is_empty() || rule.kind.contains(kind));
            kinds.flat_map(|(_, types)| types.iter()).any(|known| known == word)
        };
        if let Some(word) = rule.types.iter().find(|word| !is_of_kind(word)) {
            wrong(section(), "types", format!("nothing of this kind has the type \"{word}\""));
        }
    }
    for (at, rule) in config.rules.iter().enumerate() {
        if let Some(before) = config.rules[..at].iter().position(|before| leaves_nothing(before, rule)) {
            fit.warnings.push(format!(
                "rules.{}: no stanza gets there, because rules.{} decides about all that it could; remove it, or put \
                 it before the other",
                at + 1,
                before + 1
            ));
        }
    }
}

fn missing<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    match nearest(name, known) {
        Some(near) => format!("there is no {what} \"{name}\"; did you mean \"{near}\"?"),
        None => format!("there is no {what} \"{name}\"; write [[{what}s]] with name = \"{name}\""),
    }
}

/// True when the first rule decides about every stanza that the second one would be met by: it asks for nothing that
/// the second does not ask for as well. A few such pairs are not seen.
fn leaves_nothing(before: &Rule, rule: &Rule) -> bool {
    fn covers<T: PartialEq>(before: &[T], rule: &[T]) -> bool {
        before.is_empty() || (!rule.is_empty() && rule.iter().all(|one| before.contains(one)))
    }
    fn same<T: PartialEq>(before: &Option<T>, rule: &Option<T>) -> bool {
        before.is_none() || before == rule
    }
    let decides = matches!(before.action, Some(Action::Pass | Action::Drop | Action::Bounce));
    decides
        && before.rate.is_empty()
        // What enters is asked before what reaches somebody, so "any" is met by what either would be asked about.
        && (before.direction == rule.direction
            || (before.direction == Direction::Any && rule.direction == Direction::Out))
        && covers(&before.kind, &rule.kind)
        && covers(&before.types, &rule.types)
        && covers(&before.from, &rule.from)
        && covers(&before.to, &rule.to)
        && covers(&before.sender, &rule.sender)
        && same(&before.contact, &rule.contact)
        && same(&before.account_younger, &rule.account_younger)
        && covers(&before.payload, &rule.payload)
        && covers(&before.body, &rule.body)
        && covers(&before.subject, &rule.subject)
        && (before.larger_than.is_none() || before.larger_than <= rule.larger_than)
        && (before.recipients_over.is_none() || before.recipients_over <= rule.recipients_over)
        && (before.marked.is_empty() || before.marked == rule.marked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(action: Action) -> Rule {
        Rule { action: Some(action), ..Rule::default() }
    }

    fn warned(rules: Vec<Rule>) -> usize {
        let mut said = Fit::default();
        fit(&Config { rules, ..Config::default() }, &mut said);
        assert_eq!(said.wrong, []);
        said.warnings.len()
    }

    #[test]
    fn a_rule_that_comes_too_late_is_seen() {
        let from = |who: &str, action| Rule { from: vec![who.to_string()], ..rule(action) };
        assert_eq!(warned(vec![rule(Action::Drop), from("a.b", Action::Log)]), 1);
        assert_eq!(warned(vec![from("a.b", Action::Pass), from("a.b", Action::Drop)]), 1);
        assert_eq!(warned(vec![from("a.b", Action::Log), from("a.b", Action::Drop)]), 0);
        assert_eq!(warned(vec![from("a.b", Action::Pass), from("c.d", Action::Drop), rule(Action::Log)]), 0);
        let out = Rule { direction: Direction::Out, ..rule(Action::Drop) };
        let into = Rule { direction: Direction::In, ..rule(Action::Drop) };
        assert_eq!(warned(vec![out.clone(), into.clone(), rule(Action::Drop)]), 0);
        assert_eq!(warned(vec![rule(Action::Drop), into]), 0, "a message here is asked about twice");
        assert_eq!(warned(vec![rule(Action::Drop), out]), 1);
    }
}

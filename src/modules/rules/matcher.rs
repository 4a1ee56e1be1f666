//! Rules as they are asked: compiled once, when the configuration is read.

use super::addresses::Addresses;
use super::config::{Action, Config, Direction, Holds, KindWord, LIST, List, Rule, Sender};
use super::glob::Glob;
use crate::core::rtbl::Source;
use crate::jid::Jid;
use crate::stanza::{Kind, Stanza, StanzaError};
use crate::xml::{ElementRef, ns};
use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// A rule.
#[derive(Debug)]
pub struct Compiled {
    /// Its name.
    pub name: Box<str>,
    /// What it does.
    pub act: Act,
    /// Asked of what leaves an account of ours.
    pub out: bool,
    /// Asked of what comes to an account or a service of ours.
    pub into: bool,
    /// Asked of that also where an account of ours has sent it.
    pub into_twice: bool,
    /// Senders; none is all.
    pub senders: Vec<Sender>,
    /// Whether the other side is a contact.
    pub contact: Option<bool>,
    /// Milliseconds that the sender's account may be old.
    pub younger_ms: Option<u64>,
    /// The mark that the sender has.
    pub marked: Option<Box<str>>,
    /// Which of the rates must be used up.
    pub rate: Option<usize>,
    kinds: Vec<KindWord>,
    types: Vec<Box<str>>,
    /// Senders.
    pub from: Option<Who>,
    /// Addressees.
    pub to: Option<Who>,
    payload: Vec<(Option<Box<str>>, Box<str>)>,
    body: Option<Vec<Rc<Vec<Glob>>>>,
    subject: Option<Vec<Rc<Vec<Glob>>>>,
    larger_than: Option<usize>,
    recipients_over: Option<usize>,
}

/// Those whom a rule names.
#[derive(Debug)]
pub struct Who {
    lists: Vec<Rc<Addresses>>,
    /// Lists of others, of which the store knows who is on them.
    pub rtbl: Vec<Source>,
}

impl Who {
    /// True for somebody on one of our own lists.
    pub fn names(&self, jid: &Jid) -> bool {
        self.lists.iter().any(|list| list.contains(jid))
    }
}

/// What a rule does.
#[derive(Debug)]
pub enum Act {
    /// Lets it pass.
    Pass,
    /// It goes nowhere.
    Drop,
    /// It goes back.
    Bounce(StanzaError),
    /// A line in the log, with this text.
    Log(Box<str>),
    /// A message to the administrators, with this text.
    Report(Box<str>),
    /// Its sender gets this mark, for so many milliseconds.
    Mark(Box<str>, u64),
}

/// A stanza that is asked about, with what is found out of it once.
pub struct Subject<'a> {
    /// The stanza.
    pub stanza: &'a Stanza,
    /// Its sender.
    pub from: &'a Jid,
    /// Its addressee.
    pub to: &'a Jid,
    bodies: OnceCell<Vec<String>>,
    subjects: OnceCell<Vec<String>>,
}

impl<'a> Subject<'a> {
    /// One that is all there.
    pub fn new(stanza: &'a Stanza) -> Option<Self> {
        let (from, to) = (stanza.from.as_ref()?, stanza.to.as_ref()?);
        Some(Self { stanza, from, to, bodies: OnceCell::new(), subjects: OnceCell::new() })
    }

    /// The texts of children of that name, in lower case.
    fn texts(&self, name: &str) -> Vec<String> {
        let of_name = self.stanza.payload.root().children().filter(|child| child.is(ns::CLIENT, name));
        of_name.map(|child| child.text().to_lowercase()).collect()
    }
}

/// Namespace and name of `{namespace}name`; the namespace alone of what has no braces.
pub fn payload(text: &str) -> Option<(Option<&str>, &str)> {
    let parts = match text.strip_prefix('{') {
        Some(rest) => rest.split_once('}').map(|(ns, name)| (Some(name), ns))?,
        None => (None, text),
    };
    let is_plain = |part: &str| !part.is_empty() && !part.contains(|c: char| "{}".contains(c) || c.is_whitespace());
    (is_plain(parts.1) && parts.0.is_none_or(is_plain)).then_some(parts)
}

/// Compiles the rules of a configuration that has been found to fit; what does not fit is left out.
pub fn compile(config: &Config) -> Vec<Compiled> {
    let (mut addresses, mut texts) = (BTreeMap::new(), BTreeMap::new());
    for list in &config.lists {
        match list.holds {
            Holds::Addresses => _ = addresses.insert(list.name.as_str(), Rc::new(addresses_of(list.entries.iter()))),
            Holds::Texts => _ = texts.insert(list.name.as_str(), Rc::new(globs_of(list.entries.iter()))),
        }
    }
    let rate = |name: &String| config.rates.iter().position(|rate| rate.name == *name);
    let compiled = (1..).zip(&config.rules).filter_map(|(number, rule): (u32, &Rule)| {
        let text = || Box::from(rule.text.as_str());
        let error = || StanzaError {
            text: (!rule.text.is_empty()).then(|| Cow::Owned(rule.text.clone())),
            ..rule.condition.into()
        };
        let named = |entries: &[String]| {
            let lists = parts(entries, &addresses, |own| Rc::new(addresses_of(own)))?;
            let is_named = |list: &&List| entries.iter().any(|e| e.strip_prefix(LIST) == Some(&list.name));
            let rtbl = config.lists.iter().filter(is_named).filter_map(|list| Source::parse(&list.rtbl)).collect();
            Some(Who { lists, rtbl })
        };
        let written = |entries: &[String]| parts(entries, &texts, |own| Rc::new(globs_of(own)));
        let payloads = rule.payload.iter().filter_map(|text| payload(text));
        Some(Compiled {
            name: if rule.name.is_empty() { number.to_string().into() } else { rule.name.as_str().into() },
            act: match rule.action? {
                Action::Pass => Act::Pass,
                Action::Drop => Act::Drop,
                Action::Bounce => Act::Bounce(error()),
                Action::Log => Act::Log(text()),
                Action::Report => Act::Report(text()),
                Action::Mark => Act::Mark(rule.mark.as_str().into(), u64::from(rule.mark_for.0) * 1000),
            },
            out: rule.direction != Direction::In,
            into: rule.direction != Direction::Out,
            into_twice: rule.direction == Direction::In,
            senders: rule.sender.clone(),
            contact: rule.contact,
            younger_ms: rule.account_younger.map(|time| u64::from(time.0) * 1000),
            marked: (!rule.marked.is_empty()).then(|| rule.marked.as_str().into()),
            rate: if rule.rate.is_empty() { None } else { Some(rate(&rule.rate)?) },
            kinds: rule.kind.clone(),
            types: rule.types.iter().map(|word| word.as_str().into()).collect(),
            from: named(&rule.from),
            to: named(&rule.to),
            payload: payloads.map(|(name, ns)| (name.map(Into::into), ns.into())).collect(),
            body: written(&rule.body),
            subject: written(&rule.subject),
            larger_than: rule.larger_than.map(|size| size.0 as usize),
            recipients_over: rule.recipients_over.map(|count| count as usize),
        })
    });
    compiled.collect()
}

fn addresses_of<'a>(entries: impl Iterator<Item = &'a String>) -> Addresses {
    let mut all = Addresses::default();
    entries.for_each(|entry| all.add(entry));
    all
}

fn globs_of<'a>(entries: impl Iterator<Item = &'a String>) -> Vec<Glob> {
    entries.map(|entry| Glob::new(entry)).collect()
}

/// The lists that entries name, and those entries that stand for themselves as one more; none where nothing is said.
fn parts<T>(
    entries: &[String],
    lists: &BTreeMap<&str, Rc<T>>,
    own: impl Fn(std::vec::IntoIter<&String>) -> Rc<T>,
) -> Option<Vec<Rc<T>>> {
    if entries.is_empty() {
        return None;
    }
    let (named, plain): (Vec<&String>, Vec<&String>) = entries.iter().partition(|entry| entry.starts_with(LIST));
    let named = named.into_iter().filter_map(|entry| lists.get(entry.strip_prefix(LIST)?).cloned());
    let mut all: Vec<Rc<T>> = named.collect();
    if !plain.is_empty() {
        all.push(own(plain.into_iter()));
    }
    Some(all)
}

impl Compiled {
    /// True when all holds that the stanza alone can tell; what is cheap is looked at first. Who is on lists of others
    /// is still to be asked.
    pub fn meets(&self, subject: &Subject<'_>) -> bool {
        let (kind, word) = match subject.stanza.kind {
            Kind::Message(typ) => (KindWord::Message, typ.as_str()),
            Kind::Presence(typ) => (KindWord::Presence, typ.as_str()),
            Kind::Iq(typ) => (KindWord::Iq, typ.as_str()),
        };
        let among = |who: &Option<Who>, jid| who.as_ref().is_none_or(|who| who.names(jid) || !who.rtbl.is_empty());
        (self.kinds.is_empty() || self.kinds.contains(&kind))
            && (self.types.is_empty() || self.types.iter().any(|typ| **typ == *word))
            && among(&self.from, subject.from)
            && among(&self.to, subject.to)
            && self.larger_than.is_none_or(|bytes| subject.stanza.payload.text_bytes() > bytes)
            && self.has_payload(subject)
            && self.recipients_over.is_none_or(|count| recipients(subject.stanza) > count)
            && self.says(subject)
    }

    fn has_payload(&self, subject: &Subject<'_>) -> bool {
        let is = |child: ElementRef<'_>| {
            let is_one = |(name, ns): &(Option<Box<str>>, Box<str>)| {
                child.ns() == &**ns && name.as_ref().is_none_or(|name| child.name() == &**name)
            };
            self.payload.iter().any(is_one)
        };
        self.payload.is_empty() || subject.stanza.payload.root().children().any(is)
    }

    fn says(&self, subject: &Subject<'_>) -> bool {
        let like = |globs: &Option<Vec<Rc<Vec<Glob>>>>, said: &OnceCell<Vec<String>>, name| match globs {
            None => true,
            Some(lists) => {
                let said = said.get_or_init(|| subject.texts(name));
                let mut globs = lists.iter().flat_map(|list| list.iter());
                globs.any(|glob| said.iter().any(|text| glob.matches(text)))
            }
        };
        like(&self.body, &subject.bodies, "body") && like(&self.subject, &subject.subjects, "subject")
    }
}

/// Addresses to which it is to be passed on (XEP-0033 section 4).
fn recipients(stanza: &Stanza) -> usize {
    let is_recipient = |address: &ElementRef<'_>| {
        address.is(ns::ADDRESS, "address") && matches!(address.attr("type"), Some("to" | "cc" | "bcc"))
    };
    stanza.child(ns::ADDRESS, "addresses").map_or(0, |all| all.children().filter(is_recipient).count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::{Fit, Module};
    use crate::setting::rows::find;
    use crate::setting::{Section, Value};
    use crate::stanza::{MessageType, PresenceType};
    use proptest::prelude::*;

    fn jid(text: &str) -> Jid {
        Jid::parse(text).unwrap()
    }

    fn message(build: impl FnOnce(&mut crate::xml::Builder)) -> Stanza {
        let to = jid("juliet@b.example/balcony");
        Stanza::build(Kind::Message(MessageType::Chat), build).addressed(Some(jid("romeo@a.example/x")), Some(to))
    }

    /// A configuration of rows, as the environment would have them.
    fn config(rows: &[(&str, &str, &str)]) -> Result<Config, String> {
        let mut config = Config::default();
        for (section, key, value) in rows {
            crate::setting::rows::make(vec![&mut config], section);
            let row = find(vec![&mut config], section).ok_or("no such row")?;
            row.set(key, &Value::Text((*value).to_string()))?;
        }
        Ok(config)
    }

    /// Whether a rule with these values is met.
    fn meets(values: &[(&str, &str)], stanza: &Stanza) -> bool {
        let mut rows = vec![("rules.1", "action", "drop")];
        rows.extend([("lists.1", "name", "l"), ("lists.1", "entries", "a.example")]);
        rows.extend([("lists.2", "name", "w"), ("lists.2", "holds", "texts"), ("lists.2", "entries", "*x*,*sun*")]);
        rows.extend(values.iter().map(|(key, value)| ("rules.1", *key, *value)));
        let config = config(&rows).unwrap();
        let mut fit = Fit::default();
        super::super::Rules::fit(&config, &mut fit);
        assert_eq!(fit, Fit::default(), "{values:?}");
        compile(&config)[0].meets(&Subject::new(stanza).unwrap())
    }

    #[test]
    fn a_rule_is_met_when_all_that_it_names_is_so() {
        let stanza = message(|b| {
            b.leaf(ns::CLIENT, "subject", "Light");
            b.leaf(ns::CLIENT, "body", "Juliet is the Sun");
            b.open(ns::ADDRESS, "addresses");
            for typ in ["to", "cc", "replyto"] {
                b.open(ns::ADDRESS, "address").attr("type", typ).close();
            }
            b.close();
        });
        for (key, value) in [
            ("kind", "presence,message"),
            ("types", "normal,chat"),
            ("from", "a.example"),
            ("from", "x@y.z,list:l"),
            ("from", "*.example"),
            ("to", "juliet@b.example"),
            ("to", "*@b.example"),
            ("payload", "{jabber:client}body"),
            ("payload", "urn:x,http://jabber.org/protocol/address"),
            ("body", "*the sun"),
            ("body", "list:w"),
            ("subject", "light"),
            ("larger_than", "20 B"),
            ("recipients_over", "1"),
        ] {
            assert!(meets(&[(key, value)], &stanza), "{key} {value}");
            assert!(!meets(&[(key, value), ("to", "nobody@b.example")], &stanza), "{key} {value} and somebody else");
        }
        for (key, value) in [
            ("kind", "iq"),
            ("types", "groupchat"),
            ("from", "b.example"),
            ("to", "list:l"),
            ("payload", "{jabber:client}thread"),
            ("payload", "urn:x"),
            ("body", "sun"),
            ("subject", "*dark*"),
            ("larger_than", "10 kB"),
            ("recipients_over", "2"),
        ] {
            assert!(!meets(&[(key, value)], &stanza), "{key} {value}");
        }
        let presence = Stanza::new(Kind::Presence(PresenceType::Available));
        let presence = presence.addressed(Some(jid("a.example")), Some(jid("b.example")));
        assert!(meets(&[("types", "available")], &presence) && !meets(&[("body", "*")], &presence));
    }

    #[test]
    fn elements_are_written_with_braces_or_as_a_namespace() {
        assert_eq!(payload("{a:b}c"), Some((Some("c"), "a:b")));
        assert_eq!(payload("a:b"), Some((None, "a:b")));
        for wrong in ["", "{a}", "{}c", "{a", "a}b", "{a}b c", "{a}{b}c"] {
            assert_eq!(payload(wrong), None, "{wrong}");
        }
    }

    const KEYS: [&str; 12] = [
        "kind", "types", "from", "to", "sender", "contact", "account_younger", "payload", "body", "subject",
        "larger_than", "recipients_over",
    ];

    proptest! {
        #[test]
        fn no_rule_and_no_stanza_panics(
            values in prop::collection::vec((0..KEYS.len(), "[a-z@.*{}:/ é,0-9]{0,20}|\\PC{0,12}"), 0..6),
            texts in prop::collection::vec(("[a-z]{1,6}", "\\PC{0,40}"), 0..6),
            from in "[a-zé]{1,5}@[a-z]{1,3}\\.[a-z]{1,3}",
        ) {
            let mut config = Config::default();
            config.rules.push(super::super::config::Rule::default());
            for (key, value) in &values {
                let _ = config.rules[0].set(KEYS[*key], &Value::Text(value.clone()));
            }
            config.rules[0].action = Some(Action::Drop);
            super::super::Rules::fit(&config, &mut Fit::default());
            let stanza = message(|b| {
                for (name, text) in &texts {
                    b.leaf(ns::CLIENT, name, text);
                    b.leaf(ns::CLIENT, "body", text);
                }
            });
            let stanza = Stanza { from: Jid::parse(&from).ok(), ..stanza };
            for rule in compile(&config) {
                let _ = Subject::new(&stanza).map(|subject| rule.meets(&subject));
            }
        }
    }
}

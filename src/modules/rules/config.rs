//! What an operator writes.

use super::addresses;
use crate::core::rtbl::Source;
use crate::setting::{Bytes, Seconds, at_least, section, words};
use crate::stanza::Condition;

section! {
    /// A small firewall: rules that look at each stanza in turn, until one decides. They see it before it is archived,
    /// copied or stored; what they stop is nowhere. `couplet check` says which rule comes behind one that leaves
    /// nothing to it. Rules, lists and rates are read again at a reload.
    pub struct Config in "modules.rules" {
        /// Reports of rules an hour that administrators get; more are left out.
        pub reports_per_hour: u32 = 20,
        ;
        /// In their order.
        pub rules: [Rule],
        /// That rules name.
        pub lists: [List],
        /// That rules name.
        pub rates: [Limit],
    }
}

words! {
    /// Which way a stanza goes.
    pub enum Direction {
        /// Once, where it enters: from an account of ours, or from elsewhere.
        Any = "any",
        /// To an account or a service of ours.
        In = "in",
        /// From an account of ours.
        Out = "out",
    }
}

words! {
    /// One of the three stanzas.
    pub enum KindWord {
        /// A message.
        Message = "message",
        /// Presence.
        Presence = "presence",
        /// A request or its answer.
        Iq = "iq",
    }
}

words! {
    /// Who has sent a stanza.
    pub enum Sender {
        /// An account of this server.
        Local = "local",
        /// One that is an administrator's.
        Admin = "admin",
        /// A room or another service of this server, or a component.
        Service = "service",
        /// Somebody on another server.
        Remote = "remote",
    }
}

words! {
    /// What a rule does.
    pub enum Action {
        /// Lets the stanza pass; no rule behind it is asked.
        Pass = "pass",
        /// It goes nowhere.
        Drop = "drop",
        /// It goes back.
        Bounce = "bounce",
        /// A line in the log; the next rule is asked.
        Log = "log",
        /// The administrators get a message; the next rule is asked.
        Report = "report",
        /// Its sender is remembered; the next rule is asked.
        Mark = "mark",
    }
}

words! {
    /// Whose stanzas are counted together.
    pub enum By {
        /// Those of a bare address.
        Sender = "sender",
        /// Those of a domain.
        Domain = "domain",
        /// Those for a bare address.
        Recipient = "recipient",
        /// All.
        All = "all",
    }
}

section! {
    /// A rule. It is met when all that it names is so; of a list, one is enough. What is not named is not looked at.
    /// What an account sends to itself, and what the server itself says, is not looked at either.
    pub struct Rule in "rules" {
        /// What the log and reports call it; its number where nothing is said.
        pub name: String = String::new(),
        /// What it does: "drop", "bounce" or "pass" decide; behind "log", "report" and "mark" the next rule is asked.
        /// A request that is dropped is answered with service-unavailable, as if nobody were there.
        pub action: Option<Action> = None,
        /// "in" is to an account or a service of this server, "out" is from an account of it. "any" asks once, where
        /// the stanza comes in; a message among two accounts here passes "out" and then "in".
        pub direction: Direction = Direction::Any,
        /// "message", "presence", "iq".
        pub kind: Vec<KindWord> = Vec::new(),
        /// Types, such as "chat", "groupchat" or "subscribe"; "normal" is a message without type, "available" presence.
        pub types: Vec<String> = Vec::new() => |types: &Vec<String>| types.iter().try_for_each(|t| check_type(t)),
        /// Senders: "romeo@example.org", "example.org" with all of its users, "*.example.org" with all below it,
        /// "*bot@example.org", or "list:NAME".
        pub from: Vec<String> = Vec::new() => |all: &Vec<String>| check_addresses(all),
        /// The same of addressees.
        pub to: Vec<String> = Vec::new() => |all: &Vec<String>| check_addresses(all),
        /// "local", "admin" (an account of this server), "service" (a room, a component), "remote".
        pub sender: Vec<Sender> = Vec::new(),
        /// Whether the other side is in the roster of the account that is concerned.
        pub contact: Option<bool> = None,
        /// The sender is an account of this server that was made less than this time ago, such as "1 d".
        pub account_younger: Option<Seconds> = None,
        /// Elements right inside the stanza: "{namespace}name", or the namespace alone.
        pub payload: Vec<String> = Vec::new() => |all: &Vec<String>| all.iter().try_for_each(|p| check_payload(p)),
        /// The text of a message, in whatever case: "*" stands for any characters, so "*casino*" looks for a word in
        /// it. Or "list:NAME".
        pub body: Vec<String> = Vec::new(),
        /// The same of its subject.
        pub subject: Vec<String> = Vec::new(),
        /// Names and texts in it have more bytes than this.
        pub larger_than: Option<Bytes> = None,
        /// It is for more addresses than this (XEP-0033).
        pub recipients_over: Option<u32> = None,
        /// Its sender has this mark.
        pub marked: String = String::new(),
        /// More has come than this one of the [[rates]] allows. It is asked when all else is so.
        pub rate: String = String::new(),
        /// The error of "bounce".
        pub condition: Condition = Condition::PolicyViolation,
        /// Its text, or what "log" and "report" add.
        pub text: String = String::new(),
        /// The mark of "mark".
        pub mark: String = String::new(),
        /// How long it is remembered.
        pub mark_for: Seconds = Seconds(3600) => |time| long_enough(*time),
    }
}

words! {
    /// What a list has.
    pub enum Holds {
        /// Addresses, for from and to.
        Addresses = "addresses",
        /// Texts, for body and subject.
        Texts = "texts",
    }
}

section! {
    /// A list that rules name, as "list:NAME".
    pub struct List in "lists" {
        /// Its name.
        pub name: String = String::new(),
        /// "addresses" or "texts", as a rule writes them.
        pub holds: Holds = Holds::Addresses,
        /// What it has.
        pub entries: Vec<String> = Vec::new(),
        /// More of it, one in a line; "#" begins a comment. Relative to the folder of this file.
        pub file: String = String::new(),
        /// A block list that it has as well, such as "xmpp:xmppbl.org?;node=muc_bans_sha256"; see [modules.rtbl].
        pub rtbl: String = String::new() => |list: &String| check_rtbl(list),
    }
}

section! {
    /// A number of stanzas in a time, that rules name as their rate. Stanzas of one rule that names it are counted
    /// when the rule is asked, and not when there were too many already.
    pub struct Limit in "rates" {
        /// Its name.
        pub name: String = String::new(),
        /// So many may come at once,
        pub stanzas: u32 = 10 => at_least(1),
        /// and so many in each such time.
        pub per: Seconds = Seconds(60) => |time| long_enough(*time),
        /// Whose are counted together: "sender", "domain" (of senders), "recipient", "all".
        pub by: By = By::Sender,
    }
}

/// Types of messages, presence and requests.
pub const TYPES: [(KindWord, &[&str]); 3] = [
    (KindWord::Message, &["normal", "chat", "groupchat", "headline", "error"]),
    (
        KindWord::Presence,
        &["available", "unavailable", "subscribe", "subscribed", "unsubscribe", "unsubscribed", "probe", "error"],
    ),
    (KindWord::Iq, &["get", "set", "result", "error"]),
];

/// What stands before the name of a list.
pub const LIST: &str = "list:";

fn check_rtbl(list: &str) -> Result<(), String> {
    if list.is_empty() || Source::parse(list).is_some() {
        return Ok(());
    }
    Err(format!("\"{list}\" is no block list; write for example \"xmpp:xmppbl.org?;node=muc_bans_sha256\""))
}

fn check_type(word: &str) -> Result<(), String> {
    let mut all: Vec<&str> = TYPES.iter().flat_map(|(_, types)| types.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    if all.contains(&word) { Ok(()) } else { Err(crate::setting::no_such_word(word, &all)) }
}

fn check_addresses(all: &[String]) -> Result<(), String> {
    all.iter().filter(|entry| !entry.starts_with(LIST)).try_for_each(|entry| addresses::check(entry))
}

fn check_payload(text: &str) -> Result<(), String> {
    match super::matcher::payload(text) {
        Some(_) => Ok(()),
        None => Err(format!("\"{text}\" is no element; write for example \"{{jabber:x:oob}}x\" or \"jabber:x:oob\"")),
    }
}

fn long_enough(time: Seconds) -> Result<(), String> {
    match time.0 {
        0 => Err("0 s is too short; write \"1 s\" or more".to_string()),
        1..=2_592_000 => Ok(()),
        _ => Err("this is too long; write \"30 d\" or less".to_string()),
    }
}

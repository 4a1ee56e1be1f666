//! The tables of RFC 6121 appendix A as plays: each state that two accounts of one server can be in, and each of the
//! four subscription stanzas that Romeo can send to Juliet in it.

use super::grammar::{self, Play};

/// The stanzas, in the order of the columns of [`TABLE`].
const KINDS: [&str; 4] = ["subscribe", "unsubscribe", "subscribed", "unsubscribed"];

/// Who sends what.
type Step = (&'static str, &'static str);
/// The state as Romeo has it, the steps that lead to it, and for each of [`KINDS`] whether Juliet sees the
/// stanza and the state afterwards. `+out`: Romeo has asked; `+in`: Juliet has asked; `+ok`: Romeo has granted
/// beforehand.
type Row = (&'static str, &'static [Step], [&'static str; 4]);

const TABLE: [Row; 9] = [
    ("none", &[], ["yes none+out", "no none", "no none+ok", "no none"]),
    ("none+out", &[R_ASKS], ["no none+out", "yes none", "no none+out+ok", "no none+out"]),
    ("none+in", &[J_ASKS], ["yes none+out+in", "no none+in", "yes from", "yes none"]),
    ("none+out+in", &[R_ASKS, J_ASKS], ["no none+out+in", "yes none+in", "yes from+out", "yes none+out"]),
    ("to", &[R_ASKS, J_GRANTS], ["no to", "yes none", "no to+ok", "no to"]),
    ("to+in", &[R_ASKS, J_GRANTS, J_ASKS], ["no to+in", "yes none+in", "yes both", "yes to"]),
    ("from", &[J_ASKS, R_GRANTS], ["yes from+out", "no from", "no from", "yes none"]),
    ("from+out", &[J_ASKS, R_GRANTS, R_ASKS], ["no from+out", "yes from", "no from+out", "yes none+out"]),
    ("both", &[R_ASKS, J_GRANTS, J_ASKS, R_GRANTS], ["no both", "yes from", "no both", "yes to"]),
];

const R_ASKS: Step = ("Romeo", "subscribe");
const J_ASKS: Step = ("Juliet", "subscribe");
const R_GRANTS: Step = ("Romeo", "subscribed");
const J_GRANTS: Step = ("Juliet", "subscribed");

const CAST: &str = "[Client] Romeo\n\tjid: romeo@localhost\n\tpassword: montague\n\
                    [Client] Juliet\n\tjid: juliet@localhost\n\tpassword: capulet\n---------\n";

/// One play for each cell of the tables.
pub fn plays() -> Vec<Play> {
    let mut plays = Vec::new();
    for (state, steps, cells) in TABLE {
        for (kind, cell) in KINDS.into_iter().zip(cells) {
            let name = format!("subscriptions: {kind} in state {state}");
            let text = script(steps, kind, cell);
            plays.push(grammar::parse(&name, &text).unwrap_or_else(|e| panic!("{e}\n{text}")));
        }
    }
    plays
}

fn script(steps: &[(&str, &str)], kind: &str, cell: &str) -> String {
    let (seen, next) = cell.split_once(' ').unwrap_or_default();
    let mut text = format!("{CAST}{}{}", enters("Romeo"), enters("Juliet"));
    for (who, kind) in steps {
        text.push_str(&sends(who, kind));
        text.push_str(&drained("Romeo"));
        text.push_str(&drained("Juliet"));
    }
    text.push_str(&sends("Romeo", kind));
    text.push_str(&pushed("Juliet"));
    if seen == "yes" {
        text.push_str(&format!("Juliet receives:\n\t<presence type='{kind}' from='romeo@localhost'/>\n"));
    }
    text.push_str(&pushed("Juliet"));
    text.push_str("Juliet receives nothing\n");
    text.push_str(&drained("Romeo"));
    text.push_str(&has("Romeo", "juliet@localhost", next));
    text.push_str(&has("Juliet", "romeo@localhost", &mirrored(next)));
    text
}

/// Connects, asks for the roster and becomes available, so that it hears of everything.
fn enters(who: &str) -> String {
    format!(
        "{who} connects\n{who} sends:\n\t<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>\n\
         {who} receives:\n\t<iq type='result' id='1'/>\n\
         {who} sends:\n\t<presence/>\n{who} receives:\n\t<presence from=\"${{{who}'s full JID}}\"/>\n"
    )
}

fn sends(who: &str, kind: &str) -> String {
    let other = if who == "Romeo" { "juliet" } else { "romeo" };
    format!("{who} sends:\n\t<presence type='{kind}' to='{other}@localhost'/>\n")
}

/// Roster pushes and plain presence are not what these plays are about.
fn pushed(who: &str) -> String {
    let other = if who == "Romeo" { "Juliet" } else { "Romeo" };
    let mut text = String::new();
    for _ in 0..2 {
        text.push_str(&format!("{who} may receive:\n\t<iq type='set'/>\n"));
        text.push_str(&format!("{who} may receive:\n\t<presence from=\"${{{other}'s full JID}}\"/>\n"));
        text.push_str(&format!("{who} may receive:\n\t<presence type='unavailable'/>\n"));
    }
    text
}

/// All that may have come.
fn drained(who: &str) -> String {
    format!("{who} may receive:\n\t<presence/>\n{who} may receive:\n\t<iq type='set'/>\n").repeat(4)
}

/// Asks for the roster, which must show the contact in that state.
fn has(who: &str, contact: &str, state: &str) -> String {
    let asks = format!("{who} sends:\n\t<iq type='get' id='2'><query xmlns='jabber:iq:roster'/></iq>\n");
    let (base, flags) = state.split_once('+').unwrap_or((state, ""));
    let mut attributes = format!("jid='{contact}' subscription='{base}'");
    if flags.contains("out") {
        attributes.push_str(" ask='subscribe'");
    }
    if flags.contains("ok") {
        attributes.push_str(" approved='true'");
    }
    let result = |inside: &str| {
        format!(
            "\t<iq type='result' id='2'><query xmlns='jabber:iq:roster' ver='{{scansion:any}}'>{inside}</query></iq>\n"
        )
    };
    let item = result(&format!("<item {attributes}/>"));
    if base != "none" || flags.contains("out") || flags.contains("ok") {
        return format!("{asks}{who} receives:\n{item}");
    }
    // A contact without any subscription may be an item or not, depending on what was before.
    format!("{asks}{who} may receive:\n{item}{who} may receive:\n{}{who} receives nothing\n", result(""))
}

/// The same state as the other side has it; what was granted beforehand is not known there.
fn mirrored(state: &str) -> String {
    let mut parts = state.split('+');
    let mut mirrored = match parts.next() {
        Some("to") => "from".to_owned(),
        Some("from") => "to".to_owned(),
        other => other.unwrap_or_default().to_owned(),
    };
    for flag in parts {
        mirrored.push_str(match flag {
            "out" => "+in",
            "in" => "+out",
            _ => "",
        });
    }
    mirrored
}

//! What came of an import, for people.

use crate::core::moving::{Outcome, Piece, Taken};
use crate::jid::Jid;
use std::collections::{BTreeMap, BTreeSet};

/// Lines of what was not taken; more are counted.
const LINES_MAX: usize = 1000;

/// Kinds of pieces in the order in which they are printed.
const KINDS: [&str; 20] = [
    "accounts",
    "administrators",
    "contacts",
    "roster versions",
    "vCards",
    "private elements",
    "blocklists",
    "last activities",
    "offline messages",
    "nodes",
    "items of nodes",
    "rooms",
    "vCards of rooms",
    "messages in rooms",
    "push registrations",
    "archive preferences",
    "archived messages",
    "archived in rooms",
    "files",
    "roles",
];

/// Where files stand in that list.
#[cfg(feature = "upload")]
const FILES: usize = 18;

/// New, the same, another one stays, replaced, refused.
type Counts = [u64; 5];

/// Counts, and what was left out.
#[derive(Debug, Default)]
pub struct Report {
    counts: BTreeMap<usize, Counts>,
    lines: Vec<String>,
    more: u64,
    /// Hosts that are not served here.
    foreign: BTreeSet<String>,
    /// What nothing here keeps, and how often it was seen.
    unknown: BTreeMap<String, u64>,
}

fn kind(piece: &Piece) -> usize {
    match piece {
        Piece::Account { .. } => 0,
        Piece::Administrator => 1,
        Piece::Contact { .. } => 2,
        Piece::RosterVersion(_) => 3,
        Piece::VCard(_) => 4,
        Piece::Private(_) => 5,
        Piece::Blocked(_) => 6,
        Piece::LastSeen(_) => 7,
        Piece::Offline { .. } => 8,
        Piece::Node(_) => 9,
        Piece::NodeItem(_) => 10,
        Piece::Room(_) => 11,
        Piece::RoomCard(_) => 12,
        Piece::RoomLine { .. } => 13,
        Piece::Push { .. } => 14,
        Piece::ArchivePrefs(_) => 15,
        Piece::Archived(_) => 16,
        Piece::RoomArchived(_) => 17,
        Piece::OtherRole => 19,
    }
}

impl Report {
    /// Counts a piece.
    pub fn count(&mut self, owner: &Jid, place: &str, piece: &Piece, outcome: &Outcome) {
        self.add(kind(piece), outcome);
        match (piece, outcome) {
            (Piece::Account { disabled: true, .. }, Ok(Taken::Stays)) => {
                self.unknown(format!("accounts that are disabled there, and not here: {owner}"));
            }
            (Piece::Account { disabled: true, .. }, Ok(_)) => {
                self.unknown(format!("passwords of accounts that are disabled there: {owner}"));
            }
            _ => {}
        }
        if let Err(refusal) = outcome {
            let what = match piece {
                Piece::Contact { jid, .. } => format!("the contact {jid}"),
                Piece::NodeItem(item) => format!("the item {:?} of {}", item.id, item.node),
                Piece::Node(node) => format!("the node {}", node.name),
                piece => KINDS.get(kind(piece)).copied().unwrap_or_default().to_string(),
            };
            self.line(format!("{place}: {owner}: {what}: {refusal}"));
        }
    }

    /// Counts a file.
    #[cfg(feature = "upload")]
    pub fn file(&mut self, place: &str, outcome: &Outcome) {
        self.add(FILES, outcome);
        if let Err(refusal) = outcome {
            self.line(format!("{place}: {refusal}"));
        }
    }

    fn add(&mut self, kind: usize, outcome: &Outcome) {
        let column = match outcome {
            Ok(Taken::Left(why)) => {
                return self.unknown(format!("{}: {why}", KINDS.get(kind).copied().unwrap_or_default()));
            }
            Ok(Taken::New) => 0,
            Ok(Taken::Same) => 1,
            Ok(Taken::Stays) => 2,
            Ok(Taken::Replaced) => 3,
            Ok(Taken::NotMine) | Err(_) => 4,
        };
        if let Some(count) = self.counts.entry(kind).or_default().get_mut(column) {
            *count += 1;
        }
    }

    /// Says why something was left out.
    pub fn line(&mut self, line: String) {
        if self.lines.len() < LINES_MAX {
            self.lines.push(line.replace(char::is_control, " "));
        } else {
            self.more += 1;
        }
    }

    /// Says once of a host that it is not served here.
    pub fn foreign(&mut self, place: &str, host: &str, setting: &str) {
        if self.foreign.insert(host.to_string()) {
            self.line(format!("{place}: {host} is none of {setting}: add it there"));
        }
    }

    /// Something that nothing here keeps; it is no problem.
    pub fn unknown(&mut self, what: String) {
        *self.unknown.entry(what).or_default() += 1;
    }

    /// True when nothing was left out that could have been taken.
    pub fn is_whole(&self) -> bool {
        self.lines.is_empty()
    }

    /// What was left out, a line each.
    pub fn problems(&self) -> String {
        let mut lines = self.lines.clone();
        if self.more > 0 {
            lines.push(format!("and {} more", self.more));
        }
        lines.join("\n")
    }

    /// The counts.
    pub fn table(&self, dry_run: bool) -> String {
        let head = ["new", "same", "differ, stay", "replaced", "refused"];
        let title = if dry_run { "would be taken" } else { "taken" };
        let mut lines = vec![format!("{title:<20}{}", head.map(|h| format!("{h:>14}")).concat())];
        for (kind, counts) in &self.counts {
            let name = KINDS.get(*kind).copied().unwrap_or_default();
            lines.push(format!("{name:<20}{}", counts.map(|n| format!("{n:>14}")).concat()));
        }
        if self.counts.is_empty() {
            lines = vec!["nothing was found that can be taken".to_string()];
        }
        lines.extend(self.unknown.iter().map(|(what, n)| format!("skipped: {what} ({n})")));
        lines.join("\n")
    }
}

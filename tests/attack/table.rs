//! The tables of hostile inputs: `inputs/STAGE.txt`.
//!
//! A line is `outcome | reference | name | script`; one that begins with a blank goes on with the script before it. A
//! title in brackets says how far the connection is before. What begins with `#` explains.

use crate::seen::Outcome;
use crate::stages::Stage;

/// The stages.
pub const STAGES: &[(&str, &str)] = &[
    ("raw", include_str!("inputs/raw.txt")),
    ("before TLS", include_str!("inputs/before-tls.txt")),
    ("under TLS", include_str!("inputs/under-tls.txt")),
    ("SASL", include_str!("inputs/sasl.txt")),
    ("logged in", include_str!("inputs/logged-in.txt")),
    ("bound", include_str!("inputs/bound.txt")),
    ("commands", include_str!("inputs/commands.txt")),
    ("federation", include_str!("inputs/federation.txt")),
    ("components", include_str!("inputs/components.txt")),
    ("http", include_str!("inputs/http.txt")),
];

/// One hostile input.
#[derive(Debug)]
pub struct Input {
    pub stage: Stage,
    pub outcome: Outcome,
    pub reference: String,
    pub name: String,
    pub script: String,
}

/// Reads a table.
pub fn read(table: &str) -> Result<Vec<Input>, String> {
    let mut inputs: Vec<Input> = Vec::new();
    let mut stage = None;
    for line in table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(title) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            stage = Some(Stage::named(title).ok_or_else(|| format!("no stage is called {title}"))?);
        } else if line.starts_with(' ') {
            let input = inputs.last_mut().ok_or_else(|| format!("what goes on with {line}?"))?;
            input.script.push_str(line.trim_start());
        } else {
            let mut parts = line.splitn(4, " | ");
            let mut part = || parts.next().ok_or_else(|| format!("four parts make a line: {line}"));
            let outcome = part()?;
            inputs.push(Input {
                stage: stage.ok_or("a title comes first")?,
                outcome: Outcome::read(outcome).ok_or_else(|| format!("what is {outcome}?"))?,
                reference: part()?.to_owned(),
                name: part()?.to_owned(),
                script: part()?.to_owned(),
            });
        }
    }
    Ok(inputs)
}

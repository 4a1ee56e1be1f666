//! What must not be allowed, each with its twin that is: `pairs.txt`.
//!
//! ```text
//! = name | reference
//!   who | script                 what comes before
//! - outcome | who | script       must not be allowed
//! + outcome | who | script       must be
//! ```
//!
//! Outcomes are those of inputs, and `reaches WHO TEXT`, `misses WHO TEXT`: what another gets of it. Whoever is named
//! stays connected from line to line, until his stream ends.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use crate::script;
use crate::seen::{Outcome, Seen, look};
use crate::stages::{Stage, Stream};
use crate::target::Target;
use crate::wire::{End, PATIENCE};

pub const PAIRS: &str = include_str!("pairs.txt");

/// Behind it nothing comes.
const END: &str = "</stream:stream>";

/// What a line leads to.
#[derive(Clone, Copy, Debug)]
enum Expected {
    Outcome(&'static str),
    Reaches(&'static str, &'static str),
    Misses(&'static str, &'static str),
}

/// One line of a pair.
#[derive(Debug)]
pub struct Line {
    pub pair: &'static str,
    pub kind: char,
    expected: Expected,
    who: &'static str,
    script: &'static str,
}

/// Reads the table.
pub fn read(table: &'static str) -> Result<Vec<Line>, String> {
    let (mut lines, mut pair) = (Vec::new(), "");
    for line in table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let short = || format!("too short: {line}");
        match (line.chars().next(), line.get(2..).unwrap_or_default()) {
            (Some('='), name) => pair = name.split(" | ").next().ok_or_else(short)?,
            (Some(' '), rest) => {
                let (who, script) = rest.split_once(" | ").ok_or_else(short)?;
                lines.push(Line { pair, kind: ' ', expected: Expected::Outcome("lives"), who, script });
            }
            (Some(kind @ ('-' | '+')), rest) => {
                let mut parts = rest.splitn(3, " |");
                let mut part = || parts.next().map(str::trim).ok_or_else(short);
                let (outcome, who, script) = (part()?, part()?, part()?);
                let expected = match outcome.splitn(3, ' ').collect::<Vec<_>>()[..] {
                    ["reaches", whom, text] => Expected::Reaches(whom, text),
                    ["misses", whom, text] => Expected::Misses(whom, text),
                    _ => Expected::Outcome(outcome),
                };
                lines.push(Line { pair, kind, expected, who, script });
            }
            _ => return Err(format!("what is {line}?")),
        }
    }
    Ok(lines)
}

/// Everybody who is connected.
pub struct Cast<'a> {
    target: &'a Target,
    there: BTreeMap<&'static str, Stream>,
}

impl<'a> Cast<'a> {
    pub fn new(target: &'a Target) -> Self {
        Self { target, there: BTreeMap::new() }
    }

    /// Performs a line. `twin` is the line of the pair that must be allowed, which this one must then not look like.
    pub fn perform(&mut self, line: &Line, twin: Option<&Line>) -> Result<(), String> {
        let place = |error: io::Error| format!("{} {} {}: {error}", line.pair, line.kind, line.who);
        let listeners = [Some(line), twin].into_iter().flatten().filter_map(|line| match line.expected {
            Expected::Reaches(whom, _) | Expected::Misses(whom, _) => Some(whom),
            Expected::Outcome(_) => None,
        });
        for whom in listeners.collect::<Vec<_>>() {
            self.hush(whom).map_err(place)?;
        }
        let outcome = match line.expected {
            Expected::Outcome(words) => Outcome::read(words).ok_or_else(|| format!("what is {words}?"))?,
            // Whatever the sender is told.
            _ => Outcome::Answers(String::new()),
        };
        let seen = self.act(line.who, line.script, &outcome).map_err(place)?;
        let fits = match line.expected {
            Expected::Reaches(whom, text) => self.gets(whom, text, PATIENCE).map_err(place)?,
            Expected::Misses(whom, text) => !self.gets(whom, text, Duration::ZERO).map_err(place)?,
            Expected::Outcome(_) => line.kind == ' ' || seen.is(&outcome),
        };
        if !fits {
            return Err(format!("{} {}: {:?} does not come: {seen:?}", line.pair, line.kind, line.expected));
        }
        let allowed = match twin.map(|twin| twin.expected) {
            Some(Expected::Reaches(whom, text)) => self.gets(whom, text, Duration::ZERO).map_err(place)?,
            Some(Expected::Outcome(words)) => Outcome::read(words).is_some_and(|outcome| seen.is(&outcome)),
            Some(Expected::Misses(..)) | None => false,
        };
        if allowed { Err(format!("{}: it is allowed: {seen:?}", line.pair)) } else { Ok(()) }
    }

    fn act(&mut self, who: &'static str, script: &str, outcome: &Outcome) -> io::Result<Seen> {
        let mut stream = self.take(who)?;
        stream.wire.got.clear();
        script::send(script, &mut stream)?;
        // What has reached himself is looked at later.
        let seen = look(&mut stream, outcome)?;
        stream.wire.got = seen.text.clone().into_bytes();
        self.put_back(who, stream);
        Ok(seen)
    }

    /// Forgets what somebody has got so far.
    fn hush(&mut self, who: &'static str) -> io::Result<()> {
        let mut stream = self.take(who)?;
        look(&mut stream, &Outcome::Answers(String::new()))?;
        self.put_back(who, stream);
        Ok(())
    }

    /// Whether somebody has got a text, or gets it in that time; without time, whether it was there before the answer
    /// to what he asks now.
    fn gets(&mut self, who: &'static str, text: &str, patience: Duration) -> io::Result<bool> {
        let mut stream = self.take(who)?;
        let mut got = std::mem::take(&mut stream.wire.got);
        let begun = Instant::now();
        loop {
            let seen = look(&mut stream, &Outcome::Answers(String::new()))?;
            got.extend_from_slice(seen.text.as_bytes());
            let found = memchr::memmem::find(&got, text.as_bytes()).is_some();
            if found || begun.elapsed() >= patience || stream.wire.end != End::Open {
                stream.wire.got = got;
                self.put_back(who, stream);
                return Ok(found);
            }
            stream.wire.wait(Duration::from_millis(50));
            got.append(&mut stream.wire.got);
        }
    }

    fn take(&mut self, who: &'static str) -> io::Result<Stream> {
        if let Some(mut stream) = self.there.remove(who) {
            while stream.wire.wait(Duration::ZERO) {}
            // What has been read of it before may have been its end.
            if stream.wire.end == End::Open && memchr::memmem::find(&stream.wire.got, END.as_bytes()).is_none() {
                return Ok(stream);
            }
        }
        Stage::of(who).0.open(self.target)
    }

    fn put_back(&mut self, who: &'static str, stream: Stream) {
        if Stage::of(who).1 && stream.wire.end == End::Open {
            self.there.insert(who, stream);
        }
    }
}

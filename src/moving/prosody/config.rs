//! `prosody.cfg.lua`: options in sections, as far as they can be read without being run.

use crate::moving::lua::{Lexer, Table, Token, Unread, Value, Wrong};
use std::fmt;

/// Files of one configuration, one that is named twice counting twice.
const FILES_MAX: usize = 256;

/// Whose options these are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everybody's.
    Global,
    /// `VirtualHost "name"`.
    Host(String),
    /// `Component "name" "module"`; without a module it is a program of its own.
    Component(String, Option<String>),
}

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// As it was named.
    pub file: String,
    /// Counts from 1.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One option.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Whose.
    pub scope: Scope,
    /// Its name.
    pub name: String,
    /// What it is set to.
    pub value: Value,
    /// Where.
    pub place: Place,
}

/// A configuration.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Hosts and components, in their order.
    pub scopes: Vec<(Scope, Place)>,
    /// Options, in their order.
    pub entries: Vec<Entry>,
    /// What was not read, with the reason.
    pub notes: Vec<(Place, String)>,
}

impl Settings {
    /// The last value of a global option.
    pub fn global(&self, name: &str) -> Option<&Value> {
        self.entries.iter().rev().find(|e| e.scope == Scope::Global && e.name == name).map(|e| &e.value)
    }

    /// Names of the hosts.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.scopes
            .iter()
            .filter_map(|(scope, _)| if let Scope::Host(host) = scope { Some(host.as_str()) } else { None })
    }
}

/// What a file says, in its order.
#[derive(Debug)]
enum Statement {
    Section(Scope),
    /// `VirtualHost "name" { ... }` ends the section with its options.
    EndSection,
    Option(String, Value),
    Include(String),
    Unread(String),
}

/// A file that is being read.
struct Source {
    name: String,
    rest: std::vec::IntoIter<(u32, Statement)>,
    scope: Scope,
}

impl Source {
    fn open(name: String, text: &[u8]) -> Result<Self, (Place, String)> {
        match statements(text) {
            Ok(all) => Ok(Self { name, rest: all.into_iter(), scope: Scope::Global }),
            Err(wrong) => Err((Place { file: name, line: wrong.line }, wrong.what.to_string())),
        }
    }
}

/// Gives the files that a pattern stands for, by the file that it stands in and the pattern: names and contents.
pub type Include<'a> = &'a mut dyn FnMut(&str, &str) -> Result<Vec<(String, Vec<u8>)>, String>;

/// Reads a configuration. `include` gives the files that a pattern in a file stands for, with their names.
///
/// # Errors
/// Where it is no Lua.
pub fn read(name: &str, text: &[u8], include: Include<'_>) -> Result<Settings, (Place, String)> {
    let mut settings = Settings::default();
    let mut open = vec![Source::open(name.to_string(), text)?];
    let mut files = 1;
    // A list of what is open stands in for recursion.
    while let Some(source) = open.last_mut() {
        let Some((line, statement)) = source.rest.next() else {
            open.pop();
            continue;
        };
        let place = Place { file: source.name.clone(), line };
        match statement {
            Statement::Section(scope) => {
                source.scope = scope.clone();
                settings.scopes.push((scope, place));
            }
            Statement::EndSection => source.scope = Scope::Global,
            Statement::Option(name, value) => {
                settings.entries.push(Entry { scope: source.scope.clone(), name, value, place });
            }
            Statement::Unread(what) => settings.notes.push((place, what)),
            Statement::Include(pattern) => match include(&place.file, &pattern) {
                Ok(found) => {
                    for (name, text) in found.into_iter().rev() {
                        files += 1;
                        if files > FILES_MAX {
                            settings.notes.push((place.clone(), format!("{name} was left out: too many files")));
                            continue;
                        }
                        open.push(Source::open(name, &text)?);
                    }
                }
                Err(why) => settings.notes.push((place, format!("Include {pattern:?}: {why}"))),
            },
        }
    }
    Ok(settings)
}

/// What is said of something that would have to be run.
pub fn not_run(unread: &Unread) -> String {
    format!("`{}` would have to be run, and nothing is", unread.text)
}

fn statements(text: &[u8]) -> Result<Vec<(u32, Statement)>, Wrong> {
    let mut lexer = Lexer::new(text);
    let mut all = Vec::new();
    loop {
        while lexer.take(";")? {}
        let (line, from) = (lexer.line(), lexer.at());
        let before = lexer.clone();
        match lexer.token()? {
            None => return Ok(all),
            Some(Token::Name("VirtualHost" | "Host" | "host")) => {
                let name = name_of(&mut lexer, "VirtualHost needs a name in quotes")?;
                all.push((line, Statement::Section(Scope::Host(name))));
                options(&mut lexer, &mut all)?;
            }
            Some(Token::Name("Component" | "component")) => {
                let name = name_of(&mut lexer, "Component needs a name in quotes")?;
                let module = match lexer.peek()? {
                    Some(Token::Text(_)) => Some(name_of(&mut lexer, "")?),
                    Some(Token::Sign("(")) => Some(name_of(&mut lexer, "the module of a Component needs quotes")?),
                    _ => None,
                };
                all.push((line, Statement::Section(Scope::Component(name, module))));
                options(&mut lexer, &mut all)?;
            }
            Some(Token::Name("Include" | "include")) => match name_of(&mut lexer, "") {
                Ok(pattern) => all.push((line, Statement::Include(pattern))),
                Err(_) => {
                    lexer = before;
                    all.push((line, skip(&mut lexer, from)?));
                }
            },
            Some(Token::Name("if" | "for" | "while" | "repeat" | "function" | "do" | "local" | "return")) => {
                lexer = before;
                all.push((line, skip(&mut lexer, from)?));
            }
            Some(Token::Name(name)) => {
                let name = name.to_string();
                if lexer.take("=")? {
                    let value = lexer.value()?;
                    all.push((line, Statement::Option(name, value)));
                } else {
                    lexer = before;
                    all.push((line, skip(&mut lexer, from)?));
                }
            }
            Some(_) => return Err(Wrong { line, what: "an option starts with its name" }),
        }
    }
}

/// A name in quotes, in brackets or not.
fn name_of(lexer: &mut Lexer<'_>, what: &'static str) -> Result<String, Wrong> {
    let bracket = lexer.take("(")?;
    let wrong = lexer.wrong(what);
    let Some(Token::Text(name)) = lexer.token()? else { return Err(wrong) };
    if bracket && !lexer.take(")")? {
        return Err(wrong);
    }
    String::from_utf8(name).map_err(|_| wrong)
}

/// `{ ... }` behind a section.
fn options(lexer: &mut Lexer<'_>, all: &mut Vec<(u32, Statement)>) -> Result<(), Wrong> {
    if lexer.peek()? != Some(Token::Sign("{")) {
        return Ok(());
    }
    let line = lexer.line();
    if let Value::Table(Table(fields)) = lexer.value()? {
        for (key, value) in fields {
            if let Some(name) = key.text() {
                all.push((line, Statement::Option(name.to_string(), value)));
            }
        }
    }
    all.push((line, Statement::EndSection));
    Ok(())
}

/// Skips a statement that would have to be run.
fn skip(lexer: &mut Lexer<'_>, from: usize) -> Result<Statement, Wrong> {
    let mut ahead = lexer.clone();
    let word = if let Some(Token::Name(word)) = ahead.token()? { word } else { "" };
    match word {
        "if" | "function" | "do" | "repeat" => {
            *lexer = ahead;
            lexer.skip_block()?;
        }
        "for" | "while" => {
            // Up to its `do`, which opens the block.
            *lexer = ahead;
            while !lexer.take_name("do")? {
                if lexer.token()?.is_none() {
                    return Err(lexer.wrong("a loop has no `do`"));
                }
            }
            lexer.skip_block()?;
        }
        "local" => {
            *lexer = ahead;
            if lexer.take_name("function")? {
                lexer.skip_block()?;
            } else {
                while matches!(lexer.peek()?, Some(Token::Name(_) | Token::Sign("," | "<" | ">")))
                    && !matches!(lexer.peek()?, Some(Token::Name(name)) if starts_a_statement(lexer, name)?)
                {
                    lexer.token()?;
                }
                values(lexer)?;
            }
        }
        "return" => {
            *lexer = ahead;
            while lexer.token()?.is_some() {}
        }
        _ => {
            lexer.skip_expression(true)?;
            while lexer.take(",")? {
                lexer.skip_expression(true)?;
            }
            values(lexer)?;
        }
    }
    Ok(Statement::Unread(format!("`{}` was not read: it would have to be run, and nothing is", lexer.excerpt(from))))
}

/// True for the name of an option or a section, behind the names of a `local` without a value.
fn starts_a_statement(lexer: &Lexer<'_>, name: &str) -> Result<bool, Wrong> {
    let mut ahead = lexer.clone();
    ahead.token()?;
    let follows = ahead.peek()?;
    Ok(matches!(name, "VirtualHost" | "Component" | "Include" | "local" | "if" | "for" | "function")
        || matches!(follows, Some(Token::Text(_))))
}

/// `= value, value`.
fn values(lexer: &mut Lexer<'_>) -> Result<(), Wrong> {
    if lexer.take("=")? {
        lexer.skip_expression(true)?;
        while lexer.take(",")? {
            lexer.skip_expression(true)?;
        }
    }
    Ok(())
}

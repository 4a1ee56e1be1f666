//! Values: what an expression gives without being run.

use super::lexer::{Lexer, Token, Wrong};

/// Tables in tables. Prosody writes up to 127 of them.
const DEPTH_MAX: usize = 132;
/// Fields of all tables of one value.
const FIELDS_MAX: usize = 1 << 18;
/// Operands of one expression.
const OPERANDS_MAX: usize = 64;

/// What was not read, because it would have to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Counts from 1.
    pub line: u32,
    /// How it begins.
    pub text: String,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Nil,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A text, which may hold any bytes.
    Text(Vec<u8>),
    /// Fields.
    Table(Table),
    /// It would have to be run.
    Unread(Unread),
}

/// The fields of a table in the order in which they stand there; those without a key have numbers from 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table(pub Vec<(Value, Value)>);

impl Table {
    /// The value of a text key; of several the last.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let is = |k: &Value| matches!(k, Value::Text(text) if text == key.as_bytes());
        self.0.iter().rev().find(|(k, _)| is(k)).map(|(_, value)| value)
    }

    /// The values of keys that are numbers, in their order.
    pub fn list(&self) -> Vec<&Value> {
        let number = |key: &Value| if let Value::Int(n) = key { Some(*n) } else { None };
        let mut list: Vec<_> = self.0.iter().filter_map(|(key, value)| Some((number(key)?, value))).collect();
        list.sort_by_key(|(n, _)| *n);
        list.into_iter().map(|(_, value)| value).collect()
    }

    /// The fields whose keys are texts.
    pub fn named(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().filter_map(|(key, value)| Some((key.text()?, value)))
    }
}

impl Value {
    /// The text, if it is one and UTF-8.
    pub fn text(&self) -> Option<&str> {
        if let Value::Text(text) = self { std::str::from_utf8(text).ok() } else { None }
    }

    /// The table, if it is one.
    pub fn table(&self) -> Option<&Table> {
        if let Value::Table(table) = self { Some(table) } else { None }
    }

    /// The number, as far as it is whole.
    pub fn int(&self) -> Option<i64> {
        match self {
            Value::Int(n) => Some(*n),
            // Beyond that a float says nothing of the ones.
            Value::Float(n) if n.abs() < 9e15 => Some(*n as i64),
            _ => None,
        }
    }

    /// The number.
    pub fn number(&self) -> Option<f64> {
        match self {
            Value::Int(n) => Some(*n as f64),
            Value::Float(n) => Some(*n),
            _ => None,
        }
    }

    /// The truth value, if it is one.
    pub fn bool(&self) -> Option<bool> {
        if let Value::Bool(is) = self { Some(*is) } else { None }
    }
}

/// A table that is being read.
#[derive(Default)]
struct Frame {
    table: Table,
    next: i64,
    key: Option<Value>,
    chain: Chain,
}

/// Operands with what stands between them.
#[derive(Default)]
struct Chain {
    operands: Vec<Value>,
    operators: Vec<&'static str>,
}

/// The start of an operand.
enum Operand {
    Whole(Value),
    Table,
}

impl Lexer<'_> {
    /// A value of a data file.
    ///
    /// # Errors
    /// What is wrong; also anything that would have to be run.
    pub fn data_value(&mut self) -> Result<Value, Wrong> {
        match self.value_by(true)? {
            Value::Unread(unread) => Err(Wrong { line: unread.line, what: NOT_DATA }),
            value => Ok(value),
        }
    }

    /// A value of a configuration. What would have to be run is skipped.
    ///
    /// # Errors
    /// What is wrong.
    pub fn value(&mut self) -> Result<Value, Wrong> {
        self.value_by(false)
    }

    /// A list of the tables that are open stands in for recursion.
    fn value_by(&mut self, data_only: bool) -> Result<Value, Wrong> {
        let mut frames: Vec<Frame> = Vec::new();
        let mut chain = Chain::default();
        let mut fields = 0;
        let mut closed: Option<Value> = None;
        loop {
            let operand = match closed.take() {
                Some(table) => Operand::Whole(table),
                None => self.operand()?,
            };
            let operand = match operand {
                Operand::Whole(value) => value,
                Operand::Table => {
                    if frames.len() >= DEPTH_MAX {
                        return Err(self.wrong("tables are nested too deep"));
                    }
                    let mut frame = Frame { next: 1, ..Frame::default() };
                    if self.field(&mut frame)? {
                        frames.push(frame);
                    } else {
                        closed = Some(Value::Table(frame.table));
                    }
                    continue;
                }
            };
            let chain = frames.last_mut().map_or(&mut chain, |frame| &mut frame.chain);
            let Some(value) = self.chained(chain, operand)? else { continue };
            if data_only && let Value::Unread(unread) = &value {
                return Err(Wrong { line: unread.line, what: NOT_DATA });
            }
            let Some(frame) = frames.last_mut() else { return Ok(value) };
            fields += 1;
            if fields > FIELDS_MAX {
                return Err(self.wrong("there are too many fields"));
            }
            let key = frame.key.take().unwrap_or_else(|| {
                frame.next += 1;
                Value::Int(frame.next - 1)
            });
            if value != Value::Nil {
                frame.table.0.push((key, value));
            }
            let ends = if self.take(",")? || self.take(";")? {
                !self.field(frame)?
            } else if self.take("}")? {
                true
            } else {
                return Err(self.wrong("a comma or the end of a table is missing"));
            };
            if ends {
                closed = frames.pop().map(|frame| Value::Table(frame.table));
            }
        }
    }

    /// Adds an operand. Gives the value of the whole when nothing follows.
    fn chained(&mut self, chain: &mut Chain, operand: Value) -> Result<Option<Value>, Wrong> {
        let is_unread = matches!(operand, Value::Unread(_));
        chain.operands.push(operand);
        if !is_unread {
            let Some(operator) = self.operator()? else { return Ok(Some(folded(std::mem::take(chain), self))) };
            if matches!(operator, "+" | "-" | "*" | "/" | "..") && chain.operands.len() < OPERANDS_MAX {
                chain.operators.push(operator);
                return Ok(None);
            }
            let (line, from) = (self.line(), self.at());
            self.skip_expression(true)?;
            chain.operands.push(Value::Unread(Unread { line, text: format!("{operator} {}", self.excerpt(from)) }));
        }
        let Chain { operands, .. } = std::mem::take(chain);
        let unread = operands.into_iter().rev().find(|value| matches!(value, Value::Unread(_)));
        Ok(Some(unread.unwrap_or(Value::Nil)))
    }

    /// A key, if there is one, up to its value. False when the table ends instead.
    fn field(&mut self, frame: &mut Frame) -> Result<bool, Wrong> {
        if self.take("}")? {
            return Ok(false);
        }
        if self.take("[")? {
            let key = match self.operand()? {
                Operand::Whole(key) if !matches!(key, Value::Nil) => key,
                _ => return Err(self.wrong("this is no key of a table")),
            };
            if !self.take("]")? || !self.take("=")? {
                return Err(self.wrong("the key of a table has no `] =` behind it"));
            }
            frame.key = Some(key);
            return Ok(true);
        }
        let mut ahead = self.clone();
        if let Some(Token::Name(name)) = ahead.token()?
            && ahead.take("=")?
        {
            frame.key = Some(Value::Text(name.as_bytes().to_vec()));
            *self = ahead;
        }
        Ok(true)
    }

    /// What can stand between two signs.
    fn operand(&mut self) -> Result<Operand, Wrong> {
        let line = self.line();
        let from = self.at();
        let before = self.clone();
        let minus = self.take("-")?;
        let value = match self.token()? {
            Some(Token::Int(n)) => Value::Int(if minus { n.wrapping_neg() } else { n }),
            Some(Token::Float(n)) => Value::Float(if minus { -n } else { n }),
            Some(Token::Text(text)) if !minus => Value::Text(text),
            Some(Token::Name("true")) if !minus => Value::Bool(true),
            Some(Token::Name("false")) if !minus => Value::Bool(false),
            Some(Token::Name("nil")) if !minus => Value::Nil,
            Some(Token::Sign("{")) if !minus => return Ok(Operand::Table),
            Some(Token::Sign("(")) if !minus => match self.infinite()? {
                Some(value) => value,
                None => self.unread(before, line, from)?,
            },
            _ => self.unread(before, line, from)?,
        };
        Ok(Operand::Whole(value))
    }

    /// `(1/0)`, `(-1/0)` and `(0/0)`, as Prosody writes what is no number.
    fn infinite(&mut self) -> Result<Option<Value>, Wrong> {
        let minus = self.take("-")?;
        let over = self.token()?;
        if !self.take("/")? || self.token()? != Some(Token::Int(0)) || !self.take(")")? {
            return Ok(None);
        }
        Ok(match over {
            Some(Token::Int(0)) => Some(Value::Float(f64::NAN)),
            Some(Token::Int(1)) if minus => Some(Value::Float(f64::NEG_INFINITY)),
            Some(Token::Int(1)) => Some(Value::Float(f64::INFINITY)),
            _ => None,
        })
    }

    fn unread(&mut self, before: Self, line: u32, from: usize) -> Result<Value, Wrong> {
        *self = before;
        self.skip_expression(true)?;
        Ok(Value::Unread(Unread { line, text: self.excerpt(from) }))
    }

    /// Takes an operator between two operands, if one is next.
    fn operator(&mut self) -> Result<Option<&'static str>, Wrong> {
        let mut ahead = self.clone();
        let operator = match ahead.token()? {
            Some(Token::Sign(
                sign @ ("+" | "-" | "*" | "/" | "//" | "%" | "^" | ".." | "==" | "~=" | "<" | ">" | "<=" | ">=" | "&"
                | "|" | "~" | "<<" | ">>"),
            )) => sign,
            Some(Token::Name("and")) => "and",
            Some(Token::Name("or")) => "or",
            _ => return Ok(None),
        };
        *self = ahead;
        Ok(Some(operator))
    }

    /// Skips an expression, from its start or from behind an operand, to where nothing belongs to it any more.
    ///
    /// # Errors
    /// When it has no end.
    pub fn skip_expression(&mut self, mut wants_operand: bool) -> Result<(), Wrong> {
        loop {
            let before = self.clone();
            match (self.token()?, wants_operand) {
                (Some(Token::Sign("-" | "#" | "~") | Token::Name("not")), true) => {}
                (Some(Token::Name("function")), true) => {
                    self.skip_block()?;
                    wants_operand = false;
                }
                (Some(Token::Sign("(" | "{")), true) => {
                    self.skip_brackets()?;
                    wants_operand = false;
                }
                (Some(Token::Name(name)), true) if is_reserved(name) => {
                    return Err(self.wrong("a value is missing"));
                }
                (
                    Some(Token::Name(_) | Token::Text(_) | Token::Int(_) | Token::Float(_) | Token::Sign("...")),
                    true,
                ) => {
                    wants_operand = false;
                }
                (_, true) => return Err(self.wrong("a value is missing")),
                (Some(Token::Sign("." | ":")), false) => {
                    let Some(Token::Name(_)) = self.token()? else { return Err(self.wrong("a name is missing")) };
                }
                (Some(Token::Sign("(" | "[" | "{")), false) => self.skip_brackets()?,
                (Some(Token::Text(_)), false) => {}
                (_, false) => {
                    *self = before;
                    if self.operator()?.is_none() {
                        return Ok(());
                    }
                    wants_operand = true;
                }
            }
        }
    }

    /// Skips to the bracket that closes the one that was taken last.
    fn skip_brackets(&mut self) -> Result<(), Wrong> {
        let mut depth = 1_u32;
        while depth > 0 {
            match self.token()? {
                Some(Token::Sign("(" | "[" | "{")) => depth += 1,
                Some(Token::Sign(")" | "]" | "}")) => depth -= 1,
                Some(_) => {}
                None => return Err(self.wrong("a bracket is not closed")),
            }
        }
        Ok(())
    }

    /// Skips to the `end` of the block whose first word was taken last.
    ///
    /// # Errors
    /// When there is none.
    pub fn skip_block(&mut self) -> Result<(), Wrong> {
        let mut depth = 1_u32;
        while depth > 0 {
            match self.token()? {
                Some(Token::Name("function" | "if" | "do" | "repeat")) => depth += 1,
                Some(Token::Name("end")) => depth -= 1,
                Some(Token::Name("until")) => {
                    depth -= 1;
                    if depth == 0 {
                        self.skip_expression(true)?;
                    }
                }
                Some(_) => {}
                None => return Err(self.wrong("a block has no `end`")),
            }
        }
        Ok(())
    }
}

const NOT_DATA: &str = "this is no data: it would have to be run, and nothing is";

/// Words of the language that are no values.
pub fn is_reserved(name: &str) -> bool {
    const WORDS: [&str; 18] = [
        "and", "break", "do", "else", "elseif", "end", "for", "function", "goto", "if", "in", "local", "not", "or",
        "repeat", "return", "then", "while",
    ];
    WORDS.contains(&name) || name == "until"
}

/// The value of operands that are numbers and texts.
fn folded(chain: Chain, lexer: &Lexer<'_>) -> Value {
    let Chain { operands, operators } = chain;
    let mut operands = operands.into_iter();
    let Some(first) = operands.next() else { return Value::Nil };
    let mut done: Vec<(&str, Value)> = vec![("", first)];
    let mut is_known = true;
    // Products before sums, sums before texts.
    for (operator, operand) in operators.into_iter().zip(operands) {
        match (operator, done.last_mut()) {
            ("*" | "/", Some((_, last))) => match arithmetic(operator, last, &operand) {
                Some(value) => *last = value,
                None => is_known = false,
            },
            _ => done.push((operator, operand)),
        }
    }
    let mut texts: Vec<Value> = Vec::new();
    for (operator, operand) in done {
        match (operator, texts.last_mut()) {
            ("+" | "-", Some(last)) => match arithmetic(operator, last, &operand) {
                Some(value) => *last = value,
                None => is_known = false,
            },
            _ => texts.push(operand),
        }
    }
    if texts.len() > 1 {
        let mut joined = Vec::new();
        for part in &texts {
            match part {
                Value::Text(text) => joined.extend_from_slice(text),
                Value::Int(n) => joined.extend_from_slice(n.to_string().as_bytes()),
                _ => is_known = false,
            }
        }
        texts = vec![Value::Text(joined)];
    }
    match texts.pop().filter(|_| is_known) {
        Some(value) => value,
        None => Value::Unread(Unread { line: lexer.wrong("").line, text: "what is calculated there".to_string() }),
    }
}

fn arithmetic(operator: &str, left: &Value, right: &Value) -> Option<Value> {
    if let (Value::Int(a), Value::Int(b)) = (left, right) {
        let whole = match operator {
            "*" => a.checked_mul(*b),
            "+" => a.checked_add(*b),
            "-" => a.checked_sub(*b),
            _ => (*b != 0 && a.checked_rem(*b) == Some(0)).then(|| a.checked_div(*b)).flatten(),
        };
        if whole.is_some() {
            return whole.map(Value::Int);
        }
    }
    let (a, b) = (left.number()?, right.number()?);
    Some(Value::Float(match operator {
        "*" => a * b,
        "+" => a + b,
        "-" => a - b,
        _ => a / b,
    }))
}

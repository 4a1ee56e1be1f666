//! The part of Lua that holds data: tables, texts, numbers, `true`, `false` and `nil`.
//!
//! Numbers and texts may stand beside each other with `+ - * / ..` between them, as in `7 * 24 * 60`. Everything else
//! (names, calls, functions) is skipped to its end and becomes [`Value::Unread`] with its line, or an error where
//! nothing but data belongs. Depth, nodes and bytes are bounded, and nothing here calls itself.

mod lexer;
mod list;
mod value;

pub use lexer::{Lexer, Token, Wrong};
pub use list::{Items, ListError};
pub use value::{Table, Unread, Value};

/// Reads a file that holds `return` and a value.
///
/// # Errors
/// What is wrong, and in which line.
pub fn data(bytes: &[u8]) -> Result<Value, Wrong> {
    let mut lexer = Lexer::new(bytes);
    if !lexer.take_name("return")? {
        return Err(lexer.wrong("this is no data file: it does not start with `return`"));
    }
    let value = lexer.data_value()?;
    while lexer.take(";")? {}
    match lexer.peek()? {
        None => Ok(value),
        Some(_) => Err(lexer.wrong("something stands behind the data")),
    }
}

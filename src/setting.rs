//! Settings as values: what a configuration key can hold, and how a section of keys is declared.
//!
//! One row of [`section!`] gives a key its field, type, default, documentation, environment variable and line in
//! `config.example.toml`. Nothing here knows the syntax of a file: the `config` floor reads TOML and the environment
//! and hands over a [`Value`].

pub mod rows;
mod units;

pub use units::{Burst, Bytes, Rate, Seconds};

use std::fmt::Write as _;
use zeroize::Zeroizing;

/// A value as the operator wrote it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Quoted text.
    Str(String),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// `true` or `false`.
    Bool(bool),
    /// A list of values.
    List(Vec<Value>),
    /// Text from the environment, where nothing is quoted: each type reads it as if it stood in the file, and lists
    /// are separated by commas.
    Text(String),
}

impl Value {
    /// What it is, for a message: `a text`, `a number`.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Str(_) | Value::Text(_) => "a text",
            Value::Int(_) => "a number",
            Value::Float(_) => "a number with a fraction",
            Value::Bool(_) => "true or false",
            Value::List(_) => "a list",
        }
    }

    /// The text, quoted or from the environment.
    pub fn text(&self) -> Option<&str> {
        match self {
            Value::Str(s) | Value::Text(s) => Some(s),
            Value::Int(_) | Value::Float(_) | Value::Bool(_) | Value::List(_) => None,
        }
    }

    /// The value as a message shows it.
    fn shown(&self) -> String {
        match self {
            Value::Str(s) | Value::Text(s) => quote(s),
            Value::Int(n) => n.to_string(),
            Value::Float(n) => n.to_string(),
            Value::Bool(b) => b.to_string(),
            Value::List(_) => "the list".to_string(),
        }
    }
}

/// A type that a key can have.
pub trait Setting: Sized {
    /// What to write, for messages and for the example: `a size such as "256 kB"`.
    fn kind() -> String;
    /// Reads a value.
    ///
    /// # Errors
    /// One line that says what is wrong and what to write.
    fn parse(value: &Value) -> Result<Self, String>;
    /// The value as TOML; what [`Setting::parse`] would read back, except for a [`Secret`].
    fn show(&self) -> String;
}

/// The message for a value of the wrong kind.
pub fn wanted<T: Setting>(value: &Value) -> String {
    match value.text() {
        Some(_) => format!("{} is not {}", value.shown(), T::kind()),
        None => format!("this is {}; write {}", value.kind(), T::kind()),
    }
}

impl Setting for bool {
    fn kind() -> String {
        "true or false".to_string()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        match value {
            Value::Bool(b) => Ok(*b),
            Value::Text(s) if s == "true" => Ok(true),
            Value::Text(s) if s == "false" => Ok(false),
            Value::Str(s) if s == "true" || s == "false" => Err(format!("write {s} without quotes")),
            _ => Err(wanted::<Self>(value)),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

macro_rules! whole_number {
    ($($ty:ident)*) => { $(
        impl Setting for $ty {
            fn kind() -> String {
                format!("a whole number from {} to {}", $ty::MIN, $ty::MAX)
            }

            fn parse(value: &Value) -> Result<Self, String> {
                let number = match value {
                    Value::Int(n) => $ty::try_from(*n).ok(),
                    Value::Text(s) => s.parse().ok(),
                    Value::Str(s) if s.parse::<$ty>().is_ok() => return Err(format!("write {s} without quotes")),
                    _ => return Err(wanted::<Self>(value)),
                };
                number.ok_or_else(|| format!("{} is not {}", value.shown(), Self::kind()))
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )* };
}

whole_number! { u16 u32 }

impl Setting for String {
    fn kind() -> String {
        "a text in quotes".to_string()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        value.text().map(str::to_string).ok_or_else(|| wanted::<Self>(value))
    }

    fn show(&self) -> String {
        quote(self)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn kind() -> String {
        format!("a list in brackets, each {}", T::kind())
    }

    fn parse(value: &Value) -> Result<Self, String> {
        match value {
            Value::List(items) => items.iter().map(T::parse).collect(),
            Value::Text(s) if s.trim().is_empty() => Ok(Vec::new()),
            Value::Text(s) => s.split(',').map(|item| T::parse(&Value::Text(item.trim().to_string()))).collect(),
            // The commonest slip of all; say the whole correction.
            Value::Str(s) => Err(format!("this is a text; write a list: [{}]", quote(s))),
            _ => Err(wanted::<Self>(value)),
        }
    }

    fn show(&self) -> String {
        let items: Vec<String> = self.iter().map(T::show).collect();
        format!("[{}]", items.join(", "))
    }
}

/// An empty text stands for "not set", because TOML has no other word for it.
impl<T: Setting> Setting for Option<T> {
    fn kind() -> String {
        format!("{}, or \"\" for none", T::kind())
    }

    fn parse(value: &Value) -> Result<Self, String> {
        if value.text() == Some("") { Ok(None) } else { T::parse(value).map(Some) }
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "\"\"".to_string(), T::show)
    }
}

/// What is shown in place of a secret.
pub const MASK: &str = "(secret)";

/// A text that is never shown: a shared secret, a token. Its memory is wiped when it goes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub Zeroizing<String>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.show())
    }
}

impl Setting for Secret {
    fn kind() -> String {
        "a text in quotes".to_string()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        // Not `wanted`: a message must not repeat the value.
        let text = value.text().ok_or_else(|| format!("this is {}; write {}", value.kind(), Self::kind()))?;
        Ok(Self(Zeroizing::new(text.to_string())))
    }

    fn show(&self) -> String {
        if self.0.is_empty() { quote("") } else { quote(MASK) }
    }
}

/// `text` as a TOML basic string.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The candidate that `word` is most probably a slip of: at most a third of its letters differ.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let (edits, best) = candidates
        .into_iter()
        .map(|candidate| (edit_distance(&word, &candidate.to_lowercase()), candidate))
        .min_by_key(|(edits, _)| *edits)?;
    (edits <= 1 + best.chars().count() / 3).then_some(best)
}

/// Levenshtein distance in characters, where a swap of neighbours counts as one edit.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut a_before = None;
    for (i, x) in a.chars().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut edits = (last[j] + usize::from(x != *y)).min(last[j + 1] + 1).min(row[j] + 1);
            if j > 0 && Some(*y) == a_before && b[j - 1] == x {
                edits = edits.min(before_last[j - 1] + 1);
            }
            row.push(edits);
        }
        before_last = std::mem::replace(&mut last, row);
        a_before = Some(x);
    }
    last.last().copied().unwrap_or(0)
}

/// One key of a section, as `config.example.toml` and the error messages show it.
#[derive(Clone, Debug)]
pub struct Field {
    /// The key.
    pub key: &'static str,
    /// What it does, a line each, as written (each begins with a space).
    pub doc: &'static [&'static str],
    /// What to write: [`Setting::kind`].
    pub kind: String,
    /// The default as TOML.
    pub default: String,
}

/// What [`section!`] knows of a key without its type.
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// [`Field::doc`].
    pub doc: &'static [&'static str],
    /// [`Setting::kind`].
    pub kind: fn() -> String,
}

/// The fields of a section that has these keys. One for all sections: each its own would be 20 kB of program.
pub fn fields(keys: &[Key], default: &dyn Section) -> Vec<Field> {
    let field = |Key { name, doc, kind }: &Key| {
        let default = default.show(name).unwrap_or_default();
        Field { key: name, doc, kind: kind(), default }
    };
    keys.iter().map(field).collect()
}

/// A section of the configuration, made by [`section!`].
pub trait Section {
    /// Name in brackets: `modules.offline`. Empty for the keys above the first section.
    fn name(&self) -> &'static str;
    /// What the section is about, a line each, as written (each begins with a space).
    fn doc(&self) -> &'static [&'static str];
    /// All keys in the order of their declaration.
    fn fields(&self) -> Vec<Field>;
    /// Sets one key.
    ///
    /// # Errors
    /// One line that says what is wrong with the value and what to write; also when there is no such key.
    fn set(&mut self, key: &str, value: &Value) -> Result<(), String>;
    /// The present value of a key as TOML, secrets masked; `None` when there is no such key.
    fn show(&self, key: &str) -> Option<String>;
    /// Sections below it of which there may be any number.
    fn rows(&mut self) -> Vec<&mut dyn rows::Rows> {
        Vec::new()
    }
}

/// Declares a section: a struct with its `Default` and its [`Section`].
///
/// ```text
/// section! {
///     /// Offline messages (XEP-0160).
///     pub struct Config in "modules.offline" {
///         /// Messages kept for one user; 0 keeps none.
///         pub messages_max: u32 = 100,
///         /// Rounds of the key derivation.
///         pub iterations: u32 = 10_000 => at_least(4096),
///     }
/// }
/// ```
///
/// Each type is a [`Setting`]; behind `=>` stands an optional check, a function from `&T` to `Result<(), String>`.
/// Behind a semicolon stand sections of which there may be any number, as `pub rules: [Rule]`.
macro_rules! section {
    (
        $(#[doc = $doc:literal])*
        $vis:vis struct $name:ident in $path:literal {
            $( $(#[doc = $field_doc:literal])* pub $field:ident : $ty:ty = $default:expr $(=> $check:expr)? ),* $(,)?
            $( ; $( $(#[doc = $rows_doc:literal])* pub $rows:ident : [$row:ty] ),* $(,)? )?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $name {
            $( $(#[doc = $field_doc])* pub $field: $ty, )*
            $( $( $(#[doc = $rows_doc])* pub $rows: Vec<$row>, )* )?
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* $( $( $rows: Vec::new(), )* )? }
            }
        }

        impl $crate::setting::Section for $name {
            fn name(&self) -> &'static str {
                $path
            }

            fn doc(&self) -> &'static [&'static str] {
                &[ $( $doc ),* ]
            }

            fn fields(&self) -> Vec<$crate::setting::Field> {
                const KEYS: &[$crate::setting::Key] = &[ $( $crate::setting::Key {
                    name: stringify!($field),
                    doc: &[ $( $field_doc ),* ],
                    kind: <$ty as $crate::setting::Setting>::kind,
                } ),* ];
                $crate::setting::fields(KEYS, &Self::default())
            }

            #[allow(clippy::match_single_binding, reason = "a section may have no keys")]
            fn set(&mut self, key: &str, value: &$crate::setting::Value) -> Result<(), String> {
                let _ = value;
                match key {
                    $( stringify!($field) => {
                        let parsed = <$ty as $crate::setting::Setting>::parse(value)?;
                        $( $crate::setting::checked(&parsed, $check)?; )?
                        self.$field = parsed;
                        Ok(())
                    } )*
                    _ => Err(format!("unknown key \"{key}\"")),
                }
            }

            #[allow(clippy::match_single_binding, reason = "a section may have no keys")]
            fn show(&self, key: &str) -> Option<String> {
                match key {
                    $( stringify!($field) => Some($crate::setting::Setting::show(&self.$field)), )*
                    _ => None,
                }
            }

            $( fn rows(&mut self) -> Vec<&mut dyn $crate::setting::rows::Rows> {
                vec![ $( &mut self.$rows ),* ]
            } )?
        }
    };
}

/// Declares an enum whose values are words of the configuration.
///
/// ```text
/// words! { /// Where the log goes.
///     pub enum Output { /** The terminal. */ Stderr = "stderr", /** A file. */ File = "file" } }
/// ```
macro_rules! words {
    (
        $(#[$attr:meta])*
        $vis:vis enum $name:ident { $( $(#[$variant_attr:meta])* $variant:ident = $word:literal ),* $(,)? }
    ) => {
        $(#[$attr])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        $vis enum $name { $( $(#[$variant_attr])* $variant, )* }

        impl $name {
            /// The word that stands for it in the configuration.
            pub fn as_str(self) -> &'static str {
                match self { $( $name::$variant => $word, )* }
            }
        }

        impl $crate::setting::Setting for $name {
            fn kind() -> String {
                $crate::setting::one_of(&[ $( $word ),* ])
            }

            fn parse(value: &$crate::setting::Value) -> Result<Self, String> {
                match value.text() {
                    $( Some($word) => Ok($name::$variant), )*
                    Some(word) => Err($crate::setting::no_such_word(word, &[ $( $word ),* ])),
                    None => Err($crate::setting::wanted::<Self>(value)),
                }
            }

            fn show(&self) -> String {
                $crate::setting::quote(self.as_str())
            }
        }
    };
}

pub(crate) use {section, words};

/// Runs a check of [`section!`]; gives its closure the type of the field.
pub fn checked<T>(value: &T, check: impl Fn(&T) -> Result<(), String>) -> Result<(), String> {
    check(value)
}

/// A check: the number is `min` or more.
pub fn at_least(min: u32) -> impl Fn(&u32) -> Result<(), String> {
    move |n| if *n >= min { Ok(()) } else { Err(format!("{n} is too small; write {min} or more")) }
}

/// `one of "a", "b"`.
pub fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| quote(w)).collect();
    format!("one of {}", quoted.join(", "))
}

/// The message for a word that is not among `words`.
pub fn no_such_word(word: &str, words: &[&str]) -> String {
    match nearest(word, words.iter().copied()) {
        Some(near) => format!("{} is not {}; did you mean {}?", quote(word), one_of(words), quote(near)),
        None => format!("{} is not {}", quote(word), one_of(words)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    words! {
        /// A colour.
        pub enum Colour { /** Like fire. */ Red = "red", /** Like grass. */ Green = "green" }
    }

    section! {
        /// A section
        /// of two lines.
        pub struct Sample in "modules.sample" {
            /// How many.
            pub count_max: u32 = 100 => at_least(10),
            /// Which.
            pub colour: Colour = Colour::Red,
            /// Names.
            pub names: Vec<String> = vec!["a".to_string()],
            /// A port.
            pub port: Option<u16> = None,
            /// On.
            pub on: bool = true,
            /// Said to nobody.
            pub token: Secret = Secret::default(),
        }
    }

    section! {
        /// Nothing to set.
        pub struct Bare in "modules.bare" {}
    }

    fn str(s: &str) -> Value {
        Value::Str(s.to_string())
    }

    fn text(s: &str) -> Value {
        Value::Text(s.to_string())
    }

    #[test]
    fn a_section_knows_its_keys_docs_types_and_defaults() {
        let sample = Sample::default();
        assert_eq!(sample.name(), "modules.sample");
        assert_eq!(sample.doc(), [" A section", " of two lines."]);
        let fields = sample.fields();
        let rows: Vec<(&str, &str)> = fields.iter().map(|f| (f.key, f.default.as_str())).collect();
        let expected = [
            ("count_max", "100"),
            ("colour", "\"red\""),
            ("names", "[\"a\"]"),
            ("port", "\"\""),
            ("on", "true"),
            ("token", "\"\""),
        ];
        assert_eq!(rows, expected);
        assert_eq!(fields[1].kind, "one of \"red\", \"green\"");
        for field in &fields {
            assert_eq!(sample.show(field.key).as_deref(), Some(field.default.as_str()));
        }
        assert_eq!(sample.show("nothing"), None);
    }

    #[test]
    fn a_section_may_have_no_keys() {
        let mut bare = Bare::default();
        assert!(bare.fields().is_empty() && bare.show("x").is_none());
        assert_eq!(bare.set("x", &Value::Int(1)), Err("unknown key \"x\"".to_string()));
    }

    #[test]
    fn values_are_set_from_file_and_environment() {
        let mut sample = Sample::default();
        for (key, value) in [
            ("count_max", Value::Int(12)),
            ("colour", str("green")),
            ("names", Value::List(vec![str("x"), str("y")])),
            ("port", Value::Int(80)),
            ("on", Value::Bool(false)),
        ] {
            assert_eq!(sample.set(key, &value), Ok(()), "{key}");
        }
        let mut same = Sample::default();
        for (key, value) in
            [("count_max", "12"), ("colour", "green"), ("names", "x, y"), ("port", "80"), ("on", "false")]
        {
            assert_eq!(same.set(key, &text(value)), Ok(()), "{key}");
        }
        assert_eq!(sample, same);
        assert_eq!(same.set("port", &str("")), Ok(()));
        assert_eq!(same.port, None);
        assert_eq!(same.set("names", &text("")), Ok(()));
        assert_eq!(same.names, Vec::<String>::new());
    }

    #[test]
    fn wrong_values_are_refused_with_what_to_write() {
        let mut sample = Sample::default();
        let before = sample.clone();
        for (key, value, message) in [
            ("count_max", Value::Int(9), "9 is too small; write 10 or more"),
            ("count_max", Value::Int(-1), "-1 is not a whole number from 0 to 4294967295"),
            ("count_max", Value::Int(4_294_967_296), "4294967296 is not a whole number from 0 to 4294967295"),
            (
                "count_max",
                Value::Float(1.5),
                "this is a number with a fraction; write a whole number from 0 to 4294967295",
            ),
            ("count_max", str("12"), "write 12 without quotes"),
            ("count_max", text("many"), "\"many\" is not a whole number from 0 to 4294967295"),
            ("colour", str("gren"), "\"gren\" is not one of \"red\", \"green\"; did you mean \"green\"?"),
            ("colour", str("mauve"), "\"mauve\" is not one of \"red\", \"green\""),
            ("colour", Value::Int(1), "this is a number; write one of \"red\", \"green\""),
            ("names", str("x"), "this is a text; write a list: [\"x\"]"),
            ("names", Value::List(vec![Value::Int(1)]), "this is a number; write a text in quotes"),
            ("port", Value::Int(65_536), "65536 is not a whole number from 0 to 65535"),
            ("on", str("true"), "write true without quotes"),
            ("on", text("yes"), "\"yes\" is not true or false"),
            ("token", Value::Int(1), "this is a number; write a text in quotes"),
            ("nothing", Value::Int(1), "unknown key \"nothing\""),
        ] {
            assert_eq!(sample.set(key, &value), Err(message.to_string()), "{key} {value:?}");
        }
        assert_eq!(sample, before, "a refused value changes nothing");
    }

    #[test]
    fn secrets_do_not_show() {
        let mut sample = Sample::default();
        assert_eq!(sample.set("token", &str("hunter2")), Ok(()));
        assert_eq!(sample.show("token").as_deref(), Some("\"(secret)\""));
        assert!(!format!("{sample:?}").contains("hunter2"));
        assert_eq!(sample.token.0.as_str(), "hunter2");
    }

    #[test]
    fn quoting_survives_every_character() {
        assert_eq!(quote("a\"b\\c\n\t\r\u{1}é"), "\"a\\\"b\\\\c\\n\\t\\r\\u0001é\"");
    }

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let keys = ["hosts", "admins", "certificates"];
        assert_eq!(nearest("host", keys), Some("hosts"));
        assert_eq!(nearest("HOSTS", keys), Some("hosts"));
        assert_eq!(nearest("hsots", keys), Some("hosts"));
        assert_eq!(nearest("certificate", keys), Some("certificates"));
        assert_eq!(nearest("plugins", keys), None);
        assert_eq!(nearest("x", []), None);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }
}

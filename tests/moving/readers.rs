//! Whatever the bytes: readers give a value or an error, in bounds.

use couplet::moving::lua::{self, Items, Table, Value};
use couplet::moving::pie::{Event, Reader, Walker};
use couplet::moving::prosody::config::{self, Settings};
use couplet::moving::prosody::{convert, data, stanza};
use couplet::moving::{json, sqlite};
use proptest::prelude::*;
use std::io::{self, Cursor, Read};

/// Words that Lua is made of, and some that it is not.
fn lua_text() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "return",
        "{",
        "}",
        "[",
        "]",
        "=",
        ";",
        ",",
        "\"a\"",
        "'b\\n'",
        "[[x]]",
        "1",
        "-2.5",
        "0x1f",
        "1e9",
        "true",
        "nil",
        "name",
        "attr",
        "item",
        "(",
        ")",
        "..",
        "*",
        "+",
        "and",
        "function",
        "end",
        "if",
        "then",
        "do",
        "for",
        "while",
        "repeat",
        "until",
        "local",
        "VirtualHost",
        "Component",
        "Include",
        "--[[ c ]]",
        "-- c\n",
        "\\",
        "\"",
        "'",
        "[=[",
        "]=]",
        "\n",
        "not",
        "#",
        "limits",
        "log",
        "modules_enabled",
        "\"muc\"",
        "\u{1}",
        "é",
    ]);
    prop::collection::vec(words, 0..60).prop_map(|words| words.join(" "))
}

fn convert(text: &[u8]) -> Option<Settings> {
    let mut include = |_: &str, _: &str| Err("there are no others".to_string());
    config::read("f.lua", text, &mut include).ok()
}

/// Gives a few bytes at a time.
struct Slow<'a>(&'a [u8], usize);

impl Read for Slow<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = self.1.min(self.0.len()).min(out.len());
        let (now, rest) = self.0.split_at(len);
        out[..len].copy_from_slice(now);
        self.0 = rest;
        Ok(len)
    }
}

/// The items of a list, and how many were broken.
fn items(text: &[u8], step: usize) -> (Vec<Value>, usize) {
    let (mut items, mut found, mut broken) = (Items::new(Slow(text, step)), Vec::new(), 0);
    loop {
        match items.next() {
            Ok(Some(value)) => found.push(value),
            Ok(None) => return (found, broken),
            Err(_) => broken += 1,
        }
    }
}

/// What a document gives, as text, up to where it breaks.
fn events(text: &[u8], step: usize) -> Vec<String> {
    let (mut reader, mut walker, mut found) = (Reader::new(Slow(text, step)), Walker::default(), Vec::new());
    loop {
        match reader.next() {
            Ok(Some(event)) => {
                found.push(match &event {
                    Event::Open(element) => format!("open {}", element.root().to_xml()),
                    Event::Whole(element) => element.root().to_xml(),
                    Event::Close => "close".to_string(),
                });
                let _ = walker.take(event);
            }
            Ok(None) => return found,
            Err(error) => {
                found.push(error.to_string());
                return found;
            }
        }
    }
}

/// Tags that documents are made of, and some that they are not.
fn tags() -> impl Strategy<Value = String> {
    let tags = prop::sample::select(vec![
        "<server-data xmlns='urn:xmpp:pie:0'>",
        "</server-data>",
        "<host jid='localhost'>",
        "</host>",
        "<user name='a'>",
        "</user>",
        "<user name='b'/>",
        "<offline-messages>",
        "</offline-messages>",
        "<query xmlns='jabber:iq:private'>",
        "</query>",
        "<x xmlns='urn:x' a='>'>t</x>",
        "<p:host xmlns:p='urn:xmpp:pie:0' jid='a'>",
        "</p:host>",
        " ",
        "t",
        "<pubsub xmlns='http://jabber.org/protocol/pubsub'>",
        "<items node='n'>",
        "<item id='1'/>",
        "</items>",
        "</pubsub>",
        "<vCard xmlns='vcard-temp'/>",
        "<?xml version='1.0'?>",
        "<!-- c -->",
        "<",
        "&amp;",
        "<![CDATA[x]]>",
        "<query xmlns='jabber:iq:roster'><item jid='x@y'/></query>",
        "<include xmlns='http://www.w3.org/2001/XInclude'/>",
    ]);
    prop::collection::vec(tags, 0..40).prop_map(|tags| tags.concat())
}

/// How many rows the tables of a file have, up to where it breaks.
fn rows(file: &[u8]) -> [usize; 2] {
    let Ok(mut database) = sqlite::Database::open(Cursor::new(file)) else { return [0; 2] };
    ["prosody", "prosodyarchive"].map(|name| {
        let Ok(Some(table)) = database.table(name) else { return 0 };
        let Ok(mut rows) = database.rows(&table) else { return 0 };
        let mut count = 0;
        while let Ok(Some((number, _))) = database.next(&mut rows) {
            let _ = database.row_of(&table, number);
            count += 1;
        }
        count
    })
}

const SQLITE: &[u8] = include_bytes!("prosody.sqlite");

#[test]
fn rows_of_all_pages_are_found() {
    assert_eq!(rows(SQLITE), [72, 68]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_damaged_database_is_read_or_refused(
        damage in prop::collection::vec((0..SQLITE.len(), any::<u8>()), 0..60),
        len in 0..=SQLITE.len(),
        cuts in any::<bool>(),
    ) {
        let mut file = SQLITE.to_vec();
        for (at, byte) in damage {
            file[at] = byte;
        }
        if cuts {
            file.truncate(len);
        }
        // No more than there is room for.
        prop_assert!(rows(&file).into_iter().all(|count| count < 50_000));
    }
}

proptest! {
    #[test]
    fn any_text_is_json_or_not(text in "[\\[\\]{}:,\"\\\\ a0-9.eu_-]{0,60}") {
        let _ = json::read(&text);
    }

    #[test]
    fn any_document_is_read_or_refused(text in tags(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for text in [text.as_bytes(), format!("<server-data xmlns='urn:xmpp:pie:0'>{text}").as_bytes(), &bytes] {
            prop_assert_eq!(events(text, 1), events(text, usize::MAX));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = lua::data(&bytes);
        let _ = convert(&bytes);
        prop_assert_eq!(items(&bytes, 1), items(&bytes, usize::MAX));
    }

    #[test]
    fn any_words_are_read_or_refused(text in lua_text()) {
        let with_return = format!("return {text}");
        for text in [&text, &with_return] {
            if let Ok(value) = lua::data(text.as_bytes()) {
                let _ = (stanza::element(&value, "jabber:client"), data::account(&value), data::room(&value));
                for store in ["roster", "blocklist", "private", "pep", "account_roles", "vcard", "lastlog"] {
                    let _ = data::of_account(store, &value);
                }
            }
        }
        let _ = items(format!("item({text});").as_bytes(), 3);
        if let Some(settings) = convert(text.as_bytes()) {
            let toml = convert::convert(&settings, "/etc/prosody/");
            prop_assert!(toml_span::parse(&toml).is_ok(), "{}", toml);
        }
    }

    #[test]
    fn texts_are_read_as_prosody_writes_them(text in prop::collection::vec(any::<u8>(), 0..100)) {
        let escape = |byte: &u8| match byte {
            b'"' | b'\\' | b'\'' => format!("\\{}", char::from(*byte)),
            32..=126 => char::from(*byte).to_string(),
            other => format!("\\{other:03}"),
        };
        let written = format!("return {{ [\"k\"] = \"{}\" }};\n", text.iter().map(escape).collect::<String>());
        let Ok(Value::Table(table)) = lua::data(written.as_bytes()) else { panic!("{written}") };
        prop_assert_eq!(table.get("k"), Some(&Value::Text(text)));
    }
}

#[test]
fn depth_and_number_are_bounded() {
    let nested = |depth: usize| format!("return {}{}", "{".repeat(depth), "}".repeat(depth));
    assert!(lua::data(nested(132).as_bytes()).is_ok());
    assert!(lua::data(nested(133).as_bytes()).is_err());
    assert!(lua::data(nested(1_000_000).as_bytes()).is_err());
    assert!(convert(format!("a = {}", "(".repeat(1_000_000)).as_bytes()).is_none());
    assert!(lua::data(format!("return {{{}}}", "1,".repeat(300_000)).as_bytes()).is_err());
    let (found, broken) = items(format!("item({{\"{}\"}});", "x".repeat(5 << 20)).as_bytes(), usize::MAX);
    assert_eq!((found.len(), broken), (0, 1));
}

#[test]
fn numbers_and_texts_are_put_together_and_nothing_else_is() {
    let value = |text: &str| match lua::data(format!("return {{ {text} }}").as_bytes()) {
        Ok(Value::Table(Table(mut fields))) => fields.pop().map(|(_, value)| value),
        _ => None,
    };
    assert_eq!(value("7 * 24 * 60 - 10 / 5"), Some(Value::Int(10_078)));
    assert_eq!(value("1 / 2"), Some(Value::Float(0.5)));
    assert_eq!(value("\"a\" .. \"b\" .. 3"), Some(Value::Text(b"ab3".to_vec())));
    assert_eq!(value("(-1/0)"), Some(Value::Float(f64::NEG_INFINITY)));
    assert_eq!(value("\"\\65\\x42\\u{43}\\z   \\\"D\""), Some(Value::Text(b"ABC\"D".to_vec())));
    assert_eq!(value("[=[\n]]x]=]"), Some(Value::Text(b"]]x".to_vec())));
    for text in ["os.exit()", "a", "1 + a", "function() end", "\"a\" * 2", "(1)", "#{}", "not true", "-\"1\"", "f{1}"] {
        assert_eq!(value(text), None, "{text}");
    }
}

#[test]
fn what_stands_behind_something_unreadable_is_still_read() {
    let settings = convert(
        b"a = f(1, { 2 }, function() if x then return 'end' end end).y [[z]] or 5\nb = 2 c = x.y:z 'q' d = 4\n\
          for i = 1, 2 do repeat local q = 1 until q end e = 5; x.y = 6 local function f() end f = 7",
    )
    .unwrap();
    let named: Vec<(&str, Option<i64>)> = settings.entries.iter().map(|e| (e.name.as_str(), e.value.int())).collect();
    assert_eq!(named, [("a", None), ("b", Some(2)), ("c", None), ("d", Some(4)), ("e", Some(5)), ("f", Some(7))]);
    assert_eq!(settings.notes.len(), 3, "{:?}", settings.notes);
}

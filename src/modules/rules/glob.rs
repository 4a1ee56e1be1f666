//! Texts in which `*` stands for any characters. Looking for one takes time in proportion to the text.

use memchr::memmem::Finder;

/// A text with stars, in lower case.
#[derive(Debug)]
pub struct Glob {
    first: Box<str>,
    /// What stands between two stars, in order; never empty texts.
    middle: Vec<Finder<'static>>,
    /// Behind the last star; none without a star.
    last: Option<Box<str>>,
}

impl Glob {
    /// Reads one.
    pub fn new(text: &str) -> Self {
        let text = text.to_lowercase();
        let mut parts = text.split('*');
        let first = parts.next().unwrap_or_default().into();
        let last = parts.next_back().map(Into::into);
        let middle = parts.filter(|part| !part.is_empty()).map(|part| Finder::new(part).into_owned()).collect();
        Self { first, middle, last }
    }

    /// True for a text, in lower case, that is like this one from its beginning to its end.
    pub fn matches(&self, text: &str) -> bool {
        let Some(rest) = text.as_bytes().strip_prefix(self.first.as_bytes()) else { return false };
        let Some(last) = &self.last else { return rest.is_empty() };
        let Some(mut rest) = rest.strip_suffix(last.as_bytes()) else { return false };
        // The first place where a part fits leaves most for those behind it.
        self.middle.iter().all(|part| match part.find(rest) {
            Some(at) => {
                rest = rest.get(at + part.needle().len()..).unwrap_or_default();
                true
            }
            None => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;
    use proptest::prelude::*;

    #[test]
    fn stars_stand_for_any_characters() {
        let is = |glob: &str, text: &str| Glob::new(glob).matches(text);
        for (glob, text) in [
            ("", ""),
            ("*", ""),
            ("*", "x"),
            ("Abc", "abc"),
            ("a*", "a"),
            ("*c", "abc"),
            ("a*c", "ac"),
            ("*b*", "abc"),
            ("a*b*c", "a-b-b-c"),
            ("**a**", "xax"),
            ("*é*", "caf\u{e9}s"),
            ("*ab*ab*", "abab"),
        ] {
            assert!(is(glob, text), "{glob} {text}");
        }
        for (glob, text) in
            [("", "x"), ("abc", "abcd"), ("a*a", "a"), ("*ab*ab*", "aba"), ("a*b", "ba"), ("*bc*c", "abc"), ("x*", "")]
        {
            assert!(!is(glob, text), "{glob} {text}");
        }
    }

    /// Slow and plain.
    fn slow(glob: &[char], text: &[char]) -> bool {
        match glob.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|at| slow(rest, &text[at..])),
            Some((c, rest)) => text.split_first().is_some_and(|(t, after)| t == c && slow(rest, after)),
        }
    }

    proptest! {
        #[test]
        fn it_is_what_a_slow_search_finds(glob in "[ab*]{0,8}", text in "[ab]{0,10}") {
            let chars = |s: &str| s.chars().collect::<Vec<_>>();
            prop_assert_eq!(Glob::new(&glob).matches(&text), slow(&chars(&glob), &chars(&text)));
        }

        #[test]
        fn no_text_panics(glob in "\\PC{0,20}", text in "\\PC{0,40}") {
            let _ = Glob::new(&glob).matches(&text.to_lowercase());
        }
    }
}

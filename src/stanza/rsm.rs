//! Result set management (XEP-0059): a page of a list that has an order.

use std::ops::Range;

use super::{Condition, StanzaError};
use crate::xml::{Builder, ElementRef, ns};

/// Which page is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Items that it may have at most; 0 asks for their number alone (section 2.7).
    max: Option<usize>,
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    First,
    /// Sections 2.2, 2.3 and 2.5; an empty `before` asks for the last page.
    After(String),
    Before(String),
    /// Section 2.6.
    Index(usize),
}

impl Wish {
    /// Reads the `<set/>` that an element holds, if it holds one.
    ///
    /// # Errors
    /// `bad-request` for what is no number.
    pub fn read(parent: ElementRef<'_>) -> Result<Option<Self>, StanzaError> {
        let Some(set) = parent.child(ns::RSM, "set") else { return Ok(None) };
        let text = |name| set.child(ns::RSM, name).map(|c| c.text());
        let number = |name| match text(name).map(|t| t.trim().parse()) {
            Some(Ok(number)) => Ok(Some(number)),
            Some(Err(_)) => Err(StanzaError::from(Condition::BadRequest)),
            None => Ok(None),
        };
        let place = match (text("after"), text("before"), number("index")?) {
            (Some(after), _, _) => Place::After(after),
            (None, Some(before), _) => Place::Before(before),
            (None, None, Some(index)) => Place::Index(index),
            (None, None, None) => Place::First,
        };
        Ok(Some(Self { max: number("max")?, place }))
    }

    /// Items that the page may have at most, if its reader says so.
    pub fn max(&self) -> Option<usize> {
        self.max
    }

    /// The id of the item behind which the page begins.
    pub fn after(&self) -> Option<&str> {
        if let Place::After(id) = &self.place { Some(id) } else { None }
    }

    /// The id of the item before which it ends; empty for the last page.
    pub fn before(&self) -> Option<&str> {
        if let Place::Before(id) = &self.place { Some(id) } else { None }
    }

    /// True when it is asked for by its place in the whole list.
    pub fn is_by_index(&self) -> bool {
        matches!(self.place, Place::Index(_))
    }

    /// The page of a list of `len` items; `max` is for who names none, `find` gives the place of an item by its id.
    ///
    /// # Errors
    /// `item-not-found` when the item beside the page is not there (section 2.4).
    pub fn page(
        &self,
        len: usize,
        max: usize,
        find: impl Fn(&str) -> Option<usize>,
    ) -> Result<Range<usize>, StanzaError> {
        let max = self.max.unwrap_or(max);
        let from = |start: usize| start..start.saturating_add(max).min(len);
        Ok(match &self.place {
            Place::First => from(0),
            Place::After(id) => from(find(id).ok_or(Condition::ItemNotFound)? + 1),
            Place::Before(id) => {
                let end = if id.is_empty() { len } else { find(id).ok_or(Condition::ItemNotFound)? };
                end.saturating_sub(max)..end
            }
            Place::Index(index) => from((*index).min(len)),
        })
    }

    /// Whether the items at the end of the page are those that its reader has come from, so that it is the others that
    /// may be left out.
    pub fn is_backwards(&self) -> bool {
        matches!(self.place, Place::Before(_))
    }
}

/// Adds `<set/>`: the index of the first item with its id, the id of the last one, and how many there are in all.
pub fn build(b: &mut Builder, page: Option<(usize, &str, &str)>, count: usize) {
    b.open(ns::RSM, "set");
    if let Some((index, first, last)) = page {
        b.open(ns::RSM, "first").attr("index", &index.to_string());
        b.text(first);
        b.close().leaf(ns::RSM, "last", last);
    }
    b.leaf(ns::RSM, "count", &count.to_string()).close();
}

/// The same of a list that is not counted (section 2.6): the ids of the first item and of the last one.
pub fn build_uncounted(b: &mut Builder, page: Option<(&str, &str)>) {
    b.open(ns::RSM, "set");
    if let Some((first, last)) = page {
        b.leaf(ns::RSM, "first", first).leaf(ns::RSM, "last", last);
    }
    b.close();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(set: &str) -> Result<Range<usize>, Condition> {
        let xml = format!("<q xmlns='q'><set xmlns='{}'>{set}</set></q>", ns::RSM);
        let wish = Wish::read(crate::xml::parse(&xml).unwrap().root()).map_err(|e| e.condition)?;
        let ids = ["a", "b", "c", "d"];
        let find = |id: &str| ids.iter().position(|i| *i == id);
        wish.unwrap().page(ids.len(), 3, find).map_err(|e| e.condition)
    }

    #[test]
    fn pages_are_before_behind_and_at() {
        assert_eq!(page(""), Ok(0..3));
        assert_eq!(page("<max>2</max>"), Ok(0..2));
        assert_eq!(page("<max>0</max>"), Ok(0..0));
        assert_eq!(page("<max>9</max><after>b</after>"), Ok(2..4));
        assert_eq!(page("<after>d</after>"), Ok(4..4));
        assert_eq!(page("<max>2</max><before/>"), Ok(2..4));
        assert_eq!(page("<max>2</max><before>c</before>"), Ok(0..2));
        assert_eq!(page("<max>2</max><before>a</before>"), Ok(0..0));
        assert_eq!(page("<max>2</max><index>1</index>"), Ok(1..3));
        assert_eq!(page("<max>2</max><index>7</index>"), Ok(4..4));
        assert_eq!(page("<max>18446744073709551615</max><after>a</after>"), Ok(1..4));
    }

    #[test]
    fn what_is_not_there_is_said() {
        assert_eq!(page("<after>e</after>"), Err(Condition::ItemNotFound));
        assert_eq!(page("<before>e</before>"), Err(Condition::ItemNotFound));
        assert_eq!(page("<max>-1</max>"), Err(Condition::BadRequest));
        assert_eq!(page("<max>2</max><index>x</index>"), Err(Condition::BadRequest));
    }
}

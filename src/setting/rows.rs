//! Sections of which there may be any number, such as `[[rules]]`: each of them is a row, and `rules.2` is the name of
//! the second.

use super::Section;

/// Rows of one kind. More than any configuration of people needs; a file of 256 kB cannot make it costly.
pub const ROWS_MAX: usize = 1000;

/// All rows of one kind.
pub trait Rows {
    /// What stands in the double brackets.
    fn name(&self) -> &'static str;
    /// A row with nothing but defaults.
    fn blank(&self) -> Box<dyn Section>;
    /// How many there are.
    fn count(&self) -> usize;
    /// One of them, counted from 1.
    fn row(&mut self, number: usize) -> Option<&mut dyn Section>;
    /// Adds one behind the others, unless there are [`ROWS_MAX`].
    fn add(&mut self) -> bool;
}

impl<T: Section + Default + 'static> Rows for Vec<T> {
    fn name(&self) -> &'static str {
        T::default().name()
    }

    fn blank(&self) -> Box<dyn Section> {
        Box::new(T::default())
    }

    fn count(&self) -> usize {
        self.len()
    }

    fn row(&mut self, number: usize) -> Option<&mut dyn Section> {
        self.get_mut(number.checked_sub(1)?).map(|row| -> &mut dyn Section { row })
    }

    fn add(&mut self) -> bool {
        let has_room = self.len() < ROWS_MAX;
        if has_room {
            self.push(T::default());
        }
        has_room
    }
}

/// Rows of that name.
pub fn rows_of<'a>(sections: Vec<&'a mut dyn Section>, name: &str) -> Option<&'a mut dyn Rows> {
    sections.into_iter().flat_map(Section::rows).find(|rows| rows.name() == name)
}

/// The section or the row of that name.
pub fn find<'a>(sections: Vec<&'a mut dyn Section>, name: &str) -> Option<&'a mut dyn Section> {
    match numbered(name) {
        Some((rows, number)) => rows_of(sections, rows)?.row(number),
        None => sections.into_iter().find(|section| section.name() == name),
    }
}

/// Makes the row of that name, and those before it, where it is not there yet. False when there can be no such row.
pub fn make(sections: Vec<&mut dyn Section>, name: &str) -> bool {
    let Some((rows, number)) = numbered(name) else { return false };
    let Some(rows) = rows_of(sections, rows).filter(|_| (1..=ROWS_MAX).contains(&number)) else { return false };
    while rows.count() < number && rows.add() {}
    rows.count() >= number
}

/// Takes `rules.2` apart.
fn numbered(name: &str) -> Option<(&str, usize)> {
    let (rows, number) = name.rsplit_once('.')?;
    Some((rows, number.parse().ok()?))
}

//! Messages of other servers, which come into an archive at their times and under their ids, and go out again.

use super::{Floors, Id, Marks, Names, New, Row, RowRef, Rows, Tail, mark_key};
use crate::core::Core;
use crate::core::moving::{Outcome, Refusal, Taken, verdict};
use crate::storage::StoreError;
use std::ops::ControlFlow;

/// Bytes of an id.
const NAME_BYTES_MAX: usize = 255;

/// Rows that are looked at in one portion.
const PORTION_ROWS: usize = 1000;

/// A message that moves in.
#[derive(Clone, Copy, Debug)]
pub struct Mover<'a> {
    /// Its id.
    pub name: &'a str,
    /// When it was archived, in milliseconds since 1970.
    pub wall_ms: u64,
    /// For how long such messages are kept here, in seconds; 0 is for ever.
    pub keep_s: u32,
    /// What it is.
    pub new: New<'a>,
}

/// How far an archive has been looked through.
#[derive(Clone, Copy, Debug, Default)]
pub struct Way(Tail);

impl Core {
    /// Puts a message where it belongs by its time, behind those of the same millisecond.
    ///
    /// # Errors
    /// Why not.
    pub fn archive_take(&mut self, owner: &str, mover: Mover<'_>, replace: bool) -> Outcome {
        let Mover { name, wall_ms, keep_s, new } = mover;
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
            return Err(Refusal::because("its id in the archive is missing, or is none"));
        }
        if keep_s > 0 && wall_ms < self.wall_ms().saturating_sub(u64::from(keep_s) * 1000) {
            return Ok(Taken::Left("older than what is kept, see keep and rooms_keep of [modules.mam]"));
        }
        if let Some((id, old)) = self.archive_find(owner, name)? {
            let New { with, who, standing, xml } = new;
            if (&*old.with, &*old.who, &*old.standing, &*old.xml) == (with, who, standing, xml) {
                return Ok(Taken::Same);
            }
            let taken = verdict(replace && old.with == with);
            if taken == Taken::Replaced {
                let [who, standing, xml] = [who, standing, xml].map(str::to_owned);
                self.archive_replace(owner, id, &Row { who, standing, xml, ..old });
            }
            return Ok(taken);
        }
        // One that was ours, and comes back.
        let own = Id::parse(name).filter(|id| id.wall_ms() == wall_ms);
        let tail = self.archive_tail(owner)?;
        let behind = Id::at(wall_ms.saturating_add(1));
        let before = if tail.id < behind { tail } else { self.archive_before(owner, behind)? };
        let chance = self.archives.chance.draw(&mut *self.entropy);
        let mut id = own.unwrap_or_else(|| Id::next(before.id, wall_ms, chance));
        while self.view.contains::<Rows>(owner, &id.key())? {
            id = id.following();
        }
        let name = if own == Some(id) { "" } else { name };
        let put = self.archive_put(owner, (id, before), new, name);
        if id > tail.id {
            self.archive_tail_is(owner, put);
        }
        Ok(Taken::New)
    }

    /// The last row before an id.
    fn archive_before(&mut self, owner: &str, id: Id) -> Result<Tail, StoreError> {
        let mut before = Tail::default();
        self.view.scan::<Rows>(owner, (b"", Some(&id.key())), true, |sub, value| {
            if let (Some(id), Some(row)) = (Id::from_key(sub), RowRef::read(value)) {
                before = Tail { id, number: row.number, sum_bytes: row.sum_bytes };
            }
            ControlFlow::Break(())
        })?;
        Ok(before)
    }

    /// Deletes void rows of an archive into which something is to move, a portion at a time, and at the end what makes
    /// them void: what comes may be older. Gives the way to go on; none when there is no more to do.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn archive_clear(&mut self, owner: &str, way: Way) -> Result<Option<Way>, StoreError> {
        let floor = self.archive_floor(owner)?;
        if floor == Id::default() {
            return Ok(None);
        }
        let (mut gone, mut last) = (Vec::new(), None);
        let ends = (way.0.id.key(), floor.following().key());
        self.view.scan::<Rows>(owner, (&ends.0, Some(&ends.1)), false, |sub, value| {
            // Rows can be shown again.
            if let (Some(id), Some(row)) = (Id::from_key(sub).filter(|id| Some(*id) > last), RowRef::read(value)) {
                gone.push((id, row.with.to_owned(), row.name.to_owned()));
                last = Some(id);
            }
            if gone.len() < PORTION_ROWS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        for (id, with, name) in &gone {
            self.view.delete::<Rows>(owner, &id.key());
            if !with.is_empty() {
                self.view.delete::<Marks>(owner, &mark_key(with, *id));
            }
            if !name.is_empty() {
                self.view.delete::<Names>(owner, &mark_key(name, *id));
            }
        }
        if let Some(last) = last.filter(|_| gone.len() >= PORTION_ROWS) {
            return Ok(Some(Way(Tail { id: last.following(), ..Tail::default() })));
        }
        self.view.delete::<Floors>(owner, b"");
        self.archives.tails.remove(owner);
        Ok(None)
    }

    /// Numbers the rows of an archive anew from where something has moved in between two of them, a portion at a time.
    /// Gives the way to go on; none at the end.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn archive_number(&mut self, owner: &str, way: Way) -> Result<Option<Way>, StoreError> {
        let (mut before, mut wrong, mut seen) = (way.0, Vec::new(), 0);
        self.view.scan::<Rows>(owner, (&before.id.following().key(), None), false, |sub, value| {
            let (Some(id), Some(row)) = (Id::from_key(sub).filter(|id| *id > before.id), RowRef::read(value)) else {
                return ControlFlow::Continue(());
            };
            // The first of all may have any number.
            let is_first = before.id == Id::default();
            let is_right = is_first || (row.number == before.number + 1 && row.sum_bytes > before.sum_bytes);
            let (mut number, mut sum_bytes) = (row.number, row.sum_bytes);
            if !is_right {
                (number, sum_bytes) = (before.number + 1, before.sum_bytes + row.cost_bytes());
                wrong.push((id, Row { number, sum_bytes, ..row.to_row() }));
            }
            before = Tail { id, number, sum_bytes };
            seen += 1;
            if seen < PORTION_ROWS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        for (id, row) in &wrong {
            self.archive_replace(owner, *id, row);
        }
        self.archives.tails.remove(owner);
        Ok((seen >= PORTION_ROWS).then_some(Way(before)))
    }

    /// Shows a portion of the messages of an archive, from the oldest. Gives the way to go on; none at the end.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn archive_give(
        &mut self,
        owner: &str,
        way: Way,
        mut each: impl FnMut(super::Named, RowRef<'_>),
    ) -> Result<Option<Way>, StoreError> {
        let from = way.0.id.max(self.archive_floor(owner)?).following();
        let (mut seen, mut last) = (0, Id::default());
        self.view.scan::<Rows>(owner, (&from.key(), None), false, |sub, value| {
            if let (Some(id), Some(row)) = (Id::from_key(sub).filter(|id| *id > last), RowRef::read(value)) {
                each(row.named(id), row);
                (seen, last) = (seen + 1, id);
            }
            if seen < PORTION_ROWS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok((seen >= PORTION_ROWS).then_some(Way(Tail { id: last, ..Tail::default() })))
    }
}

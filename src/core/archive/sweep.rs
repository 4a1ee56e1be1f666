//! What is to go from archives: too old, too much, or void. It is looked for beside the engine, an owner behind the
//! other through the whole store, in portions.

use super::{Floor, Floors, Id, RowRef, Rows};
use crate::storage::{Snapshot, StoreError, Table, codec, end_of, row_key};
use std::ops::ControlFlow;

/// Rows that one portion finds at most, and owners that it looks at.
const GONE_MAX: usize = 256;
const OWNERS_MAX: usize = 64;

/// Behind every key.
const END: [u8; 2] = [0xff, 0xff];

/// What archives keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Of owners at this domain; empty for all others.
    pub domain: String,
    /// Rows from this one on.
    pub from: Id,
    /// For how long a row is kept, in milliseconds; 0 is for ever.
    pub for_ms: u64,
    /// So many bytes of the newest of them; 0 is any number.
    pub bytes_max: u64,
}

/// A walk through all archives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// What is kept; the last is for all other domains.
    pub keeps: Vec<Keep>,
    /// Floors of empty archives go that are lower; others do when they are so old, in milliseconds.
    pub floors_before: Id,
    /// See above.
    pub floors_for_ms: u64,
    /// The key from which it goes on.
    pub cursor: Vec<u8>,
}

/// A row that is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Whose.
    pub owner: String,
    /// Its id.
    pub id: Id,
    /// [`super::Row::with`].
    pub with: String,
    /// [`super::Row::name`].
    pub name: String,
}

/// What one portion has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Rows to delete.
    pub gone: Vec<Gone>,
    /// Archives that become empty keep the last id as their floor; floors that nobody needs go.
    pub floors: Vec<(String, Option<Id>)>,
    /// When the first of the rows that stay is too old, in milliseconds since 1970.
    pub due_ms: Option<u64>,
    /// Where the next portion begins, when what was found is deleted; none at the end.
    pub next: Option<Vec<u8>>,
}

/// Looks through one portion.
pub fn look(snapshot: &dyn Snapshot, sweep: &Sweep) -> Result<Swept, StoreError> {
    let (mut swept, mut cursor) = (Swept::default(), sweep.cursor.clone());
    for _ in 0..OWNERS_MAX {
        let mut owner = None;
        snapshot.scan(&cursor, &END, &mut |key, _| {
            owner = key.split(|byte| *byte == 0).next().map(<[u8]>::to_vec);
            ControlFlow::Break(())
        })?;
        let Some(owner) = owner else { return Ok(swept) };
        if let Ok(name) = std::str::from_utf8(&owner)
            && !look_at(snapshot, sweep, name, &mut swept)?
        {
            // There is more of this one.
            swept.next = Some(owner);
            return Ok(swept);
        }
        // All its keys have a 0 there.
        cursor = owner;
        cursor.push(1);
    }
    swept.next = Some(cursor);
    Ok(swept)
}

/// Looks at one archive; false when the portion is full before its end.
fn look_at(snapshot: &dyn Snapshot, sweep: &Sweep, owner: &str, swept: &mut Swept) -> Result<bool, StoreError> {
    let mut key = Vec::new();
    row_key(owner, Some(Floors::ID), b"", &mut key);
    let mut floor = None;
    snapshot.read(&key, &mut |bytes| {
        floor = codec::from_bytes::<Floor>(bytes).and_then(|floor| Id::from_key(&floor.key));
    })?;
    row_key(owner, Some(Rows::ID), b"", &mut key);
    let end = end_of(&key);
    let mut last = None;
    snapshot.scan_back(&key, &end, &mut |key, value| {
        last = id_of(key).zip(RowRef::read(value).map(|row| row.sum_bytes));
        ControlFlow::Break(())
    })?;
    let Some((last, sum_bytes)) = last else {
        if let Some(floor) = floor {
            match floor < sweep.floors_before {
                true => swept.floors.push((owner.to_owned(), None)),
                false => {
                    let due_ms = floor.wall_ms() + sweep.floors_for_ms;
                    swept.due_ms = swept.due_ms.into_iter().chain([due_ms]).min();
                }
            }
        }
        return Ok(true);
    };
    let domain = owner.rsplit('@').next().unwrap_or(owner);
    let of = |keep: &&Keep| keep.domain == domain || keep.domain.is_empty();
    let Some(keep) = sweep.keeps.iter().find(of) else { return Ok(true) };
    let (mut full, mut all) = (false, true);
    snapshot.scan(&key, &end, &mut |key, value| {
        let (Some(id), Some(row)) = (id_of(key), RowRef::read(value)) else { return ControlFlow::Continue(()) };
        // With it and all behind it there is more than may be; one message may be larger than that.
        let with_it = sum_bytes.saturating_sub(row.sum_bytes) + row.cost_bytes();
        let is_too_much = keep.bytes_max > 0 && with_it > keep.bytes_max && id != last;
        if floor.is_none_or(|floor| id > floor) && id >= keep.from && !is_too_much {
            all = false;
            let due_ms = (keep.for_ms > 0).then(|| id.wall_ms() + keep.for_ms);
            swept.due_ms = swept.due_ms.into_iter().chain(due_ms).min();
            return ControlFlow::Break(());
        }
        if swept.gone.len() >= GONE_MAX {
            (full, all) = (true, false);
            return ControlFlow::Break(());
        }
        swept.gone.push(Gone { owner: owner.to_owned(), id, with: row.with.to_owned(), name: row.name.to_owned() });
        ControlFlow::Continue(())
    })?;
    if all && floor.is_none_or(|floor| last > floor) {
        swept.floors.push((owner.to_owned(), Some(last)));
    }
    Ok(!full)
}

fn id_of(key: &[u8]) -> Option<Id> {
    Id::from_key(key.get(key.len().checked_sub(super::id::KEY_BYTES)?..)?)
}

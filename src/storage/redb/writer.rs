//! The writer: a commit, and what it does when there is no room for it.

use super::super::ground::Ground;
use super::super::{BEHIND_ALL, Batch, Reader, Stats, StoreError, Writer};
use super::home::Open;
use super::{DATA, RedbReader, SCHEMA, Shared, guarded, io_error, store_error};
use redb::{Durability, ReadableDatabase, ReadableTableMetadata, TableDefinition, WriteTransaction};
use std::ops::ControlFlow;
use std::sync::Arc;

/// What is tried out in the room that must be left: the largest row, and rows that have a page each.
/// The table has the types of the other, as each pair of types is some 14 kB of program.
const SPARE: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("spare");
const SPARE_LARGE_BYTES: usize = 256 * 1024;
const SPARE_ROWS: u32 = 64;
const SPARE_ROW_BYTES: usize = 2500;

/// By how much the rows of a commit may grow, in bytes, without being taken for one that needs room.
const UPDATE_BYTES_MAX: i64 = 1024;
/// The least by which the file is made longer.
const STEP_BYTES_MIN: u64 = 128 * 1024;
/// How often a commit is tried, with twice the growth each time.
const TRIES: u32 = 5;

pub(super) struct RedbWriter(pub(super) Arc<Shared>);

/// How a try to commit ended.
enum Tried {
    Done,
    /// Nothing of it is stored, because there is no room in the file.
    NoRoom,
}

impl Writer for RedbWriter {
    fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        self.put(batches, true)
    }

    fn apply(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        self.put(batches, false)
    }

    fn flush(&mut self, _wall_ms: i64) -> Result<(), StoreError> {
        self.put(&[], true)
    }

    fn stats(&mut self) -> Result<Stats, StoreError> {
        let mut state = self.0.state();
        let Open { database, ground } = state.current()?;
        let (file_bytes, headroom_bytes) = (ground.solid(), ground.held());
        let table = database.begin_read().map_err(redb::Error::from).and_then(|read| Ok(read.open_table(DATA)?));
        let generation = state.generation;
        drop(state);
        let stats = table.and_then(|table| Ok((table.stats()?.stored_bytes(), table.len()?)));
        let (used_bytes, rows) = stats.map_err(|error| self.0.note(generation, error))?;
        Ok(Stats { file_bytes, headroom_bytes, used_bytes, rows })
    }

    fn compact(&mut self) -> Result<Stats, StoreError> {
        if self.0.state().applied {
            self.put(&[], true)?;
        }
        match self.compact_beside() {
            Err(StoreError::Full) => self.compact_in_place()?,
            compacted => compacted?,
        }
        self.stats()
    }
}

impl RedbWriter {
    /// Copies all rows to a second file, which then takes the place of the first. Readers go on with that meanwhile,
    /// and nobody else writes. A crash leaves one or the other.
    fn compact_beside(&self) -> Result<(), StoreError> {
        let home = self.0.state().home.clone();
        let snapshot = RedbReader(self.0.clone()).snapshot()?;
        home.build(SCHEMA, |put| {
            let mut done = Ok(());
            snapshot.scan(b"", BEHIND_ALL, &mut |key, value| {
                done = put(key, value);
                if done.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            done
        })?;
        let mut state = self.0.state();
        state.close()?;
        let replaced = home.place.replace().map_err(|error| io_error(&home.name, "cannot be replaced", error));
        state.opened(0)?;
        replaced
    }

    /// As redb does it, which takes little room and keeps readers waiting. After a crash the next start repairs the
    /// file.
    fn compact_in_place(&self) -> Result<(), StoreError> {
        let mut state = self.0.state();
        let home = state.home.clone();
        // Ends all snapshots; there are no new ones while the state is locked.
        state.close()?;
        state.opened(0)?;
        let Some(Open { database, ground }) = &mut state.open else { return Ok(()) };
        let compacted =
            guarded(&home.name, || database.compact().map_err(|error| store_error(&home.name, error.into())));
        let compacted = home.believe(ground, compacted);
        let refused = ground.refused();
        if let Err(error) = &compacted {
            state.broken = true;
            state.sync_failed |= error.is_fatal();
        }
        let opened = state.current().map(drop);
        if refused { opened } else { compacted.map(drop).and(opened) }
    }

    fn put(&self, batches: &[Batch], durable: bool) -> Result<(), StoreError> {
        let mut tally = Tally::default();
        let mut need = STEP_BYTES_MIN;
        let mut freed = false;
        for _ in 0..TRIES {
            if let Tried::Done = self.try_to_put(batches, durable, &mut tally)? {
                return Ok(());
            }
            need = need.saturating_mul(2).max(tally.bytes.saturating_mul(2));
            if self.0.state().applied {
                // The file is about to be opened again, which would lose it.
                self.try_to_put(&[], true, &mut Tally::default())?;
            }
            if self.0.state().enlarge(need)? {
                continue;
            }
            if std::mem::replace(&mut freed, true) || tally.spends() {
                break;
            }
            self.0.state().free_what_snapshots_keep()?;
            self.try_to_put(&[], true, &mut Tally::default())?;
        }
        Err(StoreError::Full)
    }

    /// One transaction. Opens the store again behind a failed one.
    fn try_to_put(&self, batches: &[Batch], durable: bool, tally: &mut Tally) -> Result<Tried, StoreError> {
        *tally = Tally::default();
        let mut state = self.0.state();
        let name = state.home.name.clone();
        if std::mem::take(&mut state.lost) {
            return Err(StoreError::Io(format!(
                "{name} had failed, and what was written since the last commit is lost"
            )));
        }
        let Open { database, ground } = state.current()?;
        let ground = ground.clone();
        ground.start();
        let transaction = guarded(&name, || Ok(database.begin_write().map_err(redb::Error::from)));
        state.writing = matches!(transaction, Ok(Ok(_)));
        drop(state);
        let done = transaction.and_then(|transaction| {
            guarded(&name, || {
                let tried = transaction.and_then(|transaction| write(transaction, batches, durable, tally, &ground));
                tried.map_err(|error| store_error(&name, error))
            })
        });
        let mut state = self.0.state();
        state.writing = false;
        let done = state.home.believe(&ground, done);
        match &done {
            Ok(Tried::Done) => state.applied = !durable,
            Ok(Tried::NoRoom) => {}
            Err(error) => {
                let loses = state.applied;
                state.broken = true;
                state.sync_failed |= error.is_fatal();
                // When this fails too, whoever needs the database next tries again.
                let _ = state.current();
                // What is lost is said here and now.
                state.lost = false;
                if ground.refused() && !error.is_fatal() && !loses {
                    return Ok(Tried::NoRoom);
                }
            }
        }
        done
    }
}

/// What the writes of a commit come to.
#[derive(Default)]
struct Tally {
    /// Of keys and values that are put.
    bytes: u64,
    rows_added: u64,
    bytes_grown: i64,
}

impl Tally {
    /// True when it takes room that stays taken.
    fn spends(&self) -> bool {
        self.rows_added > 0 || self.bytes_grown > UPDATE_BYTES_MAX
    }
}

fn write(
    mut transaction: WriteTransaction,
    batches: &[Batch],
    durable: bool,
    tally: &mut Tally,
    ground: &Ground,
) -> Result<Tried, redb::Error> {
    transaction.set_durability(if durable { Durability::Immediate } else { Durability::None })?;
    transaction.set_quick_repair(durable);
    let mut table = transaction.open_table(DATA)?;
    for (key, value) in batches.iter().flat_map(|batch| &batch.writes) {
        let value_len = value.as_ref().map_or(0, |value| value.len());
        let old = match value {
            Some(value) => table.insert(&**key, &**value)?,
            None => table.remove(&**key)?,
        };
        let old_len = old.map(|old| old.value().len());
        if value.is_some() {
            tally.bytes = tally.bytes.saturating_add((key.len() + value_len) as u64);
            tally.rows_added += u64::from(old_len.is_none());
        }
        tally.bytes_grown = tally.bytes_grown.saturating_add(value_len as i64 - old_len.unwrap_or(0) as i64);
        if ground.refused() {
            break;
        }
    }
    drop(table);
    // What is applied must leave room for the commit that makes it durable.
    let for_deletes = tally.spends() && ground.tight();
    let must_leave = for_deletes || !durable;
    if ground.refused() || must_leave && !leaves_room(&transaction, ground, for_deletes)? {
        transaction.abort()?;
        return Ok(Tried::NoRoom);
    }
    transaction.commit()?;
    Ok(Tried::Done)
}

/// Tries out whether there is room in the file for commits that free some, which need a large page too, or for one that
/// changes nothing.
fn leaves_room(transaction: &WriteTransaction, ground: &Ground, large: bool) -> Result<bool, redb::Error> {
    let mut table = transaction.open_table(SPARE)?;
    if large {
        drop(table.insert_reserve(&0u32.to_be_bytes()[..], SPARE_LARGE_BYTES)?);
    }
    for n in 1..=SPARE_ROWS {
        if ground.refused() {
            return Ok(false);
        }
        drop(table.insert_reserve(&n.to_be_bytes()[..], SPARE_ROW_BYTES)?);
    }
    drop(table);
    transaction.delete_table(SPARE)?;
    Ok(!ground.refused())
}

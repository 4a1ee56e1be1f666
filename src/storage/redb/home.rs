//! The file at rest: how it is made, looked at, opened, and brought to the schema of this version.

use super::super::backup::{Put, Source, Summary};
use super::super::ground::{Bounds, Ground, HEADROOM, Place};
use super::super::probe::Probe;
use super::{DATA, RedbOptions, SCHEMA, StoreError, guarded, io_error, store_error};
use redb::{Builder, Database, ReadableDatabase, StorageBackend, Table, TableDefinition, WriteTransaction};
use std::io::Read;

const META: TableDefinition<'static, &'static str, u32> = TableDefinition::new("meta");
const SCHEMA_KEY: &str = "schema";

/// Brings the rows of one schema to the next, in the transaction that opens the file. Tables that were there are left
/// as they are unless the step says so; a row that cannot be read is [`redb::Error::Corrupted`].
type Migration = fn(&mut Table<'_, &'static [u8], &'static [u8]>) -> Result<(), redb::Error>;

/// The step from schema 1 to 2, then from 2 to 3, up to [`SCHEMA`].
const MIGRATIONS: [Migration; SCHEMA as usize - 1] = [];

/// Where the file is and how it is used.
pub(in super::super) struct Home {
    pub(in super::super) place: Box<dyn Place>,
    pub(in super::super) name: String,
    pub(in super::super) options: RedbOptions,
}

/// A database in use.
pub(super) struct Open {
    pub(super) database: Database,
    pub(super) ground: Ground,
}

impl Home {
    fn bounds(&self) -> Bounds {
        let size_max = if self.options.size_max == 0 { u64::MAX } else { self.options.size_max };
        Bounds { size_max, headroom: HEADROOM }
    }

    fn ground(&self) -> Result<Ground, StoreError> {
        let ground = self.place.open().and_then(|medium| Ground::new(medium, self.bounds()));
        ground.map_err(|error| io_error(&self.name, "cannot be opened", error))
    }

    /// A file of another program or of a newer version must not be repaired by us, so it is looked at first.
    pub(super) fn look(&self) -> Result<(), StoreError> {
        let probe = Probe::new(self.ground()?).map_err(|error| io_error(&self.name, "cannot be read", error))?;
        guarded(&self.name, || self.open_known(probe).map(drop))
    }

    /// Opens the file, which has at least `len` bytes then.
    pub(super) fn open(&self, len: u64) -> Result<Open, StoreError> {
        let ground = self.ground()?;
        ground.settle(len).map_err(|error| io_error(&self.name, "cannot be made longer", error))?;
        let opened = guarded(&self.name, || {
            let (database, found) = self.open_known(ground.clone())?;
            let steps = MIGRATIONS.get(found as usize - 1..).unwrap_or_default();
            migrate(&database, &ground, steps, SCHEMA).map_err(|error| store_error(&self.name, error))?;
            Ok(database)
        });
        match self.believe(&ground, opened) {
            Ok(database) => Ok(Open { database, ground }),
            Err(_) if ground.refused() => Err(StoreError::Full),
            Err(error) => Err(error),
        }
    }

    /// Opens a database that holds something, and refuses it unless its schema is known. Gives that, too.
    fn open_known<B: StorageBackend>(&self, backend: B) -> Result<(Database, u32), StoreError> {
        let name = &self.name;
        let failed = |error: redb::Error| store_error(name, error);
        // redb takes an empty file for a new one; a file that lost its content is none.
        if backend.len().map_err(|error| io_error(name, "cannot be read", error))? == 0 {
            return Err(StoreError::Corrupt(format!("{name} is empty")));
        }
        let database = self.builder().create_with_backend(backend).map_err(|error| failed(error.into()))?;
        let found = schema(&database).map_err(|error| match error {
            redb::Error::TableDoesNotExist(_) | redb::Error::TableTypeMismatch { .. } => {
                StoreError::Corrupt(format!("{name} is a database of another program"))
            }
            error => failed(error),
        })?;
        match found {
            1..=SCHEMA => Ok((database, found)),
            0 => Err(StoreError::Corrupt(format!("{name} has no schema"))),
            found => Err(StoreError::Newer { found, known: SCHEMA }),
        }
    }

    /// Makes an empty store beside and moves it to its place, so that a crash leaves no half of one.
    pub(in super::super) fn initialise(&self) -> Result<(), StoreError> {
        self.build(SCHEMA, |_| Ok(()))?;
        self.place.replace().map_err(|error| io_error(&self.name, "cannot be made", error))
    }

    /// Makes a store of a backup, in the second file, and moves it to its place.
    pub(in super::super) fn load(&self, backup: &mut dyn Read) -> Result<Summary, StoreError> {
        let mut source = Source::open(backup)?;
        let summary = self.build(source.schema(), |put| source.rows(put))?;
        self.place.replace().map_err(|error| io_error(&self.name, "cannot be put in place", error))?;
        Ok(summary)
    }

    /// Makes a store of what `feed` puts, in the second file. All of it is durable, or an error is given.
    pub(in super::super) fn build<T>(
        &self,
        schema: u32,
        feed: impl FnOnce(Put<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let failed = |error| io_error(&self.name, "cannot be made", error);
        let medium = self.place.create_beside().map_err(failed)?;
        let ground = Ground::new(medium, Bounds { headroom: 0, ..self.bounds() }).map_err(failed)?;
        let built = guarded(&self.name, || {
            let failed = |error: redb::Error| store_error(&self.name, error);
            let database = self.builder().create_with_backend(ground.clone());
            let mut database = database.map_err(|error| failed(error.into()))?;
            let mut transaction = database.begin_write().map_err(|error| failed(error.into()))?;
            transaction.set_quick_repair(true);
            let mut table = transaction.open_table(DATA).map_err(|error| failed(error.into()))?;
            let mut rows = 0u64;
            let made = feed(&mut |key, value| {
                rows += 1;
                table.insert(key, value).map_err(|error| failed(error.into()))?;
                if ground.refused() { Err(StoreError::Full) } else { Ok(()) }
            })?;
            drop(table);
            put_schema(&transaction, schema).map_err(failed)?;
            transaction.commit().map_err(|error| failed(error.into()))?;
            if rows > 0 {
                // Growing by doubles has left some pages far behind the others.
                database.compact().map_err(|error| failed(error.into()))?;
            }
            database.close().map_err(|error| failed(error.into()))?;
            Ok(made)
        });
        // Where a sync of it has failed, nobody has believed in it yet.
        built.map_err(|error| {
            self.place.discard_beside();
            if ground.refused() { StoreError::Full } else { error }
        })
    }

    /// What a call has given, unless a sync has failed: then that is all there is to say.
    pub(super) fn believe<T>(&self, ground: &Ground, given: Result<T, StoreError>) -> Result<T, StoreError> {
        if ground.sync_failed() { Err(StoreError::FsyncFailed(self.name.clone())) } else { given }
    }

    fn builder(&self) -> Builder {
        let mut builder = Builder::new();
        builder.set_cache_size(self.options.cache_bytes);
        builder
    }
}

fn schema(database: &Database) -> Result<u32, redb::Error> {
    let read = database.begin_read()?;
    let schema = read.open_table(META)?.get(SCHEMA_KEY)?.map_or(0, |schema| schema.value());
    read.open_table(DATA)?;
    Ok(schema)
}

fn put_schema(transaction: &WriteTransaction, schema: u32) -> Result<(), redb::Error> {
    transaction.open_table(META)?.insert(SCHEMA_KEY, schema)?;
    Ok(())
}

/// Takes all steps in one transaction: after a crash the file has the old schema or the new one.
fn migrate(database: &Database, ground: &Ground, steps: &[Migration], schema: u32) -> Result<(), redb::Error> {
    if steps.is_empty() {
        return Ok(());
    }
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    let mut table = transaction.open_table(DATA)?;
    for step in steps {
        step(&mut table)?;
    }
    drop(table);
    put_schema(&transaction, schema)?;
    if ground.refused() {
        transaction.abort()?;
        return Err(redb::Error::Io(std::io::ErrorKind::StorageFull.into()));
    }
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use super::super::super::file::InFolder;
    use super::*;
    use redb::ReadableTable;

    fn rename(table: &mut Table<'_, &'static [u8], &'static [u8]>) -> Result<(), redb::Error> {
        let value = table.remove(&b"old"[..])?.map(|value| value.value().to_vec());
        let value = value.ok_or_else(|| redb::Error::Corrupted("no such row".into()))?;
        table.insert(&b"new"[..], &value[..])?;
        Ok(())
    }

    fn double(table: &mut Table<'_, &'static [u8], &'static [u8]>) -> Result<(), redb::Error> {
        let value = table.get(&b"new"[..])?.map(|value| value.value().repeat(2)).unwrap_or_default();
        table.insert(&b"new"[..], &value[..])?;
        Ok(())
    }

    #[test]
    fn steps_are_taken_in_their_order_and_all_or_none_of_them() {
        let path = std::env::temp_dir().join(format!("couplet-migrate-{}.redb", std::process::id()));
        let options = RedbOptions::default();
        let home = Home { place: Box::new(InFolder(path.clone())), name: "x".into(), options };
        home.build(1, |put| put(b"old", b"v")).unwrap();
        home.place.replace().unwrap();
        let value = |open: &Open, key: &[u8]| {
            let table = open.database.begin_read().unwrap().open_table(DATA).unwrap();
            table.get(key).unwrap().map(|value| value.value().to_vec())
        };
        let open = home.open(0).unwrap();
        migrate(&open.database, &open.ground, &[rename, double], 3).unwrap();
        assert_eq!((value(&open, b"old"), value(&open, b"new")), (None, Some(b"vv".to_vec())));
        assert_eq!(schema(&open.database).unwrap(), 3);
        assert!(migrate(&open.database, &open.ground, &[double, rename], 4).is_err());
        assert_eq!((schema(&open.database).unwrap(), value(&open, b"new")), (3, Some(b"vv".to_vec())));
        migrate(&open.database, &open.ground, &[], 4).unwrap();
        assert_eq!(schema(&open.database).unwrap(), 3, "a file that is up to date is not written to");
        drop(open);
        assert_eq!(home.look(), Err(StoreError::Newer { found: 3, known: SCHEMA }));
        std::fs::remove_file(path).unwrap();
    }
}

//! The store from outside: the view against a model, and the file against crashes, failing disks and strange content.

mod backup;
mod compaction;
mod disk;
mod faults;
mod file;
mod full;
mod model;
mod modes;
#[cfg(feature = "sqlite")]
mod sqlite;
mod tickets;
mod versions;

use couplet::storage::memory::Memory;
use couplet::storage::redb::RedbOptions;
use couplet::storage::{Batch, Extent, Reader, Record, Store, StoreError, Table, Ticket, View, Writer};
use disk::Disk;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

struct Notes;
impl Table for Notes {
    const ID: u8 = 1;
    const NAME: &'static str = "notes";
    type Value = String;
}

struct Numbers;
impl Table for Numbers {
    const ID: u8 = 255;
    const NAME: &'static str = "numbers";
    const SPARSE: bool = true;
    const MARKS: Option<fn(&u64) -> u8> = Some(|number| (number % 3) as u8);
    type Value = u64;
}

/// What a server uses.
const OPTIONS: RedbOptions = RedbOptions { cache_bytes: 256 * 1024, size_max: 0 };

/// Opens the store on that disk.
fn open(disk: &Disk) -> Result<Store, StoreError> {
    couplet::storage::redb::open_in(disk.clone(), OPTIONS)
}

/// All that is stored.
fn rows(reader: &dyn Reader) -> Rows {
    try_rows(reader).unwrap()
}

fn try_rows(reader: &dyn Reader) -> Result<Rows, StoreError> {
    let mut rows = Rows::new();
    let keep = &mut |key: &[u8], value: &[u8]| {
        rows.insert(key.to_vec(), value.to_vec());
        ControlFlow::Continue(())
    };
    reader.snapshot()?.scan(b"", b"\xff", keep)?;
    Ok(rows)
}

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// A key as it is stored.
fn key(owner: &str, table: u8, sub: &[u8]) -> Vec<u8> {
    [owner.as_bytes(), &[0, table], sub].concat()
}

/// A server's store in use.
struct Running {
    reader: Box<dyn Reader>,
    writer: Box<dyn Writer>,
    view: View,
}

impl Running {
    fn start((reader, writer): Store) -> Self {
        let view = View::new(reader.another()).unwrap();
        Self { reader, writer, view }
    }

    /// One commit of what `input` writes.
    fn commit(&mut self, input: impl FnOnce(&mut View)) -> Result<(), StoreError> {
        self.view.begin();
        input(&mut self.view);
        self.view.join();
        let Some(batch) = self.view.close_batch() else { return Ok(()) };
        let done = self.writer.commit(std::slice::from_ref(&batch));
        match &done {
            // Where that fails, the view shows what it did and tries again.
            Ok(()) => drop(self.view.committed(batch.ticket)),
            Err(error) => assert!(self.view.failed().is_err() || !error.is_fatal(), "nothing is read any more"),
        }
        done
    }

    /// The `k`th commit of the script.
    fn step(&mut self, k: u64) {
        self.commit(|view| scribble(view, k)).unwrap();
    }
}

/// The `k`th commit of the script, as writes of the view.
fn script(view: &mut View, k: u64) {
    view.begin();
    scribble(view, k);
    view.join();
}

/// The same without its beginning and its end.
fn scribble(view: &mut View, k: u64) {
    view.put::<Numbers>("count", b"", &k);
    view.put::<Notes>("romeo", &[k as u8 % 5], &format!("{k}"));
    view.delete::<Notes>("romeo", &[(k as u8 + 2) % 5]);
    if k.is_multiple_of(4) {
        view.put::<Notes>("large", &[k as u8], &"x".repeat(300_000));
    }
}

/// What is stored after `k` commits of the script.
fn scripted(k: u64) -> Rows {
    let (reader, mut writer) = Memory::new().open();
    let mut view = View::new(reader.another()).unwrap();
    (1..=k).for_each(|k| script(&mut view, k));
    writer.commit(&view.close_batch().into_iter().collect::<Vec<_>>()).unwrap();
    rows(&*reader)
}

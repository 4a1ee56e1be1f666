//! The store from outside: the view against a model, and the file against crashes, failing disks and strange content.

#[path = "storage/disk.rs"]
mod disk;

use couplet::storage::memory::Memory;
use couplet::storage::redb::{self as file, RedbOptions};
use couplet::storage::{Batch, Reader, Record, Snapshot, Store, StoreError, Table, Ticket, View, Writer};
use disk::Disk;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::rc::Rc;

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
    type Value = u64;
}

const OPTIONS: RedbOptions = RedbOptions { cache_bytes: 256 * 1024 };

fn open(disk: &Disk) -> Result<Store, StoreError> {
    let disk = disk.clone();
    file::open_with_backend(move || Ok(disk.backend()), OPTIONS)
}

fn rows(reader: &dyn Reader) -> Rows {
    let mut rows = Rows::new();
    let keep = &mut |key: &[u8], value: &[u8]| {
        rows.insert(key.to_vec(), value.to_vec());
        ControlFlow::Continue(())
    };
    reader.snapshot().unwrap().scan(b"", b"\xff", keep).unwrap();
    rows
}

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

// ---- the view against a model ----

const OWNERS: [&str; 4] = ["romeo@example.org", "romeo@example.or", "example.org", "a\u{1}b"];

#[derive(Clone, Debug)]
enum Step {
    Note(usize, Vec<u8>, Option<String>),
    Number(usize, Vec<u8>, Option<u64>),
    DeleteOwner(usize),
    EndInput { well: bool },
    EndTick,
    Commit,
    FailCommit(u32),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let owner = 0..OWNERS.len();
    let sub = prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff)], 0..3);
    prop_oneof![
        8 => (owner.clone(), sub.clone(), any::<Option<String>>()).prop_map(|(o, s, v)| Step::Note(o, s, v)),
        4 => (owner.clone(), sub, any::<Option<u64>>()).prop_map(|(o, s, v)| Step::Number(o, s, v)),
        1 => owner.prop_map(Step::DeleteOwner),
        4 => prop::bool::weighted(0.8).prop_map(|well| Step::EndInput { well }),
        3 => Just(Step::EndTick),
        2 => Just(Step::Commit),
        1 => (1u32..40).prop_map(Step::FailCommit),
        1 => Just(Step::Restart),
    ]
}

/// The layers of the view in the plainest form: whole copies.
#[derive(Clone, Default)]
struct Model {
    durable: Rows,
    /// What is stored once the batches on their way are.
    sent: Rows,
    joined: Rows,
    seen: Rows,
}

impl Model {
    fn forget(&mut self) {
        self.sent = self.durable.clone();
        self.joined = self.durable.clone();
        self.seen = self.durable.clone();
    }
}

fn key(owner: &str, table: u8, sub: &[u8]) -> Vec<u8> {
    [owner.as_bytes(), &[0, table], sub].concat()
}

fn bytes<R: Record>(value: &R) -> Vec<u8> {
    couplet::storage::codec::to_bytes(value)
}

/// Compares every way to read with the model.
fn compare<T: Table<Value: PartialEq + std::fmt::Debug>>(view: &mut View, model: &Rows) {
    for owner in OWNERS {
        let head = key(owner, T::ID, b"");
        let expected: Vec<(Vec<u8>, Vec<u8>)> = model
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(&head[..])?.to_vec(), value.clone())))
            .collect();
        let plain = |rows: Vec<(Vec<u8>, T::Value)>| -> Vec<(Vec<u8>, Vec<u8>)> {
            rows.into_iter().map(|(sub, value)| (sub, bytes(&value))).collect()
        };
        let n = expected.len();
        assert_eq!(plain(view.list::<T>(owner, usize::MAX).unwrap()), expected);
        assert_eq!(plain(view.list::<T>(owner, n / 2).unwrap()), expected[..n / 2]);
        assert_eq!(plain(view.first::<T>(owner).unwrap().into_iter().collect()), expected[..n.min(1)]);
        assert_eq!(plain(view.last::<T>(owner).unwrap().into_iter().collect()), expected[n - n.min(1)..]);
        assert_eq!(view.count::<T>(owner).unwrap(), n);
        let some: Vec<_> = expected.iter().filter(|(sub, _)| sub.starts_with(&[0xff])).cloned().collect();
        assert_eq!(plain(view.list_from::<T>(owner, &[0xff], 100).unwrap()), some);
        for sub in [&b""[..], &[0], &[0xff], &[1, 0]] {
            let value = model.get(&key(owner, T::ID, sub));
            assert_eq!(view.get::<T>(owner, sub).unwrap().map(|value| bytes(&value)).as_ref(), value);
            assert_eq!(view.contains::<T>(owner, sub).unwrap(), value.is_some());
        }
    }
}

/// A server's store in use.
struct Running {
    reader: SharedReader,
    writer: Box<dyn Writer>,
    view: View,
}

/// A reader that the test may use beside the view.
#[derive(Clone)]
struct SharedReader(Rc<dyn Reader>);

impl Reader for SharedReader {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.0.snapshot()
    }
}

impl Running {
    fn start((reader, writer): Store) -> Self {
        let reader = SharedReader(reader.into());
        let view = View::new(Box::new(reader.clone())).unwrap();
        Self { reader, writer, view }
    }
}

/// Runs the steps on a back end. `fail` makes the next commit fail, perhaps.
fn play(steps: Vec<Step>, open: impl Fn() -> Store, fail: impl Fn(u32), heal: impl Fn()) {
    let mut running = Some(Running::start(open()));
    let mut model = Model::default();
    let mut queue: Vec<Batch> = Vec::new();
    for step in steps {
        let Some(Running { reader, writer, view }) = &mut running else { unreachable!() };
        match step {
            Step::Note(owner, sub, value) => {
                let owner = OWNERS[owner];
                match &value {
                    Some(value) => view.put::<Notes>(owner, &sub, value),
                    None => view.delete::<Notes>(owner, &sub),
                }
                write(&mut model.seen, key(owner, Notes::ID, &sub), value.map(|value| bytes(&value)));
            }
            Step::Number(owner, sub, value) => {
                let owner = OWNERS[owner];
                match &value {
                    Some(value) => view.put::<Numbers>(owner, &sub, value),
                    None => view.delete::<Numbers>(owner, &sub),
                }
                write(&mut model.seen, key(owner, Numbers::ID, &sub), value.map(|value| bytes(&value)));
            }
            Step::DeleteOwner(owner) => {
                view.delete_owner(OWNERS[owner]).unwrap();
                let head = [OWNERS[owner].as_bytes(), &[0]].concat();
                model.seen.retain(|key, _| !key.starts_with(&head));
            }
            Step::EndInput { well } => end_input(view, &mut model, well),
            Step::EndTick => {
                end_input(view, &mut model, true);
                queue.extend(view.close_batch());
                model.sent = model.joined.clone();
            }
            Step::Commit | Step::FailCommit(_) => {
                let Some(last) = queue.last().map(|batch| batch.ticket) else { continue };
                if let Step::FailCommit(n) = step {
                    fail(n);
                }
                let done = writer.commit(&queue);
                queue.clear();
                heal();
                match done {
                    Ok(()) => {
                        view.committed(last).unwrap();
                        assert_eq!(view.durable(), last);
                        model.durable = model.sent.clone();
                    }
                    Err(_) => {
                        view.failed().unwrap();
                        // All of a failed commit may have reached the disk or nothing of it, never a part.
                        let stored = rows(reader);
                        assert!(stored == model.durable || stored == model.sent);
                        model.durable = stored;
                        model.forget();
                    }
                }
            }
            Step::Restart => {
                queue.clear();
                model.forget();
                drop(running.take());
                running = Some(Running::start(open()));
            }
        }
        let Some(Running { view, .. }) = &mut running else { unreachable!() };
        assert!(queue.is_empty() || view.pending_bytes() > 0);
        compare::<Notes>(view, &model.seen);
        compare::<Numbers>(view, &model.seen);
    }
}

fn write(rows: &mut Rows, key: Vec<u8>, value: Option<Vec<u8>>) {
    match value {
        Some(value) => rows.insert(key, value),
        None => rows.remove(&key),
    };
}

fn end_input(view: &mut View, model: &mut Model, well: bool) {
    if well {
        view.join();
        model.joined = model.seen.clone();
    } else {
        view.drop_scratch();
        model.seen = model.joined.clone();
    }
    view.begin();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_view_on_memory_is_the_model(steps in prop::collection::vec(step(), 0..60)) {
        let memory = Memory::new();
        play(steps, || memory.open(), |_| memory.fail_commit(1, StoreError::Full), || ());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_view_on_a_file_is_the_model(steps in prop::collection::vec(step(), 0..60)) {
        let disk = Disk::default();
        play(steps, || open(&disk).unwrap(), |n| disk.fail(n, ErrorKind::Other), || disk.heal());
    }
}

// ---- tickets ----

#[test]
fn an_output_waits_for_what_its_input_wrote_or_else_for_what_it_read() {
    let (reader, mut writer) = Memory::new().open();
    let mut view = View::new(reader).unwrap();
    let tick = |view: &mut View, sub: &[u8]| {
        view.begin();
        view.put::<Numbers>("romeo", sub, &1);
        let promised = view.ticket();
        view.join();
        assert_eq!(view.ticket(), promised, "joined or not");
        let batch = view.close_batch().unwrap();
        assert_eq!(batch.ticket, promised);
        batch
    };
    let first = tick(&mut view, b"a");
    let second = tick(&mut view, b"b");
    assert!(Ticket(0) < first.ticket && first.ticket < second.ticket);

    let ticket_after = |view: &mut View, read: &dyn Fn(&mut View)| {
        view.begin();
        read(view);
        view.ticket()
    };
    let get = |sub: &'static [u8]| move |view: &mut View| drop(view.get::<Numbers>("romeo", sub));
    assert_eq!(ticket_after(&mut view, &|_| ()), Ticket(0));
    assert_eq!(ticket_after(&mut view, &get(b"a")), first.ticket);
    assert_eq!(ticket_after(&mut view, &get(b"b")), second.ticket);
    assert_eq!(ticket_after(&mut view, &get(b"c")), Ticket(0), "no such row, and none on its way");
    assert_eq!(ticket_after(&mut view, &|view| drop(view.list::<Numbers>("romeo", 9))), second.ticket);
    assert_eq!(ticket_after(&mut view, &|view| drop(view.list::<Numbers>("romeo", 1))), first.ticket);
    assert_eq!(ticket_after(&mut view, &|view| drop(view.list::<Numbers>("juliet", 9))), Ticket(0));
    assert_eq!(ticket_after(&mut view, &|view| drop(view.list::<Notes>("romeo", 9))), Ticket(0));

    // What an input before it in the same tick has written is not durable either; what a failed one wrote is nothing.
    view.begin();
    view.delete::<Numbers>("romeo", b"a");
    view.join();
    assert_eq!(ticket_after(&mut view, &get(b"a")), Ticket(second.ticket.0 + 1));
    view.begin();
    view.put::<Numbers>("romeo", b"c", &1);
    view.drop_scratch();
    assert_eq!(view.ticket(), Ticket(0));
    assert_eq!(ticket_after(&mut view, &get(b"c")), Ticket(0));

    writer.commit(&[first.clone()]).unwrap();
    view.committed(first.ticket).unwrap();
    assert_eq!(ticket_after(&mut view, &get(b"b")), second.ticket);
    let third = view.close_batch().unwrap();
    writer.commit(&[second.clone(), third.clone()]).unwrap();
    assert_eq!(ticket_after(&mut view, &get(b"b")), second.ticket, "durable is what was reported");
    view.committed(third.ticket).unwrap();
    assert_eq!(ticket_after(&mut view, &get(b"b")), Ticket(0));
    assert_eq!((view.durable(), view.pending_bytes()), (third.ticket, 0));
    assert!(view.close_batch().is_none());
}

#[test]
fn after_a_failure_no_ticket_comes_again_and_the_epoch_moves() {
    let (reader, _) = Memory::new().open();
    let mut view = View::new(reader).unwrap();
    let write = |view: &mut View| {
        view.begin();
        view.put::<Numbers>("romeo", b"", &1);
        view.join();
        view.ticket()
    };
    write(&mut view);
    let lost = view.close_batch().unwrap();
    let promised = write(&mut view);
    view.failed().unwrap();
    assert!(view.close_batch().is_none());
    assert_eq!(view.get::<Numbers>("romeo", b""), Ok(None));
    assert!(write(&mut view) > promised);
    assert_eq!(view.close_batch().unwrap().epoch, lost.epoch + 1);
}

#[test]
fn a_view_outlives_a_back_end_that_gives_no_snapshot_for_a_while() {
    let memory = Memory::new();
    let (reader, mut writer) = memory.open();
    let mut view = View::new(reader).unwrap();
    view.put::<Numbers>("romeo", b"", &7);
    view.join();
    let batch = view.close_batch().unwrap();
    writer.commit(&[batch.clone()]).unwrap();
    memory.fail_snapshots(Some(StoreError::Io("gone".into())));
    assert!(view.committed(batch.ticket).is_err());
    view.begin();
    assert_eq!(view.get::<Numbers>("romeo", b""), Ok(Some(7)));
    assert_eq!(view.ticket(), Ticket(0), "durable all the same");
    assert!(view.failed().is_err());
    assert!(view.get::<Numbers>("romeo", b"").is_err());
    memory.fail_snapshots(None);
    assert_eq!(view.get::<Numbers>("romeo", b""), Ok(Some(7)));
}

#[test]
fn a_row_of_another_form_is_an_error_and_not_a_guess() {
    let memory = Memory::new();
    let (reader, mut writer) = memory.open();
    let write = (key("romeo", Numbers::ID, b"").into(), Some(vec![0xff, 0xff].into()));
    writer.commit(&[Batch { ticket: Ticket(1), epoch: 0, writes: vec![write] }]).unwrap();
    let mut view = View::new(reader).unwrap();
    let error = view.get::<Numbers>("romeo", b"").unwrap_err();
    assert!(error.to_string().contains("numbers of romeo"), "{error}");
    assert_eq!(view.list::<Numbers>("romeo", 9), Err(error));
}

#[test]
fn an_owner_with_a_zero_byte_stays_apart() {
    let mut view = View::new(Memory::new().open().0).unwrap();
    view.put::<Numbers>("a\0\u{1}", b"b", &1);
    assert_eq!(view.count::<Numbers>("a"), Ok(0));
    assert_eq!(view.get::<Notes>("a", b"\x01b"), Ok(None));
    assert_eq!(view.get::<Numbers>("a\0\u{1}", b"b"), Ok(Some(1)));
}

#[test]
fn a_snapshot_shows_one_moment() {
    for store in [Memory::new().open(), open(&Disk::default()).unwrap()] {
        let (reader, mut writer) = store;
        let before = reader.snapshot().unwrap();
        let write = (b"k"[..].into(), Some(b"v"[..].into()));
        writer.commit(&[Batch { ticket: Ticket(1), epoch: 0, writes: vec![write] }]).unwrap();
        assert_eq!(before.get(b"k"), Ok(None));
        assert_eq!(reader.snapshot().unwrap().get(b"k"), Ok(Some(b"v".to_vec())));
    }
}

// ---- crashes and failing disks ----

/// The `k`th commit of the script, as writes of the view.
fn script(view: &mut View, k: u64) {
    view.begin();
    view.put::<Numbers>("count", b"", &k);
    view.put::<Notes>("romeo", &[k as u8 % 5], &format!("{k}"));
    view.delete::<Notes>("romeo", &[(k as u8 + 2) % 5]);
    if k % 4 == 0 {
        view.put::<Notes>("large", &[k as u8], &"x".repeat(300_000));
    }
    view.join();
}

/// What is stored after `k` commits of the script.
fn scripted(k: u64) -> Rows {
    let (reader, mut writer) = Memory::new().open();
    let reader = SharedReader(reader.into());
    let mut view = View::new(Box::new(reader.clone())).unwrap();
    (1..=k).for_each(|k| script(&mut view, k));
    writer.commit(&view.close_batch().into_iter().collect::<Vec<_>>()).unwrap();
    rows(&reader)
}

const COMMITS: u64 = 12;

#[test]
fn a_power_cut_at_any_sync_loses_nothing_that_was_committed() {
    let disk = Disk::default();
    drop(open(&disk).unwrap());
    disk.record_cuts();
    let mut running = Running::start(open(&disk).unwrap());
    for k in 1..=COMMITS {
        script(&mut running.view, k);
        let batch = running.view.close_batch().unwrap();
        running.writer.commit(std::slice::from_ref(&batch)).unwrap();
        disk.mark(k);
        running.view.committed(batch.ticket).unwrap();
    }
    drop(running);
    let cuts = disk.cuts();
    assert!(cuts.len() as u64 >= 2 * COMMITS, "each commit syncs: {}", cuts.len());
    let mut seed = 88172645463325252u64;
    for (i, cut) in cuts.iter().enumerate() {
        let mut coin = |chance: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % 8 < chance
        };
        for disk in [cut.lost(), cut.torn(|| true), cut.torn(|| coin(4)), cut.torn(|| coin(7)), cut.torn(|| coin(1))] {
            let (reader, _writer) = open(&disk).unwrap_or_else(|error| panic!("sync {i}: {error}"));
            let stored = rows(&*reader);
            let k = [cut.mark, cut.mark + 1].into_iter().find(|k| scripted(*k) == stored);
            assert!(k.is_some(), "sync {i}, {} commits acknowledged", cut.mark);
        }
    }
}

#[test]
fn a_disk_that_fails_any_one_call_loses_nothing_and_works_on() {
    let fresh = Disk::default();
    drop(open(&fresh).unwrap());
    let commits = 5;
    let expected: Vec<Rows> = (0..=commits).map(scripted).collect();
    let (mut errors, mut n) = (0, 0);
    loop {
        n += 1;
        let disk = fresh.copy();
        disk.fail(n, ErrorKind::Other);
        let store = open(&disk).or_else(|_| open(&disk)).unwrap_or_else(|error| panic!("call {n}: {error}"));
        let mut running = Running::start(store);
        for k in 1..=commits {
            let count = running.view.get::<Numbers>("count", b"");
            assert_eq!(count, Ok((k > 1).then_some(k - 1)), "call {n}");
            script(&mut running.view, k);
            let mut batch = running.view.close_batch().unwrap();
            if let Err(error) = running.writer.commit(std::slice::from_ref(&batch)) {
                errors += 1;
                assert!(matches!(error, StoreError::Io(_)), "call {n}: {error}");
                running.view.failed().unwrap_or_else(|error| panic!("call {n}: {error}"));
                let stored = rows(&running.reader);
                assert!(stored == expected[k as usize - 1] || stored == expected[k as usize], "call {n}");
                script(&mut running.view, k);
                batch = running.view.close_batch().unwrap();
                running.writer.commit(std::slice::from_ref(&batch)).unwrap_or_else(|error| panic!("call {n}: {error}"));
            }
            running.view.committed(batch.ticket).unwrap();
        }
        drop(running);
        let (reader, _writer) = open(&disk.after_power_cut()).unwrap();
        assert!(rows(&*reader) == expected[commits as usize], "call {n}");
        if disk.fail_is_due() {
            break;
        }
    }
    assert!(errors > 20 && n > 100, "{errors} errors in {n} calls");
    eprintln!("{errors} {n}");
}

#[test]
fn a_full_disk_is_said_to_be_full_and_leaves_the_rest_readable() {
    let disk = Disk::default();
    let mut running = Running::start(open(&disk).unwrap());
    disk.set_full(true);
    let mut stored = 0;
    let error = loop {
        running.view.begin();
        running.view.put::<Notes>("romeo", &[stored], &"x".repeat(400_000));
        running.view.join();
        let batch = running.view.close_batch().unwrap();
        match running.writer.commit(std::slice::from_ref(&batch)) {
            Ok(()) => running.view.committed(batch.ticket).unwrap(),
            Err(error) => break error,
        }
        stored += 1;
    };
    assert_eq!(error, StoreError::Full);
    running.view.failed().unwrap();
    assert_eq!(running.view.count::<Notes>("romeo"), Ok(usize::from(stored)));
    disk.set_full(false);
    running.view.put::<Notes>("romeo", &[stored], &"x".repeat(400_000));
    running.view.join();
    running.writer.commit(&[running.view.close_batch().unwrap()]).unwrap();
}

// ---- the file ----

/// A folder that is gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("couplet-storage-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("couplet.redb")
    }

    fn open(&self) -> Result<Store, StoreError> {
        file::open(&self.file(), OPTIONS)
    }

    /// Opens, expects an error, and that the file has not changed by it.
    fn refused(&self) -> StoreError {
        let before = fs::read(self.file()).unwrap();
        let error = self.open().err().expect("an error");
        assert!(fs::read(self.file()).unwrap() == before, "{error}");
        error
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_file_is_made_private_and_kept() {
    let folder = Folder::new("made");
    let mut running = Running::start(folder.open().unwrap());
    script(&mut running.view, 1);
    running.writer.commit(&[running.view.close_batch().unwrap()]).unwrap();
    assert_eq!(fs::metadata(folder.file()).unwrap().permissions().mode() & 0o777, 0o600);
    drop(running);
    let (reader, _writer) = folder.open().unwrap();
    assert!(rows(&*reader) == scripted(1));
    assert!(!folder.0.join("couplet.redb.new").exists());
}

#[test]
fn a_file_in_use_is_locked() {
    let folder = Folder::new("locked");
    let store = folder.open().unwrap();
    let error = folder.open().err().unwrap();
    assert_eq!(error, StoreError::Locked(folder.file().display().to_string()));
    drop(store);
    folder.open().unwrap();
}

#[test]
fn a_start_that_was_cut_short_is_made_again() {
    let folder = Folder::new("cut-short");
    fs::write(folder.0.join("couplet.redb.new"), "half a file").unwrap();
    fs::write(folder.file(), "").unwrap();
    folder.open().unwrap();
}

#[test]
fn a_file_that_is_none_of_ours_is_refused_and_left_alone() {
    let folder = Folder::new("foreign");
    fs::write(folder.file(), "some text that somebody keeps here").unwrap();
    assert!(matches!(folder.refused(), StoreError::Corrupt(_)));
    fs::write(folder.file(), vec![0; 100_000]).unwrap();
    assert!(matches!(folder.refused(), StoreError::Corrupt(_)));
    fs::remove_file(folder.file()).unwrap();

    const OTHER: redb::TableDefinition<'_, u64, u64> = redb::TableDefinition::new("other");
    let database = redb::Database::create(folder.file()).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(OTHER).unwrap().insert(1, 1).unwrap();
    write.commit().unwrap();
    drop(database);
    let error = folder.refused();
    assert!(error.to_string().contains("another program"), "{error}");

    let error = file::open(&folder.0.join("no/such/folder"), OPTIONS).err().unwrap();
    assert!(matches!(&error, StoreError::Io(text) if text.contains("no/such/folder")), "{error}");
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_left_alone_also_after_a_crash() {
    const META: redb::TableDefinition<'_, &str, u32> = redb::TableDefinition::new("meta");
    let folder = Folder::new("newer");
    drop(folder.open().unwrap());
    let database = redb::Database::open(folder.file()).unwrap();
    let mut write = database.begin_write().unwrap();
    write.set_quick_repair(true);
    write.open_table(META).unwrap().insert("schema", file::SCHEMA + 3).unwrap();
    write.commit().unwrap();
    // As a kill leaves it: not closed, to be recovered by the next start.
    let killed = fs::read(folder.file()).unwrap();
    drop(database);
    let newer = StoreError::Newer { found: file::SCHEMA + 3, known: file::SCHEMA };
    assert_eq!(folder.refused(), newer);
    fs::write(folder.file(), killed).unwrap();
    assert_eq!(folder.refused(), newer);
}

#[test]
fn a_damaged_file_is_no_panic_and_is_left_alone_when_refused() {
    let folder = Folder::new("damaged");
    let mut running = Running::start(folder.open().unwrap());
    (1..=3).for_each(|k| script(&mut running.view, k));
    running.writer.commit(&[running.view.close_batch().unwrap()]).unwrap();
    drop(running);
    let whole = fs::read(folder.file()).unwrap();
    for len in [1, 9, 100, 4096, whole.len() / 2, whole.len() - 1] {
        fs::write(folder.file(), &whole[..len]).unwrap();
        let error = folder.refused();
        assert!(matches!(error, StoreError::Corrupt(_)), "{len}: {error}");
    }
    let mut refused = 0;
    for at in (0..320).step_by(3).chain((4096..40_000).step_by(997)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        fs::write(folder.file(), &bytes).unwrap();
        match folder.open() {
            Ok(_) => {}
            Err(_) => {
                fs::write(folder.file(), &bytes).unwrap();
                folder.refused();
                refused += 1;
            }
        }
    }
    assert!(refused > 10, "{refused}");
}

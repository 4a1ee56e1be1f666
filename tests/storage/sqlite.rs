//! The store in a file of SQLite. Its disk cannot be played here, as that would take code that is not safe: what power
//! cuts and failing disks do to it, `tests/power` shows under the whole server.

use super::file::Folder;
use super::model::{Step, play, step};
use super::*;
use ::rusqlite::Connection;
use couplet::storage::sqlite::{self, SqliteOptions, Tuning};
use couplet::storage::{HEADROOM, Kept, Plan, StoreOptions, backup};
use proptest::prelude::*;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

const SCHEMA: u32 = couplet::storage::redb::SCHEMA;

fn options() -> SqliteOptions {
    SqliteOptions { file: OPTIONS, tuning: Tuning::default() }
}

fn file(folder: &Folder) -> PathBuf {
    folder.0.join("couplet.sqlite")
}

fn log(folder: &Folder) -> PathBuf {
    folder.0.join("couplet.sqlite-wal")
}

fn open(path: &Path) -> Result<Store, StoreError> {
    sqlite::open(path, &options())
}

fn start(folder: &Folder) -> Running {
    Running::start(open(&file(folder)).unwrap())
}

fn len(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

impl Running {
    /// The `k`th commit of the script, which the engine hears of.
    fn step(&mut self, k: u64) {
        script(&mut self.view, k);
        let batch = self.view.close_batch().unwrap();
        self.writer.commit(std::slice::from_ref(&batch)).unwrap();
        self.view.committed(batch.ticket).unwrap();
    }

    fn write(&mut self, input: impl FnOnce(&mut View)) -> Result<(), StoreError> {
        self.view.begin();
        input(&mut self.view);
        self.view.join();
        let Some(batch) = self.view.close_batch() else { return Ok(()) };
        let done = self.writer.commit(std::slice::from_ref(&batch));
        match &done {
            Ok(()) => self.view.committed(batch.ticket).unwrap(),
            Err(_) => self.view.failed().unwrap(),
        }
        done
    }
}

#[test]
fn its_files_are_private_and_the_log_goes_when_it_is_closed() {
    let folder = Folder::new("sqlite-made");
    let mut running = start(&folder);
    running.step(1);
    for entry in fs::read_dir(&folder.0).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
    }
    assert!(len(&log(&folder)) > 0 && !folder.0.join("couplet.sqlite-shm").exists());
    assert!(len(&folder.0.join("couplet.sqlite.room")) >= HEADROOM);
    drop(running);
    assert!(!log(&folder).exists() && !folder.0.join("couplet.sqlite.new").exists());
    assert!(rows(&*start(&folder).reader) == scripted(1));
}

#[test]
fn nobody_else_can_open_it_meanwhile() {
    let folder = Folder::new("sqlite-locked");
    let running = start(&folder);
    assert_eq!(open(&file(&folder)).err(), Some(StoreError::Locked(file(&folder).display().to_string())));
    // Other programs are kept out by SQLite's own lock, on all of the file.
    let locks = fs::read_to_string("/proc/locks").unwrap();
    let inode = format!(":{} ", fs::metadata(file(&folder)).unwrap().ino());
    assert!(locks.lines().any(|line| line.contains(&inode) && line.contains("WRITE")), "{inode} {locks}");
    drop(running);
    drop(start(&folder));
}

#[test]
fn a_kill_at_any_commit_loses_nothing_that_was_committed() {
    let folder = Folder::new("sqlite-killed");
    let mut running = start(&folder);
    for k in 1..=40 {
        running.step(k);
        // What the system has of the files, which is what is left of a process that is killed.
        let killed = Folder::new("sqlite-copy");
        for path in [file(&folder), log(&folder)] {
            fs::copy(&path, killed.0.join(path.file_name().unwrap())).unwrap();
        }
        assert!(rows(&*start(&killed).reader) == scripted(k), "commit {k}");
    }
}

#[test]
fn what_is_not_whole_at_the_end_of_the_log_never_happened() {
    let folder = Folder::new("sqlite-torn");
    let mut running = start(&folder);
    (1..=3).for_each(|k| running.step(k));
    let before = len(&log(&folder));
    running.step(4);
    let (base, whole) = (fs::read(file(&folder)).unwrap(), fs::read(log(&folder)).unwrap());
    assert!(whole.len() as u64 > before);
    drop(running);
    let opened = |torn: &[u8]| {
        let killed = Folder::new("sqlite-torn-copy");
        fs::write(file(&killed), &base).unwrap();
        fs::write(log(&killed), torn).unwrap();
        rows(&*start(&killed).reader)
    };
    assert!(opened(&whole) == scripted(4));
    for at in (before as usize..whole.len()).step_by(4099) {
        assert!(opened(&whole[..at]) == scripted(3), "cut at {at}");
        let mut torn = whole.clone();
        torn[at..].iter_mut().take(512).for_each(|byte| *byte ^= 0x55);
        assert!(opened(&torn) == scripted(3), "torn at {at}");
    }
}

#[test]
fn what_is_applied_is_seen_and_made_durable_by_a_flush() {
    let folder = Folder::new("sqlite-applied");
    let mut running = start(&folder);
    for k in 1..=5 {
        script(&mut running.view, k);
        let batch = running.view.close_batch().unwrap();
        running.writer.apply(std::slice::from_ref(&batch)).unwrap();
        running.view.committed(batch.ticket).unwrap();
        assert!(rows(&*running.reader) == scripted(k));
    }
    running.writer.flush(0).unwrap();
    running.writer.flush(0).unwrap();
    drop(running);
    assert!(rows(&*start(&folder).reader) == scripted(5));
}

#[test]
fn a_snapshot_shows_one_moment_until_it_ends_and_is_then_taken_again() {
    let folder = Folder::new("sqlite-snapshot");
    let mut running = start(&folder);
    (1..=4).for_each(|k| running.step(k));
    let snapshot = running.reader.snapshot().unwrap();
    let (mut seen, mut n) = (Rows::new(), 0u32);
    let mut commit = |running: &mut Running| {
        n += 1;
        running.write(|view| view.put::<Notes>("juliet", &(n % 50).to_be_bytes(), &format!("{n:03000}"))).unwrap();
    };
    snapshot
        .scan(b"", b"\xff", &mut |key, value| {
            // Reads inside of a scan, and hundreds of commits, which do not end what is being read from.
            assert_eq!(snapshot.get(key).unwrap().as_deref(), Some(value));
            (0..100).for_each(|_| commit(&mut running));
            seen.insert(key.to_vec(), value.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(seen == scripted(4));
    let (longest, mut ends) = (len(&log(&folder)), 0);
    for _ in 0..600 {
        commit(&mut running);
        ends += u32::from(snapshot.get(b"x").is_err());
    }
    assert!(ends > 0, "the log could never begin anew");
    assert!(longest > 3_000_000 && len(&log(&folder)) < longest, "{} {longest}", len(&log(&folder)));
    assert_eq!(running.view.count::<Notes>("juliet"), Ok(50));
}

#[test]
fn the_log_is_bounded_however_long_the_server_runs() {
    let folder = Folder::new("sqlite-bounded");
    let mut running = start(&folder);
    let mut longest = 0;
    for k in 0..3000u32 {
        running.write(|view| view.put::<Notes>("romeo", &(k % 500).to_be_bytes(), &format!("{k:02000}"))).unwrap();
        longest = longest.max(len(&log(&folder)));
    }
    // 256 pages and the commit that went beyond.
    assert!(longest < 1_200_000, "{longest}");
}

#[test]
fn a_size_is_kept_and_deletes_go_on() {
    let folder = Folder::new("sqlite-full");
    let mut options = options();
    options.file.size_max = 4 << 20;
    let open = || Running::start(sqlite::open(&file(&folder), &options).unwrap());
    let mut running = open();
    let fill = |running: &mut Running, owner: &str| {
        (0u32..).find(|n| {
            let done = running.write(|view| view.put::<Notes>(owner, &n.to_be_bytes(), &"x".repeat(9000)));
            assert!(matches!(done, Ok(()) | Err(StoreError::Full)), "{done:?}");
            done.is_err()
        })
    };
    let n = fill(&mut running, "romeo").unwrap();
    assert!(n > 200 && len(&file(&folder)) <= 4 << 20, "{n} rows, {} bytes", len(&file(&folder)));
    drop(running);
    running = open();
    assert_eq!(fill(&mut running, "juliet"), Some(0));
    for i in 0..n {
        running.write(|view| view.put::<Notes>("romeo", &i.to_be_bytes(), &"y".repeat(9000))).unwrap();
        running.write(|view| view.delete::<Notes>("romeo", &i.to_be_bytes())).unwrap();
    }
    let again = fill(&mut running, "juliet").unwrap();
    assert!(again >= n * 9 / 10, "{again} of {n}");
}

#[test]
fn a_file_that_is_mostly_free_becomes_small_and_readers_go_on() {
    let folder = Folder::new("sqlite-compact");
    let mut running = start(&folder);
    running.write(|view| (0..80).for_each(|n| view.put::<Notes>("gone", &[n], &"x".repeat(50_000)))).unwrap();
    (1..=3).for_each(|k| running.step(k));
    running.write(|view| (0..80).for_each(|n| view.delete::<Notes>("gone", &[n]))).unwrap();
    let before = running.writer.stats().unwrap();
    let after = running.writer.compact().unwrap();
    assert!(after.file_bytes < before.file_bytes / 10, "{before:?} {after:?}");
    let stored = scripted(3);
    let bytes: usize = stored.iter().map(|(key, value)| key.len() + value.len()).sum();
    assert_eq!((after.rows, after.used_bytes), (stored.len() as u64, bytes as u64));
    assert_eq!((after.file_bytes, after.headroom_bytes > HEADROOM), (len(&file(&folder)), true));
    assert_eq!(running.view.count::<Notes>("gone"), Ok(0));
    assert!(rows(&*running.reader) == stored);
    running.step(4);
    drop(running);
    assert!(rows(&*start(&folder).reader) == scripted(4));
}

/// Opens, expects an error, and that the file has not changed by it.
fn refused(folder: &Folder) -> StoreError {
    let before = fs::read(file(folder)).unwrap();
    let error = open(&file(folder)).err().expect("an error");
    assert!(fs::read(file(folder)).unwrap() == before, "{error}");
    error
}

#[test]
fn a_file_that_is_none_of_ours_is_refused_and_left_alone() {
    let folder = Folder::new("sqlite-foreign");
    for strange in [b"some text that somebody keeps here".repeat(9), vec![0; 100_000], b"short".to_vec()] {
        fs::write(file(&folder), &strange).unwrap();
        assert!(matches!(refused(&folder), StoreError::Corrupt(_)));
    }
    fs::remove_file(file(&folder)).unwrap();
    let other = Connection::open(file(&folder)).unwrap();
    other.execute_batch("CREATE TABLE prosody (host TEXT)").unwrap();
    drop(other);
    assert!(refused(&folder).to_string().contains("another program"));
    let error = open(&folder.0.join("no/such/folder")).err().unwrap();
    assert!(matches!(&error, StoreError::Io(text) if text.contains("no/such/folder")), "{error}");
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_left_alone() {
    let folder = Folder::new("sqlite-newer");
    drop(start(&folder));
    let other = Connection::open(file(&folder)).unwrap();
    other.execute_batch(&format!("PRAGMA user_version = {}", SCHEMA + 3)).unwrap();
    drop(other);
    assert_eq!(refused(&folder), StoreError::Newer { found: SCHEMA + 3, known: SCHEMA });
}

#[test]
fn a_damaged_file_is_no_panic_and_is_left_alone_when_refused() {
    let folder = Folder::new("sqlite-damaged");
    let mut running = start(&folder);
    (1..=8).for_each(|k| running.step(k));
    drop(running);
    let whole = fs::read(file(&folder)).unwrap();
    for len in [1, 99, 100, 4096, whole.len() / 2, whole.len() - 4096] {
        fs::write(file(&folder), &whole[..len]).unwrap();
        let error = refused(&folder);
        assert!(matches!(error, StoreError::Corrupt(_)), "{len}: {error}");
    }
    let mut refusals = 0;
    for at in (0..200).step_by(3).chain((4096..40_000).step_by(997)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        fs::write(file(&folder), &bytes).unwrap();
        let _ = fs::remove_file(log(&folder));
        if let Ok((reader, _writer)) = open(&file(&folder)) {
            let _ = try_rows(&*reader);
        } else {
            fs::write(file(&folder), &bytes).unwrap();
            refused(&folder);
            refusals += 1;
        }
    }
    assert!(refusals > 10, "{refusals}");
}

#[test]
fn what_is_set_aside_takes_its_log_along() {
    let folder = Folder::new("sqlite-aside");
    let mut running = start(&folder);
    (1..=4).for_each(|k| running.step(k));
    let (base, log_bytes) = (fs::read(file(&folder)).unwrap(), fs::read(log(&folder)).unwrap());
    drop(running);
    // As a kill leaves it.
    fs::write(file(&folder), base).unwrap();
    fs::write(log(&folder), &log_bytes).unwrap();
    let aside = couplet::storage::set_aside(&file(&folder)).unwrap();
    assert!(!file(&folder).exists() && !log(&folder).exists());
    assert!(rows(&*start(&folder).reader).is_empty(), "a new one has nothing of it");
    assert!(rows(&*open(&aside).unwrap().0) == scripted(4), "and nothing of it is lost");
}

#[test]
fn a_log_without_its_file_is_no_part_of_a_new_one() {
    let folder = Folder::new("sqlite-stale");
    let mut running = start(&folder);
    running.step(1);
    let stale = fs::read(log(&folder)).unwrap();
    drop(running);
    fs::remove_file(file(&folder)).unwrap();
    fs::write(log(&folder), stale).unwrap();
    fs::write(folder.0.join("couplet.sqlite.new"), "half a file").unwrap();
    assert!(rows(&*start(&folder).reader).is_empty());
}

fn kept(folder: &Folder, sqlite: bool) -> StoreOptions {
    let [redb, other, own] = ["couplet.redb", "couplet.snapshot", "couplet.sqlite"].map(|name| folder.0.join(name));
    let kept = match sqlite {
        true => Kept::Sqlite { path: own, others: [redb, other], tuning: Tuning::default() },
        false => Kept::File { path: redb, others: [other, own] },
    };
    StoreOptions { kept, options: OPTIONS, plan: Plan::default() }
}

#[test]
fn all_goes_from_one_back_end_to_the_other_and_back_by_backups() {
    let folder = Folder::new("sqlite-moved");
    let made = |sqlite: bool| {
        let mut bytes = Vec::new();
        backup::create(&*kept(&folder, sqlite).open().unwrap().0, 1, &mut bytes).unwrap();
        bytes
    };
    let mut running = Running::start(kept(&folder, false).open().unwrap());
    (1..=9).for_each(|k| running.step(k));
    drop(running);
    let first = made(false);
    let error = kept(&folder, true).open().err().unwrap();
    assert!(matches!(&error, StoreError::OtherForm(path) if path.ends_with("couplet.redb")), "{error}");
    let there = kept(&folder, true).restore(&mut &first[..], false).unwrap_err();
    assert!(matches!(there, StoreError::Exists(_)), "{there}");
    let (summary, aside) = kept(&folder, true).restore(&mut &first[..], true).unwrap();
    assert_eq!((summary.rows, aside.len()), (scripted(9).len() as u64, 1));
    let second = made(true);
    assert!(second == first, "a backup has one form, whatever the back end");
    // Written on, with a log that was not taken in; then back.
    let mut running = Running::start(kept(&folder, true).open().unwrap());
    (10..=12).for_each(|k| running.step(k));
    drop(running);
    let third = made(true);
    kept(&folder, false).restore(&mut &third[..], true).unwrap();
    assert!(made(false) == third);
    assert!(rows(&*kept(&folder, false).open().unwrap().0) == scripted(12));
}

#[test]
fn a_backup_restores_over_what_a_kill_has_left() {
    let folder = Folder::new("sqlite-restored");
    let mut bytes = Vec::new();
    let mut running = start(&folder);
    (1..=3).for_each(|k| running.step(k));
    backup::create(&*running.reader, 1, &mut bytes).unwrap();
    (4..=6).for_each(|k| running.step(k));
    let left = [file(&folder), log(&folder)].map(|path| (fs::read(&path).unwrap(), path));
    drop(running);
    left.iter().for_each(|(bytes, path)| fs::write(path, bytes).unwrap());
    let error = sqlite::restore(&mut &bytes[..], &file(&folder), &options(), true).unwrap_err();
    assert!(error.to_string().contains("couplet.sqlite-wal was not taken into"), "{error}");
    kept(&folder, true).restore(&mut &bytes[..], true).unwrap();
    assert!(rows(&*start(&folder).reader) == scripted(3));
    let at = bytes.len() - 1;
    bytes[at] ^= 1;
    let damaged = kept(&folder, true).restore(&mut &bytes[..], true).unwrap_err();
    assert!(matches!(damaged, StoreError::BadBackup(_)), "{damaged}");
    assert!(rows(&*start(&folder).reader) == scripted(3) && !folder.0.join("couplet.sqlite.new").exists());
}

#[test]
fn a_backup_shows_one_moment_while_the_server_writes() {
    /// Commits to the store whenever it is written to.
    struct Busy<'a>(&'a mut Running, Vec<u8>, u64);
    impl Write for Busy<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.2 += 1;
            self.0.step(100 + self.2);
            self.1.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let folder = Folder::new("sqlite-busy");
    let mut running = start(&folder);
    (1..=8).for_each(|k| running.step(k));
    let reader = running.reader.another();
    let mut expected = Vec::new();
    backup::create(&*reader, 1, &mut expected).unwrap();
    let mut busy = Busy(&mut running, Vec::new(), 0);
    backup::create(&*reader, 1, &mut busy).unwrap();
    let Busy(_, bytes, writes) = busy;
    assert!(writes > 3 && bytes == expected);
}

#[test]
fn pragmas_hold_for_a_file_that_is_made_with_them() {
    let folder = Folder::new("sqlite-pragmas");
    let mut options = options();
    options.tuning.pragmas = vec![("page_size".into(), "8192".into()), ("secure_delete".into(), "on".into())];
    let mut running = Running::start(sqlite::open(&file(&folder), &options).unwrap());
    running.write(|view| view.put::<Notes>("romeo", b"", &"a secret of Romeo's".repeat(300))).unwrap();
    running.writer.compact().unwrap();
    let holds = || fs::read(file(&folder)).unwrap().windows(19).any(|part| part == b"a secret of Romeo's");
    assert!(holds());
    running.write(|view| view.delete::<Notes>("romeo", b"")).unwrap();
    running.writer.compact().unwrap();
    assert!(!holds());
    drop(running);
    assert_eq!(fs::read(file(&folder)).unwrap()[16..18], [0x20, 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_view_on_sqlite_is_the_model(steps in prop::collection::vec(step(), 0..60)) {
        let folder = Folder::new("sqlite-model");
        let steps: Vec<Step> = steps;
        play(steps, || open(&file(&folder)).unwrap(), |_| (), || (), || ());
    }
}

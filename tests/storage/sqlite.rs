//! The store in a file of SQLite. Its disk cannot be played here, as that would take code that is not safe: what power
//! cuts and failing disks do to it, `tests/power` shows under the whole server.

use super::backup::shows_one_moment;
use super::file::{Folder, damage_is_no_panic, foreign_files_are_refused, locked_while_in_use, made_private_and_kept};
use super::full::size_is_kept;
use super::model::{Step, play, step};
use super::*;
use ::rusqlite::Connection;
use couplet::storage::sqlite::{self, SqliteOptions, Tuning};
use couplet::storage::{HEADROOM, Kept, Plan, StoreOptions, backup};
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const SCHEMA: u32 = couplet::storage::redb::SCHEMA;

fn options() -> SqliteOptions {
    SqliteOptions { file: OPTIONS, tuning: Tuning::default() }
}

fn of_sqlite(name: &str) -> Folder {
    Folder::of(name, "couplet.sqlite", |path| sqlite::open(path, &options()))
}

fn log(folder: &Folder) -> PathBuf {
    folder.beside("-wal")
}

fn len(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

#[test]
fn its_files_are_private_and_the_log_goes_when_it_is_closed() {
    let folder = of_sqlite("sqlite-made");
    made_private_and_kept(&folder);
    let mut running = folder.start();
    running.step(2);
    assert!(len(&log(&folder)) > 0 && !folder.beside("-shm").exists());
    assert!(len(&folder.beside(".room")) >= HEADROOM);
    drop(running);
    assert!(!log(&folder).exists());
}

#[test]
fn nobody_else_can_open_it_meanwhile() {
    let folder = of_sqlite("sqlite-locked");
    locked_while_in_use(&folder, || {
        // Other programs are kept out by SQLite's own lock, on all of the file.
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let inode = format!(":{} ", fs::metadata(folder.file()).unwrap().ino());
        assert!(locks.lines().any(|line| line.contains(&inode) && line.contains("WRITE")), "{inode} {locks}");
    });
}

#[test]
fn a_kill_at_any_commit_loses_nothing_that_was_committed() {
    let folder = of_sqlite("sqlite-killed");
    let mut running = folder.start();
    for k in 1..=40 {
        running.step(k);
        // What the system has of the files, which is what is left of a process that is killed.
        let killed = of_sqlite("sqlite-copy");
        for path in [folder.file(), log(&folder)] {
            fs::copy(&path, killed.0.join(path.file_name().unwrap())).unwrap();
        }
        assert!(rows(&*killed.start().reader) == scripted(k), "commit {k}");
    }
}

#[test]
fn what_is_not_whole_at_the_end_of_the_log_never_happened() {
    let folder = of_sqlite("sqlite-torn");
    let mut running = folder.start();
    (1..=3).for_each(|k| running.step(k));
    let before = len(&log(&folder));
    running.step(4);
    let (base, whole) = (fs::read(folder.file()).unwrap(), fs::read(log(&folder)).unwrap());
    assert!(whole.len() as u64 > before);
    drop(running);
    let opened = |torn: &[u8]| {
        let killed = of_sqlite("sqlite-torn-copy");
        fs::write(killed.file(), &base).unwrap();
        fs::write(log(&killed), torn).unwrap();
        rows(&*killed.start().reader)
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
    let folder = of_sqlite("sqlite-applied");
    let mut running = folder.start();
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
    assert!(rows(&*folder.start().reader) == scripted(5));
}

#[test]
fn a_snapshot_shows_one_moment_until_it_ends_and_is_then_taken_again() {
    let folder = of_sqlite("sqlite-snapshot");
    let mut running = folder.start();
    (1..=4).for_each(|k| running.step(k));
    let snapshot = running.reader.snapshot().unwrap();
    let (mut seen, mut n) = (Rows::new(), 0u32);
    let mut commit = |running: &mut Running| {
        n += 1;
        running.commit(|view| view.put::<Notes>("juliet", &(n % 50).to_be_bytes(), &format!("{n:03000}"))).unwrap();
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
    let folder = of_sqlite("sqlite-bounded");
    let mut running = folder.start();
    let mut longest = 0;
    for k in 0..3000u32 {
        running.commit(|view| view.put::<Notes>("romeo", &(k % 500).to_be_bytes(), &format!("{k:02000}"))).unwrap();
        longest = longest.max(len(&log(&folder)));
    }
    // 256 pages and the commit that went beyond.
    assert!(longest < 1_200_000, "{longest}");
}

#[test]
fn a_size_is_kept_and_deletes_go_on() {
    let folder = of_sqlite("sqlite-full");
    let open = |size_max| {
        let mut options = options();
        options.file.size_max = size_max;
        Running::start(sqlite::open(&folder.file(), &options).unwrap())
    };
    size_is_kept(open, || len(&folder.file()));
}

#[test]
fn free_pages_of_the_file_are_room_where_its_disk_has_none() {
    let folder = of_sqlite("sqlite-tight");
    let put = |view: &mut View| (0..80).for_each(|n| view.put::<Notes>("romeo", &[n], &"x".repeat(50_000)));
    folder.start().commit(put).unwrap();
    // In its place no room can be held.
    fs::remove_file(folder.beside(".room")).unwrap();
    fs::create_dir(folder.beside(".room")).unwrap();
    let mut running = folder.start();
    assert_eq!(running.fill("juliet", 50_000), 0);
    (0..80).for_each(|n| running.commit(|view| view.delete::<Notes>("romeo", &[n])).unwrap());
    let (n, before) = (running.fill("juliet", 50_000), len(&folder.file()));
    assert!(n >= 20 && len(&folder.file()) == before, "{n} rows, {before} bytes");
    assert_eq!(running.writer.stats().unwrap().headroom_bytes, 0);
    (0..n).for_each(|n| running.commit(|view| view.delete::<Notes>("juliet", &n.to_be_bytes())).unwrap());
    fs::remove_dir(folder.beside(".room")).unwrap();
    // The disk has room again.
    (0..200).for_each(|n: u32| {
        running.commit(|view| view.put::<Notes>("juliet", &n.to_be_bytes(), &"x".repeat(50_000))).unwrap();
    });
}

#[test]
fn a_file_that_is_mostly_free_becomes_small_and_readers_go_on() {
    let folder = of_sqlite("sqlite-compact");
    let mut running = folder.start();
    running.commit(|view| (0..80).for_each(|n| view.put::<Notes>("gone", &[n], &"x".repeat(50_000)))).unwrap();
    (1..=3).for_each(|k| running.step(k));
    running.commit(|view| (0..80).for_each(|n| view.delete::<Notes>("gone", &[n]))).unwrap();
    let before = running.writer.stats().unwrap();
    let after = running.writer.compact().unwrap();
    assert!(after.file_bytes < before.file_bytes / 10, "{before:?} {after:?}");
    let stored = scripted(3);
    let bytes: usize = stored.iter().map(|(key, value)| key.len() + value.len()).sum();
    assert_eq!((after.rows, after.used_bytes), (stored.len() as u64, bytes as u64));
    assert_eq!((after.file_bytes, after.headroom_bytes > HEADROOM), (len(&folder.file()), true));
    assert_eq!(running.view.count::<Notes>("gone"), Ok(0));
    assert!(rows(&*running.reader) == stored);
    running.step(4);
    drop(running);
    assert!(rows(&*folder.start().reader) == scripted(4));
}

#[test]
fn a_file_that_is_none_of_ours_is_refused_and_left_alone() {
    foreign_files_are_refused(&of_sqlite("sqlite-foreign"), |path| {
        Connection::open(path).unwrap().execute_batch("CREATE TABLE prosody (host TEXT)").unwrap();
    });
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_left_alone() {
    let folder = of_sqlite("sqlite-newer");
    drop(folder.start());
    let other = Connection::open(folder.file()).unwrap();
    other.execute_batch(&format!("PRAGMA user_version = {}", SCHEMA + 3)).unwrap();
    drop(other);
    assert_eq!(folder.refused(), StoreError::Newer { found: SCHEMA + 3, known: SCHEMA });
}

#[test]
fn a_damaged_file_is_no_panic_and_is_left_alone_when_refused() {
    damage_is_no_panic(&of_sqlite("sqlite-damaged"), 4096);
}

#[test]
fn what_is_set_aside_takes_its_log_along() {
    let folder = of_sqlite("sqlite-aside");
    let mut running = folder.start();
    (1..=4).for_each(|k| running.step(k));
    let (base, log_bytes) = (fs::read(folder.file()).unwrap(), fs::read(log(&folder)).unwrap());
    drop(running);
    // As a kill leaves it.
    fs::write(folder.file(), base).unwrap();
    fs::write(log(&folder), &log_bytes).unwrap();
    let aside = couplet::storage::set_aside(&folder.file()).unwrap();
    assert!(!folder.file().exists() && !log(&folder).exists());
    assert!(rows(&*folder.start().reader).is_empty(), "a new one has nothing of it");
    assert!(rows(&*sqlite::open(&aside, &options()).unwrap().0) == scripted(4), "and nothing of it is lost");
}

#[test]
fn a_log_without_its_file_is_no_part_of_a_new_one() {
    let folder = of_sqlite("sqlite-stale");
    let mut running = folder.start();
    running.step(1);
    let stale = fs::read(log(&folder)).unwrap();
    drop(running);
    fs::remove_file(folder.file()).unwrap();
    fs::write(log(&folder), stale).unwrap();
    fs::write(folder.beside(".new"), "half a file").unwrap();
    assert!(rows(&*folder.start().reader).is_empty());
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
    let folder = of_sqlite("sqlite-moved");
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
    let folder = of_sqlite("sqlite-restored");
    let mut bytes = Vec::new();
    let mut running = folder.start();
    (1..=3).for_each(|k| running.step(k));
    backup::create(&*running.reader, 1, &mut bytes).unwrap();
    (4..=6).for_each(|k| running.step(k));
    let left = [folder.file(), log(&folder)].map(|path| (fs::read(&path).unwrap(), path));
    drop(running);
    left.iter().for_each(|(bytes, path)| fs::write(path, bytes).unwrap());
    let error = sqlite::restore(&mut &bytes[..], &folder.file(), &options(), true).unwrap_err();
    assert!(error.to_string().contains("couplet.sqlite-wal was not taken into"), "{error}");
    kept(&folder, true).restore(&mut &bytes[..], true).unwrap();
    assert!(rows(&*folder.start().reader) == scripted(3));
    let at = bytes.len() - 1;
    bytes[at] ^= 1;
    let damaged = kept(&folder, true).restore(&mut &bytes[..], true).unwrap_err();
    assert!(matches!(damaged, StoreError::BadBackup(_)), "{damaged}");
    assert!(rows(&*folder.start().reader) == scripted(3) && !folder.beside(".new").exists());
}

#[test]
fn a_backup_shows_one_moment_while_the_server_writes() {
    let folder = of_sqlite("sqlite-busy");
    shows_one_moment(folder.start());
}

#[test]
fn pragmas_hold_for_a_file_that_is_made_with_them() {
    let folder = of_sqlite("sqlite-pragmas");
    let mut options = options();
    options.tuning.pragmas = vec![("page_size".into(), "8192".into()), ("secure_delete".into(), "on".into())];
    let mut running = Running::start(sqlite::open(&folder.file(), &options).unwrap());
    running.commit(|view| view.put::<Notes>("romeo", b"", &"a secret of Romeo's".repeat(300))).unwrap();
    running.writer.compact().unwrap();
    let holds = || fs::read(folder.file()).unwrap().windows(19).any(|part| part == b"a secret of Romeo's");
    assert!(holds());
    running.commit(|view| view.delete::<Notes>("romeo", b"")).unwrap();
    running.writer.compact().unwrap();
    assert!(!holds());
    drop(running);
    assert_eq!(fs::read(folder.file()).unwrap()[16..18], [0x20, 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_view_on_sqlite_is_the_model(steps in prop::collection::vec(step(), 0..60)) {
        let folder = of_sqlite("sqlite-model");
        let steps: Vec<Step> = steps;
        play(steps, || folder.open().unwrap(), |_| (), || (), || ());
    }
}

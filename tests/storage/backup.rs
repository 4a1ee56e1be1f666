//! Backups: what is restored is what was there, and what is damaged is noticed.

use super::file::Folder;
use super::*;
use couplet::storage::backup::{self, Keep};
use couplet::storage::redb as store_file;
use proptest::prelude::*;
use std::fs;
use std::io::{self, Write};

const NOW_MS: i64 = 1_795_305_599_000;
const DAY_MS: i64 = 86_400_000;

/// A store with these rows.
fn store_of(rows: &Rows) -> Store {
    let (reader, mut writer) = Memory::new().open();
    let writes = rows.iter().map(|(key, value)| (key[..].into(), Some(value[..].into()))).collect();
    writer.commit(&[Batch { ticket: Ticket(1), epoch: 0, writes }]).unwrap();
    (reader, writer)
}

fn backup_of(rows: &Rows) -> Vec<u8> {
    let mut bytes = Vec::new();
    let summary = backup::create(&*store_of(rows).0, NOW_MS, &mut bytes).unwrap();
    assert_eq!((summary.rows, summary.bytes), (rows.len() as u64, bytes.len() as u64));
    bytes
}

fn some_rows() -> impl Strategy<Value = Rows> {
    let key = prop::collection::vec(any::<u8>(), 1..20).prop_map(|sub| key("romeo", 1, &sub));
    let value = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..100),
        1 => (any::<u8>(), 0..200_000usize).prop_map(|(byte, len)| vec![byte; len]),
    ];
    prop::collection::btree_map(key, value, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_restored_is_what_was_there(rows_before in some_rows()) {
        let folder = Folder::new("restored");
        let bytes = backup_of(&rows_before);
        let made = backup::restore(&mut &bytes[..], &folder.file(), OPTIONS, true).unwrap();
        prop_assert_eq!(made, backup::verify(&mut &bytes[..]).unwrap());
        let (reader, _writer) = folder.open().unwrap();
        prop_assert!(rows(&*reader) == rows_before);
        let mut again = Vec::new();
        backup::create(&*reader, NOW_MS, &mut again).unwrap();
        prop_assert!(again == bytes, "a backup has one form");
    }

    #[test]
    fn any_damage_is_noticed(rows in some_rows(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let whole = backup_of(&rows);
        let mut bytes = whole.clone();
        let at = at.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        prop_assert!(backup::verify(&mut &bytes[..]).is_err(), "byte {} of {}", at, bytes.len());
        prop_assert!(backup::verify(&mut &whole[..at]).is_err());
        bytes[at] = whole[at];
        bytes.push(0);
        prop_assert!(backup::verify(&mut &bytes[..]).is_err());
    }
}

#[test]
fn each_flipped_bit_of_a_small_backup_is_noticed() {
    let whole = backup_of(&Rows::from([(key("romeo", 1, b"a"), b"value".to_vec()), (key("a", 2, b""), vec![])]));
    for at in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[at / 8] ^= 1 << (at % 8);
        let error = backup::verify(&mut &bytes[..]).unwrap_err();
        assert!(matches!(error, StoreError::BadBackup(_) | StoreError::Newer { .. }), "bit {at}: {error}");
    }
}

#[test]
fn a_damaged_backup_restores_nothing_and_leaves_what_is_there() {
    let folder = Folder::new("unrestored");
    let mut running = folder.start();
    running.step(1);
    let mut bytes = backup_of(&scripted(8));
    let locked = backup::restore(&mut &bytes[..], &folder.file(), OPTIONS, true).unwrap_err();
    assert!(matches!(locked, StoreError::Locked(_)), "{locked}");
    drop(running);
    let before = fs::read(folder.file()).unwrap();
    let there = backup::restore(&mut &bytes[..], &folder.file(), OPTIONS, false).unwrap_err();
    assert_eq!(there, StoreError::Exists(folder.file().display().to_string()));
    *bytes.last_mut().unwrap() ^= 1;
    let damaged = backup::restore(&mut &bytes[..], &folder.file(), OPTIONS, true).unwrap_err();
    assert!(matches!(damaged, StoreError::BadBackup(_)), "{damaged}");
    let mut newer = backup_of(&Rows::new());
    newer[16..20].copy_from_slice(&(store_file::SCHEMA + 1).to_be_bytes());
    let newer = backup::restore(&mut &newer[..], &folder.file(), OPTIONS, true).unwrap_err();
    assert_eq!(newer, StoreError::Newer { found: store_file::SCHEMA + 1, known: store_file::SCHEMA });
    let small = RedbOptions { size_max: 3_000_000, ..OPTIONS };
    let large = backup_of(&(0..20u8).map(|n| (key("romeo", 1, &[n]), vec![n; 200_000])).collect());
    assert_eq!(backup::restore(&mut &large[..], &folder.file(), small, true), Err(StoreError::Full));
    assert!(fs::read(folder.file()).unwrap() == before);
    assert!(!folder.beside(".new").exists());
    *bytes.last_mut().unwrap() ^= 1;
    backup::restore(&mut &bytes[..], &folder.file(), OPTIONS, true).unwrap();
    assert!(rows(&*folder.open().unwrap().0) == scripted(8));
}

#[test]
fn a_backup_shows_one_moment_while_the_server_writes() {
    shows_one_moment(Running::start(open(&Disk::default()).unwrap()));
}

/// Of a store without rows.
pub fn shows_one_moment(mut running: Running) {
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
    (1..=8).for_each(|k| running.step(k));
    let reader = running.reader.another();
    let mut busy = Busy(&mut running, Vec::new(), 0);
    backup::create(&*reader, NOW_MS, &mut busy).unwrap();
    let Busy(_, bytes, writes) = busy;
    assert!(writes > 3);
    assert!(bytes == backup_of(&scripted(8)));
}

#[test]
fn backups_are_kept_by_number_and_age_and_the_newest_always() {
    let folder = Folder::new("kept");
    let backups = folder.0.join("backups");
    let (reader, _writer) = store_of(&scripted(3));
    let make = |day: i64, keep| {
        let (path, summary) = backup::create_file(&*reader, &backups, NOW_MS + day * DAY_MS, keep).unwrap();
        assert_eq!(backup::verify(&mut fs::File::open(&path).unwrap()), Ok(summary));
    };
    let days = || -> Vec<i64> {
        backup::list(&backups).unwrap().iter().map(|entry| (entry.made_ms - NOW_MS) / DAY_MS).collect()
    };
    assert_eq!(days(), []);
    (0..6).for_each(|day| make(day, Keep::default()));
    assert_eq!(days(), [5, 4, 3, 2, 1, 0]);
    let strange = [backups.join("couplet-notes.backup"), backups.join("other.backup")];
    strange.iter().for_each(|path| fs::write(path, "somebody's").unwrap());
    make(6, Keep { count: 5, age_s: 0 });
    assert_eq!(days(), [6, 5, 4, 3, 2]);
    make(7, Keep { count: 0, age_s: 3 * 86_400 });
    assert_eq!(days(), [7, 6, 5, 4]);
    make(70, Keep { count: 9, age_s: 1 });
    assert_eq!(days(), [70]);
    let again = backup::create_file(&*reader, &backups, NOW_MS + 70 * DAY_MS, Keep::default()).unwrap_err();
    assert!(matches!(again, StoreError::Exists(_)), "{again}");
    // A clock that went back: what was just made is kept.
    make(1, Keep { count: 1, age_s: 1 });
    assert_eq!(days(), [70, 1]);
    assert!(strange.iter().all(|path| path.exists()));
    let mut names: Vec<_> = fs::read_dir(&backups).unwrap().map(|file| file.unwrap().file_name()).collect();
    names.sort();
    let lock = "couplet.backup.lock";
    let newest = "couplet-20270130T235959Z.backup";
    assert_eq!(names, ["couplet-20261122T235959Z.backup", newest, "couplet-notes.backup", lock, "other.backup"]);
}

#[test]
fn a_backup_that_cannot_be_written_leaves_nothing() {
    struct Small(usize);
    impl Write for Small {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (reader, _writer) = store_of(&scripted(8));
    let whole = backup_of(&scripted(8)).len();
    for room in [0, 10, whole / 2, whole - 1] {
        assert_eq!(backup::create(&*reader, NOW_MS, &mut Small(room)), Err(StoreError::Full));
    }
    assert!(backup::create(&*reader, NOW_MS, &mut Small(whole)).is_ok());
    let folder = Folder::new("unwritten");
    fs::write(folder.file(), "").unwrap();
    let error = backup::create_file(&*reader, &folder.file(), NOW_MS, Keep::default()).unwrap_err();
    assert!(matches!(&error, StoreError::Io(text) if text.contains("couplet.redb/couplet-2026")), "{error}");
}

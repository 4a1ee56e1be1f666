//! Files that are new, in use, strange, of a newer version, or damaged.

use super::*;
use couplet::storage::redb as store_file;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

/// A folder that is gone with the test.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("couplet-storage-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn file(&self) -> PathBuf {
        self.0.join("couplet.redb")
    }

    pub fn open(&self) -> Result<Store, StoreError> {
        store_file::open(&self.file(), OPTIONS)
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
fn the_room_of_a_file_is_really_there() {
    let folder = Folder::new("room");
    let mut running = Running::start(folder.open().unwrap());
    running.view.begin();
    (0..200u8).for_each(|n| running.view.put::<Notes>("romeo", &[n], &"x".repeat(20_000)));
    running.view.join();
    running.writer.commit(&[running.view.close_batch().unwrap()]).unwrap();
    let file = fs::metadata(folder.file()).unwrap();
    // A file system that cannot allocate has the headroom in a file of its own.
    let beside = fs::metadata(folder.0.join("couplet.redb.room")).map_or(0, |room| room.len());
    let taken = file.blocks() * 512 + beside;
    assert!(file.len() > 4_000_000);
    assert!(taken >= file.len() + couplet::storage::HEADROOM, "{taken} bytes taken by {}", file.len());
}

#[test]
fn a_damaged_file_is_set_aside_when_asked_and_never_over_another() {
    let folder = Folder::new("aside");
    let aside = |n: u32| folder.0.join(format!("couplet.redb.damaged-{n}"));
    for n in 1..4 {
        fs::write(folder.file(), format!("damage {n}")).unwrap();
        folder.refused();
        assert_eq!(couplet::storage::set_aside(&folder.file()), Ok(aside(n)));
        assert!(!folder.file().exists());
    }
    for n in 1..4 {
        assert_eq!(fs::read_to_string(aside(n)).unwrap(), format!("damage {n}"));
    }
    assert!(matches!(couplet::storage::set_aside(&folder.file()), Err(StoreError::Io(_))), "nothing is there");
    let store = folder.open().unwrap();
    assert!(matches!(couplet::storage::set_aside(&folder.file()), Err(StoreError::Locked(_))), "in use");
    drop(store);
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

    let error = store_file::open(&folder.0.join("no/such/folder"), OPTIONS).err().unwrap();
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
    write.open_table(META).unwrap().insert("schema", store_file::SCHEMA + 3).unwrap();
    write.commit().unwrap();
    // As a kill leaves it: not closed, to be recovered by the next start.
    let killed = fs::read(folder.file()).unwrap();
    drop(database);
    let newer = StoreError::Newer { found: store_file::SCHEMA + 3, known: store_file::SCHEMA };
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

//! Files that are new, in use, strange, of a newer version, or damaged.

use super::*;
use couplet::storage::redb as store_file;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A folder that is gone with the test, the name of the store in it, and how that is opened.
pub struct Folder(pub PathBuf, &'static str, Opens);

type Opens = fn(&Path) -> Result<Store, StoreError>;

impl Folder {
    pub fn new(name: &str) -> Self {
        Self::of(name, "couplet.redb", |path| store_file::open(path, OPTIONS))
    }

    /// Of another kind of store.
    pub fn of(name: &str, file: &'static str, opens: Opens) -> Self {
        let path = std::env::temp_dir().join(format!("couplet-storage-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path, file, opens)
    }

    pub fn file(&self) -> PathBuf {
        self.0.join(self.1)
    }

    /// A file that belongs to that of the store, by the end of its name.
    pub fn beside(&self, end: &str) -> PathBuf {
        self.0.join(format!("{}{end}", self.1))
    }

    pub fn open(&self) -> Result<Store, StoreError> {
        self.2(&self.file())
    }

    pub fn start(&self) -> Running {
        Running::start(self.open().unwrap())
    }

    /// Opens, expects an error, and that the file has not changed by it.
    pub fn refused(&self) -> StoreError {
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
    made_private_and_kept(&Folder::new("made"));
}

pub fn made_private_and_kept(folder: &Folder) {
    let mut running = folder.start();
    running.step(1);
    for entry in fs::read_dir(&folder.0).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
    }
    drop(running);
    assert!(rows(&*folder.start().reader) == scripted(1));
    assert!(!folder.beside(".new").exists());
}

#[test]
fn a_file_in_use_is_locked() {
    locked_while_in_use(&Folder::new("locked"), || ());
}

pub fn locked_while_in_use(folder: &Folder, meanwhile: impl Fn()) {
    let store = folder.open().unwrap();
    assert_eq!(folder.open().err(), Some(StoreError::Locked(folder.file().display().to_string())));
    meanwhile();
    drop(store);
    folder.open().unwrap();
}

#[test]
fn a_start_that_was_cut_short_is_made_again() {
    let folder = Folder::new("cut-short");
    fs::write(folder.beside(".new"), "half a file").unwrap();
    fs::write(folder.file(), "").unwrap();
    folder.open().unwrap();
}

#[test]
fn the_room_of_a_file_is_really_there() {
    let folder = Folder::new("room");
    let mut running = folder.start();
    let put = |view: &mut View| (0..200u8).for_each(|n| view.put::<Notes>("romeo", &[n], &"x".repeat(20_000)));
    running.commit(put).unwrap();
    let file = fs::metadata(folder.file()).unwrap();
    // A file system that cannot allocate has the headroom in a file of its own.
    let beside = fs::metadata(folder.beside(".room")).map_or(0, |room| room.len());
    let taken = file.blocks() * 512 + beside;
    assert!(file.len() > 4_000_000);
    assert!(taken >= file.len() + couplet::storage::HEADROOM, "{taken} bytes taken by {}", file.len());
}

#[test]
fn a_damaged_file_is_set_aside_when_asked_and_never_over_another() {
    let folder = Folder::new("aside");
    let aside = |n: u32| folder.beside(&format!(".damaged-{n}"));
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
    foreign_files_are_refused(&Folder::new("foreign"), |path| {
        const OTHER: redb::TableDefinition<'_, u64, u64> = redb::TableDefinition::new("other");
        let database = redb::Database::create(path).unwrap();
        let write = database.begin_write().unwrap();
        write.open_table(OTHER).unwrap().insert(1, 1).unwrap();
        write.commit().unwrap();
    });
}

/// `make_other` makes a file of the same kind as another program does.
pub fn foreign_files_are_refused(folder: &Folder, make_other: impl Fn(&Path)) {
    for strange in [b"some text that somebody keeps here".repeat(9), vec![0; 100_000], b"short".to_vec()] {
        fs::write(folder.file(), strange).unwrap();
        assert!(matches!(folder.refused(), StoreError::Corrupt(_)));
    }
    fs::remove_file(folder.file()).unwrap();
    make_other(&folder.file());
    let error = folder.refused();
    assert!(error.to_string().contains("another program"), "{error}");
    let error = folder.2(&folder.0.join("no/such/folder")).err().unwrap();
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
    damage_is_no_panic(&Folder::new("damaged"), 1);
}

/// A file that is short of `cut_bytes` is seen to be damaged.
pub fn damage_is_no_panic(folder: &Folder, cut_bytes: usize) {
    let mut running = folder.start();
    (1..=8).for_each(|k| running.step(k));
    drop(running);
    let whole = fs::read(folder.file()).unwrap();
    for len in [1, 9, 99, 100, 4096, whole.len() / 2, whole.len() - cut_bytes] {
        fs::write(folder.file(), &whole[..len]).unwrap();
        let error = folder.refused();
        assert!(matches!(error, StoreError::Corrupt(_)), "{len}: {error}");
    }
    let mut refused = 0;
    for at in (0..320).step_by(3).chain((4096..40_000).step_by(997)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        fs::write(folder.file(), &bytes).unwrap();
        let _ = fs::remove_file(folder.beside("-wal"));
        if let Ok((reader, _writer)) = folder.open() {
            let _ = try_rows(&*reader);
        } else {
            fs::write(folder.file(), &bytes).unwrap();
            folder.refused();
            refused += 1;
        }
    }
    assert!(refused > 10, "{refused}");
}

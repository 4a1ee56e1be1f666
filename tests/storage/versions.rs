//! Files that earlier versions have made: each opens, and shows what was in it.
//!
//! `files/` has a store and a backup of every schema, as the version wrote them that had it.

use super::file::Folder;
use super::*;
use couplet::storage::backup;
use couplet::storage::redb as store_file;
use std::fs;
use std::path::{Path, PathBuf};

/// Of every schema so far.
const SCHEMAS: std::ops::RangeInclusive<u32> = 1..=store_file::SCHEMA;

/// A commit of the script that has only small rows.
const K: u64 = 3;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/storage/files").join(name)
}

#[test]
fn files_of_every_version_open_and_show_what_was_in_them() {
    if !file(&format!("v{}.redb", store_file::SCHEMA)).exists() {
        write_files();
        panic!("files/ has those of this schema now: commit them, and never change them again");
    }
    for schema in SCHEMAS {
        let folder = Folder::new("versions");
        fs::copy(file(&format!("v{schema}.redb")), folder.file()).unwrap();
        for _ in 0..2 {
            let (reader, _writer) = folder.open().unwrap_or_else(|error| panic!("schema {schema}: {error}"));
            assert!(rows(&*reader) == scripted(K), "schema {schema}");
        }
        let mut backup = fs::File::open(file(&format!("v{schema}.backup"))).unwrap();
        let summary = backup::restore(&mut backup, &folder.file(), OPTIONS, true).unwrap();
        assert_eq!(summary.schema, schema);
        assert!(rows(&*folder.open().unwrap().0) == scripted(K), "schema {schema}");
    }
}

/// What this version writes.
fn write_files() {
    let folder = Folder::new("written");
    let mut running = Running::start(folder.open().unwrap());
    (1..=K).for_each(|k| script(&mut running.view, k));
    running.writer.commit(&[running.view.close_batch().unwrap()]).unwrap();
    let schema = store_file::SCHEMA;
    let mut out = fs::File::create(file(&format!("v{schema}.backup"))).unwrap();
    backup::create(&*running.reader, 0, &mut out).unwrap();
    // Closed, which gives back what is free.
    drop(running);
    fs::copy(folder.file(), file(&format!("v{schema}.redb"))).unwrap();
}

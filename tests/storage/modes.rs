//! Stores that are not durable at once: what is applied, and what is in memory.

use super::file::Folder;
use super::*;
use couplet::storage::{backup, volatile};
use std::fs;
use std::io::ErrorKind;

/// Ends the tick of `view` as the engine does, the storage thread applying it.
fn apply(running: &mut Running, k: u64) -> Result<(), StoreError> {
    script(&mut running.view, k);
    let batch = running.view.close_batch().unwrap();
    running.writer.apply(std::slice::from_ref(&batch))?;
    running.view.committed(batch.ticket).unwrap();
    Ok(())
}

#[test]
fn what_is_applied_is_seen_and_survives_once_it_is_flushed() {
    let disk = Disk::default();
    let mut running = Running::start(open(&disk).unwrap());
    disk.record_cuts();
    for k in 1..=3 {
        apply(&mut running, k).unwrap();
        assert!(rows(&*running.reader) == scripted(k));
    }
    assert!(disk.cuts().is_empty(), "nothing is synced");
    assert!(rows(&*open(&disk.after_power_cut()).unwrap().0) == scripted(0));
    running.writer.flush(0).unwrap();
    assert!(rows(&*open(&disk.after_power_cut()).unwrap().0) == scripted(3));
    apply(&mut running, 4).unwrap();
    script(&mut running.view, 5);
    running.writer.commit(&[running.view.close_batch().unwrap()]).unwrap();
    assert!(rows(&*open(&disk.after_power_cut()).unwrap().0) == scripted(5), "a commit flushes too");
}

#[test]
fn a_power_cut_loses_what_was_applied_since_the_last_flush_and_nothing_else() {
    let disk = Disk::default();
    let mut running = Running::start(open(&disk).unwrap());
    disk.record_cuts();
    for k in 1..=24 {
        apply(&mut running, k).unwrap();
        if k % 4 == 0 {
            running.writer.flush(0).unwrap();
            disk.mark(k);
        }
    }
    let mut coin = 0u32;
    for (i, cut) in disk.cuts().iter().enumerate() {
        let mut keep = || {
            coin = coin.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            coin >> 31 == 0
        };
        for disk in [cut.lost(), cut.torn(|| true), cut.torn(&mut keep)] {
            let stored = rows(&*open(&disk).unwrap_or_else(|error| panic!("sync {i}: {error}")).0);
            assert!([cut.mark, cut.mark + 4].iter().any(|k| scripted(*k) == stored), "sync {i}");
        }
    }
}

#[test]
fn whatever_call_fails_a_loss_of_what_was_applied_is_said() {
    // Small ones, as each call of them all is failed.
    const COMMITS: u64 = 3;
    let fresh = Disk::default();
    drop(open(&fresh).unwrap());
    let (mut n, mut losses) = (0, 0);
    loop {
        n += 1;
        let disk = fresh.copy();
        let mut running = Running::start(open(&disk).unwrap());
        disk.fail(n, ErrorKind::Other);
        // The script from its start, again from what is stored whenever it is said that something is lost.
        let (mut k, mut flushed) = (0, 0);
        while k < COMMITS || flushed < COMMITS {
            let applies = k < COMMITS && k < flushed + 2;
            let done = if applies { apply(&mut running, k + 1) } else { running.writer.flush(0) };
            let Err(error) = done else {
                k += u64::from(applies);
                flushed = if applies { flushed } else { k };
                // A reader that fails opens the store again, and may be the one that notices.
                let _ = running.view.count::<Notes>("romeo");
                continue;
            };
            if error.is_fatal() {
                drop(running);
                disk.drop_page_cache();
                running = Running::start(open(&disk).unwrap());
            } else {
                running.view.failed().unwrap();
            }
            let stored = rows(&*running.reader);
            losses += u32::from(stored != scripted(k));
            k = (flushed..=k + 1).rev().find(|k| scripted(*k) == stored).unwrap_or_else(|| panic!("call {n}: a part"));
        }
        assert!(rows(&*running.reader) == scripted(COMMITS), "call {n}: lost in silence");
        drop(running);
        assert!(rows(&*open(&disk.after_power_cut()).unwrap().0) == scripted(COMMITS), "call {n}: not durable");
        if disk.fail_is_due() {
            break;
        }
    }
    assert!(n > 50 && losses > 5, "{n} calls, {losses} losses");
}

#[test]
fn on_a_full_disk_nothing_is_applied_that_cannot_be_flushed() {
    let disk = Disk::default();
    let mut running = Running::start(open(&disk).unwrap());
    disk.set_place(4_000_000);
    let mut n = 0u32;
    loop {
        running.view.begin();
        running.view.put::<Notes>("romeo", &n.to_be_bytes(), &"x".repeat(3000));
        running.view.join();
        let batch = running.view.close_batch().unwrap();
        match running.writer.apply(std::slice::from_ref(&batch)) {
            Ok(()) => running.view.committed(batch.ticket).unwrap(),
            Err(error) => {
                assert_eq!(error, StoreError::Full);
                break;
            }
        }
        n += 1;
    }
    running.view.failed().unwrap();
    assert_eq!(running.view.count::<Notes>("romeo"), Ok(n as usize));
    running.writer.flush(0).unwrap();
    assert_eq!(rows(&*open(&disk.after_power_cut()).unwrap().0).len(), n as usize);
}

#[test]
fn a_volatile_store_is_what_its_last_snapshot_was() {
    let folder = Folder::new("volatile");
    let path = folder.0.join("couplet.snapshot");
    let start = || Running::start(volatile::open(&path, OPTIONS).unwrap());
    let mut running = start();
    assert!(matches!(volatile::open(&path, OPTIONS), Err(StoreError::Locked(_))));
    apply(&mut running, 1).unwrap();
    assert!(!path.exists());
    running.writer.flush(1000).unwrap();
    (2..=8).for_each(|k| apply(&mut running, k).unwrap());
    assert!(rows(&*running.reader) == scripted(8));
    drop(running);
    let mut running = start();
    assert!(rows(&*running.reader) == scripted(1));
    (2..=8).for_each(|k| apply(&mut running, k).unwrap());
    running.writer.flush(2000).unwrap();
    assert_eq!(backup::verify(&mut fs::File::open(&path).unwrap()).unwrap().made_ms, 2000);
    drop(running);
    assert!(rows(&*start().reader) == scripted(8));

    let mut damaged = fs::read(&path).unwrap();
    damaged[40] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let error = volatile::open(&path, OPTIONS).err().unwrap();
    assert!(matches!(&error, StoreError::BadBackup(text) if text.contains("couplet.snapshot")), "{error}");
    assert!(fs::read(&path).unwrap() == damaged);
}

#[test]
fn a_snapshot_that_cannot_be_written_leaves_the_one_before() {
    let folder = Folder::new("unsaved");
    let path = folder.0.join("couplet.snapshot");
    let mut running = Running::start(volatile::open(&path, OPTIONS).unwrap());
    apply(&mut running, 1).unwrap();
    running.writer.flush(1000).unwrap();
    apply(&mut running, 2).unwrap();
    // A folder stands where the new one is written.
    fs::create_dir(folder.0.join("couplet.snapshot.part")).unwrap();
    assert!(matches!(running.writer.flush(2000), Err(StoreError::Io(_))));
    assert!(rows(&*running.reader) == scripted(2));
    drop(running);
    assert!(rows(&*volatile::open(&path, OPTIONS).unwrap().0) == scripted(1));
}

#[test]
fn memory_is_bounded_by_the_size_of_a_volatile_store() {
    let folder = Folder::new("bounded");
    let options = RedbOptions { size_max: 4_000_000, ..OPTIONS };
    let mut running = Running::start(volatile::open(&folder.0.join("couplet.snapshot"), options).unwrap());
    let mut n = 0u8;
    let error = loop {
        running.view.begin();
        running.view.put::<Notes>("romeo", &[n], &"x".repeat(50_000));
        running.view.join();
        let batch = running.view.close_batch().unwrap();
        if let Err(error) = running.writer.apply(std::slice::from_ref(&batch)) {
            break error;
        }
        running.view.committed(batch.ticket).unwrap();
        n += 1;
    };
    assert_eq!(error, StoreError::Full);
    assert!(n > 10, "{n}");
    running.view.failed().unwrap();
    running.view.delete::<Notes>("romeo", &[0]);
    running.view.join();
    running.writer.apply(&[running.view.close_batch().unwrap()]).unwrap();
}

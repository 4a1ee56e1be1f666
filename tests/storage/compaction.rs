//! Making the file small: nothing is lost by it, whatever happens meanwhile, and readers go on.

use super::*;
use std::io::ErrorKind;

/// A store whose file is mostly free: `scripted(k)` and what was deleted.
fn grown(disk: &Disk, k: u64) -> Running {
    let mut running = Running::start(open(disk).unwrap());
    let mut commit = |input: &dyn Fn(&mut View)| {
        input(&mut running.view);
        let batch = running.view.close_batch().unwrap();
        running.writer.commit(std::slice::from_ref(&batch)).unwrap();
        running.view.committed(batch.ticket).unwrap();
    };
    let gone = |view: &mut View, edit: &dyn Fn(&mut View, u8)| {
        view.begin();
        (0..60).for_each(|n| edit(view, n));
        view.join();
    };
    commit(&|view| gone(view, &|view, n| view.put::<Notes>("gone", &[n], &"x".repeat(50_000))));
    commit(&|view| (1..=k).for_each(|k| script(view, k)));
    commit(&|view| gone(view, &|view, n| view.delete::<Notes>("gone", &[n])));
    running
}

#[test]
fn a_file_that_is_mostly_free_becomes_small_and_readers_go_on() {
    let disk = Disk::default();
    let mut running = grown(&disk, 8);
    let before = running.writer.stats().unwrap();
    assert_eq!((before.file_bytes, before.headroom_bytes), (disk.len(), couplet::storage::HEADROOM));
    let stored = scripted(8);
    assert_eq!(before.rows, stored.len() as u64);
    let bytes: usize = stored.iter().map(|(key, value)| key.len() + value.len()).sum();
    assert!(before.used_bytes >= bytes as u64 && before.used_bytes < bytes as u64 + 1000);
    let after = running.writer.compact().unwrap();
    assert!(after.file_bytes < before.file_bytes / 2, "{before:?} {after:?}");
    assert_eq!((after.rows, after.file_bytes), (before.rows, disk.len()));
    assert_eq!(running.view.count::<Notes>("gone"), Ok(0));
    assert!(rows(&*running.reader) == stored);
    script(&mut running.view, 9);
    running.writer.commit(&[running.view.close_batch().unwrap()]).unwrap();
    assert!(rows(&*open(&disk.after_power_cut()).unwrap().0) == scripted(9));
}

#[test]
fn where_there_is_no_place_for_a_copy_it_becomes_small_in_place() {
    let disk = Disk::default();
    let mut running = grown(&disk, 1);
    let before = disk.len();
    disk.set_place(disk.taken() + 100_000);
    let after = running.writer.compact().unwrap();
    assert!(after.file_bytes < before / 2, "{before} {after:?}");
    assert!(rows(&*running.reader) == scripted(1));
    drop(running);
    assert!(rows(&*open(&disk.after_power_cut()).unwrap().0) == scripted(1));
}

#[test]
fn a_power_cut_at_any_sync_of_it_loses_nothing() {
    for in_place in [false, true] {
        let disk = Disk::default();
        let mut running = grown(&disk, 3);
        if in_place {
            disk.set_place(disk.taken() + 100_000);
        }
        disk.record_cuts();
        running.writer.compact().unwrap();
        drop(running);
        let mut coin = 0u32;
        let cuts = disk.cuts();
        assert!(cuts.len() > 1);
        for (i, cut) in cuts.iter().enumerate() {
            let mut keep = || {
                coin = coin.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                coin >> 31 == 0
            };
            for disk in [cut.lost(), cut.torn(|| true), cut.torn(&mut keep)] {
                let (reader, _writer) = open(&disk).unwrap_or_else(|error| panic!("sync {i}, {in_place}: {error}"));
                assert!(rows(&*reader) == scripted(3), "sync {i}, {in_place}");
            }
        }
    }
}

#[test]
fn whatever_call_of_it_fails_nothing_is_lost_and_all_goes_on() {
    let fresh = Disk::default();
    drop(grown(&fresh, 1));
    for in_place in [false, true] {
        let (mut n, mut errors) = (0, 0);
        loop {
            n += 1;
            let disk = fresh.copy();
            let mut running = Running::start(open(&disk).unwrap());
            if in_place {
                disk.set_place(disk.taken() + 20_000);
            }
            disk.fail(n, ErrorKind::Other);
            if let Err(error) = running.writer.compact() {
                errors += 1;
                if error.is_fatal() {
                    assert!(running.writer.commit(&[]).is_err_and(|error| error.is_fatal()));
                    drop(running);
                    disk.drop_page_cache();
                    running = Running::start(open(&disk).unwrap());
                }
            }
            let done = disk.fail_is_due();
            disk.heal();
            disk.set_place(u64::MAX);
            assert!(rows(&*running.reader) == scripted(1), "call {n}, {in_place}");
            script(&mut running.view, 2);
            let committed = running.writer.commit(&[running.view.close_batch().unwrap()]);
            assert_eq!(committed, Ok(()), "call {n}, {in_place}");
            drop(running);
            assert!(rows(&*open(&disk.after_power_cut()).unwrap().0) == scripted(2), "call {n}, {in_place}");
            if done {
                break;
            }
        }
        assert!(errors > 10, "{errors} errors in {n} calls");
    }
}

//! The file on a disk that loses its power at any sync or fails at any call.

use super::*;
use std::io::ErrorKind;

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
fn a_disk_that_fails_any_one_call_loses_nothing_and_works_on_or_says_that_it_must_end() {
    let fresh = Disk::default();
    drop(open(&fresh).unwrap());
    let commits = 5;
    let expected: Vec<Rows> = (0..=commits).map(scripted).collect();
    let (mut errors, mut ends, mut n) = (0, 0, 0);
    loop {
        n += 1;
        let disk = fresh.copy();
        disk.fail(n, ErrorKind::Other);
        let restarted = || {
            disk.drop_page_cache();
            open(&disk).unwrap_or_else(|error| panic!("call {n}: {error}"))
        };
        let store = open(&disk).unwrap_or_else(|_| restarted());
        let mut running = Running::start(store);
        for k in 1..=commits {
            let count = running.view.get::<Numbers>("count", b"");
            assert_eq!(count, Ok((k > 1).then_some(k - 1)), "call {n}");
            script(&mut running.view, k);
            let mut batch = running.view.close_batch().unwrap();
            if let Err(error) = running.writer.commit(std::slice::from_ref(&batch)) {
                errors += 1;
                if error.is_fatal() {
                    ends += 1;
                    assert_eq!(running.writer.commit(std::slice::from_ref(&batch)), Err(error.clone()), "call {n}");
                    assert!(running.view.failed().is_err_and(|error| error.is_fatal()), "call {n}");
                    drop(running);
                    running = Running::start(restarted());
                } else {
                    assert!(matches!(error, StoreError::Io(_)), "call {n}: {error}");
                    let count = running.view.count::<Numbers>("count");
                    assert_eq!(count, Ok(1), "call {n}: the view shows what it did until it knows");
                    running.view.failed().unwrap_or_else(|error| panic!("call {n}: {error}"));
                }
                let stored = rows(&*running.reader);
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
    assert!(errors > 20 && ends > 5 && n > 100, "{errors} errors, {ends} of them fatal, in {n} calls");
}

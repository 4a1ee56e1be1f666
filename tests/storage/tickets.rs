//! What outputs wait for, and what the view shows meanwhile.

use super::*;

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

    writer.commit(std::slice::from_ref(&first)).unwrap();
    view.committed(first.ticket).unwrap();
    assert_eq!(ticket_after(&mut view, &get(b"b")), second.ticket);
    let third = view.close_batch().unwrap();
    writer.commit(&[second.clone(), third.clone()]).unwrap();
    assert_eq!(ticket_after(&mut view, &get(b"b")), second.ticket, "durable is what was reported");
    view.committed(third.ticket).unwrap();
    assert_eq!(ticket_after(&mut view, &get(b"b")), Ticket(0));
    assert_eq!((view.durable(), view.pending_bytes()), (third.ticket, 0));
    assert!(view.close_batch().is_none());

    view.begin();
    view.delete_owner("juliet", None).unwrap();
    assert_eq!(view.ticket(), Ticket(0), "nothing was there to delete");
    view.delete_owner("romeo", None).unwrap();
    assert_eq!(view.ticket(), Ticket(third.ticket.0 + 1));
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
    writer.commit(std::slice::from_ref(&batch)).unwrap();
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
    let owner = "a\0\u{1}";
    view.put::<Numbers>(owner, b"b", &1);
    assert_eq!(key(owner, Numbers::ID, b"b"), key("a", Notes::ID, b"\0\xffb"), "but for the view's care");
    assert_eq!(view.count::<Notes>("a"), Ok(0));
    assert_eq!(view.get::<Notes>("a", b"\0\xffb"), Ok(None));
    assert_eq!(view.get::<Numbers>(owner, b"b"), Ok(Some(1)));
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

#[test]
fn what_is_remembered_of_rows_waits_for_the_batches_that_it_shows() {
    let (reader, mut writer) = Memory::new().open();
    let mut view = View::new(reader).unwrap();
    let write = |view: &mut View, sub: &[u8]| {
        view.begin();
        let rows = view.extent::<Numbers>("romeo").unwrap().rows;
        view.put::<Numbers>("romeo", sub, &1);
        view.join();
        assert_eq!(view.extent::<Numbers>("romeo").unwrap().rows, rows + 1);
        view.close_batch().unwrap()
    };
    let extent_waits_for = |view: &mut View| {
        view.begin();
        drop(view.extent::<Numbers>("romeo"));
        view.ticket()
    };
    assert_eq!(extent_waits_for(&mut view), Ticket(0));
    let (first, second) = (write(&mut view, b"a"), write(&mut view, b"b"));
    assert_eq!(extent_waits_for(&mut view), second.ticket);

    // What an input has written that failed is promised by no batch.
    view.begin();
    view.put::<Numbers>("romeo", b"c", &1);
    assert_eq!(view.extent::<Numbers>("romeo").unwrap().rows, 3);
    view.drop_scratch();
    assert!(view.ticket() <= second.ticket);
    assert_eq!(view.extent::<Numbers>("romeo").unwrap().rows, 2);
    assert_eq!(view.ticket(), second.ticket);

    writer.commit(&[first, second.clone()]).unwrap();
    view.committed(second.ticket).unwrap();
    assert_eq!(extent_waits_for(&mut view), Ticket(0));

    // A failed commit brings back what was deleted, and takes what was added.
    view.begin();
    view.delete::<Numbers>("juliet", b"");
    view.delete_owner("romeo", None).unwrap();
    assert_eq!(view.extent::<Numbers>("romeo").unwrap().rows, 0);
    assert_eq!(view.get::<Numbers>("romeo", b"a"), Ok(None));
    view.put::<Numbers>("juliet", b"", &1);
    view.join();
    assert_eq!(view.extent::<Numbers>("juliet").unwrap().rows, 1);
    view.failed().unwrap();
    assert_eq!(view.extent::<Numbers>("romeo").unwrap().rows, 2);
    assert_eq!(view.get::<Numbers>("romeo", b"a"), Ok(Some(1)));
    assert_eq!(view.extent::<Numbers>("juliet").unwrap().rows, 0);
    assert_eq!(view.get::<Numbers>("juliet", b""), Ok(None));
}

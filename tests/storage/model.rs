//! The view against the plainest model of it, on every back end.

use super::*;
use proptest::prelude::*;
use std::io::ErrorKind;

const OWNERS: [&str; 4] = ["romeo@example.org", "romeo@example.or", "example.org", "a\u{1}b"];

#[derive(Clone, Debug)]
pub enum Step {
    Note(usize, Vec<u8>, Option<String>),
    Number(usize, Vec<u8>, Option<u64>),
    DeleteOwner(usize),
    EndInput { well: bool },
    EndTick,
    Commit,
    FailCommit(u32),
    Restart,
}

pub fn step() -> impl Strategy<Value = Step> {
    let owner = 0..OWNERS.len();
    let sub = prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff)], 0..3);
    prop_oneof![
        8 => (owner.clone(), sub.clone(), any::<Option<String>>()).prop_map(|(o, s, v)| Step::Note(o, s, v)),
        4 => (owner.clone(), sub, any::<Option<u64>>()).prop_map(|(o, s, v)| Step::Number(o, s, v)),
        1 => owner.prop_map(Step::DeleteOwner),
        4 => prop::bool::weighted(0.8).prop_map(|well| Step::EndInput { well }),
        3 => Just(Step::EndTick),
        2 => Just(Step::Commit),
        1 => (1u32..40).prop_map(Step::FailCommit),
        1 => Just(Step::Restart),
    ]
}

/// The layers of the view in the plainest form: whole copies.
#[derive(Clone, Default)]
struct Model {
    durable: Rows,
    /// What is stored once the batches on their way are.
    sent: Rows,
    joined: Rows,
    seen: Rows,
}

impl Model {
    fn forget(&mut self) {
        self.sent = self.durable.clone();
        self.joined = self.durable.clone();
        self.seen = self.durable.clone();
    }
}

fn bytes<R: Record>(value: &R) -> Vec<u8> {
    couplet::storage::codec::to_bytes(value)
}

/// Compares every way to read with the model.
fn compare<T: Table<Value: PartialEq + std::fmt::Debug>>(view: &mut View, model: &Rows) {
    for owner in OWNERS {
        let head = key(owner, T::ID, b"");
        let expected: Vec<(Vec<u8>, Vec<u8>)> = model
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(&head[..])?.to_vec(), value.clone())))
            .collect();
        let plain = |rows: Vec<(Vec<u8>, T::Value)>| -> Vec<(Vec<u8>, Vec<u8>)> {
            rows.into_iter().map(|(sub, value)| (sub, bytes(&value))).collect()
        };
        let n = expected.len();
        assert_eq!(plain(view.list::<T>(owner, usize::MAX).unwrap()), expected);
        assert_eq!(plain(view.list::<T>(owner, n / 2).unwrap()), expected[..n / 2]);
        assert_eq!(plain(view.first::<T>(owner).unwrap().into_iter().collect()), expected[..n.min(1)]);
        assert_eq!(plain(view.last::<T>(owner).unwrap().into_iter().collect()), expected[n - n.min(1)..]);
        assert_eq!(view.count::<T>(owner).unwrap(), n);
        let Extent { rows, bytes: len } = view.extent::<T>(owner).unwrap();
        assert_eq!((rows, len), (n, expected.iter().map(|(_, value)| value.len()).sum()));
        let highest = expected.last().map(|(sub, _)| sub.clone());
        assert_eq!(view.last_sub::<T>(owner).unwrap(), highest);
        let marks = |value: &[u8]| {
            let value = couplet::storage::codec::from_bytes(value).unwrap();
            T::MARKS.map_or(0, |marks| marks(&value))
        };
        let found: Vec<_> = expected.iter().map(|(sub, value)| (marks(value), sub.clone())).collect();
        let (marked, mut at) = (view.marked::<T>(owner).unwrap(), 0);
        let told = std::iter::from_fn(|| marked.next(&mut at).map(|(marks, sub)| (marks, sub.to_vec())));
        assert_eq!(told.collect::<Vec<_>>(), found.into_iter().filter(|(marks, _)| *marks != 0).collect::<Vec<_>>());
        let some: Vec<_> = expected.iter().filter(|(sub, _)| sub.starts_with(&[0xff])).cloned().collect();
        assert_eq!(plain(view.list_from::<T>(owner, &[0xff], 100).unwrap()), some);
        for sub in [&b""[..], &[0], &[0xff], &[1, 0]] {
            let next = expected.iter().find(|(other, _)| **other >= *sub).map(|(sub, _)| sub.clone());
            assert_eq!(view.next_sub::<T>(owner, sub).unwrap(), next);
            let value = model.get(&key(owner, T::ID, sub));
            assert_eq!(view.get::<T>(owner, sub).unwrap().map(|value| bytes(&value)).as_ref(), value);
            assert_eq!(view.contains::<T>(owner, sub).unwrap(), value.is_some());
        }
    }
}

/// Runs the steps on a back end. `fail` makes the next commit fail, perhaps; `restart` is called between two processes.
pub fn play(steps: Vec<Step>, open: impl Fn() -> Store, fail: impl Fn(u32), heal: impl Fn(), restart: impl Fn()) {
    let mut running = Some(Running::start(open()));
    let mut model = Model::default();
    let mut queue: Vec<Batch> = Vec::new();
    for step in steps {
        let Some(Running { writer, view, .. }) = &mut running else { unreachable!() };
        match step {
            Step::Note(owner, sub, value) => {
                let owner = OWNERS[owner];
                match &value {
                    Some(value) => view.put::<Notes>(owner, &sub, value),
                    None => view.delete::<Notes>(owner, &sub),
                }
                write(&mut model.seen, key(owner, Notes::ID, &sub), value.map(|value| bytes(&value)));
            }
            Step::Number(owner, sub, value) => {
                let owner = OWNERS[owner];
                match &value {
                    Some(value) => view.put::<Numbers>(owner, &sub, value),
                    None => view.delete::<Numbers>(owner, &sub),
                }
                write(&mut model.seen, key(owner, Numbers::ID, &sub), value.map(|value| bytes(&value)));
            }
            Step::DeleteOwner(owner) => {
                view.delete_owner(OWNERS[owner], None).unwrap();
                let head = [OWNERS[owner].as_bytes(), &[0]].concat();
                model.seen.retain(|key, _| !key.starts_with(&head));
            }
            Step::EndInput { well } => end_input(view, &mut model, well),
            Step::EndTick => {
                end_input(view, &mut model, true);
                queue.extend(view.close_batch());
                model.sent = model.joined.clone();
            }
            Step::Commit | Step::FailCommit(_) => {
                let Some(last) = queue.last().map(|batch| batch.ticket) else { continue };
                if let Step::FailCommit(n) = step {
                    fail(n);
                }
                let done = writer.commit(&queue);
                queue.clear();
                heal();
                match done {
                    Ok(()) => {
                        view.committed(last).unwrap();
                        assert_eq!(view.durable(), last);
                        model.durable = model.sent.clone();
                    }
                    Err(error) => {
                        if error.is_fatal() {
                            drop(running.take());
                            restart();
                            running = Some(Running::start(open()));
                        }
                        let Some(Running { reader, view, .. }) = &mut running else { unreachable!() };
                        view.failed().unwrap();
                        // All of a failed commit may have reached the disk or nothing of it, never a part.
                        let stored = rows(&**reader);
                        assert!(stored == model.durable || stored == model.sent);
                        model.durable = stored;
                        model.forget();
                    }
                }
            }
            Step::Restart => {
                queue.clear();
                model.forget();
                drop(running.take());
                running = Some(Running::start(open()));
            }
        }
        let Some(Running { view, .. }) = &mut running else { unreachable!() };
        assert!(queue.is_empty() || view.pending_bytes() > 0);
        compare::<Notes>(view, &model.seen);
        compare::<Numbers>(view, &model.seen);
    }
}

fn write(rows: &mut Rows, key: Vec<u8>, value: Option<Vec<u8>>) {
    match value {
        Some(value) => rows.insert(key, value),
        None => rows.remove(&key),
    };
}

fn end_input(view: &mut View, model: &mut Model, well: bool) {
    if well {
        view.join();
        model.joined = model.seen.clone();
    } else {
        view.drop_scratch();
        model.seen = model.joined.clone();
    }
    view.begin();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_view_on_memory_is_the_model(steps in prop::collection::vec(step(), 0..60)) {
        let memory = Memory::new();
        play(steps, || memory.open(), |_| memory.fail_commit(1, StoreError::Full), || (), || ());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_view_on_a_file_is_the_model(steps in prop::collection::vec(step(), 0..60)) {
        let disk = Disk::default();
        let fail = |n| disk.fail(n, ErrorKind::Other);
        play(steps, || open(&disk).unwrap(), fail, || disk.heal(), || disk.drop_page_cache());
    }
}

//! A dry run: what it takes is written nowhere. Of that it remembers accounts, as whatever belongs to one asks for it.

use crate::core::accounts::Accounts;
use crate::storage::memory::Memory;
use crate::storage::{Batch, Each, Reader, Snapshot, Store, StoreError, Table, Writer};
use std::ops::ControlFlow;

/// A store that shows what `base` has, and above that the accounts that were taken.
pub fn open(base: Box<dyn Reader>) -> Store {
    let (over, kept) = Memory::new().open();
    (Box::new(Layered { base, over }), Box::new(Dry { kept }))
}

struct Dry {
    kept: Box<dyn Writer>,
}

impl Writer for Dry {
    fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        let accounts = batches.iter().map(|batch| {
            let mut batch = batch.clone();
            batch.writes.retain(|(key, _)| key.ends_with(&[0, Accounts::ID]));
            batch
        });
        self.kept.commit(&accounts.collect::<Vec<_>>())
    }
}

struct Layered {
    base: Box<dyn Reader>,
    over: Box<dyn Reader>,
}

impl Reader for Layered {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        Ok(Box::new(Both { base: self.base.snapshot()?, over: self.over.snapshot()? }))
    }

    fn another(&self) -> Box<dyn Reader> {
        Box::new(Self { base: self.base.another(), over: self.over.another() })
    }
}

struct Both {
    base: Box<dyn Snapshot>,
    over: Box<dyn Snapshot>,
}

impl Both {
    /// Shows the rows of both in order; of two with one key that of the upper layer.
    fn merged(&self, from: &[u8], to: &[u8], is_back: bool, each: Each<'_>) -> Result<(), StoreError> {
        let walk = |layer: &dyn Snapshot, each: Each<'_>| match is_back {
            true => layer.scan_back(from, to, each),
            false => layer.scan(from, to, each),
        };
        let (mut upper, mut flow) = (Vec::new(), ControlFlow::Continue(()));
        walk(&*self.over, &mut |key, value| {
            upper.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })?;
        let mut upper = upper.into_iter().peekable();
        walk(&*self.base, &mut |key, value| {
            let is_before = |row: &(Vec<u8>, Vec<u8>)| if is_back { row.0[..] > *key } else { row.0[..] < *key };
            while let Some((key, value)) = upper.next_if(is_before) {
                flow = each(&key, &value);
                if flow.is_break() {
                    return flow;
                }
            }
            if upper.peek().is_none_or(|(hides, _)| hides[..] != *key) {
                flow = each(key, value);
            }
            flow
        })?;
        if flow.is_continue() {
            let _ = upper.try_for_each(|(key, value)| each(&key, &value));
        }
        Ok(())
    }
}

impl Snapshot for Both {
    fn read(&self, key: &[u8], each: &mut dyn FnMut(&[u8])) -> Result<(), StoreError> {
        let mut is_there = false;
        self.over.read(key, &mut |value| {
            is_there = true;
            each(value);
        })?;
        if is_there { Ok(()) } else { self.base.read(key, each) }
    }

    fn scan(&self, from: &[u8], to: &[u8], each: Each<'_>) -> Result<(), StoreError> {
        self.merged(from, to, false, each)
    }

    fn scan_back(&self, from: &[u8], to: &[u8], each: Each<'_>) -> Result<(), StoreError> {
        self.merged(from, to, true, each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Ticket;

    fn write(writer: &mut dyn Writer, rows: &[(&[u8], &[u8])]) {
        let writes = rows.iter().map(|(key, value)| ((*key).into(), Some((*value).into()))).collect();
        writer.commit(&[Batch { ticket: Ticket(1), epoch: 0, writes }]).unwrap();
    }

    #[test]
    fn accounts_that_were_taken_show_among_what_is_there() {
        let account = |name: &str| [name.as_bytes(), &[0, Accounts::ID]].concat();
        let (a, b, c, d) = (account("a"), account("b"), account("c"), account("d"));
        let (base, mut below) = Memory::new().open();
        write(&mut *below, &[(&b, b"old"), (&c, b"stays")]);
        let (reader, mut writer) = open(base);
        write(&mut *writer, &[(&a, b"new"), (&b, b"new"), (&d, b"new"), (b"a\0\xff", b"of no account")]);
        let snapshot = reader.snapshot().unwrap();
        let seen = |is_back, max: usize| {
            let mut seen = Vec::new();
            let mut each = |key: &[u8], value: &[u8]| {
                seen.push((key[0], value.to_vec()));
                if seen.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            match is_back {
                true => snapshot.scan_back(b"a", b"z", &mut each).unwrap(),
                false => snapshot.scan(b"a", b"z", &mut each).unwrap(),
            }
            seen
        };
        let mut all: Vec<(u8, Vec<u8>)> =
            vec![(b'a', b"new".into()), (b'b', b"new".into()), (b'c', b"stays".into()), (b'd', b"new".into())];
        assert_eq!(
            (seen(false, 9), seen(false, 1), seen(false, 2)),
            (all.clone(), all[..1].to_vec(), all[..2].to_vec())
        );
        all.reverse();
        assert_eq!((seen(true, 9), seen(true, 2)), (all.clone(), all[..2].to_vec()));
        assert_eq!(snapshot.get(&b).unwrap().as_deref(), Some(&b"new"[..]));
        assert_eq!(snapshot.get(&c).unwrap().as_deref(), Some(&b"stays"[..]));
        assert_eq!(snapshot.get(b"a\0\xff").unwrap(), None);
    }
}

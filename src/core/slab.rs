//! Slots that are used again, with keys that are not.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Names one entry of a [`Slab`] for as long as it lives; afterwards it names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    slot: u32,
    generation: u32,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// A table of values under [`Key`]s, in one block of memory. The lowest free slot is used first, so that after a crowd
/// has left the table becomes short again.
#[derive(Debug)]
pub struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: BinaryHeap<Reverse<u32>>,
    /// Of the next value.
    generation: u32,
    /// The number of the first slot.
    base: u32,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: BinaryHeap::new(), generation: 0, base: 0 }
    }
}

impl<T> Slab<T> {
    /// An empty table whose keys are none of a table that starts elsewhere: two tables share one kind of key.
    pub fn starting_at(base: u32) -> Self {
        Self { base, ..Self::default() }
    }

    fn index(&self, key: Key) -> usize {
        key.slot.wrapping_sub(self.base) as usize
    }

    /// Adds a value.
    pub fn insert(&mut self, value: T) -> Key {
        let generation = self.generation;
        self.generation = generation.wrapping_add(1);
        let entry = Slot { generation, value: Some(value) };
        let slot = match self.free.pop() {
            Some(Reverse(slot)) => {
                self.slots[slot as usize] = entry;
                slot
            }
            None => {
                self.slots.push(entry);
                self.slots.len() as u32 - 1
            }
        };
        Key { slot: slot + self.base, generation }
    }

    /// Takes a value out; its key names nothing from then on.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let index = self.index(key);
        let entry = self.slots.get_mut(index).filter(|s| s.generation == key.generation)?;
        let value = entry.value.take()?;
        self.free.push(Reverse(index as u32));
        self.shrink();
        Some(value)
    }

    /// Gives memory back when three quarters of the slots are free, as far as they are the last ones.
    fn shrink(&mut self) {
        if self.len() >= self.slots.len() / 4 {
            return;
        }
        let used = self.slots.iter().rposition(|s| s.value.is_some()).map_or(0, |last| last + 1);
        if used <= self.slots.len() / 2 {
            self.slots.truncate(used);
            self.slots.shrink_to(used * 2);
            self.free.retain(|slot| (slot.0 as usize) < used);
            self.free.shrink_to_fit();
        }
    }

    /// The value.
    pub fn get(&self, key: Key) -> Option<&T> {
        self.slots.get(self.index(key)).filter(|s| s.generation == key.generation)?.value.as_ref()
    }

    /// The value, to change.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let index = self.index(key);
        self.slots.get_mut(index).filter(|s| s.generation == key.generation)?.value.as_mut()
    }

    /// All entries in the order of their slots.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slots.iter().enumerate().filter_map(|(slot, s)| {
            s.value.as_ref().map(|value| (Key { slot: slot as u32 + self.base, generation: s.generation }, value))
        })
    }

    /// All keys, collected, for changing entries one by one.
    pub fn keys(&self) -> Vec<Key> {
        self.iter().map(|(key, _)| key).collect()
    }

    /// Bytes of the table beside those of its values.
    pub fn spare_bytes(&self) -> usize {
        let free = self.free.capacity() * size_of::<u32>();
        self.slots.capacity() * size_of::<Slot<T>>() + free - self.len() * size_of::<T>()
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// True without values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_former_value_names_nothing() {
        let mut slab = Slab::default();
        let a = slab.insert('a');
        assert_eq!(slab.remove(a), Some('a'));
        let b = slab.insert('b');
        assert_ne!(a, b);
        assert_eq!(slab.remove(a), None);
        assert_eq!((slab.get(a), slab.get(b)), (None, Some(&'b')));
        assert_eq!((slab.len(), slab.keys()), (1, vec![b]));
        let mut other = Slab::starting_at(1 << 31);
        let c = other.insert('c');
        assert_eq!((slab.get(c), other.get(b), other.get(c)), (None, None, Some(&'c')));
        assert_eq!(other.keys(), [c]);
    }

    #[test]
    fn what_a_crowd_took_is_given_back_and_its_keys_name_nothing_still() {
        let mut slab = Slab::default();
        let first = slab.insert(0);
        let crowd: Vec<Key> = (1..1000).map(|n| slab.insert(n)).collect();
        for (n, key) in (1..).zip(&crowd) {
            assert_eq!(slab.remove(*key), Some(n));
        }
        assert!(slab.slots.capacity() < 16 && slab.free.capacity() < 16);
        let again: Vec<Key> = (1..1000).map(|n| slab.insert(n)).collect();
        assert!(crowd.iter().all(|key| slab.get(*key).is_none() && slab.remove(*key).is_none()));
        assert_eq!((slab.len(), slab.get(first)), (1000, Some(&0)));
        assert!((1..).zip(&again).all(|(n, key)| slab.get(*key) == Some(&n)));
    }
}

//! Slots that are used again, with keys that are not.

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

/// A table of values under [`Key`]s. Lowest free slots are not preferred; the last one freed is used first.
#[derive(Debug)]
pub struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    /// The number of the first slot.
    base: u32,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), base: 0 }
    }
}

impl<T> Slab<T> {
    /// An empty table whose keys are none of a table that starts elsewhere: two tables share one kind of key.
    pub fn starting_at(base: u32) -> Self {
        Self { base, ..Self::default() }
    }

    /// Adds a value.
    pub fn insert(&mut self, value: T) -> Key {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, value: None });
            self.slots.len() as u32 - 1
        });
        let entry = &mut self.slots[slot as usize];
        entry.value = Some(value);
        Key { slot: slot + self.base, generation: entry.generation }
    }

    fn index(&self, key: Key) -> usize {
        key.slot.wrapping_sub(self.base) as usize
    }

    /// Takes a value out; its key names nothing from then on.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let index = self.index(key);
        let entry = self.slots.get_mut(index).filter(|s| s.generation == key.generation)?;
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(index as u32);
        Some(value)
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
}

//! A map in one block of memory, for what outlives the connection that it was made on.
//!
//! The nodes of a tree are of a size that other things have, too: a few of them that stay keep whole pages in use that
//! the keys and buffers of thousands of connections have left. This has no nodes. What it costs is moving half of the
//! entries behind or before the place of a new one: 16 bytes each, some microseconds with ten thousand of them.

use std::collections::VecDeque;

/// Gives back the memory that a burst has left in a queue: one that is a quarter full keeps what it has, and so does a
/// small one.
pub fn relax<T>(queue: &mut VecDeque<T>) {
    const KEPT: usize = 128;
    if queue.capacity() > KEPT && queue.len() < queue.capacity() / 4 {
        queue.shrink_to((2 * queue.len()).max(KEPT));
    }
}

/// Entries in the order of their keys.
#[derive(Debug)]
pub struct Flat<K, V> {
    entries: VecDeque<(K, V)>,
}

impl<K, V> Default for Flat<K, V> {
    fn default() -> Self {
        Self { entries: VecDeque::new() }
    }
}

impl<K: Ord, V> Flat<K, V> {
    fn find(&self, key: &K) -> Result<usize, usize> {
        self.entries.binary_search_by(|(k, _)| k.cmp(key))
    }

    /// Adds an entry, or gives the one of that key another value; returns the former one.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok(at) => self.entries.get_mut(at).map(|entry| std::mem::replace(&mut entry.1, value)),
            Err(at) => {
                self.entries.insert(at, (key, value));
                None
            }
        }
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.find(key).ok()?;
        let (_, value) = self.entries.remove(at)?;
        self.shrink();
        Some(value)
    }

    /// Takes the first entry out.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        let first = self.entries.pop_front()?;
        self.shrink();
        Some(first)
    }

    fn shrink(&mut self) {
        let len = self.entries.len();
        if len < self.entries.capacity() / 4 {
            self.entries.shrink_to(len * 2);
        }
    }

    /// Bytes of the table.
    pub fn table_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<(K, V)>()
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(self.find(key).ok()?).map(|(_, value)| value)
    }

    /// The value of a key, to change.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let at = self.find(key).ok()?;
        self.entries.get_mut(at).map(|(_, value)| value)
    }

    /// True when there is one of that key.
    pub fn contains_key(&self, key: &K) -> bool {
        self.find(key).is_ok()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<(K, V)>()
    }

    /// Keeps those entries alone that are wanted.
    pub fn retain(&mut self, mut wanted: impl FnMut(&K, &V) -> bool) {
        self.entries.retain(|(key, value)| wanted(key, value));
        self.shrink();
    }

    /// The lowest key.
    pub fn first_key(&self) -> Option<&K> {
        self.entries.front().map(|(key, _)| key)
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    /// All entries, their values to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.entries.iter_mut().map(|(key, value)| (&*key, value))
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// All values, to change.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.iter_mut().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    proptest::proptest! {
        #[test]
        fn it_does_what_a_tree_does(steps in proptest::collection::vec((0u8..4, 0u8..40, 0u32..), 0..400)) {
            let (mut flat, mut tree) = (Flat::default(), BTreeMap::new());
            for (step, key, value) in steps {
                match step {
                    0 | 1 => assert_eq!(flat.insert(key, value), tree.insert(key, value)),
                    2 => assert_eq!(flat.remove(&key), tree.remove(&key)),
                    _ => assert_eq!(flat.pop_first(), tree.pop_first()),
                }
                assert_eq!((flat.get(&key), flat.contains_key(&key)), (tree.get(&key), tree.contains_key(&key)));
                assert!(flat.iter().eq(tree.iter()) && flat.first_key() == tree.keys().next());
                assert!(flat.entries.capacity() <= 4 * flat.entries.len() + 8);
            }
        }
    }
}

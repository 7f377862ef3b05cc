//! Maps and tables that are only looked into.
//!
//! Nothing iterates them, and nothing could: their order depends on a hash, and nothing that is
//! decided, stored or shown may. The hash is fixed, so that two runs do the same work. Their keys
//! are uniform already (hashes and random ids), which is why a caller that finds keys with equal
//! hashes at great cost gains a few longer look-ups.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// A map without an order.
#[derive(Debug)]
pub(crate) struct Lookup<K, V>(HashMap<K, V, FixedState>);

impl<K, V> Default for Lookup<K, V> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<K: Hash + Eq, V> Lookup<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key)
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    /// Puts a value in the place of whatever was there.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.0.insert(key, value);
    }

    /// Puts a value where there is none.
    pub(crate) fn insert_new(&mut self, key: K, value: V) {
        self.0.entry(key).or_insert(value);
    }

    pub(crate) fn remove(&mut self, key: &K) {
        self.0.remove(key);
    }
}

/// Slots found by keys that stand in the records themselves: five bytes for each place, where a map
/// with keys of its own has four times as many. Whoever asks says what key a slot's record has.
#[derive(Debug, Default)]
pub(crate) struct SlotLookup(HashTable<u32>);

impl SlotLookup {
    /// Room for so many.
    pub(crate) fn with_capacity(slots: usize) -> Self {
        Self(HashTable::with_capacity(slots))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn find<K: Hash + Eq>(&self, key: &K, key_of: impl Fn(u32) -> K) -> Option<u32> {
        self.0.find(hash_of(key), |slot| key_of(*slot) == *key).copied()
    }

    /// Adds a slot, whose record may come later; no other may have its key.
    pub(crate) fn insert<K: Hash>(&mut self, key: &K, slot: u32, key_of: impl Fn(u32) -> K) {
        self.0.insert_unique(hash_of(key), slot, |slot| hash_of(&key_of(*slot)));
    }

    /// Takes out the slot of a key.
    pub(crate) fn take<K: Hash + Eq>(&mut self, key: &K, key_of: impl Fn(u32) -> K) -> Option<u32> {
        let found = self.0.find_entry(hash_of(key), |slot| key_of(*slot) == *key);
        Some(found.ok()?.remove().0)
    }
}

fn hash_of<K: Hash>(key: &K) -> u64 {
    FixedState::default().hash_one(key)
}

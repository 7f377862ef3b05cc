//! Maps that are only looked into.
//!
//! Nothing iterates them, and nothing could: their order depends on a hash, and nothing that is
//! decided, stored or shown may. The hash is fixed, so that two runs do the same work. Their keys
//! are uniform already (hashes and random ids), which is why a caller that finds keys with equal
//! hashes at great cost gains a few longer look-ups.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::FixedState;

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

    /// Takes out the value of a key.
    pub(crate) fn take(&mut self, key: &K) -> Option<V> {
        self.0.remove(key)
    }
}

impl<K: Hash + Eq, V> FromIterator<(K, V)> for Lookup<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let pairs = pairs.into_iter();
        let most = pairs.size_hint().1.unwrap_or_default();
        let mut map = HashMap::with_capacity_and_hasher(most, FixedState::default());
        map.extend(pairs);
        Self(map)
    }
}

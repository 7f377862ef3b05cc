//! Which rows changed: since the last checkpoint, and since the sum was last brought up to date.
//!
//! Both questions are answered by one mark per changed row, made before the change. A row leaves
//! the sum with its old bytes when it is first touched and comes back with its new ones when the
//! sum is asked for, so a row that changes a thousand times in between is hashed twice.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

#[derive(Debug, Clone, Copy)]
struct Mark {
    /// Whether the row existed at the last checkpoint.
    stored: bool,
    /// Whether the row's present bytes, if any, are in the sum.
    summed: bool,
}

/// Marks of one family of rows.
#[derive(Debug)]
pub(super) struct Marks<K> {
    marks: BTreeMap<K, Mark>,
    unsummed: Vec<K>,
}

impl<K> Default for Marks<K> {
    fn default() -> Self {
        Self { marks: BTreeMap::new(), unsummed: Vec::new() }
    }
}

impl<K: Ord + Clone> Marks<K> {
    /// Marks a row that is about to change. `leave` is called when its present bytes are in the
    /// sum and must leave it; it says whether the row exists.
    pub(super) fn touch(&mut self, key: K, leave: impl FnOnce() -> bool) {
        match self.marks.entry(key) {
            Entry::Occupied(mut mark) => {
                if !mark.get().summed {
                    return;
                }
                leave();
                self.unsummed.push(mark.key().clone());
                mark.get_mut().summed = false;
            }
            Entry::Vacant(vacant) => {
                let stored = leave();
                self.unsummed.push(vacant.key().clone());
                vacant.insert(Mark { stored, summed: false });
            }
        }
    }

    /// The rows whose present bytes must come into the sum now.
    pub(super) fn settle(&mut self) -> Vec<K> {
        let keys = std::mem::take(&mut self.unsummed);
        for key in &keys {
            if let Some(mark) = self.marks.get_mut(key) {
                mark.summed = true;
            }
        }
        keys
    }

    /// The rows changed since the last checkpoint, in order of key, with whether each existed
    /// then. The sum must be settled.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (K, bool)> + use<K> {
        assert!(self.unsummed.is_empty(), "the sum is settled before marks are dropped");
        std::mem::take(&mut self.marks).into_iter().map(|(key, mark)| (key, mark.stored))
    }
}

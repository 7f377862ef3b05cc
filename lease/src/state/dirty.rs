//! Which rows changed: since the last checkpoint, and since the sum was last brought up to date.
//!
//! Both questions are answered by one mark per changed row, made before the change. A row leaves
//! the sum with its old bytes when it is first touched and comes back with its new ones when the
//! sum is asked for, so a row that changes a thousand times in between is hashed twice. So that
//! asking never has to catch up with a million rows, the oldest come back earlier when many wait.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    /// Whether the row existed at the last checkpoint.
    pub(super) stored: bool,
    /// Whether the row's present bytes, if any, are in the sum.
    summed: bool,
}

/// Marks of one family of rows.
#[derive(Debug)]
pub(super) struct Marks<K> {
    marks: BTreeMap<K, Mark>,
    unsummed: VecDeque<K>,
}

impl<K> Default for Marks<K> {
    fn default() -> Self {
        Self { marks: BTreeMap::new(), unsummed: VecDeque::new() }
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
                self.unsummed.push_back(mark.key().clone());
                mark.get_mut().summed = false;
            }
            Entry::Vacant(vacant) => {
                let stored = leave();
                self.unsummed.push_back(vacant.key().clone());
                vacant.insert(Mark { stored, summed: false });
            }
        }
    }

    /// The oldest row whose present bytes must come into the sum, while there are more than `keep`.
    pub(super) fn settle_next(&mut self, keep: usize) -> Option<K> {
        if self.unsummed.len() <= keep {
            return None;
        }
        let key = self.unsummed.pop_front()?;
        if let Some(mark) = self.marks.get_mut(&key) {
            mark.summed = true;
        }
        Some(key)
    }

    /// The rows changed since the last checkpoint, in order of key; all must be in the sum. From
    /// now on they count as unchanged.
    pub(super) fn begin(&mut self) -> BTreeMap<K, Mark> {
        std::mem::take(&mut self.marks)
    }
}

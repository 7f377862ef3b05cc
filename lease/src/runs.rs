//! Ordered sets of a great many small keys.
//!
//! A B-tree of a million keys has nodes that are little more than half full, and one cache miss for
//! each of its levels. Here keys stand in sorted runs, which a map finds by where they begin. Keys
//! that come in ascending order, as ids of new leases and ends of renewed ones nearly do, leave
//! full runs behind.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

/// Keys in one run: few to move for one that comes or goes, many for a node of the map.
const RUN: usize = 64;
/// A run of fewer takes in the next, if both are still below half of a run.
const SMALL: usize = RUN / 4;

/// An ordered set.
#[derive(Debug, Clone)]
pub(crate) struct RunSet<K> {
    /// By a bound: no key of the run is below it, and every key of the run before is. None is
    /// empty.
    runs: BTreeMap<K, Vec<K>>,
    len: usize,
}

impl<K> Default for RunSet<K> {
    fn default() -> Self {
        Self { runs: BTreeMap::new(), len: 0 }
    }
}

impl<K: Ord + Copy> RunSet<K> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn first(&self) -> Option<&K> {
        self.runs.first_key_value()?.1.first()
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        let run = self.runs.range(..=key).next_back();
        run.is_some_and(|(_, run)| run.binary_search(key).is_ok())
    }

    /// All keys in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &K> {
        self.runs.values().flatten()
    }

    /// Keys above one, or all, in order.
    pub(crate) fn after(&self, key: Option<K>) -> impl Iterator<Item = &K> {
        let run = key.and_then(|key| Some((key, self.runs.range(..=key).next_back()?)));
        let begun =
            run.map_or(&[][..], |(key, (_, run))| &run[run.partition_point(|it| *it <= key)..]);
        let later = self.runs.range((key.map_or(Unbounded, Excluded), Unbounded));
        begun.iter().chain(later.flat_map(|(_, run)| run))
    }

    /// Adds a key; whether it was not there.
    pub(crate) fn insert(&mut self, key: K) -> bool {
        let Some((_, run)) = self.runs.range_mut(..=key).next_back() else {
            self.insert_first(key);
            return true;
        };
        let Err(place) = run.binary_search(&key) else { return false };
        self.len += 1;
        if run.len() < RUN {
            run.insert(place, key);
        } else if place == RUN {
            self.runs.insert(key, vec![key]);
        } else {
            let later = run.split_off(RUN / 2);
            let bound = later[0];
            self.runs.insert(bound, later);
            self.len -= 1;
            return self.insert(key);
        }
        true
    }

    /// Adds a key below all bounds.
    fn insert_first(&mut self, key: K) {
        self.len += 1;
        let mut run = match self.runs.first_entry() {
            Some(first) if first.get().len() < RUN => first.remove(),
            _ => Vec::new(),
        };
        run.insert(0, key);
        self.runs.insert(key, run);
    }

    /// Removes a key; whether it was there.
    pub(crate) fn remove(&mut self, key: &K) -> bool {
        let Some((bound, run)) = self.runs.range_mut(..=key).next_back() else { return false };
        let Ok(place) = run.binary_search(key) else { return false };
        let bound = *bound;
        run.remove(place);
        self.len -= 1;
        match run.len() {
            0 => {
                self.runs.remove(&bound);
            }
            1..SMALL => self.join(bound),
            _ => {}
        }
        true
    }

    /// Puts what follows a small run into it, if it is not much, and gives back room that neither
    /// uses.
    fn join(&mut self, bound: K) {
        let next = self.runs.range((Excluded(bound), Unbounded)).next();
        let next = next.filter(|(_, next)| next.len() < RUN / 2).map(|(next, _)| *next);
        let mut later = next.and_then(|next| self.runs.remove(&next)).unwrap_or_default();
        if let Some(run) = self.runs.get_mut(&bound) {
            run.append(&mut later);
            if run.capacity() > run.len() * 2 {
                run.shrink_to(run.len() + SMALL);
            }
        }
    }
}

impl<K: Ord + Copy> FromIterator<K> for RunSet<K> {
    fn from_iter<I: IntoIterator<Item = K>>(keys: I) -> Self {
        let mut keys: Vec<K> = keys.into_iter().collect();
        keys.sort_unstable();
        keys.dedup();
        let runs = keys.chunks(RUN).map(|run| (run[0], run.to_vec())).collect();
        Self { runs, len: keys.len() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u16),
        /// So many in ascending order.
        Fill(u16, u16),
        Remove(u16),
        /// All in a range.
        Clear(u16, u16),
        After(Option<u16>),
    }

    fn step() -> impl Strategy<Value = Step> {
        let key = || 0_u16..2_000;
        prop_oneof![
            4 => key().prop_map(Step::Insert),
            1 => (key(), 1_u16..300).prop_map(|(from, more)| Step::Fill(from, more)),
            4 => key().prop_map(Step::Remove),
            1 => (key(), 1_u16..300).prop_map(|(from, more)| Step::Clear(from, more)),
            1 => prop::option::of(key()).prop_map(Step::After),
        ]
    }

    fn same(set: &RunSet<u16>, model: &BTreeSet<u16>) -> Result<(), TestCaseError> {
        prop_assert!(set.iter().eq(model.iter()));
        prop_assert_eq!(set.len(), model.len());
        prop_assert_eq!(set.first(), model.first());
        let lasts: Vec<_> = set.runs.values().map(|run| run.last().copied()).collect();
        for ((bound, run), before) in set.runs.iter().zip([None].into_iter().chain(lasts)) {
            prop_assert!((1..=RUN).contains(&run.len()));
            prop_assert!(*bound <= run[0] && before < Some(*bound));
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn a_run_set_is_an_ordered_set(
            loaded in prop::collection::vec(0_u16..2_000, 0..500),
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let mut set: RunSet<u16> = loaded.iter().copied().collect();
            let mut model: BTreeSet<u16> = loaded.into_iter().collect();
            same(&set, &model)?;
            for step in steps {
                match step {
                    Step::Insert(key) => prop_assert_eq!(set.insert(key), model.insert(key)),
                    Step::Remove(key) => prop_assert_eq!(set.remove(&key), model.remove(&key)),
                    Step::Fill(from, more) => for key in from..from + more {
                        prop_assert_eq!(set.insert(key), model.insert(key));
                    },
                    Step::Clear(from, more) => for key in from..from + more {
                        prop_assert_eq!(set.contains(&key), model.contains(&key));
                        prop_assert_eq!(set.remove(&key), model.remove(&key));
                    },
                    Step::After(key) => {
                        let above = key.map_or(0, |key| key + 1);
                        prop_assert!(set.after(key).eq(model.range(above..)));
                    }
                }
                same(&set, &model)?;
            }
        }

        #[test]
        fn keys_in_ascending_order_leave_full_runs(keys in 1_u16..5_000) {
            let mut set = RunSet::default();
            for key in 0..keys {
                prop_assert!(set.insert(key));
            }
            prop_assert_eq!(set.runs.len(), usize::from(keys).div_ceil(RUN));
        }
    }
}

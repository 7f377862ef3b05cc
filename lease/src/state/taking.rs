//! What a checkpoint takes, a few rows at a time.
//!
//! A checkpoint is of one index, but copying a hundred thousand rows at once would hold up the
//! ledger for longer than an election takes. So beginning one only fixes which rows are to be
//! taken; pieces follow between entries, and a row that is about to change before its turn has come
//! is copied first.

use std::collections::BTreeMap;

use crate::rows::{Changes, Row, RowKey};

use super::State;
use super::dirty::Mark;

/// What a checkpoint that was begun is still to take, leases aside.
#[derive(Debug, Default)]
pub(super) struct Taking {
    /// Rows, each with its mark.
    pending: BTreeMap<RowKey, Mark>,
    /// Rows that changed before they were taken, as they were.
    saved: Vec<Row>,
}

impl State {
    /// Fixes that what has changed so far is what a checkpoint takes. What the one before was to
    /// take must have been taken, and everything must be in the sum.
    pub(crate) fn begin_taking(&mut self, changes: &mut Changes) {
        self.taking.pending = self.marks.begin();
        changes.gone = self.lease_marks.begin();
        let names = self.packages.iter().map(|package| package.terms.package.clone());
        changes.packages = names.collect();
    }

    /// Takes up to so many rows; whether there are more.
    pub(crate) fn take_some(&mut self, changes: &mut Changes, most: usize) -> bool {
        changes.rows.append(&mut self.taking.saved);
        changes.leases.append(&mut self.lease_marks.take_saved());
        for _ in 0..most {
            if let Some((key, mark)) = self.taking.pending.pop_first() {
                changes.rows.extend(self.row_to_store(&key, mark));
            } else if let Some(slot) = self.lease_marks.take_next() {
                let lease = self.leases.in_slot_mut(slot);
                changes.leases.extend(lease.and_then(|lease| self.lease_marks.take(lease)));
            } else {
                return false;
            }
        }
        true
    }

    /// Copies a row that is about to change, if a checkpoint is still to take it.
    pub(super) fn save_pending(&mut self, key: &RowKey) {
        if let Some(mark) = self.taking.pending.remove(key) {
            let row = self.row_to_store(key, mark);
            self.taking.saved.extend(row);
        }
    }

    /// Nothing, for a row that came and went between two checkpoints.
    fn row_to_store(&self, key: &RowKey, mark: Mark) -> Option<Row> {
        let value = self.row_value(key);
        let is_change = mark.stored || value.is_some();
        is_change.then(|| Row { table: key.table(), key: key.bytes(), value })
    }
}

//! What a record does to the log's [`Summary`]: one rule for the writer and for recovery.

use super::LogPosition;
use super::format::{Record, Summary};

impl Summary {
    /// Takes in one record, in the order in which records are stored. The entry before must be
    /// there: who calls has checked that.
    pub(crate) fn take(&mut self, record: &Record<'_>) {
        match *record {
            Record::Entry { index, term, .. } => {
                self.last = Some(LogPosition { index, term });
                self.raise(LogPosition { index, term });
            }
            Record::Vote(bytes) => self.vote = Some(bytes.to_vec()),
            Record::Committed(bytes) => self.committed = Some(bytes.to_vec()),
            Record::Truncate(kept) => self.last = kept.or(self.purged),
            Record::Purge(upto) => {
                self.purged = Some(upto);
                if self.last.is_none_or(|last| last.index <= upto.index) {
                    self.last = Some(upto);
                }
                self.raise(upto);
            }
        }
    }

    fn raise(&mut self, position: LogPosition) {
        let order = |position: LogPosition| (position.term, position.index);
        if self.highest.is_none_or(|highest| order(highest) < order(position)) {
            self.highest = Some(position);
        }
    }
}

//! The snapshot file: a whole state in one stream of bytes, for backup and for transfer.
//!
//! One format serves both, and it is written and read in chunks of at most 1 MiB, so that neither
//! side ever holds it in memory. It is a sequence of frames (`lease::format`, kind `Snapshot`):
//!
//! ```text
//! Header                               what follows is a snapshot
//! Section tag 1 (meta)
//!   Meta   applied index, membership, sums and totals
//! SectionEnd   rows, bytes and SHA-256 of the section's frames
//! Section tag 2 (rows), table t        one per table that has rows, tables ascending
//!   Rows   up to 256 KiB of (key, value), keys ascending
//!   …
//! SectionEnd
//! …
//! End    sections, rows, SHA-256 of every byte before this frame
//! ```
//!
//! Every frame has a checksum, every section its length and hash, the whole its own; and the meta
//! section says how many rows there are and their sum, as the sender counted them when they were
//! written, so that a sender whose own disk lost a row cannot pass the loss on. A section this
//! build does not know is an error, never skipped: a part of the state it cannot keep is a part of
//! the state it would lose.
//!
//! What it leaves to others: where the bytes come from and go to (`state`), and what rows mean.

mod reader;
pub(crate) mod stream;
mod writer;

use std::io;

use lease::format::FormatError;
use lease::sum::RowSum;
use serde::{Deserialize, Serialize};

pub use reader::{SnapshotItem, SnapshotReader};
pub use writer::SnapshotWriter;

use crate::blob::Blob;

/// What a checkpoint says about itself. The store keeps it and gives it back; of its fields it
/// reads none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointMeta {
    /// The last log entry whose effect is in the rows; `None` before the first.
    pub applied: Option<Applied>,
    /// The membership in force, as the consensus layer encodes it.
    pub membership: Vec<u8>,
    /// The ledger's own sum over its rows at this index.
    pub state_sum: [u8; 32],
    /// Number and incarnation of the epoch, as the layer above encodes them.
    pub epoch: Vec<u8>,
}

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Applied {
    /// Index of the entry.
    pub index: u64,
    /// Term in which it was proposed.
    pub term: u64,
}

/// How many rows there are and what they add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowTotals {
    /// Number of rows.
    pub rows: u64,
    /// Bytes of all keys and values, without what storing them adds.
    pub bytes: u64,
    /// [`RowSum`] over them.
    pub sum: [u8; 32],
}

impl RowTotals {
    /// Counts one row in.
    pub(crate) fn add(&mut self, table: u8, key: &[u8], value: &[u8]) {
        self.add_summed(&RowSum::of(table, key, value), key, value);
    }

    /// The same for a row whose sum is known.
    pub(crate) fn add_summed(&mut self, row: &RowSum, key: &[u8], value: &[u8]) {
        let mut sum = RowSum::from_bytes(self.sum);
        sum.add_sum(row);
        self.sum = sum.to_bytes();
        self.rows += 1;
        self.bytes += row_bytes(key, value);
    }

    /// Counts one row out; `false` when it cannot have been counted in.
    #[must_use]
    pub(crate) fn sub(&mut self, table: u8, key: &[u8], value: &[u8]) -> bool {
        let mut sum = RowSum::from_bytes(self.sum);
        sum.sub(table, key, value);
        let rows = self.rows.checked_sub(1);
        let bytes = self.bytes.checked_sub(row_bytes(key, value));
        let (Some(rows), Some(bytes)) = (rows, bytes) else { return false };
        *self = Self { rows, bytes, sum: sum.to_bytes() };
        true
    }
}

/// Why a snapshot could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Reading the bytes failed.
    #[error("the snapshot could not be read")]
    Io(#[from] io::Error),
    /// The bytes are not what was written: cut short, changed, or followed by more.
    #[error("the snapshot is corrupt at byte {offset}: {what}")]
    Corrupt {
        /// Where in the stream the bad frame starts.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// The bytes are whole, but a newer build wrote them.
    #[error("the snapshot was written by a newer version of Leasehold: {what}")]
    Newer {
        /// What this build does not know.
        what: String,
    },
}

impl SnapshotError {
    pub(crate) fn corrupt(offset: u64, what: impl Into<String>) -> Self {
        Self::Corrupt { offset, what: what.into() }
    }

    fn format(offset: u64, error: &FormatError) -> Self {
        match error {
            FormatError::Version { .. } => Self::Newer { what: error.to_string() },
            _ => Self::corrupt(offset, error.to_string()),
        }
    }
}

/// One frame of the file. Append-only: the order of variants is stored.
#[derive(Debug, Serialize, Deserialize)]
enum Record {
    Header,
    Section { tag: u8, table: u8 },
    Meta { meta: CheckpointMeta, totals: RowTotals },
    Rows(Vec<(Blob, Blob)>),
    SectionEnd { rows: u64, bytes: u64, sha256: [u8; 32] },
    End { sections: u64, rows: u64, sha256: [u8; 32] },
}

fn row_bytes(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}

/// Version of the frames of kind `Snapshot`.
const VERSION: u8 = 1;
const META_SECTION: u8 = 1;
const ROWS_SECTION: u8 = 2;
/// A `Rows` frame is closed once it holds this much, so that with one more row of the largest size
/// and another frame it still fits a chunk of [`CHUNK_BYTES`].
const ROWS_FRAME_BYTES: usize = 256 * 1024;
/// What the lengths of a key and a value take in a frame, at most.
pub(crate) const ROW_OVERHEAD_BYTES: usize = 8;
/// No chunk of a streamed snapshot is longer: it must fit one message between peers.
pub const CHUNK_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests;

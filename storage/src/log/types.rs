//! What goes into the log and comes out of it: configuration, entries, state.

use std::path::PathBuf;

use bytes::Bytes;

use super::{LogError, OpenError};

/// Called once, with what became of an operation: by the writer's thread and in the order of the
/// operations when it was written (only after `fdatasync` returned), by the caller's thread when
/// the log takes nothing any more. It must be quick and must not call back into the log.
pub type Completion = Box<dyn FnOnce(Result<(), LogError>) + Send>;

/// Where a log is and how much it may use.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Directory of its own; made when it is missing.
    pub dir: PathBuf,
    /// Random name of this log, the same at every start: a segment of another one is refused.
    pub identity: [u8; 16],
    /// Length of a segment's file in bytes; one group that is larger gets a larger file.
    pub segment_bytes: u64,
    /// Bound of the payload cache in bytes, beside what waits to be written.
    pub cache_bytes: u64,
    /// Bound of what may wait to be written, in bytes; see [`super::Log::append`].
    pub queue_bytes: u64,
    /// Bound of one group in bytes: what waits beyond it goes into the next one.
    pub group_bytes: u64,
}

impl LogConfig {
    /// The defaults: segments, cache and queue of 64 MiB, groups of at most 8 MiB.
    pub fn new(dir: PathBuf, identity: [u8; 16]) -> Self {
        Self {
            dir,
            identity,
            segment_bytes: 64 << 20,
            cache_bytes: 64 << 20,
            queue_bytes: 64 << 20,
            group_bytes: 8 << 20,
        }
    }

    pub(crate) fn check(&self) -> Result<(), OpenError> {
        for (name, value, least, most) in [
            ("segment_bytes", self.segment_bytes, 8 << 10, 1 << 30),
            ("group_bytes", self.group_bytes, 4 << 10, 64 << 20),
            ("queue_bytes", self.queue_bytes, 4 << 10, 1 << 30),
        ] {
            if !(least..=most).contains(&value) {
                return Err(OpenError::Config { name, value, least, most });
            }
        }
        Ok(())
    }
}

/// One entry. Indexes follow one another; terms never fall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Index in the log.
    pub index: u64,
    /// Term of the leader that proposed it.
    pub term: u64,
    /// What the payload is; a number of the caller's.
    pub kind: u8,
    /// The payload, at most [`MAX_PAYLOAD_BYTES`].
    pub payload: Bytes,
}

/// No payload is longer. An entry is at most one frame of 4 MiB.
pub const MAX_PAYLOAD_BYTES: usize = 16 << 20;

/// Index and term of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogPosition {
    /// Index in the log.
    pub index: u64,
    /// Term of the entry.
    pub term: u64,
}

/// The log as its users see it: all operations called so far, durable or not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogState {
    /// The last entry that was purged.
    pub purged: Option<LogPosition>,
    /// The last entry; the last purged one when none is left.
    pub last: Option<LogPosition>,
    /// The last vote saved.
    pub vote: Option<Bytes>,
    /// The last `committed` saved.
    pub committed: Option<Bytes>,
    /// The greatest (term, index), compared in this order, that was ever durable here. It never
    /// falls, not by truncation, purge or restart; a peer that finds it lower than it was knows
    /// that this member lost data.
    pub durable: Option<LogPosition>,
}

/// What was found at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Segments read.
    pub segments: u64,
    /// Groups read.
    pub groups: u64,
    /// Entries in the log.
    pub entries: u64,
    /// Bytes of a group that was being written at the crash, and was never acknowledged.
    pub torn_bytes: u64,
    /// Time it took.
    pub duration_ns: u64,
}

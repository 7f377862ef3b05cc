//! The one writer: turns everything that waits into one group, makes it durable, answers.
//!
//! Group n+1 is not written before the `fdatasync` of group n has returned, and a segment is not
//! started before that either; so after a crash at most the very last group can be torn. After an
//! error nothing is written or synced again: the log is poisoned.
//!
//! ```text
//! take what waits -> encode -> [roll] -> write -> fdatasync -> publish -> answer in order
//!                                                                      -> marks, old segments
//! ```
//!
//! What a removal of old segments may rest on is only what is durable, so the writer keeps its own
//! [`Summary`] and, for each segment, the highest index that was ever written into it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use lease::planted::{self, Bug};

use super::files::{Files, PREPARED_NAME, segment_name};
use super::format::{
    Mark, Record, SEGMENT_HEADER_BYTES, SegmentHeader, Summary, finish_group, push_record,
    start_group,
};
use super::queue::{Operation, Shared};
use super::{Completion, LogConfig, LogError};
use crate::seam::{Clock, Disk, DiskFile};

/// Where the next group goes, and everything durable before it.
pub(crate) struct Tail {
    pub(crate) segment: u32,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Length of the segment's file in bytes.
    pub(crate) len: u64,
    /// Byte at which the next group starts.
    pub(crate) offset: u64,
    /// Number of the last group written, 0 when there is none.
    pub(crate) group: u64,
    /// Its hash.
    pub(crate) hash: u64,
    pub(crate) summary: Summary,
    /// For each segment on disk the highest index ever written into it, if any was.
    pub(crate) highest_index: BTreeMap<u32, Option<u64>>,
}

/// Writes what is queued. One exists per log: on its own thread, or stepped by a test that wants
/// to decide the order of everything (see [`super::Log::open_stepped`]).
pub struct LogWriter {
    pub(crate) shared: Arc<Shared>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: LogConfig,
    pub(crate) tail: Tail,
    pub(crate) files: Files,
    pub(crate) buffer: Vec<u8>,
}

/// What a [`LogWriter::step`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A group was written, or what waited needed none.
    Worked,
    /// Nothing waits.
    Idle,
    /// There is no room for the next segment, and the one being written is full; a stepped log
    /// tries again at its next step.
    NoRoom,
    /// The log is closed or poisoned; there will be nothing more.
    Ended,
}

/// An entry of the group being written: index, ticket of its append, byte in the group.
type Placement = (u64, u32, usize);

/// A buffer that grew beyond this for one large group is given back after it.
const MAX_IDLE_BUFFER_BYTES: usize = 8 * 1024 * 1024;
/// More than a group's header and the `committed` that rides along take.
const GROUP_OVERHEAD_BYTES: u64 = 4096;

impl LogWriter {
    /// Writes one group of what waits, and answers it.
    pub fn step(&mut self) -> Step {
        if self.shared.lock().failure.is_some() {
            return Step::Ended;
        }
        let closing = self.shared.lock().closing;
        if !self.has_place() {
            return Step::NoRoom;
        }
        let (operations, committed) = self.shared.take(self.config.group_bytes);
        if operations.is_empty() && !closing {
            // Nothing to ride with yet: it waits for the next write.
            if let Some(committed) = committed {
                self.shared.lock().committed_waits.get_or_insert(committed);
            }
            return Step::Idle;
        }
        let ended = operations.is_empty();
        match self.write(operations, committed) {
            Ok(()) if ended => self.finish(),
            Ok(()) => Step::Worked,
            Err(error) => {
                self.poison(&error);
                Step::Ended
            }
        }
    }

    /// Whether the next group fits into this segment, or there is another. Always so with a thread
    /// for files, which is waited for.
    fn has_place(&mut self) -> bool {
        if let Err(error) = self.files.prepare_postponed() {
            self.poison(&error);
        }
        let waiting = self.shared.next_group_bytes(self.config.group_bytes);
        !self.files.is_postponed()
            || self.tail.offset + waiting + GROUP_OVERHEAD_BYTES <= self.tail.len
    }

    /// Steps until nothing waits.
    pub fn run_until_idle(&mut self) -> Step {
        loop {
            let step = self.step();
            if step != Step::Worked {
                return step;
            }
        }
    }

    /// The body of the writer's thread.
    pub(crate) fn run(mut self) {
        let guard = EndGuard { shared: Arc::clone(&self.shared) };
        while self.run_until_idle() != Step::Ended {
            self.shared.wait_for_work();
        }
        drop(guard);
    }

    fn poison(&self, error: &LogError) {
        tracing::error!(
            error = error as &dyn std::error::Error,
            "the write-ahead log failed and takes nothing more"
        );
        self.shared.fail(error);
    }

    fn write(
        &mut self,
        operations: Vec<Operation>,
        committed: Option<Bytes>,
    ) -> Result<(), LogError> {
        let mut summary = self.tail.summary.clone();
        let (placements, records) = self.encode(&operations, committed.as_ref(), &mut summary);
        let (mut dones, mut marks, mut purged) = (Vec::new(), Vec::new(), false);
        for operation in operations {
            purged |= matches!(operation, Operation::Purge { .. });
            match operation {
                Operation::Mark { done } => marks.push(done),
                other => dones.extend(other.into_completion()),
            }
        }
        if records > 0
            && let Err(error) = self.write_group(records, summary, &placements)
        {
            self.poison(&error);
            for done in dones.into_iter().chain(marks) {
                done(Err(error.clone()));
            }
            return Err(error);
        }
        for done in dones {
            done(Ok(()));
        }
        if !marks.is_empty() {
            let done: Completion = Box::new(move |result| {
                for done in marks {
                    done(result.clone());
                }
            });
            self.files.mark(self.mark(), done)?;
        }
        if purged { self.remove_unneeded() } else { Ok(()) }
    }

    /// Encodes the body of the next group into the buffer.
    fn encode(
        &mut self,
        operations: &[Operation],
        committed: Option<&Bytes>,
        summary: &mut Summary,
    ) -> (Vec<Placement>, u32) {
        let mut placements = Vec::new();
        let mut records = 0;
        let buffer = &mut self.buffer;
        start_group(buffer);
        let mut push = |record: Record<'_>| {
            summary.take(&record);
            let at = buffer.len();
            push_record(buffer, &record);
            records += 1;
            at
        };
        for operation in operations {
            match operation {
                Operation::Append { entries, ticket, .. } => {
                    for entry in entries {
                        let at = push(Record::Entry {
                            index: entry.index,
                            term: entry.term,
                            kind: entry.kind,
                            payload: &entry.payload,
                        });
                        placements.push((entry.index, *ticket, at));
                    }
                }
                Operation::Vote { vote, .. } => {
                    push(Record::Vote(vote));
                }
                Operation::Truncate { kept, .. } => {
                    push(Record::Truncate(*kept));
                }
                Operation::Purge { upto, .. } => {
                    push(Record::Purge(*upto));
                }
                Operation::Nothing { .. } | Operation::Mark { .. } => {}
            }
        }
        if let Some(committed) = committed {
            push(Record::Committed(committed));
        }
        (placements, records)
    }

    fn write_group(
        &mut self,
        records: u32,
        summary: Summary,
        placements: &[Placement],
    ) -> Result<(), LogError> {
        let number = self.tail.group + 1;
        let identity = &self.config.identity;
        let hash = finish_group(&mut self.buffer, identity, number, self.tail.hash, records);
        let len = self.buffer.len() as u64;
        if self.tail.offset + len > self.tail.len {
            self.roll(len)?;
        }
        let path = || self.config.dir.join(segment_name(self.tail.segment));
        let offset = self.tail.offset;
        self.tail
            .file
            .write_all_at(&self.buffer, offset)
            .map_err(|error| LogError::io("write", &path())(error))?;
        let started_ns = self.clock.monotonic_ns();
        let skipped = planted::is(Bug::AckBeforeFsync)
            || planted::is(Bug::VoteNotSynced) && placements.is_empty();
        if !skipped {
            self.tail.file.sync_data().map_err(|error| LogError::io("sync", &path())(error))?;
        }
        let sync_ns = self.clock.monotonic_ns().saturating_sub(started_ns);

        self.tail.offset += len;
        self.tail.group = number;
        self.tail.hash = hash;
        self.tail.summary = summary;
        let highest = placements.iter().map(|(index, _, _)| *index).max();
        let of_segment = self.tail.highest_index.entry(self.tail.segment).or_default();
        *of_segment = highest.max(*of_segment);
        self.publish(records, len, sync_ns, offset, placements);
        if self.buffer.capacity() > MAX_IDLE_BUFFER_BYTES {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// Shows readers where the group's entries are, and lets the cache drop them.
    fn publish(&self, records: u32, len: u64, sync_ns: u64, offset: u64, placements: &[Placement]) {
        let mut front = self.shared.lock();
        for (index, ticket, at) in placements {
            // Checked when the log was opened: a segment is shorter than 4 GiB.
            let offset = (offset + *at as u64) as u32;
            front.entries.place(*index, *ticket, self.tail.segment, offset);
        }
        front.entries.evict();
        front.durable = self.tail.summary.highest;
        let metrics = &mut front.metrics;
        metrics.groups += 1;
        metrics.records += u64::from(records);
        metrics.bytes_written += len;
        metrics.sync.observe(sync_ns);
    }

    /// Starts the next segment, which will hold at least `group_len` bytes of groups.
    fn roll(&mut self, group_len: u64) -> Result<(), LogError> {
        let segment = self.tail.segment + 1;
        let (mut prepared, mut waited) = self.files.take_prepared()?;
        let needed = SEGMENT_HEADER_BYTES as u64 + group_len;
        if prepared.len < needed {
            // One group larger than a segment: another file is made ready, which waits for room.
            drop(prepared);
            self.files.prepare(needed)?;
            let (larger, also_waited) = self.files.take_prepared()?;
            prepared = larger;
            waited |= also_waited;
        }
        let header = SegmentHeader {
            identity: self.config.identity,
            segment: u64::from(segment),
            len: prepared.len,
            first_group: self.tail.group + 1,
            hash_before: self.tail.hash,
            summary: self.tail.summary.clone(),
        };
        start_segment(self.disk.as_ref(), &self.config, &header, prepared.file.as_ref())?;
        self.tail.segment = segment;
        self.tail.file = prepared.file;
        self.tail.len = prepared.len;
        self.tail.offset = SEGMENT_HEADER_BYTES as u64;
        self.tail.highest_index.insert(segment, None);
        {
            let mut front = self.shared.lock();
            front.segments.insert(segment, Arc::clone(&self.tail.file));
            front.metrics.rolls += 1;
            front.metrics.rolls_that_waited += u64::from(waited);
        }
        self.files.mark(self.mark(), Box::new(|_| {}))?;
        self.files.prepare(self.config.segment_bytes)
    }

    /// Removes the oldest segments as long as nothing in them is needed.
    pub(crate) fn remove_unneeded(&mut self) -> Result<(), LogError> {
        let Some(purged) = self.tail.summary.purged else { return Ok(()) };
        let mut unneeded = Vec::new();
        while let Some((segment, highest)) = self.tail.highest_index.first_key_value() {
            if *segment == self.tail.segment || *highest > Some(purged.index) {
                break;
            }
            unneeded.extend(self.tail.highest_index.pop_first().map(|(segment, _)| segment));
        }
        if unneeded.is_empty() {
            return Ok(());
        }
        {
            let mut front = self.shared.lock();
            for segment in &unneeded {
                front.segments.remove(segment);
            }
        }
        self.files.remove(unneeded)
    }

    fn mark(&self) -> Mark {
        Mark {
            identity: self.config.identity,
            segment: u64::from(self.tail.segment),
            group: self.tail.group,
            hash: self.tail.hash,
        }
    }

    /// The clean end: all is written, and the durable mark says so.
    fn finish(&mut self) -> Step {
        let shared = Arc::clone(&self.shared);
        let done: Completion =
            Box::new(move |result| shared.fail(&result.err().unwrap_or(LogError::Closed)));
        if let Err(error) = self.files.mark(self.mark(), done) {
            self.poison(&error);
        }
        Step::Ended
    }
}

/// Gives a prepared file its header and its name, durably.
pub(crate) fn start_segment(
    disk: &dyn Disk,
    config: &LogConfig,
    header: &SegmentHeader,
    file: &dyn DiskFile,
) -> Result<(), LogError> {
    let from = config.dir.join(PREPARED_NAME);
    let to = config.dir.join(segment_name(header.segment as u32));
    file.write_all_at(&header.encode(), 0).map_err(LogError::io("write", &from))?;
    file.sync_data().map_err(LogError::io("sync", &from))?;
    disk.rename(&from, &to).map_err(LogError::io("rename", &from))?;
    disk.sync_dir(&config.dir).map_err(LogError::io("sync directory", &config.dir))
}

/// Answers what waits when the writer's thread panics.
struct EndGuard {
    shared: Arc<Shared>,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.fail(&LogError::WriterEnded);
        }
    }
}

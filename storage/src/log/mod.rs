//! The write-ahead log: what this node promised, by index and term, and its vote.
//!
//! Entries are opaque payloads. Everything that waits is written as one *group* by one thread and
//! acknowledged, in order, after one `fdatasync`; vote, `committed`, truncation and purge are
//! records like any other: one writer, one order, one rule. `format` has the stored layout,
//! `writer` the write path, `recover` the judgement of what is found at the start.
//!
//! ```text
//! DIR/segment-0000000007.log   groups, the oldest segment still needed
//!     segment-0000000008.log   the one being written
//!     prepared.tmp             the next one: zeros, synced, without a number
//!     mark                     durable mark: a lower bound of what must be there
//! ```
//!
//! Why not a library: this is what acknowledged means in this project, so every write, sync and
//! rename of it can be stopped in a test, and a lost bit is told from a torn end.
//!
//! What it leaves to others: what a payload means, when to purge (whoever has a checkpoint), and
//! keeping a second process out of the directory (the node locks the whole data directory).

mod entries;
mod error;
mod files;
mod format;
mod metrics;
mod queue;
mod recover;
mod summary;
mod types;
mod writer;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use bytes::Bytes;
use parking_lot::Mutex;

pub use error::{LogError, OpenError};
pub use metrics::{DurationHistogram, LogMetrics, SYNC_BOUNDS_NS};
pub use types::{
    Completion, LogConfig, LogEntry, LogPosition, LogState, MAX_PAYLOAD_BYTES, Recovered,
};
pub use writer::{LogWriter, Step};

use crate::seam::{Clock, Disk, DiskFile};
use entries::{Found, Slot};
use files::Files;
use format::{MAX_MARKER_BYTES, RECORD_HEADER_BYTES, Record, read_record};
use queue::{Operation, Shared};

/// An open log. A clone is another handle to the same one; when the last handle goes, the log is
/// closed as by [`Log::close`].
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    dir: PathBuf,
    group_bytes: u64,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Log {
    /// Opens or creates the log of a directory, and starts its two threads.
    ///
    /// Reads every segment. A group that was being written at a crash is cut off; anything else
    /// that is wrong is [`OpenError::Damaged`].
    pub fn open(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        config: LogConfig,
    ) -> Result<(Self, Recovered), OpenError> {
        let dir = config.dir.clone();
        let (found, shared) = Self::recover(&disk, &clock, &config, true)?;
        let (files, files_thread) =
            Files::on_thread(Arc::clone(&disk), dir.clone(), Arc::clone(&shared))?;
        let (log, writer, recovered) = Self::assemble(disk, clock, config, found, shared, files)?;
        let writer_thread = Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(OpenError::io("start a thread for", &dir))?;
        // The writer owns the other thread's queue, so it ends first.
        log.inner.threads.lock().extend([writer_thread, files_thread]);
        Ok((log, recovered))
    }

    /// Opens or creates a log that has no threads: nothing is written before somebody calls
    /// [`LogWriter::step`]. For tests and simulation, where one seed decides the order of
    /// everything. The queue's bound does not hold, since nobody could wait for it;
    /// [`Log::wake_with`] tells when a step would do something.
    pub fn open_stepped(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        config: LogConfig,
    ) -> Result<(Self, LogWriter, Recovered), OpenError> {
        let (found, shared) = Self::recover(&disk, &clock, &config, false)?;
        let files = Files::in_place(Arc::clone(&disk), config.dir.clone(), Arc::clone(&shared));
        Self::assemble(disk, clock, config, found, shared, files)
    }

    /// Has `wake` called whenever something waits for the writer of a stepped log, or the log ends;
    /// the first one given stays. It must do no more than tell.
    pub fn wake_with(&self, wake: Box<dyn Fn() + Send + Sync>) {
        self.inner.shared.wake_with(wake);
    }

    /// Appends entries that follow the last one (an empty log that was never purged may start
    /// anywhere). They can be read when this returns; they are durable when `done` says so.
    ///
    /// Waits only while more than [`LogConfig::queue_bytes`] wait for the disk, at most for the
    /// group being written; keep fewer bytes in flight and it never waits.
    ///
    /// # Panics
    /// When an index does not follow or a payload is over [`MAX_PAYLOAD_BYTES`]: bugs.
    pub fn append(&self, entries: Vec<LogEntry>, done: Completion) {
        for entry in &entries {
            assert!(entry.payload.len() <= MAX_PAYLOAD_BYTES, "a payload is over the limit");
        }
        let bytes = entries.iter().map(stored_bytes).sum();
        let mut front = self.inner.shared.lock_with_room(bytes);
        if let Some(error) = front.refusal() {
            drop(front);
            return done(Err(error));
        }
        if entries.is_empty() {
            return self.inner.shared.push(&mut front, Operation::Nothing { done });
        }
        let mut last = front.last();
        let mut parts = self.split(entries).into_iter().peekable();
        let mut done = Some(done);
        while let Some((entries, bytes)) = parts.next() {
            front.next_ticket = front.next_ticket.wrapping_add(1);
            let ticket = front.next_ticket;
            for entry in &entries {
                assert!(
                    last.is_none_or(|last| entry.index == last.index + 1),
                    "entry {} does not follow {last:?}",
                    entry.index
                );
                last = Some(LogPosition { index: entry.index, term: entry.term });
                front.entries.push_waiting(entry.clone(), ticket);
            }
            let done = if parts.peek().is_none() { done.take() } else { None };
            let operation = Operation::Append { entries, ticket, bytes, done };
            self.inner.shared.push(&mut front, operation);
        }
    }

    /// Saves the vote (at most 1,024 bytes). `done` is called when it is durable.
    pub fn save_vote(&self, vote: Bytes, done: Completion) {
        assert!(vote.len() <= MAX_MARKER_BYTES, "a vote is over its limit");
        let mut front = self.inner.shared.lock();
        if let Some(error) = front.refusal() {
            drop(front);
            return done(Err(error));
        }
        front.vote = Some(vote.clone());
        self.inner.shared.push(&mut front, Operation::Vote { vote, done });
    }

    /// Saves `committed` (at most 1,024 bytes) with whatever is written next; it costs no write of
    /// its own, so after a crash an older one may be found.
    pub fn save_committed(&self, committed: Bytes) {
        assert!(committed.len() <= MAX_MARKER_BYTES, "a committed is over its limit");
        let mut front = self.inner.shared.lock();
        if front.refusal().is_none() {
            front.committed = Some(committed.clone());
            front.committed_waits = Some(committed);
        }
    }

    /// Forgets all entries after index `kept`; `None`: all that are left.
    pub fn truncate_after(&self, kept: Option<u64>, done: Completion) {
        let mut front = self.inner.shared.lock();
        if let Some(error) = front.refusal() {
            drop(front);
            return done(Err(error));
        }
        let nothing_after = |last: LogPosition| kept.is_some_and(|kept| kept >= last.index);
        let operation = if front.entries.last().is_none_or(nothing_after) {
            Operation::Nothing { done }
        } else {
            front.entries.truncate_after(kept);
            Operation::Truncate { kept: front.last(), done }
        };
        self.inner.shared.push(&mut front, operation);
    }

    /// Forgets all entries up to `upto`, with it; it may lie beyond the last one (a snapshot was
    /// installed). Segments that hold nothing else are removed after `done` was called.
    pub fn purge(&self, upto: LogPosition, done: Completion) {
        let mut front = self.inner.shared.lock();
        if let Some(error) = front.refusal() {
            drop(front);
            return done(Err(error));
        }
        if front.purged.is_some_and(|purged| upto.index <= purged.index) {
            return self.inner.shared.push(&mut front, Operation::Nothing { done });
        }
        front.entries.purge(upto.index);
        front.purged = Some(upto);
        self.inner.shared.push(&mut front, Operation::Purge { upto, done });
    }

    /// Writes the durable mark: whatever was called before must be there at every later start.
    /// Called after a checkpoint; costs no write in the log itself.
    pub fn checkpoint_mark(&self, done: Completion) {
        let mut front = self.inner.shared.lock();
        if let Some(error) = front.refusal() {
            drop(front);
            return done(Err(error));
        }
        self.inner.shared.push(&mut front, Operation::Mark { done });
    }

    /// The entries of `range` that exist, in order: those between the last purged and the last
    /// one. Stops before `max_bytes` of payload would be passed, but gives at least one.
    ///
    /// Reads from memory, or else from disk, checked: blocks for as long as that takes (see
    /// [`Log::is_cached`]).
    pub fn read(&self, range: Range<u64>, max_bytes: u64) -> Result<Vec<LogEntry>, LogError> {
        let mut bytes = 0;
        let mut found = Vec::new();
        let mut files = Vec::new();
        {
            let mut front = self.inner.shared.lock();
            let there = front.entries.range();
            for index in range.start.max(there.start)..range.end.min(there.end) {
                let Some(one) = front.entries.find(index) else { break };
                bytes += match &one {
                    Found::Cached(entry) => entry.payload.len() as u64,
                    Found::Stored { slot, .. } => u64::from(slot.len),
                };
                if bytes > max_bytes && !found.is_empty() {
                    break;
                }
                if let Found::Stored { slot, .. } = &one {
                    front.metrics.entries_read_from_disk += 1;
                    if files.last().is_none_or(|(segment, _)| *segment != slot.segment) {
                        let file = front.segments.get(&slot.segment).cloned();
                        files.extend(file.map(|file| (slot.segment, file)));
                    }
                }
                found.push(one);
            }
        }
        found.into_iter().map(|one| self.load(one, &files)).collect()
    }

    /// Whether [`Log::read`] of this range would touch no disk.
    pub fn is_cached(&self, range: &Range<u64>) -> bool {
        self.inner.shared.lock().entries.is_cached(range)
    }

    /// The term of an entry; `None` when it was purged or never was there.
    pub fn term_at(&self, index: u64) -> Option<u64> {
        self.inner.shared.lock().entries.term_at(index)
    }

    /// The log as it stands.
    pub fn state(&self) -> LogState {
        let front = self.inner.shared.lock();
        LogState {
            purged: front.purged,
            last: front.last(),
            vote: front.vote.clone(),
            committed: front.committed.clone(),
            durable: front.durable,
        }
    }

    /// Counters, and how things stand.
    pub fn metrics(&self) -> LogMetrics {
        let front = self.inner.shared.lock();
        let there = front.entries.range();
        LogMetrics {
            queued: front.queue.len() as u64,
            queued_bytes: front.queued_bytes,
            segments: front.segments.len() as u64,
            entries: there.end - there.start,
            cached_bytes: front.entries.cached_bytes(),
            poisoned: front.failure.as_ref().is_some_and(|it| !matches!(it, LogError::Closed)),
            ..front.metrics
        }
    }

    /// The clean stop: writes what waits and the durable mark, and ends the threads. A stepped log
    /// does so at its writer's next step.
    pub fn close(&self) -> Result<(), LogError> {
        self.inner.shared.close();
        self.inner.join();
        match self.inner.shared.lock().failure.clone() {
            None | Some(LogError::Closed) => Ok(()),
            Some(error) => Err(error),
        }
    }

    /// Cuts entries into parts that each fit into a group.
    fn split(&self, entries: Vec<LogEntry>) -> Vec<(Vec<LogEntry>, u64)> {
        let mut parts: Vec<(Vec<LogEntry>, u64)> = Vec::new();
        for entry in entries {
            let bytes = stored_bytes(&entry);
            match parts.last_mut() {
                Some((part, sum)) if *sum + bytes <= self.inner.group_bytes => {
                    part.push(entry);
                    *sum += bytes;
                }
                _ => parts.push((vec![entry], bytes)),
            }
        }
        parts
    }

    fn load(&self, found: Found, files: &[(u32, Arc<dyn DiskFile>)]) -> Result<LogEntry, LogError> {
        match found {
            Found::Cached(entry) => Ok(entry),
            Found::Stored { index, slot } => {
                let file = files.iter().find(|(segment, _)| *segment == slot.segment);
                let damaged = |what: String| LogError::Damaged {
                    segment: u64::from(slot.segment),
                    offset: u64::from(slot.offset),
                    what,
                };
                let Some((_, file)) = file else {
                    return Err(damaged("the segment is not open".to_owned()));
                };
                let path = self.inner.dir.join(files::segment_name(slot.segment));
                read_stored(file.as_ref(), index, slot)
                    .map_err(LogError::io("read", &path))?
                    .map_err(damaged)
            }
        }
    }

    fn recover(
        disk: &Arc<dyn Disk>,
        clock: &Arc<dyn Clock>,
        config: &LogConfig,
        threaded: bool,
    ) -> Result<(recover::Recovery, Arc<Shared>), OpenError> {
        config.check()?;
        let mut found = recover::recover(disk.as_ref(), clock.as_ref(), config)?;
        let shared = Shared::new(found.take_front(), config.queue_bytes, threaded);
        Ok((found, Arc::new(shared)))
    }

    fn assemble(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        config: LogConfig,
        found: recover::Recovery,
        shared: Arc<Shared>,
        mut files: Files,
    ) -> Result<(Self, LogWriter, Recovered), OpenError> {
        files.prepare(config.segment_bytes)?;
        let inner = Inner {
            shared: Arc::clone(&shared),
            dir: config.dir.clone(),
            group_bytes: config.group_bytes,
            threads: Mutex::default(),
        };
        let (tail, recovered) = (found.tail, found.recovered);
        shared.lock().metrics.torn_bytes = recovered.torn_bytes;
        let mut writer = LogWriter { shared, disk, clock, config, tail, files, buffer: Vec::new() };
        // A crash may have come between a purge and the removal of its segments.
        writer.remove_unneeded()?;
        Ok((Self { inner: Arc::new(inner) }, writer, recovered))
    }
}

impl Inner {
    fn join(&self) {
        let threads: Vec<JoinHandle<()>> = self.threads.lock().drain(..).collect();
        let me = std::thread::current().id();
        if threads.iter().any(|thread| thread.thread().id() == me) {
            // Closed inside a completion: the two end when that has returned.
            return;
        }
        for thread in threads {
            // A panic was reported by the thread itself, and the log is poisoned by it.
            let _ = thread.join();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.close();
        self.join();
    }
}

fn stored_bytes(entry: &LogEntry) -> u64 {
    (RECORD_HEADER_BYTES + entry.payload.len()) as u64
}

/// Reads one record and compares it with what the index says of it.
fn read_stored(
    file: &dyn DiskFile,
    index: u64,
    slot: Slot,
) -> std::io::Result<Result<LogEntry, String>> {
    let mut bytes = vec![0; RECORD_HEADER_BYTES + slot.len as usize];
    file.read_exact_at(&mut bytes, u64::from(slot.offset))?;
    let (term, kind) = match read_record(&bytes) {
        Err(error) => return Ok(Err(error.to_string())),
        Ok((Record::Entry { index: found, term, kind, .. }, len))
            if found == index && term == slot.term && len == bytes.len() =>
        {
            (term, kind)
        }
        Ok(_) => return Ok(Err(format!("the record is not that of entry {index}"))),
    };
    let payload = Bytes::from(bytes).slice(RECORD_HEADER_BYTES..);
    Ok(Ok(LogEntry { index, term, kind, payload }))
}

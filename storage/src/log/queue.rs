//! What the handles and the writer share: the log as readers see it, and the queue of operations.
//!
//! One lock guards both, so an entry is readable from the moment its append is queued and the
//! order of the queue is the order in which callers saw their effects. Nothing does I/O under it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use lease::planted::{self, Bug};
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::entries::Entries;
use super::metrics::LogMetrics;
use super::{Completion, LogEntry, LogError, LogPosition};
use crate::seam::DiskFile;

/// One operation that waits for the writer.
pub(crate) enum Operation {
    Append {
        entries: Vec<LogEntry>,
        ticket: u32,
        bytes: u64,
        done: Option<Completion>,
    },
    Vote {
        vote: Bytes,
        done: Completion,
    },
    Truncate {
        kept: Option<LogPosition>,
        done: Completion,
    },
    Purge {
        upto: LogPosition,
        done: Completion,
    },
    /// Changes nothing; is answered when its turn comes.
    Nothing {
        done: Completion,
    },
    Mark {
        done: Completion,
    },
}

impl Operation {
    /// Bytes that it takes in the queue and, at most, in a group.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Append { bytes, .. } => *bytes,
            _ => SMALL_OPERATION_BYTES,
        }
    }

    pub(crate) fn into_completion(self) -> Option<Completion> {
        match self {
            Self::Append { done, .. } => done,
            Self::Vote { done, .. }
            | Self::Truncate { done, .. }
            | Self::Purge { done, .. }
            | Self::Nothing { done }
            | Self::Mark { done } => Some(done),
        }
    }
}

/// The log as its users see it, durable or not.
pub(crate) struct Front {
    pub(crate) entries: Entries,
    pub(crate) purged: Option<LogPosition>,
    pub(crate) vote: Option<Bytes>,
    pub(crate) committed: Option<Bytes>,
    /// The newest `committed` that was not written yet.
    pub(crate) committed_waits: Option<Bytes>,
    /// The greatest (term, index) that was ever durable.
    pub(crate) durable: Option<LogPosition>,
    pub(crate) segments: BTreeMap<u32, Arc<dyn DiskFile>>,
    pub(crate) queue: VecDeque<Operation>,
    pub(crate) queued_bytes: u64,
    pub(crate) next_ticket: u32,
    pub(crate) closing: bool,
    pub(crate) failure: Option<LogError>,
    pub(crate) metrics: LogMetrics,
}

impl Front {
    /// Position of the last entry, or of the last one purged when none is left.
    pub(crate) fn last(&self) -> Option<LogPosition> {
        self.entries.last().or(self.purged)
    }

    /// Why nothing is accepted any more.
    pub(crate) fn refusal(&self) -> Option<LogError> {
        self.failure.clone().or_else(|| self.closing.then_some(LogError::Closed))
    }
}

pub(crate) struct Shared {
    front: Mutex<Front>,
    /// Something waits for the writer, or it should end.
    work: Condvar,
    /// The queue became shorter.
    room: Condvar,
    max_queued_bytes: u64,
    /// Whether a writer thread empties the queue; without one nobody may wait for room.
    threaded: bool,
    /// Called with `work`, for a log that is stepped.
    wake: OnceLock<Wake>,
}

/// Tells whoever steps a log that something waits.
pub(crate) type Wake = Box<dyn Fn() + Send + Sync>;

const SMALL_OPERATION_BYTES: u64 = 2048;

impl Shared {
    pub(crate) fn new(front: Front, max_queued_bytes: u64, threaded: bool) -> Self {
        let (work, room) = (Condvar::new(), Condvar::new());
        let wake = OnceLock::new();
        Self { front: Mutex::new(front), work, room, max_queued_bytes, threaded, wake }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Front> {
        self.front.lock()
    }

    /// Locks, and waits until `bytes` more fit into the queue (or it is empty, or nothing is
    /// accepted any more).
    pub(crate) fn lock_with_room(&self, bytes: u64) -> MutexGuard<'_, Front> {
        let mut front = self.front.lock();
        while self.threaded
            && !front.queue.is_empty()
            && front.queued_bytes + bytes > self.max_queued_bytes
            && front.refusal().is_none()
        {
            self.room.wait(&mut front);
        }
        front
    }

    /// Queues an operation whose effect is already in `front`.
    pub(crate) fn push(&self, front: &mut Front, operation: Operation) {
        front.queued_bytes += operation.bytes();
        if planted::is(Bug::VoteAfterAppend)
            && let Operation::Vote { vote, done } = operation
        {
            // Answered now, written behind the append that comes next.
            done(Ok(()));
            front.queue.push_back(Operation::Vote { vote, done: Box::new(|_| {}) });
            return;
        }
        front.queue.push_back(operation);
        self.work.notify_one();
        self.wake();
    }

    /// Has `wake` called whenever there is something to do; the first one stays. It must not use
    /// the log.
    pub(crate) fn wake_with(&self, wake: Wake) {
        let _ = self.wake.set(wake);
    }

    fn wake(&self) {
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    /// Bytes that the next group would take at most.
    pub(crate) fn next_group_bytes(&self, max_bytes: u64) -> u64 {
        let front = self.front.lock();
        let mut bytes = 0;
        for operation in &front.queue {
            if bytes > 0 && bytes + operation.bytes() > max_bytes {
                break;
            }
            bytes += operation.bytes();
        }
        bytes
    }

    /// Waits until there is something to do for the writer.
    pub(crate) fn wait_for_work(&self) {
        let mut front = self.front.lock();
        while front.queue.is_empty() && front.refusal().is_none() {
            self.work.wait(&mut front);
        }
    }

    /// Takes what fits into one group, at least one operation, and the `committed` that rides
    /// along.
    pub(crate) fn take(&self, max_bytes: u64) -> (Vec<Operation>, Option<Bytes>) {
        let mut front = self.front.lock();
        let mut bytes = 0;
        let mut taken = Vec::new();
        while let Some(next) = front.queue.front() {
            bytes += next.bytes();
            if bytes > max_bytes && !taken.is_empty() {
                break;
            }
            taken.extend(front.queue.pop_front());
        }
        let sum: u64 = taken.iter().map(Operation::bytes).sum();
        front.queued_bytes -= sum;
        self.room.notify_all();
        let committed = front.committed_waits.take();
        (taken, committed)
    }

    /// Whether the log is being closed.
    pub(crate) fn is_closing(&self) -> bool {
        self.front.lock().closing
    }

    /// Accepts nothing more; the writer finishes what waits and ends.
    pub(crate) fn close(&self) {
        self.front.lock().closing = true;
        self.work.notify_all();
        self.room.notify_all();
        self.wake();
    }

    /// Poisons the log: answers all that waits with `error`, and all that comes.
    pub(crate) fn fail(&self, error: &LogError) {
        let waiting: Vec<Operation> = {
            let mut front = self.front.lock();
            front.failure.get_or_insert_with(|| error.clone());
            front.queued_bytes = 0;
            front.queue.drain(..).collect()
        };
        self.work.notify_all();
        self.room.notify_all();
        self.wake();
        for done in waiting.into_iter().filter_map(Operation::into_completion) {
            done(Err(error.clone()));
        }
    }
}

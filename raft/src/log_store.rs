//! openraft's log storage over the write-ahead log.
//!
//! Every write is a record in the one log, acknowledged from its writer's thread after its
//! `fdatasync`; nothing here waits for the disk except the vote, which openraft must not go past.
//! Truncation and purge are not waited for: they are records too, so whatever is appended after
//! them is durable only after they are, and undone they leave entries that were never acknowledged
//! or are covered by a checkpoint.
//!
//! The leader's own proposals are kept decoded until they are applied, so that they are not
//! decoded from the bytes that were just encoded.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use futures_util::stream::{self, Stream};
use lease::entry::Entry;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{EntryPayload, LogState, OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use storage::log::{Log, LogEntry, LogError, LogPosition};
use tokio::sync::watch;

use crate::fatal::Fatal;
use crate::status::Position;
use crate::types::{
    LogId, Proposal, RaftEntry, TypeConfig, Vote, decode_position, decode_vote, encode_position,
    encode_vote, from_log_entry, log_id_of, position_of, storage_failure, to_log_entry,
};
use crate::workers::Workers;

/// The adapter; a clone reads and writes the same log.
#[derive(Clone)]
pub(crate) struct LogStore {
    log: Log,
    decoded: Arc<Mutex<VecDeque<Decoded>>>,
    durable_proposal: watch::Sender<u64>,
    workers: Workers,
    fatal: Fatal,
}

struct Decoded {
    position: Position,
    entry: Arc<Entry>,
}

impl LogStore {
    pub(crate) fn new(log: Log, workers: Workers, fatal: Fatal) -> Self {
        let durable_proposal = watch::Sender::new(0);
        Self { log, decoded: Arc::default(), durable_proposal, workers, fatal }
    }

    /// The highest [`Proposal::number`] that is durable here.
    pub(crate) fn durable_proposal(&self) -> watch::Receiver<u64> {
        self.durable_proposal.subscribe()
    }

    fn keep_decoded(&self, entry: &RaftEntry) -> u64 {
        let EntryPayload::Normal(Proposal { entry: Some(decoded), number, .. }) = &entry.payload
        else {
            return 0;
        };
        let mut kept = self.decoded.lock();
        if kept.len() == DECODED_ENTRIES {
            kept.pop_front();
        }
        let position = position_of(&entry.log_id);
        kept.push_back(Decoded { position, entry: Arc::clone(decoded) });
        *number
    }

    fn decode(&self, entry: LogEntry) -> io::Result<RaftEntry> {
        let mut entry = from_log_entry(entry).map_err(storage_failure)?;
        if let EntryPayload::Normal(proposal) = &mut entry.payload {
            let position = position_of(&entry.log_id);
            let kept = self.decoded.lock();
            let found = kept.iter().find(|decoded| decoded.position == position);
            proposal.entry = found.map(|decoded| Arc::clone(&decoded.entry));
        }
        Ok(entry)
    }

    async fn read(&self, start: u64, end: u64, max_bytes: u64) -> io::Result<Vec<RaftEntry>> {
        let range = start..end;
        let found = if self.log.is_cached(&range) {
            self.log.read(range, max_bytes)
        } else {
            let log = self.log.clone();
            self.workers.run(move || log.read(range, max_bytes)).await.map_err(storage_failure)?
        };
        if let Err(error @ LogError::Damaged { .. }) = &found {
            self.fatal.corrupt(error.to_string());
        }
        found.map_err(storage_failure)?.into_iter().map(|entry| self.decode(entry)).collect()
    }

    fn vote(&self) -> io::Result<Option<Vote>> {
        let vote = self.log.state().vote;
        vote.map(|vote| decode_vote(&vote).map_err(storage_failure)).transpose()
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<RaftEntry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = bounds(&range);
        self.read(start, end, u64::MAX).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.vote()
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        self.read(start, end, READ_BYTES).await
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<RaftEntry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = bounds(&range);
        let reading = Reading { store: self.clone(), next: start, end, read: VecDeque::new() };
        Box::pin(stream::unfold(reading, Reading::next))
    }
}

/// A range being read piece by piece, so that a long one never is in memory whole.
struct Reading {
    store: LogStore,
    next: u64,
    end: u64,
    read: VecDeque<RaftEntry>,
}

impl Reading {
    async fn next(mut self) -> Option<(io::Result<RaftEntry>, Self)> {
        if self.read.is_empty() && self.next < self.end {
            match self.store.read(self.next, self.end, READ_BYTES).await {
                Ok(read) => self.read = read.into(),
                Err(error) => {
                    self.end = self.next;
                    return Some((Err(error), self));
                }
            }
        }
        let entry = self.read.pop_front()?;
        self.next = entry.log_id.index + 1;
        Some((Ok(entry), self))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let state = self.log.state();
        Ok(LogState {
            last_purged_log_id: state.purged.map(from_position),
            last_log_id: state.last.map(from_position),
        })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (done, durable) = tokio::sync::oneshot::channel();
        let answer = Box::new(move |result| {
            // Nobody waits any more only when openraft was stopped.
            let _ = done.send(result);
        });
        self.log.save_vote(encode_vote(vote), answer);
        durable.await.map_err(storage_failure)?.map_err(storage_failure)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        if let Some(committed) = committed {
            self.log.save_committed(encode_position(position_of(&committed)));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let Some(committed) = self.log.state().committed else { return Ok(None) };
        decode_position(&committed)
            .map(|position| Some(log_id_of(position)))
            .map_err(storage_failure)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut proposal = 0;
        let mut stored = Vec::new();
        for entry in entries {
            proposal = proposal.max(self.keep_decoded(&entry));
            stored.push(to_log_entry(&entry));
        }
        let durable_proposal = self.durable_proposal.clone();
        let done = Box::new(move |result: Result<(), _>| {
            if result.is_ok() && proposal > 0 {
                durable_proposal.send_modify(|highest| *highest = proposal.max(*highest));
            }
            callback.io_completed(result.map_err(storage_failure));
        });
        self.log.append(stored, done);
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.log.truncate_after(last_log_id.map(|id| id.index), Box::new(report));
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let Position { term, index } = position_of(&log_id);
        self.log.purge(LogPosition { index, term }, Box::new(report));
        Ok(())
    }
}

/// A failed truncation or purge poisons the log, so the next append or vote stops the node.
pub(crate) fn report(result: Result<(), LogError>) {
    if let Err(error) = result {
        tracing::warn!(%error, "the log did not shorten");
    }
}

fn from_position(position: LogPosition) -> LogId {
    log_id_of(Position { term: position.term, index: position.index })
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end.max(start))
}

/// The greatest number of entries in flight, twice: those being applied are not in flight.
const DECODED_ENTRIES: usize = 64;
/// Most bytes of entries read at once, and so most in one append to a peer beyond its first entry:
/// decoding and encoding them holds a worker up for a millisecond or two.
const READ_BYTES: u64 = 256 << 10;

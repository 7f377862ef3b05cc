//! The write-ahead log under test: a script of operations, a naive model beside it, and the one
//! judgement of what a log may be after a crash.

mod crash;
mod damage;
mod model;
mod real;
mod room;
mod threads;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use storage::log::{
    Completion, Log, LogConfig, LogEntry, LogPosition, LogWriter, OpenError, Recovered, Step,
};
use storage::testing::{Loss, ManualClock, MemoryDisk};

/// One call on the log. Numbers are chosen so that any order of them is legal.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    /// Appends this many entries of this many bytes each.
    Append {
        entries: u64,
        bytes: usize,
    },
    /// Raises the term of later entries.
    NewTerm,
    Vote(u64),
    Committed,
    /// Truncates this many entries off the end.
    TruncateLast(u64),
    TruncateAll,
    /// Purges this many entries off the front.
    Purge(u64),
    /// Purges everything, and this many indexes beyond.
    PurgeBeyond(u64),
    Mark,
    /// Lets the writer write one group.
    Step,
}

/// What the log should be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Model {
    pub(crate) entries: BTreeMap<u64, (u64, Bytes)>,
    pub(crate) purged: Option<LogPosition>,
    pub(crate) vote: Option<u64>,
    /// Greatest (term, index) ever.
    pub(crate) highest: Option<(u64, u64)>,
}

impl Model {
    pub(crate) fn last(&self) -> Option<LogPosition> {
        let last = self.entries.last_key_value();
        last.map(|(index, (term, _))| LogPosition { index: *index, term: *term }).or(self.purged)
    }

    /// The log as a model; `committed` is judged apart.
    pub(crate) fn of(log: &Log) -> Self {
        let state = log.state();
        let entries = log.read(0..u64::MAX, u64::MAX).unwrap();
        let model = Self {
            entries: entries.into_iter().map(|it| (it.index, (it.term, it.payload))).collect(),
            purged: state.purged,
            vote: state.vote.map(|vote| number(&vote)),
            highest: state.durable.map(|durable| (durable.term, durable.index)),
        };
        assert_eq!(model.last(), state.last);
        model
    }
}

/// What was acknowledged so far, and whether every call was answered.
#[derive(Debug, Default)]
struct Acknowledged {
    state: usize,
    committed: u64,
    answers: usize,
    failures: usize,
}

/// A log that is driven by a script, with the model of it after each entry and call.
pub(crate) struct Driver {
    pub(crate) disk: MemoryDisk,
    pub(crate) log: Log,
    pub(crate) writer: LogWriter,
    pub(crate) states: Vec<Model>,
    term: u64,
    committed: u64,
    calls: usize,
    acknowledged: Arc<Mutex<Acknowledged>>,
}

/// A log that was found and judged right.
pub(crate) struct Restart {
    pub(crate) log: Log,
    pub(crate) writer: LogWriter,
    pub(crate) model: Model,
    pub(crate) torn_bytes: u64,
}

pub(crate) const IDENTITY: [u8; 16] = *b"identity of one!";

/// Segments so small that a few entries fill one, and almost no cache.
pub(crate) fn small_config() -> LogConfig {
    LogConfig {
        segment_bytes: 8 << 10,
        group_bytes: 4 << 10,
        queue_bytes: 16 << 10,
        cache_bytes: 256,
        ..LogConfig::new(PathBuf::from("/log"), IDENTITY)
    }
}

pub(crate) fn open(disk: &MemoryDisk) -> Result<(Log, LogWriter, Recovered), OpenError> {
    let clock = Arc::new(ManualClock::new(0));
    Log::open_stepped(Arc::new(disk.clone()), clock, small_config())
}

impl Driver {
    /// Opens the log of an empty disk.
    pub(crate) fn new(disk: &MemoryDisk) -> Result<Self, OpenError> {
        let (log, writer, _) = open(disk)?;
        Ok(Self {
            disk: disk.clone(),
            log,
            writer,
            states: vec![Model::default()],
            term: 1,
            committed: 0,
            calls: 0,
            acknowledged: Arc::default(),
        })
    }

    /// Goes on after a restart.
    pub(crate) fn resume(&mut self, restart: Restart) {
        let Restart { log, writer, model, .. } = restart;
        self.committed = log.state().committed.map_or(0, |bytes| number(&bytes));
        self.term = self.term.max(model.highest.map_or(0, |highest| highest.0));
        (self.log, self.writer) = (log, writer);
        self.states = vec![model];
        self.calls = 0;
        self.acknowledged = Arc::default();
    }

    pub(crate) fn model(&self) -> Model {
        self.states[self.states.len() - 1].clone()
    }

    pub(crate) fn acknowledged_states(&self) -> usize {
        self.acknowledged.lock().state
    }

    pub(crate) fn run(&mut self, script: &[Call]) {
        for call in script {
            self.call(call);
        }
        self.writer.run_until_idle();
    }

    pub(crate) fn call(&mut self, call: &Call) {
        match call {
            Call::Append { entries, bytes } => self.append(*entries, *bytes),
            Call::NewTerm => self.term += 1,
            Call::Vote(vote) => {
                self.change(|model| model.vote = Some(*vote));
                let done = self.done();
                self.log.save_vote(Bytes::copy_from_slice(&vote.to_le_bytes()), done);
            }
            Call::Committed => {
                self.committed += 1;
                self.log.save_committed(Bytes::copy_from_slice(&self.committed.to_le_bytes()));
            }
            Call::TruncateLast(count) => {
                let kept = self.model().last().map(|last| last.index.saturating_sub(*count));
                self.truncate(kept);
            }
            Call::TruncateAll => self.truncate(None),
            Call::Purge(count) => {
                let model = self.model();
                let mut front = model.entries.iter().take(*count as usize);
                if let Some((index, (term, _))) = front.next_back() {
                    self.purge(LogPosition { index: *index, term: *term });
                }
            }
            Call::PurgeBeyond(count) => {
                let index = self.model().last().map_or(0, |last| last.index) + count;
                self.purge(LogPosition { index, term: self.term });
            }
            // Its answer comes when its file is written, so in no order with the others.
            Call::Mark => self.log.checkpoint_mark(Box::new(|_| {})),
            Call::Step => {
                self.writer.step();
            }
        }
    }

    fn append(&mut self, count: u64, bytes: usize) {
        let mut entries = Vec::new();
        for _ in 0..count {
            let index = self.model().last().map_or(1, |last| last.index + 1);
            let payload = payload(index, self.term, bytes);
            let term = self.term;
            entries.push(LogEntry { index, term, kind: 7, payload: payload.clone() });
            self.change(|model| {
                model.entries.insert(index, (term, payload));
                model.highest = model.highest.max(Some((term, index)));
            });
        }
        let done = self.done();
        self.log.append(entries, done);
    }

    fn truncate(&mut self, kept: Option<u64>) {
        self.change(|model| {
            model.entries.retain(|index, _| kept.is_some_and(|kept| *index <= kept));
        });
        let done = self.done();
        self.log.truncate_after(kept, done);
    }

    fn purge(&mut self, upto: LogPosition) {
        self.change(|model| {
            if model.purged.is_none_or(|purged| purged.index < upto.index) {
                model.entries.retain(|index, _| *index > upto.index);
                model.purged = Some(upto);
                model.highest = model.highest.max(Some((upto.term, upto.index)));
            }
        });
        let done = self.done();
        self.log.purge(upto, done);
    }

    fn change(&mut self, effect: impl FnOnce(&mut Model)) {
        let mut model = self.model();
        effect(&mut model);
        self.states.push(model);
    }

    /// Notes that everything up to here is durable, if and when the log says so.
    fn done(&mut self) -> Completion {
        let (state, committed, call) = (self.states.len() - 1, self.committed, self.calls);
        self.calls += 1;
        let acknowledged = Arc::clone(&self.acknowledged);
        Box::new(move |result| {
            let mut acknowledged = acknowledged.lock();
            match result {
                Ok(()) => {
                    assert_eq!(acknowledged.failures, 0, "an acknowledgement after a failure");
                    assert_eq!(acknowledged.answers, call, "answers out of order");
                    acknowledged.state = state;
                    acknowledged.committed = committed;
                }
                Err(_) => acknowledged.failures += 1,
            }
            acknowledged.answers += 1;
        })
    }

    /// Opens twice, with a power cut between: what was recovered once stays, and a torn end is
    /// found once.
    pub(crate) fn check_recovers(&self, context: &str) -> Restart {
        let first = self.check_opens(&self.disk, context);
        drop(first.writer);
        drop(first.log);
        self.disk.power_cut(Loss::Everything);
        let second = self.check_opens(&self.disk, context);
        assert_eq!(first.model, second.model, "{context}: the second start differs");
        assert_eq!(second.torn_bytes, 0, "{context}: the torn end was not cut");
        second
    }

    /// The judgement: whatever was acknowledged is there, and what is there is the log as it was
    /// at one moment since.
    pub(crate) fn check_opens(&self, disk: &MemoryDisk, context: &str) -> Restart {
        let (log, writer, recovered) =
            open(disk).unwrap_or_else(|error| panic!("{context}: does not open: {error}"));
        let found = Model::of(&log);
        let acknowledged = self.acknowledged.lock();
        let may_be = &self.states[acknowledged.state..];
        assert!(
            may_be.contains(&found),
            "{context}: found {found:#?}, acknowledged {:#?}, last {:#?}",
            may_be[0],
            may_be[may_be.len() - 1],
        );
        let committed = log.state().committed.map_or(0, |bytes| number(&bytes));
        let range = acknowledged.committed..=self.committed;
        assert!(range.contains(&committed), "{context}: committed {committed}, not in {range:?}");
        Restart { log, writer, model: found, torn_bytes: recovered.torn_bytes }
    }

    /// Every call was answered, once.
    pub(crate) fn check_answered(&self, context: &str) {
        assert_eq!(self.acknowledged.lock().answers, self.calls, "{context}: answers");
    }

    /// The clean stop.
    pub(crate) fn close(&mut self) {
        self.log.close().unwrap();
        assert_eq!(self.writer.run_until_idle(), Step::Ended);
        self.log.close().unwrap();
    }
}

/// A payload that tells which entry it belongs to.
fn payload(index: u64, term: u64, bytes: usize) -> Bytes {
    let seed = (index as u8).wrapping_mul(31).wrapping_add(term as u8);
    (0..bytes).map(|at| seed.wrapping_add(at as u8)).collect()
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

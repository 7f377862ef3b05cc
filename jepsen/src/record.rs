//! Writes the history while clients and the nemesis act, and counts what it writes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;

use crate::clock::Stopwatch;
use crate::history::{Act, Answer, Draft, FaultEvent, FaultPhase, Header, Kind, Process, Writer};

/// The one writer of a run.
#[derive(Debug)]
pub struct Recorder {
    inner: Mutex<Inner>,
    clock: Stopwatch,
}

#[derive(Debug)]
struct Inner {
    writer: Writer,
    counts: Counts,
    /// The first thing that could not be written.
    broken: Option<String>,
}

/// What was written so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Acts of clients that happened, by name.
    pub ok: BTreeMap<&'static str, u64>,
    /// Acts of clients that did not.
    pub fail: BTreeMap<&'static str, u64>,
    /// Acts of clients of which nobody knows.
    pub info: BTreeMap<&'static str, u64>,
    /// Faults that had an effect, by name.
    pub hits: BTreeMap<String, u64>,
    /// Faults that were begun, by name.
    pub starts: BTreeMap<String, u64>,
}

impl Counts {
    /// Ends of all acts, whatever they were: ok, fail, info.
    pub fn totals(&self) -> (u64, u64, u64) {
        let sum = |counts: &BTreeMap<&'static str, u64>| counts.values().sum();
        (sum(&self.ok), sum(&self.fail), sum(&self.info))
    }
}

impl Recorder {
    /// Begins a history in a directory.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(dir: &Path, header: &Header, clock: Stopwatch) -> Result<Arc<Self>> {
        let writer = Writer::create(dir, header, move || clock.now_ns())?;
        let inner = Inner { writer, counts: Counts::default(), broken: None };
        Ok(Arc::new(Self { inner: Mutex::new(inner), clock }))
    }

    /// The clock of the history.
    pub fn clock(&self) -> Stopwatch {
        self.clock
    }

    /// A client is about to ask.
    pub fn invoke(&self, client: u64, node: u64, act: &Act) {
        self.append(draft(client, Kind::Invoke, node, act));
    }

    /// A client has its answer.
    pub fn end(&self, client: u64, node: u64, act: &Act, end: End) {
        let (kind, answer, note) = match end {
            End::Ok(answer) => (Kind::Ok, Some(answer), None),
            End::Fail(answer) => (Kind::Fail, Some(answer), None),
            End::Info(why) => (Kind::Info, None, Some(why)),
        };
        let mut inner = self.lock();
        let counts = match kind {
            Kind::Ok => &mut inner.counts.ok,
            Kind::Fail => &mut inner.counts.fail,
            _ => &mut inner.counts.info,
        };
        *counts.entry(act.name()).or_default() += 1;
        drop(inner);
        self.append(Draft { answer, note, ..draft(client, kind, node, act) });
    }

    /// The nemesis has done something.
    pub fn fault(&self, name: &str, phase: FaultPhase, targets: &[u64], detail: &str) {
        let mut inner = self.lock();
        match phase {
            FaultPhase::Start => *inner.counts.starts.entry(name.to_owned()).or_default() += 1,
            FaultPhase::Hit => *inner.counts.hits.entry(name.to_owned()).or_default() += 1,
            FaultPhase::End => {}
        }
        drop(inner);
        let event = FaultEvent {
            name: name.to_owned(),
            phase,
            targets: targets.to_vec(),
            detail: detail.to_owned(),
        };
        self.append(Draft {
            process: Process::Nemesis,
            kind: Kind::Info,
            node: None,
            act: Act::Fault(event),
            answer: None,
            note: None,
        });
    }

    /// What was written so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    /// Writes what still waits in memory.
    ///
    /// # Errors
    /// When anything of the history could not be written.
    pub fn flush(&self) -> Result<()> {
        let mut inner = self.lock();
        if let Some(broken) = &inner.broken {
            anyhow::bail!("the history is not whole: {broken}");
        }
        inner.writer.flush()?;
        Ok(())
    }

    fn append(&self, draft: Draft) {
        let mut inner = self.lock();
        if let Err(error) = inner.writer.append(draft) {
            inner.broken.get_or_insert_with(|| error.to_string());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How an act ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It happened.
    Ok(Answer),
    /// It certainly did not.
    Fail(Answer),
    /// Nobody knows, and why.
    Info(String),
}

fn draft(client: u64, kind: Kind, node: u64, act: &Act) -> Draft {
    Draft {
        process: Process::Client(client),
        kind,
        node: Some(node),
        act: act.clone(),
        answer: None,
        note: None,
    }
}

//! The checkers: what must be true of every run, judged from its files alone.
//!
//! | checker | what it holds |
//! |---|---|
//! | `discipline` | the history is one: processes wait for answers, an unknown end is the last |
//! | `coverage` | the run proves something: faults hit, followers were read, acts overlapped |
//! | `linearizable` | one order of all operations explains every answer, expiry included |
//! | `oversold` | seats that are certainly held never exceed what was bought |
//! | `fences` | they rise with every grant, in real time |
//! | `audit` | every acknowledged act is in the chain once, in order, and nothing else is |
//! | `early-expiry` | no lease ends before its holder was told |
//! | `late-expiry` | a lease that nobody renews ends in time, where it is calm |
//! | `reset` | nothing but a renewal gives a lease more time |
//! | `retries` | the same key gets the same answer |
//! | `reads` | a read reflects all that was acknowledged before it; a node never goes back |
//! | `states` | nodes at one index have one state |
//! | `conservation` | seats in use are those granted and not ended, in the package and its pools |
//! | `recovery` | clients are served soon after the last fault is healed |
//! | `panics` | no node found itself wrong |
//!
//! All but `linearizable` take linear time, up to a sort. Each is a function from a [`Run`] to a
//! [`Check`], named in one table; none knows another.

mod audit;
mod conservation;
mod coverage;
mod expiry;
mod fences;
pub mod linear;
mod oversold;
mod reads;
mod recovery;
mod retries;
#[cfg(test)]
mod sample;
mod states;
pub(crate) mod told;
#[cfg(test)]
mod wired;

use std::path::Path;

use thiserror::Error;

use crate::evidence::{Evidence, EvidenceError};
use crate::history::{Header, History, HistoryError, PackageTerms};
use crate::operation::{Breach, Operation, Outcome, pair};
use crate::verdict::{Check, Figures, Verdict};
use crate::windows::{Calm, FaultWindow, windows};

/// What a checker may assume and how long it may work.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Configurations that the search may visit for one package before it gives up. With an audit
    /// log a run takes fewer than it has operations; without one, a million may take a minute.
    pub search_configurations: u64,
    /// Within how many milliseconds after the end of the last fault an operation must succeed; the
    /// failover bound and five seconds when absent.
    pub recovery_ms: Option<u64>,
    /// How many operations of a package must overlap with another of it.
    pub min_overlapping: u64,
    /// Which part of reads must certainly have been answered by a follower.
    pub min_follower_reads: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            search_configurations: 1_000_000,
            recovery_ms: None,
            min_overlapping: 20,
            min_follower_reads: 0.05,
        }
    }
}

/// A run, read from its directory, with what can be derived from it at once.
#[derive(Debug)]
pub struct Run {
    /// Its history.
    pub history: History,
    /// The operations of its clients, in the order of their beginnings.
    pub operations: Vec<Operation>,
    /// What breaks the discipline of histories.
    pub breaches: Vec<Breach>,
    /// Its faults.
    pub windows: Vec<FaultWindow>,
    /// What nodes say themselves.
    pub evidence: Evidence,
}

/// Why a run could not be judged.
#[derive(Debug, Error)]
pub enum RunError {
    /// Its history could not be read.
    #[error("the history cannot be read")]
    History(#[from] HistoryError),
    /// What lies beside it could not be read.
    #[error("what lies beside the history cannot be read")]
    Evidence(#[from] EvidenceError),
}

impl Run {
    /// Reads the files of a run.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub fn read(dir: &Path) -> Result<Self, RunError> {
        Ok(Self::new(History::read(dir)?, Evidence::read(dir)?))
    }

    /// A run of a history and what lies beside it.
    pub fn new(history: History, evidence: Evidence) -> Self {
        let (operations, breaches) = pair(&history.events);
        let windows = windows(&history.events);
        Self { history, operations, breaches, windows, evidence }
    }

    /// What was run.
    pub fn header(&self) -> &Header {
        &self.history.header
    }

    /// Terms of a package.
    pub fn terms(&self, package: &str) -> Option<&PackageTerms> {
        self.history.header.package(package)
    }

    /// The least real time in nanoseconds in which the lease clock can have moved on by so many
    /// milliseconds: its rate may be off, and both readings are cut to milliseconds.
    pub fn at_least_ns(&self, led_ms: u64) -> u64 {
        let exact = led_ms.saturating_sub(CLOCK_GRAIN_MS).saturating_mul(NS_PER_MS);
        (exact as f64 * (1.0 - self.header().epsilon)) as u64
    }

    /// The most calm time in nanoseconds that the lease clock can take for so many milliseconds.
    pub fn at_most_ns(&self, led_ms: u64) -> u64 {
        let exact = (led_ms + CLOCK_GRAIN_MS).saturating_mul(NS_PER_MS);
        (exact as f64 / (1.0 - self.header().epsilon.min(0.5))) as u64
    }

    /// Whether a fault of this run moves clocks of nodes.
    pub fn moves_clocks(&self) -> bool {
        self.windows.iter().any(|window| window.name == "clock")
    }

    /// The failover bound in nanoseconds.
    pub fn failover_ns(&self) -> u64 {
        self.header().failover_bound_ms() * NS_PER_MS
    }

    /// The calm time of the run: no fault, and the failover bound after each.
    pub fn calm(&self) -> Calm {
        Calm::new(&self.windows, self.failover_ns())
    }

    /// How long a checkout's lease lasts at first, in milliseconds.
    pub fn ttl_ms(&self, package: &str, asked_ms: Option<u64>) -> u64 {
        asked_ms.or_else(|| self.terms(package).map(|terms| terms.ttl_ms)).unwrap_or(0)
    }

    fn figures(&self) -> Figures {
        let count = |want: fn(&Outcome) -> bool| {
            self.operations.iter().filter(|operation| want(&operation.outcome)).count() as u64
        };
        Figures {
            operations: self.operations.len() as u64,
            ok: count(|outcome| matches!(outcome, Outcome::Done(_))),
            failed: count(|it| matches!(it, Outcome::Refused { .. } | Outcome::Failed)),
            unknown: count(|outcome| *outcome == Outcome::Unknown),
            faults: self.windows.len() as u64,
            faults_hit: self.windows.iter().filter(|window| window.hits > 0).count() as u64,
            length_ms: self.history.end_ns() / NS_PER_MS,
        }
    }
}

type Checker = fn(&Run, &Options) -> Check;

/// Every checker, in the order in which they are told.
const CHECKERS: &[Checker] = &[
    coverage::discipline,
    coverage::coverage,
    linear::linearizable,
    oversold::oversold,
    fences::fences,
    audit::audit,
    expiry::early,
    expiry::late,
    expiry::reset,
    retries::retries,
    reads::reads,
    states::states,
    conservation::conservation,
    recovery::recovery,
    states::panics,
];

/// Reads a run and judges it.
///
/// # Errors
/// When a file is missing or cannot be read.
pub fn all(dir: &Path, options: &Options) -> Result<Verdict, RunError> {
    Ok(judge(&Run::read(dir)?, options))
}

/// Judges a run.
pub fn judge(run: &Run, options: &Options) -> Verdict {
    let checks = CHECKERS.iter().map(|check| check(run, options)).collect();
    Verdict::of(checks, run.figures())
}

/// Nanoseconds of a millisecond.
pub(crate) const NS_PER_MS: u64 = 1_000_000;
/// Stamps of the lease clock are cut to milliseconds, twice for a span.
const CLOCK_GRAIN_MS: u64 = 2;

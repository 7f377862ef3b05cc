//! How often a kind of trial is run, from which seed, and what is printed about it.
//!
//! With `LEASEHOLD_DISK_TRIALS` so often, with a line of progress and the time that is left; else
//! as often as the seconds of the gate allow. Every trial has a stream of numbers of its own, so
//! that a seed and a number name a trial whatever the trials before it did.

use std::fmt::Display;
use std::time::Duration;

use anyhow::{Context, Result};
use jepsen::rng::Rng;
use jepsen::volume::Volume;
use storage::seam::{Clock, RealClock};

/// The trials of one kind.
pub(crate) struct Trials {
    what: &'static str,
    seed: u64,
    wanted: Option<u64>,
    within: Duration,
    clock: RealClock,
    started_ns: u64,
    begun: u64,
}

/// One trial.
pub(crate) struct Trial {
    /// What it draws.
    pub(crate) rng: Rng,
    name: String,
}

impl Trials {
    /// Reads what was asked for; `within` is what the gate gives where nothing was.
    pub(crate) fn new(what: &'static str, within: Duration) -> Result<Self> {
        let number = |name: &str| match std::env::var(name) {
            Ok(text) => text.parse().map(Some).with_context(|| format!("{name}: {text:?}")),
            Err(_) => Ok(None),
        };
        let clock = RealClock::new();
        let seed = number("LEASEHOLD_DISK_SEED")?.unwrap_or(GATE_SEED);
        let wanted = number("LEASEHOLD_DISK_TRIALS")?;
        let started_ns = clock.monotonic_ns();
        Ok(Self { what, seed, wanted, within, clock, started_ns, begun: 0 })
    }

    /// The next trial, unless that was all.
    pub(crate) fn next(&mut self) -> Option<Trial> {
        let spent = Duration::from_nanos(self.clock.monotonic_ns() - self.started_ns);
        let is_over = match self.wanted {
            Some(wanted) => self.begun >= wanted,
            None => self.begun > 0 && spent >= self.within,
        };
        if is_over {
            return None;
        }
        if let Some(wanted) = self.wanted
            && self.begun.is_multiple_of(PROGRESS_EVERY)
            && self.begun > 0
        {
            let left_s = spent.as_secs() * (wanted - self.begun) / self.begun;
            eprintln!("{}: {} of {wanted}, {left_s} s left", self.what, self.begun);
        }
        self.begun += 1;
        let name = format!("{}: trial {} of seed {}", self.what, self.begun, self.seed);
        let rng = Rng::named(self.seed, &format!("{} {}", self.what, self.begun));
        Some(Trial { rng, name })
    }

    /// Prints what was run.
    pub(crate) fn ran(&self, found: impl Display) {
        println!("ran: {}: {} trials of seed {}, {found}", self.what, self.begun, self.seed);
    }
}

impl Trial {
    /// Puts the trial's name before what went wrong in it.
    pub(crate) fn judge<T>(&self, result: Result<T>) -> Result<T> {
        result.with_context(|| self.name.clone())
    }
}

/// Whether there can be disks; prints why not.
pub(crate) fn disks_are_possible() -> bool {
    match Volume::possible() {
        Ok(()) => true,
        Err(reason) => {
            println!("skipped: no disk can be mounted and cut here: {reason}");
            false
        }
    }
}

/// The gate repeats itself; `cargo xtask disks` draws another.
const GATE_SEED: u64 = 20_261_122;
/// Trials between two lines of progress.
const PROGRESS_EVERY: u64 = 10;

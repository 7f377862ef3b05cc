//! How a directed link is, and what that has done.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How a directed link is. The default is a good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Condition {
    /// Nothing passes; what waits flows on when this ends.
    pub cut: bool,
    /// Every piece takes so long.
    pub delay: Duration,
    /// And up to so much longer.
    pub jitter: Duration,
    /// Of a thousand pieces, so many stall for [`Condition::stall`].
    pub stall_per_mille: u64,
    /// How long a stalled piece waits, as when TCP repeats what was lost.
    pub stall: Duration,
    /// Of a thousand pieces, so many end their connection with a reset.
    pub reset_per_mille: u64,
    /// Bytes that pass in a second; 0: as many as come.
    pub bytes_per_second: u64,
}

impl Condition {
    /// Nothing passes.
    pub fn cut() -> Self {
        Self { cut: true, ..Self::default() }
    }
}

/// What a link's condition has done to bytes: the evidence that a fault was one.
#[derive(Debug, Default)]
pub struct Effects {
    held_back: AtomicU64,
    delayed: AtomicU64,
    stalled: AtomicU64,
    reset: AtomicU64,
    dripped: AtomicU64,
    passed: AtomicU64,
}

/// The same, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// Pieces that met a cut.
    pub held_back: u64,
    /// Pieces that were delayed.
    pub delayed: u64,
    /// Pieces that stalled.
    pub stalled: u64,
    /// Connections that were reset.
    pub reset: u64,
    /// Pieces that passed drop by drop.
    pub dripped: u64,
    /// Bytes that have passed.
    pub passed: u64,
}

impl Counted {
    /// What came on top of an earlier reading.
    pub fn since(self, before: Self) -> Self {
        Self {
            held_back: self.held_back.saturating_sub(before.held_back),
            delayed: self.delayed.saturating_sub(before.delayed),
            stalled: self.stalled.saturating_sub(before.stalled),
            reset: self.reset.saturating_sub(before.reset),
            dripped: self.dripped.saturating_sub(before.dripped),
            passed: self.passed.saturating_sub(before.passed),
        }
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            held_back: self.held_back + other.held_back,
            delayed: self.delayed + other.delayed,
            stalled: self.stalled + other.stalled,
            reset: self.reset + other.reset,
            dripped: self.dripped + other.dripped,
            passed: self.passed + other.passed,
        }
    }

    /// Whether anything but good passing was done to anybody.
    pub fn has_hurt(self) -> bool {
        self.held_back + self.delayed + self.stalled + self.reset + self.dripped > 0
    }
}

impl Effects {
    pub(super) fn count_held_back(&self) {
        self.held_back.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_delayed(&self) {
        self.delayed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_stalled(&self) {
        self.stalled.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_reset(&self) {
        self.reset.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_dripped(&self) {
        self.dripped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_passed(&self, bytes: usize) {
        self.passed.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn counted(&self) -> Counted {
        Counted {
            held_back: self.held_back.load(Ordering::Relaxed),
            delayed: self.delayed.load(Ordering::Relaxed),
            stalled: self.stalled.load(Ordering::Relaxed),
            reset: self.reset.load(Ordering::Relaxed),
            dripped: self.dripped.load(Ordering::Relaxed),
            passed: self.passed.load(Ordering::Relaxed),
        }
    }
}

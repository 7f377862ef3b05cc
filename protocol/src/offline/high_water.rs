//! The highest time that a program has ever seen, so that a clock set back gains it nothing.
//!
//! An offline token ends by the device's own clock. Whoever sets that clock back would live on the
//! token for ever; so a program keeps the highest time it ever saw (from its clock, from a server's
//! answer, from the `iat` of a verified token), stores it beside its state, and judges by it.
//!
//! The highest time seen stands still while the clock catches up with it again. Whoever sets the
//! clock back by less than is tolerated, over and over, would hold it there; so what passes while a
//! program runs is added by a clock that cannot be set ([`HighWater::pass`]), and a token ends
//! after
//! so much use whatever the wall clock says. What passes while no program runs is seen by the wall
//! clock alone: each restart can gain as much as is tolerated, and no more.

use thiserror::Error;

/// A clock that stands further behind the highest time seen than is tolerated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the clock went back by {} ms", .highest_ms - .now_ms)]
pub struct ClockWentBack {
    /// The highest time seen, in Unix milliseconds.
    pub highest_ms: i64,
    /// What the clock says, in Unix milliseconds.
    pub now_ms: i64,
}

impl ClockWentBack {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        "clock_went_back"
    }
}

/// The highest time seen. Stored as its number of milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct HighWater {
    highest_ms: i64,
}

impl HighWater {
    /// Continues from what was stored.
    pub fn from_stored_ms(highest_ms: i64) -> Self {
        Self { highest_ms }
    }

    /// What is to be stored, in Unix milliseconds.
    pub fn highest_ms(self) -> i64 {
        self.highest_ms
    }

    /// Learns a time that is true for certain: a server's, or that of a verified token.
    pub fn learn(&mut self, time_ms: i64) {
        self.highest_ms = self.highest_ms.max(time_ms);
    }

    /// Learns that so much time has passed since the last step, by a clock that cannot be set.
    pub fn pass(&mut self, elapsed_ms: u64) {
        let elapsed_ms = i64::try_from(elapsed_ms).unwrap_or(i64::MAX);
        self.highest_ms = self.highest_ms.saturating_add(elapsed_ms);
    }

    /// The time to judge by when the clock says `now_ms`: never behind the highest time seen.
    /// A clock more than `tolerance_ms` behind it is refused; a time service's small steps back
    /// are not, and they gain nothing where what passes in between is told ([`Self::pass`]).
    pub fn observe(&mut self, now_ms: i64, tolerance_ms: i64) -> Result<i64, ClockWentBack> {
        if now_ms < self.highest_ms.saturating_sub(tolerance_ms.max(0)) {
            return Err(ClockWentBack { highest_ms: self.highest_ms, now_ms });
        }
        self.learn(now_ms);
        Ok(self.highest_ms)
    }
}

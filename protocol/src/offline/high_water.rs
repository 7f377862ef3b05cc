//! The highest time that a program has ever seen, so that a clock set back gains it nothing.
//!
//! An offline token ends by the device's own clock. Whoever sets that clock back would live on the
//! token for ever; so a program keeps the highest time it ever saw (from its clock, from a server's
//! answer, from the `iat` of a verified token), stores it beside its state, and judges by it.

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

    /// The time to judge by when the clock says `now_ms`: never behind the highest time seen.
    /// A clock more than `tolerance_ms` behind it is refused; a time service's small steps back
    /// are not, and they gain nothing either.
    pub fn observe(&mut self, now_ms: i64, tolerance_ms: i64) -> Result<i64, ClockWentBack> {
        if now_ms < self.highest_ms.saturating_sub(tolerance_ms.max(0)) {
            return Err(ClockWentBack { highest_ms: self.highest_ms, now_ms });
        }
        self.learn(now_ms);
        Ok(self.highest_ms)
    }
}

//! Civil time that does not go back.
//!
//! Licenses end by the machine's wall clock, which its owner can set. So time is the largest of the
//! wall clock, the highest time seen before (kept over restarts by the caller), and that plus what
//! has passed since on the monotonic clock: setting the clock back gains nothing. A clock that
//! stands far behind is also told ([`SteadyClock::went_back`]), so that it is corrected; a good
//! answer of a server takes the place of what was seen, so that a clock that once ran ahead does
//! not lock out for ever.

use std::sync::Arc;

use parking_lot::Mutex;
use protocol::offline::HighWater;

use crate::environment::{Environment, Stamp};

/// The clock by which an installed license is judged.
pub(crate) struct SteadyClock {
    environment: Arc<dyn Environment>,
    /// The highest time seen, as of a point of the monotonic clock.
    seen: Mutex<Stamp>,
}

impl SteadyClock {
    /// Begins with what the wall clock says.
    pub(crate) fn new(environment: Arc<dyn Environment>) -> Self {
        let seen = Mutex::new(Stamp::now(&*environment));
        Self { environment, seen }
    }

    /// The time to judge by, in Unix milliseconds.
    pub(crate) fn now_ms(&self) -> i64 {
        let now = Stamp::now(&*self.environment);
        now.wall_ms.max(self.seen_ms(now.ns))
    }

    /// Learns a time that has been: kept from an earlier run, or signed by a server.
    pub(crate) fn learn(&self, time_ms: i64) {
        let now_ns = self.environment.monotonic_ns();
        let wall_ms = self.seen_ms(now_ns).max(time_ms);
        *self.seen.lock() = Stamp { ns: now_ns, wall_ms };
    }

    /// Takes a server's time for what was seen, whatever that was.
    pub(crate) fn correct(&self, server_ms: i64) {
        *self.seen.lock() = Stamp { ns: self.environment.monotonic_ns(), wall_ms: server_ms };
    }

    /// By how many milliseconds the wall clock went back, when by more than is tolerated.
    pub(crate) fn went_back(&self) -> Option<u64> {
        let now = Stamp::now(&*self.environment);
        let mut seen = HighWater::from_stored_ms(self.seen_ms(now.ns));
        let error = seen.observe(now.wall_ms, TOLERANCE_MS).err()?;
        Some(error.highest_ms.abs_diff(error.now_ms))
    }

    fn seen_ms(&self, now_ns: u64) -> i64 {
        let seen = *self.seen.lock();
        let passed_ms = now_ns.saturating_sub(seen.ns) / 1_000_000;
        seen.wall_ms.saturating_add(i64::try_from(passed_ms).unwrap_or(i64::MAX))
    }
}

/// A clock may be so far behind without being refused: what the evaluation protocol tolerates, and
/// most zones that a clock is set to by mistake. It gains nothing by that.
pub(crate) const TOLERANCE_MS: i64 = 6 * 3_600_000;

//! Time as it is, and as each node's clocks show it.
//!
//! True time is turmoil's: all hosts share it. A node's monotonic clock runs at a rate of its own
//! and begins anew with each process; its wall clock is true time moved by a step, or swinging
//! around it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use storage::seam::Clock;

/// True time of one run. A clone is of the same run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Time {
    newest_ns: Arc<AtomicU64>,
}

impl Time {
    /// Nanoseconds since the run began. Never goes back.
    pub(crate) fn now_ns(&self) -> u64 {
        let elapsed = turmoil::sim_elapsed();
        let now_ns = elapsed.map_or(0, |it| u64::try_from(it.as_nanos()).unwrap_or(u64::MAX));
        self.newest_ns.fetch_max(now_ns, Ordering::Relaxed).max(now_ns)
    }

    /// Tells how far the run is, from outside of all hosts.
    pub(crate) fn reached(&self, elapsed: std::time::Duration) {
        let now_ns = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        self.newest_ns.fetch_max(now_ns, Ordering::Relaxed);
    }
}

/// The clocks of one node's machine.
#[derive(Debug)]
pub(crate) struct SimClock {
    time: Time,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// True time at which the rate last changed, and what the monotonic clock showed then.
    since_ns: u64,
    shown_ns: u64,
    rate_permille: u64,
    wall_offset_ms: i64,
    strobe_ms: i64,
    /// Readings of the wall clock since it was moved: a fault hits when it is seen.
    read: u64,
}

impl SimClock {
    /// Clocks that show true time.
    pub(crate) fn new(time: Time) -> Self {
        let state = State {
            since_ns: 0,
            shown_ns: 1,
            rate_permille: 1_000,
            wall_offset_ms: 0,
            strobe_ms: 0,
            read: 0,
        };
        Self { time, state: Mutex::new(state) }
    }

    /// Sets the rate of the monotonic clock in thousandths of true time.
    pub(crate) fn set_rate(&self, rate_permille: u64) {
        let now_ns = self.time.now_ns();
        let mut state = self.state.lock();
        state.shown_ns = state.shown_at(now_ns);
        (state.since_ns, state.rate_permille, state.read) = (now_ns, rate_permille, 0);
    }

    /// Moves the wall clock this far from true time.
    pub(crate) fn step_wall(&self, offset_ms: i64) {
        let mut state = self.state.lock();
        (state.wall_offset_ms, state.strobe_ms, state.read) = (offset_ms, 0, 0);
    }

    /// Lets the wall clock jump forth and back by so much, five times a second.
    pub(crate) fn strobe_wall(&self, strobe_ms: i64) {
        let mut state = self.state.lock();
        (state.strobe_ms, state.read) = (strobe_ms, 0);
    }

    /// A new process: its monotonic clock counts from another point.
    pub(crate) fn restart(&self, shown_ns: u64) {
        let now_ns = self.time.now_ns();
        let mut state = self.state.lock();
        (state.since_ns, state.shown_ns) = (now_ns, shown_ns.max(1));
    }

    /// How often the clocks were read since they were last disturbed.
    pub(crate) fn readings(&self) -> u64 {
        self.state.lock().read
    }
}

impl State {
    fn shown_at(&self, now_ns: u64) -> u64 {
        self.shown_ns + now_ns.saturating_sub(self.since_ns) / 1_000 * self.rate_permille
    }
}

impl Clock for SimClock {
    fn monotonic_ns(&self) -> u64 {
        let now_ns = self.time.now_ns();
        let mut state = self.state.lock();
        state.read += 1;
        state.shown_at(now_ns)
    }

    fn wall_ms(&self) -> i64 {
        let now_ms = (self.time.now_ns() / 1_000_000).cast_signed();
        let mut state = self.state.lock();
        state.read += 1;
        let swing_ms = if now_ms / STROBE_MS % 2 == 1 { state.strobe_ms } else { 0 };
        BEGINNING_MS + now_ms + state.wall_offset_ms + swing_ms
    }
}

/// Unix milliseconds when every run begins: 2025-09-13 12:26:40 UTC.
pub(crate) const BEGINNING_MS: i64 = 1_757_766_400_000;
/// Half a swing.
const STROBE_MS: i64 = 100;

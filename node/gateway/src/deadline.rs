//! The time a call has: one *F* for everything it waits for, from the credential to the answer.
//!
//! Each step gets what is left and not an *F* of its own, so that a call that meets a dying leader
//! twice still ends within the bound that clients are told. What a client takes to send its body is
//! its own time and bounded elsewhere.

use std::time::Duration;

use storage::seam::Clock;

/// When a call must have ended, by the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline {
    ends_ns: u64,
}

impl Deadline {
    /// Of a call that began at `started_ns` (monotonic) and may take `bound`.
    pub(crate) fn of(started_ns: u64, bound: Duration) -> Self {
        let bound_ns = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        Self { ends_ns: started_ns.saturating_add(bound_ns) }
    }

    /// What is left; zero when it has passed.
    pub(crate) fn left(self, clock: &dyn Clock) -> Duration {
        Duration::from_nanos(self.ends_ns.saturating_sub(clock.monotonic_ns()))
    }

    /// The same call after its client took this long to send the body.
    pub(crate) fn later_by_ns(self, ns: u64) -> Self {
        Self { ends_ns: self.ends_ns.saturating_add(ns) }
    }
}

#[cfg(test)]
mod tests {
    use storage::seam::RealClock;

    use super::*;

    #[test]
    fn nothing_is_left_of_a_time_that_has_passed_and_more_after_a_slow_body() {
        let clock = RealClock::new();
        let now_ns = clock.monotonic_ns();
        let hour = Duration::from_secs(3_600);
        let passed = Deadline::of(0, Duration::ZERO);
        assert_eq!(passed.left(&clock), Duration::ZERO);
        let left = Deadline::of(now_ns, hour).left(&clock);
        assert!(!left.is_zero() && left <= hour);
        let deadline = Deadline::of(now_ns, hour);
        assert_eq!(deadline.later_by_ns(5).ends_ns, deadline.ends_ns + 5);
    }
}

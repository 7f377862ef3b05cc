//! How long to wait before asking again: full jitter under an exponential ceiling, never less than
//! a server asked for. Pure; randomness is an argument.

use std::time::Duration;

/// The rule of one kind of wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    /// Ceiling of the first wait.
    base: Duration,
    /// Ceiling of every wait.
    cap: Duration,
}

impl Backoff {
    /// Between rounds over all servers within one call: an election takes less than a second.
    pub(crate) fn between_rounds(total: Duration) -> Self {
        Self { base: Duration::from_millis(200).min(total / 10), cap: Duration::from_secs(5) }
    }

    /// Between renewals that failed, of a lease that is renewed so often.
    pub(crate) fn between_renewals(interval: Duration) -> Self {
        Self {
            base: Duration::from_secs(1).min(interval / 10),
            cap: Duration::from_secs(60).min(interval),
        }
    }

    /// The wait after so many failures (0: the first), somewhere between zero and the ceiling, by
    /// `random`; on top of `floor`, so that all who were told the same do not come at once.
    pub(crate) fn wait(self, failures: u32, random: u64, floor: Option<Duration>) -> Duration {
        let factor = 1_u32.checked_shl(failures.min(MAX_DOUBLINGS)).unwrap_or(u32::MAX);
        let ceiling = self.base.saturating_mul(factor).min(self.cap);
        floor.unwrap_or_default().saturating_add(part(ceiling, random))
    }
}

/// A part of a duration: none of it for 0, all of it for the largest number.
pub(crate) fn part(whole: Duration, random: u64) -> Duration {
    let whole_ns = whole.as_nanos();
    let part_ns = whole_ns.saturating_mul(u128::from(random)) / u128::from(u64::MAX);
    Duration::from_nanos(u64::try_from(part_ns).unwrap_or(u64::MAX))
}

/// Beyond so many doublings every cap is reached.
const MAX_DOUBLINGS: u32 = 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_cap() {
        let backoff = Backoff::between_rounds(Duration::from_secs(30));
        let ceilings: Vec<u128> =
            (0..7).map(|n| backoff.wait(n, u64::MAX, None).as_millis()).collect();
        assert_eq!(ceilings, [200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(backoff.wait(u32::MAX, u64::MAX, None), Duration::from_secs(5));
    }

    #[test]
    fn a_lease_with_a_short_term_is_tried_more_often() {
        let backoff = Backoff::between_renewals(Duration::from_millis(100));
        assert_eq!(backoff.wait(0, u64::MAX, None), Duration::from_millis(10));
        assert_eq!(backoff.wait(9, u64::MAX, None), Duration::from_millis(100));
    }

    proptest! {
        #[test]
        fn a_wait_is_never_shorter_than_asked_nor_longer_than_the_ceiling(
            failures in any::<u32>(), random in any::<u64>(), floor_ms in 0_u64..100_000,
        ) {
            let backoff = Backoff::between_renewals(Duration::from_secs(300));
            let floor = Duration::from_millis(floor_ms);
            let wait = backoff.wait(failures, random, Some(floor));
            prop_assert!(wait >= floor);
            prop_assert!(wait <= floor + Duration::from_secs(60));
            prop_assert!(backoff.wait(failures, 0, None).is_zero());
        }
    }
}

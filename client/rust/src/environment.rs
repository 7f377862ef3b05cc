//! The seam to the machine: time, randomness and waiting.
//!
//! Everything that depends on them asks an [`Environment`], so that an hour of outage is tested in
//! milliseconds and a failing story can be told again. What it leaves to others: files
//! ([`crate::store`]), the network ([`crate::transport`]).

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// A wait that has begun.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the client asks of the machine. [`SystemEnvironment`] is the real one; another is for
/// tests.
pub trait Environment: Send + Sync + 'static {
    /// Nanoseconds since a fixed point. Never goes back, cannot be set, and counts the time in
    /// which the machine is suspended: a lease runs out meanwhile.
    fn monotonic_ns(&self) -> u64;

    /// Unix milliseconds of the wall clock; may jump, in both directions.
    fn wall_ms(&self) -> i64;

    /// Fills the buffer with random bytes fit for keys.
    ///
    /// # Errors
    /// When the machine has none to give.
    fn random(&self, buffer: &mut [u8]) -> std::io::Result<()>;

    /// Waits. Called on the client's own thread, where tokio's timers run.
    fn sleep(&self, duration: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(duration))
    }

    /// Waits as a limit on something that is under way, such as an answer.
    fn limit(&self, duration: Duration) -> Sleep {
        self.sleep(duration)
    }
}

/// The machine itself.
#[derive(Debug, Clone, Copy)]
pub struct SystemEnvironment {
    #[cfg(not(unix))]
    start: std::time::Instant,
}

impl SystemEnvironment {
    /// The machine's clocks and randomness.
    #[cfg_attr(
        not(unix),
        expect(clippy::disallowed_methods, reason = "this is the seam that the ban points to")
    )]
    pub fn new() -> Self {
        Self {
            #[cfg(not(unix))]
            start: std::time::Instant::now(),
        }
    }
}

impl Default for SystemEnvironment {
    fn default() -> Self {
        Self::new()
    }
}

impl Environment for SystemEnvironment {
    #[cfg(unix)]
    fn monotonic_ns(&self) -> u64 {
        // `Instant` stands still on Linux while the machine is suspended.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let clock = rustix::time::ClockId::Boottime;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let clock = rustix::time::ClockId::Monotonic;
        let now = rustix::time::clock_gettime(clock);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let below = u64::try_from(now.tv_nsec).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(below)
    }

    #[cfg(not(unix))]
    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the seam that the ban points to")]
    fn wall_ms(&self) -> i64 {
        jiff::Timestamp::now().as_millisecond()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the seam that the ban points to")]
    fn random(&self, buffer: &mut [u8]) -> std::io::Result<()> {
        getrandom::fill(buffer).map_err(std::io::Error::other)
    }
}

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Nanoseconds of the monotonic clock.
    pub(crate) ns: u64,
    /// Unix milliseconds of the wall clock.
    pub(crate) wall_ms: i64,
}

impl Stamp {
    /// Reads both clocks.
    pub(crate) fn now(environment: &dyn Environment) -> Self {
        Self { ns: environment.monotonic_ns(), wall_ms: environment.wall_ms() }
    }

    /// The earlier of two readings, by the monotonic clock.
    pub(crate) fn earlier(self, other: Self) -> Self {
        if other.ns < self.ns { other } else { self }
    }
}

/// Until when a call may go on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at_ns: u64,
}

impl Deadline {
    /// So long from now.
    pub(crate) fn after(environment: &dyn Environment, duration: Duration) -> Self {
        Self { at_ns: environment.monotonic_ns().saturating_add(nanoseconds(duration)) }
    }

    /// The earlier of this deadline and a point of the monotonic clock.
    pub(crate) fn not_after(self, ns: u64) -> Self {
        Self { at_ns: self.at_ns.min(ns) }
    }

    /// What is left; zero when it has passed.
    pub(crate) fn left(self, environment: &dyn Environment) -> Duration {
        Duration::from_nanos(self.at_ns.saturating_sub(environment.monotonic_ns()))
    }
}

/// A duration in nanoseconds, at most 584 years.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A random number; without randomness one half of the range, since only waits depend on it.
pub(crate) fn random_u64(environment: &dyn Environment) -> u64 {
    let mut bytes = [0; 8];
    match environment.random(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => u64::MAX / 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_clocks_and_randomness() {
        let machine = SystemEnvironment::new();
        let (first, second) = (machine.monotonic_ns(), machine.monotonic_ns());
        assert!(first > 0 && first <= second);
        assert!(machine.wall_ms() > 1_700_000_000_000);
        assert_ne!(random_u64(&machine), random_u64(&machine));
    }
}

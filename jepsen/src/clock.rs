//! The rig's one clock, and its waiting.
//!
//! A history's times are nanoseconds since the run began, on the monotonic clock of the rig's own
//! process. The rig is never run under a faked clock; only nodes are.

use std::future::Future;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};

/// Counts from when it was made.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Begins to count.
    #[expect(clippy::disallowed_methods, reason = "the rig's own clock; nodes have another")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since then.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Time since then.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Unix milliseconds, for the validity of packages.
#[expect(clippy::disallowed_methods, reason = "packages name civil times; no check reads this")]
pub fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Looks until `condition` gives a value; an error that names `what` after `within`.
pub async fn eventually<T, F, Fut>(what: &str, within: Duration, mut condition: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let looks = async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    match tokio::time::timeout(within, looks).await {
        Ok(value) => Ok(value),
        Err(_) => bail!("{what}: not within {} s", within.as_secs()),
    }
}

/// How long anything that must happen may take on a loaded machine.
pub const LIVENESS: Duration = Duration::from_secs(60);
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(30);

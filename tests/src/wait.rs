//! Waiting for a condition, with a liveness bound instead of a guess at how long it takes.

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, bail};

/// How long anything that must happen eventually may take on a loaded machine.
pub const LIVENESS: Duration = Duration::from_secs(60);
/// Time between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until `condition` gives a value; an error that names `what` after [`LIVENESS`].
pub async fn eventually<T, F, Fut>(what: &str, mut condition: F) -> Result<T>
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
    match tokio::time::timeout(LIVENESS, looks).await {
        Ok(value) => Ok(value),
        Err(_) => bail!("{what}: not within {LIVENESS:?}"),
    }
}

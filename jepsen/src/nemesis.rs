//! Who injects the faults: one task a lane, each fault again and again, in an order drawn from the
//! seed, with a pause between two in which the cluster may recover.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::faults::{Arena, Fault, Lane, inject};
use crate::rng::Rng;

/// How long faults go on.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// At least so long.
    pub at_least: Duration,
    /// Until every fault was begun once, but no longer than this.
    pub at_most: Duration,
}

/// Injects the faults of one lane until the span is over.
///
/// # Errors
/// When the cluster could not be brought back after one.
pub async fn run(
    arena: Arc<Arena>,
    lane: Lane,
    faults: Vec<Fault>,
    seed: u64,
    span: Span,
) -> Result<()> {
    let mine: Vec<Fault> = faults.into_iter().filter(|fault| fault.lane() == lane).collect();
    let mut rng = Rng::named(seed, &format!("faults {lane:?}"));
    let clock = arena.recorder.clock();
    let until = clock.elapsed() + span.at_least;
    let last = clock.elapsed() + span.at_most;
    let mut is_first_round = true;
    while !mine.is_empty() {
        for fault in rng.shuffled(&mine) {
            let now = clock.elapsed();
            let is_over = now >= last || (now >= until && !is_first_round);
            if is_over || arena.is_stopping() {
                return Ok(());
            }
            arena.hold(Duration::from_millis(rng.between(PAUSE_MS.0, PAUSE_MS.1))).await;
            if lane == Lane::Nodes {
                arena.look_after_processes().await?;
            }
            let injected = tokio::time::timeout(FAULT_WITHIN, inject(fault, &arena, &mut rng));
            injected
                .await
                .with_context(|| format!("{} was not over in time", fault.name()))
                .flatten()
                .with_context(|| format!("after {}", fault.name()))?;
        }
        is_first_round = false;
    }
    Ok(())
}

/// Between two faults of a lane, in milliseconds: shorter and longer than a failover.
const PAUSE_MS: (u64, u64) = (300, 3_000);
/// A fault, with the recovery of the nodes that it was for.
const FAULT_WITHIN: Duration = Duration::from_secs(150);

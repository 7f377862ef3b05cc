//! Elections during full load: the leader must not lose its place because it is busy.

use anyhow::Result;

use super::{Found, Settings, load_for};
use crate::plan::{Placement, Workload};
use crate::progress::Progress;
use crate::systems::leasehold::Leasehold;

/// Counts them.
pub(super) async fn run(settings: &Settings, progress: &Progress) -> Result<Found> {
    let mut system = Leasehold::found().await?;
    system.prepare(Workload::CycleHot, 0, &|_| {}).await?;
    let sessions = system.sessions(Workload::CycleHot, Placement::Spread, CLIENTS).await?;
    let before = highest(&system.sample(TERM).await?);
    progress.doing(format!("{} s of full load", settings.elections_for.as_secs()));
    let driven =
        load_for(sessions, settings.warm_up, settings.elections_for, &system.probe()?).await?;
    let after = highest(&system.sample(TERM).await?);
    let mut found = Found::default();
    // Each election that is won, and each that is only begun after a pre-vote, raises the term.
    found.figure("elections", after - before);
    found.figure("seconds", driven.seconds);
    found.figure("clients", CLIENTS as f64);
    found.figure("per_second", driven.operations as f64 / driven.seconds);
    found.figure("p50_ms", driven.quantiles.p50_ms);
    found.figure("p99_ms", driven.quantiles.p99_ms);
    found.figure("max_ms", driven.quantiles.max_ms);
    found.figure("errors", driven.errors as f64);
    found.notes.extend(driven.first_error.map(|error| format!("first error: {error}")));
    Ok(found)
}

fn highest(terms: &[f64]) -> f64 {
    terms.iter().copied().fold(0.0, f64::max)
}

const TERM: &str = "leasehold_server_term";
const CLIENTS: usize = 256;

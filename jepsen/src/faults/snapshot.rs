//! A node that comes back so late that the log of the others has moved on: it is sent a snapshot,
//! while clients go on.
//!
//! Nodes of such a run take a checkpoint every two seconds and keep a hundred entries below it.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{Arena, Fault};
use crate::clock::{LIVENESS, eventually};
use crate::rng::Rng;

/// Kills a follower, waits for two checkpoints and more entries than are kept, starts it again;
/// sometimes it is killed once more in the middle.
pub(super) async fn install(arena: &Arena, rng: &mut Rng) -> Result<()> {
    let mut cluster = arena.cluster.lock().await;
    let leader = arena.observer.wait_leader().await?;
    let followers: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    let id = *rng.pick(&followers).context("no follower")?;
    arena.start(Fault::Snapshot, &[id], "down until the log has moved on");
    cluster.node_mut(id)?.kill().await?;
    let from = progress(arena, leader).await.unwrap_or_default();
    let moved = eventually("the log moves on", LIVENESS, || async {
        let now = progress(arena, arena.observer.leader().await?.0).await?;
        let is_enough = now.0 >= from.0 + CHECKPOINTS && now.1 >= from.1 + ENTRIES;
        // Another leader counts from its own start.
        (is_enough || now.0 < from.0 || arena.is_stopping()).then_some(())
    });
    let moved = moved.await;
    let sent_before = sent(arena, &followers, leader).await;
    cluster.start(id)?;
    if moved.is_err() {
        arena.end(Fault::Snapshot, &[id], "too little was written");
        return arena.bring_up(&mut cluster, &[id]).await;
    }
    if rng.percent(40) {
        arena.hold(Duration::from_millis(rng.between(150, 900))).await;
        cluster.node_mut(id)?.kill().await?;
        cluster.start(id)?;
    }
    cluster.ready(id).await?;
    let evidence = eventually("a snapshot is installed", INSTALLED_WITHIN, || async {
        let installed = arena.observer.metric(id, INSTALLED).await.unwrap_or(0.0);
        let sent = sent(arena, &followers, leader).await - sent_before;
        // One that was installed before the second kill is in no count of the node's any more.
        let told = format!("{installed} installed since its start, {sent} sent by the others");
        (installed >= 1.0 || sent >= 1.0).then_some(told)
    });
    if let Ok(evidence) = evidence.await {
        arena.hit(Fault::Snapshot, &[id], &evidence);
    }
    arena.end(Fault::Snapshot, &[id], "it is back");
    Ok(())
}

/// Snapshots that all nodes have sent since their starts.
async fn sent(arena: &Arena, followers: &[u64], leader: u64) -> f64 {
    let mut sum = 0.0;
    for id in followers.iter().copied().chain([leader]) {
        sum += arena.observer.metric(id, SENT).await.unwrap_or(0.0);
    }
    sum
}

/// Checkpoints of a node since its start, and entries that it has applied.
async fn progress(arena: &Arena, node: u64) -> Option<(f64, f64)> {
    let text = arena.observer.metrics(node).await?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.parse::<f64>().ok()
    };
    Some((value(CHECKPOINTED)?, value(APPLIED)?))
}

const CHECKPOINTS: f64 = 2.0;
const ENTRIES: f64 = 250.0;
const INSTALLED_WITHIN: Duration = Duration::from_secs(10);
const INSTALLED: &str = "leasehold_network_snapshots_installed_total";
const SENT: &str = "leasehold_network_snapshots_sent_total";
const CHECKPOINTED: &str = "leasehold_disk_backend_commits_total";
const APPLIED: &str = "leasehold_server_proposals_applied_total";

//! Nodes come and go while clients go on.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{Arena, Fault, HowMany, victims};
use crate::clock::{LIVENESS, eventually};
use crate::rng::Rng;

/// A node joins and votes; then one is removed, perhaps the leader, perhaps the new one.
pub(super) async fn change(arena: &Arena, rng: &mut Rng) -> Result<()> {
    let mut cluster = arena.cluster.lock().await;
    let ids = cluster.ids();
    arena.start(Fault::Membership, &ids, "a node joins, another is removed");
    let added = cluster.add().await?;
    arena.hold(Duration::from_millis(rng.between(200, 1_500))).await;
    let how_many = if rng.percent(40) { HowMany::Leader } else { HowMany::One };
    let ids = cluster.ids();
    let targets = victims(arena, rng, &ids, how_many).await;
    let gone = *targets.first().context("no node")?;
    let operator = cluster.operator();
    // Refused where the others are no majority at this moment: asked again until it is done.
    let name = gone.to_string();
    let what = format!("node {gone} is removed");
    let remove = || async { operator.run(&["member", "remove", &name]).await.ok() };
    eventually(&what, LIVENESS, remove).await?;
    let status = cluster.node_mut(gone)?.wait_end().await?;
    cluster.forget(gone);
    let left = arena.observer.members().await.unwrap_or_default();
    let is_there = |id: u64| left.iter().any(|member| member["node_id"] == id);
    if !is_there(gone) && (is_there(added) || added == gone) {
        let detail = format!("node {added} joined, node {gone} left and ended with {status}");
        arena.hit(Fault::Membership, &[added, gone], &detail);
    }
    arena.end(Fault::Membership, &[added, gone], "as many members as before");
    Ok(())
}

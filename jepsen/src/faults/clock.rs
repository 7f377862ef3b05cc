//! Clocks of one node: its wall clock set while it runs, or all its clocks at another rate.
//!
//! A monotonic clock never goes back on a real machine, so a rate is given to a process at its
//! start. One node at a time: the civil clock of the cluster follows the median, which a minority
//! does not move.

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::json;

use super::{Arena, Fault, HowMany, victims};
use crate::cluster::node::Pace;
use crate::rng::Rng;

/// Disturbs one node's clocks for a while.
pub(super) async fn disturb(arena: &Arena, rng: &mut Rng) -> Result<()> {
    let how_many = if rng.percent(50) { HowMany::Leader } else { HowMany::One };
    let ids = arena.observer.ids();
    let targets = victims(arena, rng, &ids, how_many).await;
    let id = *targets.first().context("no node")?;
    if rng.percent(35) {
        let rate = *rng.pick(&[0.5, 2.0, 1.1, 0.9]).unwrap_or(&2.0);
        rated(arena, rng, id, rate).await
    } else {
        set(arena, rng, id).await
    }
}

/// Its wall clock jumps, once or to and fro.
async fn set(arena: &Arena, rng: &mut Rng, id: u64) -> Result<()> {
    let jump_s = *rng.pick(&[60, -60, 3_600, -3_600, 5, -5]).unwrap_or(&60);
    let is_strobe = rng.percent(40);
    let hold = Duration::from_millis(rng.between(1_000, 5_000));
    let how = if is_strobe { "to and fro by" } else { "by" };
    arena.start(Fault::Clock, &[id], &format!("the wall clock, {how} {jump_s} s"));
    let until = arena.recorder.clock().elapsed() + hold;
    let mut seen_ms = 0_i64;
    let mut is_off = false;
    while arena.recorder.clock().elapsed() < until && !arena.is_stopping() {
        if is_strobe || !is_off {
            is_off = !is_off;
            let mut cluster = arena.cluster.lock().await;
            cluster.node_mut(id)?.set_wall(if is_off { jump_s } else { 0 })?;
        }
        arena.hold(Duration::from_millis(rng.between(100, 500))).await;
        seen_ms = seen_ms.max(widest_offset_ms(arena).await);
    }
    // Half of it: whoever measures is steered meanwhile.
    if seen_ms >= jump_s.abs() * 500 {
        let detail = format!("the leader measured clocks {seen_ms} ms apart");
        arena.hit(Fault::Clock, &[id], &detail);
    }
    arena.cluster.lock().await.node_mut(id)?.set_wall(0)?;
    arena.end(Fault::Clock, &[id], "the wall clock is right again");
    Ok(())
}

/// The largest difference between the leader's wall clock and another's, as the leader has it.
async fn widest_offset_ms(arena: &Arena) -> i64 {
    let Some(status) = arena.observer.status().await else { return 0 };
    let nodes = status["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let offsets = nodes.iter().filter_map(|node| node["detail"]["clock_offset_ms"].as_i64());
    offsets.map(i64::abs).max().unwrap_or(0)
}

/// It is started again with clocks at another rate.
async fn rated(arena: &Arena, rng: &mut Rng, id: u64, rate: f64) -> Result<()> {
    let hold = Duration::from_millis(rng.between(3_000, 7_000));
    let mut cluster = arena.cluster.lock().await;
    arena.start(Fault::Clock, &[id], &format!("all clocks of it at {rate} times the rate"));
    restart(&mut cluster, id, Pace::Times(rate)).await?;
    cluster.ready(id).await?;
    if rng.percent(70) {
        // A follower's clock is one voice of three; a leader's is what leases pass by. It may
        // refuse, or be refused: then it follows.
        let body = json!({ "to": id });
        let path = "/admin/cluster/transfer-leader";
        let _ = arena.observer.order(Method::POST, path, Some(&body)).await;
    }
    let clock = arena.recorder.clock();
    let before = (clock.elapsed(), uptime_ms(arena, id).await);
    arena.hold(hold).await;
    let after = (clock.elapsed(), uptime_ms(arena, id).await);
    if let (Some(first), Some(last)) = (before.1, after.1) {
        let real_ms = (after.0 - before.0).as_secs_f64() * 1_000.0;
        let counted = (last - first) / real_ms.max(1.0);
        // A loaded machine answers late; the rate must still be told from that of a right clock.
        if (counted - 1.0).abs() > (rate - 1.0).abs() / 2.0 {
            let detail = format!("it counted {counted:.2} seconds in each");
            arena.hit(Fault::Clock, &[id], &detail);
        }
    }
    restart(&mut cluster, id, Pace::Settable).await?;
    arena.end(Fault::Clock, &[id], "started again with right clocks");
    cluster.ready(id).await
}

async fn restart(cluster: &mut crate::cluster::Cluster, id: u64, pace: Pace) -> Result<()> {
    let node = cluster.node_mut(id)?;
    node.kill().await?;
    node.set_pace(pace);
    cluster.start(id)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of a run are few")]
async fn uptime_ms(arena: &Arena, id: u64) -> Option<f64> {
    let node = arena.observer.detail(id).await?;
    node["detail"]["uptime_ms"].as_u64().map(|ms| ms as f64)
}

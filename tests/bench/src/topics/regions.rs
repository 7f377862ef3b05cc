//! Three regions: each node in one of its own, and every byte between two nodes late by half of
//! their round trip.
//!
//! Clients ask the node of their region, which is near; only what nodes say to each other crosses
//! an ocean. So a checkout in the leader's region should take the round trip to the nearer of the
//! other two, and one elsewhere that and the round trip to the leader. What it takes beyond is
//! ours.

use std::time::Duration;

use anyhow::{Context, Result};
use leasehold_tests::operated::Operated;

use super::delay::{Delays, Door};
use super::{Found, Settings};
use crate::load::{Driven, Pace, drive};
use crate::plan::Workload;
use crate::progress::Progress;
use crate::systems::leasehold::Leasehold;
use crate::systems::leasehold::session::Job;

/// Measures checkouts in each region.
pub(super) async fn run(settings: &Settings, progress: &Progress) -> Result<Found> {
    progress.doing("founding a cluster of three regions");
    let delays = Delays::new(ONE_WAY_MS.map(|row| row.map(Duration::from_millis)));
    let (cluster, _doors) = found_nodes(&delays).await?;
    let mut system = Leasehold::of(cluster)?;
    system.prepare(Workload::Checkout, 0, &|_| {}).await?;
    system.lead_by(1).await?;
    delays.begin();
    let mut found = Found::default();
    let mut worst_beyond_ms: f64 = 0.0;
    for (region, name) in ["a", "b", "c"].into_iter().enumerate() {
        progress.doing(format!("checkouts in region {}", name.to_uppercase()));
        let driven = checkouts(&system, region, 1, Pace::Closed, settings).await?;
        let busy = checkouts(&system, region, BUSY_CLIENTS, Pace::Closed, settings).await?;
        let calm = Pace::Open { per_second: CALM_PER_SECOND };
        let calm = checkouts(&system, region, 1, calm, settings).await?;
        let floor_ms = floor_ms(region);
        let beyond_ms = driven.quantiles.p50_ms - floor_ms;
        worst_beyond_ms = worst_beyond_ms.max(beyond_ms);
        found.figure(&format!("{name}_p50_ms"), driven.quantiles.p50_ms);
        found.figure(&format!("{name}_p99_ms"), driven.quantiles.p99_ms);
        found.figure(&format!("{name}_round_trips_ms"), floor_ms);
        found.figure(&format!("{name}_beyond_ms"), beyond_ms);
        found.figure(&format!("{name}_errors"), (driven.errors + busy.errors) as f64);
        found.figure(&format!("{name}_busy_p50_ms"), busy.quantiles.p50_ms);
        found.figure(&format!("{name}_calm_p50_ms"), calm.quantiles.p50_ms);
    }
    anyhow::ensure!(system.leader().await? == 0, "leadership has left region A meanwhile");
    found.figure("worst_beyond_ms", worst_beyond_ms);
    found.figure("strangers", delays.strangers() as f64);
    found.notes.push("preset region; one client in one region at a time, closed loop".to_owned());
    found.notes.push(format!("busy: {BUSY_CLIENTS} clients instead"));
    found.notes.push(format!("calm: {CALM_PER_SECOND} checkouts a second instead"));
    Ok(found)
}

async fn checkouts(
    system: &Leasehold,
    region: usize,
    clients: usize,
    pace: Pace,
    settings: &Settings,
) -> Result<Driven> {
    let entrance = system.entrance().await?;
    let mut sessions = Vec::new();
    for client in 0..clients {
        sessions.push(entrance.session(region, client, Job::Take).await?);
    }
    let counted = async {
        tokio::time::sleep(settings.counted * 2).await;
        Ok(())
    };
    let (driven, ()) = drive(sessions, pace, settings.warm_up, &system.probe()?, counted).await?;
    Ok(driven)
}

/// Nodes whose peers reach them late, and the doors that must stay open.
async fn found_nodes(delays: &Delays) -> Result<(Operated, Vec<Door>)> {
    let first = delays.open_door(0)?;
    let shown = first.address().to_string();
    let mut cluster =
        Operated::init_with(&["--preset", "region", "--peer-advertise", &shown]).await?;
    settle(delays, &first, &cluster, 0)?;
    let mut doors = vec![first];
    for region in 1..REGIONS {
        let door = delays.open_door(region)?;
        let shown = door.address().to_string();
        let invited = cluster.cli_json(&["member", "add"])?;
        let token = invited["token"].as_str().context("no token")?.to_owned();
        let extra = ["--preset", "region", "--peer-advertise", &shown];
        let id = cluster.join(&token, &extra)?;
        cluster.start(id)?;
        settle(delays, &door, &cluster, region)?;
        cluster.votes(id).await?;
        cluster.ready(id).await?;
        doors.push(door);
    }
    Ok((cluster, doors))
}

/// Says where the newest node is. The places of a cluster are given out in order, and so are ids.
fn settle(delays: &Delays, door: &Door, cluster: &Operated, region: usize) -> Result<()> {
    let peer = cluster.addresses_of(u16::try_from(region)? + 1).pop();
    door.lead_to(peer.context("no address")?.parse()?);
    let nodes = cluster.api()?.dev.nodes;
    delays.lives_in(nodes.last().context("no nodes")?.pid, region);
    Ok(())
}

/// Round trip to the leader in A, and from there to the nearer of the others.
fn floor_ms(region: usize) -> f64 {
    let round_trip_ms = |from: usize, to: usize| (ONE_WAY_MS[from][to] * 2) as f64;
    let nearer_ms = round_trip_ms(0, 1).min(round_trip_ms(0, 2));
    round_trip_ms(region, 0) + nearer_ms
}

/// Regions, and nodes.
pub(super) const REGIONS: usize = 3;
const BUSY_CLIENTS: usize = 16;
/// So few that none waits for the one before.
const CALM_PER_SECOND: u64 = 4;
/// Half of the round trips A–B 40, A–C 80, B–C 80 ms.
const ONE_WAY_MS: [[u64; REGIONS]; REGIONS] = [[0, 20, 40], [20, 0, 40], [40, 40, 0]];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkout_takes_two_round_trips_where_the_leader_is_far() {
        assert_eq!([0, 1, 2].map(|region| floor_ms(region) as u64), [40, 80, 120]);
    }
}

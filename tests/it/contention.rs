//! Sixty-four clients on twenty seats while leaders are killed and nodes are paused.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, ensure};
use leasehold_tests::api::Reply;
use leasehold_tests::cluster::Cluster;
use leasehold_tests::holds::{Hold, fences_against_real_time, most_seats_held_at_once};
use leasehold_tests::tenant::{Run, live};
use leasehold_tests::wait::eventually;
use reqwest::Method;
use serde_json::json;
use storage::seam::Clock;
use tokio::task::JoinSet;

const CLIENTS: usize = 64;
const SEATS: u64 = 20;
const LEADER_KILLS: usize = 10;
/// 2 × the upper election timeout of `lan` (300 ms) + 100 ms.
const FAILOVER_BOUND: Duration = Duration::from_millis(700);

#[tokio::test(flavor = "multi_thread")]
async fn ten_leader_kills_and_pauses_never_oversell_or_lose_a_seat() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let api = cluster.api()?;
    let token = api.token(1).await?;
    let product = cluster.dev.app.product_id.clone();
    let run = Run::new(api.clone(), token.clone(), &product);
    let mut tenants = JoinSet::new();
    for number in 0..CLIENTS {
        tenants.spawn(live(Arc::clone(&run), number));
    }
    let kept = keep_one(&run).await?;
    let mut slowest = Duration::ZERO;
    for kill in 0..LEADER_KILLS {
        progress(&run, 50).await?;
        let leader = cluster.leader().await?;
        run.longest_gap_ns.store(0, Ordering::Relaxed);
        cluster.kill(leader)?;
        let gap = service_back_after(&run).await?;
        eprintln!("leader {leader} killed: nobody was served for {gap:?}");
        slowest = slowest.max(gap);
        if kill.is_multiple_of(3) {
            pause_a_survivor(&mut cluster, &run, leader).await?;
        }
        cluster.start_node(leader)?;
        cluster.all_ready().await?;
        still_held(&run, &kept).await?;
    }
    run.stop.store(true, Ordering::Relaxed);
    let mut holds = Vec::new();
    while let Some(ended) = tenants.join_next().await {
        holds.extend(ended??);
    }
    judge(&run, &holds)?;
    everything_is_returned(&run, &kept).await?;
    eprintln!(
        "{} holds, {} denied, {} retried, slowest return of service {slowest:?}",
        holds.len(),
        run.denied.load(Ordering::Relaxed),
        run.retried.load(Ordering::Relaxed),
    );
    ensure!(
        slowest <= FAILOVER_BOUND + Duration::from_secs(1),
        "service came back only after {slowest:?}"
    );
    Ok(())
}

fn judge(run: &Run, holds: &[Hold]) -> Result<()> {
    let most = most_seats_held_at_once(holds);
    // One seat is kept by the scenario itself all the while.
    ensure!(most < SEATS, "{} seats were held at once", most + 1);
    let wrong = fences_against_real_time(holds);
    ensure!(wrong.is_empty(), "fences went back: {:?}", wrong.first());
    let mut ids: Vec<&str> = holds.iter().map(|hold| hold.lease_id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() == holds.len(), "a lease id was granted twice");
    ensure!(run.denied.load(Ordering::Relaxed) > 0, "nobody was ever denied: no contention");
    ensure!(run.retried.load(Ordering::Relaxed) > 0, "nothing was ever retried: no fault hit");
    Ok(())
}

/// A lease taken before the first fault and returned after the last.
async fn keep_one(run: &Run) -> Result<String> {
    let body = json!({
        "product_id": run.product_id, "user": "keeper@bmw.com", "hostname": "keeper",
        "metadata": { "version": "8.2.1" },
    });
    eventually("one seat is kept", || async {
        match run.api.checkout(run.nodes[0], &run.token, Some("keeper"), &body).await {
            Ok(Reply::Answer(answer)) if answer.status == 200 => {
                answer.text("lease_id").ok().map(str::to_owned)
            }
            _ => None,
        }
    })
    .await
}

async fn still_held(run: &Run, lease_id: &str) -> Result<()> {
    for node in &run.nodes {
        let answer = eventually("a lease is read", || async {
            match run.api.lease(*node, &run.token, lease_id).await {
                Ok(Reply::Answer(answer)) if answer.status != 503 => Some(answer),
                _ => None,
            }
        })
        .await?;
        let answer = answer.expect(200)?;
        ensure!(answer.body["lease_id"] == lease_id, "another lease: {answer:?}");
    }
    Ok(())
}

/// Waits until this many more requests have been served.
async fn progress(run: &Run, more: u64) -> Result<()> {
    let goal = run.served.load(Ordering::Relaxed) + more;
    eventually("requests are served", || async {
        (run.served.load(Ordering::Relaxed) >= goal).then_some(())
    })
    .await
}

/// The longest time in which nobody was served, once all are served again.
async fn service_back_after(run: &Run) -> Result<Duration> {
    // Answers that were under way when the leader died still count: ask for two more per client.
    progress(run, 2 * CLIENTS as u64).await?;
    Ok(Duration::from_nanos(run.longest_gap_ns.load(Ordering::Relaxed)))
}

/// With the leader still down, a pause of one of the two left stops everything; nothing may be
/// sold meanwhile, and it must go on after.
async fn pause_a_survivor(cluster: &mut Cluster, run: &Run, dead: u64) -> Result<()> {
    let survivor = cluster.ids().into_iter().find(|id| *id != dead).unwrap_or(1);
    cluster.pause(survivor)?;
    let before = run.clock.monotonic_ns();
    eventually("four failover bounds pass", || {
        let waited = run.clock.monotonic_ns() - before;
        let over = u128::from(waited) > 4 * FAILOVER_BOUND.as_nanos();
        async move { over.then_some(()) }
    })
    .await?;
    cluster.unpause(survivor)?;
    progress(run, 1).await
}

async fn everything_is_returned(run: &Run, kept: &str) -> Result<()> {
    let returned = run.api.give_back(run.nodes[1], &run.token, kept).await?;
    let Reply::Answer(answer) = returned else { anyhow::bail!("no answer: {returned:?}") };
    answer.expect(200)?;
    for node in &run.nodes {
        let leases = run.api.admin(*node, Method::GET, "/admin/leases", None).await?.expect(200)?;
        let left = leases.body["leases"].as_array().map(Vec::len);
        ensure!(left == Some(0), "node {node} still has leases: {leases:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn all_three_killed_at_once_lose_nothing_acknowledged() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let api = cluster.api()?;
    let token = api.token(2).await?;
    let mut held = Vec::new();
    for number in 0..SEATS {
        let body = json!({
            "product_id": cluster.dev.app.product_id, "user": format!("u{number}@bmw.com"),
            "hostname": "h", "metadata": { "version": "8.2.1" },
        });
        let node = number % 3 + 1;
        let Reply::Answer(answer) = api.checkout(node, &token, None, &body).await? else {
            anyhow::bail!("no answer from node {node}");
        };
        held.push(answer.expect(200)?.body);
    }
    for id in cluster.ids() {
        cluster.kill(id)?;
    }
    for id in cluster.ids() {
        cluster.start_node(id)?;
    }
    cluster.all_ready().await?;
    for lease in &held {
        let id = lease["lease_id"].as_str().unwrap_or_default();
        let Reply::Answer(answer) = api.lease(3, &token, id).await? else {
            anyhow::bail!("no answer");
        };
        let answer = answer.expect(200)?;
        ensure!(answer.body["fence"] == lease["fence"], "changed: {answer:?} was {lease}");
    }
    let body = json!({ "product_id": cluster.dev.app.product_id, "user": "x", "hostname": "h" });
    let Reply::Answer(full) = api.checkout(1, &token, None, &body).await? else {
        anyhow::bail!("no answer");
    };
    let full = full.expect(409)?;
    ensure!(full.body["reason"] == "max_overage_exceeded", "{full:?}");
    ensure!(full.body["available_at"].is_string(), "{full:?}");
    Ok(())
}

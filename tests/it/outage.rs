//! Outages by short-lived leases: no quorum, or everything paused, for ten TTLs.
//!
//! The pauses here are the scenario itself (time must pass for real), not waits for a condition.

use std::time::Duration;

use anyhow::{Result, ensure};
use leasehold_tests::api::{Api, Reply};
use leasehold_tests::cluster::Cluster;
use leasehold_tests::packages::{import_and_register, sign, template, with_policy};
use leasehold_tests::wait::eventually;
use serde_json::{Value, json};

const TTL_S: u64 = 5;
/// A new leader goes on from the clock in the log, which is written once a second.
const GIVEN_BACK_MS: u64 = 1_000 + 250;
const OUTAGE: Duration = Duration::from_secs(10 * TTL_S);

struct Held {
    token: String,
    lease_id: String,
    left_ms: u64,
}

async fn hold_a_short_lease(cluster: &Cluster, api: &Api, name: &str) -> Result<Held> {
    let package = template(&cluster.dev, name, name, 3)?;
    let policy = json!({ "lease_ttl_seconds": TTL_S, "heartbeat_interval_seconds": 1 });
    let package = sign(&cluster.dev, cluster.scratch(), &with_policy(package, policy))?;
    let app = import_and_register(api, &package).await?;
    let token = api.token_of(1, &app.client_id, &app.client_secret).await?;
    let body = json!({
        "product_id": name, "user": "u@bmw.com", "hostname": "h",
        "metadata": { "version": "8.2.1" },
    });
    let Reply::Answer(answer) = api.checkout(1, &token, None, &body).await? else {
        anyhow::bail!("no answer");
    };
    let answer = answer.expect(200)?;
    let full_ms = answer.body["expires_in_ms"].as_u64().unwrap_or(0);
    ensure!(full_ms == TTL_S * 1_000, "the policy's TTL is not in force: {answer:?}");
    let lease_id = answer.text("lease_id")?.to_owned();
    let mut held = Held { token, lease_id, left_ms: full_ms };
    // Half of its time passes before the outage: a reset to the full term would show.
    held.left_ms = eventually("half of the lease's time is used up", || async {
        let (_, body) = first_read(api, &held).await.ok()?;
        body["expires_in_ms"].as_u64().filter(|left_ms| *left_ms * 2 <= full_ms)
    })
    .await?;
    Ok(held)
}

/// The lease as any node that answers shows it.
async fn first_read(api: &Api, held: &Held) -> Result<(u16, Value)> {
    eventually("the lease is read", || async {
        for node in &api.dev.nodes {
            match api.lease(node.id, &held.token, &held.lease_id).await {
                Ok(Reply::Answer(answer)) if answer.status != 503 => {
                    return Some((answer.status, answer.body));
                }
                _ => {}
            }
        }
        None
    })
    .await
}

async fn neither_expired_nor_reset(api: &Api, held: &Held) -> Result<()> {
    let (status, body) = first_read(api, held).await?;
    ensure!(status == 200, "the outage ended the lease: {status} {body}");
    let left = body["expires_in_ms"].as_u64().unwrap_or(0);
    ensure!(
        left > 0 && left <= held.left_ms + GIVEN_BACK_MS,
        "{left} ms left of {} ms: {body}",
        held.left_ms
    );
    // Led time goes on now, so it ends like any other.
    eventually("the lease ends in its time", || async {
        let (status, _) = first_read(api, held).await.ok()?;
        (status == 410 || status == 404).then_some(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_quorum_for_ten_ttls_expires_nothing_and_resets_nothing() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let api = cluster.api()?;
    let held = hold_a_short_lease(&cluster, &api, "short-quorum").await?;
    let leader = cluster.leader().await?;
    let followers: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    for id in &followers {
        cluster.pause(*id)?;
    }
    tokio::time::sleep(OUTAGE).await;
    let body = json!({ "product_id": "short-quorum", "user": "x", "hostname": "h" });
    for reply in [
        api.checkout(leader, &held.token, None, &body).await?,
        api.lease(leader, &held.token, &held.lease_id).await?,
    ] {
        let Reply::Answer(answer) = reply else { anyhow::bail!("hung without a quorum") };
        let answer = answer.expect(503)?;
        ensure!(answer.header("retry-after").is_some(), "{answer:?}");
        ensure!(answer.body["outcome"].is_string(), "{answer:?}");
    }
    for id in &followers {
        cluster.unpause(*id)?;
    }
    neither_expired_nor_reset(&api, &held).await
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_paused_for_ten_ttls_expires_nothing_and_resets_nothing() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let api = cluster.api()?;
    let held = hold_a_short_lease(&cluster, &api, "short-pause").await?;
    for id in cluster.ids() {
        cluster.pause(id)?;
    }
    tokio::time::sleep(OUTAGE).await;
    for id in cluster.ids() {
        cluster.unpause(id)?;
    }
    neither_expired_nor_reset(&api, &held).await
}

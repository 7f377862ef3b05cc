//! Every certificate, the authority, the data key, both peppers and the keys that sign tokens are
//! replaced under load: clients go on with the root, the tokens and the secrets that they have.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use leasehold_tests::api::Api;
use leasehold_tests::cluster::{Cluster, DevFile, leasehold};
use leasehold_tests::holds::{fences_against_real_time, most_seats_held_at_once};
use leasehold_tests::tenant::{Run, live};
use leasehold_tests::upkeep::all_agree;
use leasehold_tests::wait::eventually;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::Value;
use tokio::task::JoinSet;

const CLIENTS: usize = 8;
const SEATS: u64 = 20;

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_rotated_under_load_and_nobody_notices() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let old_root = cluster.scratch().join("old-ca.pem");
    std::fs::copy(&cluster.dev.ca_cert, &old_root)?;
    let api = cluster.api()?;
    let token = api.token(1).await?;
    let run = Run::new(api.clone(), token.clone(), &cluster.dev.app.product_id.clone());
    let mut tenants = JoinSet::new();
    for number in 0..CLIENTS {
        tenants.spawn(live(Arc::clone(&run), number));
    }
    progress(&run).await?;
    hang_up(&mut cluster).await?;
    leaves(&cluster, &run).await?;
    data_key(&cluster, &run).await?;
    peppers(&cluster, &run).await?;
    token_keys(&cluster, &run).await?;
    authority(&mut cluster, &run, &old_root).await?;
    restarts(&mut cluster, &run).await?;
    run.stop.store(true, Ordering::Relaxed);
    let mut holds = Vec::new();
    while let Some(ended) = tenants.join_next().await {
        holds.extend(ended??);
    }
    let most = most_seats_held_at_once(&holds);
    ensure!(most <= SEATS, "{most} seats were held at once");
    ensure!(fences_against_real_time(&holds).is_empty(), "fences went back");
    eprintln!("{} holds, {} retried", holds.len(), run.retried.load(Ordering::Relaxed));
    all_agree(&cluster).await
}

/// SIGHUP reads the files again and ends nothing.
async fn hang_up(cluster: &mut Cluster) -> Result<()> {
    for id in cluster.ids() {
        cluster.signal(id, Signal::HUP)?;
        eventually("SIGHUP is taken", || {
            let log = cluster.log(id).unwrap_or_default();
            async move { log.contains("SIGHUP").then_some(()) }
        })
        .await?;
        ensure!(cluster.is_up(id), "SIGHUP ended node {id}");
    }
    Ok(())
}

/// Every node's certificates, at once.
async fn leaves(cluster: &Cluster, run: &Run) -> Result<()> {
    let before = fingerprints(&verb(&cluster.dev, &["certs", "status"], 0)?);
    ensure!(before.len() == 6, "three gateways and three peers: {before:?}");
    verb(&cluster.dev, &["certs", "rotate", "--all"], 0)?;
    let after = fingerprints(&verb(&cluster.dev, &["certs", "status"], 0)?);
    ensure!(after.len() == 6 && after.iter().all(|it| !before.contains(it)), "{after:?}");
    progress(run).await?;
    let one = verb(&cluster.dev, &["certs", "rotate", "--node", "2"], 0)?;
    ensure!(one["step"] == "renewed", "{one}");
    progress(run).await?;
    undisturbed(run)
}

async fn data_key(cluster: &Cluster, run: &Run) -> Result<()> {
    let done = verb(&cluster.dev, &["keys", "rotate", "--data-key"], 0)?;
    ensure!(done["version"] == 2, "{done}");
    progress(run).await?;
    let dropped = eventually("every node works with the new data key", || async {
        let done = verb(&cluster.dev, &["keys", "rotate", "--data-key", "--finish"], 0).ok()?;
        Some(done["dropped"].clone())
    })
    .await?;
    ensure!(dropped == serde_json::json!([1]), "{dropped}");
    progress(run).await?;
    undisturbed(run)
}

/// The secrets that clients have stay good; shown once, they move, and the old version may go.
async fn peppers(cluster: &Cluster, run: &Run) -> Result<()> {
    verb(&cluster.dev, &["keys", "rotate", "--pepper", "client-secrets"], 0)?;
    let early =
        verb(&cluster.dev, &["keys", "rotate", "--pepper", "client-secrets", "--finish"], 6)?;
    ensure!(early["code"] == "key_in_use", "{early}");
    for node in cluster.ids() {
        // At once at every node, whichever has it under the new version already.
        run.api.token(node).await?;
    }
    verb(&cluster.dev, &["keys", "rotate", "--pepper", "client-secrets", "--finish"], 0)?;
    verb(&cluster.dev, &["keys", "rotate", "--pepper", "operator-tokens"], 0)?;
    for node in cluster.ids() {
        run.api.admin(node, Method::GET, "/admin/packages", None).await?.expect(200)?;
        run.api.token(node).await?;
    }
    let status = verb(&cluster.dev, &["keys", "status"], 0)?;
    ensure!(status["peppers"][1]["versions"][1]["version"] == 2, "{status}");
    verb(&cluster.dev, &["keys", "rotate", "--pepper", "operator-tokens", "--retire"], 0)?;
    for node in cluster.ids() {
        run.api.admin(node, Method::GET, "/admin/packages", None).await?.expect(200)?;
        run.api.token(node).await?;
    }
    progress(run).await?;
    undisturbed(run)
}

/// The tenants' token was signed by a key that now signs no more.
async fn token_keys(cluster: &Cluster, run: &Run) -> Result<()> {
    verb(&cluster.dev, &["keys", "rotate", "--token-signing", "--node", "1"], 0)?;
    let status = verb(&cluster.dev, &["keys", "status"], 0)?;
    let keys = status["token_keys"].as_array().context("keys")?;
    let retired = keys.iter().filter(|key| key["verifies_until"].is_string()).count();
    ensure!(retired == 2 && keys.len() == 8, "an RSA and an Ed25519 key of node 1: {status}");
    progress(run).await?;
    let new = run.api.token(1).await?;
    for node in cluster.ids() {
        // A lease that is none of ours: who asks is settled first.
        let path = "/api/v1/licenses/lease-1";
        let asked = run.api.request(node, Method::GET, path)?.bearer_auth(&new);
        run.api.answer(asked).await?.expect(404)?;
    }
    undisturbed(run)
}

/// The authority to its end. A node that is down meanwhile holds the next step up, is let in when
/// it comes back, and catches up.
async fn authority(cluster: &mut Cluster, run: &Run, old_root: &Path) -> Result<()> {
    let down = cluster.ids().into_iter().next_back().context("a node")?;
    cluster.kill(down)?;
    let waiting = verb(&cluster.dev, &["certs", "rotate", "--ca", "--wait", "5s"], 11)?;
    ensure!(waiting["step"] == "trusted" && waiting["waiting"][0]["node_id"] == down, "{waiting}");
    progress(run).await?;
    cluster.start_node(down)?;
    cluster.all_ready().await?;
    let replaced = verb(&cluster.dev, &["certs", "rotate", "--ca"], 0)?;
    ensure!(replaced["step"] == "replaced", "{replaced}");
    progress(run).await?;
    let patient = Api::new(&DevFile { ca_cert: old_root.to_owned(), ..cluster.dev.clone() })?;
    for node in cluster.ids() {
        eventually("who has the old ca.pem goes on", || patient.is_ready(node)).await?;
    }
    let finished = verb(&cluster.dev, &["certs", "rotate", "--ca", "--finish"], 0)?;
    ensure!(finished["step"] == "finished", "{finished}");
    let status = verb(&cluster.dev, &["certs", "status"], 0)?;
    let authorities = status["authorities"].as_array().context("authorities")?;
    ensure!(authorities.len() == 1, "{status}");
    let alone = authorities[0]["fingerprint"].clone();
    let certificates = certificates(&status);
    ensure!(certificates.iter().all(|it| it["issuer"] == alone), "{status}");
    eventually("the file of roots follows", || async {
        let roots = std::fs::read_to_string(&cluster.dev.ca_cert).ok()?;
        (roots.matches("BEGIN CERTIFICATE").count() == 1).then_some(())
    })
    .await?;
    ensure!(std::fs::read(&cluster.dev.ca_cert)? != std::fs::read(old_root)?, "the same root");
    let again = Api::new(&DevFile { ca_cert: old_root.to_owned(), ..cluster.dev.clone() })?;
    for node in cluster.ids() {
        eventually("who has the old ca.pem still goes on", || again.is_ready(node)).await?;
    }
    progress(run).await
}

/// What was written is what a start needs.
async fn restarts(cluster: &mut Cluster, run: &Run) -> Result<()> {
    for id in cluster.ids() {
        cluster.stop(id).await?;
        cluster.start_node(id)?;
        cluster.all_ready().await?;
        progress(run).await?;
    }
    verb(&cluster.dev, &["certs", "status"], 0)?;
    Ok(())
}

/// Runs a verb as an operator does; its JSON, when it ends with this code.
fn verb(dev: &DevFile, words: &[&str], code: i32) -> Result<Value> {
    let mut line = words.to_vec();
    let ca_cert = dev.ca_cert.display().to_string();
    let servers: Vec<&str> = dev.nodes.iter().map(|node| node.gateway.as_str()).collect();
    for server in servers {
        line.extend(["--server", server]);
    }
    line.extend(["--ca-cert", &ca_cert, "--token", &dev.admin_token, "-o", "json"]);
    let output = leasehold(&line)?;
    let (said, erred) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.code() == Some(code), "{words:?}: {}\n{said}{erred}", output.status);
    let document = if said.trim().is_empty() { erred } else { said };
    let value: Value = serde_json::from_str(&document).with_context(|| document.into_owned())?;
    Ok(if value["error"].is_object() { value["error"].clone() } else { value })
}

fn certificates(status: &Value) -> Vec<Value> {
    let nodes = status["nodes"].as_array().into_iter().flatten();
    nodes.flat_map(|node| node["certificates"].as_array().cloned().unwrap_or_default()).collect()
}

fn fingerprints(status: &Value) -> Vec<Value> {
    certificates(status).iter().map(|it| it["fingerprint"].clone()).collect()
}

/// Fifty more requests are served.
async fn progress(run: &Run) -> Result<()> {
    let before = run.served.load(Ordering::Relaxed);
    eventually("clients go on", || async {
        (run.served.load(Ordering::Relaxed) >= before + 50).then_some(())
    })
    .await
}

/// Nothing had to be sent twice.
fn undisturbed(run: &Run) -> Result<()> {
    let retried = run.retried.load(Ordering::Relaxed);
    ensure!(retried == 0, "{retried} requests had to be sent again");
    Ok(())
}

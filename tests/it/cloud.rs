//! The cloud protocol's calls, each through every node, against the wire of the document.

use anyhow::{Context, Result, ensure};
use leasehold_tests::api::{Answer, Reply};
use leasehold_tests::cluster::Cluster;
use leasehold_tests::packages::{import_and_register, sign, template};
use reqwest::Method;
use serde_json::{Value, json};

fn answered(reply: Reply) -> Result<Answer> {
    match reply {
        Reply::Answer(answer) => Ok(answer),
        Reply::Unknown(why) => anyhow::bail!("no answer: {why}"),
    }
}

fn checkout_body(product: &str) -> Value {
    json!({
        "product_id": product, "user": "alice@bmw.com", "hostname": "dev-workstation-042",
        "metadata": { "version": "8.2.1", "session_id": "sess-xyz789" },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_is_taken_renewed_read_and_returned_through_any_node() -> Result<()> {
    let cluster = Cluster::start(3).await?;
    let api = cluster.api()?;
    let product = cluster.dev.app.product_id.clone();
    for node in cluster.ids() {
        let token = api.token(node).await?;
        let other = node % 3 + 1;
        let body = checkout_body(&product);
        let taken = answered(api.checkout(node, &token, None, &body).await?)?.expect(200)?;
        ensure!(taken.body["status"] == "success", "{taken:?}");
        ensure!(taken.body["lease_type"] == "commit", "{taken:?}");
        ensure!(taken.body.get("cost").is_none_or(Value::is_null), "{taken:?}");
        ensure!(taken.body["heartbeat_interval_ms"] == 300_000, "{taken:?}");
        ensure!(taken.header("idempotency-key").is_some(), "{taken:?}");
        let lease = taken.text("lease_id")?.to_owned();
        ensure!(lease.starts_with("lease-"), "{lease}");
        let read = answered(api.lease(other, &token, &lease).await?)?.expect(200)?;
        ensure!(read.body["lease_id"] == lease.as_str(), "{read:?}");
        let renewal = taken.text("renewal_token")?.to_owned();
        let renewed =
            answered(api.heartbeat(other, &token, &lease, &renewal).await?)?.expect(200)?;
        ensure!(renewed.body["status"] == "renewed", "{renewed:?}");
        let next = renewed.text("renewal_token")?.to_owned();
        ensure!(next != renewal, "the renewal token did not change: {renewed:?}");
        let again = answered(api.heartbeat(node, &token, &lease, &renewal).await?)?.expect(200)?;
        ensure!(again.text("renewal_token")? == next, "a lost answer must come again: {again:?}");
        answered(api.heartbeat(node, &token, &lease, &next).await?)?.expect(200)?;
        // The first token is now two behind.
        let replayed =
            answered(api.heartbeat(node, &token, &lease, &renewal).await?)?.expect(409)?;
        ensure!(replayed.body["reason"] == "renewal_token_replayed", "{replayed:?}");
        let returned = answered(api.give_back(other, &token, &lease).await?)?.expect(200)?;
        ensure!(returned.body["status"] == "returned", "{returned:?}");
        ensure!(returned.body["total_cost"] == 0.0, "{returned:?}");
        let twice = answered(api.give_back(node, &token, &lease).await?)?.expect(200)?;
        ensure!(twice.body == returned.body, "{twice:?} was {returned:?}");
        answered(api.heartbeat(node, &token, &lease, &next).await?)?.expect(410)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn commit_seats_go_first_then_overage_with_its_cost_then_denial() -> Result<()> {
    let cluster = Cluster::start(3).await?;
    let api = cluster.api()?;
    let product = cluster.dev.app.product_id.clone();
    let token = api.token(1).await?;
    let body = checkout_body(&product);
    let mut first = None;
    for number in 0..20_u64 {
        let node = number % 3 + 1;
        let taken = answered(api.checkout(node, &token, None, &body).await?)?.expect(200)?;
        let expected = if number < 5 { "commit" } else { "overage" };
        ensure!(taken.body["lease_type"] == expected, "checkout {number}: {taken:?}");
        if number >= 5 {
            ensure!(taken.body["cost"] == 500.0, "checkout {number}: {taken:?}");
        }
        first.get_or_insert(taken);
    }
    let denied = answered(api.checkout(2, &token, None, &body).await?)?.expect(409)?;
    ensure!(denied.body["status"] == "denied", "{denied:?}");
    ensure!(denied.body["reason"] == "max_overage_exceeded", "{denied:?}");
    ensure!(denied.body["available_at"].is_string(), "{denied:?}");
    let lease = first.context("no checkout")?.text("lease_id")?.to_owned();
    answered(api.give_back(3, &token, &lease).await?)?.expect(200)?;
    let free = answered(api.checkout(1, &token, None, &body).await?)?.expect(200)?;
    ensure!(free.body["lease_type"] == "commit", "{free:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_makes_one_lease_and_another_body_is_refused() -> Result<()> {
    let cluster = Cluster::start(3).await?;
    let api = cluster.api()?;
    let product = cluster.dev.app.product_id.clone();
    let token = api.token(1).await?;
    let body = checkout_body(&product);
    let mut leases = Vec::new();
    for node in [1, 2, 3, 1] {
        let taken =
            answered(api.checkout(node, &token, Some("one-key"), &body).await?)?.expect(200)?;
        ensure!(taken.header("idempotency-key") == Some("one-key"), "{taken:?}");
        leases.push((taken.text("lease_id")?.to_owned(), taken.text("fence")?.to_owned()));
    }
    leases.dedup();
    ensure!(leases.len() == 1, "one key made {leases:?}");
    let mut other = body.clone();
    other["user"] = json!("mallory@bmw.com");
    answered(api.checkout(2, &token, Some("one-key"), &other).await?)?.expect(422)?;
    answered(api.give_back(1, &token, &leases[0].0).await?)?.expect(200)?;
    // The key's lease has ended: the caller is told so, no second one is made.
    let late = answered(api.checkout(3, &token, Some("one-key"), &body).await?)?;
    ensure!(late.status == 410 || late.status == 409, "{late:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_leases_are_renewed_in_one_call_each_judged_by_itself() -> Result<()> {
    let cluster = Cluster::start(3).await?;
    let api = cluster.api()?;
    let product = cluster.dev.app.product_id.clone();
    let token = api.token(1).await?;
    let mut leases = Vec::new();
    for _ in 0..3 {
        let taken = answered(api.checkout(1, &token, None, &checkout_body(&product)).await?)?;
        leases.push(taken.expect(200)?.body);
    }
    let ended = leases[2]["lease_id"].as_str().context("id")?.to_owned();
    answered(api.give_back(1, &token, &ended).await?)?.expect(200)?;
    let mut forged = ended.clone();
    forged.replace_range(10..12, if &forged[10..12] == "aa" { "bb" } else { "aa" });
    let items: Vec<Value> = leases
        .iter()
        .map(|lease| {
            json!({
                "lease_id": lease["lease_id"], "renewal_token": lease["renewal_token"],
            })
        })
        .chain([json!({ "lease_id": forged, "renewal_token": leases[0]["renewal_token"] })])
        .collect();
    let request = api
        .request(2, Method::POST, "/api/v1/licenses/heartbeats")?
        .bearer_auth(&token)
        .json(&json!({ "leases": items }));
    let answer = api.answer(request).await?.expect(200)?;
    let states: Vec<&str> = answer.body["results"]
        .as_array()
        .context("no results")?
        .iter()
        .filter_map(|result| result["status"].as_str())
        .collect();
    ensure!(states == ["renewed", "renewed", "ended", "unknown"], "{answer:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_apps_lease_is_not_found_and_a_removed_app_is_not_allowed() -> Result<()> {
    let cluster = Cluster::start(3).await?;
    let api = cluster.api()?;
    let package = template(&cluster.dev, "other-product-1", "other-product", 3)?;
    let package = sign(&cluster.dev, cluster.scratch(), &package)?;
    let other = import_and_register(&api, &package).await?;
    let other_token = api.token_of(2, &other.client_id, &other.client_secret).await?;
    let token = api.token(1).await?;
    let product = cluster.dev.app.product_id.clone();
    let taken =
        answered(api.checkout(1, &token, None, &checkout_body(&product)).await?)?.expect(200)?;
    let lease = taken.text("lease_id")?.to_owned();
    let renewal = taken.text("renewal_token")?.to_owned();
    answered(api.lease(3, &other_token, &lease).await?)?.expect(404)?;
    answered(api.heartbeat(3, &other_token, &lease, &renewal).await?)?.expect(404)?;
    answered(api.give_back(3, &other_token, &lease).await?)?.expect(404)?;
    let path = format!("/admin/apps/{}", other.app_id);
    let removed = api.admin(2, Method::DELETE, &path, None).await?;
    ensure!(removed.status < 300, "{removed:?}");
    let body = checkout_body("other-product");
    let refused = answered(api.checkout(1, &other_token, None, &body).await?)?.expect(401)?;
    ensure!(refused.header("www-authenticate").is_some(), "{refused:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_discovery_documents_and_the_openapi_document_are_served() -> Result<()> {
    let cluster = Cluster::start_with(3, &["--classic"]).await?;
    let api = cluster.api()?;
    let get = |node, path: &'static str| {
        let api = &api;
        async move { api.answer(api.request(node, Method::GET, path)?).await }
    };
    for node in cluster.ids() {
        let keys = get(node, "/.well-known/jwks.json").await?.expect(200)?;
        let keys = keys.body["keys"].as_array().context("no keys")?;
        for kind in ["RSA", "OKP"] {
            let of_kind = keys.iter().filter(|key| key["kty"] == kind).count();
            ensure!(of_kind == 3, "node {node} publishes {of_kind} {kind} signing keys");
        }
        let metadata = get(node, "/.well-known/oauth-authorization-server").await?.expect(200)?;
        ensure!(metadata.body["token_endpoint"].is_string(), "{metadata:?}");
        let document = get(node, "/openapi.json").await?.expect(200)?;
        let committed = std::fs::read("../client/openapi/openapi.json")?;
        ensure!(document.body == serde_json::from_slice::<Value>(&committed)?, "it differs");
        get(node, "/livez").await?.expect(200)?;
        get(node, "/readyz?verbose").await?.expect(200)?;
    }
    let token = api.token(1).await?;
    let product = &cluster.dev.app.product_id;
    let path = format!("/api/v1/licenses/discover?product={product}");
    let found =
        api.answer(api.request(2, Method::GET, &path)?.bearer_auth(&token)).await?.expect(200)?;
    ensure!(found.body["licenses"].as_array().is_some_and(|all| all.len() == 1), "{found:?}");
    let metrics = api.request(1, Method::GET, "/metrics")?.send().await?.text().await?;
    for name in ["has_leader", "leader_changes", "proposals", "fsync_duration", "refusals"] {
        ensure!(metrics.contains(name), "no {name} in the metrics");
    }
    Ok(())
}

//! Borrowed seats and the classic face over real processes: what leaves the network stays counted.

use anyhow::{Context, Result, ensure};
use leasehold_tests::api::{Answer, Api, Reply};
use leasehold_tests::cluster::Cluster;
use leasehold_tests::packages::SAMPLE_PACKAGE;
use leasehold_tests::wait::eventually;
use protocol::classic::signature::SignedParts;
use protocol::offline::{Expect, KeySet, OfflineError, inspect, verify};
use reqwest::Method;
use serde_json::{Value, json};
use storage::seam::{Clock, RealClock};

/// A lease as its holder knows it.
struct Held {
    lease_id: String,
    renewal_token: String,
}

async fn call(
    api: &Api,
    node: u64,
    method: Method,
    path: &str,
    bearer: &str,
    body: Option<&Value>,
) -> Result<Answer> {
    eventually(&format!("{path} is answered"), || async {
        let mut request = api.request(node, method.clone(), path).ok()?;
        if !bearer.is_empty() {
            request = request.bearer_auth(bearer);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        match api.send(request).await {
            Reply::Answer(answer) if answer.status != 503 => Some(answer),
            _ => None,
        }
    })
    .await
}

async fn check_out(api: &Api, node: u64, token: &str, user: &str) -> Result<Held> {
    let body = json!({
        "product_id": api.dev.app.product_id, "user": user, "hostname": format!("{user}-laptop"),
    });
    let path = "/api/v1/licenses/checkout";
    let taken = call(api, node, Method::POST, path, token, Some(&body)).await?.expect(200)?;
    Ok(Held {
        lease_id: taken.text("lease_id")?.to_owned(),
        renewal_token: taken.text("renewal_token")?.to_owned(),
    })
}

async fn borrow(api: &Api, node: u64, token: &str, held: &Held, seconds: u32) -> Result<Answer> {
    let path = format!("/api/v1/licenses/{}/borrow", held.lease_id);
    let body = json!({ "renewal_token": held.renewal_token, "duration_seconds": seconds });
    call(api, node, Method::POST, &path, token, Some(&body)).await
}

/// Seats of the sample package that are out.
async fn seats_out(api: &Api, node: u64) -> Result<u64> {
    let path = format!("/admin/packages/{SAMPLE_PACKAGE}");
    let admin = api.dev.admin_token.clone();
    let shown = call(api, node, Method::GET, &path, &admin, None).await?.expect(200)?;
    let seats = &shown.body["seats"];
    let out = seats["commit_in_use"].as_u64().zip(seats["overage_in_use"].as_u64());
    out.map(|(commit, overage)| commit + overage).with_context(|| format!("{shown:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_borrowed_seat_stays_taken_until_it_comes_back_or_is_written_off() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let api = cluster.api()?;
    let admin = api.dev.admin_token.clone();
    let leader = cluster.leader().await?;
    let others: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    let (follower, other) = (others[0], others[1]);
    let token = api.token(follower).await?;
    let path = "/.well-known/leasehold-offline-keys.json";
    let keys = call(&api, follower, Method::GET, path, "", None).await?.expect(200)?;
    let keys = KeySet::from_json(&serde_json::to_vec(&keys.body)?)?;
    let held = check_out(&api, follower, &token, "alice").await?;
    let too_long = borrow(&api, follower, &token, &held, 31_622_400).await?.expect(403)?;
    ensure!(too_long.body["reason"] == "borrow_too_long", "{too_long:?}");
    let borrowed = borrow(&api, follower, &token, &held, 3_600).await?.expect(200)?;
    let proof = borrowed.text("offline_token")?.to_owned();
    cluster.kill(leader)?;
    // A lost answer comes again, from another node, under another leader.
    let again = borrow(&api, other, &token, &held, 3_600).await?.expect(200)?;
    let repeated = inspect(again.text("offline_token")?)?.claims;
    let first = inspect(&proof)?.claims;
    // Only when it was signed may differ: the lease is held no longer than before.
    ensure!(repeated.jti == first.jti && repeated.exp == first.exp, "{repeated:?} was {first:?}");
    cluster.pause(other)?;
    // Without a quorum the token alone proves the seat.
    let now_ms = RealClock::new().wall_ms();
    let expect = Expect { issuer: Some(&api.dev.cluster_id), ..Expect::at(now_ms) };
    let claims = verify(&proof, &keys, &expect)?;
    ensure!(claims.borrowed && claims.lease_id == held.lease_id, "{claims:?}");
    let late = Expect::at(now_ms + 3_700_000);
    ensure!(matches!(verify(&proof, &keys, &late), Err(OfflineError::Expired { .. })), "ends");
    let foreign = Expect { issuer: Some("lh-0000000000000000"), ..expect };
    ensure!(verify(&proof, &keys, &foreign) == Err(OfflineError::WrongCluster), "foreign");
    cluster.unpause(other)?;
    ensure!(seats_out(&api, follower).await? == 1, "the borrowed seat is not taken");
    let validate = json!({ "offline_token": proof });
    let path = "/api/v1/offline/validate";
    let valid =
        call(&api, other, Method::POST, path, &token, Some(&validate)).await?.expect(200)?;
    ensure!(valid.body["valid"] == true && valid.body["state"] == "live", "{valid:?}");
    // An operator who does not know of the loss is told of the token.
    let release = format!("/admin/leases/{}/release", held.lease_id);
    let refused = call(&api, other, Method::POST, &release, &admin, Some(&json!({}))).await?;
    ensure!(refused.expect(409)?.body["code"] == "offline_token_outstanding", "release");
    ensure!(seats_out(&api, other).await? == 1, "a refused release freed the seat");
    let write_off = format!("/admin/leases/{}/write-off", held.lease_id);
    let lost = json!({ "reason": "stolen" });
    call(&api, follower, Method::POST, &write_off, &admin, Some(&lost)).await?.expect(200)?;
    ensure!(seats_out(&api, other).await? == 0, "a written-off seat is taken");
    let gone = call(&api, other, Method::POST, path, &token, Some(&validate)).await?.expect(200)?;
    ensure!(gone.body["valid"] == false && gone.body["state"] == "ended", "{gone:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn seats_borrowed_and_online_never_exceed_what_was_bought() -> Result<()> {
    let cluster = Cluster::start(3).await?;
    let api = cluster.api()?;
    let token = api.token(1).await?;
    let mut held = Vec::new();
    for number in 0..20_u64 {
        held.push(check_out(&api, number % 3 + 1, &token, &format!("user-{number}")).await?);
    }
    // Five of the twenty are kept for those online.
    let mut borrowed = 0;
    for (number, lease) in (0_u64..).zip(&held) {
        let answer = borrow(&api, number % 3 + 1, &token, lease, 600).await?;
        if answer.status == 200 {
            borrowed += 1;
        } else {
            ensure!(answer.expect(409)?.body["reason"] == "online_reserve", "the reserve");
        }
    }
    ensure!(borrowed == 15, "{borrowed} borrowed");
    ensure!(seats_out(&api, 2).await? == 20, "not every seat is out");
    let path = "/api/v1/licenses/checkout";
    let body = json!({ "product_id": api.dev.app.product_id, "user": "x", "hostname": "y" });
    let denied = call(&api, 3, Method::POST, path, &token, Some(&body)).await?.expect(409)?;
    ensure!(denied.body["reason"] == "max_overage_exceeded", "{denied:?}");
    // An early return frees the seat at once.
    let path = format!("/api/v1/licenses/{}/return", held[0].lease_id);
    let body = json!({ "lease_id": held[0].lease_id });
    call(&api, 1, Method::POST, &path, &token, Some(&body)).await?.expect(200)?;
    ensure!(seats_out(&api, 2).await? == 19, "an early return frees nothing");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_classic_face_takes_the_same_seats_and_is_not_there_unless_switched_on() -> Result<()> {
    let mut cluster = Cluster::start_with(3, &["--classic"]).await?;
    let api = cluster.api()?;
    let admin = api.dev.admin_token.clone();
    let secret = "techvendor_secret_of_this_test";
    let vendor = json!({ "vendor_id": "techvendor", "secret": secret });
    let path = "/admin/classic/vendors";
    call(&api, 1, Method::POST, path, &admin, Some(&vendor)).await?.expect(200)?;
    let leader = cluster.leader().await?;
    let follower = cluster.ids().into_iter().find(|id| *id != leader).context("no follower")?;
    let tool = api.dev.app.product_id.clone();
    // A client signs again for every try.
    let borrow = || async {
        let now = (RealClock::new().wall_ms() / 1_000).to_string();
        let parts = SignedParts { tool: &tool, user: "carol", timestamp: &now, api_key: None };
        let signature = protocol::classic::signature::sign(secret.as_bytes(), &parts);
        let request = api
            .request(follower, Method::POST, "/licenses/borrow")
            .ok()?
            .header("X-Vendor-ID", "techvendor")
            .header("X-Timestamp", &now)
            .header("X-Signature", signature)
            .json(&json!({ "tool": tool, "user": "carol" }));
        match api.send(request).await {
            Reply::Answer(answer) if answer.status == 200 => Some(answer),
            _ => None,
        }
    };
    let first = eventually("a tool is borrowed", borrow).await?;
    cluster.kill(leader)?;
    let second = eventually("a tool is borrowed after the leader's death", borrow).await?;
    ensure!(first.text("id")? != second.text("id")?, "two borrows are two seats");
    let out = seats_out(&api, follower).await?;
    ensure!((2..=20).contains(&out), "{out} seats are out");
    let status = format!("/licenses/{tool}/status");
    let shown = call(&api, follower, Method::GET, &status, "", None).await?.expect(200)?;
    ensure!(shown.body["borrowed"].as_u64() == Some(out), "{shown:?}");
    for answer in [&first, &second] {
        let body = json!({ "id": answer.text("id")? });
        let path = "/licenses/return";
        call(&api, follower, Method::POST, path, "", Some(&body)).await?.expect(200)?;
        let twice = call(&api, follower, Method::POST, path, "", Some(&body)).await?.expect(404)?;
        ensure!(twice.body["detail"] == "Borrow record not found", "{twice:?}");
    }
    let plain = Cluster::start(1).await?;
    let off = call(&plain.api()?, 1, Method::GET, "/licenses/status", "", None).await?;
    ensure!(off.status == 404, "the classic face is on: {off:?}");
    Ok(())
}

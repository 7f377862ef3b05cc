//! Every protocol of license keys over real processes: asked through a follower, with the leader
//! killed in the middle, and the seats counted afterwards. One package serves all of them.

use anyhow::{Context, Result, ensure};
use leasehold_tests::api::{Answer, Api, Reply};
use leasehold_tests::cluster::Cluster;
use leasehold_tests::packages::SAMPLE_PACKAGE;
use leasehold_tests::wait::eventually;
use protocol::device::crypto::SessionKey;
use protocol::device::envelope;
use protocol::device::wire::ActivationResponse;
use protocol::secret::Secret;
use reqwest::Method;
use serde_json::{Value, json};

const FINGERPRINT: &str = "43c157f62dac446b3cd8ceb2e6ff28f41e02ca03cca6dadc576f270309110f39";
const HOST_HASH: &str = "8f1f0466fc41bb15";

/// Sends a JSON body until something other than an obstacle is answered: none of these calls takes
/// a second seat when it is repeated.
async fn post(
    api: &Api,
    node: u64,
    path: &str,
    bearer: Option<&str>,
    body: &Value,
) -> Result<Answer> {
    eventually(&format!("{path} is answered"), || async {
        let mut request = api.request(node, Method::POST, path).ok()?.json(body);
        if let Some(bearer) = bearer {
            request = request.bearer_auth(bearer);
        }
        match api.send(request).await {
            Reply::Answer(answer) if answer.status != 503 => Some(answer),
            _ => None,
        }
    })
    .await
}

/// Issues a license and gives its id and key.
async fn issue(api: &Api, node: u64, mut body: Value) -> Result<(String, String)> {
    body["package_id"] = json!(SAMPLE_PACKAGE);
    let issued = api.admin(node, Method::POST, "/admin/licenses", Some(body)).await?.expect(201)?;
    let license = issued.body["license"]["license_id"].as_str().context("no license id")?;
    Ok((license.to_owned(), issued.text("license_key")?.to_owned()))
}

/// Changes a license until the change is answered.
async fn change(api: &Api, node: u64, license: &str, verb: &str) -> Result<Answer> {
    let path = format!("/admin/licenses/{license}/{verb}");
    eventually("the license is changed", || async {
        let answer = api.admin(node, Method::POST, &path, None).await.ok()?;
        (answer.status != 503).then_some(answer)
    })
    .await?
    .expect(200)
}

/// Seats of the package that are out, as a node that has caught up says.
async fn seats_out(api: &Api, node: u64) -> Result<u64> {
    let path = format!("/admin/packages/{SAMPLE_PACKAGE}");
    let answer = eventually("the package is shown", || async {
        let answer = api.admin(node, Method::GET, &path, None).await.ok()?;
        (answer.status == 200).then_some(answer)
    })
    .await?;
    let seats = &answer.body["seats"];
    let out = seats["commit_in_use"].as_u64().zip(seats["overage_in_use"].as_u64());
    out.map(|(commit, overage)| commit + overage).with_context(|| format!("{answer:?}"))
}

/// Two nodes that do not lead, then the leader.
async fn followers_and_leader(cluster: &Cluster) -> Result<(u64, u64, u64)> {
    let leader = cluster.leader().await?;
    let others: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    Ok((others[0], others[1], leader))
}

fn session_of(answer: &Answer, fingerprint: &str) -> Result<SessionKey> {
    let bytes = serde_json::to_vec(&answer.body)?;
    let (sealed, _) = ActivationResponse::read(&bytes).map_err(|e| anyhow::anyhow!("{e:?}"))?;
    let opened = sealed.open(fingerprint, None).map_err(|e| anyhow::anyhow!("{e:?}"))?;
    Ok(Secret::new(*opened.session_key.expose()))
}

/// An enveloped verification, as a client sends it that knows its session key.
async fn verify_secure(
    api: &Api,
    node: u64,
    session: &SessionKey,
    key: &str,
    body: &Value,
    nonce: u8,
) -> Result<(u16, Value)> {
    let sealed = envelope::seal(session, [nonce; 12], &serde_json::to_vec(body)?);
    let reply = eventually("the envelope is answered", || async {
        let request = api
            .request(node, Method::POST, "/api/verify")
            .ok()?
            .header("Content-Type", "application/json")
            .header("X-Device-Fingerprint", FINGERPRINT)
            .header("X-License-Key", key.replace('-', ""))
            .header("X-License-Secure", "1")
            .body(sealed.clone());
        match api.send(request).await {
            Reply::Answer(answer) if answer.status != 503 => Some(answer),
            _ => None,
        }
    })
    .await?;
    ensure!(reply.header("x-license-secure") == Some("1"), "not enveloped: {reply:?}");
    let opened = envelope::open(session, &serde_json::to_vec(&reply.body)?)
        .map_err(|error| anyhow::anyhow!("{error:?}: {reply:?}"))?;
    Ok((reply.status, serde_json::from_slice(&opened)?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_keeps_its_seat_and_its_session_through_the_leaders_death() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let api = cluster.api()?;
    let (follower, other, leader) = followers_and_leader(&cluster).await?;
    let before = seats_out(&api, follower).await?;
    let plan = json!({ "max_activations": 2, "check_mode": "monthly" });
    let request = json!({ "protocol": "device", "email": "owner@example.com", "plan": plan });
    let (license, key) = issue(&api, follower, request).await?;
    let shown = api.admin(other, Method::GET, &format!("/admin/licenses/{license}"), None).await?;
    let client = shown.expect(200)?.text("client_id")?.to_owned();
    let ask = |fingerprint: &str| {
        json!({
            "email": "owner@example.com", "client_id": client,
            "license_key": key, "device_fingerprint": fingerprint,
        })
    };
    let first =
        post(&api, follower, "/api/activate", None, &ask(FINGERPRINT)).await?.expect(200)?;
    let session = session_of(&first, FINGERPRINT)?;
    cluster.kill(leader)?;
    let (status, verified) =
        verify_secure(&api, other, &session, &key, &ask(FINGERPRINT), 1).await?;
    ensure!(status == 200 && verified["success"] == true, "{status}: {verified}");
    let again =
        post(&api, follower, "/api/activate", None, &ask(FINGERPRINT)).await?.expect(200)?;
    let same = session_of(&again, FINGERPRINT)?;
    ensure!(same.expose() == session.expose(), "a known device got another session key");
    ensure!(seats_out(&api, other).await? == before + 1, "confirming took a seat");
    let second = FINGERPRINT.replace('4', "5");
    post(&api, other, "/api/activate", None, &ask(&second)).await?.expect(200)?;
    let third = FINGERPRINT.replace('4', "6");
    let refused = post(&api, follower, "/api/activate", None, &ask(&third)).await?.expect(409)?;
    ensure!(refused.body["error"] == "Maximum devices (2) reached", "{refused:?}");
    // The session key is in the replicated state, not in a process.
    cluster.start_node(leader)?;
    cluster.all_ready().await?;
    for id in cluster.ids() {
        cluster.kill(id)?;
    }
    for id in cluster.ids() {
        cluster.start_node(id)?;
    }
    cluster.all_ready().await?;
    let (status, verified) =
        verify_secure(&api, leader, &session, &key, &ask(FINGERPRINT), 2).await?;
    ensure!(status == 200 && verified["success"] == true, "{status}: {verified}");
    change(&api, follower, &license, "suspend").await?;
    let refused = post(&api, other, "/api/verify", None, &ask(FINGERPRINT)).await?.expect(401)?;
    ensure!(refused.body["error"].is_string(), "{refused:?}");
    change(&api, other, &license, "resume").await?;
    post(&api, leader, "/api/verify", None, &ask(FINGERPRINT)).await?.expect(200)?;
    change(&api, leader, &license, "revoke").await?;
    post(&api, follower, "/api/verify", None, &ask(FINGERPRINT)).await?.expect(401)?;
    ensure!(seats_out(&api, follower).await? == before, "a revoked license keeps seats");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_keeps_its_slot_through_the_leaders_death() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let api = cluster.api()?;
    let (follower, other, leader) = followers_and_leader(&cluster).await?;
    let before = seats_out(&api, follower).await?;
    let plan = json!({ "max_nodes": 3, "quotas": { "tokens": 1000 } });
    let request = json!({ "protocol": "deployment", "plan": plan });
    let (license, key) = issue(&api, follower, request).await?;
    let holder = json!({ "license_key": key, "cluster_id": "bzzz-cluster-1a2b3c4d-walnut" });
    let rival = json!({ "license_key": key, "cluster_id": "bzzz-cluster-99999999-oak" });
    let setup = json!({
        "license_key": key, "email": "customer@example.com", "organization_name": "Example Corp",
    });
    post(&api, other, "/v1/license/activate", None, &setup).await?.expect(200)?;
    ensure!(seats_out(&api, follower).await? == before, "a setup call took a seat");
    let taken = post(&api, follower, "/v1/license/activate", None, &holder).await?.expect(200)?;
    let token = taken.text("access_token")?.to_owned();
    cluster.kill(leader)?;
    let beat = post(&api, other, "/v1/license/heartbeat", Some(&token), &holder).await?;
    let token = beat.expect(200)?.text("access_token")?.to_owned();
    let refused = post(&api, follower, "/v1/license/activate", None, &rival).await?.expect(409)?;
    ensure!(refused.body["error"] == "cluster_slot_in_use", "{refused:?}");
    ensure!(refused.body["available_at"].is_string(), "{refused:?}");
    ensure!(seats_out(&api, follower).await? == before + 1, "not one seat is out");
    let mut large = holder.clone();
    large["nodes"] = json!(4);
    let refused = post(&api, other, "/v1/license/heartbeat", Some(&token), &large).await?;
    let refused = refused.expect(403)?;
    ensure!(refused.body["error"] == "node_limit_exceeded", "{refused:?}");
    let job = json!({
        "cluster_id": "bzzz-cluster-1a2b3c4d-walnut", "job_id": "job-1",
        "metrics": { "tokens": 900 },
    });
    for node in [follower, other, follower] {
        let counted = post(&api, node, "/v1/telemetry", Some(&token), &job).await?.expect(202)?;
        ensure!(counted.body["usage"]["tokens"]["used"] == 900, "counted twice: {counted:?}");
        ensure!(counted.body["upgrade"]["suggested"] == true, "{counted:?}");
    }
    change(&api, follower, &license, "suspend").await?;
    let refused = post(&api, other, "/v1/license/heartbeat", Some(&token), &holder).await?;
    ensure!(refused.expect(403)?.body["error"] == "license_suspended", "suspension comes first");
    change(&api, other, &license, "resume").await?;
    let refused = post(&api, follower, "/v1/license/heartbeat", Some(&token), &holder).await?;
    let refused = refused.expect(401)?;
    ensure!(refused.body["error"] == "stale_token_version", "{refused:?}");
    ensure!(refused.text("message")?.contains("stale token_version"), "{refused:?}");
    let renewed = post(&api, other, "/v1/license/activate", None, &holder).await?.expect(200)?;
    ensure!(renewed.body["token_version"].as_u64() > Some(1), "{renewed:?}");
    let token = renewed.text("access_token")?.to_owned();
    for node in [follower, other] {
        let gone = post(&api, node, "/v1/license/deactivate", Some(&token), &holder).await?;
        ensure!(gone.expect(200)?.body["status"] == "deactivated", "deactivation is repeatable");
    }
    ensure!(seats_out(&api, other).await? == before, "the slot was not freed");
    post(&api, follower, "/v1/license/activate", None, &rival).await?.expect(200)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evaluation_survives_the_leader_and_tells_nobody_who_it_was() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let api = cluster.api()?;
    let (follower, other, leader) = followers_and_leader(&cluster).await?;
    let before = seats_out(&api, follower).await?;
    issue(&api, follower, json!({ "protocol": "evaluation", "open": true })).await?;
    let ask = json!({
        "version": "2.0.0", "type": "evaluation", "timestamp": 1795325574.195,
        "hostname_hash": HOST_HASH, "activation_code": null, "org_id": "org-12345",
        "project_id": "project-atlas-v2",
    });
    let activated = post(&api, follower, "/v1/activate", None, &ask).await?.expect(200)?;
    ensure!(activated.body["ok"] == true, "{activated:?}");
    ensure!(activated.body["server_time"].is_number(), "{activated:?}");
    let id = activated.text("activation_id")?.to_owned();
    cluster.kill(leader)?;
    let check = json!({
        "activation_id": id, "hostname_hash": HOST_HASH, "org_id": "org-12345",
        "project_id": "project-atlas-v2", "timestamp": 1795325575.5,
    });
    // The aliases that a client makes of the default base.
    for (node, path) in [(other, "/v1/validate"), (follower, "/v1/validate/validate")] {
        let valid = post(&api, node, path, None, &check).await?.expect(200)?;
        ensure!(valid.body["ok"] == true, "{path}: {valid:?}");
    }
    let again = post(&api, other, "/v1/validate/activate", None, &ask).await?.expect(200)?;
    ensure!(again.text("activation_id")? == id, "one host, one activation: {again:?}");
    ensure!(seats_out(&api, other).await? == before + 1, "not one seat is out");
    let found = "/admin/activations?protocol=evaluation&org_id=org-12345&state=active";
    let listed = api.admin(follower, Method::GET, found, None).await?.expect(200)?;
    ensure!(listed.body["total"] == 1, "{listed:?}");
    let activation = listed.body["activations"][0]["activation_id"].as_str().context("no id")?;
    let path = format!("/admin/activations/{activation}/revoke");
    api.admin(other, Method::POST, &path, Some(json!({ "reason": "terms" }))).await?.expect(200)?;
    let refused = post(&api, follower, "/v1/validate", None, &check).await?.expect(200)?;
    ensure!(refused.body["ok"] == false && refused.body["revoked"] == true, "{refused:?}");
    ensure!(seats_out(&api, follower).await? == before, "a revoked evaluation keeps its seat");
    for node in [follower, other] {
        let log = cluster.log(node)?;
        ensure!(
            !log.contains("127.0.0.1:0") && !log.contains(HOST_HASH),
            "node {node} logs a host"
        );
        ensure!(log.contains("license_validation"), "node {node} logs no event");
    }
    Ok(())
}

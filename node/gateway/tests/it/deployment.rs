//! `deployment`: clusters that activate, beat, leave and report, and every refusal they can meet.

use std::time::Duration;

use http::Method;
use protocol::deployment::token::{self, DeploymentClaims};
use protocol::keys::PrivateKey;
use protocol::offline::{self, Expect, Holder, HolderKind, KeySet};
use protocol::secret::Secret;
use serde_json::{Value, json};

use crate::issued::{DAY_MS, Issued, change, issue, now_ms, seats_taken, world};
use crate::world::{Answer, LIVENESS, PACKAGE, PRODUCT, World, keys, text_of};

const CLUSTER: &str = "bzzz-cluster-1b9d6bcd-walnut";
const OTHER: &str = "bzzz-cluster-aaaaaaaa-oak";
const ADDRESS: &str = "203.0.113.77";

async fn plain() -> World {
    world(json!({})).await
}

async fn standard(world: &World, plan: Value) -> Issued {
    issue(world, "deployment", plan, json!({})).await
}

async fn post(world: &World, path: &str, body: Value) -> Answer {
    world.post(path).json(&body).send().await
}

/// The runtime call.
async fn activate(world: &World, key: &str, cluster_id: &str) -> Answer {
    let body = json!({ "license_key": key, "cluster_id": cluster_id });
    post(world, "/v1/license/activate", body).await
}

async fn heartbeat(world: &World, key: &str, cluster_id: &str, token: &str) -> Answer {
    let body = json!({ "license_key": key, "cluster_id": cluster_id });
    world.post("/v1/license/heartbeat").bearer(token).json(&body).send().await
}

async fn deactivate(world: &World, key: &str, cluster_id: &str) -> Answer {
    let body = json!({ "license_key": key, "cluster_id": cluster_id });
    post(world, "/v1/license/deactivate", body).await
}

/// A refusal has this status and code; gives its sentence.
fn refused(answer: &Answer, status: u16, code: &str) -> String {
    let body = answer.expect(status);
    assert_eq!(body["error"], code, "{answer:?}");
    let retry =
        answer.header("retry-after").map(|seconds| seconds.parse::<u64>().expect("a number"));
    assert_eq!(body["retry_after_seconds"].as_u64(), retry, "{answer:?}");
    assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{answer:?}");
    text_of(&body, "message").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_sets_up_runs_beats_and_leaves() {
    let world = plain().await;
    let plan = json!({
        "slug": "gold", "kind": "standard", "max_nodes": 10,
        "features": [{ "slug": "basic-coordination" }, { "slug": "off", "enabled": false }],
    });
    let issued = standard(&world, plan).await;
    let setup = json!({
        "license_key": issued.key.to_lowercase(),
        "email": "Customer@Example.com",
        "organization_name": "Example Corp",
        "metadata": { "hostname": "walnut" },
        "terms": { "agreed": true, "timestamp": "2025-09-01T12:29:45+02:00" },
    });
    let shown = post(&world, "/v1/license/activate", setup).await.expect(200);
    let cluster_id = text_of(&shown, "cluster_id");
    assert!(cluster_id.starts_with("bzzz-cluster-") && cluster_id.ends_with("-walnut"));
    assert!(shown.get("access_token").is_none(), "{shown}");
    assert_eq!(seats_taken(&world).await, 0);
    let path = format!("/admin/licenses/{}", issued.license_id);
    let license = world.get(&path).bearer(&world.auditor).send().await.expect(200);
    assert_eq!(license["terms_accepted_at"], "2025-09-01T10:29:45Z");
    assert_eq!(license["activations"], 0);

    let active = activate(&world, &issued.key, cluster_id).await.expect(200);
    let want = json!({
        "status": "ok", "token_type": "Bearer", "token_version": 1, "cluster_id": cluster_id,
        "license_type": "standard", "max_nodes": 10, "features": ["basic-coordination"],
        "heartbeat_interval_seconds": 900, "offline_grace_seconds": 86_400,
    });
    for (name, value) in want.as_object().expect("an object") {
        assert_eq!(&active[name], value, "{name}");
        assert_eq!(&shown[name], value, "{name} of the setup");
    }
    for name in ["access_token", "expires_at", "license_expires_at", "validated_at"] {
        assert!(active[name].is_string(), "{name}");
    }
    assert!(active.get("offline_token").is_none(), "the package allows none");
    assert_eq!(seats_taken(&world).await, 1);

    let token = text_of(&active, "access_token");
    let again = activate(&world, &issued.key, cluster_id).await;
    again.expect(200);
    let beaten = heartbeat(&world, &issued.key, cluster_id, token).await.expect(200);
    assert!(beaten["access_token"].is_string());
    let body = json!({ "license_key": issued.key, "cluster_id": cluster_id, "token": token });
    post(&world, "/v1/license/heartbeat", body).await.expect(200);
    assert_eq!(seats_taken(&world).await, 1);

    for _ in 0..2 {
        let left = deactivate(&world, &issued.key, cluster_id).await;
        assert_eq!(left.expect(200), json!({ "status": "deactivated" }));
        assert_eq!(seats_taken(&world).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_cluster_holds_the_slot_until_it_leaves_or_falls_silent() {
    let world = plain().await;
    let issued = standard(&world, json!({})).await;
    let active = activate(&world, &issued.key, CLUSTER).await.expect(200);
    let in_use = activate(&world, &issued.key, OTHER).await;
    let sentence = refused(&in_use, 409, "cluster_slot_in_use");
    assert_eq!(sentence, "license is in use by another cluster");
    let seconds = in_use.json()["retry_after_seconds"].as_u64().expect("a number");
    assert!((86_000..=86_400).contains(&seconds), "{in_use:?}");
    assert!(in_use.json()["available_at"].is_string());
    // A token is good for its own cluster only.
    let token = text_of(&active, "access_token");
    refused(&heartbeat(&world, &issued.key, OTHER, token).await, 401, "invalid_token");
    deactivate(&world, &issued.key, OTHER).await.expect(200);
    refused(&activate(&world, &issued.key, OTHER).await, 409, "cluster_slot_in_use");
    deactivate(&world, &issued.key, CLUSTER).await.expect(200);
    activate(&world, &issued.key, OTHER).await.expect(200);
    // The first cluster's token is genuine, but the slot is another's now.
    let lost = heartbeat(&world, &issued.key, CLUSTER, token).await;
    refused(&lost, 409, "cluster_slot_in_use");
    assert_eq!(seats_taken(&world).await, 1);

    let brief = standard(&world, json!({ "slot_ttl_seconds": 1 })).await;
    activate(&world, &brief.key, CLUSTER).await.expect(200);
    let freed = async {
        while activate(&world, &brief.key, OTHER).await.status.as_u16() != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIVENESS, freed).await.expect("a silent cluster loses the slot");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_changes_makes_tokens_stale_at_the_next_call() {
    let world = plain().await;
    let mut issued = standard(&world, json!({})).await;
    let mut token = String::new();
    let steps = [
        ("suspend", 403, "license_suspended"),
        ("resume", 401, "stale_token_version"),
        ("revoke", 403, "license_cancelled"),
        ("reinstate", 401, "stale_token_version"),
        ("rotate", 404, "unknown_license_key"),
        ("cancel", 403, "license_cancelled"),
    ];
    for (version, (what, during, code)) in (1..).zip(steps) {
        if during == 403 || what == "rotate" {
            let active = activate(&world, &issued.key, CLUSTER).await.expect(200);
            assert_eq!(active["token_version"], version, "{what}");
            token = text_of(&active, "access_token").to_owned();
        }
        let changed = change(&world, &issued, what).await;
        let beaten = heartbeat(&world, &issued.key, CLUSTER, &token).await;
        let sentence = refused(&beaten, during, code);
        assert_eq!(sentence.contains("stale token_version"), code.starts_with("stale"), "{what}");
        let report = json!({ "cluster_id": CLUSTER, "job_id": what, "metrics": { "tokens": 1 } });
        let reported = world.post("/v1/telemetry").bearer(&token).json(&report).send().await;
        if what == "rotate" {
            refused(&reported, 401, "stale_token_version");
            issued.key = text_of(&changed, "license_key").to_owned();
            let beaten = heartbeat(&world, &issued.key, CLUSTER, &token).await;
            refused(&beaten, 401, "stale_token_version");
        } else {
            refused(&reported, during, code);
        }
        if during == 403 {
            refused(&activate(&world, &issued.key, CLUSTER).await, 403, code);
            let setup = json!({ "license_key": issued.key, "email": "a@b.example" });
            refused(&post(&world, "/v1/license/activate", setup).await, 403, code);
        }
    }
    assert_eq!(seats_taken(&world).await, 0);
    deactivate(&world, &issued.key, CLUSTER).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_are_not_ours_are_refused_and_change_nothing() {
    let world = plain().await;
    let issued = standard(&world, json!({})).await;
    let other = standard(&world, json!({})).await;
    let active = activate(&world, &issued.key, CLUSTER).await.expect(200);
    let genuine = text_of(&active, "access_token");
    let elsewhere = activate(&world, &other.key, CLUSTER).await.expect(200);
    let foreign_license = text_of(&elsewhere, "access_token");
    let now = u64::try_from(now_ms() / 1_000).expect("a time");
    let claims = DeploymentClaims {
        iss: "lh-test".to_owned(),
        license_id: issued.license_id.clone(),
        cluster_id: CLUSTER.to_owned(),
        token_version: 1,
        epoch: 1,
        iat: now,
        exp: now + 600,
    };
    let key = keys().offline.key;
    let forged = |key: &PrivateKey, change: &dyn Fn(&mut DeploymentClaims)| {
        let mut claims = claims.clone();
        change(&mut claims);
        token::sign(key, &claims).expect("a token")
    };
    let foreign_key = PrivateKey::ed25519(&Secret::new([99; 32]));
    let flipped = {
        let mut bytes = genuine.as_bytes().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] = if bytes[middle] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).expect("text")
    };
    heartbeat(&world, &issued.key, CLUSTER, &forged(&key, &|_| {})).await.expect(200);
    let table = [
        ("nonsense", "nonsense".to_owned()),
        ("a changed byte", flipped),
        ("another key", forged(&foreign_key, &|_| {})),
        ("another server", forged(&key, &|claims| claims.iss = "lh-other".to_owned())),
        ("another epoch", forged(&key, &|claims| claims.epoch = 2)),
        ("another cluster", forged(&key, &|claims| claims.cluster_id = OTHER.to_owned())),
        ("a past end", forged(&key, &|claims| claims.exp = now - 1)),
        ("no license", forged(&key, &|claims| claims.license_id = "x".to_owned())),
        ("another license", foreign_license.to_owned()),
        ("no number", forged(&key, &|claims| claims.token_version = 1 << 40)),
    ];
    for (what, text) in &table {
        let answer = heartbeat(&world, &issued.key, CLUSTER, text).await;
        let sentence = refused(&answer, 401, "invalid_token");
        assert_eq!(sentence, "the access token is missing, wrong or over", "{what}");
        if *what == "another license" {
            continue;
        }
        let report = json!({ "cluster_id": CLUSTER, "job_id": "j", "metrics": { "tokens": 1 } });
        let reported = world.post("/v1/telemetry").bearer(text).json(&report).send().await;
        refused(&reported, 401, "invalid_token");
    }
    let body = json!({ "license_key": issued.key, "cluster_id": CLUSTER });
    refused(&post(&world, "/v1/license/heartbeat", body.clone()).await, 401, "invalid_token");
    let basic = world.post("/v1/license/heartbeat").header("authorization", "Basic eDp5");
    refused(&basic.json(&body).send().await, 401, "invalid_token");
    // A token of another license does not show whether a key is one.
    let unknown = heartbeat(&world, "BZZZ-2025-ABC123-XYZ", CLUSTER, genuine).await;
    refused(&unknown, 404, "unknown_license_key");
    // An hour later it has ended; a new activation goes on.
    world.clock.pass(Duration::from_secs(3_601));
    refused(&heartbeat(&world, &issued.key, CLUSTER, genuine).await, 401, "invalid_token");
    let active = activate(&world, &issued.key, CLUSTER).await.expect(200);
    let token = text_of(&active, "access_token");
    heartbeat(&world, &issued.key, CLUSTER, token).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_license_does_not_allow_is_said_with_its_numbers() {
    let world = plain().await;
    let small = standard(&world, json!({ "max_nodes": 10 })).await;
    let body = json!({ "license_key": small.key, "cluster_id": CLUSTER, "nodes": 11 });
    let text = "cluster has 11 nodes but license only allows 10 nodes";
    let answer = post(&world, "/v1/license/activate", body.clone()).await;
    assert_eq!(refused(&answer, 403, "node_limit_exceeded"), text);
    let active = activate(&world, &small.key, CLUSTER).await.expect(200);
    let token = text_of(&active, "access_token");
    let answer = world.post("/v1/license/heartbeat").bearer(token).json(&body).send().await;
    assert_eq!(refused(&answer, 403, "node_limit_exceeded"), text);
    let unlimited = standard(&world, json!({ "max_nodes": 0 })).await;
    let body = json!({ "license_key": unlimited.key, "cluster_id": CLUSTER, "nodes": 1_000_000 });
    post(&world, "/v1/license/activate", body).await.expect(200);

    // Of 20 seats 5 are committed, of which 2 are taken; no lease takes some of either kind.
    for seats in [15, 3] {
        let wide = standard(&world, json!({ "seats_per_activation": seats })).await;
        activate(&world, &wide.key, CLUSTER).await.expect(200);
    }
    let full = standard(&world, json!({})).await;
    let answer = activate(&world, &full.key, CLUSTER).await;
    let sentence = refused(&answer, 409, "cluster_slot_in_use");
    assert_eq!(sentence, "every seat of the license's package is in use");

    let valid = |from_ms: i64, until_ms: i64| {
        let time = |ms| protocol::wire::UtcTime::from_unix_ms(now_ms() + ms).to_string();
        json!({ "valid_from": time(from_ms), "valid_until": time(until_ms) })
    };
    let early = issue(&world, "deployment", json!({}), valid(DAY_MS, 2 * DAY_MS)).await;
    let answer = activate(&world, &early.key, CLUSTER).await;
    assert!(refused(&answer, 403, "license_not_yet_valid").starts_with("license begins on 20"));
    let brief = issue(&world, "deployment", json!({}), valid(-DAY_MS, DAY_MS)).await;
    let day = protocol::wire::UtcTime::from_unix_ms(now_ms() + DAY_MS).to_string();
    world.clock.pass(Duration::from_secs(25 * 3_600));
    let answer = activate(&world, &brief.key, CLUSTER).await;
    let sentence = refused(&answer, 403, "license_expired");
    assert_eq!(sentence, format!("license expired on {}", &day[..10]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_no_requests_are_refused() {
    let world = plain().await;
    let key = standard(&world, json!({})).await.key;
    let wide = "\u{1f600}".repeat(100);
    let activate = "/v1/license/activate";
    let heartbeat = "/v1/license/heartbeat";
    let table = [
        (activate, "not json".to_owned()),
        (activate, "{}".to_owned()),
        (activate, json!({ "license_key": key }).to_string()),
        (activate, json!({ "license_key": "short", "cluster_id": CLUSTER }).to_string()),
        (activate, json!({ "license_key": key, "cluster_id": "a\nb" }).to_string()),
        (activate, json!({ "license_key": key, "cluster_id": wide }).to_string()),
        (activate, json!({ "license_key": key, "email": "\u{1f600}".repeat(200) }).to_string()),
        (activate, json!({ "license_key": key, "cluster_id": CLUSTER, "nodes": -1 }).to_string()),
        (
            activate,
            json!({ "license_key": key, "email": "a@b.example", "terms": { "agreed": false } })
                .to_string(),
        ),
        (heartbeat, json!({ "license_key": key }).to_string()),
        ("/v1/license/deactivate", json!({ "license_key": key }).to_string()),
        ("/v1/license/deactivate", json!({ "license_key": key, "cluster_id": wide }).to_string()),
        ("/v1/telemetry", json!({ "cluster_id": CLUSTER, "job_id": "j" }).to_string()),
        (
            "/v1/telemetry",
            json!({ "cluster_id": CLUSTER, "job_id": "j", "metrics": { "tokens": -1 } })
                .to_string(),
        ),
    ];
    for (path, body) in table {
        let answer = world.post(path).body(body.clone()).send().await;
        let refusal = answer.expect(400);
        assert_eq!(refusal["error"], "invalid_request", "{path} {body}");
        assert!(refusal["message"].is_string(), "{path} {body}");
        assert!(!answer.text.contains(&key), "{path}: a key is shown to nobody");
    }
    let long = world.post(activate).body("x".repeat(64 * 1024 + 1)).send().await;
    assert_eq!(long.expect(413)["error"], "body_too_large");
    assert_eq!(world.get(activate).send().await.expect(405)["error"], "method_not_allowed");
    assert_eq!(seats_taken(&world).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_keys_are_counted_by_address_and_then_no_key_is_looked_at() {
    let world = plain().await;
    let issued = standard(&world, json!({})).await;
    let show = |key: &str, address: &str| {
        let body = json!({ "license_key": key, "cluster_id": CLUSTER });
        world.post("/v1/license/activate").from(address).json(&body)
    };
    for number in 0..10 {
        let answer = show(&format!("BZZZ-2025-GUESS-{number:03}"), ADDRESS).send().await;
        refused(&answer, 404, "unknown_license_key");
    }
    let answer = show(&issued.key, ADDRESS).send().await;
    assert_eq!(refused(&answer, 429, "rate_limited"), "too many requests; call again later");
    assert!(answer.json()["retry_after_seconds"].as_u64().is_some_and(|wait| wait <= 900));
    show(&issued.key, "198.51.100.1").send().await.expect(200);
    // A key of another face is no key here.
    let other = issue(&world, "evaluation", json!({}), json!({})).await;
    let answer = show(&other.key, "198.51.100.1").send().await;
    refused(&answer, 404, "unknown_license_key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_counts_once_and_quotas_are_told() {
    let world = plain().await;
    let plan = json!({ "quotas": { "tokens": 1000, "cpu_hours": 1.5 } });
    let issued = standard(&world, plan).await;
    let report = |job: &str, metrics: Value| {
        let body = json!({ "cluster_id": CLUSTER, "job_id": job, "metrics": metrics });
        world.post("/v1/telemetry").json(&body)
    };
    let early = report("job-0", json!({ "tokens": 1 })).send().await;
    let sentence = refused(&early, 401, "invalid_token");
    assert_eq!(sentence, "the cluster is not activated; activate again");
    let active = activate(&world, &issued.key, CLUSTER).await.expect(200);
    let token = text_of(&active, "access_token");
    let first = report("job-1", json!({ "tokens": 700, "temporal_nav_hops": 3 }));
    let first = first.bearer(token).send().await;
    let want = json!({
        "status": "accepted",
        "usage": {
            "tokens": { "used": 700, "quota": 1000, "remaining": 300, "percent": 70.0 },
            "cpu_hours": { "used": 0, "quota": 1.5, "remaining": 1.5, "percent": 0.0 },
            "temporal_nav_hops": { "used": 3, "quota": null, "remaining": null, "percent": null },
        },
        "upgrade": { "suggested": false, "metrics": [] },
    });
    assert_eq!(first.expect(202), want);
    // The same job again, with its numbers in another order and form.
    let same = report("job-1", json!({ "temporal_nav_hops": 3.0, "tokens": 700 })).send().await;
    assert_eq!(same.expect(202), want);
    let other = report("job-1", json!({ "tokens": 701 })).send().await;
    let sentence = refused(&other, 400, "invalid_request");
    assert_eq!(sentence, "job_id: the job was reported before with other amounts");
    let near = report("job-2", json!({ "tokens": 100, "cpu_hours": 0.25 })).send().await;
    let near = near.expect(202);
    assert_eq!(near["usage"]["tokens"]["percent"], 80.0);
    assert!(near["usage"].get("temporal_nav_hops").is_none(), "neither reported nor bounded");
    let upgrade = json!({
        "suggested": true,
        "reason": "80 % or more of the quota is used: tokens",
        "metrics": ["tokens"],
    });
    assert_eq!(near["upgrade"], upgrade);
    deactivate(&world, &issued.key, CLUSTER).await.expect(200);
    refused(&report("job-3", json!({ "tokens": 1 })).send().await, 401, "invalid_token");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offline_token_is_the_cluster_s_and_lasts_a_day_at_most() {
    let world = world(json!({ "offline": "on", "offline_skew_seconds": 5 })).await;
    let plan = json!({
        "offline_seconds": 3 * 86_400, "max_nodes": 10, "features": [{ "slug": "export" }],
    });
    let issued = standard(&world, plan).await;
    let shown = world.get("/v1/license/offline-key").send().await.expect(200);
    assert_eq!((&shown["alg"], &shown["kid"]), (&json!("EdDSA"), &json!(keys().offline.kid)));
    let key_set = json!({ "keys": shown["keys"] }).to_string();
    let key_set = KeySet::from_json(key_set.as_bytes()).expect("keys");

    let active = activate(&world, &issued.key, CLUSTER).await.expect(200);
    let access = text_of(&active, "access_token");
    let beaten = heartbeat(&world, &issued.key, CLUSTER, access).await.expect(200);
    for answer in [&active, &beaten] {
        let token = text_of(answer, "offline_token");
        let holder = Holder::of(HolderKind::Cluster, CLUSTER);
        let now_ms = now_ms();
        let expect = Expect {
            issuer: Some("lh-test"),
            epoch: Some(1),
            product: Some(PRODUCT),
            holder: Some(&holder),
            ..Expect::at(now_ms)
        };
        let claims = offline::verify(token, &key_set, &expect).expect("a token");
        assert_eq!(claims.license_id, issued.license_id);
        assert_eq!(claims.cluster_id.as_deref(), Some(CLUSTER));
        assert_eq!((claims.max_nodes, claims.token_version), (Some(10), 1));
        assert_eq!(claims.features, ["export"]);
        assert!(claims.exp - claims.iat <= 86_400, "{claims:?}");
        let elsewhere = Holder::of(HolderKind::Cluster, OTHER);
        let other = Expect { holder: Some(&elsewhere), ..expect };
        assert_eq!(offline::verify(token, &key_set, &other).unwrap_err().code(), "wrong_holder");
        // Neither token stands for the other.
        refused(&heartbeat(&world, &issued.key, CLUSTER, token).await, 401, "invalid_token");
        let code = offline::verify(access, &key_set, &Expect::at(now_ms)).unwrap_err().code();
        assert_eq!(code, "wrong_type");
    }
    // Revoking a license does not sell the seat twice while a token of it is out.
    change(&world, &issued, "revoke").await;
    assert_eq!(seats_taken(&world).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_that_is_suspended_or_revoked_takes_its_licenses_along() {
    let world = plain().await;
    let issued = standard(&world, json!({})).await;
    activate(&world, &issued.key, CLUSTER).await.expect(200);
    for (what, method, code) in [
        ("/suspend", Method::POST, "license_suspended"),
        ("/revoke", Method::POST, "license_cancelled"),
    ] {
        let path = format!("/admin/packages/{PACKAGE}{what}");
        let changed = world.ask(method, &path).bearer(&world.admin).json(&json!({})).send().await;
        assert!(changed.status.is_success(), "{changed:?}");
        refused(&activate(&world, &issued.key, CLUSTER).await, 403, code);
    }
}

//! Deployments: what each answer makes of the verdict, grace over restarts, tokens and telemetry.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use leasehold_client::deployment::{
    DeploymentClient, DeploymentClientBuilder, Report, Setup, SetupOutcome, State,
};
use leasehold_client::{Error, GraceReason, LostReason, MemoryStore, Verdict, VerdictFeed};
use protocol::keys::PrivateKey;
use protocol::offline::{self, Holder, HolderKind, OfflineClaims};
use protocol::secret::Secret;
use serde_json::{Value, json};

use crate::far::{Far, both, story, within};

const ACTIVATE: &str = "POST /v1/license/activate";
const HEARTBEAT: &str = "POST /v1/license/heartbeat";
const DEACTIVATE: &str = "POST /v1/license/deactivate";
const BEGIN_MS: i64 = 1_795_001_000_000;
const HOUR: Duration = Duration::from_secs(3_600);
const CLUSTER: &str = "bzzz-cluster-1b9d6bcd-walnut";

fn builder(far: &Far, store: &Arc<MemoryStore>) -> DeploymentClientBuilder {
    DeploymentClient::builder()
        .variables(BTreeMap::new())
        .server_url(far.urls()[0].clone())
        .license_key("BZZZ-2025-ABC123-XYZ")
        .cluster_id(CLUSTER)
        .hostname("walnut")
        .total_timeout(Duration::from_secs(1))
        .offline_store(Arc::clone(store))
        .environment(far.environment())
}

fn token(number: u32, far: &Far) -> Value {
    let now_ms = BEGIN_MS + i64::try_from(far.world.now_ms()).unwrap();
    let now = leasehold_client::UtcTime::from_unix_ms(now_ms);
    json!({
        "status": "ok", "access_token": format!("token-{number}"), "token_type": "Bearer",
        "expires_at": now, "token_version": 1, "cluster_id": CLUSTER, "license_type": "standard",
        "max_nodes": 3, "features": ["tasks"], "validated_at": now,
        "heartbeat_interval_seconds": 900, "offline_grace_seconds": 86_400,
    })
}

fn error(code: &str) -> Value {
    json!({ "error": code, "message": format!("words of {code}") })
}

async fn started(far: &mut Far, client: &DeploymentClient, status: u16, body: &Value) -> Verdict {
    let server = async { far.expect(ACTIVATE).await.answer(status, body) };
    both(client.start(), server).await.0.unwrap()
}

/// Lets time pass, cuts every request, until the verdict is another.
async fn outage(far: &mut Far, feed: &mut VerdictFeed) -> Verdict {
    within(async {
        loop {
            let world = Arc::clone(&far.world);
            tokio::select! {
                biased;
                verdict = feed.changed() => return verdict.unwrap(),
                request = far.heard() => request.cut(),
                _ = world.until_awake() => {}
            }
        }
    })
    .await
}

/// A start of which no server hears.
async fn started_alone(far: &mut Far, client: &DeploymentClient) -> Verdict {
    let start = client.start();
    tokio::pin!(start);
    within(async {
        loop {
            let world = Arc::clone(&far.world);
            tokio::select! {
                biased;
                verdict = &mut start => return verdict.unwrap(),
                request = far.heard() => request.cut(),
                _ = world.until_awake() => {}
            }
        }
    })
    .await
}

fn refused(code: &str) -> Verdict {
    let detail = format!("words of {code}");
    Verdict::Lost { reason: LostReason::Refused { code: code.to_owned(), detail } }
}

#[test]
fn a_cluster_is_activated_kept_by_heartbeats_and_given_back() {
    story(async {
        let (mut far, store) = (Far::start(1).await, Arc::new(MemoryStore::new()));
        let client = builder(&far, &store).build().unwrap();
        let granted = token(0, &far);
        assert_eq!(started(&mut far, &client, 200, &granted).await, Verdict::Held);
        assert!(client.feature("tasks") && !client.feature("other"));
        client.check_nodes(3).unwrap();
        let words = "cluster has 4 nodes but license only allows 3 nodes";
        assert_eq!(client.check_nodes(4).unwrap_err().to_string(), words);
        for round in 0..3 {
            let (request, waited) = far.later().await;
            assert_eq!((request.line.as_str(), waited), (HEARTBEAT, HOUR / 4));
            assert_eq!(request.header("authorization"), format!("Bearer token-{round}"));
            assert_eq!(
                (&request.json()["nodes"], &request.json()["token"]),
                (&json!(4), &Value::Null)
            );
            let granted = token(round + 1, &far);
            request.answer(200, &granted);
        }
        let server = async {
            let request = far.expect(DEACTIVATE).await;
            assert_eq!(request.json()["cluster_id"], CLUSTER);
            request.answer(200, &json!({ "status": "deactivated" }));
        };
        assert_eq!(both(client.stop(), server).await.0, Ok(()));
        assert_eq!(client.verdict(), Verdict::Lost { reason: LostReason::Returned });
    });
}

#[test]
fn a_refusal_at_the_start_leads_to_setup() {
    for (status, code) in [
        (403, "license_suspended"),
        (403, "license_cancelled"),
        (403, "license_expired"),
        (403, "node_limit_exceeded"),
        (404, "unknown_license_key"),
        (400, "invalid_request"),
    ] {
        story(async {
            let (mut far, store) = (Far::start(1).await, Arc::new(MemoryStore::new()));
            let client = builder(&far, &store).build().unwrap();
            assert_eq!(started(&mut far, &client, status, &error(code)).await, refused(code));
            assert_eq!(client.state(), State::Setup);
        });
    }
}

#[test]
fn a_suspension_stops_at_once_and_a_stale_token_is_fetched_anew() {
    story(async {
        let (mut far, store) = (Far::start(1).await, Arc::new(MemoryStore::new()));
        let client = builder(&far, &store).build().unwrap();
        let granted = token(0, &far);
        started(&mut far, &client, 200, &granted).await;
        let mut feed = client.watch();
        let (request, _) = far.later().await;
        request.answer(401, &error("stale_token_version"));
        let granted = token(1, &far);
        let (request, waited) = far.later().await;
        assert_eq!((request.line.as_str(), waited), (ACTIVATE, Duration::ZERO));
        request.answer(200, &granted);
        let (request, _) = far.later().await;
        assert_eq!(request.header("authorization"), "Bearer token-1");
        request.answer(403, &error("license_suspended"));
        assert_eq!(within(feed.changed()).await, Some(refused("license_suspended")));
        assert_eq!(client.state(), State::Stopped);
    });
}

#[test]
fn grace_counts_from_the_last_success_and_a_restart_gives_none_of_it_back() {
    story(async {
        let (mut far, store) = (Far::start(1).await, Arc::new(MemoryStore::new()));
        let client = builder(&far, &store).build().unwrap();
        let granted = token(0, &far);
        started(&mut far, &client, 200, &granted).await;
        let mut feed = client.watch();
        let verdict = outage(&mut far, &mut feed).await;
        assert!(matches!(verdict, Verdict::Grace { why: GraceReason::Unreachable, .. }));
        far.world.advance(20 * HOUR);
        // As a crash: nobody gives the slot back.
        std::mem::forget(client);
        let again = builder(&far, &store).build().unwrap();
        let mut feed = again.watch();
        let verdict = started_alone(&mut far, &again).await;
        assert!(matches!(verdict, Verdict::Grace { .. }), "{verdict:?}");
        let verdict = loop {
            match outage(&mut far, &mut feed).await {
                Verdict::Grace { .. } => {}
                verdict => break verdict,
            }
        };
        let reason = LostReason::Expired { why: Some(GraceReason::Unreachable) };
        assert_eq!(verdict, Verdict::Lost { reason });
        let passed = far.world.now();
        assert!(passed >= 24 * HOUR && passed < 25 * HOUR, "{passed:?}");
    });
}

#[test]
fn without_a_last_success_there_is_no_grace() {
    story(async {
        let (mut far, store) = (Far::start(1).await, Arc::new(MemoryStore::new()));
        let client = builder(&far, &store).build().unwrap();
        let verdict = started_alone(&mut far, &client).await;
        assert!(!verdict.permits_use(), "{verdict:?}");
    });
}

#[test]
fn a_slot_in_use_is_waited_for() {
    story(async {
        let (mut far, store) = (Far::start(1).await, Arc::new(MemoryStore::new()));
        let client = builder(&far, &store).build().unwrap();
        let verdict = started(&mut far, &client, 409, &error("cluster_slot_in_use")).await;
        assert_eq!((verdict, client.state()), (refused("cluster_slot_in_use"), State::Waiting));
        let mut feed = client.watch();
        let (request, _) = far.later().await;
        assert_eq!(request.line, ACTIVATE);
        let granted = token(0, &far);
        request.answer(200, &granted);
        assert_eq!(within(feed.changed()).await, Some(Verdict::Held));
    });
}

#[test]
fn an_offline_token_carries_beyond_a_shorter_grace() {
    let key = PrivateKey::ed25519(&Secret::new([5; 32]));
    let other = PrivateKey::ed25519(&Secret::new([6; 32]));
    for (signer, is_believed) in [(&key, true), (&other, false)] {
        story(async {
            let (mut far, store) = (Far::start(1).await, Arc::new(MemoryStore::new()));
            let client =
                builder(&far, &store).offline_grace(Duration::from_secs(60)).build().unwrap();
            let iat = u64::try_from(BEGIN_MS / 1_000).unwrap();
            let claims = OfflineClaims {
                iss: "c".into(),
                jti: "1".into(),
                license_id: "l".into(),
                product: "p".into(),
                protocol: offline::Protocol::Deployment,
                lease_id: "x".into(),
                holder: Holder::of(HolderKind::Cluster, CLUSTER),
                user_hash: None,
                features: vec![],
                quantity: 1,
                class: None,
                max_nodes: Some(3),
                cluster_id: Some(CLUSTER.into()),
                fence: "00000001-0000000000000002-0003-0000000000000004".parse().unwrap(),
                epoch: 1,
                token_version: 1,
                iat,
                exp: iat + 10 * 3_600,
                borrowed: false,
                skew_seconds: 600,
            };
            let mut granted = token(0, &far);
            granted["offline_token"] = json!(offline::sign(signer, &claims).unwrap());
            let public = key.public_key().unwrap();
            let keys = offline::KeySet::of(public.clone()).unwrap();
            let answer = protocol::deployment::wire::OfflineKeyAnswer::of(&public, &keys).unwrap();
            let server = async {
                far.expect(ACTIVATE).await.answer(200, &granted);
                let request = far.expect("GET /v1/license/offline-key").await;
                request.answer(200, &serde_json::to_value(&answer).unwrap());
            };
            assert_eq!(both(client.start(), server).await.0, Ok(Verdict::Held));
            let mut feed = client.watch();
            let verdict = outage(&mut far, &mut feed).await;
            assert_eq!(verdict.permits_use(), is_believed, "{verdict:?}");
            if is_believed {
                while outage(&mut far, &mut feed).await.permits_use() {}
                assert!(far.world.now() >= 10 * HOUR && far.world.now() < 11 * HOUR);
            }
        });
    }
}

#[test]
fn a_clock_that_went_back_has_no_grace() {
    for (hours, has_grace) in [(5, true), (7, false), (48, false)] {
        story(async {
            let (mut far, store) = (Far::start(1).await, Arc::new(MemoryStore::new()));
            let client = builder(&far, &store).build().unwrap();
            let granted = token(0, &far);
            started(&mut far, &client, 200, &granted).await;
            std::mem::forget(client);
            far.world.set_wall_back(hours * HOUR);
            let again = builder(&far, &store).build().unwrap();
            let verdict = started_alone(&mut far, &again).await;
            assert_eq!(verdict.permits_use(), has_grace, "{hours} {verdict:?}");
            let went_back = Verdict::Lost {
                reason: LostReason::ClockWentBack { by_ms: u64::from(hours) * 3_600_000 },
            };
            let is_told =
                matches!(verdict, Verdict::Lost { reason: LostReason::ClockWentBack { .. } });
            assert_eq!(is_told, !has_grace, "{verdict:?} {went_back:?}");
        });
    }
}

#[test]
fn reports_are_checked_sent_and_answered() {
    story(async {
        let (mut far, store) = (Far::start(1).await, Arc::new(MemoryStore::new()));
        let client = builder(&far, &store).build().unwrap();
        let early = client.report("job-1", [("tokens", 1.0)]).await;
        assert!(matches!(early, Err(Error::Unauthorized { .. })), "{early:?}");
        let granted = token(0, &far);
        started(&mut far, &client, 200, &granted).await;
        for amount in [-1.0, f64::NAN, 0.000_000_1] {
            let wrong = client.report("job-1", [("tokens", amount)]).await;
            assert!(matches!(wrong, Err(Error::Configuration { .. })), "{amount} {wrong:?}");
        }
        let server = async {
            let request = far.expect("POST /v1/telemetry").await;
            assert_eq!(request.header("authorization"), "Bearer token-0");
            assert_eq!(request.json()["metrics"], json!({ "cpu_hours": 1.5 }));
            let upgrade = json!({ "suggested": false, "metrics": [] });
            let body = json!({ "status": "accepted", "usage": {}, "upgrade": upgrade });
            request.answer(202, &body);
        };
        let report = both(client.report("job-1", [("cpu_hours", 1.5)]), server).await.0.unwrap();
        assert!(matches!(report, Report::Accepted(_)));
    });
}

#[test]
fn a_setup_tells_what_to_configure_and_takes_no_slot() {
    story(async {
        let (mut far, store) = (Far::start(1).await, Arc::new(MemoryStore::new()));
        let client = DeploymentClient::builder()
            .variables(BTreeMap::new())
            .server_url(far.urls()[0].clone())
            .license_key("BZZZ-2025-ABC123-XYZ")
            .offline_store(Arc::clone(&store))
            .environment(far.environment())
            .build()
            .unwrap();
        let missing = client.start().await.unwrap_err();
        assert!(missing.to_string().contains("no cluster ID configured"), "{missing}");
        let mut answer = token(0, &far);
        answer.as_object_mut().unwrap().remove("access_token");
        let server = async {
            let request = far.expect(ACTIVATE).await;
            assert_eq!(request.json()["email"], "customer@example.com");
            request.answer(200, &answer);
        };
        let setup = Setup { email: "customer@example.com".into(), ..Setup::default() };
        let SetupOutcome::Done(file) = both(client.setup(setup), server).await.0.unwrap() else {
            panic!("refused")
        };
        assert_eq!((file.cluster_id.as_deref(), file.max_nodes), (Some(CLUSTER), Some(3)));
        let granted = token(1, &far);
        assert_eq!(started(&mut far, &client, 200, &granted).await, Verdict::Held);
    });
}

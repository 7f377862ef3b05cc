//! The `deployment` protocol: forms, the table of refusals, telemetry, and the client's rules.

use std::collections::BTreeMap;

use proptest::prelude::*;
use protocol::cloud::body;
use protocol::deployment::client::{
    Call, Client, Decision, Reply, State, StopReason, Stored, backoff_ms,
};
use protocol::deployment::cluster_id;
use protocol::deployment::config::{self, Config, FileConfig, NotLicensed};
use protocol::deployment::license_key::{LicenseKey, MAX_KEY_CHARS};
use protocol::deployment::refusal::Refusal;
use protocol::deployment::telemetry::{Amount, MetricUsage, TelemetryAnswer, TelemetryRequest};
use protocol::deployment::wire::{
    ActivateCall, ActivateRequest, DeactivateAnswer, DeactivateRequest, HeartbeatRequest,
    LicenseDetails, OfflineKeyAnswer, TokenAnswer, bearer,
};
use protocol::keys::PublicKey;
use protocol::offline::{KeySet, KeySetError};
use protocol::secret::Disclosed;
use protocol::wire::UtcTime;
use rust_decimal::Decimal;
use serde_json::json;

use crate::keys::{RSA_PUBLIC, ed25519_key};

const KEY: &str = "BZZZ-2025-ABC123-XYZ";
const CLUSTER: &str = "bzzz-cluster-1b9d6bcd-walnut";
const NOW_MS: i64 = 1_800_000_000_000;
const HOUR_MS: i64 = 3_600_000;
const GRACE_MS: i64 = 24 * HOUR_MS;
const BEAT_MS: i64 = 900_000;

#[test]
fn license_keys_are_read_without_regard_to_case() {
    let most = "A".repeat(MAX_KEY_CHARS);
    let too_long = "A".repeat(MAX_KEY_CHARS + 1);
    for (text, canonical) in [
        (KEY, Some(KEY)),
        ("bzzz-2025-demo-eval-001", Some("BZZZ-2025-DEMO-EVAL-001")),
        (" BZZZ-2025-ABC123-XYZ ", Some(KEY)),
        ("12345678", Some("12345678")),
        (&most, Some(most.as_str())),
        ("1234567", None),
        ("--------", None),
        ("BZZZ_2025", None),
        ("BZZZ 2025", None),
        ("BZZZ-2025-ÄBC", None),
        ("BZZZ-2025\n", None),
        (&too_long, None),
        ("", None),
    ] {
        let read = text.parse::<LicenseKey>().ok();
        assert_eq!(read.as_ref().map(LicenseKey::expose), canonical, "{text:?}");
    }
    let new = LicenseKey::generate(&[0xff; 16]);
    assert_eq!(new.expose(), "LH-77777-77777-77777-77777-77777");
    let new = LicenseKey::generate(&[0; 16]);
    assert_eq!(new.expose().parse::<LicenseKey>().unwrap().expose(), new.expose());
}

#[test]
fn cluster_ids_look_as_the_document_says_and_any_is_accepted() {
    let random = [0x1b, 0x9d, 0x6b, 0xcd];
    for (hostname, id) in [
        ("walnut", CLUSTER),
        ("", "bzzz-cluster-1b9d6bcd-unknown"),
        ("walnut.example.com", "bzzz-cluster-1b9d6bcd-walnut.example.com"),
        ("wal nut\n", "bzzz-cluster-1b9d6bcd-wal-nut-"),
        ("wälnut", "bzzz-cluster-1b9d6bcd-w-lnut"),
    ] {
        assert_eq!(cluster_id::generate(random, hostname), id);
    }
    let long = cluster_id::generate(random, &"h".repeat(300));
    assert!(long.len() == 128 && cluster_id::is_cluster_id(&long), "{long}");
    for (text, fits) in [
        ("x", true),
        ("Ein Verbund", true),
        ("", false),
        ("a\tb", false),
        (&"x".repeat(129), false),
    ] {
        assert_eq!(cluster_id::is_cluster_id(text), fits, "{text:?}");
    }
}

#[test]
fn one_path_takes_setup_and_runtime_calls() {
    let full = json!({
        "license_key": "bzzz-2025-abc123-xyz", "cluster_id": CLUSTER, "email": "c@example.com",
        "organization_name": "Example Corp", "nodes": 3, "unknown": 1,
        "metadata": {"hostname": "walnut", "ip": "192.0.2.17", "product": "bzzz", "version": "1"},
        "terms": {"agreed": true, "timestamp": "2025-09-01T20:29:45.5+10:00"},
    });
    let request: ActivateRequest = body::decode(full.to_string().as_bytes()).unwrap();
    assert_eq!(request.license_key.expose(), KEY);
    assert_eq!(
        request.call(),
        Ok(ActivateCall::Setup { email: "c@example.com", cluster_id: Some(CLUSTER) })
    );
    assert_eq!(request.metadata.as_ref().unwrap().ip.as_deref(), Some("192.0.2.17"));
    assert_eq!(
        request.terms_accepted_at().map(|time| time.to_string()),
        Some("2025-09-01T10:29:45.5Z".to_owned())
    );

    for (changes, wants) in [
        (json!({}), "400 want email (setup) or cluster_id (runtime)"),
        (
            json!({"email": "", "cluster_id": null}),
            "400 want email (setup) or cluster_id (runtime)",
        ),
        (json!({"cluster_id": CLUSTER}), "runtime"),
        (json!({"cluster_id": CLUSTER, "email": ""}), "runtime"),
        (json!({"email": "c@example.com"}), "setup"),
        (
            json!({"email": "c@example.com", "terms": {"agreed": false}}),
            "400 the terms were not agreed to",
        ),
        (json!({"cluster_id": CLUSTER, "terms_accepted_at": "0001-01-01T00:00:00Z"}), "runtime"),
        (json!({"cluster_id": CLUSTER, "terms_accepted_at": "yesterday"}), "terms_accepted_at"),
        (json!({"cluster_id": "x".repeat(129)}), "cluster_id"),
        (json!({"cluster_id": CLUSTER, "nodes": -1}), "nodes"),
        (json!({"cluster_id": CLUSTER, "nodes": 1_000_001}), "nodes"),
        (json!({"license_key": "short"}), "license_key"),
        (json!({"license_key": 5}), "license_key"),
        (json!({"cluster_id": CLUSTER, "metadata": {"ip": "a\u{0}b"}}), "metadata.ip"),
    ] {
        let mut body = json!({ "license_key": KEY });
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let found = match body::decode::<ActivateRequest>(body.to_string().as_bytes()) {
            Err(error) => error.field().unwrap_or("?").to_owned(),
            Ok(request) => match request.call() {
                Ok(ActivateCall::Setup { .. }) => "setup".to_owned(),
                Ok(ActivateCall::Runtime { .. }) => "runtime".to_owned(),
                Err(refusal) => format!("{} {}", refusal.http_status(), refusal.message()),
            },
        };
        assert_eq!(found, wants, "{body}");
    }
    // The key never comes back in a message.
    let Err(error) =
        body::decode::<HeartbeatRequest>(br#"{"license_key":"secret_key_1","cluster_id":"c"}"#)
    else {
        panic!("a key with an underscore was read");
    };
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[test]
fn the_token_comes_in_the_header_or_the_body() {
    let body = Disclosed::new("from-body".to_owned());
    for (header, with_body, token) in [
        (Some("Bearer abc"), true, Some("abc")),
        (Some("bearer  abc "), false, Some("abc")),
        (Some("Basic abc"), true, None),
        (Some("Bearer"), true, None),
        (Some("Bearer "), true, None),
        (None, true, Some("from-body")),
        (None, false, None),
    ] {
        assert_eq!(bearer(header, with_body.then_some(&body)), token, "{header:?}");
    }
    let heartbeat = json!({"license_key": KEY, "cluster_id": CLUSTER, "token": "t", "nodes": 3});
    let heartbeat: HeartbeatRequest = body::decode(heartbeat.to_string().as_bytes()).unwrap();
    assert_eq!(bearer(None, heartbeat.token.as_ref()), Some("t"));
    let back = json!({"license_key": KEY, "cluster_id": CLUSTER});
    let back: DeactivateRequest = body::decode(back.to_string().as_bytes()).unwrap();
    assert_eq!(back.cluster_id, CLUSTER);
}

fn details() -> LicenseDetails {
    LicenseDetails {
        license_type: "standard".to_owned(),
        max_nodes: 10,
        features: vec!["basic-coordination".to_owned()],
        expires_at: Some(UtcTime::from_unix_ms(1_900_000_000_000)),
        token_version: 3,
    }
}

#[test]
fn answers_keep_their_names() {
    let now = UtcTime::from_unix_ms(NOW_MS);
    let setup = TokenAnswer::without_token(details(), CLUSTER.to_owned(), now);
    let runtime = TokenAnswer::without_token(details(), CLUSTER.to_owned(), now).with_token(
        Disclosed::new("eyJ.access".to_owned()),
        UtcTime::from_unix_ms(NOW_MS + HOUR_MS),
        Some(Disclosed::new("eyJ.offline".to_owned())),
    );
    let read: TokenAnswer =
        serde_json::from_value(serde_json::to_value(&runtime).unwrap()).unwrap();
    assert_eq!(read.access_token.unwrap().expose(), "eyJ.access");
    let key = ed25519_key(7).public_key().unwrap();
    let offline_key = OfflineKeyAnswer::of(&key, &KeySet::of(key.clone()).unwrap()).unwrap();
    insta::assert_json_snapshot!(
        "deployment_answers",
        (setup, runtime, DeactivateAnswer::DONE, offline_key)
    );
    let rsa = PublicKey::from_pem(RSA_PUBLIC).unwrap();
    assert_eq!(OfflineKeyAnswer::of(&rsa, &KeySet::default()), Err(KeySetError::NotEd25519));
}

#[test]
fn every_refusal_has_its_status_code_and_sentence() {
    let day = UtcTime::from_unix_ms(1_767_225_599_000);
    let rows: Vec<_> = [
        Refusal::InvalidRequest("want email (setup) or cluster_id (runtime)".to_owned()),
        Refusal::UnknownKey,
        Refusal::InvalidToken,
        Refusal::NotActivated,
        Refusal::StaleTokenVersion,
        Refusal::Suspended,
        Refusal::Cancelled,
        Refusal::Expired { at: day },
        Refusal::NotYetValid { at: day },
        Refusal::NodeLimitExceeded { nodes: 12, max_nodes: 10 },
        Refusal::SlotInUse { available_at: day, retry_after_seconds: 86_400 },
        Refusal::NoSeat { available_at: None },
        Refusal::TooManyRequests { retry_after_seconds: 30 },
        Refusal::Unavailable { retry_after_seconds: 1 },
    ]
    .iter()
    .map(|refusal| (refusal.http_status(), refusal.body()))
    .collect();
    insta::assert_json_snapshot!("deployment_refusals", rows);
    let message = |refusal: Refusal| refusal.message();
    assert!(message(Refusal::StaleTokenVersion).contains("stale token_version"));
    assert_eq!(message(Refusal::Expired { at: day }), "license expired on 2025-12-31");
    assert_eq!(
        message(Refusal::NodeLimitExceeded { nodes: 12, max_nodes: 10 }),
        "cluster has 12 nodes but license only allows 10 nodes"
    );
}

#[test]
fn amounts_are_exact_or_refused() {
    for (text, wants) in [
        ("0", Some("0")),
        ("0.0", Some("0")),
        ("-0.0", Some("0")),
        ("1200", Some("1200")),
        ("1.5", Some("1.5")),
        ("1.50", Some("1.5")),
        ("0.1", Some("0.1")),
        ("0.000001", Some("0.000001")),
        ("123456789.123456", Some("123456789.123456")),
        ("999999999999999", Some("999999999999999")),
        ("1e3", Some("1000")),
        ("0.0000001", None),
        ("1.1234567", None),
        ("1234567890.123456", None),
        ("1000000000000001", None),
        ("-1", None),
        ("-0.5", None),
        ("1e300", None),
        ("\"1\"", None),
        ("null", None),
        ("true", None),
    ] {
        let read = serde_json::from_str::<Amount>(text).ok();
        assert_eq!(read.map(|amount| amount.0.to_string()), wants.map(str::to_owned), "{text}");
    }
    for (amount, json) in [("0", "0"), ("1200", "1200"), ("1.5", "1.5"), ("2.0", "2")] {
        let amount = Amount(amount.parse().unwrap());
        assert_eq!(serde_json::to_string(&amount).unwrap(), json);
    }
}

proptest! {
    #[test]
    fn amounts_come_back_as_they_were_written(
        units in 0_u64..1_000_000_000,
        micros in 0_u32..1_000_000,
    ) {
        let text = format!("{units}.{micros:06}");
        let amount: Amount = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(amount.0, text.parse::<Decimal>().unwrap());
        let again: Amount = serde_json::from_str(&serde_json::to_string(&amount).unwrap()).unwrap();
        prop_assert_eq!(again, amount);
    }
}

#[test]
fn reports_are_bounded() {
    let many = |count: usize| {
        let metrics: BTreeMap<_, _> = (0..count).map(|at| (format!("m{at}"), 1)).collect();
        json!({"cluster_id": CLUSTER, "job_id": "j", "metrics": metrics}).to_string()
    };
    let one =
        |metrics: &str| format!(r#"{{"cluster_id":"{CLUSTER}","job_id":"j","metrics":{metrics}}}"#);
    let long = format!(r#"{{"{}":1}}"#, "m".repeat(65));
    for (text, fits) in [
        (
            one(r#"{"tokens":1200,"context_operations":3,"cpu_hours":1.5,"temporal_nav_hops":2}"#),
            true,
        ),
        (many(64), true),
        (many(65), false),
        (one("{}"), false),
        (one("[]"), false),
        (one(r#"{"a b":1}"#), false),
        (one(r#"{"":1}"#), false),
        (one(&long), false),
        (one(r#"{"a":1,"a":1}"#), false),
        (one(r#"{"a":-1}"#), false),
        (one(r#"{"a":"1"}"#), false),
        (r#"{"cluster_id":"c","metrics":{"a":1}}"#.to_owned(), false),
        (r#"{"job_id":"j","metrics":{"a":1}}"#.to_owned(), false),
    ] {
        assert_eq!(body::decode::<TelemetryRequest>(text.as_bytes()).is_ok(), fits, "{text}");
    }
}

#[test]
fn an_upgrade_is_suggested_from_eighty_percent_on() {
    let number = |text: &str| text.parse::<Decimal>().unwrap();
    for (used, quota, remaining, percent, suggested) in [
        ("0", Some("100"), Some("100"), Some(0.0), false),
        ("79.99", Some("100"), Some("20.01"), Some(79.9), false),
        ("80", Some("100"), Some("20"), Some(80.0), true),
        ("250", Some("100"), Some("0"), Some(250.0), true),
        ("0", Some("0"), Some("0"), Some(100.0), true),
        ("1", Some("3"), Some("2"), Some(33.3), false),
        ("5", None, None, None, false),
    ] {
        let usage = MetricUsage::of(number(used), quota.map(number));
        assert_eq!(usage.remaining.map(|left| left.0), remaining.map(number), "{used}");
        assert_eq!(usage.percent, percent, "{used}");
        let answer = TelemetryAnswer::of(BTreeMap::from([("tokens".to_owned(), usage)]));
        assert_eq!(answer.upgrade.suggested, suggested, "{used}");
        assert_eq!(answer.upgrade.reason.is_some(), suggested);
    }
    let usage = BTreeMap::from([
        ("cpu_hours".to_owned(), MetricUsage::of(number("1.5"), None)),
        ("tokens".to_owned(), MetricUsage::of(number("805"), Some(number("1000")))),
    ]);
    insta::assert_json_snapshot!("deployment_telemetry", TelemetryAnswer::of(usage));
}

fn client(last_success_ms: Option<i64>) -> Client {
    Client::start(true, Stored { last_success_ms, token_version: 1 }, GRACE_MS, BEAT_MS)
}

fn status(status: u16, code: &'static str) -> Reply<'static> {
    Reply::Status { status, code: Some(code), retry_after_seconds: None }
}

#[test]
fn refusals_stop_a_program_and_send_a_starting_one_to_setup() {
    for (reply, reason) in [
        (status(403, "license_suspended"), StopReason::Suspended),
        (status(403, "license_cancelled"), StopReason::Cancelled),
        (status(403, "license_expired"), StopReason::Expired),
        (status(403, "node_limit_exceeded"), StopReason::NodeLimitExceeded),
        (status(403, "something new"), StopReason::Refused),
        // The status goes before the code.
        (status(403, "stale_token_version"), StopReason::Refused),
        (status(404, "license_suspended"), StopReason::UnknownKey),
        (status(400, "invalid_request"), StopReason::Refused),
    ] {
        let mut running = client(None);
        running.on_success(1, NOW_MS);
        let decision = running.on_failure(Call::Heartbeat, reply, NOW_MS + 1, 0);
        assert_eq!(decision, Decision::Stop(reason));
        assert!(running.state() == State::Stopped && !running.may_run(NOW_MS + 1));
        let mut starting = client(None);
        let decision = starting.on_failure(Call::Activate, reply, NOW_MS, 0);
        assert_eq!(decision, Decision::EnterSetup(reason));
        assert!(starting.state() == State::Setup && !starting.may_run(NOW_MS));
    }
}

#[test]
fn only_a_server_out_of_reach_is_graceful_and_restarts_give_nothing_back() {
    let unavailable = Reply::Status { status: 503, code: None, retry_after_seconds: Some(120) };
    for reply in [Reply::Unreachable, unavailable, status(429, "rate_limited"), status(502, "")] {
        let mut running = client(None);
        assert!(!running.may_run(NOW_MS));
        let decision = running.on_success(2, NOW_MS);
        assert_eq!(decision, Decision::Continue { heartbeat_in_ms: BEAT_MS });
        assert!(running.may_run(NOW_MS + BEAT_MS));
        let later_ms = NOW_MS + GRACE_MS;
        let Decision::Retry { after_ms } =
            running.on_failure(Call::Heartbeat, reply, NOW_MS + BEAT_MS, 1)
        else {
            panic!("no retry");
        };
        assert_eq!(after_ms >= 120_000, reply_asks(reply), "{after_ms}");
        assert!(running.state() == State::Grace && running.may_run(later_ms));
        assert!(!running.may_run(later_ms + 1));
        assert_eq!(running.on_time(later_ms), None);

        // A restart in between continues the same grace.
        let mut restarted = Client::start(true, running.stored(), GRACE_MS, BEAT_MS);
        assert!(!restarted.may_run(NOW_MS + HOUR_MS), "runs before any call");
        let decision = restarted.on_failure(Call::Activate, reply, NOW_MS + HOUR_MS, 1);
        assert!(matches!(decision, Decision::Activate { .. }), "{decision:?}");
        assert!(restarted.may_run(later_ms) && !restarted.may_run(later_ms + 1));
        let decision = restarted.on_failure(Call::Activate, reply, later_ms + 1, 1);
        assert_eq!(decision, Decision::Stop(StopReason::GraceExceeded));

        let decision = running.on_time(later_ms + 1);
        assert_eq!(decision, Some(Decision::Stop(StopReason::GraceExceeded)));

        let mut never_ran = client(None);
        let decision = never_ran.on_failure(Call::Activate, reply, NOW_MS, 1);
        assert_eq!(decision, Decision::EnterSetup(StopReason::GraceExceeded));
        let mut long_ago = client(Some(NOW_MS - GRACE_MS - 1));
        let decision = long_ago.on_failure(Call::Activate, reply, NOW_MS, 1);
        assert_eq!(decision, Decision::EnterSetup(StopReason::GraceExceeded));
    }
}

fn reply_asks(reply: Reply<'_>) -> bool {
    matches!(reply, Reply::Status { retry_after_seconds: Some(_), .. })
}

#[test]
fn a_stale_token_is_fetched_anew_at_once_and_then_with_patience() {
    let mut running = client(None);
    running.on_success(1, NOW_MS);
    let stale = status(401, "stale_token_version");
    let first = running.on_failure(Call::Heartbeat, stale, NOW_MS, 7);
    assert_eq!(first, Decision::Activate { after_ms: 0 });
    assert!(running.may_run(NOW_MS));
    let Decision::Activate { after_ms } = running.on_failure(Call::Activate, stale, NOW_MS, 7)
    else {
        panic!("does not activate");
    };
    assert!(after_ms > 0 && running.state() == State::Grace);
    running.on_success(4, NOW_MS + 1);
    assert_eq!(running.stored(), Stored { last_success_ms: Some(NOW_MS + 1), token_version: 4 });
    running.on_success(3, NOW_MS + 2);
    assert_eq!(running.stored().token_version, 4, "versions never go back");
}

#[test]
fn a_taken_slot_is_waited_for_and_not_run_in() {
    let taken = status(409, "cluster_slot_in_use");
    let mut starting = client(None);
    let decision = starting.on_failure(Call::Activate, taken, NOW_MS, 3);
    assert!(matches!(decision, Decision::Activate { after_ms } if after_ms > 0), "{decision:?}");
    assert!(starting.state() == State::Waiting && !starting.may_run(NOW_MS));
    // A server out of reach makes no grace of it.
    let decision = starting.on_failure(Call::Activate, Reply::Unreachable, NOW_MS + 1, 3);
    assert!(matches!(decision, Decision::Activate { .. }), "{decision:?}");
    assert!(!starting.may_run(NOW_MS + 1));
    let over_ms = NOW_MS + GRACE_MS + 1;
    let decision = starting.clone().on_failure(Call::Activate, taken, over_ms, 3);
    assert_eq!(decision, Decision::EnterSetup(StopReason::SlotInUse));
    starting.on_success(1, over_ms);
    assert!(starting.may_run(over_ms));
    // While it ran: stops, when it is over.
    let decision = starting.on_failure(Call::Heartbeat, taken, over_ms + 1, 3);
    assert!(matches!(decision, Decision::Activate { .. }), "{decision:?}");
    assert!(!starting.may_run(over_ms + 1));
    let decision = starting.on_failure(Call::Activate, taken, over_ms + GRACE_MS + 2, 3);
    assert_eq!(decision, Decision::Stop(StopReason::SlotInUse));
}

#[test]
fn a_program_that_slept_through_its_heartbeats_does_not_run() {
    let mut running = client(None);
    running.on_success(1, NOW_MS);
    assert!(running.may_run(NOW_MS + GRACE_MS) && !running.may_run(NOW_MS + GRACE_MS + 1));
    let unconfigured = Client::start(false, Stored::default(), GRACE_MS, BEAT_MS);
    assert!(unconfigured.state() == State::Unconfigured && !unconfigured.may_run(NOW_MS));
    let mut configured = unconfigured;
    assert_eq!(configured.on_configured(), Decision::Activate { after_ms: 0 });
}

proptest! {
    #[test]
    fn backoff_stays_within_its_bounds(
        failures: u32,
        random: u64,
        asked in prop::option::of(any::<u64>()),
    ) {
        let delay_ms = backoff_ms(failures, random, asked);
        prop_assert!((1..=3_600_000).contains(&delay_ms));
        let asked_ms = asked.unwrap_or(0).saturating_mul(1_000).min(3_600_000);
        prop_assert!(delay_ms.unsigned_abs() >= asked_ms);
        prop_assert!(asked.is_some() || delay_ms <= 900_000);
        prop_assert!(backoff_ms(1, random, None) <= 5_000);
    }

    /// Whatever happens, a program never runs longer than its grace after its last success.
    #[test]
    fn no_story_runs_beyond_the_grace(
        steps in prop::collection::vec((0_u8..7, 0_i64..10 * HOUR_MS), 1..60),
    ) {
        let mut client = client(None);
        let (mut now_ms, mut last_ms) = (NOW_MS, None);
        for (step, later_ms) in steps {
            now_ms += later_ms;
            let reply = match step {
                0 => {
                    client.on_success(1, now_ms);
                    last_ms = Some(now_ms);
                    continue;
                }
                1 => Reply::Unreachable,
                2 => status(503, "unavailable"),
                3 => status(409, "cluster_slot_in_use"),
                4 => status(401, "stale_token_version"),
                5 => status(403, "license_suspended"),
                _ => {
                    client = Client::start(true, client.stored(), GRACE_MS, BEAT_MS);
                    continue;
                }
            };
            client.on_failure(Call::Heartbeat, reply, now_ms, 5);
            if matches!(step, 3 | 5) {
                prop_assert!(!client.may_run(now_ms));
            }
            if client.may_run(now_ms) {
                prop_assert!(last_ms.is_some_and(|last| now_ms - last <= GRACE_MS));
            }
        }
    }
}

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn file() -> FileConfig {
    serde_json::from_value(json!({
        "server_url": "https://kaching.chorus.services/", "license_key": "BZZZ-2025-FILE-0001",
        "cluster_id": "from-file", "email": "customer@example.com", "license_type": "standard",
        "max_nodes": 10, "features": ["basic-coordination"],
        "expires_at": "2027-01-16T08:00:00Z", "validated_at": "2025-09-01T10:30:00Z",
    }))
    .unwrap()
}

#[test]
fn variables_go_before_the_file_and_the_file_before_the_defaults() {
    let config = Config::resolve(&variables(&[]), file()).unwrap();
    assert_eq!(config.server_url, "https://kaching.chorus.services");
    assert_eq!(config.license_key.as_ref().unwrap().expose(), "BZZZ-2025-FILE-0001");
    assert_eq!((config.offline_grace_ms, config.heartbeat_interval_ms), (GRACE_MS, BEAT_MS));
    assert_eq!((config.max_nodes, config.features.len()), (10, 1));
    let all = variables(&[
        (config::SERVER_URL, "http://127.0.0.1:1"),
        (config::KEY, KEY),
        (config::CLUSTER_ID, CLUSTER),
        (config::OFFLINE_GRACE_HOURS, "2"),
        (config::HEARTBEAT_INTERVAL_MINUTES, "5"),
    ]);
    let config = Config::resolve(&all, file()).unwrap();
    assert_eq!(config.server_url, "http://127.0.0.1:1");
    assert_eq!(config.license_key.as_ref().unwrap().expose(), KEY);
    assert_eq!(config.cluster_id.as_deref(), Some(CLUSTER));
    assert_eq!((config.offline_grace_ms, config.heartbeat_interval_ms), (2 * HOUR_MS, 300_000));
    for (name, value) in [
        (config::KEY, "no key"),
        (config::CLUSTER_ID, "a\tb"),
        (config::OFFLINE_GRACE_HOURS, "-1"),
        (config::OFFLINE_GRACE_HOURS, "721"),
        (config::OFFLINE_GRACE_HOURS, "24h"),
        (config::HEARTBEAT_INTERVAL_MINUTES, "0"),
        (config::HEARTBEAT_INTERVAL_MINUTES, "721"),
    ] {
        let error = Config::resolve(&variables(&[(name, value)]), file()).err();
        assert_eq!(error.map(|error| error.name), Some(name), "{value}");
    }
    let none = Config::resolve(&variables(&[(config::SERVER_URL, " ")]), FileConfig::default());
    assert_eq!(none.err().map(|error| error.name), Some(config::SERVER_URL));
}

#[test]
fn what_is_missing_is_said_in_the_documents_words() {
    let bare = || FileConfig { server_url: Some("http://h".to_owned()), ..FileConfig::default() };
    let keyed = || FileConfig { license_key: KEY.parse().ok(), ..bare() };
    let end_ms = file().expires_at.unwrap().unix_ms;
    for (file, now_ms, text) in [
        (bare(), NOW_MS, "no license key configured"),
        (keyed(), NOW_MS, "no cluster ID configured"),
        (file(), end_ms + 1, "license expired on 2027-01-16"),
        (file(), end_ms, ""),
    ] {
        let config = Config::resolve(&variables(&[]), file).unwrap();
        let text_found = config.check(now_ms).err().map(|error| error.to_string());
        assert_eq!(text_found.unwrap_or_default(), text);
    }
    let failed = NotLicensed::ActivationFailed("license is suspended".to_owned());
    assert_eq!(failed.to_string(), "license activation failed: license is suspended");
    for (nodes, max_nodes, fits) in [(10, 10, true), (11, 10, false), (500, 0, true)] {
        assert_eq!(config::check_nodes(nodes, max_nodes).is_ok(), fits);
    }
    assert_eq!(
        config::check_nodes(11, 10).unwrap_err().to_string(),
        "cluster has 11 nodes but license only allows 10 nodes"
    );
}

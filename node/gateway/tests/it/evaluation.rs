//! `evaluation`: hosts that activate and validate, every reason to refuse them, and what is kept of
//! them.

use std::collections::BTreeMap;
use std::time::Duration;

use lease::command::Command;
use lease::entry::{Actor, Envelope};
use lease::ids::TraceId;
use lease::license::KeyWindow;
use protocol::evaluation::identity::HostHash;
use protocol::evaluation::key_ring::{KeyRing, KeyVersion};
use protocol::evaluation::license_file::LicenseFile;
use protocol::offline::{self, Expect, Holder, HolderKind, KeySet};
use protocol::secret::Secret;
use serde_json::{Value, json};

use crate::captured;
use crate::issued::{DAY_MS, Issued, change, issue, now_ms, seats_taken, world};
use crate::recorded::{Differences, exchanges};
use crate::world::{Answer, LIVENESS, World, keys, text_of};

const HOST: &str = "robot-arm-7.plant.example";
const ADDRESS: &str = "203.0.113.78";

async fn plain() -> World {
    world(json!({})).await
}

/// The license of callers without a code.
async fn open(world: &World, plan: Value) -> Issued {
    issue(world, "evaluation", plan, json!({ "open": true })).await
}

fn hash(host: &str) -> String {
    HostHash::of(host).to_string()
}

/// What the published client sends.
fn activation(host: &str, code: Option<&str>) -> Value {
    json!({
        "version": "2.0.0", "type": "evaluation", "timestamp": 1_795_325_574.195,
        "hostname_hash": hash(host), "activation_code": code,
        "org_id": "org-12345", "project_id": "project-atlas-v2",
    })
}

fn validation(activation_id: &str, host: &str) -> Value {
    json!({
        "activation_id": activation_id, "hostname_hash": hash(host),
        "org_id": "org-12345", "project_id": "project-atlas-v2", "timestamp": 1_795_325_574.2,
    })
}

async fn post(world: &World, path: &str, body: &Value) -> Answer {
    world.post(path).json(body).send().await
}

async fn activate(world: &World, host: &str, code: Option<&str>) -> Value {
    granted(&post(world, "/v1/activate", &activation(host, code)).await)
}

/// An operator revokes or reinstates an activation.
async fn change_activation(world: &World, activation_id: &str, what: &str) {
    let number = u128::from_str_radix(&activation_id[4..], 16).expect("hex");
    let uuid = uuid::Uuid::from_u128(number).hyphenated();
    let path = format!("/admin/activations/{uuid}/{what}");
    let changed = world.post(&path).bearer(&world.operator).json(&json!({})).send().await;
    assert!(changed.status.is_success(), "{changed:?}");
}

async fn validate(world: &World, activation_id: &str, host: &str) -> Answer {
    post(world, "/v1/validate", &validation(activation_id, host)).await
}

fn granted(answer: &Answer) -> Value {
    let body = answer.expect(200);
    assert_eq!(body["ok"], true, "{body}");
    body
}

/// 200, `ok:false`, this reason, and the time as a number.
fn refused(answer: &Answer, reason: &str) {
    let body = answer.expect(200);
    assert_eq!((&body["ok"], &body["reason"]), (&json!(false), &json!(reason)), "{body}");
    assert_eq!(body["revoked"], reason == "revoked", "{body}");
    assert!(body["error"].is_string() && body["server_time"].is_f64(), "{body}");
    assert!(body.get("license").is_none() && body.get("activation_id").is_none(), "{body}");
}

/// The ring that a program has when it holds every version from `minimum` on.
fn ring(current: u32, minimum: u32) -> KeyRing {
    let held = keys().evaluation;
    let held: BTreeMap<_, _> = held
        .iter()
        .map(|(version, key)| (KeyVersion(*version), Secret::new(key.expose().clone())))
        .collect();
    KeyRing::new(held, KeyVersion(current), KeyVersion(minimum)).expect("a ring")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_activates_and_validates_at_all_four_addresses() {
    let world = plain().await;
    open(&world, json!({})).await;
    let first = activate(&world, HOST, None).await;
    let id = text_of(&first, "activation_id").to_owned();
    assert!(id.starts_with("act-") && id.len() == 36, "{id}");
    assert_eq!(
        (&first["org_id"], &first["project_id"]),
        (&json!("org-12345"), &json!("project-atlas-v2"))
    );
    assert_eq!(first["plan"], "evaluation");
    let seconds = |body: &Value, name: &str| body[name].as_f64().expect("a number");
    let month = seconds(&first, "expires_at") - seconds(&first, "server_time");
    assert!((2_591_940.0..=2_592_000.0).contains(&month), "{first}");

    let again = granted(&post(&world, "/v1/validate/activate", &activation(HOST, None)).await);
    assert_eq!(
        (&again["activation_id"], &again["expires_at"]),
        (&first["activation_id"], &first["expires_at"])
    );
    for path in ["/v1/validate", "/v1/validate/validate"] {
        let valid = granted(&post(&world, path, &validation(&id, HOST)).await);
        assert_eq!(valid["activation_id"], first["activation_id"]);
        assert!(valid["server_time"].is_f64() && valid.get("license").is_none(), "{valid}");
    }
    assert_eq!(seats_taken(&world).await, 1);
    // A client that sends more of the hash is the same host.
    let mut whole = activation(HOST, None);
    whole["hostname_hash"] = json!(format!("{}{}", hash(HOST).to_uppercase(), "0".repeat(48)));
    let same = granted(&post(&world, "/v1/activate", &whole).await);
    assert_eq!(same["activation_id"], first["activation_id"]);
    let other = activate(&world, "other-host", None).await;
    assert_ne!(other["activation_id"], first["activation_id"]);
    assert_eq!(seats_taken(&world).await, 2);
}

/// Every host without a name sends the hash of `unknown`; no organisation takes over another's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_of_one_name_are_told_apart() {
    let world = plain().await;
    open(&world, json!({})).await;
    let of = |mut body: Value, org: Value, project: &str| {
        body["org_id"] = org;
        body["project_id"] = json!(project);
        body
    };
    let mut ids = Vec::new();
    let all =
        [(json!("acme"), "p"), (json!("other"), "p"), (json!("acme"), "q"), (json!(null), "p")];
    for (org, project) in &all {
        let body = of(activation("", None), org.clone(), project);
        let first = granted(&post(&world, "/v1/activate", &body).await);
        let again = granted(&post(&world, "/v1/activate", &body).await);
        assert_eq!((&first["org_id"], &first["project_id"]), (org, &json!(project)));
        assert_eq!(again["activation_id"], first["activation_id"]);
        ids.push(text_of(&first, "activation_id").to_owned());
    }
    assert_eq!(seats_taken(&world).await, 4);
    for (at, (org, project)) in all.iter().enumerate() {
        let own = of(validation(&ids[at], ""), org.clone(), project);
        granted(&post(&world, "/v1/validate", &own).await);
        let in_part = of(validation(&ids[at], ""), json!(null), project);
        granted(&post(&world, "/v1/validate", &in_part).await);
        let foreign = of(validation(&ids[at], ""), json!("acme"), "elsewhere");
        refused(&post(&world, "/v1/validate", &foreign).await, "project_mismatch");
        let elsewhere = of(validation(&ids[at], "host-9"), org.clone(), project);
        refused(&post(&world, "/v1/validate", &elsewhere).await, "hostname_mismatch");
    }
    let taken_over = of(validation(&ids[0], ""), json!("other"), "p");
    refused(&post(&world, "/v1/validate", &taken_over).await, "project_mismatch");
    assert_eq!(seats_taken(&world).await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_is_200_with_its_reason() {
    let world = plain().await;
    let without = post(&world, "/v1/activate", &activation(HOST, None)).await;
    refused(&without, "invalid_code");
    let opened = open(&world, json!({ "max_activations": 2 })).await;
    for code in ["x", "LH-AAAAA-BBBBB-CCCCC-DDDDD-EEEEE", "\u{e9}"] {
        refused(&post(&world, "/v1/activate", &activation(HOST, Some(code))).await, "invalid_code");
    }
    let first = activate(&world, HOST, Some(&opened.key.to_lowercase())).await;
    let id = text_of(&first, "activation_id");
    refused(&validate(&world, id, "other-host").await, "hostname_mismatch");
    for unknown in ["act-abc123", "act-00000000000000000000000000000000", "what?"] {
        refused(&validate(&world, unknown, HOST).await, "unknown_activation");
    }
    for (name, value) in [("org_id", "org-x"), ("project_id", "project-x")] {
        let mut body = validation(id, HOST);
        body[name] = json!(value);
        refused(&post(&world, "/v1/validate", &body).await, "project_mismatch");
        body[name] = Value::Null;
        granted(&post(&world, "/v1/validate", &body).await);
    }
    activate(&world, "second-host", None).await;
    refused(&post(&world, "/v1/activate", &activation("third-host", None)).await, "no_seat");
    for (what, reason) in
        [("suspend", "suspended"), ("resume", ""), ("revoke", "revoked"), ("reinstate", "")]
    {
        change(&world, &opened, what).await;
        let validated = validate(&world, id, HOST).await;
        let activated = post(&world, "/v1/activate", &activation(HOST, None)).await;
        for answer in [validated, activated] {
            if reason.is_empty() { drop(granted(&answer)) } else { refused(&answer, reason) }
        }
    }
    change(&world, &opened, "cancel").await;
    refused(&validate(&world, id, HOST).await, "revoked");
    // A cancelled license is no longer the open one.
    refused(&post(&world, "/v1/activate", &activation(HOST, None)).await, "invalid_code");
    assert_eq!(seats_taken(&world).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activation_is_revoked_and_reinstated_by_itself_and_never_lasts_longer() {
    let world = plain().await;
    open(&world, json!({ "activation_days": 30 })).await;
    let first = activate(&world, HOST, None).await;
    let id = text_of(&first, "activation_id").to_owned();
    for (what, reason) in [("revoke", "revoked"), ("reinstate", "")] {
        change_activation(&world, &id, what).await;
        let answer = validate(&world, &id, HOST).await;
        if reason.is_empty() { drop(granted(&answer)) } else { refused(&answer, reason) }
    }
    world.clock.pass(Duration::from_secs(29 * 86_400));
    let late = granted(&validate(&world, &id, HOST).await);
    assert_eq!(late["expires_at"], first["expires_at"]);
    world.clock.pass(Duration::from_secs(86_400 + 60));
    refused(&validate(&world, &id, HOST).await, "expired");
    let again = post(&world, "/v1/activate", &activation(HOST, None)).await;
    refused(&again, "expired");
    assert_eq!(seats_taken(&world).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_license_that_has_not_begun_says_so() {
    let world = plain().await;
    let from = protocol::wire::UtcTime::from_unix_ms(now_ms() + DAY_MS).to_string();
    let early = issue(&world, "evaluation", json!({}), json!({ "valid_from": from })).await;
    let answer = post(&world, "/v1/activate", &activation(HOST, Some(&early.key))).await;
    refused(&answer, "not_yet_valid");
    world.clock.pass(Duration::from_secs(86_460));
    activate(&world, HOST, Some(&early.key)).await;
    // A key of another face is no code.
    let other = issue(&world, "deployment", json!({}), json!({})).await;
    let answer = post(&world, "/v1/activate", &activation(HOST, Some(&other.key))).await;
    refused(&answer, "invalid_code");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_decision_has_another_status() {
    let world = plain().await;
    open(&world, json!({})).await;
    let hash_of = |text: &str| json!({ "hostname_hash": text }).to_string();
    let table = [
        ("/v1/activate", "not json".to_owned()),
        ("/v1/activate", "{}".to_owned()),
        ("/v1/activate", hash_of("abc")),
        ("/v1/activate", hash_of(HOST)),
        ("/v1/activate", hash_of(&"a".repeat(65))),
        ("/v1/validate/activate", hash_of("zzzzzzzzzzzzzzzz")),
        ("/v1/validate", hash_of(&hash(HOST))),
        ("/v1/validate", json!({ "activation_id": "act-1" }).to_string()),
        ("/v1/validate/validate", "[]".to_owned()),
    ];
    for (path, body) in table {
        let answer = world.post(path).body(body.clone()).send().await;
        assert_eq!(answer.expect(400)["ok"], false, "{path} {body}");
    }
    let long = world.post("/v1/activate").body("x".repeat(64 * 1024 + 1)).send().await;
    assert_eq!(long.expect(413)["ok"], false);
    let code = |number| format!("LH-GUESS-{number:03}");
    let guess = |code: &str| {
        let body = activation(HOST, Some(code));
        world.post("/v1/activate").from(ADDRESS).json(&body)
    };
    for number in 0..10 {
        refused(&guess(&code(number)).send().await, "invalid_code");
    }
    let turned_away = guess(&code(10)).send().await;
    assert_eq!(turned_away.expect(429)["ok"], false);
    assert!(turned_away.header("retry-after").is_some());
    world.keys.unseal(keys());
    let sealed = World::founded().await;
    let answer = post(&sealed, "/v1/validate", &validation("act-1", HOST)).await;
    assert_eq!(answer.expect(503)["ok"], false);
    assert!(answer.header("retry-after").is_some());
}

/// Has the cluster sign with one version and accept from another on.
async fn rotate(world: &World, current: u32, minimum: u32) {
    let by_node = |command| Envelope {
        actor: Actor::Operator(lease::ids::OperatorId(1)),
        request: None,
        trace: TraceId(1),
        cause: None,
        command,
    };
    let held = keys();
    let secrets = (minimum..=current).map(|version| {
        let name = format!("evaluation-hmac-{version}");
        let secret = held.vault.seal_secret(&name, 1, b"at least sixteen bytes of it");
        by_node(Command::PutSecret(secret.expect("sealed")))
    });
    let window = KeyWindow { name: "evaluation-hmac".into(), current, minimum };
    let mut commands: Vec<_> = secrets.collect();
    commands.push(by_node(Command::SetKeyWindow(window)));
    let submitted = world.cluster.submit(commands, LIVENESS).await.expect("a quorum");
    let refused = |outcome: &_| matches!(outcome, lease::outcome::Outcome::Refused(_));
    assert!(!submitted.outcomes.iter().any(refused), "{submitted:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn license_files_are_signed_with_the_current_key_and_name_no_host() {
    let world = plain().await;
    open(&world, json!({})).await;
    let first = activate(&world, HOST, None).await;
    let file = |answer: &Value| LicenseFile::parse(answer["license"].to_string().as_bytes());
    let of_v1 = file(&first).expect("a license file");
    let license = of_v1.verify(&ring(1, 1)).expect("a signature");
    assert_eq!(license.activation_id, text_of(&first, "activation_id"));
    assert_eq!((license.kind.as_str(), license.version.as_str()), ("evaluation", "2.0.0"));
    assert_eq!(license.org_id.as_deref(), Some("org-12345"));
    assert_eq!(license.project_id.as_deref(), Some("project-atlas-v2"));
    assert_eq!(Some(license.expires_at), first["expires_at"].as_f64());
    assert_eq!((license.hostname, license.revoked), (None, false));
    assert!(first["license"].get("hostname").is_none());
    assert_eq!(of_v1.key_version(), Ok(KeyVersion(1)));
    // A changed byte is found out, whichever field it is in.
    for (name, value) in first["license"].as_object().expect("fields") {
        let mut changed = first["license"].clone();
        changed[name] = match value {
            Value::String(text) => json!(format!("{text}x")),
            Value::Bool(flag) => json!(!flag),
            _ => json!(1.5),
        };
        let changed = LicenseFile::parse(changed.to_string().as_bytes()).expect("a license file");
        assert!(changed.verify(&ring(1, 1)).is_err() || name == "revoked", "{name}");
    }

    rotate(&world, 2, 1).await;
    let again = activate(&world, HOST, None).await;
    let of_v2 = file(&again).expect("a license file");
    assert_eq!(of_v2.key_version(), Ok(KeyVersion(2)));
    assert_eq!(again["expires_at"], first["expires_at"]);
    for (minimum, holds) in [(1, true), (2, false)] {
        assert!(of_v2.verify(&ring(2, minimum)).is_ok());
        assert_eq!(of_v1.verify(&ring(2, minimum)).is_ok(), holds, "{minimum}");
    }
    // The server knows nothing of files: whoever holds an old one still validates.
    granted(&validate(&world, text_of(&first, "activation_id"), HOST).await);
    assert_eq!(seats_taken(&world).await, 1);
    // A node that has yet to open a key says so, and does not sign with an older one.
    rotate(&world, 3, 3).await;
    let answer = post(&world, "/v1/activate", &activation(HOST, None)).await;
    assert_eq!(answer.expect(503)["ok"], false);
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offline_token_is_for_the_hash_of_the_host() {
    let world = world(json!({ "offline": "on", "offline_skew_seconds": 5 })).await;
    open(&world, json!({ "offline_seconds": 3_600, "features": [{ "slug": "cav" }] })).await;
    let first = activate(&world, HOST, None).await;
    let valid = granted(&validate(&world, text_of(&first, "activation_id"), HOST).await);
    let key_set = KeySet::of(keys().offline.public).expect("keys");
    for answer in [first, valid] {
        let holder = Holder::of(HolderKind::Host, &hash(HOST));
        let expect = Expect { holder: Some(&holder), ..Expect::at(now_ms()) };
        let claims = offline::verify(text_of(&answer, "offline_token"), &key_set, &expect);
        let claims = claims.expect("a token");
        assert_eq!((claims.features, claims.token_version), (vec!["cav".to_owned()], 1));
        assert!(claims.exp - claims.iat <= 3_600);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn activations_are_found_by_organisation_and_project() {
    let world = plain().await;
    open(&world, json!({})).await;
    activate(&world, HOST, None).await;
    let mut other = activation("other-host", None);
    other["org_id"] = json!("org-other");
    granted(&post(&world, "/v1/activate", &other).await);
    let list = |query: &str| format!("/admin/activations?protocol=evaluation{query}");
    for (query, found) in [
        ("", 2),
        ("&org_id=org-12345", 1),
        ("&org_id=org-other&project_id=project-atlas-v2", 1),
        ("&project_id=project-atlas-v2", 2),
        ("&project_id=project-x", 0),
    ] {
        let page = world.get(&list(query)).bearer(&world.auditor).send().await.expect(200);
        assert_eq!(page["activations"].as_array().map(Vec::len), Some(found), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_tells_organisations_and_nobody_s_address_or_host() {
    let logged = captured::events();
    let world = plain().await;
    open(&world, json!({})).await;
    // Names of this test alone: other tests write into the same log.
    let (org, project, host) = ("org-log-7", "project-log-7", "host-of-the-log-test.example");
    let named = |mut body: Value| {
        body["org_id"] = json!(org);
        body["project_id"] = json!(project);
        body
    };
    let ask = async |path: &str, body: Value| {
        world.post(path).from(ADDRESS).json(&named(body)).send().await
    };
    let first = granted(&ask("/v1/activate", activation(host, None)).await);
    let id = text_of(&first, "activation_id");
    granted(&ask("/v1/validate", validation(id, host)).await);
    refused(&ask("/v1/validate", validation(id, "elsewhere")).await, "hostname_mismatch");
    refused(&ask("/v1/activate", activation(host, Some("LH-WRONG-CODE"))).await, "invalid_code");

    let all = logged.lock().expect("events").clone();
    let ours: Vec<_> = all
        .iter()
        .filter(|event| event.target == "leasehold::evaluation" && event.field("org_id") == org)
        .collect();
    let told: Vec<_> = ours
        .iter()
        .map(|event| {
            let field = |name| event.field(name);
            (event.level.as_str(), field("event"), field("success"), field("reason"))
        })
        .collect();
    let want = [
        ("INFO", "license_activation", "true", "activated"),
        ("INFO", "license_validation", "true", "valid"),
        ("WARN", "license_validation", "false", "hostname_mismatch"),
        ("WARN", "license_rejection", "", "hostname_mismatch"),
        ("WARN", "license_activation", "false", "invalid_code"),
        ("WARN", "license_rejection", "", "invalid_code"),
    ];
    assert_eq!(told, want);
    assert!(ours.iter().all(|event| event.field("project_id") == project));
    let with_id = ours.iter().filter(|event| event.field("activation_id") == id);
    assert_eq!(with_id.count(), 4);
    for event in &all {
        let text = event.text();
        for secret in [ADDRESS, host, &hash(host)] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    // Neither are they in anything that was stored; what is kept of the organisation, is.
    let stored = captured::stored_bytes(world.dir.path());
    let is_stored = |text: &[u8]| stored.iter().any(|file| contains(file, text));
    assert!(is_stored(org.as_bytes()));
    let octets: [u8; 4] = [203, 0, 113, 78];
    for secret in [ADDRESS.as_bytes(), host.as_bytes(), &octets] {
        assert!(!is_stored(secret), "{secret:?}");
    }
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_exchanges_are_answered_as_the_list_of_differences_says() {
    let Some(exchanges) = exchanges("evaluation/exchanges.json") else { return };
    let mut differences = Differences::of("evaluation-differences.toml");
    let world = plain().await;
    let opened = open(&world, json!({})).await;
    let mut activation_id = String::new();
    for (number, exchange) in exchanges.iter().enumerate() {
        assert_eq!(exchange.request.method, "POST");
        if number == FIRST_AFTER_REVOCATION {
            change(&world, &opened, "revoke").await;
        }
        // The id is the server's to choose.
        let body = exchange.request.body.replace("act-abc123", &activation_id);
        let answer = world.post(&exchange.request.path).body(body).send().await;
        differences.check(number, &exchange.response, &answer);
        if let Some(id) = answer.json()["activation_id"].as_str() {
            activation_id = id.to_owned();
        }
    }
    differences.end();
}

/// In the recording, the exchange before which somebody revoked the license.
const FIRST_AFTER_REVOCATION: usize = 2;

//! What the official client and server said to each other, said to us and compared field by field.
//!
//! The recordings lie beside the repository (`../shared/fixtures/device`) and are not part of it;
//! where they are not there, this test says that it skips. Before each exchange the ledger is given
//! the client and the license of the recording, under their own ids and key. Then every field that
//! is not as recorded must be in `tests/conformance/device-differences.toml` with a reason, and
//! every row there must have been met. Times and random bytes are compared by their form.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use lease::command::{Command, Subject};
use lease::entry::{Actor, Envelope};
use lease::ids::{
    ActivationId, AddressTag, ClientId, Face, LeaseId, LicenseId, OperatorId, ProductId,
    SubjectRef, TraceId,
};
use lease::license::{
    Activate, AddClient, CheckMode, Claim, DeviceIdentity, IssueLicense, KeyRow, LicenseTerms,
    Permission, Plan, PlanFeature, PlanScope,
};
use lease::outcome::Outcome;
use protocol::device::crypto::SessionKey;
use protocol::device::envelope;
use protocol::device::key::LicenseKey;
use protocol::device::payload::{Entitlements, LicenseData};
use protocol::device::time::LicenseTime;
use protocol::device::wire::ActivationResponse;
use protocol::secret::Secret;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::shop::{OWNER, Shop};
use crate::world::{Answer, LIVENESS, PACKAGE, keys};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Differences {
    difference: Vec<Difference>,
}

/// A field that is not as recorded, and why. `*` in `exchange` or `ours` is anything.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    exchange: String,
    field: String,
    recorded: String,
    ours: String,
    reason: String,
}

/// Compares, and remembers which differences were met.
struct Comparison {
    known: Vec<Difference>,
    met: BTreeSet<usize>,
    unknown: Vec<String>,
}

impl Comparison {
    fn compare(&mut self, exchange: &str, recorded: &Value, ours: &Value) {
        let (recorded, ours) = (fields(recorded), fields(ours));
        let names: BTreeSet<&String> = recorded.keys().chain(ours.keys()).collect();
        for name in names {
            let text = |side: &BTreeMap<String, String>| {
                side.get(name).cloned().unwrap_or_else(|| "absent".to_owned())
            };
            let (was, is) = (text(&recorded), text(&ours));
            if was == is {
                continue;
            }
            let fits = |row: &Difference| {
                (row.exchange == "*" || row.exchange == exchange)
                    && row.field == *name
                    && row.recorded == was
                    && (row.ours == "*" || row.ours == is)
            };
            match self.known.iter().position(fits) {
                Some(row) => _ = self.met.insert(row),
                None => self.unknown.push(format!("{exchange} {name}: {was} -> {is}")),
            }
        }
    }
}

/// Every leaf by its path; times and random bytes by their form.
fn fields(value: &Value) -> BTreeMap<String, String> {
    fn walk(path: &str, value: &Value, into: &mut BTreeMap<String, String>) {
        let below = |name: &str| match path {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        };
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    walk(&below(name), value, into);
                }
            }
            Value::Array(items) => {
                let mut items: Vec<&Value> = items.iter().collect();
                // The order of devices says nothing.
                items.sort_by_key(|item| item["fingerprint"].to_string());
                for (at, item) in items.into_iter().enumerate() {
                    walk(&below(&at.to_string()), item, into);
                }
            }
            Value::String(text) => _ = into.insert(path.to_owned(), form(path, text)),
            other => _ = into.insert(path.to_owned(), other.to_string()),
        }
    }
    let mut into = BTreeMap::new();
    walk("", value, &mut into);
    into
}

fn form(path: &str, text: &str) -> String {
    let is_time = text.parse::<LicenseTime>().is_ok_and(|time| !time.is_zero());
    match path {
        "encrypted_license" | "nonce" | "signature" => {
            let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).map(|bytes| bytes.len());
            match bytes {
                Ok(_) if path == "encrypted_license" => "<hex>".to_owned(),
                Ok(length) => format!("<hex of {length} bytes>"),
                Err(_) => text.to_owned(),
            }
        }
        "public_key" => match protocol::keys::PublicKey::from_pem(text) {
            Ok(key) => format!("<PEM of {:?}>", key.algorithm()),
            Err(_) => text.to_owned(),
        },
        "x-request-id" if Uuid::try_parse(text).is_ok() => "<uuid>".to_owned(),
        _ if is_time => "<time>".to_owned(),
        _ => text.to_owned(),
    }
}

fn fixtures() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/device");
    if root.is_dir() {
        return Some(root);
    }
    eprintln!("SKIPPED: {} is not there, no recording was replayed", root.display());
    None
}

fn read(root: &Path, name: &str) -> Value {
    let text =
        fs::read_to_string(root.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_exchange_is_answered_as_recorded() {
    let Some(root) = fixtures() else { return };
    let listed = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/conformance/device-differences.toml");
    let listed = fs::read_to_string(listed).expect("the list of differences");
    let Differences { difference: known } = toml::from_str(&listed).expect("the list");
    assert!(known.iter().all(|row| row.reason.len() > 20), "every difference has its reason");
    let mut comparison = Comparison { known, met: BTreeSet::new(), unknown: Vec::new() };
    client_run(&root.join("client-run"), &mut comparison).await;
    let mut payloads: Vec<_> = fs::read_dir(root.join("payloads"))
        .expect("payloads")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .collect();
    payloads.sort();
    assert!(payloads.len() >= 7, "{payloads:?}");
    for name in payloads {
        payload(&root.join("payloads"), &name, &mut comparison).await;
    }
    upstream(&root.join("upstream-v1"), &mut comparison).await;
    assert!(comparison.unknown.is_empty(), "not listed:\n{}", comparison.unknown.join("\n"));
    let unmet = comparison.known.iter().enumerate();
    let unmet: Vec<_> = unmet.filter(|(row, _)| !comparison.met.contains(row)).collect();
    assert!(unmet.is_empty(), "listed and not met: {unmet:?}");
}

/// One activation in the clear and one verification in an envelope, byte for byte as they were.
async fn client_run(root: &Path, comparison: &mut Comparison) {
    let shop = Shop::empty(false, json!({})).await;
    let recorded = read(root, "license_data.json");
    let license: LicenseData = serde_json::from_value(recorded.clone()).expect("a license");
    seed(&shop, &license, license.email.as_str()).await;
    let fingerprint = license.devices[0].fingerprint.clone();

    let body = fs::read(root.join("activation_request.json")).expect("a request");
    let headers = read(root, "activation_request_headers.json");
    let answer = ask(&shop, "/api/activate", &headers, body).await;
    let was = read(root, "activation_response.json");
    comparison.compare("client-run/activation", &was, &answer.expect(200));
    let was = read(root, "activation_response_headers.json");
    comparison.compare("client-run/activation headers", &recorded_headers(&was), &ours(&answer));
    let opened = opened(&answer.text, &fingerprint).0;
    comparison.compare("client-run/activation payload", &recorded, &opened);

    // The envelope was sealed under the session key that the recorded server drew.
    let shop = Shop::empty(false, json!({})).await;
    seed(&shop, &license, license.email.as_str()).await;
    let hex = fs::read_to_string(root.join("session_key.hex")).expect("the session key");
    let session: [u8; 32] = data_encoding::HEXLOWER
        .decode(hex.trim().as_bytes())
        .expect("hex")
        .try_into()
        .expect("32 bytes");
    activate_with(&shop, &license, session).await;
    let body = fs::read(root.join("verify_request_envelope.json")).expect("a request");
    let headers = read(root, "verify_request_headers.json");
    let answer = ask(&shop, "/api/verify", &headers, body).await;
    assert_eq!(answer.status.as_u16(), 200, "{answer:?}");
    let was = read(root, "verify_response_headers.json");
    comparison.compare("client-run/verify headers", &recorded_headers(&was), &ours(&answer));
    let session: SessionKey = Secret::new(session);
    let plain = envelope::open(&session, answer.text.as_bytes()).expect("our session key");
    let plain: Value = serde_json::from_slice(&plain).expect("JSON");
    let was = read(root, "verify_response_plain.json");
    comparison.compare("client-run/verify", &was, &plain);
    let (was, was_session) = self::opened(&was.to_string(), &fingerprint);
    let (is, is_session) = self::opened(&plain.to_string(), &fingerprint);
    assert_eq!(is_session, was_session, "the session key that the device knows");
    comparison.compare("client-run/verify payload", &was, &is);
}

/// A payload: its license with as many devices, the last call by whom it was given to.
async fn payload(root: &Path, name: &str, comparison: &mut Comparison) {
    let shop = Shop::empty(false, json!({})).await;
    let recorded = read(root, name);
    let license: LicenseData = serde_json::from_value(recorded.clone()).expect("a license");
    let is_owners = license.granted_by.is_none();
    let owner = if is_owners { license.email.as_str() } else { OWNER };
    seed(&shop, &license, owner).await;
    let mut devices = license.devices.clone();
    devices.sort_by_key(|device| device.last_seen_at);
    let last = devices.len() - 1;
    for (at, device) in devices.iter().enumerate() {
        let email = if at == last { license.email.as_str() } else { owner };
        let body = json!({
            "email": email,
            "client_id": license.client_id,
            "license_key": license.license_key.expose(),
            "device_fingerprint": device.fingerprint,
        });
        let answer = shop.world.post("/api/activate").json(&body).send().await;
        answer.expect(200);
        if at == last {
            let is = opened(&answer.text, &device.fingerprint).0;
            comparison.compare(&format!("payloads/{name}"), &recorded, &is);
        }
    }
}

/// The published fixtures' request has a key that no server takes, the official one included.
async fn upstream(root: &Path, comparison: &mut Comparison) {
    let shop = Shop::empty(false, json!({})).await;
    let body = fs::read(root.join("activation_request.json")).expect("a request");
    let answer = ask(&shop, "/api/activate", &json!([]), body).await;
    let was = read(root, "activation_response.json");
    comparison.compare("upstream-v1/activation", &was, &answer.expect(400));
}

async fn ask(shop: &Shop, path: &str, headers: &Value, body: Vec<u8>) -> Answer {
    let mut ask = shop.world.post(path);
    for header in headers.as_array().expect("headers") {
        let text = |at: usize| header[at].as_str().expect("text");
        if !FRAMING.contains(&text(0).to_lowercase().as_str()) {
            ask = ask.header(text(0), text(1));
        }
    }
    ask.body(body).send().await
}

fn recorded_headers(headers: &Value) -> Value {
    let pairs = headers.as_array().expect("headers").iter().map(|header| {
        let text = |at: usize| header[at].as_str().expect("text");
        (text(0).to_lowercase(), json!(text(1)))
    });
    Value::Object(pairs.filter(|(name, _)| !FRAMING.contains(&name.as_str())).collect())
}

fn ours(answer: &Answer) -> Value {
    let pairs = answer
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), json!(value.to_str().expect("text"))));
    Value::Object(pairs.filter(|(name, _)| !FRAMING.contains(&name.as_str())).collect())
}

/// What an answer holds for a device, and its session key.
fn opened(answer: &str, fingerprint: &str) -> (Value, [u8; 32]) {
    let (sealed, _) = ActivationResponse::read(answer.as_bytes()).expect("an answer");
    let opened = sealed.open(fingerprint, None).expect("sealed to this device");
    let json = serde_json::from_slice(&opened.license_json).expect("JSON");
    (json, *opened.session_key.expose())
}

/// Puts the recorded client and license into the ledger, under their own ids and key.
async fn seed(shop: &Shop, license: &LicenseData, owner: &str) {
    let client = ClientId(number(&license.client_id));
    let email = Subject { name: owner.into(), candidate: SubjectRef(77) };
    submit(shop, OPERATOR, Command::AddClient(AddClient { client, email })).await;
    let clock = shop.world.cluster.ledger().clock();
    let issue = IssueLicense {
        terms: LicenseTerms {
            license: LicenseId(number(&license.id)),
            face: Face::Device,
            package: PACKAGE.into(),
            client: Some(client),
            organisation: "".into(),
            plan: plan(license),
            valid_from_ms: clock.civil_ms,
            valid_until_ms: None,
            open: false,
        },
        key: KeyRow { mac: mac(license), hint: "".into() },
    };
    submit(shop, OPERATOR, Command::IssueLicense(Box::new(issue))).await;
}

async fn activate_with(shop: &Shop, license: &LicenseData, session: [u8; 32]) {
    let activation = ActivationId(number("11111111-2222-4333-8444-555555555555"));
    let record = format!("activation/{}", Uuid::from_u128(activation.0));
    let identity = DeviceIdentity {
        product: None,
        client: Some(ClientId(number(&license.client_id))),
        email: Subject { name: license.email.as_str().into(), candidate: SubjectRef(78) },
        subject_client: ClientId(1),
    };
    let session = keys().vault.seal(&record, &session).expect("sealed");
    let activate = Activate {
        key_mac: Some(mac(license)),
        address: AddressTag(0),
        holder: license.devices[0].fingerprint.as_str().into(),
        activation,
        lease: LeaseId { group: 0, random: [7; 10] },
        claim: Claim::Device { identity, session },
    };
    let actor = Actor::Face(Face::Device);
    submit(shop, actor, Command::Activate(Box::new(activate))).await;
}

async fn submit(shop: &Shop, actor: Actor, command: Command) {
    let envelope = Envelope { actor, request: None, trace: TraceId(1), cause: None, command };
    let submitted = shop.world.cluster.submit(vec![envelope], LIVENESS).await.expect("a quorum");
    assert!(!matches!(submitted.outcomes[0], Outcome::Refused(_)), "{submitted:?}");
}

fn mac(license: &LicenseData) -> [u8; 32] {
    let key = LicenseKey::normalise(license.license_key.expose()).expect("a key");
    keys().license_keys.tag(&[b"license-key", key.expose().as_bytes()])
}

fn number(uuid: &str) -> u128 {
    Uuid::try_parse(uuid).unwrap_or_else(|error| panic!("{uuid}: {error}")).as_u128()
}

fn plan(license: &LicenseData) -> Plan {
    use protocol::device::schedule::CheckMode as Mode;
    let entitlements = license.entitlements.as_ref();
    let of = |get: fn(&Entitlements) -> &String| entitlements.map(get);
    Plan {
        slug: license.plan_slug.as_str().into(),
        id: of(|it| &it.plan_id).map_or(0, |id| number(id)),
        product: of(|it| &it.product_slug).map_or("", String::as_str).into(),
        product_id: of(|it| &it.product_id).map(|id| ProductId(number(id))),
        kind: "standard".into(),
        features: entitlements.map(features).unwrap_or_default(),
        max_activations: license.max_devices,
        max_nodes: 0,
        seats_per_activation: 1,
        check: match license.check_mode {
            Mode::None => CheckMode::None,
            Mode::EachExecution => CheckMode::EachExecution,
            Mode::Monthly => CheckMode::Monthly,
            Mode::Yearly => CheckMode::Yearly,
            Mode::Custom => CheckMode::Custom,
        },
        check_interval_s: license
            .check_interval_seconds
            .map_or(0, |seconds| u32::try_from(seconds).expect("some seconds")),
        activation_ms: 0,
        slot_ttl_ms: 0,
        offline_ms: 0,
        trial: false,
        quotas: Vec::new(),
    }
}

fn features(entitlements: &Entitlements) -> Vec<PlanFeature> {
    use protocol::device::payload::Permission as Word;
    let features = entitlements.features.values().map(|feature| PlanFeature {
        slug: feature.feature_slug.as_str().into(),
        id: number(&feature.feature_id),
        category: feature.category.as_str().into(),
        enabled: feature.enabled,
        scopes: feature
            .scopes
            .values()
            .map(|scope| PlanScope {
                slug: scope.scope_slug.as_str().into(),
                id: number(&scope.scope_id),
                permission: match scope.permission {
                    Word::Allow => Permission::Allow,
                    Word::Deny => Permission::Deny,
                    Word::Limit => Permission::Limit,
                },
                limit: scope.limit,
                metadata: "".into(),
            })
            .collect(),
    });
    features.collect()
}

const OPERATOR: Actor = Actor::Operator(OperatorId(2));
/// How HTTP frames a message, which is the business of the stack below.
const FRAMING: [&str; 4] = ["date", "transfer-encoding", "content-length", "host"];

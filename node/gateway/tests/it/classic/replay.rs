//! Every recorded exchange of the first server, told to ours when the clock shows the time of the
//! recording, so that the clients' own signatures count, and compared field by field.
//!
//! The recording is a part of what happened: between its exchanges others borrowed. What is missing
//! is done here ([`BEFORE`]), and where the two servers differ on purpose the seats are brought
//! back together afterwards, so that one difference is met once. Ids of borrows are told apart by
//! what they stand for; of times only the form is compared.

use std::collections::BTreeMap;

use http::Method;
use lease::command::Command;
use lease::entry::{Actor, Envelope};
use lease::ids::{ApiKeyId, OperatorId, TraceId};
use lease::offline::ApiKeyRow;
use lease::outcome::Outcome;
use protocol::classic::signature::{SignedParts, sign};
use protocol::secret::Secret;
use serde_json::{Value, json};

use super::Terms;
use crate::recorded::{Differences, Exchange, exchanges};
use crate::world::{Answer, LIVENESS, World, keys, text_of};

/// When the first exchange was recorded, in Unix seconds.
const RECORDED_AT: i64 = 1_795_325_354;
/// What the vendor's clients signed with, by the recording.
const VENDOR_SECRET: &[u8] = b"techvendor_secret_ecu_2025_demo_xyz789abc123def456";
const API_KEY: &str = "acme_test_pk_UWuZgnkCwbRdnEif7yDDzlTpZfCuW_leHLGw_NJaplw";
const API_KEY_ID: u64 = 0x1a53_99c3_0c9c_32e0;

const CAN: &str = "CAN Bus Analyzer Pro";
const ECU: &str = "ECU Development Suite";
const AUTOSAR: &str = "AUTOSAR Configuration Tool";

/// Tool, commit, overage, price of both, by the recorded status.
const TOOLS: [(&str, u32, u32, u32, u32); 5] = [
    (AUTOSAR, 8, 4, 4_000, 400),
    (CAN, 10, 0, 2_000, 0),
    (ECU, 5, 15, 5_000, 500),
    ("GreenHills Multi IDE", 10, 5, 8_000, 800),
    ("Model-Based Design Studio", 6, 12, 6_000, 600),
];

/// Borrows that the recording leaves out: before which exchange, of what, by whom.
const BEFORE: [(usize, &str, &[&str]); 5] = [
    (7, CAN, &["u0", "u1", "u2", "u3", "u4", "u5", "u6", "u7", "u8"]),
    (18, ECU, &["cpp-client-user"]),
    (36, CAN, &["u0"]),
    (37, ECU, &["u0", "u1", "u2", "u3"]),
    (38, AUTOSAR, &["u0", "u1", "u2", "u3", "u4", "u5", "u6", "u7", "u8", "u9", "u10", "u11"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_exchange_is_answered_alike_or_differs_on_purpose() {
    let Some(exchanges) = exchanges("classic/exchanges.json") else { return };
    let mut differences = Differences::of("classic-differences.toml");
    let mut replay = Replay::begin().await;
    for (at, exchange) in exchanges.iter().enumerate() {
        replay.fill_in(at).await;
        let answer = replay.tell(exchange).await;
        replay.learn(exchange, &answer);
        let (was, is) = (replay.fields_of_recorded(exchange), fields_of_ours(&answer));
        for name in was.keys().chain(is.keys().filter(|name| !was.contains_key(*name))) {
            let text = |fields: &BTreeMap<String, String>| {
                fields.get(name).cloned().unwrap_or_else(|| "absent".to_owned())
            };
            if text(&was) != text(&is) {
                differences.expect(at, name, &text(&was), &text(&is));
            }
        }
        replay.bring_together(at, exchange, &answer).await;
    }
    assert_eq!(exchanges.len(), 41, "the recording is another one");
    differences.end();
}

struct Replay {
    world: World,
    /// Ids of borrows as recorded, and ours.
    ids: BTreeMap<String, String>,
}

impl Replay {
    async fn begin() -> Self {
        let world = World::at(RECORDED_AT * 1_000).await;
        let mut keys = keys();
        keys.classic_vendors.insert("techvendor".to_owned(), Secret::new(VENDOR_SECRET.to_vec()));
        world.keys.unseal(keys);
        world.pin_vendor().await.expect(201);
        for (at, (tool, commit, max_overage, commit_price, overage_price)) in
            TOOLS.into_iter().enumerate()
        {
            let (package, product) = (format!("package-{at}"), format!("product-{at}"));
            let (package, product) = (package.as_str(), product.as_str());
            let terms =
                Terms { package, tool, product, commit, max_overage, commit_price, overage_price };
            world.import_tool(RECORDED_AT * 1_000, &terms).await;
        }
        Self { world, ids: BTreeMap::new() }
    }

    async fn fill_in(&self, at: usize) {
        for (before, tool, users) in BEFORE {
            for user in users.iter().filter(|_| before == at) {
                self.borrow(tool, user).await;
            }
        }
    }

    async fn borrow(&self, tool: &str, user: &str) -> Value {
        let timestamp = RECORDED_AT.to_string();
        let parts = SignedParts { tool, user, timestamp: &timestamp, api_key: None };
        let ask = self
            .world
            .post("/licenses/borrow")
            .header("x-signature", &sign(VENDOR_SECRET, &parts))
            .header("x-timestamp", &timestamp);
        ask.json(&json!({ "tool": tool, "user": user })).send().await.expect(200)
    }

    async fn tell(&self, exchange: &Exchange) -> Answer {
        let request = &exchange.request;
        let method = Method::from_bytes(request.method.as_bytes()).expect("a method");
        let mut ask = self.world.ask(method, &request.path);
        let mut is_authorized = false;
        for (name, value) in request.headers.as_object().into_iter().flatten() {
            let value =
                value.as_str().expect("a header").replace("golden-admin", &self.world.admin);
            is_authorized |= name.eq_ignore_ascii_case("authorization");
            ask = ask.header(name, &value);
        }
        // Keys, limits, borrows and charges are for operators here; what follows is compared.
        let for_operators = ["/api/keys", "/config/", "/borrows", "/overage-charges"];
        let is_for_operators = for_operators.iter().any(|begin| request.path.starts_with(begin));
        if is_for_operators && !is_authorized {
            ask = ask.bearer(&self.world.admin);
        }
        let body = self.ids.iter().fold(request.body.clone(), |body, (recorded, ours)| {
            body.replace(recorded.as_str(), ours)
        });
        ask.body(body).send().await
    }

    /// Learns which borrow of ours stands for a recorded one.
    fn learn(&mut self, exchange: &Exchange, answer: &Answer) {
        let was: Value = serde_json::from_str(&exchange.response.body).unwrap_or_default();
        let (was, is) = match (was, answer.json()) {
            (Value::Array(was), Value::Array(is)) => (was, is),
            (was, is) => (vec![was], vec![is]),
        };
        for (was, is) in was.iter().zip(&is) {
            let same = was["user"] == is["user"] && was["tool"] == is["tool"];
            if let (Some(recorded), Some(ours), true) =
                (was["id"].as_str(), is["id"].as_str(), same)
            {
                let known = self.ids.insert(recorded.to_owned(), ours.to_owned());
                assert!(known.is_none_or(|known| known == ours), "{recorded} is two borrows");
            }
        }
    }

    fn fields_of_recorded(&self, exchange: &Exchange) -> BTreeMap<String, String> {
        let response = &exchange.response;
        let body = self.ids.iter().fold(response.body.clone(), |body, (recorded, ours)| {
            body.replace(recorded.as_str(), ours)
        });
        fields(response.status, response.content_type.as_deref(), &body)
    }

    /// Where one server gave a seat or key and the other did not: gives it back, or takes it.
    async fn bring_together(&self, at: usize, exchange: &Exchange, answer: &Answer) {
        let (was, is) = (exchange.response.status, answer.status.as_u16());
        match (at, exchange.request.path.as_str()) {
            (0, _) => self.exchange_key(&answer.json()).await,
            (_, "/licenses/borrow") if was == 200 && is != 200 => {
                let body: Value = serde_json::from_str(&exchange.request.body).expect("a body");
                self.borrow(text_of(&body, "tool"), text_of(&body, "user")).await;
            }
            (_, "/licenses/borrow") if was != 200 && is == 200 => {
                self.world.return_by_id(&answer.json()).await.expect(200);
            }
            _ => {}
        }
    }

    /// Puts the recorded key in place of ours.
    async fn exchange_key(&self, ours: &Value) {
        let path = format!("/api/keys/{}", text_of(ours, "key_id"));
        let ask = self.world.ask(Method::DELETE, &path).bearer(&self.world.admin);
        ask.send().await.expect(200);
        let command = Command::AddApiKey(ApiKeyRow {
            key: ApiKeyId(API_KEY_ID),
            mac: keys().license_keys.tag(&[b"api-key", API_KEY.as_bytes()]),
            name: "golden".into(),
            environment: "test".into(),
            tenant: "acme".into(),
            created_at_ms: 0,
        });
        let envelope = Envelope {
            actor: Actor::Operator(OperatorId(1)),
            request: None,
            trace: TraceId(1),
            cause: None,
            command,
        };
        let submitted = self.world.cluster.submit(vec![envelope], LIVENESS).await;
        assert_eq!(submitted.expect("a quorum").outcomes, [Outcome::Done]);
    }
}

fn fields_of_ours(answer: &Answer) -> BTreeMap<String, String> {
    fields(answer.status.as_u16(), answer.header("content-type"), &answer.text)
}

/// Status, media type and every field of the body with its place. A body that is not JSON is one
/// field.
fn fields(status: u16, content_type: Option<&str>, body: &str) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::from([
        ("status".to_owned(), status.to_string()),
        ("content-type".to_owned(), content_type.unwrap_or_default().to_owned()),
    ]);
    match serde_json::from_str(body) {
        Ok(body) => flatten("body", &body, &mut fields),
        Err(_) => {
            fields.insert("body".to_owned(), json!(body).to_string());
        }
    }
    fields
}

fn flatten(place: &str, value: &Value, fields: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                flatten(&format!("{place}.{name}"), value, fields);
            }
        }
        Value::Array(items) => {
            fields.insert(format!("{place}.len"), items.len().to_string());
            for (at, value) in items.iter().enumerate() {
                flatten(&format!("{place}[{at}]"), value, fields);
            }
        }
        Value::String(time) if place.ends_with("_at") => {
            fields.insert(place.to_owned(), form_of_time(time));
        }
        value => {
            fields.insert(place.to_owned(), value.to_string());
        }
    }
}

/// A time with its digits hidden. The fraction is left out: a whole second has none.
fn form_of_time(time: &str) -> String {
    let (seconds, rest) = time.split_at(time.len().min(19));
    let zone = rest.trim_start_matches(|letter: char| letter == '.' || letter.is_ascii_digit());
    let hidden = |letter: char| if letter.is_ascii_digit() { '0' } else { letter };
    seconds.chars().map(hidden).chain(zone.chars()).collect()
}

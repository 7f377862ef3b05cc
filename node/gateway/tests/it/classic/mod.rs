//! The `classic` face over a real cluster of one node: its words and statuses, what a tool is, who
//! may change what, and every recorded exchange of the first server. (Over 500 lines, because the
//! tables of one protocol are read together.)

mod replay;

use gateway::{ClassicFace, Faces};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use protocol::classic::signature::{SignedParts, sign};
use protocol::package::sample_document;
use serde_json::{Value, json};
use storage::seam::{Clock, RealClock};

use crate::world::{Answer, App, Ask, LIVENESS, World, text_of};

const TOOL: &str = "DaVinci Configurator SE";
/// Of the right form, and nobody's.
const STRANGE_KEY: &str = "acme_test_pk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const SECRET: &[u8] = b"a vendor's secret";

/// A package of the sample's kind with other seats and prices.
struct Terms<'a> {
    package: &'a str,
    tool: &'a str,
    product: &'a str,
    commit: u32,
    max_overage: u32,
    commit_price: u32,
    overage_price: u32,
}

impl World {
    /// With the classic face set like this, the sample package and an application.
    async fn with_classic(face: ClassicFace) -> (Self, App) {
        let world = Self::with_faces(Faces { classic: Some(face), ..Faces::default() }).await;
        world.pin_vendor().await.expect(201);
        world.import(&world.sample(&[])).await.expect(201);
        let app = world.register().await;
        (world, app)
    }

    /// Imports a package, valid from a day before this time for a year.
    async fn import_tool(&self, now_ms: i64, terms: &Terms<'_>) {
        let day_ms = 24 * 60 * 60 * 1000;
        let document = sample_document(now_ms - day_ms, now_ms + 365 * day_ms, &[]);
        let mut document: Value = serde_json::from_str(&document).expect("a sample is JSON");
        document["package_id"] = json!(terms.package);
        document["product"]["name"] = json!(terms.tool);
        document["product"]["product_id"] = json!(terms.product);
        document["entitlement"]["total_licenses"] = json!(terms.commit + terms.max_overage);
        document["entitlement"]["commit_qty"] = json!(terms.commit);
        document["entitlement"]["max_overage"] = json!(terms.max_overage);
        let pricing = &mut document["entitlement"]["pricing"];
        pricing["commit_fee_monthly"] = json!(terms.commit_price);
        pricing["overage_per_use"] = json!(terms.overage_price);
        self.import(&self.sign(&document.to_string())).await.expect(201);
    }

    fn put(&self, path: &str) -> Ask<'_> {
        self.ask(Method::PUT, path)
    }

    /// A borrow, signed now.
    fn borrow(&self, tool: &str, user: &str, api_key: Option<&str>) -> Ask<'_> {
        let timestamp = now_seconds().to_string();
        let ask = self.signed("/licenses/borrow", tool, user, &timestamp, api_key);
        ask.json(&json!({ "tool": tool, "user": user }))
    }

    fn signed(
        &self,
        path: &str,
        tool: &str,
        user: &str,
        timestamp: &str,
        api_key: Option<&str>,
    ) -> Ask<'_> {
        let signature = sign(SECRET, &SignedParts { tool, user, timestamp, api_key });
        let ask = self
            .post(path)
            .header("x-signature", &signature)
            .header("x-timestamp", timestamp)
            .header("x-vendor-id", "techvendor");
        match api_key {
            Some(key) => ask.bearer(key),
            None => ask,
        }
    }

    async fn return_by_id(&self, borrow: &Value) -> Answer {
        self.post("/licenses/return").json(&json!({ "id": borrow["id"] })).send().await
    }

    async fn new_key(&self, tenant: &str) -> Value {
        let body = json!({ "name": "ci", "environment": "test", "tenant_id": tenant });
        self.post("/api/keys").bearer(&self.admin).json(&body).send().await.expect(200)
    }

    async fn status_of(&self, tool: &str) -> Value {
        let path = format!("/licenses/{}/status", tool.replace(' ', "%20"));
        self.get(&path).send().await.expect(200)
    }
}

fn now_seconds() -> i64 {
    RealClock::new().wall_ms() / 1_000
}

fn assert_detail(answer: &Answer, status: u16, detail: &str) {
    assert_eq!(answer.expect(status), json!({ "detail": detail }), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seat_is_borrowed_and_returned_and_is_a_seat_for_all() {
    let (world, app) = World::ready(&[]).await;
    let answer = world.borrow(TOOL, "alice", None).send().await;
    let borrow = answer.expect(200);
    // What the C client looks for, and where it has room for 63 characters.
    assert!(answer.text.starts_with("{\"id\":\""), "{}", answer.text);
    assert!(text_of(&borrow, "id").len() < 64);
    assert_eq!((&borrow["tool"], &borrow["user"]), (&json!(TOOL), &json!("alice")));
    let status = world.status_of(TOOL).await;
    let want = json!({
        "tool": TOOL, "total": 20, "borrowed": 1, "available": 19, "commit": 5,
        "max_overage": 15, "overage": 0, "in_commit": true, "commit_price": 5000.0,
        "overage_price_per_license": 500.0, "current_overage_cost": 0.0, "total_cost": 5000.0,
    });
    assert_eq!(status, want);
    let all = world.get("/licenses/status").send().await;
    assert!(all.text.contains("\"total\":20"), "{}", all.text);
    assert_eq!(all.expect(200), json!([want]));
    // By its id, the tool is the same.
    assert_eq!(world.status_of("davinci-configurator-se").await, want);
    assert_eq!(
        world.get("/borrows").bearer(&world.operator).send().await.expect(200),
        json!([borrow])
    );
    assert_eq!(
        world.get("/borrows?user=alice").bearer(&world.operator).send().await.expect(200),
        json!([borrow])
    );
    assert_eq!(
        world.get("/borrows?user=bob").bearer(&world.operator).send().await.expect(200),
        json!([])
    );
    // A seat of another face is no borrow of this one, and taken all the same.
    world.checkout(&app.token, "bob").send().await.expect(200);
    assert_eq!(world.status_of(TOOL).await["borrowed"], 2);
    assert_eq!(
        world.get("/borrows").bearer(&world.operator).send().await.expect(200),
        json!([borrow])
    );
    let returned = world.return_by_id(&borrow).await;
    assert_eq!(returned.text, format!("{{\"status\":\"ok\",\"tool\":\"{TOOL}\"}}"));
    assert_detail(&world.return_by_id(&borrow).await, 404, "Borrow record not found");
    assert_eq!(world.status_of(TOOL).await["borrowed"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_of_another_face_is_no_borrow() {
    let (world, app) = World::ready(&[]).await;
    let lease = world.checkout(&app.token, "alice").send().await.expect(200);
    for id in [text_of(&lease, "lease_id"), "nope", "0a0a5cc9-66ef-437d-8402-3966f50a42c0"] {
        let answer = world.return_by_id(&json!({ "id": id })).await;
        assert_detail(&answer, 404, "Borrow record not found");
    }
    world.give_back(&app.token, &lease).send().await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_of_a_borrow_has_its_words() {
    let (world, _app) = World::ready(&[]).await;
    let key = world.new_key("acme").await;
    let key = text_of(&key, "api_key");
    let body = json!({ "tool": TOOL, "user": "alice" });
    let failed = |why: &str| format!("Security validation failed: {why}");
    let missing = failed("Missing X-Signature or X-Timestamp headers");
    let now = now_seconds().to_string();
    // Key before signature; headers, vendor, form of the time, time, signature.
    type Row<'a> = (&'a [(&'a str, &'a str)], String);
    let invalid_key = "Invalid API key".to_owned();
    let strange_key = format!("Bearer {STRANGE_KEY}");
    let table: [Row<'_>; 11] = [
        (&[("authorization", "Bearer nope")], invalid_key.clone()),
        (&[("authorization", &strange_key)], invalid_key),
        (&[], missing.clone()),
        (&[("x-signature", "00")], missing.clone()),
        (&[("x-timestamp", &now)], missing.clone()),
        (&[("origin", "http://x"), ("user-agent", "Mozilla/5.0 Firefox")], missing),
        (
            &[("x-signature", "00"), ("x-timestamp", "x"), ("x-vendor-id", "zz")],
            failed("Unknown vendor: zz"),
        ),
        (&[("x-signature", "00"), ("x-timestamp", "x")], failed("Invalid timestamp format")),
        (&[("x-signature", "00"), ("x-timestamp", &now)], failed("Invalid signature")),
        (
            &[("x-signature", "00"), ("x-timestamp", &now), ("x-vendor-id", "techvendor")],
            failed("Invalid signature"),
        ),
        (
            &[("x-signature", "00"), ("x-timestamp", "")],
            failed("Missing X-Signature or X-Timestamp headers"),
        ),
    ];
    for (headers, detail) in table {
        let ask = world.post("/licenses/borrow").json(&body);
        let ask = headers.iter().fold(ask, |ask, (name, value)| ask.header(name, value));
        assert_detail(&ask.send().await, 403, &detail);
    }
    let signed =
        |at: i64| world.signed("/licenses/borrow", TOOL, "alice", &at.to_string(), Some(key));
    for late in [-301, 305] {
        let answer = signed(now_seconds() + late).json(&body).send().await;
        let detail = text_of(&answer.expect(403), "detail").to_owned();
        let why = "Security validation failed: Request expired (timestamp difference: 30";
        assert!(detail.starts_with(why) && detail.ends_with("s)"), "{detail}");
    }
    // Signed for another user, or with a key that is not shown.
    let other = world.signed("/licenses/borrow", TOOL, "bob", &now, None).json(&body);
    assert_detail(&other.send().await, 403, &failed("Invalid signature"));
    assert_eq!(world.status_of(TOOL).await["borrowed"], 0);
    for late in [-290, 290] {
        signed(now_seconds() + late).json(&body).send().await.expect(200);
    }
    // The form that the old clients really sign without a key, and the one their server wanted.
    world.borrow(TOOL, "alice", None).send().await.expect(200);
    let with_bar = sign(
        SECRET,
        &SignedParts { tool: TOOL, user: "alice", timestamp: &now, api_key: Some("") },
    );
    let ask = world.post("/licenses/borrow").json(&body).header("x-timestamp", &now);
    ask.header("x-signature", &with_bar).send().await.expect(200);
    let unknown = world.borrow("nope", "alice", Some(key)).send().await;
    assert_detail(&unknown, 409, "No licenses available for nope");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_fields_are_listed_before_anything_else_is_looked_at() {
    let (world, _app) = World::ready(&[]).await;
    let missing = |field: &str, input: Value| {
        json!({ "type": "missing", "loc": ["body", field], "msg": "Field required",
                "input": input })
    };
    let table: [(&str, &str, Value); 4] = [
        ("/licenses/borrow", "{\"tool\":\"x\"}", json!([missing("user", json!({"tool": "x"}))])),
        ("/licenses/borrow", "{}", json!([missing("tool", json!({})), missing("user", json!({}))])),
        (
            "/licenses/borrow",
            "{\"tool\":\"\",\"user\":\"u\"}",
            json!([{ "type": "string_too_short", "loc": ["body", "tool"],
                     "msg": "String should have at least 1 character", "input": "",
                     "ctx": { "min_length": 1 } }]),
        ),
        ("/licenses/return", "{}", json!([missing("id", json!({}))])),
    ];
    for (path, body, detail) in table {
        let answer = world.post(path).bearer("nope").body(body).send().await;
        assert_eq!(answer.expect(422), json!({ "detail": detail }), "{path} {body}");
    }
    for body in ["", "[]", "{", "\"x\""] {
        let answer = world.post("/licenses/borrow").body(body).send().await;
        assert!(answer.expect(422)["detail"].is_array(), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_change_keys_and_limits_and_nobody_else_does() {
    let (world, _app) = World::ready(&[]).await;
    let key = json!({ "name": "ci", "environment": "test", "tenant_id": "acme" });
    let limit = json!({ "tool": TOOL, "max_spend": 1 });
    // Method, path, body, and the roles that may not.
    type Row<'a> = (Method, &'a str, Option<&'a Value>, Vec<&'a str>);
    let (auditor, operator) = (world.auditor.as_str(), world.operator.as_str());
    let table: [Row<'_>; 9] = [
        (Method::GET, "/config/budget", None, vec![]),
        (Method::PUT, "/config/budget", Some(&limit), vec![auditor]),
        (Method::PUT, "/config/protection", Some(&limit), vec![auditor]),
        (Method::GET, "/api/keys", None, vec![]),
        (Method::POST, "/api/keys", Some(&key), vec![auditor, operator]),
        (Method::DELETE, "/api/keys/key_0000000000000000", None, vec![auditor, operator]),
        (Method::GET, "/api/admin/tenants", None, vec![]),
        (Method::GET, "/api/admin/vendors", None, vec![]),
        (Method::GET, "/api/admin/stats", None, vec![]),
    ];
    for (method, path, body, narrow) in table {
        let ask = || {
            let ask = world.ask(method.clone(), path);
            body.map_or_else(|| world.ask(method.clone(), path), |body| ask.json(body))
        };
        let answer = ask().send().await;
        assert_detail(&answer, 401, "Missing Authorization header");
        assert!(answer.header("www-authenticate").is_some(), "{path}");
        for token in narrow.into_iter().chain(["x", "lh_op_short"]) {
            let answer = ask().bearer(token).send().await;
            assert_detail(&answer, 403, "Invalid admin API key");
        }
    }
    let keys = world.get("/api/keys").bearer(auditor).send().await.expect(200);
    assert_eq!(keys, json!({ "keys": [] }));
    assert_eq!(budget_of(&world, TOOL).await["customer_max_spend"], Value::Null);
}

async fn budget_of(world: &World, tool: &str) -> Value {
    let budget = world.get("/config/budget").bearer(&world.auditor).send().await.expect(200);
    let tools = budget["tools"].as_array().expect("tools").clone();
    tools.into_iter().find(|row| row["tool"] == tool).expect("the tool")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_shown_once_and_is_unknown_when_it_was_taken_back() {
    let (world, _app) = World::ready(&[]).await;
    let made = world.new_key("acme").await;
    let key = text_of(&made, "api_key");
    assert!(key.starts_with("acme_test_pk_") && key.len() == 13 + 43, "{key}");
    world.borrow(TOOL, "alice", Some(key)).send().await.expect(200);
    let listed = world.get("/api/keys").bearer(&world.auditor).send().await;
    assert!(!listed.text.contains(key), "{}", listed.text);
    let row = &listed.expect(200)["keys"][0];
    for (field, want) in [
        ("id", made["key_id"].clone()),
        ("tenant_id", json!("acme")),
        ("name", json!("ci")),
        ("environment", json!("test")),
        ("last_used_at", Value::Null),
        ("status", json!("active")),
    ] {
        assert_eq!(row[field], want, "{field}");
    }
    let tenants = world.get("/api/admin/tenants").bearer(&world.auditor).send().await.expect(200);
    assert_eq!(tenants, json!({ "tenants": [{ "tenant_id": "acme", "api_keys": 1 }] }));
    let path = format!("/api/keys/{}", text_of(&made, "key_id"));
    let delete = || world.ask(Method::DELETE, &path).bearer(&world.admin);
    let gone = delete().send().await.expect(200);
    assert_eq!(gone, json!({ "status": "ok", "key_id": made["key_id"] }));
    assert_detail(&delete().send().await, 404, "API key not found");
    let answer = world.ask(Method::DELETE, "/api/keys/nope").bearer(&world.admin).send().await;
    assert_detail(&answer, 404, "API key not found");
    let refused = world.borrow(TOOL, "alice", Some(key)).send().await;
    assert_detail(&refused, 403, "Invalid API key");
    for (field, value) in [("tenant_id", "a b"), ("environment", "a_b")] {
        let mut body = json!({ "name": "ci", "environment": "test", "tenant_id": "acme" });
        body[field] = json!(value);
        let answer = world.post("/api/keys").bearer(&world.admin).json(&body).send().await;
        let detail = &answer.expect(422)["detail"][0];
        assert_eq!((&detail["loc"], &detail["input"]), (&json!(["body", field]), &json!(value)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_borrowed_what_is_told_to_operators_and_to_each_key_its_own() {
    let (world, _app) = World::ready(&[]).await;
    let keys = [world.new_key("acme").await, world.new_key("other").await];
    let [one, other] = [0, 1].map(|at| text_of(&keys[at], "api_key"));
    for user in 0..5 {
        world.borrow(TOOL, &format!("u{user}"), None).send().await.expect(200);
    }
    let own = world.borrow(TOOL, "alice", Some(one)).send().await.expect(200);
    for path in ["/borrows", "/overage-charges"] {
        let answer = world.get(path).send().await;
        assert_detail(&answer, 401, "Missing Authorization header");
        for wrong in ["nonsense", STRANGE_KEY] {
            let status = world.get(path).bearer(wrong).send().await.status;
            assert_eq!(status, 403, "{path} with {wrong}");
        }
        for (reader, count) in [(one, 1), (other, 0)] {
            let told = world.get(path).bearer(reader).send().await.expect(200);
            let rows = told.get("charges").unwrap_or(&told).as_array().expect("a list");
            assert_eq!(rows.len(), count, "{path}");
            assert!(rows.iter().all(|row| row["id"] == own["id"]), "{path}: {told}");
        }
    }
    let all = world.get("/borrows").bearer(&world.auditor).send().await.expect(200);
    assert_eq!(all.as_array().map(Vec::len), Some(6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_months_limit_stops_overage_and_counts_what_was_before_it() {
    let (world, _app) = World::ready(&[]).await;
    for user in 0..6 {
        world.borrow(TOOL, &format!("u{user}"), None).send().await.expect(200);
    }
    let charges = world.get("/overage-charges").bearer(&world.operator).send().await.expect(200);
    assert_eq!(charges["charges"].as_array().map(Vec::len), Some(1));
    let charge = &charges["charges"][0];
    assert_eq!(
        (&charge["user"], &charge["amount"], &charge["tool"]),
        (&json!("u5"), &json!(500.0), &json!(TOOL))
    );
    for (query, count) in [("DaVinci%20Configurator%20SE", 1), ("nope", 0)] {
        let path = format!("/overage-charges?tool={query}");
        let charges = world.get(&path).bearer(&world.operator).send().await.expect(200);
        assert_eq!(charges["charges"].as_array().map(Vec::len), Some(count), "{query}");
    }
    assert_eq!(budget_of(&world, TOOL).await["month_to_date_overage_cost"], 500.0);
    let set = async |path: &str, max_spend: Value| {
        let body = json!({ "tool": TOOL, "max_spend": max_spend });
        world.put(path).bearer(&world.operator).json(&body).send().await
    };
    let answer = set("/config/protection", json!(1_200)).await;
    assert_eq!(answer.expect(200), json!({ "status": "ok", "tool": TOOL, "max_spend": 1200.0 }));
    let budget = budget_of(&world, TOOL).await;
    assert_eq!(
        (&budget["customer_max_spend"], &budget["remaining_spend"]),
        (&json!(1200.0), &json!(700.0))
    );
    world.borrow(TOOL, "u6", None).send().await.expect(200);
    let refused = world.borrow(TOOL, "u7", None).send().await;
    assert_detail(&refused, 403, "Customer max spend reached for this period");
    set("/config/budget", Value::Null).await.expect(200);
    world.borrow(TOOL, "u7", None).send().await.expect(200);
    for (body, kind) in [
        (json!({ "tool": TOOL, "max_spend": -1 }), "greater_than_equal"),
        (json!({ "tool": TOOL, "max_spend": "x" }), "float_type"),
        (json!({ "max_spend": 1 }), "missing"),
    ] {
        let answer = world.put("/config/budget").bearer(&world.operator).json(&body).send().await;
        assert_eq!(answer.expect(422)["detail"][0]["type"], kind, "{body}");
    }
    let body = json!({ "tool": "nope", "max_spend": 1 });
    let answer = world.put("/config/budget").bearer(&world.operator).json(&body).send().await;
    assert_detail(&answer, 404, "Tool not found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packages_of_one_tool_are_one_tool() {
    let (world, _app) = World::ready(&[]).await;
    let now_ms = RealClock::new().wall_ms();
    for (package, commit, max_overage) in [("b", 1, 1), ("a", 2, 0)] {
        world
            .import_tool(
                now_ms,
                &Terms {
                    package,
                    tool: "Two",
                    product: "two",
                    commit,
                    max_overage,
                    commit_price: 100,
                    overage_price: 10,
                },
            )
            .await;
    }
    let body = json!({ "tool": "Two", "max_spend": 10 });
    world.put("/config/budget").bearer(&world.admin).json(&body).send().await.expect(200);
    assert_eq!(budget_of(&world, "Two").await["customer_max_spend"], 10.0);
    for user in 0..3 {
        world.borrow("two", &format!("u{user}"), None).send().await.expect(200);
    }
    let status = world.status_of("Two").await;
    let want = json!({
        "tool": "Two", "total": 4, "borrowed": 3, "available": 1, "commit": 3, "max_overage": 1,
        "overage": 0, "in_commit": true, "commit_price": 200.0,
        "overage_price_per_license": 10.0, "current_overage_cost": 0.0, "total_cost": 200.0,
    });
    assert_eq!(status, want);
    // Each of the two packages may spend half of the bound, which is less than a seat.
    let refused = world.borrow("Two", "u3", None).send().await;
    assert_detail(&refused, 403, "Customer max spend reached for this period");
    let body = json!({ "tool": "Two", "max_spend": 20 });
    world.put("/config/budget").bearer(&world.admin).json(&body).send().await.expect(200);
    world.borrow("Two", "u3", None).send().await.expect(200);
    let refused = world.borrow("Two", "u4", None).send().await;
    assert_eq!(refused.status.as_u16(), 409);
    let listed = world.get("/licenses/status").send().await.expect(200);
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|row| &row["tool"]).collect();
    assert_eq!(names, [TOOL, "Two"]);
    let stats = world.get("/api/admin/stats").bearer(&world.auditor).send().await.expect(200);
    assert_eq!(
        stats,
        json!({ "tools": 2, "total": 24, "borrowed": 4, "overage": 1, "api_keys": 0,
                "vendors": 0 })
    );
    // A package that gives no seats does not count.
    let suspend = world.post("/admin/packages/a/suspend").bearer(&world.operator);
    suspend.send().await.expect(200);
    assert_eq!(world.status_of("Two").await["total"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strict_face_wants_proof_of_a_return() {
    let face = ClassicFace { strict_return: true, ..ClassicFace::default() };
    let (world, _app) = World::with_classic(face).await;
    let (ours, theirs) = (world.new_key("acme").await, world.new_key("other").await);
    let (ours, theirs) = (text_of(&ours, "api_key"), text_of(&theirs, "api_key"));
    let borrow = world.borrow(TOOL, "alice", Some(ours)).send().await.expect(200);
    let give = |borrow: &Value| world.post("/licenses/return").json(&json!({ "id": borrow["id"] }));
    let needs = "Returning needs the API key of the borrow";
    assert_detail(&give(&borrow).send().await, 403, needs);
    assert_detail(&give(&borrow).bearer(theirs).send().await, 403, needs);
    assert_detail(&give(&borrow).bearer("nope").send().await, 403, "Invalid API key");
    give(&borrow).bearer(ours).send().await.expect(200);
    let borrow = world.borrow(TOOL, "bob", None).send().await.expect(200);
    let now = now_seconds().to_string();
    let signed = |user: &str| {
        let ask = world.signed("/licenses/return", TOOL, user, &now, None);
        ask.json(&json!({ "id": borrow["id"] }))
    };
    let wrong = signed("alice").send().await;
    assert_detail(&wrong, 403, "Security validation failed: Invalid signature");
    signed("bob").send().await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_borrow_that_is_never_returned_ends_by_itself() {
    let face = ClassicFace { ttl_ms: 1_000, strict_return: false };
    let (world, app) = World::with_classic(face).await;
    let borrow = world.borrow(TOOL, "alice", None).send().await.expect(200);
    let mut borrowed = world.status_of(TOOL).await["borrowed"].clone();
    let waiting = async {
        while borrowed != 0 {
            // Time passes with what is written; other work on the cluster does the same.
            let lease = world.checkout(&app.token, "bob").send().await.expect(200);
            world.give_back(&app.token, &lease).send().await.expect(200);
            borrowed = world.status_of(TOOL).await["borrowed"].clone();
        }
    };
    tokio::time::timeout(LIVENESS, waiting).await.expect("the borrow ends");
    assert_detail(&world.return_by_id(&borrow).await, 404, "Borrow record not found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_is_streamed_to_a_bounded_number_of_watchers() {
    let (world, _app) = World::ready(&[]).await;
    let open = || {
        let request = Request::get("/realtime/stream").body(Full::new(bytes::Bytes::new()));
        world.gateway.answer(request.expect("a request"))
    };
    let mut streams = Vec::new();
    for _ in 0..32 {
        let response = open().await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert!(!response.headers().contains_key("content-length"));
        streams.push(response.into_body());
    }
    let refused = open().await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    let mut events = Vec::new();
    let mut stream = streams.pop().expect("a stream");
    for _ in 0..2 {
        let frame = tokio::time::timeout(LIVENESS, stream.frame()).await;
        let frame = frame.expect("in time").expect("an event").expect("no error");
        let text = String::from_utf8(frame.into_data().expect("data").to_vec()).expect("text");
        let data = text.strip_prefix("data: ").and_then(|text| text.strip_suffix("\n\n"));
        events.push(serde_json::from_str::<Value>(data.expect("one event")).expect("JSON"));
        world.borrow(TOOL, "alice", None).send().await.expect(200);
    }
    assert_eq!((&events[0][0]["borrowed"], &events[1][0]["borrowed"]), (&json!(0), &json!(1)));
    drop((stream, streams));
    assert_eq!(open().await.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dashboards_find_the_old_metric_names() {
    let (world, _app) = World::ready(&[]).await;
    for user in 0..6 {
        world.borrow(TOOL, &format!("u{user}"), None).send().await.expect(200);
    }
    world.borrow("nope", "u", None).send().await.expect(409);
    let text = world.get("/metrics").send().await.text;
    let tool = format!("{{tool=\"{TOOL}\"}}");
    for line in [
        "license_borrow_attempts_total 7".to_owned(),
        "license_borrow_success_total 6".to_owned(),
        "license_borrow_failure_total{status=\"409\"} 1".to_owned(),
        "license_overage_checkouts_total 1".to_owned(),
        "license_borrow_duration_seconds_count 7".to_owned(),
        "license_http_requests_total{operation=\"classicBorrow\",status=\"200\"} 6".to_owned(),
        format!("licenses_total{tool} 20"),
        format!("licenses_borrowed{tool} 6"),
        format!("licenses_commit{tool} 5"),
        format!("licenses_overage{tool} 1"),
        format!("licenses_max_overage{tool} 15"),
        format!("licenses_at_max_overage{tool} 0"),
    ] {
        assert!(text.lines().any(|it| it == line), "{line} is missing in\n{text}");
    }
    assert_eq!(text.matches("# EOF").count(), 1);
    let off = World::with_faces(Faces::default()).await;
    let text = off.get("/metrics").send().await.text;
    assert!(!text.contains("license_borrow_attempts"), "{text}");
    for path in ["/licenses/status", "/borrows", "/version", "/realtime/stream"] {
        off.get(path).send().await.expect(404);
    }
}

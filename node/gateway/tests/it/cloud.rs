//! The calls of applications, from token to return.

use http::Method;
use serde_json::{Value, json};

use crate::world::{PACKAGE, PRODUCT, World, text_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seat_is_taken_renewed_and_given_back() {
    let (world, app) = World::ready(&[]).await;
    let answer = world.checkout(&app.token, "alice@bmw.com").send().await;
    let lease = answer.expect(200);
    assert_eq!(lease["status"], "success");
    assert_eq!(lease["lease_type"], "commit");
    assert_eq!(lease["package_id"], PACKAGE);
    assert_eq!(lease["expires_in_ms"], 900_000);
    assert_eq!(lease["heartbeat_interval_ms"], 300_000);
    assert!(lease["cost"].is_null());
    assert_eq!(text_of(&lease, "fence").len(), 47);
    assert!(answer.header("idempotency-key").is_some());
    assert!(answer.header("x-request-id").is_some());
    assert_eq!(answer.header("cache-control"), Some("no-store"));

    let renewed = world.heartbeat(&app.token, &lease).send().await.expect(200);
    assert_eq!(renewed["status"], "renewed");
    assert_eq!(renewed["fence"], lease["fence"]);
    assert_ne!(renewed["renewal_token"], lease["renewal_token"]);
    let again = world.heartbeat(&app.token, &lease).send().await.expect(200);
    assert_eq!(again["renewal_token"], renewed["renewal_token"], "the answer was lost");

    let path = format!("/api/v1/licenses/{}", text_of(&lease, "lease_id"));
    let shown = world.get(&path).bearer(&app.token).send().await.expect(200);
    assert_eq!(shown["state"], "active");
    assert_eq!(shown["product_id"], PRODUCT);

    let returned = world.give_back(&app.token, &lease).send().await.expect(200);
    assert_eq!(returned["status"], "returned");
    assert_eq!(returned["total_cost"], 0.0);
    assert_eq!(returned["lease_duration"], "0h 0m");
    let again = world.give_back(&app.token, &lease).send().await.expect(200);
    assert_eq!(again["status"], "returned");
    let other_key = world.give_back(&app.token, &lease).key("another").send().await.expect(409);
    assert_eq!(other_key["reason"], "already_ended");

    let ended = world.heartbeat(&app.token, &lease).send().await.expect(410);
    assert_eq!(ended["reason"], "lease_ended");
    let shown = world.get(&path).bearer(&app.token).send().await.expect(410);
    assert_eq!(shown["reason"], "lease_ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commit_seats_go_first_then_overage_then_nobody() {
    let (world, app) = World::ready(&[]).await;
    let mut types = Vec::new();
    for number in 0..20 {
        let lease = world.checkout(&app.token, &format!("user-{number}")).send().await.expect(200);
        types.push((text_of(&lease, "lease_type").to_owned(), lease["cost"].clone()));
    }
    let commit = ("commit".to_owned(), Value::Null);
    let overage = ("overage".to_owned(), json!(500.0));
    assert!(types[..5].iter().all(|it| *it == commit), "{types:?}");
    assert!(types[5..].iter().all(|it| *it == overage), "{types:?}");
    let denied = world.checkout(&app.token, "late").send().await.expect(409);
    assert_eq!(denied["status"], "denied");
    assert_eq!(denied["reason"], "max_overage_exceeded");
    assert!(denied["available_at"].is_string(), "{denied}");
    let found = world.get("/api/v1/licenses/discover").bearer(&app.token).send().await.expect(200);
    assert_eq!(found["licenses"][0]["in_use"], 20);
    assert_eq!(found["licenses"][0]["overage_available"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_makes_one_lease() {
    let (world, app) = World::ready(&[]).await;
    let ask = |user: &'static str| world.checkout(&app.token, user).key("order-7");
    let first = ask("alice").send().await;
    let lease = first.expect(200);
    assert_eq!(first.header("idempotency-key"), Some("order-7"));
    let again = ask("alice").send().await.expect(200);
    assert_eq!(again["lease_id"], lease["lease_id"]);
    assert_eq!(again["fence"], lease["fence"]);
    let other = ask("bob").send().await.expect(422);
    assert_eq!(other["reason"], "idempotency_key_reused");
    let bad = world.checkout(&app.token, "alice").key("two words").send().await.expect(400);
    assert_eq!(bad["field"], "Idempotency-Key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_leases_are_renewed_in_one_call_and_each_for_itself() {
    let (world, app) = World::ready(&[]).await;
    let one = world.checkout(&app.token, "alice").send().await.expect(200);
    let two = world.checkout(&app.token, "bob").send().await.expect(200);
    let gone = world.checkout(&app.token, "carol").send().await.expect(200);
    world.give_back(&app.token, &gone).send().await.expect(200);
    let item = |lease: &Value, token: &Value| {
        let (lease_id, renewal_token) = (&lease["lease_id"], &token["renewal_token"]);
        json!({ "lease_id": lease_id, "renewal_token": renewal_token })
    };
    let stranger = json!({ "lease_id": "lease-x", "renewal_token": "rt1-x" });
    let leases =
        [item(&one, &one), stranger, item(&gone, &gone), item(&two, &one), item(&two, &two)];
    let answer = world
        .post("/api/v1/licenses/heartbeats")
        .bearer(&app.token)
        .json(&json!({ "leases": leases }))
        .send()
        .await
        .expect(200);
    let statuses: Vec<&str> = answer["results"]
        .as_array()
        .expect("results")
        .iter()
        .map(|result| text_of(result, "status"))
        .collect();
    assert_eq!(statuses, ["renewed", "unknown", "ended", "replayed", "renewed"]);
    assert_eq!(answer["results"][4]["fence"], two["fence"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_token_is_good_for_its_lease_and_its_turn() {
    let (world, app) = World::ready(&[]).await;
    let one = world.checkout(&app.token, "alice").send().await.expect(200);
    let two = world.checkout(&app.token, "bob").send().await.expect(200);
    let mut foreign = one.clone();
    foreign["renewal_token"] = two["renewal_token"].clone();
    let refused = world.heartbeat(&app.token, &foreign).send().await.expect(409);
    assert_eq!(refused["reason"], "renewal_token_invalid");
    let mut current = one.clone();
    for _ in 0..2 {
        let renewed = world.heartbeat(&app.token, &current).send().await.expect(200);
        current["renewal_token"] = renewed["renewal_token"].clone();
    }
    let replayed = world.heartbeat(&app.token, &one).send().await.expect(409);
    assert_eq!(replayed["reason"], "renewal_token_replayed");

    // What is said of a wrong token depends on the lease, as it does with a good one.
    let other = world.register().await;
    let refused = world.heartbeat(&other.token, &foreign).send().await.expect(404);
    assert_eq!(refused["reason"], "unknown_lease");
    world.give_back(&app.token, &one).send().await.expect(200);
    let refused = world.heartbeat(&app.token, &foreign).send().await.expect(410);
    assert_eq!(refused["reason"], "lease_ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_tokens_in_bulk_are_told_apart_and_counted() {
    let (world, app) = World::ready(&[]).await;
    let other = world.register().await;
    let mine = world.checkout(&app.token, "alice").send().await.expect(200);
    let ended = world.checkout(&app.token, "bob").send().await.expect(200);
    let theirs = world.checkout(&other.token, "carol").send().await.expect(200);
    world.give_back(&app.token, &ended).send().await.expect(200);
    let wrong =
        |lease: &Value| json!({ "lease_id": lease["lease_id"], "renewal_token": "rt1-forged" });
    let answer = world
        .post("/api/v1/licenses/heartbeats")
        .bearer(&app.token)
        .json(&json!({ "leases": [wrong(&theirs), wrong(&ended), wrong(&mine)] }))
        .send()
        .await
        .expect(200);
    let status = |at: usize| text_of(&answer["results"][at], "status").to_owned();
    assert_eq!([status(0), status(1), status(2)], ["unknown", "ended", "replayed"]);
    let old = json!({
        "product_id": PRODUCT,
        "user": "dave",
        "hostname": "h",
        "metadata": { "version": "1.0" },
    });
    let old = world.post("/api/v1/licenses/checkout").bearer(&app.token).json(&old);
    old.send().await.expect(403);
    let metrics = world.get("/metrics").send().await.text;
    for reason in ["unknown_lease", "lease_ended", "renewal_token_invalid", "version_not_covered"] {
        let line =
            format!("leasehold_refusals_total{{reason=\"{reason}\",decided_by=\"gateway\"}} 1");
        assert!(metrics.contains(&line), "{line} is missing in\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_apps_lease_is_not_there() {
    let (world, app) = World::ready(&[]).await;
    let other = world.register().await;
    let lease = world.checkout(&app.token, "alice").send().await.expect(200);
    let path = format!("/api/v1/licenses/{}", text_of(&lease, "lease_id"));
    let answers = [
        world.get(&path).bearer(&other.token).send().await,
        world.heartbeat(&other.token, &lease).send().await,
        world.give_back(&other.token, &lease).send().await,
        world.get("/api/v1/licenses/lease-foreign").bearer(&other.token).send().await,
    ];
    for answer in answers {
        assert_eq!(answer.expect(404)["reason"], "unknown_lease");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_will_not_do_is_named() {
    let (world, app) = World::ready(&[]).await;
    let good = json!({ "product_id": PRODUCT, "user": "alice", "hostname": "h" });
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body.to_string()
    };
    let table = [
        ("{".to_owned(), 400, "malformed_json", None),
        (with("user", json!(7)), 400, "invalid_field", Some("user")),
        (with("user", json!("a\u{7}b")), 400, "invalid_field", Some("user")),
        (with("hostname", json!("h".repeat(257))), 400, "invalid_field", Some("hostname")),
        (with("quantity", json!(0)), 400, "invalid_field", Some("quantity")),
        (with("metadata", json!({ "version": 8 })), 400, "invalid_field", Some("metadata.version")),
        (with("padding", json!("x".repeat(300_000))), 413, "body_too_large", None),
    ];
    for (body, status, code, field) in table {
        let shown: String = body.chars().take(60).collect();
        let answer =
            world.post("/api/v1/licenses/checkout").bearer(&app.token).body(body).send().await;
        let problem = answer.expect(status);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{shown}");
        assert_eq!(problem["code"], code, "{shown}");
        assert_eq!(problem["field"].as_str(), field, "{shown}");
    }
    let unknown = with("product_id", json!("another-product"));
    let answer = world.post("/api/v1/licenses/checkout").bearer(&app.token).body(unknown);
    assert_eq!(answer.send().await.expect(404)["reason"], "unknown_product");
    let old = with("metadata", json!({ "version": "7.9" }));
    let answer = world.post("/api/v1/licenses/checkout").bearer(&app.token).body(old);
    let denied = answer.send().await.expect(403);
    assert_eq!(denied["reason"], "version_not_covered");
    assert_eq!(denied["would_be_satisfied_by"]["version"], ">=8.0.0");
    let lease = world.checkout(&app.token, "alice").send().await.expect(200);
    let path = format!("/api/v1/licenses/{}/return", text_of(&lease, "lease_id"));
    let answer = world.post(&path).bearer(&app.token).json(&json!({ "lease_id": "another" }));
    assert_eq!(answer.send().await.expect(400)["field"], "lease_id");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_in_the_table_does_not_exist() {
    let world = World::unsealed().await;
    let answer = world.get("/nowhere").send().await;
    assert_eq!(answer.expect(404)["code"], "not_found");
    let answer = world.ask(Method::DELETE, "/api/v1/licenses/checkout").send().await;
    assert_eq!(answer.expect(405)["code"], "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("POST"));
    let answer = world.ask(Method::HEAD, "/livez").send().await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, ""));
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    let answer = world.get("/nowhere").header("x-request-id", id).send().await;
    assert_eq!(answer.header("x-request-id"), Some(id));
    assert_eq!(answer.expect(404)["instance"], format!("urn:uuid:{id}"));
}

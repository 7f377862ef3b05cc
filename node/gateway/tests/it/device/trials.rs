//! Trials: offered, begun, used up.

use serde_json::{Value, json};

use super::shop::{Device, Shop, fingerprint};
use crate::world::{Answer, PRODUCT};

const DAY_S: i64 = 24 * 60 * 60;

/// A shop whose one product, named like its package's, has a plan for trials.
async fn shop() -> Shop {
    let shop = Shop::open().await;
    let product = json!({ "name": "DaVinci", "slug": PRODUCT });
    shop.post("/api/products", product).await.expect(201);
    let plans = format!("/api/products/{PRODUCT}/plans");
    let trial = json!({
        "name": "Trial", "slug": "trial", "is_active": true, "is_trial": true, "trial_days": 10,
        "check_mode": "each_execution",
    });
    shop.post(&plans, trial).await.expect(201);
    let gold = json!({ "name": "Gold", "slug": "gold", "is_active": true });
    shop.post(&plans, gold).await.expect(201);
    shop
}

async fn check(shop: &Shop, body: Value) -> Answer {
    shop.world.post("/api/trial/check").json(&body).send().await
}

async fn start(shop: &Shop, body: Value) -> Answer {
    shop.world.post("/api/trial").json(&body).send().await
}

fn device(shop: &Shop, email: &str, name: &str) -> Device {
    let (client_id, key) = (shop.client_id.clone(), String::new());
    let fingerprint = fingerprint(name);
    Device { email: email.to_owned(), client_id, key, fingerprint, product: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_has_one_trial() {
    let shop = shop().await;
    let device = device(&shop, "new@example.com", "one");
    let asked = json!({ "device_fingerprint": device.fingerprint, "product_id": PRODUCT });
    let before = check(&shop, asked.clone()).await.expect(200);
    assert_eq!((&before["eligible"], &before["eligible_for_trial"]), (&json!(true), &json!(true)));
    assert_eq!((&before["trial_used"], &before["has_used_trial"]), (&json!(false), &json!(false)));

    let request = json!({ "email": "new@example.com", "device_fingerprint": device.fingerprint });
    let answer = start(&shop, request.clone()).await;
    let body = answer.expect(201);
    assert_eq!((&body["success"], &body["already_used"]), (&json!(true), &json!(false)));
    let kept = device.keep(&answer);
    assert_eq!(kept.json, body["license"], "the same license, sealed and plain");
    let data = &kept.license;
    assert!(data.is_trial && data.max_devices == 0 && data.device_count == 1);
    assert_eq!(data.trial_device_fingerprint.as_deref(), Some(device.fingerprint.as_str()));
    let seconds = (data.expires_at.unix_ms() - data.issued_at.unix_ms()) / 1_000;
    assert!((seconds - 10 * DAY_S).abs() < 60, "as the plan says: {seconds}");
    assert_eq!(shop.seats_taken(), 1);

    let after = check(&shop, asked).await.expect(200);
    assert_eq!((&after["eligible"], &after["has_used_trial"]), (&json!(false), &json!(true)));
    assert_eq!(after["trial_expired"], false);
    assert_eq!(after["trial_started_at"], body["license"]["trial_started_at"]);
    let path = format!("/api/trial/check?device_fingerprint={}", device.fingerprint);
    assert_eq!(shop.world.get(&path).send().await.expect(200), after);

    let message = "Trial already used on this device";
    let other = json!({ "email": "b@example.com", "device_fingerprint": device.fingerprint });
    let refused = start(&shop, other).await.expect(409);
    assert_eq!(refused, json!({ "error": message, "message": message }));
    // Who has it may have lost the answer.
    let mut shouted = request.clone();
    shouted["email"] = json!("NEW@example.com");
    for request in [request, shouted] {
        let answer = start(&shop, request).await;
        assert_eq!(answer.expect(201)["already_used"], true);
        let again = device.keep(&answer);
        assert_eq!(again.session, kept.session);
        assert_eq!(again.license.license_key.expose(), data.license_key.expose());
        assert_eq!(again.license.expires_at, data.expires_at);
    }
    assert_eq!(shop.seats_taken(), 1);

    // It is a license like any other from then on.
    let client_id = data.client_id.clone();
    let key = data.license_key.expose().to_owned();
    let device = Device { client_id, key, ..device };
    let verified = device.keep(&device.verify(&shop).await);
    assert_eq!(verified.session, kept.session);
    device.secure(&shop, "/api/verify", &kept.session()).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_clients_words_are_understood_and_days_are_capped() {
    let shop = shop().await;
    let table = [
        (json!({ "trial_days": 3 }), 3),
        (json!({ "trial_duration_days": 4, "trial_days": 3 }), 4),
        (json!({ "trial_days": 300 }), 10),
        (json!({ "plan_id": "trial", "product_id": PRODUCT }), 10),
    ];
    for (number, (more, days)) in table.into_iter().enumerate() {
        let device = device(&shop, "new@example.com", &format!("device {number}"));
        let mut request =
            json!({ "email": device.email, "device_fingerprint": device.fingerprint });
        request["subscription_url"] = json!("https://example.com/buy");
        for (name, value) in more.as_object().expect("an object") {
            request[name] = value.clone();
        }
        let answer = start(&shop, request).await;
        assert_eq!(answer.expect(201)["subscription_url"], "https://example.com/buy");
        let data = device.keep(&answer).license;
        let seconds = (data.expires_at.unix_ms() - data.issued_at.unix_ms()) / 1_000;
        assert!((seconds - days * DAY_S).abs() < 60, "{more}: {seconds}");
    }
    let clients = shop.get("/api/clients").await.expect(200);
    let new = clients.as_array().expect("a list").iter();
    assert_eq!(new.filter(|it| it["email"] == "new@example.com").count(), 1, "one client");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_trial_is_refused() {
    let shop = shop().await;
    let fingerprint = fingerprint("one");
    let with = |more: Value| {
        let mut body = json!({ "email": "a@example.com", "device_fingerprint": fingerprint });
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        body
    };
    let none = "No trial is available for this product";
    let table = [
        (with(json!({ "email": "nobody" })), 400, "invalid email address"),
        (with(json!({ "device_fingerprint": "x" })), 400, "invalid device fingerprint format"),
        (with(json!({ "nonsense": 1 })), 400, "Invalid request body"),
        (with(json!({ "trial_days": 400 })), 400, "invalid trial duration"),
        (with(json!({ "subscription_url": "ftp://x" })), 400, "invalid subscription_url format"),
        (with(json!({ "product_id": "nothing" })), 404, none),
        (with(json!({ "plan_id": "gold" })), 404, none),
    ];
    for (body, status, message) in table {
        assert_eq!(start(&shop, body.clone()).await.expect(status)["error"], message, "{body}");
    }
    let nothing = json!({ "device_fingerprint": fingerprint, "product_id": "nothing" });
    let answer = check(&shop, nothing).await.expect(200);
    assert_eq!((&answer["eligible"], &answer["message"]), (&json!(false), &json!(none)));
    check(&shop, json!({})).await.expect(400);
    check(&shop, json!({ "device_fingerprint": fingerprint, "x": 1 })).await.expect(400);
    shop.world.get("/api/trial/check").send().await.expect(400);
    let ban = format!("/api/clients/{}/ban", shop.client_id);
    shop.post(&ban, json!({})).await.expect(200);
    let banned = start(&shop, with(json!({ "email": "owner@example.com" }))).await;
    assert_eq!(banned.expect(401)["error"], "Client is banned");
    assert_eq!(shop.seats_taken(), 0, "nothing is left behind");
}

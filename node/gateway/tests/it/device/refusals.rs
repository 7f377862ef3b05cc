//! Every refusal of the protocol's document, with status and body, in both forms.

use std::time::Duration;

use serde_json::{Value, json};

use super::shop::{Device, Shop, fingerprint};
use crate::world::{Answer, text_of};

/// The answer to a refusal: the document's status and two texts, or 200 as the first server had it.
fn check(answer: &Answer, compat_200: bool, status: u16, message: &str) {
    if compat_200 {
        let want = json!({
            "success": false, "message": message, "expires_at": "0001-01-01T00:00:00Z",
        });
        assert_eq!(answer.expect(200), want);
    } else {
        let want = json!({ "error": message, "message": message });
        assert_eq!(answer.expect(status), want);
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401);
    }
    assert!(answer.text.ends_with("}\n"), "{answer:?}");
}

async fn every_refusal(compat_200: bool) {
    let shop = Shop::with(compat_200, json!({})).await;
    let license = shop.license(json!({})).await;
    let known = shop.device(&license, "one");
    known.activate(&shop).await.expect(200);
    let other_client = shop.add_client("other@example.com").await;
    let stranger = Device { key: "ABCDE-".repeat(8), ..known.clone() };
    let named = Device { product: Some("studio".to_owned()), ..known.clone() };
    let foreign = Device { client_id: other_client, ..known.clone() };
    let nobody = Device { client_id: "client-runtime".to_owned(), ..known.clone() };
    let mate = Device { email: "mate@example.com".to_owned(), ..known.clone() };
    let unknown = Device { fingerprint: fingerprint("two"), ..known.clone() };
    let not_owner = "client_id does not match license owner";
    let no_product = "License is not associated with any product";
    for (device, on_activate, on_verify) in [
        (&stranger, Some((404, "Invalid license key")), (404, "Invalid license key")),
        (&named, Some((401, no_product)), (401, no_product)),
        (&foreign, Some((401, not_owner)), (401, not_owner)),
        (&nobody, Some((401, not_owner)), (401, not_owner)),
        (&unknown, None, (401, "Device not previously activated")),
        (&mate, None, (401, "email is not authorized for this license")),
    ] {
        if let Some((status, message)) = on_activate {
            check(&device.activate(&shop).await, compat_200, status, message);
        }
        check(&device.verify(&shop).await, compat_200, on_verify.0, on_verify.1);
    }
    unknown.activate(&shop).await.expect(200);
    let third = Device { fingerprint: fingerprint("three"), ..known.clone() };
    let full = "Maximum devices (2) reached";
    check(&third.activate(&shop).await, compat_200, 409, full);
    known.activate(&shop).await.expect(200);
    let id = text_of(&license, "id");
    shop.post(&format!("/api/licenses/{id}/revoke"), json!({})).await.expect(200);
    check(&known.verify(&shop).await, compat_200, 401, "License has been revoked");
    shop.post(&format!("/api/licenses/{id}/reinstate"), json!({})).await.expect(200);
    let ban = format!("/api/clients/{}/ban", shop.client_id);
    shop.post(&ban, json!({ "reason": "x" })).await.expect(200);
    check(&known.activate(&shop).await, compat_200, 401, "Client is banned");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_has_its_status_and_message() {
    every_refusal(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_is_200_where_that_is_switched_on() {
    every_refusal(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_product_is_found_by_either_name_and_another_is_refused() {
    let shop = Shop::open().await;
    for slug in ["studio", "other"] {
        let product = json!({ "name": slug, "slug": slug });
        shop.post("/api/products", product).await.expect(201);
        let plan = json!({ "name": "Gold", "slug": "gold", "is_active": true });
        shop.post(&format!("/api/products/{slug}/plans"), plan).await.expect(201);
    }
    let product = shop.get("/api/products/studio").await.expect(200);
    let license = shop.license(json!({ "product_id": "studio" })).await;
    let device = shop.device(&license, "one");
    for name in ["studio", text_of(&product, "id")] {
        let device = Device { product: Some(name.to_owned()), ..device.clone() };
        let kept = device.keep(&device.activate(&shop).await);
        assert_eq!(kept.license.product_id.as_deref(), Some(text_of(&product, "id")));
        assert_eq!(kept.license.plan_slug, "gold");
        assert!(kept.license.entitlements.is_some());
    }
    let other = Device { product: Some("other".to_owned()), ..device };
    let message = "License is not valid for this product";
    check(&other.activate(&shop).await, false, 401, message);
    check(&other.verify(&shop).await, false, 401, message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_license_that_has_ended_says_when() {
    let shop = Shop::open().await;
    let license = shop.license(json!({ "duration_days": 1 })).await;
    let device = shop.device(&license, "one");
    let session = device.keep(&device.activate(&shop).await).session();
    let day = text_of(&license, "expires_at")[..10].to_owned();
    shop.world.clock.pass(Duration::from_secs(2 * 24 * 3_600));
    let message = format!("License expired on {day}");
    let expired = wait_for(|| device.verify(&shop), 401).await;
    check(&expired, false, 401, &message);
    check(&device.activate(&shop).await, false, 401, &message);
    let answer = device.secure(&shop, "/api/verify", &session).await;
    assert_eq!(answer.expect(401)["error"], message.as_str());
}

/// Asks until the status is this one: civil time is steered, so it comes a little later.
async fn wait_for<F: Future<Output = Answer>>(ask: impl Fn() -> F, status: u16) -> Answer {
    let asked = async {
        loop {
            let answer = ask().await;
            if answer.status.as_u16() == status {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::world::LIVENESS, asked).await.expect("it comes")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_seat_there_is_no_activation() {
    let shop = Shop::open().await;
    let license = shop.license(json!({ "max_devices": 100 })).await;
    for number in 0..20 {
        let device = shop.device(&license, &format!("device {number}"));
        device.activate(&shop).await.expect(200);
    }
    let device = shop.device(&license, "one more");
    let answer = device.activate(&shop).await;
    check(&answer, false, 409, "No seat is available for this license");
    assert_eq!(shop.seats_taken(), 20, "as many as were bought");
    let held = shop.device(&license, "device 7");
    held.verify(&shop).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_are_found_in_the_protocols_order() {
    let shop = Shop::open().await;
    let license = shop.license(json!({})).await;
    let good = shop.device(&license, "one").body();
    let set = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    let table = [
        (json!([1]), "Invalid request body"),
        (set("email", json!(7)), "Invalid request body"),
        (set("email", json!("")), "invalid email address"),
        (set("email", json!("owner@localhost")), "invalid email address"),
        (set("client_id", json!("  ")), "client_id is required"),
        (set("license_key", json!("ABCD-EFGH")), "invalid license key format"),
        (set("license_key", json!("1".repeat(40))), "invalid license key format"),
        (set("device_fingerprint", json!("short")), "invalid device fingerprint format"),
        (set("device_fingerprint", json!("x".repeat(129))), "invalid device fingerprint format"),
        (json!({}), "invalid email address"),
    ];
    for path in ["/api/activate", "/api/verify"] {
        for (body, message) in &table {
            let answer = shop.world.post(path).json(body).send().await;
            assert_eq!(answer.expect(400), json!({ "error": message }), "{path} {body}");
        }
        let answer = shop.world.post(path).body("{").send().await;
        assert_eq!(answer.expect(400), json!({ "error": "Invalid request body" }));
        let answer = shop.world.post(path).body("x".repeat(1024 * 1024 + 1)).send().await;
        assert_eq!(answer.expect(400)["error"], "Failed to read request body");
        let answer = shop.world.get(path).send().await;
        assert_eq!(answer.expect(405), json!({ "error": "Method not allowed" }));
        assert_eq!(answer.header("allow"), Some("POST"));
    }
    // Fields that no server knows are nobody's fault.
    let extra = set("app_version", json!("1"));
    shop.world.post("/api/activate").json(&extra).send().await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_shows_too_many_unknown_keys_waits() {
    let shop = Shop::open().await;
    let license = shop.license(json!({})).await;
    let device = shop.device(&license, "one");
    device.activate(&shop).await.expect(200);
    let wrong = Device { key: "ABCDE-".repeat(8), ..device.clone() };
    let (guesser, neighbour) = ("203.0.113.9", "203.0.113.10");
    for path in ["/api/activate", "/api/verify", "/api/activate", "/api/verify", "/api/activate"] {
        let ask = || wrong.ask(&shop, path).from(guesser);
        ask().json(&wrong.body()).send().await.expect(404);
        // An envelope is no way around the count.
        let sealed = ask().header("x-license-secure", "1").body("{}").send().await;
        assert_eq!(sealed.text, "Device not authorized for secure transport");
    }
    // A right key is refused alike for a device that is not activated, in an envelope too.
    let other = Device { fingerprint: fingerprint("two"), ..device.clone() };
    for who in [&wrong, &other] {
        let ask = who.ask(&shop, "/api/verify").from(guesser);
        let answer = ask.json(&who.body()).send().await;
        assert_eq!(answer.expect(429), json!({ "error": "Too many requests" }));
        let wait: u64 = answer.header("retry-after").expect("when").parse().expect("seconds");
        assert!((1..=900).contains(&wait), "{wait}");
    }
    for who in [&wrong, &other] {
        let sealed = who.ask(&shop, "/api/verify").from(guesser).header("x-license-secure", "1");
        sealed.body("{}").send().await.expect(429);
    }
    // Who holds an activation is known, and heard wherever it asks.
    for address in [guesser, neighbour] {
        let ask = device.ask(&shop, "/api/verify").from(address);
        ask.json(&device.body()).send().await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_about_the_process_and_nothing_else() {
    let sealed = crate::world::World::founded().await;
    let answer = sealed.get("/health").send().await;
    assert_eq!(answer.expect(200), json!({ "status": "ok" }));
    let answer = sealed.post("/health").send().await;
    assert_eq!(answer.expect(405), json!({ "error": "Method not allowed" }));
    let answer = sealed.post("/api/activate").body("{}").send().await;
    assert_eq!(answer.status.as_u16(), 503, "an obstacle is no decision");
    assert!(answer.header("retry-after").is_some());
}
